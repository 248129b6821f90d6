"""What the files of the project say to each other: versions of Python, pages, extras, versions of packages."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_workflow_runs_the_versions_of_python_that_the_package_claims():
    yaml = pytest.importorskip("yaml")
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    run = jobs["tests"]["strategy"]["matrix"]["python"]
    claimed = re.findall(r"Python :: (3\.\d+)'", str(PROJECT["classifiers"]))
    assert run == claimed
    assert jobs["install"]["strategy"]["matrix"]["python"] == claimed
    assert PROJECT["requires-python"] == f">={claimed[0]}"


def test_the_lock_file_pins_every_package_by_hash_and_names_no_server():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in lock
    assert "--index" not in lock
    pinned = dict(re.findall(r"^([a-z0-9-]+)==(\S+) .*\\\n    --hash=sha256:", lock, re.MULTILINE))
    extras = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *(one for name, some in extras.items() if name != "peers" for one in some)]
    names = {re.match(r"[\w.-]+", one)[0].lower() for one in asked} - {"anamorph"}
    assert names <= set(pinned), f"make lock: {', '.join(sorted(names - set(pinned)))}"


def test_the_wheel_holds_small_models_under_licences_like_the_codes():
    """Weights under licences that ask for more, such as CC BY-SA, are in a distribution of their own."""
    models = ROOT / "src" / "anamorph" / "models"
    licences = {json.loads(card.read_text(encoding="utf-8"))["licence"] for card in models.rglob("model.json")}
    assert licences <= {"CC0-1.0", "MIT", "Apache-2.0", "BSD-3-Clause", "CC-BY-4.0", "public domain"}
    assert sum(path.stat().st_size for path in models.rglob("*") if path.is_file()) <= 5_000_000


def test_the_package_of_models_has_their_licence_and_no_code():
    package = ROOT / "packages" / "anamorph-models"
    project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    cards = [json.loads(card.read_text(encoding="utf-8")) for card in package.rglob("model.json")]
    assert {card["licence"] for card in cards} == {project["license"]} == {"CC-BY-SA-4.0"}
    assert "Attribution-ShareAlike 4.0 International" in (package / "LICENSE").read_text(encoding="utf-8")
    assert "arXiv:1902.09063" in (package / "NOTICE").read_text(encoding="utf-8")
    assert project["entry-points"] == {"anamorph.models": {"anamorph-models": "anamorph_models"}}
    assert "dependencies" not in project
    suffixes = {
        path.suffix for path in (package / "src").rglob("*") if path.is_file() and path.parent.name != "__pycache__"
    }
    assert suffixes == {".json", ".safetensors", ".py"}
    assert len([*(package / "src").rglob("*.py")]) == 1


def test_the_plugin_for_napari_offers_what_is_there():
    """Its own tests need napari; names that have moved are seen without."""
    yaml = pytest.importorskip("yaml")
    package = ROOT / "packages" / "napari-anamorph"
    project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"] == {"napari.manifest": {"napari-anamorph": "napari_anamorph:napari.yaml"}}
    assert (package / "LICENSE").read_text(encoding="utf-8") == (ROOT / "LICENSE").read_text(encoding="utf-8")
    manifest = yaml.safe_load((package / "src/napari_anamorph/napari.yaml").read_text(encoding="utf-8"))
    assert manifest["name"] == project["name"]
    commands = manifest["contributions"]["commands"]
    for command in commands:
        module, name = command["python_name"].split(":")
        text = (package / "src" / module.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
        assert re.search(rf"^(def|class) {name}\b", text, re.MULTILINE), command
    offered = [
        one["command"] for kind in ("widgets", "readers", "sample_data") for one in manifest["contributions"][kind]
    ]
    assert sorted(offered) == sorted(command["id"] for command in commands)


def test_every_page_is_in_the_navigation():
    shown = set(re.findall(r"(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert shown == {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}


def test_the_tests_mirror_the_packages():
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    packages = {path.parent.name for path in (ROOT / "src" / "anamorph").glob("*/__init__.py")}
    assert folders - {"helpers", "project"} == packages - {"testing"}
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py") if "toy_package" not in path.parts)
    assert {path.parent.parent.name for path in (ROOT / "tests").rglob("test_*.py")} == {"tests"}
    assert max(names.values()) == 1, names.most_common(3)


@pytest.mark.parametrize("folder", ["benchmarks", "docs", "examples", "packages"])
def test_programs_beside_the_package_import_what_is_there(folder):
    """They run rarely, so that nobody else sees a name that has moved."""
    homes = {"anamorph": ROOT / "src", "benchmarks": ROOT}
    missing = []
    for program in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(program.read_text(encoding="utf-8"))):
            module = getattr(node, "module", None) or ""
            if not isinstance(node, ast.ImportFrom) or module.split(".")[0] not in homes:
                continue
            place = homes[module.split(".")[0]].joinpath(*module.split("."))
            files = [path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()]
            text = "".join(path.read_text(encoding="utf-8") for path in (*files, *place.glob("__init__.pyi")))
            for alias in node.names:
                submodule = (place / f"{alias.name}.py").is_file() or (place / alias.name).is_dir()
                if not submodule and not re.search(rf"\b{alias.name}\b", text):
                    missing.append(f"{program.relative_to(ROOT)}: {module} has no {alias.name}")
    assert not missing
