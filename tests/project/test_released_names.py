"""What a release offered stays, or has been deprecated for a while: names, parameters, options."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
program = runpy.run_path(str(ROOT / "packaging" / "public_names.py"))
broken, excused, surface = program["broken"], program["excused"], program["surface"]


def minor(version: str) -> tuple[int, int]:
    major, minor, *_ = (int(part) for part in version.split("."))
    return major, minor


def test_what_the_last_release_offered_is_there_or_was_deprecated_a_minor_version_ago():
    released = json.loads(program["RELEASED"].read_text("utf-8"))
    entries = excused(program["PAGE"].read_text("utf-8"))
    allowed = {name for name, (since, gone) in entries.items() if gone and minor(since) < minor(gone)}
    missing = set(broken(released["names"], surface())) - allowed
    assert not missing, "deprecate these first (docs/reference/deprecation.md); what no release had yet: make names"


def test_the_list_holds_functions_methods_fields_and_options():
    now = surface()
    assert now["register"][:2] == ["fixed", "moving"]
    assert now["register"][2] == "*"
    assert "overwrite=" in now["Result.save"]
    assert now["Result.verdict"] == []
    assert "--dataset=" in now["anamorph submit"]
    assert set(now) > {"anamorph models get", "Grid", "METHODS", "UserError"}


BEFORE = {"f": ["a", "b=", "*", "c="], "C": ["x"], "C.run": [], "tool": ["*", "--old="]}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, []),
        ({"f": ["a", "b=", "d=", "*", "c=", "e="], "g": []}, []),  # additions with defaults
        ({"f": ["a", "b=", "c="]}, []),  # by place too
        ({"C.run": None}, ["C.run"]),
        ({"f": ["a", "*", "c="]}, ["f(a)", "f(b)"]),
        ({"f": ["a", "*", "b=", "c="]}, ["f(a)", "f(b)"]),  # no longer by place
        ({"f": ["b=", "a", "*", "c="]}, ["f(a)", "f(b)"]),
        ({"f": ["a", "b", "*", "c="]}, ["f(b)"]),  # its default is gone
        ({"f": ["a", "b=", "*", "c=", "d"]}, ["f(d)"]),  # new, and demanded
        ({"tool": ["*", "--new="]}, ["tool --old"]),
    ],
)
def test_what_breaks_code_of_users_is_found(change, found):
    now = {name: value for name, value in (BEFORE | change).items() if value is not None}
    assert broken(BEFORE, now) == found


def test_an_entry_of_the_table_is_read():
    page = "| `Result.save(name)` | 0.2.0 | 0.4.0 | `path` |\n| `anamorph submit --old` | 0.3.0 | | `--new` |\n"
    assert excused(page) == {"Result.save(name)": ("0.2.0", "0.4.0"), "anamorph submit --old": ("0.3.0", "")}
