from libc.stdint cimport int64_t

cdef class Batch:
    cdef readonly long steps        # T
    cdef readonly long sequences    # B
    cdef readonly long rows         # sum of the lengths
    cdef readonly bint full         # every sequence has T steps: packed rows are the caller's rows
    cdef long *offsets              # (T + 1) first row of each step
    cdef long *active               # (T) sequences that reach each step
    cdef int64_t *order             # (B) caller's number of each packed sequence, longest first
    cdef int64_t *length            # (B) lengths, in packed order
    cdef int64_t *last              # (B) row of each sequence's last step
    cdef int64_t *earlier           # (rows - B) row of the step before, for the rows of steps 1, 2, ...; NULL if full
    cdef int64_t *ints              # the memory of the four
