"""Section 5: expectations over all orders, by hand on quadratics and against the paper's coefficients elsewhere."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from firstorder.errors import UserError
from firstorder.settings import ExpansionSettings, columns
from firstorder.studies import theory
from firstorder.studies.expansion import STATED, Coefficients
from tests.conftest import TRAINING

EXPANSION: dict[str, Any] = {
    "seed": 3,
    "problems": ["regression", "classification"],
    "tasks": 2,
    "mini_batches": 4,
    "batch_size": 3,
    "hidden": 3,
    "inner_steps": [2, 3],
    "learning_rates": [0.0005, 0.001, 0.002, 0.004],
}
PRODUCTS: dict[str, Any] = {"trainings": [TRAINING], "outer_steps": 4, "measurements": 2, "tasks": 3}
THEORY = {"expansion": EXPANSION, "inner_products": PRODUCTS}


def small(**changes: Any) -> ExpansionSettings:
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in EXPANSION.items()}
    return ExpansionSettings(**{**values, **changes})


def quadratic(parameters: Tensor, batch: theory.Batch) -> Tensor:
    """Return half of (phi - c)' A (phi - c), A diagonal; a batch is A's diagonal and c, each [lanes, parameters]."""
    diagonal, centre = batch
    return (diagonal * (parameters - centre).square()).sum(dim=1) / 2


def two_quadratics() -> theory.SmoothProblem:
    """Return a task with two mini-batches: A_1 = diag(1, 2), c_1 = (1, 0); A_2 = diag(3, 1), c_2 = (0, 1); phi = 0."""
    diagonals = torch.tensor([[[1.0, 2.0], [3.0, 1.0]]], dtype=torch.float64)
    centres = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]], dtype=torch.float64)
    return theory.SmoothProblem(quadratic, torch.zeros(1, 2, dtype=torch.float64), (diagonals, centres))


def close(found: Tensor, expected: Any) -> None:
    np.testing.assert_allclose(found.numpy(), np.asarray(expected), rtol=1e-12, atol=1e-14)


def test_averages_of_two_quadratics_are_arithmetic() -> None:
    """g_1 = -A_1 c_1 = (-1, 0), g_2 = (0, -1), so AvgGrad = (-1/2, -1/2).

    H_2 g_1 = (-3, 0) and H_1 g_2 = (0, -2), so AvgGradInner = (-3/2, -1).
    """
    average, inner = theory.average_gradients(two_quadratics())
    close(average, [-0.5, -0.5])
    close(inner, [-1.5, -1.0])


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        # Hessians are constant, so g_2 at phi - alpha g_1 is exactly g_2 - alpha H_2 g_1.
        ("fomaml", lambda alpha: [-0.5 + 1.5 * alpha, -0.5 + alpha]),
        # g_1 + g_2 - alpha H_2 g_1 in one order, g_2 + g_1 - alpha H_1 g_2 in the other.
        ("reptile", lambda alpha: [-1 + 1.5 * alpha, -1 + alpha]),
        # (I - alpha H_1)(g_2 - alpha H_2 g_1) adds alpha^2 H_1 H_2 g_1 = (-3, 0) alpha^2; the other order adds (0, -2).
        ("maml", lambda alpha: [-0.5 + 3 * alpha - 1.5 * alpha**2, -0.5 + 2 * alpha - alpha**2]),
    ],
)
def test_expected_gradients_of_two_quadratics_are_arithmetic(algorithm: str, expected: Any) -> None:
    orders = theory.every_order(2, 2)
    for alpha in (0.01, 0.1):
        close(theory.expected_gradient(two_quadratics(), algorithm, orders, alpha), expected(alpha))


def test_only_maml_has_a_remainder_on_quadratics() -> None:
    """MAML leaves alpha^2 (3/2, 1), divided by |AvgGrad| = 1 / sqrt(2); the others leave only rounding."""
    found = {one.algorithm: one.remainder for one in theory.measure(two_quadratics(), 2, (0.1,))}
    assert found["maml"] == pytest.approx(0.01 * math.hypot(1.5, 1) * math.sqrt(2), rel=1e-10)
    assert max(found["fomaml"], found["reptile"]) < 1e-13


def test_three_mini_batches_have_six_orders_of_two() -> None:
    orders = theory.every_order(3, 2).tolist()
    assert sorted(orders) == [[0, 1], [0, 2], [1, 0], [1, 2], [2, 0], [2, 1]]


def by_hand(problem: theory.SmoothProblem, algorithm: str, alpha: float) -> Tensor:
    """Average g over tasks and ordered pairs in plain loops, using only autograd."""
    found = []
    for task in range(problem.tasks):
        batches = [tuple(part[task, j : j + 1] for part in problem.batches) for j in range(problem.mini_batches)]
        for first, second in itertools.permutations(range(problem.mini_batches), 2):
            phi = problem.initial.clone().requires_grad_()
            (g1,) = torch.autograd.grad(problem.loss(phi, batches[first]).sum(), phi, create_graph=True)
            moved = phi - alpha * g1
            loss = problem.loss(moved, batches[second]).sum()
            (g2,) = torch.autograd.grad(loss, phi if algorithm == "maml" else moved)
            found.append((g1 + g2 if algorithm == "reptile" else g2).detach()[0])
    return torch.stack(found).mean(dim=0)


@pytest.mark.parametrize("name", list(theory.PROBLEMS))
@pytest.mark.parametrize("algorithm", list(STATED))
def test_expectation_is_the_plain_average_over_all_ordered_pairs(name: str, algorithm: str) -> None:
    problem = theory.PROBLEMS[name](small(mini_batches=3))
    found = theory.expected_gradient(problem, algorithm, theory.every_order(3, 2), 0.05)
    # Dividing Reptile's displacement by alpha amplifies rounding errors.
    np.testing.assert_allclose(found.numpy(), by_hand(problem, algorithm, 0.05).numpy(), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("algorithm", list(STATED))
def test_the_order_of_enumeration_does_not_matter(algorithm: str) -> None:
    problem, orders = theory.regression(small()), theory.every_order(4, 3)
    found = theory.expected_gradient(problem, algorithm, orders, 0.01)
    again = theory.expected_gradient(problem, algorithm, orders.flip(0), 0.01)
    np.testing.assert_allclose(again.numpy(), found.numpy(), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", list(theory.PROBLEMS))
def test_average_gradient_inner_is_half_the_gradient_of_the_inner_products(name: str) -> None:
    """Equations 29 to 32: AvgGradInner = E[d/dphi (g_1 g_2)] / 2 over pairs of different mini-batches."""
    problem = theory.PROBLEMS[name](small())
    phi = problem.initial.clone().requires_grad_()
    products = []
    for task in range(problem.tasks):
        gradients = [
            torch.autograd.grad(
                problem.loss(phi, tuple(part[task, j : j + 1] for part in problem.batches)).sum(),
                phi,
                create_graph=True,
            )[0]
            for j in range(problem.mini_batches)
        ]
        products += [(one * other).sum() for one, other in itertools.permutations(gradients, 2)]
    (expected,) = torch.autograd.grad(torch.stack(products).mean() / 2, phi)
    np.testing.assert_allclose(theory.average_gradients(problem)[1].numpy(), expected[0].numpy(), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", list(theory.PROBLEMS))
@pytest.mark.parametrize("inner_steps", [2, 3, 4])
def test_remainders_fall_as_alpha_squared(name: str, inner_steps: int) -> None:
    """Halving alpha divides the remainder by four; with a wrong coefficient it would be by two, or not at all."""
    problem = theory.PROBLEMS[name](small())
    found = list(theory.measure(problem, inner_steps, (0.0005, 0.001)))
    for half, whole in zip(found[::2], found[1::2], strict=True):
        assert half.algorithm == whole.algorithm
        assert math.log2(whole.remainder / half.remainder) == pytest.approx(2, abs=0.05), half.algorithm


def test_in_one_fixed_order_the_coefficients_differ() -> None:
    """In one fixed order E[H_2 g_1] is not AvgGradInner, so the remainder falls only as alpha."""
    problem = theory.regression(small())
    average, inner = theory.average_gradients(problem)
    one_order = torch.tensor([[0, 1]])
    sizes = []
    for alpha in (0.0005, 0.001):
        found = theory.expected_gradient(problem, "fomaml", one_order, alpha)
        at_zero = theory.expected_gradient(problem, "fomaml", one_order, 1e-12)
        sizes.append((found - at_zero + alpha * inner).norm().item())
    assert math.log2(sizes[1] / sizes[0]) == pytest.approx(1, abs=0.05)
    assert average.norm() > 0


def test_stated_coefficients_are_the_papers() -> None:
    """Equations 33 to 35 for k = 2, 39 to 41 for k = 5."""
    assert {name: stated(2) for name, stated in STATED.items()} == {
        "maml": Coefficients(1, -2),
        "fomaml": Coefficients(1, -1),
        "reptile": Coefficients(2, -1),
    }
    assert {name: stated(5).inner for name, stated in STATED.items()} == {"maml": -8, "fomaml": -4, "reptile": -10}


def test_a_fit_of_a_known_combination_finds_it() -> None:
    average, inner = torch.tensor([1.0, 2.0, 0.0]).double(), torch.tensor([0.0, 1.0, 1.0]).double()
    found = theory.fitted(3 * average - 0.5 * inner, average, inner, 0.1)
    assert (found.average, found.inner) == pytest.approx((3, -5))


def test_parallel_vectors_are_refused() -> None:
    average = torch.tensor([1.0, 2.0]).double()
    with pytest.raises(UserError, match=r"are parallel .* raise hidden or tasks"):
        theory.fitted(average, average, -2 * average, 0.1)


def test_a_diverging_learning_rate_is_refused() -> None:
    with pytest.raises(UserError, match=r"E\[g\] of maml is not finite at learning rate 1e\+200; lower it"):
        theory.expand(small(problems=("regression",), learning_rates=(1e200,)))


def test_a_row_for_every_problem_k_algorithm_and_alpha() -> None:
    rows = theory.expand(small())
    assert len(rows) == 2 * 2 * 3 * 4
    assert {len(row) for row in rows} == {len(columns.EXPANSION)}
    assert {(row[2], row[5]) for row in rows} == {(2, 12), (3, 24)}  # orders: 4! / 2! and 4! / 1!


def test_problems_are_float64_and_differ_by_seed() -> None:
    for make in theory.PROBLEMS.values():
        one, other = make(small()), make(small(seed=4))
        assert one.initial.dtype == one.batches[0].dtype == torch.float64
        assert one.batches[0].shape[:3] == (2, 4, 3)
        assert not torch.equal(one.initial, other.initial)
        assert not torch.equal(one.batches[0], other.batches[0])


def test_classification_has_all_labels_and_points_around_their_centres() -> None:
    x, labels = theory.classification(small(tasks=3, mini_batches=6, batch_size=10)).batches
    assert set(labels.flatten().tolist()) == {0, 1, 2}
    for task in range(3):
        for label in range(3):
            of_class = x[task][labels[task] == label]
            assert (of_class.max(dim=0).values - of_class.min(dim=0).values <= 2).all()
