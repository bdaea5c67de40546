"""Folders for copies that are checked before anything is taken over; those of killed processes are removed."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from firstorder.files import lock

_PREFIX = "collect-"
_NAME = re.compile(_PREFIX + "[a-z0-9_]{8}")  # as tempfile makes them
_SECONDS_WITHOUT_LOCKS = 86_400.0  # on a file system that has none, a folder is abandoned after a day


@contextmanager
def stage(below: Path) -> Iterator[Path]:
    """Give an empty folder below an existing one; it is removed in the end, or by the next one after a kill."""
    _remove_abandoned(below)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=below) as made:
        handle = os.open(made, os.O_RDONLY)
        try:
            lock(handle)
            yield Path(made)
        finally:
            os.close(handle)


def _remove_abandoned(below: Path) -> None:
    """Remove the stages that no living process holds."""
    for path in below.iterdir():
        if not _NAME.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
            continue
        with suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                held = lock(handle)
                if held or (held is None and time.time() - os.fstat(handle).st_mtime > _SECONDS_WITHOUT_LOCKS):
                    shutil.rmtree(path)
            finally:
                os.close(handle)
