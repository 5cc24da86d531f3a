"""``rnncore evaluate`` and ``rnncore predict``: a model file put to work."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from importlib import import_module
from itertools import chain, islice
from typing import Any, NamedTuple

from rnncore.cli import transcribing
from rnncore.cli.arguments import add_beam_size, add_column, add_quiet, check_target, column_pair
from rnncore.cli.fields import Fields, add_doubts, fields_by, sure_answers_of
from rnncore.cli.language import named_text
from rnncore.cli.tables import count, show_answers, tell
from rnncore.cli.tagging import overall
from rnncore.data.readers import (
    DataError,
    check_number_of_labels,
    in_columns,
    iter_labels,
    iter_tagged,
    iter_text,
    no_sentences,
    split_line,
)
from rnncore.io.files import load_estimator, write_atomically
from rnncore.metrics import are_chunks
from rnncore.shown import Error, ErrorTable, wrong_words
from rnncore.shown.text import aligned

__all__ = ["add_commands"]

_SENTENCES_AT_ONCE = 512
_SHOWN_COUNTS = 20


def add_commands(commands: Any) -> None:
    """Add ``evaluate`` and ``predict`` to the command's parsers."""
    evaluate = commands.add_parser(
        "evaluate",
        help="measure a model on tagged words, or on a text",
        description="Count what a model tags right: words known and unknown, entities or labels one by one. Of a "
        "language model: how well it predicts a text. Of one that translates or writes captions: how many targets are "
        "right; of one that transcribes: how many labels are wrong; of classes: how many are right; of numbers and "
        "forecasts: how far off they are.",
        allow_abbrev=False,
    )
    evaluate.add_argument("model", metavar="MODEL", help="a model file")
    evaluate.add_argument(
        "data",
        metavar="DATA",
        help="lines of 'word TAB label', of 'source TAB target', of numbers and a sentence, .npz of vectors and "
        "sentences, or a text; - is standard input. Recordings and series: see train",
    )
    add_column(evaluate)
    evaluate.add_argument(
        "--sentence-labels", metavar="FILE", help="a label for each sentence of DATA, one a line in the same order"
    )
    evaluate.add_argument(
        "--strict", action="store_true", help="count only entities that the labels' scheme spells without a fault"
    )
    evaluate.add_argument("--report", metavar="FILE.json", help="write the results")
    evaluate.add_argument(
        "--errors",
        nargs="?",
        const="",
        metavar="FILE",
        help="list the words with a wrong label, those that the model was surest of first: 20 of them, or all to a "
        "file, .csv, .json or any other for TSV; sentences and words count from 0",
    )
    add_beam_size(evaluate)
    transcribing.add_options(evaluate)
    add_quiet(evaluate)
    evaluate.set_defaults(run=run_evaluate)

    predict = commands.add_parser(
        "predict",
        help="tag words",
        description="Tag words: every line comes back as it was, those of words with the predicted label at their end. "
        "A model that labels sentences, too, puts a comment before each, '# intent = LABEL'. One that translates "
        "writes a line for a line, one of captions a sentence for each vector, one that transcribes a sound's name "
        "and what is said in it, one that forecasts a line for each step to come.",
        allow_abbrev=False,
    )
    predict.add_argument("model", metavar="MODEL", help="a model file")
    predict.add_argument(
        "data",
        nargs="?",
        default="-",
        metavar="DATA",
        help="one word per line, blank line between sentences, or a whole sentence per line, told by the first "
        "(default: standard input; sentences, if it is typed in). Sounds: a .wav file, a folder or list of them, .npz",
    )
    how = predict.add_mutually_exclusive_group()
    how.add_argument("--sentences", action="store_true", help="every line is a sentence, its words divided by blanks")
    how.add_argument(
        "--column",
        type=column_pair,
        metavar="WORD",
        help="column of the word in lines of many fields: from 1 on, -1 is the last (default: 1)",
    )
    add_doubts(predict)
    add_beam_size(predict)
    transcribing.add_options(predict)
    predict.add_argument(
        "--time-stamps", action="store_true", help="of a model that transcribes: write when each label is said"
    )
    predict.add_argument("--out", metavar="FILE", help="where to write (default: standard output)")
    predict.set_defaults(run=run_predict)


_COMMANDS = {
    "SequenceToSequence": "translation",
    "CaptionModel": "captions",
    "Transcriber": "transcribing",
    "SequenceClassifier": "series",
    "SequenceRegressor": "series",
    "Forecaster": "forecasting",
}


def _what_writes(model: Any) -> Any:
    """Return the module of a task whose models have commands of their own, or None: those that tag, and texts'."""
    name = _COMMANDS.get(type(model).__name__)
    return None if name is None else import_module(f"rnncore.cli.{name}")


def _refuse_searching(options: argparse.Namespace) -> None:
    """Refuse options of models that search for what they write."""
    if options.beam_size:
        raise DataError(
            f"{options.model}: --beam-size is for models that translate, transcribe or write captions: leave it out"
        )
    transcribing.refuse(options)


def _refuse_others(options: argparse.Namespace, model: Any) -> None:
    """Refuse what no command applies, such as a network on trees, an associative memory, a layer."""
    if not hasattr(model, "knows"):  # words, as taggers do
        raise DataError(
            f"{options.model}: holds a {type(model).__name__}, which no command applies: rnncore.load() gives it to "
            "Python, rnncore info tells what is in it"
        )


def run_evaluate(options: argparse.Namespace) -> None:
    """Print how good a model is on a file, and write it as a report."""
    if options.report:
        check_target(options.report, force=True)
    if options.errors:
        check_target(options.errors, force=True)
    tagger = load_estimator(options.model)
    if options.errors is not None and not hasattr(tagger, "label_probabilities"):
        raise DataError(_without_probabilities(options, tagger, "--errors"))
    writes = _what_writes(tagger)
    if writes is not None:
        if writes is not transcribing:
            transcribing.refuse(options)
        writes.run_evaluate(options, tagger)
        return
    _refuse_searching(options)
    if hasattr(tagger, "iter_generate"):
        _evaluate_text(options, tagger)
        return
    _refuse_others(options, tagger)
    from rnncore.estimators._tally import AnswersTally

    if options.errors is not None and isinstance(tagger.classes_, dict):
        raise DataError(f"{options.model}: --errors is for one column of tags; from Python: errors(..., column=NAME)")
    tally, n_sentences, seconds = AnswersTally(options.strict), 0, 0.0
    errors: list[Error] = []
    for sentences, true in _chunks(options, tagger):
        started = time.perf_counter()
        predicted, sure = sure_answers_of(tagger, sentences)
        seconds += time.perf_counter() - started
        tally.add(true, predicted, tagger.knows(sentences), sure)
        if options.errors is not None:
            errors += wrong_words(tagger, sentences, true["tags"], predicted["tags"], n_sentences)
        n_sentences += len(sentences)
    if not n_sentences:
        raise DataError(no_sentences(options.data))
    result, classes = tally.result(), tagger.classes_
    n_words = next(iter(result.values()))["total"]
    if not isinstance(classes, dict):
        result = result.pop("tags") | result
    if not options.quiet:
        show_answers(tell, result, classes)
        tell("", "")
        tell("speed", f"{n_words / seconds:,.0f} words/s")
    if options.errors is not None:
        _tell_errors(ErrorTable(errors, n_words).by_confidence(), options)
    if options.report:
        report = {"task": "tag", "model": options.model, "data": options.data, "n_test": n_sentences}
        report |= overall(result, classes) | {"evaluation": result, "seconds": seconds}
        write_atomically(options.report, (json.dumps(report, indent=1) + "\n").encode())


def _chunks(options: argparse.Namespace, tagger: Any) -> Iterator[tuple[list[Any], dict[str, Any]]]:
    """Read some sentences at a time, and what is true of them by name."""
    _check_columns(options, tagger)
    labels = None
    if options.sentence_labels is not None:
        if not hasattr(tagger, "sentence_classes_"):
            raise DataError(f"{options.model}: labels no sentences: leave --sentence-labels out")
        labels = [*iter_labels(options.sentence_labels)]
    pairs, n_read = iter_tagged(options.data, options.column), 0
    while chunk := list(islice(pairs, _SENTENCES_AT_ONCE)):
        some, n_read = slice(n_read, n_read + len(chunk)), n_read + len(chunk)
        if labels is not None and n_read > len(labels):
            n_read += sum(1 for _ in pairs)
            break
        sentences, tags = ([*part] for part in zip(*chunk, strict=True))
        true = in_columns(tags) if isinstance(tags[0], dict) else {"tags": tags}
        yield sentences, true if labels is None else true | {"sentence": labels[some]}
    if labels is not None:
        check_number_of_labels(labels, options.sentence_labels, n_read, options.data)


def _check_columns(options: argparse.Namespace, tagger: Any) -> None:
    """Refuse a file of other columns than those that the model tags."""
    its = tagger.classes_ if isinstance(tagger.classes_, dict) else None
    given = options.column[1] if options.column else None
    given = given if isinstance(given, dict) else None
    if its is None and given is not None:
        raise DataError(f"{options.model}: tags one column without a name: choose it by --column WORD,LABEL")
    if its is not None and (given is None or set(given) != set(its)):
        wanted = ",".join(f"{name}=N" for name in its)
        raise DataError(f"{options.model}: tags the columns {', '.join(its)}: say where, --column WORD,{wanted}")


def _tell_errors(table: ErrorTable, options: argparse.Namespace) -> None:
    """Write a table of errors to a file, or print its beginning and what was taken for what."""
    if options.errors:
        table.save(options.errors)
        return
    if options.quiet:
        return
    print(f"\n{table!r}", flush=True)
    counts = [(str(own), str(other), f"{n:,}x") for own, other, n in table.counts()[:_SHOWN_COUNTS]]
    if counts:
        print("\n".join(["", *aligned([("expected", "predicted", ""), *counts], "  r")]), flush=True)


def _evaluate_text(options: argparse.Namespace, model: Any) -> None:
    """Print how well a language model predicts a text, and write it as a report."""
    if options.column or options.strict or options.sentence_labels:
        raise DataError("--column, --sentence-labels and --strict are for taggers: leave them out")
    started = time.perf_counter()
    result = model.evaluate(named_text(options.data, model.unit))
    seconds = time.perf_counter() - started
    if not options.quiet:
        tell("test", f"{result['nats']:.4f} nats, {result['bits']:.4f} bits per {model.unit}")
        tell("", f"perplexity {result['perplexity']:.4g}, {count(result['n_symbols'], 'symbol')}")
        if result["n_unknown"]:
            tell("", f"{result['n_unknown'] / result['n_symbols']:.2%} of them unknown")
        tell("speed", f"{result['n_symbols'] / seconds:,.0f} symbols/s")
    if options.report:
        report = {"task": "lm", "model": options.model, "data": options.data, "n_test": result["n_symbols"]}
        report |= {"test_nats": result["nats"], "evaluation": result, "seconds": seconds}
        write_atomically(options.report, (json.dumps(report, indent=1) + "\n").encode())


def run_predict(options: argparse.Namespace) -> None:
    """Tag a file sentence by sentence; all that is no word comes back as it was."""
    if options.out:
        check_target(options.out, force=True)
    tagger = load_estimator(options.model)
    if not hasattr(tagger, "predict"):
        raise DataError(f"{options.model}: holds a {type(tagger).__name__}, which tags nothing; see rnncore generate")
    writes = _what_writes(tagger)
    if writes is not None:
        if writes is not transcribing:
            transcribing.refuse(options)
        writes.run_predict(options, tagger)
        return
    _refuse_searching(options)
    _refuse_others(options, tagger)
    if options.confidence and not hasattr(tagger, "label_probabilities"):
        raise DataError(_without_probabilities(options, tagger, "--confidence"))
    if options.n_best and (isinstance(tagger.classes_, dict) or not hasattr(tagger, "predict_n_best")):
        columns = f" of {', '.join(tagger.classes_)}" if isinstance(tagger.classes_, dict) else ""
        kind = f"{type(tagger).__name__}{columns}"
        raise DataError(f"{options.model}: --n-best needs a SequenceTagger of one column of tags; this model: {kind}")
    classes = tagger.classes_.values() if isinstance(tagger.classes_, dict) else [tagger.classes_]
    labels = set(map(str, chain.from_iterable(classes)))
    fields = fields_by(tagger, options.confidence, options.n_best or 0)
    pieces = _tagged(fields, _lines(options, labels), 1 if _is_typed(options) else None)
    if options.out:
        write_atomically(options.out, (piece.encode() for piece in pieces))
        return
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()


def _without_probabilities(options: argparse.Namespace, model: Any, option: str) -> str:
    return (
        f"{options.model}: {option} needs probabilities of labels, which a SequenceTagger has, or an Ensemble of "
        f"taggers; this model: {type(model).__name__}"
    )


class _Line(NamedTuple):
    """A line of the text to tag."""

    text: str  # as it comes back
    word: str | None  # None: no word, such as a comment
    ends: bool = False  # whether a sentence is over


def _tagged(fields: Fields, lines: Iterable[_Line], n_sentences: int | None) -> Iterator[str]:
    """Yield the tagged text, so many sentences at a time."""
    n_sentences = n_sentences or _SENTENCES_AT_ONCE
    waiting: list[_Line] = []
    n_ended = 0
    for line in chain(lines, [_Line("", None, ends=True)]):
        waiting.append(line)
        n_ended += line.ends
        if n_ended == n_sentences:
            yield _with_fields(fields, waiting)
            waiting, n_ended = [], 0
    yield _with_fields(fields, waiting)


def _with_fields(fields: Fields, lines: list[_Line]) -> str:
    sentences: list[list[str]] = [[]]
    for line in lines:
        if line.word is not None:
            sentences[-1].append(line.word)
        if line.ends and sentences[-1]:
            sentences.append([])
    sentences = [words for words in sentences if words]
    found, comments = fields(sentences) if sentences else (iter(()), None)
    made, begins, number = [], True, 0  # begins: whether the next word is a sentence's first
    for line in lines:
        if line.word is None:
            made.append(line.text)
        else:
            if begins and comments is not None:
                made += [f"# {text}\n" for text in comments[number]]
            number += begins
            made.append(_labelled(line.text, next(found)))
        begins = line.ends or (begins and line.word is None)
    return "".join(made)


def _labelled(text: str, more: list[str]) -> str:
    """Put more behind a line's fields, divided as they are."""
    fields = text.rstrip()
    end = text[len(text.rstrip("\r\n")) :] or "\n"
    between = " " if " " in fields.lstrip() and "\t" not in fields else "\t"
    return f"{between.join([fields, *more])}{end}"


def _is_typed(options: argparse.Namespace) -> bool:
    return bool(options.data == "-" and sys.stdin.isatty())


def _lines(options: argparse.Namespace, labels: set[str]) -> Iterator[_Line]:
    """Read what is to be tagged: lines of columns, or of sentences."""
    if _is_typed(options):
        return _typed()
    word = options.column[0] if options.column else 0
    found = iter_text(options.data, columns=options.column and (word,), whole=False)
    if options.sentences:
        return _sentences(found)
    if options.column:
        return _columns(found, word)
    return _guessed(found, labels, "standard input" if options.data == "-" else options.data)


def _columns(lines: Iterable[tuple[bytes, list[str] | None]], word: int) -> Iterator[_Line]:
    for line, fields in lines:
        yield _Line(line.decode("utf-8"), fields[word] if fields else None, ends=fields == [])


def _sentences(lines: Iterable[tuple[bytes, list[str] | None]]) -> Iterator[_Line]:
    for number, (line, _) in enumerate(lines, start=1):
        words = [word for part in split_line(line, number, "") for word in part.split()]
        yield from (_Line(f"{word}\n", word) for word in words)
        if words:
            yield _Line("\n", None, ends=True)


def _guessed(lines: Iterator[tuple[bytes, list[str] | None]], labels: set[str], name: str) -> Iterator[_Line]:
    """Take lines of several words for sentences if the first is one, and complain if only a later one is."""
    seen: list[tuple[bytes, list[str] | None]] = []
    for line, fields in lines:
        seen.append((line, fields))
        if fields:
            break
    if seen and _is_sentence(*seen[-1], labels):
        print(
            "reading a sentence on every line (--column 1 takes the first word of each for the word)", file=sys.stderr
        )
        yield from _sentences(chain(seen, lines))
        return
    for number, (line, fields) in enumerate(chain(seen, lines), start=1):
        if _is_sentence(line, fields, labels):
            raise DataError(
                f"{name}, line {number}: several words on a line, {' '.join(fields or ())[:40]!r}; --sentences reads "
                "a sentence on every line, --column 1 takes the first for the word"
            )
        yield from _columns([(line, fields)], 0)


def _is_sentence(line: bytes, fields: list[str] | None, labels: set[str]) -> bool:
    """Tell a line of several words from one of columns, which are divided by tabs or end in a label."""
    if not fields or len(fields) == 1 or b"\t" in line:
        return False
    return fields[-1] not in labels and not (len(fields[-1]) > 1 and are_chunks(fields[-1:]))


def _typed() -> Iterator[_Line]:
    """Yield what a person types: a sentence on every line."""
    print("type sentences, one on a line; an empty line or Ctrl-D ends", file=sys.stderr)
    for line in sys.stdin:
        words = line.split()
        if not words:
            return
        yield from (_Line(f"{word}\n", word) for word in words)
        yield _Line("\n", None, ends=True)
