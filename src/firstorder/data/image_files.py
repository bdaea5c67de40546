"""What counts as an image of a set, for every reader; and the decoding of an image that must be whole.

An image counts by its name (PNG or JPEG, in no folder that a system or a tool keeps for itself) and is decoded by its
content. Pillow alone is too forgiving: it paints what a JPEG lacks grey, clips 16-bit greys to white, halves the depth
of 16-bit colours, skips the checksums of a PNG, takes the last of its headers, and paints missing rows and palettes
black. All of that is refused.
"""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from firstorder.data.whole_jpegs import JPEG, jpeg_fault

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".jpg", ".jpeg", ".png")
# Images of other formats. A file of these in a class folder is refused and not passed over: somebody meant it.
OTHER_SUFFIXES = (
    *(".apng", ".avif", ".bmp", ".dib", ".eps", ".gif", ".heic", ".heif", ".ico", ".j2k", ".jfif", ".jif", ".jp2"),
    *(".jpe", ".jxl", ".mpo", ".npy", ".pbm", ".pcx", ".pgm", ".pnm", ".ppm", ".ps", ".tga", ".tif", ".tiff", ".webp"),
)
# What systems and tools put between files. Names that begin with one of KEPT belong to NAS, Unix, Windows and Office.
KEPT = (".", "@", "#", "$", "~")
NEVER = (
    *("__macosx", "__pycache__", "_gsdata_", "_thumbs", "annotations", "desktop.ini", "ehthumbs.db", "lost+found"),
    *("network trash folder", "recycled", "recycler", "system volume information", "temporary items", "thumbnails"),
    *("thumbs", "thumbs.db"),
)
PNG = b"\x89PNG\r\n\x1a\n"
PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # by type of colour
# Parts that come once, before the rows.
PNG_ONCE = {b"IHDR": "header", b"PLTE": "palette", b"tRNS": "transparency", b"acTL": "number of pictures"}
# How files begin that are taken for images, for messages.
OTHER_FORMATS = (
    *((b"GIF8", "GIF"), (b"BM", "BMP"), (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"%!PS", "EPS"), (b"RIFF", "WebP")),
    *((b"\xc5\xd0\xd3\xc6", "EPS"), (b"\0\0\0\x0cjP", "JPEG 2000"), (b"\0\0\0\x0cJXL", "JPEG XL"), (b"%PDF", "PDF")),
    *((b"\x93NUMPY", "NumPy"), (b"8BPS", "Photoshop")),
)
# First column and row of each pass of an interlaced PNG, and the steps from there.
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
MOST_PIXELS = 100_000_000  # the largest of ILSVRC-2012 has about 61 million
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK")  # of 8 bits or fewer a channel
# What Pillow raises for a damaged image.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, IndexError, KeyError, TypeError)


class ImageFaultError(ValueError):
    """An image cannot be taken: `damaged`, or whole but of a type that is not read."""

    def __init__(self, why: str, *, damaged: bool) -> None:
        super().__init__(why)
        self.damaged = damaged


def is_passed_over(path: PurePath) -> bool:
    """Say whether a file or folder belongs to a system or a tool: no reader takes anything from it.

    `path` is relative to the set's folder or archive, because the folders above do not matter.
    """
    return any(part.startswith(KEPT) or part.lower() in NEVER for part in path.parts)


def is_image(path: PurePath) -> bool:
    """Say whether a file counts as an image of its set. This is the only rule; every reader of images asks it."""
    return path.suffix.lower() in SUFFIXES and not is_passed_over(path)


def looks_like(content: bytes) -> str | None:
    """Name the image format of a file that begins with `content`, if it is known."""
    if content.startswith(PNG):
        return "PNG"
    if content.startswith(JPEG):
        return "JPEG"
    return next((name for start, name in OTHER_FORMATS if content.startswith(start)), None)


def decode(content: bytes) -> Image:
    """Decode a whole PNG or JPEG of 8 bits or fewer a channel; raises ImageFaultError for anything else.

    Of a JPEG with several pictures (MPO), the first is the image, as Pillow takes it.
    """
    from PIL import JpegImagePlugin, PngImagePlugin

    found = looks_like(content)
    if found not in ("PNG", "JPEG"):
        if found:
            raise ImageFaultError(f"{found}, expected PNG or JPEG", damaged=False)
        raise ImageFaultError("neither PNG nor JPEG" if content else "empty", damaged=True)
    try:
        if fault := png_fault(content) if found == "PNG" else None:
            raise ImageFaultError(fault, damaged=True)
        # Not Image.open, which would take a JPEG for an MPO and warn about damaged ones.
        plugin = PngImagePlugin.PngImageFile if found == "PNG" else JpegImagePlugin.JpegImageFile
        with plugin(io.BytesIO(content)) as image:
            _check_type(image, content)
            if found == "JPEG" and (fault := jpeg_fault(content)):
                raise ImageFaultError(fault, damaged=True)
            colours = len(image.palette.palette) // 3 if image.palette else 256
            image.load()
            if colours < 256 and max(image.tobytes()) >= colours:
                raise ImageFaultError("a pixel has no colour in its palette", damaged=True)
            # Pillow warns about it in a palette; it does not change the colours.
            image.info.pop("transparency", None)
            return image.copy()
    except ImageFaultError:
        raise
    except DAMAGED as error:
        # A message of Pillow may hold the address of an object, which helps nobody.
        why = " ".join(str(error).split()).split("<_io.")[0].strip() or type(error).__name__
        raise ImageFaultError(why, damaged=True) from None


def _check_type(image: Image, content: bytes) -> None:
    """Raise ImageFaultError for an image that Pillow reads only by losing values, or that is absurdly large."""
    if image.format == "PNG" and content[24] > 8:
        raise ImageFaultError(f"PNG of {content[24]} bits a channel, expected 8 or fewer", damaged=False)
    if image.mode not in MODES:
        raise ImageFaultError(f"values of type {image.mode}, expected 8 bits a channel or fewer", damaged=False)
    if getattr(image, "is_animated", False):
        raise ImageFaultError("several pictures in one file, expected one", damaged=False)
    if image.width * image.height > MOST_PIXELS:
        raise ImageFaultError(
            f"{image.width:,}x{image.height:,} pixels, expected at most {MOST_PIXELS:,}", damaged=False
        )


def png_fault(content: bytes) -> str | None:
    """Return what is wrong with a PNG: a part cut short or with a wrong checksum, no header, no end, too few rows.

    Its rows must fill the picture and be followed by their own checksum; a palette must be there if pixels need one.
    The parts that make the picture come once and in their order, so that every decoder takes the same ones.
    """
    place, parts = len(PNG), list[tuple[bytes, bytes]]()
    while place + 12 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, place)
        end = place + 12 + size
        if end > len(content):
            break
        if not parts and (kind, size) != (b"IHDR", 13):
            return "its first part is no header"
        if zlib.crc32(content[place + 4 : end - 4]) != struct.unpack_from(">I", content, end - 4)[0]:
            return f"a wrong checksum at byte {place:,}"
        if kind == b"IEND":
            more = len(content) - end + size
            return f"{more:,} bytes after its end" if more else _parts_fault(parts) or _rows_fault(parts)
        parts.append((kind, content[place + 8 : end - 4]))
        place = end
    return "it ends before its end marker"


def _parts_fault(parts: Sequence[tuple[bytes, bytes]]) -> str | None:
    depth, colours, compression, filtering, interlaced = parts[0][1][8:]
    if depth not in PNG_DEPTHS.get(colours, ()) or compression or filtering or interlaced > 1:
        return "a header of no known kind"
    kinds = [kind for kind, _ in parts]
    critical = [kind for kind, _ in itertools.groupby(kinds) if kind[:1].isupper()]
    if unknown := set(critical) - {b"IHDR", b"PLTE", b"IDAT"}:
        return f"a part {min(unknown)!r}, which is not known"
    for kind, name in PNG_ONCE.items():
        if kinds.count(kind) > 1:
            return f"more than one {name}"
    data = kinds.index(b"IDAT") if b"IDAT" in kinds else len(kinds)
    late = next((name for kind, name in PNG_ONCE.items() if kind in kinds[data:]), None)
    if late:
        return f"its {late} comes after its rows"
    return "its rows are in two places" if critical.count(b"IDAT") > 1 else None


def _rows_fault(parts: Sequence[tuple[bytes, bytes]]) -> str | None:
    width, height, depth, colours, _, _, interlaced = struct.unpack(">IIBBBBB", parts[0][1])
    kinds = [kind for kind, _ in parts]
    first = kinds.index(b"IDAT") if b"IDAT" in kinds else len(kinds)
    if colours == 3 and b"PLTE" not in kinds[:first]:
        return "it has no palette"
    bits = depth * {2: 3, 4: 2, 6: 4}.get(colours, 1)
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    sides = [(-((left - width) // across), -((top - height) // down)) for left, top, across, down in passes]
    due = sum(high * (1 + (wide * bits + 7) // 8) for wide, high in sides if wide > 0 and high > 0)
    if width * height > MOST_PIXELS:
        return None  # refused as too large
    rows, found = zlib.decompressobj(), 0
    for data in itertools.takewhile(lambda part: part[0] == b"IDAT", parts[first:]):  # as decoders do
        rest = data[1]
        while rest and not rows.eof and found <= due:
            found += len(rows.decompress(rest, 1 << 20))
            rest = rows.unconsumed_tail
    if found > due:
        return f"its rows have more than the {due:,} bytes expected"
    if found < due:
        return f"its rows have {found:,} bytes, expected {due:,}"
    return None if rows.eof else "its rows have no checksum"
