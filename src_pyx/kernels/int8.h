/* Matrices of int8: a scale for each column of B, and for each row of A in each piece of depth. Part of storage.h.
 *
 *   b̂ = s_j·b   s_j = max_k |B_kj|/127   â = r·a   r = max_k |A_k|/127   c += r·s_j·(Σ a·(b + 128) - 128·Σ a)
 *
 * Sums are of whole numbers, exact: the same bits at every level. B's numbers lie 128 too high, from 1 to 255: VNNI
 * multiplies unsigned bytes by signed ones. Without it, B's bytes are taken apart into even and odd ones, the operands
 * lie in 16 bits, k 0 and 2 before 1 and 3, and pairs are multiplied and added in 32 bits: nothing saturates.
 */
#ifndef RNNCORE_INT8_H
#define RNNCORE_INT8_H
#include <math.h>

#define INT8_WAY(together, bytes, tall, operands, tiles) {4, together, bytes, 1, tall, operands, 0, tiles}

INLINE long int8_size_of(const stored_product *way, const rc_packed *B) {
    return B->blocks * (stored_block(way, B) + vectors_in(B->N) * VL * (long)sizeof(real));
}

INLINE void int8_pack_of(const stored_product *way, const rc_packed *B, int block) {
    const long groups = stored_groups(way, B->K);
    real *scales = stored_scales(way, B) + block * vectors_in(B->N) * VL;
    for (long p = 0; p < panel_count(B->N); p++) {
        const long begin = panel_vector(B->N, p) * VL, width = panel_vectors(B->N, p) * VL;
        uint8_t *P = (uint8_t *)B->panels + block * stored_block(way, B) + groups * begin * 4;
        memset(P, 128, groups * width * 4);
        for (long j = 0; j < width; j++) {
            real most = 0, bad = 0;
            for (long k = 0; k < (begin + j < B->N ? B->K : 0); k++) {
                const real w = number_at(B, block, k, begin + j);
                bad += w * 0; /* NaN where w is not finite */
                if (fabsf(w) > most) most = fabsf(w);
            }
            scales[begin + j] = most / 127 + bad;
            if (!(most > 0) || bad != 0) continue;
            for (long k = 0; k < B->K; k++)
                P[(k / 4 * width + j) * 4 + k % 4] =
                    (uint8_t)(128 + (int)rintf(number_at(B, block, k, begin + j) * (127 / most)));
        }
    }
}

/* Largest absolute value of a row; NaN where a number is not finite. */
static real int8_range(const real *row, long depth) {
    real last[VL] = {0}, most = 0, bad = 0;
    const long whole = depth / VL * VL;
    memcpy(last, row + whole, (depth - whole) * sizeof(real));
    vec m = vset1(0), b = vset1(0);
    for (long k = 0; k <= whole; k += VL) {
        const vec x = vload(k < whole ? row + k : last);
        m = vmax(m, vfrom_bits(vbits(x) & iset1(0x7fffffff)));
        b += x * vset1(0);
    }
    for (int j = 0; j < VL; j++) {
        most = ((const real *)&m)[j] > most ? ((const real *)&m)[j] : most;
        bad += ((const real *)&b)[j];
    }
    return most + bad;
}

/* x·factor to the nearest whole number, ties to even: |x·factor| <= 127 */
INLINE ivec int8_round(vec x, vec factor) {
    const vec shift = vset1(12582912.0f); /* 1.5·2^23: what is added to it has no room for a fraction */
    return isub(vbits(x * factor + shift), vbits(shift));
}

/* A row in whole numbers, one after another; its sum. */
INLINE sint int8_numbers(const real *row, long depth, real factor, sint *numbers) {
    real last[VL] = {0};
    const long whole = depth / VL * VL;
    memcpy(last, row + whole, (depth - whole) * sizeof(real));
    ivec sum = iset1(0);
    for (long k = 0; k <= whole; k += VL) {
        const ivec x = int8_round(vload(k < whole ? row + k : last), vset1(factor));
        memcpy(numbers + k, &x, sizeof x);
        sum += x;
    }
    sint total = 0;
    for (int j = 0; j < VL; j++) total += ((const sint *)&sum)[j];
    return total;
}

INLINE void int8_operand(const real *row, long depth, stored_operands *o, long i, sint *numbers) {
    const real range = int8_range(row, depth);
    o->scale[i] = range / 127; /* NaN where a number is not finite: then the numbers do not matter */
    o->excess[i] = 0;
    if (range - range != 0)
        memset(numbers, 0, depth * sizeof *numbers);
    else
        o->excess[i] = 128 * int8_numbers(row, depth, range > 0 ? 127 / range : 0, numbers);
    memset(numbers + depth, 0, 4 * sizeof *numbers);
}

#define INT8_ROOM (OPERAND_DEPTH + VL + 4)

static void int8_operands(const real *row, long depth, long stride, stored_operands *o, long i) {
    sint numbers[INT8_ROOM];
    int16_t *out = (int16_t *)(o->rows + i * stride);
    int8_operand(row, depth, o, i, numbers);
    for (long k = 0; k < depth; k += 4) {
        out[k] = (int16_t)numbers[k];
        out[k + 1] = (int16_t)numbers[k + 2];
        out[k + 2] = (int16_t)numbers[k + 1];
        out[k + 3] = (int16_t)numbers[k + 3];
    }
}

/* c += the four products of a group. a: two pairs of numbers in 16 bits. */
INLINE ivec int8_add(ivec c, ivec group, const int16_t *a) {
#if defined(X86)
    sint even, odd;
    memcpy(&even, a, 4);
    memcpy(&odd, a + 2, 4);
#if VECTOR_BYTES == 64
    const __m512i b = (__m512i)group, low = _mm512_and_si512(b, _mm512_set1_epi32(0x00ff00ff));
    const __m512i first = _mm512_madd_epi16(low, _mm512_set1_epi32(even));
    const __m512i second = _mm512_madd_epi16(_mm512_srli_epi16(b, 8), _mm512_set1_epi32(odd));
    return c + (ivec)_mm512_add_epi32(first, second);
#elif VECTOR_BYTES == 32
    const __m256i b = (__m256i)group, low = _mm256_and_si256(b, _mm256_set1_epi32(0x00ff00ff));
    const __m256i first = _mm256_madd_epi16(low, _mm256_set1_epi32(even));
    const __m256i second = _mm256_madd_epi16(_mm256_srli_epi16(b, 8), _mm256_set1_epi32(odd));
    return c + (ivec)_mm256_add_epi32(first, second);
#else
    const __m128i b = (__m128i)group, low = _mm_and_si128(b, _mm_set1_epi32(0x00ff00ff));
    const __m128i first = _mm_madd_epi16(low, _mm_set1_epi32(even));
    const __m128i second = _mm_madd_epi16(_mm_srli_epi16(b, 8), _mm_set1_epi32(odd));
    return c + (ivec)_mm_add_epi32(first, second);
#endif
#else
    const ivec byte = iset1(0xff);
    c += (group & byte) * iset1(a[0]) + (ishr(group, 8) & byte) * iset1(a[2]);
    return c + (ishr(group, 16) & byte) * iset1(a[1]) + ishr(group, 24) * iset1(a[3]);
#endif
}

INLINE vec int8_real(ivec c) {
#if VL > 1
    return __builtin_convertvector(c, vec);
#else
    return (real)c;
#endif
}

#define INT8_SUMS ivec c[TILE_ROWS][PANELS_TOGETHER][TILE_VECTORS]
INLINE void int8_start(const int panels, const int nv, const int rows, ivec c[][PANELS_TOGETHER][TILE_VECTORS]) {
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int p = 0; p < panels; p++)
            UNROLL for (int j = 0; j < nv; j++) c[i][p][j] = iset1(0);
}
INLINE void int8_finish(const int panels, const int nv, const int rows, const stored_tile *t,
                        ivec c[][PANELS_TOGETHER][TILE_VECTORS]) {
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int p = 0; p < panels; p++)
            UNROLL for (int j = 0; j < nv; j++) {
                const vec sum = int8_real(c[i][p][j] - iset1(t->row_excess[i]));
                const vec scale = vset1(t->row_scale[i]) * vload(t->scale[p] + j * VL);
                vstore(t->C[p] + i * t->ldc + j * VL, vload(t->init[p] + i * t->ldi + j * VL) + sum * scale);
            }
}

INLINE void int8_tile(const int panels, const int nv, const int rows, const stored_tile *t) {
    INT8_SUMS;
    int8_start(panels, nv, rows, c);
    for (long g = 0; g < t->groups; g++)
        UNROLL for (int p = 0; p < panels; p++)
            UNROLL for (int j = 0; j < nv; j++) {
                const ivec group = vbits(vload((const real *)t->P[p] + (g * nv + j) * VL));
                UNROLL for (int i = 0; i < rows; i++)
                    c[i][p][j] = int8_add(c[i][p][j], group, (const int16_t *)(t->A + i * t->stride) + 4 * g);
            }
    int8_finish(panels, nv, rows, t, c);
}
static void int8_tiles(int panels, int nv, int rows, const stored_tile *t) {
    switch (panels * 100 + nv * 10 + rows) { STORED_TILES(int8_tile) }
}

#define INT8_STORAGE(name, way)                                                                                         \
    static long name##_size(const rc_packed *B) { return int8_size_of(&way, B); }                                      \
    static void name##_pack(const rc_packed *B, int block) { int8_pack_of(&way, B, block); }                           \
    static void name##_product(const rc_packed *B, int first, int last, long M, const void *A, long lda, int from,     \
                               void *C, long ldc) {                                                                    \
        stored_blocks(&way, 0, B, first, last, M, A, lda, from, C, ldc);                                               \
    }
static const stored_product int8_way = INT8_WAY(1, 2, 0, int8_operands, int8_tiles);
INT8_STORAGE(int8, int8_way)

#if defined(WITH_VNNI) || defined(HAVE_TILES)
static void int8_bytes(const real *row, long depth, long stride, stored_operands *o, long i) {
    sint numbers[INT8_ROOM];
    int8_t *out = (int8_t *)(o->rows + i * stride);
    int8_operand(row, depth, o, i, numbers);
    for (long k = 0; k < depth; k++) out[k] = (int8_t)numbers[k];
    memset(out + depth, 0, stride - depth);
}
#endif

#if defined(WITH_VNNI)
WITH_VNNI static inline __attribute__((always_inline)) void int8_dot(const int panels, const int nv, const int rows,
                                                                     const stored_tile *t) {
    INT8_SUMS;
    int8_start(panels, nv, rows, c);
    for (long g = 0; g < t->groups; g++)
        UNROLL for (int p = 0; p < panels; p++)
            UNROLL for (int j = 0; j < nv; j++) {
                const __m512i group = _mm512_loadu_si512(t->P[p] + (g * nv + j) * 64);
                UNROLL for (int i = 0; i < rows; i++) {
                    int a;
                    memcpy(&a, t->A + i * t->stride + 4 * g, sizeof a);
                    c[i][p][j] = (ivec)_mm512_dpbusd_epi32((__m512i)c[i][p][j], group, _mm512_set1_epi32(a));
                }
            }
    int8_finish(panels, nv, rows, t, c);
}
WITH_VNNI static void int8_dots(int panels, int nv, int rows, const stored_tile *t) {
    switch (panels * 100 + nv * 10 + rows) { STORED_TILES(int8_dot) }
}

static const stored_product int8_dot_way = INT8_WAY(1, 1, 0, int8_bytes, int8_dots);
INT8_STORAGE(int8_dot, int8_dot_way)
#endif

#if defined(HAVE_TILES)
TILES static void int8_tall_tile(int panels, int nv, int rows, const stored_tile *t) {
    (void)panels;
    real sums[32 * 32]; /* whole numbers, of as many bits */
    stored_tile whole = *t;
    whole.C[0] = sums, whole.ldc = 32;
    amx_tiles(1, nv, rows, &whole, zeros, 0);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < nv; j++) {
            const vec sum = int8_real(vbits(vload(sums + i * 32 + j * VL)) - iset1(t->row_excess[i]));
            const vec scale = vset1(t->row_scale[i]) * vload(t->scale[0] + j * VL);
            vstore(t->C[0] + i * t->ldc + j * VL, vload(t->init[0] + i * t->ldi + j * VL) + sum * scale);
        }
}
static const stored_product int8_tall_way = INT8_WAY(16, 1, 1, int8_bytes, int8_tall_tile);
INT8_STORAGE(int8_tall, int8_tall_way)
#endif
#endif
