"""Heads: a dense projection of the outputs, if there is to be one, and a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from rnncore import _checks

#: what a head sees: the outputs at every step, or what is made of each sequence's, as the compiled core numbers it
POOLINGS = ("every", "last", "mean", "max", "attention")

_MOST_ATTENTION = 128  # numbers that a step's energy is made of


@dataclass(frozen=True)
class Head:
    """What all heads have: K outputs, s = z·W_hy + b_y, and a loss on s.

    Parameters
    ----------
    outputs : int
        K: classes, or numbers per output.
    project : bool
        False: there is no W_hy and no b_y, s is the first K numbers of z as they are: for layers some of whose units
        are outputs (a fully recurrent network), or that project by themselves.
    pooling : {"every", "last", "mean", "max", "attention"}, optional
        What z is: the outputs of every step, or one vector per sequence, see `Network`. None: as the network says.

    Examples
    --------
    >>> import rnncore as rc
    >>> [name for name, head in rc.HEADS.items() if issubclass(head, rc.heads.Head)]
    ['softmax', 'squared', 'sigmoid', 'crf', 'adaptive', 'sampled', 'ctc']
    """

    outputs: int
    project: bool = field(default=True, kw_only=True)
    pooling: str | None = field(default=None, kw_only=True)
    name: ClassVar[str] = ""
    kernel: ClassVar[int] = 0  # its number among the compiled losses
    starts_at_zero: ClassVar[tuple[str, ...]] = ()  # parameters that begin as zeros
    of_sequences: ClassVar[bool] = False  # its loss is of whole sequences, not of steps one by one
    own_length: ClassVar[bool] = False  # targets are (B, L), of a length of their own

    def __post_init__(self) -> None:
        object.__setattr__(self, "outputs", _checks.whole(self.outputs, "outputs"))
        object.__setattr__(self, "project", _checks.flag(self.project, "project"))
        if self.pooling is not None:
            _checks.one_of(self.pooling, POOLINGS, "pooling")

    def shapes(self, inputs: int) -> dict[str, tuple[int, ...]]:
        """Return the parameters but those of pooling: name -> shape."""
        if not self.project:
            return {}
        return {"W_hy": (inputs, self.outputs), "b_y": (self.outputs,)}

    def check_targets(
        self, targets: Any, shape: tuple[int, ...], lengths: np.ndarray | None, dtype: np.dtype
    ) -> np.ndarray:
        """Return targets for outputs of the given shape, (T, B) or (B,), ready for the kernels."""
        return _checks.finite_values(targets, (*shape, self.outputs), dtype, lengths)

    def check_batch(self, steps: int, lengths: np.ndarray | None) -> None:
        """Refuse sequences this head has no outputs for."""

    def weights(self, dtype: np.dtype) -> np.ndarray | None:
        """Return class weights as an array of the net's precision, or None."""
        return None

    @property
    def smoothing(self) -> float:
        """Label smoothing."""
        return 0.0


def pooling_shapes(pooling: str, inputs: int) -> dict[str, tuple[int, ...]]:
    """Return the parameters of a pooling over outputs of `inputs` numbers: name -> shape.

    Attention (Yang et al. 2016, equations 5 to 7): u_t = tanh(h_t·W + b), α = softmax_t(u_t·v), z = Σ_t α_t h_t.
    """
    if pooling != "attention":
        return {}
    size = min(inputs, _MOST_ATTENTION)
    return {"attention.W": (inputs, size), "attention.b": (size,), "attention.v": (size,)}


def _class_weight(value: Any, classes: int) -> tuple[float, ...] | None:
    """Return the weights of classes, checked."""
    if value is None:
        return None
    weights = _checks.array(value, "class_weight").astype(float)
    largest = _checks.LARGEST_WEIGHT
    if weights.shape != (classes,) or not (weights >= 0).all() or weights.max() > largest:
        raise ValueError(f"class_weight must be {classes} numbers from 0 to {largest:g}, one per class; got {value!r}")
    if 0 < weights.max() < 1 / largest:
        raise ValueError(f"class_weight must not be below {1 / largest:g} for all classes; got {value!r}")
    return tuple(weights.tolist())


@dataclass(frozen=True)
class Softmax(Head):
    """Softmax cross-entropy, in nats per counted target.

    L = -Σ_k q_k w_k log p_k with p = softmax(s) and q = (1-ε)·onehot(target) + ε/K; the mean is over counted targets,
    weighted by the targets' class weights.

    Targets may be probabilities of the classes, floats (T, B, K) or (B, K), as in distilling one network into another
    (Hinton, Vinyals and Dean 2015): they stand in for onehot(target). A target then counts Σ_k t_k w_k, so that one
    whose probabilities are all 0 is left out, as a class of -1 is.

    Parameters
    ----------
    outputs : int
        K, the number of classes.
    class_weight : sequence of K floats, optional
        w: how much each class counts, at least 0.
    label_smoothing : float
        ε in [0, 1).
    tied : bool
        The network's embedding is the projection, too (Press and Wolf 2017; Inan, Khosravi and Socher 2017): s = z·Eᵀ +
        b_y, with one vector for a symbol as it is read and as it is written. K is the number of the embedding's
        symbols, and what the head sees has as many numbers as its vectors.

    Raises
    ------
    ValueError
        For weights of the wrong number or sign, a smoothing outside [0, 1), and ``tied`` without a projection.

    Examples
    --------
    >>> import rnncore as rc
    >>> rc.Softmax(3, label_smoothing=0.1).outputs
    3
    """

    class_weight: Sequence[float] | None = None
    label_smoothing: float = 0.0
    tied: bool = field(default=False, kw_only=True)
    name: ClassVar[str] = "softmax"
    kernel: ClassVar[int] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.rate(self.label_smoothing, "label_smoothing")
        object.__setattr__(self, "class_weight", _class_weight(self.class_weight, self.outputs))
        object.__setattr__(self, "tied", _checks.flag(self.tied, "tied"))
        if self.tied and not self.project:
            raise ValueError("a tied head projects by the embedding: project must be True, got False")

    def shapes(self, inputs: int) -> dict[str, tuple[int, ...]]:
        """Return the parameters but those of pooling: name -> shape."""
        own = super().shapes(inputs)
        return {"b_y": own["b_y"]} if self.tied else own

    def check_targets(
        self, targets: Any, shape: tuple[int, ...], lengths: np.ndarray | None, dtype: np.dtype
    ) -> np.ndarray:
        """Return classes of the given shape as int64, -1 is ignored; or probabilities in the net's precision."""
        if not isinstance(targets, np.ndarray):
            targets = _checks.array(targets, "targets")
        if targets.ndim == len(shape) + 1 and targets.dtype.kind == "f":
            return _checks.probabilities(targets, (*shape, self.outputs), dtype, lengths)
        return _checks.targets(targets, shape, self.outputs, lengths)

    def weights(self, dtype: np.dtype) -> np.ndarray | None:
        """Return the class weights as an array of the net's precision, or None."""
        return None if self.class_weight is None else np.array(self.class_weight, dtype=dtype)

    @property
    def smoothing(self) -> float:
        """Label smoothing."""
        return float(self.label_smoothing)


class SquaredError(Head):
    """Squared error: mean over outputs of Σ_k (s_k - t_k)²; predictions are the values s.

    Examples
    --------
    A fully recurrent network of five units, the first two of which are its outputs:

    >>> import rnncore as rc
    >>> net = rc.Network(rc.Recurrent("elman", 3, 5, activation="sigmoid"), head=rc.SquaredError(2, project=False))
    >>> sorted(net.params)
    ['layers.0.fwd.W_hh', 'layers.0.fwd.W_xh', 'layers.0.fwd.b_h']
    """

    name: ClassVar[str] = "squared"
    kernel: ClassVar[int] = 1


class SigmoidCrossEntropy(Head):
    """Sigmoid cross-entropy for K yes/no targets in [0, 1]: mean over outputs of the sum over k, in nats.

    Examples
    --------
    >>> import rnncore as rc
    >>> rc.SigmoidCrossEntropy(2).name
    'sigmoid'
    """

    name: ClassVar[str] = "sigmoid"
    kernel: ClassVar[int] = 2

    def check_targets(
        self, targets: Any, shape: tuple[int, ...], lengths: np.ndarray | None, dtype: np.dtype
    ) -> np.ndarray:
        """Return targets in [0, 1], of the given shape and K."""
        found = super().check_targets(targets, shape, lengths, dtype)
        counted = _checks.counted(found, lengths)
        if not (counted.min() >= 0 and counted.max() <= 1):
            raise ValueError(
                f"targets of a sigmoid head must lie in [0, 1], got values from {counted.min()} to {counted.max()}"
            )
        return found


@dataclass(frozen=True, eq=False)
class Constraints:
    """Which labels may begin a sequence, follow one another, and end a sequence.

    Parameters
    ----------
    transitions : bool array (K, K)
        Entry (i, j): label j may follow label i.
    start, end : bool array (K,), optional
        None: every label may.

    Raises
    ------
    ValueError
        For arrays that do not fit together, and if they allow no sequence at all.

    Examples
    --------
    >>> import rnncore as rc
    >>> rule = rc.heads.Constraints([[False, True], [False, True]], start=[True, False], end=[False, True])
    >>> rule.possible_lengths(4).tolist()
    [False, True, True, True]
    """

    transitions: Any
    start: Any = None
    end: Any = None

    def __post_init__(self) -> None:
        table = _checks.array(self.transitions, "transitions")
        if table.ndim != 2 or table.shape[0] != table.shape[1] or not table.size:
            raise ValueError(f"transitions must have shape (K, K), from label to label; got {table.shape}")
        for name, given in (("transitions", table), ("start", self.start), ("end", self.end)):
            shape = table.shape if name == "transitions" else table.shape[:1]
            flags = np.ones(shape, dtype=bool) if given is None else np.array(_checks.array(given, name), dtype=bool)
            if flags.shape != shape:
                raise ValueError(f"{name} must have shape {shape}, one flag per label; got {flags.shape}")
            flags.flags.writeable = False
            object.__setattr__(self, name, flags)
        object.__setattr__(self, "_possible", (np.zeros(0, dtype=bool), self.start))
        if not self.possible_lengths(len(table)).any():  # a shortest sequence repeats no label
            raise ValueError(
                "no sequence of labels is allowed: from no label that may begin a sequence can one that may end it be "
                "reached; check start, end and transitions"
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constraints) and self.flags().tobytes() == other.flags().tobytes()

    def __hash__(self) -> int:
        return hash(self.flags().tobytes())

    def __reduce__(self) -> tuple:
        return Constraints, (self.transitions, self.start, self.end)

    def flags(self) -> np.ndarray:
        """Return all flags, flat, as the kernels read them: (K·K + 2·K,) of uint8."""
        return np.concatenate([self.transitions.ravel(), self.start, self.end]).astype(np.uint8)

    def possible_lengths(self, longest: int) -> np.ndarray:
        """Return for each length 1..longest whether there is a sequence of that length."""
        known, reached = self._possible  # type: ignore[attr-defined]
        if len(known) < longest:
            found = known.tolist()
            while len(found) < longest:
                found.append(bool((reached & self.end).any()))
                after = self.transitions[reached].any(axis=0)
                if (after == reached).all():
                    found += [found[-1]] * (2 * longest - len(found))
                reached = after
            known = np.array(found)
            object.__setattr__(self, "_possible", (known, reached))
        return known[:longest]

    def first_break(self, labels: np.ndarray) -> str | None:
        """Say what is wrong with one sequence's labels, -1 for unknown ones; None if nothing is."""
        last = len(labels) - 1
        reached = self.start
        for t, label in enumerate(labels.tolist()):
            if t:
                reached = self.transitions[reached].any(axis=0)
            wanted = reached & self.end if t == last else reached
            if label >= 0:
                wanted = wanted & (np.arange(len(wanted)) == label)
            if not wanted.any():
                before = f"label {labels[t - 1]}" if t and labels[t - 1] >= 0 else "what comes before"
                if label < 0:
                    return f"no label is possible at step {t}"
                if not reached[label]:
                    return f"label {label} at step {t} cannot follow {before}" if t else f"label {label} cannot begin"
                return f"label {label} cannot end a sequence"
            reached = wanted
        return None


def bio_constraints(labels: Sequence[Any], scheme: str = "auto") -> Constraints:
    """Return what chunk labels allow: BIO (IOB2), or IOBES and its twin BILOU.

    In BIO, I-X only follows B-X or I-X. In IOBES, a chunk is S-X, or B-X, any number of I-X and E-X in this order; all
    else begins only where no chunk is open, and a sequence ends only there.

    Parameters
    ----------
    labels : sequence of str
        The K labels, in the order of the head's outputs. A label without a prefix ("O") is outside of chunks.
    scheme : {"auto", "bio", "iobes"}
        "auto": IOBES if there is a label with one of the prefixes E, S, L, U; else BIO; nothing where there is E but no
        B, S, L or U: in IOE, as in IOB1, I-X may begin a chunk, which leaves no constraints to speak of.

    Returns
    -------
    Constraints

    Raises
    ------
    ValueError
        If the labels allow no sequence (there is nothing but I-X, say).

    Examples
    --------
    >>> import rnncore as rc
    >>> rule = rc.heads.bio_constraints(["B-PER", "I-PER", "O"])
    >>> rule.transitions.astype(int).tolist(), rule.start.tolist()
    ([[1, 1, 1], [1, 1, 1], [1, 0, 1]], [True, False, True])
    """
    _checks.one_of(scheme, ("auto", "bio", "iobes"), "scheme")
    parts = [_split_label(label) for label in labels]
    if not parts:
        raise ValueError("labels must hold at least one label")
    if scheme == "auto" and {prefix for prefix, _ in parts} - {""} <= {"I", "E"} and ("E" in dict(parts)):
        return Constraints(np.ones((len(parts), len(parts)), dtype=bool))
    closing = scheme == "iobes" or (scheme == "auto" and any(prefix in "ESLU" for prefix, _ in parts if prefix))
    begins = np.array([prefix not in ("I", *"EL"[: 2 * closing]) for prefix, _ in parts])
    open_after = np.array([closing and prefix in ("B", "I") for prefix, _ in parts])
    opened = np.array([prefix in ("B", "I") for prefix, _ in parts])
    goes_on = np.array([prefix in ("I", "E", "L") for prefix, _ in parts])
    types = np.unique([kind for _, kind in parts], return_inverse=True)[1]
    continues = opened[:, None] & goes_on & (types[:, None] == types)
    return Constraints(continues | (begins[None, :] & ~open_after[:, None]), begins, ~open_after)


def _split_label(label: Any) -> tuple[str, str]:
    """Return prefix and chunk type, the prefix empty outside of chunks."""
    if isinstance(label, str) and len(label) > 2 and label[0] in "BIESLU" and label[1] in "-_":
        return label[0], label[2:]
    return ("" if not isinstance(label, str) or label not in ("B", "I", "E", "S", "L", "U") else label), ""


@dataclass(frozen=True)
class CRF(Head):
    """Linear-chain conditional random field: labels of a sequence given all its outputs, one depending on the next.

    score(y) = start[y_1] + Σ_t s_t[y_t] + Σ_t transitions[y_{t-1}, y_t] + end[y_T], P(y) = e^score(y) / Z. The loss is
    -log P of the targets per counted target (Lafferty, McCallum, Pereira 2001). `predict` gives each label's marginal
    probability, ``Network.decode`` the most probable label sequences. The pooling must be "every".

    A target of -1 is a label that is not known: the loss is then -log of the probability that a sequence agrees with
    the known ones, and only those are counted. (Such sequences take a slower way.)

    Parameters
    ----------
    outputs : int
        K, the number of labels.
    constraints : Constraints, optional
        Label sequences that are never possible (`bio_constraints` makes them for chunk labels): they have probability
        0, and the scores of forbidden steps get no gradient.
    class_weight : sequence of K floats, optional
        How much each label counts, at least 0. P(y) does not fall apart into labels, so a sequence counts as a whole,
        by the mean weight of its known labels: L = Σ_b w_b·(-log P(y_b)) / Σ_b w_b·T_b, w_b = mean of the weights of
        y_b. That is the likelihood of data in which the sequence occurs w_b times (Shimodaira 2000), it stays convex
        in the scores, and for sequences of one label it is what Softmax does.

    Raises
    ------
    ValueError
        For constraints of another number of labels, and weights of the wrong number or sign.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> net = rc.Network(rc.Recurrent("elman", 2, 8), head=rc.CRF(3))
    >>> paths, log_probabilities = net.decode(np.zeros((4, 1, 2), dtype="float32"))
    >>> paths.shape, bool(log_probabilities[0] < 0)
    ((4, 1), True)
    """

    constraints: Constraints | None = None
    class_weight: Sequence[float] | None = None
    name: ClassVar[str] = "crf"
    kernel: ClassVar[int] = 3
    of_sequences: ClassVar[bool] = True
    starts_at_zero: ClassVar[tuple[str, ...]] = ("transitions", "start", "end")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "class_weight", _class_weight(self.class_weight, self.outputs))
        if self.constraints is None:
            return
        if not isinstance(self.constraints, Constraints):
            raise ValueError(f"constraints must be rnncore.heads.Constraints or None, got {self.constraints!r}")
        if len(self.constraints.start) != self.outputs:
            raise ValueError(
                f"constraints of {len(self.constraints.start)} labels do not go with a head of {self.outputs} outputs"
            )

    def shapes(self, inputs: int) -> dict[str, tuple[int, ...]]:
        """Return the parameters: name -> shape."""
        labels = (self.outputs,)
        return {**super().shapes(inputs), "transitions": labels * 2, "start": labels, "end": labels}

    def weights(self, dtype: np.dtype) -> np.ndarray | None:
        """Return the class weights as an array of the net's precision, or None."""
        return None if self.class_weight is None else np.array(self.class_weight, dtype=dtype)

    def check_batch(self, steps: int, lengths: np.ndarray | None) -> None:
        """Refuse lengths for which the constraints allow no sequence of labels."""
        if self.constraints is None:
            return
        possible = self.constraints.possible_lengths(steps)
        wanted = np.array([steps]) if lengths is None else lengths
        if not possible[wanted - 1].all():
            bad = int(wanted[~possible[wanted - 1]][0])
            raise ValueError(
                f"the constraints allow no sequence of {bad} labels: leave such sequences out, or allow more"
            )

    def check_targets(
        self, targets: Any, shape: tuple[int, ...], lengths: np.ndarray | None, dtype: np.dtype
    ) -> np.ndarray:
        """Return labels of the given shape as int64; -1 is not known. The constraints must allow them."""
        found = _checks.targets(targets, shape, self.outputs, lengths)
        if self.constraints is not None:
            self._check_allowed(found, np.full(shape[1], shape[0]) if lengths is None else lengths)
        return found

    def _check_allowed(self, found: np.ndarray, lengths: np.ndarray) -> None:
        rule = self.constraints
        assert rule is not None
        inside = np.arange(len(found))[:, None] < lengths
        found = np.where(inside, found, 0)
        right = rule.transitions[found[:-1], found[1:]] | ~inside[1:]
        last = found[lengths - 1, np.arange(len(lengths))]
        fine = right.all(axis=0) & rule.start[found[0]] & rule.end[last] & ((found >= 0) | ~inside).all(axis=0)
        for b in np.flatnonzero(~fine).tolist():  # wrong ones, and those with unknown labels
            problem = rule.first_break(found[: lengths[b], b])
            if problem:
                raise ValueError(f"targets of sequence {b} break the constraints: {problem}")


@dataclass(frozen=True)
class CTC(Head):
    """Connectionist temporal classification: a sequence of symbols that nobody has aligned with the input's steps.

    At every step the head says one of K symbols or, as number K, the blank: "nothing here". A path of these becomes
    symbols by letting repeats fall together and leaving blanks out, and a target's probability is the sum over all its
    paths. The loss is -log of it, its mean over sequences (Graves, Fernández, Gomez and Schmidhuber 2006, equations 3
    to 16). ``predict`` gives the probabilities of the K + 1 at every step, ``Network.log_likelihood`` those of whole
    targets, `rnncore.ctc` symbols.

    Targets are (B, L), whole numbers from 0 to K - 1, with -1 behind each one's end, or lengths as ``target_lengths=``.
    They may be empty. One of L symbols, R of which are the same as the one before, needs at least L + R steps. The
    pooling must be "every".

    Parameters
    ----------
    symbols : int
        K, without the blank.

    Attributes
    ----------
    outputs : int
        K + 1, scores of a step: the blank's is the last.

    Raises
    ------
    ValueError
        For a number of symbols below 1.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> net = rc.Network(rc.Recurrent("gru", 2, 8, bidirectional=True), head=rc.CTC(3))
    >>> x = np.random.default_rng(0).normal(size=(9, 2, 2)).astype("float32")
    >>> targets = [[0, 1, 1, 2], [2, -1, -1, -1]]
    >>> opt = rc.Adam(0.05)
    >>> losses = [net.train_step(x, targets, opt, lengths=[9, 4]) for _ in range(60)]
    >>> losses[-1] < 0.1 < losses[0]
    True
    >>> net.predict(x, lengths=[9, 4]).shape
    (9, 2, 4)
    """

    outputs: int = field(init=False, repr=False)
    symbols: int = field(default=0)
    name: ClassVar[str] = "ctc"
    kernel: ClassVar[int] = 5
    of_sequences: ClassVar[bool] = True
    own_length: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "symbols", _checks.whole(self.symbols, "symbols"))
        object.__setattr__(self, "outputs", self.symbols + 1)
        super().__post_init__()

    def check_targets(
        self, targets: Any, shape: tuple[int, ...], lengths: np.ndarray | None, dtype: np.dtype
    ) -> np.ndarray:
        """Return targets (B, L) as int64, -1 behind their ends; each must fit into its sequence's steps."""
        steps, sequences = shape
        found, counts = _checks.own_length_targets(targets, sequences, self.symbols)
        repeats = ((found[:, 1:] == found[:, :-1]) & (found[:, 1:] >= 0)).sum(axis=1)
        sizes = np.full(sequences, steps) if lengths is None else lengths
        wrong = np.flatnonzero(counts + repeats > sizes)
        if wrong.size:
            b = int(wrong[0])
            least = int(counts[b] + repeats[b])
            raise ValueError(
                f"targets of sequence {b} are too long for it: {counts[b]} symbols, {repeats[b]} of them the same as "
                f"the one before, need at least {least} steps, and there are {sizes[b]}: leave the sequence out, or "
                "give it more steps"
            )
        return found


_MOST_CLUSTERS = 16


@dataclass(frozen=True)
class AdaptiveSoftmax(Head):
    """Softmax cross-entropy over many classes, of which few are frequent: rare ones stand in clusters, seldom visited.

    Classes are numbered by falling frequency. The first c0 have scores of their own, z·W_hy + b_y, and so has each
    cluster; within cluster i, scores are (z·P_i)·W_i, with z·P_i the narrower the rarer its classes are (Grave, Joulin,
    Cissé, Grangier and Jégou 2017). P(k) is softmax's probability of k, or that of its cluster times k's in it. In
    training a cluster costs nothing where no target is in it. `predict` gives the probabilities of all classes.

    Parameters
    ----------
    outputs : int
        K, the number of classes; by falling frequency.
    cutoffs : sequence of int, optional
        Where the clusters begin: c0 first, below K, rising; 16 at most. None: two, from a tenth of the classes on
        and from two fifths. An empty one: no clusters, which is `Softmax`.
    shrink : int
        The numbers of z·P_i are those of z divided by shrink^(i+1), rounded down, one at least.

    Raises
    ------
    ValueError
        For cutoffs that do not rise from 1 to below K, and a shrink below 1.

    Examples
    --------
    >>> import rnncore as rc
    >>> head = rc.AdaptiveSoftmax(5000, cutoffs=(500, 2000))
    >>> net = rc.Network(rc.Recurrent("lstm", 64, 64), head, embedding=rc.Embedding(5000, 64))
    >>> for name in net.params:
    ...     if "head" in name:
    ...         print(name, net.params[name].shape)
    head.W_hy (64, 502)
    head.b_y (502,)
    head.tails.0.P (64, 16)
    head.tails.0.W (16, 1500)
    head.tails.1.P (64, 4)
    head.tails.1.W (4, 3000)
    """

    cutoffs: Sequence[int] | None = None
    shrink: int = 4
    name: ClassVar[str] = "adaptive"
    kernel: ClassVar[int] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.project:
            raise ValueError("an adaptive softmax projects: project must be True, got False")
        object.__setattr__(self, "shrink", _checks.whole(self.shrink, "shrink"))
        given = self.cutoffs
        if given is None:
            given = (self.outputs // 10, self.outputs * 2 // 5) if self.outputs >= 10 else ()
        if isinstance(given, str) or not isinstance(given, Sequence | np.ndarray) or np.ndim(given) != 1:
            raise ValueError(f"cutoffs must be whole numbers, where clusters of classes begin; got {given!r}")
        starts = tuple(_checks.whole(start, "cutoffs") for start in given)
        ends = (*starts[1:], self.outputs)
        rising = all(start < end for start, end in zip(starts, ends, strict=False))
        if not rising or len(starts) > _MOST_CLUSTERS:
            raise ValueError(
                f"cutoffs must rise, from 1 at least to {self.outputs - 1} at most, and be {_MOST_CLUSTERS} at most; "
                f"got {given!r}"
            )
        object.__setattr__(self, "cutoffs", starts)

    @property
    def scored(self) -> int:
        """Scores that every output has: of the frequent classes, and one per cluster."""
        return self.cutoffs[0] + len(self.cutoffs) if self.cutoffs else self.outputs

    def clusters(self, inputs: int) -> list[tuple[int, int, int]]:
        """Return first class, number of classes, and numbers of z·P of each cluster."""
        starts = self.cutoffs or ()
        ends = (*starts[1:], self.outputs)
        return [
            (start, end - start, max(inputs // self.shrink ** (i + 1), 1))
            for i, (start, end) in enumerate(zip(starts, ends, strict=False))
        ]

    def shapes(self, inputs: int) -> dict[str, tuple[int, ...]]:
        """Return the parameters but those of pooling: name -> shape."""
        found: dict[str, tuple[int, ...]] = {"W_hy": (inputs, self.scored), "b_y": (self.scored,)}
        for i, (_, classes, size) in enumerate(self.clusters(inputs)):
            found |= {f"tails.{i}.P": (inputs, size), f"tails.{i}.W": (size, classes)}
        return found

    def check_targets(
        self, targets: Any, shape: tuple[int, ...], lengths: np.ndarray | None, dtype: np.dtype
    ) -> np.ndarray:
        """Return classes of the given shape as int64; -1 is ignored."""
        return _checks.targets(targets, shape, self.outputs, lengths)


@dataclass(frozen=True)
class SampledSoftmax(Head):
    """Softmax cross-entropy that training estimates: a batch tells its targets from some classes, drawn anew each time.

    With s = z·W_yhᵀ + b_y, the loss of target y is -s_y + log(e^{s_y} + Σ_k e^{s_k} / π_k) over the drawn classes k
    other than y, π_k the probability that k is drawn: the sum is in the mean what it is over all classes (Jean, Cho,
    Memisevic and Bengio 2015; Bengio and Senécal 2008). Rows of W_yh that are neither drawn nor targets get no gradient
    and, with lazy updates, no visit. `predict`, `loss` and all else are the exact softmax's. What is drawn follows from
    the network's ``dropout_seed`` and ``dropout_step``.

    Parameters
    ----------
    outputs : int
        K, the number of classes.
    samples : int
        How many are drawn for a batch, with replacement; as many as K or more: all classes stand in, and the loss is
        exact.
    draw : {"log-uniform", "uniform"}
        P(k) = log((k+2) / (k+1)) / log(K+1), which is about that of words by falling frequency, or 1/K.

    Raises
    ------
    ValueError
        For a number of samples below 1, and another distribution.

    Examples
    --------
    >>> import rnncore as rc
    >>> head = rc.SampledSoftmax(5000, samples=100)
    >>> net = rc.Network(rc.Recurrent("lstm", 64, 64), head, embedding=rc.Embedding(5000, 64))
    >>> net.params["head.W_yh"].shape
    (5000, 64)
    """

    samples: int = 512
    draw: str = "log-uniform"
    name: ClassVar[str] = "sampled"
    kernel: ClassVar[int] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.project:
            raise ValueError("a sampled softmax projects: project must be True, got False")
        object.__setattr__(self, "samples", _checks.whole(self.samples, "samples"))
        _checks.one_of(self.draw, ("log-uniform", "uniform"), "draw")

    def shapes(self, inputs: int) -> dict[str, tuple[int, ...]]:
        """Return the parameters but those of pooling: name -> shape."""
        return {"W_yh": (self.outputs, inputs), "b_y": (self.outputs,)}

    def check_targets(
        self, targets: Any, shape: tuple[int, ...], lengths: np.ndarray | None, dtype: np.dtype
    ) -> np.ndarray:
        """Return classes of the given shape as int64; -1 is ignored."""
        return _checks.targets(targets, shape, self.outputs, lengths)

    def drawn(self, seed: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the classes of one batch, sorted, and the logarithm of each one's probability of being there."""
        if self.samples >= self.outputs:
            return np.arange(self.outputs), np.zeros(self.outputs)
        u = np.random.Generator(np.random.Philox(key=[seed % 2**64, step % 2**64])).random(self.samples)
        if self.draw == "uniform":
            ids = np.unique((u * self.outputs).astype(np.int64))
            p = np.full(len(ids), 1 / self.outputs)
        else:
            whole = np.log1p(self.outputs)
            ids = np.unique(np.minimum(np.exp(u * whole).astype(np.int64) - 1, self.outputs - 1))
            p = np.log1p(1 / (ids + 1)) / whole
        return ids, np.log(-np.expm1(self.samples * np.log1p(-p)))


#: the losses that are compiled: their numbers, targets and parameters are what the kernels take for granted
LOSSES: tuple[type[Head], ...] = (
    *(Softmax, SquaredError, SigmoidCrossEntropy, CRF),
    *(AdaptiveSoftmax, SampledSoftmax, CTC),
)

#: every head by name
HEADS: Mapping[str, type[Head]] = {head.name: head for head in LOSSES}
