/* The products of blocks 2 to 4 with the matrix tiles (AMX) of newer Intel processors, in float32's precision.

   A tile instruction multiplies bfloat16 numbers and adds in float32. So each float32 number is split into three
   bfloat16 numbers, high + middle + low, which together have its 24 bits, and of the nine products of two numbers the
   six largest are added: hh, hm, hl, mh, mm, lh. The other three are below a unit of the last place.

   A tile has 16 rows of 64 bytes. dp(C, A, B) adds to C[16][16] the product of A[16][32] and B[32][16], where B holds
   pairs of rows: [16][16][2]. Here four C tiles make 32 x 32 sums, of which each step adds 32 terms.

   - y and dx: A is 32 windows of the split map; B is the split kernel.
   - dK[tap]: A is the transposed map [channel][place], B is dy as pairs of places. Both lie on the grid of the padded
     map, so that a tap is a shift.

   They pay for large maps only, as splitting a kernel and arranging maps costs as much as they save otherwise. Tangents
   are computed with vectors. */

#if defined(__x86_64__) && defined(__linux__) && defined(__AVX512BF16__) && !defined(DOUBLE) && \
    __has_include(<amxtileintrin.h>)
#define TILES 1
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TILE 512 /* bfloat16 numbers of a tile */

#ifdef EMULATED_TILES
#include "emulated_tiles.h"
#else
/* Whether the processor has tiles and the system lets this process use them. */
static int tiles_granted(void) {
    enum { ARCH_GET_XCOMP_PERM_ = 0x1022, ARCH_REQ_XCOMP_PERM_ = 0x1023, TILE_DATA = 18 };
    unsigned a = 7, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    if (!(d >> 22 & 1) || !(d >> 24 & 1)) return 0; /* AMX-BF16, AMX-TILE */
    unsigned long allowed = 0;
    return !syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM_, TILE_DATA) &&
           !syscall(SYS_arch_prctl, ARCH_GET_XCOMP_PERM_, &allowed) && allowed >> TILE_DATA & 1;
}

/* All eight tiles have 16 rows of 64 bytes. Each thread sets and releases its own. */
static void tiles_begin(void) {
    struct __attribute__((packed)) {
        uint8_t palette, start, unused[14];
        uint16_t columns[16];
        uint8_t rows[16];
    } shape = {.palette = 1};
    for (int k = 0; k < 8; k++) shape.columns[k] = 64, shape.rows[k] = 16;
    __asm__ volatile("ldtilecfg %0" ::"m"(shape) : "memory");
}
static void tiles_end(void) { __asm__ volatile("tilerelease" ::: "memory"); }

#define TILE_ZERO(T) __asm__ volatile("tilezero %%tmm" #T ::: "memory")
#define TILE_LOAD(T, FROM, STRIDE) \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #T ::"r"(FROM), "r"((long)(STRIDE)) : "memory")
#define TILE_STORE(T, TO, STRIDE) \
    __asm__ volatile("tilestored %%tmm" #T ", (%0,%1,1)" ::"r"(TO), "r"((long)(STRIDE)) : "memory")
#define TILE_ADD(C, A, B) __asm__ volatile("tdpbf16ps %%tmm" #B ", %%tmm" #A ", %%tmm" #C ::: "memory")
#endif

/* 16 rows of A in parts: where the first lies, and how far apart parts and rows are, in numbers. */
typedef struct {
    const uint16_t *at;
    long part, row;
} rows_of_a;

#define LOAD_A(T, A, PART_) TILE_LOAD(T, (A).at + (PART_) * (A).part, 2 * (A).row)

/* Add the six products of 32 rows and 32 columns to tiles 0 to 3. Columns 16 to 31 lie `second` after the others. */
INLINE void tile_step(const rows_of_a *a, const uint16_t *b, const long part, const long second, const long row) {
    UNROLL for (int k = 0; k < PARTS; k++) {
        LOAD_A(4, a[0], k);
        LOAD_A(5, a[1], k);
        UNROLL for (int m = 0; m < PARTS - k; m++) {
            TILE_LOAD(6, b + m * part, 2 * row);
            TILE_LOAD(7, b + m * part + second, 2 * row);
            TILE_ADD(0, 4, 6);
            TILE_ADD(1, 4, 7);
            TILE_ADD(2, 5, 6);
            TILE_ADD(3, 5, 7);
        }
    }
}

/* ---- splitting -------------------------------------------------------------------------------------------------- */

/* Split 16 numbers. What is infinite or NaN becomes NaN. */
INLINE void split(vector value, __m256i *parts) {
    UNROLL for (int part = 0; part < PARTS; part++) {
        parts[part] = (__m256i)_mm512_cvtneps_pbh((__m512)value);
        if (part < PARTS - 1) value -= (vector)_mm512_slli_epi32(_mm512_cvtepu16_epi32(parts[part]), 16);
    }
}

/* to[part] = 16 numbers; the parts of a map are `plane` numbers apart. */
INLINE void store_split(uint16_t *to, long plane, vector value) {
    __m256i parts[PARTS];
    split(value, parts);
    UNROLL for (int part = 0; part < PARTS; part++) _mm256_storeu_si256((__m256i *)(to + part * plane), parts[part]);
}

/* Split `count` numbers. */
static void split_map(const REAL *from, long count, uint16_t *to, long plane) {
    for (long k = 0; k < count; k += 16) store_split(to + k, plane, load(from + k));
}

/* Interleave 32 numbers with 32 others: 16 pairs each go to `low` and `high`. */
INLINE void interleave(const uint16_t *first, const uint16_t *second, uint16_t *low, uint16_t *high) {
    const __m512i places = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6,
                                            37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i a = _mm512_loadu_si512(first), b = _mm512_loadu_si512(second);
    _mm512_storeu_si512(low, _mm512_permutex2var_epi16(a, places, b));
    _mm512_storeu_si512(high, _mm512_permutex2var_epi16(a, _mm512_add_epi16(places, _mm512_set1_epi16(16)), b));
}

/* The kernel as B tiles: for the forward product [tap][32 channels][filter / 16][part] and, if wanted, for the backward
   product [8 - tap][32 filters][channel / 16][part]. */
static void tile_kernel(const block *b, const REAL *kernel, uint16_t *parts, uint16_t *forward, uint16_t *backward) {
    const int size = window_size(b), filters = b->filters, channels = b->channels;
    const long plane = (long)filters * size;
    split_map(kernel, plane, parts, plane);
    for (int step = 0; step < size / SIDE; step++) {
        for (int f = 0; f < filters; f += 16) {
            for (int part = 0; part < PARTS; part++, forward += TILE) {
                const uint16_t *from = parts + part * plane + (long)f * size + step * SIDE;
                __m512i rows[16];
                UNROLL for (int k = 0; k < 16; k++) rows[k] = _mm512_loadu_si512(from + k * size);
                transpose_16(rows);
                UNROLL for (int k = 0; k < 16; k++) _mm512_store_si512(forward + SIDE * k, rows[k]);
            }
        }
    }
    for (int tap = 8; backward && tap >= 0; tap--) {
        for (int f = 0; f < filters; f += SIDE, backward += (long)SIDE * channels * PARTS) {
            for (int part = 0; part < PARTS; part++) {
                for (int channel = 0; channel < channels; channel += SIDE) {
                    const uint16_t *from = parts + part * plane + (long)f * size + tap * channels + channel;
                    uint16_t *to = backward + (channel / 16 * PARTS + part) * TILE;
                    for (int k = 0; k < 16; k++, from += 2 * size, to += SIDE) {
                        interleave(from, from + size, to, to + PARTS * TILE);
                    }
                }
            }
        }
    }
}

/* ---- y and dx --------------------------------------------------------------------------------------------------- */

/* How far apart 16 windows lie; 0 if not equally far. */
static int distance_apart(const int *at) {
    for (int k = 2; k < 16; k++) {
        if (at[k] - at[k - 1] != at[1] - at[0]) return 0;
    }
    return at[1] - at[0];
}

/* out = the product of split windows for `count` outputs from number `first` on; in and matrix in parts. The windows
   of 16 outputs are read where they lie if they lie equally far apart, else from a copy. */
static void tile_product(const product *g, const uint16_t *in, long plane, const uint16_t *matrix, int width, REAL *out,
                         int first, int count) {
    _Alignas(64) uint16_t copies[2][2][PARTS][TILE]; /* of this step and the next */
    _Alignas(64) REAL sums[2][2][16][16];
    const int blocks = g->tap / SIDE, steps = 9 * blocks;
    for (int o = first; o < first + count; o += SIDE) {
        int outputs[2], apart[2];
        for (int half = 0; half < 2; half++) {
            const int *at = g->at + o + 16 * half;
            outputs[half] = least(16, first + count - o - 16 * half);
            apart[half] = outputs[half] == 16 ? distance_apart(at) : 0;
        }
        for (int f = 0; f < width; f += SIDE) {
            TILE_ZERO(0);
            TILE_ZERO(1);
            TILE_ZERO(2);
            TILE_ZERO(3);
            rows_of_a a[2][2];
            for (int step = -1; step < steps; step++) {
                const int next = step + 1, tap = next / blocks;
                const uint16_t *from = in + tap / 3 * g->row + tap % 3 * g->tap + next % blocks * SIDE;
                for (int half = 0; next < steps && half < 2; half++) {
                    const int *at = g->at + o + 16 * half;
                    if (apart[half]) {
                        a[next % 2][half] = (rows_of_a){from + at[0], plane, apart[half]};
                        continue;
                    }
                    uint16_t *copy = copies[next % 2][half][0];
                    a[next % 2][half] = (rows_of_a){copy, TILE, SIDE};
                    for (int k = 0; k < outputs[half]; k++) {
                        const uint16_t *row = from + at[k];
                        UNROLL for (int part = 0; part < PARTS; part++) {
                            _mm512_store_si512(copy + part * TILE + k * SIDE, _mm512_loadu_si512(row + part * plane));
                        }
                    }
                }
                if (step < 0) continue;
                const uint16_t *b = matrix + (long)(step * (width / 16) + f / 16) * PARTS * TILE;
                tile_step(a[step % 2], b, TILE, PARTS * TILE, SIDE);
            }
            TILE_STORE(0, sums[0][0], 64);
            TILE_STORE(1, sums[0][1], 64);
            TILE_STORE(2, sums[1][0], 64);
            TILE_STORE(3, sums[1][1], 64);
            for (int half = 0; half < 2; half++) {
                for (int k = 0; k < outputs[half]; k++) {
                    REAL *to = out + g->to[o + 16 * half + k] + f;
                    store(to, load(sums[half][0][k])), store(to + 16, load(sums[half][1][k]));
                }
            }
        }
    }
}

/* ---- dK --------------------------------------------------------------------------------------------------------- */

/* Transpose an image's split map to [part][channel][grid_row]. */
static void transpose_map(const block *b, const uint16_t *x, long plane, uint16_t *to) {
    const long row = grid_row(b), grid = grid_image(b);
    for (int part = 0; part < PARTS; part++, x += plane) {
        for (int c = 0; c < b->channels; c += SIDE, to += SIDE * row) {
            for (long q = 0; q < grid; q += 16) {
                __m512i rows[16];
                UNROLL for (int k = 0; k < 16; k++) {
                    rows[k] = q + k < grid ? _mm512_loadu_si512(x + (q + k) * b->channels + c) : _mm512_setzero_si512();
                }
                transpose_16(rows); /* rows[k]: channels 2 k and 2 k + 1 of 16 places */
                uint16_t *out = to + q;
                UNROLL for (int k = 0; k < 16; k++, out += 2 * row) {
                    const __m512i odd = _mm512_srli_epi32(rows[k], 16);
                    _mm256_storeu_si256((__m256i *)out, _mm512_cvtepi32_epi16(rows[k]));
                    _mm256_storeu_si256((__m256i *)(out + row), _mm512_cvtepi32_epi16(odd));
                }
            }
        }
    }
}

/* The split dy of an image as [part][pair of places][filter][2]. Place 0 is that of the first output. */
static void pair_places(const block *b, const uint16_t *dy, long plane, uint16_t *to) {
    static const uint16_t zeros[SIDE];
    const int filters = b->filters;
    const long first = dy_side(b) + 1, end = grid_image(b) - first;
    for (int part = 0; part < PARTS; part++, dy += plane, to += pairs_plane(b)) {
        for (long q = 0; q < end + SIDE; q += 2) {
            for (int f = 0; f < filters; f += SIDE) {
                const uint16_t *from = dy + (first + q) * filters + f;
                uint16_t *pair = to + q * filters + 2 * f;
                interleave(q < end ? from : zeros, q + 1 < end ? from + filters : zeros, pair, pair + SIDE);
            }
        }
    }
}

/* The sums of a kernel's gradient are in units of 32 filters, 32 channels and a tap. */
static int tile_units(const block *b) { return 9 * (b->channels / SIDE) * (b->filters / SIDE); }
typedef struct {
    int filter, channel, tap;
} tile_unit;
static tile_unit unit_at(const block *b, int number) {
    const int square = number / 9, across = b->channels / SIDE;
    return (tile_unit){square / across * SIDE, square % across * SIDE, number % 9};
}

#define AT_ONCE_STEPS 3 /* steps whose maps stay in the first-level cache for all taps */

/* Units `begin` to `end` of dkernel [tap][channel][filter] += the sums over an image. */
static void tile_kernel_sums(const block *b, const uint16_t *columns, const uint16_t *pairs, REAL *dkernel, int begin,
                             int end) {
    const int filters = b->filters, channels = b->channels, pitch = dy_side(b);
    const long row = grid_row(b), last = grid_image(b) - pitch - 1, line = sizeof(REAL) * filters;
    for (int square = begin / 9; square <= (end - 1) / 9; square++) {
        for (long q0 = 0; q0 < last; q0 += AT_ONCE_STEPS * SIDE) {
            const long q1 = q0 + AT_ONCE_STEPS * SIDE < last ? q0 + AT_ONCE_STEPS * SIDE : last;
            for (int number = begin > 9 * square ? begin : 9 * square; number < least(end, 9 * square + 9); number++) {
                const tile_unit u = unit_at(b, number);
                const uint16_t *a = columns + u.channel * row + u.tap / 3 * pitch + u.tap % 3;
                REAL *to = dkernel + ((long)u.tap * channels + u.channel) * filters + u.filter;
                TILE_LOAD(0, to, line);
                TILE_LOAD(1, to + 16, line);
                TILE_LOAD(2, to + 16 * filters, line);
                TILE_LOAD(3, to + 16 * filters + 16, line);
                for (long q = q0; q < q1; q += SIDE) {
                    const long part = channels * row;
                    const rows_of_a rows[2] = {{a + q, part, row}, {a + q + 16 * row, part, row}};
                    tile_step(rows, pairs + q * filters + 2 * u.filter, pairs_plane(b), SIDE, 2 * filters);
                }
                TILE_STORE(0, to, line);
                TILE_STORE(1, to + 16, line);
                TILE_STORE(2, to + 16 * filters, line);
                TILE_STORE(3, to + 16 * filters + 16, line);
            }
        }
    }
}

/* Add these units to the gradient [filter][tap][channel], and clear them. */
static void tile_kernel_add(const block *b, REAL *dkernel, REAL *gradient, int begin, int end) {
    const int filters = b->filters, channels = b->channels;
    for (int number = begin; number < end; number++) {
        const tile_unit u = unit_at(b, number);
        for (int part = 0; part < 4; part++) {
            const int channel = u.channel + part / 2 * 16, filter = u.filter + part % 2 * 16;
            __m512i rows[16];
            UNROLL for (int k = 0; k < 16; k++) {
                REAL *from = dkernel + ((long)u.tap * channels + channel + k) * filters + filter;
                rows[k] = (__m512i)load(from);
                store(from, spread(0));
            }
            transpose_16(rows);
            UNROLL for (int k = 0; k < 16; k++) {
                REAL *to = gradient + (long)(filter + k) * window_size(b) + u.tap * channels + channel;
                store(to, load(to) + (vector)rows[k]);
            }
        }
    }
}
#else
#define TILES 0
#define NOTHING ((void)0)
#define tiles_granted() 0
#define tiles_begin() NOTHING
#define tiles_end() NOTHING
#define tile_units(...) 0
#define store_split(...) NOTHING
#define tile_kernel(...) NOTHING
#define tile_product(...) NOTHING
#define transpose_map(...) NOTHING
#define pair_places(...) NOTHING
#define tile_kernel_sums(...) NOTHING
#define tile_kernel_add(...) NOTHING
#endif
