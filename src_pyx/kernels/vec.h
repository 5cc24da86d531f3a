/* One vector type per instruction-set level and precision.
 *
 * A level file (isa/v4_f32.c, ...) sets VECTOR_BYTES (64, 32, 16, or 0 for the portable fallback, whose "vector"
 * is one number in plain C) and REAL_BITS (32 or 64). Everything numeric is written once, in the names below.
 */
#ifndef RNNCORE_VEC_H
#define RNNCORE_VEC_H
#include <stdint.h>
#include <string.h>

#define INLINE static inline
#if defined(__GNUC__)
#undef INLINE
#define INLINE static inline __attribute__((always_inline))
#endif

#if REAL_BITS == 32
typedef float real;
typedef int32_t sint; /* as wide as a real */
typedef uint32_t word;
#define R(x) x##f     /* a literal of the working precision */
#else
typedef double real;
typedef int64_t sint;
typedef uint64_t word;
#define R(x) x
#endif

#if VECTOR_BYTES > 0
#define VL (VECTOR_BYTES / (REAL_BITS / 8)) /* numbers in a vector */
typedef real vec __attribute__((vector_size(VECTOR_BYTES), aligned(REAL_BITS / 8), may_alias));
typedef sint ivec __attribute__((vector_size(VECTOR_BYTES), aligned(REAL_BITS / 8), may_alias));
typedef word uvec __attribute__((vector_size(VECTOR_BYTES), aligned(REAL_BITS / 8), may_alias));
#else
#define VL 1
typedef real vec;
typedef sint ivec;
typedef word uvec;
#endif

INLINE vec vload(const real *p) { return *(const vec *)p; }
INLINE void vstore(real *p, vec x) { *(vec *)p = x; }
INLINE vec vload_some(const real *p, long count) { /* zeros after them */
    real some[VL] = {0};
    if (count >= VL) return vload(p);
    if (count > 0) memcpy(some, p, count * sizeof(real));
    return vload(some);
}

#if VECTOR_BYTES > 0
INLINE vec vset1(real x) { return x - (vec){0}; } /* 0 + x would lose the sign of -0 */
INLINE ivec iset1(sint x) { return (ivec){0} + x; }
INLINE ivec vbits(vec x) { return (ivec)x; }
INLINE vec vfrom_bits(ivec x) { return (vec)x; }
#else
INLINE vec vset1(real x) { return x; }
INLINE ivec iset1(sint x) { return x; }
INLINE ivec vbits(vec x) {
    ivec i;
    memcpy(&i, &x, sizeof i);
    return i;
}
INLINE vec vfrom_bits(ivec i) {
    vec x;
    memcpy(&x, &i, sizeof x);
    return x;
}
#endif

/* Shifts of the bare bits: zeros come in from either side. */
INLINE ivec ishl(ivec i, int count) { return (ivec)((uvec)i << count); }
INLINE ivec isub(ivec i, ivec j) { return (ivec)((uvec)i - (uvec)j); } /* bits of NaN may wrap around */
INLINE ivec ishr(ivec i, int count) { return (ivec)((uvec)i >> count); }

/* vless: a < b for each number, false for NaN. vselect: a where the mask holds, else b.
 * vmin, vmax: where an argument is NaN the second one is the result: clamp as vmin(limit, x) to let NaN through.
 * From plain comparisons compilers make two or three instructions of each, so x86 is asked for its own by name. */
#if defined(__AVX512F__)
#define X86_BYTES 64
#elif defined(__AVX2__)
#define X86_BYTES 32
#elif defined(__SSE2__)
#define X86_BYTES 16
#else
#define X86_BYTES 0
#endif
#if VECTOR_BYTES > 0 && VECTOR_BYTES <= X86_BYTES
#include <immintrin.h>
#define X86_PASTE(width, name, type) _mm##width##_##name##_##type
#define X86_NAME(width, name, type) X86_PASTE(width, name, type)
#if VECTOR_BYTES == 64
#define X86_WIDTH 512
#elif VECTOR_BYTES == 32
#define X86_WIDTH 256
#else
#define X86_WIDTH
#endif
#if REAL_BITS == 32
#define X86(name) X86_NAME(X86_WIDTH, name, ps)
#else
#define X86(name) X86_NAME(X86_WIDTH, name, pd)
#endif
#endif

#if VECTOR_BYTES == 64 && defined(X86)
#if REAL_BITS == 32
typedef __mmask16 vmask;
INLINE vmask vless(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
#else
typedef __mmask8 vmask;
INLINE vmask vless(vec a, vec b) { return _mm512_cmp_pd_mask(a, b, _CMP_LT_OQ); }
#endif
INLINE vec vselect(vmask mask, vec a, vec b) { return X86(mask_blend)(mask, b, a); }
#elif VECTOR_BYTES > 0
typedef ivec vmask; /* all ones or all zeros */
INLINE vmask vless(vec a, vec b) { return (ivec)(a < b); }
INLINE vec vselect(vmask mask, vec a, vec b) { return (vec)(((ivec)a & mask) | ((ivec)b & ~mask)); }
#else
typedef int vmask;
INLINE vmask vless(vec a, vec b) { return a < b; }
INLINE vec vselect(vmask mask, vec a, vec b) { return mask ? a : b; }
#endif

#ifdef X86
INLINE vec vmin(vec a, vec b) { return X86(min)(a, b); }
INLINE vec vmax(vec a, vec b) { return X86(max)(a, b); }
#else
INLINE vec vmin(vec a, vec b) { return vselect(vless(a, b), a, b); }
INLINE vec vmax(vec a, vec b) { return vselect(vless(b, a), a, b); }
#endif

#endif
