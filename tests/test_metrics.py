"""Entities by conlleval's rules, labels confused, known and unknown words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnncore.metrics import Tally, are_chunks, confusions, entities, entity_scores, evaluation, label_scores


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("", ""),
        ("O O", ""),
        ("B-X I-X O", "X02"),
        ("B-X B-X", "X01 X12"),
        ("I-X I-X", "X02"),  # IOB1: I starts one after O
        ("I-X B-X", "X01 X12"),  # and B divides two
        ("B-X I-Y", "X01 Y12"),  # another type starts another entity, whatever its place
        ("I-X I-Y I-Y", "X01 Y13"),
        ("O I-X", "X12"),
        ("S-X S-X", "X01 X12"),
        ("B-X E-X", "X02"),
        ("B-X I-X E-X O", "X03"),
        ("B-X E-X I-X", "X02 X23"),  # nothing continues an entity that ended
        ("B-X E-X E-X", "X02 X23"),
        ("S-X I-X", "X01 X12"),
        ("E-X", "X01"),
        ("I-X S-X", "X01 X12"),
        ("B-a-b I-a-b", "a-b02"),  # the type goes from the first dash on
        ("B I O", "02"),  # places without a type
        ("B-X O B-X", "X01 X23"),
    ],
)
def test_entities(labels, expected):
    assert " ".join(f"{e.kind}{e.start}{e.end}" for e in entities(labels.split())) == expected


def test_a_published_outcome():
    """The example with which seqeval, which repeats conlleval, presents itself: F1 0.50, MISC 0.00, PER 1.00."""
    true = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    predicted = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    scores = entity_scores(true, predicted)
    assert scores["all"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "there": 2, "found": 2, "right": 1}
    assert scores["MISC"]["f1"] == 0.0 and scores["PER"]["f1"] == 1.0
    assert evaluation(true, predicted)["accuracy"] == 0.8


def test_counted_by_hand():
    true = ["B-A I-A O B-B", "B-A B-A I-A", "O B-C I-C", "O"]
    predicted = ["B-A I-A O B-A", "B-A I-A I-A", "O B-C I-C", "B-D"]
    scores = entity_scores([row.split() for row in true], [row.split() for row in predicted])
    counts = {name: (row["there"], row["found"], row["right"]) for name, row in scores.items()}
    assert counts == {"A": (3, 3, 1), "B": (1, 0, 0), "C": (1, 1, 1), "D": (0, 1, 0), "all": (5, 5, 2)}
    assert scores["A"]["precision"] == scores["A"]["recall"] == scores["A"]["f1"] == 1 / 3
    assert scores["B"]["precision"] == scores["D"]["recall"] == scores["B"]["f1"] == 0.0
    assert list(scores) == ["A", "B", "C", "D", "all"]


def test_labels_and_confusions():
    true, predicted = [["N", "V", "V"], ["N"]], [["N", "N", "N"], ["V"]]
    assert confusions(true, predicted) == [("V", "N", 2), ("N", "V", 1)]
    scores = label_scores(true, predicted)
    assert (scores["N"]["precision"], scores["N"]["recall"], scores["V"]["f1"]) == (1 / 3, 1 / 2, 0.0)
    assert scores["all"]["f1"] == 0.25
    assert label_scores([[1, 0]], [[1, 1]])["1"]["found"] == 2


def test_evaluation():
    true, predicted = [["O", "B-X"], ["O"]], [["O", "B-X"], ["B-X"]]
    result = evaluation(true, predicted, known=np.array([True, True, False]))
    assert (result["accuracy"], result["correct"], result["total"]) == (2 / 3, 2, 3)
    assert result["known"] == {"accuracy": 1.0, "correct": 2, "total": 2}
    assert result["unknown"] == {"accuracy": 0.0, "correct": 0, "total": 1}
    assert result["entities"]["X"]["precision"] == 0.5
    assert result["confusions"] == [["O", "B-X", 1]]
    assert evaluation([["a"]], [["a"]], np.array([True]))["unknown"]["accuracy"] is None
    assert evaluation([[0, 1]], [[0, 0]])["entities"] is None
    with pytest.raises(ValueError, match="zip"):
        evaluation([["a"]], [["a", "b"]])


def test_chunk_labels_are_told_from_others():
    assert are_chunks(["O", "B-X"]) and are_chunks(["S-X", "E-Y"])
    assert not are_chunks(["O"]) and not are_chunks([0, 1]) and not are_chunks(["B-X", "NOUN"])


@given(st.lists(st.sampled_from(["O", *(f"{place}-{kind}" for place in "BIES" for kind in "XY")]), max_size=12))
def test_entities_cover_all_but_o(labels):
    """Whatever the labels: entities do not overlap, have one type, and leave nothing but O outside."""
    found = entities(labels)
    inside = [step for entity in found for step in range(entity.start, entity.end)]
    assert inside == [step for step, label in enumerate(labels) if label != "O"]
    assert all(labels[step][2:] == entity.kind for entity in found for step in range(entity.start, entity.end))
    assert entity_scores([labels], [labels])["all"]["right"] == len(found)


@pytest.mark.parametrize("labels", [["O", "B-X", "I-X", "B-Y"], ["O", "B-X", "other"], ["O"], [1, 2, 3]])
def test_piece_by_piece_is_all_at_once(labels):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 9, 30)
    true, predicted = ([rng.choice(np.array(labels, dtype=object), n).tolist() for n in lengths] for _ in range(2))
    known = rng.random(lengths.sum()) < 0.5
    ends = np.cumsum(lengths)
    tally = Tally()
    for start in range(0, 30, 7):
        stop = min(start + 7, 30)
        some = slice(ends[start] - lengths[start], ends[stop - 1])
        tally.add(true[start:stop], predicted[start:stop], known[some])
    assert tally.result() == evaluation(true, predicted, known)
    assert "known" not in Tally().result() and Tally().result()["accuracy"] is None
