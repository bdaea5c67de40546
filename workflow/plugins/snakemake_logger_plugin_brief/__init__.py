"""What Snakemake shows while a report is redrawn (`--logger brief`): a count of the jobs done, and what goes wrong.

By default it prints six lines for each job, and those of importance are lost among them. In a terminal the count is one
line that is refreshed; in a log there is none. Snakemake's own file in .snakemake/log has everything.
"""

from __future__ import annotations

import sys
from logging import WARNING, LogRecord

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

NOTHING_TO_DO = "Nothing to be done"
CLEAR = "\r\x1b[K"


class LogHandler(LogHandlerBase):
    """Writes to standard error."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = False  # Snakemake's own, by --quiet
    has_formatter = False
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Begin without a count on the line of the cursor."""
        self._counted = False

    def emit(self, record: LogRecord) -> None:
        """Refresh the count, or write a message of a failure on a line of its own."""
        try:
            if getattr(record, "event", None) == LogEvent.PROGRESS:
                self._count(int(record.done), int(record.total))  # type: ignore[attr-defined]
            elif record.levelno >= WARNING or record.getMessage().startswith(NOTHING_TO_DO):
                self._write(self.format(record))
        except Exception:  # as every handler of logging does
            self.handleError(record)

    def _count(self, done: int, total: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(CLEAR if done == total else f"{CLEAR}{done} of {total} jobs done")
            sys.stderr.flush()
            self._counted = done < total

    def _write(self, text: str) -> None:
        if text and text != "None":
            sys.stderr.write(f"{CLEAR if self._counted else ''}{text}\n")
            sys.stderr.flush()
            self._counted = False
