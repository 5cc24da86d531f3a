from rnncore._core.plan cimport Core, Layer, Unit

cdef void run_forward(Core *c) noexcept nogil
cdef void run_backward(Core *c, bint accumulate, bint need_dx) noexcept nogil
cdef void state_gradient(Core *c, const Layer *layer, Unit *u, int state, char *work, char *out) noexcept nogil
