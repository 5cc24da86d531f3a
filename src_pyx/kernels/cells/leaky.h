/* Leaky integrators (Jaeger, Lukoševičius, Popovici and Siewert 2007): an Elman network whose units change slowly, as those
 * of reservoirs do, and of continuous-time networks by Euler's steps.
 *
 *   forward    a = x_t·W_xh + b + (m⊙h_{t-1})·W_hh     f = φ(a)     h = h_{t-1} + α(f - h_{t-1})
 *   backward   dh = dh_t + dcarry + m⊙(da_{t+1}·W_hhᵀ)              da = α·dh⊙φ'(a)
 *              dcarry = (1-α)·dh                                    (for step t-1)
 *
 * Shapes: a, da, h, dh (rows, H), f in a's place; W_hh (H, H); dcarry (sequences, H), or (rows, H) when truncated.
 */
#include "steps.h"

static void leaky_forward(const rc_unit *u, const rc_block *b) {
    const long ld = u->ld, step = b->stride * ld, step_a = b->stride * u->lda;
    real *a0 = row_of_a(u, b), *h0 = own_row(u, b, 0), *carried = carried_row(u, b->row);
    const real *hp = before_row(u, 0, b->linked), *m = mask_row(u, b);
    const vec zero = vset1(0), leak = vset1((real)u->factor);
    if (b->has_link) multiply(u, b, 0, carried_row(u, b->linked), step, a0, step_a);
    activate(u->activation, (real)u->activation_parameter, b->count, ld, a0, step_a);
    EACH_VECTOR(b->count, ld, long at = i * step + j; vec h = b->has_link ? vload(hp + at) : zero;
                h += leak * (vload(a0 + i * step_a + j) - h);
                vstore(h0 + at, h);
                if (m) vstore(carried + at, vload(m + at) * h);)
}

static void leaky_backward(const rc_unit *u, const rc_block *b) {
    const long ld = u->ld, step = b->stride * ld, step_a = b->stride * u->lda;
    const real *a0 = row_of_a(u, b), *dh0 = dh_row(u, b), *later = later_row(u, b, 0), *m = mask_row(u, b);
    const real *back = multiply_back(u, b, 0);
    real *da0 = row_of_da(u, b), *carry = carry_row(u, b, 0);
    const vec leak = vset1((real)u->factor), kept = vset1((real)(1 - u->factor)), parameter = vset1((real)u->activation_parameter);
#define DERIVE(activation)                                                                                             \
    case activation:                                                                                                   \
        EACH_VECTOR(b->count, ld, long at = i * step + j, at_a = i * step_a + j; vec dh = vload(dh0 + at);             \
                    if (b->has_link) dh += vload(later + at) + (m ? (vec)(vload(m + at) * vload(back + at)) : vload(back + at)); \
                    vstore(da0 + at_a, leak * dh * derivative(activation, parameter, vload(a0 + at_a)));               \
                    vstore(carry + at, kept * dh);)                                                                    \
        break;
    switch (u->activation) {
        DERIVE(RC_TANH)
        DERIVE(RC_SIGMOID)
        DERIVE(RC_RELU)
        DERIVE(RC_LEAKY_RELU)
        DERIVE(RC_CLIPPED_RELU)
        DERIVE(RC_IDENTITY)
    }
#undef DERIVE
}
