"""Recursive networks: a vector for each node of a tree, from those of its children."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from rnncore import _checks
from rnncore._core.dense import Dense
from rnncore._core.trees import softmax, softmax_loss
from rnncore._finite import NonFiniteError
from rnncore.data.trees import Trees
from rnncore.models._recursive import Recursive
from rnncore.nn.attributes import fixed

__all__ = ["CELLS", "TreeNetwork"]

#: what the kernels call them, and blocks of a label's vector
CELLS = {"plain": ("plain", 1), "tensor": ("tensor", 1), "lstm": ("ordered", 4), "child_sum": ("summed", 4)}
ACTIVATIONS = ("tanh", "sigmoid", "relu")


@fixed("symbols", "hidden_size", "classes", "cell", "max_children", "activation", "random_state", "dtype", "layout")
class TreeNetwork(Recursive):
    """A recursive network: the same weights at each node, from the leaves up, and a softmax at roots or all nodes.

    Of a node with label l and children 1 to n::

        plain      leaf: h = e_l     inner node: h = f(b + e_l + Σ_k h_k·W_k)                (Goller and Küchler 1996)
        tensor     the same with Σ_kj h_kᵀ·V_kj·h_j added inside f                                (Socher et al. 2013)
        lstm       [i o u] = b + e_l + Σ_k h_k·W_k    f_k = σ(b_f + e_l + Σ_j h_j·W_jk)    (Tai, Socher, Manning 2015)
                   c = σ(i)⊙tanh(u) + Σ_k f_k⊙c_k     h = σ(o)⊙tanh(c)
        child_sum  the same with one matrix for Σ_k h_k, and one for each child in its own f_k: no order among children
        p = softmax(h·W_out + b_out)

    Parameters
    ----------
    symbols : int
        How many labels there are, leaves and inner nodes together; an inner node may have none (-1).
    hidden_size : int
        H.
    classes : int
        K.
    cell : {"plain", "tensor", "lstm", "child_sum"}
    max_children : int
        A, for how many positions there are matrices; of no meaning with "child_sum".
    activation : {"tanh", "sigmoid", "relu"}
        f, of "plain" and "tensor".
    dtype : {"float32", "float64"}
    random_state : int
        Seed of the initial parameters.
    n_threads : int, optional
        Threads; None: the general setting. Results do not depend on it.

    Attributes
    ----------
    theta, grad : ndarray (P,)
        All parameters and all gradients, flat.
    params, grads : mapping of str to ndarray
        Named views of them: ``labels`` (symbols, H) and ``b`` (H,), of tree-LSTMs (symbols, 4·H) and (4·H,) in the
        order f, i, o, u; ``W`` (A·H, H), of "lstm" (A·H, (3 + A)·H) in the order i, o, u, f_1, ..., of "child_sum"
        (H, 3·H) with ``W_f`` (H, H); ``V`` (A, A, H, H, H) of "tensor", to be read V[k, j, :, :, unit];
        ``W_out`` (H, K), ``b_out`` (K,).

    Raises
    ------
    ValueError
        For options that do not fit.

    Examples
    --------
    >>> import rnncore as rc
    >>> trees = rc.Trees.of([("not", "T"), ("not", ("not", "T"))]).numbered({"T": 0, "not": 1})
    >>> net = rc.models.TreeNetwork(symbols=2, hidden_size=8, classes=2, max_children=1)
    >>> optimizer = rc.Adam(0.05)
    >>> losses = [net.train_step(trees, [0, 1], optimizer) for _ in range(100)]
    >>> net.predict(trees).argmax(axis=1).tolist()
    [0, 1]
    """

    _options: ClassVar[tuple[str, ...]] = (
        "symbols",
        "hidden_size",
        "classes",
        "cell",
        "max_children",
        "activation",
        "random_state",
    )

    def __init__(
        self,
        symbols: int,
        hidden_size: int,
        classes: int,
        cell: str = "plain",
        max_children: int = 2,
        activation: str = "tanh",
        dtype: Any = "float32",
        random_state: int = 0,
        n_threads: int | None = None,
    ) -> None:
        self.symbols = _checks.whole(symbols, "symbols")
        self.hidden_size = _checks.whole(hidden_size, "hidden_size", most=2**15)
        self.classes = _checks.whole(classes, "classes")
        self.cell = _checks.one_of(cell, tuple(CELLS), "cell")
        self.max_children = _checks.whole(max_children, "max_children", most=1000)
        self.activation = _checks.one_of(activation, ACTIVATIONS, "activation")
        self.dtype = _checks.dtype(dtype)
        self.random_state = _checks.whole(random_state, "random_state", least=0)
        self.n_threads = n_threads
        H, A = self.hidden_size, self.max_children
        kind, blocks = CELLS[cell]
        matrices: dict[str, dict[str, tuple[int, ...]]] = {
            "plain": {"W": (A * H, H)},
            "tensor": {"W": (A * H, H), "V": (A, A, H, H, H)},
            "lstm": {"W": (A * H, (3 + A) * H)},
            "child_sum": {"W": (H, 3 * H), "W_f": (H, H)},
        }
        shapes = {"labels": (self.symbols, blocks * H), **matrices[cell]}
        shapes |= {"b": (blocks * H,), "W_out": (H, self.classes), "b_out": (self.classes,)}
        last = {"tensor": "V", "child_sum": "W_f"}.get(cell, "")
        self._begin(shapes, kind, H, 1 if cell == "child_sum" else A, self.activation, last)
        self._draw()
        self._pending: tuple[int, int] | None = None  # the shape of the vectors that wait for a gradient
        self._idle_heads: list[Dense] = []
        self._training_head = self._new_head()

    def _new_head(self) -> Dense:
        starts = self.layout.starts
        return Dense(
            self.dtype.itemsize, self.hidden_size, self.classes, starts["W_out"], starts["b_out"], squash=False
        )

    def _draw(self) -> None:
        rng = np.random.default_rng([self.random_state, 7])
        H = self.hidden_size
        for name, view in self.params.items():
            if view.ndim > 1:
                bound = {"labels": 1.0, "V": 1.0 / H**1.5}.get(name, H**-0.5)
                view[...] = rng.uniform(-bound, bound, view.shape)
        if self.cell in ("lstm", "child_sum"):
            self.params["b"][:H] = 1.0  # remember

    # -- running ------------------------------------------------------------------------------------------------------

    def _check(self, trees: Any) -> Trees:
        return self._checked(trees, self.symbols, None if self.cell == "child_sum" else self.max_children)

    def vectors(self, trees: Trees) -> np.ndarray:
        """Return h of all nodes, (N, H), in the order of their numbers.

        Raises
        ------
        ValueError
            For labels that are no numbers of symbols, and too many children.
        """
        return self._vectors(self._check(trees))

    def forward(self, trees: Trees) -> np.ndarray:
        """Return h of all nodes (N, H), and keep what ``backward`` needs: for a loss of your own on them.

        Raises
        ------
        ValueError
            As ``vectors``.
        """
        trees = self._check(trees)
        with self._access.training:
            h = self._forward(trees)
            self._pending = trees.n_nodes, self.hidden_size
        return h

    def backward(self, dh: Any) -> None:
        """Go back through the latest ``forward``; gradients are added to ``grad``.

        Parameters
        ----------
        dh : array (N, H)
            Gradient of the nodes' vectors.

        Raises
        ------
        RuntimeError
            Without a forward pass before it: each serves one backward pass.
        ValueError
            For an array of another shape.

        Examples
        --------
        >>> import numpy as np, rnncore as rc
        >>> net = rc.models.TreeNetwork(symbols=2, hidden_size=3, classes=2)
        >>> h = net.forward(rc.Trees.of([(1, 0, 0)]).numbered({0: 0, 1: 1}))
        >>> net.backward(np.ones_like(h))
        >>> bool(net.grads["W"].any()), bool(net.grads["W_out"].any())
        (True, False)
        """
        with self._access.training:
            if self._pending is None:
                raise RuntimeError(
                    "backward needs a forward before it, and each forward serves one backward: call forward again"
                )
            dh = _checks.output_gradient(dh, self._pending, self.dtype)
            self._pending = None
            self._touched.mark_all()
            self._backward(dh)

    def predict(self, trees: Trees, at: str = "root") -> np.ndarray:
        """Return probabilities of classes; any number of threads may call at once.

        Parameters
        ----------
        trees : Trees
            With numbers as labels.
        at : {"root", "nodes"}

        Returns
        -------
        array (S, K), of all nodes (N, K)
        """
        _checks.one_of(at, ("root", "nodes"), "at")
        h = self.vectors(trees)
        h = h[trees.roots] if at == "root" else h
        with self._access.reading:
            try:
                head = self._idle_heads.pop()
            except IndexError:
                head = self._new_head()
            scores = head.forward(self._theta, h, self._workers())
            self._idle_heads.append(head)
        return softmax(scores)

    def loss_and_grad(
        self,
        trees: Trees,
        targets: Any,
        sample_weight: Any = None,
        accumulate: bool = False,
        divisor: float | None = None,
    ) -> float:
        """Return the mean cross-entropy of the targets, in nats; gradients go to ``grad``, or are added there.

        Parameters
        ----------
        trees : Trees
        targets : array of ints
            (S,), a class for each root, or (N,), for each node; -1: does not count.
        sample_weight : array (S,), optional
            Factors of the trees' losses.
        accumulate : bool
        divisor : float, optional
            Of the sum of losses; the number of targets that count without.

        Raises
        ------
        ValueError
            For arrays that do not fit.
        """
        trees = self._check(trees)
        nodes, classes, weights = self._targets(trees, targets, sample_weight)
        total = float(len(nodes)) if divisor is None else float(divisor)
        with self._access.training:
            self._pending = None
            self._touched.mark_all()
            if not accumulate:
                self._grad[...] = 0
            h = self._forward(trees)
            if not len(nodes) or not total > 0:
                return 0.0
            head, threads = self._training_head, self._workers()
            chosen = h[nodes]
            scores = head.forward(self._theta, chosen, threads)
            loss, dscores = softmax_loss(scores, classes, weights / total)
            dh = np.zeros_like(h)
            dh[nodes] = head.backward(self._theta, self._grad, chosen, scores, dscores, threads, True)
            self._backward(dh)
        return loss

    def _targets(self, trees: Trees, targets: Any, sample_weight: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the nodes that count, their classes and weights."""
        found = _checks.array(targets, "targets")
        if found.shape not in ((len(trees),), (trees.n_nodes,)):
            raise ValueError(
                f"targets must have shape ({len(trees)},), a class for each root, or ({trees.n_nodes},), for each node"
                f"; got {found.shape}"
            )
        found = _checks.targets(found, found.shape, self.classes, None)
        at_roots = found.shape == (len(trees),)
        weights = np.ones(len(trees))
        if sample_weight is not None:
            weights = _checks.sample_weight(sample_weight, 1, len(trees)).reshape(-1)
        nodes, owner = trees.roots, np.arange(len(trees))
        if not at_roots:
            nodes, owner = np.arange(trees.n_nodes), np.repeat(owner, np.diff(trees.starts))
        counts = found >= 0
        return nodes[counts], found[counts], weights[owner[counts]]

    def train_step(
        self, trees: Trees, targets: Any, optimizer: Any, lengths: None = None, sample_weight: Any = None
    ) -> float:
        """Forward, loss, backward, clipping and update; returns the loss before the update.

        The arguments are those of ``loss_and_grad``, an optimizer such as ``rnncore.Adam()``.

        Raises
        ------
        NonFiniteError
            If the loss or its gradient is not finite. Weights and optimizer are as they were.
        """
        loss = self.loss_and_grad(trees, targets, sample_weight)
        if not math.isfinite(loss):
            raise NonFiniteError("the loss is not finite", "the loss")
        optimizer.step(self)
        return loss

    def batch_weight(self, targets: Any, lengths: None = None) -> float:
        """Return how many targets count: what the sum of a batch's losses is divided by."""
        return float(np.count_nonzero(np.asarray(targets) >= 0))

    def batch_shape(self, trees: Trees) -> tuple[int, int]:
        """Return the number of nodes, and 1: what a `rnncore.Trainer` counts as steps."""
        return trees.n_nodes, 1

    def __repr__(self) -> str:
        return (
            f'TreeNetwork({self.symbols}, {self.hidden_size}, {self.classes}, cell="{self.cell}", '
            f'max_children={self.max_children}, dtype="{self.dtype}", {self.layout.size} parameters)'
        )
