"""Accuracy against the inner steps of an evaluation: how fast it adapts, and whether too many steps hurt."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from firstorder.records import freshness
from firstorder.report.figures import missing, style
from firstorder.report.read import measurements
from firstorder.report.read.statistics import estimate
from firstorder.report.text.formatting import training_label
from firstorder.settings import MODES, FigureSettings, Project

COLUMNS = ("inner_steps", "mode", "shot", "tasks", "accuracy", "standard_error")
FRAME = ("evaluation", "mode", "inner_steps", "own_steps", "tasks", "seeds", "accuracy", "low", "high", "band")
LINES = {"inductive": "-", "transductive": "--"}
MARKERS = {"inductive": "o", "transductive": "^"}


def gather(root: Path, project: Project, figure: FigureSettings, published_path: Path) -> pd.DataFrame:
    """Return a row for each evaluation, mode and number of inner steps: columns FRAME, accuracies as fractions.

    `low` and `high` are the ends of the 95 % interval, over seeds (Student) or, with one seed, over tasks; `own_steps`
    is the number of inner steps that the evaluation itself takes. An evaluation that is not run has one row without
    accuracy.
    """
    rows: list[dict[str, Any]] = []
    for name in figure.evaluations or ():
        about = {"evaluation": name, "own_steps": project.evaluations[name].inner_steps, "seeds": 0}
        parts = [measurements.read(root, freshness.adaptation(project, name, seed), COLUMNS) for seed in project.seeds]
        found = [part for part in parts if part is not None]
        if not found:
            rows.append(about)
            continue
        for (mode, steps), lines in pd.concat(found).groupby(["mode", "inner_steps"]):
            mean = estimate(lines["accuracy"].tolist(), lines["standard_error"].tolist())
            ends = {"low": mean.value - mean.half_width, "high": mean.value + mean.half_width}
            point = {
                "accuracy": mean.value,
                **ends,
                "seeds": mean.seeds,
                "band": "tasks" if mean.seeds == 1 else "seeds",
            }
            rows.append({**about, "mode": mode, "inner_steps": steps, "tasks": lines["tasks"].min(), **point})
    return pd.DataFrame(rows, columns=list(FRAME))


def draw(frame: pd.DataFrame) -> Figure:
    """Draw a panel for each evaluation, two in a row; name what is not run below them."""
    evaluations, rest = missing.recorded_and_missing(frame, "evaluation")
    if not evaluations:
        return missing.nothing()
    columns = min(2, len(evaluations))
    rows = math.ceil(len(evaluations) / columns)
    figure = style.new_figure(0.6 + 2.4 * rows)
    part = style.write_below(figure, missing.not_run(rest))
    axes = list(part.subplots(rows, columns, squeeze=False).flat)
    for place, (axis, name) in enumerate(zip(axes, evaluations, strict=False)):
        draw_evaluation(frame[frame["evaluation"] == name], axis)
        axis.set_title(training_label(name))
        axis.set_ylabel("accuracy, %" if place % columns == 0 else "")
    for axis in axes[len(evaluations) :]:
        axis.set_axis_off()
    handles = [
        Line2D([], [], color=style.colour(mode), linestyle=LINES[mode], marker=MARKERS[mode], label=mode)
        for mode in MODES
    ]
    own = Line2D([], [], color="black", linestyle=":", linewidth=style.THIN, label="steps of the evaluation itself")
    part.legend(handles=[*handles, own], loc="outside lower center", ncols=3, handlelength=3)
    return figure


def draw_evaluation(frame: pd.DataFrame, axis: Axes) -> Axes:
    """Draw both modes with their intervals; the scale of the inner steps is stretched near 0."""
    for mode, line in frame.groupby("mode", sort=False):
        colour, steps = style.colour(mode), line["inner_steps"]
        axis.plot(
            steps,
            100 * line["accuracy"],
            LINES[mode],
            marker=MARKERS[mode],
            markersize=style.SMALL_MARKER,
            color=colour,
            label=mode,
        )
        axis.fill_between(
            steps, 100 * line["low"], 100 * line["high"], color=colour, alpha=style.BAND_OPACITY, linewidth=0
        )
    axis.axvline(frame["own_steps"].iloc[0], color="black", linestyle=":", linewidth=style.THIN)
    axis.set_xscale("symlog", linthresh=2)
    axis.set_xlim(0, frame["inner_steps"].max() * 1.05)
    axis.xaxis.set_major_locator(FixedLocator([0, 1, 2, 5, 10, 20, 50, 100]))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda steps, _: f"{steps:g}"))
    axis.set_xlabel("inner steps")
    return axis
