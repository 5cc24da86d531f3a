"""Recurrent layers over packed batches: the memory they work in, and the way in and out of it.

This module knows arrays, not people: whoever calls has checked everything (rnncore._checks).
"""
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy, memset

import numpy as np

cimport numpy as cnp

from rnncore._core.batch cimport Batch
from rnncore._core.dropout cimport ON_INPUT, key_for, site_of
from rnncore._core.jobs cimport Arena, Segment, bind_gates, bind_gates_T, padded, team_pack
from rnncore._core.lanes cimport gemm_for, lanes_for, rc_lanes, rc_packed
from rnncore._core.layers cimport DENSE, EMBEDDED, SYMBOLS, Core, Layer, Unit, View
from rnncore._core.passes cimport run_backward, run_forward, state_gradient

cnp.import_array()

cdef extern from "Python.h":
    ctypedef struct PyObject:
        pass
    Py_ssize_t Py_REFCNT(PyObject *)
    PyObject *PyList_GET_ITEM(list, Py_ssize_t)

cdef int in_order[4]  # gate g is block g: where W_xh's gates go
in_order[:] = [0, 1, 2, 3]


cdef void to_packed(Core *c, Unit *u, const char *source, char *target) noexcept nogil:
    """Rows (B, H) of the caller's sequences to padded rows in packed order."""
    cdef long b, H = u.cell.hidden, size = c.team.lanes.itemsize
    for b in range(c.view.sequences):
        memcpy(target + b * u.cell.ld * size, source + c.view.order[b] * H * size, H * size)


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
                    bind_gates(&c.team, &u.input[s], widths[s], H, u.kernel.gates, in_order, True)
                    bind_gates_T(&c.team, &u.input_T[s], widths[s], H, u.kernel.gates, in_order)
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
        c.apart = False
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
        y = array_for(self.old_outputs, (v.steps, v.sequences, width), self.theta.dtype, not v.full)
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
        if final and v.full and layer.units == 1 and u.cell.ld == width and c.output_dropout == 0:
            self.dy = dy  # must outlive the backward pass
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
        dx = array_for(self.old_gradients, (v.steps, v.sequences, width), self.theta.dtype, not v.full)
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
