"""The benchmark: every workload with every engine in alternating rounds, compared with the machine's limit.

The result is one JSON file. "One process" may use all cores, while "side by side" is the total rate of as
many single-threaded processes as there are cores, all at once. On a GPU there is one process. Both are compared with
the same limit: the machine's best float32 arithmetic with all cores, measured before and after everything else.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from firstorder.bench import flops, timing
from firstorder.bench.authors import AuthorsCode
from firstorder.bench.processes import Job, Worker, crew, total_rate
from firstorder.bench.workloads import Workload
from firstorder.files import replacing
from firstorder.method.networks import make_network
from firstorder.progress import Bar, Track, silent
from firstorder.records import provenance
from firstorder.settings.engines import AUTHORS, CONTENDERS, JAX, ONE, PLAIN, SCHEMA, SIDE_BY_SIDE, THREADED

STARTS = 3  # repetitions of each start-up time
SCALED = "W1"
SCALED_BY_THREADS = ("W1", "W3", "W5 mini-imagenet")
SCALING_COUNTS: dict[str, dict[str, tuple[int, ...]]] = {
    "cpu": {"outer steps": (1, 2, 4, 8), "tasks": (1, 2, 4, 8, 16), "lanes": (1, 2, 4, 8, 16)},
    "cuda": {"outer steps": (1, 4, 16, 64), "tasks": (1, 4, 16, 64), "lanes": (1, 4, 16, 64, 256, 1024)},
}


@dataclass(frozen=True)
class Layout:
    """How a machine is used: the number of processes at once, and threads in each."""

    processes: int
    threads: int


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What to measure."""

    device: str  # "cpu" or "cuda"
    workloads: Mapping[str, Workload]
    engines: Sequence[str]  # of settings.engines.CONTENDERS
    rounds: int = 5
    seconds: float = 0.5  # minimum length of a measurement
    cores: int = 1
    scaling: Mapping[str, Sequence[int]] | None = None  # counts by axis; None: SCALING_COUNTS
    starts: int = STARTS
    authors: AuthorsCode | None = None

    def layouts(self) -> dict[str, Layout]:
        """Return the layouts by name: ONE and, on a CPU with several cores, SIDE_BY_SIDE."""
        if self.device == "cuda":
            return {ONE: Layout(1, 1)}
        return {ONE: Layout(1, self.cores)} | ({SIDE_BY_SIDE: Layout(self.cores, 1)} if self.cores > 1 else {})

    def thread_counts(self) -> list[int]:
        """Return the powers of two up to the number of cores, and that number."""
        return sorted({2**power for power in range(self.cores.bit_length())} | {self.cores})

    def threaded(self) -> list[tuple[str, str]]:
        """Return the engines and workloads whose growth with threads is measured: on a CPU with several cores."""
        several = self.device == "cpu" and self.cores > 1
        names = [name for name in SCALED_BY_THREADS if several and name in self.workloads]
        return [(engine, name) for engine in self.engines if engine in THREADED for name in names]

    def measurements(self) -> int:
        """Return how often a rate is measured."""
        layouts = len(self.layouts()) * len(self.workloads) * len(self.engines)
        return self.rounds * (layouts + len(self.threaded()) * len(self.thread_counts()))

    def job(self, workload: Workload, engine: str, threads: int) -> Job:
        """Return the job of one process of this benchmark."""
        return Job(workload=workload, engine=engine, device=self.device, threads=threads, authors=self.authors)


def run(bench: Bench, track: Track = silent) -> dict[str, Any]:
    """Measure everything; return what `write` writes. Rates are outer steps or tasks per second."""
    begun = time.monotonic()
    with track("bench", bench.measurements(), "measurements") as bar:
        limit = _limits(bench)
        measured = {name: _workload(bench, workload, bar) for name, workload in bench.workloads.items()}
        threads = _threads(bench, bar)
        scaling = _scaling(bench)
        limit = _better(limit, _limits(bench))
    for name, result in measured.items():
        _compare_with_limit(bench.workloads[name], result, limit)
    device = torch.cuda.get_device_name() if bench.device == "cuda" else "cpu"
    return {
        "schema": SCHEMA,
        "device": bench.device,
        "machine": machine_name(device),
        "run": provenance.run_information(time.monotonic() - begun, device),
        "settings": {"rounds": bench.rounds, "seconds_per_measurement": bench.seconds, "cores": bench.cores},
        "limits": limit,
        "workloads": measured,
        "scaling": {"workload": SCALED, "engines": scaling, "threads": threads},
        "startup_seconds": startup(bench.starts),
    }


def write(folder: Path, result: Mapping[str, Any]) -> Path:
    """Write a result as <machine>.json into `folder`, keys sorted; return its path."""
    path = folder / f"{file_name(result['machine'])}.json"
    with replacing(path) as part:
        part.write_text(json.dumps(result, sort_keys=True, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def file_name(machine: str) -> str:
    """Return the name of a machine's files, without suffix."""
    return re.sub(r"[^a-z0-9]+", "-", machine.lower()).strip("-")


def startup(starts: int = STARTS) -> dict[str, float]:
    """Time starting up, in seconds: the command line's help, and importing torch; the median of `starts` tries."""
    commands = {"firstorder --help": ["-m", "firstorder", "--help"], "import torch": ["-c", "import torch"]}
    found = {}
    for name, command in commands.items():
        times = []
        for _ in range(starts):
            begun = time.monotonic()
            subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=True)
            times.append(time.monotonic() - begun)
        found[name] = round(statistics.median(times), 3)
    return found


def machine_name(device: str = "cpu") -> str:
    """Name the machine: processor or GPU, and the number of cores that the process may use."""
    processor, cores = provenance.run_information(0, device)["machine"].split(", ")[:2]
    return f"{processor if device == 'cpu' else device}, {cores}"


def _workload(bench: Bench, workload: Workload, bar: Bar) -> dict[str, Any]:
    """Measure one workload with all engines in alternating rounds, one layout after the other."""
    about = {"title": workload.title, "unit": workload.unit, "operations": workload.operations}
    result: dict[str, Any] = {**about, "engines": {}, "left_out": {}}
    for name, layout in bench.layouts().items():
        with ExitStack() as stack:
            crews = {}
            for engine in bench.engines:
                if engine not in result["left_out"]:
                    job = bench.job(workload, engine, layout.threads)
                    workers = stack.enter_context(crew([job] * layout.processes))
                    if workers[0].absent is None:
                        crews[engine] = workers
                        continue
                    result["left_out"][engine] = workers[0].absent
                bar.advance(bench.rounds)
            measurements = {engine: partial(total_rate, workers, bench.seconds) for engine, workers in crews.items()}
            rates = timing.interleaved(
                measurements, bench.rounds, lambda engine: bar.advance(1, f"{workload.title}, {engine}")
            )
            for engine, workers in crews.items():
                entry = {**asdict(layout), **timing.summary(rates[engine]), **_ask(workers[0], "facts")}
                entry["first_step_seconds"] = round(workers[0].first_step_seconds, 2)
                result["engines"].setdefault(engine, {})[name] = entry
            if PLAIN in crews and name == ONE:
                result |= _ask(crews[PLAIN][0], "inputs")
    return result


def _compare_with_limit(workload: Workload, result: dict[str, Any], limit: Mapping[str, Any]) -> None:
    """Add to each layout's entry the fraction of the limit that it reaches and, on a GPU, two lower bounds of its time.

    Launch-bound floor: kernels per step times the seconds that an empty kernel takes in a CUDA graph. Bandwidth-bound
    floor: bytes that the step must move (flops.bytes_of_outer_step) divided by the measured copy bandwidth.
    """
    for layouts in result["engines"].values():
        for entry in layouts.values():
            rate = entry["median"] * workload.operations / 1e9
            entry["gflop_per_second"] = float(f"{rate:.4g}")
            entry["fraction_of_limit"] = float(f"{rate / limit['gflop_per_second']:.3g}")
            if "kernels" in entry:
                entry["launch_floor_seconds"] = float(f"{entry['kernels'] * limit['launch_seconds']:.3g}")
                if workload.evaluation is None:
                    parameters = make_network(workload.settings.network, workload.settings.way).parameters
                    moved = entry["units"] * flops.bytes_of_outer_step(workload.settings, parameters)
                    floor = moved / limit["copy_gigabytes_per_second"] / 1e9
                    entry["bandwidth_floor_seconds"] = float(f"{floor:.3g}")


def _limits(bench: Bench) -> dict[str, Any]:
    """Measure the machine: arithmetic with one thread and with all; on a GPU its arithmetic, copies and launches."""
    first = next(iter(bench.workloads.values()))
    by_threads: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for threads in sorted({1, bench.cores}) if bench.device == "cpu" else (1,):
        with crew([bench.job(first, PLAIN, threads)]) as (worker,):
            found = _ask(worker, "limit")
            by_threads[str(threads)] = found.pop("arithmetic")
    best = {threads: max(sizes.values()) for threads, sizes in by_threads.items()}
    return {
        **found,
        "arithmetic": by_threads,
        "gflop_per_second": max(best.values()),
        "gflop_per_second_one_thread": best["1"],
    }


def _better(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return the better of two measurements of the machine, entry by entry."""
    return {
        key: _better(value, second[key])
        if isinstance(value, Mapping)
        else (min if key == "launch_seconds" else max)(value, second[key])
        for key, value in first.items()
    }


def _scaling(bench: Bench) -> dict[str, list[dict[str, Any]]]:
    """Time increasing numbers of outer steps, tasks and lanes of one workload, with each engine, one thread."""
    workload = bench.workloads.get(SCALED)
    if workload is None:
        return {}
    counts = SCALING_COUNTS[bench.device] if bench.scaling is None else bench.scaling
    found = {}
    for engine in bench.engines:
        if engine not in (JAX, AUTHORS) and CONTENDERS[engine] == 1:
            with crew([bench.job(workload, engine, 1)]) as (worker,):
                if worker.absent is None:
                    found[engine] = _ask(worker, "scaling", counts)
    return found


def _threads(bench: Bench, bar: Bar) -> dict[str, Any]:
    """Measure the growth with threads: engine -> workload -> threads -> rates. What is not available is left out."""
    found: dict[str, Any] = {}
    for engine, name in bench.threaded():
        rates = _rates_by_threads(bench, bench.workloads[name], engine, bar)
        if rates:
            found.setdefault(engine, {})[name] = rates
    return found


def _rates_by_threads(bench: Bench, workload: Workload, engine: str, bar: Bar) -> dict[str, Any]:
    """Measure one process with 1, 2, ... threads in alternating rounds; nothing if the engine is not available."""
    with ExitStack() as stack:
        crews = {
            str(count): stack.enter_context(crew([bench.job(workload, engine, count)]))
            for count in bench.thread_counts()
        }
        if any(worker.absent is not None for (worker,) in crews.values()):
            bar.advance(bench.rounds * len(crews))
            return {}
        measurements = {count: partial(total_rate, workers, bench.seconds) for count, workers in crews.items()}
        rates = timing.interleaved(
            measurements, bench.rounds, lambda count: bar.advance(1, f"{workload.title}, {count} threads")
        )
    return {count: timing.summary(one) for count, one in rates.items()}


def _ask(worker: Worker, request: str, *values: Any) -> Any:
    """Send a request to a worker and return its answer."""
    worker.ask(request, *values)
    return worker.answer()
