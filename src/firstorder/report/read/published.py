"""The paper's numbers: paper/published.csv, with a grade for how well each number is known.

The file holds percent, as printed in the paper; the frame holds fractions. The column `printed` keeps the paper's own
digits, since 98.90 and 98.9 are different claims.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from firstorder.errors import UserError
from firstorder.report.read import csv_frames


class Line(NamedTuple):
    """What names one published number."""

    table: str
    row: str
    column: str


_NUMBERS = ("accuracy_percent", "half_width_percent")
COLUMNS = (*Line._fields, *_NUMBERS, "half_width_meaning", "confidence_grade", "source")


def read(path: Path) -> pd.DataFrame:
    """Read the published numbers, one row each.

    Columns: table, row, column, accuracy and half_width (fractions), printed (like `97.68 ± 0.04`, percent),
    half_width_meaning, confidence_grade, source. Raises UserError for a missing file or column, a value that
    is not a number or not a percentage, or two lines for the same number.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file; it comes with the repository (git checkout -- paper/published.csv)")
    frame = csv_frames.read(path, COLUMNS, dict.fromkeys(COLUMNS, "str"))
    try:
        accuracy, half_width = (pd.to_numeric(frame[name]) / 100 for name in _NUMBERS)
    except ValueError as error:
        raise UserError(f"{path}: expected numbers under {' and '.join(_NUMBERS)}: {error}") from None
    if not accuracy.between(0, 1).all() or not half_width.between(0, 1).all():
        raise UserError(f"{path}: expected percentages from 0 to 100 under {' and '.join(_NUMBERS)}")
    twice = frame[frame.duplicated(list(Line._fields))]
    if len(twice):
        raise UserError(f"{path}: two lines for {' / '.join(twice.iloc[0][list(Line._fields)])}; keep one of them")
    return frame.assign(
        accuracy=accuracy,
        half_width=half_width,
        printed=frame["accuracy_percent"] + " ± " + frame["half_width_percent"],
    ).drop(columns=list(_NUMBERS))
