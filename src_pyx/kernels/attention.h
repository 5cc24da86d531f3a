/* Attention over the steps of a sequence (Yang et al. 2016, equations 5 to 7), what is not a product:
 *
 *   u = tanh(h·W + b)      e = u·v      α = softmax over a sequence's steps of e      z = Σ_t α_t h_t
 *   dα_t = dz·h_t          de_t = α_t (dα_t - Σ_s α_s dα_s)       dh_t = α_t dz + du_t·Wᵀ
 *   du = de·v ⊙ (1 - u²)   dv = Σ de·u
 *
 * Shapes: u, du (rows, size), rows ld apart; v (size); e (rows). Sums over rows are kept in double.
 */
#ifndef RNNCORE_ATTENTION_H
#define RNNCORE_ATTENTION_H
#include "kernels.h"
#include "pool.h"
#include "vmath.h"

/* Σ x·y of n numbers, in double */
static double dot(long n, const void *x_, const void *y_) {
    const real *x = x_, *y = y_;
    double sum[8] = {0}; /* as many chains: the same for every vector width */
    long whole = n / 8 * 8;
    for (long i = 0; i < whole; i += 8)
        for (int j = 0; j < 8; j++) sum[j] += (double)x[i + j] * y[i + j];
    for (long i = whole; i < n; i++) sum[i - whole] += (double)x[i] * y[i];
    return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
}

/* total += factor·x */
static void add_scaled_wide(long n, double factor, const void *x, double *total) {
    for (long i = 0; i < n; i++) total[i] += factor * ((const real *)x)[i];
}

/* y += factor·x */
static void add_scaled(long n, double factor, const void *x, void *y) {
    for (long i = 0; i < n; i++) ((real *)y)[i] += (real)factor * ((const real *)x)[i];
}

/* u = tanh(u), e = u·v; whole vectors of columns */
static void attention_energies(long rows, long size, long ld, void *u_, const void *v, void *e) {
    long left = RNNCORE_BETWEEN;
    for (long r = 0; r < rows; r++) {
        if (rnncore_stops_after(ld, &left)) return;
        real *u = (real *)u_ + r * ld;
        for (long j = 0; j < ld; j += VL) vstore(u + j, vtanh(vload(u + j)));
        ((real *)e)[r] = (real)dot(size, u, v);
    }
}

/* of one row: dv += de·u, and u becomes du */
static void attention_energy_back(long size, double de, void *u_, const void *v, double *dv) {
    real *u = u_;
    for (long j = 0; j < size; j++) {
        const real y = u[j];
        dv[j] += de * y;
        u[j] = (real)de * ((const real *)v)[j] * (1 - y * y);
    }
}
#endif
