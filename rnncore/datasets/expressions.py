"""Trees drawn at random: Boolean expressions with their values, and phrases as their grammar divides them.

Sources: classifying terms by recursive networks is Goller and Küchler's (1996), these terms are simpler; the grammar of
the phrases is Pollack's (1990), the phrases are drawn.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore.datasets.drawing import at_least, generator

__all__ = ["boolean_expressions", "phrases"]


def boolean_expressions(
    n_trees: int = 1000, max_depth: int = 4, min_depth: int = 1, every_node: bool = False, random_state: int = 0
) -> tuple[list[Any], list[Any]]:
    """Draw expressions such as ``("and", ("not", "T"), "F")``, and tell their values, "T" or "F".

    Parameters
    ----------
    n_trees : int
    max_depth, min_depth : int
        Edges from the root to its farthest leaf; every number between them is equally likely.
    every_node : bool
        Tell the value of every node, in a list for each tree: children before parents, from left to right.
    random_state : int

    Returns
    -------
    trees : list of nested tuples
    values : list of str, or of lists of str

    Examples
    --------
    >>> trees, values = boolean_expressions(3, max_depth=2)
    >>> trees[1], values[1]
    (('not', ('not', 'T')), 'T')
    """
    at_least("n_trees", n_trees, 0)
    at_least("min_depth", min_depth, 0)
    at_least("max_depth", max_depth, min_depth)
    rng = generator(random_state)
    trees, values = [], []
    for depth in rng.integers(min_depth, max_depth + 1, n_trees).tolist():
        of_nodes: list[str] = []
        trees.append(_expression(depth, rng, of_nodes))
        values.append(of_nodes if every_node else of_nodes[-1])
    return trees, values


def _expression(depth: int, rng: np.random.Generator, values: list[str]) -> Any:
    """Draw a tree so deep; its nodes' values are added in their order."""
    if depth == 0:
        values.append("TF"[rng.integers(2)])
        return values[-1]
    operator = ("not", "and", "or")[rng.integers(3)]
    if operator == "not":
        child = _expression(depth - 1, rng, values)
        values.append("F" if values[-1] == "T" else "T")
        return operator, child
    depths = [depth - 1, int(rng.integers(depth))]
    if rng.integers(2):
        depths.reverse()
    left = _expression(depths[0], rng, values)
    of_left = values[-1]
    right = _expression(depths[1], rng, values)
    decides = "F" if operator == "and" else "T"
    values.append(decides if decides in (of_left, values[-1]) else ("T" if decides == "F" else "F"))
    return operator, left, right


# A noun phrase is a noun, or has an article, an adjective or a prepositional phrase more; a verb phrase has an object.
_GRAMMAR: dict[str, tuple[tuple[str, str], ...]] = {
    "S": (("NP", "VP"), ("NP", "V")),
    "NP": (("D", "AP"), ("D", "N"), ("NP", "PP")),
    "PP": (("P", "NP"),),
    "VP": (("V", "NP"), ("V", "PP")),
    "AP": (("A", "AP"), ("A", "N")),
}


def phrases(n_trees: int = 15, max_depth: int = 5, random_state: int = 0) -> list[Any]:
    """Draw sentences and phrases of D, A, N, V, P as binary trees without labels, all different.

    Parameters
    ----------
    n_trees, max_depth, random_state : int

    Examples
    --------
    >>> phrases(2)
    [('A', 'N'), ('V', ('P', ('D', 'N')))]
    """
    at_least("n_trees", n_trees, 0)
    at_least("max_depth", max_depth, 3)
    rng = generator(random_state)
    found: dict[Any, None] = {}
    tried = 0
    while len(found) < n_trees:
        symbol = list(_GRAMMAR)[rng.integers(len(_GRAMMAR))]
        tree = _phrase(symbol, max_depth, rng)
        if tree is not None:
            found[tree] = None
        tried += 1
        if tried > 1000 + 100 * n_trees:
            raise ValueError(f"there are not {n_trees} different phrases of depth {max_depth}: raise max_depth")
    return list(found)


def _phrase(symbol: str, depth: int, rng: np.random.Generator) -> Any:
    """Draw what a symbol becomes; None where it would be deeper."""
    if symbol not in _GRAMMAR:
        return symbol
    if depth == 0:
        return None
    rules = _GRAMMAR[symbol]
    parts = tuple(_phrase(part, depth - 1, rng) for part in rules[rng.integers(len(rules))])
    return None if None in parts else parts
