"""The plan as text: tables of what is done, the schedule, and where the times come from. No torch, no data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from firstorder import settings
from firstorder.records.freshness import DONE, MISSING, STALE
from firstorder.settings import MODEL, Project
from firstorder.upkeep.computations import EVALUATION, STUDY, TRAINING
from firstorder.upkeep.plan import Entry, Plan
from firstorder.upkeep.recorded_runs import OLDER
from firstorder.upkeep.schedule import Job, schedule

_TITLES = {
    TRAINING: "Trainings",
    EVALUATION: "Evaluations (two cells a seed: inductive, transductive)",
    STUDY: "Studies (what only figures show)",
}
_PLURALS = {TRAINING: "trainings", EVALUATION: "evaluations", STUDY: "studies"}
_COLUMNS = ("", "done", "stale", "missing", "a seed", "still to do")
_NAMED = 4  # seeds, and computations whose time is not used, that are listed


def duration(seconds: float) -> str:
    """Format seconds as `40 s`, `12 min`, `3.5 h` or `2.1 days`."""
    for unit, size, digits in (("days", 86400, 1), ("h", 3600, 1), ("min", 60, 0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"


def describe(plan: Plan) -> str:
    """Return a project's plan as text."""
    project = plan.folder.project
    kinds = {kind: plan.of_kind(kind) for kind in _TITLES if plan.of_kind(kind)}
    lines = [f"{project.title}; seeds {_some(project.seeds)}"]
    tables = [_rows(_TITLES[kind], _groups(entries, project)) for kind, entries in kinds.items()]
    wide = [max(len(row[column]) for rows in tables for row in rows) for column in range(len(_COLUMNS))]
    for rows in tables:
        lines += ["", *(_line(row, wide) for row in rows)]
    lines += ["", *(_total(kind, entries) for kind, entries in kinds.items())]
    if plan.jobs:
        lines += ["", *_schedule(plan)]
    if plan.device.is_cpu:
        lines.append("A seed: one process with one thread.")
    return "\n".join([*lines, *_sources(plan, plan.entries), *_unused(plan), *_missing_models(plan, plan.entries)])


def describe_cell(plan: Plan, cell: str, seeds: Sequence[int]) -> str:
    """Return what has to be computed for one cell, and how long that takes with all cores, or on one GPU.

    Raises UserError for a cell that params.yaml does not list.
    """
    project = plan.folder.project
    settings.lookup({f"{name}/{mode}": None for name, mode, _ in project.cells()}, cell, "cell")
    evaluation, _, mode = cell.rpartition("/")
    evaluated = plan.named(EVALUATION, evaluation)
    trained = plan.named(TRAINING, evaluated.computation.needs or "")
    lines = [f"{evaluation}, {mode}; {project.title}"]
    needed = []
    for seed in seeds:
        chain = [entry for entry in (trained, evaluated) if seed in entry.todo] if seed in evaluated.todo else []
        needed += chain
        steps = []
        for entry in (trained, evaluated):
            clock = f", {_mark(entry)}{duration(_alone(plan, entry))}" if entry in chain else ""
            steps.append(f"{entry.computation.kind} {_state(entry, seed)}{clock}")
        lines.append(f"  seed {seed}: {'; '.join(steps)}")
    if not needed:
        return "\n".join([*lines, f"Nothing to do. To compute it again: make cell CELL={cell} FORCE=1"])
    clock = duration(sum(_alone(plan, entry) for entry in needed))
    lines.append(f"To do: {_marks(needed)}{clock} {_where(plan, one=True)}.")
    return "\n".join([*lines, *_sources(plan, needed), *_missing_models(plan, [evaluated])])


def _groups(entries: Sequence[Entry], project: Project) -> dict[str, list[Entry]]:
    """Group entries into rows of a table, by name: the trainings of a sweep are one row, each in its first sweep."""
    swept: dict[str, str] = {}
    for sweep in project.sweeps or {}:
        for member in project.members_of_sweep(sweep):
            swept.setdefault(member.training, sweep)
    rows: dict[tuple[str, bool], list[Entry]] = {}
    for entry in entries:
        folded = entry.computation.kind == TRAINING and entry.name in swept
        rows.setdefault((swept[entry.name] if folded else entry.name, folded), []).append(entry)
    return {
        f"sweep {name} ({len(group)} trainings)" if folded else name: group for (name, folded), group in rows.items()
    }


def _rows(title: str, groups: Mapping[str, Sequence[Entry]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [(title, *_COLUMNS[1:])]
    for name, entries in groups.items():
        counts = [str(sum(entry.states.count(state) for entry in entries)) for state in (DONE, STALE, MISSING)]
        each, left = sum(entry.seconds for entry in entries), sum(entry.remaining for entry in entries)
        mark = _marks(entries)
        rows.append((name, *counts, mark + duration(each), (mark if left else "") + duration(left)))
    return rows


def _line(row: Sequence[str], wide: Sequence[int]) -> str:
    cells = [text.rjust(width) for text, width in zip(row[1:], wide[1:], strict=True)]
    return "  ".join([row[0].ljust(wide[0]), *cells])


def _total(kind: str, entries: Sequence[Entry]) -> str:
    what = _PLURALS[kind]
    todo, everything = sum(len(entry.todo) for entry in entries), sum(len(entry.states) for entry in entries)
    if not todo:
        return f"All {everything} {what} are done."
    stale = sum(entry.states.count(STALE) for entry in entries)
    again = f" ({stale} stale, to be computed again)" if stale else ""
    mark = _marks([entry for entry in entries if entry.todo])
    return f"{todo} of {everything} {what} to do{again}: {mark}{duration(sum(one.remaining for one in entries))}."


def _schedule(plan: Plan) -> list[str]:
    """Describe what `make paper` would do: seconds by group, the longest chain, the time until all is done."""
    found = schedule(plan.jobs, plan.room)
    todo = [entry for entry in plan.entries if entry.todo]
    mark = _marks(todo)
    lines = [f"All of it {_where(plan)}:"]
    for kind in _TITLES:
        if jobs := [job for job in plan.jobs if job.group == kind]:
            seconds = [job.seconds for job in jobs]
            each = duration(min(seconds)) + (f" to {duration(max(seconds))}" if max(seconds) > min(seconds) else "")
            lines.append(f"  {_PLURALS[kind]:<15} {mark}{duration(sum(seconds))}: {_jobs(jobs)} of {each}")
    chain = " -> ".join(job.name for job in found.critical_path)
    lines.append(f"  {'critical path':<15} {mark}{duration(found.critical_seconds)}: {chain}")
    lines.append(f"  {'wall time':<15} {mark}{duration(found.wall_seconds)}")
    hours = f"{found.core_seconds / 3600:,.1f} h of a core"
    if found.gpu_seconds:
        hours = f"{found.gpu_seconds / 3600:,.1f} h of a GPU, {hours}"
    return [*lines, f"  {'device hours':<15} {mark}{hours}"]


def _jobs(jobs: Sequence[Job]) -> str:
    each = f" with {jobs[0].cores} threads each" if jobs[0].cores > 1 else ""
    return f"{len(jobs)} job{'s' if len(jobs) > 1 else ''}{each}"


def _where(plan: Plan, one: bool = False) -> str:
    """Say where jobs run: on how many GPUs and cores of which machine."""
    room = plan.room
    cores = f"{room.cores} core{'s' if room.cores > 1 else ''}"
    if not room.gpus:
        return f"on {cores} ({plan.device})"
    count = 1 if one else room.gpus
    return f"on {count} GPU{'s' if count > 1 else ''} ({plan.device}), one job each, and {cores}"


def _sources(plan: Plan, entries: Iterable[Entry]) -> list[str]:
    """Say where the times come from."""
    sources = dict.fromkeys(entry.source for entry in entries)
    lines = []
    if None in sources:
        lines.append(f"Without ~: measured on {plan.device} with the same settings, scaled by length.")
    estimated = [source for source in sources if source is not None]
    if estimated:
        lines.append(f"~: estimated by counted operations and {'; '.join(estimated)}.")
    if estimated and not any("probe" in source or str(plan.device) in source for source in estimated):
        lines.append("To measure this machine: make plan PROBE=1 (5 seconds), or make bench.")
    return lines


def _unused(plan: Plan) -> list[str]:
    """Say how many recorded times are not used, and why; name those of interrupted or disturbed computations."""
    reasons: dict[str, list[str]] = {}
    for run in plan.unused:
        reason, _, detail = (run.unused or "").partition(": ")
        reasons.setdefault(reason, []).append(f"{run.name}, {detail}" if detail else run.name)
    parts = [
        f"{len(names)} {reason}" + ("" if reason == OLDER else f" ({'; '.join(_first(names))})")
        for reason, names in reasons.items()
    ]
    return [f"Recorded times that are not used: {', '.join(parts)}."] if parts else []


def _missing_models(plan: Plan, entries: Iterable[Entry]) -> list[str]:
    """Name the missing checkpoints of trainings that are done: once pulled, they need not be trained again."""
    lines, trained = [], {entry.name: entry for entry in plan.of_kind(TRAINING)}
    for entry in entries:
        if (training := entry.computation.needs) is None:
            continue
        for seed in entry.todo:
            model = MODEL.format(training=training, seed=seed)
            if seed not in trained[training].todo and not (plan.folder.root / model).exists():
                lines.append(f"{model}: needed and missing; fetch it (dvc pull), else it is trained again.")
    return list(dict.fromkeys(lines))


def _alone(plan: Plan, entry: Entry) -> float:
    """Return the seconds of one seed that is computed alone: with all cores, or on a GPU."""
    on_gpu = plan.room.gpus > 0 and entry.computation.work.on_gpu
    return entry.seconds_with(1 if on_gpu else plan.room.cores)


def _state(entry: Entry, seed: int) -> str:
    return entry.states[entry.computation.seeds.index(seed)]


def _mark(entry: Entry) -> str:
    return "~" if entry.source is not None else ""


def _marks(entries: Sequence[Entry]) -> str:
    return "~" if any(map(_mark, entries)) else ""


def _some(seeds: Sequence[int]) -> str:
    return ", ".join(_first([str(seed) for seed in seeds]))


def _first(names: Sequence[str]) -> list[str]:
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return [*names[:_NAMED], *more]
