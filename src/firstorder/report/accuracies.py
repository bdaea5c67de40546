"""Records as one tidy frame: a row a cell and seed. Every table and figure of accuracies starts here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from firstorder.errors import UserError
from firstorder.files import replacing
from firstorder.report import ACCURACIES, METRICS, frames
from firstorder.report.statistics import accuracy_over_tasks, half_width_over_tasks
from firstorder.results import CellRecord, read_records, stale_records
from firstorder.settings import RECORD, Project

TYPES = {
    "algorithm": "str",
    "dataset": "str",
    "way": "int64",
    "shot": "int64",
    "column": "str",
    "mode": "str",
    "seed": "int64",
    "tasks": "int64",
    "accuracy": "float64",
    "standard_error_tasks": "float64",
    "half_width_tasks": "float64",
}


def fresh_records(root: Path, project: Project) -> list[CellRecord]:
    """Read the records that `project` lists and that exist.

    Raises UserError when one was made with other settings than params.yaml has now: a table must not mix
    two versions of an experiment. It names the first such cell, the setting and the command that rebuilds it.
    """
    records = read_records(root, project)
    stale = stale_records(records, project)
    if stale:
        record, difference = stale[0]
        cell = f"{record.evaluation}/{record.mode}"
        path = root / RECORD.format(evaluation=record.evaluation, mode=record.mode, seed=record.seed)
        others = f" ({len(stale) - 1} more stale)" if len(stale) > 1 else ""
        raise UserError(
            f"{path}: stale, params.yaml has changed since: {difference}{others}; "
            f"rebuild it: make cell CELL={cell} SEED={record.seed}{_directory(root)}"
        )
    return records


def frame(records: Iterable[CellRecord]) -> pd.DataFrame:
    """Return one row a record: accuracy (fraction), its standard error and 95 % half-width over tasks."""
    rows = []
    for record in records:
        accuracy, error = accuracy_over_tasks(record.correct_histogram)
        names = (record.algorithm, record.dataset, record.way, record.shot, record.column, record.mode, record.seed)
        rows.append((*names, record.tasks, accuracy, error, half_width_over_tasks(error)))
    return pd.DataFrame(rows, columns=list(TYPES)).astype(TYPES)


def write(root: Path, project: Project) -> Path:
    """Write results/accuracies.csv, in the order of params.yaml, and return its path.

    Beside it goes results/metrics.json, the mean over seeds of each cell, as `dvc metrics diff` reads it.
    """
    path = root / ACCURACIES
    written = frame(fresh_records(root, project))
    frames.write(path, written)
    means = written.groupby(["algorithm", "column", "mode"])["accuracy"].mean()
    metrics = {"/".join(cell): round(float(mean), 6) for cell, mean in means.items()}
    with replacing(root / METRICS) as part:
        part.write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return path


def _directory(root: Path) -> str:
    """Return ` DIR=...` as make wants it: the folder of params.yaml seen from the one with the Snakefile."""
    here = root.resolve()
    tops = [folder for folder in (here, *here.parents) if (folder / "Snakefile").exists()]
    return f" DIR={here.relative_to(tops[0])}" if tops and tops[0] != here else ""
