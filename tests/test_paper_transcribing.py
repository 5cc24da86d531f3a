"""Spoken digits glued together: a network learns to write them down from strings that nobody has aligned."""

import time

import numpy as np
import pytest

import rnncore as rc

pytestmark = pytest.mark.paper


def glued(path, n_strings, takes, mixed, random_state):
    sounds, strings = rc.datasets.glued_digits(path, n_strings, takes, mixed, random_state=random_state)
    return [rc.audio.log_mel(sound, rc.datasets.DIGITS_RATE) for sound in sounds], strings


def test_digits_of_one_speaker_and_of_mixed_ones(data, tell):
    """Strings of 3 to 7 digits without gaps, takes 0 to 4 apart; the settings were chosen on takes 5 to 9."""
    path = data("spoken_digits.npz")
    parts = [glued(path, 1250, range(5, 50), mixed, 1 + mixed) for mixed in (False, True)]
    X, strings = ([*one, *other] for one, other in zip(*parts, strict=True))
    start = time.perf_counter()
    model = rc.Transcriber(stack=3, every=3).fit(X, strings)
    seconds = time.perf_counter() - start
    rates = {}
    for mixed in (False, True):
        X, strings = glued(path, 1000, range(5), mixed, 10 + mixed)
        rates["mixed" if mixed else "one speaker"] = 1 - model.score(X, strings)
    tell(label_error_rates=rates, seconds=round(seconds, 1))
    assert max(rates.values()) <= 0.025
    labels = [len(string) for string in strings]
    assert np.mean(labels) > 4.5
