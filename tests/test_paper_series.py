"""Sequences of numbers classified: vowels, digits as rows and pixels, spoken ones; the keys of chorales foretold."""

import time
from itertools import pairwise

import numpy as np
import pytest
from sklearn.datasets import load_digits

import rnncore as rc
from rnncore.data.series_files import read_series

pytestmark = pytest.mark.paper

SEEDS = range(5)


def vowels(data):
    return *read_series(str(data("japanese_vowels_train.ts"))), *read_series(str(data("japanese_vowels_test.ts")))


def digits(shape, permuted=False):
    """The first half of the digits, and the second, which is of other writers."""
    x, y = load_digits(return_X_y=True)
    x = x[:, np.random.default_rng(0).permutation(64)] if permuted else x
    half = len(x) // 2
    x = x.reshape(-1, *shape)
    return x[:half], y[:half], x[half:], y[half:]


def spoken(data):
    with np.load(data("spoken_digits.npz")) as file:
        samples, starts, digit, take = (file[name] for name in ("samples", "starts", "digit", "take"))
    x = np.empty(len(digit), dtype=object)
    for n, (start, end) in enumerate(pairwise(starts)):
        x[n] = rc.audio.log_mel(samples[start:end], 8000)
    test = take < 5
    return [*x[~test]], digit[~test], [*x[test]], digit[test]


TASKS = {
    "vowels": (vowels, "default", 0.98),
    "rows": (lambda data: digits((8, 8)), "default", 0.965),
    "pixels": (lambda data: digits((64, 1)), "accurate", 0.955),
    "permuted": (lambda data: digits((64, 1), True), "default", 0.86),
    "spoken": (spoken, "default", 0.985),
}


@pytest.mark.parametrize("name", TASKS)
def test_classes_of_sequences(data, tell, name):
    """Settings were chosen on parts of the training data."""
    read, preset, bar = TASKS[name]
    X, y, unseen, wanted = read(data)
    start = time.process_time()
    models = [rc.SequenceClassifier.preset(preset, random_state=seed, n_threads=1).fit(X, y) for seed in SEEDS]
    seconds = (time.process_time() - start) / len(models)
    scores = [model.score(unseen, wanted) for model in models]
    tell(accuracies=np.round(scores, 4).tolist(), mean=round(float(np.mean(scores)), 4), seconds=round(seconds, 1))
    assert np.mean(scores) >= bar


def test_chorales(data, tell):
    """Which of 88 keys sound, from the frames before, on the pieces that are to be tested on; two seeds."""
    loadmat = pytest.importorskip("scipy.io").loadmat
    found = loadmat(data("jsb_chorales.mat"))
    pieces = {part: [np.asarray(one, dtype=float) for one in found[part][0]] for part in ("traindata", "testdata")}
    before = {part: [np.vstack([np.zeros((1, 88)), one[:-1]]) for one in of_part] for part, of_part in pieces.items()}
    wanted = np.concatenate(pieces["testdata"])
    losses = []
    for seed in SEEDS[:2]:
        model = rc.SequenceClassifier.preset("polyphony", random_state=seed, n_threads=1)
        model.fit(before["traindata"], pieces["traindata"])
        assert model.network_.theta.size <= 300_000
        p = np.clip(np.concatenate(model.predict_proba(before["testdata"])).astype(float), 1e-30, 1 - 1e-16)
        losses.append(-(wanted * np.log(p) + (1 - wanted) * np.log1p(-p)).sum(axis=1).mean())
    tell(nats_of_a_frame=np.round(losses, 3).tolist())
    assert np.mean(losses) <= 8.20
