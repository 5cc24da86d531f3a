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

cdef void measure_view(View *v, long steps, long sequences, const int64_t *lengths) noexcept nogil
cdef long longs_of_view(const View *v) noexcept nogil
cdef long ints_of_view(const View *v) noexcept nogil
cdef void fill_view(View *v, const int64_t *lengths, long *longs, int64_t *ints) noexcept nogil
