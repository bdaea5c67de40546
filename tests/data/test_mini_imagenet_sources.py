"""Sources with more than the set: files of systems and tools, links, devices, and whole sets twice."""

from __future__ import annotations

import os
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from firstorder.data.census import warnings_of
from firstorder.data.mini_imagenet_caches import NAMES as CACHES
from tests.data.test_mini_imagenet import (
    CLASSES,
    EXPECTED,
    FORMS,
    PLACE,
    as_caches,
    as_file,
    as_folder,
    as_zip,
    draw,
    made_up,
    message_of,
    pack_of,
    ravis_name,
    rows,
)

FOLDER = "train/n01532829"
THUMBNAIL = as_file(draw("n01532829", 7, side=20), "JPEG")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "extra",
    [
        f"{FOLDER}/@eaDir/n0153282900000001.png/SYNOPHOTO_THUMB_M.jpg",
        f"{FOLDER}/._n0153282900000001.png",
        f"__MACOSX/{FOLDER}/._n0153282900000001.png",
        f"{FOLDER}/.ipynb_checkpoints/n0153282900000001-checkpoint.png",
        f"#recycle/{FOLDER}/n0153282900000009.png",
        f"thumbnails/{FOLDER}/n0153282900000001.png",
        f"Network Trash Folder/{FOLDER}/n0153282900000001.png",
        f"Temporary Items/{FOLDER}/n0153282900000001.png",
        f"_gsdata_/{FOLDER}/n0153282900000001.png",
        f"{FOLDER}/~$n0153282900000001.png",
        f"{FOLDER}/Thumbs.db",
        f"{FOLDER}/desktop.ini",
        "Annotations/n01440764/n01440764_1.xml",
    ],
)
def test_files_of_systems_and_tools_are_passed_over(form: str, extra: str, tmp_path: Path) -> None:
    pack, census = pack_of(FORMS[form]({**made_up(), extra: THUMBNAIL}, tmp_path))
    np.testing.assert_array_equal(pack.images, EXPECTED)
    assert warnings_of(census) == []


@pytest.mark.parametrize("form", FORMS)
def test_other_files_of_a_class_are_passed_over_and_named(form: str, tmp_path: Path) -> None:
    source = FORMS[form]({**made_up(), f"{FOLDER}/notes.txt": b"x", f"{FOLDER}/list": b"y"}, tmp_path)
    pack, census = pack_of(source)
    np.testing.assert_array_equal(pack.images, EXPECTED)
    (warning,) = warnings_of(census)
    assert warning.startswith("2 files of classes passed over, since they are no PNG or JPEG images, the first: ")
    assert f"{source}: {FOLDER}/" in warning


def test_a_set_that_lies_twice_in_a_source_is_told(tmp_path: Path) -> None:
    files = {f"{top}/{name}": content for top in ("images", "more") for name, content in made_up().items()}
    pack, census = pack_of(as_folder(files, tmp_path))
    assert pack.images.shape[1] == 6
    (warning,) = warnings_of(census)
    assert warning.startswith("12 images have the same pixels as another one")
    assert warning.endswith("if the set lies in two folders, name one of them with --source")


def test_a_set_that_lies_twice_with_other_pixels_is_told(tmp_path: Path) -> None:
    """As one copy and the same resized: no two images have the same pixels."""
    small = {
        f"small/{class_id}/{ravis_name(class_id, number)}": as_file(draw(class_id, number, 30))
        for class_id in CLASSES
        for number in (1, 2, 3)
    }
    pack, census = pack_of(as_folder({**made_up(), **small}, tmp_path))
    assert pack.images.shape[1] == 6
    (warning,) = warnings_of(census)
    assert warning.startswith("12 images have the name of another image of their class but other pixels")
    assert "if the set lies in two folders, such as resized, name one of them with --source" in warning
    assert rows(census, "name")[0] == ("test", "n01930112", 2, "n0193011200000001.png = n0193011200000001.png")


@pytest.mark.parametrize(
    "name",
    [
        *("n0153282900000001.PNG", "n0153282900000001.jpg", "N0153282900000001.png", "n0153282900000001 (1).png"),
        *(
            "n0153282900000001 (conflicted copy 2020-01-01).png",
            "n0153282900000001 - Copy.png",
            "n0153282900000001 2.png",
        ),
        *("n0153282900000001 copy.png", "n0153282900000001.sync-conflict-20200101.png", "n0153282900000001~.png"),
    ],
)
def test_a_second_image_of_one_name_is_told(name: str, tmp_path: Path) -> None:
    """Also in another folder of its class, where file names do not tell capitals apart."""
    pack, census = pack_of(as_folder({**made_up(), f"more/n01532829/{name}": THUMBNAIL}, tmp_path))
    assert pack.counts is not None
    (warning,) = warnings_of(census)
    assert warning.startswith("1 images have the name of another image of their class")
    assert name in warning


def test_images_that_are_only_numbered_like_copies_are_no_news(tmp_path: Path) -> None:
    files = {f"n01532829/image ({number}).png": as_file(draw("n01532829", number)) for number in (1, 2, 3)}
    others = {name: content for name, content in made_up().items() if "n01532829" not in name}
    assert warnings_of(pack_of(as_folder({**files, **others}, tmp_path))[1]) == []


@pytest.mark.parametrize("kind", ["I;16", "I", "F", "GIF", "BMP", "EPS"])
def test_what_would_be_decoded_with_a_loss_is_refused(kind: str, tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 60_000, 84), (84, 1))
    deep = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
    path = as_folder(made_up(), tmp_path) / PLACE
    if kind in deep:
        Image.fromarray(ramp.astype(deep[kind])).save(path, "PNG" if kind == "I;16" else "TIFF")
    else:
        Image.fromarray((ramp / 300).astype(np.uint8)).save(path, kind)
    message = message_of(tmp_path)
    assert message.startswith(f"{tmp_path}: {PLACE}: found ")
    assert "convert the image" in message


def test_an_archive_of_a_hidden_folder_says_why_nothing_is_seen(tmp_path: Path) -> None:
    source = as_zip({f".cache/{name}": content for name, content in made_up().items()}, tmp_path / "a.zip")
    assert "no images found: 12 lie in hidden folders or folders of a system, such as .cache/" in message_of(source)
    below = as_folder(made_up(), tmp_path / ".hidden/set")
    np.testing.assert_array_equal(pack_of(below)[0].images, EXPECTED)


def test_images_of_no_class_say_which_folder_to_name(tmp_path: Path) -> None:
    files = {f"Data/CLS-LOC/train/{name}": content for name, content in made_up().items()}
    message = message_of(as_folder({**files, "Data/CLS-LOC/val/ILSVRC2012_val_1.JPEG": THUMBNAIL}, tmp_path))
    assert "Data/CLS-LOC/train) with --source, or the wanted images with --names" in message


def test_only_regular_files_are_images(tmp_path: Path) -> None:
    source = as_folder(made_up(), tmp_path / "copy")
    for name, make in (("a.png", os.mkfifo), ("b.png", lambda at: Path(at).symlink_to("/dev/zero"))):
        make(source / FOLDER / name)
        assert f"{FOLDER}/{name}: is a link or device, not a file" in message_of(source)
        (source / FOLDER / name).unlink()
    os.mkfifo(tmp_path / "fifo")
    assert "is a FIFO, not a file" in message_of(tmp_path / "fifo")


def test_a_folder_is_read_once_however_many_links_lead_to_it(tmp_path: Path) -> None:
    source = as_folder(made_up(), tmp_path / "copy")
    (source / "again").symlink_to(source)
    (source / "zz").symlink_to(source / "train")
    np.testing.assert_array_equal(pack_of(source)[0].images, EXPECTED)


def test_a_file_behind_a_link_is_an_image(tmp_path: Path) -> None:
    source = as_folder(made_up(), tmp_path / "copy")
    (source / PLACE).rename(tmp_path / "elsewhere")
    (source / PLACE).symlink_to(tmp_path / "elsewhere")
    np.testing.assert_array_equal(pack_of(source)[0].images, EXPECTED)


@pytest.mark.parametrize("kind", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_compressions_that_unpack_without_a_bound_are_refused(kind: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", kind) as archive:
        for name, content in made_up().items():
            archive.writestr(name, content)
    assert "is neither stored nor deflated" in message_of(tmp_path / "a.zip")


@pytest.mark.parametrize("place", [130, 300, 2000, 2600])
@pytest.mark.parametrize("suffix", ["tar", "gz", "bz2", "xz"])
def test_damaged_tars_are_one_line(suffix: str, place: int, tmp_path: Path) -> None:
    source = tmp_path / f"a.{suffix}"
    with tarfile.open(source, f"w:{suffix if suffix != 'tar' else ''}") as archive:
        archive.add(as_folder(made_up(), tmp_path / "copy"), "copy")
    content = bytearray(source.read_bytes())
    content[place : place + 90] = bytes(range(160, 250))
    source.write_bytes(content)
    assert message_of(source).startswith(str(source))


# --- The pickles ---


def renamed(folder: Path) -> Path:
    (folder / CACHES[1]).rename(folder / "mini-imagenet-cache-validation.pkl")
    return folder


def test_the_second_pickle_may_be_called_validation(tmp_path: Path) -> None:
    source = renamed(as_caches(tmp_path / "c"))
    for given in (source, source / "mini-imagenet-cache-validation.pkl"):
        np.testing.assert_array_equal(pack_of(given)[0].images, EXPECTED)
    (source / CACHES[0]).unlink()
    assert f"but not {CACHES[0]}; the three" in message_of(source)


def test_two_pickles_of_one_split_are_refused(tmp_path: Path) -> None:
    source = renamed(as_caches(tmp_path / "c"))
    (source / CACHES[1]).write_bytes(pickle.dumps({}))
    assert f"has both {CACHES[1]} and mini-imagenet-cache-validation.pkl" in message_of(source)


@pytest.mark.parametrize("protocol", [2, 3, 5])
def test_bytes_keys_are_read_in_every_protocol(protocol: int, tmp_path: Path) -> None:
    source = as_caches(tmp_path / "c")
    for path in source.iterdir():
        cache: dict[str, Any] = pickle.loads(path.read_bytes())
        ids = {key.encode(): value for key, value in cache["class_dict"].items()}
        path.write_bytes(pickle.dumps({b"image_data": cache["image_data"], b"class_dict": ids}, protocol))
    np.testing.assert_array_equal(pack_of(source)[0].images, EXPECTED)
    assert rows(pack_of(source)[1], "duplicate") == []
