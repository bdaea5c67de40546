"""Atomic writing: a file is complete or it does not exist. Everything the package writes goes through `replacing`."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a scratch path beside `path`. It replaces `path` if the `with` body succeeds, and is removed if it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        error.filename = str(path)  # not that of a file nobody has heard of
        raise
    os.close(handle)
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


def parse_json(text: str | bytes) -> Any:
    """Parse JSON that somebody may have damaged; raises ValueError, in one line, for whatever it is not."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
