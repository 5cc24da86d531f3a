from rnncore._core.plan cimport Layer, Run

cdef void run_steps(Run *r, Layer *layer, long first, long end, bint backward, bint linked,
                    bint projects) noexcept nogil
