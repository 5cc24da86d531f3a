/* Numbers in 16 bits, in which rows wait for the backward pass (mixed precision). Part of gemm.h.
 *
 *   bfloat16   x̂ = x to the nearest of the numbers that are the upper half of a float32, ties to even
 *   of gates   x̂ = n / 32767, n the whole number nearest to 32767·x, where |x| <= 1
 *
 * Near 1 numbers of bfloat16 are 1/256 apart: too far for a forget gate, whose rounding a gradient meets at every step.
 * Gradients of gates are bfloat16: products would round them anyway.
 */
#ifndef RNNCORE_HALVES_H
#define RNNCORE_HALVES_H
#include "gemm.h"
#if REAL_BITS == 32

/* Infinities stay, and so do NaNs, whose bits may not carry into the sign. */
INLINE vec vround_bf16(vec x) {
#if VECTOR_BYTES == 64 && defined(X86) /* five instructions, where compilers find eight */
    const __m512i bits = (__m512i)x, less = _mm512_set1_epi32(0x7fff), half = _mm512_set1_epi32(0x8000);
    const __mmask16 odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000));
    const __m512i sum = _mm512_mask_add_epi32(_mm512_add_epi32(bits, less), odd, bits, half);
    const __mmask16 number = _mm512_cmp_ps_mask(x, x, _CMP_ORD_Q);
    return (vec)_mm512_mask_and_epi32(bits, number, sum, _mm512_set1_epi32((int)0xffff0000));
#else
    const ivec bits = vbits(x), odd = ishr(bits, 16) & iset1(1);
    const vec rounded = vfrom_bits((ivec)((uvec)bits + (uvec)iset1(0x7fff) + (uvec)odd) & iset1((sint)0xffff0000));
    return vselect(vless(x - x, vset1(1)), rounded, x); /* x - x is NaN for both */
#endif
}

/* A vector of 16-bit numbers, in words: without a sign, or with one; and their lower halves back. */
#if VL > 1
typedef uint16_t hvec __attribute__((vector_size(VL * 2), aligned(2), may_alias));
typedef int16_t signed_hvec __attribute__((vector_size(VL * 2), aligned(2), may_alias));
INLINE ivec load_halves(const uint16_t *p) { return (ivec)__builtin_convertvector(*(const hvec *)p, uvec); }
INLINE vec load_whole(const uint16_t *p) { /* as numbers */
    return __builtin_convertvector(__builtin_convertvector(*(const signed_hvec *)p, ivec), vec);
}
INLINE void store_halves(uint16_t *p, ivec words) {
#if VECTOR_BYTES == 64 && defined(X86)
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16((__m512i)words));
#else
    *(hvec *)p = __builtin_convertvector((uvec)words, hvec);
#endif
}
#else
INLINE ivec load_halves(const uint16_t *p) { return *p; }
INLINE vec load_whole(const uint16_t *p) { return (int16_t)*p; }
INLINE void store_halves(uint16_t *p, ivec word) { *p = (uint16_t)word; }
#endif
INLINE vec load_bf16(const uint16_t *p) { return vfrom_bits(ishl(load_halves(p), 16)); }

/* bfloat16's rounding by an instruction of AVX-512 BF16, which takes denormal numbers as zeros. By name, so that
 * functions of any target can have it. */
#if VECTOR_BYTES == 64 && defined(X86)
#define WITH_BF16 __attribute__((target("avx512bf16")))
INLINE void store_bf16_fast(uint16_t *p, vec x) {
    __m256i y;
    __asm__("vcvtneps2bf16 %1, %0" : "=v"(y) : "v"(x));
    _mm256_storeu_si256((__m256i *)p, y);
}
#endif

INLINE void store_bf16(const int fast, uint16_t *p, vec x) {
#if defined(WITH_BF16)
    if (fast) {
        store_bf16_fast(p, x);
        return;
    }
#endif
    (void)fast;
    store_halves(p, ishr(vbits(vround_bf16(x)), 16));
}

#define WHOLE R(32767.0)
#define LOWEST_BIT_IS_1 R(12582912.0) /* 1.5·2^23: added to x, it leaves the nearest whole number in the lower bits */
INLINE void store_gate(uint16_t *p, vec x) { store_halves(p, vbits(x * vset1(WHOLE) + vset1(LOWEST_BIT_IS_1))); }
INLINE vec load_gate(const uint16_t *p) { return load_whole(p) * vset1(1 / WHOLE); }

/* x = rows of n numbers of bfloat16, whole vectors of them. */
static void from_halves(long rows, long n, const uint16_t *y, long ldy, void *x, long ldx) {
    for (long r = 0; r < rows; r++)
        for (long j = 0; j < n; j += VL) vstore((real *)x + r * ldx + j, load_bf16(y + r * ldy + j));
}
#else /* of float64 there are none */
INLINE void store_bf16(const int fast, uint16_t *p, vec x) { (void)fast, (void)p, (void)x; }
INLINE vec load_bf16(const uint16_t *p) { return (void)p, vset1(0); }
INLINE void store_gate(uint16_t *p, vec x) { (void)p, (void)x; }
INLINE vec load_gate(const uint16_t *p) { return (void)p, vset1(0); }
#endif

#endif
