"""Claims about section 5: coefficients, the slope of the remainder, and inner products during training.

The rules, with margins fixed in claims.yaml:

- A coefficient holds if its largest relative error over all problems and k is below the margin; else it fails.
- A slope holds if its largest distance from 2 over all problems and k is below the margin; else it fails.
- For an inner product (or cosine), the change from the start of a training to its end is judged, seed by seed. `rises`
  holds if the 95 % interval of the change lies above the margin and fails if it lies below; `does not rise` is the
  reverse. If the interval contains the margin, the verdict is inconclusive. The interval is over seeds (Student), and
  one seed decides nothing, however many tasks it was measured on.

The expansion is computed without sampling error, so its claims have no interval and are judged at any length.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from firstorder.report.claims.claims import Claims, TheoryClaim
from firstorder.report.claims.declared import mixed
from firstorder.report.claims.outcomes import NOT_RUN, ONE_SEED, decide
from firstorder.report.read import theory
from firstorder.report.read.statistics import Estimate, estimate
from firstorder.settings import Project

SLOPE = 2.0
_COLUMN = {"average_coefficient": "average_relative_error", "inner_coefficient": "inner_relative_error"}
TYPES = dict.fromkeys(("theory_quantity", "theory_training"), "str") | dict.fromkeys(
    ("theory_measured", "theory_low", "theory_high", "theory_margin"), "float64"
)


def judge(root: Path, project: Project, claims: Claims) -> list[dict[str, Any]]:
    """Judge the claims of kind theory by the records below `root`: one row each, or one a training for inner products.

    No rows if params.yaml has no section `theory`. Raises UserError for a stale record.
    """
    if project.theory is None or claims.theory_margins is None:
        return []
    found, products = theory.coefficients(root, project), theory.inner_products(root, project)
    rows: list[dict[str, Any]] = []
    for name, claim in claims.entries.items():
        if claim.theory is None:
            continue
        row: dict[str, Any] = {"id": name, "kind": claim.kind, "relation": claim.theory.relation} | claim.columns()
        row |= {"length": project.length, "theory_quantity": claim.theory.quantity}
        margin = claims.theory_margins.of(claim.theory)
        if claim.theory.relation is None:
            rows.append(row | _expansion_numbers(found, claim.theory, margin))
        else:
            for training in project.theory.inner_products.trainings:
                lines = products[products["training"] == training]
                numbers = _change_numbers(lines, claim.theory, margin)
                ahead = mixed(claim.known_before, lines["seed"].unique())
                if ahead:
                    again = _change_numbers(lines[lines["seed"].isin(ahead)], claim.theory, margin)
                    numbers["verdict_in_advance"] = again["verdict"]
                rows.append(row | {"theory_training": training} | numbers)
    return rows


def verdict_of_change(change: Estimate, relation: str, margin: float) -> str:
    """Judge the interval of a change over seeds."""
    if change.seeds < 2:
        return ONE_SEED
    rose, did_not_rise = change.low > margin, change.high < margin
    if relation == "rises":
        return decide(holds=rose, fails=did_not_rise)
    return decide(holds=did_not_rise, fails=rose)


def _expansion_numbers(found: pd.DataFrame, claim: TheoryClaim, margin: float) -> dict[str, Any]:
    """Return the largest error of an algorithm over problems and k, and the verdict."""
    lines = found[found["algorithm"] == claim.algorithm]
    is_slope = claim.quantity == "remainder_slope"
    if lines.empty:
        return {"theory_margin": margin, "verdict": NOT_RUN}
    errors = (lines["remainder_slope"] - SLOPE).abs() if is_slope else lines[_COLUMN[claim.quantity]]
    # A slope of NaN could not be computed, and must not count as a success.
    worst = float(errors.max(skipna=False))
    return {
        "theory_measured": worst,
        "theory_margin": margin,
        "verdict": decide(holds=worst < margin, fails=not worst < margin),
    }


def _change_numbers(lines: pd.DataFrame, claim: TheoryClaim, margin: float) -> dict[str, Any]:
    """Return the change from the start of one training to its end, over its seeds, and the verdict."""
    lines = lines[(lines["algorithm"] == claim.algorithm) & (lines["mini_batches"] == claim.mini_batches)]
    if lines.empty:
        return {"theory_margin": margin, "verdict": NOT_RUN}
    last = lines[lines["outer_step"] == lines.groupby("seed")["outer_step"].transform("max")]
    name = f"{claim.quantity}_change"
    change = estimate(last[name].tolist(), last[f"{name}_standard_error"].tolist())
    assert claim.relation is not None  # `judge` calls this for no other claim
    return {
        "theory_measured": change.value,
        "theory_low": change.low,
        "theory_high": change.high,
        "theory_margin": margin,
        "seeds": change.seeds,
        "tasks_per_seed": int(last["tasks"].min()),
        "verdict": verdict_of_change(change, claim.relation, margin),
    }
