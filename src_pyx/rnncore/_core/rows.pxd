from libc.stdint cimport int64_t

cdef object distinct(const int64_t *ids, long count, long rows)
cdef void zero_rows(char *table, object rows, long bytes)
