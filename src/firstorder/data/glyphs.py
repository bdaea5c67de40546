"""Glyphs: an embedded stand-in for Omniglot, drawn from the font that matplotlib brings along.

Twenty "handwritten" drawings of each of many characters of several alphabets, in Omniglot's form, so that
the whole pipeline runs without a download. What a newcomer would get wrong: numbers measured on glyphs
say nothing about the paper's numbers; and a character is not drawn by distorting its picture. Its outline
is thinned to a line one pixel wide once, the points of that line are moved, and a pen of varying width is
put on each, which is what keeps strokes thin and even as in Omniglot.

No global random state: a drawing depends on its code point and its number alone, not on what else is drawn.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from firstorder.data.packs import Images, Pack
from firstorder.errors import UserError
from firstorder.progress import Track, silent

CHARACTERS = 1187  # characters of the pack; checked, since a font of another version may hold others
DRAWINGS = 20  # a character, as in Omniglot
SIDE = 28  # pixels

FONT = "DejaVuSans.ttf"
# First word of a letter's Unicode name -> its script, which takes the place of Omniglot's alphabet.
# (Lisu's letters are Latin capitals, some of them turned: none would be kept.)
SCRIPTS = {"CANADIAN": "Canadian_Aboriginal", "OLD": "Old_Italic"} | {
    word.upper(): word
    for word in (
        *("Arabic", "Armenian", "Coptic", "Cyrillic", "Georgian", "Greek"),
        *("Hebrew", "Lao", "Latin", "Nko", "Ogham", "Tifinagh"),
    )
}

EM = 64  # pixels an em in which characters are rendered before thinning
CANVAS = 80  # side of that picture in pixels; wider characters are left out
INK = 128  # grey level from which a rendered pixel is ink
PRUNED = 3  # pixels that every end of a thinned line is shortened by
LEAST_INK = 12  # pixels of line; less is a dot or an accent, or does not fit the canvas

# Two characters can be told apart if at least DIFFERING of their 2 x ~60 pixels of line lie further than
# APART pixels from the other's line, both filling the same square of 28 x 28 pixels.
APART = 2.0
DIFFERING = 4

# How much drawings vary: chosen so that ink (60 pixels a drawing, Omniglot 63), the spread of a class in
# size (2.0 pixels, Omniglot 2.1) and place (1.3, Omniglot 1.4), and the accuracy of the nearest neighbour
# by raw pixels on 5-way 1-shot tasks (39 %, Omniglot 38 %) are near Omniglot's at 28 x 28.
SIZE = 17.0  # pixels: longest side of an average drawing
SIZE_SPREAD = 0.065  # of the logarithm, both sides together
ASPECT_SPREAD = 0.06  # of the logarithm, each side
ROTATION_SPREAD = 0.08  # radians
SHEAR_SPREAD = 0.10
SHIFT_SPREAD = 1.3  # pixels
BEND_SPREAD = 0.08  # of the half side, for the gentlest of the bends
BENDS = [(a, b) for a in range(4) for b in range(4) if 0 < a + b < 5]
PEN = (0.52, 0.82)  # pixels: narrowest and widest radius
RANDOM_KEY = 0x676C79706873  # "glyphs"

Points = np.ndarray[Any, np.dtype[np.float64]]
Pictures = np.ndarray[Any, np.dtype[np.bool_]]


def make_pack(track: Track = silent) -> Pack:
    """Draw the data set: images uint8 [CHARACTERS, 20, 1, 28, 28], ink 0 and paper 1 as in Omniglot, scale 1.

    Classes are named <script>/<code point in hex>, like Greek/03B1. The same bytes on every call.
    Raises UserError when matplotlib or its font is missing, or the font is not the expected one.
    """
    code_points, lines = _chosen(_candidates())
    if len(code_points) != CHARACTERS:
        raise UserError(
            f"{_font_path()}: found {len(code_points)} characters that can be told apart, expected {CHARACTERS}; "
            "install the locked matplotlib and pillow (requirements.lock)"
        )
    named = sorted((class_name(code_point), i) for i, code_point in enumerate(code_points))
    images = np.empty((CHARACTERS, DRAWINGS, 1, SIDE, SIDE), np.uint8)
    with track("glyphs", CHARACTERS, "characters") as bar:
        for row, (_, i) in enumerate(named):
            images[row, :, 0] = _draw(code_points[i], lines[i])
            bar.advance()
    return Pack(images, tuple(name for name, _ in named), 1)


def draw(code_points: Sequence[int]) -> Images:
    """Draw some of the pack's characters as `make_pack` does: uint8 [characters, 20, 1, 28, 28], ink 0, paper 1.

    Raises UserError when matplotlib or its font is missing.
    """
    lines = [_line(picture) for picture in thin(_render(code_points))]
    images = [_draw(code_point, line) for code_point, line in zip(code_points, lines, strict=True)]
    return np.stack(images)[:, :, None]


def class_name(code_point: int) -> str:
    """Return <script>/<code point in hex>, like Greek/03B1."""
    return f"{SCRIPTS[unicodedata.name(chr(code_point)).split()[0]]}/{code_point:04X}"


def thin(pictures: Pictures) -> Pictures:
    """Thin strokes to lines one pixel wide: bool [pictures, height, width], True is ink; the border is paper.

    Peels layer by layer, removing a pixel only if the ink around it stays connected and it ends no line,
    so that no part and no hole appears or vanishes. Then shortens every line's ends by PRUNED pixels,
    which takes away the whiskers that corners leave and makes points of dots.
    """
    ink = pictures.astype(np.uint8)
    while True:
        before = ink.copy()
        # Bits 0, 2, 4, 6 are the neighbours that share a side: an edge pixel has one that is paper.
        _peel(ink, (_neighbourhood(ink, 1, 1, 1) & 0b01010101) != 0b01010101, _removable(fewest=2))
        if np.array_equal(before, ink):
            break
    for _ in range(PRUNED):
        code = _neighbourhood(ink, 1, 1, 1)
        # One bit is set: the end of a line.
        _peel(ink, (code > 0) & (code & (code - 1) == 0), _removable(fewest=1))
    return ink.astype(np.bool_)


def _peel(ink: Images, candidates: Pictures, removable: Images) -> None:
    """Remove, in place, the candidates (without the border) that are removable when their turn comes.

    The four subfields (even and odd rows and columns) take turns: two pixels of one subfield never touch,
    so that removing them at once is as safe as one by one.
    """
    for row, column in ((1, 1), (2, 2), (1, 2), (2, 1)):
        gone = removable[_neighbourhood(ink, row, column, 2)] & candidates[:, row - 1 :: 2, column - 1 :: 2]
        ink[:, row:-1:2, column:-1:2] &= 1 - gone


def _neighbourhood(ink: Images, row: int, column: int, step: int) -> Images:
    """Return the eight neighbours of every `step`-th inner pixel as bits, anticlockwise, bit 0 east."""
    height, width = ink.shape[1:]
    code: Any = np.uint8(0)
    for bit, (down, right) in enumerate(((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))):
        rows = slice(row + down, height - 1 + down, step)
        columns = slice(column + right, width - 1 + right, step)
        code = code | ink[:, rows, columns] << np.uint8(bit)
    return np.asarray(code, np.uint8)


@cache
def _removable(fewest: int) -> Images:
    """Tabulate for all 256 neighbourhoods whether the pixel may go (1): Yokoi's number is 1, `fewest` neighbours."""
    code = np.arange(256)
    paper = np.stack([1 - (code >> bit & 1) for bit in range(8)])
    sides = paper[0::2]
    yokoi = (sides - sides * paper[1::2] * np.roll(sides, -1, axis=0)).sum(axis=0)
    return np.asarray((yokoi == 1) & (8 - paper.sum(axis=0) >= fewest), np.uint8)


def _font_path() -> Path:
    try:
        import matplotlib
    except ImportError:
        raise UserError(
            "glyphs are drawn from matplotlib's font; install it: pip install 'firstorder[report]'"
        ) from None
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / FONT
    if not path.is_file():
        raise UserError(f"{path}: no such font; matplotlib should bring it along, install matplotlib again")
    return path


def _candidates() -> list[int]:
    """List the font's letters of the scripts above, one code point for each shape it has, in order."""
    path = _font_path()
    from matplotlib.ft2font import FT2Font

    glyph_of = FT2Font(str(path)).get_charmap()
    first: dict[int, int] = {}
    for code_point in sorted(glyph_of):
        letter = chr(code_point)
        # Capitals, small letters and letters without case; modifier letters are small copies of others.
        if unicodedata.category(letter) in ("Lu", "Ll", "Lo") and unicodedata.name(letter).split()[0] in SCRIPTS:
            first.setdefault(glyph_of[code_point], code_point)
    return sorted(first.values())


def _render(code_points: Sequence[int]) -> Pictures:
    """Render characters: bool [characters, CANVAS, CANVAS], True is ink; all paper if it does not fit."""
    from PIL import Image, ImageDraw, ImageFont

    # Basic layout: complex layout depends on libraries of the system.
    font = ImageFont.truetype(str(_font_path()), EM, layout_engine=ImageFont.Layout.BASIC)
    pictures = np.zeros((len(code_points), CANVAS, CANVAS), np.bool_)
    for picture, code_point in zip(pictures, code_points, strict=True):
        left, top, right, bottom = font.getbbox(chr(code_point), anchor="ls")
        if max(right - left, bottom - top) <= CANVAS - 4:
            image = Image.new("L", (CANVAS, CANVAS))
            ImageDraw.Draw(image).text((2 - left, 2 - top), chr(code_point), fill=255, font=font, anchor="ls")
            picture[:] = np.asarray(image) >= INK
    return pictures


def _line(picture: Pictures) -> Points:
    """Return a thinned picture's points (x, y) [points, 2], centred, the longer side from -1 to 1."""
    y, x = np.nonzero(picture)
    points = np.stack([x, y], axis=1).astype(np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    return np.asarray((points - (low + high) / 2) / max(float((high - low).max()) / 2, 1.0), np.float64)


def _chosen(candidates: Sequence[int]) -> tuple[list[int], list[Points]]:
    """Keep, in order, each candidate that differs enough from all kept before it, however it is turned."""
    pictures = thin(_render(candidates))
    drawable = pictures.sum(axis=(1, 2)) >= LEAST_INK
    code_points = [code_point for code_point, kept in zip(candidates, drawable, strict=True) if kept]
    lines = [_line(picture) for picture in pictures[drawable]]
    differing = _differing(lines)
    kept: list[int] = []
    for i in range(len(lines)):
        if (differing[i, kept] >= DIFFERING).all():
            kept.append(i)
    return [code_points[i] for i in kept], [lines[i] for i in kept]


def _differing(lines: Sequence[Points]) -> Points:
    """Count, for each two characters, the pixels of line of either that are far from the other's: [n, n].

    The smallest count over quarter turns of one of them, as meta-training adds rotated classes.
    """
    ink = np.zeros((len(lines), SIDE, SIDE), np.bool_)
    for picture, line in zip(ink, lines, strict=True):
        column, row = np.rint((line + 1) * (SIDE - 5) / 2).astype(np.int64).T + 2
        picture[row, column] = True
    near = np.zeros_like(ink)
    reach = int(APART)
    padded = np.pad(ink, ((0, 0), (reach, reach), (reach, reach)))
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            if down**2 + right**2 <= APART**2:
                near |= padded[:, reach + down : reach + down + SIDE, reach + right : reach + right + SIDE]
    # Whole numbers below 2^24: exact in float32, in whatever order they are added.
    flat = ink.reshape(len(ink), -1).astype(np.float32)
    far = [flat @ ~np.rot90(near, turns, axes=(1, 2)).reshape(len(ink), -1).T for turns in range(4)]
    return np.asarray(np.min([far[turns] + far[-turns].T for turns in range(4)], axis=0), np.float64)


def _draw(code_point: int, line: Points) -> Images:
    """Draw a character's DRAWINGS from its line: uint8 [drawings, SIDE, SIDE], ink 0 and paper 1."""
    count = 2 * len(BENDS)
    uniform, normal = zip(*(_random(code_point, drawing, count + 8) for drawing in range(DRAWINGS)), strict=True)
    pen = PEN[0] + (PEN[1] - PEN[0]) * np.array(uniform)
    bends, affine = np.split(np.stack(normal), [count], axis=1)
    bends = BEND_SPREAD * bends.reshape(DRAWINGS, 2, -1)
    points = line[None] + np.einsum("dab,pb->dpa", bends, _bending(line))
    points = np.einsum("dpa,dba->dpb", points, _matrices(affine[:, :5]))  # [drawings, points, x and y]
    centre = (points.min(axis=1) + points.max(axis=1)) / 2
    # No stroke leaves the picture: a drawing that would is moved back as far as needed.
    room = np.maximum((SIDE - 2) / 2 - (points.max(axis=1) - centre), 0)
    shift = np.clip(SHIFT_SPREAD * affine[:, 5:7], -room, room)
    return _stroke(points + (shift - centre + (SIDE - 1) / 2)[:, None], pen)


def _bending(line: Points) -> Points:
    """Evaluate the smooth bends at a line's points: [points, bends], gentler ones larger."""
    quarter = (line + 1) * (np.pi / 2)
    return np.stack([np.cos(a * quarter[:, 0]) * np.cos(b * quarter[:, 1]) / (a + b) for a, b in BENDS], axis=1)


def _matrices(normal: Points) -> Points:
    """Make [drawings, 2, 2] from [drawings, 5] normals: size, width, height, rotation, shear; unit is pixels."""
    size = SIZE / 2 * np.exp(SIZE_SPREAD * normal[:, 0])
    width, height = size * np.exp(ASPECT_SPREAD * normal[:, 1]), size * np.exp(ASPECT_SPREAD * normal[:, 2])
    angle, shear = ROTATION_SPREAD * normal[:, 3], SHEAR_SPREAD * normal[:, 4]
    cos, sin = np.cos(angle), np.sin(angle)
    rows = [[width * cos, height * (shear * cos - sin)], [width * sin, height * (shear * sin + cos)]]
    return np.moveaxis(np.array(rows, np.float64), 2, 0)


def _stroke(points: Points, pen: Points) -> Images:
    """Ink every pixel whose centre is within the pen's radius of a point: uint8 [drawings, SIDE, SIDE]."""
    nearest = np.rint(points).astype(np.int64)
    offsets = np.array([(right, down) for down in (-1, 0, 1) for right in (-1, 0, 1)])
    pixels = nearest[:, :, None] + offsets  # [drawings, points, 9, x and y]
    inked = ((pixels - points[:, :, None]) ** 2).sum(axis=-1) <= (pen**2)[:, None, None]
    inked &= ((pixels >= 0) & (pixels < SIDE)).all(axis=-1)
    drawing = np.broadcast_to(np.arange(len(points))[:, None, None], inked.shape)
    images = np.ones((len(points), SIDE, SIDE), np.uint8)
    images[drawing[inked], pixels[inked][:, 1], pixels[inked][:, 0]] = 0
    return images


def _random(code_point: int, drawing: int, count: int) -> tuple[float, Points]:
    """Return this drawing's random numbers: one uniform in (0, 1) and `count` (even) standard normal ones."""
    generator = np.random.Philox(key=[RANDOM_KEY, code_point], counter=[0, 0, drawing, 0])
    # Raw output, since that alone stays the same over versions of numpy; normals by Box and Muller.
    uniform = ((generator.random_raw(1 + count) >> np.uint64(11)) + 0.5) * 2.0**-53
    radius, angle = np.sqrt(-2 * np.log(uniform[1::2])), 2 * np.pi * uniform[2::2]
    return float(uniform[0]), np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
