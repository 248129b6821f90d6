from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import io
import math
import re

import numpy as np
import pytest
from PIL import Image as Picture

from anamorph.report.cohort import CohortReport, CohortRow, write_cohort_report
from anamorph.report.cohort.model import Metric, digits_for, metrics_of, worst_first
from anamorph.report.cohort.page import axis_for, box, charts, render
from anamorph.report.cohort.tables import href, label_bars, label_scale, summaries
from cohorts import DIRECTIONS, large_report, make_report, make_row
from html_page import Page
from processor_time import processor_seconds

EVIL = '</script><img src=x onerror="alert(1)">\'&{{ 7 * 6 }}<!-- \udcff'


def table_rows(text: str) -> list[str]:
    return re.findall(r'<tr id="pair-\d+".*?</tr>', text, re.DOTALL)


def test_the_page_parses_lists_every_pair_and_needs_no_network(tmp_path):
    path = tmp_path / "report.html"
    write_cohort_report(path, make_report(notes=("a remark",)))
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not re.search(r"https?:", text)
    assert "default-src 'none'" in text
    assert len(table_rows(text)) == 10  # the baseline stands beside the others, not among them
    for shown in ("five pairs", "a remark", "5 pairs, 2 methods", "the map folds", "labels lost", "identity"):
        assert shown in page.text
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_the_table_is_worst_first_without_a_script():
    text = render(make_report())
    order = [
        (re.search(r'data-value="(p\d)"', row).group(1), re.search(r'data-method="(\w+)"', row).group(1))
        for row in table_rows(text)
    ]
    assert order == [
        ("p4", "convex"),
        ("p4", "deeds"),
        ("p2", "convex"),
        ("p0", "deeds"),
        ("p3", "convex"),  # PASS without a number: worse than any number
        ("p1", "deeds"),
        ("p1", "convex"),
        ("p3", "deeds"),
        ("p2", "deeds"),
        ("p0", "convex"),
    ]


def test_ties_are_broken_by_the_next_metric():
    metrics = [Metric("Dice", "higher", 3), Metric("HD95, mm", "lower", 1)]
    rows = [
        make_row(key, metrics={"Dice": 0.5, "HD95, mm": hd95}) for key, hd95 in (("a", 3), ("b", math.inf), ("c", 9))
    ]
    assert [row.key for row in worst_first(rows, metrics)] == ["b", "c", "a"]


def test_failed_pairs_are_listed_with_their_reason():
    page = Page(render(make_report()))
    assert "2 without a result" in page.text
    assert page.text.count("disp_p4.npz is missing") == 2  # in the list at the top and in the table
    assert page.text.count("disp_p4.npz has the wrong shape") == 2


def test_many_failures_are_folded_away_but_there():
    rows = [CohortRow(f"p{i}", "convex", error=f"reason {i}.") for i in range(9)]
    text = render(make_report(rows=rows, baseline=None))
    assert "4 more" in text
    assert all(Page(text).text.count(f"reason {i}.") == 2 for i in range(9))


def test_values_that_are_missing_or_infinite():
    text = render(make_report())
    rows = table_rows(text)
    infinite = next(row for row in rows if "∞" in row)
    assert 'data-value="Infinity"' in infinite
    missing = rows[4]
    assert missing.count('<td data-value="">–') == 3
    assert not re.search(r"\bnan\b|\binf\b", Page(text).text + "".join(rows), re.IGNORECASE)


@pytest.mark.parametrize(
    "report", [make_report(rows=()), make_report(metric_directions={}), make_report(baseline=None)]
)
def test_reports_that_lack_something_are_pages(report):
    page = Page(render(report))
    assert "five pairs" in page.text
    assert ("identity" in page.text) == bool(report.rows)


def test_names_and_messages_from_outside_are_escaped(tmp_path):
    rows = [
        make_row(EVIL, EVIL, report_link=EVIL, per_label={EVIL: {EVIL: 0.5}}, metrics={EVIL: 0.5}, reasons=(EVIL,)),
        make_row(EVIL, "other", verdict=EVIL, metrics={EVIL: math.nan}),
        CohortRow(EVIL, EVIL, error=EVIL),
        *(make_row(f"{EVIL}{i}", "other", metrics={EVIL: 0.9 - 0.001 * i}) for i in range(9)),
    ]
    rows[1] = dataclasses.replace(rows[1], metrics={EVIL: 9.0})  # an outlier, which is named in the chart
    path = tmp_path / "report.html"
    write_cohort_report(path, CohortReport(EVIL, rows, {EVIL: "higher"}, [EVIL], baseline=None))
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.tags.count("script") == 1
    assert page.tags.count("img") == 0
    assert not any(name.startswith("on") for name, _ in page.attributes)
    seen = EVIL.replace("\udcff", "?")
    assert page.text.count(seen) >= 15
    assert "42" not in page.text
    classes = {part for name, value in page.attributes if name == "class" for part in (value or "").split()}
    assert not any("script" in name or "onerror" in name for name in classes)


def test_only_the_script_of_the_page_may_run():
    text = render(make_report())
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in html.unescape(text)


@pytest.mark.parametrize(
    ("link", "address"),
    [
        ("pairs/a/report.html", "pairs/a/report.html"),
        ("pairs/0001_0000<--0002_0000/report.html", "pairs/0001_0000%3C--0002_0000/report.html"),
        ("a b#1?%20.html", "a%20b%231%3F%2520.html"),
        ("javascript:alert(1)", "javascript%3Aalert%281%29"),
        ("//evil.example/x", "file:////evil.example/x"),
        ("/data/out/report.html", "file:///data/out/report.html"),
        ("\udcff.html", "%FF.html"),
    ],
)
def test_a_link_is_a_file_and_nothing_else(link, address):
    assert href(link) == address


def test_a_direction_that_is_none_is_refused():
    with pytest.raises(ValueError, match="'higher' or 'lower', not 'up'"):
        make_report(metric_directions={"Dice": "up"})


def test_digits_suit_the_size():
    assert [digits_for([value]) for value in (0.8, 12.3, 1.66, 0.065, 345.0, 0.0004, 0.0)] == [3, 1, 2, 3, 0, 4, 3]
    assert digits_for([math.nan, math.inf, 12.0]) == 1
    metric = Metric("HD95", "lower", 1)
    assert [metric.text(v) for v in (12.345, math.inf, -math.inf, math.nan)] == ["12.3", "∞", "−∞", "–"]


def test_worse_than_before_is_marked_where_before_means_something():
    metric = Metric("Dice", "higher", 3)
    assert metric.is_worse(0.30, 0.31)
    assert not metric.is_worse(0.3099, 0.31)  # shown as equal
    assert not metric.is_worse(math.nan, 0.31)
    rows = table_rows(render(make_report()))
    worse = [row for row in rows if "<em>worse</em>" in row]
    assert len(worse) == 1  # 0.2 after 0.3
    assert '0.200 <span class="was"><em>worse</em> <span class="unseen">before: </span>0.300</span>' in worse[0]
    assert worse[0].count('class="was"') == 1  # no map folds before there is one


def test_summary_averages_what_is_finite_and_marks_the_best():
    report = make_report()
    identity, convex, deeds = summaries(report, metrics_of(report), dict.fromkeys(report.methods, ""))
    assert (identity.name, identity.is_baseline, identity.pairs) == ("identity", True, 5)
    assert convex.averages[0].mean == "0.850"
    assert convex.averages[0].deviation == f"{np.std([0.9, 0.7, 0.95]):.3f}"
    assert convex.averages[0].share == "3 of 4"
    assert convex.averages[0].best
    assert not deeds.averages[0].best
    assert not identity.averages[2].best  # folds least, and is no rival
    assert not convex.averages[2].best  # of the map alone: one that does nothing has the best
    assert convex.counts["no result"] == 1
    alone = make_report(rows=[row for row in report.rows if row.method == "convex"])
    assert not any(a.best for a in summaries(alone, metrics_of(alone), {"convex": ""})[0].averages)


def test_a_box_has_quartiles_whiskers_and_outliers():
    values = [math.nan, 1.0, 2.0, 3.0, 4.0, 5.0, math.inf, 20.0, -9.0]
    plot = box(values)
    assert plot is not None
    finite = [1, 2, 3, 4, 5, 20, -9]
    assert (plot.first, plot.median, plot.third) == tuple(np.percentile(finite, [25, 50, 75]))
    assert (plot.low, plot.high) == (1.0, 5.0)  # the quartiles are 1.5 and 4.5: within 4.5 of them
    assert [values[place] for place in plot.outliers] == [20.0, -9.0]
    assert plot.count == 7
    assert box([math.nan, math.inf]) is None


def test_an_axis_starts_at_zero_is_round_and_keeps_far_outliers_out():
    dice = box([0.31, 0.45, 0.62, 0.7, 0.93])
    assert dice is not None
    axis = axis_for([dice], [])
    assert [text for _, text in axis.ticks] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert [place for place, _ in axis.ticks] == [0, 20, 40, 60, 80, 100]
    assert axis.percent(0.31) == pytest.approx(31)
    far = axis_for([dice], [1.2, 50.0])
    assert far.high <= 2
    assert not far.shows(50.0)
    assert (far.percent(50.0), far.shows(1.2)) == (100, True)
    flat = box([5.0])
    assert flat is not None
    single = axis_for([flat], [])
    assert (single.low, single.high) == (0, 5)
    zero = box([0.0])
    assert zero is not None
    assert axis_for([zero], []).percent(0.0) == 0
    narrow = box([101.0, 102.0, 103.0])
    assert narrow is not None
    assert axis_for([narrow], []).low == 101.0


def test_charts_have_a_box_per_label_and_method_and_outliers_point_to_their_row():
    rows = [make_row(f"p{i}", dice=0.8 + 0.01 * i) for i in range(8)]
    rows.append(make_row("bad", dice=0.1))
    rows.append(make_row("p0", "identity", dice=0.3))
    report = make_report(rows=rows)
    anchors = {id(row): f"pair-{place}" for place, row in enumerate(rows, 1)}
    drawn = charts(report, dict.fromkeys(report.methods, "#000000"), anchors)
    assert [chart.metric for chart in drawn] == ["Dice", "HD95, mm", "Folding, %"]
    dice = drawn[0]
    assert [group.name for group in dice.groups] == ["all pairs", "spleen", "liver", "pancreas"]
    whole = dice.groups[0]
    assert [plot.method for plot in whole.boxes] == ["identity", "convex"]
    assert [plot.median for plot in whole.boxes] == ["0.300", "0.830"]
    assert [(dot.anchor, dot.text) for dot in whole.boxes[1].dots] == [("pair-9", "bad, convex: 0.100")]
    assert "9 pairs" in whole.boxes[1].text


def test_labels_are_bars_of_their_value_with_the_worst_named():
    rows = [make_row("p", per_label={"Dice": {"10": 0.5, "2": 1.0, "3": math.nan}})]
    report = make_report(rows=rows)
    scale = label_scale(report)
    assert scale is not None
    assert scale.labels == ["2", "3", "10"]
    bars = label_bars(rows[0].per_label["Dice"], scale)
    assert bars is not None
    assert bars.path == "M0.1,1V0.000h0.8V1zM2.1,1V0.500h0.8V1z"
    assert (bars.worst, bars.text, bars.description) == ("10", "0.500", "2 1.000, 10 0.500")
    assert label_bars({"3": math.nan}, scale) is None
    assert label_scale(make_report(rows=[make_row("p", per_label={})])) is None


def test_pictures_are_drawn_anew_and_what_is_none_is_left_out(tmp_path):
    good, text, vector = tmp_path / "a.png", tmp_path / "b.jpg", tmp_path / "c.png"
    Picture.fromarray(np.full((300, 900, 3), 200, np.uint8)).save(good)
    text.write_text("<script>alert(1)</script>")
    vector.write_text('<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>')
    paths = (good, text, vector, tmp_path / "absent.jpg", tmp_path)
    rows = [make_row(f"p{i}", thumbnail=path) for i, path in enumerate(paths)]
    page = Page(render(make_report(rows=rows)))
    assert len(page.pictures) == 2  # among the worst cases and in the table
    assert all(source.startswith("data:image/webp;base64,") for source in page.pictures)
    picture = Picture.open(io.BytesIO(base64.b64decode(page.pictures[0].split(",")[1])))
    assert picture.size == (480, 160)
    assert page.tags.count("img") == sum(value == "lazy" for name, value in page.attributes if name == "loading")


def test_very_many_pictures_become_smaller(tmp_path):
    path = tmp_path / "a.png"
    Picture.fromarray(np.zeros((300, 900, 3), np.uint8)).save(path)
    rows = [make_row(f"p{i}", thumbnail=path, per_label={}) for i in range(1200)]
    source = Page(render(make_report(rows=rows))).pictures[0]
    assert Picture.open(io.BytesIO(base64.b64decode(source.split(",")[1]))).size == (240, 80)


def test_the_page_says_that_a_pass_was_not_measured():
    answers = "signs of failure: none; accuracy: not measured"
    page = Page(render(CohortReport("cohort", [make_row("p0", answers=answers)], {"Dice": "higher"})))
    assert answers in page.text


def test_a_hundred_pairs_are_written_fast_and_stay_small(tmp_path):
    report = large_report(tmp_path, 100)
    start = processor_seconds()
    write_cohort_report(tmp_path / "report.html", report)
    assert processor_seconds() - start < 10
    size = (tmp_path / "report.html").stat().st_size
    assert size < 3_000_000
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(table_rows(text)) == 100
    assert len(Page(text).pictures) == 106


def test_the_directions_of_the_columns_put_the_worst_first():
    text = render(make_report())
    first = re.findall(r'data-first="(\w+)">([^<]+)</th>', text)
    assert first == [
        ("ascending", "Pair"),
        ("ascending", "Method"),
        ("ascending", "Verdict"),
        ("ascending", "Dice"),
        ("descending", "HD95, mm"),
        ("descending", "Folding, %"),
        ("ascending", "Dice per label"),
    ]
    assert set(DIRECTIONS) <= {name for _, name in first}
