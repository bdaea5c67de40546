"""Claims about the simulations, which need no data set: the sine waves of Figure 1 and the two curves of Figure 2.

Each claim bounds one measure, a number without unit. The claim holds if the measure, with its 95 % interval over waves
if it has one, lies wholly on the claimed side of the bound, and fails if it lies wholly on the other side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from firstorder.report.claims.declared import Declared
from firstorder.report.claims.outcomes import NOT_RUN, decide
from firstorder.report.read import measurements
from firstorder.report.read.statistics import half_width_over_tasks
from firstorder.settings import MANIFOLD_POINTS, SINE_FITS, SINE_LOSSES, Project
from firstorder.settings.schema import setting

# The mean square of a sin(x + b) over all waves: E[a^2] / 2 with a from U[0.1, 5]. It is the loss of predicting 0.
MEAN_SQUARE = (5.0**3 - 0.1**3) / (3 * 4.9) / 2


@dataclass(frozen=True)
class Measured:
    """A measure and the half-width of its 95 % interval (0 where it has none), over `tasks` waves."""

    value: float
    half_width: float = 0.0
    tasks: int = 0


@dataclass(frozen=True, kw_only=True)
class SimulationClaim(Declared):
    """A claim that one measure lies below or over a bound."""

    measure: Literal["joint-prediction", "joint-loss", "maml-loss", "reptile-loss", "manifold-distance"] = setting(
        "function of simulation_claims.py"
    )
    relation: Literal["below", "over"] = setting("side of the bound")
    bound: float = setting("without unit; defined by the measure")


def joint_prediction(root: Path, project: Project) -> Measured | None:
    """Return the mean square of joint training's predictions before it adapts, divided by that of the waves."""
    fits = measurements.simulation(root, project, SINE_FITS)
    drawn = fits[(fits["algorithm"] == "joint") & (fits["inner_steps"] == 0)]
    return None if drawn.empty else Measured(float((drawn["y"] ** 2).mean()) / MEAN_SQUARE)


def loss_of(algorithm: str) -> Callable[[Path, Project], Measured | None]:
    """Return a measure: the mean squared error on new waves after all inner steps, divided by that of predicting 0."""

    def loss(root: Path, project: Project) -> Measured | None:
        losses = measurements.simulation(root, project, SINE_LOSSES)
        line = losses[losses["algorithm"] == algorithm].sort_values("inner_steps")
        if line.empty:
            return None
        last = line.iloc[-1]
        half_width = half_width_over_tasks(float(last["standard_error"]))
        return Measured(float(last["loss"]) / MEAN_SQUARE, half_width / MEAN_SQUARE, int(last["tasks"]))

    return loss


def manifold_distance(root: Path, project: Project) -> Measured | None:
    """Return the last iterate's distance from the point of least mean squared distance, divided by the first one's."""
    points = measurements.simulation(root, project, MANIFOLD_POINTS)
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

    Claims about a simulation that params.yaml lacks are left out. Simulations are never shortened, so their claims are
    judged at any length.
    """
    rows = []
    for name, claim in claims.items():
        if (project.manifolds if claim.measure == "manifold-distance" else project.sine) is None:
            continue
        row: dict[str, Any] = {"id": name, "kind": "simulation", "relation": claim.relation} | claim.columns()
        row |= {"cells": claim.measure, "length": "full", "bound": claim.bound, "verdict": NOT_RUN}
        found = MEASURES[claim.measure](root, project)
        rows.append(row | (_numbers(found, claim) if found else {}))
    return rows


def _numbers(found: Measured, claim: SimulationClaim) -> dict[str, Any]:
    low, high = found.value - found.half_width, found.value + found.half_width
    is_below, is_over = high < claim.bound, low > claim.bound
    holds, fails = (is_below, is_over) if claim.relation == "below" else (is_over, is_below)
    return {
        "judged_fraction": found.value,
        "half_width_tasks_fraction": found.half_width if found.tasks else math.nan,
        "low_fraction": low,
        "high_fraction": high,
        "tasks_per_seed": found.tasks or pd.NA,
        "verdict": decide(holds=holds, fails=fails),
    }
