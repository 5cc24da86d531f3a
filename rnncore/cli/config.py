"""Where ``rnncore train`` takes its options from: the command line, before the file, before the preset."""

from __future__ import annotations

import argparse
import ast
import difflib
import tomllib
from typing import Any

from rnncore.cli.arguments import column_pair
from rnncore.cli.tasks import TASKS, Task, task_of
from rnncore.data.readers import DataError

__all__ = ["read_config", "read_settings"]

# what a configuration file may say beside [settings], and what it must be
_OPTIONS: dict[str, tuple[type, ...]] = {
    "data": (str,),
    "task": (str,),
    "preset": (str,),
    "test": (str,),
    "valid": (str,),
    "sentence_labels": (str,),
    "test_sentence_labels": (str,),
    "valid_sentence_labels": (str,),
    "test_fraction": (int, float),
    "column": (str,),
    "out": (str,),
    "force": (bool,),
    "report": (str,),
    "plot": (str,),
    "checkpoint": (str,),
    "checkpoint_every": (int, float),
    "threads": (int,),
    "seed": (int,),
    "quiet": (bool,),
}
_NAMED = ("optimizer", "schedule")  # a name, or a table of "name" and options
_TABLES = ("cell_options", "class_weight", "initial", "sound")
_KINDS = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}


def read_config(options: argparse.Namespace) -> dict[str, Any]:
    """Fill `options` that the command line left open (None) from ``--config``; return the file's settings, unchecked.

    Raises
    ------
    DataError
        If the file cannot be read, is not TOML, or says what is not known.
    """
    if not options.config:
        return {}
    path = options.config
    content = _read(path)
    settings = content.pop("settings", {})
    if not isinstance(settings, dict):
        raise DataError(f"{path}: settings must be a table, [settings], got {_short(settings)}")
    for name, value in content.items():
        if name not in _OPTIONS:
            known = task_of(options.task or "tag").estimator()().get_params(deep=False)
            hint = "it belongs under [settings]" if name in known else _hint(name, _OPTIONS)
            raise DataError(f"{path}: there is no option {name}; {hint}")
        kinds = _OPTIONS[name]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise DataError(f"{path}: {name} must be {_KINDS[kinds[-1]]}, got {_short(value)}")
        if getattr(options, name) is None:
            setattr(options, name, _checked(path, name, value))
    presets = task_of(options.task or "tag").presets
    if content.get("preset", "") not in {"", *presets}:
        raise DataError(f"{path}: preset must be one of {', '.join(presets)}, got {_short(content['preset'])}")
    return settings


def read_settings(
    options: argparse.Namespace, of_file: dict[str, Any], known: dict[str, Any], task: Task
) -> dict[str, Any]:
    """Return the estimator's settings: the task's own, over them the preset's, the file's, and those of ``--set``.

    Parameters
    ----------
    options : Namespace
    of_file : dict
        What `read_config` returned.
    known : dict
        The estimator's parameters with their defaults.
    task : Task

    Raises
    ------
    DataError
        For parameters that there are not.
    """
    settings = dict(task.defaults)
    if options.preset:
        if options.preset not in task.presets:
            raise DataError(
                f"--preset: expected one of {', '.join(task.presets)} for --task {options.task or 'tag'}, got "
                f"{_short(options.preset)}"
            )
        settings |= task.presets[options.preset].settings
    for name, value in of_file.items():
        _check_name(f"{options.config}: [settings] {name}", name, known)
        settings[name] = _with_name(name, value, known)
    for assignment in options.set:
        name, equals, text = assignment.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise DataError(f"--set {assignment}: expected KEY=VALUE, such as --set hidden_size=128")
        name, dot, option = name.partition(".")
        _check_name(f"--set {assignment}", name, known)
        value = _value(text.strip())
        settings[name] = _with_option(assignment, name, option, value, settings, known) if dot else value
    return settings


def _with_option(
    assignment: str, name: str, option: str, value: Any, settings: dict[str, Any], known: dict[str, Any]
) -> dict[str, Any]:
    """Return what `name` is now, as a dict with one option more: ``--set optimizer.beta1=0.8``."""
    now = settings.get(name, known[name])
    if isinstance(now, str):
        now = {"name": now}
    may_be = name in _NAMED + _TABLES
    if not may_be or not option or not isinstance(now, dict | None):
        tables = ", ".join(one for one in _NAMED + _TABLES if one in known)
        raise DataError(f"--set {assignment}: {name} has no options; {tables} have")
    return {**(now or {}), option: value}


def _with_name(name: str, value: Any, known: dict[str, Any]) -> Any:
    """Give a table of options without a name the default's: ``[settings.optimizer]``."""
    if name in _NAMED and isinstance(value, dict) and "name" not in value:
        return {"name": known[name], **value}
    return value


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return tomllib.loads(file.read().decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path}: not TOML: {error}") from None
    except RecursionError:
        raise DataError(f"{path}: not TOML: nested too deeply") from None


def _checked(path: str, name: str, value: Any) -> Any:
    """Hold a value of the file to what the command line would accept."""
    bounds = {
        "test_fraction": (0, 1, "a number from 0 to less than 1"),
        "seed": (0, 2**63, "a whole number from 0 on"),
        "threads": (1, 2**31, "a whole number from 1 on"),
        "checkpoint_every": (0, float("inf"), "a number of seconds from 0 on"),
    }
    if name in bounds:
        low, high, expected = bounds[name]
        if not low <= value < high:
            raise DataError(f"{path}: {name} must be {expected}, got {_short(value)}")
    choices = {"task": list(TASKS)}.get(name)
    if choices and value not in choices:
        raise DataError(f"{path}: {name} must be one of {', '.join(choices)}, got {_short(value)}")
    if name == "column":
        try:
            return column_pair(value)
        except argparse.ArgumentTypeError as error:
            raise DataError(f"{path}: column: {error}") from None
    return value


def _check_name(where: str, name: str, known: dict[str, Any]) -> None:
    if name not in known:
        raise DataError(f"{where}: there is no parameter {_short(name)}; {_hint(name, known)}")


def _hint(name: str, known: dict[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}"


def _value(text: str) -> Any:
    """Read a number, true, false, none, a list or a dict; anything else is a string."""
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
