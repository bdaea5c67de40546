"""Omniglot: small synthetic archives for every rule, and the real ones if DATA_MIRROR names a folder with them."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from firstorder.data import omniglot
from firstorder.data.downloads import fetch
from firstorder.data.omniglot import ARCHIVES, Content, make_pack
from firstorder.data.packs import Pack, read_pack, split_classes, write_pack
from firstorder.errors import UserError

Bits = np.ndarray[Any, np.dtype[np.uint8]]
Drawings = dict[str, bytes]

ALPHABETS = {
    "images_background": ("Beta_(old)", "Alpha"),
    "images_evaluation": ("Anglo-Saxon", "Beta_(Old)"),
}
CHARACTERS = ("character02", "character01")
FILES = ("0009_02.png", "0009_01.png")


def as_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def one_bit(drawing: Bits) -> Image.Image:
    return Image.fromarray(drawing * 255).convert("1")


def draw(name: str) -> Bits:
    """Make a drawing of random bits [105, 105] that depends only on its name."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).integers(0, 2, (105, 105), dtype=np.uint8)


def made_up() -> dict[str, Drawings]:
    """Return the members of each archive, unsorted: 4 alphabets of 2 characters with 2 drawings each."""
    return {
        top: {
            f"{top}/{alphabet}/{character}/{file}": as_png(one_bit(draw(f"{alphabet}/{character}/{file}")))
            for alphabet in alphabets
            for character in CHARACTERS
            for file in FILES
        }
        for top, alphabets in ALPHABETS.items()
    }


def write_archives(folder: Path, archives: dict[str, Drawings]) -> None:
    for top, drawings in archives.items():
        with zipfile.ZipFile(folder / f"{top}.zip", "w") as archive:
            for name, content in drawings.items():
                archive.writestr(zipfile.ZipInfo(name), content)


def shrink(drawing: Bits) -> Bits:
    """Resize by nearest neighbour: take the pixel that contains the centre of the small pixel."""
    nearest = ((np.arange(28) + 0.5) * 105 / 28).astype(int)
    shrunk: Bits = drawing[np.ix_(nearest, nearest)]
    return shrunk


def expected_pack(changed: Mapping[str, Bits] | None = None) -> tuple[Pack, Content]:
    """Compute pack and digests directly from the drawings, of which some may be replaced."""
    classes = [
        f"{alphabet}/{character}"
        for alphabet in ("Alpha", "Anglo-Saxon", "Beta_(Old)", "Beta_(old)")
        for character in ("character01", "character02")
    ]
    names = [[f"{of_class}/0009_01.png", f"{of_class}/0009_02.png"] for of_class in classes]
    drawn = {name: draw(name) for pair in names for name in pair} | dict(changed or {})
    images = np.array([[[shrink(drawn[name])] for name in pair] for pair in names])
    raw = b"".join(f"{name}\n".encode() + drawn[name].tobytes() for pair in names for name in pair)
    pack = Pack(images, tuple(classes), 1)
    return pack, Content(4, 8, 2, hashlib.sha256(raw).hexdigest(), pack.digest())


EXPECTED, CONTENT = expected_pack()


def message_of(action: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    return message


def refusal(folder: Path, archives: dict[str, Drawings], content: Content = CONTENT) -> str:
    write_archives(folder, archives)
    return message_of(lambda: make_pack(folder, expected=content))


def test_both_archives_become_one_pack_in_sorted_order(tmp_path: Path) -> None:
    write_archives(tmp_path, made_up())
    pack = make_pack(tmp_path, expected=CONTENT)
    assert pack.class_names == EXPECTED.class_names
    assert list(pack.class_names) == sorted(pack.class_names)
    assert pack.scale == 1
    assert pack.images.dtype == np.uint8
    assert pack.images.shape == (8, 2, 1, 28, 28)
    np.testing.assert_array_equal(pack.images, EXPECTED.images)


def test_ink_is_0_and_paper_is_1(tmp_path: Path) -> None:
    """A white image with a black upper left quarter is neither inverted nor transposed."""
    sheet = np.ones((105, 105), np.uint8)
    sheet[:53, :53] = 0
    name = "Alpha/character01/0009_01.png"
    archives = made_up()
    archives["images_background"][f"images_background/{name}"] = as_png(one_bit(sheet))
    write_archives(tmp_path, archives)
    image = make_pack(tmp_path, expected=expected_pack({name: sheet})[1]).images[0, 0, 0]
    assert image[:14, :14].max() == 0
    assert image[14:].min() == 1
    assert image[:, 14:].min() == 1


@pytest.mark.parametrize("top", ALPHABETS)
def test_missing_archive_is_reported(top: str, tmp_path: Path) -> None:
    archives = made_up()
    del archives[top]
    message = refusal(tmp_path, archives)
    assert f"{tmp_path / top}.zip: no such archive" in message


def test_truncated_archive_is_reported(tmp_path: Path) -> None:
    write_archives(tmp_path, made_up())
    path = tmp_path / "images_evaluation.zip"
    path.write_bytes(path.read_bytes()[:-100])
    message = message_of(lambda: make_pack(tmp_path, expected=CONTENT))
    assert f"{path}: expected a whole zip archive" in message


@pytest.mark.parametrize("member", ["other/Alpha/character01/a.png", "images_background/a.png"])
def test_member_of_another_layout_is_reported(member: str, tmp_path: Path) -> None:
    archives = made_up()
    archives["images_background"][member] = b"anything"
    message = refusal(tmp_path, archives)
    assert f"found {member!r}" in message
    assert "images_background/<alphabet>/<character>/<drawing>.png" in message


def test_missing_alphabet_is_reported(tmp_path: Path) -> None:
    archives = made_up()
    drawings = archives["images_evaluation"]
    archives["images_evaluation"] = {name: drawings[name] for name in drawings if "Anglo" not in name}
    assert f"{tmp_path}: expected 4 alphabets, found 3" in refusal(tmp_path, archives)


def test_missing_character_is_reported(tmp_path: Path) -> None:
    archives = made_up()
    archives["images_evaluation"] = {
        n: c for n, c in archives["images_evaluation"].items() if "Saxon/character01" not in n
    }
    assert f"{tmp_path}: expected 8 characters, found 7" in refusal(tmp_path, archives)


def test_missing_drawing_is_reported(tmp_path: Path) -> None:
    archives = made_up()
    del archives["images_background"]["images_background/Alpha/character02/0009_02.png"]
    assert "expected 2 drawings of Alpha/character02, found 1" in refusal(tmp_path, archives)


def test_additional_drawing_is_reported(tmp_path: Path) -> None:
    archives = made_up()
    additional = archives["images_background"]["images_background/Alpha/character02/0009_02.png"]
    archives["images_background"]["images_background/Alpha/character02/0009_03.png"] = additional
    assert "expected 2 drawings of Alpha/character02, found 3" in refusal(tmp_path, archives)


# A wrong drawing, and what the message says about it.
BAD_DRAWINGS = {
    "grey": (as_png(Image.new("L", (105, 105))), "found mode L and 105x105"),
    "colour": (as_png(Image.new("RGB", (105, 105))), "found mode RGB and 105x105"),
    "small": (as_png(Image.new("1", (28, 28))), "found mode 1 and 28x28"),
    "wide": (as_png(Image.new("1", (106, 105))), "found mode 1 and 106x105"),
    "empty": (b"", "not a readable PNG"),
    "cut": (as_png(one_bit(draw("cut")))[:300], "not a readable PNG"),
    "text": (b"<html>not found</html>", "not a readable PNG"),
}


@pytest.mark.parametrize("kind", BAD_DRAWINGS)
def test_bad_drawing_is_reported(kind: str, tmp_path: Path) -> None:
    png, reason = BAD_DRAWINGS[kind]
    archives = made_up()
    archives["images_background"]["images_background/Alpha/character02/0009_02.png"] = png
    message = refusal(tmp_path, archives)
    assert f"{tmp_path}: Alpha/character02/0009_02.png" in message
    assert reason in message


def test_one_changed_pixel_is_detected_although_resizing_drops_it(tmp_path: Path) -> None:
    archives = made_up()
    name = "Alpha/character02/0009_02.png"
    drawing = draw(name)
    drawing[0, 0] ^= 1
    np.testing.assert_array_equal(shrink(drawing), shrink(draw(name)))
    archives["images_background"][f"images_background/{name}"] = as_png(one_bit(drawing))
    message = refusal(tmp_path, archives)
    assert f"expected {CONTENT.content_digest[:16]}" in message
    assert "content digest" in message


def test_a_renamed_drawing_is_detected(tmp_path: Path) -> None:
    archives = made_up()
    drawings = archives["images_background"]
    moved = drawings.pop("images_background/Alpha/character02/0009_02.png")
    drawings["images_background/Alpha/character02/0009_03.png"] = moved
    assert "content digest" in refusal(tmp_path, archives)


def test_a_pillow_that_resizes_in_another_way_is_detected(tmp_path: Path) -> None:
    message = refusal(tmp_path, made_up(), replace(CONTENT, pack_digest="0" * 64))
    assert message.startswith("Pillow ")
    assert EXPECTED.digest()[:16] in message


def test_archives_are_the_two_official_ones() -> None:
    """Of the three sources two are GitHub's; the third names the same bytes by their Git hash and needs no GitHub."""
    assert [archive.name for archive in ARCHIVES] == ["images_background.zip", "images_evaluation.zip"]
    for archive in ARCHIVES:
        hosts = [url.removeprefix("https://").split("/")[0] for url in archive.urls]
        assert hosts == ["raw.githubusercontent.com", "github.com", "archive.softwareheritage.org"]
        assert all(url.endswith(f"/python/{archive.name}") for url in archive.urls[:2])
        assert len(archive.md5) == 32


@pytest.fixture(scope="module")
def real_pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    mirror = os.environ.get("DATA_MIRROR")
    if not mirror:
        pytest.skip("set DATA_MIRROR to a folder that holds omniglot/images_background.zip and images_evaluation.zip")
    folder = tmp_path_factory.mktemp("raw") / "omniglot"
    for archive in ARCHIVES:
        fetch(replace(archive, urls=()), folder, mirror)
    return make_pack(folder)


def test_real_pack_has_all_characters_and_drawings(real_pack: Pack, tmp_path: Path) -> None:
    assert real_pack.images.shape == (1623, 20, 1, 28, 28)
    assert real_pack.digest() == omniglot.PACK_DIGEST
    assert set(np.unique(real_pack.images)) == {0, 1}
    assert real_pack.images.mean() == pytest.approx(0.9195, abs=1e-4)
    write_pack(tmp_path / "omniglot.npz", real_pack)
    assert read_pack(tmp_path / "omniglot.npz")[1] == omniglot.PACK_DIGEST


def test_real_order_is_that_of_the_authors(real_pack: Pack) -> None:
    """They list the sorted alphabets, and for each the sorted characters; joined names sort in the same way."""
    characters: dict[str, list[str]] = {}
    for name in real_pack.class_names:
        alphabet, character = name.split("/")
        characters.setdefault(alphabet, []).append(character)
    assert len(characters) == 50
    theirs = [
        f"{alphabet}/{character}" for alphabet in sorted(characters) for character in sorted(characters[alphabet])
    ]
    assert list(real_pack.class_names) == theirs


# The first meta-training character and the first and last meta-test character of each seed.
REAL_SPLITS = {
    0: ("Japanese_(hiragana)/character47", "Malayalam/character17", "Japanese_(hiragana)/character15"),
    1: ("Gurmukhi/character23", "Keble/character04", "Avesta/character22"),
    2: ("Avesta/character01", "Korean/character15", "Armenian/character21"),
}


@pytest.mark.parametrize("seed", REAL_SPLITS)
def test_real_split_is_pinned(seed: int, real_pack: Pack) -> None:
    meta_train, meta_test = split_classes(1623, 1200, seed)
    names = tuple(real_pack.class_names[index] for index in (meta_train[0], meta_test[0], meta_test[-1]))
    assert names == REAL_SPLITS[seed]
    assert (len(meta_train), len(meta_test)) == (1200, 423)


@pytest.mark.parametrize(
    "extra",
    [
        "__MACOSX/images_background/Alpha/character01/._0009_01.png",
        "images_background/Alpha/character01/._0009_01.png",
        "images_background/Alpha/character01/@eaDir/0009_01.png/THUMB_S.png",
        "images_background/Alpha/.ipynb_checkpoints/a.png",
    ],
)
def test_files_of_systems_and_tools_are_no_drawings(extra: str, tmp_path: Path) -> None:
    drawings = made_up()
    drawings["images_background"][extra] = b"anything"
    write_archives(tmp_path, drawings)
    np.testing.assert_array_equal(make_pack(tmp_path, expected=CONTENT).images, EXPECTED.images)
