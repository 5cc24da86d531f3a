/* C = or += AᵀB, summed over the rows of a batch: weight gradients.
 *
 * The batch is taken OUTER_DEPTH rows at a time. Of these rows A is packed into columns of OUTER_ROWS numbers and B
 * into panels of OUTER_VECTORS vectors, one panel at a time: it fills the L1 cache while all of A passes. Where B has
 * few panels, packing A beforehand would cost as much as many tiles: the first panel's tiles do it on their way.
 */
#ifndef RNNCORE_OUTER_H
#define RNNCORE_OUTER_H
#include "product.h"

#if TILE_VECTORS == 4
#define OUTER_ROWS 8 /* no thin last tile where sizes are whole vectors */
#define OUTER_VECTORS 3
#else
#define OUTER_ROWS TILE_ROWS
#define OUTER_VECTORS TILE_VECTORS
#endif
#define OUTER_WIDTH (OUTER_VECTORS * VL)
#define OUTER_DEPTH 192
#define FEW_PANELS 12

/* One tile: `rows` columns of A against nv vectors of B. Packed rows of A are read from PA; with pack_a, row k is
 * read from A + at[k] and written to PA. */
INLINE void outer_tile(const int rows, const int nv, const int pack_a, long K, const real *A, const long *at, real *PA,
                       const real *PB, const real *init, long ldi, real *C, long ldc, const char *next,
                       long next_step) {
    vec c[OUTER_ROWS][OUTER_VECTORS];
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < nv; j++) c[i][j] = vload(init + i * ldi + j * VL);
    for (long k = 0; k < K; k++) {
        const real *a_k = pack_a ? A + at[k] : PA;
        vec b[OUTER_VECTORS];
        UNROLL for (int j = 0; j < nv; j++) b[j] = vload(PB + j * VL);
        PREFETCH(next);
        if (pack_a) memcpy(PA, a_k, rows * sizeof(real));
        UNROLL for (int i = 0; i < rows; i++) {
            vec a = vset1(a_k[i]);
            UNROLL for (int j = 0; j < nv; j++) c[i][j] += a * b[j];
        }
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

static long outer_scratch(long M) { return OUTER_DEPTH * (M + OUTER_ROWS + OUTER_WIDTH) + 64; }

/* P = K rows of A, the first of which is rows[first] (or `first`), `height` columns at a time. */
INLINE void pack_columns(const int height, long M, long K, const real *A, long lda, const int64_t *rows, long first,
                         real *P) {
    for (long k0 = 0; k0 < K; k0 += 16) { /* a few rows at a time: reads stay in cache, writes are whole lines */
        long k1 = lmin(k0 + 16, K), m = 0;
        real *q = P;
        for (; m + height <= M; m += height, q += K * height)
            for (long k = k0; k < k1; k++)
                memcpy(q + k * height, A + (rows ? rows[first + k] : first + k) * lda + m, height * sizeof(real));
        for (long k = k0; k < k1; k++)
            for (long i = 0; m + i < M; i++)
                q[k * height + i] = A[(rows ? rows[first + k] : first + k) * lda + m + i];
    }
}

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

/* A panel of columns of C from `depth` rows of the batch. `soon`: as many rows follow. */
static void outer_panel(long p, int pack_a, long M, long N, long depth, const real *A, const long *a_at, long lda,
                        real *PA, const real *B, const long *b_at, long ldb, real *PB, int from_c, int soon, real *C,
                        long ldc, real *sums) {
    const long first = panel_start(N, OUTER_VECTORS, p), nv = panel_start(N, OUTER_VECTORS, p + 1) - first;
    const long begin = first * VL, width = nv * VL, columns = lmin(width, N - begin);
    real total[OUTER_WIDTH] = {0};
    if (sums && from_c) memcpy(total, sums + begin, columns * sizeof(real));
    pack_panel_of_B(nv, depth, B + begin, b_at, PB, total);
    if (sums) memcpy(sums + begin, total, columns * sizeof(real));
    /* Tiles fetch what is packed next, a column of cache lines each: first of B, then of A. */
    const int last = p + 1 == panels_of(N, OUTER_VECTORS);
    const real *soon_B = B + (last ? b_at[0] + depth * ldb : b_at[0] + begin + width);
    const real *soon_A = A + a_at[0] + depth * lda;
    for (long m = 0, rows; m < M; m += rows) {
        rows = lmin(OUTER_ROWS, M - m);
        const long line = m / OUTER_ROWS;
        const char *next = (const char *)PB;
        long step = 0;
        if (line < nv && (!last || soon)) {
            next = (const char *)(soon_B + line * VL);
            step = ldb * (long)sizeof(real);
        } else if (last && soon && line >= nv && (line - nv) * VL < M) {
            next = (const char *)(soon_A + (line - nv) * VL);
            step = lda * (long)sizeof(real);
        }
        const outer_function f = outer_tiles[pack_a][nv - 1][rows - 1];
        real *c = C + m * ldc + begin;
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

/* C = or += AᵀB over K rows, row k being a_rows[k] of A and b_rows[k] of B (or k itself); `sums` the same for the
 * column sums of B, where they are wanted. */
static void outer(long M, long N, long K, const void *A, long lda, const int64_t *a_rows, const void *B, long ldb,
                  const int64_t *b_rows, int accumulate, void *C_, long ldc, void *sums, rc_gemm gemm, void *scratch) {
    real *C = C_;
    if (gemm) {
        gemm_outer(M, N, K, A, lda, a_rows, B, ldb, b_rows, accumulate, C, ldc, gemm);
        if (sums) column_sums(K, 0, N, B, ldb, accumulate, sums);
        return;
    }
    if (K == 0 && !accumulate) {
        for (long m = 0; m < M; m++) memset(C + m * ldc, 0, N * sizeof(real));
        if (sums) memset(sums, 0, N * sizeof(real));
    }
    real *PB = scratch, *PA = PB + OUTER_DEPTH * OUTER_WIDTH;
    long a_at[OUTER_DEPTH], b_at[OUTER_DEPTH];
    const long panels = panels_of(N, OUTER_VECTORS);
    for (long k0 = 0, depth; k0 < K; k0 += depth) {
        depth = lmin(OUTER_DEPTH, K - k0);
        for (long k = 0; k < depth; k++) {
            a_at[k] = (a_rows ? a_rows[k0 + k] : k0 + k) * lda;
            b_at[k] = (b_rows ? b_rows[k0 + k] : k0 + k) * ldb;
        }
        if (panels > FEW_PANELS) pack_columns(OUTER_ROWS, M, depth, A, lda, a_rows, k0, PA);
        for (long p = 0; p < panels; p++)
            outer_panel(p, p == 0 && panels <= FEW_PANELS, M, N, depth, A, a_at, lda, PA, B, b_at, ldb, PB,
                        accumulate || k0 > 0, k0 + 2 * depth <= K, C, ldc, sums);
    }
}

#endif
