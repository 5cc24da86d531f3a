# cython: language_level=3
"""A small program on rnncore/capi.pxd: a packed product, and one layer over a batch, without the GIL."""
from libc.stdint cimport int64_t
from libc.string cimport memset

from rnncore.capi cimport (
    RNNCORE_DENSE,
    RNNCORE_FROM_BIAS,
    RNNCORE_OK,
    rnncore_api,
    rnncore_batch,
    rnncore_import,
    rnncore_layers,
    rnncore_matrix,
)

cdef const rnncore_api *rc = rnncore_import()


def product(const float[:, ::1] W, const float[::1] bias, const float[:, ::1] A, float[:, ::1] C):
    """C = bias + A·W."""
    cdef rnncore_matrix *matrix
    cdef int status
    with nogil:
        status = rc.matrix_pack(4, W.shape[0], W.shape[1], &W[0, 0], W.shape[1], False, &bias[0], &matrix)
        if status == RNNCORE_OK:
            status = rc.matrix_multiply(matrix, A.shape[0], &A[0, 0], A.shape[1], RNNCORE_FROM_BIAS, &C[0, 0],
                                        C.shape[1], 1)
        rc.matrix_free(matrix)
    return status


def forward(layer, const float[:, :, ::1] x, const int64_t[::1] lengths, float[:, :, ::1] y):
    """Run a layer over a ragged batch."""
    cdef rnncore_layers *layers = rc.layers_open(layer, RNNCORE_DENSE, False)
    cdef rnncore_batch batch
    cdef int status
    with nogil:
        memset(&batch, 0, sizeof(batch))
        batch.steps, batch.sequences = x.shape[0], x.shape[1]
        batch.lengths = &lengths[0]
        batch.x = &x[0, 0, 0]
        status = rc.layers_forward(layers, &batch, &y[0, 0, 0], NULL)
    rc.layers_close(layers)
    return status


def refused(thing):
    """A handle on something else raises."""
    rc.layers_open(thing, RNNCORE_DENSE, False)
