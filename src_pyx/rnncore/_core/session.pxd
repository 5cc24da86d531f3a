from rnncore._core.heads cimport Head
from rnncore._core.run cimport Workspace
from rnncore._core.schedule cimport Schedule

cdef class Stepper:
    # A stream: packed weights, memory and a state that stay from step to step.
    cdef Workspace dense, symbols
    cdef dict heads              # by name
    cdef bint several            # results are dicts
    cdef Head only               # the one without a name, or None
    cdef Schedule one_step
    cdef Workspace bound         # whose run is set up for one step of the stream, or None
    cdef list arrays             # the state, (units, B, width) each
    cdef bint fresh              # the state is zero: there is nothing to multiply yet
    cdef bint busy
    cdef bint plain              # steps need no Python
    cdef bint carries            # a state is carried on; else every sequence starts anew
    cdef readonly Py_ssize_t batch_size
    cdef Py_ssize_t inputs, width
    cdef int itemsize, type_number, threads_
    cdef bind(self, Workspace space, long per_row)
    cdef take_heads(self, dict heads)
    cdef place_of(self, Head head)
    cdef int enter(self) except -1
