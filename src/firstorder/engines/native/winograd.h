/* The products of blocks 2 to 4 of networks that pool, with fewer multiplications: Winograd's minimal filtering
   F(2 x 2, 3 x 3) (Lavin and Gray, arXiv 1509.09308, section 4.1). A square of 4 x 4 places of the padded map x gives
   2 x 2 outputs, and a pair of channel and filter takes 16 multiplications a square instead of 36. With the kernel k,
   number by number in the 16 points of a square, and summed over channels,

     y = A' [(G k G') (B' x B)] A.

   dx is the same product of dy with the kernel turned by 180 degrees, and dK, summed over squares, the adjoint

     dK = G' [(B' x B) (A dy A')] G.

          1  0 -1  0         1    0    0
     B' = 0  1  1  0     G = 1/2  1/2  1/2     A' = 1  1  1  0
          0 -1  1  0         1/2 -1/2  1/2          0  1 -1 -1
          0  1  0 -1         0    0    1

   Each point is a matrix product of its own, over channels, filters or squares. The factors are powers of two, and the
   sums have fewer terms than those over windows. Where the windows of two neighbours in a row or a column are equal, so
   are the outputs, to the last bit. Of other equal outputs of a maximum's window, rounding may prefer one. */

static int squares_across(const block *b) { return (b->side + 1) / 2; }

/* Rows of squares that are computed at a time. */
static int rows_of_squares(const block *b) { return least(squares_across(b), SQUARES / squares_across(b)); }

/* B' times 4 numbers. */
INLINE void times_b(vector *to, vector x0, vector x1, vector x2, vector x3) {
    to[0] = x0 - x2, to[1] = x1 + x2, to[2] = x2 - x1, to[3] = x1 - x3;
}

/* B' times 4 numbers of a column of a square. */
INLINE void column_of_square(vector *to, const REAL *from, long line, long last) {
    times_b(to, load(from), load(from + line), load(from + 2 * line), load(from + last));
}

/* to [16][squares][wide] = B' x B for `rows` rows of squares of an image's padded map, from row `row` on. What the last
   squares of an odd side would read beyond the map is replaced by another place: no output depends on it, and in dK it
   is multiplied by a dy of 0. */
static void take_squares(const block *b, const REAL *x, int row, int rows, REAL *to) {
    const int wide = b->filters, across = squares_across(b), padded = b->side + 2, line = padded * wide;
    const long plane = plane_of(wide);
    for (int r = 0; r < rows; r++) {
        const REAL *from = x + (long)2 * (row + r) * line;
        const int last = (2 * (row + r) + 3 < padded ? 3 : 2) * line;
        for (int c = 0; c < wide; c += WIDE, from += WIDE) {
            vector columns[4][4]; /* [column][row of points] */
            column_of_square(columns[0], from, line, last);
            column_of_square(columns[1], from + wide, line, last);
            for (int s = 0; s < across; s++) {
                REAL *out = to + (long)(r * across + s) * wide + c;
                column_of_square(columns[2], from + (2 * s + 2) * wide, line, last);
                column_of_square(columns[3], from + least(2 * s + 3, padded - 1) * wide, line, last);
                UNROLL for (int p = 0; p < 4; p++) {
                    vector points[4];
                    times_b(points, columns[0][p], columns[1][p], columns[2][p], columns[3][p]);
                    UNROLL for (int q = 0; q < 4; q++) store(out + (4 * p + q) * plane, points[q]);
                }
                UNROLL for (int p = 0; p < 4; p++) columns[0][p] = columns[2][p], columns[1][p] = columns[3][p];
            }
        }
    }
}

/* out [side][side][wide] = (or +=) A' m A for `rows` rows of squares from row `row` on, m [16][squares][wide]. */
static void give_squares(const block *b, const REAL *m, int row, int rows, REAL *out, int add) {
    const int wide = b->filters, across = squares_across(b), side = b->side;
    const long plane = plane_of(wide);
    for (int r = 0; r < rows; r++) {
        for (int s = 0; s < across; s++) {
            for (int f = 0; f < wide; f += WIDE) {
                const REAL *from = m + (long)(r * across + s) * wide + f;
                vector sums[2][4];
                UNROLL for (int q = 0; q < 4; q++) {
                    const vector m0 = load(from + q * plane), m1 = load(from + (4 + q) * plane),
                                 m2 = load(from + (8 + q) * plane), m3 = load(from + (12 + q) * plane);
                    sums[0][q] = m0 + m1 + m2, sums[1][q] = m1 - m2 - m3;
                }
                UNROLL for (int k = 0; k < 2; k++) {
                    const int at = 2 * (row + r) + k;
                    if (at >= side) continue;
                    REAL *to = out + (long)(at * side + 2 * s) * wide + f;
                    vector left = sums[k][0] + sums[k][1] + sums[k][2], right = sums[k][1] - sums[k][2] - sums[k][3];
                    if (add) left += load(to);
                    store(to, left);
                    if (2 * s + 1 >= side) continue;
                    if (add) right += load(to + wide);
                    store(to + wide, right);
                }
            }
        }
    }
}

/* to [16][squares][wide] = A dy A' for the same squares; a padded dy is 0 beyond the map. */
static void take_outputs(const block *b, const REAL *dy, int row, int rows, REAL *to) {
    const int wide = b->filters, across = squares_across(b), line = (b->side + 2) * wide;
    const long plane = plane_of(wide);
    for (int r = 0; r < rows; r++) {
        for (int s = 0; s < across; s++) {
            const REAL *from = dy + (long)(2 * (row + r) + 1) * line + (2 * s + 1) * wide;
            for (int f = 0; f < wide; f += WIDE) {
                REAL *out = to + (long)(r * across + s) * wide + f;
                const vector y0 = load(from + f), y1 = load(from + wide + f), y2 = load(from + line + f),
                             y3 = load(from + line + wide + f);
                const vector left[4] = {y0, y0 + y2, y0 - y2, -y2}, right[4] = {y1, y1 + y3, y1 - y3, -y3};
                UNROLL for (int p = 0; p < 4; p++, out += 4 * plane) {
                    store(out, left[p]);
                    store(out + plane, left[p] + right[p]);
                    store(out + 2 * plane, left[p] - right[p]);
                    store(out + 3 * plane, -right[p]);
                }
            }
        }
    }
}

/* G times 3 numbers. */
INLINE void times_g(vector *to, vector k0, vector k1, vector k2) {
    to[0] = k0, to[1] = (REAL)0.5 * (k0 + k2 + k1), to[2] = (REAL)0.5 * (k0 + k2 - k1), to[3] = k2;
}

/* The point of the kernel turned by 180 degrees: the first and the last row are exchanged, and so are the columns. */
static int turned(int point) {
    static const int other[4] = {3, 1, 2, 0};
    return 4 * other[point / 4] + other[point % 4];
}

/* G k G' as forward [16][channel][filter] and, of the kernel turned by 180 degrees, as backward
   [16][filter][channel]. */
static void take_kernel(const block *b, const REAL *kernel, REAL *forward, REAL *backward) {
    const int wide = b->filters, size = window_size(b);
    const long plane = (long)wide * wide;
    for (int f = 0; f < wide; f++) {
        for (int c = 0; c < wide; c += WIDE) {
            const REAL *from = kernel + (long)f * size + c;
            vector columns[3][4]; /* [column of the kernel][row of points] */
            UNROLL for (int k = 0; k < 3; k++, from += wide) {
                times_g(columns[k], load(from), load(from + 3 * wide), load(from + 6 * wide));
            }
            UNROLL for (int p = 0; p < 4; p++) {
                vector points[4];
                times_g(points, columns[0][p], columns[1][p], columns[2][p]);
                UNROLL for (int q = 0; q < 4; q++) {
                    store(backward + turned(4 * p + q) * plane + (long)f * wide + c, points[q]);
                }
            }
        }
    }
    for (int p = 0; p < POINTS; p++) transpose(backward + turned(p) * plane, wide, wide, forward + p * plane);
}

/* out [side][side][wide] = (or +=) the product of an image's padded map with a kernel [16][wide][wide], for `rows` rows
   of squares from row `row` on. */
static void convolve_squares(const block *b, const REAL *in, const REAL *kernel, int row, int rows, point_room room,
                             REAL *out, int add) {
    const int wide = b->filters, count = rows * squares_across(b);
    const long plane = plane_of(wide);
    take_squares(b, in, row, rows, room.in);
    for (int p = 0; p < POINTS; p++) {
        multiply_rows(count, room.in + p * plane, kernel + (long)p * wide * wide, wide, room.out + p * plane);
    }
    give_squares(b, room.out, row, rows, out, add);
}

/* dx [side][side][wide] = (or +=) the gradient of an image's input map, from its padded dy. */
static void input_by_squares(const block *b, const REAL *dy, const REAL *kernel, point_room room, REAL *dx, int add) {
    for (int row = 0, rows; row < squares_across(b); row += rows) {
        rows = least(rows_of_squares(b), squares_across(b) - row);
        convolve_squares(b, dy, kernel, row, rows, room, dx, add);
    }
}

/* sums [16][filter][channel] += those of an image, from its padded maps. */
static void add_squares(const block *b, const REAL *x, const REAL *dy, point_room room, REAL *sums) {
    const int wide = b->filters;
    const long plane = plane_of(wide);
    for (int row = 0, rows; row < squares_across(b); row += rows) {
        rows = least(rows_of_squares(b), squares_across(b) - row);
        take_squares(b, x, row, rows, room.in);
        take_outputs(b, dy, row, rows, room.out);
        for (int p = 0; p < POINTS; p++) {
            accumulate_rows(room.out + p * plane, room.in + p * plane, rows * squares_across(b), wide,
                            sums + (long)p * wide * wide);
        }
    }
}

/* G' times 4 numbers. */
INLINE void times_g_back(vector *to, const vector *m, int step) {
    const vector even = (REAL)0.5 * (m[step] + m[2 * step]), odd = (REAL)0.5 * (m[step] - m[2 * step]);
    to[0] = m[0] + even, to[1] = odd, to[2] = even + m[3 * step];
}

/* gradient [filter][tap][channel] += G' (the sums of all images, in their order) G, for filters `first` to `last`. */
static void give_kernel(const block *b, const REAL *sums, int images, int first, int last, REAL *gradient) {
    const int wide = b->filters;
    const long plane = (long)wide * wide;
    for (int f = first; f < last; f++) {
        for (int c = 0; c < wide; c += WIDE) {
            vector points[POINTS], columns[4][3];
            UNROLL for (int p = 0; p < POINTS; p++) points[p] = load(sums + p * plane + (long)f * wide + c);
            for (int i = 1; i < images; i++) {
                const REAL *from = sums + i * POINTS * plane + (long)f * wide + c;
                UNROLL for (int p = 0; p < POINTS; p++) points[p] += load(from + p * plane);
            }
            UNROLL for (int q = 0; q < 4; q++) times_g_back(columns[q], points + q, 4);
            UNROLL for (int k = 0; k < 3; k++) {
                vector taps[3];
                times_g_back(taps, &columns[0][k], 3);
                REAL *to = gradient + (long)f * window_size(b) + 3 * k * wide + c;
                UNROLL for (int t = 0; t < 3; t++) store(to + t * wide, load(to + t * wide) + taps[t]);
            }
        }
    }
}
