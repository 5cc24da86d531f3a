"""Data made on the spot: seeded generators and splits, nothing to download. Each module names its sources."""

from __future__ import annotations

from rnncore.datasets.adding import adding_problem
from rnncore.datasets.arithmetic import ARITHMETIC_SYMBOLS, arithmetic
from rnncore.datasets.bits import copied_vectors, copying, delayed_xor, parity, temporal_xor
from rnncore.datasets.blocks import long_blocks
from rnncore.datasets.digits import DIGITS_RATE, glued_digits
from rnncore.datasets.expressions import boolean_expressions, phrases
from rnncore.datasets.languages import anbn, tomita, tomita_accepts, tomita_strings
from rnncore.datasets.letters import LETTER_CODES, letters
from rnncore.datasets.misspelling import misspelt
from rnncore.datasets.news import iter_news_requests, news_requests
from rnncore.datasets.pictures import PICTURE_WORDS, picture_features, shapes
from rnncore.datasets.plant import Plant, plant_inputs
from rnncore.datasets.reber import REBER_SYMBOLS, continual_reber, embedded_reber, reber, reber_successors
from rnncore.datasets.rewriting import dates, reversing, sorting
from rnncore.datasets.series import lorenz, mackey_glass, narma, sine
from rnncore.datasets.source import python_source
from rnncore.datasets.splits import original_split, random_split
from rnncore.datasets.strokes import draw, strokes, told_by
from rnncore.datasets.tones import TONES_RATE, dialled

__all__ = [
    "ARITHMETIC_SYMBOLS",
    "DIGITS_RATE",
    "LETTER_CODES",
    "PICTURE_WORDS",
    "REBER_SYMBOLS",
    "TONES_RATE",
    "Plant",
    "adding_problem",
    "anbn",
    "arithmetic",
    "boolean_expressions",
    "continual_reber",
    "copied_vectors",
    "copying",
    "dates",
    "delayed_xor",
    "dialled",
    "draw",
    "embedded_reber",
    "glued_digits",
    "iter_news_requests",
    "letters",
    "long_blocks",
    "lorenz",
    "mackey_glass",
    "misspelt",
    "narma",
    "news_requests",
    "original_split",
    "parity",
    "phrases",
    "picture_features",
    "plant_inputs",
    "python_source",
    "random_split",
    "reber",
    "reber_successors",
    "reversing",
    "shapes",
    "sine",
    "sorting",
    "strokes",
    "temporal_xor",
    "told_by",
    "tomita",
    "tomita_accepts",
    "tomita_strings",
]
