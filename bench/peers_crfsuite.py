"""CRFsuite on the words in a window of two to each side and two word pairs, with the words' affixes if asked."""

from __future__ import annotations

import sklearn_crfsuite

from bench.news import Sentences


def _features(words: list[str], affixes: bool = False) -> list[dict[str, str]]:
    padded = ["<s>", "<s>", *words, "</s>", "</s>"]
    found = []
    for at in range(2, len(words) + 2):
        window = {f"w{offset:+d}": padded[at + offset] for offset in range(-2, 3)}
        pairs = {"w-1w0": f"{padded[at - 1]} {padded[at]}", "w0w+1": f"{padded[at]} {padded[at + 1]}"}
        word = padded[at]
        parts = {f"{n}": word[:n] for n in range(1, 4)} | {f"-{n}": word[-n:] for n in range(1, 4)} if affixes else {}
        found.append({**window, **pairs, **parts})
    return found


class Tagger:
    """Feature extraction and L-BFGS training, as one `fit`; at most 100 iterations unless told otherwise."""

    def __init__(self, affixes: bool = False, iterations: int = 100) -> None:
        self.affixes = affixes
        self.crf = sklearn_crfsuite.CRF(algorithm="lbfgs", c1=0.1, c2=0.1, max_iterations=iterations)

    def fit(self, sentences: Sentences, tags: Sentences) -> None:
        self.crf.fit([_features(words, self.affixes) for words in sentences], tags)

    def predict(self, sentences: Sentences) -> Sentences:
        return [list(row) for row in self.crf.predict([_features(words, self.affixes) for words in sentences])]
