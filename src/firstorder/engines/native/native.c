/* The inner loop of the networks of method/networks.py on CPU cores: hand-written gradients, steps and Hessian
   products. It computes what method/inner_loop.py defines, and is tested against it.

   vectors.h, products.h  vectors, and the two loops that do nearly all the work
   layout.h               where everything lies in memory
   convolution.h          the three products of a convolution
   winograd.h             those of blocks 2 to 4 with fewer multiplications, for networks that pool
   tiles.h                those of blocks 2 to 4 with matrix tiles, where the processor has them
   normalisation.h        batch normalisation, maximum and rectifier
   first_block.h          the first block, where windows are small and the map is large
   team.h                 threads
   profile.h              clocks, if wanted
   this file              the network, the steps, and what Python calls */

#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "vectors.h"
#include "products.h"
#include "layout.h"
#include "profile.h"
#include "convolution.h"
#include "winograd.h"
#include "tiles.h"
#include "normalisation.h"
#include "first_block.h"
#include "team.h"

/* A mini-batch, and what is wanted of it. */
typedef struct {
    net *n;
    const REAL *parameters, *direction; /* direction: NULL, or that of the Hessian product */
    pixels images;
    const int64_t *labels; /* NULL: only logits are wanted */
    int count;
    REAL *gradient;
} work;

/* The images of thread `rank` are from `begin` to `end`. */
#define MY_IMAGES const int begin = rank * w->count / t->threads, end = (rank + 1) * w->count / t->threads

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

/* Order features for the dense layer: filter by filter, or their mean over the positions. */
static void flatten(const net *n, const REAL *map, REAL *flat, int images) {
    const int places = n->blocks[BLOCKS - 1].results, filters = n->blocks[BLOCKS - 1].filters;
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
    const int places = n->blocks[BLOCKS - 1].results, filters = n->blocks[BLOCKS - 1].filters;
    for (int i = 0; i < images; i++) {
        for (int p = 0; p < places; p++) {
            for (int f = 0; f < filters; f++) {
                map[((long)i * places + p) * filters + f] = n->shape[SHAPE_MEAN]
                                                                ? flat[(long)i * n->features + f] / places
                                                                : flat[(long)i * n->features + f * places + p];
            }
        }
    }
}

/* Whether a block's products are computed with tiles. */
static int uses_tiles(const work *w, int index) { return TILES && w->n->blocks[index].tiles && !w->direction; }

/* Whether they are computed by Winograd's method. */
static int uses_winograd(const work *w, int index) { return w->n->blocks[index].winograd && !uses_tiles(w, index); }

/* The convolution of images `begin` to `end`, its moments, and what is kept of it. */
static void forward_block(const work *w, int rank, int index, int begin, int end) {
    net *n = w->n;
    const block *b = &n->blocks[index];
    const long map = (long)b->pixels * b->filters;
    const int tangents = w->direction != NULL, tiles = uses_tiles(w, index), winograd = uses_winograd(w, index);
    if (!b->stored) {
        for (int i = begin; i < end; i++) forward_first(b, w->parameters, i, tangents, n->rows[rank], n->rows_t[rank]);
        return;
    }
    for (int i = begin; i < end; i += b->group) {
        const int images = least(b->group, end - i);
        const REAL *x = b->x + i * b->x_image, *x_t = index && tangents ? b->x_t + i * b->x_image : NULL;
        REAL *y = b->y + i * map, *y_t = tangents ? b->y_t + i * map : NULL;
        const int step = winograd ? 2 * rows_of_squares(b) : b->rows; /* rows at a time: all, of several images */
        for (int row = 0; row < b->outputs; row += step) {
            const int rows = least(step, b->outputs - row), first = row * b->outputs;
            const int count = b->group > 1 ? images * b->pixels : rows * b->outputs;
            if (tiles) {
                tile_product(&b->forward, b->split_x + i * b->x_image, n->most_images * b->x_image, b->tiled,
                             b->filters, y, first, count);
            } else if (winograd) {
                const point_room room = n->rooms[rank];
                convolve_squares(b, x, b->points, row / 2, (rows + 1) / 2, room, y, 0);
                if (tangents) convolve_squares(b, x, b->points_t, row / 2, (rows + 1) / 2, room, y_t, 0);
                if (tangents) convolve_squares(b, x_t, b->points, row / 2, (rows + 1) / 2, room, y_t, 1);
            } else {
                convolve(&b->forward, x, b->matrix, b->filters, y, first, first, count, 0);
            }
            if (tangents && !winograd) {
                convolve(&b->forward, x, b->matrix_t, b->filters, y_t, first, first, count, 0);
                if (x_t) convolve(&b->forward, x_t, b->matrix, b->filters, y_t, first, first, count, 1);
            }
            END_PHASE(index, Y);
            for (int k = 0; k < images; k++) {
                const REAL *part = y + k * map + (long)first * b->filters, *part_t = tangents ? y_t + (part - y) : NULL;
                moments(b, i + k, part, part_t, rows * b->outputs, first);
                if (b->pooled) pool(b, w->parameters, i + k, part, part_t, row, rows);
            }
            END_PHASE(index, MOMENTS);
        }
    }
}

/* Compute all maps and logits and, with a direction [parameters], their tangents. */
static void forward(const work *w, team *t, int rank) {
    net *n = w->n;
    const int way = n->shape[SHAPE_WAY];
    MY_IMAGES;
    for (int index = rank; index < BLOCKS; index += t->threads) {
        const block *b = &n->blocks[index];
        if (uses_tiles(w, index)) {
            tile_kernel(b, w->parameters + b->kernel, b->split_kernel, b->tiled, w->labels ? b->tiled_back : NULL);
        } else if (uses_winograd(w, index)) {
            take_kernel(b, w->parameters + b->kernel, b->points, b->points_back);
            if (w->direction) take_kernel(b, w->direction + b->kernel, b->points_t, b->points_back_t);
        } else {
            transpose(w->parameters + b->kernel, b->filters, window_size(b), b->matrix);
            if (w->direction) transpose(w->direction + b->kernel, b->filters, window_size(b), b->matrix_t);
        }
        END_PHASE(index, KERNELS);
    }
    const block *first = &n->blocks[0];
    const int window = window_size(first);
    for (int i = begin; i < end; i++) {
        take_image(first, w->images, i, first->x + i * first->x_image);
        if (w->labels && !first->stored)
            gram(first, first->x + i * first->x_image, n->grams + (long)i * (window + 1) * window);
    }
    END_PHASE(0, IMAGES);
    barrier(t);
    for (int index = 0; index < BLOCKS; index++) {
        const block *b = &n->blocks[index];
        forward_block(w, rank, index, begin, end);
        barrier(t);
        if (rank == 0) batch_moments(n, b, w->count, w->direction != NULL);
        barrier(t);
        END_PHASE(index, MOMENTS);
        const int last = index == BLOCKS - 1;
        REAL *out = last ? n->last : b[1].x, *out_t = last ? n->last_t : b[1].x_t;
        uint16_t *split = !last && uses_tiles(w, index + 1) ? b[1].split_x : NULL;
        for (int i = begin; i < end; i++) {
            if (w->direction) activate(1, b, w->parameters, w->direction, i, out, out_t, NULL, 0);
            else activate(0, b, w->parameters, NULL, i, out, NULL, split, n->most_images * b->next_image);
        }
        END_PHASE(index, ACTIVATION);
    }
    barrier(t);
    if (rank > 0) return;
    flatten(n, n->last, n->flat, w->count);
    if (w->direction) flatten(n, n->last_t, n->flat_t, w->count);
    for (int i = 0; i < w->count; i++) {
        for (int k = 0; k < way; k++) {
            const REAL *weights = w->parameters + n->head + (long)k * n->features,
                       *flat = n->flat + (long)i * n->features;
            n->logits[i * way + k] = dot(weights, flat, n->features) + w->parameters[n->bias + k];
            if (!w->direction) continue;
            n->logits_t[i * way + k] = dot(w->direction + n->head + (long)k * n->features, flat, n->features) +
                                       dot(weights, n->flat_t + (long)i * n->features, n->features) +
                                       w->direction[n->bias + k];
        }
    }
    END_PHASE(NETWORK, HEAD);
}

/* Replace logits by the gradient of the summed cross entropy, and their tangents by its tangent. */
static void softmax(const work *w) {
    const net *n = w->n;
    const int way = n->shape[SHAPE_WAY];
    for (int i = 0; i < w->count; i++) {
        REAL *logits = n->logits + i * way, largest = logits[0], sum = 0, mean_t = 0;
        for (int k = 1; k < way; k++) largest = logits[k] > largest ? logits[k] : largest;
        for (int k = 0; k < way; k++) sum += logits[k] = EXPONENTIAL(logits[k] - largest);
        for (int k = 0; k < way; k++) logits[k] /= sum;
        if (w->direction) {
            REAL *tangents = n->logits_t + i * way;
            for (int k = 0; k < way; k++) mean_t += logits[k] * tangents[k];
            for (int k = 0; k < way; k++) tangents[k] = logits[k] * (tangents[k] - mean_t);
        }
        logits[w->labels[i]] -= 1;
    }
}

/* The dense layer's gradients, and that of the last map. */
static void backward_head(const work *w) {
    net *n = w->n;
    const int way = n->shape[SHAPE_WAY], features = n->features;
    memset(n->dflat, 0, sizeof(REAL) * w->count * features);
    if (w->direction) memset(n->dflat_t, 0, sizeof(REAL) * w->count * features);
    for (int i = 0; i < w->count; i++) {
        for (int k = 0; k < way; k++) {
            const REAL slope = n->logits[i * way + k], *weights = w->parameters + n->head + (long)k * features;
            const long at = (long)i * features;
            REAL *out = w->gradient + n->head + (long)k * features;
            add_scaled(n->dflat + at, slope, weights, features);
            if (w->direction) {
                const REAL slope_t = n->logits_t[i * way + k];
                w->gradient[n->bias + k] += slope_t;
                add_scaled(out, slope_t, n->flat + at, features);
                add_scaled(out, slope, n->flat_t + at, features);
                add_scaled(n->dflat_t + at, slope_t, weights, features);
                add_scaled(n->dflat_t + at, slope, w->direction + n->head + (long)k * features, features);
            } else {
                w->gradient[n->bias + k] += slope;
                add_scaled(out, slope, n->flat + at, features);
            }
        }
    }
    unflatten(n, n->dflat, n->blocks[BLOCKS - 1].dout, w->count);
    if (w->direction) unflatten(n, n->dflat_t, n->blocks[BLOCKS - 1].dout_t, w->count);
}

/* Numbers from one part of a split dy to the next. */
static long dy_plane(const net *n, const block *b) { return (n->most_threads == 1 ? 1 : n->most_images) * b->dy_image; }

/* dy of image i, at number `slot` of its map. */
static void input_gradient(const work *w, const block *b, int i, int slot, int tiles) {
    const int tangents = w->direction != NULL;
    uint16_t *split = tiles ? b->split_dy : NULL;
    const long plane = tiles ? dy_plane(w->n, b) : 0;
#define CALL(pooled, tangents) \
    normalisation_input(pooled, tangents, b, w->parameters, w->direction, w->count, i, slot, split, plane)
    if (b->pooled && tangents) CALL(1, 1);
    else if (b->pooled) CALL(1, 0);
    else if (tangents) CALL(0, 1);
    else CALL(0, 0);
#undef CALL
}

/* The gradient of the first block's kernel, images `begin` to `end`: see first_block.h. */
static void backward_first(const work *w, int rank, int begin, int end) {
    net *n = w->n;
    const block *b = &n->blocks[0];
    const long share = (long)window_size(b) * b->filters;
    for (int i = begin; i < end; i++) {
        if (!b->stored) {
            windows_of_gradient(b, w->parameters, i, n->rows[rank], n->shares + i * share, b->dout);
            if (w->direction)
                windows_of_gradient(b, w->parameters, i, n->rows[rank], n->shares_t + i * share, b->dout_t);
            continue;
        }
        input_gradient(w, b, i, i, 0);
        END_PHASE(0, DY);
        memset(n->shares + i * share, 0, sizeof(REAL) * share);
        add_windows(b, b->x + i * b->x_image, 0, b->pixels, (w->direction ? b->dy_t : b->dy) + i * b->dy_image,
                    b->dy_at, n->shares + i * share);
        END_PHASE(0, DK);
    }
}

/* Add the kernel's gradient, filters `first` to `last`, from `images` images whose dy begins at number `slot`. */
static void kernel_gradient(const work *w, const block *b, int i, int images, int slot, int first, int last) {
    const REAL *x = b->x + i * b->x_image, *dy = b->dy + slot * b->dy_image;
    REAL *to = w->gradient + b->kernel;
    convolve_kernel(b, x, w->direction ? b->dy_t + slot * b->dy_image : dy, to, images, first, last);
    if (w->direction) convolve_kernel(b, b->x_t + i * b->x_image, dy, to, images, first, last);
}

/* Bring the maps of image i, whose dy is number `slot`, into the forms that tiles need for the kernel's gradient. */
static void tile_maps(const work *w, const block *b, int i, int slot) {
    transpose_map(b, b->split_x + i * b->x_image, w->n->most_images * b->x_image, b->columns + slot * columns_image(b));
    pair_places(b, b->split_dy + slot * b->dy_image, dy_plane(w->n, b), b->pairs + slot * PARTS * pairs_plane(b));
}

/* Add image number `slot` to the sums of the kernel's gradient, units `first` to `last`. */
static void tile_sums(const block *b, int slot, int first, int last) {
    tile_kernel_sums(b, b->columns + slot * columns_image(b), b->pairs + slot * PARTS * pairs_plane(b), b->dkernel,
                     first, last);
}

/* The gradients of a kernel and of its block's input. One thread does both for a few images at a time, while their maps
   are in the cache. Several threads first share the images, then the filters. */
static void backward_block(const work *w, team *t, int rank, int index, int begin, int end) {
    const block *b = &w->n->blocks[index], *before = b - 1;
    const long result = (long)b->side * b->side * b->channels;
    const int alone = t->threads == 1, filters = b->filters, tiles = uses_tiles(w, index);
    for (int i = begin; i < end; i += b->group) {
        const int images = least(b->group, end - i), slot = alone ? 0 : i;
        const REAL *dy = b->dy + slot * b->dy_image, *dy_t = w->direction ? b->dy_t + slot * b->dy_image : NULL;
        for (int k = 0; k < images; k++) input_gradient(w, b, i + k, slot + k, tiles);
        END_PHASE(index, DY);
        REAL *dx = before->dout + i * result, *dx_t = w->direction ? before->dout_t + i * result : NULL;
        if (tiles) {
            tile_product(&b->backward[0], b->split_dy + slot * b->dy_image, dy_plane(w->n, b), b->tiled_back,
                         b->channels, dx, 0, b->side * b->side);
        } else {
            convolve_input(b, dy, w->parameters + b->kernel, dx, images, 0);
        }
        if (w->direction) {
            convolve_input(b, dy_t, w->parameters + b->kernel, dx_t, images, 0);
            convolve_input(b, dy, w->direction + b->kernel, dx_t, images, 1);
        }
        END_PHASE(index, DX);
        if (tiles) tile_maps(w, b, i, slot);
        if (alone && tiles) tile_sums(b, slot, 0, tile_units(b));
        else if (alone) kernel_gradient(w, b, i, images, slot, 0, filters);
        END_PHASE(index, DK);
    }
    if (!alone) barrier(t);
    if (tiles) {
        const int first = rank * tile_units(b) / t->threads, last = (rank + 1) * tile_units(b) / t->threads;
        for (int i = 0; i < w->count && !alone; i++) tile_sums(b, i, first, last);
        tile_kernel_add(b, b->dkernel, w->gradient + b->kernel, first, last);
        return;
    }
    if (alone) return;
    for (int i = 0; i < w->count; i += b->group) {
        kernel_gradient(w, b, i, least(b->group, w->count - i), i, rank * filters / t->threads,
                        (rank + 1) * filters / t->threads);
    }
}

/* The same by Winograd's method. Each image has sums of its own, which are added in the images' order. */
static void backward_squares(const work *w, team *t, int rank, int index, int begin, int end) {
    const net *n = w->n;
    const block *b = &n->blocks[index], *before = b - 1;
    const long result = (long)b->pixels * b->filters, sums = (long)POINTS * b->filters * b->filters;
    const point_room room = n->rooms[rank];
    for (int i = begin; i < end; i++) {
        const int slot = t->threads == 1 ? 0 : i;
        const REAL *dy = b->dy + slot * b->dy_image, *dy_t = w->direction ? b->dy_t + slot * b->dy_image : NULL;
        input_gradient(w, b, i, slot, 0);
        END_PHASE(index, DY);
        input_by_squares(b, dy, b->points_back, room, before->dout + i * result, 0);
        if (dy_t) input_by_squares(b, dy_t, b->points_back, room, before->dout_t + i * result, 0);
        if (dy_t) input_by_squares(b, dy, b->points_back_t, room, before->dout_t + i * result, 1);
        END_PHASE(index, DX);
        REAL *mine = n->point_sums + i * sums;
        memset(mine, 0, sizeof(REAL) * sums);
        add_squares(b, b->x + i * b->x_image, dy_t ? dy_t : dy, room, mine);
        if (dy_t) add_squares(b, b->x_t + i * b->x_image, dy, room, mine);
        END_PHASE(index, DK);
    }
    barrier(t);
    give_kernel(b, n->point_sums, w->count, rank * b->filters / t->threads, (rank + 1) * b->filters / t->threads,
                w->gradient + b->kernel);
}

/* Add to `gradient` the gradient of the summed cross entropy or, with a direction, the Hessian times the direction. */
static void backward(const work *w, team *t, int rank) {
    net *n = w->n;
    MY_IMAGES;
    if (rank == 0) {
        softmax(w);
        backward_head(w);
    }
    barrier(t);
    END_PHASE(NETWORK, HEAD);
    for (int index = BLOCKS - 1; index >= 0; index--) {
        const block *b = &n->blocks[index];
        const int which = w->direction ? DZ_T : DZ;
        for (int i = begin; i < end; i++) {
            if (w->direction) normalisation_sums(1, b, w->parameters, w->direction, i);
            else normalisation_sums(0, b, w->parameters, NULL, i);
        }
        barrier(t);
        if (rank == 0) {
            batch_sums(b, w->count);
            for (int f = 0; f < b->filters; f++) {
                w->gradient[b->shift + f] += b->sums[which * b->filters + f];
                if (b->scale >= 0) w->gradient[b->scale + f] += b->sums[(which + 1) * b->filters + f];
            }
        }
        barrier(t);
        END_PHASE(index, DZ_SUMS);
        if (index == 0) backward_first(w, rank, begin, end);
        else if (uses_winograd(w, index)) backward_squares(w, t, rank, index, begin, end);
        else backward_block(w, t, rank, index, begin, end);
        END_PHASE(index, DK);
    }
    barrier(t);
    if (rank > 0) return;
    if (n->blocks[0].stored) kernel_of_shares(n, w->count, w->gradient);
    else kernel_of_windows(n, w->parameters, w->direction, w->count, w->gradient);
    END_PHASE(0, DK);
}

/* ---- making a network -------------------------------------------------------------------------------------------- */

static void lay_out_all(net *n) {
    const int *shape = n->shape, images = n->most_images;
    int side = shape[SHAPE_SIZE];
    n->parameters = 0;
    for (int index = 0; index < BLOCKS; index++) {
        block *b = &n->blocks[index];
        lay_out(n, b, index, side);
        furnish(n, b);
        if (b->tiles) furnish_tiles(n, b);
        b->kernel = n->parameters;
        n->parameters += (long)b->filters * window_size(b);
        b->scale = -1;
        if (shape[SHAPE_SCALE]) b->scale = n->parameters, n->parameters += b->filters;
        b->shift = n->parameters, n->parameters += b->filters;
        side = b->gives;
    }
    const block *first = &n->blocks[0];
    const long filters = first->filters, window = window_size(first), map = (long)images * side * side * filters;
    n->features = shape[SHAPE_MEAN] ? filters : side * side * filters;
    n->head = n->parameters, n->parameters += (long)shape[SHAPE_WAY] * n->features;
    n->bias = n->parameters, n->parameters += shape[SHAPE_WAY];
    n->last = numbers(&n->memory, map);
    n->flat = numbers(&n->memory, map), n->dflat = numbers(&n->memory, map);
    n->logits = numbers(&n->memory, (long)images * shape[SHAPE_WAY]);
    n->shares = numbers(&n->memory, images * window * filters);
    n->grams = reserve(&n->memory, images * (window + 1) * window, sizeof(double));
    const long rows = 2L * first->outputs * filters, places = 16L * first->channels * first->gives;
    int winograd = 0;
    for (int index = 0; index < BLOCKS; index++) winograd |= n->blocks[index].winograd;
    const long sums = winograd ? POINTS * filters * filters : 0, room = winograd ? POINTS * plane_of(filters) : 0;
    n->point_sums = numbers(&n->memory, images * sums);
    for (int k = 0; k < n->most_threads; k++) {
        n->rows[k] = numbers(&n->memory, first->stored ? 0 : rows > places ? rows : places);
        n->rooms[k] = (point_room){numbers(&n->memory, room), numbers(&n->memory, room)};
    }
    close_arena(&n->memory), close_arena(&n->indices);
}

static void furnish_all_tangents(net *n) {
    for (int index = 0; index < BLOCKS; index++) furnish_tangents(n, &n->blocks[index], index);
    const block *first = &n->blocks[0];
    const long images = n->most_images, map = images * n->blocks[BLOCKS - 1].results * first->filters;
    n->last_t = numbers(&n->tangents, map);
    n->flat_t = numbers(&n->tangents, map), n->dflat_t = numbers(&n->tangents, map);
    n->logits_t = numbers(&n->tangents, images * n->shape[SHAPE_WAY]);
    n->shares_t = numbers(&n->tangents, images * window_size(first) * first->filters);
    for (int k = 0; k < n->most_threads; k++) {
        n->rows_t[k] = numbers(&n->tangents, first->stored ? 0 : 2L * first->outputs * first->filters);
    }
    close_arena(&n->tangents);
}

void net_free(net *n) {
    free(n->memory.base), free(n->indices.base), free(n->tangents.base);
    free(n);
}

/* Whether this library and this processor can use tiles. */
int has_tiles(void) { return tiles_granted(); }

#ifdef GUARDS
static long changed(const arena *a) {
    long bytes = 0;
    for (int k = 0; k < a->count; k++) {
        for (size_t at = a->gaps[k].begin; at < a->gaps[k].end; at++) bytes += (uint8_t)a->base[at] != GUARDS;
    }
    return bytes;
}

/* Number of bytes between arrays that have been written to. */
long net_overruns(const net *n) { return changed(&n->memory) + changed(&n->indices) + changed(&n->tangents); }
#endif

/* Make a network for mini-batches of up to `images` images and up to `threads` threads, with tiles if they are wanted
   and there are any; NULL if its filters do not fill whole vectors or there is too little memory. */
net *net_new(const int *shape, int images, int threads, int tiles) {
    if (shape[SHAPE_FILTERS] % WIDE || threads < 1 || threads > MOST_THREADS) return NULL;
    net *n = calloc(1, sizeof *n);
    if (!n) return NULL;
    memcpy(n->shape, shape, sizeof n->shape);
    n->most_images = images, n->most_threads = threads;
    n->tiles = tiles && shape[SHAPE_FILTERS] % SIDE == 0 && tiles_granted();
    lay_out_all(n);
    if (!make(&n->memory) || !make(&n->indices)) return net_free(n), NULL;
    lay_out_all(n);
    return n;
}

/* Allocate tangents when first needed: they double the memory, and only second order uses them. 0 if that fails. */
static int make_tangents(net *n) {
    if (n->tangents.base) return 1;
    furnish_all_tangents(n);
    if (!make(&n->tangents)) return 0;
    furnish_all_tangents(n);
    return 1;
}

/* ---- the steps, by all threads of a team ------------------------------------------------------------------------ */

/* Logits or, with labels, the gradient or the product. */
static void compute(const work *w, team *t, int rank) {
    forward(w, t, rank);
    if (w->labels) backward(w, t, rank);
}

static void derivative(team *t, int rank, void *given) {
    const work *w = given;
    BEGIN_PHASES(rank);
    if (w->n->tiles) tiles_begin();
    compute(w, t, rank);
    if (w->n->tiles) tiles_end();
}

typedef struct {
    work batch;
    REAL *parameters, *second_moments;
    const REAL *adapted, *rates;
    int steps;
} adaptation;

/* Take one step with `count` parameters from number k on, at most a vector: see net_adapt. */
INLINE void update_some(const adaptation *a, int step, long k, const int count) {
    const net *n = a->batch.n;
    const REAL beta2 = (REAL)n->beta2, rest = (REAL)(1 - n->beta2);
    vector slope = load_some(a->batch.gradient + k, count), parameters = load_some(a->parameters + k, count);
    if (a->adapted) slope *= load_some(a->adapted + k, count);
    vector change = slope;
    if (a->second_moments) {
        const vector moments = beta2 * load_some(a->second_moments + k, count) + rest * slope * slope;
        store_some(a->second_moments + k, moments, count);
        change = over_root(slope, moments, (REAL)n->adam_epsilon);
    }
    store_some(a->parameters + k, parameters - a->rates[step] * change, count);
}

/* Take one step with the parameters from `begin` to `end`. */
static void update(const adaptation *a, int step, long begin, long end) {
    for (; begin + WIDE <= end; begin += WIDE) update_some(a, step, begin, WIDE);
    if (begin < end) update_some(a, step, begin, end - begin);
}

static void adapt(team *t, int rank, void *given) {
    const adaptation *a = given;
    work w = a->batch;
    const net *n = w.n;
    const long begin = rank * n->parameters / t->threads, end = (rank + 1) * n->parameters / t->threads;
    BEGIN_PHASES(rank);
    if (n->tiles) tiles_begin();
    for (int step = 0; step < a->steps; step++) {
        memset(w.gradient + begin, 0, sizeof(REAL) * (end - begin));
        END_PHASE(NETWORK, OPTIMISER);
        compute(&w, t, rank);
        barrier(t);
        update(a, step, begin, end);
        barrier(t);
        END_PHASE(NETWORK, OPTIMISER);
        w.images.first += w.count;
        w.labels += w.count;
    }
    if (n->tiles) tiles_end();
}

/* ---- what Python calls ------------------------------------------------------------------------------------------- */

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

/* The functions below compute with up to `threads` threads and return 1, or 0 if there is too little memory. `images`
   are REAL if `scale` is 0, else bytes, to be divided by `scale`. */

/* logits [images][way] */
int net_logits(net *n, int threads, const REAL *parameters, const void *images, int scale, int count, REAL *logits) {
    work w = {.n = n, .parameters = parameters, .images = {images, scale, 0}, .count = count};
    together(least(threads, n->most_threads), derivative, &w);
    memcpy(logits, n->logits, sizeof(REAL) * count * n->shape[SHAPE_WAY]);
    return 1;
}

/* gradient [parameters] of the cross entropy summed over the mini-batch */
int net_gradient(net *n, int threads, const REAL *parameters, const void *images, int scale, const int64_t *labels,
                 int count, REAL *gradient) {
    work w = {n, parameters, NULL, {images, scale, 0}, labels, count, gradient};
    memset(gradient, 0, sizeof(REAL) * n->parameters);
    together(least(threads, n->most_threads), derivative, &w);
    return 1;
}

/* product [parameters]: the Hessian of the same loss, times direction */
int net_hessian_product(net *n, int threads, const REAL *parameters, const void *images, int scale,
                        const int64_t *labels, int count, const REAL *direction, REAL *product) {
    if (!make_tangents(n)) return 0;
    work w = {n, parameters, direction, {images, scale, 0}, labels, count, product};
    memset(product, 0, sizeof(REAL) * n->parameters);
    together(least(threads, n->most_threads), derivative, &w);
    return 1;
}

/* Take steps in place: of gradient descent (rates[step] is alpha) or, if there are second moments, of Adam with
   beta1 = 0 in TensorFlow's form (rates[step] includes the bias correction). adapted: NULL, or 0 where a parameter is
   not changed. images [step][image]...; gradient: a buffer for one gradient. */
int net_adapt(net *n, int threads, REAL *parameters, REAL *second_moments, const REAL *adapted, const void *images,
              int scale, const int64_t *labels, int steps, int count, const REAL *rates, REAL *gradient) {
    adaptation a = {{n, parameters, NULL, {images, scale, 0}, labels, count, gradient},
                    parameters,
                    second_moments,
                    adapted,
                    rates,
                    steps};
    together(least(threads, n->most_threads), adapt, &a);
    return 1;
}
