"""Products, sums and packing spread over the thread pool, and the memory they work in."""
import numpy as np

cimport numpy as cnp
from libc.stdint cimport int64_t

from rnncore._core.kernels cimport RC_MAX_GATES, parallel, rc_columns, rc_kernels, rc_packed

cnp.import_array()

cdef enum:
    SMALL = 500000  # multiply-adds that one thread finishes before a second one has woken up


cdef long padded(const rc_kernels *kernels, long n) noexcept nogil:
    """n rounded up to whole vectors."""
    return (n + kernels.vector - 1) // kernels.vector * kernels.vector


cdef size_t NOWHERE = (<size_t> 1) << (8 * sizeof(size_t) - 2)  # far from null and from the end


cdef class Arena:
    """Grow-only memory, dealt out in the same order for every batch.

    Use: start(), take() everything, and repeat while settle() is true: it has then grown, and the places are new.
    Until there is memory, places are counted from an address that nothing is read from: C has no null + offset.
    """

    def __cinit__(self):
        self.base = <char *> NOWHERE

    cdef void start(self) noexcept:
        self.used = 0

    cdef char *take(self, Py_ssize_t bytes) noexcept:
        cdef char *place = self.base + self.used
        self.used += (bytes + 63) // 64 * 64
        return place

    cdef bint settle(self) except -1:
        cdef size_t address
        if self.used <= self.capacity:
            return False
        self.memory = None  # the old memory may go first
        self.base = <char *> NOWHERE
        self.capacity = 0
        self.memory = np.zeros(self.used + 64, dtype=np.uint8)
        address = <size_t> cnp.PyArray_DATA(self.memory)
        self.base = <char *> ((address + 63) // 64 * 64)
        self.capacity = self.used
        return True


cdef void bind_packed(const Team *team, rc_packed *B, long K, long N, long ldw, bint transposed) noexcept nogil:
    """Describe a weight matrix of one block; where it lies and where it is packed to are set later."""
    B.K = B.part_K[0] = K
    B.N = N
    B.blocks = B.parts = 1
    B.block_at[0] = B.part_at[0] = 0
    B.ldw = ldw
    B.transposed = transposed
    B.gemm = team.gemm
    team.kernels.prepare(B)


cdef void bind_gates(const Team *team, rc_packed *B, long inner, long H, int gates, const int *at, long ldw,
                     bint joined) noexcept nogil:
    """Describe W (inner, gates·H) whose gate g belongs to block at[g] of rows of padded blocks.

    Its rows are `ldw` numbers apart. `joined`: neighbouring gates may be one wide block, where H needs no padding.
    """
    cdef long ld = padded(team.kernels, H)
    cdef int g
    bind_packed(team, B, inner, H, ldw, False)
    B.blocks = 0
    B.N = 0
    for g in range(gates):
        if joined and ld == H and g > 0 and at[g] == at[g - 1] + 1:
            B.N += H
            continue
        B.N = H
        B.block_at[B.blocks] = at[g] * ld
        B.blocks += 1
    team.kernels.prepare(B)


cdef void bind_gates_T(const Team *team, rc_packed *B, long outer, long H, int gates, const int *at,
                       long ldw) noexcept nogil:
    """Describe the transpose of W (outer, gates·H): K runs over the gates' blocks."""
    cdef long ld = padded(team.kernels, H)
    cdef int g
    bind_packed(team, B, gates * H, outer, ldw, True)
    B.parts = 0
    for g in range(gates):
        if ld == H and g > 0 and at[g] == at[g - 1] + 1:
            B.part_K[B.parts - 1] += H
            continue
        B.part_at[B.parts] = at[g] * ld
        B.part_K[B.parts] = H
        B.parts += 1


cdef struct ProductJob:
    const Team *team
    const rc_packed *B
    long M, lda, ldc, chunk
    int start
    const char *A
    char *C

cdef void product_task(void *arg, int index) noexcept nogil:
    cdef ProductJob *job = <ProductJob *> arg
    cdef long first = index * job.chunk, rows = min(job.chunk, job.M - first), size = job.team.kernels.itemsize
    if rows > 0:
        job.team.kernels.product(job.B, rows, job.A + first * job.lda * size, job.lda, job.start,
                                 job.C + first * job.ldc * size, job.ldc)

cdef long chunk_for(long n, long parts, long multiple) noexcept nogil:
    """Size of each of `parts` nearly equal pieces of n, a multiple of `multiple`."""
    return (n + parts * multiple - 1) // (parts * multiple) * multiple

cdef void team_product(const Team *team, const rc_packed *B, long M, const char *A, long lda, int start,
                       char *C, long ldc) noexcept nogil:
    """C (M, N) = (0 | bias | C) + A·B, rows dealt to threads in pieces."""
    cdef ProductJob job
    cdef int tasks = team.threads if M * B.N * B.blocks * B.K > SMALL else 1
    job.team = team
    job.B = B
    job.M = M
    job.A = A
    job.lda = lda
    job.start = start
    job.C = C
    job.ldc = ldc
    job.chunk = chunk_for(M, tasks, 6)
    parallel(product_task, &job, tasks, tasks)


cdef struct OuterJob:
    const Team *team
    long M, K, lda, ldb, ldc, chunk
    const int64_t *a_rows
    const int64_t *b_rows
    int runs
    const rc_columns *run
    const char *A
    const char *B
    char *C
    bint accumulate

cdef void outer_task(void *arg, int index) noexcept nogil:
    cdef OuterJob *job = <OuterJob *> arg
    cdef const Team *team = job.team
    cdef long first = index * job.chunk, columns = min(job.chunk, job.M - first), size = team.kernels.itemsize
    cdef rc_columns run[RC_MAX_GATES]
    cdef int r
    for r in range(job.runs):
        run[r] = job.run[r]
        if index:  # one task is enough for the sums
            run[r].sums = NULL
    if columns > 0:
        team.kernels.outer(columns, job.K, job.A + first * size, job.lda, job.a_rows, job.B, job.ldb, job.b_rows,
                           job.runs, run, job.accumulate, job.C + first * job.ldc * size, job.ldc, team.gemm,
                           team.scratch + index * team.scratch_size)

cdef void team_outer(const Team *team, long M, long K, const char *A, long lda, const int64_t *a_rows, const char *B,
                     long ldb, const int64_t *b_rows, int runs, const rc_columns *run, bint accumulate, char *C,
                     long ldc) noexcept nogil:
    """C (M, N) = or += AᵀB over K rows, rows of C dealt to threads in pieces. B's N columns are those of the runs."""
    cdef OuterJob job
    cdef long N = 0
    cdef int tasks, r
    for r in range(runs):
        N += run[r].count
    tasks = team.threads if M * N * K > SMALL else 1
    job.team = team
    job.M = M
    job.K = K
    job.runs = runs
    job.run = run
    job.A = A
    job.lda = lda
    job.a_rows = a_rows
    job.B = B
    job.ldb = ldb
    job.b_rows = b_rows
    job.accumulate = accumulate
    job.C = C
    job.ldc = ldc
    job.chunk = chunk_for(M, tasks, 8)
    parallel(outer_task, &job, tasks, tasks)


cdef struct PackJob:
    const Team *team
    rc_packed **weights
    const char **biases
    int count, pieces

cdef void pack_task(void *arg, int index) noexcept nogil:
    cdef PackJob *job = <PackJob *> arg
    cdef rc_packed *B = job.weights[index // job.pieces]
    cdef long panels = B.blocks * B.panel_count, chunk = chunk_for(panels, job.pieces, 1)
    cdef long first = (index % job.pieces) * chunk, last = min(first + chunk, panels)
    if first < last:
        job.team.kernels.pack(B, job.biases[index // job.pieces], first, last)

cdef void team_pack(const Team *team, rc_packed **weights, const char **biases, int count) noexcept nogil:
    """Pack several weight matrices, each with its bias or NULL."""
    cdef PackJob job
    cdef long numbers = 0
    cdef int i, threads
    for i in range(count):
        numbers += weights[i].K * weights[i].N * weights[i].blocks
    threads = team.threads if numbers > 50000 else 1
    job.team = team
    job.weights = weights
    job.biases = biases
    job.count = count
    job.pieces = threads
    parallel(pack_task, &job, count * threads, threads)


cdef struct ColumnJob:
    const Team *team
    long rows, columns, per_row, ld, ldt, chunk
    const char *A
    const int64_t *ids
    const char *scale
    bint accumulate
    char *out

cdef void sums_task(void *arg, int index) noexcept nogil:
    cdef ColumnJob *job = <ColumnJob *> arg
    cdef long first = index * job.chunk, last = min(first + job.chunk, job.columns)
    if first < last:
        job.team.kernels.column_sums(job.rows, first, last, job.A, job.ld, job.accumulate, job.out)

cdef void team_column_sums(const Team *team, long rows, long columns, const char *A, long lda, bint accumulate,
                           char *sums) noexcept nogil:
    """sums = or += the column sums of A (rows, columns), columns dealt to threads."""
    cdef ColumnJob job
    cdef int tasks = team.threads if rows * columns > SMALL else 1
    job.team = team
    job.rows = rows
    job.columns = columns
    job.A = A
    job.ld = lda
    job.accumulate = accumulate
    job.out = sums
    job.chunk = chunk_for(columns, tasks, 64)
    parallel(sums_task, &job, tasks, tasks)

cdef void scatter_task(void *arg, int index) noexcept nogil:
    cdef ColumnJob *job = <ColumnJob *> arg
    cdef long first = index * job.chunk, last = min(first + job.chunk, job.columns)
    if first < last:
        job.team.kernels.scatter(job.rows, first, last, job.per_row, job.ids, job.scale, job.A, job.ld, job.out,
                                 job.ldt)

cdef void team_scatter(const Team *team, long rows, long width, long per_row, const int64_t *ids, const char *scale,
                       const char *d, long ldd, char *table, long ldt) noexcept nogil:
    """table[ids] += d, columns dealt to threads."""
    cdef ColumnJob job
    cdef int tasks = team.threads if rows * width * per_row > SMALL else 1
    job.team = team
    job.rows = rows
    job.columns = width
    job.per_row = per_row
    job.ids = ids
    job.scale = scale
    job.A = d
    job.ld = ldd
    job.out = table
    job.ldt = ldt
    job.chunk = chunk_for(width, tasks, 64)
    parallel(scatter_task, &job, tasks, tasks)
