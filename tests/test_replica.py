"""The replica beside the program in plain NumPy: generators, windows, derivatives, updates, predictions."""

import numpy as np
import pytest
from replica_reference import Program

from rnncore._core.cxx_random import LibcxxShuffle, LibstdcxxShuffle, OpenCVRandom
from rnncore._core.replica import Engine
from rnncore._core.replica_rows import Windows
from rnncore.data.readers import DataError
from rnncore.datasets import news_requests, splits
from rnncore.replica import Config, HiddenLayer, Replica, check_gradients
from rnncore.replica.gradients import derivatives
from rnncore.replica.model import matrix_names, memory_at
from rnncore.replica.pipeline import Alphabet, Geometry, merge_digits, training_count

WORDS, CLASSES, BATCH = 11, 4, 9
NETS = [  # version, layers, words in a window, probability of keeping
    ("1.0", [7], 3, [1.0]),
    ("1.0", [16, 5], 4, [1.0, 1.0]),
    ("1.0", [9, 8, 3], 2, [0.5, 1.0, 0.8]),
    ("1.0", [6], 1, [1.0]),
    ("1.1", [7], 5, [1.0]),
    ("1.1", [10, 6], 4, [1.0, 1.0]),
    ("1.1", [5, 8], 3, [0.7, 0.6]),
    ("1.1", [6], 1, [1.0]),
    ("1.1", [33], 2, [0.5]),
]


def pair(version, hidden, ngram, keep, aliased=True, threads=1, share=True):
    """The engine and the program with the same weights, windows and generators' states."""
    both = version == "1.1"
    decay = [0.01 * (i + 1) for i in range(len(hidden))]
    random = OpenCVRandom()
    program = Program(both, WORDS, hidden, CLASSES, keep, decay, 0.02, aliased, OpenCVRandom().uniform)
    engine = Engine(WORDS, hidden, CLASSES, ngram, 2 if both else 1, keep, decay, 0.02, BATCH, aliased, threads, share)
    for name, *ours in matrix_names(version, len(hidden)):
        shape = program.theta[name].shape
        engine.set(*ours, (random.uniform(-1, 1, shape) * 0.12).T)
    rng = np.random.default_rng(5)
    x = rng.integers(0, WORDS, (40, ngram)) % rng.integers(2, WORDS, (40, 1))  # some begin or end alike
    y = rng.integers(0, CLASSES, (ngram if both else 1, 40))
    return engine, program, Windows(x, y, WORDS, both), random


def batch_of(windows, number):
    rows = np.random.default_rng(number).permutation(len(windows))[:BATCH]
    return rows, windows.x[rows], windows.targets[:, rows]


@pytest.mark.kernels
@pytest.mark.parametrize("net", [net for net in NETS if min(net[3]) == 1], ids=str)
def test_gradients_and_curvatures_are_those_of_the_naive_loop(net):
    engine, program, windows, _ = pair(*net, aliased=False)
    rows, x, y = batch_of(windows, 0)
    names = matrix_names(net[0], len(net[1]))
    found = derivatives(engine, windows, rows, [tuple(rest) for _, *rest in names])
    _, g, c = program.cost_and_derivatives(x, y)
    for name, *ours in names:
        np.testing.assert_allclose(found[tuple(ours)][0].T, g[name], rtol=1e-9, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(found[tuple(ours)][1].T, c[name], rtol=1e-9, atol=1e-15, err_msg=name)


@pytest.mark.kernels
@pytest.mark.parametrize("aliased", [True, False])
@pytest.mark.parametrize("net", NETS, ids=str)
def test_iterations_are_those_of_the_program(net, aliased):
    engine, program, windows, random = pair(*net, aliased=aliased)
    for k in (0, 1, 2, 31, 32):
        rows, x, y = batch_of(windows, k)
        costs = engine.iterate(windows, rows, random, *memory_at(k), 3e-3, 1e-2)
        np.testing.assert_allclose(costs, program.iterate(x, y, k, 3e-3), rtol=1e-10)
    for name, *ours in matrix_names(net[0], len(net[1])):
        np.testing.assert_allclose(engine.get(*ours).T, program.theta[name], rtol=1e-9, atol=1e-12, err_msg=name)
    np.testing.assert_array_equal(engine.predict(windows), program.predict(windows.x))


@pytest.mark.kernels
@pytest.mark.parametrize("net", [NETS[1], NETS[5], NETS[6], ("1.0", [130], 3, [1.0])], ids=str)
def test_the_bits_do_not_depend_on_the_number_of_threads(net):
    found = []
    for threads in (1, 2, 5):
        engine, _, windows, random = pair(*net, threads=threads)
        costs = [engine.iterate(windows, batch_of(windows, k)[0], random, 0.5, 0.5, 3e-3, 1e-2) for k in range(4)]
        found.append((costs, [engine.get(*ours) for _, *ours in matrix_names(net[0], len(net[1]))]))
    for costs, weights in found[1:]:
        assert costs == found[0][0]
        assert all(np.array_equal(a, b) for a, b in zip(weights, found[0][1], strict=True))


@pytest.mark.parametrize("net", [NETS[1], NETS[4]], ids=str)
def test_windows_that_share_rows_give_what_single_windows_give(net):
    shared, _, windows, random = pair(*net, share=True)
    single, *_ = pair(*net, share=False)
    for k in range(5):
        rows = batch_of(windows, k)[0]
        one = shared.iterate(windows, rows, random, 0.5, 0.5, 3e-3, 1e-2)
        np.testing.assert_allclose(one, single.iterate(windows, rows, random, 0.5, 0.5, 3e-3, 1e-2), rtol=1e-12)
    np.testing.assert_array_equal(shared.predict(windows), single.predict(windows))


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_the_gradient_check_passes_and_finds_a_wrong_gradient(version, monkeypatch):
    config = Config(hidden=(HiddenLayer(12, 0.01, keep=0.5), HiddenLayer(7)), ngram=3)
    data = news_requests(60)
    assert all(one.passed for one in check_gradients(Replica(version, config), *data, per_matrix=12))
    from rnncore.replica import gradients

    right = gradients.derivatives

    def wrong(*arguments):
        return {name: (gradient * 1.001, curvature) for name, (gradient, curvature) in right(*arguments).items()}

    monkeypatch.setattr(gradients, "derivatives", wrong)
    assert not any(one.passed for one in check_gradients(Replica(version, config), *data, per_matrix=12))


@pytest.mark.parametrize(
    ("compiled", "plain"), [(LibcxxShuffle, splits.LibcxxShuffle), (LibstdcxxShuffle, splits.LibstdcxxShuffle)]
)
def test_shuffles_go_on_as_the_libraries_do(compiled, plain):
    fast, slow = compiled(), plain()
    for n in (1000, 1, 2, 3, 64, 65, 8901, 0, 17):
        items = np.arange(n)
        fast.shuffle(items)
        assert items.tolist() == slow(list(range(n)))


def test_first_weights_are_opencvs():
    random, state, expected = OpenCVRandom(), 0xFFFFFFFF, []
    for _ in range(5):
        state = ((state & 0xFFFFFFFF) * 4164903690 + (state >> 32)) % 2**64
        turned = (state >> 32 | state << 32) % 2**64
        expected.append((turned - 2**64 if turned >= 2**63 else turned) * 2.0**-63)
    np.testing.assert_array_equal(random.uniform(-1.0, 1.0, (5,)), expected)
    assert random.state == state


def test_digits_are_merged_where_the_original_merges_them():
    assert merge_digits([["360", "a1", "²", "0"]]) == [["___DIGIT___", "a1", "²", "___DIGIT___"]]
    alphabet = Alphabet.of([["b", "a"], ["a", "c"]], [["O", "X"], ["Y", "O"]])
    assert alphabet.words == ["b", "a", "c", "___UNDEFINED___", "___PADDING___"]
    assert alphabet.labels == ["___PADDING___", "O", "X", "Y"]
    assert training_count(1000, 0.8) == 800
    assert training_count(10, 0.7) == 7  # single precision: 10 · 0.7f is 7 and not a hair less


@pytest.mark.parametrize(("version", "ngram", "windows"), [("1.0", 3, 5), ("1.0", 4, 5), ("1.1", 5, 5), ("1.1", 4, 7)])
def test_windows_and_targets(version, ngram, windows):
    geometry = Geometry(version, ngram)
    ids = {"a": 0, "b": 1, "___UNDEFINED___": 2, "___PADDING___": 3}
    sentences = [["a", "b", "z"], ["b", "b"]]
    x = geometry.encode(sentences, ids)
    assert x.shape == (windows, ngram)
    middle = x[geometry.of_words(sentences), geometry.place]
    assert middle.tolist() == [0, 1, 2, 1, 1]
    y = geometry.targets([["O", "P", "Q"], ["P", "O"]], {"___PADDING___": 0, "O": 1, "P": 2, "Q": 3})
    assert y.shape == (ngram if version == "1.1" else 1, windows)
    assert y[geometry.place if version == "1.1" else 0, geometry.of_words(sentences)].tolist() == [1, 2, 3, 2, 1]
    if version == "1.1" and ngram % 2 == 0:  # one more per sentence, whose middle is padding
        assert y[geometry.place, ~geometry.of_words(sentences)].tolist() == [0, 0]


def test_a_run_counts_iterations_as_the_original_and_learns():
    sentences, tags = news_requests(200)
    config = Config(epochs=3, iterations=40, hidden=(HiddenLayer(32),))
    lines = []
    replica = Replica("1.0", config).fit(sentences, tags, on_iteration=lambda *line: lines.append(line))
    assert replica.costs_.shape == (121, 4)
    assert [line[:2] for line in lines][39:43] == [(1, 39), (1, 40), (2, 41), (2, 42)]
    assert [record["iterations"] for record in replica.history_] == [41, 81, 121]
    assert replica.costs_[-10:, 0].mean() < 0.8 * replica.costs_[0, 0]
    again = Replica("1.0", config, n_threads=2).fit(sentences, tags)
    np.testing.assert_array_equal(again.costs_, replica.costs_)
    found = replica.predict([["top", "news"], [], ["nonsense"]])
    assert [len(labels) for labels in found] == [2, 0, 1]


def test_unusable_input_is_refused():
    sentences, tags = news_requests(20)
    with pytest.raises(DataError, match="BATCH_SIZE is 5000, but there are"):
        Replica("1.0", Config(batch_size=5000)).fit(sentences, tags)
    with pytest.raises(DataError, match="1 sentences leave none"):
        Replica("1.0").fit(sentences[:1], tags[:1])
    with pytest.raises(DataError, match="one tag for every word"):
        Replica("1.0").fit(sentences, tags[1:])
    with pytest.raises(ValueError, match=r"1\.0, 1\.1"):
        Replica("2.0")
    with pytest.raises(ValueError, match="at least one hidden layer"):
        Replica("1.0", Config(hidden=()))
    with pytest.raises(RuntimeError, match="call fit"):
        Replica("1.0").predict([["a"]])
