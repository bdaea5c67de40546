"""Verdicts on claims about cells, by rules that were fixed before any full-length cell was run.

**Value**: ours minus the paper's. The half-width of the interval is the root of the sum of squares of two 95 %
half-widths: ours over seeds (Student, n - 1 degrees of freedom) and the paper's. The verdict is

- `equivalent` if the interval lies inside -delta to +delta, `better` if above +delta, `worse` if below -delta;
- `inconclusive` otherwise: the interval overlaps a margin, so more seeds (or tasks) are needed.

This amounts to two one-sided tests of equivalence at 2.5 % each. The usual 5 % would mean a 90 % interval; the
stricter level is used so that the interval that is judged is the one that is printed. The paper's ± is taken as a 95 %
half-width. For the MAML rows it is one; for the Reptile rows its meaning is unknown, and if it were one standard
deviation of three trainings, the interval would be 2.5 times as wide.

**Order**: first cell minus second, ours only, from the differences seed by seed. `above` holds if the 95 % interval
lies above zero and fails if it lies below; `equivalent` holds if it lies inside -delta to +delta and fails if it lies
wholly outside. Otherwise the verdict is `inconclusive`.

**One seed**: nothing is known about what another training would give, and an interval over tasks cannot replace that.
So every verdict is `inconclusive: one seed`, and the interval shown is the one over the seed's tasks.

**Reduced length**: a value is never judged, and neither is an order between two trainings, which need not be shortened
by the same factor. Two cells of one training are judged at any length, and the length is printed with the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from firstorder.records.cells import CellRecord
from firstorder.report.claims.claims import Claim, ClaimedCell, Claims, by_line, line_of, read
from firstorder.report.claims.outcomes import (
    BETTER,
    EQUIVALENT,
    INCONCLUSIVE,
    NOT_RUN,
    ONE_SEED,
    REDUCED,
    WORSE,
    decide,
)
from firstorder.report.read import accuracies, published
from firstorder.report.read.statistics import Estimate, estimate, paired_difference
from firstorder.settings import Project

TYPES = {
    "id": "str",
    "kind": "str",
    "relation": "str",
    "sentence": "str",
    "cells": "str",
    "length": "str",
    "delta_fraction": "float64",
    "paper_fraction": "float64",
    "paper_half_width_fraction": "float64",
    "paper_printed": "str",
    "ours_fraction": "float64",
    "half_width_tasks_fraction": "float64",
    "half_width_seeds_fraction": "float64",
    "judged_fraction": "float64",
    "low_fraction": "float64",
    "high_fraction": "float64",
    "seeds": "Int64",
    "tasks_per_seed": "Int64",
    "verdict": "str",
}


@dataclass(frozen=True)
class Interval:
    """A 95 % interval (fractions), and the number of seeds behind it."""

    low: float
    high: float
    seeds: int


def verdict_of_value(interval: Interval, delta: float) -> str:
    """Judge the interval of ours minus the paper's, at full length."""
    if interval.seeds < 2:
        return ONE_SEED
    if -delta < interval.low and interval.high < delta:
        return EQUIVALENT
    if interval.low > delta:
        return BETTER
    return WORSE if interval.high < -delta else INCONCLUSIVE


def verdict_of_order(interval: Interval, relation: Literal["above", "equivalent"], delta: float) -> str:
    """Judge the interval of the first cell minus the second."""
    if interval.seeds < 2:
        return ONE_SEED
    if relation == "above":
        return decide(holds=interval.low > 0, fails=interval.high < 0)
    is_inside = -delta < interval.low and interval.high < delta
    return decide(holds=is_inside, fails=interval.low > delta or interval.high < -delta)


def judge(records: Iterable[CellRecord], project: Project, published_path: Path) -> pd.DataFrame:
    """Judge every claim about cells in claims.yaml (beside `published_path`): one row a claim, in the file's order.

    `records` are the fresh records of `project`. Columns and units: TYPES. For a value, `ours` is the accuracy and
    `judged` is ours minus the paper's; for an order, `ours`, `paper` and `judged` are first minus second. Claims about
    cells that params.yaml does not list are left out at reduced length and `not run` at full length.
    """
    numbers = published.read(published_path)
    claims = read(published_path.with_name("claims.yaml"), numbers)
    ours = accuracies.frame(records)
    ours.index = pd.Index(ours["algorithm"] + "/" + ours["column"] + "/" + ours["mode"])
    paper = {name: by_line(numbers, name) for name in ("accuracy", "half_width", "printed")}
    rows = []
    for name, claim in claims.claims.items():
        if claim.kind == "theory":  # judged in theory_claims.py
            continue
        if project.length == "full" or all(about.evaluation in project.evaluations for about in claim.cells):
            row = {"id": name, "kind": claim.kind, "relation": claim.relation, "sentence": claim.sentence}
            row |= {"cells": " against ".join(about.cell for about in claim.cells), "length": project.length}
            row |= _numbers(claim, claims, ours, paper)
            rows.append({**row, "verdict": _verdict(row, claim, project)})
    return pd.DataFrame(rows, columns=list(TYPES)).astype(TYPES)


def by_cell(judged: pd.DataFrame) -> pd.DataFrame:
    """Return the value claims as algorithm, column, mode, difference_half_width (fraction) and verdict."""
    values = judged[judged["kind"] == "value"]
    parts = values["cells"].str.extract(r"^(?P<algorithm>[^/]+)/(?P<column>.+)/(?P<mode>[^/]+)$")
    half_width = (values["high_fraction"] - values["low_fraction"]) / 2
    return parts.assign(difference_half_width_fraction=half_width, verdict=values["verdict"])


def _numbers(
    claim: Claim, claims: Claims, ours: pd.DataFrame, paper: dict[str, dict[tuple[str, str, str], Any]]
) -> dict[str, Any]:
    """Return the numbers of one row of `judge`; ours are missing if a cell was not run."""
    lines = [line_of(about) for about in claim.cells]
    cells = [_cell(ours, about) for about in claim.cells]
    stated = [paper["accuracy"][line] for line in lines]
    half_width = math.hypot(*(paper["half_width"][line] for line in lines))
    row: dict[str, Any] = {
        "delta_fraction": claims.delta(claim),
        "paper_fraction": stated[0] - stated[1] if claim.kind == "order" else stated[0],
        "paper_half_width_fraction": half_width,
        "paper_printed": paper["printed"][lines[0]] if claim.kind == "value" else None,
    }
    found = paired_difference(*cells) if claim.kind == "order" else _mean(cells[0])
    if found is None:
        return row
    is_value = claim.kind == "value"
    judged = found.value - stated[0] if is_value else found.value
    # The paper's error counts only if we compare with its number.
    width = math.hypot(found.half_width, half_width) if is_value else found.half_width
    return row | {
        "ours_fraction": found.value,
        "half_width_tasks_fraction": found.half_width_tasks,
        "half_width_seeds_fraction": found.half_width_seeds,
        "judged_fraction": judged,
        "low_fraction": judged - width,
        "high_fraction": judged + width,
        "seeds": found.seeds,
        "tasks_per_seed": min(int(cell["tasks"].min()) for cell in cells),
    }


def _cell(ours: pd.DataFrame, about: ClaimedCell) -> pd.DataFrame:
    return ours[ours.index == about.cell]


def _mean(cell: pd.DataFrame) -> Estimate | None:
    return None if cell.empty else estimate(cell["accuracy"].tolist(), cell["standard_error_tasks"].tolist())


def _verdict(row: dict[str, Any], claim: Claim, project: Project) -> str:
    """Apply the rules of this module to one row of `judge`."""
    if row.get("seeds") is None:
        return NOT_RUN
    if project.length != "full" and not _is_one_training(claim, project):
        return REDUCED
    interval = Interval(row["low_fraction"], row["high_fraction"], row["seeds"])
    if claim.relation is None:
        return verdict_of_value(interval, row["delta_fraction"])
    return verdict_of_order(interval, claim.relation, row["delta_fraction"])


def _is_one_training(claim: Claim, project: Project) -> bool:
    """Say whether the claim is an order of two cells of one training, which are shortened by the same factor."""
    trainings = {project.evaluations[about.evaluation].training for about in claim.cells}
    return claim.kind == "order" and len(trainings) == 1
