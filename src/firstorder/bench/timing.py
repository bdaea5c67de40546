"""Times things so that they can be compared on a machine that is not quiet: fixed times, taken in turns.

A newcomer would get wrong: timing A to the end and then B gives whoever ran while the machine was busy the blame.
Here every contender has a turn of the same length in every round, and the median over rounds is what counts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict


class Summary(TypedDict):
    """Rounds of one contender, in units a second; `rounds` in the order they were measured."""

    median: float
    minimum: float
    maximum: float
    spread: float
    rounds: list[float]


def nothing() -> None:
    """Wait for nothing: a processor has done what it was told when the call returns."""


def timed(
    step: Callable[[], object],
    seconds: float,
    wait: Callable[[], None] = nothing,
    block: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[int, float]:
    """Repeat `step` for at least `seconds`; return how often it ran and the seconds that it took.

    `wait` returns when everything asked for is done; it is called after every `block` steps, where the time is read.
    """
    wait()
    begin = clock()
    done = 0
    while True:
        for _ in range(block):
            step()
        wait()
        done += block
        taken = clock() - begin
        if taken >= seconds:
            return done, taken


def interleaved(
    turns: Mapping[str, Callable[[], float]], rounds: int, told: Callable[[str], None] = lambda name: None
) -> dict[str, list[float]]:
    """Give each contender a turn in every round (A B C A B C ...); return what the turns returned, by contender."""
    results: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            results[name].append(turn())
            told(name)
    return results


def summary(rates: Sequence[float]) -> Summary:
    """Summarise rates, units a second; the spread is the largest less the smallest, as a fraction of the median."""
    median = statistics.median(rates)
    return {
        "median": _digits(median),
        "minimum": _digits(min(rates)),
        "maximum": _digits(max(rates)),
        "spread": _digits((max(rates) - min(rates)) / median),
        "rounds": [_digits(rate) for rate in rates],
    }


def _digits(value: float) -> float:
    """Keep four significant digits: more than any timing has."""
    return float(f"{value:.4g}")
