"""Forecaster: what comes next in series of numbers, with covariates, intervals, and new data as they come."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
from sklearn.base import clone

from rnncore.data.readers import DataError
from rnncore.data.sequences import Sequences
from rnncore.estimators._forecast_data import History, Scaler, histories_of, matrix, one_series
from rnncore.estimators._forecast_heads import OUTPUTS, NormalHead, QuantileHead, head_of, normal_quantiles
from rnncore.estimators._forecast_intervals import LEVELS, Calibration
from rnncore.estimators._forecast_windows import Windows, measured
from rnncore.estimators._pipeline import Pipeline
from rnncore.estimators._settings import check_flag, make_optimizer
from rnncore.estimators._task import Task
from rnncore.estimators.base import Estimator, Specification, over_processes, recurrent_layers
from rnncore.io.checkpoints import Checkpoints, open_checkpoints
from rnncore.nn.heads import Head
from rnncore.nn.network import Network
from rnncore.optim.arguments import check_choice, check_count, check_number
from rnncore.train.batches import generator

__all__ = ["Forecaster"]

STRATEGIES = ("recursive", "direct")

_SAMPLES = 400  # paths that intervals of recursive forecasts are read off
_ORIGINS = 100  # ends of series that calibration forecasts from


class _Columns(Pipeline):
    """How many numbers there are of each kind, and how covariates are scaled."""

    def __init__(self, settings: Any) -> None:
        self._ahead = settings.horizon if settings.strategy == "direct" else 1
        self.sizes = (0, 0, 0)  # of y, known and past
        self.known = self.past = (np.empty(0), np.empty(0))

    def fit(self, sequences: Sequence[History]) -> None:
        """Learn from all series together."""
        first = sequences[0]
        self.sizes = (first.y.shape[1], first.known.shape[1], first.past.shape[1])
        self.known, self.past = (_moments([getattr(one, name) for one in sequences]) for name in ("known", "past"))
        self._lay_out()

    def _lay_out(self) -> None:
        y, known, past = self.sizes
        self.input_size = y + past + known * self._ahead

    def encode(self, sequences: Any) -> Sequences:
        """Windows are cut by the forecaster."""
        raise NotImplementedError

    def inputs_of(self, z: np.ndarray, history: History, future: np.ndarray) -> np.ndarray:
        """Return what the network reads at the last len(z) steps of a history: (len(z), input_size).

        future : known covariates after the history's end, as many as are there.
        """
        n = len(z)
        known = np.concatenate([history.known, future])
        known = (known - self.known[0]) / self.known[1]
        past = (history.past[len(history.past) - n :] - self.past[0]) / self.past[1]
        first = len(history.known) - n + 1
        ahead = [known[first + k : first + k + n] for k in range(self._ahead)]
        return np.concatenate([z, past, *ahead], axis=1)

    def to_json(self) -> dict[str, Any]:
        """Describe it."""
        moments = {name: [part.tolist() for part in getattr(self, name)] for name in ("known", "past")}
        return {"columns": {"sizes": list(self.sizes), **moments}}

    def from_json(self, header: dict[str, Any]) -> None:
        """Take over what `to_json` described."""
        own = header["columns"]
        y, known, past = map(int, own["sizes"])
        self.sizes = (y, known, past)
        self.known, self.past = ((np.array(own[name][0]), np.array(own[name][1])) for name in ("known", "past"))
        self._lay_out()


def _moments(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    table = np.concatenate(parts)
    spread = table.std(axis=0)
    return table.mean(axis=0), np.where(spread > 1e-12, spread, 1.0)


class _Next(Task):
    """What is said of what comes next."""

    def __init__(self, settings: Any) -> None:
        self.output, self.quantiles = settings.output, tuple(settings.quantiles)
        self.steps = settings.horizon if settings.strategy == "direct" else 1
        self.width = 0

    def fit(self, targets: Any, classes: Any = None) -> None:
        """Learn how many numbers a step has."""
        self.width = targets[0].y.shape[1]

    def head(self) -> Head:
        """Make the head."""
        return head_of(self.output, self.width * self.steps, self.quantiles)

    def from_json(self, header: dict[str, Any]) -> None:
        """Take the width from the columns."""
        self.width = int(header["columns"]["sizes"][0])


@dataclass(eq=False, repr=False)
class Forecaster(Estimator):
    """Forecast series: one or many, of unequal lengths, in one network; with what is known ahead, and with intervals.

    Parameters
    ----------
    window : int
        Steps that are looked back on: the network is trained on windows of so many steps, and a forecast starts that
        far back.
    strategy : {"recursive", "direct"}
        "recursive": the network says what comes next, and goes on from that, to any horizon. "direct": it says the next
        `horizon` steps at once.
    horizon : int
        Steps of a direct forecast; of a recursive one those that `predict` gives where it is not told.
    output : {"point", "normal", "quantiles"}
        A number; mean and deviation of a normal distribution; or `quantiles`. Of the last two `predict` gives
        quantiles, for recursive forecasts read off drawn paths.
    quantiles : sequence of float
        What output="quantiles" learns.
    log : bool
        Learn from logarithms: for numbers above 0 whose swings grow with their size.
    difference : int or sequence of int
        Learn from differences to so many steps before, (1, 12) one after the other; 0: from the numbers themselves.
    scale : bool or "window"
        Each series by its own mean and standard deviation, covariates by those of all. "window": after that, each
        window by its own (Kim et al. 2022): for series whose level or swings change, so that what is to come may lie
        outside of all that was learned from.
    stride : int or None
        Windows begin at every so many steps. None: an eighth of `window`.
    early_stopping : bool
        Set the end of each series aside, a `validation_fraction` of it, stop after `n_iter_no_change` epochs without a
        smaller loss there, and keep the best epoch's weights.
    calibration : float
        Of outputs that are not points: a second network is trained without the end of each series, this share of it,
        and quantiles are made as wide, and of the shape, as what it misses there (split conformal prediction). 0:
        quantiles as the network says them.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> t = np.arange(300)
    >>> y = np.sin(t / 5) + 0.01 * t
    >>> model = rc.Forecaster(window=30, hidden_size=16, max_epochs=20, difference=1).fit(y[:280])
    >>> forecast = model.predict(20)
    >>> forecast.shape, bool(np.abs(forecast - y[280:]).mean() < 0.3)
    ((20,), True)
    >>> model.update(y[280:290]).predict(3).shape
    (3,)
    """

    cell: str = "lstm"
    learning_rate: float = 0.01
    schedule: Any = "cosine"
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    window: int = 24
    strategy: str = "recursive"
    horizon: int = 1
    output: str = "point"
    quantiles: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95)
    log: bool = False
    difference: int | Sequence[int] = 0
    scale: bool | str = True
    stride: int | None = None
    calibration: float = 0.2

    @staticmethod
    def _make_pipeline(settings: Any) -> _Columns:
        return _Columns(settings)

    @staticmethod
    def _make_task(settings: Any) -> _Next:
        return _Next(settings)

    @staticmethod
    def _build_network(of: Specification) -> Network:
        return Network(recurrent_layers(of), head=of.task.head())

    def _check_settings(self) -> None:
        super()._check_settings()
        for name in ("window", "horizon"):
            check_count(name, getattr(self, name), 1)
        if self.stride is not None:
            check_count("stride", self.stride, 1)
        check_number("calibration", self.calibration, "[0, 1)", 0.2)
        check_choice("strategy", self.strategy, STRATEGIES)
        check_choice("output", self.output, OUTPUTS)
        check_flag("log", self.log)
        check_choice("scale", self.scale, (True, False, "window"))
        if self.embedding_size is not None:
            raise ValueError("embedding_size is for symbols, and series are numbers: leave it out")
        for lag in self._lags():
            check_count("difference", lag, 1)
        quantiles = np.asarray(self.quantiles, dtype=float)
        inside = ((quantiles > 0) & (quantiles < 1)).all() and (np.diff(quantiles) > 0).all()
        if quantiles.ndim != 1 or not len(quantiles) or not inside:
            raise ValueError(f"quantiles must be growing numbers between 0 and 1, got {self.quantiles!r}")

    def _lags(self) -> tuple[int, ...]:
        given = self.difference
        return tuple(given) if isinstance(given, Sequence | np.ndarray) else (given,) if given else ()

    # -- learning -----------------------------------------------------------------------------------------------------

    @over_processes
    def fit(
        self,
        y: Any,
        X: Any = None,
        past: Any = None,
        checkpoint: str | os.PathLike[str] | Checkpoints | None = None,
        checkpoint_every: float = 60.0,
        resume: str | os.PathLike[str] | None = None,
        *,
        comm: Any = None,
        shards: int | None = None,
    ) -> Self:
        """Learn from series until now.

        Parameters
        ----------
        y : (T,) or (T, C) array, Series or frame; or a list or dict of these for several series
        X : like y with (T, D), optional
            Covariates that are known ahead, such as the month: `predict` is given those to come.
        past : like y with (T, P), optional
            Covariates that are known when y is.
        checkpoint, checkpoint_every, resume
            As for ``SequenceTagger.fit``.
        comm, shards : optional
            Processes that train together, and the parts that each minibatch is dealt to, as `rnncore.Trainer` takes
            them: `fit` is called in all of them, with the same data.

        Returns
        -------
        self

        Raises
        ------
        DataError, ValueError, TypeError
            For data or settings that cannot be used.
        """
        self._check_settings()
        histories = histories_of(y, X, past)
        shapes = {(one.y.shape[1], one.known.shape[1], one.past.shape[1]) for one in histories.values()}
        if len(shapes) > 1:
            raise DataError("all series need as many columns of y, X and past")
        first = next(iter(y.values())) if isinstance(y, Mapping) else y if one_series(y) else y[0]
        checkpoints = open_checkpoints(checkpoint, checkpoint_every, resume)
        return self._fit_histories(histories, checkpoints, np.ndim(first) == 1)

    def _fit_histories(self, histories: Mapping[Any, History], checkpoints: Checkpoints | None, flat: bool) -> Self:
        rng = self._processes.generator(self.random_state)
        if checkpoints is not None:
            checkpoints.begin(rng)
        names = {name: "" if name is None else f" of series {name!r}" for name in histories}
        scalers = {
            name: Scaler.of(one.y, bool(self.log), self._lags(), bool(self.scale), names[name])
            for name, one in histories.items()
        }
        warm = self.warm_start and hasattr(self, "network_")
        if warm:
            pipeline: Any = self.specification_.pipeline
            task = self.specification_.task
            self._check_columns(histories, "fit, after a warm start")
        else:
            pipeline, task = self._make_pipeline(self), self._make_task(self)
            pipeline.fit([*histories.values()])
            task.fit([*histories.values()])
        windows = Windows(self, pipeline.inputs_of, histories, scalers, names)
        data, watched = windows.parts(self.validation_fraction) if self.early_stopping else (windows.whole(), None)
        before = self._before_the_end(histories, names) if self._calibrates() else {}
        n = len(data)
        batch_size = self.batch_size or min(max(n // 50, 8), 64)
        max_epochs = self.max_epochs or min(100, max(10, round(100 * (200 / n) ** 0.5)))
        optimizer = make_optimizer(self, max_epochs * -(-n // batch_size), self.schedule)
        with self._as_before_unless(optimizer):
            if not warm:
                self._begin(pipeline, task, rng)
            self.scalers_, self.calibration_ = scalers, None
            self.histories_ = {name: one.tail(self._kept()) for name, one in histories.items()}
            self.flat_ = flat
            self._train(
                optimizer,
                data,
                checkpoints,
                None if watched is None else [watched.x, watched.y, watched.starts, watched.lengths],
                batch_size=batch_size,
                max_epochs=max_epochs,
                validate=None if watched is None else partial(measured, self.network_, watched),
                n_iter_no_change=self.n_iter_no_change if self.early_stopping else None,
                unit="step",
                random_state=rng,
            )
        if before and self.stopped_ != "diverged":
            self.calibration_ = self._calibrated(histories, before)
        return self

    # -- intervals held against what came -----------------------------------------------------------------------------

    def _calibrates(self) -> bool:
        quantiles = self.strategy == "recursive" or not self._lags()
        return bool(self.calibration) and self.output != "point" and quantiles

    def _before_the_end(self, histories: Mapping[Any, History], names: Mapping[Any, str]) -> dict[Any, History]:
        """Return every series without the part that intervals are held against."""
        least = sum(self._lags()) + (self.horizon if self.strategy == "direct" else 1) + 2
        found = {}
        for name, one in histories.items():
            n = len(one.y)
            kept = n - max(1, round(n * self.calibration))
            if kept < least:
                raise DataError(
                    f"y{names[name]} has {n} steps, of which calibration={self.calibration} leaves {max(kept, 0)} to "
                    f"learn from: at least {least} are needed. Give more, or calibration=0"
                )
            found[name] = History(one.y[:kept], one.known[:kept], one.past[:kept])
        return found

    def _calibrated(self, histories: Mapping[Any, History], before: Mapping[Any, History]) -> Calibration:
        """Forecast the end of every series with a network that has not seen it, and take note of what it misses."""
        seed = self.specification_.seed
        other = clone(self).set_params(calibration=0.0, random_state=seed, callbacks=None, verbose=0, warm_start=False)
        other._processes = self._processes
        other._fit_histories(before, None, self.flat_)
        direct = self.strategy == "direct"
        tails = {name: len(one.y) - len(before[name].y) for name, one in histories.items()}
        ahead = self.horizon if direct else min(self.window, max(tails.values()))
        starts = [(name, len(one.y) - back) for name, one in histories.items() for back in range(tails[name], 0, -1)]
        chosen = [starts[n] for n in np.linspace(0, len(starts) - 1, min(_ORIGINS, len(starts))).astype(int)]
        batch, came = [], np.full((len(chosen), ahead, other.specification_.task.width), np.nan)
        for n, (name, end) in enumerate(chosen):
            one = histories[name]
            there = min(ahead, len(one.y) - end)
            came[n, :there] = one.y[end : end + there]
            rows = np.minimum(np.arange(end, end + ahead), len(one.y) - 1)  # what is past the end does not count
            now = History(one.y[:end], one.known[:end], one.past[:end]).tail(other._kept())
            batch.append((now, other._scaler_at(now, other.scalers_[name]), one.known[rows]))
        said = np.stack((other._direct if direct else other._recursive)(batch, ahead, LEVELS, 0))
        return Calibration.of(came, said, bool(self.log), sum(tails.values()))

    def update(self, y: Any, X: Any = None, past: Any = None) -> Self:
        """Take note of what has come since, without learning from it: forecasts go on from there.

        Parameters
        ----------
        y, X, past
            What was added to those of `fit`; of several series in the same form, a dict may leave some out.
        """
        self._check_fitted()
        new = histories_of(y, X, past)
        unknown = [name for name in new if name not in self.histories_]
        if unknown:
            raise DataError(
                f"update: there is no series {unknown[0]!r}; known: {', '.join(map(repr, self.histories_))}"
            )
        self._check_columns(new, "update")
        made = dict(self.histories_)
        keep = self._kept()
        for name, one in new.items():
            made[name] = made[name].followed_by(one).tail(keep)
        self.histories_ = made
        return self

    def _check_columns(self, histories: Mapping[Any, History], what: str) -> None:
        """Raise a DataError for series that have other columns than those of `fit`."""
        sizes = self.specification_.pipeline.sizes  # type: ignore[attr-defined]
        for name, one in histories.items():
            came = (one.y.shape[1], one.known.shape[1], one.past.shape[1])
            if came != sizes:
                of = "" if name is None else f", series {name!r}"
                raise DataError(f"{what}{of}: expected {sizes} columns of y, X and past, as in fit; got {came}")

    def _kept(self) -> int:
        """Return how many steps of a series forecasts look back on."""
        return int(self.specification_.settings.window) + sum(self._fitted_lags()) + 1

    def _fitted_lags(self) -> tuple[int, ...]:
        lags: tuple[int, ...] = next(iter(self.scalers_.values())).lags
        return lags

    # -- applying -----------------------------------------------------------------------------------------------------

    def predict(
        self,
        horizon: int | None = None,
        X: Any = None,
        quantiles: Sequence[float] | None = None,
        after: Any = None,
        random_state: Any = 0,
    ) -> Any:
        """Return the next steps of every series.

        Parameters
        ----------
        horizon : int
            How many; None: `horizon`, which is the most that a direct forecast can be.
        X : (horizon, D), optional
            The known covariates of these steps; a list or dict of them for several series.
        quantiles : sequence of float, optional
            Which quantiles to return, on a last axis.
        after : (y,) or (y, X) or (y, X, past), optional
            Go on from the end of these in place of what `fit` and `update` know; scaled as the series of the same name
            (a dict), the only one, or else each by itself.
        random_state : int
            Draws the paths that recursive quantiles are read off.

        Returns
        -------
        (horizon,) or (horizon, C), with quantiles (horizon, Q) or (horizon, C, Q); a list or dict of them as y was

        Raises
        ------
        DataError, ValueError
            For covariates that are missing, and quantiles of point forecasts.
        """
        names, batch, steps = self._asked(horizon, X, after, "quantiles" if quantiles is not None else None)
        direct = self.specification_.settings.strategy == "direct"
        held = None if quantiles is None else self.calibration_
        levels = quantiles if held is None else LEVELS
        found = (self._direct if direct else self._recursive)(batch, steps, levels, random_state)
        if held is not None:
            found = [held.apply(one, quantiles) for one in found]
        return self._by_name(names, [one[:, 0] if self.flat_ else one for one in found])

    def sample(
        self, n_paths: int, horizon: int | None = None, X: Any = None, after: Any = None, random_state: Any = 0
    ) -> Any:
        """Draw ways in which every series may go on.

        Parameters
        ----------
        n_paths : int
            How many. Of a recursive forecast each step of a path follows from those before it; a direct forecast's
            steps are drawn each by itself. Where `calibration` widens quantiles, each step's numbers, in their order,
            take the place of these.
        horizon, X, after, random_state
            As for `predict`.

        Returns
        -------
        (n_paths, horizon) or (n_paths, horizon, C); a list or dict of them as y was

        Raises
        ------
        DataError, ValueError
            For covariates that are missing, and forecasters of points.
        """
        check_count("n_paths", n_paths, 1)
        names, batch, steps = self._asked(horizon, X, after, "paths")
        direct = self.specification_.settings.strategy == "direct"
        found = (self._direct_paths if direct else self._paths)(batch, steps, n_paths, random_state)
        if self.calibration_ is not None:
            said = (self._direct if direct else self._recursive)(batch, steps, LEVELS, random_state)
            levels = (np.arange(n_paths) + 0.5) / n_paths
            wide = [self.calibration_.apply(one, levels) for one in said]
            found = [_in_order_of(paths, one) for paths, one in zip(found, wide, strict=True)]
        return self._by_name(names, [one[..., 0] if self.flat_ else one for one in found])

    def _asked(self, horizon: int | None, X: Any, after: Any, chances: str | None) -> tuple[list[Any], Any, int]:
        """Return the series' names, what each goes on from, and how far; `chances`: what is wanted but for points."""
        self._check_fitted()
        settings = self.specification_.settings
        direct = settings.strategy == "direct"
        steps = settings.horizon if horizon is None else horizon
        check_count("horizon", steps, 1)
        if direct and steps > settings.horizon:
            raise ValueError(f"horizon={steps}: this forecaster learned the next {settings.horizon} steps at once")
        if chances and settings.output == "point":
            raise ValueError(f"{chances} need output='normal' or output='quantiles', and a fit with it")
        if chances and direct and self._fitted_lags():
            raise ValueError(f"{chances} of direct forecasts from differences do not add up: take strategy='recursive'")
        histories, scalers = self._starting_points(after)
        futures = self._futures(X, histories, settings.horizon if direct else steps)
        names = list(histories)
        starts = [(histories[name], self._scaler_at(histories[name], scalers[name]), futures[name]) for name in names]
        return names, starts, steps

    def _scaler_at(self, history: History, scaler: Scaler) -> Scaler:
        """Return what scales a forecast that follows a history."""
        settings = self.specification_.settings
        return scaler.of_window(history.y, settings.window) if settings.scale == "window" else scaler

    @staticmethod
    def _by_name(names: list[Any], found: list[np.ndarray]) -> Any:
        """Return what was found in the form of the series: one, a list, or a dict."""
        if names == [None]:
            return found[0]
        return found if names == list(range(len(names))) else dict(zip(names, found, strict=True))

    def _starting_points(self, after: Any) -> tuple[dict[Any, History], Mapping[Any, Scaler]]:
        if after is None:
            return self.histories_, self.scalers_
        parts = tuple(after) if isinstance(after, tuple) else (after,)
        histories = histories_of(*parts, *[None] * (3 - len(parts)))
        self._check_columns(histories, "after")
        settings = self.specification_.settings
        keep = self._kept()
        only = next(iter(self.scalers_.values())) if len(self.scalers_) == 1 else None
        scalers = {}
        for name, one in histories.items():
            own = only or self.scalers_.get(name)
            scalers[name] = own or Scaler.of(one.y, settings.log, self._fitted_lags(), settings.scale)
        return {name: one.tail(keep) for name, one in histories.items()}, scalers

    def _futures(self, X: Any, histories: Mapping[Any, History], steps: int) -> dict[Any, np.ndarray]:
        """Return each series' known covariates to come, (steps, D)."""
        width = self.specification_.pipeline.sizes[1]  # type: ignore[attr-defined]
        if not width:
            if X is not None:
                raise DataError("X: this forecaster was fitted without covariates that are known ahead")
            return {name: np.empty((steps, 0)) for name in histories}
        if X is None:
            raise DataError(f"X: this forecaster needs the {width} known covariates of the next {steps} steps")
        several = not one_series(X)
        found = {}
        for place, name in enumerate(histories):
            part = matrix(X[name if isinstance(X, Mapping) else place] if several else X, "X")
            if part.shape[1] != width or len(part) < steps:
                raise DataError(f"X must be ({steps}, {width}), covariates of the next steps; got {part.shape}")
            found[name] = part[:steps]
        return found

    def _contexts(self, batch: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return what the network reads of every history, (T, B, D), and how long each is."""
        settings, pipeline = self.specification_.settings, self.specification_.pipeline
        parts = []
        for history, scaler, future in batch:
            z = scaler.apply(history.y)[-settings.window :]
            if not len(z):
                raise DataError(f"a forecast from differences needs at least {scaler.lost + 1} steps of a series")
            parts.append(pipeline.inputs_of(z, history, future))  # type: ignore[attr-defined]
        lengths = np.array([len(part) for part in parts])
        x = np.zeros((lengths.max(), len(parts), parts[0].shape[1]), dtype=self.network_.dtype)
        for b, part in enumerate(parts):
            x[: len(part), b] = part
        return x, lengths

    def _last(self, x: np.ndarray, lengths: np.ndarray, state: Any = None) -> tuple[np.ndarray, Any]:
        """Return the head's numbers at each history's last step, and the state."""
        found, state = self.network_.predict(x, lengths=lengths, state=state, return_state=True)
        return found[lengths - 1, np.arange(len(lengths))].astype(np.float64), state

    def _direct(self, batch: Any, steps: int, quantiles: Any, random_state: Any) -> list[np.ndarray]:
        scores, _ = self._last(*self._contexts(batch))
        width, horizon = self.specification_.task.width, self.specification_.settings.horizon
        found = []
        for row, (history, scaler, _) in zip(scores, batch, strict=True):
            said = self._said(row[None], quantiles)[0]  # (H·C,) or (H·C, Q)
            z = said.reshape(horizon, width, *said.shape[1:])[:steps]
            if quantiles is None:
                found.append(scaler.undo(z, history.y))
            else:
                found.append(np.moveaxis(scaler.undo(np.moveaxis(z, -1, 0), history.y), 0, -1))
        return found

    def _direct_paths(self, batch: Any, steps: int, n: int, random_state: Any) -> list[np.ndarray]:
        """Return drawn forecasts (n, steps, C) of each series."""
        scores, _ = self._last(*self._contexts(batch))
        width, rng = self.specification_.task.width, generator(random_state)
        drawn = [self._drawn(np.repeat(row[None], n, axis=0), rng).reshape(n, -1, width)[:, :steps] for row in scores]
        return [scaler.undo(one, history.y) for one, (history, scaler, _) in zip(drawn, batch, strict=True)]

    def _recursive(self, batch: Any, steps: int, quantiles: Any, random_state: Any) -> list[np.ndarray]:
        if quantiles is None:
            return [paths[0] for paths in self._paths(batch, steps, None, random_state)]
        found = self._paths(batch, steps, _SAMPLES, random_state)
        return [np.moveaxis(np.quantile(paths, quantiles, axis=0), 0, -1) for paths in found]

    def _paths(self, batch: Any, steps: int, n: int | None, random_state: Any) -> list[np.ndarray]:
        """Return n drawn paths (n, steps, C) of each series; None: the one of what is expected at each step."""
        scores, state = self._last(*self._contexts(batch))
        pipeline, draws = self.specification_.pipeline, n or 1
        rng = generator(random_state)
        if draws > 1:
            scores = np.repeat(scores, draws, axis=0)
            state = _repeated(state, draws)
        known = np.stack([future for _, _, future in batch])
        known = (known - pipeline.known[0]) / pipeline.known[1]  # type: ignore[attr-defined]
        width, _, past_width = pipeline.sizes  # type: ignore[attr-defined]
        past = np.zeros((len(scores), past_width))  # the last that is known goes on
        if past_width:
            last = np.stack([history.past[-1] for history, _, _ in batch])
            past = np.repeat((last - pipeline.past[0]) / pipeline.past[1], draws, axis=0)  # type: ignore[attr-defined]
        path = np.empty((len(scores), steps, width))
        ones = np.ones(len(scores), dtype=np.int64)
        for step in range(steps):
            path[:, step] = self._said(scores, None) if n is None else self._drawn(scores, rng)
            if step + 1 < steps:
                ahead = np.repeat(known[:, step + 1], draws, axis=0)
                x = np.concatenate([path[:, step], past, ahead], axis=1).astype(self.network_.dtype)
                scores, state = self._last(x[None], ones, state)
        parts = np.split(path, len(batch))
        return [scaler.undo(part, history.y) for part, (history, scaler, _) in zip(parts, batch, strict=True)]

    def _said(self, scores: np.ndarray, quantiles: Any) -> np.ndarray:
        """Return the expected numbers, or quantiles of them on a last axis."""
        head: Any = self.network_.head
        if isinstance(head, NormalHead):
            mean, deviation = head.moments(scores)
            return mean if quantiles is None else normal_quantiles(mean, deviation, quantiles)
        if isinstance(head, QuantileHead):
            levels = np.sort(scores.reshape(*scores.shape[:-1], -1, len(head.quantiles)), axis=-1)
            wanted = [0.5] if quantiles is None else quantiles
            found = _between(levels, head.quantiles, np.asarray(wanted))
            return found[..., 0] if quantiles is None else found
        return scores

    def _drawn(self, scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        head: Any = self.network_.head
        if isinstance(head, NormalHead):
            mean, deviation = head.moments(scores)
            return mean + deviation * rng.standard_normal(mean.shape)
        levels = np.sort(scores.reshape(*scores.shape[:-1], -1, len(head.quantiles)), axis=-1)
        return _between(levels, head.quantiles, rng.random((*levels.shape[:-1], 1)))[..., 0]

    # -- kept ---------------------------------------------------------------------------------------------------------

    def _to_model(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        header, arrays = super()._to_model()
        named = isinstance(next(iter(self.histories_)), str)
        series = [
            {
                "name": name if named else None,
                "scaler": self.scalers_[name].to_json(),
                "y": one.y.tolist(),
                "known": one.known.tolist(),
                "past": one.past.tolist(),
            }
            for name, one in self.histories_.items()
        ]
        only = next(iter(self.histories_)) is None
        own = {"series": series, "flat": bool(self.flat_), "only": only, "named": named}
        own["calibration"] = None if self.calibration_ is None else self.calibration_.to_json()
        return header | own, arrays

    @classmethod
    def _from_model(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        made = super()._from_model(header, arrays)
        sizes = made.specification_.pipeline.sizes  # type: ignore[attr-defined]
        histories, scalers = {}, {}
        for number, own in enumerate(header["series"]):
            name = own["name"] if header["named"] else None if header["only"] else number
            tables = [np.array(own[part], dtype=np.float64) for part in ("y", "known", "past")]
            histories[name] = History(
                *(
                    table.reshape(-1, size) if size else np.empty((len(tables[0]), 0))
                    for table, size in zip(tables, sizes, strict=True)
                )
            )
            scalers[name] = Scaler.from_json(own["scaler"])
        made.histories_, made.scalers_, made.flat_ = histories, scalers, bool(header["flat"])
        held = header["calibration"]
        made.calibration_ = None if held is None else Calibration.from_json(held)
        return made


def _between(levels: np.ndarray, quantiles: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return quantiles between those that are known, (..., Q) to (..., W); beyond them along the outermost slope."""
    if len(quantiles) == 1:
        return np.repeat(levels, wanted.shape[-1], axis=-1)
    at = np.clip(np.searchsorted(quantiles, wanted), 1, len(quantiles) - 1)
    places = np.broadcast_to(at, (*levels.shape[:-1], at.shape[-1]))
    low, high = (np.take_along_axis(levels, places - back, axis=-1) for back in (1, 0))
    found: np.ndarray = low + (high - low) * (wanted - quantiles[at - 1]) / (quantiles[at] - quantiles[at - 1])
    return found


def _in_order_of(paths: np.ndarray, grown: np.ndarray) -> np.ndarray:
    """Return the growing numbers of every step (H, C, n) in the order in which paths (n, H, C) pass each other."""
    ranks = paths.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable")
    found: np.ndarray = np.take_along_axis(np.moveaxis(grown, -1, 0), ranks, axis=0)
    return found


def _repeated(state: Any, times: int) -> Any:
    """Return a state whose sequences stand there so many times each."""
    if isinstance(state, list):
        return [_repeated(part, times) for part in state]
    return tuple(np.repeat(part, times, axis=1) for part in state)
