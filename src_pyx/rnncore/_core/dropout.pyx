"""Dropout without state: masks are a function of seed, step counter, place in the net, time, sequence and column.

Any thread draws the same mask in any order, the backward pass draws it again instead of keeping it, and a resumed run
goes on where it was. The random numbers are in kernels/rows.h.
"""
from libc.stdint cimport uint32_t, uint64_t

from rnncore._core.gemm cimport Segment
from rnncore._core.kernels cimport parallel, rc_kernels, stopping
from rnncore._core.plan cimport Layer, Run, Unit, View, state_width


cdef uint32_t key_for(uint64_t seed, uint64_t drop_step, uint64_t site, uint64_t t) noexcept nogil:
    """A key for each (seed, step counter, place in the net, time): the SplitMix64 finaliser over a sum."""
    cdef uint64_t z = seed * 0x9E3779B97F4A7C15u + drop_step * 0xBF58476D1CE4E5B9u + site * 0x94D049BB133111EBu + t + 1
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu
    return <uint32_t> ((z ^ (z >> 31)) >> 16)


cdef struct DropJob:
    const Run *run
    Segment source, target
    double rate
    uint64_t site
    int tasks

cdef void drop_task(void *arg, int index) noexcept nogil:
    cdef const DropJob *job = <const DropJob *> arg
    cdef const Run *r = job.run
    cdef const View *v = &r.view
    cdef long t, b, row, size = r.team.kernels.itemsize
    cdef uint32_t key
    t = index
    while t < v.steps and not stopping():
        key = key_for(r.seed, r.drop_step, job.site, t)
        for b in range(v.active[t]):
            row = v.offsets[t] + b
            r.team.kernels.dropout(job.source.width, job.rate, key, <uint32_t> v.order[b],
                                   job.source.data + row * job.source.ld * size,
                                   job.target.data + row * job.target.ld * size)
        t += job.tasks


cdef void drop(const Run *r, Segment source, Segment target, double rate, uint64_t site) noexcept nogil:
    """target = source ⊙ mask; the same call on a gradient, in place, is its backward pass."""
    cdef DropJob job
    job.run = r
    job.source = source
    job.target = target
    job.rate = rate
    job.site = site
    job.tasks = r.team.threads
    parallel(drop_task, &job, job.tasks, job.tasks)


cdef uint64_t site_of(Site where, long layer, long part) noexcept nogil:
    return (<uint64_t> layer * 4 + where) * 4 + part


cdef void recurrent_masks(Run *r, const Layer *layer, Unit *u) noexcept nogil:
    """Recurrent dropout's factors: a row per sequence, or per state (the initial ones in front)."""
    cdef const rc_kernels *kernels = r.team.kernels
    cdef View *v = &r.view
    cdef long t, b, row, ld = u.cell.lds[u.kernel.dropped], size = kernels.itemsize
    cdef char *mask = <char *> u.cell.mask
    cdef uint64_t site = site_of(ON_STATE, u.number, 0)
    for t in range(-1, v.steps if layer.mask_per_step else 0):
        if stopping():
            return
        for b in range(v.sequences if t < 0 else v.active[t]):
            row = v.offsets[t] + b if t >= 0 else b - v.sequences if layer.mask_per_step else b
            kernels.dropout(state_width(u, u.kernel.dropped), layer.recurrent_dropout,
                            key_for(r.seed, r.drop_step, site, t + 1), <uint32_t> v.order[b], NULL,
                            mask + row * ld * size)


cdef void zone_masks(Run *r, const Layer *layer, Unit *u) noexcept nogil:
    """Zoneout's factors, a row per step: 0 where a state keeps its number."""
    cdef View *v = &r.view
    cdef long t, b, s, width, size = r.team.kernels.itemsize
    cdef uint32_t key
    for s in range(2):
        if u.cell.zone[s] == NULL:
            continue
        width = state_width(u, s)
        for t in range(v.steps):
            if stopping():
                return
            key = key_for(r.seed, r.drop_step, site_of(ON_STEP, u.number + s, 0), t)
            for b in range(v.active[t]):
                r.team.kernels.dropout(width, layer.zoneout[s], key, <uint32_t> v.order[b], NULL,
                                       <char *> u.cell.zone[s] + (v.offsets[t] + b) * u.cell.lds[s] * size)


cdef void draw_noise(Run *r, Unit *u) noexcept nogil:
    """What stochastic units compare their probability with; without training, one half."""
    cdef View *v = &r.view
    cdef long t, b, ld = u.cell.ld, size = r.team.kernels.itemsize
    cdef uint32_t key
    cdef char *noise = <char *> u.cell.extra
    for t in range(v.steps):
        if stopping():
            return
        key = key_for(r.seed, r.drop_step, site_of(ON_STEP, u.number, 1), t)
        for b in range(v.active[t]):
            if r.training:
                r.team.kernels.uniform(u.cell.hidden, key, <uint32_t> v.order[b],
                                       noise + (v.offsets[t] + b) * ld * size)
            else:
                r.team.kernels.fill(u.cell.hidden, 0.5, noise + (v.offsets[t] + b) * ld * size)


cdef void mask_states(Run *r, const Layer *layer, Unit *u) noexcept nogil:
    """carried = m⊙h for the initial states."""
    cdef View *v = &r.view
    cdef int state = u.kernel.dropped
    cdef long B = v.sequences, b, back, size = r.team.kernels.itemsize, ld = u.cell.lds[state]
    cdef uint32_t key = key_for(r.seed, r.drop_step, site_of(ON_STATE, u.number, 0), 0)
    for b in range(B):
        back = (b - B) * ld * size
        r.team.kernels.dropout(state_width(u, state), layer.recurrent_dropout, key, <uint32_t> v.order[b],
                               <const char *> u.cell.before[state] + back, <char *> u.cell.carried + back)
