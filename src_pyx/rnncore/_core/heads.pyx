"""Heads: readout over time, projection and loss in one.

    s = z·W_hy + b_y        z: the outputs at every step, or the last, mean or largest one of each sequence
    backward                dW_hy = zᵀ·ds, db_y = Σ ds, dz = ds·W_hyᵀ       (ds from kernels/losses.h)
    without a projection    s = the first K numbers of z, dz = (ds, 0)

Losses are means over counted targets; their sum runs over rows in order, in double, whatever the threads.
A CRF's loss looks at whole sequences (crf.pyx); sparse features may add to the scores directly (skip.pyx).
"""
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy, memset

import numpy as np

cimport numpy as cnp

from rnncore._core.crf cimport Chain
from rnncore._core.dropout cimport ON_OUTPUT, key_for, site_of
from rnncore._core.gemm cimport (
    SUM_COLUMNS,
    SUM_ROWS,
    Arena,
    Segment,
    bind_packed,
    padded,
    team_outer,
    team_pack,
    team_product,
    team_sums_wide,
)
from rnncore._core.kernels cimport (
    RC_FROM_BIAS,
    RC_FROM_C,
    RC_FROM_ZERO,
    begin_call,
    end_call,
    gemm_for,
    kernels_for,
    parallel,
    raise_stopped,
    rc_columns,
    rc_kernels,
    rc_packed,
    rnncore_call,
)
from rnncore._core.sparse cimport Skip
from rnncore._core.plan cimport Layer, Run, Unit, View
from rnncore._core.memory cimport Saved
from rnncore._core.run cimport Workspace

cnp.import_array()

cdef enum Loss:
    SOFTMAX
    SQUARED
    SIGMOID
    CHAIN

cdef enum Readout:
    EVERY
    LAST
    MEAN
    MAX

cdef enum:
    ROWS_PER_TASK = 64


cdef struct LossJob:
    Core *c
    bint training

cdef void loss_task(void *arg, int index) noexcept nogil:
    """Scores of some rows become gradients and losses, or predictions."""
    cdef LossJob *job = <LossJob *> arg
    cdef Core *c = job.c
    cdef long first = index * <long> ROWS_PER_TASK, rows = min(ROWS_PER_TASK, c.rows - first)
    cdef long size = c.team.kernels.itemsize
    cdef char *scores = c.scores + first * c.options.ld * size
    cdef char *targets = c.targets + first * c.options.outputs * size
    if not job.training:
        if c.loss == SOFTMAX:
            c.team.kernels.softmax(rows, &c.options, scores)
        elif c.loss == SIGMOID:
            c.team.kernels.sigmoid(rows, &c.options, scores)
    elif c.loss == SOFTMAX:
        c.team.kernels.softmax_loss(rows, &c.options, c.scale, <int64_t *> c.targets + first, scores, c.losses + first)
    elif c.loss == SQUARED:
        c.team.kernels.squared_loss(rows, &c.options, c.scale, targets, scores, c.losses + first)
    else:
        c.team.kernels.sigmoid_loss(rows, &c.options, c.scale, targets, scores, c.losses + first)


cdef void weigh_rows(Core *c, const View *v) noexcept nogil:
    """Losses and gradients of each sequence's rows, as much as the sequence counts."""
    cdef long t, b, row, size = c.team.kernels.itemsize
    cdef char *score
    for t in range(v.steps if c.readout == EVERY else 1):
        for b in range(v.active[t]):
            row = v.offsets[t] + b
            score = c.scores + row * c.options.ld * size
            c.losses[row] *= c.importance[b]
            c.team.kernels.scale(c.options.outputs, c.importance[b], score, score)


cdef void finish_scores(Core *c, bint training) noexcept nogil:
    cdef LossJob job
    cdef int tasks = (c.rows + ROWS_PER_TASK - 1) // ROWS_PER_TASK
    job.c = c
    job.training = training
    parallel(loss_task, &job, tasks, c.team.threads if c.rows * c.options.outputs > 20000 else 1)


# ---------------------------------------------------------------- readout

cdef void add_last(Core *c, const Run *run, const Unit *u, long b, int part, char *z) noexcept nogil:
    """z += the outputs of one direction at its own last step."""
    cdef const View *v = &run.view
    cdef long row = b if u.reverse else v.last[b], ld = u.cell.ldo, size = c.team.kernels.itemsize
    cdef char *h = u.rows + row * ld * size
    cdef char *spare = c.pooled_gradient + b * ld * size  # not in use yet
    if run.drops_output:
        c.team.kernels.dropout(u.cell.output, run.output_dropout,
                               key_for(run.seed, run.drop_step, site_of(ON_OUTPUT, 0, part),
                                       0 if u.reverse else v.length[b] - 1), <uint32_t> v.order[b], h, spare)
        h = spare
    c.team.kernels.add(1, u.cell.output, h, ld, z, ld)


cdef void add_many_steps(Core *c, const View *v, long b, Segment outputs, char *z) noexcept nogil:
    """z = Σ_t of one sequence's outputs, by blocks of steps whose sums are added in double."""
    cdef const rc_kernels *kernels = c.team.kernels
    cdef double total[SUM_COLUMNS]
    cdef long first = 0, n, t, size = kernels.itemsize
    while first < outputs.width:
        n = min(SUM_COLUMNS, outputs.width - first)
        memset(total, 0, sizeof(total))
        for t in range(v.length[b]):
            if t % SUM_ROWS == 0:
                if t:
                    kernels.widen(1, n, z + first * size, n, total)
                memset(z + first * size, 0, n * size)
            kernels.add(1, n, outputs.data + ((v.offsets[t] + b) * outputs.ld + first) * size, outputs.ld,
                        z + first * size, n)
        kernels.widen(1, n, z + first * size, n, total)
        kernels.narrow(1, n, total, z + first * size, n)
        first += n


cdef void read_out(Core *c, Run *run, const Segment *outputs) noexcept nogil:
    """One row per sequence, in packed order. `last` is each direction's own last step."""
    cdef const View *v = &run.view
    cdef const Layer *top = &run.layer[run.layer_count - 1]
    cdef long b, t, row, ld, size = c.team.kernels.itemsize
    cdef int s, d
    cdef bint many
    cdef char *z
    run.apart = c.readout == LAST and top.summed
    for s in range(c.parts):
        ld = outputs[s].ld
        for b in range(v.sequences):
            z = c.input[s].data + b * ld * size
            memset(z, 0, ld * size)
            if c.readout == LAST:
                for d in range(2 if top.summed else 1):
                    add_last(c, run, &top.unit[d if top.summed else s], b, s, z)
                continue
            if c.readout == MAX:
                memset(c.where + (s * v.sequences + b) * ld, 255, ld * sizeof(int64_t))  # -1: from no row yet
            many = c.readout == MEAN and team_sums_wide(&c.team, v.length[b])
            if many:
                add_many_steps(c, v, b, outputs[s], z)
            for t in range(0 if many else v.length[b]):
                row = v.offsets[t] + b
                if c.readout == MEAN:
                    c.team.kernels.add(1, outputs[s].width, outputs[s].data + row * ld * size, ld, z, ld)
                else:
                    c.team.kernels.running_max(outputs[s].width, outputs[s].data + row * ld * size, row, z,
                                               c.where + (s * v.sequences + b) * ld)
            if c.readout == MEAN:
                c.team.kernels.scale(outputs[s].width, 1.0 / v.length[b], z, z)


cdef void spread(Core *c, const Run *run) noexcept nogil:
    """The readout's gradient goes back to the outputs it came from."""
    cdef const View *v = &run.view
    cdef const Layer *top = &run.layer[run.layer_count - 1]
    cdef const Unit *u
    cdef long b, t, row, ld, size = c.team.kernels.itemsize
    cdef int d, s
    cdef char *dz
    for d in range(2 if run.apart else c.parts):
        s = 0 if run.apart else d
        u = &top.unit[d]
        ld = c.input[s].ld
        memset(u.dh, 0, v.rows * ld * size)
        for b in range(v.sequences):
            dz = c.pooled_gradient + (s * v.sequences + b) * ld * size
            if c.readout == LAST:
                row = b if u.reverse else v.last[b]
                memcpy(u.dh + row * ld * size, dz, c.input[s].width * size)
            elif c.readout == MEAN:
                for t in range(v.length[b]):
                    c.team.kernels.scale(c.input[s].width, 1.0 / v.length[b], dz, u.dh + (v.offsets[t] + b) * ld * size)
            else:
                c.team.kernels.return_to(c.input[s].width, c.where + (s * v.sequences + b) * ld, dz, u.dh, ld)


# ---------------------------------------------------------------- projection

cdef void pack_weights(Core *c) noexcept nogil:
    cdef rc_packed *weights[4]
    cdef const char *biases[4]
    cdef int s, count = 0
    for s in range(c.parts):
        weights[count] = &c.weight[s]
        biases[count] = NULL if s else c.theta + c.b_y * c.team.kernels.itemsize
        count += 1
    team_pack(&c.team, weights, biases, count)


cdef void project(Core *c, bint add) noexcept nogil:
    """scores = (bias | scores) + z·W_hy."""
    cdef int s
    for s in range(c.parts):
        team_product(&c.team, &c.weight[s], c.rows, c.input[s].data, c.input[s].ld,
                     RC_FROM_C if s or add else RC_FROM_BIAS, c.scores, c.options.ld)


cdef char *gradient_place(Core *c, const Layer *top, int part) noexcept nogil:
    """Where the gradient of what was projected goes."""
    if c.readout == EVERY:
        return top.unit[part].dh
    return c.pooled_gradient + part * c.rows * c.input[part].ld * c.team.kernels.itemsize


cdef void project_back(Core *c, const Run *run, bint accumulate) noexcept nogil:
    cdef const Layer *top = &run.layer[run.layer_count - 1]
    cdef rc_packed *weights[2]
    cdef const char *biases[2]
    cdef rc_columns outputs
    cdef int s
    cdef long row = 0, K = c.options.outputs, size = c.team.kernels.itemsize
    outputs.at, outputs.count, outputs.sums = 0, K, c.grad + c.b_y * size
    for s in range(c.parts):
        weights[s] = &c.weight_T[s]
        biases[s] = NULL
    team_pack(&c.team, weights, biases, c.parts)
    for s in range(c.parts):
        team_outer(&c.team, c.input[s].width, c.rows, c.input[s].data, c.input[s].ld, NULL, c.scores, c.options.ld,
                   NULL, 1, &outputs, accumulate, c.grad + (c.W_hy + row * K) * size, K)
        outputs.sums = NULL
        team_product(&c.team, &c.weight_T[s], c.rows, c.scores, c.options.ld, RC_FROM_ZERO, gradient_place(c, top, s),
                     c.input[s].ld)
        row += c.input[s].width


# ---------------------------------------------------------------- no projection

cdef void take_outputs(Core *c, bint add) noexcept nogil:
    """scores (+)= the first K numbers of z."""
    cdef long at = 0, count, size = c.team.kernels.itemsize
    cdef int s
    for s in range(c.parts):
        count = min(c.input[s].width, c.options.outputs - at)
        if count <= 0:
            return
        if add:
            c.team.kernels.add(c.rows, count, c.input[s].data, c.input[s].ld, c.scores + at * size, c.options.ld)
        else:
            c.team.kernels.copy(c.rows, count, c.input[s].data, c.input[s].ld, c.scores + at * size, c.options.ld)
        at += count


cdef void give_back(Core *c, const Run *run) noexcept nogil:
    """dz = (ds, 0)."""
    cdef const Layer *top = &run.layer[run.layer_count - 1]
    cdef long at = 0, count, size = c.team.kernels.itemsize
    cdef char *dz
    cdef int s
    for s in range(c.parts):
        dz = gradient_place(c, top, s)
        memset(dz, 0, c.rows * c.input[s].ld * size)
        count = min(c.input[s].width, c.options.outputs - at)
        if count > 0:
            c.team.kernels.copy(c.rows, count, c.scores + at * size, c.options.ld, dz, c.input[s].ld)
            at += count


# ---------------------------------------------------------------- without Python

cdef void score_rows(Core *c, const Run *run, char *scores) noexcept nogil:
    """Scores (rows, options.ld) of the outputs at every step, by weights that are held; no sparse features."""
    cdef int s
    c.team.threads = run.team.threads
    c.rows = run.view.rows
    c.scores = scores
    for s in range(c.parts):
        c.input[s].data = run.finished[s].data
    if c.direct:
        take_outputs(c, False)
    else:
        project(c, False)


cdef void finish_rows(Core *c) noexcept nogil:
    """Scores become predictions; a CRF's do not, see Chain."""
    finish_scores(c, False)


# ---------------------------------------------------------------- the class

cdef class Head:
    """A readout, a projection and a loss.

    Parameters
    ----------
    itemsize : int
    loss, readout : int
        0 softmax, 1 squared error, 2 sigmoid, 3 CRF; 0 every, 1 last, 2 mean, 3 max.
    widths : list of int
        Widths of the outputs' parts.
    outputs : int
        K.
    W_hy, b_y : int
        Places in theta; -1 without a projection.
    class_weight : array (K,) of the net's precision, or None
    label_smoothing : float
    chain : tuple of (transitions, start, end, allowed) or None
        A CRF's parameters' places in theta, and what it allows (see Chain).
    skip : tuple of (N, W_skip) or None
        Number of sparse features, and their table's place in theta.
    """

    def __cinit__(self, int itemsize, int loss, int readout, list widths, long outputs, long W_hy, long b_y,
                  class_weight, double label_smoothing, chain=None, skip=None):
        cdef Core *c = &self.c
        cdef int s
        c.team.kernels = kernels_for(itemsize)
        c.team.gemm = gemm_for(itemsize)
        c.team.threads = 1
        c.loss = loss
        c.readout = readout
        c.parts = len(widths)
        c.direct = W_hy < 0
        c.W_hy = W_hy
        c.b_y = b_y
        c.options.outputs = outputs
        c.options.ld = padded(c.team.kernels, outputs)
        c.options.label_smoothing = label_smoothing
        self.class_weight = class_weight
        c.options.class_weight = NULL if class_weight is None else cnp.PyArray_DATA(class_weight)
        self.arena = Arena()
        self.weights = Arena()
        if chain is not None:
            self.chain = Chain(outputs, *chain)
        if skip is not None:
            self.skip = Skip(skip[0], outputs, skip[1])
        scratch = c.team.kernels.outer_scratch(max(widths), outputs)
        if chain is not None:
            scratch = max(scratch, c.team.kernels.outer_scratch(outputs, outputs))
        c.team.scratch_size = (scratch * itemsize + 63) // 64 * 64
        for s in range(c.parts):
            c.input[s].width = widths[s]
            c.input[s].ld = padded(c.team.kernels, widths[s])
            if c.direct:
                continue
            bind_packed(&c.team, &c.weight[s], widths[s], outputs, outputs, False)
            bind_packed(&c.team, &c.weight_T[s], outputs, widths[s], outputs, True)
        while not c.direct:
            self.weights.start()
            c.weight[0].bias = self.weights.take(c.options.ld * itemsize)
            for s in range(c.parts if c.team.gemm == NULL else 0):
                c.weight[s].panels = self.weights.take(c.team.kernels.packed_size(&c.weight[s]) * itemsize)
                c.weight_T[s].panels = self.weights.take(c.team.kernels.packed_size(&c.weight_T[s]) * itemsize)
            if not self.weights.settle():
                break

    cdef bind(self, theta, grad):
        """Read parameters from `theta` and write gradients to `grad`, flat contiguous arrays; None: no gradients."""
        cdef Core *c = &self.c
        cdef int s
        cdef long row = 0
        c.theta = <char *> cnp.PyArray_DATA(theta)
        c.grad = NULL if grad is None else <char *> cnp.PyArray_DATA(grad)
        for s in range(0 if c.direct else c.parts):
            c.weight[s].W = c.weight_T[s].W = c.theta + (c.W_hy + row * c.options.outputs) * c.team.kernels.itemsize
            row += c.input[s].width

    def hold(self, theta, Head shared=None):
        """Pack the projection's weights once, for many predictions; or read those of another head that did."""
        cdef int s
        self.bind(theta, None)
        self.shared = shared
        if shared is not None:
            self.c.weight[0].bias = shared.c.weight[0].bias
            for s in range(self.c.parts):
                self.c.weight[s].panels = shared.c.weight[s].panels
        elif not self.c.direct:
            pack_weights(&self.c)
        self.held = True

    cdef carve(self, Workspace ws, bint training, bint weighted=False):
        cdef Core *c = &self.c
        cdef rnncore_call call
        cdef Segment outputs[2]
        cdef long size = c.team.kernels.itemsize, B = ws.run.view.sequences
        cdef int s
        c.team.threads = ws.run.team.threads
        c.rows = ws.run.view.rows if c.readout == EVERY else B
        for s in range(c.parts):
            outputs[s] = ws.run.finished[s]
        while True:
            self.arena.start()
            c.scores = self.arena.take(c.rows * c.options.ld * size)
            c.pooled_gradient = self.arena.take(c.parts * B * c.input[0].ld * size)
            c.where = <int64_t *> self.arena.take(
                c.parts * B * c.input[0].ld * sizeof(int64_t) if c.readout == MAX else 0)
            for s in range(c.parts):
                c.input[s].data = outputs[s].data if c.readout == EVERY else \
                    self.arena.take(B * c.input[s].ld * size)
            if training:
                c.team.scratch = self.arena.take(c.team.scratch_size * c.team.threads)
                c.losses = <double *> self.arena.take(c.rows * sizeof(double))
                c.importance = <double *> self.arena.take(B * sizeof(double)) if weighted else NULL
                c.targets = self.arena.take(c.rows * (sizeof(int64_t) if c.loss in (SOFTMAX, CHAIN) else
                                                      c.options.outputs * size))
            if not self.arena.settle():
                break
        if c.readout != EVERY:
            with nogil:
                begin_call(&call, True)
                read_out(c, &ws.run, outputs)
                end_call(&call)
            if call.stopped:
                raise_stopped()

    cdef load(self, Workspace ws, skip_ids, skip_values):
        if self.skip is not None:
            self.skip.load(&self.c.team, &ws.run.view, skip_ids, skip_values)

    cdef void scores(self) noexcept nogil:
        """s = z·W_hy + b_y, or the outputs themselves, and what sparse features add."""
        cdef Core *c = &self.c
        cdef bint add = self.skip is not None
        if add:
            self.skip.add(&c.team, c.theta, NULL if c.direct else c.theta + c.b_y * c.team.kernels.itemsize, c.scores,
                          c.options.ld)
        if c.direct:
            take_outputs(c, add)
            return
        if not self.held:
            pack_weights(c)
        project(c, add)

    def loss_and_grad(self, Workspace ws, Saved saved, theta, grad, touched, targets, bint accumulate, skip_ids=None,
                      skip_values=None, sample_weight=None):
        """Loss of the outputs of the training run at hand, and the gradients of everything.

        targets : int64 (T, B) or (B,), or numbers (T, B, K) or (B, K) of the net's precision; checked, C-contiguous.
        skip_ids : int64 (T, B, F), negative for none; skip_values: numbers of that shape, or None for ones.
        sample_weight : float64 (B,), how much each sequence's loss counts, or None.
        """
        cdef rnncore_call call
        cdef Core *c = &self.c
        cdef View *v = &ws.run.view
        cdef bint classes = c.loss == SOFTMAX or c.loss == CHAIN
        cdef bint weighted = sample_weight is not None or (c.loss == CHAIN and c.options.class_weight != NULL)
        cdef long t, b, width = sizeof(int64_t) if classes else c.options.outputs * c.team.kernels.itemsize
        cdef char *source = <char *> cnp.PyArray_DATA(targets)
        cdef double total = 0, weight = 0
        cdef int64_t y
        ws.begin_backward(saved, True, False, False)
        self.bind(theta, grad)
        self.carve(ws, True, weighted)
        self.load(ws, skip_ids, skip_values)
        if c.readout == EVERY:
            for t in range(v.steps):
                for b in range(v.active[t]):
                    memcpy(c.targets + (v.offsets[t] + b) * width, source + (t * v.sequences + v.order[b]) * width,
                           width)
        else:
            for b in range(v.sequences):
                memcpy(c.targets + b * width, source + v.order[b] * width, width)
        if not classes:
            weight = c.rows
        else:
            for b in range(c.rows):
                y = (<int64_t *> c.targets)[b]
                if y >= 0:
                    weight += self.weight_of(y)
        c.scale = 1 / weight if weight > 0 else 0
        if weighted:
            self.weigh(v, sample_weight)
        if self.skip is not None:
            self.skip.clear_rows(&c.team, c.grad, accumulate, touched)
        with nogil:
            begin_call(&call, True)
            self.scores()
            end_call(&call)
        if call.stopped:
            raise_stopped()
        if self.chain is not None:
            total = self.chain.loss(&c.team, v, c.scores, <int64_t *> c.targets, c.scale, c.importance, c.theta, c.grad,
                                    accumulate)
        with nogil:
            begin_call(&call, True)
            if c.loss != CHAIN:
                finish_scores(c, True)
                if weighted:
                    weigh_rows(c, v)
                for b in range(c.rows):
                    total += c.losses[b]
            if self.skip is not None:
                self.skip.back(&c.team, c.scores, c.options.ld, c.grad)
            if c.direct:
                give_back(c, &ws.run)
            else:
                project_back(c, &ws.run, accumulate)
            if c.readout != EVERY:
                spread(c, &ws.run)
            end_call(&call)
        if call.stopped:
            raise_stopped()
        ws.backward(theta, grad, saved, None, None, accumulate, False, True, touched)
        return total * c.scale

    cdef weigh(self, const View *v, sample_weight):
        """How much each sequence's loss counts: the weight given, times a CRF's mean weight of its known labels."""
        cdef Core *c = &self.c
        cdef const double[::1] given = sample_weight
        cdef int64_t y
        cdef double total
        cdef long b, t, known
        for b in range(v.sequences):
            c.importance[b] = 1 if sample_weight is None else given[v.order[b]]
            if c.loss != CHAIN or c.options.class_weight == NULL:
                continue
            total = 0
            known = 0
            for t in range(v.length[b]):
                y = (<int64_t *> c.targets)[v.offsets[t] + b]
                if y >= 0:
                    total += self.weight_of(y)
                    known += 1
            c.importance[b] *= total / known if known else 1

    cdef double weight_of(self, int64_t y) noexcept:
        if self.c.options.class_weight == NULL:
            return 1
        if self.c.team.kernels.itemsize == 4:
            return (<const float *> self.c.options.class_weight)[y]
        return (<const double *> self.c.options.class_weight)[y]

    def predict(self, Workspace ws, theta, skip_ids=None, skip_values=None, out=None):
        """Return probabilities or values for the run's outputs: (T, B, K), zero past the ends, or (B, K)."""
        cdef rnncore_call call
        cdef Core *c = &self.c
        cdef View *v = &ws.run.view
        cdef long t, b, size = c.team.kernels.itemsize, K = c.options.outputs
        self.bind(theta, None)
        self.carve(ws, False)
        self.load(ws, skip_ids, skip_values)
        with nogil:
            begin_call(&call, True)
            self.scores()
            if c.loss != CHAIN:
                finish_scores(c, False)
            end_call(&call)
        if call.stopped:
            raise_stopped()
        if self.chain is not None:
            self.chain.marginals(&c.team, v, c.scores, c.theta)
        if out is None and c.readout == EVERY:
            out = np.zeros((v.steps, v.sequences, K), dtype=theta.dtype)
        elif out is None:
            out = np.empty((v.sequences, K), dtype=theta.dtype)
        elif not v.full:
            out.fill(0)
        cdef char *target = <char *> cnp.PyArray_DATA(out)
        with nogil:
            for t in range(v.steps if c.readout == EVERY else 1):
                for b in range(v.active[t]):
                    memcpy(target + (t * v.sequences + v.order[b]) * K * size,
                           c.scores + (v.offsets[t] + b) * c.options.ld * size, K * size)
        return out

    def decode(self, Workspace ws, theta, long top, skip_ids=None, skip_values=None):
        """Return a CRF's best paths (top, T, B), -1 past the ends, and their log-probabilities (top, B)."""
        cdef rnncore_call call
        cdef Core *c = &self.c
        self.bind(theta, None)
        self.carve(ws, False)
        self.load(ws, skip_ids, skip_values)
        with nogil:
            begin_call(&call, True)
            self.scores()
            end_call(&call)
        if call.stopped:
            raise_stopped()
        return self.chain.decode(&c.team, &ws.run.view, c.scores, c.theta, top)

    def sizes(self):
        """Return bytes held: packed weights, and arrays of the largest batch so far."""
        packed, work = self.weights.capacity, self.arena.capacity
        for part in (self.chain, self.skip):
            if part is not None:
                more_packed, more_work = part.sizes()
                packed += more_packed
                work += more_work
        return packed, work
