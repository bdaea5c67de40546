"""Figure 3: trainings whose outer step follows different gradients of the inner loop.

Upper row: a panel for each number of mini-batches k, with learning curves of the sum of all k gradients, of their mean
and of the last one, beside joint training (g1). Lower row: the final accuracy of each training against k.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from firstorder.report.claims.paper import Paper
from firstorder.report.figures import learning_curves, style, themes
from firstorder.report.read import curves
from firstorder.report.read.statistics import estimate
from firstorder.report.text.formatting import NOT_RUN
from firstorder.settings import FigureSettings, Project

FRAME = (
    *("panel", "training", "follows", "k", "outer_step", "tasks", "seeds"),
    *("accuracy", "low", "high", "band", "smoothed"),
)
FIRST, SUM, MEAN, LAST = "first", "sum", "mean", "last"
LINES = {FIRST: ":", SUM: "-", MEAN: "--", LAST: "-."}
MARKERS = {FIRST: "s", SUM: "o", MEAN: "v", LAST: "^"}
LABELS = {
    FIRST: "first gradient alone (joint training)",
    SUM: "sum of all k gradients (Reptile)",
    MEAN: "mean of all k gradients",
    LAST: "last gradient alone (FOMAML)",
}


def follows(project: Project, training: str, largest: float) -> str:
    """Return what a training's outer step follows; with an epsilon below the figure's `largest` a sum is a mean."""
    settings = project.trainings[training]
    if settings.inner_steps == 1:
        return FIRST
    if settings.algorithm == "last_step":
        return LAST
    return SUM if settings.outer_step_size == largest else MEAN


def gather(root: Path, project: Project, figure: FigureSettings, paper: Paper) -> pd.DataFrame:
    """Return the curves (panel `curve`) and the final accuracies (panel `end`): columns FRAME.

    Meta-test tasks, inductive; accuracies are fractions. In panel `end`, low and high are the ends of the 95 %
    interval, over seeds (Student) or, with one seed, over tasks. A training that is not run has one row without
    accuracy in each panel.
    """
    largest = max(project.trainings[name].outer_step_size for name in figure.trainings)
    rows: list[dict[str, Any]] = []
    for name in figure.trainings:
        about = {
            "training": name,
            "follows": follows(project, name, largest),
            "k": project.trainings[name].inner_steps,
            "seeds": 0,
        }
        joined = [
            row
            for row in curves.joined(root, project, name)
            if (row["pool"], row["mode"]) == (curves.JUDGED_POOL, curves.JUDGED_MODE)
        ]
        rows += [{**about, "panel": "curve", **row} for row in joined or [{}]]
        rows.append({**about, "panel": "end", **final_point(root, project, name)})
    return pd.DataFrame(rows, columns=list(FRAME))


def final_point(root: Path, project: Project, training: str) -> dict[str, Any]:
    """Return a training's final accuracy as part of a row: accuracy, low, high, band, seeds, tasks (a seed)."""
    found = curves.final_accuracies(root, project, training)
    if found.empty:
        return {}
    point = estimate(found["accuracy"].tolist(), found["standard_error"].tolist()).as_point()
    return {**point, "tasks": found["tasks"].min()}


def draw(frame: pd.DataFrame) -> Figure:
    """Draw a panel of curves for each k and, below them, the final accuracies; name what is not run at the bottom."""
    if frame["accuracy"].isna().all():
        return style.nothing(style.progress(0, frame["training"].nunique()))
    drawn, final = (frame[frame["panel"] == panel] for panel in ("curve", "end"))
    numbers = [k for k in sorted(set(frame["k"]) - {1}) if drawn[drawn["k"].isin([1, k])]["accuracy"].notna().any()]
    figure = style.new_figure(5.6)
    part = style.write_below(figure, not_run(drawn))
    grid = part.add_gridspec(2, max(len(numbers), 1), height_ratios=[1, 0.9])
    first = None
    for column, k in enumerate(numbers):
        axis = part.add_subplot(grid[0, column], sharex=first, sharey=first)
        first = first or axis
        draw_curves(drawn[drawn["k"].isin([1, k])], axis)
        axis.set_title(f"k = {k} mini-batches")
        style.stretch(axis, 100 * drawn["accuracy"].min() - 2)
        axis.set_ylabel("accuracy, % (stretched)" if column == 0 else "")
        axis.tick_params(labelleft=column == 0)
    draw_final(final, part.add_subplot(grid[1, :]))
    present = [name for name in LABELS if name in set(frame["follows"])]
    entries = [style.legend_entry(name, LABELS[name], **_look(name)) for name in present]
    style.add_legend(part, entries, 2, handlelength=3.5)
    return figure


def not_run(frame: pd.DataFrame) -> str:
    """Name the trainings without a curve, like `Not run yet: k = 2 (sum, mean); k = 3 (last).`; empty without any."""
    _, trainings = style.recorded_and_missing(frame, "training")
    rest = frame[frame["training"].isin(trainings)].groupby("k")["follows"]
    groups = [f"k = {k} ({', '.join(found)})" for k, found in rest]
    return f"Not run yet: {'; '.join(groups)}." if groups else ""


def draw_curves(frame: pd.DataFrame, axis: Axes) -> Axes:
    """Draw one panel's curves; a missing point is a gap."""
    learning_curves.draw_lines(frame, axis, "follows", LINES)
    axis.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    return axis


def draw_final(frame: pd.DataFrame, axis: Axes) -> Axes:
    """Draw the final accuracies against k, with 95 % intervals; joint training is the point at k = 1."""
    if frame["accuracy"].isna().all():
        style.say(axis, f"{NOT_RUN}:\nno training has ended yet")
        return axis
    shift = {FIRST: 0.0, SUM: -0.04, MEAN: 0.0, LAST: 0.04}
    for name, line in frame.groupby("follows", sort=False):
        style.draw_intervals(axis, line["k"] + shift[name], line, label=name, **_look(name))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("mini-batches (inner steps) k")
    style.stretch(axis, 100 * frame["low"].min() - 15)
    axis.set_ylabel("accuracy, % (stretched)")
    axis.set_title("at the end: mean over the measurements of the last fifth of the outer steps")
    return axis


def _look(name: str) -> dict[str, Any]:
    return {"color": themes.colour(name), "linestyle": LINES[name], "marker": MARKERS[name]}
