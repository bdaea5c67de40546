"""The plan: which trainings, evaluations and studies are done, stale or missing, and how long the rest takes.

Staleness is decided by freshness.py, as for `firstorder stale`. What is stale counts as still to be computed.

A time is taken from run files of the same computation on the same device, with the same settings except those that set
its length (recorded_runs.py); it is scaled by the length. Without such a run file it is estimated from counted
operations and a speed, in this order: a probe if one was asked for, other runs of the device, its benchmark
(`make bench`), the benchmark of the nearest device (estimates.py). So no time is ever unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from firstorder.errors import UserError
from firstorder.records.freshness import DONE
from firstorder.settings import Project, checks
from firstorder.upkeep import computations, estimates, recorded_runs, recorded_speeds
from firstorder.upkeep.computations import TRAINING, Computation, Folder
from firstorder.upkeep.estimates import CPU, Device, Estimate, Speeds
from firstorder.upkeep.recorded_runs import RecordedRun, RecordedRuns
from firstorder.upkeep.schedule import Job, Room


@dataclass(frozen=True)
class Entry:
    """One computation: the state of each seed, and the seconds of one seed, with their source if they are estimated.

    The seconds are those of one thread on a CPU, or of a GPU.
    """

    computation: Computation
    states: tuple[str, ...]
    seconds: float
    estimate: Estimate
    source: str | None = None

    @property
    def name(self) -> str:
        """The name of the computation."""
        return self.computation.name

    @property
    def todo(self) -> list[int | None]:
        """The seeds that are not done."""
        return [seed for seed, state in zip(self.computation.seeds, self.states, strict=True) if state != DONE]

    @property
    def remaining(self) -> float:
        """Seconds for all seeds that are not done, one after another."""
        return len(self.todo) * self.seconds

    def seconds_of(self, seeds: int) -> float:
        """Return the seconds of some seeds side by side on a GPU, which share its kernels but not its operations."""
        work = self.computation.work
        together = self.estimate.speed.seconds(replace(work, operations=seeds * work.operations))
        return self.seconds * together / max(self.estimate.seconds, 1e-12)

    def seconds_with(self, threads: int) -> float:
        """Return the seconds of one seed with more threads, by the growth that was measured."""
        work, speed = self.computation.work, self.estimate.speed
        return self.seconds * speed.seconds(work, threads) / max(self.estimate.seconds, 1e-12)


@dataclass(frozen=True)
class Times:
    """Where the times of one device come from: its own runs, and speeds, the preferred ones first."""

    runs: RecordedRuns
    sources: tuple[Speeds, ...]

    @staticmethod
    def of(device: Device, folders: Sequence[Folder], probed: Speeds | None = None) -> Times:
        """Read the runs and benchmarks in `folders`; raises UserError for a file that cannot be read."""
        found = [*estimates.benchmarks(folder.root for folder in folders)]
        own = next((one for one in found if estimates.is_same(estimates.device_of(one), device)), None)
        known = None if own is None else estimates.speeds(own, f"the benchmark of {device}")
        ended = str(own["run"].get("ended", "")) if own else ""
        runs = recorded_runs.read(folders, device, ended, known)
        others = [estimates.speeds(one, f"the benchmark of {estimates.device_of(one)}") for one in found]
        near = estimates.nearest(device, [*others, *recorded_speeds.recorded()])
        mine = [one for one in (probed, runs.speeds, known) if one is not None]
        return Times(runs, (*mine, *near))

    def entry(self, computation: Computation, root: Path) -> Entry:
        """Return a computation with its states in the folder `root` and its time."""
        estimate = estimates.estimate(computation.work, self.sources)
        measured = self.runs.seconds(computation)
        states = computation.states(root)
        if measured is not None:
            return Entry(computation, states, measured, estimate)
        return Entry(computation, states, estimate.seconds, estimate, estimate.source)


@dataclass(frozen=True)
class Plan:
    """The entries of a project on a device, with `room` for jobs; `times` of the device come first, then of the CPU."""

    folder: Folder
    device: Device
    room: Room
    entries: tuple[Entry, ...]
    times: tuple[Times, ...] = field(default=())

    def of_kind(self, kind: str) -> list[Entry]:
        """List the trainings, evaluations or studies."""
        return [entry for entry in self.entries if entry.computation.kind == kind]

    def named(self, kind: str, name: str) -> Entry:
        """Return the entry of this kind and name, which params.yaml lists."""
        return next(entry for entry in self.of_kind(kind) if entry.name == name)

    @property
    def unused(self) -> list[RecordedRun]:
        """The recorded runs of the device whose time is not used."""
        return [run for times in self.times[:1] for run in times.runs.runs if run.unused is not None]

    @cached_property
    def jobs(self) -> list[Job]:
        """One job for each seed that is not done; jobs of a kind share the cores evenly, as the rules do."""
        kinds = {kind: sum(len(entry.todo) for entry in self.of_kind(kind)) for kind in ("training", "evaluation")}
        jobs = []
        for entry in self.entries:
            made = entry.computation
            on_gpu = self.room.gpus > 0 and made.work.on_gpu
            threads = 1 if on_gpu else max(1, self.room.cores // max(1, kinds.get(made.kind, self.room.cores)))
            if on_gpu and made.kind == TRAINING and len(entry.todo) > 1:
                jobs += _side_by_side(entry)
                continue
            for seed in entry.todo:
                jobs.append(
                    Job(
                        name=job_name(made.kind, made.name, seed),
                        group=made.kind,
                        seconds=entry.seconds_with(threads),
                        cores=threads,
                        on_gpu=on_gpu,
                        after=(job_name(TRAINING, made.needs, seed),) if made.needs else (),
                    )
                )
        return jobs


def _side_by_side(entry: Entry) -> list[Job]:
    """Return the job that trains all missing seeds on a GPU, and for the others jobs that find them done."""
    made, count = entry.computation, len(entry.todo)
    first, *others = (job_name(made.kind, made.name, seed) for seed in entry.todo)
    lead = Job(name=first, group=made.kind, seconds=entry.seconds_of(count), on_gpu=True)
    return [lead, *(Job(name=name, group=made.kind, seconds=0.0, on_gpu=True, after=(first,)) for name in others)]


def job_name(kind: str, name: str, seed: int | None) -> str:
    """Return the name of a job."""
    return f"{kind} {name}" if seed is None else f"{kind} {name} seed {seed}"


def make(
    root: Path,
    device: Device,
    others: Iterable[Path] = (),
    project: Project | None = None,
    *,
    room: Room | None = None,
    probed: Speeds | None = None,
    tell: Callable[[str], None] | None = None,
) -> Plan:
    """Return the plan of a project, with times from its own run files and those of the folders `others`.

    Another folder whose params.yaml is refused is left out, and `tell` is called with the reason. The project is that
    of params.yaml in `root` where none is given. `room` is by default one core, or one GPU. `probed` are speeds that
    were measured just now.
    """
    project = project or checks.load(root / "params.yaml")
    folder = Folder(root, project)
    paths = dict.fromkeys([root.resolve(), *(other.resolve() for other in others)])
    measured = [folder]
    for path in [*paths][1:]:
        try:
            measured.append(Folder(path, checks.load(path / "params.yaml")))
        except UserError as error:
            if tell is not None:
                tell(f"{error}; so the times measured there are not used")
    main = Times.of(device, measured, probed)
    beside = main if device.is_cpu else Times.of(Device(CPU, device.machine), measured)
    entries = tuple(
        (main if computation.work.on_gpu else beside).entry(computation, root)
        for computation in computations.everything(project)
    )
    room = room or Room(1, 0 if device.is_cpu else 1)
    return Plan(folder, device, room, entries, (main,) if beside is main else (main, beside))
