"""Computed CSV files, read only where they exist and are not stale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from firstorder.records.cells import CSV_FILE
from firstorder.records.freshness import Expected
from firstorder.report.read import csv_frames, staleness

# Columns that hold texts; all others hold numbers.
_TEXTS = {"algorithm", "alphabet", "answered", "mini_batches", "mode", "pool", "problem", "toward", "what"}


def read(root: Path, expected: Expected, columns: Sequence[str]) -> pd.DataFrame | None:
    """Read the columns of the file that `expected` describes; return None if there is no such file.

    Raises UserError, naming the command that makes the file again, if it is stale and staleness.py does not allow that.
    """
    path = root / expected.path
    if not path.exists():
        return None
    staleness.check(root, [expected])
    frame = csv_frames.read(path, columns)
    for column in columns:
        if len(frame) and column not in _TEXTS and not pd.api.types.is_numeric_dtype(frame[column]):
            raise CSV_FILE.refused(path, f"expected numbers under {column}")
    return frame
