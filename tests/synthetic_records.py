"""Small made-up projects and records for tests; nothing in them was measured."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from firstorder import NUMERICS_VERSION
from firstorder.records.cells import CellRecord, write_record, write_run
from firstorder.records.row_files import write_rows
from firstorder.settings import CURVE, SINE_FITS, SINE_LOSSES, Mode, Project, checks, digest
from firstorder.settings.schema import build

TRAINING = "reptile/omniglot-5way"
ONE_SHOT, FIVE_SHOT = f"{TRAINING}/1shot", f"{TRAINING}/5shot"
CURVE_COLUMNS = ("outer_step", "pool", "mode", "shot", "tasks", "accuracy", "standard_error")

PARAMS: dict[str, Any] = {
    "title": "Made-up numbers",
    "data_folder": "data",
    "seeds": [0, 1, 2],
    "datasets": {"omniglot": {"source": "omniglot", "meta_train_classes": 1200, "rotations": [0, 90]}},
    "trainings": {
        TRAINING: {
            "algorithm": "reptile",
            "dataset": "omniglot",
            "network": "omniglot",
            "way": 5,
            "train_shot": 10,
            "sampling": "cycle",
            "inner_optimiser": "adam",
            "inner_learning_rate": 0.001,
            "inner_steps": 5,
            "inner_batch_size": 10,
            "second_moments": "carried",
            "outer_steps": 1000,
            "outer_step_size": 1.0,
            "outer_step_size_final": 0.0,
            "meta_batch_size": 5,
            "curve": {"every": 500, "tasks": 50, "shot": 5, "inner_steps": 50, "inner_batch_size": 5},
        }
    },
    "evaluations": {
        ONE_SHOT: {"training": TRAINING, "shot": 1, "inner_steps": 50, "inner_batch_size": 5, "tasks": 100},
        FIVE_SHOT: {"training": TRAINING, "shot": 5, "inner_steps": 50, "inner_batch_size": 5, "tasks": 100},
    },
    "sine": {
        "seed": 0,
        "hidden": 64,
        "activation": "relu",
        "grid": 3,
        "support": 2,
        "evaluation_steps": [0, 32],
        "evaluation_tasks": 100,
        "evaluation_learning_rate": 0.02,
        "drawn_tasks": 2,
        "reptile": {
            "inner_learning_rate": 0.02,
            "inner_steps": 5,
            "inner_batch_size": 10,
            "meta_batch_size": 1,
            "outer_steps": 100,
            "outer_step_size": 0.1,
        },
        "maml": {
            "inner_learning_rate": 0.02,
            "inner_steps": 1,
            "inner_batch_size": 10,
            "meta_batch_size": 10,
            "outer_steps": 100,
            "outer_step_size": 0.001,
        },
    },
    "tables": {
        "table-2": {
            "title": "Table 2: accuracy on Omniglot",
            "paper": "table-2",
            "columns": ["omniglot-5way/1shot", "omniglot-5way/5shot"],
            "rows": [
                {"label": "Random initialisation", "algorithm": "untrained", "mode": "inductive"},
                {"label": "Reptile", "algorithm": "reptile", "mode": "inductive"},
                {"label": "Reptile + Transduction", "algorithm": "reptile", "mode": "transductive"},
            ],
        }
    },
    "figures": {
        "figure-1": {"kind": "sine", "title": "Figure 1: sine waves"},
        "learning-curves": {"kind": "curves", "title": "Learning curves", "trainings": [TRAINING]},
        "accuracies": {"kind": "accuracies", "title": "Accuracy, the paper's and ours", "tables": ["table-2"]},
    },
}


def changed_params(**changes: Any) -> dict[str, Any]:
    """Return a copy of PARAMS with some of its sections replaced."""
    return {**copy.deepcopy(PARAMS), **changes}


def make_project(root: Path, values: dict[str, Any] | None = None) -> Project:
    """Write `values` (PARAMS by default) as root/params.yaml and load it."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / "params.yaml"
    path.write_text(yaml.safe_dump(values or PARAMS, sort_keys=False), encoding="utf-8")
    return checks.load(path)


def make_record(project: Project, evaluation: str, mode: Mode, seed: int, histogram: Sequence[int]) -> CellRecord:
    """Return a record of `project` with its present settings and this histogram of right answers."""
    evaluated = project.evaluations[evaluation]
    training = project.trainings[evaluated.training]
    # A record read from disk went through JSON, which turns tuples into lists.
    resolved = json.loads(json.dumps(project.settings_of_evaluation(evaluation)))
    return CellRecord(
        algorithm=training.algorithm,
        dataset=training.dataset,
        way=training.way,
        shot=evaluated.shot,
        mode=mode,
        seed=seed,
        settings=resolved,
        settings_digest=digest(resolved),
        data_digest="0" * 16,
        training_digest="1" * 16,
        checkpoint_digest="2" * 16,
        numerics_version=NUMERICS_VERSION,
        precision="float32",
        tasks=sum(histogram),
        correct_histogram=tuple(histogram),
    )


def store_record(root: Path, project: Project, evaluation: str, mode: Mode, correct: dict[int, Sequence[int]]) -> None:
    """Write a record for each seed of `correct`, which maps seeds to histograms."""
    run = {"commit": "0123456789abcdef", "device": "a made-up device", "machine": "a made-up machine", "seconds": 12.0}
    for seed, histogram in correct.items():
        write_record(root, make_record(project, evaluation, mode, seed, histogram), run)


def of_params(values: dict[str, Any] | None = None) -> Project:
    """Return the project of `values` (PARAMS by default) without writing a file."""
    return build(Project, copy.deepcopy(values or PARAMS), "made-up params")


def store_curve(
    root: Path, seed: int, accuracies: dict[int, float], training: str = TRAINING, project: Project | None = None
) -> None:
    """Write a learning curve for meta-test, inductive: accuracy by outer step, standard error 0.01.

    Its settings are those of `project`, by default those of PARAMS.
    """
    rows = [(step, "meta-test", "inductive", 5, 50, accuracy, 0.01) for step, accuracy in accuracies.items()]
    path = root / CURVE.format(training=training, seed=seed)
    write_rows(path, CURVE_COLUMNS, rows)
    write_run(path, {"settings_digest": digest((project or of_params()).settings_of_training(training))})


def store_sine(root: Path, project: Project | None = None, further: Sequence[tuple[int, float]] = ()) -> None:
    """Write losses after 0 and 32 inner steps and the fits of two waves on a grid of three points.

    `further` has seeds whose losses are seed 0's times a factor. Settings are those of `project`, by default of PARAMS.
    """
    losses = {"random initialisation": (4.0, 2.0), "reptile": (4.5, 0.05), "maml": (3.5, 0.5)}
    rows = [
        (seed, name, step, 100, factor * loss, 0.1 * factor * loss)
        for seed, factor in ((0, 1.0), *further)
        for name, pair in losses.items()
        for step, loss in zip((0, 32), pair, strict=True)
    ]
    write_rows(root / SINE_LOSSES, ("seed", "algorithm", "inner_steps", "tasks", "loss", "standard_error"), rows)
    points: list[tuple[int, str, int, float, float]] = []
    for task in range(2):
        points += [(task, "truth", 0, x, task + x) for x in (-5.0, 0.0, 5.0)]
        points += [(task, "support", 0, x, task + x) for x in (-5.0, 5.0)]
        points += [(task, name, step, x, step / 8) for name in losses for step in (0, 32) for x in (-5.0, 0.0, 5.0)]
    write_rows(root / SINE_FITS, ("task", "algorithm", "inner_steps", "x", "y"), points)
    for path in (SINE_LOSSES, SINE_FITS):
        write_run(root / path, {"settings_digest": digest((project or of_params()).settings_of_sine())})
