"""Archives of images: verified, and read member by member without unpacking to disk. No torch.

The official MD5 is checked for official addresses only (`downloads`). A mirror may have zipped the same
members again, into other bytes, so any complete archive is accepted from a mirror. The content digest, which the data
set's module checks after decoding, then decides.
"""

from __future__ import annotations

import encodings.cp437  # noqa: F401 (loaded now: a process may later have no right to read it)
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from firstorder.errors import UserError, reason
from firstorder.files import is_about_access, open_regular, unreadable

LARGEST_MEMBER_BYTES = 16 << 20
LARGEST_TOTAL_BYTES = 512 << 20  # Omniglot's drawings, which are held in memory together, have 9 MB


@dataclass(frozen=True)
class Archive:
    """One official archive: file name, addresses in the order to try, size in bytes, MD5 in hex digits."""

    name: str
    urls: tuple[str, ...]
    bytes: int
    md5: str


def name_inside(name: str) -> PurePosixPath:
    """Return the name of a file in an archive or folder, by its folders; those of Windows may part them by backslashes.

    Raises ValueError for a name that leaves the archive's folder.
    """
    parted = name.replace("\\", "/")
    if _leaves(parted):
        raise ValueError(f"its member {name!r}: its name leaves the folder")
    return PurePosixPath(parted)


def _leaves(name: str) -> bool:
    return name.startswith("/") or ".." in name.split("/") or bool(PureWindowsPath(name).drive)


def members(path: Path, suffix: str = "", largest: int = LARGEST_MEMBER_BYTES) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file in the zip `path` whose name ends in `suffix` (or `SUFFIX`), sorted by name.

    Nothing is written to disk. All members are checked before the first content is yielded.

    Raises UserError if the archive is missing, truncated, damaged or encrypted, or has a member whose name would leave
    its folder, that is a link, that occurs twice, or that unpacks to more than `largest` bytes.
    """
    with _reading_zip(path), open_regular(path) as file, zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        _check_members(path, infos, largest)
        named = {str(name_inside(info.filename)): info for info in infos if not info.filename.endswith(("/", "\\"))}
        for name, info in sorted(named.items()):
            if name.lower().endswith(suffix):
                with archive.open(info) as member:
                    # Not archive.read, which unpacks without a bound and only then cuts to the announced size.
                    content = member.read(info.file_size + 1)
                yield name, content


def is_whole(path: Path) -> bool:
    """Say whether `path` is a zip whose members all pass their checksums."""
    try:
        for _ in members(path):
            pass
    except UserError:
        return False
    return True


@contextmanager
def _reading_zip(path: Path) -> Iterator[None]:
    """Convert every exception of a missing or damaged zip into a UserError that names the file."""
    command = f"firstorder download --folder {path.parent}"
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such archive; get it with: {command}") from None
    # RuntimeError and its NotImplementedError: an encrypted member, an unknown compression.
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, OSError) and is_about_access(error):
            raise unreadable(path, error, "a zip archive") from None
        raise UserError(
            f"{path}: expected a whole zip archive, found: {reason(error, path)}; delete it and run: {command}"
        ) from None


def _check_members(path: Path, infos: Iterable[zipfile.ZipInfo], largest: int) -> None:
    """Raise UserError for members that would be dangerous to unpack, although nothing here unpacks them to disk."""
    seen, total = set(), 0
    for info in infos:
        total += info.file_size
        name = info.filename.replace("\\", "/")
        if _leaves(name):
            fault = "its name leaves the folder"
        elif stat.S_ISLNK(info.external_attr >> 16):
            fault = "it is a link"
        elif name in seen:
            fault = "its name occurs twice"
        elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # Python unpacks other compressions without a bound.
            fault = "it is neither stored nor deflated"
        elif info.file_size > largest:
            # Python's zipfile never returns more bytes than announced here, so this also bounds the memory.
            fault = f"it unpacks to {info.file_size:,} bytes, at most {largest:,} are expected"
        elif total > LARGEST_TOTAL_BYTES:
            fault = f"all members together unpack to more than {LARGEST_TOTAL_BYTES:,} bytes"
        else:
            seen.add(name)
            continue
        raise UserError(
            f"{path}: refused for its member {info.filename!r}: {fault}; delete it and download the official one"
        )
