"""Through time: one layer, all its directions, step by step, over the packed rows of a batch."""
from libc.string cimport memcpy

from rnncore._core.gemm cimport Segment
from rnncore._core.kernels cimport RC_FROM_BIAS, RC_FROM_C, RC_FROM_ZERO, parallel, rc_block, rc_cell_step, rc_kernels
from rnncore._core.plan cimport Core, Layer, Unit, View, has_zoneout, row_of, same_rows


cdef struct Walk:
    const Core *core
    const Layer *layer
    const View *view
    Unit **units
    int shards
    bint backward, linked, has_state, projects, emits


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
    block.zoned = False
    if walk.backward:
        block.has_link = has_after and walk.linked
        block.linked = b + (v.offsets[t - 1 if u.reverse else t + 1] if has_after else 0)
    else:
        block.has_link = block.has_previous
        block.linked = block.previous
        if walk.projects:
            project_block(walk, u, &block)
    step(&u.cell, &block)
    if walk.emits:
        emit_block(walk, u, t, &block)


cdef void emit_block(const Walk *walk, const Unit *u, long t, const rc_block *block) noexcept nogil:
    """Copy the rows of one step to the caller's outputs while they are in cache."""
    cdef const Core *c = walk.core
    cdef long size = c.team.kernels.itemsize, width = u.cell.output, i, row
    cdef long column = width if u == &walk.layer.unit[1] else 0
    if same_rows(walk.view):
        row = row_of(walk.view, t, block.sequence)
        c.team.kernels.copy(block.count, width, u.rows + block.row * u.cell.ldo * size, block.stride * u.cell.ldo,
                            c.y + (row * c.y_width + column) * size, block.stride * c.y_width)
        return
    for i in range(block.count):
        row = row_of(walk.view, t, block.sequence + i * block.stride)
        memcpy(c.y + (row * c.y_width + column) * size, u.rows + (block.row + i * block.stride) * u.cell.ldo * size,
               width * size)


cdef void project_block(const Walk *walk, const Unit *u, const rc_block *block) noexcept nogil:
    """a = x·W_xh + b for the rows of one step, just before they are needed: a stays in cache."""
    cdef const rc_kernels *kernels = walk.core.team.kernels
    cdef const Segment *x
    cdef int s, start
    for s in range(walk.layer.inputs):
        x = &walk.layer.dropped[s]
        start = RC_FROM_C if s else RC_FROM_ZERO if u.kernel.own_bias else RC_FROM_BIAS
        kernels.product(&u.input[s], block.count, x.data + block.row * x.ld * kernels.itemsize, block.stride * x.ld,
                        start, u.a_rows + block.row * u.cell.lda * kernels.itemsize, block.stride * u.cell.lda)


cdef void walk_task(void *arg, int index) noexcept nogil:
    """One direction of one layer through all time steps, for the sequences b = shard (mod shards).

    Sequences are dealt, not cut into halves: longest first, halves would differ in work by half.
    """
    cdef const Walk *walk = <const Walk *> arg
    cdef const Unit *u = walk.units[index // walk.shards]
    cdef const View *v = walk.view
    cdef int shard = index % walk.shards
    cdef bint ascending = u.reverse == walk.backward
    cdef const rc_kernels *kernels = walk.core.team.kernels
    cdef rc_cell_step step = u.kernel.backward if walk.backward else u.kernel.forward
    if has_zoneout(walk.layer):
        step = kernels.zoned_backward if walk.backward else kernels.zoned_forward
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
    walk.emits = not backward and c.y != NULL and layer == &c.layer[c.layer_count - 1]
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
