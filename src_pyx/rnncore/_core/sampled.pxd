from libc.stdint cimport int64_t

from rnncore._core.gemm cimport Arena
from rnncore._core.projection cimport Core

cdef class Samples:
    # The classes that the targets of a batch are told apart from.
    cdef Core part            # their scores, and last the target's own
    cdef long outputs, count, width
    cdef object held          # arrays of
    cdef const int64_t *ids   # the classes, sorted
    cdef const double *logs   # and of how often they are expected
    cdef Arena arena
    cdef char *vectors        # (count, width) their rows of the table,
    cdef char *dvectors       # their gradient,
    cdef char *bias           # (count + 1), less the logarithm,
    cdef char *dbias
    cdef char *own            # (rows) gradient of the targets' scores
    cdef char *more           # (rows, ...) what they make of z's gradient
    cdef take(self, ids, logs)
    cdef carve(self, Core *c)
    cdef clear_rows(self, Core *c, bint accumulate, touched)
    cdef void losses(self, Core *c, bint fresh, bint accumulate) noexcept nogil
    cdef void score(self, Core *c) noexcept nogil
    cdef void back_to_table(self, Core *c) noexcept nogil
    cdef void back_to_z(self, Core *c, bint fresh) noexcept nogil
