from rnncore.capi cimport rnncore_matrix
from libc.stdint cimport int64_t

cdef int matrix_pack(int itemsize, int64_t K, int64_t N, const void *W, int64_t ldw, int transposed, const void *bias,
                     rnncore_matrix **made) noexcept nogil
cdef int matrix_multiply(const rnncore_matrix *matrix, int64_t M, const void *A, int64_t lda, int start, void *C,
                         int64_t ldc, int threads) noexcept nogil
cdef void matrix_free(rnncore_matrix *matrix) noexcept nogil
