"""Optimizers: their formulas, clipping, decay, lazy updates, threads, checkpoints and errors."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from peers import peer

from rnncore.optim.optimizers import (
    OPTIMIZERS,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    AdamW,
    Momentum,
    Nesterov,
    Optimizer,
    RMSprop,
)
from rnncore.optim.schedules import Constant, Exponential, HalveOnPlateau, Step

VARIANTS = {
    "sgd": (SGD, {}),
    "momentum": (Momentum, {"momentum": 0.8}),
    "nesterov": (Nesterov, {"momentum": 0.8}),
    "adagrad": (Adagrad, {}),
    "rmsprop": (RMSprop, {"rho": 0.9}),
    "rmsprop_momentum": (RMSprop, {"rho": 0.9, "momentum": 0.7}),
    "rmsprop_graves": (RMSprop, {"form": "graves"}),
    "adadelta": (Adadelta, {}),
    "adam": (Adam, {"beta2": 0.99}),
    "adamw": (AdamW, {"beta2": 0.99}),
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


class FlatNet:
    """The least an optimizer can train."""

    def __init__(self, theta, ranges=None, n_threads=1):
        self.theta = np.array(theta)
        self.grad = np.zeros_like(self.theta)
        self.ranges = np.array([[0, self.theta.size, 1]] if ranges is None else ranges, np.int64).reshape(-1, 3)
        self.touched = self.ranges
        self.n_threads = n_threads

    def update_ranges(self, lazy):
        return self.touched if lazy else self.ranges


def make(variant, **kwargs):
    kind, options = VARIANTS[variant]
    return kind(**{"learning_rate": 0.05, **options, **kwargs})


def random(shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def reference(variant, theta, grads, decays, rate=0.05, weight_decay=0.0, clip_value=None, clip_norm=None):
    """Return theta after a step for each of `grads`, written down from the formulas."""
    p, s, u, v = theta.astype(np.float64), 0.0, 0.0, 0.0
    for t, g in enumerate(grads, 1):
        if clip_value is not None:
            g = np.clip(g, -clip_value, clip_value)
        if clip_norm is not None:
            g = g * min(1.0, clip_norm / np.linalg.norm(g))
        if variant == "adamw":
            p = p - rate * weight_decay * decays * p
        else:
            g = g + weight_decay * decays * p
        if variant == "sgd":
            p = p - rate * g
        elif variant in ("momentum", "nesterov"):
            v = 0.8 * v + g
            p = p - rate * (g + 0.8 * v if variant == "nesterov" else v)
        elif variant == "adagrad":
            s = s + g**2
            p = p - rate * g / (np.sqrt(s) + 1e-10)
        elif variant.startswith("rmsprop") and variant != "rmsprop_graves":
            s = 0.9 * s + 0.1 * g**2
            v = (0.7 if variant == "rmsprop_momentum" else 0.0) * v + g / (np.sqrt(s) + 1e-8)
            p = p - rate * v
        elif variant == "rmsprop_graves":
            s = 0.95 * s + 0.05 * g**2
            u = 0.95 * u + 0.05 * g
            v = 0.9 * v - rate * g / np.sqrt(s - u**2 + 1e-4)
            p = p + v
        elif variant == "adadelta":
            s = 0.9 * s + 0.1 * g**2
            step = np.sqrt(u + 1e-6) / np.sqrt(s + 1e-6) * g
            u = 0.9 * u + 0.1 * step**2
            p = p - rate * step
        else:
            v = 0.9 * v + 0.1 * g
            s = 0.99 * s + 0.01 * g**2
            p = p - rate * (v / (1 - 0.9**t)) / (np.sqrt(s / (1 - 0.99**t)) + 1e-8)
    return p


def train(opt, net, grads):
    for grad in grads:
        net.grad[:] = grad
        opt.step(net)
    return net.theta


def bits(opt, net):
    state = opt.state_dict()
    return [net.theta.tobytes(), *(state[name].tobytes() for name in sorted(state) if hasattr(state[name], "tobytes"))]


@pytest.mark.kernels
@every_variant
@both_dtypes
@pytest.mark.parametrize("limits", [{}, {"clip_value": 0.7, "clip_norm": 2.0}])
def test_follows_its_formula(variant, dtype, limits):
    ranges = [[0, 16, 1], [16, 5, 0], [21, 1, 1], [22, 37, 1]]
    decays = np.repeat([1.0, 0.0, 1.0], [16, 5, 38])
    theta, grads = random(59, dtype=dtype), random((20, 59), 1, dtype)
    expected = reference(variant, theta, grads.astype(np.float64), decays, weight_decay=0.1, **limits)
    got = train(make(variant, weight_decay=0.1, **limits), FlatNet(theta, ranges), grads)
    tolerance = 1e-12 if dtype is np.float64 else 1e-4
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@every_variant
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_agrees_with_torch(variant, weight_decay):
    torch = peer("torch")
    if variant == "rmsprop_graves":
        pytest.skip("PyTorch does not have this form")
    make_theirs = {
        "sgd": lambda p, **kw: torch.optim.SGD(p, **kw),
        "momentum": lambda p, **kw: torch.optim.SGD(p, momentum=0.8, **kw),
        "nesterov": lambda p, **kw: torch.optim.SGD(p, momentum=0.8, nesterov=True, **kw),
        "adagrad": lambda p, **kw: torch.optim.Adagrad(p, **kw),
        "rmsprop": lambda p, **kw: torch.optim.RMSprop(p, alpha=0.9, **kw),
        "rmsprop_momentum": lambda p, **kw: torch.optim.RMSprop(p, alpha=0.9, momentum=0.7, **kw),
        "adadelta": lambda p, **kw: torch.optim.Adadelta(p, **kw),
        "adam": lambda p, **kw: torch.optim.Adam(p, betas=(0.9, 0.99), **kw),
        "adamw": lambda p, **kw: torch.optim.AdamW(p, betas=(0.9, 0.99), **kw),
    }[variant]
    theta, grads = random(37), random((20, 37), 1)
    parameter = torch.nn.Parameter(torch.tensor(theta))
    theirs = make_theirs([parameter], lr=0.05, weight_decay=weight_decay)
    for grad in grads:
        parameter.grad = torch.tensor(grad)
        theirs.step()
    ours = train(make(variant, weight_decay=weight_decay), FlatNet(theta), grads)
    np.testing.assert_allclose(ours, parameter.detach().numpy(), rtol=1e-12, atol=1e-12)


def test_defaults_are_torch_s():
    torch = peer("torch")
    ours = {"Adagrad": "eps", "RMSprop": "rho eps momentum", "Adadelta": "rho eps", "Adam": "eps", "AdamW": "eps"}
    theirs = {"rho": {"RMSprop": "alpha", "Adadelta": "rho"}}
    for name, options in ours.items():
        opt = OPTIMIZERS[name.lower()]()
        other = getattr(torch.optim, name)([torch.zeros(1)]).defaults
        assert (opt.learning_rate, opt.weight_decay) == (other["lr"], other["weight_decay"])
        for option in options.split():
            assert getattr(opt, option) == other[theirs.get(option, {}).get(name, option)]
    assert (Adam().beta1, Adam().beta2) == (0.9, 0.999)


@every_variant
def test_rate_zero_changes_nothing(variant):
    theta = random(50)
    opt = make(variant, learning_rate=0.0, weight_decay=0.1, clip_norm=1.0)
    np.testing.assert_array_equal(train(opt, FlatNet(theta), random((3, 50), 1)), theta)


@every_variant
def test_the_gradient_is_left_alone(variant):
    net = FlatNet(random(20))
    make(variant, clip_norm=0.1, clip_value=0.1, weight_decay=0.1).step(net)
    np.testing.assert_array_equal(net.grad, np.zeros(20))


floats = st.floats(-1e150, 1e150, allow_subnormal=False)


@given(arrays(np.float64, st.integers(1, 40), elements=floats), st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
@settings(max_examples=50, deadline=None)
def test_clipping_never_grows_the_gradient(grad, clip_norm, clip_value):
    net = FlatNet(np.zeros_like(grad))
    net.grad[:] = grad
    opt = SGD(1.0, clip_norm=clip_norm, clip_value=clip_value)
    opt.step(net)
    used = -net.theta
    assert np.all(np.abs(used) <= np.minimum(np.abs(grad), clip_value))
    assert np.linalg.norm(used) <= clip_norm * (1 + 1e-12)
    assert opt.grad_norm == pytest.approx(np.linalg.norm(np.clip(grad, -clip_value, clip_value)), rel=1e-12)
    if np.linalg.norm(grad) <= clip_norm and np.abs(grad).max() <= clip_value:
        np.testing.assert_array_equal(used, grad)


def test_value_clipping_comes_before_norm_clipping():
    net = FlatNet(np.zeros(2))
    train(SGD(1.0, clip_value=1.0, clip_norm=1.0), net, [[100.0, 1.0]])
    np.testing.assert_allclose(net.theta, [-math.sqrt(0.5), -math.sqrt(0.5)], rtol=1e-15)


def test_norm_whose_square_overflows():
    opt = SGD(1.0, clip_norm=5.0)
    net = FlatNet(np.zeros(2))
    train(opt, net, [[3e300, 4e300]])
    assert opt.grad_norm == pytest.approx(5e300)
    np.testing.assert_allclose(net.theta, [-3.0, -4.0], rtol=1e-12)


@pytest.mark.kernels
@every_variant
@both_dtypes
def test_same_bits_for_any_number_of_threads(variant, dtype):
    n = 1_200_007  # enough to be worth threads
    theta, grad = random(n, dtype=dtype), random(n, 1, dtype)
    cuts = np.r_[0, np.sort(np.random.default_rng(3).integers(0, n, 50)), n]
    ranges = np.stack([cuts[:-1], np.diff(cuts), np.arange(51) % 3 > 0], 1)
    results = set()
    for n_threads in (1, 2, 3, 8):
        opt = make(variant, clip_norm=1.0, clip_value=2.0, weight_decay=0.01)
        net = FlatNet(theta, ranges, n_threads)
        train(opt, net, [grad, theta])
        results.add(tuple(bits(opt, net)))
    assert len(results) == 1


@pytest.mark.kernels
@every_variant
@both_dtypes
def test_same_bits_wherever_the_ranges_are_cut(variant, dtype):
    theta, grads = random(70, dtype=dtype), random((5, 70), 1, dtype)
    results = set()
    for cuts in ([0, 70], [0, 1, 70], [0, 3, 8, 17, 33, 33, 66, 70], range(71)):
        cuts = np.asarray(cuts)
        opt = make(variant, clip_norm=1.0, weight_decay=0.01)
        net = FlatNet(theta, np.stack([cuts[:-1], np.diff(cuts), np.ones_like(cuts[1:])], 1))
        train(opt, net, grads)
        results.add(tuple(bits(opt, net)))
    assert len(results) == 1


def two_halves(opt, steps=4):
    """Train 40 rows of 7 numbers of which odd rows are touched by odd steps alone, and so on."""
    net = FlatNet(random(280))
    starts = np.arange(40) * 7
    for step in range(steps):
        touched = starts[step % 2 :: 2]
        net.touched = np.stack([touched, np.full_like(touched, 7), np.ones_like(touched)], 1)
        net.grad[:] = 0
        net.grad.reshape(40, 7)[step % 2 :: 2] = random((20, 7), step)
        opt.step(net)
    return net.theta


@pytest.mark.parametrize("variant", ["sgd", "adagrad"])
def test_lazy_is_dense_where_the_documentation_says_so(variant):
    lazy, dense = (two_halves(make(variant, clip_norm=1.0, lazy=lazy)) for lazy in (True, False))
    assert lazy.tobytes() == dense.tobytes()


@pytest.mark.parametrize("variant", sorted(set(VARIANTS) - {"sgd", "adagrad"}))
def test_lazy_leaves_untouched_rows_alone(variant):
    theta = random(280).reshape(40, 7)
    lazy, dense = (two_halves(make(variant, lazy=lazy), 1).reshape(40, 7) for lazy in (True, False))
    np.testing.assert_array_equal(lazy[1::2], theta[1::2])
    np.testing.assert_array_equal(lazy[::2], dense[::2])
    assert not np.array_equal(two_halves(make(variant)), two_halves(make(variant, lazy=False)))


def test_nothing_to_visit():
    net = FlatNet(random(5), np.empty((0, 3)))
    train(Adam(clip_norm=1.0), net, [np.ones(5)])
    np.testing.assert_array_equal(net.theta, random(5))
    Adam().step(FlatNet(np.empty(0)))


@pytest.mark.parametrize("variant", ["momentum", "rmsprop", "rmsprop_graves", "adam"])
def test_moments_that_die_away_end_as_zero(variant):
    opt = make(variant)
    net = FlatNet(random(20, dtype=np.float32))
    train(opt, net, [np.full(20, 1e-19, np.float32)] + [np.zeros(20, np.float32)] * 3000)
    slots = [value for value in opt.state_dict().values() if isinstance(value, np.ndarray)]
    assert all(np.all((slot == 0) | (np.abs(slot) >= np.finfo(np.float32).tiny)) for slot in slots)


@every_variant
@both_dtypes
@pytest.mark.parametrize("carry", ["state_dict", "pickle", "deepcopy"])
def test_goes_on_with_the_same_bits(variant, dtype, carry):
    grads = random((6, 33), 1, dtype)
    schedule = HalveOnPlateau(unit="epoch")
    whole = make(variant, schedule=copy.deepcopy(schedule), weight_decay=0.01)
    net = FlatNet(random(33, dtype=dtype))
    train(whole, net, grads[:3])
    whole.end_epoch(1.0)
    whole.end_epoch(2.0)
    theta = net.theta.copy()
    if carry == "state_dict":
        resumed = make(variant, schedule=copy.deepcopy(schedule), weight_decay=0.01)
        resumed.load_state_dict(whole.state_dict())
    else:
        resumed = pickle.loads(pickle.dumps(whole)) if carry == "pickle" else copy.deepcopy(whole)
    again = FlatNet(theta)
    train(whole, net, grads[3:])
    train(resumed, again, grads[3:])
    assert bits(resumed, again) == bits(whole, net)
    assert (resumed.steps, resumed.epochs, resumed.rate) == (6, 2, 0.025)


def test_state_dict_is_a_copy_of_arrays_and_numbers():
    opt = Adam(schedule=HalveOnPlateau())
    net = FlatNet(random(3))
    train(opt, net, random((2, 3), 1))
    state = opt.state_dict()
    assert set(state) == {"steps", "epochs", "mean", "mean_square", "schedule.factor", "schedule.bad"}
    before = state["mean"].copy()
    train(opt, net, random((1, 3), 2))
    np.testing.assert_array_equal(state["mean"], before)


def test_state_of_an_optimizer_that_has_not_begun():
    opt = Momentum()
    opt.load_state_dict(Momentum().state_dict())
    opt.step(FlatNet(random(4)))
    assert opt.steps == 1


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"steps": 1, "epochs": 0, "velocity": np.zeros(3)},
        {"steps": 1, "epochs": 0, "mean": np.zeros(3)},
        {"steps": 1, "epochs": 0, "mean": np.zeros(3), "mean_square": np.zeros(4)},
        {"steps": 1, "epochs": 0, "mean": np.zeros(3), "mean_square": np.zeros(3, np.float32)},
        {"steps": 1, "epochs": 0, "mean": np.zeros(3, int), "mean_square": np.zeros(3, int)},
    ],
)
def test_a_foreign_state_is_refused(state):
    with pytest.raises(ValueError, match="expected"):
        Adam().load_state_dict(state)


@every_variant
def test_slots_belong_to_one_network(variant):
    opt = make(variant)
    opt.step(FlatNet(random(5)))
    others = [FlatNet(random(5)), FlatNet(random(6)), FlatNet(random(5, dtype=np.float32))]
    if variant == "sgd":
        for other in others:
            opt.step(other)
        return
    for other in others:
        with pytest.raises(ValueError, match="one optimizer per network"):
            opt.step(other)
    opt.reset()
    opt.step(others[2])
    assert opt.steps == 1


def test_a_network_that_cannot_be_referred_to_weakly():
    class Slots:
        __slots__ = ("grad", "theta", "update_ranges")

    net, like = Slots(), FlatNet(random(20))
    net.theta, net.grad, net.update_ranges = like.theta.copy(), random(20, 2), like.update_ranges
    like.grad[:] = net.grad
    opt, other = Adam(0.1), Adam(0.1)
    for _ in range(3):
        opt.step(net)
        other.step(like)
    assert net.theta.tobytes() == like.theta.tobytes()
    with pytest.raises(ValueError, match="one optimizer per network"):
        opt.step(like)


def test_a_base_class_is_no_optimizer():
    with pytest.raises(TypeError, match="abstract"):
        Optimizer()
    with pytest.raises(ValueError, match="expected a network with arrays theta, grad and update_ranges, got Lists"):
        SGD().step(type("Lists", (), {"theta": [1.0], "grad": [1.0]})())


def test_loaded_slots_of_another_size_are_refused():
    opt, fresh = Adam(), Adam()
    opt.step(FlatNet(random(5)))
    fresh.load_state_dict(opt.state_dict())
    with pytest.raises(ValueError, match="expected a network of 5 float64 parameters"):
        fresh.step(FlatNet(random(6)))
    fresh.step(FlatNet(random(5)))


def test_arrays_of_a_network_may_move():
    opt, net = Momentum(0.1), FlatNet(random(5))
    still = FlatNet(random(5))
    other = Momentum(0.1)
    for grad in random((4, 5), 1):
        net.theta, net.grad = net.theta.copy(), grad.copy()
        opt.step(net)
    train(other, still, random((4, 5), 1))
    assert net.theta.tobytes() == still.theta.tobytes()


@pytest.mark.parametrize(
    ("theta", "grad"),
    [
        (np.zeros(3), np.zeros(4)),
        (np.zeros(3), np.zeros(3, np.float32)),
        (np.zeros((3, 1)), np.zeros((3, 1))),
        (np.zeros(3, int), np.zeros(3, int)),
        (np.zeros(6)[::2], np.zeros(3)),
        (np.zeros(3), np.zeros(6)[::2]),
    ],
)
def test_wrong_arrays(theta, grad):
    net, opt = FlatNet(np.zeros(3)), Adam()
    net.theta, net.grad = theta, grad
    with pytest.raises(ValueError, match=r"expected|contiguous"):
        opt.step(net)
    opt.step(FlatNet(random(7)))


@pytest.mark.parametrize(
    "ranges",
    [[[0, 6, 1]], [[-1, 2, 1]], [[3, -1, 1]], [[0, 3, 1], [2, 2, 1]], [[3, 1, 1], [0, 1, 1]], [[2**62, 2**62, 0]]],
)
def test_wrong_ranges(ranges):
    net = FlatNet(np.zeros(5), ranges)
    with pytest.raises(ValueError, match="expected ranges sorted"):
        SGD().step(net)


@pytest.mark.parametrize(
    "ranges", [np.zeros((1, 3), np.int32), np.zeros((1, 3)), np.zeros(3, int), np.zeros((1, 2), int)]
)
def test_ranges_of_the_wrong_kind(ranges):
    net = FlatNet(np.zeros(5))
    net.touched = ranges
    with pytest.raises(ValueError, match="int64"):
        SGD().step(net)


@pytest.mark.parametrize("kind", sorted(OPTIMIZERS))
@pytest.mark.parametrize(
    "option",
    [
        {"learning_rate": -1.0},
        {"learning_rate": math.nan},
        {"learning_rate": math.inf},
        {"clip_norm": 0.0},
        {"clip_norm": -1.0},
        {"clip_norm": math.nan},
        {"clip_value": 0.0},
        {"weight_decay": -1e-3},
        {"weight_decay": math.nan},
    ],
)
def test_bad_common_hyper_parameters(kind, option):
    (name,) = option
    with pytest.raises(ValueError, match=f"{name}: expected .*, got .*; try"):
        OPTIMIZERS[kind](**option)


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        (Momentum, {"momentum": 1.0}),
        (Nesterov, {"momentum": -0.1}),
        (Adagrad, {"eps": 0.0}),
        (RMSprop, {"rho": 1.0}),
        (RMSprop, {"eps": math.nan}),
        (RMSprop, {"momentum": 1.5}),
        (Adadelta, {"rho": 1.0}),
        (Adadelta, {"eps": 0.0}),
        (Adam, {"beta1": 1.0}),
        (Adam, {"beta2": -0.5}),
        (Adam, {"beta2": math.nan}),
        (AdamW, {"eps": 0.0}),
    ],
)
def test_bad_hyper_parameters_of_one_kind(kind, option):
    with pytest.raises(ValueError, match="expected"):
        kind(**option)


def test_hyper_parameters_of_the_wrong_type():
    for option in ({"learning_rate": "fast"}, {"learning_rate": True}, {"schedule": 0.5}, {"clip_norm": [1.0]}):
        with pytest.raises(TypeError, match="expected"):
            SGD(**option)
    with pytest.raises(ValueError, match="form: expected"):
        RMSprop(form="tf")


def test_hyper_parameters_are_frozen():
    opt = Adam()
    with pytest.raises(dataclasses.FrozenInstanceError):
        opt.learning_rate = 1.0
    assert dataclasses.replace(opt, learning_rate=1.0).learning_rate == 1.0
    assert "beta1=0.9" in repr(opt)
    assert "memory" not in repr(opt)


@every_variant
def test_a_fresh_one_has_the_settings_and_nothing_else(variant):
    opt = make(variant, schedule=HalveOnPlateau())
    opt.step(FlatNet(random(5)))
    opt.end_epoch(1.0)
    opt.end_epoch(2.0)
    fresh = opt.fresh()
    assert repr(fresh) == repr(opt)
    assert (fresh.steps, fresh.epochs, fresh.rate, opt.rate) == (0, 0, 0.05, 0.025)
    fresh.step(FlatNet(random(6)))


def test_an_eps_that_single_precision_cannot_hold_divides_nothing_by_zero():
    net = FlatNet(np.ones(4, np.float32))
    train(Adam(eps=1e-60), net, [np.zeros(4)])
    np.testing.assert_array_equal(net.theta, np.ones(4))


def test_schedules_drive_the_rate():
    net = FlatNet(np.zeros(1))
    opt = SGD(1.0, schedule=Step(every=2, gamma=0.5))
    for total in (1.0, 2.0, 2.5, 3.0, 3.25):
        train(opt, net, [[-1.0]])
        assert net.theta[0] == total
    assert opt.rate == 0.25


def test_any_callable_is_a_schedule():
    opt = SGD(2.0, schedule=lambda step: 1.0 / (1 + step))
    train(opt, FlatNet(np.zeros(1)), [[1.0]] * 3)
    assert opt.rate == 0.5
    with pytest.raises(ValueError, match=r"schedule's factor in \[0, inf\)"):
        SGD(schedule=lambda step: -1.0).step(FlatNet(np.zeros(1)))


def test_schedules_by_epoch():
    opt = SGD(1.0, schedule=Exponential(0.5, unit="epoch"))
    train(opt, FlatNet(np.zeros(1)), [[1.0]] * 5)
    assert opt.rate == 1.0
    opt.end_epoch()
    assert (opt.rate, opt.epochs) == (0.5, 1)


def test_a_plateau_halves_the_rate():
    opt = SGD(1.0, schedule=HalveOnPlateau())
    for loss in (2.0, 1.0, 1.5):
        opt.end_epoch(loss)
    assert opt.rate == 0.5
    with pytest.raises(ValueError, match="expected the epoch's loss"):
        opt.end_epoch()
    Adam(schedule=Constant(warmup=3)).end_epoch()


@pytest.mark.parametrize("name", ["steps", "epochs"])
@pytest.mark.parametrize("value", [-1, -(2**63), 1.5, "3", None, True, 2**63])
def test_counters_that_cannot_be(name, value):
    """At -1 steps Adam divided by zero; a negative count never ends."""
    with pytest.raises(ValueError, match=f"expected {name} of an optimizer's state as a whole number of at least 0"):
        Adam().load_state_dict(Adam().state_dict() | {name: value})


@pytest.mark.parametrize(("name", "value"), [("factor", -1.0), ("factor", math.nan), ("bad", -1), ("loss", math.nan)])
def test_states_of_schedules_that_cannot_be(name, value):
    adam = Adam(schedule=HalveOnPlateau())
    with pytest.raises(ValueError, match=name):
        adam.load_state_dict(adam.state_dict() | {f"schedule.{name}": value})
