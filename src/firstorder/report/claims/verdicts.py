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
from typing import Any, Literal

import pandas as pd

from firstorder.records.cells import CellRecord
from firstorder.report.claims.claims import Claim, Paper
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
from firstorder.report.read import accuracies
from firstorder.report.read.statistics import Estimate, estimate, paired_difference
from firstorder.settings import Project

TYPES = (
    dict.fromkeys(("id", "kind", "relation", "sentence", "cells", "length"), "str")
    | dict.fromkeys(("delta_fraction", "paper_fraction", "paper_half_width_fraction"), "float64")
    | {"paper_printed": "str"}
    | dict.fromkeys(("ours_fraction", "half_width_tasks_fraction", "half_width_seeds_fraction"), "float64")
    | dict.fromkeys(("judged_fraction", "low_fraction", "high_fraction"), "float64")
    | {"seeds": "Int64", "tasks_per_seed": "Int64", "verdict": "str"}
)


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


def judge(records: Iterable[CellRecord], project: Project, paper: Paper) -> pd.DataFrame:
    """Judge every claim about cells: one row a claim, in the order of claims.yaml.

    `records` are the fresh records of `project`. Columns and units: TYPES. For a value, `ours` is the accuracy and
    `judged` is ours minus the paper's; for an order, `ours`, `paper` and `judged` are first minus second. Claims about
    cells that params.yaml does not list are left out at reduced length and `not run` at full length.
    """
    ours = accuracies.frame(records)
    cells = dict(list(ours.groupby(ours["algorithm"] + "/" + ours["column"] + "/" + ours["mode"])))
    rows = []
    for name, claim in paper.claims.claims.items():
        if claim.kind == "theory":  # judged in theory_claims.py
            continue
        if project.length == "full" or all(about.evaluation in project.evaluations for about in claim.cells):
            row = {"id": name, "kind": claim.kind, "relation": claim.relation, "sentence": claim.sentence}
            row |= {"cells": " against ".join(about.cell for about in claim.cells), "length": project.length}
            row |= _numbers(claim, paper, [cells.get(about.cell, ours.iloc[:0]) for about in claim.cells])
            rows.append({**row, "verdict": _verdict(row, claim, project)})
    return pd.DataFrame(rows, columns=list(TYPES)).astype(TYPES)


def by_cell(judged: pd.DataFrame) -> pd.DataFrame:
    """Return the value claims as algorithm, column, mode, difference_half_width (fraction) and verdict."""
    values = judged[judged["kind"] == "value"]
    parts = values["cells"].str.extract(r"^(?P<algorithm>[^/]+)/(?P<column>.+)/(?P<mode>[^/]+)$")
    half_width = (values["high_fraction"] - values["low_fraction"]) / 2
    return parts.assign(difference_half_width_fraction=half_width, verdict=values["verdict"])


def _numbers(claim: Claim, paper: Paper, cells: list[pd.DataFrame]) -> dict[str, Any]:
    """Return the numbers of one row of `judge`; ours are missing if one of the claim's `cells` was not run."""
    stated = paper.lines.loc[[about.line for about in claim.cells]]
    half_width, is_value = math.hypot(*stated["half_width"]), claim.kind == "value"
    first = stated["accuracy"].iloc[0]
    row: dict[str, Any] = {
        "delta_fraction": paper.claims.delta(claim),
        "paper_fraction": first if is_value else first - stated["accuracy"].iloc[1],
        "paper_half_width_fraction": half_width,
        "paper_printed": stated["printed"].iloc[0] if is_value else None,
    }
    found = _mean(cells[0]) if is_value else paired_difference(*cells)
    if found is None:
        return row
    judged = found.value - first if is_value else found.value
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
