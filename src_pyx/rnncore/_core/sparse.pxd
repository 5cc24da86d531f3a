from libc.stdint cimport int64_t

from rnncore._core.gemm cimport Arena, Team
from rnncore._core.schedule cimport View

cdef class Skip:
    # A table whose rows are added to the scores, one for each feature of a token.
    cdef long place, symbols, width, per_row, rows
    cdef Arena arena
    cdef int64_t *ids                 # (rows, per_row), packed; negative: none
    cdef char *values                 # factors, or NULL
    cdef load(self, const Team *team, const View *v, ids, values)
    cdef void add(self, const Team *team, const char *theta, const char *bias, char *scores, long ld) noexcept nogil
    cdef clear_rows(self, const Team *team, char *grad, bint accumulate, touched)
    cdef void back(self, const Team *team, const char *scores, long ld, char *grad) noexcept nogil
