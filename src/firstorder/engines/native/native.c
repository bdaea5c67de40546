/* The inner loop of the networks of method/networks.py on one CPU core: hand-written gradients, steps and Hessian
   products. It computes what method/inner_loop.py defines, and is tested against it.

   - Layout. A map is [image][row][column][channel] and already contains the padding of the next convolution (`padded`).
     The window of an output is therefore three spans of 3 * channels contiguous numbers, and no patches are copied. A
     kernel [filter][row][column][channel], as stored in the flat parameter vector, is used in place. Only the first
     block, with 1 or 3 channels, copies its windows into patches.
   - All three products of a convolution use two loops: `multiply` (rows times a matrix) and `accumulate` (a sum of
     outer products). Each keeps up to 24 vectors of sums in registers and reads its input from the first-level cache.
   - A name ending in _t is a tangent: the derivative of that quantity along a direction in parameter space. The Hessian
     product is the tangent of the gradient.

   REAL is float or, with -DDOUBLE (for the tests), double. Needs GNU C's vector extensions: gcc or clang, any CPU. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef DOUBLE
#define REAL double
#define INTEGER int64_t
#define ROOT sqrt
#define EXPONENTIAL exp
#else
#define REAL float
#define INTEGER int32_t
#define ROOT sqrtf
#define EXPONENTIAL expf
#endif
#if defined(__AVX512F__)
#define BYTES 64
#define MOST_SUMS 24
#elif defined(__AVX__)
#define BYTES 32
#define MOST_SUMS 12
#else
#define BYTES 16
#define MOST_SUMS 12
#endif
#define WIDE ((int)(BYTES / sizeof(REAL))) /* numbers per vector */
#define BLOCKS 4
#define CHUNK 48 /* outputs of an image processed at a time, such that their maps stay in the first-level cache */

typedef REAL vector __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
typedef INTEGER mask __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias)); /* each number is 0 or -1 */

enum { SHAPE_SIZE, SHAPE_CHANNELS, SHAPE_FILTERS, SHAPE_POOL, SHAPE_SCALE, SHAPE_MEAN, SHAPE_WAY };
enum { POOL_STRIDE, POOL_SAME, POOL_VALID };

typedef struct {
    int channels, filters;
    int side, padded, outputs; /* side of the input map, without and with padding; of the convolution's output */
    int gives;                 /* side of the block's output map, halved */
    int span;                  /* contiguous numbers of a window: 3 spans per window, or 1 of a patch */
    int row;                   /* distance from one span to the next */
    long kernel, scale, shift; /* offsets in the flat parameter vector; scale is -1 if there is none */
    int *from;                 /* [outputs^2] offset in an image of an output's window */
    int *line;                 /* [outputs^2] offset of an output in an image of y */
    int *to;                   /* [gives^2] offset of a result in an image of the next block */
    int *window, windows;      /* [gives^2][windows] outputs of which the maximum is taken; -1: none */
    int *left, lefts;          /* outputs that are in no pooling window */
    long image, image_next;    /* numbers per image in x, and in the next block's x */
    REAL *x, *x_t, *dx, *dx_t; /* input map and its gradient, with their tangents */
    REAL *y, *y_t;             /* the convolution's map [image][output][filter] */
    REAL *transposed, *transposed_t; /* kernel [span][channel][filter] */
    REAL *mean, *squares, *inverse; /* of the batch: mean, sum of squared deviations, 1 / standard deviation */
    REAL *mean_t, *slope;           /* means of y_t, and of y_t times normalised y */
} block;

typedef struct net {
    int shape[7], most_images;
    double epsilon, beta2, adam_epsilon; /* of batch normalisation; of Adam */
    long parameters, head, bias;
    int features;
    block blocks[BLOCKS];
    REAL *features_x, *features_dx, *features_x_t, *features_dx_t; /* the last map, [image][place][filter] */
    REAL *flat, *flat_t, *dflat, *dflat_t;                          /* input of the dense layer, [image][feature] */
    REAL *logits, *logits_t;
    REAL *dy, *dy_t, *sums;
    long last, largest; /* numbers of the last map of all images, and of the largest map of one */
    void **owned;       /* what net_free frees */
    int count;
} net;

/* ---- the two loops ---------------------------------------------------------------------------------------------- */

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 24")

INLINE vector spread(REAL value) { return value - (vector){0}; } /* with +, the compiler would have to turn -0 into 0 */
INLINE vector load(const REAL *from) { return *(const vector *)from; }
INLINE void store(REAL *to, vector value) { *(vector *)to = value; }
INLINE vector keep(mask which, vector value) { return (vector)((mask)value & which); }
INLINE int least(int a, int b) { return a < b ? a : b; }

/* out[r][:] = (or +=) sum over k of rows[r][k] * matrix[k][:], for `count` rows and `wide` vectors. */
INLINE void multiply_some(const int count, const int wide, const REAL *rows, const int *at, const REAL *matrix,
                          long stride, int terms, REAL *out, const int *out_at, int add) {
    vector sums[8][4];
    UNROLL for (int r = 0; r < count; r++) {
        UNROLL for (int v = 0; v < wide; v++) sums[r][v] = add ? load(out + out_at[r] + v * WIDE) : spread(0);
    }
    const REAL *row[8];
    UNROLL for (int r = 0; r < count; r++) row[r] = rows + at[r];
    for (int k = 0; k < terms; k++) {
        vector line[4];
        UNROLL for (int v = 0; v < wide; v++) line[v] = load(matrix + k * stride + v * WIDE);
        UNROLL for (int r = 0; r < count; r++) {
            vector factor = spread(row[r][k]);
            UNROLL for (int v = 0; v < wide; v++) sums[r][v] += factor * line[v];
        }
    }
    UNROLL for (int r = 0; r < count; r++) {
        UNROLL for (int v = 0; v < wide; v++) store(out + out_at[r] + v * WIDE, sums[r][v]);
    }
}

/* out[r][:] += sum over p of factors[p * factors_stride + r] * lines[at[p]][:], for `count` rows and `wide` vectors. */
INLINE void accumulate_some(const int count, const int wide, const REAL *factors, long factors_stride,
                            const REAL *lines, const int *at, int terms, REAL *out, long out_stride) {
    vector sums[8][4];
    UNROLL for (int r = 0; r < count; r++) {
        UNROLL for (int v = 0; v < wide; v++) sums[r][v] = load(out + r * out_stride + v * WIDE);
    }
    for (int p = 0; p < terms; p++) {
        vector line[4];
        UNROLL for (int v = 0; v < wide; v++) line[v] = load(lines + at[p] + v * WIDE);
        UNROLL for (int r = 0; r < count; r++) {
            vector factor = spread(factors[p * factors_stride + r]);
            UNROLL for (int v = 0; v < wide; v++) sums[r][v] += factor * line[v];
        }
    }
    UNROLL for (int r = 0; r < count; r++) {
        UNROLL for (int v = 0; v < wide; v++) store(out + r * out_stride + v * WIDE, sums[r][v]);
    }
}

/* The numbers of rows and vectors must be compile-time constants: call the function compiled for these. */
#define FOR_ROWS(CALL, wide)                                                                                          \
    switch (count) {                                                                                                  \
        case 1: CALL(1, wide); break;                                                                                 \
        case 2: CALL(2, wide); break;                                                                                 \
        case 3: CALL(3, wide); break;                                                                                 \
        case 4: CALL(4, wide); break;                                                                                 \
        case 5: CALL(5, wide); break;                                                                                 \
        case 6: CALL(6, wide); break;                                                                                 \
        case 7: CALL(7, (wide > MOST_SUMS / 8 ? 1 : wide)); break;                                                    \
        case 8: CALL(8, (wide > MOST_SUMS / 8 ? 1 : wide)); break;                                                    \
    }
#define FOR_SIZES(CALL)                                                                                               \
    if (wide == 1) FOR_ROWS(CALL, 1)                                                                                  \
    else if (wide == 2) FOR_ROWS(CALL, 2)                                                                             \
    else if (wide == 3) FOR_ROWS(CALL, 3)                                                                             \
    else if (wide == 4) FOR_ROWS(CALL, 4)

static int widest(int vectors) {
    if (MOST_SUMS >= 24 && vectors % 4 == 0) return 4;
    return MOST_SUMS >= 24 && vectors % 3 == 0 ? 3 : vectors % 2 == 0 ? 2 : 1;
}
static int most_rows(int wide) { return least(8, MOST_SUMS / wide); }

/* Cut n rows and `width` numbers into pieces that fit the registers: CALL(rows, vectors) computes those from i and
   column on. */
#define IN_PIECES(CALL)                                                                                               \
    const int wide = widest(width / WIDE), most = most_rows(wide);                                                    \
    for (int column = 0; column < width; column += wide * WIDE) {                                                     \
        for (int i = 0, blocks = (n + most - 1) / most, count; blocks > 0; blocks--, i += count) {                    \
            count = (n - i + blocks - 1) / blocks;                                                                    \
            FOR_SIZES(CALL)                                                                                           \
        }                                                                                                             \
    }

/* out[i][:] = (or +=) rows[i] times matrix [terms][width], for n rows, read at at[i] and written to out_at[i]. */
static void multiply(int n, const REAL *rows, const int *at, const REAL *matrix, long stride, int terms, int width,
                     REAL *out, const int *out_at, int add) {
#define CALL(r, w) multiply_some(r, w, rows, at + i, matrix + column, stride, terms, out + column, out_at + i, add)
    IN_PIECES(CALL)
#undef CALL
}

/* out[r][:] += sum over p of factors[p][r] * lines[at[p]][:], out [n][width]. */
static void accumulate(int n, const REAL *factors, long factors_stride, const REAL *lines, const int *at, int terms,
                       int width, REAL *out, long out_stride) {
#define CALL(r, w)                                                                                                    \
    accumulate_some(r, w, factors + i, factors_stride, lines + column, at, terms, out + i * out_stride + column,      \
                    out_stride)
    IN_PIECES(CALL)
#undef CALL
}

/* ---- convolution ------------------------------------------------------------------------------------------------ */

static int spans(const block *b) { return b->span == b->row ? 1 : 3; }
static int window_size(const block *b) { return 9 * b->channels; }

static void transpose(const block *b, const REAL *kernel, REAL *to) {
    const int n = window_size(b), filters = b->filters;
    for (int k0 = 0; k0 < n; k0 += 16) {
        for (int f = 0; f < filters; f++) {
            for (int k = k0; k < least(k0 + 16, n); k++) to[(long)k * filters + f] = kernel[(long)f * n + k];
        }
    }
}

/* y = (or +=) the convolution of one image; `kernel` is transposed. */
static void convolve(const block *b, const REAL *x, const REAL *kernel, REAL *y, int add) {
    const int pixels = b->outputs * b->outputs, parts = spans(b), terms = parts == 1 ? window_size(b) : b->span;
    for (int p = 0; p < pixels; p += CHUNK) {
        for (int part = 0; part < parts; part++) {
            multiply(least(CHUNK, pixels - p), x + (long)part * b->row, b->from + p,
                     kernel + (long)part * terms * b->filters, b->filters, terms, b->filters, y, b->line + p,
                     add || part > 0);
        }
    }
}

/* dkernel += the kernel's gradient from one image, [filter][window]. */
static void convolve_kernel(const block *b, const REAL *x, const REAL *dy, REAL *dkernel) {
    const int pixels = b->outputs * b->outputs, size = window_size(b), filters = b->filters;
    if (spans(b) == 1) { /* patches are padded to whole vectors, so sum into a tile of that width */
        REAL tile[filters * b->span];
        memset(tile, 0, sizeof tile);
        accumulate(filters, dy, filters, x, b->from, pixels, b->span, tile, b->span);
        for (int f = 0; f < filters; f++) {
            for (int k = 0; k < size; k++) dkernel[(long)f * size + k] += tile[f * b->span + k];
        }
        return;
    }
    /* One span at a time or, if its sums do not fit into the first-level cache, a third of it. */
    const int parts = filters * b->span * sizeof(REAL) > 16384 ? 9 : 3, width = size / parts;
    for (int p = 0; p < pixels; p += CHUNK) {
        for (int part = 0; part < parts; part++) {
            const int column = part % (parts / 3) * width;
            accumulate(filters, dy + (long)p * filters, filters, x + (long)(part * 3 / parts) * b->row + column,
                       b->from + p, least(CHUNK, pixels - p), width, dkernel + part * width, size);
        }
    }
}

/* dx += the gradient of one image's input map; `kernel` as in the flat vector. */
static void convolve_input(const block *b, const REAL *dy, const REAL *kernel, REAL *dx) {
    const int pixels = b->outputs * b->outputs;
    for (int p = 0; p < pixels; p += CHUNK) {
        for (int part = 0; part < 9; part++) {
            multiply(least(CHUNK, pixels - p), dy, b->line + p, kernel + part * b->channels, window_size(b), b->filters,
                     b->channels, dx + (long)(part / 3) * b->row + (part % 3) * b->channels, b->from + p, 1);
        }
    }
}

/* ---- batch normalisation, rectifier and maximum ------------------------------------------------------------------ */

/* Merge image i's mean and squared deviations of every channel with those of the images before it (Chan, Golub and
   LeVeque), while the image is still in the cache. */
static void moments_of_image(const block *b, const REAL *y, int i) {
    const int pixels = b->outputs * b->outputs, filters = b->filters;
    for (int f = 0; f < filters; f += WIDE) {
        vector sum = spread(0), squares = spread(0);
        for (int start = 0; start < pixels; start += CHUNK) {
            vector part = spread(0);
            for (int p = start; p < least(start + CHUNK, pixels); p++) part += load(y + p * filters + f);
            sum += part;
        }
        const vector centre = sum / (REAL)pixels;
        for (int start = 0; start < pixels; start += CHUNK) {
            vector part = spread(0);
            for (int p = start; p < least(start + CHUNK, pixels); p++) {
                const vector off = load(y + p * filters + f) - centre;
                part += off * off;
            }
            squares += part;
        }
        if (i > 0) {
            const vector before = load(b->mean + f), change = centre - before;
            store(b->mean + f, before + change / (REAL)(i + 1));
            squares += load(b->squares + f) + change * change * ((REAL)pixels * i / (i + 1));
        } else {
            store(b->mean + f, centre);
        }
        store(b->squares + f, squares);
    }
}

/* The tangents of the mean and of the normalised map need two means: of y_t, and of normalised y times y_t. */
static void moments_t(const block *b, int images) {
    const int pixels = b->outputs * b->outputs, filters = b->filters;
    for (int f = 0; f < filters; f += WIDE) {
        const vector mean = load(b->mean + f), inverse = load(b->inverse + f);
        vector sum = spread(0), products = spread(0);
        for (long p = 0; p < (long)images * pixels; p += CHUNK) {
            vector part = spread(0), part_products = spread(0);
            for (long q = p; q < p + CHUNK && q < (long)images * pixels; q++) {
                const vector tangent = load(b->y_t + q * filters + f);
                part += tangent;
                part_products += (load(b->y + q * filters + f) - mean) * inverse * tangent;
            }
            sum += part;
            products += part_products;
        }
        store(b->mean_t + f, sum / ((REAL)images * pixels));
        store(b->slope + f, products / ((REAL)images * pixels));
    }
}

/* The values of one vector of channels that the functions below share. */
typedef struct {
    vector mean, inverse, scale, shift, mean_t, slope, scale_t, shift_t;
} channel;

INLINE channel channel_at(const block *b, const REAL *parameters, const REAL *direction, int f) {
    channel c = {.mean = load(b->mean + f), .inverse = load(b->inverse + f), .scale = spread(1)};
    c.shift = load(parameters + b->shift + f);
    if (b->scale >= 0) c.scale = load(parameters + b->scale + f);
    if (direction) {
        c.mean_t = load(b->mean_t + f);
        c.slope = load(b->slope + f);
        c.shift_t = load(direction + b->shift + f);
        c.scale_t = b->scale >= 0 ? load(direction + b->scale + f) : spread(0);
    }
    return c;
}

INLINE vector normal(const channel *c, vector y) { return (y - c->mean) * c->inverse; }
INLINE vector normal_t(const channel *c, vector n, vector y_t) { return c->inverse * (y_t - c->mean_t - n * c->slope); }

/* Mask the output of a window that is passed on: the first maximum, if it is positive. */
INLINE vector choose(const int windows, int filters, const channel *c, const REAL *y, const int *window, mask *chosen) {
    vector largest = spread(-INFINITY);
    UNROLL for (int w = 0; w < windows; w++) {
        if (window[w] < 0) {
            chosen[w] = (mask){0};
            continue;
        }
        const vector value = normal(c, load(y + window[w] * filters)) * c->scale + c->shift;
        chosen[w] = ~(value <= largest); /* NaN is passed on, so that it is noticed */
        UNROLL for (int before = 0; before < w; before++) chosen[before] &= ~chosen[w];
        largest = (vector)(((mask)value & chosen[w]) | ((mask)largest & ~chosen[w]));
    }
    const mask positive = ~(largest <= spread(0));
    UNROLL for (int w = 0; w < windows; w++) chosen[w] &= positive;
    return keep(positive, largest);
}

/* Write the block's output to `out` and, if there is a direction, its tangent to `out_t`. */
INLINE void activate(const int windows, const int tangents, const block *b, const REAL *parameters,
                          const REAL *direction, int images, REAL *out, REAL *out_t) {
    const int pixels = b->outputs * b->outputs, results = b->gives * b->gives, filters = b->filters;
    for (int i = 0; i < images; i++) {
        for (int f = 0; f < filters; f += WIDE) {
            const channel c = channel_at(b, parameters, tangents ? direction : 0, f);
            const REAL *y = b->y + (long)i * pixels * filters + f, *y_t = tangents ? b->y_t + (y - b->y) : 0;
            for (int p = 0; p < results; p++) {
                const int *window = b->window + p * windows;
                const long to = i * b->image_next + b->to[p] + f;
                mask chosen[4];
                store(out + to, choose(windows, filters, &c, y, window, chosen));
                if (!tangents) continue;
                vector tangent = spread(0);
                UNROLL for (int w = 0; w < windows; w++) {
                    if (window[w] < 0) continue;
                    const int at = window[w] * filters;
                    const vector n = normal(&c, load(y + at)), n_t = normal_t(&c, n, load(y_t + at));
                    tangent += keep(chosen[w], c.scale_t * n + c.scale * n_t + c.shift_t);
                }
                store(out_t + to, tangent);
            }
        }
    }
}

/* Sums over the batch that the gradient through normalisation needs, [4][filters]: of dz and of dz times the normalised
   map, and their tangents. They are the gradients of shift and scale, too. */
INLINE void normalisation_sums(const int windows, const int tangents, const net *n, const block *b,
                                    const REAL *parameters, const REAL *direction, int images, const REAL *dout,
                                    const REAL *dout_t) {
    const int pixels = b->outputs * b->outputs, results = b->gives * b->gives, filters = b->filters;
    memset(n->sums, 0, sizeof(REAL) * 4 * filters);
    for (int i = 0; i < images; i++) {
        for (int f = 0; f < filters; f += WIDE) {
            const channel c = channel_at(b, parameters, tangents ? direction : 0, f);
            const REAL *y = b->y + (long)i * pixels * filters + f, *y_t = tangents ? b->y_t + (y - b->y) : 0;
            vector part[4] = {spread(0), spread(0), spread(0), spread(0)};
            for (int p = 0; p < results; p++) {
                const int *window = b->window + p * windows;
                const long from = i * b->image_next + b->to[p] + f;
                mask chosen[4];
                choose(windows, filters, &c, y, window, chosen);
                UNROLL for (int w = 0; w < windows; w++) {
                    if (window[w] < 0) continue;
                    const int at = window[w] * filters;
                    const vector value = normal(&c, load(y + at)), dz = keep(chosen[w], load(dout + from));
                    part[0] += dz;
                    part[1] += dz * value;
                    if (!tangents) continue;
                    const vector dz_t = keep(chosen[w], load(dout_t + from));
                    part[2] += dz_t;
                    part[3] += dz_t * value + dz * normal_t(&c, value, load(y_t + at));
                }
            }
            for (int s = 0; s < 4; s++) {
                REAL *sum = n->sums + s * filters + f;
                store(sum, load(sum) + part[s]);
            }
        }
    }
}

/* Compute dy (and dy_t if there is a direction) of one image from the gradient of the block's output. */
INLINE void normalisation_input(const int windows, const int tangents, const net *n, const block *b,
                                     const REAL *parameters, const REAL *direction, int images, int i,
                                     const REAL *dout, const REAL *dout_t) {
    const int pixels = b->outputs * b->outputs, results = b->gives * b->gives, filters = b->filters;
    const REAL share = 1 / ((REAL)images * pixels);
    for (int f = 0; f < filters; f += WIDE) {
        const channel c = channel_at(b, parameters, tangents ? direction : 0, f);
        const REAL *y = b->y + (long)i * pixels * filters + f, *y_t = tangents ? b->y_t + (y - b->y) : 0;
        REAL *dy = n->dy + f, *dy_t = tangents ? n->dy_t + f : 0;
        vector sum[4], factor = c.scale * c.inverse, factor_t = spread(0);
        UNROLL for (int s = 0; s < 4; s++) sum[s] = load(n->sums + s * filters + f) * share;
        if (tangents) factor_t = c.scale_t * c.inverse - factor * c.inverse * c.slope;
#define GIVE(PLACE, DZ, DZ_T)                                                                                         \
    do {                                                                                                              \
        const int at = (PLACE) * filters;                                                                             \
        const vector value = normal(&c, load(y + at)), inner = (DZ) - sum[0] - value * sum[1];                        \
        store(dy + at, factor * inner);                                                                               \
        if (!tangents) break;                                                                                         \
        const vector value_t = normal_t(&c, value, load(y_t + at));                                                   \
        store(dy_t + at, factor_t * inner + factor * ((DZ_T) - sum[2] - value_t * sum[1] - value * sum[3]));          \
    } while (0)
        for (int p = 0; p < results; p++) {
            const int *window = b->window + p * windows;
            const long from = i * b->image_next + b->to[p] + f;
            const vector dresult = load(dout + from), dresult_t = tangents ? load(dout_t + from) : dresult;
            mask chosen[4];
            choose(windows, filters, &c, y, window, chosen);
            UNROLL for (int w = 0; w < windows; w++) {
                if (window[w] >= 0) GIVE(window[w], keep(chosen[w], dresult), keep(chosen[w], dresult_t));
            }
        }
        for (int p = 0; p < b->lefts; p++) GIVE(b->left[p], spread(0), spread(0));
#undef GIVE
    }
}

/* Call one of the three functions above, compiled for windows of one or four outputs, without and with tangents. */
#define FOR_WINDOWS(FUNCTION, ...)                                                                                    \
    if (b->windows == 1 && !direction) FUNCTION(1, 0, __VA_ARGS__);                                                   \
    else if (b->windows == 1) FUNCTION(1, 1, __VA_ARGS__);                                                            \
    else if (!direction) FUNCTION(4, 0, __VA_ARGS__);                                                                 \
    else FUNCTION(4, 1, __VA_ARGS__);

/* ---- the network ------------------------------------------------------------------------------------------------- */

/* Copy images [image][channel][row][column] into the first block's patches. Padding stays zero. */
static void take_images(const net *n, const REAL *images, int count) {
    const block *b = &n->blocks[0];
    const int side = b->side, stride = n->shape[SHAPE_POOL] == POOL_STRIDE ? 2 : 1, outputs = b->outputs;
    const int before = b->padded - 1 - side;
    for (int line = 0; line < count * outputs; line++) { /* [image][row] */
        REAL *patches = b->x + line / outputs * b->image + (long)(line % outputs) * outputs * b->span;
        for (int part = 0; part < 9 * b->channels; part++) { /* [row][column][channel] of a window */
            const int k = part / b->channels, row = line % outputs * stride + k / 3 - before;
            if (row < 0 || row >= side) continue;
            const long plane = (long)(line / outputs) * b->channels + part % b->channels;
            const REAL *from = images + (plane * side + row) * side + k % 3 - before;
            const int first = k % 3 < before, last = least(outputs, (side - 1 + before - k % 3) / stride + 1);
            for (int column = first; column < last; column++) patches[column * b->span + part] = from[column * stride];
        }
    }
}

/* Order features for the dense layer: filter by filter, or their mean over the positions. */
static void flatten(const net *n, const REAL *map, REAL *flat, int images) {
    const block *last = &n->blocks[BLOCKS - 1];
    const int places = last->gives * last->gives, filters = last->filters;
    for (int i = 0; i < images; i++) {
        for (int f = 0; f < filters; f++) {
            REAL sum = 0;
            for (int p = 0; p < places; p++) {
                const REAL value = map[((long)i * places + p) * filters + f];
                if (!n->shape[SHAPE_MEAN]) flat[(long)i * n->features + f * places + p] = value;
                sum += value;
            }
            if (n->shape[SHAPE_MEAN]) flat[(long)i * n->features + f] = sum / places;
        }
    }
}

static void unflatten(const net *n, const REAL *flat, REAL *map, int images) {
    const block *last = &n->blocks[BLOCKS - 1];
    const int places = last->gives * last->gives, filters = last->filters;
    for (int i = 0; i < images; i++) {
        for (int p = 0; p < places; p++) {
            for (int f = 0; f < filters; f++) {
                map[((long)i * places + p) * filters + f] =
                    n->shape[SHAPE_MEAN] ? flat[(long)i * n->features + f] / places
                                         : flat[(long)i * n->features + f * places + p];
            }
        }
    }
}

static REAL dot(const REAL *a, const REAL *b, int count) {
    vector sum = spread(0);
    for (int k = 0; k < count; k += WIDE) sum += load(a + k) * load(b + k);
    REAL total = 0;
    for (int v = 0; v < WIDE; v++) total += sum[v];
    return total;
}

static void add_scaled(REAL *to, REAL factor, const REAL *from, int count) {
    for (int k = 0; k < count; k += WIDE) store(to + k, load(to + k) + factor * load(from + k));
}

/* Compute all maps and logits and, with a direction [parameters], their tangents. */
static void forward(net *n, const REAL *parameters, const REAL *direction, const REAL *images, int count) {
    const int way = n->shape[SHAPE_WAY];
    take_images(n, images, count);
    for (int index = 0; index < BLOCKS; index++) {
        block *b = &n->blocks[index];
        const long map = (long)b->outputs * b->outputs * b->filters;
        transpose(b, parameters + b->kernel, b->transposed);
        if (direction) transpose(b, direction + b->kernel, b->transposed_t);
        for (int i = 0; i < count; i++) {
            const REAL *x = b->x + i * b->image;
            convolve(b, x, b->transposed, b->y + i * map, 0);
            moments_of_image(b, b->y + i * map, i);
            if (!direction) continue;
            convolve(b, x, b->transposed_t, b->y_t + i * map, 0);
            if (index > 0) convolve(b, b->x_t + i * b->image, b->transposed, b->y_t + i * map, 1);
        }
        const REAL share = 1 / ((REAL)count * b->outputs * b->outputs);
        for (int f = 0; f < b->filters; f++) b->inverse[f] = 1 / ROOT(b->squares[f] * share + (REAL)n->epsilon);
        if (direction) moments_t(b, count);
        REAL *out = index < BLOCKS - 1 ? b[1].x : n->features_x;
        REAL *out_t = index < BLOCKS - 1 ? b[1].x_t : n->features_x_t;
        FOR_WINDOWS(activate, b, parameters, direction, count, out, out_t)
    }
    flatten(n, n->features_x, n->flat, count);
    if (direction) flatten(n, n->features_x_t, n->flat_t, count);
    for (int i = 0; i < count; i++) {
        for (int w = 0; w < way; w++) {
            const REAL *weights = parameters + n->head + (long)w * n->features, *flat = n->flat + (long)i * n->features;
            n->logits[i * way + w] = dot(weights, flat, n->features) + parameters[n->bias + w];
            if (!direction) continue;
            n->logits_t[i * way + w] = dot(direction + n->head + (long)w * n->features, flat, n->features) +
                                       dot(weights, n->flat_t + (long)i * n->features, n->features) +
                                       direction[n->bias + w];
        }
    }
}

/* Replace logits by the gradient of the summed cross entropy, and their tangents by its tangent. */
static void softmax(net *n, const REAL *direction, const int64_t *labels, int count) {
    const int way = n->shape[SHAPE_WAY];
    for (int i = 0; i < count; i++) {
        REAL *logits = n->logits + i * way, largest = logits[0], sum = 0, mean_t = 0;
        for (int w = 1; w < way; w++) largest = logits[w] > largest ? logits[w] : largest;
        for (int w = 0; w < way; w++) sum += logits[w] = EXPONENTIAL(logits[w] - largest);
        for (int w = 0; w < way; w++) logits[w] /= sum;
        if (direction) {
            REAL *tangents = n->logits_t + i * way;
            for (int w = 0; w < way; w++) mean_t += logits[w] * tangents[w];
            for (int w = 0; w < way; w++) tangents[w] = logits[w] * (tangents[w] - mean_t);
        }
        logits[labels[i]] -= 1;
    }
}

/* Add to `gradient` the gradient of the summed cross entropy or, with a direction, the Hessian times the direction. */
static void backward(net *n, const REAL *parameters, const REAL *direction, int count, REAL *gradient) {
    const int way = n->shape[SHAPE_WAY], features = n->features;
    memset(n->dflat, 0, sizeof(REAL) * count * features);
    if (direction) memset(n->dflat_t, 0, sizeof(REAL) * count * features);
    for (int i = 0; i < count; i++) {
        for (int w = 0; w < way; w++) {
            const REAL slope = n->logits[i * way + w], *weights = parameters + n->head + (long)w * features;
            const long at = (long)i * features;
            REAL *out = gradient + n->head + (long)w * features;
            add_scaled(n->dflat + at, slope, weights, features);
            if (direction) {
                const REAL slope_t = n->logits_t[i * way + w];
                gradient[n->bias + w] += slope_t;
                add_scaled(out, slope_t, n->flat + at, features);
                add_scaled(out, slope, n->flat_t + at, features);
                add_scaled(n->dflat_t + at, slope_t, weights, features);
                add_scaled(n->dflat_t + at, slope, direction + n->head + (long)w * features, features);
            } else {
                gradient[n->bias + w] += slope;
                add_scaled(out, slope, n->flat + at, features);
            }
        }
    }
    unflatten(n, n->dflat, n->features_dx, count);
    if (direction) unflatten(n, n->dflat_t, n->features_dx_t, count);
    for (int index = BLOCKS - 1; index >= 0; index--) {
        block *b = &n->blocks[index];
        const int which = direction ? 2 : 0;
        const REAL *dout = index < BLOCKS - 1 ? b[1].dx : n->features_dx;
        const REAL *dout_t = index < BLOCKS - 1 ? b[1].dx_t : n->features_dx_t;
        FOR_WINDOWS(normalisation_sums, n, b, parameters, direction, count, dout, dout_t)
        for (int f = 0; f < b->filters; f++) {
            gradient[b->shift + f] += n->sums[which * b->filters + f];
            if (b->scale >= 0) gradient[b->scale + f] += n->sums[(which + 1) * b->filters + f];
        }
        for (int i = 0; i < count; i++) {
            const long image = i * b->image;
            FOR_WINDOWS(normalisation_input, n, b, parameters, direction, count, i, dout, dout_t)
            convolve_kernel(b, b->x + image, direction ? n->dy_t : n->dy, gradient + b->kernel);
            if (direction && index > 0) convolve_kernel(b, b->x_t + image, n->dy, gradient + b->kernel);
            if (index == 0) continue;
            memset(b->dx + image, 0, sizeof(REAL) * b->image);
            convolve_input(b, n->dy, parameters + b->kernel, b->dx + image);
            if (!direction) continue;
            memset(b->dx_t + image, 0, sizeof(REAL) * b->image);
            convolve_input(b, n->dy_t, parameters + b->kernel, b->dx_t + image);
            convolve_input(b, n->dy, direction + b->kernel, b->dx_t + image);
        }
    }
}

/* ---- what Python calls ------------------------------------------------------------------------------------------- */

/* Allocate zeros that net_free frees. */
static void *own(net *n, long count, size_t size) {
    n->owned = realloc(n->owned, sizeof(void *) * (n->count + 1));
    return n->owned[n->count++] = calloc(count, size);
}
static int *integers(net *n, long count) { return own(n, count, sizeof(int)); }
/* A vector may read beyond the end. */
static REAL *numbers(net *n, long count) { return own(n, count + WIDE, sizeof(REAL)); }

static void lay_out(net *n, block *b, int index, int side) {
    const int stride = n->shape[SHAPE_POOL] == POOL_STRIDE ? 2 : 1;
    const int before = stride == 2 && side % 2 == 0 ? 0 : 1;
    b->channels = index == 0 ? n->shape[SHAPE_CHANNELS] : n->shape[SHAPE_FILTERS];
    b->filters = n->shape[SHAPE_FILTERS];
    b->side = side;
    b->padded = side + 1 + before;
    b->outputs = (side + stride - 1) / stride;
    b->gives = stride == 2 ? b->outputs : n->shape[SHAPE_POOL] == POOL_SAME ? (side + 1) / 2 : side / 2;
    b->windows = stride == 2 ? 1 : 4;
    const int patch = (9 * b->channels + WIDE - 1) / WIDE * WIDE, pixels = b->outputs * b->outputs;
    b->span = index == 0 ? patch : 3 * b->channels;
    b->row = index == 0 ? patch : b->padded * b->channels;
    b->image = index == 0 ? (long)pixels * patch : (long)b->padded * b->padded * b->channels;
    b->from = integers(n, pixels);
    b->line = integers(n, pixels);
    for (int p = 0; p < pixels; p++) {
        b->line[p] = p * b->filters;
        const int row = p / b->outputs * stride, column = p % b->outputs * stride;
        b->from[p] = index == 0 ? p * patch : (row * b->padded + column) * b->channels;
    }
    const int results = b->gives * b->gives;
    b->window = integers(n, results * b->windows);
    for (int p = 0; p < results * b->windows; p++) {
        if (b->windows == 1) {
            b->window[p] = p;
            continue;
        }
        const int row = p / 4 / b->gives * 2 + p % 4 / 2, column = p / 4 % b->gives * 2 + p % 2;
        b->window[p] = row < b->outputs && column < b->outputs ? row * b->outputs + column : -1;
    }
    b->left = integers(n, pixels);
    for (int p = 0; p < pixels; p++) {
        const int out = p / b->outputs >= 2 * b->gives || p % b->outputs >= 2 * b->gives;
        if (b->windows == 4 && out) b->left[b->lefts++] = p;
    }
    /* Results go into the next block's padded map, or are contiguous after the last block. */
    const int next_before = stride == 2 && b->gives % 2 == 0 ? 0 : 1;
    const int next_padded = index == BLOCKS - 1 ? b->gives : b->gives + 1 + next_before;
    b->image_next = (long)next_padded * next_padded * b->filters;
    b->to = integers(n, results);
    for (int p = 0; p < results; p++) {
        const int shift = index == BLOCKS - 1 ? 0 : next_before;
        b->to[p] = ((p / b->gives + shift) * next_padded + p % b->gives + shift) * b->filters;
    }
}

/* Make a network for mini-batches of up to `images` images; NULL if its filters do not fill whole vectors. */
net *net_new(const int *shape, int images) {
    if (shape[SHAPE_FILTERS] % WIDE) return NULL;
    net *n = calloc(1, sizeof *n);
    memcpy(n->shape, shape, sizeof n->shape);
    n->most_images = images;
    int side = shape[SHAPE_SIZE];
    const int filters = shape[SHAPE_FILTERS];
    for (int index = 0; index < BLOCKS; index++) {
        block *b = &n->blocks[index];
        lay_out(n, b, index, side);
        b->kernel = n->parameters;
        n->parameters += (long)filters * window_size(b);
        b->scale = -1;
        if (shape[SHAPE_SCALE]) b->scale = n->parameters, n->parameters += filters;
        b->shift = n->parameters, n->parameters += filters;
        const long map = (long)b->outputs * b->outputs * filters;
        b->x = numbers(n, images * b->image);
        b->dx = index ? numbers(n, images * b->image) : NULL;
        b->y = numbers(n, images * map);
        b->transposed = numbers(n, (long)filters * window_size(b));
        b->mean = numbers(n, filters), b->squares = numbers(n, filters), b->inverse = numbers(n, filters);
        b->mean_t = numbers(n, filters), b->slope = numbers(n, filters);
        n->largest = map > n->largest ? map : n->largest;
        side = b->gives;
    }
    n->features = shape[SHAPE_MEAN] ? filters : side * side * filters;
    n->head = n->parameters, n->parameters += (long)shape[SHAPE_WAY] * n->features;
    n->bias = n->parameters, n->parameters += shape[SHAPE_WAY];
    n->last = (long)images * side * side * filters;
    n->features_x = numbers(n, n->last), n->features_dx = numbers(n, n->last);
    n->flat = numbers(n, n->last), n->dflat = numbers(n, n->last);
    n->logits = numbers(n, (long)images * shape[SHAPE_WAY]);
    n->dy = numbers(n, n->largest), n->sums = numbers(n, 4 * filters);
    return n;
}

/* Allocate tangents when first needed: they double the memory, and only second order uses them. */
static void make_tangents(net *n) {
    if (n->logits_t) return;
    const int images = n->most_images;
    for (int index = 0; index < BLOCKS; index++) {
        block *b = &n->blocks[index];
        b->x_t = index ? numbers(n, images * b->image) : NULL;
        b->dx_t = index ? numbers(n, images * b->image) : NULL;
        b->y_t = numbers(n, images * (long)b->outputs * b->outputs * b->filters);
        b->transposed_t = numbers(n, (long)b->filters * window_size(b));
    }
    n->features_x_t = numbers(n, n->last), n->features_dx_t = numbers(n, n->last);
    n->flat_t = numbers(n, n->last), n->dflat_t = numbers(n, n->last);
    n->logits_t = numbers(n, (long)images * n->shape[SHAPE_WAY]);
    n->dy_t = numbers(n, n->largest);
}

void net_free(net *n) {
    for (int k = 0; k < n->count; k++) free(n->owned[k]);
    free(n->owned);
    free(n);
}

int vector_bytes(void) { return BYTES; }

/* Multiply and add in registers only, 12 vectors at a time: this core's peak rate. Returns the number of operations. */
double peak(long rounds, REAL *out) {
    vector sums[12], factor = spread((REAL)0.999), more = spread((REAL)1e-3);
    UNROLL for (int v = 0; v < 12; v++) sums[v] = spread((REAL)v);
    for (long round = 0; round < rounds; round++) {
        UNROLL for (int v = 0; v < 12; v++) sums[v] = sums[v] * factor + more;
    }
    vector total = spread(0);
    UNROLL for (int v = 0; v < 12; v++) total += sums[v];
    *out = total[0];
    return 2.0 * 12 * WIDE * rounds;
}

/* Set what method/ defines: batch normalisation's epsilon, and Adam's beta2 and epsilon. */
void net_set(net *n, double epsilon, double beta2, double adam_epsilon) {
    n->epsilon = epsilon, n->beta2 = beta2, n->adam_epsilon = adam_epsilon;
}

long net_parameters(const net *n) { return n->parameters; }

/* logits [images][way] */
void net_logits(net *n, const REAL *parameters, const REAL *images, int count, REAL *logits) {
    forward(n, parameters, NULL, images, count);
    memcpy(logits, n->logits, sizeof(REAL) * count * n->shape[SHAPE_WAY]);
}

/* gradient [parameters] of the cross entropy summed over the mini-batch */
void net_gradient(net *n, const REAL *parameters, const REAL *images, const int64_t *labels, int count,
                  REAL *gradient) {
    memset(gradient, 0, sizeof(REAL) * n->parameters);
    forward(n, parameters, NULL, images, count);
    softmax(n, NULL, labels, count);
    backward(n, parameters, NULL, count, gradient);
}

/* product [parameters]: the Hessian of the same loss, times direction */
void net_hessian_product(net *n, const REAL *parameters, const REAL *images, const int64_t *labels, int count,
                         const REAL *direction, REAL *product) {
    make_tangents(n);
    memset(product, 0, sizeof(REAL) * n->parameters);
    forward(n, parameters, direction, images, count);
    softmax(n, direction, labels, count);
    backward(n, parameters, direction, count, product);
}

/* Take steps in place: of gradient descent (rates[step] is alpha) or, if there are second moments, of Adam with
   beta1 = 0 in TensorFlow's form (rates[step] includes the bias correction). adapted: NULL, or 0 where a parameter is
   not changed. images [step][image]...; gradient: a buffer for one gradient. */
void net_adapt(net *n, REAL *parameters, REAL *second_moments, const REAL *adapted, const REAL *images,
               const int64_t *labels, int steps, int count, const REAL *rates, REAL *gradient) {
    const long image = (long)n->shape[SHAPE_CHANNELS] * n->shape[SHAPE_SIZE] * n->shape[SHAPE_SIZE];
    const REAL beta2 = (REAL)n->beta2, rest = (REAL)(1 - n->beta2), epsilon = (REAL)n->adam_epsilon;
    for (int step = 0; step < steps; step++) {
        net_gradient(n, parameters, images + step * count * image, labels + (long)step * count, count, gradient);
        const REAL rate = rates[step];
        if (adapted) {
            for (long k = 0; k < n->parameters; k++) gradient[k] *= adapted[k];
        }
        if (second_moments) {
            for (long k = 0; k < n->parameters; k++) {
                const REAL slope = gradient[k], moment = beta2 * second_moments[k] + rest * slope * slope;
                second_moments[k] = moment;
                parameters[k] -= rate * slope / (ROOT(moment) + epsilon);
            }
        } else {
            for (long k = 0; k < n->parameters; k++) parameters[k] -= rate * gradient[k];
        }
    }
}
