"""Rows as a small CSV file, the same bytes for the same content: curves, measurements of studies, censuses."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from firstorder.files import replacing


def rows_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as the text of a small CSV."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a small CSV; the old file stays until the new one is complete."""
    text = rows_text(columns, rows)
    with replacing(path) as part:
        part.write_bytes(text.encode("utf-8", "backslashreplace"))  # file names may have bytes of another encoding
