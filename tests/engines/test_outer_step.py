"""An outer step of several trainings on the device is that of method/training.py; see also test_trainings.py."""

from __future__ import annotations

import pytest
import torch

from firstorder.engines.graph import outer_step, schedule, trainings
from firstorder.engines.graph.outer_step import OuterStep
from firstorder.errors import UserError
from firstorder.method import inner_loop, training
from firstorder.method.images import ImagePool
from tests.engines.test_trainings import DEVICES, KINDS, engine, on, resumable
from tests.method.test_training import problem, with_settings  # noqa: F401 (a fixture)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("second_moments", ["carried", "per_lane"])
def test_one_outer_step_in_float32_differs_by_rounding(problem, tmp_path, second_moments, device):  # noqa: F811
    chosen = on(device, with_settings(problem, second_moments=second_moments), torch.float32)
    state = training.start(chosen)
    generator = torch.Generator().manual_seed(0)
    moments = 1e-2 + torch.rand(state.optimiser.second_moments.shape, generator=generator).to(device)
    state.optimiser = inner_loop.OptimiserState(moments, 0)
    begin = state.parameters
    step = OuterStep([chosen], [state], engine(chosen))
    step.load(schedule.draw([chosen], step.offsets, range(1)), 1)
    step.take()
    training.outer_step(chosen, chosen.inner, state)
    change = (state.parameters - begin).norm()
    assert 0 < (step.parameters - state.parameters).norm() <= 1e-3 * change


@pytest.mark.parametrize("device", DEVICES)
def test_a_meta_gradient_that_is_not_finite_is_reported_with_its_outer_step(problem, tmp_path, device):  # noqa: F811
    """Only seed 1 fails: its parameters are made infinite after the second outer step."""
    chosen = on(device, problem, torch.float32)
    both = [resumable(chosen, tmp_path, seed) for seed in (0, 1)]
    states = [training.start(one.problem) for one in both]
    problems = [one.problem for one in both]
    step = OuterStep(problems, states, engine(chosen))
    step.load(schedule.draw(problems, step.offsets, range(7, 11)), 4)
    for _ in range(2):
        step.take()
    step.parameters[1] = float("inf")
    step.take()
    with pytest.raises(UserError, match=r"seed 1: the meta-gradient is not finite at outer step 9; lower"):
        trainings.check_finite(step, problems, 7)


def test_each_pool_is_in_the_common_pool_once(problem):  # noqa: F811
    first = problem.pools["meta-train"]
    other = ImagePool(1 - first.images, first.class_images, first.scale)
    joined, begins = outer_step.common_pool([first, other, first])
    assert begins == [0, len(first.images), 0]
    assert torch.equal(joined.images, torch.cat([first.images, other.images]))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["carried", "per lane", "maml"])
def test_a_captured_step_gives_the_result_of_the_step(problem, kind):  # noqa: F811
    """Compare four replays with four direct steps, on the same device."""
    chosen = on("cuda", KINDS[kind](problem))
    ends = []
    for capture in (False, True):
        step = OuterStep([chosen], [training.start(chosen)], engine(chosen))
        step.load(schedule.draw([chosen], step.offsets, range(4)), 4)
        take = outer_step.captured(step) if capture else step.take
        for _ in range(4):
            take()
        ends.append(step.parameters.clone())
    change = ends[0] - training.start(chosen).parameters
    assert (ends[1] - ends[0]).norm() <= 1e-9 * change.norm()
