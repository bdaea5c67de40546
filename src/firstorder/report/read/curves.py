"""Learning curves as frames with their seeds joined, and the final accuracy of a training.

A curve must match params.yaml; a stale one is refused. A point that a curve should have and lacks becomes a row without
accuracy: the drawn line has a gap there, and nothing is interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from firstorder.errors import UserError
from firstorder.records import freshness
from firstorder.report.read import measurements
from firstorder.report.read.statistics import half_width_over_tasks
from firstorder.settings import Project, TrainingSettings, columns

# The final accuracy is the mean over the measurements in this last fraction of the outer steps (a single one if there
# is only one). Epsilon is nearly 0 there, and together the measurements cover several times the tasks of one.
LAST_PART = 0.2
# A measurement of a curve is made on few tasks; what is read off a curve is its mean over so many measurements. A curve
# with fewer than SHORT is as it was measured: the mean would be of a large part of the training, and lag behind it.
SMOOTHED, SHORT = 5, 20
# The curve that final accuracies and Figures 3 and 4 are about.
JUDGED_POOL, JUDGED_MODE = "meta-test", "inductive"


def expected_steps(training: TrainingSettings) -> list[int]:
    """List the outer steps at which a complete curve has points."""
    every, last = training.curve.every, training.outer_steps
    return sorted({*range(every, last + 1, every), last} - {0})


def read(root: Path, project: Project, training: str, seed: int) -> pd.DataFrame | None:
    """Read the curve of one seed, with the columns columns.CURVE; return None if it is not recorded.

    Raises UserError, naming the command that makes the curve again, if it is stale.
    """
    return measurements.read(root, freshness.curve(project, training, seed), columns.CURVE)


def check_whole(root: Path, project: Project, trainings: Sequence[str]) -> None:
    """Raise UserError, naming the command to run, if a curve is missing or cut short for a seed of params.yaml."""
    for training in trainings:
        for seed in project.seeds:
            expected = freshness.curve(project, training, seed)
            path = root / expected.path
            curve = read(root, project, training, seed)
            if curve is None:
                raise UserError(f"{path}: no such curve; make it: {expected.command}")
            missing = [
                step for step in expected_steps(project.trainings[training]) if step not in set(curve["outer_step"])
            ]
            if missing:
                raise UserError(
                    f"{path}: cut short, it has no point at outer step {missing[0]:,} of "
                    f"{project.trainings[training].outer_steps:,}; make it again: {expected.command}"
                )


def joined(root: Path, project: Project, training: str) -> list[dict[str, Any]]:
    """Join the recorded seeds of a training: a row for each pool, mode and outer step, in that order.

    Keys: pool, mode, outer_step, shot, tasks, seeds, accuracy (the mean over seeds), low, high, band and smoothed (the
    mean accuracy over this and up to four measurements before it; in a short curve the accuracy itself). `low` and
    `high` are the lowest and highest seed (band `seeds`) or, with one seed, the ends of the 95 % interval over tasks
    (band `tasks`). A row has no accuracy unless every recorded seed has the point. Empty if nothing is recorded.
    """
    points = measurements.of_seeds(root, project, freshness.curve, training, columns.CURVE)
    seeds = points["seed"].nunique()
    steps = sorted({*expected_steps(project.trainings[training]), *points["outer_step"]})
    window = SMOOTHED if len(steps) >= SHORT else 1
    rows = []
    for (pool, mode, shot, tasks), line in points.groupby(["pool", "mode", "shot", "tasks"]):
        about = {"pool": pool, "mode": mode, "shot": shot, "tasks": tasks, "seeds": seeds}
        about["band"] = "tasks" if seeds == 1 else "seeds"
        at = dict(list(line.groupby("outer_step")))
        before: list[float] = []
        for step in steps:
            is_whole = step in at and len(at[step]) == seeds
            found = _summary(at[step]) if is_whole else {}
            if found:
                before = [*before, found["accuracy"]][-window:]
                found["smoothed"] = sum(before) / len(before)
            rows.append({**about, "outer_step": step, **found})
    return rows


def final_accuracies(
    root: Path, project: Project, training: str, *, pool: str = JUDGED_POOL, whole: bool = False
) -> pd.DataFrame:
    """Return the final accuracy of each recorded seed, inductive, on tasks of a pool; or the mean over its whole curve.

    Index: seed. Columns: accuracy (fraction), its standard_error over tasks, and tasks. A seed whose curve lacks one of
    the measurements has no row.
    """
    settings = project.trainings[training]
    first = 0 if whole else (1 - LAST_PART) * settings.outer_steps
    wanted = [step for step in expected_steps(settings) if step >= first]
    points = measurements.of_seeds(root, project, freshness.curve, training, columns.CURVE)
    judged = points[(points["pool"] == pool) & (points["mode"] == JUDGED_MODE)]
    found = {}
    for seed, last in judged[judged["outer_step"].isin(wanted)].groupby("seed", sort=False):
        if len(last) == len(wanted):
            error = np.hypot.reduce(last["standard_error"]) / len(last)
            found[seed] = (last["accuracy"].mean(), error, last["tasks"].sum())
    return pd.DataFrame.from_dict(found, orient="index", columns=["accuracy", "standard_error", "tasks"])


def _summary(lines: pd.DataFrame) -> dict[str, float]:
    """Return the mean of one point over its seeds, and the ends of its band."""
    accuracy = lines["accuracy"].mean()
    low, high = lines["accuracy"].min(), lines["accuracy"].max()
    if len(lines) == 1:
        half_width = half_width_over_tasks(lines["standard_error"].iloc[0])
        low, high = accuracy - half_width, accuracy + half_width
    return {"accuracy": accuracy, "low": low, "high": high}
