"""The passes over the original's network, in double precision, without its one-hot matrices.

    a_t = U·in_t + W·h_{t-1}     h_t = mask ⊙ relu(a_t)     p = softmax(S·h)     no biases; weights here are (in, out)

Rows are those of replica_rows: forward each is computed once; backward the gradients of a row's children are added
before they are multiplied. That is the same sum as over single windows, in another order. Under dropout each window has
its own mask, and so its own rows.

Every number is computed whole by one thread in a fixed order: the bits do not depend on the number of threads.
"""
from libc.math cimport log
from libc.stdint cimport int64_t

from rnncore._core.kernels cimport parallel_with_denormals, rc_loss_options

cdef enum:
    TABLE_ROWS = 16  # words per task of the table's update

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
    parallel_with_denormals(run_piece, &job, <int> (directions * job.pieces), c.threads)

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
    cdef long rows = u.tree.rows if c.directions == 1 else c.T * c.samples
    c.code.product(u.U.theta, layer.inputs, layer.hidden, first, last, rows, layer.input[0], layer.ldi, RC_FROM_ZERO,
                   u.x, layer.ld)

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
    """A range of rows of one matrix, or after these of the table: in both directions, one after the other, since they
    may share accumulators."""
    cdef Core *c = <Core *> arg
    cdef long matrices = 2 * c.layers, number = index // c.threads, n = index % c.threads, step, first, last
    cdef rc_sdlm rule = c.rule
    cdef Share share
    cdef int d
    if number < matrices:
        step = c.code.row_step()
        for d in range(c.directions):
            share_of(c, number, d, &share)
            rule.decay = share.decay
            first = share.matrix.rows * n // (c.threads * step) * step
            last = share.matrix.rows * (n + 1) // (c.threads * step) * step if n < c.threads - 1 else share.matrix.rows
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
    c.kernels.softmax(c.outputs * c.samples, &options, c.e[0])
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
    parallel_with_denormals(update_task, c, <int> (2 * c.layers * c.threads + blocks), c.threads)
