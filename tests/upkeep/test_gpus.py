"""The cards that the driver lists, and leases of them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from firstorder.errors import UserError
from firstorder.upkeep import gpus, leases
from firstorder.upkeep.gpus import Gpu
from tests.fake_gpus import Driver

HOLD = """
import sys, time
from firstorder.upkeep import gpus, leases
lease = leases.take([gpus.Gpu(n, f"GPU-{n}", "X") for n in sys.argv[1].split(",")], "a training", print)
print(lease and lease.gpu.uuid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Return a driver with two cards, the only one on the path; leases are kept in a folder of their own."""
    made = Driver(tmp_path / "driver", ["NVIDIA H200", "NVIDIA H200"])
    monkeypatch.setenv("PATH", made.path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv(gpus.VISIBLE, raising=False)
    monkeypatch.setattr(leases, "folder", lambda: tmp_path / leases.SHARED_BY_ALL)
    return made


def found() -> list[str]:
    return [gpu.uuid for gpu in gpus.listed().gpus]


def test_the_driver_lists_cards_and_who_computes_on_them(driver: Driver) -> None:
    driver.is_used({1: 4242})
    assert gpus.listed().gpus == (Gpu("0", "GPU-0", "NVIDIA H200"), Gpu("1", "GPU-1", "NVIDIA H200", (4242,)))


@pytest.mark.parametrize(
    ("visible", "expected"),
    [("1", ["GPU-1"]), ("1,0", ["GPU-1", "GPU-0"]), ("GPU-1", ["GPU-1"]), ("", []), ("0,7,1", ["GPU-0"]), ("GPU-", [])],
)
def test_only_visible_cards_count(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, visible: str, expected: list[str]
) -> None:
    """As CUDA reads the variable: an unknown or ambiguous name ends the list."""
    monkeypatch.setenv(gpus.VISIBLE, visible)
    assert found() == expected


def test_without_a_driver_there_is_no_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.listed() == gpus.Cards((), "no nvidia-smi on the path")
    assert [str(gpu) for gpu in gpus.wanted("2").gpus] == ["GPU 0", "GPU 1"]  # then a number is believed


def test_a_driver_that_fails_is_quoted(driver: Driver) -> None:
    driver.fails("Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 560")
    problem = gpus.listed().problem
    assert problem is not None
    assert "Driver/library version mismatch" in problem
    assert "\n" not in problem
    (driver.folder / "broken").unlink()
    (driver.folder / "cards").write_text("no card at all\n", encoding="utf-8")
    assert "unexpected answer" in (gpus.listed().problem or "")


def test_a_number_of_cards_prefers_those_that_nobody_uses(driver: Driver) -> None:
    driver.is_used({0: 4242})
    assert [gpu.uuid for gpu in gpus.wanted("1").gpus] == ["GPU-1"]
    assert [gpu.uuid for gpu in gpus.wanted("2").gpus] == ["GPU-1", "GPU-0"]
    assert gpus.wanted("0").gpus == ()
    assert len(gpus.wanted(None).gpus) == len(gpus.wanted(" ").gpus) == 2


@pytest.mark.parametrize(
    ("count", "said"),
    [("3", r"GPUS=3: the driver finds 2 \(GPU 0 .*GPU 1 .*\); use GPUS=2"), ("two", "expected a whole number from 0")],
)
def test_more_cards_than_there_are_are_refused(driver: Driver, count: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        gpus.wanted(count)


def test_a_card_is_leased_to_one_process_until_it_ends(driver: Driver) -> None:
    """Two processes get a card each, a third none; after one is killed, its card is free again."""
    said: list[str] = []
    command = [sys.executable, "-c", HOLD, "0,1"]
    holders = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        cards = [holder.stdout.readline() for holder in holders if holder.stdout]
        assert sorted(cards) == ["GPU-0\n", "GPU-1\n"]
        holders = [holder for _, holder in sorted(zip(cards, holders, strict=True), key=lambda pair: pair[0])]
        assert all(leases.is_leased(gpu) for gpu in gpus.listed().gpus)
        assert leases.take(gpus.listed().gpus, "me", said.append) is None
        assert f"process {holders[0].pid} (a training) since" in leases.holder(gpus.listed().gpus[0])
        pauses: list[float] = []

        def kill(seconds: float) -> None:
            pauses.append(seconds)
            holders[1].kill()
            holders[1].wait()

        lease = leases.wait(lambda: gpus.listed().gpus, "me", said.append, pause=kill)
        assert lease.gpu.uuid == "GPU-1"
        assert len(pauses) == 1
        assert [line.split(" (GPU 0")[0] for line in said] == ["waiting for a GPU"]
        lease.end()
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()


def test_a_card_on_which_others_compute_is_passed_over_and_named(driver: Driver) -> None:
    driver.is_used({0: 4242})
    said: list[str] = []
    first = leases.take(gpus.listed().gpus, "me", said.append)
    assert first is not None
    assert first.gpu.uuid == "GPU-1"
    assert said == ["GPU 0 (NVIDIA H200): process 4242 computes on it; passed over"]
    assert leases.take(gpus.listed().gpus, "me", said.append) is None  # rather waits than disturbs another user
    first.end()


def test_a_card_with_a_defect_is_taken_if_there_is_no_other(driver: Driver) -> None:
    driver.has(["NVIDIA H200"])
    driver.is_used({0: 4242})
    said: list[str] = []
    lease = leases.take(gpus.listed().gpus, "me", said.append)
    assert lease is not None
    assert said == ["GPU 0 (NVIDIA H200): process 4242 computes on it; taken all the same, as there is no other"]
    lease.end()


def test_a_card_that_was_lost_is_tried_last_for_an_hour(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    lease = leases.take(gpus.listed().gpus, "me", said.append)
    assert lease is not None
    lease.lost("CUDA error: uncorrectable ECC error")
    lease.end()
    other = leases.take(gpus.listed().gpus, "me", said.append)
    assert other is not None
    assert other.gpu.uuid == "GPU-1"
    assert said == ["GPU 0 (NVIDIA H200): it was lost in mid-run (CUDA error: uncorrectable ECC error); passed over"]
    other.end()
    later = time.time() + leases.FORGIVEN
    monkeypatch.setattr(time, "time", lambda: later)
    again = leases.take(gpus.listed().gpus, "me", said.append)
    assert again is not None
    assert again.gpu.uuid == "GPU-0"
    again.end()


def test_a_machine_that_lost_all_its_cards_says_so(driver: Driver) -> None:
    driver.has([])
    with pytest.raises(UserError, match="the driver lists no GPU any more"):
        leases.wait(lambda: gpus.listed().gpus, "me", print)


def test_only_cards_that_are_still_listed_are_used(driver: Driver) -> None:
    assert [gpu.uuid for gpu in gpus.named(["GPU-1", "GPU-0"])] == ["GPU-0", "GPU-1"]
    driver.numbered({1: "NVIDIA H200"})
    assert [gpu.uuid for gpu in gpus.named(["GPU-1", "GPU-0"])] == ["GPU-1"]


def test_what_a_stranger_writes_into_a_lock_is_shown_in_one_line(driver: Driver) -> None:
    (gpu, _) = gpus.listed().gpus
    lease = leases.take([gpu], "me", print)
    assert lease is not None
    path = leases.folder() / "GPU-0.lock"
    path.write_text(json.dumps({"pid": "1\n2", "told": "a\x1b[0m"}), encoding="utf-8")
    assert leases.holder(gpu) == "process 1 2 (a\\x1b[0m) since None"
    path.write_text("[", encoding="utf-8")
    assert leases.holder(gpu) == "free"
    lease.end()


def test_without_a_place_for_locks_computing_goes_on(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "folder", lambda: Path("/proc/none"))
    lease = leases.take(gpus.listed().gpus, "me", print)
    assert lease is not None
    assert lease.gpu.uuid == "GPU-0"
    lease.end()
