"""Edit distance, held against its definition."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rnncore._edits as edits
from rnncore.metrics import edit_distance, edit_distances, error_rate


def by_definition(own, other):
    @cache
    def distance(i, j):
        if not i or not j:
            return i + j
        return min(
            distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (own[i - 1] != other[j - 1])
        )

    return distance(len(own), len(other))


@given(pairs=st.lists(st.tuples(st.text("abc", max_size=9), st.text("abc", max_size=9)), max_size=8))
def test_all_pairs_at_once_have_the_distances_of_the_definition(pairs):
    true, predicted = [own for own, _ in pairs], [other for _, other in pairs]
    wanted = [by_definition(own, other) for own, other in pairs]
    assert edit_distances(true, predicted).tolist() == wanted
    assert [edit_distance(own, other) for own, other in pairs] == wanted


def test_blocks_of_pairs_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    true = [rng.integers(0, 4, rng.integers(0, 30)).tolist() for _ in range(50)]
    predicted = [rng.integers(0, 4, rng.integers(0, 30)).tolist() for _ in range(50)]
    wanted = [by_definition(own, other) for own, other in zip(true, predicted, strict=True)]
    monkeypatch.setattr(edits, "_BLOCK", 40)
    assert edit_distances(true, predicted).tolist() == wanted


def test_labels_of_any_kind_are_compared():
    assert edit_distance(["ab", 3, ("x",)], ["ab", 4, ("x",)]) == 1
    assert edit_distance(np.array([1, 2, 3]), [1, 3]) == 1
    assert edit_distance("né", "ne") == 1


def test_the_error_rate_divides_by_what_is_true():
    assert error_rate([["a", "b"], ["c"]], [["a"], ["d"]]) == 2 / 3
    assert error_rate(["a"], ["abcd"]) == 3.0
    assert error_rate([], []) == 0.0
    assert error_rate([""], [""]) == 0.0
    assert error_rate([""], ["x"]) == float("inf")


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="as many of either, got 2 and 1"):
        edit_distances(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="got one string"):
        edit_distances("ab", "ab")
    with pytest.raises(ValueError, match="got 7 as number 1"):
        error_rate(["ab", 7], ["ab", "c"])
