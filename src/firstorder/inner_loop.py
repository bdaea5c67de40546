"""The one inner loop: a few steps of gradient descent on the mini-batches of a task.

A newcomer would get wrong, all three from the authors' code (models.py, args.py):
- the loss is the *sum* over the mini-batch, not the mean;
- Adam has beta1 = 0, so its only memory is the second moments, and those are never reset: they flow from
  task to task in training and start the adaptation at evaluation;
- its step is TensorFlow's form, where epsilon is added to a second moment that is not bias-corrected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

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
    rate = learning_rate * math.sqrt(1 - ADAM_BETA2**steps)
    adapted = parameters.addcdiv(gradient, second_moments.sqrt().add(ADAM_EPSILON), value=-rate)
    return adapted, OptimiserState(second_moments, steps)


STEPS: dict[str, Step] = {"sgd": sgd_step, "adam": adam_step}


@dataclass(frozen=True)
class InnerLoop:
    """How to adapt: the loss, the optimiser by name ("adam" or "sgd"), alpha.

    `adapted` [parameters] is 1 where the inner loop changes a parameter and 0 where it does not; None: everywhere.
    `engine` computes the same faster, for one network and its classification loss; None: the plain way below.
    """

    loss: Loss
    optimiser: str
    learning_rate: float
    adapted: Tensor | None = None
    engine: Engine | None = None


class Engine(Protocol):
    """A faster way to do what the functions of the same names below do, which are its oracle.

    A mini-batch is (images [lanes, batch, channels, height, width], labels [lanes, batch]); nothing that comes back
    can be differentiated. Results differ from the oracle's by rounding.
    """

    def adapt(
        self, inner: InnerLoop, parameters: Tensor, state: OptimiserState, batches: Sequence[Any]
    ) -> tuple[Tensor, OptimiserState]:
        """Adapt every lane to its own mini-batches."""

    def gradient(self, inner: InnerLoop, parameters: Tensor, batch: Any) -> Tensor:
        """Return the gradient of a mini-batch's loss."""

    def hessian_product(self, inner: InnerLoop, parameters: Tensor, batch: Any, vector: Tensor) -> Tensor:
        """Return the Hessian of a mini-batch's loss times `vector` masked by `inner.adapted`."""

    def logits(self, parameters: Tensor, images: Tensor) -> Tensor:
        """Return the network's logits."""


def adapt(
    inner: InnerLoop,
    parameters: Tensor,
    state: OptimiserState,
    batches: Iterable[Any],
    differentiable: bool = False,
) -> tuple[Tensor, OptimiserState]:
    """Adapt every lane to its own mini-batches: U^k of Algorithm 1, line 4.

    `parameters` [lanes, parameters]; `batches` gives one mini-batch of every lane a step, as `inner.loss`
    takes it. Lanes never meet: the losses of all lanes are added up only so that one backward pass gives
    each lane the gradient of its own. With `differentiable` the result can be differentiated with respect
    to `parameters` through all steps (MAML's meta-gradient); else it is a plain value.

    Returns the adapted parameters and the optimiser's state after the last step.
    """
    if inner.engine is not None and not differentiable:
        return inner.engine.adapt(inner, parameters, state, [*batches])
    step = STEPS[inner.optimiser]
    if not parameters.requires_grad:
        parameters = parameters.detach().requires_grad_()
    for batch in batches:
        (gradient,) = torch.autograd.grad(inner.loss(parameters, batch).sum(), parameters, create_graph=differentiable)
        if inner.adapted is not None:
            gradient = gradient * inner.adapted
        if differentiable:
            parameters, state = step(parameters, gradient, state, inner.learning_rate)
        else:
            parameters, state = step(parameters.detach(), gradient, state, inner.learning_rate)
            parameters.requires_grad_()
    return (parameters if differentiable else parameters.detach()), state


def gradient(inner: InnerLoop, parameters: Tensor, batch: Any) -> Tensor:
    """Return the gradient of a mini-batch's loss for every lane, [lanes, parameters]."""
    if inner.engine is not None:
        return inner.engine.gradient(inner, parameters, batch)
    parameters = parameters.detach().requires_grad_()
    return torch.autograd.grad(inner.loss(parameters, batch).sum(), parameters)[0]


def hessian_product(inner: InnerLoop, parameters: Tensor, batch: Any, vector: Tensor) -> Tensor:
    """Return the derivative of the inner step's gradient, transposed, times `vector`, for every lane."""
    if inner.engine is not None:
        return inner.engine.hessian_product(inner, parameters, batch, vector)
    parameters = parameters.detach().requires_grad_()
    loss = inner.loss(parameters, batch).sum()
    (slope,) = torch.autograd.grad(loss, parameters, create_graph=True)
    if inner.adapted is not None:
        slope = slope * inner.adapted
    return torch.autograd.grad((slope * vector).sum(), parameters)[0]
