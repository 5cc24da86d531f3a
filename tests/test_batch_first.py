"""``batch_first``: the same numbers to the bit, with sequences before steps; states stay as they are."""

import copy
import pickle

import numpy as np
import pytest

import rnncore as rc

T, B, D = 5, 3, 4
LENGTHS = [5, 2, 4]
RNG = np.random.default_rng(0)
X = RNG.standard_normal((T, B, D)).astype("float32")
IDS = RNG.integers(0, D, (T, B))
BAGS = RNG.integers(-1, D, (T, B, 2))


def turned(array):
    return None if array is None else np.swapaxes(array, 0, 1)


def equal(batch_first, time_first):
    assert batch_first.flags.c_contiguous and batch_first.flags.writeable and batch_first.dtype == time_first.dtype
    np.testing.assert_array_equal(batch_first, turned(time_first))


def layers(cell="lstm", **options):
    return [rc.Recurrent(cell, D, 6, batch_first=flag, dropout=0.3, num_layers=2, **options) for flag in (True, False)]


@pytest.mark.parametrize("x", [X, IDS, BAGS], ids=["dense", "ids", "bags"])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("into", [False, True])
def test_a_layer(x, lengths, into):
    mine, plain = layers(bidirectional=True)
    state = tuple(RNG.standard_normal((2, 4, B, 6)).astype("float32"))
    out = np.full((B, T, 12), np.nan, "float32") if into else None
    y, final = mine.forward(turned(x), state, lengths, out=out)
    wanted, wanted_final = plain.forward(x, state, lengths)
    equal(y, wanted)
    assert out is None or y is out
    np.testing.assert_array_equal(final, wanted_final)
    dy = RNG.standard_normal((T, B, 12)).astype("float32")
    out = np.full((B, T, D), np.nan, "float32") if into and x is X else None
    dx, dstate = mine.backward(turned(dy), final, out=out)
    wanted, wanted_state = plain.backward(dy, wanted_final)
    assert dx is None if x is not X else out is None or dx is out
    if x is X:
        equal(dx, wanted)
    np.testing.assert_array_equal(dstate, wanted_state)
    np.testing.assert_array_equal(mine.grad, plain.grad)
    found, wanted = (layer.activations(turned(x) if layer is mine else x, lengths=lengths) for layer in (mine, plain))
    for name in wanted:
        equal(found[name], wanted[name])


def test_a_layer_s_steps_sessions_and_diagnostics():
    mine, plain = (rc.Recurrent("gru", D, 6, batch_first=flag) for flag in (True, False))
    np.testing.assert_array_equal(mine.step(X[0])[0], plain.step(X[0])[0])
    session, other = mine.session(B), plain.session(B)
    out = np.empty((B, T, 6), "float32")
    assert session.run(turned(X), LENGTHS, out=out) is out
    equal(out, other.run(X, LENGTHS))
    equal(session.run(turned(IDS)), other.run(IDS))
    np.testing.assert_array_equal(session.step(X[0]), other.step(X[0]))
    np.testing.assert_array_equal(session.state, other.state)
    equal(rc.state_jacobian_norms(mine, turned(X)), rc.state_jacobian_norms(plain, X))
    state = (RNG.standard_normal((1, B, 6)),)
    assert max(rc.gradcheck(mine, turned(X), lengths=LENGTHS, state=state).values()) < 1e-5


def test_feedback_of_a_layer():
    mine, plain = (rc.Recurrent("jordan", D, 6, outputs=2, batch_first=flag) for flag in (True, False))
    given = RNG.standard_normal((T, B, 2))
    equal(mine.forward(turned(X), feedback=turned(given))[0], plain.forward(X, feedback=given)[0])


HEADS = {
    "softmax": (rc.Softmax(3), RNG.integers(-1, 3, (T, B))),
    "crf": (rc.CRF(3), RNG.integers(-1, 3, (T, B))),
    "squared": (rc.SquaredError(2), RNG.standard_normal((T, B, 2))),
    "sigmoid": (rc.SigmoidCrossEntropy(2), RNG.random((T, B, 2))),
}


def networks(head="softmax", **options):
    made = []
    for flag in (True, False):
        layer = rc.Recurrent("jordan", D, 6, outputs=5, num_layers=2)
        made.append(rc.Network(layer, HEADS[head][0], batch_first=flag, **options))
    return made


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_a_network(head, lengths):
    mine, plain = networks(head, skip=7)
    targets, ids, values = HEADS[head][1], RNG.integers(-1, 7, (T, B, 3)), RNG.standard_normal((T, B, 3))
    feedback, opts = RNG.standard_normal((T, B, 5)), [rc.Adam(0.1), rc.Adam(0.1)]
    x, x_turned = (X, ids, values), tuple(map(turned, (X, ids, values)))
    options = {"lengths": lengths, "sample_weight": [1.0, 0.5, 2.0]}
    for _ in range(2):
        loss = mine.train_step(x_turned, turned(targets), opts[0], feedback=turned(feedback), **options)
        assert loss == plain.train_step(x, targets, opts[1], feedback=feedback, **options)
    np.testing.assert_array_equal(mine.theta, plain.theta)
    np.testing.assert_array_equal(mine.state, plain.state)
    found, state = mine.predict(x_turned, lengths, return_state=True)
    wanted, wanted_state = plain.predict(x, lengths, return_state=True)
    equal(found, wanted)
    np.testing.assert_array_equal(state, wanted_state)
    out = np.empty_like(found)
    assert mine.predict(x_turned, lengths, out=out) is out
    equal(out, wanted)
    equal(mine.session(B).run(x_turned, lengths), wanted)
    step = tuple(part[0] for part in x)
    np.testing.assert_array_equal(mine.session(B).step(step), plain.session(B).step(step))
    for name, array in plain.activations(x, lengths).items():
        equal(mine.activations(x_turned, lengths)[name], array)
    if head in ("softmax", "crf"):
        (paths, scores), (wanted, wanted_scores) = mine.decode(x_turned, lengths), plain.decode(x, lengths)
        equal(paths, wanted)
        np.testing.assert_array_equal(scores, wanted_scores)
    if head == "crf":
        paths, _ = mine.decode(x_turned, lengths, top=3)
        np.testing.assert_array_equal(paths, plain.decode(x, lengths, top=3)[0].swapaxes(1, 2))
    assert max(rc.gradcheck(mine, x_turned, turned(targets), lengths, samples=3).values()) < 1e-5


@pytest.mark.parametrize("readout", ["last", "mean", "max"])
def test_a_network_with_one_output_for_each_sequence(readout):
    mine, plain = networks(readout=readout)
    targets = np.array([0, 2, 1])
    assert mine.loss_and_grad(turned(X), targets, LENGTHS) == plain.loss_and_grad(X, targets, LENGTHS)
    out = np.empty((B, 3), "float32")
    np.testing.assert_array_equal(mine.predict(turned(X), LENGTHS, out=out), plain.predict(X, LENGTHS))
    np.testing.assert_array_equal(mine.decode(turned(X))[0], plain.decode(X)[0])


def test_embedded_ids_and_curvature():
    nets = []
    for flag in (True, False):
        layer = rc.Recurrent("elman", 3, 6)
        nets.append(rc.Network(layer, rc.Softmax(3), embedding=rc.Embedding(D, 3), batch_first=flag))
    targets = HEADS["softmax"][1]
    losses = [net.loss_and_grad(f(IDS), f(targets)) for net, f in zip(nets, (turned, np.asarray), strict=True)]
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(nets[0].curvature(), nets[1].curvature())


def test_what_is_not_finite_is_named_alike():
    x = X.copy()
    x[3, 1, 0] = np.inf
    for net, given, targets in zip(networks(), (turned(x), x), (IDS.T % 3, IDS % 3), strict=True):
        with pytest.raises(rc.NonFiniteError) as caught:
            net.train_step(given, targets, rc.SGD())
        assert (caught.value.what, caught.value.sequence, caught.value.step) == ("x", 1, 3)
        net.params["head.b_y"][...] = 3e38  # scores overflow: found by running parts of the batch
        net.params["head.W_hy"][...] = 3e38
        with pytest.raises(rc.NonFiniteError):
            net.train_step(X if given is x else turned(X), targets, rc.SGD())


def test_it_is_kept(tmp_path):
    net = networks()[0]
    net.save(tmp_path / "net")
    layer = rc.Recurrent("gru", D, 6, batch_first=True)
    layer.save(tmp_path / "layer")
    for made, name in ((net, "net"), (layer, "layer")):
        twins = [copy.copy(made), made.copy("float64"), pickle.loads(pickle.dumps(made)), rc.load(tmp_path / name)]
        assert [twin.batch_first for twin in twins] == [True] * 4
    with pytest.raises(AttributeError, match="batch_first of a Network is fixed"):
        net.batch_first = False


def test_pickles_from_before_it_was_there_are_read():
    layer, net = rc.Recurrent("gru", D, 6), networks()[1]
    for made in (layer, net):
        state = made.__getstate__()
        del state["batch_first"]
        twin = object.__new__(type(made))
        twin.__setstate__(state)
        assert twin.batch_first is False


def test_layers_of_a_network_run_time_first():
    with pytest.raises(ValueError, match="give batch_first=True to the Network"):
        rc.Network(rc.Recurrent("gru", D, 6, batch_first=True), head=rc.Softmax(2))


def test_what_does_not_fit_is_refused_before_anything_is_done():
    layer, net = rc.Recurrent("gru", D, 6, batch_first=True), networks()[0]
    for out in (np.empty((T, B, 6), "float32"), np.empty((B, T, 6))):
        with pytest.raises(ValueError, match=r"out must be .*\(3, 5, 6\)"):
            layer.forward(turned(X), out=out)
    assert layer.dropout_step == 0
    layer.forward(turned(X))
    with pytest.raises(ValueError, match=r"out must be .*\(3, 5, 4\)"):
        layer.backward(np.ones((B, T, 6)), out=np.empty((T, B, D), "float32"))
    assert layer.backward(np.ones((B, T, 6)))[0].shape == (B, T, D)
    for wrong in (X[:, :, :1], X[0, 0], 3.0, None):
        with pytest.raises(ValueError, match="x must"):
            layer.forward(wrong)
        with pytest.raises(ValueError, match="x must"):
            net.predict(wrong)
    with pytest.raises(ValueError, match="targets must have shape"):
        net.loss_and_grad(turned(X), IDS)
