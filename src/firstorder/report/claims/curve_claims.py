"""Claims about accuracies of trainings: orders of curves (Figure 3) and shapes of sweeps (Figure 4), with verdicts.

A claim is a contrast: what some trainings reach minus what others reach, seed by seed, compared with a margin. What a
training reaches (`measure`) is by default its final accuracy (curves.final_accuracies); else the mean over its whole
curve, or the accuracy of a recorded cell.

- `curves`: the sum over `higher` minus the sum over `lower` is above the margin. Two trainings on each side compare
  gains: (a + d) - (b + c) = (a - b) - (c - d).
- `best`: the best of `higher` minus the best of `lower` is above the margin. Each side is tuned on its own list, so
  one training that diverges decides nothing.
- `gap`: what each of `higher` reaches on meta-train tasks minus what it reaches on meta-test tasks is above the margin.
- `shape`: in one variant of a sweep, the mean over the values `before` minus the mean over `after` is above the margin
  (`drops`) or below it (`stays`).

A claim holds if the 95 % interval of the contrast lies wholly on the claimed side of the margin, fails if it lies
wholly on the other side, and is inconclusive otherwise. The interval is over seeds (Student) if there are at least two.
With one seed, as in the paper's own figures, it is over tasks; the verdict then says so, because it is about these
trainings only and not about what other seeds would give. Trainings of one seed are measured on the same tasks, but the
errors over tasks are added as if independent: that can only make the interval too wide, never too narrow.

If something was known of some of the seeds when the rule was fixed, the verdict is given once more by the others alone.

At reduced length nothing is judged: shorter trainings need not compare with each other as the paper's do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from firstorder.errors import UserError
from firstorder.report.claims.declared import Declared, mixed
from firstorder.report.claims.outcomes import NOT_RUN, REDUCED, decide
from firstorder.report.read import accuracies, curves
from firstorder.report.read.statistics import Estimate, estimate
from firstorder.settings import Project
from firstorder.settings.schema import setting


@dataclass(frozen=True, kw_only=True)
class CurveClaim(Declared):
    """A contrast of trainings, as described at the top of this module."""

    kind: Literal["curves", "best", "gap", "shape"] = setting(
        "curves, best and gap: trainings by name; shape: values of one variant of a sweep"
    )
    relation: Literal["above", "drops", "stays"] = setting("drops or stays for a shape, above for the others")
    margin_points: float = setting("percentage points", at_least=0)
    measure: Literal["whole", "cell"] | None = setting(
        "whole: the mean over a training's curve; cell: the accuracy of a cell, and higher and lower name cells; "
        "absent: a training's final accuracy",
        default=None,
    )
    higher: tuple[str, ...] | None = setting("trainings", default=None)
    lower: tuple[str, ...] | None = setting("as many trainings", default=None)
    sweep: str | None = setting("name under `sweeps`", default=None)
    variant: str | None = setting("name of one of its variants", default=None)
    before: tuple[float, ...] | None = setting("values of `varied` before the claimed drop", default=None)
    after: tuple[float, ...] | None = setting("values of `varied` after it", default=None)


def check(claim: CurveClaim, place: str) -> None:
    """Raise UserError if a claim lacks a key that its kind needs, or has one of the other kind."""
    sides, sweep = ("higher", "lower"), ("sweep", "variant", "before", "after")
    needed = {"curves": sides, "best": sides, "gap": sides[:1], "shape": sweep}[claim.kind]
    for key in (*sides, *sweep):
        if bool(getattr(claim, key)) != (key in needed):
            raise UserError(f"{place}: kind {claim.kind} goes with {', '.join(needed)}, and only these; see {key}")
    if (claim.relation == "above") == (claim.kind == "shape"):
        raise UserError(f"{place}: relation above goes with all kinds but shape, drops and stays go with kind shape")
    if claim.measure == "cell" and claim.kind == "gap":
        raise UserError(f"{place}: kind gap is about trainings, so measure cell does not go with it; remove it")
    if claim.higher and claim.lower and len(claim.higher) != len(claim.lower):
        raise UserError(f"{place}: expected as many trainings under lower as under higher, found {len(claim.lower)}")


def judge(root: Path, project: Project, claims: Mapping[str, CurveClaim]) -> list[dict[str, Any]]:
    """Judge the claims by the records below `root`: rows with columns of verdicts.TYPES, in the order of `claims`.

    Claims about trainings or cells that params.yaml does not list are left out at reduced length and `not run` at full
    length.
    """
    rows = []
    for name, claim in claims.items():
        weights = weights_of(claim, project)
        listed = {f"{evaluation}/{mode}" for evaluation, mode, _ in project.cells()} | project.trainings.keys()
        is_listed = weights is not None and listed.issuperset(weights)
        if not is_listed and not project.is_judged:
            continue
        row: dict[str, Any] = {"id": name, "kind": claim.kind, "relation": claim.relation} | claim.columns()
        row |= {"cells": " against ".join(_sides(weights or {})), "length": project.length}
        row |= {"bound": claim.margin_points / 100, "verdict": NOT_RUN}
        if is_listed and weights:
            row |= _judged(contrast(root, project, weights, claim), claim, is_judged=project.is_judged)
        rows.append(row)
    return rows


def weights_of(claim: CurveClaim, project: Project) -> dict[str, float] | None:
    """Return each training's weight in the contrast; None if the project lacks the sweep, variant or a value.

    Of kind `best` only the signs count.
    """
    if claim.kind != "shape":
        return dict.fromkeys(claim.higher or (), 1.0) | dict.fromkeys(claim.lower or (), -1.0)
    if claim.sweep not in (project.sweeps or {}):
        return None
    members = {
        value: training
        for variant, value, training in project.members_of_sweep(str(claim.sweep))
        if variant == claim.variant
    }
    weights: dict[str, float] = {}
    for values, sign in ((claim.before or (), 1.0), (claim.after or (), -1.0)):
        if any(value not in members for value in values):
            return None
        weights |= {members[value]: sign / len(values) for value in values}
    return weights


def verdict(found: Estimate, claim: CurveClaim) -> str:
    """Judge the estimate of a contrast by the rule of this module."""
    margin = claim.margin_points / 100
    is_more, is_less = found.low > margin, found.high < margin
    holds, fails = (is_less, is_more) if claim.relation == "stays" else (is_more, is_less)
    words = decide(holds=holds, fails=fails)
    return f"{words} (one seed)" if found.seeds == 1 else words


def contrast(root: Path, project: Project, weights: Mapping[str, float], claim: CurveClaim) -> pd.DataFrame:
    """Return the contrast of each seed that all trainings have: accuracy (fraction), standard_error and tasks."""
    reached = {name: _reached(root, project, name, claim) for name in weights}
    seeds = [seed for seed in project.seeds if all(seed in found.index for found in reached.values())]
    rows = []
    for seed in seeds:
        lines = {name: found.loc[seed] for name, found in reached.items()}
        used = weights if claim.kind != "best" else _best(lines, weights)
        value = sum(weight * lines[name]["accuracy"] for name, weight in used.items())
        error = math.hypot(*(weight * lines[name]["standard_error"] for name, weight in used.items()))
        rows.append((value, error, min(lines[name]["tasks"] for name in used)))
    return pd.DataFrame(rows, index=seeds, columns=["accuracy", "standard_error", "tasks"])


def _reached(root: Path, project: Project, name: str, claim: CurveClaim) -> pd.DataFrame:
    """Return what a training or cell reaches, by seed: accuracy (of a gap the difference), standard_error and tasks."""
    if claim.measure == "cell":
        found = accuracies.frame(accuracies.fresh_records(root, project, {name}))
        found = found.set_index("seed")[["accuracy", "standard_error_tasks", "tasks"]]
        return found.rename(columns={"standard_error_tasks": "standard_error"})
    whole = claim.measure == "whole"
    found = curves.final_accuracies(root, project, name, whole=whole)
    if claim.kind != "gap":
        return found
    seen = curves.final_accuracies(root, project, name, pool="meta-train", whole=whole).loc[found.index]
    errors = np.hypot(seen["standard_error"], found["standard_error"])
    return found.assign(accuracy=seen["accuracy"] - found["accuracy"], standard_error=errors)


def _best(lines: Mapping[str, pd.Series], weights: Mapping[str, float]) -> dict[str, float]:
    """Return the best training of each side, with its weight."""
    sides = [[name for name in weights if (weights[name] > 0) == is_higher] for is_higher in (True, False)]
    return {max(side, key=lambda name: lines[name]["accuracy"]): weights[side[0]] for side in sides}


def _judged(found: pd.DataFrame, claim: CurveClaim, *, is_judged: bool) -> dict[str, Any]:
    """Return the numbers and verdicts of a contrast; nothing if there is no seed."""
    if found.empty:
        return {}
    over_seeds = estimate(found["accuracy"].tolist(), found["standard_error"].tolist())
    row: dict[str, Any] = {
        "ours_fraction": over_seeds.value,
        "judged_fraction": over_seeds.value,
        "half_width_tasks_fraction": over_seeds.half_width_tasks,
        "half_width_seeds_fraction": over_seeds.half_width_seeds,
        "low_fraction": over_seeds.low,
        "high_fraction": over_seeds.high,
        "seeds": over_seeds.seeds,
        "tasks_per_seed": int(found["tasks"].min()),
        "verdict": verdict(over_seeds, claim) if is_judged else REDUCED,
    }
    ahead = found.loc[mixed(claim.known_before, list(found.index))]
    if is_judged and len(ahead):
        by_ahead = estimate(ahead["accuracy"].tolist(), ahead["standard_error"].tolist())
        row["verdict_in_advance"] = verdict(by_ahead, claim)
    return row


def _sides(weights: Mapping[str, float]) -> list[str]:
    sides = (
        " + ".join(name for name, weight in weights.items() if weight > 0),
        " + ".join(name for name, weight in weights.items() if weight < 0),
    )
    return [side for side in sides if side]
