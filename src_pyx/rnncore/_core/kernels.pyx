"""Which numeric code runs: the instruction-set level, the product (native or BLAS), and the thread pool.

The level is the best one this processor runs, with all extensions that it gains by, or RNNCORE_ISA: v4 alone,
v4+vnni, v4+vnni+bf16, ...; the product is RNNCORE_GEMM (native, blas or auto).
"""
import os
import time

from libc.string cimport strcmp

import numpy as np

cdef extern from "isa.h" nogil:
    const rc_kernels *rnncore_isa(int number, int itemsize, int *runs)
    const char *rnncore_extension(const char *level, int number, int *runs, int *gains)
    const char *rnncore_compiler()

cdef extern from "pool.h" nogil:
    int RNNCORE_MAX_THREADS
    void rnncore_pool_run(void (*task)(void *, int) noexcept nogil, void *arg, int tasks, int n_threads)
    const char *rnncore_pool_kind()
    void rnncore_begin(rnncore_call *call, int (*check)() noexcept nogil)
    int rnncore_end(rnncore_call *call)
    int rnncore_stopping()

cdef extern from "tiles.h" nogil:
    int rnncore_permit_tiles()
    int rnncore_tiles_refused()
    ctypedef struct rnncore_tile_rows:
        int upper
    rnncore_tile_rows rnncore_tiles_set()

cdef extern from "Python.h":
    int PyErr_CheckSignals()

MAX_THREADS = RNNCORE_MAX_THREADS

cdef const rc_kernels *chosen[2]
cdef rc_gemm blas[2]
cdef bint use_blas = False
cdef tuple used = ()  # extensions


cdef void parallel(pool_task task, void *arg, int tasks, int n_threads) noexcept nogil:
    """Run task(arg, 0..tasks-1) on up to n_threads threads."""
    rnncore_pool_run(task, arg, tasks, n_threads)


cdef bint stopping() noexcept nogil:
    """Whether long work should stop, as its results do not matter any more."""
    return rnncore_stopping()


cdef int signalled() noexcept nogil:
    """Whether a signal's handler has raised, such as KeyboardInterrupt; the exception then stays set."""
    with gil:
        return PyErr_CheckSignals()


cdef void begin_call(rnncore_call *call, bint may_stop) noexcept nogil:
    """Begin what pool.h says of a call: around everything numeric, without the interpreter."""
    if may_stop:
        rnncore_begin(call, signalled)
    else:
        rnncore_begin(call, NULL)


cdef int end_call(rnncore_call *call) noexcept nogil:
    """End it; true: it was stopped, its results are worth nothing, and raise_stopped() must follow."""
    return rnncore_end(call)


cdef int raise_stopped() except -1:
    """Let the exception go on that stopped a call."""
    return -1


cdef const rc_kernels *kernels_for(int itemsize) except NULL:
    """The active level's table for numbers of 4 or 8 bytes."""
    return chosen[itemsize == 8]


cdef const rc_cell *cell_named(const rc_kernels *kernels, str name) except NULL:
    """A cell's record."""
    cdef bytes wanted = name.encode()
    cdef int i
    for i in range(kernels.cell_count):
        if strcmp(kernels.cells[i].name, wanted) == 0:
            return &kernels.cells[i]
    raise ValueError(f"there is no kernel {name!r}")


cdef _text(const char *name):
    return None if name == NULL else name.decode()


def cell_names():
    """Return the names of all records of cells, in the order of the table."""
    cdef const rc_kernels *kernels = kernels_for(8)
    return [_text(kernels.cells[i].name) for i in range(kernels.cell_count)]


def cell_record(str name):
    """Return what the table of cells says of one (kernels.h explains), names and numbers as they stand there."""
    cdef const rc_cell *cell = cell_named(kernels_for(8), name)
    cdef const rc_cell_matrix *m
    cdef int i
    parameters, matrices = [], []
    for i in range(RC_MAX_PARAMETERS):
        if cell.parameters[i].name != NULL:
            parameters.append((_text(cell.parameters[i].name), bool(cell.parameters[i].optional)))
    for i in range(RC_MAX_MATRICES):
        m = &cell.matrices[i]
        if m.gates == 0:
            continue
        matrices.append({
            "parameter": _text(m.parameter), "gate": m.gate, "gates": m.gates,
            "blocks": tuple(m.at[g] for g in range(m.gates)),
            "meets": _text(cell.inner_name[m.source - RC_INNER] if m.source >= RC_INNER else
                           cell.state[m.source].name),
            "meets_output": m.source < RC_INNER and cell.state[m.source].width == RC_OUTPUT,
            "previous": bool(m.linked), "to_output": bool(m.to_output), "bias": m.bias - 1,
        })
    return {
        "name": name,
        "parameters": tuple(parameters),
        "blocks": tuple(_text(cell.blocks[i]) for i in range(cell.width)),
        "gates": cell.gates,
        "input_blocks": tuple(cell.input_at[i] for i in range(cell.input_gates)),
        "states": tuple((_text(cell.state[i].name), cell.state[i].width == RC_OUTPUT, bool(cell.state[i].carries))
                        for i in range(cell.states)),
        "inner": tuple(_text(cell.inner_name[i]) for i in range(cell.inner)),
        "vectors": tuple((_text(cell.vector[i].parameter), cell.vector[i].part) for i in range(cell.vectors)),
        "matrices": tuple(matrices),
        "extra": cell.extra,
        "direct": cell.direct_at - 1,
        "dropped": cell.dropped,
        "zoned": cell.zoned,
        "in_place": bool(cell.in_place),
        "noise": bool(cell.noise),
        "staged": bool(cell.staged),
        "feeds_back": bool(cell.feeds_back),
        "own_bias": bool(cell.own_bias),
        "makes_matrix": bool(cell.makes_matrix),
    }


cdef rc_gemm gemm_for(int itemsize) except? NULL:
    """BLAS's product where BLAS is in use, else NULL: the native one. BLAS is loaded on first use."""
    if not use_blas:
        return NULL
    if blas[0] == NULL:
        from rnncore._core.blas import gemm_addresses

        single, double = gemm_addresses()
        blas[0] = <rc_gemm> <size_t> single
        blas[1] = <rc_gemm> <size_t> double
    return blas[itemsize == 8]


def levels():
    """Return the levels that were compiled in and that this processor runs, best first."""
    cdef int number = 0, runs = 0
    cdef const rc_kernels *table
    found = []
    while True:
        table = rnncore_isa(number, 4, &runs)
        if table == NULL:
            return found
        if runs:
            found.append(table.level.decode())
        number += 1


def extensions(str level, bint gains=False):
    """Return the instructions beside a level's own that this processor runs there, or those that it is faster for."""
    cdef int number = 0, runs = 0, faster = 0
    cdef bytes of_level = level.encode()
    found = []
    while True:
        name = rnncore_extension(of_level, number, &runs, &faster)
        if name == NULL:
            break
        if faster if gains else runs:
            found.append((<bytes> name).decode())
        number += 1
    return found


def _choose(isa, gemm):
    cdef int number = 0, runs = 0
    global use_blas, used
    available = levels()
    wanted, *more = (isa or available[0]).split("+")
    if wanted not in available:
        raise ValueError(f"RNNCORE_ISA must be one of {', '.join(available)} on this machine, got {wanted!r}: "
                         "unset it to take the best level")
    if unknown := set(more) - set(extensions(wanted)):
        raise ValueError(f"RNNCORE_ISA: {wanted} has {' and '.join(extensions(wanted)) or 'nothing'} beside it on this "
                         f"machine, not {', '.join(sorted(unknown))}: unset it to take what is best")
    used = tuple(more) if isa else tuple(extensions(wanted, True))
    if (gemm or "auto") not in ("native", "blas", "auto"):
        raise ValueError(f"RNNCORE_GEMM must be native, blas or auto, got {gemm!r}")
    while rnncore_isa(number, 4, &runs).level.decode() != wanted:
        number += 1
    chosen[0] = rnncore_isa(number, 4, &runs)
    chosen[1] = rnncore_isa(number, 8, &runs)
    # Without wide vectors and fused multiply-add the native products have nothing over BLAS.
    use_blas = gemm == "blas" or (gemm != "native" and wanted not in ("v3", "v4"))


_choose(os.environ.get("RNNCORE_ISA"), os.environ.get("RNNCORE_GEMM"))


def config():
    """Return the level, product and kind of threads in use, and the compiler of the kernels."""
    return {"isa": chosen[0].level.decode(), "isa_available": levels(), "extensions": used,
            "tiles": tiles(), "gemm": "blas" if use_blas else "native",
            "threads": rnncore_pool_kind().decode(), "compiler": rnncore_compiler().decode()}


cdef bint _may_use(const char *extension):
    """Whether an extension, or none, may be used. The system is asked for tiles when they first are wanted."""
    if extension == NULL:
        return True
    if extension.decode() not in used:
        return False
    return strcmp(extension, "amx") != 0 or chosen[0].level.decode() == "emulated" or rnncore_permit_tiles() == 0


def tiles():
    """Return what is known of the tile registers (AMX): "none", "not asked for", "permitted", why they are refused."""
    cdef int answer = rnncore_tiles_refused()
    if "amx" not in used:
        return "none"
    if chosen[0].level.decode() == "emulated":
        return "emulated"
    if answer < 0:
        return "not asked for"
    return f"refused: {os.strerror(answer)}" if answer else "permitted"


def permit_tiles():
    """Ask the system for the tile registers, as the first product that wants them does; 0, or an errno."""
    return rnncore_permit_tiles()


def tile_rows():
    """Return how many rows the tiles of this thread have, 0 between calls: they are then given back."""
    return rnncore_tiles_set().upper


cdef const rc_storage *storage_named(str name) except? NULL:
    """How packed float32 matrices are kept in fewer bits, or NULL: as they are."""
    cdef const rc_kernels *kernels = chosen[0]
    cdef int i
    if name in ("float32", "float64"):
        return NULL
    for i in range(kernels.storage_count):
        if kernels.storages[i].name.decode() == name and _may_use(kernels.storages[i].extension):
            return &kernels.storages[i]
    raise ValueError(f"there is no way to keep weights as {name!r}")


def vector_length(itemsize):
    """Return how many numbers of `itemsize` bytes a vector holds: row lengths are rounded up to it."""
    return kernels_for(itemsize).vector


def apply(str name, x):
    """Return exp, tanh or sigmoid of a 1-D float32 or float64 array, by the functions the kernels use."""
    x = np.ascontiguousarray(x)
    if x.dtype not in (np.float32, np.float64) or x.ndim != 1:
        raise ValueError(f"expected a 1-D float32 or float64 array, got {x.ndim}-D {x.dtype}")
    y = np.empty_like(x)
    cdef const rc_kernels *kernels = kernels_for(x.itemsize)
    cdef size_t source = x.ctypes.data, target = y.ctypes.data
    cdef long n = x.size
    if name == "exp":
        kernels.vexp(n, <const void *> source, <void *> target)
    elif name == "tanh":
        kernels.vtanh(n, <const void *> source, <void *> target)
    elif name == "sigmoid":
        kernels.vsigmoid(n, <const void *> source, <void *> target)
    else:
        raise ValueError(f"expected exp, tanh or sigmoid, got {name!r}")
    return y


cdef struct PeakJob:
    const rc_kernels *kernels
    long rounds
    double flops

cdef void _peak_task(void *arg, int index) noexcept nogil:
    cdef PeakJob *job = <PeakJob *> arg
    job.flops = job.kernels.peak(job.rounds)


def peak(str dtype, double seconds=0.2, int n_threads=1):
    """Return the multiply-add peak in flop/s: registers alone, best of five runs lasting `seconds` together."""
    cdef PeakJob job
    cdef double start, elapsed, best = 0
    job.kernels = kernels_for(np.dtype(dtype).itemsize)
    job.rounds = 1000
    while True:  # find a length of about a fifth of the time asked for
        start = time.perf_counter()
        with nogil:
            _peak_task(&job, 0)
        elapsed = time.perf_counter() - start
        if elapsed > seconds / 10:
            break
        job.rounds *= 2
    for _ in range(5):
        start = time.perf_counter()
        with nogil:
            parallel(_peak_task, &job, n_threads, n_threads)
        best = max(best, n_threads * job.flops / (time.perf_counter() - start))
    return best
