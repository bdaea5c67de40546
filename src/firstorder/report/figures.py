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

from firstorder.report import FIGURE, drawing, frames, style, tables
from firstorder.report.statistics import half_width_over_tasks
from firstorder.settings import CURVE, SINE_FITS, FigureSettings, Project, lookup

CURVE_COLUMNS = ("outer_step", "pool", "mode", "shot", "tasks", "accuracy", "standard_error")
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

    Columns: CURVE_FRAME. `low` and `high` are the lowest and highest seed (band `seeds`) or, with one seed, the
    ends of the 95 % interval over tasks (band `tasks`). A training that is not run has one row of NaN.
    """
    rows: list[dict[str, Any]] = []
    for training in figure.trainings:
        curve = _curve(root, project, training)
        rows += [{"training": training, **row} for row in curve] or [{"training": training, "seeds": 0}]
    return pd.DataFrame(rows, columns=list(CURVE_FRAME))


def gather_sine(root: Path, project: Project, figure: FigureSettings, published_path: Path) -> pd.DataFrame:
    """Return the points of Figure 1: waves and fits (panel `fit`), and losses by inner step (panel `loss`).

    Columns: SINE_FRAME. In panel `loss`, x is the inner steps, y the mean squared error over `tasks` waves and
    half_width that of its 95 % interval over them.
    """
    parts = []
    if (root / SINE_FITS).exists():
        fits = frames.read(root / SINE_FITS, ("task", "algorithm", "inner_steps", "x", "y"), {"task": "Int64"})
        parts.append(fits.assign(panel="fit"))
    losses = tables.sine_losses(root)
    if len(losses):
        parts.append(
            losses.assign(panel="loss", x=losses["inner_steps"]).rename(columns={"mean_squared_error": "y"}),
        )
    if not parts:
        return pd.DataFrame(columns=list(SINE_FRAME))
    return pd.concat(parts, ignore_index=True).reindex(columns=list(SINE_FRAME))


KINDS: dict[str, Kind] = {
    "sine": Kind(gather_sine, drawing.draw_sine),
    "curves": Kind(gather_curves, drawing.draw_curves),
    "accuracies": Kind(gather_accuracies, drawing.draw_accuracies),
}


def write(root: Path, project: Project, name: str, published_path: Path) -> list[Path]:
    """Write figure `name` to results/figures/ as .png, .pdf and .csv (what is plotted); return the paths."""
    figure: FigureSettings = lookup(project.figures, name, "figure")
    kind = KINDS[figure.kind]
    data = kind.gather(root, project, figure, published_path)
    paths = [root / FIGURE.format(name=name, suffix=suffix) for suffix in ("png", "pdf", "csv")]
    with style.applied():
        drawn = kind.draw(data)
        for path in paths[:2]:
            style.save(drawn, path)
    frames.write(paths[2], data)
    return paths


def _curve(root: Path, project: Project, training: str) -> list[dict[str, Any]]:
    """Read one training's curves, of all the project's seeds that have one, and join the seeds: rows of CURVE_FRAME."""
    paths = [root / CURVE.format(training=training, seed=seed) for seed in project.seeds]
    seeds = [frames.read(path, CURVE_COLUMNS) for path in paths if path.exists()]
    if not any(len(seed) for seed in seeds):
        return []
    points = pd.concat(seeds, ignore_index=True)
    rows = []
    keys = ["pool", "mode", "outer_step", "shot", "tasks"]
    for key, lines in points.groupby(keys):
        accuracy = lines["accuracy"].mean()
        low, high = lines["accuracy"].min(), lines["accuracy"].max()
        if len(lines) == 1:
            half_width = half_width_over_tasks(lines["standard_error"].iloc[0])
            low, high = accuracy - half_width, accuracy + half_width
        band = "tasks" if len(lines) == 1 else "seeds"
        drawn = {"seeds": len(lines), "accuracy": accuracy, "low": low, "high": high, "band": band}
        rows.append({**dict(zip(keys, key, strict=True)), **drawn})
    return rows
