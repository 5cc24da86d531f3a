"""Networks on trees: their equations in NumPy, node by node, differences, and what must not matter."""

import copy
import pickle

import numpy as np
import pytest
from peers import peer

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


def reference(net, trees, p, m=np):
    """Vectors of all nodes, one node at a time, in NumPy or (m) PyTorch, whose gradients are then to be had."""
    H, h, c = net.hidden_size, {}, {}

    def sigmoid(x):
        return 1 / (1 + m.exp(-x))

    def block(x, n):
        return x[n * H : (n + 1) * H]

    f = {"tanh": m.tanh, "sigmoid": sigmoid, "relu": lambda x: x * (x > 0)}[net.activation]
    for node in np.argsort(trees.heights, kind="stable").tolist():
        children = np.flatnonzero(trees.parents == node).tolist()
        label = trees.labels[node]
        e = p["labels"][label] if label >= 0 else 0 * p["labels"][0]
        a = e + p["b"]
        if net.cell in ("plain", "tensor"):
            for k, child in enumerate(children):
                a = a + h[child] @ block(p["W"], k)
                if net.cell == "tensor":
                    for j, other in enumerate(children):
                        a = a + m.einsum("i,j,ijm->m", h[child], h[other], p["V"][k, j])
            h[node] = f(a) if children else e
            continue
        iou, forget = a[H:], {}
        if net.cell == "lstm":
            joined = sum(h[child] @ block(p["W"], k) for k, child in enumerate(children))
            if children:
                iou = iou + joined[: 3 * H]
                forget = {child: sigmoid(a[:H] + block(joined, 3 + k)) for k, child in enumerate(children)}
        elif children:
            iou = iou + sum(h[child] for child in children) @ p["W"]
            forget = {child: sigmoid(a[:H] + h[child] @ p["W_f"]) for child in children}
        c[node] = sigmoid(block(iou, 0)) * m.tanh(block(iou, 2))
        for child, gate in forget.items():
            c[node] = c[node] + gate * c[child]
        h[node] = sigmoid(block(iou, 1)) * m.tanh(c[node])
    return m.stack([h[node] for node in range(trees.n_nodes)])


# ---------------------------------------------------------------- the equations


@pytest.mark.kernels
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", [1, 6, 16])
@pytest.mark.parametrize("name", FORESTS)
@pytest.mark.parametrize("cell", CELLS)
def test_vectors_are_the_equations(cell, name, hidden, dtype, rng):
    trees, net = forest(name, rng), network(cell, dtype, hidden)
    h = reference(net, trees, {name: np.asarray(value, float) for name, value in net.params.items()})
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


@pytest.mark.kernels
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_a_loss_outside(cell, rng):
    trees, net = forest("mixed", rng), network(cell, hidden=4)
    dh = rng.standard_normal((trees.n_nodes, 4))
    assert np.array_equal(net.forward(trees), net.vectors(trees))
    net.backward(dh)
    gradient = net.grad.copy()
    some = rng.permutation(len(net.theta))[:100]
    assert worst(gradient[some], differences(net, lambda: float((net.vectors(trees) * dh).sum()), some)) < 1e-6
    with pytest.raises(RuntimeError, match="each forward serves one backward"):
        net.backward(dh)
    net.forward(trees)
    with pytest.raises(ValueError, match="dy must have the shape of the outputs"):
        net.backward(dh[1:])
    net.backward(dh)
    np.testing.assert_allclose(net.grad, 2 * gradient, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_are_pytorch_s(cell, rng):
    torch = peer("torch")
    trees, net = forest("mixed", rng), network(cell)
    targets = rng.integers(0, K, trees.n_nodes)
    loss = net.loss_and_grad(trees, targets)
    p = {name: torch.tensor(value, requires_grad=True) for name, value in net.params.items()}
    scores = reference(net, trees, p, torch) @ p["W_out"] + p["b_out"]
    wanted = torch.nn.functional.cross_entropy(scores, torch.from_numpy(targets))
    wanted.backward()
    assert loss == pytest.approx(wanted.item(), rel=1e-12)
    for name, tensor in p.items():
        np.testing.assert_allclose(net.grads[name], tensor.grad, rtol=1e-10, atol=1e-14, err_msg=name)


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


def test_vectors_of_rectified_units(rng):
    trees, net = forest("mixed", rng), network("plain", activation="relu")
    h = reference(net, trees, {name: np.asarray(value) for name, value in net.params.items()})
    np.testing.assert_allclose(net.vectors(trees), h, rtol=1e-12, atol=1e-14)


# ---------------------------------------------------------------- forests


def test_what_networks_rely_on_cannot_be_changed(rng):
    trees = forest("mixed", rng)
    for array in (trees.parents, trees.counts, trees.levels.children, trees.take([1, 0]).heights):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 10**9
    with pytest.raises(AttributeError, match="parents of a Trees is fixed when it is built"):
        trees.parents = np.array([7])
    again = pickle.loads(pickle.dumps(trees))
    assert np.array_equal(again.levels.children, trees.levels.children)
    assert not again.parents.flags.writeable
    for numbers in ([], [-1], [len(trees)], [[0]]):
        with pytest.raises(DataError, match="expected"):
            trees.take(numbers)


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


# ---------------------------------------------------------------- RAAM


def phrases(count=15):
    made = rc.datasets.phrases(count)
    return made, rc.Trees.of(made, labelled=False).numbered({symbol: n for n, symbol in enumerate("DANVP")})


def in_numbers(tree):
    return tuple(map(in_numbers, tree)) if isinstance(tree, tuple) else "DANVP".index(tree)


def raam_loss(raam, trees):
    """E in NumPy, node by node."""
    p, H, A = raam.params, raam.codes.shape[1], raam.positions
    h, total = np.zeros((trees.n_nodes, H)), 0.0
    for node in np.argsort(trees.heights, kind="stable"):
        children = np.flatnonzero(trees.parents == node)
        if not len(children):
            h[node] = raam.codes[trees.labels[node]]
            continue
        below = h[children].reshape(A * H)
        h[node] = 1 / (1 + np.exp(-(below @ p["W"] + p["b"])))
        total += ((1 / (1 + np.exp(-(h[node] @ p["D"] + p["d"]))) - below) ** 2).sum()
    return h, total / np.count_nonzero(trees.counts)


def test_raam_is_its_equations_and_differences(rng):
    _, trees = phrases(6)
    raam = rc.models.RAAM(rng.uniform(0, 1, (5, 4)), target_gradient=1.0, dtype="float64")
    h, loss = raam_loss(raam, trees)
    np.testing.assert_allclose(raam.encode(trees), h[trees.roots], rtol=1e-12)
    assert raam.loss_and_grad(trees) == pytest.approx(loss, rel=1e-12)
    gradient = raam.grad.copy()
    some = np.arange(raam.params["labels"].size, len(raam.theta))
    assert worst(gradient[some], differences(raam, lambda: raam.loss_and_grad(trees), some)) < 1e-6
    found = {}
    for part in (0.0, 0.3, 1.0):
        other = rc.models.RAAM(raam.codes, target_gradient=part, dtype="float64")
        other.theta[:] = raam.theta
        other.loss_and_grad(trees)
        found[part] = other.grad.copy()
    np.testing.assert_allclose(found[0.3], 0.7 * found[0.0] + 0.3 * found[1.0], rtol=1e-9, atol=1e-14)
    assert np.abs(found[0.0] - found[1.0]).max() > 1e-3


def test_raam_learns_files_and_threads(tmp_path):
    made, trees = phrases(5)
    raam, optimizer = rc.models.RAAM(np.eye(5, 8)), rc.Adam(0.05)
    for _ in range(600):
        raam.train_step(trees, optimizer)
    assert np.array_equal(raam.params["labels"], np.eye(5, 8))
    assert raam.decode(raam.encode(trees)) == [in_numbers(tree) for tree in made]
    leaves = trees.counts == 0
    wrong = np.abs(raam.reconstruct(trees)[leaves] - raam.codes[np.asarray(trees.labels)[leaves]])
    assert wrong.max() < 0.2
    raam.save(tmp_path / "raam.safetensors")
    for other in (rc.load(tmp_path / "raam.safetensors"), pickle.loads(pickle.dumps(raam)), raam.copy()):
        assert np.array_equal(other.encode(trees), raam.encode(trees)) and other.frozen == ("labels",)
    raam.n_threads = 2
    assert np.array_equal(other.encode(trees), raam.encode(trees))


def test_what_raam_refuses():
    raam = rc.models.RAAM(np.eye(5, 8))
    with pytest.raises(ValueError, match="codes must be numbers from 0 to 1"):
        rc.models.RAAM([[2.0, 0.0]])
    with pytest.raises(ValueError, match=r"codes must be an array \(symbols, H\)"):
        rc.models.RAAM([1.0])
    with pytest.raises(ValueError, match="target_gradient must be a number from 0 to 1"):
        rc.models.RAAM(np.eye(2), target_gradient=2)
    with pytest.raises(ValueError, match="each inner node must have 2 children, got 1"):
        raam.encode(rc.Trees.of([(0,)], labelled=False).numbered({0: 0}))
    with pytest.raises(ValueError, match="inner nodes must have no labels"):
        raam.encode(rc.Trees.of([(1, 0, 0)]).numbered({0: 0, 1: 1}))
    with pytest.raises(ValueError, match="trees of leaves alone"):
        raam.loss_and_grad(rc.Trees.of([0]).numbered({0: 0}))
    with pytest.raises(ValueError, match=r"vectors must have shape \(B, 8\), got \(1, 3\)"):
        raam.decode([[0.5, 0.5, 0.5]])
    assert raam.decode(np.full((1, 8), 0.5), max_depth=0) == [None]
    raam.theta[:] = np.nan
    with pytest.raises(rc.NonFiniteError):
        raam.train_step(phrases(3)[1], rc.SGD(0.1))


# ---------------------------------------------------------------- the classifier


def expressions(count=400, depth=3, **options):
    return rc.datasets.boolean_expressions(count, depth, **options)


def value(tree):
    """What an expression is worth."""
    if not isinstance(tree, tuple):
        return tree == "T"
    parts = [value(child) for child in tree[1:]]
    return {"not": lambda: not parts[0], "and": lambda: all(parts), "or": lambda: any(parts)}[tree[0]]()


def test_expressions_have_their_values():
    trees, values = expressions(300, 6, min_depth=2)
    found = rc.Trees.of(trees)
    assert [value(tree) for tree in trees] == [one == "T" for one in values]
    heights = found.heights[found.roots]
    assert set(heights) == {2, 3, 4, 5, 6} and 0.4 < np.mean([one == "T" for one in values]) < 0.6
    again, every = expressions(300, 6, min_depth=2, every_node=True)
    assert again == trees and [one[-1] for one in every] == values
    assert [len(one) for one in every] == np.diff(found.starts).tolist()
    with pytest.raises(ValueError, match="max_depth must be at least 3, got 2"):
        expressions(1, 2, min_depth=3)


def test_phrases_differ():
    made = rc.datasets.phrases(40)
    assert len(set(made)) == 40 and rc.Trees.of(made, labelled=False).heights.max() <= 5
    with pytest.raises(ValueError, match="there are not 100 different phrases of depth 3"):
        rc.datasets.phrases(100, max_depth=3)


@pytest.mark.parametrize("every_node", [False, True])
@pytest.mark.parametrize("cell", ["plain", "child_sum"])
def test_classifier_learns_expressions(cell, every_node, tmp_path):
    trees, values = expressions(every_node=every_node)
    classifier = rc.TreeClassifier(cell, max_epochs=25, learning_rate=0.02).fit(trees[:300], values[:300])
    assert classifier.at_ == ("nodes" if every_node else "root") and classifier.classes_.tolist() == ["F", "T"]
    score = classifier.score(trees[300:], values[300:])
    found = classifier.predict(trees[300:])
    right = np.concatenate([a == b for a, b in zip(found, map(np.array, values[300:]), strict=True)], axis=None)
    assert score == pytest.approx(right.mean()) and score > 0.95
    classifier.save(tmp_path / "trees.safetensors")
    again = rc.load(tmp_path / "trees.safetensors")
    for other in (again, pickle.loads(pickle.dumps(classifier)), copy.deepcopy(classifier)):
        for one, two in zip(other.predict_proba(trees), classifier.predict_proba(trees), strict=True):
            assert np.array_equal(one, two)
    assert again.get_params() == classifier.get_params() and again.history_ == classifier.history_
    assert len(classifier.history_) == classifier.n_epochs_ == 25


def test_classifier_gives_the_same_bits_for_any_number_of_threads():
    trees, values = expressions(200, 5)
    made = [rc.TreeClassifier("lstm", 40, max_epochs=2, n_threads=n).fit(trees, values) for n in (1, 2)]
    assert not NATIVE or np.array_equal(*(one.network_.theta for one in made))
    parents = [own.parents.tolist() for own in (rc.Trees.of([tree]) for tree in trees)]
    forest = rc.Trees.from_parents(parents, [rc.Trees.of([tree]).labels for tree in trees])
    again = rc.TreeClassifier("lstm", 40, max_epochs=2, n_threads=1).fit(forest, values)
    assert np.array_equal(again.network_.theta, made[0].network_.theta)


def test_classifier_stops_early_and_weighs():
    trees, values = expressions()
    classifier = rc.TreeClassifier(early_stopping=True, n_iter_no_change=3, max_epochs=200).fit(trees, values)
    assert classifier.stopped_ == "early" and "val_score" in classifier.history_[0]
    flipped = ["F" if one == "T" else "T" for one in values]
    weighed = rc.TreeClassifier(max_epochs=20, learning_rate=0.02).fit(
        trees + trees, values + flipped, sample_weight=[1.0] * len(trees) + [0.0] * len(trees)
    )
    assert weighed.score(trees, values) > 0.9


def test_some_nodes_without_a_class():
    trees, values = expressions(200, every_node=True)
    some = [[one if n % 2 else None for n, one in enumerate(own)] for own in values]
    classifier = rc.TreeClassifier(max_epochs=25, learning_rate=0.02, early_stopping=True).fit(trees, some)
    assert classifier.score(trees, values) > 0.9


def test_what_the_classifier_refuses(tmp_path):
    trees, values = expressions(20)
    classifier = rc.TreeClassifier(max_epochs=1)
    with pytest.raises(Exception, match="this TreeClassifier is not fitted yet"):
        classifier.predict(trees)
    for y, message in (
        (values[:3], "expected 20 targets, one for each tree, got 3"),
        (["T"] * 20, "expected at least two classes, got 'T' alone"),
        (["T", 1] * 10, "expected classes that are all words or all numbers, got both"),
        ([None] * 20, "expected at least one class, got None alone"),
        ([["T"]] * 20, "tree 0: expected . targets, one for each node, got 1"),
    ):
        with pytest.raises(DataError, match=message):
            classifier.fit(trees, y)
    classifier.fit(trees, values)
    with pytest.raises(DataError, match="tree 0 has an unknown leaf, 'maybe'"):
        classifier.predict([("not", "maybe")])
    with pytest.raises(ValueError, match="tree 0 has a node with 3 children, and there are matrices for 2"):
        classifier.predict([("and", "T", "T", "F")])
    with pytest.raises(DataError, match="fitted on classes of root, got classes of nodes"):
        classifier.score(["T"], [["T"]])
    for settings in ({"cell": "gru"}, {"hidden_size": 0}, {"validation_fraction": 1.5}, {"max_children": 0}):
        with pytest.raises((TypeError, ValueError), match=next(iter(settings))):
            rc.TreeClassifier(**settings).fit(trees, values)
    odd = rc.TreeClassifier(max_epochs=1).fit([frozenset("a"), frozenset("b")], [0, 1])
    with pytest.raises(ValueError, match="a model file can hold words and numbers as labels of nodes"):
        odd.save(tmp_path / "odd.safetensors")
