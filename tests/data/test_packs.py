"""Packs: the same bytes for the same content, damage is detected, classes are split and rotated as by the authors."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firstorder.data import glyphs, omniglot
from firstorder.data.packs import Pack, make_pools, read_pack, split_classes, write_pack
from firstorder.errors import UserError
from firstorder.settings import DatasetSettings, checks


def small_pack(classes: int = 5) -> Pack:
    images = np.random.default_rng(7).integers(0, 256, (classes, 3, 1, 4, 4), dtype=np.uint8)
    return Pack(images, tuple(f"Alphabet/character{number:02}" for number in range(1, classes + 1)), 255)


def dataset(meta_train_classes: int = 3, rotations: tuple[int, ...] = (0, 90, 180, 270)) -> DatasetSettings:
    return DatasetSettings(source="omniglot", meta_train_classes=meta_train_classes, rotations=rotations)


def message_of(action: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    return message


def claim(path: Path, pack: Pack, digest: str) -> None:
    """Write a pack with a wrong digest, which write_pack never does."""
    np.savez_compressed(
        path,
        images=pack.images,
        class_names=np.array(pack.class_names),
        scale=np.array(pack.scale),
        digest=np.array(digest),
    )


def test_pack_is_read_back_as_written(tmp_path: Path) -> None:
    pack = small_pack()
    write_pack(tmp_path / "made.npz", pack)
    read, digest = read_pack(tmp_path / "made.npz")
    np.testing.assert_array_equal(read.images, pack.images)
    assert read.images.dtype == np.uint8
    assert read.class_names == pack.class_names
    assert read.scale == pack.scale
    assert digest == pack.digest()
    assert [path.name for path in tmp_path.iterdir()] == ["made.npz"]


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    write_pack(tmp_path / "one.npz", small_pack())
    write_pack(tmp_path / "two.npz", small_pack())
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_digest_depends_on_pixels_names_shape_and_scale_but_not_on_memory_layout() -> None:
    pack = small_pack()
    other_pixels = pack.images.copy()
    other_pixels[-1, -1, -1, -1, -1] ^= 1
    others = [
        Pack(other_pixels, pack.class_names, 255),
        Pack(pack.images, (*pack.class_names[:-1], "Alphabet/other"), 255),
        Pack(pack.images.reshape(5, 3, 1, 2, 8), pack.class_names, 255),
        Pack(pack.images, pack.class_names, 1),
    ]
    digests = {other.digest() for other in others}
    assert len(digests) == len(others)
    assert pack.digest() not in digests
    assert Pack(np.asfortranarray(pack.images), pack.class_names, 255).digest() == pack.digest()


def counted_pack(counts: tuple[int, ...] | None = (3, 2, 3, 3, 1)) -> Pack:
    """Return the small pack with a split in its names, and with classes of fewer images."""
    return Pack(small_pack().images, ("test/a", "train/b", "train/c", "train/d", "val/e"), 255, counts)


def test_counts_are_stored_in_the_pack_and_included_in_the_digest(tmp_path: Path) -> None:
    write_pack(tmp_path / "made.npz", counted_pack())
    read, digest = read_pack(tmp_path / "made.npz")
    assert read.counts == (3, 2, 3, 3, 1)
    assert len({digest, counted_pack(None).digest(), counted_pack((3, 3, 2, 3, 1)).digest()}) == 3


@pytest.mark.parametrize("counts", [(3, 3, 3, 3, 3), (3, 2), (2, 2, 2, 2, 1), (4, 3, 3, 3, 3), (3, 3, 3, 3, 0)])
def test_counts_that_do_not_fit_are_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="counts must be"):
        counted_pack(counts)


def test_classes_with_a_split_in_their_names_are_split_by_it_whatever_the_seed() -> None:
    mini_imagenet = DatasetSettings(source="mini_imagenet")
    pack = counted_pack()
    for seed in (0, 1):
        pools = make_pools(pack, mini_imagenet, seed)
        np.testing.assert_array_equal(pools.meta_train, pack.images[1:4])
        np.testing.assert_array_equal(pools.meta_test, pack.images[:1])
        assert pools.meta_validation is not None
        # Its one class has one image: the pool is as long as the largest class in it.
        np.testing.assert_array_equal(pools.meta_validation, pack.images[4:, :1])
        assert pools.counts == {"meta_train": (2, 3, 3)}


def test_a_pack_without_splits_in_its_names_is_reported() -> None:
    mini_imagenet = DatasetSettings(source="mini_imagenet")
    assert "has no class train/..." in message_of(lambda: make_pools(small_pack(), mini_imagenet, 0))
    stray = Pack(small_pack().images, ("test/a", "train/b", "train/c", "val/e", "zebra"), 255)
    assert "classes outside train/, val/ and test/" in message_of(lambda: make_pools(stray, mini_imagenet, 0))


@pytest.mark.parametrize("names", [("b", "a"), ("a", "a")])
def test_unsorted_or_repeated_names_are_not_written(names: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sorted and distinct"):
        write_pack(tmp_path / "made.npz", Pack(small_pack(2).images, names, 255))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scale", [1, 255], ids=["compressed", "uncompressed"])
def test_every_flipped_byte_is_detected_or_harmless(tmp_path: Path, scale: int) -> None:
    """A flip gives a UserError or, for example in a time stamp, leaves the content unchanged."""
    path = tmp_path / "made.npz"
    pack = Pack(small_pack(2).images, small_pack(2).class_names, scale)
    write_pack(path, pack)
    whole = path.read_bytes()
    messages = []
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        try:
            read, _ = read_pack(path)
        except UserError as error:
            messages.append(str(error))
        else:
            assert read.digest() == pack.digest()
    assert len(messages) > len(whole) // 4
    assert all(message.startswith(f"{path}: ") and "\n" not in message for message in messages)


def test_every_truncation_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "made.npz"
    write_pack(path, small_pack(2))
    whole = path.read_bytes()
    for length in range(0, len(whole), 11):
        path.write_bytes(whole[:length])
        message = message_of(lambda: read_pack(path))
        assert f"{path}: not a whole packed data set" in message
        assert "firstorder pack made" in message


def test_missing_pack_is_reported_with_the_command_that_makes_it(tmp_path: Path) -> None:
    message = message_of(lambda: read_pack(tmp_path / "omniglot.npz"))
    assert f"{tmp_path / 'omniglot.npz'}: no such packed data set" in message
    assert "firstorder pack omniglot" in message


def test_pack_that_claims_another_digest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "made.npz"
    claim(path, small_pack(), "0" * 64)
    message = message_of(lambda: read_pack(path))
    assert small_pack().digest()[:16] in message
    assert "0000000000000000..." in message


def test_npz_that_is_not_a_pack_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "made.npz"
    np.savez(path, something=np.arange(3))
    assert "not a whole packed data set" in message_of(lambda: read_pack(path))


def test_npy_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "made.npz"
    with path.open("wb") as file:
        np.save(file, np.arange(3))
    assert "not a whole packed data set" in message_of(lambda: read_pack(path))


@pytest.mark.parametrize("seed", [0, 1, 2, 12345])
def test_split_is_that_of_the_authors_code(seed: int) -> None:
    before = random.getstate()
    try:
        random.seed(seed)
        order = list(range(1623))
        random.shuffle(order)
    finally:
        random.setstate(before)
    assert split_classes(1623, 1200, seed) == (order[:1200], order[1200:])


def test_split_is_disjoint_and_complete_and_does_not_change_the_global_generator() -> None:
    before = random.getstate()
    meta_train, meta_test = split_classes(20, 12, seed=3)
    assert random.getstate() == before
    assert (len(meta_train), len(meta_test)) == (12, 8)
    assert sorted(meta_train + meta_test) == list(range(20))
    assert split_classes(20, 12, seed=4) != (meta_train, meta_test)


def test_meta_train_has_each_rotation_counter_clockwise_as_a_class_of_its_own() -> None:
    pack = small_pack()
    pools = make_pools(pack, dataset(), seed=1)
    meta_train, _ = split_classes(5, 3, seed=1)
    assert pools.meta_train.shape == (12, 3, 1, 4, 4)
    assert pools.meta_train.dtype == np.uint8
    for turn in range(4):
        for place, of_class in enumerate(meta_train):
            for drawing in range(3):
                expected = np.rot90(pack.images[of_class, drawing, 0], k=turn)
                np.testing.assert_array_equal(pools.meta_train[3 * turn + place, drawing, 0], expected)


def test_a_quarter_turn_moves_the_right_edge_to_the_top() -> None:
    """Worked by hand: counter-clockwise, [[1, 2], [3, 4]] becomes [[2, 4], [1, 3]]."""
    image = np.array([[1, 2], [3, 4]], np.uint8)
    pack = Pack(np.stack([image, image, image])[:, None, None], ("a", "b", "c"), 255)
    pools = make_pools(pack, dataset(2, rotations=(90,)), seed=0)
    np.testing.assert_array_equal(pools.meta_train[0, 0, 0], [[2, 4], [1, 3]])


def test_meta_test_classes_are_not_rotated() -> None:
    pack = small_pack()
    pools = make_pools(pack, dataset(), seed=1)
    _, meta_test = split_classes(5, 3, seed=1)
    np.testing.assert_array_equal(pools.meta_test, pack.images[meta_test])
    assert pools.scale == 255


@pytest.mark.parametrize("meta_train_classes", [5, 6])
def test_too_few_classes_are_reported(meta_train_classes: int) -> None:
    message = message_of(lambda: make_pools(small_pack(), dataset(meta_train_classes), seed=0))
    assert f"meta_train_classes is {meta_train_classes}" in message
    assert "has 5 classes" in message


def finns(**changes: object) -> DatasetSettings:
    """Return settings as for Finn et al.'s Omniglot: a fixed split, validation classes, rotated tasks, ink 1."""
    settings = {"split_seed": 1, "meta_validation_classes": 1, "rotate": "tasks", "ink": 1, "pack": "omniglot"}
    return replace(dataset(2), **{**settings, **changes})


def test_finns_split_is_the_same_for_every_seed_and_leaves_validation_classes_out() -> None:
    train, rest = split_classes(5, 2, seed=1)
    for seed in (0, 7):
        pools = make_pools(small_pack(), finns(ink=None), seed)
        np.testing.assert_array_equal(pools.meta_train[:2], small_pack().images[train])
        np.testing.assert_array_equal(pools.meta_test[:2], small_pack().images[rest[1:]])


def test_in_finns_pools_the_copies_of_a_class_are_one_number_of_classes_apart() -> None:
    """Copy t of class c is class c + t * classes, in meta-test too, as tasks.draw_task expects."""
    pools = make_pools(small_pack(), finns(ink=None), seed=0)
    assert pools.turns == 4
    for pool in (pools.meta_train, pools.meta_test):
        for turn in range(4):
            np.testing.assert_array_equal(pool[2 * turn], np.rot90(pool[0], k=turn, axes=(-2, -1)))


def test_ink_one_inverts_the_values() -> None:
    pack = small_pack()
    pools = make_pools(pack, finns(), seed=0)
    np.testing.assert_array_equal(pools.meta_train, pack.scale - make_pools(pack, finns(ink=None), seed=0).meta_train)


def test_validation_classes_count_towards_the_classes_needed() -> None:
    assert "lower it" in message_of(lambda: make_pools(small_pack(), finns(meta_validation_classes=3), seed=0))


# --- What a pack was made with ---


SETTINGS = {
    "omniglot": dataset(),
    "glyphs": replace(dataset(), source="glyphs"),
    "nearest": DatasetSettings(source="mini_imagenet"),
    "nearest, said": DatasetSettings(source="mini_imagenet", resize="nearest"),
    "bicubic": DatasetSettings(source="mini_imagenet", resize="bicubic"),
    "lanczos": DatasetSettings(source="mini_imagenet", resize="lanczos"),
}
MADE = {
    "named omniglot": (("a", "b"), None, "omniglot", ("omniglot",)),
    "named glyphs": (("a", "b"), None, "glyphs", ("glyphs",)),
    "named nearest": (("a", "b"), "nearest", "mini_imagenet", ("nearest", "nearest, said")),
    "named bicubic": (("a", "b"), "bicubic", "mini_imagenet", ("bicubic",)),
    "named lanczos": (("a", "b"), "lanczos", "mini_imagenet", ("lanczos",)),
    "old omniglot": (("Greek/character01", "Greek/character02"), None, None, ("omniglot",)),
    "old glyphs": (("Greek/03B1", "Greek/03B2"), None, None, ("glyphs",)),
    "old mini-ImageNet": (("test/n01930112", "train/n01532829"), None, None, ("nearest", "nearest, said")),
    "older bicubic": (("test/n01930112", "train/n01532829"), "bicubic", None, ("bicubic",)),
}


@pytest.mark.parametrize("made", MADE)
def test_a_pack_is_taken_only_for_the_settings_that_made_it(made: str, tmp_path: Path) -> None:
    """Its digest is that of its pixels, which do not tell; what an old pack does not name had one value then."""
    names, resize, source, fitting = MADE[made]
    pack = Pack(np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 1, 2, 2), names, 255, None, resize, source)
    assert pack.digest() == replace(pack, resize=None, source=None).digest()
    path = tmp_path / "set.npz"
    write_pack(path, pack)
    assert read_pack(path)[0].packing == pack.packing == SETTINGS[fitting[0]].packing
    for name, settings in SETTINGS.items():
        if name in fitting:
            assert read_pack(path, settings)[1] == pack.digest()
            continue
        message = message_of(lambda settings=settings: read_pack(path, settings))
        assert f"packed with source {pack.packing['source']}" in message
        assert f"params.yaml says source {settings.source}" in message
        assert ("firstorder data set --source" if settings.resize else "firstorder ") in message


def write_arrays(path: Path, **changed: Any) -> Path:
    """Write the small pack with other arrays and the digest of them, as another program might."""
    pack = replace(small_pack(), **changed)
    names = np.array(pack.class_names)
    np.savez(path, images=pack.images, class_names=names, scale=np.array(pack.scale), digest=np.array(pack.digest()))
    return path


@pytest.mark.parametrize(
    "changed",
    [
        {"images": small_pack().images[:, :0]},
        {"images": small_pack().images.astype(np.int8)},
        {"images": small_pack().images.astype(np.uint16)},
        {"images": small_pack().images.astype(np.float64)},
        {"images": small_pack().images.astype(np.complex128)},
        {"images": small_pack().images[0]},
        {"scale": 1},
        {"scale": 0},
        {"scale": -1},
        {"scale": 256},
        {"scale": 2.5},
        {"class_names": ("a",) * 5},
        {"class_names": ("b", "a", "c", "d", "e")},
        {"class_names": ("a", "b", "c", "d")},
        {"class_names": ("a", "b", "c", "d", "e", "f")},
    ],
    ids=str,
)
def test_arrays_that_are_no_images_with_names_are_refused(changed: dict[str, Any], tmp_path: Path) -> None:
    path = write_arrays(tmp_path / "made.npz", **changed)
    assert "not a whole packed data set" in message_of(lambda: read_pack(path))


def test_images_that_are_not_square_are_refused_only_where_they_are_turned() -> None:
    pack = replace(small_pack(), images=np.ascontiguousarray(small_pack().images[..., :3]))
    assert "has images of 4x3" in message_of(lambda: make_pools(pack, dataset(), seed=0))
    assert make_pools(pack, dataset(rotations=(0, 180)), seed=0).meta_train.shape == (6, 3, 1, 4, 3)


FOLDER = DatasetSettings(source="folder", size=4, channels=1, meta_train_classes=3)


def folder_pack(counts: tuple[int, ...] | None = (2, 3, 3, 1, 2)) -> Pack:
    """Return a pack as of a folder; images behind the count of a class are 0."""
    images = small_pack(5).images | 1
    for place, count in enumerate(counts or ()):
        images[place, count:] = 0
    return replace(small_pack(5), images=images, counts=counts, source="folder", split="seed")


@pytest.mark.parametrize("rotations", [None, (0, 90)])
def test_classes_of_several_sizes_keep_their_counts_when_the_seed_splits_them(rotations: Any) -> None:
    pack, settings = folder_pack(), replace(FOLDER, rotations=rotations)
    train, test = split_classes(5, 3, 0)
    pools = make_pools(pack, settings, 0)
    wanted = tuple((2, 3, 3, 1, 2)[place] for place in train)
    assert pools.counts["meta_train"] == wanted * len(rotations or (0,))
    assert pools.meta_train.shape[:2] == (3 * len(rotations or (0,)), max(wanted))
    assert pools.meta_test.shape[1] == max((2, 3, 3, 1, 2)[place] for place in test)
    for images, count in zip(pools.meta_train, pools.counts["meta_train"], strict=True):
        assert (images[:count] > 0).all()
        assert (images[count:] == 0).all()
    assert make_pools(folder_pack(None), settings, 0).counts == {}


def test_with_rotated_copies_in_each_task_counts_are_those_of_the_classes() -> None:
    pools = make_pools(folder_pack(), replace(FOLDER, rotations=(0, 90), rotate="tasks"), 0)
    assert (pools.turns, len(pools.meta_train), len(pools.counts["meta_train"])) == (2, 6, 3)


def test_a_folders_pack_names_its_split_and_the_form_of_its_images(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    write_pack(path, folder_pack())
    assert read_pack(path, FOLDER)[0].packing == FOLDER.packing
    changed = [{"split": "folders", "meta_train_classes": None}, {"size": 16}, {"channels": 3}, {"resize": "nearest"}]
    for change in changed:
        message = message_of(lambda change=change: read_pack(path, replace(FOLDER, **change)))
        assert message.startswith(f"{path}: packed with source folder, split seed, images 1x4x4, params.yaml says ")
        assert message.endswith("make it again with: firstorder data own --source PATH")


def test_a_pack_behind_a_link_is_written_where_the_link_leads(tmp_path: Path) -> None:
    """Such as to a larger disk: the link stays."""
    (tmp_path / "big").mkdir()
    link = tmp_path / "set.npz"
    link.symlink_to(tmp_path / "big/real.npz")
    pack = Pack(np.zeros((2, 1, 1, 3, 3), np.uint8), ("a", "b"), 1)
    for _ in range(2):
        write_pack(link, pack)
        assert link.is_symlink()
        assert read_pack(tmp_path / "big/real.npz")[1] == pack.digest()


def test_a_fifo_in_place_of_a_pack_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "set.npz")
    with pytest.raises(UserError, match="is a FIFO, not a file"):
        read_pack(tmp_path / "set.npz")


def test_the_settings_know_how_many_classes_each_source_has() -> None:
    assert {"omniglot": omniglot.OFFICIAL.characters, "glyphs": glyphs.CHARACTERS} == checks.CLASSES
