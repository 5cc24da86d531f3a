"""The way between the caller's arrays, (T, B, ...) in the caller's order, and packed rows.

Rows that are packed already, or a full batch, have the same order on both sides.
"""
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy

from rnncore._core.dropout cimport ON_INPUT, key_for, site_of
from rnncore._core.kernels cimport BETWEEN, stopping, stops_after
from rnncore._core.plan cimport EMBEDDED, Layer, Run, Unit, View, row_of, same_rows, state_width


cdef void exchange(Run *r, long width, char *rows, long ld, char *array, long lda, bint to_caller) noexcept nogil:
    """Bring `width` columns of packed rows into the caller's array, (T, B, lda) or packed, or the other way round."""
    cdef const View *v = &r.view
    cdef long t, b, size = r.team.kernels.itemsize, left = BETWEEN
    cdef char *ours
    cdef char *theirs
    if same_rows(v) and to_caller:
        r.team.kernels.copy(v.rows, width, rows, ld, array, lda)
    elif same_rows(v):
        r.team.kernels.copy(v.rows, width, array, lda, rows, ld)
    else:
        for t in range(v.steps):
            if stops_after(v.active[t] * width, &left):
                return
            for b in range(v.active[t]):
                ours = rows + (v.offsets[t] + b) * ld * size
                theirs = array + row_of(v, t, b) * lda * size
                memcpy(theirs if to_caller else ours, ours if to_caller else theirs, width * size)


cdef void load_dense(Run *r, char *x) noexcept nogil:
    """Dense input (T, B, D), or packed (rows, D): read where it lies if its rows are ours, else copied."""
    cdef Layer *layer = &r.layer[0]
    if not same_rows(&r.view):
        exchange(r, layer.input[0].width, layer.input[0].data, layer.input[0].ld, x, layer.input[0].width, False)
        return
    layer.input[0].data = x
    if not layer.drops_input:
        layer.operand[0].data = x


cdef void load_ids(Run *r, const char *x) noexcept nogil:
    """Ids (T, B) or (T, B, F), or packed; their embeddings, or dropout's factors for them."""
    cdef const View *v = &r.view
    cdef const int64_t *ids = <const int64_t *> x
    cdef Layer *layer = &r.layer[0]
    cdef long t, b, f, row, size = r.team.kernels.itemsize, width = layer.input[0].width
    cdef uint32_t key
    for t in range(v.steps):
        for b in range(v.active[t]):
            memcpy(r.ids + (v.offsets[t] + b) * r.per_row, ids + row_of(v, t, b) * r.per_row,
                   r.per_row * sizeof(int64_t))
    if r.picks:
        return
    if r.kind == EMBEDDED:
        r.team.kernels.gather(v.rows, width, r.per_row, r.ids, NULL, r.theta + r.table * size, width, NULL,
                              layer.input[0].data, layer.input[0].ld)
        return
    for t in range(v.steps if layer.drops_input else 0):
        if stopping():
            return
        key = key_for(r.seed, r.drop_step, site_of(ON_INPUT, 0, 0), t)
        for b in range(v.active[t]):
            for f in range(r.per_row):
                row = (v.offsets[t] + b) * r.per_row + f
                if r.ids[row] >= 0:
                    r.team.kernels.dropout_at(r.features, layer.dropout, key, <uint32_t> v.order[b], r.ids[row],
                                              r.id_scale + row * size)


cdef void to_rows(Run *r, Unit *u, int state, const char *source, char *target) noexcept nogil:
    """Rows (B, width) of the caller's sequences to padded rows in packed order."""
    cdef long b, width = state_width(u, state), size = r.team.kernels.itemsize
    for b in range(r.view.sequences):
        memcpy(target + b * u.cell.lds[state] * size, source + r.view.order[b] * width * size, width * size)


cdef void load_states(Run *r) noexcept nogil:
    """Put the caller's initial states in front of each unit's states."""
    cdef Unit *u
    cdef int n, d, i
    cdef long size = r.team.kernels.itemsize
    for n in range(r.layer_count if r.has_state else 0):
        for d in range(r.layer[n].units):
            u = &r.layer[n].unit[d]
            for i in range(u.kernel.states):
                to_rows(r, u, i, u.initial[i],
                        <char *> u.cell.before[i] - r.view.sequences * u.cell.lds[i] * size)


cdef void load_state_gradients(Run *r) noexcept nogil:
    """Gradients of the final states but the first, which joins the outputs' (passes.pyx)."""
    cdef Unit *u
    cdef int n, d, i
    for n in range(r.layer_count):
        for d in range(r.layer[n].units):
            u = &r.layer[n].unit[d]
            for i in range(1, u.kernel.states):
                u.cell.dend[i] = NULL
                if u.dfinal[i] != NULL:
                    to_rows(r, u, i, u.dfinal[i], u.dend[i])
                    u.cell.dend[i] = u.dend[i]


cdef void load_feedback(Run *r, const char *feedback, long width) noexcept nogil:
    """Bring what is given instead of the last layer's outputs (T, B, F) into rows like theirs.

    Each direction has its own part, or all of it where outputs are summed. The initial states stay in front.
    """
    cdef const View *v = &r.view
    cdef Layer *layer = &r.layer[r.layer_count - 1]
    cdef long at = 0, ld, size = r.team.kernels.itemsize
    cdef char *target
    cdef Unit *u
    cdef int d
    for d in range(layer.units):
        u = &layer.unit[d]
        ld = u.cell.ldo * size
        target = <char *> u.cell.feedback
        if r.has_state:
            memcpy(target - v.sequences * ld, <const char *> u.cell.before[0] - v.sequences * ld, v.sequences * ld)
        exchange(r, u.cell.output, target, u.cell.ldo, <char *> feedback + at * size, width, False)
        at += 0 if layer.summed else u.cell.output


cdef void load_output_gradient(Run *r, const char *dy, long width) noexcept nogil:
    """dy (T, B, width), or packed, to the top units' dh."""
    cdef Layer *layer = &r.layer[r.layer_count - 1]
    cdef long at = 0, size = r.team.kernels.itemsize
    cdef Unit *u
    cdef int s
    for s in range(layer.outputs):
        u = &layer.unit[s]
        exchange(r, u.cell.output, u.dh, u.cell.ldo, <char *> dy + at * size, width, False)
        at += u.cell.output


cdef void store_outputs(Run *r, char *y, long width) noexcept nogil:
    """The outputs to y (T, B, width), or packed."""
    cdef Layer *layer = &r.layer[r.layer_count - 1]
    cdef long at = 0, size = r.team.kernels.itemsize
    cdef int s
    for s in range(layer.outputs):
        exchange(r, r.finished[s].width, r.finished[s].data, r.finished[s].ld, y + at * size, width, True)
        at += r.finished[s].width


cdef void store_state(Run *r, int n, int d, int state, char *out) noexcept nogil:
    """One of a unit's final states to out (B, width); in reverse, that of the first step."""
    cdef const View *v = &r.view
    cdef Unit *u = &r.layer[n].unit[d]
    cdef long b, width = state_width(u, state), size = r.team.kernels.itemsize
    cdef const char *source = <const char *> u.cell.before[state]
    for b in range(v.sequences):
        memcpy(out + v.order[b] * width * size, source + (b if u.reverse else v.last[b]) * u.cell.lds[state] * size,
               width * size)
