"""An affine map of rows, and tanh of it where that is asked for:

    y = x·W + b   or   y = tanh(x·W + b)       du = dy, or dy ⊙ (1 - y²)     dW = xᵀ·du   db = Σ du   dx = du·Wᵀ

x (rows, K), y (rows, N), W (K, N), b (N,) or none, in flat parameters. All arrays C-contiguous, of one precision, and
checked.
"""
import numpy as np

cimport numpy as cnp

from rnncore._core.gemm cimport (
    Arena,
    Team,
    bind_packed,
    clear,
    keep_as,
    make_team,
    outer_scratch,
    padded,
    team_outer,
    team_pack,
    team_product,
)
from rnncore._core.kernels cimport (
    RC_FROM_BIAS,
    RC_FROM_ZERO,
    begin_call,
    end_call,
    raise_stopped,
    rc_columns,
    rc_packed,
    rc_storage,
    rnncore_call,
    storage_named,
)

cnp.import_array()


cdef class Dense:
    """One map, for one caller at a time.

    Parameters
    ----------
    itemsize, inputs, outputs : int
    W, b : int
        Places in theta; b is -1 where there is none.
    squash : bool
        Whether y is tanh of the map.
    mixed : bool
        Whether products round their operands to bfloat16.
    """
    cdef Team team
    cdef rc_packed weight, weight_T
    cdef long K, N, ldk, ldn, W, b
    cdef bint squash
    cdef Arena packed, kept, memory  # kept: of weights in fewer bits
    cdef object held

    def __cinit__(self, int itemsize, long inputs, long outputs, long W, long b, bint squash, bint mixed=False):
        cdef Team *team = &self.team
        make_team(team, itemsize, mixed)
        self.K, self.N, self.W, self.b, self.squash = inputs, outputs, W, b, squash
        self.ldk, self.ldn = padded(team.kernels, inputs), padded(team.kernels, outputs)
        bind_packed(team, &self.weight, inputs, outputs, outputs, False)
        bind_packed(team, &self.weight_T, outputs, inputs, outputs, True)
        team.scratch_size = (outer_scratch(team, inputs, outputs) * itemsize + 63) // 64 * 64
        self.packed, self.kept, self.memory = Arena(), Arena(), Arena()
        while True:
            self.packed.start()
            self.weight.bias = self.packed.take(self.ldn * itemsize)
            if team.gemm == NULL:
                self.packed.take_panels(team.kernels, &self.weight)
                self.packed.take_panels(team.kernels, &self.weight_T)
            if not self.packed.settle():
                break

    cdef pack(self, theta, bint backward):
        cdef const char *first = <const char *> cnp.PyArray_DATA(theta)
        cdef rc_packed *weights[1]
        cdef const char *biases[1]
        cdef long size = self.team.kernels.itemsize
        weights[0] = &self.weight_T if backward else &self.weight
        weights[0].W = first + self.W * size
        biases[0] = NULL if backward or self.b < 0 else first + self.b * size
        if not backward and self.b < 0:
            self.weight.bias = NULL
        team_pack(&self.team, weights, biases, 1)

    def hold(self, theta, str storage="float32"):
        """Pack the weights of parameters that will not change, once, kept as `storage`."""
        cdef const rc_storage *kept = storage_named(storage)
        keep_as(&self.team, &self.weight, kept)
        while kept != NULL and self.weight.storage == kept:
            self.kept.start()
            self.kept.take_panels(self.team.kernels, &self.weight)
            if not self.kept.settle():
                break
        self.pack(theta, False)
        self.held = theta

    def forward(self, theta, x, int threads):
        """Return y (rows, N)."""
        cdef rnncore_call call
        cdef Team *team = &self.team
        cdef long rows = x.shape[0], size = team.kernels.itemsize
        cdef char *made
        y = np.empty((rows, self.N), dtype=x.dtype)
        cdef char *source = <char *> cnp.PyArray_DATA(x)
        cdef char *target = <char *> cnp.PyArray_DATA(y)
        team.threads = threads
        if self.held is None:
            self.pack(theta, False)
        while True:
            self.memory.start()
            made = self.memory.take(rows * self.ldn * size)
            if not self.memory.settle():
                break
        if self.N == self.ldn:
            made = target
        with nogil:
            begin_call(&call, True)
            team_product(team, &self.weight, rows, source, self.K, RC_FROM_ZERO if self.b < 0 else RC_FROM_BIAS, made,
                         self.ldn)
            if self.squash:
                team.kernels.vtanh(rows * self.ldn, made, made)
            if made != target:
                team.kernels.copy(rows, self.N, made, self.ldn, target, self.N)
            end_call(&call)
        if call.stopped:
            raise_stopped()
        return y

    def backward(self, theta, grad, x, y, dy, int threads, bint accumulate):
        """Return dx (rows, K); the gradients of W and b go to grad, or are added there. x, y: of the forward pass."""
        cdef rnncore_call call
        cdef Team *team = &self.team
        cdef rc_columns columns
        cdef long rows = x.shape[0], size = team.kernels.itemsize
        cdef char *target = <char *> cnp.PyArray_DATA(grad)
        cdef char *given = <char *> cnp.PyArray_DATA(x)
        cdef char *made = <char *> cnp.PyArray_DATA(y)
        cdef char *source = <char *> cnp.PyArray_DATA(dy)
        cdef char *inputs
        cdef char *outputs
        cdef char *du
        cdef char *dinputs
        cdef char *result
        dx = np.empty((rows, self.K), dtype=x.dtype)
        result = <char *> cnp.PyArray_DATA(dx)
        team.threads = threads
        self.pack(theta, True)
        while True:
            self.memory.start()
            inputs, dinputs = self.memory.take(rows * self.ldk * size), self.memory.take(rows * self.ldk * size)
            outputs, du = self.memory.take(rows * self.ldn * size), self.memory.take(rows * self.ldn * size)
            team.scratch = self.memory.take(team.scratch_size * threads)
            if not self.memory.settle():
                break
        columns.at, columns.count = 0, self.N
        columns.sums = NULL if self.b < 0 else target + self.b * size
        with nogil:
            begin_call(&call, True)
            clear(inputs, rows * self.ldk * size)
            clear(outputs, rows * self.ldn * size)
            clear(du, rows * self.ldn * size)
            team.kernels.copy(rows, self.K, given, self.K, inputs, self.ldk)
            team.kernels.copy(rows, self.N, made, self.N, outputs, self.ldn)
            team.kernels.copy(rows, self.N, source, self.N, du, self.ldn)
            if self.squash:
                team.kernels.tanh_back(rows * self.ldn, outputs, du)
            team_outer(team, self.K, rows, inputs, self.ldk, NULL, du, self.ldn, NULL, 1, &columns, accumulate,
                       target + self.W * size, self.N)
            team_product(team, &self.weight_T, rows, du, self.ldn, RC_FROM_ZERO, dinputs, self.ldk)
            team.kernels.copy(rows, self.K, dinputs, self.ldk, result, self.K)
            end_call(&call)
        if call.stopped:
            raise_stopped()
        return dx
