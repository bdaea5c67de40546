"""Tables: the paper's numbers beside ours, as numbers and as printed."""

from __future__ import annotations

import copy
from pathlib import Path

import pandas as pd
import pytest

from firstorder.errors import UserError
from firstorder.records.cells import write_run
from firstorder.report.claims.paper import Paper
from firstorder.report.text import tables
from firstorder.report.text.formatting import column_label, percent, points, training_label
from firstorder.settings import digest
from tests.report.test_published import PUBLISHED
from tests.synthetic_records import FIVE_SHOT, ONE_SHOT, PARAMS, changed_params, make_project, store_record, store_sine

NINETY, EIGHTY = [0, 0, 0, 0, 50, 50], [0, 0, 0, 0, 100, 0]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a project with two seeds of one cell and one seed of another."""
    project = make_project(tmp_path)
    store_record(tmp_path, project, ONE_SHOT, "inductive", {0: NINETY, 1: EIGHTY})
    store_record(tmp_path, project, FIVE_SHOT, "transductive", {0: NINETY})
    return tmp_path


def test_ours_stands_beside_the_papers_number(root: Path) -> None:
    data = tables.comparison(root, make_project(root), "table-2", Paper(PUBLISHED)).set_index(["row", "column"])
    line = data.loc[("Reptile", "omniglot-5way/1shot")]
    assert line["paper_accuracy_fraction"] == pytest.approx(0.9539)
    assert line["accuracy_fraction"] == pytest.approx(0.85)
    assert line["difference_fraction"] == pytest.approx(0.85 - 0.9539)
    assert (line["half_width_over"], line["seeds"], line["tasks_per_seed"]) == ("seeds", 2, 100)
    one = data.loc[("Reptile + Transduction", "omniglot-5way/5shot")]
    assert (one["half_width_over"], one["seeds"]) == ("tasks", 1)
    assert one["difference_fraction"] == pytest.approx(0.9 - 0.9948)


def test_a_row_that_the_paper_lacks_has_no_number_of_the_paper(root: Path) -> None:
    data = tables.comparison(root, make_project(root), "table-2", Paper(PUBLISHED))
    baseline = data[data["row"] == "Random initialisation"]
    assert len(baseline) == 2
    assert baseline["paper_accuracy_fraction"].isna().all()


def test_lines_keep_the_order_of_params(root: Path) -> None:
    data = tables.comparison(root, make_project(root), "table-2", Paper(PUBLISHED))
    table = PARAMS["tables"]["table-2"]
    expected = [(row["label"], column) for row in table["rows"] for column in table["columns"]]
    assert list(data[["row", "column"]].itertuples(index=False, name=None)) == expected


def test_markdown_prints_percent_and_says_not_run(root: Path) -> None:
    _, markdown, _ = tables.write(root, make_project(root), "table-2", PUBLISHED)
    text = markdown.read_text(encoding="utf-8")
    # Two seeds at 0.80 and 0.90: mean 85 %, half-width 12.706 * 5 points.
    assert (
        "| Reptile | Omniglot 5-way 1-shot | 95.39 ± 0.09 [B, ± C] "
        "| 85.00 ± 63.53 | −10.39 ± 63.53 | reduced length | 2 | 100 |" in text
    )
    assert "| Reptile | Omniglot 5-way 5-shot | 98.90 ± 0.10 [B, ± C] | not run | — | not run | — | — |" in text
    assert "| Random initialisation | Omniglot 5-way 1-shot | — | not run | — | — | — | — |" in text
    assert "95 % interval (Student) for the mean over seeds" in text
    assert "with one seed: 95 % interval over its tasks" in text
    assert "exact definition unknown" in text


def test_a_verdict_stands_in_each_line_that_the_paper_has(tmp_path: Path) -> None:
    """At full length: a cell with two seeds, one with one seed, one not run; no claim is about the baseline."""
    project = make_project(tmp_path, changed_params(length="full"))
    store_record(tmp_path, project, ONE_SHOT, "inductive", {0: NINETY, 1: NINETY})
    store_record(tmp_path, project, FIVE_SHOT, "transductive", {0: NINETY})
    data = tables.comparison(tmp_path, project, "table-2", Paper(PUBLISHED)).set_index(["row", "column"])["verdict"]
    assert data["Reptile", "omniglot-5way/1shot"] == "worse"
    assert data["Reptile", "omniglot-5way/5shot"] == "not run"
    assert data["Reptile + Transduction", "omniglot-5way/5shot"] == "inconclusive: one seed"
    assert data["Random initialisation"].isna().all()


def test_a_column_that_no_evaluation_of_the_project_measures_is_not_run(root: Path) -> None:
    section = copy.deepcopy(PARAMS["tables"])
    section["table-2"]["columns"].append("omniglot-20way/5shot")
    data = tables.comparison(root, make_project(root, changed_params(tables=section)), "table-2", Paper(PUBLISHED))
    line = data.set_index(["row", "column"]).loc[("Reptile", "omniglot-20way/5shot")]
    assert (line["paper_printed"], line["verdict"]) == ("96.65 ± 0.33", "not run")


def test_the_difference_has_both_errors(root: Path) -> None:
    data = tables.comparison(root, make_project(root), "table-2", Paper(PUBLISHED)).set_index(["row", "column"])
    line = data.loc[("Reptile", "omniglot-5way/1shot")]
    expected = (line["half_width_fraction"] ** 2 + 0.0009**2) ** 0.5
    assert line["difference_half_width_fraction"] == pytest.approx(expected)


def test_csv_holds_fractions_and_empty_fields_for_what_is_not_run(root: Path) -> None:
    csv, _, _ = tables.write(root, make_project(root), "table-2", PUBLISHED)
    data = pd.read_csv(csv)
    assert list(data.columns) == list(tables.COMPARISON_TYPES)
    assert data["accuracy_fraction"].dropna().tolist() == [0.85, 0.9]
    assert data["accuracy_fraction"].isna().sum() == 4


def test_latex_escapes_what_latex_would_read(root: Path) -> None:
    _, _, latex = tables.write(root, make_project(root), "table-2", PUBLISHED)
    text = latex.read_text(encoding="utf-8")
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert r"Paper, \% & Ours, \%" in body
    assert r"85.00 $\pm$ 63.53 & $-$10.39 $\pm$ 63.53 & reduced length & 2 & 100 \\" in body
    assert body.isascii()


def test_a_table_beside_nothing_has_no_column_of_the_paper(root: Path) -> None:
    section = copy.deepcopy(PARAMS["tables"])
    section["table-2"]["paper"] = "none"
    _, markdown, _ = tables.write(root, make_project(root, changed_params(tables=section)), "table-2", PUBLISHED)
    text = markdown.read_text(encoding="utf-8")
    assert "| Row | Task | Ours, % | Seeds | Tasks a seed |" in text
    assert "95.39" not in text


def test_a_published_table_that_does_not_exist_is_refused(root: Path) -> None:
    section = copy.deepcopy(PARAMS["tables"])
    section["table-2"]["paper"] = "table-3"
    with pytest.raises(UserError, match=r"unknown published table 'table-3' \(did you mean"):
        tables.write(root, make_project(root, changed_params(tables=section)), "table-2", PUBLISHED)


def test_an_unknown_table_is_refused_with_the_nearest_name(root: Path) -> None:
    with pytest.raises(UserError, match=r"unknown table 'table2' \(did you mean 'table-2'\?\)"):
        tables.write(root, make_project(root), "table2", PUBLISHED)


def test_the_sine_table_has_a_line_for_each_number_of_inner_steps(root: Path) -> None:
    store_sine(root)
    csv, markdown, _ = tables.write(root, make_project(root), "sine", PUBLISHED)
    data = pd.read_csv(csv).set_index(["inner_steps", "algorithm"])
    assert data.loc[(32, "reptile"), "mean_squared_error"] == 0.05
    assert data.loc[(32, "reptile"), "half_width"] == pytest.approx(1.959964 * 0.005, rel=1e-6)
    text = markdown.read_text(encoding="utf-8")
    assert "| Inner steps | Random initialisation | Reptile | MAML |" in text
    assert "| 32 | 2.000 ± 0.392 | 0.050 ± 0.010 | 0.500 ± 0.098 |" in text
    assert "Mean over 100 new waves" in text


def test_a_sine_table_without_losses_says_not_run(root: Path) -> None:
    _, markdown, _ = tables.write(root, make_project(root), "sine", PUBLISHED)
    assert "Not run." in markdown.read_text(encoding="utf-8")


def test_a_project_without_sine_waves_has_no_sine_table(root: Path) -> None:
    project = make_project(root, changed_params(sine=None))
    assert tables.names(project) == ["table-2"]
    with pytest.raises(UserError, match="unknown table 'sine'"):
        tables.write(root, project, "sine", PUBLISHED)


def test_losses_that_lack_a_column_are_refused(root: Path) -> None:
    path = root / "results/curves/sine/losses.csv"
    path.parent.mkdir(parents=True)
    path.write_text("algorithm,loss\nreptile,1\n", encoding="utf-8")
    write_run(path, {"settings_digest": digest(make_project(root).settings_of_sine())})
    with pytest.raises(UserError, match=r"losses\.csv: column seed, inner_steps, tasks, standard_error missing"):
        tables.write(root, make_project(root), "sine", PUBLISHED)


def test_writing_twice_gives_the_same_bytes(root: Path) -> None:
    project = make_project(root)
    store_sine(root)
    for name in tables.names(project):
        first = [path.read_bytes() for path in tables.write(root, project, name, PUBLISHED)]
        assert [path.read_bytes() for path in tables.write(root, project, name, PUBLISHED)] == first


def test_numbers_and_names_are_printed_in_one_way() -> None:
    assert percent(0.9768, 0.0004) == "97.68 ± 0.04"
    assert percent(0.9768) == "97.68"
    assert percent(float("nan")) == "not run"
    assert points(0.0012) == "+0.12"
    assert points(-0.013) == "\N{MINUS SIGN}1.30"
    assert column_label("mini-imagenet-5way/1shot") == "mini-ImageNet 5-way 1-shot"
    assert training_label("reptile/glyphs-5way") == "Reptile, Glyphs 5-way"
    assert training_label("maml/omniglot-20way-1shot") == "MAML, Omniglot 20-way 1-shot"


@pytest.mark.parametrize("label", ["", "NA", "nan", "null", "None", "<NA>", " "])
def test_a_label_may_be_a_word_for_nothing(root: Path, label: str) -> None:
    values = copy.deepcopy(PARAMS)
    values["tables"]["table-2"]["rows"][0]["label"] = label
    tables.write(root, make_project(root, values), "table-2", PUBLISHED)
    text = (root / "results/tables/table-2.md").read_text(encoding="utf-8")
    assert f"| {label.replace('<', '&lt;')} | Omniglot 5-way 1-shot |" in text
    assert "not run" in text
