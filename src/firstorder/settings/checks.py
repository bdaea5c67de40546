"""Reads params.yaml and checks it.

schema.py checks each setting alone (type, range, unknown keys). Here and in study_checks.py is what involves several
settings: names, references between entries, and settings that exclude or require each other.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from firstorder.errors import UserError
from firstorder.settings.folders import FOLDER_ONLY, check_folder
from firstorder.settings.project import Project
from firstorder.settings.schema import build, check_reference
from firstorder.settings.study_checks import check_beside_evaluations, check_theory
from firstorder.settings.trainings import DatasetSettings, SweepSettings, TrainingSettings
from firstorder.settings.yaml_files import read_yaml

CLASSES = {"omniglot": 1623, "glyphs": 1187}  # in a whole pack, by source
MOST_POINTS = 100_000  # of a learning curve; the paper's have a few hundred


def load(path: Path | str = "params.yaml") -> Project:
    """Read and check a params.yaml.

    Raises UserError, naming the file and the place in it, for a missing or malformed file, an unknown
    or missing key (the nearest known key is named), a wrong type, a value out of range, or a reference to
    an entry that does not exist.
    """
    path = Path(path)
    return checked(read_yaml(path), str(path))


def checked(values: Any, where: str) -> Project:
    """Check the values of a params.yaml; messages begin with `where`. Raises UserError as `load`."""
    project = _with_sweeps(build(Project, values, where), where)
    _check_names(project, where)
    _check_datasets(project, where)
    _check_trainings(project, where)
    _check_evaluations(project, where)
    check_beside_evaluations(project, where)
    _check_figures(project, where)
    check_theory(project, where)
    if len(set(project.seeds)) != len(project.seeds) or not project.seeds:
        raise UserError(f"{where}: seeds: expected at least one and no seed twice, found {list(project.seeds)}")
    return project


def _with_sweeps(project: Project, where: str) -> Project:
    """Add the trainings of the sweeps to those written out in params.yaml."""
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
    if sweep.varied == "outer_step_size" and sweep.step_size_of_images is not None:
        raise UserError(f"{place}: step_size_of_images: the outer step size is varied already; remove one of the two")
    check_reference(f"{place}: base", "dataset", sweep.base.dataset, "datasets", project.datasets)


def _check_names(project: Project, where: str) -> None:
    """Check that names can be parts of paths, since folders and files are named after them."""
    # Snakemake takes braces in a path for wildcards. Everything else is quoted where a shell sees it.
    if not re.fullmatch(r"[^{}\x00-\x1f\x7f]+", project.data_folder):
        raise UserError(
            f"{where}: data_folder: expected a path without braces or control codes, found {project.data_folder!r}"
        )
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
        place = f"{where}: datasets: {name}"
        if dataset.pack is not None:
            check_reference(place, "pack", dataset.pack, "datasets", project.datasets)
        _check_source(project, dataset, place)
        rotations = dataset.rotations
        if rotations is None:
            continue
        if not rotations or len(set(rotations)) != len(rotations) or any(degrees % 90 for degrees in rotations):
            raise UserError(
                f"{place}: rotations: expected at least one of 0, 90, 180, 270 and none twice, found {list(rotations)}"
            )


def _check_source(project: Project, dataset: DatasetSettings, place: str) -> None:
    """Check the settings that only some sources have."""
    if dataset.source != "folder" and (extra := [key for key in FOLDER_ONLY if getattr(dataset, key) is not None]):
        raise UserError(f"{place}: {dataset.source} has no {extra[0]}, which is for source folder; remove it")
    splitting = ("meta_train_classes", "rotations", "meta_validation_classes", "split_seed", "rotate", "ink")
    given = [key for key in splitting if getattr(dataset, key) is not None]
    if dataset.source == "folder":
        check_folder(dataset, place)
    elif dataset.source == "mini_imagenet":
        if given:
            raise UserError(f"{place}: mini_imagenet has no {given[0]}, its classes are split by their ids; remove it")
    elif dataset.resize is not None:
        raise UserError(f"{place}: {dataset.source} has no resize; remove it")
    else:
        for key in splitting[:2]:
            if key not in given:
                what = DatasetSettings.__dataclass_fields__[key].metadata["help"]
                raise UserError(f"{place}: key {key!r} is missing ({what})")
    train, left_out = dataset.meta_train_classes or 0, dataset.meta_validation_classes or 0
    if train + left_out >= CLASSES.get(dataset.source, train + left_out + 1):
        classes = CLASSES[dataset.source]
        raise UserError(
            f"{place}: meta_train_classes: {dataset.source} has {classes:,} classes, so {train:,} for meta-training "
            f"and {left_out:,} for meta-validation leave none for meta-test; lower them"
        )
    if dataset.pack is not None:
        packed = project.datasets[dataset.pack]
        if packed.packing != dataset.packing:
            raise UserError(f"{place}: pack {dataset.pack!r} has another source or resize; they must be the same")


def _check_trainings(project: Project, where: str) -> None:
    for name, training in project.trainings.items():
        place = f"{where}: trainings: {name}"
        check_reference(place, "dataset", training.dataset, "datasets", project.datasets)
        start = f"{training.algorithm}/{project.dataset_name(training.dataset)}-{training.way}way"
        if not re.fullmatch(re.escape(start) + "(-.+)?", name):
            raise UserError(f"{place}: the name must be {start!r} (from its settings), or that and a suffix '-...'")
        if (training.algorithm == "untrained") != (training.outer_steps == 0):
            raise UserError(
                f"{place}: expected outer_steps: 0 with algorithm untrained and with no other, "
                f"found {training.algorithm} with outer_steps: {training.outer_steps}"
            )
        _check_algorithm(training, place)
        _check_momentum(training, place)
        _check_image(training, project.datasets[training.dataset], place)
        if training.outer_steps // training.curve.every > MOST_POINTS:
            found = f"{training.outer_steps} outer steps, every {training.curve.every}"
            raise UserError(f"{place}: curve: expected at most {MOST_POINTS:,} points, found {found}; raise every")
        images = training.way * training.train_shot
        if training.sampling == "replacement" and training.inner_batch_size > images:
            raise UserError(f"{place}: inner_batch_size {training.inner_batch_size} exceeds the task's {images} images")


def _check_image(training: TrainingSettings, dataset: DatasetSettings, place: str) -> None:
    """Check that a network's own sizes are those of the data set's images, where the settings say which these are."""
    image = training.image
    if image is None or dataset.source != "folder":
        return
    if (image.size, image.channels) != (dataset.size, dataset.channels):
        raise UserError(
            f"{place}: image: the network takes size {image.size} and channels {image.channels}, data set "
            f"{training.dataset!r} has {dataset.size} and {dataset.channels}; give both the same"
        )


def _check_algorithm(training: TrainingSettings, place: str) -> None:
    """Check the settings that only some algorithms have."""
    name = training.algorithm
    if name == "joint" and training.inner_steps != 1:
        raise UserError(f"{place}: joint training has inner_steps: 1, found {training.inner_steps}")
    needs_query = name in ("fomaml", "maml", "binomial")
    if needs_query and training.query_shot is None:
        raise UserError(f"{place}: {name} needs query_shot, the images per class of its query set")
    if training.query_shot is not None and not (needs_query or name == "last_step"):
        raise UserError(f"{place}: {name} has no query_shot; remove it")
    if needs_query and training.second_moments != "per_lane":
        raise UserError(f"{place}: {name} adapts its tasks side by side, so second_moments must be per_lane")
    if (name == "binomial") != (training.truncation_order is not None):
        raise UserError(f"{place}: expected truncation_order with algorithm binomial and with no other, found {name}")
    if name == "binomial" and training.inner_optimiser != "sgd":
        raise UserError(f"{place}: binomial is defined for inner_optimiser: sgd, found {training.inner_optimiser}")


def _check_momentum(training: TrainingSettings, place: str) -> None:
    """Check what inner_beta1 goes with."""
    if training.inner_beta1 is not None and training.inner_optimiser != "adam":
        raise UserError(
            f"{place}: inner_beta1 is for inner_optimiser: adam, found {training.inner_optimiser}; remove it"
        )
    if training.inner_beta1 and training.precision is not None:
        raise UserError(f"{place}: inner_beta1 above 0 is computed in float32 only; remove it, or precision")


def _check_evaluations(project: Project, where: str) -> None:
    for name, evaluation in project.evaluations.items():
        place = f"{where}: evaluations: {name}"
        check_reference(place, "training", evaluation.training, "trainings", project.trainings)
        training = project.trainings[evaluation.training]
        dataset = project.dataset_name(training.dataset)
        expected = f"{training.algorithm}/{dataset}-{training.way}way/{evaluation.shot}shot"
        if name != expected:
            raise UserError(f"{place}: the name must be {expected!r} (from its settings)")


# The setting of a figure that names what its kind draws; the other kinds draw without names.
_NAMES = {
    "curves": "trainings",
    "accuracies": "tables",
    "combinations": "trainings",
    "sweeps": "sweeps",
    "adaptation": "evaluations",
    "alphabets": "evaluations",
}


def _check_figures(project: Project, where: str) -> None:
    """Check that every figure names what its kind draws, nothing else, and only entries that exist."""
    sections: dict[str, Collection[str]] = {
        "trainings": project.trainings,
        "tables": project.tables,
        "sweeps": project.sweeps or {},
    }
    for name, figure in project.figures.items():
        place = f"{where}: figures: {name}"
        for section, known in sections.items():
            for wanted in getattr(figure, section) or ():
                check_reference(place, section.removesuffix("s"), wanted, section, known)
        needed = _NAMES.get(figure.kind)
        for key in (*sections, "evaluations"):
            if getattr(figure, key) and key != needed:
                raise UserError(f"{place}: a figure of kind {figure.kind} draws no {key}; remove them")
        if needed and not getattr(figure, needed) and figure.kind != "curves":
            raise UserError(f"{place}: a figure of kind {figure.kind} needs {needed}, the names of what it draws")
        measured = "adaptations" if figure.kind == "adaptation" else "alphabets"
        for wanted in figure.evaluations or ():
            check_reference(place, "evaluation", wanted, measured, getattr(project, measured) or {})
