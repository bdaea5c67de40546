"""Section 5 in the report: limits, slopes, what is plotted and what is printed, on made-up records."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from firstorder.errors import UserError
from firstorder.records.cells import write_run
from firstorder.report.claims import theory_claims
from firstorder.report.claims.paper import Paper
from firstorder.report.figures import figures, style, themes, theory_figure
from firstorder.report.read import statistics, theory
from firstorder.report.text import tables
from firstorder.settings import EXPANSION, INNER_PRODUCTS, Project
from tests.report.test_published import PUBLISHED
from tests.synthetic_records import TRAINING
from tests.theory_records import ALPHAS, Row, project_of, recorded_project, store_expansion, store_products


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return recorded_project(tmp_path)


def gathered(root: Path, project: Project) -> pd.DataFrame:
    return figures.KINDS["theory"].gather(root, project, project.figures["section-5"], Paper(PUBLISHED))


def drawn(root: Path, project: Project) -> Figure:
    with style.applied():
        return figures.KINDS["theory"].draw(gathered(root, project))


# --- Arithmetic ---


def test_a_limit_is_exact_for_a_cubic() -> None:
    alphas = np.array([1.0, 2.0, 3.0, 5.0])
    assert theory.limit(alphas, 7 - 2 * alphas + 3 * alphas**2 - alphas**3) == pytest.approx(7)


def test_a_slope_is_the_power() -> None:
    alphas = np.array(ALPHAS)
    assert statistics.log_slope(alphas, 5 * alphas**2) == pytest.approx(2)
    assert statistics.log_slope(alphas, 0.1 * alphas) == pytest.approx(1)


def test_a_remainder_of_nothing_has_no_slope() -> None:
    assert math.isnan(statistics.log_slope(np.array(ALPHAS), np.array([0.0, 1.0, 2.0, 3.0])))


def test_coefficients_are_those_at_alpha_zero(tmp_path: Path, project: Project) -> None:
    """At the smallest alpha the coefficient of AvgGradInner still has an error of 4 x 0.0005."""
    data = theory.coefficients(tmp_path, project).set_index(["algorithm", "inner_steps"])
    assert len(data) == 6
    reptile = data.loc[("reptile", 3)]
    assert (reptile["average_stated"], reptile["inner_stated"]) == (3, -3)
    assert (reptile["average_measured"], reptile["inner_measured"]) == pytest.approx((3, -3), rel=1e-12)
    assert data["remainder_slope"].tolist() == pytest.approx([2] * 6)


def test_relative_errors_are_of_what_is_stated(tmp_path: Path) -> None:
    """FOMAML at k = 3: -2 is stated, so -2.1 has an error of 5 %."""
    project = project_of(tmp_path)

    def wrong(row: Row) -> None:
        if (row["algorithm"], row["inner_steps"]) == ("fomaml", 3):
            row["inner_coefficient"] = -2.1

    store_expansion(tmp_path, project, wrong)
    data = theory.coefficients(tmp_path, project).set_index(["algorithm", "inner_steps"])
    assert data.loc[("fomaml", 3), "inner_relative_error"] == pytest.approx(0.05)
    assert data.loc[("fomaml", 2), "inner_relative_error"] == pytest.approx(0, abs=1e-12)


# --- Records ---


@pytest.mark.parametrize("path", [EXPANSION, INNER_PRODUCTS.format(training=TRAINING, seed=1)])
@pytest.mark.parametrize("made", [{"settings_digest": "0" * 16}, {}])
def test_a_record_of_other_settings_is_refused_with_the_command(
    tmp_path: Path, project: Project, path: str, made: Row
) -> None:
    again = "firstorder theory" if path == EXPANSION else f"firstorder inner-products {TRAINING} --seed 1"
    write_run(tmp_path / path, made)
    with pytest.raises(UserError, match=rf"stale, .*; make it again: {again}$") as refused:
        figures.write(tmp_path, project, "section-5", PUBLISHED)
    assert str(tmp_path / path) in str(refused.value)


def test_a_seed_that_params_does_not_list_is_left_out(tmp_path: Path, project: Project) -> None:
    store_products(tmp_path, project, 7)
    assert set(theory.inner_products(tmp_path, project)["seed"]) == {0, 1}


# --- Figure and table ---


def test_coefficients_are_drawn_as_marks_on_the_stated_lines(tmp_path: Path, project: Project) -> None:
    average, inner, *_ = drawn(tmp_path, project).axes
    lines = {line.get_label(): line for line in inner.lines}
    assert lines["stated, maml"].get_xydata().tolist() == [[2, -2], [3, -4]]
    np.testing.assert_allclose(lines["regression, maml"].get_xydata(), [[2, -2], [3, -4]])
    assert lines["stated, maml"].get_color() == themes.colour("maml")
    np.testing.assert_allclose(
        {line.get_label(): line for line in average.lines}["regression, reptile"].get_ydata(), [2, 3]
    )


def test_remainders_are_drawn_beside_a_line_of_slope_two(tmp_path: Path, project: Project) -> None:
    axis = drawn(tmp_path, project).axes[2]
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    lines = {line.get_label(): line for line in axis.lines}
    assert len(lines) == 6 + 1
    np.testing.assert_allclose(lines["regression, maml, k = 2"].get_ydata(), [5 * alpha**2 for alpha in ALPHAS])
    (x1, x2), (y1, y2) = lines["slope 2"].get_data()
    assert math.log(y2 / y1) / math.log(x2 / x1) == pytest.approx(2)
    assert y1 > 5 * ALPHAS[0] ** 2  # above what it is compared with


def test_inner_products_have_a_line_a_seed_and_a_band_over_tasks(tmp_path: Path, project: Project) -> None:
    cosine, balanced, product = drawn(tmp_path, project).axes[3:]
    lines = [line.get_xydata().tolist() for line in cosine.lines if line.get_label() == "reptile, one task"]
    assert lines == [[[0, 0.1], [2500, 0.4]], [[0, 0.1], [2500, pytest.approx(0.402)]]]
    across = [line.get_ydata().tolist() for line in cosine.lines if line.get_label() == "joint, different tasks"]
    assert across == [[0.05, 0.05]] * 2
    assert len(cosine.collections) == 2 * 2  # pairs of different tasks have no band
    top = max(vertex[1] for vertex in cosine.collections[0].get_paths()[0].vertices)
    assert top == pytest.approx(0.4 + 1.959964 * 0.01, abs=1e-6)
    assert next(line.get_ydata().tolist() for line in balanced.lines if line.get_label() == "joint, one task") == [
        0.2,
        0.3,
    ]
    assert next(line.get_ydata().tolist() for line in product.lines if line.get_label() == "reptile, one task") == [
        100,
        400,
    ]
    assert cosine.get_ylabel() == "Reptile, Omniglot 5-way"


@pytest.mark.parametrize("missing", ["expansion", "inner products"])
def test_what_is_not_recorded_is_said_and_the_rest_is_drawn(tmp_path: Path, missing: str) -> None:
    project = project_of(tmp_path)
    if missing == "expansion":
        store_products(tmp_path, project, 0)
    else:
        store_expansion(tmp_path, project)
    axes = drawn(tmp_path, project).axes
    empty = ["not run" in " ".join(text.get_text() for text in axis.texts) for axis in axes]
    assert empty == ([True] * 3 + [False] * 3 if missing == "expansion" else [False] * 3 + [True] * 3)


def test_the_csv_is_what_is_plotted_and_the_bytes_are_the_same_twice(tmp_path: Path, project: Project) -> None:
    paths = figures.write(tmp_path, project, "section-5", PUBLISHED)
    first = [path.read_bytes() for path in paths]
    written = pd.read_csv(paths[2])
    assert tuple(written.columns) == theory_figure.FRAME
    # Two coefficients of 6, 6 x 4 remainders, 3 panels x 2 seeds x 2 algorithms x 2 kinds of pairs x 2 measurements.
    assert written["panel"].value_counts().to_dict() == {
        "average": 6,
        "inner": 6,
        "remainder": 24,
        "cosine": 32,
        "product": 16,
    }
    assert [path.read_bytes() for path in figures.write(tmp_path, project, "section-5", PUBLISHED)] == first


def test_a_project_with_nothing_recorded_has_figure_and_table_that_say_so(tmp_path: Path) -> None:
    project = project_of(tmp_path)
    assert all(path.stat().st_size > 0 for path in figures.write(tmp_path, project, "section-5", PUBLISHED))
    assert "Not run." in tables.write(tmp_path, project, "theory", PUBLISHED)[1].read_text(encoding="utf-8")


def test_the_table_has_stated_and_measured_coefficients(tmp_path: Path, project: Project) -> None:
    assert tables.names(project) == ["theory"]
    data, markdown, latex = tables.write(tmp_path, project, "theory", PUBLISHED)
    assert list(pd.read_csv(data).columns) == list(theory.COEFFICIENT_TYPES)
    text = markdown.read_text(encoding="utf-8")
    minus = "\N{MINUS SIGN}"
    assert "| regression | Reptile | 3 | 3 | 3.000000 |" in text
    assert f"| {minus}3 | {minus}3.000000 |" in text
    assert "| 2.000 |" in text
    assert "E over 2 tasks and all orders (12 to 24) of k of 4 mini-batches" in text
    assert latex.read_text(encoding="utf-8").count(r" \\") == 1 + 6


def test_without_the_section_there_is_no_theory_table_and_no_claim(tmp_path: Path) -> None:
    project = project_of(tmp_path, theory=None, figures={})
    assert tables.names(project) == []
    assert theory_claims.judge(tmp_path, project, Paper(PUBLISHED).claims) == []
