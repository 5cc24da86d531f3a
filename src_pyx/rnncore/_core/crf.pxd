from libc.stdint cimport int64_t

from rnncore._core.gemm cimport Arena, Team
from rnncore._core.kernels cimport rc_crf
from rnncore._core.schedule cimport View

cdef class Chain:
    # The scores between labels, and the recursions over one batch.
    cdef rc_crf c
    cdef long transitions, start, end  # places in theta
    cdef object allowed                # flags, or None
    cdef const char *flags             # the same, or NULL
    cdef Arena arena, weights
    cdef Chain wide                    # in double precision, for what does not fit single precision
    cdef Team wide_team
    cdef char *expected
    cdef char *counts
    cdef carve_weights(self, const Team *team)
    cdef void prepare(self, const Team *team, const char *theta) noexcept nogil
    cdef redo(self, const Team *team, const View *v, const char *theta, bint marginals)
    cdef redo_wide(self, const Team *team, const View *v, const char *theta, bint marginals, int64_t[::1] marked)
    cdef void expected_transitions(self, const Team *team, const View *v, double scale, char *out,
                                   bint accumulate) noexcept nogil
    cdef carve(self, const Team *team, const View *v, char *scores)
    cdef double loss(self, const Team *team, const View *v, char *scores, const int64_t *targets, double scale,
                     const double *weight, const char *theta, char *grad, bint accumulate) except? -1
    cdef marginals(self, const Team *team, const View *v, char *scores, const char *theta)
    cdef decode(self, const Team *team, const View *v, char *scores, const char *theta, long top)
