"""Figure 1: regression on sine waves, before meta-training and after MAML, Reptile and joint training.

A wave has no classes: one adapted function must fit a whole curve from a few points. The paper (section 4) has 10
support points and 32 gradient steps at evaluation, with plain SGD as in the first author's public demonstration.

Two things differ from that demonstration: support points are distinct (it may draw one twice), and losses are means
over many new waves (it shows one). The figure shows that MAML and Reptile both learn to adapt. It does not compare
them, since their settings were not tuned alike (see sine_training.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from firstorder.errors import UserError
from firstorder.method.inner_loop import InnerLoop, OptimiserState, adapt
from firstorder.progress import UNKEPT, Kept, Track, silent
from firstorder.settings import SineSettings
from firstorder.studies.sine_network import SineNetwork, tensor_of
from firstorder.studies.sine_training import train, trained
from firstorder.studies.waves import Numbers, draw_orders, draw_waves, grid_of


@dataclass(frozen=True)
class NewWaves:
    """The waves of the evaluation: y on the whole grid and at the support points, float64 [tasks, points]."""

    grid: Numbers  # x, [grid]
    truth: Numbers  # [tasks, grid]
    support: Numbers  # x, [tasks, support]
    support_truth: Numbers

    @staticmethod
    def draw(settings: SineSettings) -> NewWaves:
        """Draw all waves of the evaluation and their support points, which are distinct within a task."""
        tasks, grid = range(settings.evaluation_tasks), grid_of(settings.grid)
        waves = draw_waves(settings.seed, "sine evaluation", tasks)
        order = draw_orders(settings.seed, "sine evaluation", tasks, 1, settings.grid)
        support = grid[order[:, : settings.support]]
        return NewWaves(grid, waves.at(grid), support, waves.at(support))


def evaluate(settings: SineSettings, initial: Tensor, waves: NewWaves) -> dict[int, Numbers]:
    """Adapt phi [1, parameters] to every new wave; return the predictions on the grid, [tasks, grid].

    Keys are the numbers of inner steps: 0 and those of `evaluation_steps`. Every step uses all support points.
    """
    network = SineNetwork(settings.hidden, settings.activation)
    predict = network.predictor()
    inner = InnerLoop(network.loss(), "sgd", settings.evaluation_learning_rate)
    batch = tensor_of(waves.support), tensor_of(waves.support_truth)
    x = tensor_of(np.broadcast_to(waves.grid, waves.truth.shape))
    parameters, taken, predictions = initial.expand(len(waves.truth), -1), 0, {}
    state = OptimiserState.fresh(parameters)
    for inner_steps in sorted({0, *settings.evaluation_steps}):
        parameters, state = adapt(inner, parameters, state, [batch] * (inner_steps - taken))
        predictions[inner_steps] = predict(parameters, x)[:, :, 0].numpy().astype(np.float64)
        taken = inner_steps
    return predictions


def simulate(
    settings: SineSettings, track: Track = silent, kept: Kept = UNKEPT
) -> tuple[list[list[Any]], list[list[Any]]]:
    """Compute Figure 1: rows of columns.SINE_LOSSES and of columns.SINE_FITS.

    A loss is the mean squared error over the grid, averaged over new waves; its standard error is over waves. It is
    computed for every seed, which has its own waves and trainings. Fits are those of the first seed, for the first
    `drawn_tasks` of its waves, before and after all inner steps; `truth` is the wave itself and
    `support` the points adapted to. Raises UserError for inconsistent settings.
    """
    check(settings)
    done = kept.load()  # phi of the finished trainings, by algorithm and seed
    losses: list[list[Any]] = []
    fits: list[list[Any]] = []
    for seed in settings.seeds:
        of_seed = replace(settings, seed=seed)
        waves = NewWaves.draw(of_seed)
        predictions = _predictions(of_seed, waves, done, track, kept)
        for name, predicted in predictions.items():
            for inner_steps in settings.evaluation_steps:
                found = _mean_loss(name, inner_steps, predicted[inner_steps], waves)
                losses.append([seed, name, inner_steps, settings.evaluation_tasks, *found])
        if seed == settings.seed:
            fits = _fits(settings, predictions, waves)
    return losses, fits


def _predictions(
    settings: SineSettings, waves: NewWaves, done: dict[str, Any], track: Track, kept: Kept
) -> dict[str, dict[int, Numbers]]:
    """Train with one seed what is not `done`; return every algorithm's predictions for the new waves, see evaluate."""
    before = SineNetwork(settings.hidden, settings.activation).initial(settings.seed)
    predictions = {"random initialisation": evaluate(settings, before, waves)}
    for name in trained(settings):
        key = f"{name} {settings.seed}"
        if key not in done:
            done[key] = train(settings, name, track).numpy(force=True)
            kept.keep(done)
        predictions[name] = evaluate(settings, torch.from_numpy(done[key]), waves)
    return predictions


def _fits(settings: SineSettings, predictions: dict[str, dict[int, Numbers]], waves: NewWaves) -> list[list[Any]]:
    """Return rows of columns.SINE_FITS for the first `drawn_tasks` waves."""
    fits: list[list[Any]] = []
    for task in range(settings.drawn_tasks):
        fits += _curve(task, "truth", 0, waves.grid, waves.truth[task])
        fits += _curve(task, "support", 0, waves.support[task], waves.support_truth[task])
        for name, predicted in predictions.items():
            for inner_steps in sorted({0, settings.evaluation_steps[-1]}):
                fits += _curve(task, name, inner_steps, waves.grid, predicted[inner_steps][task])
    return fits


def check(settings: SineSettings) -> None:
    """Raise UserError where settings contradict each other."""
    steps = settings.evaluation_steps
    if not steps or list(steps) != sorted(set(steps)):
        raise UserError(
            "sine: evaluation_steps: expected at least one number of inner steps, in ascending order without "
            f"duplicates, found {list(steps)}"
        )
    if settings.joint is not None and settings.joint.inner_steps != 1:
        raise UserError(f"sine: joint: joint training has inner_steps: 1, found {settings.joint.inner_steps}")
    if len(set(settings.seeds)) < len(settings.seeds):
        raise UserError(f"sine: further_seeds: expected no seed twice, found {list(settings.seeds)} in all")
    grid, points = settings.grid, "the points of the grid"
    _at_most(grid, points, "support", settings.support)
    _at_most(settings.evaluation_tasks, "evaluation_tasks", "drawn_tasks", settings.drawn_tasks)
    _at_most(grid, points, "reptile: inner_batch_size", settings.reptile.inner_batch_size)
    _at_most(grid - 1, f"{points} minus one for the query", "maml: inner_batch_size", settings.maml.inner_batch_size)


def _at_most(limit: int, meaning: str, name: str, value: int) -> None:
    """Raise UserError where the setting `name` exceeds `limit`."""
    if value > limit:
        raise UserError(f"sine: {name}: expected at most {limit} ({meaning}), found {value}; lower it")


def _mean_loss(name: str, inner_steps: int, predicted: Numbers, waves: NewWaves) -> list[str]:
    """Return the mean squared error over the grid, averaged over waves, and its standard error, as printed."""
    errors = ((predicted - waves.truth) ** 2).mean(axis=1)
    if not np.isfinite(errors).all():
        raise UserError(
            f"sine: {name} after {inner_steps} inner steps: {np.count_nonzero(~np.isfinite(errors))} of {len(errors)} "
            "fits are not finite; lower evaluation_learning_rate"
        )
    return [f"{errors.mean():.6f}", f"{errors.std(ddof=1) / math.sqrt(len(errors)):.6f}"]


def _curve(task: int, algorithm: str, inner_steps: int, x: Numbers, y: Numbers) -> list[list[Any]]:
    """Return a row of columns.SINE_FITS for each point of a curve."""
    return [[task, algorithm, inner_steps, f"{a:.6f}", f"{b:.6f}"] for a, b in zip(x, y, strict=True)]
