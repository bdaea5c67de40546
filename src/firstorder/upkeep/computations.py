"""Everything that params.yaml asks to be computed, each with its cost and the files that it makes. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from firstorder.records import freshness
from firstorder.records.freshness import Expected
from firstorder.settings import EXPANSION, MANIFOLD_POINTS, MODES, SINE_FITS, SINE_LOSSES, Project
from firstorder.upkeep import costs
from firstorder.upkeep.costs import Work

Kind = Literal["training", "evaluation", "study"]
TRAINING, EVALUATION, STUDY = "training", "evaluation", "study"


@dataclass(frozen=True)
class Folder:
    """A folder with a params.yaml, and that file as a project."""

    root: Path
    project: Project


@dataclass(frozen=True, kw_only=True)
class Computation:
    """A training, an evaluation or a study, for every seed in `seeds`; a study without seeds has one, None.

    `settings` are all that decides its outcome. `needs` is the training whose checkpoint it starts from, if any.
    """

    kind: Kind
    name: str
    work: Work
    settings: Mapping[str, Any]
    seeds: tuple[int | None, ...]
    files: Callable[[int | None], list[Expected]] = field(compare=False)
    needs: str | None = None

    def states(self, root: Path) -> tuple[str, ...]:
        """Return for each seed whether it is done, stale or missing."""
        return tuple(freshness.state(root, *self.files(seed)) for seed in self.seeds)


def trainings(project: Project) -> Iterator[Computation]:
    """Yield the trainings in the order of params.yaml, those of sweeps last."""
    for name, training in project.trainings.items():
        yield Computation(
            kind="training",
            name=name,
            work=costs.of_training(training),
            settings=project.settings_of_training(name),
            seeds=project.seeds,
            files=partial(_curve, project, name),
        )


def evaluations(project: Project) -> Iterator[Computation]:
    """Yield the evaluations, each of which measures two cells."""
    for name, evaluation in project.evaluations.items():
        yield Computation(
            kind="evaluation",
            name=name,
            work=costs.of_evaluation(project.trainings[evaluation.training], evaluation),
            settings=project.settings_of_evaluation(name),
            seeds=project.seeds,
            files=partial(_cells, project, name),
            needs=evaluation.training,
        )


def studies(project: Project) -> Iterator[Computation]:
    """Yield what only figures show: probes of evaluations, Figures 1 and 2, and section 5."""
    for name in project.adaptations or {}:
        of = (costs.of_adaptation(project, name), project.settings_of_adaptation(name), freshness.adaptation)
        yield _probe(project, f"adaptation {name}", name, *of)
    for name in project.alphabets or {}:
        of = (costs.of_alphabets(project, name), project.settings_of_alphabets(name), freshness.alphabets)
        yield _probe(project, f"alphabets {name}", name, *of)
    if project.sine is not None:
        work, settings = costs.of_sine(project.sine), project.settings_of_sine()
        yield _simulation(project, "sine", work, settings, SINE_LOSSES, SINE_FITS)
    if project.manifolds is not None:
        work, settings = costs.of_manifolds(project.manifolds), project.settings_of_manifolds()
        yield _simulation(project, "manifolds", work, settings, MANIFOLD_POINTS)
    if project.theory is not None:
        work, settings = costs.of_expansion(project), project.settings_of_theory()
        yield _simulation(project, "theory", work, settings, EXPANSION)
        for name in project.theory.inner_products.trainings:
            yield Computation(
                kind="study",
                name=f"inner-products {name}",
                work=costs.of_inner_products(project, name),
                settings=project.settings_of_theory(name),
                seeds=project.seeds,
                files=partial(_products, project, name),
            )


def everything(project: Project) -> Iterator[Computation]:
    """Yield all of them: trainings, evaluations, studies."""
    yield from trainings(project)
    yield from evaluations(project)
    yield from studies(project)


def _curve(project: Project, name: str, seed: int | None) -> list[Expected]:
    return [freshness.curve(project, name, seed or 0)]


def _cells(project: Project, name: str, seed: int | None) -> list[Expected]:
    return [freshness.cell(project, name, mode, seed or 0) for mode in MODES]


def _products(project: Project, name: str, seed: int | None) -> list[Expected]:
    return [freshness.inner_products(project, name, seed or 0)]


def _probe(
    project: Project,
    title: str,
    evaluation: str,
    work: Work,
    settings: Mapping[str, Any],
    expected: Callable[[Project, str, int], Expected],
) -> Computation:
    def files(seed: int | None) -> list[Expected]:
        return [expected(project, evaluation, seed or 0)]

    return Computation(
        kind="study",
        name=title,
        work=work,
        settings=settings,
        seeds=project.seeds,
        files=files,
        needs=project.evaluations[evaluation].training,
    )


def _simulation(project: Project, name: str, work: Work, settings: Mapping[str, Any], *paths: str) -> Computation:
    def files(seed: int | None) -> list[Expected]:
        return [freshness.simulation(project, path) for path in paths]

    return Computation(kind="study", name=name, work=work, settings=settings, seeds=(None,), files=files)
