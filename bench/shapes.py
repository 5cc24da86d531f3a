"""The sizes that are timed: (B sequences, T steps, D inputs, H hidden units)."""

from __future__ import annotations

from typing import NamedTuple


class Shape(NamedTuple):
    B: int
    T: int
    D: int
    H: int

    def __str__(self) -> str:
        return ", ".join(map(str, self))

    @property
    def is_big(self) -> bool:
        """Big enough that the kernels, not their edges, decide."""
        return self.B >= 32 and self.H >= 256


STEP = [
    Shape(1, 20, 64, 64),
    Shape(16, 20, 64, 64),
    Shape(50, 3, 512, 512),
    Shape(50, 50, 128, 128),
    Shape(64, 50, 128, 256),
    Shape(32, 100, 512, 512),
    Shape(128, 32, 512, 512),
    Shape(64, 20, 1024, 1024),
]

SESSION = [
    Shape(1, 1, 64, 128),
    Shape(1, 1, 256, 256),
    Shape(1, 1, 512, 512),
    Shape(1, 20, 64, 64),
    Shape(1, 100, 64, 128),
    Shape(1, 100, 512, 512),
    Shape(16, 20, 64, 64),
    Shape(50, 50, 128, 128),
    Shape(64, 50, 128, 256),
    Shape(32, 100, 512, 512),
]

RAGGED = [Shape(50, 50, 128, 128), Shape(64, 50, 128, 256), Shape(32, 100, 512, 512)]

# Sizes that fit no register tile, each with round neighbours.
ODD: list[tuple[Shape, list[Shape]]] = [
    (Shape(37, 50, 93, 77), [Shape(32, 50, 96, 64), Shape(40, 50, 96, 80)]),
    (Shape(50, 50, 200, 200), [Shape(50, 50, 192, 192), Shape(50, 50, 208, 208)]),
    (Shape(20, 35, 650, 650), [Shape(20, 35, 640, 640)]),
]

GATES = {"elman": 1, "lstm": 4, "gru": 3}


def layer_flops(gates: int, shape: Shape, rows: int | None = None) -> int:
    """Multiply-adds x 2 of forward and backward with dX: 6·G·H·(D+H) per row."""
    return 6 * gates * shape.H * (shape.D + shape.H) * (shape.B * shape.T if rows is None else rows)


def forward_flops(gates: int, shape: Shape) -> int:
    """Multiply-adds x 2 of a forward pass: 2·G·H·(D+H) per row."""
    return layer_flops(gates, shape) // 3


def number(shape: Shape, table: list[Shape] = STEP) -> str:
    """What `--rows` calls a row of the table; nothing for other shapes."""
    return str(table.index(shape) + 1) if shape in table else ""


def select(table: list[Shape], selection: str) -> list[Shape]:
    """Rows of `table` named by numbers (from 1), ranges and BxTxDxH; all of them for an empty selection."""
    if not selection:
        return table
    chosen: list[Shape] = []
    for part in selection.split(","):
        try:
            if "x" in part:
                chosen.append(Shape(*map(int, part.split("x"))))
            else:
                first, _, last = part.partition("-")
                chosen += [table[number - 1] for number in range(int(first), int(last or first) + 1) if number >= 1]
        except (ValueError, TypeError, IndexError):
            raise SystemExit(
                f"bench: --rows: expected numbers 1..{len(table)}, ranges or BxTxDxH, got {part!r}"
            ) from None
    return chosen
