/* What a layer computes between its large matrix products, each in one pass over memory, with nothing stored that can
   be computed again: attention with its softmax and dropout, add-dropout-norm, GELU, adapters added to a weight, and
   the adapters' gradients; and the large products themselves, in bytes, where the processor gains by it. attention.py
   and functional.py say what each is; build.py compiles this file and kernels.py calls it.

   It is compiled once for T = bfloat16 and once for T = float; arithmetic is fp32 in both, but for the products in
   bytes. Vectors are those of GCC and Clang, sixteen floats wide, which become whatever the processor has. Sizes that
   are vectorised over (hidden, intermediate, head) are multiples of 16. */

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined BF16 && defined __AVX512BF16__
#include <immintrin.h>
#define ROUNDED /* to bfloat16, whatever is computed: instructions that are not exact to fp32's last digit will do */
#if defined __AVX512VNNI__ && !defined __AMX_INT8__ /* AMX multiplies bfloat16 faster than VNNI bytes */
#define INT8
#endif
#endif

#define LANES 16
#define INLINE static inline __attribute__((always_inline))
#define ALL_LANES(index) (int64_t index = 0; index < size; index += LANES)

typedef float f32x16 __attribute__((vector_size(64)));
typedef int32_t i32x16 __attribute__((vector_size(64)));
typedef uint32_t u32x16 __attribute__((vector_size(64)));
typedef uint16_t u16x16 __attribute__((vector_size(32)));

/* Loading, storing, and what the vector extensions lack */

INLINE f32x16 loadf(const float *p) { f32x16 x; memcpy(&x, p, sizeof x); return x; }
INLINE void storef(float *p, f32x16 x) { memcpy(p, &x, sizeof x); }

#ifdef BF16
typedef uint16_t T;
INLINE f32x16 load(const T *p) {
#ifdef ROUNDED /* one instruction where GCC makes four of the conversion */
    __m256i half;
    memcpy(&half, p, sizeof half);
    return (f32x16)((u32x16)_mm512_cvtepu16_epi32(half) << 16);
#else
    u16x16 half;
    memcpy(&half, p, sizeof half);
    return (f32x16)(__builtin_convertvector(half, u32x16) << 16);
#endif
}
INLINE void store(T *p, f32x16 x) { /* to the nearest, ties to even */
#ifdef ROUNDED
    __m256bh half = _mm512_cvtneps_pbh((__m512)x);
#else
    u32x16 wide = (u32x16)x;
    wide += 0x7fff + ((wide >> 16) & 1);
    u16x16 half = __builtin_convertvector(wide >> 16, u16x16);
#endif
    memcpy(p, &half, sizeof half);
}
#else
typedef float T;
#define load loadf
#define store storef
#endif

#if defined(__clang__) || __GNUC__ >= 12
#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define PICK(a, b, ...) __builtin_shuffle(a, b, (i32x16){__VA_ARGS__})
#endif
#define MOVED(x, ...) PICK(x, x, __VA_ARGS__)
#define HALVES(x) MOVED(x, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)
#define QUARTERS(x) MOVED(x, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11)
#define EIGHTHS(x) MOVED(x, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)

INLINE f32x16 fill(float x) { return x - (f32x16){0}; }
INLINE f32x16 same(const float *p) { /* sixteen times what is there, which need not be a number */
    uint32_t bits;
    memcpy(&bits, p, sizeof bits);
    return (f32x16)(bits + (u32x16){0});
}
INLINE f32x16 choose(i32x16 where, f32x16 a, f32x16 b) { return (f32x16)((where & (i32x16)a) | (~where & (i32x16)b)); }
INLINE f32x16 larger(f32x16 a, f32x16 b) { /* b where one is no number */
#ifdef ROUNDED
    return (f32x16)_mm512_max_ps((__m512)a, (__m512)b);
#else
    return choose(a > b, a, b);
#endif
}
/* Memory of a thread's own, for `count` floats; aligned_alloc takes whole multiples of its alignment alone. */
INLINE float *floats(int64_t count) { return aligned_alloc(64, (sizeof(float) * count + 63) / 64 * 64); }
INLINE float sum(f32x16 x) {
    x += HALVES(x);
    x += QUARTERS(x);
    x += EIGHTHS(x);
    return x[0] + x[1];
}
INLINE float largest(f32x16 x) {
    x = larger(x, HALVES(x));
    x = larger(x, QUARTERS(x));
    x = larger(x, EIGHTHS(x));
    return x[0] > x[1] ? x[0] : x[1];
}

INLINE f32x16 inverse(f32x16 x) {
#ifdef ROUNDED
    return (f32x16)_mm512_rcp14_ps((__m512)x);
#else
    return 1.0f / x;
#endif
}

/* exp(x) for x up to 80, to two units in the last place: Cephes' expf. Below -80 exactly 0: numbers near the smallest
   there are take a hundred times as long to multiply, and weigh nothing beside 1. Where the result will be rounded to
   bfloat16, by a polynomial of 2^r to 4e-5: half the work. */
INLINE f32x16 exp16(f32x16 x) {
#ifdef ROUNDED
    f32x16 n = (f32x16)_mm512_roundscale_ps((__m512)(x * 1.44269504f), 0), r = x * 1.44269504f - n;
    f32x16 y = 9.6181291e-3f * r + 5.5504109e-2f;
    y = y * r + 2.4022651e-1f;
    y = y * r + 6.9314718e-1f;
    y = y * r + 1.0f;
    __mmask16 counts = _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(-80), _CMP_GT_OQ);
    return (f32x16)_mm512_maskz_scalef_ps(counts, (__m512)y, (__m512)n);
#else
    i32x16 counts = x > -80.0f;
    f32x16 n = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: what is added to it is rounded to a whole number */
    u32x16 exponent = (u32x16)n << 23;
    n -= 12582912.0f;
    f32x16 r = x - n * 0.693359375f + n * 2.12194440e-4f;
    f32x16 y = 1.9875691500e-4f * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    return (f32x16)(((u32x16)y + exponent) & (u32x16)counts);
#endif
}

/* Dropout: a hash of the element's number decides, so that the backward pass need not be told what the forward dropped */

typedef struct {
    uint32_t key[2];
    uint32_t threshold; /* an element whose 32 bits are below is kept; 0: nothing is dropped */
    float scale;        /* of what is kept: 1 / (1 - rate) */
} Drop;

INLINE f32x16 dropped(f32x16 x, const Drop *drop, uint32_t index) {
    if (!drop->threshold) return x;
    const u32x16 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    u32x16 bits = (index + lane) ^ drop->key[0]; /* triple32 (Wellons, hash-prospector), the key's second half within */
    bits ^= bits >> 17;
    bits *= 0xed5ad4bbu;
    bits ^= bits >> 11;
    bits += drop->key[1];
    bits *= 0xac4c1b51u;
    bits ^= bits >> 15;
    bits *= 0x31848babu;
    bits ^= bits >> 14;
    return (f32x16)((i32x16)(x * drop->scale) & (bits < drop->threshold));
}

INLINE f32x16 absolute(f32x16 x) { return (f32x16)((i32x16)x & 0x7fffffff); }

/* The normal distribution's function at x, and exp(-x^2 / 2). erf: Abramowitz and Stegun 7.1.26, to 1.5e-7 */
INLINE f32x16 normal(f32x16 x, f32x16 *e) {
    f32x16 z = absolute(x) * 0.70710678f, t = inverse(1.0f + 0.3275911f * z);
    *e = exp16(-z * z);
    f32x16 tail = 1.061405429f * t - 1.453152027f;
    tail = tail * t + 1.421413741f;
    tail = tail * t - 0.284496736f;
    tail = (tail * t + 0.254829592f) * t * *e * 0.5f;
    return choose(x < 0, tail, 1.0f - tail);
}

/* GELU. With `slope`, gelu'(x) takes x's place, and the backward pass is one product. */

void gelu(T *x, T *y, int64_t size, int64_t slope) {
    #pragma omp parallel for
    for ALL_LANES(i) {
        f32x16 v = load(x + i), e, cdf = normal(v, &e);
        store(y + i, v * cdf);
        if (slope) store(x + i, cdf + v * e * 0.39894228f);
    }
}

void multiply(const T *x, const T *y, T *out, int64_t size) {
    #pragma omp parallel for
    for ALL_LANES(i) store(out + i, load(x + i) * load(y + i));
}

/* y = norm(residual + dropped(x)); x, residual, total and y are [rows, size]. total may be NULL where no gradient is due. */

void add_norm(const T *x, const T *residual, const float *weight, const float *bias, float eps, const Drop *drop, T *total,
              T *y, float *mean, float *rstd, int64_t rows, int64_t size) {
    #pragma omp parallel for
    for (int64_t row = 0; row < rows; row++) {
        int64_t at = row * size;
        float own[size];
        f32x16 s = {0};
        for ALL_LANES(i) {
            f32x16 v = load(residual + at + i) + dropped(load(x + at + i), drop, at + i);
            storef(own + i, v);
            s += v;
        }
        float m = sum(s) / size;
        s = fill(0);
        for ALL_LANES(i) {
            f32x16 distance = loadf(own + i) - m;
            s += distance * distance;
        }
        float inverse = 1 / sqrtf(sum(s) / size + eps);
        for ALL_LANES(i) {
            f32x16 v = loadf(own + i);
            store(y + at + i, (v - m) * inverse * loadf(weight + i) + loadf(bias + i));
            if (total) store(total + at + i, v);
        }
        mean[row] = m;
        rstd[row] = inverse;
    }
}

/* grad_x is written only where something is dropped: otherwise it is grad_total. */
void add_norm_backward(const T *grad, const T *total, const float *weight, const float *mean, const float *rstd,
                       const Drop *drop, T *grad_total, T *grad_x, int64_t rows, int64_t size) {
    #pragma omp parallel for
    for (int64_t row = 0; row < rows; row++) {
        int64_t at = row * size;
        float own[size], normed[size];
        f32x16 a = {0}, b = {0};
        for ALL_LANES(i) {
            f32x16 g = load(grad + at + i) * loadf(weight + i), n = (load(total + at + i) - mean[row]) * rstd[row];
            storef(own + i, g);
            storef(normed + i, n);
            a += g;
            b += g * n;
        }
        float mean_a = sum(a) / size, mean_b = sum(b) / size;
        for ALL_LANES(i) {
            f32x16 v = (loadf(own + i) - mean_a - loadf(normed + i) * mean_b) * rstd[row];
            store(grad_total + at + i, v);
            if (drop->threshold) store(grad_x + at + i, dropped(v, drop, at + i));
        }
    }
}

/* Small products, summed in fp32: C[m][n] (+)= sum over k of A(m, k) B[k][n]. A has any strides; columns are a multiple of
   16. A and B hold `each` numbers, neighbours along k, in the place of one, and depth counts places: two of bfloat16, or
   four bytes, unsigned in A and signed in B, whose sums are whole numbers of 32 bits in the places of C. */

INLINE f32x16 times_plus(f32x16 left, f32x16 right, f32x16 acc, int each) {
#ifdef ROUNDED
    if (each == 2) return (f32x16)_mm512_dpbf16_ps((__m512)acc, (__m512bh)left, (__m512bh)right);
#endif
#ifdef INT8
    if (each == 4) return (f32x16)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)left, (__m512i)right);
#endif
    return acc + left * right;
}

INLINE void tile(int rows, int vectors, float *c, int64_t c_row, const float *a, int64_t a_row, int64_t a_column,
                 const float *b, int64_t b_row, int64_t depth, int add, int each) {
    f32x16 acc[6][4];
    #pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
        #pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) acc[i][j] = add ? loadf(c + i * c_row + LANES * j) : fill(0);
    for (int64_t k = 0; k < depth; k++) {
        f32x16 right[4];
        #pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) right[j] = loadf(b + k * b_row + LANES * j);
        #pragma GCC unroll 6
        for (int i = 0; i < rows; i++) {
            f32x16 left = same(a + i * a_row + k * a_column);
            #pragma GCC unroll 4
            for (int j = 0; j < vectors; j++) acc[i][j] = times_plus(left, right[j], acc[i][j], each);
        }
    }
    #pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
        #pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) storef(c + i * c_row + LANES * j, acc[i][j]);
}

INLINE void product_of(float *c, int64_t c_row, const float *a, int64_t a_row, int64_t a_column, const float *b,
                       int64_t b_row, int64_t rows, int64_t columns, int64_t depth, int add, int each) {
    int64_t n = 0, m;
    #define TILE(tall, wide) \
        tile(tall, wide, c + m * c_row + n, c_row, a + m * a_row, a_row, a_column, b + n, b_row, depth, add, each)
    #define STRIPES(wide) \
        for (; n + wide * LANES <= columns; n += wide * LANES) { \
            for (m = 0; m + 6 <= rows; m += 6) TILE(6, wide); \
            for (; m + 2 <= rows; m += 2) TILE(2, wide); \
            for (; m < rows; m++) TILE(1, wide); \
        }
    STRIPES(4)
    STRIPES(2)
    STRIPES(1)
}
static void product(float *c, int64_t c_row, const float *a, int64_t a_row, int64_t a_column, const float *b, int64_t b_row,
                    int64_t rows, int64_t columns, int64_t depth, int add) {
    product_of(c, c_row, a, a_row, a_column, b, b_row, rows, columns, depth, add, 1);
}

/* Attention, a head of a row at a time: its queries, keys and values lie in the cache while all is computed, as numbers of
   type W. What a product sums over is taken PAIR of them at a time: two of bfloat16 where the processor multiplies pairs
   (twice the rate), else one of fp32. A pair takes an fp32 number's place, and is never read as one. */

#define QUERIES 36 /* rows of scores at a time: even, so that no pair of rows is divided */

#ifdef ROUNDED
typedef T W;
#define PAIR 2
#define storew store
#else
typedef float W;
#define PAIR 1
#define storew storef
#endif

typedef struct {
    int64_t batch, queries, length, heads, size; /* queries of a row: length, or 1; size: of a head */
    int64_t q_row, k_row, v_row;                 /* elements from a token's to the next one's */
    int64_t bias_head;                           /* elements from a head's bias to the next one's; 0: the same for all */
} Shape;

INLINE int64_t whole(int64_t n) { return (n + LANES - 1) / LANES * LANES; }
INLINE int64_t pairs_of(int64_t n) { return (n + PAIR - 1) / PAIR; }

static void paired_product(float *c, int64_t c_row, const void *a, int64_t a_row, int64_t a_column, const float *b,
                           int64_t rows, int64_t columns, int64_t depth, int add) {
    product_of(c, c_row, a, a_row, a_column, b, columns, rows, columns, depth, add, PAIR);
}

INLINE void read_rows(float *out, const T *x, int64_t row, int64_t rows, int64_t size) {
    for (int64_t i = 0; i < rows; i++)
        for ALL_LANES(c) storef(out + i * size + c, load(x + i * row + c));
}
INLINE void read_own(W *out, const T *x, int64_t row, int64_t rows, int64_t size) {
    for (int64_t i = 0; i < rows; i++)
        for ALL_LANES(c) storew(out + i * size + c, load(x + i * row + c));
}
INLINE void write_rows(T *out, int64_t row, const float *x, int64_t rows, int64_t size, float scale) {
    for (int64_t i = 0; i < rows; i++)
        for ALL_LANES(c) store(out + i * row + c, loadf(x + i * size + c) * scale);
}
INLINE void clear_rows(T *out, int64_t row, int64_t first, int64_t end, int64_t size) {
    for (int64_t i = first; i < end; i++) memset(out + i * row, 0, size * sizeof(T));
}
/* A 16 x 16 block turned: four times, rows i and i + 8 are interleaved into rows 2 i and 2 i + 1. */
INLINE void turn(f32x16 block[LANES]) {
    #pragma GCC unroll 4
    for (int round = 0; round < 4; round++) {
        f32x16 next[LANES];
        #pragma GCC unroll 8
        for (int i = 0; i < LANES / 2; i++) {
            f32x16 a = block[i], b = block[i + LANES / 2];
            next[2 * i] = PICK(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            next[2 * i + 1] = PICK(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        }
        memcpy(block, next, sizeof next);
    }
}
/* Pairs c / PAIR to c / PAIR + 15 of a row; after its end, zeros. */
INLINE f32x16 pairs_at(const T *x, int64_t c, int64_t size) {
#ifdef ROUNDED
    f32x16 pairs = {0};
    memcpy(&pairs, x + c, (size - c < 2 * LANES ? LANES : 2 * LANES) * sizeof(T));
    return pairs;
#else
    return load(x + c);
#endif
}
/* x, `rows` rows of `size` -> out [pairs of size, columns], zeros in the columns after `rows` */
INLINE void read_turned(float *out, int64_t columns, const T *x, int64_t row, int64_t rows, int64_t size) {
    for (int64_t first = 0; first < columns; first += LANES)
        for (int64_t c = 0; c < size; c += LANES * PAIR) {
            f32x16 block[LANES];
            #pragma GCC unroll 16
            for (int i = 0; i < LANES; i++)
                block[i] = first + i < rows ? pairs_at(x + (first + i) * row, c, size) : fill(0);
            turn(block);
            #pragma GCC unroll 16
            for (int i = 0; i < LANES; i++) storef(out + (c / PAIR + i) * columns + first, block[i]);
        }
}
/* x, `rows` rows of `size` -> [pairs of rows, size], of the rows 2 i and 2 i + 1; in `room`, or where they are */
INLINE const float *paired(float *room, const W *x, int64_t rows, int64_t size) {
#ifdef ROUNDED
    for (int64_t i = 0; i < rows; i += 2)
        for ALL_LANES(c) {
            u32x16 even = (u32x16)load(x + i * size + c) >> 16;
            u32x16 odd = i + 1 < rows ? (u32x16)load(x + (i + 1) * size + c) : (u32x16){0};
            storef(room + i / 2 * size + c, (f32x16)(even | odd));
        }
    return room;
#else
    return x;
#endif
}
/* q kt + bias, both times sqrt(size): [rows, width], of which the columns from n on are to weigh nothing */
INLINE void scores_of(float *scores, int64_t width, const W *q, const float *kt, int64_t rows, int64_t n, int64_t size,
                      const float *bias, int64_t bias_row) {
    paired_product(scores, width, q, size / PAIR, 1, kt, rows, width, size / PAIR, 0);
    float scale = sqrtf(size);
    for (int64_t i = 0; i < rows; i++) {
        if (bias) for (int64_t j = 0; j < n; j++) scores[i * width + j] += bias[i * bias_row + j] * scale;
        for (int64_t j = n; j < width; j++) scores[i * width + j] = -1e30f;
    }
}

/* Row b's keys are the lengths[b] tokens from k_starts[b] on, and its queries lie from q_starts[b] on; between its last
   token and the next row's first may be padding, whose context is 0.
   norms [2, batch, heads, queries]: the highest score of a row, and the inverse of the sum of exp(score - highest). */
void attention(const T *query, const T *key, const T *value, const float *bias, const int64_t *lengths,
               const int64_t *q_starts, const int64_t *k_starts, const Drop *drop, T *out, float *norms, const Shape *shape) {
    const Shape s = *shape;
    int64_t size = s.size, hidden = s.heads * size, most = whole(s.length), count = s.batch * s.heads * s.queries;
    float scale = 1 / sqrtf(size);
    #pragma omp parallel
    {
        /* kt may be turned by 16 rows at a time, more than there are */
        float *kt = floats(most * (4 * size + LANES) + 2 * QUERIES * (most + size));
        float *own_v = kt + most * (size + LANES), *p = own_v + most * size, *o = p + QUERIES * most;
        W *q = (W *)(o + QUERIES * size), *v = q + most * size, *weights = v + most * size;
        #pragma omp for
        for (int64_t task = 0; task < s.batch * s.heads; task++) {
            int64_t b = task / s.heads, h = task % s.heads, n = lengths[b], width = whole(n);
            int64_t q_first = q_starts[b], q_room = q_starts[b + 1] - q_first, queries = q_room < n ? q_room : n;
            read_own(q, query + q_first * s.q_row + h * size, s.q_row, queries, size);
            read_own(v, value + k_starts[b] * s.v_row + h * size, s.v_row, n, size);
            read_turned(kt, width, key + k_starts[b] * s.k_row + h * size, s.k_row, n, size);
            const float *pairs_v = paired(own_v, v, n, size);
            T *y = out + q_first * hidden + h * size;
            for (int64_t first = 0; first < queries; first += QUERIES) {
                int64_t rows = queries - first < QUERIES ? queries - first : QUERIES;
                const float *own_bias = bias ? bias + h * s.bias_head + first * s.length : NULL;
                scores_of(p, width, q + first * size, kt, rows, n, size, own_bias, s.length);
                for (int64_t i = 0; i < rows; i++) {
                    int64_t row = task * s.queries + first + i;
                    float *own = p + i * width;
                    f32x16 top = fill(-1e30f), total = {0};
                    for (int64_t j = 0; j < width; j += LANES) top = larger(top, loadf(own + j));
                    float highest = largest(top) * scale;
                    for (int64_t j = 0; j < width; j += LANES) {
                        f32x16 e = exp16(loadf(own + j) * scale - highest);
                        total += e;
                        storew(weights + i * width + j, dropped(e, drop, row * most + j));
                    }
                    norms[row] = highest;
                    norms[count + row] = 1 / sum(total);
                }
                paired_product(o, size, weights, width / PAIR, 1, pairs_v, rows, size, pairs_of(n), 0);
                for (int64_t i = 0; i < rows; i++) {
                    float inverse_sum = norms[count + task * s.queries + first + i];
                    write_rows(y + (first + i) * hidden, 0, o + i * size, 1, size, inverse_sum);
                }
            }
            clear_rows(y, hidden, queries, q_room, size);
        }
        free(kt);
    }
}

void attention_backward(const T *grad, const T *query, const T *key, const T *value, const float *bias,
                        const int64_t *lengths, const int64_t *q_starts, const int64_t *k_starts, const Drop *drop,
                        const float *norms, T *grad_query, T *grad_key, T *grad_value, const Shape *shape) {
    const Shape s = *shape;
    int64_t size = s.size, hidden = s.heads * size, most = whole(s.length), count = s.batch * s.heads * s.queries;
    float scale = 1 / sqrtf(size);
    #pragma omp parallel
    {
        int64_t whole_head = most * size, block = QUERIES * most;
        float *kt = floats(11 * whole_head + 2 * most * LANES + 6 * block);
        float *vt = kt + whole_head + most * LANES, *gq = vt + whole_head + most * LANES, *gk = gq + whole_head;
        float *gv = gk + whole_head, *own_k = gv + whole_head, *own_q = own_k + whole_head, *own_g = own_q + whole_head;
        float *p = own_g + whole_head, *gp = p + block, *own_weights = gp + block, *own_grads = own_weights + block;
        W *q = (W *)(own_grads + block), *k = q + whole_head, *g = k + whole_head;
        W *weights = g + whole_head, *grads = weights + block; /* dropped weights, and the gradients of the scores */
        #pragma omp for
        for (int64_t task = 0; task < s.batch * s.heads; task++) {
            int64_t b = task / s.heads, h = task % s.heads, n = lengths[b], width = whole(n);
            int64_t q_first = q_starts[b], q_room = q_starts[b + 1] - q_first, queries = q_room < n ? q_room : n;
            int64_t k_first = k_starts[b], k_room = k_starts[b + 1] - k_first;
            int64_t q_at = q_first * s.q_row + h * size, k_at = k_first * s.k_row + h * size;
            int64_t v_at = k_first * s.v_row + h * size;
            read_own(q, query + q_at, s.q_row, queries, size);
            read_own(k, key + k_at, s.k_row, n, size);
            read_own(g, grad + q_first * hidden + h * size, hidden, queries, size);
            read_turned(kt, width, key + k_at, s.k_row, n, size);
            read_turned(vt, width, value + v_at, s.v_row, n, size);
            const float *pairs_k = paired(own_k, k, n, size);
            const float *pairs_q = paired(own_q, q, queries, size), *pairs_g = paired(own_g, g, queries, size);
            for (int64_t first = 0; first < queries; first += QUERIES) {
                int64_t rows = queries - first < QUERIES ? queries - first : QUERIES, at = first / PAIR * size;
                const float *own_bias = bias ? bias + h * s.bias_head + first * s.length : NULL;
                scores_of(p, width, q + first * size, kt, rows, n, size, own_bias, s.length);
                paired_product(gp, width, g + first * size, size / PAIR, 1, vt, rows, width, size / PAIR, 0);
                for (int64_t i = 0; i < rows; i++) {
                    int64_t row = task * s.queries + first + i;
                    float *own = p + i * width, *grad_own = gp + i * width;
                    f32x16 dot = {0};
                    for (int64_t j = 0; j < width; j += LANES) {
                        f32x16 weight = exp16(loadf(own + j) * scale - norms[row]) * norms[count + row];
                        f32x16 keep = dropped(fill(1), drop, row * most + j), grad_weight = loadf(grad_own + j) * keep;
                        storef(own + j, weight);
                        storef(grad_own + j, grad_weight);
                        storew(weights + i * width + j, weight * keep);
                        dot += weight * grad_weight;
                    }
                    float mean = sum(dot);
                    for (int64_t j = 0; j < width; j += LANES)
                        storew(grads + i * width + j, loadf(own + j) * (loadf(grad_own + j) - mean));
                }
                const float *pairs_weights = paired(own_weights, weights, rows, width);
                const float *pairs_grads = paired(own_grads, grads, rows, width);
                int64_t depth = pairs_of(rows);
                paired_product(gq + first * size, size, grads, width / PAIR, 1, pairs_k, rows, size, pairs_of(n), 0);
                paired_product(gk, size, pairs_grads, 1, width, pairs_q + at, n, size, depth, first > 0);
                paired_product(gv, size, pairs_weights, 1, width, pairs_g + at, n, size, depth, first > 0);
            }
            write_rows(grad_query + q_at, s.q_row, gq, queries, size, scale);
            write_rows(grad_key + k_at, s.k_row, gk, n, size, scale);
            write_rows(grad_value + v_at, s.v_row, gv, n, size, 1);
            clear_rows(grad_query + q_at, s.q_row, queries, q_room, size);
            clear_rows(grad_key + k_at, s.k_row, n, k_room, size);
            clear_rows(grad_value + v_at, s.v_row, n, k_room, size);
        }
        free(kt);
    }
}

#ifdef INT8
/* x, `size` numbers -> zero + x / scale to the nearest whole number, 0 for the smallest x and 255 for the largest. The scale
   is not a number where an x is none. */
INLINE void to_bytes(uint8_t *out, const T *x, int64_t size, float *scale, float *zero) {
    f32x16 top = {0}, bottom = {0}, nothing = {0};
    for (int64_t i = 0; i < size; i += 2 * LANES) { /* two at a time: each waits for the largest of those before */
        f32x16 v = load(x + i), w = i + LANES < size ? load(x + i + LANES) : v;
        top = larger(larger(v, w), top);
        bottom = larger(larger(-v, -w), bottom);
        nothing += (v + w) * 0.0f;
    }
    float lowest = largest(bottom), range = largest(top) + lowest, factor = range > 1e-30f ? 255 / range : 0;
    *scale = range / 255 + sum(nothing);
    *zero = rintf(lowest * factor);
    for ALL_LANES(i) {
        __m512i steps = _mm512_cvtps_epi32((__m512)(load(x + i) * factor + *zero)); /* -1 to 256, by rounding */
        __m128i bytes = _mm512_cvtusepi32_epi8(_mm512_max_epi32(steps, _mm512_setzero_si512()));
        memcpy(out + i, &bytes, sizeof bytes);
    }
}

/* Of each number its multiple of the scale, -127 to 127, and how it is got there */
INLINE i32x16 steps_of(f32x16 x, f32x16 factor) { return (i32x16)_mm512_cvtps_epi32((__m512)(x * factor)); }
INLINE f32x16 factor_of(f32x16 top) { return (f32x16)((i32x16)(127.0f / top) & (top > 0)); }

/* weight [rows, columns] -> what linear_int8 reads */
void pack_int8(const T *weight, int32_t *fours, float *scale, float *total, int64_t rows, int64_t columns, int64_t panel) {
    #pragma omp parallel for
    for (int64_t row = 0; row < rows; row++) {
        int64_t own = row % panel, size = columns;
        int32_t *out = fours + (row - own) * columns / 4 + own;
        f32x16 top = {0};
        for ALL_LANES(i) top = larger(absolute(load(weight + row * columns + i)), top);
        float most = largest(top);
        f32x16 factor = factor_of(fill(most));
        i32x16 sums = {0};
        for ALL_LANES(i) {
            i32x16 steps = steps_of(load(weight + row * columns + i), factor);
            __m128i bytes = _mm512_cvtepi32_epi8((__m512i)steps);
            int32_t four[4];
            memcpy(four, &bytes, sizeof four);
            for (int k = 0; k < 4; k++) out[(i / 4 + k) * panel] = four[k];
            sums += steps;
        }
        scale[row] = most / 127;
        total[row] = sum(__builtin_convertvector(sums, f32x16));
    }
}
/* The same of the weight's transpose */
void pack_int8_turned(const T *weight, int32_t *fours, float *scale, float *total, int64_t rows, int64_t columns,
                      int64_t panel) {
    #pragma omp parallel for
    for (int64_t n = 0; n < columns; n += LANES) {
        int32_t *out = fours + n / panel * panel * rows / 4 + n % panel;
        f32x16 top = {0};
        for (int64_t row = 0; row < rows; row++) top = larger(absolute(load(weight + row * columns + n)), top);
        f32x16 factor = factor_of(top);
        i32x16 sums = {0};
        for (int64_t row = 0; row < rows; row += 4) {
            i32x16 four = {0};
            for (int k = 0; k < 4; k++) {
                i32x16 steps = steps_of(load(weight + (row + k) * columns + n), factor);
                four |= (steps & 255) << 8 * k;
                sums += steps;
            }
            storef((float *)(out + row / 4 * panel), (f32x16)four);
        }
        storef(scale + n, top / 127.0f);
        storef(total + n, __builtin_convertvector(sums, f32x16));
    }
}

#define BLOCK 48 /* tokens at a time: their bytes stay in the cache while all columns pass */

/* y [tokens, columns] = x [tokens, size] weight^T + bias, or the GELU of that, with x and the weight in bytes: x with a scale
   and a zero for each token, the weight with a scale for each column. The sums are exact. weight lies in panels of `panel`
   columns, within them by fours of `size`; `total`: the sum of a column's bytes, which x's zero multiplies. */
void linear_int8(const T *x, const int8_t *weight, const float *scale, const float *total, const float *bias, T *y,
                 int64_t tokens, int64_t size, int64_t columns, int64_t panel, int64_t then_gelu) {
    if (!tokens) return;
    int64_t threads = omp_get_max_threads(), rounds = (tokens + BLOCK * threads - 1) / (BLOCK * threads);
    int64_t block = (tokens + 6 * rounds * threads - 1) / (6 * rounds * threads) * 6; /* as many for each thread */
    #pragma omp parallel
    {
        float *sums = floats(BLOCK * (panel + size / 4)), own_scale[BLOCK], zero[BLOCK];
        uint8_t *bytes = (uint8_t *)(sums + BLOCK * panel);
        #pragma omp for
        for (int64_t first = 0; first < tokens; first += block) {
            int64_t rows = tokens - first < block ? tokens - first : block;
            for (int64_t i = 0; i < rows; i++) to_bytes(bytes + i * size, x + (first + i) * size, size, own_scale + i, zero + i);
            for (int64_t n = 0; n < columns; n += panel) {
                const float *fours = (const float *)(weight + n * size);
                product_of(sums, panel, (float *)bytes, size / 4, 1, fours, panel, rows, panel, size / 4, 0, 4);
                for (int64_t i = 0; i < rows; i++)
                    for (int64_t c = 0; c < panel; c += LANES) {
                        f32x16 v = __builtin_convertvector((i32x16)loadf(sums + i * panel + c), f32x16), e;
                        v = (v - zero[i] * loadf(total + n + c)) * own_scale[i] * loadf(scale + n + c) + loadf(bias + n + c);
                        if (then_gelu) v *= normal(v, &e);
                        store(y + (first + i) * columns + n + c, v);
                    }
            }
        }
        free(sums);
    }
}
#endif

/* Adapters: lora_A [rank, size], lora_B [rows, rank], the weight [rows, size] */

void merge(const float *weight, const float *lora_A, const float *lora_B, float scaling, T *out, int64_t rows, int64_t size,
           int64_t rank) {
    #pragma omp parallel for
    for (int64_t row = 0; row < rows; row++)
        for ALL_LANES(i) {
            f32x16 v = loadf(weight + row * size + i);
            for (int64_t r = 0; r < rank; r++) v += lora_B[row * rank + r] * scaling * loadf(lora_A + r * size + i);
            store(out + row * size + i, v);
        }
}

#define TOKENS 32 /* at a time, so that they stay in the cache */

/* out [tokens, rank] = scale * x [tokens, size] a [rank, size]^T, in blocks of 4 tokens and 2 ranks; x and out have room
   for a multiple of 4 tokens. */
INLINE void narrow(float *out, const float *x, const float *a, int64_t tokens, int64_t size, int64_t rank, float scale) {
    for (int64_t t = 0; t < tokens; t += 4)
        for (int64_t r = 0; r < rank; r += 2) {
            int64_t other = r + 1 < rank; /* an odd rank's last is computed twice */
            f32x16 acc[2][4] = {{{0}}};
            for ALL_LANES(i) {
                f32x16 one = loadf(a + r * size + i), two = loadf(a + (r + other) * size + i);
                #pragma GCC unroll 4
                for (int j = 0; j < 4; j++) {
                    f32x16 left = loadf(x + (t + j) * size + i);
                    acc[0][j] += left * one;
                    acc[1][j] += left * two;
                }
            }
            #pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                out[(t + j) * rank + r] = sum(acc[0][j]) * scale;
                out[(t + j) * rank + r + other] = sum(acc[1][j]) * scale;
            }
        }
}

/* x [tokens, columns], grad [tokens, rows] with grad_row elements between tokens, lora_Bt [rank, rows], the transposed
   lora_B. grad_A [rank, columns] and grad_Bt [rank, rows]. There is a part of the tokens for each thread, the same in every
   run, and the parts' sums are added in their order, so the result is the same bit for bit. */
void adapter_gradients(const T *x, const T *grad, int64_t grad_row, const float *lora_A, const float *lora_Bt, float scaling,
                       float *grad_A, float *grad_Bt, int64_t tokens, int64_t columns, int64_t rows, int64_t rank) {
    int64_t sums = rank * (columns + rows), count_parts = omp_get_max_threads();
    int64_t each = (tokens + count_parts - 1) / count_parts;
    float *parts = calloc(count_parts * sums, sizeof(float));
    #pragma omp parallel for
    for (int64_t part = 0; part < count_parts; part++) {
        int64_t first = part * each, end = first + each < tokens ? first + each : tokens;
        float *own = parts + part * sums;
        float *xs = floats(TOKENS * whole(columns + rows + 2 * rank));
        float *gs = xs + TOKENS * columns, *z = gs + TOKENS * rows, *gz = z + TOKENS * rank;
        memset(xs, 0, sizeof(float) * TOKENS * (columns + rows));
        for (int64_t at = first; at < end; at += TOKENS) {
            int64_t count = end - at < TOKENS ? end - at : TOKENS;
            read_rows(xs, x + at * columns, columns, count, columns);
            read_rows(gs, grad + at * grad_row, grad_row, count, rows);
            narrow(z, xs, lora_A, count, columns, rank, scaling);
            narrow(gz, gs, lora_Bt, count, rows, rank, scaling);
            product(own, columns, gz, 1, rank, xs, columns, rank, columns, count, 1);
            product(own + rank * columns, rows, z, 1, rank, gs, rows, rank, rows, count, 1);
        }
        free(xs);
    }
    for (int64_t i = 0; i < sums; i++) {
        float total = 0;
        for (int64_t part = 0; part < count_parts; part++) total += parts[part * sums + i];
        if (i < rank * columns) grad_A[i] = total;
        else grad_Bt[i - rank * columns] = total;
    }
    free(parts);
}
