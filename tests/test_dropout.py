"""Dropout: what is dropped, how often, by which factor, and that masks depend on nothing but counters."""

import numpy as np
import pytest
import reference as ref
import twins

import rnncore as rc

KINDS = {
    "input": {"input_dropout": 0.3},
    "between": {"dropout": 0.3},
    "output": {"output_dropout": 0.3},
    "recurrent, per sequence": {"recurrent_dropout": 0.3},
    "recurrent, per step": {"recurrent_dropout": 0.3, "recurrent_dropout_mode": "step"},
}


def net_for(kind: str, **options) -> ref.Stack:
    return ref.Stack(**({"input_size": 6, "hidden_size": 5, "num_layers": 2 if kind == "between" else 1} | options))


def masks(kind: str, net=None, T=12, B=40, lengths=None, step=7, **options) -> np.ndarray:
    probe = twins.DropoutProbe(net or net_for(kind), T, B, lengths, step=step, **(KINDS[kind] | options))
    return np.stack(list(probe.masks().values()))[0]


@pytest.mark.parametrize("kind", KINDS)
def test_rate_and_scale(kind):
    """Kept units are scaled by 1/(1-p), so that the mean stays; as many are dropped as should be."""
    mask = masks(kind)
    np.testing.assert_allclose(mask[mask > 0.5], 1 / 0.7, rtol=1e-9)
    assert np.all((mask > 0.5) | (np.abs(mask) < 1e-9))
    rate = np.mean(mask < 0.5)
    draws = mask.size / (12 if kind == "recurrent, per sequence" else 1)
    assert abs(rate - 0.3) < 4 * np.sqrt(0.3 * 0.7 / draws)


@pytest.mark.parametrize("kind", KINDS)
def test_no_pattern(kind):
    """Neighbours in time, sequence and unit are dropped independently (one mask per sequence: equal in time)."""
    dropped = masks(kind, B=60) < 0.5
    for axis in range(3):
        one, other = (np.moveaxis(dropped, axis, 0)[part].ravel() for part in (slice(1, None), slice(-1)))
        if kind == "recurrent, per sequence" and axis == 0:
            np.testing.assert_array_equal(one, other)
        else:
            size = one.size / (12 if kind == "recurrent, per sequence" else 1)
            assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(size)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_follow_the_counter_and_the_seed(kind):
    np.testing.assert_array_equal(masks(kind), masks(kind))
    assert np.any(masks(kind, step=8) != masks(kind))
    assert np.any(masks(kind, random_state=5) != masks(kind, random_state=6))


@pytest.mark.parametrize("kind", KINDS)
def test_masks_do_not_depend_on_threads_or_other_sequences(kind):
    whole = masks(kind)
    for n_threads in (1, 2, 5):
        np.testing.assert_array_equal(masks(kind, n_threads=n_threads), whole)
    np.testing.assert_array_equal(masks(kind, B=7), whole[:, :7])
    np.testing.assert_array_equal(masks(kind, T=5), whole[:5])
    lengths = np.random.default_rng(1).integers(1, 13, 40)
    ragged = masks(kind, lengths=lengths)
    for b, n in enumerate(lengths):
        np.testing.assert_array_equal(ragged[:n, b], whole[:n, b])


@pytest.mark.parametrize("kind", KINDS)
def test_layers_and_directions_have_their_own(kind):
    if kind.startswith("recurrent"):
        net = net_for(kind, num_layers=2, direction="concat")
        all_masks = list(twins.DropoutProbe(net, 6, 9, **KINDS[kind]).masks().values())
        assert len(all_masks) == 4
        for i, one in enumerate(all_masks):
            assert not any(np.array_equal(one, other) for other in all_masks[:i])


def test_the_counter():
    """`loss_and_grad` advances it, a prediction does not; setting it back brings the masks back."""
    rng = np.random.default_rng(2)
    net, head = ref.Stack(4, 9), ref.Head("softmax", 3)
    made = twins.network(net, head, recurrent_dropout=0.5, output_dropout=0.5)
    x, targets = rng.standard_normal((5, 3, 4)), rng.integers(0, 3, (5, 3))
    start = made.dropout_step
    losses = [made.loss_and_grad(x, targets) for _ in range(3)]
    assert made.dropout_step == start + 3
    assert len(set(losses)) == 3
    calm = made.predict(x)
    np.testing.assert_array_equal(made.predict(x), calm)
    assert made.dropout_step == start + 3
    made.dropout_step = start
    assert [made.loss_and_grad(x, targets) for _ in range(3)] == losses


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_dropped_outside_training(kind):
    rng = np.random.default_rng(3)
    net = net_for(kind)
    params = net.random_params(rng)
    x = rng.standard_normal((5, 3, 6))
    dry, plain = twins.layer(net, params, **KINDS[kind]), twins.layer(net, params)
    np.testing.assert_array_equal(dry.forward(x, training=False)[0], plain.forward(x)[0])
    assert np.any(dry.forward(x, training=True)[0] != plain.forward(x)[0])
    if net.num_layers == 1:
        np.testing.assert_array_equal(dry.step(x[0], None)[0], plain.step(x[0], None)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_rate_zero_is_no_dropout(kind):
    rng = np.random.default_rng(4)
    net = net_for(kind)
    params = net.random_params(rng)
    x, dy = rng.standard_normal((5, 3, 6)), rng.standard_normal((5, 3, 5))
    zero = {name: 0.0 if isinstance(value, float) else value for name, value in KINDS[kind].items()}
    results = []
    for options in ({}, zero):
        layer = twins.layer(net, params, **options)
        layer.zero_grad()
        y, _ = layer.forward(x)
        layer.backward(dy)
        results.append((y, layer.grad.copy()))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_both_precisions_drop_the_same(kind, dtype):
    rng = np.random.default_rng(5)
    net = net_for(kind)
    params = net.random_params(rng)
    x = rng.standard_normal((5, 3, 6))
    layer = twins.layer(net, params, dtype=dtype, **KINDS[kind])
    layer.dropout_step = 7
    y, _ = layer.forward(x.astype(dtype))
    wanted, _ = ref.forward(net, params, x, masks=twins.DropoutProbe(net, 5, 3, **KINDS[kind]).masks())
    np.testing.assert_allclose(y, wanted, atol=1e-5 if dtype == "float32" else 1e-13)


@pytest.mark.parametrize("name", ["dropout", "input_dropout", "output_dropout", "recurrent_dropout"])
@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan"), float("inf"), "half", None])
def test_bad_rates(name, rate):
    with pytest.raises((ValueError, TypeError), match="dropout"):
        rc.Recurrent("elman", input_size=4, hidden_size=3, **{name: rate})


def test_bad_mode():
    with pytest.raises(ValueError, match="mode"):
        rc.Recurrent("elman", input_size=4, hidden_size=3, recurrent_dropout=0.1, recurrent_dropout_mode="weekly")
