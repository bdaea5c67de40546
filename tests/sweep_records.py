"""A made-up project with the trainings of Figure 3 and a sweep of Figure 4; nothing in it was measured."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from firstorder.settings import Project
from tests.synthetic_records import PARAMS, TRAINING, make_project, store_curve

BASE: dict[str, Any] = copy.deepcopy(PARAMS["trainings"][TRAINING]) | {
    "inner_optimiser": "sgd",
    "second_moments": "per_lane",
    "outer_steps": 100,
    "outer_step_size": 0.25,
    "inner_batch_size": 25,
    "meta_batch_size": 1,
    "curve": {"every": 100, "tasks": 50, "shot": 5, "inner_steps": 5, "inner_batch_size": 25},
}
G1, SUM2, MEAN2, G2 = (
    "joint/omniglot-5way-g1",
    "reptile/omniglot-5way-sum2",
    "reptile/omniglot-5way-mean2",
    "last_step/omniglot-5way-g2",
)
SUM4, MEAN4, G4 = "reptile/omniglot-5way-sum4", "reptile/omniglot-5way-mean4", "last_step/omniglot-5way-g4"


def _training(algorithm: str, inner_steps: int, outer_step_size: float = 0.25) -> dict[str, Any]:
    changed = {"algorithm": algorithm, "inner_steps": inner_steps, "train_shot": 5 * inner_steps}
    return {**copy.deepcopy(BASE), **changed, "outer_step_size": outer_step_size}


VALUES: dict[str, Any] = copy.deepcopy(PARAMS) | {
    "length": "full",
    "trainings": {
        G1: _training("joint", 1),
        SUM2: _training("reptile", 2),
        MEAN2: _training("reptile", 2, 0.125),
        G2: _training("last_step", 2),
        SUM4: _training("reptile", 4),
        MEAN4: _training("reptile", 4, 0.0625),
        G4: _training("last_step", 4),
    },
    "sweeps": {
        "inner-steps": {
            "base": _training("reptile", 4),
            "varied": "inner_steps",
            "values": [2, 4, 5, 10],
            "variants": {
                "shared": {"label": "shared tail", "algorithm": "last_step"},
                "separate": {"label": "separate tail", "algorithm": "last_step", "train_shot": 15, "query_shot": 5},
            },
        },
        "step-size": {
            "base": _training("reptile", 4),
            "varied": "outer_step_size",
            "values": [0.125, 0.25],
            "variants": {"shared": {"label": "shared tail", "algorithm": "last_step"}},
        },
    },
    "evaluations": {},
    "tables": {},
    "figures": {
        "figure-3": {
            "kind": "combinations",
            "title": "Figure 3",
            "trainings": [G1, SUM2, MEAN2, G2, SUM4, MEAN4, G4],
        },
        "figure-4": {"kind": "sweeps", "title": "Figure 4", "sweeps": ["inner-steps", "step-size"]},
    },
}


def sweep_project(root: Path, **changes: Any) -> Project:
    """Write VALUES with some sections replaced as root/params.yaml and load it."""
    return make_project(root, {**copy.deepcopy(VALUES), **changes})


def store_final(root: Path, project: Project, accuracies: dict[str, float], seed: int = 0) -> None:
    """Write a curve for each training, with one point at the end: its accuracy, standard error 0.01."""
    for training, accuracy in accuracies.items():
        store_curve(root, seed, {project.trainings[training].outer_steps: accuracy}, training, project)


def swept(project: Project, sweep: str, variant: str) -> dict[float, str]:
    """Map the values of one variant to its trainings."""
    return {value: training for name, value, training in project.members_of_sweep(sweep) if name == variant}
