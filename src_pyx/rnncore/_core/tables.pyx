"""Tables of rows for what Python puts together: sums of rows by ids, and their gradients."""
from libc.stdint cimport int64_t

cimport numpy as cnp

from rnncore._core.gemm cimport Team, team_scatter
from rnncore._core.kernels cimport begin_call, end_call, kernels_for, raise_stopped, rnncore_call

cnp.import_array()


def gather(table, ids, out, long column):
    """out[r, column:column + width] = Σ_f table[ids[r, f]], nothing for negative ids.

    table (N, width), out (rows, D) of one precision; ids int64 (rows, F); C-contiguous and checked.
    """
    cdef rnncore_call call
    cdef long rows = ids.shape[0], per_row = ids.shape[1], width = table.shape[1], size = out.itemsize
    cdef long ld = out.shape[1]
    cdef const int64_t *numbers = <const int64_t *> cnp.PyArray_DATA(ids)
    cdef const char *source = <const char *> cnp.PyArray_DATA(table)
    cdef char *target = <char *> cnp.PyArray_DATA(out) + column * size
    cdef Team team
    team.kernels = kernels_for(size)
    with nogil:
        begin_call(&call, True)
        team.kernels.gather(rows, width, per_row, numbers, NULL, source, width, NULL, target, ld)
        end_call(&call)
    if call.stopped:
        raise_stopped()


def scatter(d, long column, ids, table, int threads):
    """table[ids[r, f]] += d[r, column:column + width]: the gradient of gather."""
    cdef rnncore_call call
    cdef long rows = ids.shape[0], per_row = ids.shape[1], width = table.shape[1], size = d.itemsize, ld = d.shape[1]
    cdef const int64_t *numbers = <const int64_t *> cnp.PyArray_DATA(ids)
    cdef const char *source = <const char *> cnp.PyArray_DATA(d) + column * size
    cdef char *target = <char *> cnp.PyArray_DATA(table)
    cdef Team team
    team.kernels = kernels_for(size)
    team.threads = threads
    with nogil:
        begin_call(&call, True)
        team_scatter(&team, rows, width, per_row, numbers, NULL, source, ld, target, width)
        end_call(&call)
    if call.stopped:
        raise_stopped()
