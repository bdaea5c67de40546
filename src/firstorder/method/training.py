"""Meta-training: the outer loop and its learning curve.

A newcomer would get wrong: the model is the last iterate. Test classes are only watched (the learning
curve); nothing is selected on them, as in the authors' code.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from firstorder.errors import UserError
from firstorder.method.algorithms import ALGORITHMS, EXTENSIONS, Algorithm, Group, Groups
from firstorder.method.architectures import ARCHITECTURES
from firstorder.method.evaluation import Checkpoint, evaluate, evaluation_shape
from firstorder.method.images import ImagePool, mini_batches, query_images
from firstorder.method.inner_loop import Engine, InnerLoop, Loss, OptimiserState, Plain
from firstorder.method.networks import Network, make_network
from firstorder.method.tasks import Draws, TaskShape, draw_tasks
from firstorder.progress import Track, silent
from firstorder.settings import TrainingSettings

SECONDS_BETWEEN_SAVES = 60.0
# Pixels of mini-batches that one backward pass may hold: keeps the second order of every cell within 8 GiB.
PIXELS_AT_ONCE = 3_000_000
OUTER_BETA1, OUTER_BETA2, OUTER_EPSILON = 0.9, 0.999, 1e-8  # of the outer Adam
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
    engine: Engine = field(default_factory=Plain)  # computes the inner loop
    dtype: torch.dtype = torch.float32  # of parameters and images; float64 compares ways to compute the same

    def __post_init__(self) -> None:
        """Raise UserError where images are not of the size that the network is made for."""
        made_for = ARCHITECTURES[self.settings.network]
        expected = (made_for.channels, made_for.size, made_for.size)
        for name, pool in self.pools.items():
            if (found := tuple(pool.images.shape[1:])) != expected:
                raise UserError(
                    f"{self.name}: {name} images are {' x '.join(map(str, found))}, network {self.settings.network} "
                    f"takes {' x '.join(map(str, expected))}; choose another network or data set in params.yaml"
                )

    @property
    def network(self) -> Network:
        """The network as functions of parameters."""
        return make_network(self.settings.network, self.settings.way)

    @property
    def inner(self) -> InnerLoop:
        """How a task is adapted to."""
        network, settings = self.network, self.settings
        adapted = None if network.adapted is None else network.adapted.to(self.device)
        loss = classification_loss(network)
        return InnerLoop(
            loss, settings.inner_optimiser, settings.inner_learning_rate, adapted, self.engine, network.logits
        )

    @property
    def device(self) -> torch.device:
        """Where the images are, and so everything."""
        return self.pools["meta-train"].images.device

    @property
    def algorithm(self) -> Algorithm:
        """The meta-learning algorithm."""
        if self.settings.truncation_order is not None:
            return EXTENSIONS[self.settings.algorithm](self.settings.truncation_order)
        return ALGORITHMS[self.settings.algorithm]


@dataclass
class TrainingState:
    """Where a training stands: all that the next outer step depends on, and the curve so far."""

    parameters: Tensor  # phi, [1, parameters]
    optimiser: OptimiserState  # [1 or tasks, parameters]
    outer_moments: Tensor  # first and second, of the outer Adam where there is one
    outer_step: int = 0
    seconds: float = 0.0
    curve: list[list[Any]] = field(default_factory=list)
    legs: list[dict[str, Any]] = field(default_factory=list)  # where the steps before this process were computed

    def to(self, device: torch.device) -> TrainingState:
        """Return it with its tensors on `device`."""
        return replace(
            self,
            parameters=self.parameters.to(device),
            optimiser=OptimiserState(self.optimiser.second_moments.to(device), self.optimiser.steps),
            outer_moments=self.outer_moments.to(device),
        )


class Keeper(Protocol):
    """Keeps the state of a training that is not done, so that it goes on after an interruption."""

    def load(self, problem: Problem) -> TrainingState | None:
        """Return the state that was saved last; None where there is none of this very training."""

    def save(self, state: TrainingState) -> None:
        """Keep a state in place of the one before."""


@dataclass(frozen=True)
class Resumable:
    """A training that goes on from where it was interrupted: what to train, and who keeps its state."""

    problem: Problem
    keeper: Keeper

    def begin(self) -> TrainingState:
        """Return the state that was kept last or, where there is none, that before the first outer step."""
        kept = self.keeper.load(self.problem)
        return start(self.problem) if kept is None else kept.to(self.problem.device)


def start(problem: Problem) -> TrainingState:
    """Return the state before the first outer step."""
    parameters = problem.network.initial(problem.seed)[None].to(problem.device, problem.dtype)
    # Where adaptation has no memory from task to task, one lane's state serves all.
    keeps_own = problem.settings.second_moments == "per_lane" and problem.settings.algorithm not in WITHOUT_MEMORY
    lanes = problem.settings.meta_batch_size if keeps_own else 1
    state = OptimiserState.fresh(parameters.expand(lanes, -1))
    return TrainingState(parameters, state, parameters.new_zeros(2, 1, 1))


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


def outer_step(problem: Problem, inner: InnerLoop, state: TrainingState) -> None:
    """Take one outer step, see `outer_update`.

    Raises UserError when the meta-gradient is not finite, naming step, seed and training.
    """
    groups = draw_groups(problem, state.outer_step)
    meta_gradient, state.optimiser = problem.algorithm(inner, state.parameters, state.optimiser, groups)
    if not torch.isfinite(meta_gradient.sum()):
        raise not_finite(problem, state.outer_step)
    size = step_size(problem.settings, state.outer_step)
    state.parameters, state.outer_moments = outer_update(
        problem.settings, state.parameters, state.outer_moments, meta_gradient, size
    )
    state.outer_step += 1


def not_finite(problem: Problem, outer_step: int) -> UserError:
    """Return the error of a meta-gradient that is not finite."""
    return UserError(
        f"{problem.name}, seed {problem.seed}: the meta-gradient is not finite at outer step {outer_step}; "
        f"lower inner_learning_rate (now {problem.settings.inner_learning_rate:g})"
    )


def step_size(settings: TrainingSettings, outer_step: int) -> float:
    """Return epsilon at an outer step (from 0), for an outer Adam times its bias correction."""
    epsilon = annealed(settings, outer_step)
    if settings.outer_optimiser != "adam":
        return epsilon
    return epsilon * (math.sqrt(1 - OUTER_BETA2 ** (outer_step + 1)) / (1 - OUTER_BETA1 ** (outer_step + 1)))


def outer_update(
    settings: TrainingSettings, parameters: Tensor, moments: Tensor, meta_gradient: Tensor, size: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Return phi - size * meta_gradient, or phi after a step of Adam in TensorFlow's form; and Adam's moments.

    `parameters` and `meta_gradient` [seeds, parameters]; `moments` [2, seeds, parameters], the first and the second.
    """
    if settings.meta_loss_divisor is not None:
        meta_gradient = meta_gradient / settings.meta_loss_divisor
    if settings.meta_gradient_clip is not None:
        meta_gradient = meta_gradient.clamp(-settings.meta_gradient_clip, settings.meta_gradient_clip)
    if settings.outer_optimiser != "adam":
        return parameters - size * meta_gradient, moments
    first, second = moments.unbind()
    first = OUTER_BETA1 * first + (1 - OUTER_BETA1) * meta_gradient
    second = OUTER_BETA2 * second + (1 - OUTER_BETA2) * meta_gradient**2
    parameters = parameters - size * first / (second.sqrt() + OUTER_EPSILON)
    return parameters, torch.stack([first, second])


def checkpoint_of(problem: Problem, state: TrainingState, about: dict[str, Any]) -> Checkpoint:
    """Return what evaluation starts from; second moments kept per lane are averaged over the lanes."""
    moments = state.optimiser.second_moments.mean(dim=0, keepdim=True)
    return Checkpoint(state.parameters, OptimiserState(moments, state.optimiser.steps), about)


def measure(problem: Problem, state: TrainingState) -> list[list[Any]]:
    """Measure both pools in both modes: rows of the learning curve (CURVE_COLUMNS)."""
    curve = problem.settings.curve
    rows = []
    for name, pool in problem.pools.items():
        shape = evaluation_shape(pool, problem.settings.way, curve)
        draws = Draws(
            title="",
            shape=shape,
            seed=problem.seed,
            purpose=f"curve {name}",
            step=state.outer_step,
            tasks=curve.tasks,
        )
        checkpoint = checkpoint_of(problem, state, {})
        for mode, correct in evaluate(problem.inner, checkpoint, pool, draws).items():
            accuracies = correct / problem.settings.way
            error = accuracies.std(ddof=1) / np.sqrt(len(accuracies)) if len(accuracies) > 1 else float("nan")
            row = [state.outer_step, name, mode, curve.shot, curve.tasks]
            rows.append([*row, f"{accuracies.mean():.6f}", f"{error:.6f}"])
    return rows


def train(training: Resumable, track: Track = silent, time_limit: float | None = None) -> TrainingState:
    """Train to the end, from where an interrupted training stopped.

    After `time_limit` seconds the state is saved and training stops, short of its last outer step.
    """
    problem, state = training.problem, training.begin()
    inner, total, every = problem.inner, problem.settings.outer_steps, problem.settings.curve.every
    check_curve(problem)
    note, saved = "", time.monotonic()
    entered, begun = saved, saved - state.seconds
    with track(f"{problem.name} seed {problem.seed}", total, "outer steps", state.outer_step) as bar:
        while state.outer_step < total:
            outer_step(problem, inner, state)
            if state.outer_step % every == 0 or state.outer_step == total:
                state.curve += measure(problem, state)
                note = curve_note(state)
            bar.advance(1, note)
            now = time.monotonic()
            state.seconds = now - begun
            out_of_time = time_limit is not None and now - entered >= time_limit
            if now - saved > SECONDS_BETWEEN_SAVES or out_of_time:
                training.keeper.save(state)
                saved = now
            if out_of_time:
                break
        else:
            training.keeper.save(state)  # so that nothing is lost if writing the results fails
    return state


def train_each(
    trainings: Sequence[Resumable], track: Track = silent, time_limit: float | None = None
) -> Iterator[TrainingState | None]:
    """Train one after another; yields the state of each when it stops, None where there was no time to begin."""
    entered = time.monotonic()
    for number, training in enumerate(trainings):
        left = None if time_limit is None else time_limit - (time.monotonic() - entered)
        yield train(training, track, left) if number == 0 or left is None or left > 0 else None


def check_curve(problem: Problem) -> None:
    """Refuse a pool that is too small for the curve now, not at the first measurement."""
    for pool in problem.pools.values():
        evaluation_shape(pool, problem.settings.way, problem.settings.curve)


def curve_note(state: TrainingState) -> str:
    """Say in a few words what the curve measured last."""
    return f"meta-test {100 * float(state.curve[-1][5]):.1f} % {state.curve[-1][2]}"
