"""Sessions: the bits of forward and predict, step by step; states, shared weights, clear errors."""

import pickle
import threading

import numpy as np
import pytest
from twins import assert_same_bits

import rnncore as rc
from rnncore.nn.records import record

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
        if "zoneout" in options and not record(cell).zoned:
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


# ------------------------------------------------------------------------------------------- several heads and segments

SEGMENTS = {
    "word": rc.Embedding(7, 3),
    "numbers": rc.Numbers(2),
    "vector": rc.SequenceVector(2),
    "letters": rc.Letters(6, 2, cell="gru"),
}


class Doubled(rc.CustomHead):
    def loss_and_grad(self, scores, targets, lengths):
        return 0.0, 0 * scores

    def predict(self, scores):
        return 2 * scores


HEADS = {
    "slots": rc.CRF(3),
    "each": rc.SigmoidCrossEntropy(2),
    "own": Doubled(2),
    "last": rc.SquaredError(2, pooling="last"),
    "mean": rc.SquaredError(H, pooling="mean", project=False),
    "max": rc.Softmax(3, pooling="max"),
    "intent": rc.Softmax(4, pooling="attention"),
}
ROUNDED = ("mean", "intent")  # sums in another order


def of_parts(inputs=SEGMENTS, heads=HEADS, dtype="float32", batch_first=False, skip=0, **options):
    widths = [part.width for part in (inputs.values() if isinstance(inputs, dict) else inputs)]
    layer = rc.Recurrent("gru", sum(widths), H, dtype=dtype, **options)
    net = rc.Network(layer, heads=heads, inputs=inputs, batch_first=batch_first, skip=skip)
    net.theta[...] = np.random.default_rng(2).standard_normal(net.theta.size)
    return net


def segments(rng, steps=T):
    letters = rng.integers(0, 6, (steps, B, 4))
    letters[np.arange(4) >= rng.integers(0, 5, (steps, B, 1))] = -1
    return {
        "word": rng.integers(0, 7, (steps, B)),
        "numbers": rng.standard_normal((steps, B, 2)),
        "vector": rng.standard_normal((B, 2)),
        "letters": letters,
    }


def cut(x, steps):
    return {name: array if name == "vector" else array[steps] for name, array in x.items()}


def all_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, one in wanted.items():
        assert_same_bits(found[name], one)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "zoneout": 0.2}, {"bidirectional": True}, {"reverse": True}])
def test_runs_of_parts_are_predictions(rng, options, dtype):
    net = of_parts(dtype=dtype, **options)
    x, lengths = segments(rng), np.array([4, T, 1])
    session = net.session(B)
    all_same(session.run(x, lengths), net.predict(x, lengths))
    session.reset()
    out = {name: np.full_like(one, np.nan) for name, one in net.predict(x).items() if name in ("slots", "intent")}
    found = session.run(x, out=out)
    all_same(found, net.predict(x))
    assert found["slots"] is out["slots"] and found["intent"] is out["intent"]
    if not options.get("bidirectional") and not options.get("reverse"):
        same(session.state[0], net.predict(x, return_state=True)[1][0])


@pytest.mark.parametrize("dtype, near", [("float32", 2e-6), ("float64", 1e-14)])
def test_steps_pool_what_came_until_now(rng, dtype, near):
    net = of_parts(dtype=dtype)
    x = segments(rng)
    session = net.session(B)
    for t in range(T):
        found, wanted = session.step(cut(x, t)), net.predict(cut(x, slice(0, t + 1)))
        for name, one in wanted.items():
            one = one[t] if one.ndim == 3 and name not in ("slots",) else one
            if name == "slots":  # of this step alone: what comes later is not known
                continue
            if name in ROUNDED:
                np.testing.assert_allclose(found[name], one, rtol=near, atol=near, err_msg=name)
            else:
                assert_same_bits(found[name], one)
        assert found["slots"].shape == (B, 3)
        np.testing.assert_allclose(found["slots"].sum(axis=1), 1, rtol=1e-6)


def test_runs_pool_on_and_rows_begin_anew(rng):
    net = of_parts()
    x, lengths = segments(rng), np.array([2, 3, 1])
    session = net.session(B)
    session.run(cut(x, slice(0, 3)), lengths)
    session.reset(rows=[1])
    found = session.run(cut(x, slice(3, 6)), [3, 2, 1])
    for b, taken in enumerate(([0, 1, 3, 4, 5], [3, 4], [0, 3])):
        alone = {name: array[b : b + 1] if name == "vector" else array[taken, b : b + 1] for name, array in x.items()}
        wanted = net.predict(alone)
        for name in ("last", "mean", "max", "intent"):
            np.testing.assert_allclose(found[name][b], wanted[name][0], rtol=3e-6, atol=3e-6)
    state = session.state
    session.state = state  # a state says nothing of the steps before
    wanted = net.predict(x, state=state)
    all_same(session.run(x), wanted)


def test_sessions_of_parts_keep_to_their_weights(rng):
    net = of_parts()
    x = segments(rng)
    before, one, two = net.predict(x), net.session(B), net.session(B)
    assert one._snapshot is two._snapshot and one._snapshot.reader(net) is two._snapshot.reader(net)
    net.theta[...] *= 1.5
    all_same(one.run(x), before)
    all_same(two.run(x), before)
    one.reset()
    two.refresh()  # pooling goes on over a change of the weights, as the state does
    one.refresh()
    all_same(one.run(x), net.predict(x))
    assert not np.array_equal(two.run(x)["max"], net.predict(x)["max"])


def test_a_vector_of_a_sequence_is_given_once(rng):
    net = of_parts()
    x = segments(rng)
    wanted = net.predict(x)
    session = net.session(B)
    steps = [session.step(cut(x, 0))]
    x["vector"] = x["vector"].copy()
    steps += [session.step({name: array for name, array in cut(x, t).items() if name != "vector"}) for t in range(1, T)]
    assert_same_bits([step["each"] for step in steps], wanted["each"])
    session.reset()
    with pytest.raises(ValueError, match="vector"):
        session.step({name: array for name, array in cut(x, 0).items() if name != "vector"})
    listed = of_parts(list(SEGMENTS.values()))
    session = listed.session(B)
    found = [session.step(tuple(cut(x, 0).values()))]
    for t in range(1, T):
        found.append(session.step(tuple(None if name == "vector" else a for name, a in cut(x, t).items())))
    assert_same_bits([step["last"] for step in found][-1], listed.predict(tuple(x.values()))["last"])
    session.reset(rows=[0])
    with pytest.raises(ValueError, match="array of numbers"):
        session.step(tuple(None if name == "vector" else a for name, a in cut(x, 0).items()))


def test_steps_of_parts_batch_first_and_sparse(rng):
    x = segments(rng)
    features = rng.integers(-1, 5, (T, B, 2))
    plain, turned = (of_parts(batch_first=first, skip=5) for first in (False, True))
    wanted = plain.predict((x, features))
    other = {name: array if name == "vector" else array.swapaxes(0, 1) for name, array in x.items()}
    all_same(turned.session(B).run((other, features.swapaxes(0, 1))), turned.predict((other, features.swapaxes(0, 1))))
    for net in (plain, turned):
        session = net.session(B)
        out = {"each": np.empty((B, 2), "float32"), "last": np.empty((B, 2), "float32")}
        for t in range(T):
            found = session.step((cut(x, t), features[t]), out=out)
            assert found["each"] is out["each"] and found["last"] is out["last"]
            assert_same_bits(found["each"], wanted["each"][t])
        assert_same_bits(found["last"], wanted["last"])


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
def test_one_head_with_pooling(rng, pooling):
    x = rng.standard_normal((T, B, D)).astype("float32")
    net = rc.Network(rc.Recurrent("lstm", D, H), head=rc.Softmax(3), pooling=pooling)
    session = net.session(B)
    assert_same_bits(session.run(x), net.predict(x))
    session.reset()
    steps = [session.step(x_t) for x_t in x]
    np.testing.assert_allclose(steps[-1], net.predict(x), rtol=2e-6)
    np.testing.assert_allclose(steps[2], net.predict(x[:3]), rtol=2e-6)


def test_what_does_not_fit_parts_is_refused(rng):
    net = of_parts()
    x = segments(rng)
    session, step = net.session(B), cut(x, 0)
    session.step(step)
    kept = session.state[0].copy()
    for bad in (
        {**step, "word": x["word"]},
        {**step, "word": np.full(B, 7)},
        {name: array for name, array in step.items() if name != "word"},
        {**step, "vector": x["vector"][:2]},
        {name: array[:2] for name, array in step.items()},
        x["word"][0],
        None,
        (),
    ):
        with pytest.raises(ValueError):
            session.step(bad)
    for out in ({"each": np.empty((B, 3), "float32")}, {"none": np.empty((B, 2))}, np.empty((B, 2)), {}):
        with pytest.raises(ValueError, match="out must be"):
            session.step(step, out=out)
    same(session.state[0], kept)
    both = of_parts(bidirectional=True).session(B)
    with pytest.raises(ValueError, match="forward in time"):
        both.step(step)
    both.run(x)
    with pytest.raises(ValueError, match="vector"):  # every run is of new sequences
        both.run({name: array for name, array in x.items() if name != "vector"})
    sparse = rc.Network(rc.Recurrent("gru", D, H), head=rc.Softmax(2), skip=4).session(B)
    with pytest.raises(ValueError, match="sparse features"):
        sparse.step(np.zeros((B, D), "float32"))


def test_many_sessions_of_parts_at_once(rng):
    net = of_parts()
    x = segments(rng)
    wanted = net.predict(x)
    sessions, found = [net.session(B) for _ in range(6)], [None] * 6

    def stream(n):
        for _ in range(20):
            sessions[n].reset()
            found[n] = sessions[n].run(x)

    threads = [threading.Thread(target=stream, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in found:
        all_same(one, wanted)
