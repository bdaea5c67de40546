"""Verdicts: the rules on intervals, the rules on made-up records, and what is written."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from firstorder import settings
from firstorder.report.claims import claim_tables, curve_claims, verdicts
from firstorder.report.claims.margins import Margins
from firstorder.report.claims.paper import CLAIMS, Paper
from firstorder.report.claims.verdicts import Interval, verdict_of_order, verdict_of_value
from firstorder.settings import Project, checks
from tests.report.test_published import PUBLISHED
from tests.synthetic_records import FIVE_SHOT, ONE_SHOT, PARAMS, changed_params, make_project, make_record, store_record

POINT = Margins(0.01, 0.01)
VALUE = f"value/{ONE_SHOT}/inductive"
TRANSDUCTION = f"transduction/{ONE_SHOT}"
# 100 tasks each; accuracies 0.95, 0.96 and 0.94.
AT_95, AT_96, AT_94 = [0, 0, 0, 0, 25, 75], [0, 0, 0, 0, 20, 80], [0, 0, 0, 0, 30, 70]


def full(**changes: Any) -> dict[str, Any]:
    return changed_params(length="full", **changes)


def judged(project: Project, records: dict[tuple[str, settings.Mode], dict[int, list[int]]]) -> pd.DataFrame:
    """Judge made-up records, given by cell, seed and histogram; the frame is indexed by id."""
    made = [
        make_record(project, evaluation, mode, seed, histogram)
        for (evaluation, mode), seeds in records.items()
        for seed, histogram in seeds.items()
    ]
    return verdicts.judge(made, project, Paper(PUBLISHED)).set_index("id")


# --- The rules ---


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.009, 0.009, "equivalent"),
        (0.002, 0.009, "equivalent"),  # not zero, but within what was said not to matter
        (0.011, 0.02, "better"),
        (-0.02, -0.011, "worse"),
        (0.005, 0.015, "inconclusive"),
        (-0.02, 0.02, "inconclusive"),
        (-0.01, 0.0, "inconclusive"),  # the margin itself is outside
    ],
)
def test_a_value_is_judged_by_where_its_interval_lies(low: float, high: float, verdict: str) -> None:
    assert verdict_of_value(Interval(low, high, seeds=3), POINT) == verdict


def test_no_number_of_seeds_decides_where_the_papers_own_error_is_as_wide_as_the_margins() -> None:
    """Margins of -0.4 and +0.2 points hold an interval of half-width 0.299, and none of 0.3."""
    uneven = Margins(below=0.004, above=0.002)
    interval = Interval(-0.01, 0.01, seeds=3)
    assert verdict_of_value(interval, uneven, paper_half_width=0.00299) == "inconclusive"
    assert verdict_of_value(interval, uneven, paper_half_width=0.003) == "undecidable"
    assert verdict_of_value(Interval(-0.01, 0.01, seeds=1), uneven, paper_half_width=0.003) == "undecidable"
    assert verdict_of_value(Interval(0.0021, 0.01, seeds=3), uneven, paper_half_width=0.003) == "better"
    assert verdict_of_value(Interval(-0.01, -0.0041, seeds=3), uneven, paper_half_width=0.003) == "worse"


@pytest.mark.parametrize(
    ("relation", "low", "high", "verdict"),
    [
        ("above", 0.001, 0.002, "holds"),
        ("above", -0.002, -0.001, "fails"),
        ("above", -0.001, 0.5, "inconclusive"),
        ("equivalent", -0.009, 0.009, "holds"),
        ("equivalent", 0.011, 0.02, "fails"),
        ("equivalent", -0.02, -0.011, "fails"),
        ("equivalent", 0.0, 0.02, "inconclusive"),
    ],
)
def test_an_order_is_judged_by_where_its_interval_lies(relation: Any, low: float, high: float, verdict: str) -> None:
    assert verdict_of_order(Interval(low, high, seeds=3), relation, POINT) == verdict


def test_one_seed_is_never_judged() -> None:
    assert verdict_of_value(Interval(0.5, 0.5, seeds=1), POINT) == "inconclusive: one seed"
    assert verdict_of_order(Interval(0.5, 0.5, seeds=1), "above", POINT) == "inconclusive: one seed"


# --- Records against claims ---


def test_a_values_interval_holds_the_seeds_error_and_the_papers(tmp_path: Path) -> None:
    """Seeds at 94, 95 and 96: mean 95, deviation 1, half-width 4.303 / sqrt(3) = 2.484 points; the paper's is 0.09."""
    project = make_project(tmp_path, full())
    line = judged(project, {(ONE_SHOT, "inductive"): {0: AT_94, 1: AT_95, 2: AT_96}}).loc[VALUE]
    assert line["ours_fraction"] == pytest.approx(0.95)
    assert line["paper_fraction"] == pytest.approx(0.9539)
    assert line["judged_fraction"] == pytest.approx(-0.0039)
    assert line["half_width_seeds_fraction"] == pytest.approx(0.02484, abs=1e-5)
    half = (0.0248414**2 + 0.0009**2) ** 0.5
    assert (line["low_fraction"], line["high_fraction"]) == pytest.approx((-0.0039 - half, -0.0039 + half), abs=1e-6)
    assert (line["seeds"], line["tasks_per_seed"], line["verdict"]) == (3, 100, "inconclusive")


def test_the_error_over_tasks_is_shown_apart(tmp_path: Path) -> None:
    """100 tasks, three in four right: standard error 0.2 sqrt(0.75 * 0.25 / 99); two seeds: over sqrt(2)."""
    line = judged(make_project(tmp_path, full()), {(ONE_SHOT, "inductive"): {0: AT_95, 1: AT_95}}).loc[VALUE]
    error = 0.2 * (0.75 * 0.25 / 99) ** 0.5
    assert line["half_width_tasks_fraction"] == pytest.approx(1.959964 * error / 2**0.5, rel=1e-6)
    assert line["half_width_seeds_fraction"] == 0
    assert line["verdict"] == "equivalent"  # 0.39 points below, and only the paper's 0.09 of error


def test_one_seed_shows_its_interval_over_tasks_without_a_verdict(tmp_path: Path) -> None:
    line = judged(make_project(tmp_path, full()), {(ONE_SHOT, "inductive"): {0: AT_95}}).loc[VALUE]
    assert pd.isna(line["half_width_seeds_fraction"])
    assert line["high_fraction"] - line["low_fraction"] > 2 * line["half_width_tasks_fraction"]
    assert line["verdict"] == "inconclusive: one seed"


def test_an_order_is_judged_by_the_differences_seed_by_seed(tmp_path: Path) -> None:
    """The seeds are 2 points apart, and transduction adds 1 point to each: the difference has no spread at all."""
    cells = {(ONE_SHOT, "transductive"): {0: AT_96, 1: AT_95}, (ONE_SHOT, "inductive"): {0: AT_95, 1: AT_94}}
    line = judged(make_project(tmp_path, full()), cells).loc[TRANSDUCTION]
    assert line["paper_fraction"] == pytest.approx(0.0229)
    assert line["judged_fraction"] == pytest.approx(0.01)
    assert line["high_fraction"] - line["low_fraction"] == pytest.approx(0, abs=1e-12)
    assert line["verdict"] == "holds"


def test_an_order_uses_only_the_seeds_that_both_cells_have(tmp_path: Path) -> None:
    cells = {(ONE_SHOT, "transductive"): {0: AT_96, 1: AT_95}, (ONE_SHOT, "inductive"): {1: AT_94, 2: AT_94}}
    line = judged(make_project(tmp_path, full()), cells).loc[TRANSDUCTION]
    assert (line["seeds"], line["verdict"]) == (1, "inconclusive: one seed")
    cells[ONE_SHOT, "inductive"] = {2: AT_94}
    line = judged(make_project(tmp_path, full()), cells).loc[TRANSDUCTION]
    assert line["verdict"] == "not run"


def test_at_full_length_every_claim_is_listed_and_what_is_missing_is_not_run(tmp_path: Path) -> None:
    data = judged(make_project(tmp_path, full()), {})
    assert len(data) == 24 + 44
    assert set(data["verdict"]) == {"not run"}


def test_at_reduced_length_no_value_is_judged(tmp_path: Path) -> None:
    """The same records that are equivalent at full length; an absent `length` is reduced."""
    seeds = {(ONE_SHOT, "inductive"): {0: AT_95, 1: AT_95}}
    data = judged(make_project(tmp_path), seeds)
    assert data.loc[VALUE, "verdict"] == "reduced length"
    assert data.loc[VALUE, "judged_fraction"] == pytest.approx(-0.0039)
    assert set(data["cells"].str.extract(r"(omniglot-\d+way)")[0]) == {"omniglot-5way"}  # the others are not its own


def test_at_reduced_length_an_order_is_judged_only_within_one_training(tmp_path: Path) -> None:
    values = changed_params()
    other = "reptile/omniglot-5way-again"
    values["trainings"][other] = copy.deepcopy(PARAMS["trainings"]["reptile/omniglot-5way"])
    values["evaluations"][FIVE_SHOT]["training"] = other
    cells: dict[tuple[str, settings.Mode], dict[int, list[int]]] = {
        (ONE_SHOT, "transductive"): {0: AT_95, 1: AT_95},
        (ONE_SHOT, "inductive"): {0: AT_94, 1: AT_94},
        (FIVE_SHOT, "inductive"): {0: AT_96, 1: AT_96},
    }
    shots = "shots/reptile/omniglot-5way/inductive"
    one = judged(make_project(tmp_path), cells)["verdict"]
    two = judged(make_project(tmp_path, values), cells)["verdict"]
    assert (one[TRANSDUCTION], one[shots]) == ("holds", "holds")
    assert (two[TRANSDUCTION], two[shots]) == ("holds", "reduced length")


def test_the_wider_reading_of_the_papers_error_gives_a_verdict_of_its_own(tmp_path: Path) -> None:
    """FIVE_SHOT, 99.48 +- 0.06: margins -0.13 and +0.104. One deviation of three trainings is +- 0.149: undecidable."""
    at_99 = [0, 0, 0, 0, 3, 97]  # 0.994
    line = judged(make_project(tmp_path, full()), {(FIVE_SHOT, "transductive"): {0: at_99, 1: at_99}}).loc[
        f"value/{FIVE_SHOT}/transductive"
    ]
    assert line["judged_fraction"] == pytest.approx(-0.0008)
    assert (line["verdict"], line["verdict_wide"]) == ("inconclusive", "undecidable")
    finn = judged(make_project(tmp_path, full()), {}).loc["value/maml/omniglot-5way/1shot/transductive"]
    assert pd.isna(finn["verdict_wide"])  # theirs is over tasks, there is no other reading


def test_seeds_of_which_nothing_was_known_give_a_verdict_of_their_own(tmp_path: Path) -> None:
    """A curve of seed 0 was seen. With it the seeds are 94, 95, 95: too far apart; seeds 1 and 2 are one value."""
    cell = {(ONE_SHOT, "inductive"): {0: AT_94, 1: AT_95, 2: AT_95}}
    line = judged(make_project(tmp_path, full()), cell).loc[VALUE]
    assert (line["seeds"], line["verdict"], line["verdict_in_advance"]) == (3, "inconclusive", "equivalent")


def test_the_summary_counts_each_claim_once(tmp_path: Path) -> None:
    project = make_project(tmp_path, full(sine=None))
    store_record(tmp_path, project, ONE_SHOT, "inductive", {0: AT_95, 1: AT_95})
    claim_tables.write(tmp_path, project, PUBLISHED)
    table = claim_tables.printed(tmp_path)[0]
    assert table.title == "Summary"
    assert len(table.rows) == 5
    for name, count, *groups in table.rows:
        assert int(count) == sum(map(int, groups)), name
    assert table.rows[0][1:] == ("24", "1", "0", "0", "0", "23")
    listed = pd.read_csv(tmp_path / "results/claims.csv")
    assert sum(int(row[1]) for row in table.rows) == len(listed)


STUDIES = sorted(path.parent for path in PUBLISHED.parents[1].glob("studies/*/*/params.yaml"))


def test_only_the_full_length_project_is_judged_by_the_claims_of_the_paper() -> None:
    """All other folders are shorter, or studies with claims of their own."""
    top = PUBLISHED.parents[1]
    folders = [path.parent for path in top.glob("*/params.yaml")] + STUDIES
    assert len(folders) >= 8
    judged = {folder for folder in folders if checks.load(folder / "params.yaml").is_judged}
    assert judged == {folder for folder in folders if (folder / CLAIMS).exists()}


@pytest.mark.parametrize(
    "folder", [folder for folder in STUDIES if (folder / CLAIMS).exists()], ids=lambda path: path.name
)
def test_the_claims_of_a_study_are_about_what_it_computes(folder: Path) -> None:
    project, stated = checks.load(folder / "params.yaml"), Paper.of(folder, PUBLISHED).claims
    listed = {f"{evaluation}/{mode}" for evaluation, mode, _ in project.cells()} | project.trainings.keys()
    about = {cell.cell for claim in stated.entries.values() for cell in claim.cells}
    for name, claim in (stated.curves or {}).items():
        about |= set(curve_claims.weights_of(claim, project) or {f"nothing: {name}"})
    assert about or stated.simulations
    assert about <= listed
    if stated.simulations:
        assert project.sine is not None


@pytest.mark.parametrize("folder", STUDIES, ids=lambda path: path.name)
def test_a_study_at_full_length_has_the_trainings_of_the_paper(folder: Path) -> None:
    main, study = (checks.load(path / "params.yaml") for path in (PUBLISHED.parents[1], folder))
    if study.length == "full":
        for training in study.trainings:
            assert study.settings_of_training(training) == main.settings_of_training(training)


# --- What is written ---


def test_claims_are_printed_with_verdict_interval_and_both_errors(tmp_path: Path) -> None:
    project = make_project(tmp_path, full())
    store_record(tmp_path, project, ONE_SHOT, "inductive", {0: AT_95, 1: AT_95})
    _, markdown = claim_tables.write(tmp_path, project, PUBLISHED)
    text = markdown.read_text(encoding="utf-8")
    # Over tasks: 1.96 * 0.870 / sqrt(2) = 1.21 points.
    assert (
        "| Reptile, Omniglot 5-way 1-shot: our accuracy is the paper's. | 95.39 ± 0.09 | 95.00 "
        "| −0.39 [−0.48, −0.30] | 1.21 | 0.00 | ±1.0 | 2 | curve of seed 0 "
        "| equivalent; in advance alone: inconclusive: one seed | equivalent |"
    ) in text
    assert "Verdicts: 23 not run, 1 equivalent." in text
    sentence = "Omniglot 5-way 1-shot: transduction helps Reptile."
    assert f"| {sentence} | +2.29 | — | — | — | — | — | curve of seed 0 | not run |" in text


def test_an_order_at_reduced_length_says_so(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    store_record(tmp_path, project, ONE_SHOT, "inductive", {0: AT_94, 1: AT_94})
    store_record(tmp_path, project, ONE_SHOT, "transductive", {0: AT_95, 1: AT_95})
    text = claim_tables.write(tmp_path, project, PUBLISHED)[1].read_text(encoding="utf-8")
    # Over tasks: standard errors of 0.921 and 0.870 points, so 1.96 * 1.267 / sqrt(2).
    assert "| +1.00 [+1.00, +1.00] | 1.76 | 0.00 | — | 2 | — | holds (reduced length) |" in text
    assert "| reduced length |" in text
    assert "no value is judged" in text


def test_a_project_without_cells_of_the_paper_has_no_claims(tmp_path: Path) -> None:
    project = make_project(tmp_path, changed_params(trainings={}, evaluations={}, tables={}, figures={}, sine=None))
    csv, markdown = claim_tables.write(tmp_path, project, PUBLISHED)
    assert csv.read_text(encoding="utf-8").splitlines() == [",".join(claim_tables._TYPES)]
    assert markdown.read_text(encoding="utf-8") == "No claim of the paper is about these cells.\n"


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    project = make_project(tmp_path, full())
    store_record(tmp_path, project, ONE_SHOT, "inductive", {0: AT_95, 1: AT_96})
    first = [path.read_bytes() for path in claim_tables.write(tmp_path, project, PUBLISHED)]
    assert [path.read_bytes() for path in claim_tables.write(tmp_path, project, PUBLISHED)] == first
