/* Minimal gated unit (Zhou, Wu, Zhang and Zhou 2016): one gate forgets and resets. Gates in the order f, n.
 *
 *   forward    [af an] = x_t·W_xh + b           h̃ = m⊙h_{t-1}
 *              f = σ(af + h̃·W_f)    s = f⊙h̃    n = tanh(an + s·W_n)    h = f⊙n + (1-f)⊙h_{t-1}
 *   backward   dh = dh_t + dcarry + m⊙(df_{t+1}·W_fᵀ)
 *              dn = dh⊙f⊙(1-n²)     ds = dn·W_nᵀ     df = (dh⊙(n - h_{t-1}) + ds⊙h̃)⊙f(1-f)
 *              dcarry = dh⊙(1-f) + m⊙f⊙ds                                              (for step t-1)
 *
 * Shapes: a, da (rows, 2·H); h, s, dh (rows, H); W_f, W_n (H, H), the halves of W_hh; dcarry (sequences, H), or (rows, H)
 * when truncated.
 */
#include "steps.h"

static void mgu_forward(const rc_unit *u, const rc_block *b) {
    const long ld = u->ld, step = b->stride * ld, step_a = b->stride * u->lda;
    real *a0 = row_of_a(u, b), *h0 = own_row(u, b, 0), *carried = carried_row(u, b->row), *s0 = inner_row(u, b, 0);
    const real *hp = before_row(u, 0, b->linked), *seen = carried_row(u, b->linked), *m = mask_row(u, b);
    const vec zero = vset1(0);
    if (b->has_link) multiply(u, b, 0, seen, step, a0, step_a);
    EACH_VECTOR(b->count, ld, real *a = a0 + i * step_a + j; long at = i * step + j; vec f = vsigmoid(vload(a));
                vstore(a, f);
                vstore(s0 + at, b->has_link ? (vec)(f * vload(seen + at)) : zero);)
    if (b->has_link) multiply(u, b, 1, s0, step, a0, step_a);
    EACH_VECTOR(b->count, ld, real *a = a0 + i * step_a + j; long at = i * step + j;
                vec f = vload(a), n = vtanh(vload(a + ld)), h = b->has_link ? vload(hp + at) : zero;
                h += f * (n - h);
                vstore(a + ld, n);
                vstore(h0 + at, h);
                if (m) vstore(carried + at, vload(m + at) * h);)
}

static void mgu_backward(const rc_unit *u, const rc_block *b) {
    const long ld = u->ld, step = b->stride * ld, step_a = b->stride * u->lda;
    const real *a0 = row_of_a(u, b), *hp = before_row(u, 0, b->previous), *seen = carried_row(u, b->previous);
    const real *dh0 = dh_row(u, b), *later = later_row(u, b, 0), *m = mask_row(u, b);
    const real *before_mask = mask_at(u, b, b->previous);
    real *da0 = row_of_da(u, b), *carry = carry_row(u, b, 0), *ds0 = work_row(u, b, 1);
    real *back = work_row(u, b, 0); /* once read, it keeps dh⊙(n - h_{t-1}) */
    multiply_back(u, b, 0);
    const vec one = vset1(1), zero = vset1(0);
    EACH_VECTOR(b->count, ld, const real *a = a0 + i * step_a + j; real *da = da0 + i * step_a + j; long at = i * step + j;
                vec f = vload(a), n = vload(a + ld), dh = vload(dh0 + at), h = b->has_previous ? vload(hp + at) : zero;
                if (b->has_link) dh += vload(later + at) + (m ? (vec)(vload(m + at) * vload(back + at)) : vload(back + at));
                vstore(back + at, dh * (n - h));
                if (!b->has_previous) vstore(da, dh * n * f * (one - f));
                else vstore(da, f);
                vstore(da + ld, dh * f * (one - n * n));
                vstore(carry + at, dh * (one - f));)
    if (!b->has_previous) return;
    multiply_T(u, b, 1, da0, step_a, ds0, step);
    EACH_VECTOR(b->count, ld, real *da = da0 + i * step_a + j; long at = i * step + j; vec ds = vload(ds0 + at);
                vec f = vload(da), through = f * ds;
                vstore(da, (vload(back + at) + ds * vload(seen + at)) * f * (one - f));
                vstore(carry + at, vload(carry + at) + (before_mask ? (vec)(vload(before_mask + at) * through) : through));)
}
