"""Heads: pooling over time (pooling.pyx), projection and losses of rows (projection.pyx) in one.

Losses are means over counted targets; their sum runs over rows in order, in double, whatever the threads.
A CRF's and a CTC's loss look at whole sequences (crf.pyx, ctc.pyx); sparse features may add to the scores directly
(sparse.pyx).
Several heads may look at one run: each adds to the outputs' gradient what the ones before it left there.
"""
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

import numpy as np

cimport numpy as cnp

from rnncore._core.adaptive cimport Tails
from rnncore._core.crf cimport Chain
from rnncore._core.ctc cimport Alignments
from rnncore._core.gemm cimport Arena, RunningOuter, bind_packed, clear, keep_as, make_team, outer_scratch, padded
from rnncore._core.kernels cimport (
    BETWEEN,
    begin_call,
    end_call,
    raise_stopped,
    rc_loss_options,
    rc_storage,
    rnncore_call,
    stops_after,
    storage_named,
)
from rnncore._core.memory cimport Saved
from rnncore._core.plan cimport Run, View
from rnncore._core.pooling cimport (
    EVERY,
    Carried,
    bind_pooling_packed,
    describe_pooling,
    pack_pooling,
    place_pooling,
    pool,
    pool_back,
    share_pooling_packed,
)
from rnncore._core.projection cimport (
    ALIGNED,
    CHAIN,
    SOFTMAX,
    TABLE_ROWS,
    Core,
    back_from_rows,
    begin_gradient,
    block_rows,
    end_gradient,
    finish_scores,
    losses_of_rows,
    of_sequences,
    pack_weights,
    project,
    scores_of_rows,
    take_outputs,
    target_bytes,
)
from rnncore._core.run cimport Workspace
from rnncore._core.sampled cimport Samples
from rnncore._core.schedule cimport Schedule
from rnncore._core.sparse cimport Skip

cnp.import_array()

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
    """Pooling, a projection and a loss.

    Parameters
    ----------
    itemsize : int
    loss, pooling : int
        0 softmax, 1 squared error, 2 sigmoid, 3 CRF, 4 outside, 5 CTC; 0 every, 1 last, 2 mean, 3 max, 4 attention.
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
    attention : tuple of (size, W, b, v) or None
        Of attention pooling: how many numbers an energy is made of, and its parameters' places in theta.
    tails : tuple of (classes, clusters) or None
        All classes and the rare ones' clusters (see Tails) of an adaptive softmax, whose `outputs` are the frequent
        classes and one per cluster.
    tied : bool
        W_hy is the place of a table, and its transpose what projects: the embedding's, or
    sampled : bool
        one of the head's own, and training looks at some classes only, those of `take_samples`.
    mixed : bool
        Whether products round their operands to bfloat16; losses and label chains do not.
    """

    def __cinit__(self, int itemsize, int loss, int pooling, list widths, long outputs, long W_hy, long b_y,
                  class_weight, double label_smoothing, chain=None, skip=None, attention=None, tails=None,
                  bint tied=False, bint sampled=False, bint mixed=False):
        cdef Core *c = &self.c
        cdef int s
        make_team(&c.team, itemsize, mixed)
        c.loss = loss
        c.parts = len(widths)
        c.direct = W_hy < 0
        c.W_hy = W_hy
        c.b_y = b_y
        c.tied = tied
        c.options.outputs = outputs
        c.options.ld = padded(c.team.kernels, outputs)
        c.options.label_smoothing = label_smoothing
        self.class_weight = class_weight
        c.options.class_weight = NULL if class_weight is None else cnp.PyArray_DATA(class_weight)
        self.arena = Arena()
        self.weights = Arena()
        self.kept = Arena()
        if chain is not None:
            self.chain = Chain(outputs, *chain)
        if loss == ALIGNED:
            self.alignments = Alignments()
        if skip is not None:
            self.skip = Skip(skip[0], outputs, skip[1])
        size, W, b, v = attention or (0, -1, -1, -1)
        describe_pooling(&c.pooling, &c.team, pooling, widths, size, W, b, v)
        scratch = max(outer_scratch(&c.team, min(outputs, TABLE_ROWS), max(widths)) if tied else
                      outer_scratch(&c.team, max(widths), outputs), outer_scratch(&c.team, max(widths), max(size, 1)))
        if chain is not None:
            scratch = max(scratch, c.team.kernels.outer_scratch(outputs, outputs))
        for _, classes, inner, _, _ in tails[1] if tails is not None else ():
            scratch = max(scratch, outer_scratch(&c.team, max(widths), inner), outer_scratch(&c.team, inner, classes))
        c.team.scratch_size = (scratch * itemsize + 63) // 64 * 64
        for s in range(c.parts):
            c.input[s].width = widths[s]
            c.input[s].ld = padded(c.team.kernels, widths[s])
            if c.direct:
                continue
            bind_packed(&c.team, &c.weight[s], widths[s], outputs, sum(widths) if tied else outputs, tied)
            bind_packed(&c.team, &c.weight_T[s], outputs, widths[s], c.weight[s].ldw, not tied)
        if sampled:
            self.samples = Samples(outputs)
        if tails is not None:
            self.tails = Tails(itemsize, tails[0], tails[1], widths)
            self.tails.describe(&c.team, c)
        while True:
            self.weights.start()
            bind_pooling_packed(&c.pooling, self.weights, &c.team)
            if not c.direct:
                c.weight[0].bias = self.weights.take(c.options.ld * itemsize)
            for s in range(c.parts if c.team.gemm == NULL and not c.direct else 0):
                self.weights.take_panels(c.team.kernels, &c.weight[s])
                self.weights.take_panels(c.team.kernels, &c.weight_T[s])
            if not self.weights.settle():
                break

    cdef bind(self, theta, grad):
        """Read parameters from `theta` and write gradients to `grad`, flat contiguous arrays; None: no gradients."""
        cdef Core *c = &self.c
        cdef int s
        cdef long row = 0, at
        c.theta = <char *> cnp.PyArray_DATA(theta)
        c.grad = NULL if grad is None else <char *> cnp.PyArray_DATA(grad)
        for s in range(0 if c.direct else c.parts):
            at = c.W_hy + row * (1 if c.tied else c.options.outputs)
            c.weight[s].W = c.weight_T[s].W = c.theta + at * c.team.kernels.itemsize
            row += c.input[s].width
        if self.tails is not None:
            self.tails.bind(c.theta, c.grad)

    def hold(self, theta, Head shared=None, str storage="float32"):
        """Pack the weights once, for many predictions, kept as `storage`; or read those of another head that did."""
        cdef int s
        cdef Core *c = &self.c
        cdef const rc_storage *kept = storage_named(storage)
        for s in range(0 if c.direct else c.parts):
            keep_as(&c.team, &c.weight[s], kept)
        while kept != NULL and shared is None and not c.direct:
            self.kept.start()
            for s in range(c.parts):
                if c.weight[s].storage != NULL:
                    self.kept.take_panels(c.team.kernels, &c.weight[s])
            if not self.kept.settle():
                break
        self.bind(theta, None)
        self.shared = shared
        if shared is not None:
            c.weight[0].bias = shared.c.weight[0].bias
            for s in range(c.parts):
                c.weight[s].panels = shared.c.weight[s].panels
            share_pooling_packed(&c.pooling, &shared.c.pooling)
        else:
            pack_pooling(&c.pooling, &c.team, c.theta)
            if not c.direct:
                pack_weights(c)
        if self.tails is not None:
            self.tails.hold(c.theta, None if shared is None else shared.tails, kept)
        self.held = True

    def carry(self, long sequences, Head before=None):
        """From now on pool over all steps of some streams, not of each run alone; those of `before` count, too."""
        cdef Core *c = &self.c
        cdef list widths = [c.pooling.width[s] for s in range(c.parts)]
        self.carried = Carried(sequences, widths) if before is None else before.carried

    def forget(self, rows):
        """Let the given streams begin anew, or all (None)."""
        if self.carried is not None:
            self.carried.forget(rows)

    cdef carve(self, Workspace ws, bint losses, bint weighted=False):
        """Places for the arrays of a run. losses: with targets, and scores block by block."""
        cdef Core *c = &self.c
        cdef rnncore_call call
        cdef long size = c.team.kernels.itemsize, B = ws.seen.view.sequences
        cdef int s
        c.team.threads = ws.seen.team.threads
        c.rows = ws.seen.view.rows if c.pooling.kind == EVERY else B
        c.block = block_rows(c, not losses or self.skip is not None)
        while True:
            self.arena.start()
            c.scores = self.arena.take(c.block * c.options.ld * size)
            place_pooling(&c.pooling, self.arena, &c.team, ws.seen)
            for s in range(c.parts):
                c.pooling.outputs[s] = ws.seen.finished[s]
                c.input[s].data = c.pooling.outputs[s].data if c.pooling.kind == EVERY else c.pooling.pooled[s].data
            c.team.scratch = self.arena.take(c.team.scratch_size * c.team.threads)
            if losses:
                c.losses = <double *> self.arena.take(c.rows * sizeof(double))
                c.importance = <double *> self.arena.take(c.rows * sizeof(double)) if weighted else NULL
                c.targets = self.arena.take(c.rows * target_bytes(c))
            if not self.arena.settle():
                break
        if c.pooling.kind != EVERY:
            with nogil:
                begin_call(&call, True)
                if not self.held:
                    pack_pooling(&c.pooling, &c.team, c.theta)
                pool(&c.pooling, &c.team, ws.seen, c.theta)
                end_call(&call)
            if call.stopped:
                raise_stopped()
            if self.carried is not None:
                self.carried.join(&c.pooling, &ws.seen.view, size)

    cdef load(self, Workspace ws, skip_ids, skip_values):
        if self.skip is not None:
            self.skip.load(&self.c.team, &ws.seen.view, skip_ids, skip_values)

    cdef void scores(self) noexcept nogil:
        """Of all rows."""
        if not self.held and not self.c.direct:
            pack_weights(&self.c)
        scores_of_rows(&self.c, self.skip)

    cdef void back(self, const Run *run, bint first, bint accumulate) noexcept nogil:
        """From all scores' gradient to that of the layers' outputs, which other heads may have begun."""
        cdef RunningOuter sums[2]
        self.place_gradient(run)
        begin_gradient(&self.c, sums, accumulate, False)
        back_from_rows(&self.c, self.skip, sums, first or self.c.pooling.kind != EVERY, accumulate, False)
        end_gradient(&self.c, sums)

    cdef void place_gradient(self, const Run *run) noexcept nogil:
        """Where the gradient of what is projected goes."""
        cdef int s
        for s in range(self.c.parts):
            self.c.dz[s] = self.c.pooling.gradient[s]
            if self.c.pooling.kind == EVERY:
                self.c.dz[s] = run.layer[run.layer_count - 1].unit[s].dh

    cdef clear_tables(self, Workspace ws, touched, bint accumulate):
        """Make the gradients of tables ready to be added to, and note which rows will be."""
        cdef Core *c = &self.c
        if self.skip is not None:
            self.skip.clear_rows(&c.team, c.grad, accumulate, touched)
        if c.tied:
            touched.mark(c.W_hy)
            if not accumulate and (self.samples is not None or not ws.begun):
                memset(c.grad + c.W_hy * c.team.kernels.itemsize, 0,
                       c.options.outputs * c.weight[0].ldw * c.team.kernels.itemsize)
            ws.begun = ws.begun or self.samples is None

    def take_samples(self, ids, logs):
        """Take the classes that the next batch tells its targets apart from, and log-probabilities of being there."""
        self.samples.take(ids, logs)

    cdef begin_losses(self, Workspace ws, targets, skip_ids, skip_values, sample_weight, divisor, double factor):
        """Bring what a batch's losses are made of into packed order."""
        cdef Core *c = &self.c
        cdef const View *v = &ws.seen.view
        cdef bint weighted = sample_weight is not None or (c.loss == CHAIN and c.options.class_weight != NULL)
        cdef long t, b, width, left = BETWEEN
        cdef rnncore_call call
        cdef char *source = <char *> cnp.PyArray_DATA(targets)
        cdef double weight = 0
        c.soft = c.loss == SOFTMAX and targets.dtype.kind == "f"
        width = target_bytes(c)
        self.carve(ws, True, weighted)
        self.load(ws, skip_ids, skip_values)
        if self.alignments is not None:
            self.alignments.take(targets)
            self.alignments.carve(&c.team, v)
            weight = v.sequences
        else:
            with nogil:
                begin_call(&call, True)
                for t in range(v.steps if c.pooling.kind == EVERY else 1):
                    for b in range(v.active[t]):
                        if stops_after(width, &left):
                            break
                        memcpy(c.targets + (v.offsets[t] + b) * width,
                               source + (t * v.sequences + v.order[b]) * width, width)
                for b in range(c.rows):
                    if stops_after(width, &left):
                        break
                    weight += self.weight_at(c.targets + b * width)
                end_call(&call)
            if call.stopped:
                raise_stopped()
        if divisor is not None:
            weight = divisor
        c.scale = factor / weight if weight > 0 else 0
        if weighted:
            self.weigh(v, sample_weight)
        if self.tails is not None:
            self.tails.split(c)

    cdef double losses_of_sequences(self, Workspace ws, bint training, bint accumulate) except? -1:
        """Sum of the losses, weighted; training: and the gradient of the scores, and of what stands between them."""
        cdef rnncore_call call
        cdef Core *c = &self.c
        cdef const View *v = &ws.seen.view
        cdef double total = 0
        cdef long b
        with nogil:
            begin_call(&call, True)
            self.scores()
            if self.alignments is not None:
                self.alignments.losses(&c.team, &c.options, v, c.scores, c.scale if training else 0, c.importance,
                                       c.losses)
                for b in range(v.sequences):
                    total += c.losses[b]
            end_call(&call)
        if call.stopped:
            raise_stopped()
        if self.chain is not None:
            total = self.chain.loss(&c.team, v, c.scores, <int64_t *> c.targets, c.scale, c.importance, c.theta,
                                    c.grad if training else NULL, accumulate)
        return total

    cdef double losses(self, Workspace ws, bint training, bint first, bint accumulate) except? -1:
        """Sum of the losses, weighted; training: and all gradients but the layers'."""
        cdef rnncore_call call
        cdef Core *c = &self.c
        cdef bint fresh = first or c.pooling.kind != EVERY  # what pooling made is this head's alone
        cdef double total = 0
        cdef long row
        if of_sequences(c.loss):
            total = self.losses_of_sequences(ws, training, accumulate)
        with nogil:
            begin_call(&call, True)
            if training:
                self.place_gradient(ws.seen)
            if of_sequences(c.loss):
                if training:
                    self.back(ws.seen, first, accumulate)
            else:
                if training and self.samples is not None:
                    self.samples.losses(c, fresh, accumulate)
                else:
                    losses_of_rows(c, self.skip, training, fresh, accumulate)
                    if self.tails is not None:
                        self.tails.losses(c, training, accumulate)
                for row in range(c.rows):
                    total += c.losses[row]
            if training and c.pooling.kind != EVERY:
                pool_back(&c.pooling, &c.team, ws.seen, c.theta, c.grad, first, accumulate)
            end_call(&call)
        if call.stopped:
            raise_stopped()
        return total

    def loss_and_grad(self, Workspace ws, Saved saved, theta, grad, touched, targets, bint accumulate, skip_ids=None,
                      skip_values=None, sample_weight=None, divisor=None, double factor=1, bint first=True,
                      bint last=True, bint want_dx=False):
        """Loss of the outputs of the training run at hand, and the gradients of everything.

        targets : int64 (T, B) or (B,), or numbers (T, B, K) or (B, K) of the net's precision (of a softmax:
            probabilities); checked, C-contiguous.
        skip_ids : int64 (T, B, F), negative for none; skip_values: numbers of that shape, or None for ones.
        sample_weight : float64 (B,) or, for losses of every step but a CRF's, (T, B): how much each counts; or None.
        divisor : what the sum of the losses is divided by; None: the weight of the targets.
        factor : how much this head counts beside others.
        first, last : of the heads that look at this run. The last one goes back through the layers, unless the input's
            gradient is wanted, which is for the caller to ask for.
        """
        if first:
            ws.begin_backward(saved, True, want_dx, False)
        self.bind(theta, grad)
        self.begin_losses(ws, targets, skip_ids, skip_values, sample_weight, divisor, factor)
        if self.samples is not None:
            self.samples.carve(&self.c)
            self.samples.clear_rows(&self.c, accumulate, touched)
        else:
            self.clear_tables(ws, touched, accumulate)
        total = self.losses(ws, True, first, accumulate)
        if last and not want_dx:
            ws.backward(theta, grad, saved, None, None, accumulate, False, True, touched)
        return total * self.c.scale

    def loss(self, Workspace ws, theta, targets, skip_ids=None, skip_values=None, sample_weight=None,
             double factor=1):
        """Loss of the outputs of the run at hand, as loss_and_grad's, without gradients."""
        self.bind(theta, None)
        self.begin_losses(ws, targets, skip_ids, skip_values, sample_weight, None, factor)
        return self.losses(ws, False, True, False) * self.c.scale

    def log_likelihood(self, Workspace ws, theta, targets, skip_ids=None, skip_values=None):
        """Return the log-probability of each target, float64 (T, B) or (B,); 0 where none counts."""
        cdef Core *c = &self.c
        cdef const View *v = &ws.seen.view
        cdef rc_loss_options options = c.options
        cdef long t, b
        cdef double *target
        self.bind(theta, None)
        c.options.class_weight = NULL
        c.options.label_smoothing = 0
        try:
            self.begin_losses(ws, targets, skip_ids, skip_values, None, None, 1)
            self.losses(ws, False, True, False)
        finally:
            c.options = options
        found = np.zeros((v.steps if c.pooling.kind == EVERY and not of_sequences(c.loss) else 1, v.sequences))
        target = <double *> cnp.PyArray_DATA(found)
        for b in range(v.sequences if of_sequences(c.loss) else 0):
            target[v.order[b]] = 0 - c.losses[b]
        if of_sequences(c.loss):
            return found[0]
        for t in range(v.steps if c.pooling.kind == EVERY else 1):
            for b in range(v.active[t]):
                target[t * v.sequences + v.order[b]] = 0 - c.losses[v.offsets[t] + b]
        return found if c.pooling.kind == EVERY else found[0]

    def weight(self, Schedule schedule, targets):
        """Return what the sum of a batch's losses is divided by; arrays as for loss_and_grad."""
        cdef Core *c = &self.c
        cdef const View *v = &schedule.view
        cdef bint every = c.pooling.kind == EVERY
        cdef const char *given = <const char *> cnp.PyArray_DATA(targets)
        cdef double weight = 0
        cdef long t, b, left = BETWEEN
        cdef rnncore_call call
        if self.alignments is not None:
            return <double> v.sequences
        c.soft = c.loss == SOFTMAX and targets.dtype.kind == "f"
        with nogil:
            begin_call(&call, True)
            for t in range(v.steps if every else 1):
                for b in range(v.active[t]):
                    if stops_after(target_bytes(c), &left):
                        break
                    weight += self.weight_at(given + (t * v.sequences + v.order[b]) * target_bytes(c))
            end_call(&call)
        if call.stopped:
            raise_stopped()
        return weight

    def forward(self, Workspace ws, theta, bint training, skip_ids=None, skip_values=None):
        """Return the scores (T, B, K), zero past the ends, or (B, K): for a loss outside, with `backward` to follow."""
        self.score(ws, theta, False, skip_ids, skip_values)
        return self.stored(ws, None, theta.dtype)

    cdef score(self, Workspace ws, theta, bint finish, skip_ids, skip_values):
        """Leave the scores of the run's outputs; finish: or what is predicted from them, but by a CRF."""
        cdef rnncore_call call
        self.bind(theta, None)
        self.carve(ws, False)
        self.load(ws, skip_ids, skip_values)
        if self.tails is not None:
            self.tails.carve(&self.c)
        with nogil:
            begin_call(&call, True)
            self.scores()
            if finish and self.c.loss != CHAIN:
                finish_scores(&self.c, False)
            if finish and self.tails is not None:
                self.tails.spread(&self.c)
            end_call(&call)
        if call.stopped:
            raise_stopped()

    def backward(self, Workspace ws, Saved saved, theta, grad, touched, dscores, bint accumulate, bint first,
                 bint want_dx):
        """Go back from the scores' gradient, shaped as what `forward` returned, to that of the layers' outputs."""
        cdef rnncore_call call
        cdef Core *c = &self.c
        cdef const View *v = &ws.seen.view
        cdef long t, b, size = c.team.kernels.itemsize, K = c.options.outputs, left = BETWEEN
        cdef const char *source = <const char *> cnp.PyArray_DATA(dscores)
        if first:
            ws.begin_backward(saved, True, want_dx, False)
        self.bind(theta, grad)
        self.clear_tables(ws, touched, accumulate)
        with nogil:
            begin_call(&call, True)
            clear(c.scores, c.rows * c.options.ld * size)
            for t in range(v.steps if c.pooling.kind == EVERY else 1):
                for b in range(v.active[t]):
                    if stops_after(K, &left):
                        break
                    memcpy(c.scores + (v.offsets[t] + b) * c.options.ld * size,
                           source + (t * v.sequences + v.order[b]) * K * size, K * size)
            self.back(ws.seen, first, accumulate)
            if c.pooling.kind != EVERY:
                pool_back(&c.pooling, &c.team, ws.seen, c.theta, c.grad, first, accumulate)
            end_call(&call)
        if call.stopped:
            raise_stopped()

    cdef stored(self, Workspace ws, out, dtype):
        """The scores in the caller's order."""
        cdef Core *c = &self.c
        cdef const View *v = &ws.seen.view
        cdef long t, b, size = c.team.kernels.itemsize, K = self.outputs(), ld = c.options.ld, left = BETWEEN
        cdef rnncore_call call
        cdef const char *found = c.scores
        cdef char *target
        if self.tails is not None:
            found, ld = self.tails.full, self.tails.ld
        if out is None and c.pooling.kind == EVERY:
            out = np.zeros((v.steps, v.sequences, K), dtype=dtype)
        elif out is None:
            out = np.empty((v.sequences, K), dtype=dtype)
        elif not v.full:
            out.fill(0)
        target = <char *> cnp.PyArray_DATA(out)
        with nogil:
            begin_call(&call, True)
            for t in range(v.steps if c.pooling.kind == EVERY else 1):
                for b in range(v.active[t]):
                    if stops_after(K, &left):
                        break
                    memcpy(target + (t * v.sequences + v.order[b]) * K * size, found + (v.offsets[t] + b) * ld * size,
                           K * size)
            end_call(&call)
        if call.stopped:
            raise_stopped()
        return out

    cdef long outputs(self) noexcept:
        """Numbers that are predicted."""
        return self.c.options.outputs if self.tails is None else self.tails.outputs

    cdef weigh(self, const View *v, sample_weight):
        """How much each row's loss counts; of a CRF each sequence's: times the mean weight of its known labels."""
        cdef Core *c = &self.c
        cdef bint by_step = sample_weight is not None and sample_weight.ndim == 2
        cdef const double *given = NULL
        cdef int64_t y
        cdef double total
        cdef long b, t, known
        if sample_weight is not None:
            given = <const double *> cnp.PyArray_DATA(sample_weight)
        if not of_sequences(c.loss):
            for t in range(v.steps if c.pooling.kind == EVERY else 1):
                for b in range(v.active[t]):
                    c.importance[v.offsets[t] + b] = given[(t * v.sequences if by_step else 0) + v.order[b]]
            return
        for b in range(v.sequences):
            c.importance[b] = 1 if given == NULL else given[v.order[b]]
            if c.options.class_weight == NULL:
                continue
            total = 0
            known = 0
            for t in range(v.length[b]):
                y = (<int64_t *> c.targets)[v.offsets[t] + b]
                if y >= 0:
                    total += self.weight_of(y)
                    known += 1
            c.importance[b] *= total / known if known else 1

    cdef double weight_at(self, const char *target) noexcept nogil:
        """How much a target counts in the mean."""
        cdef Core *c = &self.c
        cdef double weight = 0
        cdef long k
        if c.loss != SOFTMAX and c.loss != CHAIN:
            return 1
        if not c.soft:
            return self.weight_of((<const int64_t *> target)[0]) if (<const int64_t *> target)[0] >= 0 else 0
        for k in range(c.options.outputs):
            if c.team.kernels.itemsize == 4:
                weight += (<const float *> target)[k] * self.weight_of(k)
            else:
                weight += (<const double *> target)[k] * self.weight_of(k)
        return weight

    cdef double weight_of(self, int64_t y) noexcept nogil:
        if self.c.options.class_weight == NULL:
            return 1
        if self.c.team.kernels.itemsize == 4:
            return (<const float *> self.c.options.class_weight)[y]
        return (<const double *> self.c.options.class_weight)[y]

    def predict(self, Workspace ws, theta, skip_ids=None, skip_values=None, out=None):
        """Return probabilities or values for the run's outputs: (T, B, K), zero past the ends, or (B, K)."""
        cdef Core *c = &self.c
        self.score(ws, theta, True, skip_ids, skip_values)
        if self.chain is not None:
            self.chain.marginals(&c.team, &ws.seen.view, c.scores, c.theta)
        return self.stored(ws, out, theta.dtype)

    def decode(self, Workspace ws, theta, long top, skip_ids=None, skip_values=None):
        """Return a CRF's best paths (top, T, B), -1 past the ends, and their log-probabilities (top, B)."""
        cdef Core *c = &self.c
        self.score(ws, theta, False, skip_ids, skip_values)
        return self.chain.decode(&c.team, &ws.seen.view, c.scores, c.theta, top)

    def sizes(self):
        """Return bytes held: packed weights, and arrays of the largest batch so far."""
        packed, work = self.weights.capacity, self.arena.capacity
        for part in (self.chain, self.alignments, self.skip, self.tails, self.samples):
            if part is not None:
                more_packed, more_work = part.sizes()
                packed += more_packed
                work += more_work
        return packed, work
