"""The leading-order expansion of section 5 as the paper states it: coefficients, and nothing computed.

E[g] = c AvgGrad - d alpha AvgGradInner + O(alpha^2) for k mini-batches of a task, k counting gradients: MAML and FOMAML
take k - 1 inner steps and then the k-th gradient, Reptile takes k inner steps, and its g is the *sum* of their
gradients, its displacement divided by alpha. theory.py measures, report/theory.py compares. No torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Coefficients:
    """What E[g] is made of, up to O(alpha^2): `average` AvgGrad + `inner` alpha AvgGradInner."""

    average: float
    inner: float


# Equations 33 to 41, section 5.1.
STATED: dict[str, Callable[[int], Coefficients]] = {
    "maml": lambda k: Coefficients(1, -2 * (k - 1)),
    "fomaml": lambda k: Coefficients(1, -(k - 1)),
    "reptile": lambda k: Coefficients(k, -k * (k - 1) / 2),
}
