"""A signal to make, alone or with all its processes, ends a training with its state saved and the line that says so."""

from __future__ import annotations

import copy
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from firstorder.data import packs
from tests.conftest import tiny_pack, write_params
from tests.upkeep.test_locks import make_cell
from tests.workflow.test_rebuild import FIVE, PROJECT, Checkout

SECONDS = 300.0  # for a busy machine


@pytest.fixture
def long(tmp_path: Path) -> Checkout:
    """Return a project whose training takes hours."""
    root = tmp_path / "project"
    packs.write_pack(root / "data/omniglot.npz", tiny_pack())
    values = copy.deepcopy(PROJECT)
    values["trainings"][FIVE] |= {"outer_steps": 1_000_000}
    values["trainings"][FIVE]["curve"] |= {"every": 1_000_000}
    write_params(root, values)
    return Checkout(root, Path(sys.executable).parent)  # jobs are processes of their own, to which signals come


@pytest.mark.parametrize(
    ("number", "group"),
    [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGHUP, True), (signal.SIGINT, True)],
    ids=["TERM to make alone", "TERM to all", "HUP to all", "INT to all"],
)
def test_a_training_ends_with_its_state_and_says_so(long: Checkout, number: signal.Signals, group: bool) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"{number.name} is ignored here, as under nohup, and a job must leave it so")
    process = make_cell(long, FIVE, start_new_session=True)
    log = long.root / f"logs/train/{FIVE}/seed-0.log"
    try:
        until = time.monotonic() + SECONDS
        while not (log.exists() and "outer steps" in log.read_text(encoding="utf-8")) and time.monotonic() < until:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.2)
        (os.killpg if group else os.kill)(process.pid, number)
        said = process.communicate(timeout=SECONDS)[0]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode
    assert f"firstorder: {number.name}: {FIVE} seed 0 stopped at outer step " in said
    assert "the same command goes on from there" in said
    assert len(list((long.root / ".work").rglob("seed-0.safetensors"))) == 1
