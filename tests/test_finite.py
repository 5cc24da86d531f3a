"""What is not finite never reaches the weights, and is named: what, which sequence, which step."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from test_optimizers import VARIANTS, FlatNet, bits, make, random

import rnncore as rc
from rnncore.data.encoders import Sequences
from rnncore.train.trainer import DivergenceWarning, Trainer

T, B, D, H, K = 6, 5, 3, 4, 2
CLIPS = [{}, {"clip_norm": 1.0}, {"clip_value": 0.5}, {"clip_norm": 1.0, "clip_value": 0.5}]
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
not_finite = pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])


def network(dtype="float64", cell="elman", head=None, **options):
    layer = rc.Recurrent(cell, D, H, dtype=dtype, random_state=1, **options)
    return rc.Network(layer, head=head or rc.Softmax(K))


def batch(dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((T, B, D)).astype(dtype), rng.integers(0, K, (T, B))


def all_of(net, opt):
    """What a failing step must leave as it was."""
    state = opt.state_dict()
    parts = {name: value.tobytes() if isinstance(value, np.ndarray) else value for name, value in state.items()}
    return net.theta.tobytes(), parts, opt.grad_norm, net.dropout_step


# -- the optimizers -------------------------------------------------------------------------------------------------


@pytest.mark.kernels
@pytest.mark.parametrize("variant", VARIANTS)
@both_dtypes
@pytest.mark.parametrize("clip", CLIPS, ids=str)
@not_finite
def test_a_gradient_written_by_the_user(variant, dtype, clip, bad):
    for place in (0, 15, 16, 217, 299):
        opt, net = make(variant, **clip), FlatNet(random(300, dtype=dtype))
        opt.step(net)
        before, steps, norm = bits(opt, net), opt.steps, opt.grad_norm
        net.grad[:] = random(300, 2, dtype)
        net.grad[place] = bad
        with pytest.raises(rc.NonFiniteError, match=rf"the gradient of theta .at .{place}.") as caught:
            opt.step(net)
        assert isinstance(caught.value, FloatingPointError) and caught.value.what == "the gradient of theta"
        assert (bits(opt, net), opt.steps, opt.grad_norm) == (before, steps, norm)
        net.grad[place] = 0
        opt.step(net)
        assert opt.steps == steps + 1 and bits(opt, net) != before


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_first_step_that_fails_leaves_no_slots_and_no_owner(variant):
    opt, net = make(variant), FlatNet(random(20))
    before = opt.state_dict()
    net.grad[3] = np.nan
    with pytest.raises(rc.NonFiniteError):
        opt.step(net)
    assert opt.state_dict() == before
    opt.step(FlatNet(random(30)))  # any network may be the first


def test_only_what_a_step_visits_counts():
    """Lazy steps do not read the other rows; steps that visit all do."""
    for lazy in (True, False):
        net = FlatNet(random(40))
        net.touched = np.array([[8, 8, 1], [24, 4, 1]])
        net.grad[:] = 1
        net.grad[20] = np.nan
        opt = rc.SGD(0.1, lazy=lazy)
        if lazy:
            opt.step(net)
            assert np.flatnonzero(net.theta != random(40)).tolist() == [*range(8, 16), *range(24, 28)]
        else:
            with pytest.raises(rc.NonFiniteError):
                opt.step(net)
            np.testing.assert_array_equal(net.theta, random(40))


@both_dtypes
@pytest.mark.parametrize("n_threads", [1, 2])
def test_the_last_number_of_many(dtype, n_threads):
    n = 1_200_007
    net = FlatNet(random(n, dtype=dtype), n_threads=n_threads)
    net.grad[-1] = np.inf
    for clip in CLIPS:
        with pytest.raises(rc.NonFiniteError, match=f"{n - 1}"):
            rc.Momentum(0.1, **clip).step(net)
    assert net.theta.tobytes() == random(n, dtype=dtype).tobytes()


@pytest.mark.parametrize("variant", VARIANTS)
@both_dtypes
def test_finite_gradients_of_any_size(variant, dtype):
    """Either the step is done and all is finite, or it is refused and nothing has changed."""
    highest = float(np.finfo(dtype).max)
    refused = []
    for size in [1e-30, 1.0, highest**0.4, highest**0.47, highest**0.51, highest**0.9, highest]:
        for clip in CLIPS:
            opt, net = make(variant, learning_rate=1.0, **clip), FlatNet(random(300, dtype=dtype))
            net.grad[:] = size
            try:
                opt.step(net)
            except rc.NonFiniteError as problem:
                assert "overflows" in str(problem) and not clip
                assert net.theta.tobytes() == random(300, dtype=dtype).tobytes()
                refused.append(size)
            slots = [value for value in opt.state_dict().values() if isinstance(value, np.ndarray)]
            assert np.isfinite(net.theta).all() and all(np.isfinite(slot).all() for slot in slots)
    squares = variant not in ("sgd", "momentum", "nesterov")
    assert refused == ([highest**0.51, highest**0.9, highest] if squares else [highest])


def test_a_rate_beyond_the_precision():
    net = FlatNet(random(20, dtype=np.float32))
    with pytest.raises(rc.NonFiniteError, match="overflows"):
        rc.SGD(1e39).step(net)
    assert np.isfinite(net.theta).all()


def test_the_error_survives_pickling():
    error = rc.NonFiniteError("said", "x", 3, 4)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.what, again.sequence, again.step) == ("said", "x", 3, 4)


# -- networks -------------------------------------------------------------------------------------------------------


def fails(net, opt, x, targets, **more):
    """Train until the optimizer has slots; then see that the batch is refused and nothing has changed."""
    good_x, good_targets = batch(net.dtype)
    if opt.steps == 0 and np.isfinite(net.theta).all():
        net.train_step(good_x, good_targets if targets.dtype.kind == "i" else np.zeros_like(targets), opt)
    return place(net, opt, x, targets, **more)


def place(net, opt, x, targets, **more):
    """Refused, changing nothing: return what was not finite, in which sequence, at which step."""
    before = all_of(net, opt)
    with pytest.raises(rc.NonFiniteError) as caught:
        net.train_step(x, targets, opt, **more)
    assert all_of(net, opt) == before
    return caught.value.what, caught.value.sequence, caught.value.step


@pytest.mark.parametrize("name", sorted(rc.OPTIMIZERS))
@both_dtypes
@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize("clip", [{}, {"clip_norm": 1.0}], ids=str)
@pytest.mark.filterwarnings("ignore:invalid value")  # SDLM's curvature of what is not finite
def test_every_optimizer(name, dtype, lazy, clip):
    opt = rc.OPTIMIZERS[name](learning_rate=0.01, lazy=lazy, **clip)
    net = network(dtype, dropout=0.0)
    for bad in (np.nan, np.inf):
        x, targets = batch(dtype)
        x[4, 3, 1] = bad
        assert fails(net, opt, x, targets) == ("x", 3, 4)
    x, targets = batch(dtype)
    net.loss_and_grad(x, targets)
    net.grads["head.W_hy"][2, 1] = np.nan
    before = all_of(net, opt)
    with pytest.raises(rc.NonFiniteError, match=r"the gradient of head.W_hy .at .2, 1.") as caught:
        opt.step(net)
    assert all_of(net, opt) == before and caught.value.what == "the gradient of head.W_hy"
    kept = net.theta.copy()
    net.params["layers.0.fwd.W_hh"][1, 2] = np.nan
    assert fails(net, opt, x, targets) == ("layers.0.fwd.W_hh", None, None)
    net.loss_and_grad(x, targets)
    with pytest.raises(rc.NonFiniteError, match=r"NaN in layers.0.fwd.W_hh"):
        opt.step(net)
    net.theta[:] = kept
    net.train_step(x, targets, opt)
    assert np.isfinite(net.theta).all() and not np.array_equal(net.theta, kept)


@both_dtypes
@pytest.mark.parametrize("clip", CLIPS, ids=str)
@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop"])
def test_a_loss_that_explodes(name, dtype, clip):
    """relu units that double at every step, until the outputs are beyond the largest number."""
    steps = 200 if dtype == "float32" else 1200
    layer = rc.Recurrent("elman", 1, 2, activation="relu", dtype=dtype)
    net = rc.Network(layer, head=rc.SquaredError(1))
    net.theta[:] = 0
    net.params["layers.0.fwd.W_hh"][:] = 2 * np.eye(2)
    net.params["layers.0.fwd.W_xh"][:] = 1
    net.params["head.W_hy"][:] = 1
    x, targets = np.zeros((steps, 3, 1), dtype), np.zeros((steps, 3, 1), dtype)
    x[10, 2] = 1
    opt = rc.OPTIMIZERS[name](learning_rate=1e-3, **clip)
    before = net.theta.tobytes()
    with pytest.raises(rc.NonFiniteError) as caught:
        net.train_step(x, targets, opt)
    # h is 2^(t-10), the score twice that; its square is beyond 2^128 (2^1024) where 2(t - 9) is
    maximum = 128 if dtype == "float32" else 1024
    assert caught.value.sequence == 2 and net.theta.tobytes() == before
    assert (caught.value.what, caught.value.step) == ("the outputs of layer 0", 10 + maximum)
    lengths = np.full(3, 9 + maximum // 2 + 3)
    with pytest.raises(rc.NonFiniteError) as caught:
        net.train_step(x, targets, opt, lengths=lengths)
    assert net.theta.tobytes() == before and opt.steps == 0
    if caught.value.what == "the loss":  # in double the loss of float32 scores is finite, its gradient may be as well
        assert (caught.value.sequence, caught.value.step) == (2, 9 + maximum // 2)


@pytest.mark.parametrize("ragged", [False, True])
@not_finite
def test_places_in_the_batch(ragged, bad):
    head = rc.SquaredError(K)
    net, opt = network(head=head), rc.SGD(0.01)
    x, _ = batch()
    targets = np.zeros((T, B, K))
    lengths = np.array([6, 2, 4, 5, 1]) if ragged else None
    targets[3, 2, 1] = bad
    with pytest.raises(ValueError, match="step 3 of sequence 2"):
        net.train_step(x, targets, opt, lengths=lengths)
    targets[3, 2, 1] = 0
    if ragged:  # past a sequence's end anything may stand
        targets[3, 1], x[5, 4] = bad, bad
        net.train_step(x, targets, opt, lengths=lengths)
    else:
        assert fails(net, opt, 1e200 * np.ones_like(x), targets * 0 + 1e200)[0] == "the loss"
    state = (np.zeros((1, B, H)),)
    state[0][0, 3, 1] = bad
    assert fails(net, opt, x, np.zeros_like(targets), lengths=lengths, state=state) == ("state", 3, None)


@pytest.mark.parametrize("readout", ["last", "mean", "max"])
def test_targets_of_whole_sequences(readout):
    net = rc.Network(rc.Recurrent("elman", D, H, dtype="float64"), head=rc.SquaredError(1), readout=readout)
    targets = np.zeros((B, 1))
    x = batch()[0]
    targets[3] = np.inf
    with pytest.raises(ValueError, match="at sequence 3"):
        net.train_step(x, targets, rc.SGD(0.1))
    targets[3] = 1e200
    with pytest.raises(rc.NonFiniteError) as caught:
        net.train_step(x, targets, rc.SGD(0.1))
    assert (caught.value.what, caught.value.sequence, caught.value.step) == ("the loss", 3, None)


@pytest.mark.parametrize("kind", ["dense", "symbols", "embedding", "bags", "skip"])
@pytest.mark.parametrize("lazy", [True, False])
def test_a_parameter_of_every_input(kind, lazy):
    rng = np.random.default_rng(3)
    embedding = rc.Embedding(7, D) if kind in ("embedding", "bags") else None
    layer = rc.Recurrent("lstm", 7 if kind == "symbols" else D, H, dtype="float64", dropout=0.3, num_layers=2)
    net = rc.Network(layer, head=rc.Softmax(K), embedding=embedding, skip=9 if kind == "skip" else 0)
    x, targets = batch()
    if kind == "skip":
        x = (x, rng.integers(-1, 9, (T, B, 2)), rng.standard_normal((T, B, 2)))
    elif kind != "dense":
        x = rng.integers(0, 7, (T, B, 3) if kind == "bags" else (T, B))
    opt = rc.Adam(lazy=lazy)
    net.train_step(x, targets, opt)
    for name, view in net.params.items():
        if kind == "skip" and name == "head.W_skip":
            at = (int(x[1].max()), 0)
        elif view.shape[0] == 7:
            at = (int(x[0].flat[0]), 0)
        else:
            at = tuple(0 for _ in view.shape)
        kept = view[at]
        view[at] = np.nan
        before = all_of(net, opt)
        with pytest.raises(rc.NonFiniteError) as caught:
            net.train_step(x, targets, opt)
        assert caught.value.what == name and all_of(net, opt) == before
        view[at] = kept
    if kind == "skip":
        x[2][3, 1, 0] = np.inf
        x[1][3, 1, 0] = 2
        with pytest.raises(rc.NonFiniteError) as caught:
            net.train_step(x, targets, opt)
        assert (caught.value.what, caught.value.sequence, caught.value.step) == ("the values of x", 1, 3)


def test_a_crf_whose_sums_overflow():
    net = rc.Network(rc.Recurrent("elman", D, H, dtype="float64"), head=rc.CRF(K))
    x, targets = (array[:, :1] for array in batch())
    targets[:] = 0
    net.params["head.transitions"][1, 1] = 1e308  # met twice, for the first time, by paths of three steps
    opt = rc.SGD(0.1)
    before = all_of(net, opt)
    with pytest.raises(rc.NonFiniteError) as caught:
        net.train_step(x, targets, opt)
    assert (caught.value.what, caught.value.sequence, caught.value.step) == ("the loss", 0, 2)
    assert all_of(net, opt) == before


def test_the_search_leaves_the_network_alone():
    net, opt = network(), rc.SGD(0.1)
    x, targets = batch()
    net.train_step(x, targets, opt)
    state, other = net.state[0].copy(), copy.deepcopy(net)
    x[2, 1] = np.inf
    fails(net, opt, x, targets)
    assert state.shape == net.state[0].shape
    x, targets = batch(seed=1)
    assert net.train_step(x, targets, opt) == other.train_step(x, targets, rc.SGD(0.1))
    assert net.theta.tobytes() == other.theta.tobytes()


def test_a_network_of_parts_names_the_part():
    """Of several inputs, of sparse features beside them, of several heads: what it is, and where."""
    x, targets = batch()
    vector, lengths = np.zeros((B, 2)), np.array([6, 2, 4, 5, 1])
    layer = rc.Recurrent("elman", D + 2, H, dtype="float64")
    inputs = {"some": rc.Numbers(D), "other": rc.SequenceVector(2)}
    net, opt = rc.Network(layer, head=rc.Softmax(K), inputs=inputs), rc.SGD(0.1)
    wrong, x[5, 1], vector[3, 1] = x.copy(), np.nan, np.nan
    wrong[3, 1, 0] = np.inf
    assert place(net, opt, {"some": wrong, "other": 0 * vector}, targets) == ("x['some']", 1, 3)
    assert place(net, opt, {"some": x, "other": vector}, targets, lengths=lengths) == ("x['other']", 3, None)
    listed = rc.Network(layer, head=rc.Softmax(K), inputs=list(inputs.values()))
    assert place(listed, opt, (wrong, np.zeros((B, 2))), targets) == ("x[0]", 1, 3)
    sparse = rc.Network(layer, head=rc.Softmax(K), inputs=inputs, skip=7)
    ids, values = np.zeros((T, B, 1), int), np.ones((T, B, 1))
    assert place(sparse, opt, ({"some": wrong, "other": np.zeros((B, 2))}, ids), targets) == ("x['some']", 1, 3)
    values[2, 4] = np.inf
    given = {"some": batch()[0], "other": np.zeros((B, 2))}
    assert place(sparse, opt, (given, ids, values), targets) == ("the values of x", 4, 2)
    heads = {"label": rc.Softmax(K), "number": rc.SquaredError(1)}
    net = rc.Network(rc.Recurrent("elman", D, H, dtype="float64"), heads=heads)
    assert place(net, opt, wrong.tolist(), {"label": targets}) == ("x", 1, 3)
    state = (np.zeros((1, B, H)),)
    large = {"label": targets, "number": np.full((T, B, 1), 1e200)}
    assert place(net, opt, batch()[0], large, state=state) == ("the loss of number", None, None)
    state[0][0, 2, 1] = np.inf
    assert place(net, opt, batch()[0], {"label": targets}, state=state) == ("state", 2, None)


class Sum(rc.CustomHead):
    def loss_and_grad(self, scores, targets, lengths):
        return float(np.sum(targets["inside"] if isinstance(targets, dict) else targets)), np.zeros_like(scores)


def test_targets_of_a_custom_head_may_be_anything():
    layer = rc.Recurrent("elman", D, H, dtype="float64")
    alone, opt = rc.Network(layer, head=Sum(1)), rc.SGD(0.1)
    several = rc.Network(layer, heads={"own": Sum(1), "label": rc.Softmax(K)})
    x, labels = batch()
    by_step = np.zeros((T, B))
    by_step[4, 2] = np.nan
    assert place(alone, opt, x, by_step) == ("targets", 2, 4)
    assert place(several, opt, x, {"own": by_step}) == ("targets['own']", 2, 4)
    assert place(alone, opt, x, by_step[4]) == ("targets", 2, None)
    assert place(alone, opt, x, np.nan) == ("targets", None, None)
    assert place(alone, opt, x, {"inside": np.nan}) == ("the loss of head", None, None)
    with pytest.raises(rc.NonFiniteError, match=r"targets \(at \[1\]\)"):
        alone.train_step(x, np.array([0, np.nan]), opt)
    assert place(several, opt, np.full_like(x, np.inf), {"label": labels}) == ("x", 0, 0)


def test_the_loss_of_one_step_is_found_in_every_form_of_a_batch():
    """Ids and bags, past whose ends anything may stand, features, states, weights, feedback; arrays or lists."""
    rng, opt, lengths = np.random.default_rng(5), rc.SGD(0.1), np.array([6, 2, 4, 5, 3])
    x, targets, state = batch()[0], np.zeros((T, B, 1)), (np.ones((1, B, H)),)
    targets[1, 3] = 1e200

    def net(cell="elman", head=None, **options):
        layers = [rc.Recurrent(cell, D, H, dtype="float64"), rc.Recurrent("elman", H, H, dtype="float64")]
        return rc.Network(layers if cell == "elman" else layers[0], head=head or rc.SquaredError(1), **options)

    ids = rng.integers(0, 7, (T, B))
    embedded = net(embedding=rc.Embedding(7, D))
    ids[5, 1] = 999
    bags = np.stack([ids, ids], axis=2)
    for symbols in (ids, bags, ids.tolist()):
        assert place(embedded, opt, symbols, targets, lengths=lengths) == ("the loss", 3, 1)
    features = rng.integers(0, 9, (T, B, 2))
    for given in ((x, features), (x, features, np.ones((T, B, 2))), (x.tolist(), features.tolist())):
        assert place(net(skip=9), opt, given, targets) == ("the loss", 3, 1)
    for weights in (None, np.ones(B), np.ones((T, B)), [1.0] * B):
        more = {"sample_weight": weights, "state": [state, state]}
        assert place(net(), opt, x, targets.tolist(), **more) == ("the loss", 3, 1)
    turned = net(batch_first=True)
    weights = np.ones((B, T))
    assert place(turned, opt, x.swapaxes(0, 1), targets.swapaxes(0, 1), sample_weight=weights) == ("the loss", 3, 1)
    jordan = net("jordan", rc.SquaredError(H, project=False))
    feedback, targets = np.zeros((T, B, H)), np.repeat(targets, H, axis=2)
    for given in (feedback, feedback.tolist()):
        assert place(jordan, opt, x, targets, feedback=given) == ("the loss", 3, 1)
    feedback[2, 4, 1] = np.nan
    assert place(jordan, opt, x, 0 * targets, feedback=feedback) == ("feedback", 4, 2)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_a_number_beyond_the_precision():
    x, targets = batch()
    x[4, 2, 1] = 1e300
    assert place(network("float32"), rc.SGD(0.1), x, targets) == ("x", 2, 4)


# -- the trainer, and learning on streams ---------------------------------------------------------------------------


def test_the_trainer_adds_epoch_and_batch_and_keeps_what_was_learned():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, D))
    x[27, 1] = np.nan  # sequence 6, step 3
    data = Sequences(x, rng.integers(0, K, 40), np.full(10, 4))
    net, opt = network(), rc.Adam(0.01)
    theta = [net.theta.copy()]
    done = net.train_step
    seen = []

    def train_step(*args, **kwargs):
        loss = done(*args, **kwargs)
        seen.append(args[0])
        theta.append(net.theta.copy())
        return loss

    net.train_step = train_step
    trainer = Trainer(net, opt, data, batch_size=2, max_epochs=3, random_state=np.random.default_rng(1))
    with pytest.warns(
        DivergenceWarning, match=r"epoch 1, batch \d of 5: x \(sequence 6 of the training data, step 3\)"
    ):
        trainer.run()
    assert trainer.stopped == "diverged" and opt.steps == len(seen) == len(theta) - 1 < 5
    assert net.theta.tobytes() == theta[-1].tobytes()


@both_dtypes
@not_finite
def test_rtrl(dtype, bad):
    net = network(dtype, head=rc.SquaredError(1, project=False))
    rtrl = rc.RTRL(net, rc.Adam(0.01))
    x, targets = batch(dtype)[0][:, 0], np.zeros((T, 1))
    rtrl.run(x, targets)

    def everything():
        return all_of(net, rtrl.optimizer), rtrl.state[0].tobytes(), rtrl.sensitivities.tobytes()

    before = everything()
    x[4, 1] = bad
    with pytest.raises(rc.NonFiniteError) as caught:
        rtrl.run(x, targets)
    assert (caught.value.what, caught.value.step) == ("x", 4)
    with pytest.raises(rc.NonFiniteError):
        rtrl.step(x[4])
    assert everything() == before
    with pytest.raises(rc.NonFiniteError), np.errstate(all="ignore"):
        rtrl.step(x[3], [np.inf])
    assert everything() == before
    kept = net.theta.copy()
    net.theta[0] = np.nan
    with pytest.raises(rc.NonFiniteError, match=r"layers.0.fwd.W_xh"), np.errstate(all="ignore"):
        rtrl.step(x[3], targets[3])
    net.theta[:] = kept
    assert everything() == before
    other = pickle.loads(pickle.dumps(rtrl))
    assert rtrl.step(x[0], targets[0]).tobytes() == other.step(x[0], targets[0]).tobytes()


@both_dtypes
@not_finite
def test_ekf(dtype, bad):
    net = network(dtype, head=rc.SquaredError(K))
    ekf = rc.EKF(net, window=3, coupling="layer")
    x, targets = batch(dtype)[0], np.zeros((T, B, K))
    ekf.run(x, targets)

    def everything():
        parts = [*ekf.P, *ekf._inputs, *[part for own in ekf._state for part in own], net.theta]
        return [part.tobytes() for part in parts], ekf.updates, len(ekf._starts)

    before = everything()
    x[4, 2, 1] = bad
    with pytest.raises(rc.NonFiniteError) as caught:
        ekf.run(x, targets)
    assert (caught.value.what, caught.value.sequence, caught.value.step) == ("x", 2, 4)
    with pytest.raises(rc.NonFiniteError) as caught:
        ekf.step(x[4], targets[4])
    assert (caught.value.what, caught.value.sequence) == ("x_t", 2)
    targets[1, 1] = np.inf
    with pytest.raises(rc.NonFiniteError, match="targets"):
        ekf.step(x[1], targets[1])
    assert everything() == before
    kept = net.theta.copy()
    net.theta[0] = bad
    with pytest.raises(rc.NonFiniteError, match=r"layers.0.fwd.W_xh"):
        ekf.step(x[1], targets[2])
    net.theta[:] = kept
    assert everything() == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ekf.step(x[1], targets[2])
