"""Claims about the simulations, which need no data set: the sine waves of Figure 1 and the two curves of Figure 2.

Each claim bounds one measure, a plain number without unit. It holds where the measure, with its 95 % interval over
waves if it has one, lies wholly on its side of the bound, and fails where it lies wholly on the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from firstorder.report.claims.curve_claims import FAILS, HOLDS, INCONCLUSIVE, NOT_RUN
from firstorder.report.read import simulated
from firstorder.report.read.statistics import half_width_over_tasks
from firstorder.settings import Project
from firstorder.settings.schema import setting

# The mean square of a sin(x + b) over all waves: E[a^2] / 2 with a from U[0.1, 5]. Who predicts 0 has this loss.
MEAN_SQUARE = (5.0**3 - 0.1**3) / (3 * 4.9) / 2


@dataclass(frozen=True)
class Measured:
    """A measure and the half-width of its 95 % interval (0 where it has none), over `tasks` waves."""

    value: float
    half_width: float = 0.0
    tasks: int = 0


@dataclass(frozen=True, kw_only=True)
class SimulationClaim:
    """One bounded measure."""

    measure: Literal["joint-prediction", "joint-loss", "maml-loss", "reptile-loss", "manifold-distance"] = setting(
        "function of simulation_claims.py"
    )
    relation: Literal["below", "over"] = setting("side of the bound")
    bound: float = setting("without unit; see the measure")
    sentence: str = setting("the claim in plain words")


def joint_prediction(root: Path, project: Project) -> Measured | None:
    """Mean square of what joint training predicts before it adapts, over that of the waves."""
    fits = simulated.fits(root, project)
    drawn = fits[(fits["algorithm"] == "joint") & (fits["inner_steps"] == 0)]
    return None if drawn.empty else Measured(float((drawn["y"] ** 2).mean()) / MEAN_SQUARE)


def loss_of(algorithm: str) -> Callable[[Path, Project], Measured | None]:
    """Return the measure: mean squared error on new waves after all inner steps, over that of predicting 0."""

    def loss(root: Path, project: Project) -> Measured | None:
        losses = simulated.losses(root, project)
        line = losses[losses["algorithm"] == algorithm].sort_values("inner_steps")
        if line.empty:
            return None
        last = line.iloc[-1]
        half_width = half_width_over_tasks(float(last["standard_error"]))
        return Measured(float(last["loss"]) / MEAN_SQUARE, half_width / MEAN_SQUARE, int(last["tasks"]))

    return loss


def manifold_distance(root: Path, project: Project) -> Measured | None:
    """Distance of the last iterate from the point of least mean squared distance, over that of the start."""
    points = simulated.manifold_points(root, project)
    if points.empty:
        return None
    iterates, best = points[points["what"] == "iterate"], points[points["what"] == "minimiser"].iloc[0]

    def distance(point: Any) -> float:
        return math.hypot(point["x"] - best["x"], point["y"] - best["y"])

    return Measured(distance(iterates.iloc[-1]) / distance(iterates.iloc[0]))


MEASURES: dict[str, Callable[[Path, Project], Measured | None]] = {
    "joint-prediction": joint_prediction,
    "joint-loss": loss_of("joint"),
    "maml-loss": loss_of("maml"),
    "reptile-loss": loss_of("reptile"),
    "manifold-distance": manifold_distance,
}


def judge(root: Path, project: Project, claims: Mapping[str, SimulationClaim]) -> list[dict[str, Any]]:
    """Judge the claims by the simulations below `root`: rows with columns of verdicts.TYPES, in the order of `claims`.

    Left out where params.yaml has no such simulation. Nothing here is shortened, so each is judged at any length.
    """
    rows = []
    for name, claim in claims.items():
        if (project.manifolds if claim.measure == "manifold-distance" else project.sine) is None:
            continue
        told = {"id": name, "kind": "simulation", "relation": claim.relation, "sentence": claim.sentence}
        row = {**told, "cells": claim.measure, "length": "full", "delta_fraction": claim.bound, "verdict": NOT_RUN}
        found = MEASURES[claim.measure](root, project)
        rows.append(row | (_numbers(found, claim) if found else {}))
    return rows


def _numbers(found: Measured, claim: SimulationClaim) -> dict[str, Any]:
    low, high = found.value - found.half_width, found.value + found.half_width
    below, over = high < claim.bound, low > claim.bound
    holds, fails = (below, over) if claim.relation == "below" else (over, below)
    return {
        "judged_fraction": found.value,
        "half_width_tasks_fraction": found.half_width if found.tasks else math.nan,
        "low_fraction": low,
        "high_fraction": high,
        "tasks_per_seed": found.tasks or pd.NA,
        "verdict": HOLDS if holds else FAILS if fails else INCONCLUSIVE,
    }
