"""Ensemble: several estimators of one task that answer together."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Bunch, get_tags
from sklearn.utils.metaestimators import available_if

from rnncore import _threads
from rnncore.data.readers import DataError
from rnncore.estimators._combining import COMBINATIONS, check_weights
from rnncore.estimators._inspection import errors_of, shown_of
from rnncore.estimators._snapshots import fit_snapshots
from rnncore.estimators._together import TaggersTogether, TextsTogether, together
from rnncore.estimators.distilling import distil
from rnncore.estimators.sequences import named
from rnncore.io import files
from rnncore.optim.arguments import check_choice, check_count
from rnncore.shown import ErrorTable, ShownSentences

__all__ = ["Ensemble"]

Method = TypeVar("Method", bound=Callable[..., Any])


def _where_members_can(method: Method) -> Method:
    """Let an ensemble have a method where all its members have it."""
    return _where_members_have(method.__name__)(method)


def _where_members_have(name: str) -> Callable[[Method], Method]:
    """Let an ensemble have a method where all its members have another one, which it needs."""

    def can(ensemble: Ensemble) -> bool:
        return all(hasattr(member, name) for _, member in ensemble._named())

    found: Callable[[Method], Method] = available_if(can)
    return found


class Ensemble(BaseEstimator):
    """Several estimators of one task that answer together: taggers of any settings, or language models.

    Networks that make different mistakes mend one another's: trained from other seeds, with other cells, or looking at
    other things, such as the letters of words and their sense.

    Parameters
    ----------
    estimators : list of estimators, or of (name, estimator)
        Of one task. Labels may differ; language models must have the same unit and symbols.
    combine : {"mean", "product"}
        "mean": of the members' probabilities. "product": their weighted geometric mean, normalised, so that one member
        can rule out what it finds impossible: for members that look at different things. A label that a member does
        not know has probability 0 there.
    weights : None, list of float, or "validation"
        How much each member counts; only their ratios matter. None: all alike. "validation": as the log-loss on the
        `validation_data` of `fit` is least.
    prefit : bool
        Whether the members are fitted already, and taken as they are. (Single members are where they are wrapped in
        scikit-learn's ``FrozenEstimator``.)
    n_snapshots : int
        How many members each estimator makes in one training (Huang, Li, Pleiss, Liu, Hopcroft and Weinberger 2017):
        its learning rate falls to 0 by a cosine so often, and each time the weights are kept.
    constraints : None, "auto", "bio" or "iobes"
        Which labels of taggers may follow one another, see `rnncore.heads.bio_constraints`; `predict` gives the
        sequence with the largest product of combined probabilities among those. "auto": by the labels, if all are
        chunk labels and the training data keep to it. None: each label for itself.
    n_jobs : int or None
        How many members are fitted at a time, each in a process of its own, with as many threads as its share of the
        processors, as joblib counts. The same results for any number.

    Attributes
    ----------
    estimators_ : list of fitted estimators
    named_estimators_ : Bunch
        The same by their names.
    weights_ : (M,) array
        How much each counts, with the sum 1.
    classes_ : (K,) array
        Of taggers: the labels that any of them knows, sorted.
    symbols_ : list
        Of language models.

    Examples
    --------
    >>> import rnncore as rc
    >>> sentences, tags = rc.datasets.news_requests(200)
    >>> small = rc.SequenceTagger(hidden_size=16, max_epochs=5)
    >>> ensemble = rc.Ensemble([("words", small), ("spelling", rc.SequenceTagger(affixes=3, max_epochs=5))])
    >>> ensemble.fit(sentences, tags).predict([["top", "news"]])[0]
    ['B-NEWSTYPE', 'I-NEWSTYPE']
    >>> ensemble.set_params(words__hidden_size=8).get_params()["words__hidden_size"]
    8

    Five networks that differ in nothing but chance:

    >>> len(rc.Ensemble.of_seeds(small, 5).estimators)
    5
    """

    _data_names: ClassVar[dict[str, str]] = {"sentences": "X", "tags": "y", "text": "X"}

    def __init__(
        self,
        estimators: Any,
        combine: str = "mean",
        weights: Any = None,
        *,
        prefit: bool = False,
        n_snapshots: int = 1,
        constraints: str | None = "auto",
        n_jobs: int | None = None,
    ) -> None:
        self.estimators = estimators
        self.combine = combine
        self.weights = weights
        self.prefit = prefit
        self.n_snapshots = n_snapshots
        self.constraints = constraints
        self.n_jobs = n_jobs

    @classmethod
    def of_seeds(cls, estimator: Any, n: int, **options: Any) -> Self:
        """Make an ensemble of one estimator `n` times, with a random state of its own each.

        They count on from the estimator's `random_state`, or from 0 where that is no number.

        Examples
        --------
        >>> import rnncore as rc
        >>> ensemble = rc.Ensemble.of_seeds(rc.SequenceTagger(), 3, combine="product")
        >>> [tagger.random_state for _, tagger in ensemble.estimators]
        [0, 1, 2]
        """
        check_count("n", n, 1)
        first = estimator.random_state if isinstance(estimator.random_state, int | np.integer) else 0
        members = [clone(estimator).set_params(random_state=int(first) + i) for i in range(n)]
        return cls([(f"seed{member.random_state}", member) for member in members], **options)

    # -- parameters ---------------------------------------------------------------------------------------------------

    def _named(self) -> list[tuple[str, Any]]:
        """Return names and estimators; those given without a name are numbered."""
        given = self.estimators
        if isinstance(given, str | Mapping) or not isinstance(given, Sequence) or not len(given):
            raise ValueError(
                f"estimators must be a list of at least one estimator, or of (name, estimator); got {given!r}"
            )
        pairs = [one if isinstance(one, tuple) else (f"member{n}", one) for n, one in enumerate(given)]
        for pair in pairs:
            member = pair[-1]
            if isinstance(member, type):
                raise TypeError(f"estimators: expected objects, got the class {member.__name__}: call it first")
            known = hasattr(member, "get_params") or hasattr(member, "predict_proba")
            if len(pair) != 2 or not isinstance(pair[0], str) or not known:
                raise TypeError(f"estimators: expected estimators, or pairs of name and estimator; got {pair!r}")
        names = [name for name, _ in pairs]
        taken = set(self._get_param_names())
        for name in names:
            if names.count(name) > 1 or "__" in name or not name or name in taken:
                raise ValueError(
                    f"names of members must differ, be no parameter of the ensemble and have no '__'; got {name!r}"
                )
        return pairs

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; deep: with the members by their names, and theirs as ``name__parameter``."""
        found: dict[str, Any] = super().get_params(deep=False)
        if deep and isinstance(self.estimators, Sequence):
            for name, member in self._named():
                found[name] = member
                if hasattr(member, "get_params"):
                    found |= {f"{name}__{key}": value for key, value in member.get_params().items()}
        return found

    def set_params(self, **params: Any) -> Self:
        """Set parameters, members (``name=estimator``) and parameters of members (``name__parameter=value``)."""
        if "estimators" in params:
            self.estimators = params.pop("estimators")
        members = dict(self._named())
        replaced = {name: params.pop(name) for name in list(params) if name in members}
        if replaced:
            changed = [(name, replaced.get(name, member)) for name, member in members.items()]
            were_named = any(isinstance(one, tuple) for one in self.estimators)
            self.estimators = changed if were_named else [member for _, member in changed]
        super().set_params(**params)
        return self

    def _check(self) -> list[tuple[str, Any]]:
        members = self._named()
        check_choice("combine", self.combine, COMBINATIONS)
        check_choice("constraints", self.constraints, (None, "auto", "bio", "iobes"))
        check_count("n_snapshots", self.n_snapshots, 1)
        if isinstance(self.weights, str):
            if self.weights != "validation":
                raise ValueError(f"weights: expected numbers, 'validation' or None, got {self.weights!r}")
        else:
            check_weights(self.weights, len(members) * (1 if self.prefit else self.n_snapshots))
        return members

    # -- learning -----------------------------------------------------------------------------------------------------

    @named
    def fit(self, X: Any = None, y: Any = None, validation_data: Any = None, **fit_params: Any) -> Self:
        """Fit clones of all members, or take members that are fitted.

        Parameters
        ----------
        X, y
            As the members' `fit` takes them: sentences and tags, or a text. With ``prefit=True`` nothing is needed.
        validation_data : (X, y), or text
            What ``weights="validation"`` chooses by. The members see nothing of it.
        **fit_params
            More arguments of the members' `fit`.

        Returns
        -------
        self

        Raises
        ------
        DataError, ValueError, TypeError
            For data, members or settings that cannot be used.
        """
        members = self._check()
        X, y = (list(part) if hasattr(part, "__next__") else part for part in (X, y))  # it is read more than once
        if isinstance(self.weights, str) and validation_data is None:
            raise ValueError("weights='validation' needs validation_data=(X, y), or a text, which no member has seen")
        if self.prefit:
            fitted = [[_unwrapped(member)] for _, member in members]
            for name, (member,) in zip((name for name, _ in members), fitted, strict=True):
                if hasattr(member, "__sklearn_is_fitted__") and not member.__sklearn_is_fitted__():
                    raise NotFittedError(f"prefit=True, but the member {name!r} is not fitted: call its fit first")
        else:
            if X is None:
                raise DataError("expected data to fit the members with, got None; fitted ones go with prefit=True")
            fitted = self._fit_members(members, X, y, fit_params)
        pairs = [
            (name if len(several) == 1 else f"{name}-{n + 1}", member)
            for (name, _), several in zip(members, fitted, strict=True)
            for n, member in enumerate(several)
        ]
        found = together([member for _, member in pairs], self.combine, self.constraints)
        if isinstance(found, TaggersTogether) and self.constraints == "auto" and y is not None:
            found.drop_rule_unless(y)
        if isinstance(self.weights, str):
            apart = (validation_data,) if isinstance(found, TextsTogether) else validation_data
            if len(apart) != 2 and isinstance(found, TaggersTogether):
                raise ValueError(f"validation_data: expected (sentences, tags), got {len(apart)} parts")
            found.weights = found.choose_weights(*apart)
        else:
            weights = self.weights
            if weights is not None and len(pairs) != len(weights):
                raise ValueError(f"weights are of {len(weights)} members, but training ended early with {len(pairs)}")
            found.weights = check_weights(weights, len(pairs))
        self._take(pairs, found)
        return self

    def _take(self, pairs: list[tuple[str, Any]], found: TaggersTogether | TextsTogether) -> None:
        self.estimators_ = [member for _, member in pairs]
        self.named_estimators_ = Bunch(**dict(pairs))
        self.weights_ = found.weights
        self._fitted = found

    def _fit_members(self, members: list[tuple[str, Any]], X: Any, y: Any, options: dict[str, Any]) -> list[list[Any]]:
        """Fit clones, several at a time where `n_jobs` says so."""
        data = (X,) if y is None else (X, y)
        made = [clone(member) for _, member in members]
        n_jobs = min(effective_n_jobs(self.n_jobs), len(made))
        if n_jobs == 1:
            return [_fit_one(member, self.n_snapshots, data, options) for member in made]
        share = max(1, _threads.get_num_threads() // n_jobs)
        found: list[list[Any]] = Parallel(n_jobs=n_jobs)(
            delayed(_fit_one)(member, self.n_snapshots, data, options, share, os.getpid()) for member in made
        )
        return found

    # -- applying -----------------------------------------------------------------------------------------------------

    def _check_fitted(self) -> Any:
        if not hasattr(self, "_fitted"):
            raise NotFittedError("this Ensemble is not fitted yet: call fit first (with prefit=True it needs no data)")
        return self._fitted

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_fitted")

    @_where_members_can
    @named
    def predict(self, X: Any) -> Any:
        """Return the labels that are most probable by all members together."""
        return self._check_fitted().predict(X)

    @_where_members_can
    @named
    def predict_proba(self, X: Any) -> list[np.ndarray]:
        """Return a (T, K) array of combined probabilities for each sentence, columns in the order of `classes_`."""
        found: list[np.ndarray] = self._check_fitted().predict_proba(X)
        return found

    @_where_members_have("predict_proba")
    @named
    def confidence(self, X: Any) -> np.ndarray:
        """Return how probable each sentence's predicted labels are together, (S,); 1 for an empty sentence.

        That is the product of their combined probabilities, as if each word's label were independent of the others.
        (What the members know of whole sentences is not combined.)
        """
        found: np.ndarray = self._check_fitted().confidence(X)
        return found

    @_where_members_have("predict_proba")
    @named
    def label_probabilities(self, X: Any, y: Any) -> list[np.ndarray]:
        """Return the combined probability of each label in `y`, a (T,) array for each sentence; 0 of unknown ones."""
        found: list[np.ndarray] = self._check_fitted().label_probabilities(X, y)
        return found

    @_where_members_have("predict_proba")
    @named
    def errors(self, X: Any, y: Any, context: int = 4, order: str = "confidence") -> ErrorTable:
        """List the words whose predicted label is not the one in `y`, see `SequenceTagger.errors`."""
        self._check_fitted()
        return errors_of(self, X, y, context, order)

    @_where_members_have("predict_proba")
    @named
    def show(self, X: Any, y: Any = None, most: int = 50) -> ShownSentences:
        """Return sentences with their predicted labels, to be looked at, see `SequenceTagger.show`."""
        self._check_fitted()
        return shown_of(self, X, y, most)

    def _predict_surely(self, X: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        found: tuple[dict[str, Any], dict[str, np.ndarray]] = self._check_fitted().predict_surely(X)
        return found

    @named
    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the share of labels that are right; of a text the mean log-likelihood of its symbols, in nats."""
        fitted = self._check_fitted()
        found: float = fitted.score(X) if isinstance(fitted, TextsTogether) else fitted.score(X, y, sample_weight)
        return found

    @_where_members_can
    @named
    def evaluate(self, X: Any, y: Any = None, **options: Any) -> dict[str, Any]:
        """Measure the predictions, how sure they are among it, as the members' `evaluate` does."""
        data = (X,) if y is None else (X, y)
        found: dict[str, Any] = self._check_fitted().evaluate(*data, **options)
        return found

    @_where_members_can
    @named
    def count_correct(self, X: Any, y: Any) -> tuple[int, int]:
        """Return how many steps are tagged right, and how many there are."""
        found: tuple[int, int] = self._check_fitted().count_correct(X, y)
        return found

    @_where_members_can
    @named
    def knows(self, X: Any) -> np.ndarray | None:
        """Tell of all words of all sentences whether any member's training data had them; None for other tokens."""
        found: np.ndarray | None = self._check_fitted().knows(X)
        return found

    def distil(self, student: Any, X: Any, y: Any = None, **options: Any) -> Any:
        """Train one tagger on what this ensemble says of sentences, see `rnncore.distil`."""
        return distil(self, student, X, y, **options)

    @property
    def classes_(self) -> np.ndarray:
        """The labels that any member knows, sorted."""
        found: np.ndarray = self._check_fitted().classes_
        return found

    # -- language models ----------------------------------------------------------------------------------------------

    @property
    def symbols_(self) -> list[Any]:
        """The symbols of language models."""
        found: list[Any] = self._check_fitted().symbols_
        return found

    @property
    def unit(self) -> str:
        """What a symbol of language models is."""
        found: str = self._check_fitted().unit
        return found

    @_where_members_can
    def perplexity(self, text: Any) -> float:
        """Return exp(-score), see `LanguageModel.perplexity`."""
        found: float = self._check_fitted().perplexity(text)
        return found

    @_where_members_can
    def next_symbols(self, prime: Any = "", k: int = 5) -> list[tuple[Any, float]]:
        """Return the k most probable symbols after `prime`, each with its probability."""
        found: list[tuple[Any, float]] = self._check_fitted().next_symbols(prime, k)
        return found

    @_where_members_can
    def generate(self, length: int, prime: Any = "", *args: Any, **options: Any) -> Any:
        """Write: each symbol drawn from what all members predict; arguments of `LanguageModel.generate`."""
        return self._check_fitted().generate(length, prime, *args, **options)

    @_where_members_can
    def iter_generate(self, length: int | None = None, prime: Any = "", *args: Any, **options: Any) -> Any:
        """Write symbol by symbol; arguments of `LanguageModel.iter_generate`."""
        return self._check_fitted().iter_generate(length, prime, *args, **options)

    @_where_members_can
    def pieces(self, symbols: Any, prime: Any = "") -> Any:
        """Yield the text of what `iter_generate` yields, see `LanguageModel.pieces`."""
        return self._check_fitted().pieces(symbols, prime)

    @_where_members_can
    def expectations(self, text: Any, k: int = 5) -> Any:
        """Return each symbol of a text with what was expected in its place, see `LanguageModel.expectations`."""
        return self._check_fitted().expectations(text, k)

    @_where_members_can
    def beam_search(self, length: int, prime: Any = "", *args: Any, **options: Any) -> Any:
        """Search for the most probable texts, see `LanguageModel.beam_search`."""
        return self._check_fitted().beam_search(length, prime, *args, **options)

    # -- model files --------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], weight_dtype: str | None = None) -> None:
        """Write all members to one model file; `rnncore.load` reads it back.

        Raises
        ------
        OSError
            If the file cannot be written; an existing one is then as it was.
        TypeError
            For members that have no model files.
        """
        files.save(self, path, weight_dtype)

    def _to_model(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        fitted = self._check_fitted()
        members: list[dict[str, Any]] = []
        arrays: dict[str, np.ndarray] = {}
        for n, (name, member) in enumerate(self.named_estimators_.items()):
            if type(member).__name__ not in files.KINDS:
                raise TypeError(f"the member {name!r} cannot be saved: there are no files of a {type(member).__name__}")
            header, own = member._to_model()
            members.append({"name": name, "kind": type(member).__name__, **header})
            arrays |= {f"{n}.{key}": array for key, array in own.items()}
        header = {"members": members, "weights": self.weights_.tolist()}
        header |= {"combine": fitted.how, "constraints": self.constraints}
        header["constrained"] = getattr(fitted, "rule", None) is not None
        if isinstance(fitted, TaggersTogether):
            header["classes"] = fitted.labels.classes
        return header, arrays

    @classmethod
    def _from_model(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        pairs = []
        for n, part in enumerate(header["members"]):
            own = {key.partition(".")[2]: array for key, array in arrays.items() if key.partition(".")[0] == str(n)}
            pairs.append((part["name"], files.class_of(part["kind"])._from_model(part, own)))
        weights = header["weights"]
        made = cls(pairs, header["combine"], weights, prefit=True, constraints=header["constraints"])
        made._check()
        found = together([member for _, member in pairs], made.combine, made.constraints)
        found.weights = check_weights(weights, len(pairs))
        if isinstance(found, TaggersTogether) and not header["constrained"]:
            found.rule = None
        made._take(pairs, found)
        return made

    def __sklearn_tags__(self) -> Any:
        return get_tags(self._named()[0][1])


def _unwrapped(member: Any) -> Any:
    """Return what scikit-learn has frozen."""
    return member.estimator if isinstance(member, FrozenEstimator) else member


def _fit_one(
    member: Any, n_snapshots: int, data: tuple[Any, ...], options: dict[str, Any], n_threads: int = 0, parent: int = 0
) -> list[Any]:
    """Fit one member, in a process of its own with some threads; return what comes of it."""
    if parent and os.getpid() != parent:
        _threads.set_num_threads(n_threads)
    if isinstance(member, FrozenEstimator):
        return [_unwrapped(member)]
    if n_snapshots > 1:
        return fit_snapshots(member, n_snapshots, *data, **options)
    return [member.fit(*data, **options)]
