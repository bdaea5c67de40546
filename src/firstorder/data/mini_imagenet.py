"""mini-ImageNet: decodes and checks a copy in any known form into one pack of 100 classes, and takes a census of it.

Three surprises. Several different sets of images have this name (docs/data.md), so a pack is identified by the digest
of its content, and the census says what it contains. The WordNet ids decide which classes are meta-training,
meta-validation and meta-test; neither a seed nor the folders of the copy matter. The authors of the paper resize the
whole image to 84x84, without a crop, by nearest neighbour, which was Pillow's default at that time.
Source: miniimagenet.py of the authors' code; split of Ravi and Larochelle 2017. The images are ImageNet's and are not
distributed here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from firstorder.data.census import CensusRow, Seen, Slot, census_of
from firstorder.data.image_sources import Form, Found, Resize, pixels_of
from firstorder.data.mini_imagenet_lists import not_lists, read_names, select
from firstorder.data.mini_imagenet_sources import opened
from firstorder.data.packs import Pack
from firstorder.errors import UserError
from firstorder.progress import Track, silent

SIDE = 84  # pixels
NOMINAL = 600  # images per class

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
    with opened(source, splits, chosen=names is not None) as listing:
        found, by_rank = select(listing.images, read_names(names), source) if names else (listing.images, {})
        listing.left_out += not_lists(names) if names else []
        classes = _classes(found, splits, source)
        counts = tuple(len(of_class) for of_class in classes.values())
        images = np.zeros((len(classes), max(counts), 3, SIDE, SIDE), np.uint8)
        seen = Seen()
        slots = _slots(classes, found)
        with track("mini-ImageNet", len(found), "images") as bar:
            for slot, image in zip(slots, found, strict=True):
                pixels = pixels_of(image, Form(SIDE, 3, resize), seen.sizes)
                images[slot.row, slot.column] = pixels.transpose(2, 0, 1)
                seen.by_pixels[hashlib.sha256(pixels.tobytes()).digest()].append(slot)
                bar.advance()
    pack = Pack(images, tuple(classes), 255, counts if min(counts) < max(counts) else None, resize, "mini_imagenet")
    return pack, list(census_of(pack, counts, seen, listing, by_rank, NOMINAL))


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


def _slots(classes: Mapping[str, Sequence[int]], found: Sequence[Found]) -> list[Slot]:
    """Return the slot of each image, in the order of the source."""
    slots = {
        number: Slot(name, found[number].name, row, column)
        for row, (name, numbers) in enumerate(classes.items())
        for column, number in enumerate(numbers)
    }
    return [slots[number] for number in range(len(found))]
