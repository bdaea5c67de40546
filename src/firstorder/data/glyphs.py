"""Glyphs: an embedded substitute for Omniglot, drawn from the font that matplotlib includes.

It has twenty "handwritten" drawings of each of many characters of several scripts, in Omniglot's form, so that the
whole pipeline runs without a download. Numbers measured on glyphs say nothing about the paper's numbers.

A drawing is not a distorted picture of the character. The rendered character is thinned once to a line one pixel wide.
For each drawing, the points of that line are moved and a pen of varying width inks around each, which keeps strokes
thin and even as in Omniglot. There is no global random state: a drawing depends only on its code point and its number.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from firstorder.data.packs import Images, Pack
from firstorder.data.thinning import Pictures, thin
from firstorder.errors import UserError
from firstorder.progress import Track, silent

CHARACTERS = 1187  # in the pack; checked, since another version of the font may have others
DRAWINGS = 20  # per character, as in Omniglot
SIDE = 28  # pixels

FONT = "DejaVuSans.ttf"
# First word of a letter's Unicode name -> its script, which corresponds to Omniglot's alphabet.
# (Lisu is left out because its letters are Latin capitals, some of them rotated: none would be kept.)
SCRIPTS = {"CANADIAN": "Canadian_Aboriginal", "OLD": "Old_Italic"} | {
    word.upper(): word
    for word in (
        *("Arabic", "Armenian", "Coptic", "Cyrillic", "Georgian", "Greek"),
        *("Hebrew", "Lao", "Latin", "Nko", "Ogham", "Tifinagh"),
    )
}

EM = 64  # pixels per em when characters are rendered for thinning
CANVAS = 80  # side of the rendered picture in pixels; larger characters are left out
INK = 128  # a rendered pixel of at least this grey level is ink
LEAST_INK = 12  # pixels of line; characters with less are dots or accents, or do not fit the canvas

# Two characters can be told apart if at least DIFFERING of their 2 x ~60 pixels of line are more than APART pixels away
# from the other's line, when both fill the same square of 28 x 28 pixels.
APART = 2.0
DIFFERING = 4

# How much drawings vary. Chosen to be close to Omniglot at 28 x 28 in four measures: ink (60 pixels per drawing,
# Omniglot 63), the spread within a class in size (2.0 pixels, Omniglot 2.1) and position (1.3, Omniglot 1.4), and the
# accuracy of nearest neighbours in raw pixels on 5-way 1-shot tasks (39 %, Omniglot 38 %).
SIZE = 17.0  # pixels: longest side of an average drawing
SIZE_SPREAD = 0.065  # of the logarithm, width and height together
ASPECT_SPREAD = 0.06  # of the logarithm, width and height separately
ROTATION_SPREAD = 0.08  # radians
SHEAR_SPREAD = 0.10
SHIFT_SPREAD = 1.3  # pixels
BEND_SPREAD = 0.08  # of half the side, for the smoothest bends
BENDS = [(a, b) for a in range(4) for b in range(4) if 0 < a + b < 5]
PEN = (0.52, 0.82)  # pixels: narrowest and widest radius
RANDOM_KEY = 0x676C79706873  # "glyphs"

Points = np.ndarray[Any, np.dtype[np.float64]]


def make_pack(track: Track = silent) -> Pack:
    """Draw the data set: images uint8 [CHARACTERS, 20, 1, 28, 28], ink 0 and paper 1 as in Omniglot, scale 1.

    Classes are named <script>/<code point in hex>, like Greek/03B1. Every call gives the same bytes.
    Raises UserError if matplotlib or its font is missing, or the font is not the expected one.
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
    return Pack(images, tuple(name for name, _ in named), 1, source="glyphs")


def draw(code_points: Sequence[int]) -> Images:
    """Draw some of the pack's characters as `make_pack` does: uint8 [characters, 20, 1, 28, 28], ink 0, paper 1.

    Raises UserError if matplotlib or its font is missing.
    """
    lines = [_line(picture) for picture in thin(_render(code_points))]
    images = [_draw(code_point, line) for code_point, line in zip(code_points, lines, strict=True)]
    return np.stack(images)[:, :, None]


def class_name(code_point: int) -> str:
    """Return <script>/<code point in hex>, like Greek/03B1."""
    return f"{SCRIPTS[unicodedata.name(chr(code_point)).split()[0]]}/{code_point:04X}"


def _font_path() -> Path:
    try:
        import matplotlib
    except ImportError:
        raise UserError(
            "glyphs are drawn from matplotlib's font; install it: pip install 'firstorder[report]'"
        ) from None
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / FONT
    if not path.is_file():
        raise UserError(f"{path}: no such font; matplotlib should include it, so install matplotlib again")
    return path


def _candidates() -> list[int]:
    """List the font's letters of the scripts above, sorted; of those with the same shape, the first."""
    path = _font_path()
    from matplotlib.ft2font import FT2Font

    glyph_of = FT2Font(str(path)).get_charmap()
    first: dict[int, int] = {}
    for code_point in sorted(glyph_of):
        letter = chr(code_point)
        # Upper case, lower case and letters without case. Modifier letters are small copies of others, so not those.
        if unicodedata.category(letter) in ("Lu", "Ll", "Lo") and unicodedata.name(letter).split()[0] in SCRIPTS:
            first.setdefault(glyph_of[code_point], code_point)
    return sorted(first.values())


def _render(code_points: Sequence[int]) -> Pictures:
    """Render characters: bool [characters, CANVAS, CANVAS], True is ink; no ink for those that do not fit."""
    from PIL import Image, ImageDraw, ImageFont

    # Basic layout, because complex layout depends on libraries of the system.
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
    """Return the ink of a thinned picture as points (x, y) [points, 2], centred, the longer side from -1 to 1."""
    y, x = np.nonzero(picture)
    points = np.stack([x, y], axis=1).astype(np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    return np.asarray((points - (low + high) / 2) / max(float((high - low).max()) / 2, 1.0), np.float64)


def _chosen(candidates: Sequence[int]) -> tuple[list[int], list[Points]]:
    """Keep, in order, each candidate that differs enough from all kept before it, under every quarter turn."""
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
    """Count, for each pair of characters, the pixels of either line that are far from the other line: [n, n].

    It is the smallest count over the quarter turns of one of them, because meta-training adds rotated classes.
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
    # Whole numbers below 2^24 are exact in float32, in whatever order they are added.
    flat = ink.reshape(len(ink), -1).astype(np.float32)
    far = [flat @ ~np.rot90(near, turns, axes=(1, 2)).reshape(len(ink), -1).T for turns in range(4)]
    return np.asarray(np.min([far[turns] + far[-turns].T for turns in range(4)], axis=0), np.float64)


def _draw(code_point: int, line: Points) -> Images:
    """Draw all DRAWINGS of a character from its line: uint8 [drawings, SIDE, SIDE], ink 0 and paper 1."""
    count = 2 * len(BENDS)
    uniform, normal = zip(*(_random(code_point, drawing, count + 8) for drawing in range(DRAWINGS)), strict=True)
    pen = PEN[0] + (PEN[1] - PEN[0]) * np.array(uniform)
    bends, affine = np.split(np.stack(normal), [count], axis=1)
    bends = BEND_SPREAD * bends.reshape(DRAWINGS, 2, -1)
    points = line[None] + np.einsum("dab,pb->dpa", bends, _bending(line))
    points = np.einsum("dpa,dba->dpb", points, _matrices(affine[:, :5]))  # [drawings, points, x and y]
    centre = (points.min(axis=1) + points.max(axis=1)) / 2
    # The shift is limited so that no stroke leaves the picture.
    room = np.maximum((SIDE - 2) / 2 - (points.max(axis=1) - centre), 0)
    shift = np.clip(SHIFT_SPREAD * affine[:, 5:7], -room, room)
    return _stroke(points + (shift - centre + (SIDE - 1) / 2)[:, None], pen)


def _bending(line: Points) -> Points:
    """Evaluate the bends, products of cosines, at a line's points: [points, bends]; smoother ones are larger."""
    quarter = (line + 1) * (np.pi / 2)
    return np.stack([np.cos(a * quarter[:, 0]) * np.cos(b * quarter[:, 1]) / (a + b) for a, b in BENDS], axis=1)


def _matrices(normal: Points) -> Points:
    """Return matrices [drawings, 2, 2], in pixels, from normals [drawings, 5]: size, width, height, rotation, shear."""
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
    """Return this drawing's random numbers: one uniform in (0, 1) and `count` (even) standard normals."""
    generator = np.random.Philox(key=[RANDOM_KEY, code_point], counter=[0, 0, drawing, 0])
    # Only the raw output is the same in every version of NumPy, so the normals are made here (Box and Muller).
    uniform = ((generator.random_raw(1 + count) >> np.uint64(11)) + 0.5) * 2.0**-53
    radius, angle = np.sqrt(-2 * np.log(uniform[1::2])), 2 * np.pi * uniform[2::2]
    return float(uniform[0]), np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
