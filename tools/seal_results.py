"""Seal results recorded before `.run.json` files carried a SHA-256, so that `firstorder verify` can check them.

Usage: python tools/seal_results.py FOLDER...

Below each FOLDER, every `.run.json` without a seal gets the SHA-256 of the record or curve beside it and a digest of
itself, but only where Git has both and neither was changed since: then Git vouches that they are what was recorded.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from firstorder.records.cells import read_run, sealed, write_run


def unchanged(path: Path) -> bool:
    """Say whether Git has `path`, just as it is."""
    git = ["git", "-C", str(path.parent)]
    known = subprocess.run([*git, "ls-files", "--error-unmatch", path.name], capture_output=True, check=False)
    same = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", path.name], capture_output=True, check=False)
    return known.returncode == same.returncode == 0


def seal(folder: Path) -> None:
    """Seal what is not, and print what was left and why."""
    for note in sorted((folder / "results").rglob("*.run.json")):
        start = note.name.removesuffix(".run.json")
        made = next((path for suffix in (".csv", ".json") if (path := note.with_name(start + suffix)).exists()), None)
        if made is None or "sha256" in (run := read_run(made)):
            continue
        if unchanged(note) and unchanged(made):
            write_run(made, sealed(run, made.read_bytes()))
            print(f"sealed: {note}")
        else:
            print(f"left: {note}; Git does not have it and {made.name} as they are; commit them first")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for name in sys.argv[1:]:
        seal(Path(name))
