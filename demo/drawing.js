// From strokes to the image that the network sees, as Omniglot's drawings become its images.
//
// A drawing is a list of strokes; a stroke is a list of points [x, y] on a sheet of 105 x 105 pixels, the size of
// Omniglot's drawings. A pixel is ink if its centre is at most PEN from the stroke. Then the sheet is reduced to 28 x 28
// by nearest neighbour, as the package reduces Omniglot (src/firstorder/data/omniglot.py). Ink is 0, paper is 1.
"use strict";

const Drawing = (() => {
  const SHEET = 105; // pixels
  const SIDE = 28; // pixels
  // Radius in pixels of the sheet. Omniglot's strokes are 5.3 wide (the median of ink per length of thinned line).
  const PEN = 2.6;
  // Omniglot's drawings are 68 pixels long on their longer side (the median).
  const USUAL = 68;

  function squaredDistance(x, y, from, to) {
    const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
    const length = dx * dx + dy * dy;
    const along = length === 0 ? 0 : ((x - from[0]) * dx + (y - from[1]) * dy) / length;
    const t = Math.min(1, Math.max(0, along));
    return (x - from[0] - t * dx) ** 2 + (y - from[1] - t * dy) ** 2;
  }

  function ink(sheet, from, to) {
    const low = (a, b) => Math.max(0, Math.floor(Math.min(a, b) - PEN - 1));
    const high = (a, b) => Math.min(SHEET - 1, Math.ceil(Math.max(a, b) + PEN));
    for (let row = low(from[1], to[1]); row <= high(from[1], to[1]); row++) {
      for (let column = low(from[0], to[0]); column <= high(from[0], to[0]); column++) {
        if (squaredDistance(column + 0.5, row + 0.5, from, to) <= PEN * PEN) sheet[row * SHEET + column] = 0;
      }
    }
  }

  // The sheet: 105 x 105 numbers, ink 0 and paper 1.
  function sheetOf(strokes) {
    const sheet = new Uint8Array(SHEET * SHEET).fill(1);
    for (const stroke of strokes) {
      stroke.forEach((point, i) => ink(sheet, stroke[Math.max(0, i - 1)], point));
    }
    return sheet;
  }

  // Nearest neighbour: the pixel in which the centre of the smaller image's pixel lies.
  function reduce(sheet) {
    const image = new Uint8Array(SIDE * SIDE);
    const nearest = (i) => Math.floor(((i + 0.5) * SHEET) / SIDE);
    for (let row = 0; row < SIDE; row++) {
      for (let column = 0; column < SIDE; column++) {
        image[row * SIDE + column] = sheet[nearest(row) * SHEET + nearest(column)];
      }
    }
    return image;
  }

  const imageOf = (strokes) => reduce(sheetOf(strokes));

  // An image as the assembled page stores it: one character of 0 and 1 a pixel.
  const imageFrom = (text) => Uint8Array.from(text, Number);

  return { SHEET, SIDE, PEN, USUAL, sheetOf, reduce, imageOf, imageFrom };
})();
