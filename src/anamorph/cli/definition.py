"""The parameters of a command as plain records, read from its own definition, for programs that describe or call it."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from typer.models import ArgumentInfo, OptionInfo, ParameterInfo

from anamorph.cli.common_options import CHOICES
from anamorph.errors import UserError

Kind = Literal["file", "text", "whole", "number", "flag"]
SCANS = frozenset(
    (
        *("fixed", "moving", "fixed_labels", "moving_labels", "fixed_mask", "moving_mask", "no_partner"),
        *("moving_no_partner", "stiffness", "moving_stiffness", "to", "like", "bids_dir"),
    )
)
"""Parameters that are typed as text, because a DICOM series can be chosen in them, and name files all the same."""
WRITTEN = ("out", "log")
"""Paths that need not exist."""
NOT_OFFERED = ("config", "verbose", "dry_run")
_KINDS: dict[Any, Kind] = {Path: "file", str: "text", int: "whole", float: "number", bool: "flag"}


@dataclass(frozen=True)
class Parameter:
    """An argument or option of a command.

    Args:
        name: in Python.
        flag: of an option, such as ``--method``; None for an argument.
        kind: what it takes.
        several: whether it can be given more than once.
        required: whether it must be given.
        default: None where there is none.
        choices: the values that there are; empty where they are free.
        text: its help.
        group: under which the help lists it.
    """

    name: str
    flag: str | None
    kind: Kind
    several: bool
    required: bool
    default: Any
    choices: tuple[str, ...]
    text: str
    group: str


def command_named(name: str) -> Callable[..., None]:
    """The function of a command, such as ``register``.

    Raises:
        UserError: there is none.
    """
    from anamorph.cli.main import app

    found = {
        one.name or getattr(one.callback, "__name__", "").replace("_", "-"): one for one in app.registered_commands
    }
    if name not in found or found[name].callback is None:
        raise UserError(f"there is no command '{name}'; choose one of: {', '.join(found)}")
    callback: Callable[..., None] = found[name].callback  # type: ignore[assignment]
    return callback


def parameters_of(command: Callable[..., Any]) -> list[Parameter]:
    """What a command takes, in the order of its definition, without what is hidden or for people alone."""
    found = (_parameter(one) for one in inspect.signature(command).parameters.values())
    return [one for one in found if one is not None]


def _parameter(parameter: inspect.Parameter) -> Parameter | None:
    kind, *notes = get_args(parameter.annotation) or (parameter.annotation,)
    info = next((note for note in notes if isinstance(note, ParameterInfo)), None)
    if info is None or info.hidden or parameter.name in NOT_OFFERED:
        return None
    kind, several = _plain(kind)
    known: Kind = "file" if parameter.name in SCANS else _KINDS.get(kind, "text")
    if parameter.name in WRITTEN:
        known = "text"
    required = parameter.default is inspect.Parameter.empty
    return Parameter(
        name=parameter.name,
        flag=None if isinstance(info, ArgumentInfo) else _flag(parameter, info),
        kind=known,
        several=several,
        required=required,
        default=None if required else parameter.default,
        choices=tuple(CHOICES[parameter.name]()) if parameter.name in CHOICES else (),
        text=info.help or "",
        group=(info.rich_help_panel or "") if isinstance(info, OptionInfo) else "",
    )


def _plain(kind: Any) -> tuple[Any, bool]:
    """A type without None and list, and whether it was a list."""
    if get_origin(kind) in (types.UnionType, Union):
        kind = next(one for one in get_args(kind) if one is not type(None))
    several = get_origin(kind) is list
    return (get_args(kind)[0] if several else kind), several


def _flag(parameter: inspect.Parameter, info: ParameterInfo) -> str:
    """The long name of an option; of one that is on by default, what switches it off."""
    # Within Annotated the first name stands where the default of older definitions did.
    names = (info.default, *(info.param_decls or ())) if isinstance(info, OptionInfo) else ()
    declared = [one for one in names if isinstance(one, str) and one.startswith("--")]
    flag = declared[0] if declared else f"--{parameter.name.replace('_', '-')}"
    on, _, off = flag.partition("/")
    return off if off and parameter.default is True else on
