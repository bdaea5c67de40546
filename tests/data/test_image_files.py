"""Images: which files count, and that only whole PNGs and JPEGs without hidden losses are decoded."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from PIL import Image

from firstorder.data.image_files import ImageFaultError, decode, is_image, is_passed_over
from firstorder.files import open_regular


def draw(mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(5).integers(0, 256, (30, 41, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def fault_of(content: bytes) -> str:
    with pytest.raises(ImageFaultError) as caught:
        decode(content)
    message = str(caught.value)
    assert "\n" not in message
    assert " at 0x" not in message
    return message


def png(header: tuple[int, int, int, int, int], *parts: tuple[bytes, bytes]) -> bytes:
    """Write a PNG by hand; `header` is width, height, depth, type of colour, and 1 for interlaced."""
    size = struct.pack(">IIBBBBB", *header[:4], 0, 0, header[4])
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", size), *parts, (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def deep_png(colour: int, channels: int) -> bytes:
    """Write a PNG of 4x4 pixels and 16 bits a channel by hand, since Pillow writes no such colours."""
    rows = b"".join(b"\0" + bytes(range(8 * channels)) for _ in range(4))
    return png((4, 4, 16, colour, 0), (b"IDAT", zlib.compress(rows)))


@pytest.mark.parametrize("name", ["a.png", "b/a.JPEG", "n01532829/a.Jpg"])
def test_png_and_jpeg_count(name: str) -> None:
    assert is_image(PurePosixPath(name))


@pytest.mark.parametrize(
    "name",
    [
        *("._a.png", ".git/a.png", "b/@eaDir/a.jpg/THUMB_M.jpg", "__MACOSX/b/a.png", ".ipynb_checkpoints/a.png"),
        *("#recycle/a.png", "$RECYCLE.BIN/a.png", "lost+found/a.png", "@Recycle/a.png", "Annotations/n01532829/a.jpg"),
        *("b/Thumbs.db", "B/THUMBS.DB", "desktop.ini"),
    ],
)
def test_what_systems_and_tools_keep_never_counts(name: str) -> None:
    assert is_passed_over(PurePosixPath(name))
    assert not is_image(PurePosixPath(name))


@pytest.mark.parametrize("name", ["a.xml", "a.txt", "a", "a.png.part", "a.bmp"])
def test_other_files_are_no_images(name: str) -> None:
    assert not is_image(PurePosixPath(name))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_a_png_of_eight_bits_or_fewer_is_decoded_as_it_is(mode: str) -> None:
    image = draw("RGBA" if mode == "LA" else "RGB").convert(mode)
    found = decode(saved(image, "PNG"))
    np.testing.assert_array_equal(np.asarray(found.convert("RGB")), np.asarray(image.convert("RGB")))


def test_a_transparent_palette_is_decoded_without_a_warning() -> None:
    image = draw("P")
    found = decode(saved(image, "PNG", transparency=bytes(range(256))))
    np.testing.assert_array_equal(np.asarray(found.convert("RGB")), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_is_decoded_as_pillow_does(mode: str) -> None:
    content = saved(draw(mode), "JPEG")
    expected = Image.open(io.BytesIO(content)).convert("RGB")
    np.testing.assert_array_equal(np.asarray(decode(content).convert("RGB")), np.asarray(expected))


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_a_channel_are_refused_in_every_colour_type(colour: int, channels: int) -> None:
    assert "PNG of 16 bits a channel, expected 8 or fewer" in fault_of(deep_png(colour, channels))


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "EPS", "WebP"])
def test_other_formats_are_named_and_refused(kind: str) -> None:
    assert f"{kind}, expected PNG or JPEG" in fault_of(saved(draw(), kind.upper()))


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"\0" * 400, b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"P6 1 1 255 abc"]
)
def test_what_is_no_image_is_damaged(content: bytes) -> None:
    assert fault_of(content)


def test_several_pictures_in_one_png_are_refused() -> None:
    content = saved(draw(), "PNG", save_all=True, append_images=[draw("L").convert("RGB")])
    assert "several pictures in one file" in fault_of(content)


def test_every_truncation_and_every_flip_in_the_data_of_a_png_is_found() -> None:
    content = saved(draw().resize((9, 7)), "PNG")
    for place in range(len(content) - 1):
        assert fault_of(content[:place])
    for place in range(8, len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 0x20
        assert fault_of(bytes(flipped))


def test_the_first_picture_of_several_in_a_jpeg_is_the_image_and_must_be_whole() -> None:
    content = saved(draw(), "MPO", save_all=True, append_images=[draw("L").convert("RGB")])
    np.testing.assert_array_equal(np.asarray(decode(content)), np.asarray(Image.open(io.BytesIO(content))))
    first = content.index(b"\xff\xd9")
    assert "no end marker" in fault_of(content[:first])


def test_an_absurdly_large_picture_is_refused_before_it_is_decoded() -> None:
    content = saved(Image.new("1", (20_000, 20_000)), "PNG")
    assert "20,000x20,000 pixels, expected at most" in fault_of(content)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"x"
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="is a FIFO, not a file"):
        open_regular(tmp_path / "fifo")
    with pytest.raises(OSError, match="is a device, not a file"):
        open_regular(Path("/dev/zero"))
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)


# --- PNGs whose parts are whole and say too little ---

GREY = np.random.default_rng(6).integers(0, 256, (21, 13), dtype=np.uint8)
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def grey_rows(*, interlaced: bool, pixels: np.ndarray[Any, Any] = GREY) -> bytes:
    passes = PASSES if interlaced else ((0, 0, 1, 1),)
    return b"".join(b"\0" + row.tobytes() for left, top, x, y in passes for row in pixels[top::y, left::x] if row.size)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("height", [1, 2, 3, 5, 21])
@pytest.mark.parametrize("width", [1, 2, 4, 5, 13])
def test_a_png_is_taken_with_all_its_rows_and_with_no_row_less(interlaced: bool, height: int, width: int) -> None:
    pixels = GREY[:height, :width]
    rows = grey_rows(interlaced=interlaced, pixels=pixels)
    header = (width, height, 8, 0, int(interlaced))
    np.testing.assert_array_equal(np.asarray(decode(png(header, (b"IDAT", zlib.compress(rows))))), pixels)
    for missing in (1, 1 + width // 2, len(rows)):
        assert "its rows have" in fault_of(png(header, (b"IDAT", zlib.compress(rows[:-missing]))))


def test_rows_without_their_checksum_or_in_two_places_are_refused() -> None:
    data = zlib.compress(grey_rows(interlaced=False))
    header = (13, 21, 8, 0, 0)
    half = len(data) // 2
    whole = png(header, (b"IDAT", data[:half]), (b"IDAT", data[half:]))
    np.testing.assert_array_equal(np.asarray(decode(whole)), GREY)
    assert "no checksum" in fault_of(png(header, (b"IDAT", data[:-4])))
    assert "its rows" in fault_of(png(header, (b"IDAT", data[:half]), (b"tEXt", b"a\0b"), (b"IDAT", data[half:])))
    assert "its rows have 0 bytes" in fault_of(png(header))
    damaged = data[:-1] + bytes([data[-1] ^ 1])
    assert fault_of(png(header, (b"IDAT", damaged)))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_palette_must_have_every_colour_that_a_pixel_names(depth: int) -> None:
    most = min(2**depth, 200) - 1
    row = bytes([most]) if depth == 8 else bytes([most << (8 - depth)])
    data = (b"IDAT", zlib.compress(b"\0" + row))
    header = (1, 1, depth, 3, 0)
    palette = bytes(range(250)) * 3
    found = decode(png(header, (b"PLTE", palette[: 3 * (most + 1)]), data)).convert("RGB")
    assert found.getpixel((0, 0)) == tuple(palette[3 * most : 3 * most + 3])
    transparent = (b"tRNS", b"\x80")
    for parts in (((b"PLTE", palette[: 3 * most]),), ((b"PLTE", palette[: 3 * most]), transparent)):
        assert "no colour in its palette" in fault_of(png(header, *parts, data))
    assert "no palette" in fault_of(png(header, data))
    assert "palette comes after its rows" in fault_of(png(header, data, (b"PLTE", palette[: 3 * (most + 1)])))


# --- PNGs that two decoders would read differently ---

DATA = (b"IDAT", zlib.compress(grey_rows(interlaced=False)))
HEADER = (13, 21, 8, 0, 0)
PALETTE = (b"PLTE", bytes(range(30)))


def second_header(width: int, depth: int) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, 21, depth, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        ((second_header(13, 16), DATA), "more than one header"),
        ((DATA, second_header(7, 8)), "more than one header"),
        ((second_header(13, 8), DATA), "more than one header"),
        ((PALETTE, PALETTE, DATA), "more than one palette"),
        ((DATA, PALETTE), "its palette comes after its rows"),
        (((b"tRNS", b"\0\1"), (b"tRNS", b"\0\2"), DATA), "more than one transparency"),
        ((DATA, (b"tEXt", b"a\0b"), DATA), "its rows are in two places"),
        (((b"ABCD", b""), DATA), "a part b'ABCD', which is not known"),
        ((DATA, (b"CgBI", b"1234")), "a part b'CgBI', which is not known"),
    ],
)
def test_a_png_with_parts_twice_unknown_or_out_of_order_is_refused(
    parts: tuple[tuple[bytes, bytes], ...], fault: str
) -> None:
    assert fault in fault_of(png(HEADER, *parts))


@pytest.mark.parametrize("more", [b"\0", b"more", png(HEADER, DATA)])
def test_what_follows_the_end_of_a_png_is_refused(more: bytes) -> None:
    assert f"{len(more):,} bytes after its end" in fault_of(png(HEADER, DATA) + more)


@pytest.mark.parametrize(
    "header", [(13, 21, 3, 0, 0), (13, 21, 4, 2, 0), (13, 21, 8, 1, 0), (13, 21, 8, 7, 0), (13, 21, 8, 0, 2)]
)
def test_a_header_of_no_known_kind_is_refused(header: tuple[int, int, int, int, int]) -> None:
    assert "a header of no known kind" in fault_of(png(header, DATA))


def test_parts_that_change_no_pixel_are_taken_in_any_number() -> None:
    notes = ((b"tEXt", b"a\0b"), (b"gAMA", b"\0\0\xb1\x8f"), (b"tEXt", b"a\0b"))
    np.testing.assert_array_equal(np.asarray(decode(png(HEADER, *notes, DATA, (b"tIME", bytes(7))))), GREY)


@pytest.mark.parametrize(("width", "height"), [(13, 20), (12, 21), (5, 5)])
def test_more_rows_than_the_header_says_are_refused(width: int, height: int) -> None:
    assert "its rows have more than" in fault_of(png((width, height, 8, 0, 0), DATA))
