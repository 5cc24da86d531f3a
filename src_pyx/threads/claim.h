/* A flag that one thread at a time holds; nobody waits for it. */
#ifndef RNNCORE_CLAIM_H
#define RNNCORE_CLAIM_H

typedef volatile long rnncore_flag;

#if defined(_MSC_VER)
#include <intrin.h>
static inline int rnncore_claim(rnncore_flag *flag) { return _InterlockedExchange(flag, 1) == 0; }
static inline void rnncore_release(rnncore_flag *flag) { _InterlockedExchange(flag, 0); }
#else
static inline int rnncore_claim(rnncore_flag *flag) { return __atomic_exchange_n(flag, 1, __ATOMIC_ACQUIRE) == 0; }
static inline void rnncore_release(rnncore_flag *flag) { __atomic_store_n(flag, 0, __ATOMIC_RELEASE); }
#endif
#endif
