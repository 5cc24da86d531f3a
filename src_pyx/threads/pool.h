/* A small thread pool, and what surrounds every call of the core.
 *
 * run() calls task(arg, 0) ... task(arg, tasks - 1), on the caller and up to n_threads - 1 workers, and returns when all
 * are done. Tasks must not depend on one another nor on who runs them, so that results are the same for any number of
 * threads. When the pool is taken by another Python thread, or where there are no threads (RNNCORE_PORTABLE, Windows),
 * the caller runs all tasks itself. Safe after fork: the child starts its own workers.
 *
 * Between begin() and end() denormal numbers count as zero on the caller, and on workers while they work for it: they
 * cost a hundred times more than others, and mean nothing here. The thread's own mode is restored by end(). Long work
 * asks stopping() now and then; when it says yes, results do not matter any more, and end() will say so. */
#ifndef RNNCORE_POOL_H
#define RNNCORE_POOL_H

#define RNNCORE_MAX_THREADS 64

typedef struct rnncore_call {
    int (*check)(void);         /* asked every 50 ms, on the caller, while it waits, too: nonzero: stop; NULL: never */
    struct rnncore_call *outer; /* the call that this one is part of */
    long long asked;            /* when check was asked last, in ns */
    unsigned long mode;         /* the thread's own floating-point mode */
    volatile int stopped;
} rnncore_call;

void rnncore_begin(rnncore_call *call, int (*check)(void));
int rnncore_end(rnncore_call *call); /* whether it was stopped */
int rnncore_stopping(void);

/* The same for loops that touch much memory, whose pages may be slow to come: asked once in a million numbers. `left`
 * counts them down, from RNNCORE_BETWEEN on. */
enum { RNNCORE_BETWEEN = 1 << 20 };
static inline int rnncore_stops_after(long numbers, long *left) {
    if ((*left -= numbers) > 0) return 0;
    if (rnncore_stopping()) return 1; /* again when asked again */
    *left = RNNCORE_BETWEEN;
    return 0;
}

void rnncore_pool_run(void (*task)(void *arg, int index), void *arg, int tasks, int n_threads);
const char *rnncore_pool_kind(void);
#endif
