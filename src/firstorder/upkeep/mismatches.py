"""The outcome of `firstorder verify`: what was checked, what was skipped, and every mismatch."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from firstorder.errors import UserError, one_line
from firstorder.files import Kind
from firstorder.upkeep.committed import is_as_committed
from firstorder.upkeep.dvc import hash_of


@dataclass(frozen=True)
class Mismatch:
    """One file that differs from what is stated about it; `text` has the path, expected, found and the fix."""

    path: Path
    text: str


@dataclass
class Verification:
    """Numbers of files checked and skipped, by kind, and every mismatch."""

    checked: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    mismatches: list[Mismatch] = field(default_factory=list)
    # Path -> digest of each pack read so far: folders may share a pack, and it need be read only once.
    packs: dict[tuple[Path, str], str] = field(default_factory=dict)
    sound: set[Path] = field(default_factory=set)  # checkpoints whose SHA-256 is the one that results state, resolved

    def differs(self, path: Path, expected: object, found: object, fix: str, *, in_git: bool = False) -> None:
        """Add a mismatch of `path`; `fix` is a command. With `in_git`, prefer restoring Git's version if it differs."""
        fix = restoring(path, fix) if in_git else fix
        text = one_line(f"{path}: expected {expected}, found {found}; fix: {fix}")
        self.mismatches.append(Mismatch(path, text))

    def broken(self, path: Path, error: UserError, fix: str) -> None:
        """Add a mismatch of a file that cannot be read."""
        self.mismatches.append(Mismatch(path, one_line(f"{error}; fix: {fix}")))

    def hash_of(self, path: Path, algorithm: str, kind: Kind | None = None) -> str | None:
        """Return the digest of a file; None, and a mismatch, if it cannot be read or is too large for its kind."""
        try:
            if kind is not None:
                return hashlib.new(algorithm, kind.read(path), usedforsecurity=False).hexdigest()
            return hash_of(path, algorithm)
        except UserError as error:
            self.mismatches.append(Mismatch(path, str(error)))
            return None

    def summary(self) -> list[str]:
        """Return the lines to print: what was compared, what was not, the number of mismatches."""
        lines = [f"verified: {_listed(self.checked) or 'nothing'}"]
        if self.skipped:
            lines.append(f"not compared: {_listed(self.skipped)}")
        number = len(self.mismatches)
        return [*lines, f"{number:,} mismatch{'es' if number > 1 else ''}" if number else "no mismatch"]


def counted(number: int, what: str) -> str:
    """Return a number and what is counted, which begins with its plural: `2 packs (not here)`, `1 pack (not here)`."""
    one = re.sub(r"^([a-z]+)s(?! and)\b", r"\1", what)
    return f"{number:,} {one if number == 1 else what}"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(counted(count, kind) for kind, count in sorted(counts.items()))


def restoring(path: Path, otherwise: str) -> str:
    """Return `git checkout` of `path` if its committed content differs from the file, else `otherwise`."""
    return f"git checkout -- {path}" if is_as_committed(path) is False else otherwise
