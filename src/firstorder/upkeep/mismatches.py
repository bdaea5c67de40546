"""What `verify` finds: files that agree with what is said of them, files that do not, and what it could not compare."""

from __future__ import annotations

import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Mismatch:
    """One file that is not what something says of it; `text` names it, what was expected and found, and the mend."""

    path: Path
    text: str


@dataclass
class Findings:
    """Counts of what was compared and of what was passed over, each by kind, and every mismatch."""

    checked: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    mismatches: list[Mismatch] = field(default_factory=list)
    # Digest of each pack read, so that one which several folders share is read once.
    packs: dict[Path, str] = field(default_factory=dict)

    def differs(self, path: Path, expected: object, found: object, mend: str, *, in_git: bool = False) -> None:
        """Note a mismatch of `path`; `mend` is a command, to which Git's is preferred where Git has another content."""
        mend = restoring(path, mend) if in_git else mend
        self.mismatches.append(Mismatch(path, f"{path}: expected {expected}, found {found}; mend: {mend}"))

    def summary(self) -> list[str]:
        """Return two or three lines for print: compared, not compared, mismatches."""
        lines = [f"verified: {_listed(self.checked) or 'nothing'}"]
        if self.skipped:
            lines.append(f"not compared: {_listed(self.skipped)}")
        number = len(self.mismatches)
        return [*lines, f"{number:,} mismatch{'es' if number > 1 else ''}" if number else "no mismatch"]


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items()))


def restoring(path: Path, otherwise: str) -> str:
    """Return the command that brings `path` back: Git's, where Git has another content for it, else `otherwise`."""
    git = ["git", "-C", str(path.parent)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", "--", path.name], capture_output=True, check=True)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", path.name], capture_output=True, check=False)
    except (OSError, subprocess.CalledProcessError):
        return otherwise
    return f"git checkout -- {path}" if changed.returncode == 1 else otherwise
