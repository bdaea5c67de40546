"""The choice of an engine, and the commands that train and evaluate with it."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from firstorder import __main__ as command_line
from firstorder.engines import choice
from firstorder.engines.choice import Wish
from firstorder.engines.graph import schedule
from firstorder.engines.graph.outer_step import OuterStep
from firstorder.engines.native import engine as native
from firstorder.errors import UserError
from firstorder.method import training
from firstorder.method.inner_loop import Plain
from firstorder.settings import ImageSettings, checks
from tests import count_kernels
from tests.conftest import EVALUATION, TINY_PARAMS, TRAINING, edit, write_params
from tests.method.test_training import problem, with_settings

__all__ = ["problem"]  # a fixture


def test_an_engine_that_does_not_support_what_is_asked_is_refused():
    settings = count_kernels.workload("W1", "carried")
    cpu = torch.device("cpu")
    assert isinstance(choice.choose(Wish(name="plain", device=cpu), settings).engine, Plain)
    assert choice.choose(Wish(name="graph", device=cpu), settings).name == "graph"
    low = dataclasses.replace(settings, precision="bfloat16")
    assert choice.choose(Wish(name="auto", device=cpu), low).name == "lanes"
    with pytest.raises(UserError, match="use --engine lanes or graph"):
        choice.choose(Wish(name="plain", device=cpu), low)
    with pytest.raises(UserError, match="leave it out"):
        choice.choose(Wish(name="plain", device=cpu, compiled=True), settings)
    with pytest.raises(UserError, match="it runs on a CPU only; use --engine auto"):
        choice.choose(Wish(name="native", device=torch.device("cuda")), settings)


def test_a_size_that_native_cannot_compute_is_said_and_plain_takes_its_place(capsys):
    own = ImageSettings(size=20, channels=1, filters=20)
    settings = dataclasses.replace(count_kernels.workload("W1", "carried"), image=own)
    choice._say_once.cache_clear()
    assert choice.choose(Wish(name="auto", device=torch.device("cpu")), settings).name == "plain"
    said = capsys.readouterr().err
    assert said.startswith("firstorder: engine plain, about half as fast as native, because: ")
    if native.library("float") is not None and not isinstance(native.library("float"), str):
        assert said.endswith("because: 20 filters are no multiple of 16\n")
        with pytest.raises(UserError, match="20 filters are no multiple of 16; use --engine auto"):
            choice.choose(Wish(name="native", device=torch.device("cpu")), settings)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_momentum_in_the_inner_loop_is_computed_by_plain_and_said_once(capsys, device):
    settings = dataclasses.replace(count_kernels.workload("W1", "carried"), inner_beta1=0.9)
    choice._say_once.cache_clear()
    for _ in range(2):
        assert isinstance(choice.choose(Wish(name="auto", device=torch.device(device)), settings).engine, Plain)
    said = capsys.readouterr().err
    assert said == "firstorder: engine plain, because inner_beta1 is 0.9, which no other engine computes\n"
    for name in ("native", "lanes", "graph"):
        with pytest.raises(UserError, match=f"{name}: it computes Adam with beta1 = 0 only; use --engine auto"):
            choice.choose(Wish(name=name, device=torch.device(device)), settings)
        zero = dataclasses.replace(settings, inner_beta1=0.0)
        assert choice.choose(Wish(name=name, device=torch.device("cpu")), zero).name == name


@pytest.mark.parametrize("name", ["native", "lanes", "graph"])
def test_an_engine_that_is_given_momentum_all_the_same_refuses_it(problem, name):
    """Whatever way around `choose` there is, no engine computes beta1 = 0 in its place."""
    made = choice.choose(Wish(name=name, device=torch.device("cpu")), problem.settings).engine
    given = dataclasses.replace(with_settings(problem, inner_beta1=0.9), engine=made)
    state, expected = training.start(given), "it computes Adam with beta1 = 0 only, not 0.9; use engine plain"
    with pytest.raises(UserError, match=expected):
        training.outer_step(given, given.inner, state)
    with pytest.raises(UserError, match=expected):
        training.measure(given, state)
    if name == "graph":
        step = OuterStep([given, given], [training.start(given) for _ in range(2)], made)
        step.load(schedule.draw([given, given], step.offsets, range(1)), 1)
        with pytest.raises(UserError, match=expected):
            step.take()


def train(*more: str) -> int:
    return command_line.main(["train", TRAINING, "--device", "cpu", *more])


def curve(root: Path, seed: int) -> list[list[str]]:
    with (root / f"results/curves/{TRAINING}/seed-{seed}.csv").open(encoding="utf-8") as file:
        return list(csv.reader(file))


def run_file(root: Path, seed: int) -> dict[str, Any]:
    path = root / f"results/curves/{TRAINING}/seed-{seed}.run.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


def test_several_seeds_are_trained_by_one_command(tiny_project, capsys):
    assert train("--seed", "0", "1", "--engine", "graph") == 0
    for seed in (0, 1):
        assert run_file(tiny_project, seed)["engine"] == "graph"
        assert run_file(tiny_project, seed)["together"] == 2
        assert run_file(tiny_project, seed)["peak_memory_bytes"] > 2**20
        assert (tiny_project / f"models/{TRAINING}/seed-{seed}.safetensors").exists()
    side_by_side = [curve(tiny_project, seed) for seed in (0, 1)]
    assert train("--seed", "1", "0", "--engine", "plain", "--again") == 0
    assert [[row[:5] for row in rows] for rows in side_by_side] == [
        [row[:5] for row in curve(tiny_project, seed)] for seed in (0, 1)
    ]
    assert run_file(tiny_project, 1)["engine"] == "plain"
    assert run_file(tiny_project, 1)["together"] == 1


@pytest.mark.parametrize("engine", ["plain", "graph"])
def test_a_time_limit_saves_the_state_and_says_how_to_resume(tiny_project, capsys, engine, monkeypatch):
    monkeypatch.setattr(schedule, "LONGEST", 1)
    command = ["--seed", "0", "1", "--engine", engine]
    assert train(*command) == 0
    whole = [curve(tiny_project, seed) for seed in (0, 1)]
    for seed in (0, 1):
        (tiny_project / f"results/curves/{TRAINING}/seed-{seed}.csv").unlink()
    shutil.rmtree(tiny_project / ".work")
    capsys.readouterr()
    assert train(*command, "--time-limit", "1e-9") == 3
    said = capsys.readouterr().err.splitlines()
    first = f"firstorder: --time-limit: {TRAINING} seed 0 stopped at outer step 1; the same command goes on from there"
    assert first in said
    assert not (tiny_project / f"results/curves/{TRAINING}/seed-0.csv").exists()
    assert train(*command) == 0
    assert [curve(tiny_project, seed) for seed in (0, 1)] == whole
    # The states are removed once the results are found complete.
    assert len(list(tiny_project.glob(".work/*/*"))) == 2
    assert train(*command) == 0
    assert not list(tiny_project.glob(".work/*/*"))


@pytest.mark.parametrize(("engine", "left"), [("native", 1), ("plain", 2)])
def test_threads_that_omp_num_threads_gives_are_those_of_one_engine(tiny_project, monkeypatch, engine, left):
    """Engine native has threads of its own: if PyTorch's operations had as many, both would wait for each other."""
    if engine == "native" and native.reason("omniglot") is not None:
        pytest.skip("engine native is not available")
    number = [2]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(torch, "get_num_threads", lambda: number[-1])
    monkeypatch.setattr(torch, "set_num_threads", number.append)
    assert train("--seed", "0", "--engine", engine) == 0
    assert number[-1] == left
    assert run_file(tiny_project, 0)["device"] == "cpu, 2 threads"


@pytest.mark.parametrize(("name", "during"), [("native", 1), ("native, tiles", 1), ("plain", 3)])
def test_a_callers_threads_are_given_back(name, during, monkeypatch):
    numbers = [3]
    monkeypatch.setattr(torch, "get_num_threads", lambda: numbers[-1])
    monkeypatch.setattr(torch, "set_num_threads", numbers.append)
    with choice.cores_for(SimpleNamespace(name=name)):
        assert numbers[-1] == during
    assert numbers[-1] == 3


def test_momentum_reaches_training_and_evaluation_by_every_way(tiny_project, capsys):
    """Several seeds, threads and every engine's name: either plain computes it, or the command refuses."""
    write_params(tiny_project, edit(TINY_PARAMS, (("trainings", TRAINING, "inner_beta1"), 0.9)))
    for name in ("native", "lanes", "graph"):
        assert train("--seed", "0", "1", "--engine", name) == 2
        assert f"--engine {name}: it computes Adam with beta1 = 0 only" in capsys.readouterr().err
    assert not (tiny_project / "models").exists()
    assert train("--seed", "0", "1", "--threads", "2") == 0
    assert train("--seed", "0", "1", "--engine", "plain", "--again") == 0
    for seed in (0, 1):
        assert run_file(tiny_project, seed)["engine"] == "plain"
        tensors = load_file(tiny_project / f"models/{TRAINING}/seed-{seed}.safetensors")
        assert tensors["first_moments.dense.kernel"].any()
    evaluate = ["evaluate", EVALUATION, "--seed", "0", "--device", "cpu"]
    for name in ("native", "lanes", "graph"):
        assert command_line.main([*evaluate, "--engine", name]) == 2
    assert command_line.main(evaluate) == 0
    with_momentum = record(tiny_project)
    write_params(tiny_project, TINY_PARAMS)
    assert train("--seed", "0", "--engine", "plain") == 0
    assert command_line.main([*evaluate, "--engine", "plain"]) == 0
    without = record(tiny_project)
    assert with_momentum["settings"]["training"].pop("inner_beta1") == 0.9
    assert with_momentum["settings"] == without["settings"]
    assert with_momentum["correct_histogram"] != without["correct_histogram"]


def record(root: Path) -> dict[str, Any]:
    path = root / f"results/cells/{EVALUATION}/inductive/seed-0.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


def test_an_unknown_seed_is_refused_before_any_training(tiny_project, capsys):
    assert train("--seed", "0", "7") == 2
    assert "seed 7 is not among params.yaml's seeds [0, 1]" in capsys.readouterr().err
    assert not (tiny_project / "models").exists()


def test_precision_appears_in_resolved_settings_only_if_set(tiny_project, capsys):
    low = edit(TINY_PARAMS, (("trainings", TRAINING, "precision"), "bfloat16"))
    before = checks.load(tiny_project / "params.yaml").settings_of_training(TRAINING)
    write_params(tiny_project, low)
    after = checks.load(tiny_project / "params.yaml").settings_of_training(TRAINING)
    assert "precision" not in before["training"]
    assert after["training"]["precision"] == "bfloat16"
    assert train("--seed", "0", "--engine", "plain") == 2
    assert "use --engine lanes or graph" in capsys.readouterr().err
    assert train("--seed", "0") == 0
    assert run_file(tiny_project, 0)["engine"] == "lanes"
    assert command_line.main(["evaluate", f"{TRAINING}/1shot", "--seed", "0", "--device", "cpu"]) == 0
