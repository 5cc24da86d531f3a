"""What the compiled core says of a cell: names and sizes of its parameters, states and gates.

Everything here is read from the cell's record in C (src_pyx/kernels/cells/table.h); nothing is said a second time. The
shapes of parameters follow from how the kernels use them. They are products of symbols: D, the width of the input; H,
the hidden units; output, the width of the output; matrix, the numbers in what the input makes of itself where that is
a matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from rnncore._core.kernels import cell_record

Size = tuple[int, str]  # so many times H, D, output or matrix


class Matrix(NamedTuple):
    """A matrix that meets something at every step.

    Attributes
    ----------
    parameter : str
        Whose columns it is: `gates` blocks from number `gate` on.
    blocks : tuple of int
        The blocks of a row of gates that their products go to.
    meets : str
        A state, or an inner array of the same step.
    meets_output, previous, to_output : bool
        What it meets is as wide as the output; is that of the step before; the product makes the output.
    bias : int
        The vector that its last gate's product starts from, or -1.
    """

    parameter: str
    gate: int
    gates: int
    blocks: tuple[int, ...]
    meets: str
    meets_output: bool
    previous: bool
    to_output: bool
    bias: int


class Record(NamedTuple):
    """One cell as its kernels know it.

    Attributes
    ----------
    name : str
    shapes : mapping of str to tuple of (int, str)
        Parameters in the order of theta: each axis is so many times a symbol.
    optional : frozenset of str
        Those that are there only where the cell's options ask for them.
    states : mapping of str to str
        What a step hands to the next, the output first: name -> symbol of its width.
    carried : tuple of str
        States whose gradient comes back by other ways than matrices, too.
    gates : mapping of str to int
        Which block of a row of gates holds each gate after the forward pass.
    matrices : tuple of Matrix
    vectors : tuple of (str or None, int)
        Parameters of H numbers that the kernel reads itself, and which part of the parameter each is.
    dropped : str
        The state that recurrent dropout is for.
    zoned : tuple of str
        The states that zoneout can act on.
    direct : int
        The block that x itself is added to (D is H then), or -1.
    noise, feeds_back : bool
        Whether it needs random numbers; whether it sees the outputs before it, which may be given.

    Examples
    --------
    >>> mgu = record("mgu")
    >>> mgu.shapes["W_hh"], mgu.states, mgu.gates
    (((1, 'H'), (2, 'H')), {'h': 'H'}, {'f': 0, 'n': 1})
    """

    name: str
    shapes: Mapping[str, tuple[Size, ...]]
    optional: frozenset[str]
    states: Mapping[str, str]
    carried: tuple[str, ...]
    gates: Mapping[str, int]
    matrices: tuple[Matrix, ...]
    vectors: tuple[tuple[str | None, int], ...]
    dropped: str
    zoned: tuple[str, ...]
    direct: int
    noise: bool
    feeds_back: bool

    def parameters(self, sizes: Mapping[str, int], chosen: tuple[str, ...] = ()) -> dict[str, tuple[int, ...]]:
        """Return name -> shape for given sizes, with those optional parameters that are `chosen`."""
        return {
            name: tuple(count * sizes[symbol] for count, symbol in shape)
            for name, shape in self.shapes.items()
            if name not in self.optional or name in chosen
        }


@cache
def record(name: str) -> Record:
    """Return a cell's record by its name in the table of kernels."""
    found = cell_record(name)
    matrices = tuple(Matrix(**matrix) for matrix in found["matrices"])
    states = {state: "output" if of_output else "H" for state, of_output, _ in found["states"]}
    return Record(
        name,
        shapes={parameter: _shape(parameter, found, matrices) for parameter, _ in found["parameters"]},
        optional=frozenset(parameter for parameter, optional in found["parameters"] if optional),
        states=states,
        carried=tuple(state for state, _, carries in found["states"] if carries),
        gates={block: i for i, block in enumerate(found["blocks"]) if block},
        matrices=matrices,
        vectors=found["vectors"],
        dropped=tuple(states)[found["dropped"]],
        zoned=tuple(states)[: found["zoned"]],
        direct=found["direct"],
        noise=found["noise"],
        feeds_back=found["feeds_back"],
    )


def _shape(name: str, found: Mapping[str, Any], matrices: tuple[Matrix, ...]) -> tuple[Size, ...]:
    """Return a parameter's shape from what the kernels use it for."""
    if name == "W_xh":
        return (1, "D"), (len(found["input_blocks"]), "matrix" if found["makes_matrix"] else "H")
    if name == "b_h":
        return ((found["gates"], "matrix" if found["makes_matrix"] and not found["own_bias"] else "H"),)
    own = [matrix for matrix in matrices if matrix.parameter == name]
    if own:
        columns = (1, "output") if own[0].to_output else (sum(matrix.gates for matrix in own), "H")
        return (1, "output" if own[0].meets_output else "H"), columns
    parts = [i for i, (vector, _) in enumerate(found["vectors"]) if vector == name]
    if not parts:
        raise ValueError(f"the record of {found['name']} has a parameter {name} that its kernels do not use")
    of_output = any(matrix.to_output and matrix.bias in parts for matrix in matrices)
    return ((len(parts), "output" if of_output else "H"),)
