"""Attention over all steps of a memory: behind a recurrence, or by itself on NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore import _checks, _threads
from rnncore._core.attention import Attention as AttentionKernel
from rnncore._core.schedule import Schedule
from rnncore.nn import order, saving, summary
from rnncore.nn.access import Access
from rnncore.nn.attributes import RunSettings, fixed
from rnncore.nn.layout import FlatArrays, Layout, aligned_zeros
from rnncore.nn.patterns import Freezable
from rnncore.nn.precision import HasPrecision
from rnncore.nn.ranges import UpdateRanges
from rnncore.nn.recurrent import adopt, users_attributes
from rnncore.nn.touched import TouchedRows

SCORES = ("general", "dot", "scaled_dot")

#: the constructor's arguments that an attention keeps under the same name
OPTIONS = ("size", "memory_size", "score", "causal", "output_size", "batch_first", "random_state", "n_threads")


@fixed(*(name for name in OPTIONS if name != "n_threads"), "dtype", "mixed", "layout")
class Attention(HasPrecision, FlatArrays, Freezable, saving.Savable, RunSettings):
    """Each step of a sequence looks at all steps of a memory, by how well they go with it.

    A query q_t scores the memory's steps m_s, their softmax weighs them, and what they give in the mean stands beside
    the query (Luong, Pham and Manning 2015, global attention without input feeding)::

        e_ts = q_t·W·m_s     a_t = softmax over s of e_ts     c_t = Σ_s a_ts m_s     h_t = tanh([c_t, q_t]·W_c)

    Without a memory of its own a sequence attends over itself. In a network (``rc.Network(…, attention=…)``) the
    queries are the layers' outputs, and h is what heads see.

    Parameters
    ----------
    size : int
        H, the width of queries.
    memory_size : int, optional
        M, the width of the memory; H without.
    score : {"general", "dot", "scaled_dot"}
        e_ts = q_t·W·m_s; q_t·m_s; q_t·m_s/√H. The last two have no parameter W, and need a memory as wide as queries.
    causal : bool
        Query t sees the memory's steps 0 to t alone.
    output_size : int, optional
        F, the width of h; H without.
    batch_first : bool
        Queries, memory, outputs, their gradients and weights are (B, T, ...) instead of (T, B, ...).
    dtype : {"float32", "float64", "mixed_bfloat16"}
    random_state : int
        Seed of the initial parameters.
    n_threads : int, optional
        Threads; None: the general setting. Results do not depend on it.

    Attributes
    ----------
    theta, grad : ndarray (P,)
        All parameters and all gradients, flat.
    params, grads : mapping of str to ndarray
        Named views of them: ``W`` (H, M) of the general score, ``W_c`` (M + H, F). In a network ``attention.W`` and
        ``attention.W_c``.

    Raises
    ------
    ValueError
        For options that do not fit, saying what would.
    AttributeError
        By setting an option later, but for ``n_threads``.

    Examples
    --------
    A decoder's steps over an encoder's, of another number and width:

    >>> import numpy as np, rnncore as rc
    >>> attention = rc.Attention(size=5, memory_size=3)
    >>> queries, memory = np.ones((4, 2, 5), "float32"), np.ones((7, 2, 3), "float32")
    >>> h = attention.forward(queries, memory, lengths=[4, 2], memory_lengths=[7, 6])
    >>> dqueries, dmemory = attention.backward(np.ones_like(h))
    >>> h.shape, dmemory.shape, attention.grads["W_c"].shape
    ((4, 2, 5), (7, 2, 3), (8, 5))
    >>> weights = attention.weights(queries, memory, lengths=[4, 2], memory_lengths=[7, 6])
    >>> weights.shape, bool(np.isclose(weights[1, 1].sum(), 1)), float(weights[1, 1, 6])
    ((4, 2, 7), True, 0.0)
    """

    def __init__(
        self,
        size: int,
        memory_size: int | None = None,
        score: str = "general",
        causal: bool = False,
        output_size: int | None = None,
        batch_first: bool = False,
        dtype: Any = "float32",
        random_state: int = 0,
        n_threads: int | None = None,
    ) -> None:
        self.size = _checks.whole(size, "size")
        self.memory_size = self.size if memory_size is None else _checks.whole(memory_size, "memory_size")
        self.score = _checks.one_of(score, SCORES, "score")
        self.causal = _checks.flag(causal, "causal")
        self.output_size = self.size if output_size is None else _checks.whole(output_size, "output_size")
        self.batch_first = _checks.flag(batch_first, "batch_first")
        self.dtype, self.mixed = _checks.precision(dtype)
        self.random_state = _checks.whole(random_state, "random_state", least=0)
        self.n_threads = n_threads
        if self.score != "general" and self.memory_size != self.size:
            raise ValueError(
                f"score={self.score!r} needs a memory as wide as the queries, {self.size}, got "
                f"memory_size={self.memory_size}: take score='general'"
            )
        self._frozen: frozenset[str] = frozenset()
        shapes = {"W": (self.size, self.memory_size)} if self.score == "general" else {}
        self.layout = Layout(shapes | {"W_c": (self.memory_size + self.size, self.output_size)})
        numbers = self.layout.size
        self.move_to(aligned_zeros(numbers, self.dtype), aligned_zeros(numbers, self.dtype), TouchedRows(), Access())
        rng = np.random.default_rng([self.random_state, 2])
        for view in self.params.values():
            bound = 1 / np.sqrt(view.shape[0])
            view[...] = rng.uniform(-bound, bound, view.shape)

    # -------------------------------------------------------------- structure

    def move_to(self, theta: np.ndarray, grad: np.ndarray, touched: TouchedRows, access: Access) -> None:
        """Let the parameters and gradients live in other flat arrays (a Network's); values are not copied."""
        self._theta, self._grad, self._touched, self._access = theta, grad, touched, access
        self._params, self._grads = self.layout.views(theta), self.layout.views(grad)
        self._ranges = UpdateRanges(self.layout)
        self._idle: list[AttentionKernel] = []  # those that no call runs in
        self._training: AttentionKernel | None = None
        self._pending: tuple[int, int, int] | None = None  # the shape of the outputs that wait for a gradient
        self._schedule: Schedule | None = None

    def kernel(self, start: int = 0) -> AttentionKernel:
        """Return what computes it, on parameters that begin at ``start`` in theta."""
        starts = self.layout.starts
        return AttentionKernel(
            self.dtype.itemsize,
            (self.size, self.memory_size, self.output_size),
            start + starts["W"] if "W" in starts else -1,
            start + starts["W_c"],
            self.size**-0.5 if self.score == "scaled_dot" else 1.0,
            self.causal,
            self.mixed,
        )

    def _free_kernel(self) -> AttentionKernel:
        """Return one that no other call runs in."""
        try:
            return self._idle.pop()
        except IndexError:
            return self.kernel()

    def update_ranges(self, lazy: bool, groups: Any = None) -> np.ndarray:
        """Return which parts of theta an optimizer must visit: all but what is frozen (``Network.update_ranges``)."""
        return self._ranges.of(None, [self._frozen], lambda: self._frozen, groups)

    def zero_grad(self) -> None:
        """Set all gradients to zero; ``backward`` adds to them."""
        self._grad[...] = 0

    def copy(self, dtype: Any = None) -> Attention:
        """Return an attention of the same options and parameters, in another precision if asked.

        Examples
        --------
        >>> import rnncore as rc
        >>> rc.Attention(4).copy("float64").theta.dtype
        dtype('float64')
        """
        precision = self.dtype_policy if dtype is None else dtype
        twin = Attention(**{name: getattr(self, name) for name in OPTIONS}, dtype=precision)
        twin.theta[...] = self._theta
        twin.freeze(*self.frozen)
        return twin

    def _to_model(self) -> tuple[str, dict[str, Any]]:
        return "Attention", {"attention": saving.attention_to_json(self)}

    @classmethod
    def _from_model(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Attention:
        return saving.read(saving.attention_from_json, header["attention"], arrays)

    def summary(self) -> str:
        """Return a table of what it is: the shape of its outputs, parameters, bytes.

        Examples
        --------
        >>> import rnncore as rc
        >>> print(rc.Attention(4, causal=True).summary())
        part       what                        output     parameters  bytes
        attention  general, over steps so far  (T, B, 4)          48    192
        total                                                     48    192
        """
        frozen = sum(self._params[name].size for name in self.frozen)
        return summary.table([summary.attention_row(self)], self.dtype.itemsize, frozen)

    def __repr__(self) -> str:
        causal = ", causal=True" if self.causal else ""
        sizes = f"{self.size}, memory_size={self.memory_size}"
        return f'Attention({sizes}, score="{self.score}"{causal}, dtype="{self.dtype_policy}")'

    def __getstate__(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in OPTIONS} | {"dtype": self.dtype_policy}
        return users_attributes(self) | own | {"theta": self._theta, "grad": self._grad, "frozen": self.frozen}

    def __setstate__(self, state: dict[str, Any]) -> None:
        with _checks.pickled(self):  # through the constructor, so that no unchecked number gets to the kernels
            made = object.__new__(type(self))
            Attention.__init__(made, **{name: state[name] for name in (*OPTIONS, "dtype")})
            for array, name in ((made._theta, "theta"), (made._grad, "grad")):
                array[...] = _checks.flat(state[name], name, array)
            made.freeze(*state["frozen"])
            adopt(self, made, state)

    # -------------------------------------------------------------- running

    def _check(self, queries: Any, memory: Any, lengths: Any, memory_lengths: Any) -> tuple[Any, ...]:
        """Return queries, their layout, and the memory and its, None where queries are their own memory."""
        if self.batch_first:
            queries, memory = order.time_first(queries, "queries"), order.time_first(memory, "memory")
        q = _checks.sequences(queries, "queries", self.size, self.dtype)
        steps, sequences = q.shape[:2]
        schedule = self._schedule_of(steps, sequences, _checks.lengths(lengths, steps, sequences))
        if memory is None:
            if self.memory_size != self.size:
                raise ValueError(
                    f"queries of {self.size} numbers cannot be a memory of {self.memory_size}: give memory=, "
                    f"an array (S, B, {self.memory_size})"
                )
            if memory_lengths is not None:
                raise ValueError("memory_lengths are of a memory: without one, the lengths of queries hold for it, too")
            return q, schedule, None, None
        m = _checks.sequences(memory, "memory", self.memory_size, self.dtype)
        if m.shape[1] != sequences:
            raise ValueError(f"memory must be of {sequences} sequences, as the queries are; got shape {m.shape}")
        sizes = _checks.lengths(memory_lengths, m.shape[0], sequences, "memory_lengths")
        return q, schedule, m, Schedule(m.shape[0], sequences, sizes)

    def _place(self, out: Any, shape: tuple[int, int, int], source: np.ndarray) -> np.ndarray | None:
        """Check `out`, and return where the kernel writes: there, or to an array of its own that is turned later."""
        if out is None:
            return None
        if self.batch_first:
            order.check_out(out, *shape, self.dtype, source)
            return None
        return _checks.out(out, shape, self.dtype, source)

    def forward(
        self,
        queries: Any,
        memory: Any = None,
        lengths: Any = None,
        memory_lengths: Any = None,
        training: bool = True,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Let queries attend over a memory.

        Parameters
        ----------
        queries : array (T, B, H)
        memory : array (S, B, M), optional
            Without, the queries themselves.
        lengths : array (B,) of ints, optional
            Steps of each sequence of queries, in 1..T; all T without.
        memory_lengths : array (B,) of ints, optional
            Steps of each sequence of the memory, in 1..S; all S without.
        training : bool
            Keep what ``backward`` needs. Without, any number of threads may call at once.
        out : array (T, B, F), optional
            Where the outputs go: C-contiguous and of the dtype.

        Returns
        -------
        array (T, B, F)
            Zero past the end of a sequence of queries.

        Raises
        ------
        ValueError
            For arrays that do not fit, an empty memory among them.
        RuntimeError
            If another Python thread is using this attention, and one of the two is training.
        """
        q, schedule, m, memory_schedule = self._check(queries, memory, lengths, memory_lengths)
        shape = q.shape[0], q.shape[1], self.output_size
        place = self._place(out, shape, q)
        if out is not None and m is not None:
            _checks.out(out, out.shape, self.dtype, m)
        threads = _threads.resolve(self.n_threads)
        with self._access.training if training else self._access.reading:
            if training:
                kernel = self._training = self._training or self.kernel()
                self._pending = None
            else:
                kernel = self._free_kernel()
            h = kernel.forward(self._theta, schedule, q, memory_schedule, m, threads, training, place)
            if training:
                self._pending = shape
            else:
                self._idle.append(kernel)
        return order.batch_first(h, out) if self.batch_first else h

    def backward(self, dout: Any, out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Go back through the latest ``forward(training=True)``; parameter gradients are added to ``grad``.

        Parameters
        ----------
        dout : array (T, B, F)
            Gradient of the outputs; what lies past a sequence's end does not count.
        out : array (T, B, H), optional
            Where the gradient of the queries goes: C-contiguous and of the dtype.

        Returns
        -------
        dqueries : array (T, B, H)
        dmemory : array (S, B, M), or None where the queries were the memory: dqueries has it all then

        Raises
        ------
        RuntimeError
            Without a training forward pass before it: each serves one backward pass.
        ValueError
            For arrays that do not fit.
        """
        with self._access.training:
            if self._pending is None or self._training is None:
                raise RuntimeError(
                    "backward needs a forward(training=True) before it, and each forward serves one backward: "
                    "call forward again"
                )
            shape = self._pending
            dout = order.time_first(dout, "dout") if self.batch_first else dout
            dout = _checks.output_gradient(dout, shape, self.dtype)
            place = self._place(out, (shape[0], shape[1], self.size), dout)
            self._pending = None
            self._touched.mark_all()
            dq, dm = self._training.backward(self._theta, self._grad, dout, True, place)
        if self.batch_first:
            return order.batch_first(dq, out), None if dm is None else order.batch_first(dm)
        return dq, dm

    def weights(self, queries: Any, memory: Any = None, lengths: Any = None, memory_lengths: Any = None) -> np.ndarray:
        """Return how much each query looks at each step of the memory; any number of threads may call at once.

        Parameters
        ----------
        queries, memory, lengths, memory_lengths
            As for ``forward``.

        Returns
        -------
        array (T, B, S), or (B, T, S) with ``batch_first``
            Of each query the weights of the memory's steps, whose sum is 1. Zero where there is no step or no query.

        Raises
        ------
        ValueError
            For arrays that do not fit.
        """
        q, schedule, m, memory_schedule = self._check(queries, memory, lengths, memory_lengths)
        with self._access.reading:
            kernel = self._free_kernel()
            kernel.forward(self._theta, schedule, q, memory_schedule, m, _threads.resolve(self.n_threads), False)
            found = kernel.weights(self.dtype)
            self._idle.append(kernel)
        return order.batch_first(found) if self.batch_first else found


def attention_of(given: Any, width: int, like: Any) -> Attention | None:
    """Return a network's attention: what it was given, or one by the name of its score for outputs so wide."""
    if given is None:
        return None
    if isinstance(given, str):
        return Attention(width, score=given, dtype=like.dtype_policy, random_state=like.random_state)
    if not isinstance(given, Attention):
        raise ValueError(f"attention must be rnncore.Attention(…) or one of {', '.join(SCORES)}, got {given!r}")
    if given.size != width or given.memory_size != width or given.dtype_policy != like.dtype_policy:
        raise ValueError(
            f"attention over the layers' outputs needs size and memory_size {width} and dtype {like.dtype_policy}, got "
            f"{given!r}"
        )
    if given.batch_first:
        raise ValueError("the attention of a network runs time first: give batch_first=True to the Network, not to it")
    return given
