"""Words that a native reader would not write: in the README, the documentation, docstrings and messages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PHRASES = {
    r"of it": "name the thing, or say 'its'",
    r"the same of": "say what it is: a sentence stands alone",
    r"told": "information is printed, reported or given; differences are seen or decided",
    r"on wish": "say 'optionally', or name the option",
    r"see there": "link to it, or say it",
    r"where to": "write what the argument is",
    r"tells? of": "say 'describes', 'announces' or 'holds'",
    r"such as one": "name the example",
    r"whatever it is": "say what it may be, or nothing",
}
"""What is forbidden, and what to write instead."""
_FOUND = re.compile(r"\b(" + "|".join(PHRASES).replace(" ", r"\s+") + r")\b", re.IGNORECASE)
_CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)


def forbidden(text: str) -> list[str]:
    """Each forbidden phrase with what stands around it."""
    return [" ".join(text[max(hit.start() - 30, 0) : hit.end() + 30].split()) for hit in _FOUND.finditer(text)]


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Docstrings, messages and other texts of a Python file, with their lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_read_well(page: Path):
    found = forbidden(_CODE.sub("`code`", page.read_text(encoding="utf-8")))
    assert not found, f"{found}; write instead: {PHRASES}"


def test_docstrings_and_messages_read_well():
    found = [
        f"{path.relative_to(ROOT)}:{line}: {phrase}"
        for path in sorted((ROOT / "src").rglob("*.py"))
        for line, text in texts_of(path)
        for phrase in forbidden(text)
    ]
    assert not found, "\n".join(found)


def test_what_is_forbidden_is_found_across_lines_and_not_within_words():
    found = forbidden("the size of\n    it, and what was Told")
    assert len(found) == 2
    assert found[0] == "the size of it, and what was Told"
    assert not forbidden("of items, somewhere together, untold")
