"""A probe of a few seconds: how fast this machine computes some workloads just now, with the default engine."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial

import torch

from firstorder.bench import allocator, contenders, machine, timing
from firstorder.bench.workloads import Workload
from firstorder.engines.choice import UnsuitedError
from firstorder.progress import Track, silent
from firstorder.settings.engines import GRAPH, LANES, NATIVE, PLAIN

SECONDS = 5.0  # in all; a workload takes at least one step
_ENGINES = {"cpu": (NATIVE, PLAIN), "cuda": (GRAPH, LANES, PLAIN)}  # the first that is available and suited


def probe(
    workloads: Mapping[str, Workload], device: torch.device, seconds: float = SECONDS, track: Track = silent
) -> dict[str, float]:
    """Time steps of each workload in one process with one thread, for `seconds` in all.

    Returns units a second by workload: outer steps or tasks. The first step of each is not counted.
    """
    if device.type == "cpu":
        torch.set_num_threads(1)
        allocator.keep_freed_memory()
    wait = partial(machine.synchronise, device)
    found = {}
    with track("probe", len(workloads), "workloads") as bar:
        for name, workload in workloads.items():
            case = _case(workload, device)
            case.step()
            taken = timing.timed(case.step, seconds / len(workloads), wait)
            found[name] = case.units * taken.steps / taken.seconds
            bar.advance()
    return found


def _case(workload: Workload, device: torch.device) -> contenders.Case:
    """Prepare a workload for the first engine that can compute it here."""
    for engine in _ENGINES[device.type][:-1]:
        with suppress(ImportError, UnsuitedError):
            return contenders.make_case(workload, engine, device)
    return contenders.make_case(workload, _ENGINES[device.type][-1], device)
