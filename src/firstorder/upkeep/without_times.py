"""Snakemake's report tells once what it has no times of, instead of a warning for each file.

Snakemake knows the times of what it has made itself, in this folder. In a clone it has made nothing, and what is not
run nobody has made: 845 warnings for the main folder. Results that were made elsewhere have run files with their times.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

_MISSING = re.compile(r"Missing metadata for file (?P<path>.+?)\. Maybe metadata was deleted or it was created")
_LAST = "Report created."


class _Once(logging.Filter):
    """Holds such warnings back, counts their files, and puts one line before the last line of the report."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.elsewhere = self.absent = 0

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if found := _MISSING.match(message):
            is_there = (self.folder / found["path"]).exists()
            self.elsewhere, self.absent = self.elsewhere + is_there, self.absent + (not is_there)
            return False
        if message == _LAST and (self.elsewhere or self.absent):
            record.msg, record.args = f"{self.told()}\n{_LAST}", None
        return True

    def told(self) -> str:
        """Say how many files have no times, and why."""
        parts = [
            f"{count:,} files that {why}"
            for count, why in (
                (self.elsewhere, "Snakemake has not made here (their .run.json files tell machine and time)"),
                (self.absent, "are not here (make plan lists what is left to compute)"),
            )
            if count
        ]
        return f"The report has no times of {' and '.join(parts)}."


def tell_once(logger: logging.Logger, folder: Path) -> None:
    """Tell what is logged to Snakemake's `logger` in this way; paths are relative to `folder`."""
    if not any(isinstance(one, _Once) for one in logger.filters):
        logger.addFilter(_Once(folder))
