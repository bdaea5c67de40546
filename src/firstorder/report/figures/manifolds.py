"""Figure 2: the iterates of Reptile between the solutions of two tasks, and the point they should converge to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from firstorder.report.claims.paper import Paper
from firstorder.report.figures import style, themes
from firstorder.report.read import measurements
from firstorder.settings import MANIFOLD_POINTS, FigureSettings, Project


def gather(root: Path, project: Project, figure: FigureSettings, paper: Paper) -> pd.DataFrame:
    """Return the recorded points unchanged: columns as in measurements.SIMULATIONS."""
    return measurements.simulation(root, project, MANIFOLD_POINTS)


def draw(frame: pd.DataFrame) -> Figure:
    """Draw the whole path, and its end enlarged."""
    if frame.empty:
        return style.nothing()
    span = frame[frame["what"].isin(["iterate", "inner", "closest"])]
    left, right = span["x"].min() - 0.4, span["x"].max() + 0.6
    bottom, top = span["y"].min() - 0.4, span["y"].max() + 0.4
    figure = style.new_figure(3.6)
    # Both axes have equal units; these widths make the panels equally high.
    whole, end = figure.subplots(1, 2, width_ratios=[(right - left) / (top - bottom), 1])
    best = frame[frame["what"] == "minimiser"].iloc[0]
    iterates = frame[frame["what"] == "iterate"]
    for axis in (whole, end):
        draw_path(frame, axis)
        axis.set_aspect("equal")
        axis.set_xlabel("first parameter")
    whole.set_xlim(left, right)
    whole.set_ylim(bottom, top)
    end.set_xlim(best["x"] - 0.7, best["x"] + 0.7)
    end.set_ylim(best["y"] - 0.7, best["y"] + 0.7)
    whole.set_title(f"{len(iterates) - 1} outer steps")
    end.set_title("the end of the way")
    whole.set_ylabel("second parameter")
    handles, labels = whole.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def draw_path(frame: pd.DataFrame, axis: Axes) -> Axes:
    """Draw both curves, the inner loops, the iterates, and the point of least mean squared distance."""
    parts = dict(list(frame.groupby("what")))
    for name, line in parts["curve"].groupby("toward", sort=False):
        axis.plot(line["x"], line["y"], color=themes.colour(str(name)), label=f"solutions {name}")
    label: str | None = "inner loop of an outer step"
    for (_, name), line in parts["inner"].groupby(["outer_step", "toward"], sort=False):
        look: dict[str, Any] = {"color": themes.colour(str(name)), "linewidth": style.THIN, "zorder": 1.5}
        axis.plot(line["x"], line["y"], ":", label=label, **look)
        label = None  # one entry in the legend for all
    for what, line, look in (
        ("iterate", "o-", {"markersize": style.TINY_MARKER, "label": "after each outer step"}),
        ("closest", "--", {"label": "shortest way between them"}),
    ):
        axis.plot(parts[what]["x"], parts[what]["y"], line, color=themes.ink(), linewidth=style.THIN, **look)
    star: dict[str, Any] = {"color": themes.colour("paper"), "markersize": 2 * style.MARKER, "zorder": 3}
    axis.plot(parts["minimiser"]["x"], parts["minimiser"]["y"], "*", label="least mean squared distance", **star)
    return axis
