"""How figures look: the only place with colours, sizes and the settings that make their bytes repeatable.

Colours are seaborn's colour-blind-safe palette, and what differs in colour differs in line or marker too.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from firstorder.files import replacing

WIDTH = 7.2  # inches
DOTS_PER_INCH = 160
BAND_OPACITY = 0.2
THIN, THICK = 0.8, 1.6  # points
LINE_LENGTH, LINE_HEIGHT = 130, 0.13  # of small lines: characters that fit into WIDTH, and inches
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
    "pdf.fonttype": 42,  # fonts as text, not as drawings
    "pdf.compression": 6,
    "svg.hashsalt": "firstorder",
    "path.simplify": False,
}
# What a file says of its maker and date; None leaves the entry out, so that the bytes depend on the data alone.
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
SEQUENTIAL = "mako_r"  # seaborn's: even steps of lightness, dark is much
_TURNS = (1, 4, 2, 3, 5, 8)  # for roles that the user names: easily told apart

Colour = tuple[float, float, float]


@contextmanager
def applied() -> Iterator[None]:
    """Draw and save inside this block; matplotlib's settings are as before after it."""
    with sns.axes_style("whitegrid"), sns.plotting_context("paper"), mpl.rc_context(_SETTINGS):
        yield


def colour(role: str) -> tuple[float, float, float]:
    """Return the colour of a role: an algorithm, a pool of classes, `paper` or `ours`; black for others."""
    if role not in _PALETTE:
        return (0.0, 0.0, 0.0)
    red, green, blue = sns.color_palette("colorblind")[_PALETTE[role]]
    return (red, green, blue)


def in_turn(place: int) -> Colour:
    """Return the colour of the `place`-th of several roles that have no colour of their own."""
    red, green, blue = sns.color_palette("colorblind")[_TURNS[place % len(_TURNS)]]
    return (red, green, blue)


def fill(role: str) -> tuple[float, float, float]:
    """Return the colour inside a marker: white for a single seed, else the role's own."""
    return (1.0, 1.0, 1.0) if role == "ours, one seed" else colour(role)


def new_figure(height: float) -> Figure:
    """Return an empty figure of the one width and `height` inches, which lays itself out."""
    return Figure(figsize=(WIDTH, height), layout="constrained")


def note(figure: Figure, words: str) -> None:
    """Write a line above everything that is drawn."""
    figure.suptitle(words, fontsize="x-small", x=0.01, ha="left")


def below(figure: Figure, words: str) -> FigureBase:
    """Write small lines below all that is to be drawn; return what to draw in, which is no smaller for them."""
    if not words:
        return figure
    lines = textwrap.wrap(words, LINE_LENGTH, break_on_hyphens=False)
    figure.set_figheight(figure.get_figheight() + LINE_HEIGHT * (len(lines) + 1))
    figure.supxlabel("\n".join(lines), fontsize="x-small", x=0.01, ha="left")
    # A part of its own: a legend at its lower edge would else lie upon the words.
    return figure.add_subfigure(figure.add_gridspec(1, 1)[0])


def say(axis: Axes, words: str) -> None:
    """Write `words` where there is nothing to draw yet."""
    axis.set_axis_off()
    axis.text(0.5, 0.5, words, ha="center", va="center", wrap=True, transform=axis.transAxes)


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG or PDF, by the suffix of `path`: equal figures give equal bytes."""
    kind = path.suffix.removeprefix(".")
    with replacing(path) as part:
        figure.savefig(part, format=kind, dpi=DOTS_PER_INCH, metadata=_METADATA[kind])
