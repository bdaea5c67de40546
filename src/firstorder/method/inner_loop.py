"""The inner loop: a few steps of gradient descent on the mini-batches of a task.

Three surprises, all from the authors' code (models.py, args.py):
- The loss is the *sum* over the mini-batch, not the mean.
- Adam has beta1 = 0 unless `inner_beta1` says otherwise, so it remembers only second moments. Its state is never reset:
  it carries over from task to task in training, and adaptation at evaluation starts from it.
- Adam's step has TensorFlow's form: epsilon is added to the root of a second moment without bias correction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from firstorder.method import images
from firstorder.method.images import ImagePool, TaskImages
from firstorder.method.tasks import Draws, Tasks, TaskShape, draw_tasks

ADAM_BETA2 = 0.999
ADAM_EPSILON = 1e-8


@dataclass(frozen=True)
class OptimiserState:
    """State of the inner optimiser: moments [lanes, parameters] and steps taken. SGD changes nothing in it."""

    second_moments: Tensor
    steps: int
    first_moments: Tensor | None = None  # there with beta1 > 0, and with no other

    @staticmethod
    def fresh(parameters: Tensor, beta1: float = 0.0) -> OptimiserState:
        """Return the state before the first step for parameters [lanes, parameters]."""
        return OptimiserState(torch.zeros_like(parameters), 0, torch.zeros_like(parameters) if beta1 else None)

    def each(self, change: Callable[[Tensor], Tensor]) -> OptimiserState:
        """Return the state with `change` applied to its moments."""
        first = None if self.first_moments is None else change(self.first_moments)
        return OptimiserState(change(self.second_moments), self.steps, first)

    def lanes(self, lanes: int) -> OptimiserState:
        """Return the state of `lanes` lanes that are all like this state's only lane."""
        return self.each(lambda moments: moments.expand(lanes, -1))


Adapted = tuple[Tensor, OptimiserState]  # adapted parameters [lanes, parameters] and the optimiser's state with them
Step = Callable[[Tensor, Tensor, OptimiserState, "InnerLoop"], Adapted]
# Maps parameters [lanes, parameters] and one mini-batch per lane to losses [lanes].
Loss = Callable[[Tensor, Any], Tensor]


def sgd_step(parameters: Tensor, gradient: Tensor, state: OptimiserState, inner: InnerLoop) -> Adapted:
    """Descend: phi <- phi - alpha g."""
    return parameters - inner.learning_rate * gradient, state


def adam_step(parameters: Tensor, gradient: Tensor, state: OptimiserState, inner: InnerLoop) -> Adapted:
    """Adam in TensorFlow's form. With beta1 = 0, as in the paper, m is the gradient.

    m <- beta1 m + (1 - beta1) g;  v <- beta2 v + (1 - beta2) g^2;
    phi <- phi - alpha sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + epsilon).
    """
    steps, first = state.steps + 1, state.first_moments
    assert (first is not None) == (inner.beta1 > 0), "first moments go with beta1 > 0"
    second = state.second_moments.mul(ADAM_BETA2).addcmul(gradient, gradient, value=1 - ADAM_BETA2)
    if first is not None:
        first = gradient = first.mul(inner.beta1).add(gradient, alpha=1 - inner.beta1)
    rate = adam_rate(inner.learning_rate, steps) / (1 - inner.beta1**steps)
    adapted = parameters.addcdiv(gradient, second.sqrt().add(ADAM_EPSILON), value=-rate)
    return adapted, OptimiserState(second, steps, first)


def adam_rate(learning_rate: float, step: Any, sqrt: Callable[[Any], Any] = math.sqrt) -> Any:
    """Return alpha sqrt(1 - beta2^t), the rate of Adam with beta1 = 0 at `step` t, from 1 (arrays as `sqrt` takes)."""
    return learning_rate * sqrt(1 - ADAM_BETA2**step)


STEPS: dict[str, Step] = {"sgd": sgd_step, "adam": adam_step}


@dataclass(frozen=True)
class InnerLoop:
    """How to adapt: the loss, the optimiser ("adam" or "sgd"), alpha, Adam's beta1, and the engine that computes it.

    `adapted` [parameters] is 1 where the inner loop changes a parameter, else 0; None means it changes all. `logits`
    maps parameters [lanes, parameters] and images [lanes, batch, ...] to logits [lanes, batch, way]; None if nothing
    is classified.
    """

    loss: Loss
    optimiser: str
    learning_rate: float
    adapted: Tensor | None = None
    engine: Engine = field(default_factory=lambda: Plain())
    logits: Callable[[Tensor, Tensor], Tensor] | None = None
    beta1: float = 0.0


class Engine(Protocol):
    """What training and evaluation need from an engine. `Plain` defines the results; the others are tested against it.

    `batches` holds one mini-batch of every lane per inner step: (images [lanes, batch, channels, height, width], labels
    [lanes, batch]), or what the engine's `mini_batches` returns. No result can be differentiated.
    """

    @property
    def name(self) -> str:
        """Name of the engine in records."""

    def adapt(self, inner: InnerLoop, parameters: Tensor, state: OptimiserState, batches: Sequence[Any]) -> Adapted:
        """Adapt every lane to its own mini-batches: U^k of Algorithm 1, line 4.

        Returns the parameters [lanes, parameters] and the state after the last step. Lanes do not affect one another.
        """

    def gradient(self, inner: InnerLoop, parameters: Tensor, batch: Any) -> Tensor:
        """Return the gradient of each lane's mini-batch loss, [lanes, parameters]."""

    def hessian_product(self, inner: InnerLoop, parameters: Tensor, batch: Any, vector: Tensor) -> Tensor:
        """Return each lane's transposed Jacobian of the (masked) inner gradient times `vector`, [lanes, parameters]."""

    def gradient_through(
        self, inner: InnerLoop, parameters: Tensor, state: OptimiserState, batches: Sequence[Any], query: Any
    ) -> Tensor:
        """Return the query loss's derivative through adaptation, [lanes, parameters]: U'_A(phi) L'_B(U_A(phi))."""

    def logits(self, inner: InnerLoop, parameters: Tensor, images: Tensor) -> Tensor:
        """Return the network's logits [lanes, batch, way], all images of a lane normalised together."""

    def inductive_logits(self, inner: InnerLoop, parameters: Tensor, support: Tensor, query: Tensor) -> Tensor:
        """Classify each query image, normalised with the support set only: logits [lanes, queries, way]."""

    def task_images(self, pool: ImagePool, draws: Draws, tasks: range, dtype: torch.dtype) -> TaskImages:
        """Draw the tasks with these numbers and gather their images."""

    def mini_batches(self, pool: ImagePool, tasks: Tasks, dtype: torch.dtype) -> list[tuple[Any, Tensor]]:
        """Gather the mini-batches of these tasks."""

    def lanes_at_once(self, pool: ImagePool, shape: TaskShape, parameters: Tensor) -> int:
        """Return how many tasks of an evaluation are adapted side by side. Rounding may depend on it."""


class Plain:
    """The reference engine: plain autograd. See `Engine` for what its methods return."""

    STORED: ClassVar[bool] = False  # whether mini-batches hold images as they are stored
    # Tasks of an evaluation adapted side by side. Rounding depends on it, so it is fixed for each kind of device.
    LANES: ClassVar[dict[str, int]] = {"cpu": 10, "cuda": 256}

    @property
    def name(self) -> str:
        """Name of the engine in records."""
        return "plain"

    def adapt(self, inner: InnerLoop, parameters: Tensor, state: OptimiserState, batches: Sequence[Any]) -> Adapted:
        """Take the inner steps, each from detached parameters."""
        adapted, state = _steps(inner, parameters.detach().requires_grad_(), state, batches, differentiable=False)
        return adapted.detach(), state

    def gradient(self, inner: InnerLoop, parameters: Tensor, batch: Any) -> Tensor:
        """Differentiate the loss once."""
        parameters = parameters.detach().requires_grad_()
        return torch.autograd.grad(inner.loss(parameters, batch).sum(), parameters)[0]

    def hessian_product(self, inner: InnerLoop, parameters: Tensor, batch: Any, vector: Tensor) -> Tensor:
        """Differentiate the loss twice."""
        parameters = parameters.detach().requires_grad_()
        loss = inner.loss(parameters, batch).sum()
        (slope,) = torch.autograd.grad(loss, parameters, create_graph=True)
        if inner.adapted is not None:
            slope = slope * inner.adapted
        return torch.autograd.grad((slope * vector).sum(), parameters)[0]

    def gradient_through(
        self, inner: InnerLoop, parameters: Tensor, state: OptimiserState, batches: Sequence[Any], query: Any
    ) -> Tensor:
        """Differentiate through all inner steps."""
        start = parameters.detach().clone().requires_grad_()
        adapted, _ = adapt_differentiably(inner, start, state, batches)
        return torch.autograd.grad(inner.loss(adapted, query).sum(), start)[0]

    def logits(self, inner: InnerLoop, parameters: Tensor, images: Tensor) -> Tensor:
        """Call the network's function."""
        assert inner.logits is not None, "nothing to classify with"
        return inner.logits(parameters, images)

    def inductive_logits(self, inner: InnerLoop, parameters: Tensor, support: Tensor, query: Tensor) -> Tensor:
        """Append one query image at a time to the support set."""
        sets = (torch.cat([support, query[:, [position]]], dim=1) for position in range(query.shape[1]))
        return torch.stack([self.logits(inner, parameters, images)[:, -1] for images in sets], dim=1)

    def task_images(self, pool: ImagePool, draws: Draws, tasks: range, dtype: torch.dtype) -> TaskImages:
        """Draw on the host."""
        drawn = draw_tasks(draws.shape, draws.seed, draws.purpose, draws.step, tasks)
        return images.task_images(pool, drawn, dtype, self.STORED)

    def mini_batches(self, pool: ImagePool, tasks: Tasks, dtype: torch.dtype) -> list[tuple[Any, Tensor]]:
        """Gather by index."""
        return images.mini_batches(pool, tasks, None if self.STORED else dtype)

    def lanes_at_once(self, pool: ImagePool, shape: TaskShape, parameters: Tensor) -> int:
        """Return a constant of the device."""
        return self.LANES[pool.images.device.type]


def adapt(inner: InnerLoop, parameters: Tensor, state: OptimiserState, batches: Sequence[Any]) -> Adapted:
    """Adapt every lane to its own mini-batches, one inner step each; see `Engine.adapt`."""
    return inner.engine.adapt(inner, parameters, state, batches)


def adapt_differentiably(
    inner: InnerLoop, parameters: Tensor, state: OptimiserState, batches: Sequence[Any]
) -> Adapted:
    """Adapt by autograd such that the result can be differentiated with respect to `parameters`."""
    return _steps(inner, parameters, state, batches, differentiable=True)


def gradient(inner: InnerLoop, parameters: Tensor, batch: Any) -> Tensor:
    """Return the gradient of each lane's mini-batch loss, [lanes, parameters]."""
    return inner.engine.gradient(inner, parameters, batch)


def hessian_product(inner: InnerLoop, parameters: Tensor, batch: Any, vector: Tensor) -> Tensor:
    """Return the Hessian of each lane's mini-batch loss times `vector`; see `Engine.hessian_product`."""
    return inner.engine.hessian_product(inner, parameters, batch, vector)


def points(inner: InnerLoop, parameters: Tensor, state: OptimiserState, batches: Sequence[Any]) -> list[Tensor]:
    """Return the parameters [lanes, parameters] before each inner step of SGD, and those after the last."""
    reached = [parameters]
    for batch in batches:
        reached.append(adapt(inner, reached[-1], state, [batch])[0])
    return reached


def _steps(
    inner: InnerLoop, parameters: Tensor, state: OptimiserState, batches: Sequence[Any], differentiable: bool
) -> Adapted:
    """Take one inner step per mini-batch; `parameters` and the result require a gradient.

    Adding up the losses of all lanes lets one backward pass give every lane the gradient of its own loss. With
    `differentiable`, the result can be differentiated with respect to `parameters` through all steps.
    """
    step = STEPS[inner.optimiser]
    for batch in batches:
        (slope,) = torch.autograd.grad(inner.loss(parameters, batch).sum(), parameters, create_graph=differentiable)
        if inner.adapted is not None:
            slope = slope * inner.adapted
        begin = parameters if differentiable else parameters.detach()
        parameters, state = step(begin, slope, state, inner)
        parameters.requires_grad_()
    return parameters, state
