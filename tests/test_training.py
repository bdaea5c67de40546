"""The outer loop: annealing, the last iterate, and the two ways to carry second moments."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from firstorder import settings, training
from firstorder.evaluation import ImagePool
from firstorder.training import Problem, annealed, checkpoint_of, draw_groups, outer_step, start


@pytest.fixture
def problem() -> Problem:
    """Set up Reptile on twenty classes of noise around a pattern of their own."""
    generator = np.random.default_rng(0)
    patterns = generator.random((20, 1, 1, 28, 28)) < 0.5
    noise = generator.random((20, 20, 1, 28, 28)) < 0.15
    images = (patterns ^ noise).astype(np.uint8)
    chosen = settings.TrainingSettings(
        algorithm="reptile",
        dataset="omniglot",
        network="omniglot",
        way=3,
        train_shot=4,
        sampling="cycle",
        inner_optimiser="adam",
        inner_learning_rate=1e-3,
        inner_steps=3,
        inner_batch_size=4,
        second_moments="carried",
        outer_steps=4,
        outer_step_size=1.0,
        outer_step_size_final=0.0,
        meta_batch_size=2,
        curve=settings.CurveSettings(every=2, tasks=3, shot=1, inner_steps=2, inner_batch_size=3),
    )
    pools = {
        "meta-train": ImagePool.of(images[:15], 1, torch.device("cpu")),
        "meta-test": ImagePool.of(images[15:], 1, torch.device("cpu")),
    }
    return Problem("reptile/omniglot-3way", chosen, 0, pools)


def with_settings(problem: Problem, **changes: object) -> Problem:
    return dataclasses.replace(problem, settings=dataclasses.replace(problem.settings, **changes))


def test_the_outer_step_size_falls_linearly_and_never_quite_to_the_end(problem):
    """Four steps from 1 to 0: 1, 3/4, 1/2, 1/4; and from 1 to 0.5: 1, 0.875, 0.75, 0.625."""
    assert [annealed(problem.settings, step) for step in range(4)] == pytest.approx([1, 0.75, 0.5, 0.25])
    half = dataclasses.replace(problem.settings, outer_step_size_final=0.5)
    assert [annealed(half, step) for step in range(4)] == pytest.approx([1, 0.875, 0.75, 0.625])


def test_carried_second_moments_see_every_inner_step(problem):
    progress = start(problem)
    outer_step(problem, problem.inner, progress)
    assert progress.state.second_moments.shape[0] == 1
    assert progress.state.steps == 2 * 3


def test_second_moments_per_lane_see_their_own_task_only(problem):
    problem = with_settings(problem, second_moments="per_lane")
    progress = start(problem)
    outer_step(problem, problem.inner, progress)
    assert progress.state.second_moments.shape[0] == 2
    assert progress.state.steps == 3
    assert not torch.equal(*progress.state.second_moments)
    averaged = checkpoint_of(problem, progress, {}).state
    torch.testing.assert_close(averaged.second_moments, progress.state.second_moments.mean(0, keepdim=True))


def test_both_ways_draw_the_same_tasks(problem):
    carried = draw_groups(problem, 5)
    per_lane = draw_groups(with_settings(problem, second_moments="per_lane"), 5)
    assert (len(carried), len(per_lane)) == (2, 1)
    for task in range(2):
        for step in range(3):
            for mine, theirs in zip(carried[task][step], per_lane[0][step], strict=True):
                assert torch.equal(mine[0], theirs[task])


def test_sgd_makes_both_ways_the_same_training(problem):
    """Without second moments the tasks of a meta-batch have nothing to hand on."""
    ends = []
    for way in ("carried", "per_lane"):
        chosen = with_settings(problem, second_moments=way, inner_optimiser="sgd")
        progress = start(chosen)
        outer_step(chosen, chosen.inner, progress)
        ends.append(progress.parameters)
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-6)


def test_the_last_outer_step_leaves_the_model(problem, tmp_path):
    """The result is the last iterate: one more step by hand gives the same as training one step longer."""
    ended = training.train(problem, tmp_path / "state", "identity")
    assert ended.outer_step == 4
    progress = start(problem)
    for _ in range(4):
        outer_step(problem, problem.inner, progress)
    assert torch.equal(progress.parameters, ended.parameters)


def test_the_curve_is_measured_on_schedule_in_both_pools_and_modes(problem, tmp_path):
    rows = training.train(problem, tmp_path / "state", "identity").curve
    assert [row[:5] for row in rows] == [
        [step, pool, mode, 1, 3]
        for step in (2, 4)
        for pool in ("meta-train", "meta-test")
        for mode in ("inductive", "transductive")
    ]
    assert all(0 <= float(row[5]) <= 1 and float(row[6]) >= 0 for row in rows)


def test_measuring_more_often_changes_no_training(problem, tmp_path):
    often = with_settings(problem, curve=dataclasses.replace(problem.settings.curve, every=1))
    ends = [training.train(p, tmp_path / "state", "identity").parameters for p in (problem, often)]
    assert torch.equal(*ends)


def test_an_untrained_model_is_the_initial_network(problem, tmp_path):
    chosen = with_settings(problem, algorithm="untrained", outer_steps=0)
    ended = training.train(chosen, tmp_path / "state", "identity")
    assert torch.equal(ended.parameters[0], problem.network.initial(0))
    assert ended.state.steps == 0
    assert ended.curve == []
