"""Gradients over all pairs of options, in float64, with sizes that differ pairwise.

Three witnesses: central differences of the engine's own loss, derivatives of the reference by complex step (which also
know truncation: the sum over windows whose entry state is a constant), and `rc.gradcheck`.
"""

import itertools

import numpy as np
import pytest
import reference as ref
import twins
from covering import covering_cases, pairs

import rnncore as rc

NOISE = 1e-4  # gradients below it are as small as what rounding does to central differences
T, B, H, K, E, SYMBOLS = 5, 3, 2, 6, 7, 9  # a bag has 8 places, both directions together 4 units
ACTIVATIONS = list(ref.ACTIVATIONS)
DROPOUTS = {
    "none": {},
    "input": {"input_dropout": 0.3},
    "between": {"dropout": 0.4},
    "output": {"output_dropout": 0.3},
    "recurrent, per sequence": {"recurrent_dropout": 0.4},
    "recurrent, per step": {"recurrent_dropout": 0.4, "recurrent_dropout_mode": "step"},
    "zoneout": {"zoneout": 0.4},
}
LAYER_OPTIONS = {
    "cell": list(ref.FAMILY),
    "activation": ACTIVATIONS,
    "direction": ["fwd", "reverse", "concat", "sum"],
    "depth": [1, 2],
    "ragged": [False, True],
    "dropout": list(DROPOUTS),
    "truncate": [None, 1, 2],
}
LAYERS = {name: rc.Recurrent(cell, 2, 8, **own) for name, (cell, own) in ref.FAMILY.items()}
NOT_ZONED = [name for name, layer in LAYERS.items() if not layer.cell.record(layer.plan).zoned]
NETWORK_OPTIONS = LAYER_OPTIONS | {
    "input": ["dense", "ids", "bags", "embedded ids", "embedded bags"],
    "head": ["softmax", "squared", "sigmoid"],
    "readout": ["every", "last", "mean", "max"],
    "state": [False, True],
}


def allowed(case):
    """Leave out what means nothing, or is an error by design."""
    between_needs_depth = case["dropout"] != "between" or case["depth"] == 2
    states_go_forward = case["direction"] == "fwd" or not case["state"]
    has_activation = case["activation"] in rc.CELLS[ref.FAMILY[case["cell"]][0]].activations
    zoneout_has_states = case["dropout"] != "zoneout" or case["cell"] not in NOT_ZONED
    return zoneout_has_states and between_needs_depth and states_go_forward and has_activation


def allowed_in_a_layer(case):
    return allowed(case | {"state": False})


LAYER_CASES = covering_cases(
    LAYER_OPTIONS | {"input": ["dense", "ids", "bags"], "state": [False, True]}, allowed_in_a_layer
)
NETWORK_CASES = covering_cases(NETWORK_OPTIONS, allowed)


def name_of(case):
    return "-".join(str(value).replace(" ", "_") for value in case.values())


def stack_of(case, inputs: int) -> ref.Stack:
    sizes = (inputs, H, case["depth"], case["direction"], case["activation"])
    return ref.member(case["cell"], *sizes, truncate=case["truncate"])


def bound(case) -> float:
    """Of central differences; a normalisation over few numbers bends more sharply than their step is small."""
    return 1e-4 if case["cell"] in ("lstm with layer norm", "lstm with all") else 1e-6


def test_the_cases_cover_all_pairs():
    met = set().union(*(pairs(case) for case in NETWORK_CASES))
    harmless = {
        "cell": "elman",
        "activation": "tanh",
        "direction": "fwd",
        "depth": 2,
        "dropout": "none",
        "state": False,
    }
    for (one, xs), (other, ys) in itertools.combinations(NETWORK_OPTIONS.items(), 2):
        for x, y in itertools.product(xs, ys):
            possible = allowed(harmless | {one: x, other: y})
            assert (((one, x), (other, y)) in met) == possible, (one, x, other, y)


@pytest.mark.parametrize("case", NETWORK_CASES, ids=name_of)
def test_network(case):
    rng = np.random.default_rng(NETWORK_CASES.index(case))
    embedded = case["input"].startswith("embedded")
    kind = case["input"].removeprefix("embedded ")
    net, head = stack_of(case, E if embedded else SYMBOLS), ref.Head(case["head"], K)
    params = twins.random_params(net, head, rng, SYMBOLS if embedded else None)
    dropout = DROPOUTS[case["dropout"]]
    made = twins.network(net, head, case["readout"], params, SYMBOLS if embedded else None, **dropout)
    x = twins.random_input(rng, kind, T, B, SYMBOLS)
    lengths = twins.random_lengths(rng, T, B) if case["ragged"] else None
    targets = head.random_targets(rng, (T, B) if case["readout"] == "every" else (B,))
    state = twins.random_state(rng, net, B) if case["state"] else None

    def loss():
        made.dropout_step = 7  # the same masks at every evaluation
        return made.loss_and_grad(x, targets, lengths=lengths, state=state)

    value = loss()
    grads = {name: view.copy() for name, view in made.grads.items()}
    if net.exact:
        for name, view in made.params.items():
            assert ref.relative_error(grads[name], ref.central_differences(loss, view), NOISE) < bound(case), name

    masks = twins.DropoutProbe(net, T, B, lengths, **dropout).masks() if dropout else {}
    arguments = (x, targets, lengths, state, masks)
    assert value == pytest.approx(ref.loss(net, head, case["readout"], params, *arguments), rel=1e-12)
    wanted = ref.derivative(lambda a: ref.loss(net, head, case["readout"], a, *arguments), params)
    for name in params:
        assert ref.relative_error(grads[name], wanted[name]) < 1e-11, name


@pytest.mark.parametrize("case", LAYER_CASES, ids=name_of)
def test_layer(case):
    """A bare layer: also the gradients of dense inputs and initial states, and those of final states."""
    rng = np.random.default_rng(LAYER_CASES.index(case))
    D = 5 if case["input"] == "dense" else SYMBOLS
    net, dropout = stack_of(case, D), DROPOUTS[case["dropout"]]
    params = net.random_params(rng)
    layer = twins.layer(net, params, **dropout)
    x = twins.random_input(rng, case["input"], T, B, D)
    lengths = twins.random_lengths(rng, T, B) if case["ragged"] else None
    start = twins.named_state(rng, net, B) if case["state"] else {}
    dy, dfinal = rng.standard_normal((T, B, net.output_size)), twins.random_state(rng, net, B)

    def value():
        layer.dropout_step = 7
        y, final = layer.forward(x, state=tuple(start.values()) or None, lengths=lengths)
        return (y * dy).sum() + sum((s * w).sum() for s, w in zip(final, dfinal, strict=True))

    layer.zero_grad()
    value()
    dx, dstate = layer.backward(dy, dstate=dfinal)
    got = {name: view.copy() for name, view in layer.grads.items()} | dict(zip(start, dstate or (), strict=True))
    values = dict(layer.params) | start
    if case["input"] == "dense":
        got["x"], values["x"] = dx, x
    if net.exact:
        for name, array in values.items():
            assert ref.relative_error(got[name], ref.central_differences(value, array), NOISE) < bound(case), name

    masks = twins.DropoutProbe(net, T, B, lengths, **dropout).masks() if dropout else {}
    function = twins.weighted_sum(net, x, dy, dfinal, lengths, masks)
    wanted = ref.derivative(function, {name: array.copy() for name, array in values.items()})
    for name in values:
        assert ref.relative_error(got[name], wanted[name]) < 1e-11, name


@pytest.mark.parametrize("options", [{}, {"recurrent_dropout": 0.4, "dropout": 0.2}], ids=["plain", "dropout"])
@pytest.mark.parametrize("readout", ["every", "last"])
def test_gradcheck_of_a_network(readout, options):
    rng = np.random.default_rng(3)
    net, head = ref.Stack(5, 3, num_layers=2, direction="concat"), ref.Head("softmax", 4)
    made = twins.network(net, head, readout, **options)
    x, lengths = rng.standard_normal((T, B, 5)), twins.random_lengths(rng, T, B)
    targets = rng.integers(0, 4, (T, B) if readout == "every" else (B,))
    theta = made.theta.copy()
    errors = rc.gradcheck(made, x, targets, lengths=lengths)
    assert set(errors) == set(made.params)
    assert max(errors.values()) < 1e-6
    np.testing.assert_array_equal(made.theta, theta)


def test_gradcheck_sees_a_gradient_that_is_no_derivative():
    """Truncation makes one; a check that lets it pass checks nothing."""
    rng = np.random.default_rng(4)
    made = twins.network(ref.Stack(5, 3, truncate=1), ref.Head("softmax", 4))
    errors = rc.gradcheck(made, rng.standard_normal((T, B, 5)), rng.integers(0, 4, (T, B)))
    assert errors["layers.0.fwd.W_hh"] > 1e-3
    assert errors["head.W_hy"] < 1e-6


def test_gradcheck_in_single_precision_is_done_in_double():
    rng = np.random.default_rng(5)
    made = twins.network(ref.Stack(5, 3), ref.Head("softmax", 4), dtype="float32")
    x = rng.standard_normal((T, B, 5)).astype(np.float32)
    try:
        errors = rc.gradcheck(made, x, rng.integers(0, 4, (T, B)))
    except (ValueError, TypeError) as problem:
        assert "float64" in str(problem)
        return
    assert max(errors.values()) < 1e-6
