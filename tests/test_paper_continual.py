"""Embedded Reber strings without end: what the forget gate is for (Gers, Schmidhuber & Cummins 2000; `-m paper`)."""

import numpy as np
import pytest
from paper import for_each_seed, layer, solved_by

import rnncore as rc
from rnncore.datasets import REBER_SYMBOLS, continual_reber, embedded_reber

pytestmark = pytest.mark.paper
STREAMS, CHUNK, STEPS = 16, 50, 1000


def numbers(text: str) -> np.ndarray:
    return np.array([REBER_SYMBOLS.index(symbol) for symbol in text])


def agreement(net, seed: int) -> float:
    """On 5000 new strings in one stream: how often the T or P but one from the end is told from the other."""
    strings = embedded_reber(5000, seed)
    ids = numbers("".join(strings))
    places = np.cumsum([len(string) for string in strings]) - 2
    outputs = net.predict(ids[:-1, None])[places - 1, 0]
    wanted, other = ids[places], numbers("TP")[(ids[places] == REBER_SYMBOLS.index("T")).astype(int)]
    chosen = np.arange(len(places))
    return float((outputs[chosen, wanted] > outputs[chosen, other]).mean())


def trained_on_streams(seed: int, **options) -> float:
    """Train on 16 streams side by side, 50 symbols at a time; the state is never reset."""
    length = STEPS * CHUNK + 1
    texts = [continual_reber(length // 9, 1000 * seed + stream)[:length] for stream in range(STREAMS)]
    streams = np.stack([numbers(text) for text in texts], axis=1)
    symbols = len(REBER_SYMBOLS)
    net = rc.Network(layer("lstm", symbols, 16, seed, **options), head=rc.Softmax(symbols))
    opt = rc.Adam(learning_rate=0.01, clip_norm=1, schedule=rc.schedules.Linear(STEPS))
    state = None
    for start in range(0, STEPS * CHUNK, CHUNK):
        x, targets = streams[start : start + CHUNK], streams[start + 1 : start + CHUNK + 1]
        net.train_step(x, targets, opt, state=state)
        state = net.state
    return agreement(net, 999_000 + seed)


def test_continual_reber_with_forget_gate(tell):
    found = for_each_seed(tell, trained_on_streams, cell="lstm")
    solved_by([share >= 0.997 for share in found], 5)


def test_continual_reber_without_forget_gate(tell):
    """The cell's memory grows over the ends of strings: guessing, for most seeds."""
    found = for_each_seed(tell, lambda seed: trained_on_streams(seed, variant="NFG"), cell="lstm without forget gate")
    solved_by([share < 0.997 for share in found], 5)
    assert np.median(found) < 0.6
