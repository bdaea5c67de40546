"""Verdicts on claims about cells. When each rule was fixed, and what was known then, is in the register (register.py).

**Value**: ours minus the paper's. The half-width of the interval is the root of the sum of squares of two 95 %
half-widths: ours over seeds (Student, n - 1 degrees of freedom) and the paper's. The verdict is

- `equivalent` if the interval lies inside the margins (margins.py), `better` if above them, `worse` if below;
- `undecidable` otherwise, if the paper's half-width alone is as wide as the margins: no number of seeds or tasks of
  ours would make it `equivalent`;
- `inconclusive` otherwise: the interval overlaps a margin, so more seeds (or tasks) are needed.

This amounts to two one-sided tests of equivalence at 2.5 % each. The usual 5 % would mean a 90 % interval; the
stricter level is used so that the interval that is judged is the one that is printed. The paper's ± is taken as a 95 %
half-width. For the MAML rows it is one, over tasks; what other trainings would have given is not in it. For the Reptile
rows its meaning is unknown. If it is one standard deviation of three trainings, the half-width of their mean is 2.48
times as wide; `verdict_wide` is the verdict by that reading.

**Order**: first cell minus second, ours only, from the differences seed by seed. `above` holds if the 95 % interval
lies above zero and fails if it lies below; `equivalent` holds if it lies inside the margins and fails if it lies
wholly outside. Otherwise the verdict is `inconclusive`.

**In advance**: if something was known of some of the seeds when the rule was fixed, the verdict is given once more by
the other seeds alone.

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
from firstorder.report.claims.claims import Claim
from firstorder.report.claims.declared import mixed
from firstorder.report.claims.margins import Margins
from firstorder.report.claims.outcomes import (
    BETTER,
    EQUIVALENT,
    INCONCLUSIVE,
    NOT_RUN,
    ONE_SEED,
    REDUCED,
    UNDECIDABLE,
    WORSE,
    decide,
)
from firstorder.report.claims.paper import Paper
from firstorder.report.read import accuracies
from firstorder.report.read.statistics import Estimate, estimate, paired_difference
from firstorder.settings import Project

TYPES = (
    dict.fromkeys(("id", "kind", "relation", "sentence", "origin", "known", "counted", "cells", "length"), "str")
    | dict.fromkeys(("bound", "margin_below_fraction", "margin_above_fraction"), "float64")
    | dict.fromkeys(("paper_fraction", "paper_half_width_fraction"), "float64")
    | {"paper_printed": "str"}
    | dict.fromkeys(("ours_fraction", "half_width_tasks_fraction", "half_width_seeds_fraction"), "float64")
    | dict.fromkeys(("judged_fraction", "low_fraction", "high_fraction"), "float64")
    | {"seeds": "Int64", "tasks_per_seed": "Int64"}
    | dict.fromkeys(("verdict", "verdict_in_advance", "verdict_wide"), "str")
)


@dataclass(frozen=True)
class Interval:
    """A 95 % interval (fractions), and the number of seeds behind it."""

    low: float
    high: float
    seeds: int


def verdict_of_value(interval: Interval, margins: Margins, paper_half_width: float = 0.0) -> str:
    """Judge the interval of ours minus the paper's, at full length. `paper_half_width` is its part that is theirs."""
    if interval.seeds >= 2:
        if margins.hold(interval.low, interval.high):
            return EQUIVALENT
        if interval.low > margins.above:
            return BETTER
        if interval.high < -margins.below:
            return WORSE
    if not margins.can_hold(paper_half_width):
        return UNDECIDABLE
    return INCONCLUSIVE if interval.seeds >= 2 else ONE_SEED


def verdict_of_order(interval: Interval, relation: Literal["above", "equivalent"], margins: Margins) -> str:
    """Judge the interval of the first cell minus the second."""
    if interval.seeds < 2:
        return ONE_SEED
    if relation == "above":
        return decide(holds=interval.low > 0, fails=interval.high < 0)
    is_outside = interval.low > margins.above or interval.high < -margins.below
    return decide(holds=margins.hold(interval.low, interval.high), fails=is_outside)


def judge(records: Iterable[CellRecord], project: Project, paper: Paper) -> pd.DataFrame:
    """Judge every claim about cells: one row a claim, in the order of claims.yaml.

    `records` are the fresh records of `project`. Columns and units: TYPES. For a value, `ours` is the accuracy and
    `judged` is ours minus the paper's; for an order, `ours`, `paper` and `judged` are first minus second. Claims about
    cells that params.yaml does not list are left out at reduced length and `not run` at full length.
    """
    ours = accuracies.frame(records)
    cells = dict(list(ours.groupby(ours["algorithm"] + "/" + ours["column"] + "/" + ours["mode"])))
    rows = []
    for name, claim in paper.claims.entries.items():
        if claim.kind == "theory":  # judged in theory_claims.py
            continue
        if project.is_judged or all(about.evaluation in project.evaluations for about in claim.cells):
            row = {"id": name, "kind": claim.kind, "relation": claim.relation} | claim.columns()
            row |= {"cells": " against ".join(about.cell for about in claim.cells), "length": project.length}
            rows.append(row | _judged(claim, project, paper, [cells.get(c.cell, ours.iloc[:0]) for c in claim.cells]))
    return pd.DataFrame(rows, columns=list(TYPES)).astype(TYPES)


def by_cell(judged: pd.DataFrame) -> pd.DataFrame:
    """Return the value claims as algorithm, column, mode, difference_half_width (fraction) and verdict."""
    values = judged[judged["kind"] == "value"]
    parts = values["cells"].str.extract(r"^(?P<algorithm>[^/]+)/(?P<column>.+)/(?P<mode>[^/]+)$")
    half_width = (values["high_fraction"] - values["low_fraction"]) / 2
    return parts.assign(difference_half_width_fraction=half_width, verdict=values["verdict"])


def _judged(claim: Claim, project: Project, paper: Paper, cells: list[pd.DataFrame]) -> dict[str, Any]:
    """Return the numbers and verdicts of one row of `judge`; ours are missing if a cell of the claim was not run."""
    stated = paper.lines.loc[[about.line for about in claim.cells]]
    margins = paper.claims.margins(claim, paper.accuracies)
    is_value = claim.kind == "value"
    row: dict[str, Any] = {
        "margin_below_fraction": margins.below,
        "margin_above_fraction": margins.above,
        "paper_fraction": _first_or_difference(stated["accuracy"], is_value),
        "paper_half_width_fraction": math.hypot(*stated["half_width"]),
        "paper_printed": stated["printed"].iloc[0] if is_value else None,
        "verdict": NOT_RUN,
    }
    found = _estimate(cells)
    if found is None:
        return row
    row |= _numbers(row, claim, found)
    row["tasks_per_seed"] = min(int(cell["tasks"].min()) for cell in cells)
    if not project.is_judged and not _is_one_training(claim, project):
        return row | {"verdict": REDUCED}
    row["verdict"] = _verdict(row, claim, margins)
    seeds = set.intersection(*(set(cell["seed"]) for cell in cells))
    in_advance = mixed(claim.known_before, seeds)
    ahead = _estimate([cell[cell["seed"].isin(in_advance)] for cell in cells])
    if ahead is not None:
        row["verdict_in_advance"] = _verdict(row | _numbers(row, claim, ahead), claim, margins)
    wide = math.hypot(*(stated["half_width"] * stated["widening"]))
    if is_value and wide > row["paper_half_width_fraction"]:
        by_wide = row | {"paper_half_width_fraction": wide}
        row["verdict_wide"] = _verdict(by_wide | _numbers(by_wide, claim, found), claim, margins)
    return row


def _first_or_difference(values: pd.Series, is_value: bool) -> float:
    return float(values.iloc[0] if is_value else values.iloc[0] - values.iloc[1])


def _estimate(cells: list[pd.DataFrame]) -> Estimate | None:
    """Estimate the mean of one cell or the difference of two, over seeds; None without a common seed."""
    if len(cells) == 2:
        return paired_difference(*cells)
    (cell,) = cells
    return None if cell.empty else estimate(cell["accuracy"].tolist(), cell["standard_error_tasks"].tolist())


def _numbers(row: dict[str, Any], claim: Claim, found: Estimate) -> dict[str, Any]:
    """Return ours and what is judged, with its interval."""
    is_value = claim.kind == "value"
    judged = found.value - row["paper_fraction"] if is_value else found.value
    # The paper's error counts only if we compare with its number.
    width = math.hypot(found.half_width, row["paper_half_width_fraction"]) if is_value else found.half_width
    return {
        "ours_fraction": found.value,
        "half_width_tasks_fraction": found.half_width_tasks,
        "half_width_seeds_fraction": found.half_width_seeds,
        "judged_fraction": judged,
        "low_fraction": judged - width,
        "high_fraction": judged + width,
        "seeds": found.seeds,
    }


def _verdict(row: dict[str, Any], claim: Claim, margins: Margins) -> str:
    """Apply the rules of this module to one row of `judge`."""
    interval = Interval(row["low_fraction"], row["high_fraction"], row["seeds"])
    if claim.relation is None:
        return verdict_of_value(interval, margins, row["paper_half_width_fraction"])
    return verdict_of_order(interval, claim.relation, margins)


def _is_one_training(claim: Claim, project: Project) -> bool:
    """Say whether the claim is an order of two cells of one training, which are shortened by the same factor."""
    trainings = {project.evaluations[about.evaluation].training for about in claim.cells}
    return claim.kind == "order" and len(trainings) == 1
