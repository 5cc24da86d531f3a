"""Second-order networks learn languages from examples, and show the automata that they have become."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnncore.datasets.languages import tomita, tomita_accepts, tomita_strings
from rnncore.models.recognizer import StringRecognizer
from rnncore.zoo import Demonstration

__all__ = ["show"]

_LANGUAGES = {2: "(10)*", 4: "no 000", 5: "even numbers of 0 and of 1", 7: "0*1*0*1*"}
_SEED = 100


def show(say: Callable[[str], None]) -> Demonstration:
    """Learn four of Tomita's languages from 1000 strings each, and read the networks."""
    unseen = tomita_strings(12)
    figures, automata = {}, {}
    for number, name in _LANGUAGES.items():
        strings, accepted = tomita(number, 1000, random_state=_SEED)
        net = StringRecognizer(random_state=_SEED).fit(strings, accepted)
        wrong = int((net.predict(unseen) != [tomita_accepts(number, string) for string in unseen]).sum())
        automata[number] = net.automaton(strings=strings[:100])
        say(
            f"language {number}, {name}: {wrong} of {len(unseen):,} strings wrong after {net.n_epochs_} passes, "
            f"an automaton of {automata[number].n_states} states"
        )
        figures[f"language {number}, strings wrong"] = wrong
        figures[f"language {number}, states"] = automata[number].n_states

    def draw(figure: Any) -> None:
        figure.set_size_inches(8, 8)
        for axes, (number, automaton) in zip(np.ravel(figure.subplots(2, 2)), automata.items(), strict=True):
            automaton.draw(axes)
            axes.set_title(f"{number}: {_LANGUAGES[number]}", fontsize=10)

    return Demonstration(figures, draw)
