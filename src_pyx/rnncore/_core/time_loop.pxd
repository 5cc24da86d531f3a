from rnncore._core.plan cimport Layer, Run

cdef void run_layer(Run *r, Layer *layer, bint backward, bint linked, bint projects) noexcept nogil
