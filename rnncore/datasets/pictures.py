"""Small pictures of two coloured shapes, and sentences that say what they show.

The larger shape is named first: "a red square left of a blue circle". So each picture has one sentence. Which colour a
shape has and which shapes stand together is held back in part, to see whether whoever learned to describe pictures puts
known words together in a new way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rnncore.datasets.drawing import at_least, generator

__all__ = ["PICTURE_WORDS", "picture_features", "shapes"]

COLOURS = {
    "red": (0.9, 0.1, 0.1),
    "green": (0.1, 0.75, 0.15),
    "blue": (0.15, 0.3, 0.95),
    "yellow": (0.95, 0.85, 0.1),
    "white": (0.95, 0.95, 0.95),
    "purple": (0.75, 0.1, 0.85),
    "cyan": (0.1, 0.85, 0.9),
    "pink": (0.95, 0.55, 0.7),
}
KINDS = ("square", "circle", "triangle", "cross")
RELATIONS = ("left of", "right of", "above", "below")

#: all words of the sentences
PICTURE_WORDS = ("a", *COLOURS, *KINDS, *dict.fromkeys(" ".join(RELATIONS).split()))

_COMBINATIONS = ("all", "seen", "pairs", "objects")
_LARGE, _SMALL = (3.7, 4.1), (2.7, 3.1)  # half of a shape's width, in sixteenths of the picture's
_FINE = 3  # each pixel is the mean of so many points squared
_AT_ONCE = 512
_LITTLE = 3  # pixels of a patch in which there is hardly anything


def shapes(
    n: int = 1000, combinations: str = "all", size: int = 16, noise: float = 0.03, random_state: int = 0
) -> tuple[np.ndarray, list[str]]:
    """Draw pictures of two shapes and the sentences about them.

    Five colours, four shapes, four relations; sizes, places, colours and the background's grey vary.

    Parameters
    ----------
    n : int
    combinations : {"all", "seen", "pairs", "objects"}
        Which pictures: "seen" leaves out the red squares, green circles, blue triangles and yellow crosses, and a fifth
        of the pairs of other shapes. "objects" are the pictures with at least one of these four, "pairs" those of the
        pairs: train on "seen", and the two others are combinations that never occurred.
    size : int
        Height and width in pixels.
    noise : float
        Standard deviation of what is added to each number.
    random_state : int

    Returns
    -------
    pictures : (n, 3, size, size) float32 array
        Red, green and blue, 0 to 1 but for noise.
    sentences : list of str

    Examples
    --------
    >>> pictures, sentences = shapes(4, random_state=2)
    >>> pictures.shape, sentences[0]
    ((4, 3, 16, 16), 'a cyan triangle right of a cyan circle')
    """
    at_least("n", n, 0)
    at_least("size", size, 8)
    if not noise >= 0:
        raise ValueError(f"noise must be at least 0, got {noise}")
    rng = generator(random_state)
    chosen = combinations_of(combinations, n, rng)
    relation = rng.integers(0, len(RELATIONS), n)
    colours, kinds = chosen[:, [0, 2]], chosen[:, [1, 3]]
    radii = np.stack([rng.uniform(*_LARGE, n), rng.uniform(*_SMALL, n)], axis=1)
    centres = _centres(radii, relation, rng)
    paint = np.array([*COLOURS.values()])[colours] + rng.uniform(-0.05, 0.05, (n, 2, 3))
    pictures = np.empty((n, 3, size, size), dtype=np.float32)
    grey = rng.uniform(0.0, 0.2, n)
    for start in range(0, n, _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        inside = _inside(kinds[some], centres[some], radii[some], size)  # (B, 2, size, size)
        empty = grey[some, None, None] * (1.0 - inside.sum(axis=1))
        drawn = np.einsum("boyx,boc->bcyx", inside, paint[some]) + empty[:, None]
        pictures[some] = drawn + noise * rng.standard_normal(drawn.shape)
    return pictures, [
        sentence_of(*row) for row in zip(colours.tolist(), kinds.tolist(), relation.tolist(), strict=True)
    ]


def picture_features(pictures: np.ndarray, patterns: int = 64, random_state: int = 0) -> np.ndarray:
    """Describe pictures of shapes as a caption model can read them: what is seen in each of 4 x 4 cells.

    Patterns are small patches cut out of other pictures, colours left out. A number says how much more some place of
    a cell looks like a pattern than like patterns on average (Coates, Ng and Lee 2011, patches for centroids). Four
    more are the mean colour of what stands out against the background, and how much of the cell that is.

    Parameters
    ----------
    pictures : (N, 3, size, size) array
        As `shapes` draws them; size must be a multiple of 4.
    patterns : int
    random_state : int
        Draws the patterns: the same ones wherever it is the same.

    Returns
    -------
    (N, 16, patterns + 4) float32 array
        Cells row by row.

    Examples
    --------
    >>> pictures, _ = shapes(10)
    >>> picture_features(pictures).shape
    (10, 16, 68)
    """
    pictures = np.asarray(pictures, dtype=np.float32)
    if pictures.ndim != 4 or pictures.shape[1] != 3 or pictures.shape[2] != pictures.shape[3]:
        raise ValueError(f"pictures must be (N, 3, size, size), got shape {pictures.shape}")
    n, _, size, _ = pictures.shape
    at_least("patterns", patterns, 1)
    if size % 4 or size < 8:
        raise ValueError(f"the pictures' size must be a multiple of 4, and at least 8, got {size}")
    rng = generator(random_state)
    others = _windows(_standing_out(shapes(max(100, 4 * patterns), size=size, random_state=random_state)[0]))
    others = others.reshape(-1, others.shape[-1])
    others = others[others.sum(axis=1) > _LITTLE]
    chosen = others[rng.choice(len(others), patterns)]
    found = np.empty((n, 16, patterns + 4), dtype=np.float32)
    for start in range(0, n, _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        mask = _standing_out(pictures[some])
        windows = _windows(mask)
        nearness = _nearness(windows.reshape(-1, windows.shape[-1]), chosen)
        found[some, :, :patterns] = (
            _by_cell(nearness.reshape(*mask.shape, patterns)).max(axis=(2, 4)).reshape(-1, 16, patterns)
        )
        share = _by_cell(mask).sum(axis=(2, 4)).reshape(-1, 16)
        for colour in range(3):
            light = _by_cell(mask * pictures[some, colour]).sum(axis=(2, 4)).reshape(-1, 16)
            found[some, :, patterns + colour] = light / (share + 0.5)
        found[some, :, patterns + 3] = share
    return found


def _standing_out(pictures: np.ndarray) -> np.ndarray:
    """Return how much each pixel differs from the background, the picture's median, as 0 to 1: (B, size, size)."""
    background = np.median(pictures.reshape(*pictures.shape[:2], -1), axis=2)[:, :, None, None]
    brighter: np.ndarray = (pictures - background).max(axis=1)
    return np.clip(2 * brighter - 0.3, 0, 1)


def _windows(mask: np.ndarray) -> np.ndarray:
    """Return the patch of 5 x 5 around every pixel, (B, size, size, 25)."""
    padded = np.pad(mask, ((0, 0), (2, 2), (2, 2)))
    axes: Any = (1, 2)  # which NumPy's own types allow since 2.4
    return np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axes).reshape(*mask.shape, 25)


def _nearness(windows: np.ndarray, patterns: np.ndarray) -> np.ndarray:
    """Return how much nearer than on average each patch (N, 25) is to each pattern; 0 where nothing is."""
    squares = (windows**2).sum(axis=1)[:, None] + (patterns**2).sum(axis=1) - 2 * windows @ patterns.T
    distance = np.sqrt(np.maximum(squares, 0))
    nearer = np.maximum(distance.mean(axis=1, keepdims=True) - distance, 0)
    return nearer * (windows.sum(axis=1, keepdims=True) > _LITTLE)


def _by_cell(array: np.ndarray) -> np.ndarray:
    """Divide the pixels of (B, size, size, ...) into 4 x 4 cells: (B, 4, size / 4, 4, size / 4, ...)."""
    n, size = array.shape[:2]
    return array.reshape(n, 4, size // 4, 4, size // 4, *array.shape[3:])


def combinations_of(combinations: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the colours and kinds of the shapes in n pictures, (n, 4): of the larger one, then of the other."""
    if combinations not in _COMBINATIONS:
        raise ValueError(f"combinations must be one of {', '.join(_COMBINATIONS)}, got {combinations!r}")
    sizes = (len(COLOURS), len(KINDS)) * 2
    every = np.stack(np.meshgrid(*map(range, sizes), indexing="ij"), axis=-1).reshape(-1, 4)
    colour, kind, other_colour, other_kind = every.T
    objects = (colour == kind) | (other_colour == other_kind)
    pairs = ~objects & ((colour + 2 * kind + 2 * other_colour + other_kind) % 5 == 0)
    some = {"all": slice(None), "seen": ~objects & ~pairs, "pairs": pairs, "objects": objects}[combinations]
    allowed = every[some]
    return allowed[rng.integers(0, len(allowed), n)]


def _centres(radii: np.ndarray, relation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw where both shapes are, (n, 2, (x, y)), in sixteenths of the picture's width.

    Along the relation's axis they do not touch; across it they differ by half as much at most.
    """
    n = len(radii)
    larger, smaller = radii.T
    apart = larger + smaller + 0.5 + rng.random(n) * (15.5 - 2 * (larger + smaller))
    along = larger + rng.random(n) * (16 - larger - smaller - apart)
    across = larger + rng.random(n) * (16 - 2 * larger)
    other = np.clip(across + apart * rng.uniform(-0.5, 0.5, n), smaller, 16 - smaller)
    places = np.stack([np.stack([along, across], -1), np.stack([along + apart, other], -1)], axis=1)
    behind = np.isin(relation, (1, 3))  # right of, below: seen from the other side
    places[behind, :, 0] = 16 - places[behind, :, 0]
    vertical = relation >= 2
    places[vertical] = places[vertical, :, ::-1]
    return places


def _inside(kinds: np.ndarray, centres: np.ndarray, radii: np.ndarray, size: int) -> np.ndarray:
    """Return which share of each pixel lies in each shape, (B, 2, size, size)."""
    points = (np.arange(size * _FINE) + 0.5) * (16 / (size * _FINE))
    r = radii[:, :, None, None]
    x = (points - centres[:, :, 0, None])[:, :, None, :] / r
    y = (points - centres[:, :, 1, None])[:, :, :, None] / r
    kind = kinds[:, :, None, None]
    square = np.maximum(abs(x), abs(y)) < 0.9
    circle = x * x + y * y < 1
    triangle = (abs(x) < (y + 1) / 2) & (y < 1)
    cross = (np.minimum(abs(x), abs(y)) < 0.33) & (np.maximum(abs(x), abs(y)) < 1)
    found = np.select([kind == 0, kind == 1, kind == 2], [square, circle, triangle], cross)
    return found.reshape(*kinds.shape, size, _FINE, size, _FINE).mean(axis=(3, 5))


def sentence_of(colours: Sequence[int], kinds: Sequence[int], relation: int) -> str:
    """Return what a picture shows.

    Examples
    --------
    >>> sentence_of([0, 2], [0, 1], 0)
    'a red square left of a blue circle'
    """
    names = [*COLOURS]
    first, second = (f"a {names[colour]} {KINDS[kind]}" for colour, kind in zip(colours, kinds, strict=True))
    return f"{first} {RELATIONS[relation]} {second}"
