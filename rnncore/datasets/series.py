"""Numbers in time: a noisy sine, the Mackey-Glass series, the Lorenz attractor and the NARMA task.

Source: Mackey & Glass 1977 (Science 197:287), in the discrete form of Jaeger's echo state networks (GMD report 148,
2001): y(n+1) = y(n) + 0.1·(0.2·y(n-10 tau)/(1 + y(n-10 tau)^10) - 0.1·y(n)), of which every tenth value is kept.
Lorenz 1963 (Journal of the Atmospheric Sciences 20:130). NARMA: Atiya & Parlos 2000 (IEEE TNN 11:697), of any order.
"""

from __future__ import annotations

import numpy as np

from rnncore.datasets.drawing import at_least, generator

__all__ = ["lorenz", "mackey_glass", "narma", "sine"]

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


def lorenz(n_steps: int = 3000, dt: float = 0.02, random_state: int = 0) -> np.ndarray:
    """Make a path on the Lorenz attractor, sigma = 10, rho = 28, beta = 8/3, by Runge and Kutta's fourth order.

    Parameters
    ----------
    n_steps : int
    dt : float
        Time between steps; each is made of as many smaller ones as it takes for 0.01 at most.
    random_state : int
        Draws where it begins; the first 1000 steps are thrown away.

    Returns
    -------
    (n_steps, 3) float64

    Examples
    --------
    >>> path = lorenz(500)
    >>> path.shape, bool((abs(path[:, :2]) < 30).all() and (path[:, 2] > 0).all())
    ((500, 3), True)
    """
    at_least("n_steps", n_steps, 0)
    if not dt > 0:
        raise ValueError(f"dt must be above 0, got {dt}")
    parts = int(np.ceil(dt / 0.01))
    h = dt / parts

    def slope(p: np.ndarray) -> np.ndarray:
        x, y, z = p
        return np.array([10.0 * (y - x), x * (28.0 - z) - y, x * y - 8.0 / 3.0 * z])

    point = np.array([1.0, 1.0, 25.0]) + generator(random_state).random(3)
    path = np.empty((n_steps, 3))
    for n in range(-_SETTLING, n_steps):
        for _ in range(parts):
            a = slope(point)
            b = slope(point + h / 2 * a)
            c = slope(point + h / 2 * b)
            d = slope(point + h * c)
            point = point + h / 6 * (a + 2 * b + 2 * c + d)
        if n >= 0:
            path[n] = point
    return path


def narma(n_steps: int = 2000, order: int = 10, random_state: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Make a nonlinear moving average of the last `order` steps, and what it is made of::

        y(t+1) = 0.3·y(t) + 0.05·y(t)·(y(t) + … + y(t-order+1)) + 1.5·u(t-order+1)·u(t) + 0.1

    u is uniform in [0, 0.5). Series that run away, as few do, are drawn again.

    Returns
    -------
    u, y : (n_steps,) float64
        y[t] follows from u[0] to u[t].

    Examples
    --------
    >>> u, y = narma(300)
    >>> t = 100
    >>> bool(np.isclose(y[t + 1], 0.3 * y[t] + 0.05 * y[t] * y[t - 9 : t + 1].sum() + 1.5 * u[t - 8] * u[t + 1] + 0.1))
    True
    """
    at_least("n_steps", n_steps, 0)
    at_least("order", order, 1)
    rng = generator(random_state)
    while True:
        u = rng.uniform(0.0, 0.5, n_steps + order)
        y = np.zeros(n_steps + order)
        for t in range(order - 1, n_steps + order - 1):
            past = y[t - order + 1 : t + 1].sum()
            y[t + 1] = 0.3 * y[t] + 0.05 * y[t] * past + 1.5 * u[t - order + 1] * u[t] + 0.1
            if not y[t + 1] < 1e3:
                break
        else:
            return u[order - 1 : -1] if n_steps else u[:0], y[order:]
