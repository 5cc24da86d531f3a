from libc.stdint cimport int64_t

from rnncore._core.gemm cimport Arena, Team
from rnncore._core.kernels cimport rc_packed, rc_storage
from rnncore._core.projection cimport Core

cdef enum:
    MAX_TAILS = 16

cdef struct Tail:
    # A cluster of rare classes: z·P, then W.
    Core c                    # h·W and its losses, on the rows that the cluster is looked at for
    long start, size          # its first class; numbers of h
    long P                    # place in theta
    rc_packed down[2]         # P, the rows that belong to each part of z
    rc_packed down_T[2]
    int64_t *at               # their row numbers among all rows

cdef class Tails:
    cdef Tail tail[MAX_TAILS]
    cdef int count, parts
    cdef readonly long outputs, ld  # all classes
    cdef Arena arena, weights, kept  # kept: of weights in fewer bits
    cdef bint held
    cdef int64_t *numbers
    cdef char *full           # (rows, ld) probabilities of all classes
    cdef char *z              # (rows of the largest cluster, ...) parts of z side by side, then their gradients
    cdef char *dz
    cdef describe(self, const Team *team, Core *head)
    cdef split(self, Core *head)
    cdef void losses(self, Core *head, bint training, bint accumulate) noexcept nogil
    cdef void into_cluster(self, Core *head, Tail *a, long rows) noexcept nogil
    cdef void out_of_cluster(self, Core *head, Tail *a, bint accumulate) noexcept nogil
    cdef carve(self, Core *head)
    cdef void spread(self, Core *head) noexcept nogil
    cdef hold(self, const char *theta, Tails shared, const rc_storage *storage)
    cdef void bind(self, char *theta, char *grad) noexcept
