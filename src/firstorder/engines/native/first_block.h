/* The first block, where a window has 9 or 27 numbers and the map is the largest of all.

   If the network pools, y is never stored: two rows at a time are convolved, pooled and forgotten. The kernel's
   gradient needs y at every place, but linearly, and y = K x for windows x. Write X for the sum of all windows and G
   for the sum of their outer products. With value = (y - mean) / s, s the standard deviation, summed over all places,

     V = sum value x' = (K G - mean X) / s
     dK = scale / s (sum dz x' - (sum dz / N) X - (sum dz value / N) V)

   G depends on the images alone, and dz is 0 but for one output of a window. */

/* Images [image][channel][row][column]: of REAL if scale is 0, else of bytes that are divided by it. */
typedef struct {
    const void *data;
    int scale;
    long first; /* number of the mini-batch's first image */
} pixels;

/* Copy image i into the padded map [row][column][channel]. Padding stays zero. */
static void take_image(const block *b, pixels images, int i, REAL *x) {
    const int side = b->side, channels = b->channels, line = padded_side(side, b->stride, b->before) * channels;
    REAL values[256];
    for (int k = 0; k < 256 && images.scale; k++) values[k] = k / (REAL)images.scale;
    for (int row = 0; row < side; row++) {
        REAL *to = x + (row + b->before) * line + b->before * channels;
        for (int channel = 0; channel < channels; channel++) {
            const long from = (((images.first + i) * channels + channel) * side + row) * side;
            const REAL *numbers = (const REAL *)images.data + from;
            const uint8_t *bytes_at = (const uint8_t *)images.data + from;
            for (int column = 0; column < side; column++) {
                to[column * channels + channel] = images.scale ? values[bytes_at[column]] : numbers[column];
            }
        }
    }
}

/* Sums over places of an image: over all of its columns, and over its first and its last one alone. */
enum { ALL, FIRST, LAST, REACHES };

/* The sum for row r and column j of a window: less the image's row and column that no window has there. The sums of
   other reaches lie `reach` numbers further on. */
INLINE double sum_for(const double *all_rows, const double *without, int r, int j, long reach) {
    const double sum = all_rows[0] - (r == 1 ? 0 : without[0]);
    const long edge = (j == 0 ? LAST : FIRST) * reach;
    return j == 1 ? sum : sum - (all_rows[edge] - (r == 1 ? 0 : without[edge]));
}

/* Write G [window][window] and X [window] of one image.

   The entry of G for number (r, j, c) of a window, which is channel c in row r and column j, and number (r + d, j + e,
   c') sums over rows and columns of the image the products of channel c of a place and channel c' of the place d rows
   below and e columns to its right. It depends on r and j only in that no window has the image's last row as its first,
   or its first row as its last, and so with columns. X sums c alone. */
static void gram(const block *b, const REAL *x, double *g) {
    const int side = b->side, channels = b->channels, span = 3 * channels, size = 3 * span,
              line = (side + 2) * channels;
    const int width = (5 * channels + WIDE - 1) / WIDE * WIDE, *columns = b->forward.at; /* e from -2 to 2 */
    const int reach = channels * width, all = REACHES * reach;
    double total[3][all], first[3][all], last[3][all]; /* over all rows, the first and the last: for each d */
    double ones[3][REACHES * channels];                /* X over these rows, in that order */
    memset(total, 0, sizeof total), memset(last, 0, sizeof last), memset(ones, 0, sizeof ones);
    for (int i = 1; i <= side; i++) {
        const REAL *places = x + i * line + channels; /* padding is 0 */
        for (int d = 0; d < 3 && i + d <= side; d++) {
            const REAL *others = places + d * line - 2 * channels;
            REAL sums[all];
            memset(sums, 0, sizeof sums);
            accumulate(channels, places, columns, others, columns, side, width, sums, width);
            accumulate(channels, places, columns, others, columns, 1, width, sums + FIRST * reach, width);
            accumulate(channels, places, columns + side - 1, others, columns + side - 1, 1, width, sums + LAST * reach,
                       width);
            for (int k = 0; k < all; k++) total[d][k] += sums[k];
            for (int k = 0; k < all && i == side; k++) last[d][k] = sums[k];
        }
        if (i == 1) memcpy(first, total, sizeof total);
        REAL over[width]; /* all columns */
        for (int v = 0; v < channels; v += WIDE) {
            vector some[4] = {spread(0), spread(0), spread(0), spread(0)};
            for (int column = 0; column < side; column++) some[column % 4] += load(places + columns[column] + v);
            store(over + v, some[0] + some[1] + (some[2] + some[3]));
        }
        for (int c = 0; c < channels; c++) {
            const REAL sums[REACHES] = {over[c], places[c], places[(side - 1) * channels + c]};
            for (int reached = 0; reached < REACHES; reached++) {
                const int k = reached * channels + c;
                ones[0][k] += sums[reached];
                if (i == 1) ones[1][k] = sums[reached];
                if (i == side) ones[2][k] = sums[reached];
            }
        }
    }
    for (int r = 0; r < 3; r++) {
        const double(*without)[all] = r == 0 ? last : first;
        for (int a = 0; a < span; a++) {
            const int j = a / channels, c = a % channels, row = r * span + a;
            for (int d = 0; r + d < 3; d++) {
                for (int other = 0; other < span; other++) {
                    const int k = c * width + (2 - j) * channels + other, column = (r + d) * span + other;
                    g[row * size + column] = g[column * size + row] =
                        sum_for(total[d] + k, without[d] + k, r, j, reach);
                }
            }
            g[size * size + row] = sum_for(ones[0] + c, ones[r == 0 ? 2 : 1] + c, r, j, channels);
        }
    }
}

/* Convolve image i and keep what `pool` keeps; with a direction, tangents too. */
static void forward_first(const block *b, const REAL *parameters, int i, int tangents, REAL *y, REAL *y_t) {
    const REAL *x = b->x + i * b->x_image;
    for (int row = 0; row < b->outputs; row += 2) {
        const int rows = least(2, b->outputs - row), first = row * b->outputs, count = rows * b->outputs;
        convolve(&b->forward, x, b->matrix, b->filters, y, first, 0, count, 0);
        if (tangents) convolve(&b->forward, x, b->matrix_t, b->filters, y_t, first, 0, count, 0);
        END_PHASE(0, Y);
        moments(b, i, y, tangents ? y_t : NULL, count, first);
        pool(b, parameters, i, y, tangents ? y_t : NULL, row, rows);
        END_PHASE(0, MOMENTS);
    }
}

/* share [window][filter] += the sum over `count` places of windows of x, from number `first` on, times lines[at[p]]. */
static void add_windows(const block *b, const REAL *x, int first, int count, const REAL *lines, const int *at,
                        REAL *share) {
    const int terms = b->forward.terms, filters = b->filters;
    for (int s = 0; s < 3; s++) {
        accumulate(terms, x + s * b->forward.row, b->forward.at + first, lines, at, count, filters,
                   share + (long)s * terms * filters, filters);
    }
}

/* Write places [channel][p][4][4]: for each window p in a row of windows, the 4 x 4 places that its outputs' windows
   of x cover. */
static void window_places(const block *b, const REAL *x, int row, REAL *places) {
    const int channels = b->channels, padded = b->side + 2;
    REAL line[padded + 1];
    line[padded] = 0; /* of an odd side, the last window would reach beyond */
    for (int k = 0; k < 4 && 2 * row + k < padded; k++) {
        const REAL *from = x + (long)(2 * row + k) * padded * channels;
        for (int number = 0; number < channels; number++) {
            for (int j = 0; j < padded; j++) line[j] = from[j * channels + number];
            REAL *to = places + (long)number * b->gives * 16 + 4 * k;
            for (int p = 0; p < b->gives; p++) memcpy(to + 16 * p, line + 2 * p, 4 * sizeof(REAL));
        }
    }
}

/* share [window][filter] = sum dz x' of image i, for dout or, for the tangent, dout_t. Of the places that a window of
   outputs covers each filter picks the 3 x 3 of its best output. */
static void windows_of_gradient(const block *b, const REAL *parameters, int i, REAL *places, REAL *share,
                                const REAL *dout) {
    const int filters = b->filters, channels = b->channels, gives = b->gives;
    vector dz[gives];
    mask corner[gives]; /* number of the first of the 3 x 3 places: 0, 1, 4 or 5 */
    memset(share, 0, sizeof(REAL) * window_size(b) * filters);
    for (int row = 0; row < gives; row++) {
        window_places(b, b->x + i * b->x_image, row, places);
        for (int f = 0; f < filters; f += WIDE) {
            const channel c = channel_at(b, parameters, NULL, f);
            for (int p = 0; p < gives; p++) {
                const long at = ((long)i * b->results + row * gives + p) * filters + f;
                const mask which = load_bytes(b->which + at);
                dz[p] = keep(passes(&c, normal(&c, load(b->best + at))), load(dout + at));
                corner[p] = which + (which & 2);
            }
            for (int number = 0; number < channels; number++) {
                REAL *to = share + number * filters + f;
                const REAL *table = places + (long)number * gives * 16;
                vector sums[9];
                UNROLL for (int tap = 0; tap < 9; tap++) sums[tap] = load(to + (long)tap * channels * filters);
                for (int p = 0; p < gives; p++) {
                    UNROLL for (int tap = 0; tap < 9; tap++) {
                        sums[tap] += dz[p] * pick(table + 16 * p, corner[p] + (tap / 3 * 4 + tap % 3));
                    }
                }
                UNROLL for (int tap = 0; tap < 9; tap++) store(to + (long)tap * channels * filters, sums[tap]);
            }
        }
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
        const double mean_dz = b->sums[DZ * filters + f] * share,
                     mean_product = b->sums[DZ_VALUE * filters + f] * share;
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
