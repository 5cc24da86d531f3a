/* exp, tanh and sigmoid of a vector: one reduction, one polynomial, at most one division.
 *
 *     y = n·ln 2 + r,  |r| <= ln 2 / 2         p = e^r - 1 = r + r²·q(r)         e^y = 2^n·(1 + p)
 *
 *     exp(x)     = 2^⌊n/2⌋·(1 + p)·2^⌈n/2⌉        y = x        both powers are normal numbers
 *     sigmoid(x) = c / (c + c·e^y)                y = -x       c = 2^-k keeps c·e^y normal
 *     tanh|x|    = a - a·a / (1 + h)              y = 2|x|     h = (e^y - 1) / 2 = 2^(n-1)·p + (2^(n-1) - 1/2)
 *                  a = h where |x| < 0.39, else 1:  both are h / (1 + h)
 *
 * Largest errors seen, with and without fused multiply-add (all floats, 10^8 doubles): 1.1, 2.5 and 2.4 units in the
 * last place. Why these forms: they are monotone after rounding, too. In e/(1 + e) and h/(1 + h) the quotient drops
 * wherever the rounded sum steps up to its next value; in 1/(1 + e^-x) and a - a·a / (1 + h) that step goes the right
 * way, and as long as h + h/(1 + h) < 1 (h < 0.61) the second term's roundings cannot outrun the first term.
 * Scaling by powers of two is exact, but for one last rounding where the result is subnormal. Arguments are clamped to
 * where the result is already 0, 1 or infinite; the clamps let NaN through.
 */
#ifndef RNNCORE_VMATH_H
#define RNNCORE_VMATH_H
#include "vec.h"

/* q(r) has the least error relative to e^r - 1 (2^-26.1 and 2^-55.6) for |r| <= 1.0001·ln 2 / 2: Remez' exchange in 60
 * digits, then the coefficients rounded one by one from the lowest, the remaining ones fitted again after each (a
 * linear program over 401 points). LN2_HI is short, so that n·LN2_HI is exact. */
#if REAL_BITS == 32
#define MANTISSA_BITS 23
#define EXPONENT_BIAS 127
#define LN2_HI 0x1.62e4p-1f
#define LN2_LO 0x1.7f7d1cp-20f
#define LOG2_E 0x1.715476p+0f
#define EXP_IS_ZERO R(-110.0)
#define EXP_IS_INFINITE R(90.0)

INLINE vec vmath_q(vec r) {
    vec r2 = r * r;
    vec q0 = 0x1.fffffep-2f + 0x1.5554b4p-3f * r;
    vec q2 = 0x1.5556f6p-5f + 0x1.122538p-7f * r + 0x1.6b97ap-10f * r2;
    return q0 + r2 * q2;
}
#else
#define MANTISSA_BITS 52
#define EXPONENT_BIAS 1023
#define LN2_HI 0x1.62e42fefa3p-1
#define LN2_LO 0x1.3de6af278ece6p-42
#define LOG2_E 0x1.71547652b82fep+0
#define EXP_IS_ZERO R(-760.0)
#define EXP_IS_INFINITE R(720.0)

INLINE vec vmath_q(vec r) {
    vec r2 = r * r, r4 = r2 * r2;
    vec q0 = 0x1.0000000000005p-1 + 0x1.555555555554fp-3 * r;
    vec q2 = 0x1.5555555552276p-5 + 0x1.1111111114e22p-7 * r;
    vec q4 = 0x1.6c16c17ec69p-10 + 0x1.a01a0186ccfcbp-13 * r;
    vec q6 = 0x1.a019a7d2f0a76p-16 + 0x1.71de6752af41ep-19 * r;
    vec q8 = 0x1.28a17160fcb2cp-22 + 0x1.ae977a308bd22p-26 * r;
    return (q0 + r2 * q2) + r4 * ((q4 + r2 * q6) + r4 * q8);
}
#endif
#define SATURATED R(40.0) /* tanh and sigmoid round to 1 well before */

/* Returns p, and n + offset in the lowest bits of *bits: adding 1.5·2^MANTISSA_BITS rounds to a whole number. */
INLINE vec vmath_reduce(vec y, int offset, ivec *bits) {
    const vec shift = vset1((real)(3 * ((word)1 << (MANTISSA_BITS - 1)) + offset));
    vec shifted = y * vset1(LOG2_E) + shift;
    vec n = shifted - shift;
    vec r = (y - n * vset1(LN2_HI)) - n * vset1(LN2_LO);
    *bits = vbits(shifted);
    return r + r * r * vmath_q(r);
}

/* 2^(i - EXPONENT_BIAS) from the lowest bits of i */
INLINE vec vmath_power(ivec i) { return vfrom_bits(ishl(i, MANTISSA_BITS)); }

INLINE vec vexp(vec x) {
    ivec n;
    vec y = vmax(vset1(EXP_IS_ZERO), vmin(vset1(EXP_IS_INFINITE), x));
    vec p = vmath_reduce(y, 2 * EXPONENT_BIAS, &n);
    ivec half = ishr(n, 1);
    vec power = vmath_power(half);
    return (power * p + power) * vmath_power(isub(n, half));
}

INLINE vec vsigmoid(vec x) {
    ivec n;
    const vec c = vmath_power(iset1(EXPONENT_BIAS / 2));
    vec y = -vmax(vset1(EXP_IS_ZERO), vmin(vset1(SATURATED), x));
    vec p = vmath_reduce(y, EXPONENT_BIAS / 2, &n);
    vec power = vmath_power(n); /* c·2^n */
    return c / (c + (power * p + power));
}

INLINE vec vtanh(vec x) {
    ivec n;
    const vec one = vset1(1), half = vset1(R(0.5));
    ivec sign = vbits(x) & vbits(vset1(R(-0.0)));
    vec size = vmin(vset1(SATURATED), vfrom_bits(vbits(x) ^ sign));
    vec p = vmath_reduce(size + size, EXPONENT_BIAS - 1, &n);
    vec power = vmath_power(n); /* 2^(n-1) */
    vec h = power * p + (power - half);
    vec a = vselect(vless(size, vset1(R(0.39))), h, one);
    vec t = a - a * (a / (one + h));
    return vfrom_bits(vbits(t) | sign);
}
#endif
