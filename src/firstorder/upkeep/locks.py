"""Locks on what is computed in one folder, so that two commands at once neither fail nor undo each other's work.

A newcomer would get wrong: the lock is not the file. The system holds it (flock) as long as the process lives that took
it, or that it became; a killed process frees it at once, and nobody has to unlock anything. The file stays and says who
holds the lock: it is read only while somebody does.

A cell holds its training, for one seed, and shares the folder with cells of other trainings; whoever computes
everything holds the folder alone; reports are drawn one at a time. Locks are taken in this order, so nobody waits in a
circle.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from firstorder.errors import UserError
from firstorder.files import parse_json

PLACE = ".work/locks"
FOLDER, REPORT = "folder", "report"
HELD = "FIRSTORDER_HELD"  # says to what is run below that the locks are taken
_BUSY = (errno.EACCES, errno.EAGAIN)
_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL)


@dataclass(frozen=True)
class Lock:
    """One thing that is locked, for oneself or shared with those who take it likewise."""

    name: str
    shared: bool = False


WHOLE = [Lock(FOLDER), Lock(REPORT)]


def take(root: Path, locks: Sequence[Lock], told: str, tell: Callable[[str], object], *, wait: bool = True) -> None:
    """Take locks below `root` for this process, for as long as it lives; while others hold them, tell who and wait.

    `told` is what others are told that this process does. With `wait` False raises UserError instead, naming who
    holds them. Where the file system knows no locks, says so and goes on.
    """
    for lock in locks:
        path = root / PLACE / f"{lock.name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        os.set_inheritable(handle, True)  # it goes with the process through exec
        kind = fcntl.LOCK_SH if lock.shared else fcntl.LOCK_EX
        try:
            if not _try(handle, kind):
                # The folder may be shared by many, who are named by what else they hold.
                by = _holder(path) or ", ".join(holders(root)) or "another process"
                busy = f"{root.resolve()}: in use by {by}"
                if not wait:
                    os.close(handle)
                    raise UserError(f"{busy}; wait for it to end, or end it")
                tell(f"{busy}; waiting for it to end")
                fcntl.flock(handle, kind)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            tell(f"{path}: this file system knows no locks; run one command at a time in this folder")
        if not lock.shared:
            about = {"pid": os.getpid(), "told": told, "since": datetime.now().astimezone().strftime("%F %T")}
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(about).encode(), 0)


def holders(root: Path) -> list[str]:
    """Say who holds locks below `root`: process, what it does, since when. Each process once."""
    found = map(_holder, sorted((root / PLACE).rglob("*.lock")))
    return list(dict.fromkeys(holder for holder in found if holder))


def _holder(path: Path) -> str | None:
    """Say who holds one lock alone; None if nobody does."""
    with path.open("rb") as file, suppress(OSError, ValueError, KeyError):
        if not _try(file.fileno(), fcntl.LOCK_SH):
            about: dict[str, Any] = parse_json(file.read())
            return f"process {about['pid']} ({about['told']}) since {about['since']}"
    return None


def become(command: Sequence[str]) -> NoReturn:
    """Replace this process by `command`, which keeps its locks."""
    # Python ignores the signal of a closed pipe, and a command started from here would do so too and complain of it.
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execvpe(command[0], list(command), {**os.environ, HELD: "1"})
    except FileNotFoundError:
        raise UserError(f"{command[0]}: no such command") from None
    finally:
        signal.signal(signal.SIGPIPE, before)


def _try(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True
