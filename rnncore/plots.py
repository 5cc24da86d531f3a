"""Pictures of a training, of what a network expects, where it looks and what it hears when, how reliable it is.

They need matplotlib, ``rnncore[plot]``.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from rnncore.io.files import write_atomically
from rnncore.metrics import row_names

__all__ = [
    "check_plotting",
    "plot_alignment",
    "plot_attention",
    "plot_next_symbols",
    "plot_reliability",
    "plot_report",
    "save_figure",
]

_KINDS = ("png", "svg", "pdf")
_LABELS = 100
_SYMBOLS = 1000


def check_plotting(path: str | os.PathLike[str]) -> None:
    """Find out before a training whether its picture can be drawn.

    Raises
    ------
    ValueError
        If matplotlib is missing, or the file's ending is unknown.
    """
    if _kind(path) not in _KINDS:
        raise ValueError(f"{os.fspath(path)}: expected a file name that ends in .{', .'.join(_KINDS)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ValueError("pictures need matplotlib: pip install 'rnncore[plot]'") from None


def save_figure(figure: Any, path: str | os.PathLike[str]) -> None:
    """Write a figure in the form that the file's name says; an existing file is replaced in one step."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format=_kind(path), dpi=150)
    write_atomically(path, drawn.getvalue())


def plot_report(report: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw the loss over the epochs and, where there was a test, how it went.

    Of tags what was missed and what found wrongly, by label; of classes of sequences which were taken for which; of
    numbers what was predicted beside what was true; of forecasts the first one, its interval, and what came.

    Parameters
    ----------
    report : dict
        As ``rnncore train --report`` writes it.
    path : str or path
        Ends in .png, .svg or .pdf; an existing file is replaced in one step.
    """
    check_plotting(path)
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    draw, found, n_labels = _test_of(report)
    height = max(4.0, 1.5 + 0.16 * min(n_labels, _LABELS))  # inches: every label readable
    figure = Figure(figsize=(10.0 if draw else 5.5, height), layout="constrained")
    figure.suptitle(_title(report))
    rows = {"height_ratios": [4, height - 4]} if height > 4 else {}  # a curve stays as high as it is for few labels
    grid = figure.add_gridspec(1 + bool(rows), 2 if draw else 1, **rows)
    of_numbers = report.get("task") in ("regress", "forecast")
    _draw_curve(figure.add_subplot(grid[0, 0]), report["history"], "loss" if of_numbers else "loss, nats")
    if draw:
        draw(figure.add_subplot(grid[:, 1]), found)
    save_figure(figure, path)


def plot_next_symbols(model: Any, text: str, path: str | os.PathLike[str], k: int = 5) -> None:
    """Draw over each symbol of a text what a language model expected there: the k most probable, the darker the surer.

    Parameters
    ----------
    model : LanguageModel
    text : str, or array of ids
        Long ones go on in further rows; at most 1000 symbols are drawn.
    path : str or path
        Ends in .png, .svg or .pdf; an existing file is replaced in one step.
    k : int
        How many to each symbol.
    """
    check_plotting(path)
    from matplotlib.figure import Figure

    found = model.expectations(text, k)[:_SYMBOLS]
    width, cell = (12, 0.85) if model.unit == "word" else (64, 0.2)  # symbols in a row, and inches to each
    lines = [found[start : start + width] for start in range(0, len(found), width)] or [[]]
    figure = Figure(figsize=(width * cell, 0.6 + 0.22 * (k + 2) * len(lines)), layout="constrained")
    axes = figure.subplots(len(lines), 1, squeeze=False)[:, 0]
    for ax, line in zip(axes, lines, strict=True):
        _draw_expectations(ax, line, width, k)
    save_figure(figure, path)


def plot_attention(
    weights: Any, source: Sequence[Any], target: Sequence[Any], path: str | os.PathLike[str], title: str = ""
) -> None:
    """Draw where a network looked in a source at each symbol that it wrote: the darker, the larger the weight.

    Parameters
    ----------
    weights : array (L, S)
    source, target : sequences of S and L symbols
        As ``SequenceToSequence.attention_weights`` returns all three.
    path : str or path
        Ends in .png, .svg or .pdf; an existing file is replaced in one step.
    title : str
    """
    check_plotting(path)
    from matplotlib.figure import Figure

    if (len(target), len(source)) != getattr(weights, "shape", None):
        raise ValueError(
            f"weights must be an array ({len(target)}, {len(source)}), a row for each symbol of the target; got "
            f"{getattr(weights, 'shape', type(weights).__name__)}"
        )
    longest = [max((len(_visible(one)) for one in labels), default=1) for labels in (source, target)]
    size = (1.2 + 0.28 * len(source) + 0.08 * longest[1], 1.2 + 0.28 * len(target) + 0.08 * longest[0])
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.imshow(weights, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(source)), [_visible(one) for one in source], rotation=90 if longest[0] > 2 else 0)
    axes.set_yticks(range(len(target)), [_visible(one) for one in target])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    if title:
        axes.set_title(title, fontsize=10)
    save_figure(figure, path)


def plot_reliability(found: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw how often predictions are right against how probable they are by the model, and how many there are.

    Parameters
    ----------
    found : dict
        What `rnncore.metrics.calibration` or ``SequenceTagger.evaluate`` returns.
    path : str or path
        Ends in .png, .svg or .pdf; an existing file is replaced in one step.
    """
    check_plotting(path)
    from matplotlib.figure import Figure

    table = [row for row in found["reliability"] if row["count"]]
    figure = Figure(figsize=(5.0, 6.0), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    places, widths = [row["from"] for row in table], [row["to"] - row["from"] for row in table]
    above.bar(places, [row["accuracy"] for row in table], widths, align="edge", edgecolor="white", label="accuracy")
    above.plot([row["confidence"] for row in table], [row["accuracy"] for row in table], "ko", markersize=4)
    above.plot([0, 1], [0, 1], color="gray", linestyle="--", label="as often right as they say")
    above.set_ylabel("share that is right")
    above.set_ylim(0, 1.02)
    above.legend(loc="upper left", frameon=False)
    if found["calibration_error"] is not None:
        above.set_title(f"expected calibration error {found['calibration_error']:.4f}", fontsize=10)
    below.bar(places, [row["count"] for row in table], widths, align="edge", edgecolor="white", color="gray")
    if table:
        below.set_yscale("log")
    below.set_ylabel("predictions")
    below.set_xlabel("probability of the prediction")
    below.set_xlim(0, 1)
    save_figure(figure, path)


def plot_alignment(
    model: Any, x: Any, path: str | os.PathLike[str], string: Any = None, step: float | None = None
) -> None:
    """Draw one sequence's features, under them its labels where they are spoken, and the probabilities of all steps.

    Parameters
    ----------
    model : Transcriber
    x : (T, D) array, or sound (N,)
    path : str or path
        Ends in .png, .svg or .pdf; an existing file is replaced in one step.
    string : str or list of labels, optional
        What is aligned with it; None: what the model predicts.
    step : float, optional
        Seconds from one step of `x` to the next; without, steps are counted, but of a sound.
    """
    check_plotting(path)
    from matplotlib.figure import Figure

    spans = model.alignment(x, string)
    (log_p,) = model.predict_log_proba([x])
    step = model.step_seconds_ or step
    unit, every = step or 1.0, model.specification_.settings.every
    features = np.asarray(model.features([x])[0], dtype=np.float64)
    end = len(features) * unit
    figure = Figure(figsize=(min(max(6.0, len(features) / 20), 30.0), 5.0), layout="constrained")
    above, between, below = figure.subplots(3, 1, sharex=True, height_ratios=(5, 1, 4))
    above.imshow(features.T, aspect="auto", origin="lower", extent=(0, end, 0, features.shape[1]), cmap="magma")
    above.set_ylabel("feature")
    between.set_ylim(0, 1)
    between.set_yticks([])
    colors = [f"C{number % 10}" for number in range(len(model.classes_))]
    of_label = dict(zip(model.classes_, colors, strict=True))
    for span in spans:
        start, stop = span.start * unit, span.end * unit
        between.axvspan(start, stop, color=of_label[span.symbol], alpha=0.4, linewidth=0)
        between.text((start + stop) / 2, 0.5, _visible(span.symbol), ha="center", va="center", fontweight="bold")
        above.axvline(start, color="white", linewidth=0.5)
    places = (np.arange(len(log_p)) + 0.5) * every * unit
    p = np.exp(log_p)
    below.plot(places, p[:, -1], color="gray", linestyle=":", label="blank")
    said = [number for number, label in enumerate(model.classes_) if any(span.symbol == label for span in spans)]
    for number in said[:_LABELS]:
        below.plot(places, p[:, number], color=colors[number], label=_visible(model.classes_[number]))
    below.set_ylim(0, 1.02)
    below.set_xlim(0, end)
    below.set_ylabel("probability")
    below.set_xlabel("step" if step is None else "seconds")
    below.legend(loc="upper center", bbox_to_anchor=(0.5, -0.25), ncols=12, frameon=False)
    save_figure(figure, path)


def _draw_expectations(axes: Any, line: list[Any], width: int, k: int) -> None:
    """Draw the symbols of a line in bold, and what was expected at each place in rows below."""
    from matplotlib.patches import Rectangle

    axes.set_xlim(0, width)
    axes.set_ylim(k + 1.2, -0.2)
    axes.axis("off")
    for place, (symbol, expected) in enumerate(line):
        axes.text(place + 0.5, 0.5, _visible(symbol), ha="center", va="center", fontsize=8, fontweight="bold")
        for row, (guess, p) in enumerate(expected, start=1):
            right = guess == symbol
            red, green, blue = (0.75, 1.0, 0.75) if right else (1.0, 0.8, 0.7)
            shade = (1 - p * (1 - red), 1 - p * (1 - green), 1 - p * (1 - blue))
            axes.add_patch(Rectangle((place, row), 1, 1, facecolor=shade, edgecolor="none"))
            axes.text(
                place + 0.5, row + 0.5, _visible(guess), ha="center", va="center", fontsize=7, alpha=0.3 + 0.7 * p
            )


def _visible(symbol: Any) -> str:
    """Show blanks and line ends, and what matplotlib would read as mathematics."""
    text = symbol.decode("latin-1") if isinstance(symbol, bytes) else str(symbol)
    text = {"\n": "¶", " ": "␣", "\t": "→"}.get(text, text)
    return _short(text if text.isprintable() else repr(text)[1:-1]).replace("$", r"\$")


def _kind(path: str | os.PathLike[str]) -> str:
    return os.path.splitext(os.fspath(path))[1][1:].lower()


def _test_of(report: dict[str, Any]) -> tuple[Any, Any, int]:
    """Return what draws a report's test, or None; what it draws, and how many labels it shows."""
    if report.get("confusion"):
        return _draw_confusion, report["confusion"], len(report["confusion"])
    if report.get("forecast"):
        return _draw_forecast, report["forecast"], 0
    if report.get("test_pairs"):
        return _draw_pairs, report["test_pairs"], 0
    scores = _scores(report)
    return (_draw_errors, scores, len(scores)) if scores else (None, None, 0)


def _scores(report: dict[str, Any]) -> dict[str, Any]:
    evaluation = report.get("evaluation") or {}
    if "averages" not in evaluation:  # of several columns: a picture for each would be too much
        return {}
    kind = "entities" if evaluation.get("entities") else "labels"
    scores = evaluation.get(kind) or {}
    return {name: scores[name] for name in row_names(scores, evaluation["averages"][kind])} if scores else {}


def _title(report: dict[str, Any]) -> str:
    """Name the model, and how good it is."""
    settings = report.get("settings", {})
    layers = f"{settings['num_layers']} x " if settings.get("num_layers", 1) > 1 else ""
    both = ", both directions" if settings.get("bidirectional") else ""
    model = f"{layers}{settings.get('cell', 'network')} {settings.get('hidden_size', '')}{both}".rstrip()
    evaluation = report.get("evaluation") or {}
    parts = [model]
    if report.get("test_accuracy") is not None:
        parts.append(f"accuracy {report['test_accuracy']:.4f}")
    if report.get("test_r2") is not None:
        parts.append(f"R² {report['test_r2']:.4f}")
    for part in ("valid", "test"):
        if report.get(f"{part}_nats") is not None:
            parts.append(f"{part} {report[f'{part}_nats']:.4f} nats")
    if report.get("test_absolute_error") is not None:
        parts.append(f"mean absolute error {report['test_absolute_error']:.4g}")
    if report.get("label_error_rate") is not None:
        parts.append(f"label error rate {report['label_error_rate']:.4f}")
    if evaluation.get("entities"):
        parts.append(f"F1 {evaluation['averages']['entities']['micro']['f1']:.4f}")
    return " · ".join(parts)


def _draw_curve(axes: Any, history: list[dict[str, Any]], what: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    epochs = [record["epoch"] for record in history]
    axes.plot(epochs, [record["loss"] for record in history], marker=".", label="loss, training")
    if any("val_loss" in record for record in history):
        axes.plot(epochs, [record.get("val_loss") for record in history], marker=".", label="loss, validation")
    if any(record.get("val_score", 0) > 0 for record in history):  # else it is the loss once more, below zero
        twin = axes.twinx()
        twin.plot(epochs, [record.get("val_score") for record in history], color="tab:green", marker=".")
        twin.set_ylabel("accuracy, validation", color="tab:green")
    if any("val_score" in record for record in history):
        best = max(history, key=lambda record: (record["val_score"], -record["val_loss"]))["epoch"]
        axes.axvline(best, color="gray", linestyle=":", label=f"best epoch, {best}")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("epoch")
    axes.set_ylabel(what)
    axes.grid(alpha=0.3)
    _legend_below(axes)


def _draw_forecast(axes: Any, forecast: dict[str, Any]) -> None:
    """Draw what went before, what was forecast, and what came; step 0 is the first that was forecast."""
    before, came, said = (np.array(forecast[name]) for name in ("before", "came", "said"))
    steps = np.arange(len(said))
    axes.plot(np.arange(-len(before), 0), before, color="black", label="before")
    if "low" in forecast:
        axes.fill_between(steps, forecast["low"], forecast["high"], color="tab:blue", alpha=0.2, label="90 %, forecast")
    marker = "." if len(said) < 10 else ""
    axes.plot(steps, said, color="tab:blue", marker=marker, label="forecast")
    axes.plot(steps, came, color="tab:orange", marker=marker, linestyle="--", label="came")
    axes.set_xlabel("step")
    if forecast["series"] is not None:
        axes.set_title(forecast["series"], fontsize=10)
    axes.grid(alpha=0.3)
    _legend_below(axes)


def _draw_errors(axes: Any, scores: dict[str, Any]) -> None:
    rows = {name: (row["there"] - row["right"], row["found"] - row["right"]) for name, row in scores.items()}
    names = sorted(rows, key=lambda name: -sum(rows[name]))[:_LABELS][::-1]
    places = range(len(names))
    axes.barh([place + 0.2 for place in places], [rows[name][0] for name in names], height=0.4, label="missed")
    axes.barh([place - 0.2 for place in places], [rows[name][1] for name in names], height=0.4, label="wrongly found")
    size = 10 if len(names) <= 25 else 7
    axes.set_yticks(list(places), [_short(name) for name in names], fontsize=size)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("errors on the test data")
    hidden = len(rows) - len(names)
    axes.set_title(
        f"the {len(names)} labels with most errors of {len(rows)}" if hidden else "errors by label", fontsize=10
    )
    _legend_below(axes)


def _draw_confusion(axes: Any, confusion: dict[str, dict[str, int]]) -> None:
    """Draw how many of each true class, a row, were taken for each; the shares of a row as shades."""
    hidden = len(confusion) - _LABELS
    names = sorted(confusion, key=lambda name: confusion[name].get(name, 0) - sum(confusion[name].values()))
    kept = {*names[:_LABELS]}  # those with most errors
    names = [name for name in confusion if name in kept]
    counts = np.array([[confusion[true].get(said, 0) for said in names] for true in names])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    size = 9 if len(names) <= 12 else 6
    if len(names) <= 25:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                shade = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, f"{count:,}", ha="center", va="center", color=shade, fontsize=size)
    labels = [_visible(name) for name in names]
    turned = 90 if max(map(len, labels), default=0) > 2 else 0
    axes.set_xticks(range(len(names)), labels, rotation=turned, fontsize=size)
    axes.set_yticks(range(len(names)), labels, fontsize=size)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    title = f"the {len(names)} classes with most errors of {len(confusion)}" if hidden > 0 else "test data"
    axes.set_title(title, fontsize=10)


def _draw_pairs(axes: Any, pairs: list[Any]) -> None:
    """Draw predictions over true numbers; on the line they are equal."""
    true, found = np.array(pairs, dtype=np.float64).T
    ends = [min(true.min(), found.min()), max(true.max(), found.max())]
    axes.plot(ends, ends, color="gray", linewidth=1)
    axes.plot(true, found, ".", alpha=0.5)
    axes.set_xlabel("true")
    axes.set_ylabel("predicted")
    axes.set_title("test data", fontsize=10)
    axes.grid(alpha=0.3)


def _legend_below(axes: Any) -> None:
    """Explain the lines where there are none."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), borderaxespad=4.0, ncols=2, frameon=False)


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "…"
