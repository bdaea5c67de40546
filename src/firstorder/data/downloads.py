"""Downloads of archives: several sources in order, each file checked before it gets its name.

What arrives is kept in `.<name>.part` beside the archive, and the next source or the next command goes on from there.
No record says where it came from: whatever was put together, the checksum decides (from a mirror, the checksums inside
the zip), and what is wrong is downloaded once more from its first byte.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 (loaded now: a process may later have no right to read it)
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from firstorder.data import archives
from firstorder.data.addresses import mirrored, without_secrets
from firstorder.data.archives import Archive
from firstorder.data.transfers import USUAL, Limits, Transfer, UnavailableError, Wanted, size_of
from firstorder.errors import UserError
from firstorder.files import kind_of, lock
from firstorder.progress import Track, silent

# A mirror's archive may be compressed less than the official one, but only up to this factor.
LARGEST_MIRRORED_RATIO = 4
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK


def fetch(
    archive: Archive,
    folder: Path,
    mirror: str | None = None,
    track: Track = silent,
    tell: Callable[[str], object] = lambda line: None,
    limits: Limits = USUAL,
) -> Path:
    """Download `archive` to `folder` (named after the data set), unless a complete one is there; return its path.

    With a `mirror` (the value of DATA_MIRROR: a folder, or an address of http, https or file without a password), first
    `<mirror>/<data set>/<name>` and `<mirror>/<name>` are tried, then the official addresses. `tell` is given a
    line where a source fails and the next is tried. The file appears only when it is complete.

    Raises UserError if no source gives the archive (it names them all, each with the reason), if the mirror does not
    exist, or if the disk is full.
    """
    path = folder / archive.name
    if archives.is_whole(path):
        return path
    sources = [(address, False) for address in mirrored(mirror, folder.name, archive.name)] if mirror else []
    sources += [(address, True) for address in archive.urls]
    failures: list[str] = []
    told = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _claimed(path, tell) as part:
            if archives.is_whole(path):  # by the process that was waited for
                return path
            _check_room(archive, folder, part)
            for place, (address, official) in enumerate(sources, 1):
                fault = partial(_fault, archive, Path(part.name), official=official)
                most = archive.bytes * (1 if official else LARGEST_MIRRORED_RATIO)
                wanted = Wanted(archive.name, archive.bytes, most, fault)
                try:
                    Transfer(address, part, wanted, track, limits).run()
                except UnavailableError as failure:
                    failures.append(f"{without_secrets(address)} ({failure})")
                    if place < len(sources) and sources[place][1]:  # not between the two places in a mirror
                        tell(f"{archive.name}: tried {', '.join(failures[told:])}; trying {sources[place][0]}")
                        told = len(failures)
                else:
                    Path(part.name).replace(path)
                    return path
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path}: cannot be written: {reason}; make room there or choose another folder") from None
    unset = ", or unset it" if mirror else ""
    raise UserError(
        f"{archive.name} could not be fetched, tried {', '.join(failures)}; try again later, set DATA_MIRROR to a "
        f"folder or an address that holds {folder.name}/{archive.name}{unset}, or put the file at {path} by hand"
    )


@contextmanager
def _claimed(path: Path, tell: Callable[[str], object]) -> Iterator[BinaryIO]:
    """Open the part of `path` to append to it, for this process alone; an empty one is removed in the end."""
    part = path.with_name(f".{path.name}.part")
    if part.is_symlink() or (part.exists() and not part.is_file()):
        kind = "link" if part.is_symlink() else "folder" if part.is_dir() else kind_of(part.stat().st_mode)
        raise UserError(f"{part}: expected a regular file, found a {kind}; delete it")
    while True:
        # The flags: should it be a link or a FIFO by now, do not follow it, and do not wait.
        with open(part, "a+b", opener=lambda name, flags: os.open(name, flags | _FLAGS, 0o644)) as file:
            if lock(file.fileno()) is False:
                tell(f"{path}: another process downloads it; waiting for that one to end")
                lock(file.fileno(), wait=True)
            # The process that was waited for may have given the file its name; then it is no part any more.
            if not part.exists() or not os.path.samestat(os.fstat(file.fileno()), part.stat()):
                continue
            try:
                yield file
            finally:
                if part.exists() and not part.stat().st_size:
                    part.unlink()
            return


def _check_room(archive: Archive, folder: Path, part: BinaryIO) -> None:
    free, needed = shutil.disk_usage(folder).free, archive.bytes - size_of(part)
    if free < needed:
        raise UserError(f"{folder}: {archive.name} needs {needed:,} bytes, the disk has {free:,} bytes free; make room")


def _fault(archive: Archive, path: Path, *, official: bool) -> str | None:
    """Say what is wrong with the file at `path`, if anything. From an official source only the official bytes count."""
    with path.open("rb") as file:
        size, start = size_of(file), file.read(16)
        if not size:
            return "empty, expected a zip"
        if not start.startswith(b"PK"):
            return f"no zip, but {size:,} bytes that begin with {start!r}"
        if not official:
            return None if archives.is_whole(path) else "not a whole zip"
        if size != archive.bytes:
            return f"{size:,} bytes, expected {archive.bytes:,}"
        file.seek(0)
        md5 = hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
        return None if md5 == archive.md5 else f"MD5 {md5}, expected {archive.md5}"
