"""The embedded sample and the splits."""

from collections import Counter, defaultdict
from itertools import islice

import numpy as np
import pytest

from rnncore.data.readers import read_tagged
from rnncore.datasets import iter_news_requests, news_requests, original_split, random_split
from rnncore.datasets.splits import LibcxxShuffle


@pytest.fixture(scope="module")
def sample():
    return news_requests()


def majority_baseline(sentences, tags, train, test):
    """Share of unseen words, and accuracy of each word's most frequent label (O for unseen words)."""
    counts = defaultdict(Counter)
    for i in train:
        for word, tag in zip(sentences[i], tags[i], strict=True):
            counts[word][tag] += 1
    best = {word: tally.most_common(1)[0][0] for word, tally in counts.items()}
    pairs = [pair for i in test for pair in zip(sentences[i], tags[i], strict=True)]
    unseen = np.mean([word not in best for word, _ in pairs])
    right = np.mean([best.get(word, "O") == tag for word, tag in pairs])
    return unseen, right, len(best)


def test_sample_has_the_size_of_the_original_file(sample):
    sentences, _ = sample
    lengths = [len(sentence) for sentence in sentences]
    assert len(sentences) == 1000
    assert min(lengths) == 2 and 20 <= max(lengths) <= 29
    assert 10.5 < np.mean(lengths) < 12
    assert len({tuple(sentence) for sentence in sentences}) == 1000


def test_sample_has_its_words_common_and_rare(sample):
    counts = Counter(word for sentence in sample[0] for word in sentence)
    assert 1350 < len(counts) < 1500
    assert 0.5 < sum(count == 1 for count in counts.values()) / len(counts) < 0.65


def test_sample_has_nine_labels_in_well_formed_chunks(sample):
    tags = sample[1]
    counts = Counter(tag for sentence in tags for tag in sentence)
    kinds = ("NEWSTYPE", "KEYWORDS", "PROVIDER", "SECTION")
    assert set(counts) == {"O", *(f"{place}-{kind}" for place in "BI" for kind in kinds)}
    assert 0.43 < counts["O"] / sum(counts.values()) < 0.47
    for sentence in tags:
        for before, tag in zip(["O", *sentence], sentence, strict=False):
            assert not tag.startswith("I-") or before[2:] == tag[2:]


def test_sample_is_as_hard_as_the_original_file(sample):
    sentences, tags = sample
    figures = [majority_baseline(sentences, tags, *random_split(1000, 0.2, seed)) for seed in range(20)]
    unseen, right, vocabulary = np.mean(figures, axis=0)
    assert 0.07 < unseen < 0.10
    assert 0.79 < right < 0.82
    assert 1150 < vocabulary < 1300


def test_sample_follows_its_seed():
    assert news_requests(50, 3) == news_requests(50, 3)
    assert news_requests(50, 3) != news_requests(50, 4)
    assert list(islice(iter_news_requests(3), 5)) == [*zip(*(part[:5] for part in news_requests(50, 3)), strict=True)]
    assert " ".join(news_requests(2, 7)[0][1]) == "go ahead and get top story news from jomedo benonosh"


def test_sample_in_detail():
    sentences, tags = news_requests(2000, detailed=True)
    plain = news_requests(2000)
    assert sentences == plain[0]
    assert [[tag.partition(".")[0] for tag in labels] for labels in tags] == plain[1]
    assert 115 < len({tag for labels in tags for tag in labels}) < 125


def test_sample_of_no_or_negative_size():
    assert news_requests(0) == ([], [])
    with pytest.raises(ValueError, match="negative"):
        news_requests(-1)


def test_original_split_is_the_authors():
    train, test = original_split(1000)
    assert train[:10].tolist() == [860, 759, 752, 892, 304, 996, 11, 961, 307, 108]
    assert test[:10].tolist() == [250, 881, 932, 574, 779, 507, 334, 805, 546, 321]
    assert sorted([*train, *test]) == list(range(1000)) and len(train) == 800


def test_libcxx_generator_carries_on():
    shuffle = LibcxxShuffle()
    first, second = shuffle(list(range(50))), shuffle(list(range(50)))
    assert first == original_split(50, 1.0)[0].tolist()
    assert sorted(second) == sorted(first) and second != first


@pytest.mark.parametrize(
    ("library", "n_train", "n_test", "vocabulary"), [("libc++", 8901, 2199, 1237), ("libstdc++", 8933, 2167, 1253)]
)
def test_original_split_of_the_original_file(data, library, n_train, n_test, vocabulary):
    sentences, _ = read_tagged(data("news_tagged_data.txt"))
    train, test = original_split(len(sentences), library=library)
    words = ["0" if word.isdigit() else word for i in train for word in sentences[i]]
    assert (len(words), sum(len(sentences[i]) for i in test), len(set(words)) + 2) == (n_train, n_test, vocabulary)


def test_splits_check_their_arguments():
    with pytest.raises(ValueError, match="library"):
        original_split(10, library="msvc")
    with pytest.raises(ValueError, match="negative"):
        original_split(-1)
    with pytest.raises(ValueError, match="fraction"):
        random_split(10, 1.5)


@pytest.mark.parametrize(
    ("n", "fraction", "n_test"), [(10, 0.2, 2), (10, 0.0, 0), (10, 1.0, 10), (2, 0.01, 1), (2, 0.99, 1)]
)
def test_random_split_covers_everything(n, fraction, n_test):
    train, test = random_split(n, fraction, 1)
    assert len(test) == n_test and sorted([*train, *test]) == list(range(n))
