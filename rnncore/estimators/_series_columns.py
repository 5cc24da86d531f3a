"""Several labels of a sequence, or of every step: a softmax for each column of the targets, in one network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from rnncore.data.readers import DataError
from rnncore.data.sequences import Sequences
from rnncore.estimators._examples import Examples, Nouns, Targets
from rnncore.estimators._series_tasks import SeriesLabelTask, as_rows, examples_of, inputs_of, plain
from rnncore.estimators._task import Collate, SequenceTask
from rnncore.train.predictions import predict_all

__all__ = ["ColumnsTask"]


class ColumnsTask(SequenceTask):
    """K labels for each sequence, or for every step.

    Parameters
    ----------
    make : callable
        Makes the task of one column.
    width : int
        How many there are.

    Examples
    --------
    >>> task = ColumnsTask(lambda: SeriesLabelTask(per_step=False, readout="last"), 2)
    >>> task.fit({"0": ["up", "down"], "1": [3, 1]})
    >>> task.classes
    [['down', 'up'], [1, 3]]
    """

    def __init__(self, make: Callable[[], SeriesLabelTask], width: int) -> None:
        self.parts = {str(column): make() for column in range(width)}
        self.per_step = self.parts["0"].per_step

    @property
    def classes(self) -> list[list[Any]]:
        """The labels of each column, sorted."""
        return [part.classes for part in self.parts.values()]

    # -- data ---------------------------------------------------------------------------------------------------------

    def examples(self, sequences: Any, targets: Any, nouns: Nouns) -> Examples:
        """Check that sequences and targets go together, and give each column its own."""
        given, targets = inputs_of(sequences, "X"), plain(targets)
        width = len(self.parts)
        if self.per_step:
            rows = [as_rows(part, f"y[{number}]", width) for number, part in enumerate(targets)]
            given, rows, _ = examples_of(given, rows, nouns, True)
            columns = {name: [[row[int(name)] for row in part] for part in rows] for name in self.parts}
        else:
            given, rows, _ = examples_of(given, as_rows(targets, "y", width), nouns, False)
            columns = {name: [row[int(name)] for row in rows] for name in self.parts}
        return Examples(given, Targets(columns, tuple(columns)))

    def fit(self, targets: Any, classes: Any = None) -> None:
        """Collect the labels of each; `classes`: a list of them for each column."""
        for name, part in self.parts.items():
            part.fit(targets[name], None if classes is None else classes[int(name)])
            if len(part.classes) < 2:
                raise DataError(
                    f"a classifier needs more than one class: all targets of column {name} are {part.classes[0]!r}; "
                    "got 1 class: leave the column out"
                )

    def encode(self, targets: Any, unseen: int | None = None) -> dict[str, np.ndarray]:
        """Return the numbers of each column's labels."""
        return {name: part.encode(targets[name], unseen) for name, part in self.parts.items()}

    def weighed(self, train: Examples) -> Examples:
        """Return examples whose sequences weigh as much as the product of their classes' weights."""
        for name, part in self.parts.items():
            weights = part.weighed(Examples(train.sequences, train.targets[name], train.weights)).weights
            train = train._replace(weights=weights)
        return train

    # -- the network --------------------------------------------------------------------------------------------------

    def head(self) -> Any:
        """Refuse: there are several."""
        raise TypeError("a ColumnsTask has several heads: see outputs")

    def outputs(self) -> dict[str, Any]:
        """Return a head for each column."""
        heads = {name: part.head() for name, part in self.parts.items()}
        if self.per_step:
            return {"heads": heads}
        return {"heads": {name: replace(head, pooling=self.parts[name].readout) for name, head in heads.items()}}

    # -- predictions --------------------------------------------------------------------------------------------------

    def _found(self, network: Any, data: Sequences, collate: Collate) -> list[np.ndarray]:
        """Return the probabilities of each column, (N, K) or (S, K)."""
        found = predict_all(network, data, collate)
        return [found[name] for name in self.parts]

    def probabilities(self, network: Any, data: Sequences, collate: Collate) -> list[Any]:
        """Return those of each column's labels: (S, K), or a list of (T, K) for each sequence."""
        found = self._found(network, data, collate)
        ends = np.cumsum(data.lengths)[:-1]
        return [np.split(one, ends) for one in found] if self.per_step else found

    def predict(self, network: Any, data: Sequences, collate: Collate) -> Any:
        """Return the most probable labels, (S, K), or (T, K) for each sequence."""
        best = [one.argmax(axis=1) for one in self._found(network, data, collate)]
        labels = [np.array(part.classes) for part in self.parts.values()]
        kinds = {one.dtype.kind for one in labels}
        table = np.empty((len(best[0]), len(best)), dtype=np.result_type(*labels) if len(kinds) == 1 else object)
        for column, (own, numbers) in enumerate(zip(labels, best, strict=True)):
            table[:, column] = own[numbers]
        return np.split(table, np.cumsum(data.lengths)[:-1]) if self.per_step else table

    def score(self, network: Any, data: Sequences, collate: Collate, weights: np.ndarray | None) -> float:
        """Return how often all K labels are right."""
        found = self._found(network, data, collate)
        right = np.all([p.argmax(axis=1) == data.y[name] for name, p in zip(self.parts, found, strict=True)], axis=0)
        weights = np.repeat(weights, data.lengths) if weights is not None and self.per_step else weights
        return float(np.average(right, weights=weights))

    def validate(self, network: Any, data: Sequences, collate: Collate) -> dict[str, float]:
        """Measure the sum of the columns' losses, and their mean accuracy."""
        found = zip(self.parts.items(), self._found(network, data, collate), strict=True)
        measured = [part.measured(p, p.argmax(axis=1), data.y[name]) for (name, part), p in found]
        loss, score = (sum(one[key] for one in measured) for key in ("val_loss", "val_score"))
        return {"val_loss": loss, "val_score": score / len(measured)}

    # -- files --------------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Describe the labels of each column."""
        answers = {name: part.to_json() for name, part in self.parts.items()}
        return {"targets": "columns", "per_step": self.per_step, "columns": [*self.parts], "answers": answers}

    def from_json(self, header: dict[str, Any]) -> None:
        """Take over what `to_json` described."""
        for name, part in self.parts.items():
            part.from_json(header["answers"][name])
