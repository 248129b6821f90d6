"""Doses that are carried: interpolation keeps the dose of tissue, the other way keeps the energy."""

from __future__ import annotations

import numpy as np
import pytest

from anamorph.geometry.grid import Grid
from anamorph.image.image import Image
from anamorph.transforms.maps import Affine
from anamorph.workflows.propagation.dose import by_energy, density, deposited, interpolated
from geometries import rotation

SOURCE = Grid((24, 20, 16), spacing_mm=(4.0, 4.0, 5.0))


def bump(grid: Grid, height: float = 60.0) -> Image:
    """A smooth dose that is next to nothing at the border."""
    places = grid.voxel_to_world(np.indices(grid.shape).reshape(3, -1).T) - grid.centre_mm
    return Image(
        (height * np.exp(-((places / 14.0) ** 2).sum(axis=1) / 2)).reshape(grid.shape).astype(np.float32), grid
    )


def water(grid: Grid, value: float = 1.0) -> Image:
    return Image(np.full(grid.shape, value, np.float32), grid)


def shrinking(factor: float) -> Affine:
    """About the middle of the source: tissue becomes smaller by a factor along each axis, and turns."""
    matrix = np.eye(4)
    matrix[:3, :3] = factor * rotation((0, 0, 20))
    matrix[:3, 3] = SOURCE.centre_mm - matrix[:3, :3] @ SOURCE.centre_mm
    return Affine(matrix)


def test_density_is_a_line_through_air_and_water() -> None:
    scan = Image(np.array([-1000, -500, 0, 1000, 5000], np.int16).reshape(5, 1, 1), Grid((5, 1, 1), spacing_mm=1.0))
    np.testing.assert_allclose(density(scan).data.ravel(), [0.001, 0.5, 1, 2, 3])


@pytest.mark.parametrize("factor", [1.0, 0.7])
def test_no_energy_is_lost(factor: float) -> None:
    dose, target = bump(SOURCE), Grid((30, 30, 24), spacing_mm=4.0, origin_mm=SOURCE.centre_mm - 58.0)
    rough = np.random.default_rng(0).uniform(0.3, 1.5, SOURCE.shape).astype(np.float32)
    masses = Image(rough, SOURCE)
    energy, mass = deposited(dose, masses, target, shrinking(factor))
    voxel = float(np.prod(SOURCE.spacing_mm))
    if factor < 1:  # else some mass at the border, without a dose, leaves the target
        assert mass.sum() == pytest.approx(voxel * rough.sum(), rel=0.01)
    sent = voxel * float((rough * dose.data[0]).sum())
    assert energy.sum() == pytest.approx(sent, rel=0.01)
    carried = by_energy(dose, masses, target, shrinking(factor), shrinking(factor).inverse())
    assert float((carried.data[0] * mass).sum()) == pytest.approx(energy.sum(), rel=1e-3)


def test_where_density_is_even_and_nothing_folds_both_ways_agree() -> None:
    dose, target = bump(SOURCE), Grid((30, 30, 24), spacing_mm=4.0, origin_mm=SOURCE.centre_mm - 58.0)
    move = shrinking(0.9)
    direct = interpolated(dose, target, move.inverse()).data[0]
    energy = by_energy(dose, water(SOURCE), target, move, move.inverse()).data[0]
    assert np.abs(direct - energy).max() < 0.03 * direct.max()
    assert energy.max() == pytest.approx(direct.max(), rel=0.03)


def test_dense_tissue_rules_the_dose_of_the_voxel_it_ends_in() -> None:
    """Two halves of one voxel: 10 Gy in tissue of density 1, 2 Gy in lung of density 0.25."""
    source = Grid((40, 1, 1), spacing_mm=(0.1, 4.0, 4.0), origin_mm=(-1.95, 0, 0))
    halves = np.repeat([[10, 1], [2, 0.25]], 20, axis=0).astype(np.float32)
    dose, masses = (Image(values.reshape(40, 1, 1), source) for values in halves.T)
    target = Grid((1, 1, 1), spacing_mm=4.0)
    energy, mass = deposited(dose, masses, target, Affine.identity())
    assert energy.sum() / mass.sum() == pytest.approx((10 * 1 + 2 * 0.25) / 1.25, rel=0.01)


def test_mass_of_another_anatomy_is_kept_by_the_determinant() -> None:
    """The density is known before tissue shrank to half its volume, so that there it is twice as dense."""
    dose = Image(np.full(SOURCE.shape, 5, np.float32), SOURCE)
    grown = np.diag([2.0, 1, 1, 1])
    known = Grid((48, 20, 16), spacing_mm=(4.0, 4.0, 5.0))
    _, mass = deposited(dose, water(known), SOURCE, Affine.identity(), Affine(grown))
    assert mass[6:18, 6:14, 5:11].mean() == pytest.approx(2 * np.prod(SOURCE.spacing_mm), rel=1e-3)
