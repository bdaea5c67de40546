"""The census of a packed copy of mini-ImageNet: what it has, and what is unusual about it. No torch."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import NamedTuple

from firstorder.data.mini_imagenet_sources import Listing
from firstorder.data.packs import Pack
from firstorder.errors import shown

NOMINAL = 600  # images per class
# How tools mark the copy that they make of a file whose name is taken.
COPY = re.compile(r"\s*[(\[].*|\s+-\s+cop(y|ie).*|[ ._-]+(conflict|sync-conflict|copy).*|\s+\d+$|~\d*$")
CENSUS_COLUMNS = ("what", "split", "class", "images", "detail")


class CensusRow(NamedTuple):
    """One line of the census, by CENSUS_COLUMNS; `what` is set, split, class, size, or one of those that are told."""

    what: str
    split: str
    class_id: str
    images: int
    detail: str


class Slot(NamedTuple):
    """Where in the pack an image goes."""

    class_name: str
    image: str
    row: int
    column: int


@dataclass
class Seen:
    """What the census needs to know of the decoded images: how many have each size, and which have equal pixels."""

    sizes: Counter[str] = field(default_factory=Counter)
    by_pixels: dict[bytes, list[Slot]] = field(default_factory=lambda: defaultdict(list))


def census_of(
    pack: Pack,
    counts: Sequence[int],
    seen: Seen,
    resize: str,
    listing: Listing,
    by_rank: Mapping[str, int],
) -> Iterator[CensusRow]:
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
    for class_id, files in sorted(by_rank.items()):
        yield CensusRow("rank", "", class_id, files, "files ranked, of which the list names some by their rank")
    for what, (detail, places) in _asides(listing).items():
        if places:
            yield CensusRow(what, "", "", len(places), f"{detail}, the first: {places[0]}")
    for size, count in sorted(seen.sizes.items(), key=lambda item: (-item[1], item[0])):
        yield CensusRow("size", "", "", count, size)
    for same in sorted(sorted(group) for group in seen.by_pixels.values() if len(group) > 1):
        splits, ids = ([slot.class_name.split("/")[part] for slot in same] for part in (0, 1))
        names = " = ".join(shown(slot.image) for slot in same)
        crossing = "; crosses splits" if len(set(splits)) > 1 else "; crosses classes" if len(set(ids)) > 1 else ""
        yield CensusRow(
            "duplicate", "|".join(dict.fromkeys(splits)), "|".join(dict.fromkeys(ids)), len(same), names + crossing
        )
    yield from _same_names(seen)


def _asides(listing: Listing) -> dict[str, tuple[str, Sequence[str]]]:
    """Map `what` to what is said of some files and where they are."""
    return {
        "other": ("files of classes passed over, since they are no PNG or JPEG images", listing.others),
        "left": ("archives, pickles or files beside lists are not read", listing.left_out),
        "below": ("images are in subfolders of their class and packed beside the class's own images", listing.below),
    }


def _same_names(seen: Seen) -> Iterator[CensusRow]:
    """Find images of one class with one name, but for its ending, capitals and marks of a copy, and different pixels.

    They tell of a set that lies there twice, once resized or compressed again.
    """
    of_class: dict[str, dict[str, list[tuple[str, bytes]]]] = defaultdict(lambda: defaultdict(list))
    for pixels, slots in seen.by_pixels.items():
        for slot in slots:
            of_class[slot.class_name][PurePath(slot.image).stem.casefold()].append((slot.image, pixels))
    for class_name, named in sorted(of_class.items()):
        for stem in [stem for stem in named if (first := COPY.sub("", stem)) != stem and first in named]:
            named[COPY.sub("", stem)] += named.pop(stem)
        for images in sorted(sorted(images) for images in named.values()):
            if len({pixels for _, pixels in images}) > 1:
                names = " = ".join(shown(name) for name, _ in images)
                split, class_id = class_name.split("/")
                yield CensusRow("name", split, class_id, len(images), names)


def warnings_of(census: Sequence[CensusRow]) -> list[str]:
    """Return what somebody who packs must hear and not only find in the census: doubles, and files passed over."""
    doubles = [row for row in census if row.what == "duplicate"]
    warnings = []
    if doubles:
        spare = sum(row.images - 1 for row in doubles)
        warnings.append(
            f"{spare:,} images have the same pixels as another one and are packed twice or more, the first: "
            f"{doubles[0].detail}; if the set lies in two folders, name one of them with --source"
        )
    same = [row for row in census if row.what == "name"]
    if same:
        warnings.append(
            f"{sum(row.images - 1 for row in same):,} images have the name of another image of their class but other "
            f"pixels, and all are packed, the first: {same[0].detail} of {same[0].class_id}; if the set lies in two "
            "folders, such as resized, name one of them with --source"
        )
    ranked = [row for row in census if row.what == "rank"]
    if ranked:
        files = ", ".join(f"{row.class_id} {row.images:,}" for row in ranked)
        warnings.append(
            "images were found by their rank in their class, so each class must have as many files as in ILSVRC-2012: "
            f"one more or fewer gives other images from there on; there are: {files}"
        )
    more = [row for row in census if row.what == "class" and row.images > NOMINAL]
    if more:
        warnings.append(f"{len(more)} classes have more than {NOMINAL} images, the first: {more[0].class_id}")
    warnings += [f"{row.images:,} {row.detail}" for row in census if row.what in ("other", "left", "below")]
    return warnings


def _against_nominal(count: int) -> str:
    if count == NOMINAL:
        return ""
    return f"{abs(NOMINAL - count)} {'fewer' if count < NOMINAL else 'more'} than {NOMINAL}"
