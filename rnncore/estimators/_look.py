"""What training data look like: what settings that nobody made are chosen by."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from rnncore.data.encoders import composed
from rnncore.data.features import word_shape
from rnncore.data.tokens import select, token_counts
from rnncore.metrics import are_chunks

__all__ = ["Look", "look_at"]

_MOST = 5_000  # sentences that are looked at
_APART = 5  # every fifth of them is the part apart
_RARE, _LEARNED = 2, 30_000  # words that occur so often stand for those that do not; so many of them
_ENDS = 4  # letters of beginnings and endings
_FEWEST = 20  # words that occur once, to tell anything by
_GUESSED = 1000  # of them are guessed, at most
_DOUBT = 2.0  # how many words that say nothing each feature counts beside its own


@dataclass(frozen=True)
class Look:
    """What training data look like, and what they say about words that were never seen.

    Attributes
    ----------
    sentences, words, labels : int
        How many there are; `words` with repetitions.
    chunks : bool
        Whether labels are parts of chunks, as B-NAME and I-NAME are.
    unseen : float
        Share of the words of a part apart, every fifth sentence, that the rest does not have.
    guessed, spelled : float
        How often the label of a word that occurs once is guessed from all other rare words: always as the most frequent
        of their labels, and from its spelling, by naive Bayes.
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
    guessed, spelled = _guesses(list(_rare(sentences, labels)))
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


def _rare(sentences: Any, labels: Any) -> Iterator[tuple[str, Any, bool]]:
    """Yield rare words with their labels, and whether they occur but once; of many sentences a sample."""
    if len(sentences) > _MOST:
        some = list(range(0, len(sentences), -(-len(sentences) // _MOST)))
        sentences, labels = select(sentences, some), select(labels, some)
    counts = _counted(sentences)
    for sentence, its in zip(sentences, labels, strict=True):
        for word, label in zip(sentence, its, strict=True):
            count = counts[word.lower()]
            if count <= _RARE:
                yield word, label, count == 1


def _guesses(rare: list[tuple[str, Any, bool]]) -> tuple[float, float]:
    """Return how often labels of words that occur once are guessed from the others: as their usual one, by spelling."""
    rare = rare[:: max(-(-len(rare) // _LEARNED), 1)]
    spelled = [(_signs(word), label, alone) for word, label, alone in rare]
    once = [(signs, label) for signs, label, alone in spelled if alone]
    if len(once) < _FEWEST:
        return 0.0, 0.0
    prior = Counter(label for _, label, _ in rare)
    usual = prior.most_common(1)[0][0]
    share = {label: count / len(rare) for label, count in prior.items()}
    by_sign: defaultdict[str, Counter[Any]] = defaultdict(Counter)
    for signs, label, _ in spelled:
        for sign in signs:
            by_sign[sign][label] += 1
    once = once[:: -(-len(once) // _GUESSED)]
    right = 0
    for signs, label in once:
        score = {other: math.log(value) for other, value in share.items()}
        for sign in signs:  # what labels gain that were seen with it, on those that were not
            for other, count in by_sign[sign].items():
                others = count - (other == label)  # without the word itself
                if others:
                    score[other] += math.log1p(others / share[other] / _DOUBT)
        right += max(score, key=score.__getitem__) == label
    return sum(label == usual for _, label in once) / len(once), right / len(once)


def _signs(word: str) -> list[str]:
    normal, longest = word.lower(), min(_ENDS, len(word))
    beginnings = [f"^{normal[:n]}" for n in range(1, longest + 1)]
    return [*beginnings, *(f"{normal[-n:]}$" for n in range(1, longest + 1)), f"~{word_shape(composed(word))}"]
