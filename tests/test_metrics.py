"""Entities by conlleval's rules, labels confused, known and unknown words."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import peer

from rnncore.cli.tables import show_evaluation
from rnncore.metrics import (
    SCHEMES,
    Reliability,
    Tally,
    are_chunks,
    calibration,
    confusions,
    entities,
    entity_averages,
    entity_scores,
    evaluation,
    label_scores,
    row_names,
)
from rnncore.plots import plot_reliability


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
        ("B-X L-X", "X02"),  # BILOU
        ("B-X I-X L-X U-X", "X03 X34"),
        ("U-X U-X L-X", "X01 X12 X23"),
        ("L-X", "X01"),
        ("B-X L-X I-X", "X02 X23"),
        ("I-X E-X I-X E-X", "X02 X24"),  # IOE2
        ("I-X I-Y E-Y", "X01 Y13"),
        ("B L U I O", "02 23 34"),
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
    assert are_chunks(["O", "B-X"]) and are_chunks(["S-X", "E-Y"]) and are_chunks(["U-X", "L-X"])
    assert are_chunks(["B", "I", "O"]) and are_chunks(["I", "O", "E"]) and not are_chunks(["U", "L"])
    assert not are_chunks(["O"]) and not are_chunks([0, 1]) and not are_chunks(["B-X", "NOUN"])


@given(st.lists(st.sampled_from(["O", *(f"{place}-{kind}" for place in "BIESLU" for kind in "XY")]), max_size=12))
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


@pytest.mark.parametrize(
    ("scheme", "labels", "expected"),
    [
        ("IOB2", "I-X B-X I-X I-Y B-Y", "X13 Y45"),
        ("IOE2", "I-X I-X O I-X E-X E-X I-X", "X35 X56"),
        ("IOBES", "B-X I-X O B-X E-X S-X I-X E-X", "X35 X56"),
        ("BILOU", "B-X L-Y B-X I-X L-X U-Y", "X25 Y56"),
    ],
)
def test_strict_entities(scheme, labels, expected):
    assert " ".join(f"{e.kind}{e.start}{e.end}" for e in entities(labels.split(), scheme)) == expected


PLACES = {"IOB2": "BI", "IOE2": "IE", "IOBES": "BIES", "BILOU": "BILU"}


@pytest.mark.parametrize("scheme", SCHEMES)
@given(data=st.data())
def test_strict_entities_are_seqeval_s(scheme, data):
    theirs = getattr(peer("seqeval.scheme"), scheme)
    labels = data.draw(
        st.lists(st.sampled_from(["O", *(f"{p}-{k}" for p in PLACES[scheme] for k in "XY")]), min_size=1)
    )
    found = peer("seqeval.scheme").Entities([labels], theirs).entities[0]
    assert [(e.tag, e.start, e.end) for e in found] == entities(labels, scheme)


@pytest.mark.parametrize("strict", [False, *SCHEMES])
@given(data=st.data())
def test_scores_and_averages_are_seqeval_s(strict, data):
    """Its own mode knows no L and no U, so that one is held against what it was made for."""
    report = peer("seqeval.metrics").classification_report
    kinds = [f"{place}-{kind}" for place in PLACES[strict or "IOBES"] for kind in "XYZ"]
    row = st.lists(st.tuples(*[st.sampled_from(["O", *kinds])] * 2), min_size=1)
    rows = data.draw(st.lists(row, min_size=1))
    true, predicted = ([[pair[side] for pair in pairs] for pairs in rows] for side in (0, 1))
    if not entity_scores(true, predicted, strict)["all"]["there"]:
        return  # it fails where there is nothing to find
    options = {"mode": "strict", "scheme": getattr(peer("seqeval.scheme"), strict)} if strict else {}
    theirs = report(true, predicted, output_dict=True, zero_division=0, **options)
    ours = entity_scores(true, predicted, strict) | {
        f"{name} avg": row for name, row in entity_averages(true, predicted, strict).items()
    }
    for name, row in theirs.items():
        for own, other in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert ours[name][own] == pytest.approx(row[other]), (name, own)


def test_the_scheme_is_found():
    assert entity_scores([["B-X", "L-X", "U-X"]], [["B-X", "I-X", "U-X"]], strict=True)["X"]["right"] == 1
    tally = Tally(strict=True)
    tally.add([["U-X", "O"]], [["U-X", "O"]])
    tally.add([["B-X", "L-X"]], [["B-X", "B-X"]])
    result = tally.result()
    assert result["entities"]["X"]["found"] == 1 and result["averages"]["entities"]["micro"]["right"] == 1
    for bad in ("IOB3", 3):
        with pytest.raises(ValueError, match="strict: expected True or one of IOB2"):
            Tally(bad)
    with pytest.raises(ValueError, match="no scheme has the places E, L"):
        entity_scores([["E-X", "L-X"]], [["E-X", "L-X"]], strict=True)


def test_a_label_called_all():
    true, predicted = [["all", "some", "some"]], [["all", "all", "some"]]
    result = evaluation(true, predicted)
    assert (result["labels"]["all"]["there"], result["labels"]["all"]["found"]) == (1, 2)
    assert result["averages"]["labels"]["micro"]["there"] == 3
    lines = []
    show_evaluation(lambda topic, text: lines.append(text), result)
    rows = {line.split()[0]: line.split()[4:] for line in lines if line.count(".") == 3}
    assert (rows["all"], rows["some"], rows["together"]) == (["1", "2", "1"], ["2", "1", "1"], ["3", "3", "2"])
    assert "mean" in rows and "weighted" in rows
    assert row_names(result["labels"], result["averages"]["labels"]) == ["all", "some"]
    result = entity_scores([["B-all"]], [["B-all"]])
    assert list(result) == ["all"] and result["all"]["there"] == 1


def test_averages():
    scores = entity_averages([["B-A", "B-B", "B-A", "B-A"]], [["B-A", "B-A", "B-A", "O"]])
    assert scores["micro"]["f1"] == 4 / 7 and scores["macro"]["f1"] == pytest.approx(1 / 3)
    assert scores["weighted"]["recall"] == pytest.approx((3 * 2 / 3) / 4)
    assert entity_averages([["O"]], [["O"]])["macro"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_calibration_against_its_definition():
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.random(500), np.arange(11) / 10, [0, 0, 1, 1]])
    right = rng.random(len(p)) < p**2
    found = calibration(p, right, bins=10)
    place = np.array([next(b for b in range(10) if p_i <= (b + 1) / 10) for p_i in p])
    gaps = [abs(right[place == b].mean() - p[place == b].mean()) * (place == b).sum() for b in range(10)]
    assert found["calibration_error"] == pytest.approx(sum(gaps) / len(p)) and found["calibration_error"] > 0.1
    assert found["mean_confidence"] == pytest.approx(p.mean())
    for b, row in enumerate(found["reliability"]):
        assert (row["from"], row["to"], row["count"]) == (b / 10, (b + 1) / 10, (place == b).sum())
        assert row["confidence"] == pytest.approx(p[place == b].mean())
        assert row["accuracy"] == pytest.approx(right[place == b].mean())
    assert calibration([0.3], [True], bins=10)["reliability"][2]["count"] == 1  # an edge is the lower bin's


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), max_size=30), st.integers(1, 20))
def test_reliability_in_pieces(pairs, bins):
    p, right = np.array([p for p, _ in pairs]), np.array([flag for _, flag in pairs])
    pieces = Reliability(bins)
    for start in range(0, len(p), 7):
        pieces.add(p[start : start + 7], right[start : start + 7])
    whole = calibration(p, right, bins)
    assert [row["count"] for row in whole["reliability"]] == [row["count"] for row in pieces.result()["reliability"]]
    assert sum(row["count"] for row in whole["reliability"]) == len(p) and len(whole["reliability"]) == bins
    if not pairs:
        assert whole["calibration_error"] is whole["mean_confidence"] is None
    else:
        assert 0 <= whole["calibration_error"] <= 1
        assert whole["calibration_error"] == pytest.approx(pieces.result()["calibration_error"])
        one = calibration(p, right, 1)["calibration_error"]
        assert one == pytest.approx(abs(p.mean() - right.mean())) and one <= whole["calibration_error"] + 1e-9
    json.dumps(whole, allow_nan=False)


@pytest.mark.parametrize(
    ("p", "right", "bins", "message"),
    [
        ([0.5, 1.5], [True, True], 15, "from 0 to 1, got 1.5"),
        ([-0.1], [True], 15, "from 0 to 1, got -0.1"),
        ([np.nan], [True], 15, "from 0 to 1, got nan"),
        ([0.5], [True, False], 15, r"got \(1,\) and \(2,\)"),
        ([[0.5]], [[True]], 15, "one length"),
        ([0.5], [True], 0, "bins must be"),
        (["a"], [True], 3, "probabilities must be"),
    ],
)
def test_calibration_refuses(p, right, bins, message):
    with pytest.raises(ValueError, match=message):
        calibration(p, right, bins)


def test_an_evaluation_with_probabilities():
    plain = evaluation([["N", "V"], ["V"]], [["N", "N"], ["V"]])
    sure = evaluation([["N", "V"], ["V"]], [["N", "N"], ["V"]], probabilities=np.array([0.9, 0.6, 0.8]))
    assert {name: sure[name] for name in plain} == plain and "mean_confidence" not in plain
    assert set(sure) - set(plain) == {"mean_confidence", "calibration_error", "reliability"}
    assert sure["mean_confidence"] == pytest.approx(2.3 / 3)
    said = []
    show_evaluation(lambda topic, text: said.append(text), sure)
    assert [text for text in said if "confidence" in text] == ["confidence 0.7667 on average, calibration error 0.3000"]
    show_evaluation(lambda topic, text: said.append(text), plain)
    assert len([text for text in said if "confidence" in text]) == 1


@pytest.mark.parametrize("pairs", [([0.95, 0.9, 0.4], [True, False, False]), ([], [])])
def test_a_picture_of_reliability(tmp_path, pairs):
    peer("matplotlib")
    plot_reliability(calibration(*pairs), tmp_path / "r.svg")
    assert (tmp_path / "r.svg").read_bytes().startswith(b"<?xml")
    with pytest.raises(ValueError, match="ends in"):
        plot_reliability(calibration(*pairs), tmp_path / "r.txt")
