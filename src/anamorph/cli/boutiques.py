"""``anamorph boutiques``: the descriptor of a command for Boutiques (schema 0.5), made from the command's definition.

https://github.com/boutiques/boutiques
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

import anamorph
from anamorph.cli.common_options import refuse_existing
from anamorph.cli.definition import Parameter, command_named, parameters_of
from anamorph.cli.logs import say

TYPES = {"file": "File", "text": "String", "whole": "Number", "number": "Number", "flag": "Flag"}


def boutiques(
    command: Annotated[str, typer.Argument(help="Such as register, apply, convert or bids.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write, such as anamorph-register.json.")],
    image: Annotated[
        str | None, typer.Option(metavar="NAME", help="Docker image that has anamorph, such as me/anamorph:0.1.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write the Boutiques descriptor of a command, so that platforms such as CBRAIN can offer and run it."""
    from anamorph.image.atomic import write_text

    refuse_existing(out, overwrite)
    write_text(out, json.dumps(descriptor_of(command, image), indent=2) + "\n")
    say(f"{out}: the descriptor of anamorph {command}; look at it with: bosh validate {out}")


def descriptor_of(command: str, image: str | None = None) -> dict[str, Any]:
    """The descriptor of a command as plain values.

    Args:
        command: its name.
        image: Docker image that has anamorph; the program on the path by default.

    Raises:
        UserError: there is no such command.
    """
    function = command_named(command)
    parameters = parameters_of(function)
    described: dict[str, Any] = {
        "name": f"anamorph {command}",
        "description": " ".join((function.__doc__ or "").split()),
        "tool-version": anamorph.__version__,
        "schema-version": "0.5",
        "command-line": " ".join([f"anamorph {command}", *(_key(one) for one in parameters)]),
        "inputs": [_input(one) for one in parameters],
        "output-files": [
            {"id": "output", "name": "Result", "description": one.text, "path-template": _key(one)}
            for one in parameters
            if one.name == "out"
        ],
        "tags": {"domain": ["neuroinformatics", "medical imaging"], "toolbox": ["anamorph"]},
    }
    if image is not None:
        described["container-image"] = {"type": "docker", "image": image.removeprefix("docker://")}
    return described


def _key(parameter: Parameter) -> str:
    return f"[{parameter.name.upper()}]"


def _input(parameter: Parameter) -> dict[str, Any]:
    told: dict[str, Any] = {
        "id": parameter.name,
        "name": parameter.name.replace("_", " ").capitalize(),
        "type": TYPES[parameter.kind],
        "description": parameter.text,
        "value-key": _key(parameter),
        "optional": not parameter.required,
    }
    if parameter.flag is not None:
        told["command-line-flag"] = parameter.flag
    if parameter.kind == "whole":
        told["integer"] = True
    if parameter.several:  # every value has the flag before it
        told |= {"list": True, "list-separator": f" {parameter.flag} "}
    if parameter.choices and not parameter.several:
        told["value-choices"] = list(parameter.choices)
    if parameter.default is not None and parameter.kind != "flag":
        told["default-value"] = parameter.default
    return told
