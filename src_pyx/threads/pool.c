#include "pool.h"
#include "tiles.h"

#include <time.h>

#if defined(__SSE__) || defined(_M_X64)
#include <xmmintrin.h>
#define FLUSH_TO_ZERO 0x8040ul /* results and operands */
static unsigned long flush_denormals(void) {
    unsigned long mode = _mm_getcsr();
    if ((mode & FLUSH_TO_ZERO) != FLUSH_TO_ZERO) _mm_setcsr((unsigned)(mode | FLUSH_TO_ZERO));
    return mode;
}
static void restore_mode(unsigned long mode) {
    if ((mode & FLUSH_TO_ZERO) != FLUSH_TO_ZERO) _mm_setcsr((_mm_getcsr() & ~(unsigned)FLUSH_TO_ZERO) |
                                                            (unsigned)(mode & FLUSH_TO_ZERO));
}
#elif defined(__aarch64__) && defined(__GNUC__)
#define FLUSH_TO_ZERO (1ul << 24)
static unsigned long read_mode(void) {
    unsigned long mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
}
static void write_mode(unsigned long mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }
static unsigned long flush_denormals(void) {
    unsigned long mode = read_mode();
    if (!(mode & FLUSH_TO_ZERO)) write_mode(mode | FLUSH_TO_ZERO);
    return mode;
}
static void restore_mode(unsigned long mode) {
    if (!(mode & FLUSH_TO_ZERO)) write_mode(read_mode() & ~FLUSH_TO_ZERO);
}
#else
static unsigned long flush_denormals(void) { return 0; }
static void restore_mode(unsigned long mode) { (void)mode; }
#endif

#define ASK_EVERY 50000000LL /* ns */

static THREAD_LOCAL rnncore_call *current; /* the call that this thread works for, */
static THREAD_LOCAL int is_worker;         /* its own or another thread's */

static long long now(void) {
    struct timespec t;
#if defined(CLOCK_MONOTONIC_COARSE)
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
#elif defined(CLOCK_MONOTONIC)
    clock_gettime(CLOCK_MONOTONIC, &t);
#else
    timespec_get(&t, TIME_UTC);
#endif
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

void rnncore_begin(rnncore_call *call, int (*check)(void)) {
    call->check = check;
    call->outer = current;
    call->asked = check ? now() : 0;
    call->stopped = 0;
    call->mode = flush_denormals();
    current = call;
}

int rnncore_end(rnncore_call *call) {
    current = call->outer;
    rnncore_release_tiles();
    restore_mode(call->mode);
    return call->stopped;
}

int rnncore_stopping(void) {
    rnncore_call *call = current;
    if (!call || !call->check) return 0;
    if (call->stopped || is_worker) return call->stopped;
    const long long time = now();
    if (time - call->asked < ASK_EVERY) return 0;
    call->asked = time;
    if (call->check()) call->stopped = 1;
    return call->stopped;
}

static void run_alone(void (*task)(void *arg, int index), void *arg, int tasks) {
    for (int i = 0; i < tasks && !(i && rnncore_stopping()); i++) task(arg, i);
}

#if defined(RNNCORE_PORTABLE) || defined(_WIN32)

void rnncore_pool_run(void (*task)(void *arg, int index), void *arg, int tasks, int n_threads) {
    (void)n_threads;
    run_alone(task, arg, tasks);
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
    void (*task)(void *, int);
    void *arg;
    int tasks;
    atomic_int next;
    rnncore_call *call; /* that the tasks are part of, or NULL */
} job;

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void work(void) {
    for (int i; (i = atomic_fetch_add(&job.next, 1)) < job.tasks && !(i && rnncore_stopping());) job.task(job.arg, i);
}

static void work_for_caller(void) { /* in the mode that the caller's call is in */
    unsigned long mode = job.call ? flush_denormals() : 0;
    current = job.call;
    work();
    rnncore_release_tiles();
    if (job.call) restore_mode(mode);
    current = 0;
}

static void *worker(void *argument) {
    worker_slot *slot = argument;
    is_worker = 1;
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
        work_for_caller();
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

void rnncore_pool_run(void (*task)(void *arg, int index), void *arg, int tasks, int n_threads) {
    if (n_threads > tasks) n_threads = tasks;
    if (n_threads > RNNCORE_MAX_THREADS) n_threads = RNNCORE_MAX_THREADS;
    if (n_threads <= 1 || pthread_mutex_trylock(&in_use)) {
        run_alone(task, arg, tasks);
        return;
    }
    int helpers = have_workers(n_threads - 1), sleepers = 0;
    job.task = task;
    job.arg = arg;
    job.tasks = tasks;
    job.call = current;
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
        for (unsigned spins = 0; atomic_load_explicit(&slots[i].state, memory_order_acquire) == WORKING;) {
            if (++spins < SPINS) {
                pause_briefly();
                continue;
            }
            (void)rnncore_stopping(); /* for the worker, which does not ask check itself */
            sched_yield();
        }
    }
    pthread_mutex_unlock(&in_use);
}
const char *rnncore_pool_kind(void) { return "pthreads"; }

#endif
