"""The profile that a command of make computes with, and a card of its own for each job."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from firstorder.__main__ import main
from firstorder.cli import device, profile
from firstorder.errors import UserError
from firstorder.upkeep import gpus, leases
from tests.fake_gpus import Driver

COMMAND = ["python", "-m", "snakemake", "--workflow-profile", "/here/profiles/default", "--cores=all"]
CUDA = {"version": "2.13.0", "cuda": "12.8"}


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Return a driver with two cards and a torch that can use them; leases are kept in a folder of their own."""
    made = Driver(tmp_path / "driver", ["NVIDIA H200", "NVIDIA H200"])
    monkeypatch.setenv("PATH", made.path)
    for name in (gpus.VISIBLE, device.CARDS, "CUDA_DEVICE_ORDER"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(leases, "folder", lambda: tmp_path / leases.SHARED_BY_ALL)
    monkeypatch.setattr(profile, "build_of_torch", lambda: CUDA)
    monkeypatch.setattr(device, "_leases", [])
    monkeypatch.setattr(device, "SETTLING", 0.0)
    return made


def test_where_there_are_gpus_their_profile_is_chosen_and_told(
    driver: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = profile.with_gpus(COMMAND, None)
    assert chosen == [*COMMAND[:4], "/here/profiles/gpu", "--resources=gpu=2", "--cores=all"]
    assert capsys.readouterr().err == "firstorder: 2 GPUs (NVIDIA H200): one job on each (profiles/gpu)\n"
    assert os.environ[device.CARDS] == "GPU-0,GPU-1"


def test_a_config_of_the_command_keeps_its_values(driver: Driver) -> None:
    chosen = profile.with_gpus([*COMMAND, "cells", "--config", "algorithms=reptile", "--forcerun"], None)
    assert chosen[-5:] == ["--config", "device=cuda", "seeds=together", "algorithms=reptile", "--forcerun"]


def test_without_a_gpu_nothing_changes_and_nothing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert profile.with_gpus(COMMAND, None) == COMMAND
    assert profile.with_gpus(COMMAND, "0") == COMMAND
    assert capsys.readouterr().err == ""


def test_a_card_that_others_use_is_passed_over_and_named(driver: Driver, capsys: pytest.CaptureFixture[str]) -> None:
    driver.is_used({0: 4242})
    assert "--resources=gpu=1" in profile.with_gpus(COMMAND, None)
    assert capsys.readouterr().err.splitlines() == [
        "firstorder: GPU 0 (NVIDIA H200): passed over, process 4242 computes on it",
        "firstorder: 1 GPU (NVIDIA H200): one job on each (profiles/gpu)",
    ]
    assert os.environ[device.CARDS] == "GPU-1"
    assert "--resources=gpu=2" in profile.with_gpus(COMMAND, "2")  # asked for by number


def test_a_driver_that_fails_leaves_the_work_to_the_cpu(driver: Driver, capsys: pytest.CaptureFixture[str]) -> None:
    driver.fails("Driver/library version mismatch")
    assert profile.with_gpus(COMMAND, None) == COMMAND
    said = "firstorder: no GPU is used (nvidia-smi: Driver/library version mismatch): the CPU computes\n"
    assert capsys.readouterr().err == said
    with pytest.raises(UserError, match="GPUS=1: the driver finds 0"):
        profile.with_gpus(COMMAND, "1")


def test_a_torch_that_was_built_for_cpus_leaves_the_work_to_the_cpu(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(profile, "build_of_torch", lambda: {"version": "2.13.0+cpu"})
    assert profile.with_gpus(COMMAND, None) == COMMAND
    assert "2 GPUs (NVIDIA H200) found, but torch 2.13.0+cpu here is a build for CPUs" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"GPUS=1: torch 2.13.0\+cpu here is a build for CPUs"):
        profile.with_gpus(COMMAND, "1")


def test_the_build_of_torch_is_read_without_importing_it() -> None:
    import torch

    built = profile.build_of_torch()
    assert built is not None
    assert built["version"] == str(torch.__version__)
    assert built.get("cuda") == torch.version.cuda


def test_a_job_of_a_rule_leases_one_of_the_chosen_cards(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(device.CARDS, "GPU-1")
    device._lease_a_card()
    assert os.environ[gpus.VISIBLE] == "GPU-1"
    assert device.leased() == "GPU 1 (NVIDIA H200)"
    assert leases.is_leased(gpus.Gpu("1", "GPU-1", ""))


def test_a_command_of_its_own_shares_a_card_if_all_are_leased(
    driver: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    held = [leases.take(gpus.listed().gpus, "another", print) for _ in range(2)]
    device._lease_a_card()
    assert device.leased() is None
    assert "every GPU is leased by another command; this one shares a card" in capsys.readouterr().err
    for lease in held:
        assert lease is not None
        lease.end()


def test_a_card_that_is_lost_in_mid_run_is_named_in_one_line(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from firstorder import cli

    def fails(arguments: object) -> int:
        device._lease_a_card()
        raise RuntimeError("CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be ...")

    monkeypatch.setattr(cli, "_call", fails)
    assert main(["stale"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("firstorder: GPU 0 (NVIDIA H200): lost while computing (CUDA error: uncorrectable ECC")
    assert "the same command goes on from there" in said
    assert said.count("\n") == 1
    device._leases[0].end()
    monkeypatch.delenv(gpus.VISIBLE)
    next_lease = leases.take(gpus.listed().gpus, "me", print)
    assert next_lease is not None
    assert next_lease.gpu.uuid == "GPU-1"
    next_lease.end()


@pytest.mark.parametrize(
    ("text", "known"), [("1", True), ("", False), ("0", False), ("-1", False), ("abc", False), ("1000000000", False)]
)
def test_a_number_of_threads_that_is_none_is_not_left_to_torch(text: str, known: bool) -> None:
    assert device.is_count(text) is known
