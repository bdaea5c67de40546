"""The three cache pickles in which mini-ImageNet is often distributed: one per split, with pixels instead of files."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from firstorder.data import safe_pickle
from firstorder.data.image_sources import DOWNLOAD_AGAIN
from firstorder.data.packs import Images
from firstorder.errors import UserError

NAMES = tuple(f"mini-imagenet-cache-{split}.pkl" for split in ("train", "val", "test"))
OTHER_NAMES = {"mini-imagenet-cache-validation.pkl": NAMES[1]}  # learn2learn's
MOST_IMAGES_OF_A_CLASS = 1300  # ILSVRC-2012 has no more


@dataclass(frozen=True)
class Cache:
    """One cache pickle: `images` uint8 [images, height, width, 3] and the class id of each."""

    images: Images
    class_ids: tuple[str, ...]


def is_cache(path: PurePath) -> bool:
    """Say whether a file has the name of one of the three pickles, in capitals or not."""
    return path.name.lower() in (*NAMES, *OTHER_NAMES)


def paths(source: Path) -> list[Path]:
    """Return the three pickles if `source` is or contains one of them; raises UserError if others are missing."""
    folder = source.parent if is_cache(source) else source
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if is_cache(path) and path.is_file():
            name = OTHER_NAMES.get(path.name.lower(), path.name.lower())
            if name in found:
                both = f"{found[name].name} and {path.name}"
                raise UserError(f"{folder}: has both {both}, expected one of them; take the other out")
            found[name] = path
    if found and len(found) < len(NAMES):
        missing = ", ".join(name for name in NAMES if name not in found)
        there = next(found[name].name for name in NAMES if name in found)
        raise UserError(f"{folder}: has {there} but not {missing}; the three belong together")
    return [found[name] for name in NAMES if name in found]


def read(path: Path, classes: Collection[str]) -> Cache:
    """Read one pickle: image_data uint8 [images, height, width, 3] and class_dict, id -> indices of its images.

    Keys may be bytes, as in a cache of Python 2 that was loaded with encoding="bytes" and saved again. Raises UserError
    if the pickle contains anything else.
    """
    cache = _with_text_keys(path, safe_pickle.read(path))
    images, of_class = (cache.get(key) if isinstance(cache, dict) else None for key in ("image_data", "class_dict"))
    if not isinstance(images, np.ndarray) or not isinstance(of_class, dict):
        raise UserError(f"{path}: expected a dict of image_data, an array, and class_dict, a dict; {DOWNLOAD_AGAIN}")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise UserError(
            f"{path}: image_data: expected uint8 [n, 84, 84, 3], found {images.dtype} {list(images.shape)}; "
            f"{DOWNLOAD_AGAIN}"
        )
    if len(images) > MOST_IMAGES_OF_A_CLASS * len(classes):
        raise UserError(
            f"{path}: image_data: has {len(images):,} images, expected at most {MOST_IMAGES_OF_A_CLASS:,} a class; "
            f"{DOWNLOAD_AGAIN}"
        )
    return Cache(images, _class_ids(path, _with_text_keys(path, of_class), len(images), classes))


def _class_ids(path: Path, of_class: dict[Any, Any], images: int, classes: Collection[str]) -> tuple[str, ...]:
    """Return the class id of each image; raises UserError unless `of_class` names each image once."""
    found: list[tuple[int, str]] = []
    for class_id, indices in of_class.items():
        if class_id not in classes:
            raise UserError(
                f"{path}: class {class_id[:40]!r} is not among the {len(classes)} of mini-ImageNet; take it out"
            )
        whole = isinstance(indices, np.ndarray) and indices.dtype.kind in "iu" and indices.size <= images
        numbers = indices.tolist() if whole else indices
        if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
            raise UserError(f"{path}: class_dict: {class_id}: expected a list of whole numbers; {DOWNLOAD_AGAIN}")
        found += [(number, class_id) for number in numbers]
        if len(found) > images:
            break  # one list may be used for many classes, so stop before the sum becomes huge
    found.sort()
    if [number for number, _ in found] != list(range(images)):
        raise UserError(f"{path}: class_dict must name each of the {images:,} images once; {DOWNLOAD_AGAIN}")
    return tuple(class_id for _, class_id in found)


def _with_text_keys(path: Path, value: Any) -> Any:
    """Return a dict with its bytes keys decoded, one character per byte; anything else unchanged.

    Raises UserError if a key is there both as text and as bytes.
    """
    if not isinstance(value, dict):
        return value
    decoded = {key.decode("latin1") if isinstance(key, bytes) else key: each for key, each in value.items()}
    if len(decoded) < len(value):
        twice = next(key for key in value if isinstance(key, bytes) and key.decode("latin1") in value)
        raise UserError(f"{path}: has the key {twice.decode('latin1')!r} twice, as text and as bytes; {DOWNLOAD_AGAIN}")
    return decoded
