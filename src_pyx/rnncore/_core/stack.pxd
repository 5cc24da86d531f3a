from libc.stdint cimport int64_t

from rnncore._core.batch cimport Batch
from rnncore._core.jobs cimport Arena, Segment
from rnncore._core.layers cimport Core, Layer, Unit

cdef class Stack:
    cdef Core c
    cdef object theta, grad, x, dy, y, identity
    cdef object lent              # the caller's outputs, where they are this pass's states too, or None
    cdef readonly Batch batch
    cdef Arena arena, weights
    cdef list old_outputs         # arrays handed out before, to be used again once nobody holds them
    cdef list old_gradients
    cdef readonly bint tape       # a training forward pass whose backward pass has not run yet
    cdef readonly int state_count  # arrays in a state: those of all units
    cdef readonly bint want_dx
    cdef long window              # steps of truncated back-propagation, or 0
    cdef object touched           # who knows which rows of the gradient may differ from zero, or None
    cdef long bind_matrix(self, Unit *u, int i)
    cdef bint packs_input(self, int n)
    cdef carve_weights(self)
    cdef void pack(self, bint backward) noexcept nogil
    cdef carve(self, bint dense_copy, bint fed)
    cdef carve_zoneout(self, Unit *u, int i)
    cdef carve_backward(self, const Layer *layer, Unit *u, bint masked)
    cdef callers_array(self, list kept, long width)
    cdef load_rows(self, x, bint dense_copy)
    cdef load_states(self, state)
    cdef load_feedback(self, feedback)
    cdef long top_segments(self, Segment *segments) noexcept
    cdef bint dx_in_place(self)
    cdef output_array(self)
    cdef bint outputs_are_states(self)
    cdef lend_outputs(self)
    cdef give_up_outputs(self)
    cdef state_gradients(self)
    cdef clear_rows(self, bint accumulate)
