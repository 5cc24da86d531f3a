/* Second-order networks (Lee et al. 1986; Giles et al. 1992): the input sets the matrix that the state meets, and every
 * pair of a unit and an input has a weight. With a 1 beside state and input ("augmented") the net of first-order terms is
 * in it, and Pollack's sequential cascaded network is (1991), whose context net sets the weights of its function net.
 *
 *   forward    M = x_t·W_xh   (F, H)                             a = (m⊙h_{t-1})'·M + b
 *   augmented  [M; c] = x_t·W_xh + b   (F + 1, H)                a = (m⊙h_{t-1})'·M + c             h = f(a)
 *   backward   da = (dh_t + dcarry)⊙f'(h)     dM = (m⊙h_{t-1})'ᵀ·da     dc = da, or db += da
 *              dcarry' = m⊙(M·daᵀ)            (for step t-1; f' from h, activation.h)
 *
 * The engine makes M (symbols pick theirs), and takes dW_xh = xᵀ·dM: what is told W_jki h_j x_k elsewhere is column
 * j·H + i of row k of W_xh. h' are all units but the first `unit->flags` ones, which no unit sees: F = H - flags.
 *
 * Shapes: a, dM (rows, lda), perhaps one array: a matrix's rows side by side, then, beyond what vectors of its last row
 * run over, one row of whole vectors for da; h, dh (rows, H); b = vectors[0], (H), or part of M; dcarry (sequences, H), or
 * (rows, H) when truncated; m recurrent dropout's mask, or absent.
 */
#include "steps.h"

enum { SECOND_ORDER_B };

static inline int second_order_augmented(const rc_unit *u) { return !u->cell->own_bias; }

static inline real second_order_dot(long n, const real *x, const real *y) {
    vec sum = vset1(0);
    long j = 0;
    for (; j + VL <= n; j += VL) sum += vload(x + j) * vload(y + j);
    real part[VL], total = 0;
    vstore(part, sum);
    for (int k = 0; k < VL; k++) total += part[k];
    for (; j < n; j++) total += x[j] * y[j];
    return total;
}

static void second_order_forward(const rc_unit *u, const rc_block *b) {
    const long H = u->hidden, ld = u->ld, F = H - u->flags, step = b->stride * ld, step_a = b->stride * u->lda;
    const real *M0 = row_of_a(u, b), *seen = carried_row(u, b->linked) + u->flags, *m = mask_row(u, b);
    const real *own = second_order_augmented(u) ? 0 : u->vectors[SECOND_ORDER_B];
    real *h0 = own_row(u, b, 0), *carried = carried_row(u, b->row);
    EACH_VECTOR(b->count, ld, const real *M = M0 + i * step_a + j; vec a = vload(own ? own + j : M + F * H);
                for (long k = 0; k < (b->has_link ? F : 0); k++) a += vset1(seen[i * step + k]) * vload(M + k * H);
                vstore(h0 + i * step + j, a);)
    activate(u->activation, (real)u->activation_parameter, b->count, ld, h0, step);
    if (m) EACH_VECTOR(b->count, ld, long at = i * step + j; vstore(carried + at, vload(m + at) * vload(h0 + at));)
}

/* of one row: what M·daᵀ hands back, then dM, perhaps in M's place */
static inline void second_order_spread(const rc_unit *u, const real *M, const real *seen, const real *mask,
                                       const real *da, real *dM, real *carry) {
    const long H = u->hidden, F = H - u->flags;
    for (long k = 0; k < u->flags; k++) carry[k] = 0;
    for (long k = 0; k < F; k++) {
        real back = seen ? second_order_dot(H, M + k * H, da) : 0;
        carry[u->flags + k] = mask && seen ? mask[u->flags + k] * back : back;
    }
    for (long k = 0; k < F; k++) {
        const vec h = vset1(seen ? seen[u->flags + k] : 0);
        for (long j = 0; j < H; j += VL) vstore(dM + k * H + j, h * vload(da + j)); /* the next row covers what is too much */
    }
    if (second_order_augmented(u))
        for (long j = 0; j < H; j += VL) vstore(dM + F * H + j, vload(da + j));
}

static void second_order_backward(const rc_unit *u, const rc_block *b) {
    const long ld = u->ld, step = b->stride * ld, step_a = b->stride * u->lda;
    const real *M0 = row_of_a(u, b), *h0 = own_row(u, b, 0), *dh0 = dh_row(u, b), *later = later_row(u, b, 0);
    const real *seen = carried_row(u, b->previous), *mask = mask_at(u, b, b->previous);
    real *dM0 = row_of_da(u, b), *carry = carry_row(u, b, 0), *da0 = dM0 + u->lda - ld;
    EACH_VECTOR(b->count, ld, long at = i * step + j; vec dh = vload(dh0 + at);
                vstore(da0 + i * step_a + j, b->has_link ? (vec)(dh + vload(later + at)) : dh);)
    for (long i = 0; i < b->count; i++) {
        real *da = da0 + i * step_a;
        times_slope(u->activation, (real)u->activation_parameter, 1, ld, h0 + i * step, da, ld);
        if (!second_order_augmented(u)) {
            real *db = (real *)u->dvectors[SECOND_ORDER_B] + (b->sequence + i * b->stride) * ld;
            for (long j = 0; j < ld; j += VL) vstore(db + j, vload(db + j) + vload(da + j));
        }
        second_order_spread(u, M0 + i * step_a, b->has_previous ? seen + i * step : 0, mask ? mask + i * step : 0, da,
                            dM0 + i * step_a, carry + i * step);
    }
}
