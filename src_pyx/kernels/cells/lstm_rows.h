/* LSTM with more matrices than W_hh, whole rows at a time: the cells of lstm.h with
 *
 *   projection (Sak et al. 2014)           h = (o⊙tanh(c))·W_hr, P wide        d(o⊙tanh(c)) = dh·W_hrᵀ
 *   full gate recurrence (Greff et al.     [ai af ao] += i_{t-1}·W_gi + f_{t-1}·W_gf + o_{t-1}·W_go
 *   2017): i, f, o are states 2, 3, 4      di = (dc⊙g + [da_i da_f da_o]_{t+1}·W_giᵀ)⊙i(1-i), likewise df, do
 *
 * or both. Gate s (2, 3, 4) goes through matrix s; W_hr is matrix 1.
 *
 * Shapes: a, da (rows, 4·H); c, i, f, o, o⊙tanh(c) (rows, H); h, dh, doutput (rows, P); W_hh (P, 4·H), W_hr (H, P), W_gi,
 * W_gf, W_go (H, 3·H).
 */
#ifndef RNNCORE_LSTM_ROWS_H
#define RNNCORE_LSTM_ROWS_H
#include "lstm.h"
#include "steps.h"

enum { LSTM_W_HR = 1, LSTM_FIRST_GATE = 2, LSTM_LAST_GATE = 4 };

/* h = inner·W_hr, and m⊙h */
static void lstm_project(const rc_unit *u, const rc_block *b) {
    const long step = b->stride * u->ldo;
    real *h = own_row(u, b, 0), *carried = carried_row(u, b->row);
    const real *m = mask_row(u, b);
    multiply_from(u, b, LSTM_W_HR, RC_FROM_ZERO, inner_row(u, b, 0), b->stride * u->ld, h, step);
    if (m) EACH_VECTOR(b->count, u->ldo, long q = i * step + j; vstore(carried + q, vload(m + q) * vload(h + q));)
}

/* doutput = dh_t + m⊙(da_{t+1}·W_hhᵀ), and its product with W_hrᵀ: the gradient of inner, in work[1] */
static void lstm_project_back(const rc_unit *u, const rc_block *b) {
    const long step = b->stride * u->ldo;
    const real *dh0 = dh_row(u, b), *m = mask_row(u, b), *back = work_row(u, b, 0);
    real *dout = (real *)u->doutput + b->row * u->ldo;
    EACH_VECTOR(b->count, u->ldo, long q = i * step + j; vec dh = vload(dh0 + q);
                if (b->has_link) dh += m ? (vec)(vload(m + q) * vload(back + q)) : vload(back + q);
                vstore(dout + q, dh);)
    multiply_T(u, b, LSTM_W_HR, dout, step, work_row(u, b, LSTM_W_HR), b->stride * u->ld);
}

static void lstm_rows_forward(const rc_unit *u, const rc_block *b) {
    const int flags = lstm_flags(u);
    real *a = row_of_a(u, b);
    if (b->has_link) {
        multiply(u, b, 0, carried_row(u, b->linked), b->stride * u->ldo, a, b->stride * u->lda);
        for (int s = LSTM_FIRST_GATE; flags & LSTM_FGR && s <= LSTM_LAST_GATE; s++)
            multiply(u, b, s, before_row(u, s, b->linked), b->stride * u->ld, a, b->stride * u->lda);
    }
    lstm_points(u, b);
    if (flags & LSTM_PROJECTED) lstm_project(u, b);
}

static void lstm_rows_backward(const rc_unit *u, const rc_block *b) {
    const int flags = lstm_flags(u);
    multiply_back(u, b, 0);
    for (int s = LSTM_FIRST_GATE; flags & LSTM_FGR && s <= LSTM_LAST_GATE; s++) multiply_back(u, b, s);
    if (flags & LSTM_PROJECTED) lstm_project_back(u, b);
    lstm_derivatives(u, b);
}
#endif
