"""One call through the layers, without Python: what Workspace and the door for C programs have in common.

A call is begun (begin_run), its outputs and states are set, its arrays laid out (memory.pyx), and then it runs.
"""
from rnncore._core.gemm cimport padded, team_sums_wide
from rnncore._core.memory cimport bind
from rnncore._core.passes cimport run_backward, run_forward, state_gradient
from rnncore._core.plan cimport (
    DENSE,
    EMBEDDED,
    SYMBOLS,
    Layer,
    Run,
    Unit,
    UnitWeights,
    has_zoneout,
    same_rows,
    state_width,
)
from rnncore._core.schedule cimport View
from rnncore._core.transfer cimport (
    exchange,
    load_dense,
    load_feedback,
    load_ids,
    load_output_gradient,
    load_state_gradients,
    load_states,
    store_outputs,
)
from rnncore._core.weights cimport pack_weights

cdef enum:
    OFTEN = 2  # rows for each symbol, on average


cdef void begin_run(Run *r, Layer *layer, const Run *structure, UnitWeights *weights, const View *view,
                    const char *theta, bint packed, bint training, bint has_state, bint fed, long per_row,
                    int threads) noexcept nogil:
    """Bind layers to the options of one run; `layer` has room for those of the structure."""
    cdef int n
    r.layer = layer
    bind(r, structure, weights)
    r.view = view[0]
    r.view.packed = packed
    r.theta = theta
    r.training = training
    r.has_state = has_state
    r.fed = fed
    r.per_row = per_row
    r.team.threads = threads
    # no path takes more steps than this: a longer window cuts nothing off
    r.truncate = r.window if r.window <= r.view.steps * r.layer_count else 0
    for n in range(r.layer_count):
        r.layer[n].drops_input = training and r.layer[n].dropout > 0
    r.drops_output = training and r.output_dropout > 0
    r.picks = picks_products(r)
    for n in range(r.layer_count):
        r.layer[n].halves = waits_in_halves(r, &r.layer[n])


cdef bint picks_products(const Run *r) noexcept nogil:
    """Whether rows are so many that each symbol's product with W_xh is best made once."""
    return r.kind == EMBEDDED and r.per_row == 1 and OFTEN * r.features <= r.view.rows and \
        not r.layer[0].drops_input and not r.layer[0].unit[0].kernel.direct_at


cdef bint waits_in_halves(const Run *r, const Layer *layer) noexcept nogil:
    """Whether what a layer saves of its gates has 16 bits, and gradients too: in mixed precision, where the cell can.

    Gradients that are added to rows of symbols are read as numbers: where a is h there is no memory to bring them back,
    and where rows are very many their sum is one of sums over blocks.
    """
    cdef const Unit *u = &layer.unit[0]
    cdef bint symbols = layer == &r.layer[0] and (r.kind == SYMBOLS or r.picks)
    return r.training and r.team.storage != NULL and u.kernel.saves_halves and u.cell.flags == 0 and \
        not r.truncate and not (symbols and (u.kernel.in_place or team_sums_wide(&r.team, r.view.rows)))


cdef bint outputs_are_states(const Run *r, bint given) noexcept nogil:
    """Whether the last layer's states can lie in the outputs: where they are the outputs, in their layout.

    given : the outputs are the caller's, without room for initial states in front.
    """
    cdef const Layer *top = &r.layer[r.layer_count - 1]
    return same_rows(&r.view) and top.units == 1 and top.unit[0].cell.output == top.unit[0].cell.ldo and \
        not has_zoneout(top) and not r.drops_output and not (given and r.has_state)


cdef void set_outputs(Run *r, char *y, long width) noexcept nogil:
    """Where the outputs go; r.y_is_state says whether the last layer works there."""
    cdef Layer *top = &r.layer[r.layer_count - 1]
    r.y = y
    r.y_width = width
    r.emits = not r.y_is_state and not top.summed and not r.drops_output
    if r.y_is_state:
        top.unit[0].cell.state[0] = y


cdef bint takes_gradient_in_place(const Run *r, bint has_dstate, long width) noexcept nogil:
    """Whether dy has the core's own layout: its rows are ours and need no padding."""
    cdef const Layer *top = &r.layer[r.layer_count - 1]
    return not has_dstate and same_rows(&r.view) and top.units == 1 and not r.drops_output and \
        top.unit[0].cell.ldo == width


cdef bint leaves_gradient_in_place(const Run *r) noexcept nogil:
    """Whether dx has the core's own layout."""
    cdef long width = r.layer[0].input[0].width
    return same_rows(&r.view) and width == padded(r.team.kernels, width)


cdef void forward_pass(Run *r, char *x, char *feedback, long feedback_width, UnitWeights *to_pack) noexcept nogil:
    """Run the layers. feedback: NULL for none; to_pack: weights to pack first, NULL where they are packed."""
    if r.kind == DENSE:
        load_dense(r, x)
    else:
        load_ids(r, x)
    load_states(r)
    if feedback != NULL:
        load_feedback(r, feedback, feedback_width)
    if to_pack != NULL:
        pack_weights(r, to_pack, r.theta, False, False, r.team.threads)
    run_forward(r)
    if r.y != NULL and not r.emits and not r.y_is_state:
        store_outputs(r, r.y, r.y_width)


cdef void backward_pass(Run *r, UnitWeights *to_pack, char *dy, long dy_width, char *dx, bint accumulate,
                        bint want_dx) noexcept nogil:
    """Back-propagate. dy: NULL where it lies in the top units' dh; dx: where it goes, NULL where it is r.dx."""
    cdef long width = r.layer[0].input[0].width
    load_state_gradients(r)
    if dy != NULL:
        load_output_gradient(r, dy, dy_width)
    pack_weights(r, to_pack, r.theta, True, want_dx or r.dx != NULL, r.team.threads)
    run_backward(r, accumulate, want_dx)
    if dx != NULL:
        exchange(r, width, r.dx, padded(r.team.kernels, width), dx, width, True)


cdef long state_place(const Run *r, const Unit *u, int state) noexcept nogil:
    """Where a unit's part begins in the array (units, B, width) of a state, in bytes."""
    return u.state_row * r.view.sequences * state_width(u, state) * r.team.kernels.itemsize


cdef long work_of_initial_gradient(const Run *r, const Unit *u, int state) noexcept nogil:
    """Bytes of scratch for initial_gradient."""
    return r.view.sequences * (u.cell.lda + u.cell.lds[state]) * r.team.kernels.itemsize


cdef void initial_gradient(Run *r, int n, int d, int state, char *work, char *out) noexcept nogil:
    """Gradient of one of a unit's initial states to out (B, width)."""
    cdef Unit *u = &r.layer[n].unit[d]
    cdef long b, width = state_width(u, state), ld = u.cell.lds[state], size = r.team.kernels.itemsize
    cdef char *rows = work + r.view.sequences * u.cell.lda * size
    state_gradient(r, &r.layer[n], u, state, work, rows)
    for b in range(r.view.sequences):
        r.team.kernels.copy(1, width, rows + b * ld * size, ld, out + r.view.order[b] * width * size, width)
