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
QUOTED = re.compile(r"\d+(?:\.\d+)?(?: \+- \d+(?:\.\d+)?)?")
DECIMAL = re.compile(r"\d*\.?\d+")
SPEC = ROOT.parent / "shared" / "spec"
SPEC_SECTIONS = {
    "slic_reg.md": ("## 10. Published results", {"SLIC-Reg"}),
    "symmetric.md": ("## 8. Published results", {"Symmetric registration with noisy labels"}),
    "linear_deformable.md": ("## 8. Published results", {"Linear and deformable registration"}),
    "discrete.md": ("## 5. Published results", {"Discrete deep registration"}),
    "deeds.md": ("## 10. Reported performance", {"deeds"}),
    "convexadam.md": ("## 8. Published results", {"ConvexAdam"}),
    "learn2reg_eval.md": ("## 7. Published figures", {"deeds", "ConvexAdam", "Learn2Reg and others"}),
}
"""The heading of each document's figures, and the sections of the page that hold them."""


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def rows(section: set[str] | None = None) -> list[list[str]]:
    """The rows of all tables of figures, or of those below some headings, without their heads."""
    found, inside, head = [], False, ""
    for line in PAGE.read_text("utf-8").splitlines():
        head = line.removeprefix("## ") if line.startswith("## ") else head
        if not line.startswith("|"):
            inside = False
        elif cells(line)[1:] == COLUMNS:
            inside = True
        elif inside and not line.startswith("|---") and (section is None or head in section):
            found.append(cells(line))
    return found


def parts(text: str) -> dict[str, str]:
    """What stands below each heading of a page, up to the next one, by the heading's anchor."""
    _, *found = re.split(r"^#+ (.+)$", text, flags=re.MULTILINE)
    anchors = [re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in found[::2]]
    return dict(zip(anchors, found[1::2], strict=True))


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


def test_what_is_quoted_as_ours_is_where_the_row_leads():
    known = parts(RESULTS.replace("**", ""))
    for row in rows():
        if row[2] != "none":
            quoted = QUOTED.findall(row[2])
            (anchor,) = re.findall(r"results\.md#([\w-]+)", row[3])
            assert quoted, row
            for figure in quoted:
                assert re.search(rf"(?<![\d.]){re.escape(figure)}(?!\.?\d)", known[anchor]), (figure, row)


def test_links_lead_to_headings():
    for page, anchor in re.findall(r"\]\(([\w/-]+\.md)(?:#([\w-]+))?\)", PAGE.read_text("utf-8")):
        target = PAGE.parent / page
        assert target.is_file(), page
        assert not anchor or anchor in parts(target.read_text("utf-8")), f"{page}#{anchor}"


def test_differences_alone_are_met_or_missed():
    for row in rows():
        if row[4] in ("yes", "no"):
            assert DECIMAL.fullmatch(row[1]), row
            assert NUMBER.search(row[5]), row
            assert ("missed by" in row[5]) == (row[4] == "no"), row


@pytest.mark.skipif(not SPEC.is_dir(), reason="needs ../shared/spec")
@pytest.mark.parametrize("name", sorted(SPEC_SECTIONS))
def test_nothing_published_is_missing(name: str):
    """Every number in the tables of a document stands in its own section of the page, as often as there."""
    heading, own = SPEC_SECTIONS[name]
    lines = (SPEC / name).read_text("utf-8").split(heading, 1)[1].split("\n## ", 1)[0].splitlines()
    bodies = [
        cells(line)
        for line, following in zip(lines, [*lines[1:], ""], strict=True)
        if line.startswith("|") and not line.startswith("|---") and not following.startswith("|---")
    ]
    published = Counter(float(number) for row in bodies for cell in row[1:] for number in DECIMAL.findall(cell))
    assert len(published) > 20
    assert not published - Counter(float(number) for row in rows(own) for number in DECIMAL.findall(row[1]))
