/* The three products of a convolution with 3 x 3 kernels K[filter][row][column][channel]:

     y[p][f] = sum over taps t, channels c of x[p + t][c] K[f][t][c]
     dx[q][c] = sum over t, f of dy[q - t][f] K[f][t][c]
     dK[f][t][c] = sum over images and p of dy[p][f] x[p + t][c] */

#define AT_ONCE 16384 /* bytes of a matrix that stay in the first-level cache beside the maps */

/* K as [tap][channel][filter], for y. */
static void transpose_kernel(const block *b, const REAL *kernel, REAL *to) {
    const int n = window_size(b), filters = b->filters;
    for (int k0 = 0; k0 < n; k0 += 16) {
        for (int f = 0; f < filters; f++) {
            for (int k = k0; k < least(k0 + 16, n); k++) to[(long)k * filters + f] = kernel[(long)f * n + k];
        }
    }
}

/* The tap of the kernel, from 0 to 8, that place number `place` of backward product c is multiplied with. */
static int backward_tap(const block *b, int c, int place) {
    static const int all[3] = {2, 1, 0}, even[2] = {2, 0}, odd[1] = {1};
    const int columns = b->backward[c].terms / b->backward[c].tap, row = place / columns, column = place % columns;
    if (b->stride == 1) return 3 * all[row] + all[column];
    return 3 * (c / 2 ? odd : even)[row] + (c % 2 ? odd : even)[column];
}

/* K as [tap][filter][channel], in the order of the taps that each backward product needs. */
static void flip_kernel(const block *b, const REAL *kernel, REAL *to) {
    const int channels = b->channels;
    for (int c = 0; c < b->backwards; c++) {
        for (int place = 0; place < b->backward[c].spans * b->backward[c].terms / b->backward[c].tap; place++) {
            const REAL *from = kernel + (long)backward_tap(b, c, place) * channels;
            for (int f = 0; f < b->filters; f++, to += channels) {
                memcpy(to, from + (long)f * window_size(b), sizeof(REAL) * channels);
            }
        }
    }
}

/* out = (or +=) the product for `count` of its outputs, from number `first` on, written where number `to` goes. */
static void convolve(const product *g, const REAL *in, const REAL *matrix, int width, REAL *out, int first, int to,
                     int count, int add) {
    const size_t size = (size_t)g->terms * width * sizeof(REAL); /* of a span's matrix */
    const int whole = g->spans * size <= AT_ONCE, cut = size > AT_ONCE ? g->terms / g->tap : 1;
    const int parts = whole ? 1 : g->spans * cut, terms = g->terms / cut;
    matrix += g->matrix;
    for (int part = 0; part < parts; part++) {
        multiply(count, in + part / cut * g->row + part % cut * terms, g->at + first, g->row,
                 matrix + (long)part * terms * width, whole ? g->spans : 1, terms, width, out, g->to + to,
                 add || part > 0);
    }
}

/* The same for all outputs of `images` images, a chunk at a time. */
static void convolve_all(const product *g, const REAL *in, const REAL *matrix, int width, REAL *out, int images, int add) {
    for (int first = 0, end = images * g->n; first < end; first += CHUNK) {
        convolve(g, in, matrix, width, out, first, first, least(CHUNK, end - first), add);
    }
}

/* dK += its sum over `images` images, for the filters from `begin` to `end`. */
static void convolve_kernel(const block *b, const REAL *x, const REAL *dy, REAL *dkernel, int images, int begin, int end) {
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
