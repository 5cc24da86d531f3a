"""``rnncore zoo``: networks at work, small enough to watch."""

from __future__ import annotations

import argparse
import json
from typing import Any

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add ``zoo`` to the command's parsers."""
    zoo = commands.add_parser("zoo", help="watch networks at work: without a name, list them", allow_abbrev=False)
    zoo.add_argument("name", nargs="?", metavar="NAME", help="which one to run")
    zoo.add_argument("--plot", metavar="FILE", help="draw what happened, as .png, .svg or .pdf (needs matplotlib)")
    zoo.add_argument("--report", metavar="FILE", help="write the figures as JSON")
    zoo.add_argument("--quiet", action="store_true", help="print the figures alone")
    zoo.set_defaults(run=run_zoo)


def run_zoo(options: argparse.Namespace) -> None:
    """List the demonstrations, or run one."""
    from rnncore.zoo import DEMONSTRATIONS, demonstrate

    if options.name is None:
        if options.plot or options.report:
            raise ValueError("--plot and --report belong to one network: rnncore zoo NAME")
        width = max(map(len, DEMONSTRATIONS))
        for name, (_, line) in DEMONSTRATIONS.items():
            print(f"{name:<{width}}  {line}")
        return
    if options.plot:
        from rnncore.plots import check_plotting

        check_plotting(options.plot)
    shown = demonstrate(options.name, (lambda line: None) if options.quiet else _say)
    for name, value in shown.figures.items():
        print(f"{name}: {f'{value:.4g}' if isinstance(value, float) else value}")
    if options.report:
        from rnncore.io.files import write_atomically

        write_atomically(
            options.report, (json.dumps({"name": options.name, **shown.figures}, indent=1) + "\n").encode()
        )
    if options.plot:
        _draw(shown, options.plot)


def _say(line: str) -> None:
    print(line, flush=True)


def _draw(shown: Any, path: str) -> None:
    from matplotlib.figure import Figure

    from rnncore.plots import save_figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    shown.draw(figure)
    save_figure(figure, path)
