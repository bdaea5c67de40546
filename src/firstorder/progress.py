"""Progress of long work: a bar in a terminal, or a line every 15 seconds in a log; and whether it is to stop.

Modules never print. They take a `Track`, open a bar with it and advance the bar. The default is `silent`; the command
line passes `shown`. Work that can be resumed takes a `Stop` too and asks it where it can end, or, if it is a study, a
`Kept`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    Arrays = dict[str, np.ndarray[Any, Any]]

SECONDS_BETWEEN_LINES = 15.0
Stop = Callable[[], bool]  # says whether to save what is done and return


def never() -> bool:
    """Let the work run to its end."""
    return False


class Kept:
    """Stores the arrays of an unfinished study, so that it can be resumed; this one stores nothing."""

    def load(self) -> Arrays:
        """Return the stored arrays, or none."""
        return {}

    def keep(self, arrays: Arrays) -> None:
        """Replace the stored arrays if it is time to. Raises Stopped if the study is to end here; they are stored."""


class Stopped(Exception):  # noqa: N818 (no error)
    """A study ends before it is done; what it has computed is stored."""


UNKEPT = Kept()


class Bar(Protocol):
    """The progress of one piece of work."""

    def advance(self, units: int = 1, status: str = "") -> None:
        """Count `units` more as done. `status`, such as the current accuracy, is shown until the next one."""


class Track(Protocol):
    """Opens a bar for `total` units of work, of which `done` are already done."""

    def __call__(self, what: str, total: int, unit: str, done: int = 0) -> AbstractContextManager[Bar]:
        """Return a context manager that gives the bar."""


class _Silent:
    def advance(self, units: int = 1, status: str = "") -> None:
        pass


@contextmanager
def silent(what: str, total: int, unit: str, done: int = 0) -> Iterator[Bar]:
    """Show nothing."""
    yield _Silent()


class _Lines:
    """Lines for a log: what, how much is done, how fast, the time left, and the last status."""

    def __init__(self, what: str, total: int, unit: str, done: int) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = self.first = done
        self.status = ""
        self.start = self.printed = time.monotonic()

    def advance(self, units: int = 1, status: str = "") -> None:
        self.done += units
        self.status = status or self.status
        now = time.monotonic()
        if now - self.printed >= SECONDS_BETWEEN_LINES:
            self.printed = now
            self.print_line(now)

    def print_line(self, now: float) -> None:
        seconds = max(now - self.start, 1e-9)
        rate = (self.done - self.first) / seconds
        left = _clock((self.total - self.done) / rate) if rate > 0 else "?"
        status = f", {self.status}" if self.status else ""
        share = 100 * self.done / max(self.total, 1)
        print(
            f"{self.what}: {self.done:,}/{self.total:,} {self.unit} ({share:.0f} %), {_speed(rate, self.unit)}, "
            f"{left} left{status}",
            file=sys.stderr,
            flush=True,
        )


class _Rich:
    def __init__(self, what: str, total: int, unit: str, done: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.unit, self.first, self.start = unit, done, time.monotonic()
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} {task.fields[unit]}, {task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}", markup=False),
            console=Console(stderr=True),
        )
        self.task = self.progress.add_task(what, total=total, completed=done, unit=unit, rate="", status="")

    def advance(self, units: int = 1, status: str = "") -> None:
        fields: dict[str, Any] = {"status": status} if status else {}
        self.progress.update(self.task, advance=units, **fields)
        done = self.progress.tasks[0].completed - self.first
        seconds = max(time.monotonic() - self.start, 1e-9)
        self.progress.update(self.task, rate=_speed(done / seconds, self.unit))


@contextmanager
def shown(what: str, total: int, unit: str, done: int = 0) -> Iterator[Bar]:
    """Show a bar if standard error is a terminal, else a line every 15 seconds and one at the end; no work, nothing."""
    if not total:
        yield _Silent()
    elif sys.stderr.isatty():
        bar = _Rich(what, total, unit, done)
        with bar.progress:
            yield bar
    else:
        lines = _Lines(what, total, unit, done)
        yield lines
        lines.print_line(time.monotonic())


def _speed(rate: float, unit: str) -> str:
    return f"{rate / 1e6:,.1f} MB/s" if unit == "bytes" else f"{rate:,.1f} {unit}/s"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
