"""Every page in a real Chromium: controls, keyboard, widths, light and dark, hostile names, pixels."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image as Picture

from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.report.colours import ColourScale
from anamorph.report.pair import render
from anamorph.report.pictures import robust_window, to_grey
from anamorph.transforms import Affine, Displacement
from chromium import chromium
from hostile_pages import GRID, HOSTILE, PAGES
from reports import make_report

WIDTHS = (420, 1024, 2560)
OWN = ":not(.explorer *)"  # the interactive view has tests of its own
CONTROLS = f"main :is(button, input, select, summary, [role=button], figure.reel input){OWN}"
FOCUSABLE = f":is(a[href], button, input, select, summary, [tabindex]):not([tabindex='-1']){OWN}"


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return {name: page() for name, page in PAGES.items()}


@pytest.fixture
def open_text(browser, tmp_path):
    """Open the text of a page, and see at the end that it complained of nothing and asked for no other file."""
    contexts, troubles = [], []

    def open_page(text: str, width: int = 1024, **options):
        path = tmp_path / "report.html"
        path.write_text(text, encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": 800}, reduced_motion="reduce", **options)
        context.set_default_timeout(5000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text))  # violations of the policy come this way
        page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda r: troubles.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


def wide(page) -> int:
    return page.evaluate("document.documentElement.scrollWidth")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_every_control_works_and_names_are_text(open_text, texts, name, width):
    page = open_text(texts[name], width)
    assert HOSTILE in page.title()
    assert wide(page) <= width
    for control in page.locator(CONTROLS).all():
        if not control.is_visible():
            continue
        kind = control.evaluate("control => control.type ?? ''")
        if kind == "range":
            for key in ("Home", "End", "ArrowLeft"):
                control.press(key)
        elif kind == "select-one":
            for value in control.locator("option").evaluate_all("options => options.map(option => option.value)"):
                control.select_option(value)
        elif kind == "search":
            control.fill(HOSTILE)
            control.fill("")
        else:
            control.click()
            if page.locator("dialog[open]").count():
                page.keyboard.press("Escape")
            elif page.locator(".viewer.full").count():
                assert wide(page) <= width
                page.keyboard.press("Escape")
        assert wide(page) <= width
    assert page.evaluate("window.pwned") is None
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("svg[onload]").count() == 0


@pytest.mark.parametrize("name", PAGES)
def test_the_keyboard_reaches_every_control_and_shows_where_it_is(open_text, texts, name):
    page = open_text(texts[name])
    reachable = [one for one in page.locator(FOCUSABLE).all() if one.is_visible()]
    visited = set()
    for _ in range(len(reachable) + 40):
        page.keyboard.press("Tab")
        found = page.evaluate(
            """() => {
                 const focused = document.activeElement;
                 if (focused === document.body || focused.closest(".explorer")) return null;
                 focused.dataset.visited = "";
                 const style = getComputedStyle(focused);
                 return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1;
               }"""
        )
        visited.add(found)
    assert False not in visited
    missed = [one.evaluate("one => one.outerHTML.slice(0, 80)") for one in reachable
              if one.evaluate("one => !('visited' in one.dataset)")]  # fmt: skip
    assert missed == []


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_light_or_dark_as_the_reader_wants_and_printed_without_controls(open_text, texts, name):
    page = open_text(texts[name])
    background, ink = (f"getComputedStyle(document.body).{name}" for name in ("backgroundColor", "color"))
    for scheme, paper in (("light", "rgb(247, 247, 245)"), ("dark", "rgb(23, 24, 26)")):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate(background) == paper
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator(f".toolbar{OWN}").filter(visible=True).count() == 0
    assert (page.evaluate(background), page.evaluate(ink)) == ("rgba(0, 0, 0, 0)", "rgb(29, 31, 33)")


def shot(locator) -> np.ndarray:
    """``(rows, columns, 3)`` pixels of an element as the browser draws it."""
    return np.asarray(Picture.open(io.BytesIO(locator.screenshot(animations="disabled"))).convert("RGB"))


def clean(page) -> None:
    """Hide what lies over pictures."""
    page.add_style_tag(content=".letter, svg.lines, .stack::after { display: none !important; }")


def asymmetric() -> np.ndarray:
    """``(I, J, K)`` numbers that grow to the patient's right, less to the front, least upwards; the grid is LPS."""
    right, front, up = (1 - place / (n - 1) for place, n in zip(np.indices(GRID.shape), GRID.shape, strict=True))
    return (100 * right + 60 * front + 30 * (1 - up)).astype(np.float32)


# In GRID the first index grows to the left, the second to the back, the third upwards. Radiological views show the
# patient's right on the left of the screen, the front on top (axial) or on the left (sagittal), the head on top.
SHOWN = {
    "axial": lambda data, at: data[:, :, at[2]].T,
    "coronal": lambda data, at: data[:, at[1], ::-1].T,
    "sagittal": lambda data, at: data[at[0], :, ::-1].T,
}


def place_of(page, view: str) -> int:
    """Which slice the page says it shows, counted from 0."""
    told = page.locator(".canvas figcaption", has_text=view).inner_text()
    return int(re.search(r"(\d+)/", told)[1]) - 1


@pytest.mark.parametrize("width", WIDTHS)
def test_slices_are_what_numpy_says_upright_and_radiological(open_text, width):
    data = asymmetric()
    fixed = Image(data, GRID, "fixed")
    page = open_text(
        render(make_report(GRID, fixed=fixed, fixed_labels=None, moving_labels=None, warped_labels=None)), width
    )
    page.get_by_role("button", name="Fixed | warped").click()
    page.get_by_role("button", name="Warped", exact=True).click()
    page.get_by_role("button", name="Fixed", exact=True).click()
    clean(page)
    views = ["axial", "coronal", "sagittal"]
    at = [place_of(page, view) for view in reversed(views)]  # by axis
    expected = {view: SHOWN[view](data, at) for view in views}
    window = robust_window(expected.values())
    for number, view in enumerate(views):
        grey = to_grey(expected[view], window).astype(float)
        picture = shot(page.locator(".canvas .stack").nth(number)).mean(axis=-1)
        small = np.asarray(
            Picture.fromarray(picture.astype(np.float32)).resize(grey.shape[::-1], Picture.Resampling.BOX)
        )
        inner = (slice(1, -1), slice(1, -1))
        assert np.abs(small - grey)[inner].max() < 12, view  # of 255: JPEG, and interpolation between pixels
        assert np.corrcoef(small.ravel(), grey.ravel())[0, 1] > 0.995


@pytest.mark.parametrize("percent", [0, 30, 75, 100])
def test_the_curtain_is_where_the_slider_says(open_text, percent):
    """Before, the moving scan is dark, so that only the fixed one is seen, in green; after, both are, in white."""
    bright = np.full(GRID.shape, 100, np.float32)
    bright[:, :2], bright[:, 0] = 50, 0  # so that 100 is white
    report = make_report(
        *(GRID,),
        fixed=Image(bright, GRID, "fixed"),
        moving=Image(np.zeros(GRID.shape, np.float32), GRID, "moving"),
        warped=Image(bright, GRID, "warped"),
        **{f"{side}_labels": None for side in ("fixed", "moving", "warped")},
    )
    page = open_text(render(report))
    page.get_by_label("divider").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", percent
    )
    clean(page)
    row = shot(page.locator(".canvas .stack").first)[60].astype(int)
    green = (row[:, 1] > 200) & (row[:, 0] < 60)
    white = row.min(axis=-1) > 200
    assert (green | white).mean() > 0.97
    edge = np.argmax(white) if white.any() else len(row)
    assert abs(edge - percent / 100 * len(row)) <= 2
    assert not white[: max(edge - 2, 0)].any()


def test_maps_have_the_colours_of_their_legend(open_text):
    """The patient's right half grows by half in the moving scan, the left half shrinks."""
    x_mm = GRID.voxel_to_world(np.moveaxis(np.indices(GRID.shape), 0, -1))[..., 0]
    middle = float(np.median(x_mm))
    vectors = np.zeros((3, *GRID.shape), np.float32)
    vectors[0] = np.where(x_mm > middle, 0.5, -0.25) * (x_mm - middle)
    there = Displacement.from_world(vectors, GRID)
    text = render(make_report(GRID, fixed_to_moving=there, moving_to_fixed=Affine.identity()))
    page = open_text(text)
    clean(page)
    card = page.locator("article", has_text="Change of volume")
    low, _, high = (float(tick.split()[0]) for tick in card.locator(".bar span").all_inner_texts())
    assert low * high == pytest.approx(1, abs=0.01)
    assert high == pytest.approx(1.5, abs=0.02)
    scale = ColourScale("RdBu_r", 1 / 1.5, 1.5, logarithmic=True)
    picture = shot(card.locator(".stack").first).astype(int)
    for columns, determinant in ((slice(0, 40), 1.5), (slice(-40, None), 0.75)):  # the patient's right is on the left
        found = np.median(picture[:, columns].reshape(-1, 3), axis=0)
        wanted = scale.paint(np.array([[determinant]], np.float32))[0, 0]
        assert np.abs(found - wanted).max() <= 4
    bar = shot(card.locator(".bar div")).astype(int)
    middle_of_bar = bar[bar.shape[0] // 2]
    for share in (0.1, 0.5, 0.9):
        wanted = scale.table()[round(255 * share)]
        assert (
            np.abs(middle_of_bar[round(share * (len(middle_of_bar) - 1))] - wanted).max() <= 12
        )  # the bar has 17 stops


def test_a_view_is_enlarged_and_closed_by_keyboard(open_text, texts):
    page = open_text(texts["pair"])
    stack = page.locator("article .stack").first
    before = stack.bounding_box()["width"]
    stack.focus()
    page.keyboard.press("Enter")
    large = page.locator("dialog[open] .stack")
    assert large.bounding_box()["width"] > 1.5 * before
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    assert stack.evaluate("stack => stack === document.activeElement")


def test_before_and_after_are_switched_by_a_key(open_text, texts):
    page = open_text(texts["pair"])
    slider = page.get_by_label("divider")
    for value in ("0", "100", "0"):
        page.keyboard.press("b")
        assert slider.input_value() == value
    assert page.get_by_role("button", name="After").get_attribute("aria-pressed") == "true"


def test_the_slices_of_a_template_are_scrolled(open_text):
    from anamorph.report.many_scans import Stage, TemplateReport, template_page

    data = np.zeros(GRID.shape, np.float32)
    data += 10 * np.arange(GRID.shape[2])  # each axial slice has a brightness of its own
    stages = [Stage("iteration 1", Image(data, GRID), 0.1, 1.0, 0.2)]
    page = open_text(template_page(TemplateReport("t", stages, 0.1, True, 0.1, [])))
    slider = page.get_by_label("axial slice")
    seen = []
    for key, number in (("Home", "1"), ("ArrowRight", "2"), ("End", str(GRID.shape[2]))):
        slider.press(key)
        assert page.locator(".reel", has_text="axial").locator("output").inner_text() == number
        seen.append(float(np.median(shot(page.locator(".reel .frame").first))))
    window = robust_window([data])
    expected = to_grey(np.array([data[0, 0, n] for n in (0, 1, -1)]), window)
    np.testing.assert_allclose(seen, expected, atol=10)


@pytest.mark.parametrize("name", PAGES)
def test_without_scripts_everything_is_there_but_the_controls(open_text, texts, name):
    page = open_text(texts[name], java_script_enabled=False)
    assert page.locator(f".toolbar{OWN}").filter(visible=True).count() == 0
    assert page.locator("main").is_visible()
    assert page.locator("main img").filter(visible=True).count() > 0 or name in ("classification", "cohort")


def test_grids_that_are_flat_have_a_page_too(open_text):
    page = open_text(render(make_report(Grid((30, 20, 1), np.diag([-1.0, -1.0, 1.0, 1.0])))), 420)
    assert page.locator(".canvas .stack").count() == 1
    assert wide(page) <= 420
