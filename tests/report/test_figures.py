"""Figures: what is plotted, never pixels."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from firstorder.errors import UserError
from firstorder.records.cells import write_run
from firstorder.report.claims.paper import Paper
from firstorder.report.figures import adaptation, alphabets, figures, learning_curves, style
from firstorder.report.text.formatting import training_label
from firstorder.settings import FigureSettings, Project, digest
from tests.report.test_published import PUBLISHED
from tests.synthetic_records import (
    FIVE_SHOT,
    ONE_SHOT,
    PARAMS,
    TRAINING,
    changed_params,
    make_project,
    store_curve,
    store_record,
    store_sine,
)

NINETY, EIGHTY = [0, 0, 0, 0, 50, 50], [0, 0, 0, 0, 100, 0]
NAMES = tuple(PARAMS["figures"])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a project with something recorded for every figure."""
    project = make_project(tmp_path)
    store_record(tmp_path, project, ONE_SHOT, "inductive", {0: NINETY, 1: EIGHTY})
    store_record(tmp_path, project, FIVE_SHOT, "inductive", {0: NINETY})
    store_curve(tmp_path, 0, {500: 0.2, 1000: 0.8})
    store_curve(tmp_path, 1, {500: 0.4, 1000: 0.9})
    store_sine(tmp_path)
    return tmp_path


def gathered(root: Path, project: Project, name: str) -> pd.DataFrame:
    settings = project.figures[name]
    return figures.KINDS[settings.kind].gather(root, project, settings, Paper(PUBLISHED))


def drawn(root: Path, project: Project, name: str) -> Figure:
    with style.applied():
        return figures.KINDS[project.figures[name].kind].draw(gathered(root, project, name))


def words(figure: Figure) -> str:
    return " ".join(text.get_text() for axis in figure.axes for text in axis.texts)


def test_curves_are_the_mean_over_seeds_between_lowest_and_highest(root: Path) -> None:
    data = gathered(root, make_project(root), "learning-curves").set_index("outer_step")
    assert data["accuracy"].to_dict() == pytest.approx({500: 0.3, 1000: 0.85})
    assert data["low"].to_dict() == {500: 0.2, 1000: 0.8}
    assert data["high"].to_dict() == {500: 0.4, 1000: 0.9}
    assert (data["seeds"] == 2).all()
    assert (data["band"] == "seeds").all()


def test_a_curve_of_one_seed_has_the_interval_over_tasks(tmp_path: Path) -> None:
    store_curve(tmp_path, 2, {500: 0.5, 1000: 0.6})
    line, _ = gathered(tmp_path, make_project(tmp_path), "learning-curves").itertuples()
    assert (line.seeds, line.band, line.accuracy) == (1, "tasks", 0.5)
    assert (line.low, line.high) == pytest.approx((0.5 - 0.0196, 0.5 + 0.0196), abs=1e-5)


def test_curves_are_drawn_in_percent(root: Path) -> None:
    inductive, transductive = drawn(root, make_project(root), "learning-curves").axes
    line, dots = inductive.lines
    np.testing.assert_allclose(dots.get_xydata(), [[500, 30], [1000, 85]])
    np.testing.assert_allclose(line.get_xydata(), [[500, 30], [1000, 85]])  # too few points for a running mean
    assert inductive.get_title(loc="left") == "Reptile, Omniglot 5-way, inductive"
    assert inductive.get_xlabel() == "outer step"
    assert "%" in inductive.get_ylabel()
    assert "not run" in transductive.texts[0].get_text()


def test_both_modes_of_a_training_have_one_scale_on_which_nothing_is_cut_off(root: Path) -> None:
    curve = gathered(root, make_project(root), "learning-curves")
    high = curve.assign(mode="transductive", accuracy=curve["accuracy"] / 2 + 0.5)
    with style.applied():
        inductive, transductive = learning_curves.draw(pd.concat([curve, high])).axes
    assert inductive.get_ylim() == transductive.get_ylim() == pytest.approx((28, 100))


@pytest.mark.parametrize(("recorded", "axes"), [(1, 2), (3, 6), (4, 6), (5, 6)])
def test_trainings_without_a_curve_have_no_axis_and_are_named_below(root: Path, recorded: int, axes: int) -> None:
    """Up to three trainings have an axis for each mode; more of them have one axis each, in rows of three."""
    curve = gathered(root, make_project(root), "learning-curves")
    names = [f"{algorithm}/omniglot-{way}way" for algorithm in ("reptile", "maml", "fomaml") for way in (5, 20)]
    rows = [curve.assign(training=name) for name in names[:recorded]]
    rows += [pd.DataFrame({"training": names[recorded:]}).reindex(columns=curve.columns)]
    with style.applied():
        figure = learning_curves.draw(pd.concat([rows[-1], *rows[:-1]], ignore_index=True))
    assert len(figure.axes) == axes
    titles = " ".join(axis.get_title(loc="left").replace("\n", ", ") for axis in figure.axes)
    below = figure.get_supxlabel().replace("\n", " ")
    assert below.startswith("Not run yet: ")
    below, _, counted = below.rpartition(". ")
    assert counted == f"{recorded} of 6 trainings run; make plan lists the others and their times."
    assert below.endswith("FOMAML (Omniglot 20-way)" if recorded == 5 else "Omniglot 20-way)")
    for place, name in enumerate(names):
        algorithm, column = training_label(name).split(", ")
        assert (f"{algorithm}, {column}" in titles) == (place < recorded)
        groups = below.removeprefix("Not run yet: ").split("; ")
        named = any(group.startswith(f"{algorithm} (") and column in group for group in groups)
        assert named == (place >= recorded)


def test_where_all_is_recorded_nothing_is_named_as_not_run(root: Path) -> None:
    assert drawn(root, make_project(root), "learning-curves").get_supxlabel() == ""


def test_lines_below_make_the_figure_higher_and_are_cut_to_its_width() -> None:
    with style.applied():
        figure = style.new_figure(2.0)
        style.write_below(figure, "word " * 60).subplots()
    lines = figure.get_supxlabel().split("\n")
    assert len(lines) == 3
    assert max(map(len, lines)) <= style.LINE_LENGTH
    assert figure.get_figheight() == pytest.approx(2.0 + 4 * style.LINE_HEIGHT)


@pytest.mark.parametrize("count", [20, 49])
def test_no_words_of_the_alphabets_figure_overlap(count: int) -> None:
    """The longest name of an alphabet leaves the least room for the two panels."""
    names = [f"Inuktitut_(Canadian_Aboriginal_Syllabics) {place}" for place in range(count)]
    rows = [(ONE_SHOT, name, name, 100, 40, 10, 1) for name in names]
    frame = pd.DataFrame(rows, columns=list(alphabets.FRAME))
    with style.applied():
        figure = alphabets.draw(pd.concat([frame, frame.assign(evaluation="reptile/omniglot-20way/1shot")]))
        FigureCanvasAgg(figure).draw()
    assert len(figure.axes[1].get_xticks()) == 0
    assert "order of the rows" in figure.axes[1].get_xlabel()
    # Titles and labels of the axes, headings and legends of both evaluations, and the names of the rows.
    found = [text for axis in figure.axes for text in (axis._left_title, axis.xaxis.label, axis.yaxis.label)]
    found += [text for part in figure.subfigs for text in (part._suptitle, *part.legends[0].get_texts())]
    found += [text for axis in figure.axes for text in (*axis.get_xticklabels(), *axis.get_yticklabels())]
    boxes = [text.get_window_extent() for text in found if text.get_text() and text.get_visible()]
    assert len(boxes) > 2 * count
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_an_evaluation_that_is_not_run_has_no_panel_and_is_named_below() -> None:
    known = {"evaluation": ONE_SHOT, "mode": "inductive", "inner_steps": 4, "own_steps": 4, "accuracy": 0.5}
    frame = pd.DataFrame([{"evaluation": "maml/omniglot-20way/1shot", "own_steps": 4}, known])
    with style.applied():
        figure = adaptation.draw(frame.reindex(columns=list(adaptation.FRAME)))
    (axis,) = figure.axes
    assert axis.lines[0].get_ydata().tolist() == [50]
    assert figure.get_supxlabel() == "Not run yet: MAML (Omniglot 20-way 1-shot)."


def test_the_stretched_scale_is_undone_by_its_inverse() -> None:
    accuracies = np.array([0.0, 50.0, 99.0, 100.0])
    np.testing.assert_allclose(style._unstretch(style._stretch(accuracies)), accuracies, atol=1e-9)


def test_accuracies_are_drawn_in_percent_with_the_difference_in_points(root: Path) -> None:
    figure = drawn(root, make_project(root), "accuracies")
    one_shot, five_shot = figure.axes
    places = {container.get_label(): container.lines[0].get_xdata()[0] for container in one_shot.containers}
    assert places["ours"] == pytest.approx(85.0)
    assert [container.get_label() for container in one_shot.containers] == ["paper", "ours", "paper"]
    assert [container.get_label() for container in five_shot.containers] == ["paper", "ours, one seed", "paper"]
    assert "\N{MINUS SIGN}10.39" in words(figure)
    assert "not run" in words(figure)
    assert one_shot.get_xlim() == five_shot.get_xlim()
    assert one_shot.get_xscale() == "function"
    assert one_shot.get_yticklabels()[0].get_text() == "Reptile"


def test_rows_without_a_published_number_are_not_drawn_beside_those_with_one(root: Path) -> None:
    data = gathered(root, make_project(root), "accuracies")
    assert set(data["row"]) == {"Reptile", "Reptile + Transduction"}


def test_a_table_beside_nothing_is_drawn_alone(root: Path) -> None:
    section = copy.deepcopy(PARAMS["tables"])
    section["table-2"]["paper"] = "none"
    project = make_project(root, changed_params(tables=section))
    assert set(gathered(root, project, "accuracies")["row"]) == {row["label"] for row in section["table-2"]["rows"]}
    figure = drawn(root, project, "accuracies")
    labels = {container.get_label() for axis in figure.axes for container in axis.containers}
    assert labels == {"ours", "ours, one seed"}
    assert "minus" not in words(figure)


@pytest.mark.parametrize("label", ["$x^$", "$$", "$\\frac{$", "$\\nosuch$", "a$b$c", r"\$x\$", "NA", "nan", "null"])
def test_a_label_is_shown_as_it_is(root: Path, label: str) -> None:
    """Neither is a pair of dollars a formula, nor the word for a missing number one."""
    values = copy.deepcopy(PARAMS)
    table = next(iter(values["tables"].values()))
    table["title"] = table["rows"][0]["label"] = label
    table["paper"] = "none"
    project = make_project(root, values)
    (name,) = [name for name, figure in project.figures.items() if figure.kind == "accuracies"][:1]
    for path in figures.write(root, project, name, PUBLISHED):
        assert path.stat().st_size
    shown = [text for text in drawn(root, project, name).findobj(Text) if text.get_text() == label]
    assert shown
    assert not any(text.get_parse_math() for text in shown)


def test_figure_1_has_a_row_a_wave_a_column_an_algorithm_and_the_losses(root: Path) -> None:
    figure = drawn(root, make_project(root), "figure-1")
    *fits, losses = figure.axes
    assert [axis.get_title(loc="left") for axis in fits[:3]] == ["before training", "after MAML", "after Reptile"]
    assert len(fits) == 2 * 3
    wave, before, after, support = fits[5].lines  # second wave, after Reptile
    assert wave.get_ydata().tolist() == [-4, 1, 6]
    assert before.get_ydata().tolist() == [0, 0, 0]
    assert after.get_ydata().tolist() == [4, 4, 4]
    assert support.get_xdata().tolist() == [-5, 5]
    assert losses.get_yscale() == "log"
    by_label = {line.get_label(): line.get_ydata().tolist() for line in losses.lines}
    assert by_label == {"Random initialisation": [4.0, 2.0], "Reptile": [4.5, 0.05], "MAML": [3.5, 0.5]}
    assert "100 new waves" in losses.get_title(loc="left")


@pytest.mark.parametrize("name", NAMES)
def test_the_csv_is_what_is_plotted(root: Path, name: str) -> None:
    project = make_project(root)
    _, _, csv = figures.write(root, project, name, PUBLISHED)
    data = gathered(root, project, name)
    written = pd.read_csv(csv)
    assert list(written.columns) == list(data.columns)
    assert len(written) == len(data) > 0
    numbers = data.select_dtypes("number").astype("float64")
    np.testing.assert_allclose(written[numbers.columns].astype("float64"), numbers, rtol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_writing_twice_gives_the_same_bytes(root: Path, name: str) -> None:
    project = make_project(root)
    first = [path.read_bytes() for path in figures.write(root, project, name, PUBLISHED)]
    assert [path.read_bytes() for path in figures.write(root, project, name, PUBLISHED)] == first


@pytest.mark.parametrize("name", NAMES)
def test_pictures_name_no_date_and_no_maker(root: Path, name: str) -> None:
    png, pdf, _ = figures.write(root, make_project(root), name, PUBLISHED)
    with Image.open(png) as image:
        assert set(image.info) == {"dpi"}
    assert b"CreationDate" not in pdf.read_bytes()
    assert b"/Producer" not in pdf.read_bytes()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("figure-1", "Nothing is recorded yet"),
        ("learning-curves", "Nothing is recorded yet"),
        ("accuracies", "not run"),
    ],
)
def test_a_figure_without_records_says_so_and_is_written(tmp_path: Path, name: str, expected: str) -> None:
    project = make_project(tmp_path)
    assert expected in words(drawn(tmp_path, project, name))
    assert all(path.stat().st_size > 0 for path in figures.write(tmp_path, project, name, PUBLISHED))


def test_an_axis_without_values_has_no_numbers(tmp_path: Path) -> None:
    section = copy.deepcopy(PARAMS["tables"])
    section["table-2"]["paper"] = "none"
    figure = drawn(tmp_path, make_project(tmp_path, changed_params(tables=section)), "accuracies")
    assert [len(axis.get_xticks()) for axis in figure.axes] == [0, 0]
    assert figure.legends == []


def test_losses_are_drawn_without_fits_and_fits_without_losses(root: Path) -> None:
    project = make_project(root)
    fits, losses = root / "results/curves/sine/fits.csv", root / "results/curves/sine/losses.csv"
    moved = fits.rename(fits.with_suffix(".away"))
    assert len(drawn(root, project, "figure-1").axes) == 1
    moved.rename(fits)
    losses.unlink()
    assert "no losses are recorded yet" in words(drawn(root, project, "figure-1"))


def test_a_training_that_ends_at_once_can_be_drawn(tmp_path: Path) -> None:
    """An untrained network has a curve of a single point at outer step 0."""
    section = {TRAINING: {**PARAMS["trainings"][TRAINING], "algorithm": "untrained", "outer_steps": 0}}
    name = "untrained/omniglot-5way"
    figure = {**PARAMS["figures"]["learning-curves"], "trainings": [name]}
    changes = {"trainings": {name: section[TRAINING]}, "evaluations": {}, "figures": {"learning-curves": figure}}
    project = make_project(tmp_path, changed_params(**changes))
    store_curve(tmp_path, 0, {0: 0.4}, name, project)
    axis = drawn(tmp_path, project, "learning-curves").axes[0]
    np.testing.assert_allclose(axis.lines[0].get_xydata(), [[0, 40]])


def test_curves_of_seeds_that_params_does_not_list_are_left_out(root: Path) -> None:
    store_curve(root, 7, {500: 1.0, 1000: 1.0})
    assert gathered(root, make_project(root), "learning-curves")["accuracy"].max() == pytest.approx(0.85)


def test_a_curve_that_lacks_a_column_is_refused(root: Path) -> None:
    path = root / f"results/curves/{TRAINING}/seed-0.csv"
    path.write_text("outer_step,accuracy\n0,0.5\n", encoding="utf-8")
    write_run(path, {"settings_digest": digest(make_project(root).settings_of_training(TRAINING))})
    with pytest.raises(UserError, match=r"seed-0\.csv: column pool, mode, shot, tasks, standard_error missing"):
        figures.write(root, make_project(root), "learning-curves", PUBLISHED)


def test_every_kind_of_params_has_its_functions() -> None:
    assert set(figures.KINDS) == set(get_args(get_type_hints(FigureSettings)["kind"]))


def test_an_unknown_figure_is_refused_with_the_nearest_name(root: Path) -> None:
    with pytest.raises(UserError, match=r"unknown figure 'figure1' .*did you mean 'figure-1'"):
        figures.write(root, make_project(root), "figure1", PUBLISHED)
