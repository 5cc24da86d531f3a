# A head's scores, its losses row by row, and the way back, some rows at a time.
from libc.stdint cimport int64_t

from rnncore._core.gemm cimport RunningOuter, Segment, Team
from rnncore._core.kernels cimport rc_loss_options, rc_packed
from rnncore._core.pooling cimport Pooling
from rnncore._core.sparse cimport Skip

cdef enum Loss:
    SOFTMAX
    SQUARED
    SIGMOID
    CHAIN
    OUTSIDE  # the caller's own
    ALIGNED  # connectionist temporal classification

cdef inline bint of_sequences(int loss) noexcept nogil:
    """Whether it is a loss of whole sequences, not of rows."""
    return loss == CHAIN or loss == ALIGNED

cdef struct Core:
    Team team
    rc_loss_options options
    int loss
    bint soft                 # a softmax's targets are probabilities
    Pooling pooling
    int parts
    bint direct               # no projection: the first outputs are the scores
    bint tied                 # W_hy is the transpose of a table of vectors, (K, numbers of z)
    long W_hy, b_y            # places in theta; b_y -1: there is none
    rc_packed weight[2]
    rc_packed weight_T[2]
    # of one run
    Segment input[2]          # z, what is projected: the outputs, or what pooling made of them
    char *dz[2]               # its gradient
    long rows
    long first                # of a window on some rows: the number of its first one
    long block                # rows whose scores there is room for
    char *scores
    double *losses
    double *importance        # how much each row's loss counts (of a loss of sequences each one's), or NULL
    char *targets
    double scale
    char *theta
    char *grad

cdef enum:
    TABLE_ROWS = 1024  # of a table's gradient, made at a time

cdef long target_bytes(const Core *c) noexcept nogil
cdef long block_rows(const Core *c, bint whole) noexcept nogil
cdef Core window(const Core *c, long first, long rows) noexcept nogil
cdef void finish_scores(Core *c, bint training) noexcept nogil
cdef void weigh_rows(Core *c) noexcept nogil
cdef void pack_some(Core *c, rc_packed *packed, const char *bias) noexcept nogil
cdef void pack_weights(Core *c) noexcept nogil
cdef void pack_transposed(Core *c) noexcept nogil
cdef void project(Core *c, bint add) noexcept nogil
cdef void take_outputs(Core *c, bint add) noexcept nogil
cdef void scores_of_rows(Core *c, Skip skip) noexcept nogil
cdef void begin_gradient(Core *c, RunningOuter *sums, bint accumulate, bint turned) noexcept nogil
cdef void back_from_rows(Core *c, Skip skip, RunningOuter *sums, bint fresh, bint accumulate,
                         bint turned) noexcept nogil
cdef void end_gradient(Core *c, RunningOuter *sums) noexcept nogil
cdef void losses_of_rows(Core *c, Skip skip, bint training, bint fresh, bint accumulate) noexcept nogil
