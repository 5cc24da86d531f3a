"""Jordan networks, what the other tests do not ask of every cell: options, teacher forcing, who owns the outputs."""

import pickle

import numpy as np
import pytest
import reference as ref
import twins

import rnncore as rc

T, B, D, H = 5, 3, 4, 3
FAMILY = [name for name, (cell, _) in ref.FAMILY.items() if cell == "jordan"]
HEAD = ref.Head("squared", 2)


@pytest.fixture
def rng():
    return np.random.default_rng(31)


def make(rng, net: ref.Stack, **options):
    params = net.random_params(rng)
    return params, twins.layer(net, params, **options)


def jordan(activation="tanh", direction="fwd", depth=1, truncate=None, **options) -> ref.Stack:
    own = tuple(options.items())
    return ref.Stack(D, H, depth, direction, activation, "jordan", truncate, cell_options=own)


def compare_gradients(rng, net, layer, params, lengths=None, feedback=None, masks=None):
    """Outputs, final states and all gradients against the reference."""
    x, dy = rng.standard_normal((T, B, D)), rng.standard_normal((T, B, net.output_size))
    start, dfinal = twins.named_state(rng, net, B), twins.random_state(rng, net, B)
    layer.zero_grad()
    y, final = layer.forward(x, tuple(start.values()), lengths, feedback=feedback)
    dx, dstate = layer.backward(dy, dfinal)
    wanted, last = ref.forward(net, params, x, tuple(start.values()), lengths, masks, feedback)
    for one, other in zip((y, *final), (wanted, *last), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-14)
    got = dict(layer.grads) | {"x": dx} | dict(zip(start, dstate, strict=True))
    exact = ref.derivative(
        twins.weighted_sum(net, x, dy, dfinal, lengths, masks, feedback), {**params, **start, "x": x}
    )
    for name, gradient in got.items():
        assert ref.relative_error(gradient, exact[name]) < 1e-11, name


@pytest.mark.parametrize("activation", ref.ACTIVATIONS)
@pytest.mark.parametrize("output_activation", ["identity", "sigmoid", "tanh", "relu"])
def test_activations(rng, activation, output_activation):
    net = jordan(activation, outputs=2, output_activation=output_activation, decay=0.5)
    params, layer = make(rng, net)
    compare_gradients(rng, net, layer, params)


def test_state_units_are_a_decaying_sum_of_outputs(rng):
    net = jordan(outputs=2, decay=0.6)
    _, layer = make(rng, net)
    y, (last, s) = layer.forward(rng.standard_normal((T, B, D)))
    np.testing.assert_array_equal(last[0], y[-1])
    np.testing.assert_allclose(s[0], sum(0.6**k * y[T - 2 - k] for k in range(T - 1)), rtol=1e-13)


def test_the_cell_owns_what_makes_its_outputs():
    plain = rc.Recurrent("jordan", input_size=D, hidden_size=H)
    assert plain.output_size == H
    layer = rc.Recurrent("jordan", D, H, num_layers=2, bidirectional=True, outputs=5, hidden_feedback=True)
    shapes = {name.removeprefix("layers.1.bwd."): view.shape for name, view in layer.params.items() if "1.bwd" in name}
    assert shapes == {"W_xh": (10, 3), "W_hh": (3, 3), "W_yh": (5, 3), "b_h": (3,), "W_hy": (3, 5), "b_y": (5,)}
    y, state = layer.forward(np.zeros((T, B, D), np.float32))
    assert y.shape == (T, B, 10)
    assert [part.shape for part in state] == [(4, B, 5), (4, B, 5), (4, B, 3)]


def test_s_as_given_has_no_gradient(rng):
    """Jordan's own training: what one step puts out is no business of the steps before."""
    net = jordan(outputs=2, decay=0.5, through_outputs=False)
    _, layer = make(rng, net)
    layer.forward(rng.standard_normal((T, B, D)), twins.random_state(rng, net, B))
    dy = np.zeros((T, B, 2))
    dy[3] = 1
    dx, dstate = layer.backward(dy)
    assert [t for t in range(T) if dx[t].any()] == [3]
    assert not any(part.any() for part in dstate)


# ------------------------------------------------------------------------------------------------- teacher forcing


@pytest.mark.parametrize("truncate", [None, 2])
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize(("direction", "depth"), [("fwd", 1), ("reverse", 2), ("concat", 1), ("sum", 2)])
@pytest.mark.parametrize("name", FAMILY)
def test_feedback(rng, name, direction, depth, ragged, truncate):
    net = ref.member(name, D, H, depth, direction, truncate=truncate)
    params, layer = make(rng, net)
    lengths = twins.random_lengths(rng, T, B) if ragged else None
    compare_gradients(rng, net, layer, params, lengths, rng.standard_normal((T, B, net.output_size)))


@pytest.mark.parametrize("mode", ["sequence", "step"])
def test_feedback_under_recurrent_dropout(rng, mode):
    """The mask is for the state units as h sees them, wherever they come from."""
    options = {"recurrent_dropout": 0.4, "recurrent_dropout_mode": mode}
    net = ref.member("jordan, decaying", D, H)
    params, layer = make(rng, net, **options)
    layer.dropout_step = 7
    masks = twins.DropoutProbe(net, T, B, **options).masks()
    compare_gradients(rng, net, layer, params, None, rng.standard_normal((T, B, net.output_size)), masks)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("direction", ["fwd", "reverse", "concat"])
@pytest.mark.parametrize("name", FAMILY)
def test_a_free_run_is_forced_by_its_own_outputs(rng, name, direction, dtype):
    net = ref.member(name, D, H, 2, direction)
    _, layer = make(rng, net, dtype=dtype)
    x, start = rng.standard_normal((T, B, D)), twins.random_state(rng, net, B)
    lengths = twins.random_lengths(rng, T, B)
    y, final = layer.forward(x, start, lengths)
    z, last = layer.forward(x, start, lengths, feedback=y)
    for one, other in zip((y, *final), (z, *last), strict=True):
        np.testing.assert_array_equal(one, other)


def test_which_rows_of_feedback_are_read(rng):
    """All but each sequence's last: whatever stands there, and behind, changes nothing."""
    net = ref.member("jordan, decaying", D, H)
    _, layer = make(rng, net)
    x, lengths, given = rng.standard_normal((T, B, D)), np.array([2, T, 1]), rng.standard_normal((T, B, 2))
    y, _ = layer.forward(x, lengths=lengths, feedback=given)
    spoilt = given.copy()
    spoilt[np.arange(T)[:, None] >= lengths - 1] = np.nan
    np.testing.assert_array_equal(layer.forward(x, lengths=lengths, feedback=spoilt)[0], y)
    given[0, 0] += 1
    changed = (layer.forward(x, lengths=lengths, feedback=given)[0] != y).any(axis=2)
    assert np.argwhere(changed).tolist() == [[1, 0]]


def test_the_numbers_of_feedback_are_copied(rng):
    net = jordan(outputs=2)
    _, layer = make(rng, net)
    x, given, dy = (rng.standard_normal((T, B, width)) for width in (D, 2, 2))
    gradients = []
    for spoil in (False, True):
        mine = given.copy()
        layer.zero_grad()
        layer.forward(x, feedback=mine)
        mine += 100 * spoil
        layer.backward(dy)
        gradients.append(layer.grad.copy())
    np.testing.assert_array_equal(*gradients)


def test_teacher_forcing_in_a_stream(rng):
    """The teacher's word takes the output's place in the state."""
    net = ref.member("jordan and elman", D, H)
    _, layer = make(rng, net)
    x, given = rng.standard_normal((T, B, D)), rng.standard_normal((T, B, 5))
    y, _ = layer.forward(x, feedback=given)
    state = None
    for t in range(T):
        y_t, (_, *rest) = layer.step(x[t], state)
        np.testing.assert_allclose(y_t, y[t], rtol=1e-13, atol=1e-15)
        state = (given[t : t + 1], *rest)


def test_threads_do_not_change_bits(rng):
    net = ref.Stack(D, 40, direction="concat", cell="jordan", cell_options=(("outputs", 9), ("decay", 0.3)))
    params = net.random_params(rng, 0.2)
    x, given, dy = (rng.standard_normal((20, 50, width)) for width in (D, 18, 18))
    lengths, results = twins.random_lengths(rng, 20, 50), []
    for threads in (1, 2, 5):
        layer = twins.layer(net, params, n_threads=threads)
        layer.zero_grad()
        y, _ = layer.forward(x, lengths=lengths, feedback=given)
        dx, _ = layer.backward(dy)
        results.append((y, dx, layer.grad.copy()))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            twins.assert_same_bits(one, two)


@pytest.mark.parametrize("name", FAMILY)
def test_network(rng, name):
    net = ref.member(name, D, H)
    params = twins.random_params(net, HEAD, rng)
    made = twins.network(net, HEAD, params=params)
    x, targets = rng.standard_normal((T, B, D)), rng.standard_normal((T, B, 2))
    given, lengths = rng.standard_normal((T, B, net.output_size)), twins.random_lengths(rng, T, B)
    arguments = (net, HEAD, "every")
    value = made.loss_and_grad(x, targets, lengths, feedback=given)
    assert value == pytest.approx(ref.loss(*arguments, params, x, targets, lengths, feedback=given), rel=1e-12)
    wanted = ref.derivative(lambda a: ref.loss(*arguments, a, x, targets, lengths, feedback=given), params)
    for key, gradient in wanted.items():
        assert ref.relative_error(made.grads[key], gradient) < 1e-11, key

    predicted, _ = ref.scores(net, "every", params, x, feedback=given)
    np.testing.assert_allclose(made.predict(x, feedback=given), predicted, rtol=1e-12)
    free, _ = ref.scores(net, "every", params, x)
    np.testing.assert_allclose(made.predict(x), free, rtol=1e-12)
    assert made.train_step(x, targets, rc.SGD(learning_rate=0.0), lengths, feedback=given) == value
    assert made.train_step(x, targets, rc.SGD(learning_rate=0.0), lengths) != value


def test_the_last_of_several_layers_is_taught(rng):
    first = rc.Recurrent("elman", D, 6, dtype="float64", random_state=1)
    second = rc.Recurrent("jordan", 6, H, outputs=2, decay=0.4, dtype="float64", random_state=2)
    x, given = rng.standard_normal((T, B, D)), rng.standard_normal((T, B, 2))
    inner, _ = first.forward(x)
    y, _ = second.forward(inner, feedback=given)
    net = rc.Network([first, second], head=rc.SquaredError(2))
    wanted = y @ net.params["head.W_hy"] + net.params["head.b_y"]
    np.testing.assert_allclose(net.predict(x, feedback=given), wanted, rtol=1e-12)


def test_gradcheck(rng):
    """The outputs are the cell's own: a head need not project them."""
    layer = rc.Recurrent("jordan", D, H, outputs=2, decay=0.4, hidden_feedback=True)
    net = rc.Network(layer, head=rc.SquaredError(2, project=False))
    x, targets, given = (rng.standard_normal((T, B, width)) for width in (D, 2, 2))
    for feedback in (None, given):
        assert max(rc.gradcheck(net, x, targets, feedback=feedback).values()) < 1e-6


# ------------------------------------------------------------------------------------------------ copies and errors


def test_copies_and_files_keep_the_options(rng, tmp_path):
    layer = rc.Recurrent("jordan", D, H, outputs=2, decay=0.4, output_activation="sigmoid", hidden_feedback=True)
    net = rc.Network(layer, head=rc.SquaredError(2))
    x = rng.standard_normal((T, B, D)).astype(np.float32)
    for twin in (net.copy(), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(twin.predict(x), net.predict(x))

    sentences, tags = [["a", "b", "c"], ["b", "a"]] * 5, [["X", "Y", "X"], ["Y", "X"]] * 5
    tagger = rc.SequenceTagger(cell="jordan", hidden_size=8, max_epochs=5, random_state=0).fit(sentences, tags)
    tagger.save(tmp_path / "model.safetensors")
    again = rc.load(tmp_path / "model.safetensors")
    for one, other in zip(tagger.predict_proba(sentences), again.predict_proba(sentences), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        *(({"outputs": value}, "outputs") for value in (0, -1, 2.5, "two", True)),
        *(({"decay": value}, "from 0 to 1") for value in (-0.1, 1.5, float("nan"), "half", None, True)),
        *(({"output_activation": value}, "identity") for value in ("softmax", "leaky_relu", None)),
        *(({"through_outputs": value}, "through_outputs") for value in ("no", None)),
        *(({"hidden_feedback": value}, "hidden_feedback") for value in ("yes", 2)),
        ({"feedback": True}, "decay"),
    ],
    ids=str,
)
def test_bad_options(options, hint):
    with pytest.raises(ValueError, match=hint):
        rc.Recurrent("jordan", input_size=D, hidden_size=H, **options)


@pytest.mark.parametrize(
    "feedback",
    [np.zeros((T, B, 3)), np.zeros((T, B)), np.zeros((T - 1, B, 2)), np.zeros((B, T, 2)), "targets", [[1], [1, 2]]],
    ids=["width", "axes", "steps", "order", "words", "ragged"],
)
def test_bad_feedback(feedback):
    layer = rc.Recurrent("jordan", D, H, outputs=2)
    x = np.zeros((T, B, D), np.float32)
    with pytest.raises(ValueError, match="feedback"):
        layer.forward(x, feedback=feedback)
    with pytest.raises(ValueError, match="feedback"):
        rc.Network(layer, head=rc.SquaredError(2)).predict(x, feedback=feedback)


def test_feedback_is_for_cells_that_see_their_outputs():
    layer = rc.Recurrent("elman", D, H)
    x, given = np.zeros((T, B, D), np.float32), np.zeros((T, B, H))
    with pytest.raises(ValueError, match=r"jordan.*elman.*leave it out"):
        layer.forward(x, feedback=given)
    net = rc.Network([rc.Recurrent("jordan", D, D), layer], head=rc.SquaredError(2))
    with pytest.raises(ValueError, match="leave it out"):
        net.loss_and_grad(x, np.zeros((T, B, 2)), feedback=given)
