"""Sets the C library's allocator to keep freed memory, since every inner step allocates the same sizes again."""

from __future__ import annotations

import ctypes
import sys

KEPT_BYTES = 32 * 2**20  # the maximum of M_MMAP_THRESHOLD


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next step, instead of returning it and taking page faults to get it back."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for parameter in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            mallopt(parameter, KEPT_BYTES)
