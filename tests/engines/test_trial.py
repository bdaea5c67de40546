"""An engine for a GPU is used once it has shown the outer steps of `Plain`; else the next one is, and it says why."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from firstorder.engines import choice, trial
from firstorder.engines.choice import Wish
from firstorder.engines.lanes.engine import LanesEngine
from firstorder.settings.engines import GRAPH, LANES
from tests import count_kernels
from tests.engines.test_trainings import KINDS
from tests.method.test_training import problem, with_settings  # noqa: F401 (a fixture)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """Give each test a cache of its own, and let each say things once."""
    monkeypatch.setenv("FIRSTORDER_CACHE", str(tmp_path / "cache"))
    choice._say_once.cache_clear()
    return tmp_path / "cache"


@pytest.mark.parametrize("kind", ["carried", "per lane", "separate tail", "fomaml", "maml", "binomial"])
@pytest.mark.parametrize("engine", [GRAPH, LANES])
def test_the_engines_pass_with_every_kind_of_training(problem, engine: str, kind: str) -> None:  # noqa: F811
    assert trial.reason(engine, KINDS[kind](problem).settings, CPU) is None


def test_an_engine_that_computes_something_else_is_refused(problem, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    gradient = LanesEngine._gradient
    monkeypatch.setattr(LanesEngine, "_gradient", lambda self, *given: 1.2 * gradient(self, *given))
    found = trial.reason(LANES, problem.settings, CPU)
    assert found is not None
    assert found.startswith("its outer steps differ from those of plain by ")


def test_that_an_engine_passed_is_kept_and_a_failure_is_not(problem, cache, monkeypatch) -> None:  # noqa: F811
    def fails(*given: object) -> float:
        raise RuntimeError("CUDA error: out of memory\nmore")

    with monkeypatch.context() as broken:
        broken.setattr(trial, "_distance", fails)
        assert trial.reason(LANES, problem.settings, CPU) == "CUDA error: out of memory"
        assert list(cache.glob("trial-*")) == []
    assert trial.reason(LANES, problem.settings, CPU) is None
    assert len(list(cache.glob("trial-*.json"))) == 1
    with monkeypatch.context() as broken:
        broken.setattr(trial, "_distance", fails)
        assert trial.reason(LANES, problem.settings, CPU) is None  # not tried again
        other = dataclasses.replace(problem.settings, way=2)
        assert trial.reason(LANES, other, CPU) == "CUDA error: out of memory"


@pytest.mark.parametrize(("failing", "expected"), [((), "graph"), ((GRAPH,), "lanes"), ((GRAPH, LANES), "plain")])
def test_the_next_engine_takes_the_place_of_one_that_fails(
    failing: tuple[str, ...], expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trial, "reason", lambda kind, settings, device: "it crashed" if kind in failing else None)
    settings = count_kernels.workload("W1", "carried")
    for _ in range(2):
        assert choice.choose(Wish(name="auto", device=CUDA), settings).name == expected
    lines = capsys.readouterr().err.splitlines()
    following = {GRAPH: LANES, LANES: "plain"}
    assert lines == [
        f"firstorder: engine {following[name]} instead of {name} for network omniglot, because: it crashed"
        for name in failing
    ]


def test_an_engine_that_is_asked_for_by_name_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "reason", lambda *given: "it crashed")
    settings = count_kernels.workload("W1", "carried")
    assert choice.choose(Wish(name="graph", device=CUDA), settings).name == "graph"


def test_what_is_tried_is_small_and_what_is_not_trained_is_tried_as_reptile(problem) -> None:  # noqa: F811
    large = with_settings(problem, meta_batch_size=25, inner_steps=12).settings
    assert (trial.smaller(large).meta_batch_size, trial.smaller(large).inner_steps) == (2, 3)
    untrained = dataclasses.replace(large, algorithm="untrained", outer_steps=0)
    assert (trial.smaller(untrained).algorithm, trial.smaller(untrained).outer_steps) == ("reptile", trial.STEPS)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_the_engines_pass_on_a_gpu(problem, kind: str) -> None:  # noqa: F811
    for engine in (GRAPH, LANES):
        assert trial.reason(engine, KINDS[kind](problem).settings, CUDA) is None
