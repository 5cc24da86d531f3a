/* What the kernels have in common: rows of the arrays of one block, and products of whole rows.
 *
 * Shapes: a, da (rows, width·H); state s (rows, H or output); inner (rows, H), for each stage; dcarry
 * (sequences, as the state), or rows of them when truncated; work (sequences, what its matrix meets). Each H and output rounded up to whole vectors.
 *
 * The first row of a block and the distance of its rows, in numbers, describe an array: row i is `i * step` on.
 */
#ifndef RNNCORE_STEPS_H
#define RNNCORE_STEPS_H
#include "../activation.h"
#include "../gemm.h"
#include "../halves.h"

static inline real *row_of_a(const rc_unit *u, const rc_block *b) { return (real *)u->a + b->row * u->lda; }
static inline real *row_of_da(const rc_unit *u, const rc_block *b) { return (real *)u->da + b->row * u->lda; }
static inline real *own_row(const rc_unit *u, const rc_block *b, int state) {
    return (real *)u->state[state] + b->row * u->lds[state];
}
/* the state that this step starts from: forward. (Backward it is at b->previous.) */
static inline const real *before_row(const rc_unit *u, int state, long row) {
    return (const real *)u->before[state] + row * u->lds[state];
}
static inline real *inner_row(const rc_unit *u, const rc_block *b, int i) {
    return (real *)u->inner[i] + b->row * u->ldi;
}
/* recurrent dropout: its state as matrices see it, and its mask or NULL, both with rows of that state's length */
static inline real *carried_row(const rc_unit *u, long row) {
    return (real *)u->carried + row * u->lds[u->cell->dropped];
}
static inline const real *mask_at(const rc_unit *u, const rc_block *b, long row) {
    return u->mask ? (const real *)u->mask + (u->mask_per_row ? row : b->sequence) * u->lds[u->cell->dropped] : 0;
}
static inline const real *mask_row(const rc_unit *u, const rc_block *b) { return mask_at(u, b, b->row); }

/* gradient of the output; that of the final state where nothing follows, or NULL */
static inline const real *dh_row(const rc_unit *u, const rc_block *b) {
    return (const real *)(b->zoned ? u->zone_dh : u->dh) + b->row * u->lds[0];
}
static inline const real *end_row(const rc_unit *u, const rc_block *b, int state) {
    const void *end = !b->zoned ? u->dend[state] : state == 1 ? u->zone_given : 0;
    return b->ends && end ? (const real *)end + b->sequence * u->lds[state] : 0;
}
/* what this step hands back to the one before, and what was handed to it, beside the products */
static inline real *carry_row(const rc_unit *u, const rc_block *b, int state) {
    return (real *)u->dcarry[state] + (u->carry_per_row ? b->row : b->sequence) * u->lds[state];
}
static inline const real *later_row(const rc_unit *u, const rc_block *b, int state) {
    return (const real *)u->dcarry_later[state] + (u->carry_per_row ? b->linked : b->sequence) * u->lds[state];
}
static inline real *work_row(const rc_unit *u, const rc_block *b, int matrix) {
    return (real *)u->work[matrix] + b->sequence * vectors_in(u->W[matrix].K) * VL;
}

/* How rows of a and da are left: as numbers, in 16 bits, or in these by an instruction. */
enum { NUMBERS, HALVES, FAST_HALVES };
static inline int form_of(const rc_unit *u, const uint16_t *halves) {
    return !halves ? NUMBERS : u->W_T[0].storage->mixed->fast ? FAST_HALVES : HALVES;
}
/* A form as a constant, so that each one's code is the same but for how rows are left: the same bits of states. */
#define IN_EACH_FORM(form, function, ...)                                                                              \
    switch (form) {                                                                                                    \
    case NUMBERS: function(NUMBERS, __VA_ARGS__); break;                                                               \
    case HALVES: function(HALVES, __VA_ARGS__); break;                                                                 \
    default: function(FAST_HALVES, __VA_ARGS__);                                                                       \
    }
static inline uint16_t *saved_row(const rc_unit *u, const rc_block *b) {
    return u->saved ? u->saved + b->row * u->ldh : 0;
}
static inline uint16_t *row_of_da_halves(const rc_unit *u, const rc_block *b) {
    return u->da_halves ? u->da_halves + b->row * u->ldh : 0;
}
/* One vector of gates, or of their gradients: at p, or in row q of 16 bits from number `at` on. */
INLINE void leave_gate(const int form, real *p, uint16_t *q, long at, vec x) {
    if (form == NUMBERS) vstore(p, x);
    else store_gate(q + at, x);
}
INLINE vec gate_at(const int form, const real *p, const uint16_t *q, long at) {
    return form == NUMBERS ? vload(p) : load_gate(q + at);
}
INLINE void leave_gradient(const int form, real *p, uint16_t *q, long at, vec x) {
    if (form == NUMBERS) vstore(p, x);
    else store_bf16(form == FAST_HALVES, q + at, x);
}

/* C's blocks += A·W, or = bias + A·W; rows of a block */
static inline void multiply_from(const rc_unit *u, const rc_block *b, int matrix, int from, const real *A, long step_a,
                                 real *C, long step_c) {
    product_blocks(&u->W[matrix], 0, u->W[matrix].blocks, b->count, A, step_a, from, C, step_c);
}
static inline void multiply(const rc_unit *u, const rc_block *b, int matrix, const real *A, long step_a, real *C,
                            long step_c) {
    multiply_from(u, b, matrix, RC_FROM_C, A, step_a, C, step_c);
}

/* C = dA·Wᵀ */
static inline void multiply_T(const rc_unit *u, const rc_block *b, int matrix, const real *da, long step_a, real *C,
                              long step_c) {
    product_block(&u->W_T[matrix], 0, b->count, da, step_a, RC_FROM_ZERO, C, step_c);
}

/* C = (0 | C) + da·Wᵀ of the step that follows */
static inline void multiply_later(const rc_unit *u, const rc_block *b, int matrix, int from, real *C, long step_c) {
    const rc_packed *W_T = &u->W_T[matrix];
    if (u->da_halves)
        W_T->storage->mixed->product_of_halves(W_T, 0, 1, b->count, u->da_halves + b->linked * u->ldh,
                                               b->stride * u->ldh, from, C, step_c);
    else
        product_block(W_T, 0, b->count, (const real *)u->dlater + b->linked * u->lda, b->stride * u->lda, from, C, step_c);
}

/* work = da·Wᵀ of the step that follows, where there is one */
static inline const real *multiply_back(const rc_unit *u, const rc_block *b, int matrix) {
    real *work = work_row(u, b, matrix);
    if (b->has_link)
        multiply_later(u, b, matrix, RC_FROM_ZERO, work, b->stride * vectors_in(u->W[matrix].K) * VL);
    return work;
}
#endif
