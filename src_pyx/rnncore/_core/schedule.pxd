from libc.stdint cimport int64_t

cdef struct View:
    # A Schedule in plain C.
    long steps                   # T
    long sequences               # B
    long rows                    # sum of the lengths
    bint full                    # every sequence has T steps: packed rows are the caller's rows
    bint packed                  # the caller's arrays have their rows in packed order, too
    const long *offsets          # (T + 1) first row of each step
    const long *active           # (T) sequences that reach each step
    const int64_t *order         # (B) caller's number of each packed sequence, longest first
    const int64_t *length        # (B) lengths, in packed order
    const int64_t *last          # (B) row of each sequence's last step
    const int64_t *earlier       # (rows - B) row of the step before, for the rows of steps 1, 2, ...; NULL if full

cdef class Schedule:
    cdef View view
    cdef long *longs             # the memory of offsets and active,
    cdef int64_t *ints           # and of the other four
    cdef int fill(self, const int64_t *order, const int64_t *lengths) noexcept nogil
