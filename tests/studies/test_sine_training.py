"""Meta-training on sine waves: draws, the outer step, and meta-gradients."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from firstorder.method.inner_loop import InnerLoop
from firstorder.studies import sine_training
from firstorder.studies.sine_network import Points, SineNetwork
from firstorder.studies.waves import draw_orders, draw_waves, grid_of
from tests.studies.sine_settings import small, training


def double_network(hidden: int = 5) -> tuple[InnerLoop, torch.Tensor]:
    """Return an inner loop on a small tanh network (smooth, so that finite differences converge) and its phi."""
    network = SineNetwork(hidden, "tanh")
    return InnerLoop(network.loss(), "sgd", 0.05), network.initial(seed=1).double()


def double_points(lanes: int, points: int) -> Points:
    waves = draw_waves(0, "test", range(lanes))
    x = grid_of(points)[draw_orders(0, "test", range(lanes), 1, points)]
    return torch.from_numpy(x)[..., None], torch.from_numpy(waves.at(x))[..., None]


def test_outer_steps_draw_the_same_tasks_whatever_the_meta_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six tasks: one per outer step, drawn four outer steps at a time, or two per outer step in one draw."""
    monkeypatch.setattr(sine_training, "OUTER_STEPS_PER_DRAW", 4)
    single = list(sine_training.draw_training(small(), training(outer_steps=6), shuffles=1))
    pairs = list(sine_training.draw_training(small(), training(outer_steps=3, meta_batch_size=2), shuffles=1))
    assert (len(single), len(pairs)) == (6, 3)
    for side in (0, 1):
        assert single[0][side].shape == (1, 12, 1)
        torch.testing.assert_close(
            torch.cat([p[side] for p in single]), torch.cat([p[side] for p in pairs]), rtol=0, atol=0
        )


def test_reptile_step_is_the_demonstrations_loop() -> None:
    """One task: an epoch over shuffled points in mini-batches, then phi + epsilon (adapted - phi)."""
    chosen = training(inner_steps=3, inner_batch_size=4, outer_steps=1)
    trained = sine_training.train(small(reptile=chosen), "reptile")
    start = SineNetwork(8, "relu").initial(3)
    ((x, y),) = sine_training.draw_training(small(), chosen, shuffles=1)
    sizes = [8, 8, 64, 8, 8, 1]
    parts = [p.clone().requires_grad_() for p in start[0].split(sizes)]
    for first in (0, 4, 8):
        w1, b1, w2, b2, w3, b3 = parts
        hidden = torch.relu(x[0, first : first + 4] * w1 + b1)
        hidden = torch.relu(hidden @ w2.view(8, 8) + b2)
        error = F.mse_loss(hidden @ w3.view(8, 1) + b3, y[0, first : first + 4])
        gradients = torch.autograd.grad(error, parts)
        parts = [(p - 0.02 * g).detach().requires_grad_() for p, g in zip(parts, gradients, strict=True)]
    expected = start + 0.1 * (torch.cat([p.detach() for p in parts]) - start)
    torch.testing.assert_close(trained, expected)


def test_outer_step_size_falls_linearly(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a meta-gradient of ones, four steps of 0.1 times 1, 3/4, 1/2 and 1/4 lower each parameter by 0.25."""
    ones = dataclasses.replace(
        sine_training.ALGORITHMS["reptile"], meta_gradient=lambda _, phi, *__: torch.ones_like(phi)
    )
    monkeypatch.setitem(sine_training.ALGORITHMS, "reptile", ones)
    trained = sine_training.train(small(reptile=training(outer_steps=4)), "reptile")
    torch.testing.assert_close(trained, SineNetwork(8, "relu").initial(3) - 0.25)


@pytest.mark.parametrize("inner_steps", [1, 3])
def test_mamls_meta_gradient_equals_finite_differences(inner_steps: int) -> None:
    """Differentiate the query loss after adapting, averaged over three lanes, by an explicit loop in float64."""
    inner, phi = double_network()
    points = double_points(lanes=3, points=9)
    chosen = training(inner_steps=inner_steps, inner_batch_size=4)
    gradient = sine_training.maml_gradient(inner, phi, points, chosen)[0]

    def query_loss(start: torch.Tensor) -> float:
        losses = []
        for lane in range(3):
            x, y = (side[[lane]] for side in points)
            adapted = start
            for _ in range(inner_steps):
                adapted = adapted.detach().requires_grad_()
                loss = inner.loss(adapted, (x[:, :4], y[:, :4])).sum()
                adapted = adapted - 0.05 * torch.autograd.grad(loss, adapted)[0]
            losses.append(inner.loss(adapted, (x[:, 4:], y[:, 4:])).item())
        return sum(losses) / 3

    step = 1e-5
    moves = step * torch.eye(phi.shape[1], dtype=torch.float64)
    differences = [(query_loss(phi + move) - query_loss(phi - move)) / (2 * step) for move in moves]
    torch.testing.assert_close(gradient, torch.tensor(differences, dtype=torch.float64), rtol=1e-6, atol=1e-8)


def test_mamls_meta_gradient_is_of_second_order() -> None:
    """It differs from the gradient at the adapted point (first order)."""
    inner, phi = double_network()
    x, y = points = double_points(lanes=1, points=9)
    gradient = sine_training.maml_gradient(inner, phi, points, training(inner_steps=1))
    adapted = phi.clone().requires_grad_()
    first = torch.autograd.grad(inner.loss(adapted, (x[:, :4], y[:, :4])).sum(), adapted)[0]
    adapted = (phi - 0.05 * first).requires_grad_()
    first_order = torch.autograd.grad(inner.loss(adapted, (x[:, 4:], y[:, 4:])).sum(), adapted)[0]
    assert (gradient - first_order).norm() > 0.01 * gradient.norm()
