"""Imports point downwards, in short chains: a module knows only what lies below it, and a reader needs few hops."""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

import anamorph

ROOT = Path(anamorph.__file__).parent

# Lowest first; names in one row do not know each other.
LAYERS = (
    ("errors", "types"),
    ("reading", "registry", "runtime"),
    ("geometry",),
    ("image",),
    ("transforms",),
    ("data",),
    ("features",),
    ("discrete", "optimise"),
    ("supervoxels",),
    ("networks",),
    ("methods", "phantom"),
    ("evaluation",),
    ("classification", "testing"),
    ("report",),
    ("settings",),
    ("toml_table",),
    ("registration",),
    ("batch",),
    ("training",),
    ("workflows",),
    ("cli",),
    ("__main__",),
)
LEVEL = {name: level for level, row in enumerate(LAYERS) for name in row}
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def layer_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@cache
def import_statements(path: Path) -> list[tuple[ast.Import | ast.ImportFrom, bool]]:
    """The imports of a file, each with whether it runs when the file is loaded."""
    found: list[tuple[ast.Import | ast.ImportFrom, bool]] = []

    def look(statements: list[ast.AST], loaded: bool) -> None:
        for node in statements:
            if isinstance(node, ast.Import | ast.ImportFrom):
                found.append((node, loaded))
            later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            later |= isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for part in ("body", "orelse", "handlers", "finalbody", "cases"):
                inner = getattr(node, part, [])
                look(inner if isinstance(inner, list) else [], loaded and not later)

    look(ast.parse(path.read_text(encoding="utf-8")).body, True)
    return found


def imported_layers(path: Path) -> set[str]:
    """The layers that a file imports anywhere, also inside functions and for type checking alone."""
    modules = []
    for node, _ in import_statements(path):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        else:
            assert node.level == 0, f"{path}: relative import"
            modules.append(node.module or "")
            if node.module == "anamorph":
                modules += [f"anamorph.{alias.name}" for alias in node.names]
    return {module.split(".")[1] for module in modules if module.startswith("anamorph.")} - {"__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_downwards(path):
    own = layer_of(path)
    assert own in LEVEL, f"{own} has no place among the layers"
    upwards = {name for name in imported_layers(path) - {own} if LEVEL.get(name, len(LAYERS)) >= LEVEL[own]}
    assert not upwards, f"{path.name} of {own} imports {', '.join(sorted(upwards))}"


def test_the_public_names_are_found_where_they_live():
    for name in anamorph.__all__:
        assert getattr(anamorph, name) is not None
    assert set(anamorph.__all__) == {*anamorph._HOMES, "__version__"}


def test_a_classification_needs_no_method_and_no_network_of_a_registration():
    known = set.union(*(imported_layers(path) for path in (ROOT / "classification").glob("*.py")))
    below = {"errors", "types", "runtime", "geometry", "image", "transforms", "data", "evaluation"}
    assert known <= below | {"classification"}


MODULES = {
    ".".join(("anamorph", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in (*FILES, ROOT / "__init__.py")
}
LONGEST_CHAIN = 15
MOST_SINGLE_IMPORTERS = 40
MOST_LINES = 400


def imported_modules(path: Path, when_loaded: bool) -> set[str]:
    """The modules that a file names in its imports: those that run when it is loaded, or all of them."""
    found: set[str] = set()
    for node, loaded in import_statements(path):
        if when_loaded and not loaded:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        else:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(name if name in MODULES else str(node.module) for name in names)
    return found & set(MODULES)


def test_no_chain_of_imports_is_long():
    imports = {name: imported_modules(path, when_loaded=True) - {name} for name, path in MODULES.items()}

    @cache
    def chain(name: str) -> tuple[str, ...]:
        return (name, *max(map(chain, sorted(imports[name])), key=len, default=()))

    longest = max(map(chain, MODULES), key=len)
    assert len(longest) <= LONGEST_CHAIN, " <- ".join(reversed(longest))


def test_few_files_serve_one_other_file_alone():
    """What the package itself offers, the doors of its parts and its commands serve the users."""
    importers = Counter(
        module for name, path in MODULES.items() for module in imported_modules(path, when_loaded=False) - {name}
    )
    offered = imported_modules(ROOT / "__init__.pyi", when_loaded=False)
    offered |= {name for name, path in MODULES.items() if path.name == "__init__.py"}
    offered |= imported_modules(ROOT / "cli" / "main.py", when_loaded=False) | {"anamorph.cli.main"}
    single = sorted(name for name in MODULES.keys() - offered if importers[name] == 1)
    assert len(single) <= MOST_SINGLE_IMPORTERS, "\n".join(single)


def test_no_file_is_long():
    lines = {path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert max(lines.values()) <= MOST_LINES, Counter(lines).most_common(3)
