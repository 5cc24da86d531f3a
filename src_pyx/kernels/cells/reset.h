/* Gated cells whose reset gate acts before the product: the GRU as first published (Cho et al. 2014; Chung et al. 2014)
 * and MUT1, MUT2, MUT3 (Jozefowicz, Zaremba and Sutskever 2015). Gates in the order r, z, n. h̃ = m⊙h_{t-1}, σ logistic.
 *
 *           GRU                      MUT1                          MUT2                     MUT3
 *   r = σ(  W_r x + h̃·U_r + b_r      W_r x + h̃·U_r + b_r           x + h̃·U_r + b_r          W_r x + h̃·U_r + b_r    )
 *   z = σ(  W_z x + h̃·U_z + b_z      W_z x + b_z                   W_z x + h̃·U_z + b_z      W_z x + tanh(h̃)·U_z + b_z )
 *   n = tanh(W_n x + s·U_n + b_n     tanh(x) + s·U_n + b_n         W_n x + s·U_n + b_n      W_n x + s·U_n + b_n    )
 *   h =     (1-z)⊙n + z⊙h_{t-1}      z⊙n + (1-z)⊙h_{t-1}           as MUT1                  as MUT1
 *
 *   with s = r⊙h̃. The x that stands alone is x itself where it has H numbers, otherwise a learned projection of it.
 *
 *   backward   dh = dh_t + dcarry + m⊙(da_{t+1}·[U_r U_z]ᵀ)      dn = dh⊙keep(z)⊙(1-n²)   dz = ±dh⊙(h_{t-1} - n)⊙z(1-z)
 *              ds = dn·U_nᵀ    dr = ds⊙h̃⊙r(1-r)    MUT1: dx = dn⊙(1-tanh²x)    MUT3: du = dz·U_zᵀ
 *              dcarry = dh⊙(the share of h_{t-1} in h) + m⊙(r⊙ds + (1-tanh²h̃)⊙du)           (for step t-1)
 *
 * Shapes: a, da (rows, 3·H), MUT1 4·H; h, s, tanh(h̃), dh (rows, H); U_r, U_z, U_n (H, H), side by side in W_hh; dcarry
 * (sequences, H), or (rows, H) when truncated.
 *
 * MUT1 keeps tanh(x) in block 2 of a, and n in block 3.
 */
#include "steps.h"

enum { RESET_RENEWS = 1, RESET_SQUASHES_X = 2, RESET_SQUASHES_H = 4 }; /* z is the share of n; MUT1; MUT3 */
enum { RESET_MUT1 = RESET_RENEWS | RESET_SQUASHES_X, RESET_MUT2 = RESET_RENEWS, RESET_MUT3 = RESET_RENEWS | RESET_SQUASHES_H };

INLINE void reset_forward(const int flags, const rc_unit *u, const rc_block *b) {
    const long ld = u->ld, step = b->stride * ld, step_a = b->stride * u->lda;
    const int n_at = flags & RESET_SQUASHES_X ? 3 : 2, n_matrix = flags & RESET_SQUASHES_H ? 2 : 1;
    real *a0 = row_of_a(u, b), *h0 = own_row(u, b, 0), *carried = carried_row(u, b->row), *s0 = inner_row(u, b, 0);
    const real *hp = before_row(u, 0, b->linked), *seen = carried_row(u, b->linked), *m = mask_row(u, b);
    const vec zero = vset1(0);
    if (b->has_link) multiply(u, b, 0, seen, step, a0, step_a);
    if (flags & RESET_SQUASHES_H) { /* U_z's gradient reads these rows, the first step's, too */
        real *t0 = inner_row(u, b, 1);
        EACH_VECTOR(b->count, ld, long at = i * step + j; vstore(t0 + at, b->has_link ? vtanh(vload(seen + at)) : zero);)
        if (b->has_link) multiply(u, b, 1, t0, step, a0, step_a);
    }
    EACH_VECTOR(b->count, ld, real *a = a0 + i * step_a + j; long at = i * step + j; vec r = vsigmoid(vload(a));
                vstore(a, r);
                if (flags & RESET_SQUASHES_X) vstore(a + 2 * ld, vtanh(vload(a + 2 * ld)));
                vstore(s0 + at, b->has_link ? (vec)(r * vload(seen + at)) : zero);)
    if (b->has_link || flags & RESET_SQUASHES_X)
        multiply_from(u, b, n_matrix, flags & RESET_SQUASHES_X ? RC_FROM_BIAS : RC_FROM_C, s0, step, a0, step_a);
    EACH_VECTOR(b->count, ld, real *a = a0 + i * step_a + j; long at = i * step + j; vec z = vsigmoid(vload(a + ld));
                vec n = vload(a + n_at * ld), h = b->has_link ? vload(hp + at) : zero;
                if (flags & RESET_SQUASHES_X) n += vload(a + 2 * ld);
                n = vtanh(n);
                h = flags & RESET_RENEWS ? (vec)(h + z * (n - h)) : (vec)(n + z * (h - n));
                vstore(a + ld, z);
                vstore(a + n_at * ld, n);
                vstore(h0 + at, h);
                if (m) vstore(carried + at, vload(m + at) * h);)
}

INLINE void reset_backward(const int flags, const rc_unit *u, const rc_block *b) {
    const long ld = u->ld, step = b->stride * ld, step_a = b->stride * u->lda;
    const int n_at = flags & RESET_SQUASHES_X ? 3 : 2, n_matrix = flags & RESET_SQUASHES_H ? 2 : 1;
    const real *a0 = row_of_a(u, b), *hp = before_row(u, 0, b->previous), *seen = carried_row(u, b->previous);
    const real *dh0 = dh_row(u, b), *later = later_row(u, b, 0), *back = multiply_back(u, b, 0), *m = mask_row(u, b);
    const real *before_mask = mask_at(u, b, b->previous), *t0 = inner_row(u, b, 1);
    real *da0 = row_of_da(u, b), *carry = carry_row(u, b, 0), *ds0 = work_row(u, b, n_matrix), *du0 = work_row(u, b, 1);
    const vec one = vset1(1), zero = vset1(0);
    EACH_VECTOR(b->count, ld, const real *a = a0 + i * step_a + j; real *da = da0 + i * step_a + j; long at = i * step + j;
                vec z = vload(a + ld), n = vload(a + n_at * ld), dh = vload(dh0 + at);
                vec h = b->has_previous ? vload(hp + at) : zero, new = flags & RESET_RENEWS ? z : (vec)(one - z);
                if (b->has_link) dh += vload(later + at) + (m ? (vec)(vload(m + at) * vload(back + at)) : vload(back + at));
                vec dz = dh * (flags & RESET_RENEWS ? (vec)(n - h) : (vec)(h - n)) * z * (one - z);
                vec dn = dh * new * (one - n * n), t = flags & RESET_SQUASHES_X ? vload(a + 2 * ld) : zero;
                vstore(da + ld, dz);
                vstore(da + n_at * ld, dn);
                if (flags & RESET_SQUASHES_X) vstore(da + 2 * ld, dn * (one - t * t));
                vstore(carry + at, dh * (one - new));)
    if (!b->has_previous) { /* h̃ = 0 */
        EACH_VECTOR(b->count, ld, vstore(da0 + i * step_a + j, zero);)
        return;
    }
    multiply_T(u, b, n_matrix, da0, step_a, ds0, step);
    if (flags & RESET_SQUASHES_H) multiply_T(u, b, 1, da0, step_a, du0, step);
    EACH_VECTOR(b->count, ld, long at = i * step + j; vec r = vload(a0 + i * step_a + j), ds = vload(ds0 + at);
                vec through = r * ds;
                if (flags & RESET_SQUASHES_H) through += (one - vload(t0 + at) * vload(t0 + at)) * vload(du0 + at);
                vstore(da0 + i * step_a + j, ds * vload(seen + at) * r * (one - r));
                vstore(carry + at, vload(carry + at) + (before_mask ? (vec)(vload(before_mask + at) * through) : through));)
}

#define RESET_CELL(name, flags)                                                                                        \
    static void name##_forward(const rc_unit *u, const rc_block *b) { reset_forward(flags, u, b); }                    \
    static void name##_backward(const rc_unit *u, const rc_block *b) { reset_backward(flags, u, b); }
RESET_CELL(gru_before, 0)
RESET_CELL(mut1, RESET_MUT1)
RESET_CELL(mut2, RESET_MUT2)
RESET_CELL(mut3, RESET_MUT3)
