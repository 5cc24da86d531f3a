"""Recurrent layers over packed batches: the memory they work in, and the way in and out of it.

This module knows arrays, not people: whoever calls has checked everything (rnncore._checks).
"""
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy, memset

import numpy as np

cimport numpy as cnp

from rnncore._core.schedule cimport Batch
from rnncore._core.dropout cimport ON_INPUT, key_for, site_of
from rnncore._core.gemm cimport Arena, Segment, bind_gates, bind_gates_T, padded, team_pack
from rnncore._core.kernels cimport (
    RC_MAX_MATRICES,
    RC_MAX_STATES,
    RC_MAX_VECTORS,
    cell_named,
    gemm_for,
    kernels_for,
    rc_cell_matrix,
    rc_kernels,
    rc_packed,
)
from rnncore._core.plan cimport (
    DENSE,
    EMBEDDED,
    SYMBOLS,
    Core,
    Layer,
    Unit,
    View,
    has_zoneout,
    is_bias,
    row_of,
    same_rows,
    source_width,
    state_width,
    vector_width,
)
from rnncore._core.passes cimport run_backward, run_forward, state_gradient

cnp.import_array()

cdef enum:
    LINE = 64
    CACHE_PERIOD = 8192  # rows of a multiple of so many bytes collide in caches

cdef extern from "Python.h":
    ctypedef struct PyObject:
        pass
    Py_ssize_t Py_REFCNT(PyObject *)
    PyObject *PyList_GET_ITEM(list, Py_ssize_t)


cdef long row_length(const rc_kernels *kernels, int blocks, long ld) noexcept nogil:
    """Numbers from one row of gates to the next: a cache line more than they need where the numbers of a column would
    else compete for a few lines of the caches."""
    cdef long n = blocks * ld
    return n if blocks == 1 or n * kernels.itemsize % CACHE_PERIOD else n + LINE // kernels.itemsize


cdef void to_packed(Core *c, Unit *u, int state, const char *source, char *target) noexcept nogil:
    """Rows (B, width) of the caller's sequences to padded rows in packed order."""
    cdef long b, width = state_width(u, state), size = c.team.kernels.itemsize
    for b in range(c.view.sequences):
        memcpy(target + b * u.cell.lds[state] * size, source + c.view.order[b] * width * size, width * size)


cdef void exchange(Core *c, long width, char *rows, long ld, char *array, long lda, bint to_caller) noexcept nogil:
    """Bring `width` columns of packed rows into the caller's array, (T, B, lda) or packed, or the other way round."""
    cdef View *v = &c.view
    cdef long t, b, size = c.team.kernels.itemsize
    cdef char *ours
    cdef char *theirs
    if same_rows(v) and to_caller:
        c.team.kernels.copy(v.rows, width, rows, ld, array, lda)
    elif same_rows(v):
        c.team.kernels.copy(v.rows, width, array, lda, rows, ld)
    else:
        for t in range(v.steps):
            for b in range(v.active[t]):
                ours = rows + (v.offsets[t] + b) * ld * size
                theirs = array + row_of(v, t, b) * lda * size
                memcpy(theirs if to_caller else ours, ours if to_caller else theirs, width * size)


cdef array_for(list kept, tuple shape, dtype, bint zeroed):
    """A new array for the caller, or one handed out before that nobody but `kept` holds any more.

    Memory fresh from the system costs a page fault every 4 KiB: more than the copy into it.
    """
    cdef Py_ssize_t i
    for i in range(len(kept)):
        if Py_REFCNT(PyList_GET_ITEM(kept, i)) != 1:
            continue
        array = kept[i]
        if array.shape == shape and array.dtype == dtype and array.flags.carray and array.flags.owndata:
            if zeroed:
                array.fill(0)
            return array
        del kept[i]
        break
    array = np.zeros(shape, dtype=dtype) if zeroed else np.empty(shape, dtype=dtype)
    if len(kept) > 1:
        del kept[0]
    kept.append(array)
    return array


cdef long start_of(dict starts, const char *parameter, long part) noexcept:
    """Where in theta a part of one of a unit's parameters begins, or -1: the unit has none of that name."""
    return starts[parameter.decode()][0] + part if parameter != NULL and parameter.decode() in starts else -1


cdef class Stack:
    """Layers of one cell on flat parameters.

    Parameters
    ----------
    itemsize : int
        Bytes in a number, 4 or 8.
    layers : list of dicts
        Per layer: cell (its kernel's name), hidden, output (width), activation (its number), parameter, factor, flags,
        widths (of its input segments), summed (directions are added, not concatenated), dropout (rate on its input),
        recurrent_dropout, mask_per_step, and units: per direction a dict of reverse and starts: name of each parameter
        that the unit has -> its place in theta and its columns. What they are for, the cell's record says.
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
        cdef long scratch = 0
        c.team.kernels = kernels_for(itemsize)
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
        self.old_outputs = []
        self.old_gradients = []
        for n in range(c.layer_count):
            layer = &c.layer[n]
            spec = layers[n]
            widths = spec["widths"]
            layer.units = len(spec["units"])
            layer.summed = spec["summed"]
            layer.dropout = spec["dropout"]
            layer.recurrent_dropout = spec["recurrent_dropout"]
            layer.mask_per_step = spec["mask_per_step"]
            layer.zoneout[0], layer.zoneout[1] = spec["zoneout"]
            layer.inputs = len(widths)
            layer.outputs = 1 if layer.summed else layer.units
            for d in range(layer.units):
                places = spec["units"][d]
                u = &layer.unit[d]
                u.kernel = cell_named(c.team.kernels, spec["cell"])
                u.cell.cell = u.kernel
                u.cell.zone_rate[0], u.cell.zone_rate[1] = spec["zoneout"]
                u.reverse = places["reverse"]
                u.number = self.state_count
                self.state_count += u.kernel.states
                starts = places["starts"]
                u.W_xh, u.b_h = starts["W_xh"][0], starts["b_h"][0]
                for i in range(RC_MAX_VECTORS):
                    u.vectors[i] = start_of(starts, u.kernel.vector[i].parameter,
                                            u.kernel.vector[i].part * <long> spec["hidden"])
                u.cell.hidden = spec["hidden"]
                u.cell.output = spec["output"]
                u.cell.ld = padded(c.team.kernels, u.cell.hidden)
                u.cell.ldo = padded(c.team.kernels, u.cell.output)
                u.cell.lda = row_length(c.team.kernels, u.kernel.width, u.cell.ld)
                u.cell.activation = spec["activation"]
                u.cell.flags = spec["flags"]
                u.cell.activation_parameter = spec["parameter"]
                u.cell.factor = spec["factor"]
                u.cell.mask_per_row = layer.mask_per_step
                for i in range(RC_MAX_STATES):
                    u.cell.lds[i] = u.cell.ldo if state_width(u, i) == u.cell.output else u.cell.ld
                for i in range(RC_MAX_MATRICES):
                    u.W[i] = start_of(starts, u.kernel.matrices[i].parameter, 0)
                    if u.W[i] >= 0:
                        u.ldw[i] = starts[u.kernel.matrices[i].parameter.decode()][1]
                        scratch = max(scratch, self.bind_matrix(u, i))
                for s in range(layer.inputs):
                    layer.input[s].width = widths[s]
                    bind_gates(&c.team, &u.input[s], widths[s], u.cell.hidden, u.kernel.input_gates,
                               u.kernel.input_at, u.kernel.input_gates * u.cell.hidden, True)
                    bind_gates_T(&c.team, &u.input_T[s], widths[s], u.cell.hidden, u.kernel.input_gates,
                                 u.kernel.input_at, u.kernel.input_gates * u.cell.hidden)
                    if self.packs_input(n):
                        scratch = max(scratch, c.team.kernels.outer_scratch(widths[s],
                                                                            u.kernel.input_gates * u.cell.hidden))
        if c.kind == SYMBOLS and c.layer[0].unit[0].kernel.direct_at:
            self.identity = np.eye(c.layer[0].unit[0].cell.hidden, dtype=f"f{itemsize}")
            c.identity = <const char *> cnp.PyArray_DATA(self.identity)
        c.team.scratch_size = (scratch * itemsize + 63) // 64 * 64
        self.carve_weights()

    def __dealloc__(self):
        PyMem_Free(self.c.layer)

    cdef long bind_matrix(self, Unit *u, int i):
        """Describe one of a cell's own matrices; returns how many numbers of scratch its gradient wants."""
        cdef Core *c = &self.c
        cdef const rc_cell_matrix *matrix = &u.kernel.matrices[i]
        cdef long K = source_width(u, matrix.source), N = u.cell.output if matrix.to_output else u.cell.hidden
        bind_gates(&c.team, &u.cell.W[i], K, N, matrix.gates, matrix.at, u.ldw[i], False)
        bind_gates_T(&c.team, &u.cell.W_T[i], K, N, matrix.gates, matrix.at, u.ldw[i])
        u.W[i] += matrix.gate * N
        return c.team.kernels.outer_scratch(K, matrix.gates * N)

    cdef bint packs_input(self, int n):
        return n > 0 or self.c.kind != SYMBOLS

    cdef carve_weights(self):
        """Places for the packed copies of the weights; with BLAS only the padded biases need one."""
        cdef Core *c = &self.c
        cdef const rc_kernels *kernels = c.team.kernels
        cdef Layer *layer
        cdef Unit *u
        cdef int n, d, s, i
        cdef long size = kernels.itemsize, ld, bias
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
                        u.padded[i] = self.weights.take(max(ld, u.cell.ldo * size)) if u.vectors[i] >= 0 else NULL
                        u.cell.vectors[i] = u.padded[i]
                    for i in range(RC_MAX_MATRICES):
                        if u.W[i] < 0:
                            continue
                        bias = u.kernel.matrices[i].bias - 1
                        if bias >= 0:  # of its last gate
                            u.cell.W[i].bias = u.padded[bias] - (u.kernel.matrices[i].gates - 1) * ld
                        if c.team.gemm == NULL:
                            u.cell.W[i].panels = self.weights.take(kernels.packed_size(&u.cell.W[i]) * size)
                            u.cell.W_T[i].panels = self.weights.take(kernels.packed_size(&u.cell.W_T[i]) * size)
                    for s in range(layer.inputs if self.packs_input(n) and c.team.gemm == NULL else 0):
                        u.input[s].panels = self.weights.take(kernels.packed_size(&u.input[s]) * size)
                        u.input_T[s].panels = self.weights.take(kernels.packed_size(&u.input_T[s]) * size)
            if not self.weights.settle():
                return

    def bind(self, theta, grad):
        """Read parameters from `theta` and write gradients to `grad`, flat contiguous arrays."""
        cdef Core *c = &self.c
        cdef Unit *u
        cdef int n, d, s, i
        cdef long size = c.team.kernels.itemsize, row
        self.theta = theta
        self.grad = grad
        self.tape = False
        c.theta = <char *> cnp.PyArray_DATA(theta)
        c.grad = <char *> cnp.PyArray_DATA(grad)
        for n in range(c.layer_count):
            for d in range(c.layer[n].units):
                u = &c.layer[n].unit[d]
                for i in range(RC_MAX_MATRICES):
                    if u.W[i] >= 0:
                        u.cell.W[i].W = u.cell.W_T[i].W = c.theta + u.W[i] * size
                row = 0
                for s in range(c.layer[n].inputs):
                    u.input[s].W = c.theta + (u.W_xh + row * u.input[s].ldw) * size
                    u.input_T[s].W = u.input[s].W
                    row += u.input[s].K

    cdef void pack(self, bint backward) noexcept nogil:
        """Pack what the coming pass multiplies by."""
        cdef Core *c = &self.c
        cdef rc_packed *weights[64]
        cdef const char *biases[64]
        cdef int n, d, s, i, count = 0
        cdef long size = c.team.kernels.itemsize
        cdef Unit *u
        for n in range(c.layer_count):
            for d in range(c.layer[n].units):
                u = &c.layer[n].unit[d]
                for i in range(0 if backward else u.kernel.vectors):
                    if u.padded[i] != NULL:
                        memcpy(u.padded[i], c.theta + u.vectors[i] * size, vector_width(u, i) * size)
                if count > 56:
                    team_pack(&c.team, weights, biases, count)
                    count = 0
                for i in range(RC_MAX_MATRICES):
                    if u.W[i] >= 0:
                        weights[count] = &u.cell.W_T[i] if backward else &u.cell.W[i]
                        biases[count] = NULL
                        count += 1
                if n > 0 or c.kind != SYMBOLS:
                    for s in range(c.layer[n].inputs):
                        if backward and n == 0 and c.dx == NULL:
                            continue
                        weights[count] = &u.input_T[s] if backward else &u.input[s]
                        biases[count] = NULL
                        if not (backward or s or u.kernel.own_bias):
                            biases[count] = c.theta + (u.b_h + u.kernel.input_at[0] * u.cell.hidden) * size
                        count += 1
        team_pack(&c.team, weights, biases, count)

    cdef bint dx_in_place(self):
        """Whether dx can be computed in the caller's array: it has the core's own layout."""
        cdef long width = self.c.layer[0].input[0].width
        return same_rows(&self.c.view) and self.c.kind == DENSE and width == padded(self.c.team.kernels, width)

    cdef carve(self, bint dense_copy, bint fed):
        """Places for the arrays of one batch; `fed`: what the last layer is fed back is given."""
        cdef Core *c = &self.c
        cdef Layer *layer
        cdef Unit *u
        cdef int n, d, s, i
        cdef long size = c.team.kernels.itemsize, rows = c.view.rows, B = c.view.sequences, all_rows, ld, front
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
                layer.input[0].ld = padded(c.team.kernels, layer.input[0].width)
            if c.kind == EMBEDDED or dense_copy:
                layer.input[0].data = self.arena.take(rows * layer.input[0].ld * size)
            for n in range(c.layer_count):
                layer = &c.layer[n]
                for s in range(layer.inputs if n else 0):
                    layer.input[s] = c.layer[n - 1].output[s]
                for s in range(layer.inputs if n or c.kind != SYMBOLS else 0):
                    layer.dropped[s] = layer.input[s]
                    if c.training and layer.dropout > 0:
                        layer.dropped[s].ld = padded(c.team.kernels, layer.input[s].width)
                        layer.dropped[s].data = self.arena.take(rows * layer.dropped[s].ld * size)
                masked = c.training and layer.recurrent_dropout > 0
                for d in range(layer.units):
                    u = &layer.unit[d]
                    ld = u.cell.ld
                    all_rows = rows + B
                    for i in range(u.kernel.states):
                        front = B * u.cell.lds[i] * size
                        if i == 0 and n == c.layer_count - 1 and self.lent is not None:
                            u.cell.state[i] = <char *> cnp.PyArray_DATA(self.lent)
                        else:
                            u.cell.state[i] = self.arena.take(all_rows * u.cell.lds[i] * size) + front
                        u.cell.before[i] = u.cell.state[i]
                    u.a_rows = <char *> u.cell.state[0]
                    if not u.kernel.in_place:
                        u.a_rows = self.arena.take(rows * u.cell.lda * size)
                    u.cell.a = u.a_rows
                    for i in range(u.kernel.inner):
                        u.cell.inner[i] = self.arena.take(rows * ld * size)
                    if u.kernel.extra:
                        u.cell.extra = self.arena.take(rows * u.kernel.extra * ld * size)
                    for i in range(2):
                        u.cell.zone[i] = NULL
                        if layer.zoneout[i] > 0:
                            self.carve_zoneout(u, i)
                    u.rows = <char *> u.cell.before[0]
                    u.cell.carried = <void *> u.cell.before[u.kernel.dropped]
                    u.cell.feedback = NULL
                    if fed and n == c.layer_count - 1:
                        u.cell.feedback = self.arena.take(all_rows * u.cell.ldo * size) + B * u.cell.ldo * size
                    u.cell.mask = NULL
                    if masked:
                        ld = u.cell.lds[u.kernel.dropped]
                        front = B * ld * size
                        u.cell.carried = self.arena.take(all_rows * ld * size) + front
                        place = self.arena.take((all_rows if layer.mask_per_step else B) * ld * size)
                        u.cell.mask = place + front if layer.mask_per_step else place
                    if c.training:
                        self.carve_backward(layer, u, masked)
                    layer.output[d].data = u.rows
                    layer.output[d].ld = u.cell.ldo
                    layer.output[d].width = u.cell.output
                if layer.summed:
                    layer.output[0].data = self.arena.take(rows * layer.output[0].ld * size)
            for s in range(layer.outputs):
                c.finished[s] = layer.output[s]
                if c.training and c.output_dropout > 0:
                    c.finished[s].data = self.arena.take(rows * layer.output[s].ld * size)
            c.dx = NULL
            if c.training:
                layer = &c.layer[0]
                if c.kind == EMBEDDED or self.want_dx and not self.dx_in_place():
                    c.dx = self.arena.take(rows * padded(c.team.kernels, layer.input[0].width) * size)
            if not self.arena.settle():
                return

    cdef carve_zoneout(self, Unit *u, int i):
        """State i as the next step reads it apart from what the cell makes of it, and what its gradient takes."""
        cdef Core *c = &self.c
        cdef long B = c.view.sequences, row = u.cell.lds[i] * c.team.kernels.itemsize
        u.cell.before[i] = self.arena.take((c.view.rows + B) * row) + B * row
        if c.training:
            u.cell.zone[i] = self.arena.take(c.view.rows * row)

    cdef carve_backward(self, const Layer *layer, Unit *u, bint masked):
        """Places for gradients. They lie over what they replace, unless truncation needs that again."""
        cdef Core *c = &self.c
        cdef long size = c.team.kernels.itemsize, rows = c.view.rows, B = c.view.sequences, ld = u.cell.ld
        cdef bint makes_output = False
        cdef int i
        for i in range(RC_MAX_MATRICES):
            if u.W[i] >= 0:
                makes_output = makes_output or u.kernel.matrices[i].to_output
                u.cell.work[i] = self.arena.take(B * padded(c.team.kernels, u.cell.W[i].K) * size)
        if u.kernel.in_place:  # a is h, still needed
            u.cell.da = self.arena.take(rows * ld * size)
            u.dh = self.arena.take(rows * ld * size) if masked or c.truncate or has_zoneout(layer) \
                else <char *> u.cell.da
        else:
            u.cell.da = self.arena.take(rows * u.cell.lda * size) if c.truncate else u.cell.a
            u.dh = self.arena.take(rows * u.cell.ldo * size)
        u.cell.dh = u.dh
        if has_zoneout(layer):
            u.cell.zone_dh = self.arena.take(rows * u.cell.ldo * size)
            u.cell.zone_given = self.arena.take(B * ld * size)
            for i in range(min(u.kernel.states, 2)):
                u.cell.zone_kept[i] = self.arena.take(B * u.cell.lds[i] * size)
        u.cell.doutput = self.arena.take(rows * u.cell.ldo * size) if makes_output else NULL
        u.cell.dlater = self.arena.take(rows * u.cell.lda * size) if c.truncate else u.cell.da
        u.cell.carry_per_row = c.truncate > 0
        for i in range(u.kernel.states):
            if u.kernel.state[i].carries or (i < 2 and has_zoneout(layer)):
                u.cell.dcarry[i] = self.arena.take((rows if c.truncate else B) * u.cell.lds[i] * size)
                u.cell.dcarry_later[i] = u.cell.dcarry[i]
                if c.truncate:
                    u.cell.dcarry_later[i] = self.arena.take(rows * u.cell.lds[i] * size)
            if i > 0:
                u.dend[i] = self.arena.take(B * u.cell.lds[i] * size)
        for i in range(u.kernel.vectors):
            u.cell.dvectors[i] = NULL
            if u.vectors[i] >= 0 and not is_bias(u, i):
                u.cell.dvectors[i] = self.arena.take(B * ld * size)

    cdef load_rows(self, x, bint dense_copy):
        """Bring the caller's (T, B, ...) input into packed order; full dense batches are used where they lie."""
        cdef Core *c = &self.c
        cdef View *v = &c.view
        cdef long t, b, f, size = c.team.kernels.itemsize, width = c.layer[0].input[0].width, row
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
            exchange(c, width, target, width, source, width, False)
            return
        for t in range(v.steps):
            for b in range(v.active[t]):
                memcpy(c.ids + (v.offsets[t] + b) * c.per_row, ids + (t * v.sequences + v.order[b]) * c.per_row,
                       c.per_row * sizeof(int64_t))
        if c.kind == EMBEDDED:
            c.team.kernels.gather(v.rows, width, c.per_row, c.ids, NULL, c.theta + c.table * size, width, NULL, target,
                                  c.layer[0].input[0].ld)
        elif c.id_scale != NULL:
            for t in range(v.steps):
                key = key_for(c.seed, c.drop_step, site_of(ON_INPUT, 0, 0), t)
                for b in range(v.active[t]):
                    for f in range(c.per_row):
                        row = (v.offsets[t] + b) * c.per_row + f
                        if c.ids[row] >= 0:
                            c.team.kernels.dropout_at(c.features, c.layer[0].dropout, key, <uint32_t> v.order[b],
                                                      c.ids[row], c.id_scale + row * size)

    cdef load_states(self, state):
        """Put the initial states, arrays (B, H) unit by unit, in front of each unit's states."""
        cdef Core *c = &self.c
        cdef View *v = &c.view
        cdef long size = c.team.kernels.itemsize
        cdef Unit *u
        cdef int n, d, i
        c.has_state = state is not None
        for n in range(c.layer_count if c.has_state else 0):
            for d in range(c.layer[n].units):
                u = &c.layer[n].unit[d]
                for i in range(u.kernel.states):
                    to_packed(c, u, i, <char *> cnp.PyArray_DATA(state[u.number + i]),
                              <char *> u.cell.before[i] - v.sequences * u.cell.lds[i] * size)

    cdef load_feedback(self, feedback):
        """Bring what is given instead of the last layer's outputs (T, B, F) into rows like theirs.

        Each direction has its own part, or all of it where outputs are summed. The initial states stay in front.
        """
        cdef Core *c = &self.c
        cdef View *v = &c.view
        cdef Layer *layer = &c.layer[c.layer_count - 1]
        cdef long at = 0, width = feedback.shape[2], ld, size = c.team.kernels.itemsize
        cdef char *source = <char *> cnp.PyArray_DATA(feedback)
        cdef char *target
        cdef Unit *u
        cdef int d
        for d in range(layer.units):
            u = &layer.unit[d]
            ld = u.cell.ldo * size
            target = <char *> u.cell.feedback
            if c.has_state:
                memcpy(target - v.sequences * ld, <const char *> u.cell.before[0] - v.sequences * ld, v.sequences * ld)
            exchange(c, u.cell.output, target, u.cell.ldo, source + at * size, width, False)
            at += 0 if layer.summed else u.cell.output

    cdef long top_segments(self, Segment *segments) noexcept:
        """The outputs, as the head sees them; returns how many parts they have."""
        cdef Core *c = &self.c
        cdef int s
        for s in range(c.layer[c.layer_count - 1].outputs):
            segments[s] = c.finished[s]
        return c.layer[c.layer_count - 1].outputs

    def forward(self, Batch batch, x, state, bint training, bint want_dx, int threads, seed, drop_step, feedback=None,
                bint want_y=False):
        """Run all layers; `outputs` comes cheaper where it is known beforehand that it will be called, `want_y`.

        x : (T, B, D) of the layers' precision, or int64 ids (T, B) or (T, B, F); C-contiguous and checked. Dense rows
            (rows, D) are taken as packed already, and read where they lie; outputs, their gradient and dx are then
            (rows, ...), too.
        state : list of arrays (B, H), the states of each unit in turn, or None.
        feedback : (T, B, F), what the last layer is fed back in place of its outputs, or None.
        """
        cdef Core *c = &self.c
        cdef View *v = &c.view
        cdef bint dense_copy
        v.packed = c.kind == DENSE and x.ndim == 2
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
        dense_copy = c.kind == DENSE and not same_rows(v)
        c.training = training
        c.apart = False
        # no path takes more steps than this: a longer window cuts nothing off
        c.truncate = self.window if self.window <= batch.steps * c.layer_count else 0
        c.team.threads = threads
        c.seed = seed
        c.drop_step = drop_step
        c.per_row = x.shape[2] if c.kind != DENSE and x.ndim == 3 else 1
        self.give_up_outputs()
        self.lent = None
        if want_y and self.outputs_are_states():
            self.lent = self.lend_outputs()
        self.carve(dense_copy, feedback is not None)
        self.load_rows(x, dense_copy)
        self.load_states(state)
        if feedback is not None:
            self.load_feedback(feedback)
        self.y = None
        c.y = NULL
        if self.lent is not None:
            self.y = self.lent
            if training:
                cnp.PyArray_CLEARFLAGS(self.lent, cnp.NPY_ARRAY_WRITEABLE)
        elif want_y and not c.layer[c.layer_count - 1].summed and not (training and c.output_dropout > 0):
            self.y = self.output_array()
            c.y = <char *> cnp.PyArray_DATA(self.y)
        with nogil:
            self.pack(False)
            run_forward(c)
        self.tape = training

    def backward(self, dstate, bint accumulate):
        """Back-propagate what `set_output_gradient` or a head left in the top units' dh.

        dstate : list of arrays (B, H), the states of each unit in turn, or None.
        Returns (dx as x or None, list of the initial states' gradients (B, H) or None).
        """
        cdef Core *c = &self.c
        cdef Unit *u
        cdef long width = c.layer[0].input[0].width
        cdef int n, d, i
        if not self.tape:
            raise RuntimeError("backward() needs a forward(training=True) before it, and each forward serves one "
                               "backward: call forward again")
        self.tape = False
        for n in range(c.layer_count):
            for d in range(c.layer[n].units):
                u = &c.layer[n].unit[d]
                u.dstate = NULL if dstate is None else <char *> cnp.PyArray_DATA(dstate[u.number])
                for i in range(1, u.kernel.states):
                    u.cell.dend[i] = NULL
                    if dstate is not None:
                        to_packed(c, u, i, <char *> cnp.PyArray_DATA(dstate[u.number + i]), u.dend[i])
                        u.cell.dend[i] = u.dend[i]
        if c.kind != DENSE:
            self.clear_rows(accumulate)
        dx = None
        if self.want_dx and c.kind == DENSE:
            dx = self.callers_array(self.old_gradients, width)
            if self.dx_in_place():
                c.dx = <char *> cnp.PyArray_DATA(dx)
        with nogil:
            self.pack(True)
            run_backward(c, accumulate, self.want_dx)
        if dx is not None and not self.dx_in_place():
            exchange(c, width, c.dx, padded(c.team.kernels, width), <char *> cnp.PyArray_DATA(dx), width, True)
        self.give_up_outputs()
        return dx, self.state_gradients() if c.has_state else None

    # ------------------------------------------------------------ in and out

    cdef callers_array(self, list kept, long width):
        """A row of `width` numbers for each of the batch, (T, B, width) or packed; zero where none will be written."""
        cdef View *v = &self.c.view
        cdef tuple shape = (v.steps, v.sequences, width)
        if v.packed:
            shape = (v.rows, width)
        return array_for(kept, shape, self.theta.dtype, not same_rows(v))

    cdef bint outputs_are_states(self):
        """Whether the last layer's states can lie in the caller's array: they are the outputs, in its layout."""
        cdef Core *c = &self.c
        cdef Layer *layer = &c.layer[c.layer_count - 1]
        cdef const Unit *u = &layer.unit[0]
        return same_rows(&c.view) and layer.units == 1 and u.cell.output == u.cell.ldo and \
            not has_zoneout(layer) and not (c.training and c.output_dropout > 0)

    cdef lend_outputs(self):
        """A caller's array for the outputs, on a cache line, the initial states' rows in front of it."""
        cdef View *v = &self.c.view
        cdef long width = self.c.layer[self.c.layer_count - 1].unit[0].cell.output, size = self.c.team.kernels.itemsize
        cdef cnp.npy_intp[3] shape = [v.steps, v.sequences, width]
        cdef char *place
        if v.packed:
            shape[0], shape[1] = v.rows, width
        memory = array_for(self.old_outputs, ((v.sequences + v.rows) * width + LINE // size,), self.theta.dtype, False)
        place = <char *> ((<size_t> cnp.PyArray_DATA(memory) + LINE - 1) // LINE * LINE) + v.sequences * width * size
        y = cnp.PyArray_SimpleNewFromData(2 if v.packed else 3, shape, cnp.NPY_FLOAT if size == 4 else cnp.NPY_DOUBLE,
                                          place)
        cnp.set_array_base(y, memory)
        return y

    cdef give_up_outputs(self):
        """The outputs are not needed any more: the caller may write to them."""
        if self.lent is not None:
            cnp.PyArray_ENABLEFLAGS(self.lent, cnp.NPY_ARRAY_WRITEABLE)

    cdef output_array(self):
        """A caller's array for the outputs."""
        cdef Core *c = &self.c
        cdef Segment parts[2]
        cdef int s, count = self.top_segments(parts)
        c.y_width = 0
        for s in range(count):
            c.y_width += parts[s].width
        return self.callers_array(self.old_outputs, c.y_width)

    def outputs(self):
        """Return the outputs (T, B, F), zero after a sequence's end; packed, (rows, F), where x was."""
        cdef Core *c = &self.c
        cdef Segment parts[2]
        cdef int s, count = self.top_segments(parts)
        cdef long at = 0, size = c.team.kernels.itemsize
        cdef char *target
        y, self.y = self.y, None
        if y is not None:
            return y
        y = self.output_array()
        target = <char *> cnp.PyArray_DATA(y)
        for s in range(count):
            exchange(c, parts[s].width, parts[s].data, parts[s].ld, target + at * size, c.y_width, True)
            at += parts[s].width
        return y

    def set_output_gradient(self, dy, bint final):
        """Take dy, shaped as the outputs, of the layers' precision and C-contiguous, as the outputs' gradient.

        Where it has the core's own layout, and is `final` (nothing is added to it), it is read where it lies.
        """
        cdef Core *c = &self.c
        cdef Layer *layer = &c.layer[c.layer_count - 1]
        cdef long at = 0, width = dy.shape[dy.ndim - 1], size = c.team.kernels.itemsize
        cdef char *source = <char *> cnp.PyArray_DATA(dy)
        cdef Unit *u
        cdef int s
        if not self.tape:
            return  # backward() says what is wrong
        u = &layer.unit[0]
        if final and same_rows(&c.view) and layer.units == 1 and u.cell.ldo == width and c.output_dropout == 0:
            self.dy = dy  # must outlive the backward pass
            u.cell.dh = <void *> source
            return
        for s in range(layer.outputs):
            u = &layer.unit[s]
            exchange(c, u.cell.output, u.dh, u.cell.ldo, source + at * size, width, False)
            at += u.cell.output

    def final_states(self):
        """Return the last states of each unit in turn, arrays (B, width); in reverse, those at the first step."""
        cdef Core *c = &self.c
        cdef View *v = &c.view
        cdef long b, width, size = c.team.kernels.itemsize
        cdef const char *source
        cdef char *target
        cdef Unit *u
        cdef int n, d, i
        states = []
        for n in range(c.layer_count):
            for d in range(c.layer[n].units):
                u = &c.layer[n].unit[d]
                for i in range(u.kernel.states):
                    width = state_width(u, i)
                    source = <const char *> u.cell.before[i]
                    out = np.empty((v.sequences, width), dtype=self.theta.dtype)
                    target = <char *> cnp.PyArray_DATA(out)
                    for b in range(v.sequences):
                        memcpy(target + v.order[b] * width * size,
                               source + (b if u.reverse else v.last[b]) * u.cell.lds[i] * size, width * size)
                    states.append(out)
        return states

    cdef state_gradients(self):
        cdef Core *c = &self.c
        cdef View *v = &c.view
        cdef long b, width, ld, lda, size = c.team.kernels.itemsize, B = v.sequences
        cdef int n, d, i
        cdef char *work
        cdef char *target
        cdef Unit *u
        gradients = []
        for n in range(c.layer_count):
            for d in range(c.layer[n].units):
                u = &c.layer[n].unit[d]
                lda = u.cell.lda
                for i in range(u.kernel.states):
                    width, ld = state_width(u, i), u.cell.lds[i]
                    memory = np.empty(B * (lda + ld), dtype=self.theta.dtype)
                    work = <char *> cnp.PyArray_DATA(memory)
                    state_gradient(c, &c.layer[n], u, i, work, work + B * lda * size)
                    out = np.empty((B, width), dtype=self.theta.dtype)
                    target = <char *> cnp.PyArray_DATA(out)
                    for b in range(B):
                        memcpy(target + v.order[b] * width * size, work + (B * lda + b * ld) * size, width * size)
                    gradients.append(out)
        return gradients

    # ------------------------------------------------------------ symbols

    cdef clear_rows(self, bint accumulate):
        """Zero the gradient rows of earlier batches' symbols, and note this batch's."""
        cdef Core *c = &self.c
        cdef Unit *first = &c.layer[0].unit[0]
        cdef long width = c.embedding if c.kind == EMBEDDED else first.kernel.input_gates * first.cell.hidden
        cdef long i, d, size = c.team.kernels.itemsize, count = c.view.rows * c.per_row, tables
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
