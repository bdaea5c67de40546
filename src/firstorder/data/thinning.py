"""Thins the strokes of rendered characters to lines one pixel wide."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from firstorder.data.packs import Images

PRUNED = 3  # pixels by which every end of a thinned line is shortened

Pictures = np.ndarray[Any, np.dtype[np.bool_]]


def thin(pictures: Pictures) -> Pictures:
    """Thin strokes to lines one pixel wide: bool [pictures, height, width], True is ink; the border is paper.

    Removes layer after layer of edge pixels. A pixel is removed only if the ink around it stays connected and it is not
    the end of a line, so no part and no hole appears or vanishes. Then every line is shortened by PRUNED pixels at its
    ends, which removes the spurs that thinning leaves at corners and reduces dots to points.
    """
    ink = pictures.astype(np.uint8)
    while True:
        before = ink.copy()
        # Bits 0, 2, 4, 6 are the neighbours that share a side; an edge pixel has one that is paper.
        _peel(ink, (_neighbourhood(ink, 1, 1, 1) & 0b01010101) != 0b01010101, _removable(fewest=2))
        if np.array_equal(before, ink):
            break
    for _ in range(PRUNED):
        code = _neighbourhood(ink, 1, 1, 1)
        # The end of a line has one neighbour: one bit is set.
        _peel(ink, (code > 0) & (code & (code - 1) == 0), _removable(fewest=1))
    return ink.astype(np.bool_)


def _peel(ink: Images, candidates: Pictures, removable: Images) -> None:
    """Remove in place the `candidates` [pictures, height - 2, width - 2] that are still removable when visited.

    The four subfields (even or odd rows, even or odd columns) are visited one after the other. Pixels of one subfield
    never touch, so removing them all at once is as safe as one by one.
    """
    for row, column in ((1, 1), (2, 2), (1, 2), (2, 1)):
        gone = removable[_neighbourhood(ink, row, column, 2)] & candidates[:, row - 1 :: 2, column - 1 :: 2]
        ink[:, row:-1:2, column:-1:2] &= 1 - gone


def _neighbourhood(ink: Images, row: int, column: int, step: int) -> Images:
    """Return the eight neighbours of every `step`-th inner pixel as bits, counter-clockwise, bit 0 to the right."""
    height, width = ink.shape[1:]
    code: Any = np.uint8(0)
    for bit, (down, right) in enumerate(((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))):
        rows = slice(row + down, height - 1 + down, step)
        columns = slice(column + right, width - 1 + right, step)
        code = code | ink[:, rows, columns] << np.uint8(bit)
    return np.asarray(code, np.uint8)


@cache
def _removable(fewest: int) -> Images:
    """Tabulate for all 256 neighbourhoods whether the pixel is removable: Yokoi's number 1, >= `fewest` neighbours."""
    code = np.arange(256)
    paper = np.stack([1 - (code >> bit & 1) for bit in range(8)])
    sides = paper[0::2]
    yokoi = (sides - sides * paper[1::2] * np.roll(sides, -1, axis=0)).sum(axis=0)
    return np.asarray((yokoi == 1) & (8 - paper.sum(axis=0) >= fewest), np.uint8)
