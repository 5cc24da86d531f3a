"""Words as their letters, and taggers that read them."""

import json

import numpy as np
import pytest

import rnncore as rc
from rnncore.data.letters import LetterEncoder
from rnncore.data.readers import DataError
from rnncore.datasets import news_requests

SETTINGS = {"letters": 6, "hidden_size": 8, "max_epochs": 2}


@pytest.fixture(scope="module")
def sample():
    return news_requests(60)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


# -- letters as numbers -----------------------------------------------------------------------------------------------


def test_letters_of_one_word_alone_are_unknown():
    encoder = LetterEncoder().fit([["ab", "ba"], ["xa"]])
    assert encoder.letters == ["a", "b"] and encoder.longest == 2 and encoder.n_symbols == 3
    assert encoder.encode([["ax", "b"], []]).tolist() == [[1, 0], [2, -1]]


def test_long_words_keep_their_ends():
    encoder = LetterEncoder(longest=5).fit([["abcdefgh", "hgfedcba"]])
    first, second = encoder.encode([["abcdefgh", "abcgh"]]).tolist()
    assert first == second and -1 not in first


def test_letters_are_composed_and_have_case():
    encoder = LetterEncoder().fit([["\u00e9a", "\u00e9b", "Aa", "Ab"]])
    assert encoder.letters == ["A", "a", "b", "\u00e9"]
    assert encoder.encode([["e\u0301"]]).tolist() == encoder.encode([["\u00e9"]]).tolist()


def test_letters_survive_a_file_and_bad_ones_do_not():
    encoder = LetterEncoder(longest=7).fit([["news", "new", "\U0001f600s", "\U0001f600n"]])
    again = LetterEncoder.from_json(encoder.to_json())
    assert again.encode([["new\U0001f600", "wens"]]).tolist() == encoder.encode([["new\U0001f600", "wens"]]).tolist()
    with pytest.raises(ValueError, match="1 to 1000 letters"):
        LetterEncoder.from_json({"letters": "ab", "longest": 10**9})


def test_letters_need_words():
    with pytest.raises(DataError, match="letters=0"):
        LetterEncoder().fit([[1, 2]])


def test_no_words_at_all():
    assert LetterEncoder().fit([["ab", "ab"]]).encode([]).shape == (0, 2)


# -- in a tagger ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"head": "softmax", "embedding_size": 5},
        {"affixes": 2, "shapes": True, "window": 1},
        {"affixes": 1, "skip": True},
        {"affixes": 1, "skip": "only"},
        {"window": 0, "affixes": 0, "shapes": False, "skip": True, "dtype": "float64"},
    ],
    ids=str,
)
def test_learns_saves_and_loads(sample, tmp_path, settings):
    tagger = rc.SequenceTagger(**SETTINGS | settings).fit(*sample)
    assert tagger.history_[-1]["loss"] < tagger.history_[0]["loss"]
    assert any(name.startswith("inputs.letters") for name in tagger.network_.params)
    tagger.save(tmp_path / "model")
    again = rc.load(tmp_path / "model")
    assert same(tagger.predict_proba(sample[0]), again.predict_proba(sample[0]))
    assert again.get_params() == tagger.get_params()
    again.partial_fit(*sample)


def test_letters_are_trained(sample):
    settings = SETTINGS | {"max_epochs": 1, "random_state": 3}
    begun, learned = (rc.SequenceTagger(**settings, learning_rate=rate).fit(*sample) for rate in (0.0, 0.1))
    for name, array in begun.network_.params.items():
        if name.startswith("inputs."):
            assert not np.array_equal(array, learned.network_.params[name]), name


def test_spelling_alone_tells_unknown_words_apart():
    """Endings say everything, and no word of the test was there before."""
    rng = np.random.default_rng(0)

    def words(n, ending):
        return ["".join(rng.choice(list("bcdfgklmnprst"), 5)) + ending for _ in range(n)]

    def data(n):
        sentences, tags = [], []
        for _ in range(n):
            kinds = rng.integers(0, 3, 4)
            sentences.append([words(1, ("oq", "uq", "eq")[kind])[0] for kind in kinds])
            tags.append([("x", "y", "z")[kind] for kind in kinds])
        return sentences, tags

    train, test = data(80), data(40)
    plain = {"window": 0, "affixes": 0, "shapes": False, "max_epochs": 30, "hidden_size": 8}
    assert rc.SequenceTagger(letters=8, **plain).fit(*train).score(*test) > 0.98
    assert rc.SequenceTagger(**plain).fit(*train).score(*test) < 0.5


def test_the_same_bits_for_any_number_of_threads(sample):
    one, three = (rc.SequenceTagger(**SETTINGS, n_threads=n).fit(*sample).network_.theta.tobytes() for n in (1, 3))
    assert one == three


def test_resumes_to_the_bit(sample, tmp_path):
    settings = SETTINGS | {"max_epochs": 3}
    whole = rc.SequenceTagger(**settings).fit(*sample)
    stopping = rc.SequenceTagger(**settings, callbacks=[lambda record: record["epoch"] == 1])
    stopping.fit(*sample, checkpoint=tmp_path / "c", checkpoint_every=0)
    resumed = rc.SequenceTagger(**settings).fit(*sample, resume=tmp_path / "c")
    assert resumed.network_.theta.tobytes() == whole.network_.theta.tobytes()


def test_words_one_by_one(sample):
    tagger = rc.SequenceTagger(**SETTINGS, bidirectional=False, head="softmax", affixes=2).fit(*sample)
    label_of = tagger.stream()
    sentence = ["top", "nowhere", "x" * 60]
    assert [label_of(word) for word in sentence] == tagger.predict([sentence])[0]


def test_pretrained_vectors_beside_letters(sample):
    vectors = np.arange(10, dtype="float32").reshape(2, 5) / 10
    tagger = rc.SequenceTagger(**SETTINGS, embeddings=(["news", "never"], vectors), affixes=0, shapes=False, window=0)
    tagger.set_params(learning_rate=0.0, max_epochs=1).fit(*sample)
    table = tagger.network_.params["inputs.words.E"]
    assert np.array_equal(table[tagger.encoder_.encode([["news", "never"]])], vectors)


def test_onnx_says_the_same(sample, tmp_path):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    tagger = rc.SequenceTagger(**SETTINGS, head="softmax", affixes=0, shapes=False, window=0).fit(*sample)
    tagger.to_onnx(tmp_path / "tagger.onnx")
    sentence = ["top", "news", "nowhere"]
    about = json.loads(onnx.load(tmp_path / "tagger.onnx").metadata_props[0].value)
    spelling = LetterEncoder.from_json(about["spelling"])
    words = tagger.encoder_.encode([sentence]).astype(np.int64)[:, None]
    letters = spelling.encode([sentence]).astype(np.int64)[:, None]
    session = onnxruntime.InferenceSession(str(tmp_path / "tagger.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(
        ["probabilities"], {"words": words, "letters": letters, "lengths": np.array([3], dtype=np.int64)}
    )
    assert np.allclose(found[:, 0], tagger.predict_proba([sentence])[0], atol=1e-5)


@pytest.mark.parametrize(
    "tokens", [[[1, 2], [3]], [[{"a": 1}], [{"b": 1}]], [np.zeros((2, 3)), np.ones((1, 3))]], ids=str
)
def test_tokens_without_letters(tokens):
    tags = [["a"] * len(one) for one in tokens]
    with pytest.raises(DataError, match="letters=0"):
        rc.SequenceTagger(letters=3).fit(tokens, tags)


@pytest.mark.parametrize("letters", [-1, 1.5, "8", None])
def test_bad_settings(sample, letters):
    with pytest.raises((ValueError, TypeError), match="letters"):
        rc.SequenceTagger(letters=letters).fit(*sample)
