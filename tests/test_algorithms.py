"""Meta-gradients: identities that hold for any network."""

from __future__ import annotations

import pytest
import torch

from firstorder.algorithms import ALGORITHMS, reptile
from firstorder.inner_loop import InnerLoop, OptimiserState


def parabola(parameters: torch.Tensor, minimum: torch.Tensor) -> torch.Tensor:
    """Return (phi - minimum)^2 / 2 for each lane; the gradient is phi - minimum."""
    return (0.5 * (parameters - minimum[:, None]) ** 2).sum(dim=1)


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_reptile_with_one_sgd_step_is_the_ordinary_gradient():
    """Equations 6 and 7: with k = 1 the meta-gradient is alpha times the mean gradient over tasks.

    phi = 1, minima 3 and -2: gradients -2 and 3, mean 0.5, times alpha 0.1.
    """
    start = double(1.0)[None]
    groups = [[double(3.0)], [double(-2.0)]]
    meta_gradient, _ = reptile(InnerLoop(parabola, "sgd", 0.1), start, OptimiserState.fresh(start), groups)
    assert meta_gradient.item() == pytest.approx(0.05, rel=1e-14)


def test_reptile_with_sgd_sums_the_inner_gradients():
    """Two steps to minimum 3 from 1 with alpha 0.1: gradients -2 and -1.8; their sum times alpha is -0.38."""
    start = double(1.0)[None]
    groups = [[double(3.0), double(3.0)]]
    meta_gradient, _ = reptile(InnerLoop(parabola, "sgd", 0.1), start, OptimiserState.fresh(start), groups)
    assert meta_gradient.item() == pytest.approx(-0.38, rel=1e-14)


def test_carried_second_moments_flow_from_task_to_task():
    """Phi = 1, minima 3 and -2, one Adam step each: v is 0.004 for the second task's step, then 0.012996.

    v1 = 0.001*4 = 0.004; v2 = 0.999*0.004 + 0.001*9 = 0.012996.
    """
    start = double(1.0)[None]
    groups = [[double(3.0)], [double(-2.0)]]
    meta_gradient, state = reptile(InnerLoop(parabola, "adam", 0.1), start, OptimiserState.fresh(start), groups)
    assert state.steps == 2
    assert state.second_moments.item() == pytest.approx(0.012996, rel=1e-12)
    first = -0.1 * (1 - 0.999) ** 0.5 * 2 / (0.004**0.5 + 1e-8)
    second = 0.1 * (1 - 0.999**2) ** 0.5 * 3 / (0.012996**0.5 + 1e-8)
    assert meta_gradient.item() == pytest.approx((first + second) / 2, rel=1e-10)


def test_second_moments_per_lane_do_not_meet():
    """The same two tasks in one group: v = 0.001*4 and 0.001*9, each lane after one step of its own."""
    start = double(1.0)[None]
    state = OptimiserState.fresh(start.expand(2, -1))
    _, state = reptile(InnerLoop(parabola, "adam", 0.1), start, state, [[double(3.0, -2.0)]])
    assert state.steps == 1
    assert state.second_moments.flatten().tolist() == pytest.approx([0.004, 0.009], rel=1e-12)


def test_carried_and_per_lane_agree_for_sgd():
    """SGD has no memory, so tasks may be lanes without any change."""
    start = double(1.0)[None]
    inner = InnerLoop(parabola, "sgd", 0.1)
    steps = [double(3.0, -2.0, 5.0), double(1.0, 0.0, 2.0)]
    together, _ = reptile(inner, start, OptimiserState.fresh(start.expand(3, -1)), [steps])
    apart, _ = reptile(inner, start, OptimiserState.fresh(start), [[s[[t]] for s in steps] for t in range(3)])
    torch.testing.assert_close(together, apart, rtol=1e-14, atol=0)


def test_every_trainable_algorithm_is_registered():
    from typing import get_args, get_type_hints

    from firstorder.settings import TrainingSettings

    names = set(get_args(get_type_hints(TrainingSettings)["algorithm"]))
    assert names - set(ALGORITHMS) == {"untrained"}
