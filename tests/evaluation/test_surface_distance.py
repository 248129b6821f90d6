"""Average surface distance against the distance maps of SimpleITK, on grids with any spacing and direction."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from anamorph.evaluation import RegisteredPair, measure
from anamorph.geometry import Grid
from anamorph.image import Labels
from anamorph.image.convert import to_simpleitk
from anamorph.transforms import Affine


def turned(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], degrees: float) -> Grid:
    angle = np.radians(degrees)
    affine = np.eye(4)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    affine[:3, :3] = turn * spacing_mm
    return Grid(shape, affine)


def ball(grid: Grid, centre_vox: tuple[float, float, float], radius_mm: float, label: int) -> np.ndarray:
    sites = np.moveaxis(np.indices(grid.shape), 0, -1)
    return np.where(np.linalg.norm((sites - centre_vox) * grid.spacing_mm, axis=-1) < radius_mm, label, 0)


def distances_mm(surface: sitk.Image, other: sitk.Image) -> np.ndarray:
    """From each voxel of one surface to the nearest of the other."""
    away = sitk.SignedMaurerDistanceMap(other, squaredDistance=False, useImageSpacing=True, insideIsPositive=False)
    return np.abs(sitk.GetArrayFromImage(away))[sitk.GetArrayFromImage(surface) > 0]


def expected_mm(fixed: Labels, warped: Labels, label: int) -> float:
    surfaces = [sitk.LabelContour(sitk.Cast(to_simpleitk(one) == label, sitk.sitkUInt8)) for one in (fixed, warped)]
    return float(np.concatenate([distances_mm(*surfaces), distances_mm(*surfaces[::-1])]).mean())


@pytest.mark.parametrize(("spacing", "degrees"), [((1.0, 1.0, 1.0), 0), ((0.8, 1.7, 3.1), 0), ((0.8, 1.7, 3.1), 33)])
def test_it_is_that_of_distance_maps(spacing, degrees):
    grid = turned((30, 26, 22), spacing, degrees)
    fixed = Labels((ball(grid, (10, 9, 8), 6, 1) + ball(grid, (21, 17, 14), 5, 2)).astype(np.uint8), grid)
    moving = Labels((ball(grid, (11, 10, 8), 7, 1) + ball(grid, (20, 17, 15), 4, 2)).astype(np.uint8), grid)
    identity = Affine.identity()
    pair = RegisteredPair(grid, grid, identity, identity, fixed_labels=fixed, moving_labels=moving)
    found = measure(pair, metrics=["asd_mm"]).after
    assert [*found] == ["asd_mm"]
    for label, value in found.labels("asd_mm").items():
        assert value == pytest.approx(expected_mm(fixed, moving, label), rel=1e-5)
    assert set(found.labels("asd_mm")) == {1, 2}
    assert found.mean("asd_mm") == pytest.approx(np.mean([*found.labels("asd_mm").values()]))


def test_equal_maps_are_no_distance_apart_and_a_lost_label_is_as_far_as_can_be():
    grid = turned((20, 18, 16), (1.0, 2.0, 3.0), 20)
    labels = Labels(ball(grid, (9, 8, 7), 8, 4).astype(np.uint8), grid)
    away = Affine.translation(np.array([500.0, 0, 0]))
    same, lost = (
        measure(RegisteredPair(grid, grid, one, None, fixed_labels=labels, moving_labels=labels), metrics=["asd_mm"])
        for one in (Affine.identity(), away)
    )
    assert same.after.labels("asd_mm") == {4: 0.0}
    assert lost.after.mean("asd_mm") == pytest.approx(np.linalg.norm(np.multiply(grid.shape, grid.spacing_mm)))
    assert lost.before.labels("asd_mm") == {4: 0.0}
