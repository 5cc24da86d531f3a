# rnncore from Cython: `from rnncore.capi cimport rnncore_api, rnncore_import`. What everything means is in rnncore.h.
from libc.stdint cimport int64_t, uint64_t

cdef extern from "rnncore.h" nogil:
    enum:
        RNNCORE_API_VERSION

    enum:
        RNNCORE_OK
        RNNCORE_BAD_POINTER
        RNNCORE_BAD_SIZE
        RNNCORE_BAD_LENGTHS
        RNNCORE_BAD_IDS
        RNNCORE_BAD_OPTION
        RNNCORE_BAD_ORDER
        RNNCORE_BUSY
        RNNCORE_NO_MEMORY
        RNNCORE_PYTHON_ERROR

    enum:
        RNNCORE_DENSE
        RNNCORE_IDS

    enum:
        RNNCORE_FROM_ZERO
        RNNCORE_FROM_BIAS
        RNNCORE_FROM_C

    enum:
        RNNCORE_ITEMSIZE
        RNNCORE_INPUT_SIZE
        RNNCORE_OUTPUT_SIZE
        RNNCORE_PARAMETERS
        RNNCORE_STATES
        RNNCORE_BATCH_SIZE
        RNNCORE_THREADS

    ctypedef struct rnncore_matrix:
        pass

    ctypedef struct rnncore_layers:
        pass

    ctypedef struct rnncore_session:
        pass

    ctypedef struct rnncore_batch:
        int64_t steps
        int64_t sequences
        const int64_t *lengths
        int packed
        int threads
        int64_t per_row
        const void *x
        const void *const *state

    ctypedef struct rnncore_gradients:
        const void *dy
        const void *const *dfinal
        void *grad
        void *dx
        void *const *dstate

    ctypedef struct rnncore_api:
        int version
        size_t size
        const char *(*message)(int status) noexcept nogil
        const char *(*level)() noexcept nogil
        int (*num_threads)() except -9
        int (*matrix_pack)(int itemsize, int64_t K, int64_t N, const void *W, int64_t ldw, int transposed,
                           const void *bias, rnncore_matrix **made) noexcept nogil
        int (*matrix_multiply)(const rnncore_matrix *matrix, int64_t M, const void *A, int64_t lda, int start, void *C,
                               int64_t ldc, int threads) noexcept nogil
        void (*matrix_free)(rnncore_matrix *matrix) noexcept nogil
        rnncore_layers *(*layers_open)(object layer, int input, int training) except NULL
        void (*layers_close)(rnncore_layers *layers) noexcept
        int (*layers_refresh)(rnncore_layers *layers) except -9
        int64_t (*layers_size)(const rnncore_layers *layers, int what) noexcept nogil
        int (*layers_state_shape)(const rnncore_layers *layers, int number, int64_t *units,
                                  int64_t *width) noexcept nogil
        int (*layers_forward)(rnncore_layers *layers, const rnncore_batch *batch, void *y,
                              void *const *final) noexcept nogil
        int (*layers_forward_for_training)(rnncore_layers *layers, const rnncore_batch *batch, const void *theta,
                                           uint64_t seed, uint64_t step, void *y, void *const *final) noexcept nogil
        int (*layers_backward)(rnncore_layers *layers, const void *theta,
                               const rnncore_gradients *gradients) noexcept nogil
        rnncore_session *(*session_open)(object session, int input) except NULL
        void (*session_close)(rnncore_session *session) noexcept
        int (*session_refresh)(rnncore_session *session) except -9
        int64_t (*session_size)(const rnncore_session *session, int what) noexcept nogil
        int (*session_state_shape)(const rnncore_session *session, int number, int64_t *units,
                                   int64_t *width) noexcept nogil
        int (*session_step)(rnncore_session *session, const void *x, int64_t per_row, void *out) noexcept nogil
        int (*session_run)(rnncore_session *session, const rnncore_batch *batch, void *out) noexcept nogil
        int (*session_reset)(rnncore_session *session, const int64_t *rows, int64_t count) noexcept nogil
        int (*session_get_state)(rnncore_session *session, void *const *state) noexcept nogil
        int (*session_set_state)(rnncore_session *session, const void *const *state) noexcept nogil

cdef extern from "rnncore.h":
    const rnncore_api *rnncore_import() except NULL
