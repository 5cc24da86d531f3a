"""Pooling: the outputs at every step become one vector z per sequence.

    last       each direction's outputs at its own last step
    mean, max  over the steps, number by number
    attention  z = Σ_t α_t h_t, α from the outputs themselves (kernels/attention.h)

A stream's steps come in several runs: z = (w·z + w'·z')/(w + w') of what was before and this run's (primed), where w is
the number of steps or, of attention, Σ exp(energy).

Backward adds to the outputs' gradient, where another head was before.
"""
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy, memset

import numpy as np

from rnncore._core.dropout cimport ON_OUTPUT, key_for, site_of
from rnncore._core.gemm cimport (
    SUM_COLUMNS,
    SUM_ROWS,
    bind_packed,
    clear,
    padded,
    team_column_sums,
    team_outer,
    team_pack,
    team_product,
    team_sums_wide,
)
from rnncore._core.kernels cimport RC_FROM_BIAS, RC_FROM_C, rc_columns, rc_kernels, stopping
from rnncore._core.plan cimport Layer, Unit, View


cdef void describe_pooling(Pooling *p, const Team *team, int kind, list widths, long size, long W, long b, long v):
    """size, W, b, v: of attention."""
    cdef int s
    p.kind = kind
    p.parts = len(widths)
    p.size, p.W, p.b, p.v = size, W, b, v
    p.size_ld = padded(team.kernels, size)
    for s in range(p.parts):
        p.width[s] = widths[s]
        p.ld[s] = padded(team.kernels, widths[s])
        if kind == ATTENTION:
            bind_packed(team, &p.weight[s], widths[s], size, size, False)
            bind_packed(team, &p.weight_T[s], size, widths[s], size, True)


cdef void bind_pooling_packed(Pooling *p, Arena arena, const Team *team):
    """Take memory for packed weights."""
    cdef int s
    if p.kind != ATTENTION:
        return
    p.weight[0].bias = arena.take(p.size_ld * team.kernels.itemsize)
    for s in range(p.parts if team.gemm == NULL else 0):
        arena.take_panels(team.kernels, &p.weight[s])
        arena.take_panels(team.kernels, &p.weight_T[s])


cdef void pack_pooling(Pooling *p, const Team *team, const char *theta) noexcept nogil:
    """Pack attention's weights both ways."""
    cdef rc_packed *weights[4]
    cdef const char *biases[4]
    cdef int s, n = 0
    cdef long row = 0, size = team.kernels.itemsize
    if p.kind != ATTENTION:
        return
    for s in range(p.parts):
        p.weight[s].W = p.weight_T[s].W = theta + (p.W + row * p.size) * size
        row += p.width[s]
        weights[n], biases[n] = &p.weight[s], NULL if s else theta + p.b * size
        weights[n + 1], biases[n + 1] = &p.weight_T[s], NULL
        n += 2
    team_pack(team, weights, biases, n)


cdef void place_pooling(Pooling *p, Arena arena, const Team *team, const Run *run):
    """Take memory for one run; called anew until the arena has settled."""
    cdef long size = team.kernels.itemsize, B = run.view.sequences, rows = run.view.rows, widest = p.size
    cdef bint attends = p.kind == ATTENTION
    cdef int s
    if p.kind == EVERY:
        return
    for s in range(p.parts):
        p.pooled[s].width, p.pooled[s].ld = p.width[s], p.ld[s]
        p.pooled[s].data = arena.take(B * p.ld[s] * size)
        p.gradient[s] = arena.take(B * p.ld[s] * size)
        widest = max(widest, p.width[s])
    p.where = <int64_t *> arena.take(p.parts * B * p.ld[0] * sizeof(int64_t) if p.kind == MAX else 0)
    p.sums = <double *> arena.take(widest * sizeof(double) if attends else 0)
    p.u = arena.take(rows * p.size_ld * size if attends else 0)
    p.v_row = arena.take(p.size_ld * size if attends else 0)
    p.energy = arena.take(rows * size if attends else 0)
    p.share = arena.take(rows * size if attends else 0)
    p.dv = arena.take(B * p.size_ld * size if attends else 0)


# ---------------------------------------------------------------- forward

cdef void add_last(Pooling *p, const Team *team, const Run *run, const Unit *u, long b, int part,
                   char *z) noexcept nogil:
    """z += the outputs of one direction at its own last step."""
    cdef const View *v = &run.view
    cdef long row = b if u.reverse else v.last[b], ld = u.cell.ldo, size = team.kernels.itemsize
    cdef char *h = u.rows + row * ld * size
    cdef char *spare = p.gradient[part] + b * ld * size  # not in use yet
    if run.drops_output:
        team.kernels.dropout(u.cell.output, run.output_dropout,
                             key_for(run.seed, run.drop_step, site_of(ON_OUTPUT, 0, part),
                                     0 if u.reverse else v.length[b] - 1), <uint32_t> v.order[b], h, spare)
        h = spare
    team.kernels.add(1, u.cell.output, h, ld, z, ld)


cdef void add_many_steps(const rc_kernels *kernels, const View *v, long b, Segment outputs, char *z) noexcept nogil:
    """z = Σ_t of one sequence's outputs, by blocks of steps whose sums are added in double."""
    cdef double total[SUM_COLUMNS]
    cdef long first = 0, n, t, size = kernels.itemsize
    while first < outputs.width:
        n = min(SUM_COLUMNS, outputs.width - first)
        memset(total, 0, sizeof(total))
        for t in range(v.length[b]):
            if t % SUM_ROWS == 0:
                if t:
                    kernels.widen(1, n, z + first * size, n, total)
                memset(z + first * size, 0, n * size)
            kernels.add(1, n, outputs.data + ((v.offsets[t] + b) * outputs.ld + first) * size, outputs.ld,
                        z + first * size, n)
        kernels.widen(1, n, z + first * size, n, total)
        kernels.narrow(1, n, total, z + first * size, n)
        first += n


cdef void pool(Pooling *p, const Team *team, const Run *run, const char *theta) noexcept nogil:
    """One row per sequence, in packed order."""
    cdef const View *v = &run.view
    cdef const Layer *top = &run.layer[run.layer_count - 1]
    cdef const Segment *outputs = p.outputs
    cdef long b, t, row, ld, size = team.kernels.itemsize
    cdef int s, d
    cdef bint many
    cdef char *z
    if p.kind == ATTENTION:
        attend(p, team, v, theta)
        return
    for s in range(p.parts):
        ld = outputs[s].ld
        for b in range(v.sequences):
            if stopping():
                return
            z = p.pooled[s].data + b * ld * size
            memset(z, 0, ld * size)
            if p.kind == LAST:
                for d in range(2 if top.summed else 1):
                    add_last(p, team, run, &top.unit[d if top.summed else s], b, s, z)
                continue
            if p.kind == MAX:
                memset(p.where + (s * v.sequences + b) * ld, 255, ld * sizeof(int64_t))  # -1: from no row yet
            many = p.kind == MEAN and team_sums_wide(team, v.length[b])
            if many:
                add_many_steps(team.kernels, v, b, outputs[s], z)
            for t in range(0 if many else v.length[b]):
                row = v.offsets[t] + b
                if p.kind == MEAN:
                    team.kernels.add(1, outputs[s].width, outputs[s].data + row * ld * size, ld, z, ld)
                else:
                    team.kernels.running_max(outputs[s].width, outputs[s].data + row * ld * size, row, z,
                                             p.where + (s * v.sequences + b) * ld)
            if p.kind == MEAN:
                team.kernels.scale(outputs[s].width, 1.0 / v.length[b], z, z)


cdef inline double number(const char *array, long i, long size) noexcept nogil:
    return (<const float *> array)[i] if size == 4 else (<const double *> array)[i]


cdef inline void put_number(char *array, long i, long size, double value) noexcept nogil:
    if size == 4:
        (<float *> array)[i] = <float> value
    else:
        (<double *> array)[i] = value


cdef extern from "math.h" nogil:
    double exp(double)


cdef void attend(Pooling *p, const Team *team, const View *v, const char *theta) noexcept nogil:
    cdef const rc_kernels *kernels = team.kernels
    cdef long b, t, row, size = kernels.itemsize
    cdef double largest, total, one
    cdef int s
    for s in range(p.parts):
        team_product(team, &p.weight[s], v.rows, p.outputs[s].data, p.outputs[s].ld,
                     RC_FROM_C if s else RC_FROM_BIAS, p.u, p.size_ld)
    memset(p.v_row, 0, p.size_ld * size)
    memcpy(p.v_row, theta + p.v * size, p.size * size)
    kernels.attention_energies(v.rows, p.size, p.size_ld, p.u, p.v_row, p.energy)
    for b in range(v.sequences):
        if stopping():
            return
        largest = number(p.energy, b, size)
        for t in range(v.length[b]):
            one = number(p.energy, v.offsets[t] + b, size)
            if one > largest or one != one:
                largest = one
        total = 0
        for t in range(v.length[b]):
            total += exp(number(p.energy, v.offsets[t] + b, size) - largest)
        for t in range(v.length[b]):
            row = v.offsets[t] + b
            put_number(p.share, row, size, exp(number(p.energy, row, size) - largest) / total)
        for s in range(p.parts):
            memset(p.sums, 0, p.width[s] * sizeof(double))
            for t in range(v.length[b]):
                row = v.offsets[t] + b
                kernels.add_scaled_wide(p.width[s], number(p.share, row, size),
                                        p.outputs[s].data + row * p.outputs[s].ld * size, p.sums)
            memset(p.pooled[s].data + b * p.ld[s] * size, 0, p.ld[s] * size)
            kernels.narrow(1, p.width[s], p.sums, p.pooled[s].data + b * p.ld[s] * size, p.width[s])


# ---------------------------------------------------------------- streams

cdef void share_pooling_packed(Pooling *p, const Pooling *other) noexcept:
    """Read the weights that another one has packed."""
    cdef int s
    for s in range(p.parts if p.kind == ATTENTION else 0):
        p.weight[s], p.weight_T[s] = other.weight[s], other.weight_T[s]


cdef class Carried:
    """What pooling made of the steps of some streams until now."""

    def __cinit__(self, long sequences, list widths):
        self.weight = np.zeros(sequences)
        self.largest = np.zeros(sequences)
        self.z = np.zeros((sequences, sum(widths)))

    cdef void forget(self, rows):
        """Begin anew: all streams (None), or some."""
        np.asarray(self.weight)[slice(None) if rows is None else rows] = 0

    cdef void join(self, Pooling *p, const View *v, long size) noexcept nogil:
        """Let this run's vectors be those of all steps until now. A stream's first run is left as it is."""
        cdef double weight, largest, before, before_share, share, one
        cdef long b, row, t, i, at
        cdef bint first, more
        cdef int s
        cdef char *z
        if p.kind == EVERY or p.kind == LAST:
            return
        for b in range(v.sequences):
            row = v.order[b]
            before = self.weight[row]
            first = before == 0
            weight, largest = v.length[b], 0
            if p.kind == ATTENTION:
                weight, largest = 0, number(p.energy, b, size)
                for t in range(v.length[b]):
                    one = number(p.energy, v.offsets[t] + b, size)
                    if one > largest or one != one:
                        largest = one
                if not first and self.largest[row] > largest:
                    largest = self.largest[row]
                for t in range(v.length[b]):
                    weight += exp(number(p.energy, v.offsets[t] + b, size) - largest)
                if not first:
                    before *= exp(self.largest[row] - largest)
            before_share, share = before / (before + weight), weight / (before + weight)
            at = 0
            for s in range(p.parts):
                z = p.pooled[s].data + b * p.ld[s] * size
                for i in range(p.width[s]):
                    one = number(z, i, size)
                    if p.kind == MAX:
                        more = first or one > self.z[row, at]
                        one = one if more else self.z[row, at]
                    elif not first:
                        one = before_share * self.z[row, at] + share * one
                    if not first:
                        put_number(z, i, size, one)
                    self.z[row, at] = one
                    at += 1
            self.weight[row], self.largest[row] = before + weight, largest


# ---------------------------------------------------------------- backward

cdef void pool_back(Pooling *p, const Team *team, Run *run, const char *theta, char *grad, bint first,
                    bint accumulate) noexcept nogil:
    """z's gradient goes back to the outputs it came from. first: no other head was before."""
    cdef const View *v = &run.view
    cdef Layer *top = &run.layer[run.layer_count - 1]
    cdef const Unit *u
    cdef long b, t, row, ld, width, size = team.kernels.itemsize
    cdef int d, s
    cdef bint apart = p.kind == LAST and top.summed
    cdef char *dz
    if apart and not first and not run.apart:  # what came to the sum until now is each direction's
        team.kernels.copy(v.rows, p.ld[0], top.unit[0].dh, p.ld[0], top.unit[1].dh, p.ld[0])
    run.apart = run.apart or apart
    for s in range(2 if run.apart else p.parts):
        if first:
            clear(top.unit[s].dh, v.rows * p.ld[0 if run.apart else s] * size)
    if p.kind == ATTENTION:
        attend_back(p, team, run, theta, grad, accumulate)
        return
    for d in range(2 if run.apart else p.parts):
        s = 0 if run.apart else d
        u = &top.unit[d]
        ld = p.ld[s]
        width = p.width[s]
        for b in range(v.sequences):
            if stopping():
                return
            dz = p.gradient[s] + b * ld * size
            if p.kind == LAST:
                row = b if u.reverse else v.last[b]
                if first:
                    memcpy(u.dh + row * ld * size, dz, width * size)
                else:
                    team.kernels.add(1, width, dz, ld, u.dh + row * ld * size, ld)
            elif p.kind == MEAN:
                for t in range(v.length[b]):
                    row = v.offsets[t] + b
                    if first:
                        team.kernels.scale(width, 1.0 / v.length[b], dz, u.dh + row * ld * size)
                    else:
                        team.kernels.add_scaled(width, 1.0 / v.length[b], dz, u.dh + row * ld * size)
            else:
                team.kernels.return_to(width, p.where + (s * v.sequences + b) * ld, dz, u.dh, ld)


cdef void attend_back(Pooling *p, const Team *team, Run *run, const char *theta, char *grad,
                      bint accumulate) noexcept nogil:
    cdef const rc_kernels *kernels = team.kernels
    cdef const View *v = &run.view
    cdef Layer *top = &run.layer[run.layer_count - 1]
    cdef rc_columns columns
    cdef long b, t, row, at = 0, size = kernels.itemsize
    cdef double mean, one, share
    cdef int s, d
    memset(p.dv, 0, v.sequences * p.size_ld * size)
    for b in range(v.sequences):
        if stopping():
            return
        mean = 0
        for t in range(v.length[b]):
            row = v.offsets[t] + b
            one = 0
            for s in range(p.parts):
                one += kernels.dot(p.width[s], p.gradient[s] + b * p.ld[s] * size,
                                   p.outputs[s].data + row * p.outputs[s].ld * size)
            put_number(p.energy, row, size, one)  # dα; the energies are not needed any more
            mean += number(p.share, row, size) * one
        memset(p.sums, 0, p.size * sizeof(double))
        for t in range(v.length[b]):
            row = v.offsets[t] + b
            share = number(p.share, row, size)
            for d in range(2 if run.apart else p.parts):
                s = 0 if run.apart else d
                kernels.add_scaled(p.width[s], share, p.gradient[s] + b * p.ld[s] * size,
                                   top.unit[d].dh + row * p.ld[s] * size)
            kernels.attention_energy_back(p.size, share * (number(p.energy, row, size) - mean),
                                          p.u + row * p.size_ld * size, p.v_row, p.sums)
        kernels.narrow(1, p.size, p.sums, p.dv + b * p.size_ld * size, p.size)
    team_column_sums(team, v.sequences, p.size, p.dv, p.size_ld, accumulate, grad + p.v * size)
    columns.at, columns.count, columns.sums = 0, p.size, grad + p.b * size
    for s in range(p.parts):
        team_outer(team, p.width[s], v.rows, p.outputs[s].data, p.outputs[s].ld, NULL, p.u, p.size_ld, NULL, 1,
                   &columns, accumulate, grad + (p.W + at * p.size) * size, p.size)
        columns.sums = NULL
        at += p.width[s]
    for d in range(2 if run.apart else p.parts):
        s = 0 if run.apart else d
        team_product(team, &p.weight_T[s], v.rows, p.u, p.size_ld, RC_FROM_C, top.unit[d].dh, p.ld[s])
