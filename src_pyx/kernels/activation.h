/* Activation functions on blocks of rows, and their derivatives written in terms of the output y = f(a).
 *
 *   tanh: f' = 1 - y²     sigmoid: f' = y(1 - y)     relu: f' = [y > 0]     identity: f' = 1
 *   leaky relu (slope s): f' = [y > 0] + s·[y <= 0]          clipped relu (limit c): f' = [0 < y < c]
 */
#ifndef RNNCORE_ACTIVATION_H
#define RNNCORE_ACTIVATION_H
#include "kernels.h"
#include "vmath.h"

/* body for row i and the vector at column j; whole vectors of columns */
#define EACH_VECTOR_BETWEEN(rows, from, to, ...)                                                                       \
    for (long i = 0; i < (rows); i++)                                                                                  \
        for (long j = (from); j < (to); j += VL) {                                                                     \
            __VA_ARGS__                                                                                                \
        }
#define EACH_VECTOR(rows, columns, ...) EACH_VECTOR_BETWEEN(rows, 0, columns, __VA_ARGS__)

/* y = f(y), rows `ld` apart, whole vectors of columns */
static void activate(int activation, real parameter, long rows, long columns, real *y, long ld) {
    const vec zero = vset1(0), p = vset1(parameter);
#define APPLY(expression)                                                                                              \
    EACH_VECTOR(rows, columns, real *q = y + i * ld + j; vec x = vload(q); vstore(q, expression);) break
    switch (activation) {
    case RC_TANH: APPLY(vtanh(x));
    case RC_SIGMOID: APPLY(vsigmoid(x));
    case RC_RELU: APPLY(vmax(zero, x));
    case RC_LEAKY_RELU: APPLY(vselect(vless(x, zero), p * x, x));
    case RC_CLIPPED_RELU: APPLY(vmin(p, vmax(zero, x)));
    }
#undef APPLY
}

/* f'(a) from y = f(a) */
INLINE vec derivative(const int activation, vec p, vec y) {
    const vec zero = vset1(0), one = vset1(1);
    switch (activation) {
    case RC_TANH: return one - y * y;
    case RC_SIGMOID:
    case RC_BINARY: return y * (one - y); /* y is the probability then */
    case RC_RELU: return vselect(vless(zero, y), one, zero);
    case RC_LEAKY_RELU: return vselect(vless(zero, y), one, p);
    case RC_CLIPPED_RELU: return vselect(vless(zero, y), vselect(vless(y, p), one, zero), zero);
    default: return one;
    }
}

/* d ⊙= f'(a), from y = f(a); rows `ld` apart in both, whole vectors of columns */
static void times_slope(int activation, real parameter, long rows, long columns, const real *y, real *d, long ld) {
    const vec p = vset1(parameter);
#define TIMES(activation)                                                                                              \
    case activation:                                                                                                   \
        EACH_VECTOR(rows, columns, long q = i * ld + j;                                                                \
                    vstore(d + q, vload(d + q) * derivative(activation, p, vload(y + q)));)                            \
        break;
    switch (activation) {
        TIMES(RC_TANH)
        TIMES(RC_SIGMOID)
        TIMES(RC_RELU)
        TIMES(RC_LEAKY_RELU)
        TIMES(RC_CLIPPED_RELU)
    }
#undef TIMES
}
#endif
