"""A history compressor on blocks with a lag of 20, and one network alone (`-m paper`): Schmidhuber 1992."""

import numpy as np
import pytest
from paper import for_each_seed, layer, solved_by

import rnncore as rc
from rnncore.datasets import long_blocks
from rnncore.models import HistoryCompressor

pytestmark = pytest.mark.paper

BUDGET, NEW, UNITS, WINDOW = 5000, 200, 32, 42


def share_right(said: np.ndarray, labels: np.ndarray) -> float:
    return float((said == labels)[labels >= 0].mean())


def blocks_until_right(seed: int, **options) -> tuple[int | None, float]:
    """Read until 99 % of 200 new blocks are right; look every 500. The share of symbols that are news then."""
    symbols, labels = long_blocks(BUDGET, random_state=seed)
    new, answers = long_blocks(NEW, random_state=1000 + seed)
    net = HistoryCompressor(22, 2, UNITS, window=WINDOW, random_state=seed, **options)
    for blocks in range(500, BUDGET + 1, 500):
        some = slice((blocks - 500) * 21, blocks * 21)
        net.partial_fit(symbols[some], labels[some])
        if share_right(net.predict(new, alone=bool(options)), answers) >= 0.99:
            return blocks, round(float(net.events(new).mean()), 4)
    return None, round(float(net.events(new).mean()), 4)


@pytest.mark.parametrize("options", [{}, {"distil": 0.1}], ids=["chunker", "automatizer alone"])
def test_history_compressor(options, tell):
    results = for_each_seed(tell, lambda seed: blocks_until_right(seed, **options), **options)
    solved_by([blocks is not None for blocks, _ in results], 4)


def one_network(seed: int) -> float:
    """The automatizer's own size, optimizer, window and blocks, but with the labels as a second head."""
    symbols, labels = long_blocks(BUDGET, random_state=seed)
    net = rc.Network(layer("elman", 22, UNITS, seed), heads={"next": rc.Softmax(22), "label": rc.Softmax(2)})
    optimizer, state = rc.Adam(0.01, clip_norm=1), None
    following = np.append(symbols[1:], -1)
    for first in range(0, len(symbols), WINDOW):
        some = slice(first, first + WINDOW)
        targets = {"next": following[some, None], "label": labels[some, None]}
        net.train_step(symbols[some, None], targets, optimizer, state=state)
        state = net.state
    new, answers = long_blocks(NEW, random_state=1000 + seed)
    return share_right(net.predict(new[:, None])["label"][:, 0].argmax(axis=1), answers)


def test_one_network_guesses(tell):
    """Within the same budget at most 65 % of the blocks: its window holds the lag, its gradient does not."""
    assert max(for_each_seed(tell, one_network)) <= 0.65
