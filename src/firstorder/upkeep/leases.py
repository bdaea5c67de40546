"""One GPU for each process that computes: a lease is a lock on a file for the card, which ends with its holder.

A card on which another program computes is passed over and named, and so is one that was lost in mid-run less than an
hour ago, as long as there is another. The files are in one folder for all users and all projects of the machine.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from firstorder.errors import UserError, one_line
from firstorder.files import lock
from firstorder.upkeep.gpus import VISIBLE, Gpu

SHARED_BY_ALL = "firstorder-gpus"  # folder in the system's folder for temporary files
FORGIVEN = 3600.0  # seconds after which a card that was lost is tried again
_MOST_BYTES = 1 << 12  # of what a holder says about itself
Say = Callable[[str], object]


@dataclass(frozen=True)
class Lease:
    """A card that this process has to itself among the processes of this package, and the open file of its lock."""

    gpu: Gpu
    handle: int

    def lost(self, why: str) -> None:
        """Note that the card failed, so that others are taken first."""
        _write(self.handle, {"lost": time.time(), "why": one_line(why)[:200]})

    def end(self) -> None:
        """Give the card back; the end of the process does the same."""
        os.close(self.handle)


def folder() -> Path:
    """Return the folder of the locks."""
    return Path(tempfile.gettempdir()) / SHARED_BY_ALL


def take(gpus: Sequence[Gpu], told: str, say: Say) -> Lease | None:
    """Lease the best card that no process of this package holds: one that is free, or else one with a defect.

    A defect is that another program computes on it, or that it was lost. Such a card is taken only if this package
    holds no card at all; else None is returned, as if all were held. `told` says what this process does. Cards that are
    passed over are named through `say`.
    """
    found: list[tuple[str, Gpu, int]] = []
    held = False
    for gpu in gpus:
        if (handle := _open(gpu)) is None:
            found.append(("", gpu, os.open(os.devnull, os.O_RDONLY)))  # no place for locks is no reason not to compute
        elif lock(handle) is False:
            held = True
            os.close(handle)
        else:
            found.append((_defect(gpu, handle), gpu, handle))
    found.sort(key=lambda one: bool(one[0]))
    chosen = found[0] if found and not (held and found[0][0]) else None
    for one in found:
        if one is not chosen:
            os.close(one[2])
        if one[0]:
            say(f"{one[1]}: {one[0]}; {'taken all the same, as there is no other' if one is chosen else 'passed over'}")
    return None if chosen is None else _hold(chosen[1], chosen[2], told)


def wait(
    look: Callable[[], Sequence[Gpu]], told: str, say: Say, *, pause: Callable[[float], object] = time.sleep
) -> Lease:
    """Lease a card as `take`, and wait for one while others hold them all; `look` lists the cards each time.

    Raises UserError if there is no card any more.
    """
    waiting = False
    while True:
        gpus = look()
        if not gpus:
            raise UserError("the driver lists no GPU any more; see nvidia-smi, or use GPUS=0 to compute on the CPU")
        if (lease := take(gpus, told, _silent if waiting else say)) is not None:
            return lease
        if not waiting:
            holders = "; ".join(f"{gpu}: {holder(gpu)}" for gpu in gpus)
            say(f"waiting for a GPU ({holders})")
            waiting = True
        pause(2.0)


def _silent(text: str) -> None:
    """Say nothing."""


def is_leased(gpu: Gpu) -> bool:
    """Say whether a process of this package holds a card."""
    with _opened(gpu) as handle:
        return handle is not None and lock(handle) is False


def show(lease: Lease) -> None:
    """Let this process and its children see only the card of a lease. It must not have used CUDA before."""
    os.environ[VISIBLE] = lease.gpu.uuid
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the order in which the driver numbers cards


def _path(gpu: Gpu) -> Path:
    return folder() / f"{re.sub(r'[^A-Za-z0-9-]', '-', gpu.uuid)[:80]}.lock"


def _open(gpu: Gpu) -> int | None:
    """Open the file of a card; None where there is no place for it. Other users may lock it, but need not write it."""
    path = _path(gpu)
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with suppress(OSError):
        path.parent.mkdir(mode=0o777, exist_ok=True)
        with suppress(OSError):
            path.parent.chmod(0o1777)  # in which each user may make files, and remove only their own
    for mode in (os.O_RDWR | os.O_CREAT, os.O_RDWR, os.O_RDONLY):
        with suppress(OSError):
            handle = os.open(path, flags | mode, 0o666)
            with suppress(OSError):
                os.fchmod(handle, 0o666)
            return handle
    return None


@contextmanager
def _opened(gpu: Gpu) -> Iterator[int | None]:
    handle = _open(gpu)
    try:
        yield handle
    finally:
        if handle is not None:
            os.close(handle)


def _hold(gpu: Gpu, handle: int, told: str) -> Lease:
    since = datetime.now().astimezone().strftime("%F %T")
    _write(handle, {"pid": os.getpid(), "told": told, "since": since})
    return Lease(gpu, handle)


def _write(handle: int, about: dict[str, Any]) -> None:
    with suppress(OSError):  # of another user, or a full disk: the lock counts, not what it says
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(about).encode(), 0)


def _read(handle: int) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        found = json.loads(os.pread(handle, _MOST_BYTES, 0))
        return found if isinstance(found, dict) else {}
    return {}


def holder(gpu: Gpu) -> str:
    """Say who holds a card, or who computes on it."""
    if gpu.processes and not is_leased(gpu):
        return f"{users(gpu)} on it"
    with _opened(gpu) as handle:
        about = {} if handle is None else _read(handle)
    if "pid" not in about:
        return "free"
    return one_line(f"process {about['pid']} ({about.get('told')}) since {about.get('since')}")[:200]


def _defect(gpu: Gpu, handle: int) -> str:
    """Say what speaks against a card; nothing if it is free."""
    if gpu.processes:
        return f"{users(gpu)} on it"
    about = _read(handle)
    lost = about.get("lost")
    if isinstance(lost, int | float) and 0 <= time.time() - lost < FORGIVEN:
        return f"it was lost in mid-run ({one_line(about.get('why'))[:200]})"
    return ""


def users(gpu: Gpu) -> str:
    """Name the processes of other programs on a card."""
    several = len(gpu.processes) > 1
    return f"process{'es' if several else ''} {', '.join(map(str, gpu.processes))} compute{'' if several else 's'}"
