"""Settings of the report: its tables and figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from firstorder.settings.schema import setting
from firstorder.settings.trainings import Mode


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One row of a table: an algorithm in one mode."""

    label: str = setting("printed name; the paper's name of the row if it has one")
    algorithm: str = setting("first part of the evaluation's name")
    mode: Mode = setting("which of the two cells of an evaluation")


@dataclass(frozen=True, kw_only=True)
class TableSettings:
    """One table: rows (algorithm and mode) against columns (data set, way and shot)."""

    title: str = setting("printed above the table")
    paper: str = setting("table of paper/published.csv to compare with, or none", default="none")
    columns: tuple[str, ...] = setting("like omniglot-5way/1shot")
    rows: tuple[TableRow, ...] = setting("top to bottom")


@dataclass(frozen=True, kw_only=True)
class FigureSettings:
    """One figure: a drawing function of report/figures/figures.py and what it draws."""

    kind: Literal[
        "sine", "theory", "curves", "accuracies", "combinations", "sweeps", "manifolds", "adaptation", "alphabets"
    ] = setting("drawing function")
    title: str = setting("caption's first words")
    trainings: tuple[str, ...] = setting("trainings whose curves are drawn", default=())
    tables: tuple[str, ...] = setting("tables whose cells are drawn", default=())
    sweeps: tuple[str, ...] | None = setting("sweeps that are drawn, one panel each", default=None)
    evaluations: tuple[str, ...] | None = setting("entries of adaptations or alphabets that are drawn", default=None)
