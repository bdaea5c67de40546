"""The plan: what is done, stale or missing, and times that are measured or estimated, but never unknown."""

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
from firstorder.records.cells import write_record, write_run
from firstorder.records.row_files import write_rows
from firstorder.settings import CURVE, MODEL, MODES, RECORD, Project, digest
from firstorder.upkeep import plan, plan_text
from firstorder.upkeep.computations import Folder
from firstorder.upkeep.plan import Device, Plan
from firstorder.upkeep.schedule import Room
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


def planned(folder: Folder, measured: Sequence[Folder] = (), device: Device = HERE, **options: Any) -> Plan:
    return plan.make(folder.root, device, [other.root for other in measured], folder.project, **options)


def training(folder: Folder, measured: Sequence[Folder] = (), device: Device = HERE) -> plan.Entry:
    return planned(folder, measured, device).named("training", TRAINING)


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
    assert training(short).states == ("done", "stale", "missing")


def test_time_is_scaled_by_length_for_what_is_not_done(short: Folder, long: Folder) -> None:
    """100 seconds for 1,000 outer steps: 1,000 seconds for each of three seeds of 10,000."""
    entry = training(long, [short])
    assert entry.source is None
    assert entry.seconds == pytest.approx(1000)
    assert entry.remaining == pytest.approx(3000)
    assert training(short).remaining == pytest.approx(200)


def test_several_measurements_are_averaged(short: Folder, long: Folder) -> None:
    store_training(short, 1, seconds=140.0)
    assert training(long, [short]).seconds == pytest.approx(1200)


def test_a_time_that_was_not_measured_is_estimated(short: Folder, long: Folder, tmp_path: Path) -> None:
    assert training(long).source is not None  # nothing measured
    assert training(long, [short], Device("cpu", "another machine")).source is not None
    assert training(long, [short], Device("a GPU", "this machine")).source is not None
    store_training(short, 0, settings_digest="f" * 16)
    assert training(long, [short]).source is not None  # measured with unknown settings


def test_a_step_that_costs_more_is_estimated_by_runs_of_its_kind(short: Folder, tmp_path: Path) -> None:
    """Six inner steps instead of five: as many operations a second as in the run of the other training."""
    other = Folder(tmp_path / "other", make_project(tmp_path / "other", longer(inner_steps=6)))
    entry = training(other, [short])
    assert entry.source == "other runs of this machine"
    rate = training(short).computation.work.operations / 100
    assert entry.seconds == pytest.approx(entry.computation.work.operations / rate)


def test_a_gpu_counts_as_the_same_in_any_machine(short: Folder, long: Folder) -> None:
    store_training(short, 0, device="a GPU", machine="elsewhere")
    assert training(long, [short], Device("a GPU", "this machine")).seconds == pytest.approx(1000)


def test_evaluations_are_scaled_by_tasks(short: Folder, long: Folder) -> None:
    """The record of 100 tasks took 12 seconds (synthetic_records): 1,000 tasks take 120."""
    for mode in ("inductive", "transductive"):
        store_record(short.root, short.project, ONE_SHOT, mode, {0: HISTOGRAM})  # type: ignore[arg-type]
    device = Device("a made-up device", "")
    one, five = planned(long, [short], device).of_kind("evaluation")
    assert (one.name, one.seconds, one.remaining) == (ONE_SHOT, pytest.approx(120), pytest.approx(360))
    assert (five.name, five.source) == (FIVE_SHOT, "other runs of a made-up device")
    assert planned(short, [], device).of_kind("evaluation")[0].states == ("done", "missing", "missing")


def test_an_evaluation_with_one_of_its_two_cells_is_missing(short: Folder) -> None:
    store_record(short.root, short.project, ONE_SHOT, "inductive", {0: HISTOGRAM})
    assert planned(short).of_kind("evaluation")[0].states == ("missing", "missing", "missing")


def test_an_evaluation_whose_settings_were_edited_is_stale(short: Folder) -> None:
    for mode in ("inductive", "transductive"):
        store_record(short.root, short.project, ONE_SHOT, mode, {0: HISTOGRAM})  # type: ignore[arg-type]
    values = changed_params()
    values["evaluations"][ONE_SHOT]["inner_steps"] = 51
    edited = Folder(short.root, make_project(short.root, values))
    assert planned(edited).of_kind("evaluation")[0].states == ("stale", "missing", "missing")


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
    for name in project.trainings:
        curve = root / CURVE.format(training=name, seed=0)
        write_rows(curve, ("outer_step",), [(0,)])
        made = {"seconds": 100.0, "device": "cpu, 1 thread", "machine": "this machine"}
        made |= {"settings_digest": digest(project.settings_of_training(name))}
        write_run(curve, {**made, "data_digest": tiny_pack().digest()})
    for evaluation in project.evaluations:
        for mode in MODES:
            record = make_record(project, evaluation, mode, 0, HISTOGRAM)
            write_record(root, dataclasses.replace(record, data_digest=tiny_pack().digest()), {})
    packs.write_pack(root / "data/omniglot.npz", tiny_pack(images=19))
    return project


def test_results_from_other_data_are_stale_and_counted_as_to_do(tmp_path: Path) -> None:
    made = planned(Folder(tmp_path, two_data_sets(tmp_path)))
    assert [entry.states[0] for entry in made.of_kind("training")] == ["stale", "done"]
    assert [entry.remaining for entry in made.of_kind("training")] == [pytest.approx(300), pytest.approx(200)]
    assert [entry.states[0] for entry in made.of_kind("evaluation")] == ["stale", "stale", "done"]
    text = plan_text.describe(made)
    assert "5 of 6 trainings to do (1 stale, to be computed again): 8 min." in text
    assert "8 of 9 evaluations to do (2 stale, to be computed again): ~" in text


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
    made = planned(Folder(tmp_path, project))
    for entry in made.of_kind("training"):
        for seed, state in zip(project.seeds, entry.states, strict=True):
            assert (state == "stale") == (CURVE.format(training=entry.name, seed=seed) in stale)
    for entry in made.of_kind("evaluation"):
        for seed, state in zip(project.seeds, entry.states, strict=True):
            records = {RECORD.format(evaluation=entry.name, mode=mode, seed=seed) for mode in MODES}
            assert (state == "stale") == bool(records & stale)


def test_a_file_edited_by_hand_is_refused(short: Folder) -> None:
    curve = short.root / CURVE.format(training=TRAINING, seed=0)
    curve.write_text("outer_step\n7\n", encoding="utf-8")
    with pytest.raises(UserError, match="changed after it was recorded"):
        planned(short)


def test_the_text_has_totals_and_marks_estimates(short: Folder, long: Folder) -> None:
    text = plan_text.describe(planned(long, [short]))
    assert "Made-up numbers; seeds 0, 1, 2" in text
    assert "3 of 3 trainings to do: 50 min." in text
    assert "6 of 6 evaluations to do: ~" in text
    assert "unknown" not in text.lower()
    assert "Without ~: measured on this machine with the same settings, scaled by length." in text
    (line,) = [line for line in text.splitlines() if line.startswith(f"{TRAINING} ")]
    assert line.split()[1:] == ["0", "0", "3", "17", "min", "50", "min"]


def test_the_schedule_shows_how_cores_share_the_work(short: Folder, long: Folder) -> None:
    """Three trainings of 1,000 seconds: one core takes them in turn, three at once; nine cores give each three."""
    text = plan_text.describe(planned(long, [short], room=Room(1)))
    assert "All of it on 1 core (this machine):" in text
    assert "  trainings       ~50 min: 3 jobs of 17 min\n" in text
    assert "3 jobs with 3 threads each of" in plan_text.describe(planned(long, [short], room=Room(9)))
    path = f"training {TRAINING} seed 0 -> evaluation {FIVE_SHOT} seed 0"
    assert path in text


def test_a_missing_checkpoint_that_is_needed_is_named(short: Folder) -> None:
    model = MODEL.format(training=TRAINING, seed=0)
    assert f"{model}: needed and missing" in plan_text.describe(planned(short))
    (short.root / model).parent.mkdir(parents=True)
    (short.root / model).touch()
    assert "needed and missing" not in plan_text.describe(planned(short))


def test_a_finished_project_has_nothing_left(tmp_path: Path) -> None:
    values = changed_params(seeds=[0])
    del values["sine"]
    values["tables"], values["figures"] = {}, {}
    project = make_project(tmp_path, values)
    store_training(Folder(tmp_path, project), 0)
    for evaluation in (ONE_SHOT, FIVE_SHOT):
        for mode in ("inductive", "transductive"):
            store_record(tmp_path, project, evaluation, mode, {0: HISTOGRAM})  # type: ignore[arg-type]
    made = planned(Folder(tmp_path, project))
    text = plan_text.describe(made)
    assert "All 1 trainings are done." in text
    assert "All 2 evaluations are done." in text
    assert made.jobs == []
    assert "wall time" not in text
    assert "Nothing to do." in plan_text.describe_cell(made, f"{ONE_SHOT}/inductive", (0,))


def test_the_command_takes_times_from_the_folders_it_is_given(
    short: Folder, long: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    store_training(short, 0, device="a GPU")
    command = ["plan", "--params", str(long.root / "params.yaml"), "--device", "a GPU"]
    assert main(command) == 0
    assert "3 of 3 trainings to do: ~" in capsys.readouterr().out
    assert main([*command, str(short.root)]) == 0
    assert "3 of 3 trainings to do: 50 min." in capsys.readouterr().out


def test_a_folder_whose_params_are_refused_is_named_and_only_its_times_are_missed(
    short: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun/params.yaml").write_text('title: "Begun"\n')
    assert main(["plan", "--params", str(short.root / "params.yaml"), str(tmp_path / "begun")]) == 0
    printed = capsys.readouterr()
    assert "trainings to do" in printed.out
    (line,) = [line for line in printed.err.splitlines() if "begun/params.yaml" in line]
    assert line.endswith("so the times measured there are not used")


def test_the_command_plans_one_cell(short: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    """The training of seed 0 is done, so that only its evaluation is left; seed 1 needs both."""
    command = ["plan", "--params", str(short.root / "params.yaml"), "--device", "cpu", "--cores", "1"]
    assert main([*command, "--cell", f"{ONE_SHOT}/inductive", "--seed", "0"]) == 0
    assert "  seed 0: training done; evaluation missing, ~" in capsys.readouterr().out
    assert main([*command, "--cell", f"{ONE_SHOT}/inductive", "--seed", "1"]) == 0
    assert "  seed 1: training missing, ~" in capsys.readouterr().out
    assert main([*command, "--cell", "reptile/omniglot-5way/1shot/inductiv"]) == 2
    assert "unknown cell" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cores", "many"], "CORES=many: expected a whole number from 1"),
        (["--device", "a GPU", "--gpus", "0"], "GPUS=0: expected a whole number from 1"),
        (["--device", "a GPU", "--probe"], "PROBE=1 measures this machine"),
    ],
)
def test_options_that_cannot_be_are_refused(
    short: Folder, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert main(["plan", "--params", str(short.root / "params.yaml"), *options]) == 2
    assert said in capsys.readouterr().err


def test_durations_are_printed_in_the_unit_that_fits() -> None:
    shown = [plan_text.duration(seconds) for seconds in (0, 89, 90, 5400, 129600)]
    assert shown == ["0 s", "89 s", "2 min", "1.5 h", "1.5 days"]


def test_times_of_the_engine_used_last_count(short: Folder, long: Folder) -> None:
    """A mean over two engines would be the time of neither."""
    store_training(short, 0, seconds=900.0, engine="plain", ended="2026-01-01T00:00:00Z")
    store_training(short, 1, seconds=100.0, engine="native", ended="2026-02-01T00:00:00Z")
    both = training(long, [short]).seconds
    store_training(short, 0, seconds=100.0, engine="native", ended="2026-03-01T00:00:00Z")
    assert both == training(long, [short]).seconds


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        ({"seconds": 900.0, "legs": [{"outer_steps": 900}, {"outer_steps": 100}]}, "interrupted"),
        ({"seconds": 100.0, "cpu_seconds": 50.0}, "busy machine: 50% of a core"),
        ({"seconds": 900.0}, "busy machine: 9.0 times slower"),
    ],
)
def test_a_run_that_was_interrupted_or_disturbed_is_named_and_gives_no_time(
    short: Folder, long: Folder, run: dict[str, Any], reason: str
) -> None:
    store_training(short, 1, **run)
    made = planned(long, [short])
    assert made.named("training", TRAINING).seconds == pytest.approx(1000)
    assert [(one.name, one.unused) for one in made.unused] == [(f"{TRAINING} seed 1", reason)]
    assert f"Recorded times that are not used: 1 {reason.split(':')[0]} ({TRAINING} seed 1" in plan_text.describe(made)


def test_a_run_on_an_undisturbed_machine_is_used_however_slow(short: Folder, long: Folder) -> None:
    store_training(short, 1, seconds=300.0, cpu_seconds=299.0)
    assert training(long, [short]).seconds == pytest.approx(2000)
    assert planned(long, [short]).unused == []


def test_the_trainings_of_a_sweep_are_one_line(tmp_path: Path) -> None:
    values = changed_params()
    base = dict(values["trainings"][TRAINING])
    variants = {"reptile": {"label": "Reptile", "algorithm": "reptile"}}
    values["sweeps"] = {"steps": {"base": base, "varied": "inner_steps", "values": [2, 4], "variants": variants}}
    made = planned(Folder(tmp_path, make_project(tmp_path, values)))
    text = plan_text.describe(made)
    assert sum("sweep steps (2 trainings)" in line for line in text.splitlines()) == 1
    assert "9 of 9 trainings to do" in text
    assert len([job for job in made.jobs if job.group == "training"]) == 9
