"""Counts of evaluations that are not done, so that they go on after an interruption with the same bytes."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from firstorder.files import Kind, MissingFileError, parse_json, replacing
from firstorder.method.evaluation import Counts, Keeper
from firstorder.progress import Stop, never
from firstorder.records.states import set_aside
from firstorder.settings import MODES, Mode

FORMAT = 1
SECONDS_BETWEEN_SAVES = 60.0
COUNTS_FILE = Kind("counts of an evaluation", 64 << 20, "it is damaged")


@dataclass(frozen=True, kw_only=True)
class Whole:
    """The size of a whole evaluation: its tasks, the queries of each, and the tasks computed side by side."""

    tasks: int
    queries: int
    lanes: int


@dataclass
class CountsFile(Keeper):
    """Keeps the counts of an evaluation in a file; see evaluation.Keeper.

    `identity` names everything that the counts depend on: those of another identity are left unused. `place` says where
    this process computes, since `begun`. `legs` lists where the counts so far were computed.
    """

    path: Path
    identity: str
    whole: Whole
    place: Mapping[str, Any] = field(default_factory=dict)
    stop: Stop = never
    begun: float = field(default_factory=time.monotonic)
    legs: list[dict[str, Any]] = field(default_factory=list)
    _saved: float = field(default_factory=time.monotonic)
    _before: list[dict[str, Any]] = field(default_factory=list)  # the legs before this process

    def load(self) -> dict[Mode, Counts]:
        """Read the counts; those of no task if there are none of this evaluation. A damaged file is set aside.

        Raises UserError if the file cannot be read.
        """
        try:
            kept = parse_json(COUNTS_FILE.read(self.path))
            if not isinstance(kept, dict) or kept.get("format") != FORMAT or kept.get("sha256") != _digest(kept):
                raise ValueError("its digest is another one")
            if kept["identity"] != self.identity:
                return super().load()
            if (why := self._unfit(kept)) is not None:
                raise ValueError(why)
            self.legs = self._before = kept["legs"]
            return {mode: np.array(kept["counts"][mode], np.int64) for mode in MODES}
        except MissingFileError:
            return super().load()
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            set_aside(self.path, "counts", str(error) or type(error).__name__, "evaluation")
            return super().load()

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

    def discard(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)

    def _write(self, counts: dict[Mode, list[int]]) -> None:
        """Write the file; the previous one stays until this one is complete."""
        kept = {"format": FORMAT, "identity": self.identity, "counts": counts, "legs": self.legs}
        with replacing(self.path) as part:
            part.write_text(json.dumps({**kept, "sha256": _digest(kept)}) + "\n", encoding="utf-8")

    def _unfit(self, kept: Mapping[str, Any]) -> str | None:
        """Say why kept counts cannot be those of this evaluation; None if they can."""
        columns, whole = [kept["counts"][mode] for mode in MODES], self.whole
        done = len(columns[0])
        if any(len(column) != done for column in columns) or sum(leg["tasks"] for leg in kept["legs"]) != done:
            return "its modes and legs differ in their tasks"
        if done > whole.tasks or (done % whole.lanes and done != whole.tasks):
            return f"{done} tasks of {whole.tasks} in steps of {whole.lanes} cannot be"
        if not all(isinstance(leg["seconds"], float | int) for leg in kept["legs"]):
            return "its seconds are none"
        for column in columns:
            if not all(type(correct) is int and 0 <= correct <= whole.queries for correct in column):
                return f"a count is none of 0 to {whole.queries}"
        return None


def _digest(kept: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all that the file holds, the digest excepted."""
    held = {key: value for key, value in kept.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()
