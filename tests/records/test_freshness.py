"""Recorded files that are fresh, stale or edited: what is reported and what is refused."""

from __future__ import annotations

import copy
import csv
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from firstorder import settings
from firstorder.__main__ import main
from firstorder.data import packs
from firstorder.errors import UserError
from firstorder.records import cells, freshness
from firstorder.report.claims import claim_tables
from firstorder.report.figures import figures
from firstorder.report.read import accuracies, staleness
from firstorder.report.text import page, readme, tables
from firstorder.report.text.formatting import STALE_FOOTNOTE
from firstorder.settings import checks
from tests.conftest import EVALUATION, TINY_PARAMS, TRAINING, edit, files_below, tiny_pack, write_params
from tests.report.test_published import PUBLISHED
from tests.synthetic_records import FIVE_SHOT, ONE_SHOT, PARAMS, changed_params, make_project, store_curve, store_record

MODEL = settings.MODEL.format(training=TRAINING, seed=0)
RECORD = settings.RECORD.format(evaluation=EVALUATION, mode="inductive", seed=0)
CAPTIONS = Path(__file__).parents[2] / "workflow/report"
HALF = (0, 0, 50, 50, 0, 0)


# --- Reported ---


def reported(root: Path, values: dict[str, Any]) -> dict[str, str]:
    write_params(root, values)
    return {item.name: difference for item, difference in freshness.stale(root, checks.load(root / "params.yaml"))}


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ((("evaluations", EVALUATION, "tasks"), 11), "evaluation.tasks: 12 -> 11"),
        ((("trainings", TRAINING, "outer_steps"), 7), "training.outer_steps: 6 -> 7"),
        ((("datasets", "omniglot", "rotations"), [0]), "dataset.rotations: [0, 90] -> [0]"),
    ],
)
def test_a_stale_cell_is_reported_with_its_first_difference(computed_project: Path, edits: Any, expected: str) -> None:
    assert reported(computed_project, edit(TINY_PARAMS, edits))[f"{EVALUATION}/inductive seed 0"] == expected


def test_a_stale_curve_is_reported_with_its_first_difference(computed_project: Path) -> None:
    found = reported(computed_project, edit(TINY_PARAMS, (("trainings", TRAINING, "inner_steps"), 3)))
    assert found[f"curve of {TRAINING} seed 0"] == "training.inner_steps: 2 -> 3"


def test_new_seeds_and_titles_make_nothing_stale(computed_project: Path) -> None:
    assert reported(computed_project, edit(TINY_PARAMS, (("seeds",), [0, 1, 2]), (("title",), "Another"))) == {}


def test_both_digests_are_reported_if_the_settings_themselves_are_not_recorded(computed_project: Path) -> None:
    run = computed_project / settings.CURVE.format(training=TRAINING, seed=0).replace(".csv", ".run.json")
    values = json.loads(run.read_text(encoding="utf-8"))
    del values["settings"]
    cells.write_run(run.with_name("seed-0.csv"), cells.sealed(values, run.with_name("seed-0.csv").read_bytes()))
    found = reported(computed_project, edit(TINY_PARAMS, (("trainings", TRAINING, "inner_steps"), 3)))
    assert found[f"curve of {TRAINING} seed 0"].startswith(f"settings: {values['settings_digest']} -> ")


def test_every_computed_file_of_the_main_project_has_a_path_of_its_own() -> None:
    project = checks.load(Path(__file__).parents[2] / "params.yaml")
    paths = [item.path for item in freshness.everything(project)]
    assert len(paths) == len(set(paths))
    assert {settings.SINE_LOSSES, settings.SINE_FITS, settings.EXPANSION, settings.MANIFOLD_POINTS} <= set(paths)


def test_the_digest_of_a_pack_is_read_without_reading_its_images(tmp_path: Path) -> None:
    path = tmp_path / "omniglot.npz"
    packs.write_pack(path, tiny_pack())
    assert freshness.pack_digest(path) == tiny_pack().digest()
    assert freshness.pack_digest(tmp_path / "none.npz") is None
    path.write_bytes(b"not a zip")
    assert freshness.pack_digest(path) is None


def test_changed_data_is_reported_whatever_its_time_stamp(computed_project: Path) -> None:
    pack = computed_project / "data/omniglot.npz"
    stamp = pack.stat().st_mtime_ns
    packs.write_pack(pack, tiny_pack(images=19))
    os.utime(pack, ns=(stamp, stamp))
    found = reported(computed_project, TINY_PARAMS)
    assert set(found) == {*(f"{EVALUATION}/{mode} seed 0" for mode in settings.MODES), f"curve of {TRAINING} seed 0"}
    assert all(difference.startswith("data_digest: ") for difference in found.values())
    pack.unlink()
    assert reported(computed_project, TINY_PARAMS) == {}


def trained_anew(root: Path, curve: str) -> str:
    """Change the checkpoint as another training of the same settings would, and the run file of its curve.

    Returns the digest of the new checkpoint.
    """
    content = (root / MODEL).read_bytes()
    (root / MODEL).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    found = hashlib.sha256((root / MODEL).read_bytes()).hexdigest()
    path = root / settings.CURVE.format(training=TRAINING, seed=0)
    run = {key: value for key, value in cells.read_run(path).items() if key != "checkpoint_digest"}
    named = {"it names the new one": {"checkpoint_digest": found}, "it names none": {}}[curve]
    cells.write_run(path, cells.sealed({**run, **named}, path.read_bytes()))
    return found


@pytest.mark.parametrize("curve", ["it names the new one", "it names none"])
def test_a_record_of_another_checkpoint_than_its_trainings_is_reported(
    computed_project: Path, capsys: pytest.CaptureFixture[str], curve: str
) -> None:
    """As after one cell was computed with FORCE=1 without the checkpoint: the other cells of its training."""
    assert main(["stale"]) == 0
    measured = cells.read_record(computed_project / RECORD).checkpoint_digest
    found = trained_anew(computed_project, curve)
    assert main(["stale"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [f"{EVALUATION}/{mode} seed 0" for mode in settings.MODES]
    assert f"checkpoint_digest: {measured:.16} -> {found:.16} (" in lines[0]
    assert main(["accuracies"]) == 2
    assert "stale, the checkpoint has changed since: checkpoint_digest: " in capsys.readouterr().err


def test_a_record_is_fresh_where_neither_curve_nor_checkpoint_is_here_or_they_are_of_other_settings(
    computed_project: Path,
) -> None:
    trained_anew(computed_project, "it names none")
    (computed_project / MODEL).unlink()
    assert reported(computed_project, TINY_PARAMS) == {}
    trained = computed_project / settings.CURVE.format(training=TRAINING, seed=0)
    run = {**cells.read_run(trained), "settings_digest": "0" * 16, "checkpoint_digest": "0" * 64}
    cells.write_run(trained, cells.sealed(run, trained.read_bytes()))
    assert set(reported(computed_project, TINY_PARAMS)) == {f"curve of {TRAINING} seed 0"}


def test_the_verb_can_be_limited_to_one_cell_or_some_algorithms(
    computed_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_params(computed_project, edit(TINY_PARAMS, (("evaluations", EVALUATION, "tasks"), 11)))
    cell = ["--cell", f"{EVALUATION}/inductive", "--seed", "0"]
    assert main(["stale", *cell]) == 1
    assert capsys.readouterr().out == f"{EVALUATION}/inductive seed 0: evaluation.tasks: 12 -> 11\n"
    assert main(["check-cell", *cell[1:]]) == 0
    assert capsys.readouterr().out == f"{EVALUATION}/inductive seed 0: stale, evaluation.tasks: 12 -> 11\n"
    assert main(["stale", "--algorithms", "maml+untrained"]) == 0
    assert main(["stale", "--algorithms", "reptile"]) == 1


def test_a_cell_without_a_seed_is_refused(computed_project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stale", "--cell", f"{EVALUATION}/inductive"]) == 2
    assert "which seed? Give --seed, one of 0, 1" in capsys.readouterr().err


def test_a_model_is_trained_again_only_if_its_own_settings_changed(computed_project: Path) -> None:
    project = checks.load(write_params(computed_project, edit(TINY_PARAMS, (("evaluations", EVALUATION, "tasks"), 11))))
    wanted = freshness.cell(project, EVALUATION, "inductive", 0)
    assert freshness.paths_to_rebuild(computed_project, project, wanted) == [RECORD]
    project = checks.load(
        write_params(computed_project, edit(TINY_PARAMS, (("trainings", TRAINING, "inner_steps"), 3)))
    )
    wanted = freshness.cell(project, EVALUATION, "inductive", 0)
    assert freshness.paths_to_rebuild(computed_project, project, wanted) == [RECORD, MODEL]


# --- Refused ---


@pytest.mark.parametrize(
    "verb", [["stale"], ["stale", "--paths"], ["accuracies"], ["check-cell", f"{EVALUATION}/inductive", "--seed", "0"]]
)
def test_a_record_edited_by_hand_is_refused_and_left_as_it_is(
    computed_project: Path, capsys: pytest.CaptureFixture[str], verb: list[str]
) -> None:
    path = computed_project / RECORD
    values = json.loads(path.read_text(encoding="utf-8"))
    counts = values["correct_histogram"]
    worse = next(place for place, count in enumerate(counts) if count)
    counts[worse], counts[-1] = counts[worse] - 1, counts[-1] + 1  # the sum stays the same
    path.write_text(json.dumps(values, sort_keys=True, indent=1) + "\n", encoding="utf-8")
    before = files_below(computed_project)
    assert main(verb) == 2
    assert f"{RECORD}: changed after it was recorded" in capsys.readouterr().err
    assert files_below(computed_project) == before


def test_a_curve_edited_by_hand_is_refused(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    store_curve(tmp_path, 0, {500: 0.9})
    path = tmp_path / settings.CURVE.format(training="reptile/omniglot-5way", seed=0)
    path.write_text(path.read_text(encoding="utf-8").replace("0.9", "0.99"), encoding="utf-8")
    with pytest.raises(UserError, match=r"seed-0\.csv: changed after it was recorded"):
        figures.write(tmp_path, project, "learning-curves", PUBLISHED)


@pytest.mark.parametrize(("content", "found"), [("another", "the checkpoint of "), ("damaged", "no checkpoint of ")])
def test_another_checkpoint_in_the_place_of_a_model_is_refused_and_not_overwritten(
    computed_project: Path, capsys: pytest.CaptureFixture[str], content: str, found: str
) -> None:
    write_params(computed_project, edit(TINY_PARAMS, (("trainings", TRAINING, "inner_steps"), 3)))
    path = computed_project / MODEL
    if content == "another":
        path.write_bytes(path.read_bytes().replace(b'\\"seed\\": 0', b'\\"seed\\": 7'))
    else:
        path.write_bytes(b"damaged")
    before = files_below(computed_project)
    assert main(["stale", "--paths"]) == 2
    assert f"{MODEL}: it is {found}" in capsys.readouterr().err
    assert files_below(computed_project) == before


# --- Shown with a mark ---


@pytest.fixture
def with_stale(tmp_path: Path) -> tuple[Path, settings.Project]:
    """Give a project with stale one-shot cells and a fresh five-shot cell."""
    project = make_project(tmp_path)
    store_record(tmp_path, project, ONE_SHOT, "inductive", {0: HALF, 1: HALF})
    store_record(tmp_path, project, FIVE_SHOT, "inductive", {0: HALF})
    store_curve(tmp_path, 0, {500: 0.9})
    evaluations = copy.deepcopy(PARAMS["evaluations"])
    evaluations[ONE_SHOT]["inner_steps"] = 51
    return tmp_path, make_project(tmp_path, changed_params(evaluations=evaluations))


def marks(path: Path, key: str) -> dict[str, set[str]]:
    """Map each value of a CSV column to the values of `stale` in its rows."""
    found: dict[str, set[str]] = {}
    with path.open(encoding="utf-8") as file:
        for line in csv.DictReader(file):
            found.setdefault(line[key], set()).add(line["stale"])
    return found


def test_a_stale_record_is_marked_wherever_it_is_shown(with_stale: tuple[Path, settings.Project]) -> None:
    root, project = with_stale
    with staleness.allowed():
        assert marks(accuracies.write(root, project), "shot") == {"1": {"True"}, "5": {"False"}}
        written = tables.write(root, project, "table-2", PUBLISHED)
        claim_tables.write(root, project, PUBLISHED)
        drawn = figures.write(root, project, "accuracies", PUBLISHED)
        text = readme.render([(root, project)], PUBLISHED)
    assert marks(written[0], "column") == {"omniglot-5way/1shot": {"True", "False"}, "omniglot-5way/5shot": {"False"}}
    printed = written[1].read_text(encoding="utf-8")
    assert "| Reptile | Omniglot 5-way 1-shot ‡ |" in printed
    assert "| Reptile | Omniglot 5-way 5-shot |" in printed
    assert STALE_FOOTNOTE in printed
    assert r"Omniglot 5-way 1-shot \ddag &" in written[2].read_text(encoding="utf-8")
    assert "True" in set().union(*marks(root / "results/claims.csv", "cells").values())
    assert "‡" in (root / "results/claims.md").read_text(encoding="utf-8")
    assert "True" in marks(drawn[2], "column")["omniglot-5way/1shot"]
    assert "‡ Stale" in text
    assert f"{ONE_SHOT}/inductive" not in json.loads((root / "results/metrics.json").read_text(encoding="utf-8"))


def test_a_stale_curve_is_marked_in_its_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store_curve(tmp_path, 0, {500: 0.9})
    trainings = copy.deepcopy(PARAMS["trainings"])
    trainings["reptile/omniglot-5way"]["inner_steps"] = 6
    project = make_project(tmp_path, changed_params(trainings=trainings))
    said: list[str] = []
    monkeypatch.setattr(figures.style, "write_above", lambda figure, words: said.append(words))
    with staleness.allowed():
        written = figures.write(tmp_path, project, "learning-curves", PUBLISHED)
    assert marks(written[2], "training") == {"reptile/omniglot-5way": {"True"}}
    assert len(said) == 1
    assert said[0].startswith("‡ Stale")


def test_by_default_the_report_refuses_stale_records(with_stale: tuple[Path, settings.Project]) -> None:
    root, project = with_stale
    for write in (
        lambda: accuracies.write(root, project),
        lambda: tables.write(root, project, "table-2", PUBLISHED),
        lambda: claim_tables.write(root, project, PUBLISHED),
        lambda: figures.write(root, project, "accuracies", PUBLISHED),
        lambda: readme.render([(root, project)], PUBLISHED),
        lambda: page.write(root, project, CAPTIONS),
    ):
        with pytest.raises(UserError, match=r"stale, .* since: evaluation\.inner_steps: 50 -> 51"):
            write()


def test_the_report_shows_curves_that_a_figure_draws_and_no_others(tmp_path: Path) -> None:
    """A stale curve that nothing shows is no reason to refuse the report."""
    project = make_project(tmp_path)
    curves = {item.about for item in staleness.shown(project) if item.command.startswith("firstorder train")}
    assert curves == {name for figure in project.figures for name in project.trainings_of_figure(figure)} != set()
    without = changed_params(figures={"accuracies": PARAMS["figures"]["accuracies"]})
    hidden = {item.name for item in staleness.shown(project)} - {
        item.name for item in staleness.shown(make_project(tmp_path, without))
    }
    assert hidden == {f"curve of {name} seed {seed}" for name in curves for seed in project.seeds}


def test_nothing_is_marked_if_nothing_is_stale(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    store_record(tmp_path, project, ONE_SHOT, "inductive", {0: HALF})
    plain = accuracies.write(tmp_path, project).read_bytes()
    with staleness.allowed():
        assert accuracies.write(tmp_path, project).read_bytes() == plain


def test_the_command_line_allows_them_with_allow_stale(
    computed_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_params(computed_project, edit(TINY_PARAMS, (("evaluations", EVALUATION, "tasks"), 11)))
    assert main(["accuracies"]) == 2
    assert main(["accuracies", "--allow-stale"]) == 0
    assert marks(computed_project / "results/accuracies.csv", "mode") == {mode: {"True"} for mode in settings.MODES}


def test_a_table_is_written_although_cells_that_it_does_not_show_are_stale(tmp_path: Path) -> None:
    """It must be, because Snakemake writes tables while it still has to compute other stale cells."""
    project = make_project(tmp_path)
    store_record(tmp_path, project, FIVE_SHOT, "inductive", {0: HALF})
    values = changed_params()
    values["tables"] = {"table-2": {**PARAMS["tables"]["table-2"], "columns": ["omniglot-5way/1shot"]}}
    values["evaluations"][FIVE_SHOT]["inner_steps"] = 51
    assert tables.write(tmp_path, make_project(tmp_path, values), "table-2", PUBLISHED)
