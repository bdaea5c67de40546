"""The paper's numbers: paper/published.csv, with a grade for how well each number is known.

The file holds percent, as printed in the paper; the frame holds fractions. The column `printed` keeps the paper's own
digits, since 98.90 and 98.9 are different claims.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from firstorder.errors import UserError
from firstorder.report.read import csv_frames
from firstorder.report.read.statistics import PROBABILITY, student_quantile


class Line(NamedTuple):
    """What names one published number."""

    table: str
    row: str
    column: str


FIRST_HAND = "A"  # the grade of a number that was read where it was first published
_GRADES = {FIRST_HAND: "first-hand", "B": "as quoted by at least two other texts", "C": "as quoted by one other text"}

_OF_HALF_WIDTH = "; half-width "

# What the ± of the Reptile rows means is unknown. By the widest reading it is one standard deviation of three seeds;
# the 95 % half-width of their mean is then Student's quantile over sqrt(3) times as large, 2.48.
_OVER_SEEDS = "spread over seeds"
ONE_DEVIATION_OF_THREE = student_quantile(PROBABILITY, 2) / math.sqrt(3)

_NUMBERS = ("accuracy_percent", "half_width_percent")
COLUMNS = (*Line._fields, *_NUMBERS, "half_width_meaning", "confidence_grade", "source")


def short(grade: str) -> str:
    """Return a grade as printed beside a number: `B`, or `B, ± C` if its ± is known less well."""
    return grade.replace(_OF_HALF_WIDTH, ", ± ")


def known(grade: str) -> str:
    """Say in words how well a number of this grade is known, and its ± where that is known less well."""
    number, _, half_width = grade.partition(_OF_HALF_WIDTH)
    words = f"{_GRADES.get(number, number)} [{number}]" if number != FIRST_HAND else _GRADES[number]
    return f"{words}, the ± {_GRADES.get(half_width, half_width)} [{half_width}]" if half_width else words


def read(path: Path) -> pd.DataFrame:
    """Read the published numbers, one row each.

    Columns: table, row, column, accuracy and half_width (fractions), printed (like `97.68 ± 0.04`, percent),
    half_width_meaning, widening (the factor on half_width by the widest reading of its meaning), confidence_grade,
    source. Raises UserError for a missing file or column, a value that
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
    over_seeds = frame["half_width_meaning"].str.startswith(_OVER_SEEDS)
    return frame.assign(
        accuracy=accuracy,
        half_width=half_width,
        printed=frame["accuracy_percent"] + " ± " + frame["half_width_percent"],
        widening=over_seeds.map({True: ONE_DEVIATION_OF_THREE, False: 1.0}),
    ).drop(columns=list(_NUMBERS))
