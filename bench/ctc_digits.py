"""Spoken digits glued together: how well they are written down, after how long; a training step beside PyTorch's.

The step's bar is what one layer reaches beside PyTorch's at the nearest shape of `bench step`, in the same run.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from bench import agreement, files, report, shapes, step
from bench.setting import Setting
from bench.timing import interleaved
from bench.weights import Arrays

UNITS, LAYERS, DIGITS = 96, 2, 10
STACK = 3  # steps of 10 ms that are one
BATCH = 32
NEAR = shapes.STEP[3]
RATE = 0.01
TOLERANCE = {"float32": 1e-3, "float64": 1e-10}
ERROR, SECONDS, SHARE = 0.025, 120.0, 0.9
TESTED = 1000  # strings of either kind


def run(options: argparse.Namespace) -> dict[str, Any]:
    setting = Setting.of(options, "torch")
    path = files.data_file(None, "spoken_digits.npz")
    figures: dict[str, Any] = {"step": _step(setting, path)}
    if setting.ours and not setting.quick:
        figures["learned"] = _learned(setting, path)
    return figures


def _features(path: Any, n_strings: int, takes: range, mixed: bool, seed: int) -> tuple[list[np.ndarray], list[str]]:
    import rnncore as rc

    sounds, strings = rc.datasets.glued_digits(path, n_strings, takes, mixed, random_state=seed)
    return [rc.audio.log_mel(sound, rc.datasets.DIGITS_RATE) for sound in sounds], strings


def _learned(setting: Setting, path: Any) -> dict[str, Any]:
    import rnncore as rc

    parts = [_features(path, 1250, range(5, 50), mixed, 1 + mixed) for mixed in (False, True)]
    X, strings = ([*one, *other] for one, other in zip(*parts, strict=True))
    model = rc.Transcriber(
        hidden_size=UNITS,
        num_layers=LAYERS,
        stack=STACK,
        every=STACK,
        dtype=setting.dtype,
        n_threads=setting.threads,
    )
    start = time.perf_counter()
    model.fit(X, strings)
    seconds = time.perf_counter() - start
    found: dict[str, Any] = {"seconds": seconds, "strings": len(X), "epochs": model.n_epochs_, "label_error_rate": {}}
    rows: list[list[report.Cell]] = []
    for mixed in (False, True):
        name = "mixed speakers" if mixed else "one speaker"
        X, strings = _features(path, TESTED, range(5), mixed, 10 + mixed)
        start = time.perf_counter()
        best = model.predict(X)
        path_ms = (time.perf_counter() - start) / len(X) * 1e3
        start = time.perf_counter()
        beam = model.predict(X, beam_size=16)
        beam_ms = (time.perf_counter() - start) / len(X) * 1e3
        rates = rc.metrics.error_rate(strings, best), rc.metrics.error_rate(strings, beam)
        found["label_error_rate"][name] = rates
        rows.append([name, rates[0], rates[1], path_ms, beam_ms])
    report.table(
        setting.title(
            f"glued digits, takes 0 to 4: {found['epochs']} epochs of 2500 strings in {seconds:.0f} s", "gru"
        ),
        [("", ""), ("error, best path", ".2%"), ("beam of 16", ".2%"), ("ms a string", ".2f"), ("beam", ".2f")],
        rows,
    )
    for name, (rate, _) in found["label_error_rate"].items():
        report.at_most(f"label error rate, {name}", rate, ERROR, ".2%")
    if setting.threads > 1:
        report.at_most("seconds of training", seconds, SECONDS, ".0f")
    return found


def _step(setting: Setting, path: Any) -> dict[str, Any]:
    batch = _batch(path, setting.dtype)
    contestants: list[agreement.Contestant] = [Ours(batch, setting)] if setting.ours else []
    if setting.torch is not None:
        contestants.append(PyTorch(batch, setting))
    start = _weights(_network(batch[0].shape[2], setting.dtype, setting.threads))
    difference = agreement.require(contestants, setting.dtype, start, TOLERANCE[setting.dtype])
    timings = interleaved({each.name: each.call for each in contestants}, setting.budget(8.0))
    seconds = {name: setting.seconds(timing) for name, timing in timings.items()}
    ratio = report.ratio(seconds.get("PyTorch"), seconds.get("rnncore"))
    alone = step._measure(setting, "gru", NEAR)["x PyTorch"]
    steps, sequences, size = batch[0].shape
    row = {
        "shape": f"{sequences}, {steps}, {size}, {LAYERS} x {UNITS}",
        "difference": difference,
        "crowded": setting.crowded(timings),
        "ms": {name: value * 1e3 for name, value in seconds.items()},
        "timings": {name: timing.as_dict() for name, timing in timings.items()},
        "x PyTorch": ratio,
        "layer alone": alone,
        "share": report.ratio(ratio, alone),
    }
    report.table(
        setting.title("glued digits: a training step, and a layer alone", "gru in both directions"),
        [
            ("B, T, D, H", ""),
            *((name, "ms") for name in ("rnncore", "PyTorch")),
            *((name, ".2f") for name in ("x PyTorch", "layer alone", "share")),
        ],
        [
            [
                report.label(row),
                *(row["ms"].get(name) for name in ("rnncore", "PyTorch")),
                *(row[name] for name in ("x PyTorch", "layer alone", "share")),
            ]
        ],
    )
    report.footnotes([row])
    report.at_least("of what a layer alone reaches", row["share"], SHARE)
    return row


Given = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _batch(path: Any, dtype: str) -> Given:
    """A minibatch as training has them, strings of similar lengths: x (T, B, D), targets (B, L), both lengths."""
    X, strings = _features(path, 8 * BATCH, range(5, 50), True, 0)
    order = sorted(range(len(X)), key=lambda i: -len(X[i]))[3 * BATCH : 4 * BATCH]
    short = [X[i][: len(X[i]) // STACK * STACK].reshape(-1, STACK * X[i].shape[1]) for i in order]
    lengths, sizes = (np.array([*map(len, parts)]) for parts in (short, [strings[i] for i in order]))
    x = np.zeros((lengths[0], BATCH, short[0].shape[1]), dtype)
    targets = np.full((BATCH, sizes.max()), -1)
    flat = np.concatenate(short)
    for b, (part, i) in enumerate(zip(short, order, strict=True)):
        x[: len(part), b] = (part - flat.mean(axis=0)) / flat.std(axis=0)
        targets[b, : sizes[b]] = [int(digit) for digit in strings[i]]
    return x, targets, lengths, sizes


def _network(size: int, dtype: str, threads: int) -> Any:
    import rnncore as rc

    layers = rc.Recurrent("gru", size, UNITS, num_layers=LAYERS, bidirectional=True, dtype=dtype, random_state=0)
    net = rc.Network(layers, head=rc.CTC(DIGITS))
    net.n_threads = threads
    return net


def _weights(net: Any) -> Arrays:
    """Everything but biases, of which PyTorch has two where one is needed."""
    import rnncore as rc

    found = {name: array for name, array in rc.to_torch(net.layers[0]).items() if name.startswith("weight")}
    return found | {"head": np.array(net.params["head.W_hy"].T)}


class Ours:
    """`Network.train_step`."""

    name = "rnncore"

    def __init__(self, batch: Given, setting: Setting) -> None:
        import rnncore as rc

        self.x, self.targets, self.lengths, _ = batch
        self.net, self.optimizer = _network(self.x.shape[2], setting.dtype, setting.threads), rc.SGD(RATE)
        self.loss = 0.0

    def call(self) -> None:
        self.loss = self.net.train_step(self.x, self.targets, self.optimizer, self.lengths)

    def results(self) -> Arrays:
        return _weights(self.net) | {"loss": np.array(self.loss)}


class PyTorch:
    """The same network of torch.nn's modules, sequences packed."""

    name = "PyTorch"

    def __init__(self, batch: Given, setting: Setting) -> None:
        import torch

        import rnncore as rc

        x, targets, lengths, sizes = batch
        net = _network(x.shape[2], setting.dtype, setting.threads)
        dtype = getattr(torch, setting.dtype)
        self.torch = torch
        self.layers = torch.nn.GRU(x.shape[2], UNITS, LAYERS, bidirectional=True, dtype=dtype)
        self.layers.load_state_dict({k: torch.from_numpy(v) for k, v in rc.to_torch(net.layers[0]).items()})
        self.head = torch.nn.Linear(2 * UNITS, DIGITS + 1, dtype=dtype)
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(np.array(net.params["head.W_hy"].T)))
            self.head.bias.copy_(torch.from_numpy(np.array(net.params["head.b_y"])))
        parameters = [*self.layers.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.SGD(parameters, lr=RATE)
        self.x, self.lengths, self.sizes = map(torch.from_numpy, (x, lengths, sizes))
        self.targets = torch.from_numpy(targets.clip(0))

    def call(self) -> None:
        rnn, functional = self.torch.nn.utils.rnn, self.torch.nn.functional
        self.optimizer.zero_grad(set_to_none=True)
        outputs, _ = rnn.pad_packed_sequence(self.layers(rnn.pack_padded_sequence(self.x, self.lengths))[0])
        log_p = functional.log_softmax(self.head(outputs), -1)
        losses = functional.ctc_loss(log_p, self.targets, self.lengths, self.sizes, blank=DIGITS, reduction="none")
        self.loss = losses.mean()
        self.loss.backward()
        self.optimizer.step()

    def results(self) -> Arrays:
        found = {k: v.detach().numpy() for k, v in self.layers.named_parameters() if k.startswith("weight")}
        return found | {"head": self.head.weight.detach().numpy(), "loss": self.loss.detach().numpy()}
