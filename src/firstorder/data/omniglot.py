"""Omniglot: the two official archives decoded into one pack of 1,623 characters with 20 drawings each.

Three surprises. Ink is 0 and paper is 1, and they are neither inverted nor normalised (the mean is about 0.92). The
drawings are resized by nearest neighbour, because Pillow does so for one-bit images, whatever filter is given. The
order of the characters decides which of them a seed assigns to meta-test.
Source: run_omniglot.py and omniglot.py of the authors' code. Images: Lake, Salakhutdinov and Tenenbaum 2015.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from firstorder.data import image_files
from firstorder.data.archives import Archive, members
from firstorder.data.packs import Images, Pack
from firstorder.errors import UserError, shown
from firstorder.progress import Track, silent

RAW_SIDE = 105  # pixels
SIDE = 28  # pixels
# What Pillow raises for a damaged PNG, apart from its own DecompressionBombError.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)


COMMIT = "057f034baf2ecb8530bc5710e5a23584d2a519cc"  # of github.com/brendenlake/omniglot, its last one, of 2019


def _official(name: str, size: int, md5: str, blob: str) -> Archive:
    """`blob` is the name that Git gives to the content of the archive; Software Heritage keeps contents by it."""
    urls = (
        f"https://raw.githubusercontent.com/brendenlake/omniglot/{COMMIT}/python/{name}",
        f"https://github.com/brendenlake/omniglot/raw/master/python/{name}",
        f"https://archive.softwareheritage.org/api/1/content/sha1_git:{blob}/raw/",
    )
    return Archive(name, urls, size, md5)


ARCHIVES = (
    _official(
        "images_background.zip",
        9_464_212,
        "68d2efa1b9178cc56df9314c21c6e718",
        "71fd167eb6fdd312049395fbd247147a4b234231",
    ),
    _official(
        "images_evaluation.zip",
        6_462_886,
        "6b91aef0f799c5bb55b94e3f2daec811",
        "8ccde0ed1565641f1fa8c57cdc6ff634e15fc5c1",
    ),
)

# Of the drawings as they are in the archives, before resizing: SHA-256 over all drawings sorted by alphabet, then
# character, then file name. Each contributes its name `Alphabet/characterNN/XXXX_YY.png` and a line feed in UTF-8, then
# 105 * 105 bytes, row by row from the top, each 0 (ink) or 1 (paper).
CONTENT_DIGEST = "4e84f3415f175c39daf83b81f8cb9bd64a3a34736335c45f7e48d27a0db1add3"
# Of the finished pack (Pack.digest). If CONTENT_DIGEST agrees and this differs, Pillow resizes in another way.
PACK_DIGEST = "7b6ceb3d19ea683c10256c0cf12b53b35c5164a59f5f461ae5c08b93a014a424"


@dataclass(frozen=True)
class Content:
    """What both archives together must contain; `drawings` is the number for each character."""

    alphabets: int
    characters: int
    drawings: int
    content_digest: str
    pack_digest: str


OFFICIAL = Content(50, 1623, 20, CONTENT_DIGEST, PACK_DIGEST)

Character = tuple[str, str]  # alphabet and character


def make_pack(folder: Path, track: Track = silent, expected: Content = OFFICIAL) -> Pack:
    """Decode both archives in `folder` into a pack: images uint8 [1623, 20, 1, 28, 28], 0 = ink, 1 = paper.

    Classes are named `Alphabet/characterNN` and have the order of the authors' code: sorted alphabets, then the sorted
    characters of each. The drawings of a character are sorted by file name.

    Raises UserError, with what was expected and found, if an archive is missing or damaged, there are too few or too
    many alphabets, characters or drawings, a drawing is not of one bit and 105x105 pixels, or a digest differs.
    """
    drawings = _read_drawings(folder)
    _check_counts(drawings, folder, expected)
    classes = sorted(drawings)
    images = np.empty((len(classes), expected.drawings, 1, SIDE, SIDE), np.uint8)
    sha = hashlib.sha256()
    with track("omniglot", len(classes), "characters") as bar:
        for place, (alphabet, character) in zip(images, classes, strict=True):
            for number, (name, png) in enumerate(sorted(drawings[alphabet, character].items())):
                full, small = _decode(png, f"{folder}: {shown(f'{alphabet}/{character}/{name}')}")
                sha.update(f"{alphabet}/{character}/{name}\n".encode())
                sha.update(full)
                place[number, 0] = small
            bar.advance()
    if sha.hexdigest() != expected.content_digest:
        raise UserError(
            f"{folder}: the drawings have content digest {sha.hexdigest()[:16]}..., expected "
            f"{expected.content_digest[:16]}...; delete both archives and download the official ones"
        )
    # Sorting pairs and sorting joined names agree because no alphabet's name is the beginning of another's.
    pack = Pack(images, tuple("/".join(names) for names in classes), scale=1)
    if pack.digest() != expected.pack_digest:
        raise UserError(_pillow_fault(pack.digest(), expected.pack_digest))
    return pack


def _read_drawings(folder: Path) -> Mapping[Character, dict[str, bytes]]:
    """Merge the drawings of both archives: character -> file name -> PNG."""
    drawings: dict[Character, dict[str, bytes]] = defaultdict(dict)
    for archive in ARCHIVES:
        path = folder / archive.name
        for member, png in members(path, ".png"):
            if not image_files.is_image(PurePosixPath(member)):
                continue
            parts = member.split("/")
            if len(parts) != 4 or parts[0] != path.stem:
                raise UserError(
                    f"{path}: expected members like {path.stem}/<alphabet>/<character>/<drawing>.png, "
                    f"found {member!r}; delete it and download the official one"
                )
            drawings[parts[1], parts[2]][parts[3]] = png
    return drawings


def _check_counts(drawings: Mapping[Character, dict[str, bytes]], folder: Path, expected: Content) -> None:
    for what, found, wanted in _counts(drawings, expected):
        if found != wanted:
            raise UserError(
                f"{folder}: expected {wanted:,} {what}, found {found:,}; "
                "delete both archives and download the official ones"
            )


def _counts(drawings: Mapping[Character, dict[str, bytes]], expected: Content) -> Iterator[tuple[str, int, int]]:
    """Yield what is counted, the number found and the number expected."""
    yield "alphabets", len({alphabet for alphabet, _ in drawings}), expected.alphabets
    yield "characters", len(drawings), expected.characters
    for (alphabet, character), files in sorted(drawings.items()):
        yield f"drawings of {shown(f'{alphabet}/{character}')}", len(files), expected.drawings


def _decode(png: bytes, where: str) -> tuple[bytes, Images]:
    """Decode a drawing: 105 * 105 bytes of 0 or 1, row by row, and the resized image uint8 [28, 28]."""
    from PIL import Image

    again = "delete both archives and download the official ones"
    try:
        with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
            if image.mode != "1" or image.size != (RAW_SIDE, RAW_SIDE):
                width, height = image.size
                raise UserError(
                    f"{where}: expected one bit a pixel (mode 1) and {RAW_SIDE}x{RAW_SIDE} pixels, found mode "
                    f"{image.mode} and {width}x{height}; {again}"
                )
            full = np.asarray(image, np.uint8)
            small = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.NEAREST), np.uint8)
    except (*DAMAGED, Image.DecompressionBombError) as error:
        raise UserError(f"{where}: not a readable PNG ({' '.join(str(error).split())}); {again}") from None
    return full.tobytes(), small


def _pillow_fault(found: str, expected: str) -> str:
    import PIL

    return (
        f"Pillow {PIL.__version__} resizes the drawings to other pixels: pack digest {found[:16]}..., expected "
        f"{expected[:16]}...; install the version of requirements.lock"
    )
