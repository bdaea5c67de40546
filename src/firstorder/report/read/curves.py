"""Learning curves as frames: read, checked against params.yaml, seeds joined; and what a training ended at.

A newcomer would get wrong: a curve must be the one that params.yaml asks for, to its end. One that was made with
other settings is refused. A point that a curve should have and lacks is a row without accuracy: where it is drawn,
the line has a gap, and nothing is interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from firstorder.errors import UserError
from firstorder.records import freshness
from firstorder.report.read import csv_frames, staleness
from firstorder.report.read.statistics import half_width_over_tasks
from firstorder.settings import CURVE, Project, TrainingSettings

COLUMNS = ("outer_step", "pool", "mode", "shot", "tasks", "accuracy", "standard_error")
# What a training ended at is the mean over the measurements of this last part of its outer steps: epsilon is nearly 0
# there, and together they have several times the tasks of one. Where there is one measurement, it is that one.
LAST_PART = 0.2
JUDGED = ("meta-test", "inductive")


@dataclass(frozen=True)
class Ends:
    """What one training ended at, seed by seed: accuracies (fractions), their standard errors and tasks."""

    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    standard_errors: tuple[float, ...]
    tasks: int


def expected_steps(training: TrainingSettings) -> list[int]:
    """List the outer steps at which a whole curve has points."""
    every, last = training.curve.every, training.outer_steps
    return sorted({*range(every, last + 1, every), last} - {0})


def read(root: Path, project: Project, training: str, seed: int) -> pd.DataFrame | None:
    """Read the curve of one seed, with the columns COLUMNS; None where it is not recorded.

    Raises UserError, naming the command that makes it anew, where it was made with other settings than those of
    params.yaml, or where nothing says with which.
    """
    path = root / CURVE.format(training=training, seed=seed)
    if not path.exists():
        return None
    staleness.check(root, [freshness.curve(project, training, seed)])
    return csv_frames.read(path, COLUMNS)


def command(training: str, seed: int) -> str:
    """Return the command that makes a curve."""
    return f"firstorder train {training} --seed {seed}"


def check_whole(root: Path, project: Project, trainings: Sequence[str]) -> None:
    """Raise UserError where a curve of a seed of params.yaml is missing or cut short, naming what to run."""
    for training in trainings:
        for seed in project.seeds:
            path = root / CURVE.format(training=training, seed=seed)
            curve = read(root, project, training, seed)
            if curve is None:
                raise UserError(f"{path}: no such curve; make it: {command(training, seed)}")
            missing = [
                step for step in expected_steps(project.trainings[training]) if step not in set(curve["outer_step"])
            ]
            if missing:
                raise UserError(
                    f"{path}: cut short, it has no point at outer step {missing[0]:,} of "
                    f"{project.trainings[training].outer_steps:,}; make it again: {command(training, seed)}"
                )


def joined(root: Path, project: Project, training: str) -> list[dict[str, Any]]:
    """Join the recorded seeds of a training: a row for each pool, mode and outer step, in that order.

    Keys: pool, mode, outer_step, shot, tasks, seeds, accuracy (the mean over seeds), low, high and band. `low` and
    `high` are the lowest and highest seed (band `seeds`) or, with one seed, the ends of the 95 % interval over tasks
    (band `tasks`). Where not every recorded seed has the point, the row has no accuracy. Empty if nothing is recorded.
    """
    found = {seed: read(root, project, training, seed) for seed in project.seeds}
    curves = {seed: curve for seed, curve in found.items() if curve is not None and len(curve)}
    if not curves:
        return []
    points = pd.concat([curve.assign(seed=seed) for seed, curve in curves.items()], ignore_index=True)
    steps = sorted({*expected_steps(project.trainings[training]), *points["outer_step"]})
    rows = []
    for (pool, mode, shot, tasks), line in points.groupby(["pool", "mode", "shot", "tasks"]):
        at = dict(list(line.groupby("outer_step")))
        for step in steps:
            about = {"pool": pool, "mode": mode, "outer_step": step, "shot": shot, "tasks": tasks, "seeds": len(curves)}
            whole = step in at and len(at[step]) == len(curves)
            rows.append(about | (_summary(at[step]) if whole else {"band": _band(len(curves))}))
    return rows


def ends(root: Path, project: Project, training: str) -> Ends | None:
    """Return what the recorded seeds of a training ended at, inductive, on meta-test tasks; None without any."""
    chosen = project.trainings[training]
    wanted = [step for step in expected_steps(chosen) if step >= (1 - LAST_PART) * chosen.outer_steps]
    found: list[tuple[int, float, float, int]] = []
    for seed in project.seeds:
        curve = read(root, project, training, seed)
        if curve is None:
            continue
        curve = curve[(curve["pool"] == JUDGED[0]) & (curve["mode"] == JUDGED[1])]
        last = curve[curve["outer_step"].isin(wanted)]
        if wanted and len(last) == len(wanted):
            error = float(np.hypot.reduce(last["standard_error"])) / len(last)
            found.append((seed, float(last["accuracy"].mean()), error, int(last["tasks"].sum())))
    if not found:
        return None
    seeds, accuracies, errors, tasks = zip(*found, strict=True)
    return Ends(seeds, accuracies, errors, min(tasks))


def _summary(lines: pd.DataFrame) -> dict[str, Any]:
    """Summarise one point over its seeds."""
    accuracy = lines["accuracy"].mean()
    low, high = lines["accuracy"].min(), lines["accuracy"].max()
    if len(lines) == 1:
        half_width = half_width_over_tasks(lines["standard_error"].iloc[0])
        low, high = accuracy - half_width, accuracy + half_width
    return {"accuracy": accuracy, "low": low, "high": high, "band": _band(len(lines))}


def _band(seeds: int) -> str:
    return "tasks" if seeds == 1 else "seeds"
