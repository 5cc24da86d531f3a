# Memory and checks of the door for C programs: what a handle runs in, in plain C.
from libc.stdint cimport int64_t, uint64_t

from rnncore._core.memory cimport Bump
from rnncore._core.plan cimport Layer, Run, UnitWeights
from rnncore._core.schedule cimport View
from rnncore.capi cimport rnncore_batch, rnncore_gradients

cdef extern from "claim.h" nogil:
    ctypedef long rnncore_flag
    bint rnncore_claim(rnncore_flag *flag)
    void rnncore_release(rnncore_flag *flag)

cdef struct Block:
    # Grown, never shrunk; what was there is lost when it grows.
    void *memory                 # what was allocated
    size_t base                  # its first whole cache line
    size_t capacity

cdef struct Space:
    # Where one caller's runs are.
    const Run *structure
    UnitWeights *weights
    Run run
    Layer *layer                 # the run's
    View view
    Block longs, ints            # the view's memory
    Block kept, scratch          # of the forward pass; of the backward pass

cdef bint reserve(Block *block, size_t bytes) noexcept nogil
cdef int open_space(Space *s, const Run *structure, UnitWeights *weights) noexcept nogil
cdef void close_space(Space *s) noexcept nogil
cdef bint bad_pointer(const void *p, long itemsize) noexcept nogil
cdef long output_width(const Run *r) noexcept nogil
cdef int check_arrays(const Run *structure, int arrays, const void *const *state) noexcept nogil
cdef int check_ids(const Run *structure, const int64_t *ids, int64_t count, int64_t per_row) noexcept nogil
cdef int have_view(Space *s, const rnncore_batch *batch) noexcept nogil
cdef int check_batch(const Run *structure, const rnncore_batch *batch, int arrays) noexcept nogil
cdef int lay_out(Space *s) noexcept nogil
cdef void set_states(Run *r, const void *const *state) noexcept nogil
cdef void store_states(Run *r, void *const *state) noexcept nogil
cdef int forward(Space *s, const rnncore_batch *batch, const char *theta, int threads, bint training, uint64_t seed,
                 uint64_t drop_step, char *y) noexcept nogil
cdef int backward(Space *s, const char *theta, const rnncore_gradients *g) noexcept nogil
