"""Sessions: the bits of forward and predict, step by step; states, shared weights, clear errors."""

import pickle
import threading

import numpy as np
import pytest
from twins import assert_same_bits

import rnncore as rc

pytestmark = pytest.mark.kernels

T, B, D, H = 6, 3, 5, 4
OPTIONS = [{}, {"num_layers": 2}, {"zoneout": 0.3}, {"dropout": 0.2, "recurrent_dropout": 0.3, "num_layers": 2}]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def same(a, b):
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["dense", "ids", "bags"])
@pytest.mark.parametrize("cell", rc.CELLS)
def test_steps_are_the_forward_pass(rng, cell, kind, dtype):
    for options in OPTIONS:
        if cell == "jordan" and "zoneout" in options:
            continue
        layer = rc.Recurrent(cell, D, H, dtype=dtype, random_state=1, **options)
        x = {
            "dense": rng.standard_normal((T, B, D)).astype(dtype),
            "ids": rng.integers(0, D, (T, B)),
            "bags": rng.integers(-1, D, (T, B, 2)),
        }[kind]
        y, state = layer.forward(x, training=False)
        session, out = layer.session(B), np.empty((B, H), dtype)
        steps = []
        for t, x_t in enumerate(x):
            got = session.step(x_t, out=out if t % 2 else None)
            assert (got is out) == bool(t % 2)
            steps.append(got.copy())
        same(steps, y)
        for ours, theirs in zip(session.state, state, strict=True):
            same(ours, theirs)


@pytest.mark.parametrize("cell", rc.CELLS)
def test_whole_sequences_go_on_from_the_state(rng, cell):
    layer = rc.Recurrent(cell, D, H, num_layers=2, random_state=1)
    x = rng.standard_normal((T, B, D)).astype("float32")
    whole, state = layer.forward(x, training=False)
    session = layer.session(B)
    out = np.full((2, B, H), np.nan, "float32")
    same(np.concatenate([session.run(x[:2], out=out), session.step(x[2])[None], session.run(x[3:])]), whole)
    same(session.state[0], state[0])
    session.reset()
    lengths = [2, T, 4]
    y, state = layer.forward(x, lengths=lengths, training=False)
    same(session.run(x, lengths=lengths), y)
    same(session.state[0], state[0])


def test_a_network_s_session_predicts(rng):
    x, ids = rng.standard_normal((T, B, D)).astype("float32"), rng.integers(0, 9, (T, B))
    features = rng.integers(-1, 7, (T, B, 2))
    plain = rc.Network(rc.Recurrent("lstm", D, H), head=rc.Softmax(3))
    embedded = rc.Network(
        [rc.Recurrent("gru", 6, H), rc.Recurrent("elman", H, 2)], rc.Softmax(3), embedding=rc.Embedding(9, 6)
    )
    sparse = rc.Network(rc.Recurrent("elman", 9, H), head=rc.SquaredError(2), skip=7)
    for net, given in ((plain, x), (embedded, ids), (sparse, (ids, features))):
        session = net.session(B)
        wanted, state = net.predict(given, return_state=True)
        parts = list(zip(*given, strict=True)) if isinstance(given, tuple) else list(given)
        same([session.step(part) for part in parts], wanted)
        ours = session.state if isinstance(state, list) else [session.state]
        for one, other in zip(ours, state if isinstance(state, list) else [state], strict=True):
            same(one[0], other[0])
        session.reset()
        same(session.run(given), wanted)


def test_a_reverse_direction_starts_anew(rng):
    layer = rc.Recurrent("gru", D, H, bidirectional=True)
    x = rng.standard_normal((T, B, D)).astype("float32")
    session = layer.session(B)
    for _ in range(2):
        same(session.run(x), layer.forward(x, training=False)[0])
    with pytest.raises(ValueError, match="forward in time"):
        session.step(x[0])
    with pytest.raises(ValueError, match="carries no state"):
        session.state  # noqa: B018


def test_states_are_set_read_and_reset(rng):
    layer = rc.Recurrent("lstm", D, H, num_layers=2)
    x = rng.standard_normal((T, B, D)).astype("float32")
    session = layer.session(B)
    assert not any(part.any() for part in session.state)
    session.run(x)
    kept = session.state
    session.step(x[0])
    session.state = kept
    other = layer.session(B)
    other.state = kept
    same(session.step(x[0]), other.step(x[0]))
    session.reset(rows=[1])
    other.reset(rows=np.array([False, True, False]))
    for ours, theirs, before in zip(session.state, other.state, kept, strict=True):
        assert not ours[:, 1].any() and ours[:, [0, 2]].any()
        same(ours, theirs)
        assert before[:, 1].any()  # what was read stays the caller's
    session.state = None
    same(session.run(x), layer.forward(x, training=False)[0])
    for bad in ((np.zeros((2, B, H + 1)),) * 2, "state", (np.zeros((2, B, H)),)):
        with pytest.raises(ValueError, match="state"):
            session.state = bad
    for bad in ([B], [-1], [0.5], "all"):
        with pytest.raises(ValueError, match="rows must be"):
            session.reset(rows=bad)


def test_a_network_s_state_is_set(rng):
    layers = [rc.Recurrent("lstm", D, H), rc.Recurrent("gru", H, 2)]
    x, net = rng.standard_normal((T, B, D)).astype("float32"), rc.Network(layers, head=rc.Softmax(3))
    session, other = net.session(B), net.session(B)
    session.run(x)
    other.state = session.state
    same(other.step(x[0]), session.step(x[0]))
    with pytest.raises(ValueError, match="list of 2 tuples"):
        other.state = session.state[:1]


def test_ids_and_numbers_in_one_stream(rng):
    """A layer that has read ids reads one-hot rows, too, on the state where it stands."""
    layer = rc.Recurrent("gru", D, H)
    ids = rng.integers(0, D, (T, B))
    rows = np.eye(D, dtype="float32")[ids]
    session = layer.session(B)
    found = [session.step(ids[0]), session.step(rows[1]), session.step(ids[2])]
    np.testing.assert_allclose(found, layer.forward(ids, training=False)[0][:3], rtol=1e-5, atol=1e-6)


def test_weights_are_packed_once_and_shared(rng):
    layer = rc.Recurrent("gru", D, H)
    x = rng.standard_normal((T, B, D)).astype("float32")
    one, two = layer.session(B), layer.session(B)
    assert one._snapshot is two._snapshot
    before = layer.forward(x, training=False)[0]
    layer.theta[...] *= 1.5
    same(one.run(x), before)  # as they were
    three = layer.session(B)
    assert three._snapshot is not one._snapshot
    one.refresh()
    assert one._snapshot is three._snapshot
    one.reset()
    after = layer.forward(x, training=False)[0]
    assert not np.array_equal(after, before)
    same(one.run(x), after)
    same(two.run(x[: 0 + T]), rc_run(two, x))


def rc_run(session, x):
    session.reset()
    return session.run(x)


def test_step_of_a_layer_sees_every_change_of_its_weights(rng):
    layer = rc.Recurrent("lstm", D, H)
    x = rng.standard_normal((2, B, D)).astype("float32")
    _, state = layer.step(x[0])
    layer.params["layers.0.fwd.W_hh"][0, 0] += 1
    y, _ = layer.step(x[1], state)
    same(y, layer.forward(x[1:], state, training=False)[0][0])


def test_what_does_not_fit_is_refused(rng):
    layer = rc.Recurrent("gru", D, H)
    session, x = layer.session(B), rng.standard_normal((T, B, D)).astype("float32")
    for bad in (x[0, :2], x[0, :, :4], x, np.zeros((B,)), np.full(B, D), "x"):
        with pytest.raises(ValueError):
            session.step(bad)
    for bad in (np.empty((B, H)), np.empty((B, H + 1), "float32"), np.empty((H, B), "float32").T, "out"):
        with pytest.raises(ValueError, match="out must be"):
            session.step(x[0], out=bad)
    frozen = np.empty((B, H), "float32")
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="out must be"):
        session.step(x[0], out=frozen)
    with pytest.raises(ValueError, match="side by side"):
        session.run(x[:, :2])
    for options in ({"batch_size": 0}, {"batch_size": 2.5}, {"weight_dtype": "int4"}):
        with pytest.raises(ValueError):
            layer.session(**options)
    with pytest.raises(TypeError, match="pickle the layer or network, and its state"):
        pickle.dumps(session)
    both = rc.Recurrent("gru", D, H, bidirectional=True).session(B)
    with pytest.raises(ValueError, match="a carried state needs layers that run forward"):
        both.state = (np.zeros((2, B, H)),)
    with pytest.raises(ValueError, match="every step"):
        rc.Network(rc.Recurrent("gru", D, H), head=rc.Softmax(2), readout="last").session()
    same(session.step(x[0]), layer.forward(x[:1], training=False)[0][0])  # nothing of that left a trace


def test_input_is_converted_as_elsewhere(rng):
    layer = rc.Recurrent("gru", D, H)
    session, x = layer.session(B), rng.standard_normal((T, B, D))
    wanted = layer.forward(x, training=False)[0]
    same(session.step(x[0]), wanted[0])
    same(session.step(np.asfortranarray(x[1].astype("float32"))), wanted[1])
    same(session.step(x[2].tolist()), wanted[2])


def test_one_session_is_one_stream_and_many_run_at_once(rng):
    layer = rc.Recurrent("lstm", 64, 64, n_threads=2)
    x = rng.standard_normal((200, 1, 64)).astype("float32")
    wanted = layer.forward(x, training=False)[0]
    sessions, found = [layer.session() for _ in range(8)], [None] * 8

    def stream(n):
        found[n] = [sessions[n].step(x_t) for x_t in x]

    threads = [threading.Thread(target=stream, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for steps in found:
        assert_same_bits(np.array(steps), wanted)
