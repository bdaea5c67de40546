"""What Git has committed of a file, asked so that nothing of the repository that it lies in is run.

A folder to verify may come from anybody, its `.git/config` included. `git diff` and `git status` run what is named
there: file system monitors, filters, programs that compare. `git rev-parse HEAD:PATH` reads objects only, and with no
protocol allowed it does not fetch missing ones. Its answer, the digest of the content, is compared here.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path

from firstorder.files import open_regular

_SECONDS = 20
_CHUNK_BYTES = 1 << 20
_OPTIONS = (
    *("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "protocol.allow=never"),
    *("-c", "core.pager=cat", "--no-pager", "--no-optional-locks", "--no-replace-objects"),
)
_VARIABLES = {"GIT_ALLOW_PROTOCOL": "", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0", "GIT_PAGER": "cat"}
_DIGESTS = {40: "sha1", 64: "sha256"}  # by the length of an object's name


def is_as_committed(path: Path) -> bool | None:
    """Say whether a file is as it is in the last commit; None if Git does not have it, or is not here."""
    found = _git(path, "rev-parse", "--verify", "--quiet", f"HEAD:./{path.name}")
    if found is None:
        return None
    named = found.decode(errors="replace").strip()
    if len(named) not in _DIGESTS or not re.fullmatch("[0-9a-f]+", named):
        return None
    return _object_name(path, _DIGESTS[len(named)]) == named


def content(path: Path) -> bytes | None:
    """Return the content of a file in the last commit; None if Git does not have it, or is not here."""
    return _git(path, "cat-file", "blob", f"HEAD:./{path.name}")


def _git(path: Path, *arguments: str) -> bytes | None:
    """Return what Git answers in the folder of a file; None if it fails."""
    try:
        return subprocess.run(
            ["git", "-C", str(path.parent), *_OPTIONS, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, **_VARIABLES},
            timeout=_SECONDS,
            check=True,
        ).stdout
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _object_name(path: Path, algorithm: str) -> str | None:
    """Return the name that Git gives to a file's content; None if it cannot be read."""
    hashed = hashlib.new(algorithm, usedforsecurity=False)
    try:
        with open_regular(path) as file:
            hashed.update(b"blob %d\0" % os.fstat(file.fileno()).st_size)
            while chunk := file.read(_CHUNK_BYTES):
                hashed.update(chunk)
    except OSError:
        return None
    return hashed.hexdigest()
