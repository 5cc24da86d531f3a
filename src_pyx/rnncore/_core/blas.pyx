"""The only place that touches BLAS: row-major products on top of SciPy's column-major `cython_blas`.

The functions are looked up at run time, by the capsules that `cython_blas` exports, so one build works with every
SciPy: the integers are int up to SciPy 1.17 and blas_int (32 or 64 bits) from 1.18 on. All of them are passed as
pointers to 64-bit numbers, of which a 32-bit reader sees the lower half: right on little-endian machines.
"""
import sys

from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_GetPointer
from libc.stdint cimport int64_t

ctypedef void (*sgemm_t)(char *, char *, int64_t *, int64_t *, int64_t *, float *, const void *, int64_t *,
                         const void *, int64_t *, float *, void *, int64_t *) noexcept nogil
ctypedef void (*dgemm_t)(char *, char *, int64_t *, int64_t *, int64_t *, double *, const void *, int64_t *,
                         const void *, int64_t *, double *, void *, int64_t *) noexcept nogil

cdef sgemm_t sgemm = NULL
cdef dgemm_t dgemm = NULL


# row-major C = A·B is column-major Cᵀ = Bᵀ·Aᵀ
cdef void gemm_single(int transpose_a, int transpose_b, long M, long N, long K, const void *A, long lda,
                      const void *B, long ldb, int accumulate, void *C, long ldc) noexcept nogil:
    cdef int64_t m = N, n = M, k = K, a = ldb, b = lda, c = ldc
    cdef float one = 1, beta = 1 if accumulate else 0
    cdef char first = c'T' if transpose_b else c'N', second = c'T' if transpose_a else c'N'
    sgemm(&first, &second, &m, &n, &k, &one, B, &a, A, &b, &beta, C, &c)


cdef void gemm_double(int transpose_a, int transpose_b, long M, long N, long K, const void *A, long lda,
                      const void *B, long ldb, int accumulate, void *C, long ldc) noexcept nogil:
    cdef int64_t m = N, n = M, k = K, a = ldb, b = lda, c = ldc
    cdef double one = 1, beta = 1 if accumulate else 0
    cdef char first = c'T' if transpose_b else c'N', second = c'T' if transpose_a else c'N'
    dgemm(&first, &second, &m, &n, &k, &one, B, &a, A, &b, &beta, C, &c)


cdef void *address(capsule) except NULL:
    return PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule))


def gemm_addresses():
    """Return the addresses of the single- and double-precision products, as rc_gemm in kernels.h describes them."""
    global sgemm, dgemm
    from scipy.linalg import cython_blas

    if sys.byteorder != "little":
        raise RuntimeError("RNNCORE_GEMM=blas needs a little-endian machine: set RNNCORE_GEMM=native")
    sgemm = <sgemm_t> address(cython_blas.__pyx_capi__["sgemm"])
    dgemm = <dgemm_t> address(cython_blas.__pyx_capi__["dgemm"])
    return <size_t> &gemm_single, <size_t> &gemm_double
