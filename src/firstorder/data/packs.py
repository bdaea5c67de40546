"""Packed image data sets: one npz file per data set, and the pools of classes that a training draws from.

A pack holds all classes, unrotated and sorted by name. Which of them are meta-training depends on the training's seed,
so the split is made when a pack is loaded, not when it is written. Rotated classes exist in meta-training only, because
the authors' omniglot.py adds them after splitting.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
import re
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from firstorder.errors import UserError
from firstorder.files import is_about_access, open_regular, replacing, unreadable
from firstorder.settings import DatasetSettings

# What NumPy and zipfile raise for a damaged npz. TypeError: it is an npy file. SyntaxError and TokenError: NumPy parses
# the header of an array as Python.
NUMPY = (
    OSError,
    ValueError,
    OverflowError,
    KeyError,
    EOFError,
    TypeError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
)
DAMAGED = (*NUMPY, zipfile.BadZipFile, zlib.error, struct.error)

ARRAYS = ("images", "class_names", "scale", "digest", "counts", "resize")
LARGEST_ARRAY_BYTES = 4 << 30  # mini-ImageNet has 1.3 GB
# Above FREE_BYTES, an array may be compressed at most so many times; drawings are about twenty times.
LARGEST_RATIO, FREE_BYTES = 200, 64 << 20
_IN_CACHE = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")

Images = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Pack:
    """A data set: `images` uint8 [classes, images, channels, height, width] and sorted names of the classes.

    Pixel values range from 0 to `scale`; networks get `images / scale`. If classes have different numbers of images,
    `counts` says how many each has; the images after those are zero and never drawn.
    """

    images: Images
    class_names: tuple[str, ...]
    scale: int
    counts: tuple[int, ...] | None = None
    resize: str | None = None  # how images of other sizes were resized; not part of the content

    def __post_init__(self) -> None:
        """Raise ValueError if the counts do not fit the images: equal content must have equal digests."""
        if self.counts is None:
            return
        if len(self.counts) != len(self.images) or not 1 <= min(self.counts) < max(self.counts) == self.images.shape[1]:
            raise ValueError("counts must be one a class, not all the same, and the largest the images' axis")

    def digest(self) -> str:
        """Return the SHA-256 of the content: names, shape, scale, counts and pixels in canonical order."""
        sha = hashlib.sha256()
        sha.update("\n".join(self.class_names).encode())
        sha.update(repr((self.images.shape, self.scale)).encode())
        if self.counts is not None:
            sha.update(repr(self.counts).encode())
        sha.update(np.ascontiguousarray(self.images).data)
        return sha.hexdigest()


@dataclass(frozen=True)
class Pools:
    """The classes of one seed: uint8 [classes, images, channels, height, width] for each phase."""

    meta_train: Images
    meta_test: Images
    scale: int
    turns: int = 1  # rotated copies of each class in both pools; a task draws one of them
    meta_validation: Images | None = None  # if the data set has such classes
    # Images of each class, by the names of the pools above, if the classes of a pool differ.
    counts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def write_pack(path: Path, pack: Pack) -> None:
    """Write a pack and its digest (the same bytes for the same content).

    Black-and-white drawings are compressed. Photographs are not: they would hardly shrink, and a gigabyte of them is
    read in seconds.
    """
    if list(pack.class_names) != sorted(set(pack.class_names)):
        raise ValueError("class names must be sorted and distinct")
    arrays = {
        "images": pack.images,
        "class_names": np.array(pack.class_names),
        "scale": np.array(pack.scale),
        "digest": np.array(pack.digest()),
    }
    if pack.counts is not None:
        arrays["counts"] = np.array(pack.counts)
    if pack.resize is not None:
        arrays["resize"] = np.array(pack.resize)
    save: Callable[..., None] = np.savez_compressed if pack.scale == 1 else np.savez
    # Through a link, such as one to a larger disk, not in its place; but never into DVC's cache.
    real = Path(os.path.realpath(path))
    target = path if _IN_CACHE.search(real.as_posix()) else real
    with replacing(target) as part, part.open("wb") as file:
        save(file, **arrays)


def read_pack(path: Path, resize: str | None = None) -> tuple[Pack, str]:
    """Read a pack and its content digest, which is checked.

    Raises UserError if the file is missing, not a pack, its content does not match its digest, or it was made with
    another `resize` than this one. Packs that do not name theirs were made with `nearest`, then the only choice.
    """
    again = f"delete it and make it again with: firstorder pack {path.stem}"
    try:
        arrays = read_arrays(path)
        pack, claimed = _pack_of(arrays), str(arrays["digest"])
    except FileNotFoundError:
        raise UserError(f"{path}: no such packed data set; make it with: firstorder pack {path.stem}") from None
    except DAMAGED as error:
        if isinstance(error, OSError) and is_about_access(error):
            raise unreadable(path, error, "a packed data set") from None
        raise UserError(f"{path}: not a whole packed data set ({str(error)[:200]}); {again}") from None
    found = pack.digest()
    if found != claimed:
        raise UserError(f"{path}: content digest is {found[:16]}..., the file claims {claimed[:16]}...; {again}")
    if resize is not None and resize != (pack.resize or "nearest"):
        raise UserError(
            f"{path}: packed with resize {pack.resize or 'nearest'}, params.yaml says {resize}; make it again with: "
            f"firstorder data {path.stem} --source PATH"
        )
    return pack, found


def _pack_of(arrays: Mapping[str, np.ndarray[Any, Any]]) -> Pack:
    """Return the pack that arrays describe; raises KeyError or ValueError if they describe none."""
    images, names, scale = (arrays[name] for name in ("images", "class_names", "scale"))
    counts, resize = arrays.get("counts"), arrays.get("resize")
    if images.dtype != np.uint8 or images.ndim != 5 or 0 in images.shape:
        raise ValueError(f"images are {images.dtype} {images.shape}, expected uint8 of five axes")
    if not all(_is_text(array) for array in (names, arrays["digest"], resize) if array is not None):
        raise ValueError("a text with characters that do not exist")
    if names.shape != images.shape[:1]:
        raise ValueError(f"class names are {names.dtype} {names.shape}, expected one for each class")
    if scale.dtype.kind not in "iu" or scale.shape != () or not 1 <= scale <= 255:
        raise ValueError("scale is none of 1 to 255")
    if scale < 255 and images.max() > scale:
        raise ValueError(f"values up to {images.max()}, expected at most the scale, {scale}")
    if counts is not None and (counts.dtype.kind not in "iu" or counts.ndim != 1):
        raise ValueError("counts are no whole numbers")
    made_with = None if resize is None else str(resize)
    return Pack(
        images, tuple(names.tolist()), int(scale), None if counts is None else tuple(counts.tolist()), made_with
    )


def _is_text(array: np.ndarray[Any, Any]) -> bool:
    """Say whether an array holds texts only: NumPy makes texts of any number, and Python cannot write all of them."""
    if array.dtype.kind != "U":
        return False
    codes = np.frombuffer(array.astype(array.dtype.newbyteorder("=")).tobytes(), np.uint32)
    return not ((codes >= 0x110000) | ((codes >= 0xD800) & (codes < 0xE000))).any()


def read_arrays(path: Path, names: Collection[str] = ARRAYS) -> dict[str, np.ndarray[Any, Any]]:
    """Read those of the arrays `names` that a pack has. An array gets only memory that the file can account for.

    Raises OSError or another of DAMAGED if the file cannot be read or is no whole pack.
    """
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        members = {name: f"{name}.npy" for name in names}
        there = set(archive.namelist())
        return {name: _array(archive, member) for name, member in members.items() if member in there}


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray[Any, Any]:
    info = archive.getinfo(name)
    size = info.file_size
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack without a bound
        raise ValueError(f"{name} is neither stored nor deflated")
    if size > LARGEST_ARRAY_BYTES or size > FREE_BYTES + LARGEST_RATIO * info.compress_size:
        raise ValueError(f"{name} unpacks to {size:,} bytes")
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in headers:
            raise ValueError(f"{name} is in format {version}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy warns about headers of Python 2
            shape, _, dtype = headers[version](member)
        if member.tell() + math.prod(shape) * dtype.itemsize != size:
            raise ValueError(f"{name} has {size:,} bytes, not those of {dtype} {shape}")
    with archive.open(info) as member:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array: np.ndarray[Any, Any] = np.lib.format.read_array(member, allow_pickle=False)
        if member.read(1):  # which also checks the checksum
            raise ValueError(f"{name} goes on after its end")
    return array


def split_classes(classes: int, meta_train_classes: int, seed: int) -> tuple[list[int], list[int]]:
    """Split class indices into meta-training and meta-test as the authors' code does for this seed.

    They call `random.seed(seed)` and shuffle the sorted list of characters. So with the same order of characters,
    meta-test has exactly the characters that they tested on.
    """
    order = list(range(classes))
    random.Random(seed).shuffle(order)
    return order[:meta_train_classes], order[meta_train_classes:]


def make_pools(pack: Pack, settings: DatasetSettings, seed: int) -> Pools:
    """Split a pack's classes by seed and add copies rotated counter-clockwise; or split by name if the split is fixed.

    Each rotation of a meta-training class is a class of its own. With `rotate: tasks`, both pools have the rotated
    copies, the copies of a class `classes` apart, and tasks draw one of them. Raises UserError if the pack has too few
    classes.
    """
    if settings.meta_train_classes is None or settings.rotations is None:
        return pools_by_name(pack)
    classes = len(pack.class_names)
    left_out = settings.meta_validation_classes or 0
    if classes <= settings.meta_train_classes + left_out:
        raise UserError(
            f"meta_train_classes is {settings.meta_train_classes}, but the packed data set has {classes} classes; "
            "lower it in params.yaml"
        )
    split_seed = seed if settings.split_seed is None else settings.split_seed
    train, rest = split_classes(classes, settings.meta_train_classes, split_seed)
    images = pack.scale - pack.images if settings.ink == 1 else pack.images

    rotations = settings.rotations

    def rotated(chosen: list[int]) -> Images:
        return np.concatenate([np.rot90(images[chosen], k=degrees // 90, axes=(-2, -1)) for degrees in rotations])

    test = rest[left_out:]
    if settings.rotate == "tasks":
        return Pools(rotated(train), rotated(test), pack.scale, turns=len(rotations))
    return Pools(rotated(train), images[test], pack.scale)


def meta_test_names(pack: Pack, settings: DatasetSettings, seed: int) -> list[str]:
    """Name the classes of the pool `meta_test` of make_pools, in its order, without rotated copies."""
    if settings.meta_train_classes is None or settings.rotations is None:
        return [name for name in pack.class_names if name.startswith("test/")]
    split_seed = seed if settings.split_seed is None else settings.split_seed
    _, rest = split_classes(len(pack.class_names), settings.meta_train_classes, split_seed)
    return [pack.class_names[place] for place in rest[settings.meta_validation_classes or 0 :]]


def pools_by_name(pack: Pack) -> Pools:
    """Split a pack whose class names begin with train/, val/ or test/; the pools are views, not copies.

    Raises UserError if a class belongs to none of the three, or one of the three has no class.
    """
    pools, counts = {}, {}
    for pool, prefix in (("meta_train", "train/"), ("meta_validation", "val/"), ("meta_test", "test/")):
        places = [place for place, name in enumerate(pack.class_names) if name.startswith(prefix)]
        if not places:
            raise UserError(
                f"the packed data set has no class {prefix}...; make it with: firstorder data mini-imagenet"
            )
        chosen = slice(places[0], places[-1] + 1)  # names are sorted
        of_classes = (pack.counts or (pack.images.shape[1],) * len(pack.class_names))[chosen]
        pools[pool] = pack.images[chosen, : max(of_classes)]
        if min(of_classes) < max(of_classes):
            counts[pool] = of_classes
    if sum(map(len, pools.values())) != len(pack.class_names):
        raise UserError("the packed data set has classes outside train/, val/ and test/; pack mini-ImageNet again")
    train, validation, test = pools.values()
    return Pools(train, test, pack.scale, meta_validation=validation, counts=counts)


def same_pools(one: Pools, other: Pools) -> bool:
    """Say whether two splits of a pack have the same images in the same order."""
    return (
        (one.scale, one.turns, one.counts) == (other.scale, other.turns, other.counts)
        and np.array_equal(one.meta_train, other.meta_train)
        and np.array_equal(one.meta_test, other.meta_test)
    )
