"""Every command and option that a message recommends exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

import anamorph
from anamorph.cli.main import app

ROOT = Path(anamorph.__file__).parent
PROGRAM = re.compile(r"`anamorph ([^`]*)`")
COMMANDS = typer.main.get_command(app)


@cache
def texts() -> list[tuple[str, str]]:
    """All literal texts of the package, the parts of f-strings joined, with the place of each."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
                found.append((place, "".join(map(str, parts))))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
                found.append((place, node.value))
    return found


def fault(line: str) -> str | None:
    """What of a command line does not exist."""
    command = COMMANDS
    words = line.replace("\n", " ").split()
    while words and hasattr(command, "commands"):
        name, *rest = words
        if not re.fullmatch(r"[a-z][a-z-]*(\|[a-z-]+)*", name):
            break
        for one in name.split("|"):
            if one not in command.commands:
                return f"there is no command {one}"
        command, words = command.commands[name.split("|")[0]], rest
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if re.fullmatch(r"-{1,2}[a-z][a-z-]*", word) and word not in options:
            return f"{command.name} has no option {word}"
    return None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dataset split", "there is no command split"),
        ("dataset create|import --relabel-it", "create has no option --relabel-it"),
        ("register --resample", None),
        ("train symmetric", None),
        ("models list", None),
    ],
)
def test_what_does_not_exist_is_found(line: str, expected: str | None) -> None:
    assert fault(line) == expected


def test_recommended_commands_exist() -> None:
    lines = [(place, line) for place, text in texts() for line in PROGRAM.findall(text)]
    assert len(lines) > 40
    faults = [f"{place}: `anamorph {line}`: {told}" for place, line in lines if (told := fault(line))]
    assert not faults, "\n".join(faults)


def test_recommended_options_exist_somewhere() -> None:
    """Options in messages, such as "pass --overwrite", belong to some command."""
    known: set[str] = {"--help", "--version"}

    def collect(command: Any) -> None:
        known.update(option for one in command.params for option in (*one.opts, *one.secondary_opts))
        for other in getattr(command, "commands", {}).values():
            collect(other)

    collect(COMMANDS)
    faults = []
    for place, text in texts():
        if re.search(r"pass --|give --|name .* with --|choose .* with --|drop --|lower --|raise --", text):
            faults += [
                f"{place}: {option}" for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text) if option not in known
            ]
    assert not faults, "\n".join(faults)
