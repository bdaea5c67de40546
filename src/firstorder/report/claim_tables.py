"""The claims as CSV and Markdown: first the values, then the orders, each with its verdict.

The CSV holds fractions; what is printed is read back from it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from firstorder.errors import UserError
from firstorder.files import replacing
from firstorder.report import CLAIMS, frames
from firstorder.report.accuracies import fresh_records
from firstorder.report.printed import MISSING, PrintedTable, percent, points
from firstorder.report.verdicts import REDUCED, TYPES, judge
from firstorder.settings import Project

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
_REDUCED = (
    "Reduced length: these trainings are shorter than the paper's, so no value is judged, and an order only between "
    "two cells of one training, at this length."
)


def write(root: Path, project: Project, published_path: Path) -> list[Path]:
    """Write results/claims.csv and .md from the records below `root`; return the paths."""
    paths = [root / CLAIMS.format(suffix=suffix) for suffix in ("csv", "md")]
    frames.write(paths[0], judge(fresh_records(root, project), project, published_path))
    text = "\n".join(table.to_markdown() for table in printed(root))
    with replacing(paths[1]) as part:
        part.write_text(text or f"{NOTHING}\n", encoding="utf-8")
    return paths


def printed(root: Path) -> list[PrintedTable]:
    """Read the written CSV and lay it out: a table of values and one of orders, each only if it has a line."""
    path = root / CLAIMS.format(suffix="csv")
    if not path.exists():
        raise UserError(f"{path}: no such table; write it first: make report")
    data = frames.read(path, tuple(TYPES), TYPES)
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
            notes = (f"Verdicts: {_count(lines)}.", rule, _RULES, *reduced)
            found.append(PrintedTable(title=title, heading=heading, rows=rows, label_columns=1, notes=notes))
    return found


def _count(data: pd.DataFrame) -> str:
    """Count the verdicts, as in `3 equivalent, 21 not run`, in the order in which they first stand."""
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
    # The sign alone is claimed by `above`.
    delta = MISSING if line.relation == "above" else f"{100 * line.delta_fraction:.1f}"
    seeds = MISSING if pd.isna(line.seeds) else str(line.seeds)
    verdict = line.verdict
    if not is_value and line.length == "reduced" and not pd.isna(line.seeds) and verdict != REDUCED:
        verdict += f" ({REDUCED})"
    return (line.sentence, *numbers, interval, *errors, delta, seeds, verdict)


def _width(fraction: float) -> str:
    return MISSING if math.isnan(fraction) else f"{100 * fraction:.2f}"
