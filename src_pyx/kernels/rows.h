/* What happens to rows outside the products: tables of rows (symbols), dropout, sums.
 *
 * Shapes: ids (rows, per_row), scale likewise or NULL; table (symbols, width), row length ldt; bias (width) or NULL; out
 * (rows, width), row length ldo; d (rows, width), row length ldd, of which scatter takes the columns [from, to). add and
 * copy: a and out (rows, n). All else is a row of n numbers; running_max's `where` has as many row numbers.
 */
#ifndef RNNCORE_ROWS_H
#define RNNCORE_ROWS_H
#include "kernels.h"
#include "pool.h"
#include "vec.h"

/* out[r] = bias + Σ_f scale[r,f]·table[ids[r,f]]: x·W for x a sum of one-hot vectors, never built. Negative ids
 * stand for nothing. Without a bias the sum starts at zero. */
static void gather(long rows, long width, long per_row, const int64_t *ids, const void *scale_, const void *table,
                   long ldt, const void *bias, void *out, long ldo) {
    const real *scale = scale_;
    long left = RNNCORE_BETWEEN;
    for (long r = 0; r < rows; r++) {
        if (rnncore_stops_after(width * per_row, &left)) return;
        real *o = (real *)out + r * ldo;
        if (bias)
            memcpy(o, bias, width * sizeof(real));
        else
            memset(o, 0, width * sizeof(real));
        for (long f = 0; f < per_row; f++) {
            int64_t id = ids[r * per_row + f];
            if (id < 0) continue;
            const real *t = (const real *)table + id * ldt;
            real s = scale ? scale[r * per_row + f] : 1;
            for (long j = 0; j < width; j++) o[j] += s * t[j];
        }
    }
}

/* table[ids[r,f]] += scale[r,f]·d[r] on columns [from, to): the gradient of gather. Rows are added in order, so
 * dividing the columns among threads changes no bit. */
static void scatter(long rows, long from, long to, long per_row, const int64_t *ids, const void *scale_,
                    const void *d, long ldd, void *table, long ldt) {
    const real *scale = scale_;
    long left = RNNCORE_BETWEEN;
    for (long r = 0; r < rows; r++) {
        if (rnncore_stops_after((to - from) * per_row, &left)) return;
        const real *g = (const real *)d + r * ldd;
        for (long f = 0; f < per_row; f++) {
            int64_t id = ids[r * per_row + f];
            if (id < 0) continue;
            real *t = (real *)table + id * ldt, s = scale ? scale[r * per_row + f] : 1;
            for (long j = from; j < to; j++) t[j] += s * g[j];
        }
    }
}

enum { DROPOUT_CHUNK = 256 }; /* columns per batch of random numbers */

#define PHILOX_ROUNDS 10
#define PHILOX_FACTOR 0xD256D193u
#define PHILOX_STEP 0x9E3779B9u /* of the key, from round to round */

/* x, y of columns c < C after all rounds, in the lower halves of 64-bit numbers. */
#if defined(X86) && VECTOR_BYTES >= 32
/* A product's lower half is the next y where it lies: what stands above it is never looked at. */
static void philox(long C, uint32_t key, uint32_t row, uint32_t first, uint64_t *xs, uint64_t *ys) {
#if VECTOR_BYTES == 64
    enum { LANES = 8 };
    const __m512i factor = _mm512_set1_epi64(PHILOX_FACTOR), lanes = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    for (long c = 0; c < C; c += LANES) {
        __m512i x = _mm512_add_epi64(_mm512_set1_epi64(first + (uint32_t)c), lanes), y = _mm512_set1_epi64(row);
        UNROLL_ALL for (uint32_t round = 0; round < PHILOX_ROUNDS; round++) {
            const __m512i product = _mm512_mul_epu32(x, factor), k = _mm512_set1_epi64(key + round * PHILOX_STEP);
            x = _mm512_xor_si512(_mm512_xor_si512(_mm512_srli_epi64(product, 32), k), y);
            y = product;
        }
        _mm512_storeu_si512(xs + c, x);
        _mm512_storeu_si512(ys + c, y);
    }
#else
    enum { LANES = 4 };
    const __m256i factor = _mm256_set1_epi64x(PHILOX_FACTOR), lanes = _mm256_setr_epi64x(0, 1, 2, 3);
    for (long c = 0; c < C; c += LANES) {
        __m256i x = _mm256_add_epi64(_mm256_set1_epi64x(first + (uint32_t)c), lanes), y = _mm256_set1_epi64x(row);
        UNROLL_ALL for (uint32_t round = 0; round < PHILOX_ROUNDS; round++) {
            const __m256i product = _mm256_mul_epu32(x, factor), k = _mm256_set1_epi64x(key + round * PHILOX_STEP);
            x = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(product, 32), k), y);
            y = product;
        }
        _mm256_storeu_si256((__m256i *)(xs + c), x);
        _mm256_storeu_si256((__m256i *)(ys + c), y);
    }
#endif
}
#else
static void philox(long C, uint32_t key, uint32_t row, uint32_t first, uint64_t *xs, uint64_t *ys) {
    for (long c = 0; c < C; c++) {
        uint32_t x = first + (uint32_t)c, y = row;
        for (uint32_t round = 0; round < PHILOX_ROUNDS; round++) {
            const uint64_t product = (uint64_t)x * PHILOX_FACTOR;
            x = (uint32_t)(product >> 32) ^ (key + round * PHILOX_STEP) ^ y;
            y = (uint32_t)product;
        }
        xs[c] = x;
        ys[c] = y;
    }
}
#endif

/* Philox2x32-10 (Salmon et al. 2011): a random function of (key, row, column), the same at every level. Each call
 * gives four 16-bit numbers, for the columns c, c+C, c+2C, c+3C with C = ceil(n/4). */
static void random16(long C, uint32_t key, uint32_t row, uint32_t first, uint16_t *restrict out) {
    uint64_t xs[DROPOUT_CHUNK / 4 + 8], ys[DROPOUT_CHUNK / 4 + 8];
    philox(C, key, row, first, xs, ys);
    for (long c = 0; c < C; c++) out[c] = (uint16_t)xs[c];
    for (long c = 0; c < C; c++) out[C + c] = (uint16_t)(xs[c] >> 16);
    for (long c = 0; c < C; c++) out[2 * C + c] = (uint16_t)ys[c];
    for (long c = 0; c < C; c++) out[3 * C + c] = (uint16_t)(ys[c] >> 16);
}

/* Inverted dropout: out = in·m, m = 1/(1-rate) with probability 1-rate and 0 otherwise; without `in`, out = m.
 * Probabilities are exact to 2^-16. */
static void dropout(long n, double rate, uint32_t key, uint32_t row, const void *in, void *out) {
    uint16_t random[DROPOUT_CHUNK];
    const uint32_t threshold = (uint32_t)(rate * 65536 + 0.5);
    const real keep = (real)(1 / (1 - rate));
    for (long from = 0; from < n; from += DROPOUT_CHUNK) {
        long count = from + DROPOUT_CHUNK < n ? DROPOUT_CHUNK : n - from;
        random16((count + 3) / 4, key, row, (uint32_t)from, random);
        const real *x = in ? (const real *)in + from : 0;
        real *y = (real *)out + from;
        if (x)
            for (long j = 0; j < count; j++) y[j] = random[j] >= threshold ? keep * x[j] : 0;
        else
            for (long j = 0; j < count; j++) y[j] = random[j] >= threshold ? keep : 0;
    }
}

/* Random numbers in (0, 1), multiples of 2^-16 and a half. */
static void uniform(long n, uint32_t key, uint32_t row, void *out) {
    uint16_t random[DROPOUT_CHUNK];
    for (long from = 0; from < n; from += DROPOUT_CHUNK) {
        long count = from + DROPOUT_CHUNK < n ? DROPOUT_CHUNK : n - from;
        random16((count + 3) / 4, key, row, (uint32_t)from, random);
        for (long j = 0; j < count; j++) ((real *)out)[from + j] = ((real)random[j] + (real)0.5) / 65536;
    }
}

/* The factor that dropout() gives to one column of n: what a symbol's one-hot row would meet. */
static void dropout_at(long n, double rate, uint32_t key, uint32_t row, long column, void *factor) {
    long from = column / DROPOUT_CHUNK * DROPOUT_CHUNK, count = from + DROPOUT_CHUNK < n ? DROPOUT_CHUNK : n - from, C = (count + 3) / 4;
    uint16_t random[DROPOUT_CHUNK];
    random16(C, key, row, (uint32_t)from, random);
    *(real *)factor = random[column - from] >= (uint32_t)(rate * 65536 + 0.5) ? (real)(1 / (1 - rate)) : 0;
}

static void add(long rows, long n, const void *a, long lda, void *out, long ldo) {
    long left = RNNCORE_BETWEEN;
    for (long r = 0; r < rows; r++) {
        if (rnncore_stops_after(n, &left)) return;
        const real *x = (const real *)a + r * lda;
        real *y = (real *)out + r * ldo;
        for (long j = 0; j < n; j++) y[j] += x[j];
    }
}

/* total (rows, n) += x, in double: how sums over very many rows are joined from sums of some. */
static void widen(long rows, long n, const void *x, long ldx, double *total) {
    for (long r = 0; r < rows; r++)
        for (long j = 0; j < n; j++) total[r * n + j] += ((const real *)x)[r * ldx + j];
}

/* x = total (rows, n), rounded once */
static void narrow(long rows, long n, const double *total, void *x, long ldx) {
    for (long r = 0; r < rows; r++)
        for (long j = 0; j < n; j++) ((real *)x)[r * ldx + j] = (real)total[r * n + j];
}

static void copy(long rows, long n, const void *a, long lda, void *out, long ldo) {
    long left = RNNCORE_BETWEEN;
    for (long r = 0; r < rows; r++) {
        if (rnncore_stops_after(n, &left)) return;
        const real *x = (const real *)a + r * lda;
        real *y = (real *)out + r * ldo;
        if (n < VL) {
            memcpy(y, x, n * sizeof(real));
            continue;
        }
        for (long j = 0; j + VL < n; j += VL) vstore(y + j, vload(x + j));
        vstore(y + n - VL, vload(x + n - VL)); /* the last vector overlaps the one before */
    }
}

static void fill(long n, double value, void *y) {
    for (long j = 0; j < n; j++) ((real *)y)[j] = (real)value;
}

/* y = factor·x */
static void scale(long n, double factor, const void *x, void *y) {
    for (long j = 0; j < n; j++) ((real *)y)[j] = (real)factor * ((const real *)x)[j];
}

/* y = max(y, x), remembering in `where` which row the largest number came from */
static void running_max(long n, const void *x, int64_t row, void *y, int64_t *where) {
    for (long j = 0; j < n; j++)
        if (((const real *)x)[j] > ((real *)y)[j] || where[j] < 0) {
            ((real *)y)[j] = ((const real *)x)[j];
            where[j] = row;
        }
}

/* the gradient of running_max: each number goes back to the row it came from */
static void return_to(long n, const int64_t *where, const void *d, void *base, long ld) {
    for (long j = 0; j < n; j++)
        if (where[j] >= 0) ((real *)base)[where[j] * ld + j] += ((const real *)d)[j];
}
#endif
