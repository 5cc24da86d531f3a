"""The history compressor: what is news, what the chunker answers, and the automatizer alone."""

import numpy as np
import pytest

import rnncore as rc
from rnncore.datasets import long_blocks
from rnncore.models import HistoryCompressor


@pytest.fixture(scope="module")
def fitted():
    return HistoryCompressor(8, 2, 16, distil=0.1, window=14, random_state=0).fit(*long_blocks(1500, 6, random_state=0))


@pytest.fixture(scope="module")
def unseen():
    symbols, labels = long_blocks(100, 6, random_state=1)
    return symbols, labels, labels >= 0


def test_what_is_foreseen_is_no_news(fitted, unseen):
    symbols, labels, asked = unseen
    news = fitted.events(symbols)
    assert news[0] and (news[7:] == (symbols < 2)[7:]).all()
    assert (fitted.predict(symbols)[asked] == labels[asked]).mean() >= 0.99


def test_the_automatizer_answers_alone(fitted, unseen):
    symbols, labels, asked = unseen
    assert (fitted.predict(symbols, alone=True)[asked] == labels[asked]).mean() >= 0.99
    apart = HistoryCompressor(8, 2).fit(*long_blocks(2, 6))
    with pytest.raises(ValueError, match="distil must be above 0"):
        apart.predict(symbols, alone=True)


def test_probabilities_stand_until_the_next_event(fitted, unseen):
    p = fitted.predict_proba(unseen[0])
    np.testing.assert_allclose(p.sum(axis=1), 1)
    quiet = ~fitted.events(unseen[0])[1:]
    np.testing.assert_array_equal(p[1:][quiet], p[:-1][quiet])


def test_the_chunker_sees_symbols_and_times():
    """With a threshold of 1 everything is news: the chunker's steps are the stream's, each one step after the last."""
    net = HistoryCompressor(8, 2, threshold=1.0).fit(*long_blocks(3, 6))
    symbols = long_blocks(2, 6)[0]
    assert net.events(symbols).all()
    rows = np.column_stack([np.eye(8)[symbols], np.full(14, np.log(2))])
    rows[0, -1] = 0
    wanted = net.chunker_.predict(rows[:, None])["label"][:, 0]
    np.testing.assert_allclose(net.predict_proba(symbols), wanted, rtol=1e-5)


def test_one_stream_in_parts_is_the_stream():
    symbols, labels = long_blocks(60, 6)
    whole = HistoryCompressor(8, 2, 8, distil=0.2, window=14).fit(symbols, labels)
    parts = HistoryCompressor(8, 2, 8, distil=0.2, window=14)
    for some in (slice(0, 140), slice(140, 280), slice(280, None)):
        parts.partial_fit(symbols[some], labels[some])
    np.testing.assert_array_equal(whole.automatizer_theta_, parts.automatizer_theta_)
    np.testing.assert_array_equal(whole.chunker_theta_, parts.chunker_theta_)


def test_saved_and_loaded(fitted, unseen, tmp_path):
    fitted.save(tmp_path / "net.safetensors")
    loaded = rc.load(tmp_path / "net.safetensors")
    for alone in (False, True):
        np.testing.assert_array_equal(fitted.predict_proba(unseen[0], alone), loaded.predict_proba(unseen[0], alone))
    assert loaded.get_params() == fitted.get_params()


@pytest.mark.parametrize(
    ("options", "symbols", "labels", "said"),
    [
        ({}, [0, 3], [-1, 0], "symbols must be from 0 to 2, got 0 to 3"),
        ({}, [0, 1], [-1, 2], "labels must be from -1 to 1"),
        ({}, [0, 1], [0], "labels must be as many as symbols"),
        ({}, [0.5], [0], "symbols must be whole numbers"),
        ({}, [], [], "symbols must be whole numbers"),
        ({"threshold": 2.0}, [0], [0], "threshold"),
        ({"distil": -1.0}, [0], [0], "distil"),
        ({"window": 0}, [0], [0], "window"),
        ({"cell": "none"}, [0], [0], "cell"),
    ],
)
def test_what_cannot_be_read(options, symbols, labels, said):
    with pytest.raises(ValueError, match=said):
        HistoryCompressor(3, 2, **options).fit(np.array(symbols), np.array(labels))


def test_not_fitted_yet():
    with pytest.raises(ValueError, match="not fitted yet"):
        HistoryCompressor(3, 2).events(np.array([0]))
