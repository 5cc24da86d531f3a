"""Networks at work, small enough to watch: what ``rnncore zoo`` lists and runs."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["DEMONSTRATIONS", "Demonstration", "demonstrate"]

#: name: the module of this package that shows it, and what there is to see
DEMONSTRATIONS = {
    "hopfield": ("hopfield", "a Hopfield network fills in damaged pictures, and its energy falls"),
    "continuous": ("continuous", "units with graded responses come to rest in continuous time"),
    "modern": ("modern", "a modern Hopfield network holds far more patterns than it has units"),
    "bam": ("bam", "two layers recall one another's patterns, a picture and its name"),
    "reservoir": ("reservoir", "an echo state network hears a chaotic series, and goes on by itself"),
    "trees": ("trees", "a recursive network tells what Boolean expressions are worth, however deep"),
    "raam": ("raam", "phrases become ten numbers each, and unfold into trees again"),
    "second_order": ("second_order", "second-order networks learn languages, and become automata that can be drawn"),
    "cascaded": ("cascaded", "a cascaded network of 18 weights learns parity, and goes over into a cycle"),
    "chunker": ("chunker", "a history compressor remembers only what it could not foresee"),
    "turing": ("turing", "a neural Turing machine learns to copy, and copies more than it was shown"),
    "pushdown": ("pushdown", "a small network learns to use a stack, and becomes an automaton"),
    "latch": ("latch", "guessing, genes, annealing and strategies find a net that remembers for 100 steps"),
    "ctrnn": ("ctrnn", "units in continuous time swing by themselves, as they are made or as they have learned"),
    "clockwork": ("clockwork", "modules that tick at rates of their own generate a sum of sines"),
    "hierarchy": ("hierarchy", "levels of time remember for a hundred steps what a flat network forgets"),
    "mtrnn": ("mtrnn", "fast and slow units make movements, and sequences of them, each from its intention"),
}


@dataclass(frozen=True)
class Demonstration:
    """What came out.

    Attributes
    ----------
    figures : dict
        Numbers by what they are.
    draw : callable
        Draws on an empty ``matplotlib.figure.Figure``.
    """

    figures: dict[str, Any]
    draw: Callable[[Any], None]


def demonstrate(name: str, say: Callable[[str], None] = print) -> Demonstration:
    """Run a demonstration; `say` takes lines that tell how it goes.

    Examples
    --------
    >>> shown = demonstrate("hopfield", lambda line: None)
    >>> shown.figures["pictures recalled"]
    '4 of 4'
    """
    if name not in DEMONSTRATIONS:
        raise ValueError(f"the zoo has no {name!r}; it has {', '.join(DEMONSTRATIONS)}")
    module = importlib.import_module(f"rnncore.zoo.{DEMONSTRATIONS[name][0]}")
    found: Demonstration = module.show(say)
    return found
