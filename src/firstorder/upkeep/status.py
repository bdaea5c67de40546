"""What computes in a folder just now: read from the last lines of the jobs' logs, in which each says how far it is.

A job writes a line to its log every 15 seconds (progress.py). A log that has been silent for longer is of a job
that ended, or that computes on a machine that does not answer.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from firstorder.errors import one_line
from firstorder.files import open_regular
from firstorder.progress import SECONDS_BETWEEN_LINES

LOGS = "logs"
SILENT = 4 * SECONDS_BETWEEN_LINES  # seconds without a line after which a job is not counted as running
_TAIL = 4096  # bytes of a log that are read
_LINE = re.compile(
    r"(?P<what>\S.*?): (?P<done>[\d,]+)/(?P<total>[\d,]+) (?P<unit>[^(]+) \((?P<share>\d+) %\), "
    r"(?P<rate>[\d,.]+) [^,]+/s, (?P<left>[\d:?]+) left(?:, (?P<status>.*))?"
)


@dataclass(frozen=True)
class Running:
    """How far one job is: what it computes, units done of how many, units a second, seconds left, and its accuracy."""

    what: str
    done: int
    total: int
    unit: str
    rate: float
    left: float | None
    status: str


def running(root: Path, now: float | None = None) -> list[Running]:
    """List the jobs below `root` that wrote a line a short time ago and are not done."""
    now = time.time() if now is None else now
    found = []
    for log in sorted((root / LOGS).rglob("*.log")):
        with suppress(OSError):
            age = now - log.stat().st_mtime
            if age < SILENT and (job := parse(_last_line(log))) is not None and job.done < job.total:
                found.append(job)
    return found


def parse(line: str) -> Running | None:
    """Read a line of progress; None if it is another one."""
    found = _LINE.fullmatch(line.strip())
    if found is None:
        return None
    done, total = (int(found[name].replace(",", "")) for name in ("done", "total"))
    rate = float(found["rate"].replace(",", ""))
    return Running(
        one_line(found["what"]),
        done,
        total,
        found["unit"].strip(),
        rate,
        _seconds(found["left"]),
        found["status"] or "",
    )


def describe(jobs: Sequence[Running], holders: Sequence[str], now: datetime) -> str:
    """Return a table of the jobs, a line each, after the commands that hold the folder."""
    lines = [f"in use by {holder}" for holder in holders]
    if not jobs:
        return "\n".join([*lines, "nothing has said in the last minute that it computes here"])
    rows = [("", "done", "rate", "left", "at", "")]
    for job in jobs:
        share = f"{job.done:,}/{job.total:,} {job.unit} ({100 * job.done // max(job.total, 1)} %)"
        left = "?" if job.left is None else str(timedelta(seconds=round(job.left)))
        rows.append((job.what, share, f"{job.rate:,.1f}/s", left, _clock(job.left, now), one_line(job.status)))
    wide = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for name, *others, status in rows:
        cells = [text.rjust(width) for text, width in zip(others, wide[1:-1], strict=True)]
        lines.append("  ".join([name.ljust(wide[0]), *cells, status]).rstrip())
    return "\n".join(lines)


def _last_line(log: Path) -> str:
    with open_regular(log) as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - _TAIL))
        text = file.read().decode("utf-8", "replace")
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")


def _seconds(text: str) -> float | None:
    if not re.fullmatch(r"\d+:\d\d:\d\d", text):
        return None
    hours, minutes, seconds = map(int, text.split(":"))
    return 3600.0 * hours + 60 * minutes + seconds


def _clock(left: float | None, now: datetime) -> str:
    """Return the time of day, or the day, at which a job will be done."""
    if left is None:
        return "?"
    then = now + timedelta(seconds=left)
    return then.strftime("%H:%M" if then.date() == now.date() else "%F %H:%M")
