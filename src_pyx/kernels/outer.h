/* C = or += AᵀB, summed over the rows of a batch: weight gradients. Of B's columns some runs count, side by side in C.
 *
 * The batch is taken outer_depth() rows at a time. Of these rows B is packed into panels of OUTER_VECTORS vectors, one
 * panel at a time: it stays in the L1 cache while all of A passes, or, where C is large, in L2, so that C passes less
 * often. A is packed into columns of OUTER_ROWS numbers by the tiles of the first panel, on their way.
 *
 * Shapes: A (K, M), row length lda; B (K, ...), row length ldb, of which `runs` runs of columns count, N together; C
 * (M, N), row length ldc; run.sums (its count). With a_rows or b_rows (K), row k is row a_rows[k] of A, b_rows[k] of B.
 * scratch: outer_scratch(M, N) numbers. column_sums: A (rows, ...), sums (to - from).
 */
#ifndef RNNCORE_OUTER_H
#define RNNCORE_OUTER_H
#include "gemm.h"

#if TILE_VECTORS == 4
#define OUTER_ROWS 8 /* no thin last tile where sizes are whole vectors */
#define OUTER_VECTORS 3
#else
#define OUTER_ROWS TILE_ROWS
#define OUTER_VECTORS TILE_VECTORS
#endif
#define OUTER_WIDTH (OUTER_VECTORS * VL)
#define OUTER_DEPTH 128
#define OUTER_DEPTH_OF_LARGE 640
#define OUTER_LARGE (6 << 20) /* bytes of C */

/* One tile: `rows` columns of A against nv vectors of B. Packed rows of A are read from PA; with pack_a, row k is
 * read from A + at[k] and written to PA. */
INLINE void outer_tile(const int rows, const int nv, const int pack_a, long K, const real *A, const long *at, real *PA,
                       const real *PB, const real *init, long ldi, real *C, long ldc, const char *next,
                       long next_step) {
    vec c[OUTER_ROWS][OUTER_VECTORS];
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < nv; j++) c[i][j] = vload(init + i * ldi + j * VL);
    UNROLL_TWO for (long k = 0; k < K; k++) {
        const real *a_k = pack_a ? A + at[k] : PA;
        vec b[OUTER_VECTORS];
        UNROLL for (int j = 0; j < nv; j++) b[j] = vload(PB + j * VL);
        PREFETCH(next);
        if (pack_a) memcpy(PA, a_k, rows * sizeof(real));
        UNROLL for (int i = 0; i < rows; i++) {
            vec a = vset1(a_k[i]);
            UNROLL for (int j = 0; j < nv; j++) c[i][j] += a * b[j];
            STILL_NEEDED(a);
        }
        UNROLL for (int j = 0; j < nv; j++) STILL_NEEDED(b[j]);
        PA += OUTER_ROWS;
        PB += nv * VL;
        next += next_step;
    }
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < nv; j++) vstore(C + i * ldc + j * VL, c[i][j]);
}

typedef void (*outer_function)(long K, const real *A, const long *at, real *PA, const real *PB, const real *init,
                               long ldi, real *C, long ldc, const char *next, long next_step);
#define OUTER_TILE(name, rows, nv, pack_a)                                                                             \
    static void name##_##rows##_##nv(long K, const real *A, const long *at, real *PA, const real *PB,                  \
                                     const real *init, long ldi, real *C, long ldc, const char *next,                  \
                                     long next_step) {                                                                 \
        outer_tile(rows, nv, pack_a, K, A, at, PA, PB, init, ldi, C, ldc, next, next_step);                            \
    }
#define OUTER_PAIR(rows, nv) OUTER_TILE(outer_tile, rows, nv, 0) OUTER_TILE(outer_tile_packing, rows, nv, 1)
#if OUTER_ROWS == 8
#define OUTER_TILES(nv) TILES_OF(OUTER_PAIR, nv) OUTER_PAIR(7, nv) OUTER_PAIR(8, nv)
#define OUTER_NAMES(prefix, nv) {TILE_NAMES(prefix, nv), prefix##_7_##nv, prefix##_8_##nv}
#else
#define OUTER_TILES(nv) TILES_OF(OUTER_PAIR, nv)
#define OUTER_NAMES(prefix, nv) {TILE_NAMES(prefix, nv)}
#endif
OUTER_TILES(1)
OUTER_TILES(2)
#if OUTER_VECTORS == 3
OUTER_TILES(3)
#define OUTER_TABLE(prefix) {OUTER_NAMES(prefix, 1), OUTER_NAMES(prefix, 2), OUTER_NAMES(prefix, 3)}
#else
#define OUTER_TABLE(prefix) {OUTER_NAMES(prefix, 1), OUTER_NAMES(prefix, 2)}
#endif
static const outer_function outer_tiles[2][OUTER_VECTORS][OUTER_ROWS] = {OUTER_TABLE(outer_tile),
                                                                         OUTER_TABLE(outer_tile_packing)};

static inline long outer_depth(long M, long N) {
    return M * N * (long)sizeof(real) < OUTER_LARGE ? OUTER_DEPTH : OUTER_DEPTH_OF_LARGE;
}

static long outer_scratch(long M, long N) { return outer_depth(M, N) * (M + OUTER_ROWS + OUTER_WIDTH) + 64; }

/* P = a panel of nv vectors of B (whose rows are padded), and the sums of its columns added to `sums`. */
INLINE void pack_panel_of_nv(const int nv, long K, const real *B, const long *at, real *P, real *sums) {
    vec sum[OUTER_VECTORS];
    UNROLL for (int j = 0; j < nv; j++) sum[j] = vload(sums + j * VL);
    for (long k = 0; k < K; k++, P += nv * VL) {
        UNROLL for (int j = 0; j < nv; j++) {
            vec b = vload(B + at[k] + j * VL);
            vstore(P + j * VL, b);
            sum[j] += b;
        }
    }
    UNROLL for (int j = 0; j < nv; j++) vstore(sums + j * VL, sum[j]);
}

static void pack_panel_of_B(long nv, long K, const real *B, const long *at, real *P, real *sums) {
    switch (nv) {
    case 1: pack_panel_of_nv(1, K, B, at, P, sums); break;
    case 2: pack_panel_of_nv(2, K, B, at, P, sums); break;
    default: pack_panel_of_nv(OUTER_VECTORS, K, B, at, P, sums);
    }
}

static void gemm_outer(long M, long N, long K, const real *A, long lda, const int64_t *a_rows, const real *B, long ldb,
                       const int64_t *b_rows, int accumulate, real *C, long ldc, rc_gemm gemm) {
    if (!a_rows && !b_rows) {
        gemm(1, 0, M, N, K, A, lda, B, ldb, accumulate, C, ldc);
        return;
    }
    for (long k0 = 0, k1; k0 < K || (k0 == 0 && !accumulate); k0 = k1) { /* runs of consecutive rows */
        for (k1 = k0 + 1; k1 < K && (!a_rows || a_rows[k1] == a_rows[k0] + k1 - k0) &&
                          (!b_rows || b_rows[k1] == b_rows[k0] + k1 - k0);
             k1++) {}
        k1 = lmin(k1, K);
        gemm(1, 0, M, N, k1 - k0, A + (K ? (a_rows ? a_rows[k0] : k0) : 0) * lda, lda,
             B + (K ? (b_rows ? b_rows[k0] : k0) : 0) * ldb, ldb, accumulate || k0, C, ldc);
        if (K == 0) break;
    }
}

/* sums[from:to] = or += column sums of A, one chain per column */
static void column_sums(long rows, long from, long to, const void *A, long lda, int accumulate,
                        void *sums) {
    real *s = sums;
    if (!accumulate)
        for (long j = from; j < to; j++) s[j] = 0;
    for (long r = 0; r < rows; r++)
        for (long j = from; j < to; j++) s[j] += ((const real *)A)[r * lda + j];
}

/* One panel of nv vectors: where its columns begin in B and in C, how many there are, where their sums go or NULL, and
 * what is packed after it. */
typedef struct {
    long nv, at_B, at_C, columns;
    real *sums;
    const real *next_B;
} outer_place;

/* A panel of columns of C from `depth` rows of the batch. `next_A`: the rows that follow, where this is the last panel
 * and there are as many; or NULL. */
static void outer_panel(const outer_place *place, int pack_a, long M, long depth, const real *A, const long *a_at,
                        long lda, const real *next_A, real *PA, const real *B, const long *b_at, long ldb, real *PB,
                        int from_c, real *C, long ldc) {
    const long nv = place->nv, width = nv * VL, columns = place->columns;
    real total[OUTER_WIDTH] = {0};
    C += place->at_C;
    if (place->sums && from_c) memcpy(total, place->sums, columns * sizeof(real));
    pack_panel_of_B(nv, depth, B + place->at_B, b_at, PB, total);
    if (place->sums) memcpy(place->sums, total, columns * sizeof(real));
    for (long m = 0, rows; m < M; m += rows) {
        rows = lmin(OUTER_ROWS, M - m);
        /* Tiles fetch what is packed next, a column of cache lines each: first of B, then of A. */
        const long line = m / OUTER_ROWS;
        const char *next = (const char *)PB;
        long step = 0;
        if (line < nv && place->next_B) {
            next = (const char *)(place->next_B + line * VL);
            step = ldb * (long)sizeof(real);
        } else if (next_A && line >= nv && (line - nv) * VL < M) {
            next = (const char *)(next_A + (line - nv) * VL);
            step = lda * (long)sizeof(real);
        }
        const outer_function f = outer_tiles[pack_a][nv - 1][rows - 1];
        real *c = C + m * ldc;
        if (from_c)
            for (long i = 0; i < lmin(OUTER_ROWS, M - m - rows); i++) /* the next tile of C */
                for (long j = 0; j < nv; j++) PREFETCH(c + (rows + i) * ldc + j * VL);
        if (columns == width) {
            f(depth, A + m, a_at, PA + m * depth, PB, from_c ? c : zeros, from_c ? ldc : 0, c, ldc, next, step);
            continue;
        }
        real edge[OUTER_ROWS * OUTER_WIDTH] = {0}; /* the rows of C are not padded: finish them by hand */
        if (from_c)
            for (long i = 0; i < rows; i++) memcpy(edge + i * width, c + i * ldc, columns * sizeof(real));
        f(depth, A + m, a_at, PA + m * depth, PB, edge, width, edge, width, next, step);
        for (long i = 0; i < rows; i++) memcpy(c + i * ldc, edge + i * width, columns * sizeof(real));
    }
}

/* All panels from `depth` rows of the batch. `soon`: as many rows follow. */
static void outer_rows(long M, long depth, const real *A, const long *a_at, long lda, real *PA, const real *B,
                       const long *b_at, long ldb, real *PB, int runs, const rc_columns *run, int soon, int from_c,
                       real *C, long ldc) {
    outer_place place = {0};
    long at_C = 0;
    for (int r = 0; r < runs; at_C += run[r++].count) {
        const long panels = panels_of(run[r].count, OUTER_VECTORS);
        for (long p = 0; p < panels; p++) {
            const long first = panel_start(run[r].count, OUTER_VECTORS, p) * VL;
            const long end = panel_start(run[r].count, OUTER_VECTORS, p + 1) * VL;
            const int last = p + 1 == panels && r + 1 == runs;
            place.nv = (end - first) / VL;
            place.at_B = run[r].at + first;
            place.at_C = at_C + first;
            place.columns = lmin(end, run[r].count) - first;
            place.sums = run[r].sums ? (real *)run[r].sums + first : 0;
            place.next_B = B + b_at[0] + (p + 1 < panels ? run[r].at + end : run[last ? 0 : r + 1].at);
            if (last) place.next_B = soon ? place.next_B + depth * ldb : 0;
            outer_panel(&place, r == 0 && p == 0, M, depth, A, a_at, lda,
                        last && soon ? A + a_at[0] + depth * lda : 0, PA, B, b_at, ldb, PB, from_c, C, ldc);
        }
    }
}

/* C = or += AᵀB over K rows, row k being a_rows[k] of A and b_rows[k] of B (or k itself); likewise the sums of those
 * columns of B where they are wanted. */
static void outer(long M, long K, const void *A, long lda, const int64_t *a_rows, const void *B, long ldb,
                  const int64_t *b_rows, int runs, const rc_columns *run, int accumulate, void *C_, long ldc,
                  rc_gemm gemm, void *scratch) {
    real *C = C_;
    long N = 0;
    for (int r = 0; r < runs; r++) {
        if (gemm) {
            const real *b = (const real *)B + run[r].at;
            gemm_outer(M, run[r].count, K, A, lda, a_rows, b, ldb, b_rows, accumulate, C + N, ldc, gemm);
            for (long k = 0; run[r].sums && k < K; k++)
                column_sums(1, 0, run[r].count, b + (b_rows ? b_rows[k] : k) * ldb, ldb, accumulate || k > 0, run[r].sums);
        }
        if (run[r].sums && K == 0) column_sums(0, 0, run[r].count, B, ldb, accumulate, run[r].sums);
        N += run[r].count;
    }
    if (gemm) return;
    if (K == 0 && !accumulate)
        for (long m = 0; m < M; m++) memset(C + m * ldc, 0, N * sizeof(real));
    const long most = outer_depth(M, N);
    real *PB = scratch, *PA = PB + most * OUTER_WIDTH;
    long a_at[OUTER_DEPTH_OF_LARGE], b_at[OUTER_DEPTH_OF_LARGE];
    for (long k0 = 0, depth; k0 < K; k0 += depth) {
        depth = lmin(most, K - k0);
        if (rnncore_stopping()) return;
        for (long k = 0; k < depth; k++) {
            a_at[k] = (a_rows ? a_rows[k0 + k] : k0 + k) * lda;
            b_at[k] = (b_rows ? b_rows[k0 + k] : k0 + k) * ldb;
        }
        outer_rows(M, depth, A, a_at, lda, PA, B, b_at, ldb, PB, runs, run, k0 + 2 * depth <= K, accumulate || k0 > 0, C,
                   ldc);
    }
}

#endif
