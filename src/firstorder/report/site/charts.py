"""Two small charts as vector graphics in the page: a learning curve, and the histogram of right answers.

They take their colours from the style sheet, so they are dark where the page is. Here are only places and words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from firstorder.report.read import curves
from firstorder.report.text.formatting import percent

WIDTH, HEIGHT = 420, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 408, 12, 190  # edges of what is plotted
_FEW_BARS = 8  # have a text each; of more bars only the highest has one
_STEPS = (1, 2, 5, 10, 20, 25, 50)  # percent between two ticks


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A number on an axis."""

    place: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a chart: its name, the measured points, and the path of their running mean."""

    name: str
    dots: tuple[tuple[float, float], ...]
    path: str


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A learning curve: accuracy against outer steps."""

    alt: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    about: str


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A bar of a histogram: where it is, what it counts, and the text above it."""

    x: float
    y: float
    width: float
    height: float
    right: int
    text: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """How many tasks had how many right answers."""

    alt: str
    bars: tuple[Bar, ...]
    counts: tuple[tuple[int, int], ...]


def curve(joined: Sequence[dict[str, object]], mode: str) -> Curve | None:
    """Lay out the curve of a training in one mode (rows of curves.joined); None without a measurement."""
    frame = pd.DataFrame(joined)
    if frame.empty or "accuracy" not in frame:
        return None
    frame = frame[frame["mode"] == mode].dropna(subset="accuracy")
    if frame.empty:
        return None
    last = int(frame["outer_step"].max())
    ticks = _percent_ticks(100 * float(frame["accuracy"].min()))
    low = ticks[0]
    lines, words = [], []
    for pool in ("meta-test", "meta-train"):
        own = frame[frame["pool"] == pool].sort_values("outer_step")
        if own.empty:
            continue
        smooth = own["smoothed"]
        places = [(_x(step, last), _y(100 * value, low)) for step, value in zip(own["outer_step"], smooth, strict=True)]
        dots = [_at(step, value, last, low) for step, value in zip(own["outer_step"], own["accuracy"], strict=True)]
        path = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        lines.append(Line(name=pool, dots=tuple(dots), path=path))
        words.append(f"on {pool} classes from {percent(own['accuracy'].iloc[0])} to {percent(smooth.iloc[-1])} %")
    seeds, tasks, shot = (int(frame[name].max()) for name in ("seeds", "tasks", "shot"))
    return Curve(
        alt=f"Learning curve over {last:,} outer steps: {mode} accuracy goes {', '.join(words)}.",
        x_ticks=tuple(Tick(place=_x(part * last / 2, last), text=f"{part * last // 2:,}") for part in range(3)),
        y_ticks=tuple(Tick(place=_y(tick, low), text=str(tick)) for tick in ticks),
        lines=tuple(lines),
        about=f"Dots: {shot}-shot accuracy on {tasks} tasks, mean over {seeds} seed{'s' * (seeds > 1)}. "
        f"Lines: their mean over the last {curves.SMOOTHED} measurements.",
    )


def histogram(counts: Sequence[int]) -> Histogram:
    """Lay out a histogram; counts [queries + 1]: tasks with 0, 1, ... right answers."""
    total, highest, queries = sum(counts), max(counts), len(counts) - 1
    wide = (RIGHT - LEFT) / len(counts)
    bars = []
    for right, count in enumerate(counts):
        height = (BOTTOM - TOP - 16) * count / highest
        share = 100 * count / total
        has_text = count > 0 if len(counts) <= _FEW_BARS else count == highest
        text = "" if not has_text else f"{share:.0f} %" if share >= 1 else "<1 %"
        label = str(right) if len(counts) <= _FEW_BARS or right % 5 == 0 else ""
        bars.append(
            Bar(
                x=round(LEFT + wide * right + 1, 1),
                y=round(BOTTOM - height, 1),
                width=round(wide - 2, 1),
                height=round(height, 1),
                right=right,
                text=text,
                label=label,
            )
        )
    common = max(range(len(counts)), key=lambda right: counts[right])
    most = "" if common == queries else f"most often {common} right, in {highest:,} tasks; "
    alt = (
        f"Histogram of {total:,} tasks by right answers out of {queries}: {most}all right in {counts[-1]:,}; "
        f"fewer than half right in {sum(counts[: math.ceil(queries / 2)]):,}."
    )
    return Histogram(alt=alt, bars=tuple(bars), counts=tuple(enumerate(counts)))


def _percent_ticks(lowest: float) -> list[int]:
    """Return the numbers of an axis from below `lowest` to 100, at most seven."""
    for step in _STEPS:
        first = math.floor(lowest / step) * step
        ticks = list(range(first, 101, step))
        if len(ticks) <= 7 and ticks[-1] == 100:
            return ticks
    return [0, 50, 100]


def _at(step: float, accuracy: float, last: int, low: float) -> tuple[float, float]:
    return round(_x(step, last), 1), round(_y(100 * accuracy, low), 1)


def _x(step: float, last: int) -> float:
    return LEFT + (RIGHT - LEFT) * step / max(last, 1)


def _y(accuracy: float, low: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * (accuracy - low) / (100 - low)
