from libc.stdint cimport int64_t, uint64_t

cdef class OpenCVRandom:
    cdef public uint64_t state
    cdef double draw(self, double factor, double middle) noexcept nogil
