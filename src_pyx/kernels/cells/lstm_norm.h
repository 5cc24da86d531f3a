/* LSTM with layer normalisation (Ba, Kiros and Hinton 2016, supplement, equations 20-22). N(v) is v - mean(v) over
 * sqrt(var(v) + ε), over all four gates of a row at once, or over its cells.
 *
 *   forward    v = x_t·W_xh   w = (m⊙h_{t-1})·W_hh   [ai af ag ao] = γ_x⊙N(v) + γ_h⊙N(w) + b
 *              i, f, g, o and c as in lstm.h           h = o⊙tanh(γ_c⊙N(c) + β_c), or that times W_hr
 *   backward   dz = dh⊙o⊙(1-tanh²)        dc = N'(γ_c⊙dz) + dcarry + p_o⊙do
 *              ds: gradients of the gates' sums as in lstm.h        dv = N'(γ_x⊙ds)   dw = N'(γ_h⊙ds)
 *              N'(y) = (y - mean(y) - N(v)⊙mean(y⊙N(v))) / sqrt(var(v) + ε)
 *
 * A row of a has N(v), N(w) and the gates, where dv, dw and ds come; `factor` is ε.
 *
 * Shapes: a, da (rows, 12·H); extra (rows, NORM_EXTRA·H); γ_x, γ_h, b (4·H), γ_c, β_c (H), their gradients a row per
 * sequence; c, o⊙tanh (rows, H); h, dh (rows, width of the output).
 */
#ifndef RNNCORE_LSTM_NORM_H
#define RNNCORE_LSTM_NORM_H
#include "lstm_rows.h"
#include <math.h>

/* places among `vectors` after the peepholes, blocks of a (N(v) comes first), and blocks of extra: the last three have
 * one number each, 1 / sqrt(var + ε) */
enum { NORM_BIAS = 3, NORM_GAIN_X = 7, NORM_GAIN_H = 11, NORM_GAIN_C = 15, NORM_SHIFT_C = 16 };
enum { NORM_H = 4, NORM_GATES = 8 };
enum { NORM_C, NORM_TANH, NORM_SCALE_X, NORM_SCALE_H, NORM_SCALE_C, NORM_EXTRA };

/* x, zero from number `count` on: what pads a row must not count */
INLINE vec first_of(vec x, long count) {
    if (count >= VL) return x;
    real part[VL];
    vstore(part, x);
    for (long k = count; k < VL; k++) part[k] = 0;
    return vload(part);
}

INLINE real sum_of_numbers(vec x) {
    real part[VL], sum = 0;
    vstore(part, x);
    for (int k = 0; k < VL; k++) sum += part[k];
    return sum;
}

INLINE real mean_of(const int blocks, const vec *sums, long H) {
    real sum = 0;
    for (int k = 0; k < blocks; k++) sum += sum_of_numbers(sums[k]);
    return sum / (real)(blocks * H);
}

/* x = N(x), over blocks of H numbers that are ld apart; returns 1 / sqrt(var + ε) */
INLINE real normalise(const int blocks, const rc_unit *u, real *x) {
    const long ld = u->ld, H = u->hidden;
    vec sums[4], squares[4];
    UNROLL for (int k = 0; k < blocks; k++) sums[k] = squares[k] = vset1(0);
    for (long j = 0; j < ld; j += VL)
        UNROLL for (int k = 0; k < blocks; k++) sums[k] += first_of(vload(x + k * ld + j), H - j);
    const vec mean = vset1(mean_of(blocks, sums, H));
    for (long j = 0; j < ld; j += VL)
        UNROLL for (int k = 0; k < blocks; k++) {
            vec d = first_of(vload(x + k * ld + j) - mean, H - j);
            squares[k] += d * d;
            vstore(x + k * ld + j, d);
        }
    const real scale = 1 / (real)sqrt(mean_of(blocks, squares, H) + (real)u->factor);
    for (long j = 0; j < ld; j += VL)
        UNROLL for (int k = 0; k < blocks; k++) vstore(x + k * ld + j, vset1(scale) * vload(x + k * ld + j));
    return scale;
}

/* row i of a block, as a block */
INLINE rc_block row_of(const rc_block *b, long i) {
    const long at = i * b->stride;
    rc_block r = *b;
    r.row += at, r.linked += at, r.previous += at, r.sequence += at;
    r.count = 1;
    return r;
}

INLINE real *norm_extra(const rc_unit *u, const rc_block *r) { return (real *)u->extra + r->row * NORM_EXTRA * u->ld; }

INLINE void norm_row(const int flags, const rc_unit *u, const rc_block *r) {
    const long ld = u->ld;
    const real *const *w = (const real *const *)u->vectors;
    const real *c_prev = r->has_link ? before_row(u, 1, r->linked) : 0;
    real *a = row_of_a(u, r), *gates = a + NORM_GATES * ld, *c = own_row(u, r, 1);
    real *h = flags & LSTM_PROJECTED ? inner_row(u, r, 0) : own_row(u, r, 0);
    real *extra = norm_extra(u, r), *n = extra + NORM_C * ld, *t = extra + NORM_TANH * ld;
    const lstm_peepholes p = lstm_peepholes_of(u);
    if (!r->has_link) memset(a + NORM_H * ld, 0, 4 * ld * sizeof(real));
    extra[NORM_SCALE_X * ld] = normalise(4, u, a);
    extra[NORM_SCALE_H * ld] = normalise(4, u, a + NORM_H * ld);
    for (long j = 0; j < ld; j += VL) {
        vec sum[4];
        UNROLL for (int k = 0; k < 4; k++)
            sum[k] = vload(w[NORM_BIAS + k] + j) + vload(w[NORM_GAIN_X + k] + j) * vload(a + k * ld + j) +
                     vload(w[NORM_GAIN_H + k] + j) * vload(a + (NORM_H + k) * ld + j);
        lstm_vectors v = {sum[0], sum[1], sum[2], sum[3], c_prev ? vload(c_prev + j) : vset1(0)};
        v = lstm_gates(flags, p, j, v);
        vstore(gates + j, v.i);
        vstore(gates + ld + j, v.f);
        vstore(gates + 2 * ld + j, v.g);
        vstore(gates + 3 * ld + j, v.o);
        vstore(c + j, v.c);
        vstore(n + j, v.c);
    }
    extra[NORM_SCALE_C * ld] = normalise(1, u, n);
    for (long j = 0; j < ld; j += VL) {
        vec tc = lstm_squash(flags, vload(w[NORM_GAIN_C] + j) * vload(n + j) + vload(w[NORM_SHIFT_C] + j));
        vstore(t + j, tc);
        vstore(h + j, vload(gates + 3 * ld + j) * tc);
    }
}

static void lstm_norm_forward(const rc_unit *u, const rc_block *b) {
    const int flags = lstm_flags(u);
    const long step = b->stride * u->ldo;
    if (b->has_link)
        multiply_from(u, b, 0, RC_FROM_ZERO, carried_row(u, b->linked), step, row_of_a(u, b),
                      b->stride * u->lda);
    for (long i = 0; i < b->count; i++) {
        const rc_block r = row_of(b, i);
        if (flags)
            norm_row(flags, u, &r);
        else
            norm_row(0, u, &r);
    }
    const real *m = mask_row(u, b), *h = own_row(u, b, 0);
    real *carried = carried_row(u, b->row);
    if (flags & LSTM_PROJECTED)
        lstm_project(u, b);
    else if (m)
        EACH_VECTOR(b->count, u->ldo, long q = i * step + j; vstore(carried + q, vload(m + q) * vload(h + q));)
}

INLINE void add_to(void *sum, long at, vec x) {
    real *s = (real *)sum + at;
    vstore(s, vload(s) + x);
}

/* d = N'(γ⊙ds) for the four gates, from n = N(v) and the means of γ⊙ds and γ⊙ds⊙n. d may be n. */
INLINE void norm_slopes(const rc_unit *u, int gain, real scale, real mean, real mean_n, const real *ds, const real *n,
                        real *d) {
    const long ld = u->ld;
    for (long j = 0; j < ld; j += VL)
        UNROLL for (int k = 0; k < 4; k++) {
            vec y = vload((const real *)u->vectors[gain + k] + j) * vload(ds + k * ld + j);
            vstore(d + k * ld + j, vset1(scale) * (y - vset1(mean) - vset1(mean_n) * vload(n + k * ld + j)));
        }
}

INLINE void norm_row_back(const int flags, const rc_unit *u, const rc_block *r) {
    const long ld = u->ld, H = u->hidden, at = r->sequence * ld;
    const real *const *w = (const real *const *)u->vectors;
    const real *a = row_of_a(u, r), *gates = a + NORM_GATES * ld, *c = own_row(u, r, 1);
    const real *c_prev = r->has_previous ? before_row(u, 1, r->previous) : 0, *later = lstm_state_gradient(u, r, 1);
    const real *extra = norm_extra(u, r), *n = extra + NORM_C * ld, *t = extra + NORM_TANH * ld;
    const real *dh0 = flags & LSTM_PROJECTED ? work_row(u, r, LSTM_W_HR) : dh_row(u, r);
    const real *back = flags & LSTM_PROJECTED || !r->has_link ? 0 : work_row(u, r, 0), *m = mask_row(u, r);
    real *da = row_of_da(u, r), *ds = da + NORM_GATES * ld, *carry = carry_row(u, r, 1);
    const lstm_peepholes p = lstm_peepholes_of(u);
#define DH(j) (back ? (vec)(vload(dh0 + j) + (m ? (vec)(vload(m + j) * vload(back + j)) : vload(back + j))) : vload(dh0 + j))
    vec sums[4] = {vset1(0), vset1(0), vset1(0), vset1(0)}; /* of y = γ⊙dz and y⊙N(c) */
    for (long j = 0; j < ld; j += VL) {
        vec dz = DH(j) * vload(gates + 3 * ld + j) * lstm_squash_slope(flags, vload(t + j));
        vec y = first_of(vload(w[NORM_GAIN_C] + j) * dz, H - j);
        sums[0] += y;
        sums[1] += y * vload(n + j);
        add_to(u->dvectors[NORM_GAIN_C], at + j, dz * vload(n + j));
        add_to(u->dvectors[NORM_SHIFT_C], at + j, dz);
    }
    const vec scale = vset1(extra[NORM_SCALE_C * ld]);
    const vec mean = vset1(mean_of(1, sums, H)), mean_n = vset1(mean_of(1, sums + 1, H));
    sums[0] = sums[1] = vset1(0); /* now of y = γ⊙ds and y⊙N, for v and w */
    for (long j = 0; j < ld; j += VL) {
        lstm_vectors d, v = {vload(gates + j), vload(gates + ld + j), vload(gates + 2 * ld + j),
                             vload(gates + 3 * ld + j), c_prev ? vload(c_prev + j) : vset1(0)};
        vec tc = vload(t + j), dh = DH(j), y = vload(w[NORM_GAIN_C] + j) * (dh * v.o * lstm_squash_slope(flags, tc));
        d.o = dh * tc;
        d.c = scale * (y - mean - mean_n * vload(n + j));
        if (later) d.c += vload(later + j);
        d = lstm_slopes(flags, p, j, v, d);
        if (flags & LSTM_PEEPHOLES) lstm_peephole_sums(flags, u, at + j, d, v.c, vload(c + j));
        vstore(carry + j, d.c);
        vec each[4] = {d.i, d.f, d.g, d.o};
        UNROLL for (int k = 0; k < 4; k++) {
            vec n_x = vload(a + k * ld + j), n_h = vload(a + (NORM_H + k) * ld + j);
            vec y_x = first_of(vload(w[NORM_GAIN_X + k] + j) * each[k], H - j);
            vec y_h = first_of(vload(w[NORM_GAIN_H + k] + j) * each[k], H - j);
            sums[0] += y_x;
            sums[1] += y_x * n_x;
            sums[2] += y_h;
            sums[3] += y_h * n_h;
            add_to(u->dvectors[NORM_BIAS + k], at + j, each[k]);
            add_to(u->dvectors[NORM_GAIN_X + k], at + j, each[k] * n_x);
            add_to(u->dvectors[NORM_GAIN_H + k], at + j, each[k] * n_h);
            vstore(ds + k * ld + j, each[k]);
        }
    }
#undef DH
    norm_slopes(u, NORM_GAIN_X, extra[NORM_SCALE_X * ld], mean_of(1, sums, 4 * H), mean_of(1, sums + 1, 4 * H), ds, a, da);
    norm_slopes(u, NORM_GAIN_H, extra[NORM_SCALE_H * ld], mean_of(1, sums + 2, 4 * H), mean_of(1, sums + 3, 4 * H), ds,
                a + NORM_H * ld, da + NORM_H * ld);
}

static void lstm_norm_backward(const rc_unit *u, const rc_block *b) {
    const int flags = lstm_flags(u);
    multiply_back(u, b, 0);
    if (flags & LSTM_PROJECTED) lstm_project_back(u, b);
    for (long i = 0; i < b->count; i++) {
        const rc_block r = row_of(b, i);
        if (flags)
            norm_row_back(flags, u, &r);
        else
            norm_row_back(0, u, &r);
    }
}
#endif
