"""Tokens as bags of features, direct weights, pretrained vectors."""

import gzip
import json
import pickle
import sys

import numpy as np
import pytest
from peers import peer
from sklearn.base import clone

from rnncore.data.encoders import Vocabulary
from rnncore.data.features import DictFeatures, WordFeatures, encoder_for, encoder_from_json, word_shape
from rnncore.data.readers import DataError
from rnncore.data.vectors import read_vectors, word_vectors
from rnncore.datasets import news_requests
from rnncore.estimators.tagger import SequenceTagger
from rnncore.io.files import load


@pytest.fixture(scope="module")
def sample():
    return news_requests(120)


def same(a, b):
    return all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))


def meanings(encoder, row):
    """What the ids of a row stand for, by the layout that `WordFeatures` documents."""
    tokens = ["?", *encoder.vocabulary.tokens]
    n, out = len(tokens), []
    for i in row:
        if i < 0:
            continue
        if i < n:
            out.append(tokens[i])
            continue
        i -= n
        if i < len(encoder.offsets) * (n + 1):
            place, word = divmod(i, n + 1)
            out.append(f"{encoder.offsets[place]:+d}:{[*tokens, 'edge'][word]}")
            continue
        i -= len(encoder.offsets) * (n + 1)
        if i < 2 * len(encoder.pairs):
            side, place = divmod(i, len(encoder.pairs))
            left, right = divmod(int(encoder.pairs[place]), n)
            out.append(f"{'<>'[side]}{tokens[left]} {tokens[right]}")
            continue
        out.append(encoder.spellings[i - 2 * len(encoder.pairs)])
    return out


def test_neighbours_pairs_and_spelling():
    encoder = WordFeatures(Vocabulary(), window=2, word_pairs=True, affixes=2, shapes=True)
    encoder.fit([["a", "bc", "D7"], ["bc", "a"]])
    rows = encoder.encode([["a", "bc", "zc"], ["D7"]])
    assert [meanings(encoder, row) for row in rows] == [
        ["a", "-2:edge", "-1:edge", "+1:bc", "+2:?", ">a bc", "^a", "a$", "~x"],
        ["bc", "-2:edge", "-1:a", "+1:?", "+2:edge", "<a bc", "^b", "c$", "^bc", "bc$", "~x"],
        ["?", "-2:a", "-1:bc", "+1:edge", "+2:edge", "c$", "~x"],
        ["d0", "-2:edge", "-1:edge", "+1:edge", "+2:edge", "^d", "0$", "^d0", "d0$", "~X0"],
    ]
    assert encoder.knows([["a", "zc"]]).tolist() == [True, False]


def test_the_same_alone_and_among_others():
    encoder = WordFeatures(Vocabulary(), 2, True, 3, True).fit(news_requests(50)[0])
    sentences = news_requests(60)[0]
    together = encoder.encode(sentences)
    alone = np.concatenate([encoder.encode([sentence]) for sentence in sentences])
    assert np.array_equal(together, alone)


def test_unknown_values_stay_in_their_place():
    encoder = WordFeatures(Vocabulary(), 1, True, 1, True).fit([["a", "b"]])
    rows = encoder.encode([["a", "b"]])
    unknown = np.where(rows < 0, rows, encoder.unknown_of[rows])
    assert [meanings(encoder, row) for row in unknown] == [["?", "-1:edge", "+1:?"], ["?", "-1:?", "+1:edge"]]


@pytest.mark.parametrize(
    ("word", "shape"), [("Kenya", "Xx"), ("iPhone6", "xXx0"), ("ÉTÉ", "X"), ("déjà", "x"), ("a-b.", "x-x."), ("", "")]
)
def test_shapes(word, shape):
    assert word_shape(word) == shape


def test_dicts():
    encoder = DictFeatures().fit(
        [[{"w": "a", "n": 3, "up": True, "low": False, "bias": 1.0, "none": None}], [{"w": "b"}]]
    )
    names = [*encoder.names, *encoder.features, *encoder.numbers]

    def read(*tokens):
        return [[names[i] for i in row if i >= 0] for row in encoder.encode([tokens])]

    assert read({"w": "a", "up": True}, {"w": "c", "n": 3}, {"other": "x"}, {}) == [["w=a", "up"], ["w", "n"], [], []]
    assert read({"up": np.bool_(True), "low": True, "bias": 0.0}) == [["up"]]
    nested = DictFeatures().fit([[{"k": {"a": "x", "b": True}, "l": ["p", "q"], "e=f": "g"}]])
    assert sorted(nested.features) == ["e:f=g", "k:a=x", "k:b", "l:p", "l:q"]
    assert DictFeatures(min_count=2).fit([[{"w": "a"}, {"w": "a"}, {"w": "b"}]]).features == ["w=a"]


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ({"x": float("nan")}, "'x' is nan"),
        ({"x": np.float64("inf")}, "'x' is inf"),
        ({"x": 10**400}, "'x' is 1000.*scale what is so large"),
        ("word", "a dict of features"),
        ({"x": object()}, "expected a string"),
    ],
)
def test_bad_dicts(token, message):
    fitted = DictFeatures().fit([[{"w": "a", "x": 2}]])
    for use in (DictFeatures().fit, fitted.encode):
        with pytest.raises(DataError, match=message):
            use([[{"w": "a"}, token]])


def test_numbers_in_dicts():
    encoder = DictFeatures().fit(
        [[{"w": "a", "n": 3, "one": 1.0}, {"n": -4.0, "one": True, "v": np.array([0.0, 2.0])}]]
    )
    assert encoder.features == ["one", "w=a"] and encoder.numbers == ["n", "v:1"]
    ids, values = encoder.encode_with_values(
        [[{"n": 7, "one": 5.0, "new": 2.5, "w": "z"}], [{"v": np.array([9.0, 1.0]), "n": "text"}, {"n": 0, "one": 0}]]
    )
    names = ["w=?", *encoder.features, *encoder.numbers]
    assert [[names[i] for i in row if i >= 0] for row in ids] == [["n", "one", "w=?"], ["v:1"], []]
    root = np.sqrt((9 + 16) / 2)
    np.testing.assert_allclose(values, [[7 / root, 1, 1], [0.5, 0, 0], [0, 0, 0]], rtol=1e-6)
    assert DictFeatures(min_count=2).fit([[{"n": 3}, {"m": 2}, {"m": 1}]]).numbers == ["m"]


def test_spellings_are_of_words():
    encoder = WordFeatures(Vocabulary(), affixes=2).fit([["ab"]])
    with pytest.raises(DataError, match=r"expected words as strings.*got 3"):
        encoder.encode([["ab", 3]])


def test_a_stream_of_new_words_does_not_fill_the_memory(monkeypatch):
    encoder = WordFeatures(Vocabulary(), affixes=2).fit([["ab"]])
    wanted = encoder.encode([["ab", "xb", "ay"]])
    monkeypatch.setattr(type(encoder._spelled), "limit", 4)
    np.testing.assert_array_equal(encoder.encode([["ab", "xb", "ay"]]), wanted)
    encoder.encode([[f"word {n}" for n in range(20)]])
    np.testing.assert_array_equal(encoder.encode([["ab", "xb", "ay"]]), wanted)
    assert len(encoder._spelled) == 4


def test_a_set_of_features_has_no_order():
    first, second = (DictFeatures().fit([[{"has": values}]]) for values in ({"a", "b"}, frozenset("ba")))
    assert first.to_json() == second.to_json()
    assert first.encode([[{"has": {"a", "b"}}]])[0].tolist() == first.encode([[{"has": {"b", "a"}}]])[0].tolist()


@pytest.mark.parametrize(
    ("encoder", "change", "message"),
    [
        (WordFeatures(Vocabulary(), 1).fit([["a"]]), {"window": 100}, "window and affixes must be small"),
        (WordFeatures(Vocabulary(), 1).fit([["a"]]), {"affixes": -1}, "window and affixes must be small"),
        (DictFeatures().fit([[{"b": 2.5}]]), {"sizes": [0.0]}, "must be numbers above 0"),
        (DictFeatures().fit([[{"b": 2.5}]]), {"sizes": [float("nan")]}, "must be numbers above 0"),
    ],
)
def test_forged_encoders_are_refused(encoder, change, message):
    with pytest.raises(ValueError, match=message):
        encoder_from_json(encoder.to_json() | change)


@pytest.mark.parametrize(
    "encoder",
    [
        WordFeatures(Vocabulary(2, False, False), 2, True, 3, True).fit(news_requests(20)[0]),
        DictFeatures(2).fit([[{"w": "é", "b": True}]]),
        DictFeatures().fit([[{"w": "é", "b": 2.5}]]),
    ],
)
def test_encoders_come_back(encoder):
    for again in (encoder_from_json(json.loads(json.dumps(encoder.to_json()))), pickle.loads(pickle.dumps(encoder))):
        assert type(again) is type(encoder) and again.to_json() == encoder.to_json()
        assert np.array_equal(again.unknown_of, encoder.unknown_of)


def test_the_encoder_follows_data_and_settings():
    assert isinstance(encoder_for([["a"]], window=0, shapes=False), Vocabulary)
    assert isinstance(encoder_for([["a"]], window=1), WordFeatures)
    assert isinstance(encoder_for([[{"w": "a"}]]), DictFeatures)
    with pytest.raises(DataError, match="window: for words as strings only"):
        encoder_for([[{"w": "a"}]], window=1)
    with pytest.raises(DataError, match="words as strings"):
        WordFeatures(Vocabulary(), affixes=1).fit([[1, 2]])


# -- in the tagger --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"window": 1},
        {"window": 2, "word_pairs": True, "skip": "only"},
        {"affixes": 2, "shapes": True, "skip": True},
        {"skip": True},
        {"skip": "only", "embedding_size": 6},
        {"window": 1, "affixes": 3, "embedding_size": 6, "skip": True, "dtype": "float64"},
        {"window": 1, "word_dropout": 0.0, "num_layers": 2, "bidirectional": False},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_settings(sample, settings, tmp_path):
    tagger = SequenceTagger(**{"hidden_size": 8, "max_epochs": 4, **settings}).fit(*sample)
    assert tagger.history_[-1]["loss"] < 0.8 * tagger.history_[0]["loss"]
    tagger.save(tmp_path / "model")
    for again in (load(tmp_path / "model"), pickle.loads(pickle.dumps(tagger))):
        assert same(tagger.predict_proba(sample[0]), again.predict_proba(sample[0]))
        again.partial_fit(*sample)
    assert clone(tagger).get_params() == tagger.get_params()
    assert tagger.evaluate([["news", "zzz"]], [["O", "O"]])["unknown"]["total"] == 1


def test_direct_weights_learn_what_a_tiny_network_cannot(sample):
    scores = [
        SequenceTagger(
            hidden_size=1,
            learning_rate=0.015,
            head="softmax",
            max_epochs=10,
            window=window,
            word_pairs=True,
            affixes=0,
            shapes=False,
            skip="only",
        )
        .fit(*sample)
        .score(*sample)
        for window in (0, 2)
    ]
    assert scores[0] < 0.9 and scores[1] > 0.97


def test_dicts_in_the_tagger(sample, tmp_path):
    def features(words):
        padded = ["<s>", *words, "</s>"]
        return [
            {"w": word, "-1": padded[i], "+1": padded[i + 2], "digits": word.isdigit(), "bias": 1.0}
            for i, word in enumerate(words)
        ]

    sentences = [features(words) for words in sample[0]]
    for skip in (False, True, "only"):
        tagger = SequenceTagger(hidden_size=8, max_epochs=12, skip=skip).fit(sentences, sample[1])
        assert tagger.score(sentences, sample[1]) > 0.9
        assert "known" not in tagger.evaluate(sentences, sample[1])
        tagger.save(tmp_path / "model")
        assert load(tmp_path / "model").predict(sentences) == tagger.predict(sentences)
        assert tagger.predict([[{}, {"new": "x"}]])
    with pytest.raises(DataError, match="dict of features"):
        tagger.predict([["news"]])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": -1}, "window"),
        ({"affixes": 51}, "at most 50"),
        ({"skip": "yes"}, "skip: expected False, True or 'only'"),
        ({"shapes": 1}, "shapes: expected True or False"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        SequenceTagger(**settings).fit([["a", "b"]], [["O", "O"]])


@pytest.mark.parametrize("settings", [{}, {"skip": True, "embedding_size": 4}, {"head": "softmax", "dtype": "float64"}])
def test_numbers_reach_the_scores(settings, tmp_path):
    """The label is the sign of a number that nothing else tells of."""
    rng = np.random.default_rng(0)
    numbers = 100 * rng.standard_normal((80, 4))
    sentences = [[{"w": "word", "value": number, "bias": 1.0} for number in row] for row in numbers.tolist()]
    tags = [["+" if number > 0 else "-" for number in row] for row in numbers]
    tagger = SequenceTagger(hidden_size=3, max_epochs=30, bidirectional=False, **settings).fit(sentences, tags)
    assert tagger.score(sentences, tags) > 0.97
    tagger.save(tmp_path / "model")
    for again in (load(tmp_path / "model"), pickle.loads(pickle.dumps(tagger))):
        assert same(again.predict_proba(sentences), tagger.predict_proba(sentences))
        again.partial_fit(sentences, tags)
    if tagger.head == "softmax":
        label_of = tagger.stream()
        assert [label_of(token) for token in sentences[0]] == tagger.predict(sentences[:1])[0]


def test_arrays_may_have_direct_weights(tmp_path):
    rng = np.random.default_rng(0)
    x = [rng.standard_normal((n, 5)) for n in (3, 1, 4)]
    tags = [[int(row[3] > 0) for row in part] for part in x]
    tagger = SequenceTagger(skip=True, hidden_size=2, max_epochs=1, dtype="float64", learning_rate=0.0).fit(x, tags)
    before = tagger.predict_proba(x)
    tagger.network_.params["head.W_skip"][3] = [-50.0, 50.0]
    assert tagger.score(x, tags) == 1.0 and not same(before, tagger.predict_proba(x))
    tagger.save(tmp_path / "model")
    assert same(load(tmp_path / "model").predict_proba(x), tagger.predict_proba(x))


# -- pretrained vectors ---------------------------------------------------------------------------------------------


def test_vectors_are_read(tmp_path):
    for content in ("2 3\na 1 2 3\nb c 4 5 6\n", "a 1 2 3 \r\nb c 4 5 6", "\ufeffa 1 2 3\n\nb c 4.0 5 6e0\n"):
        for data in (content.encode(), gzip.compress(content.encode())):
            (tmp_path / "v").write_bytes(data)
            words, vectors = read_vectors(tmp_path / "v")
            # the second word holds a blank, as some in published files do
            assert words == ["a", "b c"] and vectors.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no word vectors"),
        (b"2 3\n", "no word vectors"),
        (b"a\n", "line 1: expected a word and 1 numbers"),
        (b"a 1 2\nb 1\n", "line 2: expected a word and 2 numbers"),
        (b"a 1 2\nb 1 x\n", "line 2: expected a word and 2 numbers"),
        (b"a 1 2\nb 1 nan\n", "vector of 'b' is not finite"),
        (b"a 1 2\nb\xff 1 2\n", "line 2: not UTF-8"),
        (gzip.compress(b"a 1 2\n" * 999, mtime=0)[:-20], "damaged or cut off"),
    ],
)
def test_bad_vectors(tmp_path, content, message):
    (tmp_path / "v").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_vectors(tmp_path / "v")


def test_training_starts_from_pretrained_vectors(sample, tmp_path):
    rng = np.random.default_rng(0)
    words = ["News", "news", "never", "2024", "kenya"]
    vectors = rng.normal(size=(5, 7)).astype(np.float32)
    lines = [" ".join([word, *map(str, row)]) for word, row in zip(words, vectors.tolist(), strict=True)]
    (tmp_path / "v").write_text("\n".join(lines))
    settings = {"hidden_size": 6, "embeddings": str(tmp_path / "v"), "max_epochs": 1, "affixes": 0, "shapes": False}
    still = SequenceTagger(**settings, window=0, learning_rate=0.0).fit(*sample)
    table = still.network_.params["embedding.E"]
    assert table.shape[1] == 7
    for word, row in (("NEWS", 0), ("never", 2), ("7", 3), ("kenya", 4)):
        assert np.array_equal(table[still.encoder_.encode([[word]])[0]], vectors[row])
    assert still.encoder_.knows([["never", "nowhere"]]).tolist() == [True, False]
    tagger = SequenceTagger(**settings, window=1, skip="only").fit(*sample)
    tagger.save(tmp_path / "model")
    (tmp_path / "v").unlink()
    assert same(load(tmp_path / "model").predict_proba(sample[0]), tagger.predict_proba(sample[0]))
    with pytest.raises(DataError, match="no such file"):
        clone(tagger).fit(*sample)
    (tmp_path / "v").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="embedding_size=5, but the vectors"):
        SequenceTagger(**settings, embedding_size=5).fit(*sample)
    with pytest.raises(ValueError, match="sentences of words"):
        SequenceTagger(**settings).fit([np.zeros((2, 3))], [["O", "O"]])


def test_vectors_from_memory(sample, tmp_path):
    """Words and an array, a dict, or what gensim holds: as if they had been read from a file."""
    words, vectors = ["news", "kenya"], np.array([[1, 2, 3], [4, 5, 6.5]])
    (tmp_path / "v").write_text("news 1 2 3\nkenya 4 5 6.5\n")
    settings = {"hidden_size": 4, "max_epochs": 1}
    wanted = SequenceTagger(embeddings=tmp_path / "v", **settings).fit(*sample).network_.theta
    for given in ((words, vectors), [words, vectors.tolist()], dict(zip(words, vectors, strict=True))):
        tagger = SequenceTagger(embeddings=given, **settings).fit(*sample)
        assert tagger.network_.theta.tobytes() == wanted.tobytes()
        assert clone(tagger).fit(*sample).network_.theta.tobytes() == wanted.tobytes()
        tagger.save(tmp_path / "model")
        again = load(tmp_path / "model")
        assert same(again.predict_proba(sample[0]), tagger.predict_proba(sample[0])) and again.embeddings is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "embeddings: expected a file's name, .* got int"),
        (["a", "b", "c"], "got list"),
        ((["a"], np.zeros((2, 3))), r"shape \(1, size\), got \(2, 3\)"),
        (({"a": 1}), r"got \(1,\)"),
        ({}, "got"),
        ({"a": [1, 2], "b": [1]}, "vectors of one size"),
        ({"a": [1, np.nan]}, "the vector of 'a' is not finite"),
        ({"a": [1e300]}, "the vector of 'a' is not finite"),
        ({"a": ["x"]}, "vectors of one size"),
    ],
)
def test_bad_vectors_from_memory(given, message):
    with pytest.raises(DataError, match=message):
        word_vectors(given)


def test_vectors_of_gensim(tmp_path):
    keyed = peer("gensim.models").KeyedVectors(vector_size=2)
    keyed.add_vectors(["news", "café"], np.array([[1, 2], [3, 4]], dtype=np.float32))
    keyed.save_word2vec_format(str(tmp_path / "v.bin"), binary=True)
    keyed.save_word2vec_format(str(tmp_path / "v.txt"), binary=False)

    class Model:
        wv = keyed

    for source in (keyed, Model(), tmp_path / "v.bin", str(tmp_path / "v.txt")):
        words, vectors = word_vectors(source)
        assert words == ["news", "café"] and vectors.tolist() == [[1, 2], [3, 4]] and vectors.dtype == np.float32
    (tmp_path / "bad.bin").write_bytes(b"not vectors at all")
    with pytest.raises(DataError, match=r"bad\.bin: cannot be read as word2vec's binary form"):
        word_vectors(tmp_path / "bad.bin")


def test_binary_vectors_without_gensim(tmp_path, monkeypatch):
    for name in ("gensim", "gensim.models"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataError, match="need gensim: pip install gensim"):
        word_vectors(tmp_path / "v.bin")
    (tmp_path / "v").write_bytes(b"1 2\nnews \x00\x00\xff\x3f\x00\x00\x00\x40\n")
    with pytest.raises(DataError, match="line 2: not UTF-8 text; word2vec's binary form takes gensim"):
        word_vectors(tmp_path / "v")
