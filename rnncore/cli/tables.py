"""What people read: aligned lines, counts with their nouns, and tables of an evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rnncore.metrics import row_names

__all__ = ["count", "described_layers", "show_answers", "show_evaluation", "tell"]

_ROWS = 40  # of labels: a table of thousands is for the report
_CONFUSIONS = 5
_AVERAGES = {"micro": "together", "macro": "mean", "weighted": "weighted mean"}


def tell(topic: str, text: str) -> None:
    """Print a line under a topic."""
    print(f"{topic:<8} {text}".rstrip(), flush=True)


def count(n: int, noun: str) -> str:
    """Name a number of things.

    Examples
    --------
    >>> count(1, "word"), count(1200, "word")
    ('1 word', '1,200 words')
    """
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def described_layers(model: Any) -> str:
    """Name an estimator's recurrent layers."""
    layers = f"{model.num_layers} x " if model.num_layers > 1 else ""
    both = ", both directions" if getattr(model, "bidirectional", False) else ""
    return f"{layers}{model.cell} {model.specification_.settings.hidden_size}{both}"


def show_answers(say: Callable[[str, str], None], result: dict[str, Any], classes: Any) -> None:
    """Say what was measured of one column of tags, or of each of several, and of labels of sentences."""
    several = isinstance(classes, dict)
    for name in classes if several else ():
        show_evaluation(say, result[name], name)
    if not several:
        show_evaluation(say, result)
    if "sentence" not in result:
        return
    say("", "")
    say("sentence", f"accuracy {_share(result['sentence'], 'sentence')}")
    for name in classes if several else ("tags",):
        its = result[name] if several else result
        say("", f"label and {name} all right {_share(its['whole'], 'sentence')}")


def show_evaluation(say: Callable[[str, str], None], result: dict[str, Any], topic: str = "test") -> None:
    """Say what `rnncore.metrics.evaluation` measured: accuracy, known and unknown words, a table, confusions."""
    say(topic, f"accuracy {_share(result)}")
    if "unknown" in result and result["unknown"]["total"]:
        for kind in ("known", "unknown"):
            say("", f"{kind} words {_share(result[kind])}" if result[kind]["total"] else f"no {kind} words")
    if result.get("mean_confidence") is not None:
        error = result["calibration_error"]
        say("", f"confidence {result['mean_confidence']:.4f} on average, calibration error {error:.4f}")
    scores = result["entities"] or result["labels"]
    noun = "entities" if result["entities"] else "labels"
    averages = result["averages"]["entities" if result["entities"] else "labels"]
    names = row_names(scores, averages)
    hidden = max(0, len(names) - _ROWS)
    names = sorted(names, key=lambda name: -scores[name]["there"])[:_ROWS] if hidden else names
    shown = [*names, *_AVERAGES.values(), noun]
    width = min(max(map(len, shown)), 40)
    say("", "")
    say("", f"{noun:<{width}}  precision  recall      F1    there    found    right")
    for name in names:
        say("", _table_row(name or "(no type)", scores[name], width))
    for average, name in _AVERAGES.items():
        say("", _table_row(name, averages[average], width))
    if hidden:
        say("", f"({count(hidden, 'rarer one')} not shown; --report has all)")
    if result["confusions"]:
        wrong = ", ".join(f"{own} as {other} {n:,}x" for own, other, n in result["confusions"][:_CONFUSIONS])
        say("", "")
        say("", f"most often mistaken: {wrong}")


def _table_row(name: str, row: dict[str, Any], width: int) -> str:
    text = f"{name[:width]:<{width}}  {row['precision']:9.4f}  {row['recall']:6.4f}  {row['f1']:6.4f}"
    return text + (f"  {row['there']:7,}  {row['found']:7,}  {row['right']:7,}" if "there" in row else "")


def _share(part: dict[str, Any], noun: str = "word") -> str:
    return f"{part['accuracy']:.4f} ({part['correct']:,} of {count(part['total'], noun)} right)"
