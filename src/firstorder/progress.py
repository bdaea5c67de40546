"""Long work shows itself: a bar in a terminal, a plain line every so often in a log.

Modules never print. They take a `Track`, open a bar with it and advance the bar; `silent` is the default
everywhere and `shown` is what the command line passes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

SECONDS_BETWEEN_LINES = 15.0


class Bar(Protocol):
    """One piece of work under way."""

    def advance(self, units: int = 1, note: str = "") -> None:
        """Count `units` more as done; `note` (say, the current accuracy) stays shown until the next one."""


class Track(Protocol):
    """Open a bar for `total` units of work of which `done` are done already."""

    def __call__(self, what: str, total: int, unit: str, done: int = 0) -> AbstractContextManager[Bar]:
        """Return a context manager that gives the bar."""


class _Silent:
    def advance(self, units: int = 1, note: str = "") -> None:
        pass


@contextmanager
def silent(what: str, total: int, unit: str, done: int = 0) -> Iterator[Bar]:
    """Show nothing."""
    yield _Silent()


class _Lines:
    """Plain lines for a log: what, how far, how fast, how long still, and the last note."""

    def __init__(self, what: str, total: int, unit: str, done: int) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = self.first = done
        self.note = ""
        self.start = self.printed = time.monotonic()

    def advance(self, units: int = 1, note: str = "") -> None:
        self.done += units
        self.note = note or self.note
        now = time.monotonic()
        if now - self.printed >= SECONDS_BETWEEN_LINES:
            self.printed = now
            self.print_line(now)

    def print_line(self, now: float) -> None:
        seconds = max(now - self.start, 1e-9)
        rate = (self.done - self.first) / seconds
        left = _clock((self.total - self.done) / rate) if rate > 0 else "?"
        note = f", {self.note}" if self.note else ""
        share = 100 * self.done / max(self.total, 1)
        print(
            f"{self.what}: {self.done:,}/{self.total:,} {self.unit} ({share:.0f} %), {rate:,.1f} {self.unit}/s, "
            f"{left} left{note}",
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
            TextColumn("{task.fields[note]}", markup=False),
            console=Console(stderr=True),
        )
        self.task = self.progress.add_task(what, total=total, completed=done, unit=unit, rate="", note="")

    def advance(self, units: int = 1, note: str = "") -> None:
        fields: dict[str, Any] = {"note": note} if note else {}
        self.progress.update(self.task, advance=units, **fields)
        done = self.progress.tasks[0].completed - self.first
        seconds = max(time.monotonic() - self.start, 1e-9)
        self.progress.update(self.task, rate=f"{done / seconds:,.1f} {self.unit}/s")


@contextmanager
def shown(what: str, total: int, unit: str, done: int = 0) -> Iterator[Bar]:
    """Show a bar on a terminal's standard error, or else a line every 15 seconds and one at the end."""
    if sys.stderr.isatty():
        bar = _Rich(what, total, unit, done)
        with bar.progress:
            yield bar
    else:
        lines = _Lines(what, total, unit, done)
        yield lines
        lines.print_line(time.monotonic())


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
