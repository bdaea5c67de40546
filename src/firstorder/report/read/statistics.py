"""Means and intervals, on plain arrays and frames; nothing is drawn or read here.

There are two sources of error, which must not be mixed: the *tasks* of one evaluation (how precisely this one trained
network was measured) and the *seeds* (how much another training, on another split of the classes, would differ). There
are thousands of tasks, so the interval over tasks is the normal one. There are few seeds, so the interval over seeds is
Student's: with three seeds its half-width is 4.30 / sqrt(3) = 2.48 standard deviations, not 1.13.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

PROBABILITY = 0.975  # below the upper end of a 95 % interval
CELL = ("algorithm", "column", "mode")


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds (fraction) with the half-width of its 95 % interval from each of the two sources of error.

    The spread of the seeds' accuracies already contains the error over tasks, because each seed has its own tasks; so
    the two half-widths are never added. The one over tasks shows how much of the other more tasks could remove.
    """

    value: float
    half_width_tasks: float
    half_width_seeds: float  # NaN for one seed
    seeds: int

    @property
    def half_width(self) -> float:
        """Return the half-width over seeds or, with one seed, over its tasks."""
        return self.half_width_tasks if math.isnan(self.half_width_seeds) else self.half_width_seeds

    @property
    def low(self) -> float:
        """Return the lower end of the interval."""
        return self.value - self.half_width

    @property
    def high(self) -> float:
        """Return the upper end of the interval."""
        return self.value + self.half_width

    def as_point(self) -> dict[str, Any]:
        """Return what a figure draws; `band` says what the interval is over, `seeds` or the `tasks` of one seed."""
        band = "tasks" if self.seeds == 1 else "seeds"
        return {"accuracy": self.value, "low": self.low, "high": self.high, "band": band, "seeds": self.seeds}


def accuracy_over_tasks(histogram: Sequence[int]) -> tuple[float, float]:
    """Return the accuracy (fraction) and its standard error over tasks.

    histogram: [way * query + 1], the number of tasks with 0, 1, ..., way * query right answers, where query is the
    number of query images a class. The standard error is the sample standard deviation of the tasks' accuracies over
    the square root of their number; NaN for one task.
    """
    tasks = np.asarray(histogram, dtype=np.float64)
    count = tasks.sum()
    accuracies = np.arange(len(tasks)) / (len(tasks) - 1)
    mean = float(accuracies @ tasks / count)
    if count < 2:
        return mean, math.nan
    variance = float((accuracies - mean) ** 2 @ tasks) / (count - 1)
    return mean, math.sqrt(variance / count)


def half_width_over_tasks(standard_error: float) -> float:
    """Return the half-width of the normal 95 % interval: 1.96 standard errors."""
    return NormalDist().inv_cdf(PROBABILITY) * standard_error


def half_width_over_seeds(values: Sequence[float]) -> float:
    """Return the half-width of Student's 95 % interval for the mean of independent seeds; NaN for fewer than two."""
    count = len(values)
    if count < 2:
        return math.nan
    deviation = float(np.std(np.asarray(values, dtype=np.float64), ddof=1))
    return student_quantile(PROBABILITY, count - 1) * deviation / math.sqrt(count)


def student_quantile(probability: float, degrees: int) -> float:
    """Return the quantile of Student's t for `degrees` >= 1 and 0.5 <= probability < 1.

    Exact up to rounding: for whole degrees of freedom P(|T| < t) is a finite trigonometric sum in
    theta = atan(t / sqrt(degrees)) (Abramowitz and Stegun, 26.7.3 and 26.7.4), which is inverted here by bisection.
    """
    wanted = 2 * probability - 1
    low, high = 0.0, math.pi / 2
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return math.sqrt(degrees) * math.tan(middle)
        if _student_within(middle, degrees) < wanted:
            low = middle
        else:
            high = middle


def estimate(values: Sequence[float], standard_errors: Sequence[float]) -> Estimate:
    """Estimate the mean of one value a seed, each with its standard error over that seed's tasks."""
    count = len(values)
    error = math.hypot(*standard_errors) / count
    mean = float(np.mean(np.asarray(values, dtype=np.float64)))
    return Estimate(mean, half_width_over_tasks(error), half_width_over_seeds(values), count)


def paired_difference(first: pd.DataFrame, second: pd.DataFrame) -> Estimate | None:
    """Estimate first minus second, two cells of the frame of accuracies.py, seed by seed; None without a common seed.

    If the two cells of a seed share tasks or a training, the shared error cancels in the difference over seeds; if they
    share nothing, the interval is still valid. Records do not keep results task by task, so the two errors over tasks
    are added as if independent, which is too wide for cells that share tasks.
    """
    both = first.merge(second, on="seed", suffixes=("_first", "_second"))
    if both.empty:
        return None
    errors = np.hypot(both["standard_error_tasks_first"], both["standard_error_tasks_second"])
    return estimate((both["accuracy_first"] - both["accuracy_second"]).tolist(), errors.tolist())


def over_seeds(accuracies: pd.DataFrame) -> pd.DataFrame:
    """Summarise the frame of accuracies.py to one row a cell.

    Columns: algorithm, column, mode; accuracy, the mean over seeds (fraction); half_width of its 95 % interval
    over `spread`, which is `seeds` if there are at least two, else `tasks` of the one seed; seeds, their number;
    tasks, the smallest number a seed.
    """
    rows = []
    for key, cell in accuracies.groupby(list(CELL), sort=False):
        several = len(cell) >= 2
        half_width = half_width_over_seeds(cell["accuracy"]) if several else cell["half_width_tasks"].iloc[0]
        spread = "seeds" if several else "tasks"
        rows.append((*key, cell["accuracy"].mean(), half_width, spread, len(cell), cell["tasks"].min()))
    frame = pd.DataFrame(rows, columns=[*CELL, "accuracy", "half_width", "spread", "seeds", "tasks"])
    texts, floats, counts = [*CELL, "spread"], ["accuracy", "half_width"], ["seeds", "tasks"]
    types = dict.fromkeys(texts, "str") | dict.fromkeys(floats, "float64") | dict.fromkeys(counts, "Int64")
    return frame.astype(types)


def _student_within(theta: float, degrees: int) -> float:
    """Return P(|T| < sqrt(degrees) tan(theta))."""
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = degrees % 2 == 1
    term, total = (cosine, cosine if degrees > 1 else 0.0) if odd else (1.0, 1.0)
    for power in range(3 if odd else 2, degrees - 1, 2):
        term *= cosine**2 * (power - 1) / power
        total += term
    return 2 / math.pi * (theta + sine * total) if odd else sine * total


def log_slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the slope of log y against log x by least squares; NaN for less than two points, or if a y is zero."""
    if len(x) < 2 or not (y > 0).all():
        return math.nan
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
