"""The accuracies of tables as a figure: the paper's value and ours, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from firstorder.report.claims.paper import Paper
from firstorder.report.figures import style, themes
from firstorder.report.text import tables
from firstorder.report.text.formatting import NOT_RUN, column_label, points
from firstorder.settings import FigureSettings, Project

PAPER, OURS, OURS_ONE_SEED = "paper", "ours", "ours, one seed"
STRETCHED_FROM = 95  # percent: on a linear scale, what is above would lie on one spot
HIGHEST = 100.3  # percent, so that a mark at 100 is not cut off
MARKERS = {PAPER: "D", OURS: "o", OURS_ONE_SEED: "o"}
LABELS = {
    PAPER: "paper, its ±",
    OURS: "ours, interval over seeds",
    OURS_ONE_SEED: "ours, over tasks (one seed)",
}


def gather(root: Path, project: Project, figure: FigureSettings, paper: Paper) -> pd.DataFrame:
    """Return the rows of all the figure's tables, with the name of the table as the first column.

    In a table with published numbers, rows without one (baselines) are left out: they are so far away that the axis
    would no longer show the differences between the others.
    """
    parts = []
    for name in figure.tables:
        part = tables.comparison(root, project, name, paper)
        stated = part["paper_accuracy_fraction"].notna()
        part.insert(0, "table", name)
        parts.append(part[stated] if stated.any() else part)
    columns = ["table", *tables.COMPARISON_TYPES]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def draw(frame: pd.DataFrame) -> Figure:
    """Draw the paper's value and ours: an axis for each column of the tables, a line for each row."""
    columns = list(frame[["table", "column"]].drop_duplicates().itertuples(index=False, name=None))
    if not columns:
        return style.nothing()
    width = min(2, len(columns))
    highest = frame.groupby(["table", "column"]).size().max()
    figure = style.new_figure(0.6 + math.ceil(len(columns) / width) * (0.9 + 0.4 * highest))
    axes = style.panels(figure, len(columns), width)
    for i, (axis, (table, column)) in enumerate(zip(axes, columns, strict=True)):
        draw_column(frame[(frame["table"] == table) & (frame["column"] == column)], axis)
        axis.set_title(column_label(column))
        if i % width:
            axis.tick_params(labelleft=False)
        axis.set_xlabel("accuracy, %")
    for table in frame["table"].unique():
        of_table = [axis for axis, (whose, _) in zip(axes, columns, strict=True) if whose == table]
        share_scale(frame[frame["table"] == table], of_table)
    present = {
        PAPER: frame["paper_accuracy_fraction"].notna(),
        OURS: frame["half_width_over"] == "seeds",
        OURS_ONE_SEED: frame["half_width_over"] == "tasks",
    }
    entries = [
        style.legend_entry(source, LABELS[source], **_look(source)) for source in present if present[source].any()
    ]
    if entries:
        style.add_legend(figure, entries, len(entries))
    return figure


def share_scale(frame: pd.DataFrame, axes: Sequence[Axes]) -> None:
    """Give all axes of one table the same scale: stretched near 100 % if some accuracy is there, else linear."""
    ends = [
        frame[f"{whose}accuracy_fraction"] + sign * frame[f"{whose}half_width_fraction"].fillna(0)
        for whose in ("paper_", "")
        for sign in (-1, 1)
    ]
    lowest, highest = 100 * pd.concat(ends).min(), 100 * pd.concat(ends).max()
    for axis in axes:
        if not axis.containers:
            continue
        if highest > STRETCHED_FROM:
            style.stretch(axis, lowest - 2, along="x", highest=HIGHEST)
            axis.set_xlabel("accuracy, % (stretched)")
        else:
            axis.set_xlim(lowest - 1, highest + 1)


def draw_column(frame: pd.DataFrame, axis: Axes) -> Axes:
    """Draw one column of a table: the paper's value above ours in each row, the difference at the right."""
    places = list(range(len(frame)))
    for place, (_, line) in zip(places, frame.iterrows(), strict=True):
        paper, ours = line["paper_accuracy_fraction"], line["accuracy_fraction"]
        _draw_point(axis, PAPER, place - 0.14, paper, line["paper_half_width_fraction"])
        source = OURS_ONE_SEED if line["half_width_over"] == "tasks" else OURS
        _draw_point(axis, source, place + 0.14, ours, line["half_width_fraction"])
        difference = "" if math.isnan(paper) else points(ours - paper)
        words = NOT_RUN if math.isnan(ours) else difference
        axis.text(1.02, place, words, transform=axis.get_yaxis_transform(), va="center", fontsize="small")
    if frame["paper_accuracy_fraction"].notna().any():
        axis.text(1.02, 1.0, "ours minus\npaper, points", transform=axis.transAxes, va="bottom", fontsize="x-small")
    axis.set_yticks(places, list(frame["row"]))
    axis.set_ylim(len(frame) - 0.5, -0.5)
    axis.margins(x=0.1)
    axis.grid(axis="y", visible=False)
    axis.xaxis.set_major_locator(MaxNLocator(5) if axis.containers else NullLocator())
    return axis


def _draw_point(axis: Axes, source: str, place: float, accuracy: float, half_width: float) -> None:
    """Draw one accuracy (fraction) at the height `place`, with its interval unless `half_width` is NaN."""
    if math.isnan(accuracy):
        return
    width = None if math.isnan(half_width) else 100 * half_width
    axis.errorbar(100 * accuracy, place, xerr=width, capsize=style.CAP, label=source, **_look(source))


def _look(source: str) -> dict[str, Any]:
    """Return the look of a point; a single seed has an open marker."""
    colour = themes.colour(source)
    return {
        "color": colour,
        "marker": MARKERS[source],
        "markerfacecolor": themes.page() if source == OURS_ONE_SEED else colour,
        "linestyle": "",
    }
