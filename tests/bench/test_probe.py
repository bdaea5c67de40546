"""The probe of a few seconds counts the steps that a machine does, of each workload that it is asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from firstorder.bench import contenders, probe
from firstorder.bench.workloads import PoolSize, Workload, all_workloads
from firstorder.engines.choice import UnsuitedError
from firstorder.settings import checks

WORKLOADS = {
    name: replace(workload, pool=PoolSize(20, 20))
    for name, workload in all_workloads(checks.load(Path(__file__).parents[2] / "params.yaml")).items()
    if name in ("W1", "W5 omniglot")
}
CPU = torch.device("cpu")


def test_the_probe_gives_units_a_second_of_each_workload() -> None:
    rates = probe.probe(WORKLOADS, CPU, seconds=0.01)
    assert rates.keys() == WORKLOADS.keys()
    assert all(rate > 0 for rate in rates.values())


def test_the_probe_takes_the_next_engine_where_one_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def make_case(workload: Workload, engine: str, device: torch.device) -> contenders.Case:
        asked.append(engine)
        if engine != "plain":
            raise UnsuitedError("not here")
        return contenders.Case(step=lambda: None, draw=lambda: None, gather=lambda: None)

    monkeypatch.setattr(contenders, "make_case", make_case)
    assert probe.probe({"W1": WORKLOADS["W1"]}, CPU, seconds=0.001)["W1"] > 0
    assert asked == ["native", "plain"]
