"""Curves: only those that params.yaml asks for, complete or with gaps, and final accuracies."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest

from firstorder.__main__ import main
from firstorder.errors import UserError
from firstorder.report.figures import figures
from firstorder.report.read import curves
from firstorder.settings import CURVE, Project
from tests.report.test_figures import drawn, gathered
from tests.report.test_published import PUBLISHED
from tests.synthetic_records import PARAMS, TRAINING, changed_params, make_project, of_params, store_curve

FIGURE = "learning-curves"


def long_project(root: Path, every: int = 100) -> Project:
    """Make a project whose curve has points at `every`, 2 `every`, ..., 1,000."""
    section = copy.deepcopy(PARAMS["trainings"])
    section[TRAINING] |= {"outer_steps": 1000}
    section[TRAINING]["curve"] |= {"every": every}
    return make_project(root, changed_params(trainings=section))


def test_a_whole_curve_has_a_point_every_so_many_steps_and_at_the_end() -> None:
    training = of_params().trainings[TRAINING]
    assert curves.expected_steps(training) == [500, 1000]
    section = copy.deepcopy(PARAMS["trainings"])
    section[TRAINING] |= {"outer_steps": 1200}
    assert curves.expected_steps(of_params(changed_params(trainings=section)).trainings[TRAINING]) == [500, 1000, 1200]


def test_a_curve_made_with_other_settings_is_refused_with_the_command_that_makes_it_again(tmp_path: Path) -> None:
    store_curve(tmp_path, 1, {500: 0.9})
    section = copy.deepcopy(PARAMS["trainings"])
    section[TRAINING]["outer_step_size"] = 0.5
    project = make_project(tmp_path, changed_params(trainings=section))
    expected = rf"seed-1\.csv: stale, .*firstorder train {TRAINING} --seed 1$"
    with pytest.raises(UserError, match=expected):
        figures.write(tmp_path, project, FIGURE, PUBLISHED)


def test_a_curve_of_which_nothing_says_how_it_was_made_is_refused(tmp_path: Path) -> None:
    store_curve(tmp_path, 0, {500: 0.9})
    (tmp_path / CURVE.format(training=TRAINING, seed=0)).with_suffix(".run.json").unlink()
    with pytest.raises(UserError, match=r"seed-0\.csv: stale"):
        figures.write(tmp_path, make_project(tmp_path), FIGURE, PUBLISHED)


def test_a_point_that_a_curve_lacks_is_a_gap_and_never_a_line(tmp_path: Path) -> None:
    project = long_project(tmp_path, every=50)
    there = {step: step / 2000 for step in range(50, 1001, 50) if step not in (500, 1000)}
    store_curve(tmp_path, 0, there, project=project)
    data = gathered(tmp_path, project, FIGURE).set_index("outer_step")["accuracy"]
    assert data.index.tolist() == list(range(50, 1001, 50))
    assert data[data.isna()].index.tolist() == [500, 1000]
    line, dots = drawn(tmp_path, project, FIGURE).axes[0].lines
    heights, measured = (dict(zip(one.get_xdata(), one.get_ydata(), strict=True)) for one in (line, dots))
    assert math.isnan(heights[500])
    assert math.isnan(measured[500])
    assert measured[400] == pytest.approx(20)
    assert heights[150] == pytest.approx((2.5 + 5 + 7.5) / 3)
    assert heights[400] == pytest.approx((10 + 12.5 + 15 + 17.5 + 20) / 5)
    assert heights[700] == pytest.approx((22.5 + 27.5 + 30 + 32.5 + 35) / 5)  # the five that there are


def test_a_curve_of_few_points_is_drawn_as_it_was_measured(tmp_path: Path) -> None:
    project = long_project(tmp_path)
    store_curve(tmp_path, 0, {step: step / 2000 for step in range(100, 1001, 100)}, project=project)
    line, dots = drawn(tmp_path, project, FIGURE).axes[0].lines
    assert line.get_ydata().tolist() == dots.get_ydata().tolist()


def test_a_point_that_one_of_the_seeds_lacks_is_a_gap_too(tmp_path: Path) -> None:
    """Otherwise the line would jump from the mean of two trainings to a single one."""
    project = long_project(tmp_path)
    whole = dict.fromkeys(range(100, 1001, 100), 0.5)
    store_curve(tmp_path, 0, whole, project=project)
    store_curve(tmp_path, 1, {step: 0.9 for step in whole if step <= 300}, project=project)
    data = gathered(tmp_path, project, FIGURE).set_index("outer_step")
    np.testing.assert_allclose(data["accuracy"][:3], 0.7)
    assert data["accuracy"][3:].isna().all()
    assert (data["seeds"] == 2).all()


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ({}, rf"seed-0\.csv: no such curve; make it: firstorder train {TRAINING} --seed 0"),
        ({100: 0.5, 200: 0.5}, rf"cut short, it has no point at outer step 300 of 1,000; .* {TRAINING} --seed 0"),
    ],
)
def test_a_figure_that_must_be_whole_refuses_a_gap(tmp_path: Path, there: dict[int, float], expected: str) -> None:
    project = long_project(tmp_path)
    if there:
        store_curve(tmp_path, 0, there, project=project)
    with pytest.raises(UserError, match=expected):
        figures.write(tmp_path, project, FIGURE, PUBLISHED, whole=True)
    assert figures.write(tmp_path, project, FIGURE, PUBLISHED)


def test_the_final_accuracy_is_the_mean_of_the_last_fifth(tmp_path: Path) -> None:
    """Points at 800, 900 and 1,000 of 1,000: mean 0.8; error sqrt(3) * 0.01 / 3; 3 * 50 tasks."""
    project = long_project(tmp_path)
    accuracies = dict.fromkeys(range(100, 800, 100), 0.1) | {800: 0.7, 900: 0.8, 1000: 0.9}
    store_curve(tmp_path, 2, accuracies, project=project)
    final = curves.final_accuracies(tmp_path, project, TRAINING)
    assert final["tasks"].to_dict() == {2: 150}
    assert final["accuracy"].to_dict() == pytest.approx({2: 0.8})
    assert final["standard_error"].to_dict() == pytest.approx({2: 0.01 / math.sqrt(3)})


def test_a_training_cut_short_has_no_final_accuracy(tmp_path: Path) -> None:
    project = long_project(tmp_path)
    store_curve(tmp_path, 0, dict.fromkeys(range(100, 901, 100), 0.5), project=project)
    assert curves.final_accuracies(tmp_path, project, TRAINING).empty


def test_the_command_line_asks_for_a_whole_figure_by_an_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long_project(tmp_path)
    arguments = ["figure", FIGURE, "--params", str(tmp_path / "params.yaml"), "--published", str(PUBLISHED)]
    assert main(arguments) == 0
    assert main([*arguments, "--whole"]) == 2
    assert f"make it: firstorder train {TRAINING} --seed 0" in capsys.readouterr().err
