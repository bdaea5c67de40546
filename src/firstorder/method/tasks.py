"""Draw tasks and mini-batches as arrays of image indices.

No random state advances from draw to draw. Each task has its own counter-based generator, keyed by (seed, purpose) and
started at (outer step, task), so a draw depends on these four values only. Resuming therefore needs no generator state,
evaluating more often does not change the training, and tasks can be computed in any number and order. Only the raw
64-bit outputs of Philox are used: NumPy keeps them stable between versions, unlike its distributions.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from firstorder.errors import UserError

Indices = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, kw_only=True)
class TaskShape:
    """The sizes that determine what is drawn for a task."""

    pool_classes: int  # classes to choose from
    class_images: int | tuple[int, ...]  # images per class; a tuple with one number per class if they differ
    way: int
    support: int  # support images per class
    query: int  # query images per class; the query set shares no image with the support set
    inner_steps: int
    inner_batch_size: int
    sampling: str  # "cycle" or "replacement"
    turns: int = 1  # rotated copies of each class; copy t of class c is class c + t * pool_classes

    def __post_init__(self) -> None:
        """Raise UserError if a class has too few images or the pool too few classes."""
        images = self.support + self.query
        fewest = self.class_images if isinstance(self.class_images, int) else min(self.class_images)
        if images > fewest or self.way > self.pool_classes:
            raise UserError(
                f"cannot draw {self.way} classes x {images} images: the pool has {self.pool_classes} classes of "
                f"{fewest} images; lower way, shot or train_shot in params.yaml"
            )

    @property
    def stride(self) -> int:
        """Distance in the pool from the first image of a class to the first image of the next."""
        return self.class_images if isinstance(self.class_images, int) else max(self.class_images)


@dataclass(frozen=True, kw_only=True)
class Draws:
    """The tasks of an evaluation, numbered from 0; see `draw_task`. `title` is only shown as progress."""

    title: str
    shape: TaskShape
    seed: int
    purpose: str
    step: int
    tasks: int


@dataclass(frozen=True)
class Tasks:
    """Several tasks side by side, one per lane. An image is given by its position in the pool, class after class.

    `support` [lanes, way * support] and `query` [lanes, way * query] are sorted by label, from 0. `order`
    [lanes, steps, batch] indexes `support` and gives one mini-batch per inner step.
    """

    support: Indices
    query: Indices
    order: Indices
    way: int

    @property
    def batches(self) -> Indices:
        """Positions of the images of every mini-batch, [lanes, steps, batch]."""
        lanes = np.arange(len(self.order))[:, None, None]
        return self.support[lanes, self.order]

    @property
    def batch_labels(self) -> Indices:
        """Labels 0 to way - 1 of every mini-batch, [lanes, steps, batch]."""
        return self.order // (self.support.shape[1] // self.way)


def raw(count: int, seed: int, purpose: str, step: int = 0, task: int = 0) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Return the first `count` random 64-bit integers of the generator for (seed, purpose, step, task)."""
    key = np.array([seed, zlib.crc32(purpose.encode())], dtype=np.uint64)
    counter = np.array([0, 0, task, step], dtype=np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(count)


def uniforms(count: int, seed: int, purpose: str, step: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return `count` random numbers in [0, 1), multiples of 2^-53."""
    return (raw(count, seed, purpose, step) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def distinct(keys: np.ndarray[Any, np.dtype[np.uint64]], count: int) -> Indices:
    """Choose `count` distinct indices into random `keys`, in random order: those of the smallest keys."""
    chosen = np.argpartition(keys, count - 1)[:count] if count < len(keys) else np.arange(len(keys))
    return chosen[np.argsort(keys[chosen], kind="stable")].astype(np.int64)


def cycle(keys: np.ndarray[Any, np.dtype[np.uint64]], steps: int, batch: int) -> Indices:
    """Deal the shuffled support images out in mini-batches [steps, batch]; reshuffle when all have been used.

    `keys` [rounds, images] holds a random key for each image and round. A mini-batch that spans two rounds may
    contain an image twice, as in the authors' reptile.py.
    """
    order = np.argsort(keys, axis=1, kind="stable")
    return order.reshape(-1)[: steps * batch].reshape(steps, batch).astype(np.int64)


def replacement(keys: np.ndarray[Any, np.dtype[np.uint64]], steps: int, batch: int) -> Indices:
    """Draw each mini-batch independently from all support images, without repeats within it: [steps, batch]."""
    return np.argsort(keys, axis=1, kind="stable")[:steps, :batch].astype(np.int64)


SAMPLINGS = {"cycle": cycle, "replacement": replacement}


def draw_task(shape: TaskShape, seed: int, purpose: str, step: int, task: int) -> tuple[Indices, Indices, Indices]:
    """Draw one task: support [way * support], query [way * query] and order [steps, batch].

    Classes, and the images of a class, are chosen without replacement. Labels follow the order of the draw (the
    authors' reptile.py). If classes have rotated copies, one copy of each class is chosen for the whole task, as
    Finn et al. do.
    """
    support = shape.way * shape.support
    rounds = shape.inner_steps
    if shape.sampling == "cycle":
        rounds = -(-shape.inner_steps * shape.inner_batch_size // support)
    sizes = (shape.pool_classes, shape.way * shape.stride, rounds * support, shape.way)
    keys = np.split(raw(sum(sizes), seed, purpose, step, task), np.cumsum(sizes)[:-1])
    class_keys, image_keys, order_keys, turn_keys = keys
    classes = distinct(class_keys, shape.way)
    image_keys = image_keys.reshape(shape.way, -1)
    if not isinstance(shape.class_images, int):
        # Positions beyond the end of a smaller class get the largest key, so they sort last and are never drawn.
        absent = np.arange(shape.stride) >= np.array(shape.class_images)[classes, None]
        image_keys = np.where(absent, np.iinfo(np.uint64).max, image_keys)
    classes = classes + shape.pool_classes * (turn_keys % np.uint64(shape.turns)).astype(np.int64)
    chosen = np.argsort(image_keys, axis=1, kind="stable")[:, : shape.support + shape.query]
    positions = classes[:, None] * shape.stride + chosen
    order = SAMPLINGS[shape.sampling](order_keys.reshape(rounds, support), shape.inner_steps, shape.inner_batch_size)
    return positions[:, : shape.support].ravel(), positions[:, shape.support :].ravel(), order


def draw_tasks(shape: TaskShape, seed: int, purpose: str, step: int, tasks: range) -> Tasks:
    """Draw the tasks with these numbers of one step, each as `draw_task` does."""
    support, query, order = zip(*(draw_task(shape, seed, purpose, step, task) for task in tasks), strict=True)
    return Tasks(np.stack(support), np.stack(query), np.stack(order), shape.way)
