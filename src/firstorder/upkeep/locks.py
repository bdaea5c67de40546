"""File locks (flock) that keep concurrent commands in one folder from undoing each other's work.

The existence of a lock file means nothing. The kernel holds the lock and releases it when the process exits,
even if it is killed; the lock survives exec. The file itself stays. While the lock is held, its content names the
holder.

Three locks are taken, always in this order, which rules out deadlocks. The folder: shared by commands that compute one
cell, exclusive for a command that computes everything. A training with one seed: exclusive for a cell that depends on
it. The report: exclusive while tables and figures are drawn.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from firstorder.errors import UserError, one_line
from firstorder.files import lock, open_regular, parse_json

LOCKS_FOLDER = ".work/locks"
FOLDER, REPORT = "folder", "report"
HELD = "FIRSTORDER_HELD"  # environment variable: tells a command that its parent has taken the locks already
_MOST_BYTES = 1 << 16  # of what a holder says about itself


@dataclass(frozen=True)
class Lock:
    """A named lock: exclusive, or shared with all who take it as shared."""

    name: str
    shared: bool = False


WHOLE = [Lock(FOLDER), Lock(REPORT)]


@contextmanager
def held(root: Path, locks: Sequence[Lock], purpose: str, warn: Callable[[str], object]) -> Iterator[None]:
    """Hold locks on the folder `root` during the `with` body; arguments and errors as of `take` with `wait=False`."""
    handles = take(root, locks, purpose, warn, wait=False)
    try:
        yield
    finally:
        for handle in handles:
            os.close(handle)


def take(
    root: Path, locks: Sequence[Lock], purpose: str, warn: Callable[[str], object], *, wait: bool = True
) -> list[int]:
    """Take locks on the folder `root`, held until this process exits or closes the handles that are returned.

    While another process holds one of them, name it through `warn` and wait; with `wait=False` raise UserError
    instead. `purpose` says what this process does; others that wait for it are shown that. On a file system without
    locks, warn and continue.
    """
    handles = []
    for wanted in locks:
        path = root / LOCKS_FOLDER / f"{wanted.name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _open(path)
        os.set_inheritable(handle, True)  # keeps the lock across exec
        taken = lock(handle, shared=wanted.shared)
        if taken is False:
            # A shared lock names no holder: several processes may share it. Then name all holders of other locks.
            by = _holder(path) or ", ".join(holders(root)) or "another process"
            busy = f"{root.resolve()}: in use by {by}"
            if not wait:
                os.close(handle)
                raise UserError(f"{busy}; wait for it to end, or end it")
            warn(f"{busy}; waiting for it to end")
            taken = lock(handle, shared=wanted.shared, wait=True)
        if taken is None:
            warn(f"{path}: this file system does not support locks; run one command at a time in this folder")
        if not wanted.shared:
            about = {"pid": os.getpid(), "told": purpose, "since": datetime.now().astimezone().strftime("%F %T")}
            try:
                os.ftruncate(handle, 0)
                os.pwrite(handle, json.dumps(about).encode(), 0)
            except OSError as error:
                error.filename = str(path)  # a full disk, which the system reports without a path
                raise
        handles.append(handle)
    return handles


def _open(path: Path) -> int:
    """Open a lock file, which is written into. Raises UserError for a link or anything else that is no regular file."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        raise UserError(f"{path}: expected a regular file, found a link or another kind of file; delete it") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UserError(f"{path}: expected a regular file, found another kind of file; delete it")
    return handle


def holders(root: Path) -> list[str]:
    """Describe each process that holds an exclusive lock on `root`: its id, its purpose, since when."""
    found = map(_holder, sorted((root / LOCKS_FOLDER).rglob("*.lock")))
    return list(dict.fromkeys(holder for holder in found if holder))


def _holder(path: Path) -> str | None:
    """Describe the process that holds a lock exclusively; None if there is none."""
    with suppress(OSError, ValueError, KeyError, TypeError), open_regular(path) as file:
        if lock(file.fileno(), shared=True) is False:
            about: dict[str, Any] = parse_json(file.read(_MOST_BYTES))
            return one_line(f"process {about['pid']} ({about['told']}) since {about['since']}")
    return None


def exec_command(command: Sequence[str]) -> NoReturn:
    """Replace this process with `command`, which keeps the locks. Raises UserError if there is no such command."""
    # Python ignores SIGPIPE and `command` would inherit that: it would report a closed pipe as an error.
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execvpe(command[0], list(command), {**os.environ, HELD: "1"})
    except FileNotFoundError:
        raise UserError(f"{command[0]}: no such command") from None
    finally:
        signal.signal(signal.SIGPIPE, before)
