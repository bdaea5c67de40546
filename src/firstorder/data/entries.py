"""The files in a folder, zip or tar, listed without unpacking, for readers of images. No torch."""

from __future__ import annotations

import errno
import os
import re
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
from firstorder.data.archives import name_inside
from firstorder.errors import shown
from firstorder.files import open_regular

EXTENSIONS = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE),
    tarfile.SOLARIS_XHDTYPE,
)
Mode = Literal["r:", "r:gz", "r:bz2", "r:xz"]
COMPRESSIONS: dict[bytes, Mode] = {b"\x1f\x8b": "r:gz", b"BZh": "r:bz2", b"\xfd7zXZ\0": "r:xz"}
LARGEST_EXTENSION_BYTES = 1 << 16  # of what a tar says before a member; names have a few hundred
LARGEST_MEMBER_BYTES = 1 << 40  # all of ILSVRC-2012 has 1.5e11
PAX_RECORD = re.compile(rb"([1-9]\d{0,5}) [^=\n]+=")
LONGEST_DIGITS = 100  # in a row; Python's search in them takes a time that grows with the square of their number
ZIPS = (b"PK\3\4", b"PK\5\6", b"PK\7\x08")  # how they begin
MOST_ZEROS = 1 << 28  # after the end of a tar, which fill it up to its block size


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
    # By its beginning: an archive of one kind may end with one of another kind, and would pass for that.
    if file.read(4) in ZIPS:
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
            yield Entry(below / _parted(name), None)
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
            try:
                status = path.stat()
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ELOOP):
                    raise
                status = path.lstat()  # a link that leads nowhere
            is_file = stat.S_ISREG(status.st_mode)
            yield Entry(below / _parted(name), partial(open_regular, path), status.st_size, is_file)


def _parted(name: str) -> PurePosixPath:
    """Return the name of a file in a folder; some tools unpack archives of Windows into names with backslashes."""
    return name_inside(name) if "\\" in name else PurePosixPath(name)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _in_zip(archive: zipfile.ZipFile) -> Iterator[Entry]:
    _check_whole(archive)
    for info in archive.infolist():
        path = name_inside(info.filename)
        get = None if info.filename.endswith(("/", "\\")) else partial(archive.open, info)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack without a bound
            raise zipfile.BadZipFile(f"{shown(path)} is neither stored nor deflated")
        kind = stat.S_IFMT(info.external_attr >> 16)
        yield Entry(path, get, info.file_size, kind in (0, stat.S_IFREG))


def _check_whole(archive: zipfile.ZipFile) -> None:
    """Raise BadZipFile for a zip with more before or after it, as another zip, which Python would not read."""
    assert archive.fp is not None
    archive.fp.seek(-22 - len(archive.comment), os.SEEK_END)
    first = min((info.header_offset for info in archive.infolist()), default=0)
    if first or archive.fp.read(4) != b"PK\5\6":
        raise zipfile.BadZipFile("more before or after it in the file, as if two archives had been joined")


class _CheckedMember(tarfile.TarInfo):
    """A member of a tar whose header is whole and says what can be.

    Python ends a tar without a word at a damaged header, and reads for ever where a size is negative or a sparse file's
    map is cut short. One that only extends the next one, as by a long name, is read at once, so it is bounded.
    """

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Any:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed does not know it
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"a member's header is damaged or missing ({error})") from None

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in EXTENSIONS and self.size > LARGEST_EXTENSION_BYTES:
            raise tarfile.ReadError(f"the header before a member has {self.size:,} bytes")
        if self.type == tarfile.GNUTYPE_SPARSE:
            self._refuse_sparse()
        return super()._proc_member(archive)  # type: ignore[misc]

    def _proc_pax(self, archive: Any) -> Any:
        header = archive.fileobj.read(self._block(self.size))
        if re.search(rb"\d{%d}" % LONGEST_DIGITS, header):
            raise tarfile.ReadError(f"{LONGEST_DIGITS} digits in a row in the header before a member")
        place = 0
        while place < self.size:  # Python passes over whatever follows a malformed record
            found = PAX_RECORD.match(header, place)
            length = int(found[1]) if found else 0
            place += length
            if not found or found.end() > place or header[place - 1 : place] != b"\n":
                raise tarfile.ReadError("the header before a member has a malformed record")
        archive.fileobj = _ReadAgain(header, archive, archive.fileobj)
        return super()._proc_pax(archive)  # type: ignore[misc]

    def _block(self, count: int) -> int:
        self._check_size(count)
        return super()._block(count)  # type: ignore[misc, no-any-return]

    def _apply_pax_info(self, headers: dict[str, str], encoding: str, errors: str) -> None:
        if any(key.startswith("GNU.sparse.") for key in headers):
            self._refuse_sparse()
        super()._apply_pax_info(headers, encoding, errors)  # type: ignore[misc]
        self._check_size(self.size)

    def _check_size(self, size: int) -> None:
        if not 0 <= size <= LARGEST_MEMBER_BYTES:
            raise tarfile.ReadError(f"a member has {size:,} bytes")

    def _refuse_sparse(self, *_: object) -> None:
        raise tarfile.ReadError("a member is a sparse file, which is not read; make the tar without sparse files")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


def _check_end(archive: tarfile.TarFile) -> None:
    """Raise tarfile.ReadError if anything but zeros follows the end of a tar that has been read."""
    assert archive.fileobj is not None
    zeros = 0
    while chunk := archive.fileobj.read(1 << 20):
        zeros += len(chunk)
        if chunk.strip(b"\0") or zeros > MOST_ZEROS:
            raise tarfile.ReadError("more follows its end, as if two archives had been joined or a part were erased")


@dataclass
class _ReadAgain:
    """Stands in for a tar's file, to give what was read from it once more; a compressed file cannot go back."""

    header: bytes
    archive: Any
    file: IO[bytes]

    def read(self, count: int) -> bytes:
        self.archive.fileobj = self.file
        return self.header


def open_tar(file: IO[bytes]) -> tarfile.TarFile:
    """Open a tar, compressed or not; raises tarfile.TarError or what its compression raises."""
    # Not by trying each compression, as tarfile would: that of xz skips zeros, however many there are.
    start = file.read(6)
    file.seek(0)
    mode: Mode = next((mode for begins, mode in COMPRESSIONS.items() if start.startswith(begins)), "r:")
    return tarfile.open(fileobj=file, mode=mode, tarinfo=_CheckedMember)


def members_of(archive: tarfile.TarFile) -> Iterator[Entry]:
    """List an open tar, with all that is in it; raises tarfile.ReadError where it ends before its end or after it."""

    def opener(member: tarfile.TarInfo) -> IO[bytes]:
        file = archive.extractfile(member)
        assert file is not None
        return file

    for member in archive:
        get = None if member.isdir() else partial(opener, member)
        yield Entry(name_inside(member.name), get, member.size, member.isreg())
    _check_end(archive)
