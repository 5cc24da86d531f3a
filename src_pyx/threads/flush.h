/* Denormal numbers, below the smallest normal one, cost tens to hundreds of cycles each. Between flush_enter and
 * flush_leave the processor takes them as zero, read and written, on this thread alone. Results that are normal numbers
 * made of normal numbers keep their bits, and NaN and infinity are what they were. Where the processor has no such
 * switch, nothing happens. */
#ifndef RNNCORE_FLUSH_H
#define RNNCORE_FLUSH_H

#if (defined(__SSE2__) || defined(_M_X64)) && !defined(RNNCORE_NO_FLUSH)
#include <xmmintrin.h>
#define RNNCORE_FLUSH 0x8040u /* MXCSR: flush to zero, denormals are zero */
static inline unsigned long rnncore_float_control(void) { return _mm_getcsr(); }
static inline void rnncore_set_float_control(unsigned long bits) { _mm_setcsr((unsigned)bits); }
#elif defined(__aarch64__) && defined(__GNUC__)
#define RNNCORE_FLUSH (1ul << 24) /* FPCR: FZ, for both */
static inline unsigned long rnncore_float_control(void) {
    unsigned long bits;
    __asm__ volatile("mrs %0, fpcr" : "=r"(bits));
    return bits;
}
static inline void rnncore_set_float_control(unsigned long bits) { __asm__ volatile("msr fpcr, %0" : : "r"(bits)); }
#else
#define RNNCORE_FLUSH 0ul
static inline unsigned long rnncore_float_control(void) { return 0; }
static inline void rnncore_set_float_control(unsigned long bits) { (void)bits; }
#endif

/* Returns what flush_leave restores. */
static inline unsigned long rnncore_flush_enter(void) {
    unsigned long before = rnncore_float_control();
    if ((before & RNNCORE_FLUSH) != RNNCORE_FLUSH) rnncore_set_float_control(before | RNNCORE_FLUSH);
    return before;
}
static inline void rnncore_flush_leave(unsigned long before) {
    if ((before & RNNCORE_FLUSH) != RNNCORE_FLUSH) rnncore_set_float_control(before);
}
#endif
