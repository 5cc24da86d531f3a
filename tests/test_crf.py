"""The CRF head: against all label sequences one by one, against a plain recursion, and in awkward cases."""

import itertools
import pickle

import numpy as np
import pytest
import reference as ref
import twins

import rnncore as rc
from rnncore.nn.heads import Constraints, bio_constraints

SIZES = [(1, 1), (1, 4), (2, 3), (4, 2), (5, 1), (5, 4)]
DIRECTIONS = ["fwd", "reverse", "concat", "sum"]
kernels = pytest.mark.kernels
bits_promised = pytest.mark.skipif(not twins.native_products(), reason="a BLAS promises a tolerance, not bits")


def rule_for(rng, K: int) -> Constraints:
    """Forbids some steps, but never all."""
    keep = rng.permutation(K)  # the labels in this order are always possible, again and again
    allowed = rng.random((K, K)) < 0.4
    allowed[keep, np.roll(keep, -1)] = allowed[keep[0], keep[0]] = True
    start, end = rng.random(K) < 0.5, np.ones(K, dtype=bool)
    start[keep[0]] = True
    end[keep[-1]] = K == 1
    return Constraints(allowed, start, end)


def scores_only(K: int, head: ref.Head, s: np.ndarray, params, dtype="float64"):
    """A network whose scores are its input: an identity layer that forgets, and an identity projection."""
    net = ref.Stack(K, K, activation="identity")
    eye = {"layers.0.fwd.W_xh": np.eye(K), "layers.0.fwd.W_hh": np.zeros((K, K)), "layers.0.fwd.b_h": np.zeros(K)}
    eye |= {"head.W_hy": np.eye(K), "head.b_y": np.zeros(K)}
    return twins.network(net, head, params={**eye, **chain_params(params)}, dtype=dtype)


def chain_params(params) -> dict:
    return {name: params[name] for name in ("head.transitions", "head.start", "head.end")}


def case(K: int, T: int, B: int, constrained=False, scale=1.0, seed=0):
    """A network of bare scores, the scores, ragged lengths, allowed targets, and the reference's chain."""
    rng = np.random.default_rng([seed, K, T, B])
    rule = rule_for(rng, K) if constrained else None
    head = ref.Head("crf", K, {} if rule is None else {"constraints": rule})
    params = head.random_params(rng, K, scale)
    s, lengths = scale * rng.standard_normal((T, B, K)), twins.random_lengths(rng, T, B)
    chain = ref.Chain.of(params, rule)
    possible = [b for b in range(B) if np.isfinite(chain.log_total(s[: lengths[b], b]))]
    s, lengths = s[:, possible], lengths[possible]
    s = s[: lengths.max()]
    net = scores_only(K, head, s, params)
    targets = rng.integers(0, K, s.shape[:2])
    for b, n in enumerate(lengths):
        targets[:n, b] = max(every_path(K, n), key=lambda path, b=b, n=n: chain.score(s[:n, b] * rng.random(), path))
    return net, s, lengths, targets, chain, params, head


def every_path(K: int, n: int):
    return [list(path) for path in itertools.product(range(K), repeat=n)]


def brute_force(chain: ref.Chain, s: np.ndarray):
    """All label sequences, best first, and their log-probabilities."""
    paths = every_path(s.shape[1], len(s))
    scores = np.array([chain.score(s, path) for path in paths])
    log_p = scores - ref.log_sum(scores)
    order = np.argsort(-log_p, kind="stable")
    return np.array(paths)[order], log_p[order]


# ---------------------------------------------------------------------------------------- against all label sequences


@kernels
@pytest.mark.parametrize("constrained", [False, True])
@pytest.mark.parametrize("T, K", SIZES)
def test_everything_against_all_label_sequences(T, K, constrained):
    net, s, lengths, targets, chain, _, _ = case(K, T, 4, constrained)
    loss, marginals = net.loss_and_grad(s, targets, lengths), net.predict(s, lengths)
    best, best_p = net.decode(s, lengths)
    top = 7
    many, many_p = net.decode(s, lengths, top=top)
    ds = np.zeros_like(s)
    expected, want_loss = np.zeros((K, K)), 0.0
    for b, n in enumerate(lengths):
        paths, log_p = brute_force(chain, s[:n, b])
        p = np.exp(log_p)
        right = targets[:n, b]
        want_loss -= log_p[(paths == right).all(axis=1)][0]
        for t in range(n):
            marginal = np.bincount(paths[:, t], p, K)
            np.testing.assert_allclose(marginals[t, b], marginal, atol=1e-12)
            ds[t, b] = marginal - np.eye(K)[right[t]]
            if t:
                np.add.at(expected, (paths[:, t - 1], paths[:, t]), p)
                expected[right[t - 1], right[t]] -= 1
        assert not marginals[n:, b].any()
        there = min(top, int(np.isfinite(log_p).sum()))
        np.testing.assert_allclose(many_p[:there, b], log_p[:there], atol=1e-10)
        assert chain.score(s[:n, b], best[:n, b]) == pytest.approx(chain.score(s[:n, b], paths[0]), abs=1e-10)
        assert best_p[b] == pytest.approx(log_p[0], abs=1e-10)
        assert (best[n:, b] == -1).all()
        assert (many[there:, :, b] == -1).all() and (many_p[there:, b] == -np.inf).all()
        found = {tuple(path) for path in many[:there, :n, b]}
        assert len(found) == there and (many[:there, n:, b] == -1).all()
        for path, log_probability in zip(many[:there, :n, b], many_p[:there, b], strict=True):
            which = (paths == path).all(axis=1)
            assert log_p[which][0] == pytest.approx(log_probability, abs=1e-10)
    count = lengths.sum()
    assert loss == pytest.approx(want_loss / count, abs=1e-12)
    np.testing.assert_allclose(net.grads["head.transitions"], expected / count, atol=1e-13)
    np.testing.assert_allclose(net.grads["head.start"], ds[0].sum(axis=0) / count, atol=1e-13)
    last = ds[lengths - 1, np.arange(len(lengths))]
    np.testing.assert_allclose(net.grads["head.end"], last.sum(axis=0) / count, atol=1e-13)
    np.testing.assert_allclose(net.grads["head.b_y"], ds.sum(axis=(0, 1)) / count, atol=1e-13)


def test_forbidden_steps_never_happen_and_get_no_gradient():
    for seed in range(10):
        net, s, lengths, targets, _, _, head = case(4, 5, 6, True, scale=5.0, seed=seed)
        rule = head.options["constraints"]
        net.loss_and_grad(s, targets, lengths)
        assert not net.grads["head.transitions"][~rule.transitions].any()
        assert not net.grads["head.start"][~rule.start].any()
        assert not net.grads["head.end"][~rule.end].any()
        paths, _ = net.decode(s, lengths, top=20)
        marginals = net.predict(s, lengths)
        assert not marginals[0][:, ~rule.start].any()
        for b, n in enumerate(lengths):
            for path in paths[:, :n, b]:
                if path[0] >= 0:
                    assert rule.start[path[0]] and rule.end[path[-1]] and rule.transitions[path[:-1], path[1:]].all()


# --------------------------------------------------------------------------------------------- against the recursion


@kernels
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("T, K, B", [(7, 9, 5), (1, 3, 2), (30, 5, 3), (6, 33, 9), (5, 150, 4)])
def test_against_the_recursion(T, K, B, dtype):
    rng = np.random.default_rng(K)
    head = ref.Head("crf", K)
    params = head.random_params(rng, K, 1.0)
    s, lengths = 2 * rng.standard_normal((T, B, K)), twins.random_lengths(rng, T, B)
    targets = rng.integers(0, K, (T, B))
    net = scores_only(K, head, s, params, dtype)
    params = {name: np.asarray(net.params[name], dtype=float) for name in net.params}
    s = s.astype(dtype)
    tolerance = {"float64": 1e-12, "float32": 2e-6 * np.sqrt(T)}[dtype]
    loss = net.loss_and_grad(s, targets, lengths)
    wanted = ref.crf_loss(s.astype(float), targets, lengths, params)
    assert loss == pytest.approx(wanted, rel=tolerance)
    for name in chain_params(params):
        way = rng.standard_normal(params[name].shape)
        moved = params | {name: params[name] + 1e-30j * way}
        slope = np.imag(ref.crf_loss(s.astype(float), targets, lengths, moved)) / 1e-30
        assert (net.grads[name] * way).sum() == pytest.approx(slope, rel=10 * tolerance, abs=10 * tolerance), name
    sums = net.predict(s, lengths).sum(axis=2)
    np.testing.assert_allclose(sums, np.arange(T)[:, None] < lengths, atol=1e-5)


@pytest.mark.parametrize("truncate", [None, 2])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("unknown", [False, True])
def test_gradients_of_whole_networks(direction, depth, truncate, unknown):
    rng = np.random.default_rng(5)
    T, B, K = 5, 3, 4
    net = ref.Stack(6, 2, depth, direction, truncate=truncate)
    head = ref.Head("crf", K, {"constraints": rule_for(rng, K)})
    params = twins.random_params(net, head, rng)
    made = twins.network(net, head, params=params)
    x, lengths = rng.standard_normal((T, B, 6)), twins.random_lengths(rng, T, B)
    lengths[lengths == 1] = 2
    targets, _ = made.decode(rng.standard_normal((T, B, 6)))
    ends = head.options["constraints"].end
    for b, n in enumerate(lengths):
        if not ends[targets[n - 1, b]]:
            lengths[b] = T
    if unknown:
        targets[1, 0] = targets[0, 1] = targets[T - 1, 1] = targets[2:4, 2] = -1
    value = made.loss_and_grad(x, targets, lengths)
    assert value == pytest.approx(ref.loss(net, head, "every", params, x, targets, lengths), rel=1e-12)
    wanted = ref.derivative(lambda a: ref.loss(net, head, "every", a, x, targets, lengths), params)
    for name in params:
        assert ref.relative_error(made.grads[name], wanted[name]) < 1e-11, name
    if truncate is None:
        assert max(rc.gradcheck(made, x, targets, lengths).values()) < 1e-6


def test_gradients_add_up_where_asked():
    net, s, lengths, targets, *_ = case(4, 5, 3)
    net.loss_and_grad(s, targets, lengths)
    once = net.grad.copy()
    net.loss_and_grad(s, targets, lengths, accumulate=True)
    np.testing.assert_allclose(net.grad, 2 * once, rtol=1e-14)


# ------------------------------------------------------------------------------------------------------------ weights


@kernels
@pytest.mark.parametrize("T, K", SIZES)
def test_weights_against_all_label_sequences(T, K):
    """A sequence counts by the mean weight of its labels, times its own."""
    _, s, lengths, targets, chain, params, _ = case(K, T, 4)
    rng = np.random.default_rng(3)
    of_class, own = rng.random(K) + 0.1, np.array([0.0, 0.5, 1.0, 3.0])[: len(lengths)]
    net = scores_only(K, ref.Head("crf", K, {"class_weight": of_class}), s, params)
    loss = net.loss_and_grad(s, targets, lengths, sample_weight=own)
    expected, counted, gradient = 0.0, 0.0, np.zeros((K, K))
    for b, n in enumerate(lengths):
        paths, log_p = brute_force(chain, s[:n, b])
        right = targets[:n, b]
        share = own[b] * of_class[right].mean()
        expected -= share * log_p[(paths == right).all(axis=1)][0]
        counted += of_class[right].sum()
        for t in range(1, n):
            np.add.at(gradient, (paths[:, t - 1], paths[:, t]), share * np.exp(log_p))
            gradient[right[t - 1], right[t]] -= share
    assert loss == pytest.approx(expected / counted, rel=1e-12)
    np.testing.assert_allclose(net.grads["head.transitions"], gradient / counted, atol=1e-13)


@pytest.mark.parametrize("scale", [1.0, 300.0])
@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_gradients_of_weighted_sequences(dtype, unknown, scale):
    """Also of sequences that take a slower way: with scores far apart, or labels that are not known."""
    T, B, K = 6, 5, 4
    rng = np.random.default_rng(int(scale))
    head = ref.Head("crf", K, {"class_weight": rng.random(K) + 0.1})
    params = head.random_params(rng, K, scale)
    s = scale * rng.standard_normal((T, B, K)).astype(dtype).astype(float)
    net = scores_only(K, head, s, params, dtype)
    params = {name: np.asarray(net.params[name], dtype=float) for name in net.params}
    lengths, targets, own = twins.random_lengths(rng, T, B), rng.integers(0, K, (T, B)), 2 * rng.random(B)
    if unknown:
        targets[0, :2] = targets[1, 0] = -1
    tolerance = {"float64": 1e-11, "float32": 2e-5}[dtype]

    def wanted(arrays):
        moved = s + arrays["head.b_y"] - params["head.b_y"]
        return ref.crf_loss(moved, targets, lengths, arrays, **head.options, sample_weight=own)

    loss = net.loss_and_grad(s.astype(dtype), targets, lengths, sample_weight=own)
    assert loss == pytest.approx(wanted(params), rel=tolerance)
    slopes = ref.derivative(wanted, params)
    for name in (*chain_params(params), "head.b_y"):
        assert ref.relative_error(net.grads[name], slopes[name]) < tolerance, name


def test_weights_of_one_change_nothing():
    net, s, lengths, targets, _, params, _ = case(4, 5, 3)
    weighted = scores_only(4, ref.Head("crf", 4, {"class_weight": [1.0] * 4}), s, params)
    assert weighted.loss_and_grad(s, targets, lengths, sample_weight=np.ones(3)) == net.loss_and_grad(
        s, targets, lengths
    )
    assert weighted.grad.tobytes() == net.grad.tobytes()


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0, 1.0], [1.0, np.nan, 1.0], "abc"])
def test_bad_class_weights(weights):
    with pytest.raises(ValueError, match="class_weight"):
        rc.CRF(3, class_weight=weights)


# ----------------------------------------------------------------------------------------------------- awkward numbers


@kernels
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("scale", [30.0, 300.0, 3000.0])
def test_scores_far_apart(scale, dtype):
    """The fast recursions lose such sequences and say so; numbers stay as right as the precision of the scores."""
    T, K, B = 6, 5, 20
    rng = np.random.default_rng(int(scale))
    head = ref.Head("crf", K)
    params = head.random_params(rng, K, scale)
    s = scale * rng.standard_normal((T, B, K)).astype(dtype).astype(float)
    net = scores_only(K, head, s, params, dtype)
    params = {name: np.asarray(net.params[name], dtype=float) for name in net.params}
    lengths, targets = twins.random_lengths(rng, T, B), rng.integers(0, K, (T, B))
    loss = net.loss_and_grad(s.astype(dtype), targets, lengths)
    tolerance = {"float64": 1e-12, "float32": 1e-5}[dtype]
    assert loss == pytest.approx(ref.crf_loss(s, targets, lengths, params), rel=tolerance)
    marginals = net.predict(s.astype(dtype), lengths)
    paths, log_p = net.decode(s.astype(dtype), lengths)
    chain = ref.Chain.of(params)
    for b, n in enumerate(lengths):
        wanted = np.imag([
            [chain.log_total(s[:n, b] + 1e-30j * one_at(t, k, s[:n, b].shape)) for k in range(K)] for t in range(n)
        ]) / 1e-30  # fmt: skip
        np.testing.assert_allclose(marginals[:n, b], wanted, atol=scale * 1e-5 if dtype == "float32" else 1e-9)
        assert chain.score(s[:n, b], paths[:n, b]) == pytest.approx(
            max(chain.score(s[:n, b], list(p)) for p in paths_near(paths[:n, b], K)), rel=1e-6
        )
        assert log_p[b] <= 0


def one_at(t, k, shape):
    out = np.zeros(shape)
    out[t, k] = 1
    return out


def paths_near(path, K):
    """The path, and all that differ in one place: none of them may be better."""
    yield path
    for t in range(len(path)):
        for k in range(K):
            other = path.copy()
            other[t] = k
            yield other


@kernels
def test_evidence_that_comes_late():
    """A label that was hopeless for long turns out to be the one: its probability is not lost on the way."""
    T, K = 40, 3
    stay = np.eye(K, dtype=bool)
    head = ref.Head("crf", K, {"constraints": Constraints(stay)})
    s = np.zeros((T, 1, K))
    s[:, 0, 0] = 10.0  # 400 in all for label 0
    s[-1, 0, 1] = 405.0
    params = {"head.transitions": np.zeros((K, K)), "head.start": np.zeros(K), "head.end": np.zeros(K)}
    for dtype in ("float32", "float64"):
        net = scores_only(K, head, s, params, dtype)
        p = 1 / (1 + np.exp(-5.0))
        np.testing.assert_allclose(net.predict(s.astype(dtype))[:, 0, 1], p, rtol=1e-5)
        assert net.loss_and_grad(s.astype(dtype), np.ones((T, 1), int)) == pytest.approx(-np.log(p) / T, rel=1e-4)
        np.testing.assert_allclose(net.grads["head.transitions"][1, 1], (p - 1) * (T - 1) / T, rtol=1e-3)
        paths, _ = net.decode(s.astype(dtype))
        assert (paths == 1).all()


def test_a_long_sequence():
    rng = np.random.default_rng(0)
    T, K = 5000, 4
    head = ref.Head("crf", K)
    s, params = rng.standard_normal((T, 1, K)), head.random_params(rng, K, 1.0)
    net = scores_only(K, head, s, params, "float32")
    targets = rng.integers(0, K, (T, 1))
    wanted = ref.crf_loss(s, targets, [T], params)
    assert net.loss_and_grad(s.astype("f"), targets) == pytest.approx(wanted, rel=1e-5)
    best, _ = net.decode(s.astype("f"))
    assert (best == scores_only(K, head, s, params).decode(s)[0]).mean() > 0.999


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_shows(bad):
    net, s, lengths, targets, *_ = case(3, 4, 2)
    net.params["head.transitions"][0, 0] = bad
    assert not np.isfinite(net.loss_and_grad(s, targets, lengths))
    net.decode(s, lengths)
    net.decode(s, lengths, top=3)


# -------------------------------------------------------------------------------------------------- hard cases


def test_unknown_labels_alone():
    net, s, lengths, targets, *_ = case(3, 4, 2)
    assert net.loss_and_grad(s, np.full_like(targets, -1), lengths) == 0
    np.testing.assert_allclose(net.grad, 0, atol=1e-15)


def test_a_known_sequence_does_not_mind_unknown_labels_in_another():
    net, s, lengths, targets, *_ = case(4, 5, 2)
    targets[0, 1] = -1
    alone = net.loss_and_grad(s[:, :1], targets[:, :1], lengths[:1]) * lengths[0]
    other = net.loss_and_grad(s[:, 1:], targets[:, 1:], lengths[1:]) * (lengths[1] - 1)
    both = net.loss_and_grad(s, targets, lengths) * (lengths.sum() - 1)
    assert both == pytest.approx(alone + other, rel=1e-13)


def test_constraints_that_allow_nothing():
    no = np.zeros((3, 3), dtype=bool)
    with pytest.raises(ValueError, match="no sequence of labels is allowed"):
        Constraints(no, start=[True, False, False], end=[False, True, True])
    with pytest.raises(ValueError, match="no sequence of labels is allowed"):
        Constraints(~no, start=[False, False, False])
    with pytest.raises(ValueError, match="no sequence of labels is allowed"):
        bio_constraints(["I-A", "I-B"])


def test_one_word_at_most():
    head = rc.CRF(3, Constraints(np.zeros((3, 3), dtype=bool), end=[False, True, True]))
    net = rc.Network(rc.Recurrent("elman", 2, 3, dtype="float64"), head=head)
    x = np.zeros((2, 3, 2))
    assert set(net.decode(x[:1])[0].ravel().tolist()) <= {1, 2}
    assert np.isfinite(net.loss_and_grad(x[:1], np.array([[1, 2, 1]])))
    for use in (net.predict, net.decode, lambda *a: net.loss_and_grad(a[0], np.ones((2, 3), int), *a[1:])):
        with pytest.raises(ValueError, match="no sequence of 2 labels"):
            use(x, [1, 2, 1])


def test_lengths_that_constraints_allow():
    ring = np.roll(np.eye(3, dtype=bool), 1, axis=1)
    rule = Constraints(ring, start=[True, False, False], end=[False, False, True])
    assert rule.possible_lengths(9).tolist() == [False, False, True] * 3
    assert rule.possible_lengths(30).tolist() == [False, False, True] * 10
    assert Constraints(np.ones((2, 2))).possible_lengths(1000).all()


@pytest.mark.parametrize(
    "targets, message",
    [
        ([1, 0, 0], "label 1 cannot begin"),
        ([0, 0, 1], "label 1 at step 2 cannot follow label 0"),
        ([0, 2, 2], "label 2 cannot end a sequence"),
        ([0, -1, 1], None),
        ([0, -1, 0], None),
        ([-1, 1, -1], "label 1 at step 1 cannot follow what comes before"),
        ([0, 2, -1], None),
    ],
)
def test_targets_that_constraints_forbid(targets, message):
    rule = Constraints([[1, 0, 1], [1, 1, 1], [1, 1, 1]], start=[1, 0, 0], end=[1, 1, 0])
    net = rc.Network(rc.Recurrent("elman", 2, 3, dtype="float64"), head=rc.CRF(3, rule))
    x, targets = np.zeros((4, 2, 2)), np.array([[0] * 3, targets]).T
    targets = np.concatenate([targets, [[0, 7]]])  # beyond the end anything may stand
    if message is None:
        assert np.isfinite(net.loss_and_grad(x, targets, [3, 3]))
        return
    with pytest.raises(ValueError, match=f"targets of sequence 1 break the constraints: {message}"):
        net.loss_and_grad(x, targets, [3, 3])


def test_unknown_labels_where_no_label_is_possible():
    """The second label leads nowhere: a sequence of three has no third."""
    rule = Constraints([[0, 1], [0, 0]], start=[1, 0])
    assert rule.first_break(np.array([-1, -1])) is None
    assert rule.first_break(np.array([-1, -1, -1])) == "no label is possible at step 2"


def test_bio_and_iobes():
    labels = ["O", "B-A", "I-A", "B-B", "I-B"]
    rule = bio_constraints(labels)
    follows = {a: {b for j, b in enumerate(labels) if rule.transitions[i, j]} for i, a in enumerate(labels)}
    outside = {"O", "B-A", "B-B"}
    assert follows == {"O": outside, "B-A": outside | {"I-A"}, "I-A": outside | {"I-A"}} | {
        f"{p}-B": outside | {"I-B"} for p in "BI"
    }
    assert rule.start.tolist() == [True, True, False, True, False] and rule.end.all()
    labels = ["O", "B-A", "I-A", "E-A", "S-A", "S-B"]
    rule = bio_constraints(labels)
    follows = {a: {b for j, b in enumerate(labels) if rule.transitions[i, j]} for i, a in enumerate(labels)}
    outside, inside = {"O", "B-A", "S-A", "S-B"}, {"I-A", "E-A"}
    assert follows == dict.fromkeys(["O", "E-A", "S-A", "S-B"], outside) | dict.fromkeys(["B-A", "I-A"], inside)
    assert {a for a, ok in zip(labels, rule.start, strict=True) if ok} == outside
    assert {a for a, ok in zip(labels, rule.end, strict=True) if ok} == {"O", "E-A", "S-A", "S-B"}
    assert bio_constraints([1, 2]).transitions.all()


def test_wrong_arguments():
    layer = rc.Recurrent("elman", 2, 3)
    with pytest.raises(ValueError, match="pooling='every'"):
        rc.Network(layer, head=rc.CRF(3), readout="last")
    with pytest.raises(ValueError, match="3 labels do not go with a head of 4"):
        rc.CRF(4, Constraints(np.ones((3, 3))))
    with pytest.raises(ValueError, match="at least one label"):
        bio_constraints([])
    with pytest.raises(ValueError, match="Constraints or None"):
        rc.CRF(4, np.ones((4, 4)))
    with pytest.raises(ValueError, match=r"shape \(K, K\)"):
        Constraints(np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"start must have shape \(3,\)"):
        Constraints(np.ones((3, 3)), start=[1, 1])
    x = np.zeros((2, 1, 2), dtype="f")
    with pytest.raises(ValueError, match="needs a CRF"):
        rc.Network(rc.Recurrent("elman", 2, 3), head=rc.Softmax(3)).decode(x, top=2)
    with pytest.raises(ValueError, match="predict alone"):
        rc.Network(rc.Recurrent("elman", 2, 3), head=rc.SquaredError(3)).decode(x)
    with pytest.raises(ValueError, match="top must be a whole number"):
        rc.Network(rc.Recurrent("elman", 2, 3), head=rc.CRF(3)).decode(x, top=0)
    with pytest.raises(ValueError, match="targets must lie between"):
        rc.Network(rc.Recurrent("elman", 2, 3), head=rc.CRF(3)).loss_and_grad(x, [[0], [3]])


def test_softmax_decodes_by_the_largest():
    rng = np.random.default_rng(1)
    x, lengths = rng.standard_normal((5, 4, 3)), [5, 1, 3, 2]
    net = rc.Network(rc.Recurrent("elman", 3, 6, dtype="float64"), head=rc.Softmax(4))
    p = net.predict(x, lengths)
    paths, scores = net.decode(x, lengths)
    for b, n in enumerate(lengths):
        np.testing.assert_array_equal(paths[:n, b], p[:n, b].argmax(axis=1))
        assert (paths[n:, b] == -1).all()
        assert scores[b] == pytest.approx(np.log(p[:n, b].max(axis=1)).sum())
    last = rc.Network(rc.Recurrent("elman", 3, 6, dtype="float64"), head=rc.Softmax(4), readout="last")
    paths, scores = last.decode(x, lengths)
    np.testing.assert_array_equal(paths, last.predict(x, lengths).argmax(axis=1))
    assert scores.shape == (4,)


def test_copies_and_pickles_keep_the_constraints():
    rule = bio_constraints(["O", "B-A", "I-A"])
    net = rc.Network(rc.Recurrent("elman", 2, 3), head=rc.CRF(3, rule))
    again = pickle.loads(pickle.dumps(net))
    assert again.head == net.head == net.copy("float64").head
    assert hash(again.head) == hash(net.head)
    assert again.head != rc.CRF(3)
    x = np.random.default_rng(0).standard_normal((4, 3, 2)).astype("f")
    np.testing.assert_array_equal(net.predict(x), again.predict(x))


# --------------------------------------------------------------------------------------------------- same bits always


def bits(n_threads: int, dtype: str, K: int):
    rng = np.random.default_rng(K)
    T, B = 9, 70 if K < 20 else 13
    net = rc.Network(rc.Recurrent("elman", 5, 8, dtype=dtype, n_threads=n_threads), head=rc.CRF(K))
    net.params["head.transitions"][...] = rng.standard_normal((K, K))
    x, lengths = rng.standard_normal((T, B, 5)).astype(dtype), twins.random_lengths(rng, T, B)
    x[:, 3] *= 1000  # one for the slow way
    net.params["head.W_hy"][...] *= 10
    targets = rng.integers(0, K, (T, B))
    targets[0, 5] = -1
    trained = [net.loss_and_grad(x, targets, lengths), net.grad.copy()]
    trained += [net.loss_and_grad(x, targets, lengths, sample_weight=rng.random(B)), net.grad.copy()]
    return [*trained, net.predict(x, lengths), *net.decode(x, lengths), *net.decode(x, lengths, top=3)]


@kernels
@bits_promised
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("K", [3, 9, 130])
def test_any_number_of_threads_gives_the_same_bits(K, dtype):
    wanted = bits(1, dtype, K)
    for n in (2, 3, 8):
        for one, other in zip(wanted, bits(n, dtype, K), strict=True):
            twins.assert_same_bits(one, other)


@kernels
@bits_promised
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_sequence_has_the_same_bits_in_any_batch(dtype):
    rng = np.random.default_rng(9)
    T, B, K = 7, 11, 17
    net = rc.Network(rc.Recurrent("elman", 5, 8, dtype=dtype), head=rc.CRF(K))
    net.params["head.transitions"][...] = rng.standard_normal((K, K))
    x, lengths = rng.standard_normal((T, B, 5)).astype(dtype), twins.random_lengths(rng, T, B)
    whole, paths, log_p = net.predict(x, lengths), *net.decode(x, lengths)
    for b, n in enumerate(lengths):
        twins.assert_same_bits(whole[:n, b], net.predict(x[:n, b : b + 1])[:, 0])
        path, score = net.decode(x[:n, b : b + 1])
        np.testing.assert_array_equal(paths[:n, b], path[:, 0])
        twins.assert_same_bits(log_p[b], score[0])


# ------------------------------------------------------------------------------------------------------------ learning


def test_learns_what_only_the_order_tells():
    """Labels alternate and the input is silent after the first step: only transitions can know."""
    rng = np.random.default_rng(0)
    start = rng.integers(0, 2, 32)
    targets = (start + np.arange(10)[:, None]) % 2
    x = np.zeros((10, 32, 2), dtype="f")
    x[0, np.arange(32), start] = 1
    net = rc.Network(rc.Recurrent("elman", 2, 4, truncate=1), head=rc.CRF(2))
    net.params["layers.0.fwd.W_hh"][...] = 0
    opt = rc.Adam(learning_rate=0.1)
    losses = [net.train_step(x, targets, opt) for _ in range(100)]
    assert losses[-1] < 0.05 < losses[0]
    np.testing.assert_array_equal(net.decode(x)[0], targets)


# ---------------------------------------------------------------------------------------------------------- the tagger


def chunks(n: int, seed: int = 0):
    """Sentences whose chunks end where only the label before tells."""
    rng = np.random.default_rng(seed)
    sentences, tags = [], []
    for _ in range(n):
        words, labels = [], []
        for _ in range(rng.integers(1, 5)):
            kind, length = rng.choice(["A", "B"]), rng.integers(1, 4)
            words += [kind.lower(), *["x"] * (length - 1), "o"]
            labels += [f"B-{kind}", *[f"I-{kind}"] * (length - 1), "O"]
        sentences.append(words)
        tags.append(labels)
    return sentences, tags


@pytest.mark.parametrize("options", [{}, {"constraints": "bio"}, {"early_stopping": True}, {"skip": True}], ids=str)
def test_the_tagger(options, tmp_path):
    sentences, tags = chunks(150)
    tagger = rc.SequenceTagger(head="crf", hidden_size=8, max_epochs=12, **options).fit(sentences, tags)
    test_sentences, test_tags = chunks(40, seed=1)
    assert tagger.score(test_sentences, test_tags) > 0.95
    predicted, marginals = tagger.predict(test_sentences), tagger.predict_proba(test_sentences)
    assert [len(labels) for labels in predicted] == [len(words) for words in test_sentences]
    for p in marginals:
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    right = sum(
        a == b for one, other in zip(predicted, test_tags, strict=True) for a, b in zip(one, other, strict=True)
    )
    assert right == tagger.count_correct(test_sentences, test_tags)[0]
    assert tagger.predict([test_sentences[3]]) == [predicted[3]]
    tagger.save(tmp_path / "model.safetensors")
    for again in (rc.load(tmp_path / "model.safetensors"), pickle.loads(pickle.dumps(tagger))):
        assert again.predict(test_sentences) == predicted
        for one, other in zip(again.predict_proba(test_sentences), marginals, strict=True):
            np.testing.assert_array_equal(one, other)
    assert (again.network_.head.constraints is not None) == ("constraints" in options)


def test_the_tagger_keeps_to_constraints():
    sentences, tags = chunks(30)
    tagger = rc.SequenceTagger(head="crf", constraints="bio", hidden_size=4, max_epochs=1).fit(sentences, tags)
    rng = np.random.default_rng(0)
    wild = [[str(word) for word in rng.choice(["a", "b", "x", "o", "?"], 20)] for _ in range(50)]
    for labels in tagger.predict(wild):
        for before, label in zip(["O", *labels], labels, strict=False):
            assert label[0] != "I" or before[1:] == label[1:]


@pytest.mark.parametrize(
    ("constraints", "tags", "message"),
    [
        ("bio", ["O", "I-A", "B-A"], r"sentence 7, word 1 \('news'\): label 'I-A' cannot follow 'O'"),
        ("bio", ["I-A", "B-A", "O"], r"sentence 7, word 0 \('top'\): label 'I-A' cannot begin a sentence"),
        ("iobes", ["O", "S-A", "B-A"], r"sentence 7, word 2 \('now'\): label 'B-A' cannot end a sentence"),
    ],
)
@pytest.mark.parametrize("settings", [{}, {"early_stopping": True}])
def test_tags_that_break_the_constraints_are_named(constraints, tags, message, settings):
    """By the caller's own numbers, before training, however the sentences are shuffled."""
    good = {"bio": ["B-A", "I-A", "O"], "iobes": ["B-A", "E-A", "O"]}[constraints]
    sentences, rows = [["top", "news", "now"]] * 20, [good] * 7 + [tags] + [good] * 12
    trained = []
    tagger = rc.SequenceTagger(constraints=constraints, callbacks=[trained.append], max_epochs=1, **settings)
    for learn in (tagger.fit, tagger.partial_fit):
        with pytest.raises(ValueError, match=message):
            learn(sentences, rows)
    assert not trained and not hasattr(tagger, "network_")
    tagger.fit(sentences, rows, sample_weight=[1.0] * 7 + [0.0] + [1.0] * 12)


def test_ioe_labels_have_no_constraints():
    assert bio_constraints(["I-A", "E-A", "O"]).transitions.all()
    tagger = rc.SequenceTagger(constraints="auto", max_epochs=1).fit([["a", "b", "c"]], [["I-A", "E-A", "O"]])
    assert tagger.classes_.tolist() == ["E-A", "I-A", "O"]


@pytest.mark.kernels
@pytest.mark.parametrize(("labels", "top"), [(2, 3), (5, 7), (19, 4)])
def test_equal_paths_have_an_order(labels, top):
    """By the last label, then the rank of what comes before it: the same bits whatever is looked at first."""
    rng = np.random.default_rng(labels)
    net = rc.Network(rc.Recurrent("elman", 1, 2, dtype="float64"), head=rc.CRF(labels))
    net.params["head.W_hy"][...] = 0
    for name in ("b_y", "transitions", "start", "end"):
        array = net.params[f"head.{name}"]
        array[...] = rng.integers(-1, 2, array.shape)
    b, a, start, end = (net.params[f"head.{name}"].tolist() for name in ("b_y", "transitions", "start", "end"))
    paths, _ = net.decode(np.zeros((6, 1, 1)), top=top)
    ways = [[(start[j] + b[j], (j,))] for j in range(labels)]
    for _ in range(5):
        ways = [
            sorted(
                ((score + a[i][j] + b[j], (*path, j)) for i in range(labels) for score, path in ways[i]),
                key=lambda way: -way[0],  # a stable sort
            )[:top]
            for j in range(labels)
        ]
    best = sorted(((score + end[j], path) for j in range(labels) for score, path in ways[j]), key=lambda way: -way[0])
    assert len({score for score, _ in best[:top]}) < top
    assert [tuple(path) for path in paths[:, :, 0].tolist()] == [path for _, path in best[:top]]
