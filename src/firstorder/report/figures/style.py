"""How figures look: the only place with colours, sizes, and the settings that make the files' bytes repeatable.

Colours are seaborn's colour-blind-safe palette; whatever differs in colour also differs in line or marker.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import NDArray

from firstorder.files import replacing

WIDTH = 7.2  # inches
DOTS_PER_INCH = 160
BAND_OPACITY = 0.2
THIN, THICK = 0.8, 1.6  # points
LINE_LENGTH, LINE_HEIGHT = 130, 0.13  # of small print: characters that fit into WIDTH; inches
MARKER, SMALL_MARKER, CAP = 5.5, 3.5, 2.5  # points

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
}
# Metadata of a file. None leaves the entry out: without software and date, the bytes depend on the data alone.
_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
_PALETTE = {
    "paper": 3,
    "ours": 0,
    "ours, one seed": 0,
    "random initialisation": 7,
    "reptile": 0,
    "maml": 1,
    "fomaml": 4,
    "meta-train": 1,
    "meta-test": 0,
    "joint": 2,
    "first": 7,
    "sum": 0,
    "mean": 9,
    "last": 1,
    "inductive": 0,
    "transductive": 1,
    "W1": 0,
    "W2": 1,
    "plain": 7,
    "native": 0,
    "lanes": 2,
    "graph": 0,
    "graph, 3 seeds": 9,
    "jax": 1,
}
SEQUENTIAL = "mako_r"  # seaborn's: even steps of lightness, dark is high
_CYCLE = (1, 4, 2, 3, 5, 8)  # for roles that params.yaml names: easy to tell apart

Colour = tuple[float, float, float]


@contextmanager
def applied() -> Iterator[None]:
    """Apply the settings within a `with` statement; matplotlib's own are restored after it."""
    with sns.axes_style("whitegrid"), sns.plotting_context("paper"), mpl.rc_context(_SETTINGS):
        yield


def colour(role: str) -> Colour:
    """Return the colour of a role: an algorithm, a pool of classes, `paper` or `ours`; black for others."""
    if role not in _PALETTE:
        return (0.0, 0.0, 0.0)
    red, green, blue = sns.color_palette("colorblind")[_PALETTE[role]]
    return (red, green, blue)


def cycled_colour(place: int) -> Colour:
    """Return the colour of the `place`-th of several roles that have no colour of their own."""
    red, green, blue = sns.color_palette("colorblind")[_CYCLE[place % len(_CYCLE)]]
    return (red, green, blue)


def fill(role: str) -> Colour:
    """Return the colour inside a marker: white for a single seed, else the role's own."""
    return (1.0, 1.0, 1.0) if role == "ours, one seed" else colour(role)


def new_figure(height: float) -> Figure:
    """Return an empty figure of WIDTH and `height` (inches), with automatic layout."""
    return Figure(figsize=(WIDTH, height), layout="constrained")


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


def stretch(axis: Axes, lowest: float) -> None:
    """Give an axis of accuracies a scale that is stretched near 100 % and begins at `lowest` percent.

    Most of a curve lies just below 100 %; on a linear scale only its first step could be seen.
    """
    axis.set_yscale("function", functions=(_stretch, _unstretch))
    axis.set_ylim(lowest, 100)
    axis.yaxis.set_major_locator(FixedLocator([20, 40, 60, 80, 90, 95, 98, 99, 100]))
    axis.yaxis.set_minor_locator(NullLocator())


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG or PDF, by the suffix of `path`; equal figures give equal bytes."""
    kind = path.suffix.removeprefix(".")
    with replacing(path) as part:
        figure.savefig(part, format=kind, dpi=DOTS_PER_INCH, metadata=_METADATA[kind])


def _stretch(accuracy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map percent to a scale on which 101 % is infinitely far away."""
    return -np.log(np.maximum(101 - np.asarray(accuracy, dtype=np.float64), 1e-9))


def _unstretch(place: NDArray[np.float64]) -> NDArray[np.float64]:
    return 101 - np.exp(-np.asarray(place, dtype=np.float64))
