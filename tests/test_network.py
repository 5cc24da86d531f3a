"""`rc.Network`: layers with a head, readouts, embeddings; losses and gradients against the reference."""

import copy
import pickle

import numpy as np
import pytest
import reference as ref
import twins

import rnncore as rc

T, B, K = 5, 3, 6
HEADS = {
    "softmax": ref.Head("softmax", K),
    "weighted": ref.Head("softmax", K, {"class_weight": np.linspace(0.2, 3, K)}),
    "smoothed": ref.Head("softmax", K, {"label_smoothing": 0.2}),
    "both": ref.Head("softmax", K, {"class_weight": np.linspace(3, 0.2, K), "label_smoothing": 0.1}),
    "squared": ref.Head("squared", K),
    "sigmoid": ref.Head("sigmoid", K),
}
READOUTS = ["every", "last", "mean", "max"]


@pytest.fixture
def rng():
    return np.random.default_rng(12)


def target_shape(readout: str) -> tuple[int, ...]:
    return (T, B) if readout == "every" else (B,)


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("head", HEADS)
def test_loss_gradient_and_prediction(rng, head, readout, ragged):
    head, net = HEADS[head], ref.Stack(4, 2, direction="concat")
    params = twins.random_params(net, head, rng)
    made = twins.network(net, head, readout, params)
    x, targets = rng.standard_normal((T, B, 4)), head.random_targets(rng, target_shape(readout))
    lengths = twins.random_lengths(rng, T, B) if ragged else None

    loss = made.loss_and_grad(x, targets, lengths=lengths)
    assert isinstance(loss, float)
    assert loss == pytest.approx(ref.loss(net, head, readout, params, x, targets, lengths), rel=1e-13)
    wanted = ref.derivative(lambda a: ref.loss(net, head, readout, a, x, targets, lengths), params)
    for name in params:
        assert ref.relative_error(made.grads[name], wanted[name]) < 1e-12, name

    z, (final,) = ref.scores(net, readout, params, x, lengths)
    predicted, (state,) = made.predict(x, lengths=lengths, return_state=True)
    assert predicted.shape == (*target_shape(readout), K)
    counted = slice(None)
    if readout == "every" and ragged:
        counted = np.arange(T)[:, None] < lengths
        assert not predicted[~counted].any()
    np.testing.assert_allclose(predicted[counted], ref.link(head.kind, z)[counted], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(state, final, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("head", HEADS)
def test_sample_weights(rng, head, readout):
    """Loss and gradient are the weighted sums of those of the sequences one by one."""
    head, net = HEADS[head], ref.Stack(4, 2, direction="concat")
    made = twins.network(net, head, readout, twins.random_params(net, head, rng))
    x, targets = rng.standard_normal((T, B, 4)), head.random_targets(rng, target_shape(readout))
    lengths, weights = twins.random_lengths(rng, T, B), np.array([0.0, 2.5, 0.5])
    loss, grad = 0.0, 0.0
    of_class = np.asarray(head.options.get("class_weight", np.ones(K)))
    counts = np.zeros(B)
    for b, n in enumerate(lengths):
        own = targets[:n, b : b + 1] if readout == "every" else targets[b : b + 1]
        counts[b] = of_class[own].sum() if head.kind == "softmax" else own.size / K
        loss += weights[b] * counts[b] * made.loss_and_grad(x[:n, b : b + 1], own)
        grad = grad + weights[b] * counts[b] * made.grad
    got = made.loss_and_grad(x, targets, lengths, sample_weight=weights)
    assert got == pytest.approx(loss / counts.sum(), rel=1e-12)
    assert ref.relative_error(made.grad, grad / counts.sum()) < 1e-12


@pytest.mark.parametrize("weights", [[1, 2], [1, 2, -1], [1, 2, np.inf], [[1, 2, 3]], "abc"])
def test_bad_sample_weights(rng, weights):
    made = twins.network(ref.Stack(4, 2), HEADS["softmax"])
    with pytest.raises(ValueError, match="sample_weight"):
        made.loss_and_grad(rng.standard_normal((T, B, 4)), np.zeros((T, B), int), sample_weight=weights)


@pytest.mark.parametrize("readout", ["every", "last"])
@pytest.mark.parametrize("head", ["softmax", "both"])
def test_ignored_targets(rng, head, readout):
    head, net = HEADS[head], ref.Stack(4, 2)
    params = twins.random_params(net, head, rng)
    made = twins.network(net, head, readout, params)
    x, targets = rng.standard_normal((T, B, 4)), head.random_targets(rng, target_shape(readout))
    targets.flat[::2] = -1
    loss = made.loss_and_grad(x, targets)
    assert loss == pytest.approx(ref.loss(net, head, readout, params, x, targets), rel=1e-13)
    wanted = ref.derivative(lambda a: ref.loss(net, head, readout, a, x, targets), params)
    for name in params:
        assert ref.relative_error(made.grads[name], wanted[name]) < 1e-12, name


def test_nothing_to_learn_from(rng):
    """All targets ignored: no loss, no gradient, and above all no NaN; or an error that says so."""
    head, net = HEADS["softmax"], ref.Stack(4, 2)
    made = twins.network(net, head)
    try:
        loss = made.loss_and_grad(rng.standard_normal((T, B, 4)), np.full((T, B), -1))
    except ValueError:
        return
    assert loss == 0
    assert not made.grad.any()


@pytest.mark.parametrize("head", ["softmax", "squared", "sigmoid"])
def test_targets_behind_the_end_do_not_count(rng, head):
    head, net = HEADS[head], ref.Stack(4, 2)
    made = twins.network(net, head, params=twins.random_params(net, head, rng))
    x, targets = rng.standard_normal((T, B, 4)), head.random_targets(rng, (T, B))
    lengths = twins.random_lengths(rng, T, B)
    loss = made.loss_and_grad(x, targets, lengths=lengths)
    grad = made.grad.copy()
    for filler in (99, -5) if head.kind == "softmax" else (np.nan, 1e300):
        targets[np.arange(T)[:, None] >= lengths] = filler
        assert made.loss_and_grad(x, targets, lengths=lengths) == loss
        np.testing.assert_array_equal(made.grad, grad)


@pytest.mark.parametrize("kind", ["ids", "bags"])
@pytest.mark.parametrize("direction", ["fwd", "sum"])
def test_embedding(rng, kind, direction):
    V, E = 9, 4
    head, net = HEADS["softmax"], ref.Stack(E, 2, direction=direction)
    params = twins.random_params(net, head, rng, symbols=V)
    made = twins.network(net, head, params=params, symbols=V)
    assert made.params["embedding.E"].shape == (V, E)
    x, targets = twins.random_input(rng, kind, T, B, V), head.random_targets(rng, (T, B))
    lengths = twins.random_lengths(rng, T, B)
    loss = made.loss_and_grad(x, targets, lengths=lengths)
    assert loss == pytest.approx(ref.loss(net, head, "every", params, x, targets, lengths), rel=1e-13)
    wanted = ref.derivative(lambda a: ref.loss(net, head, "every", a, x, targets, lengths), params)
    for name in params:
        assert ref.relative_error(made.grads[name], wanted[name]) < 1e-12, name


def test_loss_and_grad_overwrites_unless_told_to_accumulate(rng):
    head, net = HEADS["softmax"], ref.Stack(4, 2)
    made = twins.network(net, head)
    one, two = ((rng.standard_normal((T, B, 4)), head.random_targets(rng, (T, B))) for _ in range(2))
    made.loss_and_grad(*two)
    second = made.grad.copy()
    made.loss_and_grad(*one)
    first = made.grad.copy()
    assert np.any(first != second)
    made.loss_and_grad(*one)
    np.testing.assert_array_equal(made.grad, first)
    made.loss_and_grad(*two, accumulate=True)
    np.testing.assert_allclose(made.grad, first + second, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kind", ["ids", "bags", "embedding"])
def test_sparse_gradients_are_overwritten_too(rng, kind):
    """Rows of symbols that the next batch lacks have no gradient left from the batch before."""
    V = 9
    symbols = V if kind == "embedding" else None
    head, net = HEADS["softmax"], ref.Stack(4 if symbols else V, 2)
    params = twins.random_params(net, head, rng, symbols)
    made = twins.network(net, head, params=params, symbols=symbols)
    x = twins.random_input(rng, "bags" if kind == "bags" else "ids", T, B, V)
    targets = head.random_targets(rng, (T, B))
    made.loss_and_grad(x, targets)
    few = np.where(x > 2, 2, x)
    made.loss_and_grad(few, targets)
    wanted = ref.derivative(lambda a: ref.loss(net, head, "every", a, few, targets), params)
    for name in params:
        assert ref.relative_error(made.grads[name], wanted[name]) < 1e-12, name
    made.loss_and_grad(x, targets, accumulate=True)
    more = ref.derivative(lambda a: ref.loss(net, head, "every", a, x, targets), params)
    for name in params:
        assert ref.relative_error(made.grads[name], wanted[name] + more[name]) < 1e-12, name


def test_list_of_layers(rng):
    """Different layers one above the other: as many states, and the numbers of the layers run one by one."""
    first = rc.Recurrent("elman", input_size=4, hidden_size=3, bidirectional=True, dtype="float64", random_state=1)
    second = rc.Recurrent("elman", input_size=6, hidden_size=2, activation="sigmoid", dtype="float64", random_state=2)
    x, lengths = rng.standard_normal((T, B, 4)), twins.random_lengths(rng, T, B)
    y, state = first.forward(x, lengths=lengths)
    z, last = second.forward(y, lengths=lengths)
    net = rc.Network([first, second], head=rc.SquaredError(K))
    W, b = net.params["head.W_hy"], net.params["head.b_y"]
    assert W.shape == (2, K)
    wanted = (z @ W + b) * (np.arange(T)[:, None] < lengths)[:, :, None]
    predicted, states = net.predict(x, lengths=lengths, return_state=True)
    np.testing.assert_allclose(predicted, wanted, rtol=1e-12, atol=1e-14)
    assert isinstance(states, list)
    twins.assert_same_bits(states[0][0], state[0])
    twins.assert_same_bits(states[1][0], last[0])
    targets = rng.standard_normal((T, B, K))
    net.loss_and_grad(x, targets, lengths=lengths)
    grad = net.grad.copy()
    rough = ref.central_differences(lambda: net.loss_and_grad(x, targets, lengths=lengths), net.theta)
    assert ref.relative_error(grad, rough) < 1e-8


def test_a_network_re_homes_its_layers(rng):
    layer = rc.Recurrent("elman", input_size=4, hidden_size=3, dtype="float64")
    before = layer.theta.copy()
    net = rc.Network(layer, head=rc.Softmax(K))
    np.testing.assert_array_equal(layer.theta, before)
    assert np.shares_memory(layer.theta, net.theta)
    assert np.shares_memory(layer.grad, net.grad)
    assert np.shares_memory(layer.params["layers.0.fwd.W_hh"], net.params["layers.0.fwd.W_hh"])
    net.theta[:] = 0.25
    assert (layer.theta == 0.25).all()
    assert (layer.params["layers.0.fwd.b_h"] == 0.25).all()
    assert net.theta.ctypes.data % 64 == 0
    for name, view in net.params.items():
        assert np.shares_memory(view, net.theta), name
        assert np.shares_memory(net.grads[name], net.grad), name


def test_carrying_on(rng):
    """Chunks with the state passed on predict what the whole sequence predicts."""
    head, net = HEADS["softmax"], ref.Stack(4, 3, num_layers=2)
    made = twins.network(net, head, params=twins.random_params(net, head, rng))
    x = rng.standard_normal((T, B, 4))
    whole = made.predict(x)
    for cut in range(1, T):
        head_part, state = made.predict(x[:cut], return_state=True)
        tail_part = made.predict(x[cut:], state=state)
        np.testing.assert_allclose(np.concatenate([head_part, tail_part]), whole, rtol=1e-12)


def test_states_belong_to_the_caller(rng):
    made = twins.network(ref.Stack(4, 3, num_layers=2), HEADS["softmax"])
    targets = np.zeros((T, B), int)
    made.loss_and_grad(rng.standard_normal((T, B, 4)), targets)
    (state,) = made.state
    kept = state.copy()
    made.predict(rng.standard_normal((T, B, 4)))
    np.testing.assert_array_equal(made.state[0], kept)  # a prediction leaves it alone
    made.loss_and_grad(rng.standard_normal((T, B, 4)), targets)
    np.testing.assert_array_equal(state, kept)
    assert np.any(made.state[0] != kept)


@pytest.mark.parametrize("symbols", [None, 9])
def test_copies_are_whole_and_apart(rng, symbols):
    net, head = ref.Stack(4, 3, direction="concat", num_layers=2), ref.Head("softmax", K)
    made = twins.network(net, head, symbols=symbols, dropout=0.3)
    x = twins.random_input(rng, "ids" if symbols else "dense", T, B, symbols or 4)
    targets = head.random_targets(rng, (T, B))
    predicted = made.predict(x)
    for twin in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        np.testing.assert_array_equal(twin.predict(x), predicted)
        assert twin.loss_and_grad(x, targets) == made.copy().loss_and_grad(x, targets)
        assert np.shares_memory(twin.layers[0].theta, twin.theta)
        assert twin.theta.ctypes.data % 64 == 0
        twin.theta[:] = 0
        np.testing.assert_array_equal(made.predict(x), predicted)


def test_a_state_given_is_a_constant_of_the_loss(rng):
    head, net = HEADS["softmax"], ref.Stack(4, 3)
    params = twins.random_params(net, head, rng)
    made = twins.network(net, head, params=params)
    x, targets = rng.standard_normal((T, B, 4)), head.random_targets(rng, (T, B))
    state = twins.random_state(rng, net, B)
    loss = made.loss_and_grad(x, targets, state=state)
    assert loss == pytest.approx(ref.loss(net, head, "every", params, x, targets, state=state), rel=1e-13)
    wanted = ref.derivative(lambda a: ref.loss(net, head, "every", a, x, targets, state=state), params)
    for name in params:
        assert ref.relative_error(made.grads[name], wanted[name]) < 1e-12, name


@pytest.mark.parametrize("readout", READOUTS)
def test_carried_state_of_a_bidirectional_network_is_an_error(rng, readout):
    made = twins.network(ref.Stack(4, 3, direction="concat"), HEADS["softmax"], readout)
    x = rng.standard_normal((T, B, 4))
    _, state = made.predict(x, return_state=True)
    with pytest.raises(ValueError, match="carried state"):
        made.predict(x, state=state)
    with pytest.raises(ValueError, match="carried state"):
        made.loss_and_grad(x, np.zeros(target_shape(readout), int), state=state)


def test_predict_changes_nothing(rng):
    head, net = HEADS["softmax"], ref.Stack(4, 3)
    made = twins.network(net, head)
    x, targets = rng.standard_normal((T, B, 4)), head.random_targets(rng, (T, B))
    made.loss_and_grad(x, targets)
    theta, grad = made.theta.copy(), made.grad.copy()
    first = made.predict(x)
    kept = first.copy()
    made.predict(x + 1)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(made.theta, theta)
    np.testing.assert_array_equal(made.grad, grad)


def test_probabilities(rng):
    made = twins.network(ref.Stack(4, 3), HEADS["softmax"], dtype="float32")
    made.params["head.W_hy"][...] = 80 * rng.standard_normal((3, K))  # saturated, and still probabilities
    p = made.predict(rng.standard_normal((T, B, 4)).astype(np.float32))
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=2), 1, rtol=1e-6)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_large_scores_give_finite_losses(rng, head):
    head, net = HEADS[head], ref.Stack(4, 3)
    made = twins.network(net, head, dtype="float32")
    made.params["head.b_y"][...] = [1e4, -1e4, 1e30, -1e30, 0, 88]
    loss = made.loss_and_grad(rng.standard_normal((T, B, 4)).astype(np.float32), head.random_targets(rng, (T, B)))
    assert np.isfinite(loss)
    assert np.isfinite(made.grad).all()


def test_train_step_is_loss_then_update(rng):
    head, net = HEADS["softmax"], ref.Stack(4, 3)
    params = twins.random_params(net, head, rng)
    x, targets = rng.standard_normal((T, B, 4)), head.random_targets(rng, (T, B))
    for make in (lambda: rc.SGD(learning_rate=0.1), lambda: rc.Adam(learning_rate=0.01, clip_norm=0.05)):
        one, two = (twins.network(net, head, params=params) for _ in range(2))
        opt_one, opt_two = make(), make()
        for _ in range(3):
            loss = one.train_step(x, targets, opt_one)
            assert isinstance(loss, float)
            assert loss == two.loss_and_grad(x, targets)
            opt_two.step(two)
            np.testing.assert_array_equal(one.theta, two.theta)
    one, two = (twins.network(net, head, params=params) for _ in range(2))
    one.train_step(x, targets, rc.SGD(learning_rate=0.1))
    two.loss_and_grad(x, targets)
    np.testing.assert_allclose(one.theta, two.theta - 0.1 * two.grad, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("head", HEADS)
def test_training_lowers_the_loss(rng, head):
    head, net = HEADS[head], ref.Stack(4, 8, direction="concat")
    made = twins.network(net, head, dtype="float32")
    x = rng.standard_normal((T, B, 4)).astype(np.float32)
    targets = head.random_targets(rng, (T, B))
    targets = targets if head.kind == "softmax" else targets.astype(np.float32)
    opt = rc.Adam(learning_rate=0.02)
    losses = [made.train_step(x, targets, opt) for _ in range(60)]
    assert losses[-1] < 0.9 * losses[0]


def curve_case():
    """A network and a task made of formulas, so that no generator's stream enters the stored numbers."""
    head, net = ref.Head("softmax", 4), ref.Stack(3, 5, direction="concat")
    shapes = {"W_xh": (3, 5), "W_hh": (5, 5), "b_h": (5,)}
    shapes = {f"layers.0.{way}.{name}": shape for way in ("fwd", "bwd") for name, shape in shapes.items()}
    shapes |= {"head.W_hy": (10, 4), "head.b_y": (4,)}
    params = {
        name: 0.4 * np.sin(np.arange(np.prod(shape)) * 1.7 + i).reshape(shape)
        for i, (name, shape) in enumerate(shapes.items())
    }
    x = np.cos(np.arange(6 * 4 * 3) * 0.9).reshape(6, 4, 3)
    targets = (np.arange(6 * 4).reshape(6, 4) * 7) % 4
    return net, head, params, x, targets, [6, 2, 5, 3]


CURVE = [
    1.4258646832661184,
    1.3510565481216987,
    1.3047329942241739,
    1.272946485109408,
    1.2483457177104074,
    1.22703838974749,
    1.2068830213845918,
    1.186563725053581,
    1.165181919509688,
    1.142090126188147,
]


def test_ten_steps_of_gradient_descent():
    """A stored curve: a change that moves training anywhere shows here."""
    net, head, params, x, targets, lengths = curve_case()
    made = twins.network(net, head, params=params)
    opt = rc.SGD(learning_rate=0.5)
    losses = [made.train_step(x, targets, opt, lengths=lengths) for _ in range(10)]
    np.testing.assert_allclose(losses, CURVE, rtol=1e-12)


def test_the_stored_curve_is_the_reference_s():
    net, head, params, x, targets, lengths = curve_case()
    for stored in CURVE:
        loss = ref.loss(net, head, "every", params, x, targets, lengths)
        assert loss == pytest.approx(stored, rel=1e-12)
        grads = ref.derivative(lambda a: ref.loss(net, head, "every", a, x, targets, lengths), params)
        params = {name: params[name] - 0.5 * grads[name] for name in params}


def test_documented_example():
    rng = np.random.default_rng(0)
    layer = rc.Recurrent("elman", input_size=50, hidden_size=16)
    net = rc.Network(layer, head=rc.Softmax(2), readout="last")
    x = rng.integers(0, 50, (12, 8))  # ids, 12 steps of 8 sequences
    targets = x[0] % 2
    opt = rc.Adam(learning_rate=0.01)
    losses = [net.train_step(x, targets, opt, lengths=rng.integers(1, 13, 8)) for _ in range(50)]
    assert losses[-1] < losses[0]
    assert net.predict(x).shape == (8, 2)
