/* Matrices of bfloat16: the upper halves of float32 numbers, rounded to nearest, ties to even. Part of storage.h.
 *
 *   c += â_k·b̂_k, k after k, in float32: operands are numbers of bfloat16 in 32 bits, and B's either, too (`rounded`), or
 *   two of a group are taken apart by a shift and a mask. With AVX-512 BF16 (`bf16_dot`):
 *   c += â_2i·b̂_2i + â_2i+1·b̂_2i+1, pairs in 32 bits.
 *
 * On Intel's processors its instruction does half as many multiply-adds as float32's, on AMD's twice as many.
 */
#ifndef RNNCORE_BF16_H
#define RNNCORE_BF16_H

static void bf16_operands(const real *row, long depth, long stride, stored_operands *o, long i) {
    real *numbers = (real *)(o->rows + i * stride);
    const long whole = depth / VL * VL;
    for (long k = 0; k < whole; k += VL) vstore(numbers + k, vround_bf16(vload(row + k)));
    if (whole < depth) vstore(numbers + whole, vround_bf16(vload_some(row + whole, depth - whole)));
    if (depth % 2) numbers[depth] = 0; /* the last group's second k */
}

static void bf16_operands_of_halves(const uint16_t *row, long depth, long stride, stored_operands *o, long i) {
    real *numbers = (real *)(o->rows + i * stride);
    const long whole = depth / VL * VL;
    for (long k = 0; k < whole; k += VL) vstore(numbers + k, load_bf16(row + k));
    for (long k = whole; k < depth; k++) {
        const uint32_t word = (uint32_t)row[k] << 16;
        memcpy(numbers + k, &word, sizeof word);
    }
    if (depth % 2) numbers[depth] = 0;
}

INLINE void bf16_tile(const int panels, const int nv, const int rows, const stored_tile *t) {
    vec c[TILE_ROWS][PANELS_TOGETHER][TILE_VECTORS];
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int p = 0; p < panels; p++)
            UNROLL for (int j = 0; j < nv; j++) c[i][p][j] = vload(t->init[p] + i * t->ldi + j * VL);
    for (long g = 0; g < t->groups; g++) {
        const real *a = (const real *)t->A + 2 * g;
        UNROLL for (int p = 0; p < panels; p++)
            UNROLL for (int j = 0; j < nv; j++) {
                const ivec pair = vbits(vload((const real *)t->P[p] + (g * nv + j) * VL));
                if (panels == 1 && j == 0) PREFETCH(t->next + g * t->next_step);
                const vec even = vfrom_bits(ishl(pair, 16)), odd = vfrom_bits(pair & iset1((sint)0xffff0000));
                UNROLL for (int i = 0; i < rows; i++) {
                    const real *row = (const real *)((const char *)a + i * t->stride);
                    c[i][p][j] += vset1(row[0]) * even;
                    c[i][p][j] += vset1(row[1]) * odd;
                }
            }
    }
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int p = 0; p < panels; p++)
            UNROLL for (int j = 0; j < nv; j++) vstore(t->C[p] + i * t->ldc + j * VL, c[i][p][j]);
}
static void bf16_tiles(int panels, int nv, int rows, const stored_tile *t) {
    switch (panels * 100 + nv * 10 + rows) { STORED_TILES(bf16_tile) }
}

static const stored_product bf16_way = {2, 1, 4, 0, 0, bf16_operands, 0, bf16_tiles};
STORAGE_WAY(bf16, bf16_way)
static void bf16_pack(const rc_packed *B, int block) { pack_rounded(&bf16_way, PAIRS, B, block); }

INLINE void rounded_tile(const int panels, const int nv, const int rows, const stored_tile *t) {
    vec c[TILE_ROWS][PANELS_TOGETHER][TILE_VECTORS];
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int p = 0; p < panels; p++)
            UNROLL for (int j = 0; j < nv; j++) c[i][p][j] = vload(t->init[p] + i * t->ldi + j * VL);
    UNROLL_TWO for (long k = 0; k < t->groups; k++)
        UNROLL for (int p = 0; p < panels; p++) {
            vec b[TILE_VECTORS];
            UNROLL for (int j = 0; j < nv; j++) b[j] = vload((const real *)t->P[p] + (k * nv + j) * VL);
            if (panels == 1) PREFETCH(t->next + k * t->next_step);
            UNROLL for (int i = 0; i < rows; i++) {
                const vec a = vset1(((const real *)(t->A + i * t->stride))[k]);
                UNROLL for (int j = 0; j < nv; j++) c[i][p][j] += a * b[j];
                STILL_NEEDED(a);
            }
            UNROLL for (int j = 0; j < nv; j++) STILL_NEEDED(b[j]);
        }
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int p = 0; p < panels; p++)
            UNROLL for (int j = 0; j < nv; j++) vstore(t->C[p] + i * t->ldc + j * VL, c[i][p][j]);
}
static void rounded_tiles(int panels, int nv, int rows, const stored_tile *t) {
    switch (panels * 100 + nv * 10 + rows) { STORED_TILES(rounded_tile) }
}
static const stored_product rounded_way = {1, 1, 4, 0, 0, bf16_operands, bf16_operands_of_halves, rounded_tiles};
STORAGE_WAY(rounded, rounded_way)
MIXED_WAY(rounded, rounded_way, ALONE, 0)
static void rounded_pack(const rc_packed *B, int block) { pack_rounded(&rounded_way, ALONE, B, block); }

/* Rows of pairs. */
#if defined(WITH_BF16)
static void bf16_pairs(const real *row, long depth, long stride, stored_operands *o, long i) {
    char *halves = o->rows + i * stride;
    const long whole = depth / (2 * VL) * 2 * VL;
    for (long k = 0; k < whole; k += 2 * VL)
        _mm512_storeu_si512(halves + 2 * k, fast_halves(vload(row + k), vload(row + k + VL)));
    for (long k = whole; 2 * k < stride; k += 2 * VL)
        _mm512_storeu_si512(halves + 2 * k, fast_halves(vload_some(row + k, depth - k),
                                                        vload_some(row + k + VL, depth - k - VL)));
}
#elif defined(HAVE_TILES)
static void bf16_pairs(const real *row, long depth, long stride, stored_operands *o, long i) {
    uint16_t *numbers = (uint16_t *)(o->rows + i * stride);
    for (long k = 0; 2 * k < stride; k++) {
        const vec x = vround_bf16(vset1(k < depth ? row[k] : 0));
        numbers[k] = (uint16_t)(vbits(x)[0] >> 16);
    }
}
#endif

#if defined(HAVE_PAIRS)
static void pairs_of_halves(const uint16_t *row, long depth, long stride, stored_operands *o, long i) {
    char *pairs = o->rows + i * stride;
    memcpy(pairs, row, depth * 2);
    memset(pairs + depth * 2, 0, stride - depth * 2);
}
#endif

#if defined(WITH_BF16)
WITH_BF16 static inline __attribute__((always_inline)) void bf16_dot(const int panels, const int nv, const int rows,
                                                                     const stored_tile *t) {
    __m512 c[TILE_ROWS][PANELS_TOGETHER][TILE_VECTORS];
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int p = 0; p < panels; p++)
            UNROLL for (int j = 0; j < nv; j++) c[i][p][j] = _mm512_loadu_ps(t->init[p] + i * t->ldi + j * VL);
    for (long g = 0; g < t->groups; g++) {
        UNROLL for (int p = 0; p < panels; p++)
            UNROLL for (int j = 0; j < nv; j++) {
                const __m512i pair = _mm512_loadu_si512(t->P[p] + (g * nv + j) * 64);
                if (panels == 1 && j == 0) PREFETCH(t->next + g * t->next_step);
                UNROLL for (int i = 0; i < rows; i++) {
                    int a;
                    memcpy(&a, t->A + i * t->stride + 4 * g, sizeof a);
                    c[i][p][j] = _mm512_dpbf16_ps(c[i][p][j], (__m512bh)_mm512_set1_epi32(a), (__m512bh)pair);
                }
            }
    }
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int p = 0; p < panels; p++)
            UNROLL for (int j = 0; j < nv; j++) _mm512_storeu_ps(t->C[p] + i * t->ldc + j * VL, c[i][p][j]);
}
WITH_BF16 static void bf16_dots(int panels, int nv, int rows, const stored_tile *t) {
    switch (panels * 100 + nv * 10 + rows) { STORED_TILES(bf16_dot) }
}

static const stored_product bf16_dot_way = {2, 1, 2, 0, 0, bf16_pairs, pairs_of_halves, bf16_dots};
STORAGE_WAY(bf16_dot, bf16_dot_way)
MIXED_WAY(bf16_dot, bf16_dot_way, FAST_PAIRS, 1)
static void bf16_dot_pack(const rc_packed *B, int block) { pack_rounded(&bf16_dot_way, FAST_PAIRS, B, block); }
#endif
#endif
