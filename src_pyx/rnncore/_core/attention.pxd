# Attention over all steps of a memory, behind the recurrence.
from libc.stdint cimport int64_t

from rnncore._core.gemm cimport Arena, Team
from rnncore._core.kernels cimport rc_packed
from rnncore._core.plan cimport Layer, Run
from rnncore._core.schedule cimport View

cdef struct Core:
    Team team
    long H, M, F              # widths of queries, memory and outputs; their rows:
    long ldh, ldm, ldf
    bint general, causal
    double factor             # of the scores
    long W, W_c               # offsets into theta; W: -1 without
    rc_packed weight          # W
    rc_packed weight_T
    rc_packed joined[2]       # W_c: the rows of the context, those of the query
    rc_packed joined_T[2]
    # of one run; of sequence n, the caller's number: its steps, and its first row or number in the arrays below
    View view, memory_view
    bint own                  # the memory is the queries
    int64_t *steps
    int64_t *first
    int64_t *memory_steps
    int64_t *memory_first
    int64_t *weights_first    # its number in a and da
    long memory_rows
    # sequence by sequence: (rows, width), whole vectors
    char *q
    char *m
    char *p
    char *a                   # (T, S) of each sequence
    char *c
    char *h
    char *dh
    char *dq
    char *dm
    char *dp
    char *dc
    int tasks                 # that sequences are dealt to, each with memory of its own:
    long panels_size, da_size, task_size
    char *task_memory
    const char *theta
    char *grad

cdef class Attention:
    cdef Core c
    cdef Arena weights_memory, places, memory
    cdef object schedules     # what the run's views belong to
    cdef Run seen             # what heads see: one layer's outputs, ours
    cdef Layer layer
    cdef bind(self, theta, grad)
    cdef lay_out(self, const View *view, const View *memory_view, int threads, bint training, bint shown)
