"""Figures 3 and 4: what is plotted."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

from firstorder.report.claims.paper import Paper
from firstorder.report.figures import combinations, sweeps, themes
from firstorder.settings import Project
from tests.report.test_figures import drawn, gathered
from tests.sweep_records import G1, G2, G4, MEAN2, MEAN4, SUM2, SUM4, store_final, sweep_project, swept
from tests.synthetic_records import store_curve

ENDS = {G1: 0.4, SUM2: 0.7, MEAN2: 0.6, G2: 0.8, SUM4: 0.9, MEAN4: 0.7, G4: 0.85}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return sweep_project(tmp_path)


def heights(axis: Axes) -> dict[str, list[float]]:
    """Map the labels of an axis's error bars to their heights."""
    return {container.get_label(): container.lines[0].get_ydata().tolist() for container in axis.containers}


def test_what_the_outer_step_follows_is_read_from_the_settings(project: Project) -> None:
    follows = {name: combinations.follows(project, name, 0.25) for name in ENDS}
    assert follows == {G1: "first", SUM2: "sum", MEAN2: "mean", G2: "last", SUM4: "sum", MEAN4: "mean", G4: "last"}


def test_figure_3_has_a_panel_for_each_k_with_joint_training_in_all_and_the_ends_below(
    tmp_path: Path, project: Project
) -> None:
    store_final(tmp_path, project, ENDS)
    *panels, ends = drawn(tmp_path, project, "figure-3").axes
    assert [axis.get_title(loc="left") for axis in panels] == ["k = 2 mini-batches", "k = 4 mini-batches"]
    # Dots, the measurements themselves, have no label.
    lines = {line.get_label(): line.get_ydata().tolist() for line in panels[1].lines if line.get_linestyle() != "None"}
    assert lines == {"first": [40], "sum": [90], "mean": [70], "last": [85]}
    found = heights(ends)
    assert found["sum"] == pytest.approx([70, 90])
    assert found["first"] == pytest.approx([40])
    by_label = {container.get_label(): container.lines[0].get_xdata() for container in ends.containers}
    np.testing.assert_allclose(by_label["last"].astype(float), [2, 4], atol=0.1)


def test_the_interval_is_over_tasks_with_one_seed_and_over_seeds_with_more(tmp_path: Path, project: Project) -> None:
    store_final(tmp_path, project, ENDS)
    one = gathered(tmp_path, project, "figure-3").query("panel == 'end' and k == 1").iloc[0]
    assert (one["band"], one["seeds"], one["tasks"]) == ("tasks", 1, 50)
    assert one["high"] - one["accuracy"] == pytest.approx(0.0196, abs=1e-4)
    store_final(tmp_path, project, {name: accuracy + 0.02 for name, accuracy in ENDS.items()}, seed=1)
    two = gathered(tmp_path, project, "figure-3").query("panel == 'end' and k == 1").iloc[0]
    assert (two["band"], two["seeds"]) == ("seeds", 2)
    # Student with one degree of freedom: 12.706 * 0.01414 / sqrt(2).
    assert two["high"] - two["accuracy"] == pytest.approx(12.706 * 0.01, rel=1e-3)


def test_a_combination_that_is_not_run_is_missing_and_the_others_are_drawn(tmp_path: Path, project: Project) -> None:
    store_final(tmp_path, project, {SUM2: 0.7, SUM4: 0.9})
    *panels, ends = drawn(tmp_path, project, "figure-3").axes
    lines = [line for axis in panels for line in axis.lines if line.get_linestyle() != "None"]
    drawn_lines = {line.get_label() for line in lines if np.isfinite(line.get_ydata()).any()}
    assert drawn_lines == {"sum"}
    assert np.isnan(heights(ends)["last"]).all()


def test_figure_3_names_what_is_not_run_and_leaves_out_a_panel_without_any_curve(
    tmp_path: Path, project: Project
) -> None:
    store_final(tmp_path, project, {SUM2: 0.7, MEAN2: 0.6})
    figure = drawn(tmp_path, project, "figure-3")
    assert [axis.get_title(loc="left") for axis in figure.axes[:-1]] == ["k = 2 mini-batches"]
    assert figure.get_supxlabel() == "Not run yet: k = 1 (first); k = 2 (last); k = 4 (sum, mean, last)."


@pytest.mark.parametrize("name", ["figure-3", "figure-4"])
def test_without_any_curve_a_figure_says_so_once(tmp_path: Path, project: Project, name: str) -> None:
    (axis,) = drawn(tmp_path, project, name).axes
    (words,) = [text.get_text() for text in axis.texts]
    assert re.fullmatch(
        r"Nothing is recorded yet for this figure\.\n0 of \d+ trainings run; make plan lists the others.*",
        words,
    )


def test_a_sweep_that_is_not_run_is_named_below_and_the_others_keep_their_letters(
    tmp_path: Path, project: Project
) -> None:
    store_final(tmp_path, project, {swept(project, "step-size", "shared")[0.125]: 0.9})
    figure = drawn(tmp_path, project, "figure-4")
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["(b)"]
    assert figure.axes[0].get_ylabel() == "accuracy, %"
    assert re.match(r"Not run yet: \(a\)\. 1 of \d+ trainings run;", figure.get_supxlabel())
    (legend,) = [part.legends[0] for part in figure.subfigs]
    assert [text.get_text() for text in legend.get_texts()] == ["shared tail"]  # and no variant that is not drawn


def test_figure_4_draws_a_line_a_variant_and_a_gap_where_a_training_is_not_run(
    tmp_path: Path, project: Project
) -> None:
    shared, separate = (swept(project, "inner-steps", name) for name in ("shared", "separate"))
    ends = {shared[2]: 0.9, shared[4]: 0.9, shared[5]: 0.7, shared[10]: 0.6, separate[2]: 0.9, separate[10]: 0.9}
    store_final(tmp_path, project, ends)
    steps, sizes = drawn(tmp_path, project, "figure-4").axes
    found = heights(steps)
    assert found["shared tail"] == pytest.approx([90, 90, 70, 60])
    assert found["separate tail"] == pytest.approx([90, np.nan, np.nan, 90], nan_ok=True)
    assert (steps.get_title(loc="left"), steps.get_xlabel()) == ("(a)", "inner steps k")
    assert sizes.get_xscale() == "log"
    assert heights(sizes)["shared tail"] == pytest.approx([np.nan, 90], nan_ok=True)


def test_figure_4_takes_the_last_measurement_of_meta_test_tasks(tmp_path: Path, project: Project) -> None:
    name = swept(project, "inner-steps", "shared")[2]
    store_curve(tmp_path, 0, {50: 0.1, 100: 0.9}, name, project)
    data = sweeps.gather(tmp_path, project, project.figures["figure-4"], Paper(Path()))
    line = data[data["training"] == name].iloc[0]
    assert (line["accuracy"], line["value"], line["label"]) == (pytest.approx(0.9), 2, "shared tail")


def test_variants_are_told_apart_by_colour_marker_and_line() -> None:
    colours = [themes.cycled_colour(place) for place in range(4)]
    assert len(set(colours)) == len(set(sweeps.MARKERS[:4])) == len(set(sweeps.LINES[:4])) == 4
