"""Reads params.yaml and checks it: what one setting alone can get wrong (schema.py), and what only several can.

The second kind is here: names, what points where, what goes with what.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable
from pathlib import Path

from firstorder.errors import UserError
from firstorder.settings.project import (
    DatasetSettings,
    ExpansionSettings,
    FigureSettings,
    Project,
    SweepSettings,
    TrainingSettings,
)
from firstorder.settings.schema import build, nearest, read_yaml

SHORTEST_LADDER = 4  # values of alpha of a limit and a slope
LARGEST_EXPECTATION = 20_000  # tasks times orders, each a lane; hundreds of MiB for MAML


def load(path: Path | str = "params.yaml") -> Project:
    """Read and check a params.yaml.

    Raises UserError, naming the file and the place in it, for a missing or malformed file, an unknown
    or missing key (the nearest known key is named), a wrong type, a value out of range, or a name that
    points nowhere.
    """
    path = Path(path)
    where = str(path)
    project = _with_sweeps(build(Project, read_yaml(path), where), where)
    _check_names(project, where)
    _check_datasets(project, where)
    _check_trainings(project, where)
    _check_evaluations(project, where)
    _check_beside_evaluations(project, where)
    _check_figures(project, where)
    _check_theory(project, where)
    if len(set(project.seeds)) != len(project.seeds) or not project.seeds:
        raise UserError(f"{where}: seeds: expected at least one and no seed twice, found {list(project.seeds)}")
    return project


def _with_sweeps(project: Project, where: str) -> Project:
    """Add the trainings that the sweeps stand for to those that are written out."""
    trainings = dict(project.trainings)
    for name, sweep in (project.sweeps or {}).items():
        place = f"{where}: sweeps: {name}"
        _check_sweep(project, sweep, place)
        for variant, value, training in project.members_of_sweep(name):
            made = sweep.training(variant, value)
            if trainings.setdefault(training, made) != made:
                raise UserError(
                    f"{place}: variant {variant!r} stands for training {training}, which is there already with other "
                    "settings; give the variant another name"
                )
    return dataclasses.replace(project, trainings=trainings)


def _check_sweep(project: Project, sweep: SweepSettings, place: str) -> None:
    if not sweep.values or not sweep.variants:
        empty = "variants" if sweep.values else "values"
        raise UserError(f"{place}: {empty}: an empty sweep is no training; give it at least one, or remove the sweep")
    if list(sweep.values) != sorted(set(sweep.values)):
        raise UserError(f"{place}: values: expected them ascending and none twice, found {list(sweep.values)}")
    if sweep.varied != "outer_step_size" and any(value != int(value) for value in sweep.values):
        raise UserError(f"{place}: values: {sweep.varied} takes whole numbers, found {list(sweep.values)}")
    if sweep.base.dataset not in project.datasets:
        raise _points_nowhere(f"{place}: base", "dataset", sweep.base.dataset, "datasets", project.datasets)


def _check_names(project: Project, where: str) -> None:
    """Check that names can be parts of paths: they become folders and files."""
    one = "[A-Za-z0-9][A-Za-z0-9._-]*"
    sections: list[tuple[str, Iterable[str], str]] = [
        ("datasets", project.datasets, one),
        ("trainings", project.trainings, f"{one}(/{one})*"),
        ("evaluations", project.evaluations, f"{one}(/{one})*"),
        ("tables", project.tables, one),
        ("figures", project.figures, one),
        ("sweeps", project.sweeps or {}, one),
        *((f"sweeps: {name}: variants", sweep.variants, one) for name, sweep in (project.sweeps or {}).items()),
    ]
    for section, names, pattern in sections:
        for name in names:
            if not re.fullmatch(pattern, name):
                raise UserError(
                    f"{where}: {section}: expected a name of letters, digits, '.', '_' and '-', found {name!r}"
                )


def _check_datasets(project: Project, where: str) -> None:
    for name, dataset in project.datasets.items():
        if dataset.pack is not None and dataset.pack not in project.datasets:
            raise _points_nowhere(f"{where}: datasets: {name}", "pack", dataset.pack, "datasets", project.datasets)
        place = f"{where}: datasets: {name}"
        _check_source(project, dataset, place)
        turns = dataset.rotations
        if turns is None:
            continue
        if not turns or len(set(turns)) != len(turns) or any(degrees % 90 for degrees in turns):
            raise UserError(
                f"{place}: rotations: expected at least one of 0, 90, 180, 270 and none twice, found {list(turns)}"
            )


def _check_source(project: Project, dataset: DatasetSettings, place: str) -> None:
    """Check the settings that only some sources have."""
    splitting = ("meta_train_classes", "rotations", "meta_validation_classes", "split_seed", "rotate", "ink")
    given = [key for key in splitting if getattr(dataset, key) is not None]
    if dataset.source == "mini_imagenet":
        if given:
            raise UserError(f"{place}: mini_imagenet has no {given[0]}, its classes are split by their ids; remove it")
    elif dataset.resize is not None:
        raise UserError(f"{place}: {dataset.source} has no resize; remove it")
    else:
        for key in splitting[:2]:
            if key not in given:
                what = DatasetSettings.__dataclass_fields__[key].metadata["help"]
                raise UserError(f"{place}: key {key!r} is missing ({what})")
    if dataset.pack is not None:
        packed = project.datasets[dataset.pack]
        if (packed.source, packed.resize) != (dataset.source, dataset.resize):
            raise UserError(f"{place}: pack {dataset.pack!r} is made otherwise: source and resize must be the same")


def _check_trainings(project: Project, where: str) -> None:
    for name, training in project.trainings.items():
        place = f"{where}: trainings: {name}"
        if training.dataset not in project.datasets:
            raise _points_nowhere(place, "dataset", training.dataset, "datasets", project.datasets)
        start = f"{training.algorithm}/{project.dataset_name(training.dataset)}-{training.way}way"
        if not re.fullmatch(re.escape(start) + "(-.+)?", name):
            raise UserError(f"{place}: the name must be {start!r}, as its settings say, or that and a suffix '-...'")
        if (training.algorithm == "untrained") != (training.outer_steps == 0):
            raise UserError(
                f"{place}: algorithm untrained goes with outer_steps: 0, and only it; "
                f"found {training.algorithm} with outer_steps: {training.outer_steps}"
            )
        _check_algorithm(training, place)
        pool = training.way * training.train_shot
        if training.sampling == "replacement" and training.inner_batch_size > pool:
            raise UserError(f"{place}: inner_batch_size {training.inner_batch_size} exceeds the task's {pool} images")


def _check_algorithm(training: TrainingSettings, place: str) -> None:
    """Check the settings that only some algorithms have."""
    name = training.algorithm
    if name == "joint" and training.inner_steps != 1:
        raise UserError(f"{place}: joint training has inner_steps: 1, found {training.inner_steps}")
    needs_query = name in ("fomaml", "maml", "binomial")
    if needs_query and training.query_shot is None:
        raise UserError(f"{place}: {name} needs query_shot, the images a class of its query set")
    if training.query_shot is not None and not (needs_query or name == "last_step"):
        raise UserError(f"{place}: {name} has no query_shot; remove it")
    if needs_query and training.second_moments != "per_lane":
        raise UserError(f"{place}: {name} adapts its tasks side by side: second_moments must be per_lane")
    if (name == "binomial") != (training.truncation_order is not None):
        raise UserError(f"{place}: algorithm binomial goes with truncation_order, and only it")
    if name == "binomial" and training.inner_optimiser != "sgd":
        raise UserError(f"{place}: binomial is defined for inner_optimiser: sgd, found {training.inner_optimiser}")


def _check_evaluations(project: Project, where: str) -> None:
    for name, evaluation in project.evaluations.items():
        place = f"{where}: evaluations: {name}"
        if evaluation.training not in project.trainings:
            raise _points_nowhere(place, "training", evaluation.training, "trainings", project.trainings)
        training = project.trainings[evaluation.training]
        dataset = project.dataset_name(training.dataset)
        expected = f"{training.algorithm}/{dataset}-{training.way}way/{evaluation.shot}shot"
        if name != expected:
            raise UserError(f"{place}: the name must be {expected!r}, as its settings say")


def _check_figures(project: Project, where: str) -> None:
    for name, figure in project.figures.items():
        place = f"{where}: figures: {name}"
        for wanted in figure.trainings:
            if wanted not in project.trainings:
                raise _points_nowhere(place, "training", wanted, "trainings", project.trainings)
        for wanted in figure.tables:
            if wanted not in project.tables:
                raise _points_nowhere(place, "table", wanted, "tables", project.tables)
        for wanted in figure.sweeps or ():
            if wanted not in (project.sweeps or {}):
                raise _points_nowhere(place, "sweep", wanted, "sweeps", project.sweeps or {})
        _check_drawn(project, figure, place)


# What a figure of a kind names, each under which setting; a kind that is not here may name nothing.
_NAMES = {
    "curves": "trainings",
    "accuracies": "tables",
    "combinations": "trainings",
    "sweeps": "sweeps",
    "adaptation": "evaluations",
    "alphabets": "evaluations",
}


def _check_drawn(project: Project, figure: FigureSettings, place: str) -> None:
    """Check that a figure names what its kind draws, and nothing else."""
    for key in ("trainings", "tables", "sweeps", "evaluations"):
        if getattr(figure, key) and _NAMES.get(figure.kind) != key:
            raise UserError(f"{place}: a figure of kind {figure.kind} draws no {key}; remove them")
    needed = _NAMES.get(figure.kind)
    if needed and not getattr(figure, needed) and figure.kind != "curves":
        raise UserError(f"{place}: a figure of kind {figure.kind} needs {needed}, the names of what it draws")
    section = (project.adaptations if figure.kind == "adaptation" else project.alphabets) or {}
    for wanted in figure.evaluations or ():
        if wanted not in section:
            name = "adaptations" if figure.kind == "adaptation" else "alphabets"
            raise _points_nowhere(place, "evaluation", wanted, name, section)


def _check_beside_evaluations(project: Project, where: str) -> None:
    """Check the sections whose entries are named after evaluations."""
    for section, names in (("adaptations", project.adaptations), ("alphabets", project.alphabets)):
        for name in names or {}:
            if name not in project.evaluations:
                raise _points_nowhere(f"{where}: {section}", "evaluation", name, "evaluations", project.evaluations)
    for name, along in (project.adaptations or {}).items():
        steps = list(along.inner_steps)
        if not steps or steps != sorted(set(steps)):
            raise UserError(
                f"{where}: adaptations: {name}: inner_steps: expected at least one, none twice, ascending; "
                f"found {steps}"
            )
    if project.manifolds is not None and len(project.manifolds.start) != 2:
        raise UserError(f"{where}: manifolds: start: expected x and y, found {list(project.manifolds.start)}")


def _check_theory(project: Project, where: str) -> None:
    if project.theory is None:
        return
    expansion, place = project.theory.expansion, f"{where}: theory: expansion"
    _check_ladder(expansion, place)
    n = expansion.mini_batches
    for k in expansion.inner_steps:
        if k > n:
            raise UserError(f"{place}: inner_steps: a task has {n} mini_batches, so k is at most {n}; found {k}")
        if (lanes := expansion.tasks * math.perm(n, k)) > LARGEST_EXPECTATION:
            raise UserError(
                f"{place}: {k} of {n} mini-batches in every order for {expansion.tasks} tasks are {lanes:,} lanes, "
                f"more than {LARGEST_EXPECTATION:,}; lower tasks, mini_batches or inner_steps"
            )
    products, place = project.theory.inner_products, f"{where}: theory: inner_products"
    if products.outer_steps % products.measurements:
        raise UserError(
            f"{place}: outer_steps {products.outer_steps} cannot be cut into {products.measurements} equal parts; "
            "change one of outer_steps and measurements"
        )
    for name in products.trainings:
        if name not in project.trainings:
            raise _points_nowhere(place, "training", name, "trainings", project.trainings)
        _check_measured(project.trainings[name], f"{place}: training {name}")


def _check_ladder(expansion: ExpansionSettings, place: str) -> None:
    """Check what a limit is taken along and a slope is fitted to."""
    for key in ("problems", "inner_steps"):
        values = getattr(expansion, key)
        if not values or len(set(values)) != len(values):
            raise UserError(f"{place}: {key}: expected at least one and none twice, found {list(values)}")
    alphas = expansion.learning_rates
    if len(alphas) < SHORTEST_LADDER:
        raise UserError(
            f"{place}: learning_rates: expected at least {SHORTEST_LADDER}, to go to the limit of alpha 0, "
            f"found {list(alphas)}"
        )
    if list(alphas) != sorted(set(alphas)):
        raise UserError(f"{place}: learning_rates: expected them ascending and none twice, found {list(alphas)}")


def _check_measured(training: TrainingSettings, place: str) -> None:
    """Check that inner products can be measured along a training and along its joint counterpart."""
    if training.algorithm != "reptile" or training.inner_steps < 2:
        raise UserError(
            f"{place}: expected algorithm: reptile with at least 2 inner_steps (joint training is derived from it), "
            f"found {training.algorithm} with inner_steps: {training.inner_steps}"
        )
    batch = training.inner_batch_size
    if batch % training.way or 2 * batch > training.way * training.train_shot:
        raise UserError(
            f"{place}: expected at least two mini-batches of equally many images a class in a task of {training.way} x "
            f"{training.train_shot} images, found inner_batch_size {batch}"
        )


def _points_nowhere(place: str, what: str, name: str, section: str, known: Iterable[str]) -> UserError:
    listed = ", ".join(known) or "none"
    return UserError(f"{place}: {what} {name!r} is not under `{section}`{nearest(name, known)}; known are: {listed}")
