/* Packed products: C = A·B with B packed once and used many times.
 *
 * C is computed in tiles of up to TILE_ROWS rows by TILE_VECTORS vectors that live in registers while k runs over
 * the whole inner dimension: one multiply-add chain per element. A row therefore has the same bits whatever tile,
 * thread or batch it falls in. For few rows see gemv.h.
 *
 * Shapes (rc_packed): A (M, K), row length lda; B (K, blocks·N), the blocks anywhere in W's rows or, transposed, W's
 * columns; C (M, ...), block b at column block_at[b], row length ldc. A and C may end in pads: K and N count numbers.
 * A panel is K rows of up to TILE_WIDTH numbers; all panels together are packed_size(B) numbers; bias: N rounded up to
 * whole vectors, per block. product_panel takes one panel of one block, product_block one block, product all of them.
 */
#ifndef RNNCORE_GEMM_H
#define RNNCORE_GEMM_H
#include "kernels.h"
#include "pool.h"
#include "vec.h"

#define TILE_ROWS 6
#define TILE_WIDTH (TILE_VECTORS * VL)
#define PANEL_DEPTH 1024   /* so much of a panel stays in the L2 cache while all rows pass */
#define WORTH_ASKING 100000 /* rows times depth of a panel: less is done before anybody wants to stop it */
#define WORTH_FETCHING 256 /* shorter tiles are done before what they ask for arrives */

#if defined(__GNUC__)
#define UNROLL _Pragma("GCC unroll 8")
#define UNROLL_TWO _Pragma("GCC unroll 2")
#define UNROLL_ALL _Pragma("GCC unroll 32")
#define PREFETCH(p) __builtin_prefetch(p)
#else
#define UNROLL
#define UNROLL_TWO
#define UNROLL_ALL
#define PREFETCH(p) ((void)0)
#endif
/* A use of x without an instruction. A multiply-add may put its sum where a factor was that nobody needs any more; gcc
 * does, and then moves the sums back at the end of each round. Factors that are needed until there stop it. */
#if defined(__GNUC__) && defined(__FMA__)
#define STILL_NEEDED(x) __asm__("" : : "v"(x))
#else
#define STILL_NEEDED(x) ((void)0)
#endif

static inline long lmin(long a, long b) { return a < b ? a : b; }
static inline long vectors_in(long n) { return (n + VL - 1) / VL; }

/* C[0:rows, 0:nv vectors] = init + A·B. `step` is the distance of A's successive k: 1, or TILE_ROWS when packed. */
INLINE void tile(const int rows, const int nv, const int packed_a, long K, const real *A, long lda, const real *B,
                 const real *init, long ldi, real *C, long ldc, const char *next, long next_step) {
    vec c[TILE_ROWS][TILE_VECTORS];
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < nv; j++) c[i][j] = vload(init + i * ldi + j * VL);
    UNROLL_TWO for (long k = 0; k < K; k++) {
        vec b[TILE_VECTORS];
        UNROLL for (int j = 0; j < nv; j++) b[j] = vload(B + j * VL);
        PREFETCH(next);
        UNROLL for (int i = 0; i < rows; i++) {
            vec a = vset1(packed_a ? A[k * TILE_ROWS + i] : A[i * lda + k]);
            UNROLL for (int j = 0; j < nv; j++) c[i][j] += a * b[j];
            STILL_NEEDED(a);
        }
        UNROLL for (int j = 0; j < nv; j++) STILL_NEEDED(b[j]);
        B += nv * VL;
        next += next_step;
    }
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < nv; j++) vstore(C + i * ldc + j * VL, c[i][j]);
}

typedef void (*tile_function)(long K, const real *A, long lda, const real *B, const real *init, long ldi, real *C,
                              long ldc, const char *next, long next_step);

#define TILE(rows, nv)                                                                                                 \
    static void tile_##rows##_##nv(long K, const real *A, long lda, const real *B, const real *init, long ldi,         \
                                   real *C, long ldc, const char *next, long next_step) {                              \
        tile(rows, nv, 0, K, A, lda, B, init, ldi, C, ldc, next, next_step);                                           \
    }                                                                                                                  \
    static void packed_tile_##rows##_##nv(long K, const real *A, long lda, const real *B, const real *init, long ldi,  \
                                          real *C, long ldc, const char *next, long next_step) {                       \
        tile(rows, nv, 1, K, A, lda, B, init, ldi, C, ldc, next, next_step);                                           \
    }
#define TILES_OF(tile, nv) tile(1, nv) tile(2, nv) tile(3, nv) tile(4, nv) tile(5, nv) tile(6, nv)
#define TILE_NAMES(prefix, nv)                                                                                         \
    prefix##_1_##nv, prefix##_2_##nv, prefix##_3_##nv, prefix##_4_##nv, prefix##_5_##nv, prefix##_6_##nv

TILES_OF(TILE, 1)
TILES_OF(TILE, 2)
#if TILE_VECTORS == 4
TILES_OF(TILE, 3)
TILES_OF(TILE, 4)
#define TILE_TABLE(prefix)                                                                                             \
    {{TILE_NAMES(prefix, 1)}, {TILE_NAMES(prefix, 2)}, {TILE_NAMES(prefix, 3)}, {TILE_NAMES(prefix, 4)}}
#else
#define TILE_TABLE(prefix) {{TILE_NAMES(prefix, 1)}, {TILE_NAMES(prefix, 2)}}
#endif
static const tile_function tiles[TILE_VECTORS][TILE_ROWS] = TILE_TABLE(tile);
static const tile_function packed_tiles[TILE_VECTORS][TILE_ROWS] = TILE_TABLE(packed_tile);

/* Tile heights without a thin last one: 7 rows are 4 + 3, not 6 + 1. */
static inline long tile_rows(long left) {
    if (left <= TILE_ROWS) return left;
    return left >= 2 * TILE_ROWS ? TILE_ROWS : (left + 1) / 2;
}

/* Columns are dealt to panels evenly: 5 vectors are 3 + 2, not 4 + 1. */
static inline long panels_of(long N, long widest) { return (vectors_in(N) + widest - 1) / widest; }
static inline long panel_start(long N, long widest, long panel) { /* its first vector */
    long vectors = vectors_in(N), panels = panels_of(N, widest);
    return panel * (vectors / panels) + lmin(panel, vectors % panels);
}
static inline long panel_count(long N) { return panels_of(N, TILE_VECTORS); }
static inline long panel_vector(long N, long panel) { return panel_start(N, TILE_VECTORS, panel); }
static inline long panel_vectors(long N, long panel) { return panel_vector(N, panel + 1) - panel_vector(N, panel); }

static long packed_size(const rc_packed *B) {
    if (B->storage) return (B->storage->size(B) + (long)sizeof(real) - 1) / (long)sizeof(real);
    return B->blocks * B->K * vectors_in(B->N) * VL;
}

static inline int by_block(const rc_packed *B) { return B->gemm || B->storage; } /* a block is one panel */

static void prepare(rc_packed *B) { B->panel_count = by_block(B) ? 1 : panel_count(B->N); }

static inline long panel_begin(const rc_packed *B, long p) { return by_block(B) ? 0 : panel_vector(B->N, p) * VL; }
static inline long panel_end(const rc_packed *B, long p) {
    return by_block(B) ? vectors_in(B->N) * VL : panel_vector(B->N, p + 1) * VL;
}
static inline real *packed_panel(const rc_packed *B, int block, long p) {
    return (real *)B->panels + (block * vectors_in(B->N) * VL + panel_begin(B, p)) * B->K;
}
static inline real *packed_bias(const rc_packed *B, int block) {
    return (real *)B->bias + block * vectors_in(B->N) * VL;
}

/* P[k, j] = W[j, k] for j < columns, k < depth. */
static void transpose_some(long columns, long depth, const real *W, long ldw, real *P, long ldp) {
    for (long j = 0; j < columns; j++)
        for (long k = 0; k < depth; k++) P[k * ldp + j] = W[j * ldw + k];
}

#if VL > 1 && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define HAVE_ZIP
#endif
#endif
#if defined(HAVE_ZIP)
/* The first and second half of a0 b0 a1 b1 a2 b2 ... */
#if VL == 16
#define ZIP_LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#elif VL == 8
#define ZIP_LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#elif VL == 4
#define ZIP_LOW(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#else
#define ZIP_LOW(a, b) __builtin_shufflevector(a, b, 0, 2)
#define ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 1, 3)
#endif

/* A VL x VL block in registers: log2(VL) rounds of zipping row i with row i + VL/2. */
static void transpose_block(const real *W, long ldw, real *P, long ldp) {
    vec a[VL], b[VL];
    UNROLL_ALL for (int i = 0; i < VL; i++) a[i] = vload(W + i * ldw);
    for (int round = 1; round < VL; round *= 2) {
        UNROLL_ALL for (int i = 0; i < VL / 2; i++) {
            b[2 * i] = (vec)ZIP_LOW(a[i], a[i + VL / 2]);
            b[2 * i + 1] = (vec)ZIP_HIGH(a[i], a[i + VL / 2]);
        }
        UNROLL_ALL for (int i = 0; i < VL; i++) a[i] = b[i];
    }
    UNROLL_ALL for (int i = 0; i < VL; i++) vstore(P + i * ldp, a[i]);
}
#else
static void transpose_block(const real *W, long ldw, real *P, long ldp) { transpose_some(VL, VL, W, ldw, P, ldp); }
#endif

#define PACK_AHEAD 12 /* rows of W that are fetched before they are packed */
#define LINE (64 / (long)sizeof(real)) /* numbers of a cache line */

static void pack_panel(const rc_packed *B, int block, long p) {
    long from = panel_begin(B, p), width = panel_end(B, p) - from, columns = lmin(width, B->N - from);
    real *P = packed_panel(B, block, p);
    if (!B->transposed) {
        const real *W = (const real *)B->W + block * B->N + from;
        for (long k = 0; k < B->K; k++, P += width) {
            for (long j = 0; j < columns; j += LINE) /* no hardware foresees rows so far apart */
                PREFETCH(W + lmin(k + PACK_AHEAD, B->K - 1) * B->ldw + j);
            for (long j = 0; j < columns; j++) P[j] = W[k * B->ldw + j];
            for (long j = columns; j < width; j++) P[j] = 0;
        }
        return;
    }
    const real *W = (const real *)B->W + from * B->ldw; /* row n of W becomes column n */
    const long whole_k = B->K / VL * VL, whole_j = columns / VL * VL;
    for (long k = 0; k < whole_k; k += VL) {
        for (long j = 0; j < whole_j; j += VL)
            transpose_block(W + j * B->ldw + k, B->ldw, P + k * width + j, width);
        transpose_some(columns - whole_j, VL, W + whole_j * B->ldw + k, B->ldw, P + k * width + whole_j, width);
    }
    transpose_some(columns, B->K - whole_k, W + whole_k, B->ldw, P + whole_k * width, width);
    for (long k = 0; k < B->K; k++)
        for (long j = columns; j < width; j++) P[k * width + j] = 0;
}

static void pack(rc_packed *B, const void *bias, long panel_from, long panel_to) {
    for (long i = panel_from; i < panel_to; i++) {
        int block = (int)(i / B->panel_count);
        long p = i % B->panel_count;
        if (B->storage)
            B->storage->pack(B, block);
        else if (!B->gemm)
            pack_panel(B, block, p);
        if (bias)
            for (long j = panel_begin(B, p); j < panel_end(B, p); j++)
                packed_bias(B, block)[j] = j < B->N ? ((const real *)bias)[block * B->N + j] : 0;
    }
}

#define MOST_VECTORS 16 /* of sums that start together */
static const real zeros[MOST_VECTORS * VL];

static void gemm_block(const rc_packed *B, int block, long M, const real *A, long lda, int from, real *C, long ldc) {
    const real *W = (const real *)B->W + (B->transposed ? 0 : block * B->N);
    if (from == RC_FROM_BIAS)
        for (long m = 0; m < M; m++) memcpy(C + m * ldc, packed_bias(B, block), B->N * sizeof(real));
    for (int i = 0; i < B->parts; i++) {
        B->gemm(0, B->transposed, M, B->N, B->part_K[i], A + B->part_at[i], lda, W, B->ldw,
                i > 0 || from != RC_FROM_ZERO, C, ldc);
        W += B->part_K[i] * (B->transposed ? 1 : B->ldw);
    }
}

/* One panel of one block: C[:, block_at + panel] = (0 | bias | C) + A·B[:, panel]. All rows pass by PANEL_DEPTH of its
 * rows before the next ones. */
static void product_panel(const rc_packed *B, int block, long p, long M, const real *A, long lda, int from, real *C,
                          long ldc) {
    if (B->storage) {
        B->storage->product(B, block, block + 1, M, A, lda, from, C, ldc);
        return;
    }
    C += B->block_at[block];
    if (B->gemm) {
        gemm_block(B, block, M, A, lda, from, C, ldc);
        return;
    }
    if (M * B->K >= WORTH_ASKING && rnncore_stopping()) return;
    const long begin = panel_begin(B, p), nv = panel_vectors(B->N, p);
    const real *P = packed_panel(B, block, p);
    const real *init = from == RC_FROM_ZERO ? zeros : from == RC_FROM_BIAS ? packed_bias(B, block) + begin : C + begin;
    long ldi = from == RC_FROM_C ? ldc : 0;
    /* Each tile fetches its share of what is multiplied by next, nv vectors for each k; or a line of what is packed. */
    const long step = lmin(nv * VL * (long)sizeof(real) / ((M + TILE_ROWS - 1) / TILE_ROWS), 64);
    const real *soon = B->soon ? (const real *)B->soon + begin : 0;
    long soon_lines = soon ? nv * VL / LINE : 0;
    C += begin;
    for (int part = 0; part < B->parts; part++) {
        for (long k = 0, depth; k < B->part_K[part]; k += depth) {
            depth = lmin(PANEL_DEPTH, B->part_K[part] - k);
            const real *a = A + B->part_at[part] + k;
            const char *next = (const char *)(P + depth * nv * VL);
            for (long m = 0, rows; m < M; m += rows, next += step * depth) {
                rows = tile_rows(M - m);
                if (ldi && depth >= WORTH_FETCHING) /* where the next tile starts from */
                    for (long i = m + rows; i < lmin(m + 2 * rows, M); i++)
                        for (long j = 0; j < nv; j++) PREFETCH(C + i * ldc + j * VL);
                const int packs = soon_lines-- > 0;
                const char *fetched = packs ? (const char *)(soon + k * B->ldw) : next;
                if (packs) soon += LINE;
                tiles[nv - 1][rows - 1](depth, a + m * lda, lda, P, init + m * ldi, ldi, C + m * ldc, ldc, fetched,
                                        packs ? B->ldw * (long)sizeof(real) : step);
            }
            P += depth * nv * VL;
            init = C;
            ldi = ldc;
        }
    }
}

#include "gemv.h"

static void product_block(const rc_packed *B, int block, long M, const real *A, long lda, int from, real *C,
                          long ldc) {
    if (M <= FEW_ROWS && !by_block(B)) {
        few_rows_block(B, block, M, A, lda, from, C + B->block_at[block], ldc);
        return;
    }
    for (long p = 0; p < B->panel_count; p++) product_panel(B, block, p, M, A, lda, from, C, ldc);
}

/* Blocks first to last - 1, of operands that are made once where B's storage wants others. */
static void product_blocks(const rc_packed *B, int first, int last, long M, const real *A, long lda, int from, real *C,
                           long ldc) {
    if (B->storage)
        B->storage->product(B, first, last, M, A, lda, from, C, ldc);
    else
        for (int block = first; block < last; block++) product_block(B, block, M, A, lda, from, C, ldc);
}

#define ROW_BLOCK 96 /* rows that stay in cache while all panels pass */

static void product(const rc_packed *B, long M, const void *A, long lda, int from, void *C, long ldc) {
    long rows = B->gemm ? M : ROW_BLOCK;
    for (long m = 0; m < M && !(m && rnncore_stopping()); m += rows)
        product_blocks(B, 0, B->blocks, lmin(rows, M - m), (const real *)A + m * lda, lda, from, (real *)C + m * ldc,
                       ldc);
}

#endif
