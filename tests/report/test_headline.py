"""The headline says no more than is recorded: which numbers count as run, and within how many points they lie."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from firstorder.report.claims.paper import Paper
from firstorder.report.read import staleness
from firstorder.report.text import headline, readme, tables
from firstorder.settings import Project, checks
from tests.report.test_page import write_all
from tests.report.test_published import PUBLISHED
from tests.synthetic_records import FIVE_SHOT, ONE_SHOT, PARAMS, changed_params, make_project, store_record

# 95 % of the answers are right. The paper has 95.39 and 98.90, with transduction 97.68 and 99.48.
NINETY_FIVE = [0, 0, 0, 0, 25, 75]
EVERY = [(ONE_SHOT, "inductive"), (ONE_SHOT, "transductive"), (FIVE_SHOT, "inductive"), (FIVE_SHOT, "transductive")]


def full(**changes: Any) -> dict[str, Any]:
    return changed_params(length="full", figures={}, sine=None, **changes)


def compared(root: Path, project: Project) -> dict[str, pd.DataFrame]:
    return {name: tables.comparison(root, project, name, Paper(PUBLISHED)) for name in project.tables}


def said(root: Path, project: Project) -> str:
    return headline.sentence(root, project, compared(root, project))


@pytest.mark.parametrize(
    ("run", "sentence"),
    [
        (0, "0 of 4 published numbers run at full length so far."),
        (1, "1 of 4 published numbers run at full length, within 0.39 percentage points of the paper."),
        (2, "2 of 4 published numbers run at full length, both within 2.68 percentage points of the paper."),
        (3, "3 of 4 published numbers run at full length, all within 3.90 percentage points of the paper."),
        (4, "4 of 4 published numbers run at full length, all within 4.48 percentage points of the paper."),
    ],
)
def test_what_is_run_is_counted_and_the_furthest_told(tmp_path: Path, run: int, sentence: str) -> None:
    project = make_project(tmp_path, full())
    for evaluation, mode in EVERY[:run]:
        store_record(tmp_path, project, evaluation, mode, {0: NINETY_FIVE, 1: NINETY_FIVE})
    assert said(tmp_path, project) == sentence


@pytest.mark.parametrize(
    ("fraction", "points"),
    [(0.0, "0.00"), (0.0039, "0.39"), (0.0007, "0.07"), (0.00390001, "0.40"), (0.0039 + 1e-12, "0.39"), (1e-7, "0.01")],
)
def test_points_are_rounded_up_so_that_within_is_true(fraction: float, points: str) -> None:
    assert headline.points_up(fraction) == points


def test_a_number_of_two_tables_is_one_number(tmp_path: Path) -> None:
    again = copy.deepcopy(PARAMS["tables"]["table-2"])
    project = make_project(tmp_path, full(tables={**PARAMS["tables"], "again": again}))
    store_record(tmp_path, project, ONE_SHOT, "inductive", {0: NINETY_FIVE})
    found = headline.counts(project, compared(tmp_path, project))
    assert (found.published, found.run, sum(found.verdicts.values())) == (4, 1, 1)
    assert found.most == pytest.approx(0.0039)


def test_a_baseline_that_the_paper_lacks_is_not_counted(tmp_path: Path) -> None:
    project = make_project(tmp_path, full())
    assert len(compared(tmp_path, project)["table-2"]) == 6
    assert headline.counts(project, compared(tmp_path, project)).published == 4


def test_a_stale_number_is_not_run(tmp_path: Path) -> None:
    project = make_project(tmp_path, full())
    for mode in ("inductive", "transductive"):
        store_record(tmp_path, project, ONE_SHOT, mode, {0: NINETY_FIVE})
    (tmp_path / f"results/cells/{ONE_SHOT}/transductive/seed-0.run.json").unlink()
    with staleness.allowed():
        assert said(tmp_path, project).startswith("1 of 4 published numbers run at full length, within 0.39 ")


def test_a_shorter_length_says_nothing_of_points_and_a_study_names_its_settings(tmp_path: Path) -> None:
    for length, ending in (
        ("reduced", "run at reduced length, where they are shown, not judged."),
        ("study", "run with the settings of this study, within 0.39 percentage points of the paper."),
    ):
        project = make_project(tmp_path / length, full() | {"length": length})
        store_record(tmp_path / length, project, ONE_SHOT, "inductive", {0: NINETY_FIVE})
        assert said(tmp_path / length, project) == f"1 of 4 published numbers {ending}"


def test_without_a_number_of_the_paper_records_are_counted(tmp_path: Path) -> None:
    project = make_project(tmp_path, full(tables={}))
    store_record(tmp_path, project, ONE_SHOT, "inductive", {0: NINETY_FIVE, 2: NINETY_FIVE})
    assert said(tmp_path, project) == "2 of 12 records made."


def test_a_folder_without_evaluations_has_no_accuracies(tmp_path: Path) -> None:
    project = make_project(tmp_path, full(tables={}, trainings={}, evaluations={}))
    assert said(tmp_path, project) == "no accuracies in tables, only figures and claims."


def test_report_and_readme_have_the_same_headline(tmp_path: Path) -> None:
    project = make_project(tmp_path, full())
    store_record(tmp_path, project, ONE_SHOT, "inductive", {0: NINETY_FIVE})
    page = write_all(tmp_path, project)
    expected = said(tmp_path, project)
    assert f'<p class="lead">{expected}</p>' in page.read_text(encoding="utf-8")
    assert headline.sentence(tmp_path, project, headline.read(tmp_path, project)) == expected
    path = tmp_path / "README.md"
    marks = "".join(f"<!-- firstorder:begin {name} -->\nold\n<!-- firstorder:end {name} -->\n" for name in SECTIONS)
    path.write_text(marks, encoding="utf-8")
    readme.update(path, [tmp_path], PUBLISHED)
    text = path.read_text(encoding="utf-8")
    assert f"<!-- firstorder:begin headline -->\n{expected}\n<!-- firstorder:end headline -->" in text
    assert "old" not in text


SECTIONS = ("headline", "table-2")


def test_the_recorded_results_are_told_as_they_are() -> None:
    """Of the repository's own results: the sentence agrees with a count and a maximum made here, from the CSV files."""
    root = Path(__file__).parents[2]
    project = checks.load(root / "params.yaml")
    lines = pd.concat([pd.read_csv(root / f"results/tables/{name}.csv") for name in ("table-1", "table-2")])
    run = lines.dropna(subset=["paper_accuracy_fraction", "accuracy_fraction"])
    sentence = headline.sentence(root, project, headline.read(root, project))
    assert sentence.startswith(f"{len(run)} of {len(lines)} published numbers run at full length")
    stated = float(sentence.partition("within ")[2].split()[0])
    assert 0 <= stated - 100 * run["difference_fraction"].abs().max() < 0.01
