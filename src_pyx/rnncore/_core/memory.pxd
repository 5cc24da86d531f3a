from libc.stdint cimport uint64_t

from rnncore._core.plan cimport Run, UnitWeights
from rnncore._core.schedule cimport Schedule

cdef struct Bump:
    # Memory handed out from front to back: what lies where depends on what was asked for, never on an address.
    size_t base
    Py_ssize_t used

cdef class Memory:
    # Memory of one caller: grown, never shrunk.
    cdef object memory
    cdef size_t base
    cdef Py_ssize_t capacity
    cdef int reserve(self, Py_ssize_t bytes) except -1

cdef class Saved(Memory):
    # What a pending backward pass needs: one piece of memory, and how it was laid out.
    cdef object allocate          # bytes -> uint8 array; None: memory of our own
    cdef readonly Schedule schedule
    cdef readonly bint pending    # a training forward pass whose backward pass has not run yet
    cdef readonly object x        # the caller's input, where it is read where it lies, or None
    cdef readonly object y        # the caller's outputs, where they are the last layer's states, or None
    cdef bint packed, has_state, fed
    cdef long per_row
    cdef int threads
    cdef uint64_t seed, drop_step

cdef void bind(Run *r, const Run *structure, UnitWeights *weights) noexcept nogil
cdef void place_forward(Run *r, Bump *keep) noexcept nogil
cdef void place_backward(Run *r, Bump *scratch, bint consume, bint want_dx, bint dx_in_place) noexcept nogil
