"""What crosses from computing to reporting: small text records of cells and learning curves.

A cell's record keeps the histogram of correct answers per task, which is a sufficient statistic: every
interval can be computed anew without a model. It holds nothing that differs between two runs of the same
computation; time, machine and versions go into a `seed-<n>.run.json` beside it. No torch.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firstorder.errors import UserError
from firstorder.files import replacing
from firstorder.settings import RECORD, Mode, Project, digest

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class CellRecord:
    """One cell, one seed.

    `correct_histogram` [way * query + 1]: entry c counts the tasks with c right answers, where query is the number of
    query images a class. `precision`: that of matrix products in training and evaluation, as the settings ask for it.
    """

    algorithm: str
    dataset: str
    way: int
    shot: int
    mode: Mode
    seed: int
    settings: dict[str, Any]
    settings_digest: str
    data_digest: str
    training_digest: str
    checkpoint_digest: str
    numerics_version: int
    precision: str
    tasks: int
    correct_histogram: tuple[int, ...]
    schema: int = SCHEMA

    @property
    def evaluation(self) -> str:
        """Name of the evaluation that made it: algorithm/dataset-Nway/Kshot."""
        return f"{self.algorithm}/{self.dataset}-{self.way}way/{self.shot}shot"

    @property
    def column(self) -> str:
        """Column of a table that it belongs to: dataset-Nway/Kshot."""
        return f"{self.dataset}-{self.way}way/{self.shot}shot"

    def to_json(self) -> str:
        """Return the record as text, the same bytes for the same content."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, indent=1, allow_nan=False) + "\n"


def make_record(
    project: Project, cell: tuple[str, Mode, int], digests: Mapping[str, str], correct_histogram: tuple[int, ...]
) -> CellRecord:
    """Make the record of `cell` (evaluation, mode, seed) as `project` defines it.

    `digests` has data_digest, training_digest and checkpoint_digest.
    """
    name, mode, seed = cell
    evaluation = project.evaluations[name]
    training = project.trainings[evaluation.training]
    settings = project.settings_of_evaluation(name)
    return CellRecord(
        algorithm=training.algorithm,
        dataset=project.dataset_name(training.dataset),
        way=training.way,
        shot=evaluation.shot,
        mode=mode,
        seed=seed,
        settings=settings,
        settings_digest=digest(settings),
        data_digest=digests["data_digest"],
        training_digest=digests["training_digest"],
        checkpoint_digest=digests["checkpoint_digest"],
        numerics_version=settings["numerics_version"],
        precision=precision_of(settings),
        tasks=evaluation.tasks,
        correct_histogram=correct_histogram,
    )


def precision_of(settings: Mapping[str, Any]) -> str:
    """Return the precision of matrix products that resolved settings ask for: float32 unless they name another."""
    return str(settings["training"].get("precision", "float32"))


def read_record(path: Path) -> CellRecord:
    """Read one record and check that it holds together.

    Raises UserError, naming the file, when it is not JSON, lacks or adds a key, was made under another
    schema, its histogram does not add up to its tasks, its settings do not match their digest, or it was
    changed after it was recorded.
    """
    try:
        content = path.read_bytes()
        values = json.loads(content.decode("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such record; compute it with: make cell CELL=... SEED=...") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise _broken(path, f"not valid JSON ({error})") from None
    if not isinstance(values, dict) or values.get("schema") != SCHEMA:
        found = values.get("schema") if isinstance(values, dict) else values
        raise _broken(path, f"expected schema {SCHEMA}, found {found!r}")
    expected = {f.name for f in dataclasses.fields(CellRecord)}
    if set(values) != expected:
        raise _broken(path, f"keys missing or unknown: {', '.join(sorted(expected ^ set(values)))}")
    record = CellRecord(**{**values, "correct_histogram": tuple(values["correct_histogram"])})
    queries = record.way * record.settings.get("evaluation", {}).get("query", 1)
    if len(record.correct_histogram) != queries + 1 or sum(record.correct_histogram) != record.tasks:
        raise _broken(path, f"correct_histogram must have {queries + 1} counts that add up to {record.tasks} tasks")
    if digest(record.settings) != record.settings_digest:
        raise _broken(path, f"settings_digest is {record.settings_digest}, its settings give {digest(record.settings)}")
    check_unedited(path, content)
    return record


def check_unedited(path: Path, content: bytes) -> None:
    """Raise UserError where `content`, that of the recorded file `path`, is not what was recorded.

    Its SHA-256 is in the `.run.json` beside it; of a file that has none there, nothing can be told.
    """
    recorded, found = read_run(path).get("sha256"), hashlib.sha256(content).hexdigest()
    if recorded not in (None, found):
        beside = path.with_suffix(".run.json").name
        raise _broken(
            path, f"changed after it was recorded: its SHA-256 is {found[:16]}..., {beside} has {recorded[:16]}..."
        )


def read_run(path: Path) -> dict[str, Any]:
    """Read how the file `path` was made (`<name>.run.json` beside it); empty where nothing says so."""
    beside = path.with_suffix(".run.json")
    try:
        run = json.loads(beside.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{beside}: not valid JSON ({error}); restore it (git checkout -- {beside}) or delete it"
        ) from None
    return run if isinstance(run, dict) else {}


def read_records(root: Path, project: Project) -> list[CellRecord]:
    """Read all records below `root` that `project` lists, in its order; what is not there is left out."""
    records = []
    for evaluation, mode, seed in project.cells():
        path = root / RECORD.format(evaluation=evaluation, mode=mode, seed=seed)
        if path.exists():
            record = read_record(path)
            if (record.evaluation, record.mode, record.seed) != (evaluation, mode, seed):
                raise _broken(path, f"it is the record of {record.evaluation}/{record.mode}, seed {record.seed}")
            records.append(record)
    return records


def first_difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> str | None:
    """Name the first setting in which two resolved settings differ, with both values; None if they agree."""
    # The evaluation's own settings last: a change of the training says more, as it asks for more to be computed.
    for key in sorted(set(old) | set(new), key=lambda key: (key == "evaluation", key)):
        ours, theirs = old.get(key, "absent"), new.get(key, "absent")
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            inner = first_difference(ours, theirs, f"{prefix}{key}.")
            if inner:
                return inner
        elif json.dumps(ours) != json.dumps(theirs):
            return f"{prefix}{key}: {json.dumps(ours)} -> {json.dumps(theirs)}"
    return None


def write_record(root: Path, record: CellRecord, run: Mapping[str, Any]) -> Path:
    """Write a record, and how it was made in `seed-<n>.run.json` beside it; return the record's path."""
    path = root / RECORD.format(evaluation=record.evaluation, mode=record.mode, seed=record.seed)
    text = record.to_json()
    write_run(path, sealed(run, text.encode()))
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def write_run(path: Path, run: Mapping[str, Any]) -> None:
    """Write how the file `path` was made (time, machine, versions) beside it, as `<name>.run.json`.

    Unless `run` is sealed already, it is sealed with the content that `path` has now.
    """
    if "sha256" not in run and path.exists():
        run = sealed(run, path.read_bytes())
    with replacing(path.with_suffix(".run.json")) as part:
        part.write_text(run_text(run), encoding="utf-8")


def made_with(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a `.run.json` that says with which resolved settings a file was made."""
    return {"settings": settings, "settings_digest": digest(settings)}


def sealed(run: Mapping[str, Any], content: bytes) -> dict[str, Any]:
    """Add to `run` the SHA-256 of the file that it is about, and a digest of all it says then; `verify` checks both."""
    unsealed = {key: value for key, value in run.items() if key not in ("sha256", "run_digest")}
    values = {**unsealed, "sha256": hashlib.sha256(content).hexdigest()}
    return {**values, "run_digest": digest(values)}


def run_text(run: Mapping[str, Any]) -> str:
    """Return a `.run.json` as text, the same bytes for the same content."""
    return json.dumps(run, sort_keys=True, indent=1) + "\n"


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a small CSV in one go: the old file stays until the new one is whole."""
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def _broken(path: Path, why: str) -> UserError:
    return UserError(f"{path}: {why}; restore it (git checkout -- {path}) or delete it and compute the cell again")
