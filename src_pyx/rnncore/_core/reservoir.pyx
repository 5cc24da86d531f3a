"""Sequences through a reservoir (kernels/reservoir.h), dealt to threads; and one that hears itself:

    d_t = given_t + V·y_{t-1}     x_t from x_{t-1} and d_t     y_t = A·x_t + B·x_t² + C·y_{t-1} + offset_t
"""
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy

import numpy as np

cimport numpy as cnp

from rnncore._core.kernels cimport (
    begin_call,
    end_call,
    kernels_for,
    parallel,
    raise_stopped,
    rc_kernels,
    rc_reservoir,
    rnncore_call,
    stopping,
)

cnp.import_array()

cdef enum:
    LINE = 64
    SMALL = 500000  # multiply-adds that one thread finishes before a second one has woken up


cdef struct Job:
    const rc_kernels *kernels
    const rc_reservoir *reservoir
    long sequences, tasks, work_size
    const int64_t *starts
    const char *first
    const char *drive
    char *states
    char *work

cdef void task(void *arg, int index) noexcept nogil:
    cdef Job *job = <Job *> arg
    cdef long n = index, at, row = job.reservoir.units * job.kernels.itemsize
    while n < job.sequences and not stopping():
        at = job.starts[n] * row
        job.kernels.reservoir(job.reservoir, job.starts[n + 1] - job.starts[n], job.first + n * row, job.drive + at,
                              job.states + at, job.work + index * job.work_size)
        n += job.tasks


cdef tuple in_blocks(starts, columns, values, long rows):
    """Return sparse rows as the kernel reads them, `rows` side by side: starts of blocks, columns, values."""
    cdef long N = len(starts) - 1, blocks = (N + rows - 1) // rows, b, i, k, at, most
    cdef const int64_t[::1] given = starts
    cdef const int32_t[::1] column = columns
    cdef bint single = values.dtype == np.float32
    found = np.zeros(blocks + 1, dtype=np.int64)
    cdef int64_t[::1] to = found
    for b in range(blocks):
        most = 0
        for i in range(b * rows, min((b + 1) * rows, N)):
            most = max(most, given[i + 1] - given[i])
        to[b + 1] = to[b] + most
    places = np.zeros(to[blocks] * rows, dtype=np.int32)
    weights = np.zeros(to[blocks] * rows, dtype=values.dtype)
    cdef int32_t[::1] place = places
    cdef const float[::1] single_value = values if single else None
    cdef const double[::1] double_value = None if single else values
    cdef float[::1] single_weight = weights if single else None
    cdef double[::1] double_weight = None if single else weights
    for i in range(N):
        for k in range(given[i], given[i + 1]):
            at = (to[i // rows] + k - given[i]) * rows + i % rows
            place[at] = column[k]
            if single:
                single_weight[at] = single_value[k]
            else:
                double_weight[at] = double_value[k]
    return found, places, weights


cdef class Reservoir:
    """Fixed weights; any number of callers at once.

    Parameters
    ----------
    units : int
        N.
    starts, columns : int64 (N + 1,) and int32 (number of weights,), or None: all of them are there
    values : float32 or float64, (number of weights,) or (N, N)
    activation : int
    leak : float
    """
    cdef rc_reservoir reservoir
    cdef int itemsize
    cdef object held

    def __cinit__(self, long units, starts, columns, values, int activation, double leak):
        cdef rc_reservoir *r = &self.reservoir
        self.itemsize = values.dtype.itemsize
        r.units, r.weights, r.activation, r.leak = units, values.size, activation, leak
        if columns is not None:
            starts, columns, values = in_blocks(starts, columns, values, 2 * kernels_for(self.itemsize).vector)
            r.starts = <const int64_t *> cnp.PyArray_DATA(starts)
            r.columns = <const int32_t *> cnp.PyArray_DATA(columns)
        r.values = <const void *> cnp.PyArray_DATA(values)
        self.held = (starts, columns, values)

    def run(self, starts, first, drive, int threads):
        """Return the states (rows, N) of sequences laid end to end.

        starts : int64 (S + 1,); first (S, N), drive (rows, N): of the weights' precision, C-contiguous and checked.
        """
        cdef rnncore_call call
        cdef Job job
        states = np.empty_like(drive)
        job.kernels = kernels_for(self.itemsize)
        job.reservoir = &self.reservoir
        job.sequences = len(starts) - 1
        job.starts = <const int64_t *> cnp.PyArray_DATA(starts)
        job.tasks = min(<long> threads, job.sequences)
        if self.reservoir.weights * job.starts[job.sequences] < SMALL:
            job.tasks = 1
        job.work_size = ((self.reservoir.units + 2 * job.kernels.vector) * self.itemsize + LINE - 1) // LINE * LINE
        work = np.empty(job.tasks * job.work_size + LINE, dtype=np.uint8)
        job.work = <char *> ((<size_t> cnp.PyArray_DATA(work) + LINE - 1) // LINE * LINE)
        job.first = <const char *> cnp.PyArray_DATA(first)
        job.drive = <const char *> cnp.PyArray_DATA(drive)
        job.states = <char *> cnp.PyArray_DATA(states)
        with nogil:
            begin_call(&call, True)
            parallel(task, &job, job.tasks, job.tasks)
            end_call(&call)
        if call.stopped:
            raise_stopped()
        return states

    def listen(self, state, y, given, V, A, B, C, offset):
        """Run on its own outputs; returns the last state (N,) and all y, float64 (T, K).

        state (N,), given (T, N), V, A (K, N), B likewise or None: of the weights' precision.
        y (K,), C (K, K) or None, offset (T, K): float64. All C-contiguous and checked.
        """
        cdef rnncore_call call
        cdef const rc_kernels *kernels = kernels_for(self.itemsize)
        cdef long N = self.reservoir.units, T = given.shape[0], K = len(y), t, k, j, size = self.itemsize
        x, d, squares = np.array(state), np.empty_like(state), np.empty_like(state)
        work = np.empty(N + 2 * kernels.vector, dtype=state.dtype)
        last = np.array(y, dtype=np.float64)
        found = np.empty((T, K))
        cdef char *x_at = <char *> cnp.PyArray_DATA(x)
        cdef char *d_at = <char *> cnp.PyArray_DATA(d)
        cdef char *square_at = <char *> cnp.PyArray_DATA(squares)
        cdef char *work_at = <char *> cnp.PyArray_DATA(work)
        cdef const char *given_at = <const char *> cnp.PyArray_DATA(given)
        cdef const char *V_at = <const char *> cnp.PyArray_DATA(V)
        cdef const char *A_at = <const char *> cnp.PyArray_DATA(A)
        cdef const char *B_at = NULL if B is None else <const char *> cnp.PyArray_DATA(B)
        cdef const double *C_at = NULL if C is None else <const double *> cnp.PyArray_DATA(C)
        cdef const double *offset_at = <const double *> cnp.PyArray_DATA(offset)
        cdef double *y_at = <double *> cnp.PyArray_DATA(last)
        cdef double *found_at = <double *> cnp.PyArray_DATA(found)
        with nogil:
            begin_call(&call, True)
            for t in range(T):
                if stopping():
                    break
                memcpy(d_at, given_at + t * N * size, N * size)
                for k in range(K):
                    kernels.add_scaled(N, y_at[k], V_at + k * N * size, d_at)
                memcpy(square_at, x_at, N * size)  # the state before
                kernels.reservoir(&self.reservoir, 1, square_at, d_at, x_at, work_at)
                if B_at != NULL:
                    if size == 4:
                        for j in range(N):
                            (<float *> square_at)[j] = (<float *> x_at)[j] * (<float *> x_at)[j]
                    else:
                        for j in range(N):
                            (<double *> square_at)[j] = (<double *> x_at)[j] * (<double *> x_at)[j]
                for k in range(K):
                    found_at[t * K + k] = offset_at[t * K + k] + kernels.dot(N, x_at, A_at + k * N * size)
                    if B_at != NULL:
                        found_at[t * K + k] += kernels.dot(N, square_at, B_at + k * N * size)
                    for j in range(K if C_at != NULL else 0):
                        found_at[t * K + k] += C_at[k * K + j] * y_at[j]
                for k in range(K):
                    y_at[k] = found_at[t * K + k]
            end_call(&call)
        if call.stopped:
            raise_stopped()
        return x, found
