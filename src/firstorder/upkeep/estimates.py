"""How fast a device computes: from its benchmark (`make bench`), from the nearest recorded one, or from a probe.

An estimate is the counted operations of a computation (costs.py) divided by the rate, in operations a second, of the
most similar workload that was measured, with the engine that a training would choose on that device. On a CPU the rate
depends on the threads of a process; the rate of one is that of processes side by side, one on each core.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firstorder.report import BENCH_FILE
from firstorder.settings.engines import GRAPH, NATIVE, ONE, PLAIN, SIDE_BY_SIDE
from firstorder.upkeep.costs import INNER_PRODUCTS, PLAIN_ONLY, Work

CPU = "cpu"
DEFAULTS = (GRAPH, NATIVE, PLAIN)  # those that a training may choose by default; the first benchmarked one counts
# Workload -> those that stand for it where it was not measured, the most similar first.
SIMILAR: Mapping[str, tuple[str, ...]] = {
    "W1": ("W2", "W5 omniglot", "W4 fomaml", "W4 maml", "W3"),
    "W2": ("W1", "W5 omniglot", "W4 fomaml", "W4 maml", "W3"),
    "W3": ("W5 mini-imagenet", "W2", "W1", "W4 fomaml", "W4 maml"),
    "W4 fomaml": ("W4 maml", "W1", "W2", "W5 omniglot", "W3"),
    "W4 maml": ("W4 fomaml", "W1", "W2", "W5 omniglot", "W3"),
    "W5 omniglot": ("W1", "W2", "W5 mini-imagenet", "W4 fomaml", "W3"),
    "W5 mini-imagenet": ("W3", "W5 omniglot", "W2", "W1", "W4 fomaml"),
    INNER_PRODUCTS: ("W1", "W2", "W4 fomaml", "W4 maml", "W3"),
}


@dataclass(frozen=True)
class Device:
    """A device, spelled as in a run file: `cpu` and the machine, or a GPU's name."""

    name: str
    machine: str

    @property
    def is_cpu(self) -> bool:
        """Whether it is a CPU."""
        return self.name == CPU

    def made(self, run: Mapping[str, Any]) -> bool:
        """Say whether all was computed on this device; a GPU counts as the same in any machine."""
        device = str(run.get("device", ""))
        if self.is_cpu:
            return device.startswith(CPU) and run.get("machine") == self.machine
        return device == self.name

    def __str__(self) -> str:
        """Return its name for print."""
        return self.machine if self.is_cpu else self.name


@dataclass(frozen=True)
class Speed:
    """Operations a second by threads of a process, and on a GPU kernels a second."""

    operations: Mapping[int, float]
    kernels: float | None = None

    def seconds(self, work: Work, threads: int = 1) -> float:
        """Return the seconds of a computation: of its operations or, if those are longer, of its kernels."""
        known = [count for count in self.operations if count <= threads] or [min(self.operations)]
        seconds = work.operations / self.operations[max(known)]
        return seconds if self.kernels is None else max(seconds, work.kernels / self.kernels)


@dataclass(frozen=True)
class Speeds:
    """The speeds of a device, by workload, and where they come from."""

    device: Device
    source: str
    of: Mapping[str, Speed]


@dataclass(frozen=True)
class Estimate:
    """Seconds of a computation with one thread on a CPU, or on a GPU; the speed behind them, and its source."""

    seconds: float
    speed: Speed
    source: str


def estimate(work: Work, sources: Iterable[Speeds]) -> Estimate:
    """Return the time of a computation from the first source that measured its workload, or else a similar one.

    What only engine plain computes has its speed where that was measured. Raises LookupError if no source measured
    anything similar.
    """
    listed, name = list(sources), work.workload.removesuffix(PLAIN_ONLY)
    names: tuple[str, ...] = (name, *SIMILAR.get(name, ()))
    if name != work.workload:  # PLAIN_ONLY
        names = (*(f"{each}{PLAIN_ONLY}" for each in names), *names)
    for name in names:
        for speeds in listed:
            if name in speeds.of:
                return Estimate(speeds.of[name].seconds(work), speeds.of[name], speeds.source)
    raise LookupError(work.workload)


def benchmarks(folders: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """Yield the benchmarks in results/bench of each folder; raises UserError for a file that is none."""
    for folder in folders:
        for path in sorted((folder / "results/bench").glob("*.json")):
            found = BENCH_FILE.read_json(path)
            if not isinstance(found.get("run", {}), dict):
                raise BENCH_FILE.refused(path, "expected a mapping under run")
            yield found


def device_of(bench: Mapping[str, Any]) -> Device:
    """Return the device that a benchmark measured."""
    run = bench.get("run", {})
    name = CPU if bench.get("device") == CPU else str(run.get("device") or bench.get("machine"))
    return Device(name, str(run.get("machine")))


def read(folder: Path, device: str, machine: str) -> dict[str, Any] | None:
    """Read the benchmark of this device from results/bench of `folder`; None if there is none.

    `device` and `machine` are spelled as in a run file (`.run.json`): "cpu" and the machine, or a GPU's name.
    """
    wanted = Device(device, machine)
    return next((found for found in benchmarks([folder]) if is_same(device_of(found), wanted)), None)


def speeds(bench: Mapping[str, Any], source: str) -> Speeds:
    """Return what a benchmark measured, with the engine that is chosen by default; what is not readable is left out."""
    found = {}
    for name in SIMILAR:
        try:
            engines = bench.get("workloads", {}).get(name, {}).get("engines", {})
            for key, choices in ((name, DEFAULTS), (f"{name}{PLAIN_ONLY}", (PLAIN,))):
                layouts = next(filter(None, (engines.get(engine) for engine in choices)), None)
                if layouts and (speed := _speed(layouts)):
                    found[key] = speed
        except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError):  # not as the benchmark writes it
            continue
    return Speeds(device_of(bench), source, found)


def nearest(device: Device, found: Sequence[Speeds]) -> list[Speeds]:
    """Sort the speeds of CPUs, or of GPUs, by how many words of their device's name are words of this one's."""

    def distance(one: Speeds) -> tuple[float, ...]:
        ours, theirs = (_words(each.machine if device.is_cpu else each.name) for each in (device, one.device))
        cores = abs(_cores(device.machine) - _cores(one.device.machine))
        return -len(ours & theirs) / max(len(ours | theirs), 1), cores

    return sorted((one for one in found if one.device.is_cpu == device.is_cpu and one.of), key=distance)


def is_same(one: Device, other: Device) -> bool:
    """Say whether two devices are the same; a GPU is in any machine."""
    return one.name == other.name and (not one.is_cpu or one.machine == other.machine)


def _speed(layouts: Mapping[str, Any]) -> Speed | None:
    """Return the speed in a workload's entry for one engine: by threads on a CPU, and by kernels on a GPU."""
    rates: dict[int, float] = {}
    one, several = layouts.get(ONE), layouts.get(SIDE_BY_SIDE)
    if one:
        rates[int(one["threads"])] = float(one["gflop_per_second"]) * 1e9
    if several:
        rates[1] = float(several["gflop_per_second"]) * 1e9 / int(several["processes"])
    rates = {threads: rate for threads, rate in rates.items() if rate > 0}
    kernels = None
    if one and "kernels" in one:
        kernels = float(one["kernels"]) * float(one["median"]) / int(one["units"])
    return Speed(rates, kernels or None) if rates else None


def _words(name: str) -> set[str]:
    words = set(re.findall(r"[a-z0-9]+", re.sub(r"\(\w+\)", "", name.lower())))
    return words - {"processor", "cores", "linux", "nvidia"}


def _cores(machine: str) -> int:
    found = re.search(r"(\d+) cores", machine)
    return int(found[1]) if found else 1
