"""The kinds of figures: for each, a function that gathers a tidy frame and one that draws it.

The frame that is drawn is written as CSV beside the picture, so that every mark can be looked up as a number. If
nothing is recorded yet, the picture says so in words. Accuracies are fractions in the frames and percent on the axes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from firstorder.report import FIGURE
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
    theory_figure,
)
from firstorder.report.read import csv_frames, curves, staleness
from firstorder.report.text.formatting import STALE_FOOTNOTE
from firstorder.settings import FigureSettings, Project, lookup


@dataclass(frozen=True)
class Kind:
    """A kind of figure: how its data is gathered, and how it is drawn."""

    gather: Callable[[Path, Project, FigureSettings, Path], pd.DataFrame]
    draw: Callable[[pd.DataFrame], Figure]


KINDS: dict[str, Kind] = {
    "sine": Kind(sine_waves.gather, sine_waves.draw),
    "theory": Kind(theory_figure.gather, theory_figure.draw),
    "curves": Kind(learning_curves.gather, learning_curves.draw),
    "accuracies": Kind(comparisons.gather, comparisons.draw),
    "combinations": Kind(combinations.gather, combinations.draw),
    "sweeps": Kind(sweeps.gather, sweeps.draw),
    "manifolds": Kind(manifolds.gather, manifolds.draw),
    "adaptation": Kind(adaptation.gather, adaptation.draw),
    "alphabets": Kind(alphabets.gather, alphabets.draw),
}


def write(root: Path, project: Project, name: str, published_path: Path, *, whole: bool = False) -> list[Path]:
    """Write figure `name` to results/figures/ as .png, .pdf and .csv (what is plotted); return the paths.

    What is not recorded is a gap in the picture or, if the figure must be `whole`, a UserError that names the training
    to run. A stale record is refused unless staleness.py allows it: then a line above the picture says so, and the CSV
    file marks the rows that rest on one.
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
            style.write_above(drawn, STALE_FOOTNOTE)
        for path in paths[:2]:
            style.save(drawn, path)
    csv_frames.write(paths[2], data)
    return paths
