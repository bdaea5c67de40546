"""mini-ImageNet: decodes and checks a copy in any known form into one pack of 100 classes, and takes a census of it.

Three surprises. Several different sets of images have this name (docs/data.md), so a pack is identified by the digest
of its content, and the census says what it contains. The WordNet ids decide which classes are meta-training,
meta-validation and meta-test; neither a seed nor the folders of the copy matter. The authors of the paper resize the
whole image to 84x84, without a crop, by nearest neighbour, which was Pillow's default at that time.
Source: miniimagenet.py of the authors' code; split of Ravi and Larochelle 2017. The images are ImageNet's and are not
distributed here.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import struct
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from firstorder.data.mini_imagenet_sources import CLASS_ID, Found, opened
from firstorder.data.packs import Images, Pack
from firstorder.errors import UserError
from firstorder.progress import Track, silent

SIDE = 84  # pixels
NOMINAL = 600  # images per class
Resize = Literal["nearest", "bilinear", "bicubic"]
# What Pillow raises for a damaged image, apart from its own DecompressionBombError.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)

# The classes of each split of Ravi and Larochelle, by WordNet id.
CLASSES = {
    "train": (
        "n01532829 n01558993 n01704323 n01749939 n01770081 n01843383 n01910747 n02074367 n02089867 n02091831 "
        "n02101006 n02105505 n02108089 n02108551 n02108915 n02111277 n02113712 n02120079 n02165456 n02457408 "
        "n02606052 n02687172 n02747177 n02795169 n02823428 n02966193 n03017168 n03047690 n03062245 n03207743 "
        "n03220513 n03337140 n03347037 n03400231 n03476684 n03527444 n03676483 n03838899 n03854065 n03888605 "
        "n03908618 n03924679 n03998194 n04067472 n04243546 n04251144 n04258138 n04275548 n04296562 n04389033 "
        "n04435653 n04443257 n04509417 n04515003 n04596742 n04604644 n04612504 n06794110 n07584110 n07697537 "
        "n07747607 n09246464 n13054560 n13133613"
    ),
    "val": (
        "n01855672 n02091244 n02114548 n02138441 n02174001 n02950826 n02971356 n02981792 n03075370 n03417042 "
        "n03535780 n03584254 n03770439 n03773504 n03980874 n09256479"
    ),
    "test": (
        "n01930112 n01981276 n02099601 n02110063 n02110341 n02116738 n02129165 n02219486 n02443484 n02871525 "
        "n03127925 n03146219 n03272010 n03544143 n03775546 n04146614 n04149813 n04418357 n04522168 n07613480"
    ),
}
SPLITS = {class_id: split for split, ids in CLASSES.items() for class_id in ids.split()}

CENSUS_COLUMNS = ("what", "split", "class", "images", "note")


class CensusRow(NamedTuple):
    """One line of the census, by CENSUS_COLUMNS; `what` is set, split, class, size or duplicate."""

    what: str
    split: str
    class_id: str
    images: int
    note: str


class _Slot(NamedTuple):
    """Where in the pack an image goes."""

    class_name: str
    image: str
    row: int
    column: int


@dataclass
class _Seen:
    """What the census needs to know of the decoded images: how many have each size, and which have equal pixels."""

    sizes: Counter[str] = field(default_factory=Counter)
    by_pixels: dict[bytes, list[_Slot]] = field(default_factory=lambda: defaultdict(list))


def make_pack(
    source: Path,
    resize: Resize = "nearest",
    names: Path | None = None,
    splits: Mapping[str, str] = SPLITS,
    track: Track = silent,
) -> tuple[Pack, list[CensusRow]]:
    """Decode every image of `source` into a pack uint8 [100, images, 3, 84, 84] and take a census.

    `source` is a folder, zip or tar with images in folders named by WordNet id; or ILSVRC-2012's training tar or its
    tars of classes (with `names`, the csv that lists the images); or the folder of the three cache pickles. See
    mini_imagenet_sources.opened. Classes are named `split/id` and sorted; images of a class are sorted by file name.
    A class with fewer images than the largest is padded with zeros, which Pack.counts excludes.

    Raises UserError, naming the image or class, if a class is missing or unknown, an image is truncated or cannot be
    decoded, or the source has none of these forms. A class of other than 600 images and duplicate images are no errors;
    the census lists them.
    """
    with opened(source, splits, chosen=names is not None) as all_found:
        found = _select(all_found, read_names(names), source) if names else all_found
        classes = _classes(found, splits, source)
        counts = tuple(len(of_class) for of_class in classes.values())
        images = np.zeros((len(classes), max(counts), 3, SIDE, SIDE), np.uint8)
        seen = _Seen()
        slots = _slots(classes, found)
        with track("mini-ImageNet", len(found), "images") as bar:
            for slot, image in zip(slots, found, strict=True):
                pixels = _pixels(image, resize, seen)
                images[slot.row, slot.column] = pixels.transpose(2, 0, 1)
                seen.by_pixels[hashlib.sha256(pixels.tobytes()).digest()].append(slot)
                bar.advance()
    pack = Pack(images, tuple(classes), 255, counts if min(counts) < max(counts) else None, resize)
    return pack, list(_census(pack, counts, seen, resize))


def _select(found: Sequence[Found], listed: Mapping[str, list[str]], source: Path) -> list[Found]:
    """Select the listed images, under the listed names, in the order of the source."""
    of_class: dict[str, list[int]] = defaultdict(list)
    for position, image in enumerate(found):
        of_class[image.class_id].append(position)
    taken: dict[int, str] = {}
    for class_id, names in listed.items():
        positions = of_class.get(class_id, [])
        by_name = {found[position].name: position for position in positions}
        by_number = sorted((number, p) for p in positions if (number := _number(found[p].name)) is not None)
        for name in names:
            place = by_name.get(name)
            if place is None and by_number and (ravi := re.fullmatch(r"n\d{8}(\d{8})\.\w+", name)):
                rank = int(ravi[1])
                place = by_number[rank - 1][1] if 1 <= rank <= len(by_number) else None
            if place is None or place in taken:
                why = "is not there" if place is None else f"is {found[place].name}, as is {taken[place]!r}"
                raise UserError(
                    f"{source}: the listed image {name!r} {why} (class {class_id} has {len(positions):,} images "
                    "there); the source must hold every image listed, by its name or as a whole class of ILSVRC-2012"
                )
            taken[place] = name
    return [replace(found[position], name=taken[position]) for position in sorted(taken)]


def _number(name: str) -> int | None:
    """Return the number in an ILSVRC-2012 name, such as 18 in n01532829_18.JPEG."""
    matched = re.fullmatch(r"n\d{8}_(\d+)\.\w+", name)
    return int(matched[1]) if matched else None


def _classes(found: Sequence[Found], splits: Mapping[str, str], source: Path) -> dict[str, list[int]]:
    """Group the images: `split/id` -> positions in `found`, sorted by file name, then by place."""
    of_class: dict[str, list[int]] = {f"{split}/{class_id}": [] for class_id, split in splits.items()}
    for number, image in enumerate(found):
        of_class[f"{splits[image.class_id]}/{image.class_id}"].append(number)
    missing = [name for name in sorted(of_class) if not of_class[name]]
    if missing:
        raise UserError(
            f"{source}: {len(missing)} of {len(splits)} classes are missing: {', '.join(missing)}; mini-ImageNet needs "
            "them all, so get the rest or a complete copy"
        )
    return {
        name: sorted(of_class[name], key=lambda number: (found[number].name, found[number].where))
        for name in sorted(of_class)
    }


def _slots(classes: Mapping[str, Sequence[int]], found: Sequence[Found]) -> list[_Slot]:
    """Return the slot of each image, in the order of the source."""
    slots = {
        number: _Slot(name, found[number].name, row, column)
        for row, (name, numbers) in enumerate(classes.items())
        for column, number in enumerate(numbers)
    }
    return [slots[number] for number in range(len(found))]


def _pixels(found: Found, resize: Resize, seen: _Seen) -> Images:
    """Decode an image and resize all of it to uint8 [84, 84, 3], whatever its aspect ratio."""
    from PIL import Image

    content = found.content()
    try:
        image = Image.open(io.BytesIO(content)) if isinstance(content, bytes) else Image.fromarray(content)
        with image:
            seen.sizes[f"{image.width}x{image.height}"] += 1
            if image.format == "JPEG" and isinstance(content, bytes) and not _ends(content):
                raise OSError("no end marker after its last scan")
            # RGB first, because bilinear and bicubic cannot mix palette entries. For nearest the order does not matter.
            colours = image.convert("RGB")
            return np.asarray(colours.resize((SIDE, SIDE), Image.Resampling[resize.upper()]), np.uint8)
    except (*DAMAGED, Image.DecompressionBombError) as error:
        raise UserError(
            f"{found.where}: truncated or not an image ({' '.join(str(error).split())}); get this file again"
        ) from None


def _ends(jpeg: bytes) -> bool:
    """Say whether the end marker follows the last scan, because libjpeg silently fills in what a truncated scan lacks.

    Neither marker can occur inside a scan; a thumbnail, which has both, comes before the last scan.
    """
    return jpeg.rfind(b"\xff\xd9") > jpeg.rfind(b"\xff\xda")


def _census(pack: Pack, counts: Sequence[int], seen: _Seen, resize: Resize) -> Iterator[CensusRow]:
    """Describe a pack: the whole set, its splits and classes, the sizes of the images, and images of equal pixels."""
    import PIL

    digest = pack.digest()
    yield CensusRow("set", "", "", sum(counts), f"digest {digest}; resize {resize} by Pillow {PIL.__version__}")
    split_of = [name.split("/")[0] for name in pack.class_names]
    for split in sorted(set(split_of)):
        inside = [count for count, its in zip(counts, split_of, strict=True) if its == split]
        yield CensusRow(
            "split", split, "", sum(inside), f"{len(inside)} classes of {min(inside)} to {max(inside)} images"
        )
    for name, count in zip(pack.class_names, counts, strict=True):
        split, class_id = name.split("/")
        yield CensusRow("class", split, class_id, count, _against_nominal(count))
    for size, count in sorted(seen.sizes.items(), key=lambda item: (-item[1], item[0])):
        yield CensusRow("size", "", "", count, size)
    for same in sorted(sorted(group) for group in seen.by_pixels.values() if len(group) > 1):
        splits, ids = ([slot.class_name.split("/")[part] for slot in same] for part in (0, 1))
        names = " = ".join(slot.image for slot in same)
        crossing = "; crosses splits" if len(set(splits)) > 1 else "; crosses classes" if len(set(ids)) > 1 else ""
        yield CensusRow(
            "duplicate", "|".join(dict.fromkeys(splits)), "|".join(dict.fromkeys(ids)), len(same), names + crossing
        )


def read_names(path: Path) -> dict[str, list[str]]:
    """Read the lists of file names: class id -> names. A first line that names no image is a heading.

    Raises UserError for a missing or empty list, a line that names no image, or a name that occurs twice.
    """
    files = sorted(path.rglob("*.csv")) if path.is_dir() else [path]
    listed: dict[str, list[str]] = defaultdict(list)
    for file in files:
        try:
            with file.open(encoding="utf-8", newline="") as lines:
                rows = [row[0].strip() for row in csv.reader(lines) if row]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{file}: cannot be read ({error}); expected a csv of file names") from None
        for number, name in enumerate(rows):
            if CLASS_ID.match(name):
                listed[name[:9]].append(name)
            elif number:
                raise UserError(f"{file}: expected a name like n0153282900000005.jpg in each line, found {name[:80]!r}")
    twice = [name for names in listed.values() for name, count in Counter(names).items() if count > 1]
    if twice or not listed:
        problem = f"{twice[0]!r} comes twice" if twice else "no file names"
        raise UserError(f"{path}: {problem}; expected csv with each image's file name once, in the first column")
    return dict(listed)


def _against_nominal(count: int) -> str:
    if count == NOMINAL:
        return ""
    return f"{abs(NOMINAL - count)} {'fewer' if count < NOMINAL else 'more'} than {NOMINAL}"
