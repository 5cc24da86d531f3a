# From the outputs at every step to one vector per sequence, and back.
from libc.stdint cimport int64_t

from rnncore._core.gemm cimport Arena, Segment, Team
from rnncore._core.kernels cimport rc_packed
from rnncore._core.plan cimport Run, View

cdef enum PoolingKind:
    EVERY      # none: the head sees every step
    LAST
    MEAN
    MAX
    ATTENTION

cdef struct Pooling:
    int kind
    int parts
    long width[2]             # of the outputs' parts
    long ld[2]
    long size                 # of attention: numbers that a step's energy is made of
    long size_ld
    long W, b, v              # offsets into theta
    rc_packed weight[2]
    rc_packed weight_T[2]
    # of one run
    Segment outputs[2]        # what is pooled
    Segment pooled[2]         # a row per sequence
    char *gradient[2]         # of them
    int64_t *where            # max: the row that each number came from
    double *sums              # (widest part or size): sums over a sequence's steps
    char *u                   # attention: (rows, size), tanh(h·W + b)
    char *v_row               # v in whole vectors
    char *energy              # (rows)
    char *share               # (rows): α
    char *dv                  # (sequences, size)

cdef void describe_pooling(Pooling *p, const Team *team, int kind, list widths, long size, long W, long b, long v)
cdef void bind_pooling_packed(Pooling *p, Arena arena, const Team *team)
cdef void pack_pooling(Pooling *p, const Team *team, const char *theta) noexcept nogil
cdef void place_pooling(Pooling *p, Arena arena, const Team *team, const Run *run)
cdef void pool(Pooling *p, const Team *team, const Run *run, const char *theta) noexcept nogil
cdef void pool_back(Pooling *p, const Team *team, Run *run, const char *theta, char *grad, bint first,
                    bint accumulate) noexcept nogil

cdef class Carried:
    cdef double[::1] weight   # (B,) steps, or Σ exp(energy - largest); 0: none yet
    cdef double[::1] largest  # (B,) of attention's energies
    cdef double[:, ::1] z     # (B, widths)
    cdef void forget(self, rows)
    cdef void join(self, Pooling *p, const View *v, long size) noexcept nogil

cdef void share_pooling_packed(Pooling *p, const Pooling *other) noexcept
