"""Power: chances that can be worked out by hand, and where the assumed spreads come from."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from firstorder.report.claims import power
from firstorder.report.claims.paper import Paper
from firstorder.report.claims.power import NO_SPREAD, OUR_SEEDS, PAPER_AS_DEVIATION, Plan, Spread
from firstorder.report.read import accuracies
from firstorder.settings import Project
from tests.report.test_published import PUBLISHED
from tests.synthetic_records import FIVE_SHOT, ONE_SHOT, changed_params, make_project, make_record

VALUE, TRANSDUCTION = f"value/{ONE_SHOT}/inductive", f"transduction/{ONE_SHOT}"
PAPER = Paper(PUBLISHED)
AT_95, AT_96 = [0, 0, 0, 0, 25, 75], [0, 0, 0, 0, 20, 80]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path, changed_params(length="full"))


def verdicts(claim: str, spread: float, tasks: int = 10**9, seeds: int = 3) -> list[str]:
    spreads = [Spread(spread, OUR_SEEDS, 0.2)] * len(PAPER.claims.entries[claim].cells)
    generator = np.random.default_rng(0)
    entry, none = PAPER.claims.entries[claim], accuracies.frame([])
    return power.simulate(entry, PAPER, none, spreads, [tasks] * len(spreads), seeds, generator)


def test_without_any_spread_a_right_paper_is_always_found_right() -> None:
    assert set(verdicts(VALUE, 0.0)) == {"equivalent"}
    assert set(verdicts(TRANSDUCTION, 0.0)) == {"holds"}


def test_a_spread_far_wider_than_the_margin_decides_nothing() -> None:
    found = verdicts(VALUE, 0.5)
    assert found.count("inconclusive") / len(found) > 0.95


def test_one_seed_never_decides() -> None:
    assert set(verdicts(VALUE, 0.0, seeds=1)) == {"inconclusive: one seed"}


def test_the_chance_of_an_order_is_that_of_students_test() -> None:
    """The difference is 2.29 points; the half-width is 2.48 of its three seeds' deviations. Drawn again here."""
    deviation = 0.0229 / (4.3027 / math.sqrt(3)) / math.sqrt(2)
    found = verdicts(TRANSDUCTION, deviation)
    noncentral = np.random.default_rng(1).normal(0.0229, math.sqrt(2) * deviation, size=(200_000, 3))
    lower = noncentral.mean(axis=1) - 4.3027 / math.sqrt(3) * noncentral.std(axis=1, ddof=1)
    assert found.count("holds") / len(found) == pytest.approx((lower > 0).mean(), abs=0.03)


def test_more_tasks_decide_what_few_leave_open() -> None:
    few, many = verdicts(VALUE, 0.0, tasks=300), verdicts(VALUE, 0.0, tasks=30_000)
    assert few.count("equivalent") < 0.9 * len(few)
    assert many.count("equivalent") == len(many)


def test_spreads_come_from_our_seeds_else_from_the_paper_else_there_is_none(project: Project) -> None:
    """Ours at 95 and 96 %: a variance of 0.5 points squared, less the mean error over 100 tasks each."""
    claims = PAPER.claims.entries
    made = [make_record(project, ONE_SHOT, "inductive", seed, at) for seed, at in ((0, AT_95), (1, AT_96))]
    frame = accuracies.frame(made)
    about = claims[VALUE].cells[0]
    found = power.spread(about, PAPER, frame, project)
    errors = (frame["standard_error_tasks"] ** 2).mean()
    assert (found.seeds, found.source) == (pytest.approx(math.sqrt(max(0, 0.01**2 / 2 - errors))), OUR_SEEDS)
    of_paper = power.spread(about, PAPER, frame.iloc[:0], project)
    assert (of_paper.seeds, of_paper.source) == (pytest.approx(0.0009), PAPER_AS_DEVIATION)
    assert of_paper.one_task == pytest.approx(math.sqrt(0.9539 * 0.0461 / 5))  # five independent query images
    one = power.spread(about, PAPER, frame.iloc[:1], project)
    assert one.source == PAPER_AS_DEVIATION
    assert one.one_task == pytest.approx(0.2 * math.sqrt(0.75 * 0.25 * 100 / 99))


def test_a_half_width_over_600_tasks_gives_the_spread_of_one(project: Project) -> None:
    """98.7 +- 0.4 over 600 tasks: 0.4 / 1.96 sqrt(600) points."""
    about = PAPER.claims.entries["value/maml/omniglot-5way/1shot/transductive"].cells[0]
    listed = {**project.evaluations, "maml/omniglot-5way/1shot": project.evaluations[ONE_SHOT]}
    found = power.spread(about, PAPER, accuracies.frame([]), Project(**{**vars(project), "evaluations": listed}))
    assert found.one_task == pytest.approx(0.004 / 1.959964 * math.sqrt(600))
    assert (found.seeds, found.source) == (0.0, NO_SPREAD)


def test_the_table_lists_the_claims_about_cells_of_params(project: Project) -> None:
    table = power.table(project, PAPER, accuracies.frame([]), Plan(seeds=2, tasks=500))
    names = [row[0] for row in table.rows]
    assert VALUE in names
    assert f"value/{FIVE_SHOT}/transductive" in names
    assert all("20way" not in name and "maml" not in name for name in names)
    for row in table.rows:
        assert sum(map(int, row[1:5])) == pytest.approx(100, abs=2)
        assert row[5:7] == ("2", "500")
    assert table == power.table(project, PAPER, accuracies.frame([]), Plan(seeds=2, tasks=500))
