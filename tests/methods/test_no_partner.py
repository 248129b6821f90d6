"""What one scan alone shows: found in both directions, left out, and nothing found where nothing is missing."""

from pathlib import Path

import numpy as np
import pytest

import anamorph
from anamorph.geometry.grid import Grid
from anamorph.image.image import Image, Labels, Mask
from anamorph.methods.working_frame import Scan
from anamorph.phantom import make_pair
from anamorph.phantom.inserts import UnmatchedPair, make_growth_pair, make_resection_pair
from anamorph.registration.result import Result
from anamorph.transforms.maps import Affine

LOOKING = {"find_no_partner": True}
SHAPE = (72, 60, 66)


@pytest.fixture(scope="module")
def resected() -> UnmatchedPair:
    return make_resection_pair(SHAPE, seed=2, hu=-1000)


@pytest.fixture(scope="module")
def looked(resected: UnmatchedPair) -> Result:
    return anamorph.register(resected.scans.fixed, resected.scans.moving, settings=LOOKING)


def errors_mm(made: UnmatchedPair, result: Result) -> tuple[float, float]:
    """Mean error of the map within 15 mm of the cavity, and more than 30 mm away."""
    from scipy.ndimage import distance_transform_edt

    grid = made.scans.fixed.grid
    maps = made.scans.true_fixed_to_moving, result.fixed_to_moving
    wanted, found = (transform.displacement_on(grid).disp_vox for transform in maps)
    error = np.linalg.norm((found - wanted) * grid.spacing_mm.reshape(3, 1, 1, 1), axis=0)
    away = distance_transform_edt(made.fixed_only.data[0] == 0, sampling=grid.spacing_mm)
    body = made.scans.fixed.data[0] > -500
    return float(error[body & (away > 0) & (away < 15)].mean()), float(error[body & (away > 30)].mean())


def dice(found: Image, truth: Labels) -> float:
    here = Affine.identity().warp_image(found, truth.grid, background=0).data[0] > 0.5
    return 2 * float((here & (truth.data[0] > 0)).sum()) / float(here.sum() + truth.data.sum())


def test_a_cavity_is_found_in_both_scans_and_no_longer_pulls(resected: UnmatchedPair, looked: Result) -> None:
    plain = anamorph.register(resected.scans.fixed, resected.scans.moving)
    assert plain.outcome.no_partner is None
    assert plain.no_partner is None
    found = looked.outcome.no_partner
    assert found is not None
    assert dice(found[0], resected.fixed_only) > 0.7
    assert dice(found[1], resected.moving_only) > 0.55
    before, after = errors_mm(resected, plain), errors_mm(resected, looked)
    assert after[0] < 0.5 * before[0]
    assert abs(after[1] - before[1]) < 0.1


def test_the_regions_say_how_much_and_where(resected: UnmatchedPair, looked: Result) -> None:
    found = looked.no_partner
    assert found is not None
    assert len(found.regions[0]) == 1
    region = found.regions[0][0]
    voxels = np.argwhere(resected.fixed_only.data[0])
    middle = resected.fixed_only.grid.voxel_to_world(voxels.mean(axis=0))
    np.testing.assert_allclose(region.middle_ras_mm, middle, atol=4)
    assert region.volume_ml == pytest.approx(4 / 3 * np.pi * 1.8**3, rel=0.6)
    assert found.lines()[0].startswith("fixed scan: 1 region has no partner: ")
    assert set(found.as_dict()) == {"fixed", "moving"}


def test_exchanged_scans_exchange_the_maps(resected: UnmatchedPair, looked: Result) -> None:
    other = anamorph.register(resected.scans.moving, resected.scans.fixed, settings=LOOKING).outcome.no_partner
    found = looked.outcome.no_partner
    assert found is not None
    assert other is not None
    for mine, theirs in zip(found, other[::-1], strict=True):
        assert mine.grid == theirs.grid
        np.testing.assert_array_equal(mine.data, theirs.data)


def test_deeds_finds_it_too(resected: UnmatchedPair) -> None:
    found = anamorph.register(resected.scans.fixed, resected.scans.moving, method="deeds", settings=LOOKING)
    assert found.outcome.no_partner is not None
    assert dice(found.outcome.no_partner[0], resected.fixed_only) > 0.65


def test_a_lesion_that_grew_is_found_in_the_scan_that_shows_it() -> None:
    made = make_growth_pair(SHAPE, seed=0)
    found = anamorph.register(made.scans.fixed, made.scans.moving, settings=LOOKING).outcome.no_partner
    assert found is not None
    assert dice(found[1], made.moving_only) > 0.7


def test_where_all_has_a_partner_nothing_is_found_and_nothing_changes() -> None:
    pair = make_pair(SHAPE, seed=1)
    plain = anamorph.register(pair.fixed, pair.moving)
    looking = anamorph.register(pair.fixed, pair.moving, settings=LOOKING)
    assert looking.outcome.no_partner is None
    fields = (result.fixed_to_moving.displacement_on(pair.fixed.grid).disp_vox for result in (plain, looking))
    np.testing.assert_array_equal(*fields)


def test_the_folder_holds_maps_regions_and_a_panel(looked: Result, tmp_path: Path) -> None:
    saved = looked.save(tmp_path / "out")
    for name, found, role in zip(
        ("no_partner", "moving_no_partner"), looked.outcome.no_partner or (), ("fixed", "moving"), strict=True
    ):
        read = anamorph.read_image(tmp_path / "out" / f"{name}.nii.gz")
        np.testing.assert_array_equal(read.data, found.data)
        assert saved.record["no_partner"][role][0]["volume_ml"] > 4
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Fixed scan: 1 region has no partner" in page


def test_a_given_mask_takes_its_voxels_out_exactly(resected: UnmatchedPair) -> None:
    from scipy.ndimage import binary_dilation

    fixed = resected.scans.fixed
    made = Mask(binary_dilation(resected.fixed_only.data[0]).astype(np.uint8), fixed.grid)
    values = np.where(made.data > 0, np.random.default_rng(0).integers(-1000, 1000, made.data.shape), fixed.data)
    scans = fixed, Image(values.astype(fixed.data.dtype), fixed.grid, fixed.name)
    results = [anamorph.register(scan, resected.scans.moving, no_partner=made) for scan in scans]
    fields = [result.fixed_to_moving.displacement_on(fixed.grid).disp_vox for result in results]
    np.testing.assert_array_equal(*fields)
    plain = anamorph.register(fixed, resected.scans.moving)
    assert errors_mm(resected, results[0])[0] < 0.5 * errors_mm(resected, plain)[0]
    told = results[0].no_partner
    assert told is not None
    assert told.maps[0] is not None
    np.testing.assert_array_equal(told.maps[0].data, made.data)
    assert told.maps[1] is None


def test_without_comparable_intensities_a_warning_says_so(resected: UnmatchedPair) -> None:
    fixed = resected.scans.fixed
    result = anamorph.register(
        fixed, resected.scans.moving, settings=LOOKING | {"intensity_weight": 0.0, "init": "world"}
    )
    assert result.outcome.no_partner is None
    assert any("what has no partner was not looked for" in line for line in result.warnings)


def test_a_scan_without_voxels_takes_the_values_around_them() -> None:
    values = np.zeros((1, 12, 12, 12), np.float32)
    values[:, 6:] = 1
    inside = np.zeros((12, 12, 12), bool)
    inside[2:4, 5:8, 9:] = True  # as far as the border
    values[0][inside] = 9
    scan = Scan(values, np.ones(inside.shape, np.float32), Grid((12, 12, 12), spacing_mm=2.0))
    left = scan.without(inside)
    assert left.channels.max() == 1
    assert (left.channels[0][inside] == 0).all()
    np.testing.assert_array_equal(left.weight == 0, inside)
    assert scan.channels.max() == 9
