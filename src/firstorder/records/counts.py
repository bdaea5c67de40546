"""Counts of evaluations that are not done, so that they go on after an interruption with the same bytes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from firstorder.files import Kind, MissingFileError, replacing
from firstorder.method.evaluation import Counts, Tally
from firstorder.progress import Stop, never
from firstorder.records.kept_files import COUNTS_FORMAT, OtherWorkError, Whole, counts_digest, read_counts, unfit
from firstorder.records.states import KeptFile
from firstorder.settings import MODES, Mode

SECONDS_BETWEEN_SAVES = 60.0
COUNTS_FILE = Kind("counts of an evaluation", 64 << 20, "it is damaged")


@dataclass
class CountsFile(KeptFile, Tally):
    """Keeps the counts of an evaluation in a file; see evaluation.Tally.

    `identity` names everything that the counts depend on, which `made` lists; others are left unused. `place` says
    where this process computes, since `begun`. `legs` lists where the counts so far were computed. `suspended` is the
    file in which Git may bring counts from another machine.
    """

    path: Path
    identity: str
    whole: Whole
    place: Mapping[str, Any] = field(default_factory=dict)
    stop: Stop = never
    begun: float = field(default_factory=time.monotonic)
    legs: list[dict[str, Any]] = field(default_factory=list)
    made: Mapping[str, Any] = field(default_factory=dict)
    suspended: Path | None = None
    _saved: float = field(default_factory=time.monotonic)
    _before: list[dict[str, Any]] = field(default_factory=list)  # the legs before this process
    what, work = "counts", "evaluation"

    @property
    def known(self) -> tuple[str, ...]:
        """The identity of this evaluation."""
        return (self.identity,)

    @staticmethod
    def about(path: Path) -> Mapping[str, Any]:
        """Return what a file of counts says."""
        return read_counts(COUNTS_FILE.read(path))

    def load(self) -> dict[Mode, Counts]:
        """Read the counts that are further, as `KeptFile.further`; those of no task if there are none."""

        def done(kept: dict[str, Any]) -> int:
            return len(kept["counts"][MODES[0]])

        def goes_on(kept: dict[str, Any], path: Path) -> str:
            return f"the evaluation goes on from {path}: {done(kept):,} of {self.whole.tasks:,} tasks"

        kept = self.further(self._read, done, goes_on)
        if kept is None:
            return super().load()
        self.legs = self._before = kept["legs"]
        return {mode: np.array(kept["counts"][mode], np.int64) for mode in MODES}

    def _read(self, path: Path) -> dict[str, Any] | None:
        """Read a file of counts; None if there is none. Raises an error for what is none of this evaluation."""
        try:
            kept = read_counts(COUNTS_FILE.read(path))
        except MissingFileError:
            return None
        if kept["identity"] != self.identity:
            raise OtherWorkError(kept, self.made)
        if (why := unfit(kept, self.whole)) is not None:
            raise ValueError(why)
        return kept

    def keep(self, counts: Mapping[Mode, Counts]) -> bool:
        """Save the counts if they are due; say whether to stop here."""
        now, done = time.monotonic(), len(counts[MODES[0]])
        if (stopped := self.stop()) or done == self.whole.tasks or now - self._saved >= SECONDS_BETWEEN_SAVES:
            self._saved = now
            tasks = done - sum(leg["tasks"] for leg in self._before)
            self.legs = [*self._before, {**self.place, "tasks": tasks, "seconds": round(now - self.begun, 1)}]
            self._write({mode: correct.tolist() for mode, correct in counts.items()})
        return stopped

    @property
    def seconds(self) -> float:
        """The seconds of all legs."""
        return float(sum(leg["seconds"] for leg in self.legs))

    def _write(self, counts: dict[Mode, list[int]]) -> None:
        """Write the file; the previous one stays until this one is complete."""
        kept = {"format": COUNTS_FORMAT, "identity": self.identity, "counts": counts, "legs": self.legs}
        kept |= {"of": self.made}
        with replacing(self.path) as part:
            part.write_text(json.dumps({**kept, "sha256": counts_digest(kept)}) + "\n", encoding="utf-8")
