"""Section 5: the exact E[g] of MAML, FOMAML and Reptile, compared with its leading-order expansion.

E is over tasks *and* mini-batches. The only property of the mini-batches that the expansion uses is that
they are exchangeable. E can therefore be computed without sampling error: take a few tasks with n mini-batches each,
and average over all ordered choices of k distinct mini-batches. AvgGradInner is then over pairs of *different*
mini-batches. The inner loop and the meta-gradients are those of real trainings (inner_loop.py, algorithms.py), in
float64 with SGD. Each pair of a task and an order is a lane.

The problems are smooth, as the expansion assumes; with ReLU it would break down at the alpha that reaches a kink. The
losses are means. The expansion holds for any loss, and a sum would only need a smaller alpha.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from firstorder.errors import UserError
from firstorder.method import algorithms
from firstorder.method.inner_loop import InnerLoop, Loss, OptimiserState, gradient, hessian_product
from firstorder.method.tasks import uniforms
from firstorder.progress import Track, silent
from firstorder.settings import ExpansionSettings
from firstorder.studies.expansion import STATED, Coefficients
from firstorder.studies.sine_network import SineNetwork
from firstorder.studies.waves import draw_orders, draw_waves, grid_of

# Significant digits. Repetitions can differ from the 12th on, as memory alignment affects the order of summation.
DIGITS = 8
MOST_PARALLEL = 1 - 1e-6  # from this cosine of AvgGrad and AvgGradInner on, their coefficients are not identifiable

Batch = tuple[Tensor, ...]


@dataclass(frozen=True)
class SmoothProblem:
    """A few tasks with n mini-batches each, a smooth loss and phi [1, parameters], all float64.

    Each tensor of `batches` is [tasks, n, ...]; `loss` expects one lane axis in place of these two.
    """

    loss: Loss
    initial: Tensor
    batches: Batch

    @property
    def tasks(self) -> int:
        """Number of tasks."""
        return len(self.batches[0])

    @property
    def mini_batches(self) -> int:
        """Mini-batches per task, n."""
        return self.batches[0].shape[1]

    def in_orders(self, orders: Tensor) -> list[Batch]:
        """Return the first, second, ... k-th mini-batch of every task and order: lanes [tasks * orders, ...].

        `orders` [orders, k] holds indices of mini-batches.
        """
        tasks = torch.arange(self.tasks).repeat_interleave(len(orders))
        indices = orders.repeat(self.tasks, 1)
        return [tuple(part[tasks, index] for part in self.batches) for index in indices.unbind(dim=1)]


def regression(settings: ExpansionSettings) -> SmoothProblem:
    """Make sine waves (section 4): mean squared error of the network 1-hidden-hidden-1 with tanh."""
    tasks, points = range(settings.tasks), settings.mini_batches * settings.batch_size
    network = SineNetwork(settings.hidden, "tanh")
    x = grid_of(points)[draw_orders(settings.seed, "theory", tasks, 1, points)]
    y = draw_waves(settings.seed, "theory", tasks).at(x)
    shape = (settings.tasks, settings.mini_batches, settings.batch_size, 1)
    batches = (torch.from_numpy(x).view(shape), torch.from_numpy(y).view(shape))
    return SmoothProblem(network.loss(), network.initial(settings.seed).double(), batches)


def classification(settings: ExpansionSettings) -> SmoothProblem:
    """Make points of three clusters in the plane: mean cross entropy of the network 2-hidden-3 with softplus.

    Each task has its own centres, from U[-2, 2]; points differ from their centre by U[-1, 1] in each coordinate.
    """
    way, points = 3, settings.mini_batches * settings.batch_size
    sizes = (2 * settings.hidden, settings.hidden, settings.hidden * way, way)

    def draw(count: int, purpose: str) -> Tensor:
        return torch.from_numpy(uniforms(count, settings.seed, f"theory clusters, {purpose}"))

    def loss(parameters: Tensor, batch: Batch) -> Tensor:
        x, labels = batch
        weight1, bias1, weight2, bias2 = parameters.split(sizes, dim=1)
        features = F.softplus(x @ weight1.view(-1, 2, settings.hidden) + bias1.unsqueeze(1))
        logits = features @ weight2.view(-1, settings.hidden, way) + bias2.unsqueeze(1)
        return F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(dim=1)

    centres = 4 * draw(settings.tasks * way * 2, "centres").view(settings.tasks, way, 2) - 2
    labels = (way * draw(settings.tasks * points, "labels")).long().view(settings.tasks, points)
    offsets = 2 * draw(settings.tasks * points * 2, "points").view(settings.tasks, points, 2) - 1
    x = centres.gather(1, labels.unsqueeze(-1).expand(-1, -1, 2)) + offsets
    shape = (settings.tasks, settings.mini_batches, settings.batch_size)
    initial = 2 * draw(sum(sizes), "initial parameters")[None] - 1
    return SmoothProblem(loss, initial, (x.view(*shape, 2), labels.view(shape)))


PROBLEMS: dict[str, Callable[[ExpansionSettings], SmoothProblem]] = {
    "regression": regression,
    "classification": classification,
}


def every_order(mini_batches: int, inner_steps: int) -> Tensor:
    """List all ordered choices of k distinct mini-batches out of n: [n! / (n - k)!, k]."""
    return torch.tensor(list(itertools.permutations(range(mini_batches), inner_steps)))


def average_gradients(problem: SmoothProblem) -> tuple[Tensor, Tensor]:
    """Return AvgGrad = E[g_1] and AvgGradInner = E[H_2 g_1] at phi, each [parameters] (equations 28 to 32).

    A Hessian product is linear, so each mini-batch's Hessian is applied once, to the mean gradient of the others.
    """
    tasks, n = problem.tasks, problem.mini_batches
    inner = InnerLoop(problem.loss, "sgd", 1.0)  # the learning rate is not used
    lanes = problem.initial.expand(tasks * n, -1)
    batch = tuple(part.flatten(0, 1) for part in problem.batches)
    gradients = gradient(inner, lanes, batch).view(tasks, n, -1)
    others = (gradients.sum(dim=1, keepdim=True) - gradients) / (n - 1)
    products = hessian_product(inner, lanes, batch, others.flatten(0, 1))
    return gradients.mean(dim=(0, 1)), products.mean(dim=0)


def expected_gradient(problem: SmoothProblem, algorithm: str, orders: Tensor, learning_rate: float) -> Tensor:
    """Return E[g] [parameters] of an algorithm over all tasks and the `orders` [orders, k] of their mini-batches.

    g_MAML and g_FOMAML take the last mini-batch as query. g_Reptile is (phi - U^k(phi)) / alpha.
    """
    inner = InnerLoop(problem.loss, "sgd", learning_rate)
    state = OptimiserState.fresh(problem.initial)
    batches = problem.in_orders(orders)
    if algorithm == "reptile":
        group = algorithms.Group(batches)
        state = state.lanes(len(batches[0][0]))
    else:
        group = algorithms.Group(batches[:-1], batches[-1])
    meta_gradient, _ = algorithms.ALGORITHMS[algorithm](inner, problem.initial, state, [group])
    return meta_gradient[0] / learning_rate if algorithm == "reptile" else meta_gradient[0]


def fitted(meta_gradient: Tensor, average: Tensor, inner: Tensor, learning_rate: float) -> Coefficients:
    """Fit E[g] by AvgGrad and alpha AvgGradInner (least squares); return the two coefficients.

    Raises UserError where the two vectors are parallel, since their coefficients are not identifiable then.
    """
    cosine = F.cosine_similarity(average, inner, dim=0).abs().item()
    if not cosine < MOST_PARALLEL:
        raise UserError(
            f"theory: AvgGrad and AvgGradInner are parallel (cosine {cosine:.6f}), so their coefficients are not "
            "identifiable; raise hidden or tasks, or choose another seed"
        )
    solution = torch.linalg.lstsq(torch.stack([average, inner], dim=1), meta_gradient[:, None]).solution
    a, b = solution[:, 0].tolist()
    return Coefficients(a, b / learning_rate)


@dataclass(frozen=True)
class Measurement:
    """What is found for one algorithm and alpha; the fields are named as in columns.EXPANSION.

    The remainder is |E[g] - expansion| with the paper's coefficients, divided by |AvgGrad|.
    """

    algorithm: str
    learning_rate: float
    average_coefficient: float
    inner_coefficient: float
    remainder: float


def measure(problem: SmoothProblem, inner_steps: int, learning_rates: tuple[float, ...]) -> Iterator[Measurement]:
    """Measure both coefficients and the remainder for each algorithm and alpha."""
    average, inner = average_gradients(problem)
    orders = every_order(problem.mini_batches, inner_steps)
    for algorithm, stated in STATED.items():
        expected = stated(inner_steps)
        for alpha in learning_rates:
            meta_gradient = expected_gradient(problem, algorithm, orders, alpha)
            if not torch.isfinite(meta_gradient).all():
                raise UserError(f"theory: E[g] of {algorithm} is not finite at learning rate {alpha:g}; lower it")
            found = fitted(meta_gradient, average, inner, alpha)
            remainder = meta_gradient - expected.average * average - expected.inner * alpha * inner
            size = (remainder.norm() / average.norm()).item()
            yield Measurement(algorithm, alpha, found.average, found.inner, size)


def expand(settings: ExpansionSettings, track: Track = silent) -> list[list[Any]]:
    """Measure every problem, k, algorithm and alpha of the settings: rows of columns.EXPANSION."""
    rows = []
    parts = list(itertools.product(settings.problems, settings.inner_steps))
    with track("theory, expansion", len(parts), "problems and k") as bar:
        for name, inner_steps in parts:
            problem = PROBLEMS[name](settings)
            orders = math.perm(settings.mini_batches, inner_steps)
            for found in measure(problem, inner_steps, settings.learning_rates):
                algorithm, *numbers = astuple(found)
                sizes = [settings.tasks, settings.mini_batches, orders]
                rows.append([name, algorithm, inner_steps, *sizes, *(f"{number:.{DIGITS}g}" for number in numbers)])
            bar.advance()
    return rows
