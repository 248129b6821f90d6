"""Two results side by side in a real Chromium: `pip install -e ".[browser]"` and any Chromium."""

from __future__ import annotations

import json
import threading
from urllib.parse import urlsplit

import pytest

from anamorph.registration.opened import open_result
from anamorph.workflows.view.panes import make_pages
from anamorph.workflows.view.server import Viewer
from chromium import SOFTWARE_WEBGL, chromium
from viewed import write_results

pytestmark = pytest.mark.slow  # six drawing contexts, without a graphics card
HOSTILE = '</script><img src=x onerror="window.pwned=1">\'&amp; 肝'


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of both results, looked at under its own address; it asks for nothing else and complains of nothing."""
    with pytest.MonkeyPatch.context() as patch, chromium(*SOFTWARE_WEBGL) as browser:
        folders = write_results(tmp_path_factory.mktemp("made"), patch, name=HOSTILE)
        viewer = Viewer(make_pages([open_result(folder) for folder in folders]))
        thread = threading.Thread(target=viewer.serve)
        thread.start()
        page = browser.new_page(viewport={"width": 900, "height": 420})
        page.set_default_timeout(90_000)
        troubles, asked = [], []
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(viewer.url)
        page.locator(".explorer[data-ready]").wait_for()
        page.locator(".explorer").get_by_role("button", name="Axial", exact=True).click()
        yield page
        viewer.stop()
        thread.join()
        assert troubles == []
        assert all(url.startswith((viewer.url, "data:")) for url in asked)


def cursors(page) -> list[list[float]]:
    """Where the lines of the cursor cross in each result, as shares of its plane."""
    read = """all => all.map(e => { const [x, y] = [e.getAttribute('x'), e.getAttribute('y')].map(Number);
      const d = e.querySelector('.cursor').getAttribute('d').match(/[\\d.]+/g).map(Number);
      return [(d[6] - x) / e.getAttribute('width'), (d[1] - y) / e.getAttribute('height')]; })"""
    return page.locator(".stage svg svg").evaluate_all(read)


def test_a_click_in_one_result_moves_the_cursors_of_both(page):
    assert page.locator(".stage").count() == 2
    stage = page.locator(".stage").nth(1)
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    page.mouse.click(box["x"] + 0.4 * box["width"], box["y"] + 0.6 * box["height"])
    page.wait_for_timeout(400)
    here, there = cursors(page)
    assert here == pytest.approx(there, abs=1e-3)
    assert here == pytest.approx([0.4, 0.6], abs=0.03)
    page.mouse.wheel(0, 100)
    page.locator(".explorer").get_by_role("button", name="zoom in").click()
    page.wait_for_timeout(400)
    here, there = cursors(page)
    assert here == pytest.approx(there, abs=1e-3)


def test_the_numbers_stand_beneath_each_result(page):
    content = json.loads(page.locator("#viewer-content").inner_text() or page.locator("#viewer-content").text_content())
    for pane, one in zip(page.locator(".pane").all(), content, strict=True):
        text = pane.locator("figcaption").inner_text()
        assert one["title"] in text
        assert "Dice" in text
        assert "gain = " in text
    after = page.locator(".list-of-landmarks tbody tr").first.locator("td").nth(2).inner_text().split(" / ")
    assert [float(value) for value in after] == pytest.approx(
        [one["landmarks"][0]["after_mm"] for one in content], abs=0.06
    )
    assert page.locator(".list-of-labels").inner_text().count(HOSTILE) == 1
    assert page.evaluate("window.pwned") is None
    assert urlsplit(page.url).hostname == "127.0.0.1"
