"""Section 5: expectations over all orders, on quadratics by hand and on smooth problems by the paper's coefficients."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from firstorder import NUMERICS_VERSION, __main__, settings
from firstorder.errors import UserError
from firstorder.settings import ExpansionSettings, checks
from firstorder.studies import theory
from firstorder.studies.expansion import STATED, Coefficients
from tests.conftest import ABSENT, TINY_PARAMS, TRAINING, edit, write_params

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
    """Half of (phi - c)' A (phi - c) with A diagonal; a batch is A's diagonal and c, each [lanes, parameters]."""
    diagonal, centre = batch
    return (diagonal * (parameters - centre).square()).sum(dim=1) / 2


def two_quadratics() -> theory.SmoothProblem:
    """One task with two mini-batches: A_1 = diag(1, 2), c_1 = (1, 0); A_2 = diag(3, 1), c_2 = (0, 1); phi = 0."""
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
        # Hessians are constant, so g_2 at phi - alpha g_1 is g_2 - alpha H_2 g_1, and nothing of second order is left.
        ("fomaml", lambda alpha: [-0.5 + 1.5 * alpha, -0.5 + alpha]),
        # g_1 + g_2 - alpha H_2 g_1 in the one order, g_2 + g_1 - alpha H_1 g_2 in the other.
        ("reptile", lambda alpha: [-1 + 1.5 * alpha, -1 + alpha]),
        # (I - alpha H_1)(g_2 - alpha H_2 g_1) has alpha^2 H_1 H_2 g_1 = (-3, 0) alpha^2 more; the other order (0, -2).
        ("maml", lambda alpha: [-0.5 + 3 * alpha - 1.5 * alpha**2, -0.5 + 2 * alpha - alpha**2]),
    ],
)
def test_expected_gradients_of_two_quadratics_are_arithmetic(algorithm: str, expected: Any) -> None:
    orders = theory.every_order(2, 2)
    for alpha in (0.01, 0.1):
        close(theory.expected_gradient(two_quadratics(), algorithm, orders, alpha), expected(alpha))


def test_remainder_of_two_quadratics_is_mamls_alone() -> None:
    """MAML leaves alpha^2 (3/2, 1) over |AvgGrad| = 1 / sqrt(2); the others nothing but rounding."""
    found = {row[0]: row[4] for row in theory.measure(two_quadratics(), 2, (0.1,))}
    assert found["maml"] == pytest.approx(0.01 * math.hypot(1.5, 1) * math.sqrt(2), rel=1e-10)
    assert max(found["fomaml"], found["reptile"]) < 1e-13


def test_three_mini_batches_have_six_orders_of_two() -> None:
    orders = theory.every_order(3, 2).tolist()
    assert sorted(orders) == [[0, 1], [0, 2], [1, 0], [1, 2], [2, 0], [2, 1]]


def by_hand(problem: theory.SmoothProblem, algorithm: str, alpha: float) -> Tensor:
    """Average g over tasks and ordered pairs in plain loops, differentiating with autograd alone."""
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
    # Reptile's displacement is divided by alpha, which magnifies rounding.
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
    """Halving alpha divides the remainder by four; a wrong coefficient would divide it by two or one."""
    problem = theory.PROBLEMS[name](small())
    rows = list(theory.measure(problem, inner_steps, (0.0005, 0.001)))
    for (algorithm, *_, half), (again, *_, whole) in zip(rows[::2], rows[1::2], strict=True):
        assert algorithm == again
        assert math.log2(whole / half) == pytest.approx(2, abs=0.05), algorithm


def test_without_exchanging_the_labels_the_coefficients_are_others() -> None:
    """In one fixed order alone, E[H_2 g_1] is not AvgGradInner: the remainder falls only as alpha."""
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
    assert theory.fitted(3 * average - 0.5 * inner, average, inner) == pytest.approx((3, -0.5))


def test_parallel_vectors_are_refused() -> None:
    average = torch.tensor([1.0, 2.0]).double()
    with pytest.raises(UserError, match=r"are parallel .* raise hidden or tasks"):
        theory.fitted(average, average, -2 * average)


def test_a_learning_rate_that_diverges_is_refused() -> None:
    with pytest.raises(UserError, match=r"E\[g\] of maml is not finite at learning rate 1e\+200; lower it"):
        theory.expand(small(problems=("regression",), learning_rates=(1e200,)))


def test_a_row_for_every_problem_k_algorithm_and_alpha() -> None:
    rows = theory.expand(small())
    assert len(rows) == 2 * 2 * 3 * 4
    assert {len(row) for row in rows} == {len(theory.COLUMNS)}
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


# --- Settings ---


def project(tmp_path: Path, *edits: tuple[tuple[Any, ...], Any]) -> settings.Project:
    values = edit({**TINY_PARAMS, "theory": THEORY}, *((("theory", *path), value) for path, value in edits))
    return checks.load(write_params(tmp_path, values))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("expansion", "learning_rates"), [0.1, 0.2, 0.4], r"learning_rates: expected at least 4, to go to the limit"),
        (("expansion", "learning_rates"), [], r"learning_rates: expected at least 4.*found \[\]"),
        (("expansion", "learning_rates"), [0.1, 0.4, 0.2, 0.8], "learning_rates: expected them ascending"),
        (("expansion", "learning_rates"), [0.0, 0.1, 0.2, 0.3], "learning_rates.*expected more than 0"),
        (("expansion", "inner_steps"), [], "inner_steps: expected at least one and none twice"),
        (("expansion", "inner_steps"), [1], "inner_steps.*expected at least 2, found 1"),
        (("expansion", "inner_steps"), [2, 5], "a task has 4 mini_batches, so k is at most 4; found 5"),
        (("expansion", "problems"), ["regresion"], "did you mean 'regression'"),
        (("expansion", "tasks"), 2000, "2 of 4 mini-batches in every order for 2000 tasks are 24,000 lanes, more"),
        (("inner_products", "measurements"), 3, "outer_steps 4 cannot be cut into 3 equal parts"),
        (("inner_products", "tasks"), 1, "expected at least 2"),
        (("inner_products", "trainings"), ["reptile/omniglot-5wai"], "is not under `trainings` .did you mean"),
        (("expansion", "hidden"), ABSENT, "key 'hidden' is missing"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_a_line(
    tmp_path: Path, path: tuple[str, ...], value: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        project(tmp_path, (path, value))
    assert "theory" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("inner_steps", 1, "expected algorithm: reptile with at least 2 inner_steps"),
        (
            "inner_batch_size",
            12,
            "at least two mini-batches of equally many images a class .* found inner_batch_size 12",
        ),
        ("inner_batch_size", 15, "at least two mini-batches of equally many images a class"),
    ],
)
def test_a_training_that_cannot_be_measured_is_refused(tmp_path: Path, key: str, value: Any, message: str) -> None:
    values = edit({**TINY_PARAMS, "theory": THEORY}, (("trainings", TRAINING, key), value))
    with pytest.raises(UserError, match=message):
        checks.load(write_params(tmp_path, values))


def test_a_digest_covers_its_own_part_and_no_other(tmp_path: Path) -> None:
    before = project(tmp_path)
    alphas = project(tmp_path, (("expansion", "learning_rates"), [0.1, 0.2, 0.3, 0.4]))
    tasks = project(tmp_path, (("inner_products", "tasks"), 4))
    values = edit({**TINY_PARAMS, "theory": THEORY}, (("trainings", TRAINING, "outer_steps"), 7))
    longer = checks.load(write_params(tmp_path, values))

    def digests(of: settings.Project) -> tuple[str, str]:
        return settings.digest(of.settings_of_theory()), settings.digest(of.settings_of_theory(TRAINING))

    assert digests(alphas)[0] != digests(before)[0]
    assert digests(alphas)[1] == digests(before)[1]
    assert digests(tasks)[0] == digests(before)[0]
    assert digests(tasks)[1] != digests(before)[1]
    assert digests(longer) == digests(before)  # its outer steps are replaced by the section's


def test_without_the_section_the_verb_says_what_to_add(tiny_project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["theory"]) == 2
    assert "has no section `theory`; add one" in capsys.readouterr().err


def test_the_verb_writes_the_same_bytes_twice_and_how_it_was_made(tiny_project: Path) -> None:
    write_params(tiny_project, {**TINY_PARAMS, "theory": THEORY})
    path = tiny_project / settings.EXPANSION
    assert __main__.main(["theory"]) == 0
    first = path.read_bytes()
    assert __main__.main(["theory"]) == 0
    assert path.read_bytes() == first
    assert first.decode().splitlines()[0] == ",".join(theory.COLUMNS)
    run = json.loads(path.with_suffix(".run.json").read_text(encoding="utf-8"))
    assert run["numerics_version"] == NUMERICS_VERSION
    assert run["settings_digest"] == settings.digest(checks.load("params.yaml").settings_of_theory())


def test_every_value_of_the_expansion_changes_its_digest(tmp_path: Path) -> None:
    loaded = project(tmp_path)
    assert loaded.theory is not None
    changes: dict[str, Any] = {
        "seed": 9,
        "problems": ("regression",),
        "tasks": 3,
        "mini_batches": 5,
        "batch_size": 4,
        "hidden": 4,
        "inner_steps": (2,),
        "learning_rates": (0.1, 0.2, 0.3, 0.4),
    }
    assert set(changes) == {field.name for field in dataclasses.fields(ExpansionSettings)}
    found = set()
    for key, value in changes.items():
        changed = dataclasses.replace(loaded.theory.expansion, **{key: value})
        of = dataclasses.replace(loaded, theory=dataclasses.replace(loaded.theory, expansion=changed))
        found.add(settings.digest(of.settings_of_theory()))
    assert len(found | {settings.digest(loaded.settings_of_theory())}) == 1 + len(changes)
