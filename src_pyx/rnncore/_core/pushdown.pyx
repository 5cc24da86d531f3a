"""A network with a continuous stack on strings, each with its own score and gradient: plain loops, no level.

At each step, with state S, input symbol l, the stack's reading R (K symbols, and how empty it is: 1 - Σ R):

    z_i = θ_i + Σ_jk W_lijk·S_j·R_k     S'_i = σ(z_i) for N states     A = 2σ(z_N) - 1, the action; in [-ε, ε]: none
    pop       u = -A: s_i <- max(0, s_i - max(0, u - Σ_{j>i} s_j)), and what is missing: m += max(0, u - L)
    push      A of the input symbol on top
    reading   R_k = Σ_{i: symbol k} min(s_i, max(0, 1 - Σ_{j>i} s_j))      L = Σ_i s_i
    score     S_0 - L - m at the end
    loss      (score - 1)² of a legal string, max(0, score)² of another

Backward, either exact (Grefenstette et al. 2015: all of it has derivatives almost everywhere), or that of Giles et al.
(1990): L follows every action, ∂R/∂A = (what is on top) - (where reading ends), strengths are not gone through. Forward
propagation of the same derivatives, as in real-time recurrent learning, gives the same sums.

W (K, N + 1, N, K + 1), θ (N + 1,). float64.
"""
import numpy as np

cimport numpy as cnp
from libc.math cimport exp
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from rnncore._core.kernels cimport begin_call, end_call, parallel, raise_stopped, rnncore_call, stopping

cnp.import_array()

cdef enum:
    SMALL = 20000  # multiply-adds that one thread finishes before a second one has woken up


cdef struct Job:
    long N, K, strings, tasks, longest, weights
    double epsilon
    bint exact, learning, failed
    const double *W
    const double *first
    const int64_t *symbols
    const int64_t *starts
    const double *legal
    const double *weight
    double *scores
    double *losses
    double *dW
    double *states
    double *actions
    double *readings
    double *lengths

# What one string needs: of steps 0 .. T. Strengths: row t holds those after step t, t of them.
cdef struct Tape:
    double *S
    double *A
    double *R
    double *L
    double *s
    double *ds
    double *dS
    double *dR
    double *dz


cdef inline double *strengths(const Tape *tape, long t) noexcept nogil:
    return tape.s + t * (t - 1) // 2


cdef double *tape_of(const Job *job, Tape *tape) noexcept nogil:
    cdef long T = job.longest, N = job.N, R = job.K + 1
    cdef long size = (T + 1) * (N + R + 1) + T + T * (T + 1) // 2 + T + 2 * N + R + 1
    cdef double *memory = <double *> malloc(size * sizeof(double))
    tape.S = memory
    tape.R = tape.S + (T + 1) * N
    tape.L = tape.R + (T + 1) * R
    tape.A = tape.L + T + 1
    tape.s = tape.A + T
    tape.ds = tape.s + T * (T + 1) // 2
    tape.dS = tape.ds + T
    tape.dR = tape.dS + N
    tape.dz = tape.dR + R
    return memory


cdef void read(const int64_t *symbols, const double *s, long t, long K, double *R) noexcept nogil:
    """The symbols within depth 1 of a stack of t strengths, and how much of that depth is empty."""
    cdef double room = 1
    cdef long i = t - 1
    memset(R, 0, K * sizeof(double))
    while i >= 0 and room > 0:
        R[symbols[i]] += min(s[i], room)
        room -= s[i]
        i -= 1
    R[K] = max(room, 0)


cdef double pop(double u, long t, double *s) noexcept nogil:
    """Take u from the top; returns what was missing."""
    cdef long i = t - 1
    cdef double taken
    while i >= 0 and u > 0:
        taken = min(s[i], u)
        s[i] -= taken
        u -= taken
        i -= 1
    return u


cdef double run(const Job *job, const Tape *tape, const int64_t *symbols, long T) noexcept nogil:
    """Forward; returns the score."""
    cdef long N = job.N, K = job.K, t, i, j, k
    cdef double missing = 0, z, A, share
    cdef const double *W
    cdef const double *S
    cdef const double *R
    cdef double *s
    memcpy(tape.S, job.first, N * sizeof(double))
    memset(tape.R, 0, K * sizeof(double))
    tape.R[K], tape.L[0] = 1, 0
    for t in range(T):
        S, R = tape.S + t * N, tape.R + t * (K + 1)
        W = job.W + symbols[t] * (N + 1) * N * (K + 1)
        for i in range(N + 1):
            z = job.W[job.weights - N - 1 + i]
            for j in range(N):
                share = 0
                for k in range(K + 1):
                    share += W[k] * R[k]
                z += S[j] * share
                W += K + 1
            z = 1 / (1 + exp(-z))
            if i < N:
                tape.S[(t + 1) * N + i] = z
            else:
                tape.A[t] = 2 * z - 1
        A = tape.A[t]
        s = strengths(tape, t + 1)
        memcpy(s, strengths(tape, t), t * sizeof(double))
        s[t] = A if A > job.epsilon else 0
        if A < -job.epsilon:
            missing += pop(-A, t, s)
        z = 0
        for i in range(t + 1):
            z += s[i]
        tape.L[t + 1] = z
        read(symbols, s, t + 1, K, tape.R + (t + 1) * (K + 1))
    return tape.S[T * N] - tape.L[T] - missing


cdef double back_through_stack(const Job *job, const Tape *tape, const int64_t *symbols, long t,
                               double dmissing) noexcept nogil:
    """From the gradients of the reading and of the strengths after step t to that of the action, exactly."""
    cdef const double *s = strengths(tape, t + 1)
    cdef const double *old = strengths(tape, t)
    cdef double *ds = tape.ds
    cdef double A = tape.A[t], u = -A, above = 0, empty = tape.dR[job.K], each, du = 0
    cdef long i = t, j
    while i >= 0 and above < 1:  # what is read of entry i: all of it, or what is left of depth 1
        each = tape.dR[symbols[i]] - empty
        if above + s[i] <= 1:
            ds[i] += each
        else:
            for j in range(i + 1, t + 1):
                ds[j] -= each
        above += s[i]
        i -= 1
    if A > job.epsilon:
        return ds[t]
    if A >= -job.epsilon:
        return 0
    above = 0
    for i in range(t - 1, -1, -1):
        if above >= u:
            break
        if above + old[i] > u:  # the entry that popping ends in
            du -= ds[i]
            for j in range(i + 1, t):
                ds[j] = ds[i]
        else:
            ds[i] = 0
        above += old[i]
    if u > above:  # nothing is left
        du += dmissing
        for i in range(t):
            ds[i] = -dmissing
    return -du


cdef double back_as_if(const Job *job, const Tape *tape, const int64_t *symbols, long t, double dlength,
                       double dmissing, bint *emptied) noexcept nogil:
    """The same as Giles et al. have it."""
    cdef const double *s = strengths(tape, t + 1)
    cdef long i = t, K = job.K, top = K, bottom = K
    cdef double A = tape.A[t], above = 0
    if -job.epsilon <= A <= job.epsilon:
        return 0
    while i >= 0 and above < 1:
        if s[i] > 0:
            if top == K:
                top = symbols[i]
            bottom = symbols[i]
            above += s[i]
        i -= 1
    if above < 1:
        bottom = K
    emptied[0] = -A > tape.L[t]
    return (-dmissing if emptied[0] else dlength) + tape.dR[top] - tape.dR[bottom]


cdef void learn(const Job *job, const Tape *tape, const int64_t *symbols, long T, double dscore,
                double *dW) noexcept nogil:
    """The gradient of one string's loss."""
    cdef long N = job.N, K = job.K, t, i, j, k, row
    cdef double dlength = -dscore, dmissing = -dscore, dA, dz, S, A
    cdef bint emptied = False
    cdef const double *W
    cdef const double *R
    cdef double *own
    memset(tape.dS, 0, N * sizeof(double))
    memset(tape.dR, 0, (K + 1) * sizeof(double))
    tape.dS[0] = dscore
    for i in range(T):
        tape.ds[i] = dlength
    for t in range(T - 1, -1, -1):
        if job.exact:
            dA = back_through_stack(job, tape, symbols, t, dmissing)
        else:
            emptied = False
            dA = back_as_if(job, tape, symbols, t, dlength, dmissing, &emptied)
            if emptied:
                dlength = -dmissing
        for i in range(N):
            S = tape.S[(t + 1) * N + i]
            tape.dz[i] = tape.dS[i] * S * (1 - S)
        A = tape.A[t]
        tape.dz[N] = dA * (1 - A * A) / 2
        memset(tape.dS, 0, N * sizeof(double))
        memset(tape.dR, 0, (K + 1) * sizeof(double))
        row = symbols[t] * (N + 1) * N * (K + 1)
        W, own, R = job.W + row, dW + row, tape.R + t * (K + 1)
        for i in range(N + 1):
            dz = tape.dz[i]
            dW[job.weights - N - 1 + i] += dz
            for j in range(N):
                S = tape.S[t * N + j]
                for k in range(K + 1):
                    own[k] += dz * S * R[k]
                    tape.dS[j] += dz * W[k] * R[k]
                    tape.dR[k] += dz * W[k] * S
                W += K + 1
                own += K + 1


cdef void task(void *arg, int index) noexcept nogil:
    cdef Job *job = <Job *> arg
    cdef Tape tape
    cdef long n = index, T, at, R = job.K + 1
    cdef double score, off
    cdef double *memory = tape_of(job, &tape)
    if memory == NULL:
        job.failed = True
        return
    while n < job.strings and not stopping():
        at, T = job.starts[n], job.starts[n + 1] - job.starts[n]
        score = run(job, &tape, job.symbols + at, T)
        job.scores[n] = score
        if job.learning:
            off = score - 1 if job.legal[n] else max(score, 0)
            learn(job, &tape, job.symbols + at, T, 2 * off * job.weight[n], job.dW + n * job.weights)
            job.losses[n] = off * off * job.weight[n]
        if job.states != NULL:
            memcpy(job.states + at * job.N, tape.S + job.N, T * job.N * sizeof(double))
            memcpy(job.actions + at, tape.A, T * sizeof(double))
            memcpy(job.readings + at * R, tape.R + R, T * R * sizeof(double))
            memcpy(job.lengths + at, tape.L + 1, T * sizeof(double))
        n += job.tasks
    free(memory)


cdef void prepare(Job *job, long states, long alphabet, double epsilon, theta, first, symbols, starts, scores,
                  int threads):
    job.N, job.K, job.epsilon = states, alphabet, epsilon
    job.weights = alphabet * (states + 1) * states * (alphabet + 1) + states + 1
    job.W, job.first = <const double *> cnp.PyArray_DATA(theta), <const double *> cnp.PyArray_DATA(first)
    job.symbols, job.starts = <const int64_t *> cnp.PyArray_DATA(symbols), <const int64_t *> cnp.PyArray_DATA(starts)
    job.strings, job.longest = len(scores), int(np.diff(starts).max())
    job.scores = <double *> cnp.PyArray_DATA(scores)
    job.tasks = min(<long> threads, job.strings) if len(symbols) * job.weights // alphabet > SMALL else 1
    job.learning = job.failed = job.exact = False
    job.legal = job.weight = NULL
    job.losses = job.dW = job.states = job.actions = job.readings = job.lengths = NULL


cdef int work(Job *job) except -1:
    cdef rnncore_call call
    with nogil:
        begin_call(&call, True)
        parallel(task, job, job.tasks, job.tasks)
        end_call(&call)
    if call.stopped:
        raise_stopped()
    if job.failed:
        raise MemoryError(f"no memory for strings of {job.longest} symbols")
    return 0


def scores_of(theta, first, symbols, starts, double epsilon, int threads):
    """Return each string's score (strings,).

    theta : W and θ, flat; first (N,), the state that strings begin with.
    symbols : int64, those of all strings end to end, from 0 to K - 1; starts : int64 (strings + 1,), from 0 on.
    """
    cdef Job job
    cdef long N = len(first), K = alphabet_of(len(theta), N)
    scores = np.empty(len(starts) - 1)
    prepare(&job, N, K, epsilon, theta, first, symbols, starts, scores, threads)
    work(&job)
    return scores


def traces_of(theta, first, symbols, starts, double epsilon, int threads):
    """Return scores, and after each step states (steps, N), actions (steps,), readings (steps, K + 1), lengths."""
    cdef Job job
    cdef long N = len(first), K = alphabet_of(len(theta), N), steps = len(symbols)
    scores, states, actions = np.empty(len(starts) - 1), np.empty((steps, N)), np.empty(steps)
    readings, lengths = np.empty((steps, K + 1)), np.empty(steps)
    prepare(&job, N, K, epsilon, theta, first, symbols, starts, scores, threads)
    job.states, job.actions = <double *> cnp.PyArray_DATA(states), <double *> cnp.PyArray_DATA(actions)
    job.readings, job.lengths = <double *> cnp.PyArray_DATA(readings), <double *> cnp.PyArray_DATA(lengths)
    work(&job)
    return scores, states, actions, readings, lengths


def learn_from(theta, first, symbols, starts, legal, weight, double epsilon, bint exact, int threads):
    """Return each string's loss, and the gradient of their sum: of W and θ, flat.

    legal, weight : float64 (strings,): 1 or 0; how much each one counts.
    """
    cdef Job job
    cdef long N = len(first), K = alphabet_of(len(theta), N)
    scores, losses = np.zeros((2, len(starts) - 1))
    gradients = np.zeros((len(scores), len(theta)))
    prepare(&job, N, K, epsilon, theta, first, symbols, starts, scores, threads)
    job.legal, job.weight = <const double *> cnp.PyArray_DATA(legal), <const double *> cnp.PyArray_DATA(weight)
    job.dW = <double *> cnp.PyArray_DATA(gradients)
    job.losses, job.learning, job.exact = <double *> cnp.PyArray_DATA(losses), True, exact
    work(&job)
    return losses, gradients.sum(axis=0)


cdef long alphabet_of(long weights, long N):
    cdef long K = 1
    while K * (N + 1) * N * (K + 1) + N + 1 < weights:
        K += 1
    return K
