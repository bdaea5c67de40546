"""Times of recorded computations on one device, and which of them are used.

A time is used if it is the device's speed: the work was not interrupted, the machine was not busy, and it ended after
the device's benchmark, if there is one, since the engines may have become faster in between. Run files that do not say
how much of a core the work got are compared with one another: one that is slower than the fastest of its kind by more
than SLOWER_THAN counts as busy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from firstorder.errors import UserError
from firstorder.records import timings
from firstorder.records.cells import CellRecord, read_record, read_run
from firstorder.settings import digest
from firstorder.upkeep import computations
from firstorder.upkeep.computations import EVALUATION, Computation, Folder
from firstorder.upkeep.costs import Work
from firstorder.upkeep.estimates import Device, Speed, Speeds

SLOWER_THAN = 1.5
OLDER = "older than the benchmark"
# Settings that change the number of steps or tasks, or the draws, but not the cost of one step or task.
_LENGTH = {"numerics_version", "training.outer_steps", "training.curve.every", "evaluation.tasks"}


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """A recorded computation: what it was, how long it took, with how many threads, and why its time is not used."""

    name: str
    cost: str  # digest of its settings without those of its length
    work: Work
    seconds: float
    engine: str | None
    threads: int
    ended: str
    unused: str | None
    says_share: bool  # of a core that it got, so that nothing has to be guessed

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.work.operations / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class RecordedRuns:
    """All recorded computations of one device."""

    device: Device
    runs: tuple[RecordedRun, ...]

    def seconds(self, computation: Computation) -> float | None:
        """Return the seconds of a computation by runs with the same settings but those of its length; None without any.

        Only those of the engine that was used last count: a mean over two engines would be the time of neither.
        """
        cost = cost_of(computation.settings)
        same = [run for run in self.runs if run.unused is None and run.cost == cost]
        if not same:
            return None
        newest = max(same, key=lambda run: run.ended)
        alike = [run for run in same if (run.engine, run.threads) == (newest.engine, newest.threads)]
        each = sum(run.seconds / max(run.work.operations, 1.0) for run in alike) / len(alike)
        return computation.work.operations * each

    @property
    def speeds(self) -> Speeds:
        """The speed of each workload by its runs, with one thread."""
        groups: dict[str, list[float]] = {}
        for run in self.runs:
            if run.unused is None and run.threads == 1 and run.seconds > 0:
                groups.setdefault(run.work.workload, []).append(run.rate)
        of = {name: Speed({1: median(rates)}) for name, rates in groups.items()}
        return Speeds(self.device, f"other runs of {self.device}", of)


def read(folders: Iterable[Folder], device: Device, after: str = "", known: Speeds | None = None) -> RecordedRuns:
    """Read the computations in some folders that were made on `device`.

    `after` is when the benchmark of the device ended, and `known` what it measured. Raises UserError for a run file
    that cannot be read.
    """
    runs = []
    for folder in folders:
        for computation in computations.everything(folder.project):
            cost = cost_of(computation.settings)
            for seed in computation.seeds:
                found = _read(folder, computation, seed)
                if found is not None and device.made(found[1]):
                    runs.append(_recorded(computation, seed, cost, *found, after))
    return RecordedRuns(device, tuple(_without_busy(runs, known)))


def cost_of(settings: Mapping[str, Any]) -> str:
    """Return the digest of resolved settings without those that only change the length of a computation."""
    return digest(dict(_costly(settings, "")))


def _costly(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _costly(value, f"{prefix}{key}.")
        elif prefix + key not in _LENGTH:
            yield prefix + key, value


def _read(folder: Folder, computation: Computation, seed: int | None) -> tuple[Work, dict[str, Any]] | None:
    """Read what was computed and its run file; None if it was another computation or none, which is not an error."""
    path = folder.root / computation.files(seed)[0].path
    if not path.exists():
        return None
    run = read_run(path)
    if computation.kind == EVALUATION:
        record = _record(folder, computation, seed)
        if record is None or cost_of(record.settings) != cost_of(computation.settings):
            return None
        tasks = computation.settings["evaluation"]["tasks"]
        return computation.work.times(record.tasks / tasks), run
    return (computation.work, run) if run.get("settings_digest") == digest(dict(computation.settings)) else None


def _record(folder: Folder, computation: Computation, seed: int | None) -> CellRecord | None:
    try:
        return read_record(folder.root / computation.files(seed)[0].path)
    except UserError:
        return None  # `freshness` says what is wrong with it


def _recorded(
    computation: Computation, seed: int | None, cost: str, work: Work, run: Mapping[str, Any], after: str
) -> RecordedRun:
    ended, device = str(run.get("ended", "")), str(run.get("device", ""))
    unused = timings.unusable(run) or (OLDER if ended < after else None)
    threads = re.search(r"(\d+) threads", device)
    return RecordedRun(
        name=computation.name if seed is None else f"{computation.name} seed {seed}",
        cost=cost,
        work=work,
        seconds=float(run.get("seconds", 0.0)),
        engine=run.get("engine"),
        threads=int(threads[1]) if threads else 1,
        ended=ended,
        unused=unused,
        says_share="cpu_seconds" in run,
    )


def _without_busy(runs: Sequence[RecordedRun], known: Speeds | None) -> Iterator[RecordedRun]:
    """Yield the runs; those that do not say how much of a core they got are marked busy if they are too slow."""
    fastest: dict[tuple[str, str | None, int], float] = {}
    for run in runs:
        if run.unused is None and run.seconds > 0:
            group = run.work.workload, run.engine, run.threads
            fastest[group] = max(fastest.get(group, 0.0), run.rate)
    for run in runs:
        if run.unused is not None or run.says_share or run.seconds <= 0:
            yield run
            continue
        best = run.work.operations / fastest[run.work.workload, run.engine, run.threads]
        if known is not None and run.work.workload in known.of:
            best = min(best, known.of[run.work.workload].seconds(run.work, run.threads))
        slower = run.seconds / best
        yield replace(run, unused=f"busy machine: {slower:.1f} times slower" if slower > SLOWER_THAN else None)
