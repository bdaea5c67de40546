"""What engines without autograd share: second order through the inner loop by Hessian products, and what they lack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from firstorder.errors import UserError
from firstorder.method.images import Pixels
from firstorder.method.inner_loop import InnerLoop, OptimiserState, Plain, gradient, hessian_product, points

ONLY_WITHOUT_MOMENTUM = "it computes Adam with beta1 = 0 only"


def check_momentum(inner: InnerLoop) -> None:
    """Raise UserError where such an engine would silently compute beta1 = 0."""
    if inner.beta1:
        raise UserError(f"engine {inner.engine.name}: {ONLY_WITHOUT_MOMENTUM}, not {inner.beta1:g}; use engine plain")


class ByHand(Plain):
    """Base of engines without autograd: with SGD as inner optimiser, MAML's gradient is made of Hessian products."""

    def gradient_through(
        self, inner: InnerLoop, parameters: Tensor, state: OptimiserState, batches: Sequence[Any], query: Any
    ) -> Tensor:
        """Multiply the query gradient by (I - alpha H_j), from the last inner step j to the first.

        H_j is the Hessian of inner step j's loss at the parameters where that step starts. With Adam, use autograd.
        """
        if inner.optimiser != "sgd":
            batches = [(x.to(parameters.dtype) if isinstance(x, Pixels) else x, y) for x, y in batches]
            return super().gradient_through(inner, parameters, state, batches, query)
        starts = points(inner, parameters, state, batches)
        product = gradient(inner, starts[-1], query)
        for point, batch in zip(starts[-2::-1], reversed(batches), strict=True):
            product = product - inner.learning_rate * hessian_product(inner, point, batch, product)
        return product
