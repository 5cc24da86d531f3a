/* The numeric interface of the core: one table of functions per instruction-set level and precision.
 *
 * Every level is compiled from the same sources (lanes.c) and reached through its table, so callers know neither
 * the vector width nor the precision: arrays are void pointers, lengths and leading dimensions count numbers.
 * Row-major throughout. Arrays of width N inside the core have rows of N rounded up to whole vectors.
 */
#ifndef RNNCORE_LANES_H
#define RNNCORE_LANES_H
#include "update_api.h"
#include <stdint.h>

/* C = op(A)·op(B) + beta·C, row-major; supplied by the BLAS shim. */
typedef void (*rc_gemm)(int transpose_a, int transpose_b, long M, long N, long K, const void *A, long lda,
                        const void *B, long ldb, int accumulate, void *C, long ldc);

/* A weight matrix B (K, N), or the transpose of one stored as (N, K), ready to be multiplied from the left.
 * Native products read `panels`: blocks of up to TILE_VECTORS vectors of columns, each stored row after row.
 * With `gemm` set, BLAS reads W as it lies. */
typedef struct {
    long K, N;
    const void *W;
    long ldw;
    int transposed;
    rc_gemm gemm;
    long panel_count;
    void *panels; /* packed_size(K, N) numbers, 64-byte aligned */
    void *bias;   /* N rounded up to whole vectors, or NULL */
} rc_packed;

/* Where the rows of a product start from. */
enum { RC_FROM_ZERO, RC_FROM_BIAS, RC_FROM_C };

/* One cell in one direction, bound to one batch. State arrays have `sequences` extra rows in front, at negative
 * row numbers: the initial states. */
typedef struct {
    long hidden, ld;       /* H, and H rounded up to whole vectors: the row length of (rows, H) arrays */
    long gates;            /* gate blocks per row */
    rc_packed recurrent;   /* W_hh */
    rc_packed recurrent_T; /* W_hhᵀ */
    int activation;
    double activation_parameter;
    void *h;               /* in: x·W_xh + b; out: the hidden states (cells of one gate work in place) */
    void *carried;         /* h as the next step sees it: h itself, or h under recurrent dropout */
    const void *mask;      /* recurrent dropout's factors, or NULL */
    int mask_per_row;      /* one mask per step instead of one per sequence */
    const void *dh;        /* gradient of the outputs */
    const void *dlater;    /* gate gradients of the steps that follow: dgates, or the previous truncation pass */
    void *dgates;          /* out: gate gradients */
} rc_unit;

/* `count` rows of one time step: row, row + stride, ...; their neighbours at `linked`, linked + stride, ... are the
 * preceding step (forward) or the following one (backward). Without a neighbour, has_link is 0. */
typedef struct {
    long row, linked, sequence, count, stride;
    int has_link;
} rc_block;

typedef void (*rc_cell_step)(const rc_unit *unit, const rc_block *block);

enum { RC_ELMAN, RC_CELL_COUNT };

typedef struct {
    rc_cell_step forward, backward;
} rc_cell;

/* What a softmax, squared-error or sigmoid head needs besides its scores. */
typedef struct {
    long outputs, ld;
    const void *class_weight; /* outputs numbers, or NULL */
    double label_smoothing;
} rc_loss_options;

typedef struct rc_lanes {
    const char *level;
    int itemsize, vector; /* bytes in a number, numbers in a vector */

    void (*vexp)(long n, const void *x, void *y);
    void (*vtanh)(long n, const void *x, void *y);
    void (*vsigmoid)(long n, const void *x, void *y);
    double (*peak)(long rounds); /* runs that many rounds of multiply-adds in registers; returns the flops done */

    /* products */
    long (*packed_size)(long K, long N);
    void (*prepare)(rc_packed *B);
    void (*pack)(rc_packed *B, const void *bias, long panel_from, long panel_to);
    void (*product)(const rc_packed *B, long M, const void *A, long lda, int from, void *C, long ldc);
    long (*outer_scratch)(long M);
    void (*outer)(long M, long N, long K, const void *A, long lda, const int64_t *a_rows, const void *B, long ldb,
                  const int64_t *b_rows, int accumulate, void *C, long ldc, rc_gemm gemm, void *scratch);
    void (*column_sums)(long rows, long from, long to, const void *A, long lda, int accumulate, void *sums);

    /* tables of rows: out[r] (+)= sum over f of table[ids[r, f]]; negative ids count nothing */
    void (*gather)(long rows, long width, long per_row, const int64_t *ids, const void *scale, const void *table,
                   long ldt, const void *bias, void *out, long ldo);
    void (*scatter)(long rows, long from, long to, long per_row, const int64_t *ids, const void *scale,
                    const void *d, long ldd, void *table, long ldt);

    /* rows */
    void (*dropout)(long n, double rate, uint32_t key, uint32_t row, const void *in, void *out);
    void (*dropout_at)(long n, double rate, uint32_t key, uint32_t row, long column, void *factor);
    void (*add)(long rows, long n, const void *a, long lda, void *out, long ldo);
    void (*copy)(long rows, long n, const void *a, long lda, void *out, long ldo);
    void (*scale)(long n, double factor, const void *x, void *y);
    void (*running_max)(long n, const void *x, int64_t row, void *y, int64_t *where);
    void (*return_to)(long n, const int64_t *where, const void *d, void *base, long ld);

    /* heads: scores become gradients, or predictions; losses per row */
    void (*softmax)(long rows, const rc_loss_options *o, void *scores);
    void (*softmax_loss)(long rows, const rc_loss_options *o, double scale, const int64_t *targets, void *scores,
                         double *loss);
    void (*squared_loss)(long rows, const rc_loss_options *o, double scale, const void *targets, void *scores,
                         double *loss);
    void (*sigmoid)(long rows, const rc_loss_options *o, void *scores);
    void (*sigmoid_loss)(long rows, const rc_loss_options *o, double scale, const void *targets, void *scores,
                         double *loss);

    const rc_cell *cells;
    const UpdateTable *updates;
} rc_lanes;

enum { RC_TANH, RC_SIGMOID, RC_RELU, RC_LEAKY_RELU, RC_CLIPPED_RELU, RC_IDENTITY };

#endif
