/* The two loops that do nearly all the work. Each keeps up to 24 vectors of sums in registers and reads its input from
   the first-level cache. Every sum is taken in one order, whatever the pieces, so pieces never change a result. */

/* out[r][:] = (or +=) sum over s, k of rows[r][s * row_step + k] * matrix[s][k][:], matrix [spans][terms][stride], for
   `count` rows and `wide` vectors. */
INLINE void multiply_some(const int count, const int wide, const REAL *rows, const int *at, long row_step,
                          const REAL *matrix, long stride, int spans, int terms, REAL *out, const int *out_at,
                          int add) {
    vector sums[12][4];
    UNROLL for (int r = 0; r < count; r++) {
        UNROLL for (int v = 0; v < wide; v++) sums[r][v] = add ? load(out + out_at[r] + v * WIDE) : spread(0);
    }
    const REAL *row[12];
    UNROLL for (int r = 0; r < count; r++) row[r] = rows + at[r];
    for (int s = 0; s < spans; s++, matrix += terms * stride) {
        for (int k = 0; k < terms; k++) {
            vector line[4];
            UNROLL for (int v = 0; v < wide; v++) line[v] = load(matrix + k * stride + v * WIDE);
            UNROLL for (int r = 0; r < count; r++) {
                vector factor = spread(row[r][k]);
                UNROLL for (int v = 0; v < wide; v++) sums[r][v] += factor * line[v];
            }
        }
        UNROLL for (int r = 0; r < count; r++) row[r] += row_step;
    }
    UNROLL for (int r = 0; r < count; r++) {
        UNROLL for (int v = 0; v < wide; v++) store(out + out_at[r] + v * WIDE, sums[r][v]);
    }
}

/* out[r][:] += sum over p of factors[factors_at[p] + r] * lines[at[p]][:], for `count` rows and `wide` vectors. */
INLINE void accumulate_some(const int count, const int wide, const REAL *factors, const int *factors_at,
                            const REAL *lines, const int *at, int terms, REAL *out, long out_stride) {
    vector sums[12][4];
    UNROLL for (int r = 0; r < count; r++) {
        UNROLL for (int v = 0; v < wide; v++) sums[r][v] = load(out + r * out_stride + v * WIDE);
    }
    for (int p = 0; p < terms; p++) {
        vector line[4];
        const REAL *factor = factors + factors_at[p];
        UNROLL for (int v = 0; v < wide; v++) line[v] = load(lines + at[p] + v * WIDE);
        UNROLL for (int r = 0; r < count; r++) {
            vector spreaded = spread(factor[r]);
            UNROLL for (int v = 0; v < wide; v++) sums[r][v] += spreaded * line[v];
        }
    }
    UNROLL for (int r = 0; r < count; r++) {
        UNROLL for (int v = 0; v < wide; v++) store(out + r * out_stride + v * WIDE, sums[r][v]);
    }
}

/* The numbers of rows and vectors must be compile-time constants: call the function compiled for these. */
#define FOR_ROWS(CALL, wide)                              \
    switch (count) {                                      \
        case 1:                                           \
            CALL(1, wide);                                \
            break;                                        \
        case 2:                                           \
            CALL(2, wide);                                \
            break;                                        \
        case 3:                                           \
            CALL(3, wide);                                \
            break;                                        \
        case 4:                                           \
            CALL(4, wide);                                \
            break;                                        \
        case 5:                                           \
            CALL(5, wide);                                \
            break;                                        \
        case 6:                                           \
            CALL(6, wide);                                \
            break;                                        \
        case 7:                                           \
            CALL(7, (wide > MOST_SUMS / 7 ? 1 : wide));   \
            break;                                        \
        case 8:                                           \
            CALL(8, (wide > MOST_SUMS / 8 ? 1 : wide));   \
            break;                                        \
        case 9:                                           \
            CALL(9, (wide > MOST_SUMS / 9 ? 1 : wide));   \
            break;                                        \
        case 10:                                          \
            CALL(10, (wide > MOST_SUMS / 10 ? 1 : wide)); \
            break;                                        \
        case 11:                                          \
            CALL(11, (wide > MOST_SUMS / 11 ? 1 : wide)); \
            break;                                        \
        case 12:                                          \
            CALL(12, (wide > MOST_SUMS / 12 ? 1 : wide)); \
            break;                                        \
    }
#define FOR_SIZES(CALL)                   \
    if (wide == 1) FOR_ROWS(CALL, 1)      \
    else if (wide == 2) FOR_ROWS(CALL, 2) \
    else if (wide == 3) FOR_ROWS(CALL, 3) \
    else if (wide == 4) FOR_ROWS(CALL, 4)

static int widest(int vectors) {
    if (MOST_SUMS >= 24 && vectors % 4 == 0) return 4;
    return MOST_SUMS >= 24 && vectors % 3 == 0 ? 3 : vectors % 2 == 0 ? 2 : 1;
}
static int most_rows(int wide) { return least(12, MOST_SUMS / wide); }

/* Cut n rows and `width` numbers into pieces that fit the registers: CALL(rows, vectors) computes those from i and
   column on. */
#define IN_PIECES(CALL)                                                                            \
    const int wide = widest(width / WIDE), most = most_rows(wide);                                 \
    for (int column = 0; column < width; column += wide * WIDE) {                                  \
        for (int i = 0, pieces = (n + most - 1) / most, count; pieces > 0; pieces--, i += count) { \
            count = (n - i + pieces - 1) / pieces;                                                 \
            FOR_SIZES(CALL)                                                                        \
        }                                                                                          \
    }

/* The same for n rows, read at at[i] and written to out_at[i], and `width` columns of a matrix. */
static void multiply(int n, const REAL *rows, const int *at, long row_step, const REAL *matrix, long stride, int spans,
                     int terms, int width, REAL *out, const int *out_at, int add) {
#define CALL(r, w) \
    multiply_some(r, w, rows, at + i, row_step, matrix + column, stride, spans, terms, out + column, out_at + i, add)
    IN_PIECES(CALL)
#undef CALL
}

/* out[r][:] += sum over p of factors[factors_at[p] + r] * lines[at[p]][:], out [n][width]. */
static void accumulate(int n, const REAL *factors, const int *factors_at, const REAL *lines, const int *at, int terms,
                       int width, REAL *out, long out_stride) {
#define CALL(r, w) \
    accumulate_some(r, w, factors + i, factors_at, lines + column, at, terms, out + i * out_stride + column, out_stride)
    IN_PIECES(CALL)
#undef CALL
}

/* The same for contiguous rows. With the width of the paper's networks that pool as a constant, one pointer serves all
   rows, for whose pointers there are too few registers otherwise. */
#define USUAL 32

/* out [n][width] = rows [n][width] times matrix [width][width]. */
INLINE void multiply_rows_some(const int count, const int wide, const REAL *rows, const REAL *matrix, long width,
                               REAL *out) {
    vector sums[12][4];
    UNROLL for (int r = 0; r < count; r++) { UNROLL for (int v = 0; v < wide; v++) sums[r][v] = spread(0); }
    for (int k = 0; k < width; k++, matrix += width) {
        vector line[4];
        UNROLL for (int v = 0; v < wide; v++) line[v] = load(matrix + v * WIDE);
        UNROLL for (int r = 0; r < count; r++) {
            vector factor = spread(rows[r * width + k]);
            UNROLL for (int v = 0; v < wide; v++) sums[r][v] += factor * line[v];
        }
    }
    UNROLL for (int r = 0; r < count; r++) {
        UNROLL for (int v = 0; v < wide; v++) store(out + r * width + v * WIDE, sums[r][v]);
    }
}
INLINE void multiply_all_rows(int n, const REAL *rows, const REAL *matrix, const int width, REAL *out) {
#define CALL(r, w) multiply_rows_some(r, w, rows + i * width, matrix + column, width, out + i * width + column)
    IN_PIECES(CALL)
#undef CALL
}
static void multiply_rows(int n, const REAL *rows, const REAL *matrix, int width, REAL *out) {
    if (width == USUAL) multiply_all_rows(n, rows, matrix, USUAL, out);
    else multiply_all_rows(n, rows, matrix, width, out);
}

/* out [width][width] += factors [terms][width], transposed, times lines [terms][width]. */
INLINE void accumulate_rows_some(const int count, const int wide, const REAL *factors, const REAL *lines, int terms,
                                 long width, REAL *out) {
    vector sums[12][4];
    UNROLL for (int r = 0; r < count; r++) {
        UNROLL for (int v = 0; v < wide; v++) sums[r][v] = load(out + r * width + v * WIDE);
    }
    for (int p = 0; p < terms; p++, factors += width, lines += width) {
        vector line[4];
        UNROLL for (int v = 0; v < wide; v++) line[v] = load(lines + v * WIDE);
        UNROLL for (int r = 0; r < count; r++) {
            vector factor = spread(factors[r]);
            UNROLL for (int v = 0; v < wide; v++) sums[r][v] += factor * line[v];
        }
    }
    UNROLL for (int r = 0; r < count; r++) {
        UNROLL for (int v = 0; v < wide; v++) store(out + r * width + v * WIDE, sums[r][v]);
    }
}
INLINE void accumulate_all_rows(const REAL *factors, const REAL *lines, int terms, const int width, REAL *out) {
    const int n = width;
#define CALL(r, w) accumulate_rows_some(r, w, factors + i, lines + column, terms, width, out + i * width + column)
    IN_PIECES(CALL)
#undef CALL
}
static void accumulate_rows(const REAL *factors, const REAL *lines, int terms, int width, REAL *out) {
    if (width == USUAL) accumulate_all_rows(factors, lines, terms, USUAL, out);
    else accumulate_all_rows(factors, lines, terms, width, out);
}
