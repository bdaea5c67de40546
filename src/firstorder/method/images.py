"""The images of a pool of classes on the device, and the mini-batches of tasks gathered from them by index.

Images are stored as uint8 and converted to floating point only when they are gathered, or later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from firstorder.method.tasks import Indices, Tasks


@dataclass(frozen=True)
class Pixels:
    """Images as they are stored: uint8 `values` [..., channels, height, width], in [0, 1] once divided by `scale`."""

    values: Tensor
    scale: int

    def __getitem__(self, key: Any) -> Pixels:
        """Return some of the images."""
        return Pixels(self.values[key], self.scale)

    def to(self, dtype: torch.dtype) -> Tensor:
        """Return the images in [0, 1]."""
        taken = self.values.to(dtype)
        return taken if self.scale == 1 else taken / self.scale


@dataclass(frozen=True)
class ImagePool:
    """All images of a pool of classes: uint8 [classes * images per class, channels, height, width].

    If classes have different numbers of images, `class_images` has one number per class and every class is padded to
    the largest. Dividing a pixel by `scale` brings it into [0, 1].
    """

    images: Tensor
    class_images: int | tuple[int, ...]
    scale: int
    turns: int = 1  # rotated copies of each class; a task uses one of them

    @staticmethod
    def of(
        images: np.ndarray[Any, np.dtype[np.uint8]],
        scale: int,
        device: torch.device,
        turns: int = 1,
        counts: tuple[int, ...] | None = None,
    ) -> ImagePool:
        """Move uint8 [classes, images, channels, height, width] to the device; `counts` if classes differ in size."""
        flat = torch.from_numpy(np.ascontiguousarray(images)).flatten(0, 1).to(device)
        return ImagePool(flat, counts or images.shape[1], scale, turns)

    @property
    def classes(self) -> int:
        """Number of classes, not counting rotated copies."""
        stride = self.class_images if isinstance(self.class_images, int) else max(self.class_images)
        return len(self.images) // (stride * self.turns)

    def pixels(self, positions: Indices | Tensor) -> Pixels:
        """Return the images at `positions` as they are stored: [*positions.shape, channels, height, width]."""
        if not isinstance(positions, Tensor):
            positions = torch.from_numpy(positions).to(self.images.device)
        taken = self.images.index_select(0, positions.flatten())  # on a CPU [positions] copies byte by byte
        return Pixels(taken.view(*positions.shape, *self.images.shape[1:]), self.scale)

    def take(self, positions: Indices | Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the images at `positions`: [*positions.shape, channels, height, width] in [0, 1]."""
        return self.pixels(positions).to(dtype)


@dataclass(frozen=True)
class TaskImages:
    """The images of several tasks, one task per lane.

    `batches[s]` is the mini-batch of inner step s: (images [lanes, batch, ...], labels [lanes, batch]), or an
    engine's own form of it. `support` [lanes, way * support, ...] and `query` [lanes, way * query, ...] are sorted by
    label; `labels` [lanes, way * query] are the query labels.
    """

    batches: Sequence[Any]
    support: Tensor
    query: Tensor
    labels: Tensor


def mini_batches(pool: ImagePool, tasks: Tasks, dtype: torch.dtype | None = torch.float32) -> list[tuple[Any, Tensor]]:
    """Gather the mini-batches of all lanes: (images or, without `dtype`, Pixels, labels) for each inner step."""
    images: Any = pool.pixels(tasks.batches) if dtype is None else pool.take(tasks.batches, dtype)
    labels = torch.from_numpy(tasks.batch_labels).to(pool.images.device)
    return [(images[:, step], labels[:, step]) for step in range(labels.shape[1])]


def query_images(pool: ImagePool, tasks: Tasks, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Gather the query images of all lanes and their labels: [lanes, way * query, ...]."""
    images = pool.take(tasks.query, dtype)
    return images, query_labels(images, tasks.way)


def query_labels(images: Tensor, way: int) -> Tensor:
    """Return the labels of query images [lanes, way * query, ...], which are sorted by label."""
    queries = images.shape[1]
    return (torch.arange(queries, device=images.device) // max(queries // way, 1)).expand(len(images), -1)


def task_images(pool: ImagePool, tasks: Tasks, dtype: torch.dtype = torch.float32, stored: bool = False) -> TaskImages:
    """Gather the images and labels that an evaluation needs; of mini-batches `Pixels` if `stored`."""
    batches = mini_batches(pool, tasks, None if stored else dtype)
    return TaskImages(batches, pool.take(tasks.support, dtype), *query_images(pool, tasks, dtype))
