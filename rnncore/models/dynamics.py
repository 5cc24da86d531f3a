"""Continuous-time networks left to themselves, with weights that are given."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore import _checks
from rnncore.nn.recurrent import Recurrent

__all__ = ["simulate"]


def simulate(
    weights: Any,
    biases: Any = 0.0,
    *,
    steps: int,
    time_step: float,
    tau: Any = 1.0,
    solver: str = "rk4",
    substeps: int = 1,
    activation: str = "sigmoid",
    start: Any = 0.0,
) -> np.ndarray:
    """Let a continuous-time network run by itself, τ_i dz_i/dt = -z_i + Σ_j w_ji f(z_j) + θ_i, and return its outputs.

    That is Beer's form, τ_i dy_i/dt = -y_i + Σ_j w_ji f(y_j + θ_j) + I_i, with z = y + θ and a constant input I added
    to θ.

    Parameters
    ----------
    weights : array (N, N)
        Row j, column i: the weight from unit j to unit i.
    biases : array (N,) or float
        θ.
    steps : int
        T.
    time_step : float
        Between two of the outputs, in the units of tau.
    tau : array (N,) or float
        Time constants.
    solver, substeps, activation
        As of the cell ``ctrnn``, see ``rnncore.CELLS``.
    start : array (N,) or float
        z at the beginning, one step before the first output.

    Returns
    -------
    array (T, N)
        f(z), of float64.

    Raises
    ------
    ValueError
        For arrays that do not fit.

    References
    ----------
    Beer 1995, On the dynamics of small continuous-time recurrent neural networks, Adaptive Behavior 3:469.

    Examples
    --------
    Two units that wake and silence one another:

    >>> import rnncore as rc
    >>> outputs = rc.models.simulate([[4.5, -1], [1, 4.5]], [-2.75, -1.75], steps=4000, time_step=0.05, start=[0.5, 0])
    >>> outputs[2000:].min().round(3), outputs[2000:].max().round(3)
    (np.float64(0.189), np.float64(0.811))
    """
    W = np.asarray(_checks.array(weights, "weights"), dtype=float)
    if W.ndim != 2 or W.shape[0] != W.shape[1] or not W.size:
        raise ValueError(f"weights must be a square matrix, from unit to unit; got shape {W.shape}")
    units = len(W)
    options: dict[str, Any] = {"solver": solver, "substeps": substeps, "time_step": time_step, "activation": activation}
    constants = _vector(tau, "tau", units)
    layer = Recurrent("ctrnn", 1, units, dtype="float64", tau=constants.tolist(), n_threads=1, **options)
    layer.params["layers.0.fwd.W_xh"][...] = 0
    layer.params["layers.0.fwd.W_hh"][...] = W
    layer.params["layers.0.fwd.b_h"][...] = _vector(biases, "biases", units)
    z = np.broadcast_to(_vector(start, "start", units), (1, 1, units))
    x = np.zeros((_checks.whole(steps, "steps"), 1, 1))
    y, _ = layer.forward(x, (np.zeros_like(z), z), training=False)
    return np.ascontiguousarray(y[:, 0])


def _vector(value: Any, name: str, units: int) -> np.ndarray:
    found = np.asarray(_checks.array(value, name), dtype=float)
    if found.shape not in ((), (units,)) or not np.isfinite(found).all():
        raise ValueError(f"{name} must be a finite number, or one for each of {units} units; got {value!r}")
    return np.broadcast_to(found, (units,)).copy()
