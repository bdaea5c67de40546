"""Margins of equivalence: how far below and above the paper's number ours may lie without a difference that matters.

In the middle of the scale a margin is a number of percentage points. Near 100 % that is too wide: where the paper has
99.48 %, one point would allow three times its errors. So above a stated accuracy the margin is a ratio of error rates:
ours may be up to `error_ratio` times the paper's, or down to one `error_ratio`-th of it. Both are our choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from firstorder.settings.schema import setting


@dataclass(frozen=True)
class Margins:
    """Two positive fractions: how far a difference of accuracies may lie below and above zero."""

    below: float
    above: float

    def hold(self, low: float, high: float) -> bool:
        """Say whether an interval lies inside; the margins themselves are outside."""
        return -self.below < low and high < self.above

    def can_hold(self, half_width: float) -> bool:
        """Say whether an interval of this half-width lies inside for some centre."""
        return 2 * half_width < self.below + self.above


@dataclass(frozen=True, kw_only=True)
class NearCeiling:
    """Where and how the margin is a ratio of error rates."""

    above_percent: float = setting("accuracy of the paper from which on errors are compared", above=0, at_most=100)
    error_ratio: float = setting("largest ratio of error rates that does not matter", above=1)


def margins(points: Mapping[str, float], ceiling: NearCeiling | None, dataset: str, stated: Sequence[float]) -> Margins:
    """Return the margins of a comparison with the paper's accuracies `stated` (fractions).

    Of a value there is one, of an order two, and the second is the reference. `points` has the margin of each data set
    in percentage points.
    """
    if ceiling is None or min(stated) <= ceiling.above_percent / 100:
        return Margins(points[dataset] / 100, points[dataset] / 100)
    error = 1 - stated[-1]
    return Margins(below=error * (ceiling.error_ratio - 1), above=error * (1 - 1 / ceiling.error_ratio))
