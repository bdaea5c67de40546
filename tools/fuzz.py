"""Fuzz the package's readers of files, guided by coverage.

Usage: python tools/fuzz.py [--minutes 30] [--folder .fuzz] [READER ...]

READER is a name of tests/fuzzed_readers.py; without one, all are fuzzed, each for its share of the minutes. Prints a
row of a Markdown table for each reader: executions, minutes, inputs that the coverage kept, crashes. A crash is counted
once for each place that raises it; its input and traceback are kept in the folder. The exit code is 1 if there is one.

Atheris is needed, which is not among the project's own packages: make an environment for it beside the project, with
the same Python, and give it the project's packages.

    python3.11 -m venv ../fuzz && ../fuzz/bin/pip install atheris
    PYTHONPATH=src:.venv/lib/python3.11/site-packages ../fuzz/bin/python tools/fuzz.py
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from random import Random

ROOT = Path(__file__).parents[1]
SECONDS_A_RUN = 20  # an input that takes longer is a hang
MEGABYTES = 3000  # an input that takes more memory is a crash
LARGEST_INPUT = 60_000  # bytes
MEMORY = Path("/dev/shm")  # scratch files here, where there is such a folder


def fuzz(name: str, folder: Path, seconds: int) -> None:
    """Fuzz one reader in this process, which then ends."""
    import atheris

    sys.path.insert(0, str(ROOT))
    with atheris.instrument_imports(include=["firstorder", "yaml", "PIL", "configparser", "tarfile", "zipfile"]):
        from tests import fuzzed_readers, fuzzing
    warnings.simplefilter("ignore")
    fuzzed = fuzzed_readers.READERS[name]
    corpus, crashes = folder / "corpus", folder / "crashes"
    for made in (corpus, crashes):
        made.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(fuzzed.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    edges = folder / "edges.txt"
    # As libFuzzer wants them; it takes no longer entries.
    lines = ["".join(f"\\x{byte:02x}" for byte in edge[:64]) for edge in fuzzing.EDGES]
    edges.write_text("".join(f'"{line}"\n' for line in lines), encoding="ascii")
    scratch = Path(tempfile.mkdtemp(prefix="firstorder-fuzz-", dir=MEMORY if MEMORY.is_dir() else None))
    known: set[str] = set()
    figures, begun = {"executions": 0, "crashes": 0, "seconds": 0.0}, time.time()

    def one_input(content: bytes) -> None:
        figures["executions"] += 1
        figures["seconds"] = time.time() - begun
        if figures["executions"] % 50 == 0:
            (folder / "figures.json").write_text(json.dumps(figures))
        error = fuzzing.crash(fuzzed, scratch, content)
        if error is None:
            return
        last = traceback.extract_tb(error.__traceback__)[-1:]
        place = f"{type(error).__name__} {last[0].filename}:{last[0].lineno}" if last else str(error)[:60]
        if place not in known:
            known.add(place)
            figures["crashes"] += 1
            (crashes / f"{len(known)}.input").write_bytes(content)
            (crashes / f"{len(known)}.txt").write_text("".join(traceback.format_exception(error)))

    def mutated(content: bytes, largest: int, seed: int) -> bytes:
        changed = fuzzing.changed_json(content, Random(seed)) if seed % 2 else None
        return changed if changed and len(changed) <= largest else atheris.Mutate(content, largest)

    options = [f"-max_total_time={seconds}", f"-timeout={SECONDS_A_RUN}", f"-rss_limit_mb={MEGABYTES}"]
    options += [f"-max_len={LARGEST_INPUT}", f"-artifact_prefix={crashes}/", f"-dict={edges}", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one_input, custom_mutator=mutated)
    atheris.Fuzz()


def main() -> int:
    """Fuzz each reader in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("readers", nargs="*", metavar="READER")
    parser.add_argument("--minutes", type=float, default=30.0, help="for all readers together")
    parser.add_argument("--folder", type=Path, default=Path(".fuzz"), help="keeps inputs from one run to the next")
    parser.add_argument("--one", type=int, metavar="SECONDS", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        fuzz(arguments.readers[0], arguments.folder, arguments.one)
    if importlib.util.find_spec("atheris") is None:
        sys.exit("atheris is not installed here; the beginning of tools/fuzz.py says how to give it an environment")
    sys.path.insert(0, str(ROOT))
    from tests.fuzzed_readers import READERS

    names = arguments.readers or list(READERS)
    seconds = max(int(60 * arguments.minutes / len(names)), 1)
    print("| reader | executions | minutes | inputs kept | crashes |\n|---|---|---|---|---|", flush=True)
    found = 0
    for name in names:
        folder = arguments.folder / name.replace(" ", "-")
        command = [sys.executable, __file__, name, "--folder", str(folder), "--one", str(seconds)]
        with tempfile.TemporaryFile() as log:
            done = subprocess.run(command, stdout=log, stderr=log, check=False)
        figures = json.loads((folder / "figures.json").read_text()) if (folder / "figures.json").exists() else {}
        crashes = figures.get("crashes", 0) + (done.returncode != 0)
        kept, minutes = len(list((folder / "corpus").glob("*"))), figures.get("seconds", 0) / 60
        found += crashes
        print(f"| {name} | {figures.get('executions', 0):,} | {minutes:.1f} | {kept:,} | {crashes} |", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
