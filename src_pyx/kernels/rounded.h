/* Numbers rounded to bfloat16: how they are packed, and weight gradients of them (mixed precision). Part of storage.h.
 *
 *   x̂ = x to the nearest of the numbers that are the upper half of a float32, ties to even
 *   C (M, N) = (0 | C) + ÂᵀB̂, over rows of a batch; sums over B's columns are of the numbers as they are
 *
 * A weight gradient is a product like others: columns of A, turned, are its operands, rows of B its panels, OUTER_BYTES of
 * operands at a time.
 */
#ifndef RNNCORE_ROUNDED_H
#define RNNCORE_ROUNDED_H
#include "halves.h"

/* How rounded numbers stand in 32 bits: one alone, or two of bfloat16, which some processors make by an instruction. */
enum { ALONE, PAIRS, FAST_PAIRS };
#define EACH(form) ((form) == ALONE ? 1 : 2)

#if defined(WITH_BF16)
#define FASTEST_PAIRS FAST_PAIRS
/* `low`, then `high`, in bfloat16; denormal numbers as zeros. By name, so that functions of any target can have it. */
INLINE __m512i fast_halves(vec low, vec high) {
    __m512i halves;
    __asm__("vcvtne2ps2bf16 %2, %1, %0" : "=v"(halves) : "v"(high), "v"(low));
    return halves;
}
INLINE ivec fast_pairs(vec first, vec second) {
    static const uint16_t order[32] = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23,
                                       8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return (ivec)_mm512_permutexvar_epi16(_mm512_loadu_si512(order), fast_halves(first, second));
}
#else
#define FASTEST_PAIRS PAIRS
#endif

/* The words of a group, column after column. */
INLINE ivec group_words(const int form, const vec *x) {
#if defined(WITH_BF16)
    if (form == FAST_PAIRS) return fast_pairs(x[0], x[1]);
#endif
    const ivec first = vbits(vround_bf16(x[0]));
    if (form == ALONE) return first;
    return (ivec)(ishr(first, 16) | (vbits(vround_bf16(x[1])) & iset1((sint)0xffff0000)));
}
INLINE void store_words(char *to, ivec words) { memcpy(to, &words, sizeof words); }

/* Where row k lies: at + at[k], or k rows of ld numbers after the first. */
#define ROW(A, at, ld, k) ((A) + ((at) ? (at)[k] : (k) * (ld)))

/* One group's row of a panel: of rows k and, for pairs, k + 1 where it is less than `depth`. */
INLINE void pack_group(const int form, const int nv, const int whole, long k, long depth, long columns, const real *B,
                       const long *at, long ldb, char *P, vec *sum) {
    const real *first = ROW(B, at, ldb, k), *second = k + 1 < depth ? ROW(B, at, ldb, k + 1) : 0;
    UNROLL for (int j = 0; j < nv; j++) {
        vec x[2];
        x[0] = whole ? vload(first + j * VL) : vload_some(first + j * VL, columns - j * VL);
        sum[j] += x[0];
        if (form != ALONE) {
            x[1] = !second ? vset1(0) : whole ? vload(second + j * VL) : vload_some(second + j * VL, columns - j * VL);
            sum[j] += x[1];
        }
        store_words(P + j * VL * 4, group_words(form, x));
    }
}

INLINE void pack_words_of(const int form, const int nv, long groups, long depth, long columns, const real *B,
                          const long *at, long ldb, char *P, real *sums) {
    const int each = EACH(form), whole = columns >= nv * VL;
    const long full = depth / each, some = (depth + each - 1) / each;
    vec sum[TILE_VECTORS];
    UNROLL for (int j = 0; j < nv; j++) sum[j] = sums ? vload(sums + j * VL) : vset1(0);
    if (whole)
        for (long g = 0; g < full; g++, P += nv * VL * 4)
            pack_group(form, nv, 1, g * each, depth, columns, B, at, ldb, P, sum);
    for (long g = whole ? full : 0; g < some; g++, P += nv * VL * 4)
        pack_group(form, nv, 0, g * each, depth, columns, B, at, ldb, P, sum);
    memset(P, 0, (groups - some) * nv * VL * 4);
    if (sums) UNROLL for (int j = 0; j < nv; j++) vstore(sums + j * VL, sum[j]);
}

/* P = the words of `depth` rows of nv vectors, of which `columns` numbers are there; zeros up to `groups`. The sums of the
 * columns are added to `sums`, or NULL. */
INLINE void pack_words(const int form, long groups, long depth, long nv, long columns, const real *B, const long *at,
                       long ldb, char *P, real *sums) {
    switch (nv) {
    case 1: pack_words_of(form, 1, groups, depth, columns, B, at, ldb, P, sums); break;
#if TILE_VECTORS == 4
    case 2: pack_words_of(form, 2, groups, depth, columns, B, at, ldb, P, sums); break;
    case 3: pack_words_of(form, 3, groups, depth, columns, B, at, ldb, P, sums); break;
#endif
    default: pack_words_of(form, TILE_VECTORS, groups, depth, columns, B, at, ldb, P, sums);
    }
}

/* The same of a matrix that lies transposed: number (k, j) is W[j·ldw + k]. */
INLINE void pack_transposed_words(const int form, long groups, long depth, long nv, long columns, const real *W,
                                  long ldw, char *P) {
    const int each = EACH(form);
    enum { ROWS = VL > 1 ? VL : 2 };
    for (long k = 0; k < groups * each; k += ROWS)
        for (long j = 0; j < nv; j++) {
            real block[ROWS * VL], turned[ROWS * VL];
            const real *from = W + j * VL * ldw + k;
            if (VL > 1 && (j + 1) * VL <= columns && k + ROWS <= depth)
                transpose_block(from, ldw, turned, VL);
            else {
                for (int i = 0; i < VL; i++)
                    for (int part = 0; part < ROWS; part += VL)
                        vstore(block + i * ROWS + part, vload_some(from + i * ldw + part,
                                                                   j * VL + i < columns ? depth - k - part : 0));
                if (VL > 1)
                    transpose_block(block, VL, turned, VL);
                else
                    memcpy(turned, block, sizeof turned);
            }
            for (long g = k / each, e = 0; e < ROWS && g < groups; e += each, g++) {
                const vec x[2] = {vload(turned + e * VL), vload(turned + (e + each - 1) * VL)};
                store_words(P + (g * nv + j) * VL * 4, group_words(form, x));
            }
        }
}

INLINE void pack_rounded(const stored_product *way, const int form, const rc_packed *B, int block) {
    const long groups = stored_groups(way, B->K);
    for (long p = 0; p < panel_count(B->N); p++) {
        const long begin = panel_vector(B->N, p) * VL, nv = panel_vectors(B->N, p);
        char *P = (char *)B->panels + block * stored_block(way, B) + groups * begin * 4;
        const real *W = (const real *)B->W + (B->transposed ? begin * B->ldw : block * B->N + begin);
        if (B->transposed)
            pack_transposed_words(form, groups, B->K, nv, B->N - begin, W, B->ldw, P);
        else
            pack_words(form, groups, B->K, nv, B->N - begin, W, 0, B->ldw, P, 0);
    }
}

/* What a way of mixed precision has beside its products: weight gradients, and rows in 16 bits. */
#define OUTER_OF(name, ...)                                                                                            \
    static void name(long M, long K, const void *A, long lda, const int64_t *a_rows, const void *B, long ldb,          \
                     const int64_t *b_rows, int runs, const rc_columns *run, int accumulate, void *C, long ldc,        \
                     rc_gemm gemm, void *scratch) {                                                                    \
        (void)gemm;                                                                                                    \
        __VA_ARGS__;                                                                                                   \
    }
/* The same of rows that are in 16 bits, nv whole vectors of them. */
INLINE void pack_halves_of(const int form, const int nv, long groups, long depth, const uint16_t *B, const long *at,
                           char *P, real *sums) {
    static const uint16_t none[TILE_WIDTH];
    const int each = EACH(form);
    vec sum[TILE_VECTORS];
    UNROLL for (int j = 0; j < nv; j++) sum[j] = vset1(0);
    for (long k = 0; k < groups * each; k += each, P += nv * VL * 4) {
        const uint16_t *first = k < depth ? B + at[k] : none, *second = k + 1 < depth ? B + at[k + 1] : none;
        UNROLL for (int j = 0; j < nv; j++) {
            const ivec low = load_halves(first + j * VL), high = ishl(load_halves(second + j * VL), 16);
            store_words(P + j * VL * 4, form == ALONE ? ishl(low, 16) : (ivec)(low | high));
            if (!sums) continue;
            sum[j] += vfrom_bits(ishl(low, 16));
            if (form != ALONE) sum[j] += vfrom_bits(high);
        }
    }
    if (sums) UNROLL for (int j = 0; j < nv; j++) vstore(sums + j * VL, vload(sums + j * VL) + sum[j]);
}
#define PACK_HALVES(nv)                                                                                                \
    case nv:                                                                                                           \
        if (sums)                                                                                                      \
            pack_halves_of(form, nv, groups, depth, B, at, P, sums);                                                   \
        else                                                                                                           \
            pack_halves_of(form, nv, groups, depth, B, at, P, 0);                                                      \
        break;
INLINE void pack_halves(const int form, long groups, long depth, long nv, const uint16_t *B, const long *at, char *P,
                        real *sums) {
    switch (nv) {
        PACK_HALVES(1)
        PACK_HALVES(2)
#if TILE_VECTORS == 4
        PACK_HALVES(3)
        PACK_HALVES(4)
#endif
    }
}

/* Operands of A's columns, `depth` rows at A + at[k]: row m has the words of column m. Room for whole vectors of rows. */
INLINE void column_operands(const int form, long groups, long depth, long columns, const real *A, const long *at,
                            long stride, char *out) {
    const int each = EACH(form);
    for (long m = 0; m < columns; m += VL)
        for (long g = 0; g < groups; g += VL) {
            real words[VL * VL];
            const int whole = m + VL <= columns && (g + VL) * each <= depth;
            if (whole)
                UNROLL_ALL for (int i = 0; i < VL; i++) {
                    const long k = (g + i) * each;
                    const vec x[2] = {vload(A + at[k] + m), vload(A + at[k + each - 1] + m)};
                    store_words((char *)(words + i * VL), group_words(form, x));
                }
            for (int i = 0; i < (whole ? 0 : VL); i++) {
                vec x[2] = {vset1(0), vset1(0)};
                for (int e = 0; e < each; e++) {
                    const long k = (g + i) * each + e;
                    if (k < depth) x[e] = vload_some(A + at[k] + m, columns - m);
                }
                store_words((char *)(words + i * VL), group_words(form, x));
            }
            transpose_block(words, VL, (real *)(out + m * stride) + g, stride / 4);
        }
}

#define OUTER_MOST 1024
#define OUTER_BYTES (1 << 20) /* of operands */
static inline long stored_depth(const stored_product *way, long M) {
    const long most = way->each == 1 ? 256 : OUTER_MOST; /* a panel of float32 shares the L2 cache with them */
    return lmin(most, OUTER_BYTES / (way->bytes * M) / 256 * 256 + 256);
}
static inline long stored_outer_operands(const stored_product *way, long M) { /* bytes; tall tiles read on */
    return stored_stride(way, stored_groups(way, stored_depth(way, M))) * (vectors_in(M) * VL + 32);
}
static long stored_outer_scratch(const stored_product *way, long M) { /* numbers */
    return (stored_outer_operands(way, M) + stored_groups(way, stored_depth(way, M)) * TILE_WIDTH * 4) / 4 + 64;
}

/* A panel of C's columns: edge columns are finished by hand, as rows of C are not padded. */
INLINE void stored_outer_panel(const stored_product *way, long M, long nv, long columns, const char *PA, stored_tile *t,
                               const char *PB, int from_c, real *C, long ldc) {
    enum { ROWS = 64 };
    real edge[ROWS * TILE_WIDTH];
    stored_operands o;
    const int whole = columns == nv * VL;
    t->ldp = nv * VL * 4;
    for (long m = 0, rows; m < M; m += rows) {
        rows = whole ? M : lmin(ROWS, M - m);
        o.rows = (char *)PA + m * t->stride;
        t->P[0] = t->next = PB;
        t->C[0] = whole ? C : edge;
        t->ldc = whole ? ldc : TILE_WIDTH;
        t->init[0] = from_c ? t->C[0] : zeros;
        t->ldi = from_c ? t->ldc : 0;
        for (long i = 0; i < (whole || !from_c ? 0 : rows); i++) {
            memset(edge + i * TILE_WIDTH, 0, sizeof(real) * TILE_WIDTH);
            memcpy(edge + i * TILE_WIDTH, C + (m + i) * ldc, columns * sizeof(real));
        }
        if (way->tall) rnncore_set_tiles(rnncore_deal_rows(rows));
        stored_columns(way, 1, (int)nv, rows, &o, t);
        for (long i = 0; i < (whole ? 0 : rows); i++)
            memcpy(C + (m + i) * ldc, edge + i * TILE_WIDTH, columns * sizeof(real));
    }
}

/* outer() of rounded numbers, in pairs; sums are of the numbers as they lie there. `halves`: B's rows are in 16 bits. */
INLINE void stored_outer(const stored_product *way, const int form, const int halves, long M, long K, const real *A,
                         long lda, const int64_t *a_rows, const void *B, long ldb, const int64_t *b_rows, int runs,
                         const rc_columns *run, int accumulate, real *C, long ldc, char *PA) {
    char *PB = PA + stored_outer_operands(way, M);
    long a_at[OUTER_MOST], b_at[OUTER_MOST];
    if (K == 0) {
        outer(M, K, A, lda, a_rows, B, ldb, b_rows, runs, run, accumulate, C, ldc, 0, PA);
        return;
    }
    for (long k0 = 0, depth; k0 < K; k0 += depth) {
        depth = lmin(stored_depth(way, M), K - k0);
        if (rnncore_stopping()) return;
        for (long k = 0; k < depth; k++) {
            a_at[k] = (a_rows ? a_rows[k0 + k] : k0 + k) * lda;
            b_at[k] = (b_rows ? b_rows[k0 + k] : k0 + k) * ldb;
        }
        stored_tile t = {.groups = stored_groups(way, depth)};
        t.stride = stored_stride(way, t.groups);
        column_operands(form, t.groups, depth, M, A, a_at, t.stride, PA);
        const int from_c = accumulate || k0 > 0;
        long at_C = 0;
        for (int r = 0; r < runs; at_C += run[r++].count)
            for (long p = 0; p < panel_count(run[r].count); p++) {
                const long begin = panel_vector(run[r].count, p) * VL, nv = panel_vectors(run[r].count, p);
                const long columns = lmin(nv * VL, run[r].count - begin);
                real total[TILE_WIDTH] = {0}, *sums = run[r].sums ? (real *)run[r].sums + begin : 0;
                if (sums && from_c) memcpy(total, sums, columns * sizeof(real));
                const long first = run[r].at + begin;
                if (halves)
                    pack_halves(form, t.groups, depth, nv, (const uint16_t *)B + first, b_at, PB, sums ? total : 0);
                else
                    pack_words(form, t.groups, depth, nv, nv * VL, (const real *)B + first, b_at, 0, PB, sums ? total : 0);
                if (sums) memcpy(sums, total, columns * sizeof(real));
                stored_outer_panel(way, M, nv, columns, PA, &t, PB, from_c, C + at_C + begin, ldc);
            }
    }
}

#define MIXED_WAY(name, way, form, fast)                                                                               \
    OUTER_OF(name##_outer, stored_outer(&way, form, 0, M, K, A, lda, a_rows, B, ldb, b_rows, runs, run, accumulate, C, \
                                        ldc, scratch))                                                                 \
    OUTER_OF(name##_outer_of_halves, stored_outer(&way, form, 1, M, K, A, lda, a_rows, B, ldb, b_rows, runs, run,      \
                                                  accumulate, C, ldc, scratch))                                        \
    static long name##_outer_scratch(long M, long N) {                                                                 \
        (void)N;                                                                                                       \
        return stored_outer_scratch(&way, M);                                                                          \
    }                                                                                                                  \
    PRODUCT_OF_HALVES(name, way)                                                                                       \
    static const rc_mixed name##_mixed = {name##_outer,           name##_outer_scratch, name##_product_of_halves,      \
                                          name##_outer_of_halves, from_halves,          fast};

#endif
