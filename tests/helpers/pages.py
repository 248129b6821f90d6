"""Pages of the documentation, read as somebody who follows them from top to bottom."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from typer.testing import CliRunner

from anamorph.cli.main import app

FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r'title="([^"]+)"')
NOT_RUN = re.compile(r"\*Not run in the tests: [^*]+\*$")
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
LOOP = re.compile(r"^for (?P<name>\w+) in (?P<values>[\w ]+); do\n(?P<body>.*?)^done$\n?", re.MULTILINE | re.DOTALL)
FOR_THE_SHELL = re.compile(r"[|&;<>$*?`{}]")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Args:
        language: after the fence; empty if there is none.
        title: the name of the file that it shows; empty if it is none.
        code: without the indentation of the fence.
        line: where the code begins, counted from 0.
        runs: the page does not say that it cannot be run.
    """

    language: str
    title: str
    code: str
    line: int
    runs: bool


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text("utf-8")
    found = []
    for block in FENCE.finditer(text):
        language, _, rest = block["info"].strip().partition(" ")
        title = TITLE.search(rest)
        code = re.sub(f"^{block['indent']}", "", block["code"], flags=re.MULTILINE)
        runs = not NOT_RUN.search(text[: block.start()].rstrip())
        found.append(Block(language, title[1] if title else "", code, text[: block.start("code")].count("\n"), runs))
    return found


def follow(page: Path) -> None:
    """Do what a page says, in the working folder: write its files, run its Python and its commands, in their order.

    Commands of anamorph run in this process, for speed; whatever needs a shell (pipes, patterns) gets one.
    """
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks_of(page):
        if block.title and block.runs:
            Path(block.title).write_text(block.code, encoding="utf-8")
        elif block.language == "python" and block.runs:
            exec(compile("\n" * block.line + block.code, str(page), "exec"), names)
        elif block.language == "bash" and block.runs:
            run_shell(block.code)


def run_shell(code: str) -> None:
    """Run a block of commands, the first that fails ends it; ``cd`` holds for the blocks that follow."""
    plain = LOOP.sub(unrolled, code.replace("\\\n", " "))
    lines = [line.strip() for line in plain.splitlines() if line.strip() and not line.startswith("#")]
    if all(re.match(r"anamorph |cd ", line) and not FOR_THE_SHELL.search(QUOTED.sub("", line)) for line in lines):
        for line in lines:
            command = shlex.split(line, comments=True)
            if command[0] == "cd":
                os.chdir(command[1])
            else:
                run_command(command[1:])
        return
    with tempfile.NamedTemporaryFile("r") as ended_in:
        function = f'anamorph() {{ "{sys.executable}" -m anamorph "$@"; }}'
        script = f"set -eu\n{function}\n{code}\npwd > {ended_in.name}\n"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
        os.chdir(ended_in.read().strip())


def unrolled(loop: re.Match[str]) -> str:
    """The commands of a loop over words, for each of them."""
    variable = re.compile(rf"\$(?:{loop['name']}\b|{{{loop['name']}}})")
    return "".join(variable.sub(value, loop["body"]) for value in loop["values"].split())


def run_command(arguments: list[str]) -> None:
    """Run one command of anamorph; the same made data set is made once for all pages, and copied."""
    match arguments:
        case ["demo", "--dataset", *options, "-o", folder]:
            shutil.copytree(Path(made_dataset(*options).name, "made"), folder)
        case _:
            invoke(arguments)


@cache
def made_dataset(*options: str) -> tempfile.TemporaryDirectory[str]:
    """The data set of some options, in the folder ``made`` of the one that is returned."""
    folder = tempfile.TemporaryDirectory()
    invoke(["demo", "--dataset", *options, "-o", str(Path(folder.name, "made"))])
    return folder


def invoke(arguments: list[str]) -> None:
    """Call the command line in this process."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, f"anamorph {shlex.join(arguments)}\n{result.output}\n{result.stderr}"
