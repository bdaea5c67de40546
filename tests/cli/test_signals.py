"""Signals: TERM, HUP and INT save what a training or an evaluation has done; the same command then ends the same."""

from __future__ import annotations

import argparse
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from firstorder.__main__ import main
from firstorder.cli import compute, output, signals
from firstorder.cli.signals import Interrupted, ending, stopping
from firstorder.method import evaluation, training
from tests.conftest import EVALUATION, TRAINING, files_below

REPOSITORY = Path(__file__).parents[2]
# Runs a command that waits in the first call of a function that ends beyond its given number of calls.
WAITING = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from firstorder import progress
from firstorder.__main__ import main
from firstorder.method import evaluation, training
known = {"train": (training, "outer_step", 3), "evaluate": (evaluation, "correct_answers", 1)}
module, name, calls = known[sys.argv[1]]
progress.SECONDS_BETWEEN_LINES = 0.0
original = getattr(module, name)
def waiting(*arguments):
    global calls
    result, calls = original(*arguments), calls - 1
    if calls == 0:
        Path("ready").touch()
        while not Path("sent").exists():
            time.sleep(0.01)
    return result
setattr(module, name, waiting)
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Let no signal be ignored, as INT is where pytest runs in the background, and give them back afterwards."""
    before = {number: signal.getsignal(number) for number in signals.ENDING}
    for number in signals.ENDING:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, known in before.items():
        signal.signal(number, known)


def command(verb: str, name: str) -> list[str]:
    return [verb, name, "--seed", "0", "--device", "cpu"]


def started(arguments: list[str], stderr: int, begin: str = "") -> subprocess.Popen[str]:
    """Start a command in a session of its own."""
    path = os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    run = [sys.executable, "-c", begin + WAITING, *arguments]
    return subprocess.Popen(run, env=environment, stderr=stderr, text=True, start_new_session=True)


def ended_by(number: int, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command in the current folder and send it a signal in the midst of its work."""
    process = started(arguments, stderr=subprocess.PIPE)
    while not Path("ready").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(number)
    Path("sent").touch()
    _, said = process.communicate(timeout=120)
    for name in ("ready", "sent"):
        Path(name).unlink()
    return subprocess.CompletedProcess(arguments, process.returncode, "", said)


def without_runs(root: Path) -> dict[str, bytes]:
    found = files_below(root).items()
    return {name: text for name, text in found if not name.endswith(".run.json") and not name.startswith(".work/")}


def counted(monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> list[None]:
    """Return a list that grows with each call of a function."""
    calls: list[None] = []
    original = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *arguments: calls.append(None) or original(*arguments))
    return calls


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_training_ended_by_a_signal_goes_on_to_the_same_bytes(
    tiny_project: Path, computed_once: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    ended = ended_by(number, command("train", TRAINING))
    assert ended.returncode == code
    said = f"firstorder: {number.name}: {TRAINING} seed 0 stopped at outer step 3; the same command goes on from there"
    assert ended.stderr.splitlines()[-1] == said
    assert len(list(tiny_project.glob(".work/*/seed-0.safetensors"))) == 1
    steps = counted(monkeypatch, training, "outer_step")
    assert main(command("train", TRAINING)) == main(command("evaluate", EVALUATION)) == 0
    assert len(steps) == 3
    assert without_runs(tiny_project) == without_runs(computed_once)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("damaged", [False, True])
def test_an_evaluation_ended_by_a_signal_goes_on_to_the_same_bytes(
    computed_project: Path,
    computed_once: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    code: int,
    damaged: bool,
) -> None:
    for record in computed_project.glob("results/cells/**/seed-0*.json"):
        record.unlink()
    ended = ended_by(number, command("evaluate", EVALUATION))
    assert ended.returncode == code
    said = f"{EVALUATION} seed 0 stopped after 10 of 12 tasks; the same command goes on from there"
    assert ended.stderr.splitlines()[-1] == f"firstorder: {number.name}: {said}"
    assert not list(computed_project.glob("results/cells/**/seed-0*.json"))
    (kept,) = computed_project.glob(".work/*/counts-0.json")
    if damaged:
        kept.write_bytes(kept.read_bytes().replace(b"[", b"[1, ", 1))
    chunks = counted(monkeypatch, evaluation, "correct_answers")
    assert main(command("evaluate", EVALUATION)) == 0
    assert len(chunks) == (2 if damaged else 1)
    assert without_runs(computed_project) == without_runs(computed_once)
    assert not kept.exists()
    run = (computed_project / f"results/cells/{EVALUATION}/inductive/seed-0.run.json").read_text(encoding="utf-8")
    assert ('"legs"' in run) is not damaged
    aside = f"counts to go on from (its digest is another one); it is now {kept.stem}.damaged.json, and the evaluation"
    assert (aside in capsys.readouterr().err) is damaged


@pytest.mark.parametrize("closed", ["a terminal", "a pipe"])
@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_an_output_that_is_gone_loses_nothing(
    computed_project: Path, computed_once: Path, monkeypatch: pytest.MonkeyPatch, closed: str, verb: str
) -> None:
    """HUP comes with a terminal that is gone; a signal to a whole group also ends the `tee` that reads the output."""
    name, pattern, module, function, left = {
        "train": (TRAINING, "seed-0.safetensors", training, "outer_step", 3),
        "evaluate": (EVALUATION, "counts-0.json", evaluation, "correct_answers", 1),
    }[verb]
    for made in computed_project.glob("models/**/seed-0.*" if verb == "train" else "results/cells/**/seed-0*"):
        made.unlink()
    for made in computed_project.glob(".work/*/*"):
        made.unlink()
    reading, writing = pty.openpty() if closed == "a terminal" else os.pipe()
    # The new session's terminal is the first one that it opens.
    begin = "import os; os.close(os.open(os.ttyname(2), os.O_RDWR))\n" if closed == "a terminal" else ""
    process = started(command(verb, name), stderr=writing, begin=begin)
    os.close(writing)
    while not Path("ready").exists() and process.poll() is None:
        if select.select([reading], [], [], 0.02)[0]:
            os.read(reading, 1 << 16)
    os.close(reading)
    if closed == "a pipe":
        process.send_signal(signal.SIGTERM)
    Path("sent").touch()
    assert process.wait(timeout=120) == 141
    assert len(list(computed_project.glob(f".work/*/{pattern}"))) == 1
    for made in ("ready", "sent"):
        Path(made).unlink()
    calls = counted(monkeypatch, module, function)
    assert main(command(verb, name)) == 0
    assert len(calls) == left
    assert main(command("evaluate", EVALUATION)) == 0
    assert without_runs(computed_project) == without_runs(computed_once)


def test_counts_of_another_engine_are_left_unused(computed_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines differ by rounding: a mixture of two would be the result of neither."""
    assert ended_by(signal.SIGTERM, [*command("evaluate", EVALUATION), "--engine", "plain"]).returncode == 143
    (kept,) = computed_project.glob(".work/*/counts-0.json")
    chunks = counted(monkeypatch, evaluation, "correct_answers")
    assert main([*command("evaluate", EVALUATION), "--engine", "lanes"]) == 0
    assert len(chunks) == 2
    assert not kept.exists()


def test_two_signals_at_once_are_one_wish_and_a_later_one_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    with stopping() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop()
        assert (stop.why, stop.code) == ("SIGTERM", 143)
        monkeypatch.setattr(signals, "SECONDS_OF_ONE_WISH", 0.0)
        with pytest.raises(Interrupted) as interrupted:
            os.kill(os.getpid(), signal.SIGINT)
    assert (interrupted.value.name, interrupted.value.code) == ("SIGINT", 130)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_limit_of_seconds_stops_too() -> None:
    with stopping(0.0) as stop:
        assert (stop(), stop.why, stop.code) == (True, "--time-limit", 3)
    with stopping(1e9) as stop:
        assert not stop()


@pytest.mark.parametrize(("begun", "limit", "left"), [(70, 40, 10), (10, 40, 1e-9), (None, 40, 40), (70, None, None)])
def test_a_limit_of_seconds_begins_with_the_command(
    begun: float | None, limit: float | None, left: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 100 s. `begun` is missing where another command calls `train`."""
    monkeypatch.setattr(compute, "time", types.SimpleNamespace(monotonic=lambda: 100.0))
    given = {"time_limit": limit} | ({} if begun is None else {"begun": begun})
    assert compute.limit_of(argparse.Namespace(**given)) == left


def test_an_ignored_signal_stays_ignored() -> None:
    """As HUP under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stopping() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop()


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    found: list[bool] = []

    def work() -> None:
        with stopping() as stop, ending():
            found.append(stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


@pytest.mark.parametrize("number", signals.ENDING)
def test_what_cannot_be_resumed_ends_at_once_and_in_order(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    """A second signal while a first one unwinds changes nothing; no scratch file stays."""
    before = set(files_below(tiny_project))

    def signalled(*arguments: object) -> None:
        from firstorder.files import replacing

        with replacing(tiny_project / "results/half.json"):
            try:
                os.kill(os.getpid(), number)
            finally:
                os.kill(os.getpid(), number)

    monkeypatch.setattr("firstorder.settings.checks.load", signalled)
    assert main(["stale"]) == 128 + number
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(f"firstorder: {number.name}: ended at once; what was saved before is kept", line)
    assert set(files_below(tiny_project)) == before


@pytest.mark.parametrize("number", signals.ENDING)
def test_a_signal_during_the_imports_ends_in_one_line(number: signal.Signals) -> None:
    begin = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    begin += "signal.signal(signal.SIGHUP, signal.SIG_DFL); import runpy, os, sys\n"
    # The finder of modules sends the signal when the command line begins to be imported.
    finder = (
        f"class Finder:\n def find_spec(self, name, *_):\n  name == 'firstorder.cli' and os.kill(os.getpid(), {number})"
    )
    run = "sys.meta_path.insert(0, Finder()); sys.argv = ['x', 'stale']\n"
    run += "runpy.run_module('firstorder', run_name='__main__')"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    program = [sys.executable, "-c", f"{begin}{finder}\n{run}"]
    done = subprocess.run(program, env=environment, capture_output=True, text=True)
    assert done.returncode == 128 + number
    said = f"firstorder: {number.name}: ended at once; what was saved before is kept"
    assert done.stderr.splitlines() == [said]


@pytest.mark.parametrize("number", signals.ENDING)
def test_a_signal_while_an_error_is_reported_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    original = output.say

    def signalled(message: str) -> None:
        monkeypatch.setattr(output, "say", original)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(output, "say", signalled)
    assert main(["stale", "--params", str(tmp_path / "nosuch")]) == 128 + number
    assert capsys.readouterr().err.startswith(f"firstorder: {number.name}: ended at once")
