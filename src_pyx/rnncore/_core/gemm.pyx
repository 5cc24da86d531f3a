"""Products, sums and packing spread over the thread pool, and the memory they work in.

Sums over very many rows are made of sums over blocks of them (gemm.pxd); their memory, small beside the rows
themselves, comes and goes with the call.
"""
import numpy as np

cimport numpy as cnp
from libc.stdint cimport int64_t, uint16_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from rnncore._core.kernels cimport (
    RC_MAX_GATES,
    gemm_for,
    kernels_for,
    parallel,
    rc_columns,
    rc_kernels,
    rc_outer,
    rc_packed,
    rc_storage,
    stopping,
    storage_named,
)

cnp.import_array()

cdef enum:
    SMALL = 500000  # multiply-adds that one thread finishes before a second one has woken up
    PIECE = 4194304  # bytes that are cleared at a time


cdef int make_team(Team *team, int itemsize, bint mixed=False) except -1:
    """One thread, and the products for numbers of so many bytes; mixed: of float32 numbers rounded to bfloat16."""
    team.kernels = kernels_for(itemsize)
    team.storage = storage_named("mixed_bfloat16") if mixed else NULL
    team.gemm = NULL if mixed else gemm_for(itemsize)
    team.threads = 1
    return 0


cdef Team without_storage(const Team *team) noexcept nogil:
    """The same, for products whose operands are not rounded."""
    cdef Team plain = team[0]
    plain.storage = NULL
    return plain


cdef rc_outer outer_of(const Team *team, bint halves) noexcept nogil:
    if team.storage == NULL:
        return team.kernels.outer
    return team.storage.mixed.outer_of_halves if halves else team.storage.mixed.outer


cdef long outer_scratch(const Team *team, long M, long N) noexcept nogil:
    """Numbers of scratch that a weight gradient (M, N) wants."""
    return team.kernels.outer_scratch(M, N) if team.storage == NULL else team.storage.mixed.outer_scratch(M, N)


cdef long padded(const rc_kernels *kernels, long n) noexcept nogil:
    """n rounded up to whole vectors."""
    return (n + kernels.vector - 1) // kernels.vector * kernels.vector


cdef size_t NOWHERE = (<size_t> 1) << (8 * sizeof(size_t) - 2)  # far from null and from the end


cdef void clear(void *memory, long bytes) noexcept nogil:
    """Set much memory to zero, and ask now and then whether to stop."""
    cdef long first = 0
    while first < bytes and not (first and stopping()):
        memset(<char *> memory + first, 0, min(bytes - first, PIECE))
        first += PIECE


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

    cdef void take_panels(self, const rc_kernels *kernels, rc_packed *B) noexcept:
        """What a matrix is packed to."""
        B.panels = self.take(kernels.packed_size(B) * kernels.itemsize)

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
    B.storage = team.storage
    B.soon = NULL
    team.kernels.prepare(B)


cdef void keep_as(const Team *team, rc_packed *B, const rc_storage *storage) noexcept nogil:
    """Have a float32 matrix packed in fewer bits; NULL, and one of float64: as its team keeps it."""
    if storage == NULL or team.kernels.itemsize != 4:
        return
    B.storage = storage
    B.gemm = NULL
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
    bint halves
    const char *A
    char *C

cdef void product_task(void *arg, int index) noexcept nogil:
    cdef ProductJob *job = <ProductJob *> arg
    cdef long first = index * job.chunk, rows = min(job.chunk, job.M - first), size = job.team.kernels.itemsize
    if rows <= 0:
        return
    if job.halves:
        job.team.storage.mixed.product_of_halves(
            job.B, 0, job.B.blocks, rows, job.A + first * job.lda * sizeof(uint16_t), job.lda, job.start,
            job.C + first * job.ldc * size, job.ldc)
    else:
        job.team.kernels.product(job.B, rows, job.A + first * job.lda * size, job.lda, job.start,
                                 job.C + first * job.ldc * size, job.ldc)

cdef long chunk_for(long n, long parts, long multiple) noexcept nogil:
    """Size of each of `parts` nearly equal pieces of n, a multiple of `multiple`."""
    return (n + parts * multiple - 1) // (parts * multiple) * multiple

cdef void team_product(const Team *team, const rc_packed *B, long M, const char *A, long lda, int start,
                       char *C, long ldc, bint halves=False) noexcept nogil:
    """C (M, N) = (0 | bias | C) + A·B, rows dealt to threads in pieces. halves: A's numbers have 16 bits."""
    cdef ProductJob job
    cdef int tasks = team.threads if M * B.N * B.blocks * B.K > SMALL else 1
    job.team = team
    job.B = B
    job.M = M
    job.A = A
    job.lda = lda
    job.start = start
    job.halves = halves
    job.C = C
    job.ldc = ldc
    job.chunk = chunk_for(M, tasks, 6)
    parallel(product_task, &job, tasks, tasks)


cdef bint team_sums_wide(const Team *team, long rows) noexcept nogil:
    """Whether a sum over so many rows is to be made of sums over blocks of them."""
    return team.kernels.itemsize == 4 and rows > MANY_ROWS


cdef void sum_strips(const rc_kernels *kernels, long rows, const int64_t *at, long first, long last, const char *A,
                     long lda, bint accumulate, char *sums) noexcept nogil:
    """sums[first:last] = or += the column sums of A's rows (at[0], at[1], ..., or all), by blocks of rows."""
    cdef double total[SUM_COLUMNS]
    cdef double block[SUM_COLUMNS]  # numbers of the kernels' precision
    cdef long n, r, start, depth, size = kernels.itemsize
    while first < last:
        n = min(SUM_COLUMNS, last - first)
        memset(total, 0, sizeof(total))
        if accumulate:
            kernels.widen(1, n, sums + first * size, n, total)
        start = 0
        while start < rows:
            depth = min(SUM_ROWS, rows - start)
            if at == NULL:
                kernels.column_sums(depth, 0, n, A + (start * lda + first) * size, lda, False, block)
            else:
                for r in range(start, start + depth):
                    kernels.column_sums(1, 0, n, A + (at[r] * lda + first) * size, lda, r > start, block)
            kernels.widen(1, n, block, n, total)
            start += depth
        kernels.narrow(1, n, total, sums + first * size, n)
        first += n


cdef void team_add_rows(const Team *team, long rows, const int64_t *at, long n, const char *A, long lda,
                        char *out) noexcept nogil:
    """out += the rows of A (at[0], at[1], ..., or all), n numbers each."""
    cdef long r, size = team.kernels.itemsize
    if team_sums_wide(team, rows):
        sum_strips(team.kernels, rows, at, 0, n, A, lda, True, out)
        return
    for r in range(rows):
        team.kernels.add(1, n, A + (r if at == NULL else at[r]) * lda * size, lda, out, n)


cdef struct OuterJob:
    const Team *team
    long N
    double *totals  # (M, N) and the N sums, where they are made of sums over blocks of rows; or NULL
    long M, K, lda, ldb, ldc, chunk
    const int64_t *a_rows
    const int64_t *b_rows
    int runs
    const rc_columns *run
    const char *A
    const char *B
    char *C
    bint accumulate, halves

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
    if columns > 0 and job.totals != NULL:
        outer_by_blocks(job, index, first, columns, run)
    elif columns > 0:
        outer_of(team, job.halves)(
            columns, job.K, job.A + first * size, job.lda, job.a_rows, job.B, job.ldb, job.b_rows, job.runs, run,
            job.accumulate, job.C + first * job.ldc * size, job.ldc, team.gemm,
            team.scratch + index * team.scratch_size)

cdef void outer_by_blocks(OuterJob *job, int index, long first, long columns, const rc_columns *run) noexcept nogil:
    """The same, a block of rows at a time, each from zero."""
    cdef const rc_kernels *kernels = job.team.kernels
    cdef long size = kernels.itemsize, size_B = sizeof(uint16_t) if job.halves else size
    cdef long N = job.N, start = 0, depth, at
    cdef char *C = job.C + first * job.ldc * size
    cdef double *total = job.totals + first * N
    cdef double *sums = job.totals + job.M * N
    cdef int r
    memset(total, 0, columns * N * sizeof(double))
    if index == 0:
        memset(sums, 0, N * sizeof(double))
    if job.accumulate:
        kernels.widen(columns, N, C, job.ldc, total)
    while start < job.K:
        depth = min(SUM_ROWS, job.K - start)
        if start == 0 and job.accumulate:
            at = 0
            for r in range(job.runs):
                if run[r].sums != NULL:
                    kernels.widen(1, run[r].count, run[r].sums, N, sums + at)
                at += run[r].count
        outer_of(job.team, job.halves)(
            columns, depth, job.A + (first + (start * job.lda if job.a_rows == NULL else 0)) * size, job.lda,
            NULL if job.a_rows == NULL else job.a_rows + start,
            job.B + (start * job.ldb if job.b_rows == NULL else 0) * size_B, job.ldb,
            NULL if job.b_rows == NULL else job.b_rows + start, job.runs, run, False, C, job.ldc, job.team.gemm,
            job.team.scratch + index * job.team.scratch_size)
        kernels.widen(columns, N, C, job.ldc, total)
        at = 0
        for r in range(job.runs):
            if run[r].sums != NULL:
                kernels.widen(1, run[r].count, run[r].sums, N, sums + at)
            at += run[r].count
        start += depth
    kernels.narrow(columns, N, total, C, job.ldc)
    at = 0
    for r in range(job.runs):
        if run[r].sums != NULL:
            kernels.narrow(1, run[r].count, sums + at, run[r].sums, N)
        at += run[r].count

cdef void team_outer(const Team *team, long M, long K, const char *A, long lda, const int64_t *a_rows, const char *B,
                     long ldb, const int64_t *b_rows, int runs, const rc_columns *run, bint accumulate, char *C,
                     long ldc, bint halves=False) noexcept nogil:
    """C (M, N) = or += AᵀB over K rows, rows of C dealt to threads in pieces. B's N columns are those of the runs.

    halves: B's numbers have 16 bits.
    """
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
    job.halves = halves
    job.C = C
    job.ldc = ldc
    job.chunk = chunk_for(M, tasks, 8)
    job.N = N
    job.totals = NULL
    if team_sums_wide(team, K):  # without memory for them: one chain
        job.totals = <double *> malloc((M + 1) * N * sizeof(double))
    parallel(outer_task, &job, tasks, tasks)
    free(job.totals)


cdef struct HalvesJob:
    const Team *team
    long rows, n, ldy, ldx, chunk
    const uint16_t *y
    char *x

cdef void halves_task(void *arg, int index) noexcept nogil:
    cdef HalvesJob *job = <HalvesJob *> arg
    cdef long first = index * job.chunk, rows = min(job.chunk, job.rows - first)
    if rows > 0:
        job.team.storage.mixed.from_halves(rows, job.n, job.y + first * job.ldy, job.ldy,
                                           job.x + first * job.ldx * sizeof(float), job.ldx)

cdef void team_from_halves(const Team *team, long rows, long n, const uint16_t *y, long ldy, char *x,
                           long ldx) noexcept nogil:
    """x = rows of n numbers of bfloat16, dealt to threads."""
    cdef HalvesJob job
    cdef int tasks = team.threads if rows * n > SMALL else 1
    job.team = team
    job.rows, job.n, job.ldy, job.ldx = rows, n, ldy, ldx
    job.y = y
    job.x = x
    job.chunk = chunk_for(rows, tasks, 1)
    parallel(halves_task, &job, tasks, tasks)


cdef void begin_outer(RunningOuter *o, const Team *team, long M, long N, long rows, long at_once, bint accumulate,
                      char *C, char *sums) noexcept nogil:
    """A sum over `rows` rows, of which at most `at_once` come at a time: the same bits whatever that is."""
    o.team = team
    o.M = M
    o.N = N
    o.ldc = N
    o.at_a_time = M
    o.rows = rows
    o.done = 0
    o.accumulate = accumulate
    o.C = C
    o.sums = sums
    o.totals = NULL
    if at_once < rows and team_sums_wide(team, rows):  # without memory for them: one chain
        o.totals = <double *> calloc((M + 1) * N, sizeof(double))


cdef void add_to_totals(RunningOuter *o) noexcept nogil:
    o.team.kernels.widen(o.M, o.N, o.C, o.ldc, o.totals)
    if o.sums != NULL:
        o.team.kernels.widen(1, o.N, o.sums, o.N, o.totals + o.M * o.N)


cdef void go_on_outer(RunningOuter *o, long rows, const char *A, long lda, const char *B, long ldb) noexcept nogil:
    """The next rows."""
    cdef rc_columns columns
    cdef long n, m, size = o.team.kernels.itemsize
    cdef bint more
    if o.done == 0 and o.totals != NULL and o.accumulate:
        add_to_totals(o)
    while rows > 0:
        n = rows if o.totals == NULL else min(rows, SUM_ROWS - o.done % SUM_ROWS)
        more = o.done % SUM_ROWS > 0 if o.totals != NULL else o.accumulate or o.done > 0
        columns.at, columns.count, columns.sums = 0, o.N, o.sums
        m = 0
        while m < o.M:
            team_outer(o.team, min(o.at_a_time, o.M - m), n, A + m * size, lda, NULL, B, ldb, NULL, 1, &columns, more,
                       o.C + m * o.ldc * size, o.ldc)
            columns.sums = NULL
            m += o.at_a_time
        A += n * lda * size
        B += n * ldb * size
        rows -= n
        o.done += n
        if o.totals != NULL and (o.done % SUM_ROWS == 0 or o.done == o.rows):
            add_to_totals(o)


cdef void end_outer(RunningOuter *o) noexcept nogil:
    if o.totals == NULL:
        return
    o.team.kernels.narrow(o.M, o.N, o.totals, o.C, o.ldc)
    if o.sums != NULL:
        o.team.kernels.narrow(1, o.N, o.totals + o.M * o.N, o.sums, o.N)
    free(o.totals)


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
    int64_t *order  # numbers of the ids by id, where sums over blocks of rows are wanted; or NULL

cdef void sums_task(void *arg, int index) noexcept nogil:
    cdef ColumnJob *job = <ColumnJob *> arg
    cdef long first = index * job.chunk, last = min(first + job.chunk, job.columns)
    if first < last and team_sums_wide(job.team, job.rows):
        sum_strips(job.team.kernels, job.rows, NULL, first, last, job.A, job.ld, job.accumulate, job.out)
    elif first < last:
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

cdef void scatter_sorted(const ColumnJob *job, long first, long last) noexcept nogil:
    """Columns [first, last) of all rows, id by id."""
    cdef const rc_kernels *kernels = job.team.kernels
    cdef double total[SUM_COLUMNS]
    cdef double block[SUM_COLUMNS]  # numbers of the kernels' precision
    cdef const char *scale
    cdef const char *d
    cdef char *row
    cdef int64_t none = 0
    cdef long i = 0, end, k, n, column, size = kernels.itemsize, count = job.rows * job.per_row
    while i < count and not stopping():
        end = i + 1
        while end < count and job.ids[job.order[end]] == job.ids[job.order[i]]:
            end += 1
        row = job.out + job.ids[job.order[i]] * job.ldt * size
        column = first
        while column < last and job.ids[job.order[i]] >= 0:
            n = min(SUM_COLUMNS, last - column)
            memset(total, 0, sizeof(total))
            kernels.widen(1, n, row + column * size, n, total)
            for k in range(i, end):
                if (k - i) % SUM_ROWS == 0:
                    if k > i:
                        kernels.widen(1, n, block, n, total)
                    memset(block, 0, sizeof(block))
                scale = NULL if job.scale == NULL else job.scale + job.order[k] * size
                d = job.A + (job.order[k] // job.per_row * job.ld + column) * size
                kernels.scatter(1, 0, n, 1, &none, scale, d, job.ld, block, 0)
            kernels.widen(1, n, block, n, total)
            kernels.narrow(1, n, total, row + column * size, n)
            column += n
        i = end

cdef int64_t *sorted_by_id(const int64_t *ids, long count) noexcept nogil:
    """The numbers of the ids in the order of the ids, equal ones as they come; NULL without memory. free() it."""
    cdef int64_t *order = <int64_t *> malloc(count * sizeof(int64_t))
    cdef int64_t *place
    cdef int64_t most = -1, at = 0, here
    cdef long i
    for i in range(count):
        most = max(most, ids[i])
    place = <int64_t *> calloc(most + 2, sizeof(int64_t))  # of id - 1 at id, so that -1 has one
    if order == NULL or place == NULL:
        free(order)
        free(place)
        return NULL
    for i in range(count):
        place[max(ids[i], -1) + 1] += 1
    for i in range(most + 2):
        here = place[i]
        place[i] = at
        at += here
    for i in range(count):
        order[place[max(ids[i], -1) + 1]] = i
        place[max(ids[i], -1) + 1] += 1
    free(place)
    return order

cdef void scatter_task(void *arg, int index) noexcept nogil:
    cdef ColumnJob *job = <ColumnJob *> arg
    cdef long first = index * job.chunk, last = min(first + job.chunk, job.columns)
    if first < last and job.order != NULL:
        scatter_sorted(job, first, last)
    elif first < last:
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
    job.order = sorted_by_id(ids, rows * per_row) if team_sums_wide(team, rows * per_row) else NULL
    parallel(scatter_task, &job, tasks, tasks)
    free(job.order)
