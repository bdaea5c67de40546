"""What there is to compute: trainings and cells, what is done, stale or missing, and how long that takes here.

What is stale is what `firstorder stale` lists, judged by freshness.py; it counts as still to be computed.

A time is never guessed. It comes from a recorded `<name>.run.json` of the same training or evaluation on the same
device, with the same settings but for its length (outer steps, how often the curve is measured, tasks), scaled by
that length. Without such a record it is estimated, and printed with `~`, from what `make bench` measured on this
device; without that either it is `unknown`. Times are those of one process at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from firstorder.records import freshness
from firstorder.records.cells import read_records
from firstorder.records.freshness import DONE, MISSING, STALE
from firstorder.report.read import runs
from firstorder.settings import CURVE, MODEL, MODES, RECORD, Project, checks, digest
from firstorder.upkeep import estimates

Root = tuple[Path, Project]
# What decides how long a computation is, or only which draws it makes, not what a step of it costs.
_LENGTH = {"numerics_version", "training.outer_steps", "training.curve.every", "evaluation.tasks"}


@dataclass(frozen=True)
class Device:
    """Where a time was measured, in the words of a `.run.json`: `cpu...` and the machine, or the GPU's name."""

    name: str
    machine: str

    def made(self, run: Mapping[str, Any]) -> bool:
        """Say whether `run` was made on this device; a GPU is the same in any machine."""
        device = str(run.get("device", ""))
        if self.name == "cpu":
            return device.startswith("cpu") and run.get("machine") == self.machine
        return device == self.name


@dataclass(frozen=True)
class Entry:
    """One training or evaluation: the state of each seed, and the seconds of one seed, measured or estimated."""

    name: str
    states: tuple[str, ...]
    seconds: float | None
    estimated: bool = False

    @property
    def remaining(self) -> float | None:
        """Seconds for all seeds that are not done; None where that is unknown."""
        todo = len(self.states) - self.states.count(DONE)
        return 0.0 if not todo else None if self.seconds is None else todo * self.seconds


def trainings(root: Path, project: Project, device: Device, measured: Sequence[Root]) -> list[Entry]:
    """List the trainings of `project`; `measured` are folders whose records may tell how long they take."""
    rows = []
    for name, training in project.trainings.items():
        wanted = project.settings_of_training(name)
        states = [_state_of_training(root, project, name, seed) for seed in project.seeds]
        rates = []
        for folder, other in measured:
            if name in other.trainings and _cost(other.settings_of_training(name)) == _cost(wanted):
                outer_steps = other.trainings[name].outer_steps
                expected = digest(other.settings_of_training(name))
                for seed in other.seeds:
                    run = runs.read(folder / CURVE.format(training=name, seed=seed))
                    if run.get("settings_digest") == expected and device.made(run):
                        rates.append((run, float(run["seconds"]) / max(outer_steps, 1)))
        rows.append(Entry(name, tuple(states), _mean(rates, max(training.outer_steps, 1))))
    return rows


def evaluations(root: Path, project: Project, device: Device, measured: Sequence[Root]) -> list[Entry]:
    """List the evaluations of `project`, each of which makes two cells; arguments as for `trainings`."""
    known = [(folder, record) for folder, other in measured for record in read_records(folder, other)]
    rows = []
    for name, evaluation in project.evaluations.items():
        wanted = project.settings_of_evaluation(name)
        states = [_state_of_evaluation(root, project, name, seed) for seed in project.seeds]
        rates = []
        for folder, record in known:
            # Both modes are measured at once, so either says how long.
            if record.evaluation == name and record.mode == MODES[0] and _cost(record.settings) == _cost(wanted):
                run = runs.read(folder / RECORD.format(evaluation=name, mode=record.mode, seed=record.seed))
                if device.made(run) and "seconds" in run:
                    rates.append((run, float(run["seconds"]) / record.tasks))
        rows.append(Entry(name, tuple(states), _mean(rates, evaluation.tasks)))
    return rows


def describe(root: Path, device: Device, others: Iterable[Path] = ()) -> str:
    """Return the plan of the project in `root` as text; times come from its own records and from `others`' too."""
    project = checks.load(root / "params.yaml")
    folders = dict.fromkeys([root.resolve(), *(folder.resolve() for folder in others)])
    measured = [(folder, checks.load(folder / "params.yaml")) for folder in folders]
    trained, evaluated = (find(root, project, device, measured) for find in (trainings, evaluations))
    bench = next(filter(None, (estimates.read(folder, device.name, device.machine) for folder in folders)), None)
    if bench is not None:
        trained = [_estimated(entry, estimates.of_training(bench, project.trainings[entry.name])) for entry in trained]
        chosen = [(entry, project.evaluations[entry.name]) for entry in evaluated]
        evaluated = [
            _estimated(entry, estimates.of_evaluation(bench, project.trainings[one.training], one))
            for entry, one in chosen
        ]
    lines = [f"{project.title}; seeds {', '.join(map(str, project.seeds))}"]
    for title, entries in (
        ("Trainings", trained),
        ("Evaluations (two cells a seed: inductive, transductive)", evaluated),
    ):
        lines += ["", *_table(title, entries)]
    lines += ["", _total("trainings", trained), _total("evaluations", evaluated)]
    where = f"cpu on {device.machine}" if device.name == "cpu" else device.name
    lines += [f"Times: one process at a time on {where}, from recorded runs of the same settings, scaled by length."]
    if any(entry.estimated for entry in [*trained, *evaluated]):
        lines += ["~: estimated from the benchmark of this device (make bench), by the number of operations."]
    if any(entry.remaining is None for entry in [*trained, *evaluated]):
        lines += ["Unknown: nothing comparable was measured on this device; make bench would tell."]
    return "\n".join([*lines, *_models(root, project, evaluated)])


def _estimated(entry: Entry, seconds: float | None) -> Entry:
    """Fill in an estimate where nothing was measured."""
    if entry.seconds is not None or seconds is None:
        return entry
    return replace(entry, seconds=seconds, estimated=True)


def duration(seconds: float | None) -> str:
    """Print seconds as `40 s`, `12 min`, `3.5 h` or `2.1 days`; `unknown` for None."""
    if seconds is None:
        return "unknown"
    for unit, size, digits in (("days", 86400, 1), ("h", 3600, 1), ("min", 60, 0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"


def _state_of_training(root: Path, project: Project, name: str, seed: int) -> str:
    """Judge by the curve: the model itself is not in Git."""
    return freshness.state(root, freshness.curve(project, name, seed))


def _state_of_evaluation(root: Path, project: Project, name: str, seed: int) -> str:
    return freshness.state(root, *(freshness.cell(project, name, mode, seed) for mode in MODES))


def _cost(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten resolved settings and leave out what only makes a computation longer."""
    flat: dict[str, Any] = {}

    def add(values: Mapping[str, Any], prefix: str) -> None:
        for key, value in values.items():
            if isinstance(value, Mapping):
                add(value, f"{prefix}{key}.")
            elif prefix + key not in _LENGTH:
                # As in a record, which went through JSON: a tuple is a list there.
                flat[prefix + key] = list(value) if isinstance(value, tuple) else value

    add(resolved, "")
    return flat


def _mean(rates: Sequence[tuple[Mapping[str, Any], float]], length: int) -> float | None:
    """Return the seconds of so many steps or tasks: the mean rate of the runs with the engine that was used last."""
    if not rates:
        return None
    newest = max(rates, key=lambda entry: str(entry[0].get("ended", "")))[0].get("engine")
    same = [rate for run, rate in rates if run.get("engine") == newest]
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


def _models(root: Path, project: Project, evaluated: Sequence[Entry]) -> list[str]:
    """Name the done trainings whose model is needed and not here: pulled, they need not be done again."""
    lines = []
    for entry in evaluated:
        training = project.evaluations[entry.name].training
        for seed, state in zip(project.seeds, entry.states, strict=True):
            model = MODEL.format(training=training, seed=seed)
            trained = _state_of_training(root, project, training, seed) == DONE
            if state != DONE and trained and not (root / model).exists():
                lines.append(f"{model}: needed and not here; fetch it (dvc pull), else it is trained again.")
    return list(dict.fromkeys(lines))
