"""Recurrent layers over packed batches: the unrolling over time, and back-propagation through it.

Per layer and direction, over all rows at once:   a = x·W_xh + b                    (gathered rows of W_xh for symbols)
then step by step, inside the cell's kernel:      h_t from a_t and h_{t-1}
backward, step by step:                           da_t from dh_t and da_{t+1}
then over all rows at once:                       dW_xh = xᵀ·da, dW_hh = h_prevᵀ·da, db = Σ da, dx = da·W_xhᵀ

This module knows arrays, not people: whoever calls has checked everything (rnncore._checks).
"""
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

import numpy as np

cimport numpy as cnp

from rnncore._core.batch cimport Batch
from rnncore._core.jobs cimport (
    Arena,
    Segment,
    Team,
    bind_gates,
    bind_gates_T,
    padded,
    team_column_sums,
    team_outer,
    team_pack,
    team_product,
    team_scatter,
)
from rnncore._core.lanes cimport (
    RC_FROM_BIAS,
    RC_FROM_C,
    RC_FROM_ZERO,
    gemm_for,
    lanes_for,
    parallel,
    rc_block,
    rc_cell_step,
    rc_lanes,
    rc_packed,
)

cnp.import_array()

cdef int IN_ORDER[4]  # gate g is block g: where W_xh's gates go
IN_ORDER[:] = [0, 1, 2, 3]

cdef enum:
    WEIGHTS_IN_CACHE = 2097152  # bytes

cdef enum Site:  # where dropout acts; part of the key of its random numbers
    ON_INPUT = 1
    ON_OUTPUT = 2
    ON_STATE = 3


# ---------------------------------------------------------------- time

cdef struct Walk:
    const Core *core
    const Layer *layer
    const View *view
    Unit **units
    int shards
    bint backward, linked, has_state, projects


cdef void step_block(const Walk *walk, const Unit *u, rc_cell_step step, int shard, long t, long first, long end,
                     bint goes_on) noexcept nogil:
    """Rows b in [first, end) of step t that belong to the shard; `goes_on`: all of them reach step t + 1."""
    cdef const View *v = walk.view
    cdef rc_block block
    cdef long b = first + (shard - first) % walk.shards
    if b < first:  # C's remainder keeps the sign
        b += walk.shards
    if b >= end:
        return
    cdef bint has_before = goes_on if u.reverse else t > 0
    cdef bint has_after = t > 0 if u.reverse else goes_on
    # the states that these rows start from: the step before, or the initial states in front of all rows
    cdef long before = v.offsets[t + 1 if u.reverse else t - 1] if has_before else -v.sequences
    block.row = v.offsets[t] + b
    block.sequence = b
    block.count = (end - b + walk.shards - 1) // walk.shards
    block.stride = walk.shards
    block.previous = before + b
    block.has_previous = has_before or walk.has_state
    block.ends = not has_after
    if walk.backward:
        block.has_link = has_after and walk.linked
        block.linked = b + (v.offsets[t - 1 if u.reverse else t + 1] if has_after else 0)
    else:
        block.has_link = block.has_previous
        block.linked = block.previous
        if walk.projects:
            project_block(walk, u, &block)
    step(&u.cell, &block)


cdef void project_block(const Walk *walk, const Unit *u, const rc_block *block) noexcept nogil:
    """a = x·W_xh + b for the rows of one step, just before they are needed: a stays in cache."""
    cdef const rc_lanes *lanes = walk.core.team.lanes
    cdef const Segment *x
    cdef int s
    for s in range(walk.layer.inputs):
        x = &walk.layer.dropped[s]
        lanes.product(&u.input[s], block.count, x.data + block.row * x.ld * lanes.itemsize, block.stride * x.ld,
                      RC_FROM_C if s else RC_FROM_BIAS, u.a_rows + block.row * u.cell.lda * lanes.itemsize,
                      block.stride * u.cell.lda)


cdef void walk_task(void *arg, int index) noexcept nogil:
    """One direction of one layer through all time steps, for the sequences b = shard (mod shards).

    Sequences are dealt, not cut into halves: longest first, halves would differ in work by half.
    """
    cdef const Walk *walk = <const Walk *> arg
    cdef const Unit *u = walk.units[index // walk.shards]
    cdef const View *v = walk.view
    cdef int shard = index % walk.shards
    cdef bint ascending = u.reverse == walk.backward
    cdef rc_cell_step step = u.kernel.backward if walk.backward else u.kernel.forward
    cdef long i, t, go_on
    for i in range(v.steps):
        t = i if ascending else v.steps - 1 - i
        go_on = v.active[t + 1] if t + 1 < v.steps else 0
        if not walk.backward and not u.reverse:  # what comes after does not matter here
            go_on = v.active[t]
        step_block(walk, u, step, shard, t, 0, go_on, True)
        step_block(walk, u, step, shard, t, go_on, v.active[t], False)


cdef void walk_layer(Core *c, Layer *layer, bint backward, bint linked, bint projects) noexcept nogil:
    cdef Walk walk
    walk.core = c
    walk.layer = layer
    walk.projects = projects
    cdef Unit *units[2]
    cdef long hidden = layer.unit[0].cell.hidden
    walk.view = &c.view
    walk.units = units
    walk.backward = backward
    walk.linked = linked
    walk.has_state = c.has_state
    walk.shards = 1
    units[0] = &layer.unit[0]
    units[1] = &layer.unit[1]
    cdef int threads = c.team.threads if c.view.rows * hidden * hidden * layer.unit[0].kernel.gates * layer.units > \
        500000 else 1
    if threads > layer.units:
        walk.shards = min((threads + layer.units - 1) // layer.units, c.view.sequences)
    parallel(walk_task, &walk, layer.units * walk.shards, threads)


# ---------------------------------------------------------------- dropout

cdef uint32_t key_for(uint64_t seed, uint64_t drop_step, uint64_t site, uint64_t t) noexcept nogil:
    """A key for each (seed, step counter, place in the net, time): the SplitMix64 finaliser over a sum."""
    cdef uint64_t z = seed * 0x9E3779B97F4A7C15u + drop_step * 0xBF58476D1CE4E5B9u + site * 0x94D049BB133111EBu + t + 1
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu
    return <uint32_t> ((z ^ (z >> 31)) >> 16)


cdef struct DropJob:
    const Core *c
    Segment source, target
    double rate
    uint64_t site
    int tasks

cdef void drop_task(void *arg, int index) noexcept nogil:
    cdef const DropJob *job = <const DropJob *> arg
    cdef const Core *c = job.c
    cdef const View *v = &c.view
    cdef long t, b, row, size = c.team.lanes.itemsize
    cdef uint32_t key
    t = index
    while t < v.steps:
        key = key_for(c.seed, c.drop_step, job.site, t)
        for b in range(v.active[t]):
            row = v.offsets[t] + b
            c.team.lanes.dropout(job.source.width, job.rate, key, <uint32_t> v.order[b],
                                 job.source.data + row * job.source.ld * size,
                                 job.target.data + row * job.target.ld * size)
        t += job.tasks


cdef void drop(const Core *c, Segment source, Segment target, double rate, uint64_t site) noexcept nogil:
    """target = source ⊙ mask; the same call on a gradient, in place, is its backward pass."""
    cdef DropJob job
    job.c = c
    job.source = source
    job.target = target
    job.rate = rate
    job.site = site
    job.tasks = c.team.threads
    parallel(drop_task, &job, job.tasks, job.tasks)


cdef uint64_t site_of(Site where, long layer, long part) noexcept nogil:
    return (<uint64_t> layer * 4 + where) * 4 + part


cdef void recurrent_masks(Core *c, const Layer *layer, Unit *u) noexcept nogil:
    """Recurrent dropout's factors: a row per sequence, or per state (the initial ones in front)."""
    cdef const rc_lanes *lanes = c.team.lanes
    cdef View *v = &c.view
    cdef long t, b, row, ld = u.cell.ld, size = lanes.itemsize
    cdef char *mask = <char *> u.cell.mask
    cdef uint64_t site = site_of(ON_STATE, u.number, 0)
    for t in range(-1, v.steps if layer.mask_per_step else 0):
        for b in range(v.sequences if t < 0 else v.active[t]):
            row = v.offsets[t] + b if t >= 0 else b - v.sequences if layer.mask_per_step else b
            lanes.dropout(u.cell.hidden, layer.recurrent_dropout, key_for(c.seed, c.drop_step, site, t + 1),
                          <uint32_t> v.order[b], NULL, mask + row * ld * size)


cdef void mask_states(Core *c, const Layer *layer, Unit *u) noexcept nogil:
    """carried = m⊙h for the initial states."""
    cdef View *v = &c.view
    cdef long B = v.sequences, b, back, size = c.team.lanes.itemsize, ld = u.cell.ld
    cdef uint32_t key = key_for(c.seed, c.drop_step, site_of(ON_STATE, u.number, 0), 0)
    for b in range(B):
        back = (b - B) * ld * size
        c.team.lanes.dropout(u.cell.hidden, layer.recurrent_dropout, key, <uint32_t> v.order[b], u.h_rows + back,
                             <char *> u.cell.carried + back)


# ---------------------------------------------------------------- forward

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
    """Project step by step where the weights are small enough to pass through the cache at every step."""
    cdef const Unit *u = &layer.unit[0]
    cdef long inputs = u.cell.hidden
    cdef int s
    for s in range(layer.inputs):
        inputs += layer.dropped[s].width
    return inputs * u.kernel.gates * u.cell.hidden * c.team.lanes.itemsize <= WEIGHTS_IN_CACHE and c.team.gemm == NULL


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


# ---------------------------------------------------------------- backward

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
    cdef int n, d, s
    for s in range(layer.outputs):
        if c.output_dropout > 0 and c.training:
            target = layer.output[s]
            target.data = layer.unit[s].dh
            target.ld = layer.unit[s].cell.ld
            drop(c, target, target, c.output_dropout, site_of(ON_OUTPUT, 0, s))
    if layer.summed:
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


cdef void to_packed(Core *c, Unit *u, const char *source, char *target) noexcept nogil:
    """Rows (B, H) of the caller's sequences to padded rows in packed order."""
    cdef long b, H = u.cell.hidden, size = c.team.lanes.itemsize
    for b in range(c.view.sequences):
        memcpy(target + b * u.cell.ld * size, source + c.view.order[b] * H * size, H * size)


# ---------------------------------------------------------------- the class

cdef class Stack:
    """Layers of one cell on flat parameters.

    Parameters
    ----------
    itemsize : int
        Bytes in a number, 4 or 8.
    layers : list of dicts
        Per layer: cell (its number), hidden, activation (its number), parameter, widths (of its input segments),
        summed (directions are added, not concatenated), dropout (rate on its input), recurrent_dropout,
        mask_per_step, and units: per direction a dict of reverse and the places of W_xh, W_hh and b_h in theta.
    kind : int
        Input: 0 dense, 1 symbols (ids pick rows of W_xh), 2 symbols through an embedding table.
    options : dict
        symbols, embedding (width), table (place in theta), output_dropout, truncate.
    """

    def __cinit__(self, int itemsize, list layers, int kind, dict options):
        cdef Core *c = &self.c
        cdef Layer *layer
        cdef Unit *u
        cdef int n, d, s, i
        cdef long largest = 0, H
        c.team.lanes = lanes_for(itemsize)
        c.team.gemm = gemm_for(itemsize)
        c.team.threads = 1
        c.kind = kind
        c.features = options["symbols"]
        c.embedding = options["embedding"]
        c.table = options["table"]
        c.output_dropout = options["output_dropout"]
        self.window = options["truncate"] or 0
        c.layer_count = len(layers)
        c.layer = <Layer *> PyMem_Calloc(c.layer_count, sizeof(Layer))
        if c.layer == NULL:
            raise MemoryError()
        self.arena = Arena()
        self.weights = Arena()
        for n in range(c.layer_count):
            layer = &c.layer[n]
            spec = layers[n]
            widths = spec["widths"]
            layer.units = len(spec["units"])
            layer.summed = spec["summed"]
            layer.dropout = spec["dropout"]
            layer.recurrent_dropout = spec["recurrent_dropout"]
            layer.mask_per_step = spec["mask_per_step"]
            layer.inputs = len(widths)
            layer.outputs = 1 if layer.summed else layer.units
            for d in range(layer.units):
                places = spec["units"][d]
                u = &layer.unit[d]
                u.kernel = &c.team.lanes.cells[<int> spec["cell"]]
                u.reverse = places["reverse"]
                u.number = self.state_count
                self.state_count += u.kernel.states
                u.W_xh, u.W_hh, u.b_h = places["W_xh"], places["W_hh"], places["b_h"]
                for i, place in enumerate(places["vectors"]):
                    u.vectors[i] = place
                u.cell.hidden = spec["hidden"]
                u.cell.ld = padded(c.team.lanes, u.cell.hidden)
                u.cell.lda = u.kernel.width * u.cell.ld
                u.cell.activation = spec["activation"]
                u.cell.flags = spec["flags"]
                u.cell.activation_parameter = spec["parameter"]
                u.cell.mask_per_row = layer.mask_per_step
                H = u.cell.hidden
                bind_gates(&c.team, &u.cell.recurrent, H, H, u.kernel.gates, u.kernel.recurrent_at, False)
                bind_gates_T(&c.team, &u.cell.recurrent_T, H, H, u.kernel.gates, u.kernel.recurrent_at)
                for s in range(layer.inputs):
                    layer.input[s].width = widths[s]
                    bind_gates(&c.team, &u.input[s], widths[s], H, u.kernel.gates, IN_ORDER, True)
                    bind_gates_T(&c.team, &u.input_T[s], widths[s], H, u.kernel.gates, IN_ORDER)
                    largest = max(largest, <long> widths[s] if self.packs_input(n) else 0)
                largest = max(largest, H)
        c.team.scratch_size = (c.team.lanes.outer_scratch(largest) * itemsize + 63) // 64 * 64
        self.carve_weights()

    def __dealloc__(self):
        PyMem_Free(self.c.layer)

    cdef bint packs_input(self, int n):
        return n > 0 or self.c.kind != SYMBOLS

    cdef carve_weights(self):
        """Places for the packed copies of the weights; with BLAS only the padded biases need one."""
        cdef Core *c = &self.c
        cdef const rc_lanes *lanes = c.team.lanes
        cdef Layer *layer
        cdef Unit *u
        cdef int n, d, s, i
        cdef long size = lanes.itemsize, ld
        while True:
            self.weights.start()
            for n in range(c.layer_count):
                layer = &c.layer[n]
                for d in range(layer.units):
                    u = &layer.unit[d]
                    ld = u.cell.ld * size
                    if self.packs_input(n):
                        u.input[0].bias = self.weights.take(u.kernel.gates * ld)
                    for i in range(u.kernel.vectors):
                        u.padded[i] = self.weights.take(ld) if u.vectors[i] >= 0 else NULL
                        u.cell.vectors[i] = u.padded[i]
                    if u.kernel.recurrent_bias:  # of the last gate's block
                        u.cell.recurrent.bias = u.padded[0] - (u.kernel.gates - 1) * ld
                    if c.team.gemm != NULL:
                        continue
                    u.cell.recurrent.panels = self.weights.take(lanes.packed_size(&u.cell.recurrent) * size)
                    u.cell.recurrent_T.panels = self.weights.take(lanes.packed_size(&u.cell.recurrent_T) * size)
                    for s in range(layer.inputs if self.packs_input(n) else 0):
                        u.input[s].panels = self.weights.take(lanes.packed_size(&u.input[s]) * size)
                        u.input_T[s].panels = self.weights.take(lanes.packed_size(&u.input_T[s]) * size)
            if not self.weights.settle():
                return

    def bind(self, theta, grad):
        """Read parameters from `theta` and write gradients to `grad`, flat contiguous arrays."""
        cdef Core *c = &self.c
        cdef Unit *u
        cdef int n, d, s
        cdef long size = c.team.lanes.itemsize, row
        self.theta = theta
        self.grad = grad
        self.tape = False
        c.theta = <char *> cnp.PyArray_DATA(theta)
        c.grad = <char *> cnp.PyArray_DATA(grad)
        for n in range(c.layer_count):
            for d in range(c.layer[n].units):
                u = &c.layer[n].unit[d]
                u.cell.recurrent.W = c.theta + u.W_hh * size
                u.cell.recurrent_T.W = c.theta + u.W_hh * size
                row = 0
                for s in range(c.layer[n].inputs):
                    u.input[s].W = u.input_T[s].W = c.theta + (u.W_xh + row * u.kernel.gates * u.cell.hidden) * size
                    row += u.input[s].K

    cdef void pack(self, bint backward) noexcept nogil:
        """Pack what the coming pass multiplies by."""
        cdef Core *c = &self.c
        cdef rc_packed *weights[64]
        cdef const char *biases[64]
        cdef int n, d, s, i, count = 0
        cdef Unit *u
        for n in range(c.layer_count):
            for d in range(c.layer[n].units):
                u = &c.layer[n].unit[d]
                for i in range(0 if backward else u.kernel.vectors):
                    if u.padded[i] != NULL:
                        memcpy(u.padded[i], c.theta + u.vectors[i] * c.team.lanes.itemsize,
                               u.cell.hidden * c.team.lanes.itemsize)
                if count > 60:
                    team_pack(&c.team, weights, biases, count)
                    count = 0
                weights[count] = &u.cell.recurrent_T if backward else &u.cell.recurrent
                biases[count] = NULL
                count += 1
                if n > 0 or c.kind != SYMBOLS:
                    for s in range(c.layer[n].inputs):
                        if backward and n == 0 and c.dx == NULL:
                            continue
                        weights[count] = &u.input_T[s] if backward else &u.input[s]
                        biases[count] = NULL if backward or s else c.theta + u.b_h * c.team.lanes.itemsize
                        count += 1
        team_pack(&c.team, weights, biases, count)

    cdef carve(self, bint dense_copy):
        """Places for the arrays of one batch."""
        cdef Core *c = &self.c
        cdef Layer *layer
        cdef Unit *u
        cdef int n, d, s
        cdef long size = c.team.lanes.itemsize, rows = c.view.rows, B = c.view.sequences, all_rows, ld
        cdef bint masked
        cdef char *place
        while True:
            self.arena.start()
            c.team.scratch = self.arena.take(c.team.scratch_size * c.team.threads) if c.training else NULL
            layer = &c.layer[0]
            c.ids = NULL
            if c.kind != DENSE:
                c.ids = <int64_t *> self.arena.take(rows * c.per_row * sizeof(int64_t))
                c.id_scale = NULL
                if c.kind == SYMBOLS and c.training and layer.dropout > 0:
                    c.id_scale = self.arena.take(rows * c.per_row * size)
            layer.input[0].ld = layer.input[0].width
            if c.kind == EMBEDDED:
                layer.input[0].ld = padded(c.team.lanes, layer.input[0].width)
            if c.kind == EMBEDDED or dense_copy:
                layer.input[0].data = self.arena.take(rows * layer.input[0].ld * size)
            for n in range(c.layer_count):
                layer = &c.layer[n]
                for s in range(layer.inputs if n else 0):
                    layer.input[s] = c.layer[n - 1].output[s]
                for s in range(layer.inputs if n or c.kind != SYMBOLS else 0):
                    layer.dropped[s] = layer.input[s]
                    if c.training and layer.dropout > 0:
                        layer.dropped[s].ld = padded(c.team.lanes, layer.input[s].width)
                        layer.dropped[s].data = self.arena.take(rows * layer.dropped[s].ld * size)
                masked = c.training and layer.recurrent_dropout > 0
                for d in range(layer.units):
                    u = &layer.unit[d]
                    ld = u.cell.ld
                    all_rows = rows + B
                    u.h_rows = self.arena.take(all_rows * ld * size) + B * ld * size
                    u.cell.h = u.cell.carried = u.a_rows = u.h_rows
                    if not u.kernel.in_place:
                        u.a_rows = self.arena.take(rows * u.cell.lda * size)
                    u.cell.a = u.a_rows
                    if u.kernel.states == 2:
                        u.cell.c = self.arena.take(all_rows * ld * size) + B * ld * size
                    if u.kernel.extra:
                        u.cell.extra = self.arena.take(rows * ld * size)
                    u.cell.mask = NULL
                    if masked:
                        u.cell.carried = self.arena.take(all_rows * ld * size) + B * ld * size
                        place = self.arena.take((all_rows if layer.mask_per_step else B) * ld * size)
                        u.cell.mask = place + B * ld * size if layer.mask_per_step else place
                    if c.training:
                        self.carve_backward(u, masked)
                    layer.output[d].data = u.h_rows
                    layer.output[d].ld = ld
                    layer.output[d].width = u.cell.hidden
                if layer.summed:
                    layer.output[0].data = self.arena.take(rows * layer.output[0].ld * size)
            for s in range(layer.outputs):
                c.finished[s] = layer.output[s]
                if c.training and c.output_dropout > 0:
                    c.finished[s].data = self.arena.take(rows * layer.output[s].ld * size)
            c.dx = NULL
            if c.training:
                layer = &c.layer[0]
                c.dx = self.arena.take(rows * padded(c.team.lanes, layer.input[0].width) * size) \
                    if self.want_dx or c.kind == EMBEDDED else NULL
            if not self.arena.settle():
                return

    cdef carve_backward(self, Unit *u, bint masked):
        """Places for gradients. They lie over what they replace, unless truncation needs that again."""
        cdef Core *c = &self.c
        cdef long size = c.team.lanes.itemsize, rows = c.view.rows, B = c.view.sequences, ld = u.cell.ld
        cdef int i
        if u.kernel.in_place:  # a is h, still needed
            u.cell.da = self.arena.take(rows * ld * size)
            u.dh = self.arena.take(rows * ld * size) if masked or c.truncate else <char *> u.cell.da
        else:
            u.cell.da = self.arena.take(rows * u.cell.lda * size) if c.truncate else u.cell.a
            u.dh = self.arena.take(rows * ld * size)
            u.cell.work = self.arena.take(B * ld * size)
        u.cell.dh = u.dh
        u.cell.dlater = self.arena.take(rows * u.cell.lda * size) if c.truncate else u.cell.da
        u.cell.carry_per_row = c.truncate > 0
        if u.kernel.carries:
            u.cell.dcarry = self.arena.take((rows if c.truncate else B) * ld * size)
            u.cell.dcarry_later = self.arena.take(rows * ld * size) if c.truncate else u.cell.dcarry
        if u.kernel.states == 2:
            u.dc_end = self.arena.take(B * ld * size)
        for i in range(u.kernel.vectors):
            u.cell.dvectors[i] = NULL
            if u.vectors[i] >= 0 and not u.kernel.recurrent_bias:
                u.cell.dvectors[i] = self.arena.take(B * ld * size)

    cdef load_rows(self, x, bint dense_copy):
        """Bring the caller's (T, B, ...) input into packed order; full dense batches are used where they lie."""
        cdef Core *c = &self.c
        cdef View *v = &c.view
        cdef long t, b, f, size = c.team.lanes.itemsize, width = c.layer[0].input[0].width, row
        cdef char *source = <char *> cnp.PyArray_DATA(x)
        cdef char *target = c.layer[0].input[0].data
        cdef int64_t *ids = <int64_t *> source
        cdef uint32_t key
        if c.kind == DENSE:
            if not dense_copy:
                c.layer[0].input[0].data = source
                if c.layer[0].dropped[0].data == target:
                    c.layer[0].dropped[0].data = source
                self.x = x  # must outlive the backward pass
                return
            for t in range(v.steps):
                for b in range(v.active[t]):
                    memcpy(target + (v.offsets[t] + b) * width * size,
                           source + (t * v.sequences + v.order[b]) * width * size, width * size)
            return
        for t in range(v.steps):
            for b in range(v.active[t]):
                memcpy(c.ids + (v.offsets[t] + b) * c.per_row, ids + (t * v.sequences + v.order[b]) * c.per_row,
                       c.per_row * sizeof(int64_t))
        if c.kind == EMBEDDED:
            c.team.lanes.gather(v.rows, width, c.per_row, c.ids, NULL, c.theta + c.table * size, width, NULL, target,
                                c.layer[0].input[0].ld)
        elif c.id_scale != NULL:
            for t in range(v.steps):
                key = key_for(c.seed, c.drop_step, site_of(ON_INPUT, 0, 0), t)
                for b in range(v.active[t]):
                    for f in range(c.per_row):
                        row = (v.offsets[t] + b) * c.per_row + f
                        if c.ids[row] >= 0:
                            c.team.lanes.dropout_at(c.features, c.layer[0].dropout, key, <uint32_t> v.order[b],
                                                    c.ids[row], c.id_scale + row * size)

    cdef load_states(self, state):
        """Put the initial states, arrays (B, H) unit by unit, in front of each unit's states."""
        cdef Core *c = &self.c
        cdef View *v = &c.view
        cdef long size = c.team.lanes.itemsize
        cdef Unit *u
        cdef int n, d, i
        c.has_state = state is not None
        for n in range(c.layer_count if c.has_state else 0):
            for d in range(c.layer[n].units):
                u = &c.layer[n].unit[d]
                for i in range(u.kernel.states):
                    to_packed(c, u, <char *> cnp.PyArray_DATA(state[u.number + i]),
                              <char *> (u.cell.c if i else u.cell.h) - v.sequences * u.cell.ld * size)

    cdef long top_segments(self, Segment *segments) noexcept:
        """The outputs, as the head sees them; returns how many parts they have."""
        cdef Core *c = &self.c
        cdef int s
        for s in range(c.layer[c.layer_count - 1].outputs):
            segments[s] = c.finished[s]
        return c.layer[c.layer_count - 1].outputs

    def forward(self, Batch batch, x, state, bint training, bint want_dx, int threads, seed, drop_step):
        """Run all layers.

        x : (T, B, D) of the layers' precision, or int64 ids (T, B) or (T, B, F); C-contiguous and checked.
        state : list of arrays (B, H), the states of each unit in turn, or None.
        """
        cdef Core *c = &self.c
        cdef View *v = &c.view
        cdef bint dense_copy = c.kind == DENSE and not batch.full
        self.tape = False
        self.batch = batch
        self.want_dx = want_dx
        v.steps = batch.steps
        v.sequences = batch.sequences
        v.rows = batch.rows
        v.full = batch.full
        v.offsets = batch.offsets
        v.active = batch.active
        v.order = batch.order
        v.length = batch.length
        v.last = batch.last
        v.earlier = batch.earlier
        c.training = training
        # no path takes more steps than this: a longer window cuts nothing off
        c.truncate = self.window if self.window <= batch.steps * c.layer_count else 0
        c.team.threads = threads
        c.seed = seed
        c.drop_step = drop_step
        c.per_row = x.shape[2] if c.kind != DENSE and x.ndim == 3 else 1
        self.carve(dense_copy)
        self.load_rows(x, dense_copy)
        self.load_states(state)
        with nogil:
            self.pack(False)
            run_forward(c)
        self.tape = training

    def backward(self, dstate, bint accumulate):
        """Back-propagate what `set_output_gradient` or a head left in the top units' dh.

        dstate : list of arrays (B, H), the states of each unit in turn, or None.
        Returns (dx (T, B, D) or None, list of the initial states' gradients (B, H) or None).
        """
        cdef Core *c = &self.c
        cdef Unit *u
        cdef int n, d
        if not self.tape:
            raise RuntimeError("backward() needs a forward(training=True) before it, and each forward serves one "
                               "backward: call forward again")
        self.tape = False
        for n in range(c.layer_count):
            for d in range(c.layer[n].units):
                u = &c.layer[n].unit[d]
                u.dstate = NULL
                u.cell.dc_end = NULL
                if dstate is not None:
                    u.dstate = <char *> cnp.PyArray_DATA(dstate[u.number])
                    if u.kernel.states == 2:
                        to_packed(c, u, <char *> cnp.PyArray_DATA(dstate[u.number + 1]), u.dc_end)
                        u.cell.dc_end = u.dc_end
        if c.kind != DENSE:
            self.clear_rows(accumulate)
        with nogil:
            self.pack(True)
            run_backward(c, accumulate, self.want_dx)
        dx = self.input_gradient_array() if self.want_dx and c.kind == DENSE else None
        return dx, self.state_gradients() if c.has_state else None

    # ------------------------------------------------------------ in and out

    def outputs(self):
        """Return the outputs (T, B, F), zero after a sequence's end."""
        cdef Core *c = &self.c
        cdef View *v = &c.view
        cdef Segment parts[2]
        cdef int s, count = self.top_segments(parts)
        cdef long t, b, width = 0, at = 0, size = c.team.lanes.itemsize
        for s in range(count):
            width += parts[s].width
        y = np.empty((v.steps, v.sequences, width), dtype=self.theta.dtype) if v.full else \
            np.zeros((v.steps, v.sequences, width), dtype=self.theta.dtype)
        cdef char *target = <char *> cnp.PyArray_DATA(y)
        for s in range(count):
            for t in range(v.steps):
                for b in range(v.active[t]):
                    memcpy(target + ((t * v.sequences + v.order[b]) * width + at) * size,
                           parts[s].data + (v.offsets[t] + b) * parts[s].ld * size, parts[s].width * size)
            at += parts[s].width
        return y

    def set_output_gradient(self, dy, bint final):
        """Take dy (T, B, F), of the layers' precision and C-contiguous, as the outputs' gradient.

        Where it has the core's own layout, and is `final` (nothing is added to it), it is read where it lies.
        """
        cdef Core *c = &self.c
        cdef View *v = &c.view
        cdef Layer *layer = &c.layer[c.layer_count - 1]
        cdef long t, b, at = 0, width = dy.shape[2], size = c.team.lanes.itemsize
        cdef const char *source = <const char *> cnp.PyArray_DATA(dy)
        cdef Unit *u
        cdef int s
        if not self.tape:
            return  # backward() says what is wrong
        u = &layer.unit[0]
        if final and v.full and u.cell.ld == width and c.output_dropout == 0 and not layer.summed:
            self.x = (self.x, dy)  # must outlive the backward pass
            u.cell.dh = <void *> source
            return
        for s in range(layer.outputs):
            u = &layer.unit[s]
            for t in range(v.steps):
                for b in range(v.active[t]):
                    memcpy(u.dh + (v.offsets[t] + b) * u.cell.ld * size,
                           source + ((t * v.sequences + v.order[b]) * width + at) * size, u.cell.hidden * size)
            at += u.cell.hidden

    def final_states(self):
        """Return the last states of each unit in turn, arrays (B, H); in reverse, those at the first step."""
        cdef Core *c = &self.c
        cdef View *v = &c.view
        cdef long b, H, size = c.team.lanes.itemsize
        cdef char *source
        cdef char *target
        cdef Unit *u
        cdef int n, d, i
        states = []
        for n in range(c.layer_count):
            for d in range(c.layer[n].units):
                u = &c.layer[n].unit[d]
                H = u.cell.hidden
                for i in range(u.kernel.states):
                    source = <char *> (u.cell.c if i else u.cell.h)
                    out = np.empty((v.sequences, H), dtype=self.theta.dtype)
                    target = <char *> cnp.PyArray_DATA(out)
                    for b in range(v.sequences):
                        memcpy(target + v.order[b] * H * size,
                               source + (b if u.reverse else v.last[b]) * u.cell.ld * size, H * size)
                    states.append(out)
        return states

    cdef input_gradient_array(self):
        cdef Core *c = &self.c
        cdef View *v = &c.view
        cdef long t, b, width = c.layer[0].input[0].width, size = c.team.lanes.itemsize
        cdef long ld = padded(c.team.lanes, width)
        dx = np.empty((v.steps, v.sequences, width), dtype=self.theta.dtype) if v.full else \
            np.zeros((v.steps, v.sequences, width), dtype=self.theta.dtype)
        cdef char *target = <char *> cnp.PyArray_DATA(dx)
        for t in range(v.steps):
            for b in range(v.active[t]):
                memcpy(target + (t * v.sequences + v.order[b]) * width * size,
                       c.dx + (v.offsets[t] + b) * ld * size, width * size)
        return dx

    cdef state_gradients(self):
        cdef Core *c = &self.c
        cdef View *v = &c.view
        cdef long b, H, ld, size = c.team.lanes.itemsize, B = v.sequences
        cdef int n, d, i
        cdef char *dh
        cdef char *target
        cdef Unit *u
        gradients = []
        for n in range(c.layer_count):
            for d in range(c.layer[n].units):
                u = &c.layer[n].unit[d]
                ld = u.cell.ld
                H = u.cell.hidden
                work = np.empty(B * (u.cell.lda + 2 * ld), dtype=self.theta.dtype)
                dh = <char *> cnp.PyArray_DATA(work) + B * u.cell.lda * size
                state_gradient(c, &c.layer[n], u, <char *> cnp.PyArray_DATA(work), dh, dh + B * ld * size)
                for i in range(u.kernel.states):
                    out = np.empty((B, H), dtype=self.theta.dtype)
                    target = <char *> cnp.PyArray_DATA(out)
                    for b in range(B):
                        memcpy(target + v.order[b] * H * size, dh + (i * B + b) * ld * size, H * size)
                    gradients.append(out)
        return gradients

    # ------------------------------------------------------------ symbols

    cdef clear_rows(self, bint accumulate):
        """Zero the gradient rows of earlier batches' symbols, and note this batch's."""
        cdef Core *c = &self.c
        cdef Unit *first = &c.layer[0].unit[0]
        cdef long width = c.embedding if c.kind == EMBEDDED else first.kernel.gates * first.cell.hidden
        cdef long i, d, size = c.team.lanes.itemsize, count = c.view.rows * c.per_row, tables
        cdef const int64_t[::1] old
        cdef char *place
        new = np.unique(np.asarray(<int64_t[:count]> c.ids))
        if new.size and new[0] < 0:
            new = new[1:]
        tables = 1 if c.kind == EMBEDDED else c.layer[0].units
        for d in range(tables if not accumulate else 0):
            place = c.grad + (c.table if c.kind == EMBEDDED else c.layer[0].unit[d].W_xh) * size
            if self.touched is None:
                memset(place, 0, c.features * width * size)
            else:
                old = self.touched
                for i in range(old.shape[0]):
                    memset(place + old[i] * width * size, 0, width * size)
        if not accumulate:
            self.touched = new
        elif self.touched is not None:
            self.touched = np.union1d(self.touched, new)

    def touched_symbols(self):
        """Return the sorted ids whose gradient rows may differ from zero, or None: any may."""
        return self.touched

    def sizes(self):
        """Return bytes held: packed weights, and arrays of the largest batch so far."""
        return self.weights.capacity, self.arena.capacity
