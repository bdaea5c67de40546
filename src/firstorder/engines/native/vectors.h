/* Vectors of the processor, as GNU C's vector extensions: gcc or clang, any processor.

   REAL is float or, with -DDOUBLE (for the tests), double. */

#ifdef __x86_64__
#include <immintrin.h>
#endif

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

typedef REAL vector __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
typedef INTEGER mask __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias)); /* each number is 0 or -1 */
typedef int8_t bytes __attribute__((vector_size(BYTES / sizeof(REAL)), aligned(1), may_alias)); /* one per number */

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

INLINE vector spread(REAL value) { return value - (vector){0}; } /* with +, the compiler would have to turn -0 into 0 */
INLINE vector load(const REAL *from) { return *(const vector *)from; }
INLINE void store(REAL *to, vector value) { *(vector *)to = value; }
/* The same of the first `count` numbers of a vector; the others are 0. */
INLINE vector load_some(const REAL *from, const int count) {
    vector value = spread(0);
    memcpy(&value, from, sizeof(REAL) * count);
    return value;
}
INLINE void store_some(REAL *to, vector value, const int count) { memcpy(to, &value, sizeof(REAL) * count); }
INLINE vector keep(mask which, vector value) { return (vector)((mask)value & which); }
INLINE vector either(mask which, vector yes, vector no) { return (vector)(((mask)yes & which) | ((mask)no & ~which)); }
/* Small integers are stored as bytes. gcc 12 makes slow code of __builtin_convertvector for these. */
INLINE mask load_bytes(const int8_t *from) {
#if defined(__AVX512F__) && !defined(DOUBLE)
    return (mask)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)from));
#elif defined(__AVX512F__)
    return (mask)_mm512_cvtepi8_epi64(_mm_loadl_epi64((const __m128i *)from));
#else
    return __builtin_convertvector(*(const bytes *)from, mask);
#endif
}
INLINE void store_bytes(int8_t *to, mask values) {
#if defined(__AVX512F__) && !defined(DOUBLE)
    _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8((__m512i)values));
#elif defined(__AVX512F__)
    _mm_storel_epi64((__m128i *)to, _mm512_cvtepi64_epi8((__m512i)values));
#else
    *(bytes *)to = __builtin_convertvector(values, bytes);
#endif
}

/* Pick from a table of 16 numbers. */
INLINE vector pick(const REAL *table, mask places) {
#if defined(__AVX512F__) && !defined(DOUBLE)
    return (vector)_mm512_permutexvar_ps((__m512i)places, (__m512)load(table));
#elif defined(__AVX512F__)
    return (vector)_mm512_permutex2var_pd((__m512d)load(table), (__m512i)places, (__m512d)load(table + 8));
#elif defined(__AVX2__) && !defined(DOUBLE)
    const __m256 low = _mm256_permutevar8x32_ps((__m256)load(table), (__m256i)places);
    const __m256 high = _mm256_permutevar8x32_ps((__m256)load(table + 8), (__m256i)places);
    return (vector)_mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32((__m256i)places, 28)));
#else
    vector picked;
    for (int v = 0; v < WIDE; v++) picked[v] = table[places[v]];
    return picked;
#endif
}
INLINE int least(int a, int b) { return a < b ? a : b; }

/* a / (sqrt(b) + epsilon) for b >= 0. In float32 by approximations of 14 bits, each improved by a step of Newton's
   method to about a unit of the last place, as the processor's own square roots and divisions would take a twentieth
   of a training. */
INLINE vector over_root(vector a, vector b, REAL epsilon) {
#if defined(__AVX512F__) && !defined(DOUBLE)
    const vector least_normal = spread(1.17549435e-38f); /* of 0 the inverse root would be infinite */
    vector root = (vector)_mm512_rsqrt14_ps(_mm512_max_ps((__m512)least_normal, (__m512)b));
    root = root * (1.5f - 0.5f * b * root * root);
    const vector divisor = b * root + epsilon;
    vector inverse = (vector)_mm512_rcp14_ps((__m512)divisor);
    inverse = inverse * (2 - divisor * inverse);
    return a * inverse;
#else
    vector result;
    for (int v = 0; v < WIDE; v++) result[v] = a[v] / (ROOT(b[v]) + epsilon);
    return result;
#endif
}

#ifdef __AVX512F__
/* Transpose 16 x 16 numbers of 32 bits. */
INLINE void transpose_16(__m512i *rows) {
    __m512i t[16];
    UNROLL for (int k = 0; k < 16; k += 2) {
        t[k] = _mm512_unpacklo_epi32(rows[k], rows[k + 1]), t[k + 1] = _mm512_unpackhi_epi32(rows[k], rows[k + 1]);
    }
    UNROLL for (int k = 0; k < 16; k += 4) {
        rows[k] = _mm512_unpacklo_epi64(t[k], t[k + 2]), rows[k + 1] = _mm512_unpackhi_epi64(t[k], t[k + 2]);
        rows[k + 2] = _mm512_unpacklo_epi64(t[k + 1], t[k + 3]),
                 rows[k + 3] = _mm512_unpackhi_epi64(t[k + 1], t[k + 3]);
    }
    UNROLL for (int k = 0; k < 4; k++) {
        t[k] = _mm512_shuffle_i32x4(rows[k], rows[k + 4], 0x88),
        t[k + 4] = _mm512_shuffle_i32x4(rows[k], rows[k + 4], 0xdd);
        t[k + 8] = _mm512_shuffle_i32x4(rows[k + 8], rows[k + 12], 0x88);
        t[k + 12] = _mm512_shuffle_i32x4(rows[k + 8], rows[k + 12], 0xdd);
    }
    UNROLL for (int k = 0; k < 8; k++) {
        rows[k] = _mm512_shuffle_i32x4(t[k], t[k + 8], 0x88), rows[k + 8] = _mm512_shuffle_i32x4(t[k], t[k + 8], 0xdd);
    }
}
#endif
