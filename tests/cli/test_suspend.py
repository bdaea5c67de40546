"""Stop here, go on there: suspended work goes on in another clone to the same bytes."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from firstorder import settings
from firstorder.__main__ import main
from firstorder.data import packs
from firstorder.method import training
from firstorder.records import cells, states, unfinished
from firstorder.records.kept_files import read_state
from firstorder.settings import checks, paths
from firstorder.upkeep import suspend
from tests.conftest import EVALUATION, TINY_PARAMS, TRAINING, edit, files_below, tiny_pack, write_params
from tests.upkeep.test_dvc import git, new_repository

REPOSITORY = Path(__file__).parents[2]
MODEL = settings.MODEL.format(training=TRAINING, seed=0)
CURVE = settings.CURVE.format(training=TRAINING, seed=0)
RECORD = settings.RECORD.format(evaluation=EVALUATION, mode="inductive", seed=0)
STATE = paths.SUSPENDED_STATE.format(training=TRAINING, seed=0)
COUNTS = paths.SUSPENDED_COUNTS.format(evaluation=EVALUATION, seed=0)
CARRIED = paths.SUSPENDED_MODEL.format(training=TRAINING, seed=0)
TRAIN = ["train", TRAINING, "--seed", "0", "--device", "cpu"]
EVALUATE = ["evaluate", EVALUATION, "--seed", "0", "--device", "cpu"]
# Runs a command that saves at every step, and kills itself at one call of a function.
KILLED = """
import os, signal, sys
from firstorder.__main__ import main
from firstorder.method import evaluation, training
from firstorder.records import counts
training.SECONDS_BETWEEN_SAVES = counts.SECONDS_BETWEEN_SAVES = -1.0
known = {"train": (training, "outer_step", 3), "evaluate": (evaluation, "correct_answers", 1)}
module, name, calls = known[sys.argv[1]]
original = getattr(module, name)
def killing(*arguments):
    global calls
    if calls == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    calls -= 1
    return original(*arguments)
setattr(module, name, killing)
main(sys.argv[1:])
"""


def killed(*arguments: str) -> None:
    """Run a command in the current folder and kill it in the midst of its work."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], env=environment, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.fixture
def repository(tiny_project: Path) -> Path:
    """Return a repository with packed data and nothing computed; it is the working folder."""
    new_repository(tiny_project)
    return tiny_project


def suspended(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Suspend the work in the current folder and commit it as told; return the lines printed before."""
    capsys.readouterr()
    assert main(["suspend"]) == 0
    *lines, add, commit = capsys.readouterr().out.splitlines()
    for command in (add, commit):
        done = git(*shlex.split(command)[1:])
        assert done.returncode == 0, done.stderr
    return lines


def cloned(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a fresh clone with the packed data, which is not in Git; it is the working folder."""
    root = repository.with_name("clone")
    assert git("clone", "--quiet", str(repository), str(root)).returncode == 0
    shutil.copytree(repository / "data", root / "data", dirs_exist_ok=True)
    monkeypatch.chdir(root)
    return root


def without_place(path: Path) -> dict[str, Any]:
    """Read a run file without what tells of time, machine and the places it was computed in."""
    run = cells.read_run(path)
    told = ("seconds", "peak_memory_bytes", "ended", "legs", "cpu_seconds", "run_digest", "machine", "commit")
    return {key: value for key, value in run.items() if key not in told}


def same_results(root: Path, whole: Path, *names: str) -> None:
    for name in names:
        assert (root / name).read_bytes() == (whole / name).read_bytes()
        assert without_place(root / name) == without_place(whole / name)


def test_a_killed_training_goes_on_in_another_clone_to_the_same_bytes(
    repository: Path, computed_once: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    killed(*TRAIN)
    (line,) = suspended(capsys)
    assert line.startswith(f"suspended: {STATE} ({TRAINING} seed 0 at outer step 3 of 6, ")
    root = cloned(repository, monkeypatch)
    assert not (root / ".work").exists()
    assert main(TRAIN) == 0
    assert f"{TRAINING} seed 0 goes on from {STATE}: 3 of 6\n" in capsys.readouterr().err
    same_results(root, computed_once, CURVE)
    assert (root / MODEL).read_bytes() == (computed_once / MODEL).read_bytes()
    assert [leg["outer_steps"] for leg in cells.read_run(root / CURVE)["legs"]] == [3, 3]
    # The state outlives the job until a later run has found the whole checkpoint.
    assert (root / STATE).exists()
    assert main(TRAIN) == 0
    assert f"{STATE}: removed" in capsys.readouterr().err
    assert not (root / STATE).exists()


def test_a_killed_evaluation_goes_on_in_another_clone_to_the_same_bytes(
    repository: Path, computed_once: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint comes along: `publish` has none whose evaluations are not recorded."""
    assert main(TRAIN) == 0
    killed(*EVALUATE)
    lines = suspended(capsys)
    assert [line.split(" ")[1] for line in lines] == [CARRIED, COUNTS]
    assert "at task 10 of 12" in lines[1]
    root = cloned(repository, monkeypatch)
    assert not (root / MODEL).exists()
    assert main(EVALUATE) == 0
    said = capsys.readouterr().err
    assert f"{CARRIED}: taken as {MODEL}\n" in said
    assert f"goes on from {COUNTS}: 10 of 12 tasks\n" in said
    same_results(root, computed_once, RECORD, RECORD.replace("inductive", "transductive"))
    assert [leg["tasks"] for leg in cells.read_run(root / RECORD)["legs"]] == [10, 2]
    # Nothing waits for either any more.
    assert not (root / COUNTS).exists()
    assert not (root / CARRIED).exists()


def test_training_finds_the_checkpoint_that_evaluations_wait_for(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Snakemake does it: an evaluation needs the checkpoint, which the training makes."""
    assert main(TRAIN) == 0
    suspended(capsys)
    root = cloned(repository, monkeypatch)
    monkeypatch.setattr(training, "outer_step", lambda *_: pytest.fail("it trains again"))
    assert main(TRAIN) == 0
    assert (root / MODEL).read_bytes() == (repository / MODEL).read_bytes()


def stopped_after(monkeypatch: pytest.MonkeyPatch, steps: int, *more: str) -> None:
    """Train in the current folder and stop after a number of outer steps."""
    taken = iter(range(steps))
    with monkeypatch.context() as patched:
        patched.setattr(training, "SECONDS_BETWEEN_SAVES", -1.0)
        original = training.outer_step

        def step(*arguments: Any) -> None:
            if next(taken, None) is None:
                raise KeyboardInterrupt
            original(*arguments)

        patched.setattr(training, "outer_step", step)
        assert main([*TRAIN, *more]) == 130


def step_of(root: Path, name: str = STATE) -> int:
    return int(read_state((root / name).read_bytes())["outer_step"])


def working(root: Path) -> str:
    """Return where a training keeps its state while it works."""
    return unfinished.of_training(checks.load(root / "params.yaml"), TRAINING, 0).working


def test_the_further_of_two_states_is_gone_on_from(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped_after(monkeypatch, 2)
    assert main(["suspend"]) == 0
    stopped_after(monkeypatch, 2)
    assert f"goes on from {STATE}" not in capsys.readouterr().err  # the one here is as far
    assert (step_of(tiny_project), step_of(tiny_project, working(tiny_project))) == (2, 4)
    assert main(["suspend"]) == 0
    assert step_of(tiny_project) == 4
    (tiny_project / working(tiny_project)).unlink()
    stopped_after(monkeypatch, 1, "--again")  # from the start, and the suspended one is not used either
    assert step_of(tiny_project, working(tiny_project)) == 1
    assert not (tiny_project / STATE).exists()


def test_suspending_keeps_the_further_state_and_twice_changes_nothing(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped_after(monkeypatch, 4)
    assert main(["suspend"]) == 0
    (tiny_project / working(tiny_project)).unlink()
    (tiny_project / STATE).rename(tiny_project / "further")
    stopped_after(monkeypatch, 2)
    (tiny_project / "further").rename(tiny_project / STATE)
    before = files_below(tiny_project)
    for _ in range(2):
        assert main(["suspend"]) == 0
        assert files_below(tiny_project) == before
    assert step_of(tiny_project) == 4


def test_finished_work_is_removed_and_stale_work_is_named_and_left(
    computed_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (STATE, COUNTS, CARRIED):
        (computed_project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(MODEL, name)
    capsys.readouterr()
    assert main(["suspend"]) == 0
    said = capsys.readouterr()
    assert said.out == "nothing is unfinished\n"
    assert all(f"{name}: removed" in said.err for name in (STATE, COUNTS, CARRIED))
    shutil.rmtree("models")
    shutil.rmtree("results")
    stopped_after(monkeypatch, 2)
    assert main(["suspend"]) == 0
    write_params(computed_project, edit(TINY_PARAMS, (("trainings", TRAINING, "inner_steps"), 3)))
    capsys.readouterr()
    assert main(["suspend"]) == 0
    out = capsys.readouterr().out
    assert f"passed over: {STATE} (params.yaml has changed since: training.inner_steps: 2 -> 3)" in out
    assert re.search(r"passed over: \.work/\w+/seed-0.safetensors \(params.yaml has no training or evaluation", out)
    stopped_after(monkeypatch, 1)
    assert f"{STATE}: passed over (it is of other settings)" in capsys.readouterr().err
    assert main(["suspend"]) == 0
    assert step_of(computed_project) == 1


@pytest.mark.parametrize("damage", ["a flipped bit", "cut short", "a FIFO", "a folder", "empty"])
def test_a_damaged_suspended_state_is_passed_over_with_a_line(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    stopped_after(monkeypatch, 2)
    assert main(["suspend"]) == 0
    (tiny_project / working(tiny_project)).unlink()
    spoil(tiny_project / STATE, damage)
    assert main(["suspend"]) == 0
    assert f"passed over: {STATE} (" in capsys.readouterr().out
    assert main(["verify"]) == 1
    assert f"{STATE}: expected a whole suspended file" in capsys.readouterr().out
    assert main(TRAIN) == 0
    assert f"{STATE}: passed over (" in capsys.readouterr().err
    assert not re.search("damaged", " ".join(files_below(tiny_project)))


def test_what_is_too_large_for_git_is_left_and_said_with_exit_code_1(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped_after(monkeypatch, 2)
    monkeypatch.setattr(suspend, "LARGEST_BYTES", 1000)
    capsys.readouterr()
    assert main(["suspend"]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("left here: ")
    assert line.endswith("take it over elsewhere with: firstorder collect FOLDER")
    assert not (tiny_project / "unfinished").exists()


def spoil(path: Path, how: str) -> None:
    """Damage a file, or put something that is none in its place."""
    content = bytearray(path.read_bytes())
    if how == "a flipped bit":
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    elif how == "cut short":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.rename(path.with_name("moved"))
        put: dict[str, Callable[[], object]] = {
            "a FIFO": lambda: os.mkfifo(path),
            "a folder": path.mkdir,
            "a link": lambda: path.symlink_to(path.with_name("moved")),
            "a link to nothing": lambda: path.symlink_to("nothing"),
        }
        put[how]()


def test_a_state_where_it_was_before_there_was_suspend_is_brought_to_its_place(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped_after(monkeypatch, 2)
    older = tiny_project / "unfinished" / working(tiny_project)
    older.parent.mkdir(parents=True)
    (tiny_project / working(tiny_project)).rename(older)
    assert main(["suspend"]) == 0
    assert step_of(tiny_project) == 2
    assert not older.exists()


def test_a_state_that_does_not_say_what_it_was_made_with_needs_the_data_here(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of format 2 before `of` was added: its identity alone tells."""
    stopped_after(monkeypatch, 2)
    state = tiny_project / working(tiny_project)
    tensors, about = states.read_sealed(state)
    states.write_sealed(state, tensors, {key: value for key, value in about.items() if key not in ("of", "sha256")})
    (tiny_project / "data").rename(tiny_project / "elsewhere")
    capsys.readouterr()
    assert main(["suspend"]) == 0
    assert "does not say what it was made from, and data/omniglot.npz is not here" in capsys.readouterr().out
    (tiny_project / "elsewhere").rename(tiny_project / "data")
    assert main(["suspend"]) == 0
    assert step_of(tiny_project) == 2
    # The suspended one says so, and needs no data.
    kept, said = states.read_sealed(tiny_project / STATE)
    assert said == {**about, "sha256": said["sha256"]}
    assert all(torch.equal(kept[name], tensor) for name, tensor in tensors.items())
    shutil.rmtree("data")
    state.unlink()
    capsys.readouterr()
    assert main(["suspend"]) == 0
    assert capsys.readouterr().out.startswith(f"already there: {STATE} ({TRAINING} seed 0 at outer step 2 of 6, ")


def test_counts_of_another_engine_are_passed_over_with_a_line(
    tiny_project: Path, computed_once: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(TRAIN) == 0
    killed(*EVALUATE)
    assert main(["suspend"]) == 0
    capsys.readouterr()
    assert main([*EVALUATE, "--engine", "lanes"]) == 0
    assert f"{COUNTS}: passed over (it is of another " in capsys.readouterr().err
    assert "legs" not in cells.read_run(tiny_project / RECORD)


@pytest.mark.parametrize("damage", ["a flipped bit", "a FIFO", "a folder"])
def test_a_damaged_checkpoint_in_unfinished_is_passed_over_with_a_line(
    computed_project: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    shutil.rmtree("results/cells")
    assert main(["suspend"]) == 0
    Path(MODEL).unlink()
    spoil(Path(CARRIED), damage)
    assert main(["verify"]) == 1
    assert f"{CARRIED}: expected a whole suspended file" in capsys.readouterr().out
    assert main(EVALUATE) == 2  # there is no checkpoint
    assert f"{CARRIED}: passed over (" in capsys.readouterr().err
    assert main(TRAIN) == 0


def test_a_clone_in_which_nothing_ran_has_nothing_to_commit(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    killed(*TRAIN)
    suspended(capsys)
    root = cloned(repository, monkeypatch)
    before = files_below(root)
    assert main(["suspend"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"already there: {STATE} ({TRAINING} seed 0 at outer step 3 of 6, ")
    assert files_below(root) == before


def test_a_published_checkpoint_is_not_copied_as_a_clone_can_pull_it(
    computed_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Evaluations wait for it, as new cells do in a clone after `dvc pull`."""
    shutil.rmtree("results/cells")
    assert main(["suspend"]) == 0
    assert Path(CARRIED).exists()
    content = Path(MODEL).read_bytes()
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    told = f"outs:\n- md5: {md5}\n  size: {len(content)}\n  hash: md5\n  path: {Path(MODEL).name}\n"
    Path(f"{MODEL}.dvc").write_text(told, encoding="utf-8")
    capsys.readouterr()
    assert main(["suspend"]) == 0
    assert capsys.readouterr().out == "nothing is unfinished\n"
    assert not Path(CARRIED).exists()
    Path(f"{MODEL}.dvc").write_text(told.replace(md5, "0" * 32), encoding="utf-8")
    assert main(["suspend"]) == 0
    assert Path(CARRIED).exists()


def test_what_is_computed_once_more_is_suspended_too(
    computed_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As by FORCE=1 in a clone without checkpoints: everything is recorded, and a training has begun."""
    Path(MODEL).unlink()
    stopped_after(monkeypatch, 2)
    capsys.readouterr()
    assert main(["suspend"]) == 0
    assert f"suspended: {STATE} ({TRAINING} seed 0 at outer step 2 of 6, " in capsys.readouterr().out
    shutil.rmtree(".work")
    assert main(TRAIN) == 0
    assert f"goes on from {STATE}: 2 of 6\n" in capsys.readouterr().err
    assert main(["suspend"]) == 0
    assert not Path(STATE).exists()
    killed(*EVALUATE)
    capsys.readouterr()
    assert main(["suspend"]) == 0
    assert f"suspended: {COUNTS} ({EVALUATION} seed 0 at task 10 of 12, " in capsys.readouterr().out
    assert main(EVALUATE) == 0
    assert main(["suspend"]) == 0
    assert not Path(COUNTS).exists()


def test_a_suspended_state_of_other_data_is_set_aside_and_gone_on_from_once_they_are_back(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped_after(monkeypatch, 4)
    assert main(["suspend"]) == 0
    shutil.rmtree(".work")
    good, other = Path("data/omniglot.npz").read_bytes(), tiny_pack()
    packs.write_pack(Path("data/omniglot.npz"), packs.Pack(other.images[:, ::-1].copy(), other.class_names, 1))
    stopped_after(monkeypatch, 1)
    capsys.readouterr()
    assert main(["suspend"]) == 0
    assert f"set aside: {STATE} as seed-0.other-" in capsys.readouterr().out
    shutil.rmtree(".work")
    Path("data/omniglot.npz").write_bytes(good)
    stopped_after(monkeypatch, 1)
    assert "goes on from unfinished/" in capsys.readouterr().err
    assert step_of(tiny_project, working(tiny_project)) == 5


def test_a_state_of_other_data_survives_that_the_training_of_these_data_is_found_finished(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With data A unfinished and B finished, putting B back must not cost the state of A."""
    good, images = Path("data/omniglot.npz").read_bytes(), tiny_pack()
    packs.write_pack(Path("data/omniglot.npz"), packs.Pack(images.images[:, ::-1].copy(), images.class_names, 1))
    other = Path("data/omniglot.npz").read_bytes()
    assert main(TRAIN) == 0
    Path("data/omniglot.npz").write_bytes(good)
    stopped_after(monkeypatch, 2)
    Path("data/omniglot.npz").write_bytes(other)
    assert main(TRAIN) == 0  # finds it finished
    Path("data/omniglot.npz").write_bytes(good)
    capsys.readouterr()
    stopped_after(monkeypatch, 1)
    assert step_of(tiny_project, working(tiny_project)) == 3


@pytest.mark.parametrize("verb", ["train", "suspend"])
def test_a_suspended_state_of_other_settings_survives_a_short_try(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    stopped_after(monkeypatch, 2)
    assert main(["suspend"]) == 0
    kept = Path(STATE).read_bytes()
    shutil.rmtree(".work")
    write_params(tiny_project, edit(TINY_PARAMS, (("trainings", TRAINING, "inner_steps"), 3)))
    assert main(TRAIN) == 0
    assert main(TRAIN if verb == "train" else ["suspend"]) == 0
    assert Path(STATE).read_bytes() == kept
    assert "removed, as nothing needs it" not in capsys.readouterr().err


def test_suspended_counts_of_other_settings_survive_a_short_evaluation(tiny_project: Path) -> None:
    assert main(TRAIN) == 0
    killed(*EVALUATE)
    assert main(["suspend"]) == 0
    kept = Path(COUNTS).read_bytes()
    shutil.rmtree(".work")
    write_params(tiny_project, edit(TINY_PARAMS, (("evaluations", EVALUATION, "inner_steps"), 1)))
    assert main(EVALUATE) == 0
    assert Path(COUNTS).read_bytes() == kept


def test_suspended_work_of_another_seed_is_named_by_verify(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped_after(monkeypatch, 2)
    assert main(["suspend"]) == 0
    assert main(["verify"]) == 0
    other = Path(STATE).rename(Path(STATE).with_name("seed-1.safetensors"))
    capsys.readouterr()
    assert main(["verify"]) == 1
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith(f"{other}: expected a whole suspended file, found it is that of seed 0, expected 1; fix: ")
