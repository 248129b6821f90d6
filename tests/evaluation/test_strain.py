"""Strain of labelled tissue against maps whose strain is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from anamorph import Affine, Labels, measure_strain
from anamorph.evaluation.strain import StrainMeter, green_lagrange, long_axis
from anamorph.geometry import Grid
from anamorph.phantom.ventricle import CAVITY, WALL, VentricleMotion, make_beat
from geometries import affine_of, rotation

BEAT = make_beat(frames=2, shape=(48, 48, 40), spacing_mm=2.0, squeeze=0.25, shortening=0.1)


def stretch(*factors: float) -> Affine:
    return Affine(np.diag([*factors, 1.0]))


def test_an_even_stretch_is_exact():
    strain = measure_strain(stretch(1.2, 1.2, 0.8), BEAT.labels[0])[WALL]
    assert strain.radial == pytest.approx((1.2**2 - 1) / 2, abs=1e-5)
    assert strain.circumferential == pytest.approx((1.2**2 - 1) / 2, abs=1e-5)
    assert strain.longitudinal == pytest.approx((0.8**2 - 1) / 2, abs=1e-5)
    assert strain.largest == pytest.approx((1.2**2 - 1) / 2, abs=1e-5)
    assert strain.smallest == pytest.approx((0.8**2 - 1) / 2, abs=1e-5)


def test_turning_is_no_strain():
    matrix = np.eye(4)
    matrix[:3, :3] = rotation((0.3, -0.2, 0.5))
    matrix[:3, 3] = 4, -7, 2
    strain = measure_strain(Affine(matrix), BEAT.labels[0])[WALL]
    for value in (strain.radial, strain.circumferential, strain.longitudinal, strain.largest, strain.smallest):
        assert value == pytest.approx(0, abs=1e-6)


def test_a_wall_that_thickens_has_its_known_strain():
    found = StrainMeter(BEAT.labels[0]).measure(BEAT.motions[1])[WALL]
    assert found.circumferential == pytest.approx(BEAT.mean_strain(1, 1), abs=0.005)
    assert found.longitudinal == pytest.approx(BEAT.mean_strain(1, 2), abs=0.005)
    # Differences over two voxels reach out of the wall, which thickens where nothing else does.
    assert found.radial == pytest.approx(BEAT.mean_strain(1, 0), abs=0.04)
    assert found.radial > 0.2
    assert found.circumferential < -0.08


@pytest.mark.parametrize("direction", [np.eye(3), rotation((0.4, 0.3, -0.2))], ids=["straight", "oblique"])
def test_the_axis_of_a_ventricle_is_found_in_any_pose(direction):
    grid = Grid(BEAT.series.grid.shape, affine_of(direction, (2, 2, 2), (10, 20, 30)))
    for label in (CAVITY, WALL):
        axis = long_axis(np.argwhere(BEAT.labels[0].data[0] == label), grid)
        assert abs(axis @ direction[:, 2]) > 0.999


def test_what_turns_around_nothing_has_no_axis():
    grid = Grid((24, 24, 24), spacing_mm=1.0)
    ball = np.linalg.norm(np.indices(grid.shape) - 11.5, axis=0) < 9
    assert long_axis(np.argwhere(ball), grid) is None
    strain = measure_strain(stretch(1.1, 1, 1), Labels(ball.astype(np.uint8), grid))[1]
    assert strain.radial is strain.circumferential is strain.longitudinal is None
    assert strain.largest == pytest.approx((1.1**2 - 1) / 2, abs=1e-5)


def test_thick_slices_give_the_axis_and_so_does_the_user():
    grid = Grid((24, 24, 6), spacing_mm=(1, 1, 8))
    ball = Labels((np.hypot(*(np.indices(grid.shape)[:2] - 11.5)) < 9).astype(np.uint8), grid)
    assert np.allclose(np.abs(long_axis(np.argwhere(ball.data[0]), grid)), (0, 0, 1))
    along_i = measure_strain(stretch(0.7, 1, 1), ball, axis=0)[1]
    assert along_i.longitudinal == pytest.approx((0.7**2 - 1) / 2, abs=1e-5)
    assert measure_strain(stretch(0.7, 1, 1), ball)[1].longitudinal == pytest.approx(0, abs=1e-6)


def test_a_single_slice_has_no_length():
    slice_beat = make_beat(frames=2, shape=(64, 64, 1), squeeze=0.2)
    strain = measure_strain(slice_beat.motions[1], slice_beat.labels[0])[WALL]
    assert strain.longitudinal is None
    assert strain.circumferential == pytest.approx(slice_beat.mean_strain(1, 1), abs=0.005)
    assert strain.radial == pytest.approx(slice_beat.mean_strain(1, 0), abs=0.03)


def test_a_border_has_the_strain_of_its_inside():
    grid = Grid((6, 5, 4), spacing_mm=(1, 2, 3))
    voxels = np.argwhere(np.ones(grid.shape))
    tensors = green_lagrange(stretch(1.3, 1, 0.9), grid, voxels)
    assert np.allclose(tensors, np.diag([(1.3**2 - 1) / 2, 0, (0.9**2 - 1) / 2]), atol=1e-9)


def test_a_growing_wall_has_more_radial_strain_than_one_that_keeps_its_volume():
    labels = BEAT.labels[0]
    kept, grown = (measure_strain(VentricleMotion(growth=factor), labels)[WALL].radial for factor in (1.0, 1.5))
    assert kept == pytest.approx(0, abs=1e-9)
    assert grown > 0.2
