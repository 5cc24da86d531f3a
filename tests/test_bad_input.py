"""Bad input: always an error that says what was wrong, never a crash, never a network left broken.

The estimator's files and the command line have their own tests of this kind; here are the array level's, and at the end
what the command does with files that are not what they should be.
"""

import copy
import inspect
import math
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import pytest
import twins
from peers import peer

import rnncore as rc
from rnncore.cli import main
from rnncore.nn.recurrent import OPTIONS
from rnncore.optim.schedules import SCHEDULES

T, B, D, H, K = 5, 3, 4, 6, 7
ERRORS = (ValueError, TypeError, RuntimeError)


def refused(function, *arguments, **options):
    """The call must raise one of the plain errors, with a message one can act on."""
    with pytest.raises(ERRORS) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert len(message) >= 20, message
    assert "buffer" not in message.lower(), f"raised by a memoryview, not by a check: {message}"
    return message


@pytest.fixture(params=["float32", "float64"])
def layer(request):
    return rc.Recurrent("elman", input_size=D, hidden_size=H, dtype=request.param, random_state=1)


@pytest.fixture
def x():
    return np.random.default_rng(61).standard_normal((T, B, D)).astype(np.float32)


@pytest.fixture(autouse=True)
def still_right(request):
    """After every refusal the same object still computes what it computed before."""
    if "layer" not in request.fixturenames:
        yield
        return
    layer, good = request.getfixturevalue("layer"), np.random.default_rng(62).standard_normal((T, B, D))
    before = layer.forward(good, training=False)[0]
    yield
    np.testing.assert_array_equal(layer.forward(good, training=False)[0], before)


# ------------------------------------------------------------------------------------------------------- construction

BAD_SIZES = [0, -1, 2.5, "4", None, float("nan"), 2**62, True]


@pytest.mark.parametrize("size", BAD_SIZES)
@pytest.mark.parametrize("name", ["input_size", "hidden_size", "num_layers"])
def test_sizes(name, size):
    with pytest.raises((*ERRORS, MemoryError)) as caught:
        rc.Recurrent("elman", **({"input_size": D, "hidden_size": H} | {name: size}))
    assert len(str(caught.value)) >= 20


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"cell": "elmann"}, "elman"),
        ({"cell": ""}, "elman"),
        ({"cell": None}, "elman"),
        ({"cell": 3}, "elman"),
        ({"activation": "swish"}, "tanh"),
        ({"activation": 7}, "tanh"),
        ({"merge": "product", "bidirectional": True}, "concat"),
        ({"dtype": "float16"}, "float32"),
        ({"dtype": "complex128"}, "float32"),
        ({"dtype": "int64"}, "float32"),
        ({"dtype": "no type"}, "float32"),
        ({"random_state": "seed"}, "random_state"),
        ({"random_state": -1}, "random_state"),
        ({"n_threads": 0}, "thread"),
        ({"n_threads": -3}, "thread"),
        ({"n_threads": 1.5}, "thread"),
        ({"reverse": True, "bidirectional": True}, "reverse"),
        ({"leaky_slope": "steep"}, "leaky_slope"),
        ({"leaky_slope": float("nan")}, "leaky_slope"),
        ({"clip_at": -1.0}, "clip_at"),
        ({"clip_at": float("nan")}, "clip_at"),
        ({"no_such_option": 1}, "no_such_option"),
    ],
    ids=str,
)
def test_options(options, named):
    """The message names the option or what may stand there."""
    message = refused(rc.Recurrent, **({"cell": "elman", "input_size": D, "hidden_size": H} | options))
    assert named in message


@pytest.mark.parametrize(
    ("options", "named"),
    [
        *(({"proj_size": size}, "proj_size") for size in (0, -3, 1.5, "wide", True)),
        ({"layer_norm": "yes"}, "layer_norm"),
        ({"variant": "1998"}, "1997"),
        ({"variant": "1997", "layer_norm": True}, "layer_norm"),
        ({"variant": "1997", "proj_size": 2}, "proj_size"),
        ({"variant": "FGR", "layer_norm": True}, "layer_norm"),
    ],
    ids=str,
)
def test_options_of_the_lstm(options, named):
    assert named in refused(rc.Recurrent, "lstm", D, H, **options)


def test_a_thousand_threads_are_only_a_wish(x):
    few, many = (rc.Recurrent("elman", input_size=D, hidden_size=H, n_threads=n) for n in (1, 1000))
    twins.assert_same_bits(few.forward(x)[0], many.forward(x)[0])


@pytest.mark.parametrize("sizes", [(0,), (-2,), ("many",), (2.5,), (None,)])
def test_heads(sizes):
    for head in rc.HEADS.values():
        refused(head, *sizes)


@pytest.mark.parametrize(
    "options",
    [
        {"class_weight": [1, 2]},
        {"class_weight": [1, 2, -3]},
        {"class_weight": [1, 2, np.nan]},
        {"class_weight": "heavy"},
        {"label_smoothing": -0.1},
        {"label_smoothing": 1.5},
        {"label_smoothing": np.nan},
        {"label_smoothing": "some"},
    ],
    ids=str,
)
def test_softmax_options(options):
    refused(rc.Softmax, 3, **options)


def test_networks(layer):
    softmax = rc.Softmax(K)
    refused(rc.Network, layer, head=softmax, readout="first")
    refused(rc.Network, layer, head=softmax, readout=3)
    refused(rc.Network, layer, head="softmax of 3")
    refused(rc.Network, layer, head=None)
    refused(rc.Network, [], head=softmax)
    refused(rc.Network, "elman", head=softmax)
    refused(rc.Network, [layer, layer], head=softmax)
    misfit = rc.Recurrent("elman", input_size=H + 1, hidden_size=3, dtype=layer.theta.dtype.name)
    assert str(H) in refused(rc.Network, [layer, misfit], head=softmax)
    refused(rc.Network, layer, head=softmax, embedding=rc.Embedding(9, D + 1))
    refused(rc.Network, layer, head=softmax, embedding="words")
    for sizes in ((0, 3), (3, 0), (-1, 3), (2.5, 3), ("a", 3)):
        refused(rc.Embedding, *sizes)


def test_layers_of_different_precision():
    one = rc.Recurrent("elman", input_size=D, hidden_size=H, dtype="float32")
    two = rc.Recurrent("elman", input_size=H, hidden_size=3, dtype="float64")
    assert "dtype" in refused(rc.Network, [one, two], head=rc.Softmax(K))


# -------------------------------------------------------------------------------------------------------------- inputs


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((T, B, D + 1)),
        np.zeros((T, B, D - 1)),
        np.zeros((T, B, 0)),
        np.zeros((T, B)),
        np.zeros((T, D)),
        np.zeros(T),
        np.zeros((T, B, D, 1)),
        np.zeros((0, B, D)),
        np.zeros((T, 0, D)),
        np.float64(1.0),
        np.zeros((T, B, D), complex),
        np.zeros((T, B, D), object),
        np.full((T, B, D), "word"),
        np.zeros((T, B, D), "M8[s]"),
        np.zeros((T, B, D), [("a", float)]),
        np.zeros((T, B), bool),
        [[[1.0] * D] * B, [[1.0] * D]],  # ragged
        [["the", "cat"]],
        None,
        "words",
        {"x": 1},
        object(),
    ],
    ids=lambda bad: f"{type(bad).__name__}{np.shape(bad) if isinstance(bad, np.ndarray) else ''}",
)
def test_x(layer, bad):
    refused(layer.forward, bad)
    refused(layer.forward, bad, training=False)


@pytest.mark.parametrize("bad", [-1, D, 10**9, -(10**18), np.iinfo(np.int64).max, np.iinfo(np.int64).min])
@pytest.mark.parametrize("where", [(0, 0), (T - 1, B - 1)])
def test_ids_out_of_range(layer, bad, where):
    ids = np.zeros((T, B), np.int64)
    ids[where] = bad
    assert f"between 0 and {D - 1}" in refused(layer.forward, ids)
    refused(layer.forward, ids, lengths=[T] * B)


@pytest.mark.parametrize("bad", [np.uint64(2**63), np.uint64(2**64 - 1), np.uint32(2**32 - 1), np.uint32(2**31)])
def test_unsigned_ids_do_not_wrap_around(layer, bad):
    refused(layer.forward, np.full((T, B), bad))


@pytest.mark.parametrize("bad", [-2, D, 10**12])
def test_bags_out_of_range(layer, bad):
    bags = np.full((T, B, 3), -1)
    bags[T - 1, B - 1, 2] = bad
    refused(layer.forward, bags)


@pytest.mark.parametrize("bad", [-1, 9, 10**9])
@pytest.mark.parametrize("bag", [False, True])
def test_embedded_ids_out_of_range(bad, bag):
    net = rc.Network(
        rc.Recurrent("elman", input_size=D, hidden_size=H), head=rc.Softmax(K), embedding=rc.Embedding(9, D)
    )
    ids = np.full((T, B, 2) if bag else (T, B), bad if not bag or bad != -1 else -2)
    targets = np.zeros((T, B), int)
    refused(net.predict, ids)
    refused(net.loss_and_grad, ids, targets)
    refused(net.predict, np.zeros((T, B, D), np.float32))


@pytest.mark.parametrize(
    "bad",
    [
        [T] * (B - 1),
        [T] * (B + 1),
        [T, T, 0],
        [T, T, -1],
        [T, T, T + 1],
        [T, T, 10**9],
        [T, T, -(10**18)],
        [T, T, 2.5],
        [T, T, np.nan],
        [T, T, "5"],
        [[T, T, T]],
        [],
        T,
        "all",
        {"a": 1},
    ],
    ids=str,
)
def test_lengths(layer, x, bad):
    assert "length" in refused(layer.forward, x, lengths=bad)


@pytest.mark.parametrize(
    "bad",
    [
        (np.zeros((1, B, H + 1)),),
        (np.zeros((1, B + 1, H)),),
        (np.zeros((2, B, H)),),
        (np.zeros((B, H)),),
        (np.zeros(H),),
        (),
        (np.zeros((1, B, H)), np.zeros((1, B, H))),
        (None,),
        ("state",),
        (np.zeros((1, B, H), complex),),
        5,
        "state",
    ],
    ids=lambda bad: str([np.shape(s) for s in bad]) if isinstance(bad, tuple) else str(bad),
)
def test_states(layer, x, bad):
    assert "state" in refused(layer.forward, x, state=bad)
    layer.forward(x)
    assert "state" in refused(layer.backward, np.zeros((T, B, H)), dstate=bad)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((T, B, H + 1)),
        np.zeros((T, B + 1, H)),
        np.zeros((T + 1, B, H)),
        np.zeros((T, B)),
        np.zeros(()),
        np.zeros((T, B, H), complex),
        np.full((T, B, H), "x"),
        None,
        "dy",
    ],
    ids=lambda bad: str(np.shape(bad)),
)
def test_dy(layer, x, bad):
    layer.forward(x)
    refused(layer.backward, bad)


def test_a_refused_backward_adds_nothing(layer, x):
    layer.zero_grad()
    layer.forward(x)
    assert "dy must have the shape of the outputs" in refused(layer.backward, np.zeros((T, B, H + 1)))
    assert not layer.grad.any()


def test_backward_twice(layer, x):
    layer.forward(x)
    layer.backward(np.ones((T, B, H)))
    assert "forward" in refused(layer.backward, np.ones((T, B, H)))


@pytest.mark.parametrize(
    "bad",
    [np.zeros((B, D + 1)), np.zeros((B,)), np.zeros((1, B, D)), np.full(B, D), np.full(B, -1), None, "x"],
    ids=str,
)
def test_step(layer, bad):
    refused(layer.step, bad, None)


def test_step_with_a_wrong_state(layer, x):
    refused(layer.step, x[0], (np.zeros((1, B + 1, H)),))
    refused(layer.step, x[0], 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_numbers(layer, x, bad):
    """An error, or results that show it; other sequences are untouched."""
    clean, _ = layer.forward(x, training=False)
    x[2, 1, 3] = bad
    try:
        y, _ = layer.forward(x, training=False)
    except ValueError:
        return
    np.testing.assert_array_equal(y[:, [0, 2]], clean[:, [0, 2]])
    np.testing.assert_array_equal(y[:2], clean[:2])
    if np.isnan(bad):
        assert np.isnan(y[2:, 1]).all()


def test_too_large_for_single_precision(layer):
    """1e300 is no float32: an error, or infinity; no warning turned into a crash."""
    y = None
    try:
        y, _ = layer.forward(np.full((T, B, D), 1e300), training=False)
    except ERRORS:
        return
    assert y.shape == (T, B, H)


# ------------------------------------------------------------------------------------------------ losses and targets


def network(head=None, readout="every", dtype="float64", **options):
    inner = rc.Recurrent("elman", input_size=D, hidden_size=H, dtype=dtype, random_state=1, **options)
    return rc.Network(inner, head=head or rc.Softmax(K), readout=readout)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((T, B + 1), int),
        np.zeros((T + 1, B), int),
        np.zeros((B, T), int),
        np.zeros(B, int),
        np.zeros((T, B, K + 1)),
        np.full((T, B, K), -0.5),
        np.full((T, B, K), np.nan),
        np.zeros((T, B, K), int),
        np.zeros((T, B), float),
        np.full((T, B), K),
        np.full((T, B), -2),
        np.full((T, B), 10**12),
        np.full((T, B), np.nan),
        np.full((T, B), "NN"),
        None,
        "targets",
        [[0] * B] * (T - 1) + [[0]],
    ],
    ids=lambda bad: f"{type(bad).__name__}{np.shape(bad) if isinstance(bad, np.ndarray) else ''}",
)
def test_classes(x, bad):
    net = network()
    assert "target" in refused(net.loss_and_grad, x, bad)
    refused(net.train_step, x, bad, rc.SGD(learning_rate=0.1))


def test_classes_of_whole_sequences(x):
    for readout in ("last", "mean", "max"):
        net = network(readout=readout)
        refused(net.loss_and_grad, x, np.zeros((T, B), int))
        refused(net.loss_and_grad, x, np.zeros(B + 1, int))
        refused(net.loss_and_grad, x, np.full(B, K))


@pytest.mark.parametrize("head", [rc.SquaredError, rc.SigmoidCrossEntropy])
def test_values(x, head):
    net = network(head(K))
    for bad in (
        np.zeros((T, B)),
        np.zeros((T, B, K + 1)),
        np.zeros((B, K)),
        np.zeros((T, B, K), complex),
        None,
        "values",
    ):
        assert "target" in refused(net.loss_and_grad, x, bad)


@pytest.mark.parametrize("bad", [-0.5, 1.5])
def test_probabilities_outside_0_and_1(x, bad):
    net = network(rc.SigmoidCrossEntropy(K))
    assert "target" in refused(net.loss_and_grad, x, np.full((T, B, K), bad))


def test_a_refused_step_changes_no_weight(x):
    net = network()
    before = net.theta.copy()
    refused(net.train_step, x, np.full((T, B), K), rc.SGD(learning_rate=0.1))
    refused(net.train_step, x[:, :, :2], np.zeros((T, B), int), rc.SGD(learning_rate=0.1))
    with pytest.raises((AttributeError, *ERRORS)):
        net.train_step(x, np.zeros((T, B), int), "sgd please")
    np.testing.assert_array_equal(net.theta, before)
    assert np.isfinite(net.train_step(x, np.zeros((T, B), int), rc.SGD(learning_rate=0.1)))


def test_network_states(x):
    net = network()
    for bad in ((np.zeros((1, B, H + 1)),), (), 7, "state", [(np.zeros((1, B + 1, H)),)]):
        refused(net.predict, x, state=bad)
        refused(net.loss_and_grad, x, np.zeros((T, B), int), state=bad)


def test_a_carried_state_of_another_batch(x):
    net = network()
    _, state = net.predict(x, return_state=True)
    refused(net.predict, x[:, :2], state=state)


@pytest.mark.parametrize("name", ["theta", "grad"])
def test_flat_arrays_keep_their_shape(layer, name):
    """Replacing the flat array is refused, or copies into it: views must never come loose."""
    wrong = np.zeros(layer.theta.size + 1, layer.theta.dtype)
    with pytest.raises((AttributeError, *ERRORS)):
        setattr(layer, name, wrong)
    assert np.shares_memory(layer.params["layers.0.fwd.W_xh"], layer.theta)
    assert np.shares_memory(layer.grads["layers.0.fwd.W_xh"], layer.grad)


def test_named_views_cannot_be_replaced_silently(layer):
    """`params[name] = array` would leave the network computing with the old numbers."""
    name = "layers.0.fwd.b_h"
    before = layer.theta.copy()
    try:
        layer.params[name] = np.full(H, 9.0)
    except (TypeError, *ERRORS):
        return
    assert (layer.params[name] == 9.0).all()
    assert np.shares_memory(layer.params[name], layer.theta)
    layer.theta[:] = before


def test_gradcheck(x):
    refused(rc.gradcheck, network(), x, np.zeros((T, B + 1), int))


def test_a_place_for_results_is_no_place_that_is_read(layer):
    """Nor is one of another shape or precision."""
    square = rc.Recurrent("elman", D, D, dtype=layer.dtype, random_state=1)
    x = np.ones((T, B, D), layer.dtype)
    assert "share memory" in refused(square.forward, x, out=x)
    assert "share memory" in refused(square.forward, x[1:], out=x[:-1])
    wanted, _ = square.forward(x, training=False)
    for wrong in (x[:-1], x.astype(object), np.ones((T, B, D + 1), layer.dtype), "out"):
        assert "out must be" in refused(square.forward, x, out=wrong)
    square.forward(x)
    assert "share memory" in refused(square.backward, x, out=x)
    square.forward(x)
    dx = np.empty_like(x)
    assert square.backward(x, out=dx)[0] is dx
    out = np.empty_like(x)
    np.testing.assert_array_equal(square.forward(x, training=False, out=out)[0], wanted)
    assert "at least one step" in refused(square.forward, np.zeros((0, B), int))


def test_parameters_keep_their_shape_and_show_it(layer):
    name = "layers.0.fwd.b_h"
    assert f"{name} has shape ({H},), got an array of shape (2,)" in refused(layer.params.__setitem__, name, [1, 2])
    assert f"{name} ({H},)" in repr(layer.params).splitlines()


@pytest.mark.parametrize("base", [*rc.HEADS.values(), rc.heads.Head])
def test_a_head_that_is_not_a_compiled_loss(base):
    """It would be taken for one of them, its targets read as that one's."""

    class Own(base):
        name = "own"

    assert "Own" in refused(rc.Network, rc.Recurrent("elman", D, H), Own(K))


# ----------------------------------------------------------------------------------------------- attributes and pickles

FIXED = sorted({*OPTIONS} - {"n_threads"} | {"cell", "dtype", "cell_options", "plan", "width", "layout"})


@pytest.mark.parametrize("called", [False, True])
@pytest.mark.parametrize("name", [*FIXED, "zone_rates", "state_widths", "params", "grads"])
def test_a_layer_is_what_it_was_built_as(layer, name, called):
    """Sizes and options are taken for granted by compiled code, before the first call and after it."""
    if called:
        layer.forward(np.ones((T, B, D)))
    for value in (getattr(layer, name), 0, 10**6, "lstm", None):
        with pytest.raises(AttributeError):
            setattr(layer, name, value)
    if isinstance(getattr(layer, name), Mapping) and name not in ("params", "grads"):
        with pytest.raises(TypeError):
            getattr(layer, name)["h"] = 10**6


def test_what_is_fixed_cannot_be_deleted(layer):
    with pytest.raises(AttributeError, match="cell of a Recurrent is fixed when it is built: it cannot be deleted"):
        del layer.cell
    layer.note = "one's own"
    del layer.note
    assert not hasattr(layer, "note")


def test_a_layout_is_what_it_was_built_as(layer):
    for name in ("size", "starts", "shapes"):
        with pytest.raises(AttributeError):
            setattr(layer.layout, name, 10**6)
    for table in (layer.layout.starts, layer.layout.shapes):
        with pytest.raises(TypeError):
            table["layers.0.fwd.W_xh"] = 10**6


@pytest.mark.parametrize(
    "name", ["single", "layers", "head", "readout", "embedding", "skip", "dtype", "layout", "params"]
)
def test_a_network_is_what_it_was_built_as(name):
    net = network()
    for value in (getattr(net, name), 0, 10**6, None, rc.CRF(99)):
        with pytest.raises(AttributeError):
            setattr(net, name, value)
    with pytest.raises(TypeError):
        net.layers[0] = rc.Recurrent("elman", D + 1, H)


@pytest.mark.parametrize("value", [0, -1, 2.5, "many", float("nan"), 1j, [2]])
def test_threads_are_checked_when_they_are_set(layer, value, x):
    net = network()
    for made in (layer, net):
        refused(setattr, made, "n_threads", value)
    layer.n_threads = net.n_threads = 10**9
    assert layer.n_threads == net.n_threads == 64
    net.predict(x)


@pytest.mark.parametrize("name", ["dropout_seed", "dropout_step"])
@pytest.mark.parametrize("value", [-1, 2.5, "4", None, 2**63, True])
def test_dropout_counters_are_checked_when_they_are_set(layer, name, value):
    for made in (layer, network()):
        refused(setattr, made, name, value)


FORGERIES = {
    "hidden_size": 60,
    "input_size": 0,
    "num_layers": 3,
    "cell": "lstm",
    "dtype": "float64",
    "dropout": 1.5,
    "zoneout": -1,
    "truncate": -3,
    "n_threads": 0,
    "dropout_step": -1,
    "cell_options": {"proj_size": 4},
    "theta": np.zeros(3, np.float32),
    "grad": np.zeros(10**4, np.float32)[::2],
}


@pytest.mark.parametrize("name", [*FORGERIES, "nothing", "no mapping"])
def test_a_forged_pickle_of_a_layer(name, x):
    made = rc.Recurrent("elman", D, H)
    state = made.__getstate__()
    if name in FORGERIES:
        state[name] = FORGERIES[name]
    refused(rc.Recurrent.__new__(rc.Recurrent).__setstate__, {} if name == "nothing" else state if name in state else 3)
    kept = made.theta.copy()
    refused(made.__setstate__, state | {"theta": "none"})
    np.testing.assert_array_equal(made.theta, kept)  # what was there still works
    made.forward(x)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layers", []),
        ("layers", [3]),
        ("layers", [rc.Recurrent("elman", D + 1, H)]),
        ("layers", [rc.Recurrent("elman", D, H, dtype="float32")]),
        ("head", rc.Softmax(K + 1)),
        ("head", None),
        ("pooling", "some"),
        ("embedding", rc.Embedding(9, D)),
        ("skip", 5),
        ("n_threads", -1),
        ("theta", np.zeros(3)),
        ("touched", {0: np.array([0, 99])}),
        ("touched", {0: np.array([2, 1])}),
        ("touched", {7: None}),
        ("touched", {0: [1, 2]}),
        ("touched", {0: np.array([1.0, 2.0])}),
    ],
)
def test_a_forged_pickle_of_a_network(name, value):
    state = network().__getstate__() | {name: value}
    refused(rc.Network.__new__(rc.Network).__setstate__, state)


def test_a_pickled_head_is_checked_again():
    net = rc.Network(rc.Recurrent("elman", D, H), head=rc.Softmax(K, class_weight=[1.0] * K))
    state = net.__getstate__()
    state["head"] = head = copy.copy(net.head)
    object.__setattr__(head, "class_weight", (1.0,))
    refused(rc.Network.__new__(rc.Network).__setstate__, state)


def test_pickles_keep_everything_that_counts(x):
    net = rc.Network(
        rc.Recurrent("lstm", D, H, num_layers=2, dropout=0.3, zoneout=(0.1, 0.2), n_threads=3, peepholes=True),
        head=rc.Softmax(K, label_smoothing=0.1),
    )
    targets = np.zeros((T, B), int)
    net.loss_and_grad(x, targets)
    net.note = "mine"
    twin = pickle.loads(pickle.dumps(net))
    assert (twin.note, twin.n_threads, twin.dropout_step) == ("mine", 3, 1)
    np.testing.assert_array_equal(twin.grad, net.grad)
    assert twin.loss_and_grad(x, targets) == net.loss_and_grad(x, targets)
    np.testing.assert_array_equal(twin.grad, net.grad)


# ------------------------------------------------------------------------------------------------------------ processes


def test_odd_settings_in_the_environment():
    """A level or product that does not exist: an error that lists what there is, at import or at first use."""
    code = """
        import numpy as np, rnncore as rc
        rc.Recurrent("elman", input_size=2, hidden_size=2).forward(np.zeros((2, 2, 2), np.float32))
    """
    for name in ("RNNCORE_ISA", "RNNCORE_GEMM"):
        result = subprocess.run(
            [sys.executable, "-P", "-c", textwrap.dedent(code)],
            env={**os.environ, name: "abacus"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert result.returncode == 1, result.stderr
        assert name in result.stderr.strip().splitlines()[-1]
        assert "abacus" in result.stderr.strip().splitlines()[-1]


@pytest.fixture
def refused_by_command(capsys):
    """Run `rnncore` with arguments that must end in exit status 2 and one clear line, no traceback."""

    def run(*arguments):
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert len(said.strip().splitlines()[-1]) >= 20, said

    return run


CONTENTS = {
    "empty": b"",
    "blank lines only": b"\n\n \n\t\n",
    "a word without a label": b"show O\nme\n\n",
    "not text": bytes(range(256)),
    "zeros": b"\0" * 1000,
    "UTF-16": "show\tO\nme\tO\n\n".encode("utf-16"),
}


@pytest.mark.parametrize("content", CONTENTS)
def test_training_files(tmp_path, content, refused_by_command):
    path = tmp_path / "data.txt"
    path.write_bytes(CONTENTS[content])
    refused_by_command("train", path, "--out", tmp_path / "model.safetensors", "--quiet")
    assert sorted(tmp_path.iterdir()) == [path]


def test_paths_that_are_no_files(tmp_path, refused_by_command):
    out = tmp_path / "model.safetensors"
    good = tmp_path / "good.txt"
    good.write_text("show O\nnews B\n\n" * 20)
    refused_by_command("train", tmp_path, "--out", out)
    refused_by_command("train", tmp_path / "nothing.txt", "--out", out)
    refused_by_command("train", good, "--test", tmp_path, "--out", out)
    refused_by_command("train", good, "--out", tmp_path)
    refused_by_command("train", good, "--out", tmp_path / "no" / "folder" / "model.safetensors")
    refused_by_command("train", good, "--out", out, "--threads", "0")
    refused_by_command("train", good, "--out", out, "--test-fraction", "2")
    assert not out.exists()


@pytest.mark.parametrize("content", ["empty", "not text", "zeros"])
def test_model_files(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(CONTENTS[content])
    with pytest.raises(ERRORS) as caught:
        rc.load(path)
    assert "model.safetensors" in str(caught.value)
    with pytest.raises((*ERRORS, OSError)):
        rc.load(tmp_path)


def test_empty_sentences():
    tagger = rc.SequenceTagger(max_epochs=1)
    for sentences, tags in (([], []), ([[]], [[]]), ([["a"]], [["X", "Y"]]), ([["a"]], [])):
        refused(tagger.fit, sentences, tags)
    tagger.fit([["a", "b"], ["b"]] * 10, [["X", "Y"], ["Y"]] * 10)
    assert [len(tags) for tags in tagger.predict([["a"], []])] == [1, 0]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_full_disk(tmp_path):
    """A write that fails half-way: an error, the model saved before untouched, nothing left lying about."""
    code = f"""
        import os, resource, signal, sys
        import rnncore as rc
        tagger = rc.SequenceTagger(max_epochs=1, hidden_size=64)
        tagger.fit([["a", "b"], ["b"]] * 10, [["X", "Y"], ["Y"]] * 10)
        path = os.path.join({str(tmp_path)!r}, "model.safetensors")
        tagger.save(path)
        before = open(path, "rb").read()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            tagger.save(path)
        except Exception as problem:
            message = str(problem)
        else:
            sys.exit("no error")
        assert open(path, "rb").read() == before
        assert os.listdir({str(tmp_path)!r}) == ["model.safetensors"], os.listdir({str(tmp_path)!r})
        assert "model.safetensors" in message, message
    """
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("COVERAGE_PROCESS_CONFIG", None)  # what measures coverage would write, too
    result = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_references_are_not_leaked_by_errors(x):
    """An error path that keeps its arrays would fill the memory of a service."""
    net = network()
    count = sys.getrefcount(x)
    for _ in range(100):
        with pytest.raises(ERRORS):
            net.loss_and_grad(x, np.zeros((T, B + 1), int))
    assert abs(sys.getrefcount(x) - count) < 5


class Odd:
    """Something of which nothing is known."""


HUGE = 10**400
VALUES = [
    *(np.array([0.1, 2.0]), np.array(["a", "b"]), np.array([]), np.float32("inf"), np.int64(-5), np.datetime64("now")),
    *([], {}, set(), {"a": 1}, [1, 2], (1,), HUGE, -HUGE, 2**63, 2**64, math.inf, math.nan, 1e308, 1e-320, -1, 0),
    *(True, None, "x", b"x", "\0", 1j, Odd(), Odd, Fraction(1, 3), Fraction(HUGE, 3)),
]
VAGUE = ("truth value", "unhashable", "__array", "too large to convert", "object has no")
SENTENCES, TAGS = [["a", "b"], ["c"]] * 3, [["O", "B-X"], ["O"]] * 3


def parameters(made):
    return [name for name in inspect.signature(made).parameters if name != "options"]


def never_crashes(call, value):
    """It goes well, or ends in an error of ours that says something."""
    try:
        call(value)
    except (ValueError, TypeError) as error:
        assert str(error) and not any(words in str(error) for words in VAGUE), (value, error)


def made_with(make, name, **others):
    return lambda value: make(**{**others, name: value})


SETTINGS = [
    *((f"{kind}.{name}", made_with(make, name)) for kind, make in rc.OPTIMIZERS.items() for name in parameters(make)),
    *(
        (f"{kind}.{name}", made_with(make, name, **dict.fromkeys({"every", "steps"} & {*parameters(make)}, 1)))
        for kind, make in SCHEDULES.items()
        for name in parameters(make)
    ),
    *(
        (f"Recurrent.{name}", made_with(rc.Recurrent, name, cell="lstm", input_size=3, hidden_size=4))
        for name in [*parameters(rc.Recurrent), "zoneout", "peepholes", "proj_size", "variant", "layer_norm"]
    ),
    *(
        (f"{kind}.{name}", made_with(make, name, outputs=3))
        for kind, make in rc.HEADS.items()
        for name in parameters(make)
    ),
    *(
        (f"Network.{name}", lambda value, name=name: rc.Network(
            **{"layers": rc.Recurrent("elman", D, H), "head": rc.Softmax(K), name: value}
        ))
        for name in parameters(rc.Network)
    ),
    *(
        (f"SequenceTagger.{name}", lambda value, name=name: rc.SequenceTagger(
            **{"max_epochs": 1, "hidden_size": 3, name: value}
        ).fit(SENTENCES, TAGS))
        for name in parameters(rc.SequenceTagger)
        if name not in ("max_epochs", "verbose")
    ),
    ("set_num_threads", rc.set_num_threads),
    ("optimizer.step", lambda value: rc.SGD(0.1).step(value)),
    ("load_state_dict", lambda value: rc.Adam().load_state_dict(value)),
]  # fmt: skip


@pytest.mark.parametrize("call", [call for _, call in SETTINGS], ids=[name for name, _ in SETTINGS])
@pytest.mark.filterwarnings("ignore")
def test_settings_of_every_kind(call):
    try:
        for value in VALUES:
            never_crashes(call, value)
    finally:
        rc.set_num_threads(None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}-{value!r:.20}")
def test_data_of_every_kind(x, value):
    tagger = rc.SequenceTagger(max_epochs=1, hidden_size=3).fit(SENTENCES, TAGS)

    def learn(sentences, tags, **more):
        rc.SequenceTagger(max_epochs=1, hidden_size=3).fit(sentences, tags, **more)

    for call in (
        lambda value: learn(value, TAGS),
        lambda value: learn([value, ["a"]], [["O"], ["O"]]),
        lambda value: learn([[value], ["a"]], [["O"], ["O"]]),
        lambda value: learn([["a"], [value]], [["O"], ["O"]]),
        lambda value: learn(SENTENCES, value),
        lambda value: learn([["a"], ["a"]], [value, ["O"]]),
        lambda value: learn([["a"], ["a"]], [[value], ["O"]]),
        lambda value: learn(SENTENCES, TAGS, sample_weight=value),
        lambda value: learn(SENTENCES, TAGS, validation_data=value),
        lambda value: learn(SENTENCES, TAGS, checkpoint=os.devnull, checkpoint_every=value),
        tagger.predict,
        lambda value: tagger.predict([value]),
        lambda value: tagger.predict_proba([[value]]),
        lambda value: tagger.knows([value]),
        lambda value: tagger.score(SENTENCES, [[value, value], [value]] * 3),
        lambda value: rc.SequenceTagger(max_epochs=1).partial_fit(SENTENCES, TAGS, classes=value),
    ):
        never_crashes(call, value)
    net = network()
    targets = np.zeros((T, B), int)
    for call in (
        net.predict,
        lambda value: net.predict(x, lengths=value),
        lambda value: net.predict(x, state=value),
        lambda value: net.loss_and_grad(x, value),
        lambda value: net.loss_and_grad(x, targets, sample_weight=value),
    ):
        never_crashes(call, value)


def test_arrays_of_other_numbers(layer):
    """What NumPy does not compute with is told apart from what is ragged."""
    numbers = np.zeros((T, B, D), object)
    message = refused(layer.forward, numbers)
    assert "objects (int first)" in message and "astype('float32')" in message and "ragged" not in message
    assert "ragged" in refused(layer.forward, [[[1.0] * D] * B, [[1.0] * D]])
    assert "complex128" in refused(layer.forward, np.zeros((T, B, D), complex))


def test_bfloat16(layer):
    message = refused(layer.forward, np.zeros((T, B, D), peer("ml_dtypes").bfloat16))
    assert "bfloat16" in message and "astype('float32')" in message
    assert "BFloat16" in refused(layer.forward, peer("torch").zeros((T, B, D), dtype=peer("torch").bfloat16))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("head", [rc.SquaredError(K), rc.SigmoidCrossEntropy(K)])
def test_targets_that_are_no_numbers(x, head, bad):
    net = network(head, dtype="float32")
    targets = np.full((T, B, K), 0.5)
    targets[2, 1, 0] = bad
    message = refused(net.loss_and_grad, x.astype(np.float32), targets)
    assert "step 2 of sequence 1" in message
    assert np.isfinite(net.loss_and_grad(x.astype(np.float32), targets, lengths=[T, 2, T]))
    net = network(head, readout="last", dtype="float32")
    assert "sequence 1" in refused(net.loss_and_grad, x.astype(np.float32), targets[2])


@pytest.mark.parametrize("weight", [1e31, 1e308, np.finfo(np.float64).max, np.inf, np.nan, -1.0])
def test_weights_near_the_largest_number(x, weight):
    net = network(dtype="float32")
    assert "1e+30" in refused(net.loss_and_grad, x, np.zeros((T, B), int), sample_weight=[1.0, weight, 1.0])
    for head in (rc.Softmax, rc.CRF):
        assert "1e+30" in refused(head, 3, class_weight=[1.0, weight, 1.0])
    loss = network(rc.Softmax(K, class_weight=[1e30] * K), dtype="float32").loss_and_grad(x, np.zeros((T, B), int))
    assert loss == pytest.approx(net.loss_and_grad(x, np.zeros((T, B), int)), rel=1e-5)
    assert np.isfinite(net.loss_and_grad(x, np.zeros((T, B), int), sample_weight=[1e30] * B))


def test_lengths_of_an_empty_batch(layer):
    assert "at least one" in refused(layer.forward, np.zeros((T, 0, D)), lengths=np.zeros(0, int))
