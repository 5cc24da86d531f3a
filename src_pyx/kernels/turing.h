/* Neural Turing machine (Graves, Wayne and Danihelka 2014): a controller, a memory, and heads that read and write it.
 *
 *   controller   a = x_t·W_xh + b + [r_{t-1} h_{t-1}]·W_hh       an LSTM's gates i, f, g, o (lstm.h), or h = tanh(a) of
 *                p = h_t·W + b: what each head is told           x_t and r_{t-1} alone
 *   addressing   β = softplus   g = σ   s = softmax   γ = 1 + softplus   e = σ    k, a as they are
 *     cosine     K_i = k·M_i / (|k|·|M_i|)             |v| = sqrt(v·v + ε)
 *     content    wc = softmax over i of β·K_i
 *     gate       wg = g·wc + (1-g)·w_{t-1}
 *     shift      ws_i = Σ_s s_s·wg_{i-s}               around a ring
 *     sharpen    w_i = (ws_i + δ)^γ / Σ_j (ws_j + δ)^γ
 *   reading      r_t = Σ_i w_i·M_i                     of the memory before the step, as is addressing
 *   writing      M_i <- M_i ⊙ Π_v (1 - w_vi·e_v) + Σ_v w_vi·a_v
 *
 * Backward, with D the gradient of the memory after the step and dw of the weights that the next step's gate saw:
 *
 *   writing      dw_vi += Σ_j D_ij·(a_vj - M_ij·e_vj·P_vij)     P_v: the product over the other heads that write
 *                da_vj = Σ_i D_ij·w_vi    de_vj = -Σ_i D_ij·M_ij·w_vi·P_vij    dM_ij = D_ij·Π_v (1 - w_vi·e_vj)
 *   reading      dw_i += dr·M_i           dM_i += w_i·dr
 *   sharpen      dy_i = w_i·(dw_i - Σ_j w_j·dw_j)   dγ = Σ_i dy_i·log(ws_i + δ)   dws_i = γ·dy_i/(ws_i + δ)
 *   shift        ds_s = Σ_i dws_i·wg_{i-s}          dwg_i = Σ_s s_s·dws_{i+s}
 *   gate         dg = Σ_i dwg_i·(wc_i - w_{t-1,i})  dwc = g·dwg    dw_{t-1} = (1-g)·dwg
 *   content      du_i = wc_i·(dwc_i - Σ_j wc_j·dwc_j)    dβ = Σ_i du_i·K_i    dK_i = β·du_i
 *   cosine       dk = Σ_i dK_i·(M_i/(|k||M_i|) - k·K_i/|k|²)    dM_i += dK_i·(k/(|k||M_i|) - M_i·K_i/|M_i|²)
 *
 * Shapes: turing_api.h. A row of emissions has for each head k (M), β, g, γ, s (2S+1), heads that read first; then for
 * each that writes e (M), a (M). The memory lies column by column, so that whatever is done to each location is done to
 * vectors of them; weights, memory and their gradients are zero in the pads.
 */
#ifndef RNNCORE_TURING_H
#define RNNCORE_TURING_H
#include "crf.h" /* fold_sum, fold_max */
#include "gemm.h"
#include "kernels.h"
#include "pool.h"
#include "vmath.h"
#include <math.h>

#define TURING_EPSILON R(1e-8)
#define TURING_DELTA R(1e-16)
#define EACH_LOCATION(m) for (long i = 0; i < (m)->ld; i += VL)

/* log x, 0 < x < ∞: the bits of x, read as a number, are a first guess; then Halley's iteration twice, which makes an
 * error of d one of d³/12 */
INLINE vec vlog(vec x) {
    const real scale = (real)0.693147180559945309417 / (real)((word)1 << MANTISSA_BITS);
    const real none = ((real)EXPONENT_BIAS - R(0.043)) * (real)0.693147180559945309417;
#if VECTOR_BYTES > 0
    vec y = __builtin_convertvector(vbits(x), vec) * scale - none;
#else
    vec y = (real)vbits(x) * scale - none;
#endif
    UNROLL for (int n = 0; n < 2; n++) {
        const vec e = vexp(y);
        y += (vec)((x - e) + (x - e)) / (x + e);
    }
    return y;
}

/* ---------------------------------------------------------------- rows and what they hold */

INLINE long turing_heads(const rc_turing *m) { return m->reads + m->writes; }
INLINE long turing_shifts(const rc_turing *m) { return 2 * m->shifts + 1; }
INLINE long turing_told(const rc_turing *m) { return m->width + 3 + turing_shifts(m); } /* numbers for addressing */
INLINE real *turing_at(void *array, long row, long ld) { return (real *)array + row * ld; }
INLINE long turing_erase(const rc_turing *m, long v) { return turing_heads(m) * turing_told(m) + 2 * v * m->width; }

/* What one step of one sequence works on. */
typedef struct {
    const rc_turing *m;
    real *p;                                      /* its emissions */
    const real *memory, *norms, *before, *state;  /* memory and weights before the step; state after it */
    real *written, *cosines, *content, *shifted, *weights;
} turing_step;

static turing_step turing_at_step(const rc_turing *m, long row, long previous) {
    const long heads = turing_heads(m) * m->ld, size = m->width * m->ld;
    return (turing_step){
        .m = m,
        .p = turing_at(m->emissions, row, m->ldp),
        .memory = turing_at(m->memory, previous, size),
        .norms = turing_at(m->norms, row, m->ld),
        .before = turing_at(m->weights, previous, heads),
        .state = turing_at(m->state, row, m->lds),
        .written = turing_at(m->memory, row, size),
        .cosines = turing_at(m->cosines, row, heads),
        .content = turing_at(m->content, row, heads),
        .shifted = turing_at(m->shifted, row, heads),
        .weights = turing_at(m->weights, row, heads),
    };
}

INLINE void turing_pads(const rc_turing *m, real *x, real value) {
    for (long i = m->locations; i < m->ld; i++) x[i] = value;
}

/* x becomes its softmax over all locations */
static void turing_softmax(const rc_turing *m, real *x) {
    vec top = vset1(-INFINITY), sum = vset1(0);
    turing_pads(m, x, -INFINITY);
    EACH_LOCATION(m) top = vmax(vload(x + i), top);
    const vec most = vset1(fold_max(top));
    EACH_LOCATION(m) {
        const vec e = vexp(vload(x + i) - most);
        vstore(x + i, e);
        sum += e;
    }
    const vec share = vset1(1 / fold_sum(sum));
    EACH_LOCATION(m) vstore(x + i, vload(x + i) * share);
}

/* d: from the gradient of x, a softmax, to that of what it was taken of */
static void turing_softmax_back(const rc_turing *m, const real *x, real *d) {
    vec sum = vset1(0);
    EACH_LOCATION(m) sum += vload(x + i) * vload(d + i);
    const vec mean = vset1(fold_sum(sum));
    EACH_LOCATION(m) vstore(d + i, vload(x + i) * (vload(d + i) - mean));
}

/* the weights x on a ring: shifts of them before the first and after the last; returns where the first is */
static const real *turing_ring(const rc_turing *m, const real *x, real *ring) {
    const long S = m->shifts, N = m->locations;
    memcpy(ring + S, x, N * sizeof(real));
    for (long s = 0; s < S; s++) {
        ring[s] = x[N - S + s];
        ring[S + N + s] = x[s];
    }
    for (long i = N + 2 * S; i < m->ld + 2 * S; i++) ring[i] = 0;
    return ring + S;
}

INLINE real turing_softplus(real x) { return (real)(x > 0 ? x + log1p(exp(-(double)x)) : log1p(exp((double)x))); }
INLINE real turing_sigmoid(real x) { return (real)(1 / (1 + exp(-(double)x))); }

/* what the heads are told, from sums to what it means */
static void turing_emit(const rc_turing *m, real *p) {
    const long M = m->width, shifts = turing_shifts(m);
    for (long h = 0; h < turing_heads(m); h++) {
        real *told = p + h * turing_told(m) + M, *s = told + 3, top = s[0], sum = 0;
        told[0] = turing_softplus(told[0]);
        told[1] = turing_sigmoid(told[1]);
        told[2] = 1 + turing_softplus(told[2]);
        for (long j = 1; j < shifts; j++) top = s[j] > top ? s[j] : top;
        for (long j = 0; j < shifts; j++) sum += s[j] = (real)exp((double)(s[j] - top));
        for (long j = 0; j < shifts; j++) s[j] /= sum;
    }
    for (long v = 0; v < m->writes; v++)
        for (long j = 0; j < M; j++) p[turing_erase(m, v) + j] = turing_sigmoid(p[turing_erase(m, v) + j]);
}

/* and the gradients of the sums from those of what they mean */
static void turing_emit_back(const rc_turing *m, const real *p, real *d) {
    const long M = m->width, shifts = turing_shifts(m);
    for (long h = 0; h < turing_heads(m); h++) {
        const real *told = p + h * turing_told(m) + M, *s = told + 3;
        real *dtold = d + h * turing_told(m) + M, *ds = dtold + 3, mean = 0;
        dtold[0] *= (real)-expm1(-(double)told[0]);
        dtold[1] *= told[1] * (1 - told[1]);
        dtold[2] *= (real)-expm1(1 - (double)told[2]);
        for (long j = 0; j < shifts; j++) mean += s[j] * ds[j];
        for (long j = 0; j < shifts; j++) ds[j] = s[j] * (ds[j] - mean);
    }
    for (long v = 0; v < m->writes; v++)
        for (long j = turing_erase(m, v); j < turing_erase(m, v) + M; j++) d[j] *= p[j] * (1 - p[j]);
}

/* ---------------------------------------------------------------- addressing */

/* work: a ring */
static void turing_address(const turing_step *t, long h, real *work) {
    const rc_turing *m = t->m;
    const long M = m->width, S = m->shifts;
    const real *k = t->p + h * turing_told(m), *told = k + M, *s = told + 3, *before = t->before + h * m->ld;
    real *cosine = t->cosines + h * m->ld, *content = t->content + h * m->ld, *shifted = t->shifted + h * m->ld;
    real *w = t->weights + h * m->ld, size = TURING_EPSILON;
    for (long j = 0; j < M; j++) size += k[j] * k[j];
    const vec share = vset1(1 / (real)sqrt(size)), beta = vset1(told[0]), gate = vset1(told[1]), gamma = vset1(told[2]);
    EACH_LOCATION(m) {
        vec sum = vset1(0);
        for (long j = 0; j < M; j++) sum += vset1(k[j]) * vload(t->memory + j * m->ld + i);
        sum *= share / vload(t->norms + i);
        vstore(cosine + i, sum);
        vstore(content + i, beta * sum);
    }
    turing_softmax(m, content);
    EACH_LOCATION(m) {
        const vec old = vload(before + i);
        vstore(w + i, old + gate * (vload(content + i) - old));
    }
    const real *ring = turing_ring(m, w, work);
    EACH_LOCATION(m) {
        vec sum = vset1(0);
        for (long j = -S; j <= S; j++) sum += vset1(s[S + j]) * vload(ring + i - j);
        vstore(shifted + i, sum);
        vstore(w + i, gamma * vlog(sum + vset1(TURING_DELTA)));
    }
    turing_pads(m, shifted, 0);
    turing_softmax(m, w);
}

/* From dw to d (the emissions'), dmemory and, in dbefore, the gradient of the weights before. dw is used up. work: two
 * rings and a row of locations. */
static void turing_address_back(const turing_step *t, long h, real *dw, real *d, real *dmemory, real *dbefore, real *work) {
    const rc_turing *m = t->m;
    const long M = m->width, S = m->shifts, space = m->ld + 2 * S + VL;
    const real *k = t->p + h * turing_told(m), *told = k + M, *s = told + 3, *before = t->before + h * m->ld;
    const real *cosine = t->cosines + h * m->ld, *content = t->content + h * m->ld;
    const real *shifted = t->shifted + h * m->ld, *w = t->weights + h * m->ld;
    real *dk = d + h * turing_told(m), *dtold = dk + M, *gated = work + 2 * space, size = TURING_EPSILON;
    const vec beta = vset1(told[0]), gate = vset1(told[1]), gamma = vset1(told[2]), one = vset1(1);
    vec sum = vset1(0);
    turing_softmax_back(m, w, dw);
    EACH_LOCATION(m) {
        const vec kept = vload(shifted + i) + vset1(TURING_DELTA), dy = vload(dw + i), old = vload(before + i);
        sum += dy * vlog(kept);
        vstore(dw + i, gamma * dy / kept);
        vstore(gated + i, old + gate * (vload(content + i) - old));
    }
    dtold[2] = fold_sum(sum);
    const real *ring = turing_ring(m, gated, work), *dring = turing_ring(m, dw, work + space);
    for (long j = -S; j <= S; j++) {
        sum = vset1(0);
        EACH_LOCATION(m) sum += vload(dw + i) * vload(ring + i - j);
        dtold[3 + S + j] = fold_sum(sum);
    }
    sum = vset1(0);
    EACH_LOCATION(m) {
        const vec old = vload(before + i);
        vec dg = vset1(0);
        for (long j = -S; j <= S; j++) dg += vset1(s[S + j]) * vload(dring + i + j);
        sum += dg * (vload(content + i) - old);
        vstore(dw + i, gate * dg);
        vstore(dbefore + i, (one - gate) * dg);
    }
    turing_pads(m, dw, 0);
    turing_pads(m, dbefore, 0);
    dtold[1] = fold_sum(sum);
    turing_softmax_back(m, content, dw);
    vec total = vset1(0);
    sum = vset1(0);
    for (long j = 0; j < M; j++) size += k[j] * k[j];
    const vec share = vset1(1 / (real)sqrt(size));
    EACH_LOCATION(m) { /* dw: dK/(|k||M_i|); gated: dK·K/|M_i|² */
        const vec du = vload(dw + i), K = vload(cosine + i), norm = vload(t->norms + i), dK = beta * du;
        sum += du * K;
        total += dK * K;
        vstore(dw + i, dK * share / norm);
        vstore(gated + i, dK * K / (norm * norm));
    }
    dtold[0] = fold_sum(sum);
    const real along = fold_sum(total) / size;
    for (long j = 0; j < M; j++) {
        const real *column = t->memory + j * m->ld;
        real *dcolumn = dmemory + j * m->ld;
        sum = vset1(0);
        EACH_LOCATION(m) {
            const vec x = vload(column + i), each = vload(dw + i);
            sum += each * x;
            vstore(dcolumn + i, vload(dcolumn + i) + (each * vset1(k[j]) - vload(gated + i) * x));
        }
        dk[j] = fold_sum(sum) - k[j] * along;
    }
}

/* ---------------------------------------------------------------- reading and writing */

static void turing_read_and_write(const turing_step *t, real *read) {
    const rc_turing *m = t->m;
    const long M = m->width;
    const real *writing = t->weights + m->reads * m->ld;
    for (long u = 0; u < m->reads; u++)
        for (long j = 0; j < M; j++) {
            vec sum = vset1(0);
            EACH_LOCATION(m) sum += vload(t->weights + u * m->ld + i) * vload(t->memory + j * m->ld + i);
            read[u * M + j] = fold_sum(sum);
        }
    for (long j = 0; j < M; j++)
        EACH_LOCATION(m) {
            vec kept = vload(t->memory + j * m->ld + i), added = vset1(0);
            for (long v = 0; v < m->writes; v++) {
                const vec w = vload(writing + v * m->ld + i);
                const real *e = t->p + turing_erase(m, v);
                kept -= kept * w * vset1(e[j]);
                added += w * vset1(e[M + j]);
            }
            vstore(t->written + j * m->ld + i, kept + added);
        }
}

/* dmemory: from that after the step to that before it, but for addressing; dw (heads, ld): gets its share. */
static void turing_read_and_write_back(const turing_step *t, const real *dread, real *d, real *dmemory, real *dw) {
    const rc_turing *m = t->m;
    const long M = m->width;
    const vec one = vset1(1);
    const real *writing = t->weights + m->reads * m->ld;
    for (long v = 0; v < m->writes; v++) {
        const real *e = t->p + turing_erase(m, v), *w = writing + v * m->ld;
        real *de = d + turing_erase(m, v), *own = dw + (m->reads + v) * m->ld;
        for (long j = 0; j < M; j++) {
            vec sum_e = vset1(0), sum_a = vset1(0);
            EACH_LOCATION(m) {
                const vec D = vload(dmemory + j * m->ld + i), wi = vload(w + i);
                vec others = vload(t->memory + j * m->ld + i);
                for (long u = 0; u < m->writes; u++)
                    if (u != v) others *= one - vload(writing + u * m->ld + i) * vset1(t->p[turing_erase(m, u) + j]);
                sum_a += D * wi;
                sum_e -= D * others * wi;
                vstore(own + i, vload(own + i) + D * (vset1(e[M + j]) - others * vset1(e[j])));
            }
            de[j] = fold_sum(sum_e);
            de[M + j] = fold_sum(sum_a);
        }
    }
    for (long j = 0; j < M; j++)
        EACH_LOCATION(m) {
            const vec x = vload(t->memory + j * m->ld + i);
            vec D = vload(dmemory + j * m->ld + i);
            for (long v = 0; v < m->writes; v++)
                D *= one - vload(writing + v * m->ld + i) * vset1(t->p[turing_erase(m, v) + j]);
            for (long u = 0; u < m->reads; u++) {
                const vec dr = vset1(dread[u * M + j]);
                vstore(dw + u * m->ld + i, vload(dw + u * m->ld + i) + dr * x);
                D += dr * vload(t->weights + u * m->ld + i);
            }
            vstore(dmemory + j * m->ld + i, D);
        }
}

/* ---------------------------------------------------------------- controller */

static void turing_control(const rc_turing *m, long row, long previous, int first) {
    const long ldh = m->ldh;
    real *a = turing_at(m->a, row, m->lda), *h = turing_at(m->state, row, m->lds) + m->reads * m->width;
    if (m->gates == 1) {
        for (long j = 0; j < ldh; j += VL) {
            const vec y = vtanh(vload(a + j));
            vstore(a + j, y);
            vstore(h + j, y);
        }
        return;
    }
    const real *before = turing_at(m->c, previous, ldh);
    real *c = turing_at(m->c, row, ldh);
    for (long j = 0; j < ldh; j += VL) {
        const vec in = vsigmoid(vload(a + j)), keep = vsigmoid(vload(a + ldh + j)), new = vtanh(vload(a + 2 * ldh + j));
        const vec out = vsigmoid(vload(a + 3 * ldh + j)), old = first ? vset1(0) : vload(before + j);
        const vec cell = keep * old + in * new;
        vstore(a + j, in);
        vstore(a + ldh + j, keep);
        vstore(a + 2 * ldh + j, new);
        vstore(a + 3 * ldh + j, out);
        vstore(c + j, cell);
        vstore(h + j, out * vtanh(cell));
    }
}

/* gates become their gradients */
static void turing_control_back(const rc_turing *m, long row, long previous, int first, real *dc) {
    const long ldh = m->ldh;
    const real *dh = turing_at(m->dstate, row, m->lds) + m->reads * m->width;
    real *a = turing_at(m->a, row, m->lda);
    const vec one = vset1(1);
    if (m->gates == 1) {
        for (long j = 0; j < ldh; j += VL) vstore(a + j, vload(dh + j) * (one - vload(a + j) * vload(a + j)));
        return;
    }
    const real *before = turing_at(m->c, previous, ldh), *c = turing_at(m->c, row, ldh);
    for (long j = 0; j < ldh; j += VL) {
        const vec in = vload(a + j), keep = vload(a + ldh + j), new = vload(a + 2 * ldh + j), out = vload(a + 3 * ldh + j);
        const vec t = vtanh(vload(c + j)), old = first ? vset1(0) : vload(before + j), d = vload(dh + j);
        const vec dcell = vload(dc + j) + d * out * (one - t * t);
        vstore(a + j, dcell * new * in * (one - in));
        vstore(a + ldh + j, dcell * old * keep * (one - keep));
        vstore(a + 2 * ldh + j, dcell * in * (one - new * new));
        vstore(a + 3 * ldh + j, d * t * out * (one - out));
        vstore(dc + j, dcell * keep);
    }
}

/* ---------------------------------------------------------------- time */

static long turing_work_size(const rc_turing *m) {
    const long line = 64 / sizeof(real);
    return (2 * (m->ld + 2 * m->shifts + VL) + m->ld + turing_heads(m) * m->ld + line - 1) / line * line;
}

static void turing_forward(const rc_turing *m, long shard, long shards) {
    const long M = m->width;
    real *work = turing_at(m->work, shard, m->work_size);
    for (long t = 0, count; t < m->steps && (count = (m->active[t] - shard + shards - 1) / shards) > 0; t++) {
        if (rnncore_stopping()) return;
        const long first = m->offsets[t] + shard, back = t ? m->offsets[t] - m->offsets[t - 1] : m->sequences;
        product(&m->recurrent, count, turing_at(m->state, first - back, m->lds), shards * m->lds, RC_FROM_C,
                turing_at(m->a, first, m->lda), shards * m->lda);
        for (long n = 0; n < count; n++) turing_control(m, first + n * shards, first + n * shards - back, t == 0);
        product(&m->emit, count, turing_at(m->state, first, m->lds) + m->reads * M, shards * m->lds, RC_FROM_BIAS,
                turing_at(m->emissions, first, m->ldp), shards * m->ldp);
        for (long n = 0; n < count; n++) {
            const long row = first + n * shards;
            const turing_step step = turing_at_step(m, row, row - back);
            real *norms = turing_at(m->norms, row, m->ld);
            EACH_LOCATION(m) {
                vec sum = vset1(TURING_EPSILON);
                for (long j = 0; j < M; j++) sum += vload(step.memory + j * m->ld + i) * vload(step.memory + j * m->ld + i);
                vstore(norms + i, sum);
            }
            for (long i = 0; i < m->ld; i++) norms[i] = (real)sqrt(norms[i]);
            turing_emit(m, step.p);
            for (long h = 0; h < turing_heads(m); h++) turing_address(&step, h, work);
            turing_read_and_write(&step, turing_at(m->state, row, m->lds));
        }
    }
}

static void turing_backward(const rc_turing *m, long shard, long shards) {
    const long M = m->width, heads = turing_heads(m), rings = 2 * (m->ld + 2 * m->shifts + VL) + m->ld;
    real *work = turing_at(m->work, shard, m->work_size), *dw = work + rings;
    for (long t = m->steps - 1; t >= 0; t--) {
        const long count = (m->active[t] - shard + shards - 1) / shards;
        if (count <= 0) continue;
        if (rnncore_stopping()) return;
        const long first = m->offsets[t] + shard, back = t ? m->offsets[t] - m->offsets[t - 1] : m->sequences;
        for (long n = 0; n < count; n++) {
            const long row = first + n * shards, b = shard + n * shards;
            const turing_step step = turing_at_step(m, row, row - back);
            real *dstate = turing_at(m->dstate, row, m->lds), *d = turing_at(m->demissions, row, m->ldp);
            real *dmemory = turing_at(m->dmemory, b, M * m->ld), *dbefore = turing_at(m->dweights, b, heads * m->ld);
            const real *later = turing_at(m->dbefore, b, m->lds);
            for (long j = 0; j < m->lds; j++) dstate[j] += later[j];
            memcpy(dw, dbefore, heads * m->ld * sizeof(real));
            turing_read_and_write_back(&step, dstate, d, dmemory, dw);
            for (long h = 0; h < heads; h++)
                turing_address_back(&step, h, dw + h * m->ld, d, dmemory, dbefore + h * m->ld, work);
            turing_emit_back(m, step.p, d);
        }
        product(&m->emit_T, count, turing_at(m->demissions, first, m->ldp), shards * m->ldp, RC_FROM_C,
                turing_at(m->dstate, first, m->lds) + m->reads * M, shards * m->lds);
        for (long n = 0; n < count; n++) {
            const long row = first + n * shards;
            turing_control_back(m, row, row - back, t == 0, turing_at(m->dc, shard + n * shards, m->ldh));
        }
        product(&m->recurrent_T, count, turing_at(m->a, first, m->lda), shards * m->lda, RC_FROM_ZERO,
                turing_at(m->dbefore, shard, m->lds), shards * m->lds);
    }
}

static const rc_turing_table turing_table = {
    .work_size = turing_work_size,
    .forward = turing_forward,
    .backward = turing_backward,
};
#endif
