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
    bind_packed,
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

cdef enum Site:  # where dropout acts; part of the key of its random numbers
    ON_INPUT = 1
    ON_OUTPUT = 2
    ON_STATE = 3


# ---------------------------------------------------------------- time

cdef struct Walk:
    const View *view
    Unit **units
    int shards
    bint backward, linked, has_state


cdef void step_block(const Walk *walk, const Unit *u, rc_cell_step step, long start, long neighbour, long first,
                     long end, bint linked, int shard) noexcept nogil:
    """Rows start + b of one step, for b in [first, end) that belong to the shard."""
    cdef rc_block block
    cdef long b = first + (shard - first) % walk.shards
    if b < first:  # C's remainder keeps the sign
        b += walk.shards
    if b >= end:
        return
    block.row = start + b
    block.linked = neighbour + b
    block.sequence = b
    block.count = (end - b + walk.shards - 1) // walk.shards
    block.stride = walk.shards
    block.has_link = linked
    step(&u.cell, &block)


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
    cdef long i, t, neighbour, linked
    for i in range(v.steps):
        t = i if ascending else v.steps - 1 - i
        neighbour = t - 1 if ascending else t + 1
        linked = 0
        if walk.linked and 0 <= neighbour < v.steps:
            linked = min(v.active[t], v.active[neighbour])
            step_block(walk, u, step, v.offsets[t], v.offsets[neighbour], 0, linked, True, shard)
        if linked < v.active[t]:  # sequences that begin (or, backward, end) at this step
            step_block(walk, u, step, v.offsets[t], -v.sequences, linked, v.active[t],
                       walk.has_state and not walk.backward, shard)


cdef void walk_layer(Core *c, Layer *layer, bint backward, bint linked) noexcept nogil:
    cdef Walk walk
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
    cdef int threads = c.team.threads if c.view.rows * hidden * hidden * layer.units > 500000 else 1
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
    cdef long size = lanes.itemsize
    cdef int s
    if symbols:
        lanes.gather(c.view.rows, u.cell.hidden, c.per_row, c.ids, c.id_scale, c.theta + u.W_xh * size, u.cell.hidden,
                     c.theta + u.b_h * size, u.h_rows, u.cell.ld)
        return
    for s in range(layer.inputs):
        team_product(&c.team, &u.input[s], c.view.rows, layer.dropped[s].data, layer.dropped[s].ld,
                     RC_FROM_C if s else RC_FROM_BIAS, u.h_rows, u.cell.ld)


cdef void run_forward(Core *c) noexcept nogil:
    cdef Layer *layer
    cdef Unit *u
    cdef int n, s, d
    cdef long i, size = c.team.lanes.itemsize
    for n in range(c.layer_count):
        layer = &c.layer[n]
        for s in range(layer.inputs):
            if layer.dropped[s].data != layer.input[s].data:
                drop(c, layer.input[s], layer.dropped[s], layer.dropout, site_of(ON_INPUT, n, s))
        for d in range(layer.units):
            u = &layer.unit[d]
            if u.cell.mask != NULL:
                recurrent_masks(c, layer, u)
                if c.has_state:  # the initial states are states too
                    mask_states(c, layer, u)
            project(c, layer, u, n == 0 and c.kind == SYMBOLS)
        walk_layer(c, layer, False, True)
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
        team_product(&c.team, &layer.unit[d].input_T[s], c.view.rows, <char *> layer.unit[d].cell.dgates,
                     layer.unit[d].cell.ld, RC_FROM_C if d else RC_FROM_ZERO, target.data, target.ld)


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
    cdef Unit *u
    cdef void *swap
    for p in range(passes):
        for n in range(c.layer_count - 1, -1, -1):
            if n < c.layer_count - 1:
                pass_down(c, n + 1)
            if n < c.layer_count - 1 or p == 0:
                add_state_gradient(c, &c.layer[n])
            if c.truncate:
                for d in range(c.layer[n].units):
                    u = &c.layer[n].unit[d]
                    swap = u.cell.dgates
                    u.cell.dgates = <void *> u.cell.dlater
                    u.cell.dlater = swap
            walk_layer(c, &c.layer[n], True, p > 0 or not c.truncate)


cdef void recurrent_gradient(Core *c, Unit *u, bint accumulate) noexcept nogil:
    """dW_hh = h_prevᵀ·da: every row with the state it started from."""
    cdef View *v = &c.view
    cdef long B = v.sequences, H = u.cell.hidden, ld = u.cell.ld, size = c.team.lanes.itemsize
    cdef char *first = <char *> u.cell.carried          # rows 0, 1, ...
    cdef char *da = <char *> u.cell.dgates
    cdef char *target = c.grad + u.W_hh * size
    if u.reverse:  # rows B, B+1, ... are the states that the rows `earlier` of them started from
        team_outer(&c.team, H, H, v.rows - B, first + B * ld * size, ld, NULL, da, ld, v.earlier, accumulate, target, H)
    else:
        team_outer(&c.team, H, H, v.rows - B, first, ld, v.earlier, da + B * ld * size, ld, NULL, accumulate, target, H)
    if c.has_state:
        team_outer(&c.team, H, H, B, first - B * ld * size, ld, NULL, da, ld, v.last if u.reverse else NULL, True,
                   target, H)


cdef void weight_gradients(Core *c, Layer *layer, Unit *u, bint symbols, bint accumulate) noexcept nogil:
    cdef long size = c.team.lanes.itemsize, H = u.cell.hidden, ld = u.cell.ld, row = 0
    cdef char *da = <char *> u.cell.dgates
    cdef int s
    if symbols:
        team_scatter(&c.team, c.view.rows, H, c.per_row, c.ids, c.id_scale, da, ld, c.grad + u.W_xh * size, H)
    else:
        for s in range(layer.inputs):
            team_outer(&c.team, layer.dropped[s].width, H, c.view.rows, layer.dropped[s].data, layer.dropped[s].ld,
                       NULL, da, ld, NULL, accumulate, c.grad + (u.W_xh + row * H) * size, H)
            row += layer.dropped[s].width
    recurrent_gradient(c, u, accumulate)
    team_column_sums(&c.team, c.view.rows, H, da, ld, accumulate, c.grad + u.b_h * size)


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


cdef void state_gradient(Core *c, const Layer *layer, Unit *u, char *work, char *out) noexcept nogil:
    """out (B, ld) = the initial states' gradient: m ⊙ (da of each sequence's first step · W_hhᵀ).

    Truncated to h steps, a path may take one step less before it takes the one to the initial state.
    """
    cdef View *v = &c.view
    cdef long b, ld = u.cell.ld, H = u.cell.hidden, size = c.team.lanes.itemsize
    cdef const char *da = <const char *> (u.cell.dlater if c.truncate else u.cell.dgates)
    if c.truncate == 1:
        memset(out, 0, v.sequences * ld * size)
        return
    for b in range(v.sequences):
        memcpy(work + b * ld * size, da + (v.last[b] if u.reverse else b) * ld * size, H * size)
    team_product(&c.team, &u.cell.recurrent_T, v.sequences, work, ld, RC_FROM_ZERO, out, ld)
    if u.cell.mask != NULL:
        for b in range(v.sequences):
            c.team.lanes.dropout(H, layer.recurrent_dropout,
                                 key_for(c.seed, c.drop_step, site_of(ON_STATE, u.number, 0), 0),
                                 <uint32_t> v.order[b], out + b * ld * size, out + b * ld * size)


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
        cdef rc_packed *B
        cdef int n, d, s
        cdef long largest = 0, N
        c.team.lanes = lanes_for(itemsize)
        c.team.gemm = gemm_for(itemsize)
        c.team.threads = 1
        c.kind = kind
        c.features = options["symbols"]
        c.embedding = options["embedding"]
        c.table = options["table"]
        c.output_dropout = options["output_dropout"]
        c.truncate = options["truncate"] or 0
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
                u.number = self.unit_count
                self.unit_count += 1
                u.W_xh, u.W_hh, u.b_h = places["W_xh"], places["W_hh"], places["b_h"]
                u.cell.hidden = spec["hidden"]
                u.cell.ld = padded(c.team.lanes, u.cell.hidden)
                u.cell.gates = 1
                u.cell.activation = spec["activation"]
                u.cell.activation_parameter = spec["parameter"]
                u.cell.mask_per_row = layer.mask_per_step
                N = u.cell.hidden
                bind_packed(&c.team, &u.cell.recurrent, N, N, N, False)
                bind_packed(&c.team, &u.cell.recurrent_T, N, N, N, True)
                for s in range(layer.inputs):
                    layer.input[s].width = widths[s]
                    bind_packed(&c.team, &u.input[s], widths[s], N, N, False)
                    bind_packed(&c.team, &u.input_T[s], N, widths[s], N, True)
                    largest = max(largest, <long> widths[s] if self.packs_input(n) else 0)
                largest = max(largest, u.cell.hidden)
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
        cdef int n, d, s
        cdef long size = lanes.itemsize
        while True:
            self.weights.start()
            for n in range(c.layer_count):
                layer = &c.layer[n]
                for d in range(layer.units):
                    u = &layer.unit[d]
                    if self.packs_input(n):
                        u.input[0].bias = self.weights.take(u.cell.ld * size)
                    if c.team.gemm != NULL:
                        continue
                    u.cell.recurrent.panels = self.weights.take(lanes.packed_size(u.cell.hidden, u.cell.hidden) * size)
                    u.cell.recurrent_T.panels = self.weights.take(
                        lanes.packed_size(u.cell.hidden, u.cell.hidden) * size)
                    for s in range(layer.inputs if self.packs_input(n) else 0):
                        u.input[s].panels = self.weights.take(lanes.packed_size(u.input[s].K, u.input[s].N) * size)
                        u.input_T[s].panels = self.weights.take(
                            lanes.packed_size(u.input_T[s].K, u.input_T[s].N) * size)
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
                    u.input[s].W = u.input_T[s].W = c.theta + (u.W_xh + row * u.cell.hidden) * size
                    row += u.input[s].K

    cdef void pack(self, bint backward) noexcept nogil:
        """Pack what the coming pass multiplies by."""
        cdef Core *c = &self.c
        cdef rc_packed *weights[64]
        cdef const char *biases[64]
        cdef int n, d, s, count = 0
        cdef Unit *u
        for n in range(c.layer_count):
            for d in range(c.layer[n].units):
                u = &c.layer[n].unit[d]
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
                    u.cell.h = u.cell.carried = u.h_rows
                    u.cell.mask = NULL
                    if masked:
                        u.cell.carried = self.arena.take(all_rows * ld * size) + B * ld * size
                        place = self.arena.take((all_rows if layer.mask_per_step else B) * ld * size)
                        u.cell.mask = place + B * ld * size if layer.mask_per_step else place
                    if c.training:
                        u.cell.dgates = self.arena.take(rows * ld * size)
                        u.dh = <char *> u.cell.dgates
                        u.cell.dlater = u.cell.dgates
                        if masked or c.truncate:
                            u.dh = self.arena.take(rows * ld * size)
                        if c.truncate:
                            u.cell.dlater = self.arena.take(rows * ld * size)
                        u.cell.dh = u.dh
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
        """Put the initial states, an array (B, H) per unit, in front of each unit's states."""
        cdef Core *c = &self.c
        cdef View *v = &c.view
        cdef long b, H, size = c.team.lanes.itemsize, B = v.sequences
        cdef char *source
        cdef Unit *u
        cdef int n, d
        c.has_state = state is not None
        if state is None:
            return
        for n in range(c.layer_count):
            for d in range(c.layer[n].units):
                u = &c.layer[n].unit[d]
                source = <char *> cnp.PyArray_DATA(state[u.number])
                H = u.cell.hidden
                for b in range(B):
                    memcpy(u.h_rows + (b - B) * u.cell.ld * size, source + v.order[b] * H * size, H * size)

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
        state : list of arrays (B, H), one per unit, or None.
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

        dstate : list of arrays (B, H), one per unit, or None.
        Returns (dx (T, B, D) or None, list of the initial states' gradients (B, H) or None).
        """
        cdef Core *c = &self.c
        cdef int n, d
        if not self.tape:
            raise RuntimeError("backward() needs a forward(training=True) before it, and each forward serves one "
                               "backward: call forward again")
        self.tape = False
        for n in range(c.layer_count):
            for d in range(c.layer[n].units):
                c.layer[n].unit[d].dstate = NULL if dstate is None else \
                    <char *> cnp.PyArray_DATA(dstate[c.layer[n].unit[d].number])
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

    def set_output_gradient(self, dy):
        """Take dy (T, B, F), of the layers' precision and C-contiguous, as the outputs' gradient."""
        cdef Core *c = &self.c
        cdef View *v = &c.view
        cdef Layer *layer = &c.layer[c.layer_count - 1]
        cdef long t, b, at = 0, width = dy.shape[2], size = c.team.lanes.itemsize
        cdef const char *source = <const char *> cnp.PyArray_DATA(dy)
        cdef Unit *u
        cdef int s
        if not self.tape:
            return  # backward() says what is wrong
        for s in range(layer.outputs):
            u = &layer.unit[s]
            for t in range(v.steps):
                for b in range(v.active[t]):
                    memcpy(u.dh + (v.offsets[t] + b) * u.cell.ld * size,
                           source + ((t * v.sequences + v.order[b]) * width + at) * size, u.cell.hidden * size)
            at += u.cell.hidden

    def final_states(self):
        """Return each unit's last states, a list of arrays (B, H); in reverse, those at the first step."""
        cdef Core *c = &self.c
        cdef View *v = &c.view
        cdef long b, H, size = c.team.lanes.itemsize
        cdef char *target
        cdef Unit *u
        cdef int n, d
        states = []
        for n in range(c.layer_count):
            for d in range(c.layer[n].units):
                u = &c.layer[n].unit[d]
                H = u.cell.hidden
                out = np.empty((v.sequences, H), dtype=self.theta.dtype)
                target = <char *> cnp.PyArray_DATA(out)
                for b in range(v.sequences):
                    memcpy(target + v.order[b] * H * size,
                           u.h_rows + (b if u.reverse else v.last[b]) * u.cell.ld * size, H * size)
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
        cdef long b, H, ld, size = c.team.lanes.itemsize
        cdef int n, d
        cdef char *first
        cdef char *second
        cdef char *target
        cdef Unit *u
        gradients = []
        for n in range(c.layer_count):
            for d in range(c.layer[n].units):
                u = &c.layer[n].unit[d]
                ld = u.cell.ld
                H = u.cell.hidden
                work = np.empty((2, v.sequences, ld), dtype=self.theta.dtype)
                out = np.empty((v.sequences, H), dtype=self.theta.dtype)
                first = <char *> cnp.PyArray_DATA(work)
                second = first + v.sequences * ld * size
                target = <char *> cnp.PyArray_DATA(out)
                state_gradient(c, &c.layer[n], u, first, second)
                for b in range(v.sequences):
                    memcpy(target + v.order[b] * H * size, second + b * ld * size, H * size)
                gradients.append(out)
        return gradients

    # ------------------------------------------------------------ symbols

    cdef clear_rows(self, bint accumulate):
        """Zero the gradient rows of earlier batches' symbols, and note this batch's."""
        cdef Core *c = &self.c
        cdef long width = c.embedding if c.kind == EMBEDDED else c.layer[0].unit[0].cell.hidden
        cdef long i, d, size = c.team.lanes.itemsize, count = c.view.rows * c.per_row, tables
        cdef int64_t[::1] old
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
