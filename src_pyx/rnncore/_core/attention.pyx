"""Attention over all steps of a memory (kernels/global_attention.h), which lies behind the recurrence: no time loop.

Rows stand sequence by sequence, so that each one's products, (T, H) by (S, H) and (T, S) by (S, M), are products of
whole matrices. Sequences are dealt to threads; what all rows have in common is one product over all of them.

In a network the memory is the layers' outputs themselves, or of a decoder one from outside, and heads see what comes of
it as if it were the outputs of one layer more: `seen` is a Run of that one alone.
"""
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

import numpy as np

cimport numpy as cnp

from rnncore._core.gemm cimport (
    Arena,
    Team,
    bind_packed,
    make_team,
    outer_scratch,
    padded,
    team_outer,
    team_pack,
    team_product,
    without_storage,
)
from rnncore._core.kernels cimport (
    BETWEEN,
    RC_FROM_C,
    RC_FROM_ZERO,
    begin_call,
    end_call,
    kernels_for,
    parallel,
    raise_stopped,
    rc_columns,
    rc_kernels,
    rc_packed,
    rnncore_call,
    stopping,
    stops_after,
)
from rnncore._core.plan cimport Layer, Run
from rnncore._core.run cimport Workspace
from rnncore._core.schedule cimport Schedule, View

cnp.import_array()

cdef enum:
    LINE = 64
    FEW_QUERIES = 4  # to pack a memory takes longer than to read it for each of them
    SMALL = 500000  # multiply-adds that one thread finishes before a second one has woken up


cdef inline long whole_lines(long bytes) noexcept nogil:
    return (bytes + LINE - 1) // LINE * LINE


# ---------------------------------------------------------------- rows

cdef void measure(const View *v, int64_t *steps, int64_t *first) noexcept nogil:
    """Steps and first row of each sequence, by the caller's number."""
    cdef long b, n, row = 0
    for b in range(v.sequences):
        steps[v.order[b]] = v.length[b]
    for n in range(v.sequences):
        first[n] = row
        row += steps[n]


cdef void exchange(const Core *c, const View *v, const int64_t *first, char *rows, long ld, char *theirs, long width,
                   long their_ld, long column, bint packed, bint to_them) noexcept nogil:
    """Bring columns of the caller's (T, B, ...), or of packed rows, into rows by sequence, or the other way round.

    Those of ours begin at `column`.
    """
    cdef long b, t, n, size = c.team.kernels.itemsize, left = BETWEEN
    cdef char *one
    cdef char *other
    for b in range(v.sequences):
        n = v.order[b]
        for t in range(v.length[b]):
            if stops_after(width, &left):
                return
            one = rows + ((first[n] + t) * ld + column) * size
            other = theirs + (v.offsets[t] + b if packed else t * v.sequences + n) * their_ld * size
            memcpy(other if to_them else one, one if to_them else other, width * size)


cdef void clear_pads(const Core *c, long rows, long width, char *x, long ld) noexcept nogil:
    cdef long r, size = c.team.kernels.itemsize, left = BETWEEN
    for r in range(rows if ld > width else 0):
        if stops_after(ld, &left):
            return
        memset(x + (r * ld + width) * size, 0, (ld - width) * size)


# ---------------------------------------------------------------- one sequence

cdef struct Job:
    const Core *c
    bint backward

cdef void task(void *arg, int index) noexcept nogil:
    """Every so many sequences, the longest queries first."""
    cdef Job *job = <Job *> arg
    cdef long b = index
    while b < job.c.view.sequences and not stopping():
        if job.backward:
            sequence_back(job.c, job.c.view.order[b], index)
        else:
            sequence(job.c, job.c.view.order[b], index)
        b += job.c.tasks


cdef void pack_memory(const Core *c, rc_packed *B, long n, bint transposed, int index) noexcept nogil:
    """A sequence's memory (S, M), or its transpose, as what is multiplied with."""
    cdef long S = c.memory_steps[n], panel
    cdef Team plain = without_storage(&c.team)
    if transposed:
        bind_packed(&plain, B, c.M, S, c.ldm, True)
    else:
        bind_packed(&plain, B, S, c.M, c.ldm, False)
    B.W = c.m + c.memory_first[n] * c.ldm * c.team.kernels.itemsize
    B.panels = c.task_memory + index * c.task_size
    B.bias = NULL
    for panel in range(B.panel_count):
        if panel and stopping():
            return
        c.team.kernels.pack(B, NULL, panel, panel + 1)


cdef void sequence(const Core *c, long n, int index) noexcept nogil:
    """Weights and contexts of one sequence."""
    cdef const rc_kernels *kernels = c.team.kernels
    cdef long T = c.steps[n], S = c.memory_steps[n], lds = padded(kernels, S), size = kernels.itemsize
    cdef char *a = c.a + c.weights_first[n] * size
    cdef char *context = c.c + c.first[n] * c.ldm * size
    cdef const char *m = c.m + c.memory_first[n] * c.ldm * size
    cdef rc_packed B
    pack_memory(c, &B, n, True, index)
    kernels.product(&B, T, c.p + c.first[n] * c.ldm * size, c.ldm, RC_FROM_ZERO, a, lds)  # e = p·mᵀ
    kernels.memory_weights(T, S, lds, c.causal, c.factor, a)
    if T <= FEW_QUERIES or c.causal and not kernels.all_finite(S * c.ldm, m):
        kernels.contexts(T, S, lds, a, c.causal, c.ldm, m, context, c.ldm)
        return
    pack_memory(c, &B, n, False, index)
    kernels.product(&B, T, a, lds, RC_FROM_ZERO, context, c.ldm)  # c = a·m


cdef void sequence_back(const Core *c, long n, int index) noexcept nogil:
    """From one sequence's dc to dm and dp."""
    cdef const rc_kernels *kernels = c.team.kernels
    cdef long T = c.steps[n], S = c.memory_steps[n], lds = padded(kernels, S), size = kernels.itemsize
    cdef long at = c.first[n] * c.ldm * size, memory_at = c.memory_first[n] * c.ldm * size
    cdef char *a = c.a + c.weights_first[n] * size
    cdef char *de = c.task_memory + index * c.task_size + c.panels_size
    cdef char *scratch = de + c.da_size
    cdef rc_packed B
    cdef rc_columns columns
    columns.at, columns.count, columns.sums = 0, c.M, NULL
    pack_memory(c, &B, n, True, index)
    kernels.product(&B, T, c.dc + at, c.ldm, RC_FROM_ZERO, de, lds)  # da = dc·mᵀ
    kernels.memory_weights_back(T, S, lds, c.causal, c.factor, a, de)
    pack_memory(c, &B, n, False, index)
    kernels.product(&B, T, de, lds, RC_FROM_ZERO, c.dp + at, c.ldm)  # dp = de·m
    # dm = aᵀ·dc + deᵀ·p
    kernels.outer(S, T, a, lds, NULL, c.dc + at, c.ldm, NULL, 1, &columns, False, c.dm + memory_at, c.ldm,
                  c.team.gemm, scratch)
    kernels.outer(S, T, de, lds, NULL, c.p + at, c.ldm, NULL, 1, &columns, True, c.dm + memory_at, c.ldm,
                  c.team.gemm, scratch)


cdef void all_sequences(const Core *c, bint backward) noexcept nogil:
    cdef Job job
    job.c = c
    job.backward = backward
    parallel(task, &job, c.tasks, c.tasks)


# ---------------------------------------------------------------- all rows

cdef void pack_weights(Core *c, bint backward) noexcept nogil:
    cdef rc_packed *weights[3]
    cdef const char *biases[3]
    cdef long size = c.team.kernels.itemsize
    cdef int i
    for i in range(2):
        weights[i] = &c.joined_T[i] if backward else &c.joined[i]
        weights[i].W = c.theta + (c.W_c + (c.M * c.F if i else 0)) * size
        biases[i] = NULL
    weights[2] = &c.weight_T if backward else &c.weight
    weights[2].W, biases[2] = c.theta + c.W * size, NULL
    team_pack(&c.team, weights, biases, 3 if c.general else 2)


cdef void attend(Core *c) noexcept nogil:
    """From q and m to h."""
    cdef long rows = c.view.rows
    clear_pads(c, rows, c.H, c.q, c.ldh)
    if not c.own:
        clear_pads(c, c.memory_rows, c.M, c.m, c.ldm)
    pack_weights(c, False)
    if c.general:
        team_product(&c.team, &c.weight, rows, c.q, c.ldh, RC_FROM_ZERO, c.p, c.ldm)
    all_sequences(c, False)
    team_product(&c.team, &c.joined[0], rows, c.c, c.ldm, RC_FROM_ZERO, c.h, c.ldf)
    team_product(&c.team, &c.joined[1], rows, c.q, c.ldh, RC_FROM_C, c.h, c.ldf)
    clear_pads(c, rows, c.F, c.h, c.ldf)
    c.team.kernels.vtanh(rows * c.ldf, c.h, c.h)


cdef void attend_back(Core *c, bint accumulate) noexcept nogil:
    """From dh to dq and dm, and the gradients of the weights."""
    cdef long rows = c.view.rows, size = c.team.kernels.itemsize
    cdef rc_columns columns
    clear_pads(c, rows, c.F, c.dh, c.ldf)
    c.team.kernels.tanh_back(rows * c.ldf, c.h, c.dh)
    columns.at, columns.count, columns.sums = 0, c.F, NULL
    # dW_c = [c, q]ᵀ·du
    team_outer(&c.team, c.M, rows, c.c, c.ldm, NULL, c.dh, c.ldf, NULL, 1, &columns, accumulate,
               c.grad + c.W_c * size, c.F)
    team_outer(&c.team, c.H, rows, c.q, c.ldh, NULL, c.dh, c.ldf, NULL, 1, &columns, accumulate,
               c.grad + (c.W_c + c.M * c.F) * size, c.F)
    pack_weights(c, True)
    # [dc, dq] = du·W_cᵀ
    team_product(&c.team, &c.joined_T[0], rows, c.dh, c.ldf, RC_FROM_ZERO, c.dc, c.ldm)
    team_product(&c.team, &c.joined_T[1], rows, c.dh, c.ldf, RC_FROM_ZERO, c.dq, c.ldh)
    all_sequences(c, True)
    if c.general:
        columns.count = c.M
        # dW = qᵀ·dp, dq += dp·Wᵀ
        team_outer(&c.team, c.H, rows, c.q, c.ldh, NULL, c.dp, c.ldm, NULL, 1, &columns, accumulate,
                   c.grad + c.W * size, c.M)
        team_product(&c.team, &c.weight_T, rows, c.dp, c.ldm, RC_FROM_C, c.dq, c.ldh)
    else:
        c.team.kernels.add(rows, c.H, c.dp, c.ldm, c.dq, c.ldh)
    if c.own:
        c.team.kernels.add(rows, c.H, c.dm, c.ldm, c.dq, c.ldh)


cdef long share_out(Core *c, bint training) noexcept nogil:
    """Where each sequence's weights begin, and the memory that tasks need; returns how many numbers all weights are."""
    cdef const rc_kernels *kernels = c.team.kernels
    cdef long n, S, all_of_one, numbers = 0, most = 0, panels = 0, scratch = 0, size = kernels.itemsize
    cdef rc_packed B
    cdef Team plain = without_storage(&c.team)
    for n in range(c.view.sequences):
        S = c.memory_steps[n]
        c.weights_first[n] = numbers
        all_of_one = c.steps[n] * padded(kernels, S)
        numbers += all_of_one
        most = max(most, all_of_one)
        bind_packed(&plain, &B, c.M, S, c.ldm, True)
        panels = max(panels, kernels.packed_size(&B))
        bind_packed(&plain, &B, S, c.M, c.ldm, False)
        panels = max(panels, kernels.packed_size(&B))
        scratch = max(scratch, kernels.outer_scratch(S, c.M))
    c.tasks = min(<long> c.team.threads, c.view.sequences) if numbers * c.M > SMALL else 1
    c.panels_size = whole_lines(panels * size if c.team.gemm == NULL else 0)
    c.da_size = whole_lines(most * size if training else 0)
    c.task_size = c.panels_size + c.da_size + whole_lines(scratch * size if training else 0)
    return numbers


# ---------------------------------------------------------------- the class

cdef class Attention:
    """Queries attend over a memory: h = tanh([c, q]·W_c), c a mean of the memory's steps.

    Parameters
    ----------
    itemsize : int
    widths : tuple of int
        H, M and F, the widths of queries, memory and outputs.
    W, W_c : int
        Places in theta; W (H, M) of the score q·W·m, -1 for the score q·m, which needs H = M.
    factor : float
        Of the scores.
    causal : bool
        Query t sees the memory's steps 0 to t.
    mixed : bool
        Whether products of weights round their operands to bfloat16; those of queries and memory do not.
    """

    def __cinit__(self, int itemsize, tuple widths, long W, long W_c, double factor, bint causal, bint mixed=False):
        cdef Core *c = &self.c
        cdef const rc_kernels *kernels = kernels_for(itemsize)
        cdef long scratch
        cdef int i
        make_team(&c.team, itemsize, mixed)
        c.H, c.M, c.F = widths
        c.ldh, c.ldm, c.ldf = padded(kernels, c.H), padded(kernels, c.M), padded(kernels, c.F)
        c.W, c.W_c, c.general, c.causal, c.factor = W, W_c, W >= 0, causal, factor
        bind_packed(&c.team, &c.weight, c.H, c.M, c.M, False)
        bind_packed(&c.team, &c.weight_T, c.M, c.H, c.M, True)
        for i in range(2):
            bind_packed(&c.team, &c.joined[i], c.H if i else c.M, c.F, c.F, False)
            bind_packed(&c.team, &c.joined_T[i], c.F, c.H if i else c.M, c.F, True)
        scratch = max(outer_scratch(&c.team, c.M, c.F), outer_scratch(&c.team, c.H, c.F),
                      outer_scratch(&c.team, c.H, c.M))
        c.team.scratch_size = whole_lines(scratch * itemsize)
        self.weights_memory, self.places, self.memory = Arena(), Arena(), Arena()
        while c.team.gemm == NULL:
            self.weights_memory.start()
            for i in range(2):
                self.weights_memory.take_panels(kernels, &c.joined[i])
                self.weights_memory.take_panels(kernels, &c.joined_T[i])
            self.weights_memory.take_panels(kernels, &c.weight)
            self.weights_memory.take_panels(kernels, &c.weight_T)
            if not self.weights_memory.settle():
                break

    cdef bind(self, theta, grad):
        """Read parameters from `theta` and write gradients to `grad`, flat contiguous arrays; None: no gradients."""
        self.c.theta = <const char *> cnp.PyArray_DATA(theta)
        self.c.grad = NULL if grad is None else <char *> cnp.PyArray_DATA(grad)

    cdef lay_out(self, const View *view, const View *memory_view, int threads, bint training, bint shown):
        """Take memory for a run. memory_view: NULL where queries are their own memory; shown: to heads."""
        cdef Core *c = &self.c
        cdef Arena places = self.places, memory = self.memory
        cdef long B = view.sequences, rows = view.rows, size = c.team.kernels.itemsize, bytes = B * sizeof(int64_t)
        cdef long numbers
        c.team.threads = threads
        c.view = view[0]
        c.own = memory_view == NULL
        c.memory_view = view[0] if c.own else memory_view[0]
        c.memory_rows = c.memory_view.rows
        while True:
            places.start()
            c.steps, c.first = <int64_t *> places.take(bytes), <int64_t *> places.take(bytes)
            c.memory_steps, c.memory_first = c.steps, c.first
            if not c.own:
                c.memory_steps, c.memory_first = <int64_t *> places.take(bytes), <int64_t *> places.take(bytes)
            c.weights_first = <int64_t *> places.take(bytes)
            if not places.settle():
                break
        measure(&c.view, c.steps, c.first)
        if not c.own:
            measure(&c.memory_view, c.memory_steps, c.memory_first)
        numbers = share_out(c, training)
        while True:
            memory.start()
            c.q = memory.take(rows * c.ldh * size)
            c.m = c.q if c.own else memory.take(c.memory_rows * c.ldm * size)
            c.p = memory.take(rows * c.ldm * size) if c.general else c.q
            c.a = memory.take(numbers * size)
            c.c = memory.take(rows * c.ldm * size)
            c.h = memory.take(rows * c.ldf * size)
            c.task_memory = memory.take(c.tasks * c.task_size)
            if shown:
                self.layer.unit[0].rows = memory.take(rows * c.ldf * size)
            if training:
                self.layer.unit[0].dh = memory.take(rows * c.ldf * size if shown else 0)
                c.dh = memory.take(rows * c.ldf * size)
                c.dq = memory.take(rows * c.ldh * size)
                c.dm = memory.take(c.memory_rows * c.ldm * size)
                c.dp = memory.take(rows * c.ldm * size)
                c.dc = memory.take(rows * c.ldm * size)
                c.team.scratch = memory.take(c.team.scratch_size * threads)
            if not memory.settle():
                break

    # ------------------------------------------------------------ by itself

    def forward(self, theta, Schedule schedule, q, Schedule memory_schedule, m, int threads, bint training, out=None):
        """Return h (T, B, F), zero past a sequence's end.

        q (T, B, H), m (S, B, M) of the layer's precision; C-contiguous and checked. m: None where it is q.
        """
        cdef rnncore_call call
        cdef Core *c = &self.c
        cdef char *queries = <char *> cnp.PyArray_DATA(q)
        cdef char *memory = NULL if m is None else <char *> cnp.PyArray_DATA(m)
        cdef char *target
        self.bind(theta, None)
        self.schedules = (schedule, memory_schedule)
        self.lay_out(&schedule.view, NULL if m is None else &memory_schedule.view, threads, training, False)
        if out is None:
            out = np.zeros((schedule.steps, schedule.sequences, c.F), dtype=q.dtype)
        elif not schedule.full:
            out.fill(0)
        target = <char *> cnp.PyArray_DATA(out)
        with nogil:
            begin_call(&call, True)
            exchange(c, &c.view, c.first, c.q, c.ldh, queries, c.H, c.H, 0, False, False)
            if memory != NULL:
                exchange(c, &c.memory_view, c.memory_first, c.m, c.ldm, memory, c.M, c.M, 0, False, False)
            attend(c)
            exchange(c, &c.view, c.first, c.h, c.ldf, target, c.F, c.F, 0, False, True)
            end_call(&call)
        if call.stopped:
            raise_stopped()
        return out

    def backward(self, theta, grad, dout, bint accumulate, out=None):
        """Return the gradients of the latest training pass's queries, and of its memory, None where it was these."""
        cdef rnncore_call call
        cdef Core *c = &self.c
        cdef char *source = <char *> cnp.PyArray_DATA(dout)
        cdef char *dqueries
        cdef char *dmemory = NULL
        self.bind(theta, grad)
        dq = np.zeros((c.view.steps, c.view.sequences, c.H), dtype=dout.dtype) if out is None else out
        if out is not None and not c.view.full:
            out.fill(0)
        dqueries = <char *> cnp.PyArray_DATA(dq)
        dm = None
        if not c.own:
            dm = np.zeros((c.memory_view.steps, c.view.sequences, c.M), dtype=dout.dtype)
            dmemory = <char *> cnp.PyArray_DATA(dm)
        with nogil:
            begin_call(&call, True)
            exchange(c, &c.view, c.first, c.dh, c.ldf, source, c.F, c.F, 0, False, False)
            attend_back(c, accumulate)
            exchange(c, &c.view, c.first, c.dq, c.ldh, dqueries, c.H, c.H, 0, False, True)
            if dmemory != NULL:
                exchange(c, &c.memory_view, c.memory_first, c.dm, c.ldm, dmemory, c.M, c.M, 0, False, True)
            end_call(&call)
        if call.stopped:
            raise_stopped()
        return dq, dm

    def weights(self, dtype):
        """Return the weights of the latest pass (T, B, S), zero past the ends."""
        cdef Core *c = &self.c
        cdef long n, t, S, size = c.team.kernels.itemsize, most = c.memory_view.steps, B = c.view.sequences
        cdef long left = BETWEEN
        cdef rnncore_call call
        found = np.zeros((c.view.steps, B, most), dtype=dtype)
        cdef char *target = <char *> cnp.PyArray_DATA(found)
        with nogil:
            begin_call(&call, True)
            for n in range(B):
                S = c.memory_steps[n]
                for t in range(c.steps[n]):
                    if stops_after(S, &left):
                        break
                    memcpy(target + (t * B + n) * most * size,
                           c.a + (c.weights_first[n] + t * padded(c.team.kernels, S)) * size, S * size)
            end_call(&call)
        if call.stopped:
            raise_stopped()
        return found

    # ------------------------------------------------------------ in a network

    def attend(self, Workspace ws, theta, bint training, Schedule memory_schedule=None, m=None):
        """Let a run's outputs attend over themselves, or over m (S, B, M), and heads see what comes of it."""
        cdef rnncore_call call
        cdef Core *c = &self.c
        cdef Run *r = &ws.run
        cdef Run *seen = &self.seen
        cdef const Layer *top = &r.layer[r.layer_count - 1]
        cdef char *memory = NULL if m is None else <char *> cnp.PyArray_DATA(m)
        cdef long column = 0
        cdef int s
        self.bind(theta, None)
        self.schedules = (ws.schedule, memory_schedule)
        self.lay_out(&r.view, NULL if m is None else &memory_schedule.view, r.team.threads, training, True)
        seen[0] = r[0]
        seen.layer, seen.layer_count = &self.layer, 1
        seen.drops_output = seen.apart = False
        self.layer.units = self.layer.outputs = 1
        self.layer.unit[0].cell.output, self.layer.unit[0].cell.ldo = c.F, c.ldf
        seen.finished[0].data, seen.finished[0].width, seen.finished[0].ld = self.layer.unit[0].rows, c.F, c.ldf
        with nogil:
            begin_call(&call, True)
            for s in range(top.outputs):
                exchange(c, &c.view, c.first, c.q, c.ldh, r.finished[s].data, r.finished[s].width, r.finished[s].ld,
                         column, True, False)
                column += r.finished[s].width
            if memory != NULL:
                exchange(c, &c.memory_view, c.memory_first, c.m, c.ldm, memory, c.M, c.M, 0, False, False)
            attend(c)
            exchange(c, &c.view, c.first, c.h, c.ldf, self.layer.unit[0].rows, c.ldf, c.ldf, 0, True, True)
            end_call(&call)
        if call.stopped:
            raise_stopped()
        ws.seen = seen

    def attend_back(self, Workspace ws, theta, grad, bint accumulate):
        """Bring the gradient that heads left to the outputs of the run."""
        cdef rnncore_call call
        cdef Core *c = &self.c
        cdef Run *r = &ws.run
        cdef const Layer *top = &r.layer[r.layer_count - 1]
        cdef long column = 0
        cdef int s
        self.bind(theta, grad)
        with nogil:
            begin_call(&call, True)
            exchange(c, &c.view, c.first, c.dh, c.ldf, self.layer.unit[0].dh, c.ldf, c.ldf, 0, True, False)
            attend_back(c, accumulate)
            for s in range(top.outputs):
                exchange(c, &c.view, c.first, c.dq, c.ldh, top.unit[s].dh, r.finished[s].width, r.finished[s].ld,
                         column, True, True)
                column += r.finished[s].width
            end_call(&call)
        if call.stopped:
            raise_stopped()

    def memory_gradient(self, dtype):
        """Return the gradient of the memory from outside (S, B, M) that the latest `attend_back` left."""
        cdef rnncore_call call
        cdef Core *c = &self.c
        dm = np.zeros((c.memory_view.steps, c.view.sequences, c.M), dtype=dtype)
        cdef char *target = <char *> cnp.PyArray_DATA(dm)
        with nogil:
            begin_call(&call, True)
            exchange(c, &c.memory_view, c.memory_first, c.dm, c.ldm, target, c.M, c.M, 0, False, True)
            end_call(&call)
        if call.stopped:
            raise_stopped()
        return dm

    def sizes(self):
        """Return bytes held: packed weights, and arrays of the largest batch so far."""
        return self.weights_memory.capacity, self.places.capacity + self.memory.capacity
