# Denormals as zeros, between enter and leave, on this thread. Nothing in between may raise.
cdef extern from "flush.h" nogil:
    unsigned long RNNCORE_FLUSH
    unsigned long float_control "rnncore_float_control"()
    unsigned long flush_enter "rnncore_flush_enter"()
    void flush_leave "rnncore_flush_leave"(unsigned long before)
