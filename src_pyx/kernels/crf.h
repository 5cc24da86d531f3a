/* Linear-chain conditional random field over packed ragged batches (interface: crf_api.h).
 *
 *   score(y)  = start[y_1] + Σ_t s_t[y_t] + Σ_t A[y_{t-1}, y_t] + end[y_T]
 *   L         = log Z - score(y),  Z = Σ over all y' of e^score(y')                  dL/ds_t = p_t - onehot(y_t)
 *
 * Scaled recursions, all sequences of a step at once, with E = exp(A - max A) and e_t = exp(s_t - max s_t):
 *   α_t ∝ (α_{t-1}·E) ∘ e_t     γ_t ∝ β_t ∘ e_t     β_{t-1} = γ_t·Eᵀ     p_t = α_t ∘ β_t / (α_t·β_t)
 *   Σ_t P(y_{t-1} = i, y_t = j) = E ∘ Σ_t α_{t-1}ᵀ·γ_t         α_{t-1} being divided by α_{t-1}·β_{t-1} in the end
 * α adds up to 1..2 in every row, γ to 1; all factors are at most 1.
 *
 * What is rounded to zero is lost, and could matter later: a label that looked hopeless may turn out to be the one. So
 * a bound of the lost sum goes along. It grows by K·CRF_TINY where a label that is possible (`reach`: by what is
 * forbidden, not by numbers) falls below CRF_LOW, and is taken along as if all that is lost met the best that comes:
 * lost_t = (lost_{t-1}·Σ e_t + ...) / (the factor that α_t is divided by). A sequence that might have lost more than
 * CRF_TOLERANCE of its total is marked and done again in log space and double precision (crf_exact).
 *
 * Shapes: s, α, β, γ (rows, K), row length ld; A, E (K, K) likewise; targets (rows), paths (rows) or (top, rows), label
 * numbers; counts (K, K), row length K. What else a batch has stands beside its field in crf_api.h.
 */
#ifndef RNNCORE_CRF_H
#define RNNCORE_CRF_H
#include "kernels.h"
#include "gemm.h"
#include "vmath.h"
#include <math.h>

#if REAL_BITS == 32
#define CRF_TINY 1.2e-38      /* absolute error of anything near zero */
#define CRF_LOW R(1e-31)      /* above that such an error hardly counts */
#define CRF_LEAST R(1e-26)    /* of sums over a row: so that divisions by them stay in range */
#define CRF_TOLERANCE 3e-8
#else
#define CRF_TINY 2.3e-308
#define CRF_LOW R(1e-292)
#define CRF_LEAST R(1e-280)
#define CRF_TOLERANCE 1e-16
#endif

#define EACH_VECTOR_OF(c) for (long k = 0; k < (c)->ld; k += VL)

INLINE double crf_weight(const rc_crf *c, long b) { return c->weight ? c->weight[b] : 1; }
INLINE real *crf_row(const rc_crf *c, const void *base, long row) { return (real *)base + row * c->ld; }
static inline long crf_count(const rc_crf *c, long t, long shard, long shards) { /* rows of a step in a shard */
    return t < c->steps && c->active[t] > shard ? (c->active[t] - shard + shards - 1) / shards : 0;
}

/* The sum, or the largest, of a vector's numbers: halves onto halves. */
#define FOLD(name, expression)                                                                                         \
    INLINE real name(vec v) {                                                                                          \
        real lane[VL];                                                                                                 \
        vstore(lane, v);                                                                                               \
        UNROLL for (int half = VL / 2; half; half /= 2)                                                                \
            UNROLL for (int j = 0; j < half; j++) {                                                                    \
                real a = lane[j], b = lane[j + half];                                                                  \
                lane[j] = expression;                                                                                  \
            }                                                                                                          \
        return lane[0];                                                                                                \
    }
FOLD(fold_sum, a + b)
FOLD(fold_max, a > b ? a : b)
FOLD(fold_min, a < b ? a : b)

/* ---------------------------------------------------------------- parameters */

/* Scores of n labels, -inf where forbidden and in the pads; returns the largest. */
static double crf_allowed(const rc_crf *c, const real *scores, const char *allowed, real *out) {
    real largest = -INFINITY;
    for (long k = 0; k < c->ld; k++) {
        out[k] = k < c->labels && (!allowed || allowed[k]) ? scores[k] : -INFINITY;
        largest = out[k] > largest ? out[k] : largest;
    }
    return largest;
}

/* factors = exp(scores - largest) */
static void crf_factors(long n, const real *scores, double largest, real *factors) {
    const vec top = vset1((real)largest);
    for (long k = 0; k < n; k += VL) vstore(factors + k, vexp(vload(scores + k) - top));
}

/* One row per step, as long as rows differ: CRF_LOW for labels that can be reached, -1 for others and in the pads. */
static long crf_reach(const rc_crf *c, const real *from, int backward, real *rows) {
    const long K = c->labels, ld = c->ld;
    for (long k = 0; k < ld; k++) rows[k] = from[k] > -INFINITY ? CRF_LOW : -1;
    for (long t = 1; t < c->steps; t++) {
        const real *before = rows + (t - 1) * ld;
        real *now = rows + t * ld;
        for (long k = 0; k < ld; k++) now[k] = -1;
        for (long i = 0; i < K; i++) {
            const real *A = crf_row(c, c->transitions, i);
            if (backward)
                for (long j = 0; j < K; j++) now[i] = A[j] > -INFINITY && before[j] > 0 ? CRF_LOW : now[i];
            else if (before[i] > 0)
                for (long j = 0; j < K; j++) now[j] = A[j] > -INFINITY ? CRF_LOW : now[j];
        }
        if (memcmp(before, now, ld * sizeof(real)) == 0) return t;
    }
    return c->steps;
}

static void crf_prepare(rc_crf *c, const void *transitions, const void *start, const void *end, const char *allowed) {
    const long K = c->labels;
    double largest = -INFINITY;
    for (long i = 0; i < K; i++) {
        double top = crf_allowed(c, (const real *)transitions + i * K, allowed ? allowed + i * K : 0,
                                 crf_row(c, c->transitions, i));
        largest = top > largest ? top : largest;
    }
    c->largest = largest > -INFINITY ? largest : 0; /* one label may be allowed to stand alone */
    c->largest_start = crf_allowed(c, start, allowed ? allowed + K * K : 0, c->start);
    c->largest_end = crf_allowed(c, end, allowed ? allowed + K * K + K : 0, c->end);
    crf_factors(K * c->ld, c->transitions, c->largest, c->factors);
    crf_factors(c->ld, c->start, c->largest_start, c->start_factors);
    crf_factors(c->ld, c->end, c->largest_end, c->end_factors);
    c->reach_rows = crf_reach(c, c->start, 0, c->reach);
    c->back_reach_rows = crf_reach(c, c->end, 1, c->back_reach);
}

/* ---------------------------------------------------------------- fast recursions */

/* e = exp(s - max s), 0 in the pads, whatever lies there in s; returns max s */
INLINE real crf_emissions(const rc_crf *c, const real *s, real *e) {
    const vec none = vset1(-INFINITY), zero = vset1(0);
    vec top = none;
    EACH_VECTOR_OF(c) {
        vec x = vselect(vless(vload((const real *)c->pads + k), zero), none, vload(s + k));
        vstore(e + k, x);
        top = vmax(x, top);
    }
    const real largest = fold_max(top);
    const vec shift = vset1(largest);
    EACH_VECTOR_OF(c) vstore(e + k, vexp(vload(e + k) - shift));
    return largest;
}

/* out = x ∘ e; returns the sum, that of e too, and whether a number is lower than it may be */
INLINE real crf_weigh(const rc_crf *c, const real *x, const real *e, const real *reach, real *out, double *sum_e,
                      int *low) {
    vec sum = vset1(0), sum_of_e = vset1(0), room = vset1(1);
    EACH_VECTOR_OF(c) {
        vec factor = vload(e + k), product = vload(x + k) * factor;
        vstore(out + k, product);
        sum += product;
        sum_of_e += factor;
        room = vmin(product - vload(reach + k), room);
    }
    *sum_e = fold_sum(sum_of_e);
    *low = fold_min(room) < 0;
    return fold_sum(sum);
}

/* x = x ∘ y */
INLINE void crf_times(const rc_crf *c, real *x, const real *y) {
    EACH_VECTOR_OF(c) vstore(x + k, vload(x + k) * vload(y + k));
}

INLINE real crf_dot(const rc_crf *c, const real *x, const real *y) {
    vec sum = vset1(0);
    EACH_VECTOR_OF(c) sum += vload(x + k) * vload(y + k);
    return fold_sum(sum);
}

INLINE void crf_scale(const rc_crf *c, real factor, real *x) {
    EACH_VECTOR_OF(c) vstore(x + k, vload(x + k) * vset1(factor));
}

/* A sum that is too small to trust, or not a number. */
INLINE void crf_check(const rc_crf *c, long b, real sum) {
    if (!(sum >= CRF_LEAST)) c->flags[b] |= RC_CRF_EXACT;
}

/* 2^-e for 2^e <= sum < 2^(e+1): takes the place of a division, and log 2^e that of a logarithm */
INLINE real crf_power_below(double sum, int *exponent) {
    int64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    *exponent = (int)(bits >> 52 & 2047) - 1023;
    bits = (int64_t)((uint64_t)(1023 - *exponent) << 52); /* of a sum that is no number, too */
    memcpy(&sum, &bits, sizeof bits);
    return (real)sum;
}

/* C = A·(E or Eᵀ) for the shard's first rows of two steps; BLAS leaves the pads as they are */
INLINE void crf_product(const rc_crf *c, const rc_packed *E, long count, const real *A, long shards, real *C) {
    product(E, count, A, shards * c->ld, RC_FROM_ZERO, C, shards * c->ld);
    if (E->gemm)
        for (long n = 0; n < count; n++)
            for (long k = c->labels; k < c->ld; k++) C[n * shards * c->ld + k] = 0;
}

static void crf_forward(const rc_crf *c, long shard, long shards) {
    for (long t = 0, count; (count = crf_count(c, t, shard, shards)) && !rnncore_stopping(); t++) {
        const long first = c->offsets[t] + shard;
        if (t)
            crf_product(c, &c->onward, count, crf_row(c, c->alpha, c->offsets[t - 1] + shard), shards,
                        crf_row(c, c->alpha, first));
        for (long n = 0; n < count; n++) {
            const long b = shard + n * shards, row = first + n * shards;
            real *alpha = crf_row(c, c->alpha, row), *e = crf_row(c, c->gamma, row);
            double log_total = crf_emissions(c, crf_row(c, c->scores, row), e);
            if (t == 0) {
                memcpy(alpha, c->start_factors, c->ld * sizeof(real));
                c->flags[b] &= ~RC_CRF_EXACT;
                log_total += c->largest_start;
            } else
                log_total += c->log_total[b] + c->largest;
            double sum_e;
            int low, exponent;
            real sum = crf_weigh(c, alpha, e, crf_row(c, c->reach, lmin(t, c->reach_rows - 1)), alpha, &sum_e, &low);
            crf_check(c, b, sum);
            const real factor = crf_power_below(sum, &exponent);
            crf_scale(c, factor, alpha);
            c->lost[b] = ((t ? c->lost[b] * sum_e : 0) + low * c->labels * CRF_TINY) * factor;
            log_total += exponent * 0.693147180559945309417;
            if (t + 1 == c->length[b]) {
                sum = crf_dot(c, alpha, c->end_factors);
                crf_check(c, b, sum);
                if (!(c->lost[b] <= CRF_TOLERANCE * sum)) c->flags[b] |= RC_CRF_EXACT;
                c->lost[b] = 0; /* for the way back */
                log_total += c->largest_end + log(sum);
            }
            c->log_total[b] = log_total;
        }
    }
}

INLINE const real *crf_back_reach(const rc_crf *c, long t, long b) {
    return crf_row(c, c->back_reach, lmin(c->length[b] - 1 - t, c->back_reach_rows - 1));
}

static void crf_backward(const rc_crf *c, long shard, long shards) {
    for (long t = c->steps - 1; t >= 0 && !rnncore_stopping(); t--) {
        const long count = crf_count(c, t, shard, shards), go_on = crf_count(c, t + 1, shard, shards);
        const long first = c->offsets[t] + shard;
        if (go_on)
            crf_product(c, &c->back, go_on, crf_row(c, c->gamma, c->offsets[t + 1] + shard), shards,
                        crf_row(c, c->beta, first));
        for (long n = 0; n < count; n++) {
            const long b = shard + n * shards, row = first + n * shards;
            real *alpha = crf_row(c, c->alpha, row), *beta = crf_row(c, c->beta, row);
            real *gamma = crf_row(c, c->gamma, row); /* e, as yet */
            if (n >= go_on) memcpy(beta, c->end_factors, c->ld * sizeof(real));
            real sum = crf_dot(c, alpha, beta);
            crf_check(c, b, sum);
            if (!t) {
                if (!(2 * c->lost[b] <= CRF_TOLERANCE * sum)) c->flags[b] |= RC_CRF_EXACT;
            } else {
                double sum_e;
                int low;
                real total = crf_weigh(c, beta, gamma, crf_back_reach(c, t, b), gamma, &sum_e, &low);
                crf_check(c, b, total);
                crf_scale(c, 1 / total, gamma);
                c->lost[b] = (c->lost[b] * sum_e + low * c->labels * CRF_TINY) / total;
            }
            crf_scale(c, 1 / sum, alpha);
            crf_times(c, beta, alpha);
        }
    }
    /* what went wrong must not spoil the sums over rows; of rows that were not made, flags say nothing */
    for (long b = shard; b < c->sequences && !rnncore_stopping(); b += shards)
        for (long t = 0; t < c->length[b] && c->flags[b] & RC_CRF_EXACT; t++) {
            memset(crf_row(c, c->alpha, c->offsets[t] + b), 0, c->ld * sizeof(real));
            memset(crf_row(c, c->gamma, c->offsets[t] + b), 0, c->ld * sizeof(real));
        }
    for (long b = shard; b < c->sequences && c->weight && !rnncore_stopping(); b += shards) /* of the transitions */
        for (long t = 1; t < c->length[b]; t++)
            crf_scale(c, (real)c->weight[b], crf_row(c, c->gamma, c->offsets[t] + b));
}

/* ---------------------------------------------------------------- slow and safe */

INLINE double crf_add_logs(double largest, double sum) { return largest > -INFINITY ? largest + log(sum) : -INFINITY; }

/* The labels that a row may have: all, or the known one. */
INLINE void crf_choices(const rc_crf *c, const int64_t *targets, long row, long *from, long *to) {
    const int known = targets && targets[row] >= 0;
    *from = known ? targets[row] : 0;
    *to = known ? *from + 1 : c->labels;
}

static double crf_exact(const rc_crf *c, long b, const int64_t *targets, int marginals, double sign, void *counts_) {
    const long K = c->labels, T = c->length[b];
    const real *A = c->transitions, *start = c->start, *end = c->end, *s;
    real *counts = counts_;
    double *la = c->work, *lb = la + T * K, total, top, sum; /* log α, log β */
    const double share = sign * crf_weight(c, b);
    long t, i, j, from, to, next_from, next_to;
/* into = log Σ exp(term) over the labels `label` of a range */
#define LOG_SUM(into, label, begin, stop, term)                                                                        \
    do {                                                                                                               \
        top = -INFINITY, sum = 0;                                                                                      \
        for (label = begin; label < stop; label++) top = (term) > top ? (term) : top;                                  \
        for (label = begin; label < stop && top > -INFINITY; label++) sum += exp((term) - top);                        \
        into = crf_add_logs(top, sum);                                                                                 \
    } while (0)
    s = crf_row(c, c->scores, b);
    crf_choices(c, targets, b, &from, &to);
    for (j = from; j < to; j++) la[j] = (double)start[j] + s[j];
    for (t = 1; t < T; t++, from = next_from, to = next_to) {
        s = crf_row(c, c->scores, c->offsets[t] + b);
        crf_choices(c, targets, c->offsets[t] + b, &next_from, &next_to);
        if (rnncore_stopping()) return 0;
        for (j = next_from; j < next_to; j++) {
            LOG_SUM(la[t * K + j], i, from, to, la[(t - 1) * K + i] + A[i * c->ld + j]);
            la[t * K + j] += s[j];
        }
    }
    LOG_SUM(total, j, from, to, la[(T - 1) * K + j] + end[j]);
    if (!marginals) return total;
    for (j = from; j < to; j++) lb[(T - 1) * K + j] = end[j];
    for (t = T - 1; t >= 0; t--) {
        long row = c->offsets[t] + b;
        real *p = crf_row(c, c->beta, row);
        if (sign > 0) memset(p, 0, c->ld * sizeof(real));
        crf_choices(c, targets, row, &from, &to);
        for (j = from; j < to; j++) p[j] += (real)(sign * exp(la[t * K + j] + lb[t * K + j] - total));
        if (!t || rnncore_stopping()) break;
        s = crf_row(c, c->scores, row);
        crf_choices(c, targets, c->offsets[t - 1] + b, &next_from, &next_to);
        for (i = next_from; i < next_to; i++) {
            LOG_SUM(lb[(t - 1) * K + i], j, from, to, A[i * c->ld + j] + (s[j] + lb[t * K + j]));
            for (j = from; j < to && counts; j++)
                counts[i * K + j] -= (real)(share * exp(la[(t - 1) * K + i] + A[i * c->ld + j] +
                                                        (s[j] + lb[t * K + j] - total)));
        }
    }
    return total;
#undef LOG_SUM
}

static double crf_path_score(const rc_crf *c, long b, const int64_t *labels, void *counts) {
    double score = ((const real *)c->start)[labels[b]];
    const real share = (real)crf_weight(c, b);
    for (long t = 0, before = -1; t < c->length[b]; t++) {
        const long row = c->offsets[t] + b, label = labels[row];
        score += crf_row(c, c->scores, row)[label];
        if (t) score += crf_row(c, c->transitions, before)[label];
        if (t && counts) ((real *)counts)[before * c->labels + label] += share;
        before = label;
    }
    return score + ((const real *)c->end)[labels[c->last[b]]];
}

/* ---------------------------------------------------------------- results */

static void crf_finish(const rc_crf *c, const int64_t *targets, double scale, long shard, long shards) {
    for (long t = 0, count; (count = crf_count(c, t, shard, shards)) && !rnncore_stopping(); t++)
        for (long n = 0; n < count; n++) {
            const long b = shard + n * shards, row = c->offsets[t] + b;
            real *s = crf_row(c, c->scores, row);
            const real *p = crf_row(c, c->beta, row);
            if (!targets) {
                memcpy(s, p, c->ld * sizeof(real));
                continue;
            }
            const double share = scale * crf_weight(c, b);
            EACH_VECTOR_OF(c) vstore(s + k, vload(p + k) * vset1((real)share));
            if (!(c->flags[b] & RC_CRF_PARTIAL)) s[targets[row]] = (real)((p[targets[row]] - 1.0) * share);
        }
}

static void crf_transition_gradient(const rc_crf *c, double scale, const void *expected, const void *counts,
                                    int accumulate, void *d) {
    for (long i = 0; i < c->labels; i++) {
        const real *E = crf_row(c, c->factors, i), *X = (const real *)expected + i * c->labels;
        const real *N = (const real *)counts + i * c->labels;
        real *out = (real *)d + i * c->labels;
        for (long j = 0; j < c->labels; j++)
            out[j] = (accumulate ? out[j] : 0) + (real)scale * (E[j] * X[j] - N[j]);
    }
}

/* ---------------------------------------------------------------- the best label sequences */

/* δ_t = s_t + max over i of (δ_{t-1}[i] + A[i]) for nv vectors of labels */
#define CRF_BLOCK 4
INLINE void crf_best_before(const rc_crf *c, const int nv, const real *before, const real *A, const real *s,
                            real *delta) {
    vec best[CRF_BLOCK];
    UNROLL for (int v = 0; v < nv; v++) best[v] = vset1(-INFINITY);
    for (long i = 0; i < c->labels; i++, A += c->ld) {
        const vec d = vset1(before[i]);
        UNROLL for (int v = 0; v < nv; v++) best[v] = vmax(d + vload(A + v * VL), best[v]);
    }
    UNROLL for (int v = 0; v < nv; v++) vstore(delta + v * VL, best[v] + vload(s + v * VL));
}

/* δ of `count` rows, `stride` apart: a block of labels at a time, whose part of A then stays in cache */
static void crf_best_step(const rc_crf *c, long count, long stride, const real *before, const real *s, real *delta) {
    const real *A = c->transitions;
    for (long k = 0, nv; k < c->ld; k += nv * VL) {
        nv = lmin(CRF_BLOCK, (c->ld - k) / VL);
        for (long n = 0; n < count; n++) {
            const long at = n * stride;
            switch (nv) {
            case 4: crf_best_before(c, 4, before + at, A + k, s + at + k, delta + at + k); break;
            case 3: crf_best_before(c, 3, before + at, A + k, s + at + k, delta + at + k); break;
            case 2: crf_best_before(c, 2, before + at, A + k, s + at + k, delta + at + k); break;
            default: crf_best_before(c, 1, before + at, A + k, s + at + k, delta + at + k);
            }
        }
    }
}

/* Where the best way to a label comes from; ties: the first. Only asked along one path, so not kept for all labels. */
static long crf_came_from(const rc_crf *c, const real *before, long label) {
    const real *A = (const real *)c->transitions + label;
    long from = 0;
    real best = before[0] + A[0];
    for (long i = 1; i < c->labels; i++) {
        real candidate = before[i] + A[i * c->ld];
        if (candidate > best) {
            best = candidate;
            from = i;
        }
    }
    return from;
}

/* Labels may be many steps away from the beginning: δ is kept near zero. */
static void crf_near_zero(const rc_crf *c, real *delta) {
    vec largest = vset1(-INFINITY); /* maxima pass NaN over */
    EACH_VECTOR_OF(c) largest = vmax(vload(delta + k), largest);
    const real top = fold_max(largest);
    if (top > -INFINITY && top < INFINITY) EACH_VECTOR_OF(c) vstore(delta + k, vload(delta + k) - vset1(top));
}

static void crf_viterbi(const rc_crf *c, long shard, long shards, int64_t *paths) {
    const real *start = c->start, *end = c->end;
    for (long t = 0, count; (count = crf_count(c, t, shard, shards)) && !rnncore_stopping(); t++) {
        const long first = c->offsets[t] + shard;
        if (t)
            crf_best_step(c, count, shards * c->ld, crf_row(c, c->alpha, c->offsets[t - 1] + shard),
                          crf_row(c, c->scores, first), crf_row(c, c->alpha, first));
        for (long n = 0; n < count; n++) {
            const long b = shard + n * shards, row = first + n * shards;
            real *delta = crf_row(c, c->alpha, row);
            const real *s = crf_row(c, c->scores, row);
            if (!t) EACH_VECTOR_OF(c) vstore(delta + k, vload(start + k) + vload(s + k));
            crf_near_zero(c, delta);
            if (t + 1 < c->length[b]) continue;
            if (rnncore_stopping()) return;
            long label = 0;
            for (long k = 1; k < c->labels; k++) label = delta[k] + end[k] > delta[label] + end[label] ? k : label;
            paths[row] = label;
            for (long u = t - 1; u >= 0; u--)
                paths[c->offsets[u] + b] = label = crf_came_from(c, crf_row(c, c->alpha, c->offsets[u] + b), label);
        }
    }
}

/* The n best ways to a label at a step: scores, falling, and where each one comes from (label·n + rank). */
typedef struct {
    double *score;
    int64_t *from;
} crf_ways;

/* Whether one way comes before another; of equal ones, that from a lower label or rank. */
static int crf_beats(double score, int64_t from, double other, int64_t its_from) {
    return score > other || (score == other && from < its_from);
}

/* Put a way among the n of a label, if it is one of the best; return the worst one's score. */
static double crf_insert(crf_ways ways, long n, double score, int64_t from) {
    long at = n;
    while (at > 0 && crf_beats(score, from, ways.score[at - 1], ways.from[at - 1])) at--;
    for (long i = n - 1; i > at; i--) {
        ways.score[i] = ways.score[i - 1];
        ways.from[i] = ways.from[i - 1];
    }
    if (at < n) {
        ways.score[at] = score;
        ways.from[at] = from;
    }
    return ways.score[n - 1];
}

/* Labels by the score of the best way to each, falling (Shell's sort). */
static void crf_by_best(long labels, long top, const double *score, int64_t *order) {
    static const long gaps[] = {701, 301, 132, 57, 23, 10, 4, 1}; /* Ciura 2001 */
    for (long i = 0; i < labels; i++) order[i] = i;
    for (unsigned g = 0; g < sizeof gaps / sizeof *gaps; g++)
        for (long i = gaps[g]; i < labels; i++) {
            const int64_t moved = order[i];
            long at = i;
            for (; at >= gaps[g] && score[order[at - gaps[g]] * top] < score[moved * top]; at -= gaps[g])
                order[at] = order[at - gaps[g]];
            order[at] = moved;
        }
}

/* Offer all labels the n ways to label i, `before`, with one more step. Most labels have n better ones, which is seen
 * for several at once. worst: of each label, the score of the worst of its ways. */
#define CRF_OFFERS 8
static void crf_offer(const rc_crf *c, long i, long top, const double *before, const real *s, double *worst,
                      crf_ways ways) {
    const real *A = crf_row(c, c->transitions, i);
    if (!(before[0] > -INFINITY)) return;
    for (long k = 0; k < c->labels; k += CRF_OFFERS) {
        const long end = lmin(k + CRF_OFFERS, c->labels);
        int wanted = 0;
        for (long j = k; j < end; j++) wanted |= before[0] + ((double)A[j] + s[j]) >= worst[j];
        for (long j = k; wanted && j < end; j++) {
            const double step = (double)A[j] + s[j];
            const crf_ways own = {ways.score + j * top, ways.from + j * top};
            for (long r = 0; r < top && before[r] + step >= worst[j]; r++) { /* falling: nor are those that follow */
                if (!(before[r] + step > -INFINITY)) break;
                worst[j] = crf_insert(own, top, before[r] + step, i * top + r);
            }
        }
    }
}

static long crf_best_work(const rc_crf *c, long top) {
    const long doubles = 2 * c->labels * top + top + c->labels, numbers = (c->steps * top + 1) * c->labels + top;
    return doubles * (long)sizeof(double) + numbers * (long)sizeof(int64_t);
}

static void crf_best(const rc_crf *c, long b, long top, long rows, void *work, int64_t *paths, double *scores) {
    const long K = c->labels, T = c->length[b], size = K * top;
    const real *start = c->start, *end = c->end;
    double *now = work, *before = now + size, *last = before + size, *worst = last + top;
    int64_t *from = (int64_t *)(worst + K), *chosen = from + T * size, *order = chosen + top;
    for (long t = 0; t < T; t++) {
        if (rnncore_stopping()) return;
        const real *s = crf_row(c, c->scores, c->offsets[t] + b);
        for (long i = 0; i < size; i++) now[i] = -INFINITY;
        for (long j = 0; j < K; j++) worst[j] = -INFINITY;
        memset(from + t * size, 0, size * sizeof(int64_t));
        const crf_ways ways = {now, from + t * size};
        if (!t)
            for (long j = 0; j < K; j++) now[j * top] = (double)start[j] + s[j];
        else { /* the best first: few others are then wanted */
            crf_by_best(K, top, before, order);
            for (long k = 0; k < K; k++) crf_offer(c, order[k], top, before + order[k] * top, s, worst, ways);
        }
        double *swap = now;
        now = before;
        before = swap;
    }
    crf_ways ends = {last, chosen};
    for (long r = 0; r < top; r++) ends.score[r] = -INFINITY;
    for (long i = 0; i < size; i++)
        if (before[i] + end[i / top] > last[top - 1]) crf_insert(ends, top, before[i] + end[i / top], i);
    for (long r = 0; r < top; r++) {
        int64_t way = last[r] > -INFINITY ? chosen[r] : -1;
        scores[r] = last[r];
        for (long t = T - 1; t >= 0; t--) {
            paths[r * rows + c->offsets[t] + b] = way < 0 ? -1 : way / top;
            if (t && way >= 0) way = from[t * size + way];
        }
    }
}

static const rc_crf_table crf_table = {
    .prepare = crf_prepare,
    .forward = crf_forward,
    .backward = crf_backward,
    .exact = crf_exact,
    .path_score = crf_path_score,
    .finish = crf_finish,
    .transition_gradient = crf_transition_gradient,
    .viterbi = crf_viterbi,
    .best_work = crf_best_work,
    .best = crf_best,
};
#endif
