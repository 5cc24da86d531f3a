"""Arrays of other kinds than NumPy's own of floats: read as what they are, or refused with what to do."""

import warnings

import numpy as np
import pytest

import rnncore as rc
from rnncore import _checks

X = np.random.default_rng(0).standard_normal((4, 2, 3)).astype("float32")
TARGETS = np.array([[0, 1], [1, 0], [1, 1], [0, 0]])
HUGE = np.uint64(2**64 - 1)  # -1, where it wraps


class OnlyDLPack:
    """An array of another library, which NumPy can read by DLPack alone."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class OnlyInterface:
    def __init__(self, array):
        self.kept, self.__array_interface__ = array, array.__array_interface__


class Elsewhere(OnlyDLPack):
    def __dlpack__(self, **options):
        raise BufferError("the array is on a device that is not the CPU")


def network(**options):
    return rc.Network(rc.Recurrent("gru", 3, 4), head=rc.Softmax(2), **options)


@pytest.mark.parametrize("kind", [OnlyDLPack, OnlyInterface])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_other_libraries_are_read(kind, order):
    layer = rc.Recurrent("gru", 3, 4)
    x, state = np.asarray(X, order=order), np.ones((1, 2, 4), "float32")
    y, final = layer.forward(X, state=(state,), lengths=np.array([4, 2]))
    got, got_final = layer.forward(kind(x), state=(kind(state),), lengths=kind(np.array([4, 2])))
    np.testing.assert_array_equal(got, y)
    dx, _ = layer.backward(kind(np.asarray(np.ones_like(y), order=order)), (kind(got_final[0].copy()),))
    layer.forward(X, state=(state,), lengths=[4, 2])
    np.testing.assert_array_equal(dx, layer.backward(np.ones_like(y), final)[0])
    np.testing.assert_array_equal(layer.step(kind(X[0]))[0], layer.step(X[0])[0])
    net = network(skip=5)
    ids, weights = np.arange(16).reshape(4, 2, 2) % 5, np.array([1.0, 2.0])
    wanted = net.loss_and_grad((X, ids), TARGETS, sample_weight=weights)
    assert net.loss_and_grad((kind(x), kind(ids)), kind(TARGETS), sample_weight=kind(weights)) == wanted
    assert rc.gradcheck(layer, kind(x), samples=2)["x"] < 1e-4


def test_what_dlpack_cannot_bring_is_refused_in_its_words():
    with pytest.raises(
        ValueError, match=r"x must be an array of numbers; NumPy cannot read it: the array is on a device"
    ):
        rc.Recurrent("gru", 3, 4).forward(Elsewhere(X))


DOORS = {
    "x": lambda net, a: net.predict(a(X)),
    "targets": lambda net, a: net.loss_and_grad(X, a(TARGETS)),
    "lengths": lambda net, a: net.predict(X, lengths=a([4, 2])),
    "sample_weight": lambda net, a: net.loss_and_grad(X, TARGETS, sample_weight=a([1.0, 2.0])),
    "state h": lambda net, a: net.predict(X, state=(a(np.ones((1, 2, 4))),)),
    "dy": lambda net, a: (net.layers[0].forward(X), net.layers[0].backward(a(np.ones((4, 2, 4))))),
    "x_t": lambda net, a: net.layers[0].step(a(X[0])),
}


@pytest.mark.parametrize("door", DOORS)
def test_masked_arrays_are_refused_where_something_is_masked(door):
    def masked(values):
        found = np.ma.array(values)
        found[0] = np.ma.masked
        return found

    net = network()
    DOORS[door](net, np.ma.array)  # nothing is masked: its numbers are meant
    with pytest.raises(ValueError, match=rf"^{door} is a masked array.*\.filled\(0\).*lengths="):
        DOORS[door](net, masked)


def test_results_do_not_go_into_masked_arrays():
    with pytest.raises(ValueError, match="out must be"):
        network().predict(X, out=np.ma.zeros((4, 2, 2), "float32"))


@pytest.mark.parametrize("lengths", [None, [4, 4]])
def test_whole_numbers_beyond_int64_do_not_wrap(lengths):
    """As -1 they would be nothing in a bag, unknown as a target, and no feature."""
    net, layer = network(skip=5), rc.Recurrent("elman", 3, 4)
    bags, targets = np.zeros((4, 2, 2), np.uint64), TARGETS.astype(np.uint64)
    features = np.zeros((4, 2, 1), np.uint64)
    assert np.isfinite(net.loss_and_grad((X, features), targets, lengths=lengths))
    layer.forward(bags, lengths=lengths)
    bags[1, 1, 0] = targets[1, 1] = features[1, 1, 0] = HUGE
    with pytest.raises(ValueError, match="ids must lie between -1 "):
        layer.forward(bags, lengths=lengths)
    with pytest.raises(ValueError, match="ids must lie between 0 and 2"):
        layer.forward(bags[:, :, 0], lengths=lengths)
    with pytest.raises(ValueError, match="targets must lie between 0 and 1"):
        net.loss_and_grad((X, np.zeros((4, 2, 1), int)), targets, lengths=lengths)
    with pytest.raises(ValueError, match="ids must lie between -1 "):
        net.predict((X, features), lengths=lengths)
    with pytest.raises(ValueError, match="lengths must lie between 1 and T"):
        net.predict((X, np.zeros((4, 2, 1), int)), lengths=np.array([HUGE, HUGE]))
    layer.forward(bags, lengths=[4, 1])  # past an end nothing counts


def test_whole_numbers_in_the_shape_of_numbers_say_that_they_are_bags():
    one_hot = np.eye(3, dtype=int)[np.array([[0, 1], [2, 2], [1, 0], [0, 0]])]
    layer = rc.Recurrent("elman", 3, 4)
    with pytest.warns(
        UserWarning, match=r"shape of numbers, \(4, 2, 3\).*bags of ids; for numbers pass floats"
    ) as seen:
        y, _ = layer.forward(one_hot)
    assert seen[0].filename == __file__
    with pytest.warns(UserWarning, match="bags of ids"):
        network().predict(one_hot)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(layer.forward(np.pad(one_hot, [(0, 0)] * 2 + [(0, 1)], constant_values=-1))[0], y)
        layer.forward(one_hot[:, :, :2])
        layer.forward(one_hot.astype("float32"))
    with pytest.raises(ValueError, match=r"got values from 0 to 5; whole numbers of three dimensions are read as bags"):
        layer.forward(one_hot[:, :, :2] * 5)


def test_a_step_writes_where_it_is_told():
    layer = rc.Recurrent("lstm", 3, 4)
    wanted, (h, _) = layer.step(X[0])
    out = np.full((2, 4), np.nan, "float32")
    y, (again, _) = layer.step(X[0], out=out)
    assert y is out
    np.testing.assert_array_equal(out, wanted)
    np.testing.assert_array_equal(again, h)
    with pytest.raises(ValueError, match="out must be a writeable, C-contiguous array"):
        layer.step(X[0], out=out.astype("float64"))


def test_the_door_is_as_quick_as_before_for_plain_arrays():
    """The array itself comes out: nothing is copied."""
    assert _checks.array(X, "x") is X
    ids = np.zeros((4, 2), np.int64)
    assert _checks.ids(ids, 3, None) is ids


def test_what_is_not_finite_is_found_in_arrays_of_other_libraries():
    x = X.copy()
    x[2, 1, 0] = np.nan
    with pytest.raises(rc.NonFiniteError) as caught:
        network().train_step(OnlyDLPack(x), OnlyDLPack(TARGETS), rc.SGD())
    assert (caught.value.what, caught.value.sequence, caught.value.step) == ("x", 1, 2)


def test_learning_on_streams_refuses_masks():
    net = rc.Network(rc.Recurrent("elman", 3, 4), head=rc.SquaredError(1))
    masked = np.ma.array(np.ones(3), mask=[1, 0, 0])
    with pytest.raises(ValueError, match="x_t is a masked array"):
        rc.EKF(net).step(masked)
