"""The kinds of figures: for each a module, whose `gather` returns a tidy frame and whose `draw` draws it.

The frame that is drawn is written as CSV beside the picture, so that every mark can be looked up as a number. If
nothing is recorded yet, the picture says so in words. Accuracies are fractions in the frames and percent on the axes.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pandas as pd
from matplotlib.figure import Figure

from firstorder.errors import UserError
from firstorder.report import FIGURE, FIGURE_NUMBERS
from firstorder.report.claims.paper import Paper
from firstorder.report.figures import (
    adaptation,
    alphabets,
    combinations,
    comparisons,
    learning_curves,
    manifolds,
    sine_waves,
    style,
    sweeps,
    themes,
    theory_figure,
)
from firstorder.report.read import csv_frames, curves, staleness
from firstorder.report.text.formatting import STALE_FOOTNOTE
from firstorder.settings import FigureSettings, Project, lookup

KINDS: dict[str, ModuleType] = {
    "sine": sine_waves,
    "theory": theory_figure,
    "curves": learning_curves,
    "accuracies": comparisons,
    "combinations": combinations,
    "sweeps": sweeps,
    "manifolds": manifolds,
    "adaptation": adaptation,
    "alphabets": alphabets,
}


def write(root: Path, project: Project, name: str, published_path: Path, *, whole: bool = False) -> list[Path]:
    """Write figure `name` to results/figures/ as .png, .pdf and .csv (what is plotted); return the paths.

    What is not recorded is a gap in the picture or, if the figure must be `whole`, a UserError that names the training
    to run. A stale record is refused unless staleness.py allows it: then a line above the picture says so, and the CSV
    file marks the rows that rest on one.
    """
    figure = _settings(project, name)
    if whole:
        curves.check_whole(root, project, project.trainings_of_figure(name))
    data = _gathered(root, project, figure, published_path)
    paths = [root / FIGURE.format(name=name, suffix=suffix) for suffix in ("png", "pdf", "csv")]
    with style.applied():
        drawn = _drawn(figure, data)
        for path in paths[:2]:
            style.save(drawn, path)
    csv_frames.write(paths[2], data)
    return paths


def dark(root: Path, project: Project, name: str, published_path: Path) -> bytes:
    """Return figure `name` as a PNG file for a dark page, drawn from the same numbers as the light one.

    Raises UserError if the light one is not drawn yet, or from other numbers than are recorded now.
    """
    figure = _settings(project, name)
    data = _gathered(root, project, figure, published_path)
    path = root / FIGURE.format(name=name, suffix="csv")
    if FIGURE_NUMBERS.read_text(path) != csv_frames.text(data):
        raise UserError(f"{path}: not of the present records; draw the report first: make report")
    with style.applied(themes.DARK):
        return style.content(_drawn(figure, data), "png")


def _settings(project: Project, name: str) -> FigureSettings:
    found: FigureSettings = lookup(project.figures, name, "figure")
    return found


def _gathered(root: Path, project: Project, figure: FigureSettings, published_path: Path) -> pd.DataFrame:
    return staleness.marked(KINDS[figure.kind].gather(root, project, figure, Paper.of(root, published_path)))


def _drawn(figure: FigureSettings, data: pd.DataFrame) -> Figure:
    """Draw gathered data with the looks that are applied, and a line above it where it rests on stale records."""
    drawn: Figure = KINDS[figure.kind].draw(data)
    if csv_frames.STALE in data:
        style.write_above(drawn, STALE_FOOTNOTE)
    return drawn
