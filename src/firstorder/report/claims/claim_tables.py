"""Write the claims with their verdicts as CSV and Markdown: values, orders, figures, section 5.

The CSV file holds fractions and, for section 5 and the simulations, plain numbers. The Markdown file is printed from
it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from firstorder.errors import UserError
from firstorder.files import replacing
from firstorder.report import CLAIMS
from firstorder.report.claims import claims, curve_claims, simulation_claims, theory_claims
from firstorder.report.claims.outcomes import REDUCED
from firstorder.report.claims.verdicts import TYPES, judge
from firstorder.report.read import csv_frames, published, staleness
from firstorder.report.read.accuracies import fresh_records
from firstorder.report.text.formatting import MINUS, MISSING, PrintedTable, percent, points, training_label
from firstorder.settings import EXPANSION, MANIFOLD_POINTS, SINE_FITS, SINE_LOSSES, Project

NOTHING = "No claim of the paper is about these cells."
_RULES = (
    "[ , ]: 95 % interval. ± tasks: 95 % half-width over the tasks alone; ± seeds: over the seeds (Student), which "
    "holds the error over tasks too. The interval rests on ± seeds or, with one seed, on ± tasks."
)
_VALUE = (
    "Equivalent: the interval of ours minus the paper's, with both errors, lies inside plus and minus delta. Better, "
    "worse: it lies wholly beyond. The paper's ± is taken as a 95 % half-width; for Reptile its meaning is unknown."
)
_ORDER = (
    "First minus second, seed by seed; the paper's ± does not enter. Above holds where the interval lies above zero, "
    "equivalent where it lies inside plus and minus delta."
)
_THEORY = (
    "Measured: of a coefficient the largest relative error, of a slope the largest distance from 2, over all problems "
    "and k; of a cosine or inner product its change from the start of training to the end, mean over seeds with the "
    "95 % interval over them (one seed: over tasks). A change rises above the margin, and does not rise below it."
)
_SIMULATION = (
    "Measured: without unit; of a loss that of the network after all inner steps over that of predicting 0, with the "
    "95 % interval over new waves. A claim holds or fails where the interval lies wholly on one side of the bound."
)
_CURVES = (
    "What a training ends at is its inductive accuracy on meta-test tasks over the last fifth of its outer steps. "
    "First minus second is judged against a margin fixed before any of these trainings was run: the claim holds where "
    "the 95 % interval lies wholly on the wanted side, and fails where it lies wholly on the other. One seed: the "
    "interval is over tasks, and the verdict is about these trainings alone; the paper's own figures have one seed."
)
_TYPES = {**TYPES, **theory_claims.TYPES}
_REDUCED = (
    "Reduced length: these trainings are shorter than the paper's, so no value is judged, and an order only between "
    "two cells of one training, at this length."
)


def write(root: Path, project: Project, published_path: Path) -> list[Path]:
    """Write results/claims.csv and .md from the records below `root`; return the paths."""
    paths = [root / CLAIMS.format(suffix=suffix) for suffix in ("csv", "md")]
    about_cells = judge(fresh_records(root, project), project, published_path)
    about_theory = pd.DataFrame(theory_claims.judge(root, project, published_path), columns=list(_TYPES))
    stated = claims.read(published_path.with_name("claims.yaml"), published.read(published_path))
    about_figures = pd.DataFrame(
        [
            *simulation_claims.judge(root, project, stated.simulations or {}),
            *curve_claims.judge(root, project, stated.curves or {}),
        ],
        columns=list(_TYPES),
    )
    judged = (about_cells, about_figures, about_theory)
    parts = [part.reindex(columns=list(_TYPES)).astype(_TYPES) for part in judged]
    data = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    stale = [staleness.rests_on_stale(_rests_on(line)) for line in data.itertuples()]
    csv_frames.write(paths[0], data.assign(**{csv_frames.STALE: stale}) if any(stale) else data)
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


def _stale(lines: pd.DataFrame) -> list[bool]:
    """Return which lines of the CSV file are marked as stale; an empty list if it has no such column."""
    return list(lines[csv_frames.STALE]) if csv_frames.STALE in lines else []


def printed(root: Path) -> list[PrintedTable]:
    """Read the CSV file that `write` wrote and lay it out: a table for each kind of claim that has a line."""
    data = _read(root)
    reduced = (_REDUCED,) if (data["length"] == "reduced").any() else ()
    found = []
    for kind, title, relation, rule in (
        ("value", "Claims of value: is our accuracy the paper's?", "Ours minus paper, points", _VALUE),
        ("order", "Claims of order: does ours agree?", "First minus second, points", _ORDER),
    ):
        lines = data[data["kind"] == kind]
        if len(lines):
            heading = ("Claim", *_columns(kind), relation, "± tasks", "± seeds", "Delta", "Seeds", "Verdict")
            rows = tuple(_row(line) for line in lines.itertuples())
            footnotes = (f"Verdicts: {_count(lines)}.", rule, _RULES, *reduced)
            table = PrintedTable(title=title, heading=heading, rows=rows, label_columns=1, footnotes=footnotes)
            found.append(table.marking(_stale(lines)))
    return found + _figures(data) + _theory(data)


def beside(root: Path, name: str, kind: str) -> list[PrintedTable]:
    """Return the tables of the claims about the figure `name`, whose ids begin with that name."""
    data = _read(root)
    return _theory(data) if kind == "theory" else _figures(data[data["id"].str.startswith(f"{name}/")])


def _figures(data: pd.DataFrame) -> list[PrintedTable]:
    """Lay out the claims of the figures: a table of simulations and one of curves and sweeps, unless they are empty."""
    found = []
    lines = data[data["kind"] == "simulation"]
    rows: tuple[tuple[str, ...], ...]
    heading: tuple[str, ...]
    if len(lines):
        rows = tuple(
            (str(line.sentence), _within(line, _plain), f"{line.relation} {line.delta_fraction:g}", str(line.verdict))
            for line in lines.itertuples()
        )
        heading = ("Claim", "Measured", "Bound", "Verdict")
        footnotes = (f"Verdicts: {_count(lines)}.", _SIMULATION)
        title = "Claims of the simulations"
        table = PrintedTable(title=title, heading=heading, rows=rows, label_columns=1, footnotes=footnotes)
        found.append(table.marking(_stale(lines)))
    lines = data[data["kind"].isin(["curves", "shape"])]
    if len(lines):
        rows = tuple(_curves_row(line) for line in lines.itertuples())
        heading = ("Claim", "First minus second, points", "± tasks", "± seeds", "Wanted", "Seeds", "Verdict")
        footnotes = (f"Verdicts: {_count(lines)}.", _CURVES)
        title = "Claims of curves and sweeps: what trainings end at"
        table = PrintedTable(title=title, heading=heading, rows=rows, label_columns=1, footnotes=footnotes)
        found.append(table.marking(_stale(lines)))
    return found


def _curves_row(line: Any) -> tuple[str, ...]:
    errors = [_width(width) for width in (line.half_width_tasks_fraction, line.half_width_seeds_fraction)]
    side = "less than" if line.relation == "stays" else "more than"
    seeds = MISSING if pd.isna(line.seeds) else str(line.seeds)
    return (line.sentence, _within(line, points), *errors, f"{side} {100 * line.delta_fraction:g}", seeds, line.verdict)


def _within(line: Any, text: Callable[[float], str]) -> str:
    """Return the judged number as text, with its interval if it has one."""
    if math.isnan(line.judged_fraction) or line.low_fraction == line.high_fraction:
        return text(line.judged_fraction)
    return f"{text(line.judged_fraction)} [{text(line.low_fraction)}, {text(line.high_fraction)}]"


def _read(root: Path) -> pd.DataFrame:
    path = root / CLAIMS.format(suffix="csv")
    if not path.exists():
        raise UserError(f"{path}: no such table; write it first: make report")
    return csv_frames.read(path, tuple(_TYPES), _TYPES)


def _theory(data: pd.DataFrame) -> list[PrintedTable]:
    """Lay out the claims of kind theory: one table, or none if there are no such claims."""
    lines = data[data["kind"] == "theory"]
    if lines.empty:
        return []
    rows = []
    for line in lines.itertuples():
        measured = _plain(line.theory_measured)
        if not math.isnan(line.theory_low):
            measured += f" [{_plain(line.theory_low)}, {_plain(line.theory_high)}]"
        training = MISSING if pd.isna(line.theory_training) else training_label(line.theory_training)
        seeds = MISSING if pd.isna(line.seeds) else str(line.seeds)
        rows.append((line.sentence, training, measured, f"{line.theory_margin:g}", seeds, line.verdict))
    return [
        PrintedTable(
            title="Claims of section 5",
            heading=("Claim", "Settings of", "Measured", "Margin", "Seeds", "Verdict"),
            rows=tuple(rows),
            label_columns=2,
            footnotes=(f"Verdicts: {_count(lines)}.", _THEORY),
        ).marking(_stale(lines))
    ]


def _plain(number: float) -> str:
    """Return a plain number as text with three significant digits."""
    return MISSING if math.isnan(number) else f"{number:.3g}".replace("-", MINUS)


def _count(data: pd.DataFrame) -> str:
    """Count the verdicts, like `3 equivalent, 21 not run`, in order of first appearance."""
    counts = data["verdict"].value_counts()
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in dict.fromkeys(data["verdict"]))


def _columns(kind: str) -> tuple[str, ...]:
    return ("Paper, %", "Ours, %") if kind == "value" else ("Paper, points",)


def _row(line: Any) -> tuple[str, ...]:
    is_value = line.kind == "value"
    numbers = [line.paper_printed, percent(line.ours_fraction)] if is_value else [points(line.paper_fraction)]
    interval = points(line.judged_fraction)
    if not math.isnan(line.judged_fraction):
        interval += f" [{points(line.low_fraction)}, {points(line.high_fraction)}]"
    errors = [_width(width) for width in (line.half_width_tasks_fraction, line.half_width_seeds_fraction)]
    # `above` claims only the sign, so it has no margin.
    delta = MISSING if line.relation == "above" else f"{100 * line.delta_fraction:.1f}"
    seeds = MISSING if pd.isna(line.seeds) else str(line.seeds)
    verdict = line.verdict
    if not is_value and line.length == "reduced" and not pd.isna(line.seeds) and verdict != REDUCED:
        verdict += f" ({REDUCED})"
    return (line.sentence, *numbers, interval, *errors, delta, seeds, verdict)


def _width(fraction: float) -> str:
    return MISSING if math.isnan(fraction) else f"{100 * fraction:.2f}"
