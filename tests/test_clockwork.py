"""Clockwork networks and hierarchies: against their equations, gradients, streams, files, what is refused."""

import numpy as np
import pytest
import reference as ref
import twins

import rnncore as rc

T, B, D, K = 13, 3, 2, 2
UNITS, PERIODS = (3, 2, 4), (1, 3, 4)


def make(reads="slower", seed=0, **options):
    given = {"dtype": "float64", "random_state": seed} | options
    return rc.models.Clockwork(D, UNITS, PERIODS, K, reads=reads, **given)


def plainly(net, x, length):
    """One sequence (T, D), one step at a time, as the equations say it."""
    p, h, rows = net.params, [np.zeros(size) for size in net.units], []
    for t in range(length):
        before = [each.copy() for each in h]
        for i in range(len(h)):  # the fastest first: a level of a hierarchy finds the one below done
            if t % net.periods[i]:
                continue
            below = h[i - 1] if i else x[t]
            seen = np.concatenate([*before[i + 1 :], x[t]]) if net.reads == "slower" else below
            own = f"modules.{i}."
            h[i] = np.tanh(seen @ p[own + "W_xh"] + before[i] @ p[own + "W_hh"] + p[own + "b_h"])
        rows.append(np.concatenate(h) @ p["head.W_hy"] + p["head.b_y"])
    return np.array(rows)


@pytest.fixture
def x():
    return np.random.default_rng(5).standard_normal((T, B, D))


@pytest.mark.parametrize("reads", ["slower", "faster"])
def test_the_equations(x, reads):
    net, lengths = make(reads), [T, 1, 6]
    scores, _ = net.forward(x, lengths=lengths)
    for b, length in enumerate(lengths):
        np.testing.assert_allclose(scores[:length, b], plainly(net, x[:, b], length), rtol=1e-12, atol=1e-14)
        assert not scores[length:, b].any()


@pytest.mark.parametrize("last", [False, True], ids=["every step", "last step"])
@pytest.mark.parametrize("loss", ["squared", "softmax"])
@pytest.mark.parametrize("lengths", [None, [T, 1, 6]], ids=["full", "ragged"])
@pytest.mark.parametrize("reads", ["slower", "faster"])
def test_gradients(x, reads, lengths, loss, last):
    rng, net = np.random.default_rng(1), make(reads, loss=loss)
    shape = (B,) if last else (T, B)
    targets = rng.standard_normal((*shape, K)) if loss == "squared" else rng.integers(-1, K, shape)
    targets.flat[0] = 1

    def value():
        return net.loss_and_grad(x, targets, lengths)

    value()
    gradients = {name: view.copy() for name, view in net.grads.items()}
    for name, view in net.params.items():
        assert ref.relative_error(gradients[name], ref.central_differences(value, view), 1e-4) < 1e-6, name


@pytest.mark.parametrize("reads", ["slower", "faster"])
def test_the_gradient_of_the_input(x, reads):
    rng, net = np.random.default_rng(2), make(reads)
    dscores = rng.standard_normal((T, B, K))

    def value():
        return float((net.forward(x, training=False)[0] * dscores).sum())

    net.forward(x)
    dx = net.backward(dscores)
    assert ref.relative_error(dx, ref.central_differences(value, x)) < 1e-7


@pytest.mark.parametrize("cell", ["lstm", "gru", "leaky"])
def test_modules_of_other_cells(x, cell):
    net = make(cell=cell)

    def value():
        return net.loss_and_grad(x, x)

    value()
    gradients = {name: view.copy() for name, view in net.grads.items()}
    for name, view in net.params.items():
        assert ref.relative_error(gradients[name], ref.central_differences(value, view), 1e-4) < 1e-6, name


@pytest.mark.parametrize("reads", ["slower", "faster"])
def test_chunks_are_the_whole(x, reads):
    net, state, pieces = make(reads, cell="lstm"), None, []
    whole, _ = net.forward(x, training=False)
    for start, stop in ((0, 1), (1, 2), (2, 7), (7, T)):
        scores, state = net.forward(x[start:stop], state, training=False)
        pieces.append(scores)
    assert state[0] == T
    np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=1e-13, atol=1e-15)


def test_one_module_of_period_one_is_its_layer(x):
    net = rc.models.Clockwork(D, 5, [1], None, dtype="float64")
    layer = net.modules[0].copy()
    y, _ = layer.forward(x)
    twins.assert_same_bits(net.forward(x)[0], y)
    dx, _ = layer.backward(x @ np.ones((D, 5)))
    twins.assert_same_bits(net.backward(x @ np.ones((D, 5))), dx)
    np.testing.assert_array_equal(net.grad, layer.grad)


def test_what_is_not_updated_costs_nothing(x):
    """Layers run over their ticks alone."""
    net = make()
    net.forward(x)
    assert [module._saved.schedule.steps for module in net.modules] == [13, 5, 4]


def test_parameters_are_those_that_the_paper_counts():
    """2,497: 64 units that see the input, themselves and those that are slower, and one output."""
    net = rc.models.Clockwork(1, 8, [2**i for i in range(8)], 1)
    assert net.theta.size == 2497
    assert net.params["modules.0.W_xh"].shape == (56 + 1, 8) and net.params["modules.7.W_xh"].shape == (1, 8)


def test_any_number_of_threads():
    rng = np.random.default_rng(3)
    x, targets = rng.standard_normal((40, 9, D)), rng.standard_normal((40, 9, K))
    net = rc.models.Clockwork(D, [33, 40, 17], [1, 2, 5], K)
    found = []
    for threads in (1, 2, 5):
        net.n_threads = threads
        found.append((net.loss_and_grad(x, targets), net.grad.copy()))
    for loss, grad in found[1:]:
        assert loss == twins.same_loss(found[0][0])
        twins.assert_same_bits(grad, found[0][1])


def test_a_saved_network_goes_on_with_the_same_bits(x, tmp_path):
    net = make("faster", cell="gru")
    net.freeze("head.*")
    net.train_step(x, x, rc.Adam())
    net.save(tmp_path / "net.safetensors")
    other = rc.load(tmp_path / "net.safetensors")
    assert other.frozen == net.frozen == ("head.W_hy", "head.b_y")
    np.testing.assert_array_equal(other.forward(x)[0], net.forward(x)[0])
    for each in (net, other):
        each.train_step(x, x, rc.SGD(0.1))
    np.testing.assert_array_equal(other.theta, net.theta)


def test_a_loss_that_is_not_finite_is_named(x):
    with np.errstate(over="ignore"), pytest.raises(rc.NonFiniteError, match="the loss is inf"):
        make().loss_and_grad(x, np.full((T, B, K), 1e200))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        *(
            ({"periods": p}, "a period, the steps between two ticks, must be")
            for p in ([0, 1, 2], [1, 2.5, 3], [-1, 2, 3])
        ),
        *(({"periods": p}, "periods must rise") for p in ([1, 1, 2], [4, 2, 1])),
        *(({"periods": p}, "periods must be whole numbers, one") for p in (3, [], "123")),
        ({"units": [1, 2]}, "one for each of 3 periods"),
        ({"units": 0}, "units of a module must be"),
        ({"reads": "both"}, "reads must be one of slower, faster"),
        ({"loss": "hinge"}, "loss must be one of"),
        ({"bidirectional": True}, "leave out bidirectional"),
        ({"outputs": 0}, "outputs"),
        ({"random_state": -1}, "random_state"),
    ],
)
def test_what_cannot_be_built_is_said(given, message):
    with pytest.raises(ValueError, match=message):
        rc.models.Clockwork(**{"input_size": D, "units": 2, "periods": [1, 2, 4], "outputs": K} | given)


def test_what_cannot_be_run_is_said(x):
    net = make()
    with pytest.raises(RuntimeError, match="backward needs"):
        net.backward(x)
    with pytest.raises(ValueError, match="x must have shape"):
        net.forward(x[..., :1])
    _, state = net.forward(x)
    with pytest.raises(ValueError, match="do not go together"):
        net.forward(x, state, lengths=[1, 2, 3])
    with pytest.raises(ValueError, match="state must be what an earlier"):
        net.forward(x, state[1])
    for targets in (x[:2], np.zeros((T, B), int), x.astype(bool)):
        with pytest.raises(ValueError, match="targets for squared must be numbers"):
            net.loss_and_grad(x, targets)
    with pytest.raises(ValueError, match="targets for softmax must be classes"):
        make(loss="softmax").loss_and_grad(x, np.zeros((T, B)))
    with pytest.raises(ValueError, match="classes from 0 to 1"):
        make(loss="softmax").loss_and_grad(x, np.full((T, B), 2))
