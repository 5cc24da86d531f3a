"""Generated pictures of shapes, their features, and strokes that draw them."""

import numpy as np
import pytest

from rnncore.datasets import PICTURE_WORDS, draw, picture_features, shapes, strokes, told_by
from rnncore.datasets.pictures import COLOURS, KINDS

RELATIONS = {"left": (0, -1), "right": (0, 1), "above": (1, -1), "below": (1, 1)}


def parts(sentence):
    """Return both objects and the relation of a sentence."""
    words = sentence.split()
    return tuple(words[1:3]), words[3], tuple(words[-2:])


def test_pictures_follow_their_seed_and_say_what_they_are():
    pictures, sentences = shapes(200, random_state=5)
    again, same = shapes(200, random_state=5)
    np.testing.assert_array_equal(pictures, again)
    assert sentences == same != shapes(200, random_state=6)[1]
    assert pictures.shape == (200, 3, 16, 16) and pictures.dtype == np.float32
    assert {word for sentence in sentences for word in sentence.split()} == set(PICTURE_WORDS)
    assert pictures[:, :, 0, 0].std() > 0.03 and pictures.min() > -0.3 and pictures.max() < 1.4
    assert shapes(0)[0].shape == (0, 3, 16, 16)
    assert shapes(3, size=24)[0].shape == (3, 3, 24, 24)


@pytest.mark.parametrize("size", [16, 32])
def test_the_relation_is_where_the_colours_are(size):
    """Where both shapes have colours of their own, their pixels' centres are apart as the sentence says."""
    pictures, sentences = shapes(400, size=size, noise=0.0, random_state=1)
    seen = set()
    for picture, sentence in zip(pictures, sentences, strict=True):
        (first, _), relation, (second, _) = parts(sentence)
        if first == second:
            continue
        places, counts = [], []
        for colour in (first, second):
            distance = abs(picture - np.array(COLOURS[colour])[:, None, None]).max(axis=0)
            y, x = np.nonzero(distance < 0.12)
            places.append((x.mean(), y.mean()))
            counts.append(len(x))
        axis, sign = RELATIONS[relation]
        apart = np.subtract(*places)
        assert np.sign(apart[axis]) == sign and abs(apart[axis]) > abs(apart[1 - axis])
        seen.add(relation)
    assert seen == set(RELATIONS)


def test_the_larger_one_is_named_first():
    pictures, sentences = shapes(600, noise=0.0, random_state=2)
    sizes = {kind: ([], []) for kind in KINDS}
    for picture, sentence in zip(pictures, sentences, strict=True):
        for number, (colour, kind) in enumerate(parts(sentence)[::2]):
            if parts(sentence)[0][0] != parts(sentence)[2][0]:
                near = abs(picture - np.array(COLOURS[colour])[:, None, None]).max(axis=0) < 0.12
                sizes[kind][number].append(near.sum())
    for large, small in sizes.values():
        assert np.median(large) > 1.3 * np.median(small)


def test_what_is_held_out_never_occurs_among_the_seen():
    seen, pairs, objects = (shapes(4000, some, noise=0.0, size=8)[1] for some in ("seen", "pairs", "objects"))
    known = {part for sentence in seen for part in parts(sentence)[::2]}
    together = {parts(sentence)[::2] for sentence in seen}
    assert len(known) == len(COLOURS) * len(KINDS) - 4
    for sentence in pairs:
        first, _, second = parts(sentence)
        assert {first, second} <= known and (first, second) not in together
    new = {("red", "square"), ("green", "circle"), ("blue", "triangle"), ("yellow", "cross")}
    assert not known & new
    for sentence in objects:
        assert set(parts(sentence)[::2]) & new
    assert new <= {part for sentence in objects for part in parts(sentence)[::2]}


def test_features_leave_colours_out_but_for_the_last_four():
    pictures, _ = shapes(30, noise=0.0)
    features = picture_features(pictures, patterns=20)
    assert features.shape == (30, 16, 24) and features.dtype == np.float32 and features.min() >= 0
    turned = picture_features(pictures[:, [1, 2, 0]], patterns=20)  # red is green, green blue, blue red
    np.testing.assert_allclose(turned[:, :, :20], features[:, :, :20], atol=1e-5)
    np.testing.assert_allclose(turned[:, :, 20:23], features[:, :, [21, 22, 20]], atol=1e-5)
    np.testing.assert_allclose(picture_features(pictures[10:20], patterns=20), features[10:20], atol=1e-4)
    empty = picture_features(np.full((1, 3, 16, 16), 0.1), patterns=5)
    np.testing.assert_array_equal(empty, np.zeros((1, 16, 9)))
    assert picture_features(shapes(2, size=32)[0]).shape == (2, 16, 68)


def test_features_stand_in_the_cell_where_something_is():
    picture = np.zeros((1, 3, 16, 16), dtype=np.float32)
    picture[0, 0, 5:8, 9:12] = 1.0  # row 1, column 2 of the cells
    amounts = picture_features(picture)[0, :, -1].reshape(4, 4)
    assert amounts[1, 2] == amounts.sum() > 0


def test_strokes_draw_what_the_sentence_says():
    sentences, drawings = strokes(500, random_state=4)
    assert [told_by(drawing) for drawing in drawings] == sentences
    assert (sentences, drawings) == strokes(500, random_state=4)
    for drawing in drawings:
        assert sum(symbol in COLOURS for symbol in drawing) == sum(symbol.startswith("up") for symbol in drawing) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_drawing_covers_what_its_outline_encloses(kind):
    areas = {"square": (49, 25), "circle": (56, 28), "triangle": (32, 18), "cross": (28, 20)}
    sentences, drawings = strokes(300, random_state=6)
    found = 0
    for sentence, drawing in zip(sentences, drawings, strict=True):
        (first, one), _, (second, other) = parts(sentence)
        if first == second or kind not in (one, other):
            continue
        picture = draw(drawing, size=48)
        for number, (colour, name) in enumerate(((first, one), (second, other))):
            if name == kind:
                near = abs(picture - np.array(COLOURS[colour])[:, None, None]).max(axis=0) < 1e-3
                assert near.sum() / 9 == pytest.approx(areas[kind][number], abs=3.0)
                found += 1
    assert found > 50


def test_strokes_that_say_nothing():
    _, (drawing,) = strokes(1)
    assert told_by(drawing) is not None
    second = drawing.index(next(symbol for symbol in drawing[1:] if symbol in COLOURS))
    for bad in ([], drawing[:second], drawing[:-1], drawing[second:] + drawing[:second], drawing[1:], drawing * 2):
        assert told_by(bad) is None
        assert draw(bad).shape == (3, 16, 16)
    moved = list(drawing)
    moved[1] = "up 100 0"
    assert told_by(moved) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: shapes(-1), "n must be at least 0"),
        (lambda: shapes(1, "some"), "combinations must be one of all, seen, pairs, objects"),
        (lambda: shapes(1, size=4), "size must be at least 8"),
        (lambda: shapes(1, noise=-0.1), "noise must be at least 0"),
        (lambda: shapes(1, noise=float("nan")), "noise must be at least 0"),
        (lambda: strokes(1, "some"), "combinations must be one of"),
        (lambda: picture_features(np.zeros((2, 16, 16))), "pictures must be"),
        (lambda: picture_features(np.zeros((2, 3, 16, 12))), "pictures must be"),
        (lambda: picture_features(np.zeros((2, 3, 18, 18))), "multiple of 4"),
        (lambda: picture_features(np.zeros((2, 3, 16, 16)), patterns=0), "patterns must be at least 1"),
    ],
)
def test_what_cannot_be_drawn(call, message):
    with pytest.raises(ValueError, match=message):
        call()
