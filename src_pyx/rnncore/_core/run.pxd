from rnncore._core.memory cimport Memory, Saved
from rnncore._core.plan cimport Layer, Plan, Run
from rnncore._core.schedule cimport Schedule
from rnncore._core.weights cimport Weights

cdef class Workspace:
    # What one caller at a time runs in.
    cdef readonly Plan plan
    cdef readonly Weights weights
    cdef Run run
    cdef Run *seen               # whose outputs heads see: the run, or what attention made of it
    cdef Layer *layer
    cdef Memory scratch
    cdef Schedule schedule       # of the run at hand
    cdef public bint shows_gates  # runs without training leave all gates to be read (activations.pyx)
    cdef bint begun              # heads have written to the gradient of the symbols' table
    cdef object held             # arrays that the run reads
    cdef void begin(self, const char *theta, Schedule schedule, bint packed, bint training, bint has_state, bint fed,
                    long per_row, int threads) noexcept
    cdef place(self, Saved saved)
    cdef set_states(self, list state)
    cdef outputs_array(self, bint front)
    cdef state_arrays(self)
    cdef void store_states(self, list states) noexcept
    cdef begin_backward(self, Saved saved, bint consume, bint want_dx, bint dx_in_place)
    cdef restore(self, theta, Saved saved)
    cdef state_gradients(self)
    cpdef backward(self, theta, grad, Saved saved, dy, list dstate, bint accumulate, bint want_dx=?, bint consume=?,
                   touched=?, out=?)
