"""Claims about final accuracies: orders of curves (Figure 3) and shapes of sweeps (Figure 4), with their verdicts.

A claim is a contrast: the final accuracies (curves.final_accuracies) of some trainings minus those of others, seed by
seed, compared with a margin that was fixed before any of the trainings was run.

- `above`: the sum over `higher` minus the sum over `lower` is more than the margin. Two trainings on each side compare
  gains: (a + d) - (b + c) = (a - b) - (c - d).
- `drops`: in one variant of a sweep, the mean over the values `before` minus the mean over `after` is more than the
  margin; `stays`: it is less.

A claim holds if the 95 % interval of the contrast lies wholly on the claimed side of the margin, fails if it lies
wholly on the other side, and is inconclusive otherwise. The interval is over seeds (Student) if there are at least two.
With one seed, as in the paper's own figures, it is over tasks; the verdict then says so, because it is about these
trainings only and not about what other seeds would give. Trainings of one seed are measured on the same tasks, but the
errors over tasks are added as if independent: that can only make the interval too wide, never too narrow.

At reduced length nothing is judged: shorter trainings need not compare with each other as the paper's do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from firstorder.errors import UserError
from firstorder.report.claims.outcomes import NOT_RUN, REDUCED, decide
from firstorder.report.read import curves
from firstorder.report.read.statistics import Estimate, estimate
from firstorder.settings import Project
from firstorder.settings.schema import setting


@dataclass(frozen=True, kw_only=True)
class CurveClaim:
    """A contrast of trainings, as described at the top of this module."""

    kind: Literal["curves", "shape"] = setting("curves: trainings by name; shape: values of one variant of a sweep")
    relation: Literal["above", "drops", "stays"] = setting("above for curves, drops or stays for a shape")
    sentence: str = setting("the claim in plain words")
    margin_points: float = setting("percentage points", at_least=0)
    higher: tuple[str, ...] | None = setting("trainings", default=None)
    lower: tuple[str, ...] | None = setting("as many trainings", default=None)
    sweep: str | None = setting("name under `sweeps`", default=None)
    variant: str | None = setting("name of one of its variants", default=None)
    before: tuple[float, ...] | None = setting("values of `varied` before the claimed drop", default=None)
    after: tuple[float, ...] | None = setting("values of `varied` after it", default=None)


def check(claim: CurveClaim, place: str) -> None:
    """Raise UserError if a claim lacks a key that its kind needs, or has one of the other kind."""
    needed = {"curves": ("higher", "lower"), "shape": ("sweep", "variant", "before", "after")}
    for kind, keys in needed.items():
        for key in keys:
            if bool(getattr(claim, key)) != (claim.kind == kind):
                raise UserError(f"{place}: kind {kind} goes with {', '.join(keys)}, and only it; see {key}")
    if (claim.relation == "above") != (claim.kind == "curves"):
        raise UserError(f"{place}: relation above goes with kind curves, drops and stays with kind shape")
    if claim.higher and claim.lower and len(claim.higher) != len(claim.lower):
        raise UserError(f"{place}: expected as many trainings under lower as under higher, found {len(claim.lower)}")


def judge(root: Path, project: Project, claims: Mapping[str, CurveClaim]) -> list[dict[str, Any]]:
    """Judge the claims by the curves below `root`: rows with columns of verdicts.TYPES, in the order of `claims`.

    Claims about trainings that params.yaml does not list are left out at reduced length and `not run` at full length.
    """
    rows = []
    for name, claim in claims.items():
        weights = weights_of(claim, project)
        is_listed = weights is not None and all(training in project.trainings for training in weights)
        if not is_listed and project.length != "full":
            continue
        row: dict[str, Any] = {"id": name, "kind": claim.kind, "relation": claim.relation}
        row |= {"sentence": claim.sentence, "cells": " against ".join(_sides(weights or {})), "length": project.length}
        row |= {"delta_fraction": claim.margin_points / 100, "verdict": NOT_RUN}
        if is_listed and weights:
            row |= _judged(root, project, weights, claim)
        rows.append(row)
    return rows


def weights_of(claim: CurveClaim, project: Project) -> dict[str, float] | None:
    """Return each training's weight in the contrast; None if the project lacks the sweep, variant or a value."""
    if claim.kind == "curves":
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


def _judged(root: Path, project: Project, weights: Mapping[str, float], claim: CurveClaim) -> dict[str, Any]:
    """Return the contrast over the seeds that all trainings have, and the verdict; nothing if there is no such seed."""
    finals = []
    for training, weight in weights.items():
        final = curves.final_accuracies(root, project, training)
        if final.empty:
            return {}
        finals.append((weight, final))
    values = sum(weight * final["accuracy"] for weight, final in finals).dropna()
    if values.empty:
        return {}
    errors = np.hypot.reduce([weight * final.loc[values.index, "standard_error"] for weight, final in finals])
    found = estimate(values.tolist(), errors.tolist())
    return {
        "ours_fraction": found.value,
        "judged_fraction": found.value,
        "half_width_tasks_fraction": found.half_width_tasks,
        "half_width_seeds_fraction": found.half_width_seeds,
        "low_fraction": found.low,
        "high_fraction": found.high,
        "seeds": found.seeds,
        "tasks_per_seed": min(final["tasks"].min() for _, final in finals),
        "verdict": verdict(found, claim) if project.length == "full" else REDUCED,
    }


def _sides(weights: Mapping[str, float]) -> list[str]:
    sides = (
        " + ".join(name for name, weight in weights.items() if weight > 0),
        " + ".join(name for name, weight in weights.items() if weight < 0),
    )
    return [side for side in sides if side]
