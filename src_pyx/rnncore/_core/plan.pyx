"""The structure of recurrent layers, as the kernels want it: read once, from what Python describes."""
from cpython.mem cimport PyMem_Calloc, PyMem_Free

import numpy as np

cimport numpy as cnp

from rnncore._core.gemm cimport make_team, outer_scratch, padded
from rnncore._core.kernels cimport (
    RC_MAX_MATRICES,
    RC_MAX_STATES,
    RC_MAX_VECTORS,
    cell_named,
    rc_cell_matrix,
    rc_kernels,
)

cnp.import_array()

cdef enum:
    LINE = 64
    CACHE_PERIOD = 8192  # rows of a multiple of so many bytes collide in caches
    HALVES = 32  # in 16 bits that are a cache line


cdef long row_length(const rc_kernels *kernels, int blocks, long ld) noexcept nogil:
    """Numbers from one row of gates to the next: a cache line more than they need where the numbers of a column would
    else compete for a few lines of the caches."""
    cdef long n = blocks * ld
    return n if blocks == 1 or n * kernels.itemsize % CACHE_PERIOD else n + LINE // kernels.itemsize


cdef long start_of(dict starts, const char *parameter, long part) noexcept:
    """Where in theta a part of one of a unit's parameters begins, or -1: the unit has none of that name."""
    return starts[parameter.decode()][0] + part if parameter != NULL and parameter.decode() in starts else -1


cdef bint packs_input(const Run *r, int n) noexcept nogil:
    """Whether layer n multiplies its input: symbols pick rows instead."""
    return n > 0 or r.kind != SYMBOLS


cdef class Plan:
    """Layers of recurrent cells on flat parameters.

    Parameters
    ----------
    itemsize : int
        Bytes in a number, 4 or 8.
    groups : list of lists of dicts
        Layers whose states lie in the same arrays, group by group. Per layer: cell (its kernel's name), hidden, output
        (width), activation (its number), parameter, factor, share, flags, stages, timed (the last
        column of its input is the length of each step), widths (of its input segments), summed (directions
        are added, not concatenated), dropout (rate on its input), recurrent_dropout, mask_per_step, zoneout, and units:
        per direction a dict of reverse and starts: name of each parameter that the unit has -> its offset in theta and
        its columns. What they are for, the cell's record says.
    kind : int
        Input: 0 dense, 1 symbols (ids pick rows of W_xh), 2 symbols through an embedding table.
    options : dict
        symbols, embedding (width), table (offset in theta), output_dropout, truncate.
    mixed : bool
        Whether products round their operands to bfloat16.
    """

    def __cinit__(self, int itemsize, list groups, int kind, dict options, bint mixed=False):
        cdef Run *r = &self.structure
        cdef Layer *layer
        cdef int n = 0, d, s, first, slot
        cdef long scratch = 0
        make_team(&r.team, itemsize, mixed)
        r.kind = kind
        r.features = options["symbols"]
        r.embedding = options["embedding"]
        r.table = options["table"]
        r.output_dropout = options["output_dropout"]
        r.window = self.window = options["truncate"] or 0
        r.layer_count = sum([len(group) for group in groups])
        r.layer = <Layer *> PyMem_Calloc(r.layer_count, sizeof(Layer))
        if r.layer == NULL:
            raise MemoryError()
        self.state_shapes = []
        for group in groups:
            first, slot = len(self.state_shapes), 0
            for spec in group:
                layer = &r.layer[n]
                layer.units = len(spec["units"])
                layer.summed = spec["summed"]
                layer.dropout = spec["dropout"]
                layer.recurrent_dropout = spec["recurrent_dropout"]
                layer.mask_per_step = spec["mask_per_step"]
                layer.zoneout[0], layer.zoneout[1] = spec["zoneout"]
                layer.inputs = len(spec["widths"])
                layer.outputs = 1 if layer.summed else layer.units
                for s in range(layer.inputs):
                    layer.input[s].width = spec["widths"][s]
                for d in range(layer.units):
                    layer.unit[d].state_array, layer.unit[d].state_row = first, slot
                    scratch = max(scratch, self.read_unit(layer, &layer.unit[d], spec, spec["units"][d]))
                    slot += 1
                for s in range(layer.inputs if packs_input(r, n) else 0):
                    scratch = max(scratch, outer_scratch(
                        &r.team, layer.input[s].width, layer.unit[0].kernel.input_gates * layer.unit[0].gate))
                n += 1
            for s in range(layer.unit[0].kernel.states):
                self.state_shapes.append((slot, state_width(&layer.unit[0], s)))
        if r.kind == SYMBOLS and r.layer[0].unit[0].kernel.direct_at:
            self.identity = np.eye(r.layer[0].unit[0].cell.hidden, dtype=f"f{itemsize}")
            r.identity = <const char *> cnp.PyArray_DATA(self.identity)
        r.team.scratch_size = (scratch * itemsize + 63) // 64 * 64

    def __dealloc__(self):
        PyMem_Free(self.structure.layer)

    cdef long read_unit(self, Layer *layer, Unit *u, dict spec, dict offsets) except -1:
        """Read one direction of a layer; returns how many numbers of scratch the gradients of its matrices want."""
        cdef const rc_kernels *kernels = self.structure.team.kernels
        cdef long scratch = 0
        cdef int i
        starts = offsets["starts"]
        u.kernel = cell_named(kernels, spec["cell"])
        u.cell.cell = u.kernel
        u.cell.zone_rate[0], u.cell.zone_rate[1] = spec["zoneout"]
        u.reverse = offsets["reverse"]
        u.number = self.state_count
        self.state_count += u.kernel.states
        u.W_xh, u.b_h = starts["W_xh"][0], starts["b_h"][0]
        for i in range(RC_MAX_VECTORS):
            u.vectors[i] = start_of(starts, u.kernel.vector[i].parameter,
                                    u.kernel.vector[i].part * <long> spec["hidden"])
        u.cell.hidden = spec["hidden"]
        u.cell.output = spec["output"]
        u.cell.ld = padded(kernels, u.cell.hidden)
        u.cell.ldo = padded(kernels, u.cell.output)
        u.cell.stages = spec["stages"]
        u.cell.ldi = u.cell.stages * u.cell.ld
        u.cell.lda = row_length(kernels, u.kernel.width + (u.cell.stages if u.kernel.staged else 0), u.cell.ld)
        u.gate = starts["W_xh"][1] // u.kernel.input_gates
        u.gate_ld = padded(kernels, u.gate)
        if u.kernel.makes_matrix:  # its rows lie side by side, vectors run over the end of the last; then one for da
            u.cell.lda = row_length(kernels, 1, u.gate_ld + 2 * u.cell.ld)
        u.cell.ldh = (u.kernel.width * u.cell.ld + HALVES - 1) // HALVES * HALVES
        if u.cell.ldh * 2 % CACHE_PERIOD == 0:
            u.cell.ldh += HALVES
        u.cell.activation = spec["activation"]
        u.cell.flags = spec["flags"]
        u.cell.activation_parameter = spec["parameter"]
        u.cell.factor = spec["factor"]
        u.cell.share = spec["share"]
        u.timed = spec["timed"]
        u.cell.mask_per_row = layer.mask_per_step
        for i in range(RC_MAX_STATES):
            u.cell.lds[i] = u.cell.ldo if state_width(u, i) == u.cell.output else u.cell.ld
        for i in range(RC_MAX_MATRICES):
            u.W[i] = start_of(starts, u.kernel.matrices[i].parameter, 0)
            if u.W[i] >= 0:
                u.ldw[i] = starts[u.kernel.matrices[i].parameter.decode()][1]
                scratch = max(scratch, self.bind_matrix(u, i))
        return scratch

    cdef long bind_matrix(self, Unit *u, int i) noexcept:
        """Find the first gate of one of a cell's own matrices; returns the numbers of scratch its gradient wants."""
        cdef const rc_cell_matrix *matrix = &u.kernel.matrices[i]
        cdef long N = u.cell.output if matrix.to_output else u.cell.hidden
        u.W[i] += matrix.gate * N
        return outer_scratch(&self.structure.team, source_width(u, matrix.source), matrix.gates * N)
