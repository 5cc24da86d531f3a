from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint64_t

from rnncore._core.plan cimport Plan, Run
from rnncore.capi cimport rnncore_batch, rnncore_gradients, rnncore_layers

cdef rnncore_layers *layers_open(object layer, int input, int training) except NULL
cdef void layers_close(rnncore_layers *layers) noexcept
cdef int layers_refresh(rnncore_layers *layers) except -9
cdef int64_t layers_size(const rnncore_layers *layers, int what) noexcept nogil
cdef int layers_state_shape(const rnncore_layers *layers, int number, int64_t *units, int64_t *width) noexcept nogil
cdef int layers_forward(rnncore_layers *layers, const rnncore_batch *batch, void *y, void *const *final) noexcept nogil
cdef int layers_forward_for_training(rnncore_layers *layers, const rnncore_batch *batch, const void *theta,
                                     uint64_t seed, uint64_t step, void *y, void *const *final) noexcept nogil
cdef int layers_backward(rnncore_layers *layers, const void *theta, const rnncore_gradients *g) noexcept nogil

cdef struct StateShape:
    int64_t units, width

cdef struct Sizes:
    # What ..._size() and ..._state_shape() tell.
    int64_t itemsize, inputs, outputs, parameters, batch_size
    int states, threads
    StateShape *state

cdef int find_sizes(Sizes *z, Plan plan, int64_t outputs, int64_t parameters, int64_t batch_size,
                    int threads) except -1
cdef int64_t size_of(const Sizes *z, int what) noexcept nogil
cdef int shape_of(const Sizes *z, int number, int64_t *units, int64_t *width) noexcept nogil
cdef int kind_of(object owner, int input) except -1
cdef void put(PyObject **place, object value) noexcept
