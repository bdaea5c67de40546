"""What engines without autograd share: second order through the inner loop by Hessian products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from firstorder.method.images import Pixels
from firstorder.method.inner_loop import InnerLoop, OptimiserState, Plain, gradient, hessian_product, points


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
