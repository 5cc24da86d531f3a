"""``rnncore replica``: the original program's run, to the last test word."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from typing import Any

from rnncore.cli.arguments import check_target, number
from rnncore.cli.status import INTERRUPTED
from rnncore.cli.tables import count, tell
from rnncore.data.readers import read_tagged
from rnncore.io.files import write_atomically

__all__ = ["add_commands"]

GRADIENTS_WRONG = 1


def add_commands(commands: Any) -> None:
    """Add ``replica`` to the command's parsers."""
    parser = commands.add_parser(
        "replica",
        help="repeat the original program's run exactly",
        description="Train and evaluate exactly as recurrent-net-version-1 does, bugs included.",
        allow_abbrev=False,
    )
    parser.add_argument("data", metavar="DATA", help="tagged words: lines of 'word TAB label', blank between sentences")
    parser.add_argument("--config", metavar="config.txt", help="the original's configuration file (default: built in)")
    parser.add_argument(
        "--version", choices=["1.0", "1.1"], default="1.0", help="one direction, or two (default: %(default)s)"
    )
    parser.add_argument(
        "--accumulators",
        choices=["aliased", "separate"],
        default="aliased",
        help="the update as the program executes it, or as it means it (default: %(default)s)",
    )
    parser.add_argument(
        "--split",
        choices=["libc++", "libstdc++"],
        default="libc++",
        help="whose random_shuffle splits and draws batches: the author's Mac's, or Linux's (default: %(default)s)",
    )
    parser.add_argument("--out", metavar="MODEL.xml", help="write the weights as the original does")
    parser.add_argument("--report", metavar="FILE.json", help="write settings, every iteration's costs and the counts")
    parser.add_argument(
        "--threads",
        type=number(int, 1, 2**31, "a whole number from 1 on"),
        metavar="N",
        help="threads to use; the result does not depend on it (default: all the process may use)",
    )
    talk = parser.add_mutually_exclusive_group()
    talk.add_argument("--verbose", action="store_true", help="print every line that the original prints")
    talk.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train, evaluate, save, report; or check gradients, where the configuration asks for it."""
    for path in filter(None, (options.out, options.report)):
        check_target(path, force=True)
    config = _config(options)
    sentences, tags = read_tagged(options.data)

    from rnncore.replica import Replica

    replica = Replica(options.version, config, options.accumulators, options.split, options.threads)
    if config.gradient_checking:
        return _check_gradients(replica, sentences, tags, options.quiet)
    started = time.perf_counter()
    interrupted = False
    with _Talk(options, config) as talk:
        try:
            replica.fit(sentences, tags, talk.iteration, talk.epoch)
        except KeyboardInterrupt:
            if not hasattr(replica, "costs_"):
                raise
            interrupted = True
    seconds = time.perf_counter() - started
    report = _report(options, replica, len(sentences), seconds, interrupted)
    if not options.quiet:
        _show(report)
    if options.out:
        replica.save_xml(options.out)
    if options.report:
        write_atomically(options.report, (json.dumps(report, indent=1) + "\n").encode())
    if interrupted:
        saved = f"; saved what was learned in {options.out}" if options.out else ""
        done = len(replica.costs_)
        print(f"rnncore replica: interrupted after {done} iterations{saved}", file=sys.stderr)
    return INTERRUPTED if interrupted else 0


def _config(options: argparse.Namespace) -> Any:
    """Return the configuration; what is odd about the file is said on standard error."""
    from rnncore.replica import default_config, read_config

    if options.config is None:
        return default_config(options.version)
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        config = read_config(options.config, options.version)
    for note in notes if not options.quiet else ():
        print(f"rnncore replica: warning: {note.message}", file=sys.stderr)
    return config


class _Talk:
    """What is shown while it runs: a progress bar, the original's lines, or nothing."""

    def __init__(self, options: argparse.Namespace, config: Any) -> None:
        self.verbose = options.verbose
        self.totals: dict[str, int] = {}
        self.bar: Any = None
        if not options.quiet and not options.verbose:
            from tqdm import tqdm

            total = config.epochs * config.iterations + 1
            self.bar = tqdm(total=total, unit="it", leave=False, file=sys.stderr, dynamic_ncols=True, delay=0.5)

    def __enter__(self) -> _Talk:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def iteration(self, epoch: int, k: int, costs: tuple[float, ...]) -> None:
        """Print an iteration's costs with six digits, as the original does."""
        if self.bar is not None:
            self.bar.update()
        if self.verbose:
            terms = ", ".join(f"J{i} = {cost:g}" for i, cost in enumerate(costs, start=1))
            print(f"epoch: {epoch}, iter: {k}, {terms}, Cost = {sum(costs):g}")

    def epoch(self, record: dict[str, Any]) -> None:
        """Print an epoch's accuracies, or show them beside the bar."""
        if self.bar is not None:
            self.bar.set_postfix_str(f"epoch {record['epoch']}, {record['test_correct']} of {record['test_total']}")
        if not self.verbose:
            return
        for part, name in (("train", "training"), ("test", "testing")):
            rule = "#" * 38
            right, total = record[f"{part}_correct"], record[f"{part}_total"]
            print(f"Test {name} data: \n{rule}\n## test result. {right} correct of {total} total.")
            print(f"## Accuracy is {right / total if total else 0:g}\n{rule}", flush=True)


def _report(
    options: argparse.Namespace, replica: Any, n_sentences: int, seconds: float, interrupted: bool
) -> dict[str, Any]:
    import rnncore
    from rnncore.replica.pipeline import training_count

    n_train = training_count(n_sentences, replica.config.training_fraction)
    last = replica.evaluate() if interrupted or not replica.history_ else replica.history_[-1]
    return {
        "task": "replica",
        "version": rnncore.__version__,
        "data": options.data,
        "original_version": replica.version,
        "n_train": n_train,
        "n_test": n_sentences - n_train,
        "n_words": len(replica.alphabet_.words),
        "labels": replica.alphabet_.labels,
        "fit_seconds": seconds,
        "evaluation_seconds": sum(record["evaluation_seconds"] for record in replica.history_),
        "stopped": "interrupted" if interrupted else None,
        "iterations": len(replica.costs_),
        **{name: last[name] for part in ("train", "test") for name in _names(part)},
        "settings": {
            **replica.config.to_json(),
            "accumulators": replica.accumulators,
            "split": replica.split,
            "threads": options.threads,
        },
        "history": [{name: _finite(value) for name, value in record.items()} for record in replica.history_],
        "costs": {f"J{i}": [_finite(float(f"{c:.9g}")) for c in costs] for i, costs in enumerate(replica.costs_.T, 1)},
    }


def _finite(value: Any) -> Any:
    """JSON has no word for what a diverging run ends in."""
    return value if value is None or math.isfinite(value) else None


def _names(part: str) -> tuple[str, str, str]:
    return f"{part}_accuracy", f"{part}_correct", f"{part}_total"


def _show(report: dict[str, Any]) -> None:
    settings = report["settings"]
    tell(
        "data",
        f"{report['data']}: {count(report['n_train'], 'sentence')} to train on, {report['n_test']:,} to test on "
        f"({settings['split']}'s shuffle), {report['n_words']:,} words",
    )
    seconds = f"{report['fit_seconds']:.2f} s, {report['evaluation_seconds']:.2f} s of it evaluation"
    tell("replica", f"version {report['original_version']}, {count(report['iterations'], 'iteration')} in {seconds}")
    for part in ("train", "test"):
        accuracy, correct, total = (report[name] for name in _names(part))
        if total:
            tell(part, f"accuracy {accuracy:.6f} ({correct:,} of {count(total, 'window')} right)")


def _check_gradients(replica: Any, sentences: Any, tags: Any, quiet: bool) -> int:
    from rnncore.replica import check_gradients
    from rnncore.replica.gradients import TOLERANCE

    found = check_gradients(replica, sentences, tags)
    for one in found if not quiet else ():
        verdict = "passed" if one.passed else "FAILED"
        print(f"{verdict}  {one.name:<12} {one.checked} numbers, largest relative difference {one.error:.1e}")
    passed = all(one.passed for one in found)
    if not quiet:
        print(f"gradient check {'passed' if passed else 'FAILED'} (tolerance {TOLERANCE:g})")
    return 0 if passed else GRADIENTS_WRONG
