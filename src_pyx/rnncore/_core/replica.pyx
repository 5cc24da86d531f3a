"""The original program's network as an object: weights, accumulators, workspaces; iterations and predictions.

What it computes is in replica_passes, on which rows in replica_rows.
"""
import numpy as np

cimport numpy as cnp
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from rnncore._core.cxx_random cimport OpenCVRandom
from rnncore._core.kernels cimport kernels_for
from rnncore._core.replica_passes cimport (
    MAX_LAYERS, Core, Layer, Unit, backward, forward, gather_scores, kernels_with_replica, loss, rc_matrix, rc_replica,
    rc_table, update,
)
from rnncore._core.replica_rows cimport Tree, Windows, link_rows, sort_into

cnp.import_array()

cdef enum:
    CHUNK = 512  # windows evaluated at a time


cdef class Engine:
    """The network's weights, accumulators and workspaces.

    words, hidden, classes, T : sizes; hidden is a list, one number per layer
    directions : 1 (version 1.0) or 2 (version 1.1)
    keep, decay : lists, per layer; softmax_decay : weight decay of S
    samples : windows per batch
    shared_accumulators : the program's own buffers instead of separate ones
    share_prefixes : whether windows that begin alike share rows (it changes the order of sums alone)
    """

    cdef Core train, test
    cdef list memory
    cdef bint share_prefixes

    def __init__(self, long words, hidden, long classes, long T, int directions, keep, decay, double softmax_decay,
                 long samples, bint shared_accumulators, int threads, bint share_prefixes=True):
        cdef Core *c = &self.train
        cdef Layer *layer
        cdef int d, n
        if not 1 <= len(hidden) <= MAX_LAYERS:
            raise ValueError(f"expected 1 to {MAX_LAYERS} hidden layers, got {len(hidden)}")
        self.memory = []
        self.share_prefixes = share_prefixes
        memset(c, 0, sizeof(Core))
        c.kernels = kernels_for(8)
        c.code = (<const kernels_with_replica *> c.kernels).replica
        c.layers = <int> len(hidden)
        c.directions = directions
        c.threads = max(threads, 1)
        c.words = words
        c.classes = classes
        c.ldc = self.padded(classes)
        c.T = T
        c.softmax_decay = softmax_decay
        for n in range(c.layers):
            layer = &c.layer[n]
            layer.hidden = hidden[n]
            layer.ld = self.padded(layer.hidden)
            layer.inputs = hidden[n - 1] if n else words
            layer.ldi = self.padded(layer.inputs)
            layer.keep = keep[n]
            layer.decay = decay[n]
            for d in range(directions):
                self.make_matrix(&layer.unit[d].W, layer.hidden, layer.hidden,
                                 &layer.unit[0].W if d else NULL, shared_accumulators)
                if n:
                    self.make_matrix(&layer.unit[d].U, layer.inputs, layer.hidden,
                                     &layer.unit[0].U if d else NULL, shared_accumulators)
        for d in range(directions):
            self.make_matrix(&c.S[d], c.layer[c.layers - 1].hidden, classes, NULL, False)
            self.make_table(&c.table[d], &c.table[0] if d else NULL, shared_accumulators)
        self.test = self.train
        self.make_workspace(&self.train, samples, True)
        self.make_workspace(&self.test, CHUNK, False)

    cdef long padded(self, long n):
        return (n + self.train.kernels.vector - 1) // self.train.kernels.vector * self.train.kernels.vector

    cdef void *take(self, Py_ssize_t bytes) except NULL:
        """Zeroed memory that begins at a cache line and lives as long as the engine."""
        block = np.zeros(bytes + 64, dtype=np.uint8)
        self.memory.append(block)
        return <void *> ((<size_t> cnp.PyArray_DATA(block) + 63) // 64 * 64)

    cdef double *numbers(self, Py_ssize_t n) except NULL:
        return <double *> self.take(n * sizeof(double))

    cdef int64_t *integers(self, Py_ssize_t n) except NULL:
        return <int64_t *> self.take(n * sizeof(int64_t))

    cdef int make_matrix(self, rc_matrix *w, long rows, long columns, const rc_matrix *other, bint shared) except -1:
        cdef const rc_replica *code = self.train.code
        w.rows = rows
        w.columns = columns
        w.theta = self.numbers(code.size(rows, columns))
        w.turned = self.numbers(code.size(columns, rows))
        w.squared = self.numbers(code.size(columns, rows))
        w.squares = self.numbers(code.squares(rows, columns))
        w.D = other.D if shared and other != NULL else self.numbers(code.size(rows, columns))
        w.v = w.D if shared else self.numbers(code.size(rows, columns))
        return 0

    cdef int make_table(self, rc_table *t, const rc_table *other, bint shared) except -1:
        cdef Core *c = &self.train
        t.columns = c.layer[0].hidden
        t.ld = c.layer[0].ld
        t.theta = self.numbers(c.words * t.ld)
        t.D = other.D if shared and other != NULL else self.numbers(c.words * t.ld)
        t.v = t.D if shared else self.numbers(c.words * t.ld)
        t.squares = self.numbers(c.words)
        return 0

    cdef Tree *make_tree(self, long samples) except NULL:
        cdef long rows = self.train.T * samples
        cdef Tree *tree = <Tree *> self.take(sizeof(Tree))
        tree.first = self.integers(self.train.T)
        tree.count = self.integers(self.train.T)
        tree.parent = self.integers(rows)
        tree.word = self.integers(rows)
        tree.node = self.integers(rows)
        tree.child_start = self.integers(rows + 1)
        tree.children = self.integers(rows)
        tree.member_start = self.integers(rows + 1)
        tree.members = self.integers(rows)
        tree.member_row = self.integers(rows)
        return tree

    cdef int make_workspace(self, Core *c, long samples, bint training) except -1:
        cdef long rows = c.T * samples, most = 0
        cdef Layer *layer
        cdef Unit *u
        cdef int d, n, order
        c.samples = samples
        c.training = training
        c.outputs = c.T if training and c.directions == 2 else 1
        for n in range(c.layers):
            layer = &c.layer[n]
            most = max(most, layer.hidden, layer.inputs if n else 0)
            for d in range(c.directions):
                u = &layer.unit[d]
                u.tree = c.layer[0].unit[0].tree if n and c.directions == 1 else self.make_tree(samples)
                u.h = self.numbers(rows * layer.ld)
                u.z = self.numbers(rows * layer.ld)
                if n:
                    u.x = self.numbers(rows * layer.ld)
                if training:
                    for order in range(2):
                        u.d[order] = self.numbers(rows * layer.ld)
                        u.p[order] = self.numbers(rows * layer.ld)
                    if layer.keep < 1:
                        u.mask = self.numbers(rows * layer.ld)
            if n and c.directions == 1:
                layer.input[0] = c.layer[n - 1].unit[0].h
            elif n:
                for order in range(2 if training else 1):
                    layer.input[order] = self.numbers(rows * layer.ldi)
                for order in range(2 if training else 0):
                    layer.spread[order] = self.numbers(rows * layer.ldi)
        for d in range(c.directions):
            c.score[d] = self.numbers(rows * c.ldc)
            for order in range(2):
                c.given[d][order] = self.numbers(rows * c.ldc)
            c.table[d].start = self.integers(c.words + 1)
            c.table[d].items = self.integers(rows)
            c.table[d].d = c.layer[0].unit[d].d[0]
            c.table[d].e = c.layer[0].unit[d].d[1]
        for order in range(2):
            c.e[order] = self.numbers(rows * c.ldc)
        if training:
            c.scratch_size = (c.code.update_scratch(most, rows) * sizeof(double) + 63) // 64 * 64
            c.scratch = <char *> self.take(2 * c.layers * c.threads * c.scratch_size)
        return 0

    # -------------------------------------------------------------- weights

    cdef rc_matrix *matrix(self, str name, int layer, int direction) except NULL:
        """W, U (not the table) or S, by name."""
        cdef Core *c = &self.train
        if not 0 <= layer < c.layers or not 0 <= direction < c.directions or name not in ("W", "U", "S"):
            raise KeyError((name, layer, direction))
        if name == "S":
            return &c.S[direction]
        return &c.layer[layer].unit[direction].W if name == "W" else &c.layer[layer].unit[direction].U

    def set(self, str name, int layer, int direction, values):
        """Set a weight matrix (in, out): "U", "W" or "S" (layer 0)."""
        cdef Core *c = &self.train
        cdef rc_matrix *w = self.matrix(name, layer, direction)
        cdef rc_table *t = &c.table[direction]
        cdef bint table = name == "U" and layer == 0
        cdef double[:, ::1] plain = np.array(values, dtype=np.float64, order="C")
        cdef long i, j, rows = c.words if table else w.rows, columns = t.columns if table else w.columns
        if plain.shape[0] != rows or plain.shape[1] != columns:
            raise ValueError(f"expected {name} of shape {(rows, columns)}, got {(plain.shape[0], plain.shape[1])}")
        if not table:
            c.code.load(w, &plain[0, 0])
            return
        for i in range(rows):
            t.squares[i] = 0
            for j in range(columns):
                (<double *> t.theta)[i * t.ld + j] = plain[i, j]
                t.squares[i] += plain[i, j] * plain[i, j]

    def get(self, str name, int layer, int direction, str what="theta"):
        """Return a copy of a weight matrix (in, out), or of its accumulator "D" or "v"."""
        cdef Core *c = &self.train
        cdef rc_matrix *w = self.matrix(name, layer, direction)
        cdef rc_table *t = &c.table[direction]
        cdef double[:, ::1] plain
        cdef const double *source
        cdef long i
        if name == "U" and layer == 0:
            out = np.empty((c.words, t.columns))
            plain = out
            source = <const double *> (t.theta if what == "theta" else t.D if what == "D" else t.v)
            for i in range(c.words):
                memcpy(&plain[i, 0], source + i * t.ld, t.columns * sizeof(double))
        else:
            out = np.empty((w.rows, w.columns))
            plain = out
            c.code.store(w.rows, w.columns, w.theta if what == "theta" else w.D if what == "D" else w.v, &plain[0, 0])
        return out

    def clear_accumulators(self):
        """Set D and v of every matrix to zero."""
        cdef Core *c = &self.train
        cdef int n, d
        cdef rc_matrix *w
        for d in range(c.directions):
            memset(c.table[d].D, 0, c.words * c.table[d].ld * sizeof(double))
            memset(c.table[d].v, 0, c.words * c.table[d].ld * sizeof(double))
            for name, n in [("S", 0)] + [("W", n) for n in range(c.layers)] + [("U", n) for n in range(1, c.layers)]:
                w = self.matrix(name, n, d)
                memset(w.D, 0, c.code.size(w.rows, w.columns) * sizeof(double))
                memset(w.v, 0, c.code.size(w.rows, w.columns) * sizeof(double))

    # -------------------------------------------------------------- batches

    cdef int prepare(self, Core *c, Windows windows, const int64_t *chosen, long samples) except -1:
        cdef bint sharing = self.share_prefixes, both = c.directions == 2, top
        cdef long steps, middle = c.T // 2
        cdef Tree *tree
        cdef int n, d
        c.samples = samples
        if c.training:
            for n in range(c.layers):
                sharing = sharing and c.layer[n].keep >= 1
        for n in range(c.layers if both else 1):
            top = n == c.layers - 1
            for d in range(c.directions):
                steps = c.T
                if both and top and not c.training:
                    steps = middle + 1 if d == 0 else c.T - middle
                tree = c.layer[n].unit[d].tree
                windows.plant(tree, chosen, samples, d, steps, sharing and n == 0, both and c.training)
                if c.training:
                    link_rows(tree, d, both)
        if c.training:
            for d in range(c.directions):
                tree = c.layer[0].unit[d].tree
                memset(<void *> c.table[d].start, 0, (c.words + 1) * sizeof(int64_t))
                sort_into(c.words, tree.rows, tree.word, <int64_t *> c.table[d].start, <int64_t *> c.table[d].items)
        return 0

    cdef int draw_masks(self, OpenCVRandom random) except -1:
        """Draw dropout's masks as the program does: layer by layer, by direction, by step in its order, by unit."""
        cdef Core *c = &self.train
        cdef long s, j, n
        cdef int number, d
        cdef Layer *layer
        cdef double *mask
        for number in range(c.layers):
            layer = &c.layer[number]
            for d in range(c.directions if layer.keep < 1 else 0):
                for s in range(c.T):
                    mask = layer.unit[d].mask + layer.unit[d].tree.first[s] * layer.ld
                    for j in range(layer.hidden):
                        for n in range(c.samples):
                            mask[n * layer.ld + j] = random.draw(2.0 ** -64, 0.5) <= layer.keep
        return 0

    cdef double run_batch(self, Windows windows, batch, OpenCVRandom random, bint differentiate) except? -1:
        cdef Core *c = &self.train
        cdef int64_t[::1] chosen = batch
        cdef int64_t[:, ::1] targets = np.ascontiguousarray(windows.targets[:, batch])
        cdef double cost
        self.prepare(c, windows, &chosen[0], chosen.shape[0])
        self.draw_masks(random)
        with nogil:
            forward(c)
            cost = loss(c, &targets[0, 0])
            if differentiate:
                backward(c)
        return cost

    cdef tuple decay_costs(self):
        """J2, J3 and J4 of the weights as they are."""
        cdef Core *c = &self.train
        cdef Layer *layer
        cdef double J2 = 0, J3 = 0, J4 = 0, sum_W, sum_U
        cdef int n, d
        for d in range(c.directions):
            J2 += self.sum_squares(&c.S[d])
        for n in range(c.layers):
            layer = &c.layer[n]
            sum_W = sum_U = 0
            for d in range(c.directions):
                sum_W += self.sum_squares(&layer.unit[d].W)
                sum_U += self.sum_squares(&layer.unit[d].U) if n else sum_of(c.words, c.table[d].squares)
            J3 += sum_W * layer.decay / 2
            J4 += sum_U * layer.decay / 2
        return J2 * c.softmax_decay / 2, J3, J4

    cdef double sum_squares(self, const rc_matrix *w):
        return sum_of(self.train.code.squares(w.rows, w.columns), w.squares)

    def cost(self, Windows windows, batch, OpenCVRandom random):
        """Return J1, J2, J3, J4 of a batch: an int64 array of window numbers, at most `samples` of them."""
        return (self.run_batch(windows, batch, random, False), *self.decay_costs())

    def iterate(self, Windows windows, batch, OpenCVRandom random, double a, double b, double rate, double mu):
        """Do one iteration on a batch; return J1, J2, J3, J4 from before the update."""
        cdef Core *c = &self.train
        cdef double J1 = self.run_batch(windows, batch, random, True)
        costs = (J1, *self.decay_costs())
        c.rule.a = a
        c.rule.b = b
        c.rule.rate = rate
        c.rule.mu = mu
        c.rule.inverse_n = 1.0 / c.samples
        with nogil:
            update(c)
        return costs

    def predict(self, Windows windows):
        """Return the class of each window: of its last word, or of its middle one with two directions."""
        cdef Core *c = &self.test
        cdef int64_t[::1] order = windows.order
        cdef long first, n, j, total = order.shape[0]
        cdef double *row
        out = np.zeros(total, dtype=np.int64)
        cdef int64_t[::1] found = out
        c.threads = self.train.threads
        for first in range(0, total, CHUNK):
            self.prepare(c, windows, &order[first], min(CHUNK, total - first))
            with nogil:
                forward(c)
                gather_scores(c)
                for n in range(c.samples):
                    row = c.e[0] + n * c.ldc
                    for j in range(1, c.classes):
                        if row[j] > row[found[order[first + n]]]:
                            found[order[first + n]] = j
        return out


cdef double sum_of(long n, const double *numbers) noexcept nogil:
    cdef double total = 0
    cdef long i
    for i in range(n):
        total += numbers[i]
    return total
