/* The numeric interface of the core: one table of functions per instruction-set level and precision.
 *
 * Every level is compiled from the same sources (lanes.c) and reached through its table, so callers know neither
 * the vector width nor the precision: arrays are void pointers, lengths and leading dimensions count numbers.
 * Row-major throughout. Arrays of width N inside the core have rows of N rounded up to whole vectors.
 */
#ifndef RNNCORE_LANES_H
#define RNNCORE_LANES_H
#include "replica_api.h"
#include "update_api.h"
#include <stdint.h>

/* C = op(A)·op(B) + beta·C, row-major; supplied by the BLAS shim. */
typedef void (*rc_gemm)(int transpose_a, int transpose_b, long M, long N, long K, const void *A, long lda,
                        const void *B, long ldb, int accumulate, void *C, long ldc);

/* A weight matrix B, or the transpose of one stored as W, ready to be multiplied from the left.
 *
 * B's columns are `blocks` gates of N; block b of the product goes to column block_at[b] of a row of C. B's K rows
 * come in `parts`; part i meets the columns part_at[i], ... of a row of A. (Gates of odd size are padded in the rows
 * of A and C, but not in W.) Native products read `panels`: up to TILE_VECTORS vectors of columns, stored row after
 * row. With `gemm` set, BLAS reads W as it lies. */
#define RC_MAX_GATES 4
typedef struct {
    long K, N;
    int blocks, parts;
    long block_at[RC_MAX_GATES], part_at[RC_MAX_GATES], part_K[RC_MAX_GATES];
    const void *W;
    long ldw;
    int transposed;
    rc_gemm gemm;
    long panel_count; /* per block */
    void *panels;     /* packed_size() numbers, 64-byte aligned */
    void *bias;       /* each block rounded up to whole vectors, or NULL */
} rc_packed;

/* Where the rows of a product start from. */
enum { RC_FROM_ZERO, RC_FROM_BIAS, RC_FROM_C };

/* One cell in one direction, bound to one batch. State arrays have one row per sequence in front, at negative row
 * numbers: the initial states. */
typedef struct {
    long hidden, ld;       /* H, and H rounded up to whole vectors: the row length of (rows, H) arrays */
    long lda;              /* row length of a and da: so many blocks of ld */
    rc_packed recurrent;   /* W_hh */
    rc_packed recurrent_T; /* W_hhᵀ */
    int activation, flags; /* flags: variants of a cell */
    double activation_parameter;
    const void *vectors[RC_MAX_GATES]; /* the cell's own parameters of H numbers (peepholes), padded, or NULL */
    void *a;               /* in: x·W_xh + b; out: the activated gates (a cell of one gate leaves h there: a is h) */
    void *h, *c;           /* states; c is NULL for cells that have one */
    void *carried;         /* h as the next step sees it: h itself, or h under recurrent dropout */
    void *extra;           /* (rows, H): what else the backward pass wants to know */
    const void *mask;      /* recurrent dropout's factors, or NULL */
    int mask_per_row;      /* one mask per step instead of one per sequence */
    const void *dh;        /* gradient of the outputs */
    void *da;              /* out: gate gradients (may be a; for a cell that works in place also dh) */
    const void *dlater;    /* gate gradients of the steps that follow: da, or the previous truncation pass */
    void *dcarry;          /* what else a step hands back: gradient of the previous c (or h), beside the product */
    const void *dcarry_later;
    int carry_per_row;     /* a row per row (truncated) instead of one per sequence */
    const void *dc_end;    /* (sequences, H): gradient of the final c, or NULL */
    void *work;            /* (sequences, H) scratch */
    void *dvectors[RC_MAX_GATES]; /* gradients of `vectors`, a row per sequence, summed over time */
} rc_unit;

/* `count` rows of one time step: row, row + stride, ... Forward, `linked` are the rows of the preceding step (or the
 * initial states), where has_link. Backward, `linked` are the rows of the following step, and `previous` those of the
 * preceding one, where has_previous; `ends` says that in truth nothing follows. */
typedef struct {
    long row, linked, previous, sequence, count, stride;
    int has_link, has_previous, ends;
} rc_block;

typedef void (*rc_cell_step)(const rc_unit *unit, const rc_block *block);

enum { RC_ELMAN, RC_LSTM, RC_GRU, RC_CELL_COUNT };

/* A cell's kernels and the arrays they need. */
typedef struct {
    rc_cell_step forward, backward;
    int gates;                      /* blocks of H columns in W_xh and W_hh */
    int width;                      /* blocks in a row of a */
    int recurrent_at[RC_MAX_GATES]; /* the block of a that each gate's recurrent product is added to */
    int states, extra, carries;     /* 1 or 2; whether `extra` and `dcarry` are used */
    int vectors;                    /* how many parameters of H numbers, at most */
    int in_place;                   /* a is h */
    int recurrent_bias;             /* the last vector is the bias of the last gate's recurrent product */
} rc_cell;

/* What a softmax, squared-error or sigmoid head needs besides its scores. */
typedef struct {
    long outputs, ld;
    const void *class_weight; /* outputs numbers, or NULL */
    double label_smoothing;
} rc_loss_options;

#include "crf_api.h"

typedef struct rc_lanes {
    const char *level;
    int itemsize, vector; /* bytes in a number, numbers in a vector */

    void (*vexp)(long n, const void *x, void *y);
    void (*vtanh)(long n, const void *x, void *y);
    void (*vsigmoid)(long n, const void *x, void *y);
    double (*peak)(long rounds); /* runs that many rounds of multiply-adds in registers; returns the flops done */

    /* products */
    long (*packed_size)(const rc_packed *B);
    void (*prepare)(rc_packed *B);
    void (*pack)(rc_packed *B, const void *bias, long panel_from, long panel_to); /* of blocks·panel_count */
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
    const rc_replica *replica;
    const rc_crf_table *crf;
} rc_lanes;

enum { RC_TANH, RC_SIGMOID, RC_RELU, RC_LEAKY_RELU, RC_CLIPPED_RELU, RC_IDENTITY };

#endif
