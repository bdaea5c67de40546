"""Meta-training: the outer loop, its learning curve, and how it goes on after an interruption.

A newcomer would get wrong: the model is the last iterate. Test classes are only watched (the learning
curve); nothing is selected on them, as in the authors' code.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from firstorder import checkpoints
from firstorder.algorithms import ALGORITHMS, EXTENSIONS, Algorithm, Group, Groups
from firstorder.checkpoints import Checkpoint
from firstorder.errors import UserError
from firstorder.evaluation import Draws, ImagePool, evaluate, mini_batches, query_images
from firstorder.inner_loop import Engine, InnerLoop, Loss, OptimiserState
from firstorder.models import Network, make_network
from firstorder.progress import Track, silent
from firstorder.settings import CurveSettings, EvaluationSettings, TrainingSettings
from firstorder.tasks import TaskShape, draw_tasks

SECONDS_BETWEEN_SAVES = 60.0
# Pixels of mini-batches that one backward pass may hold: keeps the second order of every cell within 8 GiB.
PIXELS_AT_ONCE = 3_000_000
WITHOUT_MEMORY = ("fomaml", "maml", "binomial")  # every task starts from the same state of the inner optimiser
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
    engine: Engine | None = None  # computes the inner loop faster; None: the plain way
    dtype: torch.dtype = torch.float32  # of parameters and images; float64 compares ways to compute the same

    @property
    def network(self) -> Network:
        """The network as functions of parameters."""
        return make_network(self.settings.network, self.settings.way)

    @property
    def inner(self) -> InnerLoop:
        """How a task is adapted to."""
        loss = classification_loss(self.network)
        adapted = self.network.adapted
        if adapted is not None:
            adapted = adapted.to(self.pools["meta-train"].images.device)
        return InnerLoop(loss, self.settings.inner_optimiser, self.settings.inner_learning_rate, adapted, self.engine)

    @property
    def algorithm(self) -> Algorithm:
        """The meta-learning algorithm."""
        if self.settings.truncation_order is not None:
            return EXTENSIONS[self.settings.algorithm](self.settings.truncation_order)
        return ALGORITHMS[self.settings.algorithm]


@dataclass
class Progress:
    """Where a training stands: all that the next outer step depends on, and the curve so far."""

    parameters: Tensor  # phi, [1, parameters]
    state: OptimiserState  # [1 or tasks, parameters]
    outer_moments: Tensor  # first and second, of the outer Adam where there is one
    outer_step: int = 0
    seconds: float = 0.0
    curve: list[list[Any]] = field(default_factory=list)


def start(problem: Problem) -> Progress:
    """Return the state before the first outer step."""
    device = problem.pools["meta-train"].images.device
    parameters = problem.network.initial(problem.seed)[None].to(device, problem.dtype)
    # Where adaptation has no memory from task to task, one lane's state serves all.
    keeps_own = problem.settings.second_moments == "per_lane" and problem.settings.algorithm not in WITHOUT_MEMORY
    lanes = problem.settings.meta_batch_size if keeps_own else 1
    state = OptimiserState.fresh(parameters.expand(lanes, -1))
    return Progress(parameters, state, parameters.new_zeros(2, 1, 1))


def training_shape(problem: Problem) -> TaskShape:
    """Return the sizes of a training task."""
    settings, pool = problem.settings, problem.pools["meta-train"]
    tail = settings.algorithm == "last_step" and settings.query_shot is not None
    return TaskShape(
        pool_classes=pool.classes,
        class_images=pool.class_images,
        way=settings.way,
        support=settings.train_shot,
        query=settings.query_shot or 0,
        # A separate tail is the last of the inner steps, and all of it.
        inner_steps=settings.inner_steps - 1 if tail else settings.inner_steps,
        inner_batch_size=settings.inner_batch_size,
        sampling=settings.sampling,
        turns=pool.turns,
    )


def draw_groups(problem: Problem, outer_step: int) -> Groups:
    """Draw an outer step's tasks: a group a task if second moments are carried, else as many lanes as fit."""
    settings, pool, shape = problem.settings, problem.pools["meta-train"], training_shape(problem)
    tasks = draw_tasks(shape, problem.seed, "training", outer_step, range(settings.meta_batch_size))
    batches = mini_batches(pool, tasks, problem.dtype)
    query = query_images(pool, tasks, problem.dtype) if settings.query_shot else None
    lanes = lanes_at_once(problem, shape)
    groups = []
    for first in range(0, settings.meta_batch_size, lanes):
        chunk = slice(first, first + lanes)
        held_out = (query[0][chunk], query[1][chunk]) if query else None
        groups.append(Group([(x[chunk], y[chunk]) for x, y in batches], held_out))
    return groups


def lanes_at_once(problem: Problem, shape: TaskShape) -> int:
    """Return how many tasks of a meta-batch are adapted side by side.

    One, if second moments are carried. Reptile's second moments per lane need all of them. The others have no
    memory between tasks, so tasks are split as memory asks; the meta-gradient is the same up to rounding.
    """
    settings = problem.settings
    if settings.second_moments == "carried":
        return 1
    if settings.algorithm not in WITHOUT_MEMORY:
        return settings.meta_batch_size
    _, channels, height, width = problem.pools["meta-train"].images.shape
    images = shape.inner_steps * shape.inner_batch_size + settings.way * (settings.query_shot or 0)
    return max(1, min(settings.meta_batch_size, PIXELS_AT_ONCE // (images * channels * height * width)))


def outer_step(problem: Problem, inner: InnerLoop, progress: Progress) -> None:
    """Take one outer step: phi <- phi - epsilon * meta_gradient, or Adam's step on it.

    Raises UserError when the meta-gradient is not finite, naming step, seed and training.
    """
    settings = problem.settings
    groups = draw_groups(problem, progress.outer_step)
    meta_gradient, progress.state = problem.algorithm(inner, progress.parameters, progress.state, groups)
    if not torch.isfinite(meta_gradient.sum()):
        raise not_finite(problem, progress.outer_step)
    if settings.meta_loss_divisor is not None:
        meta_gradient = meta_gradient / settings.meta_loss_divisor
    if settings.meta_gradient_clip is not None:
        meta_gradient = meta_gradient.clamp(-settings.meta_gradient_clip, settings.meta_gradient_clip)
    epsilon = annealed(settings, progress.outer_step)
    progress.outer_step += 1
    if settings.outer_optimiser == "adam":
        progress.parameters = outer_adam(progress, meta_gradient, epsilon)
    else:
        progress.parameters = progress.parameters - epsilon * meta_gradient


def not_finite(problem: Problem, outer_step: int) -> UserError:
    """Return the error of a meta-gradient that is not finite."""
    return UserError(
        f"{problem.name}, seed {problem.seed}: the meta-gradient is not finite at outer step {outer_step}; "
        f"lower inner_learning_rate (now {problem.settings.inner_learning_rate:g})"
    )


def outer_adam(progress: Progress, meta_gradient: Tensor, learning_rate: float) -> Tensor:
    """Return phi after a step of Adam in TensorFlow's form: beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8."""
    first, second = progress.outer_moments.unbind()
    first = 0.9 * first + 0.1 * meta_gradient
    second = 0.999 * second + 0.001 * meta_gradient**2
    progress.outer_moments = torch.stack([first, second])
    rate = learning_rate * outer_adam_correction(progress.outer_step)
    return progress.parameters - rate * first / (second.sqrt() + 1e-8)


def outer_adam_correction(steps: int) -> float:
    """Return the factor on the outer Adam's rate, for moments that started at zero, at a step counted from 1."""
    return math.sqrt(1 - 0.999**steps) / (1 - 0.9**steps)


def checkpoint_of(problem: Problem, progress: Progress, about: dict[str, Any]) -> Checkpoint:
    """Return what evaluation starts from; second moments kept per lane are averaged over the lanes."""
    moments = progress.state.second_moments.mean(dim=0, keepdim=True)
    return Checkpoint(progress.parameters, OptimiserState(moments, progress.state.steps), about)


def evaluation_shape(pool: ImagePool, way: int, settings: CurveSettings | EvaluationSettings) -> TaskShape:
    """Return the sizes of an evaluation task: one query image a class (the authors' reptile.py) or as many as set.

    Mini-batches cycle through the support set.
    """
    query = settings.query if isinstance(settings, EvaluationSettings) else None
    return TaskShape(
        pool_classes=pool.classes,
        class_images=pool.class_images,
        way=way,
        support=settings.shot,
        query=query or 1,
        inner_steps=settings.inner_steps,
        inner_batch_size=settings.inner_batch_size,
        sampling="cycle",
        turns=pool.turns,
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


def train(
    problem: Problem, progress_path: Path, identity: str, track: Track = silent, time_limit: float | None = None
) -> Progress:
    """Train to the end, from where an interrupted training of the same `identity` stopped.

    `identity` names everything the outcome depends on; a saved state of another identity is left unused. After
    `time_limit` seconds the state is saved and training stops, short of its last outer step.
    """
    progress = resumed(problem, progress_path, identity) or start(problem)
    inner, total, every = problem.inner, problem.settings.outer_steps, problem.settings.curve.every
    check_curve(problem)
    note, saved = "", time.monotonic()
    entered, begun = saved, saved - progress.seconds
    with track(f"{problem.name} seed {problem.seed}", total, "outer steps", progress.outer_step) as bar:
        while progress.outer_step < total:
            outer_step(problem, inner, progress)
            if progress.outer_step % every == 0 or progress.outer_step == total:
                progress.curve += measure(problem, progress)
                note = curve_note(progress)
            bar.advance(1, note)
            now = time.monotonic()
            progress.seconds = now - begun
            out_of_time = time_limit is not None and now - entered >= time_limit
            if now - saved > SECONDS_BETWEEN_SAVES or out_of_time:
                save(progress, progress_path, identity)
                saved = now
            if out_of_time:
                break
    return progress


def check_curve(problem: Problem) -> None:
    """Refuse a pool that is too small for the curve now, not at the first measurement."""
    for pool in problem.pools.values():
        evaluation_shape(pool, problem.settings.way, problem.settings.curve)


def curve_note(progress: Progress) -> str:
    """Say in a few words what the curve measured last."""
    return f"meta-test {100 * float(progress.curve[-1][5]):.1f} % {progress.curve[-1][2]}"


def save(progress: Progress, path: Path, identity: str) -> None:
    """Write the state of a training that is not done, for `resumed`."""
    tensors = {
        "parameters": progress.parameters,
        "second_moments": progress.state.second_moments,
        "outer_moments": progress.outer_moments,
    }
    about = {
        "identity": identity,
        "outer_step": progress.outer_step,
        "optimiser_steps": progress.state.steps,
        "seconds": progress.seconds,
        "curve": progress.curve,
    }
    checkpoints.save_progress(path, tensors, about)


def resumed(problem: Problem, path: Path, identity: str) -> Progress | None:
    """Read the state that `save` wrote; None where there is none of this `identity`."""
    saved = checkpoints.load_progress(path)
    if saved is None or saved[1]["identity"] != identity:
        return None
    tensors, about = saved
    device = problem.pools["meta-train"].images.device
    state = OptimiserState(tensors["second_moments"].to(device), about["optimiser_steps"])
    parameters = tensors["parameters"].to(device)
    moments = tensors["outer_moments"].to(device)
    return Progress(parameters, state, moments, about["outer_step"], about["seconds"], about["curve"])
