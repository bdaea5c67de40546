"""Reads params.yaml and checks it: what one setting alone can get wrong (schema.py), and what only several can.

The second kind is here: names, what points where, what goes with what.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from firstorder.errors import UserError
from firstorder.schema import build, nearest, read_yaml
from firstorder.settings import DatasetSettings, Project, TrainingSettings


def load(path: Path | str = "params.yaml") -> Project:
    """Read and check a params.yaml.

    Raises UserError, naming the file and the place in it, for a missing or malformed file, an unknown
    or missing key (the nearest known key is named), a wrong type, a value out of range, or a name that
    points nowhere.
    """
    path = Path(path)
    project = build(Project, read_yaml(path), str(path))
    where = str(path)
    _check_names(project, where)
    _check_datasets(project, where)
    _check_trainings(project, where)
    _check_evaluations(project, where)
    _check_figures(project, where)
    if len(set(project.seeds)) != len(project.seeds) or not project.seeds:
        raise UserError(f"{where}: seeds: expected at least one and no seed twice, found {list(project.seeds)}")
    return project


def _check_names(project: Project, where: str) -> None:
    """Check that names can be parts of paths: they become folders and files."""
    one = "[A-Za-z0-9][A-Za-z0-9._-]*"
    for section, names, pattern in (
        ("datasets", project.datasets, one),
        ("trainings", project.trainings, f"{one}(/{one})*"),
        ("evaluations", project.evaluations, f"{one}(/{one})*"),
        ("tables", project.tables, one),
        ("figures", project.figures, one),
    ):
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


def _points_nowhere(place: str, what: str, name: str, section: str, known: Iterable[str]) -> UserError:
    listed = ", ".join(known) or "none"
    return UserError(f"{place}: {what} {name!r} is not under `{section}`{nearest(name, known)}; known are: {listed}")
