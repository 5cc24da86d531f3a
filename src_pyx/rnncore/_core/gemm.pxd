# Products spread over the thread pool. Each output number is computed whole by one thread, so the bits do not depend
# on the number of threads.
from libc.stdint cimport int64_t, uint16_t

from rnncore._core.kernels cimport rc_columns, rc_gemm, rc_kernels, rc_packed, rc_storage

# Sums of float32 numbers over more than MANY_ROWS rows are made of sums over SUM_ROWS rows, added in double: a chain
# of n numbers may be off by n/2 of its last place, and a hundredfold of what it should be where n is 10^7. SUM_ROWS is
# a multiple of the rows that `outer` takes at a time.
cdef enum:
    MANY_ROWS = 32768
    SUM_ROWS = 640
    SUM_COLUMNS = 64  # of which as many at a time are summed by strips

cdef struct Segment:
    # One part of a layer's input or output: (rows, width), rows `ld` numbers apart.
    char *data
    long ld
    long width

cdef struct Team:
    # Who works and with what: the numeric table, the products, the threads, and one scratch area per thread.
    const rc_kernels *kernels
    rc_gemm gemm               # BLAS's, or NULL
    const rc_storage *storage  # mixed precision: how its matrices are kept and multiplied; else NULL
    int threads
    char *scratch
    long scratch_size

cdef struct RunningOuter:
    # C (M, N) = or += AᵀB, and the sums of B's columns, over rows that come some at a time.
    const Team *team
    long M, N, ldc, rows, done  # of all rows, so many were here
    long at_a_time            # rows of C: as many columns of A are packed at once
    bint accumulate
    char *C
    char *sums                # or NULL
    double *totals            # where sums over blocks of rows are joined, as `team_outer` does; or NULL

cdef int make_team(Team *team, int itemsize, bint mixed=*) except -1
cdef Team without_storage(const Team *team) noexcept nogil
cdef long outer_scratch(const Team *team, long M, long N) noexcept nogil
cdef void team_product(const Team *team, const rc_packed *B, long M, const char *A, long lda, int start,
                       char *C, long ldc, bint halves=*) noexcept nogil
cdef void team_outer(const Team *team, long M, long K, const char *A, long lda, const int64_t *a_rows, const char *B,
                     long ldb, const int64_t *b_rows, int runs, const rc_columns *run, bint accumulate, char *C,
                     long ldc, bint halves=*) noexcept nogil
cdef void begin_outer(RunningOuter *o, const Team *team, long M, long N, long rows, long at_once, bint accumulate,
                      char *C, char *sums) noexcept nogil
cdef void go_on_outer(RunningOuter *o, long rows, const char *A, long lda, const char *B, long ldb) noexcept nogil
cdef void end_outer(RunningOuter *o) noexcept nogil
cdef void team_pack(const Team *team, rc_packed **weights, const char **biases, int count) noexcept nogil
cdef void team_column_sums(const Team *team, long rows, long columns, const char *A, long lda, bint accumulate,
                           char *sums) noexcept nogil
cdef void team_add_rows(const Team *team, long rows, const int64_t *at, long n, const char *A, long lda,
                        char *out) noexcept nogil
cdef bint team_sums_wide(const Team *team, long rows) noexcept nogil
cdef void team_scatter(const Team *team, long rows, long width, long per_row, const int64_t *ids, const char *scale,
                       const char *d, long ldd, char *table, long ldt) noexcept nogil
cdef void team_from_halves(const Team *team, long rows, long n, const uint16_t *y, long ldy, char *x,
                           long ldx) noexcept nogil
cdef void clear(void *memory, long bytes) noexcept nogil
cdef long chunk_for(long n, long parts, long multiple) noexcept nogil
cdef long padded(const rc_kernels *kernels, long n) noexcept nogil
cdef void bind_packed(const Team *team, rc_packed *B, long K, long N, long ldw, bint transposed) noexcept nogil
cdef void keep_as(const Team *team, rc_packed *B, const rc_storage *storage) noexcept nogil
cdef void bind_gates(const Team *team, rc_packed *B, long inner, long H, int gates, const int *at, long ldw,
                     bint joined) noexcept nogil
cdef void bind_gates_T(const Team *team, rc_packed *B, long outer, long H, int gates, const int *at,
                       long ldw) noexcept nogil

cdef class Arena:
    # Grow-only memory that is dealt out in order, anew for every batch.
    cdef object memory
    cdef char *base
    cdef readonly Py_ssize_t capacity
    cdef Py_ssize_t used
    cdef void start(self) noexcept
    cdef char *take(self, Py_ssize_t bytes) noexcept
    cdef void take_panels(self, const rc_kernels *kernels, rc_packed *B) noexcept
    cdef bint settle(self) except -1
