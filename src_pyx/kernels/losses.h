/* Losses on rows of scores s = y·W_hy + b_y. Each turns the scores into their gradient in place and gives a loss per
 * row; `scale` is 1 / (the total weight of the counted targets), so gradients are those of the mean.
 *
 *   softmax          L = -Σ_k q_k w_k log p_k,  p = softmax(s),  q = (1-ε)·onehot(target) + ε/K     (w: class weights)
 *                    dL/ds_k = (Σ_j q_j w_j)·p_k - q_k w_k
 *   soft softmax     the same with q = (1-ε)·t + (Σ_j t_j)·ε/K for targets t, which are probabilities
 *   squared error    L = Σ_k (s_k - t_k)²                       dL/ds = 2(s - t)
 *   sigmoid          L = Σ_k max(s,0) - s·t + log(1 + e^-|s|)   dL/ds = σ(s) - t
 *
 * Shapes: scores (rows, outputs), row length ld, whole vectors; targets (rows) class numbers for softmax, negative: not
 * counted, else (rows, outputs); loss (rows), in double; class_weight (outputs) or NULL.
 */
#ifndef RNNCORE_LOSSES_H
#define RNNCORE_LOSSES_H
#include "kernels.h"
#include "vmath.h"
#include <math.h>

/* Exponentials relative to the largest score replace the scores; returns their sum. Pads become zero. */
static real exponentials(const rc_loss_options *o, real *s, real *largest) {
    for (long k = o->outputs; k < o->ld; k++) s[k] = -INFINITY;
    vec top = vload(s), sum = vset1(0);
    for (long k = VL; k < o->ld; k += VL) top = vmax(vload(s + k), top);
    real m = ((const real *)&top)[0], total = 0;
    for (int j = 1; j < VL; j++) m = ((const real *)&top)[j] > m ? ((const real *)&top)[j] : m;
    for (long k = 0; k < o->ld; k += VL) {
        vec e = vexp(vload(s + k) - vset1(m));
        vstore(s + k, e);
        sum += e;
    }
    for (int j = 0; j < VL; j++) total += ((const real *)&sum)[j];
    *largest = m;
    return total;
}

static void times(const rc_loss_options *o, real factor, real *s) {
    for (long k = 0; k < o->ld; k += VL) vstore(s + k, vload(s + k) * vset1(factor));
}

static void softmax(long rows, const rc_loss_options *o, void *scores) {
    for (long r = 0; r < rows; r++) {
        real *s = (real *)scores + r * o->ld, largest, sum = exponentials(o, s, &largest);
        times(o, 1 / sum, s);
    }
}

static void softmax_loss(long rows, const rc_loss_options *o, double scale, const int64_t *targets, void *scores,
                         double *loss) {
    const real *w = o->class_weight;
    const double smooth = o->label_smoothing / o->outputs;
    double all = 0; /* Σ_j w_j */
    for (long k = 0; k < o->outputs; k++) all += w ? w[k] : 1;
    for (long r = 0; r < rows; r++) {
        real *s = (real *)scores + r * o->ld, largest;
        long y = targets[r];
        loss[r] = 0;
        if (y < 0) {
            memset(s, 0, o->ld * sizeof(real));
            continue;
        }
        double target_score = s[y], weight = w ? w[y] : 1, others = 0;
        if (smooth > 0)
            for (long k = 0; k < o->outputs; k++) others += (w ? w[k] : 1) * (double)s[k];
        double sum = exponentials(o, s, &largest), log_total = log(sum) + largest;
        double hit = (1 - o->label_smoothing) * weight; /* Σ_j q_j w_j = hit + smooth·all */
        loss[r] = hit * (log_total - target_score) + smooth * (all * log_total - others);
        times(o, (real)((hit + smooth * all) * scale / sum), s);
        s[y] -= (real)(hit * scale);
        if (smooth > 0)
            for (long k = 0; k < o->outputs; k++) s[k] -= (real)(smooth * scale) * (w ? w[k] : 1);
    }
}

static void soft_loss(long rows, const rc_loss_options *o, double scale, const void *targets, void *scores,
                      double *loss) {
    const real *w = o->class_weight;
    const double kept = 1 - o->label_smoothing, smooth = o->label_smoothing / o->outputs;
    for (long r = 0; r < rows; r++) {
        real *s = (real *)scores + r * o->ld, largest;
        const real *t = (const real *)targets + r * o->outputs;
        double whole = 0, all = 0, right = 0; /* Σ t_k, Σ q_k w_k, Σ q_k w_k s_k */
        for (long k = 0; k < o->outputs; k++) whole += t[k];
        for (long k = 0; k < o->outputs; k++) {
            double q = (kept * t[k] + smooth * whole) * (w ? w[k] : 1);
            all += q;
            right += q * s[k];
        }
        double sum = exponentials(o, s, &largest);
        loss[r] = all * (log(sum) + largest) - right;
        times(o, (real)(all * scale / sum), s);
        for (long k = 0; k < o->outputs; k++)
            s[k] -= (real)((kept * t[k] + smooth * whole) * (w ? w[k] : 1) * scale);
    }
}

static void squared_loss(long rows, const rc_loss_options *o, double scale, const void *targets, void *scores,
                         double *loss) {
    for (long r = 0; r < rows; r++) {
        real *s = (real *)scores + r * o->ld;
        const real *t = (const real *)targets + r * o->outputs;
        loss[r] = 0;
        for (long k = 0; k < o->outputs; k++) {
            real difference = s[k] - t[k];
            loss[r] += (double)difference * difference;
            s[k] = 2 * difference * (real)scale;
        }
    }
}

static void sigmoid(long rows, const rc_loss_options *o, void *scores) {
    real *s = scores;
    for (long j = 0; j < rows * o->ld; j += VL) vstore(s + j, vsigmoid(vload(s + j)));
}

static void sigmoid_loss(long rows, const rc_loss_options *o, double scale, const void *targets, void *scores,
                         double *loss) {
    for (long r = 0; r < rows; r++) {
        real *s = (real *)scores + r * o->ld;
        const real *t = (const real *)targets + r * o->outputs;
        loss[r] = 0;
        for (long k = 0; k < o->outputs; k++)
            loss[r] += (s[k] > 0 ? s[k] : 0) - (double)s[k] * t[k] + log1p(exp(-fabs((double)s[k])));
        sigmoid(1, o, s);
        for (long k = 0; k < o->outputs; k++) s[k] = (s[k] - t[k]) * (real)scale;
    }
}
#endif
