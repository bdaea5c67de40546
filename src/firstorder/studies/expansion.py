"""The coefficients of section 5's leading-order expansion, as the paper states them. Imports no torch.

E[g] = c AvgGrad - d alpha AvgGradInner + O(alpha^2), where k counts the gradients of a task. MAML and FOMAML take k - 1
inner steps and then the k-th gradient. Reptile takes k inner steps, and its g is the *sum* of their gradients, which is
its displacement divided by alpha. theory.py measures the coefficients and report/read/theory.py compares them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Coefficients:
    """E[g] = `average` AvgGrad + `inner` alpha AvgGradInner + O(alpha^2)."""

    average: float
    inner: float


# Equations 33 to 41, section 5.1.
STATED: dict[str, Callable[[int], Coefficients]] = {
    "maml": lambda k: Coefficients(1, -2 * (k - 1)),
    "fomaml": lambda k: Coefficients(1, -(k - 1)),
    "reptile": lambda k: Coefficients(k, -k * (k - 1) / 2),
}
