/* Where everything lies in memory.

   - Maps are [image][row][column][channel]. An input map x contains the zero padding of its convolution, and so does
     dy, the gradient of a convolution's output. A window is therefore one to three spans of contiguous numbers, and no
     patches are copied.
   - A block computes y = convolution(x), normalises y over the mini-batch, takes the maximum of 2 x 2 windows if its
     network pools, and rectifies. Scale and shift are the same for a whole channel, so the maximum is taken from y
     itself (the minimum where the scale is negative), and only these numbers, `best`, are normalised.
   - A name ending in _t is a tangent: the derivative of that quantity along a direction in parameter space. */

#define BLOCKS 4
#define MOST_THREADS 64
#define CHUNK 96            /* most outputs at a time, such that their maps stay in the first-level cache */
#define LEAST 48            /* outputs at a time; several images together if one has fewer */
#define POINTS 16           /* of a square: see winograd.h */
#define SQUARES 48          /* most squares at a time, such that all their points stay in the second-level cache */
#define SQUARES_FILTERS 128 /* most filters: with more, an image's sums are larger than what is saved */
#define TILES_CHUNK 256     /* most outputs at a time with tiles, which compute 32 at a time */
#define TILES_LEAST 256     /* outputs of an image from which on tiles are faster than vectors */
#define PARTS 3             /* bfloat16 numbers that a float32 number is split into: see tiles.h */
#define SIDE 32             /* numbers along the side of four tiles */

enum { SHAPE_SIZE, SHAPE_CHANNELS, SHAPE_FILTERS, SHAPE_POOL, SHAPE_SCALE, SHAPE_MEAN, SHAPE_WAY };
enum { POOL_STRIDE, POOL_SAME, POOL_VALID };
enum { DZ, DZ_VALUE, DZ_T, DZ_VALUE_T, SUMS }; /* sums over a map that the gradient of normalisation needs */

/* Windows of a map times a matrix [spans][terms][width]: out[to[i]][:] = sum over s, k of
   in[at[i] + s * row + k] * matrix[s][k][:], for the n outputs of every image of a group. */
typedef struct {
    int n, spans, terms, tap; /* tap: terms of one place, such that spans have terms / tap places */
    long row;                 /* distance between spans */
    int *at, *to;             /* [group * n] */
} product;

typedef struct {
    int channels, filters;
    int pooled, stored;           /* whether it takes maxima; whether y is stored, or never (first_block.h) */
    int side, stride, before;     /* of the input map without padding; padding before it */
    int outputs, gives;           /* side of y; side of the block's output */
    int pixels, results;          /* outputs^2, gives^2 */
    int group;                    /* images that are convolved together */
    int rows;                     /* rows of y that are convolved together; even, unless that is all of them */
    long kernel, scale, shift;    /* offsets in the flat parameter vector; scale is -1 if there is none */
    long x_image, dy_image;       /* numbers per image in x and in dy */
    product forward, backward[4]; /* backward: windows of dy give dx */
    int backwards;                /* their number: 1, or 4 for the parities of row and column */
    int *dy_at;                   /* [group * pixels] where an output lies in dy */
    int *window;                  /* [results][4] outputs of which the maximum is taken; -1: none */
    int *left, lefts;             /* outputs that are in no window */
    int *into;                    /* [results] where a result lies in an image of the next block's x */
    long next_image;              /* numbers per image in the next block's x */
    REAL *x, *x_t;
    REAL *y, *y_t;       /* [image][output][filter] */
    REAL *best, *best_t; /* [image][result][filter]: y where it is largest in its window; y itself without */
    int8_t *which;       /* [image][result][filter]: which output of the window that is */
    REAL *dout, *dout_t; /* gradient of the block's output, [image][result][filter] */
    REAL *dy, *dy_t;
    REAL *matrix, *matrix_t;                  /* the kernel as y needs it, [tap][channel][filter] */
    REAL *means, *squares, *means_t, *slopes; /* [image][filter]: of one image's y: mean, sum of squared deviations,
                                                 mean of y_t, sum of deviations of y times those of y_t */
    REAL *mean, *inverse, *mean_t, *slope;    /* [filter]: of the batch: mean, 1 / standard deviation, mean of y_t, and
                                              mean of normalised y times y_t */
    REAL *parts, *sums;                       /* [image][SUMS][filter] and [SUMS][filter] */
    int tiles; /* whether its products use tiles.h, which needs the forms of x, dy and the kernel below */
    uint16_t *split_x, *split_dy, *columns, *pairs, *split_kernel, *tiled, *tiled_back;
    REAL *dkernel;
    int winograd; /* whether its products use winograd.h, which needs the kernel in these forms, and K's tangent */
    REAL *points, *points_back, *points_t, *points_back_t;
} block;

/* A thread's room for the points of squares of a map, and of products or of squares of outputs. */
typedef struct {
    REAL *in, *out;
} point_room;

typedef struct {
    char *base;
    size_t size;
#ifdef GUARDS /* for the tests: the bytes between arrays have a value, which nothing may change */
    struct {
        size_t begin, end;
    } gaps[1000];
    int count;
#endif
} arena;

typedef struct net {
    int shape[7], most_images, most_threads;
    int tiles;                           /* whether the products of blocks 2 to 4 use tiles */
    double epsilon, beta2, adam_epsilon; /* of batch normalisation; of Adam */
    long parameters, head, bias;
    int features;
    block blocks[BLOCKS];
    REAL *last, *last_t;                   /* the last block's output, [image][result][filter] */
    REAL *flat, *flat_t, *dflat, *dflat_t; /* input of the dense layer, [image][feature] */
    REAL *logits, *logits_t;
    REAL *rows[MOST_THREADS], *rows_t[MOST_THREADS]; /* a thread's two rows of the first block's y, or `places` there */
    REAL *shares, *shares_t; /* [image]: share of the first kernel's gradient, [window][filter] */
    double *grams;           /* [image]: sums of products of the first block's windows */
    point_room rooms[MOST_THREADS];
    REAL *point_sums; /* [image][16][filter][channel]: what winograd.h sums of one block's kernel gradient */
    arena memory, tangents, indices;
} net;

/* Reserve memory. The first pass, without a base, only counts. Arrays begin at a multiple of 64 bytes, and at different
   places of a page, so that arrays which are read together do not compete for the same lines of the cache. */
static void *reserve(arena *a, size_t count, size_t size) {
    const size_t begin = (a->size + 63) / 64 * 64 + 576;
#ifdef GUARDS
    if (a->base) {
        if (a->count == sizeof a->gaps / sizeof a->gaps[0]) abort();
        const size_t end = a->size < BYTES ? 0 : a->size - BYTES;
        memset(a->base + end, GUARDS, begin - end);
        a->gaps[a->count].begin = end, a->gaps[a->count++].end = begin;
    }
#endif
    a->size = begin + count * size + BYTES; /* a vector may read beyond the end */
    return a->base ? a->base + begin : NULL;
}
static void close_arena(arena *a) { reserve(a, 0, 1); } /* a gap behind the last array too */
static int *integers(arena *a, long count) { return reserve(a, count, sizeof(int)); }
static REAL *numbers(arena *a, long count) { return reserve(a, count, sizeof(REAL)); }

/* Make the memory that a first pass has counted, zeroed, on huge pages where the system has them; 0 if that fails. */
static int make(arena *a) {
    const size_t page = (size_t)2 << 20, size = (a->size + page - 1) / page * page;
    if (posix_memalign((void **)&a->base, page, size)) return 0;
#ifdef MADV_HUGEPAGE
    madvise(a->base, size, MADV_HUGEPAGE);
#endif
    memset(a->base, 0, size);
    a->size = 0;
    return 1;
}

static int window_size(const block *b) { return 9 * b->channels; }
static int padded_side(int side, int stride, int before) { return stride == 1 ? side + 2 : side + 1 + before; }
static int padding_before(int side, int stride) { return stride == 2 && side % 2 == 0 ? 0 : 1; }
static int dy_side(const block *b) { return b->stride == 1 ? b->outputs + 2 : b->outputs + 1; }

/* Set the sizes of a product and reserve its indices. */
static void lay_out_product(arena *a, product *g, int group, int n, int spans, int taps, int tap, long row) {
    g->n = n, g->spans = spans, g->terms = taps * tap, g->tap = tap, g->row = row;
    g->at = integers(a, (long)group * n), g->to = integers(a, (long)group * n);
}

static void lay_out_forward(arena *a, block *b) {
    const int line = padded_side(b->side, b->stride, b->before) * b->channels;
    product *g = &b->forward;
    lay_out_product(a, g, b->group, b->pixels, 3, 3, b->channels, line);
    b->dy_at = integers(a, (long)b->group * b->pixels);
    if (!a->base) return;
    for (int p = 0; p < b->group * b->pixels; p++) {
        const int image = p / b->pixels, row = p % b->pixels / b->outputs, column = p % b->outputs;
        g->at[p] = image * b->x_image + row * b->stride * line + column * b->stride * b->channels;
        g->to[p] = p * b->filters;
        b->dy_at[p] = image * b->dy_image + ((row + 1) * dy_side(b) + column + 1) * b->filters;
    }
}

/* dx at a place is the sum over the taps of the windows that contain it. With stride 1 these are all nine. With stride
   2 a place with an even (padded) row is in two rows of windows, at taps 2 and 0, else in one, at tap 1; so with
   columns. That makes four products. */
static void lay_out_backward(arena *a, block *b) {
    const int line = dy_side(b) * b->filters, classes = b->stride == 1 ? 1 : 2;
    b->backwards = classes * classes;
    for (int c = 0; c < b->backwards; c++) {
        const int odd_row = c / 2, odd_column = c % 2;
        const int row_taps = b->stride == 1 ? 3 : 2 - odd_row, column_taps = b->stride == 1 ? 3 : 2 - odd_column;
        int n = 0;
        product *g = &b->backward[c];
        for (int pass = 0; pass < 2; pass++) { /* count, then fill */
            if (pass == 1) {
                lay_out_product(a, g, b->group, n, row_taps, column_taps, b->filters, line);
                if (!a->base) break;
            }
            n = 0;
            for (int p = 0; p < (pass ? b->group : 1) * b->side * b->side; p++) {
                const int place = p % (b->side * b->side), image = p / (b->side * b->side);
                const int row = place / b->side + b->before, column = place % b->side + b->before;
                if (classes == 2 && (row % 2 != odd_row || column % 2 != odd_column)) continue;
                if (pass) {
                    const int first_row = classes == 1 ? row - 1 : row / 2 + odd_row;
                    const int first_column = classes == 1 ? column - 1 : column / 2 + odd_column;
                    g->at[n] = image * b->dy_image + first_row * line + first_column * b->filters;
                    g->to[n] = p * b->channels;
                }
                n++;
            }
        }
    }
}

/* The grid of an image, and numbers from one row of a transposed map to the next. Shifts and whole steps need more room
   than the grid, and 16 rows are read at a time, so they lie an odd number of cache lines apart. */
static int grid_image(const block *b) { return dy_side(b) * dy_side(b); }
static long grid_row(const block *b) { return 32 * (((long)grid_image(b) + 2 * dy_side(b) + 2 + SIDE + 31) / 32 | 1); }
static long columns_image(const block *b) { return PARTS * b->channels * grid_row(b); }
static long pairs_plane(const block *b) { return grid_row(b) * b->filters; }

static void lay_out_windows(arena *a, block *b, int last) {
    b->window = integers(a, 4L * b->results);
    b->left = integers(a, b->pixels);
    b->into = integers(a, b->results);
    /* Results go into the next block's padded map, or are contiguous after the last block. */
    const int before = last ? 0 : padding_before(b->gives, b->stride);
    const int side = last ? b->gives : padded_side(b->gives, b->stride, before);
    b->next_image = (long)side * side * b->filters;
    if (!a->base) return;
    for (int p = 0; p < b->results; p++) {
        b->into[p] = ((p / b->gives + before) * side + p % b->gives + before) * b->filters;
        for (int w = 0; w < 4; w++) {
            const int row = p / b->gives * 2 + w / 2, column = p % b->gives * 2 + w % 2;
            b->window[4 * p + w] = row < b->outputs && column < b->outputs ? row * b->outputs + column : -1;
        }
    }
    b->lefts = 0;
    for (int p = 0; p < b->pixels; p++) {
        if (p / b->outputs >= 2 * b->gives || p % b->outputs >= 2 * b->gives) b->left[b->lefts++] = p;
    }
}

/* Numbers from one point of squares to the next: an odd number of cache lines, as all points are written at a time. */
static long plane_of(int filters) { return (long)SQUARES * filters + 64 / (long)sizeof(REAL); }

/* Set the sizes of a block and lay out its indices. */
static void lay_out(net *n, block *b, int index, int side) {
    const int valid = n->shape[SHAPE_POOL] == POOL_VALID;
    b->pooled = n->shape[SHAPE_POOL] != POOL_STRIDE;
    b->stored = index > 0 || !b->pooled;
    b->stride = b->pooled ? 1 : 2;
    b->channels = index == 0 ? n->shape[SHAPE_CHANNELS] : n->shape[SHAPE_FILTERS];
    b->filters = n->shape[SHAPE_FILTERS];
    b->side = side;
    b->before = padding_before(side, b->stride);
    b->outputs = (side + b->stride - 1) / b->stride;
    b->gives = !b->pooled ? b->outputs : valid ? side / 2 : (side + 1) / 2;
    b->pixels = b->outputs * b->outputs, b->results = b->gives * b->gives;
    b->tiles = n->tiles && index > 0 && b->stride == 1 && b->pixels >= TILES_LEAST;
    const int padded = padded_side(side, b->stride, b->before), most = b->tiles ? TILES_CHUNK : CHUNK;
    b->group = index == 0 ? 1 : least((LEAST + b->pixels - 1) / b->pixels, n->most_images);
    b->winograd =
        index > 0 && b->stride == 1 && b->pixels >= LEAST && b->side <= 2 * SQUARES && b->filters <= SQUARES_FILTERS;
    b->rows = b->pixels <= most ? b->outputs : most / b->outputs / 2 * 2;
    if (b->rows < 2) b->rows = 2;
    b->x_image = (long)padded * padded * b->channels;
    b->dy_image = (long)dy_side(b) * dy_side(b) * b->filters;
    lay_out_forward(&n->indices, b);
    if (index > 0) lay_out_backward(&n->indices, b);
    lay_out_windows(&n->indices, b, index == BLOCKS - 1);
}

/* Give a block the kernel in the forms that winograd.h needs. */
static void furnish_points(arena *a, const block *b, REAL **forward, REAL **backward) {
    const long size = b->winograd ? (long)POINTS * b->filters * b->channels : 0;
    *forward = numbers(a, size), *backward = numbers(a, size);
}

/* Give a block its arrays. */
static void furnish(net *n, block *b) {
    arena *a = &n->memory;
    const long images = n->most_images, filters = b->filters, map = (long)b->pixels * filters;
    b->x = numbers(a, images * b->x_image);
    b->y = b->stored ? numbers(a, images * map) : NULL;
    b->best = b->pooled ? numbers(a, images * b->results * filters) : b->y;
    b->which = b->pooled ? reserve(a, images * b->results * filters, 1) : NULL;
    b->dout = numbers(a, images * b->results * filters);
    b->dy = b->stored ? numbers(a, images * b->dy_image) : NULL;
    b->matrix = numbers(a, b->winograd ? 0 : filters * window_size(b));
    b->means = numbers(a, images * filters), b->squares = numbers(a, images * filters);
    b->mean = numbers(a, filters), b->inverse = numbers(a, filters);
    b->parts = numbers(a, images * SUMS * filters), b->sums = numbers(a, SUMS * filters);
    furnish_points(a, b, &b->points, &b->points_back);
}

/* Give a block what tiles need, for all images if several threads share them, else for one. */
static void furnish_tiles(net *n, block *b) {
    arena *a = &n->memory;
    const long images = n->most_images, slots = n->most_threads == 1 ? 1 : images;
    const long kernel = (long)b->filters * window_size(b);
    b->split_x = reserve(a, PARTS * images * b->x_image, sizeof(uint16_t));
    b->split_dy = reserve(a, PARTS * slots * b->dy_image, sizeof(uint16_t));
    b->columns = reserve(a, slots * columns_image(b), sizeof(uint16_t));
    b->pairs = reserve(a, slots * PARTS * pairs_plane(b), sizeof(uint16_t));
    b->tiled = reserve(a, PARTS * kernel, sizeof(uint16_t));
    b->split_kernel = reserve(a, PARTS * kernel, sizeof(uint16_t));
    b->tiled_back = reserve(a, PARTS * kernel, sizeof(uint16_t));
    b->dkernel = numbers(a, kernel);
}

static void furnish_tangents(net *n, block *b, int index) {
    arena *a = &n->tangents;
    const long images = n->most_images, filters = b->filters, map = (long)b->pixels * filters;
    b->x_t = index > 0 ? numbers(a, images * b->x_image) : NULL;
    b->y_t = b->stored ? numbers(a, images * map) : NULL;
    b->best_t = b->pooled ? numbers(a, images * b->results * filters) : b->y_t;
    b->dout_t = numbers(a, images * b->results * filters);
    b->dy_t = b->stored ? numbers(a, images * b->dy_image) : NULL;
    b->matrix_t = numbers(a, b->winograd ? 0 : filters * window_size(b));
    b->means_t = numbers(a, images * filters), b->slopes = numbers(a, images * filters);
    b->mean_t = numbers(a, filters), b->slope = numbers(a, filters);
    furnish_points(a, b, &b->points_t, &b->points_back_t);
}
