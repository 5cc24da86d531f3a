/* All numeric code of one level and one precision, behind one table. A level file includes this with VECTOR_BYTES,
 * TILE_VECTORS, REAL_BITS, LEVEL and KERNELS set; every function is static but for the table. */
#include "kernels.h"

#include "vec.h"
#include "vmath.h"

#include "gemm.h"
#include "outer.h"
#if REAL_BITS == 32
#include "storage.h"
#endif
#include "rows.h"
#include "attention.h"
#include "global_attention.h"
#include "losses.h"
#include "crf.h"
#include "ctc.h"
#include "updates.h"
#include "reservoir.h"
#include "trees.h"
#include "replica.h"
#include "turing.h"

#include "cells/table.h"

#define MAP(name)                                                                                                      \
    static void name##_all(long n, const void *x_, void *y_) {                                                         \
        const real *x = x_;                                                                                            \
        real *y = y_, last[VL] = {0};                                                                                  \
        long whole = n / VL * VL;                                                                                      \
        for (long i = 0, end; i < whole && !(i && rnncore_stopping()); i = end) {                                      \
            end = lmin(i + RNNCORE_BETWEEN, whole);                                                                    \
            for (long j = i; j < end; j += VL) vstore(y + j, name(vload(x + j)));                                      \
        }                                                                                                              \
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

const rc_kernels KERNELS = {
    .level = LEVEL,
    .itemsize = sizeof(real),
    .vector = VL,
    .vexp = vexp_all,
    .vtanh = vtanh_all,
    .vsigmoid = vsigmoid_all,
    .peak = peak,
#if REAL_BITS == 32
    .storages = storages,
    .storage_count = sizeof storages / sizeof *storages,
#endif
    .packed_size = packed_size,
    .prepare = prepare,
    .pack = pack,
    .product = product,
    .outer_scratch = outer_scratch,
    .outer = outer,
    .reservoir = reservoir,
    .column_sums = column_sums,
    .gather = gather,
    .scatter = scatter,
    .dropout = dropout,
    .uniform = uniform,
    .dropout_at = dropout_at,
    .add = add,
    .widen = widen,
    .narrow = narrow,
    .copy = copy,
    .fill = fill,
    .scale = scale,
    .running_max = running_max,
    .return_to = return_to,
    .dot = dot,
    .add_scaled = add_scaled,
    .add_scaled_wide = add_scaled_wide,
    .attention_energies = attention_energies,
    .attention_energy_back = attention_energy_back,
    .memory_weights = memory_weights,
    .memory_weights_back = memory_weights_back,
    .all_finite = all_finite,
    .contexts = contexts,
    .tanh_back = tanh_back,
    .softmax = softmax,
    .softmax_loss = softmax_loss,
    .soft_loss = soft_loss,
    .squared_loss = squared_loss,
    .sigmoid = sigmoid,
    .sigmoid_loss = sigmoid_loss,
    .ctc = ctc,
    .ctc_work = ctc_work,
    .cells = cells,
    .cell_count = sizeof cells / sizeof *cells,
    .zoned_forward = zoned_forward,
    .zoned_backward = zoned_backward,
    .updates = &update_table,
    .replica = &replica_table,
    .crf = &crf_table,
    .trees = &tree_table,
    .turing = &turing_table,
};
