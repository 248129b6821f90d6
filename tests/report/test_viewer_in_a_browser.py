"""The interactive view of a report, used in a real Chromium: `pip install -e ".[browser]"` and any Chromium."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image as Picture
from scipy.ndimage import map_coordinates

from anamorph.evaluation import RegisteredPair, measure, verdict
from anamorph.evaluation.uncertainty import inside_body, judge_uncertainty
from anamorph.geometry import Grid
from anamorph.image import Image, Labels, Points
from anamorph.report import PairReport, write_report
from anamorph.report.colours import FOLD_COLOUR, jacobian_scale
from anamorph.report.pictures import pair_windows, to_grey
from anamorph.transforms import Affine
from chromium import SOFTWARE_WEBGL, chromium, executable

HOSTILE = "</script><img src=x onerror=\"window.pwned=1\"><svg onload='window.pwned=2'>{{ 7 * 6 }} a\\b&amp; 肝 ‮"
GRID = Grid((30, 26, 22), np.array([[-3.0, 0, 0, 45], [0, -3, 0, 36], [0, 0, 4, -40], [0, 0, 0, 1.0]]))
SHIFT_MM = np.array([6.0, 0.0, 4.0])
"""The moving scan shows everything so far to the right and up."""


def scan(low: int = 0) -> np.ndarray:
    """Values that are unlike at every side: a box of four brightnesses in the dark, brighter to the right and up."""
    i, j, k = np.indices(GRID.shape)
    inside = (i > 4) & (i < 25) & (j > 3) & (j < 22) & (k > 3) & (k < 18)
    return np.where(inside, low + 40 + 4 * i + 2 * j + 3 * k, low).astype(np.float32)


BODY = inside_body(Image(scan()[None], GRID), GRID)
DETERMINANTS = np.exp(0.04 * (np.indices(GRID.shape)[0] - 15.0)).astype(np.float32)
DETERMINANTS[18:20, 12:16, 8:12] = -0.5  # folded


UNSURE = (20, 8, 12)
"""Where the pair is least certain."""


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
    apart = np.linalg.norm(np.indices(GRID.shape) - np.reshape(UNSURE, (3, 1, 1, 1)), axis=0)
    uncertainty = Image((5 * np.exp(-((apart / 3) ** 2)))[None].astype(np.float32), GRID)
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
        uncertainty=judge_uncertainty(uncertainty, fixed),
        jacobian=Image(DETERMINANTS[None], GRID),
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
    context = browser.new_context(viewport={"width": 700, "height": 600}, reduced_motion="reduce")
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


def pixels(page) -> np.ndarray:
    """What is seen on the stage, ``(rows, columns, 3)``."""
    stage = page.locator(".stage").first
    seen = np.asarray(Picture.open(io.BytesIO(stage.screenshot(animations="disabled"))).convert("RGB"), float)
    top = stage.bounding_box()["y"]
    return seen[round(top) - int(top) :]  # a picture begins with the row of pixels that the stage begins in


def grey() -> dict[str, np.ndarray]:
    """The scans in the grey values that they have to be shown in."""
    report = make_report()
    scans = [one.data[0] for one in (report.fixed, report.moving, report.warped)]
    windows = pair_windows(scans[:1], scans[2:], both_ct=False)
    values = [to_grey(one, windows[place]) for one, place in zip(scans, (0, 1, 1), strict=True)]
    return dict(zip(("fixed", "moving", "warped"), (one.astype(float) for one in values), strict=True))


AT = (11, 9, 8)
"""The voxel that tests look at."""
SLICES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    # Rows and columns on the screen. The first voxel of the grid lies to the right, in front and below: the right is on
    # the left, the front above in axial and left in sagittal planes, the head above.
    "axial": lambda volume: volume[:, :, AT[2]].T,
    "coronal": lambda volume: volume[:, AT[1], ::-1].T,
    "sagittal": lambda volume: volume[AT[0], :, ::-1].T,
}


@dataclasses.dataclass(frozen=True)
class Tile:
    """A plane on the stage: its place, and the pixels in it that nothing is drawn over."""

    plane: str
    left: float
    top: float
    width: float
    height: float

    def places(self, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Rows and columns of the pixels to compare, and where they lie among the voxels of a slice."""
        rows = np.arange(int(self.top) + 16, int(self.top + self.height) - 20)
        columns = np.arange(int(self.left) + 16, int(self.left + self.width) - 18)
        down = (rows + 0.5 - self.top) / self.height * shape[0] - 0.5
        across = (columns + 0.5 - self.left) / self.width * shape[1] - 0.5
        return rows, columns, down, across

    def expected(self, volume: np.ndarray) -> np.ndarray:
        """What the pixels to compare must show of a volume, interpolated linearly."""
        plane = SLICES[self.plane](volume)
        _, _, down, across = self.places(plane.shape)
        return map_coordinates(plane, np.meshgrid(down, across, indexing="ij"), order=1, mode="nearest")

    def shown(self, seen: np.ndarray, volume: np.ndarray) -> np.ndarray:
        """The pixels to compare; NaN where the cursor is."""
        plane = SLICES[self.plane](volume)
        rows, columns, down, across = self.places(plane.shape)
        found = seen[np.ix_(rows, columns)].copy()
        i, j, k = AT
        column, row = {"axial": (i, j), "coronal": (i, 21 - k), "sagittal": (j, 21 - k)}[self.plane]
        found[np.abs(down - row) * self.height / plane.shape[0] < 3] = np.nan
        found[:, np.abs(across - column) * self.width / plane.shape[1] < 3] = np.nan
        return found


def tiles(page) -> list[Tile]:
    read = "all => all.map(e => [e.dataset.plane, ...['x', 'y', 'width', 'height'].map(a => +e.getAttribute(a))])"
    return [Tile(*one) for one in page.locator(".stage svg svg").evaluate_all(read)]


def button(page, name: str):
    return page.locator(".explorer").get_by_role("button", name=name, exact=True)


def put(page, name: str, value: str | bool) -> None:
    """Set a control of the viewer as a user does."""
    control = page.locator(f'[data-set="{name}"]')
    if value == control.evaluate("e => e.type === 'checkbox' ? e.checked : e.value"):
        return
    if isinstance(value, bool):
        control.set_checked(value)
    elif control.evaluate("e => e.tagName") == "SELECT":
        control.select_option(value)
    else:
        control.evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input', { bubbles: true })); }", value)
    page.wait_for_timeout(120)


def go_to(page, voxel) -> None:
    ras = GRID.voxel_to_world(np.array(voxel, float))
    box = page.get_by_label("position, RAS in mm")
    box.fill(", ".join(f"{value:.4f}" for value in ras))
    box.press("Enter")


@pytest.fixture
def bare(page):
    """The same page at the voxel that tests look at, with scans alone."""
    page.set_viewport_size({"width": 700, "height": 600})
    settings = {"other": "moving", "map": "", "mapOpacity": "100", "curtain": "50", "blend": "50", "square": "40"}
    for name, value in {
        **settings,
        **dict.fromkeys(("fixedLabels", "movingLabels", "fill", "landmarks"), False),
    }.items():
        put(page, name, value)
    button(page, "All").click()
    button(page, "Curtain").click()
    button(page, "whole view").click()
    go_to(page, AT)
    page.wait_for_timeout(150)
    return page


def agrees(page, expected: Callable[[Tile], np.ndarray], worst: float = 8, typical: float = 1.5) -> None:
    """See that all planes show what they must, at every pixel but a few where the graphics rounds."""
    seen, found = pixels(page), tiles(page)
    assert sorted(tile.plane for tile in found) == sorted(SLICES)
    for tile in found:
        shown = tile.shown(seen, GREY["fixed"])
        wanted = expected(tile)
        apart = np.abs(shown - (wanted[..., None] if wanted.ndim == 2 else wanted))
        apart = apart[np.isfinite(apart)]
        assert apart.mean() < typical, tile.plane
        assert np.percentile(apart, 99.5) < worst, tile.plane


GREY = grey()


def test_the_viewer_starts_under_the_policy_of_the_page(page, troubles):
    policy = page.locator("meta[http-equiv]").get_attribute("content")
    assert "unsafe-eval" not in policy
    assert "script-src 'unsafe-inline'" not in policy
    assert page.locator(".stage canvas").count() == 3
    assert page.evaluate("window.pwned") is None
    assert troubles == []


def test_the_planes_show_the_scan_as_numpy_says(bare):
    assert np.abs(GREY["fixed"] - GREY["fixed"][::-1]).max() > 60  # the left is unlike the right
    put(bare, "other", "none")
    agrees(bare, lambda tile: tile.expected(GREY["fixed"]))


def test_letters_say_where_right_and_left_are(bare):
    seen = {}
    for tile in tiles(bare):
        edges = bare.locator(".stage text").evaluate_all("all => all.map(e => [e.textContent, +e.getAttribute('x')])")
        inside = [(letter, x) for letter, x in edges if len(letter) == 1 and tile.left <= x <= tile.left + tile.width]
        seen[tile.plane] = min(inside, key=lambda one: one[1])[0] + max(inside, key=lambda one: one[1])[0]
    assert seen["axial"] == seen["coronal"] == "RL"
    assert seen["sagittal"] == "AP"
    assert "the patient's right (R) is on the left" in bare.locator(".explorer").inner_text()


def test_the_curtain_parts_two_scans_where_it_stands(bare):
    put(bare, "curtain", "30")

    def parted(tile: Tile) -> np.ndarray:
        _, columns, _, _ = tile.places(SLICES[tile.plane](GREY["fixed"]).shape)
        left = columns + 0.5 < tile.left + 0.3 * tile.width
        wanted = np.where(left, tile.expected(GREY["fixed"]), tile.expected(GREY["moving"]))
        wanted[:, np.abs(columns + 0.5 - tile.left - 0.3 * tile.width) < 2] = np.nan  # the line itself
        return wanted

    agrees(bare, parted)
    grip = bare.locator(".stage .grip").first.bounding_box()
    tile = tiles(bare)[0]
    bare.mouse.move(grip["x"] + grip["width"] / 2, grip["y"] + 40)
    bare.mouse.down()
    bare.mouse.move(grip["x"] + grip["width"] / 2 + 0.2 * tile.width, grip["y"] + 60, steps=3)
    bare.mouse.up()
    assert float(bare.locator('[data-set="curtain"]').input_value()) == pytest.approx(50, abs=1)


def test_opacity_mixes_and_the_difference_is_that_of_the_grey_values(bare):
    button(bare, "Opacity").click()
    put(bare, "blend", "25")
    agrees(bare, lambda tile: 0.75 * tile.expected(GREY["fixed"]) + 0.25 * tile.expected(GREY["moving"]))
    button(bare, "Difference").click()
    bare.wait_for_timeout(300)
    agrees(bare, lambda tile: tile.expected(np.abs(GREY["fixed"] - GREY["moving"])))


def test_squares_of_the_checkerboard_take_turns(bare):
    button(bare, "Checkerboard").click()
    put(bare, "square", "50")

    def taking_turns(tile: Tile) -> np.ndarray:
        rows, columns, _, _ = tile.places(SLICES[tile.plane](GREY["fixed"]).shape)
        moving = (rows[:, None] // 50 + columns // 50) % 2 == 1
        return np.where(moving, tile.expected(GREY["moving"]), tile.expected(GREY["fixed"]))

    agrees(bare, taking_turns)


def test_a_map_has_the_colours_of_its_legend_and_lets_the_scan_through(bare):
    put(bare, "other", "none")
    put(bare, "map", "jacobian")
    bare.wait_for_timeout(200)
    scale, determinant = jacobian_scale([DETERMINANTS[BODY]]), DETERMINANTS
    step = np.rint(np.clip(scale.place(determinant), 0, 1) * 63).astype(int)
    colours = np.where((BODY & (determinant > 0))[..., None], scale.table(64)[step], 0.0)
    colours[determinant <= 0] = FOLD_COLOUR
    legend = bare.locator(".legend .colours").evaluate("e => e.style.background")
    assert legend.count("rgb(") == 2 * 64 or legend.count("rgb(") == 64
    for red, green, blue in scale.table(64)[[0, 20, 63]]:
        assert f"rgb({red}, {green}, {blue})" in legend

    def middles(opacity: float) -> list[np.ndarray]:
        apart, seen = [], pixels(bare)
        for tile in tiles(bare):
            drawn = SLICES[tile.plane]
            under, known = drawn(GREY["fixed"])[..., None], drawn(BODY | (determinant <= 0))
            over = np.stack([drawn(colours[..., part]) for part in range(3)], axis=-1)
            wanted = np.where(known[..., None], (1 - opacity) * under + opacity * over, under)
            rows = (tile.top + (np.arange(known.shape[0]) + 0.5) / known.shape[0] * tile.height).astype(int)
            columns = (tile.left + (np.arange(known.shape[1]) + 0.5) / known.shape[1] * tile.width).astype(int)
            near = np.abs(seen[np.ix_(rows, columns)] - wanted).max(axis=-1)
            row, column = {"axial": (AT[1], AT[0]), "coronal": (21 - AT[2], AT[0]), "sagittal": (21 - AT[2], AT[1])}[
                tile.plane
            ]
            inner = np.ones(near.shape, bool)
            inner[row], inner[:, column] = False, False
            apart.append(near[2:-2, 2:-2][inner[2:-2, 2:-2]])
        return apart

    assert all(np.percentile(part, 90) < 14 for part in middles(1.0))
    put(bare, "mapOpacity", "40")
    assert all(np.percentile(part, 90) < 14 for part in middles(0.4))


def test_landmarks_and_the_cursor_are_where_they_belong_to_half_a_pixel(bare):
    put(bare, "landmarks", True)
    put(bare, "other", "warped")
    bare.locator(".list-of-landmarks").get_by_role(
        "button", name="second"
    ).click()  # at voxel 18, 15, 12; its partner is 1 voxel off
    bare.wait_for_timeout(200)
    for tile in tiles(bare):
        group = bare.locator(f'.stage svg[data-plane="{tile.plane}"]')
        i, j, k = 18, 15, 12
        column, row = {"axial": (i, j), "coronal": (i, 21 - k), "sagittal": (j, 21 - k)}[tile.plane]
        shape = SLICES[tile.plane](GREY["fixed"]).shape
        x = tile.left + (column + 0.5) / shape[1] * tile.width
        y = tile.top + (row + 0.5) / shape[0] * tile.height
        ring = group.locator("circle.chosen")
        assert float(ring.get_attribute("cx")) == pytest.approx(x, abs=0.5)
        assert float(ring.get_attribute("cy")) == pytest.approx(y, abs=0.5)
        pull = [float(value) for value in re.findall(r"-?[\d.]+", group.locator("path.pull.chosen").get_attribute("d"))]
        # The moving landmark comes home 3 mm further to the front: a voxel up in axial, to the left in sagittal planes.
        off = {"axial": (0, -tile.height / 26), "coronal": (0, 0), "sagittal": (-tile.width / 26, 0)}[tile.plane]
        assert pull == pytest.approx([x, y, x + off[0], y + off[1]], abs=0.6)
        lines = group.locator("path.cursor").get_attribute("d")
        assert float(re.search(r"M[\d.]+ ([\d.]+)H", lines)[1]) == pytest.approx(y, abs=0.5)
    assert bare.locator(".list-of-landmarks tbody tr").nth(1).locator("td").all_inner_texts()[1:] == ["7.81", "3.00"]


def test_a_click_and_keys_go_to_the_voxel_that_is_meant(bare):
    tile = next(one for one in tiles(bare) if one.plane == "axial")
    bare.locator(".stage").scroll_into_view_if_needed()
    stage = bare.locator(".stage").bounding_box()
    x = stage["x"] + tile.left + 20.5 / 30 * tile.width
    y = stage["y"] + tile.top + 6.5 / 26 * tile.height
    bare.mouse.click(x, y)
    bare.wait_for_timeout(150)
    position = bare.get_by_label("position, RAS in mm")
    assert read_position(position) == pytest.approx(GRID.voxel_to_world(np.array([20, 6, 8.0])), abs=0.06)
    assert "voxel 20, 6, 8" in bare.locator(".voxel").inner_text()
    bare.keyboard.press("ArrowLeft")  # to the patient's right, where the first voxels are
    bare.keyboard.press("ArrowUp")
    bare.keyboard.press("PageUp")
    assert read_position(position) == pytest.approx(GRID.voxel_to_world(np.array([19, 5, 9.0])), abs=0.06)
    bare.mouse.wheel(0, 100)
    bare.wait_for_timeout(150)
    moved = read_position(position) - GRID.voxel_to_world(np.array([19, 5, 9.0]))
    assert np.abs(moved).round(1).tolist() == [0, 0, 4]  # one slice


def test_what_is_dragged_stays_together(bare):
    put(bare, "other", "none")
    tile = next(one for one in tiles(bare) if one.plane == "axial")
    bare.locator(".stage").scroll_into_view_if_needed()
    before, stage = pixels(bare), bare.locator(".stage").bounding_box()
    cursor = bare.locator('.stage svg[data-plane="axial"] path.cursor')
    x = float(re.search(r"M([\d.]+) [\d.]+V", cursor.get_attribute("d"))[1])
    at = stage["x"] + tile.left + 60, stage["y"] + tile.top + 60
    bare.mouse.move(*at)
    bare.mouse.down(button="right")
    bare.mouse.move(at[0] + 20, at[1], steps=2)
    bare.mouse.move(at[0] + 30, at[1], steps=2)
    bare.wait_for_timeout(200)
    after = pixels(bare)  # the button is still down
    assert float(re.search(r"M([\d.]+) [\d.]+V", cursor.get_attribute("d"))[1]) == pytest.approx(x + 30, abs=1)
    bare.mouse.up(button="right")
    rows = np.arange(int(tile.top) + 20, int(tile.top + tile.height / 3))
    columns = np.arange(int(tile.left) + 20, int(x) - 8)
    assert np.abs(before[np.ix_(rows, columns)] - before[np.ix_(rows, columns + 30)]).mean() > 10
    apart = np.abs(before[np.ix_(rows, columns)] - after[np.ix_(rows, columns + 30)])
    assert apart.mean() < 4


def read_position(box) -> np.ndarray:
    return np.array([float(value) for value in box.input_value().split(",")])


def test_outlines_run_along_the_voxels_of_a_label(bare):
    put(bare, "fixedLabels", True)
    bare.wait_for_timeout(150)
    tile = next(one for one in tiles(bare) if one.plane == "axial")
    path = bare.locator('.stage svg[data-plane="axial"] path.outline').first.get_attribute("d")
    corners = np.array([[float(v) for v in one] for one in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)])
    left, right = tile.left + 8 / 30 * tile.width, tile.left + 14 / 30 * tile.width  # voxels 8 to 13
    top, bottom = tile.top + 6 / 26 * tile.height, tile.top + 12 / 26 * tile.height  # voxels 6 to 11
    assert corners.min(axis=0) == pytest.approx([left, top], abs=0.2)
    assert corners[:, 0].max() == pytest.approx(right, abs=0.2)
    assert corners[:, 1].max() == pytest.approx(bottom, abs=0.2)
    assert path.count("M") == 1  # one line around it, of four corners
    assert 4 <= len(corners) <= 5
    assert HOSTILE in bare.locator(".list-of-labels").inner_text()
    assert HOSTILE in bare.locator(".voxel").inner_text()


def test_places_show_the_map_that_they_are_worst_in(bare):
    place = bare.locator(".list-of-places tbody tr", has_text="Least certain").first
    place.get_by_role("button").click()
    assert bare.locator('[data-set="map"]').input_value() == "uncertainty"
    bare.wait_for_timeout(200)
    found = read_position(bare.get_by_label("position, RAS in mm"))
    assert found == pytest.approx(GRID.voxel_to_world(np.array(UNSURE, float)), abs=0.1)
    assert re.search(r"map: ≥ 3\.\d+ mm", bare.locator(".voxel").inner_text())  # the scale ends where few are beyond


@pytest.mark.parametrize("width", [420, 1024, pytest.param(2560, marks=pytest.mark.slow)])
def test_every_control_works_at_every_width(page, troubles, width):
    page.set_viewport_size({"width": width, "height": 560})
    page.wait_for_timeout(200)
    viewer = page.locator(".explorer .work")
    button(page, "Axial").click()  # the rendering takes long without a graphics card, so it comes last
    for control in viewer.locator("button:visible:not([data-view])").all():
        control.click()
    for control in viewer.locator("select").all():
        for value in control.locator("option").evaluate_all("all => all.map(e => e.value)"):
            control.select_option(value)
            page.wait_for_timeout(60)
    for control in viewer.locator('input[type="checkbox"]').all():
        control.click()
        control.click()
    for control in viewer.locator('input[type="range"]').all():
        for value in ("0", "100"):
            control.evaluate(
                "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', { bubbles: true })); }", value
            )
    page.get_by_label("position, RAS in mm").fill("not a place")
    page.keyboard.press("Enter")
    assert "three numbers" in page.locator(".trouble").inner_text()
    for view in ("Coronal", "Sagittal", "3D", "All"):
        button(page, view).click()
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert pixels(page).max() > 100
    assert page.evaluate("window.pwned") is None
    assert troubles == []


def test_without_webgl_or_a_script_the_pictures_remain(browser, tmp_path):
    path = tmp_path / "report.html"
    write_report(path, make_report())
    flags = ["--no-sandbox", "--disable-gpu", "--disable-3d-apis"]
    plain = browser.browser_type.launch(executable_path=executable(), args=flags)
    page = plain.new_page()
    page.goto(path.as_uri())
    page.get_by_role("button", name="Explore").click()
    page.locator(".trouble", has_text="no WebGL 2").wait_for()
    assert page.locator(".viewer img:visible").count() >= 3
    page = plain.new_context(java_script_enabled=False).new_page()
    page.goto(path.as_uri())
    assert page.locator(".viewer img:visible").count() >= 3
    assert page.locator(".explorer button:visible").count() == 0
    plain.close()
