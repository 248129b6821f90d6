"""The benchmark of the start: what is done to a scan is known exactly, and judged on the scan as it was."""

import sys
from pathlib import Path

import numpy as np
import pytest

from anamorph.geometry import Grid
from anamorph.image import Image, Labels
from anamorph.methods.linear_start import linear_start
from anamorph.methods.working_frame import Scan
from anamorph.transforms import Affine

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.start import disturb  # noqa: E402
from benchmarks.start.cases import Case, all_cases, axes, sampled  # noqa: E402
from benchmarks.start.disturb import View  # noqa: E402
from benchmarks.start.run import RESULTS, Bench  # noqa: E402
from benchmarks.start.sources import Subject, sources, split_of  # noqa: E402
from benchmarks.start.success import judge  # noqa: E402
from benchmarks.start.table import append, read_rows, summary  # noqa: E402
from benchmarks.start.tools import Answer  # noqa: E402

GRID = Grid((24, 20, 16), np.array([[-2.0, 0, 0, 30], [0, -1.5, 0, 7], [0, 0, 3.0, -5], [0, 0, 0, 1]]))
RNG = np.random.default_rng(0)


def scan():
    """A linear ramp of the world, so that a value tells where a voxel comes from."""
    places = GRID.voxel_to_world(np.stack(np.indices(GRID.shape), -1))
    return Image((500 + places @ [3.0, 5.0, 7.0]).astype(np.float32), GRID)


def value_at(view, points_mm):
    """The values of a disturbed scan at points of the scan's own world."""
    vox = view.image.grid.world_to_voxel(view.moved.map_world(points_mm))
    return view.image.data[0][tuple(np.rint(vox).astype(int).T)]


@pytest.mark.parametrize(
    "change",
    [
        lambda view: disturb.rotated(view, np.array([1.0, 2, 3]), 77),
        lambda view: disturb.shifted(view, np.array([5.0, -80, 3])),
        lambda view: disturb.without_header(view),
        lambda view: disturb.padded(view, 0.4, -1024, RNG),
        lambda view: disturb.without_header(disturb.cropped(view, 1, "high", 0.75)),
    ],
)
def test_the_map_of_a_disturbance_leads_to_the_same_voxel(change):
    image = scan()
    view = change(View.of(image))
    vox = np.stack(np.meshgrid(*[np.arange(n // 2, n - 1) for n in GRID.shape], indexing="ij"), -1).reshape(-1, 3)
    np.testing.assert_array_equal(value_at(view, GRID.voxel_to_world(vox)), image.data[0][tuple(vox.T)])


def test_a_resampled_scan_covers_the_turned_one_and_lies_along_the_world():
    turned = disturb.rotated(View.of(scan()), np.array([0.0, 0, 1]), 90)
    view = disturb.resampled(turned)
    np.testing.assert_allclose(view.image.grid.directions, np.eye(3))
    assert view.image.grid.contains(turned.image.grid.corners_mm(), 0.51).all()
    inner = GRID.voxel_to_world(np.array([[10, 9, 8], [12, 5, 6]]))
    np.testing.assert_allclose(value_at(view, inner), value_at(View.of(scan()), inner), atol=15)


def test_a_crop_knows_what_is_left_of_the_field_of_view():
    view = disturb.cropped(View.of(scan()), 0, "low", 0.25)
    assert view.image.grid.shape == (6, 20, 16)
    assert view.seen.contains(GRID.voxel_to_world(np.array([[0.0, 0, 0], [5, 19, 15]]))).all()
    assert not view.seen.contains(GRID.voxel_to_world(np.array([[6.0, 0, 0]]))).any()


def boxes():
    labels = np.zeros(GRID.shape, np.uint8)
    labels[4:10, 6:14, 4:12] = 1
    labels[14:20, 6:14, 4:12] = 2
    image = Image((1000.0 * (labels > 0)).astype(np.float32), GRID)
    return Subject(image, image, Labels(labels, GRID), Labels(labels, GRID))


def judged(disturbance, parameter, found):
    case = Case("hippocampus", disturbance, parameter, 0, "dev")
    subject = boxes()
    views = case.views(subject)
    return judge(case, subject, views, found(views), Affine.identity(), False)


def test_a_result_that_undoes_the_disturbance_is_right_and_one_that_ignores_it_is_not():
    for case in ("rotate/axis05/120", "wrong_header/040mm/direction1", "lost_header/moving"):
        disturbance, _, parameter = case.partition("/")
        right = judged(disturbance, parameter, lambda views: views[1].moved)
        assert right.success is True
        assert right.figure == pytest.approx(1, abs=0.01)
        wrong = judged(disturbance, parameter, lambda views: Affine.identity())
        assert wrong.success is False
        assert wrong.figure == wrong.before < 0.5


def test_nothing_is_right_by_being_as_wrong_as_the_undisturbed_result():
    case = Case("hippocampus", "rotate", "axis05/120", 0, "dev")
    subject = boxes()
    views = case.views(subject)
    away = Affine.translation(np.array([500.0, 0, 0]))
    assert judge(case, subject, views, away, away, False).success is False
    assert judge(case, subject, views, views[1].moved, away, False).success is True


def test_a_crop_is_judged_by_what_both_scans_show():
    # The second box is outside the quarter that is left of the moving scan: it does not count.
    shown = judged("crop", "moving/axis0/low/050", lambda views: Affine.identity())
    assert shown.success is True
    assert shown.figure == 1
    assert judged("crop", "moving/axis1/low/025", lambda views: Affine.identity()).success is None


@pytest.mark.parametrize("name", ["hippocampus/exact/affine", "phantom/exact_phantom/affine"])
def test_exact_maps_are_judged_by_their_own_truth(name):
    case = Case(*name.split("/"), 3, "dev")
    subject = case.source.load(ROOT) if case.dataset == "phantom" else boxes()
    views = case.views(subject)
    assert judge(case, subject, views, subject.truth or views[1].moved, None, False).figure < 1e-3
    assert judge(case, subject, views, Affine.identity(), None, False).success is False


def test_swapped_results_must_undo_each_other():
    assert judged("swapped", "as_is", lambda views: Affine.identity()).success is True
    off = judged("swapped", "as_is", lambda views: Affine.translation(np.array([1.0, 0, 0])))
    assert off.success is False
    assert off.figure == pytest.approx(1)


def test_the_list_is_the_same_every_time_and_a_sample_is_even():
    names = [case.name for case in all_cases()]
    assert len(names) == len(set(names))
    assert "abdomen_ct/rotate/axis03/090/pair2" in names
    cases = list(all_cases())
    some = sampled(cases, 150, 3)
    assert some == sampled(cases, 150, 3)
    counts = {}
    for case in some:
        counts[case.dataset, case.disturbance] = counts.get((case.dataset, case.disturbance), 0) + 1
    assert len(counts) == len({(case.dataset, case.disturbance) for case in cases})


@pytest.mark.parametrize(
    "sets", [("hippocampus",), ("head_neck_ct",), ("cardiac_mr", "hearts"), ("fetal_brain_mr",), ("brain_ms_mr",)]
)
def test_no_patient_is_for_tuning_and_for_proof(sets):
    """Three abdomens and one pair of lungs are too few: their pairs are divided, and patients are on both sides."""
    sides = {"dev": set(), "test": set()}
    for dataset in sets:
        split = split_of(dataset)
        for source in sources(dataset):
            sides[split[source.number]].update(source.patients)
    assert sides["dev"]
    assert sides["test"]
    # Both phases of a heart are one patient.
    assert not sides["dev"] & sides["test"]


def test_axes_are_well_spread():
    for split in ("dev", "test"):
        cosines = np.abs(axes(split) @ axes(split).T) - np.eye(12)
        assert np.degrees(np.arccos(cosines.max())) > 35
    assert np.degrees(np.arccos(np.abs(axes("dev") @ axes("test").T).max())) > 10


def test_a_row_cut_short_is_left_out_and_the_next_one_is_whole(tmp_path):
    path = tmp_path / RESULTS
    append(path, {"tool": "a", "case": "x", "set": "s", "disturbance": "d", "success": True, "wall_s": 1.0})
    with path.open("a") as file:
        file.write("a,y,s")
    append(path, {"tool": "a", "case": "z", "set": "s", "disturbance": "d", "success": False, "wall_s": 3.0})
    rows = read_rows(path)
    assert [row["case"] for row in rows] == ["x", "z"]
    assert "| s | 1/2 | 1/2 | 2.0 |" in summary(rows)


def test_finished_cases_are_not_run_again_and_undisturbed_ones_once(tmp_path):
    calls = []

    def tool(fixed, moving):
        calls.append(moving.grid)
        return Answer(Affine.identity(), 0.1, 0.1)

    cases = [case for case in all_cases() if case.name.startswith("phantom/exact_phantom/identity/")][:1]
    bench = Bench("stub", tool, tmp_path, tmp_path / "out")
    for _ in range(2):
        bench.run(cases)
    assert len(calls) == 1
    (row,) = read_rows(tmp_path / "out" / RESULTS)
    assert (row["success"], float(row["figure"])) == ("yes", 0)


def test_a_translated_ct_is_not_left_where_its_noise_agrees_best(shared_data):
    case = Case("abdomen_ct", "exact", "translation", 0, "dev")
    fixed, moving = case.views(case.source.load(shared_data))
    found = linear_start(Scan.prepare(fixed.image, None), Scan.prepare(moving.image, None), "affine").transform
    places = fixed.image.grid.sites_mm().reshape(-1, 3)[::97]
    error_mm = np.linalg.norm(found.map_world(places) - moving.moved.map_world(places), axis=1).mean()
    assert error_mm < 0.1 * fixed.image.grid.voxel_mm
