# The replica's network bound to its memory, and the passes over it. See replica_passes.pyx.
from libc.stdint cimport int64_t

from rnncore._core.kernels cimport rc_kernels
from rnncore._core.replica_rows cimport Tree

cdef extern from "replica_api.h" nogil:
    ctypedef struct rc_sdlm:
        double a, b, rate, mu, inverse_n, decay

    ctypedef struct rc_matrix:
        long rows, columns
        void *theta
        void *D
        void *v
        void *turned
        void *squared
        double *squares

    ctypedef struct rc_table:
        long columns, ld
        void *theta
        void *D
        void *v
        const int64_t *start
        const int64_t *items
        const void *d
        const void *e
        double *squares

    ctypedef struct rc_replica:
        long (*size)(long, long) noexcept nogil
        long (*squares)(long, long) noexcept nogil
        long (*row_step)() noexcept nogil
        long (*panels)(long) noexcept nogil
        long (*panel_column)(long, long) noexcept nogil
        void (*product)(const void *, long, long, long, long, long, const void *, long, int, void *,
                        long) noexcept nogil
        void (*enter)(long, long, long, const int64_t *, const void *, const int64_t *, const void *, const void *,
                      double, void *, long) noexcept nogil
        void (*derive)(long, long, long, const void *, void *, long) noexcept nogil
        void (*collect)(long, long, long, const int64_t *, const int64_t *, const void *, long, void *,
                        long) noexcept nogil
        long (*update_scratch)(long, long) noexcept nogil
        void (*update)(const rc_sdlm *, const rc_matrix *, long, long, long, const void *, const void *, long,
                       const void *, const void *, long, void *) noexcept nogil
        void (*update_table)(const rc_sdlm *, const rc_table *, long, long) noexcept nogil
        void (*load)(const rc_matrix *, const void *) noexcept nogil
        void (*store)(long, long, const void *, void *) noexcept nogil

cdef extern from "kernels.h" nogil:
    ctypedef struct kernels_with_replica "rc_kernels":
        const rc_replica *replica

    enum:
        RC_FROM_ZERO
        RC_FROM_C

cdef enum:
    MAX_LAYERS = 16

cdef struct Unit:
    # One layer in one direction, and its rows: (rows, ld) each.
    rc_matrix W, U              # U: of the layers above the first
    Tree *tree
    double *h
    double *z                   # h·W, for the next step
    double *x                   # in·U, of the layers above the first
    double *d[2]                # gradients δ and curvatures ε of a
    double *p[2]                # their sums over the children of a row
    double *mask

cdef struct Layer:
    long hidden, ld, inputs, ldi
    double keep, decay
    Unit unit[2]
    double *input[2]            # (rows, ldi): the inputs, and what stands for their squares in κ (NULL: the squares)
    double *spread[2]           # (rows, ldi): gradients and curvatures of the inputs, where two directions meet in them

cdef struct Core:
    const rc_kernels *kernels
    const rc_replica *code
    int layers, directions, threads, training
    long words, classes, ldc, T, samples, outputs
    double softmax_decay
    Layer layer[MAX_LAYERS]
    rc_table table[2]
    rc_matrix S[2]
    double *score[2]            # (rows, ldc) per direction: h·S
    double *given[2][2]         # (rows, ldc): e and e∘e, added up per row
    double *e[2]                # (outputs·samples, ldc): e = p - y, and e∘e
    rc_sdlm rule
    char *scratch
    long scratch_size
    int at, step                # layer and step of the running section

cdef void forward(Core *c) noexcept nogil
cdef void gather_scores(Core *c) noexcept nogil
cdef double loss(Core *c, const int64_t *targets) noexcept nogil
cdef void backward(Core *c) noexcept nogil
cdef void update(Core *c) noexcept nogil
