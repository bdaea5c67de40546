"""Check every locked package for known vulnerabilities with pip-audit: python tools/audit.py LOCK...

Exits with 0 if all were checked and none has a known one, with 1 if one has, and with 2 if some could not be checked,
because then nothing is known about them. pip-audit itself exits with 0 if PyPI answers that it knows no such package.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def main() -> int:
    """Print a line for each finding and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("locks", nargs="+", type=Path, metavar="LOCK")
    parser.add_argument("--service", choices=["osv", "pypi"], default="osv", help="the database to ask")
    parser.add_argument("--osv-url", default="https://api.osv.dev/v1/query")
    arguments = parser.parse_args()
    pins = sorted({pin for lock in arguments.locks for pin in re.findall(r"(?m)^[\w.-]+==[^\s;\\]+", lock.read_text())})
    packages = ask(pins, [f"--vulnerability-service={arguments.service}", f"--osv-url={arguments.osv_url}"])
    checked = [package for package in packages if "skip_reason" not in package]
    faults = [(package, fault) for package in checked for fault in package["vulns"]]
    for package, fault in faults:
        names = ", ".join([fault["id"], *fault["aliases"]])
        repair = ", ".join(fault["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']}: {names}; fixed in {repair}")
    known = f"; known vulnerabilities in them: {len(faults)}" if checked else ""
    print(f"{len(checked)} of {len(pins)} packages checked with {arguments.service}{known}", flush=True)
    if faults:
        return 1
    if len(checked) < len(pins):
        reasons = {package["skip_reason"] for package in packages if "skip_reason" in package}
        print(
            f"NOT CHECKED: {len(pins) - len(checked)} packages, about which nothing is known; the database "
            f"{arguments.service} cannot be reached or does not answer for them"
            f"{': ' + sorted(reasons)[0] if reasons else ''}; run it again where it can be reached",
            file=sys.stderr,
        )
        return 2
    return 0


def ask(pins: Sequence[str], service: Sequence[str]) -> list[dict[str, Any]]:
    """Return pip-audit's answer for each package, none if it gave no answer at all; then print why."""
    # Without markers, to check also what is for another system or Python; and so without hashes.
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pins))
        file.flush()
        options = ["--no-deps", "--disable-pip", "--progress-spinner=off", "--format=json", "--requirement", file.name]
        command = [sys.executable, "-m", "pip_audit", *options, *service]
        done = subprocess.run(command, capture_output=True, text=True)
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
        return packages
    except (ValueError, KeyError):
        print(" ".join((done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1].split()), file=sys.stderr)
        return []


if __name__ == "__main__":
    sys.exit(main())
