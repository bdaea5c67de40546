"""Checks the arrays that a user of the library gives, and makes of them what the method takes.

Wrong types raise TypeError; wrong shapes, ranges and values raise ValueError. Both say what was expected and found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, Any] | Tensor
Images = np.ndarray[Any, np.dtype[np.uint8]]
BYTE = 255


@dataclass(frozen=True)
class Classes:
    """Classes of images for a pool: uint8 [classes, images, channels, size, size], their scale, and counts.

    `counts` is None if all classes have the same number of images; else images behind a class's count are 0.
    """

    images: Images
    scale: int
    counts: tuple[int, ...] | None


def _numbers(value: object, what: str) -> np.ndarray[Any, Any]:
    """Return an array or tensor as a NumPy array on the CPU; raises TypeError for anything else."""
    if isinstance(value, Tensor):
        return np.asarray(value.detach().cpu().float() if value.dtype == torch.bfloat16 else value.detach().cpu())
    if isinstance(value, np.ndarray):
        return value
    raise TypeError(f"{what}: expected a NumPy array or a torch tensor, found {type(value).__name__}")


def images_of(value: object, what: str, expected: tuple[int, int, int]) -> Tensor:
    """Return images as float32 [images, channels, height, width] in [0, 1].

    `expected` is the shape of one image. Raises TypeError for another type than floating point, bool or uint8, and
    ValueError for another shape, no images, values out of range or not finite, or uint8 that ends at 1.
    """
    array = _numbers(value, what)
    if array.ndim == 3 and expected[0] == 1:
        array = array[:, None]
    if array.ndim != 4 or array.shape[1:] != expected or not len(array):
        sizes = ", ".join(map(str, expected))
        raise ValueError(f"{what}: expected shape [images, {sizes}] with at least one image, found {[*array.shape]}")
    if array.dtype == np.uint8:
        _check_bytes(array, what)
        array = array.astype(np.float32) / BYTE
    elif array.dtype != np.bool_:
        _check_fractions(array, what)
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _check_bytes(array: np.ndarray[Any, Any], what: str) -> None:
    if array.size and array.max() == 1:
        raise ValueError(
            f"{what}: uint8 goes from 0 to {BYTE}, these end at 1; give black and white as bool, or multiply by {BYTE}"
        )


def _check_fractions(array: np.ndarray[Any, Any], what: str) -> None:
    if not np.issubdtype(array.dtype, np.floating):
        raise TypeError(f"{what}: expected floating point in [0, 1], bool, or uint8, found {array.dtype}")
    if not np.isfinite(array).all():
        raise ValueError(f"{what}: has values that are not finite")
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(
            f"{what}: expected values in [0, 1], found {array.min():g} to {array.max():g}; divide bytes by {BYTE}"
        )


def labels_of(value: object, what: str, images: int, way: int) -> Tensor:
    """Return labels as int64 [images], each from 0 to way - 1 and each of these at least once.

    Raises TypeError for labels that are no whole numbers, and ValueError for another number of them, labels out of
    range, or a class without an image.
    """
    array = _numbers(np.asarray(value) if isinstance(value, list | tuple | range) else value, what)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{what}: expected whole numbers from 0 to {way - 1}, found {array.dtype}")
    if array.shape != (images,):
        raise ValueError(f"{what}: expected one label an image, {images}, found shape {[*array.shape]}")
    if array.min() < 0 or array.max() >= way:
        raise ValueError(f"{what}: expected 0 to {way - 1}, found {array.min()} to {array.max()}")
    if absent := sorted(set(range(way)) - set(array.tolist())):
        raise ValueError(f"{what}: no image has label {absent[0]}; each of the {way} classes needs at least one")
    return torch.from_numpy(array.astype(np.int64))


def classes_of(value: Array | Sequence[Array], what: str) -> Classes:
    """Return classes of images, as stored: bytes with scale 255, or black and white with scale 1.

    Takes [classes, images, channels, size, size], or a sequence of [images, channels, size, size], or both without the
    channels. Floating point must be whole bytes divided by 255, since images are stored as bytes. Raises TypeError and
    ValueError as the functions above, and ValueError for classes of different shapes or images that are not square.
    """
    arrays = [_numbers(one, f"{what}[{number}]") for number, one in enumerate(value)]
    if len(arrays) < 2:
        raise ValueError(f"{what}: expected at least 2 classes, found {len(arrays)}")
    arrays = [one[:, None] if one.ndim == 3 else one for one in arrays]
    for number, one in enumerate(arrays):
        if one.ndim != 4 or len(one) < 2 or one.shape[2] != one.shape[3] or one.shape[1:] != arrays[0].shape[1:]:
            raise ValueError(
                f"{what}[{number}]: expected shape [images, channels, size, size] with at least 2 images, of one size "
                f"in all classes, found {[*one.shape]}; the first class has {[*arrays[0].shape]}"
            )
        if one.dtype != arrays[0].dtype:
            raise TypeError(f"{what}[{number}]: is {one.dtype}, the first class {arrays[0].dtype}; give all the same")
    is_black_and_white = arrays[0].dtype == np.bool_
    stored = [_bytes(one, f"{what}[{number}]") for number, one in enumerate(arrays)]
    counts = tuple(map(len, stored))
    images = np.zeros((len(stored), max(counts), *stored[0].shape[1:]), np.uint8)
    for row, one in zip(images, stored, strict=True):
        row[: len(one)] = one
    return Classes(images, 1 if is_black_and_white else BYTE, counts if min(counts) < max(counts) else None)


def _bytes(array: np.ndarray[Any, Any], what: str) -> Images:
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    if array.dtype == np.uint8:
        return array
    _check_fractions(array, what)
    whole = np.rint(array.astype(np.float64) * BYTE)
    if np.abs(whole / BYTE - array).max(initial=0) > 1e-4:
        raise ValueError(
            f"{what}: images are stored as bytes, and these are not bytes divided by {BYTE}; round them: "
            f"(images * {BYTE}).round().astype('uint8')"
        )
    stored: Images = whole.astype(np.uint8)
    return stored
