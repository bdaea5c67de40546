"""mini-ImageNet: synthetic copies in every form, every kind of error, and real images if they are available."""

from __future__ import annotations

import csv
import errno
import io
import os
import pickle
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from firstorder import settings
from firstorder.__main__ import main
from firstorder.data import packs
from firstorder.data.census import CENSUS_COLUMNS, CensusRow
from firstorder.data.mini_imagenet import SPLITS, make_pack
from firstorder.data.mini_imagenet_caches import NAMES as CACHES
from firstorder.data.mini_imagenet_lists import read_names
from firstorder.data.packs import Pack
from firstorder.errors import UserError
from firstorder.method.images import ImagePool
from firstorder.method.tasks import TaskShape, draw_task
from tests.conftest import TINY_PARAMS, write_params

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

CLASSES = {"n01532829": "train", "n01558993": "train", "n01855672": "val", "n01930112": "test"}
STRANGER = "n01440764"  # of ILSVRC-2012, not of mini-ImageNet
IMAGES = 3


def draw(class_id: str, number: int, side: int = 84) -> Pixels:
    """Make random pixels [side, side, 3] that depend only on the class and the number."""
    return np.random.default_rng([int(class_id[1:]), number]).integers(0, 256, (side, side, 3), dtype=np.uint8)


def as_file(pixels: Pixels, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def ravis_name(class_id: str, number: int) -> str:
    """Name an image as Ravi and Larochelle do; numbers count from 1."""
    return f"{class_id}{number:08}.png"


def made_up() -> dict[str, bytes]:
    """Make a complete, unsorted copy: path -> content."""
    return {
        f"{split}/{class_id}/{ravis_name(class_id, number)}": as_file(draw(class_id, number))
        for class_id, split in reversed(CLASSES.items())
        for number in (2, 3, 1)
    }


def as_folder(files: dict[str, bytes], at: Path) -> Path:
    for name, content in files.items():
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_bytes(content)
    return at


def as_zip(files: dict[str, bytes], at: Path) -> Path:
    with zipfile.ZipFile(at, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return at


def as_tar(files: dict[str, bytes], at: Path) -> Path:
    compression = at.suffix.removeprefix(".") if at.suffix != ".tar" else ""
    with tarfile.open(at, f"w:{compression}") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return at


def as_caches(at: Path, change: Callable[[str, dict[str, Any]], object] = lambda split, cache: None) -> Path:
    at.mkdir()
    for path, split in zip(CACHES, ("train", "val", "test"), strict=True):
        ids = [class_id for class_id, its in CLASSES.items() if its == split]
        cache = {
            "image_data": np.stack([draw(class_id, number) for number in (1, 2, 3) for class_id in ids]),
            "class_dict": {class_id: list(range(place, 3 * len(ids), len(ids))) for place, class_id in enumerate(ids)},
        }
        change(split, cache)
        (at / path).write_bytes(pickle.dumps(cache, 2))
    return at


def pack_of(source: Path, **options: Any) -> tuple[Pack, list[CensusRow]]:
    return make_pack(source, splits=CLASSES, **options)


def message_of(source: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        pack_of(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def rows(census: list[CensusRow], what: str) -> list[tuple[Any, ...]]:
    return [tuple(row)[1:] for row in census if row.what == what]


EXPECTED = np.stack(
    [[draw(class_id, number).transpose(2, 0, 1) for number in (1, 2, 3)] for class_id in sorted(CLASSES, reverse=True)]
)[[0, 3, 2, 1]]


# --- Accepted ---


def test_the_split_is_64_16_and_20_classes() -> None:
    assert Counter(SPLITS.values()) == {"train": 64, "val": 16, "test": 20}
    assert len(SPLITS) == 100
    assert {SPLITS[class_id] for class_id in ("n01532829", "n13133613")} == {"train"}
    assert (SPLITS["n01855672"], SPLITS["n01930112"]) == ("val", "test")


@pytest.mark.parametrize(
    "write",
    [
        lambda at: as_folder(made_up(), at / "copy"),
        lambda at: as_folder({f"a/b/{name}": content for name, content in made_up().items()}, at / "copy"),
        lambda at: as_folder({f"images/{name.split('/')[-1]}": content for name, content in made_up().items()}, at),
        lambda at: as_zip(made_up(), at / "copy.zip"),
        lambda at: as_tar(made_up(), at / "copy.tar"),
        lambda at: as_tar(made_up(), at / "copy.gz"),
        lambda at: as_tar(made_up(), at / "copy.xz"),
        lambda at: as_caches(at / "caches"),
        lambda at: as_caches(at / "caches") / CACHES[1],
    ],
    ids=["folder", "deep folder", "flat folder", "zip", "tar", "tar.gz", "tar.xz", "pickles", "one of the pickles"],
)
def test_every_form_gives_the_same_pack(write: Callable[[Path], Path], tmp_path: Path) -> None:
    pack, census = pack_of(write(tmp_path))
    assert pack.class_names == ("test/n01930112", "train/n01532829", "train/n01558993", "val/n01855672")
    assert (pack.scale, pack.counts, pack.images.dtype) == (255, None, np.uint8)
    # Sorted by split and then id, which reverses this order of ids except for the two of `train`.
    np.testing.assert_array_equal(pack.images, EXPECTED)
    assert rows(census, "size") == [("", "", 12, "84x84")]
    assert rows(census, "duplicate") == []


def test_parts_of_a_class_in_several_folders_are_merged(tmp_path: Path) -> None:
    """Some copies split every class into folders train/ and val/ of their own; only the id matters."""
    moved = {
        name.replace(name.split("/")[0], "val" if name.endswith("2.png") else "train"): content
        for name, content in made_up().items()
    }
    assert pack_of(as_folder(moved, tmp_path))[0].digest() == pack_of(as_zip(made_up(), tmp_path / "a.zip"))[0].digest()


def test_hidden_files_and_tables_beside_the_images_are_skipped(tmp_path: Path) -> None:
    extra = {"README.md": b"x", "train.csv": b"filename,label", "train/.DS_Store": b"x", "__MACOSX/train/._a.jpg": b"x"}
    hidden = {"train/n01532829/.hidden.jpg": b"x", ".git/a.jpg": b"x"}
    pack, _ = pack_of(as_zip({**made_up(), **extra, **hidden}, tmp_path / "copy.zip"))
    np.testing.assert_array_equal(pack.images, EXPECTED)


@pytest.mark.parametrize("resize", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_whole_images_of_other_sizes_are_resized_by_the_chosen_method(resize: Any, tmp_path: Path) -> None:
    files = made_up()
    large = np.random.default_rng(3).integers(0, 256, (200, 131, 3), dtype=np.uint8)
    files["val/n01855672/n0185567200000002.png"] = as_file(large)
    pack, census = pack_of(as_folder(files, tmp_path), resize=resize)
    expected = Image.fromarray(large).resize((84, 84), Image.Resampling[resize.upper()])
    np.testing.assert_array_equal(pack.images[3, 1], np.asarray(expected).transpose(2, 0, 1))
    assert rows(census, "size") == [("", "", 11, "84x84"), ("", "", 1, "131x200")]
    assert f"resize {resize} by Pillow" in rows(census, "set")[0][-1]


def test_nearest_takes_the_pixel_under_the_middle_of_each_new_one(tmp_path: Path) -> None:
    """Worked by hand: of 168 rows, new row i covers rows 2 i and 2 i + 1, and its centre belongs to the second."""
    ramp = np.arange(168, dtype=np.uint8)
    files = made_up()
    files["test/n01930112/n0193011200000001.png"] = as_file(np.broadcast_to(ramp[:, None, None], (168, 84, 3)).copy())
    pack, _ = pack_of(as_folder(files, tmp_path))
    np.testing.assert_array_equal(pack.images[0, 0, 0, :, 0], ramp[1::2])


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_images_of_other_colour_modes_become_rgb(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(draw("n01532829", 1)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG" if mode == "CMYK" else "PNG", quality=100, subsampling=0)
    image = Image.open(buffer)
    files = {**made_up(), "train/n01532829/n0153282900000001.png": buffer.getvalue()}
    pack, _ = pack_of(as_folder(files, tmp_path))
    np.testing.assert_array_equal(pack.images[1, 0], np.asarray(image.convert("RGB")).transpose(2, 0, 1))


def test_small_and_large_classes_are_counted_and_kept(tmp_path: Path) -> None:
    files = made_up()
    del files["train/n01558993/n0155899300000002.png"]
    pack, census = pack_of(as_folder(files, tmp_path))
    assert pack.counts == (3, 3, 2, 3)
    np.testing.assert_array_equal(pack.images[2, :2], EXPECTED[2, [0, 2]])
    assert not pack.images[2, 2].any()
    assert ("train", "n01558993", 2, "598 fewer than 600") in rows(census, "class")
    assert rows(census, "split") == [
        ("test", "", 3, "1 classes of 3 to 3 images"),
        ("train", "", 5, "2 classes of 2 to 3 images"),
        ("val", "", 3, "1 classes of 3 to 3 images"),
    ]
    assert rows(census, "set")[0][2] == 11
    assert pack.digest() in rows(census, "set")[0][3]


def test_images_of_equal_pixels_are_reported_with_the_splits_or_classes_they_cross(tmp_path: Path) -> None:
    files = made_up()
    files["train/n01532829/n0153282900000004.png"] = files["train/n01532829/n0153282900000001.png"]
    files["train/n01558993/n0155899300000009.png"] = files["train/n01532829/n0153282900000002.png"]
    # Other bytes, the same pixels.
    files["test/n01930112/n0193011200000001.png"] = as_file(draw("n01855672", 3), compress_level=1)
    duplicates = rows(pack_of(as_folder(files, tmp_path))[1], "duplicate")
    assert duplicates == [
        ("test|val", "n01930112|n01855672", 2, "n0193011200000001.png = n0185567200000003.png; crosses splits"),
        ("train", "n01532829", 2, "n0153282900000001.png = n0153282900000004.png"),
        ("train", "n01532829|n01558993", 2, "n0153282900000002.png = n0155899300000009.png; crosses classes"),
    ]


# --- Draws from classes of different sizes ---


def test_draws_from_small_classes_take_only_existing_images() -> None:
    """Classes of 7, 4 and 6 images: every task has 4 images per class, and every image is drawn at some time."""
    shape = TaskShape(
        pool_classes=3,
        class_images=(7, 4, 6),
        way=3,
        support=3,
        query=1,
        inner_steps=1,
        inner_batch_size=3,
        sampling="cycle",
    )
    seen = Counter()
    for task in range(600):
        support, query, _ = draw_task(shape, 0, "training", 0, task)
        positions = np.concatenate([support, query])
        assert len(set(positions.tolist())) == 12
        seen.update(positions.tolist())
    assert set(seen) == {*range(7), *range(7, 11), *range(14, 20)}
    assert {seen[place] for place in range(7, 11)} == {600}
    assert all(abs(seen[place] - 600 * 4 / 7) < 5 * (600 * 4 / 7 * 3 / 7) ** 0.5 for place in range(7))


def test_equal_counts_give_the_same_draws_as_one_number() -> None:
    shape = TaskShape(
        pool_classes=9,
        class_images=5,
        way=4,
        support=2,
        query=1,
        inner_steps=2,
        inner_batch_size=4,
        sampling="cycle",
        turns=2,
    )
    for task in range(20):
        drawn = [draw_task(s, 1, "training", 0, task) for s in (shape, replace(shape, class_images=(5,) * 9))]
        for one, other in zip(*drawn, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_task_larger_than_the_smallest_class_is_refused() -> None:
    with pytest.raises(UserError, match="the pool has 2 classes of 4 images"):
        TaskShape(
            pool_classes=2,
            class_images=(7, 4),
            way=2,
            support=4,
            query=1,
            inner_steps=1,
            inner_batch_size=2,
            sampling="cycle",
        )


def test_a_pool_with_small_classes_knows_their_counts(tmp_path: Path) -> None:
    files = made_up()
    del files["train/n01558993/n0155899300000002.png"]
    pack, _ = pack_of(as_folder(files, tmp_path))
    pools = packs.make_pools(pack, settings.DatasetSettings(source="mini_imagenet"), 0)
    train = ImagePool.of(pools.meta_train, 255, torch.device("cpu"), counts=pools.counts["meta_train"])
    test = ImagePool.of(pools.meta_test, 255, torch.device("cpu"), counts=pools.counts.get("meta_test"))
    assert (train.classes, train.class_images, test.classes, test.class_images) == (2, (3, 2), 1, 3)
    second = train.take(np.array([3]))[0].numpy()
    np.testing.assert_allclose(second, EXPECTED[2, 0] / 255, rtol=1e-6)


# --- A list of names ---


def write_list(at: Path, names: list[str]) -> Path:
    at.write_text("filename,label\n" + "".join(f"{name},{name[:9]}\n" for name in names), encoding="utf-8")
    return at


def ilsvrc(numbers: tuple[int, ...] = (5, 18, 100, 1020)) -> dict[str, dict[str, bytes]]:
    """Make whole classes with ILSVRC-2012's names: class -> file -> content; the k-th by number shows draw(id, k)."""
    ranked = list(enumerate(numbers, start=1))
    return {
        class_id: {f"{class_id}_{number}.JPEG": as_file(draw(class_id, rank)) for rank, number in reversed(ranked)}
        for class_id in (*CLASSES, STRANGER)
    }


def class_tars(folder: Path) -> Path:
    folder.mkdir()
    for class_id, files in ilsvrc().items():
        as_tar(files, folder / f"{class_id}.tar")
    return folder


def train_tar(folder: Path) -> Path:
    tars = {path.name: path.read_bytes() for path in class_tars(folder / "tars").iterdir()}
    return as_tar(tars, folder / "ILSVRC2012_img_train.tar")


ILSVRC_FORMS: list[Callable[[Path], Path]] = [
    train_tar,
    lambda at: class_tars(at / "tars"),
    lambda at: as_folder({f"{c}/{name}": data for c, files in ilsvrc().items() for name, data in files.items()}, at),
]


@pytest.mark.parametrize("write", ILSVRC_FORMS, ids=["train tar", "class tars", "class folders"])
@pytest.mark.parametrize("named", ["as Ravi and Larochelle", "as ILSVRC"])
def test_listed_images_are_found_in_ilsvrc(write: Callable[[Path], Path], named: str, tmp_path: Path) -> None:
    """Ravi and Larochelle's 00000003 is the third by number, 100, although 1020 comes before it by name."""
    of_rank = {1: 5, 2: 18, 3: 100}
    names = [
        ravis_name(class_id, rank) if named.endswith("Larochelle") else f"{class_id}_{of_rank[rank]}.JPEG"
        for class_id in CLASSES
        for rank in (3, 1, 2)
    ]
    pack, _ = pack_of(write(tmp_path), names=write_list(tmp_path / "names.csv", names))
    # By ILSVRC's names, the images of a class are sorted as texts: 100, 18, 5.
    order = [0, 1, 2] if named.endswith("Larochelle") else [2, 1, 0]
    np.testing.assert_array_equal(pack.images, EXPECTED[:, order])


def test_lists_may_be_in_a_folder_and_need_no_heading(tmp_path: Path) -> None:
    """The form of the authors' metadata: one csv per class, with file name and byte range."""
    for class_id in CLASSES:
        path = tmp_path / "lists" / CLASSES[class_id] / f"{class_id}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{class_id}_5.JPEG,10-20\n{class_id}_18.JPEG,30-40\n", encoding="utf-8")
    assert read_names(tmp_path / "lists")["n01532829"] == ["n01532829_5.JPEG", "n01532829_18.JPEG"]
    pack, _ = pack_of(class_tars(tmp_path / "tars"), names=tmp_path / "lists")
    np.testing.assert_array_equal(pack.images, EXPECTED[:, [1, 0]])


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ([ravis_name("n01532829", 5)], "the listed image 'n0153282900000005.png' is not there (class n01532829 has 4"),
        (["n01532829_7.JPEG"], "the listed image 'n01532829_7.JPEG' is not there"),
        (["n01532829_5.JPEG", ravis_name("n01532829", 1)], "is n01532829_5.JPEG, as is 'n01532829_5.JPEG'"),
        ([f"{STRANGER}_5.JPEG"], f"the listed image '{STRANGER}_5.JPEG' is not there"),
        (["n01532829_5.JPEG", "n01532829_5.JPEG"], "'n01532829_5.JPEG' comes twice"),
        ([], "no file names"),
        (["n01532829_5.JPEG", "cat.jpg"], "found 'cat.jpg'"),
        (["n01532829_5.JPEG"], "3 of 4 classes are missing: test/n01930112, train/n01558993, val/n01855672"),
    ],
)
def test_a_list_that_does_not_fit_is_reported(names: list[str], why: str, tmp_path: Path) -> None:
    listed = write_list(tmp_path / "names.csv", names)
    assert why in message_of(class_tars(tmp_path / "tars"), names=listed)


def test_a_missing_list_is_reported(tmp_path: Path) -> None:
    assert "expected a csv of file names" in message_of(class_tars(tmp_path / "tars"), names=tmp_path / "names.csv")


def test_whole_classes_without_a_list_are_refused(tmp_path: Path) -> None:
    message = message_of(as_tar({"n01532829.tar": b"x"}, tmp_path / "train.tar"))
    assert "n01532829.tar: is a whole class; say with --names" in message


def test_a_list_for_the_pickles_is_refused(tmp_path: Path) -> None:
    names = write_list(tmp_path / "names.csv", [ravis_name("n01532829", 1)])
    assert "the cache pickles hold no file names to choose by" in message_of(as_caches(tmp_path / "c"), names=names)


# --- Refused ---

JPEG = as_file(draw("n01532829", 1, side=120), "JPEG")
PLACE = "train/n01532829/n0153282900000002.png"
FORMS: dict[str, Callable[[dict[str, bytes], Path], Path]] = {
    "folder": lambda files, at: as_folder(files, at / "copy"),
    "zip": lambda files, at: as_zip(files, at / "copy.zip"),
    "tar": lambda files, at: as_tar(files, at / "copy.tar"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("content", [JPEG[: len(JPEG) // 2], JPEG[:10], b"", b"<html>404</html>"])
def test_a_truncated_image_or_another_file_is_reported_and_not_skipped(
    form: str, content: bytes, tmp_path: Path
) -> None:
    source = FORMS[form]({**made_up(), PLACE: content}, tmp_path)
    message = message_of(source)
    assert message.startswith(f"{source}: {PLACE}: truncated or not an image (")
    assert message.endswith("; get this file again")


def test_every_truncation_of_a_jpeg_is_detected(tmp_path: Path) -> None:
    source = as_folder(made_up(), tmp_path)
    whole = as_file(draw("n01532829", 1, side=16), "JPEG")
    for length in (*range(0, len(whole), 37), *range(len(whole) - 4, len(whole))):
        (source / PLACE).write_bytes(whole[:length])
        assert "truncated or not an image" in message_of(source)


def test_a_jpeg_that_ends_in_zeros_is_detected(tmp_path: Path) -> None:
    """A download may stop after the file was given its full size; libjpeg silently paints the rest in one colour."""
    source = as_folder(made_up(), tmp_path)
    thumbnail = b"\xff\xe1" + (2 + len(JPEG)).to_bytes(2, "big") + JPEG
    for whole in (JPEG, JPEG[:2] + thumbnail + JPEG[2:]):
        keep = len(whole) - len(JPEG) // 4
        (source / PLACE).write_bytes(whole[:keep] + bytes(len(whole) - keep))
        assert "truncated or not an image" in message_of(source)
        (source / PLACE).write_bytes(whole + b"zeros behind it harm nothing" + bytes(9))
        pack_of(source)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {f"train/{STRANGER}/a.png": b"x"},
            f"class {STRANGER} is not among the 4 of mini-ImageNet; take it out or, if",
        ),
        ({f"more/{STRANGER}00000001.png": b"x"}, f"class {STRANGER} is not among"),
        ({"train/birds/a.png": b"x"}, "train/birds/a.png: an image of no class; expected a folder named by WordNet id"),
        ({"val/n01855672/n0153282900000001.png": b"x"}, "its name says class n01532829, its folder n01855672; move it"),
        ({"val/n01855672/a.bmp": b"x"}, "val/n01855672/a.bmp: is named .bmp, expected PNG or JPEG; convert it"),
        ({"val/n01855672/a.png.part": JPEG[:99]}, "a.png.part: is JPEG by its content, but its name does not end in"),
    ],
)
def test_files_that_fit_no_class_are_reported(form: str, change: dict[str, bytes], why: str, tmp_path: Path) -> None:
    assert why in message_of(FORMS[form]({**made_up(), **change}, tmp_path))


@pytest.mark.parametrize("form", FORMS)
def test_missing_classes_are_listed(form: str, tmp_path: Path) -> None:
    files = {name: content for name, content in made_up().items() if "/n015" not in name}
    message = message_of(FORMS[form](files, tmp_path))
    assert "2 of 4 classes are missing: train/n01532829, train/n01558993; mini-ImageNet needs them all" in message


def test_a_class_folder_with_no_images_is_reported(tmp_path: Path) -> None:
    """Even if the class has images in another folder, because a copy went wrong."""
    source = as_folder(made_up(), tmp_path / "copy")
    (source / "more/n01532829").mkdir(parents=True)
    assert "more/n01532829: a class folder with no images; fill it or take it out" in message_of(source)
    zipped = as_zip({**made_up(), "more/n01532829/": b""}, tmp_path / "copy.zip")
    assert "more/n01532829: a class folder with no images" in message_of(zipped)
    with tarfile.open(as_tar(made_up(), tmp_path / "copy.tar"), "a") as archive:
        info = tarfile.TarInfo("more/n01532829")
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
    assert "more/n01532829: a class folder with no images" in message_of(tmp_path / "copy.tar")


def test_a_tar_of_a_class_with_no_images_is_reported(tmp_path: Path) -> None:
    source = class_tars(tmp_path / "tars")
    as_tar({}, source / "n01532829.tar")
    names = write_list(tmp_path / "names.csv", [ravis_name("n01532829", 1)])
    assert "n01532829.tar: holds no images" in message_of(source, names=names)


def test_a_source_without_images_is_reported(tmp_path: Path) -> None:
    assert "no images found; expected images in folders named by WordNet id" in message_of(tmp_path)
    assert "nowhere: no such file or folder" in message_of(tmp_path / "nowhere")
    (tmp_path / "text.txt").write_text("mini-ImageNet")
    assert "expected a folder, a whole zip or a whole tar, found:" in message_of(tmp_path / "text.txt")


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_a_name_that_occurs_twice_in_an_archive_is_reported(form: str, tmp_path: Path) -> None:
    source = FORMS[form](made_up(), tmp_path)
    if form == "zip":
        with zipfile.ZipFile(source, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(PLACE, JPEG)
    else:
        with tarfile.open(source, "a") as tar:
            info = tarfile.TarInfo(PLACE)
            info.size = len(JPEG)
            tar.addfile(info, io.BytesIO(JPEG))
    assert f"{PLACE}: comes twice" in message_of(source)


def test_a_link_in_a_tar_is_not_followed(tmp_path: Path) -> None:
    with tarfile.open(as_tar(made_up(), tmp_path / "copy.tar"), "a") as archive:
        info = tarfile.TarInfo("train/n01532829/a.png")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    assert "train/n01532829/a.png: is a link or device, not a file" in message_of(tmp_path / "copy.tar")


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_a_truncated_archive_is_reported_or_lacks_whole_classes(form: str, tmp_path: Path) -> None:
    source = FORMS[form](made_up(), tmp_path)
    whole = source.read_bytes()
    for part in (0.1, 0.5, 0.7):
        source.write_bytes(whole[: int(part * len(whole))])
        assert message_of(source).startswith(str(source))


def test_a_flipped_byte_in_a_zip_is_reported(tmp_path: Path) -> None:
    source = as_zip(made_up(), tmp_path / "copy.zip")
    whole = bytearray(source.read_bytes())
    whole[len(whole) // 2] ^= 0x10
    source.write_bytes(whole)
    assert "cannot be read (Bad CRC-32 for file" in message_of(source)


# --- The pickles ---


class Runs:
    """Unpickling this object creates a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.mark),)


def test_a_pickle_with_anything_executable_is_refused_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    message = message_of(as_caches(tmp_path / "c", lambda split, cache: cache.update(more=Runs(mark))))
    assert f"{CACHES[0]}: refused at byte " in message
    assert f"it names '{os.mkdir.__module__}.mkdir'" in message
    assert not mark.exists()


def test_pickles_of_other_sizes_are_resized(tmp_path: Path) -> None:
    """Caches of another origin may have images of 96x100; the census says so."""

    def enlarge(split: str, cache: dict[str, Any]) -> None:
        cache["image_data"] = np.pad(cache["image_data"], ((0, 0), (0, 16), (0, 12), (0, 0)))

    _, census = pack_of(as_caches(tmp_path / "c", enlarge))
    assert rows(census, "size") == [("", "", 12, "96x100")]


@pytest.mark.parametrize("which", ["all keys", "ids"])
def test_bytes_keys_are_read_as_texts(which: str, tmp_path: Path) -> None:
    """Caches of Python 2 have them after being loaded with encoding="bytes" and saved again."""

    def encode(split: str, cache: dict[str, Any]) -> None:
        for its in [cache["class_dict"], cache] if which == "all keys" else [cache["class_dict"]]:
            for key in list(its):
                its[key.encode()] = its.pop(key)

    pack, _ = pack_of(as_caches(tmp_path / "bytes", encode))
    assert pack.digest() == pack_of(as_caches(tmp_path / "texts"))[0].digest()


@pytest.mark.parametrize("kind", ["u1", "i8", ">i4"])
def test_indices_may_be_arrays(kind: str, tmp_path: Path) -> None:
    def to_arrays(split: str, cache: dict[str, Any]) -> None:
        cache["class_dict"] = {key: np.array(indices, kind) for key, indices in cache["class_dict"].items()}

    pack, _ = pack_of(as_caches(tmp_path / "arrays", to_arrays))
    assert pack.digest() == pack_of(as_caches(tmp_path / "lists"))[0].digest()


CHANGES: dict[str, tuple[Callable[[str, dict[str, Any]], object], str]] = {
    "no images": (
        lambda split, cache: cache.pop("image_data"),
        "expected a dict of image_data, an array, and class_di",
    ),
    "float": (lambda split, cache: cache.update(image_data=cache["image_data"] / 255), "found float64 [6, 84, 84, 3]"),
    "flat": (lambda split, cache: cache.update(image_data=cache["image_data"][0]), "found uint8 [84, 84, 3]"),
    "index twice": (lambda split, cache: cache["class_dict"]["n01532829"].append(0), "must name each of the 6 images"),
    "index missing": (
        lambda split, cache: cache["class_dict"]["n01532829"].pop(),
        "must name each of the 6 images once",
    ),
    "texts": (lambda split, cache: cache["class_dict"].update(n01532829=["a.jpg"]), "expected a list of whole numbers"),
    "stranger": (lambda split, cache: cache["class_dict"].update({STRANGER: []}), f"class '{STRANGER}' is not among"),
    "stranger in bytes": (
        lambda split, cache: cache["class_dict"].update({STRANGER.encode(): []}),
        f"class '{STRANGER}' is not among",
    ),
    "array of texts": (
        lambda split, cache: cache["class_dict"].update(n01532829=np.array(["a", "b"])),
        "expected a list of whole numbers",
    ),
    "array longer than the images": (
        lambda split, cache: cache["class_dict"].update(n01532829=np.zeros(7, int)),
        "expected a list of whole numbers",
    ),
    "list of a class longer than the images": (
        lambda split, cache: cache["class_dict"].update(n01532829=[0] * 7),
        "must name each of the 6 images once",
    ),
    "more images than there are": (
        lambda split, cache: cache.update(image_data=np.zeros((1300 * len(CLASSES) + 1, 1, 1, 3), np.uint8)),
        "expected at most 1,300 a class",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_pickles_with_other_content_are_reported(change: str, tmp_path: Path) -> None:
    action, why = CHANGES[change]
    source = as_caches(tmp_path / "c", lambda split, cache: action(split, cache) if split == "train" else None)
    message = message_of(source)
    assert message.startswith(f"{source / CACHES[0]}: ")
    assert why in message


def test_a_missing_pickle_of_the_three_is_reported(tmp_path: Path) -> None:
    source = as_caches(tmp_path / "c")
    (source / CACHES[1]).unlink()
    assert f"has {CACHES[0]} but not {CACHES[1]}; the three belong together" in message_of(source)


# --- The command line ---


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    datasets = {**TINY_PARAMS["datasets"], "mini-imagenet": {"source": "mini_imagenet", "resize": "bilinear"}}
    write_params(root, {**TINY_PARAMS, "datasets": datasets})
    monkeypatch.chdir(root)
    for name in ("MINI_IMAGENET", "MINI_IMAGENET_NAMES"):
        monkeypatch.delenv(name, raising=False)
    return root


def one_image_a_class() -> dict[str, bytes]:
    return {f"{class_id}/a.png": as_file(draw(class_id, 1)) for class_id in SPLITS}


@pytest.mark.parametrize("how", ["option", "variable"])
def test_the_command_writes_pack_and_census(
    how: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(as_zip(one_image_a_class(), tmp_path / "copy.zip"))
    if how == "variable":
        monkeypatch.setenv("MINI_IMAGENET", source)
    assert main(["data", "mini-imagenet", *(["--source", source] if how == "option" else [])]) == 0
    pack, digest = packs.read_pack(project / "data/mini-imagenet.npz")
    assert pack.images.shape == (100, 1, 3, 84, 84)
    assert f"100 images of 100 classes, digest {digest[:16]}" in capsys.readouterr().out
    with (project / "data/mini-imagenet.census.csv").open(encoding="utf-8", newline="") as file:
        heading, *lines = csv.reader(file)
    assert tuple(heading) == CENSUS_COLUMNS
    assert lines[0][0] == "set"
    assert lines[0][4].startswith(f"digest {digest}; resize bilinear")
    assert Counter(line[0] for line in lines) == {"set": 1, "split": 3, "class": 100, "size": 1}


def test_pack_and_census_stay_those_of_each_other_on_a_full_disk(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["data", "mini-imagenet", "--source", str(as_zip(one_image_a_class(), tmp_path / "copy.zip"))]) == 0
    census = (project / "data/mini-imagenet.census.csv").read_bytes()

    def full(path: Path, pack: packs.Pack) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(packs, "write_pack", full)
    other = {f"{class_id}/a.png": as_file(draw(class_id, 2)) for class_id in SPLITS}
    assert main(["data", "mini-imagenet", "--source", str(as_zip(other, tmp_path / "other.zip"))]) == 2
    assert (project / "data/mini-imagenet.census.csv").read_bytes() == census
    assert not [*(project / "data").glob(".*")]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["data", "mini-imagenet"], "mini-imagenet cannot be downloaded: give your copy with --source PATH or in MINI"),
        (["data", "mini-imagenet", "--source", "nowhere"], "nowhere: no such file or folder; expected mini-ImageNet"),
        (["data", "omniglot", "--source", "x"], "omniglot is not packed from a copy of yours; leave out --source"),
        (["data", "mini-imagnet"], "unknown data set 'mini-imagnet' (did you mean 'mini-imagenet'?)"),
        (
            ["pack", "mini-imagenet"],
            "mini-imagenet is packed from your own copy: firstorder data mini-imagenet --source PATH",
        ),
    ],
)
def test_errors_on_the_command_line_are_one_line(
    project: Path, command: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"firstorder: {why}")
    assert error.count("\n") == 1
    assert not (project / "data").exists()


# --- Real images ---


def test_the_real_sample_is_read_completely(tmp_path: Path) -> None:
    """It has 20 images of each of the 100 classes, in folders named by split."""
    path = Path(os.environ.get("DATA_MIRROR", ""), "mini-imagenet-sample/mini_imagenet_sample.zip")
    if not path.is_file():
        pytest.skip("set DATA_MIRROR to a folder that holds mini-imagenet-sample/mini_imagenet_sample.zip")
    pack, census = make_pack(path)
    assert pack.images.shape == (100, 20, 3, 84, 84)
    assert pack.counts is None
    assert rows(census, "size") == [("", "", 2000, "84x84")]
    assert rows(census, "duplicate") == []
    with zipfile.ZipFile(path) as archive:
        folders = {"/".join(name.split("/")[:2]) for name in archive.namelist() if name.endswith(".jpg")}
    assert set(pack.class_names) == folders
    packs.write_pack(tmp_path / "mini-imagenet.npz", pack)
    assert packs.read_pack(tmp_path / "mini-imagenet.npz")[1] == pack.digest()
