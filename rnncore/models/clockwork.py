"""Networks of modules that tick at different rates: clockwork networks and hierarchies, of layers of any cell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from rnncore import _checks, _threads
from rnncore._core.dense import Dense
from rnncore.models._composite import Composite
from rnncore.nn.attributes import fixed
from rnncore.nn.recurrent import Recurrent

__all__ = ["Clockwork"]

READS = ("slower", "faster")

#: time, and the state of each module; what `forward` returns is what it takes to go on
State = tuple[int, tuple[tuple[np.ndarray, ...], ...]]


class _Pass(NamedTuple):
    """What a training pass leaves for backward."""

    time: int
    shape: tuple[int, int]
    past: np.ndarray | None  # what lies past the sequences' ends
    held: np.ndarray  # (T·B, units)
    scores: np.ndarray  # (T·B, outputs)


def hold(h: np.ndarray, period: int, rows: np.ndarray, columns: slice) -> None:
    """Write outputs h (ticks, B, H) to columns of rows (T, B, ...), each for a period or as long as there are rows."""
    whole = len(rows) // period
    rows[: whole * period].reshape(whole, period, *rows.shape[1:])[..., columns] = h[:whole, None]
    rows[whole * period :, :, columns] = h[whole:]


def gather(rows: np.ndarray, period: int, h: np.ndarray) -> None:
    """Sum columns (T, B, H) over what `hold` has written from each of h (ticks, B, H)."""
    whole = len(rows) // period
    rows[: whole * period].reshape(whole, period, *rows.shape[1:]).sum(axis=1, out=h[:whole])
    if whole < len(h):
        rows[whole * period :].sum(axis=0, out=h[whole])


@fixed("input_size", "units", "periods", "outputs", "reads", "loss", "dtype", "layout")
class Clockwork(Composite):
    """Modules of units that are updated at every so many steps and hold what they put out in between.

    Module i, of period T_i, is a recurrent layer that runs over every T_i-th step alone. With ``reads="slower"`` it is
    a part of a clockwork network (Koutník et al. 2014, equation 4): it sees the input, its own last state and what the
    slower modules held one step before, so that connections lead from slow to fast::

        t mod T_i = 0:   h_i(t) = f(x(t)·W_i + Σ_{j ≥ i} h_j(t-1)·R_ij + b_i)        else  h_i(t) = h_i(t-1)

    With ``reads="faster"`` it is a level of a hierarchy (El Hihi and Bengio 1996): the fastest sees the input, each
    other one at its ticks the level below, and its self-loops are as long as its period::

        t mod T_i = 0:   h_i(t) = f(h_{i-1}(t)·W_i + h_i(t-T_i)·R_i + b_i)

    Outputs are a map of what all modules hold, y(t) = [h_1(t), ..., h_g(t)]·W_hy + b_y. Work is done at ticks alone.

    Parameters
    ----------
    input_size : int
        D.
    units : int, or sequence of int
        Of each module.
    periods : sequence of int
        Of each module, from the fastest on, each longer than the one before.
    outputs : int, optional
        K; None: what the modules hold is put out as it is.
    reads : {"slower", "faster"}
        Whom a module sees.
    cell : str
        A name in ``rnncore.CELLS``.
    loss : {"squared", "softmax"}
        What `loss_and_grad` takes the scores for.
    dtype : {"float32", "float64"}
    random_state : int
        Seed of the initial parameters.
    n_threads : int, optional
        Threads; None: the general setting. Results do not depend on it.
    **options
        Of the layers, such as ``activation``, as for `rnncore.Recurrent`: one level, forward in time.

    Attributes
    ----------
    theta, grad : ndarray (P,)
        All parameters and gradients, flat.
    params, grads : mapping of str to ndarray
        Named views: ``modules.0.W_xh`` (the units of slower modules, the next one's first, and D; or those of the level
        below; H_0), ``modules.0.W_hh``, ``modules.0.b_h``, ..., ``head.W_hy`` (all units, K), ``head.b_y``.
    modules : tuple of Recurrent

    Raises
    ------
    ValueError
        For options that do not fit, saying what would.

    References
    ----------
    Koutník, Greff, Gomez and Schmidhuber 2014, A clockwork RNN. El Hihi and Bengio 1996, Hierarchical recurrent neural
    networks for long-term dependencies.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> net = rc.models.Clockwork(1, units=8, periods=[1, 2, 4, 8, 16, 32, 64, 128], outputs=1)
    >>> net.theta.size
    2497
    >>> scores, state = net.forward(np.ones((320, 1, 1)))
    >>> scores.shape
    (320, 1, 1)
    """

    def __init__(
        self,
        input_size: int,
        units: int | Sequence[int],
        periods: Sequence[int],
        outputs: int | None,
        *,
        reads: str = "slower",
        cell: str = "elman",
        loss: str = "squared",
        dtype: Any = "float32",
        random_state: int = 0,
        n_threads: int | None = None,
        **options: Any,
    ) -> None:
        self.input_size = _checks.whole(input_size, "input_size")
        self.periods = _periods(periods)
        sizes = [units] * len(self.periods) if isinstance(units, int | np.integer) else list(units)
        if len(sizes) != len(self.periods):
            raise ValueError(f"units must be one number, or one for each of {len(self.periods)} periods; got {units!r}")
        self.units = tuple(_checks.whole(size, "units of a module") for size in sizes)
        self.outputs = None if outputs is None else _checks.whole(outputs, "outputs (None: what modules hold)")
        self.reads = _checks.one_of(reads, READS, "reads")
        self.loss = _checks.one_of(loss, ("squared", "softmax"), "loss")
        refused = {"num_layers", "bidirectional", "reverse", "batch_first", "truncate", "irregular"} & set(options)
        if refused:
            raise ValueError(f"modules are simple layers, forward in time: leave out {', '.join(sorted(refused))}")
        self._settings = {"input_size": input_size, "units": sizes, "periods": list(self.periods), "outputs": outputs}
        self._settings |= {"reads": reads, "cell": cell, "loss": loss, "random_state": random_state, **options}
        self._settings["dtype"] = _checks.dtype(dtype).name
        self.modules = tuple(
            Recurrent(cell, self._seen_width(i), size, dtype=dtype, random_state=_seed(random_state, i), **options)
            for i, size in enumerate(self.units)
        )
        width = sum(module.output_size for module in self.modules)
        head = {} if self.outputs is None else {"head.W_hy": (width, self.outputs), "head.b_y": (self.outputs,)}
        self._join({f"modules.{i}": m for i, m in enumerate(self.modules)}, head, self.modules[0].dtype)
        bound, rng = 1 / np.sqrt(width), np.random.default_rng(_seed(random_state, len(self.units)))
        for name in head:
            self._params[name][...] = rng.uniform(-bound, bound, head[name])
        self.n_threads = n_threads
        self._pass: _Pass | None = None
        self._rooms: dict[str, np.ndarray] = {}

    # -------------------------------------------------------------- who sees whom
    # What all modules hold stands side by side in rows, the fastest first, x behind them: row 0 what they begin with,
    # row t + 1 what they hold after step t, but x(t) in row t. So a clockwork module sees, at step t, the end of row t,
    # and a level of a hierarchy the columns before its own in row t + 1.

    def _columns(self, module: int) -> slice:
        """Return where a module's units stand in a row."""
        start = sum(self.units[:module])
        return slice(start, start + self.units[module])

    def _seen(self, module: int) -> slice:
        """Return the columns that a module sees."""
        if self.reads == "slower":
            return slice(self._columns(module).stop, None)
        return self._columns(module - 1) if module else slice(sum(self.units), None)

    def _seen_width(self, module: int) -> int:
        return len(range(sum(self.units) + self.input_size)[self._seen(module)])

    def _ticks(self, module: int, time: int, steps: int) -> slice:
        """Return the steps at which a module ticks."""
        return slice(-time % self.periods[module], steps, self.periods[module])

    def _rows(self, module: int, ticks: slice) -> slice:
        """Return the rows that a module sees at its ticks."""
        later = int(self.reads == "faster" and module > 0)
        return slice(ticks.start + later, ticks.stop + later, ticks.step)

    @property
    def _order(self) -> list[int]:
        """Those who are seen before those who see them."""
        order = list(range(len(self.units)))
        return order[::-1] if self.reads == "slower" else order

    def _map(self) -> Dense | None:
        if self.outputs is None:
            return None
        starts = self.layout.starts
        width = self.layout.shapes["head.W_hy"][0]
        return Dense(self.dtype.itemsize, width, self.outputs, starts["head.W_hy"], starts["head.b_y"], False)

    # -------------------------------------------------------------- running

    def forward(
        self, x: Any, state: State | None = None, lengths: Any = None, training: bool = True
    ) -> tuple[np.ndarray, State]:
        """Run the modules over a batch.

        Parameters
        ----------
        x : array (T, B, D)
        state : (int, tuple), optional
            What an earlier call returned, to go on from there; else time and all modules start at zero.
        lengths : array (B,) of ints, optional
            Steps of each sequence, in 1..T; not beside a state.
        training : bool
            Keep what `backward` needs.

        Returns
        -------
        scores : array (T, B, K)
            Zero past a sequence's end.
        state : (int, tuple)
            The time that has passed, and the states of the modules.

        Raises
        ------
        ValueError
            For arrays that do not fit.
        """
        x = _checks.dense(_checks.array(x, "x"), self.input_size, self.dtype)
        steps, sequences = x.shape[:2]
        sizes = None if lengths is None else _checks.lengths(lengths, steps, sequences)
        if sizes is not None and state is not None:
            raise ValueError("lengths and state do not go together: sequences that go on are of one length")
        time, starts = (0, (None,) * len(self.units)) if state is None else self._check_state(state)
        states: list[Any] = list(starts)
        width, room = sum(self.units), self._room if training else self._new
        rows = room("rows", (1 + steps, sequences, width + self.input_size))
        rows[0, :, :width] = 0
        rows[:-1, :, width:] = x
        for i in self._order:
            own, ticks, begin = self._columns(i), self._ticks(i, time, steps), starts[i]
            if begin is not None:
                rows[: 1 + ticks.start, :, own] = begin[0]
            if ticks.start >= steps:
                continue
            given = rows[self._rows(i, ticks), :, self._seen(i)]
            seen, h = room(f"{i}, seen", given.shape), room(f"{i}, h", (len(given), sequences, self.units[i]))
            np.copyto(seen, given)
            short = None if sizes is None else -(-sizes // ticks.step)
            _, states[i] = self.modules[i].forward(seen, begin, short, training, out=h)
            hold(h, ticks.step, rows[1 + ticks.start :], own)
        past = None if sizes is None else np.arange(steps)[:, None] >= sizes
        held = rows[1:, :, :width].copy().reshape(steps * sequences, width)
        head = self._map()
        scores = held if head is None else head.forward(self._theta, held, _threads.resolve(self._n_threads))
        if training:
            self._pass = _Pass(time, (steps, sequences), past, held, scores)
        shown = scores.reshape(steps, sequences, -1)
        if past is not None:
            shown[past] = 0
        return shown, (time + steps, tuple(states))

    def _new(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Return an array to write to."""
        return np.empty(shape, self.dtype)

    def _room(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Return an array to write to, for one training pass: memory that is used again needs no clearing."""
        size = math.prod(shape)
        if name not in self._rooms or self._rooms[name].size < size:
            self._rooms[name] = np.empty(size, self.dtype)
        return self._rooms[name][:size].reshape(shape)

    def _check_state(self, state: Any) -> tuple[int, tuple[Any, ...]]:
        if not isinstance(state, tuple) or len(state) != 2 or len(state[1]) != len(self.units):
            raise ValueError("state must be what an earlier forward() returned: the time, and a state for each module")
        return _checks.whole(state[0], "the state's time", least=0, most=2**62), tuple(state[1])

    def backward(self, dscores: Any) -> np.ndarray:
        """Back-propagate through the latest ``forward(training=True)``; parameter gradients are added to ``grad``.

        Parameters
        ----------
        dscores : array (T, B, K)
            What lies past a sequence's end does not count.

        Returns
        -------
        dx : array (T, B, D)

        Raises
        ------
        RuntimeError
            Without a training forward pass before it: each serves one backward pass.
        """
        if self._pass is None:
            raise RuntimeError("backward needs a forward(training=True) before it: call forward again")
        time, (steps, sequences), past, held, scores = self._pass
        self._pass = None
        dy = _checks.output_gradient(dscores, (steps, sequences, scores.shape[1]), self.dtype)
        if past is not None:
            dy = np.where(past[..., None], 0, dy).astype(self.dtype)
        head = self._map()
        if head is not None:
            flat, threads = dy.reshape(scores.shape), _threads.resolve(self._n_threads)
            dy = head.backward(self._theta, self._grad, held, scores, flat, threads, True)
        width = sum(self.units)
        drows = self._room("drows", (1 + steps, sequences, width + self.input_size))
        drows[0], drows[..., width:] = 0, 0
        drows[1:, :, :width] = dy.reshape(steps, sequences, width)
        for i in self._order[::-1]:
            ticks = self._ticks(i, time, steps)
            if ticks.start >= steps:
                continue
            target = drows[self._rows(i, ticks), :, self._seen(i)]
            dh = self._room(f"{i}, dh", (len(target), sequences, self.units[i]))
            held_for = drows[1 + ticks.start :, :, self._columns(i)]
            gather(held_for, ticks.step, dh)
            dseen, _ = self.modules[i].backward(dh, out=self._room(f"{i}, dseen", target.shape))
            target += dseen
        return drows[:-1, :, width:].copy()

    # -------------------------------------------------------------- learning

    def loss_and_grad(self, x: Any, targets: Any, lengths: Any = None) -> float:
        """Return the loss, the gradient of which is then in ``grad``.

        Parameters
        ----------
        x : array (T, B, D)
        targets : array (T, B, K), or (B, K) of each sequence's last step; for softmax classes (T, B) or (B,)
            A class of -1 is unknown.
        lengths : array (B,) of ints, optional

        Returns
        -------
        float
            Squared error: Σ_k (y_k - t_k)², the mean over steps; softmax: -log p, the mean over known targets.
        """
        scores, _ = self.forward(x, None, lengths)
        steps, sequences = scores.shape[:2]
        ends = np.full(sequences, steps) if lengths is None else np.asarray(lengths)
        wanted = _checks.array(targets, "targets")
        axes = 2 + (self.loss == "squared")
        by_step, of_last = scores.shape[:axes], scores.shape[1:axes]
        if wanted.shape not in (by_step, of_last) or wanted.dtype.kind not in _KINDS[self.loss]:
            raise ValueError(
                f"targets for {self.loss} must be {'classes' if self.loss == 'softmax' else 'numbers'} {by_step}, or "
                f"{of_last} of last steps; got {wanted.dtype} {wanted.shape}"
            )
        places: Any = (ends - 1, np.arange(sequences))
        if wanted.shape == by_step:
            places = np.nonzero(np.arange(steps)[:, None] < ends)
            wanted = wanted[places]
        loss, gradient = _LOSSES[self.loss](scores[places], wanted)
        dscores = np.zeros_like(scores)
        dscores[places] = gradient
        self.zero_grad()
        self.backward(dscores)
        return self._finite(loss)

    def train_step(self, x: Any, targets: Any, optimizer: Any, lengths: Any = None) -> float:
        """Take one step of an optimizer, and return the loss before it; arguments as of `loss_and_grad`.

        Examples
        --------
        >>> import numpy as np, rnncore as rc
        >>> net = rc.models.Clockwork(1, units=4, periods=[1, 3, 9], outputs=1)
        >>> x, wave = np.ones((27, 1, 1)), np.sin(np.arange(27))[:, None, None]
        >>> adam = rc.Adam(0.01)
        >>> first, *_, last = (net.train_step(x, wave, adam) for _ in range(200))
        >>> bool(last < first / 4)
        True
        """
        loss = self.loss_and_grad(x, targets, lengths)
        optimizer.step(self)
        return loss


def _periods(given: Any) -> tuple[int, ...]:
    """Return periods, which rise."""
    if isinstance(given, str | Mapping) or not np.iterable(given) or not len(list(given)):
        raise ValueError(f"periods must be whole numbers, one for each module; got {given!r}")
    found = tuple(_checks.whole(period, "a period, the steps between two ticks,") for period in given)
    if any(b <= a for a, b in pairwise(found)):
        raise ValueError(f"periods must rise from module to module, the fastest first; got {list(found)}")
    return found


def _seed(random_state: int, part: int) -> int:
    """Return a seed for each part of a model."""
    state = _checks.whole(random_state, "random_state", least=0)
    return int(np.random.SeedSequence([state, part]).generate_state(1)[0] >> 1)


def _squared(scores: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    difference = scores.astype(float) - targets
    return float((difference**2).sum() / len(scores)), 2 * difference / len(scores)


def _softmax(scores: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    known = targets != -1
    if not known.any() or ((targets < -1) | (targets >= scores.shape[1])).any():
        raise ValueError(f"targets must be classes from 0 to {scores.shape[1] - 1}, some of them known")
    z = scores.astype(float)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    rows = np.flatnonzero(known)
    loss = -np.log(p[rows, targets[rows]]).mean()
    p[rows, targets[rows]] -= 1
    return float(loss), p * known[:, None] / len(rows)


_LOSSES = {"squared": _squared, "softmax": _softmax}
_KINDS = {"squared": "fiu", "softmax": "iu"}  # of targets
