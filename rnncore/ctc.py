"""Connectionist temporal classification on arrays: the public door to its loss and to decoding.

`rnncore.nn.ctc`, `rnncore.nn.ctc_decoding` and `rnncore.nn.automata`.
"""

from rnncore.nn.automata import Automaton, symbol_bonus, welcome, word_bonus, words_alone
from rnncore.nn.ctc import loss_and_grad
from rnncore.nn.ctc_decoding import Found, Prefixes, Span, align, best_path, log_probabilities, prefix_beam_search

__all__ = [
    "Automaton",
    "Found",
    "Prefixes",
    "Span",
    "align",
    "best_path",
    "log_probabilities",
    "loss_and_grad",
    "prefix_beam_search",
    "symbol_bonus",
    "welcome",
    "word_bonus",
    "words_alone",
]
