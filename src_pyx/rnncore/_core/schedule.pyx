"""Packed ragged batches, the only layout inside the core.

Sequences are sorted by length, longest first. Step t of all sequences that reach it is one block of consecutive rows:
`offsets[t]` says where it starts, `active[t]` how many rows it has, never growing with t. There are no masks and no
padding, and the next step of row b of a block is row b of the next block.
"""
from libc.stdlib cimport free, malloc

import numpy as np


cdef class Batch:
    """The packed layout of B sequences of up to T steps.

    Parameters
    ----------
    steps, sequences : int
        T and B of the caller's (T, B, ...) arrays.
    lengths : int64 array (B,) or None
        Steps of each sequence, already checked to lie in 1..T; None: all T.
    """

    def __cinit__(self, long steps, long sequences, lengths=None):
        cdef long t, b, row, B = sequences
        cdef const int64_t[::1] sizes, places
        self.steps = steps
        self.sequences = B
        self.full = lengths is None or bool((lengths == steps).all())
        order = None if self.full else np.argsort(-lengths, kind="stable")
        self.rows = steps * B if self.full else int(lengths.sum())
        self.offsets = <long *> malloc((2 * steps + 1) * sizeof(long))
        self.ints = <int64_t *> malloc((3 * B + (0 if self.full else self.rows)) * sizeof(int64_t))
        if self.offsets == NULL or self.ints == NULL:
            raise MemoryError(f"no memory for a batch of {self.rows} rows")
        self.active = self.offsets + steps + 1
        self.order = self.ints
        self.length = self.ints + B
        self.last = self.ints + 2 * B
        self.earlier = NULL if self.full else self.ints + 3 * B
        if self.full:
            for b in range(B):
                self.order[b] = b
                self.length[b] = steps
        else:
            places = order
            sizes = lengths
            for b in range(B):
                self.order[b] = places[b]
                self.length[b] = sizes[places[b]]
        b = B
        row = 0
        for t in range(steps):
            while b > 0 and self.length[b - 1] <= t:
                b -= 1
            self.offsets[t] = row
            self.active[t] = b
            row += b
        self.offsets[steps] = row
        for b in range(B):
            self.last[b] = self.offsets[self.length[b] - 1] + b
        if not self.full:
            for t in range(1, steps):
                for b in range(self.active[t]):
                    self.earlier[self.offsets[t] + b - B] = self.offsets[t - 1] + b

    def __dealloc__(self):
        free(self.offsets)
        free(self.ints)
