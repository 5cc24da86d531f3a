"""Trees, many together: who is whose child, what stands at each node, and in which order a network visits them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnncore import _checks
from rnncore.data.readers import DataError
from rnncore.nn.attributes import fixed

__all__ = ["Levels", "Trees"]


class Levels(NamedTuple):
    """The nodes of a forest as rows, level by level, and the edges from each to its children; all int64.

    Leaves come first, then all whose children are leaves, and so on; within a level those with most children first: the
    rows with a child in position k are the first ones of their level.
    """

    order: np.ndarray  # (N,): the node that each row is
    row_of: np.ndarray  # (N,): the row that each node is
    starts: np.ndarray  # (levels + 1,): where a level's rows begin
    run_starts: np.ndarray  # (levels + 1,): which runs of edges, one for each position, are a level's
    counts: np.ndarray  # (runs,): edges in each
    firsts: np.ndarray  # (runs,): where they begin
    children: np.ndarray  # (edges,): rows; edges by level, position and parent's row
    position_starts: np.ndarray  # (positions + 1,): the same edges by position
    position_children: np.ndarray  # (edges,)
    position_parents: np.ndarray  # (edges,)
    labels: np.ndarray  # (N,): of rows, numbers


@fixed("parents", "starts", "roots", "heights", "counts", "positions")
class Trees:
    """Many trees, whose nodes are numbered through, those of a tree one after another.

    Make them with `of` or `from_parents`. The children of a node stand in the order of their numbers.

    Parameters
    ----------
    parents : (N,) array of ints
        The number of each node's parent, -1 for roots.
    labels : sequence
        Of nodes, anything hashable.
    starts : (S + 1,) array of ints
        Where each tree's nodes begin, and where the last one's end.

    Attributes
    ----------
    parents, starts : ndarray
    labels : list or ndarray (N,)
    roots : ndarray (S,)
        Their numbers.
    heights : ndarray (N,)
        Edges from a node down to its farthest leaf; 0 of leaves.
    counts, positions : ndarray (N,)
        How many children a node has; its place among its parent's.

    Raises
    ------
    DataError
        For what is no tree: a cycle, several roots, a parent that is not there, no nodes.

    Examples
    --------
    >>> import rnncore as rc
    >>> trees = rc.Trees.of([("and", ("not", "T"), "F"), "T"])
    >>> trees
    Trees(2 trees, 5 nodes)
    >>> trees.labels, trees.parents.tolist(), trees.roots.tolist()
    (['T', 'not', 'F', 'and', 'T'], [1, 3, 3, -1, -1], [3, 4])
    """

    def __init__(self, parents: Any, labels: Any, starts: Any) -> None:
        self.parents = _settled(np.array(parents, dtype=np.int64))
        self.starts = _settled(np.array(starts, dtype=np.int64))
        self.labels = labels
        if len(labels) != len(self.parents):
            raise DataError(f"expected a label for each of {len(self.parents)} nodes, got {len(labels)}")
        if len(self.starts) < 2:
            raise DataError("expected at least one tree, got none")
        if self.starts[0] != 0 or self.starts[-1] != len(labels) or (np.diff(self.starts) < 0).any():
            raise DataError(f"starts must rise from 0 to {len(labels)}, the number of nodes; got {self.starts}")
        self._levels: Levels | None = None
        self.roots = _settled(self._find_roots())
        self.counts, self.positions = map(_settled, self._count_children())
        self.heights = _settled(self._measure())

    @classmethod
    def of(cls, trees: Iterable[Any], labelled: bool = True) -> Trees:
        """Make trees of nested tuples.

        Parameters
        ----------
        trees : iterable
            A tuple is an inner node, its label first, its children after that; anything else that is hashable is a
            leaf. Nodes are numbered children first, from left to right: a tree's last one is its root.
        labelled : bool
            False: inner nodes have no labels, tuples hold children alone.

        Examples
        --------
        >>> import rnncore as rc
        >>> rc.Trees.of([(("D", "N"), "V")], labelled=False).labels
        ['D', 'N', None, 'V', None]
        """
        if isinstance(trees, str | bytes | Mapping):
            raise DataError(f"expected a list of trees, got {type(trees).__name__}")
        parents: list[int] = []
        labels: list[Any] = []
        starts = [0]
        for number, tree in enumerate(trees):
            _lay_out(tree, labelled, number, parents, labels)
            starts.append(len(labels))
        return cls(parents, labels, starts)

    @classmethod
    def from_parents(cls, parents: Sequence[Any], labels: Sequence[Any]) -> Trees:
        """Make trees of arrays of parents.

        Parameters
        ----------
        parents : sequence of (n,) arrays of ints
            For each tree the number, in that tree, of each node's parent; -1 for the root. Any order will do.
        labels : sequence of sequences
            What stands at the nodes.

        Examples
        --------
        >>> import rnncore as rc
        >>> rc.Trees.from_parents([[-1, 0, 0]], [["or", "T", "F"]]).nested(0)
        ('or', 'T', 'F')
        """
        if len(parents) != len(labels):
            raise DataError(f"expected labels of {len(parents)} trees, as there are parents, got {len(labels)}")
        flat: list[np.ndarray] = []
        names: list[Any] = []
        starts = [0]
        for number, (given, own) in enumerate(zip(parents, labels, strict=True)):
            found = _checks.array(given, f"the parents of tree {number}")
            if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
                raise DataError(
                    f"tree {number}: expected parents as whole numbers (n,), got {found.dtype} {found.shape}"
                )
            n = len(found)
            if len(own) != n:
                raise DataError(f"tree {number}: expected {n} labels, one for each node, got {len(own)}")
            wrong = np.flatnonzero((found < -1) | (found >= n))
            if wrong.size:
                raise DataError(
                    f"tree {number}: the parent of node {wrong[0]} must be one of its nodes, 0 to {n - 1}, or -1 for "
                    f"the root; got {found[wrong[0]]}"
                )
            flat.append(np.where(found < 0, -1, found.astype(np.int64) + starts[-1]))
            names.extend(own)
            starts.append(starts[-1] + n)
        return cls(np.concatenate(flat) if flat else [], names, starts)

    # -- what is there ------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def n_nodes(self) -> int:
        """N."""
        return len(self.parents)

    @property
    def max_children(self) -> int:
        """The most children that a node has."""
        return int(self.counts.max())

    def __reduce__(self) -> tuple[Any, ...]:
        return Trees, (self.parents, self.labels, self.starts)  # through the checks: kernels trust what is here

    def __repr__(self) -> str:
        return f"Trees({len(self)} trees, {self.n_nodes} nodes)"

    def nested(self, number: int) -> Any:
        """Return a tree as nested tuples."""
        first, last = self.starts[number], self.starts[number + 1]
        made: dict[int, Any] = {}
        below: dict[int, list[int]] = {}
        for node in range(first, last):
            below.setdefault(int(self.parents[node]), []).append(node)
        for node in (first + np.argsort(self.heights[first:last], kind="stable")).tolist():
            label, its = self.labels[node], below.get(node)
            made[node] = (label, *(made.pop(child) for child in its)) if its else label
        return made[int(self.roots[number])]

    def take(self, numbers: Any) -> Trees:
        """Return some of the trees, by their numbers.

        Examples
        --------
        >>> import rnncore as rc
        >>> rc.Trees.of(["a", ("b", "c"), "d"]).take([2, 1]).labels
        ['d', 'c', 'b']
        """
        numbers = np.asarray(numbers, dtype=np.int64)
        if not numbers.size:
            raise DataError("expected the numbers of at least one tree, got none")
        if numbers.ndim != 1 or numbers.min() < 0 or numbers.max() >= len(self):
            raise DataError(f"expected numbers of trees (n,), 0 to {len(self) - 1}, got {numbers}")
        sizes = np.diff(self.starts)[numbers]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        shift = np.repeat(starts[:-1] - self.starts[numbers], sizes)
        nodes = np.arange(starts[-1]) - shift
        made: Trees = object.__new__(Trees)
        parents = self.parents[nodes]
        made.parents, made.starts = _settled(np.where(parents < 0, -1, parents + shift)), _settled(starts)
        many = isinstance(self.labels, np.ndarray)
        made.labels = self.labels[nodes] if many else [self.labels[node] for node in nodes.tolist()]
        made.roots = _settled(self.roots[numbers] - self.starts[numbers] + starts[:-1])
        for name in ("heights", "counts", "positions"):
            setattr(made, name, _settled(getattr(self, name)[nodes]))
        made._levels = None
        return made

    def numbered(self, numbers: Mapping[Any, int]) -> Trees:
        """Return the same trees with a number in place of each label; None, no label, becomes -1.

        Raises
        ------
        DataError
            For a label that is not known, by its tree.

        Examples
        --------
        >>> import rnncore as rc
        >>> rc.Trees.of([("not", "T")]).numbered({"T": 0, "not": 1}).labels
        array([0, 1])
        """
        known = {None: -1, **numbers}
        try:
            found = np.array([known[label] for label in self.labels], dtype=np.int64)
        except KeyError as problem:
            node = self.labels.index(problem.args[0])
            what = "inner node" if self.counts[node] else "leaf"
            tree = int(np.searchsorted(self.starts, node, side="right")) - 1
            raise DataError(
                f"tree {tree} has an unknown {what}, {problem.args[0]!r}; known are "
                f"{', '.join(map(repr, list(numbers)[:20]))}{', ...' if len(numbers) > 20 else ''}"
            ) from None
        made: Trees = object.__new__(Trees)
        made.__dict__.update(self.__dict__, labels=_settled(found))
        return made

    # -- how they are visited -----------------------------------------------------------------------------------------

    @property
    def levels(self) -> Levels:
        """Rows and edges as networks visit them; labels must be numbers."""
        if self._levels is None:
            self._levels = self._lay_levels()
        labels = np.asarray(self.labels)[self._levels.order]
        return self._levels._replace(labels=np.ascontiguousarray(labels, dtype=np.int64))

    def _lay_levels(self) -> Levels:
        order = np.lexsort((-self.counts, self.heights))
        row_of = np.empty_like(order)
        row_of[order] = np.arange(len(order))
        n_levels = int(self.heights.max()) + 1
        starts = np.searchsorted(self.heights[order], np.arange(n_levels + 1))
        below = np.flatnonzero(self.parents >= 0)
        above = self.parents[below]
        by = np.lexsort((row_of[above], self.positions[below], self.heights[above]))
        below, above = below[by], above[by]
        height, position = self.heights[above], self.positions[below]
        new = np.ones(len(below), dtype=bool)
        new[1:] = (height[1:] != height[:-1]) | (position[1:] != position[:-1])
        firsts = np.flatnonzero(new)
        children, parents = row_of[below], row_of[above]
        by = np.argsort(position, kind="stable")
        found = Levels(
            order,
            row_of,
            starts,
            np.searchsorted(height[firsts], np.arange(n_levels + 1)),
            np.diff(firsts, append=len(below)),
            firsts,
            children,
            np.searchsorted(position[by], np.arange((position.max() if len(position) else -1) + 2)),
            children[by],
            parents[by],
            order,
        )
        return Levels(*(_settled(np.ascontiguousarray(part, dtype=np.int64)) for part in found))

    # -- what is checked ----------------------------------------------------------------------------------------------

    def _find_roots(self) -> np.ndarray:
        sizes = np.diff(self.starts)
        if not sizes.all():
            raise DataError(f"tree {int(np.argmin(sizes))} is empty: a tree has at least one node, its root")
        owner = np.repeat(np.arange(len(sizes)), sizes)
        low, high = self.starts[owner], self.starts[owner + 1]
        wrong = (self.parents != -1) & ((self.parents < low) | (self.parents >= high))
        if wrong.any():
            node = int(np.argmax(wrong))
            raise DataError(
                f"node {node} must have a parent in its own tree, {low[node]} to {high[node] - 1}, or -1; got "
                f"{self.parents[node]}"
            )
        roots = np.flatnonzero(self.parents < 0)
        counts = np.diff(np.searchsorted(roots, self.starts))
        if (counts != 1).any():
            tree = int(np.argmax(counts != 1))
            own = roots[(roots >= self.starts[tree]) & (roots < self.starts[tree + 1])] - self.starts[tree]
            if own.size:
                raise DataError(f"tree {tree} has {own.size} roots, nodes {own[0]} and {own[1]}: expected one")
            raise DataError(f"tree {tree} has no root, a node whose parent is -1: its nodes go round in a cycle")
        return roots

    def _count_children(self) -> tuple[np.ndarray, np.ndarray]:
        below = np.flatnonzero(self.parents >= 0)
        counts = np.bincount(self.parents[below], minlength=self.n_nodes)
        by = below[np.argsort(self.parents[below], kind="stable")]
        first = np.cumsum(counts) - counts
        positions = np.zeros(self.n_nodes, dtype=np.int64)
        positions[by] = np.arange(len(by)) - first[self.parents[by]]
        return counts, positions

    def _measure(self) -> np.ndarray:
        """Return heights; from leaves up, and what is never reached goes round in a cycle."""
        heights = np.full(self.n_nodes, -1, dtype=np.int64)
        waits = self.counts.copy()
        ready = np.flatnonzero(waits == 0)
        height = 0
        while len(ready):
            heights[ready] = height
            above, times = np.unique(self.parents[ready], return_counts=True)
            above, times = above[above >= 0], times[above >= 0]
            waits[above] -= times
            ready, height = above[waits[above] == 0], height + 1
        if (heights < 0).any():
            node = int(np.argmax(heights < 0))
            tree = int(np.searchsorted(self.starts, node, side="right")) - 1
            raise DataError(f"tree {tree} has a cycle: node {node - self.starts[tree]} is below itself")
        return heights


def _settled(array: np.ndarray) -> np.ndarray:
    """Return an array that cannot be written to any more."""
    array.flags.writeable = False
    return array


def _lay_out(tree: Any, labelled: bool, number: int, parents: list[int], labels: list[Any]) -> None:
    """Add the nodes of a nested tuple, children first; with a stack of our own: trees may be deep."""
    waiting: list[tuple[Any, list[int], int]] = []  # a node, its children so far, which part comes next
    node, done = tree, None
    while True:
        if done is None and isinstance(node, tuple):
            if len(node) <= labelled:
                what = (
                    f"{node!r} has no children: write a leaf without a tuple" if node else "an empty tuple is no node"
                )
                raise DataError(f"tree {number}: {what}")
            waiting.append((node, [], int(labelled)))
            node = node[int(labelled)]
            continue
        if done is None:
            done = _add_node(node, number, parents, labels)
        if not waiting:
            return
        above, children, part = waiting.pop()
        children.append(done)
        if part + 1 < len(above):
            waiting.append((above, children, part + 1))
            node, done = above[part + 1], None
        else:
            done = _add_node(above[0] if labelled else None, number, parents, labels)
            for child in children:
                parents[child] = done


def _add_node(label: Any, number: int, parents: list[int], labels: list[Any]) -> int:
    try:
        hash(label)
    except TypeError:
        what = ": inner nodes are tuples" if isinstance(label, list) else ""
        raise DataError(f"tree {number}: a label must be hashable, got {type(label).__name__}{what}") from None
    parents.append(-1)
    labels.append(label)
    return len(labels) - 1
