"""Walks through the Huffman codes of a JPEG of several scans or with restart markers: is every scan there and whole?

libjpeg paints what such a picture lacks, from its other scans. Here every code is read. Each scan must code exactly the
blocks of its components, with its data ending at the next marker; and the scans together must code every coefficient to
its last bit (ITU-T T.81, sections F and G). No pixels are computed.

A JPEG has no checksum, so other bytes that happen to code as many blocks pass. Of 360 pictures of about 7 kB
(progressive, with restart markers, or both), 6 passed without 100 of their bytes, 12 with 100 bytes of text instead,
and none of 720 with 512 or 2,048 bytes. It takes about 3 ms a kilobyte.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

START_OF_SCAN, TABLES, INTERVAL = 0xDA, 0xC4, 0xDD
FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive; coded by Huffman
PROGRESSIVE = 0xC2
LARGEST_DC = 2047  # of a picture of 8 bits

# For every 16 bits, the code with which they begin: 256 * its length + its symbol; 0 if there is none.
Codes = list[int]
# The place of its component in the scan, the component's coefficients, and where the block's begin.
Block = tuple[int, bytearray, int]


class ScanFaultError(ValueError):
    """A scan is not whole."""


@dataclass
class Component:
    """One colour of a frame: its sampling, its blocks when it has a scan of its own, and what was coded so far."""

    across: int
    down: int
    wide: int
    high: int
    stride: int  # blocks a row, with those that fill the last unit
    nonzero: bytearray  # 64 coefficients a block, in zigzag order
    left: list[int | None] = field(default_factory=lambda: [None] * 64)  # bits still to come; None: all


@dataclass
class Walk:
    """A reader's place in a file."""

    frame: int = 0
    units: tuple[int, int] = (0, 0)
    components: dict[int, Component] = field(default_factory=dict)
    codes: dict[int, Codes] = field(default_factory=dict)
    interval: int = 0


def segment(walk: Walk, code: int, content: bytes) -> None:
    """Take up a segment before a scan; `content` is without its marker and length."""
    if code in FRAMES:
        walk.frame = code
        height, width = (int.from_bytes(content[at : at + 2], "big") for at in (1, 3))
        if any(not 0 < part <= 4 for at in range(7, len(content), 3) for part in (content[at] >> 4, content[at] & 15)):
            raise ScanFaultError("its colours have no sampling")
        parts = [content[at : at + 3] for at in range(6, 6 + 3 * content[5], 3)]
        most_across, most_down = max(part[1] >> 4 for part in parts), max(part[1] & 15 for part in parts)
        walk.units = math.ceil(width / (8 * most_across)), math.ceil(height / (8 * most_down))
        for name, sampling, _ in parts:
            across, down = sampling >> 4, sampling & 15
            wide = math.ceil(math.ceil(width * across / most_across) / 8)
            high = math.ceil(math.ceil(height * down / most_down) / 8)
            stride, rows = walk.units[0] * across, walk.units[1] * down
            walk.components[name] = Component(across, down, wide, high, stride, bytearray(64 * stride * rows))
    elif 0xC0 <= code <= 0xCF and code not in (TABLES, 0xC8, 0xCC):
        raise ScanFaultError(f"coded in a way that cannot be checked (frame {code - 0xC0})")
    elif code == INTERVAL:
        walk.interval = int.from_bytes(content[:2], "big")
    elif code == TABLES:
        while content:
            lengths, symbols = content[1:17], content[17 : 17 + sum(content[1:17])]
            walk.codes[content[0]] = _codes(lengths, symbols)
            content = content[17 + len(symbols) :]


def _codes(lengths: bytes, symbols: bytes) -> Codes:
    if sum(count << (16 - length) for length, count in enumerate(lengths, 1)) > 65536:
        raise ScanFaultError("codes that contradict each other")
    codes: Codes = []
    each = iter(symbols)
    for length, count in enumerate(lengths, 1):
        for symbol in itertools.islice(each, count):
            codes += [256 * length + symbol] * (1 << (16 - length))
    return codes + [0] * (65536 - len(codes))


def scan(walk: Walk, header: bytes, parts: list[bytes]) -> None:
    """Read a scan, given its data between restart markers; raises ScanFaultError unless it is whole."""
    count = header[0]
    chosen = [(walk.components[header[1 + 2 * n]], header[2 + 2 * n]) for n in range(count)]
    first, last, bits = header[1 + 2 * count : 4 + 2 * count]
    high, low = bits >> 4, bits & 15
    if walk.frame != PROGRESSIVE:
        first, last, high, low = 0, 63, 0, 0
    if last > 63 or first > last or (first and count > 1) or (walk.frame == PROGRESSIVE and not first and last):
        raise ScanFaultError("a scan of coefficients that do not go together")
    for component, _ in chosen:
        if any(left != (high or None) for left in component.left[first : last + 1]) or (high and low != high - 1):
            raise ScanFaultError("a scan is missing")
        component.left[first : last + 1] = [low] * (last + 1 - first)
    one = chosen[0][0]
    units = one.wide * one.high if count == 1 else walk.units[0] * walk.units[1]
    step = walk.interval or units
    if len(parts) != math.ceil(units / step):
        raise ScanFaultError(f"{len(parts) - 1} restart markers, expected {math.ceil(units / step) - 1}")
    tables = [(walk.codes.get(names >> 4, []), walk.codes.get(16 | (names & 15), [])) for _, names in chosen]
    each = _units(walk, [component for component, _ in chosen])
    for part in parts:
        _Part(part, tables, (first, last, high, low)).read(itertools.islice(each, step), walk.frame == PROGRESSIVE)


def _units(walk: Walk, components: Sequence[Component]) -> Iterator[list[Block]]:
    """Yield the units of a scan in order: the blocks of each."""
    if len(components) == 1:
        one = components[0]
        for row in range(one.high):
            for column in range(one.wide):
                yield [(0, one.nonzero, 64 * (row * one.stride + column))]
        return
    for row in range(walk.units[1]):
        for column in range(walk.units[0]):
            yield [
                (place, one.nonzero, 64 * ((row * one.down + y) * one.stride + column * one.across + x))
                for place, one in enumerate(components)
                for y in range(one.down)
                for x in range(one.across)
            ]


class _Part:
    """The data between two markers, and a place in it."""

    def __init__(self, data: bytes, tables: list[tuple[Codes, Codes]], band: tuple[int, int, int, int]) -> None:
        data = data.replace(b"\xff\x00", b"\xff")
        self.bits, self.tables, self.band = 8 * len(data), tables, band
        octets = np.frombuffer(data + b"\xff" * 4096, np.uint8).astype(np.int64)
        # From every byte on, 24 bits, so that any 16 bits are in one of them.
        self.windows = ((octets[:-2] << 16) | (octets[1:-1] << 8) | octets[2:]).tolist()
        self.place = self.run = 0
        self.before = [0] * len(tables)

    def read(self, units: Iterable[Sequence[Block]], progressive: bool) -> None:
        """Read units to the end of the data; raises ScanFaultError if it ends before them or long after."""
        first, _, high, _ = self.band
        for unit in units:
            for component, nonzero, begin in unit:
                if first == 0:
                    self._dc(component, again=high > 0)
                if first and high:
                    self._refined(component, nonzero, begin)
                elif first or not progressive:
                    self._ac(component, nonzero, begin)
            if self.place > self.bits:
                raise ScanFaultError("data is missing in a scan")
        if self.run:
            raise ScanFaultError("a run of blocks goes beyond the end of a scan")
        if self.bits - self.place >= 8:
            raise ScanFaultError("a scan has more data than it needs")

    def _symbol(self, codes: Codes) -> int:
        found: int = codes[(self.windows[self.place >> 3] >> (8 - (self.place & 7))) & 0xFFFF] if codes else 0
        if not found:
            raise ScanFaultError("a code that does not exist")
        self.place += found >> 8
        return found & 255

    def _value(self, length: int) -> int:
        window: int = self.windows[self.place >> 3] >> (8 - (self.place & 7)) & 0xFFFF
        self.place += length
        return window >> (16 - length)

    def _dc(self, component: int, *, again: bool) -> None:
        if again:
            self.place += 1
            return
        length = self._symbol(self.tables[component][0])
        if length > 11:
            raise ScanFaultError("a brightness out of range")
        value = self._value(length)
        self.before[component] += value if length == 0 or value >> (length - 1) else value - (1 << length) + 1
        if abs(self.before[component] << self.band[3]) > LARGEST_DC:
            raise ScanFaultError("a brightness out of range")

    def _ac(self, component: int, nonzero: bytearray, begin: int) -> None:
        if self.run:
            self.run -= 1
            return
        codes, at, last = self.tables[component][1], max(self.band[0], 1), self.band[1]
        while at <= last:
            symbol = self._symbol(codes)
            zeros, length = symbol >> 4, symbol & 15
            if length:
                at += zeros
                if at > last or length > 10:
                    raise ScanFaultError("a coefficient out of range")
                nonzero[begin + at] = 1
                self.place += length
                at += 1
            elif zeros == 15:
                at += 16
            elif zeros and self.band[0] == 0:
                raise ScanFaultError("a code out of place")
            else:
                self.run = (1 << zeros) + self._value(zeros) - 1
                return
        if at > last + 1:
            raise ScanFaultError("a coefficient out of range")

    def _refined(self, component: int, nonzero: bytearray, begin: int) -> None:
        at, last = begin + self.band[0], begin + self.band[1]
        codes = self.tables[component][1]
        while not self.run and at <= last:
            symbol = self._symbol(codes)
            zeros, length = symbol >> 4, symbol & 15
            if length > 1:
                raise ScanFaultError("a coefficient out of range")
            if not length and zeros < 15:
                self.run = (1 << zeros) + self._value(zeros)
                break
            self.place += length
            while at <= last and (nonzero[at] or zeros):
                if nonzero[at]:
                    self.place += 1
                else:
                    zeros -= 1
                at += 1
            if at > last:
                raise ScanFaultError("a coefficient out of range")
            nonzero[at] = length
            at += 1
        if self.run:
            self.place += sum(nonzero[at : last + 1])
            self.run -= 1


def complete(walk: Walk) -> bool:
    """Say whether the scans so far code every coefficient to its last bit."""
    return bool(walk.components) and not any(left != 0 for one in walk.components.values() for left in one.left)
