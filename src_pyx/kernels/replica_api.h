/* The replica's part of the numeric interface: ReLU rows that share their prefixes, and the original's update rule.
 *
 *   D <- a D + (1-a) κ      v <- b v + (1-b) g·rate/(D + mu)      θ <- θ - v        (D and v may be one buffer)
 *   g = g_data·inverse_n + decay·θ      κ = κ_data·inverse_n + decay
 *
 * A rc_matrix keeps θ, D and v in the order in which products read a packed matrix (gemm.h), so that nothing is
 * packed again after an update; the update also writes θᵀ and (θ∘θ)ᵀ for the backward products.
 */
#ifndef RNNCORE_REPLICA_API_H
#define RNNCORE_REPLICA_API_H
#include <stdint.h>

typedef struct {
    double a, b, rate, mu, inverse_n, decay;
} rc_sdlm;

/* θ (rows, columns) with its accumulators. D == v: one buffer plays both roles. */
typedef struct {
    long rows, columns;
    void *theta, *D, *v;       /* size(rows, columns) numbers each */
    void *turned, *squared;    /* θᵀ and (θ∘θ)ᵀ, size(columns, rows) numbers each */
    double *squares;           /* Σθ² in parts, written by update: squares(rows, columns) numbers */
} rc_matrix;

/* A table of rows, one per word. The gradient of a row is the sum of d's rows that items[start[row]:start[row+1]]
 * name, its curvature that of e's. */
typedef struct {
    long columns, ld;
    void *theta, *D, *v;
    const int64_t *start, *items;
    const void *d, *e;
    double *squares; /* Σθ² of each row, written by update */
} rc_table;

typedef struct {
    long (*size)(long K, long N); /* numbers in a packed matrix */
    /* where the panels of a matrix of N columns begin, counted in columns; panels(N) is their number */
    long (*panels)(long N);
    long (*panel_column)(long N, long panel);
    /* C[:, panels from..to) = (0 | C) + A·θ for a θ (K, N) in packed order */
    void (*product)(const void *theta, long K, long N, long panel_from, long panel_to, long M, const void *A, long lda,
                    int from, void *C, long ldc);
    /* h[i] = keep·relu(in[rows[i]] + z[links[i]]) ⊙ mask[i] on columns [from, to); rows, links, mask may be absent */
    void (*enter)(long count, long from, long to, const int64_t *rows, const void *in, const int64_t *links,
                  const void *z, const void *mask, double keep, void *h, long ld);
    /* d = 0 where h <= 0 */
    void (*derive)(long count, long from, long to, const void *h, void *d, long ld);
    /* out[i] = Σ x[items[start[i]:start[i+1]]] on columns [from, to) */
    void (*collect)(long count, long from, long to, const int64_t *start, const int64_t *items, const void *x,
                    long ldx, void *out, long ldo);
    long (*squares)(long rows, long columns);
    long (*row_step)(void); /* updates begin at multiples of it */
    /* one update of the rows from..to: g_data = AᵀB, κ_data = A2ᵀB2 over K rows; A2 = NULL stands for A∘A */
    long (*update_scratch)(long rows, long K);
    void (*update)(const rc_sdlm *rule, const rc_matrix *matrix, long row_from, long row_to, long K, const void *A,
                   const void *A2, long lda, const void *B, const void *B2, long ldb, void *scratch);
    void (*update_table)(const rc_sdlm *rule, const rc_table *table, long from, long to);
    /* between packed order and a plain (rows, columns) array */
    void (*load)(const rc_matrix *matrix, const void *plain);
    void (*store)(long rows, long columns, const void *packed, void *plain);
} rc_replica;

#endif
