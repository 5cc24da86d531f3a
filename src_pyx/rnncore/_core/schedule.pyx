"""Packed ragged batches, the only layout inside the core.

Sequences are sorted by length, longest first. Step t of all sequences that reach it is one block of consecutive rows:
`offsets[t]` says where it starts, `active[t]` how many rows it has, never growing with t. There are no masks and no
padding, and the next step of row b of a block is row b of the next block.
"""
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

import numpy as np

cimport numpy as cnp

cnp.import_array()


cdef void measure_view(View *v, long steps, long sequences, const int64_t *lengths) noexcept nogil:
    """How many rows there are. lengths: (B,) in 1..T, or NULL: all T."""
    cdef long b
    v.steps = steps
    v.sequences = sequences
    v.rows = steps * sequences
    if lengths != NULL:
        v.rows = 0
        for b in range(sequences):
            v.rows += lengths[b]
    v.full = v.rows == steps * sequences


cdef long longs_of_view(const View *v) noexcept nogil:
    """Numbers of memory for offsets and active."""
    return 2 * v.steps + 1


cdef long ints_of_view(const View *v) noexcept nogil:
    """Numbers of memory for the other four."""
    return 3 * v.sequences + (0 if v.full else v.rows)


cdef void sort_by_length(long steps, long sequences, const int64_t *lengths, long *first,
                         int64_t *order) noexcept nogil:
    """order: numbers of the sequences, longest first, equals as they come; first: (T,) scratch."""
    cdef long b, n, place = 0, count
    memset(first, 0, steps * sizeof(long))
    for b in range(sequences):
        first[lengths[b] - 1] += 1
    for n in range(steps - 1, -1, -1):
        count = first[n]
        first[n] = place
        place += count
    for b in range(sequences):
        order[first[lengths[b] - 1]] = b
        first[lengths[b] - 1] += 1


cdef void fill_view(View *v, const int64_t *lengths, long *longs, int64_t *ints) noexcept nogil:
    """Lay out a measured view in the memory given."""
    cdef long t, row = 0, B = v.sequences, b, n = B
    cdef long *offsets = longs
    cdef long *active = longs + v.steps + 1
    cdef int64_t *order = ints
    cdef int64_t *length = ints + B
    cdef int64_t *last = ints + 2 * B
    cdef int64_t *earlier = ints + 3 * B
    if not v.full:
        sort_by_length(v.steps, B, lengths, active, order)
    for b in range(B):
        if v.full:
            order[b] = b
        length[b] = v.steps if v.full else lengths[order[b]]
    for t in range(v.steps):
        while n > 0 and length[n - 1] <= t:
            n -= 1
        offsets[t] = row
        active[t] = n
        row += n
    offsets[v.steps] = row
    for b in range(B):
        last[b] = offsets[length[b] - 1] + b
    if not v.full:
        for t in range(1, v.steps):
            for b in range(active[t]):
                earlier[offsets[t] + b - B] = offsets[t - 1] + b
    v.offsets, v.active, v.order, v.length, v.last = offsets, active, order, length, last
    v.earlier = NULL if v.full else earlier


cdef class Schedule:
    """Which rows run at each step: the packed layout of B sequences of up to T steps. It never changes.

    Parameters
    ----------
    steps, sequences : int
        T and B of the caller's (T, B, ...) arrays.
    lengths : int64 array (B,) or None
        Steps of each sequence, already checked to lie in 1..T; None: all T.
    """

    def __cinit__(self, long steps, long sequences, lengths=None):
        cdef View *v = &self.view
        cdef const int64_t *sizes = NULL
        if lengths is not None:
            lengths = np.ascontiguousarray(lengths, dtype=np.int64)
            sizes = <const int64_t *> cnp.PyArray_DATA(lengths)
        with nogil:
            measure_view(v, steps, sequences, sizes)
            self.longs = <long *> malloc(longs_of_view(v) * sizeof(long))
            self.ints = <int64_t *> malloc(ints_of_view(v) * sizeof(int64_t))
            if self.longs != NULL and self.ints != NULL:
                fill_view(v, sizes, self.longs, self.ints)
        if self.longs == NULL or self.ints == NULL:
            raise MemoryError(f"no memory for a batch of {v.rows} rows")

    def __dealloc__(self):
        free(self.longs)
        free(self.ints)

    @property
    def steps(self):
        """T."""
        return self.view.steps

    @property
    def sequences(self):
        """B."""
        return self.view.sequences

    @property
    def rows(self):
        """Sum of the lengths."""
        return self.view.rows

    @property
    def full(self):
        """Whether every sequence has T steps: packed rows are then the caller's rows."""
        return self.view.full

    def flat(self):
        """Return each packed row's number among the T·B rows of the caller's arrays."""
        cdef View *v = &self.view
        cdef long t, b
        found = np.empty(v.rows, dtype=np.int64)
        cdef int64_t *rows = <int64_t *> cnp.PyArray_DATA(found)
        for t in range(v.steps):
            for b in range(v.active[t]):
                rows[v.offsets[t] + b] = t * v.sequences + v.order[b]
        return found
