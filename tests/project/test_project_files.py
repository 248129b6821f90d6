"""What the files of the project say to each other: versions of Python, pages, extras, versions of packages."""

from __future__ import annotations

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
