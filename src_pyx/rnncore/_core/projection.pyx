"""A head's scores, its losses row by row, and the way back, some rows at a time.

    s = z·W_hy + b_y        z: the outputs at every step, or what pooling makes of each sequence
    backward                dW_hy = zᵀ·ds, db_y = Σ ds, dz = ds·W_hyᵀ       (ds from kernels/losses.h)
    tied to a table E       the same with W_hy = Eᵀ, dE = dsᵀ·z
    without a projection    s = the first K numbers of z, dz = (ds, 0)

Rows of many scores are taken in blocks: scores, losses and gradients of a block are made in one place before the next
one, so that rows times K numbers are never there at once. Sums over rows go on from block to block, number by number.

Packing pays by the rows that pass. Where few meet many scores, weights are packed some columns at a time and used while
they are in cache, and dzᵀ = W_hy·dsᵀ packs the smaller matrix: the same products in the same order.
"""
from libc.stdint cimport int64_t
from libc.string cimport memset

from rnncore._core.gemm cimport (
    RunningOuter,
    begin_outer,
    bind_packed,
    clear,
    end_outer,
    go_on_outer,
    padded,
    team_column_sums,
    team_pack,
    team_product,
)
from rnncore._core.kernels cimport RC_FROM_BIAS, RC_FROM_C, RC_FROM_ZERO, parallel, rc_packed, stopping
from rnncore._core.sparse cimport Skip

cdef enum:
    ROWS_PER_TASK = 64
    BLOCK = 1048576  # scores that are made before they are used up,
    LEAST_ROWS = 96  # but so many rows: each block reads all weights
    FEW_ROWS = 96  # that pass by so
    MANY_SCORES = 1024  # that packed weights would be written to memory and read again
    COLUMNS = 192  # of the weights that are packed and used at a time: a multiple of every panel's width


cdef long target_bytes(const Core *c) noexcept nogil:
    """Size of what a row is to be: a class, or numbers."""
    if c.loss == ALIGNED:
        return 0  # they are not in rows
    if (c.loss == SOFTMAX and not c.soft) or c.loss == CHAIN:
        return sizeof(int64_t)
    return c.options.outputs * c.team.kernels.itemsize


cdef long block_rows(const Core *c, bint whole) noexcept nogil:
    """How many rows' scores are made at a time. whole: all of them, something else looks at them together."""
    cdef long rows = max(BLOCK // c.options.ld, LEAST_ROWS)
    return c.rows if whole or c.direct or of_sequences(c.loss) else min(c.rows, rows)


cdef Core window(const Core *c, long first, long rows) noexcept nogil:
    """The same head on some of the rows, their scores where those of the others were."""
    cdef Core part = c[0]
    cdef long size = c.team.kernels.itemsize
    cdef int s
    part.first = first
    part.rows = rows
    for s in range(c.parts):
        part.input[s].data += first * c.input[s].ld * size
        part.dz[s] += first * c.input[s].ld * size
    part.losses += first
    part.targets += first * target_bytes(c)
    if c.importance != NULL:
        part.importance += first
    return part


# ---------------------------------------------------------------- losses

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
    cdef char *targets = c.targets + first * target_bytes(c)
    if not job.training:
        if c.loss == SOFTMAX or c.loss == ALIGNED:
            c.team.kernels.softmax(rows, &c.options, scores)
        elif c.loss == SIGMOID:
            c.team.kernels.sigmoid(rows, &c.options, scores)
    elif c.loss == SOFTMAX and c.soft:
        c.team.kernels.soft_loss(rows, &c.options, c.scale, targets, scores, c.losses + first)
    elif c.loss == SOFTMAX:
        c.team.kernels.softmax_loss(rows, &c.options, c.scale, <int64_t *> targets, scores, c.losses + first)
    elif c.loss == SQUARED:
        c.team.kernels.squared_loss(rows, &c.options, c.scale, targets, scores, c.losses + first)
    else:
        c.team.kernels.sigmoid_loss(rows, &c.options, c.scale, targets, scores, c.losses + first)


cdef void finish_scores(Core *c, bint training) noexcept nogil:
    cdef LossJob job
    cdef int tasks = (c.rows + ROWS_PER_TASK - 1) // ROWS_PER_TASK
    job.c = c
    job.training = training
    parallel(loss_task, &job, tasks, c.team.threads if c.rows * c.options.outputs > 20000 else 1)


cdef void weigh_rows(Core *c) noexcept nogil:
    """Losses and gradients of each row, as much as it counts."""
    cdef long row
    cdef char *score
    for row in range(c.rows):
        score = c.scores + row * c.options.ld * c.team.kernels.itemsize
        c.losses[row] *= c.importance[row]
        c.team.kernels.scale(c.options.outputs, c.importance[row], score, score)


cdef void losses_of_rows(Core *c, Skip skip, bint training, bint fresh, bint accumulate) noexcept nogil:
    """The losses of all rows; training: and the gradients of all they are made of, from z on.

    fresh: z has no gradient yet. accumulate: but parameters have.
    """
    cdef RunningOuter sums[2]
    cdef Core part
    cdef long first = 0
    cdef bint once = skip is None and passes_once(c)
    if not c.direct and not once:
        pack_weights(c)
    if training:
        begin_gradient(c, sums, accumulate, turns(c, fresh))
    while first < c.rows and not (first and stopping()):
        part = window(c, first, min(c.block, c.rows - first))
        if once:
            project_once(&part)
        else:
            scores_of_rows(&part, skip)
        finish_scores(&part, True)
        if c.importance != NULL:
            weigh_rows(&part)
        if training:
            back_from_rows(&part, skip, sums, fresh, accumulate, turns(c, fresh))
        first += part.rows
    if training:
        end_gradient(c, sums)


# ---------------------------------------------------------------- scores

cdef void pack_some(Core *c, rc_packed *packed, const char *bias) noexcept nogil:
    cdef rc_packed *weights[2]
    cdef const char *biases[2]
    cdef int s
    for s in range(c.parts):
        weights[s] = &packed[s]
        biases[s] = NULL if s else bias
    team_pack(&c.team, weights, biases, c.parts)


cdef void pack_weights(Core *c) noexcept nogil:
    pack_some(c, c.weight, NULL if c.b_y < 0 else c.theta + c.b_y * c.team.kernels.itemsize)


cdef void pack_transposed(Core *c) noexcept nogil:
    pack_some(c, c.weight_T, NULL)


cdef void project(Core *c, bint add) noexcept nogil:
    """scores = (bias | 0 | scores) + z·W_hy."""
    cdef int s, start = RC_FROM_ZERO if c.b_y < 0 else RC_FROM_BIAS
    for s in range(c.parts):
        team_product(&c.team, &c.weight[s], c.rows, c.input[s].data, c.input[s].ld, RC_FROM_C if s or add else start,
                     c.scores, c.options.ld)


cdef bint passes_once(const Core *c) noexcept nogil:
    """Whether so few rows meet so many scores that packed weights are used but once."""
    return (c.rows <= min(c.block, FEW_ROWS) and c.options.outputs >= MANY_SCORES and not c.direct
            and c.team.gemm == NULL and c.team.storage == NULL)


cdef void once_task(void *arg, int index) noexcept nogil:
    """Pack some columns of the weights, and make these columns of the scores."""
    cdef Core *c = <Core *> arg
    cdef rc_packed some
    cdef const char *bias
    cdef long at = index * <long> COLUMNS, size = c.team.kernels.itemsize
    cdef int s
    for s in range(c.parts):
        some = c.weight[s]
        some.N = min(<long> COLUMNS, c.options.outputs - at)
        some.W = <char *> some.W + at * (some.ldw if some.transposed else 1) * size
        some.panels = <char *> some.panels + at * some.K * size
        some.block_at[0] = at
        if not some.transposed and at + COLUMNS < c.options.outputs:
            some.soon = <char *> some.W + COLUMNS * size
        bias = NULL
        if s == 0 and c.b_y >= 0:
            some.bias = <char *> some.bias + at * size
            bias = c.theta + (c.b_y + at) * size
        c.team.kernels.prepare(&some)
        c.team.kernels.pack(&some, bias, 0, some.panel_count)
        c.team.kernels.product(&some, c.rows, c.input[s].data, c.input[s].ld,
                               RC_FROM_C if s else RC_FROM_ZERO if c.b_y < 0 else RC_FROM_BIAS, c.scores, c.options.ld)


cdef void project_once(Core *c) noexcept nogil:
    """As `project`, of weights that are not packed yet."""
    parallel(once_task, c, (c.options.outputs + COLUMNS - 1) // COLUMNS, c.team.threads)


cdef bint turns(const Core *c, bint fresh) noexcept nogil:
    """Whether dzᵀ = W_hy·dsᵀ is made, for which there must be room where W_hyᵀ would be packed."""
    cdef int s
    for s in range(c.parts):
        if 2 * padded(c.team.kernels, c.rows) > c.input[s].width or c.input[s].width > c.options.outputs:
            return False
    return fresh and not c.tied and passes_once(c)


cdef void turned_product(Core *c, int s, const char *W) noexcept nogil:
    """dz = (W·dsᵀ)ᵀ, for one part of z."""
    cdef rc_packed ds_T
    cdef rc_packed *packed[1]
    cdef const char *bias[1]
    cdef long row, h, ldt = padded(c.team.kernels, c.rows), ld = c.input[s].ld, width = c.input[s].width
    cdef char *dz_T
    bind_packed(&c.team, &ds_T, c.options.outputs, c.rows, c.options.ld, True)
    ds_T.W = c.scores
    ds_T.panels = c.weight_T[s].panels
    dz_T = <char *> ds_T.panels + ldt * c.options.outputs * c.team.kernels.itemsize
    packed[0], bias[0] = &ds_T, NULL
    team_pack(&c.team, packed, bias, 1)
    team_product(&c.team, &ds_T, width, W, c.options.outputs, RC_FROM_ZERO, dz_T, ldt)
    for row in range(c.rows):
        for h in range(width, ld):
            memset(c.dz[s] + (row * ld + h) * c.team.kernels.itemsize, 0, c.team.kernels.itemsize)
        if c.team.kernels.itemsize == 4:
            for h in range(width):
                (<float *> c.dz[s])[row * ld + h] = (<const float *> dz_T)[h * ldt + row]
        else:
            for h in range(width):
                (<double *> c.dz[s])[row * ld + h] = (<const double *> dz_T)[h * ldt + row]


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


cdef void scores_of_rows(Core *c, Skip skip) noexcept nogil:
    """s = z·W_hy + b_y by packed weights, or the outputs themselves, and what sparse features add."""
    cdef bint add = skip is not None
    if add:
        skip.add(&c.team, c.theta, NULL if c.direct else c.theta + c.b_y * c.team.kernels.itemsize, c.scores,
                 c.options.ld)
    if c.direct:
        take_outputs(c, add)
    else:
        project(c, add)


# ---------------------------------------------------------------- back

cdef void begin_gradient(Core *c, RunningOuter *sums, bint accumulate, bint turned) noexcept nogil:
    """From here on rows add to dW_hy and db_y. turned: W_hyᵀ will not be needed."""
    cdef long row = 0, K = c.options.outputs, size = c.team.kernels.itemsize
    cdef int s
    if c.direct:
        return
    if not turned:
        pack_transposed(c)
    for s in range(c.parts if c.tied else 0):
        begin_outer(&sums[s], &c.team, K, c.input[s].width, c.rows, c.block, True, c.grad + (c.W_hy + row) * size, NULL)
        sums[s].ldc = c.weight[0].ldw
        sums[s].at_a_time = TABLE_ROWS
        row += c.input[s].width
    for s in range(0 if c.tied else c.parts):
        begin_outer(&sums[s], &c.team, c.input[s].width, K, c.rows, c.block, accumulate,
                    c.grad + (c.W_hy + row * K) * size, NULL if s or c.b_y < 0 else c.grad + c.b_y * size)
        row += c.input[s].width


cdef void end_gradient(Core *c, RunningOuter *sums) noexcept nogil:
    cdef int s
    for s in range(0 if c.direct else c.parts):
        end_outer(&sums[s])


cdef void back_from_rows(Core *c, Skip skip, RunningOuter *sums, bint fresh, bint accumulate,
                         bint turned) noexcept nogil:
    """From the scores' gradient to that of the parameters and of z. fresh: z has none yet."""
    cdef long row = 0
    cdef int s
    if skip is not None:
        skip.back(&c.team, c.scores, c.options.ld, c.grad)
    if c.direct:
        give_back(c, fresh)
        return
    if c.tied:
        team_column_sums(&c.team, c.rows, c.options.outputs, c.scores, c.options.ld, accumulate or c.first > 0,
                         c.grad + c.b_y * c.team.kernels.itemsize)
    for s in range(c.parts):
        if c.tied:
            go_on_outer(&sums[s], c.rows, c.scores, c.options.ld, c.input[s].data, c.input[s].ld)
        else:
            go_on_outer(&sums[s], c.rows, c.input[s].data, c.input[s].ld, c.scores, c.options.ld)
        if turned:
            turned_product(c, s, c.theta + (c.W_hy + row * c.options.outputs) * c.team.kernels.itemsize)
            row += c.input[s].width
            continue
        team_product(&c.team, &c.weight_T[s], c.rows, c.scores, c.options.ld, RC_FROM_ZERO if fresh else RC_FROM_C,
                     c.dz[s], c.input[s].ld)


cdef void give_back(Core *c, bint fresh) noexcept nogil:
    """dz (+)= (ds, 0)."""
    cdef long at = 0, count, size = c.team.kernels.itemsize
    cdef char *dz
    cdef int s
    for s in range(c.parts):
        dz = c.dz[s]
        if fresh:
            clear(dz, c.rows * c.input[s].ld * size)
        count = min(c.input[s].width, c.options.outputs - at)
        if count > 0 and fresh:
            c.team.kernels.copy(c.rows, count, c.scores + at * size, c.options.ld, dz, c.input[s].ld)
        elif count > 0:
            c.team.kernels.add(c.rows, count, c.scores + at * size, c.options.ld, dz, c.input[s].ld)
        at += max(count, 0)
