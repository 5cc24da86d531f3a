# What a stack of recurrent layers is to the passes over it: plain structures, filled in by stack.pyx.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from rnncore._core.gemm cimport Segment, Team
from rnncore._core.kernels cimport RC_INNER, RC_MAX_MATRICES, RC_OUTPUT, rc_cell, rc_packed, rc_unit

cdef struct Unit:
    # One cell in one direction: its parameters' places and its arrays for the batch at hand.
    rc_unit cell
    const rc_cell *kernel
    bint reverse
    int number                   # of its first state: layer by layer, forward before reverse
    long W_xh, b_h               # places in theta, in numbers
    long W[5]                    # of the cell's matrices, their first gate, or -1: not there
    long ldw[5]                  # and the columns of the parameter each of them is part of
    long vectors[20]             # of the cell's own parameters (H), or -1
    char *padded[20]             # copies of them, in whole vectors
    rc_packed input[2]           # W_xh, the rows that belong to each input segment
    rc_packed input_T[2]
    char *a_rows                 # a, written by the projection
    char *dh                     # gradient of the outputs
    char *dend[5]                # gradients of the final states but the first
    char *dstate                 # gradient of the final state 0 (B, its width), or NULL
    char *rows                   # the outputs: state 0 without the initial states in front

cdef struct Layer:
    int units                    # directions
    Unit unit[2]
    bint summed                  # output is the sum of both directions
    int inputs                   # segments
    Segment input[2]             # what the layer below (or the data) gave
    Segment dropped[2]           # the same after dropout: what the cells see
    double dropout               # rate on the input
    double recurrent_dropout
    bint mask_per_step
    double zoneout[2]            # rates, of states 0 and 1
    int outputs
    Segment output[2]

cdef struct View:
    # A Batch in plain C.
    long steps, sequences, rows
    bint full
    bint packed                  # the caller's arrays have their rows in packed order, too
    const long *offsets
    const long *active
    const int64_t *order
    const int64_t *length
    const int64_t *last
    const int64_t *earlier

cdef enum InputKind:
    DENSE
    SYMBOLS
    EMBEDDED

cdef struct Core:
    Team team
    View view
    int layer_count
    Layer *layer
    int kind
    long features                # D of dense input; number of symbols otherwise
    long embedding               # width of the embedding
    long table                   # place of the embedding table in theta
    long per_row                 # ids per row
    int64_t *ids
    char *id_scale               # dropout's factors for ids, or NULL
    const char *identity         # (H, H), for cells that take x itself, of symbols; or NULL
    char *dx                     # gradient of the dense (or embedded) input
    char *y                      # the caller's (T, B, y_width) outputs, filled step by step, or NULL
    long y_width
    double output_dropout
    Segment finished[2]          # outputs after dropout
    long truncate                # 0: back to the beginning
    bint training, has_state
    bint apart                   # of a summed output each direction has a gradient of its own, in its own dh
    uint64_t seed, drop_step
    char *theta
    char *grad


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
