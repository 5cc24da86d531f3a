"""RAAM: trees in vectors of one size, and out of them again (Pollack 1990)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from rnncore import _checks
from rnncore._core.dense import Dense
from rnncore._finite import NonFiniteError
from rnncore.data.trees import Trees
from rnncore.models._recursive import Recursive
from rnncore.nn.attributes import fixed

__all__ = ["RAAM"]


@fixed("codes", "positions", "target_gradient", "random_state", "dtype", "layout")
class RAAM(Recursive):
    """Recursive auto-associative memory: learns to put trees into vectors, and to unfold them again (Pollack 1990).

    An encoder makes one vector of the children's, a decoder makes those of it again; both work at every inner node::

        p = σ(b + Σ_k c_k·W_k)     [c'_1 ... c'_A] = σ(d + p·D)     E = mean over inner nodes of Σ_k |c_k - c'_k|²

    Leaves are codes that are given. The children's vectors are both input and target, and targets move as it learns.
    Pollack let them; the gradient of E would pull on them, too, and make codes of trees ever more alike. Half of that
    pull learns more surely than either (15 trees of `rnncore.datasets.phrases`: 10 of 10 runs, where none of it has 7
    and all of it 2 that unfold each tree).

    Parameters
    ----------
    codes : array (symbols, H)
        The vector of each leaf's label, numbers from 0 to 1. All vectors are H wide.
    positions : int
        A, children of an inner node: each has so many.
    target_gradient : float
        How much of the gradient goes through targets: 0 to 1, which is the gradient of E.
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
        Named views of them: ``labels`` (symbols, H), the codes, which are frozen; ``W`` (A·H, H), ``b`` (H,);
        ``D`` (H, A·H), ``d`` (A·H,).

    Raises
    ------
    ValueError
        For codes outside of 0 to 1, and options that do not fit.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> trees = rc.Trees.of([((0, 1), 2), (2, (0, 1))], labelled=False).numbered({0: 0, 1: 1, 2: 2})
    >>> raam = rc.models.RAAM(np.eye(3, 8))
    >>> optimizer = rc.Adam(0.05)
    >>> losses = [raam.train_step(trees, optimizer) for _ in range(500)]
    >>> raam.decode(raam.encode(trees))
    [((0, 1), 2), (2, (0, 1))]
    """

    _options: ClassVar[tuple[str, ...]] = ("codes", "positions", "target_gradient", "random_state")

    def __init__(
        self,
        codes: Any,
        positions: int = 2,
        target_gradient: float = 0.5,
        dtype: Any = "float32",
        random_state: int = 0,
        n_threads: int | None = None,
    ) -> None:
        found = np.array(_checks.array(codes, "codes"), dtype=np.float64)
        if found.ndim != 2 or not found.size:
            raise ValueError(f"codes must be an array (symbols, H), got shape {found.shape}")
        if not ((found >= 0) & (found <= 1)).all():
            raise ValueError(f"codes must be numbers from 0 to 1, got {found.min()} to {found.max()}")
        found.flags.writeable = False
        self.codes = found
        self.positions = _checks.whole(positions, "positions", most=1000)
        if not _checks.is_number(target_gradient) or not 0 <= target_gradient <= 1:
            raise ValueError(f"target_gradient must be a number from 0 to 1, got {target_gradient!r}")
        self.target_gradient = float(target_gradient)
        self.dtype = _checks.dtype(dtype)
        self.random_state = _checks.whole(random_state, "random_state", least=0)
        self.n_threads = n_threads
        symbols, H = found.shape
        wide = self.positions * H
        shapes = {"labels": (symbols, H), "W": (wide, H), "b": (H,), "D": (H, wide), "d": (wide,)}
        self._begin(shapes, "plain", H, self.positions, "sigmoid", "")
        rng = np.random.default_rng([self.random_state, 8])
        for name in ("W", "D"):
            self.params[name][...] = rng.uniform(-1, 1, shapes[name])
        self.params["labels"][...] = found
        self.freeze("labels")
        self._idle_decoders: list[Dense] = []
        self._training_decoder = self._new_decoder()

    def _new_decoder(self) -> Dense:
        starts, H = self.layout.starts, self.codes.shape[1]
        return Dense(self.dtype.itemsize, H, self.positions * H, starts["D"], starts["d"], squash=False)

    def _check(self, trees: Any) -> Trees:
        found = self._checked(trees, len(self.codes), self.positions)
        inner = found.counts > 0
        if (found.counts[inner] != self.positions).any():
            raise ValueError(f"each inner node must have {self.positions} children, got {found.counts[inner].min()}")
        if (np.asarray(found.labels)[inner] >= 0).any():
            raise ValueError("inner nodes must have no labels: make trees with rnncore.Trees.of(…, labelled=False)")
        return found

    # -- learning -----------------------------------------------------------------------------------------------------

    def loss_and_grad(self, trees: Trees) -> float:
        """Return E, and leave its gradient in ``grad``, through targets as far as ``target_gradient`` says.

        Raises
        ------
        ValueError
            For trees of another kind, or leaves alone.
        """
        trees = self._check(trees)
        inner = np.flatnonzero(trees.counts)
        if not len(inner):
            raise ValueError("trees of leaves alone: there is nothing to learn")
        below = self._below(trees, inner)
        with self._access.training:
            self._touched.mark_all()
            self._grad[...] = 0
            h = self._forward(trees)
            p, wanted = h[inner], h[below].reshape(len(inner), -1)
            decoder, threads = self._training_decoder, self._workers()
            y = _squashed(decoder.forward(self._theta, p, threads))
            error = y - wanted
            scale = self._theta.dtype.type(2 / len(inner))
            dh = np.zeros_like(h)
            dh[below] = (-scale * scale.dtype.type(self.target_gradient) * error).reshape(len(below), -1)
            dh[inner] += decoder.backward(self._theta, self._grad, p, y, scale * error * y * (1 - y), threads, True)
            self._backward(dh)
        return float(np.square(error, dtype=np.float64).sum() / len(inner))

    def train_step(self, trees: Trees, optimizer: Any) -> float:
        """Forward, loss, backward, clipping and update; returns the loss before the update.

        Raises
        ------
        NonFiniteError
            If the loss or its gradient is not finite. Weights and optimizer are as they were.
        """
        loss = self.loss_and_grad(trees)
        if not math.isfinite(loss):
            raise NonFiniteError("the loss is not finite", "the loss")
        optimizer.step(self)
        return loss

    def _below(self, trees: Trees, inner: np.ndarray) -> np.ndarray:
        """Return the children of inner nodes, in their order."""
        below = np.flatnonzero(trees.parents >= 0)
        return below[np.lexsort((trees.positions[below], trees.parents[below]))]

    # -- at work ------------------------------------------------------------------------------------------------------

    def encode(self, trees: Trees) -> np.ndarray:
        """Return the vectors of the roots (S, H); any number of threads may call at once."""
        trees = self._check(trees)
        return self._vectors(trees)[trees.roots]

    def unfold(self, vectors: Any) -> np.ndarray:
        """Return the vectors of the children (B, A, H) that the decoder makes of vectors (B, H)."""
        found = _checks.array(vectors, "vectors")
        H = self.codes.shape[1]
        if found.ndim != 2 or found.shape[1] != H:
            raise ValueError(f"vectors must have shape (B, {H}), got {found.shape}")
        rows = np.ascontiguousarray(found, dtype=self.dtype)
        if not len(rows):
            return np.zeros((0, self.positions, H), dtype=self.dtype)
        with self._access.reading:
            try:
                decoder = self._idle_decoders.pop()
            except IndexError:
                decoder = self._new_decoder()
            scores = decoder.forward(self._theta, rows, self._workers())
            self._idle_decoders.append(decoder)
        return _squashed(scores).reshape(len(rows), self.positions, H)

    def reconstruct(self, trees: Trees) -> np.ndarray:
        """Return what the decoder makes of the roots' vectors at each node (N, H), told the shape of the trees alone.

        At a root that is its own vector.
        """
        trees = self._check(trees)
        found = np.zeros((trees.n_nodes, self.codes.shape[1]), dtype=self.dtype)
        found[trees.roots] = self._vectors(trees)[trees.roots]
        nodes = trees.roots[trees.counts[trees.roots] > 0]
        below = self._below(trees, nodes)
        first = np.searchsorted(trees.parents[below], np.arange(trees.n_nodes))
        while len(nodes):
            children = below[first[nodes][:, None] + np.arange(self.positions)]
            found[children] = self.unfold(found[nodes])
            nodes = children[trees.counts[children] > 0]
        return found

    def decode(self, vectors: Any, tolerance: float = 0.2, max_depth: int = 16) -> list[Any]:
        """Unfold vectors into trees.

        Parameters
        ----------
        vectors : array (B, H)
        tolerance : float
            A vector all of whose numbers are so near to a code is that leaf.
        max_depth : int
            What is no leaf down there becomes None.

        Returns
        -------
        list
            Nested tuples of the numbers of leaves, without labels.
        """
        _checks.whole(max_depth, "max_depth", least=0)
        rows = np.asarray(_checks.array(vectors, "vectors"), dtype=np.float64)
        leaves = self._nearest(rows, tolerance)
        open_ = np.flatnonzero(leaves < 0)
        found: list[Any] = [int(leaf) if leaf >= 0 else None for leaf in leaves]
        if max_depth and len(open_):
            children = self.unfold(rows[open_])
            below = self.decode(children.reshape(-1, rows.shape[1]), tolerance, max_depth - 1)
            for n, row in enumerate(open_.tolist()):
                found[row] = tuple(below[n * self.positions : (n + 1) * self.positions])
        return found

    def _nearest(self, rows: np.ndarray, tolerance: float) -> np.ndarray:
        """Return for each row the code that it is, -1 for none."""
        if rows.ndim != 2 or rows.shape[1] != self.codes.shape[1]:
            raise ValueError(f"vectors must have shape (B, {self.codes.shape[1]}), got {rows.shape}")
        apart = np.abs(rows[:, None] - self.params["labels"]).max(axis=2)
        nearest = apart.argmin(axis=1)
        return np.where(apart[np.arange(len(rows)), nearest] <= tolerance, nearest, -1)

    def __repr__(self) -> str:
        symbols, H = self.codes.shape
        return f'RAAM({symbols} codes of {H}, positions={self.positions}, dtype="{self.dtype}")'


def _squashed(x: np.ndarray) -> np.ndarray:
    """σ of an array, in its place."""
    np.negative(x, out=x)
    with np.errstate(over="ignore"):
        np.exp(x, out=x)
    x += 1
    return np.reciprocal(x, out=x)
