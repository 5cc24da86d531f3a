/* Packed matrices that are kept in fewer bits: what all ways to do so have in common. Part of gemm.h; float32 alone.
 *
 *   C (M, N) = (0 | bias | C) + Â·B̂      Â, B̂: A's rows and B as bfloat16 (bf16.h), or as int8 with scales (int8.h)
 *
 * Depth goes by groups of as many k (`each`) as fit into 32 bits: a group's row of a panel holds, column after column,
 * its k side by side. So in any storage a panel of nv vectors of columns is groups · nv · VECTOR_BYTES long.
 *
 * Some rows of A are made into operands, once for all panels they meet, OPERAND_DEPTH of each at a time. An element is
 * one chain of sums, in pieces of that depth, whatever the tile: the same bits for any number of rows.
 */
#ifndef RNNCORE_STORAGE_H
#define RNNCORE_STORAGE_H

#define OPERAND_DEPTH 1024
#define OPERAND_ROWS 48
#define OPERAND_BYTES 24576 /* they share the L1 cache with a panel */
#define PANELS_TOGETHER 4   /* for one row, 2 for up to three: else sums would wait for one another */

/* Rows of A, ready to be multiplied: `stride` bytes each, zero where a last group is not full. */
typedef struct {
    _Alignas(64) char rows[OPERAND_BYTES];
    real scale[OPERAND_ROWS];  /* int8: what a row's numbers are multiples of, */
    sint excess[OPERAND_ROWS]; /* and what its sums are too large by */
} stored_operands;

/* Some operands that meet some panels of nv vectors. */
typedef struct {
    long groups, stride, ldi, ldc;
    const char *A;
    const real *row_scale;
    const sint *row_excess;
    const char *P[PANELS_TOGETHER];
    const real *scale[PANELS_TOGETHER]; /* int8: of the panel's columns */
    const real *init[PANELS_TOGETHER];
    real *C[PANELS_TOGETHER];
} stored_tile;

/* One way to multiply: how many k make a group, the bytes of one k in an operand, how operands and tiles are made. */
typedef struct {
    int each, bytes, scaled;
    void (*operands)(const real *row, long depth, long stride, stored_operands *o, long i);
    void (*tile)(int panels, int nv, int rows, const stored_tile *t);
} stored_product;

static inline long stored_groups(long depth, int each) { return (depth + each - 1) / each; }
static inline long stored_block(const rc_packed *B, int each) { /* bytes of one block's panels */
    return stored_groups(B->K, each) * vectors_in(B->N) * VL * 4;
}
static inline real *stored_scales(const rc_packed *B, int each) { /* after the panels: for each column of each block */
    return (real *)((char *)B->panels + B->blocks * stored_block(B, each));
}

/* B[k, j] of a block, where it lies unpacked */
static inline real number_at(const rc_packed *B, int block, long k, long j) {
    const real *W = B->W;
    return B->transposed ? W[j * B->ldw + k] : W[k * B->ldw + block * B->N + j];
}

/* The numbers of a row of A that rows [k, k + depth) of B meet: parts lie apart. */
static const real *stored_row(const rc_packed *B, long k, long depth, const real *A, real *room) {
    long start = 0, at = 0;
    for (int part = 0; part < B->parts && at < depth; start += B->part_K[part++]) {
        const long skip = k + at - start, count = lmin(depth - at, B->part_K[part] - skip);
        if (count <= 0) continue;
        const real *numbers = A + B->part_at[part] + skip;
        if (count == depth) return numbers;
        memcpy(room + at, numbers, count * sizeof(real));
        at += count;
    }
    return room;
}

/* All operands by one block's panels, from row k of B on. */
INLINE void stored_panels(const stored_product *way, const rc_packed *B, int block, long k, long rows, int from,
                          const stored_operands *o, stored_tile *t, real *C) {
    const long panels = panel_count(B->N), most = rows == 1 ? PANELS_TOGETHER : rows <= 3 ? 2 : 1;
    const long all = stored_groups(B->K, way->each);
    const real *bias = from == RC_FROM_BIAS ? packed_bias(B, block) : 0;
    for (long p = 0, together; p < panels; p += together) {
        const long nv = panel_vectors(B->N, p);
        together = most;
        while (p + together > panels || panel_vectors(B->N, p + together - 1) != nv) together /= 2;
        for (long i = 0; i < together; i++) {
            const long begin = panel_vector(B->N, p + i) * VL;
            t->P[i] = (const char *)B->panels + block * stored_block(B, way->each) + all * begin * 4 +
                      k / way->each * nv * VL * 4;
            t->scale[i] = way->scaled ? stored_scales(B, way->each) + block * vectors_in(B->N) * VL + begin : 0;
            t->C[i] = C + B->block_at[block] + begin;
            t->init[i] = from == RC_FROM_ZERO ? zeros : bias ? bias + begin : t->C[i];
        }
        for (long m = 0, count; m < rows; m += count) {
            count = tile_rows(rows - m);
            t->A = o->rows + m * t->stride;
            t->row_scale = o->scale + m;
            t->row_excess = o->excess + m;
            way->tile((int)together, (int)nv, (int)count, t);
            for (long i = 0; i < together; i++) t->C[i] += count * t->ldc, t->init[i] += count * t->ldi;
        }
    }
}

INLINE void stored_blocks(const stored_product *way, const rc_packed *B, int first, int last, long M, const real *A,
                          long lda, int from, real *C, long ldc) {
    stored_operands o;
    _Alignas(64) real room[OPERAND_DEPTH];
    stored_tile t = {.ldc = ldc};
    for (long k = 0, depth; k < B->K; k += depth, from = RC_FROM_C) {
        depth = lmin(OPERAND_DEPTH, B->K - k);
        t.groups = stored_groups(depth, way->each);
        t.stride = (t.groups * way->each * way->bytes + 63) / 64 * 64;
        t.ldi = from == RC_FROM_C ? ldc : 0;
        for (long m = 0, rows; m < M; m += rows) {
            rows = lmin(lmin(OPERAND_ROWS, OPERAND_BYTES / t.stride), M - m);
            if (m && rnncore_stopping()) return;
            for (long i = 0; i < rows; i++)
                way->operands(stored_row(B, k, depth, A + (m + i) * lda, room), depth, t.stride, &o, i);
            for (int block = first; block < last; block++) stored_panels(way, B, block, k, rows, from, &o, &t, C + m * ldc);
        }
    }
}

/* All tiles of a way to multiply, of its inline function tile(panels, nv, rows, t). */
#define STORED_TILE(tile, panels, nv, rows)                                                                            \
    case (panels) * 100 + (nv) * 10 + (rows):                                                                          \
        tile(panels, nv, rows, t);                                                                                     \
        break;
#define STORED_TILES_OF(tile, nv)                                                                                      \
    STORED_TILE(tile, 1, nv, 1) STORED_TILE(tile, 1, nv, 2) STORED_TILE(tile, 1, nv, 3) STORED_TILE(tile, 1, nv, 4)    \
    STORED_TILE(tile, 1, nv, 5) STORED_TILE(tile, 1, nv, 6) STORED_TILE(tile, 2, nv, 1) STORED_TILE(tile, 2, nv, 2)    \
    STORED_TILE(tile, 2, nv, 3) STORED_TILE(tile, 4, nv, 1)
#if TILE_VECTORS == 4
#define STORED_TILES(tile)                                                                                             \
    STORED_TILES_OF(tile, 1) STORED_TILES_OF(tile, 2) STORED_TILES_OF(tile, 3) STORED_TILES_OF(tile, 4)
#else
#define STORED_TILES(tile) STORED_TILES_OF(tile, 1) STORED_TILES_OF(tile, 2)
#endif

/* Instructions that a level does not have as a whole: asked for function by function. */
#if VECTOR_BYTES == 64 && defined(X86)
#define WITH_VNNI __attribute__((target("avx512vnni")))
#define WITH_BF16 __attribute__((target("avx512bf16")))
#endif

#include "bf16.h"
#include "int8.h"

/* The first of a name that may be used is. */
static const rc_storage storages[] = {
#if defined(WITH_BF16)
    {"bfloat16", "bf16", bf16_size, bf16_pack, bf16_dot_product},
#endif
    {"bfloat16", 0, bf16_size, bf16_pack, bf16_product},
#if defined(WITH_VNNI)
    {"int8", "vnni", int8_size, int8_pack, int8_dot_product},
#endif
    {"int8", 0, int8_size, int8_pack, int8_product},
};

#endif
