"""Multiple timescale recurrent network (Yamashita and Tani 2008): sequences of primitives, each from its intention."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore import _checks
from rnncore.models._composite import Composite
from rnncore.nn.attributes import fixed
from rnncore.nn.recurrent import Recurrent

__all__ = ["MTRNN"]


@fixed("outputs", "fast", "slow", "sequences", "teacher", "dtype", "layout")
class MTRNN(Composite):
    """Units of three speeds that generate sequences, each told apart by where its slow units begin alone.

    Output units see themselves and the fast ones, fast units see all, slow units see themselves and the fast ones
    (Yamashita and Tani 2008, equations 1-3; their outputs are softmax units over a grid of places, ours the numbers
    themselves)::

        u_i(t+1) = (1 - 1/τ_i) u_i(t) + (1/τ_i) (Σ_j w_ij x_j(t) + b_i)      y = tanh(u)

    x is y, but for output units in training: there it is (1 - teacher)·y + teacher·(what should have come out), so that
    the network learns on what it will hear later, itself. Where slow units begin is learned, for each sequence. All of
    it is one layer of the cell ``ctrnn`` with time constants that stay, without the connections that are not there.

    Parameters
    ----------
    outputs : int
        K. Sequences should stay well within (-1, 1).
    sequences : int
        N, those that are learned.
    fast, slow : int
        Units of the two contexts.
    tau : three floats
        Time constants of output, fast and slow units, at least 1, in steps.
    teacher : float
        The share of the teacher in what output units are seen to say in training.
    dtype : {"float32", "float64"}
    random_state : int
        Seed of the initial parameters.
    n_threads : int, optional
        Threads; None: the general setting.

    Attributes
    ----------
    theta, grad : ndarray (P,)
        All parameters and gradients, flat.
    params, grads : mapping of str to ndarray
        Named views: ``units.W_hh`` (K + fast + slow, K + fast + slow; from unit to unit, output units first),
        ``units.b_h``, ``start`` (N, slow), u of the slow units when each sequence begins; and what is frozen,
        ``units.W_xh``, which is 0, and ``units.rho``, the time constants' logarithms.

    Raises
    ------
    ValueError
        For options that do not fit, saying what would.

    References
    ----------
    Yamashita and Tani 2008, Emergence of functional hierarchy in a multiple timescale neural network model, PLoS
    Computational Biology 4(11):e1000220.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> t = np.arange(60)[:, None, None]
    >>> waves = 0.8 * np.sin(2 * np.pi * t / np.array([[[20.0], [12.0]]]))  # (T, N, K)
    >>> net = rc.models.MTRNN(outputs=1, sequences=2, fast=10, slow=4, tau=(2, 5, 30))
    >>> adam = rc.Adam(0.01)
    >>> first, *_, last = (net.train_step(waves, adam) for _ in range(100))
    >>> bool(last < first), net.generate(60).shape
    (True, (60, 2, 1))
    """

    def __init__(
        self,
        outputs: int,
        sequences: int,
        *,
        fast: int = 20,
        slow: int = 8,
        tau: tuple[float, float, float] = (2.0, 5.0, 70.0),
        teacher: float = 0.1,
        dtype: Any = "float32",
        random_state: int = 0,
        n_threads: int | None = None,
    ) -> None:
        self.outputs, self.sequences = _checks.whole(outputs, "outputs"), _checks.whole(sequences, "sequences")
        self.fast, self.slow = _checks.whole(fast, "fast"), _checks.whole(slow, "slow")
        self.teacher = teacher
        sizes = (self.outputs, self.fast, self.slow)
        if np.shape(tau) != (3,) or not all(_checks.is_number(each) and 1 <= each < np.inf for each in tau):
            raise ValueError(f"tau must be three numbers of at least 1, of output, fast and slow units; got {tau!r}")
        self._settings = {"outputs": outputs, "sequences": sequences, "fast": fast, "slow": slow, "tau": list(tau)}
        self._settings |= {"teacher": teacher, "random_state": random_state, "dtype": _checks.dtype(dtype).name}
        layer = Recurrent(
            *("ctrnn", 1, sum(sizes)),
            tau=np.repeat(np.asarray(tau, dtype=float), sizes).tolist(),
            teacher=teacher,
            taught=self.outputs,
            dtype=dtype,
            random_state=random_state,
        )
        self._join({"units": layer}, {"start": (self.sequences, self.slow)}, layer.dtype)
        group = np.repeat(np.arange(3), sizes)
        #: which unit, row, is seen by which, column
        self.connections = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1]], dtype=bool)[np.ix_(group, group)]
        rng = np.random.default_rng([_checks.whole(random_state, "random_state", least=0), 1])
        self._params["units.W_hh"][~self.connections] = 0
        self._params["units.W_xh"][...] = 0
        self._params["start"][...] = rng.standard_normal((self.sequences, self.slow))
        self.freeze("units.W_xh", "units.rho")
        self.n_threads = n_threads

    @property
    def _layer(self) -> Recurrent:
        return self._layers[0]

    def _begin(self, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the first states (h, u) of sequences whose slow units begin so."""
        u = np.zeros((1, len(start), self._layer.hidden_size), self.dtype)
        u[0, :, self.outputs + self.fast :] = start
        return np.tanh(u), u

    def loss_and_grad(self, targets: Any, lengths: Any = None, which: Any = None) -> float:
        """Return how far the sequences are from what is wanted; the gradient of that is then in ``grad``.

        Parameters
        ----------
        targets : array (T, B, K)
        lengths : array (B,) of ints, optional
            Steps of each sequence, in 1..T; all T without.
        which : array (B,) of ints, optional
            Which sequences these are, from 0 to N - 1; all without, in order.

        Returns
        -------
        float
            Σ_k (y_k - target_k)², the mean over steps.
        """
        wanted = _checks.sequences(targets, "targets", self.outputs, self.dtype)
        steps, count = wanted.shape[:2]
        numbers = self._which(which)
        if len(numbers) != count:
            raise ValueError(f"targets are of {count} sequences, and which of {len(numbers)}: say which those are")
        sizes = None if lengths is None else _checks.lengths(lengths, steps, count)
        valid = np.ones((steps, count), bool) if sizes is None else np.arange(steps)[:, None] < sizes
        layer = self._layer
        given = np.zeros((steps, count, layer.hidden_size), self.dtype)
        given[..., : self.outputs] = wanted
        x = np.zeros((steps, count, 1), self.dtype)
        y, _ = layer.forward(x, self._begin(self._params["start"][numbers]), sizes, feedback=given)
        difference = np.where(valid[..., None], y[..., : self.outputs] - wanted, 0)
        loss = float((difference.astype(float) ** 2).sum() / valid.sum())
        dy = np.zeros_like(y)
        dy[..., : self.outputs] = 2 * difference / valid.sum()
        self.zero_grad()
        _, first = layer.backward(dy)
        assert first is not None
        self._grads["units.W_hh"][~self.connections] = 0
        np.add.at(self._grads["start"], numbers, first[1][0, :, self.outputs + self.fast :])
        return self._finite(loss)

    def train_step(self, targets: Any, optimizer: Any, lengths: Any = None, which: Any = None) -> float:
        """Take one step of an optimizer, and return the loss before it; arguments as of `loss_and_grad`."""
        loss = self.loss_and_grad(targets, lengths, which)
        optimizer.step(self)
        return loss

    def generate(self, steps: int, which: Any = None, units: bool = False) -> np.ndarray:
        """Return what the network says by itself, each step from what it said before.

        Parameters
        ----------
        steps : int
            T.
        which : array (B,) of ints, optional
            Which sequences, from 0 to N - 1; all without.
        units : bool
            Return the outputs of all units, not of the output units alone.

        Returns
        -------
        array (T, B, K), or (T, B, K + fast + slow)
        """
        begin = self._begin(self._params["start"][self._which(which)])
        x = np.zeros((_checks.whole(steps, "steps"), begin[1].shape[1], 1), self.dtype)
        y, _ = self._layer.forward(x, begin, training=False)
        return y if units else y[..., : self.outputs].copy()

    def _which(self, given: Any) -> np.ndarray:
        numbers = np.arange(self.sequences) if given is None else _checks.array(given, "which")
        fits = numbers.ndim == 1 and numbers.size and numbers.dtype.kind in "iu"
        if not fits or not ((numbers >= 0) & (numbers < self.sequences)).all():
            raise ValueError(f"which must be numbers of sequences, from 0 to {self.sequences - 1}; got {given!r}")
        return numbers
