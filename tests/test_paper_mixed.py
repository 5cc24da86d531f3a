"""Mixed precision learns what float32 does (`-m paper`); docs/mixed_precision.md has the figures."""

import time

import numpy as np
import pytest
from paper import layer
from test_paper_adding import updates_of

import rnncore as rc
from rnncore.data.readers import read_tagged

pytestmark = pytest.mark.paper
PRECISIONS = ("float32", "mixed_bfloat16")


def test_char_rnn(data, tell):
    """Three epochs of its own settings: within half a percent, in the mean of four seeds, which differ by 3 percent."""
    losses = {}
    for dtype in PRECISIONS:
        start = time.process_time()
        losses[dtype] = []
        for seed in (123, 1, 2, 3):
            model = rc.LanguageModel.preset("char-rnn", max_epochs=3, n_threads=1, dtype=dtype, random_state=seed)
            model.fit(data("tinyshakespeare.txt"))
            losses[dtype].append(model.history_[-1]["val_loss"])
        seconds = round(time.process_time() - start, 1)
        tell(dtype=dtype, val_loss=[round(one, 4) for one in losses[dtype]], seconds=seconds)
    whole, mixed = (np.mean(losses[dtype]) for dtype in PRECISIONS)
    assert whole != mixed
    assert mixed <= 1.005 * whole


def test_tagger(data, tell):
    """A random fifth of the news held out; three seeds of the split and of the first weights."""
    sentences, tags = read_tagged(data("news_tagged_data.txt"))
    found = {}
    for dtype in PRECISIONS:
        found[dtype] = []
        for seed in range(3):
            order = np.random.default_rng(seed).permutation(len(sentences))
            train, test = np.split(order, [4 * len(order) // 5])
            model = rc.SequenceTagger(random_state=seed, n_threads=1, dtype=dtype)
            model.fit([sentences[n] for n in train], [tags[n] for n in train])
            found[dtype].append(model.score([sentences[n] for n in test], [tags[n] for n in test]))
        tell(dtype=dtype, accuracy=[round(one, 5) for one in found[dtype]])
    whole, mixed = (np.mean(found[dtype]) for dtype in PRECISIONS)
    assert mixed >= whole - 0.002


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_adding_problem(cell, tell):
    """100 steps: learned too, within half as many updates again."""
    found = [updates_of(layer(cell, 2, 16, 0, dtype=dtype), 0, 100, learning_rate=0.01) for dtype in PRECISIONS]
    tell(cell=cell, updates=found)
    assert None not in found
    assert found[1] <= 1.5 * found[0]
