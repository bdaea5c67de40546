"""The records of cells and learning curves: small text files that pass from computing to reporting. No torch.

A cell's record keeps the histogram of correct answers per task. That is a sufficient statistic: every interval can be
computed from it without the checkpoint. Computing a cell again gives the same record, byte for byte. Time, machine and
versions go into the run file beside it, `seed-<n>.run.json`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from firstorder.errors import UserError
from firstorder.files import Kind, MissingFileError, replacing
from firstorder.records.value_types import REPLACES, wrong_record, wrong_run
from firstorder.settings import CURVE, Cell, Mode, Project, digest

SCHEMA = 1
SEAL = ("sha256", "run_digest")  # of a run file: the digests of the result beside it and of the run file's own values
MOST_BYTES = 64 << 20  # of a record, run file or CSV; ours have a few hundred thousand at most
RECORD_FILE = Kind(
    "a record",
    MOST_BYTES,
    "restore it (git checkout -- {path}) or delete it and compute the cell again",
    "no such record; compute it with: make cell CELL=... SEED=...",
)
RUN_FILE = Kind("a run file", MOST_BYTES, "restore it (git checkout -- {path}) or delete it")
CSV_FILE = Kind("a CSV file", MOST_BYTES, "restore it or compute it again")


class UnfinishedError(UserError):
    """A result whose replacement was interrupted between its two files."""


@dataclass(frozen=True, kw_only=True)
class CellRecord:
    """One cell for one seed.

    `correct_histogram` [way * query + 1]: entry c counts the tasks with c correct answers, where query is the number of
    query images per class. `precision` is that of matrix products in training and evaluation, from the settings.
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
        """Name of its evaluation: algorithm/dataset-Nway/Kshot."""
        return f"{self.algorithm}/{self.dataset}-{self.way}way/{self.shot}shot"

    @property
    def cell(self) -> Cell:
        """The cell that was measured."""
        return Cell(self.evaluation, self.mode, self.seed)

    @property
    def column(self) -> str:
        """Its column in a table: dataset-Nway/Kshot."""
        return f"{self.dataset}-{self.way}way/{self.shot}shot"

    def to_json(self) -> str:
        """Return the record as text, the same bytes for the same content."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, indent=1, allow_nan=False) + "\n"


def make_record(
    project: Project, cell: Cell, digests: Mapping[str, str], correct_histogram: tuple[int, ...]
) -> CellRecord:
    """Make the record of a cell of `project`.

    `digests` has data_digest, training_digest and checkpoint_digest.
    """
    evaluation = project.evaluations[cell.evaluation]
    training = project.trainings[evaluation.training]
    settings = project.settings_of_evaluation(cell.evaluation)
    return CellRecord(
        algorithm=training.algorithm,
        dataset=project.dataset_name(training.dataset),
        way=training.way,
        shot=evaluation.shot,
        mode=cell.mode,
        seed=cell.seed,
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
    """Return the precision of matrix products in resolved settings; float32 if they name none."""
    return str(settings["training"].get("precision", "float32"))


def read_record(path: Path) -> CellRecord:
    """Read one record and check that it is consistent.

    Raises UserError, naming the file, if it is not JSON, has missing or unknown keys or another schema, if its
    histogram does not add up to its tasks or its settings do not match their digest, or if it was changed after it was
    recorded.
    """
    return read_with_run(path)[0]


def read_with_run(path: Path) -> tuple[CellRecord, dict[str, Any]]:
    """Read one record as `read_record`, and its run file, which is empty if there is none."""
    content = RECORD_FILE.read(path)
    values = RECORD_FILE.parse_json(path, content)
    if values.get("schema") != SCHEMA:
        raise RECORD_FILE.refused(path, f"expected schema {SCHEMA}, found {values.get('schema')!r:.40}")
    if (wrong := wrong_record(values, dataclasses.fields(CellRecord))) is not None:
        raise RECORD_FILE.refused(path, wrong)
    record = CellRecord(**{**values, "correct_histogram": tuple(values["correct_histogram"])})
    queries = record.way * record.settings["evaluation"].get("query", 1)
    if len(record.correct_histogram) != queries + 1 or sum(record.correct_histogram) != record.tasks:
        counts = f"{queries + 1} counts that add up to {record.tasks} tasks"
        raise RECORD_FILE.refused(path, f"correct_histogram must have {counts}")
    if (found := digest(record.settings)) != record.settings_digest:
        why = f"settings_digest is {record.settings_digest:.40}, its settings give {found}"
        raise RECORD_FILE.refused(path, why)
    return record, check_unedited(path, content)


def check_unedited(path: Path, content: bytes) -> dict[str, Any]:
    """Return the run file of the recorded file `path`; raises UserError if its SHA-256 is not that of `content`.

    So it is, too, if the run file was changed. One without a SHA-256 proves nothing; see `is_sealed`.
    """
    run = read_run(path)
    recorded, found = run.get("sha256"), _sha256(content)
    if recorded not in (None, found):
        if run.get(REPLACES) == found:
            raise UnfinishedError(f"{path}: the process that was to replace it was killed; compute it again")
        beside = path.with_suffix(".run.json").name
        why = f"changed after it was recorded: its SHA-256 is {found[:16]}..., {beside} has {recorded[:16]}..."
        raise RECORD_FILE.refused(path, why)
    if is_sealed(run) and run["run_digest"] != digest_of_run(run):
        raise RUN_FILE.refused(path.with_suffix(".run.json"), "changed after it was written: its run_digest is another")
    return run


def read_run(path: Path) -> dict[str, Any]:
    """Read the run file of `path` (`<name>.run.json` beside it), which says how it was made; empty if there is none.

    Raises UserError if it is no mapping in JSON, or says something in another type than the package writes.
    """
    beside = os.path.splitext(path)[0] + ".run.json"  # noqa: PTH122 (pathlib takes as long as reading; this is called often)
    stamp = None
    try:
        stat = os.stat(beside)  # noqa: PTH116 (as above)
        stamp = stat.st_mtime_ns, stat.st_size, stat.st_ino
    except FileNotFoundError:
        return {}
    except OSError:
        pass  # reading says what is wrong
    try:
        return dict(_read_run(beside, stamp))
    except MissingFileError:
        return {}


def how_made(path: Path) -> dict[str, Any]:
    """Read the run file of `path`; empty if there is none, or it is damaged, which `verify` reports."""
    try:
        return read_run(path)
    except UserError:
        return {}


def how_trained(root: Path, training: str, seed: int | str) -> dict[str, Any]:
    """Read the run file of a training's curve as `how_made`."""
    return how_made(root / CURVE.format(training=training, seed=seed))


@lru_cache(maxsize=4096)
def _read_run(beside: str, stamp: tuple[int, int, int] | None) -> dict[str, Any]:
    """Read a run file, once for each `stamp`: its time, size and file number."""
    run = RUN_FILE.read_json(path := Path(beside))
    if (wrong := wrong_run(run)) is not None:
        raise RUN_FILE.refused(path, wrong)
    return run


def is_sealed(run: Mapping[str, Any]) -> bool:
    """Say whether a run file holds a seal; an empty one, of a result that has none, does not."""
    return all(key in run for key in SEAL)


def read_records(root: Path, project: Project) -> list[CellRecord]:
    """Read the records below `root` that exist and that `project` lists, in the order of params.yaml."""
    records = []
    for cell in project.cells():
        path = root / cell.path
        if path.exists():
            record = read_record(path)
            if record.cell != cell:
                its = f"{record.evaluation}/{record.mode}, seed {record.seed}"
                raise RECORD_FILE.refused(path, f"it is the record of {its}")
            records.append(record)
    return records


def write_record(root: Path, record: CellRecord, run: Mapping[str, Any]) -> Path:
    """Write a record and its run file; return the record's path."""
    path = root / record.cell.path
    write_sealed(path, record.to_json(), run)
    return path


def write_sealed(path: Path, text: str, run: Mapping[str, Any]) -> None:
    """Write a result and the run file that seals it.

    The run file is written first and names the content that is replaced. So a process that is killed between the two
    leaves a pair that is known to be unfinished and is made anew, whereas any other mismatch is an edit and is refused.
    """
    content = text.encode("utf-8")
    replaced = {REPLACES: _sha256(RECORD_FILE.read(path))} if path.exists() else {}
    write_run(path, sealed({**run, **replaced}, content))
    with replacing(path) as part:
        part.write_bytes(content)
    if replaced:
        write_run(path, sealed(run, content))


def write_run(path: Path, run: Mapping[str, Any]) -> None:
    """Write the run file of `path`: how it was made (time, machine, versions), as `<name>.run.json` beside it.

    If `run` is not sealed yet, it is sealed with the present content of `path`.
    """
    if "sha256" not in run and path.exists():
        run = sealed(run, RECORD_FILE.read(path))
    with replacing(path.with_suffix(".run.json")) as part:
        part.write_text(run_text(run), encoding="utf-8")


def made_with(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of a run file that say which resolved settings a file was made with."""
    return {"settings": settings, "settings_digest": digest(settings)}


def sealed(run: Mapping[str, Any], content: bytes) -> dict[str, Any]:
    """Return `run` with the SHA-256 of the file it describes and a digest of itself, which `verify` checks."""
    unsealed = {key: value for key, value in run.items() if key not in SEAL}
    values = {**unsealed, "sha256": _sha256(content)}
    return {**values, "run_digest": digest_of_run(values)}


def digest_of_run(run: Mapping[str, Any]) -> str:
    """Return the digest of a run file's own values."""
    return digest({key: value for key, value in run.items() if key != "run_digest"})


def run_text(run: Mapping[str, Any]) -> str:
    """Return the text of a run file, the same bytes for the same content."""
    return json.dumps(run, sort_keys=True, indent=1) + "\n"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
