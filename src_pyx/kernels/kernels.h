/* The numeric interface of the core: one table of functions per instruction-set level and precision.
 *
 * Every level is compiled from the same sources (kernels.c) and reached through its table, so callers know neither
 * the vector width nor the precision: arrays are void pointers, lengths and leading dimensions count numbers.
 * Row-major throughout. Arrays of width N inside the core have rows of N rounded up to whole vectors.
 */
#ifndef RNNCORE_KERNELS_H
#define RNNCORE_KERNELS_H
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
 * row; or what `storage` makes of them, then as one panel per block. With `gemm` set, BLAS reads W as it lies. */
#define RC_MAX_GATES 4
struct rc_storage;
typedef struct rc_packed {
    long K, N;
    int blocks, parts;
    long block_at[RC_MAX_GATES], part_at[RC_MAX_GATES], part_K[RC_MAX_GATES];
    const void *W;
    long ldw;
    int transposed;
    rc_gemm gemm;
    const struct rc_storage *storage; /* NULL: as they are */
    long panel_count; /* per block */
    void *panels;     /* packed_size() numbers, 64-byte aligned */
    void *bias;       /* each block rounded up to whole vectors, or NULL */
    const void *soon; /* the columns of W that are packed next, to be fetched meanwhile; or NULL */
} rc_packed;

/* Neighbouring columns of a matrix, and where their sums go, or NULL. */
typedef struct {
    long at, count;
    void *sums;
} rc_columns;

/* Weight gradients (outer.h), and the numbers of scratch that they want. */
typedef void (*rc_outer)(long M, long K, const void *A, long lda, const int64_t *a_rows, const void *B, long ldb,
                         const int64_t *b_rows, int runs, const rc_columns *run, int accumulate, void *C, long ldc,
                         rc_gemm gemm, void *scratch);
typedef long (*rc_outer_scratch)(long M, long N);
typedef void (*rc_stored_product)(const rc_packed *B, int first, int last, long M, const void *A, long lda, int from,
                                  void *C, long ldc);

/* Mixed precision, which multiplies numbers rounded to bfloat16 everywhere: weight gradients; and products whose A, weight
 * gradients whose B has 16 bits (halves.h). `fast`: an instruction rounds to them. */
typedef struct {
    rc_outer outer;
    rc_outer_scratch outer_scratch;
    rc_stored_product product_of_halves;
    rc_outer outer_of_halves;
    void (*from_halves)(long rows, long n, const uint16_t *y, long ldy, void *x, long ldx);
    int fast;
} rc_mixed;

/* A way to keep a packed matrix in fewer bits, and to multiply by it: C's blocks first to last - 1. `extension`: the
 * instructions that it needs beside the level's, or NULL. size: bytes. mixed: NULL but in mixed precision. */
typedef struct rc_storage {
    const char *name, *extension;
    long (*size)(const rc_packed *B);
    void (*pack)(const rc_packed *B, int block);
    rc_stored_product product;
    const rc_mixed *mixed;
} rc_storage;

/* Where the rows of a product start from. */
enum { RC_FROM_ZERO, RC_FROM_BIAS, RC_FROM_C };

#define RC_MAX_STATES 5
#define RC_MAX_MATRICES 5
#define RC_MAX_INNER 2
#define RC_MAX_VECTORS 20
#define RC_MAX_BLOCKS 12
#define RC_MAX_PARAMETERS 12

/* One cell in one direction, bound to one batch. State arrays have one row per sequence in front, at negative row
 * numbers: the initial states. State 0 is the output. */
struct rc_cell;
typedef struct {
    const struct rc_cell *cell;
    long hidden, ld;       /* H, and H rounded up to whole vectors: the row length of (rows, H) arrays */
    long output, ldo;      /* width of state 0, likewise; mostly H */
    long lda;              /* row length of a and da: ld, or at least so many blocks of ld */
    const rc_packed *W;    /* RC_MAX_MATRICES matrices that meet a state or an inner array at every step: the cell's, or none */
    const rc_packed *W_T;  /* their transposes */
    int activation, flags; /* flags: variants of a cell */
    double activation_parameter, factor, share; /* factor and share: the cell's own numbers, such as a decay */
    int stages;            /* of a staged cell; 1 of others */
    const void *dt;        /* length of each row's step, dt_step apart; or NULL: it is `factor` */
    long dt_step;
    const void *const *vectors; /* RC_MAX_VECTORS: the cell's own parameters, H numbers each (peepholes), padded, or NULL */
    void *a;               /* in: x·W_xh + b; out: the activated gates (a cell of one gate leaves h there: a is h) */
    void *state[RC_MAX_STATES];         /* out: the states that a step leaves; h, and what else there is */
    const void *before[RC_MAX_STATES];  /* states as the next step reads them: the same arrays, but for zoneout */
    long lds[RC_MAX_STATES];            /* their row lengths */
    void *carried;         /* h as matrices see it: h itself, or h under recurrent dropout */
    void *inner[RC_MAX_INNER]; /* (rows, H): what further matrices are multiplied with, at its own step */
    long ldi;              /* their row length: ld, for each stage */
    void *extra;           /* (rows, extra·H), for each stage: what else the backward pass wants to know */
    const void *feedback;  /* given instead of the last output (teacher forcing), or NULL; rows as of state 0 */
    const void *mask;      /* recurrent dropout's factors, or NULL */
    int mask_per_row;      /* one mask per step instead of one per sequence */
    const void *dh;        /* gradient of the outputs */
    void *da;              /* out: gate gradients (may be a; for a cell that works in place also dh) */
    void *doutput;         /* out: whole gradient of state 0, where a matrix makes it */
    const void *dlater;    /* gate gradients of the steps that follow: da, or the previous truncation pass */
    uint16_t *saved, *da_halves; /* what a and da are for the backward pass in 16 bits, rows ldh apart; or NULL */
    long ldh;
    void *dcarry[RC_MAX_STATES]; /* what else a step hands back: gradients of the states before, beside the products */
    const void *dcarry_later[RC_MAX_STATES];
    int carry_per_row;     /* a row per row (truncated) instead of one per sequence */
    const void *dend[RC_MAX_STATES]; /* (sequences, width): gradient of the final state, or NULL; not of state 0 */
    void *work[RC_MAX_MATRICES];     /* (sequences, K) scratch, for da·W_T */
    void *dvectors[RC_MAX_VECTORS];  /* gradients of `vectors`, a row per sequence, summed over time */
    double zone_rate[2];             /* zoneout of states 0 and 1, where `before` is not `state` */
    const void *zone[2];             /* (rows, width): 0 where the old number stays; NULL without training */
    void *zone_dh, *zone_given, *zone_kept[2]; /* scratch: (rows, width of state 0), then (sequences, width) */
} rc_unit;

/* `count` rows of one time step: row, row + stride, ... Forward, `linked` are the rows of the preceding step (or the
 * initial states), where has_link. Backward, `linked` are the rows of the following step, and `previous` those of the
 * preceding one, where has_previous; `ends` says that in truth nothing follows. */
typedef struct {
    long row, linked, previous, sequence, count, stride;
    int has_link, has_previous, ends;
    int zoned; /* backward: gradients come from `zone_dh` and `zone_given` instead of `dh` and `dend` (zoneout.h) */
} rc_block;

typedef void (*rc_cell_step)(const rc_unit *unit, const rc_block *block);

/* A cell's record: all that is known of it outside its kernels, said once. Whoever wants to know reads it by name
 * (Python: rnncore/nn/records.py), and the shapes of the parameters follow from how the kernels use them, with
 * D inputs, H hidden units and `output` numbers in state 0:
 *
 *   W_xh (D, input_gates·H)     b_h (gates·H)     a vector (its parts·H)     (a matrix's numbers for H, where it is made)
 *   a parameter that matrices are parts of: (width of what they meet, the sum of their gates · H, or `output`)
 */
enum { RC_H, RC_OUTPUT }; /* widths */

/* A parameter, in theta's order. Optional ones are there where the cell's options ask for them. */
typedef struct {
    const char *name;
    int optional;
} rc_cell_parameter;

/* What a step hands to the next. */
typedef struct {
    const char *name;
    int width;   /* RC_H, or RC_OUTPUT: as wide as state 0, the output, where options choose that */
    int carries; /* its gradient comes back by `dcarry`, too, not by matrices alone */
} rc_cell_state;

/* H numbers that a kernel reads itself: a part of a parameter. (The bias of a product that makes the output is as wide
 * as that.) Without a name: what another cell of the same kernels has there. */
typedef struct {
    const char *parameter;
    int part;
} rc_cell_vector;

/* A matrix of a cell: gates [gate, gate + gates) of its parameter, what it meets, and where the product belongs. */
typedef struct {
    const char *parameter;
    int gate, gates;
    int at[RC_MAX_GATES]; /* the block of a that each gate's product is added to */
    int source;           /* a state's number, or RC_INNER + an inner array's */
    int linked;           /* the source's row is that of the step before, not this step's */
    int to_output;        /* the product makes state 0: its gradient is doutput, not da */
    int bias;             /* 1 + the vector that its last gate's product starts from, or 0 */
} rc_cell_matrix;
enum { RC_INNER = RC_MAX_STATES };

/* Lists are as long as what is filled in; counts stand beside those that loops go through. */
typedef struct rc_cell {
    const char *name;
    rc_cell_step forward, backward;
    rc_cell_parameter parameters[RC_MAX_PARAMETERS];
    int width;                         /* blocks of H in a row of a, */
    const char *blocks[RC_MAX_BLOCKS]; /* named after what forward leaves there, or NULL: of no use outside */
    int gates;                  /* blocks of b_h, and of a that x·W_xh + b_h goes to: the first ones */
    int input_gates;            /* gates of W_xh, */
    int input_at[RC_MAX_GATES]; /* and the blocks they go to, one after another */
    int direct_at;              /* 1 + the block that x itself is added to (D is H then), or 0 */
    int states, inner, vectors;
    rc_cell_state state[RC_MAX_STATES];
    const char *inner_name[RC_MAX_INNER]; /* (rows, H) arrays that matrices meet at their own step */
    rc_cell_vector vector[RC_MAX_VECTORS];
    rc_cell_matrix matrices[RC_MAX_MATRICES]; /* none is needed: a recurrence may be elementwise */
    int extra;                  /* blocks of H of what else backward wants to know */
    int dropped;                /* the state that recurrent dropout is for */
    int zoned;                  /* how many states, from the first on, zoneout can act on: 0, or all (two at most) */
    int in_place;               /* a is h */
    int noise;                  /* `extra` holds random numbers in (0, 1) on entry */
    int staged;                 /* a step goes through `stages`, each with a block of a behind the others and rows of H
                                 * numbers of each inner array: a matrix is given for the first and meets all; `work`
                                 * has room for two of what a matrix meets */
    int feeds_back;             /* the kernel reads `feedback` */
    int own_bias;               /* b_h is among the vectors: nothing is added to x·W_xh */
    int makes_matrix;           /* x·W_xh + b_h is no gate of H numbers but a matrix of its step (second_order.h) */
    int saves_halves;           /* without flags, it can leave a (unless that is h) and da in 16 bits */
} rc_cell;

/* What a softmax, squared-error or sigmoid head needs besides its scores. */
typedef struct {
    long outputs, ld;
    const void *class_weight; /* outputs numbers, or NULL */
    double label_smoothing;
} rc_loss_options;

/* A reservoir's weights (reservoir.h). */
typedef struct {
    long units, weights;
    const int64_t *starts;  /* of blocks of rows */
    const int32_t *columns; /* NULL: W is dense */
    const void *values;
    int activation;
    double leak;
} rc_reservoir;

#include "crf_api.h"
#include "trees_api.h"
#include "turing_api.h"

typedef struct rc_kernels {
    const char *level;
    int itemsize, vector; /* bytes in a number, numbers in a vector */

    void (*vexp)(long n, const void *x, void *y);
    void (*vtanh)(long n, const void *x, void *y);
    void (*vsigmoid)(long n, const void *x, void *y);
    double (*peak)(long rounds); /* runs that many rounds of multiply-adds in registers; returns the flops done */

    /* products */
    const rc_storage *storages; /* of a name the fastest first */
    int storage_count;
    long (*packed_size)(const rc_packed *B);
    void (*prepare)(rc_packed *B);
    void (*pack)(rc_packed *B, const void *bias, long panel_from, long panel_to); /* of blocks·panel_count */
    void (*product)(const rc_packed *B, long M, const void *A, long lda, int from, void *C, long ldc);
    rc_outer_scratch outer_scratch;
    rc_outer outer;
    void (*column_sums)(long rows, long from, long to, const void *A, long lda, int accumulate, void *sums);

    /* tables of rows: out[r] (+)= sum over f of table[ids[r, f]]; negative ids count nothing */
    void (*gather)(long rows, long width, long per_row, const int64_t *ids, const void *scale, const void *table,
                   long ldt, const void *bias, void *out, long ldo);
    void (*scatter)(long rows, long from, long to, long per_row, const int64_t *ids, const void *scale,
                    const void *d, long ldd, void *table, long ldt);

    /* rows */
    void (*dropout)(long n, double rate, uint32_t key, uint32_t row, const void *in, void *out);
    void (*uniform)(long n, uint32_t key, uint32_t row, void *out);
    void (*dropout_at)(long n, double rate, uint32_t key, uint32_t row, long column, void *factor);
    void (*add)(long rows, long n, const void *a, long lda, void *out, long ldo);
    void (*widen)(long rows, long n, const void *x, long ldx, double *total);
    void (*narrow)(long rows, long n, const double *total, void *x, long ldx);
    void (*copy)(long rows, long n, const void *a, long lda, void *out, long ldo);
    void (*fill)(long n, double value, void *y);
    void (*scale)(long n, double factor, const void *x, void *y);
    void (*running_max)(long n, const void *x, int64_t row, void *y, int64_t *where);
    void (*return_to)(long n, const int64_t *where, const void *d, void *base, long ld);
    double (*dot)(long n, const void *x, const void *y);
    void (*add_scaled)(long n, double factor, const void *x, void *y);
    void (*add_scaled_wide)(long n, double factor, const void *x, double *total);
    void (*attention_energies)(long rows, long size, long ld, void *u, const void *v, void *e);
    void (*attention_energy_back)(long size, double de, void *u, const void *v, double *dv);
    void (*memory_weights)(long T, long S, long ld, int causal, double factor, void *e);
    void (*memory_weights_back)(long T, long S, long ld, int causal, double factor, const void *a, void *da);
    int (*all_finite)(long n, const void *x);
    void (*contexts)(long T, long S, long lda, const void *a, int causal, long ldm, const void *m, void *c, long ldc);
    void (*tanh_back)(long n, const void *h, void *dh);

    /* heads: scores become gradients, or predictions; losses per row */
    void (*softmax)(long rows, const rc_loss_options *o, void *scores);
    void (*softmax_loss)(long rows, const rc_loss_options *o, double scale, const int64_t *targets, void *scores,
                         double *loss);
    void (*soft_loss)(long rows, const rc_loss_options *o, double scale, const void *targets, void *scores,
                      double *loss);
    void (*squared_loss)(long rows, const rc_loss_options *o, double scale, const void *targets, void *scores,
                         double *loss);
    void (*sigmoid)(long rows, const rc_loss_options *o, void *scores);
    void (*sigmoid_loss)(long rows, const rc_loss_options *o, double scale, const void *targets, void *scores,
                         double *loss);

    /* Connectionist temporal classification (ctc.h): -log p of packed sequence b, of T steps whose rows begin at
     * offsets[t], for L symbols l; the last of the outputs is the blank. Its scores become scale·(their gradient); with
     * scale 0 they are used up. work: so many doubles. */
    double (*ctc)(const rc_loss_options *o, void *scores, const long *offsets, long b, long T, const int64_t *l, long L,
                  double scale, double *work);
    long (*ctc_work)(long T, long L);

    /* States x of one sequence, from `first` on; work: as many numbers as units, and two vectors. */
    void (*reservoir)(const rc_reservoir *r, long steps, const void *first, const void *d, void *x, void *work);

    const rc_cell *cells;
    int cell_count;
    rc_cell_step zoned_forward, zoned_backward; /* of any cell, with zoneout */
    const UpdateTable *updates;
    const rc_replica *replica;
    const rc_crf_table *crf;
    const rc_tree_table *trees;
    const rc_turing_table *turing;
} rc_kernels;

enum { RC_TANH, RC_SIGMOID, RC_RELU, RC_LEAKY_RELU, RC_CLIPPED_RELU, RC_IDENTITY, RC_BINARY };

#endif
