"""Adaptive softmax (Grave et al. 2017): classes by falling frequency, rare ones in clusters behind the head's softmax.

    head       p = softmax(z·W_hy + b_y)    over the c0 most frequent classes and one output per cluster
    cluster i  q = softmax((z·P)·W)         over its classes; the probability of class k in it is p[c0 + i]·q[k]
    loss       -log p[k], or -log p[c0 + i] - log q[k]
    backward   dh = ds·Wᵀ   dW = hᵀ·ds   dP = zᵀ·dh   dz += dh·Pᵀ     with h = z·P

In training a cluster is looked at only for the rows whose target is in it: gathered, in the order of the rows. W is
small in both directions: few classes where h has many numbers, few numbers where there are many classes.
"""
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from rnncore._core.gemm cimport (
    Arena,
    RunningOuter,
    Team,
    begin_outer,
    bind_packed,
    end_outer,
    go_on_outer,
    keep_as,
    padded,
    team_pack,
    team_product,
    team_scatter,
)
from rnncore._core.kernels cimport (
    BETWEEN,
    RC_FROM_C,
    RC_FROM_ZERO,
    kernels_for,
    rc_packed,
    rc_storage,
    stopping,
    stops_after,
)
from rnncore._core.projection cimport (
    SOFTMAX,
    Core,
    block_rows,
    finish_scores,
    losses_of_rows,
    pack_weights,
    scores_of_rows,
)


cdef void pack_down(Tail *a, rc_packed *packed) noexcept nogil:
    cdef rc_packed *weights[2]
    cdef const char *biases[2]
    cdef int s, parts = 2 if a.down[1].K > 0 else 1
    for s in range(parts):
        weights[s] = &packed[s]
        biases[s] = NULL
    team_pack(&a.c.team, weights, biases, parts)


cdef class Tails:
    """The clusters.

    Parameters
    ----------
    outputs : int
        K, all classes.
    clusters : list of (first class, classes, size, P, W)
        Numbers of h, and places in theta, of each.
    widths : list of int
        Of the parts of z.
    """

    def __cinit__(self, int itemsize, long outputs, list clusters, list widths):
        cdef Tail *a
        cdef int i
        self.count = len(clusters)
        self.parts = len(widths)
        self.outputs = outputs
        self.ld = padded(kernels_for(itemsize), outputs)
        self.arena = Arena()
        self.weights = Arena()
        self.kept = Arena()
        for i, (start, classes, size, P, W) in enumerate(clusters):
            a = &self.tail[i]
            a.start, a.size, a.P = start, size, P
            a.c.W_hy, a.c.b_y = W, -1
            a.c.options.outputs = classes
            a.c.loss = SOFTMAX
            a.c.parts = 1

    cdef describe(self, const Team *team, Core *head):
        """Say how the matrices are packed, and where to."""
        cdef Tail *a
        cdef Core *c
        cdef int i, s
        for i in range(self.count):
            a = &self.tail[i]
            c = &a.c
            c.team = team[0]
            c.options.ld = padded(team.kernels, c.options.outputs)
            c.input[0].width, c.input[0].ld = a.size, padded(team.kernels, a.size)
            bind_packed(team, &c.weight[0], a.size, c.options.outputs, c.options.outputs, False)
            bind_packed(team, &c.weight_T[0], c.options.outputs, a.size, c.options.outputs, True)
            for s in range(self.parts):
                bind_packed(team, &a.down[s], head.input[s].width, a.size, a.size, False)
                bind_packed(team, &a.down_T[s], a.size, head.input[s].width, a.size, True)
        while team.gemm == NULL:
            self.weights.start()
            for i in range(self.count):
                a = &self.tail[i]
                self.weights.take_panels(team.kernels, &a.c.weight[0])
                self.weights.take_panels(team.kernels, &a.c.weight_T[0])
                for s in range(self.parts):
                    self.weights.take_panels(team.kernels, &a.down[s])
                    self.weights.take_panels(team.kernels, &a.down_T[s])
            if not self.weights.settle():
                break

    cdef void bind(self, char *theta, char *grad) noexcept:
        """Read parameters from `theta` and write gradients to `grad`."""
        cdef Tail *a
        cdef long row, size
        cdef int i, s
        for i in range(self.count):
            a = &self.tail[i]
            size = a.c.team.kernels.itemsize
            a.c.theta, a.c.grad = theta, grad
            a.c.weight[0].W = a.c.weight_T[0].W = theta + a.c.W_hy * size
            row = 0
            for s in range(self.parts):
                a.down[s].W = a.down_T[s].W = theta + (a.P + row * a.size) * size
                row += a.down[s].K

    cdef hold(self, const char *theta, Tails shared, const rc_storage *storage):
        """Pack the weights once, for many predictions; or read those of another head that did."""
        cdef Tail *a
        cdef int i, s
        for i in range(self.count):
            a = &self.tail[i]
            keep_as(&a.c.team, &a.c.weight[0], storage)
            for s in range(self.parts):
                keep_as(&a.c.team, &a.down[s], storage)
        while storage != NULL and shared is None:
            self.kept.start()
            for i in range(self.count):
                a = &self.tail[i]
                if a.c.weight[0].storage != NULL:
                    self.kept.take_panels(a.c.team.kernels, &a.c.weight[0])
                for s in range(self.parts):
                    if a.down[s].storage != NULL:
                        self.kept.take_panels(a.c.team.kernels, &a.down[s])
            if not self.kept.settle():
                break
        for i in range(self.count):
            a = &self.tail[i]
            if shared is None:
                pack_weights(&a.c)
                pack_down(a, a.down)
                continue
            a.c.weight[0].panels = shared.tail[i].c.weight[0].panels
            for s in range(self.parts):
                a.down[s].panels = shared.tail[i].down[s].panels
        self.held = True

    # ------------------------------------------------------------ training

    cdef split(self, Core *head):
        """Deal the targets to the clusters; what the head has to tell apart is left in their place."""
        cdef Tail *a
        cdef Core *c
        cdef int64_t *targets = <int64_t *> head.targets
        cdef int64_t y
        cdef long row, most = 0, wide = 0, block = 0, size = head.team.kernels.itemsize
        cdef long counts[MAX_TAILS]
        cdef int i, s
        memset(counts, 0, sizeof(counts))
        for row in range(head.rows):
            y = targets[row]
            for i in range(self.count):
                if self.tail[i].start <= y < self.tail[i].start + self.tail[i].c.options.outputs:
                    counts[i] += 1
        for s in range(self.parts):
            wide += head.input[s].ld
        for i in range(self.count):
            a = &self.tail[i]
            c = &a.c
            c.team.threads, c.team.scratch, c.team.scratch_size = (
                head.team.threads, head.team.scratch, head.team.scratch_size)
            c.scale = head.scale
            c.rows = counts[i]
            c.first = 0
            c.block = block_rows(c, False)
            most = max(most, c.rows)
            block = max(block, c.block * c.options.ld)
        while True:
            self.arena.start()
            self.z = self.arena.take(most * wide * size)
            self.dz = self.arena.take(most * wide * size)
            scores = <size_t> self.arena.take(block * size)
            for i in range(self.count):
                a = &self.tail[i]
                c = &a.c
                c.scores = <char *> <size_t> scores
                a.at = <int64_t *> self.arena.take(c.rows * sizeof(int64_t))
                c.targets = self.arena.take(c.rows * sizeof(int64_t))
                c.losses = <double *> self.arena.take(c.rows * sizeof(double))
                c.importance = NULL
                if head.importance != NULL:
                    c.importance = <double *> self.arena.take(c.rows * sizeof(double))
                c.input[0].data = self.arena.take(c.rows * c.input[0].ld * size)
                c.dz[0] = self.arena.take(c.rows * c.input[0].ld * size)
            if not self.arena.settle():
                break
        memset(counts, 0, sizeof(counts))
        for row in range(head.rows):
            y = targets[row]
            for i in range(self.count):
                a = &self.tail[i]
                if a.start <= y < a.start + a.c.options.outputs:
                    a.at[counts[i]] = row
                    (<int64_t *> a.c.targets)[counts[i]] = y - a.start
                    if head.importance != NULL:
                        a.c.importance[counts[i]] = head.importance[row]
                    counts[i] += 1
                    targets[row] = self.tail[0].start + i

    cdef void losses(self, Core *head, bint training, bint accumulate) noexcept nogil:
        """Add the clusters' losses to the head's, row by row, and their gradients to z's."""
        cdef Tail *a
        cdef long n, size = head.team.kernels.itemsize
        cdef int i
        for i in range(self.count):
            a = &self.tail[i]
            if a.c.rows == 0:
                if training and not accumulate:
                    memset(a.c.grad + a.P * size, 0, (a.down[0].K + a.down[1].K) * a.size * size)
                    memset(a.c.grad + a.c.W_hy * size, 0, a.size * a.c.options.outputs * size)
                continue
            pack_down(a, a.down)
            self.into_cluster(head, a, a.c.rows)
            losses_of_rows(&a.c, None, training, True, accumulate)
            for n in range(a.c.rows):
                head.losses[a.at[n]] += a.c.losses[n]
            if training:
                self.out_of_cluster(head, a, accumulate)

    cdef void into_cluster(self, Core *head, Tail *a, long rows) noexcept nogil:
        """h = z·P, of the rows that count."""
        cdef char *z = self.z
        cdef long n, ld, size = head.team.kernels.itemsize, left = BETWEEN
        cdef int s
        for s in range(self.parts):
            ld = head.input[s].ld * size
            for n in range(rows):
                if stops_after(head.input[s].ld, &left):
                    break
                memcpy(z + n * ld, head.input[s].data + a.at[n] * ld, ld)
            team_product(&a.c.team, &a.down[s], rows, z, head.input[s].ld, RC_FROM_C if s else RC_FROM_ZERO,
                         a.c.input[0].data, a.c.input[0].ld)
            z += rows * ld

    cdef void out_of_cluster(self, Core *head, Tail *a, bint accumulate) noexcept nogil:
        """dP = zᵀ·dh, dz += dh·Pᵀ."""
        cdef RunningOuter sums
        cdef const char *z = self.z
        cdef char *dP = a.c.grad + a.P * head.team.kernels.itemsize
        cdef long ld, rows = a.c.rows, size = head.team.kernels.itemsize
        cdef int s
        pack_down(a, a.down_T)
        for s in range(self.parts):
            ld = head.input[s].ld
            begin_outer(&sums, &a.c.team, a.down[s].K, a.size, rows, rows, accumulate, dP, NULL)
            go_on_outer(&sums, rows, z, ld, a.c.dz[0], a.c.input[0].ld)
            end_outer(&sums)
            team_product(&a.c.team, &a.down_T[s], rows, a.c.dz[0], a.c.input[0].ld, RC_FROM_ZERO, self.dz, ld)
            team_scatter(&a.c.team, rows, head.input[s].width, 1, a.at, NULL, self.dz, ld, head.dz[s], ld)
            z += rows * ld * size
            dP += a.down[s].K * a.size * size

    # ------------------------------------------------------------ prediction

    cdef carve(self, Core *head):
        """Places for the probabilities of all classes."""
        cdef Tail *a
        cdef long row, block = 0, hidden = 0, wide = 0, size = head.team.kernels.itemsize
        cdef int i, s
        for s in range(self.parts):
            wide += head.input[s].ld
        for i in range(self.count):
            a = &self.tail[i]
            a.c.team.threads = head.team.threads
            a.c.rows = head.rows
            a.c.block = block_rows(&a.c, False)
            a.c.first = 0
            block = max(block, a.c.block * a.c.options.ld)
            hidden = max(hidden, a.c.rows * a.c.input[0].ld)
        while True:
            self.arena.start()
            self.full = self.arena.take(head.rows * self.ld * size)
            self.z = self.arena.take(head.rows * wide * size)
            self.numbers = <int64_t *> self.arena.take(head.rows * sizeof(int64_t))
            scores = <size_t> self.arena.take(block * size)
            h = <size_t> self.arena.take(hidden * size)
            if not self.arena.settle():
                break
        for row in range(head.rows):
            self.numbers[row] = row
        for i in range(self.count):
            a = &self.tail[i]
            a.c.scores = <char *> <size_t> scores
            a.c.input[0].data = <char *> <size_t> h
            a.at = self.numbers

    cdef void spread(self, Core *head) noexcept nogil:
        """From the head's probabilities to those of all classes."""
        cdef Tail *a
        cdef Core part
        cdef const char *p
        cdef char *q
        cdef double share
        cdef long first, n, row, size = head.team.kernels.itemsize
        cdef long frequent = head.options.outputs - self.count
        cdef int i
        head.team.kernels.copy(head.rows, frequent, head.scores, head.options.ld, self.full, self.ld)
        for i in range(self.count):
            a = &self.tail[i]
            if not self.held:
                pack_down(a, a.down)
                pack_weights(&a.c)
            self.into_cluster(head, a, a.c.rows)
            first = 0
            while first < head.rows and not (first and stopping()):
                part = a.c
                part.rows = min(a.c.block, head.rows - first)
                part.input[0].data += first * part.input[0].ld * size
                scores_of_rows(&part, None)
                finish_scores(&part, False)
                for n in range(part.rows):
                    row = first + n
                    p = head.scores + (row * head.options.ld + frequent + i) * size
                    share = (<const float *> p)[0] if size == 4 else (<const double *> p)[0]
                    q = self.full + (row * self.ld + a.start) * size
                    head.team.kernels.scale(part.options.outputs, share, part.scores + n * part.options.ld * size, q)
                first += part.rows

    def sizes(self):
        """Return bytes held: packed weights, and arrays of the largest batch so far."""
        return self.weights.capacity, self.arena.capacity
