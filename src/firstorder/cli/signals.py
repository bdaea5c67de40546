"""Signals that end a command: INT (Ctrl-C), TERM (a scheduler, `kill`), HUP (a closed terminal).

A training or an evaluation saves what is done at its next step and says so; a second signal ends it at once. Every
other command ends at once, in order: scratch files are removed. A signal that is ignored, as HUP under nohup, stays so.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
# One wish to end may arrive twice: `timeout` and a terminal send a signal to a process and to its group.
SECONDS_OF_ONE_WISH = 1.0
OUT_OF_TIME = 3  # exit code of a training that --time-limit stopped


class Interrupted(KeyboardInterrupt):
    """A signal that ends the command at once. `code` is its exit code, as a shell reports it."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(number)
        self.name, self.code = signal.Signals(number).name, 128 + number


@dataclass
class Stopping:
    """A `Stop` that is true once a signal has arrived or, if there is one, the limit of seconds has passed."""

    limit: float | None = None
    begun: float = field(default_factory=time.monotonic)
    arrived: float = 0.0
    received: int | None = None  # the first signal

    def __call__(self) -> bool:
        """Say whether to save what is done and return."""
        return self.received is not None or (self.limit is not None and time.monotonic() - self.begun >= self.limit)

    def receive(self, number: int, frame: Any) -> None:
        """Remember a first signal; raise Interrupted for a second one."""
        if self.received is None:
            self.received, self.arrived = number, time.monotonic()
        elif time.monotonic() - self.arrived >= SECONDS_OF_ONE_WISH:
            raise Interrupted(number)

    @property
    def why(self) -> str:
        """What stopped the work."""
        return "--time-limit" if self.received is None else signal.Signals(self.received).name

    @property
    def code(self) -> int:
        """The exit code of work that was stopped."""
        return OUT_OF_TIME if self.received is None else 128 + self.received


@contextmanager
def stopping(limit: float | None = None) -> Iterator[Stopping]:
    """Give a `Stop` that signals and a limit of seconds make true."""
    stop = Stopping(limit)
    with _handled(stop.receive):
        yield stop


@contextmanager
def ending() -> Iterator[None]:
    """End the `with` body at once when a signal arrives: Interrupted is raised in it."""
    first = Stopping()

    def end(number: int, frame: Any) -> None:
        again = first.received is not None
        first.receive(number, frame)
        if not again:
            raise Interrupted(number)

    with _handled(end):
        yield


@contextmanager
def _handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Give the signals to `handler`. Only the main thread can; in another one they act as before."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in ENDING}
    before = {number: known for number, known in before.items() if known not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, known in before.items():
            signal.signal(number, known)
