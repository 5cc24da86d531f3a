"""Numbers in time: a noisy sine, and the Mackey-Glass series.

Source: Mackey & Glass 1977 (Science 197:287), in the discrete form of Jaeger's echo state networks (GMD report 148,
2001): y(n+1) = y(n) + 0.1·(0.2·y(n-10 tau)/(1 + y(n-10 tau)^10) - 0.1·y(n)), of which every tenth value is kept.
"""

from __future__ import annotations

import numpy as np

from rnncore.datasets.drawing import at_least, generator

__all__ = ["mackey_glass", "sine"]

_STEPS_IN_ONE = 10
_SETTLING = 1000  # kept values thrown away, so that the start does not show


def sine(n_steps: int = 1000, period: float = 25.0, noise: float = 0.0, random_state: int = 0) -> np.ndarray:
    """Make a sine wave from a random phase on, with normal noise on it if asked.

    Returns
    -------
    (n_steps,) float64

    Examples
    --------
    >>> wave = sine(100)
    >>> bool(np.allclose(wave[:75], wave[25:]))
    True
    """
    at_least("n_steps", n_steps, 0)
    if not period > 0:
        raise ValueError(f"period must be above 0, got {period}")
    rng = generator(random_state)
    phase = rng.uniform(0.0, 2.0 * np.pi)
    return np.sin(phase + 2.0 * np.pi / period * np.arange(n_steps)) + noise * rng.standard_normal(n_steps)


def mackey_glass(n_steps: int = 3000, tau: int = 17, squash: bool = False, random_state: int = 0) -> np.ndarray:
    """Make the Mackey-Glass series: mildly chaotic for tau=17, more so for 30.

    Parameters
    ----------
    n_steps : int
    tau : int
        The delay, in steps of the result.
    squash : bool
        Return tanh(y - 1), as Jaeger's networks read it.
    random_state : int
        Draws the history before the first step; the first 1000 values are thrown away.

    Returns
    -------
    (n_steps,) float64

    Examples
    --------
    >>> series = mackey_glass(500)
    >>> bool(0.2 < series.min() < series.max() < 1.4)
    True
    """
    at_least("n_steps", n_steps, 0)
    at_least("tau", tau, 1)
    delay = tau * _STEPS_IN_ONE
    y = (1.2 + 0.2 * (generator(random_state).random(delay + 1) - 0.5)).tolist()
    now = y[-1]
    for n in range((_SETTLING + n_steps) * _STEPS_IN_ONE):
        past = y[n]  # the value `delay` steps before the latest
        now += 0.1 * (0.2 * past / (1.0 + past**10) - 0.1 * now)
        y.append(now)
    kept = np.array(y[delay + 1 :])[_SETTLING * _STEPS_IN_ONE :: _STEPS_IN_ONE]
    return np.tanh(kept - 1.0) if squash else kept
