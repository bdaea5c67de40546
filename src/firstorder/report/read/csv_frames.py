"""Data frames as CSV files, with checked columns and fixed digits: the same numbers give the same bytes."""

from __future__ import annotations

import codecs
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from firstorder.files import replacing
from firstorder.records.cells import CSV_FILE

# More digits than any accuracy carries: one prediction in 200,000 is 0.000005.
FLOAT_FORMAT = "%.8g"
# Column of a table or figure that shows stale records: true in the rows that rest on one (staleness.py).
STALE = "stale"
_NO_NUMBER = ["", "nan", "NaN", "NA"]  # in a column of numbers; as a text, all but the first are what they say


def write(path: Path, frame: pd.DataFrame) -> None:
    """Write `frame` without its index; numbers have at most eight significant digits."""
    with replacing(path) as part:
        part.write_text(text(frame), encoding="utf-8", newline="\n")


def text(frame: pd.DataFrame) -> str:
    """Return the CSV text that `write` writes."""
    return str(frame.to_csv(index=False, float_format=FLOAT_FORMAT, lineterminator="\n"))


def read(path: Path, columns: Sequence[str], types: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Read a CSV file and keep `columns`, in that order, and the column STALE if there is one.

    `types` fixes the types of some columns; of a text, only an empty one counts as missing. Raises UserError, naming
    the file, if it is not CSV, lacks a column or holds a value of another type.
    """
    content = CSV_FILE.read(path).removeprefix(codecs.BOM_UTF8)
    lacking = {name: [""] if kind == "str" else _NO_NUMBER for name, kind in (types or {}).items()}
    options: dict[str, Any] = {"na_values": lacking, "keep_default_na": False} if types else {}
    try:
        frame = pd.read_csv(io.BytesIO(content), dtype=dict(types or {}), encoding="utf-8", **options)
    except (ValueError, OverflowError) as error:  # pandas' own errors are ValueErrors
        raise CSV_FILE.refused(path, f"not a valid CSV file ({error})") from None
    missing = [column for column in columns if column not in frame]
    if missing:
        found = ", ".join(map(str, frame))[:200]
        raise CSV_FILE.refused(path, f"column {', '.join(missing)} missing, found {found}")
    return frame[[*columns, *([STALE] if STALE in frame else [])]]
