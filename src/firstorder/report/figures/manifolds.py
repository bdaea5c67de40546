"""Figure 2: the iterates of Reptile between the solutions of two tasks, and the point they should converge to."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from firstorder.report.figures import missing, style
from firstorder.report.read import simulated
from firstorder.settings import FigureSettings, Project


def gather(root: Path, project: Project, figure: FigureSettings, published_path: Path) -> pd.DataFrame:
    """Return the recorded points unchanged: columns simulated.POINTS."""
    return simulated.manifold_points(root, project)


def draw(frame: pd.DataFrame) -> Figure:
    """Draw the whole path, and its end enlarged."""
    if frame.empty:
        return missing.nothing()
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
    for name, line in frame[frame["what"] == "curve"].groupby("toward", sort=False):
        axis.plot(line["x"], line["y"], color=style.colour(str(name)), label=f"solutions {name}")
    inner = frame[frame["what"] == "inner"]
    for place, ((_, name), line) in enumerate(inner.groupby(["outer_step", "toward"], sort=False)):
        label = "inner loop of an outer step" if place == 0 else None
        axis.plot(
            line["x"], line["y"], ":", color=style.colour(str(name)), linewidth=style.THIN, label=label, zorder=1.5
        )
    iterates = frame[frame["what"] == "iterate"]
    axis.plot(
        iterates["x"],
        iterates["y"],
        "o-",
        color="black",
        linewidth=style.THIN,
        markersize=style.SMALL_MARKER - 1,
        label="after each outer step",
    )
    closest = frame[frame["what"] == "closest"]
    axis.plot(closest["x"], closest["y"], "--", color="black", linewidth=style.THIN, label="shortest way between them")
    best = frame[frame["what"] == "minimiser"]
    axis.plot(
        best["x"],
        best["y"],
        "*",
        color=style.colour("paper"),
        markersize=2 * style.MARKER,
        label="least mean squared distance",
        zorder=3,
    )
    return axis
