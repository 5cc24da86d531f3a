"""The command ``rnncore``: train, evaluate, predict, generate, replica, info, config, zoo.

Exit status: 0 on success, 2 for input that cannot be used (one line on standard error says why), 130 after Ctrl-C,
143 after SIGTERM and 129 after SIGHUP with what was learned saved, 1 for a bug in rnncore.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from rnncore.cli.processes import is_first
from rnncore.cli.status import BAD_INPUT, BUG, INTERRUPTED

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        _say(self.prog, f"{message} (see {self.prog} --help)")
        self.exit(BAD_INPUT)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Write as argparse does, but let it be known where it cannot be written."""
        (file or sys.stderr).write(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the arguments `argv` (those of the process without) and return its exit status."""
    if sys.stderr is None:  # closed; messages have no other place
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    closed = sys.stdout is None
    if closed:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if hasattr(sys.stdout, "reconfigure"):  # the names of files need not be text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        options = _parser().parse_args(argv)
    except KeyboardInterrupt:  # while modules are imported
        _say("rnncore", "interrupted")
        return INTERRUPTED
    except SystemExit as stop:  # argparse has said its line, or printed its help
        code = stop.code if isinstance(stop.code, int) else BAD_INPUT
        return _finished("rnncore", code, closed)
    except OSError as error:
        return _no_output("rnncore", error)
    if closed and not (getattr(options, "quiet", False) or getattr(options, "out", None)):
        return _finished(f"rnncore {options.command}", 0, closed)
    code = _finished(f"rnncore {options.command}", _run(options), False)
    return code if options.command != "train" or is_first() else 0  # a launcher kills all for one that fails


def _finished(command: str, code: int, closed: bool) -> int:
    """Send off what is still on its way to standard output, and say so where it cannot be written."""
    if closed:
        _say(command, "standard output is closed")
        return code or BAD_INPUT
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
    except OSError as error:
        return _no_output(command, error)
    return code


def _no_output(command: str, error: OSError) -> int:
    _drop_output()
    _say(command, f"standard output: {error.strerror or error}")
    return BAD_INPUT


def _drop_output() -> None:
    """Let the interpreter's last flush find an open file."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def _run(options: argparse.Namespace) -> int:
    from rnncore.train.agreement import ProcessError
    from rnncore.train.trainer import CheckpointWarning, DivergenceWarning

    command = f"rnncore {options.command}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of others would only confuse
            for ours in (DivergenceWarning, CheckpointWarning):
                warnings.simplefilter("always", ours)
            warnings.showwarning = lambda message, *rest, **more: _say(command, f"warning: {message}")
            return options.run(options) or 0
    except KeyboardInterrupt:
        _say(command, "interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough, as with | head
        _drop_output()
        return 0
    except (ValueError, TypeError, OSError, ProcessError) as error:
        if isinstance(error, OSError) and not error.filename:  # all other writing names its file
            return _no_output(command, error)
        _say(command, _describe(error))
        return BAD_INPUT
    except MemoryError:
        _say(command, "not enough memory; try a smaller model or batch")
        return BAD_INPUT
    except Exception as error:
        if os.environ.get("RNNCORE_TRACEBACK"):
            raise
        _say(
            command,
            f"internal error, please report it: {type(error).__name__}: {error} (RNNCORE_TRACEBACK=1 shows more)",
        )
        return BUG


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _say(command: str, message: str) -> None:
    if command == "rnncore train" and not is_first():  # what several processes have to say process 0 says
        return
    line = f"{command}: {' '.join(message.split())}"
    with contextlib.suppress(OSError):  # there is no other place to say it
        if "tqdm" in sys.modules:  # a progress bar may be under way on this line
            sys.modules["tqdm"].tqdm.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    from rnncore.cli import apply, language, replica, show, train, zoo

    parser = _Parser(prog="rnncore", description="Train recurrent neural networks on a CPU, fast.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"rnncore {_version()}")
    commands: Any = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (train, apply, language, replica, show, zoo):
        module.add_commands(commands)
    return parser


def _version() -> str:
    import rnncore

    return rnncore.__version__
