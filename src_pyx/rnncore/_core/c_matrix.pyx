"""Packed products for C programs: C (M, N) = (0 | bias | C) + A (M, K)·B (K, N), B packed once.

Products write whole vectors of columns. Where N is not a multiple of them, rows are made in scratch, some at a time,
and copied to the caller's: the numbers are the same.
"""
from libc.limits cimport LONG_MAX
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from rnncore._core.c_space cimport Block, bad_pointer, reserve
from rnncore._core.gemm cimport Team, bind_packed, chunk_for, padded, team_pack, team_product
from rnncore._core.kernels cimport (
    RC_FROM_BIAS,
    RC_FROM_C,
    RC_FROM_ZERO,
    begin_call,
    end_call,
    gemm_for,
    kernels_for,
    parallel,
    rc_gemm,
    rc_kernels,
    rc_packed,
    rnncore_call,
)
from rnncore.capi cimport (
    RNNCORE_BAD_OPTION,
    RNNCORE_BAD_POINTER,
    RNNCORE_BAD_SIZE,
    RNNCORE_FROM_BIAS,
    RNNCORE_FROM_C,
    RNNCORE_FROM_ZERO,
    RNNCORE_NO_MEMORY,
    RNNCORE_OK,
    rnncore_matrix,
)

cdef enum:
    LINE = 64
    MOST = 0x7fffffff
    ROWS = 96                    # made in scratch at a time: they stay in cache
    SMALL = 500000               # multiply-adds that one thread finishes before a second one has woken up

cdef struct Matrix:
    rc_packed packed
    Team team
    bint biased
    Block memory                 # panels, bias, and where BLAS multiplies, a copy of W

# BLAS is looked up with the interpreter at hand, when this module is loaded.
cdef const rc_kernels *tables[2]
cdef rc_gemm products[2]
tables[0], tables[1] = kernels_for(4), kernels_for(8)
products[0], products[1] = gemm_for(4), gemm_for(8)


cdef size_t whole_lines(size_t bytes) noexcept nogil:
    return (bytes + LINE - 1) // LINE * LINE


cdef int matrix_pack(int itemsize, int64_t K, int64_t N, const void *W, int64_t ldw, int transposed, const void *bias,
                     rnncore_matrix **made) noexcept nogil:
    cdef Matrix *m
    cdef rc_packed *weights[1]
    cdef const char *biases[1]
    cdef int64_t rows = N if transposed else K, columns = K if transposed else N, i
    cdef size_t panels, bias_size, copied
    if itemsize != 4 and itemsize != 8:
        return RNNCORE_BAD_OPTION
    if bad_pointer(made, sizeof(void *)):
        return RNNCORE_BAD_POINTER
    made[0] = NULL
    if bad_pointer(W, itemsize) or bias != NULL and bad_pointer(bias, itemsize):
        return RNNCORE_BAD_POINTER
    if not (1 <= K <= MOST and 1 <= N <= MOST) or ldw < columns or ldw > LONG_MAX // itemsize // rows:
        return RNNCORE_BAD_SIZE
    if <double> K * (<double> N + LINE) * itemsize * 2 > LONG_MAX:
        return RNNCORE_NO_MEMORY
    m = <Matrix *> calloc(1, sizeof(Matrix))
    if m == NULL:
        return RNNCORE_NO_MEMORY
    m.team.kernels = tables[itemsize == 8]
    m.team.gemm = products[itemsize == 8]
    m.team.threads = 1
    m.biased = bias != NULL
    bind_packed(&m.team, &m.packed, <long> K, <long> N, <long> ldw, transposed != 0)
    bias_size = whole_lines(padded(m.team.kernels, <long> N) * itemsize)
    panels = whole_lines(m.team.kernels.packed_size(&m.packed) * itemsize) if m.team.gemm == NULL else 0
    copied = 0 if m.team.gemm == NULL else <size_t> (rows * columns) * itemsize
    if not reserve(&m.memory, bias_size + panels + copied):
        free(m)
        return RNNCORE_NO_MEMORY
    m.packed.bias = <void *> m.memory.base
    m.packed.panels = <void *> (m.memory.base + bias_size)
    m.packed.W = W
    if m.team.gemm != NULL:
        for i in range(rows):
            memcpy(<char *> m.packed.panels + i * columns * itemsize, <const char *> W + i * ldw * itemsize,
                   columns * itemsize)
        m.packed.W, m.packed.ldw = m.packed.panels, <long> columns
    weights[0], biases[0] = &m.packed, <const char *> bias
    team_pack(&m.team, weights, biases, 1)
    made[0] = <rnncore_matrix *> m
    return RNNCORE_OK


cdef void matrix_free(rnncore_matrix *matrix) noexcept nogil:
    if matrix != NULL:
        free((<Matrix *> matrix).memory.memory)
        free(matrix)


cdef struct NarrowJob:
    const Matrix *matrix
    const char *A
    char *C
    char *scratch                # ROWS rows for each task
    long M, lda, ldc, chunk, ld
    int start

cdef void narrow_task(void *arg, int index) noexcept nogil:
    """Some rows of a product whose N is not a multiple of whole vectors."""
    cdef NarrowJob *job = <NarrowJob *> arg
    cdef const rc_kernels *kernels = job.matrix.team.kernels
    cdef long size = kernels.itemsize, N = job.matrix.packed.N, m = index * job.chunk, rows
    cdef long end = min(m + job.chunk, job.M)
    cdef char *made = job.scratch + index * ROWS * job.ld * size
    while m < end:
        rows = min(ROWS, end - m)
        if job.start == RC_FROM_C:
            kernels.copy(rows, N, job.C + m * job.ldc * size, job.ldc, made, job.ld)
        kernels.product(&job.matrix.packed, rows, job.A + m * job.lda * size, job.lda, job.start, made, job.ld)
        kernels.copy(rows, N, made, job.ld, job.C + m * job.ldc * size, job.ldc)
        m += rows


cdef int narrow_product(const Matrix *m, const Team *team, long M, const char *A, long lda, int start, char *C,
                        long ldc) noexcept nogil:
    cdef NarrowJob job
    cdef Block scratch
    cdef int tasks = team.threads if M * m.packed.N * m.packed.K > SMALL else 1
    job.matrix = m
    job.A, job.C = A, C
    job.M, job.lda, job.ldc, job.start = M, lda, ldc, start
    job.ld = padded(team.kernels, m.packed.N)
    job.chunk = chunk_for(M, tasks, 6)
    scratch.memory = NULL
    if not reserve(&scratch, <size_t> tasks * ROWS * job.ld * team.kernels.itemsize):
        return RNNCORE_NO_MEMORY
    job.scratch = <char *> scratch.base
    parallel(narrow_task, &job, tasks, tasks)
    free(scratch.memory)
    return RNNCORE_OK


cdef int matrix_multiply(const rnncore_matrix *matrix, int64_t M, const void *A, int64_t lda, int start, void *C,
                         int64_t ldc, int threads) noexcept nogil:
    cdef const Matrix *m = <const Matrix *> matrix
    cdef Team team
    cdef rnncore_call call
    cdef int status = RNNCORE_OK, first
    cdef long size
    if m == NULL:
        return RNNCORE_BAD_POINTER
    size = m.team.kernels.itemsize
    if start == RNNCORE_FROM_ZERO:
        first = RC_FROM_ZERO
    elif start == RNNCORE_FROM_BIAS and m.biased:
        first = RC_FROM_BIAS
    elif start == RNNCORE_FROM_C:
        first = RC_FROM_C
    else:
        return RNNCORE_BAD_OPTION
    if M < 0 or lda < m.packed.K or ldc < m.packed.N or threads < 1 or \
            M > 0 and max(lda, ldc) > LONG_MAX // size // M:
        return RNNCORE_BAD_SIZE
    if M == 0:
        return RNNCORE_OK
    if bad_pointer(A, size) or bad_pointer(C, size):
        return RNNCORE_BAD_POINTER
    team = m.team
    team.threads = min(threads, 64)
    begin_call(&call, False)
    if m.team.gemm != NULL or m.packed.N == padded(team.kernels, m.packed.N):
        team_product(&team, &m.packed, <long> M, <const char *> A, <long> lda, first, <char *> C, <long> ldc)
    else:
        status = narrow_product(m, &team, <long> M, <const char *> A, <long> lda, first, <char *> C, <long> ldc)
    end_call(&call)
    return status
