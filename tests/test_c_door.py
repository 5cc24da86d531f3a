"""The door for C programs: the same bits as Python's, and a status for whatever does not fit."""

import ctypes
import importlib.util
import re
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from c_table import (
    CODE,
    FUNCTIONS,
    HEADER,
    INPUT,
    NAMES,
    SIZE,
    START,
    STATUS,
    TABLE,
    WITH_GIL,
    Batch,
    Gradients,
    at,
    batch,
    checked,
    pointers,
)

import rnncore as rc
from rnncore._core import kernels

pytestmark = pytest.mark.kernels

PROGRAMS = Path(__file__).parent / "c_door"
LENGTHS = np.array([2, 5, 1, 5])
OPTIONS = ({}, {"bidirectional": True, "num_layers": 2}, {"bidirectional": True, "merge": "sum"})


def layer_handle(layer, x, training=False):
    ids = x.dtype.kind == "i"
    return TABLE.layers_open(layer, INPUT["IDS" if ids else "DENSE"], training)


def zeros_of_state(layer, sequences):
    units = layer.num_layers * len(layer.directions)
    return [np.zeros((units, sequences, n), layer.dtype) for n in layer.state_widths.values()]


def random_state(layer, sequences, rng):
    return [rng.standard_normal(a.shape).astype(a.dtype) for a in zeros_of_state(layer, sequences)]


def same(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


# ------------------------------------------------------------ the table


def test_the_table_says_what_it_is():
    assert TABLE.version == int(re.search(r"API_VERSION (\d+)", HEADER)[1])
    assert TABLE.size == ctypes.sizeof(TABLE)
    assert TABLE.level().decode() == kernels.config()["isa"]
    assert TABLE.num_threads() == rc.get_num_threads()
    texts = [TABLE.message(number) for number in STATUS.values()]
    assert len(set(texts)) == len(texts)
    assert TABLE.message(-1000) == TABLE.message(77) not in texts


def test_cython_declares_what_the_header_does():
    declared = (Path(rc.get_include()).parent / "capi.pxd").read_text(encoding="utf-8")
    assert re.findall(r"\(\*(\w+)\)", declared) == list(FUNCTIONS)
    names = set(re.findall(r"RNNCORE_\w+", CODE)) - {"RNNCORE_H", "RNNCORE_API_VERSION"}
    assert names <= set(re.findall(r"RNNCORE_\w+", declared))
    for name in FUNCTIONS:  # who needs the GIL is no secret to Cython
        declaration = re.search(rf"\(\*{name}\)\(.*?(?=\n        \w|\n\n)", declared, re.DOTALL)[0]
        assert ("nogil" not in declaration) == (name in WITH_GIL), name


# ------------------------------------------------------------ products


def leading(array):
    """Numbers from one row to the next; NumPy's own word counts only where there is a next one."""
    return array.strides[0] // array.itemsize if len(array) > 1 else array.shape[1]


def pack(W, bias=None, transposed=False):
    made = ctypes.c_void_p()
    K, N = W.shape[::-1] if transposed else W.shape
    checked(TABLE.matrix_pack(W.itemsize, K, N, at(W), leading(W), transposed, at(bias), ctypes.byref(made)))
    return made


def multiply(matrix, A, start, C, threads=1):
    return TABLE.matrix_multiply(matrix, len(A), at(A), leading(A), START[start], at(C), leading(C), threads)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("K, N", [(3, 1), (37, 29), (64, 64), (130, 77)])
def test_products_have_the_bits_of_a_layer(K, N, dtype):
    """x·W + b is what a layer computes before time begins; here of steps without a past."""
    rng = np.random.default_rng(0)
    layer = rc.Recurrent("elman", K, N, activation="identity", dtype=dtype, n_threads=1)
    layer.theta[...] = rng.standard_normal(layer.theta.size)
    W, bias = layer.params["layers.0.fwd.W_xh"], layer.params["layers.0.fwd.b_h"]
    tolerance = 100 * np.finfo(dtype).eps
    matrix, turned = pack(W, bias), pack(np.ascontiguousarray(W.T), bias, transposed=True)
    for M in (1, 2, 7, 200):
        A = rng.standard_normal((M, K)).astype(dtype)
        expected = layer.forward(A[None], training=False)[0][0]
        wide = np.full((M, N + 3), 7.0, dtype)  # rows of the caller's own length: nothing is written between them
        for packed in (matrix, turned):
            for threads in (1, 3):
                checked(multiply(packed, A, "FROM_BIAS", wide[:, :N], threads))
                assert (wide[:, N:] == 7).all()
                if kernels.config()["gemm"] == "native":
                    same([wide[:, :N]], [expected])
                else:  # BLAS's bits depend on the sizes that it is given, and so on threads
                    np.testing.assert_allclose(wide[:, :N], expected, rtol=tolerance, atol=tolerance * K)
        from_zero, added = np.empty((M, N), dtype), np.ones((M, N), dtype)
        checked(multiply(matrix, A, "FROM_ZERO", from_zero))
        checked(multiply(matrix, A, "FROM_C", added))
        np.testing.assert_allclose(from_zero, A @ W, rtol=tolerance, atol=tolerance * K)
        np.testing.assert_allclose(added, A @ W + 1, rtol=tolerance, atol=tolerance * K)
    for packed in (matrix, turned):
        TABLE.matrix_free(packed)


def test_products_read_rows_of_any_length_and_keep_nothing_of_the_callers():
    rng = np.random.default_rng(1)
    wide_W, wide_A = rng.standard_normal((9, 20)), rng.standard_normal((5, 16))
    W, A = wide_W[:, :13], wide_A[:, :9]
    expected, C = A @ W, np.empty((5, 13))
    matrix = pack(W)
    wide_W[...] = np.nan
    checked(multiply(matrix, A, "FROM_ZERO", C))
    np.testing.assert_allclose(C, expected, rtol=1e-13, atol=1e-13)
    TABLE.matrix_free(matrix)


def test_products_refuse():
    W, bias, A, C = np.ones((4, 3)), np.ones(3), np.ones((2, 4)), np.zeros((2, 3))
    made = ctypes.c_void_p()
    to, at_W, at_bias, at_A, at_C = ctypes.byref(made), at(W), at(bias), at(A), at(C)

    def packing(itemsize=8, K=4, N=3, W=at_W, ldw=3, transposed=0, bias=at_bias, to=to):
        return NAMES[TABLE.matrix_pack(itemsize, K, N, W, ldw, transposed, bias, to)]

    assert packing(itemsize=2) == "BAD_OPTION"
    assert packing(W=None) == packing(to=None) == packing(W=at_W + 1) == packing(bias=at_bias + 4) == "BAD_POINTER"
    for sizes in ({"K": 0}, {"N": -1}, {"ldw": 2}, {"K": 2**40}, {"ldw": 2**62}, {"ldw": 3, "transposed": 1}):
        assert packing(**sizes) == "BAD_SIZE", sizes
    assert packing(K=2**31 - 1, N=2**31 - 1, ldw=2**31 - 1) in ("NO_MEMORY", "BAD_SIZE")
    assert made.value is None

    matrix, plain = pack(W, bias), pack(W)

    def product(matrix=matrix, M=2, A=at_A, lda=4, start="FROM_ZERO", C=at_C, ldc=3, threads=1):
        return NAMES[TABLE.matrix_multiply(matrix, M, A, lda, START.get(start, start), C, ldc, threads)]

    assert product(matrix=None) == product(A=None) == product(C=None) == product(C=at_C + 2) == "BAD_POINTER"
    for sizes in ({"M": -1}, {"lda": 3}, {"ldc": 2}, {"threads": 0}, {"M": 2**61}, {"M": 2, "lda": 2**62}):
        assert product(**sizes) == "BAD_SIZE", sizes
    assert product(start=9) == product(matrix=plain, start="FROM_BIAS") == "BAD_OPTION"
    assert not C.any()
    assert product(M=0, A=None, C=None) == product() == "OK"
    assert (C == 4).all()
    TABLE.matrix_free(matrix)
    TABLE.matrix_free(plain)
    TABLE.matrix_free(None)


# ------------------------------------------------------------ layers


@pytest.mark.parametrize("cell", rc.CELLS)
@pytest.mark.parametrize("options", OPTIONS, ids=["one", "stacked", "summed"])
def test_forward_is_the_layers_own(cell, options):
    rng = np.random.default_rng(2)
    for dtype, hidden in (("float32", 7), ("float64", 16)):
        layer = rc.Recurrent(cell, 5, hidden, dtype=dtype, n_threads=1, **options)
        state, final = random_state(layer, 4, rng), zeros_of_state(layer, 4)
        dense = rng.standard_normal((5, 4, 5)).astype(dtype)
        ids, bags = rng.integers(0, 5, (5, 4)), rng.integers(-1, 5, (5, 4, 3))
        for x in (dense, ids, bags):
            handle = layer_handle(layer, x)
            for lengths, given in ((None, None), (LENGTHS, None), (LENGTHS, state), (None, state)):
                expected, last = layer.forward(x, given, lengths, training=False)
                y = np.full(expected.shape, np.nan, dtype)
                checked(TABLE.layers_forward(handle, batch(x, lengths, given), at(y), pointers(final)))
                same([y, *final], [expected, *last])
            checked(TABLE.layers_forward(handle, batch(x, threads=2), None, pointers(final)))  # outputs not wanted
            same(final, layer.forward(x, training=False)[1])
            TABLE.layers_close(handle)


def test_packed_rows_are_the_padded_batch():
    rng = np.random.default_rng(3)
    layer = rc.Recurrent("lstm", 5, 7, bidirectional=True)
    order = np.argsort(-LENGTHS, kind="stable")
    reached = np.arange(5)[:, None] < LENGTHS[order]
    dense, ids = rng.standard_normal((5, 4, 5)).astype("float32"), rng.integers(0, 5, (5, 4))
    for x in (dense, ids):
        handle, final = layer_handle(layer, x), zeros_of_state(layer, 4)
        expected, last = layer.forward(x, lengths=LENGTHS, training=False)
        rows = np.ascontiguousarray(x[:, order][reached])
        y = np.empty((len(rows), layer.output_size), "float32")
        asked = batch(x, LENGTHS, packed=1)
        asked.x = at(rows)
        checked(TABLE.layers_forward(handle, asked, at(y), pointers(final)))
        same([y, *final], [expected[:, order][reached], *last])
        TABLE.layers_close(handle)


TRAINING = (
    {"hidden_size": 8},
    {"hidden_size": 8, "bidirectional": True, "num_layers": 2, "dropout": 0.4, "output_dropout": 0.2},
    {"hidden_size": 7, "recurrent_dropout": 0.3, "input_dropout": 0.2, "truncate": 3, "num_layers": 2},
)


def train(layer, handle, x, lengths, state, dy, dfinal, step):
    """One forward and backward pass through the table: outputs, final states, gradients as `Recurrent` returns them."""
    theta, asked = layer.theta.copy(), batch(x, lengths, state)
    y, grad, final = np.empty_like(dy), np.zeros_like(theta), zeros_of_state(layer, x.shape[1])
    seed = layer.dropout_seed
    checked(TABLE.layers_forward_for_training(handle, asked, at(theta), seed, step, at(y), pointers(final)))
    between = batch(x[:2])  # another run, before backward
    checked(TABLE.layers_forward(handle, between, None, None))
    dx = None if x.dtype.kind == "i" else np.empty_like(x)
    dstate = None if state is None else zeros_of_state(layer, x.shape[1])
    last, first = pointers(dfinal), pointers(dstate)
    gradients = Gradients(at(dy), None if last is None else ctypes.addressof(last), at(grad), at(dx))
    gradients.dstate = None if first is None else ctypes.addressof(first)
    checked(TABLE.layers_backward(handle, at(theta), gradients))
    assert NAMES[TABLE.layers_backward(handle, at(theta), gradients)] == "BAD_ORDER"  # each serves one
    return y, final, grad, dx, dstate


@pytest.mark.parametrize("cell", rc.CELLS)
@pytest.mark.parametrize("options", TRAINING, ids=["plain", "stacked", "truncated"])
def test_training_is_the_layers_own(cell, options):
    rng = np.random.default_rng(4)
    layer = rc.Recurrent(cell, 8, dtype="float64", random_state=3, n_threads=1, **options)
    state, dfinal = random_state(layer, 4, rng), random_state(layer, 4, rng)
    dense, ids = rng.standard_normal((5, 4, 8)), rng.integers(0, 8, (5, 4))
    dy = rng.standard_normal((5, 4, layer.output_size))
    for x, lengths, given, dlast in (
        (dense, None, None, None),
        (dense, LENGTHS, state, dfinal),
        (ids, LENGTHS, state, None),
    ):
        handle, step = layer_handle(layer, x, training=True), layer.dropout_step
        layer.zero_grad()
        expected, last = layer.forward(x, given, lengths)
        expected = expected.copy()
        dx, dstate = layer.backward(dy, dlast)
        y, final, grad, own_dx, own_dstate = train(layer, handle, x, lengths, given, dy, dlast, step)
        same([y, *final, grad], [expected, *last, layer.grad])
        if dx is not None:
            same([own_dx], [dx])
        if dstate is not None:
            same(own_dstate, dstate)
        TABLE.layers_close(handle)


def test_parameter_gradients_are_added():
    rng = np.random.default_rng(9)
    layer, x = rc.Recurrent("gru", 4, 6, dtype="float64"), rng.standard_normal((3, 2, 4))
    handle, grad, dy = layer_handle(layer, x, training=True), np.ones_like(layer.theta), np.ones((3, 2, 6))
    for _ in range(2):
        checked(TABLE.layers_forward_for_training(handle, batch(x), at(layer.theta), 0, 0, None, None))
        checked(TABLE.layers_backward(handle, at(layer.theta), Gradients(dy=at(dy), grad=at(grad))))
    layer.forward(x)
    layer.zero_grad()
    layer.backward(dy)
    np.testing.assert_allclose(grad, 1 + 2 * layer.grad, rtol=1e-12)
    TABLE.layers_close(handle)


def test_a_handle_keeps_its_parameters_until_it_is_refreshed():
    x = np.ones((3, 2, 4), "float32")
    layer = rc.Recurrent("gru", 4, 6)
    handle, y = layer_handle(layer, x), np.empty((3, 2, 6), "float32")
    before = layer.forward(x, training=False)[0]
    layer.theta[...] *= 0.5
    checked(TABLE.layers_forward(handle, batch(x), at(y), None))
    same([y], [before])
    checked(TABLE.layers_refresh(handle))
    after = layer.forward(x, training=False)[0]
    del layer  # the handle keeps what it needs
    checked(TABLE.layers_forward(handle, batch(x), at(y), None))
    same([y], [after])
    TABLE.layers_close(handle)


def test_sizes():
    layer = rc.Recurrent("lstm", 4, 6, num_layers=2, bidirectional=True, dtype="float64", n_threads=3)
    handle = TABLE.layers_open(layer, INPUT["DENSE"], 0)
    found = {name: TABLE.layers_size(handle, number) for name, number in SIZE.items()}
    sizes = {"ITEMSIZE": 8, "INPUT_SIZE": 4, "OUTPUT_SIZE": 12, "STATES": 2, "BATCH_SIZE": 0, "THREADS": 3}
    assert found == sizes | {"PARAMETERS": layer.theta.size}
    units, width = ctypes.c_int64(), ctypes.c_int64()
    checked(TABLE.layers_state_shape(handle, 1, ctypes.byref(units), ctypes.byref(width)))
    assert (units.value, width.value) == (4, 6)
    assert NAMES[TABLE.layers_state_shape(handle, 2, ctypes.byref(units), ctypes.byref(width))] == "BAD_SIZE"
    assert NAMES[TABLE.layers_state_shape(handle, 0, None, None)] == "BAD_POINTER"
    assert NAMES[TABLE.layers_size(handle, 99)] == "BAD_OPTION"
    assert NAMES[TABLE.layers_size(None, 0)] == NAMES[TABLE.session_size(None, 0)] == "BAD_POINTER"
    TABLE.layers_close(handle)
    TABLE.layers_close(None)


def test_layers_refuse():
    layer = rc.Recurrent("lstm", 4, 6)
    x, y, ids = np.ones((3, 2, 4), "float32"), np.full((3, 2, 6), 5.0, "float32"), np.zeros((3, 2), np.int64)
    state = zeros_of_state(layer, 2)
    dense, symbols, at_y = layer_handle(layer, x), layer_handle(layer, ids), at(y)

    def status(handle, asked, y=at_y, final=None):
        return NAMES[TABLE.layers_forward(handle, asked, y, final)]

    good, holes = batch(x), pointers(state)
    holes[1] = None
    assert status(None, good) == status(dense, None) == status(dense, good, at_y + 1) == "BAD_POINTER"
    assert status(dense, good, final=holes) == "BAD_POINTER"
    assert (
        status(dense, batch(x, state=[state[0], None])) == status(dense, Batch(steps=1, sequences=1)) == "BAD_POINTER"
    )
    for name, wrong in (("steps", 0), ("steps", -3), ("sequences", 0), ("sequences", 2**40), ("threads", -1)):
        assert status(dense, batch(x, **{name: wrong})) == "BAD_SIZE", name
    assert status(symbols, batch(ids, per_row=-1)) == "BAD_SIZE"
    huge = batch(x, steps=2**31 - 1, sequences=2**31 - 1)
    assert status(dense, huge) == "NO_MEMORY"
    for lengths in ([0, 1], [1, 4], [-1, 2**40]):
        assert status(dense, batch(x, np.array(lengths))) == "BAD_LENGTHS"
    for wrong in (-1, 4, 2**62):
        outside = ids.copy()
        outside[2, 1] = wrong
        assert status(symbols, batch(outside)) == "BAD_IDS"
        assert status(symbols, batch(outside, np.array([3, 2]))) == "OK"  # past the end it does not count
        y[...] = 5
    assert status(symbols, batch(np.full((3, 2, 2), -2))) == "BAD_IDS"
    assert (y == 5).all()
    theta, grad = layer.theta, layer.grad
    gradients = Gradients(dy=at(y), grad=at(grad))
    assert NAMES[TABLE.layers_forward_for_training(dense, good, at(theta), 0, 0, None, None)] == "BAD_OPTION"
    assert NAMES[TABLE.layers_backward(dense, at(theta), gradients)] == "BAD_ORDER"
    trained = layer_handle(layer, ids, training=True)
    asked = batch(ids)
    assert NAMES[TABLE.layers_forward_for_training(trained, asked, None, 0, 0, None, None)] == "BAD_POINTER"
    checked(TABLE.layers_forward_for_training(trained, asked, at(theta), 0, 0, None, None))
    kept = pointers(state)
    for wrong, expected in (
        ({"dy": None}, "BAD_POINTER"),
        ({"grad": None}, "BAD_POINTER"),
        ({"dx": at(x)}, "BAD_OPTION"),
        ({"dstate": ctypes.addressof(kept)}, "BAD_OPTION"),
        ({"dfinal": ctypes.addressof(holes)}, "BAD_POINTER"),
    ):
        bad = Gradients(dy=at(y), grad=at(grad))
        for name, value in wrong.items():
            setattr(bad, name, value)
        assert NAMES[TABLE.layers_backward(trained, at(theta), bad)] == expected, wrong
    checked(TABLE.layers_backward(trained, at(theta), gradients))
    for handle in (dense, symbols, trained):
        TABLE.layers_close(handle)


# ------------------------------------------------------------ sessions


def networks():
    yield rc.Network(rc.Recurrent("gru", 5, 7, num_layers=2), head=rc.Softmax(4))
    yield rc.Network(
        rc.Recurrent("elman", 6, 8, dtype="float64"), head=rc.SigmoidCrossEntropy(5), embedding=rc.Embedding(5, 6)
    )
    yield rc.Network([rc.Recurrent("lstm", 5, 6), rc.Recurrent("elman", 6, 9)], head=rc.SquaredError(3, project=False))
    yield rc.Network(rc.Recurrent("elman", 5, 8), head=rc.CRF(4))


def owners():
    yield from (rc.Recurrent(cell, 5, 7) for cell in rc.CELLS)
    yield from networks()


@pytest.mark.parametrize(
    "owner, weight_dtype",
    [*((owner, None) for owner in owners()), (rc.Recurrent("lstm", 5, 20), "int8")],
    ids=lambda value: repr(value)[:40],
)
def test_sessions_are_pythons(owner, weight_dtype):
    rng = np.random.default_rng(5)
    ids = isinstance(owner, rc.Network) and owner.embedding is not None
    x = rng.integers(0, 5, (6, 3)) if ids else rng.standard_normal((6, 3, 5)).astype(owner.dtype)
    python = owner.session(3, weight_dtype)
    first = python.step(x[0])  # a handle begins where the session stands
    handle = TABLE.session_open(python, INPUT["IDS" if ids else "DENSE"])
    outputs, count = first.shape[1], TABLE.session_size(handle, SIZE["STATES"])
    assert TABLE.session_size(handle, SIZE["OUTPUT_SIZE"]) == outputs
    assert TABLE.session_size(handle, SIZE["BATCH_SIZE"]) == 3
    state = []
    for number in range(count):
        units, width = ctypes.c_int64(), ctypes.c_int64()
        checked(TABLE.session_state_shape(handle, number, ctypes.byref(units), ctypes.byref(width)))
        state.append(np.empty((units.value, 3, width.value), owner.dtype))

    def python_state():
        found = python.state if isinstance(python.state, list) else [python.state]
        return [array for part in found for array in part]

    out = np.empty((3, outputs), owner.dtype)
    for x_t in x[1:]:
        checked(TABLE.session_step(handle, at(np.ascontiguousarray(x_t)), 0, at(out)))
        same([out], [python.step(x_t)])
    checked(TABLE.session_get_state(handle, pointers(state)))
    same(state, python_state())

    y, lengths = np.full((6, 3, outputs), np.nan, owner.dtype), np.array([2, 6, 3])
    checked(TABLE.session_run(handle, batch(x, lengths), at(y)))
    same([y], [python.run(x, lengths)])
    checked(TABLE.session_reset(handle, at(np.array([0, 2])), 2))
    python.reset([0, 2])
    checked(TABLE.session_run(handle, batch(x), at(y)))
    same([y], [python.run(x)])

    changed = [array + 0.25 for array in state]
    checked(TABLE.session_set_state(handle, pointers(changed)))
    python._set_state(changed)
    owner.theta[...] *= 0.75
    checked(TABLE.session_refresh(handle))
    python.refresh()
    checked(TABLE.session_step(handle, at(x), 1, at(out)))
    same([out], [python.step(x[0])])
    checked(TABLE.session_reset(handle, None, 0))
    python.reset()
    checked(TABLE.session_step(handle, at(x), 1, at(out)))
    same([out], [python.step(x[0])])
    TABLE.session_close(handle)


def test_sessions_refuse():
    python = rc.Recurrent("elman", 4, 6).session(batch_size=2)
    dense, symbols = TABLE.session_open(python, INPUT["DENSE"]), TABLE.session_open(python, INPUT["IDS"])
    x, out, ids = np.ones((2, 4), "float32"), np.zeros((2, 6), "float32"), np.array([1, 9])
    run, at_x, at_out = np.ones((1, 2, 4), "float32"), at(x), at(out)

    def step(handle=dense, x=at_x, per_row=1, out=at_out):
        return NAMES[TABLE.session_step(handle, x, per_row, out)]

    assert step(handle=None) == step(x=None) == step(out=None) == step(out=at_out + 1) == "BAD_POINTER"
    assert step(symbols, at(ids)) == step(symbols, at(np.array([-1, 0]))) == "BAD_IDS"
    assert step(symbols, at(ids), -2) == step(symbols, at(ids), 2**31) == "BAD_SIZE"
    assert NAMES[TABLE.session_run(dense, batch(run, sequences=1), at(out))] == "BAD_SIZE"
    assert NAMES[TABLE.session_run(dense, batch(run, state=[out]), at(out))] == "BAD_OPTION"
    for asked, to in ((batch(run), None), (None, at_out)):
        assert NAMES[TABLE.session_run(dense, asked, to)] == "BAD_POINTER"
    for rows in ([2], [0, -1], [2**40]):
        assert NAMES[TABLE.session_reset(dense, at(np.array(rows)), len(rows))] == "BAD_SIZE"
    assert NAMES[TABLE.session_reset(dense, at(np.array([0])), -1)] == "BAD_SIZE"
    assert NAMES[TABLE.session_get_state(dense, None)] == "BAD_POINTER"
    assert not out.any()

    both = rc.Recurrent("elman", 4, 6, bidirectional=True).session(batch_size=2)
    no_steps, y = TABLE.session_open(both, INPUT["DENSE"]), np.empty((1, 2, 12), "float32")
    assert step(no_steps, out=at(y)) == NAMES[TABLE.session_set_state(no_steps, pointers([out]))] == "BAD_OPTION"
    checked(TABLE.session_run(no_steps, batch(run), at(y)))
    same([y], [both.run(run)])
    for handle in (dense, symbols, no_steps, None):
        TABLE.session_close(handle)


def test_a_handle_is_for_one_thread_at_a_time():
    """While one thread runs, a second one is told so, and nothing of the first one's is disturbed."""
    layer = rc.Recurrent("gru", 64, 96, n_threads=1)
    x = np.random.default_rng(6).standard_normal((400, 8, 64), dtype=np.float32)
    handle, y = layer_handle(layer, x), np.empty((400, 8, 96), "float32")
    statuses, asked, done = [], batch(x), threading.Event()

    def ask():
        small = np.empty((1, 1, 96), "float32")
        while not done.is_set():
            statuses.append(NAMES[TABLE.layers_forward(handle, batch(x, steps=1, sequences=1), at(small), None)])

    other = threading.Thread(target=ask)
    other.start()
    mine = []
    try:
        while len(mine) < 2000 and not ("OK" in mine and "BUSY" in statuses):
            mine.append(NAMES[TABLE.layers_forward(handle, asked, at(y), None)])
    finally:
        done.set()
        other.join()
    assert "BUSY" in statuses
    assert set(mine) | set(statuses) <= {"OK", "BUSY"}
    checked(TABLE.layers_forward(handle, asked, at(y), None))
    same([y], [layer.forward(x, training=False)[0]])
    TABLE.layers_close(handle)


# ------------------------------------------------------------ what [GIL] functions raise


def raised(call):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    return str(caught.value)


def test_opening_refuses():
    layer = rc.Recurrent("elman", 4, 6)
    network = rc.Network(rc.Recurrent("elman", 3, 4), head=rc.Softmax(2), embedding=rc.Embedding(9, 3))
    skipping = rc.Network(rc.Recurrent("elman", 3, 4), head=rc.Softmax(2), skip=5)
    assert "Recurrent" in raised(lambda: TABLE.layers_open(network, INPUT["DENSE"], 0))
    assert "RNNCORE_DENSE or RNNCORE_IDS" in raised(lambda: TABLE.layers_open(layer, 7, 0))
    assert "session()" in raised(lambda: TABLE.session_open(layer, INPUT["DENSE"]))
    assert "RNNCORE_IDS" in raised(lambda: TABLE.session_open(network.session(), INPUT["DENSE"]))
    pooled = rc.Network(rc.Recurrent("elman", 3, 4), head=rc.Softmax(2), pooling="last")
    several = rc.Network(rc.Recurrent("elman", 3, 4), heads={"a": rc.Softmax(2)})
    segments = rc.Network(rc.Recurrent("elman", 3, 4), head=rc.Softmax(2), inputs={"x": rc.Numbers(3)})
    for own in (skipping, pooled, several, segments):
        assert "net.session()" in raised(lambda own=own: TABLE.session_open(own.session(), INPUT["DENSE"]))


# ------------------------------------------------------------ programs


def build(name, source, folder, **more):
    """Compile an extension module of one file with what is installed, and import it."""
    setuptools = pytest.importorskip("setuptools")
    extension = setuptools.Extension(name, [str(source)], include_dirs=[rc.get_include()], **more)
    extensions = [extension]
    if source.suffix == ".pyx":
        cythonize = pytest.importorskip("Cython.Build").cythonize
        above = str(Path(rc.get_include()).parents[1])  # where an editable install keeps rnncore/
        extensions = cythonize(extensions, include_path=[above], build_dir=str(folder), quiet=True)
    command = setuptools.Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(folder), str(folder)
    command.ensure_finalized()
    try:
        command.run()
    except Exception as error:
        if type(error).__name__ == "CompileError" and "command" in str(error) and "not found" in str(error):
            pytest.skip(f"no C compiler: {error}")
        raise
    spec = importlib.util.spec_from_file_location(name, command.get_ext_fullpath(name))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def c_program(tmp_path_factory):
    if sys.platform == "win32":
        pytest.skip("the program's threads are pthreads")
    strict = ["-std=c99", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers", "-O1"]
    return build("c_program", PROGRAMS / "program.c", tmp_path_factory.mktemp("c"), extra_compile_args=strict)


@pytest.mark.parametrize("head", [None, rc.Softmax(4), rc.CRF(4)], ids=["layer", "softmax", "crf"])
def test_a_c_program_runs_streams_on_its_own_threads(c_program, head):
    """Eight pthreads, a session each; only a CRF's ask for the GIL."""
    layer = rc.Recurrent("lstm", 12, 24, n_threads=1)
    owner = layer if head is None else rc.Network(layer, head=head)
    x = np.random.default_rng(7).standard_normal((40, 2, 12), dtype=np.float32)
    session = owner.session(batch_size=2)
    python = owner.session(batch_size=2)
    expected = np.stack([[python.step(x_t) for x_t in x]] * 8)
    y = np.empty_like(expected)
    assert c_program.streams(session, False, x, y, 40, 8) == 0
    same([y], [expected])


def test_a_newer_program_is_refused(c_program):
    with pytest.raises(ImportError, match="install a newer rnncore"):
        c_program.import_newer()


def test_a_cython_program(tmp_path):
    unoptimised = [] if sys.platform == "win32" else ["-O0"]  # compiles in a third of the time
    program = build("cython_program", PROGRAMS / "cython_program.pyx", tmp_path, extra_compile_args=unoptimised)
    rng = np.random.default_rng(8)
    layer = rc.Recurrent("elman", 5, 9, activation="identity")
    x, lengths = rng.standard_normal((6, 3, 5), dtype=np.float32), np.array([3, 6, 1])
    y = np.empty((6, 3, 9), np.float32)
    assert program.forward(layer, x, lengths, y) == 0
    same([y], [layer.forward(x, lengths=lengths, training=False)[0]])
    C = np.empty((3, 9), np.float32)
    W, bias = layer.params["layers.0.fwd.W_xh"], layer.params["layers.0.fwd.b_h"]
    assert program.product(W, bias, x[0], C) == 0
    same([C], [layer.forward(x[:1], training=False)[0][0]])
    with pytest.raises(TypeError, match=r"rnncore\.Recurrent"):
        program.refused(3)


# ------------------------------------------------------------ what the documents show


def shown(document, language):
    """The one block of a language that a document shows."""
    path = Path(__file__).parents[1] / document
    if not path.exists():
        pytest.skip(f"{document} is in a checkout only")
    return re.search(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)[1]


@pytest.mark.parametrize("document, language", [("docs/c.md", "c"), ("README.md", "cython")])
def test_what_is_shown_works(document, language, tmp_path):
    source = tmp_path / f"streaming.{'c' if language == 'c' else 'pyx'}"
    source.write_text(shown(document, language), encoding="utf-8")
    unoptimised = [] if sys.platform == "win32" else ["-O0"]
    program = build("streaming", source, tmp_path, extra_compile_args=unoptimised)
    net = rc.Network(rc.Recurrent("gru", 4, 6), head=rc.Softmax(3))
    x = np.random.default_rng(9).standard_normal((7, 2, 4), dtype=np.float32)
    y = np.empty((7, 2, 3), np.float32)
    assert program.stream(net.session(batch_size=2), x, y) == (None if language == "c" else "done")
    same([y], [net.session(batch_size=2).run(x)])
