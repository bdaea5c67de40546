"""Snakemake's profiles: what each asks for, and what runs at the same time with made-up GPUs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from firstorder import settings
from firstorder.data import packs
from firstorder.records.cells import read_run
from tests.conftest import EVALUATION, TINY_PARAMS, TRAINING, edit, tiny_pack, write_params
from tests.fake_gpus import Driver
from tests.workflow.test_workflow import with_profile

REPOSITORY = Path(__file__).parents[2]
PROFILES = sorted(path.parent.name for path in (REPOSITORY / "profiles").glob("*/config.yaml"))
# In place of `python` on the path: leases a card as a job on a GPU does, notes when it has it, and computes on the CPU.
STAND_IN = """#!{python}
import os, sys, time
from pathlib import Path
from firstorder.cli import device
arguments = sys.argv[3:]
if "cuda" in arguments:
    device._lease_a_card()
    arguments[arguments.index("cuda")] = "cpu"
    arguments += ["--engine", "graph"] if arguments[0] == "train" else []
    begun = time.monotonic()
    time.sleep(0.5)
from firstorder import cli
from firstorder.__main__ import main
lose = Path("{notes}.lose")
if arguments[0] == "train" and lose.exists():  # this one's card is lost in mid-run
    lose.unlink()
    def fails(arguments):
        raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
    cli._call = fails
code = main(arguments)
if "--device" in arguments:
    with open("{notes}", "a") as notes:
        notes.write(f"{{os.environ.get('CUDA_VISIBLE_DEVICES')}} {{begun}} {{time.monotonic()}} {{arguments[0]}}\\n")
sys.exit(code)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the folder of a project of two seeds, with data and nothing computed."""
    folder = tmp_path / "project"
    packs.write_pack(folder / "data/omniglot.npz", tiny_pack())
    write_params(folder, edit(TINY_PARAMS, (("seeds",), [0, 1, 2, 3])))
    return folder


def profile_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((REPOSITORY / f"profiles/{name}/config.yaml").read_text(encoding="utf-8"))
    return found


def stand_in(folder: Path) -> Path:
    """Make a driver with two made-up cards and the `python` of STAND_IN; return the file of its notes."""
    driver = Driver(folder / "driver", ["NVIDIA H200", "NVIDIA H200"])
    program = driver.folder / "python"
    program.write_text(STAND_IN.format(python=sys.executable, notes=folder / "notes"), encoding="utf-8")
    program.chmod(0o755)
    return folder / "notes"


def on_made_up_cards(root: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the profile of GPUs with the two cards and the `python` of `stand_in`."""
    path = f"{folder / 'driver'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    given = {"PATH": path, "TMPDIR": str(folder), "FIRSTORDER_GPUS": "GPU-0,GPU-1"}
    return with_profile(root, "gpu", *arguments, "--resources=gpu=2", "--cores=4", **given)


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_is_a_variation_of_the_default_one(name: str) -> None:
    shared = {key: value for key, value in profile_of("default").items() if key not in ("cores", "jobs")}
    assert shared.items() <= profile_of(name).items()


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_plans_the_same_jobs(root: Path, name: str) -> None:
    if name in ("slurm", "kubernetes"):
        pytest.importorskip(f"snakemake_executor_plugin_{name}", reason="requirements-cluster.txt is not installed")
    place = ["--default-storage-prefix", str(root)] if name == "kubernetes" else []
    answer = with_profile(root, name, "--dry-run", "cells", "--quiet", "host", *place)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", answer.stdout.split("Job stats:")[1], flags=re.MULTILINE))
    assert (jobs["train"], jobs["evaluate"]) == ("4", "4")


def test_jobs_ask_for_a_gpu_and_cuda_where_the_profile_offers_one(root: Path) -> None:
    commands = {}
    for profile in ("default", "gpu"):
        answer = with_profile(root, profile, "--dry-run", "cells", "--quiet", "host", "--printshellcmds", "--cores=2")
        assert answer.returncode == 0, answer.stdout + answer.stderr
        commands[profile] = answer.stdout
    assert commands["default"].count("--device cpu") == commands["gpu"].count("--device cuda") == 8
    assert commands["gpu"].count("gpu=1") == 8
    assert "gpu=1" not in commands["default"]


def test_as_many_jobs_run_as_there_are_cards_and_each_has_its_own(root: Path, tmp_path: Path) -> None:
    """Two made-up cards and four cores: at any moment at most one job on each card, and both are used."""
    notes = stand_in(tmp_path)
    answer = on_made_up_cards(root, tmp_path, "cells", "--config", "device=cuda")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    for seed in range(4):
        assert (root / settings.MODEL.format(training=TRAINING, seed=seed)).exists()
        assert (root / settings.RECORD.format(evaluation=EVALUATION, mode="inductive", seed=seed)).exists()
    jobs = [line.split() for line in notes.read_text(encoding="utf-8").splitlines()]
    assert len(jobs) == 8
    assert {card for card, *_ in jobs} == {"GPU-0", "GPU-1"}
    for card in ("GPU-0", "GPU-1"):
        times = sorted((float(begun), float(ended)) for name, begun, ended, _ in jobs if name == card)
        assert all(before[1] <= after[0] for before, after in pairwise(times))


def test_all_missing_seeds_are_trained_side_by_side_and_no_other(root: Path, tmp_path: Path) -> None:
    """Four at first; then the two that were deleted. The others keep their bytes."""
    stand_in(tmp_path)
    models = [root / settings.MODEL.format(training=TRAINING, seed=seed) for seed in range(4)]

    def trained() -> list[tuple[bytes, int]]:
        answer = on_made_up_cards(root, tmp_path, "cells")
        assert answer.returncode == 0, answer.stdout + answer.stderr
        runs = [read_run(root / settings.CURVE.format(training=TRAINING, seed=seed)) for seed in range(4)]
        return [(model.read_bytes(), run["together"]) for model, run in zip(models, runs, strict=True)]

    first = trained()
    assert [together for _, together in first] == [4, 4, 4, 4]
    for seed in (1, 3):
        models[seed].unlink()
        (root / settings.CURVE.format(training=TRAINING, seed=seed)).unlink()
        for mode in settings.MODES:
            (root / settings.RECORD.format(evaluation=EVALUATION, mode=mode, seed=seed)).unlink()
    second = trained()
    assert [together for _, together in second] == [4, 2, 4, 2]
    assert [model for model, _ in second] == [model for model, _ in first]


def test_one_seed_that_is_asked_for_is_trained_alone(root: Path, tmp_path: Path) -> None:
    stand_in(tmp_path)
    record = settings.RECORD.format(evaluation=EVALUATION, mode="inductive", seed=2)
    answer = on_made_up_cards(root, tmp_path, record)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert [path.name for path in (root / "models").rglob("*.safetensors")] == ["seed-2.safetensors"]


def test_a_card_that_is_lost_in_mid_run_costs_one_try_and_the_rest_goes_on(root: Path, tmp_path: Path) -> None:
    """Two made-up cards, two trainings at once: the job that lost its card is tried again, and nothing is missing."""
    write_params(root, edit(TINY_PARAMS, (("seeds",), [0, 1])))
    notes = stand_in(tmp_path)
    Path(f"{notes}.lose").touch()
    answer = on_made_up_cards(root, tmp_path, "cells", "--config", "device=cuda")
    said = answer.stdout + answer.stderr
    assert answer.returncode == 0, said
    (line,) = {line for line in said.splitlines() if "lost while computing" in line}
    assert re.match(r"firstorder: GPU \d \(NVIDIA H200\): lost while computing \(CUDA error: uncorrectable ECC", line)
    ended = [line.split()[-1] for line in notes.read_text(encoding="utf-8").splitlines()]
    assert ended.count("train") == 2 + 1
    for seed in (0, 1):
        assert (root / settings.RECORD.format(evaluation=EVALUATION, mode="inductive", seed=seed)).exists()


def test_a_gpu_that_is_asked_for_and_absent_fails_in_one_line_and_the_rest_goes_on(root: Path) -> None:
    """The jobs that need no GPU are done all the same (keep-going)."""
    write_params(root, edit(TINY_PARAMS, (("manifolds",), MANIFOLDS)))
    answer = with_profile(root, "gpu", "cells", "--cores=1")
    said = answer.stdout + answer.stderr
    assert answer.returncode == 1
    assert "firstorder: --device cuda: torch finds no CUDA device here; use --device cpu or auto" in said
    assert (root / settings.MANIFOLD_POINTS).exists()


MANIFOLDS = {
    "start": [1.0, 1.0],
    "inner_learning_rate": 0.1,
    "inner_steps": 2,
    "outer_steps": 4,
    "outer_step_size": 0.5,
}
