"""Forward and backward over all layers.

Per layer and direction, over all rows at once:   a = x·W_xh + b                    (gathered rows of W_xh for symbols)
then step by step, inside the cell's kernel:      h_t from a_t and h_{t-1}          (walk.pyx)
backward, step by step:                           da_t from dh_t and da_{t+1}
then over all rows at once:                       dW_xh = xᵀ·da, dW_hh = h_prevᵀ·da, db = Σ da, dx = da·W_xhᵀ
"""
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy, memset

from rnncore._core.dropout cimport (
    ON_INPUT,
    ON_OUTPUT,
    ON_STATE,
    drop,
    key_for,
    mask_states,
    recurrent_masks,
    site_of,
)
from rnncore._core.jobs cimport Segment, padded, team_column_sums, team_outer, team_product, team_scatter
from rnncore._core.lanes cimport RC_FROM_BIAS, RC_FROM_C, RC_FROM_ZERO, rc_lanes
from rnncore._core.layers cimport DENSE, EMBEDDED, SYMBOLS, Core, Layer, Unit, View
from rnncore._core.walk cimport walk_layer

cdef int IN_ORDER[4]  # gate g is block g: where W_xh's gates go
IN_ORDER[:] = [0, 1, 2, 3]

cdef enum:
    # Projecting step by step keeps `a` in cache, but all weights pass through it at every step: worth it where a
    # thread has enough rows, and few enough bytes of weights for each of them.
    FEWEST_ROWS = 12
    BYTES_PER_ROW = 32768


cdef void project(Core *c, Layer *layer, Unit *u, bint symbols) noexcept nogil:
    """a = x·W_xh + b for all rows."""
    cdef const rc_lanes *lanes = c.team.lanes
    cdef long size = lanes.itemsize, H = u.cell.hidden, G = u.kernel.gates, g
    cdef int s
    if symbols:
        for g in range(G):
            lanes.gather(c.view.rows, H, c.per_row, c.ids, c.id_scale, c.theta + (u.W_xh + g * H) * size, G * H,
                         c.theta + (u.b_h + g * H) * size, u.a_rows + g * u.cell.ld * size, u.cell.lda)
        return
    for s in range(layer.inputs):
        team_product(&c.team, &u.input[s], c.view.rows, layer.dropped[s].data, layer.dropped[s].ld,
                     RC_FROM_C if s else RC_FROM_BIAS, u.a_rows, u.cell.lda)


cdef bint projects_by_step(const Core *c, const Layer *layer) noexcept nogil:
    """Whether x·W_xh is best computed just before each step, or for all rows at once."""
    cdef const Unit *u = &layer.unit[0]
    cdef long depth = u.cell.hidden, rows = c.view.rows // (c.view.steps * c.team.threads)
    cdef int s
    for s in range(layer.inputs):
        depth += layer.dropped[s].width
    return c.team.gemm == NULL and rows >= FEWEST_ROWS and \
        depth * u.kernel.gates * u.cell.hidden * c.team.lanes.itemsize <= BYTES_PER_ROW * rows


cdef void run_forward(Core *c) noexcept nogil:
    cdef Layer *layer
    cdef Unit *u
    cdef int n, s, d
    cdef bint stepwise
    for n in range(c.layer_count):
        layer = &c.layer[n]
        for s in range(layer.inputs):
            if layer.dropped[s].data != layer.input[s].data:
                drop(c, layer.input[s], layer.dropped[s], layer.dropout, site_of(ON_INPUT, n, s))
        stepwise = projects_by_step(c, layer) and not (n == 0 and c.kind == SYMBOLS)
        for d in range(layer.units):
            u = &layer.unit[d]
            if u.cell.mask != NULL:
                recurrent_masks(c, layer, u)
                if c.has_state:  # the initial states are states too
                    mask_states(c, layer, u)
            if not stepwise:
                project(c, layer, u, n == 0 and c.kind == SYMBOLS)
        walk_layer(c, layer, False, True, stepwise)
        if layer.summed:
            c.team.lanes.copy(c.view.rows, layer.output[0].width, layer.unit[0].h_rows, layer.unit[0].cell.ld,
                              layer.output[0].data, layer.output[0].ld)
            c.team.lanes.add(c.view.rows, layer.output[0].width, layer.unit[1].h_rows, layer.unit[1].cell.ld,
                             layer.output[0].data, layer.output[0].ld)
    layer = &c.layer[c.layer_count - 1]
    for s in range(layer.outputs):
        if c.finished[s].data != layer.output[s].data:
            drop(c, layer.output[s], c.finished[s], c.output_dropout, site_of(ON_OUTPUT, 0, s))


cdef void input_gradient(Core *c, Layer *layer, int s, Segment target) noexcept nogil:
    """target = Σ over directions of da·W_xhᵀ, for input segment s."""
    cdef int d
    for d in range(layer.units):
        team_product(&c.team, &layer.unit[d].input_T[s], c.view.rows, <char *> layer.unit[d].cell.da,
                     layer.unit[d].cell.lda, RC_FROM_C if d else RC_FROM_ZERO, target.data, target.ld)


cdef void pass_down(Core *c, int n) noexcept nogil:
    """The input gradient of layer n becomes the output gradient of layer n - 1."""
    cdef Layer *layer = &c.layer[n]
    cdef Layer *below = &c.layer[n - 1]
    cdef Segment target
    cdef int s
    for s in range(layer.inputs):
        target = layer.input[s]
        target.data = below.unit[s].dh
        target.ld = below.unit[s].cell.ld
        input_gradient(c, layer, s, target)
        if layer.dropout > 0 and c.training:
            drop(c, target, target, layer.dropout, site_of(ON_INPUT, n, s))
    if below.summed:
        share_gradient(c, below)


cdef void share_gradient(Core *c, Layer *layer) noexcept nogil:
    """Both directions of a summed output have the same gradient."""
    memcpy(layer.unit[1].dh, layer.unit[0].dh, c.view.rows * layer.unit[0].cell.ld * c.team.lanes.itemsize)


cdef void add_state_gradient(Core *c, Layer *layer) noexcept nogil:
    """The final states' gradient joins the gradient of the outputs they are."""
    cdef View *v = &c.view
    cdef long b, H, size = c.team.lanes.itemsize
    cdef Unit *u
    cdef int d
    for d in range(layer.units):
        u = &layer.unit[d]
        H = u.cell.hidden
        for b in range(v.sequences if u.dstate != NULL else 0):
            c.team.lanes.add(1, H, u.dstate + v.order[b] * H * size, H,
                             u.dh + (b if u.reverse else v.last[b]) * u.cell.ld * size, H)


cdef void through_time(Core *c) noexcept nogil:
    """Gate gradients of all layers.

    Truncated to h steps, path by path: after pass j the gate gradients hold every path of at most j steps back, the
    current one included,  D_j[t] = (dh[t] + D_{j-1}[t+1]·W_hhᵀ) ⊙ f'(a[t]),  so h passes over all layers give exactly
    the sum over outputs of the gradient through each output's own window.
    """
    cdef long passes = c.truncate if c.truncate else 1, p
    cdef int n, d
    for p in range(passes):
        for n in range(c.layer_count - 1, -1, -1):
            if n < c.layer_count - 1:
                pass_down(c, n + 1)
            if n < c.layer_count - 1 or p == 0:
                add_state_gradient(c, &c.layer[n])
            for d in range(c.layer[n].units):
                begin_pass(c, &c.layer[n].unit[d])
            walk_layer(c, &c.layer[n], True, p > 0 or not c.truncate, False)


cdef void begin_pass(Core *c, Unit *u) noexcept nogil:
    """Truncated: what the last pass wrote is what this pass reads. Sums over time start at zero."""
    cdef void *swap
    cdef int i
    if c.truncate:
        swap = u.cell.da
        u.cell.da = <void *> u.cell.dlater
        u.cell.dlater = swap
        swap = u.cell.dcarry
        u.cell.dcarry = <void *> u.cell.dcarry_later
        u.cell.dcarry_later = swap
    for i in range(u.kernel.vectors):
        if u.cell.dvectors[i] != NULL:
            memset(u.cell.dvectors[i], 0, c.view.sequences * u.cell.ld * c.team.lanes.itemsize)


cdef void gate_outer(Core *c, Unit *u, long M, long K, const char *A, long lda, const int64_t *a_rows, const char *da,
                     const int64_t *da_rows, const int *at, bint accumulate, long place) noexcept nogil:
    """grad[place:] (M, gates·H) = or += Aᵀ·(the gates' blocks of da), neighbouring gates at once."""
    cdef long H = u.cell.hidden, ld = u.cell.ld, size = c.team.lanes.itemsize
    cdef int G = u.kernel.gates, g = 0, count
    while g < G:
        count = 1
        while ld == H and g + count < G and at[g + count] == at[g] + count:
            count += 1
        team_outer(&c.team, M, count * H, K, A, lda, a_rows, da + at[g] * ld * size, u.cell.lda, da_rows, accumulate,
                   c.grad + (place + g * H) * size, G * H)
        g += count


cdef void recurrent_gradient(Core *c, Unit *u, bint accumulate) noexcept nogil:
    """dW_hh = h_prevᵀ·da: every row with the state it started from."""
    cdef View *v = &c.view
    cdef long B = v.sequences, H = u.cell.hidden, ld = u.cell.ld, lda = u.cell.lda, size = c.team.lanes.itemsize
    cdef char *first = <char *> u.cell.carried          # rows 0, 1, ...
    cdef char *da = <char *> u.cell.da
    cdef const int *at = u.kernel.recurrent_at
    if u.reverse:  # rows B, B+1, ... are the states that the rows `earlier` of them started from
        gate_outer(c, u, H, v.rows - B, first + B * ld * size, ld, NULL, da, v.earlier, at, accumulate, u.W_hh)
    else:
        gate_outer(c, u, H, v.rows - B, first, ld, v.earlier, da + B * lda * size, NULL, at, accumulate, u.W_hh)
    if c.has_state:
        gate_outer(c, u, H, B, first - B * ld * size, ld, NULL, da, v.last if u.reverse else NULL, at, True, u.W_hh)


cdef void weight_gradients(Core *c, Layer *layer, Unit *u, bint symbols, bint accumulate) noexcept nogil:
    cdef long size = c.team.lanes.itemsize, H = u.cell.hidden, ld = u.cell.ld, lda = u.cell.lda, row = 0, g
    cdef long G = u.kernel.gates
    cdef char *da = <char *> u.cell.da
    cdef int s, i
    for g in range(G if symbols else 0):
        team_scatter(&c.team, c.view.rows, H, c.per_row, c.ids, c.id_scale, da + g * ld * size, lda,
                     c.grad + (u.W_xh + g * H) * size, G * H)
    for s in range(0 if symbols else layer.inputs):
        gate_outer(c, u, layer.dropped[s].width, c.view.rows, layer.dropped[s].data, layer.dropped[s].ld, NULL, da,
                   NULL, IN_ORDER, accumulate, u.W_xh + row * G * H)
        row += layer.dropped[s].width
    recurrent_gradient(c, u, accumulate)
    for g in range(G):
        team_column_sums(&c.team, c.view.rows, H, da + g * ld * size, lda, accumulate, c.grad + (u.b_h + g * H) * size)
    if u.kernel.recurrent_bias:
        team_column_sums(&c.team, c.view.rows, H, da + u.kernel.recurrent_at[G - 1] * ld * size, lda, accumulate,
                         c.grad + u.vectors[0] * size)
    for i in range(u.kernel.vectors):
        if u.cell.dvectors[i] != NULL:
            team_column_sums(&c.team, c.view.sequences, H, <char *> u.cell.dvectors[i], ld, accumulate,
                             c.grad + u.vectors[i] * size)


cdef void run_backward(Core *c, bint accumulate, bint need_dx) noexcept nogil:
    """From the outputs' gradients, in each top unit's dh, to all others."""
    cdef Layer *layer = &c.layer[c.layer_count - 1]
    cdef Segment target
    cdef int n, d
    for d in range(layer.units if c.apart else layer.outputs):
        if c.output_dropout > 0 and c.training:
            target = layer.output[0 if c.apart else d]
            target.data = layer.unit[d].dh
            target.ld = layer.unit[d].cell.ld
            drop(c, target, target, c.output_dropout, site_of(ON_OUTPUT, 0, 0 if c.apart else d))
    if layer.summed and not c.apart:
        share_gradient(c, layer)
    through_time(c)
    for n in range(c.layer_count):
        layer = &c.layer[n]
        for d in range(layer.units):
            weight_gradients(c, layer, &layer.unit[d], n == 0 and c.kind == SYMBOLS, accumulate)
    if c.kind == EMBEDDED or (need_dx and c.kind == DENSE):
        layer = &c.layer[0]
        target = layer.input[0]
        target.data = c.dx
        target.ld = padded(c.team.lanes, target.width)
        input_gradient(c, layer, 0, target)
        if layer.dropout > 0 and c.training:
            drop(c, target, target, layer.dropout, site_of(ON_INPUT, 0, 0))
        if c.kind == EMBEDDED:
            team_scatter(&c.team, c.view.rows, c.embedding, c.per_row, c.ids, NULL, c.dx, target.ld,
                         c.grad + c.table * c.team.lanes.itemsize, c.embedding)


cdef void state_gradient(Core *c, const Layer *layer, Unit *u, char *work, char *dh, char *dc) noexcept nogil:
    """dh, dc (B, ld) = the initial states' gradients: m ⊙ (da of each sequence's first step · W_hhᵀ), and what that
    step hands back besides.

    Truncated to h steps, a path may take one step less before it takes the one to the initial state.
    """
    cdef View *v = &c.view
    cdef long b, first, ld = u.cell.ld, lda = u.cell.lda, H = u.cell.hidden, size = c.team.lanes.itemsize
    cdef const char *da = <const char *> (u.cell.dlater if c.truncate else u.cell.da)
    cdef const char *carry = <const char *> (u.cell.dcarry_later if c.truncate else u.cell.dcarry)
    if c.truncate == 1:
        memset(dh, 0, v.sequences * ld * size)
        memset(dc, 0, v.sequences * ld * size)
        return
    for b in range(v.sequences):
        memcpy(work + b * lda * size, da + (v.last[b] if u.reverse else b) * lda * size, lda * size)
    team_product(&c.team, &u.cell.recurrent_T, v.sequences, work, lda, RC_FROM_ZERO, dh, ld)
    for b in range(v.sequences):
        if u.cell.mask != NULL:
            c.team.lanes.dropout(H, layer.recurrent_dropout,
                                 key_for(c.seed, c.drop_step, site_of(ON_STATE, u.number, 0), 0),
                                 <uint32_t> v.order[b], dh + b * ld * size, dh + b * ld * size)
        if u.kernel.carries:
            first = (v.last[b] if u.reverse else b) if u.cell.carry_per_row else b
            if u.kernel.states == 2:
                memcpy(dc + b * ld * size, carry + first * ld * size, H * size)
            else:
                c.team.lanes.add(1, H, carry + first * ld * size, ld, dh + b * ld * size, ld)
