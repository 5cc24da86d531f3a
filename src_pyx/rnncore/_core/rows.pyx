"""Whole numbers that name rows of tables: checked, made distinct, turned into ranges of theta.

All of it is asked for in every training step, of a few numbers mostly: there a question costs less than a microsecond.
"""
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

import numpy as np

cimport numpy as cnp

cnp.import_array()

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define lowest_bit(word) __builtin_ctzll(word)
    #else
    static int lowest_bit(unsigned long long word) { int n = 0; while (!(word >> n & 1)) n++; return n; }
    #endif
    """
    int lowest_bit(uint64_t word) nogil

cdef enum:
    FEW = 32  # of so few numbers, each is put into its place


cdef bint is_plain(object array) noexcept:
    """Whether this is an array of int64 as C has them: C-contiguous, aligned, and not of a class that means more."""
    if type(array) is not cnp.ndarray:
        return False
    cdef cnp.ndarray a = array
    return cnp.PyArray_TYPE(a) == cnp.NPY_INT64 and cnp.PyArray_CHKFLAGS(a, cnp.NPY_ARRAY_CARRAY_RO) and \
        cnp.PyArray_ISNOTSWAPPED(a)


def all_within(array, int64_t low, int64_t high, lengths=None) -> bool:
    """Tell whether an array can be taken as it is: plain int64, not empty, every number in low..high.

    lengths : plain int64 (B,), of sequences in an array (T, B): numbers past a sequence's end may be any.
    """
    if not is_plain(array) or (lengths is not None and not is_plain(lengths)):
        return False
    cdef cnp.ndarray a = array
    cdef const int64_t *numbers = <const int64_t *> cnp.PyArray_DATA(a)
    cdef const int64_t *ends = NULL
    cdef long i, t, count = cnp.PyArray_SIZE(a), width = count
    cdef uint64_t span = <uint64_t> high - <uint64_t> low
    cdef bint outside = False
    if count == 0 or high < low:
        return False
    if lengths is not None:
        if cnp.PyArray_NDIM(a) != 2 or cnp.PyArray_SIZE(<cnp.ndarray> lengths) != cnp.PyArray_DIM(a, 1):
            return False
        ends = <const int64_t *> cnp.PyArray_DATA(<cnp.ndarray> lengths)
        width = cnp.PyArray_DIM(a, 1)
    with nogil:
        if ends == NULL:
            for i in range(count):
                outside |= <uint64_t> numbers[i] - <uint64_t> low > span
        else:
            for t in range(count // width):
                for i in range(width):
                    outside |= t < ends[i] and <uint64_t> numbers[t * width + i] - <uint64_t> low > span
    return not outside


def gathered(array, places):
    """Return the rows of an int32 array (N,) or (N, C) at places, int64 of any shape, as int64.

    Places past the last row give the last one; N > 0, no place below 0.
    """
    cdef cnp.ndarray source = np.ascontiguousarray(array, np.int32), at = np.ascontiguousarray(places, np.int64)
    cdef cnp.npy_intp shape[cnp.NPY_MAXDIMS]
    cdef int axes = cnp.PyArray_NDIM(at), wide = cnp.PyArray_NDIM(source) == 2, i
    cdef long count = cnp.PyArray_SIZE(at), rows = cnp.PyArray_DIM(source, 0), n, c, row
    cdef long width = cnp.PyArray_DIM(source, 1) if wide else 1
    for i in range(axes):
        shape[i] = cnp.PyArray_DIM(at, i)
    if wide:
        shape[axes] = width
    found = cnp.PyArray_EMPTY(axes + wide, shape, cnp.NPY_INT64, 0)
    cdef const int32_t *numbers = <const int32_t *> cnp.PyArray_DATA(source)
    cdef const int64_t *place = <const int64_t *> cnp.PyArray_DATA(at)
    cdef int64_t *to = <int64_t *> cnp.PyArray_DATA(<cnp.ndarray> found)
    with nogil:
        for n in range(count):
            row = min(place[n], rows - 1)
            for c in range(width):
                to[n * width + c] = numbers[row * width + c]
    return found


cdef object distinct(const int64_t *ids, long count, long rows):
    """Return which of a table's rows the numbers name, each once, sorted: int64. Negative ones name none."""
    if count <= FEW:
        return distinct_of_few(ids, count)
    cdef long words = (rows + 63) // 64, i, n = 0
    cdef uint64_t word
    cdef uint64_t *named = <uint64_t *> calloc(words, sizeof(uint64_t))
    if named == NULL:
        raise MemoryError
    found = None
    cdef int64_t *to
    try:
        for i in range(count):
            if ids[i] >= 0:
                n += not named[ids[i] >> 6] >> (ids[i] & 63) & 1
                named[ids[i] >> 6] |= <uint64_t> 1 << (ids[i] & 63)
        found = np.empty(n, dtype=np.int64)
        to = <int64_t *> cnp.PyArray_DATA(<cnp.ndarray> found)
        for i in range(words):
            word = named[i]
            while word:
                to[0] = 64 * i + lowest_bit(word)
                to += 1
                word &= word - 1
    finally:
        free(named)
    return found


cdef object distinct_of_few(const int64_t *ids, long count):
    cdef int64_t sorted_ids[FEW]
    cdef cnp.npy_intp n = 0
    cdef long i, at, j
    for i in range(count):
        if ids[i] < 0:
            continue
        at = n
        while at > 0 and sorted_ids[at - 1] > ids[i]:
            at -= 1
        if at > 0 and sorted_ids[at - 1] == ids[i]:
            continue
        for j in range(n, at, -1):
            sorted_ids[j] = sorted_ids[j - 1]
        sorted_ids[at] = ids[i]
        n += 1
    found = cnp.PyArray_EMPTY(1, &n, cnp.NPY_INT64, 0)
    cdef int64_t *to = <int64_t *> cnp.PyArray_DATA(<cnp.ndarray> found)
    for i in range(n):
        to[i] = sorted_ids[i]
    return found


cdef void zero_rows(char *table, object rows, long bytes):
    """Set the rows of a table to zero; int64, each of `bytes` bytes."""
    cdef const int64_t *numbers = <const int64_t *> cnp.PyArray_DATA(<cnp.ndarray> rows)
    cdef long i
    for i in range(cnp.PyArray_SIZE(<cnp.ndarray> rows)):
        memset(table + numbers[i] * bytes, 0, bytes)


def merged(ranges, tables):
    """Return ranges of theta, each a row of start, length and rule, with those of single rows of tables among them.

    ranges : int64 (n, 3), sorted; none reaches into a table.
    tables : list of (start, width, rule, rows), sorted by start: rows int64 (m,), sorted.
    """
    cdef cnp.ndarray given = ranges, rows
    cdef cnp.npy_intp shape[2]
    cdef const int64_t *numbers
    cdef const int64_t *source = <const int64_t *> cnp.PyArray_DATA(given)
    cdef const int64_t *end = source + cnp.PyArray_SIZE(given)
    cdef int64_t *to
    cdef int64_t start, width, rule
    cdef long i
    shape[0] = cnp.PyArray_DIM(given, 0)
    shape[1] = 3
    for table in tables:
        shape[0] += cnp.PyArray_SIZE(<cnp.ndarray> table[3])
    found = cnp.PyArray_EMPTY(2, shape, cnp.NPY_INT64, 0)
    to = <int64_t *> cnp.PyArray_DATA(<cnp.ndarray> found)
    for start, width, rule, rows in tables:
        while source < end and source[0] < start:
            to[0], to[1], to[2] = source[0], source[1], source[2]
            to, source = to + 3, source + 3
        numbers = <const int64_t *> cnp.PyArray_DATA(rows)
        for i in range(cnp.PyArray_SIZE(rows)):
            to[0], to[1], to[2] = start + numbers[i] * width, width, rule
            to += 3
    while source < end:
        to[0], to[1], to[2] = source[0], source[1], source[2]
        to, source = to + 3, source + 3
    return found
