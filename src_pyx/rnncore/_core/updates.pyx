# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""One optimizer step over flat arrays: clipping and the rule's fused pass, without the GIL, on several threads."""
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.math cimport INFINITY, isfinite, sqrt
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

cdef double SHRINK = 2.0 ** -530  # squares of shrunken doubles never overflow

cdef struct Range:  # one row of `ranges`
    int64_t start, length, decays

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
    double *sums  # of squares, one per span
    UpdateRule rules[2]  # for ranges that do not decay, and for those that do


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
                              job.rules[0].clip_value, job.shrink, chains)
        r += 1
    half = UPDATE_CHAINS // 2
    while half:
        for j in range(half):
            chains[j] += chains[j + half]
        half //= 2
    job.sums[index] = chains[0]


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
                   &job.rules[job.ranges[r].decays != 0])
        r += 1


cdef double sum_of_squares(Pass *job, int spans, int n_threads) noexcept nogil:
    """Return the sum of squares over all ranges, times job.shrink squared."""
    cdef double total = 0.0
    cdef int i
    run(sum_span, job, spans, n_threads)
    for i in range(spans):
        total += job.sums[i]
    return total


cdef void run(void (*task)(void *, int) noexcept nogil, Pass *job, int tasks, int n_threads) noexcept nogil:
    cdef int i
    if n_threads > 1:
        parallel(task, job, tasks, n_threads)
    else:
        for i in range(tasks):
            task(job, i)


cdef int64_t count_visited(const Pass *job, int64_t size) noexcept nogil:
    """Return how many numbers the ranges cover; -1 if they are not sorted or leave the arrays."""
    cdef int64_t covered = 0, behind = 0
    cdef Py_ssize_t r
    for r in range(job.n_ranges):
        if job.ranges[r].start < behind or not 0 <= job.ranges[r].length <= size - job.ranges[r].start:
            return -1
        behind = job.ranges[r].start + job.ranges[r].length
        covered += job.ranges[r].length
    return covered


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

    def step(self, ranges, double rate, double decay, double keep, double a, double b, double c, double eps,
             clip_value=None, clip_norm=None, int n_threads=1):
        """Update theta from grad once.

        Parameters
        ----------
        ranges
            int64 (n, 3): rows of start, length and whether weights decay, sorted by start, not overlapping. Other
            parts of the arrays are not visited.
        rate, decay, keep, a, b, c, eps
            Scalars of the rule (`update_api.h`); `decay` and `keep` act on ranges that decay.
        clip_value, clip_norm
            Bounds of each number, and then of the length, of the gradient; None for none.

        Returns
        -------
        float or None
            The norm of the gradient before it was clipped by norm; None without `clip_norm`.

        Raises
        ------
        ValueError
            If a range leaves the arrays, or the ranges are not sorted.
        FloatingPointError
            If `clip_norm` is given and the norm is not finite; nothing has been changed then.
        """
        cdef rnncore_call call
        cdef Pass own = self.job  # a copy: another Python thread may be in here
        cdef Pass *job = &own
        cdef Py_buffer view
        cdef double total = 0.0, norm = 0.0, bound = INFINITY if clip_norm is None else clip_norm
        cdef bint clips = clip_norm is not None
        cdef int64_t visited
        cdef UpdateRule *rule = &job.rules[0]
        rule.rate, rule.scale, rule.decay, rule.keep = rate, 1.0, 0.0, 1.0
        rule.a, rule.b, rule.c, rule.eps = a, b, c, eps
        rule.clip_value = INFINITY if clip_value is None else clip_value

        PyObject_GetBuffer(ranges, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
        try:
            if view.ndim != 2 or view.shape[1] != 3 or view.itemsize != 8 or view.format[0] not in b"lq":
                raise ValueError("expected ranges as a C-contiguous int64 array of shape (n, 3)")
            job.ranges = <const Range *> view.buf
            job.n_ranges = view.shape[0]
            visited = count_visited(job, self.size)
            if visited < 0:
                raise ValueError(f"expected ranges sorted by start, not overlapping, within 0..{self.size}")
            if visited < WORTH_THREADS:
                n_threads = 1
            with nogil:
                begin_call(&call, False)
                if clips:
                    job.shrink = 1.0
                    total = sum_of_squares(job, self.spans, n_threads)
                    if total == INFINITY:
                        job.shrink = SHRINK
                        total = sum_of_squares(job, self.spans, n_threads)
                    norm = sqrt(total) / job.shrink
                    if norm > bound:
                        rule.scale = bound / sqrt(total) * job.shrink
                if isfinite(total):
                    job.rules[1] = rule[0]
                    job.rules[1].decay, job.rules[1].keep = decay, keep
                    run(update_span, job, self.spans, n_threads)
                end_call(&call)
        finally:
            PyBuffer_Release(&view)
        if not isfinite(total):
            raise FloatingPointError("expected a finite gradient, got NaN or infinity in it; nothing was changed. "
                                     "Try a lower learning rate, or look for such numbers in the input")
        return norm if clips else None
