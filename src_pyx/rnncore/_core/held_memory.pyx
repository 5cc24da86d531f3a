"""Attention of single queries over memories that stay as they are, for a decoder that writes step by step.

    e_s = f·q·k_s     a = softmax over s of e     c = Σ_s a_s m_s

Keys k = m·Wᵀ (or m) and memory m are brought into the kernels' order once: of each sequence keysᵀ (H, S) and m (S, M),
in rows of whole vectors, so that both are products of one row with what lies there. Queries are dealt to threads, each
is computed whole by one of them.
"""
from libc.stdint cimport int64_t
from libc.string cimport memcpy

import numpy as np

cimport numpy as cnp

from rnncore._core.gemm cimport Arena, chunk_for, padded
from rnncore._core.kernels cimport (
    BETWEEN,
    begin_call,
    end_call,
    kernels_for,
    parallel,
    raise_stopped,
    rc_kernels,
    rnncore_call,
    stopping,
    stops_after,
)

cnp.import_array()

cdef enum:
    SMALL = 500000  # multiply-adds that one thread finishes before a second one has woken up

cdef struct Queries:
    const rc_kernels *kernels
    long H, M, ldm, lda, rows, chunk
    double factor
    const int64_t *owner
    const int64_t *steps
    const int64_t *keys_at
    const int64_t *memory_at
    const char *keys
    const char *memory
    const char *q
    char *a
    char *c

cdef void answer(void *arg, int index) noexcept nogil:
    """Some of the queries."""
    cdef Queries *all_ = <Queries *> arg
    cdef const rc_kernels *kernels = all_.kernels
    cdef long r, n, S, lds, size = kernels.itemsize, end = min((index + 1) * all_.chunk, all_.rows)
    cdef char *a
    for r in range(index * all_.chunk, end):
        if stopping():
            return
        n = all_.owner[r]
        S = all_.steps[n]
        lds = padded(kernels, S)
        a = all_.a + r * all_.lda * size
        kernels.contexts(1, all_.H, all_.H, all_.q + r * all_.H * size, False, lds,
                         all_.keys + all_.keys_at[n] * size, a, lds)
        kernels.memory_weights(1, S, lds, False, all_.factor, a)
        kernels.contexts(1, S, lds, a, False, all_.ldm, all_.memory + all_.memory_at[n] * size,
                         all_.c + r * all_.ldm * size, all_.ldm)


cdef class HeldMemory:
    """Memories of some sequences. Any number of callers may ask at once.

    Parameters
    ----------
    keys : array (S, B, H)
    memory : array (S, B, M)
        Of one precision, C-contiguous.
    steps : int64 array (B,)
        Of each sequence, in 1..S.
    factor : float
        Of the scores.
    """
    cdef Queries all_
    cdef Arena arena
    cdef object arrays
    cdef long most

    def __cinit__(self, keys, memory, steps, double factor):
        cdef Queries *all_ = &self.all_
        cdef const rc_kernels *kernels = kernels_for(keys.dtype.itemsize)
        cdef long size = kernels.itemsize, n, s, h, lds, B = keys.shape[1]
        cdef const char *given = <const char *> cnp.PyArray_DATA(keys)
        cdef const char *rows = <const char *> cnp.PyArray_DATA(memory)
        cdef long left = BETWEEN
        cdef rnncore_call call
        cdef char *place
        all_.kernels, all_.factor = kernels, factor
        all_.H, all_.M = keys.shape[2], memory.shape[2]
        all_.ldm = padded(kernels, all_.M)
        starts = np.zeros((2, B + 1), dtype=np.int64)
        whole = (steps + kernels.vector - 1) // kernels.vector * kernels.vector
        starts[0, 1:] = np.cumsum(whole * all_.H)
        starts[1, 1:] = np.cumsum(steps * all_.ldm)
        self.arrays = (steps, starts)
        all_.steps = <const int64_t *> cnp.PyArray_DATA(steps)
        all_.keys_at = <const int64_t *> cnp.PyArray_DATA(starts)
        all_.memory_at = all_.keys_at + B + 1
        self.most = padded(kernels, <long> steps.max())
        all_.lda = self.most
        self.arena = Arena()
        while True:
            self.arena.start()
            all_.keys = self.arena.take(all_.keys_at[B] * size)
            all_.memory = self.arena.take(all_.memory_at[B] * size)
            if not self.arena.settle():
                break
        with nogil:
            begin_call(&call, True)
            for n in range(B):
                lds = padded(kernels, all_.steps[n])
                for s in range(all_.steps[n]):
                    if stops_after(all_.M + all_.H, &left):
                        break
                    place = <char *> all_.memory + (all_.memory_at[n] + s * all_.ldm) * size
                    memcpy(place, rows + (s * B + n) * all_.M * size, all_.M * size)
                    place = <char *> all_.keys + (all_.keys_at[n] + s) * size
                    for h in range(all_.H):
                        memcpy(place + h * lds * size, given + ((s * B + n) * all_.H + h) * size, size)
            end_call(&call)
        if call.stopped:
            raise_stopped()

    def attend(self, q, owner, int threads, bint want_weights=False):
        """Return c (rows, M) of queries q (rows, H), and their weights (rows, S) or None.

        owner : int64 array (rows,), whose memory each looks at.
        """
        cdef rnncore_call call
        cdef Queries job = self.all_
        cdef int tasks
        cdef long rows = q.shape[0]
        a = np.zeros((rows, self.most), dtype=q.dtype)
        c = np.empty((rows, job.ldm), dtype=q.dtype)
        tasks = min(<long> threads, rows) if rows * self.most * (job.H + job.M) > SMALL else 1
        job.rows, job.chunk = rows, chunk_for(rows, tasks, 1)
        job.owner = <const int64_t *> cnp.PyArray_DATA(owner)
        job.q = <const char *> cnp.PyArray_DATA(q)
        job.a, job.c = <char *> cnp.PyArray_DATA(a), <char *> cnp.PyArray_DATA(c)
        with nogil:
            begin_call(&call, True)
            parallel(answer, &job, tasks, tasks)
            end_call(&call)
        if call.stopped:
            raise_stopped()
        return c[:, :job.M], a[:, :self.arrays[0].max()] if want_weights else None
