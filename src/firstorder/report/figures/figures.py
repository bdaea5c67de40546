"""The kinds of figures: for each a module, whose `gather` returns a tidy frame and whose `draw` draws it.

The frame that is drawn is written as CSV beside the picture, so that every mark can be looked up as a number. If
nothing is recorded yet, the picture says so in words. Accuracies are fractions in the frames and percent on the axes.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from firstorder.report import FIGURE
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
    figure: FigureSettings = lookup(project.figures, name, "figure")
    if whole:
        curves.check_whole(root, project, project.trainings_of_figure(name))
    kind = KINDS[figure.kind]
    data = staleness.marked(kind.gather(root, project, figure, Paper.of(root, published_path)))
    paths = [root / FIGURE.format(name=name, suffix=suffix) for suffix in ("png", "pdf", "csv")]
    with style.applied():
        drawn = kind.draw(data)
        if csv_frames.STALE in data:
            style.write_above(drawn, STALE_FOOTNOTE)
        for path in paths[:2]:
            style.save(drawn, path)
    csv_frames.write(paths[2], data)
    return paths
