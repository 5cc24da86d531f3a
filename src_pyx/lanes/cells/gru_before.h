/* Gated recurrent unit with the reset gate before the product (Cho et al. 2014; Chung et al. 2014). Gates in the order
 * r, z, n.
 *
 *   forward    [ar az an] = x_t·W_xh + b           h̃ = m⊙h_{t-1}
 *              r = σ(ar + h̃·W_r)   z = σ(az + h̃·W_z)   s = r⊙h̃   n = tanh(an + s·W_n)
 *              h = (1-z)⊙n + z⊙h_{t-1}
 *   backward   dh = dh_t + dcarry + m⊙([dr dz]_{t+1}·[W_r W_z]ᵀ)
 *              dn = dh⊙(1-z)⊙(1-n²)   dz = dh⊙(h_{t-1} - n)⊙z(1-z)
 *              ds = dn·W_nᵀ           dr = ds⊙h̃⊙r(1-r)
 *              dcarry = dh⊙z + m⊙r⊙ds                          (for step t-1)
 */
#include "steps.h"

static void gru_before_forward(const rc_unit *u, const rc_block *b) {
    const long ld = u->ld, step = b->stride * ld, step_a = b->stride * u->lda;
    real *a0 = row_of_a(u, b), *h0 = own_row(u, b, 0), *s0 = inner_row(u, b, 0), *carried = carried_row(u, b, b->row);
    const real *hp = (const real *)u->before[0] + b->linked * ld, *seen = carried_row(u, b, b->linked);
    const real *m = mask_row(u, b);
    if (b->has_link) multiply(u, b, 0, seen, step, a0, step_a);
    EACH_VECTOR(b->count, ld, real *a = a0 + i * step_a + j; long at = i * step + j;
                vec r = vsigmoid(vload(a)); vstore(a, r);
                vstore(s0 + at, b->has_link ? (vec)(r * vload(seen + at)) : vset1(0));)
    if (b->has_link) multiply(u, b, 1, s0, step, a0, step_a);
    EACH_VECTOR(b->count, ld, real *a = a0 + i * step_a + j; long at = i * step + j;
                vec z = vsigmoid(vload(a + ld)), n = vtanh(vload(a + 2 * ld));
                vec h = b->has_link ? vload(hp + at) : vset1(0);
                h = n + z * (h - n);
                vstore(a + ld, z);
                vstore(a + 2 * ld, n);
                vstore(h0 + at, h);
                if (m) vstore(carried + at, vload(m + at) * h);)
}

static void gru_before_backward(const rc_unit *u, const rc_block *b) {
    const long ld = u->ld, step = b->stride * ld, step_a = b->stride * u->lda;
    const real *a0 = row_of_a(u, b), *hp = (const real *)u->before[0] + b->previous * ld;
    const real *seen = carried_row(u, b, b->previous), *mp = mask_at(u, b, b->previous), *dh0 = dh_row(u, b);
    real *da0 = row_of_da(u, b), *ds0 = work_row(u, b, 1), *carry = carry_row(u, b, 0);
    const real *later = later_row(u, b, 0), *back = multiply_back(u, b, 0), *m = mask_row(u, b);
    const vec one = vset1(1), zero = vset1(0);
    EACH_VECTOR(b->count, ld, const real *a = a0 + i * step_a + j; real *da = da0 + i * step_a + j;
                long at = i * step + j;
                vec z = vload(a + ld), n = vload(a + 2 * ld), h = b->has_previous ? vload(hp + at) : zero;
                vec dh = vload(dh0 + at);
                if (b->has_link) dh += vload(later + at) + (m ? (vec)(vload(m + at) * vload(back + at)) : vload(back + at));
                vstore(da + ld, dh * (h - n) * z * (one - z));
                vstore(da + 2 * ld, dh * (one - z) * (one - n * n));
                vstore(carry + at, dh * z);)
    if (!b->has_previous) {
        EACH_VECTOR(b->count, ld, vstore(da0 + i * step_a + j, zero);)
        return;
    }
    multiply_T(u, b, 1, da0, step_a, ds0, step); /* ds = dn·W_nᵀ */
    EACH_VECTOR(b->count, ld, const real *a = a0 + i * step_a + j; long at = i * step + j;
                vec r = vload(a), ds = vload(ds0 + at), through = r * ds;
                vstore(da0 + i * step_a + j, ds * vload(seen + at) * r * (one - r));
                vstore(carry + at, vload(carry + at) + (mp ? (vec)(vload(mp + at) * through) : through));)
}
