/* Every kernel by name, and the arrays it needs: what rnncore/cells.py refers to. `rc_cell` in kernels.h explains. */
#include "elman.h"
#include "gru.h"
#include "jordan.h"
#include "lstm.h"
#include "lstm_norm.h"
#include "lstm_rows.h"
#include "mgu.h"
#include "reset.h"
#include "zoneout.h"

#define KERNEL(file) .forward = file##_forward, .backward = file##_backward
#define W_XH(count, ...) .input_gates = count, .input_at = {__VA_ARGS__}

/* matrices: gates of W_hh, which meets h of the step before; one gate, from number `gate` on, that meets an inner array;
 * a matrix that makes the output of an inner array; one that meets another state of the step before */
#define W_HH(count, ...) {.gates = count, .at = {__VA_ARGS__}, .linked = 1}
#define W_INNER(i, first, block) {.gate = first, .gates = 1, .at = {block}, .source = RC_INNER + i}
#define W_OUT(i) {.gates = 1, .at = {0}, .source = RC_INNER + i, .to_output = 1}
#define W_STATE(state, count, ...) {.gates = count, .at = {__VA_ARGS__}, .source = state, .linked = 1}

#define ELMAN KERNEL(elman), .gates = 1, W_XH(1, 0), .width = 1, .states = 1, .matrices = {W_HH(1, 0)}, .in_place = 1
#define LSTM .states = 2, .carries = 2, .vectors = 3
#define MUT1                                                                                                           \
    KERNEL(mut1), .width = 4, .states = 1, .inner = 1, .carries = 1, .vectors = 1,                                     \
    .matrices = {W_HH(1, 0), {.gate = 1, .gates = 1, .at = {3}, .source = RC_INNER, .bias = 1}}
#define MUT2                                                                                                           \
    KERNEL(mut2), .gates = 3, .width = 3, .states = 1, .inner = 1, .carries = 1,                                       \
    .matrices = {W_HH(2, 0, 1), W_INNER(0, 2, 2)}

#define JORDAN                                                                                                         \
    .gates = 1, W_XH(1, 0), .width = 1, .of_output = 3, .carries = 3, .dropped = 1, .vectors = 1
#define W_YH {.gates = 1, .at = {0}, .source = 1}

static const rc_cell cells[] = {
    {.name = "elman", ELMAN},
    {.name = "elman_binary", ELMAN, .extra = 1, .noise = 1},

    {.name = "lstm", KERNEL(lstm), .gates = 4, W_XH(4, 0, 1, 2, 3), .width = 4, LSTM,
     .matrices = {W_HH(4, 0, 1, 2, 3)}},
    {.name = "lstm_1997", KERNEL(lstm), .gates = 3, W_XH(3, 0, 1, 2), .width = 3, LSTM,
     .matrices = {W_HH(3, 0, 1, 2)}},
    {.name = "lstm_projected", KERNEL(lstm_rows), .gates = 4, W_XH(4, 0, 1, 2, 3), .width = 4, .inner = 1,
     LSTM, .matrices = {W_HH(4, 0, 1, 2, 3), W_OUT(0)}},
    {.name = "lstm_fgr", KERNEL(lstm_rows), .gates = 4, W_XH(4, 0, 1, 2, 3), .width = 4, .states = 5, .inner = 1,
     .carries = 2, .vectors = 3,
     .matrices = {W_HH(4, 0, 1, 2, 3), W_OUT(0), W_STATE(2, 3, 0, 1, 3), W_STATE(3, 3, 0, 1, 3),
                  W_STATE(4, 3, 0, 1, 3)}},
    {.name = "lstm_norm", KERNEL(lstm_norm), .gates = 4, W_XH(4, 0, 1, 2, 3), .width = 12, .states = 2, .inner = 1,
     .extra = NORM_EXTRA, .carries = 2, .vectors = 17, .own_bias = 1, .matrices = {W_HH(4, 4, 5, 6, 7), W_OUT(0)}},

    {.name = "gru", KERNEL(gru), .gates = 3, W_XH(3, 0, 1, 2), .width = 4, .states = 1, .carries = 1, .vectors = 1,
     .matrices = {{.gates = 3, .at = {0, 1, 3}, .linked = 1, .bias = 1}}},
    {.name = "gru_before", KERNEL(gru_before), .gates = 3, W_XH(3, 0, 1, 2), .width = 3, .states = 1, .inner = 1,
     .carries = 1, .matrices = {W_HH(2, 0, 1), W_INNER(0, 2, 2)}},

    {.name = "mut1", MUT1, .gates = 3, W_XH(3, 0, 1, 2)},
    {.name = "mut1_direct", MUT1, .gates = 2, W_XH(2, 0, 1), .direct_at = 3},
    {.name = "mut2", MUT2, W_XH(3, 0, 1, 2)},
    {.name = "mut2_direct", MUT2, W_XH(2, 1, 2), .direct_at = 1},
    {.name = "mut3", KERNEL(mut3), .gates = 3, W_XH(3, 0, 1, 2), .width = 3, .states = 1, .inner = 2, .carries = 1,
     .matrices = {W_HH(1, 0), W_INNER(1, 1, 1), W_INNER(0, 2, 2)}},

    {.name = "mgu", KERNEL(mgu), .gates = 2, W_XH(2, 0, 1), .width = 2, .states = 1, .inner = 1, .carries = 1,
     .matrices = {W_HH(1, 0), W_INNER(0, 1, 1)}},

    {.name = "jordan", KERNEL(jordan), JORDAN, .states = 2, .inner = 1,
     .matrices = {W_YH, {.gates = 1, .at = {0}, .source = RC_INNER, .to_output = 1, .bias = 1}}},
    {.name = "jordan_elman", KERNEL(jordan_elman), JORDAN, .states = 3,
     .matrices = {W_YH, {.gates = 1, .at = {0}, .source = 2, .to_output = 1, .bias = 1}, W_STATE(2, 1, 0)}},
};
