"""Forward and backward over all layers.

Per layer and direction, over many rows at once:  a = x·W_xh + b                    (gathered rows of W_xh for symbols)
where few symbols with an embedding fill many rows:  P = E·W_xh + b for each symbol,  a = P[id]
then step by step, inside the cell's kernel:      h_t from a_t and h_{t-1}          (time_loop.pyx)
backward, step by step:                           da_t from dh_t and da_{t+1}
then over all rows at once:                       dW_xh = xᵀ·da, dW_hh = h_prevᵀ·da, db = Σ da, dx = da·W_xhᵀ
and of few symbols:  dP[v] = Σ da over v's rows,  dW_xh = Eᵀ·dP,  dE = dP·W_xhᵀ
"""
from libc.stdint cimport int64_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from rnncore._core.dropout cimport (
    ON_INPUT,
    ON_OUTPUT,
    ON_STATE,
    draw_noise,
    drop,
    key_for,
    mask_states,
    recurrent_masks,
    site_of,
    zone_masks,
)
from rnncore._core.gemm cimport (
    Segment,
    padded,
    team_add_rows,
    team_column_sums,
    team_from_halves,
    team_outer,
    team_product,
    team_scatter,
)
from rnncore._core.kernels cimport (
    BETWEEN,
    RC_FROM_BIAS,
    RC_FROM_C,
    RC_FROM_ZERO,
    RC_INNER,
    RC_MAX_GATES,
    RC_MAX_MATRICES,
    rc_columns,
    rc_kernels,
    rc_cell_matrix,
    stopping,
    stops_after,
)
from rnncore._core.plan cimport (
    DENSE,
    EMBEDDED,
    SYMBOLS,
    Layer,
    Run,
    Unit,
    View,
    first_row,
    rows_between,
    state_width,
)
from rnncore._core.time_loop cimport run_steps

cdef enum:
    # Projecting step by step keeps `a` in cache, but all weights pass through it at every step: worth it where a
    # thread has enough rows, and few enough bytes of weights for each of them.
    FEWEST_ROWS = 12
    BYTES_PER_ROW = 40960


cdef void project(Run *r, Layer *layer, Unit *u, bint symbols, long first, long rows) noexcept nogil:
    """a = x·W_xh + b for some rows."""
    cdef const rc_kernels *kernels = r.team.kernels
    cdef long size = kernels.itemsize, H = u.gate, columns = u.kernel.input_gates * H, g, at
    cdef bint biased = not u.kernel.own_bias
    cdef char *a = u.a_rows + first * u.cell.lda * size
    cdef const char *scale = NULL if r.id_scale == NULL else r.id_scale + first * r.per_row * size
    cdef int s
    for g in range(u.kernel.input_gates if symbols else 0):
        at = u.kernel.input_at[g]
        kernels.gather(rows, H, r.per_row, r.ids + first * r.per_row, scale, r.theta + (u.W_xh + g * H) * size, columns,
                       r.theta + (u.b_h + at * H) * size if biased else NULL, a + at * u.gate_ld * size, u.cell.lda)
    for s in range(0 if symbols else layer.inputs):
        team_product(&r.team, &u.weights.input[s], rows, layer.operand[s].data + first * layer.operand[s].ld * size,
                     layer.operand[s].ld, RC_FROM_C if s else RC_FROM_BIAS if biased else RC_FROM_ZERO, a, u.cell.lda)
    if u.kernel.direct_at:
        pass_on(r, layer, u, symbols, first, rows)


cdef void pass_on(Run *r, Layer *layer, Unit *u, bint symbols, long first, long rows) noexcept nogil:
    """The block that x itself is added to: x + b, or the one-hot rows of symbols."""
    cdef const rc_kernels *kernels = r.team.kernels
    cdef long size = kernels.itemsize, H = u.cell.hidden, lda = u.cell.lda, row, at = u.kernel.direct_at - 1
    cdef long left = BETWEEN
    cdef char *block = u.a_rows + (first * lda + at * u.cell.ld) * size
    cdef const char *bias = r.theta + (u.b_h + at * H) * size if at < u.kernel.gates else NULL
    cdef const char *scale = NULL if r.id_scale == NULL else r.id_scale + first * r.per_row * size
    cdef int s
    if symbols:
        kernels.gather(rows, H, r.per_row, r.ids + first * r.per_row, scale, r.identity, H, bias, block, lda)
        return
    for row in range(rows):
        if stops_after(H, &left):
            return
        if bias != NULL:
            memcpy(block + row * lda * size, bias, H * size)
        else:
            memset(block + row * lda * size, 0, H * size)
    for s in range(layer.inputs):
        kernels.add(rows, layer.operand[s].width, layer.operand[s].data + first * layer.operand[s].ld * size,
                    layer.operand[s].ld, block, lda)
        block += layer.operand[s].width * size


cdef void make_products(Run *r, Unit *u) noexcept nogil:
    """Each symbol's E·W_xh + b."""
    team_product(&r.team, &u.weights.input[0], r.features, r.theta + r.table * r.team.kernels.itemsize, r.embedding,
                 RC_FROM_ZERO if u.kernel.own_bias else RC_FROM_BIAS, u.products, u.cell.lda)


cdef bint projects_by_step(const Run *r, const Layer *layer) noexcept nogil:
    """Whether x·W_xh is best computed just before each step, or for all rows at once."""
    cdef const Unit *u = &layer.unit[0]
    cdef long depth = u.cell.hidden, rows = r.view.rows // (r.view.steps * r.team.threads)
    cdef int s
    for s in range(layer.inputs):
        depth += layer.operand[s].width
    return r.team.gemm == NULL and not u.kernel.direct_at and rows >= FEWEST_ROWS and \
        depth * u.kernel.gates * u.gate * r.team.kernels.itemsize <= BYTES_PER_ROW * rows


cdef void find_times(Run *r) noexcept nogil:
    """The lengths of steps are the last column of the data, as they are before dropout."""
    cdef Segment *x = &r.layer[0].input[0]
    cdef int d
    for d in range(r.layer[0].units):
        if r.layer[0].unit[d].timed:
            r.layer[0].unit[d].cell.dt = x.data + (x.width - 1) * r.team.kernels.itemsize
            r.layer[0].unit[d].cell.dt_step = x.ld


cdef long end_of_window(const Run *r, const Layer *layer, long first) noexcept nogil:
    """Up to which step, in the order in which steps are taken, a is at hand from the first-th on."""
    cdef long end = first + 1
    cdef int d
    while end < r.view.steps:
        for d in range(layer.units):
            if rows_between(&r.view, first, end + 1, not layer.unit[d].reverse) > layer.window_rows:
                return end
        end += 1
    return end


cdef void move_window(const Run *r, Unit *u, long row) noexcept nogil:
    """Let a be of the rows from this one on."""
    if u.window != NULL:
        u.a_rows = u.window - row * u.cell.lda * r.team.kernels.itemsize
        u.cell.a = u.a_rows


cdef void layer_forward(Run *r, Layer *layer, bint symbols) noexcept nogil:
    """A layer through time, a window's steps after another's, or all of them."""
    cdef bint picks = r.picks and layer == &r.layer[0]
    cdef bint stepwise = picks or projects_by_step(r, layer) and not symbols
    cdef long first = 0, end, row
    cdef int d
    while first < r.view.steps and not (first and stopping()):
        end = end_of_window(r, layer, first) if layer.window_rows else r.view.steps
        for d in range(layer.units):
            row = first_row(&r.view, first, end, not layer.unit[d].reverse)
            move_window(r, &layer.unit[d], row)
            if not stepwise:
                project(r, layer, &layer.unit[d], symbols, row,
                        rows_between(&r.view, first, end, not layer.unit[d].reverse))
        run_steps(r, layer, first, end, False, True, stepwise)
        first = end


cdef void run_forward(Run *r) noexcept nogil:
    cdef Layer *layer
    cdef Unit *u
    cdef int n, s, d
    find_times(r)
    for n in range(r.layer_count):
        layer = &r.layer[n]
        for s in range(layer.inputs if layer.drops_input and not (n == 0 and r.kind == SYMBOLS) else 0):
            drop(r, layer.input[s], layer.operand[s], layer.dropout, site_of(ON_INPUT, n, s))
        for d in range(layer.units):
            u = &layer.unit[d]
            zone_masks(r, layer, u)
            if u.kernel.noise:
                draw_noise(r, u)
            if u.cell.mask != NULL:
                recurrent_masks(r, layer, u)
                if r.has_state:  # the initial states are states too
                    mask_states(r, layer, u)
            if n == 0 and r.picks:
                make_products(r, u)
        layer_forward(r, layer, n == 0 and r.kind == SYMBOLS)
        if layer.summed:
            r.team.kernels.copy(r.view.rows, layer.output[0].width, layer.unit[0].rows, layer.unit[0].cell.ldo,
                                layer.output[0].data, layer.output[0].ld)
            r.team.kernels.add(r.view.rows, layer.output[0].width, layer.unit[1].rows, layer.unit[1].cell.ldo,
                               layer.output[0].data, layer.output[0].ld)
    layer = &r.layer[r.layer_count - 1]
    for s in range(layer.outputs):
        if r.drops_output:
            drop(r, layer.output[s], r.finished[s], r.output_dropout, site_of(ON_OUTPUT, 0, s))


cdef void note_seen(Run *r) noexcept nogil:
    """List the symbols there are, each once, in order."""
    cdef long i, count = 0
    memset(r.seen, 0, r.features * sizeof(int64_t))
    for i in range(r.view.rows):
        if r.ids[i] >= 0:
            r.seen[r.ids[i]] = 1
    for i in range(r.features):
        if r.seen[i]:
            r.seen[count] = i
            count += 1
    r.seen_count = count


cdef void symbol_gradients(Run *r, Layer *layer, Unit *u, bint accumulate) noexcept nogil:
    """What da says of the symbols, to rows of W_xh's gradient, or of dP; and of the biases."""
    cdef long first = 0, rows = r.view.rows
    while layer.halves and first < r.view.rows and not (first and stopping()):
        rows = min(layer.window_rows, r.view.rows - first)
        team_from_halves(&r.team, rows, u.kernel.width * u.cell.ld, u.cell.da_halves + first * u.cell.ldh, u.cell.ldh,
                         u.window, u.cell.lda)
        gradients_of_rows(r, u, first, rows, u.window, accumulate or first > 0)
        first += rows
    if not layer.halves:
        gradients_of_rows(r, u, 0, rows, <const char *> u.cell.da, accumulate)


cdef void gradients_of_rows(Run *r, Unit *u, long first, long rows, const char *da, bint accumulate) noexcept nogil:
    """The same of some rows, from the first on."""
    cdef long size = r.team.kernels.itemsize, H = u.gate, ld = u.gate_ld, lda = u.cell.lda, g
    cdef long gates = u.kernel.input_gates, at = u.kernel.input_at[0] * ld * size
    cdef const int64_t *ids = r.ids + first * r.per_row
    cdef const char *scale = NULL if r.id_scale == NULL else r.id_scale + first * r.per_row * size
    if r.picks:
        team_scatter(&r.team, rows, gates * ld, 1, ids, NULL, da + at, lda, u.dproducts + at, lda)
    for g in range(0 if r.picks else gates):
        team_scatter(&r.team, rows, H, r.per_row, ids, scale, da + u.kernel.input_at[g] * ld * size, lda,
                     r.grad + (u.W_xh + g * H) * size, gates * H)
    for g in range(0 if u.kernel.own_bias else u.kernel.gates):
        team_column_sums(&r.team, rows, H, da + g * ld * size, lda, accumulate, r.grad + (u.b_h + g * H) * size)


cdef void product_gradients(Run *r, Unit *u, bint accumulate) noexcept nogil:
    """W_xh's gradient from dP, of the symbols there are: others may be anything."""
    cdef long size = r.team.kernels.itemsize, H = u.gate, gates = u.kernel.input_gates
    gate_outer(r, H, r.embedding, r.seen_count, r.theta + r.table * size, r.embedding, r.seen, u.dproducts, u.cell.lda,
               False, r.seen, gates, u.kernel.input_at, accumulate, u.W_xh, gates * H, gates, u.b_h)


cdef void embedding_gradient(Run *r) noexcept nogil:
    """What reached the embeddings to their table: row by row of the batch, or of the symbols there are."""
    cdef long size = r.team.kernels.itemsize, width = r.embedding, ld = padded(r.team.kernels, width), i
    cdef char *table = r.grad + r.table * size
    if not r.picks:
        team_scatter(&r.team, r.view.rows, width, r.per_row, r.ids, NULL, r.dx, ld, table, width)
        return
    for i in range(r.seen_count):
        r.team.kernels.add(1, width, r.dx + r.seen[i] * ld * size, ld, table + r.seen[i] * width * size, width)


cdef void input_gradient(Run *r, Layer *layer, int s, Segment target) noexcept nogil:
    """target = Σ over directions of da·W_xhᵀ, for input segment s."""
    cdef long size = r.team.kernels.itemsize, first = 0
    cdef bint picked = r.picks and layer == &r.layer[0]
    cdef Unit *u
    cdef int d, i
    for i in range(s):
        first += layer.input[i].width
    for d in range(layer.units):
        u = &layer.unit[d]
        if picked:
            team_product(&r.team, &u.weights.input_T[s], r.features, u.dproducts, u.cell.lda,
                         RC_FROM_C if d else RC_FROM_ZERO, target.data, target.ld)
            continue
        team_product(&r.team, &u.weights.input_T[s], r.view.rows,
                     <char *> u.cell.da_halves if layer.halves else <char *> u.cell.da,
                     u.cell.ldh if layer.halves else u.cell.lda, RC_FROM_C if d else RC_FROM_ZERO, target.data,
                     target.ld, layer.halves)
        if u.kernel.direct_at:
            r.team.kernels.add(r.view.rows, target.width,
                               <char *> u.cell.da + ((u.kernel.direct_at - 1) * u.cell.ld + first) * size, u.cell.lda,
                               target.data, target.ld)


cdef void pass_down(Run *r, int n) noexcept nogil:
    """The input gradient of layer n becomes the output gradient of layer n - 1."""
    cdef Layer *layer = &r.layer[n]
    cdef Layer *below = &r.layer[n - 1]
    cdef Segment target
    cdef int s
    for s in range(layer.inputs):
        target = layer.input[s]
        target.data = below.unit[s].dh
        target.ld = below.unit[s].cell.ldo
        input_gradient(r, layer, s, target)
        if layer.drops_input:
            drop(r, target, target, layer.dropout, site_of(ON_INPUT, n, s))
    if below.summed:
        share_gradient(r, below)


cdef void share_gradient(Run *r, Layer *layer) noexcept nogil:
    """Both directions of a summed output have the same gradient."""
    cdef long ld = layer.unit[0].cell.ldo
    r.team.kernels.copy(r.view.rows, ld, layer.unit[0].dh, ld, layer.unit[1].dh, ld)


cdef void add_state_gradient(Run *r, Layer *layer) noexcept nogil:
    """The final states' gradient joins the gradient of the outputs they are."""
    cdef View *v = &r.view
    cdef long b, width, size = r.team.kernels.itemsize
    cdef Unit *u
    cdef int d
    for d in range(layer.units):
        u = &layer.unit[d]
        width = u.cell.output
        for b in range(v.sequences if u.dfinal[0] != NULL else 0):
            r.team.kernels.add(1, width, u.dfinal[0] + v.order[b] * width * size, width,
                               u.dh + (b if u.reverse else v.last[b]) * u.cell.ldo * size, width)


cdef void through_time(Run *r) noexcept nogil:
    """Gate gradients of all layers.

    Truncated to h steps, path by path: after pass j the gate gradients hold every path of at most j steps back, the
    current one included,  D_j[t] = (dh[t] + D_{j-1}[t+1]·W_hhᵀ) ⊙ f'(a[t]),  so h passes over all layers give exactly
    the sum over outputs of the gradient through each output's own window.
    """
    cdef long passes = r.truncate if r.truncate else 1, p
    cdef int n, d
    find_times(r)
    for p in range(passes):
        for n in range(r.layer_count - 1, -1, -1):
            if n < r.layer_count - 1:
                pass_down(r, n + 1)
            if n < r.layer_count - 1 or p == 0:
                add_state_gradient(r, &r.layer[n])
            for d in range(r.layer[n].units):
                begin_pass(r, &r.layer[n], &r.layer[n].unit[d])
            run_steps(r, &r.layer[n], 0, r.view.steps, True, p > 0 or not r.truncate, False)


cdef void begin_pass(Run *r, Layer *layer, Unit *u) noexcept nogil:
    """Truncated: what the last pass wrote is what this pass reads. Sums over time start at zero."""
    cdef void *swap
    cdef int i
    if r.picks and layer == &r.layer[0]:
        memset(u.dproducts, 0, r.features * u.cell.lda * r.team.kernels.itemsize)
    if r.truncate:
        swap = u.cell.da
        u.cell.da = <void *> u.cell.dlater
        u.cell.dlater = swap
        for i in range(u.kernel.states):
            swap = u.cell.dcarry[i]
            u.cell.dcarry[i] = <void *> u.cell.dcarry_later[i]
            u.cell.dcarry_later[i] = swap
    for i in range(u.kernel.vectors):
        if u.cell.dvectors[i] != NULL:
            memset(u.cell.dvectors[i], 0, r.view.sequences * u.cell.ld * r.team.kernels.itemsize)


cdef void gate_outer(Run *r, long N, long M, long K, const char *A, long lda, const int64_t *a_rows, const char *da,
                     long ldd, bint halves, const int64_t *da_rows, int gates, const int *at, bint accumulate,
                     long place, long ldw, int summed, long sums) noexcept nogil:
    """grad[place:] (M, gates·N) = or += Aᵀ·(the gates' blocks of da); grad[sums:] likewise the column sums of the gates
    from number `summed` on."""
    cdef rc_columns run[RC_MAX_GATES]
    cdef long ld = padded(r.team.kernels, N), size = r.team.kernels.itemsize
    cdef int g, runs = 0
    for g in range(gates):
        if ld == N and g > 0 and g != summed and at[g] == at[g - 1] + 1:  # neighbours are one run
            run[runs - 1].count += N
            continue
        run[runs].at = at[g] * ld
        run[runs].count = N
        run[runs].sums = r.grad + (sums + (g - summed) * N) * size if g >= summed else NULL
        runs += 1
    team_outer(&r.team, M, K, A, lda, a_rows, da, ldd, da_rows, runs, run, accumulate, r.grad + place * size, ldw,
               halves)


cdef void matrix_gradient(Run *r, const Layer *layer, Unit *u, int i, bint accumulate) noexcept nogil:
    """dW = sourceᵀ·da of one of the cell's own matrices; da is doutput where it makes the output.

    A linked source is the state that each row started from: for W_hh, dW_hh = h_prevᵀ·da.
    """
    cdef View *v = &r.view
    cdef const rc_cell_matrix *matrix = &u.kernel.matrices[i]
    cdef long B = v.sequences, size = r.team.kernels.itemsize, ld = u.cell.ld, lda = u.cell.lda, N = u.cell.hidden
    cdef long M = u.weights.W[i].K, W = u.W[i], ldw = u.ldw[i]
    cdef long bias = u.vectors[matrix.bias - 1] if matrix.bias else 0
    cdef int gates = matrix.gates, last = gates - 1 if matrix.bias else gates
    cdef const int *at = matrix.at
    cdef bint halves = layer.halves and not matrix.to_output
    cdef const char *da = <const char *> u.cell.da
    cdef const char *source  # rows 0, 1, ...
    cdef long size_of_da = sizeof(uint16_t) if halves else size
    cdef int s
    if matrix.source >= RC_INNER:
        source = <const char *> u.cell.inner[matrix.source - RC_INNER]
        ld = u.cell.ldi
    else:
        ld = u.cell.lds[matrix.source]
        source = <const char *> (u.cell.carried if matrix.source == u.kernel.dropped else u.cell.before[matrix.source])
    if matrix.to_output:
        da, lda, N = <const char *> u.cell.doutput, u.cell.ldo, u.cell.output
    elif halves:
        da, lda = <const char *> u.cell.da_halves, u.cell.ldh
    if not matrix.linked:
        for s in range(u.cell.stages):
            gate_outer(r, N, M, v.rows, source + s * u.cell.ld * size, ld, NULL, da + s * u.cell.ld * size, lda, halves,
                       NULL, gates, at, accumulate or s > 0, W, ldw, last, bias)
    elif u.reverse:  # rows B, B+1, ... are the states that the rows `earlier` of them started from
        gate_outer(r, N, M, v.rows - B, source + B * ld * size, ld, NULL, da, lda, halves, v.earlier, gates, at,
                   accumulate, W, ldw, last, bias)
    else:
        gate_outer(r, N, M, v.rows - B, source, ld, v.earlier, da + B * lda * size_of_da, lda, halves, NULL, gates, at,
                   accumulate, W, ldw, last, bias)
    if matrix.linked and r.has_state:
        gate_outer(r, N, M, B, source - B * ld * size, ld, NULL, da, lda, halves, v.last if u.reverse else NULL, gates,
                   at, True, W, ldw, last, bias)
    elif matrix.linked and matrix.bias and halves:  # the bias is there at the first step, too
        first_gradients(r, u, at[last], 1, <char *> u.cell.work[i], u.cell.ld)
        team_add_rows(&r.team, B, NULL, N, <const char *> u.cell.work[i], u.cell.ld, r.grad + bias * size)
    elif matrix.linked and matrix.bias:
        da += at[last] * padded(r.team.kernels, N) * size
        team_add_rows(&r.team, B, v.last if u.reverse else NULL, N, da, lda, r.grad + bias * size)


cdef void first_gradients(Run *r, const Unit *u, int block, int blocks, char *out, long ldo) noexcept nogil:
    """out (B, ldo) = some blocks of da at each sequence's first step, from 16 bits."""
    cdef View *v = &r.view
    cdef long b, row
    for b in range(v.sequences):
        row = v.last[b] if u.reverse else b
        r.team.storage.mixed.from_halves(1, blocks * u.cell.ld,
                                         u.cell.da_halves + row * u.cell.ldh + block * u.cell.ld, u.cell.ldh,
                                         out + b * ldo * sizeof(float), ldo)


cdef void weight_gradients(Run *r, Layer *layer, Unit *u, bint symbols, bint accumulate) noexcept nogil:
    cdef long size = r.team.kernels.itemsize, H = u.gate, row = 0, g, lda = u.cell.ldh if layer.halves else u.cell.lda
    cdef long columns = u.kernel.input_gates * H, first = u.kernel.input_at[0]
    cdef char *da = <char *> u.cell.da_halves if layer.halves else <char *> u.cell.da
    cdef bint picked = r.picks and layer == &r.layer[0]
    cdef int s, i
    if symbols or picked:
        symbol_gradients(r, layer, u, accumulate)
    if picked:
        product_gradients(r, u, accumulate)
    for s in range(0 if symbols or picked else layer.inputs):
        gate_outer(r, H, layer.operand[s].width, r.view.rows, layer.operand[s].data, layer.operand[s].ld, NULL, da,
                   lda, layer.halves, NULL, u.kernel.input_gates, u.kernel.input_at, accumulate, u.W_xh + row * columns,
                   columns, u.kernel.input_gates if s or u.kernel.own_bias else 0, u.b_h + first * H)
        row += layer.operand[s].width
    for i in range(RC_MAX_MATRICES):
        if u.W[i] >= 0:
            matrix_gradient(r, layer, u, i, accumulate)
    for g in range(0 if u.kernel.own_bias or symbols or picked else u.kernel.gates):
        if not first <= g < first + u.kernel.input_gates:  # not yet summed with W_xh's gradient
            team_column_sums(&r.team, r.view.rows, H, da + g * u.gate_ld * size, lda, accumulate,
                             r.grad + (u.b_h + g * H) * size)
    for i in range(u.kernel.vectors):
        if u.cell.dvectors[i] != NULL:
            team_column_sums(&r.team, r.view.sequences, u.cell.hidden, <char *> u.cell.dvectors[i], u.cell.ld,
                             accumulate, r.grad + u.vectors[i] * size)


cdef void run_backward(Run *r, bint accumulate, bint need_dx) noexcept nogil:
    """From the outputs' gradients, in each top unit's dh, to all others."""
    cdef Layer *layer = &r.layer[r.layer_count - 1]
    cdef Segment target
    cdef int n, d
    for d in range(layer.units if r.apart else layer.outputs):
        if r.drops_output:
            target = layer.output[0 if r.apart else d]
            target.data = layer.unit[d].dh
            target.ld = layer.unit[d].cell.ldo
            drop(r, target, target, r.output_dropout, site_of(ON_OUTPUT, 0, 0 if r.apart else d))
    if layer.summed and not r.apart:
        share_gradient(r, layer)
    through_time(r)
    if r.picks:
        note_seen(r)
    for n in range(r.layer_count):
        layer = &r.layer[n]
        for d in range(layer.units):
            weight_gradients(r, layer, &layer.unit[d], n == 0 and r.kind == SYMBOLS, accumulate)
    if r.kind == EMBEDDED or (need_dx and r.kind == DENSE):
        layer = &r.layer[0]
        target = layer.input[0]
        target.data = r.dx
        target.ld = padded(r.team.kernels, target.width)
        input_gradient(r, layer, 0, target)
        if layer.drops_input:
            drop(r, target, target, layer.dropout, site_of(ON_INPUT, 0, 0))
        if r.kind == EMBEDDED:
            embedding_gradient(r)


cdef void state_gradient(Run *r, const Layer *layer, Unit *u, int state, char *work, char *out) noexcept nogil:
    """out (B, ld) = gradient of the initial states number `state`.

    It is Σ da·Wᵀ of each sequence's first step, over the matrices that met that state (under recurrent dropout's mask),
    and what that step hands back besides. Truncated to h steps, a path may take one step less before it takes the one
    to the initial state.
    """
    cdef View *v = &r.view
    cdef long b, first, ld = u.cell.lds[state], lda = u.cell.lda, width = state_width(u, state)
    cdef long size = r.team.kernels.itemsize
    cdef const char *da = <const char *> (u.cell.dlater if r.truncate else u.cell.da)
    cdef const char *carry = <const char *> (u.cell.dcarry_later[state] if r.truncate else u.cell.dcarry[state])
    cdef int i
    memset(out, 0, v.sequences * ld * size)
    if r.truncate == 1:
        return
    if layer.halves:
        first_gradients(r, u, 0, u.kernel.width, work, lda)
    for b in range(0 if layer.halves else v.sequences):
        memcpy(work + b * lda * size, da + (v.last[b] if u.reverse else b) * lda * size, lda * size)
    for i in range(RC_MAX_MATRICES):
        if u.W[i] >= 0 and u.kernel.matrices[i].linked and u.kernel.matrices[i].source == state:
            team_product(&r.team, &u.weights.W_T[i], v.sequences, work, lda, RC_FROM_C, out, ld)
    for b in range(v.sequences):
        if u.cell.mask != NULL and state == u.kernel.dropped:
            r.team.kernels.dropout(width, layer.recurrent_dropout,
                                   key_for(r.seed, r.drop_step, site_of(ON_STATE, u.number, 0), 0),
                                   <uint32_t> v.order[b], out + b * ld * size, out + b * ld * size)
        if carry != NULL:
            first = (v.last[b] if u.reverse else b) if u.cell.carry_per_row else b
            r.team.kernels.add(1, width, carry + first * ld * size, ld, out + b * ld * size, ld)
