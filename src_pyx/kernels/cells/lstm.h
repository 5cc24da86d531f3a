/* Long short-term memory (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000; peepholes: Gers and
 * Schmidhuber 2000; variants and the full gradient: Greff et al. 2017). Gates in the order i, f, g, o.
 *
 *   forward    [ai af ag ao] = x_t·W_xh + b + (m⊙h_{t-1})·W_hh
 *              i = σ(ai + p_i⊙c_{t-1})   f = σ(af + p_f⊙c_{t-1})   g = tanh(ag)
 *              c = f⊙c_{t-1} + i⊙g       o = σ(ao + p_o⊙c)         h = o⊙tanh(c)
 *   backward   dh = dh_t + m⊙(da_{t+1}·W_hhᵀ)      do = dh⊙tanh(c)⊙o(1-o)
 *              dc = dcarry + dh⊙o⊙(1-tanh²(c)) + p_o⊙do           tanh(c) = h/o: one array less to keep
 *              di = dc⊙g⊙i(1-i)   df = dc⊙c_{t-1}⊙f(1-f)   dg = dc⊙i⊙(1-g²)
 *              dcarry = dc⊙f + p_i⊙di + p_f⊙df             (for step t-1)
 *
 * Shapes: a, da (rows, 4·H), or 3·H; h, c, dh (rows, H); W_hh (H, 4·H), p (H); dcarry (sequences, H), or (rows, H) when
 * truncated; gradients of p (sequences, H).
 *
 * Variants, by flags: NIG i = 1, NFG f = 1, NOG o = 1, NIAF g = ag, NOAF h = o⊙c, CIFG f = 1 - i, FGR see lstm_rows.h;
 * 1997 f = 1, g = 4σ(ag) - 2 = 2·tanh(ag/2), h = o⊙(2σ(c) - 1) = o⊙tanh(c/2): three gates, in the order i, g, o.
 */
#ifndef RNNCORE_LSTM_H
#define RNNCORE_LSTM_H
#include "steps.h"

enum { LSTM_NIG = 1, LSTM_NFG = 2, LSTM_NOG = 4, LSTM_NIAF = 8, LSTM_NOAF = 16, LSTM_CIFG = 32 };
enum { LSTM_1997 = 64, LSTM_FGR = 128 }; /* the former with LSTM_NFG */
/* What the unit has otherwise: peepholes; a matrix between o⊙tanh(c), which is inner[0] then, and h. */
enum { LSTM_PEEPHOLES = 256, LSTM_PROJECTED = 512 };

static inline int lstm_flags(const rc_unit *u) {
    return u->flags | (u->vectors[0] ? LSTM_PEEPHOLES : 0) | (u->W[1].blocks ? LSTM_PROJECTED : 0);
}

/* One vector of units: gates and cell, or their gradients. */
typedef struct {
    vec i, f, g, o, c;
} lstm_vectors;

typedef struct {
    const real *i, *f, *o;
} lstm_peepholes;

INLINE vec lstm_squash(const int flags, vec c) {
    return flags & LSTM_NOAF ? c : vtanh(flags & LSTM_1997 ? (vec)(vset1(R(0.5)) * c) : c);
}

/* its derivative, from the value */
INLINE vec lstm_squash_slope(const int flags, vec t) {
    const vec one = vset1(1);
    if (flags & LSTM_NOAF) return one;
    return flags & LSTM_1997 ? (vec)(vset1(R(0.5)) * (one - t * t)) : (vec)(one - t * t);
}

/* Gates and c_t from their sums and c_{t-1}. j: the units' place among the peepholes. */
INLINE lstm_vectors lstm_gates(const int flags, lstm_peepholes p, long j, lstm_vectors s) {
    const vec one = vset1(1), half = vset1(R(0.5));
    lstm_vectors v;
    if (flags & LSTM_PEEPHOLES) {
        s.i += vload(p.i + j) * s.c;
        if (!(flags & LSTM_1997)) s.f += vload(p.f + j) * s.c;
    }
    v.i = flags & LSTM_NIG ? one : vsigmoid(s.i);
    v.f = flags & LSTM_NFG ? one : flags & LSTM_CIFG ? (vec)(one - v.i) : vsigmoid(s.f);
    v.g = flags & LSTM_NIAF ? s.g : flags & LSTM_1997 ? (vec)(vset1(2) * vtanh(half * s.g)) : vtanh(s.g);
    v.c = v.f * s.c + v.i * v.g;
    if (flags & LSTM_PEEPHOLES) s.o += vload(p.o + j) * v.c;
    v.o = flags & LSTM_NOG ? one : vsigmoid(s.o);
    return v;
}

/* Gradients of the gates' sums and of c_{t-1} from those of the outputs: d.o of o, d.c of c but for o's peephole, and
 * under full gate recurrence d.i and d.f: what the next step's gates add. v: the gates, and c_{t-1}. */
INLINE lstm_vectors lstm_slopes(const int flags, lstm_peepholes p, long j, lstm_vectors v, lstm_vectors d) {
    const vec one = vset1(1), zero = vset1(0);
    lstm_vectors s;
    s.o = flags & LSTM_NOG ? zero : (vec)(d.o * v.o * (one - v.o));
    if (flags & LSTM_PEEPHOLES) d.c += vload(p.o + j) * s.o;
    vec di = d.c * (flags & LSTM_CIFG ? (vec)(v.g - v.c) : v.g), df = d.c * v.c;
    if (flags & LSTM_FGR) {
        di += d.i;
        df += d.f;
    }
    s.i = flags & LSTM_NIG ? zero : (vec)(di * v.i * (one - v.i));
    s.f = flags & (LSTM_NFG | LSTM_CIFG) ? zero : (vec)(df * v.f * (one - v.f));
    s.g = d.c * v.i;
    if (flags & LSTM_1997)
        s.g *= one - vset1(R(0.25)) * v.g * v.g;
    else if (!(flags & LSTM_NIAF))
        s.g *= one - v.g * v.g;
    s.c = d.c * v.f;
    if (flags & LSTM_PEEPHOLES) {
        s.c += vload(p.i + j) * s.i;
        if (!(flags & LSTM_1997)) s.c += vload(p.f + j) * s.f;
    }
    return s;
}

INLINE lstm_peepholes lstm_peepholes_of(const rc_unit *u) {
    return (lstm_peepholes){u->vectors[0], u->vectors[1], u->vectors[2]};
}

/* the peepholes' gradients; at: the units' place in the sequence's row */
INLINE void lstm_peephole_sums(const int flags, const rc_unit *u, long at, lstm_vectors s, vec c_prev, vec c) {
    real *di = (real *)u->dvectors[0] + at, *dout = (real *)u->dvectors[2] + at;
    vstore(di, vload(di) + s.i * c_prev);
    vstore(dout, vload(dout) + s.o * c);
    if (flags & LSTM_1997) return;
    real *df = (real *)u->dvectors[1] + at;
    vstore(df, vload(df) + s.f * c_prev);
}

/* o⊙tanh(c): h, or what is projected to it */
INLINE real *lstm_product(const int flags, const rc_unit *u, long row) {
    return (real *)(flags & LSTM_PROJECTED ? u->inner[0] : u->state[0]) + row;
}

INLINE void lstm_point(const int form, const int flags, const rc_unit *u, const rc_block *b) {
    const long ld = u->ld, step = b->stride * ld, step_a = b->stride * u->lda, row = b->row * ld;
    const long g_at = flags & LSTM_1997 ? ld : 2 * ld, o_at = g_at + ld;
    real *a0 = (real *)u->a + b->row * u->lda, *c0 = (real *)u->state[1] + row;
    real *h0 = lstm_product(flags, u, row);
    real *carried = flags & LSTM_PROJECTED || !u->mask ? 0 : (real *)u->carried + row;
    const real *cp = (const real *)u->before[1] + b->linked * ld;
    const real *m = mask_row(u, b);
    const lstm_peepholes p = lstm_peepholes_of(u);
    uint16_t *s0 = saved_row(u, b);
    const long step_s = b->stride * u->ldh;
    /* Two loops: in one, tanh(c) would wait for the gates, and so many instructions on that nothing else could begin. */
    for (long n = 0; n < b->count; n++) {
        real *a1 = a0 + n * step_a;
        EACH_VECTOR(1, ld,
            real *a = a1 + j;
            const long s = n * step_s + j;
            long q = n * step + j;
            lstm_vectors v;
            v.i = vload(a), v.f = vload(a + ld), v.g = vload(a + g_at), v.o = vload(a + o_at);
            v.c = b->has_link ? vload(cp + q) : vset1(0);
            v = lstm_gates(flags, p, j, v);
            leave_gate(form, a, s0, s, v.i);
            if (!(flags & LSTM_1997)) leave_gate(form, a + ld, s0, s + ld, v.f);
            leave_gate(form, a + g_at, s0, s + g_at, v.g);
            if (form != NUMBERS) store_gate(s0 + s + o_at, v.o);
            vstore(a + o_at, v.o);
            vstore(c0 + q, v.c);
            if (flags & LSTM_FGR) {
                vstore((real *)u->state[2] + row + q, v.i);
                vstore((real *)u->state[3] + row + q, v.f);
                vstore((real *)u->state[4] + row + q, v.o);
            })
        EACH_VECTOR(1, ld,
            long q = n * step + j;
            vec h = vload(a1 + o_at + j) * lstm_squash(flags, vload(c0 + q));
            vstore(h0 + q, h);
            if (carried) vstore(carried + q, vload(m + q) * h);)
    }
}

static void lstm_points(const rc_unit *u, const rc_block *b) {
    const int flags = lstm_flags(u), form = form_of(u, u->saved);
    if (!flags)
        IN_EACH_FORM(form, lstm_point, 0, u, b)
    else if (flags == LSTM_PROJECTED)
        IN_EACH_FORM(form, lstm_point, LSTM_PROJECTED, u, b)
    else
        lstm_point(form, flags, u, b);
}

static void lstm_forward(const rc_unit *u, const rc_block *b) {
    if (b->has_link) /* a += (m⊙h_prev)·W_hh */
        product_blocks(&u->W[0], 0, u->W[0].blocks, b->count, (const real *)u->carried + b->linked * u->ld,
                       b->stride * u->ld, RC_FROM_C, (real *)u->a + b->row * u->lda, b->stride * u->lda);
    lstm_points(u, b);
}

/* What the following step says of state s beside the product with W_hh (of a gate, under full gate recurrence: the
 * product with its own matrix); where nothing follows, what the caller says; or NULL. */
INLINE const real *lstm_state_gradient(const rc_unit *u, const rc_block *b, int s) {
    const long ld = u->ld, sequence = b->sequence * ld;
    if (b->has_link && s > 1) return (const real *)u->work[s] + sequence;
    if (b->has_link) return (const real *)u->dcarry_later[s] + (u->carry_per_row ? b->linked * ld : sequence);
    return end_row(u, b, s);
}

INLINE void lstm_derive(const int form, const int flags, const rc_unit *u, const rc_block *b) {
    const long ld = u->ld, step = b->stride * ld, step_a = b->stride * u->lda;
    const long row = b->row * ld, sequence = b->sequence * ld;
    const long g_at = flags & LSTM_1997 ? ld : 2 * ld, o_at = g_at + ld;
    const real *a0 = (const real *)u->a + b->row * u->lda;
    real *da0 = (real *)u->da + b->row * u->lda;
    const real *dh0 = flags & LSTM_PROJECTED ? (const real *)u->work[1] + sequence : dh_row(u, b);
    const real *back = flags & LSTM_PROJECTED || !b->has_link ? 0 : (const real *)u->work[0] + sequence;
    const real *c0 = (const real *)u->state[1] + row, *h0 = lstm_product(flags, u, row);
    const real *cp = (const real *)u->before[1] + b->previous * ld;
    const real *m = mask_row(u, b);
    real *carry = (real *)u->dcarry[1] + (u->carry_per_row ? row : sequence);
    const real *later = lstm_state_gradient(u, b, 1);
    const real *di = flags & LSTM_FGR ? lstm_state_gradient(u, b, 2) : 0;
    const real *df = flags & LSTM_FGR ? lstm_state_gradient(u, b, 3) : 0;
    const real *dout = flags & LSTM_FGR ? lstm_state_gradient(u, b, 4) : 0;
    const lstm_peepholes p = lstm_peepholes_of(u);
    const uint16_t *s0 = saved_row(u, b);
    uint16_t *t0 = row_of_da_halves(u, b);
    const long step_s = b->stride * u->ldh;
    const vec zero = vset1(0);
    EACH_VECTOR(b->count, ld,
        const real *a = a0 + i * step_a + j;
        real *da = da0 + i * step_a + j;
        const long s = i * step_s + j;
        long q = i * step + j;
        lstm_vectors v; lstm_vectors d;
        v.i = gate_at(form, a, s0, s), v.g = gate_at(form, a + g_at, s0, s + g_at), v.o = gate_at(form, a + o_at, s0, s + o_at);
        v.f = flags & LSTM_1997 ? vset1(1) : gate_at(form, a + ld, s0, s + ld);
        v.c = b->has_previous ? vload(cp + q) : zero;
        vec tc = vload(h0 + q) / vmax(v.o, vset1(R(1e-37))), dh = vload(dh0 + q);
        if (form != NUMBERS) { /* 1 - (h/o)² has no more to do with tanh(c), once o is rounded; and a NaN is 0 in 16 bits */
            dh += vload(h0 + q) - vload(h0 + q);
            tc = lstm_squash(flags, vload(c0 + q));
        }
        if (back) dh += m ? (vec)(vload(m + q) * vload(back + q)) : vload(back + q);
        d.o = dh * tc;
        d.c = dh * v.o * lstm_squash_slope(flags, tc);
        if (later) d.c += vload(later + q);
        if (flags & LSTM_FGR) {
            d.i = di ? vload(di + q) : zero;
            d.f = df ? vload(df + q) : zero;
            if (dout) d.o += vload(dout + q);
        }
        d = lstm_slopes(flags, p, j, v, d);
        if (flags & LSTM_PEEPHOLES) lstm_peephole_sums(flags, u, sequence + q, d, v.c, vload(c0 + q));
        leave_gradient(form, da, t0, s, d.i);
        if (!(flags & LSTM_1997)) leave_gradient(form, da + ld, t0, s + ld, d.f);
        leave_gradient(form, da + g_at, t0, s + g_at, d.g);
        leave_gradient(form, da + o_at, t0, s + o_at, d.o);
        vstore(carry + q, d.c);)
}

static void lstm_derivatives(const rc_unit *u, const rc_block *b) {
    const int flags = lstm_flags(u), form = form_of(u, u->da_halves);
    if (!flags)
        IN_EACH_FORM(form, lstm_derive, 0, u, b)
    else if (flags == LSTM_PROJECTED)
        IN_EACH_FORM(form, lstm_derive, LSTM_PROJECTED, u, b)
    else
        lstm_derive(form, flags, u, b);
}

static void lstm_backward(const rc_unit *u, const rc_block *b) {
    multiply_back(u, b, 0);
    lstm_derivatives(u, b);
}
#endif
