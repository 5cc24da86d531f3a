"""A replica's weights in an ordinary rnncore network, tagging windows."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from rnncore.io import files
from rnncore.metrics import evaluation
from rnncore.nn.heads import Softmax
from rnncore.nn.network import Network
from rnncore.nn.recurrent import Recurrent
from rnncore.replica.pipeline import Alphabet, Geometry, Sentences

__all__ = ["WindowTagger"]

_WINDOWS_AT_ONCE = 1024


class WindowTagger:
    """Tags the words of sentences by way of windows, as the original does, with rnncore's own network.

    Made by ``Replica.to_tagger()``; `save` writes an ordinary model file that `rnncore.load` reads.

    Attributes
    ----------
    classes_ : array of str
        The labels; the first is padding's.
    network_ : rnncore.Network
        Elman layers with ReLU, biases all zero, dropout's scaling multiplied into the weights.

    Examples
    --------
    >>> from rnncore.datasets import news_requests
    >>> from rnncore.replica import Config, HiddenLayer, Replica
    >>> sentences, tags = news_requests(100)
    >>> replica = Replica("1.1", Config(epochs=1, iterations=20, hidden=(HiddenLayer(16),))).fit(sentences, tags)
    >>> tagger = replica.to_tagger()
    >>> tagger.predict(sentences[:5]) == replica.predict(sentences[:5])
    True
    """

    def __init__(self, geometry: Geometry, alphabet: Alphabet, hidden: list[int]) -> None:
        self.geometry = geometry
        self.alphabet = alphabet
        self.hidden = hidden
        self.classes_ = np.array(alphabet.labels)
        self.network_ = _network(geometry, len(alphabet.words), hidden, len(alphabet.labels))

    @classmethod
    def of(cls, replica: Any) -> WindowTagger:
        """Convert a replica."""
        layers = replica.config.hidden
        tagger = cls(replica.geometry, replica.alphabet_, [layer.neurons for layer in layers])
        params, weights = tagger.network_.params, replica.weights()
        suffixes = {"fwd": "_l", "bwd": "_r"} if replica.geometry.both else {"fwd": ""}
        for array in params.values():
            array[...] = 0
        for number, layer in enumerate(layers):
            for direction, suffix in suffixes.items():
                # relu(k·a) = k·relu(a): what dropout would scale down at prediction goes into the weights
                scale = min(layer.keep, 1.0)
                params[f"layers.{number}.{direction}.W_xh"][...] = scale * weights[f"hlayer{number}_U{suffix}"].T
                params[f"layers.{number}.{direction}.W_hh"][...] = scale * weights[f"hlayer{number}_W{suffix}"].T
        params["head.W_hy"][...] = np.concatenate([weights[f"smr_W{suffix}"].T for suffix in suffixes.values()])
        return tagger

    def predict_proba(self, sentences: Sentences) -> list[np.ndarray]:
        """Return a (T, K) array of probabilities for each sentence, columns in the order of `classes_`."""
        ids = self.alphabet.word_ids()
        windows = self.geometry.encode(sentences, ids)[self.geometry.of_words(sentences)]
        parts = [self._scores(windows[i : i + _WINDOWS_AT_ONCE]) for i in range(0, len(windows), _WINDOWS_AT_ONCE)]
        scores = np.concatenate(parts) if parts else np.empty((0, len(self.classes_)))
        return np.split(scores, np.cumsum([len(sentence) for sentence in sentences])[:-1]) if len(sentences) else []

    def predict(self, sentences: Sentences) -> list[list[str]]:
        """Return the most probable label of every word."""
        return [self.classes_[scores.argmax(axis=1)].tolist() for scores in self.predict_proba(sentences)]

    def evaluate(self, sentences: Sentences, tags: Sentences) -> dict[str, Any]:
        """Measure the predictions against `tags`; see `rnncore.metrics.evaluation` for what comes back."""
        return evaluation([list(labels) for labels in tags], self.predict(sentences), self.knows(sentences))

    def knows(self, sentences: Sentences) -> np.ndarray:
        """Tell of all words of all sentences whether the training data had them."""
        words = self.alphabet.word_ids()
        return np.array([word in words for sentence in sentences for word in sentence], dtype=bool)

    def count_correct(self, sentences: Sentences, tags: Sentences) -> tuple[int, int]:
        """Return how many words are tagged right, and how many there are."""
        result = self.evaluate(sentences, tags)
        return result["correct"], result["total"]

    def score(self, sentences: Sentences, tags: Sentences) -> float:
        """Return the share of words tagged right."""
        right, total = self.count_correct(sentences, tags)
        return right / total

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an ordinary model file; `rnncore.load` reads it back."""
        files.save(self, path)

    def _scores(self, windows: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.network_.predict(np.ascontiguousarray(windows.T))
        return found[self.geometry.place] if self.geometry.both else found

    def _to_model(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        header = {
            "settings": {"version": self.geometry.version, "ngram": self.geometry.ngram, "hidden": self.hidden},
            "encoder": {"tokens": self.alphabet.words},
            "classes": self.alphabet.labels,
        }
        return header, {name: np.array(array) for name, array in self.network_.params.items()}

    @classmethod
    def _from_model(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> WindowTagger:
        settings = header["settings"]
        alphabet = Alphabet(list(header["encoder"]["tokens"]), list(header["classes"]))
        hidden = [int(size) for size in settings["hidden"]]
        if sum(size * size for size in hidden) > sum(array.size for array in arrays.values()):
            raise ValueError("the sizes of the layers do not go with the weights")
        tagger = cls(Geometry(settings["version"], int(settings["ngram"])), alphabet, hidden)
        params = tagger.network_.params
        if {name: array.shape for name, array in arrays.items()} != {name: a.shape for name, a in params.items()}:
            raise ValueError("the weights do not go with the sizes of the layers")
        for name, array in params.items():
            array[...] = arrays[name]
        return tagger


def _network(geometry: Geometry, words: int, hidden: list[int], classes: int) -> Network:
    layers = [
        Recurrent(
            "elman",
            inputs,
            size,
            activation="relu",
            bidirectional=geometry.both,
            # the original adds the directions between layers; its two softmax matrices are one for both, side by side
            merge="concat" if number == len(hidden) - 1 else "sum",
            dtype="float64",
        )
        for number, (inputs, size) in enumerate(zip([words, *hidden], hidden, strict=False))
    ]
    return Network(layers, head=Softmax(classes), readout="every" if geometry.both else "last")
