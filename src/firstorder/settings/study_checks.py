"""Checks of the sections beside trainings and evaluations: adaptations, alphabets, manifolds and theory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from firstorder.errors import UserError
from firstorder.settings.project import Project
from firstorder.settings.schema import check_reference
from firstorder.settings.studies import ExpansionSettings
from firstorder.settings.trainings import TrainingSettings

FEWEST_LEARNING_RATES = 4  # for the limit of alpha to 0 and the slope fitted on the way
LARGEST_EXPECTATION = 20_000  # tasks times orders; each is a lane, so MAML takes hundreds of MiB


def check_beside_evaluations(project: Project, where: str) -> None:
    """Check the sections whose entries are named after evaluations, and `manifolds`."""
    for section, names in (("adaptations", project.adaptations), ("alphabets", project.alphabets)):
        for name in names or {}:
            check_reference(f"{where}: {section}", "evaluation", name, "evaluations", project.evaluations)
    for name, adaptation in (project.adaptations or {}).items():
        place = f"{where}: adaptations: {name}"
        steps = adaptation.inner_steps
        if not steps or list(steps) != sorted(set(steps)):
            raise UserError(f"{place}: inner_steps: expected at least one, none twice, ascending; found {list(steps)}")
    if project.manifolds is not None and len(project.manifolds.start) != 2:
        raise UserError(f"{where}: manifolds: start: expected x and y, found {list(project.manifolds.start)}")


def check_theory(project: Project, where: str) -> None:
    """Check the section `theory`, if there is one."""
    if project.theory is None:
        return
    _check_expansion(project.theory.expansion, f"{where}: theory: expansion")
    products, place = project.theory.inner_products, f"{where}: theory: inner_products"
    if products.outer_steps % products.measurements:
        raise UserError(
            f"{place}: outer_steps {products.outer_steps} cannot be cut into {products.measurements} equal parts; "
            "change one of outer_steps and measurements"
        )
    for name in products.trainings:
        check_reference(place, "training", name, "trainings", project.trainings)
        _check_measured(project.trainings[name], f"{place}: training {name}")


def _check_expansion(expansion: ExpansionSettings, place: str) -> None:
    _check_distinct(expansion.problems, f"{place}: problems")
    _check_distinct(expansion.inner_steps, f"{place}: inner_steps")
    alphas = expansion.learning_rates
    if len(alphas) < FEWEST_LEARNING_RATES:
        raise UserError(
            f"{place}: learning_rates: expected at least {FEWEST_LEARNING_RATES}, to go to the limit of alpha 0, "
            f"found {list(alphas)}"
        )
    if list(alphas) != sorted(set(alphas)):
        raise UserError(f"{place}: learning_rates: expected them ascending and none twice, found {list(alphas)}")
    n = expansion.mini_batches
    for k in expansion.inner_steps:
        if k > n:
            raise UserError(f"{place}: inner_steps: a task has {n} mini_batches, so k is at most {n}; found {k}")
        if (lanes := expansion.tasks * math.perm(n, k)) > LARGEST_EXPECTATION:
            raise UserError(
                f"{place}: {k} of {n} mini-batches in every order for {expansion.tasks} tasks are {lanes:,} lanes, "
                f"more than {LARGEST_EXPECTATION:,}; lower tasks, mini_batches or inner_steps"
            )


def _check_distinct(values: Sequence[Any], place: str) -> None:
    if not values or len(set(values)) != len(values):
        raise UserError(f"{place}: expected at least one and none twice, found {list(values)}")


def _check_measured(training: TrainingSettings, place: str) -> None:
    """Check that inner products can be measured in a training and in the joint training derived from it."""
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
