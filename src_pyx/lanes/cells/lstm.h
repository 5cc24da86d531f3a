/* Long short-term memory (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000; peepholes: Gers and
 * Schmidhuber 2000; variants and the full gradient: Greff et al. 2017). Gates in the order i, f, g, o.
 *
 *   forward    [ai af ag ao] = x_t·W_xh + b + (m⊙h_{t-1})·W_hh
 *              i = σ(ai + p_i⊙c_{t-1})   f = σ(af + p_f⊙c_{t-1})   g = tanh(ag)
 *              c = f⊙c_{t-1} + i⊙g       o = σ(ao + p_o⊙c)         h = o⊙tanh(c)
 *   backward   dh = dh_t + m⊙(da_{t+1}·W_hhᵀ)      do = dh⊙tanh(c)⊙o(1-o)
 *              dc = dcarry + dh⊙o⊙(1-tanh²(c)) + p_o⊙do
 *              di = dc⊙g⊙i(1-i)   df = dc⊙c_{t-1}⊙f(1-f)   dg = dc⊙i⊙(1-g²)
 *              dcarry = dc⊙f + p_i⊙di + p_f⊙df             (for step t-1)
 *
 * Variants, by flags: NIG i = 1, NFG f = 1, NOG o = 1, NIAF g = ag, NOAF h = o⊙c, CIFG f = 1 - i.
 */
#include "../activation.h"
#include "../product.h"

enum { LSTM_NIG = 1, LSTM_NFG = 2, LSTM_NOG = 4, LSTM_NIAF = 8, LSTM_NOAF = 16, LSTM_CIFG = 32 };

INLINE void lstm_point(const int flags, const int peepholes, const rc_unit *u, const rc_block *b, long from, long to) {
    const long ld = u->ld, step = b->stride * ld, step_a = b->stride * u->lda;
    real *a0 = (real *)u->a + b->row * u->lda, *c0 = (real *)u->state[1] + b->row * ld, *h0 = (real *)u->state[0] + b->row * ld;
    real *tc0 = (real *)u->extra + b->row * ld, *carried = (real *)u->carried + b->row * ld;
    const real *cp = (const real *)u->before[1] + b->linked * ld;
    const real *m = u->mask ? (const real *)u->mask + (u->mask_per_row ? b->row : b->sequence) * ld : 0;
    const real *pi = u->vectors[0], *pf = u->vectors[1], *po = u->vectors[2];
    const vec one = vset1(1);
    EACH_VECTOR_BETWEEN(b->count, from, to,
        real *a = a0 + i * step_a + j;
        long q = i * step + j;
        vec c = b->has_link ? vload(cp + q) : vset1(0), ai = vload(a), af = vload(a + ld), ao = vload(a + 3 * ld);
        if (peepholes) {
            ai += vload(pi + j) * c;
            af += vload(pf + j) * c;
        }
        vec in = flags & LSTM_NIG ? one : vsigmoid(ai);
        vec f = flags & LSTM_NFG ? one : flags & LSTM_CIFG ? (vec)(one - in) : vsigmoid(af);
        vec g = flags & LSTM_NIAF ? vload(a + 2 * ld) : vtanh(vload(a + 2 * ld));
        c = f * c + in * g;
        if (peepholes) ao += vload(po + j) * c;
        vec o = flags & LSTM_NOG ? one : vsigmoid(ao);
        vec tc = flags & LSTM_NOAF ? c : vtanh(c);
        vec h = o * tc;
        vstore(a, in);
        vstore(a + ld, f);
        vstore(a + 2 * ld, g);
        vstore(a + 3 * ld, o);
        vstore(c0 + q, c);
        vstore(tc0 + q, tc);
        vstore(h0 + q, h);
        if (m) vstore(carried + q, vload(m + q) * h);)
}

static void lstm_points(const rc_unit *u, const rc_block *b, long from, long to) {
    if (u->flags == 0 && !u->vectors[0])
        lstm_point(0, 0, u, b, from, to);
    else
        lstm_point(u->flags, u->vectors[0] != 0, u, b, from, to);
}

static void lstm_forward(const rc_unit *u, const rc_block *b) {
    const rc_packed *W = &u->W[0];
    if (!b->has_link) {
        lstm_points(u, b, 0, u->ld);
        return;
    }
    for (long p = 0; p < W->panel_count; p++) { /* a += (m⊙h_prev)·W_hh: all gates of some units, then those units */
        for (int gate = 0; gate < 4; gate++)
            product_panel(W, gate, p, b->count, (const real *)u->carried + b->linked * u->ld, b->stride * u->ld,
                          RC_FROM_C, (real *)u->a + b->row * u->lda, b->stride * u->lda);
        lstm_points(u, b, panel_begin(W, p), panel_end(W, p));
    }
}

INLINE void lstm_derive(const int flags, const int peepholes, const rc_unit *u, const rc_block *b, long from, long to) {
    const long ld = u->ld, step = b->stride * ld, step_a = b->stride * u->lda;
    const real *a0 = (const real *)u->a + b->row * u->lda, *dh0 = (const real *)u->dh + b->row * ld;
    real *da0 = (real *)u->da + b->row * u->lda;
    const real *c0 = (const real *)u->state[1] + b->row * ld, *tc0 = (const real *)u->extra + b->row * ld;
    const real *cp = (const real *)u->before[1] + b->previous * ld, *work = (const real *)u->work[0] + b->sequence * ld;
    const real *m = u->mask ? (const real *)u->mask + (u->mask_per_row ? b->row : b->sequence) * ld : 0;
    real *carry = (real *)u->dcarry[1] + (u->carry_per_row ? b->row : b->sequence) * ld;
    const real *later = b->has_link ? (const real *)u->dcarry_later[1] + (u->carry_per_row ? b->linked : b->sequence) * ld
                        : b->ends && u->dend[1] ? (const real *)u->dend[1] + b->sequence * ld
                                               : 0;
    const real *pi = u->vectors[0], *pf = u->vectors[1], *po = u->vectors[2];
    real *dpi = (real *)u->dvectors[0] + b->sequence * ld, *dpf = (real *)u->dvectors[1] + b->sequence * ld;
    real *dpo = (real *)u->dvectors[2] + b->sequence * ld;
    const vec one = vset1(1), zero = vset1(0);
    EACH_VECTOR_BETWEEN(b->count, from, to,
        const real *a = a0 + i * step_a + j;
        real *da = da0 + i * step_a + j;
        long q = i * step + j;
        vec in = vload(a), f = vload(a + ld), g = vload(a + 2 * ld), o = vload(a + 3 * ld), tc = vload(tc0 + q);
        vec dh = vload(dh0 + q), c_prev = b->has_previous ? vload(cp + q) : zero;
        if (b->has_link) dh += m ? (vec)(vload(m + q) * vload(work + q)) : vload(work + q);
        vec d_o = flags & LSTM_NOG ? zero : (vec)(dh * tc * o * (one - o));
        vec dc = flags & LSTM_NOAF ? (vec)(dh * o) : (vec)(dh * o * (one - tc * tc));
        if (later) dc += vload(later + q);
        if (peepholes) dc += vload(po + j) * d_o;
        vec di = flags & LSTM_NIG ? zero : (vec)(dc * (flags & LSTM_CIFG ? (vec)(g - c_prev) : g) * in * (one - in));
        vec df = flags & (LSTM_NFG | LSTM_CIFG) ? zero : (vec)(dc * c_prev * f * (one - f));
        vec dcarry = dc * f;
        if (peepholes) {
            dcarry += vload(pi + j) * di + vload(pf + j) * df;
            vstore(dpi + q, vload(dpi + q) + di * c_prev);
            vstore(dpf + q, vload(dpf + q) + df * c_prev);
            vstore(dpo + q, vload(dpo + q) + d_o * vload(c0 + q));
        }
        vstore(da, di);
        vstore(da + ld, df);
        vstore(da + 2 * ld, flags & LSTM_NIAF ? (vec)(dc * in) : (vec)(dc * in * (one - g * g)));
        vstore(da + 3 * ld, d_o);
        vstore(carry + q, dcarry);)
}

static void lstm_derivatives(const rc_unit *u, const rc_block *b, long from, long to) {
    if (u->flags == 0 && !u->vectors[0])
        lstm_derive(0, 0, u, b, from, to);
    else
        lstm_derive(u->flags, u->vectors[0] != 0, u, b, from, to);
}

static void lstm_backward(const rc_unit *u, const rc_block *b) {
    const rc_packed *W = &u->W_T[0];
    if (!b->has_link) {
        lstm_derivatives(u, b, 0, u->ld);
        return;
    }
    for (long p = 0; p < W->panel_count; p++) { /* work = da_later·W_hhᵀ */
        product_panel(W, 0, p, b->count, (const real *)u->dlater + b->linked * u->lda, b->stride * u->lda,
                      RC_FROM_ZERO, (real *)u->work[0] + b->sequence * u->ld, b->stride * u->ld);
        lstm_derivatives(u, b, panel_begin(W, p), panel_end(W, p));
    }
}
