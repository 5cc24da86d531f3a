/* Elman network (Elman 1990), the simple recurrent network, with back-propagation through time.
 *
 *   forward    a_t  = x_t·W_xh + b + (m⊙h_{t-1})·W_hh          h_t = f(a_t)
 *   backward   da_t = (dh_t + m⊙(da_{t+1}·W_hhᵀ)) ⊙ f'(a_t)    f' from h_t (activation.h)
 *
 * Stochastic binary units: h_t = 1 with probability p = σ(a_t), else 0: 1 where p exceeds a random number, which
 * `unit->extra` holds on entry (1/2 without training). It holds p on return, and f' = p(1-p): the gradient goes straight
 * through the draw (Bengio, Léonard and Courville 2013).
 *
 * Shapes: a, h, da, dh (rows, H), W_hh (H, H). `unit->state[0]` holds x_t·W_xh + b on entry and h_t on return. m is recurrent dropout's
 * mask, or absent. dh and da may be the same array when there is no mask.
 */
#include "steps.h"

static void elman_activate(const rc_unit *u, const rc_block *b, long from, long to) {
    long step = b->stride * u->ld, offset = b->row * u->ld + from;
    real *h = (real *)u->state[0] + offset, *carried = (real *)u->carried + offset;
    if (u->activation == RC_BINARY) {
        real *noise = (real *)u->extra + offset;
        EACH_VECTOR(b->count, to - from, long q = i * step + j; vec p = vsigmoid(vload(h + q));
                    vstore(h + q, vselect(vless(vload(noise + q), p), vset1(1), vset1(0)));
                    vstore(noise + q, p);)
    } else {
        activate(u->activation, (real)u->activation_parameter, b->count, to - from, h, step);
    }
    const real *m = mask_row(u, b);
    if (m) EACH_VECTOR(b->count, to - from, long q = i * step + j; vstore(carried + q, vload(m + from + q) * vload(h + q));)
}

static void elman_forward(const rc_unit *u, const rc_block *b) {
    if (!b->has_link) {
        elman_activate(u, b, 0, u->ld);
        return;
    }
    const rc_packed *W = &u->W[0];
    const real *before = (const real *)u->carried + b->linked * u->ld;
    real *a = (real *)u->state[0] + b->row * u->ld;
    long step = b->stride * u->ld;
    if (b->count <= FEW_ROWS) { /* a += (m⊙h_prev)·W_hh, then f */
        product_block(W, 0, b->count, before, step, RC_FROM_C, a, step);
        elman_activate(u, b, 0, u->ld);
        return;
    }
    for (long p = 0; p < W->panel_count; p++) { /* the same by panels, f while each is in cache */
        product_panel(W, 0, p, b->count, before, step, RC_FROM_C, a, step);
        elman_activate(u, b, panel_begin(W, p), panel_end(W, p));
    }
}

/* da = (dh + m⊙da) ⊙ f'(a), where da holds da_later·W_hhᵀ; in place, da holds the sum */
INLINE void elman_derive(const int form, const rc_unit *u, const rc_block *b) {
    long step = b->stride * u->ld, offset = b->row * u->ld, step_s = b->stride * u->ldh;
    const real *h = (const real *)(u->activation == RC_BINARY ? u->extra : u->state[0]) + offset;
    const real *dh = dh_row(u, b), *m = mask_row(u, b);
    real *da = (real *)u->da + offset;
    uint16_t *t0 = row_of_da_halves(u, b);
    int add = b->has_link && dh != da;
    const vec parameter = vset1((real)u->activation_parameter);
#define DERIVE(activation)                                                                                             \
    case activation:                                                                                                   \
        EACH_VECTOR(b->count, u->ld, long q = i * step + j; vec d = vload(dh + q);                                 \
                    if (add) d += m ? (vec)(vload(m + q) * vload(da + q)) : vload(da + q);      \
                    leave_gradient(form, da + q, t0, i * step_s + j,                                                   \
                                   d * derivative(activation, parameter, vload(h + q)));)                              \
        break;
    switch (u->activation) {
        DERIVE(RC_TANH)
        DERIVE(RC_SIGMOID)
        DERIVE(RC_RELU)
        DERIVE(RC_LEAKY_RELU)
        DERIVE(RC_CLIPPED_RELU)
        DERIVE(RC_IDENTITY)
        DERIVE(RC_BINARY)
    }
#undef DERIVE
}

static void elman_backward(const rc_unit *u, const rc_block *b) {
    const long step = b->stride * u->ld;
    if (b->has_link) /* da = (dh or 0) + da_later·W_hhᵀ */
        multiply_later(u, b, 0, u->dh == u->da ? RC_FROM_C : RC_FROM_ZERO, (real *)u->da + b->row * u->ld, step);
    IN_EACH_FORM(form_of(u, u->da_halves), elman_derive, u, b)
}
