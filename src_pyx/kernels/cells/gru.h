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

static void gru_points(const rc_unit *u, const rc_block *b) {
    const long ld = u->ld, step = b->stride * ld, step_a = b->stride * u->lda;
    real *a0 = (real *)u->a + b->row * u->lda, *h0 = (real *)u->state[0] + b->row * ld;
    real *carried = (real *)u->carried + b->row * ld;
    const real *hp = (const real *)u->before[0] + b->linked * ld;
    const real *m = mask_row(u, b);
    /* Two loops: in one, n would wait for r, and so many instructions on that nothing else could begin. */
    for (long row = 0; row < b->count; row++) {
        real *a1 = a0 + row * step_a;
        EACH_VECTOR(2, ld, real *a = a1 + i * ld + j; vstore(a, vsigmoid(vload(a)));) /* r, z */
        EACH_VECTOR(1, ld,
            real *a = a1 + j;
            long at = row * step + j;
            vec n = vtanh(vload(a + 2 * ld) + vload(a) * vload(a + 3 * ld));
            vec h = b->has_link ? vload(hp + at) : vset1(0);
            h = n + vload(a + ld) * (h - n);
            vstore(a + 2 * ld, n);
            vstore(h0 + at, h);
            if (m) vstore(carried + at, vload(m + at) * h);)
    }
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

static void gru_derive(const rc_unit *u, const rc_block *b) {
    const long ld = u->ld, step = b->stride * ld, step_a = b->stride * u->lda;
    const real *a0 = (const real *)u->a + b->row * u->lda, *dh0 = dh_row(u, b);
    real *da0 = (real *)u->da + b->row * u->lda;
    const real *hp = (const real *)u->before[0] + b->previous * ld, *work = (const real *)u->work[0] + b->sequence * ld;
    const real *m = mask_row(u, b);
    real *carry = (real *)u->dcarry[0] + (u->carry_per_row ? b->row : b->sequence) * ld;
    const real *later = (const real *)u->dcarry_later[0] + (u->carry_per_row ? b->linked : b->sequence) * ld;
    const vec one = vset1(1);
    EACH_VECTOR(b->count, ld,
        const real *a = a0 + i * step_a + j;
        real *da = da0 + i * step_a + j;
        long at = i * step + j;
        vec r = vload(a), z = vload(a + ld), n = vload(a + 2 * ld), q = vload(a + 3 * ld), dh = vload(dh0 + at);
        vec h = b->has_previous ? vload(hp + at) : vset1(0);
        if (b->has_link) dh += vload(later + at) + (m ? (vec)(vload(m + at) * vload(work + at)) : vload(work + at));
        vec dn = dh * (one - z) * (one - n * n);
        vstore(da, dn * q * r * (one - r));
        vstore(da + ld, dh * (h - n) * z * (one - z));
        vstore(da + 2 * ld, dn);
        vstore(da + 3 * ld, dn * r);
        vstore(carry + at, dh * z);)
}

static void gru_backward(const rc_unit *u, const rc_block *b) {
    if (b->has_link) /* work = [dr dz dq]_later·W_hhᵀ */
        product_block(&u->W_T[0], 0, b->count, (const real *)u->dlater + b->linked * u->lda, b->stride * u->lda,
                      RC_FROM_ZERO, (real *)u->work[0] + b->sequence * u->ld, b->stride * u->ld);
    gru_derive(u, b);
}
