/* Products of few rows: C (rows, N) = (0 | bias | C) + A·B for up to FEW_ROWS rows. Part of product.h.
 *
 * With few rows a tile has so few sums that each multiply-add waits for the one before. So neighbouring panels are taken
 * together, as many as it takes to keep both multiply-add units busy; B then streams through the core once, as fast as
 * its cache gives it. Each element is one chain of multiply-adds over k, as in tile(): the bits are the same.
 */
#ifndef RNNCORE_GEMV_H
#define RNNCORE_GEMV_H

#if TILE_VECTORS == 4
#define FEW_ROWS 2
#define MOST_PANELS 4 /* in a group, for one row: 16 sums */
#else
#define FEW_ROWS 3
#define MOST_PANELS 6 /* 12 sums */
#endif
static inline long group_limit(long rows) { return MOST_PANELS / rows; }

/* A group: from its first panel on, the rows' columns in C and where they start from. */
typedef struct {
    const rc_packed *B;
    const real *P, *A, *init;
    real *C;
    long lda, ldi, ldc;
} panel_group;

/* C[0:rows] = init + A·[panels of nv vectors, and one of nv - 1 where `narrow`] */
INLINE void group(const int rows, const int panels, const int narrow, const int nv, const panel_group *g) {
    vec c[FEW_ROWS][MOST_PANELS + 1][TILE_VECTORS];
    const long wide_step = nv * VL, narrow_step = (nv - 1) * VL, stride = g->B->K * wide_step;
    const real *P = g->P, *Q = P + panels * stride;
    UNROLL for (int i = 0; i < rows; i++) {
        const real *init = g->init + i * g->ldi;
        UNROLL for (int p = 0; p < panels + narrow; p++)
            UNROLL for (int j = 0; j < nv - (p == panels); j++) c[i][p][j] = vload(init + p * wide_step + j * VL);
    }
    for (int part = 0; part < g->B->parts; part++) {
        const real *A = g->A + g->B->part_at[part];
        UNROLL_TWO for (long k = 0; k < g->B->part_K[part]; k++) {
            vec a[FEW_ROWS];
            UNROLL for (int i = 0; i < rows; i++) a[i] = vset1(A[i * g->lda + k]);
            UNROLL for (int p = 0; p < panels + narrow; p++)
                UNROLL for (int j = 0; j < nv - (p == panels); j++) {
                    vec b = vload(p == panels ? Q + j * VL : P + p * stride + j * VL);
                    UNROLL for (int i = 0; i < rows; i++) c[i][p][j] += a[i] * b;
                }
            P += wide_step;
            Q += narrow_step;
        }
    }
    UNROLL for (int i = 0; i < rows; i++) {
        real *C = g->C + i * g->ldc;
        UNROLL for (int p = 0; p < panels + narrow; p++)
            UNROLL for (int j = 0; j < nv - (p == panels); j++) vstore(C + p * wide_step + j * VL, c[i][p][j]);
    }
}

typedef void (*group_function)(const panel_group *g);
#define GROUP(rows, panels, narrow, nv)                                                                                \
    static void group_##rows##_##panels##_##narrow##_##nv(const panel_group *g) { group(rows, panels, narrow, nv, g); }
#define NAME(rows, panels, narrow, nv) group_##rows##_##panels##_##narrow##_##nv
#define BOTH(rows, panels, nv) GROUP(rows, panels, 0, nv) GROUP(rows, panels, 1, nv)
#define BOTH_NAMES(rows, panels, nv) {NAME(rows, panels, 0, nv), NAME(rows, panels, 1, nv)}
#define ONE(rows, nv) GROUP(rows, 1, 0, nv)
#define ONE_NAME(rows, nv) {{NAME(rows, 1, 0, nv)}}

/* [rows - 1][panels - 1][narrow]: whatever fits group_limit(rows), the narrow one counted */
#if TILE_VECTORS == 4
#define GROUPS(nv) BOTH(1, 1, nv) BOTH(1, 2, nv) BOTH(1, 3, nv) GROUP(1, 4, 0, nv) BOTH(2, 1, nv) GROUP(2, 2, 0, nv)
#define GROUP_NAMES(nv)                                                                                                \
    {{BOTH_NAMES(1, 1, nv), BOTH_NAMES(1, 2, nv), BOTH_NAMES(1, 3, nv), {NAME(1, 4, 0, nv)}},                          \
     {BOTH_NAMES(2, 1, nv), {NAME(2, 2, 0, nv)}}}
ONE(1, 1) ONE(2, 1) GROUPS(2) GROUPS(3) GROUPS(4)
static const group_function groups[TILE_VECTORS][FEW_ROWS][MOST_PANELS][2] = {
    {ONE_NAME(1, 1), ONE_NAME(2, 1)}, GROUP_NAMES(2), GROUP_NAMES(3), GROUP_NAMES(4)};
#else
ONE(1, 1) ONE(2, 1) ONE(3, 1)
BOTH(1, 1, 2) BOTH(1, 2, 2) BOTH(1, 3, 2) BOTH(1, 4, 2) BOTH(1, 5, 2) GROUP(1, 6, 0, 2)
BOTH(2, 1, 2) BOTH(2, 2, 2) GROUP(2, 3, 0, 2)
BOTH(3, 1, 2) GROUP(3, 2, 0, 2)
static const group_function groups[TILE_VECTORS][FEW_ROWS][MOST_PANELS][2] = {
    {ONE_NAME(1, 1), ONE_NAME(2, 1), ONE_NAME(3, 1)},
    {{BOTH_NAMES(1, 1, 2), BOTH_NAMES(1, 2, 2), BOTH_NAMES(1, 3, 2), BOTH_NAMES(1, 4, 2), BOTH_NAMES(1, 5, 2),
      {NAME(1, 6, 0, 2)}},
     {BOTH_NAMES(2, 1, 2), BOTH_NAMES(2, 2, 2), {NAME(2, 3, 0, 2)}},
     {BOTH_NAMES(3, 1, 2), {NAME(3, 2, 0, 2)}}}};
#endif

/* One block of the product, for 1..FEW_ROWS rows; C: where the block begins. */
static void few_rows_block(const rc_packed *B, int block, long rows, const real *A, long lda, int from, real *C,
                           long ldc) {
    panel_group g = {.B = B, .A = A, .lda = lda, .ldi = from == RC_FROM_C ? ldc : 0, .ldc = ldc};
    const real *bias = from == RC_FROM_BIAS ? packed_bias(B, block) : 0;
    const long limit = group_limit(rows), count = (B->panel_count + limit - 1) / limit; /* groups, evenly dealt */
    for (long p = 0, i = 1; i <= count; i++) {
        for (const long end = B->panel_count * i / count; p < end;) {
            const long begin = panel_begin(B, p), nv = panel_vectors(B->N, p);
            long panels = 1;
            while (p + panels < end && panel_vectors(B->N, p + panels) == nv) panels++;
            const int narrow = p + panels < end; /* wide panels come first */
            g.P = packed_panel(B, block, p);
            g.C = C + begin;
            g.init = from == RC_FROM_C ? g.C : from == RC_FROM_BIAS ? bias + begin : zeros;
            groups[nv - 1][rows - 1][panels - 1][narrow](&g);
            p += panels + narrow;
        }
    }
}
#undef BOTH
#undef ONE
#undef NAME
#undef GROUP
#endif
