"""What a release promises: the public names with their parameters, and the options of the command line.

Usage: python packaging/public_names.py, at a release, writes packaging/released_names.json.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import typer

import anamorph
from anamorph.cli.main import app

ROOT = Path(__file__).parents[1]
RELEASED = ROOT / "packaging" / "released_names.json"
PAGE = ROOT / "docs" / "reference" / "deprecation.md"
Surface = dict[str, list[str]]
"""Parameters by name, each ``name``, ``name=`` if it has a default; what stands behind ``*`` is given by name alone."""


@cache
def surface() -> Surface:
    """Everything that is public now: ``register``, ``Result.save``, ``anamorph submit``, each with what it takes."""
    found: Surface = {}
    for name in sorted(set(anamorph.__all__) - {"__version__"}):
        found |= dict(_described(name, getattr(anamorph, name)))
    return found | dict(_commands("anamorph", typer.main.get_command(app)))


def _described(name: str, value: Any) -> Iterable[tuple[str, list[str]]]:
    if not inspect.isclass(value):
        yield name, _parameters(value) if inspect.isfunction(value) else []
        return
    yield name, _parameters(value)
    for member in sorted(dir(value)):
        owner = next((one for one in value.__mro__ if member in vars(one)), None)
        if member.startswith("_") or owner is None or not owner.__module__.startswith("anamorph"):
            continue
        raw = vars(owner)[member]
        is_method = isinstance(raw, classmethod | staticmethod) or inspect.isfunction(raw)
        yield f"{name}.{member}", _parameters(getattr(value, member)) if is_method else []
    for field in getattr(value, "__dataclass_fields__", {}):
        if not field.startswith("_"):
            yield f"{name}.{field}", []


def _parameters(value: Any) -> list[str]:
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):  # protocols, and classes that are made by C
        return []
    shown = []
    for one in parameters:
        if one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL) or one.name == "self":
            shown += ["*"] if one.kind is one.VAR_POSITIONAL else []
            continue
        if one.kind is one.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        shown.append(one.name + ("" if one.default is one.empty else "="))
    return shown


def _commands(name: str, command: Any) -> Iterable[tuple[str, list[str]]]:
    options = [one.opts for one in command.params if one.param_type_name == "option"]
    yield name, ["*", *sorted(f"{opt}=" for opts in options for opt in opts if opt not in ("--help", "-h"))]
    for part, inner in getattr(command, "commands", {}).items():
        yield from _commands(f"{name} {part}", inner)


def broken(before: Surface, now: Surface) -> list[str]:
    """What code written for ``before`` no longer finds: names, and parameters as ``name(parameter)``."""
    missing = []
    for name, given in before.items():
        if name not in now:
            missing.append(name)
            continue
        places, keywords = _split(given)
        places_now, keywords_now = _split(now[name])
        known = {one.rstrip("=") for one in places_now + keywords_now}
        kept = [one.rstrip("=") for one in places_now[: len(places)]] == [one.rstrip("=") for one in places]
        for one in [*places, *keywords]:
            gone = one.rstrip("=") not in known or (one in places and not kept)
            required = one.endswith("=") and one[:-1] in now[name]
            if gone or required:
                missing.append(_option(name, one.rstrip("=")))
        required_before = {one for one in given if not one.endswith("=")}
        asked = {one.rstrip("=") for one in given}
        new = [one for one in now[name] if one != "*" and not one.endswith("=") and one not in asked]
        missing += [_option(name, one) for one in new if one not in required_before]
    return sorted(set(missing))


def _split(parameters: list[str]) -> tuple[list[str], list[str]]:
    """Those that may be given by place, and those by name alone."""
    place = parameters.index("*") if "*" in parameters else len(parameters)
    return parameters[:place], parameters[place + 1 :]


def _option(name: str, parameter: str) -> str:
    return f"{name} {parameter}" if parameter.startswith("-") else f"{name}({parameter})"


def excused(page: str) -> dict[str, tuple[str, str]]:
    """Names in the table of the page, each with the versions that deprecated and removed it."""
    rows = re.findall(r"^\| `([^`]+)` \| (\d[\d.]*) \| (\d[\d.]*)? ?\| [^|]+ \|$", page, re.MULTILINE)
    return {name: (deprecated, removed) for name, deprecated, removed in rows}


if __name__ == "__main__":
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(given)}" for name, given in surface().items())
    RELEASED.write_text(f'{{"version": "{anamorph.__version__}", "names": {{\n{lines}\n}}}}\n', "utf-8")
