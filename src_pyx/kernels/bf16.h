/* Matrices of bfloat16: the upper halves of float32 numbers, rounded to nearest, ties to even. Part of storage.h.
 *
 *   c += â_k·b̂_k, k after k, in float32: operands are numbers of bfloat16 in 32 bits, and the two of a group of B are
 *   taken apart by a shift and a mask. With AVX-512 BF16 (`bf16_dot`): c += â_2i·b̂_2i + â_2i+1·b̂_2i+1, pairs in 32 bits.
 *
 * On Intel's processors its instruction does half as many multiply-adds as float32's, on AMD's twice as many.
 */
#ifndef RNNCORE_BF16_H
#define RNNCORE_BF16_H

/* x to the nearest number of bfloat16. Infinities stay, and so do NaNs, whose bits may not carry into the sign. */
INLINE vec vround_bf16(vec x) {
    const ivec bits = vbits(x), odd = ishr(bits, 16) & iset1(1);
    const vec rounded = vfrom_bits((ivec)((uvec)bits + (uvec)iset1(0x7fff) + (uvec)odd) & iset1((sint)0xffff0000));
    return vselect(vless(x - x, vset1(1)), rounded, x); /* x - x is NaN for both */
}

static inline uint16_t bf16_of(real x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static long bf16_size(const rc_packed *B) { return B->blocks * stored_block(B, 2); }

static void bf16_pack(const rc_packed *B, int block) {
    const long groups = stored_groups(B->K, 2);
    memset((char *)B->panels + block * stored_block(B, 2), 0, stored_block(B, 2));
    for (long p = 0; p < panel_count(B->N); p++) {
        const long begin = panel_vector(B->N, p) * VL, width = panel_vectors(B->N, p) * VL;
        uint16_t *P = (uint16_t *)((char *)B->panels + block * stored_block(B, 2) + groups * begin * 4);
        for (long k = 0; k < B->K; k++)
            for (long j = 0; j < lmin(width, B->N - begin); j++)
                P[k / 2 * width * 2 + j * 2 + k % 2] = bf16_of(number_at(B, block, k, begin + j));
    }
}

static void bf16_operands(const real *row, long depth, long stride, stored_operands *o, long i) {
    real *numbers = (real *)(o->rows + i * stride), last[VL] = {0};
    const long whole = depth / VL * VL;
    for (long k = 0; k < whole; k += VL) vstore(numbers + k, vround_bf16(vload(row + k)));
    memcpy(last, row + whole, (depth - whole) * sizeof(real));
    vstore(last, vround_bf16(vload(last)));
    memcpy(numbers + whole, last, (depth - whole) * sizeof(real));
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

static void bf16_product(const rc_packed *B, int first, int last, long M, const void *A, long lda, int from, void *C,
                         long ldc) {
    static const stored_product way = {2, 4, 0, bf16_operands, bf16_tiles};
    stored_blocks(&way, B, first, last, M, A, lda, from, C, ldc);
}

#if defined(WITH_BF16)
static void bf16_pairs(const real *row, long depth, long stride, stored_operands *o, long i) {
    uint16_t *numbers = (uint16_t *)(o->rows + i * stride);
    const __m512i odd = _mm512_set1_epi32(1), half = _mm512_set1_epi32(0x7fff);
    for (long k = 0; k < depth; k += 16) {
        const __mmask16 there = (__mmask16)(depth - k >= 16 ? 0xffff : (1 << (depth - k)) - 1);
        const __m512 x = _mm512_maskz_loadu_ps(there, row + k);
        const __m512i bits = _mm512_castps_si512(x);
        __m512i r = _mm512_add_epi32(bits, _mm512_add_epi32(half, _mm512_and_si512(_mm512_srli_epi32(bits, 16), odd)));
        r = _mm512_mask_or_epi32(r, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), bits, _mm512_set1_epi32(0x400000));
        _mm256_storeu_si256((__m256i *)(numbers + k), _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16)));
    }
}

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

static void bf16_dot_product(const rc_packed *B, int first, int last, long M, const void *A, long lda, int from,
                             void *C, long ldc) {
    static const stored_product way = {2, 2, 0, bf16_pairs, bf16_dots};
    stored_blocks(&way, B, first, last, M, A, lda, from, C, ldc);
}
#endif
#endif
