"""Meta-training on sine waves by Reptile, by MAML and jointly.

Reptile follows the first author's public demonstration (gist f503500cda64f2ce87c8288906b09e2d): plain SGD, and the
settings in params.yaml, which the demonstration uses with a tanh network.

Neither the paper nor the demonstration has MAML's settings, so they are our choice, made with another seed. All inner
steps use the same `inner_batch_size` points of a wave, the query loss is the mean squared error on all other points of
the grid, and the outer optimiser is Adam. Both outer step sizes fall linearly to 0.

Joint training is the baseline of the paper's argument. The mean of all waves is 0 at every x, so a network that fits
all waves at once learns to predict 0, which gives it no head start on a new wave. Here it is really trained: it is
Reptile with one inner step on whole waves. Its settings are our choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from firstorder.errors import UserError
from firstorder.method import algorithms
from firstorder.method.inner_loop import InnerLoop, OptimiserState, adapt_differentiably
from firstorder.progress import Track, silent
from firstorder.settings import SineSettings, SineTrainingSettings
from firstorder.studies.sine_network import Points, SineNetwork, tensor_of
from firstorder.studies.waves import draw_orders, draw_waves, grid_of

OUTER_STEPS_PER_DRAW = 500  # affects speed only


def reptile_gradient(inner: InnerLoop, initial: Tensor, points: Points, training: SineTrainingSettings) -> Tensor:
    """Return Reptile's meta-gradient [1, parameters]: inner steps on consecutive mini-batches of the points."""
    x, y = (side.split(training.inner_batch_size, dim=1)[: training.inner_steps] for side in points)
    state = OptimiserState.fresh(initial.expand(len(points[0]), -1))
    return algorithms.reptile(inner, initial, state, [algorithms.Group(list(zip(x, y, strict=True)))])[0]


def maml_gradient(inner: InnerLoop, initial: Tensor, points: Points, training: SineTrainingSettings) -> Tensor:
    """Return MAML's meta-gradient [1, parameters], second order (equations 3 and 4).

    It is the gradient of the query loss, averaged over tasks, through all inner steps. Every inner step adapts to the
    first `inner_batch_size` points; all other points are the query.
    """
    first = training.inner_batch_size
    support, query = ((points[0][:, part], points[1][:, part]) for part in (slice(first), slice(first, None)))
    initial = initial.detach().requires_grad_()
    start = initial.expand(len(points[0]), -1)
    state = OptimiserState.fresh(start)
    adapted, _ = adapt_differentiably(inner, start, state, [support] * training.inner_steps)
    return torch.autograd.grad(inner.loss(adapted, query).mean(), initial)[0]


@dataclass(frozen=True)
class SineAlgorithm:
    """A meta-gradient, the number of shuffled grids it needs per task, and the optimiser that follows it."""

    meta_gradient: Callable[[InnerLoop, Tensor, Points, SineTrainingSettings], Tensor]
    shuffles: Callable[[SineTrainingSettings, int], int]
    outer_optimiser: Callable[..., torch.optim.Optimizer]


# As many shuffled grids as have enough points for all inner steps. SGD with learning rate epsilon is the paper's phi -
# epsilon * meta-gradient.
_REPTILE = SineAlgorithm(
    reptile_gradient,
    lambda training, grid: math.ceil(training.inner_steps * training.inner_batch_size / grid),
    torch.optim.SGD,
)
ALGORITHMS = {
    "reptile": _REPTILE,
    # Every point of the grid is used once, either to adapt or as query.
    "maml": SineAlgorithm(maml_gradient, lambda training, grid: 1, torch.optim.Adam),
    "joint": _REPTILE,  # with one inner step, Reptile is joint training (equations 6 and 7)
}


def trained(settings: SineSettings) -> list[str]:
    """List the algorithms that have a section in the settings."""
    return [name for name in ALGORITHMS if getattr(settings, name) is not None]


def draw_training(settings: SineSettings, training: SineTrainingSettings, shuffles: int) -> Iterator[Points]:
    """Yield the points of each outer step's tasks: the whole grid in `shuffles` new orders, one after another."""
    lanes, grid = training.meta_batch_size, grid_of(settings.grid)
    for first in range(0, training.outer_steps, OUTER_STEPS_PER_DRAW):
        last = min(first + OUTER_STEPS_PER_DRAW, training.outer_steps)
        tasks = range(first * lanes, last * lanes)
        x = grid[draw_orders(settings.seed, "sine training", tasks, shuffles, settings.grid)]
        y = draw_waves(settings.seed, "sine training", tasks).at(x)
        yield from zip(tensor_of(x).split(lanes), tensor_of(y).split(lanes), strict=True)


def train(settings: SineSettings, name: str, track: Track = silent) -> Tensor:
    """Meta-train by the algorithm `name`, with its section of the settings; return phi [1, parameters].

    Raises UserError when a meta-gradient is not finite.
    """
    algorithm, training = ALGORITHMS[name], getattr(settings, name)
    network = SineNetwork(settings.hidden, settings.activation)
    inner = InnerLoop(network.loss(), "sgd", training.inner_learning_rate)
    initial = network.initial(settings.seed)
    optimiser = algorithm.outer_optimiser([initial], lr=training.outer_step_size)
    tasks = draw_training(settings, training, algorithm.shuffles(training, settings.grid))
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
