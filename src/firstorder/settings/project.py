"""params.yaml as frozen dataclasses: which trainings and evaluations there are, and with what values.

A newcomer would get wrong: the *same* resolved settings reach the command line and Snakemake (as a
rule's `params:`), and their digest is written into every record. So what decides whether a number is
rebuilt is exactly what is hashed here: the values of that one training or evaluation, not the file,
not its comments, not the lists of seeds and cells. No torch, no data.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

import firstorder
from firstorder.errors import UserError
from firstorder.settings.schema import nearest, setting

Mode = Literal["inductive", "transductive"]
MODES: tuple[Mode, ...] = ("inductive", "transductive")
LARGEST_SEED = 2**32 - 1

# Every path of the pipeline, relative to the folder that holds params.yaml.
MODEL = "models/{training}/seed-{seed}.safetensors"
CURVE = "results/curves/{training}/seed-{seed}.csv"
RECORD = "results/cells/{evaluation}/{mode}/seed-{seed}.json"
ADAPTATION = "results/curves/adaptation/{evaluation}/seed-{seed}.csv"
ALPHABETS = "results/curves/alphabets/{evaluation}/seed-{seed}.csv"
SINE_LOSSES = "results/curves/sine/losses.csv"
SINE_FITS = "results/curves/sine/fits.csv"
EXPANSION = "results/curves/theory/expansion.csv"
INNER_PRODUCTS = "results/curves/theory/{training}/seed-{seed}.csv"
MANIFOLD_POINTS = "results/curves/manifolds/points.csv"


@dataclass(frozen=True, kw_only=True)
class DatasetSettings:
    """One image data set and how its classes fall into pools."""

    source: Literal["omniglot", "glyphs", "mini_imagenet"] = setting("who makes the pack: the module of that name")
    meta_train_classes: int | None = setting(
        "classes for meta-training; the rest is meta-test; not for mini_imagenet, whose classes are split by their ids",
        at_least=2,
        default=None,
    )
    rotations: tuple[int, ...] | None = setting(
        "degrees; each rotation of a meta-training class is a class of its own; not for mini_imagenet",
        at_least=0,
        at_most=270,
        default=None,
    )
    pack: str | None = setting(
        "data set whose pack this entry cuts into pools in another way, and that names its cells; absent: itself",
        default=None,
    )
    meta_validation_classes: int | None = setting(
        "classes between meta-training and meta-test that are left out of both", at_least=0, default=None
    )
    split_seed: int | None = setting("seed of the split, whatever the training's; absent: the training's", default=None)
    rotate: Literal["tasks"] | None = setting(
        "tasks: every class of every task is turned at random, meta-test too; absent: rotations are classes",
        default=None,
    )
    ink: int | None = setting("value of ink, 0 or 1; absent: 0", at_least=0, at_most=1, default=None)
    resize: Literal["nearest", "bilinear", "bicubic"] | None = setting(
        "how mini_imagenet's images become 84x84; absent: nearest, as in the authors' Pillow", default=None
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

    algorithm: Literal["reptile", "joint", "last_step", "fomaml", "maml", "binomial", "untrained"] = setting(
        "function of algorithms.py"
    )
    dataset: str = setting("name under `datasets`")
    network: Literal["omniglot", "mini_imagenet", "omniglot_finn", "mini_imagenet_finn"] = setting(
        "architecture of models.py"
    )
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
    query_shot: int | None = setting(
        "images a class apart from the inner loop's: MAML's query set, the separate tail", at_least=1, default=None
    )
    outer_optimiser: Literal["adam"] | None = setting(
        "Adam (TensorFlow's settings) on the meta-gradient; absent: phi moves by epsilon times it", default=None
    )
    meta_loss_divisor: float | None = setting("divides the summed query loss of a task", above=0, default=None)
    meta_gradient_clip: float | None = setting(
        "each entry of the meta-gradient is cut to this size", above=0, default=None
    )
    truncation_order: int | None = setting("L of the binomial truncation", at_least=0, default=None)
    precision: Literal["tf32", "bfloat16"] | None = setting(
        "of matrix products in training and evaluation; absent: float32. Not for a record until its accuracies are "
        "shown to be equivalent, docs/performance.md",
        default=None,
    )
    curve: CurveSettings = setting("learning curve")


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """One evaluation of a training: a shot, measured in both modes (two cells)."""

    training: str = setting("name under `trainings`")
    shot: int = setting("K, support images a class", at_least=1)
    inner_steps: int = setting("inner steps a task", at_least=1)
    inner_batch_size: int = setting("images an inner step", at_least=1)
    tasks: int = setting("meta-test tasks", at_least=1)
    query: int | None = setting("query images a class; absent: one", at_least=1, default=None)


@dataclass(frozen=True, kw_only=True)
class SweepVariant:
    """One line of a sweep: what it has otherwise than the sweep's base; what is absent is the base's."""

    label: str = setting("printed name")
    algorithm: Literal["reptile", "last_step"] = setting("function of algorithms.py")
    sampling: Literal["cycle", "replacement"] | None = setting("as in a training", default=None)
    train_shot: int | None = setting("as in a training", at_least=1, default=None)
    query_shot: int | None = setting("as in a training; last_step's separate tail", at_least=1, default=None)


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """Trainings that differ in one setting and, line by line, in what a variant says: a panel of Figure 4.

    It stands for a training for each variant and value, named after its settings, so that the same settings in two
    sweeps are one training.
    """

    base: TrainingSettings = setting("all settings of a training; its algorithm is the variant's")
    varied: Literal["inner_steps", "inner_batch_size", "outer_step_size"] = setting("which setting of a training")
    values: tuple[float, ...] = setting("its values, ascending", above=0)
    variants: dict[str, SweepVariant] = setting("lines of the panel")

    def training(self, variant: str, value: float) -> TrainingSettings:
        """Resolve the training of one variant and value."""
        chosen = resolved(self.variants[variant])
        del chosen["label"]
        chosen[self.varied] = value if self.varied == "outer_step_size" else int(value)
        return dataclasses.replace(self.base, **chosen)


@dataclass(frozen=True, kw_only=True)
class AdaptationSettings:
    """Accuracy against inner steps at evaluation, for the evaluation of the same name."""

    inner_steps: tuple[int, ...] = setting("inner steps after which the task's queries are judged", at_least=0)
    tasks: int = setting("meta-test tasks", at_least=2)


@dataclass(frozen=True, kw_only=True)
class AlphabetSettings:
    """Which alphabets are taken for which, in the evaluation of the same name."""

    tasks: int = setting("meta-test tasks", at_least=2)


@dataclass(frozen=True, kw_only=True)
class ManifoldSettings:
    """Figure 2: iterates between two curves in the plane; manifolds.py says which."""

    start: tuple[float, ...] = setting("phi before the first outer step: x and y")
    inner_learning_rate: float = setting("alpha, on half the squared distance to the curve", above=0, at_most=1)
    inner_steps: int = setting("k, inner steps a task", at_least=1)
    outer_steps: int = setting("outer steps, one curve after the other", at_least=2)
    outer_step_size: float = setting("epsilon at the start, annealed linearly to 0", above=0, at_most=1)


@dataclass(frozen=True, kw_only=True)
class SineTrainingSettings:
    """One meta-training on sine waves (Figure 1)."""

    inner_learning_rate: float = setting("alpha, on the mean squared error", above=0)
    inner_steps: int = setting("inner steps a task", at_least=1)
    inner_batch_size: int = setting("points an inner step", at_least=1)
    meta_batch_size: int = setting("n, tasks an outer step", at_least=1)
    outer_steps: int = setting("outer steps", at_least=1)
    outer_step_size: float = setting("outer step size at the start, annealed linearly to 0", above=0)


@dataclass(frozen=True, kw_only=True)
class SineSettings:
    """Figure 1: regression on sine waves; sine.py says which settings are whose."""

    seed: int = setting("seed of all draws", at_least=0, at_most=LARGEST_SEED)
    hidden: int = setting("units in each of the two hidden layers", at_least=1)
    activation: Literal["relu", "tanh"] = setting("the paper has ReLU, the demonstration tanh")
    grid: int = setting("points in [-5, 5] that stand for the whole wave", at_least=2)
    support: int = setting("points of the grid, none twice, by which the network adapts to a new wave", at_least=1)
    evaluation_steps: tuple[int, ...] = setting("inner steps after which the loss is measured", at_least=0)
    evaluation_tasks: int = setting("new waves that the loss is averaged over", at_least=2)
    evaluation_learning_rate: float = setting("alpha at evaluation", above=0)
    drawn_tasks: int = setting("waves whose fits are drawn", at_least=1)
    reptile: SineTrainingSettings = setting("meta-training by Reptile")
    maml: SineTrainingSettings = setting("meta-training by MAML, second order, outer optimiser Adam")
    joint: SineTrainingSettings | None = setting(
        "joint training: Reptile with one inner step; absent: not trained", default=None
    )


@dataclass(frozen=True, kw_only=True)
class ExpansionSettings:
    """Section 5.1 on small smooth problems, over all orders of a task's mini-batches; theory.py."""

    seed: int = setting("seed of all draws", at_least=0, at_most=LARGEST_SEED)
    problems: tuple[Literal["regression", "classification"], ...] = setting("functions of theory.py")
    tasks: int = setting("tasks that the expectation is over", at_least=1)
    mini_batches: int = setting("n, mini-batches a task", at_least=2)
    batch_size: int = setting("points a mini-batch", at_least=1)
    hidden: int = setting("units in each hidden layer", at_least=1)
    inner_steps: tuple[int, ...] = setting("numbers k of gradients, at most n", at_least=2)
    learning_rates: tuple[float, ...] = setting("alpha, ascending: the ladder on which alpha goes to 0", above=0)


@dataclass(frozen=True, kw_only=True)
class InnerProductSettings:
    """Section 5.1's explanation: inner products of gradients while Reptile and joint training go on; inner_products.py.

    Joint training is the same training with one inner step and k times as many outer steps.
    """

    trainings: tuple[str, ...] = setting("Reptile trainings whose settings are taken, the outer steps excepted")
    outer_steps: int = setting("outer steps of Reptile, epsilon annealed over them", at_least=1)
    measurements: int = setting("times that it is measured after the start, evenly spaced", at_least=1)
    tasks: int = setting("meta-training tasks a measurement, the same at each", at_least=2)


@dataclass(frozen=True, kw_only=True)
class TheorySettings:
    """Section 5 of the paper, checked numerically."""

    expansion: ExpansionSettings = setting("E[g] against its leading-order expansion; needs no data")
    inner_products: InnerProductSettings = setting("what the expansion explains, measured while training")


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

    kind: Literal[
        "sine", "theory", "curves", "accuracies", "combinations", "sweeps", "manifolds", "adaptation", "alphabets"
    ] = setting("drawing function")
    title: str = setting("caption's first words")
    trainings: tuple[str, ...] = setting("trainings whose curves are drawn", default=())
    tables: tuple[str, ...] = setting("tables whose cells are drawn", default=())
    sweeps: tuple[str, ...] | None = setting("sweeps that are drawn, a panel each", default=None)
    evaluations: tuple[str, ...] | None = setting("entries of adaptations or alphabets that are drawn", default=None)


@dataclass(frozen=True, kw_only=True)
class Project:
    """Everything params.yaml says, checked."""

    title: str = setting("what these results are, in a line")
    data_folder: str = setting("where packed data lies, relative to params.yaml")
    seeds: tuple[int, ...] = setting("every training and evaluation is done for each", at_least=0, at_most=LARGEST_SEED)
    datasets: dict[str, DatasetSettings] = setting("image data sets")
    trainings: dict[str, TrainingSettings] = setting("meta-trainings, named algorithm/dataset-Nway[...]")
    evaluations: dict[str, EvaluationSettings] = setting("named algorithm/dataset-Nway/Kshot")
    tables: dict[str, TableSettings] = setting("tables of the report")
    figures: dict[str, FigureSettings] = setting("figures of the report")
    sine: SineSettings | None = setting("Figure 1", default=None)
    theory: TheorySettings | None = setting("section 5", default=None)
    manifolds: ManifoldSettings | None = setting("Figure 2", default=None)
    sweeps: dict[str, SweepSettings] | None = setting("Figure 4: many trainings in few lines", default=None)
    adaptations: dict[str, AdaptationSettings] | None = setting("by evaluation: accuracy along it", default=None)
    alphabets: dict[str, AlphabetSettings] | None = setting("by evaluation: errors by alphabet", default=None)
    length: Literal["full", "reduced"] = setting(
        "full: the trainings are the paper's, so that their accuracies are judged against it; reduced: only shown",
        default="reduced",
    )

    def pack_path(self, dataset: str) -> str:
        """Return where the packed data set lies, relative to the folder of params.yaml."""
        return f"{self.data_folder}/{self.dataset_name(dataset)}.npz"

    def dataset_name(self, dataset: str) -> str:
        """Return the name that a data set has in cells: its own or, for another cut of it, that of its pack."""
        return self.datasets[dataset].pack or dataset

    def cells(self) -> list[tuple[str, Mode, int]]:
        """List every cell as (evaluation, mode, seed)."""
        return [(name, mode, seed) for name in self.evaluations for mode in MODES for seed in self.seeds]

    def members_of_sweep(self, name: str) -> list[tuple[str, float, str]]:
        """List a sweep's trainings as (variant, value, name of the training)."""
        sweep = lookup(self.sweeps or {}, name, "sweep")
        members = []
        for variant in sweep.variants:
            for value in sweep.values:
                made = sweep.training(variant, value)
                about = f"{variant}-{made.inner_steps}x{made.inner_batch_size}-{made.outer_step_size:g}"
                dataset = self.dataset_name(made.dataset)
                members.append((variant, value, f"{made.algorithm}/{dataset}-{made.way}way-{about}"))
        return members

    def trainings_of_figure(self, name: str) -> list[str]:
        """List the trainings whose curves a figure draws, none twice."""
        figure = lookup(self.figures, name, "figure")
        swept = [training for sweep in figure.sweeps or () for _, _, training in self.members_of_sweep(sweep)]
        return list(dict.fromkeys([*figure.trainings, *swept]))

    def settings_of_training(self, name: str) -> dict[str, Any]:
        """Resolve all that decides a training's outcome, the seed excepted, as plain values."""
        training = lookup(self.trainings, name, "training")
        return {
            "numerics_version": firstorder.NUMERICS_VERSION,
            "dataset": resolved(self.datasets[training.dataset]),
            "training": resolved(training),
        }

    def settings_of_evaluation(self, name: str) -> dict[str, Any]:
        """Resolve all that decides an evaluation's outcome, the seed excepted, as plain values."""
        evaluation = lookup(self.evaluations, name, "evaluation")
        return {
            **self.settings_of_training(evaluation.training),
            "evaluation": resolved(evaluation),
        }

    def settings_of_adaptation(self, name: str) -> dict[str, Any]:
        """Resolve all that decides the accuracies along an evaluation, the seed excepted, as plain values."""
        return self._beside_evaluation(name, "adaptation", lookup(self.adaptations or {}, name, "adaptation"))

    def settings_of_alphabets(self, name: str) -> dict[str, Any]:
        """Resolve all that decides an evaluation's errors by alphabet, the seed excepted, as plain values."""
        return self._beside_evaluation(name, "alphabets", lookup(self.alphabets or {}, name, "entry of alphabets"))

    def _beside_evaluation(self, name: str, key: str, entry: Any) -> dict[str, Any]:
        settings = self.settings_of_evaluation(name)
        # Of the evaluation's own settings, those that the entry has stand in its place.
        own = {k: v for k, v in settings["evaluation"].items() if not hasattr(entry, k)}
        return {**settings, "evaluation": own, key: resolved(entry)}

    def settings_of_manifolds(self) -> dict[str, Any]:
        """Resolve all that decides Figure 2's numbers, as plain values."""
        if self.manifolds is None:
            raise UserError("params.yaml has no section `manifolds`; add one (the main params.yaml has an example)")
        return {"numerics_version": firstorder.NUMERICS_VERSION, "manifolds": resolved(self.manifolds)}

    def settings_of_sine(self) -> dict[str, Any]:
        """Resolve all that decides Figure 1's numbers, as plain values."""
        if self.sine is None:
            raise UserError("params.yaml has no section `sine`; add one (the main params.yaml has an example)")
        return {"numerics_version": firstorder.NUMERICS_VERSION, "sine": resolved(self.sine)}

    def settings_of_theory(self, training: str | None = None) -> dict[str, Any]:
        """Resolve all that decides the expansion's numbers or, of one training, the inner products', as plain values.

        The seed of the inner products is not among them, as with trainings.
        """
        if self.theory is None:
            raise UserError("params.yaml has no section `theory`; add one (the main params.yaml has an example)")
        if training is None:
            return {"numerics_version": firstorder.NUMERICS_VERSION, "expansion": resolved(self.theory.expansion)}
        products = resolved(self.theory.inner_products)
        lookup(dict.fromkeys(products.pop("trainings")), training, "training of `theory: inner_products`")
        values = self.settings_of_training(training)
        # Its own length and curve play no part.
        values["training"] = {k: v for k, v in values["training"].items() if k not in ("outer_steps", "curve")}
        return {**values, "inner_products": products}


def resolved(settings: Any) -> dict[str, Any]:
    """Return a dataclass of settings as plain values, without those that are None.

    A setting that only some entries have is None in the others, so adding such a setting makes no record stale.
    """

    def plain(value: Any) -> Any:
        return {key: plain(v) for key, v in value.items() if v is not None} if isinstance(value, dict) else value

    return {key: plain(value) for key, value in dataclasses.asdict(settings).items() if value is not None}


def digest(settings: dict[str, Any]) -> str:
    """Return the first 16 hex digits of the SHA-256 of `settings` as canonical JSON."""
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def lookup(known: dict[str, Any], name: str, what: str) -> Any:
    """Return `known[name]`, or raise UserError with the nearest name there is."""
    if name not in known:
        raise UserError(f"unknown {what} {name!r}{nearest(name, known)}; known are: {', '.join(known) or 'none'}")
    return known[name]
