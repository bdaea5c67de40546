"""Asks the system's allocator to keep what is freed: every inner step needs the same blocks again."""

from __future__ import annotations

import ctypes
import sys


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks for the next step instead of handing them back and faulting them in again."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for parameter in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            mallopt(parameter, 32 * 2**20)  # the largest that M_MMAP_THRESHOLD takes
