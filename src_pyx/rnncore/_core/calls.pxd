# One call through the layers in plain C: a run is begun, laid out, and carried through.
from rnncore._core.plan cimport Layer, Run, Unit, UnitWeights
from rnncore._core.schedule cimport View

cdef void begin_run(Run *r, Layer *layer, const Run *structure, UnitWeights *weights, const View *view,
                    const char *theta, bint packed, bint training, bint has_state, bint fed, long per_row,
                    int threads) noexcept nogil
cdef bint outputs_are_states(const Run *r, bint given) noexcept nogil
cdef void set_outputs(Run *r, char *y, long width) noexcept nogil
cdef bint takes_gradient_in_place(const Run *r, bint has_dstate, long width) noexcept nogil
cdef bint leaves_gradient_in_place(const Run *r) noexcept nogil
cdef void forward_pass(Run *r, char *x, char *feedback, long feedback_width, UnitWeights *to_pack) noexcept nogil
cdef void backward_pass(Run *r, UnitWeights *to_pack, char *dy, long dy_width, char *dx, bint accumulate,
                        bint want_dx) noexcept nogil
cdef void initial_gradient(Run *r, int n, int d, int state, char *work, char *out) noexcept nogil
cdef long work_of_initial_gradient(const Run *r, const Unit *u, int state) noexcept nogil
cdef long state_place(const Run *r, const Unit *u, int state) noexcept nogil
