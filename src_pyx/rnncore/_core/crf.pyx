"""A linear-chain CRF on a head's scores: what crf.h does for one shard of a batch, spread over threads.

    loss = (Σ over sequences of weight·(log Z - score of the targets)) / counted targets

Sequences are dealt to threads and share nothing; what is summed over rows is summed in a fixed order. Those whose
scores lie too far apart (kernels/crf_api.h: EXACT) are done again: from single precision in double, where there is room
for 10^300 instead of 10^38, and where that is not enough in log space, slowly and one after another. So are those with
unknown labels (PARTIAL).
"""
from libc.stdint cimport int64_t
from libc.string cimport memset

import numpy as np

cimport numpy as cnp

from rnncore._core.gemm cimport (
    Arena,
    Team,
    bind_packed,
    padded,
    team_column_sums,
    team_outer,
    team_pack,
    without_storage,
)
from rnncore._core.kernels cimport (
    BETWEEN,
    RC_CRF_EXACT,
    RC_CRF_PARTIAL,
    begin_call,
    end_call,
    gemm_for,
    kernels_for,
    parallel,
    raise_stopped,
    rc_columns,
    rc_crf,
    rc_kernels,
    rc_packed,
    rnncore_call,
    stopping,
    stops_after,
)
from rnncore._core.schedule cimport Schedule, View

cnp.import_array()

cdef enum Work:
    FORWARD
    BOTH_WAYS
    FINISH
    VITERBI
    BEST

cdef enum:
    SMALL = 500000  # steps of work (K² + 1000 a row) that one thread does before a second one has woken up


cdef struct ChainJob:
    const rc_kernels *kernels
    const rc_crf *c
    Work work
    int shards
    const int64_t *targets
    double scale
    long rows, top, scratch_size
    int64_t *paths
    double *scores
    char *scratch

cdef void chain_task(void *arg, int shard) noexcept nogil:
    cdef ChainJob *job = <ChainJob *> arg
    cdef long b
    if job.work == FORWARD or job.work == BOTH_WAYS:
        job.kernels.crf.forward(job.c, shard, job.shards)
    if job.work == BOTH_WAYS:
        job.kernels.crf.backward(job.c, shard, job.shards)
    elif job.work == FINISH:
        job.kernels.crf.finish(job.c, job.targets, job.scale, shard, job.shards)
    elif job.work == VITERBI:
        job.kernels.crf.viterbi(job.c, shard, job.shards, job.paths)
    elif job.work == BEST:
        b = shard
        while b < job.c.sequences:
            job.kernels.crf.best(job.c, b, job.top, job.rows, job.scratch + shard * job.scratch_size, job.paths,
                                 job.scores + b * job.top)
            b += job.shards

cdef void spread(ChainJob *job, Work work) noexcept nogil:
    job.work = work
    parallel(chain_task, job, job.shards, job.shards)


cdef class Chain:
    """Transition, start and end scores of K labels.

    Parameters
    ----------
    outputs : int
        K.
    transitions, start, end : int
        Places in theta of (K, K), (K,) and (K,) numbers.
    allowed : uint8 array (K·K + 2·K,) or None
        Which transitions, starts and ends there may be.
    """

    def __cinit__(self, long outputs, long transitions, long start, long end, allowed):
        self.c.labels = outputs
        self.transitions = transitions
        self.start = start
        self.end = end
        self.allowed = allowed
        self.flags = NULL if allowed is None else <const char *> cnp.PyArray_DATA(allowed)
        self.arena = Arena()
        self.weights = Arena()

    cdef carve_weights(self, const Team *team):
        """Places for what is made of the parameters."""
        cdef rc_crf *c = &self.c
        cdef long size = team.kernels.itemsize, K = c.labels
        cdef Team plain = without_storage(team)
        c.ld = padded(team.kernels, K)
        bind_packed(&plain, &c.onward, K, K, c.ld, False)
        bind_packed(&plain, &c.back, K, K, c.ld, True)
        while True:
            self.weights.start()
            c.transitions = self.weights.take(K * c.ld * size)
            c.factors = self.weights.take(K * c.ld * size)
            c.start = self.weights.take(c.ld * size)
            c.end = self.weights.take(c.ld * size)
            c.start_factors = self.weights.take(c.ld * size)
            c.end_factors = self.weights.take(c.ld * size)
            c.pads = self.weights.take(c.ld * size)
            if team.gemm == NULL:
                self.weights.take_panels(team.kernels, &c.onward)
                self.weights.take_panels(team.kernels, &c.back)
            if not self.weights.settle():
                break
        c.onward.W = c.back.W = c.factors
        pads = np.full(c.ld, -np.inf, dtype=np.float32 if size == 4 else np.float64)
        pads[:K] = 0
        team.kernels.copy(1, c.ld, cnp.PyArray_DATA(pads), c.ld, c.pads, c.ld)

    cdef void prepare(self, const Team *team, const char *theta) noexcept nogil:
        """Read the parameters."""
        cdef rc_packed *weights[2]
        cdef const char *biases[2]
        cdef long size = team.kernels.itemsize
        team.kernels.crf.prepare(&self.c, theta + self.transitions * size, theta + self.start * size,
                                 theta + self.end * size, self.flags)
        weights[0] = &self.c.onward
        weights[1] = &self.c.back
        biases[0] = biases[1] = NULL
        team_pack(team, weights, biases, 2)

    cdef carve(self, const Team *team, const View *v, char *scores):
        """Places for the arrays of one batch."""
        cdef rc_crf *c = &self.c
        cdef long size = team.kernels.itemsize, wide
        if self.weights.capacity == 0:
            self.carve_weights(team)
        wide = v.rows * c.ld * size
        c.steps = v.steps
        c.sequences = v.sequences
        c.offsets = v.offsets
        c.active = v.active
        c.length = v.length
        c.last = v.last
        c.scores = scores
        c.weight = NULL
        while True:
            self.arena.start()
            c.alpha = self.arena.take(wide)
            c.gamma = self.arena.take(wide)
            c.beta = self.arena.take(wide)
            c.reach = self.arena.take(v.steps * c.ld * size)
            c.back_reach = self.arena.take(v.steps * c.ld * size)
            c.lost = <double *> self.arena.take(v.sequences * sizeof(double))
            c.log_total = <double *> self.arena.take(v.sequences * sizeof(double))
            c.flags = <int *> self.arena.take(v.sequences * sizeof(int))
            c.work = <double *> self.arena.take(2 * v.steps * c.labels * sizeof(double))
            self.expected = self.arena.take(c.labels * c.labels * size)
            self.counts = self.arena.take(c.labels * c.labels * size)
            if not self.arena.settle():
                break

    cdef redo(self, const Team *team, const View *v, const char *theta, bint marginals):
        """Give the sequences that the fast way lost what they lack: log_total, and with marginals beta and counts."""
        cdef rnncore_call call
        cdef rc_crf *c = &self.c
        cdef long b, n = 0
        for b in range(v.sequences):
            n += c.flags[b] & RC_CRF_EXACT
        if n == 0:
            return
        if team.kernels.itemsize == 4:
            marked = np.flatnonzero(np.asarray(<int[:v.sequences]> c.flags) & RC_CRF_EXACT)
            self.redo_wide(team, v, theta, marginals, marked.astype(np.int64))
            return
        with nogil:
            begin_call(&call, True)
            for b in range(v.sequences):
                if stopping():
                    break
                if c.flags[b] & RC_CRF_EXACT:
                    c.log_total[b] = team.kernels.crf.exact(c, b, NULL, marginals, 1, self.counts)
            end_call(&call)
        if call.stopped:
            raise_stopped()

    cdef redo_wide(self, const Team *team, const View *v, const char *theta, bint marginals, int64_t[::1] marked):
        """Do the marked sequences again in double precision."""
        cdef rnncore_call call
        cdef rc_crf *c = &self.c
        cdef rc_crf *w
        cdef View part
        cdef ChainJob job
        cdef long n = marked.shape[0], K = c.labels, i, t, k, row, left = BETWEEN
        cdef const float *narrow
        cdef double *row_of
        lengths = np.array([v.length[marked[i]] for i in range(n)], dtype=np.int64)
        cdef Schedule schedule = Schedule(int(lengths[0]), n, lengths)  # longest first as before: in the same order
        part = schedule.view
        if self.wide is None:
            self.wide = Chain(K, 0, K * K, K * K + K, self.allowed)
            self.wide_team.kernels = kernels_for(8)
            self.wide_team.gemm = gemm_for(8)
            self.wide_team.scratch_size = (self.wide_team.kernels.outer_scratch(K, K) * 8 + 63) // 64 * 64
        cdef long ld = padded(self.wide_team.kernels, K)
        self.wide_team.threads = team.threads
        scratch = np.empty(team.threads * self.wide_team.scratch_size + 64, dtype=np.uint8)
        self.wide_team.scratch = <char *> ((<size_t> cnp.PyArray_DATA(scratch) + 63) // 64 * 64)
        cdef double[::1] wide_theta = np.empty(K * K + 2 * K)
        narrow = <const float *> theta
        for k in range(K * K):
            wide_theta[k] = narrow[self.transitions + k]
        for k in range(K):
            wide_theta[K * K + k] = narrow[self.start + k]
            wide_theta[K * K + K + k] = narrow[self.end + k]
        cdef double[::1] scores = np.zeros(schedule.rows * ld), weight = np.ones(n)
        for i in range(n):
            weight[i] = c.weight[marked[i]] if c.weight != NULL else 1
        self.wide.carve(&self.wide_team, &part, <char *> &scores[0])
        w = &self.wide.c
        w.weight = &weight[0]
        start_job(&job, &self.wide_team, w, schedule.rows)
        memset(w.flags, 0, n * sizeof(int))
        memset(self.wide.counts, 0, K * K * sizeof(double))
        with nogil:
            begin_call(&call, True)
            for i in range(n):
                for t in range(part.length[i]):
                    if stops_after(K, &left):
                        break
                    narrow = <const float *> c.scores + (v.offsets[t] + marked[i]) * c.ld
                    row = (part.offsets[t] + i) * ld
                    for k in range(K):
                        scores[row + k] = narrow[k]
            self.wide.prepare(&self.wide_team, <const char *> &wide_theta[0])
            spread(&job, BOTH_WAYS if marginals else FORWARD)
            end_call(&call)
        if call.stopped:
            raise_stopped()
        self.wide.redo(&self.wide_team, &part, NULL, marginals)
        with nogil:
            begin_call(&call, True)
            for i in range(n):
                c.log_total[marked[i]] = w.log_total[i]
                for t in range(part.length[i] if marginals else 0):
                    if stops_after(K, &left):
                        break
                    narrow = <const float *> c.beta + (v.offsets[t] + marked[i]) * c.ld
                    memset(<void *> narrow, 0, c.ld * sizeof(float))
                    row_of = <double *> w.beta + (part.offsets[t] + i) * ld
                    for k in range(K):
                        (<float *> narrow)[k] = <float> row_of[k]
            end_call(&call)
        if call.stopped:
            raise_stopped()
        if not marginals:
            return
        cdef double[::1] expected = np.empty(K * K)
        self.wide.expected_transitions(&self.wide_team, &part, 1, <char *> &expected[0], False)
        for k in range(K * K):
            (<float *> self.counts)[k] -= <float> expected[k]

    cdef void expected_transitions(self, const Team *team, const View *v, double scale, char *out,
                                   bint accumulate) noexcept nogil:
        """out (K, K) = or += scale·(E∘Σ_t α_{t-1}ᵀ·γ_t - counts)."""
        cdef rc_crf *c = &self.c
        cdef Team plain = without_storage(team)
        cdef rc_columns labels
        labels.at, labels.count, labels.sums = 0, c.labels, NULL
        team_outer(&plain, c.labels, v.rows - v.sequences, <char *> c.alpha, c.ld, v.earlier,
                   <char *> c.gamma + v.sequences * c.ld * team.kernels.itemsize, c.ld, NULL, 1, &labels, False,
                   self.expected, c.labels)
        team.kernels.crf.transition_gradient(c, scale, self.expected, self.counts, accumulate, out)

    cdef double loss(self, const Team *team, const View *v, char *scores, const int64_t *targets, double scale,
                     const double *weight, const char *theta, char *grad, bint accumulate) except? -1:
        """Sum of the sequences' losses; scores become scale·(their gradient), and grad gets scale·(the rest).

        grad : NULL: the losses alone are wanted.

        targets : per packed row, negative where the label is not known.
        weight : how much the loss of each packed sequence counts, or NULL.
        """
        cdef rnncore_call call
        cdef rc_crf *c = &self.c
        cdef ChainJob job
        cdef long b, t, row, K = c.labels, size = team.kernels.itemsize
        cdef double total = 0
        self.carve(team, v, scores)
        c.weight = weight
        start_job(&job, team, c, v.rows)
        job.targets = targets
        job.scale = scale
        with nogil:
            begin_call(&call, True)
            for b in range(v.sequences):
                c.flags[b] = 0
                for t in range(v.length[b]):
                    if targets[v.offsets[t] + b] < 0:
                        c.flags[b] = RC_CRF_PARTIAL
            memset(self.counts, 0, K * K * size)
            self.prepare(team, theta)
            spread(&job, BOTH_WAYS)
            end_call(&call)
        if call.stopped:
            raise_stopped()
        self.redo(team, v, theta, True)
        with nogil:
            begin_call(&call, True)
            for b in range(v.sequences):
                if stopping():
                    break
                total += (1 if weight == NULL else weight[b]) * (c.log_total[b] - (
                    team.kernels.crf.exact(c, b, targets, True, -1, self.counts) if c.flags[b] & RC_CRF_PARTIAL
                    else team.kernels.crf.path_score(c, b, targets, self.counts)))
            if grad != NULL:
                spread(&job, FINISH)
                self.expected_transitions(team, v, scale, grad + self.transitions * size, accumulate)
                team_column_sums(team, v.sequences, K, scores, c.ld, accumulate, grad + self.start * size)
                if not accumulate:
                    memset(grad + self.end * size, 0, K * size)
                for b in range(v.sequences):
                    row = v.last[b]
                    team.kernels.add(1, K, scores + row * c.ld * size, c.ld, grad + self.end * size, K)
            end_call(&call)
        if call.stopped:
            raise_stopped()
        return total

    cdef marginals(self, const Team *team, const View *v, char *scores, const char *theta):
        """Scores become marginal probabilities."""
        cdef rnncore_call call
        cdef rc_crf *c = &self.c
        cdef ChainJob job
        self.carve(team, v, scores)
        start_job(&job, team, c, v.rows)
        with nogil:
            begin_call(&call, True)
            memset(c.flags, 0, v.sequences * sizeof(int))
            memset(self.counts, 0, c.labels * c.labels * team.kernels.itemsize)
            self.prepare(team, theta)
            spread(&job, BOTH_WAYS)
            end_call(&call)
        if call.stopped:
            raise_stopped()
        self.redo(team, v, theta, True)
        with nogil:
            begin_call(&call, True)
            spread(&job, FINISH)
            end_call(&call)
        if call.stopped:
            raise_stopped()

    cdef decode(self, const Team *team, const View *v, char *scores, const char *theta, long top):
        """Return the best paths (top, T, B), -1 past the ends, and their log-probabilities (top, B)."""
        cdef rnncore_call call
        cdef rc_crf *c = &self.c
        cdef ChainJob job
        cdef long b, t, r, rows = v.rows
        self.carve(team, v, scores)
        start_job(&job, team, c, rows)
        job.top = top
        job.rows = rows
        job.scratch_size = (team.kernels.crf.best_work(c, top) + 63) // 64 * 64
        packed_paths = np.empty(top * rows, dtype=np.int64)
        packed_scores = np.empty(v.sequences * top)
        scratch = np.empty(job.shards * job.scratch_size if top > 1 else 0, dtype=np.uint8)
        job.paths = <int64_t *> cnp.PyArray_DATA(packed_paths)
        job.scores = <double *> cnp.PyArray_DATA(packed_scores)
        job.scratch = <char *> cnp.PyArray_DATA(scratch)
        with nogil:
            begin_call(&call, True)
            memset(c.flags, 0, v.sequences * sizeof(int))
            self.prepare(team, theta)
            spread(&job, FORWARD)
            end_call(&call)
        if call.stopped:
            raise_stopped()
        self.redo(team, v, theta, False)
        with nogil:
            begin_call(&call, True)
            if top > 1:
                spread(&job, BEST)
            else:
                spread(&job, VITERBI)
                for b in range(v.sequences):
                    if stopping():  # then not all paths are there
                        break
                    job.scores[b] = team.kernels.crf.path_score(c, b, job.paths, NULL)
            end_call(&call)
        if call.stopped:
            raise_stopped()
        paths = np.full((top, v.steps, v.sequences), -1, dtype=np.int64)
        log_p = np.empty((top, v.sequences))
        cdef int64_t *path = <int64_t *> cnp.PyArray_DATA(paths)
        cdef double *out = <double *> cnp.PyArray_DATA(log_p)
        for r in range(top):
            for b in range(v.sequences):
                out[r * v.sequences + v.order[b]] = min(job.scores[b * top + r] - c.log_total[b], 0)
            for t in range(v.steps):
                for b in range(v.active[t]):
                    path[(r * v.steps + t) * v.sequences + v.order[b]] = job.paths[r * rows + v.offsets[t] + b]
        return paths, log_p

    def sizes(self):
        """Return bytes held: what was made of the parameters, and arrays of the largest batch so far."""
        return self.weights.capacity, self.arena.capacity


cdef void start_job(ChainJob *job, const Team *team, const rc_crf *c, long rows) noexcept:
    memset(job, 0, sizeof(ChainJob))
    job.kernels = team.kernels
    job.c = c
    job.shards = min(team.threads, c.sequences) if rows * (c.labels * c.labels + 1000) > SMALL else 1
