"""Drawing functions: a tidy frame in, a figure out. They compute nothing but positions.

The frames are those of figures.py. An axis that has no data says so in words.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from firstorder.report.figures import style
from firstorder.report.text.formatting import NOT_RUN, algorithm_label, column_label, points, training_label
from firstorder.settings import MODES

SINE_PANELS = {
    "random initialisation": "before training",
    "maml": "after MAML",
    "reptile": "after Reptile",
    "joint": "after joint training",
}
SINE_MARKERS = {"random initialisation": "s", "maml": "^", "reptile": "o", "joint": "v"}
POOL_LINES = {"meta-train": "--", "meta-test": "-"}
MODE_LINES = {"inductive": "-", "transductive": "--"}
MOST_ROWS = 3  # trainings that have a row each, with an axis for each mode; more of them share rows
SOURCE_MARKERS = {"paper": "D", "ours": "o", "ours, one seed": "o"}
NOTHING = "Nothing is recorded yet for this figure."


def draw_curves(frame: pd.DataFrame) -> Figure:
    """Draw accuracy against outer steps: a row a training, a column a mode, a line a pool of classes.

    A training without a curve has no axis; it is named below the others.
    """
    trainings, rest = recorded(frame, "training")
    if not trainings:
        return nothing()
    if len(trainings) > MOST_ROWS:
        return _draw_many_curves(frame, trainings, not_run(rest))
    figure = style.new_figure(0.5 + 2.5 * len(trainings))
    part = style.below(figure, not_run(rest))
    axes = part.subplots(len(trainings), len(MODES), squeeze=False, sharey="row")
    for row, training in zip(axes, trainings, strict=True):
        for axis, mode in zip(row, MODES, strict=True):
            draw_curve(frame[(frame["training"] == training) & (frame["mode"] == mode)], axis)
            axis.set_title(f"{training_label(training)}, {mode}")
        row[1].set_ylabel("")
    handles = [
        Line2D([], [], color=style.colour(pool), linestyle=line, label=f"{pool} classes")
        for pool, line in POOL_LINES.items()
    ]
    part.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _draw_many_curves(frame: pd.DataFrame, trainings: list[str], words: str) -> Figure:
    """Draw both modes on one axis a training, meta-test classes alone, three axes a row."""
    rows = math.ceil(len(trainings) / 3)
    figure = style.new_figure(0.6 + 1.9 * rows)
    part = style.below(figure, words)
    axes = list(part.subplots(rows, 3, squeeze=False).flat)
    for place, (axis, training) in enumerate(zip(axes, trainings, strict=False)):
        lines = frame[(frame["training"] == training) & (frame["pool"] != "meta-train")]
        draw_curve(lines.dropna(subset="mode"), axis, by="mode", lines=MODE_LINES)
        axis.set_title(training_label(training).replace(", ", "\n", 1))
        axis.set_ylabel("accuracy, %" if place % 3 == 0 else "")
        axis.xaxis.set_major_locator(MaxNLocator(2, integer=True))
    for axis in axes[len(trainings) :]:
        axis.set_axis_off()
    handles = [
        Line2D([], [], color=style.colour(mode), linestyle=line, label=f"meta-test classes, {mode}")
        for mode, line in MODE_LINES.items()
    ]
    part.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def draw_curve(frame: pd.DataFrame, axis: Axes, by: str = "pool", lines: dict[str, str] | None = None) -> Axes:
    """Draw one training's curves, a line for each pool (or mode): the mean over seeds, and the band `low` to `high`.

    A point that is missing is a gap.
    """
    if frame["accuracy"].isna().all():
        style.say(axis, f"{NOT_RUN}:\nno learning curve\nis recorded yet")
        return axis
    for name, line in frame.groupby(by, sort=False):
        colour, steps = style.colour(name), line["outer_step"]
        axis.plot(steps, 100 * line["accuracy"], (lines or POOL_LINES)[name], color=colour, label=name)
        low, high = 100 * line["low"], (100 * line["high"]).clip(upper=100)
        axis.fill_between(steps, low, high, color=colour, alpha=style.BAND_OPACITY, linewidth=0)
    stretch(axis, 100 * frame["low"].min() - 2)
    axis.set_xlim(0, max(frame["outer_step"].max(), 1))
    axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    axis.set_xlabel("outer step")
    axis.set_ylabel(f"{_range(frame['shot'])}-shot accuracy, % (stretched scale)")
    return axis


def stretch(axis: Axes, lowest: float) -> None:
    """Stretch an axis of accuracies towards 100 %, from `lowest` percent on.

    Most of a curve lies just below 100 %; a plain scale would show the first step and nothing else.
    """
    axis.set_yscale("function", functions=(_stretch, _unstretch))
    axis.set_ylim(lowest, 100)
    axis.yaxis.set_major_locator(FixedLocator([20, 40, 60, 80, 90, 95, 98, 99, 100]))
    axis.yaxis.set_minor_locator(NullLocator())


def draw_accuracies(frame: pd.DataFrame) -> Figure:
    """Draw the paper's value and ours with their intervals: an axis a column, a line a row of the table."""
    columns = list(frame[["table", "column"]].drop_duplicates().itertuples(index=False, name=None))
    if not columns:
        return nothing()
    width = min(2, len(columns))
    rows = math.ceil(len(columns) / width)
    lines = frame.groupby(["table", "column"]).size().max()
    figure = style.new_figure(0.6 + rows * (0.8 + 0.4 * lines))
    axes = list(figure.subplots(rows, width, squeeze=False).flat)
    for i, (axis, (table, column)) in enumerate(zip(axes, columns, strict=False)):
        draw_column(frame[(frame["table"] == table) & (frame["column"] == column)], axis)
        axis.set_title(column_label(column))
        if i % width:
            axis.tick_params(labelleft=False)
        if i + width >= len(columns):
            axis.set_xlabel("accuracy, %")
    for axis in axes[len(columns) :]:
        axis.set_axis_off()
    handles = _sources(frame)
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def draw_column(frame: pd.DataFrame, axis: Axes) -> Axes:
    """Draw one column of a table: the paper's value above ours in each row, the difference at the right."""
    places = list(range(len(frame)))
    for place, (_, line) in zip(places, frame.iterrows(), strict=True):
        paper, ours = line["paper_accuracy_fraction"], line["accuracy_fraction"]
        _point(axis, "paper", place - 0.14, (paper, line["paper_half_width_fraction"]))
        source = "ours, one seed" if line["half_width_over"] == "tasks" else "ours"
        _point(axis, source, place + 0.14, (ours, line["half_width_fraction"]))
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


def draw_sine(frame: pd.DataFrame) -> Figure:
    """Draw Figure 1: a row a wave and a column an algorithm; below, the loss against inner steps."""
    if frame.empty:
        return nothing()
    fits, losses = (frame[frame["panel"] == panel] for panel in ("fit", "loss"))
    tasks = list(fits["task"].unique())
    panels = {name: title for name, title in SINE_PANELS.items() if name in set(fits["algorithm"])}
    figure = style.new_figure(1.0 + 1.45 * len(tasks) + 2.2)
    grid = figure.add_gridspec(len(tasks) + 1, max(len(panels), 1), height_ratios=[1.45] * len(tasks) + [2.2])
    for row, task in enumerate(tasks):
        first = None
        for column, (algorithm, title) in enumerate(panels.items()):
            axis = figure.add_subplot(grid[row, column], sharex=first, sharey=first)
            first = first or axis
            draw_fit(fits[fits["task"] == task], algorithm, axis)
            axis.tick_params(labelleft=column == 0, labelbottom=row == len(tasks) - 1)
            axis.set_title(title if row == 0 else "")
            axis.set_ylabel("y" if column == 0 else "")
            axis.set_xlabel("x" if row == len(tasks) - 1 else "")
    draw_losses(losses, figure.add_subplot(grid[len(tasks), :]))
    if tasks:
        figure.legend(handles=_fit_legend(fits), loc="outside upper center", ncols=4)
    return figure


def draw_fit(frame: pd.DataFrame, algorithm: str, axis: Axes) -> Axes:
    """Draw one wave, its support points and the network's fit before and after the inner steps."""
    truth, support, fit = (frame[frame["algorithm"] == name] for name in ("truth", "support", algorithm))
    axis.plot(truth["x"], truth["y"], color="black", linewidth=style.THIN)
    for inner_steps, line in fit.groupby("inner_steps"):
        axis.plot(line["x"], line["y"], _fit_line(inner_steps), color=style.colour(algorithm))
    axis.plot(support["x"], support["y"], "o", color="black", markersize=style.SMALL_MARKER)
    return axis


def draw_losses(frame: pd.DataFrame, axis: Axes) -> Axes:
    """Draw the mean loss on new waves against inner steps, on a logarithmic scale, with its interval."""
    if frame.empty:
        style.say(axis, f"{NOT_RUN}:\nno losses are recorded yet")
        return axis
    for algorithm, line in frame.groupby("algorithm", sort=False):
        colour = style.colour(algorithm)
        axis.plot(
            line["x"], line["y"], color=colour, marker=SINE_MARKERS.get(algorithm), label=algorithm_label(algorithm)
        )
        low, high = line["y"] - line["half_width"], line["y"] + line["half_width"]
        axis.fill_between(line["x"], low, high, color=colour, alpha=style.BAND_OPACITY, linewidth=0)
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_xlabel("inner steps on the new wave")
    axis.set_ylabel("mean squared error")
    axis.set_title(f"mean over {_range(frame['tasks'])} new waves")
    # Between the network that never learned to adapt and the others, where nothing is drawn.
    axis.legend(loc="center right", bbox_to_anchor=(1, 0.7))
    return axis


def _point(axis: Axes, source: str, place: float, value: tuple[float, float]) -> None:
    """Draw one accuracy with its interval (if it has one) at the height `place`."""
    accuracy, half_width = value
    if math.isnan(accuracy):
        return
    error = None if math.isnan(half_width) else 100 * half_width
    axis.errorbar(
        100 * accuracy,
        place,
        xerr=error,
        fmt=SOURCE_MARKERS[source],
        color=style.colour(source),
        markerfacecolor=style.fill(source),
        capsize=style.CAP,
        label=source,
    )


def _sources(frame: pd.DataFrame) -> list[Line2D]:
    """Return the legend's entries for the kinds of points that are drawn."""
    over = frame["half_width_over"]
    present = {
        "paper": frame["paper_accuracy_fraction"].notna().any(),
        "ours": (over == "seeds").any(),
        "ours, one seed": (over == "tasks").any(),
    }
    looks = {
        "paper": "paper, its ±",
        "ours": "ours, interval over seeds",
        "ours, one seed": "ours, over tasks (one seed)",
    }
    return [
        Line2D(
            [],
            [],
            color=style.colour(source),
            markerfacecolor=style.fill(source),
            marker=SOURCE_MARKERS[source],
            linestyle="",
            label=looks[source],
        )
        for source, drawn in present.items()
        if drawn
    ]


def _fit_line(inner_steps: int) -> str:
    return ":" if inner_steps == 0 else "-"


def _fit_legend(fits: pd.DataFrame) -> list[Line2D]:
    """Return the legend's entries: line styles in grey, since colours tell the algorithms apart."""
    steps = sorted(fits.loc[fits["algorithm"].isin(SINE_PANELS), "inner_steps"].unique())
    grey = style.colour("random initialisation")
    return [
        Line2D([], [], color="black", linewidth=style.THIN, label="the wave"),
        Line2D([], [], color="black", marker="o", linestyle="", markersize=style.SMALL_MARKER, label="support points"),
        *(
            Line2D([], [], color=grey, linestyle=_fit_line(step), label=f"fit after {step} inner steps")
            for step in steps
        ),
    ]


def _stretch(accuracy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map percent to a scale on which 101 % lies infinitely far away."""
    return -np.log(np.maximum(101 - np.asarray(accuracy, dtype=np.float64), 1e-9))


def _unstretch(place: NDArray[np.float64]) -> NDArray[np.float64]:
    return 101 - np.exp(-np.asarray(place, dtype=np.float64))


def _range(counts: pd.Series) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def recorded(frame: pd.DataFrame, by: str) -> tuple[list[str], list[str]]:
    """Part the names in column `by` into those with an accuracy and those without, each in the frame's order."""
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


def nothing() -> Figure:
    """Return a figure that says that nothing is recorded yet."""
    figure = style.new_figure(2.0)
    style.say(figure.subplots(), NOTHING)
    return figure
