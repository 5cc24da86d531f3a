"""The made tasks: each has the properties that its source gives it."""

import re
from collections import Counter
from itertools import product

import numpy as np
import pytest

from rnncore import datasets as ds


def test_temporal_xor():
    bits = ds.temporal_xor(3000, 1)
    a, b, c = bits.reshape(-1, 3).T
    assert bits.shape == (3000,) and set(bits.tolist()) == {0, 1}
    assert (c == a ^ b).all()
    assert 400 < a.sum() < 600 and 400 < (a ^ b).sum() < 600
    assert len(ds.temporal_xor(100)) == 100


def test_delayed_xor():
    x, y = ds.delayed_xor(50, 30, 2)
    assert x.shape == y.shape == (50, 30)
    assert (y[:, :2] == -1).all() and (y[:, -2:] == -1).all()
    for t in range(2, 28):
        assert (y[:, t] == x[:, t - 2] ^ x[:, t + 2]).all()
    # Nothing is to be learned from the bits up to now: given any two of them, y is still even.
    inner, past, now = y[:, 2:-2].ravel(), x[:, :-4].ravel(), x[:, 2:-2].ravel()
    for kind in range(4):
        assert abs(inner[2 * past + now == kind].mean() - 0.5) < 0.1


def test_parity():
    x, y = ds.parity(20, 40)
    assert all(y[n, t] == x[n, : t + 1].sum() % 2 for n in range(20) for t in range(40))


def test_copied_vectors():
    x, targets, lengths, counted = ds.copied_vectors(30, 2, 5, bits=3, random_state=1)
    for b, length in enumerate(lengths):
        n = length // 2
        assert 2 <= n <= 5 and not x[n + 1 :, b].any() and (x[: n + 1, b, 3] == (np.arange(n + 1) == n)).all()
        assert np.array_equal(targets[n + 1 : length, b], x[:n, b, :3]) and not targets[: n + 1, b].any()
        assert np.array_equal(np.flatnonzero(counted[:, b]), np.arange(n + 1, length))
    with pytest.raises(ValueError, match="longest must be at least 2"):
        ds.copied_vectors(1, shortest=2, longest=1)


def test_copying():
    x, y = ds.copying(20, length=5, gap=7, n_symbols=4)
    assert x.shape == y.shape == (20, 17)
    assert (y[:, 12:] == x[:, :5]).all() and set(x[:, :5].ravel().tolist()) == {1, 2, 3, 4}
    assert (y[:, :12] == 0).all() and (x[:, 5:12] == 0).all() and (x[:, 13:] == 0).all()
    assert (x[:, 12] == 5).all()


def test_letters():
    text, codes = ds.letters(1000, 2)
    counts = Counter(text)
    assert counts["b"] + counts["d"] + counts["g"] == 1000
    assert (counts["a"], counts["i"], counts["u"]) == (counts["b"], 2 * counts["d"], 3 * counts["g"])
    assert text.replace("guuu", "").replace("dii", "").replace("ba", "") == ""
    assert codes.shape == (len(text), 6) and len(set(ds.LETTER_CODES.values())) == 6
    assert codes[:, 0].sum() == 1000 and (codes[:, 0] + codes[:, 1] == 1).all()


def test_reber():
    strings = ds.reber(2000)
    after = {string: ds.reber_successors(string) for string in strings}
    assert min(map(len, strings)) == 5
    for string, legal in after.items():
        assert all(symbol in "BTSXPVE" for symbol in string)
        assert all(symbol in options for symbol, options in zip(string[1:], legal, strict=False)) and legal[-1] == ""
    assert {string[1] for string in strings} == {"T", "P"}
    # the shortest strings, BTXSE and BPVVE, take three choices of two each
    shortest = Counter(string for string in strings if len(string) == 5)
    assert set(shortest) == {"BTXSE", "BPVVE"} and all(170 < count < 330 for count in shortest.values())
    for bad in ("", "B", "BTXS", "BTXSEE", "BTPE", "BXE"):
        with pytest.raises(ValueError, match="Reber grammar"):
            ds.reber_successors(bad)


def test_embedded_reber():
    strings = ds.embedded_reber(512, distinct=True)
    assert len(set(strings)) == 512
    for string in strings:
        legal = ds.reber_successors(string, embedded=True)
        assert string[1] == string[-2] and legal[-3] == string[1] and len(legal) == len(string)
        assert all(symbol in options for symbol, options in zip(string[1:], legal, strict=False))
    assert {string[1] for string in strings} == {"T", "P"}
    for bad in ("BTBTXSEPE", "BTE", "", "BXBTXSEXE"):
        with pytest.raises(ValueError, match="Reber grammar"):
            ds.reber_successors(bad, embedded=True)
    stream = ds.continual_reber(50)
    assert stream == "".join(ds.embedded_reber(50))


def test_adding_problem_as_in_1997():
    x, y = ds.adding_problem(400, 100)
    assert {len(part) for part in x} == set(range(100, 111))
    for part, target in zip(x, y, strict=True):
        numbers, marks = part.T
        marked = np.flatnonzero(marks == 1)
        assert len(marked) == 2 and marked[0] < 10 and marked[1] < 50
        assert target == pytest.approx(0.5 + numbers[marked].sum() / 4)
        assert marks[-1] == -1 and (marks[0] == -1 or 0 in marked)
        assert set(marks[1:-1].tolist()) == {0, 1} and np.abs(numbers).max() <= 1
        assert 0 not in marked or numbers[0] == 0


def test_adding_problem_of_today():
    x, y = ds.adding_problem(4000, 50, form="modern")
    for part, target in zip(x, y, strict=True):
        marked = np.flatnonzero(part[:, 1])
        assert part.shape == (50, 2) and marked[0] < 25 <= marked[1] and target == part[marked, 0].sum()
    assert np.mean((y - 1) ** 2) == pytest.approx(1 / 6, rel=0.1)


def test_sine():
    wave = ds.sine(200, period=20)
    assert np.allclose(wave[20:], wave[:-20]) and np.allclose(wave[10:], -wave[:-10])
    assert np.std(ds.sine(2000, noise=0.1) - ds.sine(2000)) == pytest.approx(0.1, rel=0.1)


def test_mackey_glass():
    series = ds.mackey_glass(5000)
    assert series.shape == (5000,) and 0.2 < series.min() < 0.5 and 1.2 < series.max() < 1.4
    assert series.var() == pytest.approx(0.052, abs=0.004)
    # its own equation, over one kept step: ten small ones with the past in between taken as linear
    now, past, past_next = series[17:-1], series[:-18], series[1:-17]
    for k in range(10):
        then = past + (past_next - past) * k / 10
        now = now + 0.1 * (0.2 * then / (1 + then**10) - 0.1 * now)
    assert np.abs(now - series[18:]).max() < 0.01
    assert np.allclose(ds.mackey_glass(50, squash=True), np.tanh(ds.mackey_glass(50) - 1))
    assert ds.mackey_glass(2000, tau=30).var() > 0.06


@pytest.mark.parametrize(
    ("number", "accepted"), [(1, 13), (2, 7), (3, 1917), (4, 3735), (5, 2731), (6, 2731), (7, 1092)]
)
def test_tomita(number, accepted):
    strings = ds.tomita_strings(12)
    assert len(set(strings)) == 8191
    assert sum(ds.tomita_accepts(number, string) for string in strings) == accepted
    drawn, belongs = ds.tomita(number, 200)
    assert belongs.sum() == 100
    assert [ds.tomita_accepts(number, string) for string in drawn] == belongs.astype(bool).tolist()
    drawn, belongs = ds.tomita(number, 200, max_length=5, balanced=False)
    assert max(map(len, drawn)) == 5 and len(drawn) == len(belongs) == 200


def test_anbn():
    assert ds.anbn(4) == ["ab", "aabb", "aaabbb", "aaaabbbb"]
    assert all(string == "a" * (len(string) // 2) + "b" * (len(string) // 2) for string in ds.anbn(9, 50))


@pytest.mark.parametrize(("digits", "distractors"), [(1, 0), (2, 0), (3, 2)])
def test_arithmetic(digits, distractors):
    problems = ds.arithmetic(500, digits, distractors)
    seen = set()
    for problem in problems:
        question, answer = problem.split("=")
        assert set(problem) <= set(ds.ARITHMETIC_SYMBOLS) and answer[-1] == "."
        numbers = "".join(c for c in question if not c.isalpha()).split("+")
        assert sum(map(int, numbers)) == int(answer[:-1])
        assert all(number == str(int(number)) and len(number) <= digits for number in numbers)
        noise = re.findall("[a-z]+", question)
        assert max(map(len, noise), default=0) <= distractors and not problem[0].isalpha()
        seen |= {(*map(len, numbers),)} | {len(part) for part in noise}
    lengths = range(1, digits + 1)
    assert seen == {*product(lengths, lengths), *range(1, distractors + 1)}


@pytest.mark.parametrize(
    "make",
    [
        ds.temporal_xor,
        ds.delayed_xor,
        ds.parity,
        ds.copying,
        ds.letters,
        ds.reber,
        ds.embedded_reber,
        ds.adding_problem,
        ds.arithmetic,
        ds.continual_reber,
        ds.sine,
        lambda random_state: ds.tomita(4, random_state=random_state),
        lambda random_state: ds.mackey_glass(100, random_state=random_state),
        lambda random_state: ds.anbn(9, 50, random_state),
    ],
)
def test_the_seed_decides(make):
    first, again, other = (repr(make(random_state=seed)) for seed in (3, 3, 4))
    assert first == again != other


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ds.temporal_xor(-1), "n_bits must be at least 0"),
        (lambda: ds.delayed_xor(1, 4, 2), "length must be at least 5"),
        (lambda: ds.adding_problem(1, 9), "length must be at least 10"),
        (lambda: ds.adding_problem(1, form="new"), "form must be one of original, modern"),
        (lambda: ds.arithmetic(1, 0), "digits must be at least 1"),
        (lambda: ds.arithmetic(1, 2, -1), "distractors must be at least 0"),
        (lambda: ds.sine(10, period=0), "period must be above 0"),
        (lambda: ds.mackey_glass(tau=0), "tau must be at least 1"),
        (lambda: ds.tomita_accepts(8, ""), "numbers 1 to 7, got 8"),
        (lambda: ds.tomita_accepts(1, "2"), "0 and 1, got '2'"),
        (lambda: ds.tomita(1, max_length=0), "take more"),
        (lambda: ds.anbn(0), "max_n must be at least 1"),
    ],
)
def test_arguments_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()
