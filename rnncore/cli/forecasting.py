"""``--task forecast``: what comes next in series of numbers; and what evaluate and predict do with such models."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np

from rnncore.cli.tables import count, described_layers, tell
from rnncore.cli.tasks import Data, Task
from rnncore.cli.translation import refuse_for_taggers
from rnncore.data.forecast_files import Told, read_told
from rnncore.data.readers import DataError
from rnncore.datasets import mackey_glass
from rnncore.estimators.presets import FORECASTERS
from rnncore.io.files import write_atomically

__all__ = ["Forecasting", "run_evaluate", "run_predict"]

_ORIGINS = 500  # steps that a test forecasts from
_INTERVAL = (0.05, 0.95)


class Forecasting(Task):
    """What comes next."""

    presets = FORECASTERS

    def estimator(self) -> type:
        """Return what forecasts."""
        from rnncore.estimators.forecaster import Forecaster

        return Forecaster

    def read(self, options: argparse.Namespace, settings: dict[str, Any]) -> Data:
        """Read series; the test part is their end."""
        for name in ("column", "sentence_labels", "test_sentence_labels", "valid_sentence_labels"):
            if getattr(options, name):
                raise DataError(f"--{name.replace('_', '-')} goes with --task tag: leave it out")
        if options.valid:
            raise DataError("--valid is not for forecasts: --set early_stopping=True watches the end of each series")
        source = options.data or "Mackey-Glass's series"
        whole = read_told(options.data) if options.data else Told({None: mackey_glass(1000)[:, None]}, columns=["y"])
        if not options.data:
            whole.known[None] = whole.past[None] = np.empty((1000, 0))
            whole.times[None] = []
        if options.test:
            whole, ends = _joined(whole, read_told(options.test), options.test)
        else:
            fraction = 0.2 if options.test_fraction is None else options.test_fraction
            ends = {name: len(y) - round(fraction * len(y)) for name, y in whole.y.items()}
        train = _as_given({name: y[: ends[name]] for name, y in whole.y.items()})
        steps = sum(ends.values())
        rest = sum(map(len, whole.y.values())) - steps
        described = (
            f"{source}: {count(len(ends), 'series') if len(ends) == 1 else f'{len(ends):,} series'}, "
            f"{count(steps, 'step')} to train on, {rest:,} to test on"
        )
        known, past = (
            _as_given({name: part[: ends[name]] for name, part in table.items()}) for table in (whole.known, whole.past)
        )
        return Data((train, known, past), None, (whole, ends), described)

    def fit(self, model: Any, data: Data, **options: Any) -> None:
        """Train."""
        y, known, past = data.train
        model.fit(y, _or_none(known), _or_none(past), **options)

    def report(self, model: Any, data: Data, seconds: float) -> dict[str, Any]:
        """Measure forecasts from the steps of the test part."""
        whole, ends = data.test
        report = {"n_train": sum(ends.values()), "n_test": sum(map(len, whole.y.values())) - sum(ends.values())}
        return report | (evaluated(model, whole, ends) if report["n_test"] else {})

    def show(self, say: Any, model: Any, report: dict[str, Any]) -> None:
        """Tell sizes, speed and how good it is."""
        say("model", f"{described_layers(model)}; {report['n_weights']:,} weights")
        say("trained", f"{count(len(report['history']), 'epoch')} in {report['fit_seconds']:.1f} s")
        show(say, report)


def _as_given(tables: dict[Any, np.ndarray]) -> Any:
    """Return series as estimators take them: the only one as an array, others by their names or in a list."""
    if list(tables) == [None]:
        return tables[None]
    return tables if all(isinstance(name, str) for name in tables) else [*tables.values()]


def _or_none(given: Any) -> Any:
    first = given if isinstance(given, np.ndarray) else next(iter(given.values() if isinstance(given, dict) else given))
    return given if first.shape[1] else None


def _joined(before: Told, after: Told, path: str) -> tuple[Told, dict[Any, int]]:
    """Put what came then behind each series."""
    if set(before.y) != set(after.y):
        raise DataError(f"{path}: expected what came after the same series, {', '.join(map(repr, before.y))}")
    ends = {name: len(y) for name, y in before.y.items()}
    made = Told(columns=before.columns)
    for name, n in ends.items():
        for kind in ("y", "known", "past"):
            first, then = getattr(before, kind)[name][:n], getattr(after, kind)[name]
            if first.shape[1] != then.shape[1]:
                raise DataError(
                    f"{path}: expected {first.shape[1]} column(s) of {kind}, as in DATA; got {then.shape[1]}"
                )
            getattr(made, kind)[name] = np.concatenate([first, then])
        made.times[name] = []
    return made, ends


def evaluated(model: Any, whole: Told, ends: dict[Any, int]) -> dict[str, Any]:
    """Return how far forecasts were off: from each series' end of the training on, step by step, without learning.

    Raises
    ------
    DataError
        Where a series ends before a forecast does.
    """
    horizon = int(model.specification_.settings.horizon)
    intervals = _has_intervals(model)
    starts = [
        (name, end) for name, first in ends.items() for end in range(max(first, 1), len(whole.y[name]) - horizon + 1)
    ]
    if not starts:
        raise DataError(f"no series goes on for the {horizon} steps of a forecast: give more, or a smaller horizon")
    chosen = [starts[n] for n in np.linspace(0, len(starts) - 1, min(_ORIGINS, len(starts))).astype(int)]
    said = _forecasts(model, whole, chosen, horizon, None)
    came = np.array([whole.y[name][end : end + horizon] for name, end in chosen])
    stays = np.array([whole.y[name][end - 1] for name, end in chosen])[:, None]
    report: dict[str, Any] = {
        "test_absolute_error": float(np.abs(said - came).mean()),
        "test_error": float(np.sqrt(((said - came) ** 2).mean())),
        "test_unchanged_absolute_error": float(np.abs(stays - came).mean()),
        "test_forecasts": len(chosen),
        "test_horizon": horizon,
    }
    if (came > 0).all():
        report["test_percentage_error"] = float(100 * (np.abs(said - came) / came).mean())
    name, end = chosen[0]
    shown = {
        "series": None if name is None else str(name),
        "before": whole.y[name][max(0, end - 4 * horizon - 20) : end, 0].tolist(),
        "came": came[0, :, 0].tolist(),
        "said": said[0, :, 0].tolist(),
    }
    if intervals:
        low, high = np.moveaxis(_forecasts(model, whole, chosen, horizon, _INTERVAL), -1, 0)
        report["test_covered"] = float(((low <= came) & (came <= high)).mean())
        shown |= {"low": low[0, :, 0].tolist(), "high": high[0, :, 0].tolist()}
    return report | {"forecast": shown}


def _has_intervals(model: Any) -> bool:
    settings = model.specification_.settings
    direct_differences = settings.strategy == "direct" and settings.difference
    return bool(settings.output != "point" and not direct_differences)


def _forecasts(model: Any, whole: Told, chosen: list[Any], horizon: int, quantiles: Any) -> np.ndarray:
    """Return forecasts from the steps chosen, (N, horizon, C), or with quantiles (N, horizon, C, Q)."""
    found: list[Any] = [None] * len(chosen)
    for name in whole.y:  # each with its own scale
        own = [n for n, (series, _) in enumerate(chosen) if series == name]
        for n in own if name is not None and len(whole.y) > 1 else [own]:
            places = [n] if isinstance(n, int) else n
            at = [chosen[place][1] for place in places]
            parts = [_or_none([table[name][:end] for end in at]) for table in (whole.y, whole.known, whole.past)]
            ahead = _or_none([whole.known[name][end : end + horizon] for end in at])
            if len(whole.y) > 1:
                parts = [None if part is None else {name: part[0]} for part in parts]
                ahead = None if ahead is None else {name: ahead[0]}
            said = model.predict(horizon, ahead, quantiles, after=tuple(parts))
            for place, one in zip(places, said.values() if isinstance(said, dict) else said, strict=True):
                found[place] = one if one.ndim == (2 if quantiles is None else 3) else one[:, None]
    return np.array(found)


def show(say: Any, report: dict[str, Any]) -> None:
    """Tell how far off forecasts are."""
    if "test_absolute_error" not in report:
        return
    percent = f", {report['test_percentage_error']:.2f} %" if "test_percentage_error" in report else ""
    say("test", f"mean absolute error {report['test_absolute_error']:.4g}{percent}")
    say("", f"if all stayed as it is: {report['test_unchanged_absolute_error']:.4g}")
    steps = count(report["test_horizon"], "step")
    say("", f"{count(report['test_forecasts'], 'forecast')} of {steps}, without learning anew")
    if "test_covered" in report:
        say("", f"{report['test_covered']:.1%} within intervals for 90 %")


def run_evaluate(options: argparse.Namespace, model: Any) -> None:
    """Print how far forecasts of a file's series are off, and write it as a report."""
    refuse_for_taggers(options, ("column", "sentence_labels", "strict"))
    if options.beam_size:
        raise DataError(f"{options.model}: --beam-size is for models that search for what they write: leave it out")
    started = time.perf_counter()
    told = read_told(options.data)
    least = {name: model._kept() - 1 for name in told.y}
    report: dict[str, Any] = {"task": "forecast", "model": options.model, "data": options.data}
    report |= evaluated(model, told, least)
    report["n_test"] = report["test_forecasts"]
    report["seconds"] = time.perf_counter() - started
    if not options.quiet:
        show(tell, report)
    if options.report:
        write_atomically(options.report, (json.dumps(report, indent=1) + "\n").encode())


def run_predict(options: argparse.Namespace, model: Any) -> None:
    """Write a line for each step to come: series, time, numbers; with --confidence the interval for 90 %, too."""
    refuse_for_taggers(options, ("column", "sentences"))
    if options.beam_size or options.n_best:
        raise DataError(f"{options.model}: --beam-size and --n-best are not for forecasts: leave them out")
    if options.confidence and not _has_intervals(model):
        raise DataError(f"{options.model}: --confidence needs intervals: train with --set output=normal or quantiles")
    told = read_told(options.data)
    lines = [line for name in told.y for line in _lines(model, told, name, options.confidence)]
    text = "".join(f"{line}\n" for line in lines)
    if options.out:
        write_atomically(options.out, text.encode())
    else:
        sys.stdout.write(text)


def _lines(model: Any, told: Told, name: Any, interval: bool) -> list[str]:
    """Return the lines of one series' steps to come: those that the file tells of, or else a horizon."""
    n, settings = len(told.y[name]), model.specification_.settings
    horizon = told.ahead(name) or int(settings.horizon)
    chosen = [(name, n)]
    columns = [_forecasts(model, told, chosen, horizon, None)[0][..., None]]
    if interval:
        columns.append(_forecasts(model, told, chosen, horizon, _INTERVAL)[0])
    numbers = np.concatenate(columns, axis=-1).reshape(horizon, -1)
    times = told.times[name][n:] or [str(step) for step in range(n, n + horizon)]
    first = [] if name is None else [str(name)]
    return [
        "\t".join([*first, when, *(f"{number:.6g}" for number in row)])
        for when, row in zip(times[:horizon], numbers, strict=True)
    ]
