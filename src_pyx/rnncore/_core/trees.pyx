"""Networks on trees, level by level: gather children, multiply, squash; and back, to each child from its only parent.

    plain       h = e_label at leaves        h = f(b + w_label + Σ_k h_k·W_k) at inner nodes      (Goller, Küchler 1996)
    tensor      a further Σ_kj h_kᵀ·V_kj·h_j inside f                                          (Socher et al. 2013)
    ordered     tree-LSTM with matrices for each child's position                              (Tai et al. 2015)
    summed      tree-LSTM of the sum of the children, any number of them

Rows are the nodes of a forest, level by level: leaves first, then all whose children are leaves, and so on; within a
level those with most children first, so that those with a child in position k are the first ones. Edges lie by level,
position and row. The rows of a level are dealt to threads, each doing all there is to do for some; no number is made of
sums over rows, and none is written twice. Gradients of parameters are products and sums over all rows when the levels
are done.

Kernels and shapes: kernels/trees.h. W (positions·H, so many·H) behind one another as theta has them; V by pairs of
positions (H·H, H); label vectors (symbols, H) or (symbols, 4·H) for f_x, i, o, u.
"""
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

import numpy as np

cimport numpy as cnp

from rnncore._core.gemm cimport (
    Arena,
    RunningOuter,
    Team,
    begin_outer,
    bind_packed,
    clear,
    chunk_for,
    end_outer,
    go_on_outer,
    make_team,
    padded,
    team_column_sums,
    team_outer,
    team_pack,
    team_scatter,
)
from rnncore._core.kernels cimport (
    RC_FROM_C,
    RC_FROM_ZERO,
    RC_MAX_GATES,
    begin_call,
    end_call,
    kernels_for,
    parallel,
    raise_stopped,
    rc_columns,
    rc_kernels,
    rc_loss_options,
    rc_packed,
    rnncore_call,
    stopping,
)

cnp.import_array()

cdef enum:
    PLAIN
    TENSOR
    ORDERED
    SUMMED

KINDS = {"plain": PLAIN, "tensor": TENSOR, "ordered": ORDERED, "summed": SUMMED}

cdef enum:
    ROWS = 64  # at a time: what is gathered stays near
    SMALL = 500000  # multiply-adds that one thread finishes before a second one has woken up


cdef struct Part:
    # A matrix, packed both ways; `copy` is it with its gates padded to whole vectors, or NULL where they are already.
    rc_packed onward
    rc_packed back
    long start
    long gates
    char *copy


cdef struct Forest:
    # Where its arrays lie (rnncore/data/trees.py, Levels).
    long nodes, edges, levels, positions
    const int64_t *starts
    const int64_t *run_starts
    const int64_t *counts
    const int64_t *firsts
    const int64_t *children
    const int64_t *labels
    const int64_t *order
    const int64_t *row_of
    const int64_t *position_starts
    const int64_t *position_children
    const int64_t *position_parents


cdef struct Job:
    # One level.
    const Team *team
    const Part *W
    const Part *extra
    int kind, activation, positions
    long H, ld, lda, ldp, from_labels
    long row, rows, chunk
    long runs
    const int64_t *counts  # of rows that have a child in position 0, 1, ...
    const int64_t *firsts  # where their edges begin
    const int64_t *children
    const int64_t *labels
    const char *table
    const char *bias
    char *a
    char *h
    char *c
    char *f
    char *dh
    char *dc
    char *work  # for each task
    long work_size


cdef inline char *at(char *rows, long number, long width, const Job *job) noexcept nogil:
    return rows + number * width * job.team.kernels.itemsize


cdef inline long with_child(const Job *job, long k, long row, long n) noexcept nogil:
    """Of n rows from `row` on, how many have a child in position k."""
    return min(n, job.counts[k] - (row - job.row)) if k < job.runs else 0


cdef inline const int64_t *children_of(const Job *job, long k, long row) noexcept nogil:
    return job.children + job.firsts[k] + row - job.row


cdef inline void gather(const Job *job, long n, const int64_t *rows, char *to) noexcept nogil:
    job.team.kernels.gather(n, job.ld, 1, rows, NULL, job.h, job.ld, NULL, to, job.ld)


cdef inline void add_to_children(const Job *job, long n, const int64_t *rows, char *d) noexcept nogil:
    job.team.kernels.scatter(n, 0, job.H, 1, rows, NULL, d, job.ld, job.dh, job.ld)


cdef inline long offset(const Job *job) noexcept nogil:
    """Where in a row of a the products go: a tree-LSTM has f_x in front."""
    return 0 if job.kind <= TENSOR else job.ld


cdef void forward_rows(const Job *job, long row, long n, char *work) noexcept nogil:
    cdef const rc_kernels *kernels = job.team.kernels
    cdef long size = kernels.itemsize, k, j, m, g, H = job.H
    cdef char *a = at(job.a, row, job.lda, job)
    cdef char *h = at(job.h, row, job.ld, job)
    cdef char *c = at(job.c, row, job.ld, job)
    cdef char *x = work
    cdef char *y = work + ROWS * job.ld * size
    cdef char *p = work + 2 * ROWS * job.ld * size
    cdef bint leaves = job.runs == 0, lstm = job.kind >= ORDERED
    memset(a, 0, n * job.lda * size)
    for g in range(job.from_labels):
        kernels.gather(n, H, 1, job.labels + row, NULL, job.table + g * H * size, job.from_labels * H,
                       NULL if leaves and not lstm else job.bias + g * H * size, a + g * job.ld * size, job.lda)
    if lstm:
        memset(c, 0, n * job.ld * size)
    for k in range(job.runs):
        m = with_child(job, k, row, n)
        if m <= 0:
            break
        gather(job, m, children_of(job, k, row), x)
        if job.kind != SUMMED:
            kernels.product(&job.W[k].onward, m, x, job.ld, RC_FROM_C, a + offset(job) * size, job.lda)
        else:
            if k == 0:
                kernels.copy(m, job.ld, x, job.ld, y, job.ld)
            else:
                kernels.add(m, job.ld, x, job.ld, y, job.ld)
            kernels.product(&job.extra[0].onward, m, x, job.ld, RC_FROM_ZERO, p, job.ld)
            kernels.trees.forget(m, job.ld, p, job.ld, a, job.lda, children_of(job, k, row), job.c,
                                 at(job.f, job.firsts[k] + row - job.row, job.ld, job), c)
    if job.kind == SUMMED and not leaves:
        kernels.product(&job.W[0].onward, n, y, job.ld, RC_FROM_C, a + offset(job) * size, job.lda)
    if job.kind == ORDERED:
        for k in range(job.runs):
            m = with_child(job, k, row, n)
            if m > 0:
                kernels.trees.forget(m, job.ld, a + (4 + k) * job.ld * size, job.lda, a, job.lda,
                                     children_of(job, k, row), job.c,
                                     at(job.f, job.firsts[k] + row - job.row, job.ld, job), c)
    if job.kind == TENSOR:
        for k in range(job.runs):
            for j in range(job.runs):
                m = with_child(job, max(k, j), row, n)
                if m > 0:
                    gather(job, m, children_of(job, k, row), x)
                    gather(job, m, children_of(job, j, row), y)
                    kernels.trees.pairs(m, H, x, y, job.ld, p, job.ldp)
                    kernels.product(&job.extra[k * job.positions + j].onward, m, p, job.ldp, RC_FROM_C, a, job.lda)
    if lstm:
        kernels.trees.gates(n, job.ld, a, job.lda, c, h)
    elif not leaves:
        kernels.trees.activate(job.activation, n, job.ld, h)


cdef void backward_rows(const Job *job, long row, long n, char *work) noexcept nogil:
    cdef const rc_kernels *kernels = job.team.kernels
    cdef long size = kernels.itemsize, k, j, m
    cdef bint lstm = job.kind >= ORDERED
    cdef char *da = at(job.a if lstm else job.dh, row, job.lda, job)
    cdef char *dh = at(job.dh, row, job.ld, job)
    cdef char *dc = at(job.dc, row, job.ld, job)
    cdef char *f
    cdef char *x = work
    cdef char *y = work + ROWS * job.ld * size
    cdef char *p = work + 2 * ROWS * job.ld * size
    cdef char *dx = p + ROWS * job.ldp * size
    cdef char *dy = dx + ROWS * job.ld * size
    cdef const int64_t *children
    if lstm:
        kernels.trees.gates_back(n, job.ld, da, job.lda, at(job.c, row, job.ld, job), dh, dc)
        for k in range(job.runs):
            m = with_child(job, k, row, n)
            if m > 0:
                kernels.trees.forget_back(m, job.ld, dc, children_of(job, k, row), job.c,
                                          at(job.f, job.firsts[k] + row - job.row, job.ld, job), da,
                                          da + (4 + k) * job.ld * size if job.kind == ORDERED else NULL, job.lda,
                                          job.dc)
    elif job.runs:
        kernels.trees.slope(job.activation, n, job.ld, at(job.h, row, job.ld, job), dh)
    if job.kind == SUMMED and job.runs:
        kernels.product(&job.W[0].back, n, da + offset(job) * size, job.lda, RC_FROM_ZERO, y, job.ld)
    for k in range(job.runs):
        m = with_child(job, k, row, n)
        if m <= 0:
            break
        children = children_of(job, k, row)
        if job.kind == SUMMED:
            add_to_children(job, m, children, y)
            f = at(job.f, job.firsts[k] + row - job.row, job.ld, job)
            kernels.product(&job.extra[0].back, m, f, job.ld, RC_FROM_ZERO, x, job.ld)
        else:
            kernels.product(&job.W[k].back, m, da + offset(job) * size, job.lda, RC_FROM_ZERO, x, job.ld)
        add_to_children(job, m, children, x)
    if job.kind == TENSOR:
        for k in range(job.runs):
            for j in range(job.runs):
                m = with_child(job, max(k, j), row, n)
                if m > 0:
                    gather(job, m, children_of(job, k, row), x)
                    gather(job, m, children_of(job, j, row), y)
                    kernels.product(&job.extra[k * job.positions + j].back, m, da, job.lda, RC_FROM_ZERO, p, job.ldp)
                    memset(dx, 0, 2 * ROWS * job.ld * size)
                    kernels.trees.pairs_back(m, job.H, x, y, job.ld, p, job.ldp, dx, dy)
                    add_to_children(job, m, children_of(job, k, row), dx)
                    add_to_children(job, m, children_of(job, j, row), dy)


ctypedef void (*some_rows)(const Job *job, long row, long n, char *work) noexcept nogil

cdef inline void all_rows(const Job *job, int index, some_rows step) noexcept nogil:
    cdef long row = job.row + index * job.chunk, last = min(row + job.chunk, job.row + job.rows)
    while row < last and not stopping():
        step(job, row, min(<long> ROWS, last - row), job.work + index * job.work_size)
        row += ROWS

cdef void forward_task(void *arg, int index) noexcept nogil:
    all_rows(<Job *> arg, index, forward_rows)

cdef void backward_task(void *arg, int index) noexcept nogil:
    all_rows(<Job *> arg, index, backward_rows)


cdef const int64_t *numbers(array) except? NULL:
    return <const int64_t *> cnp.PyArray_DATA(array)


cdef Forest forest_of(levels) except *:
    cdef Forest forest
    forest.nodes, forest.edges = len(levels.order), len(levels.children)
    forest.levels, forest.positions = len(levels.starts) - 1, len(levels.position_starts) - 1
    forest.starts, forest.run_starts = numbers(levels.starts), numbers(levels.run_starts)
    forest.counts, forest.firsts = numbers(levels.counts), numbers(levels.firsts)
    forest.children, forest.labels = numbers(levels.children), numbers(levels.labels)
    forest.order, forest.row_of = numbers(levels.order), numbers(levels.row_of)
    forest.position_starts = numbers(levels.position_starts)
    forest.position_children = numbers(levels.position_children)
    forest.position_parents = numbers(levels.position_parents)
    return forest


cdef class TreeKernel:
    """One network on trees, for one caller at a time.

    Parameters
    ----------
    itemsize, hidden : int
    positions : int
        Of children that have matrices of their own; 1 for "summed".
    kind : str
        One of KINDS.
    activation : int
    starts : tuple of int
        Places in theta: label vectors, W, b, and V or W_f.
    """
    cdef Team team
    cdef Part *W
    cdef Part *extra  # V, or W_f
    cdef int kind, activation, positions, extras
    cdef long H, ld, lda, ldp, labels, b, from_labels
    cdef Arena packed, memory
    cdef Job job
    cdef Forest forest
    cdef object held  # whose arrays these are

    def __cinit__(self, int itemsize, long hidden, int positions, str kind, int activation, tuple starts):
        cdef Team *team = &self.team
        cdef long n, gates
        make_team(team, itemsize)
        self.kind, self.activation, self.positions = KINDS[kind], activation, positions
        self.H, self.ld = hidden, padded(team.kernels, hidden)
        self.ldp = padded(team.kernels, hidden * hidden) if self.kind == TENSOR else self.ld
        self.labels, self.b, self.from_labels = starts[0], starts[2], 1 if self.kind <= TENSOR else 4
        gates = 1 if self.kind <= TENSOR else 3 if self.kind == SUMMED else 3 + positions
        self.lda = self.ld if self.kind <= TENSOR else (1 + gates) * self.ld
        self.extras = positions * positions if self.kind == TENSOR else 1 if self.kind == SUMMED else 0
        self.W = <Part *> calloc(positions, sizeof(Part))
        self.extra = <Part *> calloc(max(self.extras, 1), sizeof(Part))
        if self.W == NULL or self.extra == NULL:
            raise MemoryError
        for n in range(positions):
            self.bind(&self.W[n], starts[1] + n * hidden * gates * hidden, hidden, gates)
        for n in range(self.extras):
            self.bind(&self.extra[n], starts[3] + n * hidden * hidden * hidden,
                      hidden * hidden if self.kind == TENSOR else hidden, 1)
        n = hidden * hidden if self.kind == TENSOR else hidden
        team.scratch_size = (team.kernels.outer_scratch(n, RC_MAX_GATES * hidden) * itemsize + 63) // 64 * 64
        self.packed, self.memory = Arena(), Arena()
        while True:
            self.packed.start()
            for n in range(positions):
                self.place(&self.W[n])
            for n in range(self.extras):
                self.place(&self.extra[n])
            if not self.packed.settle():
                break

    def __dealloc__(self):
        free(self.W)
        free(self.extra)

    cdef void bind(self, Part *part, long start, long inputs, long gates) noexcept:
        cdef long columns = gates * self.ld
        part.start, part.gates = start, gates
        bind_packed(&self.team, &part.onward, inputs, columns, columns, False)
        bind_packed(&self.team, &part.back, columns, inputs, columns, True)

    cdef void place(self, Part *part) noexcept:
        cdef long size = self.team.kernels.itemsize
        part.copy = self.packed.take(part.onward.K * part.onward.N * size) if self.ld != self.H else NULL
        if self.team.gemm == NULL:
            self.packed.take_panels(self.team.kernels, &part.onward)
            self.packed.take_panels(self.team.kernels, &part.back)

    cdef void pack(self, Part *part, const char *theta, bint back) noexcept nogil:
        """Pack a matrix, its gates padded first."""
        cdef long size = self.team.kernels.itemsize, g
        cdef const char *W = theta + part.start * size
        cdef rc_packed *packed[1]
        cdef const char *biases[1]
        packed[0] = &part.back if back else &part.onward
        biases[0] = NULL
        if part.copy != NULL:
            if not back:
                memset(part.copy, 0, part.onward.K * part.onward.N * size)
                for g in range(part.gates):
                    self.team.kernels.copy(part.onward.K, self.H, W + g * self.H * size, part.gates * self.H,
                                           part.copy + g * self.ld * size, part.onward.N)
            W = part.copy
        packed[0].W = W
        team_pack(&self.team, packed, biases, 1)

    cdef void pack_all(self, const char *theta, bint back) noexcept nogil:
        cdef long n
        for n in range(self.positions):
            self.pack(&self.W[n], theta, back)
        for n in range(self.extras):
            self.pack(&self.extra[n], theta, back)

    cdef void start(self, levels, int threads, bint training) except *:
        """Lay out the memory of a forest."""
        cdef Job *job = &self.job
        cdef long N, E, size = self.team.kernels.itemsize
        cdef bint lstm = self.kind >= ORDERED
        self.held, self.forest = levels, forest_of(levels)
        N, E = self.forest.nodes, self.forest.edges
        job.team, job.W, job.extra = &self.team, self.W, self.extra
        job.kind, job.activation, job.positions = self.kind, self.activation, self.positions
        job.H, job.ld, job.lda, job.ldp, job.from_labels = self.H, self.ld, self.lda, self.ldp, self.from_labels
        job.labels, job.children = self.forest.labels, self.forest.children
        job.work_size = ROWS * (4 * self.ld + self.ldp) * size
        self.team.threads = threads
        while True:
            self.memory.start()
            job.h = self.memory.take(N * self.ld * size)
            job.a = self.memory.take(N * self.lda * size) if lstm else job.h
            job.c = self.memory.take(N * self.ld * size) if lstm else job.h
            job.f = self.memory.take(E * self.ld * size) if lstm else job.h
            job.dh = self.memory.take(N * self.ld * size) if training else job.h
            job.dc = self.memory.take(N * self.ld * size) if training and lstm else job.dh
            job.work = self.memory.take(threads * job.work_size)
            self.team.scratch = self.memory.take(threads * self.team.scratch_size)
            if not self.memory.settle():
                break

    cdef void stand_at(self, long level) noexcept nogil:
        cdef Job *job = &self.job
        cdef const Forest *forest = &self.forest
        cdef long run = forest.run_starts[level]
        job.row, job.rows = forest.starts[level], forest.starts[level + 1] - forest.starts[level]
        job.runs, job.counts, job.firsts = forest.run_starts[level + 1] - run, forest.counts + run, forest.firsts + run

    cdef void run(self, bint back) noexcept nogil:
        """Go through the levels, the rows of each dealt to threads."""
        cdef Job *job = &self.job
        cdef long n, k, products
        cdef int tasks
        for n in range(self.forest.levels):
            if stopping():
                return
            self.stand_at(self.forest.levels - 1 - n if back else n)
            products = 0
            for k in range(job.runs):
                products += job.counts[k] * self.H * self.lda
            if self.kind == TENSOR:
                products *= self.H * job.runs
            tasks = self.team.threads if products > SMALL else 1
            job.chunk = chunk_for(job.rows, tasks, ROWS)
            parallel(backward_task if back else forward_task, job, tasks, tasks)

    def forward(self, theta, levels, int threads, bint training):
        """Return the vectors h (N, H) of all nodes, in their own order.

        levels : Levels of a forest, with labels in range.
        """
        cdef rnncore_call call
        cdef Job *job = &self.job
        cdef long size = self.team.kernels.itemsize, N
        cdef const char *first = <const char *> cnp.PyArray_DATA(theta)
        cdef char *out
        self.start(levels, threads, training)
        N = self.forest.nodes
        found = np.empty((N, self.H), dtype=theta.dtype)
        out = <char *> cnp.PyArray_DATA(found)
        job.table, job.bias = first + self.labels * size, first + self.b * size
        with nogil:
            begin_call(&call, True)
            self.pack_all(first, False)
            self.run(False)
            self.team.kernels.gather(N, self.H, 1, self.forest.row_of, NULL, job.h, self.ld, NULL, out, self.H)
            end_call(&call)
        if call.stopped:
            raise_stopped()
        return found

    def backward(self, theta, grad, dh, int threads):
        """Go back through the latest training `forward`: add to the gradients. dh (N, H), in the nodes' own order."""
        cdef rnncore_call call
        cdef Job *job = &self.job
        cdef const Team *team = &self.team
        cdef long size = team.kernels.itemsize, N = self.forest.nodes
        cdef const char *first = <const char *> cnp.PyArray_DATA(theta)
        cdef char *target = <char *> cnp.PyArray_DATA(grad)
        cdef const char *given = <const char *> cnp.PyArray_DATA(dh)
        self.team.threads = threads
        with nogil:
            begin_call(&call, True)
            self.pack_all(first, True)
            clear(job.dh, N * self.ld * size)
            team.kernels.gather(N, self.H, 1, self.forest.order, NULL, given, self.H, NULL, job.dh, self.ld)
            if self.kind >= ORDERED:
                clear(job.dc, N * self.ld * size)
            self.run(True)
            if not stopping():
                self.gradients(target)
            end_call(&call)
        if call.stopped:
            raise_stopped()

    cdef void gradients(self, char *grad) noexcept nogil:
        """Of label vectors and biases, sums of da over nodes; dW_k = Σ h_kᵀ·da over the edges in position k.

        Where there is one matrix for the sum of the children it is over all edges. Of a plain network's leaves da is
        dh, and they have no bias.
        """
        cdef Job *job = &self.job
        cdef const Forest *forest = &self.forest
        cdef const Team *team = &self.team
        cdef long size = team.kernels.itemsize, g, k, j
        cdef bint lstm = self.kind >= ORDERED
        cdef const char *da = job.a if lstm else job.dh
        cdef long without = 0 if lstm else forest.starts[1]
        cdef const int64_t *edges = forest.position_starts
        cdef const int64_t *children = forest.position_children
        cdef const int64_t *parents = forest.position_parents
        for g in range(self.from_labels):
            team_scatter(team, forest.nodes, self.H, 1, job.labels, NULL, da + g * self.ld * size, self.lda,
                         grad + (self.labels + g * self.H) * size, self.from_labels * self.H)
            team_column_sums(team, forest.nodes - without, self.H, da + (without * self.lda + g * self.ld) * size,
                             self.lda, True, grad + (self.b + g * self.H) * size)
        da += offset(job) * size
        if self.kind == SUMMED:
            self.outer(&self.W[0], forest.edges, children, da, parents, self.lda, grad)
            self.outer(&self.extra[0], forest.edges, forest.children, job.f, NULL, self.ld, grad)
            return
        for k in range(forest.positions):
            self.outer(&self.W[k], edges[k + 1] - edges[k], children + edges[k], da, parents + edges[k], self.lda, grad)
        if self.kind == TENSOR:
            for k in range(forest.positions):
                for j in range(forest.positions):
                    self.outer_of_pairs(k, j, edges[max(k, j) + 1] - edges[max(k, j)], da, grad)

    cdef void outer(self, const Part *part, long edges, const int64_t *children, const char *da,
                    const int64_t *parents, long lda, char *grad) noexcept nogil:
        cdef rc_columns runs[RC_MAX_GATES]
        cdef long size = self.team.kernels.itemsize, g = 0, n, count
        while edges and g < part.gates:
            count = min(<long> RC_MAX_GATES, part.gates - g)
            for n in range(count):
                runs[n].at, runs[n].count, runs[n].sums = (g + n) * self.ld, self.H, NULL
            team_outer(&self.team, self.H, edges, self.job.h, self.ld, children, da, lda, parents, <int> count, runs,
                       True, grad + (part.start + g * self.H) * size, part.gates * self.H)
            g += count

    cdef void outer_of_pairs(self, long k, long j, long edges, const char *da, char *grad) noexcept nogil:
        """dV_kj = Σ (h_k ⊗ h_j)ᵀ·da, pairs made anew some rows at a time."""
        cdef Job *job = &self.job
        cdef RunningOuter total
        cdef long size = self.team.kernels.itemsize, n, level, row, m
        cdef char *x = job.work
        cdef char *y = x + ROWS * self.ld * size
        cdef char *p = x + 2 * ROWS * self.ld * size
        begin_outer(&total, &self.team, self.H * self.H, self.H, edges, ROWS, True,
                    grad + self.extra[k * self.positions + j].start * size, NULL)
        for level in range(self.forest.levels):
            self.stand_at(level)
            row = job.row
            n = with_child(job, max(k, j), row, job.rows)
            while n > 0:
                m = min(n, <long> ROWS)
                gather(job, m, children_of(job, k, row), x)
                gather(job, m, children_of(job, j, row), y)
                self.team.kernels.trees.pairs(m, self.H, x, y, self.ld, p, self.ldp)
                go_on_outer(&total, m, p, self.ldp, da + row * self.lda * size, self.lda)
                row, n = row + m, n - m
        end_outer(&total)


cdef object padded_rows(scores):
    """Return rows (n, K) with whole vectors of columns."""
    cdef const rc_kernels *kernels = kernels_for(scores.itemsize)
    found = np.zeros((len(scores), padded(kernels, scores.shape[1])), dtype=scores.dtype)
    found[:, :scores.shape[1]] = scores
    return found


def softmax(scores):
    """Return the probabilities of rows of scores (n, K)."""
    cdef rc_loss_options options
    cdef const rc_kernels *kernels = kernels_for(scores.itemsize)
    cdef long K = scores.shape[1]
    rows = padded_rows(scores)
    options.outputs, options.ld, options.class_weight, options.label_smoothing = K, rows.shape[1], NULL, 0
    kernels.softmax(len(rows), &options, cnp.PyArray_DATA(rows))
    return np.ascontiguousarray(rows[:, :K])


def softmax_loss(scores, targets, weights):
    """Return the sum of weights times losses of rows of scores (n, K), and its gradient (n, K).

    targets : int64 (n,), all in 0..K-1; weights : float64 (n,)
    """
    cdef rc_loss_options options
    cdef const rc_kernels *kernels = kernels_for(scores.itemsize)
    cdef long K = scores.shape[1], n
    rows = padded_rows(scores)
    cdef char *row = <char *> cnp.PyArray_DATA(rows)
    cdef const int64_t *target = numbers(targets)
    cdef const double *weight = <const double *> cnp.PyArray_DATA(weights)
    cdef double total = 0, loss
    options.outputs, options.ld, options.class_weight, options.label_smoothing = K, rows.shape[1], NULL, 0
    for n in range(len(rows)):
        kernels.softmax_loss(1, &options, weight[n], target + n, row, &loss)
        total += weight[n] * loss
        row += options.ld * kernels.itemsize
    return total, np.ascontiguousarray(rows[:, :K])
