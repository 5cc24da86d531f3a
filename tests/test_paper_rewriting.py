"""Sequences rewritten as others: words turned round and sorted, dates brought into one form, slips mended."""

import time

import numpy as np
import pytest

import rnncore as rc
from rnncore.datasets import dates, misspelt, news_requests, reversing, sorting

pytestmark = pytest.mark.paper


def slips(n, random_state):
    """Words of news requests, each with one slip, and as they should be."""
    sentences, _ = news_requests(1000)
    words = sorted({word.lower() for sentence in sentences for word in sentence if word.isalpha() and len(word) > 3})
    chosen = [words[i] for i in np.random.default_rng(random_state).integers(0, len(words), n)]
    return [word for (word,) in misspelt([[word] for word in chosen], rate=1.0, random_state=random_state)], chosen


@pytest.mark.parametrize(
    ("make", "n", "settings", "least"),
    [
        (lambda n, seed: reversing(n, length=20, random_state=seed), 5000, {}, 0.99),
        (lambda n, seed: dates(n, random_state=seed), 5000, {}, 0.99),
        (lambda n, seed: sorting(n, length=15, random_state=seed), 5000, {}, 0.9),
        (slips, 10_000, {"max_epochs": 20}, 0.6),
    ],
    ids=["reversing", "dates", "sorting", "slips"],
)
def test_whole_targets_are_right(make, n, settings, least, tell):
    """With the defaults but where it says so; those were chosen on other pairs."""
    model = rc.SequenceToSequence(n_threads=1, **settings)
    start = time.process_time()
    model.fit(*make(n, 0))
    seconds = time.process_time() - start
    sources, targets = make(2000, 20260101)
    exact, errors = model.score(sources, targets), model.error_rate(sources, targets)
    searched = np.mean([one == other for one, other in zip(model.predict(sources, beam_size=5), targets, strict=True)])
    tell(exact=exact, label_error_rate=round(errors, 4), exact_of_a_beam=searched, seconds=round(seconds, 1))
    assert exact >= least
