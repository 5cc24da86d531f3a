"""Sentences with the labels that a tagger gave them, in colours or in brackets."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rnncore.metrics import entities
from rnncore.shown.text import percent, token_text, visible

__all__ = ["ShownSentence", "ShownSentences"]

_GOLDEN_ANGLE = 137.508  # degrees between the colours of one kind and the next: neighbours are told apart
_WRONG = "font-weight:bold;text-decoration:underline wavy"
_BOX = (
    "display:inline-block;vertical-align:top;text-align:center;margin:0 .15em .2em;padding:0 .25em;border-radius:.3em"
)


class ShownSentence(NamedTuple):
    """A sentence, the labels it got, how probable each is, and what they should have been.

    Examples
    --------
    >>> ShownSentence(["news"], ["O"], [0.75]).expected is None
    True
    """

    words: Sequence[Any]
    labels: Sequence[Any]
    probabilities: Sequence[float]
    expected: Sequence[Any] | None = None


class _Piece(NamedTuple):
    """Words that belong together, and what is said of them."""

    start: int
    end: int
    kind: str  # empty: nothing to say
    sure: float
    wrong: list[tuple[int, str]]  # words with a wrong label, and the right one


class ShownSentences:
    """Sentences with their labels: coloured in a notebook, in brackets as text.

    Labels of chunks are joined to spans and named by their type; words outside have none. The paler a colour, the less
    probable the least probable label of the span is. Wrong words are underlined, and ✗ says what was expected.

    Parameters
    ----------
    sentences : list of ShownSentence
    chunks : bool
        Whether labels are those of chunks, see `rnncore.metrics.are_chunks`.
    n_more : int
        How many further sentences there are.

    Examples
    --------
    >>> chunks = ShownSentence(["news", "from", "New", "York"], ["O", "O", "B-LOC", "I-LOC"], [1.0, 1.0, 0.9, 0.8])
    >>> print(ShownSentences([chunks], chunks=True))
    news from [New York LOC 80%]
    >>> print(ShownSentences([chunks._replace(expected=["O", "B-X", "B-LOC", "O"])], chunks=True))
    news [from O 100% ✗ B-X] [New York LOC 80% ✗ York: O]
    >>> print(ShownSentences([ShownSentence(["a", "b"], ["N", "V"], [1.0, 0.5], ["N", "N"])], chunks=False))
    a/N b/V ✗ N
    """

    def __init__(self, sentences: Sequence[ShownSentence], chunks: bool, n_more: int = 0) -> None:
        self._sentences = list(sentences)
        self._chunks = chunks
        self._n_more = n_more

    def __str__(self) -> str:
        lines = [" ".join(self._text(one, piece) for piece in self._pieces(one)) for one in self._sentences]
        return "\n".join([*lines, *self._rest()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Draw them, in colours that suit light and dark pages."""
        kinds = sorted({piece.kind for one in self._sentences for piece in self._pieces(one)})
        hues = {kind: round(number * _GOLDEN_ANGLE) % 360 for number, kind in enumerate(kinds)}
        drawn = ["".join(_drawn(one, piece, hues) for piece in self._pieces(one)) for one in self._sentences]
        lines = [f'<div dir="auto" style="margin:.4em 0">{line}</div>' for line in drawn]
        return "".join(["<div>", *lines, *(f"<p>{line}</p>" for line in self._rest()), "</div>"])

    def _rest(self) -> list[str]:
        return [f"… and {self._n_more:,} more"] if self._n_more else []

    def _pieces(self, one: ShownSentence) -> Iterator[_Piece]:
        """Divide a sentence into spans and single words."""
        spans = {span.start: span for span in entities(one.labels)} if self._chunks else {}
        t = 0
        while t < len(one.words):
            span = spans.get(t)
            end = span.end if span else t + 1
            wrong: list[tuple[int, str]] = []
            if one.expected is not None:
                wrong = [(i, str(one.expected[i])) for i in range(t, end) if one.expected[i] != one.labels[i]]
            said = span is not None or not self._chunks or wrong
            kind = (span.kind if span and span.kind else str(one.labels[t])) if said else ""
            yield _Piece(t, end, kind, float(min(one.probabilities[t:end])), wrong)
            t = end

    def _text(self, one: ShownSentence, piece: _Piece) -> str:
        words = " ".join(visible(token_text(word)) for word in one.words[piece.start : piece.end])
        if not piece.kind:
            return words
        if not self._chunks:
            return f"{words}/{visible(piece.kind)}{_mistakes(one, piece)}"
        return f"[{words} {visible(piece.kind)} {percent(piece.sure)}{_mistakes(one, piece)}]"


def _mistakes(one: ShownSentence, piece: _Piece) -> str:
    """Say which words should have had which labels."""
    if not piece.wrong:
        return ""
    alone = piece.end - piece.start == 1
    said = [visible(label if alone else f"{token_text(one.words[i])}: {label}") for i, label in piece.wrong]
    return f" ✗ {', '.join(said)}"


def _drawn(one: ShownSentence, piece: _Piece, hues: dict[str, int]) -> str:
    marked = {i for i, _ in piece.wrong}
    words = []
    for i in range(piece.start, piece.end):
        text = html.escape(visible(token_text(one.words[i])))
        about = html.escape(f"{visible(str(one.labels[i]))} {percent(one.probabilities[i])}")
        style = f' style="{_WRONG}"' if i in marked else ""
        words.append(f'<span title="{about}"{style}>{text}</span>')
    inside = " ".join(words)
    if not piece.kind:
        return f'<span style="{_BOX}">{inside}</span> '
    ground = f"background:hsla({hues[piece.kind]},75%,50%,{0.08 + 0.37 * piece.sure:.2f})"
    said = html.escape(f"{visible(piece.kind)} {percent(piece.sure)}{_mistakes(one, piece)}")
    outline = ";outline:2px dashed rgba(230,70,70,.9)" if marked else ""
    return f'<span style="{_BOX};{ground}{outline}">{inside}<br><span style="font-size:.7em">{said}</span></span> '
