"""What training data look like: what settings that nobody made are chosen by."""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from rnncore.data.encoders import composed
from rnncore.data.features import word_shape
from rnncore.data.tokens import select, token_counts
from rnncore.metrics import are_chunks

__all__ = ["Look", "look_at"]

_MOST = 5_000  # sentences that are looked at
_KNOWN, _NEW = 30_000, 5_000  # words of them that spelling is learned from, and guessed of
_APART = 5  # every fifth of them is the part apart
_RARE = 2  # words that occur so often stand for those that do not
_ENDS = 4  # letters of beginnings and endings
_DOUBT = 2.0  # how many words that say nothing each feature counts beside its own


@dataclass(frozen=True)
class Look:
    """What training data look like, and what a part apart of them says about words that the rest does not have.

    Attributes
    ----------
    sentences, words, labels : int
        How many there are; `words` with repetitions.
    chunks : bool
        Whether labels are parts of chunks, as B-NAME and I-NAME are.
    unseen : float
        Share of the words of the part apart that the rest does not have.
    guessed, spelled : float
        How often the label of such a word is guessed: always as the most frequent label of rare words, and from its
        spelling, by naive Bayes.
    """

    sentences: int
    words: int
    labels: int
    chunks: bool
    unseen: float
    guessed: float
    spelled: float


def look_at(sentences: Sequence[Sequence[Any]], labels: Sequence[Sequence[Any]]) -> Look | None:
    """Look at labelled sentences; None where their tokens are no words.

    Examples
    --------
    >>> from rnncore.datasets import news_requests
    >>> found = look_at(*news_requests(500))
    >>> found.labels, round(found.unseen, 2), found.spelled > found.guessed + 0.2
    (9, 0.11, True)
    """
    if not all(isinstance(token, str) for token in sentences[0]):
        return None
    try:
        return _look(sentences, labels)
    except (AttributeError, TypeError):  # tokens of several kinds, labels that cannot be: named where they are encoded
        return None


def _look(sentences: Sequence[Sequence[Any]], labels: Sequence[Sequence[Any]]) -> Look:
    kinds = set(chain.from_iterable(labels))
    known, apart = (_counted(select(sentences, rows)) for rows in _divided(len(sentences)))
    n_new = sum(count for word, count in apart.items() if word not in known)
    guessed, spelled = _guesses(*_examples(sentences, labels))
    return Look(
        sentences=len(sentences),
        words=known.total() + apart.total(),
        labels=len(kinds),
        chunks=are_chunks(kinds),
        unseen=n_new / apart.total() if apart else 1.0,
        guessed=guessed,
        spelled=spelled,
    )


def _divided(n: int) -> tuple[list[int], list[int]]:
    """Return the numbers of most sentences, and of those apart."""
    return [i for i in range(n) if i % _APART < _APART - 1], list(range(_APART - 1, n, _APART))


def _counted(sentences: Sequence[Sequence[Any]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for word, count in token_counts(sentences).items():
        counts[word.lower()] += count
    return counts


def _examples(sentences: Any, labels: Any) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """Return rare words with their labels, and, of the sentences apart, new ones; of many sentences a sample."""
    if len(sentences) > _MOST:
        some = list(range(0, len(sentences), -(-len(sentences) // _MOST)))
        sentences, labels = select(sentences, some), select(labels, some)
    rest, apart = _divided(len(sentences))
    counts = _counted(select(sentences, rest))
    rare = list(_pairs(sentences, labels, rest, lambda word: counts[word] <= _RARE))
    return rare, list(_pairs(sentences, labels, apart, lambda word: word not in counts))


def _pairs(
    sentences: Sequence[Any], labels: Sequence[Any], numbers: list[int], wanted: Callable[[str], bool]
) -> Iterator[tuple[str, Any]]:
    """Yield the words that are wanted, with their labels."""
    for n in numbers:
        for word, label in zip(sentences[n], labels[n], strict=True):
            if wanted(word.lower()):
                yield word, label


def _guesses(known: list[tuple[str, Any]], new: list[tuple[str, Any]]) -> tuple[float, float]:
    """Return how often a new word's label is guessed without looking at it, and from its spelling."""
    if not known or not new:
        return 0.0, 0.0
    known, new = known[:: -(-len(known) // _KNOWN)], new[:: -(-len(new) // _NEW)]
    prior = Counter(label for _, label in known)
    usual = prior.most_common(1)[0][0]
    by_sign: defaultdict[str, Counter[Any]] = defaultdict(Counter)
    for word, label in known:
        for sign in _signs(word):
            by_sign[sign][label] += 1
    labels = list(prior)
    number = {label: n for n, label in enumerate(labels)}
    share = np.array([prior[label] for label in labels]) / len(known)
    start = np.log(share)

    @functools.cache
    def evidence(sign: str) -> tuple[np.ndarray, np.ndarray]:
        """Return labels seen with a sign, and by how much each gains on those that were not."""
        found = by_sign[sign]
        ids = np.array([number[label] for label in found])
        return ids, np.log1p(np.array([*found.values()]) / share[ids] / _DOUBT)

    right = 0
    for word, label in new:
        score = start.copy()
        for sign in _signs(word):
            if sign in by_sign:
                ids, more = evidence(sign)
                score[ids] += more
        right += labels[int(score.argmax())] == label
    return sum(label == usual for _, label in new) / len(new), right / len(new)


def _signs(word: str) -> list[str]:
    normal, longest = word.lower(), min(_ENDS, len(word))
    beginnings = [f"^{normal[:n]}" for n in range(1, longest + 1)]
    return [*beginnings, *(f"{normal[-n:]}$" for n in range(1, longest + 1)), f"~{word_shape(composed(word))}"]
