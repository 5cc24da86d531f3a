"""Packed copies of the matrices: made of theta for one pass, or for as long as a session lasts."""
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.string cimport memcpy

cimport numpy as cnp

from rnncore._core.gemm cimport Arena, Team, bind_gates, bind_gates_T, keep_as, team_pack
from rnncore._core.kernels cimport RC_MAX_MATRICES, rc_cell_matrix, rc_kernels, rc_packed, storage_named
from rnncore._core.plan cimport Layer, Plan, Run, Unit, UnitWeights, packs_input, source_width, vector_width

cnp.import_array()

cdef enum:
    AT_ONCE = 64  # matrices packed by one round of tasks


cdef void bind_weights(const Run *r, UnitWeights *units, const char *theta) noexcept nogil:
    """Where the matrices lie unpacked: what packing, and BLAS, read."""
    cdef const Unit *u
    cdef UnitWeights *w
    cdef int n, d, s, i
    cdef long size = r.team.kernels.itemsize, row
    for n in range(r.layer_count):
        for d in range(r.layer[n].units):
            u = &r.layer[n].unit[d]
            w = &units[2 * n + d]
            for i in range(RC_MAX_MATRICES):
                if u.W[i] >= 0:
                    w.W[i].W = w.W_T[i].W = theta + u.W[i] * size
            row = 0
            for s in range(r.layer[n].inputs):
                w.input[s].W = w.input_T[s].W = theta + (u.W_xh + row * w.input[s].ldw) * size
                row += w.input[s].K


cdef void pack_weights(const Run *r, UnitWeights *units, const char *theta, bint backward, bint input_gradient,
                       int threads) noexcept nogil:
    """Pack what a pass multiplies by: forward, or backward, the first layer's input only for an input gradient."""
    cdef Team team = r.team
    cdef rc_packed *weights[AT_ONCE]
    cdef const char *biases[AT_ONCE]
    cdef int n, d, s, i, count = 0
    cdef long size = team.kernels.itemsize
    cdef const Unit *u
    cdef UnitWeights *w
    team.threads = threads
    bind_weights(r, units, theta)
    for n in range(r.layer_count):
        for d in range(r.layer[n].units):
            u = &r.layer[n].unit[d]
            w = &units[2 * n + d]
            for i in range(u.kernel.vectors):  # backward, too: theta may have changed since
                if w.vectors[i] != NULL:
                    memcpy(w.vectors[i], theta + u.vectors[i] * size, vector_width(u, i) * size)
            if count > AT_ONCE - 8:
                team_pack(&team, weights, biases, count)
                count = 0
            for i in range(RC_MAX_MATRICES):
                if u.W[i] >= 0:
                    weights[count] = &w.W_T[i] if backward else &w.W[i]
                    biases[count] = NULL
                    count += 1
            if not packs_input(r, n) or backward and n == 0 and not input_gradient:
                continue
            for s in range(r.layer[n].inputs):
                weights[count] = &w.input_T[s] if backward else &w.input[s]
                biases[count] = NULL
                if not (backward or s or u.kernel.own_bias):
                    biases[count] = theta + (u.b_h + u.kernel.input_at[0] * u.gate) * size
                count += 1
    team_pack(&team, weights, biases, count)


cdef class Weights:
    """The packed weights of a plan.

    Parameters
    ----------
    plan : Plan
    theta : array (P,), optional
        Parameters to pack for forward passes, which nobody may change any more; without, every pass packs anew.
    storage : str
        How float32 matrices are kept for forward passes: "float32", as they are, "bfloat16" or "int8".
    """

    def __cinit__(self, Plan plan, theta=None, str storage="float32"):
        cdef const Run *r = &plan.structure
        cdef const rc_kernels *kernels = r.team.kernels
        cdef const Layer *layer
        cdef const Unit *u
        cdef UnitWeights *w
        cdef int n, d, s, i
        cdef long size = kernels.itemsize, ld, bias
        cdef const char *parameters
        self.plan = plan
        self.storage = storage_named(storage)
        self.arena = Arena()
        self.units = <UnitWeights *> PyMem_Calloc(2 * r.layer_count, sizeof(UnitWeights))
        if self.units == NULL:
            raise MemoryError()
        for n in range(r.layer_count):
            layer = &r.layer[n]
            for d in range(layer.units):
                self.describe(layer, &layer.unit[d], &self.units[2 * n + d])
        while True:
            self.arena.start()
            for n in range(r.layer_count):
                layer = &r.layer[n]
                for d in range(layer.units):
                    u = &layer.unit[d]
                    w = &self.units[2 * n + d]
                    ld = u.cell.ld * size
                    if packs_input(r, n):
                        w.input[0].bias = self.arena.take(u.kernel.gates * u.gate_ld * size)
                    for i in range(u.kernel.vectors):
                        w.vectors[i] = self.arena.take(max(ld, u.cell.ldo * size)) if u.vectors[i] >= 0 else NULL
                    for i in range(RC_MAX_MATRICES):
                        if u.W[i] < 0:
                            continue
                        bias = u.kernel.matrices[i].bias - 1
                        if bias >= 0:  # of its last gate
                            w.W[i].bias = w.vectors[bias] - (u.kernel.matrices[i].gates - 1) * ld
                        if w.W[i].gemm == NULL:
                            self.arena.take_panels(kernels, &w.W[i])
                        if w.W_T[i].gemm == NULL and theta is None:
                            self.arena.take_panels(kernels, &w.W_T[i])
                    for s in range(layer.inputs if packs_input(r, n) else 0):
                        if w.input[s].gemm == NULL:
                            self.arena.take_panels(kernels, &w.input[s])
                        if w.input_T[s].gemm == NULL and theta is None:
                            self.arena.take_panels(kernels, &w.input_T[s])
            if not self.arena.settle():
                break
        if theta is not None:
            self.theta = theta
            parameters = <const char *> cnp.PyArray_DATA(theta)
            with nogil:
                pack_weights(r, self.units, parameters, False, False, 1)

    def __dealloc__(self):
        PyMem_Free(self.units)

    cdef describe(self, const Layer *layer, const Unit *u, UnitWeights *w):
        """Shapes of a unit's matrices."""
        cdef const Team *team = &self.plan.structure.team
        cdef const rc_cell_matrix *matrix
        cdef long K, N
        cdef int i, s
        for i in range(RC_MAX_MATRICES):
            if u.W[i] < 0:
                continue
            matrix = &u.kernel.matrices[i]
            K = source_width(u, matrix.source)
            N = u.cell.output if matrix.to_output else u.cell.hidden
            bind_gates(team, &w.W[i], K, N, matrix.gates, matrix.at, u.ldw[i], False)
            keep_as(team, &w.W[i], self.storage)
            bind_gates_T(team, &w.W_T[i], K, N, matrix.gates, matrix.at, u.ldw[i])
        for s in range(layer.inputs):
            bind_gates(team, &w.input[s], layer.input[s].width, u.gate, u.kernel.input_gates, u.kernel.input_at,
                       u.kernel.input_gates * u.gate, True)
            keep_as(team, &w.input[s], self.storage)
            bind_gates_T(team, &w.input_T[s], layer.input[s].width, u.gate, u.kernel.input_gates, u.kernel.input_at,
                         u.kernel.input_gates * u.gate)

    def size(self):
        """Return bytes held."""
        return self.arena.capacity
