/* Batch normalisation, the maximum of a window, and the rectifier.

     value = (y - mean) / sqrt(variance + epsilon), z = scale value + shift, result = max(0, z of the window's best)

   dz is the gradient of z: that of the result where z is the window's best and positive, else 0. With N = images *
   pixels, the gradients of shift, scale and y are

     sum dz, sum dz value, and dy = scale / sqrt(variance + epsilon) (dz - sum dz / N - value (sum dz value) / N). */

/* ---- means and variances ----------------------------------------------------------------------------------------- */

/* Merge the moments of `count` numbers with those of the `before` numbers before them (Chan, Golub and LeVeque). */
INLINE void merge(vector *mean, vector *squares, vector more_mean, vector more_squares, long before, long count) {
    const vector change = more_mean - *mean;
    *mean += change * (REAL)((double)count / (before + count));
    *squares += more_squares + change * change * (REAL)((double)before * count / (before + count));
}

/* Merge the moments of `pixels` outputs of an image with those of the `before` outputs before them. Deviations are
   taken from the first of these outputs, which no more than sqrt(pixels) standard deviations separate from their mean,
   so at most a `pixels`-th of the precision of their squares is lost. */
static void moments(const block *b, int i, const REAL *y, const REAL *y_t, int pixels, int before) {
    const int filters = b->filters;
    for (int f = 0; f < filters; f += WIDE) {
        REAL *means = b->means + (long)i * filters + f, *squares = b->squares + (long)i * filters + f;
        const vector centre = load(y + f), share = spread(1 / (REAL)pixels);
        vector sum = spread(0), square = spread(0), sum_t = spread(0), product = spread(0);
        const vector centre_t = y_t ? load(y_t + f) : spread(0);
        for (int p = 0; p < pixels; p++) {
            const vector off = load(y + (long)p * filters + f) - centre;
            sum += off;
            square += off * off;
            if (!y_t) continue;
            const vector off_t = load(y_t + (long)p * filters + f) - centre_t;
            sum_t += off_t;
            product += off * off_t;
        }
        vector mean = before ? load(means) : spread(0), total = before ? load(squares) : spread(0);
        const vector more = centre + sum * share, change = more - mean;
        merge(&mean, &total, more, square - sum * sum * share, before, pixels);
        store(means, mean), store(squares, total);
        if (!y_t) continue;
        REAL *means_t = b->means_t + (long)i * filters + f, *slopes = b->slopes + (long)i * filters + f;
        const vector mean_t = before ? load(means_t) : spread(0), more_t = centre_t + sum_t * share;
        vector slope = product - sum * sum_t * share;
        if (before)
            slope += load(slopes) + change * (more_t - mean_t) * (REAL)((double)before * pixels / (before + pixels));
        store(means_t, mean_t + (more_t - mean_t) * (REAL)((double)pixels / (before + pixels)));
        store(slopes, slope);
    }
}

/* Merge the moments of all images, in their order, and make of them what normalisation needs. */
static void batch_moments(const net *n, const block *b, int images, int tangents) {
    const long filters = b->filters, pixels = b->pixels;
    for (int f = 0; f < filters; f += WIDE) {
        vector mean = load(b->means + f), squares = load(b->squares + f), mean_t = spread(0), slope = spread(0);
        if (tangents) mean_t = load(b->means_t + f), slope = load(b->slopes + f);
        for (int i = 1; i < images; i++) {
            const long at = i * filters + f;
            const vector change = load(b->means + at) - mean;
            merge(&mean, &squares, load(b->means + at), load(b->squares + at), i * pixels, pixels);
            if (!tangents) continue;
            const vector change_t = load(b->means_t + at) - mean_t;
            mean_t += change_t / (REAL)(i + 1);
            slope += load(b->slopes + at) + change * change_t * ((REAL)pixels * i / (i + 1));
        }
        store(b->mean + f, mean);
        const vector variance = squares / ((REAL)images * pixels);
        for (int v = 0; v < WIDE; v++) b->inverse[f + v] = 1 / ROOT(variance[v] + (REAL)n->epsilon);
        if (!tangents) continue;
        store(b->mean_t + f, mean_t);
        store(b->slope + f, slope * load(b->inverse + f) / ((REAL)images * pixels));
    }
}

/* ---- forward ----------------------------------------------------------------------------------------------------- */

/* Keep of each window in `rows` rows of y the largest number, or the smallest where the scale is negative, and which
   it was: of equal ones the first. Where the scale is 0 all z are equal, so the first is kept. y holds rows from `row`
   on. */
static void pool(const block *b, const REAL *parameters, int i, const REAL *y, const REAL *y_t, int row, int rows) {
    const int filters = b->filters, begin = row * b->outputs;
    const int first = row / 2 * b->gives, end = least((row + rows + 1) / 2, b->gives) * b->gives;
    for (int f = 0; f < filters; f += WIDE) {
        const vector scale = b->scale >= 0 ? load(parameters + b->scale + f) : spread(1);
        const mask some = (mask)(scale != 0), sign = (mask)scale & (mask)(spread(-0.0)) & some;
        for (int p = first; p < end; p++) {
            const int *window = b->window + 4 * p;
            const long to = ((long)i * b->results + p) * filters + f;
            const long at = (long)(window[0] - begin) * filters + f;
            vector best = load(y + at), best_t = y_t ? load(y_t + at) : best,
                   largest = (vector)(((mask)best & some) ^ sign);
            mask which = {0};
            UNROLL for (int w = 1; w < 4; w++) {
                if (window[w] < 0) continue;
                const long other = (long)(window[w] - begin) * filters + f;
                const vector candidate = load(y + other), signed_one = (vector)(((mask)candidate & some) ^ sign);
                const mask better = (mask)(signed_one > largest);
                largest = either(better, signed_one, largest);
                best = either(better, candidate, best);
                which = (which & ~better) | (better & w);
                if (y_t) best_t = either(better, load(y_t + other), best_t);
            }
            store(b->best + to, best);
            if (y_t) store(b->best_t + to, best_t);
            store_bytes(b->which + to, which);
        }
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
/* Whether z is passed on. NaN is, so that it is noticed. */
INLINE mask passes(const channel *c, vector value) { return ~(mask)(value * c->scale + c->shift <= spread(0)); }

/* Write image i's result to `out` and, if there is a direction, its tangent to `out_t`: maps of the next block. If
   there is `split`, the result goes there in parts. */
INLINE void activate(const int tangents, const block *b, const REAL *parameters, const REAL *direction, int i,
                     REAL *out, REAL *out_t, uint16_t *split, long plane) {
    const int filters = b->filters;
    for (int f = 0; f < filters; f += WIDE) {
        const channel c = channel_at(b, parameters, tangents ? direction : NULL, f);
        for (int p = 0; p < b->results; p++) {
            const long at = ((long)i * b->results + p) * filters + f, to = i * b->next_image + b->into[p] + f;
            const vector value = normal(&c, load(b->best + at));
            const mask positive = passes(&c, value);
            const vector result = keep(positive, value * c.scale + c.shift);
            if (split) store_split(split + to, plane, result);
            else store(out + to, result);
            if (!tangents) continue;
            const vector value_t = normal_t(&c, value, load(b->best_t + at));
            store(out_t + to, keep(positive, c.scale_t * value + c.scale * value_t + c.shift_t));
        }
    }
}

/* ---- backward ---------------------------------------------------------------------------------------------------- */

/* Sum dz and dz times value over image i, and their tangents. */
INLINE void normalisation_sums(const int tangents, const block *b, const REAL *parameters, const REAL *direction,
                               int i) {
    const int filters = b->filters;
    for (int f = 0; f < filters; f += WIDE) {
        const channel c = channel_at(b, parameters, tangents ? direction : NULL, f);
        vector part[SUMS] = {spread(0), spread(0), spread(0), spread(0)};
        for (int p = 0; p < b->results; p++) {
            const long at = ((long)i * b->results + p) * filters + f;
            const vector value = normal(&c, load(b->best + at));
            const mask positive = passes(&c, value);
            const vector dz = keep(positive, load(b->dout + at));
            part[DZ] += dz;
            part[DZ_VALUE] += dz * value;
            if (!tangents) continue;
            const vector dz_t = keep(positive, load(b->dout_t + at));
            part[DZ_T] += dz_t;
            part[DZ_VALUE_T] += dz_t * value + dz * normal_t(&c, value, load(b->best_t + at));
        }
        for (int s = 0; s < SUMS; s++) store(b->parts + ((long)i * SUMS + s) * filters + f, part[s]);
    }
}

/* Add up the sums of all images, in their order. */
static void batch_sums(const block *b, int images) {
    for (int k = 0; k < SUMS * b->filters; k += WIDE) {
        vector sum = spread(0);
        for (int i = 0; i < images; i++) sum += load(b->parts + (long)i * SUMS * b->filters + k);
        store(b->sums + k, sum);
    }
}

/* Write image i's dy, at number `slot` of its map, and with a direction dy_t. If there is `split`, dy goes there in
   parts. */
INLINE void normalisation_input(const int pooled, const int tangents, const block *b, const REAL *parameters,
                                const REAL *direction, int images, int i, int slot, uint16_t *split, long plane) {
    const int filters = b->filters;
    const REAL share = 1 / ((REAL)images * b->pixels);
    for (int f = 0; f < filters; f += WIDE) {
        const channel c = channel_at(b, parameters, tangents ? direction : NULL, f);
        const REAL *y = b->y + (long)i * b->pixels * filters + f, *y_t = tangents ? b->y_t + (y - b->y) : NULL;
        REAL *dy = b->dy + slot * b->dy_image + f, *dy_t = tangents ? b->dy_t + slot * b->dy_image + f : NULL;
        vector sum[SUMS], factor = c.scale * c.inverse, factor_t = spread(0);
        UNROLL for (int s = 0; s < SUMS; s++) sum[s] = load(b->sums + s * filters + f) * share;
        if (tangents) factor_t = c.scale_t * c.inverse - factor * c.inverse * c.slope;
#define GIVE(PLACE, DZ_HERE, DZ_T_HERE)                                                                     \
    do {                                                                                                    \
        const int place = (PLACE), to = b->dy_at[place];                                                    \
        const long from = (long)place * filters;                                                            \
        const vector value = normal(&c, load(y + from)), inner = (DZ_HERE)-sum[DZ] - value * sum[DZ_VALUE]; \
        if (split) store_split(split + slot * b->dy_image + f + to, plane, factor * inner);                 \
        else store(dy + to, factor * inner);                                                                \
        if (!tangents) break;                                                                               \
        const vector value_t = normal_t(&c, value, load(y_t + from));                                       \
        const vector inner_t = (DZ_T_HERE)-sum[DZ_T] - value_t * sum[DZ_VALUE] - value * sum[DZ_VALUE_T];   \
        store(dy_t + to, factor_t * inner + factor * inner_t);                                              \
    } while (0)
        for (int p = 0; p < b->results; p++) {
            const long at = ((long)i * b->results + p) * filters + f;
            const mask positive = passes(&c, normal(&c, load(b->best + at)));
            const vector dz = keep(positive, load(b->dout + at)),
                         dz_t = tangents ? keep(positive, load(b->dout_t + at)) : dz;
            if (!pooled) {
                GIVE(p, dz, dz_t);
                continue;
            }
            const mask which = load_bytes(b->which + at);
            const int *window = b->window + 4 * p;
            UNROLL for (int w = 0; w < 4; w++) {
                const mask here = (mask)(which == w);
                if (window[w] >= 0) GIVE(window[w], keep(here, dz), keep(here, dz_t));
            }
        }
        for (int p = 0; pooled && p < b->lefts; p++) GIVE(b->left[p], spread(0), spread(0));
#undef GIVE
    }
}
