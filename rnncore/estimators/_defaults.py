"""Settings of a tagger that nobody made, chosen by what its training data look like.

Measured on validation parts alone: of news requests (the original program's file), of SNIPS and EWT and of 300 to 3000
sentences of each, of generated requests with 9 and 121 labels (docs/tagging.md has the figures).
"""

from __future__ import annotations

from typing import Any

from rnncore.estimators._look import Look

__all__ = ["BY_DATA", "PASSES", "chosen"]

#: What is chosen where it is None.
BY_DATA = (
    *("hidden_size", "learning_rate", "window", "affixes", "shapes"),
    *("dropout", "input_dropout", "word_dropout"),
)

#: How often to pass over the data, in times the usual number, by how much time an answer is worth.
PASSES = {"low": 0.6, "usual": 1.0, "high": 2.5}

_TELLS = 0.1  # so much more often spelling guesses an unseen word's label than its frequency does
_MANY_WORDS = 20_000  # outvote what spelling says by chance
_MANY_LABELS = 24  # leave few words to learn each from: what they share with others helps
_FEW_NEW = 0.04  # share of unseen words that their neighbours will do for, where labels are of chunks
_UNITS = {"low": 32, "usual": 64, "high": 64}
_UNITS_OF_LITTLE = {"low": 32, "usual": 32, "high": 64}
_UNITS_OF_SPELLING = {"low": 32, "usual": 64, "high": 128}
_UNITS_OF_MUCH = {"low": 48, "usual": 96, "high": 128}  # of chunks, which reach over several words
_RATES = ((50, 0.02), (80, 0.01), (10**9, 0.008))  # layers of fewer units take larger steps


def chosen(settings: Any, look: Look | None) -> dict[str, Any]:
    """Return a value for each setting that is None.

    Examples
    --------
    >>> import rnncore as rc
    >>> look = Look(900, 9000, 9, chunks=True, unseen=0.1, guessed=0.3, spelled=0.6)
    >>> chosen(rc.SequenceTagger(hidden_size=64, dropout=0.4, word_dropout=0.1, input_dropout=0.1), look)
    {'learning_rate': 0.01, 'window': 1, 'affixes': 4, 'shapes': True}
    """
    spelling = look is not None and _spelling_pays(look)
    size = settings.hidden_size or _units(look, spelling)[settings.effort]
    much = settings.effort == "high" and spelling
    light = look is not None and spelling and not look.chunks and not much
    best = {
        "hidden_size": size,
        "learning_rate": 0.005 if much else next(rate for most, rate in _RATES if size < most),
        "window": int(spelling and settings.bidirectional),  # who reads forward only may be given words as they come
        "affixes": 4 if spelling else 0,
        "shapes": spelling,
        "dropout": 0.3 if light else 0.5,
        "input_dropout": 0.5 if much else 0.0,
        "word_dropout": 0.5 if much else 0.3,
    }
    return {name: best[name] for name in BY_DATA if getattr(settings, name) is None}


def _units(look: Look | None, spelling: bool) -> dict[str, int]:
    if look is None or (look.chunks and look.unseen < _FEW_NEW):
        return _UNITS_OF_LITTLE
    if not spelling:
        return _UNITS
    if not look.chunks:
        return _UNITS_OF_SPELLING
    return _UNITS_OF_MUCH if _is_much(look) else _UNITS_OF_LITTLE


def _spelling_pays(look: Look) -> bool:
    tells = look.spelled - look.guessed >= _TELLS
    if not look.chunks:
        return tells
    return look.unseen >= _FEW_NEW and (tells or _is_much(look))


def _is_much(look: Look) -> bool:
    return look.words >= _MANY_WORDS or look.labels >= _MANY_LABELS
