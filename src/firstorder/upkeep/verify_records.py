"""Check the results kept as text: cells, curves, their run files, and the table of accuracies made from them.

A record may agree with itself and still have been edited by hand, digests included. Its run file (`.run.json`)
therefore holds the SHA-256 of the record's bytes and a digest of its own values.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from firstorder.errors import UserError, reason
from firstorder.records import freshness
from firstorder.records.cells import (
    CSV_FILE,
    RECORD_FILE,
    RUN_FILE,
    SEAL,
    CellRecord,
    digest_of_run,
    how_made,
    how_trained,
    precision_of,
    read_record,
    run_text,
)
from firstorder.records.placement import misplaced
from firstorder.report import ACCURACIES, METRICS
from firstorder.report.read import accuracies, csv_frames
from firstorder.settings import Project, digest
from firstorder.upkeep.mismatches import Verification
from firstorder.upkeep.verify_curves import wrong_content


@dataclass(frozen=True)
class Target:
    """One folder to verify: its path, its params.yaml as a project, and the verification to add to."""

    root: Path
    project: Project
    verification: Verification

    @cached_property
    def wanted(self) -> dict[str, dict[str, Any]]:
        """The settings that each result should be made with, by its path."""
        return {item.path: item.wanted for item in freshness.everything(self.project)}

    @property
    def params(self) -> str:
        """The command-line option that names this folder's params.yaml; empty for the current folder."""
        return "" if self.root == Path() else f" --params {self.root / 'params.yaml'}"


def check_records(target: Target) -> list[CellRecord]:
    """Check every cell's record and its run file; return the valid records."""
    valid = []
    for path in sorted((target.root / "results/cells").rglob("seed-*.json")):
        if not path.name.endswith(".run.json") and (record := check_record(target, path)):
            valid.append(record)
    return valid


def check_record(target: Target, path: Path) -> CellRecord | None:
    """Check one record and its run file; return it if it is valid."""
    again = _evaluate(target, path)
    target.verification.checked["records"] += 1
    return _read_consistent(target, path, again) if _agrees_with_run_file(target, path, again) else None


def check_curves(target: Target) -> None:
    """Check every CSV of results/curves."""
    for path in sorted((target.root / "results/curves").rglob("*.csv")):
        check_curve(target, path)


def check_curve(target: Target, path: Path) -> None:
    """Check a learning curve, or the result of a study, against its run file."""
    target.verification.checked["curves"] += 1
    again = _command_for(target, path)
    if not _agrees_with_run_file(target, path, again):
        return
    name = path.relative_to(target.root / "results/curves").as_posix()
    if wrong := wrong_content(path, name, how_made(path), target.wanted.get(f"results/curves/{name}")):
        target.verification.differs(path, *wrong, again, in_git=True)


def check_lost(target: Target) -> None:
    """Name each run file whose result is gone."""
    for kind, suffix in (("cells", ".json"), ("curves", ".csv")):
        below = target.root / "results" / kind
        for run_file in sorted(below.rglob("*.run.json")):
            path = run_file.with_name(run_file.name.removesuffix(".run.json") + suffix)
            if not path.exists():
                again = _command_for(target, path) if kind == "curves" else _evaluate(target, path)
                target.verification.differs(path, "the result that its run file seals", "none", again, in_git=True)


def _evaluate(target: Target, path: Path) -> str:
    """Return the command that computes a record."""
    evaluation = "/".join(path.relative_to(target.root / "results/cells").parts[:-2])
    return f"firstorder evaluate {evaluation} --seed {_seed(path)}{target.params}"


def check_derived(target: Target, valid: Sequence[CellRecord]) -> None:
    """Check results/accuracies.csv and metrics.json against the records of the cells in params.yaml."""
    path = target.root / ACCURACIES
    if not path.exists():
        target.verification.skipped["tables of accuracies (not made yet)"] += 1
        return
    made = {record.cell: record for record in valid}
    listed = target.project.cells()
    if any((target.root / cell.path).exists() and cell not in made for cell in listed):
        target.verification.skipped["tables of accuracies (a record is broken)"] += 1
        return
    target.verification.checked["tables of accuracies"] += 1
    frame = accuracies.frame([made[cell] for cell in listed if cell in made])
    again = "make report" + (f" DIR={target.root}" if target.root != Path() else "")
    if difference := _difference(csv_frames.text(frame), CSV_FILE.read(path)):
        target.verification.differs(path, *difference, again)
    path = target.root / METRICS
    if not path.exists() or RECORD_FILE.read(path) != accuracies.metrics(frame).encode():
        target.verification.differs(path, "the means of the records", "another text", again)


def _difference(expected: str, found: bytes) -> tuple[str, str] | None:
    """Return the first differing value of a CSV, as expected and as found; additional columns are allowed."""
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


def _seed(path: Path) -> str:
    return path.stem.removeprefix("seed-")


def _agrees_with_run_file(target: Target, path: Path, again: str) -> bool:
    """Check the run file of `path` against its own digest and `path` against the SHA-256 in it; False on a mismatch.

    `again` is the command that computes `path` again.
    """
    run_file = path.with_suffix(".run.json")
    verification = target.verification
    if not run_file.exists():
        return _lacks_seal(target, path, again)
    try:
        text, run = RUN_FILE.read(run_file), how_made(path)
    except UserError as error:
        verification.broken(run_file, error, again)
        return False
    if run_text(run).encode() != text:
        verification.differs(run_file, "JSON as the package writes it", "other text", again, in_git=True)
        return False
    if not set(SEAL) & set(run):
        return _lacks_seal(target, run_file, again)
    claimed = run.get("run_digest")
    if claimed != digest_of_run(run):
        verification.differs(
            run_file, f"run_digest {claimed} over its other values", "other values", again, in_git=True
        )
        return False
    claimed = str(run.get("sha256"))
    if (found := verification.hash_of(path, "sha256", CSV_FILE if path.suffix == ".csv" else RECORD_FILE)) is None:
        return False
    if found != claimed:
        verification.differs(path, f"SHA-256 {claimed[:16]}...", f"{found[:16]}...", again, in_git=True)
        return False
    if (whose := misplaced(target.root, path.relative_to(target.root).as_posix(), run)) is not None:
        expected, found = f"the run file of {path.name}", whose
        verification.differs(run_file, expected, found, again, in_git=True)
        return False
    return True


def _lacks_seal(target: Target, wrong: Path, again: str) -> bool:
    """Add a mismatch for a result without a seal; return False."""
    fix = f"python tools/seal_results.py {target.root}, if it is from before there were seals, or {again}"
    target.verification.differs(wrong, "a run file that seals it", "none", fix, in_git=True)
    return False


def _read_consistent(target: Target, path: Path, again: str) -> CellRecord | None:
    """Read a record whose fields agree with each other and with its path; else add a mismatch and return None."""
    try:
        record = read_record(path)
    except UserError as error:
        target.verification.differs(path, "a whole record", reason(error, path), again, in_git=True)
        return None
    try:
        differing = next((each for each in _redundant_fields(target, path, record) if each[1] != each[2]), None)
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # settings that are not whole
        differing = ("settings", "those of an evaluation", f"{type(error).__name__}: {error}")
    if differing is not None:
        name, expected, found = differing
        target.verification.differs(path, f"{name} {expected}", found, again, in_git=True)
        return None
    return record


def _redundant_fields(target: Target, path: Path, record: CellRecord) -> Iterator[tuple[str, object, object]]:
    """Yield (name, expected, found) for each redundant field of a record."""
    training, evaluation = record.settings["training"], record.settings["evaluation"]
    of_training = {key: value for key, value in record.settings.items() if key != "evaluation"}
    yield "path", target.root / record.cell.path, path
    yield "training_digest", digest(of_training), record.training_digest
    yield "numerics_version", record.settings["numerics_version"], record.numerics_version
    yield "precision", precision_of(record.settings), record.precision
    yield "algorithm", training["algorithm"], record.algorithm
    yield "way", training["way"], record.way
    yield "dataset", record.settings["dataset"].get("pack", training["dataset"]), record.dataset
    yield "shot", evaluation["shot"], record.shot
    yield "tasks", evaluation["tasks"], record.tasks
    run = how_trained(target.root, evaluation["training"], record.seed)
    if run.get("settings_digest") == record.training_digest:
        yield "its training's data_digest", run.get("data_digest", record.data_digest), record.data_digest
        made = run.get("checkpoint_digest", record.checkpoint_digest)
        yield "its training's checkpoint_digest", made, record.checkpoint_digest
    yield "text as the package writes it", record.to_json().encode() == RECORD_FILE.read(path), True


def _command_for(target: Target, path: Path) -> str:
    """Return the command that computes a CSV of results/curves."""
    name = path.relative_to(target.root / "results/curves").parent.as_posix()
    kind, _, rest = name.partition("/")
    seed = f" --seed {_seed(path)}" if path.name.startswith("seed-") else ""
    verb = {"adaptation": f"adaptation {rest}", "alphabets": f"alphabets {rest}", "theory": f"inner-products {rest}"}
    if not seed:
        return f"firstorder {kind}{target.params}"
    return f"firstorder {verb.get(kind, f'train {name}')}{seed}{target.params}"
