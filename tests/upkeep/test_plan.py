"""The plan: what is done, stale or missing, and times that are measured, estimated or unknown."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from firstorder.__main__ import main
from firstorder.data import packs
from firstorder.errors import UserError
from firstorder.records import freshness
from firstorder.records.cells import write_record, write_rows, write_run
from firstorder.settings import CURVE, MODEL, MODES, RECORD, Project, digest
from firstorder.upkeep import plan
from firstorder.upkeep.plan import Device, Folder
from tests.conftest import tiny_pack
from tests.synthetic_records import (
    FIVE_SHOT,
    ONE_SHOT,
    TRAINING,
    changed_params,
    make_project,
    make_record,
    store_record,
)

HERE = Device("cpu", "this machine")
HISTOGRAM = [0, 0, 0, 0, 50, 50]


def longer(**training: Any) -> dict[str, Any]:
    """Return the made-up project with ten times the outer steps and tasks."""
    values = changed_params()
    values["trainings"][TRAINING] |= {"outer_steps": 10_000, **training}
    for evaluation in values["evaluations"].values():
        evaluation["tasks"] *= 10
    return values


def store_training(folder: Folder, seed: int, **run: Any) -> None:
    """Write a curve and its run file: 100 seconds on this machine, unless `run` says otherwise."""
    curve = folder.root / CURVE.format(training=TRAINING, seed=seed)
    write_rows(curve, ("outer_step",), [(0,)])
    made = {"seconds": 100.0, "device": "cpu, 1 thread", "machine": "this machine"}
    write_run(curve, {**made, "settings_digest": digest(folder.project.settings_of_training(TRAINING)), **run})


def planned_training(folder: Folder, measured: Sequence[Folder], device: Device = HERE) -> plan.Entry:
    (entry,) = plan.trainings(folder, device, measured)
    return entry


@pytest.fixture
def short(tmp_path: Path) -> Folder:
    """Return a project of 1,000 outer steps, whose seed 0 is trained."""
    folder = Folder(tmp_path / "short", make_project(tmp_path / "short"))
    store_training(folder, 0)
    return folder


@pytest.fixture
def long(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "long", make_project(tmp_path / "long", longer()))


def test_states_follow_from_the_files(short: Folder) -> None:
    store_training(short, 1, settings_digest="f" * 16)
    assert planned_training(short, [short]).states == ("done", "stale", "missing")


def test_time_is_scaled_by_outer_steps_for_what_is_not_done(short: Folder, long: Folder) -> None:
    """100 seconds for 1,000 outer steps: 1,000 seconds for each of three seeds of 10,000."""
    entry = planned_training(long, [long, short])
    assert entry.seconds == pytest.approx(1000)
    assert entry.remaining == pytest.approx(3000)
    assert planned_training(short, [short]).remaining == pytest.approx(200)


def test_several_measurements_are_averaged(short: Folder, long: Folder) -> None:
    store_training(short, 1, seconds=300.0)
    assert planned_training(long, [short]).seconds == pytest.approx(2000)


def test_a_time_that_was_not_measured_is_unknown(short: Folder, long: Folder, tmp_path: Path) -> None:
    assert planned_training(long, [long]).remaining is None  # nothing measured
    assert planned_training(long, [short], Device("cpu", "another machine")).remaining is None
    assert planned_training(long, [short], Device("a GPU", "this machine")).remaining is None
    other = Folder(tmp_path / "other", make_project(tmp_path / "other", longer(inner_steps=6)))
    assert planned_training(other, [short]).remaining is None  # one of its steps costs more
    store_training(short, 0, settings_digest="f" * 16)
    assert planned_training(long, [short]).remaining is None  # measured with unknown settings


def test_a_gpu_counts_as_the_same_in_any_machine(short: Folder, long: Folder) -> None:
    store_training(short, 0, device="a GPU", machine="elsewhere")
    assert planned_training(long, [short], Device("a GPU", "this machine")).seconds == pytest.approx(1000)


def test_evaluations_are_scaled_by_tasks(short: Folder, long: Folder) -> None:
    """The record of 100 tasks took 12 seconds (synthetic_records): 1,000 tasks take 120."""
    for mode in ("inductive", "transductive"):
        store_record(short.root, short.project, ONE_SHOT, mode, {0: HISTOGRAM})  # type: ignore[arg-type]
    device = Device("a made-up device", "")
    one, five = plan.evaluations(long, device, [short])
    assert (one.name, one.seconds, one.remaining) == (ONE_SHOT, pytest.approx(120), pytest.approx(360))
    assert (five.name, five.seconds) == (FIVE_SHOT, None)
    assert plan.evaluations(short, device, [short])[0].states == ("done", "missing", "missing")


def test_an_evaluation_with_one_of_its_two_cells_is_missing(short: Folder) -> None:
    store_record(short.root, short.project, ONE_SHOT, "inductive", {0: HISTOGRAM})
    assert plan.evaluations(short, HERE, [short])[0].states == ("missing", "missing", "missing")


def test_an_evaluation_whose_settings_were_edited_is_stale(short: Folder) -> None:
    for mode in ("inductive", "transductive"):
        store_record(short.root, short.project, ONE_SHOT, mode, {0: HISTOGRAM})  # type: ignore[arg-type]
    values = changed_params()
    values["evaluations"][ONE_SHOT]["inner_steps"] = 51
    edited = make_project(short.root, values)
    assert plan.evaluations(Folder(short.root, edited), HERE, [])[0].states == ("stale", "missing", "missing")


def two_data_sets(root: Path) -> Project:
    """Write results of one seed for trainings on two data sets, then replace the pack of one of them."""
    values = changed_params()
    values["datasets"]["glyphs"] = {**values["datasets"]["omniglot"], "source": "glyphs", "meta_train_classes": 900}
    values["trainings"]["reptile/glyphs-5way"] = {**values["trainings"][TRAINING], "dataset": "glyphs"}
    values["evaluations"]["reptile/glyphs-5way/1shot"] = {
        **values["evaluations"][ONE_SHOT],
        "training": "reptile/glyphs-5way",
    }
    project = make_project(root, values)
    for dataset in ("omniglot", "glyphs"):
        packs.write_pack(root / f"data/{dataset}.npz", tiny_pack())
    for training in project.trainings:
        curve = root / CURVE.format(training=training, seed=0)
        write_rows(curve, ("outer_step",), [(0,)])
        made = {"seconds": 100.0, "device": "cpu, 1 thread", "machine": "this machine"}
        made |= {"settings_digest": digest(project.settings_of_training(training))}
        write_run(curve, {**made, "data_digest": tiny_pack().digest()})
    for evaluation in project.evaluations:
        for mode in MODES:
            record = make_record(project, evaluation, mode, 0, HISTOGRAM)
            write_record(root, dataclasses.replace(record, data_digest=tiny_pack().digest()), {})
    packs.write_pack(root / "data/omniglot.npz", tiny_pack(images=19))
    return project


def test_results_from_other_data_are_stale_and_counted_as_to_do(tmp_path: Path) -> None:
    folder = Folder(tmp_path, two_data_sets(tmp_path))
    trained = plan.trainings(folder, HERE, [folder])
    assert [entry.states[0] for entry in trained] == ["stale", "done"]
    assert [entry.remaining for entry in trained] == [pytest.approx(300), pytest.approx(200)]
    assert [entry.states[0] for entry in plan.evaluations(folder, HERE, [])] == ["stale", "stale", "done"]
    text = plan.describe(tmp_path, HERE)
    assert "5 of 6 trainings to do (1 stale, to be computed again): 8 min." in text
    assert "8 of 9 evaluations to do (2 stale, to be computed again): unknown." in text


@pytest.mark.parametrize("change", ["data", "settings", "no run files"])
def test_plan_and_stale_never_disagree(tmp_path: Path, change: str) -> None:
    project = two_data_sets(tmp_path)
    if change == "settings":
        values = changed_params()
        values["trainings"][TRAINING]["inner_steps"] = 6
        project = make_project(tmp_path, values)
    if change == "no run files":
        for run in (tmp_path / "results").rglob("*.run.json"):
            run.unlink()
    stale = {item.path for item, _ in freshness.stale(tmp_path, project)}
    assert stale
    for entry in plan.trainings(Folder(tmp_path, project), HERE, []):
        for seed, state in zip(project.seeds, entry.states, strict=True):
            assert (state == "stale") == (CURVE.format(training=entry.name, seed=seed) in stale)
    for entry in plan.evaluations(Folder(tmp_path, project), HERE, []):
        for seed, state in zip(project.seeds, entry.states, strict=True):
            records = {RECORD.format(evaluation=entry.name, mode=mode, seed=seed) for mode in MODES}
            assert (state == "stale") == bool(records & stale)


def test_a_file_edited_by_hand_is_refused(short: Folder) -> None:
    curve = short.root / CURVE.format(training=TRAINING, seed=0)
    curve.write_text("outer_step\n7\n", encoding="utf-8")
    with pytest.raises(UserError, match="changed after it was recorded"):
        plan.describe(short.root, HERE)


def test_the_text_has_totals_and_names_what_is_unknown(short: Folder, long: Folder) -> None:
    text = plan.describe(long.root, HERE, [short.root])
    assert "Made-up numbers; seeds 0, 1, 2" in text
    assert "3 of 3 trainings to do: 50 min." in text
    assert "6 of 6 evaluations to do: unknown." in text
    assert "Unknown: nothing comparable was measured on this device" in text
    (line,) = [line for line in text.splitlines() if line.startswith(f"{TRAINING} ")]
    assert line.split()[1:] == ["0", "0", "3", "17", "min", "50", "min"]


def test_a_missing_checkpoint_that_is_needed_is_named(short: Folder) -> None:
    model = MODEL.format(training=TRAINING, seed=0)
    assert f"{model}: needed and missing" in plan.describe(short.root, HERE)
    (short.root / model).parent.mkdir(parents=True)
    (short.root / model).touch()
    assert "needed and missing" not in plan.describe(short.root, HERE)


def test_a_finished_project_has_nothing_left(tmp_path: Path) -> None:
    project = make_project(tmp_path, changed_params(seeds=[0]))
    store_training(Folder(tmp_path, project), 0)
    for evaluation in (ONE_SHOT, FIVE_SHOT):
        for mode in ("inductive", "transductive"):
            store_record(tmp_path, project, evaluation, mode, {0: HISTOGRAM})  # type: ignore[arg-type]
    text = plan.describe(tmp_path, HERE)
    assert "All 1 trainings are done." in text
    assert "All 2 evaluations are done." in text
    assert "Unknown:" not in text


def test_the_command_takes_times_from_the_folders_it_is_given(
    short: Folder, long: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    store_training(short, 0, device="a GPU")
    command = ["plan", "--params", str(long.root / "params.yaml"), "--device", "a GPU"]
    assert main(command) == 0
    assert "3 of 3 trainings to do: unknown." in capsys.readouterr().out
    assert main([*command, str(short.root)]) == 0
    assert "3 of 3 trainings to do: 50 min." in capsys.readouterr().out


def test_durations_are_printed_in_the_unit_that_fits() -> None:
    assert [plan.duration(seconds) for seconds in (0, 89, 90, 5400, 129600, None)] == [
        "0 s",
        "89 s",
        "2 min",
        "1.5 h",
        "1.5 days",
        "unknown",
    ]


def test_times_of_the_engine_used_last_count(short: Folder, long: Folder) -> None:
    """A mean over two engines would be the time of neither."""
    store_training(short, 0, seconds=900.0, engine="plain", ended="2026-01-01T00:00:00Z")
    store_training(short, 1, seconds=100.0, engine="native", ended="2026-02-01T00:00:00Z")
    both = planned_training(long, [short]).seconds
    store_training(short, 0, seconds=100.0, engine="native", ended="2026-03-01T00:00:00Z")
    assert both == planned_training(long, [short]).seconds


def test_a_training_computed_in_several_places_gives_no_time(short: Folder, long: Folder) -> None:
    store_training(short, 0, seconds=900.0, legs=[{"outer_steps": 900}, {"outer_steps": 100}])
    assert planned_training(long, [short]).seconds is None
