"""The one inner loop: a few steps of gradient descent on the mini-batches of a task.

A newcomer would get wrong, all three from the authors' code (models.py, args.py):
- the loss is the *sum* over the mini-batch, not the mean;
- Adam has beta1 = 0, so its only memory is the second moments, and those are never reset: they flow from
  task to task in training and start the adaptation at evaluation;
- its step is TensorFlow's form, where epsilon is added to a second moment that is not bias-corrected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from firstorder.method import images
from firstorder.method.images import ImagePool, TaskImages
from firstorder.method.tasks import Draws, TaskShape, draw_tasks

ADAM_BETA2 = 0.999
ADAM_EPSILON = 1e-8


@dataclass(frozen=True)
class OptimiserState:
    """What an inner optimiser remembers: second moments [lanes, parameters] and steps taken.

    SGD leaves both alone.
    """

    second_moments: Tensor
    steps: int

    @staticmethod
    def fresh(parameters: Tensor) -> OptimiserState:
        """Return the state before the first step for parameters [lanes, parameters]."""
        return OptimiserState(torch.zeros_like(parameters), 0)

    def lanes(self, lanes: int) -> OptimiserState:
        """Give each of `lanes` lanes the same state as this one's only lane."""
        return replace(self, second_moments=self.second_moments.expand(lanes, -1))


Step = Callable[[Tensor, Tensor, OptimiserState, float], tuple[Tensor, OptimiserState]]
# Maps parameters [lanes, parameters] and one mini-batch of every lane to losses [lanes].
Loss = Callable[[Tensor, Any], Tensor]


def sgd_step(
    parameters: Tensor, gradient: Tensor, state: OptimiserState, learning_rate: float
) -> tuple[Tensor, OptimiserState]:
    """Plain gradient descent: phi <- phi - alpha g."""
    return parameters - learning_rate * gradient, state


def adam_step(
    parameters: Tensor, gradient: Tensor, state: OptimiserState, learning_rate: float
) -> tuple[Tensor, OptimiserState]:
    """Adam with beta1 = 0 in TensorFlow's form.

    v <- beta2 v + (1 - beta2) g^2;  phi <- phi - alpha sqrt(1 - beta2^t) g / (sqrt(v) + epsilon).
    """
    steps = state.steps + 1
    second_moments = state.second_moments.mul(ADAM_BETA2).addcmul(gradient, gradient, value=1 - ADAM_BETA2)
    rate = adam_rate(learning_rate, steps)
    adapted = parameters.addcdiv(gradient, second_moments.sqrt().add(ADAM_EPSILON), value=-rate)
    return adapted, OptimiserState(second_moments, steps)


def adam_rate(learning_rate: float, step: Any, sqrt: Callable[[Any], Any] = math.sqrt) -> Any:
    """Return alpha sqrt(1 - beta2^t), the size of Adam's step t, counted from 1.

    `step` is a number; an array where `sqrt` takes one.
    """
    return learning_rate * sqrt(1 - ADAM_BETA2**step)


STEPS: dict[str, Step] = {"sgd": sgd_step, "adam": adam_step}


@dataclass(frozen=True)
class InnerLoop:
    """How to adapt: the loss, the optimiser by name ("adam" or "sgd"), alpha, and the engine that computes it.

    `adapted` [parameters] is 1 where the inner loop changes a parameter and 0 where it does not; None: everywhere.
    `logits` maps parameters [lanes, parameters] and images [lanes, batch, ...] to logits [lanes, batch, way]; None
    where nothing is classified.
    """

    loss: Loss
    optimiser: str
    learning_rate: float
    adapted: Tensor | None = None
    engine: Engine = field(default_factory=lambda: Plain())
    logits: Callable[[Tensor, Tensor], Tensor] | None = None


class Engine(Protocol):
    """What computes an inner loop, and all that training and evaluation ask of it; `Plain` is the oracle of the others.

    Where `batches` or a `batch` are asked for, a mini-batch is (images [lanes, batch, channels, height, width], labels
    [lanes, batch]), or what `task_images` of the same engine gives. Nothing that comes back can be differentiated.
    """

    @property
    def name(self) -> str:
        """What records call it."""

    def adapt(
        self, inner: InnerLoop, parameters: Tensor, state: OptimiserState, batches: Sequence[Any]
    ) -> tuple[Tensor, OptimiserState]:
        """Adapt every lane to its own mini-batches; see the function of this name."""

    def gradient(self, inner: InnerLoop, parameters: Tensor, batch: Any) -> Tensor:
        """Return the gradient of a mini-batch's loss for every lane, [lanes, parameters]."""

    def hessian_product(self, inner: InnerLoop, parameters: Tensor, batch: Any, vector: Tensor) -> Tensor:
        """Return the derivative of the inner step's gradient, transposed, times `vector`, for every lane."""

    def gradient_through(
        self, inner: InnerLoop, parameters: Tensor, state: OptimiserState, batches: Sequence[Any], query: Any
    ) -> Tensor:
        """Return the derivative of the query loss, after adapting to `batches`, with respect to `parameters`."""

    def logits(self, inner: InnerLoop, parameters: Tensor, images: Tensor) -> Tensor:
        """Return the network's logits [lanes, batch, way]."""

    def inductive_logits(self, inner: InnerLoop, parameters: Tensor, support: Tensor, query: Tensor) -> Tensor:
        """Classify each query image with the support set [lanes, images, ...] alone: [lanes, queries, way]."""

    def task_images(self, pool: ImagePool, draws: Draws, tasks: range, dtype: torch.dtype) -> TaskImages:
        """Draw the tasks with these numbers and gather their images."""

    def lanes_at_once(self, pool: ImagePool, shape: TaskShape, parameters: Tensor) -> int:
        """Return how many tasks of an evaluation are adapted side by side. Rounding may depend on it."""


class Plain:
    """The engine that is the definition: autograd, one operation after another."""

    # Tasks of an evaluation side by side. The figures do not depend on it beyond rounding, but the bytes do, so it is
    # fixed for each kind of device.
    LANES: ClassVar[dict[str, int]] = {"cpu": 10, "cuda": 256}

    @property
    def name(self) -> str:
        """What records call it."""
        return "plain"

    def adapt(
        self, inner: InnerLoop, parameters: Tensor, state: OptimiserState, batches: Sequence[Any]
    ) -> tuple[Tensor, OptimiserState]:
        """Adapt every lane to its own mini-batches; see the function of this name."""
        adapted, state = _steps(inner, parameters.detach().requires_grad_(), state, batches, differentiable=False)
        return adapted.detach(), state

    def gradient(self, inner: InnerLoop, parameters: Tensor, batch: Any) -> Tensor:
        """Return the gradient of a mini-batch's loss for every lane, [lanes, parameters]."""
        parameters = parameters.detach().requires_grad_()
        return torch.autograd.grad(inner.loss(parameters, batch).sum(), parameters)[0]

    def hessian_product(self, inner: InnerLoop, parameters: Tensor, batch: Any, vector: Tensor) -> Tensor:
        """Return the derivative of the inner step's gradient, transposed, times `vector`, for every lane."""
        parameters = parameters.detach().requires_grad_()
        loss = inner.loss(parameters, batch).sum()
        (slope,) = torch.autograd.grad(loss, parameters, create_graph=True)
        if inner.adapted is not None:
            slope = slope * inner.adapted
        return torch.autograd.grad((slope * vector).sum(), parameters)[0]

    def gradient_through(
        self, inner: InnerLoop, parameters: Tensor, state: OptimiserState, batches: Sequence[Any], query: Any
    ) -> Tensor:
        """Return the derivative of the query loss, after adapting to `batches`, with respect to `parameters`."""
        start = parameters.detach().clone().requires_grad_()
        adapted, _ = adapt_differentiably(inner, start, state, batches)
        return torch.autograd.grad(inner.loss(adapted, query).sum(), start)[0]

    def logits(self, inner: InnerLoop, parameters: Tensor, images: Tensor) -> Tensor:
        """Return the network's logits [lanes, batch, way]."""
        assert inner.logits is not None, "nothing to classify with"
        return inner.logits(parameters, images)

    def inductive_logits(self, inner: InnerLoop, parameters: Tensor, support: Tensor, query: Tensor) -> Tensor:
        """Classify each query image with the support set [lanes, images, ...] alone: [lanes, queries, way]."""
        rows = [
            self.logits(inner, parameters, torch.cat([support, query[:, [position]]], dim=1))[:, -1]
            for position in range(query.shape[1])
        ]
        return torch.stack(rows, dim=1)

    def task_images(self, pool: ImagePool, draws: Draws, tasks: range, dtype: torch.dtype) -> TaskImages:
        """Draw the tasks with these numbers and gather their images."""
        drawn = draw_tasks(draws.shape, draws.seed, draws.purpose, draws.step, tasks)
        return images.task_images(pool, drawn, dtype)

    def lanes_at_once(self, pool: ImagePool, shape: TaskShape, parameters: Tensor) -> int:
        """Return how many tasks of an evaluation are adapted side by side. Rounding may depend on it."""
        return self.LANES[pool.images.device.type]


class ByHand(Plain):
    """What engines without autograd share: MAML's gradient by products with Hessians, where the inner loop is SGD."""

    def gradient_through(
        self, inner: InnerLoop, parameters: Tensor, state: OptimiserState, batches: Sequence[Any], query: Any
    ) -> Tensor:
        """Return the query gradient times I - alpha H_j, from the last inner step j on; with Adam, by autograd.

        H_j is the Hessian of inner step j's loss where that step started.
        """
        if inner.optimiser != "sgd":
            return super().gradient_through(inner, parameters, state, batches, query)
        starts = points(inner, parameters, state, batches)
        product = gradient(inner, starts[-1], query)
        for point, batch in zip(starts[-2::-1], reversed(batches), strict=True):
            product = product - inner.learning_rate * hessian_product(inner, point, batch, product)
        return product


def adapt(
    inner: InnerLoop, parameters: Tensor, state: OptimiserState, batches: Sequence[Any]
) -> tuple[Tensor, OptimiserState]:
    """Adapt every lane to its own mini-batches: U^k of Algorithm 1, line 4.

    `parameters` [lanes, parameters]; `batches` gives one mini-batch of every lane a step, as `inner.loss` takes it.
    Lanes never meet. Returns the adapted parameters and the optimiser's state after the last step.
    """
    return inner.engine.adapt(inner, parameters, state, batches)


def adapt_differentiably(
    inner: InnerLoop, parameters: Tensor, state: OptimiserState, batches: Sequence[Any]
) -> tuple[Tensor, OptimiserState]:
    """Do as `adapt`, by autograd; what comes back can be differentiated with respect to `parameters`."""
    return _steps(inner, parameters, state, batches, differentiable=True)


def gradient(inner: InnerLoop, parameters: Tensor, batch: Any) -> Tensor:
    """Return the gradient of a mini-batch's loss for every lane, [lanes, parameters]."""
    return inner.engine.gradient(inner, parameters, batch)


def hessian_product(inner: InnerLoop, parameters: Tensor, batch: Any, vector: Tensor) -> Tensor:
    """Return the derivative of the inner step's gradient, transposed, times `vector`, for every lane."""
    return inner.engine.hessian_product(inner, parameters, batch, vector)


def gradient_through(
    inner: InnerLoop, parameters: Tensor, state: OptimiserState, batches: Sequence[Any], query: Any
) -> Tensor:
    """Return the derivative of the query loss, after adapting to `batches`, with respect to `parameters`.

    [lanes, parameters]: equation 4's U'_A(phi) L'_B(U_A(phi)).
    """
    return inner.engine.gradient_through(inner, parameters, state, batches, query)


def points(inner: InnerLoop, parameters: Tensor, state: OptimiserState, batches: Sequence[Any]) -> list[Tensor]:
    """Return the parameters [lanes, parameters] where each inner step of SGD starts, and those after the last."""
    reached = [parameters]
    for batch in batches:
        reached.append(adapt(inner, reached[-1], state, [batch])[0])
    return reached


def _steps(
    inner: InnerLoop, parameters: Tensor, state: OptimiserState, batches: Sequence[Any], differentiable: bool
) -> tuple[Tensor, OptimiserState]:
    """Take an inner step a mini-batch from parameters that require a gradient; so do those that come back.

    The losses of all lanes are added up only so that one backward pass gives each lane the gradient of its own. With
    `differentiable` the result can be differentiated with respect to `parameters` through all steps.
    """
    step = STEPS[inner.optimiser]
    for batch in batches:
        (slope,) = torch.autograd.grad(inner.loss(parameters, batch).sum(), parameters, create_graph=differentiable)
        if inner.adapted is not None:
            slope = slope * inner.adapted
        if differentiable:
            parameters, state = step(parameters, slope, state, inner.learning_rate)
        else:
            parameters, state = step(parameters.detach(), slope, state, inner.learning_rate)
            parameters.requires_grad_()
    return parameters, state
