/* All numeric code of one level and one precision, behind one table. A level file includes this with VECTOR_BYTES,
 * TILE_VECTORS, REAL_BITS, LEVEL and LANES set; every function is static but for the table. */
#include "lanes.h"

#include "vec.h"
#include "vmath.h"

#include "product.h"
#include "rows.h"
#include "heads.h"
#include "crf.h"
#include "updates.h"
#include "replica.h"

#include "cells/elman.h"
#include "cells/gru.h"
#include "cells/lstm.h"
#include "cells/mgu.h"
#include "cells/reset.h"
#include "cells/zoneout.h"

#define MAP(name)                                                                                                      \
    static void name##_all(long n, const void *x_, void *y_) {                                                         \
        const real *x = x_;                                                                                            \
        real *y = y_, last[VL] = {0};                                                                                  \
        long whole = n / VL * VL;                                                                                      \
        for (long i = 0; i < whole; i += VL) vstore(y + i, name(vload(x + i)));                                        \
        for (long i = whole; i < n; i++) last[i - whole] = x[i];                                                       \
        vstore(last, name(vload(last)));                                                                               \
        for (long i = whole; i < n; i++) y[i] = last[i - whole];                                                       \
    }
MAP(vexp)
MAP(vtanh)
MAP(vsigmoid)

/* Multiply-adds on registers alone: the most this core can do. */
static double peak(long rounds) {
    enum { CHAINS = VECTOR_BYTES == 64 ? 24 : 12 };
    vec c[CHAINS], a = vset1((real)1.0000001), b = vset1((real)1e-7);
    UNROLL_ALL for (int i = 0; i < CHAINS; i++) c[i] = vset1((real)i);
    for (long n = 0; n < rounds; n++) UNROLL_ALL for (int i = 0; i < CHAINS; i++) c[i] = c[i] * a + b;
    volatile real sink;
    UNROLL_ALL for (int i = 0; i < CHAINS; i++) sink = ((const real *)&c[i])[0];
    (void)sink;
    return 2.0 * VL * CHAINS * rounds;
}

#define W_XH(count, ...) .input_gates = count, .input_at = {__VA_ARGS__}
#define W_HH(count, ...) {.gates = count, .at = {__VA_ARGS__}, .linked = 1}
#define W_INNER(i, g, block) {.gate = g, .gates = 1, .at = {block}, .source = RC_INNER + i}
#define MUT1                                                                                                           \
    .width = 4, .states = 1, .inner = 1, .carries = 1, .vectors = 1,                                                   \
    .matrices = {W_HH(1, 0), {.gate = 1, .gates = 1, .at = {3}, .source = RC_INNER, .bias = 1}}
#define MUT2                                                                                                           \
    .width = 3, .states = 1, .inner = 1, .carries = 1, .matrices = {W_HH(2, 0, 1), W_INNER(0, 2, 2)}
static const rc_cell cells[RC_CELL_COUNT] = {
    [RC_ELMAN] = {.forward = elman_forward, .backward = elman_backward, .gates = 1, W_XH(1, 0), .width = 1, .states = 1,
                  .matrices = {W_HH(1, 0)}, .in_place = 1},
    [RC_ELMAN_BINARY] = {.forward = elman_forward, .backward = elman_backward, .gates = 1, W_XH(1, 0), .width = 1,
                         .states = 1, .extra = 1, .noise = 1, .matrices = {W_HH(1, 0)}, .in_place = 1},
    [RC_LSTM] = {.forward = lstm_forward, .backward = lstm_backward, .gates = 4, W_XH(4, 0, 1, 2, 3), .width = 4, .states = 2, .extra = 1,
                 .matrices = {W_HH(4, 0, 1, 2, 3)}, .carries = 2, .vectors = 3},
    [RC_GRU] = {.forward = gru_forward, .backward = gru_backward, .gates = 3, W_XH(3, 0, 1, 2), .width = 4, .states = 1,
                .matrices = {{.gates = 3, .at = {0, 1, 3}, .linked = 1, .bias = 1}}, .carries = 1, .vectors = 1},
    [RC_GRU_BEFORE] = {.forward = gru_before_forward, .backward = gru_before_backward, .gates = 3,
                       W_XH(3, 0, 1, 2), .width = 3, .states = 1, .inner = 1, .carries = 1,
                       .matrices = {W_HH(2, 0, 1), W_INNER(0, 2, 2)}},
    [RC_MUT1] = {.forward = mut1_forward, .backward = mut1_backward, .gates = 3, W_XH(3, 0, 1, 2), MUT1},
    [RC_MUT1_DIRECT] = {.forward = mut1_forward, .backward = mut1_backward, .gates = 2, W_XH(2, 0, 1), .direct_at = 3,
                        MUT1},
    [RC_MUT2] = {.forward = mut2_forward, .backward = mut2_backward, .gates = 3, W_XH(3, 0, 1, 2), MUT2},
    [RC_MUT2_DIRECT] = {.forward = mut2_forward, .backward = mut2_backward, .gates = 3, W_XH(2, 1, 2), .direct_at = 1,
                        MUT2},
    [RC_MUT3] = {.forward = mut3_forward, .backward = mut3_backward, .gates = 3, W_XH(3, 0, 1, 2), .width = 3,
                 .states = 1, .inner = 2, .carries = 1,
                 .matrices = {W_HH(1, 0), W_INNER(1, 1, 1), W_INNER(0, 2, 2)}},
    [RC_MGU] = {.forward = mgu_forward, .backward = mgu_backward, .gates = 2, W_XH(2, 0, 1), .width = 2, .states = 1,
                .inner = 1, .carries = 1, .matrices = {W_HH(1, 0), W_INNER(0, 1, 1)}},
};

const rc_lanes LANES = {
    .level = LEVEL,
    .itemsize = sizeof(real),
    .vector = VL,
    .vexp = vexp_all,
    .vtanh = vtanh_all,
    .vsigmoid = vsigmoid_all,
    .peak = peak,
    .packed_size = packed_size,
    .prepare = prepare,
    .pack = pack,
    .product = product,
    .outer_scratch = outer_scratch,
    .outer = outer,
    .column_sums = column_sums,
    .gather = gather,
    .scatter = scatter,
    .dropout = dropout,
    .uniform = uniform,
    .dropout_at = dropout_at,
    .add = add,
    .copy = copy,
    .fill = fill,
    .scale = scale,
    .running_max = running_max,
    .return_to = return_to,
    .softmax = softmax,
    .softmax_loss = softmax_loss,
    .squared_loss = squared_loss,
    .sigmoid = sigmoid,
    .sigmoid_loss = sigmoid_loss,
    .cells = cells,
    .zoned_forward = zoned_forward,
    .zoned_backward = zoned_backward,
    .updates = &update_table,
    .replica = &replica_table,
    .crf = &crf_table,
};
