from rnncore._core.plan cimport Core, Layer

cdef void walk_layer(Core *c, Layer *layer, bint backward, bint linked, bint projects) noexcept nogil
