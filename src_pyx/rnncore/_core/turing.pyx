"""A Neural Turing machine at work on batches (kernels/turing.h): what has no time in it, before and after time.

    before    a = x·W_xh + b for all rows                 backward, before    [dr dh] = dy·W_hyᵀ
    time      sequences dealt to threads                             time
    after     y = [r h]·W_hy + b_y                                   after    dW = xᵀ·da, [r h]ᵀ·da, hᵀ·dp, [r h]ᵀ·dy

Products are native ones in any case, so that bits do not depend on how sequences are dealt. All arrays C-contiguous, of
one precision, and checked.
"""
import numpy as np

cimport numpy as cnp
from libc.stdint cimport int64_t

from rnncore._core.gemm cimport (
    Arena,
    Team,
    bind_gates,
    bind_gates_T,
    bind_packed,
    clear,
    padded,
    team_outer,
    team_pack,
    team_product,
)
from rnncore._core.kernels cimport (
    RC_FROM_BIAS,
    RC_FROM_ZERO,
    begin_call,
    end_call,
    kernels_for,
    parallel,
    raise_stopped,
    rc_columns,
    rc_packed,
    rc_turing,
    rnncore_call,
)
from rnncore._core.schedule cimport Schedule

cnp.import_array()

cdef enum:
    SMALL = 500000  # multiply-adds that one thread finishes before a second one has woken up

cdef enum:  # the order of the places
    W_XH, W_HH, B_H, W_HEADS, B_HEADS, W_HY, B_Y


cdef struct Job:
    const rc_turing *machine
    const Team *team
    long shards

cdef void forward_task(void *arg, int index) noexcept nogil:
    cdef Job *job = <Job *> arg
    job.team.kernels.turing.forward(job.machine, index, job.shards)

cdef void backward_task(void *arg, int index) noexcept nogil:
    cdef Job *job = <Job *> arg
    job.team.kernels.turing.backward(job.machine, index, job.shards)


cdef class Turing:
    """One machine, for one caller at a time; what forward leaves, backward uses up.

    Parameters
    ----------
    itemsize, inputs, outputs, hidden, locations, width, reads, writes, shifts : int
    lstm : bool
        The controller; otherwise tanh of a sum.
    places : sequence of int
        Of W_xh, W_hh, b_h, the heads' W and b, W_hy, b_y in theta.
    """
    cdef Team team
    cdef rc_turing machine
    cdef rc_packed input, output, output_T
    cdef long D, Y, K, P, ldx, ldy, row_work
    cdef long[7] place
    cdef Arena packed, memory
    cdef Schedule schedule
    cdef char *x
    cdef char *y

    def __cinit__(self, int itemsize, long inputs, long outputs, long hidden, long locations, long width, long reads,
                  long writes, long shifts, bint lstm, places):
        cdef Team *team = &self.team
        cdef rc_turing *m = &self.machine
        cdef int at[4]
        cdef int g
        cdef long read = reads * width, K, P
        team.kernels, team.gemm, team.threads = kernels_for(itemsize), NULL, 1
        for g in range(4):
            at[g] = g
        for g in range(7):
            self.place[g] = places[g]
        m.locations, m.ld, m.width = locations, padded(team.kernels, locations), width
        m.reads, m.writes, m.shifts = reads, writes, shifts
        m.hidden, m.ldh, m.gates = hidden, padded(team.kernels, hidden), 4 if lstm else 1
        m.lda, m.lds = m.gates * m.ldh, padded(team.kernels, read + m.ldh)
        self.P = P = (reads + writes) * (width + 4 + 2 * shifts) + 2 * writes * width
        self.K = K = read + hidden if lstm else read
        m.ldp = padded(team.kernels, P)
        self.D, self.Y = inputs, outputs
        self.ldx, self.ldy = padded(team.kernels, inputs), padded(team.kernels, outputs)
        self.row_work = K * m.gates * hidden + hidden * P + 4 * (reads + writes) * width * m.ld
        bind_gates(team, &self.input, inputs, hidden, m.gates, at, m.gates * hidden, False)
        bind_gates(team, &m.recurrent, K, hidden, m.gates, at, m.gates * hidden, False)
        bind_gates_T(team, &m.recurrent_T, K, hidden, m.gates, at, m.gates * hidden)
        bind_packed(team, &m.emit, hidden, P, P, False)
        bind_packed(team, &m.emit_T, P, hidden, P, True)
        bind_packed(team, &self.output, read + hidden, outputs, outputs, False)
        bind_packed(team, &self.output_T, outputs, read + hidden, outputs, True)
        team.scratch_size = max(team.kernels.outer_scratch(max(inputs, read + hidden), max(m.gates * hidden, P)),
                                team.kernels.outer_scratch(read + hidden, outputs))
        team.scratch_size = (team.scratch_size * itemsize + 63) // 64 * 64
        m.work_size = team.kernels.turing.work_size(m)
        self.packed, self.memory = Arena(), Arena()
        while True:
            self.packed.start()
            self.take_packed(&self.input, m.lda)
            self.take_packed(&m.recurrent, 0)
            self.take_packed(&m.recurrent_T, 0)
            self.take_packed(&m.emit, m.ldp)
            self.take_packed(&m.emit_T, 0)
            self.take_packed(&self.output, self.ldy)
            self.take_packed(&self.output_T, 0)
            if not self.packed.settle():
                break

    cdef void take_packed(self, rc_packed *matrix, long bias):
        cdef long size = self.team.kernels.itemsize
        self.packed.take_panels(self.team.kernels, matrix)
        matrix.bias = self.packed.take(bias * size) if bias else NULL

    cdef void lay_out(self, bint backward):
        """Give the arrays of a batch their places."""
        cdef rc_turing *m = &self.machine
        cdef Arena memory = self.memory
        cdef long size = self.team.kernels.itemsize, B = m.sequences, rows = self.schedule.view.rows
        cdef long heads = (m.reads + m.writes) * m.ld, numbers = m.width * m.ld
        memory.start()
        self.x, self.y = memory.take(rows * self.ldx * size), memory.take(rows * self.ldy * size)
        m.a, m.c = memory.take(rows * m.lda * size), memory.take((rows if m.gates > 1 else 0) * m.ldh * size)
        m.state = memory.take((B + rows) * m.lds * size) + B * m.lds * size
        m.emissions = memory.take(rows * m.ldp * size)
        m.memory = memory.take((B + rows) * numbers * size) + B * numbers * size
        m.weights = memory.take((B + rows) * heads * size) + B * heads * size
        m.norms, m.cosines = memory.take(rows * m.ld * size), memory.take(rows * heads * size)
        m.content, m.shifted = memory.take(rows * heads * size), memory.take(rows * heads * size)
        m.work = memory.take(m.work_size * self.team.threads * size)
        if not backward:
            return
        m.dstate, m.demissions = memory.take(rows * m.lds * size), memory.take(rows * m.ldp * size)
        m.dmemory, m.dweights = memory.take(B * numbers * size), memory.take(B * heads * size)
        m.dbefore, m.dc = memory.take(B * m.lds * size), memory.take(B * m.ldh * size)
        self.team.scratch = memory.take(self.team.scratch_size * self.team.threads)

    cdef int shards(self):
        cdef long most = min(<long> self.team.threads, self.machine.sequences)
        return most if self.schedule.view.rows * self.row_work > SMALL else 1

    cdef void pack(self, const char *theta, bint backward):
        """Pack the weights, transposed ones where backward is to follow."""
        cdef rc_turing *m = &self.machine
        cdef rc_packed *matrices[7]
        cdef const char *biases[7]
        cdef int[7] at
        cdef int k, count = 7 if backward else 4
        matrices[0], matrices[1], matrices[2], matrices[3] = &self.input, &m.recurrent, &m.emit, &self.output
        matrices[4], matrices[5], matrices[6] = &m.recurrent_T, &m.emit_T, &self.output_T
        at[0], at[1], at[2], at[3], at[4], at[5], at[6] = W_XH, W_HH, W_HEADS, W_HY, W_HH, W_HEADS, W_HY
        for k in range(count):
            matrices[k].W = theta + self.place[at[k]] * self.team.kernels.itemsize
            biases[k] = NULL
        biases[0] = theta + self.place[B_H] * self.team.kernels.itemsize
        biases[2] = theta + self.place[B_HEADS] * self.team.kernels.itemsize
        biases[3] = theta + self.place[B_Y] * self.team.kernels.itemsize
        team_pack(&self.team, matrices, biases, count)

    def forward(self, theta, x, Schedule schedule, memory, weights, reads, int threads, bint backward):
        """Return scores (rows, outputs).

        x : (rows, inputs), rows in packed order.
        memory, weights, reads : (width, locations), (heads, locations), (reads·width,)
            What each sequence begins with.
        backward : bool
            Whether `backward` follows.
        """
        cdef rnncore_call call
        cdef Team *team = &self.team
        cdef rc_turing *m = &self.machine
        cdef Job job
        cdef const char *given = <const char *> cnp.PyArray_DATA(x)
        cdef const char *old_memory = <const char *> cnp.PyArray_DATA(memory)
        cdef const char *old_weights = <const char *> cnp.PyArray_DATA(weights)
        cdef const char *old_reads = <const char *> cnp.PyArray_DATA(reads)
        cdef char *first
        cdef char *target
        cdef long size = team.kernels.itemsize, rows = schedule.view.rows, B = schedule.view.sequences, b
        cdef long N = m.locations, heads = m.reads + m.writes, read = m.reads * m.width
        y = np.empty((rows, self.Y), dtype=theta.dtype)
        target = <char *> cnp.PyArray_DATA(y)
        self.schedule = schedule
        m.steps, m.sequences = schedule.view.steps, B
        m.offsets, m.active = schedule.view.offsets, schedule.view.active
        team.threads = threads
        while True:
            self.lay_out(backward)
            if not self.memory.settle():
                break
        job.machine, job.team, job.shards = m, team, self.shards()
        self.pack(<const char *> cnp.PyArray_DATA(theta), backward)
        with nogil:
            begin_call(&call, True)
            clear(self.x, rows * self.ldx * size)
            team.kernels.copy(rows, self.D, given, self.D, self.x, self.ldx)
            clear(<char *> m.state - B * m.lds * size, (B + rows) * m.lds * size)
            clear(<char *> m.memory - B * m.width * m.ld * size, B * m.width * m.ld * size)
            clear(<char *> m.weights - B * heads * m.ld * size, B * heads * m.ld * size)
            for b in range(-B, 0):
                first = <char *> m.memory + b * m.width * m.ld * size
                team.kernels.copy(m.width, N, old_memory, N, first, m.ld)
                first = <char *> m.weights + b * heads * m.ld * size
                team.kernels.copy(heads, N, old_weights, N, first, m.ld)
                first = <char *> m.state + b * m.lds * size
                team.kernels.copy(1, read, old_reads, read, first, read)
            team_product(team, &self.input, rows, self.x, self.ldx, RC_FROM_BIAS, <char *> m.a, m.lda)
            parallel(forward_task, &job, job.shards, job.shards)
            team_product(team, &self.output, rows, <char *> m.state, m.lds, RC_FROM_BIAS, self.y, self.ldy)
            team.kernels.copy(rows, self.Y, self.y, self.ldy, target, self.Y)
            end_call(&call)
        if call.stopped:
            raise_stopped()
        return y

    def backward(self, grad, dy, bint accumulate):
        """Return the gradients of weights (B, heads, locations) and reads (B, reads·width) that sequences begin with.

        dy : (rows, outputs), of the latest scores. The gradients of the parameters go to grad, or are added there.
        """
        cdef rnncore_call call
        cdef Team *team = &self.team
        cdef rc_turing *m = &self.machine
        cdef Job job
        cdef rc_columns[4] gates
        cdef rc_columns emitted, scores
        cdef long size = team.kernels.itemsize, rows = self.schedule.view.rows, B = m.sequences, H = m.hidden, t, b, at
        cdef long heads = m.reads + m.writes, read = m.reads * m.width, G = m.gates * H
        cdef char *base = <char *> cnp.PyArray_DATA(grad)
        cdef const char *given = <const char *> cnp.PyArray_DATA(dy)
        cdef char *before = <char *> m.state - B * m.lds * size
        cdef char *made
        cdef int64_t *previous
        cdef int g
        dweights = np.empty((B, heads, m.locations), dtype=grad.dtype)
        dreads = np.empty((B, read), dtype=grad.dtype)
        cdef char *weights = <char *> cnp.PyArray_DATA(dweights)
        cdef char *reads = <char *> cnp.PyArray_DATA(dreads)
        rows_before = np.empty(rows, dtype=np.int64)  # counted from the first of those in front
        previous = <int64_t *> cnp.PyArray_DATA(rows_before)
        job.machine, job.team, job.shards = m, team, self.shards()
        for g in range(m.gates):
            gates[g].at, gates[g].count = g * m.ldh, H
            gates[g].sums = base + (self.place[B_H] + g * H) * size
        emitted.at, emitted.count, emitted.sums = 0, self.P, base + self.place[B_HEADS] * size
        scores.at, scores.count, scores.sums = 0, self.Y, base + self.place[B_Y] * size
        with nogil:
            begin_call(&call, True)
            for t in range(m.steps):
                at = m.offsets[t - 1] + B if t else 0
                for b in range(m.active[t]):
                    previous[m.offsets[t] + b] = at + b
            clear(self.y, rows * self.ldy * size)
            team.kernels.copy(rows, self.Y, given, self.Y, self.y, self.ldy)
            clear(m.dstate, rows * m.lds * size)
            clear(m.demissions, rows * m.ldp * size)
            clear(m.dmemory, B * m.width * m.ld * size)
            clear(m.dweights, B * heads * m.ld * size)
            clear(m.dbefore, B * m.lds * size)
            clear(m.dc, B * m.ldh * size)
            team_product(team, &self.output_T, rows, self.y, self.ldy, RC_FROM_ZERO, <char *> m.dstate, m.lds)
            parallel(backward_task, &job, job.shards, job.shards)
            team_outer(team, self.D, rows, self.x, self.ldx, NULL, <char *> m.a, m.lda, NULL, m.gates, gates,
                       accumulate, base + self.place[W_XH] * size, G)
            for g in range(m.gates):
                gates[g].sums = NULL
            team_outer(team, self.K, rows, before, m.lds, previous, <char *> m.a, m.lda, NULL, m.gates, gates,
                       accumulate, base + self.place[W_HH] * size, G)
            team_outer(team, H, rows, <char *> m.state + read * size, m.lds, NULL, <char *> m.demissions, m.ldp, NULL,
                       1, &emitted, accumulate, base + self.place[W_HEADS] * size, self.P)
            team_outer(team, read + H, rows, <char *> m.state, m.lds, NULL, self.y, self.ldy, NULL, 1, &scores,
                       accumulate, base + self.place[W_HY] * size, self.Y)
            for b in range(B):
                made = <char *> m.dweights + b * heads * m.ld * size
                team.kernels.copy(heads, m.locations, made, m.ld, weights + b * heads * m.locations * size, m.locations)
                made = <char *> m.dbefore + b * m.lds * size
                team.kernels.copy(1, read, made, read, reads + b * read * size, read)
            end_call(&call)
        if call.stopped:
            raise_stopped()
        return dweights, dreads

    def traces(self):
        """Return the memory after each step (rows, width, locations), and the weights (rows, heads, locations)."""
        cdef rnncore_call call
        cdef rc_turing *m = &self.machine
        cdef long size = self.team.kernels.itemsize, rows = self.schedule.view.rows, heads = m.reads + m.writes
        dtype = np.float32 if size == 4 else np.float64
        memory = np.empty((rows, m.width, m.locations), dtype=dtype)
        weights = np.empty((rows, heads, m.locations), dtype=dtype)
        cdef char *of_memory = <char *> cnp.PyArray_DATA(memory)
        cdef char *of_weights = <char *> cnp.PyArray_DATA(weights)
        with nogil:
            begin_call(&call, True)
            self.team.kernels.copy(rows * m.width, m.locations, m.memory, m.ld, of_memory, m.locations)
            self.team.kernels.copy(rows * heads, m.locations, m.weights, m.ld, of_weights, m.locations)
            end_call(&call)
        if call.stopped:
            raise_stopped()
        return memory, weights
