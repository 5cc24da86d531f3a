"""How good predicted labels are: entities found and missed, labels confused, known and unknown words apart.

Entities are counted by the rules of CoNLL's ``conlleval``: one is right if its type, its start and its end are. The
labels may be BIO (IOB2), IOB1 or IOBES: an entity starts at B and S, and at I and E that do not continue one of the
same type; it ends at E and S, and before whatever does not continue it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Entity", "Tally", "are_chunks", "confusions", "entities", "entity_scores", "evaluation", "label_scores"]

Labels = Sequence[Sequence[Any]]
Scores = dict[str, dict[str, float | int]]


class Entity(NamedTuple):
    """What a chunk of labels says: steps `start` to `end` (not included) are a `kind`."""

    kind: str
    start: int
    end: int


def entities(labels: Sequence[str]) -> list[Entity]:
    """Read the entities off the labels of one sentence.

    Examples
    --------
    >>> entities(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"])
    [Entity(kind='PER', start=0, end=2), Entity(kind='LOC', start=3, end=4), Entity(kind='LOC', start=4, end=5)]
    """
    found = []
    before, kind, start = "O", "", -1  # start: of the entity under way, or -1
    for step, label in enumerate(labels):
        place, _, its_kind = label.partition("-")
        continues = start >= 0 and place in ("I", "E") and before not in ("E", "S") and its_kind == kind
        if start >= 0 and not continues:
            found.append(Entity(kind, start, step))
            start = -1
        if start < 0 and place != "O":
            start, kind = step, its_kind
        before = place
    if start >= 0:
        found.append(Entity(kind, start, len(labels)))
    return found


def are_chunks(labels: Iterable[Any]) -> bool:
    """Tell whether labels are those of chunks: O, and B, I, E or S with a dash and a type.

    Examples
    --------
    >>> are_chunks(["O", "B-PER", "I-PER"]), are_chunks(["NOUN", "VERB"])
    (True, False)
    """
    seen = [label for label in labels if label != "O"]
    return bool(seen) and all(map(_is_chunk, seen))


def _is_chunk(label: Any) -> bool:
    return isinstance(label, str) and (label == "O" or label[:2] in ("B-", "I-", "E-", "S-"))


def entity_scores(true: Labels, predicted: Labels) -> Scores:
    """Count entities by type, and all together under ``"all"``.

    Parameters
    ----------
    true, predicted : lists of lists of str

    Returns
    -------
    dict of type to dict
        precision, recall, f1 (0 where nothing was there or found, as conlleval), and the counts there, found, right.

    Examples
    --------
    >>> entity_scores([["B-PER", "I-PER", "O"]], [["B-PER", "I-PER", "B-LOC"]])["all"]["precision"]
    0.5
    """
    counts = _Counts()
    counts.add_entities(true, predicted)
    return counts.scores()


def label_scores(true: Labels, predicted: Labels) -> Scores:
    """Count steps by label, and all together under ``"all"``, as `entity_scores` counts entities.

    Examples
    --------
    >>> label_scores([["N", "V"]], [["N", "N"]])["N"]["precision"]
    0.5
    """
    return _label_scores(_pairs(true, predicted))


def confusions(true: Labels, predicted: Labels) -> list[tuple[str, str, int]]:
    """List (label, what was predicted instead, how often), the most frequent first.

    Examples
    --------
    >>> confusions([["N", "V", "V"]], [["N", "N", "N"]])
    [('V', 'N', 2)]
    """
    return _wrong(_pairs(true, predicted))


class Tally:
    """Measures everything, however much there is: predictions are added piece by piece.

    Examples
    --------
    >>> tally = Tally()
    >>> tally.add([["N", "V"]], [["N", "N"]])
    >>> tally.add([["V"]], [["V"]])
    >>> tally.result()["correct"], tally.result()["total"]
    (2, 3)
    """

    def __init__(self) -> None:
        self._pairs: Counter[tuple[Any, Any]] = Counter()
        self._known: dict[bool, list[int]] = {}  # right ones, and all
        self._entities: _Counts | None = _Counts()  # None: the labels are not those of chunks

    def add(self, true: Labels, predicted: Labels, known: np.ndarray | None = None) -> None:
        """Count more sentences; the arguments are those of `evaluation`."""
        pairs = _pairs(true, predicted)
        self._pairs += pairs
        if known is not None:
            own, other = chain.from_iterable(true), chain.from_iterable(predicted)
            right = np.fromiter((a == b for a, b in zip(own, other, strict=True)), dtype=bool, count=len(known))
            for flag in (True, False):
                counts = self._known.setdefault(flag, [0, 0])
                counts[0] += int(right[known == flag].sum())
                counts[1] += int((known == flag).sum())
        if self._entities is not None and all(_is_chunk(label) for pair in pairs for label in pair):
            self._entities.add_entities(true, predicted)
        else:
            self._entities = None

    def result(self) -> dict[str, Any]:
        """Return what `evaluation` returns."""
        correct = sum(count for (own, other), count in self._pairs.items() if own == other)
        result: dict[str, Any] = _share(correct, self._pairs.total())
        if self._known:
            result |= {"known": _share(*self._known[True]), "unknown": _share(*self._known[False])}
        chunks = self._entities is not None and are_chunks({label for pair in self._pairs for label in pair})
        result["labels"] = _label_scores(self._pairs)
        result["entities"] = self._entities.scores() if chunks and self._entities else None
        result["confusions"] = [list(item) for item in _wrong(self._pairs)]
        return result


class _Counts:
    """How much of each kind there was, was found, and was found rightly."""

    def __init__(self) -> None:
        self.there: Counter[str] = Counter()
        self.found: Counter[str] = Counter()
        self.right: Counter[str] = Counter()

    def add_entities(self, true: Labels, predicted: Labels) -> None:
        for own, other in zip(true, predicted, strict=True):
            expected = entities(own)
            got = expected if own == other else entities(other)
            self.there.update(entity.kind for entity in expected)
            self.found.update(entity.kind for entity in got)
            self.right.update(entity.kind for entity in set(expected).intersection(got))

    def scores(self) -> Scores:
        names = sorted({*self.there, *self.found})
        rows = {name: (self.there[name], self.found[name], self.right[name]) for name in names}
        rows["all"] = (self.there.total(), self.found.total(), self.right.total())
        return {name: _row(*row) for name, row in rows.items()}


def _pairs(true: Labels, predicted: Labels) -> Counter[tuple[Any, Any]]:
    return Counter(zip(chain.from_iterable(true), chain.from_iterable(predicted), strict=True))


def _label_scores(pairs: Counter[tuple[Any, Any]]) -> Scores:
    counts = _Counts()
    for (own, other), count in pairs.items():
        counts.there[str(own)] += count
        counts.found[str(other)] += count
        if own == other:
            counts.right[str(own)] += count
    return counts.scores()


def _wrong(pairs: Counter[tuple[Any, Any]]) -> list[tuple[str, str, int]]:
    wrong = [(str(own), str(other), count) for (own, other), count in pairs.items() if own != other]
    return sorted(wrong, key=lambda item: (-item[2], item[:2]))


def evaluation(true: Labels, predicted: Labels, known: np.ndarray | None = None) -> dict[str, Any]:
    """Measure everything, as plain numbers for a report.

    Parameters
    ----------
    true, predicted : lists of lists of labels
    known : (N,) bool array, optional
        Which of all words, sentence after sentence, the model knows.

    Returns
    -------
    dict
        accuracy, correct, total; with `known` also known and unknown, each with accuracy (None if there are none),
        correct, total; labels: `label_scores`; entities: `entity_scores`, or None if the labels are not those of
        chunks; confusions: a list of [label, predicted, count].

    Examples
    --------
    >>> evaluation([["N", "V"]], [["N", "N"]])["accuracy"]
    0.5
    """
    tally = Tally()
    tally.add(true, predicted, known)
    return tally.result()


def _share(correct: int, total: int) -> dict[str, Any]:
    return {"accuracy": correct / total if total else None, "correct": correct, "total": total}


def _row(there: int, found: int, right: int) -> dict[str, float | int]:
    return {
        "precision": right / found if found else 0.0,
        "recall": right / there if there else 0.0,
        "f1": 2 * right / (found + there) if right else 0.0,
        "there": there,
        "found": found,
        "right": right,
    }
