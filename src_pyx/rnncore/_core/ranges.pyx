# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Ranges of flat arrays: dealt to several owners, laid end to end, put back, added.

Ranges are int64 (n, 3), rows of start, length and rule, sorted by start. Nothing is checked.
"""
from libc.stdint cimport int64_t
from libc.string cimport memcpy

import numpy as np

cimport numpy as cnp

from rnncore._core.kernels cimport kernels_for, rc_kernels

cnp.import_array()

cdef enum:
    ZEROS = 1024

cdef cnp.ndarray _zeros = np.zeros(ZEROS)  # of either precision
cdef const char *zeros = <const char *> cnp.PyArray_DATA(_zeros)


cdef int64_t *numbers_of(object ranges):
    return <int64_t *> cnp.PyArray_DATA(<cnp.ndarray> ranges)


def dealt(ranges, int bits, int owners, int each) -> list:
    """Return ranges as owners // each arrays of them: numbers with the place p go to p >> bits, modulo owners, // each.

    owners and each are powers of two.
    """
    cdef const int64_t *first = numbers_of(ranges)
    cdef const int64_t *end = first + cnp.PyArray_SIZE(<cnp.ndarray> ranges)
    cdef const int64_t *one
    cdef int64_t start, stop, to, mask = owners - 1, block = <int64_t> 1 << bits
    cdef int64_t *at
    cdef int shift = 0, part, parts = owners // each
    cdef cnp.npy_intp shape[2]
    while 1 << shift < each:
        shift += 1
    counts, places = np.zeros(parts, np.int64), np.zeros(parts, np.int64)
    cdef int64_t *count = numbers_of(counts)
    cdef int64_t *place = numbers_of(places)
    one = first
    while one < end:
        start, stop = one[0], one[0] + one[1]
        while start < stop:
            count[(start >> bits & mask) >> shift] += 1
            start = (start & -block) + block
        one += 3
    found = []
    shape[1] = 3
    for part in range(parts):
        shape[0] = count[part]
        own = cnp.PyArray_EMPTY(2, shape, cnp.NPY_INT64, 0)
        place[part] = <int64_t> numbers_of(own)
        found.append(own)
    one = first
    while one < end:
        start, stop = one[0], one[0] + one[1]
        while start < stop:
            part = <int> ((start >> bits & mask) >> shift)
            to = min(stop, (start & -block) + block)
            at = <int64_t *> place[part]
            at[0], at[1], at[2] = start, to - start, one[2]
            place[part] = <int64_t> (at + 3)
            start = to
        one += 3
    return found


def length(ranges) -> int:
    """Return how many numbers lie in ranges."""
    cdef const int64_t *one = numbers_of(ranges)
    cdef Py_ssize_t n
    cdef int64_t total = 0
    for n in range(cnp.PyArray_DIM(<cnp.ndarray> ranges, 0)):
        total += one[3 * n + 1]
    return total


def copy_out(flat, ranges, values) -> None:
    """Lay what is in ranges of a flat array end to end."""
    cdef const char *source = <const char *> cnp.PyArray_DATA(<cnp.ndarray> flat)
    cdef char *to = <char *> cnp.PyArray_DATA(<cnp.ndarray> values)
    cdef const int64_t *one = numbers_of(ranges)
    cdef Py_ssize_t _n, size = (<cnp.ndarray> flat).itemsize
    for _n in range(cnp.PyArray_DIM(<cnp.ndarray> ranges, 0)):
        memcpy(to, source + one[0] * size, one[1] * size)
        to += one[1] * size
        one += 3


def copy_in(flat, ranges, values) -> None:
    """Put back what `copy_out` has laid out."""
    cdef char *to = <char *> cnp.PyArray_DATA(<cnp.ndarray> flat)
    cdef const char *source = <const char *> cnp.PyArray_DATA(<cnp.ndarray> values)
    cdef const int64_t *one = numbers_of(ranges)
    cdef Py_ssize_t _n, size = (<cnp.ndarray> flat).itemsize
    for _n in range(cnp.PyArray_DIM(<cnp.ndarray> ranges, 0)):
        memcpy(to + one[0] * size, source, one[1] * size)
        source += one[1] * size
        one += 3


def add_in(flat, ranges, values=None) -> None:
    """Add to what is in ranges of a flat array; without values 0, which makes 0 of -0."""
    cdef char *to = <char *> cnp.PyArray_DATA(<cnp.ndarray> flat)
    cdef const char *source = zeros
    cdef const int64_t *one = numbers_of(ranges)
    cdef Py_ssize_t _n, size = (<cnp.ndarray> flat).itemsize
    cdef int64_t start, count
    cdef const rc_kernels *kernels = kernels_for(<int> size)
    if values is not None:
        source = <const char *> cnp.PyArray_DATA(<cnp.ndarray> values)
    for _n in range(cnp.PyArray_DIM(<cnp.ndarray> ranges, 0)):
        start, count = one[0], one[1]
        while count > 0:
            kernels.add(1, min(count, <int64_t> ZEROS), source, 0, to + start * size, 0)
            if values is not None:
                source += min(count, <int64_t> ZEROS) * size
            start += ZEROS
            count -= ZEROS
        one += 3
