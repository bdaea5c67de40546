"""Archives of images: downloaded, verified, and read member by member without unpacking to disk. No torch.

Note that the official MD5 is checked for official addresses only. A mirror may have zipped the same members again, into
other bytes, so any complete archive is accepted from a mirror. The content digest, which the data set's module checks
after decoding, then decides.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import stat
import struct
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from firstorder.errors import UserError
from firstorder.files import is_about_access, open_regular, replacing, unreadable
from firstorder.progress import Track, silent

TIMEOUT_SECONDS = 30.0  # without receiving a byte
CHUNK_BYTES = 1 << 16
LARGEST_MEMBER_BYTES = 16 << 20
LARGEST_TOTAL_BYTES = 512 << 20  # Omniglot's drawings, which are held in memory together, have 9 MB
# A mirror's archive may be compressed less than the official one, but only up to this factor.
LARGEST_MIRRORED_RATIO = 4


@dataclass(frozen=True)
class Archive:
    """One official archive: file name, addresses in the order to try, size in bytes, MD5 in hex digits."""

    name: str
    urls: tuple[str, ...]
    bytes: int
    md5: str


class _UnavailableError(Exception):
    """The archive is not available at one address; the next one may have it."""


def fetch(archive: Archive, folder: Path, mirror: str | None = None, track: Track = silent) -> Path:
    """Download `archive` to `folder` (named after the data set), unless a complete one is there; return its path.

    With a `mirror` (the value of DATA_MIRROR: a folder, or an address that begins with http, https or file) only
    the mirror is tried, first `<mirror>/<data set>/<name>`, then `<mirror>/<name>`. The file appears only when it is
    complete.

    Raises UserError if no address gives the archive (it names them all, each with the reason, such as a truncated file
    or a wrong checksum), if the mirror does not exist, or if the disk is full.
    """
    path = folder / archive.name
    if _is_whole(path):
        return path
    addresses = _mirrored(mirror, folder.name, archive.name) if mirror else archive.urls
    failures = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_room(archive, folder)
        for address in addresses:
            try:
                with replacing(path) as part:
                    _download(address, part, archive, official=not mirror, track=track)
                return path
            except _UnavailableError as failure:
                failures.append(f"{address} ({failure})")
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path}: cannot be written: {reason}; make room there or choose another folder") from None
    unset = ", or unset it" if mirror else ""
    raise UserError(
        f"{archive.name} could not be fetched, tried {', '.join(failures)}; set DATA_MIRROR to a folder or an address "
        f"that holds {folder.name}/{archive.name}{unset}, or put the file at {path} by hand"
    )


def members(path: Path, suffix: str = "", largest: int = LARGEST_MEMBER_BYTES) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file in the zip `path` whose name ends in `suffix`, sorted by name.

    Nothing is written to disk. All members are checked before the first content is yielded.

    Raises UserError if the archive is missing, truncated, damaged or encrypted, or has a member whose name would leave
    its folder, that is a link, that occurs twice, or that unpacks to more than `largest` bytes.
    """
    with _reading_zip(path), open_regular(path) as file, zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        _check_members(path, infos, largest)
        for name in sorted(info.filename for info in infos if not info.is_dir() and info.filename.endswith(suffix)):
            with archive.open(name) as member:
                # Not archive.read, which unpacks without a bound and only then cuts to the announced size.
                content = member.read(archive.getinfo(name).file_size + 1)
            yield name, content


def _is_whole(path: Path) -> bool:
    """Say whether `path` is a zip whose members all pass their checksums."""
    try:
        for _ in members(path):
            pass
    except UserError:
        return False
    return True


def _mirrored(mirror: str, dataset: str, name: str) -> tuple[str, ...]:
    """Return the two addresses in the mirror at which the archive may be."""
    if "://" not in mirror:
        root = Path(mirror).expanduser().resolve()
        if not root.is_dir():
            raise UserError(f"DATA_MIRROR is {mirror!r}: no such folder; set it to one that has {dataset}/{name}")
        base = root.as_uri()
    elif mirror.startswith(("http://", "https://", "file://")):
        base = mirror.rstrip("/")
    else:
        raise UserError(
            f"DATA_MIRROR is {mirror!r}: expected a folder or an address that begins with http://, https:// or file://"
        )
    quoted = urllib.parse.quote(name)
    return f"{base}/{urllib.parse.quote(dataset)}/{quoted}", f"{base}/{quoted}"


def _check_room(archive: Archive, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < archive.bytes:
        raise UserError(
            f"{folder}: {archive.name} needs {archive.bytes:,} bytes, the disk has {free:,} bytes free; make room"
        )


def _download(address: str, part: Path, archive: Archive, *, official: bool, track: Track) -> None:
    """Copy the archive at `address` to the file `part` and verify it; raises _UnavailableError if that fails."""
    limit = archive.bytes if official else LARGEST_MIRRORED_RATIO * archive.bytes
    md5 = hashlib.md5(usedforsecurity=False)
    received = 0
    with _requesting():
        answer = urllib.request.urlopen(address, timeout=TIMEOUT_SECONDS)
    with answer, part.open("wb") as file:
        with _requesting():
            announced = int(answer.headers.get("Content-Length") or 0)
        with track(archive.name, announced or archive.bytes, "bytes") as bar:
            while chunk := _next_chunk(answer):
                received += len(chunk)
                if received > limit:
                    raise _UnavailableError(f"more than the {limit:,} bytes expected")
                md5.update(chunk)
                file.write(chunk)
                bar.advance(len(chunk))
    if announced and received != announced:
        raise _UnavailableError(f"cut short: {received:,} of {announced:,} bytes")
    if not official:
        if not _is_whole(part):
            raise _UnavailableError("not a whole zip")
    elif received != archive.bytes:
        raise _UnavailableError(f"{received:,} bytes, expected {archive.bytes:,}")
    elif md5.hexdigest() != archive.md5:
        raise _UnavailableError(f"MD5 {md5.hexdigest()}, expected {archive.md5}")


def _next_chunk(answer: http.client.HTTPResponse) -> bytes:
    with _requesting():
        return answer.read(CHUNK_BYTES)


@contextmanager
def _requesting() -> Iterator[None]:
    """Convert every exception of a request into _UnavailableError with a short reason."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise _UnavailableError(f"HTTP {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise _UnavailableError(_one_line(error.reason)) from None
    except TimeoutError:
        raise _UnavailableError(f"no answer for {TIMEOUT_SECONDS:g} s") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _UnavailableError(_one_line(error)) from None


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
            f"{path}: expected a whole zip archive, found: {_one_line(error)}; delete it and run: {command}"
        ) from None


def _check_members(path: Path, infos: Iterable[zipfile.ZipInfo], largest: int) -> None:
    """Raise UserError for members that would be dangerous to unpack, although nothing here unpacks them to disk."""
    seen, total = set(), 0
    for info in infos:
        total += info.file_size
        name = info.filename
        if name.startswith("/") or "\\" in name or PureWindowsPath(name).drive or ".." in PurePosixPath(name).parts:
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
        raise UserError(f"{path}: refused for its member {name!r}: {fault}; delete it and download the official one")


def _one_line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__
