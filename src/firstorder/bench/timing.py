"""Fair timing on a machine that other processes also use: contenders alternate in rounds.

If A were timed to the end and then B, a busy period would count against one of them only. Here every contender is
timed once per round, always for the same length, and the median over rounds is reported.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Timing:
    """How many steps were taken, and the seconds that they took."""

    steps: int
    seconds: float


def nothing() -> None:
    """Wait for nothing: on a CPU the work is done when the call returns."""


def timed(
    step: Callable[[], object],
    seconds: float,
    wait: Callable[[], None] = nothing,
    steps_per_wait: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Repeat `step` for at least `seconds`.

    `wait` returns when all work queued on the device is done. It is called after every `steps_per_wait` steps, and the
    clock is read only then.
    """
    wait()
    begin = clock()
    done = 0
    while True:
        for _ in range(steps_per_wait):
            step()
        wait()
        done += steps_per_wait
        taken = clock() - begin
        if taken >= seconds:
            return Timing(done, taken)


def interleaved(
    measurements: Mapping[str, Callable[[], float]], rounds: int, report: Callable[[str], None] = lambda name: None
) -> dict[str, list[float]]:
    """Measure each contender once per round (A B C A B C ...); return its results by name, and `report` each name."""
    results: dict[str, list[float]] = {name: [] for name in measurements}
    for _ in range(rounds):
        for name, measure in measurements.items():
            results[name].append(measure())
            report(name)
    return results


def summary(rates: Sequence[float]) -> dict[str, Any]:
    """Summarise rates, units per second; `rounds` in the order they were measured.

    The spread is maximum minus minimum, as a fraction of the median.
    """
    median = statistics.median(rates)
    return {
        "median": _digits(median),
        "minimum": _digits(min(rates)),
        "maximum": _digits(max(rates)),
        "spread": _digits((max(rates) - min(rates)) / median),
        "rounds": [_digits(rate) for rate in rates],
    }


def _digits(value: float) -> float:
    """Round to four significant digits, more than a timing is good for."""
    return float(f"{value:.4g}")
