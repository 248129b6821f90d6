"""The documentation does what it says: followed from top to bottom, in a fresh folder, every page runs."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from pages import blocks_of, follow

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in sorted((ROOT / "README.md", *DOCS.rglob("*.md")))
    if any(block.language in ("python", "bash") for block in blocks_of(path))
}
SLOW = {
    "docs/how-to/build-a-template.md",
    "docs/how-to/classify.md",
    "docs/how-to/cohorts.md",
    "docs/how-to/lindef.md",
    "docs/how-to/pdd.md",
    "docs/how-to/preprocess.md",
    "docs/how-to/radiotherapy.md",
    "docs/how-to/slicreg.md",
    "docs/how-to/symmetric.md",
}
"""Pages that take more than 20 s on one core."""

# Blocks that these tests cannot run; the page says so above each of them, with the reason.
NOT_RUN = {
    "docs/how-to/cohorts.md": 4,  # several machines, certificates, SLURM, GPUs
    "docs/how-to/in-a-pipeline.md": 1,  # Boutiques
    "docs/how-to/lindef.md": 2,  # hours on real scans
    "docs/how-to/look-through-results.md": 2,  # a browser, and another machine
    "docs/how-to/pdd.md": 1,  # published weights
    "docs/how-to/prepare-a-dataset.md": 2,  # downloads
    "docs/how-to/register-a-pair.md": 1,  # DICOM
    "docs/how-to/slicreg.md": 1,  # the published scans and a GPU
    "docs/how-to/symmetric.md": 1,  # a GPU
    "docs/how-to/train-a-model.md": 4,  # label maps, hours, an address and a class of the reader's own
    "docs/how-to/use-the-transform-elsewhere.md": 5,  # ANTs, the published deeds, FSL and others, meshes
}
COMMAND = re.compile(r"^\s*(\$ |anamorph |python -m |from anamorph|import anamorph)", re.MULTILINE)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in PAGES]
)
def test_a_page_can_be_followed_from_top_to_bottom(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANAMORPH_MODELS", str(tmp_path / ".models"))
    follow(PAGES[name])


def test_pages_say_which_blocks_are_not_run():
    counted = {name: sum(not block.runs for block in blocks_of(page)) for name, page in PAGES.items()}
    assert {name: count for name, count in counted.items() if count} == NOT_RUN


def test_commands_stand_in_blocks_that_are_run():
    no_recipes = {DOCS / "results.md", DOCS / "reference" / "cli.md"}  # how figures were measured; usage lines
    for page in sorted({ROOT / "README.md", *DOCS.rglob("*.md")} - no_recipes):
        for block in blocks_of(page):
            if block.language not in ("bash", "python"):
                found = COMMAND.search(block.code)
                assert not found, f"{page.relative_to(ROOT)}, line {block.line}: {found[0]!r} is never run"


def test_reference_pages_are_up_to_date():
    written = runpy.run_path(str(DOCS / "make_reference.py"))["pages"]()
    for name, text in written.items():
        assert (DOCS / "reference" / name).read_text("utf-8") == text, "run: python docs/make_reference.py"


def test_the_table_of_layers_is_the_one_that_imports_are_held_to():
    made = runpy.run_path(str(DOCS / "make_layers.py"))
    assert made["PAGE"].read_text("utf-8") == made["page"](), "run: python docs/make_layers.py"


def test_every_page_is_in_the_navigation():
    listed = re.findall(r"[:-] (\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


def test_links_between_pages_lead_somewhere():
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")):
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"
