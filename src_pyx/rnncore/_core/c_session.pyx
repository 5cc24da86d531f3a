"""Streams for C programs: a handle with the packed parameters of a Python session and a state of its own.

As session.pyx, without Python: the run of a step is bound when the first one comes, and then only its input moves.
"""
from cpython.exc cimport PyErr_SetInterrupt
from cpython.ref cimport Py_XDECREF, PyObject
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

cimport numpy as cnp

from rnncore._core.c_layers cimport Sizes, find_sizes, kind_of, put, shape_of, size_of
from rnncore._core.c_space cimport (
    Block,
    Space,
    bad_pointer,
    check_arrays,
    check_batch,
    check_ids,
    close_space,
    forward,
    have_view,
    lay_out,
    open_space,
    reserve,
    rnncore_claim,
    rnncore_flag,
    rnncore_release,
    set_states,
    store_states,
)
from rnncore._core.calls cimport begin_run, forward_pass
from rnncore._core.heads cimport Head, finish_rows, score_rows
from rnncore._core.kernels cimport begin_call, end_call, rnncore_call
from rnncore._core.plan cimport DENSE, Run, row_of, same_rows
from rnncore._core.projection cimport Core
from rnncore._core.run cimport Workspace
from rnncore._core.schedule cimport View
from rnncore._core.session cimport Stepper
from rnncore._core.transfer cimport store_outputs
from rnncore.capi cimport (
    RNNCORE_BAD_OPTION,
    RNNCORE_BAD_POINTER,
    RNNCORE_BAD_SIZE,
    RNNCORE_BUSY,
    RNNCORE_NO_MEMORY,
    RNNCORE_OK,
    RNNCORE_PYTHON_ERROR,
    rnncore_batch,
    rnncore_session,
)

cnp.import_array()

cdef enum:
    MOST = 0x7fffffff

cdef struct Session:
    rnncore_flag busy
    PyObject *owner              # the layer or network
    PyObject *packed             # what holds plan and packed weights: a Snapshot and a Workspace
    PyObject *head               # a Head of our own on the packed projection, or NULL
    Core *core                   # the head's, or NULL
    bint chain                   # the head is a CRF
    Sizes sizes
    const char *theta            # of the snapshot
    Space space
    Block scores                 # of a head: (rows, padded K)
    void **state                 # the state's arrays, (units, B, width) each
    bint carries                 # a state is carried on; else every sequence starts anew
    bint fresh                   # the state is zero: there is nothing to multiply yet
    bint bound                   # the run is set up for one step


cdef size_t state_bytes(const Session *h, int i) noexcept nogil:
    return <size_t> (h.sizes.state[i].units * h.sizes.batch_size * h.sizes.state[i].width * h.sizes.itemsize)


# ------------------------------------------------------------ opening

cdef int take_weights(Session *h, object owner, object snapshot, int kind) except -1:
    """Go on with the parameters of a snapshot."""
    cdef Workspace space = snapshot.workspace(kind, owner.kernel_plan(kind))
    cdef Head head
    for head in snapshot.heads(owner).values():
        h.core = &head.c
        h.chain = head.chain is not None
        put(&h.head, head)
    h.space.structure = &space.plan.structure
    h.space.weights = space.weights.units
    h.theta = <const char *> cnp.PyArray_DATA(space.weights.theta)
    h.bound = False
    put(&h.packed, (snapshot, space))
    return 0


cdef int fill(Session *h, object session, int input) except -1:
    cdef object owner = session._owner
    cdef int kind = kind_of(owner, input), i
    cdef Stepper stepper = session
    cdef Workspace space
    if not session._parts.alone:
        raise ValueError("sessions for C programs are of layers, and of networks with one compiled head at every step "
                         "and one input, without sparse features (skip) or adaptive softmax: use net.session() from "
                         "Python")
    put(&h.owner, owner)
    take_weights(h, owner, session._snapshot, kind)
    space = (<object> h.packed)[1]
    find_sizes(&h.sizes, space.plan, session._parts.outputs, owner._theta.size, stepper.batch_size, stepper.threads_)
    if open_space(&h.space, h.space.structure, h.space.weights):
        raise MemoryError()
    h.carries = stepper.carries
    h.fresh = stepper.fresh
    h.state = <void **> calloc(h.sizes.states, sizeof(void *))
    if h.state == NULL:
        raise MemoryError()
    for i in range(h.sizes.states):
        h.state[i] = calloc(1, state_bytes(h, i))
        if h.state[i] == NULL:
            raise MemoryError()
    if h.carries:
        for i, array in enumerate(session._get_state()):
            memcpy(h.state[i], cnp.PyArray_DATA(array), state_bytes(h, i))
    return 0


cdef rnncore_session *session_open(object session, int input) except NULL:
    from rnncore.nn.session import Session as PythonSession

    if not isinstance(session, PythonSession):
        raise TypeError(f"session_open needs what layer.session() or net.session() returns, got "
                        f"{type(session).__name__}")
    cdef Session *h = <Session *> calloc(1, sizeof(Session))
    if h == NULL:
        raise MemoryError()
    try:
        fill(h, session, input)
    except BaseException:
        session_close(<rnncore_session *> h)
        raise
    return <rnncore_session *> h


cdef void session_close(rnncore_session *session) noexcept:
    cdef Session *h = <Session *> session
    cdef int i
    if h == NULL:
        return
    close_space(&h.space)
    free(h.scores.memory)
    for i in range(h.sizes.states if h.state != NULL else 0):
        free(h.state[i])
    free(h.state)
    free(h.sizes.state)
    Py_XDECREF(h.head)
    Py_XDECREF(h.packed)
    Py_XDECREF(h.owner)
    free(h)


cdef int session_refresh(rnncore_session *session) except -9:
    from rnncore.nn.session import snapshot_of

    cdef Session *h = <Session *> session
    if h == NULL:
        raise ValueError("session_refresh needs a handle, got NULL")
    if not rnncore_claim(&h.busy):
        raise RuntimeError("this session is in use by another thread: refresh it when that is done")
    try:
        kept = snapshot_of(<object> h.owner, (<object> h.packed)[0].storage)
        take_weights(h, <object> h.owner, kept, h.space.structure.kind)
    finally:
        rnncore_release(&h.busy)
    return RNNCORE_OK


cdef int64_t session_size(const rnncore_session *session, int what) noexcept nogil:
    return RNNCORE_BAD_POINTER if session == NULL else size_of(&(<const Session *> session).sizes, what)


cdef int session_state_shape(const rnncore_session *session, int number, int64_t *units, int64_t *width) noexcept nogil:
    if session == NULL:
        return RNNCORE_BAD_POINTER
    return shape_of(&(<const Session *> session).sizes, number, units, width)


# ------------------------------------------------------------ the head

cdef int marginals(Session *h) noexcept with gil:
    """A CRF's recursions keep their memory in Python's hands."""
    cdef Head head = <Head> <object> h.head
    try:
        head.chain.marginals(&h.core.team, &h.space.run.view, h.core.scores, h.theta)
    except MemoryError:
        return RNNCORE_NO_MEMORY
    except KeyboardInterrupt:  # for whoever runs Python next
        PyErr_SetInterrupt()
        return RNNCORE_PYTHON_ERROR
    except BaseException:
        return RNNCORE_PYTHON_ERROR
    return RNNCORE_OK


cdef int predict(Session *h, char *out) noexcept nogil:
    """What the head makes of the run's outputs, to the caller's rows."""
    cdef rnncore_call call
    cdef const Run *r = &h.space.run
    cdef const View *v = &r.view
    cdef Core *c = h.core
    cdef long t, b, size = r.team.kernels.itemsize, K = c.options.outputs
    cdef int status = RNNCORE_OK
    c.theta = <char *> h.theta
    begin_call(&call, False)
    score_rows(c, r, <char *> h.scores.base)
    if not h.chain:
        finish_rows(c)
    end_call(&call)
    if h.chain:
        status = marginals(h)
    if status:
        return status
    if same_rows(v):
        r.team.kernels.copy(v.rows, K, c.scores, c.options.ld, out, K)
        return RNNCORE_OK
    memset(out, 0, <size_t> v.steps * v.sequences * K * size)
    for t in range(v.steps):
        for b in range(v.active[t]):
            memcpy(out + row_of(v, t, b) * K * size, c.scores + (v.offsets[t] + b) * c.options.ld * size, K * size)
    return RNNCORE_OK


cdef bint have_scores(Session *h, int64_t rows) noexcept nogil:
    return h.core == NULL or reserve(&h.scores, <size_t> rows * h.core.options.ld * <size_t> h.sizes.itemsize)


# ------------------------------------------------------------ steps

cdef int bind(Session *h, int64_t per_row) noexcept nogil:
    """Set up the run of one step."""
    cdef rnncore_batch batch
    cdef Run *r = &h.space.run
    cdef int status
    memset(&batch, 0, sizeof(batch))
    batch.steps, batch.sequences = 1, h.sizes.batch_size
    h.bound = False
    status = have_view(&h.space, &batch)
    if status:
        return status
    begin_run(r, h.space.layer, h.space.structure, h.space.weights, &h.space.view, h.theta, False, False, True, False,
              <long> per_row, h.sizes.threads)
    set_states(r, <const void *const *> h.state)
    status = lay_out(&h.space)
    if status == RNNCORE_OK and not have_scores(h, batch.sequences):
        status = RNNCORE_NO_MEMORY
    h.bound = status == RNNCORE_OK
    return status


cdef int one_step(Session *h, const void *x, int64_t per_row, void *out) noexcept nogil:
    cdef rnncore_call call
    cdef Run *r = &h.space.run
    cdef bint dense = h.space.structure.kind == DENSE
    cdef int status = RNNCORE_OK
    if not h.carries:
        return RNNCORE_BAD_OPTION
    if bad_pointer(x, h.sizes.itemsize if dense else sizeof(int64_t)) or bad_pointer(out, h.sizes.itemsize):
        return RNNCORE_BAD_POINTER
    if dense or per_row == 0:
        per_row = 1
    if not 1 <= per_row <= MOST:
        return RNNCORE_BAD_SIZE
    if not dense:
        status = check_ids(h.space.structure, <const int64_t *> x, h.sizes.batch_size * per_row, per_row)
    if status == RNNCORE_OK and (not h.bound or r.per_row != per_row):
        status = bind(h, per_row)
    if status:
        return status
    r.has_state = not h.fresh
    begin_call(&call, False)
    forward_pass(r, <char *> x, NULL, 0, NULL)
    store_states(r, h.state)
    if h.core == NULL:
        store_outputs(r, <char *> out, <long> h.sizes.outputs)
    end_call(&call)
    h.fresh = False
    return RNNCORE_OK if h.core == NULL else predict(h, <char *> out)


cdef int session_step(rnncore_session *session, const void *x, int64_t per_row, void *out) noexcept nogil:
    cdef Session *h = <Session *> session
    cdef int status
    if h == NULL:
        return RNNCORE_BAD_POINTER
    if not rnncore_claim(&h.busy):
        return RNNCORE_BUSY
    status = one_step(h, x, per_row, out)
    rnncore_release(&h.busy)
    return status


cdef int whole_run(Session *h, const rnncore_batch *batch, void *out) noexcept nogil:
    cdef rnncore_batch own
    cdef int status = check_batch(h.space.structure, batch, h.sizes.states)
    if status:
        return status
    if batch.state != NULL:
        return RNNCORE_BAD_OPTION
    if batch.sequences != h.sizes.batch_size:
        return RNNCORE_BAD_SIZE
    if bad_pointer(out, h.sizes.itemsize):
        return RNNCORE_BAD_POINTER
    own = batch[0]
    if h.carries and not h.fresh:
        own.state = <const void *const *> h.state
    h.bound = False
    if not have_scores(h, own.steps * own.sequences):
        return RNNCORE_NO_MEMORY
    status = forward(&h.space, &own, h.theta, h.sizes.threads, False, 0, 0, <char *> out if h.core == NULL else NULL)
    if status:
        return status
    if h.carries:
        store_states(&h.space.run, h.state)
        h.fresh = False
    return RNNCORE_OK if h.core == NULL else predict(h, <char *> out)


cdef int session_run(rnncore_session *session, const rnncore_batch *batch, void *out) noexcept nogil:
    cdef Session *h = <Session *> session
    cdef int status
    if h == NULL:
        return RNNCORE_BAD_POINTER
    if not rnncore_claim(&h.busy):
        return RNNCORE_BUSY
    status = whole_run(h, batch, out)
    rnncore_release(&h.busy)
    return status


# ------------------------------------------------------------ the state

cdef int reset(Session *h, const int64_t *rows, int64_t count) noexcept nogil:
    cdef int64_t i, u, bytes, B = h.sizes.batch_size
    cdef int s
    if rows == NULL:
        for s in range(h.sizes.states):
            memset(h.state[s], 0, state_bytes(h, s))
        h.fresh = True
        return RNNCORE_OK
    if bad_pointer(rows, sizeof(int64_t)):
        return RNNCORE_BAD_POINTER
    if count < 0:
        return RNNCORE_BAD_SIZE
    for i in range(count):
        if not 0 <= rows[i] < B:
            return RNNCORE_BAD_SIZE
    for s in range(h.sizes.states):
        bytes = h.sizes.state[s].width * h.sizes.itemsize
        for u in range(h.sizes.state[s].units):
            for i in range(count):
                memset(<char *> h.state[s] + (u * B + rows[i]) * bytes, 0, <size_t> bytes)
    return RNNCORE_OK


cdef int session_reset(rnncore_session *session, const int64_t *rows, int64_t count) noexcept nogil:
    cdef Session *h = <Session *> session
    cdef int status
    if h == NULL:
        return RNNCORE_BAD_POINTER
    if not rnncore_claim(&h.busy):
        return RNNCORE_BUSY
    status = reset(h, rows, count)
    rnncore_release(&h.busy)
    return status


cdef int exchange_state(rnncore_session *session, void *const *state, bint to_caller) noexcept nogil:
    cdef Session *h = <Session *> session
    cdef int status, i
    if h == NULL:
        return RNNCORE_BAD_POINTER
    if not h.carries:
        return RNNCORE_BAD_OPTION
    status = check_arrays(h.space.structure, h.sizes.states, <const void *const *> state)
    if status:
        return status
    if not rnncore_claim(&h.busy):
        return RNNCORE_BUSY
    for i in range(h.sizes.states):
        if to_caller:
            memcpy(state[i], h.state[i], state_bytes(h, i))
        else:
            memcpy(h.state[i], state[i], state_bytes(h, i))
    if not to_caller:
        h.fresh = False
    rnncore_release(&h.busy)
    return RNNCORE_OK


cdef int session_get_state(rnncore_session *session, void *const *state) noexcept nogil:
    return exchange_state(session, state, True)


cdef int session_set_state(rnncore_session *session, const void *const *state) noexcept nogil:
    return exchange_state(session, <void *const *> state, False)
