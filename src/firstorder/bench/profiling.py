"""Where the time of an inner step goes in engine native: phase by phase, in each block.

native.c is compiled once more for this, with the clocks of native/profile.h, and runs with one thread. Only the inner
loops of the workloads are timed, without drawing tasks and gathering images.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from firstorder.bench import flops, machine, timing
from firstorder.bench.contenders import noise
from firstorder.bench.workloads import PoolSize, Workload
from firstorder.engines.native import engine as native
from firstorder.engines.native.border import Workspace
from firstorder.errors import UserError
from firstorder.method import evaluation, training
from firstorder.method.architectures import ARCHITECTURES, BLOCKS
from firstorder.method.inner_loop import adapt
from firstorder.method.tasks import draw_tasks
from firstorder.method.training import Problem
from firstorder.progress import Track, silent
from firstorder.report.read import csv_frames

CLOCKS = "-DPROFILE"
POOL = PoolSize(20, 20)
MOST_STEPS = 5  # of one call: few, such that some calls are not interrupted
PRODUCTS = ("convolution y", "dx", "dK")
COLUMNS = (*(f"block {number}" for number in range(1, BLOCKS + 1)), "network")  # phases of no block: the network's
TOTAL = "all"
FILE_COLUMNS = ("workload", "phase", "block", "milliseconds", "share_percent", "limit_percent")


@dataclass(frozen=True)
class Profile:
    """An inner step of `workload`: its wall time, and that of its phases, in seconds."""

    workload: Workload
    seconds: float
    phases: Mapping[str, tuple[float, ...]]  # phase -> seconds for each of COLUMNS

    def milliseconds(self, phase: str) -> list[float]:
        """Return the milliseconds that a phase takes, for each of COLUMNS and for TOTAL."""
        each = self.phases[phase]
        return [1e3 * seconds for seconds in (*each, sum(each))]

    @property
    def in_phases(self) -> float:
        """The time of all phases, in milliseconds."""
        return sum(self.milliseconds(phase)[-1] for phase in self.phases)

    def of_limit(self, phase: str, limit: float) -> list[float | None]:
        """Return the percent of `limit`, in GFLOP/s, that a phase reaches, for each of COLUMNS and for TOTAL.

        It is None where nothing is multiplied, as for dx of the first block, which no gradient needs.
        """
        one = [0] * BLOCKS if phase not in PRODUCTS else flops.products(self.workload.settings.network)
        operations = [0 if phase == "dx" and number == 0 else count for number, count in enumerate(one)]
        counts = [_inner_batch_size(self.workload) * count for count in (*operations, 0, sum(operations))]
        return [
            100 * count / (1e6 * milliseconds * limit) if count and milliseconds else None
            for count, milliseconds in zip(counts, self.milliseconds(phase), strict=True)
        ]


class Clocked:
    """The inner loop of a workload on the library with clocks, and its shortest times until now, in ticks."""

    def __init__(self, workload: Workload, code: ctypes.CDLL) -> None:
        self.workload, self.code = workload, code
        code.take_phases.restype = ctypes.c_uint64
        self.steps = min(_inner_steps(workload), MOST_STEPS)
        self.call = _inner_loop(workload, self.steps, code)
        self.names = (ctypes.c_char_p.in_dll(code, "phase_names").value or b"").decode().split(", ")
        self.counts = np.zeros((len(COLUMNS), len(self.names)), dtype=np.uint64)
        self.fewest = np.full_like(self.counts, np.iinfo(np.uint64).max)
        self.shortest = float("inf")
        self.ticks_per_second = 0.0
        self.call()

    def measure(self, seconds: float) -> None:
        """Repeat the loop for at least `seconds`. The clock's unit is known from the wall time."""
        begin, before = self._take(), time.perf_counter()
        timing.timed(self.once, seconds)
        self.ticks_per_second = (self._take() - begin) / (time.perf_counter() - before)

    def once(self) -> int:
        """Call the loop once; return its ticks, of which `counts` are those in phases."""
        begin = self._take()
        self.call()
        taken = self._take() - begin
        self.fewest = np.minimum(self.fewest, self.counts)
        self.shortest = min(self.shortest, taken)
        return taken

    def _take(self) -> int:
        """Move the counts here; return the clock."""
        return int(self.code.take_phases(ctypes.c_void_p(self.counts.ctypes.data)))

    def profile(self) -> Profile:
        """Return the shortest time of each phase in each block, and that of the whole, for one inner step."""
        seconds = self.fewest / (self.ticks_per_second * self.steps)
        phases = {name: tuple(seconds[:, number].tolist()) for number, name in enumerate(self.names)}
        return Profile(self.workload, self.shortest / (self.ticks_per_second * self.steps), phases)


def run(
    workloads: Mapping[str, Workload], rounds: int, seconds: float, track: Track = silent
) -> tuple[dict[str, Profile], float]:
    """Profile the inner loops in alternating rounds of at least `seconds`; return each one's shortest times.

    Workloads whose inner loops are the same are profiled once. The second value is the limit: float32 multiply-adds in
    registers with one thread, in GFLOP/s. Raises UserError without engine native.
    """
    torch.set_num_threads(1)
    code = native.library("float", CLOCKS)
    if isinstance(code, str):
        raise UserError(f"engine native cannot be profiled: {code}")
    loops = {name: Clocked(workload, code) for name, workload in _different(workloads)}
    limits = []
    with track("profile", rounds * len(loops), "measurements") as bar:
        for _ in range(rounds):
            limits.append(machine.registers(1)[machine.REGISTERS])
            for loop in loops.values():
                loop.measure(seconds)
                bar.advance(1, loop.workload.title)
    return {name: loop.profile() for name, loop in loops.items()}, max(limits)


def table(name: str, profile: Profile, limit: float) -> str:
    """Return a profile as columns of text."""
    batch, wall, step = _inner_batch_size(profile.workload), 1e3 * profile.seconds, profile.in_phases
    rows = [[f"{name}, ms an inner step", *COLUMNS, TOTAL, "share, %"]]
    for phase in profile.phases:
        *each, total = profile.milliseconds(phase)
        rows.append(
            [phase, *(f"{one:.3f}" if one else "" for one in each), f"{total:.3f}", f"{100 * total / step:.1f}"]
        )
    sums = [sum(column) for column in zip(*map(profile.milliseconds, profile.phases), strict=True)]
    rows.append(["sum", *(f"{one:.3f}" for one in sums), "100.0"])
    for phase in PRODUCTS:
        reached = profile.of_limit(phase, limit)
        rows.append([f"{phase}, % of the limit", *("" if one is None else f"{one:.1f}" for one in reached), ""])
    title = f"{name}: {profile.workload.title}; {batch} images an inner step, {wall:.3f} ms, {step:.3f} ms in phases"
    return "\n".join([title, *_aligned(rows)])


def frame(profiles: Mapping[str, Profile], limit: float) -> pd.DataFrame:
    """Return all profiles as one row for each workload, phase and block (FILE_COLUMNS)."""
    rows = []
    for name, profile in profiles.items():
        for phase in profile.phases:
            reached = profile.of_limit(phase, limit)
            for column, one, percent in zip((*COLUMNS, TOTAL), profile.milliseconds(phase), reached, strict=True):
                rows.append((name, phase, column, one, 100 * one / profile.in_phases, percent))
    return pd.DataFrame(rows, columns=list(FILE_COLUMNS))


def write(path: Path, profiles: Mapping[str, Profile], limit: float) -> Path:
    """Write `frame` as CSV; return the path."""
    csv_frames.write(path, frame(profiles, limit))
    return path


def _different(workloads: Mapping[str, Workload]) -> Iterator[tuple[str, Workload]]:
    """Leave out what has the inner loop of an earlier workload."""
    known = set()
    for name, workload in workloads.items():
        settings = workload.settings
        sizes = (settings.way, _inner_steps(workload), _inner_batch_size(workload))
        loop = (settings.network, settings.inner_optimiser, *sizes)
        if loop not in known:
            known.add(loop)
            yield name, workload


def _inner_steps(workload: Workload) -> int:
    return (workload.evaluation or workload.settings).inner_steps


def _inner_batch_size(workload: Workload) -> int:
    return (workload.evaluation or workload.settings).inner_batch_size


def _inner_loop(workload: Workload, steps: int, code: ctypes.CDLL) -> Callable[[], object]:
    """Return a function that takes the first inner steps of one task on a workspace of `code`."""
    settings = workload.settings
    why = native.reason(settings.network)
    if why is not None:
        raise UserError(f"engine native cannot be profiled: {why}")
    engine = native.NativeEngine(settings.network, settings.way, threads=1)
    architecture, images = ARCHITECTURES[settings.network], _inner_batch_size(workload)
    engine.workspaces[torch.float32] = [Workspace(code, architecture, settings.way, images, tiles=engine.tiles)]
    pool = noise(replace(workload, pool=workload.pool or POOL), torch.device("cpu"))
    problem = Problem("profile", settings, 0, {"meta-train": pool, "meta-test": pool}, engine)
    shape = training.training_shape(problem)
    if workload.evaluation is not None:
        shape = evaluation.evaluation_shape(pool, settings.way, workload.evaluation)
    start = training.checkpoint_of(problem, training.start(problem), {})
    batches = engine.mini_batches(pool, draw_tasks(shape, 0, "benchmark", 0, range(1)), torch.float32)
    inner = problem.inner
    return lambda: adapt(inner, start.parameters, start.state, batches[:steps])


def _aligned(rows: list[list[str]]) -> list[str]:
    """Align the first column left and the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
