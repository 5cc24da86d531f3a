"""`rc.Recurrent` against the reference, and the promises of its interface."""

import copy
import pickle

import numpy as np
import pytest
import reference as ref
import twins

import rnncore as rc

T, B = 5, 3
STACKS = [
    ref.Stack(4, 2),
    ref.Stack(1, 1),
    ref.Stack(4, 7, direction="reverse", activation="sigmoid"),
    ref.Stack(3, 5, num_layers=2, activation="leaky_relu"),
    ref.Stack(6, 4, direction="concat", activation="identity"),
    ref.Stack(6, 2, direction="sum", num_layers=2, activation="relu"),
    ref.Stack(2, 3, direction="concat", num_layers=3, activation="clipped_relu"),
    ref.Stack(2, 17),
    *(ref.member(name, 4, 2) for name in ref.FAMILY if name != "elman"),
    *(ref.member(name, 3, 3, num_layers=2, direction="concat") for name in ref.FAMILY if name != "elman"),
    *(ref.member(name, 4, 4, 2, "concat") for name in ("mut1", "mut2")),  # x itself below, both directions' above
    *(ref.member(name, 4, 4, 2, "sum") for name in ("mut1", "mut2")),
]
WIDE = [ref.member(name, 4, 17, direction="reverse") for name in ref.FAMILY if name != "elman"]
CELLS = [ref.member(name, 4, 3, num_layers=2) for name in ref.FAMILY]
VARIANTS = ["NIG", "NFG", "NOG", "NIAF", "NOAF", "CIFG"]
INPUTS = ["dense", "ids", "bags"]


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def make(rng, net: ref.Stack, **options):
    params = net.random_params(rng)
    return params, twins.layer(net, params, **options)


def test_every_cell_has_a_reference():
    assert set(rc.CELLS) == set(ref.CELLS)


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("net", [*STACKS, *WIDE], ids=str)
def test_forward(rng, net, kind, ragged):
    params, layer = make(rng, net)
    x = twins.random_input(rng, kind, T, B, net.input_size)
    lengths = twins.random_lengths(rng, T, B) if ragged else None
    y, state = layer.forward(x, lengths=lengths)
    wanted, final = ref.forward(net, params, x, None, lengths)
    assert y.dtype == state[0].dtype == np.float64
    assert isinstance(state, tuple)
    np.testing.assert_allclose(y, wanted, rtol=1e-13, atol=1e-14)
    for ours, other in zip(state, final, strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("net", STACKS, ids=str)
def test_forward_in_single_precision(rng, net):
    params, layer = make(rng, net, dtype="float32")
    x = rng.standard_normal((T, B, net.input_size)).astype(np.float32)
    y, state = layer.forward(x)
    rounded = {name: array.astype(np.float32).astype(float) for name, array in params.items()}
    wanted, final = ref.forward(net, rounded, x.astype(float))
    assert y.dtype == state[0].dtype == layer.theta.dtype == np.float32
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())
    for ours, other in zip(state, final, strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-5, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("net", STACKS, ids=str)
def test_backward(rng, net, kind, ragged):
    """Parameters, dense inputs and initial states, from both the outputs and the final states."""
    params, layer = make(rng, net)
    x = twins.random_input(rng, kind, T, B, net.input_size)
    lengths = twins.random_lengths(rng, T, B) if ragged else None
    start = twins.named_state(rng, net, B)
    dy, dfinal = rng.standard_normal((T, B, net.output_size)), twins.random_state(rng, net, B)

    layer.zero_grad()
    layer.forward(x, state=tuple(start.values()), lengths=lengths)
    dx, dstate = layer.backward(dy, dstate=dfinal)

    inputs = {**start, "x": x} if kind == "dense" else start
    found = {**layer.grads, **dict(zip(start, dstate, strict=True)), "x": dx}
    weighted_sum = twins.weighted_sum(net, x, dy, dfinal, lengths)
    for name, error in ref.gradient_error(weighted_sum, {**params, **inputs}, found).items():
        assert error < 1e-12, name
    assert (dx is None) == (kind != "dense")


def test_names_shapes_and_views():
    layer = rc.Recurrent("elman", input_size=3, hidden_size=5, num_layers=2, bidirectional=True)
    shapes = {}
    for index, inputs in enumerate((3, 10)):
        for way in ("fwd", "bwd"):
            at = f"layers.{index}.{way}."
            shapes |= {at + "W_xh": (inputs, 5), at + "W_hh": (5, 5), at + "b_h": (5,)}
    assert {name: view.shape for name, view in layer.params.items()} == shapes
    assert {name: view.shape for name, view in layer.grads.items()} == shapes
    assert layer.theta.ndim == layer.grad.ndim == 1
    assert layer.theta.shape == layer.grad.shape
    assert layer.theta.ctypes.data % 64 == layer.grad.ctypes.data % 64 == 0
    assert layer.theta.dtype == np.float32
    for views, flat in ((layer.params, layer.theta), (layer.grads, layer.grad)):
        for number, view in enumerate(views.values(), start=1):
            assert np.shares_memory(view, flat)
            view[...] = number
        wanted = sorted(number for number, view in enumerate(views.values(), start=1) for _ in range(view.size))
        assert sorted(flat[flat != 0]) == wanted  # nothing overlaps
    layer.zero_grad()
    assert not layer.grad.any()


@pytest.mark.parametrize("net", CELLS, ids=str)
def test_writing_theta_is_seen_by_the_next_forward(rng, net):
    """Weights are packed for the kernels; a change must not be missed."""
    params, layer = make(rng, net)
    x = rng.standard_normal((T, B, 4))
    layer.forward(x)
    for written in (layer.theta, *(view for name, view in layer.params.items() if name.startswith("layers.0."))):
        written *= 0.5
        written += 0.05
        params = {name: view.copy() for name, view in layer.params.items()}
        np.testing.assert_allclose(layer.forward(x)[0], ref.forward(net, params, x)[0], rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(
            layer.forward(x, training=False)[0], ref.forward(net, params, x)[0], rtol=1e-13, atol=1e-14
        )


def test_random_state():
    def theta(**options):
        return rc.Recurrent("elman", input_size=3, hidden_size=5, **options).theta

    np.testing.assert_array_equal(theta(random_state=4), theta(random_state=4))
    assert np.any(theta(random_state=4) != theta(random_state=5))
    assert np.isfinite(theta()).all()
    assert theta().any()


def test_backward_adds(rng):
    net = ref.Stack(4, 3, num_layers=2, direction="concat")
    _, layer = make(rng, net)
    x, dy = rng.standard_normal((T, B, 4)), rng.standard_normal((T, B, 6))
    layer.zero_grad()
    layer.forward(x)
    layer.backward(dy)
    once = layer.grad.copy()
    layer.forward(x)
    layer.backward(dy)
    np.testing.assert_allclose(layer.grad, 2 * once, rtol=1e-12)


@pytest.mark.parametrize("kind", INPUTS)
def test_backward_belongs_to_a_forward(rng, kind):
    net = ref.Stack(4, 3)
    _, layer = make(rng, net)
    x, dy = twins.random_input(rng, kind, T, B, 4), np.ones((T, B, 3))
    with pytest.raises(RuntimeError, match="forward"):
        layer.backward(dy)
    layer.forward(x, training=False)
    with pytest.raises(RuntimeError, match="forward"):
        layer.backward(dy)
    layer.forward(x)
    layer.backward(dy)
    with pytest.raises(RuntimeError, match="forward"):
        layer.backward(dy)
    layer.zero_grad()
    layer.forward(x)
    layer.backward(dy)
    wanted = layer.grad.copy()
    layer.zero_grad()
    layer.forward(x)
    layer.forward(x[:2], training=False)  # leaves no trace
    layer.backward(dy)
    np.testing.assert_array_equal(layer.grad, wanted)


@pytest.mark.parametrize("net", CELLS, ids=str)
def test_backward_uses_the_numbers_of_its_forward(rng, net):
    """What happens to the caller's arrays after forward must not change the gradient, but for x: it is not copied."""
    _, layer = make(rng, net)
    x, begin = rng.standard_normal((T, B, 4)), twins.random_state(rng, net, B)
    dy = rng.standard_normal((T, B, net.output_size))

    def gradient(spoil):
        layer.zero_grad()
        start = tuple(s.copy() for s in begin)
        y, state = layer.forward(x.copy(), state=start)  # the layer alone keeps this x alive
        fillers = [np.full_like(x, 1e9) for _ in range(50)]
        for array in (*start, y, *state) if spoil else ():
            if array.flags.writeable:  # outputs that backward reads are not
                array[...] = 1e9
        del fillers
        dx, dstate = layer.backward(dy)
        return layer.grad.copy(), dx, *dstate

    for clean, spoilt in zip(gradient(False), gradient(True), strict=True):
        np.testing.assert_array_equal(clean, spoilt)


@pytest.mark.parametrize("name", ref.FAMILY)
@pytest.mark.parametrize("direction", ["fwd", "reverse", "concat", "sum"])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("width", [4, 16], ids=["padded", "whole vectors"])
def test_results_belong_to_the_caller(rng, direction, depth, width, name):
    """Nothing returned is overwritten by later calls, nor shares memory with an argument or another result."""
    net = ref.member(name, width, width, num_layers=depth, direction=direction)
    _, layer = make(rng, net)
    x, dy = rng.standard_normal((T, B, width)), rng.standard_normal((T, B, net.output_size))

    start = twins.random_state(rng, net, B)

    def call(x, dy):
        y, state = layer.forward(x, start)
        dx, dstate = layer.backward(dy)
        return [y, *state, dx, *dstate]

    first = call(x, dy)
    kept = [array.copy() for array in first]
    second = call(2 * x + 1, dy - 1)
    for array, before in zip(first, kept, strict=True):
        np.testing.assert_array_equal(array, before)
    everything = [x, dy, *start, layer.theta, layer.grad, *first, *second]
    for i, one in enumerate(everything):
        assert not any(np.shares_memory(one, other) for other in everything[:i])


@pytest.mark.parametrize("net", CELLS, ids=str)
def test_state_can_be_passed_on_as_it_is(rng, net):
    params, layer = make(rng, net)
    x = rng.standard_normal((T, B, 4))
    _, state = layer.forward(x)
    y, state = layer.forward(x, state)
    wanted, _ = ref.forward(net, params, np.concatenate([x, x]))
    np.testing.assert_allclose(y, wanted[T:], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("kind", ["dense", "ids"])
@pytest.mark.parametrize("net", [*CELLS, ref.Stack(4, 5, num_layers=3, activation="sigmoid")], ids=str)
def test_step(rng, net, kind):
    _, layer = make(rng, net)
    x = twins.random_input(rng, kind, T, B, 4)
    y, final = layer.forward(x)
    state = None
    for t in range(T):
        y_t, state = layer.step(x[t], state)
        np.testing.assert_allclose(y_t, y[t], rtol=1e-13, atol=1e-15)
    for ours, other in zip(state, final, strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-13, atol=1e-15)


def test_step_leaves_a_pending_backward_alone_or_makes_it_raise(rng):
    _, layer = make(rng, ref.Stack(4, 3))
    x, dy = rng.standard_normal((T, B, 4)), np.ones((T, B, 3))
    layer.zero_grad()
    layer.forward(x)
    layer.backward(dy)
    wanted = layer.grad.copy()
    layer.zero_grad()
    layer.forward(x)
    layer.step(x[0], None)
    try:
        layer.backward(dy)
    except RuntimeError:
        return
    np.testing.assert_array_equal(layer.grad, wanted)


@pytest.mark.parametrize("options", [{"bidirectional": True}, {"reverse": True}], ids=str)
def test_step_knows_one_direction(options):
    layer = rc.Recurrent("elman", input_size=4, hidden_size=3, **options)
    with pytest.raises((ValueError, RuntimeError)):
        layer.step(np.zeros((B, 4), np.float32), None)


@pytest.mark.parametrize("name", ref.FAMILY)
@pytest.mark.parametrize("direction", ["fwd", "reverse", "concat", "sum"])
def test_padding_cannot_leak(rng, direction, name):
    """Whatever stands behind a sequence's end, in x or in dy, changes no bit."""
    net = ref.member(name, 4, 3, num_layers=2, direction=direction)
    _, layer = make(rng, net)
    lengths = twins.random_lengths(rng, T, B)
    behind = np.arange(T)[:, None] >= lengths
    start = twins.random_state(rng, net, B)

    def everything(filler):
        data = np.random.default_rng(1)
        x, dy = data.standard_normal((T, B, 4)), data.standard_normal((T, B, net.output_size))
        x[behind], dy[behind] = filler, filler
        layer.zero_grad()
        y, state = layer.forward(x, start, lengths)
        dx, dstate = layer.backward(dy)
        return y, dx, *state, *dstate, layer.grad.copy()

    results = everything(0.0)
    assert not results[0][behind].any()
    assert not results[1][behind].any()
    for filler in (1e300, np.nan, -np.inf):
        for clean, dirty in zip(results, everything(filler), strict=True):
            np.testing.assert_array_equal(clean, dirty)


@pytest.mark.parametrize("kind", ["ids", "bags"])
def test_padding_ids_are_not_looked_at(rng, kind):
    net = ref.Stack(4, 3)
    _, layer = make(rng, net)
    lengths = twins.random_lengths(rng, T, B)
    x = twins.random_input(rng, kind, T, B, 4)
    y, _ = layer.forward(x, lengths=lengths)
    layer.zero_grad()
    layer.backward(np.ones_like(y))
    grad = layer.grad.copy()
    for filler in (-1, 10**6, np.iinfo(x.dtype).min):
        x[np.arange(T)[:, None] >= lengths] = filler
        np.testing.assert_array_equal(layer.forward(x, lengths=lengths)[0], y)
        layer.zero_grad()
        layer.backward(np.ones_like(y))
        np.testing.assert_array_equal(layer.grad, grad)


def strided(x):
    """The same numbers in every second place of a larger array."""
    room = np.zeros(tuple(2 * n for n in x.shape), x.dtype)
    view = room[tuple(slice(None, None, 2) for _ in x.shape)]
    view[...] = x
    return view


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


LAYOUTS = {
    "fortran": np.asfortranarray,
    "strided": strided,
    "backwards": lambda x: x[::-1].copy()[::-1],
    "batch first": lambda x: np.moveaxis(np.moveaxis(x, 0, -1).copy(), -1, 0),
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "read-only": read_only,
    "list": lambda x: x.tolist(),
}


@pytest.mark.parametrize("net", CELLS, ids=str)
@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout(rng, layout, kind, net):
    _, layer = make(rng, net)
    change = LAYOUTS[layout]
    x = twins.random_input(rng, kind, T, B, 4)
    start, dy = twins.random_state(rng, net, B), rng.standard_normal((T, B, net.output_size))
    lengths = twins.random_lengths(rng, T, B)

    def everything(change):
        layer.zero_grad()
        y, state = layer.forward(change(x), state=tuple(map(change, start)), lengths=change(lengths))
        dx, dstate = layer.backward(change(dy), dstate=tuple(map(change, start)))
        return y, *state, *(() if dx is None else (dx,)), *dstate, layer.grad.copy()

    for one, other in zip(everything(np.array), everything(change), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64])
def test_any_integer_type_of_ids(rng, dtype):
    net = ref.Stack(4, 3)
    params, layer = make(rng, net)
    x = rng.integers(0, 4, (T, B)).astype(dtype)
    np.testing.assert_allclose(layer.forward(x)[0], ref.forward(net, params, x)[0], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.longdouble])
def test_other_floating_types_are_converted(rng, dtype):
    net = ref.Stack(4, 3)
    params, layer = make(rng, net)
    x = rng.standard_normal((T, B, 4)).astype(dtype)
    y, _ = layer.forward(x)
    np.testing.assert_allclose(y, ref.forward(net, params, x.astype(float))[0], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(
    "net",
    [
        ref.Stack(4, 3, activation="leaky_relu", cell_options=(("leaky_slope", 0.3),)),
        ref.Stack(4, 3, activation="clipped_relu", cell_options=(("clip_at", 0.4),)),
        *(ref.Stack(4, 3, cell="lstm", cell_options=(("variant", v),)) for v in VARIANTS),
        *(
            ref.Stack(4, 3, cell="lstm", cell_options=(("variant", v), ("peepholes", True)))
            for v in [*VARIANTS, "1997"]
        ),
        *(ref.Stack(4, 3, cell="lstm", cell_options=(("variant", v), ("layer_norm", True))) for v in VARIANTS),
        ref.Stack(4, 3, cell="lstm", cell_options=(("variant", "FGR"),)),
        ref.Stack(4, 3, cell="lstm", cell_options=(("variant", "CIFG"), ("proj_size", 2))),
        ref.Stack(4, 3, cell="lstm", cell_options=(("variant", "FGR"), ("proj_size", 5))),
    ],
    ids=lambda net: str(net.cell_options),
)
def test_cell_options(rng, net):
    params, layer = make(rng, net)
    x, dy = rng.standard_normal((T, B, 4)), rng.standard_normal((T, B, net.output_size))
    lengths = twins.random_lengths(rng, T, B)
    layer.zero_grad()
    y, _ = layer.forward(x, lengths=lengths)
    layer.backward(dy)
    np.testing.assert_allclose(y, ref.forward(net, params, x, None, lengths)[0], rtol=1e-13, atol=1e-14)
    wanted = ref.derivative(lambda a: (ref.forward(net, a, x, None, lengths)[0] * dy).sum(), params)
    for name in params:
        assert ref.relative_error(layer.grads[name], wanted[name]) < 1e-12, name


def test_forget_gates_begin_open():
    for bias in (1.0, 0.0, 2.5):
        layer = rc.Recurrent("lstm", 3, 5, bidirectional=True, num_layers=2, forget_bias=bias)
        for name, view in layer.params.items():
            if name.endswith("b_h"):
                np.testing.assert_array_equal(view[5:10], bias)


def test_layer_normalisation_begins_neutral():
    layer = rc.Recurrent("lstm", 3, 5, layer_norm=True)
    wanted = {"gain_x": 1, "gain_h": 1, "gain_c": 1, "shift_c": 0}
    for name, value in wanted.items():
        np.testing.assert_array_equal(layer.params[f"layers.0.fwd.{name}"], value)
    np.testing.assert_array_equal(layer.params["layers.0.fwd.b_h"][5:10], 1)


def test_the_lstm_of_1997_has_no_forget_gate():
    layer = rc.Recurrent("lstm", 3, 5, variant="1997", peepholes=True)
    shapes = {name.split(".")[-1]: view.shape for name, view in layer.params.items()}
    assert shapes == {"W_xh": (3, 15), "W_hh": (5, 15), "b_h": (15,), "w_ci": (5,), "w_co": (5,)}


@pytest.mark.parametrize("name", ref.FAMILY)
def test_the_workspace_follows_any_order_of_sizes(rng, name):
    """Large after small after large: what an earlier call left behind must not show."""
    net = ref.member(name, 4, 3, num_layers=2, direction="concat")
    params, layer = make(rng, net)
    for steps, batch in ((2, 2), (9, 11), (1, 1), (9, 1), (1, 11), (4, 5)):
        x = rng.standard_normal((steps, batch, 4))
        lengths = twins.random_lengths(rng, steps, batch)
        y, final = layer.forward(x, lengths=lengths)
        wanted, last = ref.forward(net, params, x, None, lengths)
        np.testing.assert_allclose(y, wanted, rtol=1e-13, atol=1e-14)
        for ours, other in zip(final, last, strict=True):
            np.testing.assert_allclose(ours, other, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("net", CELLS, ids=str)
def test_copy_and_pickle(rng, net):
    _, layer = make(rng, net)
    x = rng.standard_normal((T, B, 4))
    y, _ = layer.forward(x)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(twin.forward(x)[0], y)
        twin.theta[:] = 0
        twin.params["layers.0.fwd.b_h"][...] = 1
        assert twin.theta.any()
        np.testing.assert_array_equal(layer.forward(x)[0], y)


def test_documented_example():
    """The array-level lines of the documentation, as a user types them."""
    layer = rc.Recurrent("elman", input_size=3, hidden_size=8)
    x = np.random.default_rng(0).standard_normal((20, 4, 3)).astype(np.float32)
    y, state = layer.forward(x, lengths=[20, 5, 12, 1])
    dx, dstate = layer.backward(np.ones_like(y))
    assert (y.shape, state[0].shape, dx.shape) == ((20, 4, 8), (1, 4, 8), (20, 4, 3))
    assert dstate is None  # no state was given
    layer.forward(x, state)
    _, dstate = layer.backward(np.ones_like(y))
    assert dstate[0].shape == (1, 4, 8)


@pytest.mark.parametrize("cell", rc.CELLS)
def test_earlier_batches_leave_no_trace(cell):
    """Memory is used again as it was left: nothing that was not written may be read."""
    rng = np.random.default_rng(0)
    layer = rc.Recurrent(cell, 3, 7, dtype="float64")
    x, dy, lengths = rng.standard_normal((5, 5, 3)), rng.standard_normal((5, 5, layer.output_size)), [5, 4, 4, 2, 1]

    def gradients():
        layer.zero_grad()
        layer.forward(x, lengths=lengths)
        dx, _ = layer.backward(dy)
        return np.append(dx, layer.grad)

    first = gradients()
    for steps, sequences in ((7, 5), (3, 11)):
        large = 9 * rng.standard_normal((steps, sequences, 3))
        y, _ = layer.forward(large)
        layer.backward(9 * y)
        np.testing.assert_array_equal(gradients(), first)
