"""Time the commands of the README on this machine, in a fresh clone with an empty home folder; it must be idle.

    python tools/time_commands.py --data-mirror FOLDER

writes a line for each command to results/commands.csv, in place of this machine's earlier lines: wall time, the
machine, the date and the commit. The README and `make help` state these times; a test compares them. The first line is
the set-up, from `git clone` to a .venv with torch. FOLDER holds Omniglot's archives (docs/data.md).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from firstorder.records import provenance

ROOT = Path(__file__).parents[1]
TIMES = ROOT / "results/commands.csv"
COLUMNS = ("command", "machine", "seconds", "measured", "commit")
SET_UP = "set-up"
COMMANDS = (
    "make figures",
    "make quick",
    "make omniglot FORCE=1",
    "make algorithms FORCE=1",
    "make cell CELL=reptile/omniglot-5way/5shot/inductive SEED=0 DIR=reduced FORCE=1",
    "make verify",
    "make site",
    "make bench",
    "make ci-figures",
    "make test",
)


def main() -> int:
    """Clone, time each command, write the table after each; return 1 if one failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-mirror", required=True, type=Path, help="folder with Omniglot's archives")
    parser.add_argument("--only", nargs="*", default=COMMANDS, help="these commands instead of all")
    parser.add_argument("--keep", type=Path, help="clone to this folder, if it is not there, and leave it")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = chosen.keep or Path(folder) / "firstorder"
        environment = {"PATH": os.environ["PATH"], "HOME": folder, "DATA_MIRROR": str(chosen.data_mirror.resolve())}
        environment |= {key: value for key, value in os.environ.items() if key.startswith(("PIP_", "LC_", "LANG"))}
        clone = f"git clone -q {ROOT} {place} && cd {place} && make .venv/.torch"
        begin = {} if place.exists() else {SET_UP: (clone, ROOT)}
        steps = begin | {command: (command, place) for command in chosen.only}
        failed = [name for name, step in steps.items() if not _timed(name, *step, environment)]
    print(TIMES.read_text(encoding="utf-8"), end="")
    return 1 if failed else 0


def _timed(name: str, command: str, folder: Path, environment: dict[str, str]) -> bool:
    """Run a command; record its seconds if it succeeded, else show the end of what it printed."""
    print(name, flush=True)
    begun = time.monotonic()
    done = subprocess.run(["bash", "-ec", command], cwd=folder, env=environment, capture_output=True, text=True)
    seconds = time.monotonic() - begun
    if done.returncode:
        print(f"{done.stdout[-2000:]}{done.stderr[-2000:]}\n{name}: exit code {done.returncode}", file=sys.stderr)
        return False
    machine = provenance.run_information(0, "cpu")["machine"]
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=folder, capture_output=True, text=True)
    line = (name, machine, round(seconds, 1), f"{datetime.now(UTC):%Y-%m-%d}", commit.stdout.strip())
    before = pd.read_csv(TIMES) if TIMES.exists() else pd.DataFrame(columns=list(COLUMNS))
    others = before[(before["command"] != name) | (before["machine"] != line[1])]
    lines = [*others.itertuples(index=False, name=None), line]
    pd.DataFrame(lines, columns=list(COLUMNS)).to_csv(TIMES, index=False, lineterminator="\n")
    return True


if __name__ == "__main__":
    sys.exit(main())
