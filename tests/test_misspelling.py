"""Misspelt words: seeded, one slip each, of four kinds that are all there."""

import pytest

from rnncore.data.readers import DataError
from rnncore.datasets import misspelt, news_requests
from rnncore.datasets.misspelling import _BESIDE


def kind_of(word, slip):
    """Tell which of the four slips makes one word of another."""
    n = next((i for i, (a, b) in enumerate(zip(word, slip, strict=False)) if a != b), min(len(word), len(slip)))
    if len(slip) == len(word) + 1:
        return "double" if slip[n] == slip[n - 1] and word[n:] == slip[n + 1 :] else None
    if len(slip) == len(word) - 1:
        return "drop" if word[n + 1 :] == slip[n:] else None
    if word[n + 2 :] == slip[n + 2 :] and word[n : n + 2] == slip[n : n + 2][::-1]:
        return "swap"
    return "neighbour" if word[n + 1 :] == slip[n + 1 :] and slip[n].lower() in _BESIDE[word[n].lower()] else None


def test_each_changed_word_has_one_slip_and_all_kinds_are_there():
    sentences, _ = news_requests(300)
    found = misspelt(sentences, 1.0)
    assert [len(words) for words in found] == [len(words) for words in sentences]
    pairs = [pair for before, after in zip(sentences, found, strict=True) for pair in zip(before, after, strict=True)]
    kinds = [kind_of(word, slip) for word, slip in pairs if word != slip]
    assert None not in kinds and len(kinds) > 0.9 * len(pairs)
    for kind in ("swap", "drop", "double", "neighbour"):
        assert 0.15 < kinds.count(kind) / len(kinds) < 0.35
    assert all(any(map(str.isalpha, slip)) for word, slip in pairs if any(map(str.isalpha, word)))


def test_the_seed_and_the_rate_decide_and_later_sentences_do_not():
    sentences, _ = news_requests(200)
    found = misspelt(sentences, 0.3, 5)
    assert found == misspelt(sentences, 0.3, 5) != misspelt(sentences, 0.3, 6)
    assert misspelt(sentences[:50], 0.3, 5) == found[:50]
    words = [pair for a, b in zip(sentences, found, strict=True) for pair in zip(a, b, strict=True)]
    assert 0.25 < sum(a != b for a, b in words) / len(words) < 0.32
    assert misspelt(sentences, 0) == sentences


def test_neighbours_lie_beside_their_key():
    assert set(_BESIDE["g"]) == set("fhtyvb") and set(_BESIDE["q"]) == set("wa") and set(_BESIDE["p"]) == set("ol")
    assert all(letter in _BESIDE[other] for letter, beside in _BESIDE.items() for other in beside)


def test_words_without_letters_to_change_stay_and_capitals_stay_capitals():
    words = ["a", "12", "a1", "??", "É", ""]
    for seed in range(30):
        found = misspelt([words], 1.0, seed)[0]
        assert found[0] == "a" and found[1] == "12" and found[3:] == words[3:]
        assert any(map(str.isalpha, found[2]))
        assert misspelt([["AB"]], 1.0, seed)[0][0].isupper()


@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
def test_a_rate_out_of_range(rate):
    with pytest.raises(ValueError, match="rate"):
        misspelt([["word"]], rate)


@pytest.mark.parametrize(
    ("sentences", "message"),
    [("ab cd", "got str"), (["ab cd"], "split each into words"), ([[1, 2]], "strings, got 1"), (None, "got NoneType")],
)
def test_what_is_no_list_of_words(sentences, message):
    with pytest.raises(DataError, match=message):
        misspelt(sentences, 1.0)


def test_generators():
    assert misspelt((iter(words) for words in [["show", "me"]]), 1.0) == misspelt([["show", "me"]], 1.0)
