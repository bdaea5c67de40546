"""How a number was made: machine, versions, commit, time. This goes into run files, never into records."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

PACKAGES = ("torch", "numpy", "pillow", "safetensors")


def run_information(seconds: float, device: str) -> dict[str, Any]:
    """Describe a computation of `seconds` on `device`: machine, versions, commit, end time.

    `peak_memory_bytes` is this process's largest resident memory so far; memory of a GPU does not count.
    """
    return {
        "seconds": round(seconds, 1),
        "peak_memory_bytes": _peak_memory(),
        "device": device,
        "machine": machine(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
        "ended": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def machine() -> str:
    """Name this machine: its processor, the cores that this process may use, system and architecture."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_processor()}, {cores} cores, {platform.system()} {platform.machine()}"


def _peak_memory() -> int | None:
    """Return the largest resident memory of this process in bytes; None if the system does not report it."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB


def _processor() -> str:
    """Name the processor; where a virtual machine hides its model ("AMD EPYC"), with family and model in numbers."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in reversed(lines))}
    name = fields.get("model name", "unknown processor")
    numbers = [f"{part} {fields[key]}" for part, key in (("family", "cpu family"), ("model", "model")) if key in fields]
    return name if any(map(str.isdigit, name)) or not numbers else f"{name} ({' '.join(numbers)})"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _commit() -> str:
    """Return the commit of the package's source tree, with a + if files that Git tracks differ from it."""
    here = Path(__file__).parents[1]
    git = ["git", "-C", str(here), "-c", "core.fsmonitor=false", "--no-optional-locks"]
    try:
        # If Git does not track this file, the package is installed inside another repository, whose commit is not ours.
        subprocess.run([*git, "ls-files", "--error-unmatch", "--", __file__], capture_output=True, check=True)
        commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", str(here)], capture_output=True, check=False)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.stdout.strip() + ("+" if changed.returncode else "")
