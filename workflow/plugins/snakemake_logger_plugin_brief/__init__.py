"""What Snakemake shows under make (`--logger brief`): which jobs are done, out of how many, and what goes wrong.

By default it prints six lines for each job, and those of importance are lost among them. With `--logger-brief-refresh`,
for jobs that print nothing, the count is one line that a terminal refreshes, and a log has none. Snakemake writes all
of it to .snakemake/log.
"""

import sys
from dataclasses import dataclass, field
from logging import WARNING, LogRecord
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

NOTHING_TO_DO = "Nothing to be done"
CLEAR = "\r\x1b[K"


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """Options on Snakemake's command line, with the prefix `--logger-brief-`. It wants their types, not their names."""

    refresh: bool = field(default=False, metadata={"help": "refresh one line, in a terminal only"})


class LogHandler(LogHandlerBase):
    """Writes to standard error."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True  # its choice is below
    has_formatter = False
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Begin without jobs, and without a count on the line of the cursor."""
        self._jobs: dict[int, str] = {}
        self._finished = ""
        self._counted = False
        self._refresh = bool(getattr(self.settings, "refresh", False))

    def emit(self, record: LogRecord) -> None:
        """Write a line for a job that has ended, or the message of a failure."""
        told: Any = record  # whose fields depend on the event
        try:
            match getattr(record, "event", None):
                case LogEvent.JOB_INFO:
                    self._jobs[told.jobid] = " ".join([told.rule_name, *map(str, told.wildcards.values())])
                case LogEvent.JOB_FINISHED:
                    self._finished = self._jobs.get(told.job_id, "")
                case LogEvent.PROGRESS:
                    self._count(int(told.done), int(told.total))
                case LogEvent.JOB_ERROR:  # the job itself has said why
                    self._write(f"failed: {self._jobs.get(told.jobid, told.rule_name)}; see {' '.join(told.log or [])}")
                case _ if record.levelno >= WARNING or record.getMessage().startswith(NOTHING_TO_DO):
                    self._write(self.format(record))
        except Exception:  # as every handler of logging does
            self.handleError(record)

    def _count(self, done: int, total: int) -> None:
        if not self._refresh:
            self._write(f"{done} of {total} jobs done: {self._finished}")
        elif sys.stderr.isatty():
            sys.stderr.write(CLEAR if done == total else f"{CLEAR}{done} of {total} jobs done")
            sys.stderr.flush()
            self._counted = done < total

    def _write(self, text: str) -> None:
        if text and text != "None":
            sys.stderr.write(f"{CLEAR if self._counted else ''}{text}\n")
            sys.stderr.flush()
            self._counted = False
