"""Check what is recorded as text: cells, curves, how they were made, and the table of accuracies made from them.

A newcomer would get wrong: a record that holds together may still have been edited by hand, digest and all. So the
`.run.json` beside it carries the SHA-256 of its bytes, and a digest of itself.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firstorder.errors import UserError
from firstorder.records.cells import CellRecord, precision_of, read_record, read_run, run_text
from firstorder.report import ACCURACIES, METRICS
from firstorder.report.read import accuracies, csv_frames
from firstorder.settings import CURVE, RECORD, Project, digest
from firstorder.upkeep.dvc import hash_of
from firstorder.upkeep.mismatches import Findings


@dataclass(frozen=True)
class Place:
    """A folder with a params.yaml, what that says, and where mismatches are noted."""

    root: Path
    project: Project
    findings: Findings

    @property
    def params(self) -> str:
        """The option that names this folder's params.yaml on the command line."""
        return "" if self.root == Path() else f" --params {self.root / 'params.yaml'}"


def check_records(place: Place) -> list[CellRecord]:
    """Check every cell's record and its `.run.json`; return the records that hold together."""
    sound = []
    for path in sorted((place.root / "results/cells").rglob("seed-*.json")):
        if path.name.endswith(".run.json"):
            continue
        evaluation, seed = path.parent.parent.relative_to(place.root / "results/cells").as_posix(), _seed(path)
        again = f"firstorder evaluate {evaluation} --seed {seed}{place.params}"
        place.findings.checked["records"] += 1
        if _run_agrees(place, path, again) and (record := _hold_together(place, path, again)):
            sound.append(record)
    return sound


def check_curves(place: Place) -> None:
    """Check every recorded CSV (curves and what the figures' simulations gave) against its `.run.json`."""
    for path in sorted((place.root / "results/curves").rglob("*.csv")):
        place.findings.checked["curves"] += 1
        _run_agrees(place, path, _making(place, path))


def how_made(path: Path) -> dict[str, Any]:
    """Read the `.run.json` beside `path`; empty where it is missing or not JSON (which `_run_agrees` notes)."""
    try:
        return read_run(path)
    except UserError:
        return {}


def check_derived(place: Place, sound: Sequence[CellRecord]) -> None:
    """Check results/accuracies.csv and metrics.json against the records that params.yaml lists."""
    path = place.root / ACCURACIES
    if not path.exists():
        place.findings.skipped["tables of accuracies (not made yet)"] += 1
        return
    made = {(record.evaluation, record.mode, record.seed): record for record in sound}
    listed = place.project.cells()
    if any((place.root / _record(*cell)).exists() and cell not in made for cell in listed):
        place.findings.skipped["tables of accuracies (a record is broken)"] += 1
        return
    place.findings.checked["tables of accuracies"] += 1
    frame = accuracies.frame([made[cell] for cell in listed if cell in made])
    again = "make report" + (f" DIR={place.root}" if place.root != Path() else "")
    if difference := _difference(csv_frames.text(frame), path.read_bytes()):
        place.findings.differs(path, *difference, again)
    path = place.root / METRICS
    if not path.exists() or path.read_bytes() != accuracies.metrics(frame).encode():
        place.findings.differs(path, "the means of the records", "another text", again)


def _difference(expected: str, found: bytes) -> tuple[str, str] | None:
    """Return the first row in which a CSV is not what it should be, as expected and as found; more columns are fine."""
    text = found.decode(errors="replace")
    if text == expected:
        return None
    wanted, rows = (list(csv.DictReader(content.splitlines())) for content in (expected, text))
    for number in range(max(len(wanted), len(rows))):
        ours, theirs = (lines[number] if number < len(lines) else {} for lines in (wanted, rows))
        for column in ours or theirs:
            if ours.get(column) != theirs.get(column):
                where = f"as {column} of row {number + 1}"
                return f"{ours.get(column)} {where}", f"{theirs.get(column)}"
    same_columns = text.partition("\n")[0] == expected.partition("\n")[0]
    return ("the text made from the records", "other line ends or quotes") if same_columns else None


def _record(evaluation: str, mode: str, seed: int) -> str:
    return RECORD.format(evaluation=evaluation, mode=mode, seed=seed)


def _seed(path: Path) -> str:
    return path.stem.removeprefix("seed-")


def _run_agrees(place: Place, path: Path, again: str) -> bool:
    """Check the `.run.json` of `path`, and `path` against the SHA-256 in it; say whether there was nothing to note."""
    note = path.with_suffix(".run.json")
    findings = place.findings
    if not note.exists():
        findings.skipped["records and curves without a .run.json"] += 1
        return True
    text, run = note.read_bytes(), how_made(path)
    if run_text(run).encode() != text:
        findings.differs(note, "JSON as the package writes it", "other text", again, in_git=True)
        return False
    if not {"sha256", "run_digest"} & set(run):
        findings.skipped["records and curves from before they were sealed"] += 1
        return True
    claimed = run.get("run_digest")
    if claimed != digest({key: value for key, value in run.items() if key != "run_digest"}):
        findings.differs(note, f"run_digest {claimed} over its other values", "other values", again, in_git=True)
        return False
    claimed = str(run.get("sha256"))
    if (found := hash_of(path, "sha256")) != claimed:
        findings.differs(path, f"SHA-256 {claimed[:16]}...", f"{found[:16]}...", again, in_git=True)
        return False
    training, seed = run.get("training"), run.get("seed")
    if None not in (training, seed) and path != place.root / CURVE.format(training=training, seed=seed):
        findings.differs(note, f"how {path.name} was made", f"training {training} seed {seed}", again, in_git=True)
        return False
    return True


def _hold_together(place: Place, path: Path, again: str) -> CellRecord | None:
    """Read a record; None, and a mismatch noted, unless all that it says agrees with the rest of it and its path."""
    try:
        record = read_record(path)
    except UserError as error:
        place.findings.differs(path, "a whole record", str(error).removeprefix(f"{path}: "), again, in_git=True)
        return None
    # Whatever else a flipped byte may do to JSON that can still be read.
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        place.findings.differs(path, "a whole record", f"{type(error).__name__}: {error}", again, in_git=True)
        return None
    for what, expected, found in _claims(place, path, record):
        if expected != found:
            place.findings.differs(path, f"{what} {expected}", found, again, in_git=True)
            return None
    return record


def _claims(place: Place, path: Path, record: CellRecord) -> Iterator[tuple[str, object, object]]:
    """List what a record says twice, or says and is: what, as it should be, as it is."""
    training, evaluation = record.settings["training"], record.settings["evaluation"]
    of_training = {key: value for key, value in record.settings.items() if key != "evaluation"}
    yield "place", place.root / _record(record.evaluation, record.mode, record.seed), path
    yield "training_digest", digest(of_training), record.training_digest
    yield "numerics_version", record.settings["numerics_version"], record.numerics_version
    yield "precision", precision_of(record.settings), record.precision
    yield "algorithm", training["algorithm"], record.algorithm
    yield "way", training["way"], record.way
    yield "dataset", record.settings["dataset"].get("pack", training["dataset"]), record.dataset
    yield "shot", evaluation["shot"], record.shot
    yield "tasks", evaluation["tasks"], record.tasks
    run = how_made(place.root / CURVE.format(training=evaluation["training"], seed=record.seed))
    if run.get("settings_digest") == record.training_digest:
        yield "its training's data_digest", run.get("data_digest", record.data_digest), record.data_digest
        made = run.get("checkpoint_digest", record.checkpoint_digest)
        yield "its training's checkpoint_digest", made, record.checkpoint_digest
    yield "text as the package writes it", record.to_json().encode() == path.read_bytes(), True


def _making(place: Place, path: Path) -> str:
    """Return the command that makes a recorded CSV."""
    name = path.relative_to(place.root / "results/curves").parent.as_posix()
    kind, _, rest = name.partition("/")
    seed = f" --seed {_seed(path)}" if path.name.startswith("seed-") else ""
    verb = {"adaptation": f"adaptation {rest}", "alphabets": f"alphabets {rest}", "theory": f"inner-products {rest}"}
    if not seed:
        return f"firstorder {kind}{place.params}"
    return f"firstorder {verb.get(kind, f'train {name}')}{seed}{place.params}"
