/* Connectionist temporal classification of one sequence (Graves, Fernández, Gomez and Schmidhuber 2006).
 *
 * A path says a symbol or the blank at every step; repeats fall together, then blanks are left out. For the target
 * l_0..l_{L-1}, with y_t = softmax(s_t), A[i] of a path being at label i, B[i] at the blank before it (B[L]: the last):
 *   A_t[i] = (A[i] + B[i] + skip[i]·A[i-1])·y_t[l_i]     skip[i] = l_i != l_{i-1}          (right sides: of step t-1)
 *   B_t[i] = (B[i] + A[i-1])·y_t[blank]                  p = A_T[L-1] + B_T[L]
 *   L      = -log p
 * Backward likewise, from the end: β of a state is the probability of what is still to be said. With both,
 *   dL/ds_t[k] = y_t[k] - Σ of A_t∘β_t/p over states that say k
 * Only states count that can be reached from the start and can reach the end.
 *
 * Everything is double, and brought back to a sum of 1 whenever a step's falls below CTC_LOW. What is rounded to zero is
 * lost, and could matter later. Three ways to be sure that it does not, one after another:
 *   a bound goes along: a step adds (2L+3)·CTC_TINY to what may be lost, and multiplies it by what a state can hand on at
 *     most, y[blank] + 2·max_i y[l_i]; this must stay below CTC_TOLERANCE of p;
 *   the recursion is done once more with every state lifted by CTC_TINY, so that it gives too much: p must not differ;
 *   else the sequence is done again in log space, slowly.
 *
 * Work of one sequence, rows of w doubles with zeros around them: A, B, y, z (T, w), skip, a, b and their next ones (w);
 * of each step the blank's y, its occupancy, and the bound of what is handed on (T). z has the logarithms of y, the
 * blank's at the end of the row, of steps where some of them are too small for exponentials (`small`).
 */
#ifndef RNNCORE_CTC_H
#define RNNCORE_CTC_H
#include "kernels.h"
#include "losses.h"
#include <math.h>

#if VECTOR_BYTES > 0
#define DL (VECTOR_BYTES / 8) /* doubles in a vector */
typedef double dvec __attribute__((vector_size(VECTOR_BYTES), aligned(8), may_alias));
INLINE dvec dset1(double x) { return x - (dvec){0}; }
INLINE double dsum(dvec v) {
    double total = 0;
    UNROLL for (int j = 0; j < DL; j++) total += v[j];
    return total;
}
#else
#define DL 1
typedef double dvec;
INLINE dvec dset1(double x) { return x; }
INLINE double dsum(dvec v) { return v; }
#endif
INLINE dvec dload(const double *p) { return *(const dvec *)p; }
INLINE void dstore(double *p, dvec v) { *(dvec *)p = v; }

#define CTC_LOW 1e-60
#define CTC_TINY 2.3e-308
#define CTC_TOLERANCE 1e-17
#define CTC_CLOSE 1e-13 /* of two losses: rounding alone */
#if REAL_BITS == 32
#define CTC_SMALL -60 /* scores that far below the largest get their exponential in double */
#else
#define CTC_SMALL -600
#endif

typedef struct {
    long T, L, w;
    const int64_t *l;
    double *A, *B, *y, *z, *skip, *a, *b, *a2, *b2, *blank, *blanks, *most;
    long *from, *to; /* (T) states i from..to-1 of step t, whole vectors */
    char *small;     /* (T) whether z counts instead of y */
} ctc_space;

static long ctc_row(long L) { return (L + 1 + 3 * DL) / DL * DL; } /* a zero vector behind; the one before is in front */

static long ctc_work(long T, long L) {
    return DL + (4 * T + 5) * ctc_row(L) + DL + 5 * T + (T + 7) / 8;
}

static ctc_space ctc_places(long T, long L, const int64_t *l, double *work) {
    ctc_space c = {.T = T, .L = L, .w = ctc_row(L), .l = l};
    c.A = work + DL;
    c.B = c.A + T * c.w;
    c.y = c.B + T * c.w;
    c.z = c.y + T * c.w;
    c.skip = c.z + T * c.w;
    c.a = c.skip + c.w;
    c.b = c.a + c.w;
    c.a2 = c.b + c.w;
    c.b2 = c.a2 + c.w;
    c.blank = c.b2 + c.w + DL;
    c.blanks = c.blank + T;
    c.most = c.blanks + T;
    c.from = (long *)(c.most + T);
    c.to = c.from + T;
    c.small = (char *)(c.to + T);
    return c;
}

/* Which states there are at each step: label i needs i + (repeats up to it) steps before, as many behind. */
static void ctc_band(const ctc_space *c) {
    long ahead = 0, i = 0;
    memset(c->skip, 0, c->w * sizeof(double));
    for (long k = 1; k < c->L; k++) c->skip[k] = c->l[k] != c->l[k - 1];
    for (long t = 0; t < c->T; t++) { /* label i can be reached at step t */
        while (i < c->L && ahead <= t) {
            i++;
            ahead += i < c->L ? 2 - (long)c->skip[i] : 0;
        }
        c->to[t] = (i + DL) / DL * DL; /* i labels, i + 1 blanks */
    }
    ahead = 0;
    i = c->L;
    for (long t = c->T - 1; t >= 0; t--) { /* from label i - 1 on the end can be reached */
        while (i > 0 && ahead <= c->T - 1 - t) {
            i--;
            ahead += i > 0 ? 2 - (long)c->skip[i] : 0;
        }
        c->from[t] = i / DL * DL;
    }
}

/* Exponentials of a row replace its scores; the target's symbols' probabilities go to y. Returns 1 / their sum. */
static double ctc_symbols(const ctc_space *c, const rc_loss_options *o, long t, real *s) {
    double *y = c->y + t * c->w, *z = c->z + t * c->w, most = 0;
    const long blank = o->outputs - 1, L = c->L < c->to[t] ? c->L : c->to[t], from = c->from[t];
    double least = s[blank], rest = s[blank];
    for (long i = from; i < L; i++) {
        y[i] = s[c->l[i]];
        least = y[i] < least ? y[i] : least;
    }
    for (long i = L; i < c->to[t]; i++) y[i] = 0;
    real largest;
    const double sum = exponentials(o, s, &largest), inverse = 1 / sum;
    c->small[t] = !(least - largest > CTC_SMALL);
    if (c->small[t]) {
        const double total = largest + log(sum);
        z[c->w - 1] = rest - total;
        for (long i = from; i < L; i++) z[i] = y[i] - total, y[i] = exp(z[i]);
        c->blank[t] = exp(rest - total);
    } else {
        for (long i = from; i < L; i++) y[i] = s[c->l[i]] * inverse;
        c->blank[t] = s[blank] * inverse;
    }
    for (long i = from; i < L; i++) most = y[i] > most ? y[i] : most;
    most = c->blank[t] + 2 * most;
    c->most[t] = most < 1 ? most : 1;
    return inverse;
}

INLINE void ctc_scale(double *A, double *B, long from, long to, double factor) {
    for (long i = from; i < to; i += DL) {
        dstore(A + i, dload(A + i) * dset1(factor));
        dstore(B + i, dload(B + i) * dset1(factor));
    }
}

/* Zeros where the next step looks beyond this one's states. */
INLINE void ctc_fence(double *A, double *B, long from, long to) {
    A[from - 1] = B[from - 1] = 0;
    dstore(A + to, dset1(0));
    dstore(B + to, dset1(0));
}

/* Step t of A and B from the one before, every state lifted; returns their sum. */
INLINE double ctc_onward(const ctc_space *c, long t, const double *A, const double *B, double *A2, double *B2,
                         double lift) {
    const double *y = c->y + t * c->w;
    const dvec blank = dset1(c->blank[t]), least = dset1(lift);
    dvec total = dset1(0);
    for (long i = c->from[t]; i < c->to[t]; i += DL) {
        dvec before = dload(A + i - 1), stay = dload(B + i);
        dvec label = (dload(A + i) + stay + dload(c->skip + i) * before) * dload(y + i);
        dvec rest = (stay + before) * blank;
        if (lift > 0) label += least, rest += least;
        dstore(A2 + i, label);
        dstore(B2 + i, rest);
        total += label + rest;
    }
    ctc_fence(A2, B2, c->from[t], c->to[t]);
    return dsum(total);
}

/* Step t - 1 of β from a, b, which are multiplied by y of step t already. */
INLINE double ctc_back(const ctc_space *c, long t, const double *a, const double *b, double *a2, double *b2, double lift) {
    const dvec least = dset1(lift);
    dvec total = dset1(0);
    for (long i = c->from[t - 1]; i < c->to[t - 1]; i += DL) {
        dvec label = dload(a + i), stay = dload(b + i);
        dvec onward = label + dload(b + i + 1) + dload(c->skip + i + 1) * dload(a + i + 1);
        dvec out = stay + label;
        if (lift > 0) onward += least, out += least;
        dstore(a2 + i, onward);
        dstore(b2 + i, out);
        total += onward + out;
    }
    return dsum(total);
}

/* The first step's sum. */
INLINE double ctc_first(const ctc_space *c, double *A, double *B) {
    for (long i = 0; i < c->to[0]; i++) A[i] = B[i] = 0;
    A[0] = c->L ? c->y[0] : 0;
    B[0] = c->blank[0];
    ctc_fence(A, B, 0, c->to[0]);
    return A[0] + B[0];
}

INLINE void ctc_last(const ctc_space *c, double *a, double *b) {
    memset(a, 0, c->w * sizeof(double));
    memset(b, 0, c->w * sizeof(double));
    if (c->L) a[c->L - 1] = 1;
    b[c->L] = 1;
}

#define CTC_SWAP(a, b) (swap = a, a = b, b = swap)

/* All A and B, while rows of scores become scale·softmax; returns -log p, and whether the bound of what is lost holds. */
static double ctc_forward(const ctc_space *c, const rc_loss_options *o, real *scores, const long *offsets, long b,
                          double scale, int *enough) {
    const double tiny = (2 * c->L + 3) * CTC_TINY;
    double loss = 0, lost = 0;
    long left = RNNCORE_BETWEEN;
    for (long t = 0; t < c->T && !rnncore_stops_after(o->ld + c->w, &left); t++) {
        real *s = scores + (offsets[t] + b) * o->ld;
        const double inverse = ctc_symbols(c, o, t, s);
        if (scale != 0) times(o, (real)(scale * inverse), s);
        double *A = c->A + t * c->w, *B = c->B + t * c->w;
        const double sum = t ? ctc_onward(c, t, A - c->w, B - c->w, A, B, 0) : ctc_first(c, A, B);
        lost = lost * c->most[t] + tiny;
        if (sum < CTC_LOW && sum > 0) {
            loss -= log(sum);
            ctc_scale(A, B, c->from[t], c->to[t], 1 / sum);
            lost /= sum;
        }
    }
    const double *A = c->A + (c->T - 1) * c->w, *B = c->B + (c->T - 1) * c->w;
    const double end = (c->L ? A[c->L - 1] : 0) + B[c->L];
    *enough = lost <= CTC_TOLERANCE * end;
    return loss - log(end);
}

/* -log p as it is at least. */
static double ctc_forward_lifted(const ctc_space *c) {
    double *a = c->a, *b = c->b, *a2 = c->a2, *b2 = c->b2, *swap, loss = 0;
    ctc_first(c, a, b);
    for (long t = 1; t < c->T && !rnncore_stopping(); t++) {
        const double sum = ctc_onward(c, t, a, b, a2, b2, CTC_TINY);
        CTC_SWAP(a, a2);
        CTC_SWAP(b, b2);
        if (sum < CTC_LOW) {
            loss -= log(sum);
            ctc_scale(a, b, c->from[t], c->to[t], 1 / sum);
        }
    }
    return loss - log((c->L ? a[c->L - 1] : 0) + b[c->L]);
}

static double ctc_backward_lifted(const ctc_space *c) {
    double *a = c->a, *b = c->b, *a2 = c->a2, *b2 = c->b2, *swap, loss = 0;
    memset(a - 1, 0, (4 * c->w + 1) * sizeof(double));
    ctc_last(c, a, b);
    for (long t = c->T - 1; t > 0 && !rnncore_stopping(); t--) {
        const double *y = c->y + t * c->w;
        for (long i = c->from[t]; i < c->to[t]; i += DL) {
            dstore(a + i, dload(a + i) * dload(y + i));
            dstore(b + i, dload(b + i) * dset1(c->blank[t]));
        }
        ctc_fence(a, b, c->from[t], c->to[t]);
        const double sum = ctc_back(c, t, a, b, a2, b2, CTC_TINY);
        CTC_SWAP(a, a2);
        CTC_SWAP(b, b2);
        if (sum < CTC_LOW) {
            loss -= log(sum);
            ctc_scale(a, b, c->from[t - 1], c->to[t - 1], 1 / sum);
        }
    }
    return loss - log((c->L ? a[0] * c->y[0] : 0) + b[0] * c->blank[0]);
}

/* Occupancies, times `scale`, in the place of A, and of the blank in blanks; returns whether enough is left of them, and
 * whether the bound of what is lost holds. */
static int ctc_backward(const ctc_space *c, double scale, int *enough) {
    double *a = c->a, *b = c->b, *a2 = c->a2, *b2 = c->b2, *swap, lost = 0;
    const double tiny = (2 * c->L + 3) * CTC_TINY;
    memset(a - 1, 0, (4 * c->w + 1) * sizeof(double));
    ctc_last(c, a, b);
    *enough = 1;
    long left = RNNCORE_BETWEEN;
    for (long t = c->T - 1;; t--) {
        if (rnncore_stops_after(c->w, &left)) return 1;
        double *A = c->A + t * c->w, *B = c->B + t * c->w, *y = c->y + t * c->w;
        const long from = c->from[t], to = c->to[t];
        const dvec blank = dset1(c->blank[t]);
        dvec labels = dset1(0), blanks = dset1(0);
        for (long i = from; i < to; i += DL) {
            dvec g = dload(A + i) * dload(a + i);
            dstore(A + i, g);
            labels += g;
            blanks += dload(B + i) * dload(b + i);
            dstore(a + i, dload(a + i) * dload(y + i));
            dstore(b + i, dload(b + i) * blank);
        }
        const double rest = dsum(blanks), sum = dsum(labels) + rest;
        lost += tiny;
        if (!(tiny <= CTC_TOLERANCE * sum)) return 0;
        *enough = *enough && lost <= CTC_TOLERANCE * sum;
        const double factor = scale / sum;
        for (long i = from; i < to; i += DL) dstore(A + i, dload(A + i) * dset1(factor));
        c->blanks[t] = rest * factor;
        if (t == 0) return 1;
        ctc_fence(a, b, from, to);
        const double whole = ctc_back(c, t, a, b, a2, b2, 0);
        CTC_SWAP(a, a2);
        CTC_SWAP(b, b2);
        lost *= c->most[t];
        if (whole < CTC_LOW && whole > 0) {
            ctc_scale(a, b, c->from[t - 1], c->to[t - 1], 1 / whole);
            lost /= whole;
        }
    }
}

/* ---------------------------------------------------------------- in log space */

static double ctc_log_sum(double x, double y, double z) {
    double top = x > y ? x : y;
    top = z > top ? z : top;
    return top == -INFINITY ? top : top + log(exp(x - top) + exp(y - top) + exp(z - top));
}

/* y and blank become logarithms. */
static void ctc_logarithms(const ctc_space *c) {
    for (long t = 0; t < c->T; t++) {
        double *y = c->y + t * c->w, *z = c->z + t * c->w;
        for (long i = c->from[t]; i < c->L && i < c->to[t]; i++) y[i] = c->small[t] ? z[i] : log(y[i]);
        c->blank[t] = c->small[t] ? z[c->w - 1] : log(c->blank[t]);
    }
}

/* As forward and, with a scale, backward. */
static double ctc_exact(const ctc_space *c, double scale) {
    const long L = c->L, T = c->T, w = c->w;
    ctc_logarithms(c);
    for (long k = 0; k < T * w; k++) c->A[k] = c->B[k] = -INFINITY;
    for (long t = 0; t < T && !rnncore_stopping(); t++) {
        double *A = c->A + t * w, *B = c->B + t * w, *y = c->y + t * w;
        for (long i = c->from[t]; i < c->to[t] && i <= L; i++) {
            double before = i && t ? A[i - 1 - w] : -INFINITY;
            double label = t ? A[i - w] : -INFINITY, stay = t ? B[i - w] : i ? -INFINITY : 0;
            if (i < L) A[i] = ctc_log_sum(label, stay, c->skip[i] ? before : -INFINITY) + y[i];
            B[i] = ctc_log_sum(stay, before, -INFINITY) + c->blank[t];
        }
    }
    const double log_p = ctc_log_sum(L ? c->A[(T - 1) * w + L - 1] : -INFINITY, c->B[(T - 1) * w + L], -INFINITY);
    double *a = c->a, *b = c->b;
    for (long i = 0; i < w; i++) a[i] = b[i] = -INFINITY;
    if (L) a[L - 1] = 0;
    b[L] = 0;
    for (long t = T - 1; t >= 0 && scale != 0 && !rnncore_stopping(); t--) {
        double *A = c->A + t * w, *B = c->B + t * w, *y = c->y + t * w;
        c->blanks[t] = 0;
        for (long i = 0; i <= L; i++) {
            A[i] = i < L ? scale * exp(A[i] + a[i] - log_p) : 0;
            c->blanks[t] += scale * exp(B[i] + b[i] - log_p);
        }
        for (long i = 0; i <= L; i++) { /* outside of its states y has no meaning, and β does not count */
            int inside = i >= c->from[t] && i < c->to[t];
            a[i] = inside && i < L ? a[i] + y[i] : -INFINITY;
            b[i] = inside ? b[i] + c->blank[t] : -INFINITY;
        }
        for (long i = 0; i <= L; i++) {
            double next = i < L ? b[i + 1] : -INFINITY, over = i + 1 < L && c->skip[i + 1] ? a[i + 1] : -INFINITY;
            b[i] = ctc_log_sum(b[i], a[i], -INFINITY);
            a[i] = ctc_log_sum(a[i], next, over);
        }
    }
    return -log_p;
}

/* ---------------------------------------------------------------- one sequence */

static int ctc_close(double loss, double least) { return fabs(loss - least) <= CTC_CLOSE * (1 + fabs(least)); }

/* -log p of sequence b, whose T rows of scores become scale·(their gradient); scale 0: the loss alone. */
static double ctc(const rc_loss_options *o, void *scores_, const long *offsets, long b, long T, const int64_t *l, long L,
                  double scale, double *work) {
    real *scores = scores_;
    const ctc_space c = ctc_places(T, L, l, work);
    int enough;
    ctc_band(&c);
    double loss = ctc_forward(&c, o, scores, offsets, b, scale, &enough);
    if (!enough) enough = ctc_close(loss, ctc_forward_lifted(&c));
    if (enough && scale != 0) {
        int bound;
        enough = ctc_backward(&c, scale, &bound);
        if (enough && !bound) enough = ctc_close(loss, ctc_backward_lifted(&c));
    }
    if (!enough) loss = ctc_exact(&c, scale);
    for (long t = 0; t < T && scale != 0 && !rnncore_stopping(); t++) {
        real *s = scores + (offsets[t] + b) * o->ld;
        const double *A = c.A + t * c.w;
        for (long i = c.from[t]; i < L && i < c.to[t]; i++) s[l[i]] -= (real)A[i];
        s[o->outputs - 1] -= (real)c.blanks[t];
    }
    return loss;
}
#endif
