/* The optimizers' rules, number by number, and the loops around them (interface and common part: update_api.h).
 *
 * The compiler vectorises the loops. They run over whole blocks only, and what is left of an array goes through the
 * same machine code by way of a buffer: so a number's bits depend neither on where its range starts nor on how the
 * work was split among threads, even where the compiler contracts a·b + c as it likes.
 *
 * Shapes: theta, grad and the slots a rule has, n numbers each: a range of the flat arrays. chains: UPDATE_CHAINS doubles.
 */
#ifndef RNNCORE_UPDATES_H
#define RNNCORE_UPDATES_H
#include "update_api.h"
#include <float.h>
#include <math.h>
#include <string.h>

#if defined(__clang__)
#define UPDATE_ONE_COPY __attribute__((noinline))
#elif defined(__GNUC__)
#define UPDATE_ONE_COPY __attribute__((noinline, noclone))
#elif defined(_MSC_VER)
#define UPDATE_ONE_COPY __declspec(noinline)
#else
#define UPDATE_ONE_COPY
#endif
#if defined(_MSC_VER)
#define UPDATE_RESTRICT __restrict
#else
#define UPDATE_RESTRICT restrict
#endif

#define UPDATE_BLOCK 16 /* a multiple of every vector length */

#if REAL_BITS == 32
#define REAL_SQRT sqrtf
#define REAL_ABS fabsf
#define REAL_TINY FLT_MIN
#define REAL_HIGHEST FLT_MAX
#else
#define REAL_SQRT sqrt
#define REAL_ABS fabs
#define REAL_TINY DBL_MIN
#define REAL_HIGHEST DBL_MAX
#endif

/* UpdateRule in the working precision. */
typedef struct {
    real rate, scale, clip_value, decay, keep, a, b, c, eps;
    real not_a, not_b; /* 1 - a, 1 - b, taken in double */
} UpdateScalars;

INLINE UpdateScalars scalars_of(const UpdateRule *r) {
    UpdateScalars k;
    k.rate = (real)r->rate;
    k.scale = (real)r->scale;
    k.clip_value = (real)r->clip_value;
    k.decay = (real)r->decay;
    k.keep = (real)r->keep;
    k.a = (real)r->a;
    k.b = (real)r->b;
    k.c = (real)r->c;
    k.eps = (real)(r->eps > REAL_TINY ? r->eps : REAL_TINY); /* never 0: 0 / 0 */
    k.not_a = (real)(1.0 - r->a);
    k.not_b = (real)(1.0 - r->b);
    return k;
}

INLINE real clamped(real g, real limit) { /* NaN stays NaN */
    g = g > limit ? limit : g;
    return g < -limit ? -limit : g;
}

/* A moment that dies away ends as 0: numbers below the normal ones cost a hundred cycles each on many CPUs. */
INLINE real flushed(real x) { return REAL_ABS(x) < REAL_TINY ? R(0.0) : x; }

/* p -= rate g */
INLINE void sgd(real g, real *p, real *s0, real *s1, real *s2, const UpdateScalars *k) { *p -= k->rate * g; }

/* v = a v + g;  p -= rate v */
INLINE void momentum(real g, real *p, real *v, real *s1, real *s2, const UpdateScalars *k) {
    real velocity = k->a * *v + g;
    *v = flushed(velocity);
    *p -= k->rate * velocity;
}

/* v = a v + g;  p -= rate (g + a v) */
INLINE void nesterov(real g, real *p, real *v, real *s1, real *s2, const UpdateScalars *k) {
    real velocity = k->a * *v + g;
    *v = flushed(velocity);
    *p -= k->rate * (g + k->a * velocity);
}

/* s += g²;  p -= rate g / (√s + eps) */
INLINE void adagrad(real g, real *p, real *s, real *s1, real *s2, const UpdateScalars *k) {
    real sum = *s + g * g;
    *s = sum;
    *p -= k->rate * g / (REAL_SQRT(sum) + k->eps);
}

/* s = a s + (1-a) g²;  p -= rate g / (√s + eps) */
INLINE void rmsprop(real g, real *p, real *s, real *s1, real *s2, const UpdateScalars *k) {
    real mean = k->a * *s + k->not_a * g * g;
    *s = flushed(mean);
    *p -= k->rate * g / (REAL_SQRT(mean) + k->eps);
}

/* s = a s + (1-a) g²;  v = b v + g / (√s + eps);  p -= rate v */
INLINE void rmsprop_momentum(real g, real *p, real *s, real *v, real *s2, const UpdateScalars *k) {
    real mean = k->a * *s + k->not_a * g * g;
    real velocity = k->b * *v + g / (REAL_SQRT(mean) + k->eps);
    *s = flushed(mean);
    *v = flushed(velocity);
    *p -= k->rate * velocity;
}

/* n = a n + (1-a) g²;  m = a m + (1-a) g;  v = b v - rate g / √(n - m² + eps);  p += v */
INLINE void rmsprop_graves(real g, real *p, real *n, real *m, real *v, const UpdateScalars *k) {
    real square = k->a * *n + k->not_a * g * g;
    real mean = k->a * *m + k->not_a * g;
    real spread = square - mean * mean; /* >= 0 but for rounding */
    spread = (spread < R(0.0) ? R(0.0) : spread) + k->eps;
    real velocity = k->b * *v - k->rate * g / REAL_SQRT(spread);
    *n = flushed(square);
    *m = flushed(mean);
    *v = flushed(velocity);
    *p += velocity;
}

/* s = a s + (1-a) g²;  d = g √((u + eps) / (s + eps));  u = a u + (1-a) d²;  p -= rate d */
INLINE void adadelta(real g, real *p, real *s, real *u, real *s2, const UpdateScalars *k) {
    real mean = k->a * *s + k->not_a * g * g;
    real moved = g * REAL_SQRT((*u + k->eps) / (mean + k->eps));
    *s = flushed(mean);
    *u = flushed(k->a * *u + k->not_a * moved * moved);
    *p -= k->rate * moved;
}

/* m = a m + (1-a) g;  v = b v + (1-b) g²;  p = keep p - rate m / (c √v + eps)
 * with rate = learning rate / (1 - a^t) and c = 1 / √(1 - b^t). */
INLINE void adam(real g, real *p, real *m, real *v, real *s2, const UpdateScalars *k) {
    real mean = k->a * *m + k->not_a * g;
    real square = k->b * *v + k->not_b * g * g;
    *m = flushed(mean);
    *v = flushed(square);
    *p = k->keep * *p - k->rate * mean / (k->c * REAL_SQRT(square) + k->eps);
}

/* d = a d + (1-a) (κ + decay);  v = b v + (1-b) rate g / (d + eps);  p -= v */
INLINE void sdlm_rule(real g, real *p, real *d, real *v, real *curvature, const UpdateScalars *k) {
    real mean = k->a * *d + k->not_a * (*curvature + k->decay);
    real velocity = k->b * *v + k->not_b * (k->rate * g / (mean + k->eps));
    *d = flushed(mean);
    *v = flushed(velocity);
    *p -= velocity;
}

typedef void (*update_blocks)(long n, real *UPDATE_RESTRICT p, const real *UPDATE_RESTRICT g,
                              real *UPDATE_RESTRICT s0, real *UPDATE_RESTRICT s1, real *UPDATE_RESTRICT s2,
                              UpdateScalars k);

static UPDATE_ONE_COPY void run_update(update_blocks blocks, long n, void *theta, const void *grad, void *slot0,
                                       void *slot1, void *slot2, const UpdateRule *r) {
    const UpdateScalars k = scalars_of(r);
    const long whole = n - n % UPDATE_BLOCK, rest = n - whole;
    real *arrays[4] = {theta, slot0, slot1, slot2};
    /* a slot the rule does not have is never read, but must be a pointer one can add to */
    blocks(whole, theta, grad, slot0 ? slot0 : theta, slot1 ? slot1 : theta, slot2 ? slot2 : theta, k);
    if (rest) {
        real gradient[UPDATE_BLOCK] = {0}, buffers[4][UPDATE_BLOCK] = {{0}};
        memcpy(gradient, (const real *)grad + whole, (size_t)rest * sizeof(real));
        for (int i = 0; i < 4; i++)
            if (arrays[i]) memcpy(buffers[i], arrays[i] + whole, (size_t)rest * sizeof(real));
        blocks(UPDATE_BLOCK, buffers[0], gradient, buffers[1], buffers[2], buffers[3], k);
        for (int i = 0; i < 4; i++)
            if (arrays[i]) memcpy(arrays[i] + whole, buffers[i], (size_t)rest * sizeof(real));
    }
}

/* The two loops of a rule: whole blocks (n is a multiple of UPDATE_BLOCK), and any length. */
#define UPDATE_LOOPS(rule)                                                                                          \
    static UPDATE_ONE_COPY void rule##_blocks(long n, real *UPDATE_RESTRICT p, const real *UPDATE_RESTRICT g,       \
                                              real *UPDATE_RESTRICT s0, real *UPDATE_RESTRICT s1,                   \
                                              real *UPDATE_RESTRICT s2, UpdateScalars k) {                          \
        const long whole = n / UPDATE_BLOCK * UPDATE_BLOCK; /* tells the compiler: no remainder */                  \
        for (long i = 0; i < whole; i++)                                                                            \
            rule(k.scale * clamped(g[i], k.clip_value) + k.decay * p[i], p + i, s0 + i, s1 + i, s2 + i, &k);        \
    }                                                                                                               \
    static void rule##_update(long n, void *theta, const void *grad, void *s0, void *s1, void *s2,                  \
                              const UpdateRule *r) {                                                                \
        run_update(rule##_blocks, n, theta, grad, s0, s1, s2, r);                                                   \
    }

UPDATE_LOOPS(sgd)
UPDATE_LOOPS(momentum)
UPDATE_LOOPS(nesterov)
UPDATE_LOOPS(adagrad)
UPDATE_LOOPS(rmsprop)
UPDATE_LOOPS(rmsprop_momentum)
UPDATE_LOOPS(rmsprop_graves)
UPDATE_LOOPS(adadelta)
UPDATE_LOOPS(adam)
UPDATE_LOOPS(sdlm_rule)

static void add_squares(int64_t first, long n, const void *grad, double clip_value, double shrink, double *chains) {
    const real *g = grad, limit = (real)clip_value;
    double sums[UPDATE_CHAINS], x;
    real bounded[UPDATE_CHAINS];
    long i = 0;
    for (; i < n && (first + i) % UPDATE_CHAINS; i++) {
        x = shrink * clamped(g[i], limit);
        chains[(first + i) % UPDATE_CHAINS] += x * x;
    }
    memcpy(sums, chains, sizeof sums);
    for (; i + UPDATE_CHAINS <= n; i += UPDATE_CHAINS) {
        for (int j = 0; j < UPDATE_CHAINS; j += VL) /* compilers do not vectorise the two in one */
            vstore(bounded + j, vmax(vset1(-limit), vmin(vset1(limit), vload(g + i + j))));
        for (int j = 0; j < UPDATE_CHAINS; j++) {
            x = shrink * bounded[j];
            sums[j] += x * x;
        }
    }
    memcpy(chains, sums, sizeof sums);
    for (; i < n; i++) {
        x = shrink * clamped(g[i], limit);
        chains[(first + i) % UPDATE_CHAINS] += x * x;
    }
}

static double squares(long n, const void *grad) {
    enum { SUMS = 4 }; /* enough that none waits for the one before */
    const real *g = grad;
    vec sum[SUMS];
    real lanes[VL];
    double total = 0;
    long i = 0;
    for (int j = 0; j < SUMS; j++) sum[j] = vset1(R(0.0));
    for (; i + SUMS * VL <= n; i += SUMS * VL)
        for (int j = 0; j < SUMS; j++) {
            vec x = vload(g + i + j * VL);
            sum[j] += x * x;
        }
    for (; i < n; i++) {
        real x = g[i] * g[i]; /* overflows as the others do */
        total += x;
    }
    for (int j = 0; j < SUMS; j++) {
        vstore(lanes, sum[j]);
        for (int l = 0; l < VL; l++) total += lanes[l];
    }
    return total;
}

static double largest(long n, const void *grad) {
    double most = 0;
    for (long i = 0; i < n; i++) {
        double x = REAL_ABS(((const real *)grad)[i]);
        if (!(x <= most)) most = x;
        if (x != x) break;
    }
    return most;
}

static const UpdateTable update_table = {
    .step = {[UPDATE_SGD] = sgd_update,
             [UPDATE_MOMENTUM] = momentum_update,
             [UPDATE_NESTEROV] = nesterov_update,
             [UPDATE_ADAGRAD] = adagrad_update,
             [UPDATE_RMSPROP] = rmsprop_update,
             [UPDATE_RMSPROP_MOMENTUM] = rmsprop_momentum_update,
             [UPDATE_RMSPROP_GRAVES] = rmsprop_graves_update,
             [UPDATE_ADADELTA] = adadelta_update,
             [UPDATE_ADAM] = adam_update,
             [UPDATE_SDLM] = sdlm_rule_update},
    .add_squares = add_squares,
    .squares = squares,
    .largest = largest,
    .highest = REAL_HIGHEST,
};

#endif
