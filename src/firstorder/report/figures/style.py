"""How figures look: the only place with sizes, and the settings that make the files' bytes repeatable.

Colours are in themes.py; whatever differs in colour also differs in line or marker.
"""

from __future__ import annotations

import io
import math
import os
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, Locator, LogFormatter, NullLocator
from numpy.typing import NDArray

from firstorder.files import replacing
from firstorder.report.figures import themes
from firstorder.report.figures.themes import Colour, Theme
from firstorder.report.text.formatting import training_label

WIDTH = 7.2  # inches
DOTS_PER_INCH = 160
BAND_OPACITY, DOT_OPACITY = 0.2, 0.4
THIN, THICK = 0.8, 1.6  # points
LINE_LENGTH, LINE_HEIGHT = 130, 0.13  # of small print: characters that fit into WIDTH; inches
_MOST_TICKS = 50  # with a number, of an axis
MARKER, SMALL_MARKER, TINY_MARKER, DOT, CAP = 5.5, 3.5, 1.6, 4.0, 2.5  # points

_SETTINGS: dict[str, Any] = {
    "backend": "Agg",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "grid.linewidth": 0.5,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": THICK,
    "lines.markersize": MARKER,
    "pdf.fonttype": 42,  # letters as text, not as shapes
    "pdf.compression": 6,
    "svg.hashsalt": "firstorder",
    "path.simplify": False,
    "text.parse_math": False,  # a name with dollars is no formula; our formulas say parse_math=True
}
# Metadata of a file. None leaves the entry out: without software and date, the bytes depend on the data alone.
_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
NOTHING = "Nothing is recorded yet for this figure."


@contextmanager
def applied(theme: Theme = themes.LIGHT) -> Iterator[None]:
    """Apply the settings within a `with` statement, to matplotlib's defaults; what was set is restored after it."""
    with mpl.rc_context(), themes.used(theme):
        mpl.rcdefaults()
        settings = _SETTINGS | theme.settings()
        with sns.axes_style("whitegrid"), sns.plotting_context("paper"), mpl.rc_context(settings):
            yield


def new_figure(height: float) -> Figure:
    """Return an empty figure of WIDTH and `height` (inches), with automatic layout."""
    return Figure(figsize=(WIDTH, height), layout="constrained")


def panels(part: FigureBase, count: int, width: int) -> list[Axes]:
    """Return the axes of `count` panels, `width` in a row; those that the last row has too many are left empty."""
    axes = list(part.subplots(math.ceil(count / width), width, squeeze=False).flat)
    for axis in axes[count:]:
        axis.set_axis_off()
    return axes[:count]


def legend_entry(role: str, label: str, **look: Any) -> Line2D:
    """Return a legend's entry: a line, in the colour of `role` unless `look` names another."""
    return Line2D([], [], label=label, **{"color": themes.colour(role), **look})


def add_legend(part: FigureBase, entries: list[Line2D], columns: int, **options: Any) -> None:
    """Write a legend below everything that is drawn in `part`."""
    part.legend(handles=entries, loc="outside lower center", ncols=columns, **options)


def draw_band(axis: Axes, x: pd.Series, low: pd.Series, high: pd.Series, colour: Colour) -> None:
    """Draw the band of a line: what lies from `low` to `high`."""
    axis.fill_between(x, low, high, color=colour, alpha=BAND_OPACITY, linewidth=0)


def draw_dots(axis: Axes, x: pd.Series, y: pd.Series, colour: Colour) -> None:
    """Draw small pale dots: the single measurements behind a line. None is cut off at the edge of the axis."""
    axis.plot(x, y, ".", color=colour, alpha=DOT_OPACITY, markersize=DOT, markeredgewidth=0, clip_on=False)


def draw_intervals(axis: Axes, x: pd.Series, frame: pd.DataFrame, **look: Any) -> None:
    """Draw accuracies (fractions) in percent at `x`, each with its interval from `low` to `high`."""
    accuracy = frame["accuracy"]
    errors = [100 * (accuracy - frame["low"]), 100 * (frame["high"] - accuracy)]
    axis.errorbar(x, 100 * accuracy, yerr=errors, capsize=CAP, **look)


def set_ticks(side: Axis, locator: Locator) -> None:
    """Put ticks with plain numbers where `locator` says, and no smaller ones between them."""
    side.set_major_locator(locator)
    side.set_minor_locator(NullLocator())
    side.set_major_formatter("{x:g}")


def write_above(figure: Figure, words: str) -> None:
    """Write a line above everything that is drawn."""
    figure.suptitle(words, fontsize="x-small", x=0.01, ha="left")


def write_below(figure: Figure, words: str) -> FigureBase:
    """Make the figure higher and write small lines at its bottom; return the part above them, to draw in."""
    if not words:
        return figure
    lines = textwrap.wrap(words, LINE_LENGTH, break_on_hyphens=False)
    figure.set_figheight(figure.get_figheight() + LINE_HEIGHT * (len(lines) + 1))
    figure.supxlabel("\n".join(lines), fontsize="x-small", x=0.01, ha="left")
    # Drawn into a subfigure, or a legend at the lower edge would overlap the words.
    return figure.add_subfigure(figure.add_gridspec(1, 1)[0])


def say(axis: Axes, words: str) -> None:
    """Write `words` on an axis for which there is nothing to draw yet."""
    axis.set_axis_off()
    axis.text(0.5, 0.5, words, ha="center", va="center", wrap=True, transform=axis.transAxes)


def recorded_and_missing(frame: pd.DataFrame, by: str) -> tuple[list[str], list[str]]:
    """Split the names in column `by` into those with an accuracy and those without, each in the frame's order."""
    known = frame["accuracy"].notna().groupby(frame[by], sort=False).any()
    return list(known.index[known]), list(known.index[~known])


def not_run(names: Iterable[str]) -> str:
    """Name trainings or evaluations by algorithm, like `Not run yet: MAML (Omniglot 5-way).`; empty without any."""
    columns: dict[str, list[str]] = {}
    for name in names:
        algorithm, _, column = training_label(name).partition(", ")
        columns.setdefault(algorithm, []).append(column)
    groups = [f"{algorithm} ({', '.join(found)})" for algorithm, found in columns.items()]
    return f"Not run yet: {'; '.join(groups)}." if groups else ""


def progress(run: int, planned: int, what: str = "trainings") -> str:
    """Say how many of the planned trainings are run, and where the others are listed; empty if all are."""
    return "" if run == planned else f"{run} of {planned} {what} run; make plan lists the others and their times."


def nothing(words: str = "") -> Figure:
    """Return a figure that says only that nothing is recorded yet, and `words` below that."""
    figure = new_figure(2.0)
    say(figure.subplots(), f"{NOTHING}\n{words}".strip())
    return figure


def stretch(axis: Axes, lowest: float, *, along: Literal["x", "y"] = "y", highest: float = 100) -> None:
    """Give accuracies a scale that is stretched near 100 %, from `lowest` to `highest` percent, along x or y.

    Most of a curve lies just below 100 %; on a linear scale only its first step could be seen.
    """
    is_y = along == "y"
    side, set_scale, set_ends = (
        (axis.yaxis, axis.set_yscale, axis.set_ylim) if is_y else (axis.xaxis, axis.set_xscale, axis.set_xlim)
    )
    set_scale("function", functions=(_stretch, _unstretch))
    set_ends(lowest, highest)
    side.set_major_locator(FixedLocator([20, 40, 60, 80, 90, 95, 98, 99, 100]))
    side.set_minor_locator(NullLocator())


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG or PDF, by the suffix of `path`; equal figures give equal bytes."""
    with replacing(path) as part:
        part.write_bytes(content(figure, path.suffix.removeprefix(".")))


def content(figure: Figure, kind: str) -> bytes:
    """Return the bytes of the figure as `png` or `pdf`; equal figures give equal bytes."""
    for side in figure.findobj(Axis):
        if isinstance(side, Axis) and isinstance(side.get_major_formatter(), LogFormatter):
            for tick in side.get_major_ticks(_MOST_TICKS):
                tick.label1.set_parse_math(True)  # powers of ten are formulas
    written = io.BytesIO()
    with _without_date():
        figure.savefig(written, format=kind, dpi=DOTS_PER_INCH, metadata=_METADATA[kind])
    return written.getvalue()


@contextmanager
def _without_date() -> Iterator[None]:
    """Hide a date for files within a `with` statement: matplotlib reads it, although it is then left out."""
    date = os.environ.pop("SOURCE_DATE_EPOCH", None)
    try:
        yield
    finally:
        if date is not None:
            os.environ["SOURCE_DATE_EPOCH"] = date


def _stretch(accuracy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map percent to a scale on which 101 % is infinitely far away."""
    return -np.log(np.maximum(101 - np.asarray(accuracy, dtype=np.float64), 1e-9))


def _unstretch(place: NDArray[np.float64]) -> NDArray[np.float64]:
    return 101 - np.exp(-np.asarray(place, dtype=np.float64))
