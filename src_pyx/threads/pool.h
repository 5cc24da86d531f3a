/* A small thread pool. run() calls task(arg, 0) ... task(arg, tasks - 1), on the caller and up to n_threads - 1
 * workers, and returns when all are done. Each of these threads calls enter() before its first task, and leave() with
 * what enter() returned after its last: for what belongs to a thread, such as the floating-point control word. Both
 * may be NULL. Tasks must not depend on one another nor on who runs them, so that results
 * are the same for any number of threads. When the pool is taken by another Python thread, or where there are no
 * threads (RNNCORE_PORTABLE, Windows), the caller runs all tasks itself. Safe after fork: the child starts its own
 * workers. */
#ifndef RNNCORE_POOL_H
#define RNNCORE_POOL_H

#define RNNCORE_MAX_THREADS 64

typedef unsigned long (*rnncore_pool_enter)(void);
typedef void (*rnncore_pool_task)(void *arg, int index);
typedef void (*rnncore_pool_leave)(unsigned long before);

void rnncore_pool_run(rnncore_pool_enter enter, rnncore_pool_task task, rnncore_pool_leave leave, void *arg, int tasks,
                      int n_threads);
const char *rnncore_pool_kind(void);
#endif
