"""Figure 1: sine waves, the fits before and after adapting, and the loss against inner steps."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from firstorder.report.claims.paper import Paper
from firstorder.report.figures import style, themes
from firstorder.report.read import measurements
from firstorder.report.text import tables
from firstorder.report.text.formatting import NOT_RUN, algorithm_label, count_range
from firstorder.settings import SINE_FITS, FigureSettings, Project

FRAME = ("panel", "task", "algorithm", "inner_steps", "x", "y", "half_width", "seeds", "tasks")
PANELS = {
    "random initialisation": "before training",
    "maml": "after MAML",
    "reptile": "after Reptile",
    "joint": "after joint training",
}
MARKERS = {"random initialisation": "s", "maml": "^", "reptile": "o", "joint": "v"}


def gather(root: Path, project: Project, figure: FigureSettings, paper: Paper) -> pd.DataFrame:
    """Return the points of Figure 1: waves and fits (panel `fit`), and losses by inner step (panel `loss`).

    Columns: FRAME. In panel `loss` x is the number of inner steps, y the mean squared error over `tasks` waves a seed,
    and half_width that of its 95 % interval (tables.sine_losses). The fits are those of the first seed.
    """
    fits = measurements.simulation(root, project, SINE_FITS).astype({"task": "Int64"}).assign(panel="fit")
    losses = tables.sine_losses(root, project).rename(columns={"mean_squared_error": "y"})
    losses = losses.assign(panel="loss", x=losses["inner_steps"])
    parts = [part for part in (fits, losses) if len(part)]
    return pd.concat(parts or [fits], ignore_index=True).reindex(columns=list(FRAME))


def draw(frame: pd.DataFrame) -> Figure:
    """Draw a row for each wave and a column for each algorithm; below them, the loss against inner steps."""
    if frame.empty:
        return style.nothing()
    fits, losses = (frame[frame["panel"] == panel] for panel in ("fit", "loss"))
    tasks = list(fits["task"].unique())
    panels = {name: title for name, title in PANELS.items() if name in set(fits["algorithm"])}
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
    axis.plot(truth["x"], truth["y"], color=themes.ink(), linewidth=style.THIN)
    for inner_steps, line in fit.groupby("inner_steps"):
        axis.plot(line["x"], line["y"], _fit_line(inner_steps), color=themes.colour(algorithm))
    axis.plot(support["x"], support["y"], "o", color=themes.ink(), markersize=style.SMALL_MARKER)
    return axis


def draw_losses(frame: pd.DataFrame, axis: Axes) -> Axes:
    """Draw the mean loss on new waves against inner steps, on a logarithmic scale, with its interval."""
    if frame.empty:
        style.say(axis, f"{NOT_RUN}:\nno losses are recorded yet")
        return axis
    for algorithm, line in frame.groupby("algorithm", sort=False):
        colour = themes.colour(algorithm)
        axis.plot(line["x"], line["y"], color=colour, marker=MARKERS.get(algorithm), label=algorithm_label(algorithm))
        low, high = line["y"] - line["half_width"], line["y"] + line["half_width"]
        style.draw_band(axis, line["x"], low, high, colour)
    axis.set_yscale("log")
    style.set_ticks(axis.yaxis, LogLocator(subs=(1, 2, 5)))
    axis.set_xlabel("inner steps on the new wave")
    axis.set_ylabel("mean squared error")
    seeds = int(frame["seeds"].min())
    of_seeds = f"{seeds} seeds with " if seeds > 1 else ""
    axis.set_title(f"mean over {of_seeds}{count_range(frame['tasks'])} new waves{' each' if of_seeds else ''}")
    # This place, between the curve of the untrained network and the others, is empty.
    axis.legend(loc="center right", bbox_to_anchor=(1, 0.7))
    return axis


def _fit_line(inner_steps: int) -> str:
    return ":" if inner_steps == 0 else "-"


def _fit_legend(fits: pd.DataFrame) -> list[Line2D]:
    """Return the legend's entries: line styles in grey, because colours stand for the algorithms."""
    steps = sorted(fits.loc[fits["algorithm"].isin(PANELS), "inner_steps"].unique())
    points = {"marker": "o", "linestyle": "", "markersize": style.SMALL_MARKER}
    return [
        style.legend_entry("", "the wave", linewidth=style.THIN),
        style.legend_entry("", "support points", **points),
        *(
            style.legend_entry("random initialisation", f"fit after {step} inner steps", linestyle=_fit_line(step))
            for step in steps
        ),
    ]
