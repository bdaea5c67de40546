"""Closer looks at an evaluation: accuracy along its inner steps, errors by alphabet, and their figures."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from firstorder.__main__ import main
from firstorder.data import packs
from firstorder.errors import UserError
from firstorder.records.cells import read_record, read_run, sealed, write_run
from firstorder.report.claims.paper import Paper
from firstorder.report.figures import adaptation, alphabets, figures, style
from firstorder.settings import ADAPTATION, ALPHABETS, RECORD, Project, checks
from tests.conftest import EVALUATION, TINY_PARAMS, tiny_pack
from tests.report.test_published import PUBLISHED

SECTIONS = {
    "adaptations": {EVALUATION: {"inner_steps": [0, 4, 9], "tasks": 12}},
    "alphabets": {EVALUATION: {"tasks": 12}},
    "figures": {
        "adaptation": {"kind": "adaptation", "title": "Along", "evaluations": [EVALUATION]},
        "alphabets": {"kind": "alphabets", "title": "By alphabet", "evaluations": [EVALUATION]},
    },
}


@pytest.fixture
def project(computed_project: Path) -> Project:
    """Add the two sections to the computed project."""
    path = computed_project / "params.yaml"
    path.write_text(yaml.safe_dump({**TINY_PARAMS, **SECTIONS}, sort_keys=False), encoding="utf-8")
    return checks.load(path)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_after_its_own_inner_steps_the_accuracy_is_that_of_the_evaluation(project: Project) -> None:
    """The 12 tasks and the 4 inner steps are those of the evaluation."""
    assert main(["adaptation", EVALUATION, "--seed", "0", "--device", "cpu"]) == 0
    rows = rows_of(Path(ADAPTATION.format(evaluation=EVALUATION, seed=0)))
    assert [row["inner_steps"] for row in rows] == ["0", "0", "4", "4", "9", "9"]
    for row in rows:
        if row["inner_steps"] == "4":
            record = read_record(Path(RECORD.format(evaluation=EVALUATION, mode=row["mode"], seed=0)))
            mean = np.average(np.arange(6) / 5, weights=record.correct_histogram)
            assert float(row["accuracy"]) == pytest.approx(mean, abs=1e-6)


def test_errors_by_alphabet_add_up_to_those_of_the_evaluation(project: Project) -> None:
    assert main(["alphabets", EVALUATION, "--seed", "0", "--device", "cpu"]) == 0
    rows = rows_of(Path(ALPHABETS.format(evaluation=EVALUATION, seed=0)))
    for mode in ("inductive", "transductive"):
        record = read_record(Path(RECORD.format(evaluation=EVALUATION, mode=mode, seed=0)))
        wrong = sum(count * (5 - right) for right, count in enumerate(record.correct_histogram))
        assert sum(int(row["errors"]) for row in rows if row["mode"] == mode) == wrong
    # 12 tasks of 5 query images, each with 4 wrong classes; all synthetic classes belong to one alphabet.
    assert [(row["queries"], row["offered"]) for row in rows] == [("60", "240")] * 2


def test_the_names_of_meta_test_classes_are_in_the_order_of_the_pool() -> None:
    """The alphabet of a label is found by its position, so names and images must be in the same order."""
    made = packs.Pack(tiny_pack(4, 2).images, ("Greek/1", "Greek/2", "Latin/1", "Latin/2"), 1)
    settings = checks.load(Path(__file__).parents[2] / "params.yaml").datasets["omniglot"]
    settings = type(settings)(**{**vars(settings), "meta_train_classes": 2})
    names = packs.meta_test_names(made, settings, seed=3)
    pools = packs.make_pools(made, settings, seed=3)
    for name, images in zip(names, pools.meta_test, strict=True):
        np.testing.assert_array_equal(images, made.images[made.class_names.index(name)])


def test_a_figure_refuses_records_made_with_other_settings(project: Project) -> None:
    assert main(["adaptation", EVALUATION, "--seed", "0", "--device", "cpu"]) == 0
    path = Path(ADAPTATION.format(evaluation=EVALUATION, seed=0))
    write_run(path, sealed({**read_run(path), "settings_digest": "0" * 16}, path.read_bytes()))
    with pytest.raises(UserError, match=rf"stale.*firstorder adaptation {EVALUATION} --seed 0"):
        figures.write(Path(), project, "adaptation", PUBLISHED)


@pytest.mark.parametrize("verb", ["adaptation", "alphabets"])
def test_an_evaluation_not_listed_in_the_section_is_refused(
    verb: str, computed_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, EVALUATION, "--seed", "0"]) == 2
    assert EVALUATION in capsys.readouterr().err


def test_the_figure_draws_both_modes_in_percent_and_marks_the_evaluations_own_steps(project: Project) -> None:
    assert main(["adaptation", EVALUATION, "--seed", "0", "--device", "cpu"]) == 0
    data = adaptation.gather(Path(), project, project.figures["adaptation"], Paper(PUBLISHED))
    with style.applied():
        (axis,) = adaptation.draw(data).axes
    lines = {line.get_label(): line for line in axis.lines}
    for mode, part in data.groupby("mode"):
        np.testing.assert_allclose(lines[mode].get_xdata(), [0, 4, 9])
        np.testing.assert_allclose(lines[mode].get_ydata(), 100 * part["accuracy"])
    assert axis.lines[-1].get_xdata()[0] == 4


def test_bars_are_shares_of_the_query_images_and_the_hardest_alphabet_is_first() -> None:
    """Greek: 10 of 100 within, 20 of 100 outside; Latin: 5 of 50 outside."""
    frame = pd.DataFrame(
        [
            ("reptile/omniglot-5way/1shot", "Latin", "Greek", 50, 100, 5, 1),
            ("reptile/omniglot-5way/1shot", "Greek", "Greek", 100, 40, 10, 1),
            ("reptile/omniglot-5way/1shot", "Greek", "Latin", 100, 19, 20, 1),
        ],
        columns=list(alphabets.FRAME),
    )
    rates = alphabets.rates(frame)
    assert rates.index.tolist() == ["Greek", "Latin"]
    assert rates.loc["Greek"].tolist() == pytest.approx([0.1, 0.2])
    assert rates.loc["Latin"].tolist() == pytest.approx([0.0, 0.1])
    with style.applied():
        bars, cells = alphabets.draw(frame).axes[:2]
    assert [patch.get_width() for patch in bars.patches] == pytest.approx([10, 0, 20, 10])
    shown = np.ma.filled(cells.images[0].get_array(), np.nan)
    # Greek for Latin was offered too rarely to be shown, Latin for Latin never.
    np.testing.assert_allclose(shown, [[25, np.nan], [5, np.nan]])


@pytest.mark.parametrize("name", ["adaptation", "alphabets"])
def test_without_records_the_figure_says_so(project: Project, name: str) -> None:
    settings = project.figures[name]
    with style.applied():
        figure = figures.KINDS[settings.kind].draw(
            figures.KINDS[settings.kind].gather(Path(), project, settings, Paper(PUBLISHED))
        )
    assert "recorded yet" in figure.axes[0].texts[0].get_text()
