"""Through time: one layer, all its directions, step by step, over the packed rows of a batch."""
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from rnncore._core.gemm cimport Segment
from rnncore._core.kernels cimport (
    BETWEEN,
    RC_FROM_BIAS,
    RC_FROM_C,
    RC_FROM_ZERO,
    parallel,
    rc_block,
    rc_cell_step,
    rc_kernels,
    stopping,
)
from rnncore._core.plan cimport Layer, Run, Unit, View, has_zoneout, row_of, same_rows, step_at


cdef enum:
    STEPS_BETWEEN = 16  # looks at whether to stop, or so many that make a million numbers, whose memory may be new
    ALONE = 500000  # multiply-adds of the recurrence that one thread does alone

cdef struct Loop:
    const Run *run
    const Layer *layer
    const View *view
    Unit **units
    long first, end  # steps, in the order in which a unit takes them
    int shards
    bint backward, linked, has_state, projects, picks, emits


cdef void step_block(const Loop *loop, const Unit *u, rc_cell_step step, int shard, long t, long first, long end,
                     bint goes_on) noexcept nogil:
    """Rows b in [first, end) of step t that belong to the shard; `goes_on`: all of them reach step t + 1."""
    cdef const View *v = loop.view
    cdef rc_block block
    cdef long b = first + (shard - first) % loop.shards
    if b < first:  # C's remainder keeps the sign
        b += loop.shards
    if b >= end:
        return
    cdef bint has_before = goes_on if u.reverse else t > 0
    cdef bint has_after = t > 0 if u.reverse else goes_on
    # the states that these rows start from: the step before, or the initial states in front of all rows
    cdef long before = v.offsets[t + 1 if u.reverse else t - 1] if has_before else -v.sequences
    block.row = v.offsets[t] + b
    block.sequence = b
    block.count = (end - b + loop.shards - 1) // loop.shards
    block.stride = loop.shards
    block.previous = before + b
    block.has_previous = has_before or loop.has_state
    block.ends = not has_after
    block.zoned = False
    if loop.backward:
        block.has_link = has_after and loop.linked
        block.linked = b + (v.offsets[t - 1 if u.reverse else t + 1] if has_after else 0)
    else:
        block.has_link = block.has_previous
        block.linked = block.previous
        if loop.projects:
            project_block(loop, u, &block)
    step(&u.cell, &block)
    if loop.emits:
        emit_block(loop, u, t, &block)


cdef void emit_block(const Loop *loop, const Unit *u, long t, const rc_block *block) noexcept nogil:
    """Copy the rows of one step to the caller's outputs while they are in cache."""
    cdef const Run *r = loop.run
    cdef long size = r.team.kernels.itemsize, width = u.cell.output, i, row
    cdef long column = width if u == &loop.layer.unit[1] else 0
    if same_rows(loop.view):
        row = row_of(loop.view, t, block.sequence)
        r.team.kernels.copy(block.count, width, u.rows + block.row * u.cell.ldo * size, block.stride * u.cell.ldo,
                            r.y + (row * r.y_width + column) * size, block.stride * r.y_width)
        return
    for i in range(block.count):
        row = row_of(loop.view, t, block.sequence + i * block.stride)
        memcpy(r.y + (row * r.y_width + column) * size, u.rows + (block.row + i * block.stride) * u.cell.ldo * size,
               width * size)


cdef void project_block(const Loop *loop, const Unit *u, const rc_block *block) noexcept nogil:
    """a = x·W_xh + b for the rows of one step, just before they are needed: a stays in cache."""
    cdef const rc_kernels *kernels = loop.run.team.kernels
    cdef const Segment *x
    cdef int s, start
    if loop.picks:
        pick_block(loop, u, block)
        return
    for s in range(loop.layer.inputs):
        x = &loop.layer.operand[s]
        start = RC_FROM_C if s else RC_FROM_ZERO if u.kernel.own_bias else RC_FROM_BIAS
        kernels.product(&u.weights.input[s], block.count, x.data + block.row * x.ld * kernels.itemsize,
                        block.stride * x.ld, start, u.a_rows + block.row * u.cell.lda * kernels.itemsize,
                        block.stride * u.cell.lda)


cdef void pick_block(const Loop *loop, const Unit *u, const rc_block *block) noexcept nogil:
    """The same, of symbols whose products are there."""
    cdef long size = loop.run.team.kernels.itemsize, i, row
    cdef long first = u.kernel.input_at[0] * u.gate_ld * size, bytes = u.kernel.input_gates * u.gate_ld * size
    cdef int64_t id
    for i in range(block.count):
        row = block.row + i * block.stride
        id = loop.run.ids[row]
        if id >= 0:
            memcpy(u.a_rows + row * u.cell.lda * size + first, u.products + id * u.cell.lda * size + first, bytes)
        elif u.kernel.own_bias:
            memset(u.a_rows + row * u.cell.lda * size + first, 0, bytes)
        else:
            memcpy(u.a_rows + row * u.cell.lda * size + first, u.weights.input[0].bias, bytes)


cdef void loop_task(void *arg, int index) noexcept nogil:
    """One direction of one layer through all time steps, for the sequences b = shard (mod shards).

    Sequences are dealt, not cut into halves: longest first, halves would differ in work by half.
    """
    cdef const Loop *loop = <const Loop *> arg
    cdef const Unit *u = loop.units[index // loop.shards]
    cdef const View *v = loop.view
    cdef int shard = index % loop.shards
    cdef const rc_kernels *kernels = loop.run.team.kernels
    cdef rc_cell_step step = u.kernel.backward if loop.backward else u.kernel.forward
    if has_zoneout(loop.layer):
        step = kernels.zoned_backward if loop.backward else kernels.zoned_forward
    cdef long i, t, go_on, numbers = v.active[0] * u.cell.lda // loop.shards
    cdef long between = max(1, min(<long> STEPS_BETWEEN, BETWEEN // (numbers + 1)))
    for i in range(loop.first, loop.end):
        if i % between == 0 and stopping():
            return
        t = step_at(v, i, u.reverse == loop.backward)
        go_on = v.active[t + 1] if t + 1 < v.steps else 0
        if not loop.backward and not u.reverse:  # what comes after does not matter here
            go_on = v.active[t]
        step_block(loop, u, step, shard, t, 0, go_on, True)
        step_block(loop, u, step, shard, t, go_on, v.active[t], False)


cdef void run_steps(Run *r, Layer *layer, long first, long end, bint backward, bint linked,
                    bint projects) noexcept nogil:
    """Steps [first, end) of a layer, in the order in which each unit takes them."""
    cdef Loop loop
    loop.first = first
    loop.end = end
    loop.run = r
    loop.layer = layer
    loop.projects = projects
    loop.picks = r.picks and layer == &r.layer[0]
    loop.emits = not backward and r.emits and layer == &r.layer[r.layer_count - 1]
    cdef Unit *units[2]
    cdef long hidden = layer.unit[0].cell.hidden
    loop.view = &r.view
    loop.units = units
    loop.backward = backward
    loop.linked = linked
    loop.has_state = r.has_state
    loop.shards = 1
    units[0] = &layer.unit[0]
    units[1] = &layer.unit[1]
    cdef long work = hidden * hidden * layer.unit[0].kernel.gates * layer.units * (end - first)
    cdef int threads = r.team.threads if r.view.rows // r.view.steps * work > ALONE else 1
    if threads > layer.units:
        loop.shards = min((threads + layer.units - 1) // layer.units, r.view.sequences)
    parallel(loop_task, &loop, layer.units * loop.shards, threads)
