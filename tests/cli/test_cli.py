"""The command line on a miniature project: what it writes, that it can be repeated, and how it refuses."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file

from firstorder import NUMERICS_VERSION, __version__, settings
from firstorder.__main__ import main
from firstorder.cli import compute
from firstorder.cli.verbs import VERBS
from firstorder.data import packs
from firstorder.method import training
from firstorder.records import cells, checkpoints, provenance
from firstorder.records.cells import read_record
from firstorder.settings import checks, columns
from firstorder.upkeep import locks, published_files
from tests.conftest import EVALUATION, TINY_PARAMS, TRAINING, edit, files_below, tiny_pack, write_params

MODEL = f"models/{TRAINING}/seed-0.safetensors"
CURVE = f"results/curves/{TRAINING}/seed-0.csv"
RECORDS = {mode: f"results/cells/{EVALUATION}/{mode}/seed-0.json" for mode in settings.MODES}
COMPUTED = {MODEL, CURVE, *RECORDS.values()}
GIVEN = {"params.yaml", "data/omniglot.npz"}


def train(seed: int = 0, name: str = TRAINING) -> int:
    return main(["train", name, "--seed", str(seed), "--device", "cpu"])


def evaluate(seed: int = 0, name: str = EVALUATION) -> int:
    return main(["evaluate", name, "--seed", str(seed), "--device", "cpu"])


def without_runs(root: Path) -> dict[str, bytes]:
    """Return all files except run files, which hold time and machine, and states of trainings."""
    found = files_below(root).items()
    return {name: text for name, text in found if not name.endswith(".run.json") and not name.startswith(".work/")}


def change(root: Path, *place: Any, value: Any) -> None:
    """Change one value of the project's params.yaml."""
    write_params(root, edit(TINY_PARAMS, (place, value)))


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[[Path, Sequence[str]], str]:
    """Return a function that runs a command, asserts that it is refused and writes nothing, and returns the message."""

    def run(root: Path, command: Sequence[str]) -> str:
        before = files_below(root)
        capsys.readouterr()
        assert main([*command]) == 2
        printed = capsys.readouterr()
        assert files_below(root) == before
        assert printed.out == ""
        (line,) = printed.err.splitlines()
        assert line.startswith("firstorder: ")
        return line.removeprefix("firstorder: ")

    return run


Refused = Callable[[Path, Sequence[str]], str]
TRAIN = ["train", TRAINING, "--seed", "0", "--device", "cpu"]
EVALUATE = ["evaluate", EVALUATION, "--seed", "0", "--device", "cpu"]


# --- What is written ---


def test_training_and_evaluating_write_exactly_their_files(computed_project: Path) -> None:
    runs = {str(Path(name).with_suffix(".run.json")) for name in (CURVE, *RECORDS.values())}
    assert set(files_below(computed_project)) == GIVEN | COMPUTED | runs


def test_training_and_evaluating_print_their_files(tiny_project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train() == 0
    assert capsys.readouterr().out.splitlines() == [MODEL, CURVE]
    assert evaluate() == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [RECORDS["inductive"], RECORDS["transductive"]]
    assert f"{EVALUATION} seed 0: 12/12 tasks (100 %)" in printed.err


def test_records_hold_settings_and_digests(computed_project: Path) -> None:
    project = checks.load(computed_project / "params.yaml")
    resolved = project.settings_of_evaluation(EVALUATION)
    for mode, name in RECORDS.items():
        record = read_record(computed_project / name)
        assert (record.algorithm, record.dataset, record.way, record.shot) == ("reptile", "omniglot", 5, 1)
        assert (record.mode, record.seed, record.tasks) == (mode, 0, 12)
        assert record.settings == json.loads(json.dumps(resolved))
        assert record.settings_digest == settings.digest(resolved)
        assert record.training_digest == settings.digest(project.settings_of_training(TRAINING))
        assert record.data_digest == tiny_pack().digest()
        assert record.checkpoint_digest == hashlib.sha256((computed_project / MODEL).read_bytes()).hexdigest()
        assert (record.numerics_version, record.precision) == (NUMERICS_VERSION, "float32")
        assert sum(record.correct_histogram) == 12
        assert len(record.correct_histogram) == 6


def test_records_state_the_precision(tiny_project: Path) -> None:
    change(tiny_project, "trainings", TRAINING, "precision", value="bfloat16")
    assert train() == evaluate() == 0
    for name in RECORDS.values():
        assert read_record(tiny_project / name).precision == "bfloat16"
    assert main(["verify"]) == 0


def test_the_pipeline_learns_to_distinguish_the_made_up_classes(computed_project: Path) -> None:
    """Chance is 1 in 5; the classes differ so clearly that a few steps must do far better."""
    for name in RECORDS.values():
        histogram = read_record(computed_project / name).correct_histogram
        assert sum(right * tasks for right, tasks in enumerate(histogram)) / (12 * 5) > 0.6


def test_run_files_stand_beside_records_and_curves(computed_project: Path) -> None:
    for name in (CURVE, *RECORDS.values()):
        run = json.loads((computed_project / name).with_suffix(".run.json").read_text())
        assert set(provenance.run_information(0.0, "")) <= set(run)
        assert run["device"] == "cpu, 1 thread"
        assert 0 <= run["seconds"] < 60
    curve = json.loads((computed_project / CURVE).with_suffix(".run.json").read_text())
    assert (curve["training"], curve["seed"], curve["outer_steps"]) == (TRAINING, 0, 6)


def test_the_learning_curve_measures_both_pools_and_modes_at_its_steps_and_at_the_end(computed_project: Path) -> None:
    """Every 4 of 6 outer steps, so after 4 and after the last."""
    rows = list(csv.DictReader((computed_project / CURVE).read_text().splitlines()))
    assert tuple(rows[0]) == columns.CURVE
    assert [(row["outer_step"], row["pool"], row["mode"]) for row in rows] == [
        (step, pool, mode) for step in ("4", "6") for pool in ("meta-train", "meta-test") for mode in settings.MODES
    ]
    for row in rows:
        assert (row["shot"], row["tasks"]) == ("1", "4")
        assert 0 <= float(row["accuracy"]) <= 1
        assert 0 <= float(row["standard_error"]) <= 0.5


def test_repeating_gives_the_same_bytes(tiny_project: Path, computed_once: Path) -> None:
    torch.manual_seed(99)
    assert train() == evaluate() == 0
    assert without_runs(tiny_project) == without_runs(computed_once)


def test_evaluating_again_replaces_records_with_the_same_bytes(computed_project: Path) -> None:
    before = without_runs(computed_project)
    assert evaluate() == 0
    assert without_runs(computed_project) == before


def test_another_seed_gives_another_model_and_leaves_the_first_alone(computed_project: Path) -> None:
    before = files_below(computed_project)
    assert train(1) == evaluate(1) == 0
    after = files_below(computed_project)
    assert {name: after[name] for name in before} == before
    assert {name.replace("seed-1", "seed-0") for name in set(after) - set(before)} == set(before) - GIVEN
    for name in (MODEL, CURVE):
        assert after[name.replace("seed-0", "seed-1")] != after[name]


def test_params_may_be_in_another_folder(tiny_project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*TRAIN, "--params", "project/params.yaml"]) == 0
    assert (tiny_project / MODEL).exists()
    assert list(tmp_path.iterdir()) == [tiny_project]


def test_untrained_is_the_network_as_initialised(tiny_project: Path) -> None:
    """Zero outer steps: the curve is empty, and there is a checkpoint to evaluate."""
    values = edit(TINY_PARAMS, (("trainings", "untrained/omniglot-5way"), {**TINY_PARAMS["trainings"][TRAINING]}))
    values["trainings"]["untrained/omniglot-5way"] |= {"algorithm": "untrained", "outer_steps": 0}
    evaluation = {**TINY_PARAMS["evaluations"][EVALUATION], "training": "untrained/omniglot-5way"}
    values["evaluations"]["untrained/omniglot-5way/1shot"] = evaluation
    write_params(tiny_project, values)
    assert train(name="untrained/omniglot-5way") == 0
    assert evaluate(name="untrained/omniglot-5way/1shot") == 0
    curve = (tiny_project / "results/curves/untrained/omniglot-5way/seed-0.csv").read_text()
    assert curve == ",".join(columns.CURVE) + "\n"
    record = read_record(tiny_project / "results/cells/untrained/omniglot-5way/1shot/inductive/seed-0.json")
    assert (record.algorithm, record.tasks) == ("untrained", 12)


def test_second_moments_per_lane_train_another_model(tiny_project: Path, computed_once: Path) -> None:
    change(tiny_project, "trainings", TRAINING, "second_moments", value="per_lane")
    assert train() == evaluate() == 0
    assert (tiny_project / MODEL).read_bytes() != (computed_once / MODEL).read_bytes()


# --- Interruption ---


class Interrupt:
    """Interrupts a training before the given outer step; `steps` lists the outer steps that were taken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, before: int) -> None:
        self.steps: list[int] = []
        outer_step = training.outer_step

        def interrupted(problem: Any, inner: Any, progress: Any) -> None:
            if progress.outer_step == before:
                raise KeyboardInterrupt
            outer_step(problem, inner, progress)
            self.steps.append(progress.outer_step - 1)

        monkeypatch.setattr(training, "outer_step", interrupted)


@pytest.mark.parametrize("second_moments", ["carried", "per_lane"])
@pytest.mark.parametrize("before", [3, 5])
def test_an_interrupted_training_continues_and_ends_with_the_same_bytes(
    tiny_project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    second_moments: str,
    before: int,
) -> None:
    change(tiny_project, "trainings", TRAINING, "second_moments", value=second_moments)
    assert train() == 0
    whole = without_runs(tiny_project)
    (tiny_project / MODEL).unlink()
    (tiny_project / CURVE).unlink()
    shutil.rmtree(tiny_project / ".work")

    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", 0.0)
    capsys.readouterr()
    with monkeypatch.context() as patch:
        Interrupt(patch, before)
        assert train() == 130
    assert capsys.readouterr().err == "firstorder: SIGINT: ended at once; what was saved before is kept\n"
    assert not (tiny_project / MODEL).exists()
    with monkeypatch.context() as patch:
        rest = Interrupt(patch, -1)
        assert train() == 0
    assert rest.steps == list(range(before, 6))
    assert without_runs(tiny_project) == whole


def test_an_interrupted_training_with_other_settings_starts_over(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", 0.0)
    with monkeypatch.context() as patch:
        Interrupt(patch, 3)
        assert train() == 130
    change(tiny_project, "trainings", TRAINING, "inner_learning_rate", value=0.002)
    with monkeypatch.context() as patch:
        restarted = Interrupt(patch, -1)
        assert train() == 0
    assert restarted.steps == list(range(6))


def test_an_interrupted_training_with_other_data_starts_over(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", 0.0)
    with monkeypatch.context() as patch:
        Interrupt(patch, 3)
        assert train() == 130
    packs.write_pack(tiny_project / "data/omniglot.npz", tiny_pack(classes=25))
    with monkeypatch.context() as patch:
        restarted = Interrupt(patch, -1)
        assert train() == 0
    assert restarted.steps == list(range(6))


def test_an_interrupted_training_with_a_damaged_state_starts_over(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch, computed_once: Path
) -> None:
    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", 0.0)
    with monkeypatch.context() as patch:
        Interrupt(patch, 3)
        assert train() == 130
    (state,) = tiny_project.glob(".work/*/seed-0.safetensors")
    state.write_bytes(state.read_bytes()[:-100])
    assert train() == evaluate() == 0
    assert without_runs(tiny_project) == without_runs(computed_once)


# --- Refusals ---


def test_a_number_that_is_not_finite_stops_the_training(tiny_project: Path, refused: Refused) -> None:
    write_params(
        tiny_project,
        edit(
            TINY_PARAMS,
            (("trainings", TRAINING, "inner_optimiser"), "sgd"),
            (("trainings", TRAINING, "inner_learning_rate"), 1e30),
        ),
    )
    message = refused(tiny_project, TRAIN)
    assert message.startswith(f"{TRAINING}, seed 0: the meta-gradient is not finite at outer step ")
    assert "lower inner_learning_rate (now 1e+30)" in message


def test_evaluating_before_training_says_what_to_do(tiny_project: Path, refused: Refused) -> None:
    said = refused(tiny_project, EVALUATE)
    assert said.startswith(f"{MODEL}: no such checkpoint; train it, or get it with: dvc pull --allow-missing")
    assert "without .git, as after a ZIP download, once before: dvc config --local core.no_scm true" in said


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("trainings", TRAINING, "inner_learning_rate"), 0.002),
        (("trainings", TRAINING, "outer_steps"), 7),
        (("trainings", TRAINING, "curve", "tasks"), 5),
        (("datasets", "omniglot", "meta_train_classes"), 15),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(
    computed_project: Path, refused: Refused, place: tuple[str, ...], value: Any
) -> None:
    change(computed_project, *place, value=value)
    message = refused(computed_project, EVALUATE)
    assert message.startswith(f"{MODEL}: its training_digest is ")
    assert message.endswith(f"train again: firstorder train {TRAINING} --seed 0")


def test_a_checkpoint_of_other_data_is_refused(computed_project: Path, refused: Refused) -> None:
    packs.write_pack(computed_project / "data/omniglot.npz", tiny_pack(classes=25))
    assert refused(computed_project, EVALUATE).startswith(f"{MODEL}: its data_digest is {tiny_pack().digest()}")


def test_a_checkpoint_of_another_seed_is_refused(computed_project: Path, refused: Refused) -> None:
    (computed_project / MODEL).rename(computed_project / MODEL.replace("seed-0", "seed-1"))
    message = refused(computed_project, [*EVALUATE[:3], "1", *EVALUATE[4:]])
    assert "its seed is 0, expected 1" in message


def test_a_damaged_checkpoint_is_refused(computed_project: Path, refused: Refused) -> None:
    path = computed_project / MODEL
    path.write_bytes(path.read_bytes()[:-1])
    assert refused(computed_project, EVALUATE).startswith(f"{MODEL}: not a checkpoint of this package")


def test_an_evaluation_with_other_settings_needs_no_other_training(computed_project: Path) -> None:
    before = read_record(computed_project / RECORDS["inductive"])
    change(computed_project, "evaluations", EVALUATION, "tasks", value=11)
    assert evaluate() == 0
    after = read_record(computed_project / RECORDS["inductive"])
    assert after.tasks == 11
    assert after.training_digest == before.training_digest
    assert after.settings_digest != before.settings_digest


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            ["train", "reptile/omniglot-5wy", "--seed", "0"],
            f"unknown training 'reptile/omniglot-5wy' (did you mean '{TRAINING}'",
        ),
        (["evaluate", TRAINING, "--seed", "0"], f"unknown evaluation '{TRAINING}' (did you mean '{EVALUATION}'?)"),
        (["pack", "omniglott"], "unknown data set 'omniglott' (did you mean 'omniglot'?); known are: omniglot"),
        (["check-cell", f"{EVALUATION}/both", "--seed", "0"], f"unknown cell '{EVALUATION}/both' (did you mean '"),
        (["check-cell", f"{EVALUATION}/inductive", "--seed", "7"], "seed 7 is not among params.yaml's seeds [0, 1]"),
        (["train", TRAINING, "--seed", "7"], "seed 7 is not among params.yaml's seeds [0, 1]"),
        (["evaluate", EVALUATION, "--seed", "7"], "seed 7 is not among params.yaml's seeds [0, 1]"),
        (["train", TRAINING, "--seed", "0", "--params", "nowhere.yaml"], "nowhere.yaml: no such file; run from the"),
        (["train", TRAINING, "--seed", "0", "--params", "data"], "data: cannot be read ("),
    ],
)
def test_an_unknown_name_or_file_is_reported_in_one_line(
    tiny_project: Path, refused: Refused, command: list[str], expected: str
) -> None:
    assert refused(tiny_project, command).startswith(expected)


@pytest.mark.parametrize(
    ("command", "example"),
    [
        (["hold", "--cell", "", "--seed", "0", "--", "true"], f"which cell? Name one, like: CELL={EVALUATION}/"),
        (["why", ""], f"which cell? Name one, like: CELL={EVALUATION}/inductive SEED=0; make cell computes it"),
        (["collect", ""], "which folder? Name one with a params.yaml, like: FROM="),
    ],
)
def test_what_make_was_not_given_is_asked_for_with_an_example(
    tiny_project: Path, refused: Refused, command: list[str], example: str
) -> None:
    assert refused(tiny_project, command).startswith(example)


def test_every_argument_has_a_help_text() -> None:
    lacking = {
        f"{verb.name} {argument.names[0]}"
        for verb in VERBS.values()
        for argument in verb.arguments
        if not argument.options.get("help")
    }
    assert lacking == set()


def test_a_known_cell_is_accepted(tiny_project: Path) -> None:
    assert main(["check-cell", f"{EVALUATION}/transductive", "--seed", "1"]) == 0


def test_a_cell_that_would_be_trained_again_names_its_published_checkpoint(
    computed_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(f"results/cells/{EVALUATION}/inductive/seed-0.json").unlink()
    command = ["check-cell", f"{EVALUATION}/inductive", "--seed", "0"]
    model = Path(f"models/{TRAINING}/seed-0.safetensors")
    model.rename("object")
    assert main(command) == 0
    assert "published" not in capsys.readouterr().err
    monkeypatch.setattr(published_files, "find", lambda path: Path("object"))
    assert main(command) == 0
    assert capsys.readouterr().err.strip().endswith(f"to use it, run: dvc pull {model}.dvc")
    Path("object").rename(model)
    assert main(command) == 0
    assert capsys.readouterr().err == ""


def test_an_invalid_settings_file_is_reported_in_one_line(tiny_project: Path, refused: Refused) -> None:
    change(tiny_project, "trainings", TRAINING, "way", value="five")
    expected = f"params.yaml: trainings: {TRAINING}: way: expected a whole number, found 'five'"
    assert refused(tiny_project, TRAIN) == expected


def test_a_missing_pack_is_reported_with_the_command_that_makes_it(tiny_project: Path, refused: Refused) -> None:
    (tiny_project / "data/omniglot.npz").unlink()
    expected = "data/omniglot.npz: no such packed data set; make it with: firstorder pack omniglot"
    assert refused(tiny_project, TRAIN) == expected


def test_in_another_folder_the_command_that_makes_a_missing_pack_names_its_params(
    tiny_project: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tiny_project / "data/omniglot.npz").unlink()
    monkeypatch.chdir(tiny_project.parent)
    message = refused(tiny_project, [*TRAIN, "--params", "project/params.yaml"])
    assert message.endswith("make it with: firstorder pack omniglot --params project/params.yaml")


@pytest.mark.parametrize("part", [0.1, 0.3, 0.6, 0.9])
def test_a_damaged_pack_is_refused(tiny_project: Path, refused: Refused, part: float) -> None:
    """One flipped bit anywhere among the pixels."""
    path = tiny_project / "data/omniglot.npz"
    good = bytearray(path.read_bytes())
    good[int(part * len(good))] ^= 0x10
    path.write_bytes(bytes(good))
    message = refused(tiny_project, TRAIN)
    assert message.startswith("data/omniglot.npz: ")
    assert "delete it and make it again with: firstorder pack omniglot" in message


def test_a_pack_whose_arrays_have_a_damaged_header_is_refused(tiny_project: Path, refused: Refused) -> None:
    """NumPy parses an array's header as Python and raises an unusual error at a bracket that is never closed."""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (3, 2L".ljust(117) + b"\n"
    with zipfile.ZipFile(tiny_project / "data/omniglot.npz", "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    assert refused(tiny_project, TRAIN).startswith("data/omniglot.npz: not a whole packed data set")


def test_a_file_in_the_way_of_a_folder_is_told_and_the_ended_training_is_not_lost(
    tiny_project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, computed_once: Path
) -> None:
    """What the system refuses after the last outer step comes after the lines of progress."""
    (tiny_project / "models").write_text("in the way")
    assert train() == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("firstorder: models/reptile/omniglot-5way: ")
    assert last.endswith("check the path, its permissions and the free space")
    (state,) = set(files_below(tiny_project)) - GIVEN - {"models"}
    assert state.startswith(".work/")  # nothing of the training is lost
    (tiny_project / "models").unlink()
    with monkeypatch.context() as patch:
        rest = Interrupt(patch, -1)
        assert train() == evaluate() == 0
    assert rest.steps == []
    assert without_runs(tiny_project) == without_runs(computed_once)


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        (("trainings", TRAINING, "train_shot"), 21, "cannot draw 5 classes x 21 images"),
        (("trainings", TRAINING, "curve", "shot"), 20, "cannot draw 5 classes x 21 images"),
        (("datasets", "omniglot", "meta_train_classes"), 20, "cannot draw 5 classes x 2 images"),
    ],
    ids=["training images", "images of the curve", "meta-test classes of the curve"],
)
def test_a_task_larger_than_the_data_is_refused_before_the_first_step(
    tiny_project: Path,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
    place: tuple[str, ...],
    value: int,
    expected: str,
) -> None:
    """The pack has 20 images a class and 24 classes; unchecked, the curve would fail only after 4 outer steps."""
    change(tiny_project, *place, value=value)
    steps = Interrupt(monkeypatch, -1).steps
    assert expected in refused(tiny_project, TRAIN)
    assert steps == []


def test_an_evaluation_larger_than_the_data_is_refused(computed_project: Path, refused: Refused) -> None:
    values = edit(TINY_PARAMS, (("evaluations", f"{TRAINING}/20shot"), {**TINY_PARAMS["evaluations"][EVALUATION]}))
    values["evaluations"][f"{TRAINING}/20shot"]["shot"] = 20
    write_params(computed_project, values)
    message = refused(computed_project, ["evaluate", f"{TRAINING}/20shot", "--seed", "0", "--device", "cpu"])
    assert "cannot draw 5 classes x 21 images" in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_an_absent_device_is_refused(tiny_project: Path, refused: Refused) -> None:
    message = refused(tiny_project, [*TRAIN[:-1], "cuda"])
    assert message == "--device cuda: torch finds no CUDA device here; use --device cpu or auto"


@pytest.mark.parametrize("command", [[], ["tran"], ["train", TRAINING], ["train", TRAINING, "--seed", "zero"]])
def test_an_invalid_command_line_ends_with_code_2(
    tiny_project: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(command)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: firstorder")
    assert set(files_below(tiny_project)) == GIVEN


# --- Stale results ---


def test_fresh_records_are_not_stale(computed_project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stale"]) == 0
    assert capsys.readouterr().out == ""


def test_a_stale_record_is_listed_with_its_first_difference(
    computed_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(computed_project, "evaluations", EVALUATION, "tasks", value=11)
    assert main(["stale"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{EVALUATION}/{mode} seed 0: evaluation.tasks: 12 -> 11" for mode in settings.MODES
    ]


def test_a_misspelt_algorithm_is_refused_and_not_taken_for_one_without_stale_results(
    computed_project: Path, refused: Refused
) -> None:
    change(computed_project, "evaluations", EVALUATION, "tasks", value=11)
    message = refused(computed_project, ["stale", "--algorithms", "reptlie"])
    assert "unknown algorithm 'reptlie' (did you mean 'reptile'?)" in message


@pytest.mark.parametrize("text", ["00", "+0", " 0", "0_0", "-1", "1.0", "\N{ARABIC-INDIC DIGIT ZERO}", ""])
def test_a_seed_is_written_as_in_the_names_of_results(
    tiny_project: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    for command in (["train", TRAINING], ["stale", "--cell", f"{EVALUATION}/inductive"]):
        with pytest.raises(SystemExit):
            main([*command, f"--seed={text}"])
        *_, line = capsys.readouterr().err.splitlines()
        assert line.startswith("firstorder: argument --seed: expected a whole number such as 0, found ")


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([], set()),
        ([(("evaluations", EVALUATION, "tasks"), 11)], set(RECORDS.values())),
        ([(("trainings", TRAINING, "inner_steps"), 3)], {MODEL, CURVE, *RECORDS.values()}),
        ([(("datasets", "omniglot", "rotations"), [0])], {MODEL, CURVE, *RECORDS.values()}),
        (
            [(("evaluations", EVALUATION, "tasks"), 11), (("trainings", TRAINING, "inner_steps"), 3)],
            {MODEL, CURVE, *RECORDS.values()},
        ),
    ],
    ids=["nothing", "evaluation", "training", "data set", "evaluation and training"],
)
def test_stale_names_the_files_to_compute_again(
    computed_project: Path, capsys: pytest.CaptureFixture[str], edits: list[Any], expected: set[str]
) -> None:
    write_params(computed_project, edit(TINY_PARAMS, *edits))
    assert main(["stale", "--paths"]) == 0
    assert set(capsys.readouterr().out.split()) == expected


# --- Help ---


def test_help_names_every_verb_and_imports_nothing_slow(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-X", "importtime", "-m", "firstorder", "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    for verb in ("download", "pack", "train", "evaluate", "check-cell"):
        assert re.search(rf"^    {verb}\s", done.stdout, re.MULTILINE)
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "firstorder" in imported
    assert not imported & {"torch", "numpy", "pandas", "matplotlib", "seaborn", "PIL", "safetensors"}


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.strip() == __version__


# --- Trained before ---


def test_a_training_that_is_there_and_whole_is_not_trained_again(
    computed_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rest, before = Interrupt(monkeypatch, -1), files_below(computed_project)
    assert train() == 0
    assert rest.steps == []
    assert capsys.readouterr().out.split() == [MODEL, CURVE]
    assert files_below(computed_project) == before
    assert main(["train", TRAINING, "--seed", "0", "--device", "cpu", "--again"]) == 0
    assert rest.steps == list(range(6))


@pytest.mark.parametrize("damage", ["model", "curve", "run file", "settings"])
def test_a_training_that_is_not_whole_is_trained_again(
    computed_project: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    rest = Interrupt(monkeypatch, -1)
    if damage == "settings":
        change(computed_project, "trainings", TRAINING, "inner_learning_rate", value=0.002)
    else:
        path = computed_project / {"model": MODEL, "curve": CURVE, "run file": CURVE[:-3] + "run.json"}[damage]
        damaged = bytearray(path.read_bytes())
        damaged[-40] ^= 1
        path.write_bytes(damaged)
    assert train() == 0
    assert rest.steps == list(range(6))


def forget_the_checkpoint(root: Path) -> None:
    """Make the curve's run file one from before it named the checkpoint."""
    run = cells.read_run(root / CURVE)
    del run["checkpoint_digest"]
    cells.write_run(root / CURVE, cells.sealed(run, (root / CURVE).read_bytes()))


@pytest.mark.parametrize("named_by", ["a record", "a .dvc file"])
@pytest.mark.parametrize("data", ["here", "not here, as after a pull"])
def test_a_finished_training_with_an_older_run_file_is_not_trained_over(
    computed_project: Path, monkeypatch: pytest.MonkeyPatch, named_by: str, data: str
) -> None:
    forget_the_checkpoint(computed_project)
    if data != "here":
        shutil.rmtree(computed_project / "data")
    if named_by != "a record":
        shutil.rmtree(computed_project / "results/cells")
        content = (computed_project / MODEL).read_bytes()
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        told = {"outs": [{"md5": md5, "size": len(content), "hash": "md5", "path": Path(MODEL).name}]}
        (computed_project / f"{MODEL}.dvc").write_text(yaml.safe_dump(told), encoding="utf-8")
    rest, before = Interrupt(monkeypatch, -1), files_below(computed_project)
    assert train() == 0
    assert rest.steps == []
    assert files_below(computed_project) == before


@pytest.mark.parametrize("named_by", ["nothing", "a .dvc file, with another digest", "a record, with another digest"])
def test_a_checkpoint_that_nothing_names_is_trained_again(
    computed_project: Path, monkeypatch: pytest.MonkeyPatch, named_by: str
) -> None:
    forget_the_checkpoint(computed_project)
    if "record" in named_by:
        content = (computed_project / MODEL).read_bytes()
        (computed_project / MODEL).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        shutil.rmtree(computed_project / "results/cells")
    if "dvc" in named_by:
        told = {"outs": [{"md5": "0" * 32, "size": 1, "hash": "md5", "path": Path(MODEL).name}]}
        (computed_project / f"{MODEL}.dvc").write_text(yaml.safe_dump(told), encoding="utf-8")
    rest = Interrupt(monkeypatch, -1)
    assert train() == 0
    assert rest.steps == list(range(6))


def test_an_evaluation_refuses_another_checkpoint_than_the_training_made(
    computed_project: Path, refused: Refused
) -> None:
    """A sound checkpoint of the very settings, data and seed, but with another parameter."""
    tensors = load_file(computed_project / MODEL)
    with safe_open(computed_project / MODEL, framework="pt") as file:
        about = file.metadata()
    tensors["dense.bias"] += 1
    save_file(tensors, computed_project / MODEL, about)
    message = refused(computed_project, ["evaluate", EVALUATION, "--seed", "0", "--device", "cpu"])
    assert f"{MODEL}: its SHA-256 is " in message
    assert "--again" in message


def test_where_a_training_was_computed_is_told_step_by_step(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", 0.0)
    with monkeypatch.context() as patch:
        Interrupt(patch, 3)
        assert main(["train", TRAINING, "--seed", "0", "--device", "cpu", "--engine", "plain"]) == 130
    assert main(["train", TRAINING, "--seed", "0", "--device", "cpu", "--engine", "lanes"]) == 0
    run = json.loads((tiny_project / CURVE).with_suffix(".run.json").read_text(encoding="utf-8"))
    assert [(leg["engine"], leg["outer_steps"]) for leg in run["legs"]] == [("plain", 3), ("lanes", 3)]
    assert {"device", "machine", "versions", "commit", "seconds"} < set(run["legs"][0])


@pytest.mark.parametrize("command", [["plan"], ["verify"], ["stale"]])
def test_the_params_file_that_is_named_is_the_one_that_is_read(computed_project: Path, command: list[str]) -> None:
    (computed_project / "params.yaml").rename(computed_project / "other.yaml")
    assert main([*command, "--params", "other.yaml"]) == 0


@pytest.mark.parametrize("gone", ["the run file", "its digest"])
def test_a_checkpoint_that_a_record_does_not_name_is_not_evaluated(
    computed_project: Path, capsys: pytest.CaptureFixture[str], gone: str
) -> None:
    """Also where no run file of its curve says which one is right."""
    if gone == "the run file":
        Path(CURVE).with_suffix(".run.json").unlink()
    else:
        run = {key: value for key, value in cells.read_run(Path(CURVE)).items() if key != "checkpoint_digest"}
        cells.write_sealed(Path(CURVE), Path(CURVE).read_text(encoding="utf-8"), run)
    content, record = bytearray(Path(MODEL).read_bytes()), Path(RECORDS["inductive"]).read_bytes()
    content[-777] ^= 4
    Path(MODEL).write_bytes(content)
    assert main(["evaluate", EVALUATION, "--seed", "0", "--device", "cpu"]) == 2
    assert f"as {RECORDS['inductive']} says; restore it" in capsys.readouterr().err
    assert Path(RECORDS["inductive"]).read_bytes() == record


@pytest.mark.parametrize(("key", "value"), [("training", "reptile/another"), ("optimiser_steps", 7)])
def test_a_checkpoint_of_another_training_or_step_is_not_evaluated(
    computed_project: Path, capsys: pytest.CaptureFixture[str], key: str, value: object
) -> None:
    about, tensors = checkpoints.parse(Path(MODEL).read_bytes())
    Path(MODEL).write_bytes(save(tensors, {"about": json.dumps({**about, key: value})}))
    assert main(["evaluate", EVALUATION, "--seed", "0", "--device", "cpu"]) == 2
    assert f"{MODEL}: its {key} is {value}, expected " in capsys.readouterr().err


# --- Shown ---


def test_the_headline_says_what_is_run_and_where_the_report_is(capsys) -> None:
    assert main(["headline", "--params", str(Path(__file__).parents[2] / "params.yaml")]) == 0
    run, claims, report = capsys.readouterr().out.splitlines()
    assert re.search(r": \d+ of 24 published numbers run at full length", run)
    assert re.match(r"Claims of the paper: \d+ holds?, \d+ fails?, \d+ open \(.*results/claims.md\)$", claims)
    assert report.endswith("results/report.html")


def test_about_names_what_a_report_of_a_problem_needs(capsys) -> None:
    assert main(["about"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"firstorder {__version__}, commit ")
    assert re.search(r"^Python 3\.\d+\.\S+, torch \S+, numpy \S+, pillow \S+, safetensors \S+$", said, re.MULTILINE)
    assert said.splitlines()[-1] == provenance.machine()


def test_show_prints_the_accuracy_of_every_recorded_cell_and_the_report(
    computed_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show"]) == 0
    title, *cells_shown, report = capsys.readouterr().out.splitlines()
    assert title == "Made-up images: accuracy in %"
    shown = {line.split()[0]: float(line.split()[3]) for line in cells_shown}
    counts = {mode: read_record(computed_project / path).correct_histogram for mode, path in RECORDS.items()}
    right = {mode: sum(i * tasks for i, tasks in enumerate(found)) / (5 * 12) for mode, found in counts.items()}
    assert shown == {f"{EVALUATION}/{mode}": pytest.approx(100 * share, abs=0.006) for mode, share in right.items()}
    assert report == "report: not drawn yet (make report)"
    (computed_project / "results/report.html").touch()
    assert main(["show"]) == 0
    assert capsys.readouterr().out.endswith("\nreport: results/report.html\n")


# --- Computed already ---


@pytest.fixture
def held(computed_project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Return a function that runs `hold --stale` with options and returns the files appended to its command."""
    write_params(computed_project, edit(TINY_PARAMS, (("seeds",), [0])))

    def run(*options: str) -> list[str]:
        given: list[list[str]] = []
        monkeypatch.setattr(locks, "take", lambda *given: None)  # they would be held by all tests that follow
        monkeypatch.setattr(locks, "exec_command", lambda command: given.append(list(command)) or 0)
        assert main(["hold", "--stale", *options, "--told", "make it", "--", "command"]) == 0
        assert given[0][0] == "command"
        return given[0][1:]

    return run


CELL = ["--cell", f"{EVALUATION}/inductive", "--seed", "0"]


@pytest.mark.parametrize(
    ("options", "said"),
    [(CELL, "the cell is recorded; to compute it"), ([], "all 2 cells are recorded; to compute them")],
)
def test_a_command_with_nothing_to_compute_says_how_to_compute_anyway(
    held: Callable[..., list[str]], capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert held(*options) == []
    assert capsys.readouterr().err == f"firstorder: {said} yourself: make it FORCE=1\n"


def test_by_force_all_chosen_cells_are_computed(
    held: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert held("--force") == sorted(RECORDS.values())
    assert held("--force", *CELL) == [RECORDS["inductive"]]
    assert held("--force", "--algorithms", "reptile") == sorted(RECORDS.values())
    assert held("--force", "--algorithms", "maml+untrained") == []
    assert capsys.readouterr().err == ""


def test_nothing_is_said_if_a_cell_is_missing_or_stale(
    held: Callable[..., list[str]], computed_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (computed_project / RECORDS["transductive"]).unlink()
    assert held() == []
    write_params(computed_project, edit(TINY_PARAMS, (("seeds",), [0]), (("evaluations", EVALUATION, "tasks"), 11)))
    assert held(*CELL) == [RECORDS["inductive"]]
    assert capsys.readouterr().err == ""


def test_a_package_of_an_extra_that_is_not_installed_is_named(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("firstorder.report.figures")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["figure", "learning-curves"]) == 2
    assert capsys.readouterr().err == (
        "firstorder: needs matplotlib, which is not installed: pip install 'firstorder[report]'\n"
    )


def test_a_cell_of_a_copy_that_is_not_here_says_the_two_ways_to_give_it(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MINI_IMAGENET", raising=False)
    name = "reptile/mini-imagenet-5way"
    made = TINY_PARAMS["trainings"][TRAINING] | {"dataset": "mini-imagenet", "network": "mini_imagenet"}
    shot = TINY_PARAMS["evaluations"][EVALUATION] | {"training": name}
    values = edit(
        TINY_PARAMS,
        (("datasets", "mini-imagenet"), {"source": "mini_imagenet"}),
        (("trainings", name), made),
        (("evaluations", f"{name}/1shot"), shot),
    )
    write_params(tiny_project, values)
    cell = ["--cell", f"{name}/1shot/inductive", "--seed", "0"]
    assert main(["hold", *cell, "--", "true"]) == 2
    assert capsys.readouterr().err == (
        f"firstorder: {name}/1shot/inductive needs data/mini-imagenet.npz, made of your own copy of mini-ImageNet: "
        f"make cell CELL={name}/1shot/inductive MINI_IMAGENET=PATH, or first: firstorder data mini-imagenet "
        "--source PATH (docs/data.md)\n"
    )
    monkeypatch.setenv("MINI_IMAGENET", "somewhere")
    assert main(["check-cell", f"{name}/1shot/inductive", "--seed", "0"]) == 0


def test_in_a_job_of_slurm_a_training_stops_a_minute_before_its_end(monkeypatch) -> None:
    monkeypatch.setattr(compute.time, "time", lambda: 1000.0)
    assert compute.time_left({"SLURM_JOB_END_TIME": "1600"}) == 540.0
    assert compute.time_left({"SLURM_JOB_END_TIME": "1010"}) == 1.0
    assert compute.time_left({}) is None
    assert compute.time_left({"SLURM_JOB_END_TIME": "Unknown"}) is None
