"""The map of uncertainty: where it is, what it is worth, and which result has one."""

from __future__ import annotations

import json
from itertools import pairwise

import nibabel
import numpy as np
import pytest

import anamorph
from anamorph.discrete.cost_volume import CostVolume
from anamorph.evaluation.uncertainty import NOT_ESTIMATED, inside_body, judge_uncertainty
from anamorph.features.mind_ssc import mind_ssc
from anamorph.geometry.grid import Grid
from anamorph.image import Image
from anamorph.methods.base import Outcome
from anamorph.methods.convex import Convex
from anamorph.methods.deeds import Deeds
from anamorph.methods.descriptors import DescribedPair
from anamorph.methods.pyramid import Pyramid
from anamorph.methods.uncertainty import FACTOR, evidence_bytes, spread_mm, uncertainty_mm
from anamorph.runtime.threads import limited_threads
from anamorph.testing.pairs import SHEAR, centred, pair_of, rotation
from anamorph.transforms.maps import Affine, Displacement

SHAPE = (26, 24, 22)


def described(weight: np.ndarray | None = None, noise: float = 0.0) -> DescribedPair:
    """One half with texture, the other without; the second scan with noise of its own."""
    random = np.random.default_rng(0)
    scan = random.standard_normal(SHAPE).astype(np.float32)
    scan[SHAPE[0] // 2 :] = 0
    scans = [scan + noise * random.standard_normal(SHAPE).astype(np.float32) for _ in range(2)]
    ones = np.ones(SHAPE, np.float32)
    fixed, moving = (mind_ssc(one, (1, 1, 1), (1, 1, 1), (1, 1, 1)) for one in scans)
    return DescribedPair(fixed, ones if weight is None else weight, moving, ones)


def map_of(pair: DescribedPair, grid: Grid) -> Image:
    still = Displacement(np.zeros((3, *grid.shape), np.float32), grid)
    return uncertainty_mm(pair, Pyramid.plan(grid, 0, grid.finest_mm), still)


def test_the_map_lies_on_cells_of_the_fixed_scan():
    grid = centred(SHAPE, rotation((20, -10, 35)), (1.5, 1.5, 1.5))
    weight = np.ones(SHAPE, np.float32)
    weight[:4] = 0
    found = map_of(described(weight), grid)
    assert found.grid == grid.pooled((2, 2, 2))
    assert found.data.dtype == np.float32
    assert np.isnan(found.data[0, :2]).all()
    assert np.isfinite(found.data[0, 2:]).all()


def test_places_without_texture_are_less_certain():
    found = map_of(described(noise=0.05), Grid(SHAPE, np.eye(4))).data[0]
    textured, plain = found[1:5, 1:-1, 1:-1], found[8:-1, 1:-1, 1:-1]
    assert np.median(plain) > 2 * np.median(textured)


def test_the_map_is_in_millimetres():
    pair = described(noise=0.05)
    one, two = (map_of(pair, Grid(SHAPE, np.diag([mm, mm, mm, 1.0]))) for mm in (1.0, 2.0))
    np.testing.assert_allclose(two.data, 2 * one.data, rtol=1e-6)


def test_the_bits_do_not_depend_on_the_number_of_threads():
    pair, maps = described(noise=0.05), []
    for threads in (1, 2, 3):
        with limited_threads(threads):
            maps.append(map_of(pair, Grid(SHAPE, np.eye(4))).data)
    for one, other in pairwise(maps):
        np.testing.assert_array_equal(one, other)


def test_the_spread_of_costs_that_are_known():
    flat = np.zeros((6, 6, 6, 16), np.float32)
    costs = CostVolume(flat, np.ones((6, 6, 6), np.float32), flat, (2, 2, 2), (1, 1, 1), (1, 0, 2), 2**30)
    table = np.full((3, 3, 3, 15), 1e9, np.float32)
    table[..., 7] = 1  # no displacement, along the third axis by -2 and along the first by 1
    table[0, 0, 0, 5] = 1
    table[0, 0, 1, 12] = 1
    table[0, 0, 2] = 1
    costs._whole = table
    found = spread_mm(costs, np.array([3.0, 1.0, 0.5]))
    assert found[1, 1, 1] == 0
    assert found[0, 0, 0] == pytest.approx(np.sqrt(1.0**2 / 2))
    assert found[0, 0, 1] == pytest.approx(np.sqrt(3.0**2 / 2))
    assert found[0, 0, 2] == pytest.approx(np.sqrt(9.0 * 2 / 3 + 0.25 * 2))


def test_a_map_of_the_leading_scan_is_brought_to_the_other_one():
    leading, other = Grid((8, 8, 8), np.diag([2.0, 2, 2, 1])), centred((20, 18, 16), SHEAR, (1.0, 1.0, 1.0))
    values = np.arange(8, dtype=np.float32)[:, None, None] * np.ones((8, 8, 8), np.float32)
    shift = Affine.translation(np.array([-5.0, -6, -7]))
    found = Outcome(shift, shift.inverse(), uncertainty_mm=Image(values, leading)).exchanged(other).uncertainty_mm
    assert found is not None
    assert found.grid.finest_mm == pytest.approx(2.0)
    places = found.grid.voxel_to_world(np.moveaxis(np.indices(found.grid.shape), 0, -1))
    there = leading.world_to_voxel(shift.inverse().map_world(places.reshape(-1, 3))).reshape(places.shape)
    inside = ((there >= 0) & (there <= 7)).all(axis=-1)
    assert inside.sum() > 50
    np.testing.assert_allclose(found.data[0][inside], there[inside, 0], atol=1e-4)
    assert np.isnan(found.data[0][~leading.contains(places + np.array([5.0, 6, 7]), 0.6)]).all()


def test_where_to_look_first_lies_in_the_body():
    fine, coarse = Grid((40, 40, 20), np.diag([-1.0, -1, 2, 1])), Grid((20, 20, 10), np.diag([-2.0, -2, 4, 1]))
    scan = np.zeros((40, 40, 20), np.float32)
    scan[10:34, 8:30] = 100
    scan[20:24, 18:22] = 0  # a cavity
    fixed = Image(scan, fine)
    body = inside_body(fixed, coarse)
    assert body[11, 10].all()
    assert not body[0].any()
    unsure = np.ones((20, 20, 10), np.float32)
    unsure[:3] = 50
    unsure[9:14, 6:11, 3:7] = 6
    found = judge_uncertainty(Image(unsure, coarse), fixed)
    assert found is not None
    np.testing.assert_allclose(found.look_first_ras_mm, (-22, -16, 18), atol=4.1)
    assert fine.voxel_to_world(np.array(found.look_first_voxel)) == pytest.approx(found.look_first_ras_mm, abs=1.0)
    assert found.median_mm == 1
    assert 1 < found.look_first_mm <= 6
    assert judge_uncertainty(None, fixed) is None
    assert judge_uncertainty(Image(unsure * np.nan, coarse), fixed) is None


@pytest.mark.parametrize("method", [Convex, Deeds])
def test_the_memory_of_the_map_is_foreseen(method):
    grid = Grid((96, 96, 96), np.eye(4))
    small = {"grid_spacing": (8,), "search_radius": (1,), "quantisation": (1,)}
    if method is Convex:
        small = {"search_scales": (4,), "search_cells": (4,), "search_radius_mm": (4.0,)}
    config = method.Config(init="world", **small)
    pyramid = config.pyramid(grid)
    described_bytes = 4 * 5 * 16 * int(np.prod(pyramid.base.shape))
    assert method(config).led_bytes(grid, grid) >= described_bytes + evidence_bytes(pyramid)


@pytest.mark.parametrize("method", ["convex", "deeds"])
def test_a_result_has_the_map_in_its_files_and_its_report(tmp_path, method):
    pair = pair_of(shape=(36, 30, 32), seed=3, translation_mm=6.0, rotation_deg=2.0, scale=0.03)
    settings = {"init": "world", "refine_iterations": (3, 3)}
    result = anamorph.register(pair.fixed, pair.moving, method=method, settings=settings)
    assert result.uncertainty_mm is not None
    result.save(tmp_path / "out")
    written = nibabel.load(tmp_path / "out" / "uncertainty_mm.nii.gz")
    np.testing.assert_allclose(written.affine, result.uncertainty_mm.grid.affine, atol=1e-4)
    np.testing.assert_allclose(written.get_fdata(), result.uncertainty_mm.data[0])
    told = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))["uncertainty"]
    assert 0 < told["median_mm"] < told["p95_mm"]
    assert "50 to 87 of 100" in told["calibration"]
    a, b, c = told["look_first_voxel"]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert f"(voxel {a}, {b}, {c})" in page


def test_a_start_alone_has_no_map(tmp_path):
    pair = pair_of(shape=(24, 20, 22), seed=3)
    result = anamorph.register(pair.fixed, pair.moving, method="affine", settings={"init": "world"})
    result.save(tmp_path / "out")
    assert result.uncertainty_mm is None
    assert not (tmp_path / "out" / "uncertainty_mm.nii.gz").exists()
    told = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))["uncertainty"]
    assert told == NOT_ESTIMATED
    assert "Uncertainty" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_the_factor_of_the_calibration_is_applied():
    pair, grid = described(noise=0.05), Grid(SHAPE, np.eye(4))
    costs = CostVolume(
        pair.fixed, pair.fixed_weight, pair.moving, (2, 2, 2), (1, 1, 1), (2, 2, 2), 2**30, (1, 1, 1)
    )  # fmt: skip
    np.testing.assert_allclose(map_of(pair, grid).data[0], FACTOR * spread_mm(costs, np.ones(3)), rtol=1e-5)


def test_cavities_belong_to_the_body_unless_they_are_open_in_their_slice() -> None:
    scan = np.zeros((9, 9, 3), np.float32)
    scan[2:7, 2:7] = 1
    scan[3:6, 3:6] = 0
    scan[4, 6, 1] = 0  # the ring of the slice in the middle is open; those beside it are closed
    grid = Grid(scan.shape, np.eye(4))
    expected = scan > 0
    expected[2:7, 2:7, [0, 2]] = True
    np.testing.assert_array_equal(inside_body(Image(scan[None], grid), grid), expected)
