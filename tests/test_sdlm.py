"""Stochastic diagonal Levenberg-Marquardt as an ordinary optimizer, and the curvature recursion behind it."""

import numpy as np
import pytest

import rnncore as rc
from rnncore.optim.curvature import diagonal_curvature

T, B, D, V, K = 5, 4, 3, 7, 3
LENGTHS = [5, 2, 4, 1]


def network(seed=0, layers=None, head=None, **options):
    layers = layers or [{}]
    made, width = [], options.get("embedding", D)
    for number, layer in enumerate(layers):
        layer = {"hidden_size": 6 - number, "dtype": "float64", "random_state": seed, **layer}
        inputs = V if number == 0 and options.get("symbols") and "embedding" not in options else width
        made.append(rc.Recurrent(layer.pop("cell", "elman"), inputs, **layer))
        width = made[-1].output_size
    table = rc.Embedding(V, options["embedding"]) if "embedding" in options else None
    more = {"readout": options.get("readout", "every"), "skip": options.get("skip", 0)}
    return rc.Network(made, head=head or rc.Softmax(K), embedding=table, **more)


def batch(net, symbols=None, bags=False):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((T, B, D))
    if symbols:
        x = rng.integers(-1, 3, (T, B, 4)) if bags else rng.integers(0, V, (T, B))
    shape = (T, B) if net.readout == "every" else (B,)
    classes = isinstance(net.head, (rc.Softmax, rc.CRF))
    return x, rng.integers(-1, K, shape) if classes else rng.random((*shape, K))


CASES = {
    "plain": {},
    "sigmoid": {"layers": [{"activation": "sigmoid"}]},
    "leaky": {"layers": [{"activation": "leaky_relu", "leaky_slope": 0.2}]},
    "clipped": {"layers": [{"activation": "clipped_relu", "clip_at": 0.3}]},
    "deep, both": {"layers": [{"num_layers": 2, "bidirectional": True, "activation": "relu"}]},
    "summed": {"layers": [{"bidirectional": True, "merge": "sum"}, {"bidirectional": True}]},
    "reverse, last": {"layers": [{"reverse": True}], "readout": "last"},
    "both, last": {"layers": [{"bidirectional": True}], "readout": "last"},
    "summed, last": {"layers": [{"bidirectional": True, "merge": "sum"}], "readout": "last"},
    "mean": {"layers": [{"bidirectional": True, "activation": "identity"}], "readout": "mean"},
    "max": {"readout": "max", "head": rc.SquaredError(K)},
    "weights": {"head": rc.Softmax(K, class_weight=[1, 0.5, 3], label_smoothing=0.2)},
    "squared": {"head": rc.SquaredError(K)},
    "yes or no": {"head": rc.SigmoidCrossEntropy(K), "readout": "last"},
    "no projection": {"head": rc.SquaredError(K, project=False)},
    "no projection, last": {
        "head": rc.Softmax(K, project=False),
        "readout": "last",
        "layers": [{"bidirectional": True}],
    },
    "symbols": {"symbols": True},
    "bags": {"symbols": True, "bags": True},
    "table": {"symbols": True, "embedding": 4},
    "table of bags": {"symbols": True, "embedding": 4, "bags": True, "layers": [{"bidirectional": True}]},
}


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
@pytest.mark.parametrize("case", CASES)
def test_without_squares_the_recursion_is_back_propagation(case, lengths):
    options = dict(CASES[case])
    bags = options.pop("bags", False)
    net = network(**options)
    x, y = batch(net, options.get("symbols"), bags)
    net.loss_and_grad(x, y, lengths)
    np.testing.assert_allclose(diagonal_curvature(net, x, y, lengths, power=1), net.grad, rtol=1e-9, atol=1e-14)
    kappa = net.curvature()
    assert (kappa >= 0).all()
    assert np.array_equal(kappa, diagonal_curvature(net, x, y, lengths))


def test_a_carried_state_counts():
    net = network()
    x, y = batch(net)
    net.loss_and_grad(x, y)
    state = net.state
    net.loss_and_grad(x, y, state=state)
    np.testing.assert_allclose(diagonal_curvature(net, x, y, state=state, power=1), net.grad, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_curvatures_are_the_original_programs(version):
    from replica_reference import Program

    both = version == "1.1"
    rng = np.random.default_rng(1)
    draw = lambda low, high, shape: rng.uniform(low, high, shape) * 5  # noqa: E731
    program = Program(both, V, [6], K, [1.0], [0.0], 0.0, False, draw)
    layer = {"activation": "relu", "bidirectional": both}
    net = network(layers=[layer], symbols=True, readout="every" if both else "last")
    suffixes = {"fwd": "_l", "bwd": "_r"} if both else {"fwd": ""}
    for array in net.params.values():
        array[...] = 0
    for direction, suffix in suffixes.items():
        net.params[f"layers.0.{direction}.W_xh"][...] = program.theta[f"hlayer0_U{suffix}"].T
        net.params[f"layers.0.{direction}.W_hh"][...] = program.theta[f"hlayer0_W{suffix}"].T
    net.params["head.W_hy"][...] = np.concatenate([program.theta[f"smr_W{suffix}"].T for suffix in suffixes.values()])
    x = rng.integers(0, V, (T, B))
    y = rng.integers(0, K, (T, B) if both else (1, B))
    _, _, theirs = program.cost_and_derivatives(x.T, y)
    ours = net.layout.views(
        diagonal_curvature(net, x, y if both else y[0]) * (T if both else 1)
    )  # mean, not sum, over t
    for direction, suffix in suffixes.items():
        np.testing.assert_allclose(ours[f"layers.0.{direction}.W_xh"].T, theirs[f"hlayer0_U{suffix}"], rtol=1e-9)
        np.testing.assert_allclose(ours[f"layers.0.{direction}.W_hh"].T, theirs[f"hlayer0_W{suffix}"], rtol=1e-9)
    both_S = np.concatenate([theirs[f"smr_W{suffix}"].T for suffix in suffixes.values()])
    np.testing.assert_allclose(ours["head.W_hy"], both_S, rtol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_rule_is_the_formula(dtype):
    net = network(layers=[{"dtype": dtype}])
    x, y = batch(net)
    x = x.astype(dtype)
    opt = rc.OPTIMIZERS["sdlm"](0.02, memory=0.8, momentum=0.7, damping=0.03, settling=2, weight_decay=0.1)
    decays = np.concatenate([np.full(a.size, float(a.ndim > 1)) for a in net.params.values()])
    theta, D, v = net.theta.astype(np.float64), 0.0, 0.0
    for t in range(4):
        net.theta[...] = theta
        net.train_step(x, y, opt)
        g = net.grad + 0.1 * decays * theta
        kappa = net.theta * 0.0
        net.theta[...] = theta
        kappa = net.curvature() + 0.1 * decays
        a, b = (0.5, 0.5) if t < 2 else (0.8, 0.7)
        D = a * D + (1 - a) * kappa
        v = b * v + (1 - b) * 0.02 * g / (D + 0.03)
        theta = theta - v
        np.testing.assert_allclose(
            opt.state_dict()["velocity"], v, rtol=1e-4 if dtype == "float32" else 1e-9, atol=1e-7
        )
        np.testing.assert_allclose(opt.state_dict()["mean_curvature"], D, rtol=1e-4)


def test_it_learns_and_resumes():
    net = network(layers=[{"activation": "relu"}])
    x, y = batch(net)
    opt = rc.SDLM(0.02)
    losses = [net.train_step(x, y, opt) for _ in range(150)]
    assert losses[-1] < 0.3 * losses[0]
    twin, again = net.copy(), rc.SDLM(0.02)
    again.load_state_dict(opt.state_dict())
    for _ in range(3):
        assert net.train_step(x, y, opt) == twin.train_step(x, y, again)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [{"cell": "lstm"}]}, "no curvature recursion for the cell lstm; sdlm trains elman"),
        ({"layers": [{"recurrent_dropout": 0.5}]}, "set recurrent_dropout=0"),
        ({"layers": [{"truncate": 2}]}, "truncate=None"),
        ({"layers": [{"zoneout": 0.1}]}, "zoneout or stochastic units"),
        ({"head": rc.CRF(K)}, "no curvature recursion for the head crf"),
        ({"head": rc.Softmax(K, pooling="attention")}, "nor for attention"),
        ({"skip": 3}, "sparse features"),
    ],
)
def test_networks_that_cannot_are_refused_before_anything_changes(options, message):
    net = network(**options)
    x, y = batch(net)
    x = (x, np.zeros((T, B, 1), int)) if net.skip else x
    before = net.theta.copy()
    with pytest.raises(ValueError, match=message):
        net.train_step(x, np.maximum(y, 0), rc.SDLM())
    np.testing.assert_array_equal(net.theta, before)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_a_curvature_that_overflows_is_named():
    """Outputs without an error have no gradient, but a curvature: the weight's square."""
    net = rc.Network(rc.Recurrent("elman", 2, 3, dtype="float32"), head=rc.SquaredError(1))
    net.theta[:] = 0
    net.params["head.W_hy"][:] = 1e25
    before, opt = net.theta.copy(), rc.SDLM()
    with pytest.raises(rc.NonFiniteError) as caught:
        net.train_step(np.ones((4, 2, 2), "float32"), np.zeros((4, 2, 1)), opt)
    assert caught.value.what == "the curvature of layers.0.fwd.W_xh" and not net.grad.any()
    np.testing.assert_array_equal(net.theta, before)


def test_a_first_step_that_fails_leaves_no_slots_and_no_owner():
    net, opt = network(), rc.SDLM()
    before = opt.state_dict()
    net.loss_and_grad(*batch(net))
    net.grad[0] = np.nan
    with pytest.raises(rc.NonFiniteError):
        opt.step(net)
    assert opt.state_dict() == before
    other = network(head=rc.SquaredError(K), embedding=4)  # any network may be the first
    other.train_step(*batch(other, symbols=True), opt)
    assert opt.steps == 1


def test_misuse_is_explained():
    with pytest.raises(ValueError, match="sdlm needs a Network"):
        rc.SDLM().step(rc.Recurrent("elman", 2, 3))
    with pytest.raises(RuntimeError, match="call loss_and_grad"):
        rc.SDLM().step(network())
    with pytest.raises(ValueError, match="damping: expected"):
        rc.SDLM(damping=0)
