"""A picture of a training: the learning curve, and the errors by label. Needs matplotlib, ``rnncore[plot]``."""

from __future__ import annotations

import io
import os
from typing import Any

from rnncore.io.files import write_atomically
from rnncore.metrics import row_names

__all__ = ["check_plotting", "plot_report"]

_KINDS = ("png", "svg", "pdf")
_LABELS = 25


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


def plot_report(report: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw the loss over the epochs and, where there was a test, what was missed and what found wrongly by label.

    Parameters
    ----------
    report : dict
        As ``rnncore train --report`` writes it.
    path : str or path
        Ends in .png, .svg or .pdf; an existing file is replaced in one step.
    """
    check_plotting(path)
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    scores = _scores(report)
    figure = Figure(figsize=(10.0 if scores else 5.5, 4.0), layout="constrained")
    axes = figure.subplots(1, 2 if scores else 1, squeeze=False)[0]
    _draw_curve(axes[0], report["history"])
    if scores:
        _draw_errors(axes[1], scores)
    drawn = io.BytesIO()
    figure.savefig(drawn, format=_kind(path), dpi=150)
    write_atomically(path, drawn.getvalue())


def _kind(path: str | os.PathLike[str]) -> str:
    return os.path.splitext(os.fspath(path))[1][1:].lower()


def _scores(report: dict[str, Any]) -> dict[str, Any]:
    evaluation = report.get("evaluation") or {}
    kind = "entities" if evaluation.get("entities") else "labels"
    scores = evaluation.get(kind) or {}
    return {name: scores[name] for name in row_names(scores, evaluation["averages"][kind])} if scores else {}


def _draw_curve(axes: Any, history: list[dict[str, Any]]) -> None:
    epochs = [record["epoch"] for record in history]
    axes.plot(epochs, [record["loss"] for record in history], marker=".", label="loss, training")
    if any("val_loss" in record for record in history):
        axes.plot(epochs, [record.get("val_loss") for record in history], marker=".", label="loss, validation")
        twin = axes.twinx()
        twin.plot(epochs, [record.get("val_score") for record in history], color="tab:green", marker=".")
        twin.set_ylabel("accuracy, validation", color="tab:green")
    axes.set_yscale("log")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss, nats per word")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")


def _draw_errors(axes: Any, scores: dict[str, Any]) -> None:
    rows = {name: (row["there"] - row["right"], row["found"] - row["right"]) for name, row in scores.items()}
    names = sorted(rows, key=lambda name: -sum(rows[name]))[:_LABELS][::-1]
    places = range(len(names))
    axes.barh([place + 0.2 for place in places], [rows[name][0] for name in names], height=0.4, label="missed")
    axes.barh([place - 0.2 for place in places], [rows[name][1] for name in names], height=0.4, label="wrongly found")
    axes.set_yticks(list(places), names)
    axes.set_xlabel("errors on the test data")
    axes.legend()
