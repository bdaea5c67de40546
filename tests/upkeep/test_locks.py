"""Concurrent commands in one folder: none fails, nothing is lost or computed twice, a killed one releases its locks."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from firstorder import settings
from firstorder.data import packs
from firstorder.errors import UserError
from firstorder.upkeep import locks
from tests.conftest import tiny_pack, write_params
from tests.workflow.test_rebuild import FIVE, PROJECT, REPOSITORY, THREE, Checkout

SLEEP = [sys.executable, "-c", "import time; print('asleep', flush=True); time.sleep(60)"]


@pytest.fixture
def checkout(tmp_path: Path, quick_path: Path) -> Checkout:
    """Return a project with packed data and nothing computed."""
    root = tmp_path / "project"
    packs.write_pack(root / "data/omniglot.npz", tiny_pack())
    write_params(root, PROJECT)
    return Checkout(root, quick_path)


def make_cell(checkout: Checkout, training: str, *, start_new_session: bool = False) -> subprocess.Popen[str]:
    """Start `make cell` with the Python of these tests instead of .venv's."""
    installed = ["--old-file=.venv/.torch", "--old-file=.venv/.installed"]
    python = [*installed, f"MAKE=make {' '.join(installed)}", f'PY="{sys.executable}"']
    cell = [f"CELL={training}/1shot/inductive", "SEED=0", f"DIR={checkout.root}", "CORES=1"]
    variables = {name: value for name, value in checkout.variables().items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "cell", *python, *cell, f"PATH={variables['PATH']}"]
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=start_new_session,
    )


@contextmanager
def holding(checkout: Checkout, *arguments: str) -> Iterator[int]:
    """Let another process hold locks inside the `with` statement; yield its process id."""
    command = [sys.executable, "-m", "firstorder", "hold", "--params", str(checkout.root / "params.yaml"), *arguments]
    with subprocess.Popen(
        [*command, "--", *SLEEP], stdout=subprocess.PIPE, text=True, env=checkout.variables()
    ) as held:
        assert held.stdout is not None
        assert "asleep\n" in iter(held.stdout.readline, "")
        yield held.pid
        held.kill()


def test_cells_made_at_once_are_all_made_and_the_same_one_only_once(checkout: Checkout) -> None:
    started = [make_cell(checkout, training) for training in (FIVE, THREE, FIVE)]
    said = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    assert [text.count("jobs done: train ") for text in said] in ([1, 1, 0], [0, 1, 1])
    late = said[0] if "jobs done: train " in said[2] else said[2]
    holder = rf"make cell CELL={FIVE}/1shot/inductive SEED=0 DIR={checkout.root}"
    assert re.search(rf"in use by process \d+ \({holder}\) since .*; waiting for it to end", late)
    for training in (FIVE, THREE):
        path = settings.RECORD.format(evaluation=f"{training}/1shot", mode="inductive", seed=0)
        assert json.loads((checkout.root / path).read_text(encoding="utf-8"))["training_digest"]
    shown = (checkout.root / "results/accuracies.csv").read_text(encoding="utf-8")
    assert "omniglot-5way/1shot" in shown
    assert "omniglot-3way/1shot" in shown


def test_the_locks_of_a_killed_command_are_free(checkout: Checkout, tmp_path: Path, quick_path: Path) -> None:
    python = tmp_path / "sleeping/python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho working\nexec sleep 60\n", encoding="utf-8")
    python.chmod(0o755)
    checkout.python = python.parent
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")]
    command += ["--directory", str(checkout.root), "--workflow-profile", str(REPOSITORY / "profiles/default")]
    cell = settings.RECORD.format(evaluation=f"{FIVE}/1shot", mode="inductive", seed=0)
    killed = subprocess.Popen(
        [*command, "--cores", "1", cell], env=checkout.variables(), start_new_session=True, stderr=subprocess.DEVNULL
    )
    try:
        log = checkout.root / f"logs/train/{FIVE}/seed-0.log"
        while not (log.exists() and log.stat().st_size) and killed.poll() is None:
            time.sleep(0.05)
        refused = checkout.snakemake(cell)
        assert refused.returncode == 1
        assert re.search(rf"in use by process {killed.pid} \(snakemake\) since .*; wait for", refused.stderr)
    finally:
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
    checkout.python = quick_path
    assert checkout.rebuild(cell) == {f"train {FIVE} 0", f"evaluate {FIVE}/1shot 0"}


def test_the_holder_of_the_folder_is_named(checkout: Checkout) -> None:
    with holding(checkout, "--told", "make paper") as holder:
        told = rf"in use by process {holder} \(make paper\) since \d{{4}}-.*; wait for it to end"
        with pytest.raises(UserError, match=told):
            locks.take(checkout.root, [locks.Lock(locks.FOLDER, shared=True)], "another", print, wait=False)
    assert locks.holders(checkout.root) == []


def test_cells_of_two_trainings_and_the_report_do_not_wait_for_each_other(checkout: Checkout) -> None:
    with ExitStack() as held:
        for training in (FIVE, THREE):
            held.enter_context(holding(checkout, "--cell", f"{training}/1shot/inductive", "--seed", "0"))
        held.enter_context(holding(checkout, "--report"))
        assert len(locks.holders(checkout.root)) == 3


def test_an_unknown_command_is_reported(checkout: Checkout, capfd: pytest.CaptureFixture[str]) -> None:
    params = str(checkout.root / "params.yaml")
    command = [sys.executable, "-m", "firstorder", "hold", "--params", params, "--", "nosuch"]
    assert subprocess.run(command, env=checkout.variables(), check=False).returncode == 2
    assert "nosuch: no such command" in capfd.readouterr().err


def test_a_full_disk_is_reported_with_the_path_of_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", write)
    with pytest.raises(OSError, match=r"No space left.*folder\.lock"):
        locks.take(tmp_path, [locks.Lock(locks.FOLDER)], "a test", print)


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_a_lock_that_is_no_regular_file_is_refused_and_left_alone(tmp_path: Path, kind: str) -> None:
    """A lock file is written into: through a link that would destroy the file it leads to."""
    path = tmp_path / locks.LOCKS_FOLDER / "report.lock"
    path.parent.mkdir(parents=True)
    (tmp_path / "victim").write_text("precious", encoding="utf-8")
    make: dict[str, Callable[[], object]] = {
        "link": lambda: path.symlink_to(tmp_path / "victim"),
        "fifo": lambda: os.mkfifo(path),
        "folder": path.mkdir,
    }
    make[kind]()
    with pytest.raises(UserError, match=r"report\.lock: expected a regular file.*delete it"):
        locks.take(tmp_path, [locks.Lock(locks.REPORT)], "a test", print)
    assert (tmp_path / "victim").read_text(encoding="utf-8") == "precious"
