"""Seal results recorded before run files contained a SHA-256, so that `firstorder verify` can check them.

Below each FOLDER, every run file (`.run.json`) without a seal gets the SHA-256 of the record or curve beside it and a
digest of itself. This is done only if both files are committed and unchanged, because then Git shows that they are what
was recorded.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from firstorder.records.cells import read_run, sealed, write_run
from firstorder.upkeep.committed import is_as_committed


def seal(folder: Path) -> None:
    """Seal the unsealed results below `folder`; print what was sealed, and what was not and why."""
    for run_file in sorted((folder / "results").rglob("*.run.json")):
        start = run_file.name.removesuffix(".run.json")
        made = next(
            (path for suffix in (".csv", ".json") if (path := run_file.with_name(start + suffix)).exists()), None
        )
        if made is None or "sha256" in (run := read_run(made)):
            continue
        if is_as_committed(run_file) and is_as_committed(made):
            write_run(made, sealed(run, made.read_bytes()))
            print(f"sealed: {run_file}")
        else:
            print(f"left: {run_file}; Git does not have it and {made.name} as they are; commit them first")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="with results/, such as . or reduced")
    for folder in parser.parse_args().folders:
        seal(folder)
