/* The record of every cell: its kernels, and all that the rest of the library has to know of it. kernels.h explains
 * `rc_cell`; Python reads the same records by name. */
#include "ctrnn.h"
#include "elman.h"
#include "gru.h"
#include "indrnn.h"
#include "jordan.h"
#include "leaky.h"
#include "lstm.h"
#include "lstm_norm.h"
#include "lstm_rows.h"
#include "mgu.h"
#include "reset.h"
#include "second_order.h"
#include "zoneout.h"

#define COUNT(type, ...) (sizeof((type[]){__VA_ARGS__}) / sizeof(type))
#define KERNEL(file) .forward = file##_forward, .backward = file##_backward
#define BLOCKS(...) .width = COUNT(const char *, __VA_ARGS__), .blocks = {__VA_ARGS__}
/* bias and input gates: b_h of so many gates, W_xh to the blocks given */
#define B_H(count) .gates = count
#define W_XH(...) .input_gates = COUNT(int, __VA_ARGS__), .input_at = {__VA_ARGS__}
#define STATES(...) .states = COUNT(rc_cell_state, __VA_ARGS__), .state = {__VA_ARGS__}
#define INNER(...) .inner = COUNT(const char *, __VA_ARGS__), .inner_name = {__VA_ARGS__}
#define VECTORS(...) .vectors = COUNT(rc_cell_vector, __VA_ARGS__), .vector = {__VA_ARGS__}

/* parameters, in theta's order */
#define GATED {"W_xh"}, {"W_hh"}, {"b_h"}
#define IF_CHOSEN(name) {name, .optional = 1}
#define PEEPHOLES IF_CHOSEN("w_ci"), IF_CHOSEN("w_cf"), IF_CHOSEN("w_co")

/* states: the output (handed back to by matrices alone, or besides; of H numbers, or projected); an LSTM's c */
#define H_BY_MATRICES {"h", RC_H}
#define H_PROJECTED {"h", RC_OUTPUT}
#define H_CARRIED {"h", RC_H, .carries = 1}
#define CELL_STATE {"c", RC_H, .carries = 1}

/* matrices: gates of W_hh, to blocks of a, which meets h of the step before; one gate of W_hh, from number `gate` on,
 * that meets an inner array; a matrix that makes the output of an inner array; one that meets a state of the step before */
#define W_HH(...) {"W_hh", .gates = COUNT(int, __VA_ARGS__), .at = {__VA_ARGS__}, .linked = 1}
#define W_INNER(i, first, block) {"W_hh", .gate = first, .gates = 1, .at = {block}, .source = RC_INNER + i}
#define W_OUT(name, i) {name, .gates = 1, .at = {0}, .source = RC_INNER + i, .to_output = 1}
#define W_STATE(name, state, ...)                                                                                      \
    {name, .gates = COUNT(int, __VA_ARGS__), .at = {__VA_ARGS__}, .source = state, .linked = 1}

#define ELMAN                                                                                                          \
    KERNEL(elman), .parameters = {GATED}, BLOCKS("h"), B_H(1), W_XH(0), STATES(H_BY_MATRICES), .matrices = {W_HH(0)},  \
    .zoned = 1, .in_place = 1, .saves_halves = 1

#define LSTM BLOCKS("i", "f", "g", "o"), B_H(4), W_XH(0, 1, 2, 3), .saves_halves = 1
#define LSTM_STATES STATES(H_BY_MATRICES, CELL_STATE), .zoned = 2
#define PROJECTED_STATES STATES(H_PROJECTED, CELL_STATE), .zoned = 2
#define LSTM_VECTORS VECTORS({"w_ci"}, {"w_cf"}, {"w_co"})
#define GATES_OF(name) {name, 0}, {name, 1}, {name, 2}, {name, 3}

#define RESET .parameters = {GATED}, STATES(H_CARRIED), .zoned = 1
#define MUT1                                                                                                           \
    KERNEL(mut1), .parameters = {GATED, {"b_hn"}}, BLOCKS("r", "z", "x", "n"), STATES(H_CARRIED), .zoned = 1,          \
    INNER("r*h"), VECTORS({"b_hn"}),                                                                                   \
    .matrices = {W_HH(0), {"W_hh", .gate = 1, .gates = 1, .at = {3}, .source = RC_INNER, .bias = 1}}
#define MUT2                                                                                                           \
    KERNEL(mut2), RESET, BLOCKS("r", "z", "n"), B_H(3), INNER("r*h"), .matrices = {W_HH(0, 1), W_INNER(0, 2, 2)}

#define CTRNN                                                                                                          \
    KERNEL(ctrnn), .parameters = {GATED, {"rho"}}, BLOCKS(0), B_H(1), W_XH(0), STATES({"h", RC_H}, {"y", RC_H, .carries = 1}), \
    INNER("f(y)"), VECTORS({"rho"}), .extra = 1

#define SECOND_ORDER                                                                                                   \
    KERNEL(second_order), .parameters = {{"W_xh"}, {"b_h"}}, BLOCKS(0), B_H(1), W_XH(0), .makes_matrix = 1,            \
    STATES(H_CARRIED), .zoned = 1

#define JORDAN BLOCKS("h"), B_H(1), W_XH(0), VECTORS({"b_y"}), .dropped = 1, .feeds_back = 1
#define JORDAN_STATES {"y", RC_OUTPUT, .carries = 1}, {"s", RC_OUTPUT, .carries = 1}
#define W_YH {"W_yh", .gates = 1, .at = {0}, .source = 1}

static const rc_cell cells[] = {
    {.name = "elman", ELMAN},
    {.name = "elman_binary", ELMAN, .extra = 1, .noise = 1},

    {.name = "lstm", KERNEL(lstm), .parameters = {GATED, PEEPHOLES}, LSTM, LSTM_STATES, LSTM_VECTORS,
     .matrices = {W_HH(0, 1, 2, 3)}},
    {.name = "lstm_1997", KERNEL(lstm), .parameters = {GATED, IF_CHOSEN("w_ci"), IF_CHOSEN("w_co")},
     BLOCKS("i", "g", "o"), B_H(3), W_XH(0, 1, 2), LSTM_STATES, VECTORS({"w_ci"}, {0}, {"w_co"}),
     .matrices = {W_HH(0, 1, 2)}},
    {.name = "lstm_projected", KERNEL(lstm_rows), .parameters = {GATED, {"W_hr"}, PEEPHOLES}, LSTM, PROJECTED_STATES,
     INNER("o*c"), LSTM_VECTORS, .matrices = {W_HH(0, 1, 2, 3), W_OUT("W_hr", 0)}},
    {.name = "lstm_fgr", KERNEL(lstm_rows),
     .parameters = {GATED, IF_CHOSEN("W_hr"), {"W_gi"}, {"W_gf"}, {"W_go"}, PEEPHOLES}, LSTM,
     STATES(H_PROJECTED, CELL_STATE, {"i", RC_H}, {"f", RC_H}, {"o", RC_H}), INNER("o*c"), LSTM_VECTORS,
     .matrices = {W_HH(0, 1, 2, 3), W_OUT("W_hr", 0), W_STATE("W_gi", 2, 0, 1, 3), W_STATE("W_gf", 3, 0, 1, 3),
                  W_STATE("W_go", 4, 0, 1, 3)}},
    {.name = "lstm_norm", KERNEL(lstm_norm),
     .parameters = {GATED, IF_CHOSEN("W_hr"), PEEPHOLES, {"gain_x"}, {"gain_h"}, {"gain_c"}, {"shift_c"}},
     BLOCKS(0, 0, 0, 0, 0, 0, 0, 0, "i", "f", "g", "o"), B_H(4), W_XH(0, 1, 2, 3), .own_bias = 1, PROJECTED_STATES,
     INNER("o*c"), .extra = NORM_EXTRA,
     VECTORS({"w_ci"}, {"w_cf"}, {"w_co"}, GATES_OF("b_h"), GATES_OF("gain_x"), GATES_OF("gain_h"), {"gain_c"},
             {"shift_c"}),
     .matrices = {W_HH(4, 5, 6, 7), W_OUT("W_hr", 0)}},

    {.name = "gru", KERNEL(gru), .parameters = {GATED, {"b_hn"}}, BLOCKS("r", "z", "n", "q"), B_H(3), W_XH(0, 1, 2),
     STATES(H_CARRIED), .saves_halves = 1, .zoned = 1, VECTORS({"b_hn"}),
     .matrices = {{"W_hh", .gates = 3, .at = {0, 1, 3}, .linked = 1, .bias = 1}}},
    {.name = "gru_before", KERNEL(gru_before), RESET, BLOCKS("r", "z", "n"), B_H(3), W_XH(0, 1, 2), INNER("r*h"),
     .matrices = {W_HH(0, 1), W_INNER(0, 2, 2)}},

    {.name = "mut1", MUT1, B_H(3), W_XH(0, 1, 2)},
    {.name = "mut1_direct", MUT1, B_H(2), W_XH(0, 1), .direct_at = 3},
    {.name = "mut2", MUT2, W_XH(0, 1, 2)},
    {.name = "mut2_direct", MUT2, W_XH(1, 2), .direct_at = 1},
    {.name = "mut3", KERNEL(mut3), RESET, BLOCKS("r", "z", "n"), B_H(3), W_XH(0, 1, 2), INNER("r*h", "tanh(h)"),
     .matrices = {W_HH(0), W_INNER(1, 1, 1), W_INNER(0, 2, 2)}},

    {.name = "mgu", KERNEL(mgu), .parameters = {GATED}, BLOCKS("f", "n"), B_H(2), W_XH(0, 1), STATES(H_CARRIED),
     .zoned = 1, INNER("f*h"), .matrices = {W_HH(0), W_INNER(0, 1, 1)}},

    {.name = "indrnn", KERNEL(indrnn), .parameters = {{"W_xh"}, {"u"}, {"b_h"}}, BLOCKS("h"), B_H(1), W_XH(0),
     STATES(H_CARRIED), .zoned = 1, VECTORS({"u"}), .in_place = 1},

    {.name = "leaky", KERNEL(leaky), .parameters = {GATED}, BLOCKS("f"), B_H(1), W_XH(0), STATES(H_CARRIED), .zoned = 1,
     .matrices = {W_HH(0)}},

    {.name = "ctrnn", CTRNN, .matrices = {W_INNER(0, 0, 0)}, .feeds_back = 1},
    {.name = "ctrnn_staged", CTRNN, .matrices = {W_INNER(0, 0, 1)}, .staged = 1},
    {.name = "second_order", SECOND_ORDER, .own_bias = 1, VECTORS({"b_h"})},
    {.name = "second_order_augmented", SECOND_ORDER},

    {.name = "jordan", KERNEL(jordan), .parameters = {{"W_xh"}, {"W_yh"}, {"b_h"}, {"W_hy"}, {"b_y"}}, JORDAN,
     STATES(JORDAN_STATES), INNER("h"),
     .matrices = {W_YH, {"W_hy", .gates = 1, .at = {0}, .source = RC_INNER, .to_output = 1, .bias = 1}}},
    {.name = "jordan_elman", KERNEL(jordan_elman),
     .parameters = {{"W_xh"}, {"W_hh"}, {"W_yh"}, {"b_h"}, {"W_hy"}, {"b_y"}}, JORDAN,
     STATES(JORDAN_STATES, {"h", RC_H}),
     .matrices = {W_YH, {"W_hy", .gates = 1, .at = {0}, .source = 2, .to_output = 1, .bias = 1},
                  W_STATE("W_hh", 2, 0)}},
};
