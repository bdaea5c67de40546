"""The colours of figures: on a light page as in a paper, and on a dark page of the site.

A role, such as an algorithm, has the same place in both palettes. The light one is seaborn's colour-blind-safe palette.
The dark one has the same hues, as light as their contrast with the dark page needs: at least 4.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.colors import Colormap, ListedColormap, to_rgb

Colour = tuple[float, float, float]

_ROLES = {
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
    "authors": 3,
}
_CYCLE = (1, 4, 2, 3, 5, 8)  # for roles that params.yaml names: easy to tell apart


@dataclass(frozen=True, kw_only=True)
class Theme:
    """Colours for one kind of page. `text` is None where seaborn's own colours of text and lines are kept."""

    palette: tuple[Colour, ...]
    ink: str
    page: str
    text: str | None = None
    line: str = ""
    map: str = ""

    def settings(self) -> dict[str, Any]:
        """Return matplotlib's settings for page, text and lines."""
        if self.text is None:
            return {}
        pages = dict.fromkeys(("figure.facecolor", "axes.facecolor", "patch.edgecolor"), self.page)
        texts = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), self.text)
        return {**pages, **texts, **dict.fromkeys(("axes.edgecolor", "grid.color"), self.line)}


LIGHT = Theme(palette=tuple(sns.color_palette("colorblind")), ink="black", page="white", map="mako_r")
DARK = Theme(
    palette=tuple(
        to_rgb(colour)
        for colour in (
            *("#4fa3e8", "#f0a93a", "#35c79a", "#ff8a4d", "#e29ad4"),
            *("#d9ae85", "#fbc5e3", "#b4b4b4", "#efe65a", "#a5dcff"),
        )
    ),
    ink="#f2f2f2",
    page="#17181a",  # that of the site
    text="#dcdcdc",
    line="#44464a",
    map="mako",
)
_DARKEST = 0.2  # of a map on a dark page, as a part of the whole map: what is darker is too much like the page
_USED = ContextVar("_USED", default=LIGHT)


@contextmanager
def used(theme: Theme) -> Iterator[None]:
    """Draw with the colours of a theme within a `with` statement."""
    before = _USED.set(theme)
    try:
        yield
    finally:
        _USED.reset(before)


def colour(role: str) -> Colour:
    """Return the colour of a role: an algorithm, a pool of classes, `paper` or `ours`; that of ink for others."""
    return _USED.get().palette[_ROLES[role]] if role in _ROLES else ink()


def cycled_colour(place: int) -> Colour:
    """Return the colour of the `place`-th of several roles that have no colour of their own."""
    return _USED.get().palette[_CYCLE[place % len(_CYCLE)]]


def ink() -> Colour:
    """Return the colour of what is most like writing: black on a light page."""
    return to_rgb(_USED.get().ink)


def page() -> Colour:
    """Return the colour of the page behind the figure."""
    return to_rgb(_USED.get().page)


def map_of_numbers() -> Colormap:
    """Return the colours of a map of numbers in even steps of lightness: the more, the further from the page.

    A field without a number has the colour of the page, so none of these has it.
    """
    theme = _USED.get()
    every = sns.color_palette(theme.map, as_cmap=True)
    return every if theme is LIGHT else ListedColormap(every(np.linspace(_DARKEST, 1, every.N)))
