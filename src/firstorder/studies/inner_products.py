"""Section 5's explanation, measured: do the gradients of different mini-batches of a task come to agree?

Along -AvgGradInner the inner product of the gradients of two mini-batches of one task rises; that, says the paper, is
why Reptile learns to learn and joint training does not. Here both train from the same initial parameters, and the inner
product at phi is measured on the way, in float64, on the same tasks each time.

A newcomer would get wrong, three times:
- joint training takes one inner step a task where Reptile takes k, so it gets k times as many outer steps: both see as
  many mini-batches, the number of inner steps is the common axis;
- at the start gradients agree because *all* tasks want the same first corrections. So the product over mini-batches of
  different tasks stands beside it: what is above that is the task's own;
- the k mini-batches of a task have no image in common (the paper's own sampling), so what one has too many of a class
  the next has too few. Where a network has learned nothing about images, that alone makes the cosine of n such
  mini-batches -1 / (n - 1). So it is measured on mini-batches as trained on, and once more on ones with as many images
  of every class.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from firstorder.errors import UserError
from firstorder.method import training
from firstorder.method.images import mini_batches
from firstorder.method.inner_loop import InnerLoop, gradient
from firstorder.method.tasks import Indices, Tasks, TaskShape, draw_tasks
from firstorder.progress import Track, silent
from firstorder.settings import InnerProductSettings, TrainingSettings

COLUMNS = (
    "algorithm",
    "mini_batches",
    "outer_step",
    "inner_steps",
    "tasks",
    "cosine",
    "cosine_standard_error",
    "cosine_change",
    "cosine_change_standard_error",
    "cosine_other_tasks",
    "product",
    "product_standard_error",
    "product_change",
    "product_change_standard_error",
    "product_other_tasks",
    "gradient_norm",
)
MINI_BATCHES = ("trained", "balanced")
DIGITS = 8  # significant

Numbers = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Products:
    """One measurement: means over the pairs of a task's mini-batches, float64 [tasks]; and over pairs across tasks."""

    cosine: Numbers
    product: Numbers
    cosine_other_tasks: float
    product_other_tasks: float
    gradient_norm: float


def over_pairs(vectors: Tensor) -> tuple[float, Tensor]:
    """Return the mean inner product over pairs of different vectors [n, parameters], and the vectors' mean.

    Sum over i != j of v_i v_j is |sum v|^2 - sum |v|^2.
    """
    n, total = len(vectors), vectors.sum(dim=0)
    return ((total.square().sum() - vectors.square().sum()) / (n * (n - 1))).item(), total / n


def balanced_order(way: int, shot: int, batch_size: int) -> Indices:
    """Deal out a task's images, which stand class after class, in batches of equally many a class: [1, n, batch]."""
    share = batch_size // way
    places = np.arange(way)[:, None] * shot + np.arange(shot // share * share)
    return places.reshape(way, -1, share).transpose(1, 0, 2).reshape(1, -1, batch_size)


def drawn_task(problem: training.Problem, task: int, kind: str) -> Tasks:
    """Draw one task of meta-training classes with as many mini-batches as its images give, none in two of them."""
    settings, pool = problem.settings, problem.pools["meta-train"]
    shape = TaskShape(
        pool_classes=pool.classes,
        class_images=pool.class_images,
        way=settings.way,
        support=settings.train_shot,
        query=0,
        inner_steps=settings.way * settings.train_shot // settings.inner_batch_size,
        inner_batch_size=settings.inner_batch_size,
        sampling="cycle",
        turns=pool.turns,
    )
    drawn = draw_tasks(shape, problem.seed, "theory, inner products", 0, range(task, task + 1))
    if kind == "balanced":
        return replace(drawn, order=balanced_order(settings.way, settings.train_shot, settings.inner_batch_size))
    return drawn


def measure(problem: training.Problem, parameters: Tensor, tasks: int, kind: str) -> Products:
    """Measure inner products and cosines at phi [1, parameters] in float64, on the first `tasks` tasks of the draw.

    Raises UserError where a gradient is zero or not finite, as it then has no direction.
    """
    inner, phi = InnerLoop(problem.inner.loss, "sgd", 1.0), parameters.double()  # the learning rate is not used
    cosines: list[float] = []
    products: list[float] = []
    norms: list[float] = []
    means: dict[str, list[Tensor]] = {"cosine": [], "product": []}
    for task in range(tasks):
        batches = mini_batches(problem.pools["meta-train"], drawn_task(problem, task, kind))
        gradients = torch.cat([gradient(inner, phi, (images.double(), labels)) for images, labels in batches])
        norm = gradients.norm(dim=1, keepdim=True)
        if not (torch.isfinite(norm) & (norm > 0)).all():
            raise UserError(
                f"{problem.name}, seed {problem.seed}: a gradient is zero or not finite, so it has no direction; "
                f"lower inner_learning_rate (now {problem.settings.inner_learning_rate:g})"
            )
        for kept, vectors, values in (("cosine", gradients / norm, cosines), ("product", gradients, products)):
            value, mean = over_pairs(vectors)
            values.append(value)
            means[kept].append(mean)
        norms.append(norm.mean().item())
    # The means of two tasks: the mean over all pairs of a mini-batch of one and a mini-batch of the other.
    across = {kept: over_pairs(torch.stack(vectors))[0] for kept, vectors in means.items()}
    return Products(np.array(cosines), np.array(products), across["cosine"], across["product"], float(np.mean(norms)))


def counterpart(settings: TrainingSettings) -> TrainingSettings:
    """Return joint training of as many inner steps as Reptile's: one a task, and k times as many outer steps."""
    outer_steps = settings.outer_steps * settings.inner_steps
    return replace(settings, algorithm="joint", inner_steps=1, outer_steps=outer_steps)


def along(problem: training.Problem, measurements: int, tasks: int) -> Iterator[tuple[int, dict[str, Products]]]:
    """Train, and measure at the start and `measurements` times after it: yield the outer step and what is measured."""
    progress, inner = training.start(problem), problem.inner
    every = problem.settings.outer_steps // measurements
    while True:
        if progress.outer_step % every == 0:
            phi = progress.parameters
            yield progress.outer_step, {kind: measure(problem, phi, tasks, kind) for kind in MINI_BATCHES}
        if progress.outer_step == problem.settings.outer_steps:
            return
        training.outer_step(problem, inner, progress)


def compare(problem: training.Problem, settings: InnerProductSettings, track: Track = silent) -> list[list[Any]]:
    """Train by Reptile and jointly from the same initial parameters: rows of COLUMNS.

    `problem` is a Reptile training; its outer steps are replaced by those of `settings`. Standard errors are over
    tasks; changes are against the start, task by task. Inner steps are those taken so far, over all tasks.
    """
    reptile = replace(problem.settings, outer_steps=settings.outer_steps)
    rows: list[list[Any]] = []
    with track(f"inner products, {problem.name} seed {problem.seed}", 2 * settings.measurements + 2, "times") as bar:
        for trained in (reptile, counterpart(reptile)):
            name = f"{problem.name} (inner products, {trained.algorithm})"
            first: dict[str, Products] = {}
            steps = along(replace(problem, name=name, settings=trained), settings.measurements, settings.tasks)
            for outer_step, measured in steps:
                first = first or measured
                done = [outer_step, outer_step * trained.meta_batch_size * trained.inner_steps, settings.tasks]
                for kind, products in measured.items():
                    numbers = _numbers(products, first[kind])
                    rows.append([trained.algorithm, kind, *done, *(f"{number:.{DIGITS}g}" for number in numbers)])
                bar.advance(1, f"{trained.algorithm}: cosine {measured['trained'].cosine.mean():.3f}")
    return rows


def _numbers(now: Products, first: Products) -> list[float]:
    """Return the numbers of a row: those of the cosine, those of the inner product, the norm."""
    cosines = [*_mean(now.cosine), *_mean(now.cosine - first.cosine), now.cosine_other_tasks]
    products = [*_mean(now.product), *_mean(now.product - first.product), now.product_other_tasks]
    return [*cosines, *products, now.gradient_norm]


def _mean(values: Numbers) -> tuple[float, float]:
    """Return the mean and its standard error."""
    return float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
