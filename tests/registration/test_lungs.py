"""Lungs are found in a CT as they are, and not where there are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import anamorph
from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.image import Image, Labels
from anamorph.registration.lungs import find_lungs
from anamorph.registration.request import Request

AIR, LUNG, WATER, BONE = -1000.0, -830.0, 20.0, 300.0


def ellipsoid(points: np.ndarray, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
    return (((points - centre) / radii) ** 2).sum(axis=-1) <= 1


def a_chest(lung_hu: float = LUNG, spacing_mm: tuple[float, float, float] = (3.0, 2.8, 4.0)) -> tuple[Image, Labels]:
    """A trunk with two lungs, vessels, a windpipe, a stomach full of gas and a table, as noise would show it; LPS."""
    shape = tuple(int(length / step) for length, step in zip((380, 280, 300), spacing_mm, strict=True))
    affine = np.diag([-spacing_mm[0], -spacing_mm[1], spacing_mm[2], 1.0])
    affine[:3, 3] = 190.0, 140.0, -150.0
    grid = Grid(shape, affine)
    points = grid.voxel_to_world(np.moveaxis(np.indices(shape), 0, -1).reshape(-1, 3)).reshape(*shape, 3)
    x, y, z = np.moveaxis(points, -1, 0)
    values = np.full(shape, AIR)
    values[(x / 170) ** 2 + (y / 115) ** 2 <= 1] = WATER
    values[(abs(y + 128) < 5) & (abs(x) < 160)] = BONE
    lungs = ellipsoid(points, (-80, 0, 60), (55, 80, 85)) | ellipsoid(points, (80, 0, 60), (55, 80, 85))
    values[lungs] = lung_hu
    for centre in (-80, 80):
        values[((x - centre) ** 2 + y**2 < 16) & lungs] = WATER
    values[(x**2 + (y + 20) ** 2 < 64) & (z > 20)] = AIR
    values[ellipsoid(points, (40, 60, -90), (45, 30, 35))] = AIR
    noise = np.random.default_rng(0).normal(0, 20, shape)
    return Image((values + noise).astype(np.float32)[None], grid, "chest"), Labels(
        lungs.astype(np.uint8)[None], grid, "lungs"
    )


def dice(found: Labels, true: Labels) -> float:
    here, there = found.data[0] > 0, true.data[0] > 0
    return float(2 * (here & there).sum() / (here.sum() + there.sum()))


@pytest.mark.parametrize("spacing_mm", [(3.0, 2.8, 4.0), (1.9, 1.9, 2.0)])
def test_lungs_without_windpipe_stomach_and_air(spacing_mm: tuple[float, float, float]) -> None:
    scan, true = a_chest(spacing_mm=spacing_mm)
    found = find_lungs(scan)
    assert found.grid == scan.grid
    assert dice(found, true) > 0.97


def test_a_lung_that_the_side_of_the_scan_cuts() -> None:
    scan, true = a_chest()
    box = (
        slice(0, 52),
        slice(0, scan.grid.shape[1]),
        slice(0, scan.grid.shape[2]),
    )  # LPS: x from 190 to 34 mm, through the lung on that side alone
    assert dice(find_lungs(scan.cropped(box)), true.cropped(box)) > 0.95


def test_turned_scans_have_the_same_lungs() -> None:
    scan, true = a_chest()
    order = scan.grid.affine[:, [2, 0, 1, 3]]
    turned = Grid((scan.grid.shape[2], scan.grid.shape[0], scan.grid.shape[1]), order)
    found = find_lungs(Image(np.moveaxis(scan.data, 3, 1).copy(), turned, "turned"))
    assert dice(found, Labels(np.moveaxis(true.data, 3, 1).copy(), turned, "true")) > 0.97


@pytest.mark.parametrize("filled_with", [AIR, WATER])
def test_without_lungs_it_is_said(filled_with: float) -> None:
    scan, _ = a_chest(filled_with)
    with pytest.raises(UserError, match="0 ml of lung found, which is too little; give a mask"):
        find_lungs(scan)


def test_a_scan_that_is_no_ct() -> None:
    scan, _ = a_chest()
    with pytest.raises(UserError, match="in 3D CT scans alone"):
        find_lungs(Image(scan.data + 1100, scan.grid, "mr"))


def test_one_word_finds_them_in_both_scans() -> None:
    scan, true = a_chest()
    request = Request(scan, scan, sliding="lungs")
    assert request.files() == []
    for tissue in request.read().pair.tissues:
        assert tissue.sliding is not None
        deep = tissue.sliding.data[0] > 3
        assert deep.any()
        assert (true.data[0][deep] > 0).mean() > 0.99


@pytest.mark.parametrize("name", ["baseline", "followup"])
def test_real_lungs(name: str, shared_data: Path) -> None:
    scan = anamorph.read_image(shared_data / "lung_ct" / f"{name}.mha")
    true = anamorph.read_labels(shared_data / "lung_ct" / f"{name}_mask.mha")
    assert dice(find_lungs(scan), true) > 0.965
