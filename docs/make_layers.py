"""The table of layers in docs/concepts/architecture.md, from the list that the test of imports checks.

Usage: python docs/make_layers.py
"""

from __future__ import annotations

import ast
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "anamorph"
PAGE = ROOT / "docs" / "concepts" / "architecture.md"
BEGIN, END = "<!-- layers: written by docs/make_layers.py -->\n", "<!-- end of layers -->\n"


def page() -> str:
    """The page with the table of today."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def table() -> str:
    """One row for each layer, the highest first."""
    rows = ["| layer | what it is |", "|---|---|"]
    for row in reversed(runpy.run_path(str(ROOT / "tests" / "project" / "test_layers.py"))["LAYERS"]):
        rows += [f"| {'<br>'.join(f'`{name}`' for name in row)} | {'<br>'.join(map(summary, row))} |"]
    return "\n".join(rows) + "\n"


def summary(name: str) -> str:
    """First line of the docstring of a module or package."""
    path = PACKAGE / name / "__init__.py"
    path = path if path.is_file() else PACKAGE / f"{name}.py"
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not text:
        raise SystemExit(f"{path}: begin the module with one line that says what it is")
    return text.splitlines()[0].replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
