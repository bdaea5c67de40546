"""Figure 1: draws, network, meta-gradients and the rows that are written."""

from __future__ import annotations

import csv
import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml

from firstorder import NUMERICS_VERSION, __main__, settings
from firstorder.errors import UserError
from firstorder.method import tasks
from firstorder.method.inner_loop import InnerLoop
from firstorder.settings import SineSettings, SineTrainingSettings, checks
from firstorder.studies import sine

EVALUATED = "sine evaluation"


def training(**changes: Any) -> SineTrainingSettings:
    values = {
        "inner_learning_rate": 0.02,
        "inner_steps": 2,
        "inner_batch_size": 4,
        "meta_batch_size": 1,
        "outer_steps": 3,
        "outer_step_size": 0.1,
    }
    return SineTrainingSettings(**{**values, **changes})


def small(**changes: Any) -> SineSettings:
    values = {
        "seed": 3,
        "hidden": 8,
        "activation": "relu",
        "grid": 12,
        "support": 5,
        "evaluation_steps": (0, 1, 4),
        "evaluation_tasks": 20,
        "evaluation_learning_rate": 0.01,
        "drawn_tasks": 2,
        "reptile": training(),
        "maml": training(meta_batch_size=3, outer_step_size=0.001),
    }
    return SineSettings(**{**values, **changes})


def double_network(hidden: int = 5) -> tuple[InnerLoop, torch.Tensor]:
    """Return an inner loop on a small tanh network (smooth, so that differences converge) and its phi."""
    network = sine.SineNetwork(hidden, "tanh")
    return InnerLoop(network.loss(), "sgd", 0.05), network.initial(seed=1).double()


def double_points(lanes: int, points: int) -> sine.Points:
    waves = sine.draw_waves(0, "test", range(lanes))
    x = sine.grid_of(points)[sine.draw_orders(0, "test", range(lanes), 1, points)]
    return torch.from_numpy(x)[..., None], torch.from_numpy(waves.at(x))[..., None]


def test_waves_cover_the_ranges_of_the_paper() -> None:
    waves = sine.draw_waves(0, EVALUATED, range(20000))
    for drawn, low, high in ((waves.amplitudes, 0.1, 5.0), (waves.phases, 0.0, 2 * np.pi)):
        assert drawn.shape == (20000, 1)
        assert low <= drawn.min() < low + 0.01
        assert high - 0.01 < drawn.max() < high
        # Six standard errors of the mean of 20,000 uniform draws.
        assert abs(drawn.mean() - (low + high) / 2) < 6 * (high - low) / np.sqrt(12 * 20000)
    assert abs(np.corrcoef(waves.amplitudes[:, 0], waves.phases[:, 0])[0, 1]) < 6 / np.sqrt(20000)


def test_a_wave_is_a_sine() -> None:
    """2 sin(0 + pi / 6) = 1 and 2 sin(pi / 3 + pi / 6) = 2."""
    wave = sine.Waves(np.array([[2.0]]), np.array([[np.pi / 6]]))
    np.testing.assert_allclose(wave.at(np.array([0.0, np.pi / 3])), [[1.0, 2.0]], rtol=1e-14)


def test_grid_spans_the_interval_in_equal_steps() -> None:
    np.testing.assert_allclose(sine.grid_of(5), [-5, -2.5, 0, 2.5, 5])


def test_an_order_holds_every_point_once_a_round_and_is_what_cycle_deals() -> None:
    orders = sine.draw_orders(0, EVALUATED, range(7), 2, 6)
    assert (np.sort(orders.reshape(7, 2, 6)) == np.arange(6)).all()
    assert len(np.unique(orders, axis=0)) == 7
    keys = tasks.raw(sine.TASKS_A_GENERATOR * 12, 0, f"{EVALUATED}, points").reshape(-1, 2, 6)
    assert orders[4].tolist() == tasks.cycle(keys[4], steps=3, batch=4).ravel().tolist()


def test_a_task_does_not_depend_on_which_others_are_drawn() -> None:
    """Also across the border between two generators."""
    border = sine.TASKS_A_GENERATOR
    many = sine.draw_waves(0, EVALUATED, range(border + 5))
    few = sine.draw_waves(0, EVALUATED, range(border - 2, border + 3))
    np.testing.assert_array_equal(few.amplitudes, many.amplitudes[border - 2 : border + 3])
    orders = sine.draw_orders(0, EVALUATED, range(border + 5), 1, 10)
    np.testing.assert_array_equal(sine.draw_orders(0, EVALUATED, range(border, border + 2), 1, 10), orders[-5:-3])


def test_draws_differ_by_seed_and_purpose_and_ignore_global_generators() -> None:
    drawn = sine.draw_waves(0, EVALUATED, range(5)).phases
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002 (the point: they must not matter)
    np.testing.assert_array_equal(sine.draw_waves(0, EVALUATED, range(5)).phases, drawn)
    assert (sine.draw_waves(1, EVALUATED, range(5)).phases != drawn).all()
    assert (sine.draw_waves(0, "sine training", range(5)).phases != drawn).all()


def test_outer_steps_draw_the_same_tasks_whatever_the_meta_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six tasks: one an outer step in draws of four outer steps, or two an outer step in one draw."""
    monkeypatch.setattr(sine, "OUTER_STEPS_A_DRAW", 4)
    single = list(sine.draw_training(small(), training(outer_steps=6), rounds=1))
    pairs = list(sine.draw_training(small(), training(outer_steps=3, meta_batch_size=2), rounds=1))
    assert (len(single), len(pairs)) == (6, 3)
    for side in (0, 1):
        assert single[0][side].shape == (1, 12, 1)
        torch.testing.assert_close(
            torch.cat([p[side] for p in single]), torch.cat([p[side] for p in pairs]), rtol=0, atol=0
        )


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_network_is_three_linear_layers(activation: str) -> None:
    """Two lanes of different parameters against torch.nn.functional.linear, whose weights are [out, in]."""
    network = sine.SineNetwork(7, activation)
    flat = torch.cat([network.initial(0), network.initial(1)])
    x = torch.linspace(-5, 5, 2 * 9).reshape(2, 9, 1)
    predicted = network.predictor()(flat, x)
    activate = sine.ACTIVATIONS[activation]
    for lane in range(2):
        w1, b1, w2, b2, w3, b3 = flat[lane].split([7, 7, 49, 7, 7, 1])
        hidden = activate(F.linear(x[lane], w1.reshape(1, 7).T, b1))
        hidden = activate(F.linear(hidden, w2.reshape(7, 7).T, b2))
        torch.testing.assert_close(predicted[lane], F.linear(hidden, w3.reshape(7, 1).T, b3))


def test_initial_parameters_have_the_range_of_torch_linear() -> None:
    """Of each layer, weight and bias: at most 1 / sqrt(inputs), as of torch.nn.Linear, and close to it."""
    network = sine.SineNetwork(64, "relu")
    parts = network.initial(0)[0].split([64, 64, 64 * 64, 64, 64, 1])
    layers = [torch.nn.Linear(*sizes) for sizes in ((1, 64), (64, 64), (64, 1))]
    ours = [torch.cat(parts[i : i + 2]).abs().max().item() for i in (0, 2, 4)]
    theirs = [torch.cat([p.flatten() for p in layer.parameters()]).abs().max().item() for layer in layers]
    for one, other, limit in zip(ours, theirs, (1, 1 / 8, 1 / 8), strict=True):
        assert 0.9 * limit < one <= limit
        assert 0.9 * limit < other <= limit
    assert not torch.equal(network.initial(1), network.initial(0))


def test_loss_is_the_mean_over_points_of_each_lane() -> None:
    """All parameters 0: predictions 0, so the losses are the mean squares of y, (9 + 1) / 2 and (4 + 0) / 2."""
    network = sine.SineNetwork(3, "relu")
    y = torch.tensor([[3.0, -1.0], [2.0, 0.0]])[..., None]
    assert network.loss()(torch.zeros_like(network.initial(0)).expand(2, -1), (y, y)).tolist() == [5.0, 2.0]


def test_reptile_step_is_the_demonstrations_loop() -> None:
    """One task, an epoch over shuffled points in mini-batches, then phi + epsilon (adapted - phi)."""
    chosen = training(inner_steps=3, inner_batch_size=4, outer_steps=1)
    trained = sine.train(small(reptile=chosen), "reptile")
    start = sine.SineNetwork(8, "relu").initial(3)
    ((x, y),) = sine.draw_training(small(), chosen, rounds=1)
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
    """A meta-gradient of ones: four steps of 0.1 times 1, 3/4, 1/2 and 1/4 lower each parameter by 0.25."""
    ones = dataclasses.replace(sine.ALGORITHMS["reptile"], meta_gradient=lambda _, phi, *__: torch.ones_like(phi))
    monkeypatch.setitem(sine.ALGORITHMS, "reptile", ones)
    trained = sine.train(small(reptile=training(outer_steps=4)), "reptile")
    torch.testing.assert_close(trained, sine.SineNetwork(8, "relu").initial(3) - 0.25)


@pytest.mark.parametrize("inner_steps", [1, 3])
def test_mamls_meta_gradient_equals_finite_differences(inner_steps: int) -> None:
    """Of the mean over three lanes of the query loss after adapting, by an explicit loop in float64."""
    inner, phi = double_network()
    points = double_points(lanes=3, points=9)
    chosen = training(inner_steps=inner_steps, inner_batch_size=4)
    gradient = sine.maml_gradient(inner, phi, points, chosen)[0]

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
    """The gradient at the adapted point alone (first order) is something else."""
    inner, phi = double_network()
    x, y = points = double_points(lanes=1, points=9)
    gradient = sine.maml_gradient(inner, phi, points, training(inner_steps=1))
    adapted = phi.clone().requires_grad_()
    first = torch.autograd.grad(inner.loss(adapted, (x[:, :4], y[:, :4])).sum(), adapted)[0]
    adapted = (phi - 0.05 * first).requires_grad_()
    first_order = torch.autograd.grad(inner.loss(adapted, (x[:, 4:], y[:, 4:])).sum(), adapted)[0]
    assert (gradient - first_order).norm() > 0.01 * gradient.norm()


def test_loss_before_adapting_is_the_networks_error_on_the_grid() -> None:
    losses, _ = sine.simulate(small())
    waves = sine.draw_waves(3, EVALUATED, range(20)).at(sine.grid_of(12))
    network = sine.SineNetwork(8, "relu")
    x = torch.from_numpy(sine.grid_of(12)).float()[None, :, None]
    predicted = network.predictor()(network.initial(3), x)[0, :, 0].numpy()
    errors = ((predicted - waves) ** 2).mean(axis=1)
    assert losses[0][:3] == ["random initialisation", 0, 20]
    assert float(losses[0][3]) == pytest.approx(errors.mean(), abs=2e-6)
    assert float(losses[0][4]) == pytest.approx(errors.std(ddof=1) / np.sqrt(20), abs=2e-6)


def test_waves_of_the_evaluation_are_adapted_to_apart() -> None:
    """With other waves beside it, a wave's fit stays the same; four steps are four gradient steps."""
    chosen = small()
    phi, waves = sine.SineNetwork(8, "relu").initial(3), sine.NewWaves.draw(chosen)
    together = sine.evaluate(chosen, phi, waves)
    alone = sine.NewWaves(waves.grid, waves.truth[7:8], waves.support[7:8], waves.support_truth[7:8])
    apart = sine.evaluate(chosen, phi, alone)
    assert list(together) == [0, 1, 4]
    np.testing.assert_allclose(together[4][7], apart[4][0], rtol=1e-4, atol=1e-5)
    assert np.abs(together[4] - together[1]).max() > 0.01


def test_rows_are_complete_and_in_order() -> None:
    losses, fits = sine.simulate(small())
    names = ["random initialisation", "reptile", "maml"]
    assert [row[:3] for row in losses] == [[name, step, 20] for name in names for step in (0, 1, 4)]
    one = (
        [("truth", 0)] * 12
        + [("support", 0)] * 5
        + [(name, step) for name in names for step in (0, 4) for _ in "x" * 12]
    )
    assert [tuple(row[:3]) for row in fits] == [(task, *entry) for task in (0, 1) for entry in one]
    drawn = {(row[3], row[4]) for row in fits if row[0] == 1 and row[1] == "truth"}
    support = {(row[3], row[4]) for row in fits if row[0] == 1 and row[1] == "support"}
    assert len(support) == 5
    assert support < drawn
    assert [float(row[3]) for row in fits[:12]] == pytest.approx(sine.grid_of(12), abs=1e-6)


def test_same_seed_same_rows() -> None:
    first = sine.simulate(small())
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002 (the point: they must not matter)
    assert sine.simulate(small()) == first
    assert sine.simulate(small(seed=4)) != first


def test_evaluating_more_changes_neither_training_nor_the_waves_before() -> None:
    _, few = sine.simulate(small())
    _, many = sine.simulate(small(evaluation_tasks=30))
    assert [row[:4] for row in few] == [row[:4] for row in many]
    assert [float(row[4]) for row in few] == pytest.approx([float(row[4]) for row in many], abs=2e-5)


def test_training_makes_adapting_better() -> None:
    """After a short training and eight inner steps, the loss is less than half of the random initialisation's."""
    chosen = small(
        hidden=32,
        activation="tanh",  # the faster learner of the two
        grid=50,
        support=10,
        evaluation_steps=(0, 8),
        evaluation_tasks=100,
        evaluation_learning_rate=0.02,
        reptile=training(inner_steps=10, inner_batch_size=10, outer_steps=300, meta_batch_size=10, outer_step_size=1),
        maml=training(inner_steps=2, inner_batch_size=10, outer_steps=300, meta_batch_size=5, outer_step_size=0.01),
    )
    losses, _ = sine.simulate(chosen)
    after = {row[0]: float(row[3]) for row in losses if row[1] == 8}
    assert after["reptile"] < 0.5 * after["random initialisation"]
    assert after["maml"] < 0.5 * after["random initialisation"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"support": 13}, r"support: expected at most 12 .*found 13"),
        ({"drawn_tasks": 21}, r"drawn_tasks: expected at most 20 \(evaluation_tasks\), found 21"),
        ({"evaluation_steps": ()}, r"evaluation_steps: expected at least one, .*found \[\]"),
        ({"evaluation_steps": (4, 1)}, r"evaluation_steps: .*found \[4, 1\]"),
        ({"evaluation_steps": (1, 1)}, r"evaluation_steps: .*found \[1, 1\]"),
        ({"reptile": training(inner_batch_size=13)}, r"reptile: inner_batch_size: expected at most 12 .*found 13"),
        ({"maml": training(inner_batch_size=12)}, r"maml: inner_batch_size: expected at most 11 .*query.*found 12"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sine.simulate(small(**changes))


def test_a_training_that_runs_away_is_stopped_with_its_step() -> None:
    with pytest.raises(UserError, match=r"reptile, seed 3: the meta-gradient is not finite at outer step \d+; lower"):
        sine.simulate(small(reptile=training(inner_learning_rate=1e20)))


def test_an_adaptation_that_runs_away_is_named() -> None:
    with pytest.raises(UserError, match=r"random initialisation after 4 inner steps.*lower evaluation_learning_rate"):
        sine.simulate(small(evaluation_learning_rate=1e10))


def test_the_verb_writes_both_tables_and_how_they_were_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8"))
    values["sine"] = json.loads(json.dumps(dataclasses.asdict(small())))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    assert __main__.main(["sine", "--params", str(tmp_path / "params.yaml")]) == 0
    printed = [str(tmp_path / name) for name in (settings.SINE_LOSSES, settings.SINE_FITS)]
    assert capsys.readouterr().out.split() == printed
    expected = sine.simulate(small())
    digest = settings.digest(checks.load(tmp_path / "params.yaml").settings_of_sine())
    for name, columns, rows in zip(
        (settings.SINE_LOSSES, settings.SINE_FITS), (sine.LOSS_COLUMNS, sine.FIT_COLUMNS), expected, strict=True
    ):
        path = tmp_path / name
        with path.open(newline="") as file:
            assert list(csv.reader(file)) == [list(columns), *([str(value) for value in row] for row in rows)]
        run = json.loads(path.with_suffix(".run.json").read_text(encoding="utf-8"))
        assert run["settings_digest"] == digest
        assert run["numerics_version"] == NUMERICS_VERSION


def test_a_project_without_sine_waves_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8"))
    del values["sine"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    assert __main__.main(["sine", "--params", str(tmp_path / "params.yaml")]) == 2
    assert "no section `sine`" in capsys.readouterr().err


def test_joint_training_learns_to_predict_nothing_and_gains_little_from_adapting() -> None:
    """The mean of all waves is 0 at every x; a wave's mean square is 4.25."""
    settings = small(
        hidden=16,
        joint=training(inner_steps=1, inner_batch_size=20, outer_steps=1500, outer_step_size=1.0, meta_batch_size=10),
        grid=20,
        evaluation_tasks=200,
    )
    waves = sine.NewWaves.draw(settings)
    predicted = sine.evaluate(settings, sine.train(settings, "joint"), waves)
    assert (predicted[0] ** 2).mean() < 0.01
    assert ((predicted[0] - waves.truth) ** 2).mean() == pytest.approx((waves.truth**2).mean(), rel=0.01)


def test_joint_training_is_drawn_only_where_it_is_asked_for() -> None:
    with_joint = small(joint=training(inner_steps=1))
    assert sine.trained(small()) == ["reptile", "maml"]
    assert sine.trained(with_joint) == ["reptile", "maml", "joint"]
    assert {row[0] for row in sine.simulate(with_joint)[0]} == {"random initialisation", "reptile", "maml", "joint"}


def test_joint_training_has_one_inner_step() -> None:
    with pytest.raises(UserError, match="joint training has inner_steps: 1, found 5"):
        sine.check(small(joint=training(inner_steps=5)))
