"""Meta-training: the outer loop, its learning curve, and how it goes on after an interruption.

A newcomer would get wrong: the model is the last iterate. Test classes are only watched (the learning
curve); nothing is selected on them, as in the authors' code.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from firstorder import checkpoints
from firstorder.algorithms import ALGORITHMS, Groups
from firstorder.checkpoints import Checkpoint
from firstorder.errors import UserError
from firstorder.evaluation import Draws, ImagePool, evaluate, mini_batches
from firstorder.inner_loop import InnerLoop, Loss, OptimiserState
from firstorder.models import NETWORKS, Network
from firstorder.progress import Track, silent
from firstorder.settings import CurveSettings, TrainingSettings
from firstorder.tasks import TaskShape, draw_tasks

SECONDS_BETWEEN_SAVES = 60.0
CURVE_COLUMNS = ("outer_step", "pool", "mode", "shot", "tasks", "accuracy", "standard_error")


def classification_loss(network: Network) -> Loss:
    """Return the loss of a mini-batch (images, labels): cross entropy summed over it, for each lane."""

    def loss(parameters: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = batch
        logits = network.logits(parameters, images)
        return F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").sum(dim=1)

    return loss


def annealed(settings: TrainingSettings, outer_step: int) -> float:
    """Return epsilon at an outer step (from 0): linear from the first value towards the final one.

    The last step still has 1/T of the way to go, as in the authors' train.py.
    """
    done = outer_step / settings.outer_steps
    return (1 - done) * settings.outer_step_size + done * settings.outer_step_size_final


@dataclass(frozen=True)
class Problem:
    """One training, ready to go: its settings, seed, network and pools on the device."""

    name: str
    settings: TrainingSettings
    seed: int
    pools: dict[str, ImagePool]  # "meta-train", "meta-test"

    @property
    def network(self) -> Network:
        """The network as functions of parameters."""
        return NETWORKS[self.settings.network](self.settings.way)

    @property
    def inner(self) -> InnerLoop:
        """How a task is adapted to."""
        loss = classification_loss(self.network)
        return InnerLoop(loss, self.settings.inner_optimiser, self.settings.inner_learning_rate)


@dataclass
class Progress:
    """Where a training stands: all that the next outer step depends on, and the curve so far."""

    parameters: Tensor  # phi, [1, parameters]
    state: OptimiserState  # [1 or tasks, parameters]
    outer_step: int = 0
    seconds: float = 0.0
    curve: list[list[Any]] = field(default_factory=list)


def start(problem: Problem) -> Progress:
    """Return the state before the first outer step."""
    device = problem.pools["meta-train"].images.device
    parameters = problem.network.initial(problem.seed)[None].to(device)
    lanes = problem.settings.meta_batch_size if problem.settings.second_moments == "per_lane" else 1
    return Progress(parameters, OptimiserState.fresh(parameters.expand(lanes, -1)))


def draw_groups(problem: Problem, outer_step: int) -> Groups:
    """Draw an outer step's tasks: a group a task if second moments are carried, else all in one group."""
    settings, pool = problem.settings, problem.pools["meta-train"]
    shape = TaskShape(
        pool_classes=pool.classes,
        class_images=pool.class_images,
        way=settings.way,
        support=settings.train_shot,
        query=0,
        inner_steps=settings.inner_steps,
        inner_batch_size=settings.inner_batch_size,
        sampling=settings.sampling,
    )
    tasks = draw_tasks(shape, problem.seed, "training", outer_step, range(settings.meta_batch_size))
    batches = mini_batches(pool, tasks)
    if settings.second_moments == "per_lane":
        return [batches]
    return [[(x[[task]], y[[task]]) for x, y in batches] for task in range(settings.meta_batch_size)]


def outer_step(problem: Problem, inner: InnerLoop, progress: Progress) -> None:
    """Take one outer step: phi <- phi - epsilon * meta_gradient.

    Raises UserError when the meta-gradient is not finite, naming step, seed and training.
    """
    settings = problem.settings
    groups = draw_groups(problem, progress.outer_step)
    algorithm = ALGORITHMS[settings.algorithm]
    meta_gradient, progress.state = algorithm(inner, progress.parameters, progress.state, groups)
    if not torch.isfinite(meta_gradient.sum()):
        raise UserError(
            f"{problem.name}, seed {problem.seed}: the meta-gradient is not finite at outer step "
            f"{progress.outer_step}; lower inner_learning_rate (now {settings.inner_learning_rate:g})"
        )
    progress.parameters = progress.parameters - annealed(settings, progress.outer_step) * meta_gradient
    progress.outer_step += 1


def checkpoint_of(problem: Problem, progress: Progress, about: dict[str, Any]) -> Checkpoint:
    """Return what evaluation starts from; second moments kept per lane are averaged over the lanes."""
    moments = progress.state.second_moments.mean(dim=0, keepdim=True)
    return Checkpoint(progress.parameters, OptimiserState(moments, progress.state.steps), about)


def evaluation_shape(pool: ImagePool, way: int, settings: Any) -> TaskShape:
    """Return the sizes of an evaluation task: one query image a class (the authors' reptile.py).

    `settings` names shot, inner_steps and inner_batch_size. Mini-batches cycle through the support set.
    """
    return TaskShape(
        pool_classes=pool.classes,
        class_images=pool.class_images,
        way=way,
        support=settings.shot,
        query=1,
        inner_steps=settings.inner_steps,
        inner_batch_size=settings.inner_batch_size,
        sampling="cycle",
    )


def measure(problem: Problem, progress: Progress) -> list[list[Any]]:
    """Measure both pools in both modes: rows of the learning curve (CURVE_COLUMNS)."""
    curve: CurveSettings = problem.settings.curve
    rows = []
    for name, pool in problem.pools.items():
        shape = evaluation_shape(pool, problem.settings.way, curve)
        draws = Draws(
            title="",
            shape=shape,
            seed=problem.seed,
            purpose=f"curve {name}",
            step=progress.outer_step,
            tasks=curve.tasks,
        )
        checkpoint = checkpoint_of(problem, progress, {})
        for mode, correct in evaluate(problem.network, problem.inner, checkpoint, pool, draws).items():
            accuracies = correct / problem.settings.way
            error = accuracies.std(ddof=1) / np.sqrt(len(accuracies)) if len(accuracies) > 1 else float("nan")
            row = [progress.outer_step, name, mode, curve.shot, curve.tasks]
            rows.append([*row, f"{accuracies.mean():.6f}", f"{error:.6f}"])
    return rows


def train(problem: Problem, progress_path: Path, identity: str, track: Track = silent) -> Progress:
    """Train to the end, from where an interrupted training of the same `identity` stopped.

    `identity` names everything the outcome depends on; a saved state of another identity is left unused.
    """
    progress = _resumed(problem, progress_path, identity) or start(problem)
    inner, total, every = problem.inner, problem.settings.outer_steps, problem.settings.curve.every
    for pool in problem.pools.values():
        # Refuses a pool that is too small for the curve now, not at the first measurement.
        evaluation_shape(pool, problem.settings.way, problem.settings.curve)
    note, saved = "", time.monotonic()
    begun = saved - progress.seconds
    with track(f"{problem.name} seed {problem.seed}", total, "outer steps", progress.outer_step) as bar:
        while progress.outer_step < total:
            outer_step(problem, inner, progress)
            if progress.outer_step % every == 0 or progress.outer_step == total:
                progress.curve += measure(problem, progress)
                note = f"meta-test {100 * float(progress.curve[-1][5]):.1f} % {progress.curve[-1][2]}"
            bar.advance(1, note)
            progress.seconds = time.monotonic() - begun
            if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                _save(progress, progress_path, identity)
                saved = time.monotonic()
    return progress


def _save(progress: Progress, path: Path, identity: str) -> None:
    tensors = {"parameters": progress.parameters, "second_moments": progress.state.second_moments}
    about = {
        "identity": identity,
        "outer_step": progress.outer_step,
        "optimiser_steps": progress.state.steps,
        "seconds": progress.seconds,
        "curve": progress.curve,
    }
    checkpoints.save_progress(path, tensors, about)


def _resumed(problem: Problem, path: Path, identity: str) -> Progress | None:
    saved = checkpoints.load_progress(path)
    if saved is None or saved[1]["identity"] != identity:
        return None
    tensors, about = saved
    device = problem.pools["meta-train"].images.device
    state = OptimiserState(tensors["second_moments"].to(device), about["optimiser_steps"])
    parameters = tensors["parameters"].to(device)
    return Progress(parameters, state, about["outer_step"], about["seconds"], about["curve"])
