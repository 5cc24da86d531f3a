"""Data that `bench classify` learns: sequences and targets to train on, and to test on."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from bench import files

Parts = tuple[Any, Any, Any, Any]  # X, y to train on, X, y to test on


def vowels() -> Parts:
    """Japanese vowels: twelve cepstral coefficients, nine speakers."""
    from rnncore.data.series_files import read_series

    train, test = (str(files.data_file(None, f"japanese_vowels_{part}.ts")) for part in ("train", "test"))
    return *read_series(train), *read_series(test)


def digits(pixels: bool, permuted: bool = False) -> Callable[[], Parts]:
    """scikit-learn's digits, row by row or pixel by pixel; the second half is of other writers."""

    def read() -> Parts:
        from sklearn.datasets import load_digits

        digits = load_digits()
        x = digits.data[:, :, None] if pixels else digits.images
        if permuted:
            x = x[:, np.random.default_rng(0).permutation(64)]
        half = len(x) // 2
        return x[:half], digits.target[:half], x[half:], digits.target[half:]

    return read


def spoken() -> Parts:
    """Spoken digits one by one, as log-mel energies; takes 0 to 4 to test on."""
    import rnncore as rc

    with np.load(files.data_file(None, "spoken_digits.npz")) as file:
        samples, starts, digit, take = (file[name] for name in ("samples", "starts", "digit", "take"))
    x = [rc.audio.log_mel(samples[a:b], 8000) for a, b in pairwise(starts)]
    test = take < 5
    some, others = ([part for part, there in zip(x, mask, strict=True) if there] for mask in (~test, test))
    return some, digit[~test], others, digit[test]


def chorales() -> Parts:
    """The JSB chorales: which of 88 keys sound, from the frames before; the first frame is foretold from silence."""
    from scipy.io import loadmat

    found = loadmat(files.data_file(None, "jsb_chorales.mat"))
    parts: list[Any] = []
    for name in ("traindata", "testdata"):
        pieces = [np.asarray(piece, dtype=np.float32) for piece in found[name][0]]
        parts += [[np.vstack([np.zeros_like(piece[:1]), piece[:-1]]) for piece in pieces]]
        parts += [[piece.astype(int) for piece in pieces]]
    X, y, unseen, wanted = parts
    return X, y, unseen, wanted
