"""What echo state networks have in common: reservoirs, features of their states, and model files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from rnncore.estimators._documentation import with_common
from rnncore.io import files
from rnncore.models.reservoir import Piece, Reservoir, laid_out
from rnncore.optim.arguments import check_count, check_number

__all__ = ["EchoStateNetwork"]

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


@dataclass(eq=False, repr=False)
class EchoStateNetwork(BaseEstimator):
    """Base of both: reservoirs, and features of their states.

    Parameters
    ----------
    n_units, spectral_radius, leak_rate, input_scaling, bias_scaling, connectivity, input_connectivity, noise, topology
        Of the reservoir, see `rnncore.Reservoir`.
    distribution, input_distribution, activation, dtype, n_threads
        Likewise.
    depth : int
        Reservoirs one on top of another, each of n_units: the next one hears the states of the last (Gallicchio,
        Micheli and Pedrelli 2017). All are read.
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

    n_units: int = 100
    spectral_radius: float | None = 0.9
    leak_rate: float = 1.0
    input_scaling: Any = 1.0
    bias_scaling: float = 0.0
    connectivity: float = 0.1
    input_connectivity: float = 1.0
    noise: float = 0.0
    topology: str = "random"
    distribution: str = "normal"
    input_distribution: str = "uniform"
    activation: str = "tanh"
    depth: int = 1
    parallel: int = 1
    squared_states: bool = False
    input_to_readout: bool = True
    ridge: float = 1e-6
    washout: int = 0
    random_state: Any = 0
    dtype: str = "float64"
    n_threads: int | None = None

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
        columns: list[list[Reservoir]] = []
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
        states: list[Any] = (
            [None] * len(self.reservoirs_) if state is None else np.split(state, len(self.reservoirs_), axis=1)
        )
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

    def _take(self, X: Any) -> tuple[bool, np.ndarray, np.ndarray]:
        X = whole(X, "X")
        single, table, lengths = laid_out(X, "X")
        if hasattr(self, "n_features_in_"):
            self._check_features(table.shape[1], self.n_features_in_, np.ndim(X) == 1 if single else False)
        return single, table, lengths

    def _check_features(self, n: int, wanted: int, flat: bool = False) -> None:
        """Raise a ValueError for others than were fitted."""
        if n != wanted:
            hint = ". Reshape your data: array.reshape(1, -1) is one step" if flat else ""
            raise ValueError(
                f"X has {n} features, but {type(self).__name__} is expecting {wanted} features as input{hint}"
            )

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
            if (W.nnz and not 0 <= W.indices.min() <= W.indices.max() < units) or len(W.indptr) != units + 1:
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


def whole(given: Any, name: str) -> Any:
    """Return what is an array, of whatever kind, as one of numbers; lists of sequences as they are.

    Raises
    ------
    TypeError, ValueError
        For sparse matrices, complex numbers, and arrays in which there is nothing.
    """
    if sparse.issparse(given):
        raise TypeError(f"{name} is a sparse matrix, {type(given).__name__}: pass an array, such as .toarray()")
    if isinstance(given, list | tuple) or not hasattr(given, "__array__"):
        return given
    found = given if isinstance(given, np.ndarray) else np.asarray(given)
    if found.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} is an array of {found.dtype}")
    if found.dtype == object and (found.ndim > 1 or (found.size and np.ndim(found.flat[0]) == 0)):
        found = found.astype(np.float64)
    for size, what in zip(found.shape, ("sample(s)", "feature(s)", "feature(s)"), strict=False):
        if not size:
            raise ValueError(f"{name} has 0 {what} (shape={found.shape}) while a minimum of 1 is required.")
    return found
