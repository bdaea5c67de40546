"""Draws tasks and mini-batches as index arrays, each from a generator of its own.

A newcomer would get wrong: there is no random state that advances. Every draw has its own counter-based
generator, keyed by (seed, purpose) and started at (outer step, task), so a draw depends on these four and
on nothing that was drawn before: resuming needs no generator state, evaluating more often changes no
training, and lanes may be computed in any number and order. Only raw 64-bit outputs of Philox are used,
which NumPy keeps stable between versions (its distributions are not).
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
    """What is drawn for a task: sizes only."""

    pool_classes: int  # classes to choose from
    class_images: int | tuple[int, ...]  # images each of them has; one number a class where they differ
    way: int
    support: int  # support images a class
    query: int  # query images a class, none of them in the support set
    inner_steps: int
    inner_batch_size: int
    sampling: str  # "cycle" or "replacement"
    turns: int = 1  # rotated copies of each class; copy t of class c is class c + t * pool_classes

    def __post_init__(self) -> None:
        """Raise UserError where a class has too few images or the pool too few classes."""
        images = self.support + self.query
        fewest = self.class_images if isinstance(self.class_images, int) else min(self.class_images)
        if images > fewest or self.way > self.pool_classes:
            raise UserError(
                f"cannot draw {self.way} classes x {images} images: the pool has {self.pool_classes} classes of "
                f"{fewest} images; lower way, shot or train_shot in params.yaml"
            )

    @property
    def stride(self) -> int:
        """Images from the first of one class to the first of the next in the pool."""
        return self.class_images if isinstance(self.class_images, int) else max(self.class_images)


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Which tasks an evaluation is made of; they are numbered from 0, see `draw_task`. `title` is for progress only."""

    title: str
    shape: TaskShape
    seed: int
    purpose: str
    step: int
    tasks: int


@dataclass(frozen=True)
class Tasks:
    """Tasks side by side. Images are positions in the pool's images, counted class after class.

    `support` [lanes, way * support] and `query` [lanes, way * query] hold the images of label 0 first, then
    those of label 1 and so on; `order` [lanes, steps, batch] indexes `support`, a mini-batch a step.
    """

    support: Indices
    query: Indices
    order: Indices
    way: int

    @property
    def batches(self) -> Indices:
        """Images of every mini-batch, [lanes, steps, batch]."""
        lanes = np.arange(len(self.order))[:, None, None]
        return self.support[lanes, self.order]

    @property
    def batch_labels(self) -> Indices:
        """Labels 0 to way - 1 of every mini-batch, [lanes, steps, batch]."""
        return self.order // (self.support.shape[1] // self.way)


def raw(count: int, seed: int, purpose: str, step: int = 0, task: int = 0) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Return `count` random 64-bit integers that belong to (seed, purpose, step, task)."""
    key = np.array([seed, zlib.crc32(purpose.encode())], dtype=np.uint64)
    counter = np.array([0, 0, task, step], dtype=np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(count)


def uniforms(
    count: int, seed: int, purpose: str, step: int = 0, task: int = 0
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return `count` random numbers in [0, 1), multiples of 2^-53."""
    return (raw(count, seed, purpose, step, task) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def distinct(keys: np.ndarray[Any, np.dtype[np.uint64]], count: int) -> Indices:
    """Choose `count` of len(keys) indices, none twice, in random order: where the smallest keys are."""
    chosen = np.argpartition(keys, count - 1)[:count] if count < len(keys) else np.arange(len(keys))
    return chosen[np.argsort(keys[chosen], kind="stable")].astype(np.int64)


def cycle(keys: np.ndarray[Any, np.dtype[np.uint64]], steps: int, batch: int) -> Indices:
    """Deal out a shuffled pool in mini-batches [steps, batch], shuffling anew whenever it is used up.

    `keys` [rounds, pool] holds a random key for each image and round. A mini-batch may straddle two rounds
    and then hold an image twice, as in the authors' reptile.py.
    """
    order = np.argsort(keys, axis=1, kind="stable")
    return order.reshape(-1)[: steps * batch].reshape(steps, batch).astype(np.int64)


def replacement(keys: np.ndarray[Any, np.dtype[np.uint64]], steps: int, batch: int) -> Indices:
    """Draw every mini-batch anew from the whole pool, no image twice within one: [steps, batch]."""
    return np.argsort(keys, axis=1, kind="stable")[:steps, :batch].astype(np.int64)


SAMPLINGS = {"cycle": cycle, "replacement": replacement}


def draw_task(shape: TaskShape, seed: int, purpose: str, step: int, task: int) -> tuple[Indices, Indices, Indices]:
    """Draw one task: support [way * support], query [way * query] and order [steps, batch].

    Classes and the images of a class are chosen without replacement; labels follow the order of the draw
    (the authors' reptile.py). Where a class has rotated copies, one of them is chosen for the whole task, as
    Finn et al. do.
    """
    images = shape.support + shape.query
    pool = shape.way * shape.support
    rounds = shape.inner_steps
    if shape.sampling == "cycle":
        rounds = -(-shape.inner_steps * shape.inner_batch_size // pool)
    sizes = (shape.pool_classes, shape.way * shape.stride, rounds * pool, shape.way)
    keys = np.split(raw(sum(sizes), seed, purpose, step, task), np.cumsum(sizes)[:-1])
    class_keys, image_keys, order_keys, turn_keys = keys
    classes = distinct(class_keys, shape.way)
    image_keys = image_keys.reshape(shape.way, -1)
    if not isinstance(shape.class_images, int):
        # Places without an image get the largest key, so they come last; a class always has as many as are drawn.
        absent = np.arange(shape.stride) >= np.array(shape.class_images)[classes, None]
        image_keys = np.where(absent, np.iinfo(np.uint64).max, image_keys)
    classes = classes + shape.pool_classes * (turn_keys % np.uint64(shape.turns)).astype(np.int64)
    chosen = np.argsort(image_keys, axis=1, kind="stable")[:, :images]
    positions = classes[:, None] * shape.stride + chosen
    order = SAMPLINGS[shape.sampling](order_keys.reshape(rounds, pool), shape.inner_steps, shape.inner_batch_size)
    return positions[:, : shape.support].ravel(), positions[:, shape.support :].ravel(), order


def draw_tasks(shape: TaskShape, seed: int, purpose: str, step: int, tasks: range) -> Tasks:
    """Draw the tasks numbered `tasks` of one step side by side, each as `draw_task` does."""
    support, query, order = zip(*(draw_task(shape, seed, purpose, step, task) for task in tasks), strict=True)
    return Tasks(np.stack(support), np.stack(query), np.stack(order), shape.way)
