"""Claims about the simulations, which need no data set: the sine waves of Figure 1 and the two curves of Figure 2.

Losses on sine waves are mean squared errors on new waves, divided by that of predicting 0.

Each claim bounds one measure, a number without unit. The claim holds if the measure, with its 95 % interval if it has
one, lies wholly on the claimed side of the bound, and fails if it lies wholly on the other side. The interval is over
seeds (Student) or, with one seed, over its waves; the verdict then says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from firstorder.report.claims.declared import Declared
from firstorder.report.claims.outcomes import NOT_RUN, decide
from firstorder.report.read import measurements
from firstorder.report.read.statistics import Estimate, estimate
from firstorder.settings import MANIFOLD_POINTS, SINE_FITS, SINE_LOSSES, Project
from firstorder.settings.schema import setting

# The mean square of a sin(x + b) over all waves: E[a^2] / 2 with a from U[0.1, 5]. It is the loss of predicting 0.
MEAN_SQUARE = (5.0**3 - 0.1**3) / (3 * 4.9) / 2


@dataclass(frozen=True)
class Measured:
    """A measure: over seeds, or one number, which may be of one seed."""

    found: Estimate
    tasks: int = 0  # waves a seed; 0 where no interval is over them
    is_of_a_seed: bool = True  # whether another seed would give another number

    @staticmethod
    def exact(value: float, *, is_of_a_seed: bool) -> Measured:
        """Return a measure without an interval."""
        return Measured(Estimate(value, 0.0, math.nan, 1), is_of_a_seed=is_of_a_seed)


@dataclass(frozen=True, kw_only=True)
class SimulationClaim(Declared):
    """A claim that one measure lies below or over a bound."""

    measure: Literal[
        "joint-prediction", "joint-loss", "maml-loss", "reptile-loss", "reptile-minus-maml", "manifold-distance"
    ] = setting("function of simulation_claims.py")
    relation: Literal["below", "over"] = setting("side of the bound")
    bound: float = setting("without unit; defined by the measure")


def joint_prediction(root: Path, project: Project) -> Measured | None:
    """Return the mean square of joint training's predictions before it adapts, divided by that of the waves."""
    fits = measurements.simulation(root, project, SINE_FITS)
    drawn = fits[(fits["algorithm"] == "joint") & (fits["inner_steps"] == 0)]
    return None if drawn.empty else Measured.exact(float((drawn["y"] ** 2).mean()) / MEAN_SQUARE, is_of_a_seed=True)


def loss_of(algorithm: str) -> Callable[[Path, Project], Measured | None]:
    """Return a measure: the loss after all inner steps."""

    def loss(root: Path, project: Project) -> Measured | None:
        return _measured(_last_losses(root, project, algorithm))

    return loss


def reptile_minus_maml(root: Path, project: Project) -> Measured | None:
    """Return Reptile's loss after all inner steps minus MAML's, seed by seed, on the same waves.

    The errors over waves are added as if independent, which can only make the interval too wide.
    """
    reptile, maml = (_last_losses(root, project, algorithm) for algorithm in ("reptile", "maml"))
    if reptile.empty or maml.empty:
        return None
    errors = np.hypot(reptile["standard_error"], maml["standard_error"])
    return _measured(reptile.assign(loss=reptile["loss"] - maml["loss"], standard_error=errors).dropna())


def _last_losses(root: Path, project: Project, algorithm: str) -> pd.DataFrame:
    """Return the loss after all inner steps, its standard error over waves, and their number, by seed."""
    losses = measurements.simulation(root, project, SINE_LOSSES)
    last = losses[(losses["algorithm"] == algorithm) & (losses["inner_steps"] == losses["inner_steps"].max())]
    found = last.set_index("seed")[["loss", "standard_error", "tasks"]]
    return found.assign(loss=found["loss"] / MEAN_SQUARE, standard_error=found["standard_error"] / MEAN_SQUARE)


def _measured(losses: pd.DataFrame) -> Measured | None:
    if losses.empty:
        return None
    return Measured(estimate(losses["loss"].tolist(), losses["standard_error"].tolist()), int(losses["tasks"].min()))


def manifold_distance(root: Path, project: Project) -> Measured | None:
    """Return the last iterate's distance from the point of least mean squared distance, divided by the first one's."""
    points = measurements.simulation(root, project, MANIFOLD_POINTS)
    if points.empty:
        return None
    iterates, best = points[points["what"] == "iterate"], points[points["what"] == "minimiser"].iloc[0]

    def distance(point: Any) -> float:
        return math.hypot(point["x"] - best["x"], point["y"] - best["y"])

    return Measured.exact(distance(iterates.iloc[-1]) / distance(iterates.iloc[0]), is_of_a_seed=False)


MEASURES: dict[str, Callable[[Path, Project], Measured | None]] = {
    "joint-prediction": joint_prediction,
    "joint-loss": loss_of("joint"),
    "maml-loss": loss_of("maml"),
    "reptile-loss": loss_of("reptile"),
    "reptile-minus-maml": reptile_minus_maml,
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
        measured = MEASURES[claim.measure](root, project)
        rows.append(row | (_numbers(measured, claim) if measured else {}))
    return rows


def _numbers(measured: Measured, claim: SimulationClaim) -> dict[str, Any]:
    found = measured.found
    is_below, is_over = found.high < claim.bound, found.low > claim.bound
    holds, fails = (is_below, is_over) if claim.relation == "below" else (is_over, is_below)
    verdict = decide(holds=holds, fails=fails)
    numbers: dict[str, Any] = {
        "judged_fraction": found.value,
        "low_fraction": found.low,
        "high_fraction": found.high,
        "verdict": f"{verdict} (one seed)" if measured.is_of_a_seed and found.seeds == 1 else verdict,
    }
    if measured.is_of_a_seed:
        numbers["seeds"] = found.seeds
    if measured.tasks:
        widths = {
            "half_width_tasks_fraction": found.half_width_tasks,
            "half_width_seeds_fraction": found.half_width_seeds,
        }
        numbers |= widths | {"tasks_per_seed": measured.tasks}
    return numbers
