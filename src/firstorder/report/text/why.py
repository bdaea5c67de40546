"""Explain one number: what the paper states, what is recorded for each seed, and how that was made.

Everything comes from the records. A stale record is shown as stale instead of refused, since its state is part of the
answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from firstorder.errors import one_line
from firstorder.records import freshness, timings
from firstorder.records.cells import CellRecord, read_records, read_run
from firstorder.records.headers import pack_digest
from firstorder.report.claims import verdicts
from firstorder.report.claims.paper import Paper
from firstorder.report.read import accuracies
from firstorder.report.read.statistics import Estimate, estimate
from firstorder.report.text.formatting import NOT_RUN, algorithm_label, column_label, percent, points
from firstorder.settings import CURVE, RECORD, Project, digest, lookup

_WIDTH = 14
_UNJUDGED = "not judged while a record is stale"


def explain(root: Path, project: Project, cell: str, seeds: Sequence[int], published_path: Path) -> str:
    """Explain `cell` (algorithm/dataset-Nway/Kshot/mode) for some `seeds` of params.yaml.

    Raises UserError for a cell that params.yaml does not list.
    """
    lookup({f"{evaluation}/{mode}": None for evaluation, mode, _ in project.cells()}, cell, "cell")
    evaluation, _, mode = cell.rpartition("/")
    fresh: list[CellRecord] = []
    own: dict[int, CellRecord] = {}
    stale: dict[int, str] = {}
    for record in read_records(root, project):
        difference = freshness.difference(root, freshness.cell(project, *record.cell), record)
        is_asked = (record.evaluation, record.mode, record.seed in seeds) == (evaluation, mode, True)
        if is_asked:
            own[record.seed] = record
        if difference is None:
            fresh.append(record)
        elif is_asked:
            stale[record.seed] = difference
    paper = Paper.of(root, published_path)
    algorithm, _, column = evaluation.partition("/")
    paragraphs = [
        [cell, f"{algorithm_label(algorithm)}, {column_label(column)}, {mode}; {project.title}"],
        _published(cell, paper),
        [
            _line("ours", summary([record for record in own.values() if record.seed not in stale])),
            # Stale records of other cells are left out; a claim that needs one of them is not run.
            *([_line("claims", _UNJUDGED)] if stale else _verdicts(cell, verdicts.judge(fresh, project, paper))),
        ],
        *(
            _recorded(root, project, own[seed], stale.get(seed)) if seed in own else _not_run(root, cell, seed)
            for seed in seeds
        ),
        ["settings, as params.yaml resolves them now", *_settings(project.settings_of_evaluation(evaluation))],
    ]
    return "\n\n".join("\n".join(lines) for lines in paragraphs)


def _line(name: str, text: object) -> str:
    return f"{name:<{_WIDTH}}{one_line(text)}"


def _published(cell: str, paper: Paper) -> list[str]:
    """List what the paper states for the cell, what its ± means, and the source of both."""
    claimed = [about for claim in paper.claims.entries.values() for about in claim.cells]
    named = [about.line for about in claimed if about.cell == cell]
    if not named:
        return [_line("published", "the paper states no number for this cell")]
    number = paper.lines.loc[named[0]]
    return [
        _line("published", f"{number['printed']} %"),
        _line("  ± means", number["half_width_meaning"]),
        _line("  source", f"{number['source']} (confidence {number['confidence_grade']})"),
        _line("  line", f"{paper.published}: {', '.join(named[0])}"),
    ]


def summary(records: Sequence[CellRecord]) -> str:
    """Return the mean of a cell's seeds with its interval, and what that is over; `not run` without a record."""
    if not records:
        return NOT_RUN
    frame = accuracies.frame(records)
    found: Estimate = estimate(frame["accuracy"].tolist(), frame["standard_error_tasks"].tolist())
    spread = "over the tasks of its one seed" if found.seeds == 1 else f"over {found.seeds} seeds (Student)"
    return f"{percent(found.value, found.half_width)} %, 95 % interval {spread}"


def _verdicts(cell: str, judged: pd.DataFrame) -> list[str]:
    """List the claims about the cell with their verdicts."""
    lines = []
    for claim in judged.itertuples():
        if cell in str(claim.cells).split(" against "):
            found = "" if pd.isna(claim.seeds) else _interval(claim)
            lines.append(f"  {claim.verdict}: {claim.sentence}{found} [{claim.id}]")
    return ["claims", *lines] if lines else [_line("claims", "none is about this cell")]


def _interval(claim: Any) -> str:
    what = "Ours minus the paper's" if claim.kind == "value" else "First minus second"
    low, high = points(claim.low_fraction), points(claim.high_fraction)
    return f" {what}: {points(claim.judged_fraction)} points, 95 % interval {low} to {high}."


def _not_run(root: Path, cell: str, seed: int) -> list[str]:
    evaluation, _, mode = cell.rpartition("/")
    path = root / RECORD.format(evaluation=evaluation, mode=mode, seed=seed)
    return [_line(f"seed {seed}", NOT_RUN), _line("  record", f"{path} does not exist")]


def _recorded(root: Path, project: Project, record: CellRecord, difference: str | None) -> list[str]:
    """Describe one seed: its accuracy, the digests of its record, and how evaluation and training were made.

    `difference` is what makes the record stale, if it is.
    """
    path = root / record.cell.path
    line = accuracies.frame([record]).iloc[0]
    counts = " ".join(str(count) for count in record.correct_histogram)
    queries = len(record.correct_histogram) - 1
    training = str(record.settings["evaluation"]["training"])
    curve = root / CURVE.format(training=training, seed=record.seed)
    state = f"STALE, {freshness.since(difference)}" if difference else _fresh(root, project, record)
    digests = {name: getattr(record, f"{name}_digest") for name in ("settings", "training", "data", "checkpoint")}
    return [
        _line(
            f"seed {record.seed}",
            f"{percent(line['accuracy'], line['half_width_tasks'])} %, 95 % interval over its {record.tasks:,} tasks",
        ),
        _line("  tasks", f"with 0 to {queries} of {queries} query images right: {counts}"),
        _line("  record", path),
        _line("  state", state),
        *(_line("  digests" if i == 0 else "", f"{name} {value}") for i, (name, value) in enumerate(digests.items())),
        _line("  numerics", f"version {record.numerics_version}, {record.precision}"),
        *_run_file("  evaluation", read_run(path)),
        *_run_file("  training", of_this_training(read_run(curve), record)),
    ]


def _fresh(root: Path, project: Project, record: CellRecord) -> str:
    """Say what a fresh record was compared with."""
    data = freshness.cell(project, *record.cell).pack
    found = pack_digest(root / data) if data else None
    compared = f"and the data, {data}, is the same" if found else f"the data, {data}, is not here to compare"
    return f"fresh: made with these settings; {compared}"


def of_this_training(run: dict[str, Any], record: CellRecord) -> dict[str, Any]:
    """Return the curve's run file, or nothing if it belongs to a training with other settings."""
    return run if run.get("settings_digest", record.training_digest) == record.training_digest else {}


def _run_file(name: str, run: Mapping[str, Any]) -> list[str]:
    if not run:
        return [_line(name, "how it was made is not recorded")]
    seconds = run.get("seconds")
    clock = f"{seconds:,.1f} s" if isinstance(seconds, int | float) else "unknown time"
    versions = ", ".join(f"{package} {version}" for package, version in sorted(run.get("versions", {}).items()))
    if isinstance(seconds, int | float) and (reason := timings.unusable(run)) is not None:
        clock += f" ({reason}; not used by make plan)"
    return [
        _line(
            name, f"{clock} on {run.get('device', 'unknown device')}; ended {run.get('ended', 'at an unknown time')}"
        ),
        _line("    machine", run.get("machine", "unknown")),
        _line("    commit", run.get("commit", "unknown")),
        _line("    versions", f"python {run.get('python', 'unknown')}, {versions or 'packages unknown'}"),
    ]


def _settings(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    lines = [] if prefix else [f"  digest = {digest(dict(settings))}"]
    for key, value in settings.items():
        if isinstance(value, Mapping):
            lines += _settings(value, f"{prefix}{key}.")
        else:
            lines.append(f"  {prefix}{key} = {json.dumps(value)}")
    return lines
