"""Several answers from one network: tags of one or more columns, and a label of the sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from rnncore._checks import one_of
from rnncore.data.encoders import sequence_lengths
from rnncore.data.readers import DataError
from rnncore.data.sequences import Sequences
from rnncore.estimators._examples import Examples, Nouns, Targets
from rnncore.estimators._task import Collate, LabelTask, SequenceTask
from rnncore.nn.heads import POOLINGS
from rnncore.train.predictions import decode_all, predict_all

__all__ = ["SENTENCE", "TAGS", "JointTask", "described", "each", "targets_of"]

TAGS, SENTENCE = "tags", "sentence"  # names of a column of tags without a name of its own, and of sentences' labels
POOLING = "mean"  # what the head of sentences sees: on SNIPS no worse than any other, whatever the weight


def targets_of(tags: Any, sentence_labels: Any = None) -> Targets:
    """Return everything that is to be learned by name.

    Parameters
    ----------
    tags : list of lists, or dict of str to such
        A dict: several columns of tags, by the names that their heads will have.
    sentence_labels : list, optional

    Raises
    ------
    DataError
        For a dict of no columns, or names that cannot be.

    Examples
    --------
    >>> made = targets_of({"upos": [["NOUN"]], "xpos": [["NN"]]}, ["question"])
    >>> list(made), made.columns
    (['upos', 'xpos', 'sentence'], ('upos', 'xpos'))
    """
    columns = None
    if isinstance(tags, Mapping):
        columns = tuple(tags)
        wrong = [name for name in columns if not isinstance(name, str) or not name or "." in name or name == SENTENCE]
        if wrong or not columns:
            got = repr(wrong[0]) if wrong else "an empty dict"
            raise DataError(f"names of columns of tags must be words without a dot, and not {SENTENCE!r}; got {got}")
    found = {TAGS: tags} if columns is None else dict(tags)
    return Targets(found if sentence_labels is None else found | {SENTENCE: sentence_labels}, columns)


def described(columns: tuple[str, ...] | None) -> str:
    """Say in which form tags come."""
    return "lists" if columns is None else f"a dict of {', '.join(columns)}"


def each(change: Callable[..., Any], found: Any) -> Any:
    """Apply a function to what was found, or to that of each of several columns.

    Examples
    --------
    >>> each(len, "abc"), each(len, {"upos": "ab", "xpos": "c"})
    (3, {'upos': 2, 'xpos': 1})
    """
    return {name: change(one) for name, one in found.items()} if isinstance(found, dict) else change(found)


class JointTask(SequenceTask):
    """Tasks of labels that one network learns together, a head for each.

    Parameters
    ----------
    make : callable
        ``make(name)`` makes the task of a column of tags; the name is None for the only one.
    columns : tuple of str or None
        Names of the columns of tags; None: one without a name.
    sentence_weight : float or None
        How much the loss of the label of a sentence counts beside that of its tags; None: there is none.

    Examples
    --------
    >>> task = JointTask(lambda name: LabelTask(), None, sentence_weight=1.0)
    >>> task.fit(targets_of([["O", "B"], ["O"]], ["yes", "no"]))
    >>> {name: part.classes for name, part in task.parts.items()}
    {'tags': ['B', 'O'], 'sentence': ['no', 'yes']}
    """

    def __init__(
        self,
        make: Callable[[str | None], LabelTask],
        columns: tuple[str, ...] | None,
        sentence_weight: float | None,
    ) -> None:
        self.columns = columns
        self.parts = {TAGS: make(None)} if columns is None else {name: make(name) for name in columns}
        self.tagged = tuple(self.parts)
        self.sentence_weight = sentence_weight
        if sentence_weight is not None:
            self.parts[SENTENCE] = LabelTask(per_step=False, readout=POOLING)
        self.per_step = {name: part.per_step for name, part in self.parts.items()}
        self.shares = np.empty(0)  # of the sentences' labels in the training data

    @property
    def labels_sentences(self) -> bool:
        """Whether there is a label for the sentence."""
        return SENTENCE in self.parts

    # -- data ---------------------------------------------------------------------------------------------------------

    def examples(self, sequences: Any, targets: Any, nouns: Nouns, every: bool = True) -> Examples:
        """Check that sequences and all targets that are given go together; those of sentences may be left out.

        Not `every`: some of the columns are enough.
        """
        given = targets if isinstance(targets, Targets) else targets_of(targets)
        names = [name for name in self.parts if name in given]
        same = (given.columns is None) == (self.columns is None) and {*given} <= {*self.parts}
        if not same or (every and not {*self.tagged} <= {*names}):
            raise DataError(f"expected the tags as {described(self.columns)}, got {described(given.columns)}")
        found = {}
        for name in names:
            what = "sentence label" if name == SENTENCE else "tag" if self.columns is None else f"{name} tag"
            of_one = nouns._replace(target=what)
            sequences, found[name], _ = Examples.of(sequences, given[name], of_one, self.per_step[name])
        return Examples(sequences, Targets(found, self.columns))

    def check(self, sequences: Any, targets: Any, counted: np.ndarray) -> None:
        """Refuse what breaks constraints, and labels of sentences that are empty: nothing can be learned from them."""
        for name in self.tagged:
            self.parts[name].check(sequences, targets[name], counted)
        empty = (sequence_lengths(sequences) == 0) & counted
        if SENTENCE in targets and empty.any():
            bad = int(np.argmax(empty))
            raise DataError(f"sentence {bad} is empty, but has the label {targets[SENTENCE][bad]!r}: leave both out")

    def fit(self, targets: Any, classes: Any = None) -> None:
        """Collect the labels of each; `classes` by name."""
        for name, part in self.parts.items():
            part.fit(targets[name], (classes or {}).get(name))
        if self.labels_sentences:
            numbers = self.parts[SENTENCE].encode(targets[SENTENCE])
            self.shares = np.bincount(numbers, minlength=len(self.parts[SENTENCE].classes)) / len(numbers)

    def encode(self, targets: Any, unseen: int | None = None) -> dict[str, np.ndarray]:
        """Return the numbers of each one's labels."""
        return {name: self.parts[name].encode(one, unseen) for name, one in targets.items()}

    def counts(self, data: Sequences) -> np.ndarray:
        """Return how much each sequence's tags count."""
        name = self.tagged[0]
        return self.parts[name].counts(replace(data, y=data.y[name], per_step=True))

    # -- the network --------------------------------------------------------------------------------------------------

    def head(self) -> Any:
        """Refuse: there are several."""
        raise TypeError("a JointTask has several heads: see outputs")

    def outputs(self) -> dict[str, Any]:
        """Return the heads and their weights."""
        heads = {
            name: part.head() if part.per_step else replace(part.head(), pooling=part.readout)
            for name, part in self.parts.items()
        }
        weights = {SENTENCE: self.sentence_weight} if self.labels_sentences else None
        return {"heads": heads, "loss_weights": weights}

    # -- predictions --------------------------------------------------------------------------------------------------

    def of_columns(self, found: Mapping[str, Any]) -> Any:
        """Return what there is for tags: itself without names of columns, else a dict."""
        return found[TAGS] if self.columns is None else {name: found[name] for name in self.columns if name in found}

    @property
    def labelled(self) -> dict[str, LabelTask]:
        """The tasks of tags by the names of their heads."""
        return {name: self.parts[name] for name in self.tagged}

    @property
    def tag_classes(self) -> Any:
        """The tags, sorted; a dict for several columns."""
        return self.of_columns({name: self.parts[name].classes for name in self.tagged})

    def answers(self, network: Any, data: Sequences, collate: Collate) -> dict[str, Any]:
        """Return the most probable labels of each: lists of tags, and an array of the sentences' labels."""
        found = decode_all(network, data, collate)
        return {name: self.parts[name].named(numbers, data.lengths) for name, numbers in found.items()}

    def predict(self, network: Any, data: Sequences, collate: Collate) -> Any:
        """Return the most probable tags."""
        return self.of_columns(self.answers(network, data, collate))

    def probabilities(self, network: Any, data: Sequences, collate: Collate) -> dict[str, np.ndarray]:
        """Return those of each one's labels, at every step or of every sequence."""
        return predict_all(network, data, collate)

    def of_step(self, found: Mapping[str, np.ndarray]) -> Any:
        """Return the tags of one step's probabilities."""
        return self.of_columns({name: self.parts[name].classes[int(found[name].argmax())] for name in self.tagged})

    def right(self, network: Any, data: Sequences, collate: Collate) -> dict[str, np.ndarray]:
        """Tell of each where the prediction is the target."""
        best = decode_all(network, data, collate)
        return {name: best[name] == one for name, one in data.y.items()}

    def score(self, network: Any, data: Sequences, collate: Collate, weights: np.ndarray | None) -> float:
        """Return the accuracy of tags, the mean of all columns."""
        right = self.right(network, data, collate)
        by_step = None if weights is None else np.repeat(weights, data.lengths)
        return float(np.mean([np.average(right[name], weights=by_step) for name in self.tagged]))

    def validate(self, network: Any, data: Sequences, collate: Collate) -> dict[str, float]:
        """Measure the loss, as training weighs it, and the mean accuracy; and both of each."""
        probabilities = self.probabilities(network, data, collate)
        best = decode_all(network, data, collate)
        record: dict[str, float] = {}
        loss, scores = 0.0, []
        for name, part in self.parts.items():
            found = part.measured(probabilities[name], best[name], data.y[name])
            record |= {f"{key}_{name}": value for key, value in found.items()}
            loss += found["val_loss"] * ((self.sentence_weight or 1.0) if name == SENTENCE else 1.0)
            scores.append(found["val_score"])
        return {"val_loss": loss, "val_score": float(np.mean(scores)), **record}

    # -- files --------------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Describe the labels of each."""
        answers = {name: part.to_json() for name, part in self.parts.items()}
        if self.labels_sentences:
            answers[SENTENCE] |= {"pooling": self.parts[SENTENCE].readout, "shares": self.shares.tolist()}
        return {"columns": None if self.columns is None else list(self.columns), "answers": answers}

    def from_json(self, header: dict[str, Any]) -> None:
        """Take over what `to_json` described."""
        answers = header["answers"]
        for name, part in self.parts.items():
            part.from_json(answers[name])
        if self.labels_sentences:
            self.parts[SENTENCE].readout = one_of(answers[SENTENCE]["pooling"], POOLINGS[1:], "pooling")
            self.shares = np.array(answers[SENTENCE]["shares"], dtype=np.float64)
            if self.shares.shape != (len(self.parts[SENTENCE].classes),):
                raise ValueError(f"expected a share of each label of sentences, got {self.shares.shape}")
