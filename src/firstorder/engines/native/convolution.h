/* The three products of a convolution with 3 x 3 kernels K[filter][row][column][channel]:

     y[p][f] = sum over taps t, channels c of x[p + t][c] K[f][t][c]
     dx[q][c] = sum over t, f of dy[q - t][f] K[f][t][c]
     dK[f][t][c] = sum over images and p of dy[p][f] x[p + t][c] */

#define AT_ONCE 16384 /* bytes of a matrix that stay in the first-level cache beside the maps */

/* to [columns][rows] = a matrix [rows][columns], transposed; there are rows for whole vectors. */
static void transpose(const REAL *from, int rows, int columns, REAL *to) {
    int done = 0;
#if defined(__AVX512F__) && !defined(DOUBLE)
    for (; done + 16 <= columns; done += 16) {
        for (int r = 0; r < rows; r += 16) {
            __m512i some[16];
            UNROLL for (int k = 0; k < 16; k++) some[k] = (__m512i)load(from + (long)(r + k) * columns + done);
            transpose_16(some);
            UNROLL for (int k = 0; k < 16; k++) store(to + (long)(done + k) * rows + r, (vector)some[k]);
        }
    }
#endif
    for (int k0 = done; k0 < columns; k0 += 16) {
        for (int r = 0; r < rows; r++) {
            for (int k = k0; k < least(k0 + 16, columns); k++) to[(long)k * rows + r] = from[(long)r * columns + k];
        }
    }
}

/* out = (or +=) the product for `count` of its outputs, from number `first` on, written where number `to` goes. */
static void convolve(const product *g, const REAL *in, const REAL *matrix, int width, REAL *out, int first, int to,
                     int count, int add) {
    const size_t size = (size_t)g->terms * width * sizeof(REAL); /* of a span's matrix */
    const int whole = g->spans * size <= AT_ONCE, cut = size > AT_ONCE ? g->terms / g->tap : 1;
    const int parts = whole ? 1 : g->spans * cut, terms = g->terms / cut;
    for (int part = 0; part < parts; part++) {
        multiply(count, in + part / cut * g->row + part % cut * terms, g->at + first, g->row,
                 matrix + (long)part * terms * width, width, whole ? g->spans : 1, terms, width, out, g->to + to,
                 add || part > 0);
    }
}

/* The tap of the kernel, from 0 to 8, that place number `place` of backward product c is multiplied with. */
static int backward_tap(const block *b, int c, int place) {
    static const int all[3] = {2, 1, 0}, even[2] = {2, 0}, odd[1] = {1};
    const int columns = b->backward[c].terms / b->backward[c].tap, row = place / columns, column = place % columns;
    if (b->stride == 1) return 3 * all[row] + all[column];
    return 3 * (c / 2 ? odd : even)[row] + (c % 2 ? odd : even)[column];
}

/* dx = (or +=) the gradient of `images` images' input maps. For one tap, K is a matrix [filter][channel] in place. */
static void convolve_input(const block *b, const REAL *dy, const REAL *kernel, REAL *dx, int images, int add) {
    const int size = window_size(b);
    for (int c = 0; c < b->backwards; c++) {
        const product *g = &b->backward[c];
        const int columns = g->terms / g->tap, n = images * g->n;
        for (int first = 0; first < n; first += CHUNK) {
            for (int place = 0; place < g->spans * columns; place++) {
                const REAL *from = dy + place / columns * g->row + place % columns * g->tap;
                multiply(least(CHUNK, n - first), from, g->at + first, 0,
                         kernel + backward_tap(b, c, place) * b->channels, size, 1, b->filters, b->channels, dx,
                         g->to + first, add || place > 0);
            }
        }
    }
}

/* dK += its sum over `images` images, for the filters from `begin` to `end`. */
static void convolve_kernel(const block *b, const REAL *x, const REAL *dy, REAL *dkernel, int images, int begin,
                            int end) {
    const int size = window_size(b), n = images * b->pixels;
    const int cut = (size_t)b->filters * b->forward.terms * sizeof(REAL) > AT_ONCE ? 3 : 1, width = size / 3 / cut;
    for (int first = 0; first < n; first += CHUNK) {
        for (int k = 0; k < 3 * cut; k++) {
            accumulate(end - begin, dy + begin, b->dy_at + first, x + k / cut * b->forward.row + k % cut * width,
                       b->forward.at + first, least(CHUNK, n - first), width, dkernel + (long)begin * size + k * width,
                       size);
        }
    }
}
