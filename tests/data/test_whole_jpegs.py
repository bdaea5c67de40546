"""JPEGs: whole ones of every kind are accepted, and holes are found wherever they are."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
import pytest
from PIL import Image

from firstorder.data.whole_jpegs import jpeg_fault

WAYS: list[dict[str, Any]] = [
    *({}, {"optimize": True}, {"subsampling": 0}, {"progressive": True}),
    *({"restart_marker_rows": 1}, {"restart_marker_blocks": 3}),
]


def photo(seed: int, height: int = 120, width: int = 150) -> np.ndarray[Any, Any]:
    small = np.random.default_rng(seed).integers(0, 256, (16, 19, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def jpeg(pixels: np.ndarray[Any, Any], mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def data_of(content: bytes) -> range:
    """Return the bytes of the last scan's data, roughly."""
    return range(content.rfind(b"\xff\xda") + 14, len(content) - 2)


EVEN = [np.full((97, 130, 3), value, np.uint8) for value in (0, 128, 255)]
HALF = np.concatenate([photo(1)[:60], np.full((200, 150, 3), 255, np.uint8)])


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("options", WAYS)
@pytest.mark.parametrize("quality", [5, 75, 100])
def test_whole_pictures_are_accepted(options: dict[str, Any], quality: int, mode: str) -> None:
    """Even areas too, whose data may be nothing but zeros, and pictures smaller than a block."""
    for pixels in (photo(2), HALF, *EVEN, photo(3)[:1, :1], photo(4)[:9, :17]):
        content = jpeg(pixels, mode, quality=quality, **options)
        assert jpeg_fault(content) is None
        assert jpeg_fault(content + b"bytes behind it" + bytes(99)) is None


@pytest.mark.parametrize("options", WAYS)
@pytest.mark.parametrize("kept", [0, 0.3, 0.6, 0.99])
def test_a_picture_without_its_end_is_refused_even_with_an_end_marker(options: dict[str, Any], kept: float) -> None:
    content = jpeg(photo(5), **options)
    data = data_of(content)
    cut = content[: data[int(kept * (len(data) - 40))]]
    assert jpeg_fault(cut) == "no end marker after its last scan"
    assert jpeg_fault(cut + b"\xff\xd9")


@pytest.mark.parametrize("seed", range(8))
def test_a_picture_without_its_middle_is_refused(seed: int) -> None:
    content = jpeg(photo(seed))
    third = len(data_of(content)) // 3
    start = data_of(content)[third]
    assert jpeg_fault(content[:start] + content[start + third :])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("options", WAYS[:3])
def test_a_hole_of_zeros_is_refused(options: dict[str, Any], seed: int) -> None:
    content = jpeg(photo(seed), quality=90, **options)
    third = len(data_of(content)) // 3
    start = data_of(content)[third]
    assert jpeg_fault(content[:start] + bytes(third) + content[start + third :])


def test_a_missing_restart_marker_is_refused() -> None:
    content = jpeg(photo(6), restart_marker_rows=1)
    first, second = content.index(b"\xff\xd0"), content.index(b"\xff\xd1")
    assert jpeg_fault(content[:first] + content[second:])


def test_eight_missing_restart_intervals_are_refused_though_the_markers_still_count_on() -> None:
    content = jpeg(photo(7, 300, 90), restart_marker_rows=1)
    first = content.index(b"\xff\xd0")
    again = content.index(b"\xff\xd0", first + 2)
    assert "restart markers, expected" in str(jpeg_fault(content[:first] + content[again:]))


# --- Pictures of several scans or with restart markers, whose codes are read ---

MANY = [{"progressive": True}, {"restart_marker_rows": 1}, {"progressive": True, "restart_marker_rows": 1}]


@pytest.mark.parametrize("options", MANY, ids=str)
@pytest.mark.parametrize("size", [512, 1024, 4096])
def test_a_picture_of_many_parts_with_a_hole_or_other_bytes_is_refused(options: dict[str, Any], size: int) -> None:
    content = jpeg(photo(8, 300, 400), quality=90, **options)
    generator = np.random.default_rng(size)
    text = (b"<html>error 500 " * 300)[:size]
    for start in generator.integers(content.index(b"\xff\xda") + 20, len(content) - size - 3, 12):
        assert jpeg_fault(content[:start] + content[start + size :])
        assert jpeg_fault(content[:start] + text + content[start + size :])
        assert jpeg_fault(content[:start] + b"\xff\xd9")


def scans_of(content: bytes) -> list[int]:
    """Return where the scans of a progressive picture begin, with the tables before each, and where the last ends."""
    starts = [place for place in range(len(content)) if content.startswith(b"\xff\xda", place)]
    tables = [content.rfind(b"\xff\xc4", 0, start) for start in starts]
    before = [0, *starts]
    begins = [table if table > last else start for table, start, last in zip(tables, starts, before, strict=False)]
    return [*begins, len(content) - 2]


def test_a_progressive_picture_needs_each_of_its_scans_once_and_in_order() -> None:
    content = jpeg(photo(9), progressive=True)
    places = scans_of(content)
    parts = [content[start:end] for start, end in itertools.pairwise(places)]
    head, end = content[: places[0]], content[-2:]
    assert len(parts) > 5
    assert jpeg_fault(head + b"".join(parts) + end) is None
    for number, part in enumerate(parts):
        without = [*parts[:number], *parts[number + 1 :]]
        assert jpeg_fault(head + b"".join(without) + end)
        assert jpeg_fault(head + b"".join([*parts[: number + 1], part, *parts[number + 1 :]]) + end)


def test_a_picture_of_scans_by_arithmetic_is_refused() -> None:
    content = jpeg(photo(9), progressive=True).replace(b"\xff\xc2", b"\xff\xca", 1)
    assert "cannot be checked" in str(jpeg_fault(content))
