"""Says whether a JPEG has all its data, which libjpeg does not tell: it paints what is missing grey.

A scan has no length, and a scan with a hole still ends with a marker. The number of pixels decides: decoding needs all
bytes of the scan and no more. Pillow's decoder stops where data ends and says whether the picture is finished, so it
is given the scan up to some bytes before its end (it must not finish) and some bytes beyond it (it must finish).
Zeros are what a hole in a file often holds; an even area may be coded as zeros, but then it is large.
Pictures of several scans or with restart markers have many ends. They get other bytes before every marker: a decoder
that has all its data skips them, any other takes them for data, and the pixels change.
"""

from __future__ import annotations

import io
import itertools
import math
import re
from typing import NamedTuple

JPEG = b"\xff\xd8\xff"
MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
START_OF_SCAN, END, RESTARTS = 0xDA, 0xD9, range(0xD0, 0xD8)
RESTART_INTERVAL, FRAMES = 0xDD, (0xC0, 0xC1)  # baseline and extended, each of one scan here
ALONE = (0x01, *RESTARTS)  # markers without a length
# A decoder looks eight bytes ahead. Encoders that leave a few bytes unused exist.
AHEAD = 16
UNUSED = 64
HOLE = re.compile(rb"\0{48,}")
OTHER_BYTES = bytes((37 * place + 11) % 251 for place in range(48))  # none is 0xff


class _Ends(NamedTuple):
    """Where the markers are that end data: the first byte of each, and its code."""

    markers: list[tuple[int, int]]
    begin: int  # first byte of the data of the first scan
    end: int  # first byte of the end marker


def jpeg_fault(content: bytes) -> str | None:
    """Return what is missing in a JPEG, or None if it is whole. Bytes after the end marker are ignored."""
    found = _ends(content)
    if found is None:
        return "no end marker after its last scan"
    scans = [code for _, code in found.markers if code not in RESTARTS]
    restarts = [code for _, code in found.markers if code in RESTARTS]
    if not scans:
        return "no picture in it"
    whole = content[: found.end] + b"\xff\xd9"
    holes = sum(len(hole[0]) for hole in HOLE.finditer(whole, found.begin))
    if holes and _flat_blocks(whole) < holes // 4:
        return f"{holes:,} zeros in its data"
    if len(scans) > 1 or restarts:
        return _fault_of_many(whole, found)
    return _fault_of_one(whole, found)


def _ends(content: bytes) -> _Ends | None:
    """List the markers that end data up to the end marker; None if the file ends before it."""
    markers: list[tuple[int, int]] = []
    place, begin, in_scan = 2, 0, False
    while found := MARKER.search(content, place) if in_scan else MARKER.match(content, place):
        code, start = found[1][0], found.start()
        if in_scan:
            markers.append((start, code))
            in_scan = code in RESTARTS
        if code == END:
            return _Ends(markers, begin, start)
        place = found.end()
        if code not in ALONE:
            place += int.from_bytes(content[place : place + 2], "big")
        if code == START_OF_SCAN:
            begin, in_scan = begin or place, True
    return None


def _fault_of_one(whole: bytes, found: _Ends) -> str | None:
    """Check a picture of one scan."""
    if not _finishes(whole[: found.end] + OTHER_BYTES[:AHEAD]):
        return "data is missing in its scan"
    if found.end - UNUSED > found.begin and _finishes(whole[: found.end - UNUSED]):
        return "its scan has more data than the picture needs: part of it was replaced"
    return None


def _finishes(data: bytes) -> bool:
    """Say whether a picture is complete with this data. It is decoded at an eighth of its size, which is faster."""
    from PIL import Image, JpegImagePlugin
    from PIL.Image import core  # type: ignore[attr-defined]

    with JpegImagePlugin.JpegImageFile(io.BytesIO(data)) as image:
        image.draft(None, (1, 1))
        tile = image.tile[0]
        decoder = Image._getdecoder(image.mode, "jpeg", tile.args, image.decoderconfig)
        try:
            decoder.setimage(core.new(image.mode, image.size), tile.extents)
            rest = data
            while True:
                taken, error = decoder.decode(rest)
                if taken < 0:
                    return not error
                if taken == 0:
                    return False
                rest = rest[taken:]
        finally:
            decoder.cleanup()


def _flat_blocks(whole: bytes) -> int:
    """Count the blocks that are as bright as the one before: zeros may mean at least a quarter as many of these."""
    from PIL import JpegImagePlugin

    with JpegImagePlugin.JpegImageFile(io.BytesIO(whole)) as image:
        image.draft(None, (1, 1))
        bright = image.convert("L").tobytes()
    return sum(one == other for one, other in itertools.pairwise(bright))


def _fault_of_many(whole: bytes, found: _Ends) -> str | None:
    """Check a picture of several scans or with restart markers."""
    if len(found.markers) > 1 and not any(code not in RESTARTS for _, code in found.markers[:-1]):
        expected = _restarts(whole)
        if expected is not None and len(found.markers) - 1 != expected:
            return f"{len(found.markers) - 1} restart markers, expected {expected}"
    due = 0
    parts, place = [], 0
    for start, code in found.markers:
        if code in RESTARTS and code != RESTARTS[due % 8]:
            return "a restart marker is missing"
        due = due + 1 if code in RESTARTS else 0
        parts += [whole[place:start], OTHER_BYTES]
        place = start
    parts.append(whole[place:])
    return None if _pixels(whole) == _pixels(b"".join(parts)) else "data is missing in its scans"


def _restarts(whole: bytes) -> int | None:
    """Compute from its header how many restart markers a picture of one scan has."""
    place, interval, units = 2, 0, None
    while found := MARKER.match(whole, place):
        code, place = found[1][0], found.end()
        length = int.from_bytes(whole[place : place + 2], "big")
        segment = whole[place + 2 : place + length]
        if code == RESTART_INTERVAL:
            interval = int.from_bytes(segment[:2], "big")
        elif code in FRAMES:
            height, width = (int.from_bytes(segment[start : start + 2], "big") for start in (1, 3))
            sampling = [segment[start] for start in range(7, len(segment), 3)]
            across, down = max(s >> 4 for s in sampling), max(s & 15 for s in sampling)
            if len(sampling) == 1:  # a scan of one colour is not divided by its sampling
                across = down = 1
            units = math.ceil(width / (8 * across)) * math.ceil(height / (8 * down))
        elif code == START_OF_SCAN:
            break
        place += length
    return math.ceil(units / interval) - 1 if units and interval else None


def _pixels(data: bytes) -> bytes:
    from PIL import JpegImagePlugin

    with JpegImagePlugin.JpegImageFile(io.BytesIO(data)) as image:
        return image.tobytes()
