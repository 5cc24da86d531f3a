"""CRFsuite on the words in a window of two to each side and two word pairs."""

from __future__ import annotations

import sklearn_crfsuite

from bench.news import Sentences


def _features(words: list[str]) -> list[dict[str, str]]:
    padded = ["<s>", "<s>", *words, "</s>", "</s>"]
    found = []
    for at in range(2, len(words) + 2):
        window = {f"w{offset:+d}": padded[at + offset] for offset in range(-2, 3)}
        pairs = {"w-1w0": f"{padded[at - 1]} {padded[at]}", "w0w+1": f"{padded[at]} {padded[at + 1]}"}
        found.append({**window, **pairs})
    return found


class Tagger:
    """Feature extraction and L-BFGS training, as one `fit`."""

    name = "CRFsuite"

    def __init__(self) -> None:
        self.crf = sklearn_crfsuite.CRF(algorithm="lbfgs", c1=0.1, c2=0.1)

    def fit(self, sentences: Sentences, tags: Sentences) -> None:
        self.crf.fit([_features(words) for words in sentences], tags)

    def predict(self, sentences: Sentences) -> Sentences:
        return [list(row) for row in self.crf.predict([_features(words) for words in sentences])]
