"""Options of a command from a TOML file: ``anamorph register --config pair.toml``."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from anamorph.toml_table import read_toml

FILES = (
    *("fixed", "moving", "out", "fixed-labels", "moving-labels", "fixed-points", "moving-points"),
    *("fixed-mask", "moving-mask", "init", "log"),
)
"""Options that name files, which a config file names from its own folder."""


def read_config(path: Path, parameters: Iterable[inspect.Parameter]) -> dict[str, Any]:
    """The values of a config file by the names of a command's parameters.

    Args:
        path: a TOML file whose keys are the options of the command and its arguments, such as ``fixed`` and
            ``max-memory``. The table ``[set]`` holds settings of the method.
        parameters: of the command.

    Raises:
        UserError: the file cannot be read, a key is no option, or a value has another type.
    """
    table = read_toml(path, "config")
    values: dict[str, Any] = {}
    for parameter in parameters:
        key, kind = _key(parameter), _kind(parameter)
        if table.holds_table(key):
            settings = table.table(key)
            values[parameter.name] = [f"{name}={_text(settings.take(name, object))}" for name in settings.left]
            continue
        underscored = key.replace("-", "_")
        value = table.take(underscored if table.has(underscored) and not table.has(key) else key, kind, None)
        if value is not None:
            values[parameter.name] = _placed(key, value, path.parent) if key in FILES else value
    table.done()
    return values


def _key(parameter: inspect.Parameter) -> str:
    """The name of an option without its dashes, or of an argument."""
    for note in get_args(parameter.annotation)[1:]:
        # In an annotation typer keeps the first spelling as the default.
        for spelling in (getattr(note, "default", None), *(getattr(note, "param_decls", None) or ())):
            if isinstance(spelling, str) and spelling.startswith("--"):
                return str(spelling.removeprefix("--"))
    return parameter.name.replace("_", "-")


def _kind(parameter: inspect.Parameter) -> type:
    """What a TOML file gives for an option."""
    kind = get_args(parameter.annotation)[0]
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(option for option in get_args(kind) if option is not type(None))
    kind = get_origin(kind) or kind
    return kind if kind in (bool, int, float, list) else str


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _placed(key: str, value: str, folder: Path) -> str:
    """A path from the folder of the config file; the name of a start such as ``world`` is no path."""
    return value if key == "init" and not (folder / value).exists() else str(folder / value)
