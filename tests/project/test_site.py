"""The site of the documentation: what its settings say, and that its pages load nothing from other servers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image as Picture

ROOT = Path(__file__).parents[2]
LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "srcset", "video": "src", "audio": "src"}
LOADED_RELATIONS = {"stylesheet", "preconnect", "preload", "icon", "modulepreload", "prefetch"}


@pytest.fixture(scope="module")
def settings() -> dict:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))


def test_the_address_is_that_of_the_package(settings):
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
    assert settings["repo_url"] == urls["Repository"]


def test_readers_find_what_they_have_and_choose_light_or_dark(settings):
    how_to = next(part["How to"] for part in settings["nav"] if "How to" in part)
    assert [name for group in how_to for name in group] == ["A pair", "Many", "Train", "Elsewhere"]
    assert all(len(pages) >= 4 for group in how_to for pages in group.values())
    assert [one.get("scheme") for one in settings["theme"]["palette"]] == [None, "default", "slate"]
    assert all("toggle" in one for one in settings["theme"]["palette"])
    assert settings["theme"]["font"] is False
    assert settings["extra"]["version"]["provider"] == "mike"
    assert {"search", "mike"} <= {one if isinstance(one, str) else next(iter(one)) for one in settings["plugins"]}


def test_the_moving_picture_is_small_and_stands_still_for_who_asks():
    page = (ROOT / "docs/index.md").read_text("utf-8")
    assert '<source srcset="images/before-after.png" media="(prefers-reduced-motion: reduce)">' in page
    film = ROOT / "docs/images/before-after.webp"
    assert film.stat().st_size < 1_000_000
    with Picture.open(film) as moving, Picture.open(film.with_suffix(".png")) as still:
        assert moving.n_frames >= 20
        assert still.width == 2 * moving.width
        first, last = still.convert("RGB").crop((0, 0, moving.width, moving.height)), still.convert("RGB")
        last = last.crop((moving.width, 0, still.width, moving.height))
        coloured = [_colour(picture) for picture in (first, last)]
    assert coloured[1] < 0.5 * coloured[0]  # after registration green and magenta are grey


def _colour(picture: Picture.Image) -> float:
    """The mean difference between green and magenta."""
    import numpy as np

    red, green, _ = np.moveaxis(np.asarray(picture, float), -1, 0)
    return float(np.abs(red - green).mean())


class Loads(HTMLParser):
    """What a browser fetches for a page by itself."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and LOADED_RELATIONS & set((given.get("rel") or "").split()):
            self.found.append(given.get("href") or "")
        if tag in LOADING and given.get(LOADING[tag]):
            self.found.append(given[LOADING[tag]] or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The built site; skipped where the extra ``docs`` is not installed."""
    pytest.importorskip("material")
    pytest.importorskip("mkdocs_jupyter")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
def test_no_page_loads_anything_from_another_server(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 70
    for page in pages:
        text = page.read_text("utf-8")
        away = [one for one in Loads(text).found if re.match(r"(https?:)?//", one)]
        assert not away, f"{page.relative_to(site)}: {away}"
        styles = "".join(re.findall(r"<style.*?</style>", text, re.DOTALL))
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", styles), page.relative_to(site)


@pytest.mark.slow
def test_notebooks_are_shown_with_their_outputs(site):
    for path in (ROOT / "docs/notebooks").glob("*.ipynb"):
        page = (site / "notebooks" / path.stem / "index.html").read_text("utf-8")
        assert "data:image/png;base64," in page
        assert (site / "notebooks" / path.stem / path.name).exists()  # to download


@pytest.mark.slow
def test_the_site_can_be_searched(site):
    found = (site / "search" / "search_index.json").read_text("utf-8")
    assert "how-to/napari/" in found
    assert "notebooks/first-pair/" in found
