"""Connectionist temporal classification of a batch: what ctc.h does for one sequence, spread over threads.

    loss = (Σ over sequences of weight·(-log p of the target)) / sequences

Sequences are dealt to threads and share nothing.
"""
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

import numpy as np

cimport numpy as cnp

from rnncore._core.gemm cimport Arena, Team, padded
from rnncore._core.kernels cimport (
    begin_call,
    end_call,
    kernels_for,
    parallel,
    raise_stopped,
    rc_kernels,
    rc_loss_options,
    rnncore_call,
    stopping,
)
from rnncore._core.schedule cimport Schedule, View

cnp.import_array()

cdef enum:
    SMALL = 100000  # steps of work (outputs + symbols + 50 a row) that one thread does before a second one has woken up


cdef struct Job:
    const rc_kernels *kernels
    const rc_loss_options *options
    const View *v
    const int64_t *targets
    long longest, work_size
    int shards
    char *scores
    char *work
    double scale
    const double *weight
    double *losses

cdef void task(void *arg, int shard) noexcept nogil:
    cdef Job *job = <Job *> arg
    cdef const int64_t *target
    cdef long b = shard, L
    cdef double factor
    while b < job.v.sequences and not stopping():
        target = job.targets + job.v.order[b] * job.longest
        L = 0
        while L < job.longest and target[L] >= 0:
            L += 1
        factor = 1 if job.weight == NULL else job.weight[b]
        job.losses[b] = factor * job.kernels.ctc(job.options, job.scores, job.v.offsets, b, job.v.length[b], target, L,
                                                 job.scale * factor, <double *> (job.work + shard * job.work_size))
        b += job.shards


cdef class Alignments:
    """All alignments of a batch's targets with its steps."""

    def __cinit__(self):
        self.arena = Arena()

    cdef take(self, targets):
        """Take a batch's targets: int64 (B, L) in the caller's order, negative behind each one's end."""
        self.targets = <const int64_t *> cnp.PyArray_DATA(targets)
        self.longest = targets.shape[1]

    cdef carve(self, const Team *team, const View *v):
        """Places for the work of each thread."""
        cdef long row = team.kernels.ctc_work(1, self.longest) - team.kernels.ctc_work(0, self.longest)
        self.shards = min(team.threads, v.sequences) if v.rows * (row + 50) > SMALL else 1
        self.work_size = (team.kernels.ctc_work(v.steps, self.longest) * sizeof(double) + 63) // 64 * 64
        while True:
            self.arena.start()
            self.work = self.arena.take(self.shards * self.work_size)
            if not self.arena.settle():
                break

    cdef void losses(self, const Team *team, const rc_loss_options *options, const View *v, char *scores, double scale,
                     const double *weight, double *losses) noexcept nogil:
        """Losses of the packed sequences, weighted; scores become scale·(their gradient), with scale 0 nothing.

        weight : how much each packed sequence counts, or NULL.
        """
        cdef Job job
        job.kernels, job.options, job.v = team.kernels, options, v
        job.targets, job.longest = self.targets, self.longest
        job.shards, job.work, job.work_size = self.shards, self.work, self.work_size
        job.scores, job.scale, job.weight, job.losses = scores, scale, weight, losses
        parallel(task, &job, self.shards, self.shards)

    def sizes(self):
        """Return bytes held: packed weights, of which there are none, and work of the largest batch so far."""
        return 0, self.arena.capacity


def losses_of_scores(Schedule schedule, scores, targets, gradient, int threads):
    """Return each sequence's loss, float64 (B,), of scores (T, B, outputs) that no network made.

    targets : int64 (B, L); gradient : where the gradient of the losses' sum goes, zeros (T, B, outputs), or None.
    """
    cdef const View *v = &schedule.view
    cdef Alignments alignments = Alignments()
    cdef Team team
    cdef rc_loss_options options
    cdef rnncore_call call
    cdef Arena arena = Arena()
    cdef long t, b, size = scores.dtype.itemsize, outputs = scores.shape[2]
    cdef const char *given = <const char *> cnp.PyArray_DATA(scores)
    cdef char *back = NULL if gradient is None else <char *> cnp.PyArray_DATA(gradient)
    cdef char *rows
    cdef double *packed
    found = np.empty(v.sequences)
    cdef double[::1] losses = found
    memset(&team, 0, sizeof(Team))
    memset(&options, 0, sizeof(rc_loss_options))
    team.kernels, team.threads = kernels_for(size), threads
    options.outputs, options.ld = outputs, padded(team.kernels, outputs)
    alignments.take(targets)
    alignments.carve(&team, v)
    while True:
        arena.start()
        rows = arena.take(v.rows * options.ld * size)
        packed = <double *> arena.take(v.sequences * sizeof(double))
        if not arena.settle():
            break
    with nogil:
        begin_call(&call, True)
        for t in range(v.steps):
            if stopping():
                break
            for b in range(v.active[t]):
                memcpy(rows + (v.offsets[t] + b) * options.ld * size,
                       given + (t * v.sequences + v.order[b]) * outputs * size, outputs * size)
        alignments.losses(&team, &options, v, rows, 0 if back == NULL else 1, NULL, packed)
        for t in range(v.steps if back != NULL else 0):
            if stopping():
                break
            for b in range(v.active[t]):
                memcpy(back + (t * v.sequences + v.order[b]) * outputs * size,
                       rows + (v.offsets[t] + b) * options.ld * size, outputs * size)
        for b in range(v.sequences):
            losses[v.order[b]] = packed[b]
        end_call(&call)
    if call.stopped:
        raise_stopped()
    return found
