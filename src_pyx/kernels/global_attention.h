/* Attention over all steps of a memory (Luong, Pham and Manning 2015, section 3.1), what is not a product. Of one
 * sequence, with T queries q and S steps of memory m:
 *
 *   p = q·W (general) or q (dot)     e = f·p·mᵀ     a = softmax over s of e     c = a·m     h = tanh([c, q]·W_c)
 *
 *   du = dh ⊙ (1 - h²)     [dc, dq] = du·W_cᵀ      dW_c = [c, q]ᵀ·du
 *   da = dc·mᵀ             de = f·a ⊙ (da - Σ_s a_s da_s)
 *   dm = aᵀ·dc + deᵀ·p     dp = de·m               dq += dp·Wᵀ (general) or dp (dot)      dW = qᵀ·dp
 *
 * f is 1, or 1/√H (scaled_dot). Causal: query t sees the memory's steps 0 to t; all other weights are zero.
 *
 * Shapes: q (T, H), m (S, M), W (H, M), W_c (M + H, F), e, a, da (T, S), c (T, M), h (T, F), rows ld apart, whole
 * vectors; what stands in their pads becomes zero. n counts the numbers of an array with its pads.
 */
#ifndef RNNCORE_GLOBAL_ATTENTION_H
#define RNNCORE_GLOBAL_ATTENTION_H
#include "gemm.h"
#include "kernels.h"
#include "pool.h"
#include "vmath.h"
#include <math.h>

/* e becomes a, relative to the largest score */
static void memory_weights(long T, long S, long ld, int causal, double factor, void *e_) {
    long left = RNNCORE_BETWEEN;
    for (long t = 0; t < T; t++) {
        if (rnncore_stops_after(ld, &left)) return;
        real *e = (real *)e_ + t * ld;
        const long seen = causal && t + 1 < S ? t + 1 : S, whole = (seen + VL - 1) / VL * VL;
        for (long s = seen; s < whole; s++) e[s] = -INFINITY;
        vec top = vset1(-INFINITY), sum = vset1(0), f = vset1((real)factor);
        for (long s = 0; s < whole; s += VL) {
            vec score = vload(e + s) * f;
            vstore(e + s, score);
            top = vmax(score, top);
        }
        real most = ((const real *)&top)[0], total = 0;
        for (int j = 1; j < VL; j++) most = ((const real *)&top)[j] > most ? ((const real *)&top)[j] : most;
        for (long s = 0; s < whole; s += VL) {
            vec power = vexp(vload(e + s) - vset1(most));
            vstore(e + s, power);
            sum += power;
        }
        for (int j = 0; j < VL; j++) total += ((const real *)&sum)[j];
        for (long s = 0; s < whole; s += VL) vstore(e + s, vload(e + s) * vset1(1 / total));
        for (long s = seen; s < ld; s++) e[s] = 0;
    }
}

/* da becomes de */
static void memory_weights_back(long T, long S, long ld, int causal, double factor, const void *a_, void *da_) {
    long left = RNNCORE_BETWEEN;
    for (long t = 0; t < T; t++) {
        if (rnncore_stops_after(ld, &left)) return;
        const real *a = (const real *)a_ + t * ld;
        real *da = (real *)da_ + t * ld, mean = 0;
        const long seen = causal && t + 1 < S ? t + 1 : S, whole = (seen + VL - 1) / VL * VL;
        for (long s = seen; s < ld; s++) da[s] = 0;
        vec sum = vset1(0), f = vset1((real)factor);
        for (long s = 0; s < whole; s += VL) sum += vload(a + s) * vload(da + s);
        for (int j = 0; j < VL; j++) mean += ((const real *)&sum)[j];
        for (long s = 0; s < whole; s += VL)
            vstore(da + s, f * vload(a + s) * (vload(da + s) - vset1(mean)));
    }
}

/* whether all n numbers of x are finite: zero times any other is NaN; n counts whole vectors */
static int all_finite(long n, const void *x_) {
    const real *x = x_;
    vec sum = vset1(0);
    for (long i = 0; i < n; i += VL) sum += vload(x + i) * vset1(0);
    for (int j = 0; j < VL; j++)
        if (((const real *)&sum)[j] != 0) return 0;
    return 1;
}

/* n vectors of columns of one row of c */
INLINE void context(const int n, long S, const real *a, long ldm, const real *m, real *c) {
    vec sum[4] = {0};
    for (long s = 0; s < S; s++, m += ldm)
        UNROLL for (int i = 0; i < n; i++) sum[i] += vset1(a[s]) * vload(m + i * VL);
    UNROLL for (int i = 0; i < n; i++) vstore(c + i * VL, sum[i]);
}

/* c = a·m without packing m: for few queries, and where each must read the steps that it sees alone, because zero times
 * infinity is not zero. The same multiply-adds in the same order as a product's. */
static void contexts(long T, long S, long lda, const void *a_, int causal, long ldm, const void *m_, void *c_, long ldc) {
    const real *m = m_;
    long left = RNNCORE_BETWEEN;
    for (long t = 0; t < T; t++) {
        if (rnncore_stops_after(S * ldm, &left)) return;
        const real *a = (const real *)a_ + t * lda;
        real *c = (real *)c_ + t * ldc;
        const long seen = causal && t + 1 < S ? t + 1 : S;
        long j = 0;
        for (; j + 4 * VL <= ldm; j += 4 * VL) context(4, seen, a, ldm, m + j, c + j);
        for (; j < ldm; j += VL) context(1, seen, a, ldm, m + j, c + j);
    }
}

/* dh becomes du */
static void tanh_back(long n, const void *h_, void *dh_) {
    const real *h = h_;
    real *dh = dh_;
    for (long i = 0, end; i < n && !(i && rnncore_stopping()); i = end) {
        end = lmin(i + RNNCORE_BETWEEN, n);
        for (long j = i; j < end; j++) dh[j] *= 1 - h[j] * h[j];
    }
}
#endif
