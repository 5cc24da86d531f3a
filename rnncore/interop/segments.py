"""What a network reads, in ONNX's operators: numbers, symbols, or segments side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rnncore.interop.graph import Graph, Value
from rnncore.interop.layers import Input, Ragged, run_layers, weighted_rows
from rnncore.nn.inputs import Embedding, Features, Letters, Numbers, SequenceVector

__all__ = ["INPUTS", "described", "read_input", "read_segments", "settle_inputs"]

INPUTS = ("numbers", "ids", "bags")
Described = dict[str, tuple[str, list[Any]]]


def settle_inputs(network: Any, inputs: Any) -> Any:
    """Return what x is, or of segments what each is, checked."""
    if network.inputs is None:
        known = INPUTS[bool(network.embedding) :]
        inputs = inputs or known[0]
        if inputs not in known:
            raise ValueError(f"inputs must be one of {', '.join(known)}, got {inputs!r}")
        return inputs
    segments = network._reader.segments
    tables = [name for name, part in segments.items() if isinstance(part, Embedding)]
    given = {} if inputs is None else inputs
    if not isinstance(given, Mapping) or set(given) - set(tables) or set(given.values()) - {"ids", "bags"}:
        what = f"each of {', '.join(tables)}" if tables else "nothing: there is no embedding"
        raise ValueError(f'inputs of a network with segments must be a dict of "ids" or "bags" for {what}; got {given}')
    for name, part in segments.items():
        if type(part) not in (Embedding, Features, Letters, Numbers, SequenceVector):
            raise ValueError(f"inputs[{name!r}]: a {type(part).__name__} cannot be written as an ONNX model")
    return {name: given.get(name, "ids") for name in tables}


def described(network: Any, inputs: Any) -> Described:
    """Return kind and shape of each input."""

    def of_symbols(form: str, last: str) -> tuple[str, list[Any]]:
        return "INT64", ["T", "B"] if form == "ids" else ["T", "B", last]

    if network.inputs is None:
        if inputs == "numbers":
            return {"x": ("FLOAT", ["T", "B", network.layers[0].input_size])}
        return {"x": of_symbols(inputs, "N")}
    found: Described = {}
    for name, part in network._reader.segments.items():
        if isinstance(part, Embedding):
            found[name] = of_symbols(inputs[name], f"{name}.N")
        elif isinstance(part, Features):
            found[name] = "INT64", ["T", "B", f"{name}.F"]
            found[f"{name}.values"] = "FLOAT", ["T", "B", f"{name}.F"]
        elif isinstance(part, Letters):
            found[name] = "INT64", ["T", "B", f"{name}.L"]
        else:
            found[name] = "FLOAT", ["T", "B", part.width] if part.by_step else ["B", part.width]
    return found


def read_input(g: Graph, network: Any, inputs: str) -> Input:
    """Return what the first layer of a network without segments reads."""
    x = Value(g, "x")
    if inputs == "numbers":
        return Input(g, dense=x)
    symbols = Input(g, ids=x, bags=inputs == "bags")
    return Input(g, dense=symbols.times(network.params["embedding.E"])) if network.embedding else symbols


def read_segments(g: Graph, network: Any, forms: Mapping[str, str], batch: Ragged) -> Input:
    """Return all segments side by side."""
    parts = []
    for name, part in network._reader.segments.items():
        x = Value(g, name)
        if isinstance(part, Embedding):
            x = Input(g, ids=x, bags=forms[name] == "bags").times(network.params[f"inputs.{name}.E"])
        elif isinstance(part, Features):
            x = weighted_rows(g, network.params[f"inputs.{name}.E"], x, Value(g, f"{name}.values"))
        elif isinstance(part, Letters):
            x = _words(g, network._reader.layers[name], x, batch)
        elif not part.by_step:
            x = g.op("Expand", g.op("Unsqueeze", x, [0]), g.concat([batch.T, batch.B, np.array([part.width])], 0))
        parts.append(x)
    return Input(g, dense=g.concat(parts, 2))


def _words(g: Graph, layer: Any, letters: Value, batch: Ragged) -> Value:
    """Write the layer over the letters (T, B, L) of all words as one batch: (T, B, width), zeros for no letters."""
    most = g.size(letters, 2)
    words = g.op("Reshape", letters, g.concat([np.array([-1]), most], 0))
    there = g.op("GreaterOrEqual", words, np.int64(0))
    counts = g.op("ReduceSum", g.cast(there, "INT64"), [1], keepdims=0)
    ids = g.op("Transpose", g.op("Max", words, np.int64(0)), perm=[1, 0])
    spelled = Ragged(g, most, g.op("Mul", batch.T, batch.B), g.op("Max", counts, np.int64(1)))
    _, last = run_layers(g, [layer], Input(g, ids=ids), spelled)
    some = g.op("Unsqueeze", g.op("Greater", counts, np.int64(0)), [1])
    vectors = g.op("Where", some, g.concat(last, 1), np.float32(0))
    return g.op("Reshape", vectors, g.concat([batch.T, batch.B, np.array([layer.output_size])], 0))
