"""Figures: for each kind a function that gathers a tidy frame and one that draws it, and nothing else.

The frame that is drawn is written beside the picture as CSV: every mark can be looked up as a number. Where
nothing is recorded yet, the picture says so in words. Accuracies are fractions in the frames, percent on axes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from firstorder.report import FIGURE
from firstorder.report.figures import (
    adaptation,
    alphabets,
    combinations,
    drawing,
    manifolds,
    style,
    sweeps,
    theory_drawing,
)
from firstorder.report.read import csv_frames, curves, simulated, staleness, theory
from firstorder.report.text import tables
from firstorder.report.text.formatting import STALE_NOTE
from firstorder.settings import FigureSettings, Project, lookup

CURVE_FRAME = (
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
)
SINE_FRAME = ("panel", "task", "algorithm", "inner_steps", "x", "y", "half_width", "tasks")


@dataclass(frozen=True)
class Kind:
    """A kind of figure: where its data comes from, and how it is drawn."""

    gather: Callable[[Path, Project, FigureSettings, Path], pd.DataFrame]
    draw: Callable[[pd.DataFrame], Figure]


def gather_accuracies(root: Path, project: Project, figure: FigureSettings, published_path: Path) -> pd.DataFrame:
    """Return the comparisons of all the figure's tables, one under another, with the table's name first.

    In a table with published numbers the rows without one (baselines) are left out: far away, they would
    squeeze the differences to nothing.
    """
    parts = []
    for name in figure.tables:
        part = tables.comparison(root, project, name, published_path)
        stated = part["paper_accuracy_fraction"].notna()
        part.insert(0, "table", name)
        parts.append(part[stated] if stated.any() else part)
    columns = ["table", *tables.COMPARISON_TYPES]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def gather_curves(root: Path, project: Project, figure: FigureSettings, published_path: Path) -> pd.DataFrame:
    """Return the learning curves of the figure's trainings: the mean over seeds at each outer step.

    Columns: CURVE_FRAME; see curves.joined. A training that is not run has one row of NaN.
    """
    rows: list[dict[str, Any]] = []
    for training in figure.trainings:
        curve = curves.joined(root, project, training)
        rows += [{"training": training, **row} for row in curve] or [{"training": training, "seeds": 0}]
    return pd.DataFrame(rows, columns=list(CURVE_FRAME))


def gather_sine(root: Path, project: Project, figure: FigureSettings, published_path: Path) -> pd.DataFrame:
    """Return the points of Figure 1: waves and fits (panel `fit`), and losses by inner step (panel `loss`).

    Columns: SINE_FRAME. In panel `loss`, x is the inner steps, y the mean squared error over `tasks` waves and
    half_width that of its 95 % interval over them.
    """
    parts = []
    fits = simulated.fits(root, project)
    if len(fits):
        parts.append(fits.astype({"task": "Int64"}).assign(panel="fit"))
    losses = tables.sine_losses(root) if len(simulated.losses(root, project)) else pd.DataFrame()
    if len(losses):
        parts.append(
            losses.assign(panel="loss", x=losses["inner_steps"]).rename(columns={"mean_squared_error": "y"}),
        )
    if not parts:
        return pd.DataFrame(columns=list(SINE_FRAME))
    return pd.concat(parts, ignore_index=True).reindex(columns=list(SINE_FRAME))


KINDS: dict[str, Kind] = {
    "sine": Kind(gather_sine, drawing.draw_sine),
    "theory": Kind(theory.gather, theory_drawing.draw),
    "curves": Kind(gather_curves, drawing.draw_curves),
    "accuracies": Kind(gather_accuracies, drawing.draw_accuracies),
    "combinations": Kind(combinations.gather, combinations.draw),
    "sweeps": Kind(sweeps.gather, sweeps.draw),
    "manifolds": Kind(manifolds.gather, manifolds.draw),
    "adaptation": Kind(adaptation.gather, adaptation.draw),
    "alphabets": Kind(alphabets.gather, alphabets.draw),
}


def write(root: Path, project: Project, name: str, published_path: Path, *, whole: bool = False) -> list[Path]:
    """Write figure `name` to results/figures/ as .png, .pdf and .csv (what is plotted); return the paths.

    What is not recorded is a gap in the picture or, if the figure must be `whole`, a UserError that names the training
    to run. A stale record is refused in any case, unless that is allowed (staleness.py): then a note says so, and the
    CSV which rows rest on one.
    """
    figure: FigureSettings = lookup(project.figures, name, "figure")
    if whole:
        curves.check_whole(root, project, project.trainings_of_figure(name))
    kind = KINDS[figure.kind]
    data = staleness.marked(kind.gather(root, project, figure, published_path))
    paths = [root / FIGURE.format(name=name, suffix=suffix) for suffix in ("png", "pdf", "csv")]
    with style.applied():
        drawn = kind.draw(data)
        if csv_frames.STALE in data:
            style.note(drawn, STALE_NOTE)
        for path in paths[:2]:
            style.save(drawn, path)
    csv_frames.write(paths[2], data)
    return paths
