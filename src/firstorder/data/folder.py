"""A data set of your own images: one folder for each class, at any depth, decoded into a pack, with a census.

A class is a folder that holds images; its name in the pack is its path below the folder that is named. Three things are
easily wrong. A folder with images must have no subfolder with images, because either could be the class. Two folders
of one name, such as `a/cat` and `b/cat`, may be one class in two places or two classes, so that has to be said. A
class needs two images: one to adapt to and one to be judged. What is an image is decided as for every other set
(image_files.is_image).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from firstorder.data.arrays import LARGEST_ARRAY_BYTES
from firstorder.data.census import CensusRow, Seen, Slot, census_of
from firstorder.data.folder_classes import Classes, opened
from firstorder.data.folder_splits import split
from firstorder.data.image_sources import Form, Found, pixels_of
from firstorder.data.packs import Pack
from firstorder.errors import UserError, shown
from firstorder.progress import Track, silent
from firstorder.settings import DatasetSettings

FEWEST_IMAGES = 2  # of a class
RAW = "raw/{dataset}"  # where the images lie if --source is not given, below the folder of data


def make_pack(
    source: Path, settings: DatasetSettings, lists: Path | None = None, track: Track = silent
) -> tuple[Pack, list[CensusRow]]:
    """Decode every image of `source` into a pack uint8 [classes, images, channels, size, size] and take a census.

    `source` is a folder, zip or tar of class folders. Classes are sorted by name, images of a class by file name. A
    class with fewer images than the largest is padded with zeros, which Pack.counts excludes. `lists` is the folder of
    train.txt, test.txt and perhaps val.txt, for `split: lists`.

    Raises UserError, naming the place, for images that are damaged, of more than 8 bits a channel, of another size
    without `resize`, or of no class; for a class of one image, a class twice, too few classes; for links within the
    source; and if the pack would have more bytes than are read.
    """
    assert settings.size is not None, "checked with the settings"
    assert settings.channels is not None, "checked with the settings"
    with opened(source, by_path=settings.class_names == "path") as listed:
        classes = split(listed, settings, lists, source)
        _check_counts(classes, settings, source)
        counts = tuple(map(len, classes.values()))
        shape = (len(classes), max(counts), settings.channels, settings.size, settings.size)
        _check_bytes(shape, classes, source)
        images, seen = np.zeros(shape, np.uint8), Seen()
        form = Form(settings.size, settings.channels, settings.resize, flat=True)
        with track("images", sum(counts), "images") as bar:
            for slot, image in _in_order_of_source(classes, listed):
                pixels = pixels_of(image, form, seen.sizes)
                images[slot.row, slot.column] = pixels.transpose(2, 0, 1)
                seen.by_pixels[hashlib.sha256(pixels.tobytes()).digest()].append(slot)
                bar.advance()
    differ = min(counts) < max(counts)
    pack = Pack(
        images, tuple(classes), 255, counts if differ else None, settings.resize, "folder", settings.split or "seed"
    )
    return pack, list(census_of(pack, counts, seen, listed.listing, {}))


def _check_counts(classes: Mapping[str, Sequence[Found]], settings: DatasetSettings, source: Path) -> None:
    for name, images in classes.items():
        if len(images) < FEWEST_IMAGES:
            raise UserError(
                f"{source}: {shown(name)}: a class of {len(images)} image; expected at least {FEWEST_IMAGES}, one to "
                "adapt to and one to be judged; add images or take the folder out"
            )
    train, left_out = settings.meta_train_classes or 0, settings.meta_validation_classes or 0
    if settings.split is None and len(classes) <= train + left_out:
        raise UserError(
            f"{source}: has {len(classes)} classes, params.yaml wants {train} for meta-training and {left_out} for "
            "meta-validation, which leaves none for meta-test; lower meta_train_classes"
        )


def _check_bytes(shape: tuple[int, ...], classes: Mapping[str, Sequence[Found]], source: Path) -> None:
    size = int(np.prod([float(axis) for axis in shape]))
    if size > LARGEST_ARRAY_BYTES - (1 << 20):
        largest = max(classes, key=lambda name: len(classes[name]))
        raise UserError(
            f"{source}: would pack to {size / 2**30:.1f} GiB, as every class gets the place of the largest, "
            f"{shown(largest)} of {shape[1]:,} images; at most {LARGEST_ARRAY_BYTES >> 30} GiB are read: lower size "
            "or take images out"
        )


def _in_order_of_source(classes: Mapping[str, Sequence[Found]], listed: Classes) -> list[tuple[Slot, Found]]:
    """Return the images with their slots, as they come in the source: a compressed tar is read once."""
    placed = {
        id(image): (Slot(name, image.name, row, column), image)
        for row, (name, images) in enumerate(classes.items())
        for column, image in enumerate(images)
    }
    return [placed[id(image)] for image in listed.listing.images if id(image) in placed]
