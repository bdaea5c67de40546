"""Packed image data sets: one npz file per data set, and the pools of classes that a training draws from.

A pack holds all classes, unrotated and sorted by name. Which of them are meta-training depends on the training's seed,
so the split is made when a pack is loaded, not when it is written. Rotated classes exist in meta-training only, because
the authors' omniglot.py adds them after splitting.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from firstorder.data.arrays import DAMAGED, is_text, read_arrays
from firstorder.errors import UserError
from firstorder.files import is_about_access, replacing, unreadable
from firstorder.settings import DatasetSettings

ARRAYS = ("images", "class_names", "scale", "digest", "counts", "resize", "source", "split")
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
    # What made it, as DatasetSettings.packing; not part of the content. None: what packs were before they named it.
    resize: str | None = None
    source: str | None = None
    split: str | None = None  # of a folder's classes: seed, folders or lists

    def __post_init__(self) -> None:
        """Raise ValueError if the counts do not fit the images: equal content must have equal digests."""
        if self.counts is None:
            return
        if len(self.counts) != len(self.images) or not 1 <= min(self.counts) < max(self.counts) == self.images.shape[1]:
            raise ValueError("counts must be one a class, not all the same, and the largest the images' axis")

    @property
    def packing(self) -> dict[str, str | None]:
        """What made it. A pack that does not say was resized by `nearest`, then the only way, and its names tell more.

        A split in them is mini-ImageNet's, a code point is a glyph's. Omniglot's pack never names its source, so that
        it keeps the bytes whose MD5 is in Git.
        """
        first = self.class_names[0]
        told = "mini_imagenet" if first.startswith(("test/", "train/", "val/")) else "omniglot"
        source = self.source or ("glyphs" if re.search("/[0-9A-F]{4,5}$", first) else told)
        made = {"source": source, "resize": self.resize or ("nearest" if source == "mini_imagenet" else None)}
        if source == "folder":
            made |= {"split": self.split, "images": "x".join(map(str, self.images.shape[2:]))}
        return made

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
    texts = ("resize", "source", "split")
    arrays |= {name: np.array(text) for name in texts if (text := getattr(pack, name)) is not None}
    save: Callable[..., None] = np.savez_compressed if pack.scale == 1 else np.savez
    # Through a link, such as one to a larger disk, not in its place; but never into DVC's cache.
    real = Path(os.path.realpath(path))
    target = path if _IN_CACHE.search(real.as_posix()) else real
    with replacing(target) as part, part.open("wb") as file:
        save(file, **arrays)


def read_pack(path: Path, settings: DatasetSettings | None = None, options: str = "") -> tuple[Pack, str]:
    """Read a pack and its content digest, which is checked.

    Raises UserError if the file is missing, not a pack, its content does not match its digest, or what made it differs
    from these settings (Pack.packing). The command that makes it again is told with `options`, such as --params FILE.
    """
    is_yours = settings is not None and settings.is_yours
    command = f"firstorder {f'data {path.stem} --source PATH' if is_yours else f'pack {path.stem}'}{options}"
    again = f"delete it and make it again with: {command}"
    try:
        arrays = read_arrays(path, ARRAYS)
        pack, claimed = _pack_of(arrays), str(arrays["digest"])
    except FileNotFoundError:
        raise UserError(f"{path}: no such packed data set; make it with: {command}") from None
    except DAMAGED as error:
        if isinstance(error, OSError) and is_about_access(error):
            raise unreadable(path, error, "a packed data set") from None
        raise UserError(f"{path}: not a whole packed data set ({str(error)[:200]}); {again}") from None
    found = pack.digest()
    if found != claimed:
        raise UserError(f"{path}: content digest is {found[:16]}..., the file claims {claimed[:16]}...; {again}")
    if settings is not None and pack.packing != settings.packing:
        was, wanted = (
            ", ".join(f"{key} {value}" for key, value in of.items() if value) for of in (pack.packing, settings.packing)
        )
        raise UserError(f"{path}: packed with {was}, params.yaml says {wanted}; make it again with: {command}")
    return pack, found


def _pack_of(arrays: Mapping[str, np.ndarray[Any, Any]]) -> Pack:
    """Return the pack that arrays describe; raises KeyError or ValueError if they describe none."""
    images, names, scale = (arrays[name] for name in ("images", "class_names", "scale"))
    counts, *texts = (arrays.get(name) for name in ("counts", "resize", "source", "split"))
    if images.dtype != np.uint8 or images.ndim != 5 or 0 in images.shape:
        raise ValueError(f"images are {images.dtype} {images.shape}, expected uint8 of five axes")
    if not all(is_text(array) for array in (names, arrays["digest"], *texts) if array is not None):
        raise ValueError("a text with characters that do not exist")
    if names.shape != images.shape[:1]:
        raise ValueError(f"class names are {names.dtype} {names.shape}, expected one for each class")
    if (names[1:] <= names[:-1]).any():
        raise ValueError("class names are not sorted and distinct")
    if scale.dtype.kind not in "iu" or scale.shape != () or not 1 <= scale <= 255:
        raise ValueError("scale is none of 1 to 255")
    if scale < 255 and images.max() > scale:
        raise ValueError(f"values up to {images.max()}, expected at most the scale, {scale}")
    if counts is not None and (counts.dtype.kind not in "iu" or counts.ndim != 1):
        raise ValueError("counts are no whole numbers")
    return Pack(
        images,
        tuple(names.tolist()),
        int(scale),
        None if counts is None else tuple(counts.tolist()),
        *(None if text is None else str(text) for text in texts),
    )


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
    if settings.meta_train_classes is None:
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

    rotations = settings.rotations or (0,)
    height, width = images.shape[-2:]
    if height != width and any(degrees % 180 for degrees in rotations):
        raise UserError(
            f"the packed data set has images of {height}x{width}, which rotations cannot turn; pack it again"
        )

    def rotated(chosen: list[int]) -> Images:
        shown = images[chosen, : max(_counts(pack, chosen))]
        return np.concatenate([np.rot90(shown, k=degrees // 90, axes=(-2, -1)) for degrees in rotations])

    test, turned = rest[left_out:], settings.rotate == "tasks"
    copies = {"meta_train": train * (1 if turned else len(rotations)), "meta_test": test}
    counts = {name: found for name, chosen in copies.items() if min(found := _counts(pack, chosen)) < max(found)}
    if turned:
        return Pools(rotated(train), rotated(test), pack.scale, turns=len(rotations), counts=counts)
    return Pools(rotated(train), images[test, : max(_counts(pack, test))], pack.scale, counts=counts)


def _counts(pack: Pack, chosen: Sequence[int]) -> tuple[int, ...]:
    """Return the number of images of each of the chosen classes."""
    return tuple(pack.counts[place] if pack.counts else pack.images.shape[1] for place in chosen)


def meta_test_names(pack: Pack, settings: DatasetSettings, seed: int) -> list[str]:
    """Name the classes of the pool `meta_test` of make_pools, in its order, without rotated copies."""
    if settings.meta_train_classes is None:
        return [name for name in pack.class_names if name.startswith("test/")]
    split_seed = seed if settings.split_seed is None else settings.split_seed
    _, rest = split_classes(len(pack.class_names), settings.meta_train_classes, split_seed)
    return [pack.class_names[place] for place in rest[settings.meta_validation_classes or 0 :]]


def pools_by_name(pack: Pack) -> Pools:
    """Split a pack whose class names begin with train/, val/ or test/; the pools are views, not copies.

    A folder of one's own needs no val/. Raises UserError if a class belongs to none of the three, or one of the three
    has no class.
    """
    pools: dict[str, Images] = {}
    counts = {}
    for pool, prefix in (("meta_train", "train/"), ("meta_validation", "val/"), ("meta_test", "test/")):
        places = [place for place, name in enumerate(pack.class_names) if name.startswith(prefix)]
        if not places and pack.source == "folder" and pool == "meta_validation":
            continue
        if not places:
            raise UserError(
                f"the packed data set has no class {prefix}...; make it again with: firstorder data NAME --source PATH"
            )
        chosen, of_classes = slice(places[0], places[-1] + 1), _counts(pack, places)  # names are sorted
        pools[pool] = pack.images[chosen, : max(of_classes)]
        if min(of_classes) < max(of_classes):
            counts[pool] = of_classes
    if sum(map(len, pools.values())) != len(pack.class_names):
        raise UserError("the packed data set has classes outside train/, val/ and test/; pack it again")
    train, test = pools["meta_train"], pools["meta_test"]
    return Pools(train, test, pack.scale, meta_validation=pools.get("meta_validation"), counts=counts)


def same_pools(one: Pools, other: Pools) -> bool:
    """Say whether two splits of a pack have the same images in the same order."""
    return (
        (one.scale, one.turns, one.counts) == (other.scale, other.turns, other.counts)
        and np.array_equal(one.meta_train, other.meta_train)
        and np.array_equal(one.meta_test, other.meta_test)
    )
