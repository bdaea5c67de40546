"""Claims about what trainings end at: orders of curves (Figure 3) and shapes of sweeps (Figure 4), with their verdicts.

A claim is a contrast: the accuracies of some trainings, minus those of others, seed by seed, against a margin that was
fixed before any of them was run. What a training ends at is curves.ends: inductive, on meta-test tasks.

- `above`: the sum over `higher` minus the sum over `lower` is more than the margin. Two trainings a side compare gains:
  (a + d) - (b + c) = (a - b) - (c - d).
- `drops`: in one variant of a sweep, the mean over the values `before` minus that over `after` is more than the margin;
  `stays`: it is less.

A claim holds where the 95 % interval of the contrast lies wholly on its side of the margin, fails where it lies
wholly on the other, and is inconclusive else. The interval is over seeds (Student) where there are at least two. The
paper's own figures have one seed; with one of ours the interval is the one over tasks, and the verdict says so: it is
about these very trainings, and not about what others would give. Trainings of one seed are measured on the same tasks;
the errors over tasks are added as if independent, which makes the interval too wide and never too narrow.

At reduced length nothing is judged: shorter trainings need not stand to each other as the paper's do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from firstorder.errors import UserError
from firstorder.report.read import curves
from firstorder.report.read.statistics import Estimate, estimate
from firstorder.settings import Project
from firstorder.settings.schema import setting

HOLDS, FAILS, INCONCLUSIVE, NOT_RUN, REDUCED = "holds", "fails", "inconclusive", "not run", "reduced length"


@dataclass(frozen=True, kw_only=True)
class CurveClaim:
    """A contrast of trainings; see the module."""

    kind: Literal["curves", "shape"] = setting("curves: trainings by name; shape: values of one variant of a sweep")
    relation: Literal["above", "drops", "stays"] = setting("above for curves, drops or stays for a shape")
    sentence: str = setting("the claim in plain words")
    margin_points: float = setting("percentage points", at_least=0)
    higher: tuple[str, ...] | None = setting("trainings", default=None)
    lower: tuple[str, ...] | None = setting("as many trainings", default=None)
    sweep: str | None = setting("name under `sweeps`", default=None)
    variant: str | None = setting("name of one of its variants", default=None)
    before: tuple[float, ...] | None = setting("values where accuracy is still as it was", default=None)
    after: tuple[float, ...] | None = setting("values where it is compared", default=None)


def check(claim: CurveClaim, place: str) -> None:
    """Raise UserError where a claim lacks what its kind needs."""
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
    """Judge the claims by the curves below `root`: rows with the columns of verdicts.TYPES, in the order of `claims`.

    At reduced length claims about trainings that params.yaml does not list are left out; at full length they are
    `not run`.
    """
    rows = []
    for name, claim in claims.items():
        weights = weights_of(claim, project)
        listed = weights is not None and all(training in project.trainings for training in weights)
        if not listed and project.length != "full":
            continue
        told = {"id": name, "kind": claim.kind, "relation": claim.relation, "sentence": claim.sentence}
        told |= {"cells": " against ".join(_sides(weights or {})), "length": project.length}
        found, tasks = contrast(root, project, weights) if listed and weights else (None, 0)
        row = {**told, "delta_fraction": claim.margin_points / 100, "verdict": NOT_RUN}
        rows.append(row | (_numbers(found, tasks, claim, project) if found else {}))
    return rows


def weights_of(claim: CurveClaim, project: Project) -> dict[str, float] | None:
    """Return each training's weight in the contrast; None where the project has no such sweep, variant or value."""
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


def contrast(root: Path, project: Project, weights: Mapping[str, float]) -> tuple[Estimate | None, int]:
    """Estimate the weighted sum of what trainings ended at, over the seeds that all of them have; and tasks a seed."""
    ended = {training: curves.ends(root, project, training) for training in weights}
    seeds = [seed for seed in project.seeds if all(end and seed in end.seeds for end in ended.values())]
    values, errors = [], []
    for seed in seeds:
        parts = [
            (weight, end.accuracies[end.seeds.index(seed)], end.standard_errors[end.seeds.index(seed)])
            for (training, weight), end in ((item, ended[item[0]]) for item in weights.items())
            if end is not None
        ]
        values.append(float(sum(weight * accuracy for weight, accuracy, _ in parts)))
        errors.append(float(np.hypot.reduce([weight * error for weight, _, error in parts])))
    if not seeds:
        return None, 0
    return estimate(values, errors), min(end.tasks for end in ended.values() if end is not None)


def verdict(found: Estimate, claim: CurveClaim) -> str:
    """Judge a contrast by the rule of this module."""
    low, high, margin = found.value - found.half_width, found.value + found.half_width, claim.margin_points / 100
    more, less = low > margin, high < margin
    holds, fails = (less, more) if claim.relation == "stays" else (more, less)
    said = HOLDS if holds else FAILS if fails else INCONCLUSIVE
    return f"{said} (one seed)" if found.seeds == 1 else said


def _numbers(found: Estimate, tasks: int, claim: CurveClaim, project: Project) -> dict[str, Any]:
    return {
        "ours_fraction": found.value,
        "judged_fraction": found.value,
        "half_width_tasks_fraction": found.half_width_tasks,
        "half_width_seeds_fraction": found.half_width_seeds,
        "low_fraction": found.value - found.half_width,
        "high_fraction": found.value + found.half_width,
        "seeds": found.seeds,
        "tasks_per_seed": tasks,
        "verdict": verdict(found, claim) if project.length == "full" else REDUCED,
    }


def _sides(weights: Mapping[str, float]) -> list[str]:
    sides = (
        " + ".join(name for name, weight in weights.items() if weight > 0),
        " + ".join(name for name, weight in weights.items() if weight < 0),
    )
    return [side for side in sides if side]
