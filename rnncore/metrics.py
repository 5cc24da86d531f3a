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

__all__ = ["Entity", "are_chunks", "confusions", "entities", "entity_scores", "evaluation", "label_scores"]

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
    return bool(seen) and all(isinstance(label, str) and label[:2] in ("B-", "I-", "E-", "S-") for label in seen)


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
    there: Counter[str] = Counter()
    found: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for own, other in zip(true, predicted, strict=True):
        expected, got = entities(own), entities(other)
        there.update(entity.kind for entity in expected)
        found.update(entity.kind for entity in got)
        right.update(entity.kind for entity in set(expected).intersection(got))
    return _scores(there, found, right)


def label_scores(true: Labels, predicted: Labels) -> Scores:
    """Count steps by label, and all together under ``"all"``, as `entity_scores` counts entities.

    Examples
    --------
    >>> label_scores([["N", "V"]], [["N", "N"]])["N"]["precision"]
    0.5
    """
    pairs = Counter(zip(chain.from_iterable(true), chain.from_iterable(predicted), strict=True))
    there: Counter[str] = Counter()
    found: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for (own, other), count in pairs.items():
        there[str(own)] += count
        found[str(other)] += count
        if own == other:
            right[str(own)] += count
    return _scores(there, found, right)


def confusions(true: Labels, predicted: Labels) -> list[tuple[str, str, int]]:
    """List (label, what was predicted instead, how often), the most frequent first.

    Examples
    --------
    >>> confusions([["N", "V", "V"]], [["N", "N", "N"]])
    [('V', 'N', 2)]
    """
    pairs = Counter(zip(chain.from_iterable(true), chain.from_iterable(predicted), strict=True))
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
    right = np.fromiter(
        (a == b for a, b in zip(chain.from_iterable(true), chain.from_iterable(predicted), strict=True)), dtype=bool
    )
    result: dict[str, Any] = _share(right)
    if known is not None:
        result |= {"known": _share(right[known]), "unknown": _share(right[~known])}
    labels = {*chain.from_iterable(true), *chain.from_iterable(predicted)}
    result["labels"] = label_scores(true, predicted)
    result["entities"] = entity_scores(true, predicted) if are_chunks(labels) else None
    result["confusions"] = [list(item) for item in confusions(true, predicted)]
    return result


def _share(right: np.ndarray) -> dict[str, Any]:
    correct, total = int(right.sum()), len(right)
    return {"accuracy": correct / total if total else None, "correct": correct, "total": total}


def _scores(there: Counter[str], found: Counter[str], right: Counter[str]) -> Scores:
    rows = {name: (there[name], found[name], right[name]) for name in sorted({*there, *found})}
    rows["all"] = (there.total(), found.total(), right.total())
    return {name: _row(*row) for name, row in rows.items()}


def _row(there: int, found: int, right: int) -> dict[str, float | int]:
    return {
        "precision": right / found if found else 0.0,
        "recall": right / there if there else 0.0,
        "f1": 2 * right / (found + there) if right else 0.0,
        "there": there,
        "found": found,
        "right": right,
    }
