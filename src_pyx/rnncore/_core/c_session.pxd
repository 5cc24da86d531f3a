from libc.stdint cimport int64_t

from rnncore.capi cimport rnncore_batch, rnncore_session

cdef rnncore_session *session_open(object session, int input) except NULL
cdef void session_close(rnncore_session *session) noexcept
cdef int session_refresh(rnncore_session *session) except -9
cdef int64_t session_size(const rnncore_session *session, int what) noexcept nogil
cdef int session_state_shape(const rnncore_session *session, int number, int64_t *units, int64_t *width) noexcept nogil
cdef int session_step(rnncore_session *session, const void *x, int64_t per_row, void *out) noexcept nogil
cdef int session_run(rnncore_session *session, const rnncore_batch *batch, void *out) noexcept nogil
cdef int session_reset(rnncore_session *session, const int64_t *rows, int64_t count) noexcept nogil
cdef int session_get_state(rnncore_session *session, void *const *state) noexcept nogil
cdef int session_set_state(rnncore_session *session, const void *const *state) noexcept nogil
