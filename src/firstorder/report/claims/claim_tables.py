"""Write the claims with their verdicts as CSV and Markdown: values, orders, figures, section 5.

The CSV file holds fractions and, for section 5 and the simulations, plain numbers. The Markdown file is printed from
it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from firstorder.errors import UserError
from firstorder.files import replacing
from firstorder.report import CLAIMS
from firstorder.report.claims import curve_claims, simulation_claims, theory_claims
from firstorder.report.claims.claims import Paper
from firstorder.report.claims.outcomes import REDUCED
from firstorder.report.claims.verdicts import TYPES, judge
from firstorder.report.read import csv_frames, staleness
from firstorder.report.read.accuracies import fresh_records
from firstorder.report.text.formatting import MINUS, MISSING, PrintedTable, percent, points, training_label
from firstorder.settings import EXPANSION, MANIFOLD_POINTS, SINE_FITS, SINE_LOSSES, Project

NOTHING = "No claim of the paper is about these cells."
_RULES = (
    "[ , ]: 95 % interval. ± tasks: 95 % half-width over the tasks alone; ± seeds: over the seeds (Student), which "
    "holds the error over tasks too. The interval rests on ± seeds or, with one seed, on ± tasks."
)
_TYPES = {**TYPES, **theory_claims.TYPES}
_REDUCED = (
    "Reduced length: these trainings are shorter than the paper's, so no value is judged, and an order only between "
    "two cells of one training, at this length."
)


def write(root: Path, project: Project, published_path: Path) -> list[Path]:
    """Write results/claims.csv and .md from the records below `root`; return the paths."""
    paths = [root / CLAIMS.format(suffix=suffix) for suffix in ("csv", "md")]
    paper = Paper(published_path)
    judged = (
        judge(fresh_records(root, project), project, paper),
        simulation_claims.judge(root, project, paper.claims.simulations or {}),
        curve_claims.judge(root, project, paper.claims.curves or {}),
        theory_claims.judge(root, project, paper.claims),
    )
    parts = [pd.DataFrame(part, columns=list(_TYPES)).astype(_TYPES) for part in judged]
    data = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    csv_frames.write(paths[0], staleness.marked_by(data, map(_rests_on, data.itertuples())))
    text = "\n".join(table.to_markdown() for table in printed(root))
    with replacing(paths[1]) as part:
        part.write_text(text or f"{NOTHING}\n", encoding="utf-8")
    return paths


def _rests_on(line: Any) -> list[str]:
    """Name the cells, trainings or files whose records decided a claim."""
    if line.kind == "simulation":
        return [MANIFOLD_POINTS] if line.cells == "manifold-distance" else [SINE_LOSSES, SINE_FITS]
    if line.kind == "theory":
        return [EXPANSION if pd.isna(line.theory_training) else str(line.theory_training)]
    return re.split(r" against | \+ ", str(line.cells))


def printed(root: Path) -> list[PrintedTable]:
    """Read the CSV file that `write` wrote and lay it out: a table for each layout that has a line."""
    data = _read(root)
    reduced = (_REDUCED,) if (data["length"] == "reduced").any() else ()
    about_cells = [*VALUE.tables(data, reduced), *ORDER.tables(data, reduced)]
    return [*about_cells, *SIMULATION.tables(data), *CURVES.tables(data), *THEORY.tables(data)]


def beside(root: Path, name: str, kind: str) -> list[PrintedTable]:
    """Return the tables of the claims about the figure `name`, whose ids begin with that name."""
    data = _read(root)
    if kind == "theory":
        return THEORY.tables(data)
    own = data[data["id"].str.startswith(f"{name}/")]
    return [*SIMULATION.tables(own), *CURVES.tables(own)]


def _read(root: Path) -> pd.DataFrame:
    path = root / CLAIMS.format(suffix="csv")
    if not path.exists():
        raise UserError(f"{path}: no such table; write it first: make report")
    return csv_frames.read(path, tuple(_TYPES), _TYPES)


def _value_row(line: Any) -> tuple[str, ...]:
    return (line.sentence, line.paper_printed, percent(line.ours_fraction), *_cell_numbers(line), line.verdict)


def _order_row(line: Any) -> tuple[str, ...]:
    is_short = line.length == "reduced" and not pd.isna(line.seeds) and line.verdict != REDUCED
    verdict = f"{line.verdict} ({REDUCED})" if is_short else line.verdict
    return (line.sentence, points(line.paper_fraction), *_cell_numbers(line), verdict)


def _cell_numbers(line: Any) -> tuple[str, ...]:
    interval = _interval(points, line.judged_fraction, line.low_fraction, line.high_fraction)
    # `above` claims only the sign, so it has no margin.
    delta = MISSING if line.relation == "above" else f"{100 * line.delta_fraction:.1f}"
    return (interval, *_errors(line), delta, _seeds(line))


def _simulation_row(line: Any) -> tuple[str, ...]:
    return (line.sentence, _within(line, _plain), f"{line.relation} {line.delta_fraction:g}", line.verdict)


def _curves_row(line: Any) -> tuple[str, ...]:
    wanted = f"{'less' if line.relation == 'stays' else 'more'} than {100 * line.delta_fraction:g}"
    return (line.sentence, _within(line, points), *_errors(line), wanted, _seeds(line), line.verdict)


def _theory_row(line: Any) -> tuple[str, ...]:
    training = MISSING if pd.isna(line.theory_training) else training_label(line.theory_training)
    measured = _interval(_plain, line.theory_measured, line.theory_low, line.theory_high)
    return (line.sentence, training, measured, f"{line.theory_margin:g}", _seeds(line), line.verdict)


def _within(line: Any, text: Callable[[float], str]) -> str:
    """Return the judged number as text, with its interval if it has one."""
    low, high = line.low_fraction, line.high_fraction
    return text(line.judged_fraction) if low == high else _interval(text, line.judged_fraction, low, high)


def _interval(text: Callable[[float], str], number: float, low: float, high: float) -> str:
    return text(number) + ("" if math.isnan(low) else f" [{text(low)}, {text(high)}]")


def _errors(line: Any) -> list[str]:
    widths = (line.half_width_tasks_fraction, line.half_width_seeds_fraction)
    return [MISSING if math.isnan(width) else f"{100 * width:.2f}" for width in widths]


def _seeds(line: Any) -> str:
    return MISSING if pd.isna(line.seeds) else str(line.seeds)


def _plain(number: float) -> str:
    """Return a plain number as text with three significant digits."""
    return MISSING if math.isnan(number) else f"{number:.3g}".replace("-", MINUS)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the claims of some kinds are printed: heading, row and footnotes. The first columns are labels."""

    kinds: tuple[str, ...]
    title: str
    heading: tuple[str, ...]
    row: Callable[[Any], tuple[str, ...]]
    rules: tuple[str, ...]
    label_columns: int = 1

    def tables(self, data: pd.DataFrame, footnotes: tuple[str, ...] = ()) -> list[PrintedTable]:
        """Return the table of these claims; none if there is no such claim."""
        lines = data[data["kind"].isin(self.kinds)]
        if lines.empty:
            return []
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in Counter(lines["verdict"]).items())
        table = PrintedTable(
            title=self.title,
            heading=("Claim", *self.heading, "Verdict"),
            rows=tuple(self.row(line) for line in lines.itertuples()),
            label_columns=self.label_columns,
            footnotes=(f"Verdicts: {verdicts}.", *self.rules, *footnotes),
        )
        return [table.marking(list(lines[csv_frames.STALE]) if csv_frames.STALE in lines else [])]


_ABOUT_CELLS = ("± tasks", "± seeds", "Delta", "Seeds")
VALUE = Layout(
    kinds=("value",),
    title="Claims of value: is our accuracy the paper's?",
    heading=("Paper, %", "Ours, %", "Ours minus paper, points", *_ABOUT_CELLS),
    row=_value_row,
    rules=(
        "Equivalent: the interval of ours minus the paper's, with both errors, lies inside plus and minus delta. "
        "Better, worse: it lies wholly beyond. The paper's ± is taken as a 95 % half-width; for Reptile its meaning is "
        "unknown.",
        _RULES,
    ),
)
ORDER = Layout(
    kinds=("order",),
    title="Claims of order: does ours agree?",
    heading=("Paper, points", "First minus second, points", *_ABOUT_CELLS),
    row=_order_row,
    rules=(
        "First minus second, seed by seed; the paper's ± does not enter. Above holds where the interval lies above "
        "zero, equivalent where it lies inside plus and minus delta.",
        _RULES,
    ),
)
SIMULATION = Layout(
    kinds=("simulation",),
    title="Claims of the simulations",
    heading=("Measured", "Bound"),
    row=_simulation_row,
    rules=(
        "Measured: without unit; of a loss that of the network after all inner steps over that of predicting 0, with "
        "the 95 % interval over new waves. A claim holds or fails where the interval lies wholly on one side of the "
        "bound.",
    ),
)
CURVES = Layout(
    kinds=("curves", "shape"),
    title="Claims of curves and sweeps: what trainings end at",
    heading=("First minus second, points", "± tasks", "± seeds", "Wanted", "Seeds"),
    row=_curves_row,
    rules=(
        "What a training ends at is its inductive accuracy on meta-test tasks over the last fifth of its outer steps. "
        "First minus second is judged against a margin fixed before any of these trainings was run: the claim holds "
        "where the 95 % interval lies wholly on the wanted side, and fails where it lies wholly on the other. One "
        "seed: the interval is over tasks, and the verdict is about these trainings alone; the paper's own figures "
        "have one seed.",
    ),
)
THEORY = Layout(
    kinds=("theory",),
    title="Claims of section 5",
    heading=("Settings of", "Measured", "Margin", "Seeds"),
    row=_theory_row,
    rules=(
        "Measured: of a coefficient the largest relative error, of a slope the largest distance from 2, over all "
        "problems and k; of a cosine or inner product its change from the start of training to the end, mean over "
        "seeds with the 95 % interval over them (one seed: over tasks). A change rises above the margin, and does not "
        "rise below it.",
    ),
    label_columns=2,
)
