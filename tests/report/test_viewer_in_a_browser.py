"""The interactive view of a report, used in a real Chromium: `pip install -e ".[browser]"` and any Chromium."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image as Picture

from anamorph.evaluation import RegisteredPair, measure, verdict
from anamorph.geometry import Grid
from anamorph.image import Image, Labels, Points
from anamorph.report import PairReport, write_report
from anamorph.transforms import Affine
from chromium import SOFTWARE_WEBGL, chromium

HOSTILE = "</script><img src=x onerror=\"window.pwned=1\"><svg onload='window.pwned=2'>{{ 7 * 6 }} a\\b&amp; 肝 ‮"
GRID = Grid((30, 26, 22), np.array([[-3.0, 0, 0, 45], [0, -3, 0, 36], [0, 0, 4, -40], [0, 0, 0, 1.0]]))
SHIFT_MM = np.array([6.0, 0.0, 4.0])
"""The moving scan shows everything so far to the right and up."""


def scan(low: int = 0) -> np.ndarray:
    """Values that are unlike at every side: a box of four brightnesses in the dark, brighter to the right and up."""
    i, j, k = np.indices(GRID.shape)
    inside = (i > 4) & (i < 25) & (j > 3) & (j < 22) & (k > 3) & (k < 18)
    return np.where(inside, low + 40 + 4 * i + 2 * j + 3 * k, low).astype(np.float32)


def make_report(**changes) -> PairReport:
    there = Affine.translation(SHIFT_MM)
    fixed = Image(scan()[None], GRID, HOSTILE)
    moving = Affine.translation(-SHIFT_MM).warp_image(fixed, GRID)
    moving = Image(moving.data, GRID, "moving")
    box = np.zeros(GRID.shape, np.uint8)
    box[8:14, 6:12, 5:11] = 1
    box[16:20, 12:18, 10:15] = 7
    labels = Labels(box, GRID)
    moved = Affine.translation(-SHIFT_MM).warp_labels(labels, GRID)
    at = GRID.voxel_to_world(np.array([[10, 9, 7], [18, 15, 12.0]]))
    points = Points(at, (HOSTILE, "second")), Points(at + SHIFT_MM + [0, 3.0, 0], (HOSTILE, "second"))
    pair = RegisteredPair(fixed, moving, there, there.inverse(), labels, moved, {"landmarks": points})
    metrics = measure(pair)
    report = PairReport(
        title=HOSTILE,
        fixed=fixed,
        moving=moving,
        verdict=verdict(metrics),
        warped=there.warp_image(moving, GRID),
        fixed_to_moving=there,
        moving_to_fixed=there.inverse(),
        fixed_labels=labels,
        moving_labels=moved,
        warped_labels=there.warp_labels(moved, GRID),
        label_names={1: HOSTILE},
        fixed_points=points[0],
        moving_points=points[1],
        metrics=metrics,
    )
    return dataclasses.replace(report, **changes)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with chromium(*SOFTWARE_WEBGL) as found:
        yield found


@pytest.fixture(scope="module")
def troubles() -> Iterator[list[str]]:
    """What pages complain of, and what they ask a network for: nothing."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture(scope="module")
def page(browser, troubles, tmp_path_factory):
    """The report in a browser, its viewer started."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, make_report())
    context = browser.new_context(viewport={"width": 1024, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(20_000)
    page = context.new_page()
    listen(page, troubles)
    page.goto(path.as_uri())
    start(page)
    yield page
    context.close()


def listen(page, troubles: list[str]) -> None:
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda message: troubles.append(message.text))
    page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda r: troubles.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None)


def start(page) -> None:
    page.get_by_role("button", name="Explore").click()
    page.locator(".explorer[data-ready]").wait_for()


def test_the_viewer_starts_under_the_policy_of_the_page(page, troubles):
    policy = page.locator("meta[http-equiv]").get_attribute("content")
    assert "unsafe-eval" not in policy
    assert "script-src 'unsafe-inline'" not in policy
    assert page.locator(".stage canvas").count() == 3
    assert page.evaluate("window.pwned") is None
    assert troubles == []


def pixels(page) -> np.ndarray:
    """What is seen on the stage, ``(rows, columns, 3)``."""
    shot = page.locator(".stage").first.screenshot(animations="disabled")
    return np.asarray(Picture.open(io.BytesIO(shot)).convert("RGB"), int)
