"""kill -9 at every change that a command makes to the disk: the same command then ends with the same bytes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from firstorder.data import packs
from tests.conftest import EVALUATION, TINY_PARAMS, TRAINING, edit, files_below, tiny_pack, write_params
from tests.upkeep.test_locks import make_cell
from tests.workflow.test_rebuild import PROJECT, Checkout

ENGINES = ("native", "plain", "lanes", "graph")
VERBS = {"train": TRAINING, "evaluate": EVALUATION}
# More steps of an evaluation than in other tests: the engines compute 10 or all tasks side by side.
PARAMS = edit(TINY_PARAMS, (("evaluations", EVALUATION, "tasks"), 50))


def run(quick_path: Path, root: Path, verb: str, engine: str, killed_at: int | None = None) -> int:
    """Run a verb in the folder `root`, killed before a change of the disk; return its exit code, 1 if it was killed."""
    command = [str(quick_path / "python"), "-m", "firstorder", verb, VERBS[verb], "--seed", "0"]
    environment = {**os.environ, **({} if killed_at is None else {"KILLED_AT": str(killed_at)})}
    command += ["--device", "cpu", "--engine", engine]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, check=False).returncode


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project with packed data and nothing computed."""
    root = tmp_path_factory.mktemp("begun")
    packs.write_pack(root / "data/omniglot.npz", tiny_pack())
    write_params(root, PARAMS)
    return root


def results(root: Path) -> dict[str, bytes]:
    """Map the results to their content: neither logs, run files and the page, which hold times, nor hidden files."""
    found = files_below(root).items()
    left_out = (".run.json", ".log", "report.html")
    return {name: text for name, text in found if not name.endswith(left_out) and "/." not in f"/{name}"}


def kill(quick_path: Path, begun: Path, work: Path, verb: str, engine: str, changes: range | count[int]) -> int:
    """Kill a verb before each of these changes, each time from the beginning; return how often it was killed.

    After each kill the same command must end with the bytes of one that was not killed.
    """
    start, whole = work / "start", work / "whole"
    shutil.copytree(begun, start)
    if verb == "evaluate":
        assert run(quick_path, start, "train", engine) == 0
    shutil.copytree(start, whole)
    assert run(quick_path, whole, verb, engine) == 0
    expected = results(whole)
    assert set(expected) > set(results(start))
    kills = 0
    for change in changes:
        root = work / f"killed-{change}"
        shutil.copytree(start, root)
        if run(quick_path, root, verb, engine, killed_at=change) == 0:
            break  # it makes fewer changes
        kills += 1
        assert run(quick_path, root, verb, engine) == 0, change
        assert results(root) == expected, change
        assert not list(root.glob(".work/*/counts-*")), change
        shutil.rmtree(root)
    return kills


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_command_goes_on_to_the_same_bytes(
    quick_path: Path, begun: Path, tmp_path: Path, verb: str, engine: str
) -> None:
    assert kill(quick_path, begun, tmp_path, verb, engine, range(2 + ENGINES.index(engine), 40, 15)) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_command_may_be_killed_at_every_change(
    quick_path: Path, begun: Path, tmp_path: Path, verb: str, engine: str
) -> None:
    kills = kill(quick_path, begun, tmp_path, verb, engine, count(1))
    print(f"{verb} --engine {engine}: {kills} kills")
    assert kills >= 15


def kill_make(checkout: Checkout, due: Callable[[], bool]) -> bool:
    """Start `make cell`, kill all its processes as soon as it is due, and say whether it was killed."""
    process = make_cell(checkout, TRAINING, start_new_session=True)
    while process.poll() is None and not due():
        time.sleep(0.005)
    ended = process.poll() is not None
    if not ended:
        os.killpg(process.pid, signal.SIGKILL)
    said, _ = process.communicate()
    assert not ended or process.returncode == 0, said
    return not ended


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Return a project with packed data and nothing computed; its jobs are processes of their own."""
    root = tmp_path / "project"
    packs.write_pack(root / "data/omniglot.npz", tiny_pack())
    write_params(root, PROJECT)
    return Checkout(root, Path(sys.executable).parent)


def whole(checkout: Checkout, tmp_path: Path, quick_path: Path) -> dict[str, bytes]:
    """Return the results of a `make cell` that was not killed."""
    other = Checkout(tmp_path / "whole", quick_path)
    shutil.copytree(checkout.root, other.root)
    assert not kill_make(other, lambda: False)
    return results(other.root)


def test_make_goes_on_after_kills(checkout: Checkout, tmp_path: Path, quick_path: Path) -> None:
    expected = whole(checkout, tmp_path, quick_path)
    for found in ("logs/train/**/seed-0.log", "models/**/seed-0.safetensors", "results/cells/**/seed-0.json"):
        assert kill_make(checkout, lambda found=found: any(checkout.root.glob(found)))
    assert not kill_make(checkout, lambda: False)
    assert results(checkout.root) == expected


@pytest.mark.slow
def test_make_may_be_killed_at_any_time(checkout: Checkout, tmp_path: Path, quick_path: Path) -> None:
    """At random times, again and again until it ends before it is killed; that four times."""
    begun = time.monotonic()
    expected = whole(checkout, tmp_path, quick_path)
    seconds, moments, kills = time.monotonic() - begun, random.Random(5), 0
    for number in range(4):
        attempt = Checkout(tmp_path / f"killed-{number}", checkout.python)
        shutil.copytree(checkout.root, attempt.root)
        end = time.monotonic() + moments.uniform(0.1, 1.2) * seconds
        while kill_make(attempt, lambda end=end: time.monotonic() > end):
            kills += 1
            end = time.monotonic() + moments.uniform(0.1, 1.5) * seconds
        assert results(attempt.root) == expected
    print(f"make: {kills} kills")
    assert kills >= 4
