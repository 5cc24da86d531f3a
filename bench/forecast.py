"""`bench forecast`: Forecaster's presets on three series beside an MLP, seasonal naive and ETS; means over seeds.

Airline passengers by darts' protocol: trained to January 1959; then a forecast of six months from January 1959 on, from
February on, and so on to December 1960, each from what came before it, of which the last month counts. (Year and month
would be known, but the difference to the year before leaves nothing for them to tell, and forecasts within the training
part were better without.) Sunspots: trained to October 1940, then 36 months from every third month on. Mackey-Glass:
3000 steps to train on and 1000 to test, 36 steps from every third on. Nothing is learned from what comes after the
training part, and settings were chosen by forecasts within it. Intervals count at every step of a forecast.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bench import files, report, step
from bench.setting import Setting
from bench.shapes import STEP

SHARE = 0.9  # of what a layer alone reaches beside PyTorch
MAPE = 2.9
COVERED = (0.85, 0.95)

Forecasts = Callable[[int], np.ndarray]  # by seed: (origins, horizon)


class Task(NamedTuple):
    """A series, where its training ends, what is forecast from where, and how."""

    y: np.ndarray
    end: int
    origins: list[int]
    horizon: int
    preset: str
    settings: dict[str, Any]
    season: int
    window: int  # that the MLP sees, too
    last: bool = False  # whether only the last step of each forecast counts
    intervals: dict[str, Any] = {}  # settings for them, if others  # noqa: RUF012

    @property
    def wanted(self) -> np.ndarray:
        return np.array([self.y[at : at + self.horizon] for at in self.origins])


def _column(name: str) -> tuple[list[str], np.ndarray]:
    with open(files.data_file(None, name), encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return [row[0] for row in rows], np.array([float(row[1]) for row in rows])


def _airline() -> Task:
    y = _column("airline_passengers.csv")[1]
    return Task(
        y, 121, [*range(120, len(y) - 5)], 6, "seasonal", {}, 12, 36, True, {"weight_decay": 0.5, "max_epochs": 60}
    )


def _sunspots() -> Task:
    months, y = _column("sunspots_monthly.csv")
    end = months.index("1940-10") + 1
    return Task(y, end, [*range(end, len(y) - 35, 3)], 36, "noisy", {"window": 125, "horizon": 36}, 132, 125)


def _mackey_glass() -> Task:
    from rnncore.datasets import mackey_glass

    y = mackey_glass(4000)
    settings = {"window": 48, "horizon": 36, "strategy": "direct", "hidden_size": 64}
    return Task(y, 3000, [*range(3000, len(y) - 35, 3)], 36, "default", settings, 50, 48)


TASKS = {"airline": _airline, "sunspots": _sunspots, "mackey-glass": _mackey_glass}
PARTS = (*TASKS, "fit")


def settings_of(task: Task) -> dict[str, Any]:
    from rnncore.estimators.presets import FORECASTERS
    from rnncore.estimators.presets import settings_of as of_preset

    return of_preset(FORECASTERS, task.preset) | task.settings


def _ours(task: Task, threads: int, seed: int, **options: Any) -> Any:
    import rnncore as rc

    model = rc.Forecaster(random_state=seed, n_threads=threads, **(settings_of(task) | options))
    return model.fit(task.y[: task.end])


def _said(model: Any, task: Task, quantiles: Any = None) -> np.ndarray:
    found = model.predict(task.horizon, after=([task.y[:at] for at in task.origins],), quantiles=quantiles)
    return np.array(found)


def _mlp(task: Task, seed: int) -> np.ndarray:
    from sklearn.neural_network import MLPRegressor

    mean, deviation = task.y[: task.end].mean(), task.y[: task.end].std()
    z, w, h = (task.y - mean) / deviation, task.window, task.horizon
    places = range(w, task.end - h + 1)
    net = MLPRegressor(random_state=seed, max_iter=500)
    net.fit(np.array([z[at - w : at] for at in places]), np.array([z[at : at + h] for at in places]))
    return net.predict(np.array([z[at - w : at] for at in task.origins])) * deviation + mean


def _naive(task: Task) -> np.ndarray:
    back = task.season * -(-np.arange(1, task.horizon + 1) // task.season)
    return np.array([task.y[at + np.arange(task.horizon) - back] for at in task.origins])


def _ets(task: Task) -> np.ndarray | None:
    """Exponential smoothing, its parameters those of the training part; with seasons where they are short."""
    try:
        from statsmodels.tsa.exponential_smoothing.ets import ETSModel
    except ImportError:
        return None
    kind = {"error": "add", "trend": "add", "damped_trend": True}
    if task.season <= 12:
        kind |= {"error": "mul", "seasonal": "mul", "seasonal_periods": task.season}
    fitted = ETSModel(task.y[: task.end], **kind).fit(disp=False)
    return np.array([ETSModel(task.y[:at], **kind).smooth(fitted.params).forecast(task.horizon) for at in task.origins])


def _error(task: Task, found: np.ndarray) -> float:
    """Return the mean absolute error, or MAPE in per cent where only the last step counts."""
    error = np.abs(found - task.wanted)
    return float((100 * error / task.wanted)[:, -1].mean() if task.last else error.mean())


def _part(name: str, setting: Setting, seeds: int) -> dict[str, Any]:
    task = TASKS[name]()
    seconds, ours = [], []
    for seed in range(seeds):
        start = time.perf_counter()
        model = _ours(task, setting.threads, seed)
        seconds.append(time.perf_counter() - start)
        ours.append(_error(task, _said(model, task)))
    mlp = [_error(task, _mlp(task, seed)) for seed in range(seeds)]
    ets = _ets(task)
    others = {"MLP": statistics.fmean(mlp), "naive": _error(task, _naive(task))}
    if ets is not None:
        others["ETS"] = _error(task, ets)
    measure = "MAPE, per cent" if task.last else "mean absolute error"
    mean = statistics.fmean(ours)
    print(f"\n{setting.title(name, task.preset)} · {len(task.origins)} forecasts of {task.horizon} · {seeds} seeds")
    print(f"  {measure}: {mean:.4g} ({min(ours):.4g} to {max(ours):.4g}), {statistics.median(seconds):.1f} s a fit")
    print("  beside " + ", ".join(f"{other} {error:.4g}" for other, error in others.items()))
    if task.last:
        report.at_most(measure, mean, MAPE, ".2f")
    for other, error in others.items():
        report.at_most(f"{measure}, {other} beside", mean, error, ".4g")
    return {"error": ours, "seconds": seconds, "others": others, "covered": _intervals(task, setting, seeds)}


def _intervals(task: Task, setting: Setting, seeds: int) -> dict[str, list[float]]:
    covered: dict[str, list[float]] = {}
    for output in ("normal", "quantiles"):
        covered[output] = []
        for seed in range(seeds):
            model = _ours(task, setting.threads, seed, output=output, **task.intervals)
            low, high = np.moveaxis(_said(model, task, (0.05, 0.95)), -1, 0)
            inside = (low <= task.wanted) & (task.wanted <= high)
            covered[output].append(float(inside.mean()))
        share = statistics.fmean(covered[output])
        spread = f"{min(covered[output]):.3f} to {max(covered[output]):.3f}"
        print(f"  90 % intervals, {output}: {share:.3f} covered ({spread})")
        report.at_least(f"covered, {output}", share, COVERED[0], ".3f")
        report.at_most(f"covered, {output}", share, COVERED[1], ".3f")
    return covered


def _fits(setting: Setting) -> dict[str, Any]:
    """Fits of two of these networks beside PyTorch's, and a layer alone at the shape that is nearest."""
    from bench.forecast_torch import Fit

    figures: dict[str, Any] = {}
    for name in ("sunspots", "mackey-glass"):
        task = TASKS[name]()
        rounds: dict[str, list[float]] = {"rnncore": [], "PyTorch": []}
        for seed in range(1 if setting.quick else 3):
            start = time.perf_counter()
            model = _ours(task, setting.threads, seed)
            rounds["rnncore"].append(time.perf_counter() - start)
            theirs = Fit(model, task.y[: task.end], seed)
            start = time.perf_counter()
            theirs.run()
            rounds["PyTorch"].append(time.perf_counter() - start)
        ours, peer = (min(part) for part in rounds.values())
        cell = model.cell
        alone = step._measure(setting, cell, STEP[1])["x PyTorch"]
        ratio = peer / ours
        print(f"\n{setting.title('fit, ' + name, cell)} · seconds: rnncore {ours:.2f}, PyTorch {peer:.2f}")
        print(f"  losses at the end: rnncore {model.history_[-1]['loss']:.4g}, PyTorch {theirs.loss:.4g}")
        print(f"  {ratio:.2f} times faster; a layer alone, ({STEP[1]}): {alone:.2f}")
        report.at_least("of what a layer alone reaches", report.ratio(ratio, alone), SHARE)
        figures[name] = {"seconds": rounds, "x PyTorch": ratio, "layer alone": alone}
    return figures


def run(options: argparse.Namespace) -> dict[str, Any]:
    setting = Setting.of(options, "torch")
    unknown = [name for name in options.part if name not in PARTS]
    if unknown:
        raise SystemExit(f"bench: --part: no {unknown[0]}, only {', '.join(PARTS)}")
    figures: dict[str, Any] = {}
    for name in options.part or PARTS:
        if name != "fit":
            figures[name] = _part(name, setting, options.seeds)
        elif setting.torch:
            figures[name] = _fits(setting)
    return figures
