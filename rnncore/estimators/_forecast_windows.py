"""Series cut into windows: what a forecaster is trained on, and what it is watched on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rnncore import _checks
from rnncore.data.readers import DataError
from rnncore.data.sequences import Sequences
from rnncore.estimators._forecast_data import History, Scaler, window_moments
from rnncore.nn.custom import CustomHead

__all__ = ["Windows", "measured"]

_AT_ONCE = 1 << 16  # steps


class Windows:
    """Every series as inputs and targets of each step, and the windows that share them.

    Parameters
    ----------
    settings : Forecaster
    inputs_of : callable
        What the network reads at a history's last steps, see the forecaster's pipeline.
    histories, scalers, names : dict
        By series; names are how messages call them.
    """

    def __init__(
        self,
        settings: Any,
        inputs_of: Any,
        histories: Mapping[Any, History],
        scalers: Mapping[Any, Scaler],
        names: Mapping[Any, str],
    ) -> None:
        self._window: int = settings.window
        self._by_window: bool = settings.scale == "window"
        self._stride: int = settings.stride or max(1, settings.window // 8)
        ahead = settings.horizon if settings.strategy == "direct" else 1
        inputs, targets, self._lengths = [], [], []
        self._width: int = next(iter(histories.values())).y.shape[1]
        for name, history in histories.items():
            z = scalers[name].apply(history.y, names[name])
            n = len(z) - ahead
            if n < 2:
                raise DataError(
                    f"y{names[name]} has {len(history.y)} steps: with differences and a horizon of {ahead} it needs at "
                    f"least {scalers[name].lost + ahead + 2}"
                )
            before = History(*(part[: len(part) - ahead] for part in (history.y, history.known, history.past)))
            inputs.append(inputs_of(z[:n], before, history.known[len(history.known) - ahead :]))
            targets.append(np.concatenate([z[k : k + n] for k in range(1, ahead + 1)], axis=1))
            self._lengths.append(n)
        dtype = _checks.precision(settings.dtype)[0]
        self._x, self._y = np.concatenate(inputs).astype(dtype), np.concatenate(targets).astype(dtype)

    def whole(self) -> Sequences:
        """Return the windows of all steps."""
        return self._cut([(0, n) for n in self._lengths])

    def parts(self, fraction: float) -> tuple[Sequences, Sequences]:
        """Return the windows of all but each series' end, and those of that end: `fraction` of its steps."""
        kept = [n - max(1, round(n * fraction)) for n in self._lengths]
        if min(kept) < 1:
            raise DataError("early_stopping sets the end of every series aside, and nothing of one would be left")
        return self._cut([(0, n) for n in kept]), self._cut([*zip(kept, self._lengths, strict=True)])

    def _cut(self, ranges: list[tuple[int, int]]) -> Sequences:
        starts, lengths, begin = [], [], 0
        for (first, last), n in zip(ranges, self._lengths, strict=True):
            length = min(self._window, last - first)
            own = np.arange(first, last - length + 1, self._stride)
            starts.append(begin + own)
            lengths.append(np.full(len(own), length, dtype=np.int64))
            begin += n
        if self._by_window:
            return self._scaled(np.concatenate(starts), np.concatenate(lengths))
        made = Sequences(self._x, self._y, np.concatenate(lengths))
        made.__dict__["starts"] = np.concatenate(starts)  # windows overlap
        return made

    def _scaled(self, starts: np.ndarray, lengths: np.ndarray) -> Sequences:
        """Return windows side by side, inputs and targets of each scaled by what it looks back on."""
        rows = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
        x, y = self._x[rows], self._y[rows]
        z = x[:, : self._width]
        mean, deviation = (np.repeat(part, lengths, axis=0) for part in window_moments(z, lengths))
        x[:, : self._width] = (z - mean) / deviation
        ahead = y.shape[1] // self._width
        y[:] = (y - np.tile(mean, ahead)) / np.tile(deviation, ahead)
        return Sequences(x, y, lengths)


def measured(network: Any, data: Sequences) -> dict[str, float]:
    """Return the mean loss of windows, without dropout."""
    total = counted = 0.0
    for rows in _batches(data):
        lengths = data.lengths[rows]
        at = np.minimum(np.arange(lengths.max())[:, None], lengths - 1) + data.starts[rows]
        scores, targets = network.predict(data.x[at], lengths=lengths), data.y[at]
        if isinstance(network.head, CustomHead):
            loss = network.head.loss_and_grad(scores, targets, lengths)[0] * lengths.sum()
        else:
            real = np.arange(len(at))[:, None] < lengths
            loss = float((((scores.astype(np.float64) - targets) ** 2).sum(axis=-1) * real).sum())
        total, counted = total + loss, counted + float(lengths.sum())
    return {"val_loss": total / counted, "val_score": -total / counted}


def _batches(data: Sequences) -> Iterator[np.ndarray]:
    size = max(1, _AT_ONCE // int(data.lengths.max()))
    for first in range(0, len(data), size):
        yield np.arange(first, min(first + size, len(data)))
