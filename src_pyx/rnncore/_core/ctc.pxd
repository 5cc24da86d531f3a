from libc.stdint cimport int64_t

from rnncore._core.gemm cimport Arena, Team
from rnncore._core.kernels cimport rc_loss_options
from rnncore._core.schedule cimport View

cdef class Alignments:
    # All alignments of a batch's targets with its steps.
    cdef Arena arena
    cdef const int64_t *targets      # (sequences, longest), negative behind a target's end
    cdef long longest
    cdef take(self, targets)
    cdef void losses(self, const Team *team, const rc_loss_options *options, const View *v, char *scores, double scale,
                     const double *weight, double *losses) noexcept nogil
    cdef carve(self, const Team *team, const View *v)
    cdef int shards
    cdef long work_size
    cdef char *work
