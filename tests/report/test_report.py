from __future__ import annotations

import base64
import dataclasses
import io
import itertools
import re

import numpy as np
import pytest

from anamorph.evaluation import Numbers, failed, verdict
from anamorph.evaluation.uncertainty import Uncertainty
from anamorph.geometry import Grid
from anamorph.image import Image, Labels, Points
from anamorph.report import PairReport, write_report
from anamorph.report.colours import FOLD_COLOUR, UNKNOWN_GREY, ColourScale, jacobian_scale, magnitude_scale, mark_folds
from anamorph.report.lines import MOST_POINTS, deformed_grid, line_distance_mm, outline
from anamorph.report.numbers import Named, tiles, total_seconds
from anamorph.report.pair import curve, render
from anamorph.report.pictures import (
    LONGEST_SIDE,
    LUNG_HU,
    SOFT_TISSUE_HU,
    checkerboard,
    ct_window,
    data_uri,
    fuse,
    robust_window,
    to_grey,
)
from anamorph.report.views import columns, focus_voxel, orthogonal_views
from anamorph.transforms import Displacement
from html_page import Page
from reports import blob, make_report

EVIL = "scan\"><script>alert(1)</script>'&.nii.gz"


def test_the_start_is_in_the_summary():
    steps = ["world (explains 0.9)", "second: middles <b>, 3 mm away"]
    page = render(make_report(start=steps, start_map=[("shift", "3.0 mm (3.0 up)"), ("turn", "none")]))
    head = page[: page.index("</header>")]
    assert "<span>Shift</span> 3.0 mm (3.0 up) <span>Turn</span> none " in head
    assert "<span>Start</span> <b>world (explains 0.9)</b> second: middles &lt;b&gt;, 3 mm away" in head
    assert "<span>Start</span>" not in render(make_report())


def test_the_page_parses_shows_its_numbers_and_needs_no_network(tmp_path):
    path = tmp_path / "report.html"
    write_report(path, make_report())
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not re.search(r"https?:", text)
    assert "default-src 'none'" in text
    kinds = [source.partition(";")[0] for source in page.pictures]
    assert kinds.count("data:image/jpeg") == 3 * (6 + 1)  # the viewer, and the scan behind the grid
    assert kinds.count("data:image/webp") == 3 * 3  # maps, without loss
    assert len(page.pictures) == 3 * (6 + 4)  # three views: the viewer's six pictures, and four maps
    for shown in (
        "PASS",
        "fixed.nii.gz",
        "search.radius_mm",
        "24",
        "Inverse consistency",
        "2.0",
        "24 × 20 × 16",
        "LPS",
    ):
        assert shown in page.text
    assert path.stat().st_size < 1_500_000  # NiiVue alone has 1.06 MB


def test_the_page_holds_both_answers():
    text = Page(render(make_report())).text
    assert "No signs of failure, and the accuracy is within limits." in text
    report = make_report()
    assert report.metrics is not None
    for dice, judged in (
        ({}, "not measured (give labels"),
        ({1: 0.0}, "poor: mean Dice 0.000 (lowest 0.000, label 1)"),
    ):
        numbers = Numbers.of(dice=dice, similarity=float("nan"))
        metrics = dataclasses.replace(report.metrics, before=numbers, after=numbers)
        page = Page(render(make_report(metrics=metrics, verdict=verdict(metrics))))
        assert "Signs of failure none Accuracy " + judged in " ".join(page.text.split())
        assert "not measurable" in page.text  # the similarity
    assert "1 of 1 labels end without overlap: label 1" in page.text


def test_parts_of_a_stage_are_not_counted_twice():
    assert total_seconds({"reading": 1.0, "registration": 4.0, "registration: affine": 1.5, "other: part": 2.0}) == 7.0


def test_lengths_that_rounding_leaves_are_zero():
    """Less than a thousandth of a voxel, whatever its size; a metric of the map says no more about it."""
    metrics = make_report().metrics
    assert metrics is not None
    name = "inverse_consistency_mm_mean"
    for voxel_mm, value, note in ((1.0, "0.000", ""), (1e-3, "0.0000023", "95 % below")):
        numbers = Numbers.of(**{name: 2.3e-6, "inverse_consistency_mm_p95": 4e-6, "inverse_consistency_mm_max": 5e-6})
        (tile,) = tiles(dataclasses.replace(metrics, before=Numbers(), after=numbers, voxel_mm=voxel_mm), {})
        assert (tile.name, tile.value) == ("Inverse consistency", value)
        assert tile.note.startswith(note)
        assert bool(tile.note) == bool(note)


def test_dice_before_and_after_are_on_the_page():
    report = make_report()
    assert report.metrics is not None
    text = Page(render(report)).text
    assert f"{report.metrics.before.mean('dice'):.3f}" in text
    assert "1.000" in text


def test_names_and_messages_from_outside_are_escaped():
    base = make_report()
    report = dataclasses.replace(
        base,
        title=EVIL,
        fixed=Image(base.fixed.data, base.fixed.grid, EVIL),
        warnings=[EVIL],
        settings={EVIL: EVIL},
        provenance={"path": EVIL},
        trace={EVIL: [1.0, 0.0]},
        timings={EVIL: 1.0},
        verdict=failed(EVIL),
        failure=EVIL,
    )
    text = render(report)
    assert "<script>alert" not in text
    page = Page(text)
    assert text.count("<script>") == 2  # the page's and the viewer's; all others hold data
    assert page.text.count(EVIL) >= 8
    assert not any("alert" in name for name, _ in page.attributes)


def test_a_failed_run_shows_why_and_both_scans():
    base = make_report()
    other = Image(np.ones((1, 9, 8, 7), np.int16), Grid((9, 8, 7), np.eye(4)), "empty.mha")
    report = PairReport("a pair", base.fixed, other, failed("no overlap found"), failure="no overlap found")
    page = Page(render(report))
    assert len(page.pictures) == 6
    for shown in ("FAIL", "no overlap found", "there is no transform", "fixed.nii.gz", "empty.mha", "9 × 8 × 7"):
        assert shown in page.text


def test_voxels_that_are_not_finite_do_not_break_the_page():
    base = make_report()
    data = base.fixed.data.copy()
    data[0, ::2] = np.nan
    data[0, 1] = np.inf
    bad = Image(data, base.fixed.grid, "nan.nii")
    assert len(Page(render(dataclasses.replace(base, fixed=bad))).pictures) == 30
    report = PairReport("a pair", bad, bad, failed("NaN"), failure="NaN")
    assert len(Page(render(report)).pictures) == 6


def test_a_2d_pair_has_one_view():
    page = Page(render(make_report(Grid((30, 20, 1), np.eye(4)))))
    assert len(page.pictures) == 1 * (6 + 4)


def test_scans_apart_are_said_to_be_apart():
    base = make_report()
    far = base.moving.grid.affine.copy()
    far[:3, 3] += 5000
    moving = Image(base.moving.data, Grid(base.moving.grid.shape, far), "far.nii")
    assert "place the two scans apart" in render(dataclasses.replace(base, moving=moving))
    assert "place the two scans apart" not in render(base)


def signed_permutations():
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            yield order, signs


@pytest.mark.parametrize(("order", "signs"), list(signed_permutations()))
def test_views_are_upright_and_radiological_whatever_the_axes(order, signs):
    spacing = (1.0, 2.0, 3.0)
    affine = np.eye(4)
    affine[:3, :3] = 0
    for array_axis, world in enumerate(order):
        affine[world, array_axis] = signs[array_axis] * spacing[array_axis]
    grid = Grid((7, 8, 9), affine)
    centres = np.moveaxis(grid.voxel_to_world(np.moveaxis(np.indices(grid.shape), 0, -1)), -1, 0)
    letters = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}
    # World axis that falls from left to right, the one that falls from top to bottom, and the one that stays.
    falls = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
    for view in orthogonal_views(grid, (3, 4, 5)):
        assert "".join(view.letters) == letters[view.name]
        right, down, across = (view.take(centres[world]) for world in falls[view.name])
        assert (np.diff(right, axis=1) == -view.pixel_mm[1]).all()
        assert (np.diff(down, axis=0) == -view.pixel_mm[0]).all()
        assert np.ptp(across) == 0
        assert view.take(grid_slice := np.zeros(view.slice_grid.shape)).shape == view.pixels == right.shape
        assert grid_slice.size == right.size
        world = view.slice_grid.voxel_to_world(np.zeros(3))
        assert np.isclose(world[falls[view.name][2]], across[0, 0])


def test_screen_displacement_points_where_the_world_vector_points():
    grid = Grid((6, 7, 8), np.diag([-1.0, 2.0, -3.0, 1.0]))
    vectors = np.zeros((3, *grid.shape), np.float32)
    vectors[0] = 5.0  # to the patient's right (R is +x, and left on the screen)
    vectors[2] = 4.0  # up
    field = Displacement.from_world(vectors, grid)
    coronal = next(v for v in orthogonal_views(grid, (3, 3, 3)) if v.name == "coronal")
    right, down = coronal.screen_displacement_mm(field.disp_vox)
    assert right == pytest.approx(-5.0)
    assert down == pytest.approx(-4.0)


def test_an_image_on_another_grid_is_read_at_the_same_world_positions():
    grid, fine = Grid((8, 9, 10), np.diag([2.0, 2, 2, 1])), Grid((16, 18, 20), np.eye(4))
    ramp = fine.voxel_to_world(np.moveaxis(np.indices(fine.shape), 0, -1))[..., 1]
    coronal = next(v for v in orthogonal_views(grid, (3, 4, 3)) if v.name == "coronal")
    assert coronal.take_image(Image(ramp, fine)) == pytest.approx(8.0)


def test_thick_slices_are_stacked_and_others_stand_in_a_row():
    thick = orthogonal_views(Grid((64, 64, 8), np.diag([1.4, 1.4, 3, 1])), (0, 0, 0))
    assert [len(column) for column in columns(thick)] == [1, 2]
    cube = orthogonal_views(Grid((64, 64, 64), np.eye(4)), (0, 0, 0))
    assert [len(column) for column in columns(cube)] == [1, 1, 1]


def test_focus_is_amid_labels_else_points_else_structure():
    grid = Grid((40, 30, 20), np.diag([1.0, 1.0, 2.0, 1.0]))
    image = Image(blob(grid, (28, 9, 12), 5.0) * 100.0, grid)
    labels = Labels(blob(grid, (8, 20, 5), 4.0).astype(np.uint8), grid)
    points = Points.from_voxel(np.array([[30.0, 5, 3]]), grid)
    assert focus_voxel(image, labels, points) == (8, 20, 5)
    assert focus_voxel(image, None, points) == (30, 5, 3)
    assert np.abs(np.array(focus_voxel(image)) - (28, 9, 12)).max() <= 1
    assert focus_voxel(Image(np.zeros(grid.shape), grid), Labels(np.zeros(grid.shape, int), grid)) == (19, 14, 9)


def test_structure_that_moves_attracts_the_focus():
    grid = Grid((40, 20, 20), np.eye(4))
    image = Image((blob(grid, (8, 10, 10), 4.0) | blob(grid, (31, 10, 10), 4.0)) * 1.0, grid)
    field = np.zeros((3, *grid.shape), np.float32)
    field[1, 24:] = 5.0
    assert focus_voxel(image, transform=Displacement(field, grid))[0] > 24


def test_windows():
    body = np.full(100, 40.0)
    assert ct_window([body, np.full(200, -1000.0)]) == SOFT_TISSUE_HU
    assert ct_window([body, np.full(100, -800.0)]) == LUNG_HU
    assert to_grey(np.array([-160.0, 40.0, 240.0, 9e9, np.nan, -np.inf]), SOFT_TISSUE_HU).tolist() == [
        0,
        127,
        255,
        255,
        0,
        0,
    ]
    low, high = robust_window([np.array([0.0] * 50 + list(range(1, 101))), np.array([np.nan])])
    assert (low, high) == (pytest.approx(2, abs=1), pytest.approx(98, abs=1))
    assert robust_window([np.full(3, np.nan)]) == (0.0, 1.0)
    assert to_grey(np.full(4, 5.0), robust_window([np.full(4, 5.0)])).tolist() == [0] * 4


def test_fusion_is_grey_where_scans_agree_and_the_checkerboard_alternates():
    a, b = np.full((16, 16), 200, np.uint8), np.full((16, 16), 50, np.uint8)
    assert fuse(a, a)[0, 0].tolist() == [200, 200, 200]
    assert fuse(a, b)[0, 0].tolist() == [50, 200, 50]
    board = checkerboard(a, b, (1.0, 2.0), squares=4)  # the longer side is 32 mm, a square 8 mm: 8 rows, 4 columns
    assert (board[0, 0], board[7, 3], board[8, 0], board[0, 4]) == (200, 200, 50, 50)


def test_pictures_are_reduced_to_a_bound():
    from PIL import Image as Picture

    uri = data_uri(np.zeros((2000, 1000, 3), np.uint8))
    picture = Picture.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    assert picture.size == (LONGEST_SIDE // 2, LONGEST_SIDE)


def test_outline_of_a_box_is_its_border_in_mm():
    view = orthogonal_views(Grid((20, 20, 4), np.diag([-2.0, -3.0, 5.0, 1.0])), (0, 0, 0))[0]
    mask = np.zeros(view.pixels, bool)
    mask[0:4, 5:10] = True  # rows of 3 mm, columns of 2 mm; touches the upper edge
    numbers = np.array([[float(v) for v in p.split(",")] for p in outline(mask, view).strip("MZ").split(" ")])
    assert numbers.min(axis=0).tolist() == [10.0, 0.0]
    assert numbers.max(axis=0).tolist() == [20.0, 12.0]
    assert len(numbers) == 8


def test_deformed_grid_lines_are_straight_for_a_shift_and_move_against_it():
    grid = Grid((48, 48, 2), np.diag([-1.0, -1.0, 1.0, 1.0]))
    view = next(v for v in orthogonal_views(grid, (0, 0, 0)) if v.name == "axial")
    shift = np.zeros((3, *grid.shape), np.float32)
    shift[0] = 0.5  # half a millimetre to the right of the screen
    assert line_distance_mm([(view, shift)]) == 2.0
    path = deformed_grid(shift, view, 2.0)
    upright = [line for line in path.split("M")[1:] if len({p.split(",")[0] for p in line.split(" ")}) == 1]
    # A grid line at 2 n mm on the moving scan is found half a millimetre further left on the fixed one.
    assert {float(line.split(",")[0]) % 2 for line in upright} == {1.5}
    assert len(upright) == 23


def test_jacobian_colours_are_centred_on_one_and_folds_stand_out():
    values = np.array([[0.5, 1.0, 2.0, -0.1, np.nan]], np.float32)
    scale = jacobian_scale([values])
    assert scale.low * scale.high == pytest.approx(1.0)
    assert scale.ticks()[1] == "1"
    small, same, large, fold, unknown = mark_folds(scale.paint(values), values)[0].tolist()
    assert min(same) > 240
    assert small[2] > small[0]
    assert large[0] > large[2]
    assert tuple(fold) == FOLD_COLOUR
    assert unknown == [UNKNOWN_GREY] * 3
    seen = scale.paint(values, np.full(values.shape, 7, np.uint8))[0]
    assert seen[4].tolist() == [7] * 3
    assert seen[1].tolist() == same  # the scan behind changes no colour


def test_magnitudes_start_at_zero():
    assert magnitude_scale([np.linspace(200, 210, 500)], "viridis", 1.0) == ColourScale("viridis", 0.0, 209.95)
    assert magnitude_scale([np.full(3, np.nan)], "viridis", 1.0) == ColourScale("viridis", 0.0, 1.0)
    assert magnitude_scale([np.zeros(3)], "viridis", 1.0).high == 1.0


def test_a_curve_falls_from_the_first_to_the_last_value_and_skips_gaps():
    drawn = curve("refine", [3.0, 2.0, float("nan"), 1.0])
    assert drawn is not None
    assert drawn.path == "M0.0,0.0L100.0,45.0M300.0,90.0"
    assert (drawn.first, drawn.last, drawn.iterations) == ("3", "1", 4)
    assert (drawn.low, drawn.high) == ("1", "3")
    assert curve("empty", [float("inf"), 1.0]) is None
    long = curve("long", list(range(5000)))
    assert long is not None
    assert long.path.count("L") < 500


def test_real_scans_fit_the_page(shared_data):
    import nibabel

    file = nibabel.load(next(iter(sorted((shared_data / "cardiac_mr" / "images").glob("*_ED*")))))
    data = np.asanyarray(file.dataobj)
    image = Image(data, Grid(data.shape, file.affine), "ED")
    text = render(make_report(image.grid, fixed=image, moving=image))
    assert len(Page(text).pictures) == 30
    assert len(text) < 3_000_000


@pytest.mark.parametrize("kind", ["noise", "huge", "not finite", "one voxel", "far away"])
def test_grid_lines_of_an_absurd_field_are_bounded(kind):
    grid = Grid((96, 80, 2), np.diag([-1.0, -1.0, 1.0, 1.0]))
    view = next(v for v in orthogonal_views(grid, (0, 0, 0)) if v.name == "axial")
    noise = np.random.default_rng(0).normal(size=(3, *grid.shape)).astype(np.float32)
    field = {
        "noise": 300 * noise,
        "huge": 1e30 * noise,
        "not finite": np.full_like(noise, np.nan),
        "one voxel": np.where(np.arange(96)[:, None, None] == 40, np.float32(np.inf), 0 * noise),
        "far away": np.full_like(noise, 1e5),
    }[kind]
    distance_mm = line_distance_mm([(view, field)])
    path = deformed_grid(field, view, distance_mm)
    assert path.count(",") < 3 * MOST_POINTS  # the lines of a level are joined at corners as well
    assert "nan" not in path
    if kind in ("one voxel", "far away"):  # what is usual is drawn as ever
        assert distance_mm == 5.0
        assert path.count("M") > 30


def test_the_uncertainty_is_shown_with_the_place_to_look_at_first():
    report = make_report()
    coarse = report.fixed.grid.pooled((4, 4, 4))
    unsure = np.full(coarse.shape, 2.0, np.float32)
    unsure[0] = np.nan
    found = Uncertainty(Image(unsure, coarse), 2.0, 5.0, (-20.4, -10.0, 30.0), (10, 5, 10), 6.25)
    page = Page(render(make_report(uncertainty=found)))
    assert "Look first at RAS -20, -10, 30 mm (voxel 10, 5, 10): 6.2 mm around there." in page.text
    assert len(page.pictures) == len(Page(render(report)).pictures) + 3


def test_labels_have_their_names_and_colours():
    text = render(make_report(label_names={3: EVIL}, label_colours={3: "#123456"}))
    page = Page(text)
    assert f"{EVIL} (3)" in page.text
    assert "--label-names" not in page.text
    assert text.count("--colour:#123456") == 3 * 3  # fixed, before and after in three views
    assert "--label-names" in Page(render(make_report())).text


def test_sentences_of_the_verdict_name_labels():
    base = make_report()
    assert base.metrics is not None
    metrics = dataclasses.replace(base.metrics, after=Numbers.of(dice={3: 0.0}, similarity=0.5))
    words = Page(render(make_report(metrics=metrics, verdict=verdict(metrics), label_names={3: EVIL}))).words
    assert f"poor: mean Dice 0.000 (lowest 0.000, {EVIL} (3))" in words
    assert f"1 of 1 labels end without overlap: {EVIL} (3)" in words
    assert "label 3" not in words
    named = Named({3: "liver", 4: "spleen"})
    assert named.in_text("label 3 and label 31") == "liver (3) and label 31"
    assert (
        named.in_text("lost: labels 3, 4 and 2 more; labels 3, 5")
        == "lost: liver (3), spleen (4) and 2 more; labels 3, 5"
    )


def test_landmarks_are_listed_worst_first():
    grid = Grid((24, 20, 16), np.diag([-2.0, -2.0, 3.0, 1.0]))
    fixed = Points(np.array([[0.0, 0, 0], [10, 0, 0]]), ("near", EVIL))
    moving = Points(np.array([[-2.0, 0, 0], [3, 0, 4]]), ("near", EVIL))  # the map of the report adds (-2, 0, 0)
    page = Page(render(make_report(grid, fixed_points=fixed, moving_points=moving)))
    assert (
        f"Landmark position, RAS mm error, mm fixed moving before after {EVIL} 10.0, 0.0, 0.0 3.0, 0.0, 4.0 8.06 6.40 "
        "near 0.0, 0.0, 0.0 -2.0, 0.0, 0.0 2.00 0.00"
    ) in page.words
    assert "position, RAS mm" not in Page(render(make_report(fixed_points=fixed))).text


def test_before_and_after_have_heads_and_checks_say_what_they_measure():
    text = Page(render(make_report())).words
    assert "Label Dice HD95, mm Average surface distance, mm before after before after before after" in text
    assert "the map does not fold voxels where the map folds (det J ≤ 0): 0 %, limit 0.1 %" in text


def test_files_are_listed_with_what_they_are():
    text = render(make_report(files=[("warped.nii.gz", "the moving scan on the fixed grid"), (EVIL, EVIL)]))
    assert '<a href="warped.nii.gz">warped.nii.gz</a></dt><dd>the moving scan on the fixed grid</dd>' in text
    assert "<script>alert" not in text


def test_the_true_error_is_told_where_it_is_known():
    true = {"before": {"mean": 15.27, "p95": 25.9, "max": 31.0}, "after": {"mean": 2.04, "p95": 5.36, "max": 11.9}}
    text = Page(render(make_report(true_error_mm=true))).words
    assert "True error 15.27 → 2.04 mm mean inside the body; the true map is known" in text
    assert "largest 31.00 11.90" in text
    assert "True error" not in Page(render(make_report())).text


def test_a_page_without_the_viewer_is_small_and_holds_no_scans():
    text = render(make_report(viewer=False))
    assert "niivue" not in text.lower()
    assert len(text) < 400_000
    assert text.count("sha256-") == 1  # of the page's own script
