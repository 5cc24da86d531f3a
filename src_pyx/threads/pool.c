#include "pool.h"

static void run_alone(rnncore_pool_enter enter, rnncore_pool_task task, rnncore_pool_leave leave, void *arg,
                      int tasks) {
    unsigned long before = enter ? enter() : 0;
    for (int i = 0; i < tasks; i++) task(arg, i);
    if (leave) leave(before);
}

#if defined(RNNCORE_PORTABLE) || defined(_WIN32)

void rnncore_pool_run(rnncore_pool_enter enter, rnncore_pool_task task, rnncore_pool_leave leave, void *arg, int tasks,
                      int n_threads) {
    (void)n_threads;
    run_alone(enter, task, leave, arg, tasks);
}
const char *rnncore_pool_kind(void) { return "none"; }

#else

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

/* A worker looks for work this often before it goes to sleep: some tens of microseconds, longer than the gaps between
 * the parallel parts of one training step, shorter than anything a person would notice. */
#define SPINS 4000

/* A caller offers work to a worker; the worker takes it, or the caller takes the offer back when all tasks are done
 * without it: a worker that the system has not woken yet is never waited for. */
enum { IDLE, OFFERED, WORKING };
typedef struct {
    _Alignas(64) atomic_int state;
    atomic_int asleep;
} worker_slot;

static pthread_mutex_t in_use = PTHREAD_MUTEX_INITIALIZER; /* held for the length of one run */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static worker_slot slots[RNNCORE_MAX_THREADS];
static int worker_count, fork_watched;
static struct {
    rnncore_pool_enter enter;
    rnncore_pool_task task;
    rnncore_pool_leave leave;
    void *arg;
    int tasks;
    atomic_int next;
} job;

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void work(void) {
    unsigned long before = job.enter ? job.enter() : 0;
    for (int i; (i = atomic_fetch_add(&job.next, 1)) < job.tasks;) job.task(job.arg, i);
    if (job.leave) job.leave(before);
}

static void *worker(void *argument) {
    worker_slot *slot = argument;
    for (;;) {
        for (int i = 0; i < SPINS && atomic_load_explicit(&slot->state, memory_order_acquire) != OFFERED; i++)
            pause_briefly();
        if (atomic_load(&slot->state) != OFFERED) {
            pthread_mutex_lock(&lock);
            atomic_store(&slot->asleep, 1);
            while (atomic_load(&slot->state) != OFFERED) pthread_cond_wait(&wake, &lock);
            atomic_store(&slot->asleep, 0);
            pthread_mutex_unlock(&lock);
        }
        int offered = OFFERED;
        if (!atomic_compare_exchange_strong(&slot->state, &offered, WORKING)) continue;
        work();
        atomic_store_explicit(&slot->state, IDLE, memory_order_release);
    }
    return 0;
}

static void forget_workers(void) { /* in the child of a fork only the forking thread lives on */
    pthread_mutex_init(&in_use, 0);
    pthread_mutex_init(&lock, 0);
    pthread_cond_init(&wake, 0);
    for (int i = 0; i < worker_count; i++) {
        atomic_store(&slots[i].state, IDLE);
        atomic_store(&slots[i].asleep, 0);
    }
    worker_count = 0;
}

static int have_workers(int wanted) { /* signals are for Python's own threads */
    if (!fork_watched) fork_watched = !pthread_atfork(0, 0, forget_workers);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (worker_count < wanted) {
        pthread_t thread;
        if (pthread_create(&thread, 0, worker, &slots[worker_count])) break;
        pthread_detach(thread);
        worker_count++;
    }
    pthread_sigmask(SIG_SETMASK, &before, 0);
    return worker_count < wanted ? worker_count : wanted;
}

void rnncore_pool_run(rnncore_pool_enter enter, rnncore_pool_task task, rnncore_pool_leave leave, void *arg, int tasks,
                      int n_threads) {
    if (n_threads > tasks) n_threads = tasks;
    if (n_threads > RNNCORE_MAX_THREADS) n_threads = RNNCORE_MAX_THREADS;
    if (n_threads <= 1 || pthread_mutex_trylock(&in_use)) {
        run_alone(enter, task, leave, arg, tasks);
        return;
    }
    int helpers = have_workers(n_threads - 1), sleepers = 0;
    job.enter = enter;
    job.task = task;
    job.leave = leave;
    job.arg = arg;
    job.tasks = tasks;
    atomic_store(&job.next, 0);
    for (int i = 0; i < helpers; i++) {
        atomic_store(&slots[i].state, OFFERED);
        sleepers += atomic_load(&slots[i].asleep);
    }
    if (sleepers) {
        pthread_mutex_lock(&lock);
        pthread_cond_broadcast(&wake);
        pthread_mutex_unlock(&lock);
    }
    work();
    for (int i = 0; i < helpers; i++) {
        int offered = OFFERED;
        if (atomic_compare_exchange_strong(&slots[i].state, &offered, IDLE)) continue;
        for (int spins = 0; atomic_load_explicit(&slots[i].state, memory_order_acquire) == WORKING; spins++)
            spins < SPINS ? pause_briefly() : (void)sched_yield();
    }
    pthread_mutex_unlock(&in_use);
}
const char *rnncore_pool_kind(void) { return "pthreads"; }

#endif
