/* The first block, where a window has 9 or 27 numbers and the map is the largest of all.

   If the network pools, y is never stored: two rows at a time are convolved, pooled and forgotten. The kernel's gradient
   needs y at every place, but linearly, and y = K x for windows x. Write X for the sum of all windows and G for the sum
   of their outer products. With value = (y - mean) / s, s the standard deviation, summed over all places,

     V = sum value x' = (K G - mean X) / s
     dK = scale / s (sum dz x' - (sum dz / N) X - (sum dz value / N) V)

   G depends on the images alone, and dz is 0 but for one output of a window. */

/* Copy image [channel][row][column] into the padded map [row][column][channel]. Padding stays zero. */
static void take_image(const block *b, const REAL *image, REAL *x) {
    const int side = b->side, channels = b->channels, line = padded_side(side, b->stride, b->before) * channels;
    for (int row = 0; row < side; row++) {
        REAL *to = x + (row + b->before) * line + b->before * channels;
        for (int channel = 0; channel < channels; channel++) {
            const REAL *from = image + ((long)channel * side + row) * side;
            for (int column = 0; column < side; column++) to[column * channels + channel] = from[column];
        }
    }
}

/* Write G [window][window] and X [window] of one image. The entry of G for numbers a of row r and b of row r + d of a
   window depends on r only by which rows of the image are summed over, so each is computed once for a pair of rows. */
static void gram(const block *b, const REAL *x, double *g) {
    const int side = b->side, channels = b->channels, span = 3 * channels, size = 3 * span, line = (side + 2) * channels;
    const int width = (span + WIDE - 1) / WIDE * WIDE, *columns = b->forward.at;
    double *total = g + size * size;
    memset(g, 0, sizeof(double) * (size + 1) * size);
    for (int i = 1; i <= side; i++) {
        for (int d = 0; d < 3 && i + d <= side; d++) {
            REAL sums[span * width];
            memset(sums, 0, sizeof sums);
            accumulate(span, x + i * line, columns, x + (i + d) * line, columns, side, width, sums, width);
            for (int r = 0; r + d < 3; r++) {
                if (i < r || i - r >= side) continue; /* no window has row i of the image as its row r */
                for (int a = 0; a < span; a++) {
                    double *to = g + (r * span + a) * size + (r + d) * span;
                    for (int c = 0; c < span; c++) to[c] += sums[a * width + c];
                }
            }
        }
        REAL sums[span];
        memset(sums, 0, sizeof sums);
        for (int column = 0; column < side; column++) {
            for (int a = 0; a < span; a++) sums[a] += x[i * line + column * channels + a];
        }
        for (int r = 0; r < 3; r++) {
            for (int a = 0; a < span && i >= r && i - r < side; a++) total[r * span + a] += sums[a];
        }
    }
    for (int a = 0; a < size; a++) {
        for (int c = 0; c < a / span * span; c++) g[a * size + c] = g[c * size + a];
    }
}

/* Convolve image i and keep what `pool` keeps; with a direction, tangents too. */
static void forward_first(const block *b, const REAL *parameters, int i, int tangents, REAL *y, REAL *y_t) {
    const REAL *x = b->x + i * b->x_image;
    for (int row = 0; row < b->outputs; row += 2) {
        const int rows = least(2, b->outputs - row), first = row * b->outputs, count = rows * b->outputs;
        convolve(&b->forward, x, b->matrix, b->filters, y, first, 0, count, 0);
        if (tangents) convolve(&b->forward, x, b->matrix_t, b->filters, y_t, first, 0, count, 0);
        moments(b, i, y, tangents ? y_t : NULL, count, first);
        pool(b, parameters, i, y, tangents ? y_t : NULL, row, rows);
    }
}

/* share [window][filter] += the sum over `count` places of windows of x, from number `first` on, times lines[at[p]]. */
static void add_windows(const block *b, const REAL *x, int first, int count, const REAL *lines, const int *at, REAL *share) {
    const int terms = b->forward.terms, filters = b->filters;
    for (int s = 0; s < 3; s++) {
        accumulate(terms, x + s * b->forward.row, b->forward.at + first, lines, at, count, filters,
                   share + (long)s * terms * filters, filters);
    }
}

/* share [window][filter] = sum dz x' of image i; with tangents, share_t = sum dz_t x'. */
static void windows_of_gradient(const block *b, const REAL *parameters, int i, REAL *dz, REAL *share, const REAL *dout) {
    const int filters = b->filters;
    memset(share, 0, sizeof(REAL) * window_size(b) * filters);
    for (int row = 0; row < b->outputs; row += 2) {
        const int rows = least(2, b->outputs - row), begin = row * b->outputs, count = rows * b->outputs;
        memset(dz, 0, sizeof(REAL) * count * filters);
        for (int f = 0; f < filters && row / 2 < b->gives; f += WIDE) {
            const channel c = channel_at(b, parameters, NULL, f);
            for (int p = row / 2 * b->gives; p < (row / 2 + 1) * b->gives; p++) {
                const long at = ((long)i * b->results + p) * filters + f;
                const mask which = __builtin_convertvector(*(const bytes *)(b->which + at), mask);
                const vector given = keep(passes(&c, normal(&c, load(b->best + at))), load(dout + at));
                UNROLL for (int w = 0; w < 4; w++) {
                    const int place = b->window[4 * p + w];
                    if (place >= 0) store(dz + (long)(place - begin) * filters + f, keep((mask)(which == w), given));
                }
            }
        }
        add_windows(b, b->x + i * b->x_image, begin, count, dz, b->forward.to, share);
    }
}

/* Add dK of all images to `gradient` or, with a direction, its tangent, from the shares and G. */
static void kernel_of_windows(const net *n, const REAL *parameters, const REAL *direction, int images, REAL *gradient) {
    const block *b = &n->blocks[0];
    const int size = window_size(b), filters = b->filters, all = (size + 1) * size;
    const double share = 1 / ((double)images * b->pixels);
    double *g = n->grams, *total = g + size * size;
    for (int i = 1; i < images; i++) {
        for (int k = 0; k < all; k++) g[k] += n->grams[(long)i * all + k];
    }
    for (int f = 0; f < filters; f++) {
        const REAL *kernel = parameters + b->kernel + (long)f * size;
        const double inverse = b->inverse[f], factor = inverse * (b->scale >= 0 ? parameters[b->scale + f] : 1);
        const double mean_dz = b->sums[DZ * filters + f] * share, mean_product = b->sums[DZ_VALUE * filters + f] * share;
        for (int k = 0; k < size; k++) {
            double given = 0, value = -b->mean[f] * total[k];
            for (int i = 0; i < images; i++) given += n->shares[((long)i * size + k) * filters + f];
            for (int a = 0; a < size; a++) value += kernel[a] * g[a * size + k];
            value *= inverse;
            const double inner = given - mean_dz * total[k] - mean_product * value;
            if (!direction) {
                gradient[b->kernel + (long)f * size + k] += factor * inner;
                continue;
            }
            const REAL *kernel_t = direction + b->kernel + (long)f * size;
            double given_t = 0, value_t = -b->mean_t[f] * total[k] - b->slope[f] * value;
            for (int i = 0; i < images; i++) given_t += n->shares_t[((long)i * size + k) * filters + f];
            for (int a = 0; a < size; a++) value_t += kernel_t[a] * g[a * size + k];
            value_t *= inverse;
            const double scale_t = b->scale >= 0 ? direction[b->scale + f] : 0;
            const double factor_t = scale_t * inverse - factor * inverse * b->slope[f];
            const double inner_t = given_t - b->sums[DZ_T * filters + f] * share * total[k] - mean_product * value_t -
                                   b->sums[DZ_VALUE_T * filters + f] * share * value;
            gradient[b->kernel + (long)f * size + k] += factor_t * inner + factor * inner_t;
        }
    }
}

/* The same where y is stored: the shares are of dK itself. */
static void kernel_of_shares(const net *n, int images, REAL *gradient) {
    const block *b = &n->blocks[0];
    const int size = window_size(b), filters = b->filters;
    for (int i = 0; i < images; i++) {
        const REAL *share = n->shares + (long)i * size * filters;
        for (int f = 0; f < filters; f++) {
            for (int k = 0; k < size; k++) gradient[b->kernel + (long)f * size + k] += share[k * filters + f];
        }
    }
}
