"""``rnncore train``: from a file of tagged words, or of any text, to a model file."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import textwrap
import time
from typing import Any

from rnncore.cli.arguments import add_column, add_quiet, check_target, number
from rnncore.cli.config import read_config, read_settings
from rnncore.cli.processes import Processes
from rnncore.cli.status import BAD_INPUT, INTERRUPTED
from rnncore.cli.tables import count, tell
from rnncore.cli.tasks import TASKS, Data, Task, task_of
from rnncore.data.readers import DataError
from rnncore.estimators.presets import CLASSIFIERS, FORECASTERS, LANGUAGE_MODELS, TAGGERS
from rnncore.io.checkpoints import Checkpoints, forget, read_checkpoint
from rnncore.io.files import ModelFileError, write_atomically

__all__ = ["add_commands"]

# options that decide what is trained: a checkpoint keeps them, so that --resume needs nothing else
_DATA = (
    *("test", "valid", "test_fraction", "column"),
    *("sentence_labels", "test_sentence_labels", "valid_sentence_labels"),
)
_KEPT = ("data", "task", *_DATA, "seed", "out", "report", "plot")


def add_commands(commands: Any) -> None:
    """Add ``train`` to the command's parsers."""
    presets = "; ".join(
        f"{name}: {preset.purpose}"
        for some in (TAGGERS, LANGUAGE_MODELS, CLASSIFIERS, FORECASTERS)
        for name, preset in some.items()
    )
    parser = commands.add_parser(
        "train",
        help="train a model on a file",
        description="Train a tagger on lines of 'word TAB label', with a blank line between sentences; or, with --task "
        "lm, a language model on any text; with translate, what writes a sequence for a sequence, on lines of 'source "
        "TAB target'; with caption, what writes sentences about vectors; with transcribe, what is said in recordings; "
        "with classify and regress, what sequences of numbers are, or how much; with forecast, how series go on.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "data",
        nargs="?",
        metavar="DATA",
        help="tagged words, plain or gzip; without: a sample of news requests. Of a language model any text; without: "
        "the source of Python's own library. To translate, pairs; without: generated dates. For captions an .npz of "
        "vectors and sentences, or lines of numbers with the sentence last; without: generated pictures. To transcribe "
        "lines of 'file.wav TAB what is said', or an .npz file of the arrays features, or samples and sample_rate, "
        "starts (of each sequence) and strings; without: dialled numbers. To classify or regress .ts, .npz (x, y), "
        ".jsonl (x, y a line), or tables, a sequence a line with its target last, or a step a line with a column "
        "sequence; without: digits, sums. To forecast tables, a step a line, with a column time, columns known… and "
        "past… of covariates, or .jsonl (y, known, past a line), .npz (y, known, past); without: a chaotic series",
    )
    parser.add_argument(
        "--task",
        choices=TASKS,
        help="what to learn: tag words, go on with a text (lm), translate, transcribe, write captions, classify "
        "sequences or tell how much they are (regress), forecast (default: tag)",
    )
    parser.add_argument("--preset", metavar="NAME", help=f"settings by purpose; {presets}")
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
    test.add_argument("--test", metavar="FILE", help="a file as DATA to test on")
    test.add_argument(
        "--test-fraction",
        type=number(float, 0, 1, "a number from 0 to less than 1"),
        metavar="F",
        help="part of DATA to test on instead (default: 0.2 of all but a text)",
    )
    parser.add_argument(
        "--valid",
        metavar="FILE",
        help="a file as DATA to watch while training: it stops when there is no progress on them, and keeps the best",
    )
    for part, data in (("", "DATA"), ("test-", "the file of --test"), ("valid-", "the file of --valid")):
        parser.add_argument(
            f"--{part}sentence-labels",
            metavar="FILE",
            help=f"a label for each sentence of {data}, one a line in the same order: learned beside the tags"
            if not part
            else f"those of {data}",
        )
    parser.add_argument("--out", metavar="MODEL", help="model file to write (default: ./TASK.safetensors)")
    parser.add_argument(
        "--force", action="store_true", default=None, help="replace the model file or checkpoint if there is one"
    )
    parser.add_argument("--report", metavar="FILE.json", help="write settings, history and results")
    parser.add_argument(
        "--plot",
        metavar="FILE.png",
        help="draw the learning curve and the test: errors by label, which class was taken for which, predictions, "
        "forecasts",
    )
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
        "--shards",
        type=number(int, 1, 2**31, "a power of two"),
        metavar="N",
        help="parts of each minibatch, 2, 4, 8, ..., that processes started by mpiexec share; the result depends on "
        "their number, and not on that of the processes (default: as many as processes). Where a launcher starts "
        "trainings of their own, set RNNCORE_ALONE=1",
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
    if options.settings:
        read_config(options)
        return _show_settings(task_of(options.task or "tag").estimator())
    processes = Processes(options.shards)
    options.quiet = options.quiet or not processes.is_first
    with processes.together():
        task, model, data, checkpoints = _prepared(options, processes)
    say = (lambda *columns: None) if options.quiet else tell
    started = time.perf_counter()
    try:
        task.fit(model, data, checkpoint=checkpoints, **processes.options)
    except (KeyboardInterrupt, SystemExit) as stop:
        return _interrupted(model, options, stop) if processes.is_first else 0
    if not processes.is_first:
        return 0
    seconds = time.perf_counter() - started
    _save(model, options)
    report = _report(options, model, seconds) | task.report(model, data, seconds)
    if options.report:
        write_atomically(options.report, (json.dumps(report, indent=1) + "\n").encode())
    task.show(say, model, report)
    if options.plot:
        from rnncore.plots import plot_report

        plot_report(report, options.plot)
    say("saved", f"{options.out} ({os.path.getsize(options.out) / 1e6:.2f} MB)")
    forget(options.checkpoint)
    return BAD_INPUT if model.stopped_ == "diverged" else 0


def _prepared(options: argparse.Namespace, processes: Processes) -> tuple[Task, Any, Data, Checkpoints]:
    """Read options and data, check everything that can be checked before the work, and make the estimator."""
    kept = _resumed(options)
    of_file = read_config(options)
    task = task_of(options.task or "tag")
    estimator = task.estimator()
    known = estimator().get_params(deep=False)
    settings = _kept_settings(kept) if kept else read_settings(options, of_file, known, task)
    if options.seed is not None and not kept:
        settings["random_state"] = options.seed
    _fill_in(options)
    settings.setdefault("random_state", options.seed)
    if processes.is_first:
        _check_targets(options, resuming=kept is not None)
    say = (lambda *columns: None) if options.quiet else tell
    estimator(**settings)._check_settings()
    data = task.read(options, settings)

    if not options.quiet:
        import tqdm.auto  # noqa: F401 (now, not within the time of the fit)
    threads = processes.share_cores()
    chosen: dict[str, Any] = {"verbose": 0 if options.quiet else 1, **settings}
    if options.threads is not None:
        chosen["n_threads"] = options.threads
    say("data", data.described)
    if processes.size > 1:
        say("over", f"{processes.size} processes, of {count(options.threads or threads, 'thread')} each")
    if kept:
        say("resumed", f"{options.resume}, from epoch {_epoch(kept)} on")
    checkpoints = Checkpoints(options.checkpoint, options.checkpoint_every, kept, _command(options, settings))
    return task, estimator(**chosen), data, checkpoints


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
    for name in ("set", "config", "preset", "seed", *_DATA):
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


def _fill_in(options: argparse.Namespace) -> None:
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


def _report(options: argparse.Namespace, model: Any, seconds: float) -> dict[str, Any]:
    """Return what every task reports."""
    import rnncore
    from rnncore.estimators.base import setting_to_json

    return {
        "task": options.task,
        "version": rnncore.__version__,
        "data": options.data,
        "valid": options.valid,
        "seed": model.random_state,
        "n_weights": int(model.network_.theta.size),
        "fit_seconds": seconds,
        "stopped": model.stopped_,
        "history": model.history_,
        "settings": {name: setting_to_json(value) for name, value in model.get_params(deep=False).items()},
    }


def _save(model: Any, options: argparse.Namespace) -> None:
    try:
        model.save(options.out)
    except OSError as problem:
        if os.path.exists(options.checkpoint):
            raise DataError(
                f"{options.out}: {problem.strerror or problem}; when that is mended, go on with --resume "
                f"{options.checkpoint}"
            ) from problem
        raise


def _interrupted(model: Any, options: argparse.Namespace, stop: KeyboardInterrupt | SystemExit) -> int:
    """Save what was learned until a signal came, and return the exit status that the signal promises."""
    if not hasattr(model, "network_"):
        raise stop
    _save(model, options)
    goes_on = f"; go on with --resume {options.checkpoint}" if os.path.exists(options.checkpoint) else ""
    print(
        f"rnncore train: interrupted after {count(model.n_epochs_, 'epoch')}; saved what was learned in {options.out}"
        f"{goes_on}",
        file=sys.stderr,
    )
    return stop.code if isinstance(stop, SystemExit) and isinstance(stop.code, int) else INTERRUPTED
