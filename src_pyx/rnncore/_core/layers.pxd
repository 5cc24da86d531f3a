# What a stack of recurrent layers is to the passes over it: plain structures, filled in by stack.pyx.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from rnncore._core.jobs cimport Segment, Team
from rnncore._core.lanes cimport rc_cell, rc_packed, rc_unit

cdef struct Unit:
    # One cell in one direction: its parameters' places and its arrays for the batch at hand.
    rc_unit cell
    const rc_cell *kernel
    bint reverse
    int number                   # of its first state: layer by layer, forward before reverse
    long W_xh, W_hh, b_h         # places in theta, in numbers
    long vectors[4]              # of the cell's own parameters (H), or -1
    char *padded[4]              # copies of them, in whole vectors
    rc_packed input[2]           # W_xh, the rows that belong to each input segment
    rc_packed input_T[2]
    char *a_rows                 # a, written by the projection
    char *dh                     # gradient of the outputs
    char *dc_end                 # gradient of the final c
    char *dstate                 # gradient of the final states (B, H), or NULL
    char *h_rows                 # h without the initial states in front

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
    int outputs
    Segment output[2]

cdef struct View:
    # A Batch in plain C.
    long steps, sequences, rows
    bint full
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
    char *dx                     # gradient of the dense (or embedded) input
    double output_dropout
    Segment finished[2]          # outputs after dropout
    long truncate                # 0: back to the beginning
    bint training, has_state
    bint apart                   # of a summed output each direction has a gradient of its own, in its own dh
    uint64_t seed, drop_step
    char *theta
    char *grad
