"""Records as one tidy frame, a row for each cell and seed: the source of every table and figure of accuracies."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path

import pandas as pd

from firstorder.files import replacing
from firstorder.records import freshness
from firstorder.records.cells import CellRecord, read_records
from firstorder.report import ACCURACIES, METRICS
from firstorder.report.read import csv_frames, staleness
from firstorder.report.read.statistics import accuracy_over_tasks, half_width_over_tasks
from firstorder.settings import Project

TYPES = (
    {"algorithm": "str", "dataset": "str", "way": "int64", "shot": "int64", "column": "str", "mode": "str"}
    | {"seed": "int64", "tasks": "int64"}
    | dict.fromkeys(("accuracy", "standard_error_tasks", "half_width_tasks"), "float64")
)


def fresh_records(root: Path, project: Project, cells: Collection[str] | None = None) -> list[CellRecord]:
    """Read the records that `project` lists and that exist; of these `cells` (algorithm/column/mode) alone, if given.

    Raises UserError when one was made with other settings or data than the current ones: a table must not mix two
    versions of an experiment. It names the first such cell, what differs and the command that rebuilds it. Inside
    staleness.allowed() such records are among those returned.
    """
    records = read_records(root, project)
    if cells is not None:
        records = [record for record in records if f"{record.evaluation}/{record.mode}" in cells]
    expected = [freshness.cell(project, *record.cell) for record in records]
    staleness.check(root, expected, {item.path: record for item, record in zip(expected, records, strict=True)})
    return records


def frame(records: Iterable[CellRecord]) -> pd.DataFrame:
    """Return one row a record: accuracy (fraction), its standard error and 95 % half-width over tasks.

    Where a stale record is among them, the column `stale` says which are.
    """
    rows, paths = [], []
    for record in records:
        paths.append([record.cell.path])
        accuracy, error = accuracy_over_tasks(record.correct_histogram)
        names = (record.algorithm, record.dataset, record.way, record.shot, record.column, record.mode, record.seed)
        rows.append((*names, record.tasks, accuracy, error, half_width_over_tasks(error)))
    return staleness.marked_by(pd.DataFrame(rows, columns=list(TYPES)).astype(TYPES), paths)


def write(root: Path, project: Project) -> Path:
    """Write results/accuracies.csv, in the order of params.yaml, and return its path.

    Beside it goes results/metrics.json, the mean over seeds of each cell, as `dvc metrics diff` reads it.
    """
    path = root / ACCURACIES
    written = frame(fresh_records(root, project))
    csv_frames.write(path, written)
    with replacing(root / METRICS) as part:
        part.write_text(metrics(written), encoding="utf-8")
    return path


def metrics(written: pd.DataFrame) -> str:
    """Return results/metrics.json: the mean accuracy over seeds (fraction) of each cell of the frame.

    It has no place for a mark, so stale cells are left out.
    """
    if csv_frames.STALE in written:
        written = written[~written[csv_frames.STALE]]
    means = written.groupby(["algorithm", "column", "mode"])["accuracy"].mean()
    values = {"/".join(cell): round(float(mean), 6) for cell, mean in means.items()}
    return json.dumps(values, indent=1, sort_keys=True) + "\n"
