"""Adam with beta1 > 0 in the inner loop: against arithmetic, against torch's own Adam, and what is kept of it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from firstorder.method import training
from firstorder.method.algorithms import Group, reptile
from firstorder.method.evaluation import correct_answers, evaluation_shape
from firstorder.method.inner_loop import InnerLoop, OptimiserState, Plain, adapt
from firstorder.method.tasks import Draws
from firstorder.method.training import Problem, TrainingState, checkpoint_of, outer_step, start
from tests.method.test_training import problem, with_query, with_settings

__all__ = ["problem"]  # a fixture


def parabola(parameters: torch.Tensor, curvature: torch.Tensor) -> torch.Tensor:
    """Return curvature / 2 * phi^2 for each lane: gradient curvature * phi."""
    return (0.5 * curvature[:, None] * parameters**2).sum(dim=1)


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def stepped(given: Problem, outer_steps: int = 2) -> TrainingState:
    state = start(given)
    for _ in range(outer_steps):
        outer_step(given, given.inner, state)
    return state


def test_a_step_is_arithmetic():
    """Phi = 4, curvature 1, alpha 0.1, beta1 0.5, from m = 2 and v = 9 after 1 step (so this is step t = 2).

    g = 4, m = 0.5*2 + 0.5*4 = 3, v = 0.999*9 + 0.001*16 = 9.007,
    step 0.1 * sqrt(1-0.999^2) / (1-0.5^2) * 3 / (sqrt(9.007)+1e-8).
    """
    inner, start = InnerLoop(parabola, "adam", 0.1, beta1=0.5), double(4.0)[None]
    adapted, state = adapt(inner, start, OptimiserState(double(9.0)[None], 1, double(2.0)[None]), [double(1.0)])
    expected = 4 - 0.1 * math.sqrt(1 - 0.999**2) / 0.75 * 3 / (math.sqrt(9.007) + 1e-8)
    assert adapted.item() == pytest.approx(expected, rel=1e-14)
    assert state.second_moments.item() == pytest.approx(9.007, rel=1e-14)
    assert state.first_moments.item() == pytest.approx(3.0, rel=1e-14)
    assert state.steps == 2


@pytest.mark.parametrize("beta1", [0.5, 0.9])
def test_reptile_is_torchs_adam_that_is_never_reset(beta1: float):
    """One torch.optim.Adam for all tasks, whose parameter is put back to phi before each of them.

    The two differ in where epsilon is added, by 1e-8 of a step.
    """
    generator = torch.Generator().manual_seed(0)
    curvatures = 0.5 + torch.rand(3, 4, 5, generator=generator, dtype=torch.float64)  # outer steps, tasks, inner steps
    inner, phi = InnerLoop(parabola, "adam", 0.05, beta1=beta1), double(1.0, -2.0, 0.5)[None]
    theirs, state = phi.clone(), OptimiserState.fresh(phi, beta1)
    weight = phi.clone().requires_grad_()
    reference = torch.optim.Adam([weight], lr=0.05, betas=(beta1, 0.999), eps=1e-8)
    for tasks in curvatures:
        meta_gradient, state = reptile(inner, phi, state, [Group([one[None] for one in task]) for task in tasks])
        phi = phi - 0.3 * meta_gradient
        ends = []
        for task in tasks:
            weight.data.copy_(theirs)
            for one in task:
                reference.zero_grad()
                parabola(weight, one[None]).sum().backward()
                reference.step()
            ends.append(weight.detach().clone())
        theirs = theirs + 0.3 * (torch.stack(ends).mean(dim=0) - theirs)
    torch.testing.assert_close(phi, theirs, rtol=1e-6, atol=0)
    torch.testing.assert_close(state.first_moments, reference.state[weight]["exp_avg"], rtol=1e-6, atol=1e-9)
    assert state.steps == 3 * 4 * 5 == int(reference.state[weight]["step"])


def test_beta1_of_0_is_the_training_without_it(problem: Problem):
    """To the byte, and without first moments."""
    zero = stepped(with_settings(problem, inner_beta1=0.0))
    assert torch.equal(zero.parameters, stepped(problem).parameters)
    assert zero.tensors.keys() == {"parameters", "second_moments", "outer_moments"}
    assert not torch.equal(zero.parameters, stepped(with_settings(problem, inner_beta1=0.5)).parameters)


@pytest.mark.parametrize("kind", ["carried", "per_lane"])
def test_first_moments_are_kept_wherever_second_moments_are(problem: Problem, kind: str):
    state = stepped(with_settings(problem, inner_beta1=0.9, second_moments=kind)).optimiser
    assert state.first_moments.shape == state.second_moments.shape
    assert len(state.first_moments) == (1 if kind == "carried" else 2)
    assert state.first_moments.any()


def test_carried_momentum_reaches_the_next_task(problem: Problem):
    """The second task of an outer step does not start where it would with a state of its own."""
    chosen = with_settings(problem, inner_beta1=0.9)
    first, second = training.draw_groups(chosen, 0)
    fresh = start(chosen)
    _, carried = adapt(chosen.inner, fresh.parameters, fresh.optimiser, first.batches)
    kept = dataclasses.replace(carried, first_moments=torch.zeros_like(carried.first_moments))
    with_momentum, without = (adapt(chosen.inner, fresh.parameters, one, second.batches)[0] for one in (carried, kept))
    assert (with_momentum - without).norm() > 0.1 * (without - fresh.parameters).norm()
    expected, _ = chosen.algorithm(chosen.inner, fresh.parameters, fresh.optimiser, [first, second])
    alone, _ = chosen.algorithm(chosen.inner, fresh.parameters, fresh.optimiser, [first])
    torch.testing.assert_close(2 * expected - alone, fresh.parameters - with_momentum, rtol=1e-4, atol=1e-6)


def evaluated(given: Problem, state: OptimiserState, parameters: torch.Tensor) -> torch.Tensor:
    """Return what the first evaluation task is adapted to, from this state."""
    pool = given.pools["meta-test"]
    shape = evaluation_shape(pool, given.settings.way, given.settings.curve)
    draws = Draws(title="", shape=shape, seed=0, purpose="test", step=0, tasks=2)
    task = Plain().task_images(pool, draws, range(2), parameters.dtype)
    checkpoint = training.Checkpoint(parameters, state, {})
    correct_answers(given.inner, checkpoint, task)
    return adapt(given.inner, parameters.expand(2, -1), state.lanes(2), task.batches)[0]


@pytest.mark.parametrize("kind", ["carried", "per_lane"])
def test_an_evaluation_starts_from_the_trained_moments_and_leaves_them(problem: Problem, kind: str):
    """Kept per lane, they are averaged over the lanes."""
    chosen = with_settings(problem, inner_beta1=0.9, second_moments=kind)
    state = stepped(chosen)
    checkpoint = checkpoint_of(chosen, state, {})
    wanted = state.optimiser.first_moments.mean(dim=0, keepdim=True)
    torch.testing.assert_close(checkpoint.state.first_moments, wanted)
    before = checkpoint.state.first_moments.clone()
    found = evaluated(chosen, checkpoint.state, checkpoint.parameters)
    assert torch.equal(checkpoint.state.first_moments, before)
    forgotten = dataclasses.replace(checkpoint.state, first_moments=torch.zeros_like(before))
    assert not torch.equal(found, evaluated(chosen, forgotten, checkpoint.parameters))


def test_a_task_of_fomaml_starts_without_momentum(problem: Problem):
    """Nothing is remembered from task to task, so evaluation starts from nothing too."""
    chosen = with_query(problem, "fomaml", inner_optimiser="adam", inner_beta1=0.9)
    state = stepped(chosen)
    assert len(state.optimiser.first_moments) == 1
    assert not state.optimiser.first_moments.any()
    assert state.optimiser.steps == 0
    changed = stepped(with_query(problem, "fomaml", inner_optimiser="adam"))
    assert not torch.equal(state.parameters, changed.parameters)


def test_the_derivative_through_the_steps_is_that_of_finite_differences():
    def quartic(parameters: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        return ((parameters - shift[:, None]) ** 4).sum(dim=1)

    inner, batches = InnerLoop(quartic, "adam", 0.03, beta1=0.9), [double(0.5), double(-0.2), double(0.1)]

    def end(value: float) -> float:
        point = double(value, 0.7)[None]
        state = OptimiserState(torch.full_like(point, 0.3), 5, torch.full_like(point, -0.1))
        adapted, _ = adapt(inner, point, state, batches)
        return quartic(adapted, double(0.3)).item()

    point = double(1.3, 0.7)[None]
    state = OptimiserState(torch.full_like(point, 0.3), 5, torch.full_like(point, -0.1))
    found = inner.engine.gradient_through(inner, point, state, batches, double(0.3))
    assert found[0, 0].item() == pytest.approx((end(1.3 + 1e-6) - end(1.3 - 1e-6)) / 2e-6, rel=1e-7)


@pytest.mark.parametrize(("beta1", "first"), [(0.0, True), (0.9, False)])
def test_a_state_of_another_beta1_is_never_stepped_from(beta1: float, first: bool):
    """So a state whose momentum was lost on the way cannot give numbers."""
    point = double(1.0)[None]
    state: Any = OptimiserState.fresh(point, 0.9 if first else 0.0)
    with pytest.raises(AssertionError, match="first moments go with beta1 > 0"):
        adapt(InnerLoop(parabola, "adam", 0.1, beta1=beta1), point, state, [double(1.0)])
