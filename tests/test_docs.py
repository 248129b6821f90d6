"""The documentation does what it says: followed from top to bottom, in a fresh folder, every page runs."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from pages import blocks_of, follow

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in sorted((ROOT / "README.md", *DOCS.rglob("*.md")))
    if any(block.language in ("python", "bash") for block in blocks_of(path))
}
SLOW = set()
"""Pages that take more than 20 s on one core."""

# Blocks that these tests cannot run; the page says so above each of them, with the reason.
NOT_RUN = {}
COMMAND = re.compile(r"^\s*(\$ |anamorph |python -m |from anamorph|import anamorph)", re.MULTILINE)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in PAGES]
)
def test_a_page_can_be_followed_from_top_to_bottom(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    follow(PAGES[name])


def test_pages_say_which_blocks_are_not_run():
    counted = {name: sum(not block.runs for block in blocks_of(page)) for name, page in PAGES.items()}
    assert {name: count for name, count in counted.items() if count} == NOT_RUN


def test_commands_stand_in_blocks_that_are_run():
    for page in (ROOT / "README.md", *DOCS.rglob("*.md")):
        for block in blocks_of(page):
            if block.language not in ("bash", "python"):
                found = COMMAND.search(block.code)
                assert not found, f"{page.relative_to(ROOT)}, line {block.line}: {found[0]!r} is never run"


def test_reference_pages_are_up_to_date():
    written = runpy.run_path(str(DOCS / "make_reference.py"))["pages"]()
    for name, text in written.items():
        assert (DOCS / "reference" / name).read_text("utf-8") == text, "run: python docs/make_reference.py"


def test_every_page_is_in_the_navigation():
    listed = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


def test_links_between_pages_lead_somewhere():
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")):
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"
