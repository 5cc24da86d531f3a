"""Fitted members as one: taggers by their labels, language models by their symbols."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from rnncore.data.encoders import LabelEncoder, sequence_lengths
from rnncore.data.inputs import sequences_of
from rnncore.data.readers import DataError
from rnncore.data.sequences import Sequences
from rnncore.data.symbols import Encoded
from rnncore.estimators._combining import chosen_weights, combined, log_floor
from rnncore.estimators._consistent import most_probable
from rnncore.estimators._examples import Examples, Nouns, pieces
from rnncore.estimators._joint import TAGS
from rnncore.estimators._joint_network import JointNetwork
from rnncore.estimators._judges import JudgesTexts
from rnncore.estimators._task import LabelLists, split
from rnncore.estimators._text import TextPipeline
from rnncore.estimators._writes import WritesTexts
from rnncore.metrics import Tally, are_chunks
from rnncore.nn.heads import Constraints, bio_constraints

__all__ = ["TaggersTogether", "TextsTogether", "together"]

_NOUNS = Nouns("sentence", "tag", "word")
_SCORES_AT_ONCE = 1 << 24  # symbols times members times classes that weights are chosen by


def together(members: Sequence[Any], how: str, constraints: str | None) -> TaggersTogether | TextsTogether:
    """Return members of one task as one, all of them counting alike.

    Raises
    ------
    TypeError, ValueError
        For members of different tasks, and those whose probabilities cannot be had.
    """
    kinds = {_kind(member) for member in members}
    if len(kinds) > 1:
        named = ", ".join(sorted({type(member).__name__ for member in members}))
        raise ValueError(f"the members of an ensemble must have one task, got {named}: {' and '.join(sorted(kinds))}")
    if kinds == {"texts"}:
        return TextsTogether(members, how)
    return TaggersTogether(members, how, constraints)


def _kind(member: Any) -> str:
    if hasattr(member, "iter_generate"):
        return "texts"
    if not hasattr(member, "predict_proba") or not hasattr(member, "classes_"):
        raise TypeError(
            f"expected members with predict_proba and classes_, such as SequenceTagger, or language models; got "
            f"{type(member).__name__}"
        )
    if isinstance(member.classes_, Mapping):
        raise ValueError(
            "the members of an ensemble must give one answer for each word, got a tagger of several columns of tags: "
            "make an ensemble for each column"
        )
    return "tags"


class TaggersTogether:
    """Taggers as one: the probabilities of their labels combined, and labels that fit one another.

    Parameters
    ----------
    members : list of fitted taggers
    how : "mean" or "product"
    constraints : None, "auto", "bio" or "iobes"
        What chunk labels allow, see `rnncore.heads.bio_constraints`.
    """

    def __init__(self, members: Sequence[Any], how: str, constraints: str | None) -> None:
        self.members, self.how = list(members), how
        self.weights = np.full(len(members), 1 / len(members))
        self.labels = LabelEncoder().fit([np.asarray(member.classes_).tolist() for member in members])
        self.columns = [self.labels.encode([np.asarray(member.classes_).tolist()]) for member in members]
        self.rule: Constraints | None = None
        if constraints is not None and (constraints != "auto" or are_chunks(self.labels.classes)):
            self.rule = bio_constraints(self.labels.classes, constraints)

    @property
    def classes_(self) -> np.ndarray:
        """The labels that any member knows, sorted."""
        return np.array(self.labels.classes)

    def drop_rule_unless(self, y: Any) -> None:
        """Let labels follow one another in any way where they do so in the training data."""
        if self.rule is None:
            return
        y = sequences_of(y, "tags")
        ids, lengths = self.labels.encode(y, -1), sequence_lengths(y, "tags")
        ends = np.cumsum(lengths)[lengths > 0]
        starts = ends - lengths[lengths > 0]
        fine = self.rule.transitions[np.roll(ids, 1), ids]
        fine[starts] = self.rule.start[ids[starts]]
        fine[ends - 1] &= self.rule.end[ids[ends - 1]]
        if not (fine | (ids < 0) | (np.roll(ids, 1) < 0)).all():
            self.rule = None

    # -- probabilities ------------------------------------------------------------------------------------------------

    def _of_members(self, sentences: Any, n_steps: int) -> Iterable[np.ndarray]:
        """Yield each member's probabilities of all steps, (N, K); of labels that it does not know 0."""
        for member, columns in zip(self.members, self.columns, strict=True):
            found = np.concatenate(member.predict_proba(sentences)) if len(sentences) else np.zeros((0, len(columns)))
            if found.shape != (n_steps, len(columns)):
                raise ValueError(
                    f"expected probabilities of {len(columns)} labels for {n_steps} words from predict_proba of "
                    f"{type(member).__name__}, got shape {found.shape}"
                )
            p = np.zeros((n_steps, len(self.labels.classes)), dtype=found.dtype)
            p[:, columns] = found
            yield p

    def _probabilities(self, sentences: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the combined probabilities of all steps, (N, K), and the sentences' lengths."""
        lengths = sequence_lengths(sentences)
        n = int(lengths.sum())
        return combined(self._of_members(sentences, n), self.weights, self.how), lengths

    def predict_proba(self, X: Any) -> list[np.ndarray]:
        """Return a (T, K) array for each sentence."""
        p, lengths = self._probabilities(sequences_of(X))
        return np.split(p, np.cumsum(lengths)[:-1]) if len(lengths) else []

    def _best(self, sentences: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the labels' numbers, how probable each is by itself, (N,) both, and the sentences' lengths."""
        p, lengths = self._probabilities(sentences)
        if self.rule is None or not len(p):
            best: np.ndarray = p.argmax(axis=1)
        else:
            best = most_probable(log_floor(p), lengths[lengths > 0], self.rule)
        return best, p[np.arange(len(p)), best], lengths

    def predict(self, X: Any) -> LabelLists:
        """Return a list of labels for each sentence."""
        best, _, lengths = self._best(sequences_of(X))
        return split(self.labels.decode(best), lengths)

    # -- how sure they are --------------------------------------------------------------------------------------------

    def predict_surely(self, X: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return the labels, and how probable each is by itself, (N,), as taggers do by the name of the answer."""
        best, sure, lengths = self._best(sequences_of(X))
        return {TAGS: split(self.labels.decode(best), lengths)}, {TAGS: sure}

    def label_probabilities(self, X: Any, y: Any) -> list[np.ndarray]:
        """Return the combined probability of each label in `y`: a (T,) array for each sentence."""
        sentences, tags, _ = Examples.of(X, y, _NOUNS, per_step=True)
        found: list[np.ndarray] = []
        for some in pieces(sentences):
            p, lengths = self._probabilities(sentences[some])
            ids = self.labels.encode(tags[some], -1)
            its = np.where(ids < 0, 0.0, p[np.arange(len(p)), ids])
            found += np.split(its, np.cumsum(lengths)[:-1])
        return found

    def confidence(self, X: Any) -> np.ndarray:
        """Return the product of the probabilities of each sentence's predicted labels, (S,)."""
        sentences = sequences_of(X)
        found = np.ones(len(sentences))
        for some in pieces(sentences):
            _, sure, lengths = self._best(sentences[some])
            sums = np.concatenate([[0.0], np.cumsum(log_floor(sure))])
            ends = np.cumsum(lengths)
            found[some] = np.exp(np.minimum(sums[ends] - sums[ends - lengths], 0.0))
        return found

    # -- judging ------------------------------------------------------------------------------------------------------

    def _right(self, X: Any, y: Any, sample_weight: Any = None) -> tuple[np.ndarray, np.ndarray | None]:
        data = Examples.of(X, y, _NOUNS, per_step=True).weighed(sample_weight, _NOUNS)
        best, _, lengths = self._best(data.sequences)
        weights = None if data.weights is None else np.repeat(data.weights, lengths)
        return best == self.labels.encode(data.targets, -1), weights

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of labels that are right."""
        right, weights = self._right(X, y, sample_weight)
        return float(np.average(right, weights=weights))

    def count_correct(self, X: Any, y: Any) -> tuple[int, int]:
        """Return how many labels are right, and how many there are."""
        right, _ = self._right(X, y)
        return int(right.sum()), len(right)

    def evaluate(self, X: Any, y: Any, strict: bool | str = False) -> dict[str, Any]:
        """Measure the predictions, see `rnncore.metrics.evaluation`."""
        sentences, tags, _ = Examples.of(X, y, _NOUNS, per_step=True).with_steps(_NOUNS)
        tally = Tally(strict)
        for some in pieces(sentences):
            predicted, sure = self.predict_surely(sentences[some])
            known = self.knows(sentences[some])
            tally.add([list(labels) for labels in tags[some]], predicted[TAGS], known, sure[TAGS])
        return tally.result()

    def knows(self, X: Any) -> np.ndarray | None:
        """Tell of all words whether any member's training data had them; None where tokens are no words."""
        sentences = sequences_of(X)
        found = [member.knows(sentences) for member in self.members if hasattr(member, "knows")]
        known = [one for one in found if one is not None]
        return np.logical_or.reduce(known) if known else None

    def choose_weights(self, X: Any, y: Any) -> np.ndarray:
        """Return the weights that suit tagged sentences best."""
        data = Examples.of(X, y, _NOUNS, per_step=True).with_steps(_NOUNS)
        ids = self.labels.encode(data.targets, -1)
        known = ids >= 0
        if not known.any():
            raise DataError("validation_data: expected labels that a member knows, got none")
        found = np.stack([p[known] for p in self._of_members(data.sequences, len(ids))])
        return chosen_weights(found, ids[known], self.how)


class TextsTogether(JudgesTexts, WritesTexts):
    """Language models as one: the probabilities of the next symbol combined at every step.

    Parameters
    ----------
    members : list of fitted language models
        Of one unit, with the same symbols, in any order.
    how : "mean" or "product"
    """

    def __init__(self, members: Sequence[Any], how: str) -> None:
        self.members, self.how = list(members), how
        first = members[0]._table
        for member in members[1:]:
            table = member._table
            for name in ("unit", "sentences", "lowercase"):
                own, other = getattr(first, name), getattr(table, name)
                if own != other:
                    raise ValueError(
                        f"language models in an ensemble must read texts alike, got {name}={own!r} and {other!r}"
                    )
            if set(table.symbols) != set(first.symbols):
                only = sorted(map(repr, set(table.symbols) ^ set(first.symbols)))
                raise ValueError(
                    "language models in an ensemble must have the same symbols (fit them with the same vocabulary=); "
                    f"{len(only)} are not known to all, {', '.join(only[:3])} among them"
                )
        numbers = []
        for member in members:
            number = {symbol: n for n, symbol in enumerate(member._table.symbols)}
            numbers.append(np.array([number[symbol] for symbol in first.symbols], dtype=np.int64))
        self.network_ = JointNetwork([member.network_ for member in members], numbers, how)

    @property
    def weights(self) -> np.ndarray:
        """How much each member counts."""
        return self.network_.weights

    @weights.setter
    def weights(self, weights: np.ndarray) -> None:
        self.network_.weights = weights

    @property
    def unit(self) -> str:
        """What a symbol is."""
        return self._table.unit

    @property
    def _pipeline(self) -> TextPipeline:
        found: TextPipeline = self.members[0]._pipeline
        return found

    def _log_likelihood(self, found: Encoded | Sequences) -> float:
        return self.network_.mean_log_likelihood(found)

    def choose_weights(self, text: Any, _: Any = None) -> np.ndarray:
        """Return the weights that suit a text best; of a long text, a first part decides."""
        at_most = max(1, _SCORES_AT_ONCE // (len(self._table) * len(self.members)))
        parts, right = [], []
        for p, targets in self.network_.probabilities_of_members(self._encoded(text)):
            parts.append(p)
            right.append(targets)
            if sum(map(len, right)) >= at_most:
                break
        return chosen_weights(np.concatenate(parts, axis=1), np.array([*chain(*right)]), self.how)
