"""How good predicted labels are: entities found and missed, labels confused, known and unknown words apart, edits.

Entities are counted by the rules of CoNLL's ``conlleval``: one is right if its type, its start and its end are. The
labels may be BIO (IOB2), IOB1, IOE, IOBES or BILOU (whose L is an E, whose U an S), with types or without. An entity
starts at B and S, and at I and E that do not continue one of the same type; it ends at E and S, and before whatever
does not continue it. A `strict` count takes only what the scheme spells without a fault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from rnncore._edits import edit_distance, edit_distances, error_rate
from rnncore._reliability import Reliability, calibration

__all__ = [
    "SCHEMES",
    "Entity",
    "Reliability",
    "Tally",
    "are_chunks",
    "calibration",
    "confusions",
    "edit_distance",
    "edit_distances",
    "entities",
    "entity_averages",
    "entity_scores",
    "error_rate",
    "evaluation",
    "label_scores",
    "row_names",
]

Labels = Sequence[Sequence[Any]]
Scores = dict[str, dict[str, float | int]]

_LIKE = {"L": "E", "U": "S"}  # BILOU's letters, in IOBES's
_PLACES = "BIESLU"

#: scheme -> how it spells an entity: its first label, its last one, and the only one of an entity of one step
SCHEMES = {"IOB2": ("B", "", ""), "IOE2": ("I", "E", "E"), "IOBES": ("B", "E", "S"), "BILOU": ("B", "L", "U")}
_DETECTED = (("IOB2", "BI"), ("IOE2", "IE"), ("IOBES", "BIES"), ("BILOU", "BILU"))


class Entity(NamedTuple):
    """What a chunk of labels says: steps `start` to `end` (not included) are a `kind`.

    Examples
    --------
    >>> Entity("PER", 0, 2).end
    2
    """

    kind: str
    start: int
    end: int


def entities(labels: Sequence[str], strict: str | None = None) -> list[Entity]:
    """Read the entities off the labels of one sentence.

    Parameters
    ----------
    labels : sequence of str
    strict : {"IOB2", "IOE2", "IOBES", "BILOU"}, optional
        Only what this scheme spells without a fault.

    Examples
    --------
    >>> entities(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"])
    [Entity(kind='PER', start=0, end=2), Entity(kind='LOC', start=3, end=4), Entity(kind='LOC', start=4, end=5)]
    >>> entities(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"], strict="IOB2")
    [Entity(kind='PER', start=0, end=2), Entity(kind='LOC', start=4, end=5)]
    """
    if strict is not None:
        return _spelled_right(labels, *SCHEMES[_known_scheme(strict)])
    found = []
    before, kind, start = "O", "", -1  # start: of the entity under way, or -1
    for step, label in enumerate(labels):
        place, _, its_kind = label.partition("-")
        place = _LIKE.get(place, place)
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


def _spelled_right(labels: Sequence[str], first: str, last: str, only: str) -> list[Entity]:
    """Entities that are `first`, I ... I, `last` (or whatever comes next, without a `last`), or `only`."""
    parts = [(place, kind) for place, _, kind in (label.partition("-") for label in labels)]
    found, step = [], 0
    while step < len(parts):
        place, kind = parts[step]
        end = step + 1
        if place == first:
            while end < len(parts) and parts[end] == ("I", kind):
                end += 1
            if not last or (end < len(parts) and parts[end] == (last, kind)):
                end += bool(last)
                found.append(Entity(kind, step, end))
        elif place == only:
            found.append(Entity(kind, step, end))
        step = end
    return found


def _known_scheme(name: Any) -> str:
    if name not in SCHEMES:
        raise ValueError(f"strict: expected True or one of {', '.join(SCHEMES)}, got {name!r}")
    return str(name)


def are_chunks(labels: Iterable[Any]) -> bool:
    """Tell whether labels are those of chunks: O, and B, I, E, S, L or U with a dash and a type, or B and I alone.

    Examples
    --------
    >>> are_chunks(["O", "B-PER", "I-PER"]), are_chunks(["B", "I", "O"]), are_chunks(["NOUN", "VERB"])
    (True, True, False)
    """
    seen = {label for label in labels if label != "O"}
    typed = any(isinstance(label, str) and len(label) > 1 for label in seen)
    return bool(seen) and all(map(_is_chunk, seen)) and (typed or bool(seen & {"B", "I"}))


def _is_chunk(label: Any) -> bool:
    return isinstance(label, str) and (
        label == "O" or (label[:1] in _PLACES and label[1:2] in ("", "-") and label != "")
    )


def entity_scores(true: Labels, predicted: Labels, strict: bool | str = False) -> Scores:
    """Count entities by type, and all together under ``"all"`` (unless a type has that name: `entity_averages`).

    Parameters
    ----------
    true, predicted : lists of lists of str
    strict : bool or {"IOB2", "IOE2", "IOBES", "BILOU"}
        Whether to count only what the scheme spells without a fault, as seqeval's strict mode; True: that of `true`.

    Returns
    -------
    dict of type to dict
        precision, recall, f1 (0 where nothing was there or found, as conlleval), and the counts there, found, right.

    Examples
    --------
    >>> entity_scores([["B-PER", "I-PER", "O"]], [["B-PER", "I-PER", "B-LOC"]])["all"]["precision"]
    0.5
    >>> entity_scores([["B-PER", "O"]], [["I-PER", "O"]])["all"]["f1"]
    1.0
    >>> entity_scores([["B-PER", "O"]], [["I-PER", "O"]], strict=True)["all"]["f1"]
    0.0
    """
    return _entity_counts(true, predicted, strict).scores()


def entity_averages(true: Labels, predicted: Labels, strict: bool | str = False) -> Scores:
    """Average over the types of entities: all together, each type alike, each as much as there is of it.

    Returns
    -------
    dict
        micro (with the counts there, found, right), macro and weighted, each with precision, recall and f1.

    Examples
    --------
    >>> entity_averages([["B-A", "B-B", "B-A"]], [["B-A", "O", "B-A"]])["macro"]["f1"]
    0.5
    """
    return _entity_counts(true, predicted, strict).averages()


def _entity_counts(true: Labels, predicted: Labels, strict: bool | str) -> _Counts:
    scheme = None
    if strict:
        scheme = _scheme_of(chain.from_iterable(true)) if strict is True else _known_scheme(strict)
    counts = _Counts()
    counts.add_entities(true, predicted, scheme)
    return counts


def _scheme_of(labels: Iterable[str]) -> str:
    """Return the scheme that has the places of all these labels."""
    places = {label.partition("-")[0] for label in labels} - {"O"}
    for scheme, its in _DETECTED:
        if places <= set(its):
            return scheme
    raise ValueError(f"strict: no scheme has the places {', '.join(sorted(places))}; known: {', '.join(SCHEMES)}")


def row_names(scores: Scores, averages: Scores) -> list[str]:
    """Return the types or labels in `scores`, without the ``"all"`` that is their sum, but with one of that name.

    Examples
    --------
    >>> result = evaluation([["all", "some"]], [["all", "all"]])
    >>> row_names(result["labels"], result["averages"]["labels"])
    ['all', 'some']
    """
    others = [row for name, row in scores.items() if name != "all"]
    summed = all(sum(row[count] for row in others) == averages["micro"][count] for count in ("there", "found"))
    return [name for name in scores if name != "all" or not summed]


def label_scores(true: Labels, predicted: Labels) -> Scores:
    """Count steps by label, and all together under ``"all"``, as `entity_scores` counts entities.

    Examples
    --------
    >>> label_scores([["N", "V"]], [["N", "N"]])["N"]["precision"]
    0.5
    """
    return _label_counts(_pairs(true, predicted)).scores()


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

    Parameters
    ----------
    strict : bool or str
        As `entity_scores` takes it.

    Examples
    --------
    >>> tally = Tally()
    >>> tally.add([["N", "V"]], [["N", "N"]])
    >>> tally.add([["V"]], [["V"]])
    >>> tally.result()["correct"], tally.result()["total"]
    (2, 3)
    """

    def __init__(self, strict: bool | str = False) -> None:
        self._strict = strict
        schemes: tuple[str | None, ...] = (None,)
        if strict:
            schemes = tuple(SCHEMES) if strict is True else (_known_scheme(strict),)
        self._pairs: Counter[tuple[Any, Any]] = Counter()
        self._known: dict[bool, list[int]] = {}  # right ones, and all
        self._entities: dict[str | None, _Counts] = {scheme: _Counts() for scheme in schemes}
        self._whole = [0, 0]  # sentences all right, and all
        self._chunks = True  # whether all labels until now are those of chunks
        self._reliability: Reliability | None = None

    def add(
        self,
        true: Labels,
        predicted: Labels,
        known: np.ndarray | None = None,
        probabilities: np.ndarray | None = None,
        beside: Sequence[bool] | None = None,
    ) -> None:
        """Count more sentences; the arguments are those of `evaluation`.

        `beside`: of each sentence, whether what else was asked of it is right; only then it is as a whole.
        """
        pairs = _pairs(true, predicted)
        self._pairs += pairs
        whole = [list(own) == list(other) for own, other in zip(true, predicted, strict=True)]
        self._whole[0] += sum(whole) if beside is None else sum(map(all, zip(whole, beside, strict=True)))
        self._whole[1] += len(whole)
        right = np.empty(0, dtype=bool)
        if known is not None or probabilities is not None:
            own, other = chain.from_iterable(true), chain.from_iterable(predicted)
            right = np.fromiter((a == b for a, b in zip(own, other, strict=True)), dtype=bool, count=pairs.total())
        if probabilities is not None:
            self._reliability = self._reliability or Reliability()
            self._reliability.add(probabilities, right)
        if known is not None:
            for flag in (True, False):
                counts = self._known.setdefault(flag, [0, 0])
                counts[0] += int(right[known == flag].sum())
                counts[1] += int((known == flag).sum())
        self._chunks = self._chunks and all(_is_chunk(label) for pair in pairs for label in pair)
        if self._chunks:
            for scheme, counted in self._entities.items():
                counted.add_entities(true, predicted, scheme)

    def result(self) -> dict[str, Any]:
        """Return what `evaluation` returns."""
        correct = sum(count for (own, other), count in self._pairs.items() if own == other)
        result: dict[str, Any] = _share(correct, self._pairs.total())
        if self._known:
            result |= {"known": _share(*self._known[True]), "unknown": _share(*self._known[False])}
        labels = _label_counts(self._pairs)
        counts = None
        if self._chunks and are_chunks({label for pair in self._pairs for label in pair}):
            scheme = None
            if self._strict:
                scheme = _scheme_of(own for own, _ in self._pairs) if self._strict is True else str(self._strict)
            counts = self._entities[scheme]
        result["labels"] = labels.scores()
        result["entities"] = counts.scores() if counts else None
        result["averages"] = {
            "labels": labels.averages(),
            "entities": counts.averages() if counts else None,
        }
        result["whole"] = _share(*self._whole)
        result["confusions"] = [list(item) for item in _wrong(self._pairs)]
        return result | (self._reliability.result() if self._reliability else {})


class _Counts:
    """How much of each kind there was, was found, and was found rightly."""

    def __init__(self) -> None:
        self.there: Counter[str] = Counter()
        self.found: Counter[str] = Counter()
        self.right: Counter[str] = Counter()

    def add_entities(self, true: Labels, predicted: Labels, scheme: str | None = None) -> None:
        for own, other in zip(true, predicted, strict=True):
            expected = entities(own, scheme)
            got = expected if own == other else entities(other, scheme)
            self.there.update(entity.kind for entity in expected)
            self.found.update(entity.kind for entity in got)
            self.right.update(entity.kind for entity in set(expected).intersection(got))

    def scores(self) -> Scores:
        rows = self._rows()
        return rows if "all" in rows else rows | {"all": self._together()}

    def averages(self) -> Scores:
        rows = [*self._rows().values()]
        each = [1] * len(rows)
        return {
            "micro": self._together(),
            "macro": _mean(rows, each),
            "weighted": _mean(rows, [int(row["there"]) for row in rows]),
        }

    def _rows(self) -> Scores:
        names = sorted({*self.there, *self.found})
        return {name: _row(self.there[name], self.found[name], self.right[name]) for name in names}

    def _together(self) -> dict[str, float | int]:
        return _row(self.there.total(), self.found.total(), self.right.total())


def _pairs(true: Labels, predicted: Labels) -> Counter[tuple[Any, Any]]:
    return Counter(zip(chain.from_iterable(true), chain.from_iterable(predicted), strict=True))


def _mean(rows: list[dict[str, float | int]], weights: list[int]) -> dict[str, float | int]:
    total = sum(weights)
    return {
        name: sum(w * row[name] for w, row in zip(weights, rows, strict=True)) / total if total else 0.0
        for name in ("precision", "recall", "f1")
    }


def _label_counts(pairs: Counter[tuple[Any, Any]]) -> _Counts:
    counts = _Counts()
    for (own, other), count in pairs.items():
        counts.there[str(own)] += count
        counts.found[str(other)] += count
        if own == other:
            counts.right[str(own)] += count
    return counts


def _wrong(pairs: Counter[tuple[Any, Any]]) -> list[tuple[str, str, int]]:
    wrong = [(str(own), str(other), count) for (own, other), count in pairs.items() if own != other]
    return sorted(wrong, key=lambda item: (-item[2], item[:2]))


def evaluation(
    true: Labels,
    predicted: Labels,
    known: np.ndarray | None = None,
    strict: bool | str = False,
    probabilities: np.ndarray | None = None,
) -> dict[str, Any]:
    """Measure everything, as plain numbers for a report.

    Parameters
    ----------
    true, predicted : lists of lists of labels
    known : (N,) bool array, optional
        Which of all words, sentence after sentence, the model knows.
    strict : bool or str
        As `entity_scores` takes it.
    probabilities : (N,) array, optional
        How probable the predicted labels are by the model.

    Returns
    -------
    dict
        accuracy, correct, total; with `known` also known and unknown, each with accuracy (None if there are none),
        correct, total; labels: `label_scores`; entities: `entity_scores`, or None if the labels are not those of
        chunks; averages: of labels and of entities, each micro, macro and weighted as `entity_averages`; whole: of
        sentences whose labels are all right, accuracy, correct, total; confusions: a list of [label, predicted, count];
        with `probabilities` also what `calibration` returns.

    Examples
    --------
    >>> evaluation([["N", "V"]], [["N", "N"]])["accuracy"]
    0.5
    """
    tally = Tally(strict)
    tally.add(true, predicted, known, probabilities)
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
