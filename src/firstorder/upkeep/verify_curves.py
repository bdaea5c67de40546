"""Check that what a CSV of results/curves says is possible: see records/measured.py."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from firstorder.errors import UserError
from firstorder.records.cells import CSV_FILE
from firstorder.records.measured import STUDIES, Wrong, wrong_curve, wrong_study, wrong_values
from firstorder.settings import digest


def wrong_content(path: Path, name: str, run: Mapping[str, Any], wanted: dict[str, Any] | None) -> Wrong | None:
    """Return what the first impossible value of a CSV should be and what it is; None if there is none.

    `name` is its path below results/curves and `run` its run file. If that holds no settings, they are `wanted`, those
    of params.yaml, where they have the digest in the run file; else its rows cannot be compared with settings.
    """
    try:
        header, *rows = list(csv.reader(CSV_FILE.read_text(path).splitlines(), strict=True))
    except (ValueError, UserError, csv.Error) as error:
        return "a heading and rows", f"{error}"
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            return f"{len(header)} values in row {number}", f"{len(row)}"
    settings, stated = run.get("settings"), run.get("settings_digest")
    if settings is None and wanted is not None and stated == digest(wanted):
        settings = wanted
    elif settings is None and run and stated is None:
        return "settings_digest in its run file", "none"
    elif settings is not None and stated != digest(settings):
        return "settings_digest of the settings in its run file", f"{stated}"
    kind = next((kind for kind in STUDIES if name.startswith(f"{kind}/") or name == f"{kind}.csv"), None)
    if kind is not None:
        return wrong_study(kind, header, rows, settings or {})
    if settings is None:
        return wrong_values(header, rows)
    training = settings.get("training")
    if not isinstance(training, dict):
        return "the settings of a training in its run file", f"{training!r:.40}"
    return wrong_curve(header, rows, training, training.get("outer_steps", 0))
