from rnncore._core.plan cimport Layer, Run, Unit

cdef void run_forward(Run *r) noexcept nogil
cdef void run_backward(Run *r, bint accumulate, bint need_dx) noexcept nogil
cdef void state_gradient(Run *r, const Layer *layer, Unit *u, int state, char *work, char *out) noexcept nogil
