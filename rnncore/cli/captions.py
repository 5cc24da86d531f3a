"""``--task caption``: vectors and sentences about them; and what evaluate and predict do with such a model."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from typing import Any

import numpy as np

from rnncore.cli import translation
from rnncore.cli.tables import count, described_layers
from rnncore.cli.tasks import Data, Task
from rnncore.data.readers import DataError, iter_text_lines
from rnncore.datasets import picture_features, random_split, shapes
from rnncore.io.files import write_atomically

__all__ = ["Captions", "read_captions", "run_evaluate", "run_predict"]

_SAMPLE = 3000  # generated pictures, where there are no data
_AT_ONCE = 1024

Pairs = tuple[Any, list[str]]  # sources and sentences


class Captions(Task):
    """An .npz file of ``vectors`` and ``sentences``, or lines of numbers, or a class, with the sentence last."""

    presets = {}  # noqa: RUF012

    def estimator(self) -> type:
        """Return what writes sentences about vectors."""
        from rnncore.estimators.captions import CaptionModel

        return CaptionModel

    def read(self, options: argparse.Namespace, settings: dict[str, Any]) -> Data:
        """Read vectors and sentences, and divide them."""
        for name in ("column", "sentence_labels", "test_sentence_labels", "valid_sentence_labels"):
            if getattr(options, name):
                raise DataError(f"--{name.replace('_', '-')} goes with --task tag: leave it out")
        source = options.data or "generated pictures of shapes"
        pairs = read_captions(options.data) if options.data else _generated()
        n = len(pairs[1])
        if options.test:
            train, test = pairs, read_captions(options.test)
        else:
            fraction = 0.2 if options.test_fraction is None else options.test_fraction
            if fraction and n < 2:
                raise DataError(
                    f"{source} holds one sentence; to split off a test part takes two (or --test-fraction 0)"
                )
            train, test = (_some(pairs, rows) for rows in random_split(n, fraction, options.seed))
        valid = read_captions(options.valid) if options.valid else None
        watched = f", {len(valid[1]):,} to watch" if valid else ""
        described = f"{source}: {count(len(train[1]), 'sentence')} to train on{watched}, {len(test[1]):,} to test on"
        return Data(train, valid, test, described)

    def fit(self, model: Any, data: Data, **options: Any) -> None:
        """Train."""
        model.fit(*data.train, validation_data=data.valid, **options)

    def report(self, model: Any, data: Data, seconds: float) -> dict[str, Any]:
        """Count what is written without a fault, and edits."""
        report = {"n_train": len(data.train[1]), "n_test": len(data.test[1]), "n_symbols": len(model.symbols_)}
        return report | _evaluated(model, *data.test)

    def show(self, say: Any, model: Any, report: dict[str, Any]) -> None:
        """Tell sizes, speed and how much is right."""
        symbols = count(report["n_symbols"], model.unit if model.unit == "word" else "character")
        say("model", f"{described_layers(model)}; {symbols} to write, {report['n_weights']:,} weights")
        say("trained", f"{count(len(report['history']), 'epoch')} in {report['fit_seconds']:.1f} s")
        translation.show(say, report)


def _generated() -> Pairs:
    pictures, sentences = shapes(_SAMPLE)
    return picture_features(pictures), sentences


def _some(pairs: Pairs, rows: Any) -> Pairs:
    sources, sentences = pairs
    some = sources[rows] if isinstance(sources, np.ndarray) else [sources[n] for n in rows]
    return some, [sentences[n] for n in rows]


def read_captions(path: str) -> Pairs:
    """Read vectors, sequences of vectors or classes, and the sentences about them.

    Raises
    ------
    DataError
        For a file without them, and a line that is none, with its number.
    """
    sources, sentences = read_sources(path)
    if sentences is None:
        raise DataError(f"{path}: expected sentences, too: in .npz as sentences, in lines as the last field")
    return sources, sentences


def read_sources(path: str) -> tuple[Any, list[str] | None]:
    """Read vectors, sequences of vectors or classes, and the sentences if there are some."""
    return _arrays(path) if path.endswith(".npz") else _rows(path)


def _arrays(path: str) -> tuple[Any, list[str] | None]:
    try:
        with np.load(path, allow_pickle=False) as found:
            arrays = {name: found[name] for name in ("vectors", "sentences") if name in found.files}
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, EOFError, KeyError):
        raise DataError(f"{path}: expected arrays in NumPy's form, .npz, without objects") from None
    if "vectors" not in arrays:
        raise DataError(f"{path}: expected an array vectors (N, V), or (N, T, D), and sentences (N,)")
    sentences = arrays.get("sentences")
    if sentences is None:
        return arrays["vectors"], None
    if sentences.dtype.kind != "U" or sentences.shape != (len(arrays["vectors"]),):
        raise DataError(
            f"{path}: expected {len(arrays['vectors'])} sentences as an array of str, got {sentences.dtype} of shape "
            f"{sentences.shape}"
        )
    return arrays["vectors"], sentences.tolist()


def _rows(path: str) -> tuple[Any, list[str] | None]:
    """Read lines of fields between tabs or, in .csv, commas: numbers, or one class, and perhaps a sentence."""
    vectors: list[list[float]] = []
    classes: list[str] = []
    sentences: list[str] = []
    for number, text in iter_text_lines(path):
        fields = next(csv.reader([text])) if path.endswith(".csv") else text.split("\t")
        numbers = [_number(field) for field in fields]
        told = numbers[-1] is None and len(fields) > 1
        if None in numbers[: len(fields) - told] and len(fields) - told > 1:
            bad = numbers.index(None)
            raise DataError(f"{path}, line {number}: expected numbers before the sentence, got {fields[bad]!r:.60}")
        if told:
            sentences.append(fields[-1])
        if numbers[0] is None:
            classes.append(fields[0])
        else:
            vectors.append([one for one in numbers if one is not None])
        if (vectors and classes) or (sentences and len(sentences) < len(vectors) + len(classes)):
            raise DataError(f"{path}, line {number}: this line is of another kind than those before")
        if vectors and len(vectors[-1]) != len(vectors[0]):
            raise DataError(
                f"{path}, line {number}: expected {len(vectors[0])} numbers as before, got {len(vectors[-1])}"
            )
    if not vectors and not classes:
        raise DataError(f"{path} holds nothing: expected lines of numbers, or a class, with the sentence last")
    return classes or np.array(vectors), sentences or None


def _number(field: str) -> float | None:
    try:
        return float(field)
    except ValueError:
        return None


def _evaluated(model: Any, sources: Any, sentences: list[str], beam_size: int = 1) -> dict[str, Any]:
    """Return the share of sentences that are written without a fault, the label error rate, and what is wrong."""
    if not sentences:
        return {"test_accuracy": None, "test_correct": 0, "test_total": 0, "label_error_rate": None, "wrong": []}
    measured, found = model.evaluate(sources, sentences, beam_size), model.predict(sources, beam_size)
    rows = zip(sentences, found, strict=True)
    wrong = [[f"vector {n}", true, other] for n, (true, other) in enumerate(rows) if true != other]
    correct = round(measured["exact"] * len(sentences))
    return {
        "test_accuracy": measured["exact"],
        "test_correct": correct,
        "test_total": len(sentences),
        "label_error_rate": measured["error_rate"],
        "test_nats": measured["nats"],
        "wrong": wrong[:100] if correct < len(sentences) else [],
    }


def run_evaluate(options: argparse.Namespace, model: Any) -> None:
    """Print how many sentences of a file are written without a fault, and write it as a report."""
    sources, sentences = read_captions(options.data)
    translation.report_evaluation(
        options, "caption", len(sentences), lambda: _evaluated(model, sources, sentences, options.beam_size or 1)
    )


def run_predict(options: argparse.Namespace, model: Any) -> None:
    """Write a sentence for each source."""
    translation.refuse_for_taggers(options, ("column", "sentences", "confidence"))
    sources, _ = read_sources(options.data)
    out = io.StringIO()
    for start in range(0, len(sources), _AT_ONCE):
        out.writelines(f"{line}\n" for line in translation.lines_of(options, model, sources[start : start + _AT_ONCE]))
    if options.out:
        write_atomically(options.out, out.getvalue().encode())
        return
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
    sys.stdout.write(out.getvalue())
