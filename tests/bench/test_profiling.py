"""The profile of engine native: what its clocks count, and the table and file made of it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import torch

from firstorder.__main__ import main
from firstorder.bench import flops, machine, profiling, workloads
from firstorder.bench.profiling import COLUMNS, PRODUCTS, Clocked, Profile
from firstorder.engines.native import engine as native
from firstorder.errors import UserError
from firstorder.settings import checks

PARAMS = Path(__file__).parents[2] / "params.yaml"
WORKLOADS = workloads.all_workloads(checks.load(PARAMS))
needs_native = pytest.mark.skipif(native.reason("omniglot") is not None, reason="engine native is not available")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave torch's number of threads to the other tests, and measure no limit for a second."""
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    monkeypatch.setattr(machine, "registers", lambda threads: {machine.REGISTERS: 100.0})


def profiles(names: Sequence[str]) -> dict[str, Profile]:
    return profiling.run({name: WORKLOADS[name] for name in names}, rounds=2, seconds=0.0)[0]


@needs_native
@pytest.mark.parametrize("name", ["W1", "W3", "W4 maml", "W5 omniglot"])
def test_phases_are_within_the_wall_time_and_most_of_it(name: str) -> None:
    """The process may be interrupted between phases and wall time, but hardly each time."""
    clocked = Clocked(WORKLOADS[name], native.library("float", profiling.CLOCKS))
    shares = [clocked.counts.sum() / taken for taken in (clocked.once() for _ in range(5))]
    assert 0.5 <= max(shares) <= 1
    clocked.measure(0.0)
    profile = clocked.profile()
    assert 0 < 1e-3 * profile.in_phases <= profile.seconds
    for product in PRODUCTS:
        *blocks, network = profile.phases[product]
        assert network == 0
        assert [time > 0 for time in blocks] == [product != "dx", True, True, True]
    assert all(sum(profile.phases[phase]) > 0 for phase in profile.phases)


@needs_native
def test_a_normal_library_has_no_clocks() -> None:
    code, clocked = native.library("float"), native.library("float", profiling.CLOCKS)
    assert hasattr(clocked, "take_phases")
    assert not hasattr(code, "take_phases")
    assert code._name != clocked._name


@needs_native
def test_what_is_taken_is_cleared() -> None:
    clocked = Clocked(WORKLOADS["W5 omniglot"], native.library("float", profiling.CLOCKS))
    clocked._take()
    assert clocked.counts.any()
    clocked._take()
    assert not clocked.counts.any()


@needs_native
def test_the_clock_is_read_as_64_bits_whoever_asks_first() -> None:
    """C's default of ctypes, 32 bits, wraps about once a second."""
    code = native.library("float", profiling.CLOCKS)
    code.take_phases.restype = ctypes.c_int
    clocked = Clocked(WORKLOADS["W5 omniglot"], code)
    assert code.take_phases.restype is ctypes.c_uint64
    assert clocked.once() > 0


@needs_native
def test_the_same_inner_loop_is_profiled_once() -> None:
    assert [*profiles(["W4 maml", "W4 fomaml"])] == ["W4 maml"]


def test_without_the_engine_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library", lambda *names: "no C compiler found")
    with pytest.raises(UserError, match="cannot be profiled: no C compiler found"):
        profiles(["W1"])


def by_hand() -> Profile:
    """1 ms for each product in each block, but 2 ms of the head."""
    phases = dict.fromkeys(PRODUCTS, (0.001, 0.001, 0.001, 0.001, 0.0))
    phases["dx"] = (0.0, 0.001, 0.001, 0.001, 0.0)
    return Profile(WORKLOADS["W1"], 0.014, {**phases, "head": (0.0, 0.0, 0.0, 0.0, 0.002)})


def test_percent_of_the_limit_by_hand() -> None:
    """10 images in 1 ms at 100 GFLOP/s; all blocks together take 4 ms, and dx has no first block."""
    first, *others = flops.products("omniglot")
    percent = 100 * 10 / (0.001 * 100e9)
    assert by_hand().of_limit("dK", 100) == pytest.approx(
        [first * percent, *(one * percent for one in others), None, (first + sum(others)) * percent / 4]
    )
    assert by_hand().of_limit("dx", 100)[0] is None
    assert by_hand().of_limit("dx", 100)[-1] == pytest.approx(sum(others) * percent / 3)
    assert by_hand().of_limit("head", 100) == [None] * 6


def test_the_table_has_milliseconds_shares_and_percents() -> None:
    lines = profiling.table("W1", by_hand(), 100).splitlines()
    assert lines[0] == "W1: Reptile, Omniglot 5-way; 10 images an inner step, 14.000 ms, 13.000 ms in phases"
    assert lines[1].split()[-4:] == ["network", "all", "share,", "%"]
    assert lines[4].split() == ["dK", *["1.000"] * 4, "4.000", "30.8"]
    assert lines[5].split() == ["head", "2.000", "2.000", "15.4"]
    assert lines[6].split() == ["sum", "2.000", "3.000", "3.000", "3.000", "2.000", "13.000", "100.0"]
    assert len({len(line) for line in lines[1:]}) == 1


def test_a_file_is_written_only_where_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(profiling, "run", lambda *given: ({"W1": by_hand()}, 100.0))
    command = ["bench", "--profile", "--device", "cpu", "--params", str(PARAMS)]
    assert main(command) == 0
    assert not [*tmp_path.rglob("*.csv")]
    assert main([*command, "--output", "here"]) == 0
    (path,) = (tmp_path / "here").iterdir()
    assert path.name.endswith("-profile.csv")
    frame = pd.read_csv(path)
    assert [*frame.columns] == [*profiling.FILE_COLUMNS]
    assert len(frame) == 4 * (len(COLUMNS) + 1)
    assert frame[frame["block"] == "all"]["milliseconds"].tolist() == [4, 3, 4, 2]
    assert str(path.name) in capsys.readouterr().out
