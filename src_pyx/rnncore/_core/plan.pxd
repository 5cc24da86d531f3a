# The structure of a network's layers, and what one run over a batch makes of it: plain structures, bound in saved.pyx.
from libc.stdint cimport int64_t, uint64_t

from rnncore._core.gemm cimport Segment, Team
from rnncore._core.kernels cimport RC_INNER, RC_MAX_MATRICES, RC_OUTPUT, rc_cell, rc_packed, rc_unit
from rnncore._core.schedule cimport View

cdef enum:
    MAX_MATRICES = 5   # RC_MAX_...: Cython wants numbers for the lengths of arrays
    MAX_STATES = 5
    MAX_VECTORS = 20

cdef struct UnitWeights:
    # A unit's matrices and vectors, packed.
    rc_packed W[MAX_MATRICES]    # of the cell, (source's width, gates·H)
    rc_packed W_T[MAX_MATRICES]
    rc_packed input[2]           # W_xh, the rows that belong to each input segment
    rc_packed input_T[2]
    char *vectors[MAX_VECTORS]   # the cell's own parameters in whole vectors, or NULL

cdef struct Unit:
    # One cell in one direction.
    rc_unit cell                 # what kernels are handed
    const rc_cell *kernel
    bint reverse
    bint timed                   # the last column of its input is the length of each step
    int number                   # of its first state: layer by layer, forward before reverse
    int state_array, state_row   # where the caller's state tuples have its first state: which array, which row of it
    long W_xh, b_h               # offsets into theta, in numbers
    long gate, gate_ld           # numbers in a gate of W_xh: H, or those of the matrix that it makes; in whole vectors
    long W[MAX_MATRICES]         # of the cell's matrices, their first gate, or -1: not there
    long ldw[MAX_MATRICES]       # and the columns of the parameter each of them is part of
    long vectors[MAX_VECTORS]    # of the cell's own parameters (H), or -1
    # of one run
    UnitWeights *weights
    char *a_rows                 # a, written by the projection; where there is a window: as if it were part of all rows
    char *window                 # (window_rows, lda): a of some steps at a time; or NULL: of all rows
    char *products               # each symbol's E·W_xh + b (features, lda), where they are picked,
    char *dproducts              # and their gradients
    char *rows                   # the outputs: state 0 without the initial states in front
    char *dh                     # gradient of the outputs
    const char *initial[MAX_STATES]  # the caller's initial states (B, width), or NULL: zero
    const char *dfinal[MAX_STATES]   # gradients of the final states (B, width), or NULL
    char *dend[MAX_STATES]       # those but the first in packed order, in rows of ld

cdef struct Layer:
    int units                    # directions
    Unit unit[2]
    bint summed                  # output is the sum of both directions
    double dropout               # rate on the input
    double recurrent_dropout
    bint mask_per_step
    double zoneout[2]            # rates, of states 0 and 1
    int inputs                   # segments
    int outputs
    # of one run
    bint halves                  # a waits for the backward pass in 16 bits, and da for what it is multiplied with
    long window_rows             # of the steps that a is there for at a time; 0: for all
    bint drops_input             # whether dropout acts on the input
    Segment input[2]             # what the layer below (or the data) gave
    Segment operand[2]           # what products read: the input, or what dropout left of it
    Segment output[2]

cdef enum InputKind:
    DENSE
    SYMBOLS
    EMBEDDED

cdef struct Run:
    # Layers bound to one batch: plan, weights, schedule, saved and scratch memory, in and out.
    Team team
    View view
    int layer_count
    Layer *layer
    int kind
    long features                # D of dense input; number of symbols otherwise
    long embedding               # width of the embedding
    long table                   # offset of the embedding table in theta
    double output_dropout        # rate
    long window                  # steps of truncated back-propagation, or 0
    const char *identity         # (H, H), for cells that take x itself, of symbols; or NULL
    const char *theta
    char *grad
    # of one run
    bint training, has_state, fed
    bint shows_gates             # without training: a is left of all rows
    bint y_is_state              # the last layer's states lie in the caller's outputs
    bint drops_output            # whether dropout acts on the output
    bint apart                   # of a summed output each direction has a gradient of its own, in its own dh
    long truncate                # 0: back to the beginning
    bint picks                   # few symbols in many rows: each one's E·W_xh is made once, and picked
    long per_row                 # ids per row
    int64_t *ids                 # (rows, per_row), packed
    char *id_scale               # dropout's factors for ids, or NULL
    int64_t *seen                # the symbols there are, where their products are picked
    long seen_count
    uint64_t seed, drop_step
    Segment finished[2]          # outputs after dropout
    char *dx                     # gradient of the dense (or embedded) input
    char *y                      # the caller's outputs, (T, B, y_width) or packed; NULL: not wanted
    bint emits                   # the time loop copies outputs to y, step by step
    long y_width

cdef class Plan:
    # Layers on flat parameters; never changed once made.
    cdef Run structure           # nothing of one run in it
    cdef readonly int state_count  # states of all units
    cdef readonly list state_shapes  # of the arrays in a state: (units, width)
    cdef readonly long window    # steps of truncated back-propagation, or 0
    cdef object identity
    cdef long read_unit(self, Layer *layer, Unit *u, dict spec, dict offsets) except -1
    cdef long bind_matrix(self, Unit *u, int i) noexcept


cdef bint packs_input(const Run *r, int n) noexcept nogil


cdef inline long row_of(const View *v, long t, long b) noexcept nogil:
    """Where the caller's arrays have row b of step t: in packed order, too, or in (T, B)."""
    return v.offsets[t] + b if v.packed else t * v.sequences + v.order[b]


cdef inline bint same_rows(const View *v) noexcept nogil:
    """Whether the caller's arrays have a row for each of the batch, in packed order."""
    return v.full or v.packed


cdef inline bint has_zoneout(const Layer *layer) noexcept nogil:
    return layer.zoneout[0] > 0 or layer.zoneout[1] > 0


cdef inline long state_width(const Unit *u, int state) noexcept nogil:
    return u.cell.output if u.kernel.state[state].width == RC_OUTPUT else u.cell.hidden


cdef inline long source_width(const Unit *u, int source) noexcept nogil:
    """Of what a matrix is multiplied with: a state or an inner array."""
    return u.cell.hidden if source >= RC_INNER else state_width(u, source)


cdef inline int matrix_of_bias(const Unit *u, int vector) noexcept nogil:
    """Which matrix's product a vector is added to, or -1: it is not a bias."""
    cdef int i
    for i in range(RC_MAX_MATRICES):
        if u.kernel.matrices[i].gates > 0 and u.kernel.matrices[i].bias == vector + 1:
            return i
    return -1


cdef inline bint is_bias(const Unit *u, int vector) noexcept nogil:
    return matrix_of_bias(u, vector) >= 0


cdef inline long vector_width(const Unit *u, int vector) noexcept nogil:
    """A cell's own parameters have H numbers, but for a bias of the output."""
    cdef int i = matrix_of_bias(u, vector)
    return u.cell.output if i >= 0 and u.kernel.matrices[i].to_output else u.cell.hidden


cdef inline long step_at(const View *v, long i, bint ascending) noexcept nogil:
    """The i-th step that is taken: in order, or from the last one back."""
    return i if ascending else v.steps - 1 - i


cdef inline long first_row(const View *v, long first, long end, bint ascending) noexcept nogil:
    """Where the rows of the first-th to (end - 1)-th step that are taken begin; they lie together."""
    return v.offsets[first if ascending else v.steps - end]


cdef inline long rows_between(const View *v, long first, long end, bint ascending) noexcept nogil:
    """How many rows these steps have."""
    return v.offsets[end if ascending else v.steps - first] - first_row(v, first, end, ascending)
