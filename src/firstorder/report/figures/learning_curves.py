"""Learning curves: accuracy against outer steps, for each training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from firstorder.report.claims.paper import Paper
from firstorder.report.figures import style, themes
from firstorder.report.read import curves
from firstorder.report.text.formatting import NOT_RUN, count_range, training_label
from firstorder.settings import MODES, FigureSettings, Project

FRAME = (
    "training",
    "pool",
    "mode",
    "outer_step",
    "shot",
    "tasks",
    "seeds",
    "accuracy",
    "low",
    "high",
    "band",
    "smoothed",
)
POOL_LINES = {"meta-train": "--", "meta-test": "-"}
MODE_LINES = {"inductive": "-", "transductive": "--"}
MOST_ROWS = 3  # with more trainings, each has one axis for both modes, three in a row


def gather(root: Path, project: Project, figure: FigureSettings, paper: Paper) -> pd.DataFrame:
    """Return the learning curves of the figure's trainings: the mean over seeds at each outer step.

    Columns: FRAME; see curves.joined. A training that is not run has one row, without accuracy.
    """
    rows: list[dict[str, Any]] = []
    for training in figure.trainings:
        curve = curves.joined(root, project, training)
        rows += [{"training": training, **row} for row in curve] or [{"training": training, "seeds": 0}]
    return pd.DataFrame(rows, columns=list(FRAME))


def draw(frame: pd.DataFrame) -> Figure:
    """Draw accuracy against outer steps: a row for each training, a column for each mode, a line for each pool.

    A training without a curve has no axis; it is named below the others.
    """
    trainings, rest = style.recorded_and_missing(frame, "training")
    if not trainings:
        return style.nothing(style.progress(0, len(rest)))
    words = f"{style.not_run(rest)} {style.progress(len(trainings), len(trainings) + len(rest))}".strip()
    if len(trainings) > MOST_ROWS:
        return _draw_many(frame, trainings, words)
    figure = style.new_figure(0.5 + 2.5 * len(trainings))
    part = style.write_below(figure, words)
    axes = part.subplots(len(trainings), len(MODES), squeeze=False, sharey="row")
    for row, training in zip(axes, trainings, strict=True):
        for axis, mode in zip(row, MODES, strict=True):
            draw_curve(frame[(frame["training"] == training) & (frame["mode"] == mode)], axis)
            axis.set_title(f"{training_label(training)}, {mode}")
        row[0].set_ylim(100 * frame.loc[frame["training"] == training, "accuracy"].min() - 2, 100)  # and so row[1]
        row[1].set_ylabel("")
    entries = [style.legend_entry(pool, f"{pool} classes", linestyle=line) for pool, line in POOL_LINES.items()]
    style.add_legend(part, entries, len(entries))
    return figure


def _draw_many(frame: pd.DataFrame, trainings: list[str], words: str) -> Figure:
    """Draw one axis for each training, three in a row: both modes, on meta-test classes only."""
    figure = style.new_figure(0.6 + 1.9 * math.ceil(len(trainings) / 3))
    part = style.write_below(figure, words)
    lowest = 100 * frame.loc[frame["pool"] != "meta-train", "accuracy"].min() - 2
    for place, (axis, training) in enumerate(zip(style.panels(part, len(trainings), 3), trainings, strict=True)):
        lines = frame[(frame["training"] == training) & (frame["pool"] != "meta-train")]
        draw_curve(lines.dropna(subset="mode"), axis, by="mode", lines=MODE_LINES)
        axis.set_ylim(lowest, 100)  # one scale for all
        axis.set_title(training_label(training).replace(", ", "\n", 1))
        axis.set_ylabel("accuracy, % (stretched)" if place % 3 == 0 else "")
        axis.xaxis.set_major_locator(MaxNLocator(2, integer=True))
    entries = [
        style.legend_entry(mode, f"meta-test classes, {mode}", linestyle=line) for mode, line in MODE_LINES.items()
    ]
    style.add_legend(part, entries, len(entries))
    return figure


def draw_curve(frame: pd.DataFrame, axis: Axes, by: str = "pool", lines: dict[str, str] | None = None) -> Axes:
    """Draw one training's curves, a line for each pool (or mode); see draw_lines. A missing point is a gap."""
    if frame["accuracy"].isna().all():
        style.say(axis, f"{NOT_RUN}:\nno learning curve\nis recorded yet")
        return axis
    draw_lines(frame, axis, by, lines or POOL_LINES)
    style.stretch(axis, 100 * frame["accuracy"].min() - 2)
    axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axis.set_ylabel(f"{count_range(frame['shot'])}-shot accuracy, % (stretched scale)")
    return axis


def draw_lines(frame: pd.DataFrame, axis: Axes, by: str, lines: dict[str, str]) -> None:
    """Draw accuracy (percent) against outer steps by the values of `by`: dots, and a line of their running mean."""
    for name, line in frame.groupby(by, sort=False):
        colour, steps = themes.colour(name), line["outer_step"]
        axis.plot(steps, 100 * line["smoothed"], lines[name], color=colour, label=name)
        style.draw_dots(axis, steps, 100 * line["accuracy"], colour)
    axis.set_xlim(0, max(frame["outer_step"].max(), 1))
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.set_xlabel("outer step")
