/* Gated recurrent unit (Cho et al. 2014). Gates in the order r, z, n; a row of a holds r, z, n and q.
 *
 *   forward    [ar az an] = x_t·W_xh + b                        h̃ = m⊙h_{t-1}
 *              r = σ(ar + h̃·W_r)   z = σ(az + h̃·W_z)
 *              reset after (default, as in cuDNN and PyTorch):   q = h̃·W_n + b_hn    n = tanh(an + r⊙q)
 *              h = (1-z)⊙n + z⊙h_{t-1}
 *   backward   dh = dh_t + dcarry + m⊙([dr dz dq]_{t+1}·W_hhᵀ)
 *              dn = dh⊙(1-z)⊙(1-n²)   dz = dh⊙(h_{t-1} - n)⊙z(1-z)   dr = dn⊙q⊙r(1-r)   dq = dn⊙r
 *              dcarry = dh⊙z                                     (for step t-1)
 *
 * Shapes: a, da (rows, 4·H), W_hh (H, 3·H); h, dh (rows, H); dcarry (sequences, H), or (rows, H) when truncated.
 *
 * Cho et al. and Jozefowicz et al. write z for our z, Chung et al. and char-rnn write z for our 1-z.
 */
#include "steps.h"

INLINE void gru_point(const int form, const rc_unit *u, const rc_block *b) {
    const long ld = u->ld, step = b->stride * ld, step_a = b->stride * u->lda;
    real *a0 = (real *)u->a + b->row * u->lda, *h0 = (real *)u->state[0] + b->row * ld;
    real *carried = (real *)u->carried + b->row * ld;
    const real *hp = (const real *)u->before[0] + b->linked * ld;
    const real *m = mask_row(u, b);
    uint16_t *s0 = saved_row(u, b);
    const long step_s = b->stride * u->ldh;
    /* Two loops: in one, n would wait for r, and so many instructions on that nothing else could begin. */
    for (long row = 0; row < b->count; row++) {
        real *a1 = a0 + row * step_a;
        EACH_VECTOR(2, ld, real *a = a1 + i * ld + j; vstore(a, vsigmoid(vload(a)));) /* r, z */
        EACH_VECTOR(1, ld,
            real *a = a1 + j;
            const long s = row * step_s + j;
            long at = row * step + j;
            vec n = vtanh(vload(a + 2 * ld) + vload(a) * vload(a + 3 * ld));
            vec h = b->has_link ? vload(hp + at) : vset1(0);
            h = n + vload(a + ld) * (h - n);
            leave_gate(form, a + 2 * ld, s0, s + 2 * ld, n);
            if (form != NUMBERS) {
                store_gate(s0 + s, vload(a));
                store_gate(s0 + s + ld, vload(a + ld));
                store_bf16(form == FAST_HALVES, s0 + s + 3 * ld, vload(a + 3 * ld));
            }
            vstore(h0 + at, h);
            if (m) vstore(carried + at, vload(m + at) * h);)
    }
}

static void gru_points(const rc_unit *u, const rc_block *b) {
    IN_EACH_FORM(form_of(u, u->saved), gru_point, u, b)
}

static void gru_forward(const rc_unit *u, const rc_block *b) {
    const rc_packed *W = &u->W[0];
    real *a = (real *)u->a + b->row * u->lda;
    if (!b->has_link) {
        for (long i = 0; i < b->count; i++) /* q = b_hn */
            memcpy(a + i * b->stride * u->lda + 3 * u->ld, u->vectors[0], u->ld * sizeof(real));
        gru_points(u, b);
        return;
    }
    for (int n = 0; n < 2; n++) /* r and z, then q */
        product_blocks(W, 2 * n, 2 + n, b->count, (const real *)u->carried + b->linked * u->ld, b->stride * u->ld,
                       n ? RC_FROM_BIAS : RC_FROM_C, a, b->stride * u->lda);
    gru_points(u, b);
}

INLINE void gru_derive(const int form, const rc_unit *u, const rc_block *b) {
    const long ld = u->ld, step = b->stride * ld, step_a = b->stride * u->lda, step_s = b->stride * u->ldh;
    const uint16_t *s0 = saved_row(u, b);
    uint16_t *t0 = row_of_da_halves(u, b);
    const real *a0 = (const real *)u->a + b->row * u->lda, *dh0 = dh_row(u, b);
    real *da0 = (real *)u->da + b->row * u->lda;
    const real *h0 = own_row(u, b, 0);
    const real *hp = (const real *)u->before[0] + b->previous * ld, *work = (const real *)u->work[0] + b->sequence * ld;
    const real *m = mask_row(u, b);
    real *carry = (real *)u->dcarry[0] + (u->carry_per_row ? b->row : b->sequence) * ld;
    const real *later = (const real *)u->dcarry_later[0] + (u->carry_per_row ? b->linked : b->sequence) * ld;
    const vec one = vset1(1);
    EACH_VECTOR(b->count, ld,
        const real *a = a0 + i * step_a + j;
        real *da = da0 + i * step_a + j;
        const long s = i * step_s + j;
        long at = i * step + j;
        vec r = gate_at(form, a, s0, s), z = gate_at(form, a + ld, s0, s + ld), n = gate_at(form, a + 2 * ld, s0, s + 2 * ld);
        vec q = form == NUMBERS ? vload(a + 3 * ld) : load_bf16(s0 + s + 3 * ld), dh = vload(dh0 + at);
        vec h = b->has_previous ? vload(hp + at) : vset1(0);
        if (form != NUMBERS) dh += vload(h0 + at) - vload(h0 + at); /* a gate that is NaN is 0 in 16 bits */
        if (b->has_link) dh += vload(later + at) + (m ? (vec)(vload(m + at) * vload(work + at)) : vload(work + at));
        vec dn = dh * (one - z) * (one - n * n);
        leave_gradient(form, da, t0, s, dn * q * r * (one - r));
        leave_gradient(form, da + ld, t0, s + ld, dh * (h - n) * z * (one - z));
        leave_gradient(form, da + 2 * ld, t0, s + 2 * ld, dn);
        leave_gradient(form, da + 3 * ld, t0, s + 3 * ld, dn * r);
        vstore(carry + at, dh * z);)
}

static void gru_backward(const rc_unit *u, const rc_block *b) {
    multiply_back(u, b, 0);
    IN_EACH_FORM(form_of(u, u->da_halves), gru_derive, u, b)
}
