"""Tables on the terminal, geometric means, and the bars that figures are held against."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Cell = float | int | str | None


def geometric_mean(values: Iterable[float | None]) -> float | None:
    """Geometric mean of what is there; None when nothing is."""
    present = [value for value in values if value is not None]
    return math.exp(sum(map(math.log, present)) / len(present)) if present else None


def ratio(numerator: float | None, denominator: float | None) -> float | None:
    """Quotient, or None when either figure is missing."""
    return None if numerator is None or denominator is None else numerator / denominator


def least(*values: float | None) -> float | None:
    """Smallest figure that is there."""
    return min((value for value in values if value is not None), default=None)


def most(*values: float | None) -> float | None:
    """Largest figure that is there."""
    return max((value for value in values if value is not None), default=None)


def show(value: Cell, pattern: str) -> str:
    """One table entry: `pattern` is a format spec such as '.2f', '.1%', or 'ms' for three significant digits."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if pattern == "ms":
        return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"
    return format(value, pattern)


def table(title: str, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Cell]]) -> None:
    """Print right-aligned columns, each given as (heading, format of its entries)."""
    lines = [[heading for heading, _ in columns]]
    lines += [[show(value, pattern) for value, (_, pattern) in zip(row, columns, strict=True)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print(f"\n{title}")
    for number, line in enumerate(lines):
        print("  " + "  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))
        if number == 0:
            print("  " + "  ".join("-" * width for width in widths))


def label(row: Mapping[str, Any]) -> str:
    """Shape of a row, marked when the machine was crowded while it was timed."""
    return f"~ {row['shape']}" if row.get("crowded") else str(row["shape"])


def footnotes(rows: Sequence[Mapping[str, Any]]) -> None:
    """Say how closely the contestants agreed before they were timed, and what the marks mean."""
    worst = max(row.get("difference", 0.0) for row in rows)
    if worst > 0:
        print(f"  agreement checked before timing: largest relative difference {worst:.1e}")
    if any(row.get("crowded") for row in rows):
        print("  ~ other processes took cores from this row: do not trust it")


def at_least(what: str, value: float | None, bar: float, pattern: str = ".2f") -> None:
    """Say whether a figure reaches its bar from above; silent when it was not measured."""
    if value is not None:
        verdict = "reached" if value >= bar else "MISSED"
        print(f"  {verdict:>7}: {what} {show(value, pattern)} (bar: at least {show(bar, pattern)})")


def at_most(what: str, value: float | None, bar: float, pattern: str = ".2f") -> None:
    """Say whether a figure stays under its bar; silent when it was not measured."""
    if value is not None:
        verdict = "reached" if value <= bar else "MISSED"
        print(f"  {verdict:>7}: {what} {show(value, pattern)} (bar: at most {show(bar, pattern)})")
