"""Networks on trees: their equations in NumPy, node by node, differences, and what must not matter."""

import copy
import pickle

import numpy as np
import pytest

import rnncore as rc
from rnncore._core import kernels
from rnncore.data.readers import DataError
from rnncore.models.trees import CELLS

NATIVE = kernels.config()["gemm"] == "native"
SYMBOLS, K = 5, 3
FORESTS = ("mixed", "chain", "single nodes", "bushy")


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def grown(rng, most, depth):
    """A tree of numbers; an inner node may have no label."""
    if depth == 0 or rng.random() < 0.25:
        return int(rng.integers(SYMBOLS))
    label = None if rng.random() < 0.2 else int(rng.integers(SYMBOLS))
    return (label, *(grown(rng, most, depth - 1) for _ in range(rng.integers(1, most + 1))))


def forest(name, rng, most=3):
    if name == "chain":
        tree = 0
        for n in range(30):
            tree = (n % SYMBOLS, tree)
        made = [tree]
    elif name == "single nodes":
        made = [0, 3, 1]
    elif name == "bushy":
        made = [(1, *((2, *range(most)) for _ in range(most))) for _ in range(40)]
    else:
        made = [grown(rng, most, 4) for _ in range(12)]
    return rc.Trees.of(made).numbered({n: n for n in range(SYMBOLS)})


def network(cell, dtype="float64", hidden=6, most=3, **options):
    net = rc.models.TreeNetwork(SYMBOLS, hidden, K, cell, most, dtype=dtype, **options)
    rng = np.random.default_rng(1)
    net.theta[...] = rng.normal(0, 0.4, net.theta.shape)
    if cell == "tensor":
        net.params["V"][...] /= hidden
    return net


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference(net, trees):
    """Vectors of all nodes, one node at a time."""
    p = {name: np.asarray(value, float) for name, value in net.params.items()}
    H = net.hidden_size
    f = {"tanh": np.tanh, "sigmoid": sigmoid, "relu": lambda x: np.maximum(x, 0)}[net.activation]
    h, c = np.zeros((trees.n_nodes, H)), np.zeros((trees.n_nodes, H))
    for node in np.argsort(trees.heights, kind="stable"):
        children = np.flatnonzero(trees.parents == node)
        label = trees.labels[node]
        e = p["labels"][label] if label >= 0 else np.zeros(p["labels"].shape[1])
        if net.cell in ("plain", "tensor"):
            if not len(children):
                h[node] = e
                continue
            a = p["b"] + e
            for k, child in enumerate(children):
                a = a + h[child] @ p["W"][k * H : (k + 1) * H]
                if net.cell == "tensor":
                    for j, other in enumerate(children):
                        a = a + np.einsum("i,j,ijm->m", h[child], h[other], p["V"][k, j])
            h[node] = f(a)
            continue
        fx, *iou = np.split(p["b"] + e, 4)
        iou = np.concatenate(iou)
        forget = []
        if net.cell == "lstm":
            joined = sum((h[child] @ p["W"][k * H : (k + 1) * H] for k, child in enumerate(children)), np.zeros(1))
            joined = np.broadcast_to(joined, (3 + net.max_children) * H)
            iou = iou + joined[: 3 * H]
            forget = [sigmoid(fx + joined[(3 + k) * H : (4 + k) * H]) for k in range(len(children))]
        elif len(children):
            iou = iou + h[children].sum(axis=0) @ p["W"]
            forget = [sigmoid(fx + h[child] @ p["W_f"]) for child in children]
        i, o, u = np.split(iou, 3)
        c[node] = sigmoid(i) * np.tanh(u)
        for gate, child in zip(forget, children, strict=True):
            c[node] += gate * c[child]
        h[node] = sigmoid(o) * np.tanh(c[node])
    return h


# ---------------------------------------------------------------- the equations


@pytest.mark.kernels
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", [1, 6, 16])
@pytest.mark.parametrize("name", FORESTS)
@pytest.mark.parametrize("cell", CELLS)
def test_vectors_are_the_equations(cell, name, hidden, dtype, rng):
    trees, net = forest(name, rng), network(cell, dtype, hidden)
    h = reference(net, trees)
    tolerance = (1e-4 if dtype == "float32" else 1e-12) * max(1.0, np.abs(h).max())
    np.testing.assert_allclose(net.vectors(trees), h, rtol=0, atol=tolerance)
    scores = h @ np.asarray(net.params["W_out"], float) + net.params["b_out"]
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(net.predict(trees, at="nodes"), p, rtol=0, atol=tolerance)
    np.testing.assert_allclose(net.predict(trees), p[trees.roots], rtol=0, atol=tolerance)


def differences(net, loss, some, step=4e-4):
    """Some of the gradient by central differences of two widths, whose errors of second order cancel."""
    found = np.zeros_like(net.theta)
    for n in some:
        before, slopes = net.theta[n], []
        for width in (step / 2, step):
            net.theta[n] = before + width
            above = loss()
            net.theta[n] = before - width
            slopes.append((above - loss()) / (2 * width))
        found[n] = (4 * slopes[0] - slopes[1]) / 3
        net.theta[n] = before
    return found[some]


def worst(gradient, numeric):
    least = 1e-4 * np.abs(gradient).max()
    return (np.abs(gradient - numeric) / np.maximum(np.abs(gradient) + np.abs(numeric), least)).max()


@pytest.mark.kernels
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
@pytest.mark.parametrize("where", ["roots", "nodes"])
@pytest.mark.parametrize("hidden", [3, 8])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_by_differences(cell, hidden, where, activation, rng):
    trees, net = forest("mixed", rng), network(cell, hidden=hidden, activation=activation)
    targets = rng.integers(-1, K, len(trees) if where == "roots" else trees.n_nodes)
    weights = rng.uniform(0.5, 2, len(trees))
    loss = net.loss_and_grad(trees, targets, weights)
    p = net.predict(trees, "root" if where == "roots" else "nodes")
    owner = np.arange(len(trees)) if where == "roots" else np.repeat(np.arange(len(trees)), np.diff(trees.starts))
    counts = targets >= 0
    wanted = -(np.log(p[counts, targets[counts]]) * weights[owner[counts]]).sum() / counts.sum()
    assert loss == pytest.approx(wanted, rel=1e-12)
    gradient = net.grad.copy()
    some = rng.permutation(len(net.theta))[:300]
    numeric = differences(net, lambda: net.loss_and_grad(trees, targets, weights), some)
    assert worst(gradient[some], numeric) < 1e-6
    net.loss_and_grad(trees, targets, weights)
    net.loss_and_grad(trees, targets, weights, accumulate=True)
    np.testing.assert_allclose(net.grad, 2 * gradient, rtol=1e-12, atol=1e-14)


# ---------------------------------------------------------------- what must not matter


@pytest.mark.kernels
@pytest.mark.skipif(not NATIVE, reason="BLAS promises a tolerance, not bits")
@pytest.mark.parametrize("cell", CELLS)
def test_bits_do_not_depend_on_threads_nor_on_other_trees(cell, rng):
    many = rc.Trees.of([grown(rng, 3, 6) for _ in range(600)]).numbered({n: n for n in range(SYMBOLS)})
    net = network(cell, "float32", 20)
    targets = rng.integers(-1, K, many.n_nodes)
    found = []
    for threads in (1, 2, 3):
        net.n_threads = threads
        loss = net.loss_and_grad(many, targets)
        found.append((loss, net.grad.copy(), net.vectors(many), net.predict(many)))
    for other in found[1:]:
        assert all(np.array_equal(one, two) for one, two in zip(found[0], other, strict=True))
    h, p = found[0][2:]
    for number in (0, 17, 599):
        alone = many.take([number])
        assert np.array_equal(net.vectors(alone), h[many.starts[number] : many.starts[number + 1]])
        assert np.array_equal(net.predict(alone)[0], p[number])


@pytest.mark.kernels
@pytest.mark.parametrize("cell", CELLS)
def test_a_forest_is_its_trees_one_by_one(cell, rng):
    trees, net = forest("mixed", rng), network(cell)
    targets = rng.integers(-1, K, trees.n_nodes)
    total = net.batch_weight(targets)
    loss = net.loss_and_grad(trees, targets)
    wanted = net.grad.copy()
    net.zero_grad()
    parts = [
        net.loss_and_grad(trees.take([n]), targets[trees.starts[n] : trees.starts[n + 1]], None, True, total)
        for n in range(len(trees))
    ]
    assert sum(parts) == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(net.grad, wanted, rtol=1e-10, atol=1e-13)


def parents_first(tree, parents, labels, above=-1):
    """Number a nested tuple's nodes from the root down."""
    label, *children = tree if isinstance(tree, tuple) else (tree,)
    parents.append(above)
    labels.append(-1 if label is None else label)
    own = len(parents) - 1
    for child in children:
        parents_first(child, parents, labels, own)


@pytest.mark.parametrize("cell", CELLS)
def test_nodes_may_be_numbered_from_the_root_down(cell, rng):
    made = [grown(rng, 3, 4) for _ in range(12)]
    net, parents, labels = network(cell), [[] for _ in made], [[] for _ in made]
    for tree, own, names in zip(made, parents, labels, strict=True):
        parents_first(tree, own, names)
    trees = rc.Trees.of(made).numbered({n: n for n in range(SYMBOLS)})
    again = rc.Trees.from_parents(parents, labels).numbered({n: n for n in range(-1, SYMBOLS)})
    assert np.array_equal(again.roots, trees.starts[:-1]) and np.array_equal(net.predict(again), net.predict(trees))


@pytest.mark.parametrize("cell", CELLS)
def test_files_pickles_and_copies(cell, rng, tmp_path):
    trees, net = forest("mixed", rng), network(cell, "float32", activation="sigmoid")
    net.freeze("labels")
    net.save(tmp_path / "net.safetensors")
    wanted = net.predict(trees)
    for other in (
        rc.load(tmp_path / "net.safetensors"),
        pickle.loads(pickle.dumps(net)),
        net.copy(),
        copy.deepcopy(net),
    ):
        assert np.array_equal(other.predict(trees), wanted) and other.frozen == ("labels",)
        assert repr(other) == repr(net)


def test_an_optimizer_leaves_what_is_frozen(rng):
    trees, net = forest("mixed", rng), network("plain", "float32")
    net.freeze("labels")
    before = net.theta.copy()
    net.train_step(trees, rng.integers(0, K, len(trees)), rc.Adam(0.1))
    size = net.params["labels"].size
    assert np.array_equal(net.theta[:size], before[:size]) and not np.array_equal(net.theta[size:], before[size:])


def test_the_trainer_trains_it(rng):
    trees = forest("mixed", rng)
    net = rc.models.TreeNetwork(SYMBOLS, 16, 2, max_children=3)
    targets = (trees.counts[trees.roots] > 1).astype(int)
    trainer = rc.Trainer(net, rc.Adam(0.02), [(trees, targets)], max_epochs=60).run()
    assert trainer.history[-1]["loss"] < 0.1 < trainer.history[0]["loss"]


def test_deep_trees():
    tree = 0
    for _ in range(20_000):
        tree = (1, tree)
    trees = rc.Trees.of([tree]).numbered({0: 0, 1: 1})
    assert trees.heights.max() == 20_000 and np.isfinite(network("lstm").vectors(trees)).all()


# ---------------------------------------------------------------- forests


def test_nested_tuples_and_parents_are_the_same_trees(rng):
    made = [grown(rng, 4, 4) for _ in range(50)]
    trees = rc.Trees.of(made)
    assert [trees.nested(n) for n in range(50)] == made
    own = [slice(*trees.starts[n : n + 2]) for n in range(50)]
    parents = [np.where(trees.parents[s] < 0, -1, trees.parents[s] - s.start) for s in own]
    again = rc.Trees.from_parents(parents, [trees.labels[s] for s in own])
    assert np.array_equal(again.parents, trees.parents) and again.labels == trees.labels
    some = trees.take([7, 3, 3])
    assert [some.nested(n) for n in range(3)] == [made[7], made[3], made[3]]
    fresh = rc.Trees.of([made[7], made[3], made[3]])
    for name in ("parents", "starts", "roots", "heights", "counts", "positions"):
        assert np.array_equal(getattr(some, name), getattr(fresh, name)), name


def test_levels(rng):
    trees = forest("mixed", rng)
    levels = trees.levels
    heights, counts = trees.heights[levels.order], trees.counts[levels.order]
    for level in range(len(levels.starts) - 1):
        rows = slice(levels.starts[level], levels.starts[level + 1])
        assert (heights[rows] == level).all() and (np.diff(counts[rows]) <= 0).all()
        for k in range(levels.run_starts[level + 1] - levels.run_starts[level]):
            run = levels.run_starts[level] + k
            for n in range(levels.counts[run]):
                child = levels.order[levels.children[levels.firsts[run] + n]]
                assert trees.parents[child] == levels.order[levels.starts[level] + n] and trees.positions[child] == k
        assert levels.counts[levels.run_starts[level] : levels.run_starts[level + 1]].sum() == counts[rows].sum()


@pytest.mark.parametrize(
    ("parents", "message"),
    [
        ([[-1, 0], [1, 2, 0]], "tree 1 has no root, a node whose parent is -1: its nodes go round in a cycle"),
        ([[-1], [-1, 2, 1]], "tree 1 has a cycle: node 1 is below itself"),
        ([[-1, 0, -1]], "tree 0 has 2 roots, nodes 0 and 2: expected one"),
        ([[-1, 2]], "tree 0: the parent of node 1 must be one of its nodes, 0 to 1, or -1 for the root; got 2"),
        ([[-1, -2]], "tree 0: the parent of node 1 must be one of its nodes, 0 to 1, or -1 for the root; got -2"),
        ([[-1], []], "tree 1 is empty: a tree has at least one node, its root"),
        ([], "expected at least one tree, got none"),
        ([[-1.0]], "tree 0: expected parents as whole numbers"),
    ],
)
def test_what_is_no_tree(parents, message):
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        rc.Trees.from_parents(parents, [["x"] * len(own) for own in parents])


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (("not",), "tree 1: ('not',) has no children: write a leaf without a tuple"),
        ((), "tree 1: an empty tuple is no node"),
        (("and", ["T"]), "tree 1: a label must be hashable, got list: inner nodes are tuples"),
        (({}, "T"), "tree 1: a label must be hashable, got dict"),
    ],
)
def test_what_is_no_nested_tree(tree, message):
    with pytest.raises(DataError) as caught:
        rc.Trees.of(["T", tree])
    assert str(caught.value) == message


def test_other_mistakes():
    trees = rc.Trees.of([("and", "T", "F"), ("not", "X")])
    with pytest.raises(DataError, match="tree 1 has an unknown leaf, 'X'; known are 'and', 'not', 'T', 'F'"):
        trees.numbered({"and": 0, "not": 1, "T": 2, "F": 3})
    with pytest.raises(DataError, match="tree 0 has an unknown inner node, 'and'"):
        trees.numbered({"T": 0, "F": 1, "X": 2})
    with pytest.raises(DataError, match="expected a label for each of 2 nodes, got 1"):
        rc.Trees([-1, 0], ["x"], [0, 2])
    with pytest.raises(DataError, match="node 1 must have a parent in its own tree, 1 to 1, or -1; got 0"):
        rc.Trees([-1, 0], ["x", "y"], [0, 1, 2])
    with pytest.raises(DataError, match="starts must rise from 0 to 2"):
        rc.Trees([-1, 0], ["x", "y"], [0, 3])
    with pytest.raises(DataError, match="expected a list of trees, got str"):
        rc.Trees.of("T")
    net = network("plain", most=2)
    with pytest.raises(ValueError, match="tree 1 has a node with 3 children, and there are matrices for 2"):
        net.predict(rc.Trees.of([0, (1, 0, 0, 0)]).numbered({0: 0, 1: 1}))
    with pytest.raises(ValueError, match="labels must lie between 0 and 4, got 7 at a leaf"):
        net.predict(rc.Trees.of([7]).numbered({7: 7}))
    with pytest.raises(ValueError, match="labels must lie between 0 and 4, got -1 at a leaf"):
        net.predict(rc.Trees.of([None]).numbered({}))
    with pytest.raises(ValueError, match="expected trees whose labels are numbers below 5, got 'T'"):
        net.predict(rc.Trees.of(["T"]))
    with pytest.raises(ValueError, match=r"expected rnncore\.Trees, .* got list"):
        net.predict([0])
    one = rc.Trees.of([0]).numbered({0: 0})
    with pytest.raises(ValueError, match=r"targets must have shape \(1,\), a class for each root"):
        net.loss_and_grad(one, [0, 1])
    with pytest.raises(ValueError, match="targets must lie between 0 and 2"):
        net.loss_and_grad(one, [3])
    with pytest.raises(ValueError, match="cell must be one of plain, tensor, lstm, child_sum"):
        network("gru")
    net.theta[:] = np.inf
    with pytest.raises(rc.NonFiniteError):
        net.train_step(one, [1], rc.SGD(0.1))
