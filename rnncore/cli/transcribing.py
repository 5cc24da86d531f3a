"""``--task transcribe``: strings of characters from sounds or sequences of features."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from rnncore.cli.arguments import number
from rnncore.cli.tables import count, described_layers, tell
from rnncore.cli.tasks import Data, Task
from rnncore.data.readers import DataError
from rnncore.data.recordings import Recordings, read_recordings
from rnncore.datasets import TONES_RATE, dialled, random_split
from rnncore.io.files import load_estimator, write_atomically
from rnncore.metrics import edit_distances

__all__ = ["Transcribing", "add_options", "run_evaluate", "run_predict"]

_OF_SOUNDS = {"stack": 3, "every": 3}  # settings, where nobody says otherwise: what changes within 30 ms is one step
_OPTIONS = ("language_model", "lm_weight", "words", "time_stamps")


class Transcribing(Task):
    """Sounds or features with strings, as `read_recordings` takes them."""

    presets = {}  # noqa: RUF012

    def estimator(self) -> type:
        """Return the transcriber."""
        from rnncore.estimators.transcriber import Transcriber

        return Transcriber

    def read(self, options: argparse.Namespace, settings: dict[str, Any]) -> Data:
        """Read sequences and strings, and divide them."""
        for name in ("column", "sentence_labels", "test_sentence_labels", "valid_sentence_labels"):
            if getattr(options, name):
                raise DataError(f"--{name.replace('_', '-')} goes with --task tag: leave it out")
        source = options.data or "a sample of dialled numbers"
        every = read_recordings(options.data) if options.data else _sample()
        if every.sample_rate is not None:
            settings["sample_rate"] = every.sample_rate
            for name, value in _OF_SOUNDS.items():
                settings.setdefault(name, value)
        if options.test:
            train, test = every, _alike(options.test, every)
        else:
            fraction = 0.2 if options.test_fraction is None else options.test_fraction
            train, test = (every.select(rows) for rows in random_split(len(every.names), fraction, options.seed))
        valid = _alike(options.valid, every) if options.valid else None
        noun = "sequence" if every.sample_rate is None else "sound"
        watched = f", {len(valid.names):,} to watch" if valid else ""
        described = f"{source}: {count(len(train.names), noun)} to train on{watched}, {len(test.names):,} to test on"
        return Data(train, valid, test, described)

    def fit(self, model: Any, data: Data, **options: Any) -> None:
        """Train the transcriber."""
        valid = None if data.valid is None else (data.valid.sequences, data.valid.strings)
        model.fit(data.train.sequences, data.train.strings, validation_data=valid, **options)

    def report(self, model: Any, data: Data, seconds: float) -> dict[str, Any]:
        """Count edits."""
        report: dict[str, Any] = {
            "n_train": len(data.train.names),
            "n_test": len(data.test.names),
            "n_labels": len(model.classes_),
            "label_error_rate": None,
            "evaluation": None,
        }
        if data.test.names:
            found = _measured(data.test.strings, model.predict(data.test.sequences))
            report |= {"label_error_rate": found["label_error_rate"], "evaluation": found}
        return report

    def show(self, say: Any, model: Any, report: dict[str, Any]) -> None:
        """Tell sizes, speed and errors."""
        say(
            "model", f"{described_layers(model)}; {count(report['n_labels'], 'label')}, {report['n_weights']:,} weights"
        )
        say("trained", f"{count(len(report['history']), 'epoch')} in {report['fit_seconds']:.1f} s")
        if report["evaluation"]:
            _show(say, report["evaluation"])


def _sample() -> Recordings:
    sounds, strings = dialled(400)
    return Recordings(sounds, strings, [str(number) for number in range(len(sounds))], TONES_RATE)


def _alike(path: str, other: Recordings) -> Recordings:
    """Read a file of the same kind as another."""
    found = read_recordings(path)
    if found.sample_rate != other.sample_rate:
        kinds = ["features" if one is None else f"sounds of {one} Hz" for one in (other.sample_rate, found.sample_rate)]
        raise DataError(f"{path}: expected {kinds[0]}, as in the training data, got {kinds[1]}")
    return found


def _measured(true: list[str], predicted: list[str]) -> dict[str, Any]:
    """Return how many edits there are, beside how many labels, and how many strings are right."""
    edits = edit_distances(true, predicted)
    labels, right = sum(map(len, true)), int((edits == 0).sum())
    return {
        "label_error_rate": int(edits.sum()) / labels if labels else float(edits.any()),
        "edits": int(edits.sum()),
        "n_labels": labels,
        "string_accuracy": right / len(true),
        "strings_right": right,
        "n_strings": len(true),
    }


def _show(say: Any, found: dict[str, Any]) -> None:
    share = f"{found['edits']:,} of {count(found['n_labels'], 'label')} to edit"
    say("test", f"label error rate {found['label_error_rate']:.4f} ({share})")
    right = f"{found['strings_right']:,} of {count(found['n_strings'], 'string')}"
    say("", f"all right {found['string_accuracy']:.4f} ({right})")


# -- a model put to work ----------------------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``evaluate`` and ``predict`` can ask of a transcriber."""
    parser.add_argument(
        "--language-model",
        metavar="MODEL",
        help="of a model that transcribes: a model of --task lm judges what it writes",
    )
    parser.add_argument(
        "--lm-weight",
        type=number(float, 0, float("inf"), "a number from 0 on"),
        metavar="W",
        help="what that one's log-probabilities are multiplied by (default: 0.5)",
    )
    parser.add_argument(
        "--words", metavar="FILE", help="of a model that transcribes: all words that there are, one a line"
    )


def refuse(options: argparse.Namespace) -> None:
    """Refuse options that only transcribers have."""
    for name in _OPTIONS:
        if getattr(options, name, None) not in (None, False):
            raise DataError(f"{options.model}: --{name.replace('_', '-')} is for models that transcribe: leave it out")


def run_evaluate(options: argparse.Namespace, model: Any) -> None:
    """Print how many edits a model's strings need, and write it as a report."""
    if options.column or options.strict or options.sentence_labels or options.errors is not None:
        raise DataError("--column, --sentence-labels, --strict and --errors are for taggers: leave them out")
    data = _read(options, model, strings=True)
    started = time.perf_counter()
    predicted = model.predict(data.sequences, **_decoding(options))
    seconds = time.perf_counter() - started
    found = _measured(data.strings or [], predicted)
    if not options.quiet:
        _show(tell, found)
        tell("speed", f"{len(predicted) / seconds:,.0f} strings/s")
    if options.report:
        report = {"task": "transcribe", "model": options.model, "data": options.data, "n_test": len(predicted)}
        report |= {"label_error_rate": found["label_error_rate"], "evaluation": found, "seconds": seconds}
        write_atomically(options.report, (json.dumps(report, indent=1) + "\n").encode())


def run_predict(options: argparse.Namespace, model: Any) -> None:
    """Write what is said, a line for each sequence; or when each label is said, a line for each."""
    if options.column or options.sentences or options.confidence:
        raise DataError("--column, --sentences and --confidence are for taggers: leave them out")
    if options.n_best and options.time_stamps:
        raise DataError("--n-best and --time-stamps exclude each other: leave one out")
    data = _read(options, model, strings=False)
    lines = _lines(options, model, data)
    if options.out:
        write_atomically(options.out, "".join(lines).encode())
        return
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
    for line in lines:
        sys.stdout.write(line)
    sys.stdout.flush()


def _lines(options: argparse.Namespace, model: Any, data: Recordings) -> Iterator[str]:
    how = _decoding(options)
    if options.n_best:
        every = model.predict_n_best(data.sequences, options.n_best, **how)
        for name, found in zip(data.names, every, strict=True):
            yield from (f"{name}\t{string}\t{score:.4f}\n" for string, score in found)
        return
    if not options.time_stamps:
        for name, string in zip(data.names, model.predict(data.sequences, **how), strict=True):
            yield f"{name}\t{string}\n"
        return
    unit = model.step_seconds_ or 1
    for name, spans in zip(data.names, model.predict(data.sequences, **how, time_stamps=True)[1], strict=True):
        yield from (f"{name}\t{span.start * unit:g}\t{span.end * unit:g}\t{span.symbol}\n" for span in spans)


def _read(options: argparse.Namespace, model: Any, strings: bool) -> Recordings:
    if options.data == "-":
        raise DataError("a model that transcribes reads .npz and .wav files: name one, or a list or folder of them")
    found = read_recordings(options.data, strings)
    wanted = model.specification_.settings.sample_rate
    if found.sample_rate != wanted:
        kinds = ["features" if one is None else f"sounds of {one:g} Hz" for one in (wanted, found.sample_rate)]
        raise DataError(f"{options.data}: this model hears {kinds[0]}, got {kinds[1]}")
    return found


def _decoding(options: argparse.Namespace) -> dict[str, Any]:
    """Return how to decode, as `Transcriber.predict` takes it."""
    how: dict[str, Any] = {"beam_size": options.beam_size}
    if options.language_model:
        how["language_model"] = load_estimator(options.language_model)
        if not hasattr(how["language_model"], "next_symbols"):
            raise DataError(f"{options.language_model}: expected a model of --task lm")
        if options.lm_weight is not None:
            how["lm_weight"] = options.lm_weight
    elif options.lm_weight is not None:
        raise DataError("--lm-weight goes with --language-model: give both, or none")
    if options.words:
        with open(options.words, encoding="utf-8") as file:
            how["words"] = [word for word in file.read().split("\n") if word]
    return how
