"""The original program as an object: trained as it trains, printing (when asked) what it prints."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rnncore import _threads
from rnncore._core.cxx_random import LibcxxShuffle, LibstdcxxShuffle, OpenCVRandom
from rnncore._core.replica import Engine
from rnncore._core.replica_rows import Windows
from rnncore.data.readers import DataError
from rnncore.replica.config import Config, HiddenLayer, default_config
from rnncore.replica.pipeline import PADDING, Alphabet, Geometry, Sentences, merge_digits, training_count

__all__ = ["ACCUMULATORS", "SHUFFLES", "Replica", "matrix_names"]

SHUFFLES: dict[str, Any] = {"libc++": LibcxxShuffle, "libstdc++": LibstdcxxShuffle}
ACCUMULATORS = ("aliased", "separate")
INITIAL_RANGE = 0.12
MU = 1e-2
_SETTLING = 30  # the last iteration of the short memories


def memory_at(iteration: int) -> tuple[float, float]:
    """Return the shares of curvature and velocity that an iteration keeps."""
    return (0.5, 0.5) if iteration <= _SETTLING else (0.9, 0.95)


def matrix_names(version: str, layers: int) -> list[tuple[str, str, int, int]]:
    """Return the original's names of all matrices in the order in which it draws them, each with ours.

    Ours are a letter, the layer and the direction: U from the layer below, W from the step before, S to the classes.
    """
    suffixes = [""] if version == "1.0" else ["_l", "_r"]
    names = [
        (f"hlayer{layer}_{letter}{suffix}", letter, layer, direction)
        for layer in range(layers)
        for direction, suffix in enumerate(suffixes)
        for letter in "UW"
    ]
    return names + [(f"smr_W{suffix}", "S", 0, direction) for direction, suffix in enumerate(suffixes)]


class Replica:
    """The recurrent network of 2015, to the last window.

    Parameters
    ----------
    version : {"1.0", "1.1"}
        1.0 reads windows from the left and tags their last word; 1.1 reads them in both directions and tags the middle.
    config : Config, optional
        Without: `default_config` of the version.
    accumulators : {"aliased", "separate"}
        Whether the averages of curvature and velocity share their memory, as they do in the program, or are what it
        meant them to be.
    split : {"libc++", "libstdc++"}
        Whose ``random_shuffle`` splits the sentences and draws the batches: that of the author's Mac or of Linux.
    n_threads : int, optional
        The result does not depend on it.

    Attributes
    ----------
    alphabet_ : Alphabet
        Words and labels.
    history_ : list of dict
        For each epoch: epoch, iterations (so far), cost (of the last one), what `evaluate` counted, seconds and
        evaluation_seconds (a part of them).
    costs_ : array (iterations, 4)
        J1, J2, J3 and J4 of each iteration: the cross-entropy, and the weight decay of S, of the Ws and of the Us.

    Examples
    --------
    >>> from rnncore.datasets import news_requests
    >>> config = Config(epochs=2, iterations=20, hidden=(HiddenLayer(16),))
    >>> replica = Replica("1.0", config).fit(*news_requests(100))
    >>> len(replica.costs_)
    41
    >>> len(replica.predict([["top", "news"]])[0])
    2
    """

    alphabet_: Alphabet
    history_: list[dict[str, Any]]
    costs_: np.ndarray

    def __init__(
        self,
        version: str = "1.0",
        config: Config | None = None,
        accumulators: str = "aliased",
        split: str = "libc++",
        n_threads: int | None = None,
    ) -> None:
        self.version = version
        self.config = config or default_config(version)
        self.accumulators = accumulators
        self.split = split
        self.n_threads = n_threads
        self.geometry = Geometry(version, self.config.ngram)
        if accumulators not in ACCUMULATORS:
            raise ValueError(f"accumulators must be one of {', '.join(ACCUMULATORS)}, got {accumulators!r}")
        if split not in SHUFFLES:
            raise ValueError(f"split must be one of {', '.join(SHUFFLES)}, got {split!r}")
        if not self.config.hidden:
            raise ValueError("the network needs at least one hidden layer")

    # -------------------------------------------------------------- training

    def fit(
        self,
        sentences: Sentences,
        tags: Sentences,
        on_iteration: Callable[[int, int, tuple[float, ...]], Any] | None = None,
        on_epoch: Callable[[dict[str, Any]], Any] | None = None,
    ) -> Replica:
        """Split, train and evaluate after each epoch, as the program does.

        Parameters
        ----------
        sentences, tags : lists of lists of str
            The whole file, in its order: the split depends on it.
        on_iteration : callable, optional
            Called with epoch, iteration and (J1, J2, J3, J4).
        on_epoch : callable, optional
            Called with the epoch's record.

        Raises
        ------
        DataError
            If there are too few sentences or windows.
        KeyboardInterrupt
            After Ctrl-C; the weights are then those of the last complete iteration.
        """
        self.prepare(sentences, tags)
        config, k = self.config, 0
        costs: list[tuple[float, ...]] = []
        self.history_ = []
        try:
            for epoch in range(1, config.epochs + 1):
                start = time.perf_counter()
                while k <= config.iterations * epoch:  # as in the original: one iteration more in the first epoch
                    costs.append(self.iterate(k))
                    if on_iteration:
                        on_iteration(epoch, k, costs[-1])
                    k += 1
                trained = time.perf_counter()
                record = {"epoch": epoch, "iterations": k, "cost": sum(costs[-1]), **self.evaluate()}
                evaluated = time.perf_counter()
                record |= {"seconds": evaluated - start, "evaluation_seconds": evaluated - trained}
                self.history_.append(record)
                if on_epoch:
                    on_epoch(record)
        finally:
            self.costs_ = np.array(costs).reshape(-1, 4)
        return self

    def prepare(self, sentences: Sentences, tags: Sentences) -> None:
        """Shuffle and split the data and draw the first weights; `fit` begins with this."""
        if len(sentences) != len(tags) or any(len(s) != len(t) for s, t in zip(sentences, tags, strict=True)):
            raise DataError("expected one tag for every word of every sentence")
        self._shuffle = SHUFFLES[self.split]()
        order = np.arange(len(sentences))
        self._shuffle.shuffle(order)
        count = training_count(len(sentences), self.config.training_fraction)
        if count < 1:
            raise DataError(
                f"{len(sentences)} sentences leave none to train on with TRAINING_PERCENT = "
                f"{self.config.training_fraction:g}"
            )
        train, test = order[:count].tolist(), order[count:].tolist()
        merged = merge_digits([sentences[i] for i in train])
        self.alphabet_ = Alphabet.of(merged, tags)
        self._train = self._windows(merged, [tags[i] for i in train])
        self._test = self._windows([sentences[i] for i in test], [tags[i] for i in test])
        if self.config.batch_size > len(self._train):
            raise DataError(
                f"BATCH_SIZE is {self.config.batch_size}, but there are {len(self._train)} training windows"
            )
        self._order = np.arange(len(self._train))
        self._random = OpenCVRandom()
        self._build_engine()
        for _, letter, layer, direction in matrix_names(self.version, len(self.config.hidden)):
            shape = self._engine.get(letter, layer, direction).shape
            drawn = self._random.uniform(-1.0, 1.0, shape[::-1]) * INITIAL_RANGE
            self._engine.set(letter, layer, direction, drawn.T)

    def iterate(self, k: int) -> tuple[float, float, float, float]:
        """Do iteration `k`: shuffle all windows, take the first ones, update; return J1..J4 from before the update."""
        batch = self._draw()
        a, b = memory_at(k)
        return self._engine.iterate(self._train, batch, self._random, a, b, self.config.learning_rate, MU)

    def evaluate(self) -> dict[str, Any]:
        """Count the windows of both parts that are tagged right: train_correct, train_total, train_accuracy, test_…."""
        found: dict[str, Any] = {}
        for part, windows in (("train", self._train), ("test", self._test)):
            correct, total = self._count(windows), len(windows)
            accuracy = correct / total if total else None
            found |= {f"{part}_correct": correct, f"{part}_total": total, f"{part}_accuracy": accuracy}
        return found

    def _draw(self) -> np.ndarray:
        self._shuffle.shuffle(self._order)
        return self._order[: self.config.batch_size]

    def _windows(self, sentences: Sentences, tags: Sentences) -> Windows:
        x = self.geometry.encode(sentences, self.alphabet_.word_ids())
        y = self.geometry.targets(tags, self.alphabet_.label_ids())
        return Windows(x, y, len(self.alphabet_.words), self.geometry.both)

    def _count(self, windows: Windows) -> int:
        if not len(windows):
            return 0
        wanted = windows.targets[self.geometry.place if self.geometry.both else 0]
        return int((self._engine.predict(windows) == wanted).sum())

    def _build_engine(self) -> None:
        config = self.config
        self._engine = Engine(
            len(self.alphabet_.words),
            [layer.neurons for layer in config.hidden],
            len(self.alphabet_.labels),
            config.ngram,
            2 if self.geometry.both else 1,
            [layer.keep for layer in config.hidden],
            [layer.weight_decay for layer in config.hidden],
            config.softmax_decay,
            config.batch_size,
            self.accumulators == "aliased",
            _threads.resolve(self.n_threads),
        )

    # -------------------------------------------------------------- using the network

    def predict(self, sentences: Sentences) -> list[list[str]]:
        """Tag sentences; the windows that stand for padding are left out.

        Returns
        -------
        list of lists of str
            A class of the network for every word; that may be ``___PADDING___``.
        """
        self._check_trained()
        x = self.geometry.encode(sentences, self.alphabet_.word_ids())
        if not len(x):
            return [[] for _ in sentences]
        windows = Windows(x, np.zeros((1, len(x))), len(self.alphabet_.words), self.geometry.both)
        found = self._engine.predict(windows)[self.geometry.of_words(sentences)]
        labels = iter([self.alphabet_.labels[number] for number in found])
        return [[next(labels) for _ in sentence] for sentence in sentences]

    def weights(self) -> dict[str, np.ndarray]:
        """Return copies of all matrices by the original's names and in its orientation, (out, in)."""
        self._check_trained()
        return {
            name: np.ascontiguousarray(self._engine.get(letter, layer, direction).T)
            for name, letter, layer, direction in matrix_names(self.version, len(self.config.hidden))
        }

    def save_xml(self, path: str | os.PathLike[str]) -> None:
        """Write the weights and the words as the original's ``save2XML`` does (the labels are not part of the file).

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        from rnncore.replica.xmlfiles import write_xml

        write_xml(path, self.weights(), self.alphabet_.words)

    @classmethod
    def load_xml(
        cls,
        path: str | os.PathLike[str],
        labels: Sequence[str] | None = None,
        config: Config | None = None,
        n_threads: int | None = None,
    ) -> Replica:
        """Read weights that `save_xml` or the original wrote; the keys tell the version.

        Parameters
        ----------
        path : str or path
        labels : sequence of str, optional
            The labels of classes 1, 2, ...; class 0 is padding (and may stand in front). Without, classes are called by
            their numbers.
        config : Config, optional
            For what the file does not hold: `ngram` and the layers' `keep`. Without: those of the version.

        Raises
        ------
        DataError
            If the file is not such a file, or the labels do not go with it.
        """
        from rnncore.replica.xmlfiles import read_xml

        version, weights, words = read_xml(path)
        config = config or default_config(version)
        layers = sum(1 for name in weights if "_U" in name) // (1 if version == "1.0" else 2)
        kept = [layer.keep for layer in config.hidden] + [1.0] * layers
        suffix = "" if version == "1.0" else "_l"
        sizes = [weights[f"hlayer{layer}_W{suffix}"].shape[0] for layer in range(layers)]
        hidden = tuple(HiddenLayer(size, keep=keep) for size, keep in zip(sizes, kept, strict=False))
        replica = cls(version, Config(**{**vars(config), "hidden": hidden}), n_threads=n_threads)
        replica.alphabet_ = Alphabet(words, _named(labels, weights[f"smr_W{suffix}"].shape[0], os.fspath(path)))
        replica._build_engine()
        for name, letter, layer, direction in matrix_names(version, layers):
            replica._engine.set(letter, layer, direction, weights[name].T)
        replica.history_ = []
        return replica

    def to_tagger(self) -> Any:
        """Convert into an ordinary rnncore network behind the same windows: a `rnncore.replica.WindowTagger`."""
        from rnncore.replica.tagger import WindowTagger

        return WindowTagger.of(self)

    def _check_trained(self) -> None:
        if not hasattr(self, "_engine"):
            raise RuntimeError("this replica has no weights yet: call fit, or make it with load_xml")


def _named(labels: Sequence[str] | None, classes: int, path: str) -> list[str]:
    if labels is None:
        return [PADDING, *map(str, range(1, classes))]
    named = list(labels) if list(labels)[:1] == [PADDING] else [PADDING, *labels]
    if len(named) != classes:
        raise DataError(
            f"{path} has {classes} classes, padding among them: expected {classes - 1} labels, got {len(labels)}"
        )
    return named
