"""Inner products of gradients during training, which section 5 uses to explain why Reptile learns to learn.

A step along -AvgGradInner raises the inner product of the gradients of two mini-batches of one task. According to the
paper, Reptile takes such steps and joint training does not. Here both train from the same initial parameters. During
training the inner product is measured at phi, in float64, always on the same tasks.

Three points need care:
- Joint training takes one inner step per task where Reptile takes k, so it gets k times as many outer steps. Both then
  see the same number of mini-batches, and rows are compared at the same number of inner steps.
- Early in training gradients agree because *all* tasks ask for the same corrections. Therefore the inner product over
  mini-batches of different tasks is reported too; only the excess over it is specific to the task.
- The k mini-batches of a task share no image (the paper's sampling), so a class that is too frequent in one is too rare
  in another. In a network that has learned nothing about images this alone makes the mean cosine of n mini-batches
  -1 / (n - 1). Therefore everything is measured on mini-batches as trained on ("trained") and on mini-batches with
  equally many images of every class ("balanced").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from firstorder.errors import UserError
from firstorder.method import training
from firstorder.method.images import mini_batches
from firstorder.method.inner_loop import InnerLoop, gradient
from firstorder.method.tasks import Indices, Tasks, draw_tasks
from firstorder.progress import UNKEPT, Bar, Kept, Track, silent
from firstorder.settings import InnerProductSettings, TrainingSettings

if TYPE_CHECKING:
    from firstorder.progress import Arrays

MINI_BATCHES = ("trained", "balanced")
DIGITS = 8  # significant

Numbers = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Products:
    """One measurement: means over pairs of mini-batches within each task, float64 [tasks], and across tasks."""

    cosine: Numbers
    product: Numbers
    cosine_other_tasks: float
    product_other_tasks: float
    gradient_norm: float


def over_pairs(vectors: Tensor) -> tuple[float, Tensor]:
    """Return the mean inner product over pairs of distinct vectors out of [n, parameters], and the vectors' mean.

    Uses that the sum of v_i v_j over i != j is |sum v|^2 - sum |v|^2.
    """
    n, total = len(vectors), vectors.sum(dim=0)
    return ((total.square().sum() - vectors.square().sum()) / (n * (n - 1))).item(), total / n


def balanced_order(way: int, shot: int, batch_size: int) -> Indices:
    """Split a task's images, which are ordered by class, into batches with equally many per class: [1, n, batch]."""
    share = batch_size // way  # images of each class in a batch
    positions = np.arange(way)[:, None] * shot + np.arange(shot // share * share)
    return positions.reshape(way, -1, share).transpose(1, 0, 2).reshape(1, -1, batch_size)


def drawn_task(problem: training.Problem, task: int, kind: str) -> Tasks:
    """Draw one task of meta-training classes and split its images into as many disjoint mini-batches as possible."""
    settings = problem.settings
    disjoint = settings.way * settings.train_shot // settings.inner_batch_size
    shape = replace(training.training_shape(problem), query=0, inner_steps=disjoint, sampling="cycle")
    drawn = draw_tasks(shape, problem.seed, "theory, inner products", 0, range(task, task + 1))
    if kind == "balanced":
        return replace(drawn, order=balanced_order(settings.way, settings.train_shot, settings.inner_batch_size))
    return drawn


def measure(problem: training.Problem, parameters: Tensor, tasks: int, kind: str) -> Products:
    """Measure inner products and cosines at phi [1, parameters] in float64, on tasks 0 to `tasks` - 1.

    `kind` is one of MINI_BATCHES. Raises UserError where a gradient is zero or not finite, so has no direction.
    """
    inner, phi = InnerLoop(problem.inner.loss, "sgd", 1.0), parameters.double()  # the learning rate is not used
    found = []
    for task in range(tasks):
        batches = mini_batches(problem.pools["meta-train"], drawn_task(problem, task, kind))
        gradients = torch.cat([gradient(inner, phi, (images.double(), labels)) for images, labels in batches])
        norm = gradients.norm(dim=1, keepdim=True)
        if not (torch.isfinite(norm) & (norm > 0)).all():
            raise UserError(
                f"{problem.name}, seed {problem.seed}: a gradient is zero or not finite, so it has no direction; "
                f"lower inner_learning_rate (now {problem.settings.inner_learning_rate:g})"
            )
        found.append((*over_pairs(gradients / norm), *over_pairs(gradients), norm.mean().item()))
    cosines, directions, products, means, norms = zip(*found, strict=True)
    # The inner product of two tasks' means is the mean over all pairs with one mini-batch of each task.
    return Products(
        cosine=np.array(cosines),
        product=np.array(products),
        cosine_other_tasks=over_pairs(torch.stack(directions))[0],
        product_other_tasks=over_pairs(torch.stack(means))[0],
        gradient_norm=float(np.mean(norms)),
    )


def counterpart(settings: TrainingSettings) -> TrainingSettings:
    """Return joint training with as many inner steps as Reptile: one per task, and k times as many outer steps."""
    outer_steps = settings.outer_steps * settings.inner_steps
    return replace(settings, algorithm="joint", inner_steps=1, outer_steps=outer_steps)


def along(
    problem: training.Problem, settings: InnerProductSettings, bar: Bar, kept: Arrays, keep: Callable[[Arrays], None]
) -> Numbers:
    """Train; at the start and at equal intervals measure each kind: columns cosine to gradient_norm.

    Returns float64 [measurements + 1, kinds, columns]. `kept` is what `keep` was given last in an earlier process.
    """
    state, every = _resumed(problem, kept), problem.settings.outer_steps // settings.measurements
    numbers, start = list(kept.get("numbers", ())), kept.get("start", np.zeros(0))
    while True:
        if state.outer_step == len(numbers) * every:
            now = [measure(problem, state.parameters, settings.tasks, kind) for kind in MINI_BATCHES]
            if not numbers:
                start = np.array([(one.cosine, one.product) for one in now])  # [kinds, 2, tasks]
            numbers.append(np.array([_numbers(*pair) for pair in zip(now, start, strict=True)]))
            bar.advance(1, f"{problem.settings.algorithm}: cosine {now[0].cosine.mean():.3f}")
        if state.outer_step == problem.settings.outer_steps:
            return np.array(numbers)
        training.outer_step(problem, problem.inner, state)
        keep({"numbers": np.array(numbers), "start": start, **_arrays(state)})


def _arrays(state: training.TrainingState) -> Arrays:
    """Return the state of a training as arrays."""
    steps = np.array([state.outer_step, state.optimiser.steps])
    return {"steps": steps, **{name: tensor.numpy(force=True) for name, tensor in state.tensors.items()}}


def _resumed(problem: training.Problem, kept: Arrays) -> training.TrainingState:
    """Return the state of a training from `_arrays`, or the one at its start if there are none."""
    if not kept:
        return training.start(problem)
    tensors = {name: torch.from_numpy(kept[name]) for name in training.TENSORS if name in kept}
    outer_step, steps = kept["steps"].tolist()
    return training.TrainingState.of(tensors, problem.device, steps, outer_step=outer_step)


def compare(
    problem: training.Problem, settings: InnerProductSettings, track: Track = silent, kept: Kept = UNKEPT
) -> list[list[Any]]:
    """Train by Reptile and jointly from the same initial parameters; return rows of columns.INNER_PRODUCTS.

    `problem` is a Reptile training whose number of outer steps is replaced by that of `settings`. Standard errors are
    over tasks; changes are differences from the start, per task. Inner steps are counted over all tasks so far.
    """
    reptile = replace(problem.settings, outer_steps=settings.outer_steps)
    trainings = {"reptile": reptile, "joint": counterpart(reptile)}
    arrays, rows = kept.load(), []
    done = {name: arrays.pop(name) for name in trainings if name in arrays}
    measured = sum(map(len, [*done.values(), arrays.get("numbers", ())]))
    title = f"inner products, {problem.name} seed {problem.seed}"
    with track(title, 2 * settings.measurements + 2, "measurements", measured) as bar:
        for name, trained in trainings.items():
            if name not in done:
                this = replace(problem, name=f"{problem.name} (inner products, {name})", settings=trained)
                done[name] = along(this, settings, bar, arrays, lambda new: kept.keep({**done, **new}))
                arrays = {}
            for place, of_kinds in enumerate(done[name]):
                outer_step = place * (trained.outer_steps // settings.measurements)
                inner_steps = outer_step * trained.meta_batch_size * trained.inner_steps
                for kind, numbers in zip(MINI_BATCHES, of_kinds, strict=True):
                    texts = (f"{number:.{DIGITS}g}" for number in numbers)
                    rows.append([name, kind, outer_step, inner_steps, settings.tasks, *texts])
    return rows


def _numbers(now: Products, start: Numbers) -> list[float]:
    """Return columns cosine to gradient_norm. `start` [2, tasks] has cosines and products at the start."""
    cosines = [*_mean(now.cosine), *_mean(now.cosine - start[0]), now.cosine_other_tasks]
    products = [*_mean(now.product), *_mean(now.product - start[1]), now.product_other_tasks]
    return [*cosines, *products, now.gradient_norm]


def _mean(values: Numbers) -> tuple[float, float]:
    """Return the mean and its standard error."""
    return float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
