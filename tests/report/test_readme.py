"""The README's generated table."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from firstorder.errors import UserError
from firstorder.report.text import readme
from tests.report.test_published import PUBLISHED
from tests.synthetic_records import ONE_SHOT, PARAMS, changed_params, make_project, store_record

NINETY, EIGHTY = [0, 0, 0, 0, 50, 50], [0, 0, 0, 0, 100, 0]
MARKED = "# Title\n\n<!-- firstorder:begin table-2 -->\nold\n<!-- firstorder:end table-2 -->\n\nRest.\n"


def with_baseline() -> dict[str, object]:
    """Return PARAMS with an untrained network added, so that the baseline row can have records."""
    values = copy.deepcopy(PARAMS)
    training = {**values["trainings"]["reptile/omniglot-5way"], "algorithm": "untrained", "outer_steps": 0}
    values["trainings"]["untrained/omniglot-5way"] = training
    evaluation = {**values["evaluations"][ONE_SHOT], "training": "untrained/omniglot-5way"}
    values["evaluations"]["untrained/omniglot-5way/1shot"] = evaluation
    return values


def test_paper_full_length_and_reduced_length_stand_one_under_another(tmp_path: Path) -> None:
    full, reduced = tmp_path / "full", tmp_path / "reduced"
    projects = [
        (full, make_project(full, changed_params(title="Full length"))),
        (reduced, make_project(reduced, changed_params(title="Reduced: one tenth"))),
    ]
    store_record(full, projects[0][1], ONE_SHOT, "inductive", {0: NINETY, 1: EIGHTY})
    store_record(reduced, projects[1][1], ONE_SHOT, "inductive", {0: NINETY})
    lines = readme.render(projects, PUBLISHED).splitlines()
    assert lines[0] == "| Accuracy, % |  | Omniglot 5-way 1-shot | Omniglot 5-way 5-shot |"
    assert lines[2] == "| **Reptile** | paper | 95.39 ± 0.09 | 98.90 ± 0.10 |"
    assert lines[3] == "|  | ours, full length | 85.00 ± 63.53 | not run |"
    # 100 tasks of 0.8 or 1.0: half-width 1.96 * 10.05 / 10 points.
    assert lines[4] == "|  | ours, reduced | 90.00 ± 1.97 † | not run |"
    assert lines[5] == "| **Reptile + Transduction** | paper | 97.68 ± 0.04 | 99.48 ± 0.06 |"
    assert lines[6] == "|  | ours, full length | not run | not run |"
    notes = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
    assert lines[-1] == "</details>"
    assert "Full length: 2 seeds, 100 tasks each." in notes
    assert "Reduced: one tenth: 1 seed, 100 tasks each." in notes
    assert "† One seed: ± is the 95 % interval over its tasks. One seed decides nothing." in notes


def test_a_verdict_stands_only_behind_what_was_judged(tmp_path: Path) -> None:
    """Two seeds at full length are judged; reduced length and a single seed are not."""
    full, reduced = tmp_path / "full", tmp_path / "reduced"
    projects = [
        (full, make_project(full, changed_params(title="Full length", length="full"))),
        (reduced, make_project(reduced, changed_params(title="Reduced"))),
    ]
    for root, project in projects:
        store_record(root, project, ONE_SHOT, "inductive", {0: NINETY, 1: NINETY})
        store_record(root, project, ONE_SHOT, "transductive", {0: NINETY})
    lines = readme.render(projects, PUBLISHED).splitlines()
    assert lines[3] == "|  | ours, full length | 90.00 ± 0.00, worse | not run |"
    assert lines[4] == "|  | ours, reduced | 90.00 ± 0.00 | not run |"
    assert lines[6] == "|  | ours, full length | 90.00 ± 1.97 † | not run |"
    assert any("margins of paper/claims.yaml" in line for line in lines[-5:])


def test_a_baseline_that_nobody_ran_is_left_out(tmp_path: Path) -> None:
    assert "Random" not in readme.render([(tmp_path, make_project(tmp_path))], PUBLISHED)


def test_a_baseline_with_records_is_shown_without_a_line_of_the_paper(tmp_path: Path) -> None:
    project = make_project(tmp_path, with_baseline())
    store_record(tmp_path, project, "untrained/omniglot-5way/1shot", "inductive", {0: EIGHTY, 1: EIGHTY})
    lines = readme.render([(tmp_path, project)], PUBLISHED).splitlines()
    assert lines[2] == "| **Random initialisation** | ours, made-up numbers | 80.00 ± 0.00 | not run |"
    assert lines[3].startswith("| **Reptile** | paper |")


def test_only_the_section_between_the_markers_is_replaced() -> None:
    replaced = readme.replace_section(MARKED, "table-2", "new\n")
    assert replaced == MARKED.replace("old", "new")
    assert readme.replace_section(replaced, "table-2", "new\n") == replaced


@pytest.mark.parametrize(
    "text",
    [
        "no markers",
        "<!-- firstorder:begin table-2 -->",
        "<!-- firstorder:end table-2 --><!-- firstorder:begin table-2 -->",
        MARKED + MARKED,
    ],
)
def test_missing_or_mixed_up_markers_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="firstorder:begin table-2"):
        readme.replace_section(text, "table-2", "new")


def test_update_rewrites_the_readme_and_changes_nothing_the_second_time(tmp_path: Path) -> None:
    make_project(tmp_path)
    path = tmp_path / "README.md"
    path.write_text(MARKED, encoding="utf-8")
    readme.update(path, [tmp_path], PUBLISHED)
    first = path.read_bytes()
    assert b"| **Reptile** | paper | 95.39" in first
    assert first.endswith(b"\n\nRest.\n")
    readme.update(path, [tmp_path], PUBLISHED)
    assert path.read_bytes() == first


def test_update_names_the_readme_that_lacks_the_markers(tmp_path: Path) -> None:
    make_project(tmp_path)
    path = tmp_path / "README.md"
    with pytest.raises(UserError, match=r"README\.md: no such file"):
        readme.update(path, [tmp_path], PUBLISHED)
    path.write_text("bare\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"README\.md: expected one line"):
        readme.update(path, [tmp_path], PUBLISHED)
    assert path.read_text(encoding="utf-8") == "bare\n"
