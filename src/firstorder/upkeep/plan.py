"""The plan: which trainings and cells are done, stale or missing, and how long the rest takes on a device.

Staleness is decided by freshness.py, as for `firstorder stale`. What is stale counts as still to be computed.

A time is taken from the run file of the same training or evaluation on the same device, with the same settings except
those that set its length (outer steps, points of the curve, tasks); it is scaled by the length. Without such a run file
the time is estimated from the device's benchmark (`make bench`) and printed with `~`. Without a benchmark it is
`unknown`. All times are for one process at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from firstorder.records import freshness
from firstorder.records.cells import read_records, read_run
from firstorder.records.freshness import DONE, MISSING, STALE
from firstorder.settings import CURVE, MODEL, MODES, Project, checks, digest
from firstorder.upkeep import estimates

# Settings that change the number of steps or tasks, or the draws, but not the cost of one step or task.
_LENGTH = {"numerics_version", "training.outer_steps", "training.curve.every", "evaluation.tasks"}


@dataclass(frozen=True)
class Folder:
    """A folder with a params.yaml, and that file as a project."""

    root: Path
    project: Project


@dataclass(frozen=True)
class Device:
    """A device, spelled as in a run file: `cpu` and the machine, or a GPU's name."""

    name: str
    machine: str

    def made(self, run: Mapping[str, Any]) -> bool:
        """Say whether all was computed on this device; a GPU counts as the same in any machine.

        A training that was computed in several places (`legs`) measures the speed of none of them.
        """
        device = "" if "legs" in run else str(run.get("device", ""))
        if self.name == "cpu":
            return device.startswith("cpu") and run.get("machine") == self.machine
        return device == self.name


@dataclass(frozen=True)
class Timing:
    """A measured time: seconds an outer step or a task, by which engine, and when it ended."""

    seconds: float
    engine: str | None
    ended: str

    @staticmethod
    def of(run: Mapping[str, Any], length: int) -> Timing:
        """Return the timing that a run file gives for a computation of so many steps or tasks."""
        return Timing(float(run["seconds"]) / length, run.get("engine"), str(run.get("ended", "")))


@dataclass(frozen=True)
class Entry:
    """One training or evaluation: the state of each seed, and the seconds of one seed, measured or estimated."""

    name: str
    states: tuple[str, ...]
    seconds: float | None
    estimated: bool = False

    @property
    def remaining(self) -> float | None:
        """Seconds for all seeds that are not done; None if unknown."""
        todo = len(self.states) - self.states.count(DONE)
        return 0.0 if not todo else None if self.seconds is None else todo * self.seconds


def trainings(folder: Folder, device: Device, measured: Sequence[Folder]) -> list[Entry]:
    """List the trainings of `folder`, with times on `device` taken from the run files in the folders `measured`."""
    entries = []
    for name, training in folder.project.trainings.items():
        cost = _cost(folder.project.settings_of_training(name))
        timings = []
        for other in measured:
            if name not in other.project.trainings:
                continue
            settings = other.project.settings_of_training(name)
            if _cost(settings) != cost:
                continue
            outer_steps = max(other.project.trainings[name].outer_steps, 1)
            for seed in other.project.seeds:
                run = read_run(other.root / CURVE.format(training=name, seed=seed))
                if run.get("settings_digest") == digest(settings) and device.made(run) and "seconds" in run:
                    timings.append(Timing.of(run, outer_steps))
        curves = (freshness.curve(folder.project, name, seed) for seed in folder.project.seeds)  # they are in Git
        states = tuple(freshness.state(folder.root, curve) for curve in curves)
        entries.append(Entry(name, states, _scaled(timings, max(training.outer_steps, 1))))
    return entries


def evaluations(folder: Folder, device: Device, measured: Sequence[Folder]) -> list[Entry]:
    """List the evaluations of `folder`, each of which computes two cells; arguments as for `trainings`."""
    known = [(other.root, record) for other in measured for record in read_records(other.root, other.project)]
    entries = []
    for name, evaluation in folder.project.evaluations.items():
        cost = _cost(folder.project.settings_of_evaluation(name))
        timings = []
        for root, record in known:
            # Both modes are measured at once, so one of them gives the time.
            if record.evaluation == name and record.mode == MODES[0] and _cost(record.settings) == cost:
                run = read_run(root / record.cell.path)
                if device.made(run) and "seconds" in run:
                    timings.append(Timing.of(run, record.tasks))
        pairs = ([freshness.cell(folder.project, name, mode, seed) for mode in MODES] for seed in folder.project.seeds)
        states = tuple(freshness.state(folder.root, *pair) for pair in pairs)
        entries.append(Entry(name, states, _scaled(timings, evaluation.tasks)))
    return entries


def describe(root: Path, device: Device, others: Iterable[Path] = (), project: Project | None = None) -> str:
    """Return a project's plan as text, with times from its own run files and those of the folders `others`.

    The project is that of params.yaml in `root` where none is given.
    """
    project = project or checks.load(root / "params.yaml")
    folder = Folder(root, project)
    paths = dict.fromkeys([root.resolve(), *(other.resolve() for other in others)])
    measured = [folder, *(Folder(path, checks.load(path / "params.yaml")) for path in [*paths][1:])]
    trained, evaluated = (find(folder, device, measured) for find in (trainings, evaluations))
    bench = next(filter(None, (estimates.read(path, device.name, device.machine) for path in paths)), None)
    if bench is not None:
        trained = [_estimated(entry, estimates.of_training(bench, project.trainings[entry.name])) for entry in trained]
        settings = [project.evaluations[entry.name] for entry in evaluated]
        evaluated = [
            _estimated(entry, estimates.of_evaluation(bench, project.trainings[evaluation.training], evaluation))
            for entry, evaluation in zip(evaluated, settings, strict=True)
        ]
    lines = [f"{project.title}; seeds {', '.join(map(str, project.seeds))}"]
    for title, entries in (
        ("Trainings", trained),
        ("Evaluations (two cells a seed: inductive, transductive)", evaluated),
    ):
        lines += ["", *_table(title, entries)]
    lines += ["", _total("trainings", trained), _total("evaluations", evaluated)]
    where = f"cpu on {device.machine}" if device.name == "cpu" else device.name
    lines += [f"Times: one process at a time on {where}, measured with the same settings and scaled by length."]
    if any(entry.estimated for entry in [*trained, *evaluated]):
        lines += ["~: estimated from the benchmark of this device (make bench), by the number of operations."]
    if any(entry.remaining is None for entry in [*trained, *evaluated]):
        lines += ["Unknown: nothing comparable was measured on this device; make bench gives an estimate."]
    return "\n".join([*lines, *_missing_models(folder, trained, evaluated)])


def _estimated(entry: Entry, seconds: float | None) -> Entry:
    """Return the entry with an estimated time if it has no measured one."""
    if entry.seconds is not None or seconds is None:
        return entry
    return replace(entry, seconds=seconds, estimated=True)


def duration(seconds: float | None) -> str:
    """Format seconds as `40 s`, `12 min`, `3.5 h` or `2.1 days`; `unknown` for None."""
    if seconds is None:
        return "unknown"
    for unit, size, digits in (("days", 86400, 1), ("h", 3600, 1), ("min", 60, 0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"


def _cost(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten resolved settings, without those that only change the length of a computation."""
    flat: dict[str, Any] = {}

    def add(values: Mapping[str, Any], prefix: str) -> None:
        for key, value in values.items():
            if isinstance(value, Mapping):
                add(value, f"{prefix}{key}.")
            elif prefix + key not in _LENGTH:
                # Settings read from a record have lists where resolved settings have tuples.
                flat[prefix + key] = list(value) if isinstance(value, tuple) else value

    add(resolved, "")
    return flat


def _scaled(timings: Sequence[Timing], length: int) -> float | None:
    """Return the seconds of so many steps or tasks: the mean over the timings with the most recently used engine."""
    if not timings:
        return None
    newest = max(timings, key=lambda timing: timing.ended).engine
    same = [timing.seconds for timing in timings if timing.engine == newest]
    return length * sum(same) / len(same)


def _table(title: str, entries: Sequence[Entry]) -> list[str]:
    rows: list[tuple[str, ...]] = [(title, "done", "stale", "missing", "a seed", "still to do")]
    for entry in entries:
        counts = [str(entry.states.count(state)) for state in (DONE, STALE, MISSING)]
        about = "~" if entry.estimated else ""
        left = duration(entry.remaining)
        rows.append((entry.name, *counts, about + duration(entry.seconds), about + left if entry.remaining else left))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _total(what: str, entries: Sequence[Entry]) -> str:
    todo = sum(len(entry.states) - entry.states.count(DONE) for entry in entries)
    everything = sum(len(entry.states) for entry in entries)
    known = sum(entry.remaining or 0.0 for entry in entries)
    unknown = sum(len(entry.states) - entry.states.count(DONE) for entry in entries if entry.remaining is None)
    if not todo:
        return f"All {everything} {what} are done."
    clock = duration(None if unknown == todo else known)
    if 0 < unknown < todo:
        clock += f" for {todo - unknown} of them, unknown for {unknown}"
    stale = sum(entry.states.count(STALE) for entry in entries)
    again = f" ({stale} stale, to be computed again)" if stale else ""
    return f"{todo} of {everything} {what} to do{again}: {clock}."


def _missing_models(folder: Folder, trained: Sequence[Entry], evaluated: Sequence[Entry]) -> list[str]:
    """Name the missing checkpoints of trainings that are done: once pulled, they need not be trained again."""
    lines, states = [], {entry.name: entry.states for entry in trained}
    for entry in evaluated:
        training = folder.project.evaluations[entry.name].training
        for seed, state, curve in zip(folder.project.seeds, entry.states, states[training], strict=True):
            model = MODEL.format(training=training, seed=seed)
            if state != DONE and curve == DONE and not (folder.root / model).exists():
                lines.append(f"{model}: needed and missing; fetch it (dvc pull), else it is trained again.")
    return list(dict.fromkeys(lines))
