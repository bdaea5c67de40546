"""Too little memory to load libraries, found out beforehand: within this process some of them would abort it.

Where a shell or a scheduler limits the memory of a process (`ulimit -v`), the libraries of a verb are first loaded in
another process under the same limit. Without a limit, or with a wide one, nothing is done.
"""

from __future__ import annotations

import sys

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_ENOUGH = 4 << 30  # bytes of addresses, several times what torch on a CPU needs
_ROOM = 64 << 20  # bytes that must be left when the libraries are loaded
_TORCH, _TABLES, _FIGURES = "torch", "pandas", "pandas, seaborn"
LIBRARIES = {
    **dict.fromkeys(("train", "evaluate", "adaptation", "alphabets", "sine", "theory", "inner-products"), _TORCH),
    **dict.fromkeys(("bench",), _TORCH),
    **dict.fromkeys(("manifolds", "pack", "data", "suspend"), "numpy"),
    **dict.fromkeys(("accuracies", "table", "claims", "page", "why", "readme", "verify", "publish"), _TABLES),
    **dict.fromkeys(("collect",), _TABLES),
    **dict.fromkeys(("figure", "performance"), _FIGURES),
}


def check(verb: str) -> None:
    """Raise MemoryError if the memory of a process is limited and the libraries of a verb do not fit."""
    limit = _limit()
    if verb not in LIBRARIES or limit is None or limit >= _ENOUGH:
        return
    import subprocess

    libraries = LIBRARIES[verb]
    trial = f"import firstorder.cli\ntry:\n import {libraries}\nexcept ModuleNotFoundError: pass\nbytearray({_ROOM})"
    quiet = subprocess.DEVNULL
    done = subprocess.run([sys.executable, "-c", trial], stdin=quiet, stdout=quiet, stderr=quiet, check=False)
    if done.returncode:
        raise MemoryError(f"{libraries} cannot be loaded in the {limit >> 20:,} MiB that a process may have here")


def _limit() -> int | None:
    """Return the bytes that this process may have; None if there is no limit."""
    if resource is None:
        return None
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    return min((limit for limit in limits if limit != resource.RLIM_INFINITY), default=None)
