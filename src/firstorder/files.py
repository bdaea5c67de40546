"""Atomic writing, and reading that trusts nothing.

Writing: a file is complete or it does not exist. Everything the package writes goes through `replacing`. Reading: only
regular files are read (links to them too), of a bounded size. Each kind of file has a `Kind`, which reads it and turns
every failure into one line.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import json
import math
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from firstorder.errors import UserError

SCRATCH = ".part"  # in the name of every scratch file, for .gitignore
SECONDS_TO_LOCK = 60.0  # a scratch file is locked long before it is this old
LARGEST = 2**63  # of whole numbers in JSON
_DEEPEST = 100  # levels of brackets in JSON
_ACCESS = (
    *(errno.EACCES, errno.EPERM, errno.EISDIR, errno.EIO, errno.ENOMEM, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.EMFILE, errno.ENFILE),
)
_LOCKED = (errno.EACCES, errno.EAGAIN)
_LOCKLESS = (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL)


class MissingFileError(UserError):
    """There is no such file."""


@dataclass(frozen=True)
class Kind:
    """A kind of file: what it is, its largest size in bytes, and what to do about a damaged and about a missing one.

    `again` and `missing` may contain `{path}`.
    """

    what: str
    most: int
    again: str
    missing: str = "no such file; check the path"

    def read(self, path: Path) -> bytes:
        """Return the content of a regular file.

        Raises MissingFileError, and UserError if it cannot be read, is of another type or has too many bytes.
        """
        try:
            handle, size = _regular(path)
            try:
                if size > self.most:
                    raise self.refused(path, f"has {size:,} bytes, expected {self.what} of at most {self.most:,}")
                return _content(handle, size)
            finally:
                os.close(handle)
        except FileNotFoundError:
            raise MissingFileError(f"{path}: {self.missing.format(path=path)}") from None
        except OSError as error:
            raise unreadable(path, error, self.what) from None

    def read_text(self, path: Path) -> str:
        """Return the content of a text in UTF-8, with or without a byte-order mark; raises UserError as `read`."""
        content = self.read(path)
        if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content[:2]:
            raise self.refused(path, "in UTF-16, not in UTF-8")
        try:
            return decoded(content)
        except UnicodeDecodeError as error:
            raise self.refused(path, f"not in UTF-8 ({error})") from None

    def read_json(self, path: Path) -> dict[str, Any]:
        """Return a file that holds a mapping in JSON; raises UserError as `read`."""
        return self.parse_json(path, self.read(path))

    def parse_json(self, path: Path, content: bytes) -> dict[str, Any]:
        """Return the mapping in JSON that was read from `path`; raises UserError."""
        try:
            values = parse_json(content)
        except ValueError as error:
            raise self.refused(path, f"not valid JSON ({error})") from None
        if not isinstance(values, dict):
            raise self.refused(path, f"expected {self.what}, found {values!r:.40}")
        return values

    def refused(self, path: Path, why: str) -> UserError:
        """Return the error for a file whose content is not that of its kind."""
        return UserError(f"{path}: {why}; {self.again.format(path=path)}")


def decoded(content: bytes) -> str:
    """Return a text in UTF-8, with or without a byte-order mark; raises UnicodeDecodeError.

    Not Python's codec utf-8-sig: it is loaded when it is first used, and may then be out of reach.
    """
    return content.decode("utf-8").removeprefix("\ufeff")


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read; raises OSError for anything else, such as a FIFO, without waiting for a writer."""
    handle, _ = _regular(path)
    return os.fdopen(handle, "rb")


def _regular(path: Path) -> tuple[int, int]:
    """Return an open regular file and its size in bytes; raises OSError as `open_regular`."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:  # a path with a NUL
        raise OSError(errno.EINVAL, str(error)) from None
    try:
        found = os.fstat(handle)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"is a {kind_of(found.st_mode)}, not a file")
    except BaseException:
        os.close(handle)
        raise
    return handle, found.st_size


def _content(handle: int, size: int) -> bytes:
    """Return at most `size` bytes of an open file; a file object makes more calls, which counts for 10,000 files."""
    content = os.read(handle, size)
    while len(content) < size and (more := os.read(handle, size - len(content))):
        content += more
    return content


def shortened(path: Path) -> Path:
    """Return a path without `..` in it, as it is told best, if that is the same place, which links may prevent."""
    short = Path(os.path.normpath(path))
    return short if short.resolve() == path.resolve() else path


def kind_of(mode: int) -> str:
    """Name the kind of a file that is not regular."""
    return "FIFO" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"


def is_about_access(error: BaseException) -> bool:
    """Say whether an exception says that a file could not be reached, and so nothing about its content."""
    return isinstance(error, OSError) and error.errno in _ACCESS


def unreadable(path: Path, error: OSError, what: str) -> UserError:
    """Return the error for a file that cannot be read, with advice; its content is not known to be damaged.

    Raises MemoryError if memory is what lacked.
    """
    if error.errno == errno.ENOMEM:
        raise MemoryError(error.strerror) from None
    if error.errno is None or isinstance(error, IsADirectoryError):
        advice = "move it away or name another one"
    elif isinstance(error, PermissionError):
        advice = "give yourself the right to read it and to enter its folders"
    else:
        advice = "check the path and the disk"
    return UserError(f"{path}: cannot be read ({error.strerror or error}); expected {what}: {advice}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a scratch path beside `path`. It replaces `path` if the `with` body succeeds, and is removed if it fails.

    A link is replaced and not what it leads to. A process that was killed leaves its scratch file, which the next one
    to write `path` removes. Raises OSError for a FIFO, socket or device at `path`.
    """
    mode = path.lstat().st_mode if os.path.lexists(path) else stat.S_IFREG
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EEXIST, f"is a {kind_of(mode)}, expected a file or nothing", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=SCRATCH + path.suffix, dir=path.parent)
    except OSError as error:
        error.filename = str(path)  # not that of a file nobody has heard of
        raise
    with suppress(OSError):
        lock(handle)
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


def lock(handle: int, *, shared: bool = False, wait: bool = False) -> bool | None:
    """Lock an open file until it is closed or the process ends (flock), and return True.

    Return False, or `wait`, while another process holds the lock; return None on a file system without locks.
    """
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in (*_LOCKED, *_LOCKLESS):
            raise
        return False if error.errno in _LOCKED else None
    return True


def _remove_abandoned(path: Path) -> None:
    """Remove the scratch files of `path` that no living process writes."""
    for scratch in path.parent.glob(f".{glob.escape(path.name)}.*{SCRATCH}{path.suffix}"):
        with suppress(OSError):
            handle = os.open(scratch, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if time.time() - os.fstat(handle).st_mtime >= SECONDS_TO_LOCK and lock(handle):
                    scratch.unlink()
            finally:
                os.close(handle)


def parse_json(text: str | bytes) -> Any:
    """Parse JSON in UTF-8 that somebody may have damaged.

    Raises ValueError, in one line, for whatever it is not, and for what Python takes though it is a lie or a trap: a
    key given twice, a number that is not finite or 2^63 and more, a lone surrogate, deep nesting.
    """
    try:
        value = _DECODER.decode(text if isinstance(text, str) else text.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    _check_values(value)
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r:.80} is given twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_distinct)


def _check_values(value: Any) -> None:
    """Raise ValueError for values in JSON that other code cannot be expected to cope with."""
    level = [value]
    for _ in range(_DEEPEST):
        inner: list[Any] = []
        for item in level:
            kind = type(item)  # what json.loads makes has exactly these types
            if kind is str:
                if not item.isascii():
                    item.encode()  # raises UnicodeEncodeError, which is a ValueError, for a lone surrogate
            elif kind is int:
                if not -LARGEST < item < LARGEST:
                    raise ValueError("a whole number of 2^63 or more")
            elif kind is float:
                if not math.isfinite(item):
                    raise ValueError(f"a number that is not finite ({item})")
            elif kind is dict:
                inner += item
                inner += item.values()
            elif kind is list:
                inner += item
        if not inner:
            return
        level = inner
    raise ValueError(f"nested more than {_DEEPEST} deep")
