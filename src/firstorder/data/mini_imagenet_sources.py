"""The forms in which mini-ImageNet is distributed: class folders, tars in a tar, and the three cache pickles. No torch.

Two surprises. An image's class is the WordNet id of its folder (or the beginning of its name), whatever the folders
above are called: some copies have parts of the same classes in `train/` and `val/`. Ravi and Larochelle's names
(n0153282900000005.jpg) are not ILSVRC's: their last eight digits are the rank, from 1, among the images of that class
in ILSVRC-2012, sorted by their number. Nothing is unpacked to disk.
"""

from __future__ import annotations

import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from os import walk
from pathlib import Path, PurePosixPath
from typing import IO

from firstorder.data import mini_imagenet_caches
from firstorder.data.mini_imagenet_caches import DOWNLOAD_AGAIN
from firstorder.data.packs import Images
from firstorder.errors import UserError

CLASS_ID = re.compile(r"n\d{8}")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
LARGEST_IMAGE_BYTES = 64 << 20
DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, RuntimeError)


@dataclass(frozen=True)
class Found:
    """One image of the source: its class, file name, place (for messages), and a function that gets its content.

    The content is the bytes of an image file or, if the source has pixels, uint8 [height, width, 3].
    """

    class_id: str
    name: str
    where: str
    get: Callable[[], bytes | Images]

    def content(self) -> bytes | Images:
        """Return the content; raises UserError, naming the image, if the archive around it is damaged."""
        try:
            return self.get()
        except DAMAGED as error:
            raise UserError(f"{self.where}: cannot be read ({_one_line(error)}); {DOWNLOAD_AGAIN}") from None


@dataclass(frozen=True)
class _Entry:
    """One file or folder in a folder or archive; `open` is None for a folder."""

    path: PurePosixPath
    open: Callable[[], IO[bytes]] | None
    bytes: int = 0


@contextmanager
def opened(source: Path, classes: Collection[str], *, chosen: bool = False) -> Iterator[list[Found]]:
    """Give the images of `source`, in its order; archives stay open within the `with` statement.

    `chosen` says that the caller will select images by name, which is required if the source has whole classes of
    ILSVRC-2012. Then classes that are not among `classes` are skipped.

    Raises UserError, naming the place, for a missing or damaged source, an image or folder of a class that is not
    among `classes`, a class folder without images, a file name that contradicts its folder, tars of classes unless
    `chosen`, and pickles that are refused, incomplete or inconsistent.
    """
    with ExitStack() as stack:
        caches = mini_imagenet_caches.paths(source)
        if caches and chosen:
            raise UserError(f"{source}: the cache pickles hold no file names to choose by; leave out --names")
        if caches:
            yield [image for path in caches for image in _cached(path, classes)]
        else:
            yield _listed(source, stack, classes, chosen=chosen)


def _listed(source: Path, stack: ExitStack, classes: Collection[str], *, chosen: bool) -> list[Found]:
    """List the images of a folder or archive, including those in tars of classes inside it."""
    with _reading(source):
        entries = list(_entries(source, stack))
        found, folders, seen = [], set(), set()
        for entry in entries:
            class_id = _class_of(entry, source)
            if class_id is None or (chosen and class_id not in classes):
                continue
            where = f"{source}: {entry.path}"
            if class_id not in classes:
                raise UserError(
                    f"{where}: class {class_id} is not among the {len(classes)} of mini-ImageNet; take it out or, if "
                    "this is all of ILSVRC-2012, say with --names which images are wanted"
                )
            if entry.path in seen and entry.open:
                raise UserError(f"{where}: comes twice; {DOWNLOAD_AGAIN}")
            seen.add(entry.path)
            if entry.open is None:
                folders.add(entry.path)
            elif entry.path.suffix == ".tar":
                if not chosen:
                    raise UserError(f"{where}: is a whole class; say with --names which of its images are wanted")
                found += _in_tar(stack.enter_context(entry.open()), class_id, where, stack)
            else:
                found.append(_image(entry, class_id, where))
    _check_folders(source, folders, entries)
    if not found:
        raise UserError(
            f"{source}: no images found; expected images in folders named by WordNet id (n01532829), tars of such "
            f"classes, or {', '.join(mini_imagenet_caches.NAMES)}"
        )
    return found


def _entries(source: Path, stack: ExitStack) -> Iterator[_Entry]:
    """List a folder, zip or tar without hidden files and without what archivers on a Mac add."""
    if source.is_dir():
        found = _in_folder(source)
    elif zipfile.is_zipfile(source):
        found = _in_zip(stack.enter_context(zipfile.ZipFile(source)))
    else:
        found = _members(stack.enter_context(tarfile.open(source)))  # noqa: SIM115 (the stack closes it)
    for entry in found:
        if not any(part.startswith(".") or part == "__MACOSX" for part in entry.path.parts):
            yield entry


def _in_folder(source: Path) -> Iterator[_Entry]:
    def fail(error: OSError) -> None:
        raise error

    for folder, folders, files in walk(source, onerror=fail, followlinks=True):
        folders.sort()
        below = PurePosixPath(Path(folder).relative_to(source).as_posix())
        for name in folders:
            yield _Entry(below / name, None)
        for name in sorted(files):
            path = Path(folder, name)
            yield _Entry(below / name, partial(_open, path), path.stat().st_size)


def _open(path: Path) -> IO[bytes]:
    return path.open("rb")


def _in_zip(archive: zipfile.ZipFile) -> Iterator[_Entry]:
    for info in archive.infolist():
        get = None if info.is_dir() else partial(archive.open, info)
        yield _Entry(PurePosixPath(info.filename), get, info.file_size)


def _members(archive: tarfile.TarFile) -> Iterator[_Entry]:
    def opener(member: tarfile.TarInfo) -> IO[bytes]:
        file = archive.extractfile(member) if member.isreg() else None
        if file is None:
            raise OSError(f"{member.name} is a link or device, not a file")
        return file

    for member in archive:
        yield _Entry(PurePosixPath(member.name), None if member.isdir() else partial(opener, member), member.size)


def _in_tar(file: IO[bytes], class_id: str, where: str, stack: ExitStack) -> list[Found]:
    archive = stack.enter_context(tarfile.open(fileobj=file))  # noqa: SIM115 (the stack closes it)
    entries = [entry for entry in _members(archive) if entry.open and not entry.path.name.startswith(".")]
    if not entries:
        raise UserError(f"{where}: holds no images; {DOWNLOAD_AGAIN}")
    return [_image(entry, class_id, f"{where}: {entry.path}") for entry in entries]


def _class_of(entry: _Entry, source: Path) -> str | None:
    """Return the class of an image, class folder or tar of a class; None for anything else."""
    folders = entry.path.parts[:-1] if entry.open else entry.path.parts
    by_folder = next((part for part in reversed(folders) if CLASS_ID.fullmatch(part)), None)
    if entry.open is None:
        return by_folder
    name = entry.path.name
    by_name = name[:9] if CLASS_ID.match(name) else None
    if by_name and by_folder and by_name != by_folder:
        raise UserError(f"{source}: {entry.path}: its name says class {by_name}, its folder {by_folder}; move it")
    if entry.path.suffix == ".tar" and name == f"{by_name}.tar":
        return by_name
    if by_folder or (by_name and entry.path.suffix.lower() in SUFFIXES):
        return by_folder or by_name  # every file in a class folder must be an image
    if entry.path.suffix.lower() in SUFFIXES:
        raise UserError(f"{source}: {entry.path}: an image of no class; expected a folder named by WordNet id above it")
    return None


def _image(entry: _Entry, class_id: str, where: str) -> Found:
    if entry.bytes > LARGEST_IMAGE_BYTES:
        raise UserError(f"{where}: has {entry.bytes:,} bytes, an image at most {LARGEST_IMAGE_BYTES:,}; take it out")

    def get() -> bytes:
        assert entry.open is not None
        with entry.open() as file:
            return file.read()

    return Found(class_id, entry.path.name, where, get)


def _check_folders(source: Path, folders: Collection[PurePosixPath], entries: Sequence[_Entry]) -> None:
    """Raise UserError for an empty class folder, which means that a copy went wrong."""
    filled = {folder for entry in entries if entry.open for folder in entry.path.parents}
    for folder in sorted(folders):
        if folder not in filled:
            raise UserError(f"{source}: {folder}: a class folder with no images; fill it or take it out")


def _cached(path: Path, classes: Collection[str]) -> list[Found]:
    """List the images of one cache pickle, which have numbers instead of file names."""
    cache = mini_imagenet_caches.read(path, classes)
    return [
        Found(class_id, f"{number:08}", f"{path}: image {number}", partial(cache.images.__getitem__, number))
        for number, class_id in enumerate(cache.class_ids)
    ]


@contextmanager
def _reading(source: Path) -> Iterator[None]:
    """Convert every exception of a missing or damaged archive into a UserError that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{error.filename or source}: no such file or folder; expected mini-ImageNet") from None
    except DAMAGED as error:
        raise UserError(
            f"{source}: expected a folder, a whole zip or a whole tar, found: {_one_line(error)}; {DOWNLOAD_AGAIN}"
        ) from None


def _one_line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__
