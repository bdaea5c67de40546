"""The page of one cell: what the paper states, what is recorded for each seed, and how that was made.

It says what `firstorder why` says, and shows the learning curve and the histogram of right answers.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firstorder.records import freshness
from firstorder.records.cells import CellRecord, how_made, how_trained
from firstorder.report.read import accuracies, curves, staleness
from firstorder.report.read.published import known
from firstorder.report.site import charts, claim_cards
from firstorder.report.site.folders import Folder
from firstorder.report.site.writer import Pages
from firstorder.report.text import why
from firstorder.report.text.formatting import MISSING, percent, training_label
from firstorder.settings import (
    CURVE,
    CurveSettings,
    DatasetSettings,
    EvaluationSettings,
    Mode,
    TrainingSettings,
    digest,
)

_MEANT = {
    "dataset": DatasetSettings,
    "training": TrainingSettings,
    "training.curve": CurveSettings,
    "evaluation": EvaluationSettings,
}


@dataclass(frozen=True, kw_only=True)
class Seed:
    """One seed of a cell. `accuracy` is empty if it is not run; `facts` are named texts, `files` its records."""

    seed: int
    accuracy: str
    facts: Mapping[str, str]
    files: Mapping[str, str]
    command: str


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One resolved setting, with its meaning from params.yaml's declaration."""

    name: str
    value: str
    meaning: str


def add(pages: Pages, folder: Folder, cell: str) -> None:
    """Add the page of a cell."""
    evaluation, mode = folder.cells[cell]
    records = folder.records_of(evaluation, mode)
    training = folder.project.evaluations[evaluation].training
    histograms = [record.correct_histogram for record in records]
    summed = [sum(counts) for counts in zip(*histograms, strict=True)]
    settings = folder.project.settings_of_evaluation(evaluation)
    path = folder.cell_page(cell)
    assert path is not None  # `cell` is one of the folder's
    pages.add(
        path,
        "cell.html.j2",
        folder=folder,
        cell=cell,
        title=f"{training_label(evaluation)}, {mode}",
        paper=_published(folder, cell),
        ours=why.summary(records),
        groups=claim_cards.about_cell(folder, cell),
        seeds=_seeds(pages, folder, evaluation, mode),
        training=training_label(training),
        curve=charts.curve(curves.joined(folder.root, folder.project, training), mode),
        histogram=charts.histogram(summed) if summed else None,
        settings=list(_settings(settings)),
        settings_digest=digest(settings),
    )


def _published(folder: Folder, cell: str) -> dict[str, str]:
    """Return what the paper states for the cell: its number, its ±, how well it is known; empty if nothing."""
    claimed = [about for claim in folder.paper.claims.entries.values() for about in claim.cells]
    named = [about.line for about in claimed if about.cell == cell]
    if not named:
        return {}
    number = folder.paper.lines.loc[named[0]]
    return {
        "Published": f"{number['printed']} %",
        "± means": str(number["half_width_meaning"]),
        "Known": known(number["confidence_grade"]),
        "Source": str(number["source"]),
    }


def _seeds(pages: Pages, folder: Folder, evaluation: str, mode: Mode) -> list[Seed]:
    recorded = {record.seed: record for record in folder.records_of(evaluation, mode)}
    found = []
    for seed in folder.project.seeds:
        expected = freshness.cell(folder.project, evaluation, mode, seed)
        command = expected.command + folder.option
        if seed in recorded:
            found.append(_recorded(pages, folder, recorded[seed], command + " FORCE=1"))
        else:
            found.append(Seed(seed=seed, accuracy="", facts={}, files={}, command=command))
    return found


def _recorded(pages: Pages, folder: Folder, record: CellRecord, command: str) -> Seed:
    path = folder.root / record.cell.path
    line = accuracies.frame([record]).iloc[0]
    training = str(record.settings["evaluation"]["training"])
    curve = CURVE.format(training=training, seed=record.seed)
    trained = why.of_this_training(how_trained(folder.root, training, record.seed), record)
    stale = staleness.rests_on_stale([record.cell.path])
    facts = {
        "Tasks": f"{record.tasks:,}, each with {len(record.correct_histogram) - 1} query images",
        "State": "stale: made with other settings or data than now, or not sealed"
        if stale
        else "fresh: made with the settings below",
        "Evaluation": made(how_made(path)),
        "Training": made(trained),
        "Versions": _versions(how_made(path)),
        "Digest of the settings": record.settings_digest,
        "Digest of the training": record.training_digest,
        "Digest of the data": record.data_digest,
        "SHA-256 of the checkpoint": record.checkpoint_digest,
        "Numerics": f"version {record.numerics_version}, {record.precision}",
    }
    beside = Path(record.cell.path).with_suffix(".run.json").as_posix()
    kept = {"record": record.cell.path, "how it was made": beside, "learning curve": curve}
    files = {
        name: pages.copy(folder.prefix + where, folder.root / where)
        for name, where in kept.items()
        if (folder.root / where).exists()
    }
    accuracy = percent(line["accuracy"], line["half_width_tasks"])
    return Seed(seed=record.seed, accuracy=accuracy, facts=facts, files=files, command=command)


def made(run: Mapping[str, Any]) -> str:
    """Say how long something took, on what, when it ended, and with which commit."""
    if not run:
        return "how it was made is not recorded"
    engine = f", engine {run['engine']}" if run.get("engine") else ""
    ended = f", ended {run['ended']}" if run.get("ended") else ""
    machine = f"{run.get('machine', 'an unknown machine')} ({run.get('device', 'unknown device')})"
    return f"{clock(run.get('seconds'))} on {machine}{engine}{ended}, commit {run.get('commit', 'unknown')}"


def clock(seconds: object) -> str:
    """Return a time in seconds as printed, like `3 h 40 min` or `12 s`."""
    if not isinstance(seconds, int | float):
        return "an unknown time"
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def _versions(run: Mapping[str, Any]) -> str:
    packages = {"python": run.get("python", MISSING), **dict(sorted(run.get("versions", {}).items()))}
    return ", ".join(f"{name} {version}" for name, version in packages.items())


def _settings(settings: Mapping[str, Any], place: str = "") -> Iterator[Setting]:
    """Yield resolved settings, those of a section after one another, like training.inner_steps."""
    declared = {item.name: item for item in dataclasses.fields(_MEANT[place])} if place in _MEANT else {}
    for name, value in settings.items():
        where = f"{place}.{name}" if place else name
        if isinstance(value, Mapping):
            yield from _settings(value, where)
        else:
            meaning = declared[name].metadata.get("help", "") if name in declared else ""
            yield Setting(name=where, value=json.dumps(value).strip('"'), meaning=meaning)
