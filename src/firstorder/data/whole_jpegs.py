"""Says whether a JPEG has all its data, which libjpeg does not tell: it paints what is missing grey.

A scan has no length, and a scan with a hole still ends with a marker. The number of pixels decides: decoding needs all
bytes of the scan and no more. Pillow's decoder stops where data ends and says whether the picture is finished, so it
is given the scan up to some bytes before its end (it must not finish) and some bytes beyond it (it must finish).
Zeros are what a hole in a file often holds; an even area may be coded as zeros, but then it is large.
Pictures of several scans or with restart markers have many ends, and their codes are read one by one (jpeg_scans).
"""

from __future__ import annotations

import io
import itertools
import re
from typing import NamedTuple

from firstorder.data import jpeg_scans

JPEG = b"\xff\xd8\xff"
MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
START_OF_SCAN, END, RESTARTS = 0xDA, 0xD9, range(0xD0, 0xD8)
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
        return _fault_of_many(whole)
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


def _fault_of_many(whole: bytes) -> str | None:
    """Check a picture of several scans or with restart markers, by reading all of its codes."""
    walk, place = jpeg_scans.Walk(), 2
    try:
        while (found := MARKER.match(whole, place)) and found[1][0] != END:
            code, place = found[1][0], found.end()
            if code in ALONE:
                continue
            length = int.from_bytes(whole[place : place + 2], "big")
            content, place = whole[place + 2 : place + length], place + length
            if code != START_OF_SCAN:
                jpeg_scans.segment(walk, code, content)
                continue
            parts: list[bytes] = []
            while found := MARKER.search(whole, place):
                parts.append(whole[place : found.start()])
                place = found.start()
                if found[1][0] not in RESTARTS:
                    break
                if found[1][0] != RESTARTS[(len(parts) - 1) % 8]:
                    return "a restart marker is missing"
                place = found.end()
            jpeg_scans.scan(walk, content, parts)
    except jpeg_scans.ScanFaultError as fault:
        return str(fault)
    except (IndexError, KeyError):
        return "a part of its headers is missing"
    return None if jpeg_scans.complete(walk) else "a scan is missing"
