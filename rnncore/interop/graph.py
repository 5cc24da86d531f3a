"""A small writer of ONNX graphs: values that are written down like arrays, ``f * c + i * g``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["Graph", "Value"]

OPSET = 17
IR_VERSION = 8


class Value:
    """One result within a graph; operators write nodes."""

    __array_ufunc__ = None  # an array on the left must not take its numbers one by one

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph = graph
        self.name = name

    def __add__(self, other: Any) -> Value:
        return self.graph.op("Add", self, other)

    def __sub__(self, other: Any) -> Value:
        return self.graph.op("Sub", self, other)

    def __rsub__(self, other: Any) -> Value:
        return self.graph.op("Sub", other, self)

    def __mul__(self, other: Any) -> Value:
        return self.graph.op("Mul", self, other)

    def __matmul__(self, other: Any) -> Value:
        return self.graph.op("MatMul", self, other)

    __radd__, __rmul__ = __add__, __mul__


class Graph:
    """Nodes and constants; the body of a loop is a graph within, which sees the constants outside.

    Parameters
    ----------
    onnx : module
        The package onnx.
    outer : Graph, optional
        The graph around, which keeps the constants and gives the names.
    names : sequence of str
        Names of inputs and outputs, which nothing else may have.
    """

    def __init__(self, onnx: Any, outer: Graph | None = None, names: Sequence[str] = ()) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.top: Graph = outer.top if outer else self
        self.constants: list[Any] = []
        twice = sorted(name for name in names if names.count(name) > 1)
        if twice:
            raise ValueError(f"inputs and outputs of an ONNX model need names of their own, got {twice[0]!r} twice")
        self._taken = frozenset(names)
        self._count = 0

    def name(self, hint: str) -> str:
        """Return a name that nothing else has."""
        self.top._count += 1
        found = f"{hint}_{self.top._count}"
        return found if found not in self.top._taken else self.name(hint)

    def value(self, given: Any) -> Value:
        """Return a value as it is, anything else as a constant: numbers in single precision, whole ones as int64."""
        if isinstance(given, Value):
            return given
        array = np.asarray(given)
        array = array.astype(np.int64 if array.dtype.kind in "iu" else bool if array.dtype.kind == "b" else np.float32)
        name = self.top.name("constant")
        self.top.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return Value(self, name)

    def ops(self, kind: str, inputs: Sequence[Any], n_outputs: int, **attributes: Any) -> list[Value]:
        """Write a node; an input that is None is left out."""
        names = ["" if given is None else self.value(given).name for given in inputs]
        outputs = [self.name(kind.lower()) for _ in range(n_outputs)]
        self.nodes.append(self.onnx.helper.make_node(kind, names, outputs, **attributes))
        return [Value(self, name) for name in outputs]

    def op(self, kind: str, *inputs: Any, **attributes: Any) -> Value:
        """Write a node of one output."""
        return self.ops(kind, inputs, 1, **attributes)[0]

    def split(self, value: Value, parts: int, width: int) -> list[Value]:
        """Take the last axis apart into `parts` of `width` numbers."""
        return self.ops("Split", [value, [width] * parts], parts, axis=-1) if parts > 1 else [value]

    def size(self, value: Value, axis: int) -> Value:
        """Return the length of an axis, (1,) int64."""
        return self.op("Shape", value, start=axis, end=axis + 1)

    def concat(self, values: Sequence[Any], axis: int) -> Value:
        """Put values behind one another."""
        return self.ops("Concat", values, 1, axis=axis)[0] if len(values) > 1 else self.value(values[0])

    def cast(self, value: Value, kind: str) -> Value:
        """Change the type of the numbers: FLOAT, INT64, INT32 or BOOL."""
        return self.op("Cast", value, to=getattr(self.onnx.TensorProto, kind))

    def scan(
        self,
        step: Callable[[Graph, list[Value], list[Value]], tuple[list[Value], list[Value]]],
        states: Sequence[tuple[Value, str]],
        over: Sequence[tuple[Value, str]],
        n_outputs: int,
        reverse: bool = False,
    ) -> tuple[list[Value], list[Value]]:
        """Run a step along the first axis; return the last states, and what each step put out.

        Parameters
        ----------
        step : callable
            ``step(body, states, slices)`` returns (new states, outputs).
        states, over : sequences of (value, kind of numbers)
        """
        body = Graph(self.onnx, self)
        own, slices = ([Value(body, self.name("each")) for _ in part] for part in (states, over))
        after, outputs = step(body, own, slices)
        results = [body.op("Identity", value) for value in (*after, *outputs)]
        described = self.onnx.helper.make_tensor_value_info
        kinds = [getattr(self.onnx.TensorProto, kind) for _, kind in (*states, *over)]
        whole = [getattr(self.onnx.TensorProto, kind) for _, kind in states] + [kinds[0]] * n_outputs
        graph = self.onnx.helper.make_graph(
            body.nodes,
            self.name("body"),
            [described(value.name, kind, None) for value, kind in zip((*own, *slices), kinds, strict=True)],
            [described(value.name, kind, None) for value, kind in zip(results, whole, strict=True)],
        )
        found = self.ops(
            "Scan",
            [value for value, _ in (*states, *over)],
            len(results),
            body=graph,
            num_scan_inputs=len(over),
            scan_input_directions=[int(reverse)] * len(over),
            scan_output_directions=[int(reverse)] * n_outputs,
        )
        return found[: len(states)], found[len(states) :]

    def model(self, inputs: dict[str, Any], outputs: dict[str, Any], about: dict[str, str]) -> Any:
        """Return the whole as a model.

        Parameters
        ----------
        inputs : dict of name to (kind, shape)
        outputs : dict of name to (value, kind, shape)
        about : dict of str to str
            What else to keep in it.
        """
        helper, types = self.onnx.helper, self.onnx.TensorProto
        for name, (value, _, _) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [value.name], [name]))
        graph = helper.make_graph(
            self.nodes,
            "rnncore",
            [helper.make_tensor_value_info(n, getattr(types, kind), shape) for n, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info(n, getattr(types, kind), shape) for n, (_, kind, shape) in outputs.items()],
            self.constants,
        )
        made = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="rnncore",
        )
        helper.set_model_props(made, about)
        self.onnx.checker.check_model(made)
        return made
