"""Settings of a tagger that nobody made, chosen by what its training data look like.

Measured on validation parts alone: of news requests (the original program's file), of SNIPS and EWT and of 300 to 3000
sentences of each, of generated requests with 9 and 121 labels (docs/tagging.md has the figures).
"""

from __future__ import annotations

from typing import Any

from rnncore.estimators._look import Look

__all__ = ["BY_DATA", "chosen"]

#: What is chosen where it is None.
BY_DATA = ("hidden_size", "learning_rate", "window", "affixes", "shapes")

_TELLS = 0.08  # so much more often spelling guesses an unseen word's label than its frequency does
_MANY_WORDS = 20_000  # outvote what spelling says by chance
_MANY_LABELS = 24  # leave few words to learn each from: what they share with others helps
_SMALL, _WIDE = 32, 64
_NARROW = 48  # layers below take larger steps


def chosen(settings: Any, look: Look | None) -> dict[str, Any]:
    """Return a value for each setting that is None.

    Examples
    --------
    >>> import rnncore as rc
    >>> look = Look(sentences=900, words=9000, labels=9, unseen=0.1, guessed=0.3, spelled=0.6)
    >>> chosen(rc.SequenceTagger(hidden_size=32), look)
    {'learning_rate': 0.02, 'window': 1, 'affixes': 4, 'shapes': True}
    """
    size = settings.hidden_size or (_SMALL if look is None else _WIDE)
    spelling = look is not None and _spelling_pays(look)
    best = {
        "hidden_size": size,
        "learning_rate": 0.02 if size < _NARROW else 0.01,
        "window": int(spelling and settings.bidirectional),  # who reads forward only may be given words as they come
        "affixes": 4 if spelling else 0,
        "shapes": spelling,
    }
    return {name: best[name] for name in BY_DATA if getattr(settings, name) is None}


def _spelling_pays(look: Look) -> bool:
    tells = look.spelled - look.guessed >= _TELLS
    return tells or look.words >= _MANY_WORDS or look.labels >= _MANY_LABELS
