"""The figure of section 5: coefficients and remainders of the expansion, and inner products during training.

Every problem, k and seed is drawn as a mark or line of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from firstorder.report.claims.paper import Paper
from firstorder.report.figures import style, themes
from firstorder.report.read import measurements
from firstorder.report.read.statistics import half_width_over_tasks
from firstorder.report.read.theory import coefficients, inner_products
from firstorder.report.text.formatting import NOT_RUN, algorithm_label, training_label
from firstorder.settings import EXPANSION, FigureSettings, Project

FRAME = (
    *("panel", "problem", "training", "seed", "algorithm", "mini_batches", "pairs", "k"),
    *("x", "y", "stated", "half_width", "tasks"),
)
_FRAME_TYPES = {"seed": "Int64", "k": "Int64", "tasks": "Int64"} | dict.fromkeys(
    ("x", "y", "stated", "half_width"), "float64"
)
# Panels of inner products: the measured quantity, and the kind of mini-batches.
PRODUCT_PANELS = (("cosine", "trained"), ("cosine", "balanced"), ("product", "trained"))
ONE_TASK, OTHER_TASKS = "one task", "different tasks"

MARKERS = {"regression": "o", "classification": "s"}
ALGORITHM_LINES = {"maml": "-", "fomaml": "--", "reptile": "-.", "joint": "--"}
PAIR_LINES = {ONE_TASK: "-", OTHER_TASKS: ":"}
TITLES = {"average": "Coefficient of AvgGrad", "inner": "Coefficient of $\\alpha\\,$AvgGradInner"}
PRODUCT_TITLES = {
    ("cosine", "trained"): "Cosine",
    ("cosine", "balanced"): "Cosine, balanced mini-batches",
    ("product", "trained"): "Inner product",
}


def gather(root: Path, project: Project, figure: FigureSettings, paper: Paper) -> pd.DataFrame:
    """Return the points of the figure: columns FRAME.

    Panels `average` and `inner`: measured (y) and `stated` coefficients against k. Panel `remainder`: the remainder
    divided by |AvgGrad|, against alpha. Panels `cosine` and `product`: means over pairs of mini-batches against the
    inner steps taken; pairs of ONE_TASK have the half_width of the 95 % interval over `tasks`, pairs of OTHER_TASKS
    have none.
    """
    parts = []
    found = coefficients(root, project).rename(columns={"inner_steps": "k"})
    for name in ("average", "inner"):
        numbers = {"x": found["k"], "y": found[f"{name}_measured"], "stated": found[f"{name}_stated"]}
        parts.append(found.assign(panel=name, **numbers))
    ladders = measurements.simulation(root, project, EXPANSION).assign(panel="remainder")
    parts.append(ladders.rename(columns={"inner_steps": "k", "learning_rate": "x", "remainder": "y"}))
    products = inner_products(root, project).rename(columns={"inner_steps": "x"})
    for name, kind in PRODUCT_PANELS:
        lines = products[products["mini_batches"] == kind]
        half_width = lines[f"{name}_standard_error"].astype("float64").map(half_width_over_tasks)
        parts.append(lines.assign(panel=name, pairs=ONE_TASK, y=lines[name], half_width=half_width))
        parts.append(lines.assign(panel=name, pairs=OTHER_TASKS, y=lines[f"{name}_other_tasks"]))
    # In the panels of the expansion the column mini_batches is a number; in the others it is a kind.
    kept = [part.assign(mini_batches=None) if "problem" in part else part for part in parts if len(part)]
    if not kept:
        return pd.DataFrame(columns=list(FRAME))
    return pd.concat([part.reindex(columns=list(FRAME)) for part in kept], ignore_index=True).astype(_FRAME_TYPES)


def draw(frame: pd.DataFrame) -> Figure:
    """Draw the expansion in one row of panels and, below it, the inner products in a row for each training."""
    trainings = list(frame["training"].dropna().unique())
    rows = max(len(trainings), 1)
    figure = style.new_figure(3.3 + 2.7 * rows)
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[3.3, 2.7 * rows])[:, 0]
    axes = above.subplots(1, 3)
    for axis, panel in zip(axes, TITLES, strict=False):
        draw_coefficients(frame[frame["panel"] == panel], axis)
        axis.set_title(TITLES[panel], parse_math=True)
    draw_remainder(frame[frame["panel"] == "remainder"], axes[2])
    if frame["problem"].notna().any():
        style.add_legend(above, _expansion_legend(frame), 3)
    grid = below.subplots(rows, len(PRODUCT_PANELS), squeeze=False)
    for row, training in zip(grid, trainings or [None], strict=True):
        for axis, (panel, kind) in zip(row, PRODUCT_PANELS, strict=True):
            lines = frame[(frame["panel"] == panel) & (frame["mini_batches"] == kind)]
            draw_products(lines[lines["training"] == training], axis)
            axis.set_title(PRODUCT_TITLES[panel, kind])
        row[0].set_ylabel(training_label(training) if training else "")
    if trainings:
        style.add_legend(below, _product_legend(), 4)
    return figure


def draw_coefficients(frame: pd.DataFrame, axis: Axes) -> Axes:
    """Draw coefficients against k: the measured ones as marks, the stated ones as lines."""
    if frame.empty:
        return _say_nothing(axis)
    for algorithm, lines in frame.groupby("algorithm", sort=False):
        colour = themes.colour(algorithm)
        stated = lines.drop_duplicates("x").sort_values("x")
        axis.plot(stated["x"], stated["stated"], ALGORITHM_LINES[algorithm], color=colour, label=f"stated, {algorithm}")
        for problem, marks in lines.groupby("problem", sort=False):
            # Open marks of two sizes, so that both problems stay visible where their marks coincide.
            size = style.SMALL_MARKER if problem == "regression" else 2 * style.SMALL_MARKER
            look: dict[str, Any] = {"color": colour, "markerfacecolor": "none", "markersize": size}
            axis.plot(marks["x"], marks["y"], MARKERS[problem], label=f"{problem}, {algorithm}", **look)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("k, mini-batches")
    return axis


def draw_remainder(frame: pd.DataFrame, axis: Axes) -> Axes:
    """Draw the remainder of E[g] against alpha: a line for each problem, algorithm and k, and a line of slope 2."""
    if frame.empty:
        return _say_nothing(axis)
    for (problem, algorithm, k), line in frame.groupby(["problem", "algorithm", "k"], sort=False):
        marks = {"marker": MARKERS[problem], "markerfacecolor": "none", "markersize": style.SMALL_MARKER}
        look: dict[str, Any] = {"color": themes.colour(algorithm), "linewidth": style.THIN, **marks}
        label = f"{problem}, {algorithm}, k = {k}"
        axis.plot(line["x"], line["y"], ALGORITHM_LINES[algorithm], label=label, **look)
    x = np.array([frame["x"].min(), frame["x"].max()])
    start = frame["y"].max() * (x[0] / x[1]) ** 2
    axis.plot(x, 3 * start * (x / x[0]) ** 2, color=themes.ink(), linewidth=style.THIN, label="slope 2")
    axis.annotate("slope 2", (x[1], 3 * start * (x[1] / x[0]) ** 2), ha="right", va="bottom", fontsize="small")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("$\\alpha$", parse_math=True)
    axis.set_title("Remainder / |AvgGrad|")
    return axis


def draw_products(frame: pd.DataFrame, axis: Axes) -> Axes:
    """Draw one training's cosines or inner products against inner steps: a line for each algorithm and seed.

    The band is the 95 % interval over tasks; pairs of different tasks have none.
    """
    if frame.empty:
        return _say_nothing(axis)
    for (algorithm, pairs, _), line in frame.groupby(["algorithm", "pairs", "seed"], sort=False):
        colour = themes.colour(algorithm)
        look: dict[str, Any] = {"color": colour, "linewidth": style.THIN, "label": f"{algorithm}, {pairs}"}
        axis.plot(line["x"], line["y"], PAIR_LINES[pairs], **look)
        if line["half_width"].notna().all():
            low, high = line["y"] - line["half_width"], line["y"] + line["half_width"]
            style.draw_band(axis, line["x"], low, high, colour)
    axis.axhline(0, color=themes.ink(), linewidth=style.THIN, label="zero")
    axis.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axis.xaxis.set_major_formatter("{x:,.0f}")
    if frame["y"].abs().max() >= 1000:
        axis.yaxis.set_major_formatter("{x:,.0f}")
    axis.set_xlabel("inner steps taken")
    return axis


def _say_nothing(axis: Axes) -> Axes:
    style.say(axis, f"{NOT_RUN}:\nnothing is recorded yet")
    return axis


def _expansion_legend(frame: pd.DataFrame) -> list[Line2D]:
    algorithms = [
        style.legend_entry(name, f"{algorithm_label(name)}, stated", linestyle=ALGORITHM_LINES[name])
        for name in frame.loc[frame["problem"].notna(), "algorithm"].unique()
    ]
    problems = [
        style.legend_entry("", f"{name}, measured", marker=MARKERS[name], linestyle="", markerfacecolor="none")
        for name in frame["problem"].dropna().unique()
    ]
    return algorithms + problems


def _product_legend() -> list[Line2D]:
    algorithms = [style.legend_entry("reptile", "Reptile"), style.legend_entry("joint", "joint training")]
    pairs = [
        style.legend_entry("", f"two mini-batches of {name}", linestyle=line, linewidth=style.THIN)
        for name, line in PAIR_LINES.items()
    ]
    return algorithms + pairs
