"""ESNRegressor and ESNClassifier: echo state networks, a reservoir and a linear readout of its states."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from rnncore.datasets.drawing import generator
from rnncore.estimators._documentation import with_common
from rnncore.io import files
from rnncore.models.readout import LeastSquares, RecursiveLeastSquares
from rnncore.models.reservoir import Piece, Reservoir, laid_out
from rnncore.optim.arguments import check_choice, check_count, check_number

__all__ = ["ESNClassifier", "ESNRegressor"]

POOLINGS = ("mean", "last")
_OF_RESERVOIR = (
    "n_units",
    "spectral_radius",
    "leak_rate",
    "input_scaling",
    "bias_scaling",
    "feedback_scaling",
    "connectivity",
    "input_connectivity",
    "noise",
    "topology",
    "distribution",
    "input_distribution",
    "activation",
    "dtype",
    "n_threads",
)


class _Readout(NamedTuple):
    """What outputs are made of, as a reservoir that hears itself needs it."""

    A: np.ndarray  # (K, N), of states
    B: np.ndarray | None  # likewise of their squares
    C: np.ndarray | None  # (K, K), of the outputs before
    offset: np.ndarray  # (T, K)


class EchoStateNetwork(BaseEstimator):
    """Base of both: reservoirs, and features of their states.

    Parameters
    ----------
    n_units, spectral_radius, leak_rate, input_scaling, bias_scaling, connectivity, input_connectivity, noise, topology
        Of the reservoir, see `rnncore.Reservoir`.
    distribution, input_distribution, activation, dtype, n_threads
        Likewise.
    depth : int
        Reservoirs one on top of another, each of n_units: the next one hears the states of the last (Gallicchio, Micheli
        and Pedrelli 2017). All are read.
    parallel : int
        So many of them side by side, that hear the same.
    squared_states : bool
        Let the readout see x² beside x.
    input_to_readout : bool
        Let it see the input, too.
    ridge : float
        How much large readout weights cost; 0: the smallest of the best.
    washout : int
        Steps at the beginning of each sequence that nothing is learned from.
    random_state : int, RandomState or None
        Draws the reservoir and its noise.

    Attributes
    ----------
    reservoirs_ : list of Reservoir
    W_out_ : ndarray (F, K)
        Of states, squares, inputs and 1, in that order.
    n_features_in_ : int
    """

    def __init__(
        self,
        n_units: int = 100,
        spectral_radius: float | None = 0.9,
        leak_rate: float = 1.0,
        input_scaling: Any = 1.0,
        bias_scaling: float = 0.0,
        connectivity: float = 0.1,
        input_connectivity: float = 1.0,
        noise: float = 0.0,
        topology: str = "random",
        distribution: str = "normal",
        input_distribution: str = "uniform",
        activation: str = "tanh",
        depth: int = 1,
        parallel: int = 1,
        squared_states: bool = False,
        input_to_readout: bool = True,
        ridge: float = 1e-6,
        washout: int = 0,
        random_state: Any = 0,
        dtype: str = "float64",
        n_threads: int | None = None,
    ) -> None:
        self.n_units, self.spectral_radius, self.leak_rate = n_units, spectral_radius, leak_rate
        self.input_scaling, self.bias_scaling = input_scaling, bias_scaling
        self.connectivity, self.input_connectivity, self.noise = connectivity, input_connectivity, noise
        self.topology, self.distribution, self.input_distribution = topology, distribution, input_distribution
        self.activation, self.depth, self.parallel = activation, depth, parallel
        self.squared_states, self.input_to_readout = squared_states, input_to_readout
        self.ridge, self.washout = ridge, washout
        self.random_state, self.dtype, self.n_threads = random_state, dtype, n_threads

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__doc__ = with_common(cls.__doc__ or "", EchoStateNetwork.__doc__ or "")

    # ------------------------------------------------------------ features

    def _make(self) -> tuple[list[list[Reservoir]], int]:
        """Return columns of reservoirs, and the seed that all was drawn by."""
        check_number("ridge", self.ridge, "[0, inf)", 1e-6)
        check_count("washout", self.washout, 0)
        check_count("depth", self.depth, 1)
        check_count("parallel", self.parallel, 1)
        settings = {name: getattr(self, name) for name in _OF_RESERVOIR if hasattr(self, name)}
        given = self.random_state
        whole = isinstance(given, int | np.integer) and not isinstance(given, bool)
        seed = int(given) if whole else int(check_random_state(given).randint(2**31 - 1))
        columns = []
        for side in range(self.parallel):
            columns.append([])
            for level in range(self.depth):
                own = dict(settings, random_state=seed + 1000003 * (side * self.depth + level))
                if level and np.ndim(own["input_scaling"]):
                    own["input_scaling"] = 1.0  # given for each input of the first
                columns[-1].append(Reservoir(**own))
        return columns, seed

    @property
    def reservoirs_(self) -> list[Reservoir]:
        return [reservoir for column in self._columns for reservoir in column]

    def _pieces(
        self, table: np.ndarray, lengths: np.ndarray, feedback: np.ndarray | None, state: Any, rng: Any = None
    ) -> Iterator[Piece]:
        """All reservoirs' states side by side, of some steps at a time where there is but one reservoir."""
        if len(self.reservoirs_) == 1:
            yield from self.reservoirs_[0].pieces(table, lengths, feedback, state, rng)
            return
        states = [None] * len(self.reservoirs_) if state is None else np.split(state, len(self.reservoirs_), axis=1)
        found, n = [], 0
        for column in self._columns:
            heard = table
            for reservoir in column:
                parts = [piece.states for piece in reservoir.pieces(heard, lengths, None, states[n], rng)]
                heard, n = np.concatenate(parts), n + 1
                found.append(heard)
        yield Piece(0, slice(0, len(lengths)), 0, np.concatenate(found, axis=1))

    def _features(self, states: np.ndarray, table: np.ndarray) -> np.ndarray:
        parts = [states]
        if self.squared_states:
            parts.append(states * states)
        if self.input_to_readout:
            parts.append(table)
        return np.concatenate([*parts, np.ones((len(states), 1))], axis=1, dtype=np.float64)

    def _steps(self, piece: Piece, lengths: np.ndarray) -> np.ndarray:
        """Return the number within its sequence of each of a piece's steps."""
        some = lengths[piece.sequences]
        if len(some) == 1:
            return piece.begins + np.arange(len(piece.states))
        return np.arange(len(piece.states)) - np.repeat(np.cumsum(some) - some, some)

    def _take(self, X: Any, name: str = "X") -> tuple[bool, np.ndarray, np.ndarray]:
        single, table, lengths = laid_out(X, name)
        if hasattr(self, "n_features_in_") and table.shape[1] != self.n_features_in_:
            raise ValueError(
                f"{name} has {table.shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} "
                "features as input"
            )
        return single, table, lengths

    # ------------------------------------------------------------ files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file that `rnncore.load` reads."""
        check_is_fitted(self, "W_out_")
        files.save(self, path)

    def _learned(self) -> dict[str, Any]:
        return {"n_features_in": self.n_features_in_, "seed": self._seed}

    def _to_model(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        settings = self.get_params() | {"random_state": self._seed}
        settings["input_scaling"] = np.asarray(settings["input_scaling"]).tolist()
        settings["dtype"] = np.dtype(self.dtype).name
        arrays = {"W_out": self.W_out_}
        for n, reservoir in enumerate(self.reservoirs_):
            W = reservoir.W
            own = {"W.data": W.data, "W.indices": W.indices, "W.indptr": W.indptr}
            own |= {"W_in": reservoir.W_in, "bias": reservoir.bias, "W_fb": reservoir.W_fb}
            arrays |= {f"{n}.{name}": np.ascontiguousarray(value) for name, value in own.items()}
        return {"settings": settings, **self._learned()}, arrays

    @classmethod
    def _from_model(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        made = cls(**header["settings"])
        made._columns, made._seed = made._make()
        for n, reservoir in enumerate(made.reservoirs_):
            own = {name.partition(".")[2]: value for name, value in arrays.items() if name.partition(".")[0] == str(n)}
            units = reservoir.n_units
            W = sparse.csr_array((own["W.data"], own["W.indices"], own["W.indptr"]), shape=(units, units))
            if W.nnz and not 0 <= W.indices.min() <= W.indices.max() < units or len(W.indptr) != units + 1:
                raise ValueError(f"the weights of reservoir {n} do not fit its {units} units")
            reservoir.W = W
            for name in ("W_in", "W_fb"):
                setattr(reservoir, name, own[name].reshape(-1, units))
            reservoir.bias = own["bias"].reshape(units)
        made.W_out_ = arrays["W_out"]
        made.n_features_in_, made._seed = int(header["n_features_in"]), int(header["seed"])
        made._restore(header)
        return made

    def _restore(self, header: dict[str, Any]) -> None:
        """Take what else a file says."""


class ESNRegressor(RegressorMixin, EchoStateNetwork):
    """An echo state network: numbers for each step, from a reservoir's states by least squares (Jaeger 2001)::

        x_t = (1 - a)·x_{t-1} + a·f(W·x_{t-1} + W_in·u_t + b + W_fb·y_{t-1} + ν_t)     y_t = [x_t, x_t², u_t, 1]·W_out

    An array (T, D) is one sequence, its rows steps; a list holds several.

    Parameters
    ----------
    feedback_scaling : float
        Above 0 the reservoir hears the outputs of the step before: the true ones while it is fitted, its own afterwards.
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

    def __init__(
        self,
        n_units: int = 100,
        spectral_radius: float | None = 0.9,
        leak_rate: float = 1.0,
        input_scaling: Any = 1.0,
        bias_scaling: float = 0.0,
        feedback_scaling: float = 0.0,
        connectivity: float = 0.1,
        input_connectivity: float = 1.0,
        noise: float = 0.0,
        topology: str = "random",
        distribution: str = "normal",
        input_distribution: str = "uniform",
        activation: str = "tanh",
        depth: int = 1,
        parallel: int = 1,
        squared_states: bool = False,
        input_to_readout: bool = True,
        readout: str = "ridge",
        ridge: float = 1e-6,
        forgetting: float = 1.0,
        washout: int = 0,
        random_state: Any = 0,
        dtype: str = "float64",
        n_threads: int | None = None,
    ) -> None:
        super().__init__(
            n_units,
            spectral_radius,
            leak_rate,
            input_scaling,
            bias_scaling,
            connectivity,
            input_connectivity,
            noise,
            topology,
            distribution,
            input_distribution,
            activation,
            depth,
            parallel,
            squared_states,
            input_to_readout,
            ridge,
            washout,
            random_state,
            dtype,
            n_threads,
        )
        self.feedback_scaling, self.readout, self.forgetting = feedback_scaling, readout, forgetting

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
            raise ValueError("outputs are fed back to one reservoir: take depth=1 and parallel=1, or feedback_scaling=0")
        for name in ("n_features_in_", "state_", "_readout"):
            self.__dict__.pop(name, None)
        table, lengths, wanted = self._pairs(X, y)
        self.n_features_in_ = table.shape[1]
        self._flat = np.ndim(y if not isinstance(y, list | tuple) else y[0]) == 1
        self.n_outputs_ = wanted.shape[1]
        return self._learn(table, lengths, wanted)

    def partial_fit(self, X: Any, y: Any) -> Self:
        """Go on learning, from the state that the last call left; only with readout="rls".

        Raises
        ------
        ValueError
            Of another readout, and as `fit`.
        """
        if self.readout != "rls":
            raise ValueError(f"partial_fit needs readout='rls', which learns step by step; got {self.readout!r}")
        if not hasattr(self, "W_out_"):
            return self.fit(X, y)
        table, lengths, wanted = self._pairs(X, y)
        if wanted.shape[1] != self.n_outputs_:
            raise ValueError(f"y must have {self.n_outputs_} columns, as in the first call; got {wanted.shape[1]}")
        return self._learn(table, lengths, wanted)

    def _pairs(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        _, wanted, counts = laid_out(np.asarray(y) if hasattr(y, "to_numpy") else y, "y")
        if X is None:
            return np.zeros((len(wanted), 0)), counts, wanted
        _, table, lengths = self._take(X)
        if not np.array_equal(lengths, counts):
            raise ValueError(f"y must have a row for each step of X, {lengths.tolist()}; got {counts.tolist()}")
        return table, lengths, wanted

    def _learn(self, table: np.ndarray, lengths: np.ndarray, wanted: np.ndarray) -> Self:
        fed = wanted if self.feedback_scaling else None
        goes_on = hasattr(self, "_readout")
        state = getattr(self, "state_", None) if goes_on and len(lengths) == len(self.state_) else None
        readout = self._readout if goes_on else None
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
            raise ValueError(f"washout={self.washout} leaves no step of sequences of at most {lengths.max()} to learn from")
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
        """The reservoir hears what it says."""
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
                    f"X must be the inputs of all steps, ({len(heard) + n_steps}, {self.n_features_in_}); got {table.shape}"
                )
            *_, last = reservoir.pieces(table[: len(heard)], np.array([len(heard)]), heard)
            given, V, readout = reservoir.drive(table[len(heard) :], None), reservoir.W_fb, None
            readout = self._as_heard(table[len(heard) :], None)
            return reservoir.listen(last.states[-1], heard[-1].astype(float), given, V, readout)[1]
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

    def __init__(
        self,
        n_units: int = 100,
        spectral_radius: float | None = 0.9,
        leak_rate: float = 1.0,
        input_scaling: Any = 1.0,
        bias_scaling: float = 0.0,
        connectivity: float = 0.1,
        input_connectivity: float = 1.0,
        noise: float = 0.0,
        topology: str = "random",
        distribution: str = "normal",
        input_distribution: str = "uniform",
        activation: str = "tanh",
        depth: int = 1,
        parallel: int = 1,
        squared_states: bool = True,
        input_to_readout: bool = True,
        pooling: str = "mean",
        ridge: float = 1e-6,
        washout: int = 0,
        random_state: Any = 0,
        dtype: str = "float64",
        n_threads: int | None = None,
    ) -> None:
        super().__init__(
            n_units,
            spectral_radius,
            leak_rate,
            input_scaling,
            bias_scaling,
            connectivity,
            input_connectivity,
            noise,
            topology,
            distribution,
            input_distribution,
            activation,
            depth,
            parallel,
            squared_states,
            input_to_readout,
            ridge,
            washout,
            random_state,
            dtype,
            n_threads,
        )
        self.pooling = pooling

    def _sequences(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        rows = X.to_numpy() if hasattr(X, "to_numpy") else X
        if isinstance(rows, np.ndarray) and rows.ndim == 2 and rows.dtype != object:
            rows = rows[:, :, None]  # a sequence in each row, as SequenceClassifier has it
        _, table, lengths = self._take(list(rows))
        return table, lengths

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
        table, lengths = self._sequences(X)
        self.n_features_in_ = table.shape[1]
        labels = list(y)
        if len(labels) != len(lengths):
            raise ValueError(f"y must have a label for each of {len(lengths)} sequences; got {len(labels)}")
        self.per_step_ = not isinstance(labels[0], str) and np.ndim(labels[0]) == 1
        if self.per_step_:
            for n, (part, steps) in enumerate(zip(labels, lengths, strict=True)):
                if len(part) != steps:
                    raise ValueError(f"y must have a label for each step; sequence {n} has {steps}, and {len(part)} labels")
            labels = np.concatenate([np.asarray(part) for part in labels])
        self.classes_, numbers = np.unique(np.asarray(labels), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y must hold at least two classes, got one class: {self.classes_.tolist()}")
        wanted = np.where(numbers[:, None] == np.arange(len(self.classes_)), 1.0, -1.0)
        readout = None
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
        """Return the outputs (S, classes), or a list of (T, classes) where each step has a label."""
        check_is_fitted(self, "W_out_")
        table, lengths = self._sequences(X)
        found = np.concatenate([z @ self.W_out_ for z, _ in self._pooled(table, lengths, None)])
        return np.split(found, np.cumsum(lengths)[:-1]) if self.per_step_ else found

    def predict(self, X: Any) -> Any:
        """Return the labels (S,), or a list of (T,) where each step has one."""
        scores = self.decision_function(X)
        if self.per_step_:
            return [self.classes_[part.argmax(axis=1)] for part in scores]
        return self.classes_[scores.argmax(axis=1)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of labels that are right."""
        found, wanted = self.predict(X), y
        if self.per_step_:
            found, wanted = np.concatenate(found), np.concatenate([np.asarray(part) for part in y])
        return float(accuracy_score(wanted, found, sample_weight=sample_weight))

    def _learned(self) -> dict[str, Any]:
        return super()._learned() | {"classes": self.classes_.tolist(), "per_step": self.per_step_}

    def _restore(self, header: dict[str, Any]) -> None:
        self.classes_, self.per_step_ = np.array(header["classes"]), bool(header["per_step"])
