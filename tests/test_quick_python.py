"""The `python` of Snakemake's jobs in tests does what Python does: streams, exit codes and tracebacks."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def run(quick_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command, variables = [str(quick_path / "python"), *arguments], {**os.environ, **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def test_a_jobs_streams_are_its_own(quick_path: Path, tmp_path: Path) -> None:
    """The server's streams are files under pytest, which can seek; those of a job are pipes here."""
    done = run(quick_path, "-m", "firstorder", "stale", "--params", str(tmp_path / "params.yaml"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"firstorder: {tmp_path / 'params.yaml'}: ")
    done = run(quick_path, "-m", "firstorder", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


def test_a_defect_of_a_job_is_shown(quick_path: Path) -> None:
    done = run(quick_path, "-m", "firstorder", "--version", NUMERICS_VERSION="none")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert "invalid literal for int()" in done.stderr
