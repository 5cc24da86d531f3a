"""Sentences about two coloured shapes, and the strokes of a pen that draw them.

A drawing is a list of symbols: a colour, which the pen takes; "up 3 -4", a move by so many pixels to the right and down
without a line; "3 -4", a line. The pen begins at the top left, in a picture of 16 x 16 pixels, and each shape is an
outline that is filled. As with `shapes` the larger one comes first.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from rnncore.datasets.drawing import at_least, generator
from rnncore.datasets.pictures import COLOURS, KINDS, RELATIONS, combinations_of, sentence_of

__all__ = ["draw", "strokes", "told_by"]

_SIZE = 16
_WIDTHS = (8, 6)  # of the larger and the smaller shape
_FINE = 3  # each pixel is the mean of so many points squared
_PAPER = 0.1

Line = tuple[int, int]


def _outline(kind: int, width: int) -> tuple[Line, list[Line]]:
    """Return where an outline begins in its box of width x width, and its lines, which come back there."""
    if kind == 0:  # square, a little smaller than what is round
        w = width - 1
        return (0, 0), [(w, 0), (0, w), (-w, 0), (0, -w)]
    if kind == 1:
        flat, cut = width - 4, 2
        corners = [(flat, 0), (cut, cut), (0, flat), (-cut, cut)]
        return (cut, 0), [*corners, *((-x, -y) for x, y in corners)]
    if kind == 2:
        return (width // 2, 0), [(width // 2, width), (-width, 0), (width // 2, -width)]
    arm, thick = (width - 2) // 2, 2
    steps = [(thick, 0), (0, arm), (arm, 0), (0, thick), (-arm, 0), (0, arm)]
    return (arm, 0), [*steps, *((-x, -y) for x, y in steps)]


_KNOWN = {tuple(_outline(kind, width)[1]): (kind, width) for kind in range(len(KINDS)) for width in _WIDTHS}


def strokes(n: int = 1000, combinations: str = "all", random_state: int = 0) -> tuple[list[str], list[list[str]]]:
    """Draw sentences about two shapes, and the strokes that put them on paper, at one of several places.

    Parameters
    ----------
    n : int
    combinations : {"all", "seen", "pairs", "objects"}
        As of `shapes`.
    random_state : int

    Returns
    -------
    sentences : list of str
    drawings : list of lists of str

    Examples
    --------
    >>> sentences, drawings = strokes(1, random_state=3)
    >>> sentences[0] == told_by(drawings[0])
    True
    >>> draw(drawings[0]).shape
    (3, 16, 16)
    """
    at_least("n", n, 0)
    rng = generator(random_state)
    chosen = combinations_of(combinations, n, rng).tolist()
    relations = rng.integers(0, len(RELATIONS), n).tolist()
    sentences, drawings = [], []
    for objects, relation in zip(chosen, relations, strict=True):
        colours, kinds = objects[::2], objects[1::2]
        drawing, pen = [], (0, 0)
        for colour, kind, width, corner in zip(colours, kinds, _WIDTHS, _corners(relation, rng), strict=True):
            begin, lines = _outline(kind, width)
            start = corner[0] + begin[0], corner[1] + begin[1]
            drawing += [[*COLOURS][colour], f"up {start[0] - pen[0]} {start[1] - pen[1]}"]
            drawing += [f"{x} {y}" for x, y in lines]
            pen = start
        sentences.append(sentence_of(colours, kinds, relation))
        drawings.append(drawing)
    return sentences, drawings


def _corners(relation: int, rng: np.random.Generator) -> list[Line]:
    """Draw where the boxes of both shapes are: side by side along one axis, less far apart across it."""
    large, small = _WIDTHS
    gap = int(rng.integers(1, _SIZE - large - small + 1))
    first = int(rng.integers(0, _SIZE - large - small - gap + 1))
    across = int(rng.integers(0, _SIZE - large + 1))
    most = (large + small) // 4
    middle = across + (large - small) // 2
    other = int(np.clip(middle + rng.integers(-most, most + 1), 0, _SIZE - small))
    places = [(first, across), (first + large + gap, other)]
    if relation in (1, 3):  # seen from the other side
        places = [(_SIZE - along - width, beside) for (along, beside), width in zip(places, _WIDTHS, strict=True)]
    return [place[::-1] for place in places] if relation >= 2 else places


def _shapes_of(drawing: Iterable[str]) -> list[tuple[str, Line, list[Line]]]:
    """Return the colour, the beginning and the lines of each shape; what cannot be drawn is left out."""
    found: list[tuple[str, Line, list[Line]]] = []
    colour, x, y = "", 0, 0
    for symbol in drawing:
        if symbol in COLOURS:
            colour = symbol
            continue
        up, *rest = symbol.split() if symbol.startswith("up ") else ["", *symbol.split()]
        dx, dy = map(int, rest)
        if up:
            found.append((colour, (x + dx, y + dy), []))
        elif found:
            found[-1][2].append((dx, dy))
        x, y = x + dx, y + dy
    return found


def draw(drawing: Iterable[str], size: int = 16) -> np.ndarray:
    """Put strokes on paper: each outline filled with its colour, (3, size, size) float32 as of `shapes`.

    Examples
    --------
    >>> picture = draw(["red", "up 4 4", "8 0", "0 8", "-8 0", "0 -8"])
    >>> picture[0].max() > 0.8, round(float(picture[2].max()), 2)
    (True, 0.1)
    """
    at_least("size", size, 1)
    points = (np.arange(size * _FINE) + 0.5) * (_SIZE / (size * _FINE))
    x, y = points[None, :], points[:, None]
    picture = np.full((3, size, size), _PAPER, dtype=np.float32)
    for colour, begin, lines in _shapes_of(drawing):
        corners = np.cumsum([begin, *lines], axis=0).astype(float)
        inside = np.zeros((size * _FINE, size * _FINE), dtype=bool)
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            if y0 != y1:  # an odd number of edges to the right of a point: it lies inside
                inside ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
        share = inside.reshape(size, _FINE, size, _FINE).mean(axis=(1, 3))
        paint = np.array(COLOURS.get(colour, (_PAPER,) * 3), dtype=np.float32)[:, None, None]
        picture += share.astype(np.float32) * (paint - picture)
    return picture


def told_by(drawing: Iterable[str]) -> str | None:
    """Return the sentence that strokes draw, or None where they draw anything but a larger and a smaller shape.

    Examples
    --------
    >>> sentences, drawings = strokes(20, random_state=1)
    >>> [told_by(drawing) for drawing in drawings] == sentences
    True
    >>> told_by(drawings[0][:-1]) is None
    True
    """
    found = _shapes_of(drawing)
    known = [_KNOWN.get(tuple(lines)) for _, _, lines in found]
    colours = [*COLOURS]
    if len(found) != 2 or None in known or any(colour not in COLOURS for colour, _, _ in found):
        return None
    (kind, width), (other_kind, other_width) = (one for one in known if one is not None)
    if (width, other_width) != _WIDTHS:
        return None
    boxes = []
    for (_, (x, y), _), shape, size in zip(found, (kind, other_kind), _WIDTHS, strict=True):
        (before_x, before_y), _ = _outline(shape, size)
        boxes.append((x - before_x, y - before_y, size))
    (x, y, w), (other_x, other_y, other_w) = boxes
    if min(x, y, other_x, other_y) < 0 or max(x + w, y + w, other_x + other_w, other_y + other_w) > _SIZE:
        return None  # off the paper
    right, down = x + w / 2 - other_x - other_w / 2, y + w / 2 - other_y - other_w / 2
    if max(abs(right), abs(down)) <= (w + other_w) / 2:
        return None  # one on top of the other
    relation = int(right > 0) if abs(right) > abs(down) else 2 + int(down > 0)
    return sentence_of([colours.index(colour) for colour, _, _ in found], [kind, other_kind], relation)
