"""Settings for groups of parameters, frozen parameters, and bare layers: what an optimizer's step visits, and how."""

import copy
import pickle

import numpy as np
import pytest

import rnncore as rc
from rnncore.nn.touched import TouchedRows

T, B, V = 5, 3, 30
RULES = sorted(set(rc.OPTIMIZERS) - {"sdlm"})


def network(**given):
    options = {"num_layers": 2, "dtype": "float64", "random_state": 3} | given
    return rc.Network(rc.Recurrent("lstm", 6, 5, **options), head=rc.Softmax(4), embedding=rc.Embedding(V, 6))


def batch(seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, V // 2, (T, B)), rng.integers(0, 4, (T, B))


def train(net, opt, steps=4):
    for seed in range(steps):
        net.train_step(*batch(seed), opt)
    return net


def parts(net, names):
    return {name: net.params[name].tobytes() for name in names}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("lazy", [True, False])
def test_each_group_is_trained_as_by_an_optimizer_with_its_settings(name, lazy):
    """Without clipping, parameters know nothing of one another: three trainings by the same gradients are one."""
    own = {"learning_rate": 2e-3, "weight_decay": 0.0}
    common = {"learning_rate": 1e-2, "weight_decay": 0.1, "lazy": lazy}
    kind = rc.OPTIMIZERS[name]
    net, plain, special = network(), network(), network()
    opt = kind(**common, groups={"embedding.*": own, "layers.1.*": {"learning_rate": 0.0}})
    opt_plain, opt_special = kind(**common), kind(**(common | own))
    start = net.theta.copy()
    for seed in range(4):
        net.loss_and_grad(*batch(seed))
        for twin in (plain, special):
            twin.loss_and_grad(*batch(seed))
            twin._grad[...] = net._grad
        opt.step(net)
        opt_plain.step(plain)
        opt_special.step(special)
    views = net.layout.views(start)
    for name in net.params:
        wanted = special if name.startswith("embedding") else plain
        if name.startswith("layers.1") and name != "adamw":
            np.testing.assert_array_equal(net.params[name], views[name])
        elif not name.startswith("layers.1"):
            np.testing.assert_array_equal(net.params[name], wanted.params[name])
            assert not np.array_equal(net.params[name], views[name])


def test_a_setting_without_effect_gives_the_bits_of_no_groups():
    same = {"embedding.*": {"learning_rate": 0.01}, "*": {"weight_decay": 0.1}}
    settings = {"learning_rate": 0.01, "weight_decay": 0.1, "clip_norm": 0.5, "clip_value": 0.1}
    nets = [train(network(), rc.Adam(**settings, groups=groups)) for groups in (None, same, {})]
    for net in nets[1:]:
        np.testing.assert_array_equal(net.theta, nets[0].theta)


def test_the_first_pattern_that_fits_wins_and_schedules_act_on_all():
    groups = {"layers.0.fwd.b_h": {"learning_rate": 0.5}, "layers.0.*": {"learning_rate": 0.25}, "*": {}}
    opt = rc.SGD(1.0, groups=groups, schedule=lambda step: 0.5)
    net = network()
    net.loss_and_grad(*batch())
    start, grad = net.theta.copy(), net._grad
    opt.step(net)
    rates = {"layers.0.fwd.b_h": 0.25, "layers.0.fwd.W_xh": 0.125, "layers.1.fwd.b_h": 0.5, "head.W_hy": 0.5}
    moved, grads = net.layout.views(start - net.theta), net.layout.views(grad)
    for name, rate in rates.items():
        np.testing.assert_allclose(moved[name], rate * grads[name], rtol=1e-9, atol=1e-15)
    assert opt.rate == 0.5


@pytest.mark.parametrize("pattern", ["*", "*.b_?", "layers.0.*"])
def test_decay_of_a_group_is_for_matrices_alone(pattern):
    net = network()
    net.zero_grad()
    start = copy.deepcopy(net)
    rc.SGD(0.1, groups={pattern: {"weight_decay": 1.0}}).step(net)
    from fnmatch import fnmatchcase

    for name, view in net.params.items():
        factor = 0.9 if fnmatchcase(name, pattern) and view.ndim > 1 and not name.startswith("embedding") else 1.0
        np.testing.assert_allclose(view, factor * start.params[name], rtol=1e-12)


@pytest.mark.parametrize(
    ("groups", "error", "says"),
    [
        ({"decoder.*": {}}, ValueError, r"decoder.*embedding\.E, layers\.0\.fwd\.W_xh.*head\.b_y"),
        ({"*": {"clip_norm": 1.0}}, ValueError, "learning_rate, weight_decay.*got clip_norm"),
        ({"*": {"beta3": 1.0}}, ValueError, "beta1, beta2.*got beta3"),
        ({"*": {"learning_rate": -1.0}}, ValueError, "learning_rate"),
        ({"*": {"beta1": "x"}}, TypeError, "beta1"),
        ({"*": 0.1}, TypeError, "patterns of names with settings"),
        (["*"], TypeError, "patterns of names with settings"),
        ({3: {}}, ValueError, "a pattern is a string"),
    ],
)
def test_what_makes_no_sense_as_groups_is_refused(groups, error, says):
    net = network()
    before = net.theta.copy()
    net.loss_and_grad(*batch())
    with pytest.raises(error, match=says):
        rc.Adam(groups=groups).step(net)
    np.testing.assert_array_equal(net.theta, before)


def test_a_group_cannot_change_the_rule():
    with pytest.raises(ValueError, match="other slots"):
        rc.RMSprop(0.01, groups={"*": {"momentum": 0.9}})
    assert rc.RMSprop(0.01, momentum=0.5, groups={"*": {"momentum": 0.9}}).steps == 0


def test_groups_ask_for_names():
    class Flat:
        theta, grad = np.zeros(4), np.ones(4)

        def update_ranges(self, lazy):
            return np.array([[0, 4, 1]])

    with pytest.raises(ValueError, match="parameters have names"):
        rc.SGD(groups={"*": {}}).step(Flat())


@pytest.mark.parametrize("way", ["state_dict", "pickle", "deepcopy"])
def test_training_with_groups_and_frozen_parameters_goes_on_from_a_copy(way):
    groups = {"embedding.*": {"learning_rate": 1e-4}, "head.*": {"beta1": 0.5}}
    whole, opt = network(), rc.Adam(groups=groups, weight_decay=0.1, clip_norm=1.0)
    whole.freeze("layers.0.*")
    train(whole, opt, 2)
    half, again = copy.deepcopy(whole), opt.fresh()
    if way == "state_dict":
        again.load_state_dict(opt.state_dict())
    elif way == "pickle":
        half, again = pickle.loads(pickle.dumps((whole, opt)))
    else:
        again = copy.deepcopy(opt)
    assert again.groups == groups and half.frozen == whole.frozen
    for net, optimizer in ((whole, opt), (half, again)):
        train(net, optimizer, 4)
    np.testing.assert_array_equal(half.theta, whole.theta)


@pytest.mark.parametrize("name", RULES)
def test_frozen_parameters_stay_and_do_not_count(name):
    """The others are trained as by an optimizer that never knew them, clipped by their own norm."""
    opt = rc.OPTIMIZERS[name](1e-2, weight_decay=0.1, clip_norm=0.05)
    net = network()
    net.freeze("layers.0.*", "embedding.E")
    before = parts(net, net.frozen)
    train(net, opt)
    assert parts(net, net.frozen) == before
    free = [view for name, view in net.grads.items() if name not in net.frozen]
    assert opt.grad_norm == pytest.approx(np.sqrt(sum((view**2).sum() for view in free)))
    assert all(net.grads[name].any() for name in net.frozen)
    assert all(net.params[name].any() for name in net.params)
    kept = {name: slot for name, slot in opt.state_dict().items() if isinstance(slot, np.ndarray)}
    for slot in kept.values():
        views = net.layout.views(slot)
        assert not any(views[name].any() for name in net.frozen)
    net.unfreeze("*")
    assert net.frozen == ()
    train(net, opt)
    assert all(parts(net, [name]) != {name: before[name]} for name in before)


def test_layers_and_their_network_agree_on_what_is_frozen():
    first, second = rc.Recurrent("gru", 3, 4), rc.Recurrent("lstm", 4, 5, num_layers=2)
    second.freeze("layers.1.fwd.W_hh")
    net = rc.Network([first, second], head=rc.Softmax(2))
    assert net.frozen == ("layers.2.fwd.W_hh",)
    net.freeze("layers.1.*.b_h", "head.W_hy", "layers.0.fwd.b_hn")
    assert second.frozen == ("layers.0.fwd.b_h", "layers.1.fwd.W_hh") and first.frozen == ("layers.0.fwd.b_hn",)
    second.unfreeze("*")
    assert net.frozen == ("layers.0.fwd.b_hn", "head.W_hy")
    for twin in (net.copy(), net.copy("float64"), copy.copy(net), pickle.loads(pickle.dumps(net))):
        assert twin.frozen == net.frozen
        twin.unfreeze("*")
    assert net.frozen == ("layers.0.fwd.b_hn", "head.W_hy")


def test_freezing_by_a_pattern_that_fits_nothing_changes_nothing():
    net = network()
    with pytest.raises(ValueError, match=r"freeze: no parameter fits 'layer\.\*'; there are embedding\.E, "):
        net.freeze("head.*", "layer.*")
    assert net.frozen == ()


def test_all_may_be_frozen():
    net, opt = network(), rc.SGD(0.1, clip_norm=1.0)
    net.freeze("*")
    before = net.theta.copy()
    train(net, opt)
    np.testing.assert_array_equal(net.theta, before)
    assert opt.grad_norm == 0.0


def test_a_frozen_weight_out_of_bounds_stays():
    layer = rc.Recurrent("indrnn", 2, 3, bound=1.0)
    layer.params["layers.0.fwd.u"][...] = [0.5, 3, -2]
    net = rc.Network(layer, head=rc.Softmax(2))
    net.freeze("*.u")
    net.train_step(np.ones((3, 1, 2), "float32"), np.zeros((3, 1), int), rc.SGD(0.1))
    assert layer.params["layers.0.fwd.u"].tolist() == [0.5, 3, -2]


def test_a_gradient_that_is_not_finite_where_frozen_stops_nothing():
    net, opt = network(), rc.SGD(0.1, clip_norm=1.0)
    net.freeze("head.b_y")
    net.loss_and_grad(*batch())
    net.grads["head.b_y"][...] = np.nan
    opt.step(net)
    assert np.isfinite(net.theta).all()
    net.grads["head.W_hy"][0, 0] = np.inf
    with pytest.raises(rc.NonFiniteError) as caught:
        opt.step(net)
    assert caught.value.what == "the gradient of head.W_hy"


def test_the_filter_leaves_frozen_weights_alone():
    net = rc.Network(rc.Recurrent("elman", 1, 4, random_state=1), head=rc.SquaredError(1))
    net.freeze("layers.0.fwd.W_hh")
    before = net.params["layers.0.fwd.W_hh"].copy()
    series = np.sin(np.arange(30))[:, None]
    ekf = rc.EKF(net, window=3)
    assert len(ekf.P[0]) == net.theta.size - 16
    ekf.run(series[:-1], series[1:])
    np.testing.assert_array_equal(net.params["layers.0.fwd.W_hh"], before)


@pytest.mark.parametrize("name", RULES)
def test_a_bare_layer_is_trained_as_one_in_a_network(name):
    """With project=False and squared errors the network's gradient is the layer's for dy = 2 (y - target) / rows."""
    options = {"cell": "gru", "input_size": 3, "hidden_size": 4, "dtype": "float64", "bidirectional": True}
    layer, other = rc.Recurrent(**options), rc.Recurrent(**options)
    net = rc.Network(other, head=rc.SquaredError(8, project=False))
    opts = [rc.OPTIMIZERS[name](1e-2, weight_decay=0.1, clip_norm=0.1) for _ in range(2)]
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((T, B, 3)), rng.standard_normal((T, B, 8))
    for _ in range(3):
        layer.zero_grad()
        y, _ = layer.forward(x)
        layer.backward(2 * (y - target) / (T * B))
        opts[0].step(layer)
        net.train_step(x, target, opts[1])
    np.testing.assert_allclose(layer.theta, net.theta, rtol=1e-7, atol=1e-9)
    assert opts[0].steps == 3


def test_a_bare_layer_takes_groups_and_freezing():
    layer = rc.Recurrent("lstm", 7, 4, num_layers=2)
    layer.freeze("layers.0.*.b_h")
    opt = rc.SGD(0.1, groups={"layers.1.*": {"learning_rate": 0.0}})
    start = layer.theta.copy()
    y, _ = layer.forward(np.array([[0, 3], [6, 3]]))  # ids: rows of W_xh
    layer.backward(np.ones_like(y))
    opt.step(layer)
    moved = {name for name, view in layer.params.items() if not np.array_equal(view, layer.layout.views(start)[name])}
    assert moved == {"layers.0.fwd.W_xh", "layers.0.fwd.W_hh"}
    twin = pickle.loads(pickle.dumps(layer))
    assert twin.frozen == ("layers.0.fwd.b_h",)


def test_tables_of_no_interest_are_not_followed():
    touched = TouchedRows([0])
    assert touched.replace(7, np.array([1])) is None and touched.of(7) is None
    touched.restore({0: np.array([2, 5])}, {0: 9})
    assert touched.of(0).tolist() == [2, 5]
