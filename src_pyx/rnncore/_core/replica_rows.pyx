"""Windows of words, and the rows that a batch of them needs.

Windows that begin alike share their first steps: the rows of a step are the distinct prefixes of a batch (suffixes, for
the direction that reads from the right), each with the row it goes on from: a tree. Where nothing is shared, a window
has a row per step, in the order of time whatever the direction.
"""
import numpy as np

cimport numpy as cnp
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

cnp.import_array()


cdef class Windows:
    """Windows of words, and which of them begin and end alike.

    x : (n, T) int64 word ids below `words`; targets : (outputs, n) int64 classes.
    """

    def __init__(self, x, targets, long words, bint both):
        self.x = np.ascontiguousarray(x, dtype=np.int64)
        self.targets = np.ascontiguousarray(targets, dtype=np.int64)
        n, T = self.x.shape
        self.ids = []
        for columns in (self.x.T, self.x.T[::-1])[:2 if both else 1]:
            ids = np.empty((T, n), dtype=np.int64)
            seen = np.zeros(n, dtype=np.int64)
            for t in range(T):
                seen = ids[t] = np.unique(seen * words + columns[t], return_inverse=True)[1].reshape(-1)
            self.ids.append(ids)
        # windows that share their first words are neighbours in this order
        middle = T // 2 if both else T - 1
        keys = (self.ids[1][T - 1 - middle], self.ids[0][middle]) if both else (self.ids[0][middle],)
        self.order = np.lexsort(keys).astype(np.int64)
        self.stamp = np.full((T, n), -1, dtype=np.int64)
        self.local = np.zeros((T, n), dtype=np.int64)
        self.batch = 0

    def __len__(self):
        return self.x.shape[0]

    cdef int plant(self, Tree *tree, const int64_t *chosen, long samples, int direction, long steps, bint shared,
                   bint whole) except -1:
        """Lay out the rows of the first `steps` steps of one direction. whole: every row counts in the scores."""
        cdef const int64_t *x = <const int64_t *> cnp.PyArray_DATA(self.x)
        cdef const int64_t *ids = <const int64_t *> cnp.PyArray_DATA(self.ids[direction])
        cdef int64_t *stamp = <int64_t *> cnp.PyArray_DATA(self.stamp)
        cdef int64_t *local = <int64_t *> cnp.PyArray_DATA(self.local)
        cdef long total = self.x.shape[0], T = self.x.shape[1], s, n, t, row, place
        self.batch += 1
        tree.steps = steps
        tree.samples = samples
        tree.rows = 0
        for s in range(steps):
            t = s if direction == 0 else T - 1 - s
            tree.first[s] = tree.rows if shared else t * samples
            for n in range(samples):
                place = s * total + ids[s * total + chosen[n]]
                if shared and stamp[place] == self.batch:
                    tree.node[s * samples + n] = local[place]
                    continue
                row = tree.rows if shared else t * samples + n
                tree.rows += 1
                stamp[place] = self.batch
                local[place] = tree.node[s * samples + n] = row
                tree.parent[row] = tree.node[(s - 1) * samples + n] if s else -1
                tree.word[row] = x[chosen[n] * T + t]
            tree.count[s] = tree.rows - tree.first[s] if shared else samples
        tree.out_first = 0 if whole else tree.first[steps - 1]
        tree.out_count = tree.rows if whole else tree.count[steps - 1]
        return 0


cdef void link_rows(Tree *tree, int direction, bint whole) noexcept nogil:
    """Find the children of each row and the scores it takes part in: those of all steps, or of the last one."""
    cdef long o, s, outputs = tree.steps if whole else 1
    memset(tree.child_start, 0, (tree.rows + 1) * sizeof(int64_t))
    memset(tree.member_start, 0, (tree.rows + 1) * sizeof(int64_t))
    sort_into(tree.rows, tree.rows, tree.parent, tree.child_start, tree.children)
    for o in range(outputs):
        s = o if whole and direction == 0 else tree.steps - 1 - o
        memcpy(tree.member_row + o * tree.samples, tree.node + s * tree.samples, tree.samples * sizeof(int64_t))
    sort_into(tree.rows, outputs * tree.samples, tree.member_row, tree.member_start, tree.members)


cdef void sort_into(long keys, long n, const int64_t *key, int64_t *start, int64_t *items) noexcept nogil:
    """Counting sort: items[start[k]:start[k + 1]] are the i in 0..n-1 with key[i] == k, ascending; -1 is left out.
    start (keys + 1) comes in as zeros."""
    cdef long i, at = 0, count
    for i in range(n):
        if key[i] >= 0:
            start[key[i]] += 1
    for i in range(keys + 1):
        count = start[i]
        start[i] = at
        at += count
    for i in range(n):
        if key[i] >= 0:
            items[start[key[i]]] = i
            start[key[i]] += 1
    for i in range(keys, 0, -1):
        start[i] = start[i - 1]
    start[0] = 0
