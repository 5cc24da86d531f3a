"""``rnncore evaluate`` and ``rnncore predict``: a model file put to work."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

from rnncore.cli.arguments import add_column, add_quiet, check_target, column_pair
from rnncore.cli.tables import show_evaluation, tell
from rnncore.data.readers import DataError, iter_rows, iter_tagged, no_sentences
from rnncore.io.files import load, write_atomically
from rnncore.metrics import Tally

__all__ = ["add_commands"]

_SENTENCES_AT_ONCE = 512


def add_commands(commands: Any) -> None:
    """Add ``evaluate`` and ``predict`` to the command's parsers."""
    evaluate = commands.add_parser(
        "evaluate",
        help="measure a model on tagged words",
        description="Count what a model tags right: words known and unknown, entities or labels one by one.",
        allow_abbrev=False,
    )
    evaluate.add_argument("model", metavar="MODEL", help="a model file")
    evaluate.add_argument("data", metavar="DATA", help="lines of 'word TAB label'; - is standard input")
    add_column(evaluate)
    evaluate.add_argument("--report", metavar="FILE.json", help="write the results")
    add_quiet(evaluate)
    evaluate.set_defaults(run=run_evaluate)

    predict = commands.add_parser(
        "predict",
        help="tag words",
        description="Tag words: every line comes back with a tab and the predicted label at its end.",
        allow_abbrev=False,
    )
    predict.add_argument("model", metavar="MODEL", help="a model file")
    predict.add_argument(
        "data",
        nargs="?",
        default="-",
        metavar="DATA",
        help="one word per line, blank line between sentences (default: standard input; sentences, if it is typed in)",
    )
    predict.add_argument(
        "--column",
        type=column_pair,
        metavar="WORD",
        help="column of the word in lines of many fields: from 1 on, -1 is the last (default: 1)",
    )
    predict.add_argument("--out", metavar="FILE", help="where to write (default: standard output)")
    predict.set_defaults(run=run_predict)


def run_evaluate(options: argparse.Namespace) -> None:
    """Print how good a model is on a file, and write it as a report."""
    if options.report:
        check_target(options.report, force=True)
    tagger = load(options.model)
    tally, n_sentences, seconds = Tally(), 0, 0.0
    pairs = iter_tagged(options.data, options.column)
    while chunk := list(islice(pairs, _SENTENCES_AT_ONCE)):
        sentences, tags = ([*part] for part in zip(*chunk, strict=True))
        started = time.perf_counter()
        predicted = tagger.predict(sentences)
        seconds += time.perf_counter() - started
        tally.add(tags, predicted, tagger.knows(sentences))
        n_sentences += len(chunk)
    if not n_sentences:
        raise DataError(no_sentences(options.data))
    result = tally.result()
    if not options.quiet:
        show_evaluation(tell, result)
        tell("", "")
        tell("speed", f"{result['total'] / seconds:,.0f} words/s")
    if options.report:
        report = {"task": "tag", "model": options.model, "data": options.data, "n_test": n_sentences}
        report |= {f"test_{name}": result.pop(name) for name in ("accuracy", "correct", "total")}
        report |= {"evaluation": result, "seconds": seconds}
        write_atomically(options.report, (json.dumps(report, indent=1) + "\n").encode())


def run_predict(options: argparse.Namespace) -> None:
    """Tag a file sentence by sentence; columns after the word are kept."""
    if options.out:
        check_target(options.out, force=True)
    tagger = load(options.model)
    pieces = _tagged(tagger, options.data, options.column)
    if options.out:
        write_atomically(options.out, (piece.encode() for piece in pieces))
        return
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()


def _tagged(tagger: Any, path: str, columns: tuple[int, int] | None) -> Iterator[str]:
    """Yield the tagged text, some sentences at a time; one by one where a person types them."""
    word = columns[0] if columns else 0
    typed = path == "-" and sys.stdin.isatty()
    sentences = _typed() if typed else iter_rows(path, columns=columns and (word,))
    n = 1 if typed else _SENTENCES_AT_ONCE
    while chunk := list(islice(sentences, n)):
        labels = tagger.predict([[row[word] for row in rows] for rows in chunk])
        lines = []
        for rows, predicted in zip(chunk, labels, strict=True):
            lines += ["\t".join((*row, str(label))) for row, label in zip(rows, predicted, strict=True)]
            lines.append("")
        yield "\n".join([*lines, ""])


def _typed() -> Iterator[list[list[str]]]:
    """Yield what a person types: a sentence on every line."""
    print("type sentences, one on a line; an empty line or Ctrl-D ends", file=sys.stderr)
    for line in sys.stdin:
        words = line.split()
        if not words:
            return
        yield [[word] for word in words]
