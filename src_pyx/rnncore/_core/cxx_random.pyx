"""The never seeded generators behind the original program: random_shuffle of both C++ libraries, and OpenCV's randu.

Each object's state lives on from call to call, as the library's own static generator does.
"""
import numpy as np

from libc.stdint cimport int64_t, uint32_t

cdef enum:
    WORDS = 624
    FAR = 397

cdef class LibcxxShuffle:
    """``std::random_shuffle`` of LLVM's libc++ (macOS): mt19937 with its default seed 5489.

    Place i is exchanged with place i + offset, offset uniform below the number of places left: the low bits of one
    draw, drawn again while they make too large a number.
    """

    cdef uint32_t words[WORDS]
    cdef int used

    def __cinit__(self):
        cdef int i
        self.words[0] = 5489
        for i in range(1, WORDS):
            self.words[i] = 1812433253u * (self.words[i - 1] ^ (self.words[i - 1] >> 30)) + <uint32_t> i
        self.used = WORDS

    cdef void refill(self) noexcept nogil:
        cdef int i
        cdef uint32_t y
        cdef uint32_t *w = self.words
        for i in range(WORDS):
            y = (w[i] & 0x80000000u) | (w[i + 1 - (WORDS if i == WORDS - 1 else 0)] & 0x7fffffffu)
            w[i] = w[i + FAR - (WORDS if i + FAR >= WORDS else 0)] ^ (y >> 1) ^ ((0u - (y & 1u)) & 0x9908b0dfu)
        self.used = 0

    cdef inline uint32_t draw(self) noexcept nogil:
        cdef uint32_t y
        if self.used == WORDS:
            self.refill()
        y = self.words[self.used]
        self.used += 1
        y ^= y >> 11
        y ^= (y << 7) & 0x9d2c5680u
        y ^= (y << 15) & 0xefc60000u
        return y ^ (y >> 18)

    def shuffle(self, int64_t[::1] items not None):
        """Shuffle `items` in place."""
        cdef Py_ssize_t first, n = items.shape[0]
        cdef uint32_t mask = 1, offset
        cdef int64_t item
        with nogil:
            while mask < <uint32_t> n - 1:
                mask = 2 * mask + 1
            for first in range(n - 1):
                while (mask >> 1) >= <uint32_t> (n - first - 1):
                    mask >>= 1
                offset = self.draw() & mask
                while offset >= <uint32_t> (n - first):
                    offset = self.draw() & mask
                item = items[first]
                items[first] = items[first + offset]
                items[first + offset] = item


cdef class LibstdcxxShuffle:
    """``std::random_shuffle`` of GNU's libstdc++ (Linux): place i with place ``rand() % (i + 1)``, glibc's rand()."""

    cdef uint32_t words[31]
    cdef int used

    def __cinit__(self):
        cdef int64_t seed = 1
        cdef int i, _i
        self.words[0] = 1
        for i in range(1, 31):
            seed = seed * 16807 % 2147483647
            self.words[i] = <uint32_t> seed
        self.used = 3
        for _i in range(310):
            self.draw()

    cdef inline uint32_t draw(self) noexcept nogil:
        cdef int i = self.used
        self.words[i] += self.words[i - 3 if i >= 3 else i + 28]
        self.used = i + 1 if i < 30 else 0
        return self.words[i] >> 1

    def shuffle(self, int64_t[::1] items not None):
        """Shuffle `items` in place."""
        cdef Py_ssize_t i, j
        cdef int64_t item
        with nogil:
            for i in range(1, items.shape[0]):
                j = self.draw() % <uint32_t> (i + 1)
                item = items[i]
                items[i] = items[j]
                items[j] = item


cdef class OpenCVRandom:
    """OpenCV's ``theRNG()`` in its initial state: multiply with carry (coefficient 4164903690)."""

    def __init__(self):
        self.state = 0xffffffffu

    cdef double draw(self, double factor, double middle) noexcept nogil:
        """The next number: a signed 64-bit one times `factor`, plus `middle`."""
        self.state = (self.state & 0xffffffffu) * 4164903690u + (self.state >> 32)
        return <double> <int64_t> ((self.state >> 32) | (self.state << 32)) * factor + middle

    def uniform(self, double low, double high, shape):
        """Return float64 numbers in [low, high), drawn in row-major order."""
        cdef double factor = (high - low) * 2.0 ** -64, middle = (high + low) * 0.5
        cdef Py_ssize_t i
        out = np.empty(shape, dtype=np.float64)
        cdef double[::1] flat = out.reshape(-1)
        with nogil:
            for i in range(flat.shape[0]):
                flat[i] = self.draw(factor, middle)
        return out
