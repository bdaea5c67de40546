"""The files in a folder, zip or tar, listed without unpacking, for readers of images. No torch."""

from __future__ import annotations

import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

from firstorder.data import image_files
from firstorder.files import open_regular

EXTENSIONS = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE),
    tarfile.SOLARIS_XHDTYPE,
)
Mode = Literal["r:", "r:gz", "r:bz2", "r:xz"]
COMPRESSIONS: dict[bytes, Mode] = {b"\x1f\x8b": "r:gz", b"BZh": "r:bz2", b"\xfd7zXZ\0": "r:xz"}
LARGEST_EXTENSION_BYTES = 1 << 20  # of what a tar says before a member; names have a few hundred


@dataclass(frozen=True)
class Entry:
    """One file or folder in a folder or archive; `open` is None for a folder."""

    path: PurePosixPath
    open: Callable[[], IO[bytes]] | None
    bytes: int = 0
    is_file: bool = True  # not a link or device in an archive, nor a FIFO or device in a folder


def entries_of(source: Path, stack: ExitStack) -> Iterator[Entry]:
    """List a folder, zip or tar, with all that is in it."""
    if source.is_dir():
        return _in_folder(source)
    file = stack.enter_context(open_regular(source))
    if zipfile.is_zipfile(file):
        return _in_zip(stack.enter_context(zipfile.ZipFile(file)))
    file.seek(0)
    return members_of(stack.enter_context(open_tar(file)))


def _in_folder(source: Path) -> Iterator[Entry]:
    """List a folder. Links are followed, but a folder is read once however many links lead to it."""

    def fail(error: OSError) -> None:
        raise error

    known = {_identity(source)}
    for folder, folders, files in os.walk(source, onerror=fail, followlinks=True):
        below = PurePosixPath(Path(folder).relative_to(source).as_posix())
        for name in sorted(folders):
            yield Entry(below / name, None)
        folders[:] = sorted(name for name in folders if not image_files.is_passed_over(PurePosixPath(name)))
        for name in [*folders]:
            identity = _identity(Path(folder, name))
            if identity in known:
                folders.remove(name)
            known.add(identity)
        for name in sorted(files):
            path = Path(folder, name)
            if image_files.is_passed_over(PurePosixPath(name)):
                continue
            status = path.stat()
            is_file = stat.S_ISREG(status.st_mode)
            yield Entry(below / name, partial(open_regular, path), status.st_size, is_file)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _in_zip(archive: zipfile.ZipFile) -> Iterator[Entry]:
    for info in archive.infolist():
        get = None if info.is_dir() else partial(archive.open, info)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack without a bound
            raise zipfile.BadZipFile(f"{info.filename} is neither stored nor deflated")
        kind = stat.S_IFMT(info.external_attr >> 16)
        yield Entry(PurePosixPath(info.filename), get, info.file_size, kind in (0, stat.S_IFREG))


class _BoundedMember(tarfile.TarInfo):
    """A member of a tar. One that only extends the next one, as by a long name, is read at once, so it is bounded."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in EXTENSIONS and self.size > LARGEST_EXTENSION_BYTES:
            raise tarfile.ReadError(f"the header before a member has {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]  # typeshed does not know it


def open_tar(file: IO[bytes]) -> tarfile.TarFile:
    """Open a tar, compressed or not; raises tarfile.TarError or what its compression raises."""
    # Not by trying each compression, as tarfile would: that of xz skips zeros, however many there are.
    start = file.read(6)
    file.seek(0)
    mode: Mode = next((mode for begins, mode in COMPRESSIONS.items() if start.startswith(begins)), "r:")
    return tarfile.open(fileobj=file, mode=mode, tarinfo=_BoundedMember)


def members_of(archive: tarfile.TarFile) -> Iterator[Entry]:
    """List an open tar, with all that is in it."""

    def opener(member: tarfile.TarInfo) -> IO[bytes]:
        file = archive.extractfile(member)
        assert file is not None
        return file

    for member in archive:
        get = None if member.isdir() else partial(opener, member)
        yield Entry(PurePosixPath(member.name), get, member.size, member.isreg())
