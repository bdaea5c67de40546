"""Means and intervals on numbers that one can do in the head."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from firstorder.method.evaluation import histogram
from firstorder.records import cells
from firstorder.report.read import accuracies, statistics
from tests.synthetic_records import FIVE_SHOT, ONE_SHOT, changed_params, make_project, make_record


def test_accuracy_is_the_mean_of_the_tasks() -> None:
    """Four tasks of two queries with 0, 1, 1 and 2 right: accuracies 0, 1/2, 1/2, 1."""
    mean, error = statistics.accuracy_over_tasks([1, 2, 1])
    assert mean == 0.5
    # Squared deviations 1/4 + 0 + 0 + 1/4 over 4 - 1, then over the root of 4.
    assert error == pytest.approx(math.sqrt(0.5 / 3) / 2)


def test_several_query_images_a_class_give_way_times_query_and_one_counts(tmp_path: Path) -> None:
    """5-way with 3 query images a class: 15 answers a task. Two tasks, with 9 and 15 right, have 24 of 30."""
    values = changed_params()
    values["evaluations"][ONE_SHOT] |= {"query": 3, "tasks": 2}
    record = make_record(make_project(tmp_path, values), ONE_SHOT, "inductive", 0, histogram(np.array([9, 15]), 5 * 3))
    read = cells.read_record(cells.write_record(tmp_path, record, {}))
    assert len(read.correct_histogram) == 5 * 3 + 1
    assert accuracies.frame([read])["accuracy"].tolist() == [0.8]


def test_equal_tasks_have_no_standard_error() -> None:
    assert statistics.accuracy_over_tasks([0, 0, 0, 7]) == (1.0, 0.0)


def test_one_task_has_no_known_standard_error() -> None:
    mean, error = statistics.accuracy_over_tasks([0, 1, 0])
    assert mean == 0.5
    assert math.isnan(error)


def test_interval_over_tasks_is_the_normal_one() -> None:
    assert statistics.half_width_over_tasks(1.0) == pytest.approx(1.959964, abs=1e-6)


@pytest.mark.parametrize(
    ("probability", "degrees", "expected"),
    [
        # Printed tables of Student's t, three decimals.
        (0.975, 1, 12.706),
        (0.975, 2, 4.303),
        (0.975, 3, 3.182),
        (0.975, 4, 2.776),
        (0.975, 9, 2.262),
        (0.975, 10, 2.228),
        (0.975, 29, 2.045),
        (0.975, 30, 2.042),
        (0.95, 5, 2.015),
        (0.995, 6, 3.707),
    ],
)
def test_students_quantile_agrees_with_printed_tables(probability: float, degrees: int, expected: float) -> None:
    assert statistics.student_quantile(probability, degrees) == pytest.approx(expected, abs=5.1e-4)


def test_students_quantile_has_its_closed_forms() -> None:
    """One degree of freedom is Cauchy's tan(pi (p - 1/2)); two are (2p - 1) sqrt(2 / (1 - (2p - 1)^2))."""
    assert statistics.student_quantile(0.75, 1) == pytest.approx(1.0, rel=1e-12)
    assert statistics.student_quantile(0.75, 2) == pytest.approx(0.5 * math.sqrt(2 / 0.75), rel=1e-12)


def test_students_quantile_approaches_the_normal_one() -> None:
    assert statistics.student_quantile(0.975, 10_000) == pytest.approx(1.9602, abs=1e-4)


def test_interval_over_three_seeds() -> None:
    """Of 0.1, 0.2 and 0.3 the standard deviation is 0.1; 4.3027 * 0.1 / sqrt(3)."""
    assert statistics.half_width_over_seeds([0.1, 0.2, 0.3]) == pytest.approx(0.248414, abs=1e-6)


def test_one_seed_has_no_interval_over_seeds() -> None:
    assert math.isnan(statistics.half_width_over_seeds([0.5]))


def test_cells_are_summarised_over_seeds_or_else_over_tasks(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    records = [
        make_record(project, ONE_SHOT, "inductive", 0, [0, 0, 0, 0, 50, 50]),  # 0.9
        make_record(project, ONE_SHOT, "inductive", 1, [0, 0, 0, 0, 100, 0]),  # 0.8
        make_record(project, FIVE_SHOT, "inductive", 0, [0, 0, 0, 0, 50, 50]),
    ]
    summary = statistics.over_seeds(accuracies.frame(records))
    several, one = summary.itertuples()
    assert several.column == "omniglot-5way/1shot"
    assert several.accuracy == pytest.approx(0.85)
    # Standard deviation of two values is their distance over sqrt(2); half of it over sqrt(2) again is 0.05.
    assert several.half_width == pytest.approx(12.7062 * 0.05, rel=1e-5)
    assert (several.spread, several.seeds, several.tasks) == ("seeds", 2, 100)
    assert one.accuracy == pytest.approx(0.9)
    # Tasks of 0.8 and 1.0, half each: standard deviation 0.1 sqrt(100 / 99), over sqrt(100).
    assert one.half_width == pytest.approx(1.959964 * 0.01 * math.sqrt(100 / 99), rel=1e-6)
    assert (one.spread, one.seeds, one.tasks) == ("tasks", 1, 100)


def test_no_records_give_an_empty_summary() -> None:
    assert statistics.over_seeds(accuracies.frame([])).empty


def test_the_two_sources_of_error_are_kept_apart() -> None:
    """Three seeds at 0.8, 0.9 and 1.0, each with a standard error of 0.03 over its tasks."""
    found = statistics.estimate([0.8, 0.9, 1.0], [0.03, 0.03, 0.03])
    assert found.value == pytest.approx(0.9)
    assert found.half_width_seeds == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-6)
    assert found.half_width_tasks == pytest.approx(1.959964 * 0.03 / math.sqrt(3), rel=1e-6)
    assert found.half_width == found.half_width_seeds


def test_one_seed_falls_back_to_the_error_over_its_tasks() -> None:
    found = statistics.estimate([0.8], [0.01])
    assert (found.value, found.seeds) == (0.8, 1)
    assert found.half_width == pytest.approx(0.01959964, rel=1e-6)


def test_differences_are_taken_seed_by_seed(tmp_path: Path) -> None:
    """The seeds differ by 0.2, the cells by 0.1 in both: nothing is left of the seeds' spread."""
    project = make_project(tmp_path)
    histograms = {0.6: [0, 0, 0, 10, 0, 0], 0.7: [0, 0, 0, 5, 5, 0], 0.8: [0, 0, 0, 0, 10, 0], 0.9: [0, 0, 0, 0, 5, 5]}
    first, second = (
        accuracies.frame([make_record(project, ONE_SHOT, "inductive", s, histograms[a]) for s, a in cell.items()])
        for cell in ({0: 0.7, 1: 0.9}, {1: 0.8, 0: 0.6, 2: 0.6})
    )
    found = statistics.paired_difference(first, second)
    assert found is not None
    assert (found.value, found.seeds) == (pytest.approx(0.1), 2)
    assert found.half_width_seeds == pytest.approx(0, abs=1e-12)
    assert statistics.paired_difference(first, second[second["seed"] == 2]) is None
