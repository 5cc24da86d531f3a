/* Independently recurrent network (Li, Li, Cook, Zhu and Gao 2018): each unit sees, of the step before, itself alone.
 * No matrix: the recurrence is elementwise.
 *
 *   forward    h_t = f(x_t·W_xh + b + ū⊙m⊙h_{t-1})             ū = u, kept within ±bound (`unit->factor`, perhaps ∞)
 *   backward   dh = dh_t + dcarry     da = dh⊙f'(h_t)           f' from h_t (activation.h)
 *              dcarry = m⊙ū⊙da        du += da⊙m⊙h_{t-1}, 0 where u is out of bounds               (for step t-1)
 *
 * Shapes: a is h, (rows, H), and holds x_t·W_xh + b on entry; da, dh (rows, H), perhaps one array; u = vectors[0], (H);
 * du, a row per sequence, (sequences, H). m is recurrent dropout's mask, or absent.
 */
#include "steps.h"

enum { INDRNN_U };

static inline vec indrnn_within(vec bound, vec u) { return vmin(bound, vmax(-bound, u)); }

static void indrnn_forward(const rc_unit *u, const rc_block *b) {
    const long ld = u->ld, step = b->stride * ld;
    real *h = own_row(u, b, 0), *carried = carried_row(u, b->row);
    const real *seen = carried_row(u, b->linked), *own = u->vectors[INDRNN_U], *m = mask_row(u, b);
    const vec bound = vset1((real)u->factor);
    if (b->has_link)
        EACH_VECTOR(b->count, ld, long at = i * step + j;
                    vstore(h + at, vload(h + at) + indrnn_within(bound, vload(own + j)) * vload(seen + at));)
    activate(u->activation, (real)u->activation_parameter, b->count, ld, h, step);
    if (m) EACH_VECTOR(b->count, ld, long at = i * step + j; vstore(carried + at, vload(m + at) * vload(h + at));)
}

static void indrnn_backward(const rc_unit *u, const rc_block *b) {
    const long ld = u->ld, step = b->stride * ld;
    const real *h = own_row(u, b, 0), *dh0 = dh_row(u, b), *later = later_row(u, b, 0), *own = u->vectors[INDRNN_U];
    const real *seen = carried_row(u, b->previous), *before_mask = mask_at(u, b, b->previous);
    real *da0 = row_of_da(u, b), *carry = carry_row(u, b, 0), *du = (real *)u->dvectors[INDRNN_U] + b->sequence * ld;
    const vec bound = vset1((real)u->factor), zero = vset1(0);
    EACH_VECTOR(b->count, ld, long at = i * step + j; vec dh = vload(dh0 + at);
                vstore(da0 + at, b->has_link ? (vec)(dh + vload(later + at)) : dh);)
    times_slope(u->activation, (real)u->activation_parameter, b->count, ld, h, da0, step);
    if (!b->has_previous) {
        EACH_VECTOR(b->count, ld, vstore(carry + i * step + j, zero);)
        return;
    }
    EACH_VECTOR(b->count, ld, long at = i * step + j; vec da = vload(da0 + at), v = vload(own + j);
                vec back = indrnn_within(bound, v) * da, d = vload(seen + at) * da;
                vstore(carry + at, before_mask ? (vec)(vload(before_mask + at) * back) : back);
                vstore(du + at, vload(du + at) + vselect(vless(bound, v), zero, vselect(vless(v, -bound), zero, d)));)
}
