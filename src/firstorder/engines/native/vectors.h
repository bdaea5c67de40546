/* Vectors of the processor, as GNU C's vector extensions: gcc or clang, any processor.

   REAL is float or, with -DDOUBLE (for the tests), double. */

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
INLINE vector keep(mask which, vector value) { return (vector)((mask)value & which); }
INLINE vector either(mask which, vector yes, vector no) { return (vector)(((mask)yes & which) | ((mask)no & ~which)); }
INLINE int least(int a, int b) { return a < b ? a : b; }
