"""Sparse features that go straight to the scores, past the recurrent layers: s += Σ_f value_f·W_skip[id_f].

This is what a maximum-entropy model has and nothing else. Only rows that a batch mentions are read, get a gradient, or
need an update.
"""
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

cimport numpy as cnp

from rnncore._core.gemm cimport Arena, Team, team_scatter
from rnncore._core.kernels cimport parallel
from rnncore._core.rows cimport distinct, zero_rows
from rnncore._core.schedule cimport View

cnp.import_array()


cdef struct GatherJob:
    const Team *team
    long rows, chunk, width, per_row, ld
    const int64_t *ids
    const char *values
    const char *table
    const char *bias
    char *scores

cdef void gather_task(void *arg, int index) noexcept nogil:
    cdef GatherJob *job = <GatherJob *> arg
    cdef long first = index * job.chunk, rows = min(job.chunk, job.rows - first), size = job.team.kernels.itemsize
    if rows > 0:
        job.team.kernels.gather(rows, job.width, job.per_row, job.ids + first * job.per_row,
                                NULL if job.values == NULL else job.values + first * job.per_row * size, job.table,
                                job.width, job.bias, job.scores + first * job.ld * size, job.ld)


cdef class Skip:
    """A table of N rows of K numbers.

    Parameters
    ----------
    symbols, width : int
        N and K.
    place : int
        Where it is in theta.
    """

    def __cinit__(self, long symbols, long width, long place):
        self.symbols = symbols
        self.width = width
        self.place = place
        self.arena = Arena()

    cdef load(self, const Team *team, const View *v, ids, values):
        """Bring ids (T, B, F) and values of that shape, or None, into packed order."""
        cdef long t, b, F = ids.shape[2], size = team.kernels.itemsize, row, source
        cdef const int64_t *from_ids = <const int64_t *> cnp.PyArray_DATA(ids)
        cdef const char *from_values = NULL if values is None else <const char *> cnp.PyArray_DATA(values)
        self.per_row = F
        self.rows = v.rows
        while True:
            self.arena.start()
            self.ids = <int64_t *> self.arena.take(v.rows * F * sizeof(int64_t))
            self.values = self.arena.take(v.rows * F * size) if values is not None else NULL
            if not self.arena.settle():
                break
        for t in range(v.steps):
            for b in range(v.active[t]):
                row = v.offsets[t] + b
                source = t * v.sequences + v.order[b]
                memcpy(self.ids + row * F, from_ids + source * F, F * sizeof(int64_t))
                if from_values != NULL:
                    memcpy(self.values + row * F * size, from_values + source * F * size, F * size)

    cdef void add(self, const Team *team, const char *theta, const char *bias, char *scores, long ld) noexcept nogil:
        """scores = bias + Σ_f value_f·W_skip[id_f]."""
        cdef GatherJob job
        cdef int tasks = team.threads if self.rows * self.per_row * self.width > 500000 else 1
        job.team = team
        job.rows = self.rows
        job.chunk = (self.rows + tasks - 1) // tasks
        job.width = self.width
        job.per_row = self.per_row
        job.ld = ld
        job.ids = self.ids
        job.values = self.values
        job.table = theta + self.place * team.kernels.itemsize
        job.bias = bias
        job.scores = scores
        parallel(gather_task, &job, tasks, tasks)

    cdef clear_rows(self, const Team *team, char *grad, bint accumulate, touched):
        """Zero the gradient rows that are not written anew, and note those that are: this batch's."""
        cdef long bytes = self.width * team.kernels.itemsize
        cdef char *table = grad + self.place * team.kernels.itemsize
        found = distinct(self.ids, self.rows * self.per_row, self.symbols)
        if accumulate:
            touched.add(self.place, found)
            return
        rows = touched.replace(self.place, found)
        if rows is None:
            memset(table, 0, self.symbols * bytes)
        else:
            zero_rows(table, rows, bytes)

    cdef void back(self, const Team *team, const char *scores, long ld, char *grad) noexcept nogil:
        """dW_skip[id_f] += value_f·ds."""
        team_scatter(team, self.rows, self.width, self.per_row, self.ids, self.values, scores, ld,
                     grad + self.place * team.kernels.itemsize, self.width)

    def sizes(self):
        """Return bytes held: no packed weights, and arrays of the largest batch so far."""
        return 0, self.arena.capacity
