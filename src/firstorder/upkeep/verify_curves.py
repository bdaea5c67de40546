"""Check that what a CSV of results/curves says is possible: a seal proves only that nobody changed it since.

Every accuracy and probability is a number from 0 to 1 and every error a number from 0. A learning curve has one row for
each measurement that the settings in its run file ask for, no other row, and none twice.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from firstorder.errors import UserError
from firstorder.records.cells import CSV_FILE
from firstorder.report.read.curves import COLUMNS
from firstorder.settings import MODES, digest

_POOLS = ("meta-train", "meta-test")
_LARGEST = {"accuracy": 1.0, "error": 1.0, "standard_error": math.inf, "loss": math.inf}
Wrong = tuple[str, str]  # what was expected and what was found


def wrong_content(path: Path, run: Mapping[str, Any]) -> Wrong | None:
    """Return what the first impossible value of a CSV should be and what it is; None if there is none."""
    try:
        header, *rows = list(csv.reader(CSV_FILE.read_text(path).splitlines(), strict=True))
    except (ValueError, UserError, csv.Error) as error:
        return "a heading and rows", f"{error}"
    if len(set(header)) != len(header):
        return "columns that differ", ", ".join(header)
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            return f"{len(header)} values in row {number}", f"{len(row)}"
    settings = run.get("settings")
    if isinstance(settings, dict) and run.get("settings_digest") != digest(settings):
        return "settings_digest of the settings in its run file", f"{run.get('settings_digest')}"
    training = settings.get("training") if isinstance(settings, dict) and "training" in run else None
    if isinstance(training, dict) and (wrong := _wrong_curve(header, rows, training)):
        return wrong
    return _wrong_number(header, rows)


def _wrong_number(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Wrong | None:
    for column, largest in _LARGEST.items():
        place = header.index(column) if column in header else None
        for number, row in enumerate(rows if place is not None else [], 1):
            text = row[place or 0]
            try:
                possible = math.isfinite(float(text)) and 0 <= float(text) <= largest
            except ValueError:
                possible = False
            if not possible:
                limit = "from 0 to 1" if largest == 1 else "from 0"
                return f"{column} {limit} in row {number}", text
    return None


def _wrong_curve(header: Sequence[str], rows: Sequence[Sequence[str]], training: Mapping[str, Any]) -> Wrong | None:
    """Compare the rows of a learning curve, but for their accuracies, with the settings of its training."""
    if tuple(header) != COLUMNS:
        return f"columns {', '.join(COLUMNS)}", ", ".join(header)
    try:
        every, last = training["curve"]["every"], training["outer_steps"]
        constant = (str(training["curve"]["shot"]), str(training["curve"]["tasks"]))
        if last // every > len(rows):
            return f"{4 * (last // every)} rows or more", f"{len(rows)}"
        steps = sorted({*range(every, last + 1, every), last} - {0})
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        return "the settings of a training in its run file", f"{type(error).__name__}: {error}"
    expected = [(str(step), pool, mode, *constant) for step, pool, mode in product(steps, _POOLS, MODES)]
    found = [tuple(row[:5]) for row in rows]
    for number, (wanted, row) in enumerate(zip(expected, found, strict=False), 1):
        if wanted != row:
            return f"{','.join(wanted)} in row {number}", ",".join(row)
    if len(found) != len(expected):
        return f"{len(expected)} rows", f"{len(found)}"
    return None
