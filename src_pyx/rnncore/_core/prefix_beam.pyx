"""The most probable strings of a connectionist temporal classification, and the most probable way to say a given one.

A string l of symbols is spoken by every path through the T steps that becomes l when repeats are merged and blanks left
out. With y_t(s) the probability of symbol s at step t, y_t(-) that of the blank, and P = b + n the probability of
all paths until t that make the prefix l (Graves 2012, section 7.5; Hannun, Maas, Jurafsky and Ng 2014):

    b_t(l)   = y_t(-)·P_{t-1}(l)                                                     they end with a blank
    n_t(l·s) = y_t(s)·(n_{t-1}(l·s) + (s ends l ? b_{t-1}(l) : P_{t-1}(l)))          they end with s, the last symbol

A beam holds the `size` prefixes with the largest log P + w. The weight w is a prefix's own, a sum over its symbols that
never changes: of automata (a step from state to state for each symbol, which has a weight or is forbidden) and of what
the caller gives. All in logarithms, float64. Of equal candidates the earlier wins: prefixes that stay, in the order of
the beam, then longer ones, by the prefix that they go on from and by their symbol.

Prefixes are nodes of a tree that grows: one that leaves the beam and comes back is the same node.
"""
from libc.math cimport INFINITY, exp, log1p
from libc.stdint cimport int8_t, int32_t, int64_t
from libc.stdlib cimport free, malloc, realloc

import numpy as np

cimport numpy as cnp

cnp.import_array()

cdef enum:
    MOST_AUTOMATA = 8
    FIRST_NODES = 256

cdef struct Automaton:
    const int32_t *next  # (states, K): the state after a symbol; -1: forbidden
    const double *weight  # (states, K)
    const double *final  # (states,): added when the string ends; -inf: it may not

cdef struct Node:
    int32_t parent, symbol, child, sibling  # child: the latest one; sibling: its elder
    int32_t row  # in the beam, or -1
    int32_t state[MOST_AUTOMATA]
    double weight

cdef struct Candidate:
    double score, b, n, weight
    int64_t order  # of two with the same score, the lower wins
    int32_t node  # that stays, or that a symbol is added to
    int32_t symbol  # -1: none


cdef inline double log_add(double a, double b) noexcept nogil:
    cdef double large = a if a > b else b, small = b if a > b else a
    return large if small == -INFINITY else large + log1p(exp(small - large))


cdef inline bint worse(const Candidate *a, const Candidate *b) noexcept nogil:
    return a.score < b.score or (a.score == b.score and a.order > b.order)


cdef void sink(Candidate *heap, Py_ssize_t at, Py_ssize_t count) noexcept nogil:
    """Move the candidate in a place of a heap, whose first is the worst, down to where it belongs."""
    cdef Candidate moved = heap[at]
    cdef Py_ssize_t below = 2 * at + 1
    while below < count:
        if below + 1 < count and worse(&heap[below + 1], &heap[below]):
            below += 1
        if not worse(&heap[below], &moved):
            break
        heap[at] = heap[below]
        at, below = below, 2 * below + 1
    heap[at] = moved


cdef void rise(Candidate *heap, Py_ssize_t at) noexcept nogil:
    cdef Candidate moved = heap[at]
    while at and worse(&moved, &heap[(at - 1) // 2]):
        heap[at] = heap[(at - 1) // 2]
        at = (at - 1) // 2
    heap[at] = moved


cdef class PrefixBeam:
    """The beam of one utterance.

    symbols : K; the blank is number K of the K + 1 probabilities of a step.
    automata : list of (next (states, K) int32, weight (states, K) float64, final (states,) float64); each starts in
        state 0.
    """

    cdef readonly Py_ssize_t symbols, size
    cdef Py_ssize_t count, n_nodes, capacity, n_automata
    cdef Automaton automata[MOST_AUTOMATA]
    cdef object held  # the automata's arrays
    cdef Node *nodes
    cdef Candidate *beam  # the best first
    cdef Candidate *heap
    cdef double *stay  # n of prefixes that stay, (size,)
    cdef int8_t *taken  # (size, K): whether a prefix of the beam has this symbol more

    def __cinit__(self, Py_ssize_t symbols, Py_ssize_t size, automata):
        cdef Py_ssize_t i
        cdef const int32_t[:, ::1] following
        cdef const double[:, ::1] weight
        cdef const double[::1] final
        if len(automata) > MOST_AUTOMATA:
            raise ValueError(f"at most {MOST_AUTOMATA} automata, got {len(automata)}")
        self.symbols, self.size, self.held, self.n_automata = symbols, size, automata, len(automata)
        for i in range(self.n_automata):
            following, weight, final = automata[i]
            self.automata[i] = Automaton(&following[0, 0], &weight[0, 0], &final[0])
        self.capacity = FIRST_NODES
        self.nodes = <Node *> malloc(self.capacity * sizeof(Node))
        self.beam = <Candidate *> malloc(size * sizeof(Candidate))
        self.heap = <Candidate *> malloc(size * sizeof(Candidate))
        self.stay = <double *> malloc(size * sizeof(double))
        self.taken = <int8_t *> malloc(size * symbols * sizeof(int8_t))
        if not (self.nodes and self.beam and self.heap and self.stay and self.taken):
            raise MemoryError
        for i in range(size * symbols):
            self.taken[i] = 0
        cdef Node *root = &self.nodes[0]
        root.parent = root.symbol = root.child = root.sibling = -1
        root.row, root.weight = 0, 0
        for i in range(self.n_automata):
            root.state[i] = 0
        self.n_nodes = self.count = 1
        self.beam[0] = Candidate(score=0, b=0, n=-INFINITY, weight=0, order=0, node=0, symbol=-1)

    def __dealloc__(self):
        free(self.nodes)
        free(self.beam)
        free(self.heap)
        free(self.stay)
        free(self.taken)

    cdef inline void offer(self, Py_ssize_t *kept, const Candidate *new) noexcept nogil:
        """Keep a candidate if it is among the best until now."""
        if not new.score > -INFINITY:
            return
        if kept[0] < self.size:
            self.heap[kept[0]] = new[0]
            rise(self.heap, kept[0])
            kept[0] += 1
        elif worse(&self.heap[0], new):
            self.heap[0] = new[0]
            sink(self.heap, 0, kept[0])

    cdef int advance(self, const double *y, const double *extra, Py_ssize_t stride) except -1 nogil:
        """Go on by one step: y (K + 1,) log-probabilities, extra (rows, K) weights of longer prefixes, or NULL."""
        cdef Py_ssize_t K = self.symbols, row, s, a, kept = 0
        cdef Node *node
        cdef Candidate *old
        cdef Candidate new
        cdef double total, from_here, n, weight
        cdef int32_t state
        for row in range(self.count):
            self.stay[row] = -INFINITY
        for row in range(self.count):  # what becomes a prefix that is in the beam, too
            old, node = &self.beam[row], &self.nodes[self.beam[row].node]
            if node.symbol < 0:
                continue
            total = old.n
            s = self.nodes[node.parent].row
            if s >= 0:
                self.taken[s * K + node.symbol] = 1
                from_here = self.beam[s].b
                if self.nodes[node.parent].symbol != node.symbol:
                    from_here = log_add(from_here, self.beam[s].n)
                total = log_add(total, from_here)
            self.stay[row] = total + y[node.symbol]
        for row in range(self.count):
            old = &self.beam[row]
            new = Candidate(b=log_add(old.b, old.n) + y[K], n=self.stay[row], weight=old.weight, order=row,
                            node=old.node, symbol=-1, score=0)
            new.score = log_add(new.b, new.n) + new.weight
            self.offer(&kept, &new)
        for row in range(self.count):
            old, node = &self.beam[row], &self.nodes[self.beam[row].node]
            total = log_add(old.b, old.n)
            for s in range(K):
                if self.taken[row * K + s]:
                    self.taken[row * K + s] = 0
                    continue
                n, weight = (old.b if s == node.symbol else total) + y[s], old.weight
                for a in range(self.n_automata):
                    state = node.state[a]
                    if self.automata[a].next[state * K + s] < 0:
                        weight = -INFINITY
                        break
                    weight += self.automata[a].weight[state * K + s]
                if extra != NULL:
                    weight += extra[row * stride + s]
                if kept < self.size or n + weight > self.heap[0].score:
                    new = Candidate(score=n + weight, b=-INFINITY, n=n, weight=weight, order=self.count + row * K + s,
                                    node=old.node, symbol=s)
                    self.offer(&kept, &new)
        for row in range(self.count):
            self.nodes[self.beam[row].node].row = -1
        self.count = kept
        for row in range(kept - 1, -1, -1):  # the worst is taken off first
            self.beam[row] = self.heap[0]
            self.heap[0] = self.heap[row]
            sink(self.heap, 0, row)
        for row in range(kept):
            if self.beam[row].symbol >= 0:
                self.beam[row].node = self.longer(&self.beam[row])
            self.nodes[self.beam[row].node].row = row
        return 0

    cdef int32_t longer(self, const Candidate *of) except -1 nogil:
        """Return the node of a prefix with one more symbol."""
        cdef int32_t found = self.nodes[of.node].child
        cdef Node *node
        cdef Py_ssize_t a
        while found >= 0:
            if self.nodes[found].symbol == of.symbol:
                return found
            found = self.nodes[found].sibling
        if self.n_nodes == self.capacity:
            node = <Node *> realloc(self.nodes, 2 * self.capacity * sizeof(Node))
            if node == NULL:
                with gil:
                    raise MemoryError
            self.nodes, self.capacity = node, 2 * self.capacity
        found = self.n_nodes
        self.n_nodes += 1
        node = &self.nodes[found]
        node.parent, node.symbol, node.child, node.row, node.weight = of.node, of.symbol, -1, -1, of.weight
        node.sibling = self.nodes[of.node].child
        self.nodes[of.node].child = found
        for a in range(self.n_automata):
            node.state[a] = self.automata[a].next[self.nodes[of.node].state[a] * self.symbols + of.symbol]
        return found

    def run(self, const double[:, ::1] y not None):
        """Go on by all steps of log-probabilities (T, K + 1)."""
        cdef Py_ssize_t t
        with nogil:
            for t in range(y.shape[0]):
                self.advance(&y[t, 0], NULL, 0)

    def step(self, const double[::1] y not None, const double[:, ::1] extra not None):
        """Go on by one step; extra: weights (rows, K) of each prefix with each symbol more."""
        with nogil:
            self.advance(&y[0], &extra[0, 0], extra.shape[1])

    def prefixes(self):
        """Return the nodes in the beam, the best first, those they go on from, and their last symbols: -1 for none."""
        found = np.empty((3, self.count), dtype=np.int64)
        cdef int64_t[:, ::1] to = found
        cdef Py_ssize_t row
        for row in range(self.count):
            to[0, row] = self.beam[row].node
            to[1, row] = self.nodes[self.beam[row].node].parent
            to[2, row] = self.nodes[self.beam[row].node].symbol
        return found[0], found[1], found[2]

    def found(self):
        """Return for each row what was found: log P; and P's weight, with what automata add at the end."""
        log_p, weights = np.empty(self.count), np.empty(self.count)
        cdef double[::1] p = log_p, w = weights
        cdef Py_ssize_t row
        for row in range(self.count):
            p[row] = log_add(self.beam[row].b, self.beam[row].n)
            w[row] = self.beam[row].weight + self.ended(self.beam[row].node)
        return log_p, weights

    cdef double ended(self, Py_ssize_t node) noexcept nogil:
        cdef double total = 0
        cdef Py_ssize_t a
        for a in range(self.n_automata):
            total += self.automata[a].final[self.nodes[node].state[a]]
        return total

    def string(self, Py_ssize_t row, bint whole):
        """Return the symbols of the prefix in a row; whole: cut back to where it may end."""
        cdef Py_ssize_t node = self.beam[row].node
        while whole and node > 0 and self.ended(node) == -INFINITY:
            node = self.nodes[node].parent
        found = []
        while node > 0:
            found.append(self.nodes[node].symbol)
            node = self.nodes[node].parent
        return np.array(found[::-1], dtype=np.int64)


def best_alignment(const double[:, ::1] y not None, const int64_t[::1] symbols not None):
    """Return which symbol of a string each step speaks by the most probable path, (T,) int64, -1: a blank; its log p.

    y : (T, K + 1) log-probabilities. Viterbi's algorithm over blank, symbol, blank, ..., blank; of equal ways the one
    that stays, then the one that goes on by one. The log-probability is -inf where the string does not fit.
    """
    cdef Py_ssize_t T = y.shape[0], L = symbols.shape[0], states = 2 * L + 1, blank = y.shape[1] - 1, t, k, s
    ways, scores = np.zeros((T, states), dtype=np.int8), np.full((2, states), -np.inf)
    path = np.full(T, -1, dtype=np.int64)
    cdef int8_t[:, ::1] back = ways
    cdef double[:, ::1] best = scores
    cdef int64_t[::1] to = path
    cdef double score
    with nogil:
        best[1, 0] = 0
        for t in range(T):
            for k in range(states):
                s = symbols[k // 2] if k % 2 else blank
                score, back[t, k] = best[(t + 1) % 2, k], 0
                if t == 0:
                    score = 0 if k < 2 else -INFINITY
                else:
                    if k > 0 and best[(t + 1) % 2, k - 1] > score:
                        score, back[t, k] = best[(t + 1) % 2, k - 1], 1
                    if k % 2 and k > 1 and s != symbols[k // 2 - 1] and best[(t + 1) % 2, k - 2] > score:
                        score, back[t, k] = best[(t + 1) % 2, k - 2], 2
                best[t % 2, k] = score + y[t, s]
    cdef Py_ssize_t last = (T + 1) % 2
    k = states - 1
    if L and best[last, k - 1] > best[last, k]:
        k -= 1
    score = best[last, k]
    for t in range(T - 1, -1, -1):
        to[t] = k // 2 if k % 2 else -1
        k -= back[t, k]
    return path, score
