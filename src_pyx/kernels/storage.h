/* Packed matrices that are kept in fewer bits: what all ways to do so have in common. Part of gemm.h; float32 alone.
 *
 *   C (M, N) = (0 | bias | C) + Â·B̂      Â, B̂: A's rows and B as bfloat16 (bf16.h), or as int8 with scales (int8.h)
 *
 * Depth goes by groups of as many k (`each`) as fit into 32 bits: a group's row of a panel holds, column after column,
 * its k side by side. So in any storage a panel of nv vectors of columns is groups · nv · VL words long.
 *
 * Some rows of A are made into operands, once for all panels they meet, OPERAND_DEPTH of each at a time. An element is
 * one chain of sums, in pieces of that depth, whatever the tile: the same bits for any number of rows.
 */
#ifndef RNNCORE_STORAGE_H
#define RNNCORE_STORAGE_H
#include "halves.h"
#include "outer.h"
#include "tiles.h"

/* Instructions that a level does not have as a whole: asked for function by function. */
#if VECTOR_BYTES == 64 && defined(X86)
#define WITH_VNNI __attribute__((target("avx512vnni")))
#if defined(RNNCORE_KNOWS_TILES)
#define HAVE_TILES
#endif
#endif
#if defined(EMULATED_TILES)
#define HAVE_TILES
#endif
#if defined(WITH_BF16) || defined(HAVE_TILES)
#define HAVE_PAIRS /* products of two numbers of bfloat16 at once */
#endif

#define OPERAND_DEPTH 1024
#define OPERAND_ROWS 128  /* they share the L2 cache with a panel, in RNNCORE_OPERAND_BYTES */
#define PANELS_TOGETHER 4 /* for one row, 2 for up to three: else sums would wait for one another */

/* Rows of A, ready to be multiplied: `stride` bytes each, zero where a last group is not full. */
typedef struct {
    char *rows;
    real scale[OPERAND_ROWS];  /* int8: what a row's numbers are multiples of, */
    sint excess[OPERAND_ROWS]; /* and what its sums are too large by */
} stored_operands;

/* Some operands that meet some panels of nv vectors, or some vectors of a panel. */
typedef struct {
    long groups, stride, ldi, ldc;
    long ldp;                 /* bytes of a group's row of a panel */
    rnncore_tile_rows height; /* of tall tiles */
    const char *A;
    const real *row_scale;
    const sint *row_excess;
    const char *P[PANELS_TOGETHER];
    const real *scale[PANELS_TOGETHER]; /* int8: of the panel's columns */
    const real *init[PANELS_TOGETHER];
    real *C[PANELS_TOGETHER];
    const char *next; /* what is multiplied by next: so many bytes of it are fetched with each group */
    long next_step;
} stored_tile;

/* One way to multiply: how many k make a group, the groups that are multiplied together (the last ones are filled up
 * with zeros), the bytes of one k in an operand, how operands and tiles are made. */
typedef struct {
    int each, together, bytes;
    int scaled; /* int8 */
    int tall;   /* tiles of up to 32 rows and 2 vectors, of the height that rnncore_set_tiles was told (amx.h) */
    void (*operands)(const real *row, long depth, long stride, stored_operands *o, long i);
    void (*operands_of_halves)(const uint16_t *row, long depth, long stride, stored_operands *o, long i); /* or NULL */
    void (*tile)(int panels, int nv, int rows, const stored_tile *t);
} stored_product;

static inline long stored_groups(const stored_product *way, long depth) {
    const long unit = way->each * way->together;
    return (depth + unit - 1) / unit * way->together;
}
static inline long stored_block(const stored_product *way, const rc_packed *B) { /* bytes of one block's panels */
    return stored_groups(way, B->K) * vectors_in(B->N) * VL * 4;
}
static inline real *stored_scales(const stored_product *way, const rc_packed *B) { /* after the panels: of each column */
    return (real *)((char *)B->panels + B->blocks * stored_block(way, B));
}
static inline long stored_stride(const stored_product *way, long groups) { /* bytes from operand to operand */
    return (groups * way->each * way->bytes + 63) / 64 * 64;
}

/* B[k, j] of a block, where it lies unpacked */
static inline real number_at(const rc_packed *B, int block, long k, long j) {
    const real *W = B->W;
    return B->transposed ? W[j * B->ldw + k] : W[k * B->ldw + block * B->N + j];
}

/* The numbers of a row of A, of `size` bytes, that rows [k, k + depth) of B meet: parts lie apart. */
static const void *stored_row(const rc_packed *B, long k, long depth, const char *A, long size, char *room) {
    long start = 0, at = 0;
    for (int part = 0; part < B->parts && at < depth; start += B->part_K[part++]) {
        const long skip = k + at - start, count = lmin(depth - at, B->part_K[part] - skip);
        if (count <= 0) continue;
        const char *numbers = A + (B->part_at[part] + skip) * size;
        if (count == depth) return numbers;
        memcpy(room + at * size, numbers, count * size);
        at += count;
    }
    return room;
}

/* Whether rows in 16 bits are operands as they lie: pairs in one part, whole groups, and no tile that reads beyond. */
static inline int are_operands(const stored_product *way, const rc_packed *B, long depth, long rows) {
    const rnncore_tile_rows height = rnncore_deal_rows(rows);
    const long rest = way->tall ? rows % (height.upper + height.lower) : 0;
    return way->bytes == 2 && B->parts == 1 && depth % (way->each * way->together) == 0 &&
           (rest == 0 || rest == height.upper);
}

/* Operands 0 to rows - 1 by some panels of nv vectors, `height` of them at most in a tile (0: as in gemm.h). */
INLINE void stored_rows(const stored_product *way, int panels, int nv, long rows, long height, const stored_operands *o,
                        stored_tile *t) {
    for (long m = 0, count; m < rows; m += count) {
        count = height ? lmin(height, rows - m) : tile_rows(rows - m);
        t->A = o->rows + m * t->stride;
        t->row_scale = o->scale + m;
        t->row_excess = o->excess + m;
        way->tile(panels, nv, (int)count, t);
        for (int i = 0; i < panels; i++) t->C[i] += count * t->ldc, t->init[i] += count * t->ldi;
        t->next += t->groups * t->next_step;
    }
}

/* The same; tall tiles take two vectors of one panel at a time. */
INLINE void stored_columns(const stored_product *way, int panels, int nv, long rows, const stored_operands *o,
                           stored_tile *t) {
    if (!way->tall) {
        stored_rows(way, panels, nv, rows, 0, o, t);
        return;
    }
    const stored_tile all = *t;
    t->height = rnncore_deal_rows(rows);
    for (int j = 0; j < nv; j += 2) {
        t->P[0] = all.P[0] + j * VL * 4;
        t->scale[0] = all.scale[0] ? all.scale[0] + j * VL : 0;
        t->init[0] = all.init[0] + j * VL;
        t->C[0] = all.C[0] + j * VL;
        stored_rows(way, 1, (int)lmin(2, nv - j), rows, t->height.upper + t->height.lower, o, t);
    }
}

/* All operands by one block's panels, from row k of B on. */
INLINE void stored_panels(const stored_product *way, const rc_packed *B, int block, long k, long rows, int from,
                          const stored_operands *o, stored_tile *t, real *C) {
    const long panels = panel_count(B->N), most = way->tall ? 1 : rows == 1 ? PANELS_TOGETHER : rows <= 3 ? 2 : 1;
    const long all = stored_groups(way, B->K), tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    const real *bias = from == RC_FROM_BIAS ? packed_bias(B, block) : 0;
    for (long p = 0, together; p < panels; p += together) {
        const long nv = panel_vectors(B->N, p);
        together = most;
        while (p + together > panels || panel_vectors(B->N, p + together - 1) != nv) together /= 2;
        t->ldp = nv * VL * 4;
        for (long i = 0; i < together; i++) {
            const long begin = panel_vector(B->N, p + i) * VL;
            t->P[i] = (const char *)B->panels + block * stored_block(way, B) + all * begin * 4 + k / way->each * t->ldp;
            t->scale[i] = way->scaled ? stored_scales(way, B) + block * vectors_in(B->N) * VL + begin : 0;
            t->C[i] = C + B->block_at[block] + begin;
            t->init[i] = from == RC_FROM_ZERO ? zeros : bias ? bias + begin : t->C[i];
        }
        t->next = t->P[0];
        t->next_step = p + 1 < panels ? lmin(64, t->ldp / tiles) : 0;
        if (t->next_step) t->next += all * t->ldp + k / way->each * (panel_vectors(B->N, p + 1) - nv) * VL * 4;
        stored_columns(way, (int)together, (int)nv, rows, o, t);
    }
}

/* `halves`: A's rows are in 16 bits. */
INLINE void stored_blocks(const stored_product *way, const int halves, const rc_packed *B, int first, int last, long M,
                          const char *A, long lda, int from, real *C, long ldc) {
    const long size = halves ? 2 : sizeof(real);
    stored_operands o;
    _Alignas(64) char room[OPERAND_DEPTH * sizeof(real)];
    stored_tile t = {.ldc = ldc};
    for (long k = 0, depth; k < B->K; k += depth, from = RC_FROM_C) {
        depth = lmin(OPERAND_DEPTH, B->K - k);
        t.groups = stored_groups(way, depth);
        const long stride = stored_stride(way, t.groups);
        t.ldi = from == RC_FROM_C ? ldc : 0;
        for (long m = 0, rows; m < M; m += rows) {
            rows = lmin(lmin(OPERAND_ROWS, RNNCORE_OPERAND_BYTES / stride), M - m);
            if (m && rnncore_stopping()) return;
            const char *a = A + m * lda * size;
            const int ready = halves && are_operands(way, B, depth, rows);
            o.rows = ready ? (char *)a + (B->part_at[0] + k) * size : rnncore_operands();
            t.stride = ready ? lda * size : stride;
            for (long i = 0; i < (ready ? 0 : rows); i++, a += lda * size)
                if (halves)
                    way->operands_of_halves(stored_row(B, k, depth, a, size, room), depth, stride, &o, i);
                else
                    way->operands(stored_row(B, k, depth, a, size, room), depth, stride, &o, i);
            if (way->tall) rnncore_set_tiles(rnncore_deal_rows(rows));
            for (int block = first; block < last; block++) stored_panels(way, B, block, k, rows, from, &o, &t, C + m * ldc);
        }
    }
}

#define STORAGE_WAY(name, way)                                                                                         \
    static long name##_size(const rc_packed *B) { return B->blocks * stored_block(&way, B); }                          \
    static void name##_product(const rc_packed *B, int first, int last, long M, const void *A, long lda, int from,     \
                               void *C, long ldc) {                                                                    \
        stored_blocks(&way, 0, B, first, last, M, A, lda, from, C, ldc);                                               \
    }
#define PRODUCT_OF_HALVES(name, way)                                                                                   \
    static void name##_product_of_halves(const rc_packed *B, int first, int last, long M, const void *A, long lda,     \
                                         int from, void *C, long ldc) {                                                \
        stored_blocks(&way, 1, B, first, last, M, A, lda, from, C, ldc);                                               \
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

#include "rounded.h"

#include "bf16.h"
#include "amx.h"
#include "int8.h"

/* The first of a name that may be used is. */
static const rc_storage storages[] = {
#if defined(HAVE_TILES)
    {"bfloat16", "amx", amx_size, amx_pack, amx_product, 0},
    {"mixed_bfloat16", "amx", amx_size, amx_pack, amx_product, &amx_mixed},
#endif
#if defined(WITH_BF16)
    {"bfloat16", "bf16", bf16_dot_size, bf16_dot_pack, bf16_dot_product, 0},
    {"mixed_bfloat16", "bf16", bf16_dot_size, bf16_dot_pack, bf16_dot_product, &bf16_dot_mixed},
#endif
    {"bfloat16", 0, bf16_size, bf16_pack, bf16_product, 0},
    {"mixed_bfloat16", 0, rounded_size, rounded_pack, rounded_product, &rounded_mixed},
#if defined(HAVE_TILES)
    {"int8", "amx", int8_tall_size, int8_tall_pack, int8_tall_product, 0},
#endif
#if defined(WITH_VNNI)
    {"int8", "vnni", int8_dot_size, int8_dot_pack, int8_dot_product, 0},
#endif
    {"int8", 0, int8_size, int8_pack, int8_product, 0},
};

#endif
