"""Meta-training on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from firstorder.engines.choice import cores_for
from firstorder.errors import UserError
from firstorder.library.arrays import Array, Classes, classes_of
from firstorder.library.learner import Learner, pool_of, problem_of
from firstorder.method import training
from firstorder.method.training import Problem, Resumable, TrainingState
from firstorder.progress import Stop, Track, never, silent
from firstorder.settings import TrainingSettings, checks, columns
from firstorder.settings.schema import build

# Reptile on Omniglot, 5-way: Table 3 of the paper. What `train` takes where nothing is said.
DEFAULTS: dict[str, Any] = {
    "algorithm": "reptile",
    "network": "omniglot",
    "sampling": "cycle",
    "inner_optimiser": "adam",
    "inner_learning_rate": 0.001,
    "inner_steps": 5,
    "inner_batch_size": 10,
    "second_moments": "carried",
    "outer_step_size": 1.0,
    "outer_step_size_final": 0.0,
    "meta_batch_size": 5,
}
TRAIN_SHOT, FILTERS, POINTS, CURVE_TASKS = 10, 64, 20, 20


def train(
    classes: Array | Sequence[Array],
    *,
    way: int = 5,
    outer_steps: int = 1000,
    filters: int = FILTERS,
    held_out: Array | Sequence[Array] | None = None,
    seed: int = 0,
    device: str = "cpu",
    engine: str = "auto",
    track: Track = silent,
    stop: Stop = never,
    **settings: Any,
) -> Learner:
    """Meta-train on arrays of classes, with Reptile and the settings of the paper's Omniglot table where not said.

    classes: [classes, images, channels, size, size], or a sequence of [images, channels, size, size] whose numbers of
    images may differ; bool, uint8, or bytes divided by 255. size is from 16 to 512. `held_out`: further classes, on
    which the learning curve is measured too; nothing is selected by it. `settings` are those of a training in
    params.yaml, such as inner_steps=8, network="mini_imagenet", algorithm="fomaml". `track` shows progress
    (firstorder.progress.shown), and `stop` ends it early.

    Raises TypeError and ValueError for the arrays, and UserError for settings, which names the nearest one for one that
    is misspelt.
    """
    if given := {"dataset", "image"} & set(settings):
        raise UserError(f"firstorder.train: {min(given)} follows from the arrays; leave it out")
    made = classes_of(classes, "classes")
    _, _, channels, size, _ = made.images.shape
    fewest = min(made.counts) if made.counts else made.images.shape[1]
    values = {**DEFAULTS, "train_shot": min(TRAIN_SHOT, fewest), "way": way, "outer_steps": outer_steps, **settings}
    values |= {"dataset": "arrays", "image": {"size": size, "channels": channels, "filters": filters}}
    every = max(1, outer_steps // POINTS)
    curve = {"every": every, "tasks": CURVE_TASKS, "shot": 1, "inner_steps": 50, "inner_batch_size": way}
    values["curve"] = curve | settings.get("curve", {})
    name, chosen, resolved = _checked(values, made)
    pools = {"meta-train": pool_of(made, torch.device(device))}
    if held_out is not None:
        pools["meta-test"] = pool_of(classes_of(held_out, "held_out"), torch.device(device))
    problem, choice = problem_of(name, chosen, seed, pools, device, engine)
    with cores_for(choice.engine):
        (state,) = choice.train([Resumable(problem, _Unkept())], track, stop)
    assert state is not None, "one training always starts"
    about = {"training": name, "seed": seed, "settings": resolved}
    rows = tuple(_row(row) for row in state.curve)
    return Learner(problem, training.checkpoint_of(problem, state, about), rows)


def _row(values: list[Any]) -> dict[str, Any]:
    """Return a row of the learning curve by columns.CURVE, accuracies as fractions."""
    row = dict(zip(columns.CURVE, values, strict=True))
    return row | {name: float(row[name]) for name in ("accuracy", "standard_error")}


class _Unkept:
    """Keeps no state: a training on arrays is not resumed."""

    def load(self, problem: Problem) -> TrainingState | None:
        return None

    def save(self, state: TrainingState) -> None:
        pass


def _checked(values: dict[str, Any], made: Classes) -> tuple[str, TrainingSettings, dict[str, Any]]:
    """Check the settings of a training as those of params.yaml; return its name, they, and they resolved."""
    form = {"size": made.images.shape[-1], "channels": 1 if made.images.shape[2] == 1 else 3}
    name = f"{values['algorithm']}/arrays-{values['way']}way"
    image = values["image"] if made.images.shape[2] in (1, 3) else None
    project = checks.checked(
        {
            "title": "arrays",
            "data_folder": "data",
            "seeds": [0],
            "datasets": {"arrays": {"source": "folder", **form, "meta_train_classes": 2}},
            "trainings": {name: {**values, "image": image}},
            "evaluations": {},
            "tables": {},
            "figures": {},
        },
        "firstorder.train",
    )
    chosen = build(TrainingSettings, values, "firstorder.train")
    return name, chosen, project.settings_of_training(name)
