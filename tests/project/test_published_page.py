"""The table of published figures: every row is filled, says whether it holds, and quotes what the results page has."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "published.md"
RESULTS = (ROOT / "docs" / "results.md").read_text("utf-8")
COLUMNS = ["published", "ours", "command", "holds", "why"]
ANSWERS = {"yes", "no", "other protocol", "not measured"}
NUMBER = re.compile(r"\d+(?:\.\d+)?")
DECIMAL = re.compile(r"\d*\.?\d+")
SPEC = ROOT.parent / "shared" / "spec"
SECTIONS = {
    "slic_reg.md": "## 10. Published results",
    "symmetric.md": "## 8. Published results",
    "linear_deformable.md": "## 8. Published results",
    "discrete.md": "## 5. Published results",
    "deeds.md": "## 10. Reported performance",
    "convexadam.md": "## 8. Published results",
    "learn2reg_eval.md": "## 7. Published figures",
}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def rows() -> list[list[str]]:
    """The rows of all tables of figures, without their heads."""
    found, inside = [], False
    for line in PAGE.read_text("utf-8").splitlines():
        if not line.startswith("|"):
            inside = False
        elif cells(line)[1:] == COLUMNS:
            inside = True
        elif inside and not line.startswith("|---"):
            found.append(cells(line))
    return found


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings."""
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def test_every_row_has_all_its_columns_and_an_answer():
    assert len(rows()) > 400
    for row in rows():
        assert len(row) == len(COLUMNS) + 1, row
        assert all(row), row
        assert row[4] in ANSWERS, row
        assert (row[2] == "none") == (row[4] == "not measured"), row


def test_no_figure_stands_twice():
    twice = [name for name, count in Counter((row[0], row[1]) for row in rows()).items() if count > 1]
    assert not twice


def test_the_summary_counts_the_rows():
    counted = Counter(row[4] for row in rows())
    text = PAGE.read_text("utf-8")
    for answer in sorted(ANSWERS):
        assert f"| {answer} | {counted[answer]} |" in text
    assert f"| all | {len(rows())} |" in text


def test_what_is_quoted_as_ours_is_on_the_page_of_results():
    known = set(NUMBER.findall(RESULTS))
    for row in rows():
        if row[2] != "none":
            numbers = NUMBER.findall(row[2])
            assert numbers, row
            assert set(numbers) <= known, row
            assert "results.md#" in row[3], row


def test_links_lead_to_headings():
    for page, anchor in re.findall(r"\]\(([\w/-]+\.md)(?:#([\w-]+))?\)", PAGE.read_text("utf-8")):
        target = PAGE.parent / page
        assert target.is_file(), page
        assert not anchor or anchor in anchors(target.read_text("utf-8")), f"{page}#{anchor}"


def test_differences_alone_are_met_or_missed():
    for row in rows():
        if row[4] in ("yes", "no"):
            assert DECIMAL.fullmatch(row[1]), row
            assert NUMBER.search(row[5]), row


@pytest.mark.skipif(not SPEC.is_dir(), reason="needs ../shared/spec")
@pytest.mark.parametrize("name", sorted(SECTIONS))
def test_nothing_published_is_missing(name: str):
    """Every number in the tables of a document stands among the published ones."""
    section = (SPEC / name).read_text("utf-8").split(SECTIONS[name], 1)[1].split("\n## ", 1)[0]
    known = {float(number) for row in rows() for number in DECIMAL.findall(row[1])}
    lines = section.splitlines()
    bodies = [
        cells(line)
        for line, following in zip(lines, [*lines[1:], ""], strict=True)
        if line.startswith("|") and not line.startswith("|---") and not following.startswith("|---")
    ]
    missing = {number for row in bodies for cell in row[1:] for number in DECIMAL.findall(cell)}
    missing = {number for number in missing if float(number) not in known}
    assert not missing
