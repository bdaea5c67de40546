"""Chooses by measurement whether one lane is computed by all threads or by one.

Threads of one lane wait for one another some thirty times an inner step. That pays on idle cores. Where other processes
use them, every wait lasts until the last thread has got a core again, and one thread is several times as fast. Results
have the same bytes with any number of threads, so the choice may change during a training.
"""

from __future__ import annotations

MOST_CALLS = 1024  # between two tries of the slower number
MOST_SECONDS = 20.0  # of calls between two tries, unless that loses more than a share of
LOSS = 0.004
WEIGHT = 0.5  # of the last measurement in the average of the faster number


class Pace:
    """The number of threads of the next call: the faster of one and `most`; the other is tried ever more rarely."""

    def __init__(self, most: int) -> None:
        """Begin with `most` threads."""
        self.most = most
        self.seconds: dict[int, float] = {}  # number of threads -> average seconds a unit of work
        self.calls, self.pause, self.next_try = 0, 8, 0
        self.spent = self.wait = 0.0  # seconds of calls since the last try, and after which of them the next one is due

    def threads(self) -> int:
        """Return the number of threads for the next call."""
        self.calls += 1
        if self.most == 1:
            return 1
        if len(self.seconds) < 2:
            return 1 if self.seconds else self.most
        faster = self.faster()
        if faster is not None and self.calls < self.next_try and self.spent < self.wait:
            return faster
        self.pause = min(2 * self.pause, MOST_CALLS)
        self.next_try = self.calls + self.pause
        return self.most if faster == 1 else 1

    def note(self, threads: int, seconds: float, units: int = 1) -> None:
        """Note how long a call took, and how many units of work it did."""
        before, each = self.faster(), seconds / units
        self.spent += seconds
        if threads == before:
            self.seconds[threads] += WEIGHT * (each - self.seconds[threads])
        else:
            self.seconds[threads] = each
            lost = units * (max(self.seconds.values()) - min(self.seconds.values()))
            self.spent, self.wait = 0.0, max(MOST_SECONDS, lost / LOSS)
        if before is not None and self.faster() != before:
            self.pause, self.next_try = 8, self.calls + 8

    def faster(self) -> int | None:
        """Return the faster number of threads; None before any call."""
        return min(self.seconds, key=lambda number: self.seconds[number], default=None)
