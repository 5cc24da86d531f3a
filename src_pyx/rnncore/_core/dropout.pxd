from libc.stdint cimport uint32_t, uint64_t

from rnncore._core.gemm cimport Segment
from rnncore._core.plan cimport Layer, Run, Unit

cdef enum Site:  # where dropout acts; part of the key of its random numbers
    ON_STEP = 0                  # zoneout, and the draws of stochastic units
    ON_INPUT = 1
    ON_OUTPUT = 2
    ON_STATE = 3

cdef uint32_t key_for(uint64_t seed, uint64_t drop_step, uint64_t site, uint64_t t) noexcept nogil
cdef uint64_t site_of(Site where, long layer, long part) noexcept nogil
cdef void drop(const Run *r, Segment source, Segment target, double rate, uint64_t site) noexcept nogil
cdef void recurrent_masks(Run *r, const Layer *layer, Unit *u) noexcept nogil
cdef void zone_masks(Run *r, const Layer *layer, Unit *u) noexcept nogil
cdef void draw_noise(Run *r, Unit *u) noexcept nogil
cdef void mask_states(Run *r, const Layer *layer, Unit *u) noexcept nogil
