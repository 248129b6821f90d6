"""What all commands share: the options of their log and of a config file, names to choose from, every way to end."""

from __future__ import annotations

import copy
import functools
import inspect
import os
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import ParameterInfo

from anamorph.cli.common_options import CHOICES
from anamorph.cli.logs import NEWS, logging_as_asked
from anamorph.errors import AnamorphError
from anamorph.image.quiet import quiet_libraries

INTERRUPTED = 130
FEW = 4
"""Names that are shown in place of the type of an option; more of them stand after its help."""
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Print what is done, step by step, on stderr.", rich_help_panel="Run")
]
Log = Annotated[
    Path | None,
    typer.Option("--log", metavar="FILE", help="Add everything that is done to a file.", rich_help_panel="Run"),
]
CONFIG_HELP = "Take options from a TOML file, with paths from its folder; those given here go before."


class Command(TyperCommand):
    """A command whose help shows what there is to choose from, and no type of flags."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _complete_help(self.get_params(ctx))
        super().format_help(ctx, formatter)


class Group(TyperGroup):
    """Commands of one topic."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _complete_help(self.get_params(ctx))
        super().format_help(ctx, formatter)


def _complete_help(params: list[Any]) -> None:
    for param in params:
        if param.metavar is None and getattr(param, "is_flag", False):
            param.metavar = ""
        elif param.metavar is None and param.name in CHOICES:
            names = CHOICES[param.name]()
            param.metavar = "|".join(names) if len(names) <= FEW else "NAME"
            param.help += f" One of: {', '.join(names)}." if len(names) > FEW else ""


def add_command(
    app: typer.Typer, command: Callable[..., None], name: str | None = None, *, config: bool = False
) -> None:
    """Add a function to a group of commands; with ``config`` its options can come from a file."""
    app.command(name, cls=Command)(guarded(command, config=config))


def guarded(command: Callable[..., None], *, config: bool = False) -> Callable[..., None]:
    """A command with ``--verbose`` and ``--log``, whose exceptions become ``error: ...`` on stderr and an exit code.

    The exit code is 2 for a mistake of the user, 1 for a failure. With ``config`` there is a ``--config`` too.
    """

    @functools.wraps(command)
    def run(*args: Any, verbose: bool = False, log: Path | None = None, **kwargs: Any) -> None:
        if config:
            del kwargs["config"]  # has given its values to the others
        with (
            reported(),
            logging_as_asked(verbose=verbose, quiet=kwargs.get("quiet", False), file=log),
            reported(),  # what ends the command stands in its log
            nullcontext() if debugging() else quiet_libraries(),
        ):
            command(*args, **kwargs)

    signature = inspect.signature(command, eval_str=True)
    parameters = [_with_names(one) for one in signature.parameters.values()]
    more: dict[str, tuple[Any, Any]] = {"verbose": (Verbose, False), "log": (Log, None)}
    if config:
        more["config"] = (_config_of([*parameters, *map(_keyword, more, *zip(*more.values(), strict=True))]), None)
    parameters += [_keyword(name, kind, default) for name, (kind, default) in more.items()]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": None}
    return run


def _keyword(name: str, kind: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _config_of(parameters: list[inspect.Parameter]) -> Any:
    """The type of ``--config``: the values of the file stand for the options that the command line does not give."""

    def take(context: typer.Context, path: Path | None) -> None:
        if path is not None:
            with reported():
                context.default_map = read_config(path, parameters)

    option = typer.Option(
        "--config", metavar="FILE", help=CONFIG_HELP, is_eager=True, callback=take, rich_help_panel="Run"
    )
    return Annotated[Path | None, option]


def _with_names(parameter: inspect.Parameter) -> inspect.Parameter:
    """The parameter of a command, completed by the shell where its names are known."""
    names = CHOICES.get(parameter.name)
    if names is None:
        return parameter
    kind, *notes = get_args(parameter.annotation)
    for place, note in enumerate(notes):
        if isinstance(note, ParameterInfo):
            notes[place] = copy.copy(note)
            notes[place].autocompletion = lambda incomplete: [one for one in names() if one.startswith(incomplete)]
    return parameter.replace(annotation=Annotated[(kind, *notes)])


@contextmanager
def reported() -> Iterator[None]:
    """Turn exceptions into one line on stderr, with the notes of the error after it, and an exit code."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        _stop(str(interrupt) or "interrupted; nothing was written", INTERRUPTED)
    except AnamorphError as error:
        _stop(f"error: {error}", error.exit_code, error)
    except MemoryError as error:
        _stop("error: memory ran out; lower --max-memory, or crop the scans", 1, error)
    except OSError as error:
        reason = error.strerror or str(error)
        place = f" ({error.filename})" if error.filename else ""
        _stop(f"error: {reason.lower()}{place}", 1, error)
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        hint = "this is a fault of anamorph; run again with ANAMORPH_DEBUG=1 for the traceback"
        _stop(f"error: {type(error).__name__}: {text}; {hint}", 1, error)


def debugging() -> bool:
    """Whether the user asked for tracebacks and for what libraries say."""
    return os.environ.get("ANAMORPH_DEBUG", "0") not in ("", "0")


def _stop(line: str, exit_code: int, error: Exception | None = None) -> None:
    if error is not None:
        NEWS.debug("traceback", exc_info=error)
        if debugging():
            raise error
    for text in (" ".join(line.splitlines()), *getattr(error, "__notes__", ())):
        NEWS.error("%s", text)
    raise typer.Exit(exit_code)


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
    from anamorph.toml_table import read_toml

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
