"""The made-up numbers of a recording: start values and images, and what is kept of a large array. Only NumPy.

The side that records and the side that repeats draw them from the seed, so a recording need not contain them. Only the
raw 64-bit outputs of Philox are used, which NumPy keeps stable between versions.
"""

from __future__ import annotations

import functools
import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

BLOCKS = 4
POOL_SEED, START_SEED = 11, 7
PROJECTIONS = 64  # numbers that are kept of an array with more entries than that


@dataclass(frozen=True)
class Sizes:
    """What a network's variables and images are made of."""

    side: int
    channels: int
    filters: int
    features: int  # that enter the dense layer
    scale: bool  # batch normalisation has one


SIZES = {
    "omniglot": Sizes(side=28, channels=1, filters=64, features=256, scale=True),
    "mini_imagenet": Sizes(side=84, channels=3, filters=32, features=1152, scale=True),
    "omniglot_finn": Sizes(side=28, channels=1, filters=64, features=64, scale=False),
    "mini_imagenet_finn": Sizes(side=84, channels=3, filters=32, features=800, scale=False),
}


def raw(count: int, seed: int, purpose: str) -> Array:
    """Return random 64-bit integers of the generator for (seed, purpose)."""
    return np.random.Philox(key=np.array([seed, zlib.crc32(purpose.encode())], np.uint64)).random_raw(count)


def uniform(shape: tuple[int, ...], seed: int, purpose: str, limit: float) -> Array:
    """Return random numbers between -limit and limit."""
    drawn = (raw(math.prod(shape), seed, purpose) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return (2 * drawn - 1).reshape(shape) * limit


def shapes(network: str, way: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each variable in TensorFlow's layout: kernels [3, 3, in, out], dense [in, out]."""
    sizes, found = SIZES[network], {}
    for block, channels in enumerate([sizes.channels] + [sizes.filters] * (BLOCKS - 1), start=1):
        found[f"convolution{block}.kernel"] = (3, 3, channels, sizes.filters)
        found[f"convolution{block}.bias"] = (sizes.filters,)
        if sizes.scale:
            found[f"normalisation{block}.scale"] = (sizes.filters,)
        found[f"normalisation{block}.shift"] = (sizes.filters,)
    return found | {"dense.kernel": (sizes.features, way), "dense.bias": (way,)}


def start(network: str, way: int, seed: int) -> dict[str, Array]:
    """Draw the start value of each variable, in float64 but exact in float32.

    Kernels are Glorot uniform. Biases and shifts are not 0 and scales are not 1, so that an error in them shows.
    """
    values = {}
    for name, shape in shapes(network, way).items():
        fans = math.prod(shape[:-2]) * (shape[-2] + shape[-1]) if len(shape) > 1 else 1
        limit = math.sqrt(6 / fans) if name.endswith("kernel") else 0.1
        values[name] = uniform(shape, seed, name, limit) + name.endswith("scale")
    return {name: value.astype(np.float32).astype(np.float64) for name, value in values.items()}


def images(network: str, classes: int, per_class: int, seed: int) -> Array:
    """Draw images uint8 [classes * per_class, side, side] or [..., side, side, 3], class after class."""
    return (drawings if SIZES[network].channels == 1 else noise)(classes, per_class, seed)


def drawings(classes: int, per_class: int, seed: int) -> Array:
    """Draw black-and-white images, ink 0 and paper 1: three strokes a class, whose points move from image to image."""
    side = SIZES["omniglot"].side
    points = uniform((classes, 1, 3, 3, 2), seed, "strokes", 10) + (side - 1) / 2
    points = points + uniform((classes, per_class, 3, 3, 2), seed, "moved strokes", 1.5)
    along = np.linspace(0, 1, 33)[:, None]
    lines = points[..., :-1, None, :] * (1 - along) + points[..., 1:, None, :] * along
    lines = lines.reshape(classes * per_class, -1, 2)
    grid = np.arange(side)
    pixels = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 1, 2)
    inked = [(((pixels - line) ** 2).sum(axis=-1) <= 0.8).any(axis=1) for line in lines]
    return 1 - np.array(inked, np.uint8).reshape(-1, side, side)


def noise(classes: int, per_class: int, seed: int) -> Array:
    """Draw coloured images: a pattern of coarse squares for each class, mixed with noise of single pixels."""
    side, square = SIZES["mini_imagenet"].side, 12
    patterns = _bytes((classes, 1, side // square, side // square, 3), seed, "patterns")
    coarse = patterns.repeat(square, axis=2).repeat(square, axis=3)
    fine = _bytes((classes, per_class, side, side, 3), seed, "noise")
    return ((coarse.astype(np.uint16) + fine) // 2).astype(np.uint8).reshape(-1, side, side, 3)


def _bytes(shape: tuple[int, ...], seed: int, purpose: str) -> Array:
    return (raw(math.prod(shape), seed, purpose) >> np.uint64(56)).astype(np.uint8).reshape(shape)


def kept(name: str, values: Array) -> Array:
    """Return what a recording keeps of a variable: all of a small one, random projections of a large one.

    Each of the PROJECTIONS numbers is a sum of all entries with random signs, divided by sqrt(PROJECTIONS). The
    Euclidean distance between two arrays is thereby kept to about 9 %, the standard deviation 1 / sqrt(128).
    """
    flat = np.asarray(values, np.float64).reshape(-1)
    if flat.size <= PROJECTIONS:
        return flat
    return flat @ signs(name, flat.size) / math.sqrt(PROJECTIONS)


@functools.lru_cache(maxsize=2 * BLOCKS)
def signs(name: str, size: int) -> Array:
    """Draw the random signs of a variable's projections: 1 or -1, [size, PROJECTIONS]."""
    bits = np.unpackbits(raw(size, 0, f"signs of {name}").astype("<u8").view(np.uint8))
    return 2.0 * bits.reshape(-1, PROJECTIONS) - 1
