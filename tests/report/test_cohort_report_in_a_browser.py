"""The page of an evaluation, used with mouse and keyboard: `pip install -e ".[browser]"` and any Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from anamorph.report.cohort import CohortReport, CohortRow, write_cohort_report
from cohorts import large_report, make_report, make_row
from processor_time import processor_seconds

playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
expect = playwright.expect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WORST_FIRST = ["p4 convex", "p4 deeds", "p2 convex", "p0 deeds", "p3 convex"]
WORST_FIRST += ["p1 deeds", "p1 convex", "p3 deeds", "p2 deeds", "p0 convex"]
HOSTILE = "</script><img src=x onerror=\"window.pwned=1\"><svg onload='window.pwned=2'>{{ 7 * 6 }} a\\b&amp;"


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """A headless Chromium; the test is skipped where there is none."""
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, tmp_path):
    """Write a report, open it, and see at the end that it raised no error and asked for no other file."""
    contexts, troubles = [], []

    def open_report(report: CohortReport, **options):
        path = tmp_path / "report.html"
        write_cohort_report(path, report)
        context = browser.new_context(viewport={"width": 1366, "height": 900}, reduced_motion="reduce", **options)
        context.set_default_timeout(5000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text))
        page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda r: troubles.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
        page.goto(path.as_uri())
        return page

    yield open_report
    for context in contexts:
        context.close()
    assert troubles == []


def shown(page) -> list[str]:
    """Pair and method of the rows that are to be seen, from top to bottom."""
    return page.eval_on_selector_all(
        "#pairs tbody tr",
        """rows => rows.filter(row => row.checkVisibility()).map(row =>
             row.querySelector("td.pair").dataset.value + " " + row.dataset.method)""",
    )


def column(page, name: str) -> list[str]:
    """The numbers of a column from top to bottom as they are read."""
    place = page.locator("#pairs thead th").all_inner_texts().index(name)
    return [text.split()[0] for text in page.locator(f"#pairs tbody td:nth-child({place + 1})").all_inner_texts()]


def header(page, name: str):
    return page.locator("#pairs thead th", has_text=name)


def test_a_click_sorts_worst_first_and_another_best_first(open_page):
    page = open_page(make_report())
    assert shown(page) == WORST_FIRST
    dice = page.get_by_role("button", name="Dice", exact=True)
    dice.click()
    expect(header(page, "Dice").first).to_have_attribute("aria-sort", "ascending")
    numbers = ["0.200", "0.600", "0.700", "0.750", "0.800", "0.900", "0.950"]
    assert column(page, "Dice") == [*numbers, "–", "–", "–"]
    dice.click()
    expect(header(page, "Dice").first).to_have_attribute("aria-sort", "descending")
    assert column(page, "Dice") == [*reversed(numbers), "–", "–", "–"]  # what is missing stays at the end
    page.get_by_role("button", name="HD95, mm").click()
    expect(header(page, "HD95")).to_have_attribute("aria-sort", "descending")
    assert column(page, "HD95, mm")[:3] == ["∞", "12.00", "9.00"]
    expect(page.locator("#pairs [aria-sort]")).to_have_count(1)
    page.get_by_role("button", name="Worst first").click()
    assert shown(page) == WORST_FIRST
    expect(page.locator("#pairs [aria-sort]")).to_have_count(0)


def test_verdicts_sort_by_severity_and_names_with_numbers_as_people_do(open_page):
    page = open_page(make_report(rows=[make_row(f"p{i}", dice=0.5 + i / 100) for i in (10, 9, 1)], baseline=None))
    page.get_by_role("button", name="Pair", exact=True).click()
    assert [name.split()[0] for name in shown(page)] == ["p1", "p9", "p10"]
    page = open_page(make_report())
    page.get_by_role("button", name="Verdict").click()
    assert [text.lower() for text in column(page, "Verdict")[:5]] == ["no", "no", "fail", "warn", "pass"]
    page.get_by_role("button", name="Verdict").click()
    assert [text.lower() for text in column(page, "Verdict")[-4:]] == ["warn", "fail", "no", "no"]


def test_everything_is_reached_with_the_keyboard(open_page):
    page = open_page(make_report())
    page.get_by_label("Filter by pair").focus()
    visited = []
    for _ in range(17):
        page.keyboard.press("Tab")
        visited.append(page.evaluate("document.activeElement.innerText.trim().split('\\n')[0].split(' ')[0]"))
        if visited[-1] == "HD95,":
            break
    assert visited[-5:] == ["Pair", "Method", "Verdict", "Dice", "HD95,"]
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(header(page, "HD95")).to_have_attribute("aria-sort", "descending")
    assert page.evaluate("document.activeElement.textContent.trim()") == "HD95, mm"  # the focus stays
    page.keyboard.press("Space")
    expect(header(page, "HD95")).to_have_attribute("aria-sort", "ascending")


def test_filters_combine_and_are_cleared(open_page):
    page = open_page(make_report())
    status = page.get_by_role("status")
    expect(status).to_have_text("10 rows")
    search = page.get_by_label("Filter by pair")
    search.fill("P2")
    assert shown(page) == ["p2 convex", "p2 deeds"]
    expect(status).to_have_text("2 of 10 rows")
    search.fill("wrong p4")  # words in any order, also of the reasons
    assert shown(page) == ["p4 deeds"]
    search.fill("")
    page.get_by_role("button", name="WARN 1").click()
    page.get_by_role("button", name="FAIL 1").click()
    assert shown(page) == ["p2 convex", "p0 deeds"]
    page.get_by_label("Method", exact=True).select_option("deeds")
    assert shown(page) == ["p0 deeds"]
    search.fill("nowhere")
    assert shown(page) == []
    expect(page.get_by_text("No pair matches the filters.")).to_be_visible()
    page.get_by_role("button", name="Clear filters").click()
    assert shown(page) == WORST_FIRST
    expect(page.get_by_role("button", name="WARN 1")).to_have_attribute("aria-pressed", "false")
    expect(page.get_by_role("button", name="Clear filters")).to_be_hidden()
    page.get_by_label("Method", exact=True).select_option("convex")
    page.get_by_role("button", name="Dice", exact=True).click()
    assert shown(page) == ["p1 convex", "p0 convex", "p2 convex", "p4 convex", "p3 convex"]


def test_links_open_the_report_of_the_pair(open_page, tmp_path):
    folder = tmp_path / "pairs" / "0001<--0002 #1? 100%"
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("<title>of the pair</title>")
    picture = tmp_path / "a.png"
    Picture.fromarray(np.full((60, 140, 3), 90, np.uint8)).save(picture)
    link = (folder / "report.html").relative_to(tmp_path).as_posix()
    page = open_page(make_report(rows=[make_row("p0", report_link=link, thumbnail=picture)], baseline=None))
    page.locator("#pairs").get_by_role("link", name="p0").click()
    expect(page).to_have_title("of the pair")
    page.go_back()
    page.locator("#pairs tbody img").click()
    expect(page).to_have_title("of the pair")
    page.go_back()
    for part in ("h3 a", "img"):
        page.locator(f"#worst {part}").click()
        expect(page).to_have_title("of the pair")
        page.go_back()


def test_an_outlier_leads_to_its_row_even_if_that_is_filtered_out(open_page):
    rows = [make_row(f"p{i}", dice=0.8 + 0.01 * i) for i in range(30)] + [make_row("bad", dice=0.1)]
    page = open_page(make_report(rows=rows, baseline=None))
    page.get_by_label("Filter by pair").fill("p1")
    assert "bad convex" not in shown(page)
    dot = page.locator('#spread a:has-text("bad, convex: 0.100")').first
    dot.scroll_into_view_if_needed()
    place = dot.locator("path").first.evaluate("dot => { const b = dot.getBoundingClientRect(); return [b.x, b.y]; }")
    page.mouse.click(*place)
    row = page.locator("#pairs tr:target")
    expect(row).to_contain_text("bad")
    expect(row).to_be_in_viewport()
    expect(page.get_by_role("status")).to_have_text("31 rows")


def test_hostile_names_are_text(open_page):
    rows = [
        make_row(
            *(HOSTILE, HOSTILE),
            report_link="javascript:window.pwned=3",
            reasons=(HOSTILE,),
            verdict="WARN",
            names=HOSTILE,
            answers=HOSTILE,
        ),
        make_row("other", "fine", metrics={"Dice": 0.1}),
        CohortRow(HOSTILE, "fine", error=HOSTILE),
        *(make_row(f"{HOSTILE}{i}", "fine", dice=0.9, per_label={"Dice": {HOSTILE: 0.9}}) for i in range(9)),
    ]
    page = open_page(make_report(title=HOSTILE, rows=rows, notes=(HOSTILE,), baseline=None))
    expect(page).to_have_title(HOSTILE)
    expect(page.locator("h1")).to_have_text(HOSTILE)
    expect(page.locator("#pairs img")).to_have_count(0)
    for button in page.locator("#pairs thead button").all():
        button.click()
    page.get_by_label("Method", exact=True).select_option(HOSTILE)
    page.get_by_label("Filter by pair").fill(HOSTILE)
    assert shown(page) == [f"{HOSTILE} {HOSTILE}"]
    for link in page.get_by_role("link", name=HOSTILE).all():
        assert link.evaluate("link => link.protocol") == "file:"
    assert page.evaluate("window.pwned") is None


def test_the_policy_of_the_page_stops_a_script_that_got_in(open_page, tmp_path, browser):
    open_page(make_report())
    path = tmp_path / "report.html"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("<main>", "<main><script>window.pwned=1</script><img src=x onerror=window.pwned=2>"))
    page = browser.new_page()
    page.goto(path.as_uri())
    assert page.evaluate("window.pwned") is None
    expect(page.get_by_role("status")).to_have_text("10 rows")  # the page's own script still runs
    page.close()


def test_without_a_script_the_table_is_there(open_page):
    page = open_page(make_report(), java_script_enabled=False)
    expect(page.locator("#pairs tbody tr")).to_have_count(10)
    expect(page.locator("#pairs tbody tr").first).to_be_visible()
    expect(page.locator("#pairs tbody tr").first).to_contain_text("disp_p4.npz is missing")
    expect(page.locator(".toolbar")).to_be_hidden()
    expect(page.locator("#pairs thead button")).to_have_count(0)


@pytest.mark.parametrize("metrics", [3, 16])
@pytest.mark.parametrize("width", [1366, 390])
def test_the_page_is_never_wider_than_the_window(open_page, width, metrics):
    directions = {f"metric {i} with a long name": "higher" for i in range(metrics)}
    rows = [make_row(name, dice=0.4, metrics=dict.fromkeys(directions, 0.4)) for name in ("x" * 200, "y")]
    page = open_page(make_report(rows=rows, metric_directions=directions | {"Dice": "higher"}, baseline=None))
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_all_numbers_are_shown_on_request(open_page):
    directions = {f"number {n}": "higher" for n in range(9)}
    rows = [make_row(name, method, metrics=dict.fromkeys(directions, 0.4)) for name in "xy" for method in ("a", "b")]
    page = open_page(make_report(rows=rows, metric_directions=directions, baseline=None))
    button = page.get_by_role("button", name="All 9 numbers")
    for pressed, columns, charts in (("false", 6, 6), ("true", 9, 9), ("false", 6, 6)):
        expect(button).to_have_attribute("aria-pressed", pressed)
        shown_heads = page.locator("#pairs th[data-sort]", has_text="number").filter(visible=True)
        expect(shown_heads).to_have_count(columns)
        expect(page.locator(".plot").filter(visible=True)).to_have_count(charts)
        assert page.evaluate("document.documentElement.scrollWidth") <= 1366
        button.press("Enter")


def test_dark_where_the_reader_wants_dark(open_page):
    page = open_page(make_report(), color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(23, 24, 26)"


def test_a_hundred_pairs_open_and_sort_fast(open_page, tmp_path: Path):
    report = large_report(tmp_path, 100)
    start = processor_seconds()
    page = open_page(report)
    expect(page.get_by_role("status")).to_have_text("100 rows")
    assert processor_seconds() - start < 15
    loaded = page.evaluate("[...document.images].filter(image => image.complete).length")
    assert loaded < 60  # of 106: those far from the view wait
    start = processor_seconds()
    page.evaluate(
        """async () => {
             [...document.querySelectorAll("#pairs thead button")].find(b => b.textContent === "Dice").click();
             await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
           }"""
    )
    assert processor_seconds() - start < 2
    numbers = [float(text) for text in column(page, "Dice")]
    assert numbers == sorted(numbers)
    last = page.locator("#pairs tbody img").last
    last.scroll_into_view_if_needed()
    page.wait_for_function("image => image.complete && image.naturalWidth === 480", arg=last.element_handle())
