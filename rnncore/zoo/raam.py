"""A recursive auto-associative memory puts phrases into ten numbers each, and unfolds them again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnncore.data.trees import Trees
from rnncore.datasets.expressions import phrases
from rnncore.models.raam import RAAM
from rnncore.optim.optimizers import Adam
from rnncore.zoo import Demonstration

__all__ = ["show"]

_SYMBOLS, _UNITS, _MOST, _NEAR = "DANVP", 10, 10_000, 0.1


def show(say: Callable[[str], None]) -> Demonstration:
    """Learn 15 phrases, binary trees of D, A, N, V and P, and take them apart again."""
    made = phrases(15)
    trees = Trees.of(made, labelled=False).numbered({symbol: n for n, symbol in enumerate(_SYMBOLS)})
    raam, optimizer = RAAM(np.eye(len(_SYMBOLS), _UNITS), n_threads=1), Adam(0.01)
    leaves = trees.counts == 0
    wanted = raam.codes[np.asarray(trees.labels)[leaves]]
    wrong, losses, steps = 1.0, [], 0
    while wrong > _NEAR and steps < _MOST:
        losses.append(raam.train_step(trees, optimizer))
        steps += 1
        if steps % 100 == 0:
            wrong = float(np.abs(raam.reconstruct(trees)[leaves] - wanted).max())
        if steps % 1000 == 0:
            say(f"step {steps}: error {losses[-1]:.4f} a node, the worst leaf is off by {wrong:.2f}")
    codes = raam.encode(trees)
    found = [_named(tree) for tree in raam.decode(codes)]
    for tree, again in list(zip(made, found, strict=True))[:5]:
        say(f"{_said(tree)} becomes {_said(again)}")

    def draw(figure: Any) -> None:
        figure.set_size_inches(9, 4.5)
        left, right = figure.subplots(1, 2, width_ratios=(2, 3))
        left.plot(losses)
        left.set_yscale("log")
        left.set_xlabel("steps")
        left.set_ylabel("error of a node")
        right.imshow(codes, cmap="Greys", vmin=0, vmax=1, aspect="auto")
        right.set_yticks(range(len(made)), [_said(tree) for tree in made], fontsize=7)
        right.yaxis.tick_right()
        right.set_xlabel("the numbers that each phrase has become")

    whole = sum(one == other for one, other in zip(found, made, strict=True))
    return Demonstration(
        {"unfolded right": f"{whole} of {len(made)}", "worst leaf off by": wrong, "steps": steps}, draw
    )


def _named(tree: Any) -> Any:
    if isinstance(tree, tuple):
        return tuple(map(_named, tree))
    return "?" if tree is None else _SYMBOLS[tree]


def _said(tree: Any) -> str:
    return f"({' '.join(map(_said, tree))})" if isinstance(tree, tuple) else tree
