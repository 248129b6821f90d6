"""Courses over time, and the pages that draw them."""

from __future__ import annotations

import re

import numpy as np

from anamorph.geometry import Grid
from anamorph.image import Image, Labels
from anamorph.image.series import ImageSeries
from anamorph.report.charts import HEIGHT, WIDTH, Chart, Curve, drawn
from anamorph.report.colours import label_colour
from anamorph.report.many_scans import ScanLine, Stage, TemplateReport, template_page
from anamorph.report.series import SeriesReport, series_page
from hostile_pages import classification
from html_page import Page

GRID = Grid((20, 18, 16), np.diag([-2.0, -2.0, 3.0, 1.0]))


def image(value: float = 1.0) -> Image:
    return Image(np.full(GRID.shape, value, np.float32) * np.arange(GRID.shape[0])[:, None, None], GRID, "scan")


def test_a_chart_starts_at_zero_and_spans_the_box():
    drawing = drawn(Chart("volume", "ml", [Curve("a", [50.0, 100.0, np.nan])]), [0, 1, 2], "time, s")
    assert drawing.lines[0].path == f"M0.0,{HEIGHT / 2:.1f}L{WIDTH / 2:.1f},0.0"
    assert drawing.heights == [(HEIGHT, "0"), (HEIGHT / 2, "50"), (0.0, "100")]
    assert [text for _, text in drawing.times] == ["0", "1", "2"]


def test_a_curve_that_another_hides_is_told_and_drawn_wider():
    same, other = [0.0, 10.0, 20.0], [0.0, 10.05, 20.0]
    drawing = drawn(Chart("x", "", [Curve("a", same), Curve("b", [5.0] * 3), Curve("c", other)]), [0, 1, 2], "t")
    assert [line.under for line in drawing.lines] == ["c", "", ""]
    frames = ImageSeries((image(), image(2.0)))
    report = SeriesReport("s", [], [0, 1], "t", [Chart("x", "", [Curve("a", same[:2]), Curve("c", other[:2])])],
                          frames, frames)  # fmt: skip
    text = series_page(report)
    assert "a (wide: under c)" in Page(text).words
    assert text.count('class="wide"') == 2  # the curve and its sample


def test_the_labels_of_a_series_keep_their_colours_and_are_named():
    frames = ImageSeries((image(), image(2.0)))
    first = np.zeros(GRID.shape, np.uint8)
    first[4:8, 4:14, 4:12], first[8:14, 4:14, 4:12] = 1, 2
    second = np.where(first == 1, 0, first)  # the first label left the second frame
    labels = [Labels(one, GRID) for one in (first, second)]
    text = series_page(SeriesReport("s", [], [0, 1], "t", [], frames, frames, labels))
    legend = re.findall(r'style="background:(#[0-9a-f]{6})"></i>(label \d)', text)
    assert legend == [(label_colour(0), "label 1"), (label_colour(1), "label 2")]


def template_report(rounds: int, **changes) -> TemplateReport:
    stages = [Stage("start", image(), None, None, None)]
    stages += [Stage(f"iteration {n}", image(), 1.0 / n, 2.0, 0.1) for n in range(1, rounds + 1)]
    line = ScanLine("0001", "WARN", None, 1.0, ("scans", "0001", "report.html"), "some signs of failure",
                    ("the map folds", "labels are lost"))  # fmt: skip
    return TemplateReport("t", stages, 0.25, False, 0.3, [line], **changes)


def test_the_page_of_a_template_says_why_a_scan_is_not_pass_and_how_it_converged():
    text = template_page(template_report(3))
    words = Page(text).words
    assert "WARN some signs of failure the map folds labels are lost" in words
    assert "mean field single fields limit of the mean field" in words
    mean = re.search(r'<path d="([^"]*)" style="--line:' + label_colour(0), text)[1]
    heights = [float(point.split(",")[1]) for point in re.split("[ML]", mean)[1:]]
    np.testing.assert_allclose(heights, HEIGHT * (1 - np.array([1, 1 / 2, 1 / 3]) / 2.0), atol=0.1)
    assert "Convergence" not in Page(template_page(template_report(1))).words  # one point is no course


def test_every_model_has_a_curve_of_its_own():
    text = classification()
    figures = re.findall(r'<figure class="card roc">.*?</figure>', text, re.DOTALL)
    assert len(figures) == 2
    for rank, figure in enumerate(figures):
        assert figure.count("--line:" + label_colour(rank)) == 1
        assert figure.count('class="other"') == 1
        assert f"window.pwned=2&#39;&gt;{{{{ 7 * 6 }}}} a\\b&amp;amp;{rank}</h4>" in figure
