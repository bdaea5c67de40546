"""Figure 1: evaluation, the rows that are written, and refused settings."""

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
import yaml

from firstorder import NUMERICS_VERSION, __main__, settings
from firstorder.errors import UserError
from firstorder.settings import checks, columns
from firstorder.studies import sine, sine_training
from firstorder.studies.sine_network import SineNetwork
from firstorder.studies.waves import draw_waves, grid_of
from tests.studies.sine_settings import small, training

EVALUATED = "sine evaluation"


def test_loss_before_adapting_is_the_networks_error_on_the_grid() -> None:
    losses, _ = sine.simulate(small())
    waves = draw_waves(3, EVALUATED, range(20)).at(grid_of(12))
    network = SineNetwork(8, "relu")
    x = torch.from_numpy(grid_of(12)).float()[None, :, None]
    predicted = network.predictor()(network.initial(3), x)[0, :, 0].numpy()
    errors = ((predicted - waves) ** 2).mean(axis=1)
    assert losses[0][:4] == [3, "random initialisation", 0, 20]
    assert float(losses[0][4]) == pytest.approx(errors.mean(), abs=2e-6)
    assert float(losses[0][5]) == pytest.approx(errors.std(ddof=1) / np.sqrt(20), abs=2e-6)


def test_waves_of_the_evaluation_are_adapted_to_independently() -> None:
    """A wave's fit does not depend on the other waves; fits after one and four steps differ."""
    chosen = small()
    phi, waves = SineNetwork(8, "relu").initial(3), sine.NewWaves.draw(chosen)
    together = sine.evaluate(chosen, phi, waves)
    alone = sine.NewWaves(waves.grid, waves.truth[7:8], waves.support[7:8], waves.support_truth[7:8])
    apart = sine.evaluate(chosen, phi, alone)
    assert list(together) == [0, 1, 4]
    np.testing.assert_allclose(together[4][7], apart[4][0], rtol=1e-4, atol=1e-5)
    assert np.abs(together[4] - together[1]).max() > 0.01


def test_rows_are_complete_and_in_order() -> None:
    losses, fits = sine.simulate(small())
    names = ["random initialisation", "reptile", "maml"]
    assert [row[:4] for row in losses] == [[3, name, step, 20] for name in names for step in (0, 1, 4)]
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
    assert [float(row[3]) for row in fits[:12]] == pytest.approx(grid_of(12), abs=1e-6)


def test_same_seed_same_rows() -> None:
    first = sine.simulate(small())
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002 (the point: they must not matter)
    assert sine.simulate(small()) == first
    assert sine.simulate(small(seed=4)) != first


def test_a_further_seed_gives_the_losses_it_gives_alone_and_changes_no_other() -> None:
    losses, fits = sine.simulate(small(seed=3, further_seeds=(4,)))
    alone, drawn = sine.simulate(small(seed=3))
    other, _ = sine.simulate(small(seed=4))
    assert (losses, fits) == (alone + other, drawn)
    assert {row[0] for row in alone} == {3}


def test_more_evaluation_tasks_change_neither_training_nor_the_first_waves() -> None:
    _, few = sine.simulate(small())
    _, many = sine.simulate(small(evaluation_tasks=30))
    assert [row[:4] for row in few] == [row[:4] for row in many]
    assert [float(row[4]) for row in few] == pytest.approx([float(row[4]) for row in many], abs=2e-5)


def test_training_makes_adapting_better() -> None:
    """After a short training, eight inner steps reach less than half the loss of the random initialisation."""
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
    after = {row[1]: float(row[4]) for row in losses if row[2] == 8}
    assert after["reptile"] < 0.5 * after["random initialisation"]
    assert after["maml"] < 0.5 * after["random initialisation"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"support": 13}, r"support: expected at most 12 .*found 13"),
        ({"drawn_tasks": 21}, r"drawn_tasks: expected at most 20 \(evaluation_tasks\), found 21"),
        ({"evaluation_steps": ()}, r"evaluation_steps: expected at least one number of inner steps, .*found \[\]"),
        ({"evaluation_steps": (4, 1)}, r"evaluation_steps: .*found \[4, 1\]"),
        ({"evaluation_steps": (1, 1)}, r"evaluation_steps: .*found \[1, 1\]"),
        ({"reptile": training(inner_batch_size=13)}, r"reptile: inner_batch_size: expected at most 12 .*found 13"),
        ({"further_seeds": (4, 4)}, r"further_seeds: expected no seed twice, found \[\d+, 4, 4\] in all"),
        ({"maml": training(inner_batch_size=12)}, r"maml: inner_batch_size: expected at most 11 .*query.*found 12"),
    ],
)
def test_inconsistent_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sine.simulate(small(**changes))


def test_a_diverging_training_is_stopped_and_its_step_named() -> None:
    with pytest.raises(UserError, match=r"reptile, seed 3: the meta-gradient is not finite at outer step \d+; lower"):
        sine.simulate(small(reptile=training(inner_learning_rate=1e20)))


def test_a_diverging_adaptation_is_named() -> None:
    with pytest.raises(UserError, match=r"random initialisation after 4 inner steps.*lower evaluation_learning_rate"):
        sine.simulate(small(evaluation_learning_rate=1e10))


def test_the_verb_writes_both_tables_and_their_run_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8"))
    values["sine"] = json.loads(json.dumps(dataclasses.asdict(small())))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    assert __main__.main(["sine", "--params", str(tmp_path / "params.yaml")]) == 0
    printed = [str(tmp_path / name) for name in (settings.SINE_LOSSES, settings.SINE_FITS)]
    assert capsys.readouterr().out.split() == printed
    expected = sine.simulate(small())
    digest = settings.digest(checks.load(tmp_path / "params.yaml").settings_of_sine())
    for name, heading, rows in zip(
        (settings.SINE_LOSSES, settings.SINE_FITS), (columns.SINE_LOSSES, columns.SINE_FITS), expected, strict=True
    ):
        path = tmp_path / name
        with path.open(newline="") as file:
            assert list(csv.reader(file)) == [list(heading), *([str(value) for value in row] for row in rows)]
        run = json.loads(path.with_suffix(".run.json").read_text(encoding="utf-8"))
        assert run["settings_digest"] == digest
        assert run["numerics_version"] == NUMERICS_VERSION


def test_the_verb_refuses_a_project_without_the_section(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8"))
    del values["sine"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    assert __main__.main(["sine", "--params", str(tmp_path / "params.yaml")]) == 2
    assert "no section `sine`" in capsys.readouterr().err


def test_joint_training_learns_to_predict_zero() -> None:
    """The mean of all waves is 0 at every x, so the loss is the mean square of the waves, about 4.25."""
    settings = small(
        hidden=16,
        joint=training(inner_steps=1, inner_batch_size=20, outer_steps=1500, outer_step_size=1.0, meta_batch_size=10),
        grid=20,
        evaluation_tasks=200,
    )
    waves = sine.NewWaves.draw(settings)
    predicted = sine.evaluate(settings, sine_training.train(settings, "joint"), waves)
    assert (predicted[0] ** 2).mean() < 0.01
    assert ((predicted[0] - waves.truth) ** 2).mean() == pytest.approx((waves.truth**2).mean(), rel=0.01)


def test_joint_training_is_simulated_only_if_it_has_a_section() -> None:
    with_joint = small(joint=training(inner_steps=1))
    assert sine_training.trained(small()) == ["reptile", "maml"]
    assert sine_training.trained(with_joint) == ["reptile", "maml", "joint"]
    assert {row[1] for row in sine.simulate(with_joint)[0]} == {"random initialisation", "reptile", "maml", "joint"}


def test_joint_training_has_one_inner_step() -> None:
    with pytest.raises(UserError, match="joint training has inner_steps: 1, found 5"):
        sine.check(small(joint=training(inner_steps=5)))
