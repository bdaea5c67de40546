"""An outer step does nothing that a CUDA graph may not do: checked on a CPU, for every algorithm and network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from firstorder.engines.graph import schedule
from firstorder.engines.graph.outer_step import OuterStep
from firstorder.method import training
from firstorder.method.algorithms import ALGORITHMS, EXTENSIONS
from firstorder.method.architectures import ARCHITECTURES
from firstorder.method.images import ImagePool
from firstorder.method.training import Problem
from tests.capturing import Capturing, UncapturableError
from tests.engines.test_trainings import KINDS, engine, on
from tests.method.test_training import problem, with_settings  # noqa: F401 (a fixture)

CPU = torch.device("cpu")
STEPS = 3


def of_network(given: Problem, network: str) -> Problem:
    """Return a problem for another network, on images of its size."""
    architecture = ARCHITECTURES[network]
    scale = 1 if architecture.channels == 1 else 255
    shape = (15, 20, *architecture.image_shape)
    values = np.random.default_rng(0).integers(0, scale + 1, shape, dtype=np.uint8)
    pool = ImagePool.of(values, scale, CPU)
    pools = {"meta-train": pool, "meta-test": pool}
    return dataclasses.replace(given, settings=dataclasses.replace(given.settings, network=network), pools=pools)


def begun(given: Problem, trainings: int = 2) -> OuterStep:
    """Return the outer step of two seeds with a schedule, after a first one, in which workspaces are made."""
    problems = [dataclasses.replace(given, seed=seed) for seed in range(trainings)]
    step = OuterStep(problems, [training.start(one) for one in problems], engine(given))
    step.load(schedule.draw(problems, step.offsets, range(STEPS)), STEPS)
    step.take()
    return step


def test_every_algorithm_is_among_the_kinds(problem) -> None:  # noqa: F811
    assert {make(problem).settings.algorithm for make in KINDS.values()} == ALGORITHMS.keys() | EXTENSIONS.keys()


@pytest.mark.parametrize(("kind", "network"), list(product(KINDS, ARCHITECTURES)))
def test_an_outer_step_can_be_captured(problem, kind: str, network: str) -> None:  # noqa: F811
    """Two further steps launch the same operations with the same sizes and numbers, in place."""
    chosen = with_settings(of_network(KINDS[kind](problem), network), meta_batch_size=2)
    seeds = 2 if ARCHITECTURES[network].size < 56 else 1  # large images take long, and change nothing else
    step = begun(on("cpu", chosen, torch.float32), seeds)
    places = [part.data_ptr() for part in step.state()]
    before = step.parameters.clone()
    steps = []
    for _ in range(STEPS - 1):
        with Capturing() as mode:
            step.take()
        steps.append(mode.done)
    assert len(steps[0]) > 50
    assert steps[1] == steps[0]
    assert [part.data_ptr() for part in step.state()] == places
    assert not torch.equal(step.parameters, before)


FORBIDDEN: dict[str, Callable[[torch.Tensor], Any]] = {
    "item": lambda x: x.sum().item(),
    "a number": lambda x: float(x[0]),
    "a condition": lambda x: bool((x > 0).any()),
    "a list": lambda x: [float(one) for one in x],
    "nonzero": lambda x: x.nonzero(),
    "where": lambda x: torch.where(x > 0),
    "a mask": lambda x: x[x > 0],
    "assigning by a mask": lambda x: x.clone().__setitem__(x > 0, 1.0),
    "masked_select": lambda x: x.masked_select(x > 0),
    "unique": lambda x: x.unique(),
    "repeats from values": lambda x: x.repeat_interleave(x.long()),
    "equal": lambda x: torch.equal(x, x + 1),
    "a new tensor from numbers": lambda x: x + torch.tensor([1.0, 2.0, 3.0]),
    "another device": lambda x: torch.empty_like(x, device="meta"),
    "random numbers": lambda x: torch.rand(3),
    "random numbers in place": lambda x: x.clone().uniform_(),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_what_a_cuda_graph_may_not_do_is_noticed(what: str) -> None:
    with pytest.raises(UncapturableError), Capturing():
        FORBIDDEN[what](torch.tensor([1.0, 2.0, 3.0]))


def test_sizes_and_numbers_that_change_are_noticed() -> None:
    noted = []
    for number, length in ((1.0, 3), (2.0, 3), (1.0, 4)):
        with Capturing() as mode:
            torch.zeros(length).add_(number)
        noted.append(mode.done)
    assert noted[0] != noted[1]
    assert noted[0] != noted[2]


@pytest.mark.parametrize("where", ["algorithm", "engine"])
def test_a_step_that_reads_a_number_fails(problem, where: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """A mistake of this kind in an algorithm or in the engine is found without a GPU."""
    step = begun(on("cpu", problem, torch.float32))
    if where == "algorithm":
        original = step.algorithm
        step.algorithm = lambda inner, phi, state, groups: original(inner, phi * float(phi.norm() > 0), state, groups)
    else:
        prepare = type(step.engine).prepare
        monkeypatch.setattr(
            type(step.engine), "prepare", lambda self, x, labels: prepare(self, x, labels[labels >= 0].view_as(labels))
        )
    with pytest.raises(UncapturableError), Capturing():
        step.take()
