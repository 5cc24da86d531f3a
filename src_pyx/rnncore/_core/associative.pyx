"""Recall in a Hopfield network: units of +1 and -1 that look at one another until nothing changes (Hopfield 1982).

    f_j = Σ_i s_i·W_ij          h = scale·f - θ          E = -½·scale·Σ s_j·f_j + Σ θ_j·s_j

    asynchronous    one unit after another, in a new random order each sweep or by number:
                    s_j becomes -s_j where s_j·h_j < -tie
    synchronous     the same, all at once: ends in a fixed point, or where it goes back and forth between two states
    stochastic      one unit after another, +1 with probability σ(2·beta·h_j) (Glauber 1963)

W (N, N) symmetric with zeros on its diagonal, s (rows, N). A unit that changes adds a row of W to the fields,
2·s_j·W_j, so that a sweep in which little changes costs little. Fields are sums in double precision, in an order of
their own for each row of s: neither other rows nor threads change a bit.
"""
from libc.math cimport exp
from libc.stdint cimport int8_t, int32_t, uint64_t

import numpy as np

cimport numpy as cnp

from rnncore._core.kernels cimport (
    begin_call,
    end_call,
    kernels_for,
    parallel,
    raise_stopped,
    rc_kernels,
    rnncore_call,
    stopping,
)

cnp.import_array()

cdef enum:
    ASYNCHRONOUS
    SYNCHRONOUS
    STOCHASTIC

UPDATES = {"asynchronous": ASYNCHRONOUS, "synchronous": SYNCHRONOUS, "stochastic": STOCHASTIC}

cdef enum:
    TASKS_PER_THREAD = 4  # rows take unequal times

cdef struct Job:
    const rc_kernels *kernels
    long N, rows, chunk, most_sweeps
    int update
    bint shuffled
    double scale, tie, beta
    const char *couplings
    const double *thresholds
    const uint64_t *seeds
    int8_t *states  # (rows, N)
    double *fields  # (tasks, N), or (rows, N) where they are what is asked for
    int32_t *order  # (tasks, N): asynchronous: who comes when; synchronous: who changes
    int8_t *changed  # (tasks, N): who changed in the step before
    double *energies  # (rows,)
    int32_t *sweeps  # (rows,)
    int8_t *endings  # (rows,): 0 not yet ended, 1 a fixed point, 2 two states in turn
    int32_t *flips  # of a single row: who changed, one after another; or NULL
    long n_flips


cdef inline uint64_t next_random(uint64_t *state) noexcept nogil:
    """Steele, Lea and Flood 2014: SplitMix64."""
    state[0] += <uint64_t> 0x9E3779B97F4A7C15
    cdef uint64_t z = state[0]
    z = (z ^ (z >> 30)) * <uint64_t> 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t> 0x94D049BB133111EB
    return z ^ (z >> 31)


cdef void shuffle(int32_t *order, long n, uint64_t *random) noexcept nogil:
    cdef long i, j
    for i in range(n - 1, 0, -1):
        j = <long> (((next_random(random) >> 32) * <uint64_t> (i + 1)) >> 32)
        order[i], order[j] = order[j], order[i]


cdef bint sum_fields(const Job *job, const int8_t *s, double *f) noexcept nogil:
    """Sum the fields of one row; false: stopped."""
    cdef long i, N = job.N
    for i in range(N):
        f[i] = 0
    for i in range(N):
        if stopping():
            return False
        job.kernels.add_scaled_wide(N, s[i], job.couplings + i * N * job.kernels.itemsize, f)
    return True


cdef inline void flip(Job *job, int8_t *s, double *f, long j) noexcept nogil:
    s[j] = -s[j]
    job.kernels.add_scaled_wide(job.N, 2.0 * s[j], job.couplings + j * job.N * job.kernels.itemsize, f)
    if job.flips != NULL:
        job.flips[job.n_flips] = <int32_t> j
        job.n_flips += 1


cdef inline bint against(const Job *job, const int8_t *s, const double *f, long j) noexcept nogil:
    """Whether a unit's field says otherwise than its state."""
    return s[j] * (job.scale * f[j] - job.thresholds[j]) < -job.tie


cdef long sweep_in_turn(Job *job, int8_t *s, double *f, int32_t *order, uint64_t *random) noexcept nogil:
    """Update all units one after another; return how many changed, -1: stopped."""
    cdef long i, j, changed = 0, N = job.N
    cdef double p
    cdef int8_t new
    if job.shuffled:
        shuffle(order, N, random)
    for i in range(N):
        j = order[i]
        if job.update == STOCHASTIC:
            p = 1 / (1 + exp(-2 * job.beta * (job.scale * f[j] - job.thresholds[j])))
            new = 1 if (next_random(random) >> 11) * (1.0 / 9007199254740992.0) < p else -1
            if new == s[j]:
                continue
        elif not against(job, s, f, j):
            continue
        if stopping():
            return -1
        flip(job, s, f, j)
        changed += 1
    return changed


cdef long step_at_once(Job *job, int8_t *s, double *f, int32_t *order, int8_t *changed, bint *back) noexcept nogil:
    """Update all units at once; return how many changed, -1: stopped. back: whether they are as two steps before."""
    cdef long i, j, count = 0, N = job.N
    cdef int8_t now
    back[0] = True
    for j in range(N):
        now = against(job, s, f, j)
        if now:
            order[count] = <int32_t> j
            count += 1
        if now != changed[j]:
            back[0] = False
        changed[j] = now
    for i in range(count):
        if stopping():
            return -1
        flip(job, s, f, order[i])
    return count


cdef void recall_rows(void *arg, int index) noexcept nogil:
    cdef Job *job = <Job *> arg
    cdef long r, j, count, done, N = job.N, end = min((index + 1) * job.chunk, job.rows)
    cdef double *f = job.fields + index * N
    cdef int32_t *order = job.order + index * N
    cdef int8_t *changed = job.changed + index * N
    cdef int8_t *s
    cdef uint64_t random
    cdef bint back = False
    cdef double energy
    for r in range(index * job.chunk, end):
        s, random, done = job.states + r * N, job.seeds[r], 0
        if not sum_fields(job, s, f):
            return
        for j in range(N):
            order[j], changed[j] = <int32_t> j, 0
        job.endings[r] = 0
        while done < job.most_sweeps and not job.endings[r]:
            if job.update == SYNCHRONOUS:
                count = step_at_once(job, s, f, order, changed, &back)
            else:
                count = sweep_in_turn(job, s, f, order, &random)
            if count < 0 or stopping():
                return
            done += 1
            if job.update == SYNCHRONOUS and count and back:
                job.endings[r] = 2
            elif count == 0 and job.update != STOCHASTIC:
                job.endings[r] = 1
        energy = 0
        for j in range(N):
            energy += s[j] * (job.thresholds[j] - 0.5 * job.scale * f[j])
        job.energies[r], job.sweeps[r] = energy, <int32_t> done


cdef void fields_of_rows(void *arg, int index) noexcept nogil:
    cdef Job *job = <Job *> arg
    cdef long r
    for r in range(index * job.chunk, min((index + 1) * job.chunk, job.rows)):
        if not sum_fields(job, job.states + r * job.N, job.fields + r * job.N):
            return


cdef int divide(Job *job, couplings, states, int threads):
    """Fill in sizes and arrays that any job has; return how many tasks there are."""
    job.kernels = kernels_for(couplings.itemsize)
    job.rows, job.N = states.shape[0], states.shape[1]
    job.chunk = (job.rows + TASKS_PER_THREAD * threads - 1) // (TASKS_PER_THREAD * threads)
    job.couplings = <const char *> cnp.PyArray_DATA(couplings)
    job.states = <int8_t *> cnp.PyArray_DATA(states)
    return (job.rows + job.chunk - 1) // job.chunk


def recall(couplings, states, thresholds, seeds, *, str update, double scale, double tie, double beta, bint shuffled,
           long most_sweeps, bint record, int threads):
    """Let states (B, N) int8 run, in place; return energies, sweeps, endings, all (B,), and who changed.

    couplings (N, N) float32 or float64; thresholds (N,) float64; seeds (B,) uint64. endings: 1 for a fixed point, 2
    for two states in turn, 0 where there was no end. record: of a single row tell, too, which
    units changed in their order.
    """
    cdef Job job
    cdef rnncore_call call
    cdef int tasks = divide(&job, couplings, states, threads)
    cdef long N = job.N
    fields, order = np.empty((tasks, N)), np.empty((tasks, N), dtype=np.int32)
    changed = np.empty((tasks, N), dtype=np.int8)
    energies, sweeps = np.empty(job.rows), np.empty(job.rows, dtype=np.int32)
    endings = np.empty(job.rows, dtype=np.int8)
    flips = np.empty(most_sweeps * N if record else 0, dtype=np.int32)
    job.update, job.shuffled, job.most_sweeps = UPDATES[update], shuffled, most_sweeps
    job.scale, job.tie, job.beta = scale, tie, beta
    job.thresholds = <const double *> cnp.PyArray_DATA(thresholds)
    job.seeds = <const uint64_t *> cnp.PyArray_DATA(seeds)
    job.fields, job.order = <double *> cnp.PyArray_DATA(fields), <int32_t *> cnp.PyArray_DATA(order)
    job.changed, job.endings = <int8_t *> cnp.PyArray_DATA(changed), <int8_t *> cnp.PyArray_DATA(endings)
    job.energies, job.sweeps = <double *> cnp.PyArray_DATA(energies), <int32_t *> cnp.PyArray_DATA(sweeps)
    job.flips, job.n_flips = <int32_t *> cnp.PyArray_DATA(flips) if record else NULL, 0
    with nogil:
        begin_call(&call, True)
        parallel(recall_rows, &job, tasks, threads)
        end_call(&call)
    if call.stopped:
        raise_stopped()
    return energies, sweeps, endings, flips[:job.n_flips].copy()


def fields(couplings, states, int threads):
    """Return Σ_i s_i·W_ij for states (B, N) int8, (B, N) float64."""
    cdef Job job
    cdef rnncore_call call
    cdef int tasks = divide(&job, couplings, states, threads)
    found = np.empty((job.rows, job.N))
    job.fields = <double *> cnp.PyArray_DATA(found)
    with nogil:
        begin_call(&call, True)
        parallel(fields_of_rows, &job, tasks, threads)
        end_call(&call)
    if call.stopped:
        raise_stopped()
    return found
