"""The forms in which mini-ImageNet is distributed: class folders, tars in a tar, and the three cache pickles. No torch.

Two surprises. An image's class is the WordNet id of its folder (or the beginning of its name), whatever the folders
above are called: some copies have parts of the same classes in `train/` and `val/`. Ravi and Larochelle's names
(n0153282900000005.jpg) are not ILSVRC's: their last eight digits are the rank, from 1, among the images of that class
in ILSVRC-2012, sorted by their number. Nothing is unpacked to disk.
"""

from __future__ import annotations

import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from firstorder.data import image_files, mini_imagenet_caches
from firstorder.data.entries import Entry, entries_of, members_of, open_tar
from firstorder.data.mini_imagenet_caches import DOWNLOAD_AGAIN
from firstorder.data.packs import Images
from firstorder.errors import UserError, reason
from firstorder.files import is_about_access, unreadable

CLASS_ID = re.compile(r"n\d{8}")
LARGEST_IMAGE_BYTES = 64 << 20
# Files that often lie beside images; what others hold is looked at.
NO_IMAGES = (".xml", ".txt", ".csv", ".json", ".md", ".html", ".log", ".yaml", ".pkl", ".mat")
# What readers of archives raise for damaged ones. RuntimeError: encrypted, or of an unknown compression.
ARCHIVES = (zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, struct.error)
DAMAGED = (OSError, EOFError, RuntimeError, ValueError, OverflowError, *ARCHIVES)


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
            if isinstance(error, OSError) and is_about_access(error):
                raise unreadable(Path(self.where), error, "an image") from None
            raise UserError(f"{self.where}: cannot be read ({reason(error, self.where)}); {DOWNLOAD_AGAIN}") from None


@dataclass
class Listing:
    """What a source has: its images, in its order, and the files of its classes that are no images."""

    images: list[Found] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


@contextmanager
def opened(source: Path, classes: Collection[str], *, chosen: bool = False) -> Iterator[Listing]:
    """Give the images of `source`, in its order; archives stay open within the `with` statement.

    `chosen` says that the caller will select images by name, which is required if the source has whole classes of
    ILSVRC-2012. Then classes that are not among `classes` are skipped, and so are images of no class.

    Raises UserError, naming the place, for a missing or damaged source, an image or folder of a class that is not
    among `classes`, a class folder without images, a file name that contradicts its folder, tars of classes unless
    `chosen`, and pickles that are refused, incomplete or inconsistent.
    """
    with ExitStack() as stack:
        caches = mini_imagenet_caches.paths(source)
        if caches and chosen:
            raise UserError(f"{source}: the cache pickles hold no file names to choose by; leave out --names")
        if caches:
            yield Listing([image for path in caches for image in _cached(path, classes)])
        else:
            yield _listed(source, stack, classes, chosen=chosen)


def _listed(source: Path, stack: ExitStack, classes: Collection[str], *, chosen: bool) -> Listing:
    """List the images of a folder or archive, including those in tars of classes inside it."""
    with _reading(source):
        everything = list(entries_of(source, stack))
        entries = [entry for entry in everything if not image_files.is_passed_over(entry.path)]
        listing, seen = Listing(), set()
        folders: set[PurePosixPath] = set()
        filled: set[PurePosixPath] = set()
        for entry in entries:
            class_id = _class_of(entry, source, chosen=chosen)
            if class_id is None or (chosen and class_id not in classes):
                continue
            where = f"{source}: {entry.path}"
            if entry.path in seen and entry.open:
                raise UserError(f"{where}: comes twice; {DOWNLOAD_AGAIN}")
            seen.add(entry.path)
            if entry.open and not _counts(entry, where):
                listing.others.append(where)
                continue
            if class_id not in classes:
                raise UserError(
                    f"{where}: class {class_id} is not among the {len(classes)} of mini-ImageNet; take it out or, if "
                    "this is all of ILSVRC-2012, say with --names which images are wanted"
                )
            if entry.open is None:
                folders.add(entry.path)
                continue
            filled.update(entry.path.parents)
            if entry.path.suffix == ".tar":
                if not chosen:
                    raise UserError(f"{where}: is a whole class; say with --names which of its images are wanted")
                _add_tar(listing, stack.enter_context(entry.open()), class_id, where, stack)
            else:
                listing.images.append(_image(entry, class_id, where))
    for folder in sorted(folders - filled):  # which means that a copy went wrong
        raise UserError(f"{source}: {folder}: a class folder with no images; fill it or take it out")
    if not listing.images:
        raise UserError(_no_images(source, everything))
    return listing


def _no_images(source: Path, entries: Sequence[Entry]) -> str:
    """Say that a source has no images, and why not if all lie in hidden folders."""
    images = [e.path for e in entries if e.open and e.path.suffix.lower() in image_files.SUFFIXES]
    if images:
        return (
            f"{source}: no images found: {len(images):,} lie in hidden folders or folders of a system, such as "
            f"{images[0]}, which are passed over; name the folder that has them, or pack the archive from within it"
        )
    return (
        f"{source}: no images found; expected images in folders named by WordNet id (n01532829), tars of "
        f"such classes, or {', '.join(mini_imagenet_caches.NAMES)}"
    )


def _counts(entry: Entry, where: str) -> bool:
    """Say whether a file of a class is an image or a tar of images.

    Raises UserError for what somebody may have meant as an image, though it does not count: an image of another
    format, or one by its content under another name. And for what would count but is no file.
    """
    suffix = entry.path.suffix.lower()
    if image_files.is_image(entry.path) or entry.path.suffix == ".tar":
        if not entry.is_file:
            raise UserError(f"{where}: is a link or device, not a file; put the image itself there or take it out")
        return True
    if suffix in image_files.OTHER_SUFFIXES:
        raise UserError(f"{where}: is named {suffix}, expected PNG or JPEG; convert it to PNG or take it out")
    if suffix not in NO_IMAGES and entry.is_file and entry.open:
        with entry.open() as file:
            found = image_files.looks_like(file.read(16))
        if found:
            raise UserError(
                f"{where}: is {found} by its content, but its name does not end in .png, .jpg or .jpeg; rename it or, "
                "if it is no image of the set, take it out"
            )
    return False


def _add_tar(listing: Listing, file: IO[bytes], class_id: str, where: str, stack: ExitStack) -> None:
    """Add the images in the tar of a class."""
    archive = stack.enter_context(open_tar(file))
    before = len(listing.images)
    for entry in members_of(archive):
        inside = f"{where}: {entry.path}"
        if entry.open is None or image_files.is_passed_over(entry.path):
            continue
        if _counts(entry, inside):
            listing.images.append(_image(entry, class_id, inside))
        else:
            listing.others.append(inside)
    if len(listing.images) == before:
        raise UserError(f"{where}: holds no images; {DOWNLOAD_AGAIN}")


def _class_of(entry: Entry, source: Path, *, chosen: bool) -> str | None:
    """Return the class of a file, class folder or tar of a class; None for anything that belongs to no class."""
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
    if entry.path.suffix == ".tar" and not by_folder:
        return None
    if by_folder or by_name:
        return by_folder or by_name
    if image_files.is_image(entry.path) and not chosen:
        raise UserError(
            f"{source}: {entry.path}: an image of no class; expected a folder named by WordNet id above it: name the "
            "folder of the classes (such as Data/CLS-LOC/train) with --source, or the wanted images with --names"
        )
    return None


def _image(entry: Entry, class_id: str, where: str) -> Found:
    if entry.bytes > LARGEST_IMAGE_BYTES:
        raise UserError(f"{where}: has {entry.bytes:,} bytes, an image at most {LARGEST_IMAGE_BYTES:,}; take it out")

    def get() -> bytes:
        assert entry.open is not None
        with entry.open() as file:
            content = file.read(LARGEST_IMAGE_BYTES + 1)
        if len(content) > LARGEST_IMAGE_BYTES:
            raise OSError(f"more than {LARGEST_IMAGE_BYTES:,} bytes, {entry.bytes:,} announced")
        return content

    return Found(class_id, entry.path.name, where, get)


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
        if isinstance(error, OSError) and is_about_access(error):
            raise unreadable(Path(error.filename or source), error, "a folder, zip or tar of images") from None
        raise UserError(
            f"{source}: expected a folder, a whole zip or a whole tar, found: {reason(error, source)}; {DOWNLOAD_AGAIN}"
        ) from None
