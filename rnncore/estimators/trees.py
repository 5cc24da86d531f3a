"""TreeClassifier: trees in, classes of their roots or of all their nodes out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from rnncore import _checks
from rnncore.data.readers import DataError
from rnncore.data.trees import Trees
from rnncore.estimators._settings import Settings, check_flag, make_optimizer, setting_from_json
from rnncore.io import files
from rnncore.models.trees import ACTIVATIONS, CELLS, TreeNetwork
from rnncore.optim.arguments import check_choice, check_count, check_number
from rnncore.optim.optimizers import Optimizer
from rnncore.optim.schedules import Schedule
from rnncore.train.batches import generator
from rnncore.train.callbacks import as_callbacks
from rnncore.train.trainer import Trainer

__all__ = ["TreeClassifier"]

_PREDICTED = 1024  # trees at a time


@dataclass(eq=False, repr=False)
class TreeClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Tell the class of trees, or of each of their nodes, with a recursive network (`rnncore.models.TreeNetwork`).

    A tree is a nested tuple, ``("and", ("not", "T"), "F")``: an inner node's label first, then its children; a leaf is
    its label. `rnncore.Trees` come from arrays of parents, too.

    Parameters
    ----------
    cell : {"plain", "tensor", "lstm", "child_sum"}
    hidden_size : int
        Numbers in a node's vector.
    activation : {"tanh", "sigmoid", "relu"}
        Of the first two cells.
    max_children : int or None
        For how many children of a node there are matrices of their own; None: as many as a node has in `fit`.
    optimizer : str, dict or Optimizer
        A name in ``rnncore.OPTIMIZERS``, made with learning_rate, schedule, clip_norm and weight_decay; a dict of its
        "name" and more options; or an object, taken with its own.
    learning_rate, clip_norm, weight_decay
        As the optimizers take them.
    schedule : str, dict, Schedule or None
        "linear", "cosine", "exponential", "halve_on_plateau", None (constant), or an object of `rnncore.schedules`.
    batch_size : int
        Trees in a minibatch.
    max_epochs : int
    early_stopping : bool
        Set a `validation_fraction` of the trees aside, stop after `n_iter_no_change` epochs without a better score on
        them, and keep the best epoch's weights.
    validation_fraction, n_iter_no_change
        See `early_stopping`.
    random_state : int, None, Generator or RandomState
        Draws the first weights and the order of the trees. The same integer gives the same bits, for any number of
        threads.
    n_threads : int or None
    dtype : "float32" or "float64"
    verbose : int
        1 shows a bar with loss and time left.
    callbacks : sequence of Callback or callable, optional
        As other estimators take them.

    Attributes
    ----------
    classes_ : ndarray
    symbols_ : list
        The labels of nodes.
    at_ : "root" or "nodes"
        What there were targets for.
    network_ : TreeNetwork
    history_ : list of dict
        For every epoch: epoch, loss, seconds; with early stopping val_loss and val_score too.
    n_epochs_ : int
    stopped_ : str or None
        Why training ended before `max_epochs`: "early", "callback", "interrupted", "diverged".

    Examples
    --------
    >>> import rnncore as rc
    >>> trees, values = rc.datasets.boolean_expressions(300, max_depth=3)
    >>> classifier = rc.TreeClassifier(max_epochs=30).fit(trees, values)
    >>> classifier.predict([("or", "F", ("not", "F"))])
    array(['T'], dtype='<U1')
    """

    cell: str = "plain"
    hidden_size: int = 16
    activation: str = "tanh"
    max_children: int | None = None
    optimizer: str | Mapping[str, Any] | Optimizer = "adam"
    learning_rate: float = 0.005
    schedule: str | Mapping[str, Any] | Schedule | None = "linear"
    batch_size: int = 32
    max_epochs: int = 50
    clip_norm: float | None = 5.0
    weight_decay: float = 0.0
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 10
    random_state: Any = 0
    n_threads: int | None = None
    dtype: Any = "float32"
    verbose: int = 0
    callbacks: Sequence[Any] | None = None

    classes_: np.ndarray = field(init=False)
    symbols_: list[Any] = field(init=False)
    at_: str = field(init=False)
    network_: TreeNetwork = field(init=False)
    history_: list[dict[str, Any]] = field(init=False)
    n_epochs_: int = field(init=False)
    stopped_: str | None = field(init=False)

    def _check_settings(self) -> None:
        check_choice("cell", self.cell, tuple(CELLS))
        check_choice("activation", self.activation, ACTIVATIONS)
        for name in ("hidden_size", "batch_size", "max_epochs", "n_iter_no_change"):
            check_count(name, getattr(self, name), 1)
        if self.max_children is not None:
            check_count("max_children", self.max_children, 1)
        check_number("learning_rate", self.learning_rate, "[0, inf)", 0.005)
        check_number("validation_fraction", self.validation_fraction, "(0, 1)", 0.1)
        check_flag("early_stopping", self.early_stopping)
        as_callbacks(self.callbacks)
        _checks.dtype(self.dtype)

    # -- learning -----------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from trees.

        Parameters
        ----------
        X : list of nested tuples, or Trees
        y : sequence
            A class for each tree; or for each tree a list or array with one for each node, None where it is not known:
            children before parents and from left to right, as `rnncore.Trees` numbers the nodes of nested tuples.
        sample_weight : array (S,), optional
            Factors of the trees' losses.

        Raises
        ------
        DataError
            For what is no tree, and targets that do not fit; for a single class.
        ValueError, TypeError
            For settings that cannot be used.
        """
        self._check_settings()
        trees = _trees_of(X)
        self.at_, given = _targets_of(trees, y)
        there = [label for label in given if label is not None]
        if not there:
            raise DataError("expected at least one class, got None alone")
        if len({isinstance(label, str) for label in there}) > 1:
            raise DataError("expected classes that are all words or all numbers, got both")
        classes = np.unique(np.asarray(there))
        if len(classes) < 2:
            raise DataError(f"expected at least two classes, got {classes.tolist()[0]!r} alone")
        weights = np.ones(len(trees))
        if sample_weight is not None:
            weights = _checks.sample_weight(sample_weight, 1, len(trees)).reshape(-1)
        symbols = list(dict.fromkeys(label for label in trees.labels if label is not None))
        rng = generator(self.random_state)
        seed = int(rng.integers(2**31))
        most = trees.max_children if self.max_children is None else self.max_children
        self.classes_, self.symbols_ = classes, symbols
        self.network_ = TreeNetwork(
            len(symbols),
            self.hidden_size,
            len(classes),
            self.cell,
            max(most, 1),
            self.activation,
            self.dtype,
            seed,
            self.n_threads,
        )
        self._learn(self._numbered(trees), self._encoded(given), weights, rng)
        return self

    def _learn(self, trees: Trees, targets: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> None:
        rows = rng.permutation(len(trees))
        watched = rows[:0]
        if self.early_stopping:
            n = max(1, round(self.validation_fraction * len(trees)))
            watched, rows = np.sort(rows[:n]), rows[n:]
            if not len(rows):
                raise DataError(f"early_stopping sets {n} of {len(trees)} trees aside, and none is left to learn from")
        seed, size = int(rng.integers(2**31)), self.batch_size

        def batches(epoch: int) -> Iterator[tuple[Any, ...]]:
            order = rows[np.random.default_rng([seed, epoch]).permutation(len(rows))]
            for start in range(0, len(order), size):
                some = order[start : start + size]
                yield trees.take(some), self._of(targets, trees, some), None, weights[some]

        def validate() -> dict[str, float]:
            wanted = self._of(targets, trees, watched)
            p = self.network_.predict(trees.take(watched), self.at_)[wanted >= 0].astype(np.float64)
            right = wanted[wanted >= 0]
            loss = -np.log(np.maximum(p[np.arange(len(p)), right], np.finfo(float).tiny))
            return {"val_loss": float(loss.mean()), "val_score": float((p.argmax(axis=1) == right).mean())}

        optimizer = make_optimizer(self, self.max_epochs * -(-len(rows) // size), self.schedule)
        trainer = Trainer(
            self.network_,
            optimizer,
            batches,
            max_epochs=self.max_epochs,
            validate=validate if len(watched) else None,
            n_iter_no_change=self.n_iter_no_change,
            callbacks=self.callbacks,
            progress=bool(self.verbose),
            unit="node",
        )
        try:
            trainer.run()
        finally:  # a signal, or a callback that raises
            self.history_, self.n_epochs_ = trainer.history, len(trainer.history)
            self.stopped_ = trainer.stopped

    def _of(self, targets: np.ndarray, trees: Trees, some: np.ndarray) -> np.ndarray:
        """Return the targets of some trees."""
        if self.at_ == "root":
            return targets[some]
        return np.concatenate([targets[trees.starts[n] : trees.starts[n + 1]] for n in some])

    def _encoded(self, labels: list[Any]) -> np.ndarray:
        """Return the numbers of classes, -1 for None."""
        known = {label: number for number, label in enumerate(self.classes_.tolist())}
        try:
            return np.array([-1 if label is None else known[_plain(label)] for label in labels], dtype=np.int64)
        except KeyError as problem:
            raise DataError(f"{problem.args[0]!r} is none of the classes that were learned") from None

    def _numbered(self, trees: Trees) -> Trees:
        return trees.numbered({label: number for number, label in enumerate(self.symbols_)})

    # -- applying -----------------------------------------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_epochs_")

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet: call fit first")

    def _probabilities(self, trees: Trees) -> np.ndarray:
        """Return those of roots (S, K) or of all nodes (N, K)."""
        known = self._numbered(trees)
        pieces = [
            self.network_.predict(known.take(np.arange(n, min(n + _PREDICTED, len(known)))), self.at_)
            for n in range(0, len(known), _PREDICTED)
        ]
        return np.concatenate(pieces)

    def predict_proba(self, X: Any) -> Any:
        """Return probabilities in the order of `classes_`: (S, K), or a list of arrays (nodes, K), one for each tree.

        Raises
        ------
        DataError
            For what is no tree, and labels that are not known.
        ValueError
            For a node with more children than there are matrices for.
        """
        self._check_fitted()
        trees = _trees_of(X)
        found = self._probabilities(trees)
        return found if self.at_ == "root" else np.split(found, trees.starts[1:-1])

    def predict(self, X: Any) -> Any:
        """Return the most probable classes: (S,), or a list of arrays (nodes,), one for each tree.

        Raises
        ------
        DataError, ValueError
            As `predict_proba`.
        """
        found = self.predict_proba(X)
        if self.at_ == "root":
            return self.classes_[found.argmax(axis=1)]
        return [self.classes_[p.argmax(axis=1)] for p in found]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of trees, or of nodes with a class, that are right."""
        self._check_fitted()
        trees = _trees_of(X)
        at, given = _targets_of(trees, y)
        if at != self.at_:
            raise DataError(f"this classifier was fitted on classes of {self.at_}, got classes of {at}")
        known = {label: number for number, label in enumerate(self.classes_.tolist())}
        wanted = np.array([-1 if label is None else known.get(_plain(label), len(known)) for label in given])
        weights = np.ones(len(trees))
        if sample_weight is not None:
            weights = _checks.sample_weight(sample_weight, 1, len(trees)).reshape(-1)
        if at == "nodes":
            weights = np.repeat(weights, np.diff(trees.starts))
        counts = wanted >= 0
        right = self._probabilities(trees).argmax(axis=1)[counts] == wanted[counts]
        return float(np.average(right, weights=weights[counts]))

    # -- files --------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted classifier to a model file; `rnncore.load` reads it back.

        Raises
        ------
        ValueError
            For labels that are no words, numbers or flags: a file cannot hold them.
        OSError
            If the file cannot be written; an existing one is then as it was.
        """
        self._check_fitted()
        odd = [label for label in self.symbols_ if not isinstance(label, str | int | float | np.generic)]
        if odd:
            raise ValueError(f"a model file can hold words and numbers as labels of nodes, not {odd[0]!r}")
        files.save(self, path)

    def _to_model(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        kind, network = self.network_._to_model()
        header = {
            "settings": Settings.of(self).to_json(),
            "symbols": [_plain(label) for label in self.symbols_],
            "classes": self.classes_.tolist(),
            "at": self.at_,
            "history": self.history_,
            "stopped": self.stopped_,
            kind: network,
        }
        return header, {name: np.array(view) for name, view in self.network_.params.items()}

    @classmethod
    def _from_model(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        made = cls(**{name: setting_from_json(value) for name, value in header["settings"].items()})
        made._check_settings()
        check_choice("at", header["at"], ("root", "nodes"))
        made.symbols_, made.classes_, made.at_ = list(header["symbols"]), np.array(header["classes"]), header["at"]
        made.network_ = TreeNetwork._from_model(header["TreeNetwork"], arrays)
        if (made.network_.symbols, made.network_.classes) != (len(made.symbols_), len(made.classes_)):
            raise ValueError(f"expected {made.network_.symbols} symbols and {made.network_.classes} classes")
        made.network_.n_threads = made.n_threads
        made.history_, made.stopped_ = list(header["history"]), header["stopped"]
        made.n_epochs_ = len(made.history_)
        return made


def _trees_of(X: Any) -> Trees:
    return X if isinstance(X, Trees) else Trees.of(X)


def _plain(label: Any) -> Any:
    return label.item() if isinstance(label, np.generic) else label


def _targets_of(trees: Trees, y: Any) -> tuple[str, list[Any]]:
    """Return whether targets are of roots or nodes, and all of them, one after another."""
    given = list(y)
    if len(given) != len(trees):
        raise DataError(f"expected {len(trees)} targets, one for each tree, got {len(given)}")
    if not isinstance(given[0], list | tuple | np.ndarray):
        return "root", given
    sizes = np.diff(trees.starts)
    for number, (own, size) in enumerate(zip(given, sizes.tolist(), strict=True)):
        if not isinstance(own, list | tuple | np.ndarray) or len(own) != size:
            got = len(own) if isinstance(own, list | tuple | np.ndarray) else repr(own)
            raise DataError(f"tree {number}: expected {size} targets, one for each node, got {got}")
    return "nodes", [label for own in given for label in own]
