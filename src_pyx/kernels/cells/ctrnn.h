/* Continuous-time network (Pearlmutter 1989; Funahashi and Nakamura 1993; Beer 1995): units with time constants, between
 * whose samples a differential equation is integrated.
 *
 *   τ⊙dy/dt = -y + f(y)·W_hh + I        I = x_t·W_xh + b, held during the step      h = f(y)      τ = e^ρ
 *
 * A step of length Δt is some sub-steps of an explicit Runge-Kutta method, whose stages q are, with r = Δt/(sub-steps·τ),
 *
 *   forward    Y = y + c_q r⊙k_{q-1}     φ = m⊙f(Y)     k_q = φ·W_hh + I - Y              then y' = y + r⊙Σ w_q k_q
 *   backward   dk_q = r⊙(w_q dy' + c_{q+1} dY_{q+1})    dY_q = f'(Y)⊙m⊙(dk_q·W_hhᵀ) - dk_q      dy = dy' + Σ dY_q
 *              dI = Σ dk_q      dρ = -Σ k_q⊙dk_q        (r⊙∂/∂r of all that r meets is what dk_q holds)
 *
 * and h adds f'(h)⊙dh to dy' at the end of a step. Euler: one stage. Runge-Kutta of order 4: c = 0, 1/2, 1/2, 1 and
 * w = 1/6, 1/3, 1/3, 1/6. Δt is `unit->factor`, or of each row its own (`unit->dt`).
 *
 * Feedback, for one stage: of the first units (`unit->flags`, all but its first bit) φ = f(y) + share·(given - f(y)), from
 * the second step on. m is recurrent dropout's mask, that of the step before, or absent.
 *
 * Shapes: h, y, dh, dy (rows or sequences, H); φ (rows, stages·H) in inner 0; f(Y) likewise, in `extra`, where φ differs.
 * A row of a holds I, then k of each stage, and of da dI, then dk; with one stage that is one block, k in I's place. dy, the
 * carry of y, is (sequences, H), or (rows, H) when truncated. Of the state before, y alone is read.
 */
#include "steps.h"

enum { CTRNN_H, CTRNN_Y };
enum { CTRNN_RK4 = 1, CTRNN_TAUGHT = 1 }; /* flags: a bit; how far the number of taught units is shifted */

static const real ctrnn_nodes[2][5] = {{0, 0}, {0, (real)0.5, (real)0.5, 1, 0}}; /* c; 0 behind the last */
static const real ctrnn_weights[2][4] = {{1}, {(real)(1 / 6.0), (real)(1 / 3.0), (real)(1 / 3.0), (real)(1 / 6.0)}};

/* body for each vector of columns, j, of each row, i, with its r */
#define CTRNN_EACH(...)                                                                                                \
    for (long j = 0; j < u->ld; j += VL) {                                                                             \
        const vec each = vexp(-vload((const real *)u->vectors[0] + j)) * vset1((real)order / u->stages);               \
        for (long i = 0; i < b->count; i++) {                                                                          \
            const vec r = each * vset1(ctrnn_dt(u, b, i));                                                             \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    }

static inline real ctrnn_dt(const rc_unit *u, const rc_block *b, long i) {
    return u->dt ? ((const real *)u->dt)[(b->row + i * b->stride) * u->dt_step] : (real)u->factor;
}

/* f(Y) of the first stage: apart from φ where that is something else */
static inline real *ctrnn_plain(const rc_unit *u, const rc_block *b) {
    return u->mask || u->feedback ? (real *)u->extra + b->row * u->ldi : inner_row(u, b, 0);
}

/* how many units are told what they said, where there is a step before */
static inline long ctrnn_taught(const rc_unit *u, int has_before) {
    return u->feedback && has_before ? lmin(u->flags >> CTRNN_TAUGHT, u->hidden) : 0;
}

/* φ, from f(Y) */
static void ctrnn_look(const rc_unit *u, const rc_block *b, const real *f, real *seen) {
    const long step = b->stride * u->ldi, taught = ctrnn_taught(u, b->has_link);
    const real *given = taught ? (const real *)u->feedback + b->linked * u->ldo : 0, *m = mask_at(u, b, b->linked);
    const real share = (real)u->share;
    EACH_VECTOR(b->count, u->ld, vstore(seen + i * step + j, vload(f + i * step + j));)
    for (long i = 0; i < b->count && taught; i++)
        for (long j = 0; j < taught; j++)
            seen[i * step + j] += share * (given[i * b->stride * u->ldo + j] - seen[i * step + j]);
    if (m)
        EACH_VECTOR(b->count, u->ld, real *q = seen + i * step + j;
                    vstore(q, vload(m + i * b->stride * u->ld + j) * vload(q));)
}

static void ctrnn_forward(const rc_unit *u, const rc_block *b) {
    const long ld = u->ld, step = b->stride * ld, step_a = b->stride * u->lda, step_i = b->stride * u->ldi;
    const int method = u->flags & CTRNN_RK4, order = method ? 4 : 1, staged = u->cell->staged;
    real *I = row_of_a(u, b), *y0 = own_row(u, b, CTRNN_Y), *h0 = own_row(u, b, CTRNN_H);
    const real *before = before_row(u, CTRNN_Y, b->linked);
    EACH_VECTOR(b->count, ld, vstore(y0 + i * step + j, b->has_link ? vload(before + i * step + j) : vset1(0));)
    for (int s = 0; s < u->stages; s++) {
        real *k0 = I + (s + staged) * ld, *f = ctrnn_plain(u, b) + s * ld, *seen = inner_row(u, b, 0) + s * ld;
        const real *earlier = k0 - ld, *first = k0 - (order - 1) * ld;
        const int q = s % order;
        const real node = ctrnn_nodes[method][q];
        const real *weight = ctrnn_weights[method];
        CTRNN_EACH(vec Y = vload(y0 + i * step + j); long at = i * step_a + j;
                   if (q) Y += vset1(node) * r * vload(earlier + at);
                   vstore(f + i * step_i + j, Y);
                   vstore(k0 + at, vload(I + at) - Y);)
        activate(u->activation, (real)u->activation_parameter, b->count, ld, f, step_i);
        if (f != seen) ctrnn_look(u, b, f, seen);
        multiply(u, b, 0, seen, step_i, I + s * ld, step_a);
        if (q < order - 1) continue;
        CTRNN_EACH(const real *k = first + i * step_a + j; vec sum = vset1(weight[0]) * vload(k);
                   for (int p = 1; p < order; p++) sum += vset1(weight[p]) * vload(k + p * ld);
                   real *y = y0 + i * step + j;
                   vstore(y, vload(y) + r * sum);)
    }
    EACH_VECTOR(b->count, ld, vstore(h0 + i * step + j, vload(y0 + i * step + j));)
    activate(u->activation, (real)u->activation_parameter, b->count, ld, h0, step);
}

/* out = a + f'·d, or with a NULL f'·d */
static void ctrnn_slope(const rc_unit *u, const rc_block *b, const real *f, long step_f, const real *d, long step_d,
                        const real *a, real *out, long step) {
    const vec parameter = vset1((real)u->activation_parameter), zero = vset1(0);
#define DERIVE(activation)                                                                                             \
    case activation:                                                                                                   \
        EACH_VECTOR(b->count, u->ld, vec slope = derivative(activation, parameter, vload(f + i * step_f + j));         \
                    vstore(out + i * step + j, (a ? vload(a + i * step + j) : zero) + slope * vload(d + i * step_d + j));) \
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

/* what reached φ goes on to f(Y) */
static void ctrnn_look_back(const rc_unit *u, const rc_block *b, real *d, long step) {
    const real *m = mask_at(u, b, b->previous);
    const long taught = ctrnn_taught(u, b->has_previous);
    if (m) EACH_VECTOR(b->count, u->ld, real *q = d + i * step + j; vstore(q, vload(m + i * b->stride * u->ld + j) * vload(q));)
    for (long i = 0; i < b->count && taught; i++)
        for (long j = 0; j < taught; j++) d[i * step + j] *= 1 - (real)u->share;
}

static void ctrnn_backward(const rc_unit *u, const rc_block *b) {
    const long ld = u->ld, step = b->stride * ld, step_a = b->stride * u->lda, step_i = b->stride * u->ldi;
    const int method = u->flags & CTRNN_RK4, order = method ? 4 : 1, staged = u->cell->staged;
    const long step_w = (1 + staged) * step;
    real *a0 = row_of_a(u, b), *da0 = row_of_da(u, b), *dy0 = carry_row(u, b, CTRNN_Y);
    real *back = (real *)u->work[0] + b->sequence * (1 + staged) * ld, *drho = (real *)u->dvectors[0] + b->sequence * ld;
    const real *later = later_row(u, b, CTRNN_Y), *end = end_row(u, b, CTRNN_Y);
    EACH_VECTOR(b->count, ld, long at = i * step + j; vec d = b->has_link ? vload(later + at) : vset1(0);
                if (end) d += vload(end + at);
                vstore(dy0 + at, d);)
    ctrnn_slope(u, b, own_row(u, b, CTRNN_H), step, dh_row(u, b), step, dy0, dy0, step);
    real *given = method ? back + ld : dy0; /* dy' of a sub-step, while dy grows */
    const long step_g = method ? step_w : step;
    for (int s = (int)u->stages - 1; s >= 0; s--) {
        const int q = s % order, last = s == u->stages - 1;
        const real weight = ctrnn_weights[method][q], node = ctrnn_nodes[method][q + 1];
        const real *k0 = a0 + (s + staged) * ld, *f = ctrnn_plain(u, b) + s * ld;
        real *dk0 = da0 + (s + staged) * ld;
        if (method && q == order - 1)
            EACH_VECTOR(b->count, ld, vstore(given + i * step_g + j, vload(dy0 + i * step + j));)
        CTRNN_EACH(vec d = vset1(weight) * vload(given + i * step_g + j); long at = i * step_a + j;
                   if (q < order - 1) d += vset1(node) * vload(back + i * step_w + j);
                   d *= r;
                   real *sum = drho + i * step + j;
                   vstore(sum, vload(sum) - vload(k0 + at) * d);
                   vstore(dk0 + at, d);
                   if (staged) vstore(da0 + at, last ? d : (vec)(vload(da0 + at) + d));)
        multiply_T(u, b, 0, da0 + s * ld, step_a, back, step_w);
        if (u->mask || u->feedback) ctrnn_look_back(u, b, back, step_w);
        ctrnn_slope(u, b, f, step_i, back, step_w, 0, back, step_w);
        EACH_VECTOR(b->count, ld, real *dY = back + i * step_w + j; vec d = vload(dY) - vload(dk0 + i * step_a + j);
                    real *dy = dy0 + i * step + j;
                    vstore(dY, d);
                    vstore(dy, vload(dy) + d);)
    }
}
