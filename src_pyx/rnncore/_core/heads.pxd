from libc.stdint cimport int64_t

from rnncore._core.adaptive cimport Tails
from rnncore._core.crf cimport Chain
from rnncore._core.ctc cimport Alignments
from rnncore._core.gemm cimport Arena
from rnncore._core.plan cimport Run
from rnncore._core.pooling cimport Carried
from rnncore._core.projection cimport Core
from rnncore._core.run cimport Workspace
from rnncore._core.sampled cimport Samples
from rnncore._core.schedule cimport View
from rnncore._core.sparse cimport Skip

cdef class Head:
    cdef Core c
    cdef Arena arena, weights, kept  # kept: of weights in fewer bits
    cdef object class_weight
    cdef bint held            # the projection's weights are packed already, and stay as they are
    cdef Head shared          # whose packed weights these are, or None
    cdef Carried carried      # pooling goes on from run to run; or None: each run is pooled by itself
    cdef Chain chain          # of a CRF, or None
    cdef Alignments alignments  # of a CTC, or None
    cdef Tails tails          # rare classes, or None
    cdef Samples samples      # of classes, in training; or None
    cdef Skip skip            # sparse features beside the outputs, or None
    cdef bind(self, theta, grad)
    cdef carve(self, Workspace ws, bint losses, bint weighted=*)
    cdef load(self, Workspace ws, skip_ids, skip_values)
    cdef void scores(self) noexcept nogil
    cdef void back(self, const Run *run, bint first, bint accumulate) noexcept nogil
    cdef void place_gradient(self, const Run *run) noexcept nogil
    cdef clear_tables(self, Workspace ws, touched, bint accumulate)
    cdef begin_losses(self, Workspace ws, targets, skip_ids, skip_values, sample_weight, divisor, double factor)
    cdef double losses_of_sequences(self, Workspace ws, bint training, bint accumulate) except? -1
    cdef double losses(self, Workspace ws, bint training, bint first, bint accumulate) except? -1
    cdef score(self, Workspace ws, theta, bint finish, skip_ids, skip_values)
    cdef long outputs(self) noexcept
    cdef stored(self, Workspace ws, out, dtype)
    cdef weigh(self, const View *v, sample_weight)
    cdef double weight_at(self, const char *target) noexcept nogil
    cdef double weight_of(self, int64_t y) noexcept nogil

cdef void score_rows(Core *c, const Run *run, char *scores) noexcept nogil
cdef void finish_rows(Core *c) noexcept nogil
