"""A tiny project: synthetic images that a network can classify, and settings that train in a second."""

from __future__ import annotations

import copy
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from firstorder import __main__ as command_line
from firstorder.data import packs
from tests import quick_python

# Messages name commands without their folder where they are on the path, as in a shell with .venv activated.
os.environ["FIRSTORDER_SHELL_PATH"] = str(Path(sys.executable).parent)
# Under `make test` this would say that make called every command, from its own folder.
os.environ.pop("FIRSTORDER_SHELL_FOLDER", None)

TRAINING = "reptile/omniglot-5way"
EVALUATION = f"{TRAINING}/1shot"
ABSENT = object()

TINY_PARAMS: dict[str, Any] = {
    "title": "Made-up images",
    "data_folder": "data",
    "seeds": [0, 1],
    "datasets": {"omniglot": {"source": "omniglot", "meta_train_classes": 16, "rotations": [0, 90]}},
    "trainings": {
        TRAINING: {
            "algorithm": "reptile",
            "dataset": "omniglot",
            "network": "omniglot",
            "way": 5,
            "train_shot": 4,
            "sampling": "cycle",
            "inner_optimiser": "adam",
            "inner_learning_rate": 0.001,
            "inner_steps": 2,
            "inner_batch_size": 10,
            "second_moments": "carried",
            "outer_steps": 6,
            "outer_step_size": 1.0,
            "outer_step_size_final": 0.0,
            "meta_batch_size": 2,
            "curve": {"every": 4, "tasks": 4, "shot": 1, "inner_steps": 2, "inner_batch_size": 5},
        }
    },
    "evaluations": {
        EVALUATION: {"training": TRAINING, "shot": 1, "inner_steps": 4, "inner_batch_size": 5, "tasks": 12}
    },
    "tables": {},
    "figures": {},
}


def tiny_pack(classes: int = 24, images: int = 20) -> packs.Pack:
    """Give every class a random black-and-white pattern, and invert 5 % of the pixels in each of its images."""
    generator = np.random.default_rng(11)
    patterns = generator.random((classes, 1, 1, 28, 28)) < 0.5
    noise = generator.random((classes, images, 1, 28, 28)) < 0.05
    return packs.Pack((patterns ^ noise).astype(np.uint8), tuple(f"class{number:02}" for number in range(classes)), 1)


def edit(values: dict[str, Any], *edits: tuple[tuple[Any, ...], Any]) -> dict[str, Any]:
    """Return a copy of `values` with the value at each path of keys replaced, or removed if it is ABSENT."""
    copied = copy.deepcopy(values)
    for path, value in edits:
        entry = copied
        for key in path[:-1]:
            entry = entry[key]
        if value is ABSENT:
            del entry[path[-1]]
        else:
            entry[path[-1]] = value
    return copied


def write_params(root: Path, values: dict[str, Any]) -> Path:
    """Write `values` as root/params.yaml."""
    path = root / "params.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def files_below(root: Path) -> dict[str, bytes]:
    """Map every file below `root`, including hidden ones, to its content."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="session", autouse=True)
def float32_on_a_gpu_too() -> None:
    """Keep cuDNN from rounding to TF32, as the command line does, because all engines are compared with float32."""
    torch.backends.cudnn.allow_tf32 = False


@pytest.fixture
def tiny_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a project with packed data and nothing computed; it is the working folder."""
    root = tmp_path / "project"
    packs.write_pack(root / "data/omniglot.npz", tiny_pack())
    write_params(root, TINY_PARAMS)
    monkeypatch.chdir(root)
    return root


@pytest.fixture(scope="session")
def computed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a project trained and evaluated for seed 0; tests may only read and copy it."""
    root = tmp_path_factory.mktemp("computed") / "project"
    packs.write_pack(root / "data/omniglot.npz", tiny_pack())
    params = str(write_params(root, TINY_PARAMS))
    for verb, name in (("train", TRAINING), ("evaluate", EVALUATION)):
        assert command_line.main([verb, name, "--params", params, "--seed", "0", "--device", "cpu"]) == 0
    return root


@pytest.fixture
def computed_project(computed_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a project trained and evaluated for seed 0; it is the working folder."""
    root = tmp_path / "computed"
    shutil.copytree(computed_once, root)
    monkeypatch.chdir(root)
    return root


@pytest.fixture(scope="session")
def quick_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a folder for PATH whose `python` runs `-m firstorder` in a process that has everything imported."""
    folder = tmp_path_factory.mktemp("quick") / "bin"
    server = quick_python.install(folder)
    yield folder
    server.kill()
    server.wait()
