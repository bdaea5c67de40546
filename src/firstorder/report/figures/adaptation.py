"""Accuracy against the inner steps of an evaluation: how fast it adapts, and whether too many steps hurt."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from firstorder.records import freshness
from firstorder.report.claims.paper import Paper
from firstorder.report.figures import style, themes
from firstorder.report.read import measurements
from firstorder.report.read.statistics import estimate
from firstorder.report.text.formatting import training_label
from firstorder.settings import MODES, FigureSettings, Project, columns

FRAME = ("evaluation", "mode", "inner_steps", "own_steps", "tasks", "seeds", "accuracy", "low", "high", "band")
LINES = {"inductive": "-", "transductive": "--"}
MARKERS = {"inductive": "o", "transductive": "^"}


def gather(root: Path, project: Project, figure: FigureSettings, paper: Paper) -> pd.DataFrame:
    """Return a row for each evaluation, mode and number of inner steps: columns FRAME, accuracies as fractions.

    `low` and `high` are the ends of the 95 % interval, over seeds (Student) or, with one seed, over tasks; `own_steps`
    is the number of inner steps that the evaluation itself takes. An evaluation that is not run has one row without
    accuracy.
    """
    rows: list[dict[str, Any]] = []
    for name in figure.evaluations or ():
        about = {"evaluation": name, "own_steps": project.evaluations[name].inner_steps, "seeds": 0}
        found = measurements.of_seeds(root, project, freshness.adaptation, name, columns.ADAPTATION)
        if found.empty:
            rows.append(about)
        for (mode, steps), lines in found.groupby(["mode", "inner_steps"]):
            point = estimate(lines["accuracy"].tolist(), lines["standard_error"].tolist()).as_point()
            rows.append({**about, "mode": mode, "inner_steps": steps, "tasks": lines["tasks"].min(), **point})
    return pd.DataFrame(rows, columns=list(FRAME))


def draw(frame: pd.DataFrame) -> Figure:
    """Draw a panel for each evaluation, two in a row; name what is not run below them."""
    evaluations, rest = style.recorded_and_missing(frame, "evaluation")
    if not evaluations:
        return style.nothing(style.progress(0, frame["evaluation"].nunique(), "evaluations"))
    width = min(2, len(evaluations))
    figure = style.new_figure(0.6 + 2.4 * math.ceil(len(evaluations) / width))
    part = style.write_below(figure, style.not_run(rest))
    for place, (axis, name) in enumerate(zip(style.panels(part, len(evaluations), width), evaluations, strict=True)):
        draw_evaluation(frame[frame["evaluation"] == name], axis)
        axis.set_title(training_label(name))
        axis.set_ylabel("accuracy, %" if place % width == 0 else "")
    entries = [style.legend_entry(mode, mode, linestyle=LINES[mode], marker=MARKERS[mode]) for mode in MODES]
    own = style.legend_entry("", "steps of the evaluation itself", linestyle=":", linewidth=style.THIN)
    style.add_legend(part, [*entries, own], 3, handlelength=3)
    return figure


def draw_evaluation(frame: pd.DataFrame, axis: Axes) -> Axes:
    """Draw both modes with their intervals; the scale of the inner steps is stretched near 0."""
    for mode, line in frame.groupby("mode", sort=False):
        colour, steps = themes.colour(mode), line["inner_steps"]
        look: dict[str, Any] = {"marker": MARKERS[mode], "markersize": style.SMALL_MARKER, "color": colour}
        axis.plot(steps, 100 * line["accuracy"], LINES[mode], label=mode, **look)
        style.draw_band(axis, steps, 100 * line["low"], 100 * line["high"], colour)
    axis.axvline(frame["own_steps"].iloc[0], color=themes.ink(), linestyle=":", linewidth=style.THIN)
    axis.set_xscale("symlog", linthresh=2)
    axis.set_xlim(-0.06, frame["inner_steps"].max() * 1.05)  # so that no mark at 0 is cut off
    style.set_ticks(axis.xaxis, FixedLocator([0, 1, 2, 5, 10, 20, 50, 100]))
    axis.set_xlabel("inner steps")
    return axis
