"""Multiple timescale networks: against their equations, gradients, what is fixed, files, what is refused."""

import numpy as np
import pytest
import reference as ref
import twins

import rnncore as rc

T, N, K = 9, 3, 2


def make(**options):
    given = {"fast": 3, "slow": 2, "tau": (2.0, 3.0, 9.0), "dtype": "float64", "random_state": 1}
    return rc.models.MTRNN(K, N, **given | options)


def plainly(net, tau, teacher, which, steps, targets=None):
    """One sequence, one step at a time, as the equations say it."""
    p, sizes = net.params, (net.outputs, net.fast, net.slow)
    tau, u, y = np.repeat(tau, sizes), np.zeros(sum(sizes)), []
    u[-net.slow :] = p["start"][which]
    for t in range(steps):
        x = np.tanh(u)
        if targets is not None and t:
            x[: net.outputs] += teacher * (targets[t - 1] - x[: net.outputs])
        u = (1 - 1 / tau) * u + (x @ p["units.W_hh"] + p["units.b_h"]) / tau
        y.append(np.tanh(u)[: net.outputs])
    return np.array(y)


@pytest.fixture
def targets():
    return np.random.default_rng(7).uniform(-0.8, 0.8, (T, N, K))


@pytest.mark.parametrize("teacher", [0.0, 0.1, 1.0])
def test_the_equations(targets, teacher):
    net, lengths, which = make(teacher=teacher), [T, 4, 7], [2, 0, 1]
    loss = net.loss_and_grad(targets, lengths, which)
    errors = [
        (plainly(net, (2, 3, 9), teacher, which[b], n, targets[:, b]) - targets[:n, b]) ** 2
        for b, n in enumerate(lengths)
    ]
    assert loss == pytest.approx(np.concatenate(errors).sum() / sum(lengths), rel=1e-12)
    alone = net.generate(T, [1])
    np.testing.assert_allclose(alone[:, 0], plainly(net, (2, 3, 9), teacher, 1, T), rtol=1e-12, atol=1e-14)
    assert net.generate(T, units=True).shape == (T, N, 7)


@pytest.mark.parametrize(("lengths", "which"), [(None, None), ([T, 4, 7], [2, 0, 2])])
def test_gradients(targets, lengths, which):
    net = make()

    def value():
        return net.loss_and_grad(targets, lengths, which)

    value()
    gradients = {name: view.copy() for name, view in net.grads.items()}
    for name, view in net.params.items():
        wanted = ref.central_differences(value, view)
        if name == "units.W_hh":
            wanted *= net.connections
        assert ref.relative_error(gradients[name], wanted, 1e-4) < 1e-6, name


def test_who_sees_whom_stays_so(targets):
    """Outputs and slow units know one another by the fast ones alone, and constants stay."""
    net = make()
    before, adam = net.params["units.rho"].copy(), rc.Adam(0.05)
    for _ in range(5):
        net.train_step(targets, adam)
    W = net.params["units.W_hh"]
    assert not W[:K, -2:].any() and not W[-2:, :K].any() and W[:K, :-2].all() and W[2:, 2:].all()
    np.testing.assert_array_equal(net.params["units.rho"], before)
    assert not net.params["units.W_xh"].any()


def test_any_number_of_threads(targets):
    found = []
    for threads in (1, 3):
        net = make(n_threads=threads, fast=40, dtype="float32")
        found.append((net.loss_and_grad(targets), net.grad.copy()))
    assert found[1][0] == twins.same_loss(found[0][0])
    twins.assert_same_bits(found[1][1], found[0][1])


def test_a_saved_network_generates_the_same_bits(targets, tmp_path):
    net = make()
    net.train_step(targets, rc.Adam())
    net.save(tmp_path / "net.safetensors")
    other = rc.load(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(other.generate(50), net.generate(50))
    for each in (net, other):
        each.train_step(targets, rc.SGD(0.1))
    np.testing.assert_array_equal(other.theta, net.theta)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        *(
            ({"tau": tau}, "tau must be three numbers of at least 1")
            for tau in (2, (1, 2), (0.5, 5, 70), (1, 2, np.inf))
        ),
        ({"fast": 0}, "fast must be"),
        ({"slow": 1.5}, "slow must be"),
        ({"teacher": 1.1}, "teacher must be"),
        ({"dtype": "int8"}, "dtype"),
    ],
)
def test_what_cannot_be_built_is_said(given, message):
    with pytest.raises(ValueError, match=message):
        make(**given)


def test_what_cannot_be_run_is_said(targets):
    net = make()
    with pytest.raises(ValueError, match="targets must have shape"):
        net.loss_and_grad(targets[..., :1])
    with pytest.raises(ValueError, match="say which those are"):
        net.loss_and_grad(targets[:, :2])
    for which in ([3], [-1], [], [0.5], 1):
        with pytest.raises(ValueError, match="which must be numbers of sequences, from 0 to 2"):
            net.generate(3, which)
    with pytest.raises(ValueError, match="steps"):
        net.generate(0)
    with np.errstate(over="ignore"), pytest.raises(rc.NonFiniteError, match="the loss is inf"):
        net.loss_and_grad(np.full((T, N, K), 1e200))
