"""One cell's number in one line: what was measured, how it compares with what is committed, and the paper's number."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from firstorder.records.cells import CellRecord
from firstorder.report.text.formatting import percent


def accuracy(record: CellRecord) -> float:
    """Return the fraction of right answers over all tasks of a record."""
    histogram = record.correct_histogram
    right = sum(correct * tasks for correct, tasks in enumerate(histogram))
    return right / (record.tasks * (len(histogram) - 1))


def line(
    record: CellRecord, run: Mapping[str, Any], before: tuple[CellRecord, Mapping[str, Any]] | None, paper: str | None
) -> str:
    """Return the line of a record and its run file.

    `before` are those that are committed, or None; `paper` is the paper's number as printed, in percent, or None.
    """
    parts = [f"{percent(accuracy(record))} % {record.mode}, {record.tasks:,} tasks, seed {record.seed}"]
    parts.append(_compared(record, run, before))
    parts.append("the paper has no number for it" if paper is None else f"paper {paper.split(' ')[0]}")
    return "; ".join(parts)


def _compared(record: CellRecord, run: Mapping[str, Any], before: tuple[CellRecord, Mapping[str, Any]] | None) -> str:
    """Say where the number was computed, and how it compares with the committed one."""
    if before is None:
        return f"computed on {_device(run)}"
    same, where = record.to_json() == before[0].to_json(), _device(before[1])
    if same and run.get("run_digest") == before[1].get("run_digest"):
        return f"recorded on {where}"
    if same:
        return f"the same bytes as recorded on {where}"
    return f"recorded on {where}: {percent(accuracy(before[0]))} %"


def _device(run: Mapping[str, Any]) -> str:
    """Name the processor or GPU with its article: `an AMD EPYC`."""
    device = str(run.get("device", "cpu"))
    name = str(run.get("machine", "unknown machine")).split(",")[0] if device.startswith("cpu") else device
    name = re.sub(r"\((R|TM)\)| Processor$", "", name).strip()
    return f"a{'n' if re.match('[AEIO]|NV|[FHLMNRSX][A-Z]', name) else ''} {name}"
