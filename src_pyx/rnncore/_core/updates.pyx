# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""One optimizer step over flat arrays: clipping and the rule's fused pass, without the GIL, on several threads."""
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.math cimport INFINITY, NAN, isfinite, isnan, sqrt
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from rnncore._core.kernels cimport begin_call, end_call, kernels_for, parallel, rnncore_call


cdef extern from "update_api.h":
    ctypedef struct UpdateRule:
        double rate, scale, clip_value, decay, keep, a, b, c, eps

    ctypedef void (*update_fn)(long n, void *theta, const void *grad, void *slot0, void *slot1, void *slot2,
                               const UpdateRule *rule) noexcept nogil

    ctypedef struct UpdateTable:
        update_fn *step
        void (*add_squares)(int64_t first, long n, const void *grad, double clip_value, double shrink,
                            double *chains) noexcept nogil
        double (*squares)(long n, const void *grad) noexcept nogil
        double (*largest)(long n, const void *grad) noexcept nogil
        double highest

    enum:
        UPDATE_CHAINS
        UPDATE_SGD
        UPDATE_MOMENTUM
        UPDATE_NESTEROV
        UPDATE_ADAGRAD
        UPDATE_RMSPROP
        UPDATE_RMSPROP_MOMENTUM
        UPDATE_RMSPROP_GRAVES
        UPDATE_ADADELTA
        UPDATE_ADAM
        UPDATE_SDLM

RULES = {
    "sgd": UPDATE_SGD,
    "momentum": UPDATE_MOMENTUM,
    "nesterov": UPDATE_NESTEROV,
    "adagrad": UPDATE_ADAGRAD,
    "rmsprop": UPDATE_RMSPROP,
    "rmsprop_momentum": UPDATE_RMSPROP_MOMENTUM,
    "rmsprop_graves": UPDATE_RMSPROP_GRAVES,
    "adadelta": UPDATE_ADADELTA,
    "adam": UPDATE_ADAM,
    "sdlm": UPDATE_SDLM,
}

cdef enum:
    SLOTS = 3
    SPAN = 16384  # numbers per task: fixed, so that sums do not depend on the number of threads
    WORTH_THREADS = 16 * SPAN  # below that, waking a thread can cost more than it saves: memory sets the pace

# Rules that keep squares of the gradient.
cdef frozenset SQUARING = frozenset({"adagrad", "rmsprop", "rmsprop_momentum", "rmsprop_graves", "adadelta", "adam"})

cdef double SHRINK = 2.0 ** -530  # squares of shrunken doubles never overflow

cdef struct Range:  # one row of `ranges`
    int64_t start, length, rule

cdef struct Pass:
    const UpdateTable *table
    update_fn update
    char *theta
    const char *grad
    char *slots[SLOTS]
    Py_ssize_t itemsize
    const Range *ranges
    Py_ssize_t n_ranges
    double shrink
    double *sums  # of squares, or largest numbers: one per span
    bint exact  # look for the largest number, not for a bound of all
    double clip_value
    const UpdateRule *rules  # of each group two: for ranges that do not decay, and for those that do
    int n_rules


cdef struct Measured:  # a gradient, or a part of one
    double squares  # their sum, times shrink squared; 0 where nobody asks; not finite where a number is not
    double shrink
    double largest  # no absolute value exceeds it, clipped by value; infinite where nobody asks


cdef Py_ssize_t first_range(const Pass *job, int64_t place) noexcept nogil:
    """Return the first range that ends behind `place`."""
    cdef Py_ssize_t low = 0, high = job.n_ranges, middle
    while low < high:
        middle = (low + high) // 2
        if job.ranges[middle].start + job.ranges[middle].length <= place:
            low = middle + 1
        else:
            high = middle
    return low


cdef void sum_span(void *arg, int index) noexcept nogil:
    """Sum the squares of one span, in an order that knows nothing of ranges and threads."""
    cdef Pass *job = <Pass *> arg
    cdef int64_t begin = <int64_t> index * SPAN, end = begin + SPAN, start, stop
    cdef Py_ssize_t r = first_range(job, begin)
    cdef double chains[UPDATE_CHAINS]
    cdef int half, j
    memset(chains, 0, sizeof(chains))
    while r < job.n_ranges and job.ranges[r].start < end:
        start = max(job.ranges[r].start, begin)
        stop = min(job.ranges[r].start + job.ranges[r].length, end)
        job.table.add_squares(start, <long> (stop - start), job.grad + start * job.itemsize,
                              job.clip_value, job.shrink, chains)
        r += 1
    half = UPDATE_CHAINS // 2
    while half:
        for j in range(half):
            chains[j] += chains[j + half]
        half //= 2
    job.sums[index] = chains[0]


cdef void bound_span(void *arg, int index) noexcept nogil:
    """Leave the sum of the squares of one span, or its largest number: not finite if one of its numbers is not."""
    cdef Pass *job = <Pass *> arg
    cdef int64_t begin = <int64_t> index * SPAN, end = begin + SPAN, start, stop
    cdef Py_ssize_t r = first_range(job, begin)
    cdef double found, most = 0.0
    while r < job.n_ranges and job.ranges[r].start < end:
        start = max(job.ranges[r].start, begin)
        stop = min(job.ranges[r].start + job.ranges[r].length, end)
        if job.exact:
            found = job.table.largest(<long> (stop - start), job.grad + start * job.itemsize)
            most = most if found <= most or isnan(most) else found
        else:
            most += job.table.squares(<long> (stop - start), job.grad + start * job.itemsize)
        r += 1
    job.sums[index] = most


cdef double gradient_bound(Pass *job, int spans, int n_threads) noexcept nogil:
    """Return a number that no absolute value of the gradient exceeds: NaN or infinity if one of them is.

    The sum of all squares, as cheap as memory allows, tells it mostly; only where that overflows is each number looked
    at.
    """
    cdef double total = 0.0
    cdef int i
    job.exact = False
    run(bound_span, job, spans, n_threads)
    for i in range(spans):
        total += job.sums[i]
    if isfinite(total):  # rounded, each of them, and squares too small to be seen: a little more is enough
        return 2.0 * sqrt(total) + 1e-15
    return largest_number(job, spans, n_threads)


cdef double largest_number(Pass *job, int spans, int n_threads) noexcept nogil:
    """Return the largest absolute value of the gradient; NaN if one of its numbers is NaN."""
    cdef double total = 0.0
    cdef int i
    job.exact = True
    run(bound_span, job, spans, n_threads)
    for i in range(spans):
        if isnan(job.sums[i]):
            return job.sums[i]
        total = max(total, job.sums[i])
    return total


cdef void update_span(void *arg, int index) noexcept nogil:
    """Update the parameters of one span."""
    cdef Pass *job = <Pass *> arg
    cdef int64_t begin = <int64_t> index * SPAN, end = begin + SPAN, start, stop
    cdef Py_ssize_t r = first_range(job, begin), offset
    cdef void *slots[SLOTS]
    cdef int j
    while r < job.n_ranges and job.ranges[r].start < end:
        start = max(job.ranges[r].start, begin)
        stop = min(job.ranges[r].start + job.ranges[r].length, end)
        offset = start * job.itemsize
        for j in range(SLOTS):
            slots[j] = NULL if job.slots[j] == NULL else job.slots[j] + offset
        job.update(<long> (stop - start), job.theta + offset, job.grad + offset, slots[0], slots[1], slots[2],
                   &job.rules[job.ranges[r].rule])
        r += 1


cdef double sum_of_squares(Pass *job, int spans, int n_threads) noexcept nogil:
    """Return the sum of squares over all ranges, times job.shrink squared."""
    cdef double total = 0.0
    cdef int i
    run(sum_span, job, spans, n_threads)
    for i in range(spans):
        total += job.sums[i]
    return total


cdef void measure(Pass *job, int spans, int n_threads, bint clips, bint clips_values,
                  Measured *found) noexcept nogil:
    """Measure what is to be known of a gradient before a step."""
    found.squares, found.shrink, found.largest = 0.0, 1.0, INFINITY
    if clips_values or not clips:
        found.largest = gradient_bound(job, spans, n_threads)
        if not isfinite(found.largest):  # even if it would be clipped
            found.squares = NAN
            return
        found.largest = min(found.largest, job.clip_value)
    if clips:
        job.shrink = 1.0
        found.squares = sum_of_squares(job, spans, n_threads)
        if found.squares == INFINITY:
            found.shrink = job.shrink = SHRINK
            found.squares = sum_of_squares(job, spans, n_threads)


cdef void run(void (*task)(void *, int) noexcept nogil, Pass *job, int tasks, int n_threads) noexcept nogil:
    cdef int i
    if n_threads > 1:
        parallel(task, job, tasks, n_threads)
    else:
        for i in range(tasks):
            task(job, i)


cdef int64_t count_visited(const Pass *job, int64_t size) noexcept nogil:
    """Return how many numbers the ranges cover; -1 if they are not sorted, leave the arrays or have no rule."""
    cdef int64_t covered = 0, behind = 0
    cdef Py_ssize_t r
    for r in range(job.n_ranges):
        if job.ranges[r].start < behind or not 0 <= job.ranges[r].length <= size - job.ranges[r].start:
            return -1
        if not 0 <= job.ranges[r].rule < job.n_rules:
            return -1
        behind = job.ranges[r].start + job.ranges[r].length
        covered += job.ranges[r].length
    return covered


cdef int set_rules(UpdateRule *pair, double rate, double decay, double keep, double a, double b, double c,
                   double eps) except -1:
    """Fill in a group's two rules: without decay, and with it."""
    pair.rate, pair.scale, pair.decay, pair.keep = rate, 1.0, 0.0, 1.0
    pair.a, pair.b, pair.c, pair.eps = a, b, c, eps
    pair[1] = pair[0]
    pair[1].decay, pair[1].keep = decay, keep
    return 0


cdef class Updater:
    """One rule bound to the arrays it updates.

    Parameters
    ----------
    rule
        A name in `RULES`.
    theta, grad
        Flat C-contiguous arrays of one size and dtype, float32 or float64.
    slots
        As many arrays of the same kind as the rule has slots; the caller starts them.
    """

    cdef Pass job
    cdef Py_buffer buffers[2 + SLOTS]
    cdef int held, spans
    cdef bint squaring
    cdef readonly object theta, grad
    cdef readonly Py_ssize_t size

    def __cinit__(self, str rule, theta, grad, *slots):
        cdef int i
        memset(&self.job, 0, sizeof(Pass))
        arrays = (theta, grad, *slots)
        if len(slots) > SLOTS:
            raise ValueError(f"expected at most {SLOTS} slots, got {len(slots)}")
        for i, array in enumerate(arrays):
            PyObject_GetBuffer(array, &self.buffers[i],
                               PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (0 if i == 1 else PyBUF_WRITABLE))
            self.held = i + 1
            if (self.buffers[i].ndim != 1 or self.buffers[i].format[0] not in b"fd"
                    or self.buffers[i].itemsize != self.buffers[0].itemsize
                    or self.buffers[i].shape[0] != self.buffers[0].shape[0]):
                raise ValueError("expected flat arrays of one size, all float32 or all float64")
        self.theta, self.grad = theta, grad
        self.size = self.buffers[0].shape[0]
        self.spans = <int> ((self.size + SPAN - 1) // SPAN)
        self.job.itemsize = self.buffers[0].itemsize
        self.job.table = <const UpdateTable *> kernels_for(<int> self.job.itemsize).updates
        self.squaring = rule in SQUARING
        self.job.update = self.job.table.step[<int> RULES[rule]]
        self.job.theta = <char *> self.buffers[0].buf
        self.job.grad = <const char *> self.buffers[1].buf
        for i in range(<int> len(slots)):
            self.job.slots[i] = <char *> self.buffers[2 + i].buf
        self.job.sums = <double *> malloc(max(self.spans, 1) * sizeof(double))
        if self.job.sums == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef int i
        for i in range(self.held):
            PyBuffer_Release(&self.buffers[i])
        free(self.job.sums)

    @property
    def worth_threads(self):
        """Whether the arrays are large enough for more than one thread."""
        return self.size >= WORTH_THREADS

    cdef bint fits(self, const Pass *job, double largest) noexcept nogil:
        """Whether a step by a gradient of numbers up to `largest`, and the squares kept of it, stay finite."""
        cdef double highest = job.table.highest, rate = job.rules[0].rate
        cdef int i
        for i in range(2, job.n_rules, 2):
            rate = max(rate, job.rules[i].rate)
        return rate <= highest and rate * largest < highest / 8 and \
            not (self.squaring and largest * largest > highest / 8)

    def step(self, ranges, double rate, double decay, double keep, double a, double b, double c, double eps,
             clip_value=None, clip_norm=None, int n_threads=1, groups=None, measured=None):
        """Update theta from grad once.

        Parameters
        ----------
        ranges
            int64 (n, 3): rows of start, length and 2·group + whether weights decay, sorted by start, not overlapping.
            Other parts of the arrays are not visited.
        rate, decay, keep, a, b, c, eps
            Scalars of the rule (`update_api.h`), for group 0; `decay` and `keep` act on ranges that decay.
        clip_value, clip_norm
            Bounds of each number, and then of the length, of the gradient; None for none.
        groups
            The same seven scalars for groups 1, 2, ...; None: there are none.
        measured
            Where `ranges` are a part of what is visited: what `joined` returned of all of it.

        Returns
        -------
        float or None
            The norm of the gradient before it was clipped by norm; None without `clip_norm`.

        Raises
        ------
        ValueError
            If a range leaves the arrays or is of no group, or the ranges are not sorted.
        FloatingPointError
            If the gradient is not finite. Nothing has been changed then.
        OverflowError
            If the gradient is finite, but the step or the squares a rule keeps would not be; with `measured`, if they
            might not be. Nothing has been changed.
        """
        cdef rnncore_call call
        cdef Pass own = self.job  # a copy: another Python thread may be in here
        cdef Pass *job = &own
        cdef Py_buffer view
        cdef Measured found
        cdef double norm = 0.0, largest, bound = INFINITY if clip_norm is None else clip_norm
        cdef bint clips = clip_norm is not None, clips_values = clip_value is not None, fits = False
        cdef bint known = measured is not None
        cdef double scale = 1.0
        cdef int i
        cdef UpdateRule pair[2]
        cdef UpdateRule *rules = pair
        job.n_rules = 2 if groups is None else 2 + 2 * <int> len(groups)
        job.rules = pair
        if known:
            found.squares, found.shrink, found.largest = measured

        PyObject_GetBuffer(ranges, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
        try:
            if groups is not None:
                rules = <UpdateRule *> malloc(job.n_rules * sizeof(UpdateRule))
                if rules == NULL:
                    raise MemoryError
                job.rules = rules
                for i, (r, d, k, p, q, s, e) in enumerate(groups):
                    set_rules(&rules[2 + 2 * i], r, d, k, p, q, s, e)
            set_rules(rules, rate, decay, keep, a, b, c, eps)
            n_threads = self.look_at(job, &view, clip_value, n_threads)
            for i in range(job.n_rules):
                rules[i].clip_value = job.clip_value
            with nogil:
                begin_call(&call, False)
                if not known:
                    measure(job, self.spans, n_threads, clips, clips_values, &found)
                largest = found.largest
                if clips:
                    norm = sqrt(found.squares) / found.shrink
                    largest = min(largest, min(norm, bound))
                    if norm > bound:
                        scale = bound / sqrt(found.squares) * found.shrink
                if isfinite(found.squares):
                    fits = self.fits(job, largest)
                    if not fits and not known:  # the bound is a bound: look closer
                        largest = min(largest, largest_number(job, self.spans, n_threads))
                        fits = self.fits(job, largest)
                if fits:
                    for i in range(job.n_rules):
                        rules[i].scale = scale
                    run(update_span, job, self.spans, n_threads)
                end_call(&call)
        finally:
            PyBuffer_Release(&view)
            if rules != pair:
                free(rules)
        if not isfinite(found.squares):
            raise FloatingPointError("the gradient is not finite")
        if not fits:
            raise OverflowError("the step is too large for its precision")
        return norm if clips else None

    cdef int look_at(self, Pass *job, Py_buffer *view, object clip_value, int n_threads) except -1:
        """Take over ranges that have been checked; return how many threads they are worth."""
        cdef int64_t visited
        job.clip_value = INFINITY if clip_value is None else clip_value
        if view.ndim != 2 or view.shape[1] != 3 or view.itemsize != 8 or view.format[0] not in b"lq":
            raise ValueError("expected ranges as a C-contiguous int64 array of shape (n, 3)")
        job.ranges = <const Range *> view.buf
        job.n_ranges = view.shape[0]
        visited = count_visited(job, self.size)
        if visited < 0:
            raise ValueError(f"expected ranges sorted by start, not overlapping, within 0..{self.size}, of "
                             f"groups below {job.n_rules // 2}")
        return 1 if visited < WORTH_THREADS else n_threads

    def measure(self, ranges, clip_value=None, clip_norm=None, int n_threads=1, bint exact=False) -> tuple:
        """Return what `joined` wants to know of a part of the gradient; exact: its largest number, and no bound."""
        cdef rnncore_call call
        cdef Pass own = self.job
        cdef Pass *job = &own
        cdef Py_buffer view
        cdef Measured found
        cdef bint clips = clip_norm is not None, clips_values = clip_value is not None
        job.n_rules = 1 << 30  # whatever the groups
        PyObject_GetBuffer(ranges, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
        try:
            n_threads = self.look_at(job, &view, clip_value, n_threads)
            with nogil:
                begin_call(&call, False)
                measure(job, self.spans, n_threads, clips, clips_values, &found)
                if exact:
                    found.largest = min(found.largest, largest_number(job, self.spans, n_threads))
                end_call(&call)
        finally:
            PyBuffer_Release(&view)
        return found.squares, found.shrink, found.largest


def joined(measured) -> tuple:
    """Return what was measured of parts, an array (n, 3), for all of them together: added in their order."""
    cdef double squares = 0.0, part, shrink = 1.0, own, largest = 0.0, bound
    rows = measured.tolist()
    for part, own, bound in rows:
        squares += part
        shrink = min(shrink, own)
        largest = max(largest, bound)
    if squares == INFINITY and all([isfinite(row[0]) for row in rows]):
        shrink = SHRINK
    if shrink < 1.0:
        squares = 0.0
        for part, own, _ in rows:
            squares += part if own == shrink else part * shrink * shrink
    return squares, shrink, largest
