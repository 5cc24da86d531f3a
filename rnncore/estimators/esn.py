"""ESNRegressor and ESNClassifier: echo state networks, a reservoir and a linear readout of its states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from rnncore.datasets.drawing import generator
from rnncore.estimators._echo_state import EchoStateNetwork, whole
from rnncore.models.readout import LeastSquares, RecursiveLeastSquares
from rnncore.models.reservoir import laid_out
from rnncore.optim.arguments import check_choice, check_count

__all__ = ["ESNClassifier", "ESNRegressor"]

POOLINGS = ("mean", "last")

_NO_TARGETS = "requires y to be passed, but the target y is None"


class _Readout(NamedTuple):
    """What outputs are made of, as a reservoir that hears itself needs it."""

    A: np.ndarray  # (K, N), of states
    B: np.ndarray | None  # likewise of their squares
    C: np.ndarray | None  # (K, K), of the outputs before
    offset: np.ndarray  # (T, K)


def _learns_by_step(esn: Any) -> bool:
    if esn.readout != "rls":
        raise AttributeError(f"partial_fit needs readout='rls', which learns step by step; got {esn.readout!r}")
    return True


@dataclass(eq=False, repr=False)
class ESNRegressor(RegressorMixin, EchoStateNetwork):
    """An echo state network: numbers for each step, from a reservoir's states by least squares (Jaeger 2001).

    In short::

        x_t = (1 - a)·x_{t-1} + a·f(W·x_{t-1} + W_in·u_t + b + W_fb·y_{t-1} + ν_t)     y_t = [x_t, x_t², u_t, 1]·W_out

    An array (T, D) is one sequence, its rows steps; a list holds several.

    Parameters
    ----------
    feedback_scaling : float
        Above 0 the reservoir hears the outputs of the step before: the true ones while it is fitted, its own
        afterwards.
    readout : {"ridge", "rls"}
        "rls" learns step by step (`partial_fit` goes on, from the state reached).
    forgetting : float
        Of "rls": how much a step counts one step later.

    Attributes
    ----------
    state_ : ndarray (S, N)
        Where each sequence of the latest `fit` or `partial_fit` ended.

    Examples
    --------
    A sine's next step, and the sine without end:

    >>> import numpy as np, rnncore as rc
    >>> wave = np.sin(np.arange(400) / 5)
    >>> esn = rc.ESNRegressor(50, washout=50, ridge=1e-9).fit(wave[:-1, None], wave[1:])
    >>> ahead = esn.generate(100, wave[:300])
    >>> bool(abs(ahead[:, 0] - wave[300:]).max() < 0.01)
    True
    """

    feedback_scaling: float = 0.0
    readout: str = "ridge"
    forgetting: float = 1.0

    def fit(self, X: Any, y: Any) -> Self:
        """Learn the readout.

        Parameters
        ----------
        X : array (T, D), list of arrays (T, D) or (T,), or None
            None: there are no inputs, and the reservoir hears its outputs alone (`feedback_scaling`).
        y : array (T,) or (T, K), or a list of them

        Raises
        ------
        ValueError
            For arrays that do not fit or are not finite, by sequence and step.
        """
        self._columns, self._seed = self._make()
        check_choice("readout", self.readout, ("ridge", "rls"))
        if self.feedback_scaling and len(self.reservoirs_) > 1:
            raise ValueError(
                "outputs are fed back to one reservoir: take depth=1 and parallel=1, or feedback_scaling=0"
            )
        for name in ("n_features_in_", "state_", "_readout"):
            self.__dict__.pop(name, None)
        table, lengths, wanted, flat = self._pairs(X, y)
        self.n_features_in_ = table.shape[1]
        self._flat = flat
        self.n_outputs_ = wanted.shape[1]
        return self._learn(table, lengths, wanted)

    @available_if(_learns_by_step)
    def partial_fit(self, X: Any, y: Any) -> Self:
        """Go on learning, from the state that the last call left; there is one with readout="rls" alone.

        Raises
        ------
        ValueError
            As `fit`.
        """
        if not hasattr(self, "W_out_"):
            return self.fit(X, y)
        table, lengths, wanted, _ = self._pairs(X, y)
        if wanted.shape[1] != self.n_outputs_:
            raise ValueError(f"y must have {self.n_outputs_} columns, as in the first call; got {wanted.shape[1]}")
        return self._learn(table, lengths, wanted)

    def _pairs(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
        """Return inputs, lengths and targets, and whether there is one number for each step, in no column."""
        if y is None:
            raise ValueError(_NO_TARGETS)
        y = whole(y, "y")
        if X is None:
            single, wanted, counts = laid_out(y, "y")
            return np.zeros((len(wanted), 0)), counts, wanted, np.ndim(y if single else y[0]) == 1
        if isinstance(X, list | tuple) and len(y) and np.ndim(y[0]) == 0:
            X = np.asarray(X)  # one sequence, as rows of numbers
        single, table, lengths = self._take(X)
        _, wanted, counts = laid_out(np.asarray(y) if single else y, "y")
        if not np.array_equal(lengths, counts):
            raise ValueError(f"y must have a row for each step of X, {lengths.tolist()}; got {counts.tolist()}")
        return table, lengths, wanted, np.ndim(y if single else y[0]) == 1

    def _learn(self, table: np.ndarray, lengths: np.ndarray, wanted: np.ndarray) -> Self:
        fed = wanted if self.feedback_scaling else None
        readout: Any = self.__dict__.get("_readout")
        goes_on = readout is not None
        before: Any = self.__dict__.get("state_")
        state = before if goes_on and len(lengths) == len(before) else None
        rng = generator(self._seed + 2**41) if self.noise else None
        last = []
        for piece in self._pieces(table, lengths, fed, state, rng):
            rows = slice(piece.first, piece.first + len(piece.states))
            steps = self._steps(piece, lengths)
            z = self._features(piece.states, table[rows])
            if readout is None:
                kind: Any = RecursiveLeastSquares if self.readout == "rls" else LeastSquares
                more = {"forgetting": self.forgetting} if self.readout == "rls" else {}
                readout = kind(z.shape[1], wanted.shape[1], self.ridge, **more)
            counts = steps >= (0 if goes_on else self.washout)
            readout.add(z[counts], wanted[rows][counts])
            ends = np.flatnonzero(np.r_[steps[1:] <= steps[:-1], True])
            last.append((piece, piece.states[ends]))
        if not goes_on and self.washout >= lengths.max():
            raise ValueError(
                f"washout={self.washout} leaves no step of sequences of at most {lengths.max()} to learn from"
            )
        assert readout is not None
        self.state_ = np.zeros((len(lengths), last[0][1].shape[1]), dtype=self.dtype)
        for piece, ends in last:
            self.state_[piece.sequences] = ends
        self.W_out_ = readout.W if self.readout == "rls" else readout.solve()
        if self.readout == "rls":
            self._readout = readout
        return self

    def predict(self, X: Any, state: Any = None) -> Any:
        """Return the outputs for each step, (T,) or (T, K) as they were learned, or a list of them.

        Parameters
        ----------
        X : as for `fit`; None is for `generate`
        state : array (N,) or (S, N), optional
            Where to begin, such as ``state_``; zeros.
        """
        check_is_fitted(self, "W_out_")
        single, table, lengths = self._take(X)
        if self.feedback_scaling:
            found = self._predict_fed(table, lengths, state)
        else:
            parts = [
                self._features(piece.states, table[piece.first : piece.first + len(piece.states)]) @ self.W_out_
                for piece in self._pieces(table, lengths, None, state)
            ]
            found = parts[0] if len(parts) == 1 else np.concatenate(parts)
        found = found[:, 0] if self._flat else found
        return found if single else np.split(found, np.cumsum(lengths)[:-1])

    def _predict_fed(self, table: np.ndarray, lengths: np.ndarray, state: Any) -> np.ndarray:
        """Run on what the network itself says."""
        (reservoir,) = self.reservoirs_
        first = reservoir._first(state, len(lengths))
        found = []
        for n, part in enumerate(np.split(table, np.cumsum(lengths)[:-1])):
            given = reservoir.drive(part, None)
            readout = self._as_heard(part, None)
            found.append(reservoir.listen(first[n], np.zeros(self.n_outputs_), given, reservoir.W_fb, readout)[1])
        return np.concatenate(found)

    def _as_heard(self, table: np.ndarray | None, of_outputs: np.ndarray | None, steps: int = 0) -> _Readout:
        """Divide W_out; table: the inputs that are known, (T, D); of_outputs: W of outputs that are inputs."""
        N = self.n_units
        A, rest = self.W_out_[:N].T, self.W_out_[N:]
        B = rest[:N].T if self.squared_states else None
        rest = rest[N:] if self.squared_states else rest
        offset = np.tile(rest[-1], (steps if table is None else len(table), 1))
        if table is not None and self.input_to_readout:
            offset = offset + table @ rest[:-1]
        C = None if of_outputs is None else np.ascontiguousarray(of_outputs.T, dtype=np.float64)
        return _Readout(A, B, C, np.ascontiguousarray(offset))

    def generate(self, n_steps: int, prime: Any, X: Any = None) -> np.ndarray:
        """Go on from a sequence, each output heard at the next step.

        Without feedback the network must have learned a sequence's next step: its outputs are its inputs then.

        Parameters
        ----------
        n_steps : int
        prime : array (T, K) or (T,)
            What was heard before: outputs that are fed back, or inputs.
        X : array (T + n_steps, D), optional
            With feedback, the inputs of all steps.

        Returns
        -------
        (n_steps, K)

        Raises
        ------
        ValueError
            Where outputs cannot be inputs, there being more or fewer of them, and for arrays that do not fit.
        """
        check_is_fitted(self, "W_out_")
        check_count("n_steps", n_steps, 0)
        if len(self.reservoirs_) > 1:
            raise ValueError("generate needs depth=1 and parallel=1")
        _, heard, _ = laid_out(np.asarray(prime), "prime")
        if heard.shape[1] != self.n_outputs_:
            raise ValueError(f"prime must have {self.n_outputs_} columns, one for each output; got {heard.shape[1]}")
        (reservoir,) = self.reservoirs_
        if self.feedback_scaling:
            table = np.zeros((len(heard) + n_steps, 0)) if X is None else self._take(X)[1]
            if len(table) != len(heard) + n_steps or table.shape[1] != self.n_features_in_:
                raise ValueError(
                    f"X must be the inputs of all steps, ({len(heard) + n_steps}, {self.n_features_in_}); got "
                    f"{table.shape}"
                )
            *_, last = reservoir.pieces(table[: len(heard)], np.array([len(heard)]), heard)
            ahead = table[len(heard) :]
            given, readout = reservoir.drive(ahead, None), self._as_heard(ahead, None)
            return reservoir.listen(last.states[-1], heard[-1].astype(float), given, reservoir.W_fb, readout)[1]
        if X is not None or self.n_features_in_ != self.n_outputs_:
            raise ValueError(
                f"outputs become inputs only where there are as many of them: there are {self.n_outputs_} and "
                f"{self.n_features_in_}, and X is for feedback_scaling above 0"
            )
        *_, last = reservoir.pieces(heard, np.array([len(heard)]))
        of_inputs = self.W_out_[-1 - self.n_features_in_ : -1]
        readout = self._as_heard(None, of_inputs if self.input_to_readout else None, n_steps)
        first = self._features(last.states[-1:], heard[-1:]) @ self.W_out_
        if not n_steps:
            return np.zeros((0, self.n_outputs_))
        given = np.tile(reservoir.bias, (n_steps - 1, 1))
        short = readout._replace(offset=readout.offset[1:])
        return np.vstack([first, reservoir.listen(last.states[-1], first[0], given, reservoir.W_in, short)[1]])

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R² over all steps of all sequences."""
        found, wanted = self.predict(X), y
        if isinstance(found, list):
            found, wanted = np.concatenate(found), np.concatenate([np.asarray(part) for part in y])
        return float(r2_score(wanted, found, sample_weight=sample_weight))

    def _learned(self) -> dict[str, Any]:
        return super()._learned() | {"n_outputs": self.n_outputs_, "flat": bool(self._flat)}

    def _restore(self, header: dict[str, Any]) -> None:
        self.n_outputs_, self._flat = int(header["n_outputs"]), bool(header["flat"])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


@dataclass(eq=False, repr=False)
class ESNClassifier(ClassifierMixin, EchoStateNetwork):
    """An echo state network that tells what a sequence, or each of its steps, is: the class of the largest output.

    Parameters
    ----------
    pooling : {"mean", "last"}
        What the readout sees of a sequence that has one label: the mean of its features, or the last ones.

    Attributes
    ----------
    classes_ : ndarray

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> rng = np.random.default_rng(0)
    >>> slow, fast = (np.sin(np.arange(60) / p + rng.uniform(0, 6, (20, 1))) for p in (9, 4))
    >>> X, y = np.vstack([slow, fast]), ["slow"] * 20 + ["fast"] * 20
    >>> esn = rc.ESNClassifier(50, washout=10).fit(X[::2], y[::2])
    >>> esn.score(X[1::2], y[1::2])
    1.0
    """

    squared_states: bool = True
    pooling: str = "mean"

    def _sequences(self, X: Any) -> tuple[np.ndarray, np.ndarray, int | None]:
        """Return all steps, lengths, and the steps of an array (S, T), as SequenceClassifier has it."""
        rows, steps = whole(X, "X"), None
        if isinstance(rows, np.ndarray) and rows.ndim == 1 and rows.dtype != object:
            raise ValueError(
                f"X must be an array (S, T, D), or (S, T) of one number a step, got shape {rows.shape}. Reshape your "
                "data: array.reshape(1, -1) is one sequence"
            )
        if isinstance(rows, np.ndarray) and rows.ndim == 2:
            steps = rows.shape[1]
            rows = rows[:, :, None]
        _, table, lengths = laid_out(list(rows), "X")
        if hasattr(self, "n_features_in_"):
            if steps and self._n_steps:
                self._check_features(steps, self._n_steps)
            self._check_features(table.shape[1], 1 if self._n_steps else self.n_features_in_)
        elif isinstance(rows, list) and np.ndim(rows[0]) == 1 and not isinstance(rows[0], np.ndarray):
            steps = int(lengths[0]) if (lengths == lengths[0]).all() else None  # such an array in the form of lists
        return table, lengths, steps

    def fit(self, X: Any, y: Any) -> Self:
        """Learn the readout.

        Parameters
        ----------
        X : list of arrays (T, D) or (T,), array (S, T, D), or (S, T): numbers, one for each step
        y : array (S,), or a list of arrays (T,)
            A label for each sequence, or for each step.

        Raises
        ------
        ValueError
            For arrays that do not fit or are not finite, by sequence and step, and for a single class.
        """
        self._columns, self._seed = self._make()
        check_choice("pooling", self.pooling, POOLINGS)
        self.__dict__.pop("n_features_in_", None)
        table, lengths, self._n_steps = self._sequences(X)
        self.n_features_in_ = self._n_steps or table.shape[1]
        if y is None:
            raise ValueError(_NO_TARGETS)
        y = y if isinstance(y, list | tuple) else np.asarray(y)
        column = isinstance(y, np.ndarray) and y.ndim == 2 and y.shape[1] == 1 and (lengths != 1).any()
        labels: Any = list(column_or_1d(y, warn=True) if column else y)
        if len(labels) != len(lengths):
            raise ValueError(f"y must have a label for each of {len(lengths)} sequences; got {len(labels)}")
        self.per_step_ = not isinstance(labels[0], str) and np.ndim(labels[0]) == 1
        if self.per_step_:
            for n, (part, steps) in enumerate(zip(labels, lengths, strict=True)):
                if len(part) != steps:
                    raise ValueError(
                        f"y must have a label for each step; sequence {n} has {steps}, and {len(part)} labels"
                    )
            labels = np.concatenate([np.asarray(part) for part in labels])
        check_classification_targets(np.asarray(labels))
        self.classes_, numbers = np.unique(np.asarray(labels), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y must hold at least two classes, got one class: {self.classes_.tolist()}")
        wanted = np.where(numbers[:, None] == np.arange(len(self.classes_)), 1.0, -1.0)
        readout: Any = None
        rng = generator(self._seed + 2**41) if self.noise else None
        for z, rows in self._pooled(table, lengths, rng, self.per_step_ and self.washout):
            readout = readout or LeastSquares(z.shape[1], len(self.classes_), self.ridge)
            readout.add(z, wanted[rows])
        assert readout is not None
        self.W_out_ = readout.solve()
        return self

    def _pooled(
        self, table: np.ndarray, lengths: np.ndarray, rng: Any, washout: int = 0
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Features, and which targets they are for."""
        sums, counts = None, np.zeros(len(lengths))
        for piece in self._pieces(table, lengths, None, None, rng):
            rows = np.arange(piece.first, piece.first + len(piece.states))
            steps = self._steps(piece, lengths)
            z = self._features(piece.states, table[rows])
            if self.per_step_:
                yield z[steps >= washout], rows[steps >= washout]
                continue
            sequences = np.searchsorted(np.cumsum(lengths), rows, side="right")
            least = lengths - 1 if self.pooling == "last" else np.minimum(self.washout, lengths - 1)
            seen = steps >= least[sequences]
            sums = np.zeros((len(lengths), z.shape[1])) if sums is None else sums
            if seen.any():
                some, starts = np.unique(sequences[seen], return_index=True)
                sums[some] += np.add.reduceat(z[seen], starts, axis=0)
            counts += np.bincount(sequences[seen], minlength=len(lengths))
        if sums is not None:
            yield sums / counts[:, None], np.arange(len(lengths))

    def decision_function(self, X: Any) -> Any:
        """Return the outputs (S, classes), or a list of (T, classes) where each step has a label.

        Of two classes there is one number, (S,) or (T,): above 0 for the second.
        """
        check_is_fitted(self, "W_out_")
        table, lengths, _ = self._sequences(X)
        found = np.concatenate([z @ self.W_out_ for z, _ in self._pooled(table, lengths, None)])
        if len(self.classes_) == 2:
            found = (found[:, 1] - found[:, 0]) / 2
        return np.split(found, np.cumsum(lengths)[:-1]) if self.per_step_ else found

    def predict(self, X: Any) -> Any:
        """Return the labels (S,), or a list of (T,) where each step has one."""
        scores = self.decision_function(X)
        return [self._largest(part) for part in scores] if self.per_step_ else self._largest(scores)

    def _largest(self, scores: np.ndarray) -> np.ndarray:
        return self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of labels that are right."""
        found, wanted = self.predict(X), y
        if self.per_step_:
            found, wanted = np.concatenate(found), np.concatenate([np.asarray(part) for part in y])
        return float(accuracy_score(wanted, found, sample_weight=sample_weight))

    def _learned(self) -> dict[str, Any]:
        own = {"classes": self.classes_.tolist(), "per_step": self.per_step_, "n_steps": self._n_steps}
        return super()._learned() | own

    def _restore(self, header: dict[str, Any]) -> None:
        self.classes_, self.per_step_ = np.array(header["classes"]), bool(header["per_step"])
        self._n_steps = header.get("n_steps")
