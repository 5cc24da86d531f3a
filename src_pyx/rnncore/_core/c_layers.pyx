"""Layers for C programs: a handle on a Recurrent, its packed parameters, and memory to run in."""
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free

cimport numpy as cnp

from rnncore._core.c_space cimport (
    Space,
    backward,
    bad_pointer,
    check_arrays,
    check_batch,
    close_space,
    forward,
    open_space,
    output_width,
    rnncore_claim,
    rnncore_flag,
    rnncore_release,
    store_states,
)
from rnncore._core.plan cimport DENSE, Plan, Run
from rnncore._core.run cimport Workspace
from rnncore._core.weights cimport Weights
from rnncore.capi cimport (
    RNNCORE_BAD_OPTION,
    RNNCORE_BAD_ORDER,
    RNNCORE_BAD_POINTER,
    RNNCORE_BAD_SIZE,
    RNNCORE_BATCH_SIZE,
    RNNCORE_BUSY,
    RNNCORE_DENSE,
    RNNCORE_IDS,
    RNNCORE_INPUT_SIZE,
    RNNCORE_ITEMSIZE,
    RNNCORE_OK,
    RNNCORE_OUTPUT_SIZE,
    RNNCORE_PARAMETERS,
    RNNCORE_STATES,
    RNNCORE_THREADS,
    rnncore_batch,
    rnncore_gradients,
    rnncore_layers,
)

cnp.import_array()


# ------------------------------------------------------------ what sessions tell, too

cdef int find_sizes(Sizes *z, Plan plan, int64_t outputs, int64_t parameters, int64_t batch_size,
                    int threads) except -1:
    cdef const Run *r = &plan.structure
    cdef int i
    z.itemsize = r.team.kernels.itemsize
    z.inputs = r.layer[0].input[0].width if r.kind == DENSE else r.features
    z.outputs, z.parameters, z.batch_size, z.threads = outputs, parameters, batch_size, threads
    z.states = len(plan.state_shapes)
    z.state = <StateShape *> calloc(z.states, sizeof(StateShape))
    if z.state == NULL:
        raise MemoryError()
    for i in range(z.states):
        z.state[i].units, z.state[i].width = plan.state_shapes[i]
    return 0


cdef int64_t size_of(const Sizes *z, int what) noexcept nogil:
    if what == RNNCORE_ITEMSIZE:
        return z.itemsize
    if what == RNNCORE_INPUT_SIZE:
        return z.inputs
    if what == RNNCORE_OUTPUT_SIZE:
        return z.outputs
    if what == RNNCORE_PARAMETERS:
        return z.parameters
    if what == RNNCORE_STATES:
        return z.states
    if what == RNNCORE_BATCH_SIZE:
        return z.batch_size
    if what == RNNCORE_THREADS:
        return z.threads
    return RNNCORE_BAD_OPTION


cdef int shape_of(const Sizes *z, int number, int64_t *units, int64_t *width) noexcept nogil:
    if units == NULL or width == NULL:
        return RNNCORE_BAD_POINTER
    if not 0 <= number < z.states:
        return RNNCORE_BAD_SIZE
    units[0], width[0] = z.state[number].units, z.state[number].width
    return RNNCORE_OK


cdef int kind_of(object owner, int input) except -1:
    """Which kind of input that is to a layer or network, as plans number them."""
    if input != RNNCORE_DENSE and input != RNNCORE_IDS:
        raise ValueError(f"input must be RNNCORE_DENSE or RNNCORE_IDS, got {input}")
    for kind in owner._input_kinds():
        if (kind == DENSE) == (input == RNNCORE_DENSE):
            return kind
    raise ValueError(f"{owner!r} reads ids, not dense numbers: open it with RNNCORE_IDS")


# ------------------------------------------------------------ layers

cdef struct Layers:
    rnncore_flag busy
    PyObject *layer              # the Recurrent
    PyObject *packed             # what holds its plan and its packed weights: a Snapshot and a Workspace
    PyObject *own                # the weights that training packs, or NULL
    Sizes sizes
    const char *theta            # of the snapshot
    Space reading, training
    bint trains, pending


cdef void put(PyObject **place, object value) noexcept:
    """Hold one object in place of another."""
    cdef PyObject *old = place[0]
    Py_INCREF(value)
    place[0] = <PyObject *> value
    Py_XDECREF(old)


cdef int take_weights(Layers *h, object layer, int kind) except -1:
    """Read the parameters as they are now."""
    from rnncore.nn.session import snapshot_of

    snapshot = snapshot_of(layer, layer.dtype.name)
    cdef Workspace space = snapshot.workspace(kind, layer.kernel_plan(kind))
    h.reading.structure = &space.plan.structure
    h.reading.weights = space.weights.units
    h.theta = <const char *> cnp.PyArray_DATA(space.weights.theta)
    put(&h.packed, (snapshot, space))
    return 0


cdef int fill(Layers *h, object layer, int input, bint training) except -1:
    from rnncore import _threads

    cdef int kind = kind_of(layer, input)
    cdef Plan plan
    cdef Weights own
    put(&h.layer, layer)
    take_weights(h, layer, kind)
    plan = layer.kernel_plan(kind)
    find_sizes(&h.sizes, plan, output_width(&plan.structure), layer._theta.size, 0,
               _threads.resolve(layer.n_threads))
    if open_space(&h.reading, h.reading.structure, h.reading.weights):
        raise MemoryError()
    if training:
        own = Weights(plan)
        put(&h.own, own)
        h.trains = True
        if open_space(&h.training, &own.plan.structure, own.units):
            raise MemoryError()
    return 0


cdef rnncore_layers *layers_open(object layer, int input, int training) except NULL:
    from rnncore.nn.recurrent import Recurrent

    if not isinstance(layer, Recurrent):
        raise TypeError(f"layers_open needs a rnncore.Recurrent, got {type(layer).__name__}")
    cdef Layers *h = <Layers *> calloc(1, sizeof(Layers))
    if h == NULL:
        raise MemoryError()
    try:
        fill(h, layer, input, training != 0)
    except BaseException:
        layers_close(<rnncore_layers *> h)
        raise
    return <rnncore_layers *> h


cdef void layers_close(rnncore_layers *layers) noexcept:
    cdef Layers *h = <Layers *> layers
    if h == NULL:
        return
    close_space(&h.reading)
    close_space(&h.training)
    free(h.sizes.state)
    Py_XDECREF(h.own)
    Py_XDECREF(h.packed)
    Py_XDECREF(h.layer)
    free(h)


cdef int layers_refresh(rnncore_layers *layers) except -9:
    cdef Layers *h = <Layers *> layers
    if h == NULL:
        raise ValueError("layers_refresh needs a handle, got NULL")
    if not rnncore_claim(&h.busy):
        raise RuntimeError("this handle is in use by another thread: refresh it when that is done")
    try:
        take_weights(h, <object> h.layer, h.reading.structure.kind)
    finally:
        rnncore_release(&h.busy)
    return RNNCORE_OK


cdef int64_t layers_size(const rnncore_layers *layers, int what) noexcept nogil:
    return RNNCORE_BAD_POINTER if layers == NULL else size_of(&(<const Layers *> layers).sizes, what)


cdef int layers_state_shape(const rnncore_layers *layers, int number, int64_t *units, int64_t *width) noexcept nogil:
    return RNNCORE_BAD_POINTER if layers == NULL else shape_of(&(<const Layers *> layers).sizes, number, units, width)


cdef int check(const Layers *h, const rnncore_batch *batch, const void *y, void *const *final) noexcept nogil:
    cdef const Run *structure = h.reading.structure
    cdef int status = check_batch(structure, batch, h.sizes.states)
    if status == RNNCORE_OK and y != NULL and bad_pointer(y, h.sizes.itemsize):
        return RNNCORE_BAD_POINTER
    if status == RNNCORE_OK and final != NULL:
        status = check_arrays(structure, h.sizes.states, <const void *const *> final)
    return status


cdef int layers_forward(rnncore_layers *layers, const rnncore_batch *batch, void *y, void *const *final) noexcept nogil:
    cdef Layers *h = <Layers *> layers
    cdef int status
    if h == NULL:
        return RNNCORE_BAD_POINTER
    if not rnncore_claim(&h.busy):
        return RNNCORE_BUSY
    status = check(h, batch, y, final)
    if status == RNNCORE_OK:
        status = forward(&h.reading, batch, h.theta, h.sizes.threads, False, 0, 0, <char *> y)
    if status == RNNCORE_OK and final != NULL:
        store_states(&h.reading.run, final)
    rnncore_release(&h.busy)
    return status


cdef int layers_forward_for_training(rnncore_layers *layers, const rnncore_batch *batch, const void *theta,
                                     uint64_t seed, uint64_t step, void *y, void *const *final) noexcept nogil:
    cdef Layers *h = <Layers *> layers
    cdef int status
    if h == NULL or bad_pointer(theta, h.sizes.itemsize):
        return RNNCORE_BAD_POINTER
    if not h.trains:
        return RNNCORE_BAD_OPTION
    if not rnncore_claim(&h.busy):
        return RNNCORE_BUSY
    status = check(h, batch, y, final)
    if status == RNNCORE_OK:
        h.pending = False
        status = forward(&h.training, batch, <const char *> theta, h.sizes.threads, True, seed, step, <char *> y)
    if status == RNNCORE_OK:
        h.pending = True
        if final != NULL:
            store_states(&h.training.run, final)
    rnncore_release(&h.busy)
    return status


cdef int check_gradients(const Layers *h, const rnncore_gradients *g) noexcept nogil:
    cdef const Run *r = &h.training.run
    cdef int status = RNNCORE_OK
    if bad_pointer(g, sizeof(void *)) or bad_pointer(g.dy, h.sizes.itemsize) or bad_pointer(g.grad, h.sizes.itemsize):
        return RNNCORE_BAD_POINTER
    if g.dx != NULL and r.kind != DENSE or g.dstate != NULL and not r.has_state:
        return RNNCORE_BAD_OPTION
    if g.dx != NULL and bad_pointer(g.dx, h.sizes.itemsize):
        return RNNCORE_BAD_POINTER
    if g.dfinal != NULL:
        status = check_arrays(r, h.sizes.states, g.dfinal)
    if status == RNNCORE_OK and g.dstate != NULL:
        status = check_arrays(r, h.sizes.states, <const void *const *> g.dstate)
    return status


cdef int layers_backward(rnncore_layers *layers, const void *theta, const rnncore_gradients *g) noexcept nogil:
    cdef Layers *h = <Layers *> layers
    cdef int status
    if h == NULL or bad_pointer(theta, h.sizes.itemsize):
        return RNNCORE_BAD_POINTER
    if not rnncore_claim(&h.busy):
        return RNNCORE_BUSY
    status = check_gradients(h, g) if h.pending else RNNCORE_BAD_ORDER
    if status == RNNCORE_OK:
        status = backward(&h.training, <const char *> theta, g)
        h.pending = False
    rnncore_release(&h.busy)
    return status
