"""Fixed recurrent weights: which units of a reservoir hear which, and how loudly."""

from __future__ import annotations

import functools

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackNoConvergence, eigs

from rnncore.datasets.drawing import generator
from rnncore.models._blas import one_thread

TOPOLOGIES = ("random", "ring")
DISTRIBUTIONS = ("normal", "uniform", "signs")
_DENSE = 256  # units up to which all eigenvalues are quickly found


def drawn(rng: np.random.Generator, distribution: str, count: int) -> np.ndarray:
    """Draw weights: standard normal, uniform in [-1, 1), or -1 and 1."""
    if distribution == "normal":
        return rng.standard_normal(count)
    if distribution == "uniform":
        return rng.uniform(-1.0, 1.0, count)
    return rng.integers(0, 2, count) * 2.0 - 1.0


def recurrent(
    rng: np.random.Generator, units: int, topology: str, connectivity: float, distribution: str
) -> sparse.csr_array:
    """Draw W (units, units): a ring, or so many inputs of each unit, the same number for all.

    Either way some circle of units leads back to where it began, so that the spectral radius is not 0.
    """
    if topology == "ring":
        places = np.arange(units)
        return sparse.csr_array((np.ones(units), (places, (places - 1) % units)), shape=(units, units))
    each = min(units, max(1, round(connectivity * units)))
    columns = np.concatenate([np.sort(rng.choice(units, each, replace=False)) for _ in range(units)])
    values = drawn(rng, distribution, units * each)
    return sparse.csr_array((values, columns, np.arange(units + 1) * each), shape=(units, units))


def spectral_radius(W: sparse.csr_array) -> float:
    """Return the largest modulus of an eigenvalue.

    Examples
    --------
    >>> round(spectral_radius(sparse.csr_array(np.array([[0.0, 2.0], [-2.0, 0.0]]))), 12)
    2.0
    """
    units = W.shape[0]
    loops = W.diagonal().any()
    if not loops and connected_components(W, connection="strong", return_labels=False) == units:
        return 0.0  # no way leads back: nilpotent, which eigenvalues found in floating point hide
    with one_thread():
        found = np.linalg.eigvals(W.toarray()) if units <= _DENSE else _largest(W)
    return float(np.abs(found).max())


def _largest(W: sparse.csr_array) -> np.ndarray:
    try:
        v0 = np.ones(W.shape[0])  # not drawn: the same bits every time
        return eigs(W, k=6, ncv=100, tol=1e-11, maxiter=100, v0=v0, return_eigenvectors=False)
    except ArpackNoConvergence:
        return np.linalg.eigvals(W.toarray())


@functools.lru_cache(maxsize=16)  # a search draws the same again and again, and radii take as long as fits
def _measured(
    seed: int, units: int, topology: str, connectivity: float, distribution: str
) -> tuple[sparse.csr_array, float]:
    W = recurrent(generator(seed), units, topology, connectivity, distribution)
    return W, spectral_radius(W)


def of_radius(
    radius: float | None, seed: int, units: int, topology: str, connectivity: float, distribution: str
) -> sparse.csr_array:
    """Draw W with a spectral radius; None: as it comes.

    Examples
    --------
    >>> round(spectral_radius(of_radius(0.5, 0, 20, "random", 0.2, "normal")), 9)
    0.5
    """
    if radius is None:
        return recurrent(generator(seed), units, topology, connectivity, distribution)
    W, own = _measured(seed, units, topology, connectivity, distribution)
    return W * (radius / own)  # a new one


__all__ = ["DISTRIBUTIONS", "TOPOLOGIES", "drawn", "of_radius", "recurrent", "spectral_radius"]
