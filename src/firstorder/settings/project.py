"""All of params.yaml as one frozen dataclass, and the resolved settings of each result.

The command line and Snakemake (as a rule's `params:`) use the same resolved settings, and their digest is written into
every record. So a number is rebuilt when, and only when, the settings returned here for it change. No torch, no data.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import firstorder
from firstorder.errors import UserError
from firstorder.settings.digests import resolved
from firstorder.settings.paths import RECORD
from firstorder.settings.report import FigureSettings, TableSettings
from firstorder.settings.schema import LARGEST_SEED, nearest, setting
from firstorder.settings.studies import ManifoldSettings, SineSettings, TheorySettings
from firstorder.settings.trainings import (
    MODES,
    AdaptationSettings,
    AlphabetSettings,
    DatasetSettings,
    EvaluationSettings,
    Mode,
    SweepSettings,
    TrainingSettings,
)

FEW = 8  # names, which a message lists in full


class Cell(NamedTuple):
    """One cell of a table, for one seed."""

    evaluation: str
    mode: Mode
    seed: int

    @property
    def path(self) -> str:
        """The path of its record, relative to the folder of params.yaml."""
        return RECORD.format(evaluation=self.evaluation, mode=self.mode, seed=self.seed)


class SweepMember(NamedTuple):
    """One training of a sweep."""

    variant: str
    value: float
    training: str


@dataclass(frozen=True, kw_only=True)
class Project:
    """Everything params.yaml says, checked."""

    title: str = setting("what these results are, in one line")
    data_folder: str = setting("folder of the packed data, relative to params.yaml")
    seeds: tuple[int, ...] = setting(
        "every training and evaluation is done for each seed", at_least=0, at_most=LARGEST_SEED
    )
    datasets: dict[str, DatasetSettings] = setting("image data sets")
    trainings: dict[str, TrainingSettings] = setting("meta-trainings, named algorithm/dataset-Nway[...]")
    evaluations: dict[str, EvaluationSettings] = setting("named algorithm/dataset-Nway/Kshot")
    tables: dict[str, TableSettings] = setting("tables of the report")
    figures: dict[str, FigureSettings] = setting("figures of the report")
    sine: SineSettings | None = setting("Figure 1", default=None)
    theory: TheorySettings | None = setting("section 5", default=None)
    manifolds: ManifoldSettings | None = setting("Figure 2", default=None)
    sweeps: dict[str, SweepSettings] | None = setting("Figure 4: many trainings in few lines", default=None)
    adaptations: dict[str, AdaptationSettings] | None = setting(
        "by evaluation: accuracy against its inner steps", default=None
    )
    alphabets: dict[str, AlphabetSettings] | None = setting("by evaluation: errors by alphabet", default=None)
    length: Literal["full", "study", "reduced"] = setting(
        "full: trainings are as long as the paper's, so accuracies are judged against it; study: as long as the claims "
        "of the study's own claims.yaml are about; reduced: accuracies are only shown",
        default="reduced",
    )

    @property
    def is_judged(self) -> bool:
        """Whether claims are judged at this length."""
        return self.length != "reduced"

    def pack_path(self, dataset: str) -> str:
        """Return the path of the packed data set, relative to the folder of params.yaml."""
        return f"{self.data_folder}/{self.dataset_name(dataset)}.npz"

    def dataset_name(self, dataset: str) -> str:
        """Return the data set's name in cells: that of its pack if it splits another data set's pack, else its own."""
        return self.datasets[dataset].pack or dataset

    def cells(self) -> list[Cell]:
        """List every cell, in the order of params.yaml."""
        return [Cell(name, mode, seed) for name in self.evaluations for mode in MODES for seed in self.seeds]

    def algorithms_named(self, text: str) -> list[str]:
        """Return the algorithms in a text like reptile+untrained; raises UserError for one that there is not."""
        known = dict.fromkeys(typing.get_args(typing.get_type_hints(TrainingSettings)["algorithm"]))
        names = text.split("+")
        for name in names:
            lookup(known, name, "algorithm")
        return names

    def members_of_sweep(self, name: str) -> list[SweepMember]:
        """List a sweep's trainings."""
        sweep = lookup(self.sweeps or {}, name, "sweep")
        members = []
        for variant in sweep.variants:
            for value in sweep.values:
                made = sweep.training(variant, value)
                about = f"{variant}-{made.inner_steps}x{made.inner_batch_size}-{made.outer_step_size:g}"
                dataset = self.dataset_name(made.dataset)
                members.append(SweepMember(variant, value, f"{made.algorithm}/{dataset}-{made.way}way-{about}"))
        return members

    def trainings_of_figure(self, name: str) -> list[str]:
        """List the distinct trainings whose curves a figure draws."""
        figure = lookup(self.figures, name, "figure")
        swept = [member.training for sweep in figure.sweeps or () for member in self.members_of_sweep(sweep)]
        return list(dict.fromkeys([*figure.trainings, *swept]))

    def section(self, name: str) -> Any:
        """Return an optional section; raises UserError if params.yaml has none."""
        if (found := getattr(self, name)) is None:
            raise UserError(f"params.yaml has no section `{name}`; add one (the main params.yaml has an example)")
        return found

    # --- Resolved settings: all that decides an outcome, as plain values, except the seed of a training ---

    def settings_of_training(self, name: str) -> dict[str, Any]:
        """Resolve all that decides a training's outcome, except its seed."""
        training = lookup(self.trainings, name, "training")
        return _numbered(dataset=resolved(self.datasets[training.dataset]), training=resolved(training))

    def settings_of_evaluation(self, name: str) -> dict[str, Any]:
        """Resolve all that decides an evaluation's outcome, except its seed."""
        evaluation = lookup(self.evaluations, name, "evaluation")
        return {**self.settings_of_training(evaluation.training), "evaluation": resolved(evaluation)}

    def settings_of_adaptation(self, name: str) -> dict[str, Any]:
        """Resolve all that decides an evaluation's accuracies against inner steps, except its seed."""
        return self._beside_evaluation(name, "adaptation", lookup(self.adaptations or {}, name, "adaptation"))

    def settings_of_alphabets(self, name: str) -> dict[str, Any]:
        """Resolve all that decides an evaluation's errors by alphabet, except its seed."""
        return self._beside_evaluation(name, "alphabets", lookup(self.alphabets or {}, name, "entry of alphabets"))

    def _beside_evaluation(self, name: str, key: str, entry: AdaptationSettings | AlphabetSettings) -> dict[str, Any]:
        settings = self.settings_of_evaluation(name)
        # Settings of the entry replace the evaluation's settings of the same name.
        own = {k: v for k, v in settings["evaluation"].items() if not hasattr(entry, k)}
        return {**settings, "evaluation": own, key: resolved(entry)}

    def settings_of_manifolds(self) -> dict[str, Any]:
        """Resolve all that decides Figure 2's numbers."""
        return _numbered(manifolds=resolved(self.section("manifolds")))

    def settings_of_sine(self) -> dict[str, Any]:
        """Resolve all that decides Figure 1's numbers."""
        return _numbered(sine=resolved(self.section("sine")))

    def settings_of_theory(self, training: str | None = None) -> dict[str, Any]:
        """Resolve all that decides the expansion's numbers or, given a training, its inner products except the seed."""
        theory = self.section("theory")
        if training is None:
            return _numbered(expansion=resolved(theory.expansion))
        products = resolved(theory.inner_products)
        lookup(dict.fromkeys(products.pop("trainings")), training, "training of `theory: inner_products`")
        values = self.settings_of_training(training)
        # The measurement has its own number of outer steps and no learning curve.
        values["training"] = {k: v for k, v in values["training"].items() if k not in ("outer_steps", "curve")}
        return {**values, "inner_products": products}


def _numbered(**settings: dict[str, Any]) -> dict[str, Any]:
    """Put the numerics version before resolved settings: raising it makes every result stale."""
    return {"numerics_version": firstorder.NUMERICS_VERSION, **settings}


def lookup(known: Mapping[str, Any], name: str, what: str) -> Any:
    """Return `known[name]`; raises UserError with the nearest known names if there is none."""
    if name in known:
        return known[name]
    if len(known) <= FEW:
        raise UserError(f"unknown {what} {name!r}{nearest(name, known)}; known are: {', '.join(known) or 'none'}")
    planned = {"training": "trainings", "evaluation": "evaluations", "cell": "evaluations"}
    listed = f"firstorder plan lists the {planned[what]}" if what in planned else "params.yaml has all of them"
    raise UserError(f"unknown {what} {name!r}{nearest(name, known, 3)}; {listed}")
