# The numeric interface (kernels.h) as Cython sees it, and the choice of level, product and threads.
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t

cdef extern from "kernels.h" nogil:
    ctypedef void (*rc_gemm)(int, int, long, long, long, const void *, long, const void *, long, int, void *,
                             long) noexcept nogil

    enum:
        RC_MAX_GATES

    ctypedef struct rc_columns:
        long at
        long count
        void *sums

    ctypedef void (*rc_outer)(long, long, const void *, long, const int64_t *, const void *, long, const int64_t *, int,
                              const rc_columns *, int, void *, long, rc_gemm, void *) noexcept nogil
    ctypedef long (*rc_outer_scratch)(long, long) noexcept nogil

    ctypedef struct rc_mixed:
        rc_outer outer
        rc_outer_scratch outer_scratch
        void (*product_of_halves)(const void *, int, int, long, const void *, long, int, void *, long) noexcept nogil
        rc_outer outer_of_halves
        void (*from_halves)(long, long, const uint16_t *, long, void *, long) noexcept nogil

    ctypedef struct rc_storage:
        const char *name
        const char *extension
        const rc_mixed *mixed

    ctypedef struct rc_packed:
        long K
        long N
        int blocks
        int parts
        long *block_at
        long *part_at
        long *part_K
        const void *W
        long ldw
        int transposed
        rc_gemm gemm
        const rc_storage *storage
        long panel_count
        void *panels
        void *bias
        const void *soon

    enum:
        RC_FROM_ZERO
        RC_FROM_BIAS
        RC_FROM_C

    enum:
        RC_MAX_STATES
        RC_MAX_MATRICES
        RC_MAX_INNER
        RC_MAX_VECTORS
        RC_INNER

    ctypedef struct rc_unit:
        const void *cell
        long hidden
        long ld
        long output
        long ldo
        long lda
        const rc_packed *W
        const rc_packed *W_T
        int activation
        int flags
        double activation_parameter
        double factor
        double share
        int stages
        const void *dt
        long dt_step
        const void *const *vectors
        void *a
        void **state
        const void **before
        long *lds
        void *carried
        void **inner
        long ldi
        void *extra
        const void *feedback
        const void *mask
        int mask_per_row
        const void *dh
        void *da
        void *doutput
        const void *dlater
        uint16_t *saved
        uint16_t *da_halves
        long ldh
        void **dcarry
        const void **dcarry_later
        int carry_per_row
        const void **dend
        void **work
        void **dvectors
        double *zone_rate
        const void **zone
        void *zone_dh
        void *zone_given
        void **zone_kept

    ctypedef struct rc_block:
        long row
        long linked
        long previous
        long sequence
        long count
        long stride
        int has_link
        int has_previous
        int ends
        int zoned

    ctypedef void (*rc_cell_step)(const rc_unit *, const rc_block *) noexcept nogil

    enum:
        RC_MAX_BLOCKS
        RC_MAX_PARAMETERS
        RC_H
        RC_OUTPUT

    ctypedef struct rc_cell_parameter:
        const char *name
        int optional

    ctypedef struct rc_cell_state:
        const char *name
        int width
        int carries

    ctypedef struct rc_cell_vector:
        const char *parameter
        int part

    ctypedef struct rc_cell_matrix:
        const char *parameter
        int gate
        int gates
        int *at
        int source
        int linked
        int to_output
        int bias

    ctypedef struct rc_cell:
        const char *name
        rc_cell_step forward
        rc_cell_step backward
        rc_cell_parameter *parameters
        int width
        const char **blocks
        int gates
        int input_gates
        int *input_at
        int direct_at
        int states
        int inner
        int vectors
        rc_cell_state *state
        const char **inner_name
        rc_cell_vector *vector
        rc_cell_matrix *matrices
        int extra
        int dropped
        int zoned
        int in_place
        int noise
        int staged
        int feeds_back
        int own_bias
        int makes_matrix
        int saves_halves

    ctypedef struct rc_reservoir:
        long units
        long weights
        const int64_t *starts
        const int32_t *columns
        const void *values
        int activation
        double leak

    ctypedef struct rc_loss_options:
        long outputs
        long ld
        const void *class_weight
        double label_smoothing

    ctypedef struct UpdateTable:
        pass

    enum:
        RC_CRF_EXACT
        RC_CRF_PARTIAL

    ctypedef struct rc_crf:
        long labels
        long ld
        long steps
        long sequences
        const long *offsets
        const long *active
        const int64_t *length
        const int64_t *last
        rc_packed onward
        rc_packed back
        void *transitions
        void *start
        void *end
        void *factors
        void *start_factors
        void *end_factors
        void *pads
        void *reach
        void *back_reach
        void *scores
        void *alpha
        void *gamma
        void *beta
        double *log_total
        double *lost
        int *flags
        const double *weight
        double *work

    ctypedef struct rc_crf_table:
        void (*prepare)(rc_crf *, const void *, const void *, const void *, const char *) noexcept nogil
        void (*forward)(const rc_crf *, long, long) noexcept nogil
        void (*backward)(const rc_crf *, long, long) noexcept nogil
        double (*exact)(const rc_crf *, long, const int64_t *, int, double, void *) noexcept nogil
        double (*path_score)(const rc_crf *, long, const int64_t *, void *) noexcept nogil
        void (*finish)(const rc_crf *, const int64_t *, double, long, long) noexcept nogil
        void (*transition_gradient)(const rc_crf *, double, const void *, const void *, int, void *) noexcept nogil
        void (*viterbi)(const rc_crf *, long, long, int64_t *) noexcept nogil
        long (*best_work)(const rc_crf *, long) noexcept nogil
        void (*best)(const rc_crf *, long, long, long, void *, int64_t *, double *) noexcept nogil

    ctypedef struct rc_tree_table:
        void (*activate)(int, long, long, void *) noexcept nogil
        void (*slope)(int, long, long, const void *, void *) noexcept nogil
        void (*forget)(long, long, const void *, long, const void *, long, const int64_t *, const void *, void *,
                       void *) noexcept nogil
        void (*forget_back)(long, long, const void *, const int64_t *, const void *, void *, void *, void *, long,
                            void *) noexcept nogil
        void (*gates)(long, long, void *, long, void *, void *) noexcept nogil
        void (*gates_back)(long, long, void *, long, const void *, const void *, void *) noexcept nogil
        void (*pairs)(long, long, const void *, const void *, long, void *, long) noexcept nogil
        void (*pairs_back)(long, long, const void *, const void *, long, const void *, long, void *,
                           void *) noexcept nogil

    ctypedef struct rc_turing:
        long locations
        long ld
        long width
        long reads
        long writes
        long shifts
        long hidden
        long ldh
        int gates
        long lda
        long lds
        long ldp
        long steps
        long sequences
        const long *offsets
        const long *active
        rc_packed recurrent
        rc_packed recurrent_T
        rc_packed emit
        rc_packed emit_T
        void *a
        void *c
        void *state
        void *emissions
        void *memory
        void *norms
        void *cosines
        void *content
        void *shifted
        void *weights
        void *dstate
        void *demissions
        void *dmemory
        void *dweights
        void *dbefore
        void *dc
        void *work
        long work_size

    ctypedef struct rc_turing_table:
        long (*work_size)(const rc_turing *) noexcept nogil
        void (*forward)(const rc_turing *, long, long) noexcept nogil
        void (*backward)(const rc_turing *, long, long) noexcept nogil

    ctypedef struct rc_kernels:
        const char *level
        int itemsize
        int vector
        void (*vexp)(long, const void *, void *) noexcept nogil
        void (*vtanh)(long, const void *, void *) noexcept nogil
        void (*vsigmoid)(long, const void *, void *) noexcept nogil
        double (*peak)(long) noexcept nogil
        const rc_storage *storages
        int storage_count
        long (*packed_size)(const rc_packed *) noexcept nogil
        void (*prepare)(rc_packed *) noexcept nogil
        void (*pack)(rc_packed *, const void *, long, long) noexcept nogil
        void (*product)(const rc_packed *, long, const void *, long, int, void *, long) noexcept nogil
        rc_outer_scratch outer_scratch
        rc_outer outer
        void (*column_sums)(long, long, long, const void *, long, int, void *) noexcept nogil
        void (*gather)(long, long, long, const int64_t *, const void *, const void *, long, const void *, void *,
                       long) noexcept nogil
        void (*scatter)(long, long, long, long, const int64_t *, const void *, const void *, long, void *,
                        long) noexcept nogil
        void (*dropout)(long, double, uint32_t, uint32_t, const void *, void *) noexcept nogil
        void (*uniform)(long, uint32_t, uint32_t, void *) noexcept nogil
        void (*dropout_at)(long, double, uint32_t, uint32_t, long, void *) noexcept nogil
        void (*add)(long, long, const void *, long, void *, long) noexcept nogil
        void (*widen)(long, long, const void *, long, double *) noexcept nogil
        void (*narrow)(long, long, const double *, void *, long) noexcept nogil
        void (*copy)(long, long, const void *, long, void *, long) noexcept nogil
        void (*fill)(long, double, void *) noexcept nogil
        void (*scale)(long, double, const void *, void *) noexcept nogil
        void (*running_max)(long, const void *, int64_t, void *, int64_t *) noexcept nogil
        void (*return_to)(long, const int64_t *, const void *, void *, long) noexcept nogil
        double (*dot)(long, const void *, const void *) noexcept nogil
        void (*add_scaled)(long, double, const void *, void *) noexcept nogil
        void (*add_scaled_wide)(long, double, const void *, double *) noexcept nogil
        void (*attention_energies)(long, long, long, void *, const void *, void *) noexcept nogil
        void (*attention_energy_back)(long, double, void *, const void *, double *) noexcept nogil
        void (*memory_weights)(long, long, long, int, double, void *) noexcept nogil
        void (*memory_weights_back)(long, long, long, int, double, const void *, void *) noexcept nogil
        int (*all_finite)(long, const void *) noexcept nogil
        void (*contexts)(long, long, long, const void *, int, long, const void *, void *, long) noexcept nogil
        void (*tanh_back)(long, const void *, void *) noexcept nogil
        void (*softmax)(long, const rc_loss_options *, void *) noexcept nogil
        void (*softmax_loss)(long, const rc_loss_options *, double, const int64_t *, void *, double *) noexcept nogil
        void (*soft_loss)(long, const rc_loss_options *, double, const void *, void *, double *) noexcept nogil
        void (*squared_loss)(long, const rc_loss_options *, double, const void *, void *, double *) noexcept nogil
        void (*sigmoid)(long, const rc_loss_options *, void *) noexcept nogil
        void (*sigmoid_loss)(long, const rc_loss_options *, double, const void *, void *, double *) noexcept nogil
        double (*ctc)(const rc_loss_options *, void *, const long *, long, long, const int64_t *, long, double,
                      double *) noexcept nogil
        long (*ctc_work)(long, long) noexcept nogil
        void (*reservoir)(const rc_reservoir *, long, const void *, const void *, void *, void *) noexcept nogil
        const rc_cell *cells
        int cell_count
        rc_cell_step zoned_forward
        rc_cell_step zoned_backward
        const UpdateTable *updates
        const rc_crf_table *crf
        const rc_tree_table *trees
        const rc_turing_table *turing

cdef extern from "pool.h" nogil:
    ctypedef struct rnncore_call:
        int stopped

ctypedef void (*pool_task)(void *arg, int index) noexcept nogil

cdef const rc_kernels *kernels_for(int itemsize) except NULL
cdef const rc_cell *cell_named(const rc_kernels *kernels, str name) except NULL
cdef const rc_storage *storage_named(str name) except? NULL
cdef rc_gemm gemm_for(int itemsize) except? NULL
cdef void parallel(pool_task task, void *arg, int tasks, int n_threads) noexcept nogil
cdef bint stopping() noexcept nogil

cdef enum:
    BETWEEN = 1048576  # numbers

cdef inline bint stops_after(long numbers, long *left) noexcept nogil:
    # As rnncore_stops_after (pool.h): for loops that touch much memory; `left` begins at BETWEEN.
    left[0] -= numbers
    if left[0] > 0:
        return False
    if stopping():
        return True
    left[0] = BETWEEN
    return False
cdef void begin_call(rnncore_call *call, bint may_stop) noexcept nogil
cdef int end_call(rnncore_call *call) noexcept nogil
cdef int raise_stopped() except -1
