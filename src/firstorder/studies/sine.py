"""Figure 1: regression on sine waves, before meta-training, after MAML, after Reptile and after joint training.

A newcomer would get wrong: the loss here is the *mean* squared error of a mini-batch, where classification
takes the sum; and a wave has no classes, so one adapted function must fit a whole curve from a few points.

From the paper (section 4): the task f(x) = a sin(x + b) with a from U[0.1, 5] and b from U[0, 2 pi] on
[-5, 5], the network 1-64-64-1 with ReLU, 10 support points, 32 gradient steps at evaluation. From the first
author's public demonstration (gist f503500cda64f2ce87c8288906b09e2d): the grid of 50 points that stands for
the interval, PyTorch's default initial parameters, plain SGD, and Reptile's settings in params.yaml.

Ours, as neither says: everything about MAML. Its inner steps are all on the same `inner_batch_size` points of
a wave, its query loss is the mean squared error on all other points of the grid, its outer optimiser is Adam.
Both outer step sizes fall linearly to 0. Also ours: support points are distinct (the demonstration may draw
one twice), and losses are means over many new waves (the demonstration watches one). MAML's settings were
chosen, with another seed, and Reptile's were taken over from a network with tanh; so Figure 1 shows that both
learn to adapt, and is no comparison of the two.

Joint training is the baseline that the paper argues from: the mean of all waves is 0 at every x, so a network
that fits them all at once learns to predict 0, and starts from nothing at a new wave. It is trained here for
real, as Reptile with one inner step on whole waves; its settings are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from firstorder.errors import UserError
from firstorder.method import algorithms
from firstorder.method.inner_loop import InnerLoop, OptimiserState, adapt, adapt_differentiably
from firstorder.method.tasks import Indices, raw, uniforms
from firstorder.progress import Track, silent
from firstorder.settings import SineSettings, SineTrainingSettings

LOSS_COLUMNS = ("algorithm", "inner_steps", "tasks", "loss", "standard_error")
FIT_COLUMNS = ("task", "algorithm", "inner_steps", "x", "y")

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "tanh": torch.tanh}
TASKS_A_GENERATOR = 1000  # part of the definition of the draws: a generator gives this many tasks a row each
OUTER_STEPS_A_DRAW = 500  # speed only

Points = tuple[Tensor, Tensor]  # x and y, each [lanes, points, 1]
Numbers = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class SineNetwork:
    """The network 1-hidden-hidden-1 as a function of one flat parameter vector a lane.

    Weights are [in, out]; a flat vector holds weight and bias layer after layer.
    """

    hidden: int
    activation: str

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Shapes of the parameters, in order."""
        hidden = self.hidden
        return {
            "layer1.weight": (1, hidden),
            "layer1.bias": (1, hidden),
            "layer2.weight": (hidden, hidden),
            "layer2.bias": (1, hidden),
            "layer3.weight": (hidden, 1),
            "layer3.bias": (1, 1),
        }

    def initial(self, seed: int) -> Tensor:
        """Draw initial parameters, float32 [1, parameters]: U(-1, 1) / sqrt(inputs of the layer) for all."""
        parts = []
        for index, (name, shape) in enumerate(self.shapes.items()):
            inputs = self.shapes[name.replace("bias", "weight")][0]
            draw = uniforms(math.prod(shape), seed, "sine initial parameters", index)
            parts.append((2 * draw - 1) / math.sqrt(inputs))
        return torch.from_numpy(np.concatenate(parts).astype(np.float32))[None]

    def predictor(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return y [lanes, points, 1] as a function of parameters [lanes, parameters] and x [lanes, points, 1]."""
        shapes = list(self.shapes.values())
        sizes = [math.prod(shape) for shape in shapes]
        activate = ACTIVATIONS[self.activation]

        def predict(parameters: Tensor, x: Tensor) -> Tensor:
            parts = [p.view(-1, *shape) for p, shape in zip(parameters.split(sizes, dim=1), shapes, strict=True)]
            features = activate(torch.baddbmm(parts[1], x, parts[0]))
            features = activate(torch.baddbmm(parts[3], features, parts[2]))
            return torch.baddbmm(parts[5], features, parts[4])

        return predict

    def loss(self) -> Callable[[Tensor, Points], Tensor]:
        """Return the mean squared error over a mini-batch of points, for each lane."""
        predict = self.predictor()

        def loss(parameters: Tensor, batch: Points) -> Tensor:
            x, y = batch
            return (predict(parameters, x) - y).square().mean(dim=(1, 2))

        return loss


@dataclass(frozen=True)
class Waves:
    """Tasks side by side: amplitudes and phases, float64 [tasks, 1]."""

    amplitudes: Numbers
    phases: Numbers

    def at(self, x: Numbers) -> Numbers:
        """Return f(x) = a sin(x + b) for x [points] or [tasks, points]: [tasks, points]."""
        return self.amplitudes * np.sin(x + self.phases)


def grid_of(points: int) -> Numbers:
    """Return the x that stand for the interval [-5, 5], float64 [points]."""
    return np.linspace(-5.0, 5.0, points)


def draw_waves(seed: int, purpose: str, tasks: range) -> Waves:
    """Draw the waves numbered `tasks`: a from U[0.1, 5], b from U[0, 2 pi]."""
    drawn = _rows(uniforms, 2, seed, f"{purpose}, waves", tasks)
    return Waves(0.1 + 4.9 * drawn[:, :1], 2 * np.pi * drawn[:, 1:])


def draw_orders(seed: int, purpose: str, tasks: range, rounds: int, grid: int) -> Indices:
    """Shuffle the grid `rounds` times for each of the tasks numbered `tasks`: [tasks, rounds * grid]."""
    keys = _rows(raw, rounds * grid, seed, f"{purpose}, points", tasks).reshape(len(tasks), rounds, grid)
    return np.argsort(keys, axis=2, kind="stable").reshape(len(tasks), rounds * grid).astype(np.int64)


def _rows(draw: Callable[..., Any], width: int, seed: int, purpose: str, tasks: range) -> np.ndarray[Any, Any]:
    """Draw a row of `width` for each task. A task's row depends on its number, not on which others are drawn."""
    first, last = tasks.start // TASKS_A_GENERATOR, (tasks.stop - 1) // TASKS_A_GENERATOR
    blocks = [draw(TASKS_A_GENERATOR * width, seed, purpose, block) for block in range(first, last + 1)]
    skipped = first * TASKS_A_GENERATOR
    return np.concatenate(blocks).reshape(-1, width)[tasks.start - skipped : tasks.stop - skipped]


def reptile_gradient(inner: InnerLoop, initial: Tensor, points: Points, training: SineTrainingSettings) -> Tensor:
    """Reptile's meta-gradient [1, parameters]: inner steps on mini-batches of the points, in their order."""
    x, y = (side.split(training.inner_batch_size, dim=1)[: training.inner_steps] for side in points)
    state = OptimiserState.fresh(initial.expand(len(points[0]), -1))
    return algorithms.reptile(inner, initial, state, [algorithms.Group(list(zip(x, y, strict=True)))])[0]


def maml_gradient(inner: InnerLoop, initial: Tensor, points: Points, training: SineTrainingSettings) -> Tensor:
    """MAML's meta-gradient [1, parameters], second order (equations 3 and 4).

    It is the gradient, through all inner steps, of the mean over tasks of the query loss. The first
    `inner_batch_size` points adapt, in every step; all others are the query.
    """
    first = training.inner_batch_size
    support, query = ((points[0][:, part], points[1][:, part]) for part in (slice(first), slice(first, None)))
    initial = initial.detach().requires_grad_()
    start = initial.expand(len(points[0]), -1)
    state = OptimiserState.fresh(start)
    adapted, _ = adapt_differentiably(inner, start, state, [support] * training.inner_steps)
    return torch.autograd.grad(inner.loss(adapted, query).mean(), initial)[0]


def reptile_rounds(training: SineTrainingSettings, grid: int) -> int:
    """Return how often the grid must be shuffled so that there are points for all inner steps."""
    return math.ceil(training.inner_steps * training.inner_batch_size / grid)


def maml_rounds(training: SineTrainingSettings, grid: int) -> int:
    """Return 1: every point of the grid either adapts or is in the query, once."""
    return 1


@dataclass(frozen=True)
class SineAlgorithm:
    """A meta-gradient, the shuffled grids that it needs of a task, and the optimiser that follows it."""

    meta_gradient: Callable[[InnerLoop, Tensor, Points, SineTrainingSettings], Tensor]
    rounds: Callable[[SineTrainingSettings, int], int]
    outer_optimiser: Callable[..., torch.optim.Optimizer]


ALGORITHMS = {
    # Plain descent with rate epsilon is the paper's phi - epsilon * meta-gradient.
    "reptile": SineAlgorithm(reptile_gradient, reptile_rounds, torch.optim.SGD),
    "maml": SineAlgorithm(maml_gradient, maml_rounds, torch.optim.Adam),
    # Reptile with one inner step (equations 6 and 7): the waves' mean, which is 0 everywhere, is all it can learn.
    "joint": SineAlgorithm(reptile_gradient, reptile_rounds, torch.optim.SGD),
}


def trained(settings: SineSettings) -> list[str]:
    """List the algorithms that the settings have."""
    return [name for name in ALGORITHMS if getattr(settings, name) is not None]


def draw_training(settings: SineSettings, training: SineTrainingSettings, rounds: int) -> Iterator[Points]:
    """Yield the points of each outer step's tasks: the whole grid, shuffled anew `rounds` times."""
    lanes, grid = training.meta_batch_size, grid_of(settings.grid)
    for first in range(0, training.outer_steps, OUTER_STEPS_A_DRAW):
        last = min(first + OUTER_STEPS_A_DRAW, training.outer_steps)
        tasks = range(first * lanes, last * lanes)
        x = grid[draw_orders(settings.seed, "sine training", tasks, rounds, settings.grid)]
        y = draw_waves(settings.seed, "sine training", tasks).at(x)
        yield from zip(_tensor(x).split(lanes), _tensor(y).split(lanes), strict=True)


def train(settings: SineSettings, name: str, track: Track = silent) -> Tensor:
    """Meta-train by the algorithm `name` (also its section of the settings); return phi [1, parameters].

    Raises UserError when a meta-gradient is not finite.
    """
    algorithm, training = ALGORITHMS[name], getattr(settings, name)
    network = SineNetwork(settings.hidden, settings.activation)
    inner = InnerLoop(network.loss(), "sgd", training.inner_learning_rate)
    initial = network.initial(settings.seed)
    optimiser = algorithm.outer_optimiser([initial], lr=training.outer_step_size)
    tasks = draw_training(settings, training, algorithm.rounds(training, settings.grid))
    with track(f"sine, {name}", training.outer_steps, "outer steps") as bar:
        for outer_step, points in enumerate(tasks):
            initial.grad = algorithm.meta_gradient(inner, initial, points, training)
            if not math.isfinite(initial.grad.sum().item()):
                raise UserError(
                    f"sine: {name}, seed {settings.seed}: the meta-gradient is not finite at outer step {outer_step}; "
                    f"lower inner_learning_rate (now {training.inner_learning_rate:g}) or outer_step_size "
                    f"(now {training.outer_step_size:g})"
                )
            optimiser.param_groups[0]["lr"] = training.outer_step_size * (1 - outer_step / training.outer_steps)
            optimiser.step()
            bar.advance()
    return initial


@dataclass(frozen=True)
class NewWaves:
    """The waves of the evaluation: y of the whole grid and of the support points, float64 [tasks, points]."""

    grid: Numbers  # x, [grid]
    truth: Numbers  # [tasks, grid]
    support: Numbers  # x, [tasks, support]
    support_truth: Numbers

    @staticmethod
    def draw(settings: SineSettings) -> NewWaves:
        """Draw all waves of the evaluation and their support points, of which none is twice in a task."""
        tasks, grid = range(settings.evaluation_tasks), grid_of(settings.grid)
        waves = draw_waves(settings.seed, "sine evaluation", tasks)
        order = draw_orders(settings.seed, "sine evaluation", tasks, 1, settings.grid)
        support = grid[order[:, : settings.support]]
        return NewWaves(grid, waves.at(grid), support, waves.at(support))


def evaluate(settings: SineSettings, initial: Tensor, waves: NewWaves) -> dict[int, Numbers]:
    """Adapt phi [1, parameters] to every new wave; return what is predicted on the grid, [tasks, grid].

    Keys are the inner steps taken: 0 and those of `evaluation_steps`. Every step is on all support points.
    """
    network = SineNetwork(settings.hidden, settings.activation)
    predict = network.predictor()
    inner = InnerLoop(network.loss(), "sgd", settings.evaluation_learning_rate)
    batch = _tensor(waves.support), _tensor(waves.support_truth)
    x = _tensor(np.broadcast_to(waves.grid, waves.truth.shape))
    parameters, taken, predictions = initial.expand(len(waves.truth), -1), 0, {}
    state = OptimiserState.fresh(parameters)
    for inner_steps in sorted({0, *settings.evaluation_steps}):
        parameters, state = adapt(inner, parameters, state, [batch] * (inner_steps - taken))
        predictions[inner_steps] = predict(parameters, x)[:, :, 0].numpy().astype(np.float64)
        taken = inner_steps
    return predictions


def simulate(settings: SineSettings, track: Track = silent) -> tuple[list[list[Any]], list[list[Any]]]:
    """Compute Figure 1: rows of LOSS_COLUMNS and rows of FIT_COLUMNS.

    A loss is the mean over new waves of the mean squared error over the grid, its standard error that over
    waves. Fits are of the first `drawn_tasks` of these waves, before and after all inner steps; `truth` and
    `support` are the wave itself and the points adapted to. Raises UserError for settings that cannot be.
    """
    check(settings)
    waves = NewWaves.draw(settings)
    before = SineNetwork(settings.hidden, settings.activation).initial(settings.seed)
    predictions = {"random initialisation": evaluate(settings, before, waves)}
    for name in trained(settings):
        predictions[name] = evaluate(settings, train(settings, name, track), waves)
    losses = [
        [name, inner_steps, settings.evaluation_tasks, *_mean_loss(name, inner_steps, predicted[inner_steps], waves)]
        for name, predicted in predictions.items()
        for inner_steps in settings.evaluation_steps
    ]
    fits: list[list[Any]] = []
    for task in range(settings.drawn_tasks):
        fits += _curve(task, "truth", 0, waves.grid, waves.truth[task])
        fits += _curve(task, "support", 0, waves.support[task], waves.support_truth[task])
        for name, predicted in predictions.items():
            for inner_steps in sorted({0, settings.evaluation_steps[-1]}):
                fits += _curve(task, name, inner_steps, waves.grid, predicted[inner_steps][task])
    return losses, fits


def check(settings: SineSettings) -> None:
    """Raise UserError where settings do not go together."""
    steps = settings.evaluation_steps
    if not steps or list(steps) != sorted(set(steps)):
        raise UserError(f"sine: evaluation_steps: expected at least one, none twice, ascending; found {list(steps)}")
    if settings.joint is not None and settings.joint.inner_steps != 1:
        raise UserError(f"sine: joint: joint training has inner_steps: 1, found {settings.joint.inner_steps}")
    grid, points = settings.grid, "the points of the grid"
    for name, value, limit, what in (
        ("support", settings.support, grid, points),
        ("drawn_tasks", settings.drawn_tasks, settings.evaluation_tasks, "evaluation_tasks"),
        ("reptile: inner_batch_size", settings.reptile.inner_batch_size, grid, points),
        ("maml: inner_batch_size", settings.maml.inner_batch_size, grid - 1, f"{points} but one for the query"),
    ):
        if value > limit:
            raise UserError(f"sine: {name}: expected at most {limit} ({what}), found {value}; lower it")


def _tensor(points: Numbers) -> Tensor:
    """Return float32 [tasks, points, 1] of [tasks, points]."""
    return torch.from_numpy(points.astype(np.float32)).unsqueeze(-1)


def _mean_loss(name: str, inner_steps: int, predicted: Numbers, waves: NewWaves) -> tuple[str, str]:
    """Return the mean over waves of the mean squared error over the grid, and its standard error."""
    errors = ((predicted - waves.truth) ** 2).mean(axis=1)
    if not np.isfinite(errors).all():
        raise UserError(
            f"sine: {name} after {inner_steps} inner steps: {np.count_nonzero(~np.isfinite(errors))} of {len(errors)} "
            "fits are not finite; lower evaluation_learning_rate"
        )
    return f"{errors.mean():.6f}", f"{errors.std(ddof=1) / math.sqrt(len(errors)):.6f}"


def _curve(task: int, algorithm: str, inner_steps: int, x: Numbers, y: Numbers) -> list[list[Any]]:
    return [[task, algorithm, inner_steps, f"{a:.6f}", f"{b:.6f}"] for a, b in zip(x, y, strict=True)]
