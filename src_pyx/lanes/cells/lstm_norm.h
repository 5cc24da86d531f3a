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

INLINE void norm_row(const int flags, const rc_unit *u, const real *c_prev, real *a, real *c, real *extra, real *h) {
    const long ld = u->ld;
    const real *const *w = (const real *const *)u->vectors;
    const lstm_peepholes p = lstm_peepholes_of(u);
    extra[NORM_SCALE_X * ld] = normalise(4, u, a);
    extra[NORM_SCALE_H * ld] = normalise(4, u, a + NORM_H * ld);
    for (long j = 0; j < ld; j += VL) {
        vec sum[4];
        UNROLL for (int k = 0; k < 4; k++)
            sum[k] = vload(w[NORM_BIAS + k] + j) + vload(w[NORM_GAIN_X + k] + j) * vload(a + k * ld + j) +
                     vload(w[NORM_GAIN_H + k] + j) * vload(a + (NORM_H + k) * ld + j);
        lstm_vectors v = {sum[0], sum[1], sum[2], sum[3], c_prev ? vload(c_prev + j) : vset1(0)};
        v = lstm_gates(flags, p, j, v);
        real *gates = a + NORM_GATES * ld + j;
        vstore(gates, v.i);
        vstore(gates + ld, v.f);
        vstore(gates + 2 * ld, v.g);
        vstore(gates + 3 * ld, v.o);
        vstore(c + j, v.c);
        vstore(extra + NORM_C * ld + j, v.c);
    }
    extra[NORM_SCALE_C * ld] = normalise(1, u, extra + NORM_C * ld);
    for (long j = 0; j < ld; j += VL) {
        vec z = vload(w[NORM_GAIN_C] + j) * vload(extra + NORM_C * ld + j) + vload(w[NORM_SHIFT_C] + j);
        vec t = lstm_squash(flags, z);
        vstore(extra + NORM_TANH * ld + j, t);
        vstore(h + j, vload(a + (NORM_GATES + 3) * ld + j) * t);
    }
}

static void lstm_norm_forward(const rc_unit *u, const rc_block *b) {
    const int flags = lstm_flags(u), projected = flags & LSTM_PROJECTED;
    const long ld = u->ld, step_a = b->stride * u->lda;
    real *a = row_of_a(u, b), *h = projected ? inner_row(u, b, 0) : own_row(u, b, 0);
    if (b->has_link)
        multiply_from(u, b, 0, RC_FROM_ZERO, (const real *)u->carried + b->linked * u->ldo, b->stride * u->ldo, a, step_a);
    for (long i = 0, row = b->row; i < b->count; i++, row += b->stride) {
        real *mine = a + i * step_a, *c = (real *)u->state[1] + row * ld, *extra = (real *)u->extra + row * NORM_EXTRA * ld;
        const real *c_prev = b->has_link ? before_row(u, 1, b->linked + i * b->stride) : 0;
        if (!b->has_link) memset(mine + NORM_H * ld, 0, 4 * ld * sizeof(real));
        if (flags)
            norm_row(flags, u, c_prev, mine, c, extra, h + i * b->stride * ld);
        else
            norm_row(0, u, c_prev, mine, c, extra, h + i * b->stride * ld);
    }
    if (projected) {
        lstm_project(u, b);
    } else if (u->mask) {
        const real *m = lstm_mask(u, b);
        real *carried = (real *)u->carried + b->row * ld;
        EACH_VECTOR(b->count, ld, long q = i * b->stride * ld + j; vstore(carried + q, vload(m + q) * vload(h + q));)
    }
}

/* d = N'(gain⊙ds) for four gates, x = N(v): their gradients' sums over the row are known. d may be x. */
INLINE void norm_slopes(const rc_unit *u, int gain, real scale, real mean, real mean_x, const real *ds, const real *x, real *d) {
    const long ld = u->ld;
    for (long j = 0; j < ld; j += VL)
        UNROLL for (int k = 0; k < 4; k++) {
            vec y = vload((const real *)u->vectors[gain + k] + j) * vload(ds + k * ld + j);
            vstore(d + k * ld + j, vset1(scale) * (y - vset1(mean) - vset1(mean_x) * vload(x + k * ld + j)));
        }
}

INLINE void add_to(real *sum, vec x) { vstore(sum, vload(sum) + x); }

/* One row backward. dh: gradient of o⊙tanh, `back` (under mask m) to be added, or NULL; dv: the row of da. */
INLINE void norm_row_back(const int flags, const rc_unit *u, long sequence, const real *a, const real *c, const real *c_prev,
                          const real *extra, const real *dh0, const real *back, const real *m, const real *later,
                          real *da, real *carry) {
    const long ld = u->ld, H = u->hidden, at = sequence * ld;
    const real *const *w = (const real *const *)u->vectors;
    const real *o = a + (NORM_GATES + 3) * ld, *n = extra + NORM_C * ld, *t = extra + NORM_TANH * ld;
    const lstm_peepholes p = lstm_peepholes_of(u);
    vec sums[4] = {vset1(0), vset1(0), vset1(0), vset1(0)}; /* of y = γ⊙ds and y⊙N, for v and w; at first for c */
#define DH(j) (back ? (vec)(vload(dh0 + j) + (m ? (vec)(vload(m + j) * vload(back + j)) : vload(back + j))) : vload(dh0 + j))
    for (long j = 0; j < ld; j += VL) {
        vec dz = DH(j) * vload(o + j) * lstm_squash_slope(flags, vload(t + j));
        vec y = first_of(vload(w[NORM_GAIN_C] + j) * dz, H - j);
        sums[0] += y;
        sums[1] += y * vload(n + j);
        add_to((real *)u->dvectors[NORM_GAIN_C] + at + j, dz * vload(n + j));
        add_to((real *)u->dvectors[NORM_SHIFT_C] + at + j, dz);
    }
    const vec scale = vset1(extra[NORM_SCALE_C * ld]), mean = vset1(mean_of(1, sums, H));
    const vec mean_n = vset1(mean_of(1, sums + 1, H));
    sums[0] = sums[1] = vset1(0);
    for (long j = 0; j < ld; j += VL) {
        const real *gates = a + NORM_GATES * ld + j;
        real *ds = da + NORM_GATES * ld + j;
        lstm_vectors v = {vload(gates), vload(gates + ld), vload(gates + 2 * ld), vload(gates + 3 * ld),
                          c_prev ? vload(c_prev + j) : vset1(0)}, d;
        vec tc = vload(t + j), dh = DH(j), y = vload(w[NORM_GAIN_C] + j) * (dh * v.o * lstm_squash_slope(flags, tc));
        d.o = dh * tc;
        d.c = scale * (y - mean - mean_n * vload(n + j));
        if (later) d.c += vload(later + j);
        d = lstm_slopes(flags, p, j, v, d);
        if (flags & LSTM_PEEPHOLES) lstm_peephole_sums(flags, u, at + j, d, v.c, vload(c + j));
        vstore(carry + j, d.c);
        vec each[4] = {d.i, d.f, d.g, d.o};
        UNROLL for (int k = 0; k < 4; k++) {
            vec x = vload(a + k * ld + j), h = vload(a + (NORM_H + k) * ld + j);
            vec y_x = first_of(vload(w[NORM_GAIN_X + k] + j) * each[k], H - j);
            vec y_h = first_of(vload(w[NORM_GAIN_H + k] + j) * each[k], H - j);
            sums[0] += y_x;
            sums[1] += y_x * x;
            sums[2] += y_h;
            sums[3] += y_h * h;
            add_to((real *)u->dvectors[NORM_BIAS + k] + at + j, each[k]);
            add_to((real *)u->dvectors[NORM_GAIN_X + k] + at + j, each[k] * x);
            add_to((real *)u->dvectors[NORM_GAIN_H + k] + at + j, each[k] * h);
            vstore(ds + k * ld, each[k]);
        }
    }
#undef DH
    const long all = 4 * H;
    norm_slopes(u, NORM_GAIN_X, extra[NORM_SCALE_X * ld], mean_of(1, sums, all), mean_of(1, sums + 1, all),
                da + NORM_GATES * ld, a, da);
    norm_slopes(u, NORM_GAIN_H, extra[NORM_SCALE_H * ld], mean_of(1, sums + 2, all), mean_of(1, sums + 3, all),
                da + NORM_GATES * ld, a + NORM_H * ld, da + NORM_H * ld);
}

static void lstm_norm_backward(const rc_unit *u, const rc_block *b) {
    const int flags = lstm_flags(u), projected = flags & LSTM_PROJECTED;
    const long ld = u->ld, step = b->stride * ld, step_a = b->stride * u->lda;
    const real *back = multiply_back(u, b, 0), *m = lstm_mask(u, b), *dh = dh_row(u, b), *later = 0;
    if (projected) {
        lstm_project_back(u, b);
        dh = work_row(u, b, LSTM_W_HR);
    }
    if (projected || !b->has_link) back = 0;
    if (b->has_link)
        later = later_row(u, b, 1);
    else if (b->ends && u->dend[1])
        later = (const real *)u->dend[1] + b->sequence * ld;
    const real *a = row_of_a(u, b);
    real *da = row_of_da(u, b), *carry = carry_row(u, b, 1);
    for (long i = 0; i < b->count; i++) {
        const long row = b->row + i * b->stride, sequence = b->sequence + i * b->stride;
        const real *c = (const real *)u->state[1] + row * ld, *extra = (const real *)u->extra + row * NORM_EXTRA * ld;
        const real *c_prev = b->has_previous ? before_row(u, 1, b->previous + i * b->stride) : 0;
        const real *own_back = back ? back + i * step : 0, *own_m = m ? m + i * step : 0, *own_later = later ? later + i * step : 0;
#define ROW(flags)                                                                                                     \
    norm_row_back(flags, u, sequence, a + i * step_a, c, c_prev, extra, dh + i * step, own_back, own_m, own_later,       \
                  da + i * step_a, carry + i * step)
        if (flags)
            ROW(flags);
        else
            ROW(0);
#undef ROW
    }
}
#endif
