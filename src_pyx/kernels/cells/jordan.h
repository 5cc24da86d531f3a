/* Jordan network (Jordan 1986): the outputs, y of K numbers, come back by way of state units s, a decaying sum of them;
 * and, as the second kernel, the same with Elman's feedback of the hidden units beside it.
 *
 *   forward    s_t = μ s_{t-1} + y_{t-1}            y_{t-1} given instead under teacher forcing (u->feedback)
 *              h_t = f(x_t·W_xh + b_h + (m⊙s_t)·W_yh [+ h_{t-1}·W_hh])
 *              y_t = g(h_t·W_hy + b_y)
 *   backward   dp_t = (dy_t + ds_{t+1}) ⊙ g'(y_t)                           p: what g is applied to; dp is doutput
 *              da_t = (dp_t·W_hyᵀ [+ da_{t+1}·W_hhᵀ]) ⊙ f'(h_t)
 *              ds_t = m⊙(da_t·W_yhᵀ) + μ ds_{t+1}
 *
 * For step t-1, ds_t is handed back to y (which ignores it where the outputs were given), μ ds_t to s. With
 * JORDAN_GIVEN, s counts as given (Jordan's own training): no gradient passes through it. m, recurrent dropout's mask,
 * is that of the step before, as for other cells: a step's own row of `carried` is m⊙s as that step sees it.
 *
 * Shapes: a, h, da (rows, H); y, s, m⊙s, dy, dp (rows, K); W_yh (K, H), W_hy (H, K), W_hh (H, H); what is handed back
 * (sequences, K), or (rows, K) when truncated.
 */
#include "steps.h"

enum { JORDAN_OUTPUT_ACTIVATION = 7, JORDAN_GIVEN = 8 }; /* flags: g's number, and a bit */
enum { JORDAN_W_YH, JORDAN_W_HY, JORDAN_W_HH };

/* s of this step, and what W_yh meets of it */
static const real *jordan_feed_back(const rc_unit *u, const rc_block *b) {
    const long ld = u->ldo, step = b->stride * ld;
    real *s = own_row(u, b, 1), *seen = carried_row(u, b->row);
    const real *y_prev = (const real *)(u->feedback ? u->feedback : u->before[0]) + b->linked * ld;
    const real *s_prev = before_row(u, 1, b->linked), *m = mask_at(u, b, b->linked);
    const vec decay = vset1((real)u->factor);
    EACH_VECTOR(b->count, ld, long q = i * step + j;
                vec v = b->has_link ? (vec)(decay * vload(s_prev + q) + vload(y_prev + q)) : vset1(0);
                vstore(s + q, v);
                if (m) vstore(seen + q, b->has_link ? (vec)(vload(m + q) * v) : v);)
    return seen;
}

/* h = f(a) on columns [from, to) */
static void jordan_activate(const rc_unit *u, const rc_block *b, real *h, long from, long to) {
    const long step = b->stride * u->ld;
    const real *a = row_of_a(u, b);
    for (long i = 0; i < b->count; i++) memcpy(h + i * step + from, a + i * step + from, (to - from) * sizeof(real));
    activate(u->activation, (real)u->activation_parameter, b->count, to - from, h + from, step);
}

INLINE void jordan_step(const rc_unit *u, const rc_block *b, real *h, const real *h_prev) {
    const long step = b->stride * u->ld, step_o = b->stride * u->ldo;
    const rc_packed *W_yh = &u->W[JORDAN_W_YH], *W_hh = &u->W[JORDAN_W_HH];
    const real *seen = jordan_feed_back(u, b);
    real *a = row_of_a(u, b), *y = own_row(u, b, 0);
    if (!b->has_link) jordan_activate(u, b, h, 0, u->ld);
    for (long p = 0; b->has_link && p < W_yh->panel_count; p++) {
        product_panel(W_yh, 0, p, b->count, seen, step_o, RC_FROM_C, a, step);
        if (h_prev) product_panel(W_hh, 0, p, b->count, h_prev, step, RC_FROM_C, a, step);
        jordan_activate(u, b, h, panel_begin(W_yh, p), panel_end(W_yh, p));
    }
    multiply_from(u, b, JORDAN_W_HY, RC_FROM_BIAS, h, step, y, step_o);
    activate(u->flags & JORDAN_OUTPUT_ACTIVATION, 0, b->count, u->ldo, y, step_o);
}

INLINE void jordan_back(const rc_unit *u, const rc_block *b, const real *h, const int hidden_feedback) {
    const long step = b->stride * u->ld, ldo = u->ldo, step_o = b->stride * ldo;
    const int given = u->flags & JORDAN_GIVEN;
    const real *y = own_row(u, b, 0), *dy = dh_row(u, b), *to_y = later_row(u, b, 0);
    real *dp = (real *)u->doutput + b->row * ldo, *da = row_of_da(u, b);
    const int joined = b->has_link && !given && !u->feedback;
    EACH_VECTOR(b->count, ldo, long q = i * step_o + j;
                vstore(dp + q, joined ? (vec)(vload(dy + q) + vload(to_y + q)) : vload(dy + q));)
    times_slope(u->flags & JORDAN_OUTPUT_ACTIVATION, 0, b->count, ldo, y, dp, step_o);

    const rc_packed *W_hy = &u->W_T[JORDAN_W_HY], *W_hh = &u->W_T[JORDAN_W_HH];
    const real *dh_end = hidden_feedback ? end_row(u, b, 2) : 0;
    for (long p = 0; p < W_hy->panel_count; p++) { /* da = dh, then ⊙ f'(h) while it is in cache */
        const long from = panel_begin(W_hy, p), to = panel_end(W_hy, p);
        product_panel(W_hy, 0, p, b->count, dp, step_o, RC_FROM_ZERO, da, step);
        if (hidden_feedback && b->has_link)
            product_panel(W_hh, 0, p, b->count, (const real *)u->dlater + b->linked * u->ld, step, RC_FROM_C, da, step);
        if (dh_end)
            EACH_VECTOR_BETWEEN(b->count, from, to, long q = i * step + j;
                                vstore(da + q, vload(da + q) + vload(dh_end + q));)
        times_slope(u->activation, (real)u->activation_parameter, b->count, to - from, h + from, da + from, step);
    }
    if (!b->has_previous) return;

    real *back = work_row(u, b, JORDAN_W_YH), *ds_y = carry_row(u, b, 0), *ds_s = carry_row(u, b, 1);
    const real *m = mask_at(u, b, b->previous);
    const real *later = b->has_link ? later_row(u, b, 1) : end_row(u, b, 1);
    const vec decay = vset1((real)u->factor);
    if (!given) multiply_T(u, b, JORDAN_W_YH, da, step, back, step_o);
    EACH_VECTOR(b->count, ldo, long q = i * step_o + j; vec ds = vset1(0);
                if (!given) {
                    ds = m ? (vec)(vload(m + q) * vload(back + q)) : vload(back + q);
                    if (later) ds += vload(later + q);
                }
                vstore(ds_y + q, ds);
                vstore(ds_s + q, decay * ds);)
}

static void jordan_forward(const rc_unit *u, const rc_block *b) { jordan_step(u, b, inner_row(u, b, 0), 0); }
static void jordan_backward(const rc_unit *u, const rc_block *b) { jordan_back(u, b, inner_row(u, b, 0), 0); }

static void jordan_elman_forward(const rc_unit *u, const rc_block *b) {
    jordan_step(u, b, own_row(u, b, 2), before_row(u, 2, b->linked));
}
static void jordan_elman_backward(const rc_unit *u, const rc_block *b) { jordan_back(u, b, own_row(u, b, 2), 1); }
