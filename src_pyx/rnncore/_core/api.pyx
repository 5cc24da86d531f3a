"""The table of C functions (rnncore/include/rnncore.h), filled and handed out as a capsule."""
from cpython.pycapsule cimport PyCapsule_New

from rnncore._core.c_layers cimport (
    layers_backward,
    layers_close,
    layers_forward,
    layers_forward_for_training,
    layers_open,
    layers_refresh,
    layers_size,
    layers_state_shape,
)
from rnncore._core.c_matrix cimport matrix_free, matrix_multiply, matrix_pack
from rnncore._core.c_session cimport (
    session_close,
    session_get_state,
    session_open,
    session_refresh,
    session_reset,
    session_run,
    session_set_state,
    session_size,
    session_state_shape,
    session_step,
)
from rnncore._core.kernels cimport kernels_for, rc_kernels
from rnncore.capi cimport (
    RNNCORE_API_VERSION,
    RNNCORE_BAD_IDS,
    RNNCORE_BAD_LENGTHS,
    RNNCORE_BAD_OPTION,
    RNNCORE_BAD_ORDER,
    RNNCORE_BAD_POINTER,
    RNNCORE_BAD_SIZE,
    RNNCORE_BUSY,
    RNNCORE_NO_MEMORY,
    RNNCORE_OK,
    RNNCORE_PYTHON_ERROR,
    rnncore_api,
)

cdef const rc_kernels *kernels = kernels_for(4)


cdef const char *message(int status) noexcept nogil:
    if status == RNNCORE_OK:
        return b"done"
    if status == RNNCORE_BAD_POINTER:
        return b"a pointer is NULL, or not aligned to the size of its numbers"
    if status == RNNCORE_BAD_SIZE:
        return b"a size is out of range, or not that of the handle"
    if status == RNNCORE_BAD_LENGTHS:
        return b"a sequence's length is not in 1..steps"
    if status == RNNCORE_BAD_IDS:
        return b"an id is not one of the symbols (-1 for none is for bags of ids only)"
    if status == RNNCORE_BAD_OPTION:
        return b"an option that there is not, or that is not possible with this handle"
    if status == RNNCORE_BAD_ORDER:
        return b"backward needs a forward pass for training before it, and each serves one"
    if status == RNNCORE_BUSY:
        return b"another thread is using this handle: give each thread its own"
    if status == RNNCORE_NO_MEMORY:
        return b"no memory"
    if status == RNNCORE_PYTHON_ERROR:
        return b"something failed in Python"
    return b"not a status of rnncore"


cdef const char *level() noexcept nogil:
    return kernels.level


cdef int num_threads() except -9:
    from rnncore import _threads

    return _threads.get_num_threads()  # raises for a bad RNNCORE_NUM_THREADS


cdef rnncore_api table
table.version = RNNCORE_API_VERSION
table.size = sizeof(rnncore_api)
table.message = message
table.level = level
table.num_threads = num_threads
table.matrix_pack = matrix_pack
table.matrix_multiply = matrix_multiply
table.matrix_free = matrix_free
table.layers_open = layers_open
table.layers_close = layers_close
table.layers_refresh = layers_refresh
table.layers_size = layers_size
table.layers_state_shape = layers_state_shape
table.layers_forward = layers_forward
table.layers_forward_for_training = layers_forward_for_training
table.layers_backward = layers_backward
table.session_open = session_open
table.session_close = session_close
table.session_refresh = session_refresh
table.session_size = session_size
table.session_state_shape = session_state_shape
table.session_step = session_step
table.session_run = session_run
table.session_reset = session_reset
table.session_get_state = session_get_state
table.session_set_state = session_set_state

_C_API = PyCapsule_New(&table, b"rnncore._core.api._C_API", NULL)
