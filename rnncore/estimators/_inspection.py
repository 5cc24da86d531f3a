"""What a tagger did, to be looked at: a table of its errors, and sentences with their labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore.estimators._examples import Examples
from rnncore.estimators._uncertainty import Uncertainty
from rnncore.estimators.sequences import named
from rnncore.metrics import are_chunks
from rnncore.optim.arguments import check_choice, check_count
from rnncore.shown import ErrorTable, ShownSentence, ShownSentences, wrong_words

__all__ = ["SENTENCES_AT_ONCE", "Inspection"]

SENTENCES_AT_ONCE = 4096


class Inspection(Uncertainty):
    """What estimators with a label for every step show of their work."""

    @named
    def errors(self, X: Any, y: Any, context: int = 4, order: str = "confidence") -> ErrorTable:
        """List the words whose predicted label is not the one in `y`, with what stands around them.

        Parameters
        ----------
        X, y : as for `fit`
            Labels that were not in the training data count as wrong, with probability 0.
        context : int
            How many words to each side.
        order : "confidence" or "place"
            Those that the model was surest of first, or as they stand in the data.

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
        check_count("context", context, 0)
        check_choice("order", order, ("confidence", "place"))
        self._check_fitted()
        sentences, tags, _ = Examples.of(X, y, self._nouns, per_step=True)
        found, n_words = [], 0
        for start in range(0, len(sentences), SENTENCES_AT_ONCE):
            some = slice(start, start + SENTENCES_AT_ONCE)
            predicted = self.predict(sentences[some])
            found += wrong_words(self, sentences[some], tags[some], predicted, start, context)
            n_words += sum(map(len, predicted))
        table = ErrorTable(found, n_words)
        return table.by_confidence() if order == "confidence" else table

    @named
    def show(self, X: Any, y: Any = None, most: int = 50) -> ShownSentences:
        """Return sentences with their predicted labels, to be looked at in a notebook, or as text.

        Parameters
        ----------
        X : list of sentences
        y : list, optional
            What the labels should be: mistakes are marked.
        most : int
            How many sentences to show, the first ones.

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
        check_count("most", most, 1)
        if y is None:
            sentences, tags = self._sequences(X), None
        else:
            self._check_fitted()
            sentences, tags, _ = Examples.of(X, y, self._nouns, per_step=True)
        some = sentences[:most]
        labels = self.predict(some)
        sure = self.label_probabilities(some, labels) if len(some) else []
        expected = [None] * len(some) if tags is None else [list(one) for one in tags[:most]]
        rows = zip(some, labels, map(np.ndarray.tolist, sure), expected, strict=True)
        return ShownSentences(
            [ShownSentence(*row) for row in rows], are_chunks(self._label_task.classes), len(sentences) - len(some)
        )
