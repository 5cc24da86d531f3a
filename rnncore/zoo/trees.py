"""A recursive network tells what Boolean expressions are worth, deeper ones than it has seen among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnncore.data.trees import Trees
from rnncore.datasets.expressions import boolean_expressions
from rnncore.estimators.trees import TreeClassifier
from rnncore.zoo import Demonstration

__all__ = ["draw_tree", "show"]

_LEARNED, _DEPTH, _DEPTHS = 2000, 4, range(1, 9)
_SHOWN = ("or", ("and", ("not", "F"), ("or", "F", "T")), ("not", ("and", "T", ("not", ("or", "F", "F")))))


def show(say: Callable[[str], None]) -> Demonstration:
    """Learn expressions of depth 1 to 4, node by node, and judge others, up to twice as deep."""
    trees, values = boolean_expressions(_LEARNED, _DEPTH, every_node=True)

    def tell(record: dict[str, Any]) -> None:
        if record["epoch"] % 3 == 0:
            say(f"epoch {record['epoch']}: {record['loss']:.4f} nats a node")

    classifier = TreeClassifier(max_epochs=12, learning_rate=0.01, callbacks=[tell], n_threads=1).fit(trees, values)
    known, shares = set(trees), []
    for depth in _DEPTHS:
        new, worth = boolean_expressions(400, depth, depth, every_node=True, random_state=1)
        unseen = [n for n, tree in enumerate(new) if tree not in known] or [*range(len(new))]
        found = classifier.predict([new[n] for n in unseen])
        shares.append(float(np.mean([its[-1] == worth[n][-1] for n, its in zip(unseen, found, strict=True)])))
        say(f"depth {depth}: the values of {shares[-1]:.1%} of {len(unseen)} expressions are right")
    p = classifier.predict_proba([_SHOWN])[0][:, list(classifier.classes_).index("T")]

    def draw(figure: Any) -> None:
        figure.set_size_inches(9, 4.5)
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        draw_tree(left, Trees.of([_SHOWN]), p)
        left.set_title("how true each part is", fontsize=10)
        right.plot(_DEPTHS, shares, marker="o")
        right.axvline(_DEPTH + 0.5, color="gray", linestyle=":")
        right.text(_DEPTH + 0.6, 0.55, "deeper than\nwhat was learned", fontsize=8)
        right.set_ylim(0.45, 1.03)
        right.set_xlabel("depth")
        right.set_ylabel("share of expressions right")

    figures = {f"right at depth {depth}": share for depth, share in zip(_DEPTHS, shares, strict=True)}
    return Demonstration(figures, draw)


def draw_tree(axes: Any, tree: Trees, shades: Any) -> None:
    """Draw one tree from the root down, its nodes with their labels, in shades from 0 to 1."""
    n = tree.n_nodes
    x, y = np.zeros(n), np.zeros(n)
    leaves = np.flatnonzero(tree.counts == 0)
    x[leaves] = np.arange(len(leaves))
    for node in np.argsort(tree.heights, kind="stable"):  # children first
        if tree.counts[node]:
            x[node] = x[tree.parents == node].mean()
    for node in np.argsort(-tree.heights, kind="stable"):  # parents first
        if tree.parents[node] >= 0:
            y[node] = y[tree.parents[node]] - 1
            axes.plot(x[[node, tree.parents[node]]], y[[node, tree.parents[node]]], color="gray", zorder=1)
    axes.scatter(x, y, s=620, c=np.asarray(shades), cmap="RdYlGn", vmin=0, vmax=1, edgecolors="black", zorder=2)
    for node in range(n):
        label = "" if tree.labels[node] is None else tree.labels[node]
        axes.text(x[node], y[node], label, ha="center", va="center", fontsize=9, zorder=3)
    axes.margins(0.12)
    axes.set_axis_off()
