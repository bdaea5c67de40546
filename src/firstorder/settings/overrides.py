"""Settings given on the command line (`--set key=value`), for exploring: they make another, smaller params.yaml.

It has one training, with its data set and evaluations, so that results made with it lie in a folder of their own.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from firstorder.errors import UserError
from firstorder.settings.checks import checked
from firstorder.settings.digests import digest, resolved
from firstorder.settings.project import Project, lookup
from firstorder.settings.schema import nearest
from firstorder.settings.trainings import (
    CurveSettings,
    DatasetSettings,
    EvaluationSettings,
    ImageSettings,
    TrainingSettings,
)
from firstorder.settings.yaml_files import parse_yaml

# What can be set, by the name before the dot.
PARTS: dict[str, type] = {
    "training": TrainingSettings,
    "evaluation": EvaluationSettings,
    "curve": CurveSettings,
    "image": ImageSettings,
    "dataset": DatasetSettings,
}
# What says which training, evaluation or pack it is; these are not values to explore.
NAMES = ("training.dataset", "evaluation.training", "training.curve", "training.image")
PACKED = ("source", "pack", "resize", "size", "channels", "split", "class_names")
WITHOUT = "unchanged"  # label of no override
_PLAIN = re.compile(r"[A-Za-z0-9=.,_+-]{1,100}")

Override = tuple[str, str, Any]  # part, setting, value


@dataclass(frozen=True)
class Explored:
    """A params.yaml as plain values, the names in it, and the label of its folder.

    `trained` is the label with the overrides of the training alone: where the checkpoint is.
    """

    values: dict[str, Any]
    training: str
    evaluation: str | None
    label: str
    trained: str


def parse(texts: Sequence[str], evaluating: bool) -> list[Override]:
    """Parse `key=value` or `part.key=value`; raises UserError, with the nearest name, for what is no setting.

    Without a part, a setting is the training's or, if only that has it, the evaluation's.
    """
    found: dict[tuple[str, str], Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise UserError(f"--set {text}: expected KEY=VALUE, such as --set inner_learning_rate=0.002")
        part, key = _named(name.strip(), evaluating, text)
        if (part, key) in found:
            raise UserError(f"--set {text}: {name} is set twice; leave one out")
        try:
            found[part, key] = parse_yaml(value)
        except ValueError as error:
            raise UserError(f"--set {text}: {error}") from None
    return [(*where, value) for where, value in sorted(found.items())]


def _named(name: str, evaluating: bool, text: str) -> tuple[str, str]:
    known = {
        f"{part}.{field.name}": (part, field.name) for part, cls in PARTS.items() for field in dataclasses.fields(cls)
    }
    both = {name for name in _fields("training") if name in _fields("evaluation")}
    short = {key: ("training", key) for key in _fields("training")}
    if evaluating:
        short = {key: ("evaluation", key) for key in _fields("evaluation")} | short
        if name in both:
            raise UserError(
                f"--set {text}: {name} is a setting of the training and of the evaluation; write training.{name} or "
                f"evaluation.{name}"
            )
    where = known.get(name) or short.get(name)
    if where is None:
        near = nearest(name, [*short, *known])
        raise UserError(f"--set {text}: unknown setting {name!r}{near}; params.yaml explains them")
    if ".".join(where) in NAMES:
        raise UserError(f"--set {text}: {name} names what it is about; add an entry to params.yaml instead")
    if where[0] == "dataset" and where[1] in PACKED:
        raise UserError(f"--set {text}: {name} acts when the data set is packed; add a data set to params.yaml instead")
    if where[0] == "evaluation" and not evaluating:
        raise UserError(f"--set {text}: {name} is of an evaluation; give it to: firstorder evaluate")
    return where


def _fields(part: str) -> list[str]:
    return [field.name for field in dataclasses.fields(PARTS[part])]


def explored(project: Project, training: str, evaluation: str | None, overrides: Sequence[Override]) -> Explored:
    """Return the params.yaml of a training, and all its evaluations, with these overrides.

    The training and its evaluations are named after their settings, as always. Raises UserError, which begins with
    `--set`, for values that are wrong or do not go together.
    """
    made = resolved(lookup(project.trainings, training, "training"))
    datasets = {made["dataset"]: resolved(project.datasets[made["dataset"]])}
    if (pack := project.datasets[made["dataset"]].pack) is not None:
        datasets[pack] = resolved(project.datasets[pack])
    evaluations = {name: resolved(each) for name, each in project.evaluations.items() if each.training == training}
    for part, key, value in overrides:
        into = {"training": [made], "dataset": [datasets[made["dataset"]]]}.get(part)
        if part == "evaluation":
            into = [evaluations[evaluation]] if evaluation is not None else []
        for entry in into or [made.setdefault(part, {})]:
            entry[key] = value
            if value is None:
                del entry[key]
    prefix = f"{made.get('algorithm')}/{project.dataset_name(made['dataset'])}-{made.get('way')}way"
    suffix = training.removeprefix(_prefix(project, training))
    named = f"{prefix}{suffix}"
    renamed = {name: f"{prefix}/{each.get('shot')}shot" for name, each in evaluations.items()}
    if evaluation is not None:
        evaluations = {evaluation: evaluations[evaluation]}
    values = {
        "title": f"{project.title}, with {_label(overrides)}",
        "data_folder": project.data_folder,
        "seeds": list(project.seeds),
        "datasets": datasets,
        "trainings": {named: made},
        "evaluations": {renamed[name]: {**each, "training": named} for name, each in evaluations.items()},
        "tables": {},
        "figures": {},
    }
    values = _plain(values)
    checked(values, "--set")
    of_training = [each for each in overrides if each[0] != "evaluation"]
    return Explored(values, named, evaluation and renamed[evaluation], _label(overrides), _label(of_training))


def _prefix(project: Project, training: str) -> str:
    made = project.trainings[training]
    return f"{made.algorithm}/{project.dataset_name(made.dataset)}-{made.way}way"


def _plain(value: Any) -> Any:
    """Return settings with lists for tuples, as YAML has them."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _label(overrides: Sequence[Override]) -> str:
    """Return a name for a folder that says what is set or, where that cannot be in a name, its digest."""
    texts = [f"{key if part == 'training' else f'{part}.{key}'}={value}" for part, key, value in overrides]
    label = ",".join(texts) or WITHOUT
    return label if _PLAIN.fullmatch(label) else digest({"overrides": [list(each) for each in overrides]})
