"""What a tagger did, to be looked at: a table of its errors, and sentences with their labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore.data.inputs import sequences_of
from rnncore.data.readers import DataError
from rnncore.estimators._examples import Examples, Nouns, pieces
from rnncore.estimators._joint import TAGS
from rnncore.estimators._uncertainty import Uncertainty
from rnncore.estimators.sequences import named
from rnncore.metrics import are_chunks
from rnncore.optim.arguments import check_choice, check_count
from rnncore.shown import ErrorTable, ShownSentence, ShownSentences, wrong_words

__all__ = ["Inspection", "errors_of", "shown_of"]

_NOUNS = Nouns("sentence", "tag", "word")


class Inspection(Uncertainty):
    """What estimators with a label for every step show of their work."""

    @named
    def errors(
        self, X: Any, y: Any, context: int = 4, order: str = "confidence", column: str | None = None
    ) -> ErrorTable:
        """List the words whose predicted label is not the one in `y`, with what stands around them.

        Parameters
        ----------
        X, y : as for `fit`
            Labels that were not in the training data count as wrong, with probability 0.
        context : int
            How many words to each side.
        order : "confidence" or "place"
            Those that the model was surest of first, or as they stand in the data.
        column : str
            Which of several columns of tags.

        Returns
        -------
        rnncore.shown.ErrorTable
            A list of `rnncore.shown.Error`, which prints as a table, and as a coloured one in a notebook; see there for
            ``counts``, ``to_frame``, ``to_csv`` and ``save``.

        Examples
        --------
        >>> import rnncore as rc
        >>> sentences, tags = rc.datasets.news_requests(300)
        >>> tagger = rc.SequenceTagger(max_epochs=5).fit(sentences[:200], tags[:200])
        >>> table = tagger.errors(sentences[200:], tags[200:])
        >>> correct, total = tagger.count_correct(sentences[200:], tags[200:])
        >>> len(table) == total - correct and table.n_words == total
        True
        """
        self._check_fitted()
        return errors_of(self, X, y, context, order, column)

    @named
    def show(self, X: Any, y: Any = None, most: int = 50, column: str | None = None) -> ShownSentences:
        """Return sentences with their predicted labels, to be looked at in a notebook, or as text.

        Parameters
        ----------
        X : list of sentences
        y : list, optional
            What the labels should be: mistakes are marked.
        most : int
            How many sentences to show, the first ones.
        column : str
            Which of several columns of tags.

        Returns
        -------
        rnncore.shown.ShownSentences
            Coloured where a notebook shows it; ``str`` of it is plain text.

        Examples
        --------
        >>> import rnncore as rc
        >>> tagger = rc.SequenceTagger(max_epochs=10).fit(*rc.datasets.news_requests(200))
        >>> print(tagger.show([["news"]], y=[["B-X"]]))
        [news ... ✗ B-X]
        """
        self._check_fitted()
        return shown_of(self, X, y, most, column)


def errors_of(
    tagger: Any, X: Any, y: Any, context: int = 4, order: str = "confidence", column: str | None = None
) -> ErrorTable:
    """List what a tagger, or several together, got wrong; see `rnncore.SequenceTagger.errors`."""
    check_count("context", context, 0)
    check_choice("order", order, ("confidence", "place"))
    _check_column(tagger, column)
    sentences, tags, _ = Examples.of(X, _of_column(y, column), _NOUNS, per_step=True)
    found, n_words = [], 0
    for some in pieces(sentences):
        predicted = tagger.predict(sentences[some])
        predicted = predicted if column is None else predicted[column]
        found += wrong_words(tagger, sentences[some], tags[some], predicted, some.start, context, column)
        n_words += sum(map(len, predicted))
    table = ErrorTable(found, n_words)
    return table.by_confidence() if order == "confidence" else table


def shown_of(tagger: Any, X: Any, y: Any = None, most: int = 50, column: str | None = None) -> ShownSentences:
    """Show what a tagger, or several together, say of sentences; see `rnncore.SequenceTagger.show`."""
    check_count("most", most, 1)
    _check_column(tagger, column)
    if y is None:
        sentences, tags = sequences_of(X, "sentences"), None
    else:
        sentences, tags, _ = Examples.of(X, _of_column(y, column), _NOUNS, per_step=True)
    some = sentences[:most]
    found, probabilities = tagger._predict_surely(some)
    labels, flat = found[column or TAGS], probabilities[column or TAGS]
    sure = np.split(flat, np.cumsum([*map(len, labels)])[:-1]) if len(labels) else []
    expected = [None] * len(some) if tags is None else [list(one) for one in tags[:most]]
    rows = zip(some, labels, (one.tolist() for one in sure), expected, strict=True)
    classes = tagger.classes_ if column is None else tagger.classes_[column]
    return ShownSentences(
        [ShownSentence(*row) for row in rows], are_chunks(classes.tolist()), len(sentences) - len(some)
    )


def _check_column(tagger: Any, column: str | None) -> None:
    """Refuse a column that there is not, and none where there are several."""
    classes = tagger.classes_
    if not isinstance(classes, dict):
        if column is not None:
            raise ValueError(f"column={column!r}: this tagger has one column of tags without a name: leave it out")
    elif column not in classes:
        raise ValueError(f"column: expected one of {', '.join(classes)}, got {column!r}: say which column to look at")


def _of_column(y: Any, column: str | None) -> Any:
    if column is None:
        return y
    if not isinstance(y, dict) or column not in y:
        got = f"a dict of {', '.join(map(str, y))}" if isinstance(y, dict) else type(y).__name__
        raise DataError(f"expected the tags as a dict with {column}, got {got}")
    return y[column]
