"""Layers and networks as plain words and numbers, for model files: the arguments they were built with, and weights.

Reading goes through the constructors and their checks, so whatever a file holds, no unchecked number gets to the
kernels; and no more memory is asked for than the weights in the file take.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rnncore.nn.heads import HEADS, Constraints, Head
from rnncore.nn.layout import at_most

if TYPE_CHECKING:
    from rnncore.nn.attention import Attention
    from rnncore.nn.encoder_decoder import EncoderDecoder
    from rnncore.nn.network import Network
    from rnncore.nn.recurrent import Recurrent

Arrays = Mapping[str, np.ndarray]
Made = TypeVar("Made")


def plain(value: Any) -> Any:
    """Return NumPy's numbers and tuples as what JSON has.

    Raises
    ------
    ValueError
        For what JSON has nothing for.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError(f"a model file cannot hold the option {value!r}, only numbers, words and lists of them")


class Savable(ABC):
    """What a model file can hold: arguments, weights, and what was set later."""

    params: Any

    @abstractmethod
    def _to_model(self) -> tuple[str, dict[str, Any]]:
        """Return its kind, and all but the weights as what JSON has."""

    def save(self, path: str | os.PathLike[str], weight_dtype: str | None = None) -> None:
        """Write it to a model file, which ``rnncore.load`` reads; whole or not at all.

        It holds the options of the parts, weights, what is frozen and dropout's counters; not the gradient, nor
        ``n_threads``. An optimizer's ``state_dict`` is kept apart.

        Parameters
        ----------
        path : str or path
            By custom it ends in ``.safetensors``. An existing file is replaced in one step.
        weight_dtype : {"bfloat16", "int8"}, optional
            Keep float32 matrices in half or a quarter of the bits; what is read back is rounded to that.

        Raises
        ------
        OSError
            If the file cannot be written; an existing one is then as it was.

        Examples
        --------
        >>> import os, tempfile, rnncore as rc
        >>> net = rc.Network(rc.Recurrent("elman", 4, 8), head=rc.Softmax(3))
        >>> path = os.path.join(tempfile.mkdtemp(), "net.safetensors")
        >>> net.save(path)
        >>> rc.load(path)
        Network([Recurrent("elman", 4, 8, dtype="float32")], ..., 131 parameters)
        """
        from rnncore.io.files import write_model

        write_model(path, *self._to_model(), {name: np.array(view) for name, view in self.params.items()}, weight_dtype)


def read(build: Callable[[Any], Made], own: Any, arrays: Arrays) -> Made:
    """Return what a model file holds: `build` makes it of all but the weights."""
    with at_most(sum(array.size for array in arrays.values())):
        made = build(own)
    _take_weights(made, arrays)
    return made


def _take_weights(made: Any, arrays: Arrays) -> None:
    """Take over parameters, which must be those of `made`, and nothing else."""
    if set(arrays) != set(made.params):
        raise ValueError(f"expected the weights {', '.join(made.params)}; got {', '.join(sorted(arrays))}")
    for name, view in made.params.items():
        array = arrays[name]
        if array.shape != view.shape or array.dtype != view.dtype:
            raise ValueError(f"expected {name} as {view.dtype} {view.shape}, got {array.dtype} {array.shape}")
        view[...] = array


# ------------------------------------------------------------------ layers


def layer_to_json(layer: Recurrent) -> dict[str, Any]:
    """Return the arguments of the constructor, and what was set later; but threads, which are the machine's matter."""
    from rnncore.nn.recurrent import OPTIONS

    own = {name: plain(getattr(layer, name)) for name in OPTIONS if name != "n_threads"}
    own |= {"cell": layer.cell.name, "dtype": layer.dtype_policy}
    own["cell_options"] = {name: plain(value) for name, value in layer.cell_options.items()}
    return own | {"dropout_seed": layer.dropout_seed, "dropout_step": layer.dropout_step, "frozen": [*layer.frozen]}


def layer_from_json(own: Mapping[str, Any]) -> Recurrent:
    """Build a layer from what `layer_to_json` returned."""
    from rnncore.nn.recurrent import OPTIONS, Recurrent

    names = {*OPTIONS, "cell", "dtype", "cell_options", "dropout_seed", "dropout_step", "frozen"} - {"n_threads"}
    _expect(own, names)
    later = {"cell_options", "dropout_seed", "dropout_step", "frozen"}
    given = {name: own[name] for name in names - later}
    clash = sorted(set(own["cell_options"]) & {*given, "n_threads"})
    if clash:
        raise ValueError(f"cell_options hold {', '.join(clash)}")
    layer = Recurrent(**given, **own["cell_options"])
    layer.dropout_seed, layer.dropout_step = own["dropout_seed"], own["dropout_step"]
    layer.freeze(*own["frozen"])
    return layer


def attention_to_json(attention: Attention) -> dict[str, Any]:
    """Return the arguments of the constructor, and what was set later; but threads."""
    from rnncore.nn.attention import OPTIONS

    own = {name: plain(getattr(attention, name)) for name in OPTIONS if name != "n_threads"}
    return own | {"dtype": attention.dtype_policy, "frozen": [*attention.frozen]}


def attention_from_json(own: Mapping[str, Any]) -> Attention:
    """Build an attention from what `attention_to_json` returned."""
    from rnncore.nn.attention import OPTIONS, Attention

    _expect(own, {*OPTIONS, "dtype", "frozen"} - {"n_threads"})
    attention = Attention(**{name: value for name, value in own.items() if name != "frozen"})
    attention.freeze(*own["frozen"])
    return attention


# ------------------------------------------------------------------ networks


def network_to_json(net: Network) -> dict[str, Any]:
    """Return the parts, each as the arguments of its constructor, and what was set later."""
    table = net.embedding
    return {
        "layers": [layer_to_json(layer) for layer in net.layers],
        "single": net.single,
        "head": None if net.head is None else _head_to_json(net.head),
        "heads": None if net.head is not None else {name: _head_to_json(head) for name, head in net.heads.items()},
        "pooling": net.pooling,
        "loss_weights": None if net.loss_weights is None else {k: plain(v) for k, v in net.loss_weights.items()},
        "embedding": None if table is None else {"symbols": int(table.symbols), "size": int(table.size)},
        "inputs": _inputs_to_json(net.inputs),
        "skip": net.skip,
        "attention": None if net.attention is None else attention_to_json(net.attention),
        "batch_first": net.batch_first,
        "dropout_seed": net.dropout_seed,
        "dropout_step": net.dropout_step,
        "frozen": [*net.frozen],
    }


def network_from_json(own: Mapping[str, Any]) -> Network:
    """Build a network from what `network_to_json` returned; before there was attention, that was without it."""
    from rnncore.nn.network import Embedding, Network

    own = {"attention": None, **own}
    parts = {"layers", "single", "head", "heads", "pooling", "loss_weights", "embedding", "inputs", "skip", "attention"}
    _expect(own, parts | {"batch_first", "dropout_seed", "dropout_step", "frozen"})
    if not isinstance(own["single"], bool) or not isinstance(own["layers"], list):
        raise ValueError("layers must be a list, single a flag")
    if own["single"] and len(own["layers"]) != 1:
        raise ValueError(f"{len(own['layers'])} layers are not a single one")
    layers = [layer_from_json(each) for each in own["layers"]]
    net = Network(
        layers[0] if own["single"] else layers,
        None if own["head"] is None else _head_from_json(own["head"]),
        embedding=None if own["embedding"] is None else Embedding(**own["embedding"]),
        skip=own["skip"],
        pooling=own["pooling"],
        heads=None if own["heads"] is None else {k: _head_from_json(each) for k, each in own["heads"].items()},
        loss_weights=own["loss_weights"],
        inputs=_inputs_from_json(own["inputs"]),
        attention=None if own["attention"] is None else attention_from_json(own["attention"]),
        batch_first=own["batch_first"],
    )
    net.dropout_seed, net.dropout_step = own["dropout_seed"], own["dropout_step"]
    net.freeze(*own["frozen"])
    return net


def encoder_decoder_to_json(net: EncoderDecoder) -> dict[str, Any]:
    """Return the arguments of the constructor, with layers as lists, and what was set later."""
    own = net._arguments()
    table, attention = own["embedding"], own["attention"]
    for name in ("encoder", "decoder"):
        own[name] = None if own[name] is None else [layer_to_json(layer) for layer in own[name]]
    own["embedding"] = None if table is None else {"symbols": int(table.symbols), "size": int(table.size)}
    own["inputs"] = _inputs_to_json(own["inputs"])
    own["attention"] = None if attention is None else attention_to_json(attention)
    own = {name: value if name in _PARTS else plain(value) for name, value in own.items()}
    single = {"single_encoder": net.single_encoder, "single_decoder": net.single_decoder}
    later = {"dropout_seed": net.dropout_seed, "dropout_step": net.dropout_step, "frozen": [*net.frozen]}
    return own | single | later


_PARTS = ("encoder", "decoder", "embedding", "inputs", "attention")


def encoder_decoder_from_json(own: Mapping[str, Any]) -> EncoderDecoder:
    """Build a network from what `encoder_decoder_to_json` returned."""
    from rnncore.nn.encoder_decoder import EncoderDecoder
    from rnncore.nn.inputs import Embedding

    plain_ones = {"symbols", "vector_size", "conditioning", "label_smoothing", "random_state"}
    later = {"single_encoder", "single_decoder", "dropout_seed", "dropout_step", "frozen"}
    _expect(own, {*_PARTS, *plain_ones, *later})
    given = {name: own[name] for name in plain_ones}
    for name in ("encoder", "decoder"):
        layers = own[name]
        if layers is not None and (not isinstance(layers, list) or (own[f"single_{name}"] and len(layers) != 1)):
            raise ValueError(f"the layers of the {name} must be a list, a single one a list of one")
        made = None if layers is None else [layer_from_json(each) for each in layers]
        given[name] = made[0] if made and own[f"single_{name}"] else made
    given["embedding"] = None if own["embedding"] is None else Embedding(**own["embedding"])
    given["inputs"] = _inputs_from_json(own["inputs"])
    given["attention"] = None if own["attention"] is None else attention_from_json(own["attention"])
    net = EncoderDecoder(**given)
    net.dropout_seed, net.dropout_step = own["dropout_seed"], own["dropout_step"]
    net.freeze(*own["frozen"])
    return net


def _inputs_to_json(inputs: Any) -> Any:
    """Return segments as [name, class, fields]; the names are None where they stand in a list."""
    if inputs is None:
        return None
    named = inputs.items() if isinstance(inputs, Mapping) else ((None, part) for part in inputs)
    found = []
    for name, part in named:
        own = {each.name: getattr(part, each.name) for each in fields(part)}
        own = {key: dict(value) if isinstance(value, Mapping) else plain(value) for key, value in own.items()}
        if "options" in own:
            own["options"] = {key: plain(value) for key, value in own["options"].items()}
        found.append([name, type(part).__name__, own])
    return found


def _inputs_from_json(own: Any) -> Any:
    from rnncore.nn.inputs import Embedding, Features, Letters, Numbers, SequenceVector

    if own is None:
        return None
    kinds = {kind.__name__: kind for kind in (Embedding, Features, Letters, Numbers, SequenceVector)}
    made = [(name, kinds[kind](**given)) for name, kind, given in own]
    return dict(made) if made and made[0][0] is not None else [part for _, part in made]


def _head_to_json(head: Head) -> dict[str, Any]:
    if HEADS.get(head.name) is not type(head):
        raise ValueError(f"a model file can hold the heads {', '.join(HEADS)}, not a {type(head).__name__}")
    own: dict[str, Any] = {"name": head.name}
    for each in _given_fields(head):
        value = getattr(head, each.name)
        if isinstance(value, Constraints):
            value = [value.transitions, value.start, value.end]
        own[each.name] = plain(value)
    return own


def _given_fields(head: Any) -> list[Field[Any]]:
    """Return a head's fields but those that follow from the others."""
    return [each for each in fields(head) if each.init]


def _head_from_json(own: Mapping[str, Any]) -> Head:
    kind = HEADS[own["name"]]
    names = {"name", *(each.name for each in _given_fields(kind))}
    own = {"tied": False, **own} if "tied" in names else own  # files from before there were tied heads
    _expect(own, names)
    given = {name: value for name, value in own.items() if name != "name"}
    if given.get("constraints") is not None:
        given["constraints"] = Constraints(*given["constraints"])
    return kind(**given)


def _expect(own: Any, names: set[str]) -> None:
    """Refuse anything but a dict of these names."""
    if not isinstance(own, dict) or set(own) != names:
        came = ", ".join(sorted(own)) if isinstance(own, dict) else type(own).__name__
        raise ValueError(f"expected {', '.join(sorted(names))}; got {came}")
