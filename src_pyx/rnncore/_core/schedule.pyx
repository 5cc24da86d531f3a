"""Packed ragged batches, the only layout inside the core.

Sequences are sorted by length, longest first. Step t of all sequences that reach it is one block of consecutive rows:
`offsets[t]` says where it starts, `active[t]` how many rows it has, never growing with t. There are no masks and no
padding, and the next step of row b of a block is row b of the next block.
"""
from libc.stdlib cimport free, malloc

import numpy as np

cimport numpy as cnp

cnp.import_array()


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
        cdef const int64_t *places = NULL
        v.steps = steps
        v.sequences = sequences
        v.full = lengths is None or bool((lengths == steps).all())
        v.rows = steps * sequences if v.full else int(lengths.sum())
        self.longs = <long *> malloc((2 * steps + 1) * sizeof(long))
        self.ints = <int64_t *> malloc((3 * sequences + (0 if v.full else v.rows)) * sizeof(int64_t))
        if self.longs == NULL or self.ints == NULL:
            raise MemoryError(f"no memory for a batch of {v.rows} rows")
        if not v.full:
            lengths = np.ascontiguousarray(lengths, dtype=np.int64)
            order = np.argsort(-lengths, kind="stable").astype(np.int64, copy=False)
            sizes = <const int64_t *> cnp.PyArray_DATA(lengths)
            places = <const int64_t *> cnp.PyArray_DATA(order)
        with nogil:
            self.fill(places, sizes)

    cdef int fill(self, const int64_t *places, const int64_t *sizes) noexcept nogil:
        cdef View *v = &self.view
        cdef long t, row = 0, B = v.sequences, b, n = B
        cdef long *offsets = self.longs
        cdef long *active = self.longs + v.steps + 1
        cdef int64_t *order = self.ints
        cdef int64_t *length = self.ints + B
        cdef int64_t *last = self.ints + 2 * B
        cdef int64_t *earlier = self.ints + 3 * B
        for b in range(B):
            order[b] = b if v.full else places[b]
            length[b] = v.steps if v.full else sizes[order[b]]
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
        return 0

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
