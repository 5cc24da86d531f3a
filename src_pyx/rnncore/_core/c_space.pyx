"""Memory and checks of the door for C programs: what a handle runs in, in plain C.

Everything that a C program hands in is checked here, as rnncore._checks does for Python.
"""
from libc.limits cimport LONG_MAX
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from rnncore._core.calls cimport (
    backward_pass,
    begin_run,
    forward_pass,
    initial_gradient,
    leaves_gradient_in_place,
    outputs_are_states,
    set_outputs,
    state_place,
    takes_gradient_in_place,
    work_of_initial_gradient,
)
from rnncore._core.kernels cimport begin_call, end_call, rnncore_call
from rnncore._core.memory cimport Bump, place_backward, place_forward
from rnncore._core.plan cimport DENSE, Layer, Run, Unit, UnitWeights, row_of, same_rows
from rnncore._core.schedule cimport View, fill_view, ints_of_view, longs_of_view, measure_view
from rnncore._core.transfer cimport store_state
from rnncore.capi cimport (
    RNNCORE_BAD_IDS,
    RNNCORE_BAD_LENGTHS,
    RNNCORE_BAD_POINTER,
    RNNCORE_BAD_SIZE,
    RNNCORE_NO_MEMORY,
    RNNCORE_OK,
    rnncore_batch,
    rnncore_gradients,
)

cdef enum:
    LINE = 64
    MOST = 0x7fffffff            # of steps, sequences and ids in a bag
    ARRAYS = 64                  # more than a run has, counted in rows of its widest one: see fits_in_memory

cdef size_t NOWHERE = (<size_t> 1) << (8 * sizeof(size_t) - 2)  # places are counted from here until there is memory


# ------------------------------------------------------------ memory

cdef bint reserve(Block *block, size_t bytes) noexcept nogil:
    """Have room for so many bytes; whether there is."""
    if bytes > block.capacity or block.memory == NULL:
        free(block.memory)  # the old memory may go first
        block.capacity = 0
        block.base = NOWHERE
        block.memory = calloc(bytes + LINE, 1)
        if block.memory == NULL:
            return False
        block.base = (<size_t> block.memory + LINE - 1) // LINE * LINE
        block.capacity = bytes
    return True


cdef int open_space(Space *s, const Run *structure, UnitWeights *weights) noexcept nogil:
    """Begin; everything in `s` is zero."""
    s.structure = structure
    s.weights = weights
    s.kept.base = s.scratch.base = NOWHERE
    s.layer = <Layer *> calloc(structure.layer_count, sizeof(Layer))
    return RNNCORE_NO_MEMORY if s.layer == NULL else RNNCORE_OK


cdef void close_space(Space *s) noexcept nogil:
    free(s.layer)
    free(s.longs.memory)
    free(s.ints.memory)
    free(s.kept.memory)
    free(s.scratch.memory)


# ------------------------------------------------------------ checks

cdef bint bad_pointer(const void *p, long itemsize) noexcept nogil:
    return p == NULL or <size_t> p % itemsize != 0


cdef long output_width(const Run *r) noexcept nogil:
    """F: of both directions, or of their sum."""
    cdef const Layer *top = &r.layer[r.layer_count - 1]
    return top.unit[0].cell.output * top.outputs


cdef bint fits_in_memory(const Run *r, double rows, double sequences, double per_row) noexcept nogil:
    """Whether no count of bytes gets near the largest number there is."""
    cdef double widest = per_row * sizeof(int64_t), bytes = 0
    cdef long lda, ldo
    cdef int n, d, s
    for n in range(r.layer_count):
        for s in range(r.layer[n].inputs):
            widest = max(widest, <double> r.layer[n].input[s].width * sizeof(double))
        for d in range(r.layer[n].units):
            lda, ldo = r.layer[n].unit[d].cell.lda, r.layer[n].unit[d].cell.ldo
            widest = max(widest, <double> max(lda, ldo) * sizeof(double))
        bytes += (rows + sequences) * widest * ARRAYS
    return bytes < LONG_MAX


cdef int check_arrays(const Run *structure, int arrays, const void *const *state) noexcept nogil:
    """The arrays of a state, or of its gradient."""
    cdef int i
    if bad_pointer(state, sizeof(void *)):
        return RNNCORE_BAD_POINTER
    for i in range(arrays):
        if bad_pointer(state[i], structure.team.kernels.itemsize):
            return RNNCORE_BAD_POINTER
    return RNNCORE_OK


cdef int check_ids(const Run *structure, const int64_t *ids, int64_t count, int64_t per_row) noexcept nogil:
    """Ids in a row: symbols, or in a bag -1 for none."""
    cdef int64_t i, least = 0 if per_row == 1 else -1
    for i in range(count):
        if ids[i] < least or ids[i] >= structure.features:
            return RNNCORE_BAD_IDS
    return RNNCORE_OK


cdef int check_batch(const Run *structure, const rnncore_batch *batch, int arrays) noexcept nogil:
    """Sizes, pointers and lengths of a batch."""
    cdef int64_t b, rows
    cdef bint dense = structure.kind == DENSE
    if bad_pointer(batch, sizeof(void *)) or bad_pointer(
            batch.x, structure.team.kernels.itemsize if dense else sizeof(int64_t)):
        return RNNCORE_BAD_POINTER
    if not (1 <= batch.steps <= MOST and 1 <= batch.sequences <= MOST) or batch.threads < 0:
        return RNNCORE_BAD_SIZE
    if not dense and not 0 <= batch.per_row <= MOST:
        return RNNCORE_BAD_SIZE
    rows = batch.steps * batch.sequences
    if batch.lengths != NULL:
        if bad_pointer(batch.lengths, sizeof(int64_t)):
            return RNNCORE_BAD_POINTER
        for b in range(batch.sequences):
            if not 1 <= batch.lengths[b] <= batch.steps:
                return RNNCORE_BAD_LENGTHS
    if not fits_in_memory(structure, rows, batch.sequences, 1 if dense else batch.per_row):
        return RNNCORE_NO_MEMORY
    return RNNCORE_OK if batch.state == NULL else check_arrays(structure, arrays, batch.state)


cdef int check_ids_of_batch(const Space *s, const rnncore_batch *batch, int64_t per_row) noexcept nogil:
    """All ids that count: those of sequences that have not ended."""
    cdef const View *v = &s.view
    cdef const int64_t *ids = <const int64_t *> batch.x
    cdef long t, b
    cdef int status
    if same_rows(v):
        return check_ids(s.structure, ids, v.rows * per_row, per_row)
    for t in range(v.steps):
        for b in range(v.active[t]):
            status = check_ids(s.structure, ids + row_of(v, t, b) * per_row, per_row, per_row)
            if status:
                return status
    return RNNCORE_OK


# ------------------------------------------------------------ laying out

cdef int have_view(Space *s, const rnncore_batch *batch) noexcept nogil:
    """Which rows run at each step: kept from last time where nothing is ragged and the sizes are the same."""
    cdef View *v = &s.view
    cdef View wanted
    measure_view(&wanted, <long> batch.steps, <long> batch.sequences, batch.lengths)
    if v.offsets == NULL or not v.full or not wanted.full or v.steps != wanted.steps or \
            v.sequences != wanted.sequences:
        v.offsets = NULL
        if not reserve(&s.longs, longs_of_view(&wanted) * sizeof(long)) or \
                not reserve(&s.ints, ints_of_view(&wanted) * sizeof(int64_t)):
            return RNNCORE_NO_MEMORY
        fill_view(&wanted, batch.lengths, <long *> s.longs.base, <int64_t *> s.ints.base)
        v[0] = wanted
    v.packed = batch.packed != 0
    return RNNCORE_OK


cdef int lay_out(Space *s) noexcept nogil:
    """Places for the arrays of the forward pass."""
    cdef Bump keep
    while True:
        keep.base = s.kept.base
        keep.used = 0
        place_forward(&s.run, &keep)
        if <size_t> keep.used <= s.kept.capacity:
            return RNNCORE_OK
        if not reserve(&s.kept, keep.used):
            return RNNCORE_NO_MEMORY


cdef int lay_out_backward(Space *s, bint want_dx, bint dx_in_place) noexcept nogil:
    """Places for the arrays of the backward pass."""
    cdef Bump scratch
    while True:
        scratch.base = s.scratch.base
        scratch.used = 0
        place_backward(&s.run, &scratch, True, want_dx, dx_in_place)
        if <size_t> scratch.used <= s.scratch.capacity:
            return RNNCORE_OK
        if not reserve(&s.scratch, scratch.used):
            return RNNCORE_NO_MEMORY


# ------------------------------------------------------------ states

cdef void set_states(Run *r, const void *const *state) noexcept nogil:
    """Where the initial states are."""
    cdef Unit *u
    cdef int n, d, i
    for n in range(r.layer_count):
        for d in range(r.layer[n].units):
            u = &r.layer[n].unit[d]
            for i in range(u.kernel.states):
                u.initial[i] = <const char *> state[u.state_array + i] + state_place(r, u, i)


cdef void store_states(Run *r, void *const *state) noexcept nogil:
    """The final states to the caller's arrays."""
    cdef Unit *u
    cdef int n, d, i
    for n in range(r.layer_count):
        for d in range(r.layer[n].units):
            u = &r.layer[n].unit[d]
            for i in range(u.kernel.states):
                store_state(r, n, d, i, <char *> state[u.state_array + i] + state_place(r, u, i))


# ------------------------------------------------------------ passes

cdef int forward(Space *s, const rnncore_batch *batch, const char *theta, int threads, bint training, uint64_t seed,
                 uint64_t drop_step, char *y) noexcept nogil:
    """Run a checked batch. Training packs the weights first; else they are packed. y: NULL for not wanted."""
    cdef rnncore_call call
    cdef Run *r = &s.run
    cdef int64_t per_row = 1 if s.structure.kind == DENSE or batch.per_row == 0 else batch.per_row
    cdef long width = output_width(s.structure)
    cdef int status = have_view(s, batch)
    if status == RNNCORE_OK and s.structure.kind != DENSE:
        status = check_ids_of_batch(s, batch, per_row)
    if status:
        return status
    begin_run(r, s.layer, s.structure, s.weights, &s.view, theta, s.view.packed, training, batch.state != NULL, False,
              <long> per_row, batch.threads if batch.threads else threads)
    r.seed = seed
    r.drop_step = drop_step
    if batch.state != NULL:
        set_states(r, batch.state)
    if y != NULL:
        r.y_is_state = outputs_are_states(r, True)
        set_outputs(r, y, width)
    status = lay_out(s)
    if status:
        return status
    if y != NULL and not same_rows(&r.view):
        memset(y, 0, <size_t> r.view.steps * r.view.sequences * width * r.team.kernels.itemsize)
    begin_call(&call, False)
    forward_pass(r, <char *> batch.x, NULL, 0, s.weights if training else NULL)
    end_call(&call)
    return RNNCORE_OK


cdef int backward(Space *s, const char *theta, const rnncore_gradients *g) noexcept nogil:
    """Back-propagate checked gradients through the forward pass that the run is in."""
    cdef rnncore_call call
    cdef Run *r = &s.run
    cdef Layer *top = &r.layer[r.layer_count - 1]
    cdef Unit *u
    cdef int n, d, i, status
    cdef long width = output_width(r), inputs = r.layer[0].input[0].width
    cdef size_t work = 0
    cdef bint dx_in_place = g.dx != NULL and leaves_gradient_in_place(r)
    cdef bint dy_in_place = takes_gradient_in_place(r, g.dfinal != NULL, width)
    r.theta = theta
    r.grad = <char *> g.grad
    status = lay_out_backward(s, g.dx != NULL, dx_in_place)
    if status:
        return status
    if dy_in_place:
        top.unit[0].cell.dh = g.dy
    if dx_in_place:
        r.dx = <char *> g.dx
    elif g.dx != NULL and not same_rows(&r.view):
        memset(g.dx, 0, <size_t> r.view.steps * r.view.sequences * inputs * r.team.kernels.itemsize)
    for n in range(r.layer_count):
        for d in range(r.layer[n].units):
            u = &r.layer[n].unit[d]
            for i in range(u.kernel.states):
                u.dfinal[i] = NULL
                if g.dfinal != NULL:
                    u.dfinal[i] = <const char *> g.dfinal[u.state_array + i] + state_place(r, u, i)
                work = max(work, <size_t> work_of_initial_gradient(r, u, i))
    begin_call(&call, False)
    backward_pass(r, s.weights, NULL if dy_in_place else <char *> g.dy, width,
                  NULL if dx_in_place else <char *> g.dx, True, g.dx != NULL)
    end_call(&call)
    return RNNCORE_OK if g.dstate == NULL else initial_gradients(s, g.dstate, work)


cdef int initial_gradients(Space *s, void *const *dstate, size_t bytes) noexcept nogil:
    cdef rnncore_call call
    cdef Run *r = &s.run
    cdef Unit *u
    cdef Block work
    cdef int n, d, i
    work.memory = NULL
    if not reserve(&work, bytes):
        return RNNCORE_NO_MEMORY
    begin_call(&call, False)
    for n in range(r.layer_count):
        for d in range(r.layer[n].units):
            u = &r.layer[n].unit[d]
            for i in range(u.kernel.states):
                initial_gradient(r, n, d, i, <char *> work.base, <char *> dstate[u.state_array + i] +
                                 state_place(r, u, i))
    end_call(&call)
    free(work.memory)
    return RNNCORE_OK
