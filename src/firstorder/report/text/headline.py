"""The headline: how many of the paper's numbers are run, and how close ours are, in a sentence made from the tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from pathlib import Path

import pandas as pd

from firstorder.report.claims import outcomes
from firstorder.report.read import accuracies, staleness
from firstorder.report.read.csv_frames import STALE
from firstorder.report.text import tables
from firstorder.settings import MODES, Project

_HOW = {"full": "at full length", "study": "with the settings of this study", "reduced": "at reduced length"}
_NUMBER = ["paper", "row", "column"]  # which names a number of the paper


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many numbers of the paper stand in the tables, how many of them are run, and what became of these.

    A number is run if a fresh record of at least one seed exists. `most` is the largest distance of ours from the
    paper's, a fraction; NaN if nothing is run. `verdicts` has a count for each of outcomes.GROUPS.
    """

    published: int
    run: int
    most: float
    verdicts: Mapping[str, int]


def read(root: Path, project: Project) -> dict[str, pd.DataFrame]:
    """Read the CSV files of the tables of accuracies, by name. Raises UserError if one is not written yet."""
    return {name: tables.read(root, name) for name in project.tables}


def counts(project: Project, comparisons: Mapping[str, pd.DataFrame]) -> Counts:
    """Count the paper's numbers in comparisons (tables.comparison, by name): each once, and a stale one as not run."""
    if not comparisons:
        return Counts(published=0, run=0, most=math.nan, verdicts=dict.fromkeys(outcomes.GROUPS, 0))
    every = pd.concat(
        [data.assign(paper=project.tables[name].paper) for name, data in comparisons.items()], ignore_index=True
    )
    stated = every[every["paper_printed"].notna()].drop_duplicates([*_NUMBER, "algorithm", "mode"])
    run = stated[stated["accuracy_fraction"].notna()]
    if STALE in run:
        run = run[~run[STALE].eq(True)]
    found = outcomes.counts(run["verdict"].dropna())
    return Counts(
        published=len(stated.drop_duplicates(_NUMBER)),
        run=len(run.drop_duplicates(_NUMBER)),
        most=float(run["difference_fraction"].abs().max()),
        verdicts={group: found[group] for group in outcomes.GROUPS},
    )


def sentence(root: Path, project: Project, comparisons: Mapping[str, pd.DataFrame]) -> str:
    """Say how many of the paper's numbers are run, and within how many points of the paper's ours lie.

    Points are rounded up, so that "within" is true to the last digit. Where trainings are shorter than the paper's,
    nothing is said of points. A folder without a number of the paper says how many of its records are made.
    """
    if not project.evaluations:
        return "no accuracies in tables, only figures and claims."
    found = counts(project, comparisons)
    if not found.published:
        planned = _amount(len(project.evaluations) * len(MODES) * len(project.seeds), "record")
        records = accuracies.fresh_records(root, project)
        return f"{sum(not staleness.rests_on_stale([record.cell.path]) for record in records)} of {planned} made."
    numbers, how = _amount(found.published, "published number"), _HOW[project.length]
    if not found.run:
        return f"0 of {numbers} run {how} so far."
    if not project.is_judged:
        return f"{found.run} of {numbers} run {how}, where they are shown, not judged."
    all_of_them = {1: "", 2: "both "}.get(found.run, "all ")
    most = points_up(found.most)
    return f"{found.run} of {numbers} run {how}, {all_of_them}within {most} percentage points of the paper."


def points_up(fraction: float) -> str:
    """Return a distance (fraction) in percentage points with two decimals, rounded up.

    What is beyond the sixth decimal is the rounding of floats and of CSV files, and does not count.
    """
    points = Decimal(f"{100 * fraction:.6f}")
    return str(points.quantize(Decimal("0.01"), rounding=ROUND_CEILING))


def _amount(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"
