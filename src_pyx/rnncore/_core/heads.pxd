from libc.stdint cimport int64_t

from rnncore._core.crf cimport Chain
from rnncore._core.gemm cimport Arena, Segment, Team
from rnncore._core.kernels cimport rc_loss_options, rc_packed
from rnncore._core.plan cimport Run
from rnncore._core.pooling cimport Carried, Pooling
from rnncore._core.schedule cimport View
from rnncore._core.sparse cimport Skip
from rnncore._core.run cimport Workspace

cdef struct Core:
    Team team
    rc_loss_options options
    int loss                  # softmax, squared error, sigmoid, CRF, the caller's own
    Pooling pooling
    int parts
    bint direct               # no projection: the first outputs are the scores
    long W_hy, b_y            # places in theta
    rc_packed weight[2]
    rc_packed weight_T[2]
    Segment input[2]          # what is projected: the outputs, or what pooling made of them
    long rows
    char *scores
    double *losses
    double *importance        # how much each sequence's loss counts, or each row's, or NULL
    bint weighs_rows
    char *targets
    double scale
    char *theta
    char *grad

cdef class Head:
    cdef Core c
    cdef Arena arena, weights
    cdef object class_weight
    cdef bint held            # the projection's weights are packed already, and stay as they are
    cdef Head shared          # whose packed weights these are, or None
    cdef Carried carried      # pooling goes on from run to run; or None: each run is pooled by itself
    cdef Chain chain          # of a CRF, or None
    cdef Skip skip            # sparse features beside the outputs, or None
    cdef bind(self, theta, grad)
    cdef carve(self, Workspace ws, bint training, bint weighted=*)
    cdef load(self, Workspace ws, skip_ids, skip_values)
    cdef void scores(self) noexcept nogil
    cdef score(self, Workspace ws, theta, bint training, bint finish, skip_ids, skip_values)
    cdef stored(self, Workspace ws, out, dtype)
    cdef weigh(self, const View *v, sample_weight)
    cdef double weight_of(self, int64_t y) noexcept

cdef void score_rows(Core *c, const Run *run, char *scores) noexcept nogil
cdef void finish_rows(Core *c) noexcept nogil
