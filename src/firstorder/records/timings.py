"""Whether the seconds of a run file measure a speed: not if the work was interrupted or the machine busy. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BUSY_BELOW = 0.8  # of its seconds that one thread of an undisturbed computation on a CPU computes, at least


def unusable(run: Mapping[str, Any]) -> str | None:
    """Say why the `seconds` of a run file are the speed of no machine; None if they may be one.

    A computation on a CPU that got less than `BUSY_BELOW` of a core shared it with others. Run files from before
    `cpu_seconds` was recorded do not say so.
    """
    if not isinstance(run.get("seconds"), int | float):
        return "no time is recorded"
    if "legs" in run:
        return "interrupted"
    used, seconds = run.get("cpu_seconds"), float(run["seconds"])
    on_cpu = str(run.get("device", "")).startswith("cpu")
    if on_cpu and isinstance(used, int | float) and used < BUSY_BELOW * seconds:
        return f"busy machine: {used / max(seconds, 1e-9):.0%} of a core"
    return None
