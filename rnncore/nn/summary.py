"""A table of a layer's or network's parts, as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rnncore.nn.attention import Attention
    from rnncore.nn.network import Network
    from rnncore.nn.recurrent import Recurrent

Row = tuple[str, str, str, int]  # a part's name, what it is, the shape of its output, its parameters


def layer_rows(layer: Recurrent, first: int = 0) -> list[Row]:
    """Return a row per layer; the first one has this number."""
    ways = "both ways" if layer.bidirectional else "backward" if layer.reverse else "forward"
    if layer.bidirectional and layer.merge == "sum":
        ways = "both ways, summed"
    rows = []
    for n in range(layer.num_layers):
        size = sum(view.size for name, view in layer.params.items() if name.startswith(f"layers.{n}."))
        rows.append((f"layers.{first + n}", f"{layer.cell.name}, {ways}", f"(T, B, {layer.output_size})", size))
    return rows


def attention_row(attention: Attention) -> Row:
    """Return an attention's row."""
    what = f"{attention.score}, over {'steps so far' if attention.causal else 'all steps'}"
    size = sum(view.size for view in attention.params.values())
    return "attention", what, f"(T, B, {attention.output_size})", size


def network_rows(net: Network) -> list[Row]:
    """Return a row per part, from the input on."""
    sizes = {name: view.size for name, view in net.params.items()}
    rows: list[Row] = []
    if net.embedding:
        table = net.embedding
        rows.append(("embedding", f"of {table.symbols:,} symbols", f"(T, B, {table.size})", sizes["embedding.E"]))
    if net._reader:
        for name, part in net._reader.segments.items():
            own = sum(size for key, size in sizes.items() if key.startswith(f"inputs.{name}."))
            rows.append((f"inputs.{name}", type(part).__name__, f"({'T, ' * part.by_step}B, {part.width})", own))
    depth = 0
    for layer in net.layers:
        rows += layer_rows(layer, depth)
        depth += layer.num_layers
    if net.attention:
        rows.append(attention_row(net.attention))
    for output in net.outputs:
        own = sum(size for name, size in sizes.items() if name.startswith(output.prefix))
        what = f"{output.head.name}, {'every step' if output.by_step else f'{output.pooling} of the steps'}"
        shape = f"({'T, ' * output.by_step}B, {output.head.outputs})"
        rows.append((output.prefix.rstrip("."), what, shape, own))
    return rows


def table(rows: list[Row], itemsize: int, frozen: int) -> str:
    """Return the rows and their total as aligned text; `frozen`: how many of the parameters are."""
    cells = [("part", "what", "output", "parameters", "bytes")]
    cells += [(name, what, shape, f"{size:,}", f"{size * itemsize:,}") for name, what, shape, size in rows]
    total = sum(size for *_, size in rows)
    cells.append(("total", f"{frozen:,} frozen" if frozen else "", "", f"{total:,}", f"{total * itemsize:,}"))
    widths = [max(len(row[i]) for row in cells) for i in range(5)]
    lines = []
    for row in cells:
        left = [text.ljust(width) for text, width in zip(row[:3], widths[:3], strict=True)]
        right = [text.rjust(width) for text, width in zip(row[3:], widths[3:], strict=True)]
        lines.append("  ".join(left + right).rstrip())
    return "\n".join(lines)
