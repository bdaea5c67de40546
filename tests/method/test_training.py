"""The outer loop: annealing, the last iterate, and second moments carried or kept per lane."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from firstorder import settings
from firstorder.errors import UserError
from firstorder.method import training
from firstorder.method.images import ImagePool
from firstorder.method.training import (
    Problem,
    Resumable,
    TrainingState,
    checkpoint_of,
    draw_groups,
    outer_step,
    start,
    step_size,
)
from firstorder.records.states import StateFile


@pytest.fixture
def problem() -> Problem:
    """Set up Reptile on twenty classes: each class a random pattern, each image with noise."""
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


def test_the_outer_step_size_falls_linearly_and_does_not_reach_the_final_value(problem):
    """Four steps from 1 to 0: 1, 3/4, 1/2, 1/4; and from 1 to 0.5: 1, 0.875, 0.75, 0.625."""
    assert [step_size(problem.settings, step) for step in range(4)] == pytest.approx([1, 0.75, 0.5, 0.25])
    half = dataclasses.replace(problem.settings, outer_step_size_final=0.5)
    assert [step_size(half, step) for step in range(4)] == pytest.approx([1, 0.875, 0.75, 0.625])


def test_carried_second_moments_see_every_inner_step(problem):
    state = start(problem)
    outer_step(problem, problem.inner, state)
    assert state.optimiser.second_moments.shape[0] == 1
    assert state.optimiser.steps == 2 * 3


def test_second_moments_per_lane_depend_on_their_own_task_only(problem):
    problem = with_settings(problem, second_moments="per_lane")
    state = start(problem)
    outer_step(problem, problem.inner, state)
    assert state.optimiser.second_moments.shape[0] == 2
    assert state.optimiser.steps == 3
    assert not torch.equal(*state.optimiser.second_moments)
    averaged = checkpoint_of(problem, state, {}).state
    torch.testing.assert_close(averaged.second_moments, state.optimiser.second_moments.mean(0, keepdim=True))


def test_carried_and_per_lane_draw_the_same_tasks(problem):
    carried = draw_groups(problem, 5)
    per_lane = draw_groups(with_settings(problem, second_moments="per_lane"), 5)
    assert (len(carried), len(per_lane)) == (2, 1)
    for task in range(2):
        for step in range(3):
            for mine, theirs in zip(carried[task].batches[step], per_lane[0].batches[step], strict=True):
                assert torch.equal(mine[0], theirs[task])


def test_with_sgd_carried_and_per_lane_are_the_same_training(problem):
    """Without second moments, nothing is carried from task to task."""
    ends = []
    for second_moments in ("carried", "per_lane"):
        chosen = with_settings(problem, second_moments=second_moments, inner_optimiser="sgd")
        state = start(chosen)
        outer_step(chosen, chosen.inner, state)
        ends.append(state.parameters)
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-6)


def test_the_result_is_the_last_iterate(problem, tmp_path):
    """Taking the four outer steps one by one gives the same parameters."""
    ended = training.train(Resumable(problem, StateFile(tmp_path / "state", ("identity",))))
    assert ended.outer_step == 4
    state = start(problem)
    for _ in range(4):
        outer_step(problem, problem.inner, state)
    assert torch.equal(state.parameters, ended.parameters)


def test_the_curve_is_measured_on_schedule_in_both_pools_and_modes(problem, tmp_path):
    rows = training.train(Resumable(problem, StateFile(tmp_path / "state", ("identity",)))).curve
    assert [row[:5] for row in rows] == [
        [step, pool, mode, 1, 3]
        for step in (2, 4)
        for pool in ("meta-train", "meta-test")
        for mode in ("inductive", "transductive")
    ]
    assert all(0 <= float(row[5]) <= 1 and float(row[6]) >= 0 for row in rows)


def test_measuring_more_often_does_not_change_the_training(problem, tmp_path):
    often = with_settings(problem, curve=dataclasses.replace(problem.settings.curve, every=1))
    ends = [
        training.train(Resumable(p, StateFile(tmp_path / f"{p.settings.curve.every}", ("identity",)))).parameters
        for p in (problem, often)
    ]
    assert torch.equal(*ends)


def test_untrained_is_the_initial_network(problem, tmp_path):
    chosen = with_settings(problem, algorithm="untrained", outer_steps=0)
    ended = training.train(Resumable(chosen, StateFile(tmp_path / "state", ("identity",))))
    assert torch.equal(ended.parameters[0], problem.network.initial(0))
    assert ended.optimiser.steps == 0
    assert ended.curve == []


def with_query(problem: Problem, algorithm: str, **changes: object) -> Problem:
    """Return the problem as MAML needs it: two query images per class, SGD in the inner loop."""
    kind = {"algorithm": algorithm, "query_shot": 2, "inner_optimiser": "sgd", "second_moments": "per_lane"}
    return with_settings(problem, **{**kind, **changes})


def pool_positions(problem: Problem, images: torch.Tensor) -> set[int]:
    """Find the positions of images in the meta-train pool, all of whose images differ."""
    pool = problem.pools["meta-train"].images.float().flatten(1)
    return set(torch.cdist(images.flatten(0, -4).flatten(1), pool).argmin(dim=1).tolist())


def test_a_separate_tail_is_all_held_out_images_and_shares_none_with_the_inner_batches(problem):
    """Three classes with 4 support and 2 tail images: two inner steps, then the tail of 6 images."""
    (group,) = draw_groups(with_query(problem, "last_step"), 0)
    assert len(group.batches) == 2
    for lane in range(2):
        inside = set().union(*(pool_positions(problem, images[lane]) for images, _ in group.batches))
        assert not inside & pool_positions(problem, group.query[0][lane])
        assert group.query[1][lane].tolist() == [0, 0, 1, 1, 2, 2]


def test_a_shared_tail_consists_of_images_of_the_inner_batches(problem):
    """12 images in batches of 4: when cycling, the last of five batches repeats images of the others."""
    shared = with_settings(problem, algorithm="last_step", inner_steps=5)
    for group in draw_groups(shared, 0):
        assert group.query is None
        *first, last = [pool_positions(problem, images) for images, _ in group.batches]
        assert last <= set().union(*first)


@pytest.mark.parametrize("algorithm", ["fomaml", "maml"])
def test_the_query_set_shares_no_image_with_the_support_set(problem, algorithm):
    (group,) = draw_groups(with_query(problem, algorithm), 0)
    assert len(group.batches) == 3
    for lane in range(2):
        inside = set().union(*(pool_positions(problem, images[lane]) for images, _ in group.batches))
        assert not inside & pool_positions(problem, group.query[0][lane])


@pytest.mark.parametrize("algorithm", ["fomaml", "maml"])
def test_splitting_a_meta_batch_for_memory_does_not_change_the_training(problem, algorithm, monkeypatch):
    """With a small limit of pixels, tasks are adapted one by one; the parameters are the same up to rounding."""
    chosen = with_query(problem, algorithm)
    ends = []
    for pixels, groups in ((10**9, 1), (1, 2)):
        monkeypatch.setattr(training, "PIXELS_AT_ONCE", pixels)
        state = start(chosen)
        assert len(draw_groups(chosen, 0)) == groups
        outer_step(chosen, chosen.inner, state)
        ends.append(state.parameters)
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-5)


def test_the_outer_adam_is_tensorflows(problem):
    """From zero moments, the first step has the size of its rate for any gradient: 0.1 g / sqrt(0.001 g^2) ..."""
    chosen = with_settings(problem, outer_optimiser="adam", outer_step_size=0.01, outer_step_size_final=0.01).settings
    before = start(problem).parameters
    gradient = torch.full_like(before, -0.25)
    sizes = [training.step_size(chosen, step) for step in range(2)]
    after, moments = training.outer_update(chosen, before, before.new_zeros(2, 1, 1), gradient, sizes[0])
    torch.testing.assert_close(after - before, torch.full_like(before, 0.01), rtol=1e-3, atol=1e-6)
    # Second step with g = 0: m = 0.9 * -0.025, v = 0.999 * 0.001 / 16, rate 0.01 sqrt(1 - 0.999^2) / (1 - 0.81).
    again, _ = training.outer_update(chosen, after, moments, torch.zeros_like(before), sizes[1])
    rate = 0.01 * (1 - 0.999**2) ** 0.5 / (1 - 0.9**2)
    expected = rate * 0.0225 / ((0.999 * 0.001 / 16) ** 0.5 + 1e-8)
    torch.testing.assert_close(again - after, torch.full_like(before, expected), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("optimiser", "remedy"), [("adam", "use inner_optimiser: sgd"), ("sgd", "1e+30)")])
def test_a_meta_gradient_that_is_not_finite_names_its_cause(problem, optimiser, remedy):
    """Adam's root has no derivative at 0, where a second moment is before any gradient: that is no learning rate's."""
    rate = 1e-3 if optimiser == "adam" else 1e30
    chosen = with_settings(
        problem, algorithm="maml", query_shot=1, inner_optimiser=optimiser, inner_learning_rate=rate, inner_steps=2
    )
    with pytest.raises(UserError) as refused:
        outer_step(chosen, chosen.inner, start(chosen))
    assert str(refused.value).endswith(remedy)
    assert ("learning_rate" in str(refused.value)) == (optimiser == "sgd")


def test_the_meta_gradient_is_divided_and_clipped_entry_by_entry(problem, monkeypatch):
    """The step is epsilon times the meta-gradient, halved and clipped to 0.001: entries of +-0.004 move by 0.001."""
    chosen = with_query(problem, "fomaml", meta_loss_divisor=2.0, meta_gradient_clip=0.001)
    state = start(chosen)
    gradient = torch.linspace(-0.004, 0.004, state.parameters.shape[1])[None]
    monkeypatch.setitem(training.ALGORITHMS, "fomaml", lambda inner, phi, state, groups: (gradient, state))
    before = state.parameters
    outer_step(chosen, chosen.inner, state)
    torch.testing.assert_close(before - state.parameters, (gradient / 2).clamp(-0.001, 0.001), rtol=0, atol=1e-7)


@pytest.mark.parametrize("algorithm", ["reptile", "momentum", "last_step", "fomaml", "maml", "binomial"])
def test_every_algorithm_resumes_after_an_interruption_with_the_same_bytes(problem, algorithm, tmp_path, monkeypatch):
    chosen = problem
    if algorithm in ("fomaml", "maml", "binomial"):
        order = 1 if algorithm == "binomial" else None
        chosen = with_query(problem, algorithm, outer_optimiser="adam", outer_step_size=0.001, truncation_order=order)
    elif algorithm == "last_step":
        chosen = with_query(problem, algorithm, inner_optimiser="adam")
    elif algorithm == "momentum":
        chosen = with_settings(problem, inner_beta1=0.9)
    whole = training.train(Resumable(chosen, StateFile(tmp_path / "whole", ("identity",))))
    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", -1.0)
    original = training.outer_step

    def interrupted(problem: Problem, inner: object, state: TrainingState) -> None:
        if state.outer_step == 2:
            raise KeyboardInterrupt
        original(problem, inner, state)

    monkeypatch.setattr(training, "outer_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        training.train(Resumable(chosen, StateFile(tmp_path / "state", ("identity",))))
    monkeypatch.setattr(training, "outer_step", original)
    resumed = training.train(Resumable(chosen, StateFile(tmp_path / "state", ("identity",))))
    assert torch.equal(resumed.parameters, whole.parameters)
    assert resumed.tensors.keys() == whole.tensors.keys()
    assert ("first_moments" in resumed.tensors) == (algorithm == "momentum")
    assert all(torch.equal(tensor, whole.tensors[name]) for name, tensor in resumed.tensors.items())
    assert resumed.curve == whole.curve


@pytest.mark.parametrize("asked", [1, 2, 4, 7])
def test_a_stop_within_a_point_of_the_curve_saves_the_state_before_it(
    problem: Problem, tmp_path: Path, asked: int
) -> None:
    """25 tasks in chunks of 10 ask three times a pool. The point is measured again on going on, to the same bytes."""
    curve = dataclasses.replace(problem.settings.curve, tasks=25)
    problem = dataclasses.replace(problem, settings=dataclasses.replace(problem.settings, curve=curve))
    whole = training.train(Resumable(problem, StateFile(tmp_path / "whole", ("id",))))
    keeper = StateFile(tmp_path / "state.safetensors", ("id",))
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += inside
        return calls >= asked

    inside, known = 0, training.evaluate

    def counting(*arguments: Any, **options: Any) -> Any:
        nonlocal inside
        inside = 1
        try:
            return known(*arguments, **options)
        finally:
            inside = 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "evaluate", counting)
        stopped = training.train(Resumable(problem, keeper), stop=stop)
    every = problem.settings.curve.every
    assert stopped.outer_step % every == every - 1
    assert all(row[0] <= stopped.outer_step for row in stopped.curve)
    assert stopped.outer_step == keeper.load(problem).outer_step
    again = training.train(Resumable(problem, keeper))
    assert again.curve == whole.curve
    assert torch.equal(again.parameters, whole.parameters)
