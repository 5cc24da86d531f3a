/* A reservoir of leaky units whose weights stay as they are (Jaeger 2001; Lukoševičius 2012), one sequence:
 *
 *   x_t = (1 - a)·x_{t-1} + a·f(d_t + W·x_{t-1})          d_t: what comes from outside: input, bias, feedback, noise
 *
 * Shapes: d, x (steps, N), no padding. Sparse W: rows by blocks of two vectors of them; starts[b] to starts[b + 1] count the
 * weights of a row in block b, (values, columns) of all its rows side by side: row by row one chain, d_t first. Dense: (N,
 * N), no columns. work: N numbers and two vectors.
 */
#ifndef RNNCORE_RESERVOIR_H
#define RNNCORE_RESERVOIR_H
#include "activation.h"
#include "kernels.h"
#include "pool.h"

enum { RESERVOIR_WORK_BETWEEN = 1 << 20 }; /* multiply-adds between looks at whether to stop */

INLINE vec gathered(const int32_t *column, const real *x) {
#if VECTOR_BYTES > 0
    vec found; /* number by number: quicker than the machine's own gather */
    UNROLL for (int j = 0; j < VL; j++) found[j] = x[column[j]];
    return found;
#else
    return x[*column];
#endif
}

/* f += W·x, f in whole blocks */
static void add_sparse(const rc_reservoir *r, const real *x, real *f) {
    const long blocks = (r->units + 2 * VL - 1) / (2 * VL);
    for (long b = 0; b < blocks; b++, f += 2 * VL) {
        vec low = vload(f), high = vload(f + VL);
        for (long k = r->starts[b]; k < r->starts[b + 1]; k++) {
            const real *w = (const real *)r->values + k * 2 * VL;
            const int32_t *column = r->columns + k * 2 * VL;
            low += vload(w) * gathered(column, x);
            high += vload(w + VL) * gathered(column + VL, x);
        }
        vstore(f, low);
        vstore(f + VL, high);
    }
}

/* Σ w_k·x_k, in four chains of vectors */
INLINE real dense_row(long n, const real *w, const real *x) {
    vec sum[4] = {0};
    long k = 0;
    for (; k + 4 * VL <= n; k += 4 * VL)
        UNROLL for (int j = 0; j < 4; j++) sum[j] += vload(w + k + j * VL) * vload(x + k + j * VL);
    real total = 0;
    for (; k < n; k++) total += w[k] * x[k];
    const vec all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    for (int j = 0; j < VL; j++) total += ((const real *)&all)[j];
    return total;
}

static void reservoir(const rc_reservoir *r, long steps, const void *first, const void *d_, void *x_, void *work) {
    const long N = r->units, padded = (N + VL - 1) / VL * VL, often = RESERVOIR_WORK_BETWEEN / (r->weights + N) + 1;
    const real a = (real)r->leak, kept = (real)(1 - r->leak), *before = first;
    real *f = work;
    for (long i = N; i < N + 2 * VL; i++) f[i] = 0;
    for (long t = 0; t < steps; t++) {
        if (t % often == 0 && rnncore_stopping()) return;
        real *x = (real *)x_ + t * N;
        memcpy(f, (const real *)d_ + t * N, N * sizeof(real));
        if (r->columns)
            add_sparse(r, before, f);
        else
            for (long i = 0; i < N; i++) f[i] += dense_row(N, (const real *)r->values + i * N, before);
        activate(r->activation, 0, 1, padded, f, padded);
        if (r->leak == 1)
            memcpy(x, f, N * sizeof(real));
        else
            for (long i = 0; i < N; i++) x[i] = kept * before[i] + a * f[i];
        before = x;
    }
}
#endif
