"""The documentation does what it says: its Python and its commands run, and its reference pages are up to date."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.image import Mask
from anamorph.image.write import write_image, write_points
from anamorph.phantom import make_pair
from small_cohort import write_cohort

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>python|bash|toml)\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
PAGES = sorted(path for path in (ROOT / "README.md", *DOCS.rglob("*.md")) if BLOCK.search(path.read_text("utf-8")))


def run(command: str) -> None:
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 0, f"{command}\n{result.output}\n{result.stderr}"


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages speak of: two small scans with labels, masks and landmarks, a result in `out`, a data set."""
    folder = tmp_path_factory.mktemp("docs")
    pair = make_pair(shape=(24, 20, 22), seed=1, deformation_mm=10.0, translation_mm=5.0)
    for name, image in (("fixed", pair.fixed), ("moving", pair.moving)):
        write_image(image, folder / f"{name}.nii.gz")
        write_image(Mask((image.data > -500).astype("uint8"), image.grid), folder / f"{name}_mask.nii.gz")
    write_image(pair.fixed_labels, folder / "fixed_labels.nii.gz")
    write_image(pair.moving_labels, folder / "moving_labels.nii.gz")
    write_points(pair.fixed_points, folder / "fixed_points.csv")
    write_points(pair.moving_points, folder / "moving_points.csv")
    write_cohort(folder / "AbdomenCTCT", count=2)
    run(
        f"anamorph register {folder}/fixed.nii.gz {folder}/moving.nii.gz -o {folder}/out --composite "
        f"--fixed-labels {folder}/fixed_labels.nii.gz --moving-labels {folder}/moving_labels.nii.gz"
    )
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_of_a_page_runs(page: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = page.read_text("utf-8")
    blocks = list(BLOCK.finditer(text))
    folder = tmp_path / "scans"
    shutil.copytree(scans, folder)
    if any("-o out" in block["code"] for block in blocks):  # the page makes it
        shutil.rmtree(folder / "out")
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    for block in blocks:
        code = re.sub(f"^{block['indent']}", "", block["code"], flags=re.MULTILINE)
        if block["language"] == "python":
            line = text[: block.start()].count("\n") + 1
            exec(compile("\n" * line + code, str(page), "exec"), names)
        elif block["language"] == "toml":
            Path("plan.toml").write_text(code, encoding="utf-8")
        else:
            for command in code.replace("\\\n", " ").splitlines():
                if command.startswith("anamorph "):
                    run(command.partition(" #")[0])


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
