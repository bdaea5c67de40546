"""The census of a packed copy of a set: what it has, and what is unusual about it. No torch."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import NamedTuple

from firstorder.data.image_sources import Listing
from firstorder.data.packs import Pack
from firstorder.errors import shown

SPLIT_NAMES = ("train", "val", "test")  # how names of classes begin where the split is in them
# How tools mark the copy that they make of a file whose name is taken.
COPY = re.compile(r"\s*[(\[].*|\s+-\s+cop(y|ie).*|[ ._-]+(conflict|sync-conflict|copy).*|\s+\d+$|~\d*$")
CENSUS_COLUMNS = ("what", "split", "class", "images", "detail")
TOLD = ("other", "left", "below", "unlisted")  # rows that are repeated on the terminal as they are


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


def parts_of(class_name: str) -> tuple[str, str]:
    """Return the split that a class's name begins with, or an empty text, and the rest of the name."""
    split, _, rest = class_name.partition("/")
    return (split, rest) if split in SPLIT_NAMES and rest else ("", class_name)


def census_of(
    pack: Pack, counts: Sequence[int], seen: Seen, listing: Listing, by_rank: Mapping[str, int], nominal: int = 0
) -> Iterator[CensusRow]:
    """Describe a pack: the whole set, its splits and classes, the sizes of the images, and images of equal pixels.

    `counts` has the number of images of each class; `nominal` is what each should have, if that is known.
    """
    import PIL

    digest, named = pack.digest(), [parts_of(name) for name in pack.class_names]
    how = f"resize {pack.resize or 'none'} by Pillow {PIL.__version__}"
    yield CensusRow("set", "", "", sum(counts), f"digest {digest}; {how}")
    for split in sorted({split for split, _ in named} - {""}):
        inside = [count for count, (its, _) in zip(counts, named, strict=True) if its == split]
        of_each = f"{len(inside)} classes of {min(inside)} to {max(inside)} images"
        yield CensusRow("split", split, "", sum(inside), of_each)
    for (split, class_id), count in zip(named, counts, strict=True):
        yield CensusRow("class", split, class_id, count, _against(nominal, count))
    for class_id, files in sorted(by_rank.items()):
        yield CensusRow("rank", "", class_id, files, "files ranked, of which the list names some by their rank")
    for what, (detail, places) in _asides(listing).items():
        if places:
            yield CensusRow(what, "", "", len(places), f"{detail}, the first: {places[0]}")
    for size, count in sorted(seen.sizes.items(), key=lambda item: (-item[1], item[0])):
        yield CensusRow("size", "", "", count, size)
    yield from _same_pixels(seen)
    yield from _same_names(seen)


def _same_pixels(seen: Seen) -> Iterator[CensusRow]:
    """Find images with equal pixels, of one class or several."""
    for same in sorted(sorted(group) for group in seen.by_pixels.values() if len(group) > 1):
        splits, ids = zip(*(parts_of(slot.class_name) for slot in same), strict=True)
        names = " = ".join(shown(slot.image) for slot in same)
        crossing = "; crosses splits" if len(set(splits)) > 1 else "; crosses classes" if len(set(ids)) > 1 else ""
        yield CensusRow(
            "duplicate", "|".join(dict.fromkeys(splits)), "|".join(dict.fromkeys(ids)), len(same), names + crossing
        )


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
                yield CensusRow("name", *parts_of(class_name), len(images), names)


def _asides(listing: Listing) -> dict[str, tuple[str, Sequence[str]]]:
    """Map `what` to what is said of some files and where they are."""
    return {
        "other": ("files of classes passed over, since they are no PNG or JPEG images", listing.others),
        "left": ("archives, pickles or files beside lists are not read", listing.left_out),
        "below": ("images are in subfolders of their class and packed beside the class's own images", listing.below),
        "unlisted": ("class folders are in no list and left out", listing.unlisted),
    }


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
    more = [row for row in census if row.what == "class" and " more than " in row.detail]
    if more:
        nominal = more[0].detail.rsplit(" ", 1)[1]
        warnings.append(f"{len(more)} classes have more than {nominal} images, the first: {more[0].class_id}")
    warnings += [f"{row.images:,} {row.detail}" for row in census if row.what in TOLD]
    return warnings


def _against(nominal: int, count: int) -> str:
    if count == nominal or not nominal:
        return ""
    return f"{abs(nominal - count)} {'fewer' if count < nominal else 'more'} than {nominal}"
