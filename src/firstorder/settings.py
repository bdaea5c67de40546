"""params.yaml as frozen dataclasses: which trainings and evaluations there are, and with what values.

A newcomer would get wrong: the *same* resolved settings reach the command line and Snakemake (as a
rule's `params:`), and their digest is written into every record. So what decides whether a number is
rebuilt is exactly what is hashed here: the values of that one training or evaluation, not the file,
not its comments, not the lists of seeds and cells. No torch, no data.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from firstorder import NUMERICS_VERSION
from firstorder.errors import UserError

Mode = Literal["inductive", "transductive"]
MODES: tuple[Mode, ...] = ("inductive", "transductive")

# Every path of the pipeline, relative to the folder that holds params.yaml.
MODEL = "models/{training}/seed-{seed}.safetensors"
CURVE = "results/curves/{training}/seed-{seed}.csv"
RECORD = "results/cells/{evaluation}/{mode}/seed-{seed}.json"
SINE_LOSSES = "results/curves/sine/losses.csv"
SINE_FITS = "results/curves/sine/fits.csv"


def setting(
    help: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    default: Any = dataclasses.MISSING,
) -> Any:
    """Declare one value of params.yaml: what it means (with the paper's symbol) and its range."""
    limits = {"at_least": at_least, "at_most": at_most, "above": above}
    return field(default=default, metadata={"help": help, "limits": limits})


@dataclass(frozen=True, kw_only=True)
class DatasetSettings:
    """One image data set and how its classes fall into pools."""

    source: Literal["omniglot", "glyphs"] = setting("who makes the pack: the module of that name")
    meta_train_classes: int = setting("classes for meta-training; the rest is meta-test", at_least=2)
    rotations: tuple[int, ...] = setting(
        "degrees; each rotation of a meta-training class is a class of its own", at_least=0, at_most=270
    )


@dataclass(frozen=True, kw_only=True)
class CurveSettings:
    """The accuracy measured while training goes on; it only informs, nothing is selected on it."""

    every: int = setting("outer steps between two measurements", at_least=1)
    tasks: int = setting("tasks a measurement and pool of classes", at_least=1)
    shot: int = setting("support images a class", at_least=1)
    inner_steps: int = setting("inner steps of a measurement", at_least=1)
    inner_batch_size: int = setting("images an inner step of a measurement", at_least=1)


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """One meta-training (per seed). Symbols are the paper's."""

    algorithm: Literal["reptile", "untrained"] = setting("function of algorithms.py")
    dataset: str = setting("name under `datasets`")
    network: Literal["omniglot"] = setting("network of models.py")
    way: int = setting("classes a task, N", at_least=2)
    train_shot: int = setting("images a class drawn for a training task", at_least=1)
    sampling: Literal["cycle", "replacement"] = setting("how mini-batches come from a task's images")
    inner_optimiser: Literal["adam", "sgd"] = setting("Adam has beta1 = 0, beta2 = 0.999, epsilon = 1e-8")
    inner_learning_rate: float = setting("alpha, on the loss summed over the mini-batch", above=0)
    inner_steps: int = setting("k, inner steps a task", at_least=1)
    inner_batch_size: int = setting("images an inner step", at_least=1)
    second_moments: Literal["carried", "per_lane"] = setting(
        "Adam's second moments flow through the tasks of a meta-batch one after another (carried, the "
        "authors' code), or every task of the meta-batch keeps its own (per_lane)"
    )
    outer_steps: int = setting("outer steps (meta-iterations)", at_least=0)
    outer_step_size: float = setting("epsilon at the first outer step", at_least=0)
    outer_step_size_final: float = setting("epsilon that the linear annealing ends at", at_least=0)
    meta_batch_size: int = setting("n, tasks an outer step", at_least=1)
    curve: CurveSettings = setting("learning curve")


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """One evaluation of a training: a shot, measured in both modes (two cells)."""

    training: str = setting("name under `trainings`")
    shot: int = setting("K, support images a class", at_least=1)
    inner_steps: int = setting("inner steps a task", at_least=1)
    inner_batch_size: int = setting("images an inner step", at_least=1)
    tasks: int = setting("meta-test tasks", at_least=1)


@dataclass(frozen=True, kw_only=True)
class SineTrainingSettings:
    """One meta-training on sine waves (Figure 1)."""

    inner_learning_rate: float = setting("alpha, on the mean squared error", above=0)
    inner_steps: int = setting("inner steps a task", at_least=1)
    inner_batch_size: int = setting("points an inner step", at_least=1)
    outer_steps: int = setting("outer steps, one task each", at_least=1)
    outer_step_size: float = setting("outer step size at the start, annealed to 0", above=0)


@dataclass(frozen=True, kw_only=True)
class SineSettings:
    """Figure 1: regression on sine waves; settings of the first author's public demonstration."""

    seed: int = setting("seed of all draws", at_least=0)
    hidden: int = setting("units in each of the two hidden layers", at_least=1)
    activation: Literal["relu", "tanh"] = setting("the paper has ReLU, the demonstration tanh")
    grid: int = setting("points in [-5, 5] that stand for the whole wave", at_least=2)
    support: int = setting("points of a new wave that the network adapts to", at_least=1)
    evaluation_steps: tuple[int, ...] = setting("inner steps after which the loss is measured", at_least=0)
    evaluation_tasks: int = setting("new waves that the loss is averaged over", at_least=2)
    evaluation_learning_rate: float = setting("alpha at evaluation", above=0)
    drawn_tasks: int = setting("waves whose fits are drawn", at_least=1)
    reptile: SineTrainingSettings = setting("meta-training by Reptile")
    maml: SineTrainingSettings = setting("meta-training by MAML, second order, outer optimiser Adam")


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One row of a table: an algorithm in one mode."""

    label: str = setting("printed name; where the paper has the row, its name there")
    algorithm: str = setting("first part of the evaluation's name")
    mode: Mode = setting("which of the two cells of an evaluation")


@dataclass(frozen=True, kw_only=True)
class TableSettings:
    """One table: rows (algorithm and mode) against columns (data set, way and shot)."""

    title: str = setting("printed above the table")
    paper: str = setting("table of paper/published.csv to stand beside, or none", default="none")
    columns: tuple[str, ...] = setting("like omniglot-5way/1shot")
    rows: tuple[TableRow, ...] = setting("top to bottom")


@dataclass(frozen=True, kw_only=True)
class FigureSettings:
    """One figure: a drawing function of report/figures.py and what it reads."""

    kind: Literal["sine", "curves", "accuracies"] = setting("drawing function")
    title: str = setting("caption's first words")
    trainings: tuple[str, ...] = setting("trainings whose curves are drawn", default=())
    tables: tuple[str, ...] = setting("tables whose cells are drawn", default=())


@dataclass(frozen=True, kw_only=True)
class Project:
    """Everything params.yaml says, checked."""

    title: str = setting("what these results are, in a line")
    data_folder: str = setting("where packed data lies, relative to params.yaml")
    seeds: tuple[int, ...] = setting("every training and evaluation is done for each", at_least=0)
    datasets: dict[str, DatasetSettings] = setting("image data sets")
    trainings: dict[str, TrainingSettings] = setting("meta-trainings, named algorithm/dataset-Nway[...]")
    evaluations: dict[str, EvaluationSettings] = setting("named algorithm/dataset-Nway/Kshot")
    tables: dict[str, TableSettings] = setting("tables of the report")
    figures: dict[str, FigureSettings] = setting("figures of the report")
    sine: SineSettings | None = setting("Figure 1", default=None)

    def pack_path(self, dataset: str) -> str:
        """Return where the packed data set lies, relative to the folder of params.yaml."""
        return f"{self.data_folder}/{dataset}.npz"

    def cells(self) -> list[tuple[str, Mode, int]]:
        """List every cell as (evaluation, mode, seed)."""
        return [(name, mode, seed) for name in self.evaluations for mode in MODES for seed in self.seeds]

    def settings_of_training(self, name: str) -> dict[str, Any]:
        """Resolve all that decides a training's outcome, the seed excepted, as plain values."""
        training = lookup(self.trainings, name, "training")
        return {
            "numerics_version": NUMERICS_VERSION,
            "dataset": dataclasses.asdict(self.datasets[training.dataset]),
            "training": dataclasses.asdict(training),
        }

    def settings_of_evaluation(self, name: str) -> dict[str, Any]:
        """Resolve all that decides an evaluation's outcome, the seed excepted, as plain values."""
        evaluation = lookup(self.evaluations, name, "evaluation")
        return {
            **self.settings_of_training(evaluation.training),
            "evaluation": dataclasses.asdict(evaluation),
        }

    def settings_of_sine(self) -> dict[str, Any]:
        """Resolve all that decides Figure 1's numbers, as plain values."""
        if self.sine is None:
            raise UserError("params.yaml has no section `sine`; add one (the main params.yaml has an example)")
        return {"numerics_version": NUMERICS_VERSION, "sine": dataclasses.asdict(self.sine)}


def digest(settings: dict[str, Any]) -> str:
    """Return the first 16 hex digits of the SHA-256 of `settings` as canonical JSON."""
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def lookup(known: dict[str, Any], name: str, what: str) -> Any:
    """Return `known[name]`, or raise UserError with the nearest name there is."""
    if name not in known:
        raise UserError(f"unknown {what} {name!r}{_nearest(name, known)}; known are: {', '.join(known) or 'none'}")
    return known[name]


def load(path: Path | str = "params.yaml") -> Project:
    """Read and check a params.yaml.

    Raises UserError, naming the file and the place in it, for a missing or malformed file, an unknown
    or missing key (the nearest known key is named), a wrong type, a value out of range, or a name that
    points nowhere.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the folder of params.yaml or give --params") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    project = _build(Project, values, str(path))
    _check_names(project, str(path))
    return project


def _nearest(name: str, known: typing.Iterable[str]) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _build(cls: Any, values: Any, where: str) -> Any:
    """Make the dataclass `cls` from a mapping of params.yaml, checking keys, types and ranges."""
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected a mapping of settings, found {values!r}")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            raise UserError(f"{where}: unknown key {key!r}{_nearest(key, fields)}; known are: {', '.join(fields)}")
    for name, f in fields.items():
        if name not in values and f.default is dataclasses.MISSING:
            raise UserError(f"{where}: key {name!r} is missing ({f.metadata['help']})")
    hints = typing.get_type_hints(cls)
    built = {
        name: _convert(hints[name], value, f"{where}: {name}", fields[name].metadata["limits"])
        for name, value in values.items()
    }
    return cls(**built)


def _convert(hint: Any, value: Any, where: str, limits: dict[str, float | None]) -> Any:
    """Check one value of params.yaml against its type and range, and return it in that type."""
    if get_origin(hint) in (types.UnionType, typing.Union):
        inner = [option for option in get_args(hint) if option is not type(None)]
        return None if value is None else _convert(inner[0], value, where, limits)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, where)
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise UserError(f"{where}: expected one of {', '.join(get_args(hint))}, found {value!r}")
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise UserError(f"{where}: expected a list, found {value!r}")
        return tuple(_convert(get_args(hint)[0], v, f"{where}[{i}]", limits) for i, v in enumerate(value))
    if get_origin(hint) is dict:
        if not isinstance(value, dict):
            raise UserError(f"{where}: expected a mapping, found {value!r}")
        return {str(k): _convert(get_args(hint)[1], v, f"{where}: {k}", limits) for k, v in value.items()}
    return _convert_plain(hint, value, where, limits)


def _convert_plain(hint: Any, value: Any, where: str, limits: dict[str, float | None]) -> Any:
    if hint is float and isinstance(value, str):
        # YAML 1.1 reads 1e-3 (no point) as a text.
        try:
            value = float(value)
        except ValueError:
            raise UserError(f"{where}: expected a number, found {value!r}") from None
    allowed = (int, float) if hint is float else (hint,)
    if not isinstance(value, allowed) or isinstance(value, bool):
        raise UserError(f"{where}: expected {hint.__name__}, found {value!r}")
    if hint is str:
        return value
    value = hint(value)
    low, high, above = limits["at_least"], limits["at_most"], limits["above"]
    if value != value or value in (float("inf"), float("-inf")):
        raise UserError(f"{where}: expected a finite number, found {value!r}")
    if low is not None and value < low:
        raise UserError(f"{where}: expected at least {low:g}, found {value!r}")
    if above is not None and value <= above:
        raise UserError(f"{where}: expected more than {above:g}, found {value!r}")
    if high is not None and value > high:
        raise UserError(f"{where}: expected at most {high:g}, found {value!r}")
    return value


def _check_names(project: Project, where: str) -> None:
    """Check what one entry says of another: names that exist, names that tell the truth."""
    for name, training in project.trainings.items():
        place = f"{where}: trainings: {name}"
        if training.dataset not in project.datasets:
            hint = _nearest(training.dataset, project.datasets)
            raise UserError(f"{place}: dataset {training.dataset!r} is not under `datasets`{hint}")
        if not name.startswith(f"{training.algorithm}/{training.dataset}-{training.way}way"):
            start = f"{training.algorithm}/{training.dataset}-{training.way}way"
            raise UserError(f"{place}: the name must start with {start!r}, as its settings say")
        if (training.algorithm == "untrained") != (training.outer_steps == 0):
            raise UserError(f"{place}: algorithm untrained goes with outer_steps: 0, and only it")
        pool = training.way * training.train_shot
        if training.sampling == "replacement" and training.inner_batch_size > pool:
            raise UserError(f"{place}: inner_batch_size {training.inner_batch_size} exceeds the task's {pool} images")
    for name, evaluation in project.evaluations.items():
        place = f"{where}: evaluations: {name}"
        if evaluation.training not in project.trainings:
            hint = _nearest(evaluation.training, project.trainings)
            raise UserError(f"{place}: training {evaluation.training!r} is not under `trainings`{hint}")
        training = project.trainings[evaluation.training]
        expected = f"{training.algorithm}/{training.dataset}-{training.way}way/{evaluation.shot}shot"
        if name != expected:
            raise UserError(f"{place}: the name must be {expected!r}, as its settings say")
    for name, figure in project.figures.items():
        for kind, names, known in (
            ("training", figure.trainings, project.trainings),
            ("table", figure.tables, project.tables),
        ):
            for wanted in names:
                if wanted not in known:
                    hint = _nearest(wanted, known)
                    raise UserError(f"{where}: figures: {name}: unknown {kind} {wanted!r}{hint}")
    if len(set(project.seeds)) != len(project.seeds) or not project.seeds:
        raise UserError(f"{where}: seeds: expected at least one and no seed twice, found {list(project.seeds)}")
