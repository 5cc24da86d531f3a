from rnncore._core.gemm cimport Arena, Team
from rnncore._core.kernels cimport rc_storage
from rnncore._core.plan cimport Layer, Plan, Run, Unit, UnitWeights

cdef class Weights:
    # What a run multiplies by, packed once and read many times.
    cdef readonly Plan plan
    cdef readonly object theta    # the parameters they were packed from, where they must stay as they were; or None
    cdef UnitWeights *units       # two for each layer
    cdef Arena arena
    cdef const rc_storage *storage  # of forward matrices, or NULL: as they are
    cdef describe(self, const Layer *layer, const Unit *u, UnitWeights *w)

cdef void pack_weights(const Run *r, UnitWeights *units, const char *theta, bint backward, bint input_gradient,
                       int threads) noexcept nogil
