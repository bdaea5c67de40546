"""Meta-training: the outer loop and its learning curve.

As in the authors' code, the result is the last iterate: nothing is selected by the meta-test accuracy of the curve.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from firstorder.errors import UserError
from firstorder.method.algorithms import ALGORITHMS, EXTENSIONS, Algorithm, Group, Groups
from firstorder.method.architectures import Architecture, architecture_of
from firstorder.method.evaluation import Checkpoint, Tally, evaluate, evaluation_shape, mean_accuracy
from firstorder.method.images import ImagePool, query_images
from firstorder.method.inner_loop import Engine, InnerLoop, Loss, OptimiserState, Plain
from firstorder.method.networks import Network, make_network
from firstorder.method.tasks import Draws, TaskShape, draw_tasks
from firstorder.progress import Stop, Track, never, silent
from firstorder.settings import WITHOUT_MEMORY, TrainingSettings

SECONDS_BETWEEN_SAVES = 60.0
PIXELS_AT_ONCE = 3_000_000  # of mini-batches in one backward pass: keeps second-order MAML within 8 GiB
OUTER_BETA1, OUTER_BETA2, OUTER_EPSILON = 0.9, 0.999, 1e-8  # of the outer Adam
TENSORS = ("parameters", "second_moments", "outer_moments", "first_moments")  # of a state; the last if beta1 > 0


def classification_loss(network: Network) -> Loss:
    """Return the loss function: each lane's cross entropy, summed over a mini-batch (images, labels)."""

    def loss(parameters: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        logits = network.logits(parameters, batch[0])
        return F.cross_entropy(logits.transpose(1, 2), batch[1], reduction="none").sum(dim=1)

    return loss


@dataclass(frozen=True)
class Problem:
    """One training: its settings, seed, pools of images on the device, and engine."""

    name: str
    settings: TrainingSettings
    seed: int
    pools: dict[str, ImagePool]  # "meta-train", "meta-test"
    engine: Engine = field(default_factory=Plain)  # computes the inner loop
    dtype: torch.dtype = torch.float32  # of parameters and images; float64 serves to compare engines

    def __post_init__(self) -> None:
        """Raise UserError if the images do not have the size that the network is made for."""
        expected = self.architecture.image_shape
        for name, pool in self.pools.items():
            if (found := [*pool.images.shape[1:]]) != expected:
                where = f"{self.name}: {name} images are {found}, network {self.settings.network} takes {expected}"
                raise UserError(f"{where} (channels, height, width); choose another network, data set or `image`")

    @property
    def architecture(self) -> Architecture:
        """The architecture of the network."""
        return architecture_of(self.settings.network, self.settings.image)

    @property
    def network(self) -> Network:
        """The network that is trained."""
        return make_network(self.architecture, self.settings.way)

    @property
    def inner(self) -> InnerLoop:
        """How to adapt to a task."""
        network, settings = self.network, self.settings
        adapted = None if network.adapted is None else network.adapted.to(self.device)
        loss, alpha, beta1 = classification_loss(network), settings.inner_learning_rate, settings.inner_beta1 or 0.0
        return InnerLoop(loss, settings.inner_optimiser, alpha, adapted, self.engine, network.logits, beta1)

    @property
    def device(self) -> torch.device:
        """The device of the images, and of everything else."""
        return self.pools["meta-train"].images.device

    @property
    def algorithm(self) -> Algorithm:
        """The meta-learning algorithm."""
        name, order = self.settings.algorithm, self.settings.truncation_order
        return ALGORITHMS[name] if order is None else EXTENSIONS[name](order)


@dataclass
class TrainingState:
    """Everything the next outer step depends on, and the learning curve so far."""

    parameters: Tensor  # phi, [1, parameters]
    optimiser: OptimiserState  # [1 or tasks, parameters]
    outer_moments: Tensor  # first and second moments of the outer Adam, [2, 1, parameters]; [2, 1, 1] before any step
    outer_step: int = 0
    seconds: float = 0.0
    curve: list[list[Any]] = field(default_factory=list)
    legs: list[dict[str, Any]] = field(default_factory=list)  # where the steps before this process were computed

    @staticmethod
    def of(tensors: dict[str, Tensor], device: torch.device, optimiser_steps: int, **others: Any) -> TrainingState:
        """Return the state that has these `tensors`, moved to `device`."""
        moved = {name: tensor.to(device) for name, tensor in tensors.items()}
        optimiser = OptimiserState(moved["second_moments"], optimiser_steps, moved.get("first_moments"))
        return TrainingState(moved["parameters"], optimiser, moved["outer_moments"], **others)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name."""
        optimiser = self.optimiser
        tensors = (self.parameters, optimiser.second_moments, self.outer_moments, optimiser.first_moments)
        return {name: tensor for name, tensor in zip(TENSORS, tensors, strict=True) if tensor is not None}


class Keeper(Protocol):
    """Stores the state of an unfinished training, so that it can be resumed after an interruption."""

    def load(self, problem: Problem) -> TrainingState | None:
        """Return the last saved state of this training on its device, or None."""

    def save(self, state: TrainingState) -> None:
        """Replace the saved state."""


@dataclass(frozen=True)
class Resumable:
    """A training and the keeper of its state: it resumes where it was interrupted."""

    problem: Problem
    keeper: Keeper

    def begin(self) -> TrainingState:
        """Return the last saved state or, if there is none, the state before the first outer step."""
        for pool in self.problem.pools.values():  # refused here if it is too small for the learning curve
            evaluation_shape(pool, self.problem.settings.way, self.problem.settings.curve)
        return self.keeper.load(self.problem) or start(self.problem)


def start(problem: Problem) -> TrainingState:
    """Return the state before the first outer step."""
    parameters = problem.network.initial(problem.seed)[None].to(problem.device, problem.dtype)
    # If nothing is remembered from task to task, all lanes share one state.
    keeps_own = problem.settings.second_moments == "per_lane" and problem.settings.algorithm not in WITHOUT_MEMORY
    lanes = problem.settings.meta_batch_size if keeps_own else 1
    optimiser = OptimiserState.fresh(parameters.expand(lanes, -1), problem.settings.inner_beta1 or 0.0)
    return TrainingState(parameters, optimiser, parameters.new_zeros(2, 1, 1))


def training_shape(problem: Problem) -> TaskShape:
    """Return the sizes of a training task."""
    settings, pool = problem.settings, problem.pools["meta-train"]
    tail = settings.algorithm == "last_step" and settings.query_shot is not None  # it is the last inner mini-batch
    return TaskShape(
        pool_classes=pool.classes,
        class_images=pool.class_images,
        way=settings.way,
        support=settings.train_shot,
        query=settings.query_shot or 0,
        inner_steps=settings.inner_steps - 1 if tail else settings.inner_steps,
        inner_batch_size=settings.inner_batch_size,
        sampling=settings.sampling,
        turns=pool.turns,
    )


def draw_groups(problem: Problem, outer_step: int) -> Groups:
    """Draw the tasks of an outer step, in groups of `lanes_at_once` tasks."""
    settings, pool, shape = problem.settings, problem.pools["meta-train"], training_shape(problem)
    tasks = draw_tasks(shape, problem.seed, "training", outer_step, range(settings.meta_batch_size))
    batches = problem.engine.mini_batches(pool, tasks, problem.dtype)
    query = query_images(pool, tasks, problem.dtype) if settings.query_shot else None
    lanes = lanes_at_once(problem, shape)
    chunks = [slice(first, first + lanes) for first in range(0, settings.meta_batch_size, lanes)]
    held_out = [(query[0][chunk], query[1][chunk]) if query else None for chunk in chunks]
    return [Group([(x[chunk], y[chunk]) for x, y in batches], one) for chunk, one in zip(chunks, held_out, strict=True)]


def lanes_at_once(problem: Problem, shape: TaskShape) -> int:
    """Return how many tasks of a meta-batch are adapted side by side.

    One if second moments are carried from task to task, all if each lane keeps its own. Otherwise tasks are independent
    and as many as fit in memory are taken; the number changes the meta-gradient by rounding only.
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
    """Take one outer step, in place (see `outer_update`). Raises UserError if the meta-gradient is not finite."""
    groups = draw_groups(problem, state.outer_step)
    meta_gradient, state.optimiser = problem.algorithm(inner, state.parameters, state.optimiser, groups)
    if not torch.isfinite(meta_gradient.sum()):
        raise not_finite(problem, state.outer_step)
    size = step_size(problem.settings, state.outer_step)
    updated = outer_update(problem.settings, state.parameters, state.outer_moments, meta_gradient, size)
    state.parameters, state.outer_moments = updated
    state.outer_step += 1


def not_finite(problem: Problem, outer_step: int) -> UserError:
    """Return the error to raise for a meta-gradient that is not finite."""
    remedy = f"lower inner_learning_rate (now {problem.settings.inner_learning_rate:g})"
    if (problem.settings.algorithm, problem.settings.inner_optimiser) == ("maml", "adam"):
        remedy = "Adam's root has no derivative where a second moment is 0: use inner_optimiser: sgd"
    where = f"{problem.name}, seed {problem.seed}: the meta-gradient is not finite at outer step {outer_step}"
    return UserError(f"{where}; {remedy}")


def step_size(settings: TrainingSettings, outer_step: int) -> float:
    """Return epsilon at an outer step from 0, annealed linearly; for an outer Adam, times its bias correction."""
    done = outer_step / settings.outer_steps  # the last of T is 1/T from the final value, as in the authors' code
    epsilon = (1 - done) * settings.outer_step_size + done * settings.outer_step_size_final
    if settings.outer_optimiser != "adam":
        return epsilon
    return epsilon * (math.sqrt(1 - OUTER_BETA2 ** (outer_step + 1)) / (1 - OUTER_BETA1 ** (outer_step + 1)))


def outer_update(
    settings: TrainingSettings, parameters: Tensor, moments: Tensor, meta_gradient: Tensor, size: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Take a step of SGD, or of Adam in TensorFlow's form; return phi and Adam's moments afterwards.

    `parameters` and `meta_gradient` [seeds, parameters]; `moments` [2, seeds, parameters]; `size` as of `step_size`.
    """
    if settings.meta_loss_divisor is not None:
        meta_gradient = meta_gradient / settings.meta_loss_divisor
    if settings.meta_gradient_clip is not None:
        meta_gradient = meta_gradient.clamp(-settings.meta_gradient_clip, settings.meta_gradient_clip)
    if settings.outer_optimiser != "adam":
        return parameters - size * meta_gradient, moments
    first = OUTER_BETA1 * moments[0] + (1 - OUTER_BETA1) * meta_gradient
    second = OUTER_BETA2 * moments[1] + (1 - OUTER_BETA2) * meta_gradient**2
    return parameters - size * first / (second.sqrt() + OUTER_EPSILON), torch.stack([first, second])


def checkpoint_of(problem: Problem, state: TrainingState, about: dict[str, Any]) -> Checkpoint:
    """Return the checkpoint to evaluate. Moments kept per lane are averaged over the lanes."""
    return Checkpoint(state.parameters, state.optimiser.each(lambda moments: moments.mean(dim=0, keepdim=True)), about)


def measure(problem: Problem, state: TrainingState, stop: Stop = never) -> list[list[Any]] | None:
    """Evaluate on both pools in both modes; return rows of the learning curve (columns.CURVE), None if stopped."""
    curve, checkpoint = problem.settings.curve, checkpoint_of(problem, state, {})
    step, tasks, rows = state.outer_step, curve.tasks, []
    for name, pool in problem.pools.items():
        shape = evaluation_shape(pool, problem.settings.way, curve)
        draws = Draws(title="", shape=shape, seed=problem.seed, purpose=f"curve {name}", step=step, tasks=tasks)
        for mode, correct in evaluate(problem.inner, checkpoint, pool, draws, kept=Tally(stop)).items():
            if len(correct) < tasks:
                return None
            accuracy, error = mean_accuracy(correct, shape.way * shape.query)
            rows.append([step, name, mode, curve.shot, tasks, f"{accuracy:.6f}", f"{error:.6f}"])
    return rows


def train(training: Resumable, track: Track = silent, stop: Stop = never) -> TrainingState:
    """Train to the last outer step, resuming if interrupted. When `stop` says so, save the state and return it."""
    problem, state = training.problem, training.begin()
    inner, total, every = problem.inner, problem.settings.outer_steps, problem.settings.curve.every
    latest, saved = "", time.monotonic()
    begun = saved - state.seconds
    with track(f"{problem.name} seed {problem.seed}", total, "outer steps", state.outer_step) as bar:
        while state.outer_step < total:
            before = replace(state)
            outer_step(problem, inner, state)
            if state.outer_step % every == 0 or state.outer_step == total:
                rows = measure(problem, state, stop)
                state = before if rows is None else state  # a saved state has every point of its curve
                state.curve += rows or []
                latest = latest_accuracy(state) if rows else ""
            now = time.monotonic()
            state.seconds = now - begun
            if (stopped := stop()) or now - saved > SECONDS_BETWEEN_SAVES:
                training.keeper.save(state)
                saved = now
            bar.advance(1, latest)  # after saving: a closed terminal or pipe may end it here
            if stopped:
                break
        else:
            training.keeper.save(state)  # nothing is lost if writing the results fails
    return state


def latest_accuracy(state: TrainingState) -> str:
    """Return the last accuracy of the learning curve, to be shown as progress."""
    return f"meta-test {100 * float(state.curve[-1][5]):.1f} % {state.curve[-1][2]}"
