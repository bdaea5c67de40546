"""The inner loop, on problems whose steps can be computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from firstorder.method.inner_loop import InnerLoop, OptimiserState, adapt, adapt_differentiably


def parabola(parameters: torch.Tensor, curvature: torch.Tensor) -> torch.Tensor:
    """Return curvature / 2 * phi^2 for each lane: gradient curvature * phi, Hessian curvature."""
    return (0.5 * curvature[:, None] * parameters**2).sum(dim=1)


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_sgd_on_a_parabola_is_arithmetic():
    """Phi = 4, curvature 1 then 2, alpha 0.1: 4 - 0.1*1*4 = 3.6, then 3.6 - 0.1*2*3.6 = 2.88."""
    start = double(4.0)[None]
    adapted, state = adapt(
        InnerLoop(parabola, "sgd", 0.1), start, OptimiserState.fresh(start), [double(1.0), double(2.0)]
    )
    assert adapted.item() == pytest.approx(2.88, rel=1e-15)
    assert state.steps == 0


def test_adam_on_a_parabola_is_arithmetic():
    """Phi = 4, curvature 1, alpha 0.1, from v = 9 after 1 step (so this is step t = 2).

    g = 4, v = 0.999*9 + 0.001*16 = 9.007, step 0.1*sqrt(1-0.999^2)*4/(sqrt(9.007)+1e-8).
    """
    start = double(4.0)[None]
    adapted, state = adapt(InnerLoop(parabola, "adam", 0.1), start, OptimiserState(double(9.0)[None], 1), [double(1.0)])
    expected = 4 - 0.1 * math.sqrt(1 - 0.999**2) * 4 / (math.sqrt(9.007) + 1e-8)
    assert adapted.item() == pytest.approx(expected, rel=1e-14)
    assert state.second_moments.item() == pytest.approx(9.007, rel=1e-14)
    assert state.steps == 2


def test_the_first_adam_step_has_the_size_of_alpha():
    """From v = 0: sqrt(1 - beta2) g / sqrt((1 - beta2) g^2) is the sign of g, whatever the size of g."""
    start = double(4.0, -0.002)[None]
    adapted, _ = adapt(InnerLoop(parabola, "adam", 0.1), start, OptimiserState.fresh(start), [double(1.0)])
    assert adapted[0].tolist() == pytest.approx([3.9, 0.098], rel=1e-3)


def test_lanes_are_independent():
    """Three lanes side by side end where each ends alone."""
    start = double(1.0, 2.0, 3.0)[:, None]
    curvature = [double(1.0, 2.0, 3.0), double(3.0, 1.0, 0.5)]
    inner = InnerLoop(parabola, "adam", 0.05)
    state = OptimiserState(double(1.0, 4.0, 0.0)[:, None], 7)
    together, moments = adapt(inner, start, state, curvature)
    for lane in range(3):
        alone, alone_moments = adapt(
            inner,
            start[[lane]],
            OptimiserState(state.second_moments[[lane]], 7),
            [c[[lane]] for c in curvature],
        )
        assert torch.equal(together[[lane]], alone)
        assert torch.equal(moments.second_moments[[lane]], alone_moments.second_moments)


def test_adaptation_does_not_change_its_start():
    start = double(4.0)[None]
    state = OptimiserState.fresh(start)
    adapted, _ = adapt(InnerLoop(parabola, "adam", 0.1), start, state, [double(1.0)])
    assert start.item() == 4.0
    assert not start.requires_grad
    assert not adapted.requires_grad
    assert state.second_moments.item() == 0.0


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_a_differentiable_adaptation_has_the_derivative_of_finite_differences(optimiser):
    """MAML differentiates through the inner steps. The loss is a quartic, so that second order matters."""

    def quartic(parameters: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        return ((parameters - shift[:, None]) ** 4).sum(dim=1)

    inner = InnerLoop(quartic, optimiser, 0.03)
    batches = [double(0.5), double(-0.2), double(0.1)]

    def end(value: float, differentiable: bool) -> tuple[torch.Tensor, torch.Tensor]:
        start = double(value, 0.7)[None].requires_grad_()
        state = OptimiserState(torch.full_like(start, 0.3), 5).lanes(1)
        adapting = adapt_differentiably if differentiable else adapt
        adapted, _ = adapting(inner, start, OptimiserState(state.second_moments.detach(), 5), batches)
        return adapted, start

    adapted, start = end(1.3, True)
    (derivative,) = torch.autograd.grad(adapted.sum(), start)
    step = 1e-6
    numeric = (end(1.3 + step, False)[0].sum() - end(1.3 - step, False)[0].sum()) / (2 * step)
    assert derivative[0, 0].item() == pytest.approx(numeric.item(), rel=1e-7)


def test_linear_inner_steps_have_the_product_of_their_jacobians():
    """On parabolas the derivative of two SGD steps is (1 - 0.1*1)(1 - 0.1*2) = 0.72."""
    start = double(4.0)[None].requires_grad_()
    state = OptimiserState.fresh(start.detach())
    adapted, _ = adapt_differentiably(InnerLoop(parabola, "sgd", 0.1), start, state, [double(1.0), double(2.0)])
    assert torch.autograd.grad(adapted.sum(), start)[0].item() == pytest.approx(0.72, rel=1e-15)
