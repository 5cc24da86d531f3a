from rnncore._core.plan cimport Run

cdef void exchange(Run *r, long width, char *rows, long ld, char *array, long lda, bint to_caller) noexcept nogil
cdef void load_dense(Run *r, char *x) noexcept nogil
cdef void load_ids(Run *r, const char *x) noexcept nogil
cdef void load_states(Run *r) noexcept nogil
cdef void load_state_gradients(Run *r) noexcept nogil
cdef void load_feedback(Run *r, const char *feedback, long width) noexcept nogil
cdef void load_output_gradient(Run *r, const char *dy, long width) noexcept nogil
cdef void store_outputs(Run *r, char *y, long width) noexcept nogil
cdef void store_state(Run *r, int n, int d, int state, char *out) noexcept nogil
