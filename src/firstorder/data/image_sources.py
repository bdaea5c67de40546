"""Images of classes in a folder, zip or tar: what counts as one, and its content. Shared by the readers of sets.

What is refused here is what somebody may have meant as an image of the set although it is none. No torch.
"""

from __future__ import annotations

import lzma
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from firstorder.data import image_files
from firstorder.data.entries import Entry
from firstorder.data.packs import Images
from firstorder.errors import UserError, reason
from firstorder.files import is_about_access, unreadable

Resize = Literal["nearest", "bilinear", "bicubic", "lanczos"]
MODES = {1: "L", 3: "RGB"}  # of Pillow, by channels
DOWNLOAD_AGAIN = "get it again from where it came"
LARGEST_IMAGE_BYTES = 64 << 20
# Files that often lie beside images; what others hold is looked at.
NO_IMAGES = (".xml", ".txt", ".csv", ".json", ".md", ".html", ".log", ".yaml", ".pkl", ".mat")
# What readers of archives raise for damaged ones. RuntimeError: encrypted, or of an unknown compression.
ARCHIVES = (zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, struct.error)
DAMAGED = (OSError, EOFError, RuntimeError, ValueError, OverflowError, *ARCHIVES)


@dataclass(frozen=True)
class Found:
    """One image of the source: its class, file name, place (for messages), and a function that gets its content.

    The class is an id, or the path of its folder. The content is the bytes of an image file or, if the source has
    pixels, uint8 [height, width, 3].
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
    """What a source has, in its order. Places are for messages."""

    images: list[Found] = field(default_factory=list)
    others: list[str] = field(default_factory=list)  # files of classes that are no images
    left_out: list[str] = field(default_factory=list)  # archives and pickles beside what was read, and files by lists
    below: list[str] = field(default_factory=list)  # images in subfolders beside a class's own images
    unlisted: list[str] = field(default_factory=list)  # class folders that the lists of a split do not name
    paths: list[PurePosixPath] = field(default_factory=list)  # of images, those in the tar of a class below its name


def counts(entry: Entry, where: str, *, archives: bool = False) -> bool:
    """Say whether a file of a class is an image or, with `archives`, a tar of images.

    Raises UserError for what somebody may have meant as an image, though it does not count: an image of another
    format, or one by its content under another name. And for what would count but is no file.
    """
    suffix = entry.path.suffix.lower()
    if image_files.is_image(entry.path) or (archives and suffix == ".tar"):
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


def image_at(entry: Entry, class_id: str, where: str) -> Found:
    """Return the image of an entry; raises UserError if it is too large."""
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


@contextmanager
def reading(source: Path, expected: str) -> Iterator[None]:
    """Convert every exception of a missing or damaged archive into a UserError that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{error.filename or source}: no such file or folder; expected {expected}") from None
    except DAMAGED as error:
        if isinstance(error, OSError) and is_about_access(error):
            raise unreadable(Path(error.filename or source), error, "a folder, zip or tar of images") from None
        raise UserError(
            f"{source}: expected a folder, a whole zip or a whole tar, found: {reason(error, source)}; {DOWNLOAD_AGAIN}"
        ) from None


@dataclass(frozen=True)
class Form:
    """The form of the images of a pack: `side` x `side` pixels of `channels`, and how others are resized to that.

    Without `resize`, an image of another size is refused. With `flat`, what is transparent becomes white; else the
    colours count that a transparent pixel has, as for the authors.
    """

    side: int
    channels: int
    resize: Resize | None
    flat: bool = False


def pixels_of(found: Found, form: Form, sizes: Counter[str]) -> Images:
    """Decode an image and resize all of it to uint8 [side, side, channels], whatever its aspect ratio; count its size.

    Raises UserError, naming the image, if it is damaged, of a type that is not read, or of a size that is not allowed.
    """
    from PIL import Image

    content = found.content()
    try:
        image = image_files.decode(content) if isinstance(content, bytes) else Image.fromarray(content)
    except image_files.ImageFaultError as fault:
        if fault.damaged:
            message = f"truncated or not an image ({fault}); get this file again"
        else:
            message = f"found {fault}; convert the image or take a copy of the set that has it as PNG or JPEG"
        raise UserError(f"{found.where}: {message}") from None
    sizes[f"{image.width}x{image.height}"] += 1
    if form.flat and image.mode in ("LA", "PA", "RGBA"):
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    # Before resizing, because bilinear and bicubic cannot mix palette entries. For nearest the order does not matter.
    image = image.convert(MODES[form.channels])
    if form.resize is not None:
        image = image.resize((form.side, form.side), Image.Resampling[form.resize.upper()])
    elif image.size != (form.side, form.side):
        raise UserError(
            f"{found.where}: is {image.width}x{image.height}, expected {form.side}x{form.side}; "
            f"say how to resize images of other sizes, with resize: bilinear, or correct size"
        )
    return np.asarray(image, np.uint8).reshape(form.side, form.side, form.channels)
