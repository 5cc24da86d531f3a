"""Where a run's arrays lie: what backward needs in saved memory, everything else in scratch.

Both are laid out anew for every run by the same calls in the same order, so the offsets follow from the plan, the
schedule and the options of the run alone, and saved memory may be moved between forward and backward.
"""
from libc.stdint cimport int64_t, uint16_t
from libc.string cimport memcpy

import numpy as np

cimport numpy as cnp

from rnncore._core.gemm cimport padded
from rnncore._core.kernels cimport RC_MAX_MATRICES
from rnncore._core.plan cimport (
    DENSE,
    EMBEDDED,
    SYMBOLS,
    Layer,
    Run,
    Unit,
    UnitWeights,
    has_zoneout,
    is_bias,
    same_rows,
)

cnp.import_array()

cdef enum:
    LINE = 64
    # of a window: rows for which a product is worth reading its weights, and a share of the L2 cache
    WINDOW_ROWS = 192
    WINDOW_BYTES = 262144


cdef inline char *take(Bump *memory, Py_ssize_t bytes) noexcept nogil:
    cdef size_t place = memory.base + memory.used
    memory.used += (bytes + LINE - 1) // LINE * LINE
    return <char *> place


cdef void bind(Run *r, const Run *structure, UnitWeights *weights) noexcept nogil:
    """Start a run: the plan's structure, in the layers that the run owns, and its weights."""
    cdef Layer *layer = r.layer
    cdef Unit *u
    cdef int n, d
    r[0] = structure[0]
    r.layer = layer
    memcpy(layer, structure.layer, r.layer_count * sizeof(Layer))
    for n in range(r.layer_count):
        for d in range(layer[n].units):
            u = &layer[n].unit[d]
            u.weights = &weights[2 * n + d]
            u.cell.W, u.cell.W_T = u.weights.W, u.weights.W_T
            u.cell.vectors = <const void *const *> u.weights.vectors


cdef void place_forward(Run *r, Bump *keep) noexcept nogil:
    """The arrays of a forward pass. `r` knows the schedule and the options of the run."""
    cdef Layer *layer = &r.layer[0]
    cdef Unit *u
    cdef int n, d, s, i
    cdef long size = r.team.kernels.itemsize, rows = r.view.rows, B = r.view.sequences, all_rows = rows + B, ld, front
    cdef bint masked
    cdef char *place
    if r.kind != DENSE:
        r.ids = <int64_t *> take(keep, rows * r.per_row * sizeof(int64_t))
        if r.kind == SYMBOLS and layer.drops_input:
            r.id_scale = take(keep, rows * r.per_row * size)
    layer.input[0].ld = layer.input[0].width
    if r.kind == EMBEDDED:
        layer.input[0].ld = padded(r.team.kernels, layer.input[0].width)
    if r.picks:
        layer.input[0].data = NULL
        for d in range(layer.units):
            u = &layer.unit[d]
            u.products = take(keep, r.features * u.cell.lda * size)
    elif r.kind == EMBEDDED or r.kind == DENSE and not same_rows(&r.view):
        layer.input[0].data = take(keep, rows * layer.input[0].ld * size)
    for n in range(r.layer_count):
        layer = &r.layer[n]
        for s in range(layer.inputs if n else 0):
            layer.input[s] = r.layer[n - 1].output[s]
        for s in range(layer.inputs if n or r.kind != SYMBOLS else 0):
            layer.operand[s] = layer.input[s]
            if layer.drops_input:
                layer.operand[s].ld = padded(r.team.kernels, layer.input[s].width)
                layer.operand[s].data = take(keep, rows * layer.operand[s].ld * size)
        masked = r.training and layer.recurrent_dropout > 0
        for d in range(layer.units):
            u = &layer.unit[d]
            ld = u.cell.ld
            for i in range(u.kernel.states):
                if i or n < r.layer_count - 1 or not r.y_is_state:  # else it is set already
                    front = B * u.cell.lds[i] * size
                    u.cell.state[i] = take(keep, all_rows * u.cell.lds[i] * size) + front
                u.cell.before[i] = u.cell.state[i]
            place_gates(r, layer, u, keep)
            for i in range(u.kernel.inner):
                u.cell.inner[i] = take(keep, rows * u.cell.ldi * size)
            if u.kernel.extra:
                u.cell.extra = take(keep, rows * u.kernel.extra * u.cell.ldi * size)
            for i in range(2):
                if layer.zoneout[i] > 0:  # the state as the next step reads it, apart from what the cell makes of it
                    front = B * u.cell.lds[i] * size
                    u.cell.before[i] = take(keep, all_rows * u.cell.lds[i] * size) + front
                    if r.training:
                        u.cell.zone[i] = take(keep, rows * u.cell.lds[i] * size)
            u.rows = <char *> u.cell.before[0]
            u.cell.carried = <void *> u.cell.before[u.kernel.dropped]
            if r.fed and n == r.layer_count - 1:
                u.cell.feedback = take(keep, all_rows * u.cell.ldo * size) + B * u.cell.ldo * size
            if masked:
                ld = u.cell.lds[u.kernel.dropped]
                front = B * ld * size
                u.cell.carried = take(keep, all_rows * ld * size) + front
                place = take(keep, (all_rows if layer.mask_per_step else B) * ld * size)
                u.cell.mask = place + front if layer.mask_per_step else place
            layer.output[d].data = u.rows
            layer.output[d].ld = u.cell.ldo
            layer.output[d].width = u.cell.output
        if layer.summed:
            layer.output[0].data = take(keep, rows * layer.output[0].ld * size)
    for s in range(layer.outputs):
        r.finished[s] = layer.output[s]
        if r.drops_output:
            r.finished[s].data = take(keep, rows * layer.output[s].ld * size)
    place_windows(r, keep)


cdef void place_gates(Run *r, Layer *layer, Unit *u, Bump *keep) noexcept nogil:
    """Where a is: h itself, or of all rows, or a window while other rows wait in 16 bits or are not needed any more."""
    cdef long size = r.team.kernels.itemsize
    u.window = NULL
    u.cell.saved = NULL
    u.cell.da_halves = NULL
    layer.window_rows = 0
    if u.kernel.in_place:
        u.a_rows = <char *> u.cell.state[0]
    elif layer.halves or not (r.training or r.shows_gates or r.team.gemm != NULL):  # BLAS's bits depend on rows
        layer.window_rows = max(r.view.active[0], WINDOW_ROWS, WINDOW_BYTES // (u.cell.lda * size))
        layer.window_rows = min(layer.window_rows, r.view.rows)
        if layer.halves:
            u.cell.saved = <uint16_t *> take(keep, r.view.rows * u.cell.ldh * sizeof(uint16_t))
    else:
        u.a_rows = take(keep, r.view.rows * u.cell.lda * size)
    u.cell.a = u.a_rows


cdef void place_windows(Run *r, Bump *memory) noexcept nogil:
    """Layers take turns at one window for each direction."""
    cdef Layer *layer
    cdef char *window[2]
    cdef long size[2]
    cdef int n, d
    size[0] = size[1] = 0
    for n in range(r.layer_count):
        layer = &r.layer[n]
        for d in range(layer.units):
            size[d] = max(size[d], layer.window_rows * layer.unit[d].cell.lda * r.team.kernels.itemsize)
    for d in range(2):
        window[d] = take(memory, size[d])
    for n in range(r.layer_count):
        layer = &r.layer[n]
        for d in range(layer.units if layer.window_rows else 0):
            layer.unit[d].window = layer.unit[d].a_rows = window[d]
            layer.unit[d].cell.a = window[d]


cdef void place_backward(Run *r, Bump *scratch, bint consume, bint want_dx, bint dx_in_place) noexcept nogil:
    """The arrays of a backward pass. With `consume` gradients lie over what they replace in saved memory."""
    cdef Layer *layer
    cdef long rows
    cdef int n, d
    r.team.scratch = take(scratch, r.team.scratch_size * r.team.threads)
    for n in range(r.layer_count):
        layer = &r.layer[n]
        for d in range(layer.units):
            place_gradients(r, layer, &layer.unit[d], scratch, consume)
    layer = &r.layer[0]
    r.dx = NULL
    for d in range(layer.units if r.picks else 0):
        layer.unit[d].dproducts = take(scratch, r.features * layer.unit[d].cell.lda * r.team.kernels.itemsize)
    if r.layer[0].halves and (r.kind == SYMBOLS or r.picks):
        place_windows(r, scratch)
    if r.picks:
        r.seen = <int64_t *> take(scratch, r.features * sizeof(int64_t))
    if r.kind == EMBEDDED or want_dx and not dx_in_place:
        rows = r.features if r.picks else r.view.rows
        r.dx = take(scratch, rows * padded(r.team.kernels, layer.input[0].width) * r.team.kernels.itemsize)


cdef void place_gradients(Run *r, const Layer *layer, Unit *u, Bump *scratch, bint consume) noexcept nogil:
    cdef long size = r.team.kernels.itemsize, rows = r.view.rows, B = r.view.sequences, ld = u.cell.ld
    cdef bint makes_output = False, zoned = has_zoneout(layer)
    cdef int i
    for i in range(RC_MAX_MATRICES):
        if u.W[i] >= 0:
            makes_output = makes_output or u.kernel.matrices[i].to_output
            u.cell.work[i] = take(scratch, B * (2 if u.kernel.staged else 1) *
                                  padded(r.team.kernels, u.weights.W[i].K) * size)
    if u.kernel.in_place:  # a is h, still needed; dh may become da where nothing else reads it
        u.cell.da = take(scratch, rows * ld * size)
        u.dh = <char *> u.cell.da
        if u.cell.mask != NULL or r.truncate or zoned:
            u.dh = take(scratch, rows * ld * size)
        if layer.halves:
            u.cell.da_halves = <uint16_t *> take(scratch, rows * u.cell.ldh * sizeof(uint16_t))
    else:
        if layer.halves:
            u.cell.da_halves = u.cell.saved
            if not consume:
                u.cell.da_halves = <uint16_t *> take(scratch, rows * u.cell.ldh * sizeof(uint16_t))
            u.cell.da = <void *> u.cell.da_halves  # not used
        else:
            u.cell.da = u.cell.a if consume and not r.truncate else take(scratch, rows * u.cell.lda * size)
        u.dh = take(scratch, rows * u.cell.ldo * size)
    u.cell.dh = u.dh
    if zoned:
        u.cell.zone_dh = take(scratch, rows * u.cell.ldo * size)
        u.cell.zone_given = take(scratch, B * ld * size)
        for i in range(min(u.kernel.states, 2)):
            u.cell.zone_kept[i] = take(scratch, B * u.cell.lds[i] * size)
    u.cell.doutput = take(scratch, rows * u.cell.ldo * size) if makes_output else NULL
    u.cell.dlater = take(scratch, rows * u.cell.lda * size) if r.truncate else <char *> u.cell.da
    u.cell.carry_per_row = r.truncate > 0
    for i in range(u.kernel.states):
        if u.kernel.state[i].carries or (i < 2 and zoned):
            u.cell.dcarry[i] = take(scratch, (rows if r.truncate else B) * u.cell.lds[i] * size)
            u.cell.dcarry_later[i] = u.cell.dcarry[i]
            if r.truncate:
                u.cell.dcarry_later[i] = take(scratch, rows * u.cell.lds[i] * size)
        if i > 0:
            u.dend[i] = take(scratch, B * u.cell.lds[i] * size)
    for i in range(u.kernel.vectors):
        u.cell.dvectors[i] = NULL
        if u.vectors[i] >= 0 and not is_bias(u, i):
            u.cell.dvectors[i] = take(scratch, B * ld * size)


cdef class Memory:
    """Memory of one caller: grown, never shrunk."""

    cdef int reserve(self, Py_ssize_t bytes) except -1:
        """Have room for so many bytes; what was there is lost."""
        if bytes > self.capacity:
            self.memory = None  # the old memory may go first
            self.capacity = 0
            self.memory = np.zeros(bytes + LINE, dtype=np.uint8)
            self.base = (<size_t> cnp.PyArray_DATA(self.memory) + LINE - 1) // LINE * LINE
            self.capacity = bytes
        return 0

    def size(self):
        """Return bytes held."""
        return self.capacity


cdef class Saved(Memory):
    """What a forward pass leaves for its backward pass.

    Parameters
    ----------
    allocate : callable, optional
        Bytes to a uint8 array, for a caller who wants to own the memory; it is asked for every forward pass. Without,
        the memory is our own.
    """

    def __cinit__(self, allocate=None):
        self.allocate = allocate

    cdef int reserve(self, Py_ssize_t bytes) except -1:
        """Have room for so many bytes; what was there is lost."""
        if self.allocate is None:
            return Memory.reserve(self, bytes)
        self.capacity = 0
        self.attach(self.allocate(bytes), self.x, self.y)
        if self.capacity < bytes:
            raise MemoryError(f"{bytes} bytes were asked for, and {self.capacity} given")
        return 0

    def attach(self, memory, x, y):
        """Take memory, and the arrays that are read where they lie, that may have been moved since forward."""
        if <size_t> cnp.PyArray_DATA(memory) % LINE:
            room = np.empty(memory.nbytes + LINE, dtype=np.uint8)
            start = (LINE - <size_t> cnp.PyArray_DATA(room) % LINE) % LINE
            aligned = room[start:start + memory.nbytes]
            aligned[...] = memory
            memory = aligned
        self.memory = memory
        self.base = <size_t> cnp.PyArray_DATA(memory)
        self.capacity = memory.nbytes
        self.x = None if self.x is None else x
        self.y = None if self.y is None else y

    def attached(self, memory, x, y):
        """Return a twin that is laid out alike and has this memory: several passes may read at once."""
        cdef Saved twin = Saved()
        twin.schedule = self.schedule
        twin.pending = True
        twin.x, twin.y = self.x, self.y
        twin.packed, twin.has_state, twin.fed = self.packed, self.has_state, self.fed
        twin.per_row, twin.threads = self.per_row, self.threads
        twin.seed, twin.drop_step = self.seed, self.drop_step
        twin.attach(memory, x, y)
        return twin

    def detach(self):
        """Forget memory and arrays, but not how they were laid out."""
        self.memory = None
        self.base = 0
        self.capacity = 0
        self.x = None if self.x is None else ...
        self.y = None if self.y is None else ...
