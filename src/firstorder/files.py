"""Atomic writing: a file is complete or it does not exist. Everything the package writes goes through `replacing`."""

from __future__ import annotations

import fcntl
import glob
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

SCRATCH = ".part"  # in the name of every scratch file, for .gitignore
SECONDS_TO_LOCK = 60.0  # a scratch file is locked long before it is this old


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a scratch path beside `path`. It replaces `path` if the `with` body succeeds, and is removed if it fails.

    A process that was killed leaves its scratch file, which the next one to write `path` removes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=SCRATCH + path.suffix, dir=path.parent)
    except OSError as error:
        error.filename = str(path)  # not that of a file nobody has heard of
        raise
    _lock(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)
        part.replace(path)
    except BaseException as error:
        with suppress(FileNotFoundError):
            part.unlink()
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, name):
            error.filename = str(path)  # a full disk, which the system reports without a path
        raise
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    """Take the lock that the kernel releases when the process ends; say whether nobody else has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False  # held, or a file system without locks
    return True


def _remove_abandoned(path: Path) -> None:
    """Remove the scratch files of `path` that no living process writes."""
    for scratch in path.parent.glob(f".{glob.escape(path.name)}.*{SCRATCH}{path.suffix}"):
        with suppress(OSError):
            handle = os.open(scratch, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if time.time() - os.fstat(handle).st_mtime >= SECONDS_TO_LOCK and _lock(handle):
                    scratch.unlink()
            finally:
                os.close(handle)


def parse_json(text: str | bytes) -> Any:
    """Parse JSON that somebody may have damaged; raises ValueError, in one line, for whatever it is not."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
