"""The original program's network and update, in double precision, without its one-hot matrices.

    a_t = U·in_t + W·h_{t-1}      h_t = mask ⊙ relu(a_t)      p = softmax(S·h)      no biases; weights here are (in, out)

Windows of words that begin alike share their first steps: the rows of a step are the distinct prefixes (suffixes, for
the direction that reads from the right) of a batch, a tree. Forward a row is computed once; backward the gradients of a
row's children are added before they are multiplied. That is the same sum as over single windows, in another order.
Under dropout each window has its own mask, and so its own rows.

Every number is computed whole by one thread in a fixed order: the bits do not depend on the number of threads.
"""
import numpy as np

cimport numpy as cnp
from libc.math cimport log
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from rnncore._core.cxx_random cimport OpenCVRandom
from rnncore._core.lanes cimport lanes_for, parallel, rc_lanes, rc_loss_options

cnp.import_array()

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
        long (*panels)(long) noexcept nogil
        long (*panel_column)(long, long) noexcept nogil
        void (*product)(const void *, long, long, long, long, long, const void *, long, int, void *, long) noexcept nogil
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

cdef extern from "lanes.h" nogil:
    ctypedef struct lanes_with_replica "rc_lanes":
        const rc_replica *replica

    enum:
        RC_FROM_ZERO
        RC_FROM_C

cdef enum:
    MAX_LAYERS = 16
    TABLE_ROWS = 16   # words per task of the table's update
    CHUNK = 512       # windows evaluated at a time


cdef struct Tree:
    # The rows of one direction's steps. Steps count in the order of processing; `members` of a row are the scores that
    # it takes part in, numbered output·samples + sample.
    long steps, samples, rows
    long out_first, out_count   # the rows that scores are made of
    int64_t *first              # of a step, its first row
    int64_t *count              # and how many it has
    int64_t *parent             # of a row, the row of the step before
    int64_t *word
    int64_t *node               # (steps, samples): the row of a sample
    int64_t *child_start
    int64_t *children
    int64_t *member_start
    int64_t *members
    int64_t *member_row         # of a score, its row

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
    const rc_lanes *lanes
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

ctypedef void (*section)(Core *c, int direction, long first, long last) noexcept nogil

cdef struct Job:
    Core *c
    section task
    long columns, pieces


# ------------------------------------------------------------------ sections: one direction, one range of panels each

cdef void run_piece(void *arg, int index) noexcept nogil:
    cdef Job *job = <Job *> arg
    cdef Core *c = job.c
    cdef long panels = c.code.panels(job.columns), piece = index % job.pieces
    cdef long first = panels * piece // job.pieces, last = panels * (piece + 1) // job.pieces
    if first < last:
        job.task(c, <int> (index // job.pieces), first, last)

cdef void run(Core *c, section task, int directions, long columns) noexcept nogil:
    """Run a section for the panels of so many columns, in one piece per thread and direction."""
    cdef Job job
    job.c = c
    job.task = task
    job.columns = columns
    job.pieces = c.threads if directions == 1 else (c.threads + 1) // 2
    parallel(run_piece, &job, <int> (directions * job.pieces), c.threads)

cdef inline long edge(Core *c, long columns, long panel) noexcept nogil:
    return c.code.panel_column(columns, panel)

cdef void sum_inputs(Core *c, int direction, long first, long last) noexcept nogil:
    """The input of a layer above the first of two directions: hf + hb per window and step; hf² + hb² for κ."""
    cdef Layer *layer = &c.layer[c.at]
    cdef Layer *below = &c.layer[c.at - 1]
    cdef long begin = edge(c, below.hidden, first), end = edge(c, below.hidden, last), t, n, j
    cdef double *f
    cdef double *b
    cdef double *out
    for t in range(c.T):
        for n in range(c.samples):
            f = below.unit[0].h + below.unit[0].tree.node[t * c.samples + n] * below.ld
            b = below.unit[1].h + below.unit[1].tree.node[(c.T - 1 - t) * c.samples + n] * below.ld
            out = layer.input[0] + (t * c.samples + n) * below.ld
            for j in range(begin, end):
                out[j] = f[j] + b[j]
            if c.training:
                out = layer.input[1] + (t * c.samples + n) * below.ld
                for j in range(begin, end):
                    out[j] = f[j] * f[j] + b[j] * b[j]

cdef void project(Core *c, int direction, long first, long last) noexcept nogil:
    """x = in·U for all rows of a layer above the first"""
    cdef Layer *layer = &c.layer[c.at]
    cdef Unit *u = &layer.unit[direction]
    c.code.product(u.U.theta, layer.inputs, layer.hidden, first, last, u.tree.rows, layer.input[0], layer.ldi,
                   RC_FROM_ZERO, u.x, layer.ld)

cdef void step_forward(Core *c, int direction, long first, long last) noexcept nogil:
    """z = h_{t-1}·W, h_t = relu(in·U + z)"""
    cdef Layer *layer = &c.layer[c.at]
    cdef Unit *u = &layer.unit[direction]
    cdef Tree *tree = u.tree
    cdef long ld = layer.ld, begin = edge(c, layer.hidden, first), end = edge(c, layer.hidden, last), row
    cdef const int64_t *words = NULL
    cdef const int64_t *links = NULL
    cdef const double *x = u.x
    cdef double keep = 1 if c.training else layer.keep
    if c.step >= tree.steps:
        return
    row = tree.first[c.step]
    if c.step > 0:
        c.code.product(u.W.theta, layer.hidden, layer.hidden, first, last, tree.count[c.step - 1],
                       u.h + tree.first[c.step - 1] * ld, ld, RC_FROM_ZERO, u.z + tree.first[c.step - 1] * ld, ld)
        links = tree.parent + row
    if c.at == 0:
        words = tree.word + row
        x = <double *> c.table[direction].theta
    else:
        x = u.x + row * ld
    c.code.enter(tree.count[c.step], begin, end, words, x, links, u.z,
                 u.mask + row * ld if c.training and u.mask != NULL else NULL, keep, u.h + row * ld, ld)

cdef void score(Core *c, int direction, long first, long last) noexcept nogil:
    cdef Layer *top = &c.layer[c.layers - 1]
    cdef Tree *tree = top.unit[direction].tree
    c.code.product(c.S[direction].theta, top.hidden, c.classes, first, last, tree.out_count,
                   top.unit[direction].h + tree.out_first * top.ld, top.ld, RC_FROM_ZERO,
                   c.score[direction] + tree.out_first * c.ldc, c.ldc)

cdef void give(Core *c, int direction, long first, long last) noexcept nogil:
    """Add up e and e∘e of the windows that share a row."""
    cdef Tree *tree = c.layer[c.layers - 1].unit[direction].tree
    cdef long begin = edge(c, c.classes, first), end = edge(c, c.classes, last), order
    for order in range(2):
        c.code.collect(tree.out_count, begin, end, tree.member_start + tree.out_first, tree.members, c.e[order], c.ldc,
                       c.given[direction][order] + tree.out_first * c.ldc, c.ldc)

cdef void step_backward(Core *c, int direction, long first, long last) noexcept nogil:
    """δ_t = (Sᵀe, or what the layer above gave, + Wᵀδ_{t+1}) ⊙ [h > 0]; the same for ε with squared factors"""
    cdef Layer *layer = &c.layer[c.at]
    cdef Unit *u = &layer.unit[direction]
    cdef Tree *tree = u.tree
    cdef long ld = layer.ld, begin = edge(c, layer.hidden, first), end = edge(c, layer.hidden, last), order
    cdef long row = tree.first[c.step], rows = tree.count[c.step], before
    cdef bint top = c.at == c.layers - 1, filled
    for order in range(2):
        filled = not top
        if top and (c.directions == 2 or c.step == c.T - 1):
            c.code.product(c.S[direction].turned if order == 0 else c.S[direction].squared, c.classes, layer.hidden,
                           first, last, rows, c.given[direction][order] + row * c.ldc, c.ldc, RC_FROM_ZERO,
                           u.d[order] + row * ld, ld)
            filled = True
        if c.step < tree.steps - 1:
            c.code.product(u.W.turned if order == 0 else u.W.squared, layer.hidden, layer.hidden, first, last, rows,
                           u.p[order] + row * ld, ld, RC_FROM_C if filled else RC_FROM_ZERO, u.d[order] + row * ld, ld)
        c.code.derive(rows, begin, end, u.h + row * ld, u.d[order] + row * ld, ld)
        if c.step > 0:
            before = tree.first[c.step - 1]
            c.code.collect(tree.count[c.step - 1], begin, end, tree.child_start + before, tree.children, u.d[order], ld,
                           u.p[order] + before * ld, ld)

cdef void descend(Core *c, int direction, long first, long last) noexcept nogil:
    """What a layer gives to the one below: Uᵀδ, and (U∘U)ᵀε; both directions' sum where there are two."""
    cdef Layer *layer = &c.layer[c.at]
    cdef Layer *below = &c.layer[c.at - 1]
    cdef long begin = edge(c, below.hidden, first), end = edge(c, below.hidden, last), order, d
    cdef Unit *u
    cdef Tree *tree
    cdef double *out
    for order in range(2):
        out = below.unit[0].d[order] if c.directions == 1 else layer.spread[order]
        for d in range(c.directions):
            u = &layer.unit[d]
            c.code.product(u.U.turned if order == 0 else u.U.squared, layer.hidden, layer.inputs, first, last,
                           u.tree.rows, u.d[order], layer.ld, RC_FROM_C if d else RC_FROM_ZERO, out, below.ld)
        for d in range(c.directions if c.directions == 2 else 0):
            tree = below.unit[d].tree
            c.code.collect(tree.rows, begin, end, tree.member_start, tree.members, out, below.ld,
                           below.unit[d].d[order], below.ld)


# ------------------------------------------------------------------ the update

cdef struct Share:
    # What one direction gives to the update of a matrix: gradient AᵀB and curvature A2ᵀB2 over so many rows.
    rc_matrix *matrix
    const double *A
    const double *A2
    const double *B
    const double *B2
    long rows, lda, ldb
    double decay

cdef void share_of(Core *c, long number, int direction, Share *share) noexcept nogil:
    """Matrix `number`: each layer's W, then the U of the layers above the first, then S."""
    cdef Layer *layer = &c.layer[c.layers - 1 if number == 2 * c.layers - 1 else number % c.layers + number // c.layers]
    cdef Unit *u = &layer.unit[direction]
    cdef Tree *tree = u.tree
    cdef long last = tree.steps - 1, row = 0
    share.decay = layer.decay
    share.A2 = NULL
    share.lda = share.ldb = layer.ld
    if number < c.layers:  # rows with children: all but the last step's, which come last, or else first
        share.matrix = &u.W
        share.rows = tree.rows - tree.count[last]
        row = tree.count[last] if tree.first[last] == 0 and last > 0 else 0
        share.A = u.h + row * layer.ld
        share.B = u.p[0] + row * layer.ld
        share.B2 = u.p[1] + row * layer.ld
    elif number < 2 * c.layers - 1:
        share.matrix = &u.U
        share.rows = tree.rows
        share.A = layer.input[0]
        share.A2 = layer.input[1]
        share.lda = layer.ldi
        share.B = u.d[0]
        share.B2 = u.d[1]
    else:
        row = tree.out_first
        share.matrix = &c.S[direction]
        share.rows = tree.out_count
        share.A = u.h + row * layer.ld
        share.B = c.given[direction][0] + row * c.ldc
        share.B2 = c.given[direction][1] + row * c.ldc
        share.ldb = c.ldc
        share.decay = c.softmax_decay

cdef void update_task(void *arg, int index) noexcept nogil:
    """A range of panels of one matrix, or after these of rows of the table: in both directions, one after the other,
    since they may share accumulators."""
    cdef Core *c = <Core *> arg
    cdef long matrices = 2 * c.layers, number = index // c.threads, n = index % c.threads, panels, first, last
    cdef rc_sdlm rule = c.rule
    cdef Share share
    cdef int d
    if number < matrices:
        for d in range(c.directions):
            share_of(c, number, d, &share)
            rule.decay = share.decay
            panels = c.code.panels(share.matrix.columns)
            first = panels * n // c.threads
            last = panels * (n + 1) // c.threads
            if first < last:
                c.code.update(&rule, share.matrix, first, last, share.rows, share.A, share.A2, share.lda, share.B,
                              share.B2, share.ldb, c.scratch + index * c.scratch_size)
        return
    rule.decay = c.layer[0].decay
    first = (index - matrices * c.threads) * TABLE_ROWS
    last = min(first + TABLE_ROWS, c.words)
    for d in range(c.directions):
        c.code.update_table(&rule, &c.table[d], first, last)


# ------------------------------------------------------------------ whole passes

cdef void forward(Core *c) noexcept nogil:
    cdef long steps
    cdef int d
    for c.at in range(c.layers):
        if c.at > 0:
            if c.directions == 2:
                run(c, sum_inputs, 1, c.layer[c.at].inputs)
            run(c, project, c.directions, c.layer[c.at].hidden)
        steps = 0
        for d in range(c.directions):
            steps = max(steps, c.layer[c.at].unit[d].tree.steps)
        for c.step in range(steps):
            run(c, step_forward, c.directions, c.layer[c.at].hidden)
    run(c, score, c.directions, c.classes)

cdef void gather_scores(Core *c) noexcept nogil:
    """e[output, sample] = the sum of both directions' scores"""
    cdef long o, n, j, s
    cdef int d
    cdef Tree *tree
    cdef double *out
    cdef const double *row
    for d in range(c.directions):
        tree = c.layer[c.layers - 1].unit[d].tree
        for o in range(c.outputs):
            s = tree.steps - 1 if c.outputs == 1 else (o if d == 0 else c.T - 1 - o)
            for n in range(c.samples):
                out = c.e[0] + (o * c.samples + n) * c.ldc
                row = c.score[d] + tree.node[s * c.samples + n] * c.ldc
                for j in range(c.ldc):
                    out[j] = row[j] if d == 0 else out[j] + row[j]

cdef double loss(Core *c, const int64_t *targets) noexcept nogil:
    """Turn scores into e = p - y and e∘e; return J1. targets: (outputs, samples)"""
    cdef rc_loss_options options
    cdef long i, j
    cdef double total = 0, x
    gather_scores(c)
    options.outputs = c.classes
    options.ld = c.ldc
    options.class_weight = NULL
    options.label_smoothing = 0
    c.lanes.softmax(c.outputs * c.samples, &options, c.e[0])
    for i in range(c.outputs * c.samples):
        total -= log(c.e[0][i * c.ldc + targets[i]])
        c.e[0][i * c.ldc + targets[i]] -= 1
        for j in range(c.ldc):
            x = c.e[0][i * c.ldc + j]
            c.e[1][i * c.ldc + j] = x * x
    return total / c.samples

cdef void backward(Core *c) noexcept nogil:
    cdef int layer, step
    run(c, give, c.directions, c.classes)
    for layer in range(c.layers):
        c.at = c.layers - 1 - layer
        for step in range(c.T):
            c.step = c.T - 1 - step
            run(c, step_backward, c.directions, c.layer[c.at].hidden)
        if c.at > 0:
            run(c, descend, 1, c.layer[c.at].inputs)

cdef void update(Core *c) noexcept nogil:
    cdef long blocks = (c.words + TABLE_ROWS - 1) // TABLE_ROWS
    parallel(update_task, c, <int> (2 * c.layers * c.threads + blocks), c.threads)


# ------------------------------------------------------------------ rows of a batch

cdef class Windows:
    """Windows of words, and which of them begin and end alike.

    x : (n, T) int64 word ids below `words`; targets : (outputs, n) int64 classes.
    """

    cdef readonly object x, targets, order
    cdef list ids               # per direction: (T, n), the number of each window's first steps among all such
    cdef object stamp, local    # (T, n): which batch saw a prefix last, and its row there
    cdef int64_t batch

    def __init__(self, x, targets, long words, bint both):
        self.x = np.ascontiguousarray(x, dtype=np.int64)
        self.targets = np.ascontiguousarray(targets, dtype=np.int64)
        n, T = self.x.shape
        self.ids = []
        for columns in (self.x.T, self.x.T[::-1])[:2 if both else 1]:
            ids = np.empty((T, n), dtype=np.int64)
            seen = np.zeros(n, dtype=np.int64)
            for t in range(T):
                seen = ids[t] = np.unique(seen * words + columns[t], return_inverse=True)[1].reshape(-1)
            self.ids.append(ids)
        # windows that share their first words are neighbours in this order
        middle = T // 2 if both else T - 1
        keys = (self.ids[1][T - 1 - middle], self.ids[0][middle]) if both else (self.ids[0][middle],)
        self.order = np.lexsort(keys).astype(np.int64)
        self.stamp = np.full((T, n), -1, dtype=np.int64)
        self.local = np.zeros((T, n), dtype=np.int64)
        self.batch = 0

    def __len__(self):
        return self.x.shape[0]


cdef class Engine:
    """The network's weights, accumulators and workspaces.

    words, hidden, classes, T : sizes; hidden is a list, one number per layer
    directions : 1 (version 1.0) or 2 (version 1.1)
    keep, decay : lists, per layer; softmax_decay : weight decay of S
    samples : windows per batch
    shared_accumulators : the program's own buffers instead of separate ones
    """

    cdef Core train, test
    cdef list memory
    cdef dict owned     # (name, layer, direction) -> address of an rc_matrix in self.train

    def __init__(self, long words, hidden, long classes, long T, int directions, keep, decay, double softmax_decay,
                 long samples, bint shared_accumulators, int threads):
        cdef Core *c = &self.train
        cdef Layer *layer
        cdef int d, n
        if not 1 <= len(hidden) <= MAX_LAYERS:
            raise ValueError(f"expected 1 to {MAX_LAYERS} hidden layers, got {len(hidden)}")
        self.memory = []
        memset(c, 0, sizeof(Core))
        c.lanes = lanes_for(8)
        c.code = (<const lanes_with_replica *> c.lanes).replica
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
        return (n + self.train.lanes.vector - 1) // self.train.lanes.vector * self.train.lanes.vector

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
        w.squares = self.numbers(code.panels(columns))
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

    cdef int plant(self, Core *c, Tree *tree, Windows windows, const int64_t *chosen, int direction, bint shared,
                   long steps, bint whole) except -1:
        """Lay out the rows of one direction for the chosen windows. whole: every row counts in the scores."""
        cdef const int64_t *x = <const int64_t *> cnp.PyArray_DATA(windows.x)
        cdef const int64_t *ids = <const int64_t *> cnp.PyArray_DATA(windows.ids[direction])
        cdef int64_t *stamp = <int64_t *> cnp.PyArray_DATA(windows.stamp)
        cdef int64_t *local = <int64_t *> cnp.PyArray_DATA(windows.local)
        cdef long total = windows.x.shape[0], N = c.samples, T = c.T, s, n, t, row, place, o
        windows.batch += 1
        tree.steps = steps
        tree.samples = N
        tree.rows = 0
        for s in range(steps):
            t = s if direction == 0 else T - 1 - s
            tree.first[s] = tree.rows if shared else t * N
            for n in range(N):
                place = s * total + ids[s * total + chosen[n]]
                if shared and stamp[place] == windows.batch:
                    tree.node[s * N + n] = local[place]
                    continue
                row = tree.rows if shared else t * N + n
                tree.rows += 1
                stamp[place] = windows.batch
                local[place] = tree.node[s * N + n] = row
                tree.parent[row] = tree.node[(s - 1) * N + n] if s else -1
                tree.word[row] = x[chosen[n] * T + t]
            tree.count[s] = tree.rows - tree.first[s] if shared else N
        tree.out_first = 0 if whole else tree.first[steps - 1]
        tree.out_count = tree.rows if whole else tree.count[steps - 1]
        if c.training:
            memset(tree.child_start, 0, (tree.rows + 1) * sizeof(int64_t))
            memset(tree.member_start, 0, (tree.rows + 1) * sizeof(int64_t))
            sort_into(tree.rows, tree.rows, tree.parent, tree.child_start, tree.children)
            for o in range(c.outputs):
                s = steps - 1 if not whole else o if direction == 0 else T - 1 - o
                memcpy(tree.member_row + o * N, tree.node + s * N, N * sizeof(int64_t))
            sort_into(tree.rows, c.outputs * N, tree.member_row, tree.member_start, tree.members)
        return 0

    cdef int prepare(self, Core *c, Windows windows, const int64_t *chosen, long samples) except -1:
        cdef bint sharing = True, both = c.directions == 2, top
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
                self.plant(c, tree, windows, chosen, d, sharing and n == 0, steps, both and c.training)
        if c.training:
            for d in range(c.directions):
                tree = c.layer[0].unit[d].tree
                memset(<void *> c.table[d].start, 0, (c.words + 1) * sizeof(int64_t))
                sort_into(c.words, tree.rows, tree.word, <int64_t *> c.table[d].start, <int64_t *> c.table[d].items)
        return 0

    cdef int draw_masks(self, OpenCVRandom random) except -1:
        """Draw dropout's masks as the program does: layer by layer, direction by direction, step by step, unit by unit."""
        cdef Core *c = &self.train
        cdef long s, j, n
        cdef int l, d
        cdef Layer *layer
        cdef double *mask
        for l in range(c.layers):
            layer = &c.layer[l]
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
        cdef double J2 = 0, J3 = 0, J4 = 0, sum
        cdef long i
        cdef int n, d
        for d in range(c.directions):
            for i in range(c.code.panels(c.classes)):
                J2 += c.S[d].squares[i]
        for n in range(c.layers):
            sum = 0
            for d in range(c.directions):
                for i in range(c.code.panels(c.layer[n].hidden)):
                    sum += c.layer[n].unit[d].W.squares[i]
            J3 += sum * c.layer[n].decay / 2
            sum = 0
            for d in range(c.directions):
                for i in range(c.code.panels(c.layer[n].hidden) if n else c.words):
                    sum += c.layer[n].unit[d].U.squares[i] if n else c.table[d].squares[i]
            J4 += sum * c.layer[n].decay / 2
        return J2 * c.softmax_decay / 2, J3, J4

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


cdef void sort_into(long keys, long n, const int64_t *key, int64_t *start, int64_t *items) noexcept nogil:
    """Counting sort: items[start[k]:start[k + 1]] are the i in 0..n-1 with key[i] == k, ascending; -1 is left out.
    start (keys + 1) comes in as zeros."""
    cdef long i, at = 0, count
    for i in range(n):
        if key[i] >= 0:
            start[key[i]] += 1
    for i in range(keys + 1):
        count = start[i]
        start[i] = at
        at += count
    for i in range(n):
        if key[i] >= 0:
            items[start[key[i]]] = i
            start[key[i]] += 1
    for i in range(keys, 0, -1):
        start[i] = start[i - 1]
    start[0] = 0
