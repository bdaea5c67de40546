"""Inner products of gradients: pairs by hand, mini-batches, the comparison of trainings, and the rows written."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from firstorder import __main__, settings
from firstorder.data import packs
from firstorder.errors import UserError
from firstorder.method import training
from firstorder.method.images import ImagePool, mini_batches
from firstorder.method.inner_loop import InnerLoop
from firstorder.settings import checks, columns
from firstorder.studies import inner_products
from tests.conftest import TINY_PARAMS, TRAINING, tiny_pack, write_params
from tests.studies.test_theory import PRODUCTS, THEORY


@pytest.fixture(scope="module")
def problem() -> training.Problem:
    """Return the miniature training: 5 classes x 4 images per task, hence two mini-batches of 10 images."""
    pool = ImagePool.of(tiny_pack().images, 1, torch.device("cpu"))
    chosen = checks.build(settings.TrainingSettings, TINY_PARAMS["trainings"][TRAINING], TRAINING)
    return training.Problem(TRAINING, chosen, 0, {"meta-train": pool})


def products(**changes: Any) -> settings.InnerProductSettings:
    return settings.InnerProductSettings(**{**PRODUCTS, "trainings": (TRAINING,), **changes})


def test_the_mean_over_pairs_is_arithmetic() -> None:
    """(1, 0)(1, 1) = 1, (1, 0)(0, 2) = 0, (1, 1)(0, 2) = 2: so the mean is 1."""
    value, mean = inner_products.over_pairs(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]]).double())
    assert value == pytest.approx(1)
    np.testing.assert_allclose(mean, [2 / 3, 1])


def test_vectors_with_sum_zero_have_mean_cosine_minus_one_over_n_minus_one() -> None:
    """Take three unit vectors at 120 degrees: their cosine is -1/2."""
    angles = torch.arange(3) * 2 * torch.pi / 3
    value, _ = inner_products.over_pairs(torch.stack([angles.cos(), angles.sin()], dim=1).double())
    assert value == pytest.approx(-1 / 2)


def test_balanced_mini_batches_have_equally_many_images_per_class_and_no_image_twice() -> None:
    """Two classes of four images, mini-batches of four: images 0 and 1 of each class, then 2 and 3."""
    assert inner_products.balanced_order(2, 4, 4).tolist() == [[[0, 1, 4, 5], [2, 3, 6, 7]]]
    # With five images per class one is left over.
    assert inner_products.balanced_order(2, 5, 4).tolist() == [[[0, 1, 5, 6], [2, 3, 7, 8]]]


@pytest.mark.parametrize("kind", inner_products.MINI_BATCHES)
def test_mini_batches_of_a_task_share_no_image(problem: training.Problem, kind: str) -> None:
    drawn = inner_products.drawn_task(problem, 0, kind)
    assert drawn.order.shape == (1, 2, 10)
    assert sorted(drawn.order.ravel()) == list(range(20))
    counts = [np.bincount(labels, minlength=5).tolist() for labels in drawn.batch_labels[0]]
    assert (counts == [[2] * 5] * 2) == (kind == "balanced")


def test_both_kinds_have_the_same_images(problem: training.Problem) -> None:
    trained, balanced = (inner_products.drawn_task(problem, 3, kind) for kind in inner_products.MINI_BATCHES)
    assert trained.support.tolist() == balanced.support.tolist()


def test_a_measurement_equals_that_from_plain_gradients(problem: training.Problem) -> None:
    phi = training.start(problem).parameters.double()
    found = inner_products.measure(problem, phi, 2, "trained")
    loss, gradients = training.classification_loss(problem.network), []
    for task in range(2):
        for images, labels in mini_batches(
            problem.pools["meta-train"], inner_products.drawn_task(problem, task, "trained")
        ):
            point = phi.clone().requires_grad_()
            gradients.append(torch.autograd.grad(loss(point, (images.double(), labels)).sum(), point)[0][0])
    (a, b), (c, d) = gradients[:2], gradients[2:]
    assert found.product == pytest.approx([(a @ b).item(), (c @ d).item()])
    cosines = [(x @ y / (x.norm() * y.norm())).item() for x, y in ((a, b), (c, d))]
    assert found.cosine == pytest.approx(cosines)
    across = np.mean([(x @ y).item() for x in (a, b) for y in (c, d)])
    assert found.product_other_tasks == pytest.approx(across)
    assert found.gradient_norm == pytest.approx(np.mean([g.norm().item() for g in gradients]))


def test_joint_training_sees_equally_many_mini_batches(problem: training.Problem) -> None:
    joint = inner_products.counterpart(problem.settings)
    assert (joint.algorithm, joint.inner_steps, joint.outer_steps) == ("joint", 1, 12)
    same = replace(joint, algorithm="reptile", inner_steps=2, outer_steps=6)
    assert same == problem.settings


def test_a_comparison_starts_from_one_point_and_measures_at_the_same_inner_steps(problem: training.Problem) -> None:
    rows = [dict(zip(columns.INNER_PRODUCTS, row, strict=True)) for row in inner_products.compare(problem, products())]
    by_algorithm = {
        name: [row for row in rows if (row["algorithm"], row["mini_batches"]) == (name, "trained")]
        for name in ("reptile", "joint")
    }
    assert len(rows) == 2 * 2 * 3
    # With two tasks per outer step, Reptile takes 4 x 2 x 2 inner steps and joint training 8 x 2 x 1: 16 each.
    assert [row["outer_step"] for row in by_algorithm["reptile"]] == [0, 2, 4]
    assert [row["outer_step"] for row in by_algorithm["joint"]] == [0, 4, 8]
    for line in by_algorithm.values():
        assert [row["inner_steps"] for row in line] == [0, 8, 16]
    numbers = columns.INNER_PRODUCTS[5:]
    starts = [[line[0][name] for name in numbers] for line in by_algorithm.values()]
    assert starts[0] == starts[1]
    assert {by_algorithm["reptile"][0][name] for name in numbers if "change" in name} == {"0"}
    last = by_algorithm["reptile"][-1]
    start = by_algorithm["reptile"][0]
    assert float(last["cosine_change"]) == pytest.approx(float(last["cosine"]) - float(start["cosine"]), abs=1e-6)


def test_standard_errors_are_over_tasks() -> None:
    """1, 2, 3 have standard deviation 1, which is divided by sqrt(3)."""
    assert inner_products._mean(np.array([1.0, 2.0, 3.0])) == pytest.approx((2, 1 / 3**0.5))


def test_a_gradient_without_direction_is_refused(problem: training.Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    phi = training.start(problem).parameters
    flat = InnerLoop(lambda parameters, batch: 0 * parameters.sum(dim=1), "sgd", 1.0)
    monkeypatch.setattr(training.Problem, "inner", flat)
    with pytest.raises(
        UserError, match=r"seed 0: a gradient is zero or not finite, .*inner_learning_rate \(now 0\.001\)"
    ):
        inner_products.measure(problem, phi, 1, "trained")


def test_the_verb_writes_rows_and_a_run_file(tiny_project: Path) -> None:
    write_params(tiny_project, {**TINY_PARAMS, "theory": THEORY})
    assert __main__.main(["inner-products", TRAINING, "--seed", "1", "--device", "cpu"]) == 0
    path = tiny_project / settings.INNER_PRODUCTS.format(training=TRAINING, seed=1)
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert tuple(rows[0]) == columns.INNER_PRODUCTS
    assert len(rows) == 12
    run = json.loads(path.with_suffix(".run.json").read_text(encoding="utf-8"))
    assert run["settings_digest"] == settings.digest(checks.load("params.yaml").settings_of_theory(TRAINING))
    assert run["data_digest"] == packs.read_pack(tiny_project / "data/omniglot.npz")[1]


def test_a_training_not_listed_in_the_section_is_refused(
    tiny_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_params(tiny_project, {**TINY_PARAMS, "theory": THEORY})
    assert __main__.main(["inner-products", "reptile/omniglot-5wai", "--seed", "0"]) == 2
    assert f"did you mean {TRAINING!r}" in capsys.readouterr().err
