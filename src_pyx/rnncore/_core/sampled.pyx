"""Sampled softmax (Jean, Cho, Memisevic and Bengio 2015): a batch tells its targets from some classes only.

    forward    s_y = z·w_y + b_y for the target y, s_k = z·w_k + b_k - log π_k for the sampled classes k ≠ y
               L = -s_y + log(e^s_y + Σ_k e^s_k)
    backward   ds as of any softmax; dw_y = Σ ds_y·z, dw_k = Σ ds_k·z, dz = ds_y·w_y + Σ_k ds_k·w_k

π_k is the probability that k is among the samples, so Σ_k e^s_k is in the mean what it is over all other classes. The
samples are the same for all rows: their scores are one product. Of the table of vectors w only rows that are sampled or
targets are read or get a gradient.
"""
from libc.math cimport INFINITY
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

import numpy as np

cimport numpy as cnp

from rnncore._core.gemm cimport (
    Arena,
    RunningOuter,
    begin_outer,
    bind_packed,
    clear,
    end_outer,
    go_on_outer,
    outer_scratch,
    padded,
    team_column_sums,
    team_product,
    team_scatter,
)
from rnncore._core.kernels cimport RC_FROM_BIAS, RC_FROM_C
from rnncore._core.projection cimport Core, finish_scores, pack_transposed, pack_some, weigh_rows
from rnncore._core.rows cimport distinct, zero_rows

cnp.import_array()


cdef inline double number(const char *array, long i, long size) noexcept nogil:
    return (<const float *> array)[i] if size == 4 else (<const double *> array)[i]


cdef inline void put(char *array, long i, long size, double value) noexcept nogil:
    if size == 4:
        (<float *> array)[i] = <float> value
    else:
        (<double *> array)[i] = value


cdef class Samples:
    """What a batch's targets are told apart from.

    Parameters
    ----------
    outputs : int
        K, all classes.
    """

    def __cinit__(self, long outputs):
        self.outputs = outputs
        self.arena = Arena()

    cdef take(self, ids, logs):
        """The classes of the next batch, int64, sorted and distinct; log π of each, float64."""
        self.held = (ids, logs)
        self.count = ids.shape[0]
        self.ids = <const int64_t *> cnp.PyArray_DATA(ids)
        self.logs = <const double *> cnp.PyArray_DATA(logs)

    cdef carve(self, Core *c):
        """Places for the arrays of a batch; c: the head, bound to it, with its targets."""
        cdef Core *p = &self.part
        cdef long size = c.team.kernels.itemsize, widest = 0, at = 0
        cdef int s
        p[0] = c[0]
        self.width = c.weight[0].ldw
        p.options.outputs = self.count + 1
        p.options.ld = padded(c.team.kernels, self.count + 1)
        p.tied = False
        for s in range(c.parts):
            bind_packed(&c.team, &p.weight[s], c.input[s].width, self.count, self.width, True)
            bind_packed(&c.team, &p.weight_T[s], self.count, c.input[s].width, self.width, False)
            widest = max(widest, c.input[s].width)
        p.team.scratch_size = (outer_scratch(&c.team, self.count, widest) * size + 63) // 64 * 64
        while True:
            self.arena.start()
            self.vectors = self.arena.take(self.count * self.width * size)
            self.dvectors = self.arena.take(self.count * self.width * size)
            self.bias = self.arena.take((self.count + 1) * size)
            self.dbias = self.arena.take((self.count + 1) * size)
            self.own = self.arena.take(c.rows * size)
            self.more = self.arena.take(c.rows * padded(c.team.kernels, widest) * size)
            p.scores = self.arena.take(c.rows * p.options.ld * size)
            p.targets = self.arena.take(c.rows * sizeof(int64_t))
            p.team.scratch = self.arena.take(p.team.scratch_size * p.team.threads)
            p.weight[0].bias = self.arena.take(p.options.ld * size)
            for s in range(c.parts if c.team.gemm == NULL else 0):
                self.arena.take_panels(c.team.kernels, &p.weight[s])
                self.arena.take_panels(c.team.kernels, &p.weight_T[s])
            if not self.arena.settle():
                break
        for s in range(c.parts):
            p.weight[s].W = p.weight_T[s].W = self.vectors + at * size
            at += c.input[s].width

    cdef clear_rows(self, Core *c, bint accumulate, touched):
        """Zero the gradient rows that are not written anew, and note those that are: samples and targets."""
        cdef long bytes = self.width * c.team.kernels.itemsize
        cdef char *table = c.grad + c.W_hy * c.team.kernels.itemsize
        ids, _ = self.held
        found = np.union1d(ids, distinct(<const int64_t *> c.targets, c.rows, self.outputs))
        if accumulate:
            touched.add(c.W_hy, found)
            return
        rows = touched.replace(c.W_hy, found)
        if rows is None:
            memset(table, 0, self.outputs * bytes)
        else:
            zero_rows(table, rows, bytes)

    cdef void losses(self, Core *c, bint fresh, bint accumulate) noexcept nogil:
        """The losses of all rows, and all gradients. fresh: z has none yet."""
        cdef Core *p = &self.part
        cdef long size = c.team.kernels.itemsize
        cdef int s
        for s in range(c.parts):
            p.dz[s] = c.dz[s]
        self.score(c)
        finish_scores(p, True)
        if p.importance != NULL:
            weigh_rows(p)
        if not accumulate:
            memset(c.grad + c.b_y * size, 0, self.outputs * size)
        self.back_to_table(c)
        self.back_to_z(c, fresh)

    cdef void score(self, Core *c) noexcept nogil:
        cdef Core *p = &self.part
        cdef long size = c.team.kernels.itemsize, bytes = self.width * size, row, j, low, high, at
        cdef int64_t y
        cdef const char *table = c.theta + c.W_hy * size
        cdef const char *bias = c.theta + c.b_y * size
        cdef const int64_t *targets = <const int64_t *> c.targets
        cdef double score
        cdef int s
        for j in range(self.count):
            memcpy(self.vectors + j * bytes, table + self.ids[j] * bytes, bytes)
            put(self.bias, j, size, number(bias, self.ids[j], size) - self.logs[j])
        pack_some(p, p.weight, self.bias)
        for s in range(c.parts):
            team_product(&p.team, &p.weight[s], c.rows, c.input[s].data, c.input[s].ld,
                         RC_FROM_C if s else RC_FROM_BIAS, p.scores, p.options.ld)
        for row in range(c.rows):
            y = targets[row]
            (<int64_t *> p.targets)[row] = self.count if y >= 0 else -1
            score, at = 0, 0
            for s in range(c.parts if y >= 0 else 0):
                score += c.team.kernels.dot(c.input[s].width, c.input[s].data + row * c.input[s].ld * size,
                                            table + y * bytes + at * size)
                at += c.input[s].width
            put(p.scores, row * p.options.ld + self.count, size, score + number(bias, y, size) if y >= 0 else 0)
            low, high = 0, self.count  # the target among the samples is there already
            while low < high:
                j = (low + high) // 2
                if self.ids[j] < y:
                    low = j + 1
                else:
                    high = j
            if low < self.count and self.ids[low] == y:
                put(p.scores, row * p.options.ld + low, size, -INFINITY)

    cdef void back_to_table(self, Core *c) noexcept nogil:
        """Gradients of the vectors and biases of samples and targets."""
        cdef Core *p = &self.part
        cdef RunningOuter sums
        cdef long size = c.team.kernels.itemsize, bytes = self.width * size, row, j, at = 0
        cdef char *table = c.grad + c.W_hy * size
        cdef char *bias = c.grad + c.b_y * size
        cdef const int64_t *targets = <const int64_t *> c.targets
        cdef int s
        for row in range(c.rows):
            put(self.own, row, size, number(p.scores, row * p.options.ld + self.count, size))
        team_column_sums(&p.team, c.rows, self.count, p.scores, p.options.ld, False, self.dbias)
        for s in range(c.parts):
            begin_outer(&sums, &p.team, self.count, c.input[s].width, c.rows, c.rows, False, self.dvectors + at * size,
                        NULL)
            sums.ldc = self.width
            go_on_outer(&sums, c.rows, p.scores, p.options.ld, c.input[s].data, c.input[s].ld)
            end_outer(&sums)
            at += c.input[s].width
        for j in range(self.count):
            c.team.kernels.add(1, self.width, self.dvectors + j * bytes, self.width, table + self.ids[j] * bytes,
                               self.width)
            put(bias, self.ids[j], size, number(bias, self.ids[j], size) + number(self.dbias, j, size))
        at = 0
        for s in range(c.parts):
            team_scatter(&p.team, c.rows, c.input[s].width, 1, targets, self.own, c.input[s].data, c.input[s].ld,
                         table + at * size, self.width)
            at += c.input[s].width
        for row in range(c.rows):
            if targets[row] >= 0:
                put(bias, targets[row], size, number(bias, targets[row], size) + number(self.own, row, size))

    cdef void back_to_z(self, Core *c, bint fresh) noexcept nogil:
        cdef Core *p = &self.part
        cdef long size = c.team.kernels.itemsize, at = 0, ld
        cdef const int64_t *targets = <const int64_t *> c.targets
        cdef int s
        pack_transposed(p)
        for s in range(c.parts):
            ld = c.input[s].ld
            if fresh:
                clear(p.dz[s], c.rows * ld * size)
            c.team.kernels.gather(c.rows, c.input[s].width, 1, targets, self.own, c.theta + (c.W_hy + at) * size,
                                  self.width, NULL, self.more, ld)
            c.team.kernels.add(c.rows, c.input[s].width, self.more, ld, p.dz[s], ld)
            team_product(&p.team, &p.weight_T[s], c.rows, p.scores, p.options.ld, RC_FROM_C, p.dz[s], ld)
            at += c.input[s].width

    def sizes(self):
        """Return bytes held: no packed weights, and arrays of the largest batch so far."""
        return 0, self.arena.capacity
