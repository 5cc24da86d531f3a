# The rows of a batch of windows: what windows that begin (or end) alike share. See replica_rows.pyx.
from libc.stdint cimport int64_t

cdef struct Tree:
    # The rows of one direction's steps. Steps count in the order of processing; `members` of a row are the scores that
    # it takes part in, numbered output·samples + sample.
    long steps, samples, rows
    long out_first, out_count   # the rows that scores are made of
    int64_t *first              # of a step, its first row
    int64_t *count              # and how many it has
    int64_t *parent             # of a row, the row of the step before
    int64_t *word
    int64_t *node               # (steps, samples): the row of a sample
    int64_t *child_start
    int64_t *children
    int64_t *member_start
    int64_t *members
    int64_t *member_row         # of a score, its row

cdef class Windows:
    cdef readonly object x, targets, order
    cdef list ids               # per direction: (T, n), the number of each window's first steps among all such
    cdef object stamp, local    # (T, n): which batch saw a prefix last, and its row there
    cdef int64_t batch
    cdef int plant(self, Tree *tree, const int64_t *chosen, long samples, int direction, long steps, bint shared,
                   bint whole) except -1

cdef void link_rows(Tree *tree, int direction, bint whole) noexcept nogil
cdef void sort_into(long keys, long n, const int64_t *key, int64_t *start, int64_t *items) noexcept nogil
