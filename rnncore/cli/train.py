"""``rnncore train``: from a file of tagged words to a model file."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import textwrap
import time
from collections.abc import Sequence
from typing import Any

from rnncore.cli.arguments import add_column, add_quiet, check_target, number
from rnncore.cli.config import merge_config, read_settings
from rnncore.cli.presets import PRESETS
from rnncore.cli.status import BAD_INPUT, INTERRUPTED
from rnncore.cli.tables import count, show_evaluation, tell
from rnncore.data.readers import DataError, read_packed
from rnncore.data.tokens import select
from rnncore.datasets import news_requests, random_split
from rnncore.io.checkpoints import Checkpoints, forget, read_checkpoint
from rnncore.io.files import ModelFileError, write_atomically

__all__ = ["add_commands"]

Tagged = tuple[Sequence[list[str]], Sequence[list[str]]]

# options that decide what is trained: a checkpoint keeps them, so that --resume needs nothing else
_KEPT = ("data", "task", "test", "valid", "test_fraction", "column", "seed", "out", "report", "plot")


def add_commands(commands: Any) -> None:
    """Add ``train`` to the command's parsers."""
    presets = "; ".join(f"{name}: {preset.purpose}" for name, preset in PRESETS.items())
    parser = commands.add_parser(
        "train",
        help="train a model on a file",
        description="Train a tagger on lines of 'word TAB label', with a blank line between sentences.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "data", nargs="?", metavar="DATA", help="tagged words, plain or gzip; without: a sample of news requests"
    )
    parser.add_argument("--task", choices=["tag"], help="what to learn (default: tag)")
    parser.add_argument("--preset", choices=PRESETS, help=f"settings by purpose; {presets}")
    parser.add_argument(
        "--config", metavar="FILE.toml", help="options as here (test_fraction = 0.1), estimator's under [settings]"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a parameter of the estimator, or an option of one: optimizer.beta1=0.8, schedule.warmup=100, "
        "cell_options.zoneout=0.1; may be repeated",
    )
    parser.add_argument(
        "--settings", action="store_true", help="list all parameters of the estimator with their defaults, and end"
    )
    add_column(parser)
    test = parser.add_mutually_exclusive_group()
    test.add_argument("--test", metavar="FILE", help="tagged words to test on")
    test.add_argument(
        "--test-fraction",
        type=number(float, 0, 1, "a number from 0 to less than 1"),
        metavar="F",
        help="part of DATA to test on instead (default: 0.2)",
    )
    parser.add_argument(
        "--valid",
        metavar="FILE",
        help="tagged words to watch while training: it stops when there is no progress on them, and keeps the best",
    )
    parser.add_argument("--out", metavar="MODEL", help="model file to write (default: ./TASK.safetensors)")
    parser.add_argument(
        "--force", action="store_true", default=None, help="replace the model file or checkpoint if there is one"
    )
    parser.add_argument("--report", metavar="FILE.json", help="write settings, history and results")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the learning curve and the errors by label")
    parser.add_argument(
        "--seed",
        type=number(int, 0, 2**63, "a whole number from 0 on"),
        metavar="S",
        help="for the split, the first weights and all chance (default: 0)",
    )
    parser.add_argument(
        "--threads",
        type=number(int, 1, 2**31, "a whole number from 1 on"),
        metavar="N",
        help="threads to use (default: all the process may use)",
    )
    parser.add_argument(
        "--resume", metavar="CHECKPOINT", help="go on with a training that was cut off; needs no other option"
    )
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="where to keep the state of a long training (default: MODEL.checkpoint)"
    )
    parser.add_argument(
        "--checkpoint-every",
        type=number(float, 0, math.inf, "a number of seconds from 0 on"),
        metavar="SECONDS",
        help="how often (default: 60)",
    )
    add_quiet(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train, test, save, report; or tell what can be set."""
    from rnncore.estimators.tagger import SequenceTagger  # scikit-learn takes most of a second to import

    if options.settings:
        return _show_settings(SequenceTagger)
    known = SequenceTagger().get_params(deep=False)
    of_file = merge_config(options, known)
    kept = _resumed(options)
    settings = _kept_settings(kept) if kept else read_settings(options, of_file, known, options.set)
    _fill_in(options, settings)
    _check_targets(options, resuming=kept is not None)
    say = (lambda *columns: None) if options.quiet else tell
    train, test, source = _data(options)
    valid = read_packed(options.valid, options.column) if options.valid else None

    if not options.quiet:
        import tqdm.auto  # noqa: F401 (now, not within the time of the fit)
    chosen: dict[str, Any] = {"random_state": options.seed, "verbose": 0 if options.quiet else 1, **settings}
    if options.threads is not None:
        chosen["n_threads"] = options.threads
    tagger = SequenceTagger(**chosen)
    checkpoints = Checkpoints(options.checkpoint, options.checkpoint_every, kept, _command(options, settings))
    watched = f", {len(valid[0]):,} to watch" if valid else ""
    say("data", f"{source}: {count(len(train[0]), 'sentence')} to train on{watched}, {len(test[0]):,} to test on")
    if kept:
        say("resumed", f"{options.resume}, from epoch {_epoch(kept)} on")
    started = time.perf_counter()
    try:
        tagger.fit(*train, validation_data=valid, checkpoint=checkpoints)
    except (KeyboardInterrupt, SystemExit) as stop:
        return _interrupted(tagger, options, stop)
    seconds = time.perf_counter() - started
    _save(tagger, options)
    report = _report(options, tagger, train, test, seconds)
    if options.report:
        write_atomically(options.report, (json.dumps(report, indent=1) + "\n").encode())
    _show(say, tagger, report)
    if options.plot:
        from rnncore.plots import plot_report

        plot_report(report, options.plot)
    say("saved", f"{options.out} ({os.path.getsize(options.out) / 1e6:.2f} MB)")
    forget(options.checkpoint)
    return BAD_INPUT if tagger.stopped_ == "diverged" else 0


def _show_settings(estimator: type) -> int:
    """Print each parameter with its default and a sentence."""
    from rnncore.estimators._documentation import described_settings

    for name, default, sentence in described_settings(estimator):
        print(f"{name} = {default!r}")
        print(textwrap.fill(sentence, 96, initial_indent="    ", subsequent_indent="    "))
    return 0


def _resumed(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Read the checkpoint of ``--resume`` and take over the options it was made with."""
    if not options.resume:
        return None
    for name in ("set", "config", "preset", "seed", "column", "test", "valid", "test_fraction"):
        if getattr(options, name) not in (None, []):
            raise DataError(
                f"--resume goes on with the settings of the checkpoint; leave out --{name.replace('_', '-')}"
            )
    header, arrays = read_checkpoint(options.resume)
    command = header.get("command")
    if not isinstance(command, dict) or not isinstance(command.get("options"), dict):
        raise ModelFileError(f"{options.resume}: a checkpoint, but not of rnncore train; go on with fit(resume=...)")
    for name in _KEPT:
        value = command["options"].get(name)
        if getattr(options, name) is None and value is not None:
            setattr(options, name, tuple(value) if isinstance(value, list) else value)
    options.checkpoint = options.checkpoint or options.resume
    return header, arrays


def _kept_settings(kept: tuple[dict[str, Any], Any]) -> dict[str, Any]:
    from rnncore.estimators.base import setting_from_json

    return {name: setting_from_json(value) for name, value in kept[0]["command"]["settings"].items()}


def _command(options: argparse.Namespace, settings: dict[str, Any]) -> dict[str, Any]:
    from rnncore.estimators.base import setting_to_json

    return {
        "options": {name: getattr(options, name) for name in _KEPT},
        "settings": {name: setting_to_json(value) for name, value in settings.items()},
    }


def _fill_in(options: argparse.Namespace, settings: dict[str, Any]) -> None:
    """Give every option left open its default."""
    options.task = options.task or "tag"
    options.out = options.out or f"{options.task}.safetensors"
    options.seed = 0 if options.seed is None else options.seed
    options.checkpoint = options.checkpoint or f"{options.out}.checkpoint"
    options.checkpoint_every = 60.0 if options.checkpoint_every is None else float(options.checkpoint_every)
    if options.test_fraction is not None and options.test:
        raise DataError("test and test_fraction exclude each other: leave one out")


def _check_targets(options: argparse.Namespace, resuming: bool) -> None:
    check_target(options.out, bool(options.force) or resuming)
    if os.path.exists(options.checkpoint) and not (options.force or resuming):
        raise DataError(
            f"{options.checkpoint} is there, of a training that was cut off; go on with --resume {options.checkpoint}, "
            f"or start anew with --force"
        )
    for target in (options.report, options.plot, options.checkpoint):
        if target:
            check_target(target, force=True)
    if options.plot:
        from rnncore.plots import check_plotting

        check_plotting(options.plot)


def _epoch(kept: tuple[dict[str, Any], Any]) -> Any:
    try:
        return kept[0]["trainer"]["position"]["epoch"]
    except (KeyError, TypeError):
        return "?"


def _data(options: argparse.Namespace) -> tuple[Tagged, Tagged, str]:
    """Return training data, test data and what to call them."""
    data: Tagged = read_packed(options.data, options.column) if options.data else news_requests()
    source = options.data or "a sample of news requests"
    if options.test:
        return data, read_packed(options.test, options.column), source
    fraction = 0.2 if options.test_fraction is None else options.test_fraction
    if fraction and len(data[0]) < 2:
        raise DataError(f"{source} holds one sentence; to split off a test part takes two (or --test-fraction 0)")
    train, test = (
        (select(data[0], rows), select(data[1], rows)) for rows in random_split(len(data[0]), fraction, options.seed)
    )
    return train, test, source


def _report(options: argparse.Namespace, tagger: Any, train: Tagged, test: Tagged, seconds: float) -> dict[str, Any]:
    import rnncore
    from rnncore.estimators.base import setting_to_json

    report = {
        "task": options.task,
        "version": rnncore.__version__,
        "data": options.data,
        "n_train": len(train[0]),
        "n_test": len(test[0]),
        "valid": options.valid,
        "n_labels": len(tagger.classes_),
        "n_weights": int(tagger.network_.theta.size),
        "fit_seconds": seconds,
        "stopped": tagger.stopped_,
        "history": tagger.history_,
        "settings": {name: setting_to_json(value) for name, value in tagger.get_params(deep=False).items()},
    }
    correct, total = tagger.count_correct(*train)
    report |= {"train_accuracy": correct / total, "train_correct": correct, "train_total": total}
    tested = tagger.evaluate(*test) if len(test[0]) else {"accuracy": None, "correct": 0, "total": 0}
    report |= {f"test_{name}": tested.pop(name) for name in ("accuracy", "correct", "total")}
    report["evaluation"] = tested or None
    return report


def _show(say: Any, tagger: Any, report: dict[str, Any]) -> None:
    direction = ", both directions" if tagger.bidirectional else ""
    layers = f"{tagger.num_layers} x " if tagger.num_layers > 1 else ""
    say(
        "model",
        f"{layers}{tagger.cell} {tagger.hidden_size}{direction}; {count(report['n_labels'], 'label')}, "
        f"{report['n_weights']:,} weights",
    )
    epochs, seconds = len(report["history"]), report["fit_seconds"]
    speed = f", {epochs * report['train_total'] / seconds:,.0f} words/s" if epochs else ""
    say("trained", f"{count(epochs, 'epoch')} in {seconds:.2f} s{speed}")
    correct, total = report["train_correct"], report["train_total"]
    say("train", f"accuracy {correct / total:.4f} ({correct:,} of {count(total, 'word')} right)")
    if report["evaluation"]:
        whole = {name: report[f"test_{name}"] for name in ("accuracy", "correct", "total")}
        show_evaluation(say, whole | report["evaluation"])


def _save(tagger: Any, options: argparse.Namespace) -> None:
    try:
        tagger.save(options.out)
    except OSError as problem:
        if os.path.exists(options.checkpoint):
            raise DataError(
                f"{options.out}: {problem.strerror or problem}; when that is mended, go on with --resume "
                f"{options.checkpoint}"
            ) from problem
        raise


def _interrupted(tagger: Any, options: argparse.Namespace, stop: KeyboardInterrupt | SystemExit) -> int:
    """Save what was learned until a signal came, and return the exit status that the signal promises."""
    if not hasattr(tagger, "network_"):
        raise stop
    _save(tagger, options)
    goes_on = f"; go on with --resume {options.checkpoint}" if os.path.exists(options.checkpoint) else ""
    print(
        f"rnncore train: interrupted after {count(tagger.n_epochs_, 'epoch')}; saved what was learned in {options.out}"
        f"{goes_on}",
        file=sys.stderr,
    )
    return stop.code if isinstance(stop, SystemExit) and isinstance(stop.code, int) else INTERRUPTED
