"""Tables of rows for what Python puts together: sums of rows by ids, and their gradients."""
from libc.stdint cimport int64_t

cimport numpy as cnp

from rnncore._core.gemm cimport Team, team_scatter
from rnncore._core.kernels cimport (
    BETWEEN,
    begin_call,
    end_call,
    kernels_for,
    raise_stopped,
    rc_kernels,
    rnncore_call,
    stops_after,
)

cnp.import_array()


def gather(table, ids, out, long column, values=None):
    """out[r, column:column + width] = Σ_f values[r, f]·table[ids[r, f]], nothing for negative ids.

    table (N, width), out (rows, D), values (rows, F) of one precision, ones without; ids int64 (rows, F); C-contiguous
    and checked.
    """
    cdef rnncore_call call
    cdef long rows = ids.shape[0], per_row = ids.shape[1], width = table.shape[1], size = out.itemsize
    cdef long ld = out.shape[1]
    cdef const int64_t *numbers = <const int64_t *> cnp.PyArray_DATA(ids)
    cdef const char *source = <const char *> cnp.PyArray_DATA(table)
    cdef const char *scale = NULL if values is None else <const char *> cnp.PyArray_DATA(values)
    cdef char *target = <char *> cnp.PyArray_DATA(out) + column * size
    cdef Team team
    team.kernels = kernels_for(size)
    with nogil:
        begin_call(&call, True)
        team.kernels.gather(rows, width, per_row, numbers, scale, source, width, NULL, target, ld)
        end_call(&call)
    if call.stopped:
        raise_stopped()


def scatter(d, long column, ids, table, int threads, values=None):
    """table[ids[r, f]] += values[r, f]·d[r, column:column + width]: the gradient of gather."""
    cdef rnncore_call call
    cdef long rows = ids.shape[0], per_row = ids.shape[1], width = table.shape[1], size = d.itemsize, ld = d.shape[1]
    cdef const int64_t *numbers = <const int64_t *> cnp.PyArray_DATA(ids)
    cdef const char *source = <const char *> cnp.PyArray_DATA(d) + column * size
    cdef const char *scale = NULL if values is None else <const char *> cnp.PyArray_DATA(values)
    cdef char *target = <char *> cnp.PyArray_DATA(table)
    cdef Team team
    team.kernels = kernels_for(size)
    team.threads = threads
    with nogil:
        begin_call(&call, True)
        team_scatter(&team, rows, width, per_row, numbers, scale, source, ld, target, width)
        end_call(&call)
    if call.stopped:
        raise_stopped()


def values_gradient(d, long column, ids, table, out):
    """out[r, f] = d[r, column:column + width]·table[ids[r, f]], zero for negative ids: gather's gradient by values."""
    cdef rnncore_call call
    cdef long rows = ids.shape[0], per_row = ids.shape[1], width = table.shape[1], size = d.itemsize, ld = d.shape[1]
    cdef long r, f, id_, left = BETWEEN
    cdef double found
    cdef const int64_t *numbers = <const int64_t *> cnp.PyArray_DATA(ids)
    cdef const char *gradient = <const char *> cnp.PyArray_DATA(d) + column * size
    cdef const char *vectors = <const char *> cnp.PyArray_DATA(table)
    cdef char *target = <char *> cnp.PyArray_DATA(out)
    cdef const rc_kernels *kernels = kernels_for(size)
    with nogil:
        begin_call(&call, True)
        for r in range(rows):
            if stops_after(width * per_row, &left):
                break
            for f in range(per_row):
                found, id_ = 0, numbers[r * per_row + f]
                if id_ >= 0:
                    found = kernels.dot(width, gradient + r * ld * size, vectors + id_ * width * size)
                kernels.narrow(1, 1, &found, target + (r * per_row + f) * size, 1)
        end_call(&call)
    if call.stopped:
        raise_stopped()
