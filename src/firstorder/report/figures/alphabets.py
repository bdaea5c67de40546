"""Errors by alphabet: which alphabets are hard, and which are mistaken for which."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from firstorder.records import freshness
from firstorder.report.claims.paper import Paper
from firstorder.report.figures import style, themes
from firstorder.report.read import measurements
from firstorder.report.read.curves import JUDGED_MODE
from firstorder.report.text.formatting import training_label
from firstorder.settings import FigureSettings, Project, columns

FRAME = ("evaluation", "alphabet", "answered", "queries", "offered", "errors", "seeds")
TAKEN = "taken for a character of"
FEWEST = 20  # a field of the map stays empty if its alphabet was offered less often: too few to give a rate


def gather(root: Path, project: Project, figure: FigureSettings, paper: Paper) -> pd.DataFrame:
    """Return the counts of the figure's evaluations, inductive, summed over seeds: columns FRAME.

    Each seed has its own meta-test characters, of nearly the same alphabets. What is not run has no row.
    """
    parts = []
    for name in figure.evaluations or ():
        counts = measurements.of_seeds(root, project, freshness.alphabets, name, columns.ALPHABETS)
        if counts.empty:
            continue
        seeds = counts["seed"].nunique()
        counts = counts[counts["mode"] == JUDGED_MODE]
        summed = counts.groupby(["alphabet", "answered"], as_index=False)[["offered", "errors"]].sum()
        # For each seed, every row of an alphabet repeats the number of its query images.
        queries = counts.groupby(["alphabet", "seed"])["queries"].first().groupby(level="alphabet").sum()
        summed["queries"] = summed["alphabet"].map(queries)
        parts.append(summed.assign(evaluation=name, seeds=seeds))
    return pd.concat(parts, ignore_index=True)[list(FRAME)] if parts else pd.DataFrame(columns=list(FRAME))


def draw(frame: pd.DataFrame) -> Figure:
    """Draw a row for each evaluation: error rates by alphabet and, beside them, the map of confusions."""
    evaluations = list(frame["evaluation"].unique())
    if not evaluations:
        return style.nothing()
    heights = [1.2 + 0.2 * frame[frame["evaluation"] == name]["alphabet"].nunique() for name in evaluations]
    figure = style.new_figure(sum(heights))
    parts = figure.subfigures(len(evaluations), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, name in zip(parts, evaluations, strict=True):
        draw_evaluation(frame[frame["evaluation"] == name], part)
        part.suptitle(training_label(name), fontsize="medium", x=0.01, ha="left")
    return figure


def draw_evaluation(frame: pd.DataFrame, part: SubFigure) -> SubFigure:
    """Draw one evaluation's bars and map, with the same order of rows, and the bars' legend below both."""
    bars, cells = part.subplots(1, 2, width_ratios=[1, 1.4])
    order = list(rates(frame).index)
    draw_rates(frame, order, bars)
    draw_map(frame, order, cells)
    handles, labels = bars.get_legend_handles_labels()
    part.legend(handles, labels, loc="outside lower center", ncols=len(handles))
    return part


def shown_name(alphabet: str) -> str:
    """Return an alphabet's name as printed: short enough to be read beside its bar."""
    return alphabet.replace("_", " ").replace("(Canadian Aboriginal Syllabics)", "(Canadian)")


def rates(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the errors within each alphabet (`inside`) and with another (`outside`), as fractions of its query images.

    The alphabet with the most errors comes first.
    """
    queries = frame.groupby("alphabet")["queries"].first()
    within = frame["alphabet"] == frame["answered"]
    shares = pd.DataFrame(
        {
            side: frame[chosen].groupby("alphabet")["errors"].sum().reindex(queries.index, fill_value=0) / queries
            for side, chosen in (("inside", within), ("outside", ~within))
        }
    )
    return shares.loc[shares.sum(axis=1).sort_values(ascending=False, kind="stable").index]


def draw_rates(frame: pd.DataFrame, order: list[str], axis: Axes) -> Axes:
    """Draw the error rates as stacked bars; errors within the alphabet come first."""
    shares, places = 100 * rates(frame).loc[order], np.arange(len(order))
    left = np.zeros(len(order))
    for side, label, role in (
        ("inside", f"{TAKEN} the same alphabet", "last"),
        ("outside", f"{TAKEN} another alphabet", "sum"),
    ):
        axis.barh(places, shares[side], left=left, color=themes.colour(role), label=label, height=0.8)
        left = left + shares[side].to_numpy()
    axis.set_yticks(places, [shown_name(name) for name in order], fontsize="small")
    axis.set_ylim(len(order) - 0.5, -0.5)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("wrong answers,\n% of the query images")
    axis.set_title("how often wrong", fontsize="small")
    return axis


def draw_map(frame: pd.DataFrame, order: list[str], axis: Axes) -> Axes:
    """Draw, for each alphabet (row), how often a wrong character of another (column) is answered when offered."""
    table = frame.pivot(index="alphabet", columns="answered").reindex(index=order)
    offered, errors = (
        table[what].reindex(columns=order).fillna(0).to_numpy(dtype=float) for what in ("offered", "errors")
    )
    shares = np.where(offered >= FEWEST, 100 * errors / np.maximum(offered, 1), np.nan)
    image = axis.imshow(shares, cmap=themes.map_of_numbers(), aspect="auto", vmin=0, interpolation="nearest")
    axis.set_yticks([])
    axis.set_xticks([])  # so many names would overlap
    axis.grid(visible=False)
    axis.figure.colorbar(image, ax=axis, label="answers, % of the times on offer", shrink=0.6)
    axis.set_xlabel("alphabet of the answer:\ncolumns in the order of the rows")
    axis.set_title("which wrong answer", fontsize="small")
    return axis
