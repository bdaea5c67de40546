"""Which device, cores and GPUs a plan is for, and a probe of how fast this machine is just now."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from firstorder import progress
from firstorder.errors import UserError

if TYPE_CHECKING:
    from firstorder.bench.workloads import Workload
    from firstorder.upkeep.estimates import Device, Speeds
    from firstorder.upkeep.plan import Plan
    from firstorder.upkeep.schedule import Room

AUTO, CPU = "auto", "cpu"


def asked(device: str, cores: str, count: str | None) -> tuple[Device, Room]:
    """Return the device and the room that options name; raises UserError for numbers that are none.

    A GPU that is named has one card unless `count` says otherwise: it need not be in this machine.
    """
    from firstorder.records import provenance
    from firstorder.upkeep import gpus
    from firstorder.upkeep.estimates import Device
    from firstorder.upkeep.schedule import Room

    machine, room = provenance.machine(), _cores(cores)
    if device == CPU:
        return Device(CPU, machine), Room(room)
    if device == AUTO:
        cards = gpus.wanted(count).gpus
        return (Device(cards[0].name, machine), Room(room, len(cards))) if cards else (Device(CPU, machine), Room(room))
    return Device(device, machine), Room(room, _whole("GPUS", count or "1"))


def probe(plan: Plan) -> Speeds:
    """Measure the workloads that are to do on this machine.

    Raises UserError if the plan is for another device, or torch cannot use this one.
    """
    from firstorder.bench import probe as module
    from firstorder.cli.device import ready_device
    from firstorder.upkeep import costs
    from firstorder.upkeep.estimates import Speed, Speeds

    here, _ = asked(AUTO if not plan.device.is_cpu else CPU, "all", None)
    if here != plan.device:
        raise UserError(f"PROBE=1 measures this machine ({here}), not {plan.device}; leave out DEVICE or PROBE")
    device = ready_device(CPU if here.is_cpu else "cuda")
    workloads = _workloads(plan)
    speeds = {}
    if not workloads:
        return Speeds(here, "a probe of nothing", {})
    for name, rate in module.probe(workloads, device, track=progress.shown).items():
        one = workloads[name]
        kernels = 0.0 if one.evaluation else rate * costs.kernels_of_outer_step(one.settings)
        speeds[name] = Speed({1: rate * one.operations}, kernels if kernels and not here.is_cpu else None)
    return Speeds(here, f"a probe of this machine ({module.SECONDS:.0f} s, just now)", speeds)


def _workloads(plan: Plan) -> dict[str, Workload]:
    """Return one training or evaluation of each kind that is to do, by the name of the benchmark's workload."""
    from firstorder.bench.workloads import Workload
    from firstorder.upkeep.computations import EVALUATION, TRAINING

    found: dict[str, Workload] = {}
    project = plan.folder.project
    for entry in plan.entries:
        name, kind = entry.computation.work.workload, entry.computation.kind
        if not entry.todo or name in found:
            continue
        if kind == TRAINING:
            found[name] = Workload(title=name, settings=project.trainings[entry.name])
        elif kind == EVALUATION:
            evaluation = project.evaluations[entry.name]
            found[name] = Workload(title=name, settings=project.trainings[evaluation.training], evaluation=evaluation)
    return found


def _cores(text: str) -> int:
    if text == "all":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return _whole("CORES", text)


def _whole(name: str, text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise UserError(f"{name}={text}: expected a whole number from 1")
    return int(text)
