"""A dose carried from one anatomy to another: read where the tissue came from, or as the energy that its mass received.

Interpolation keeps the dose of each piece of tissue. Where tissue shrinks, many pieces end in one voxel, and only the
mean of their doses weighted by their masses keeps the energy (Siebers and Zhong, Med. Phys. 35, 2008; Li et al. 2014).
"""

from __future__ import annotations

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.geometry.sampling import sample
from anamorph.image.image import Image
from anamorph.transforms.maps import Transform

LOWEST_DENSITY, HIGHEST_DENSITY = 0.001, 3.0
"""g/ml, of air and of what is denser than bone."""
FEWEST_SAMPLES = 3
"""Along each axis of a voxel of the target, where tissue keeps its size."""
MOST_SAMPLES = 6
LEAST_SHARE = 0.05
"""Of the mass of water that a voxel holds: one that received less takes the interpolated dose."""


def density(scan: Image) -> Image:
    """Density in g/ml of a CT in Hounsfield units, on the line through air and water."""
    values = np.clip(1 + scan.data.astype(np.float32) / 1000, LOWEST_DENSITY, HIGHEST_DENSITY)
    return scan.with_data(values)


def interpolated(dose: Image, target: Grid, to_dose: Transform) -> Image:
    """The dose at the place where each voxel of a target came from; 0 beyond the dose grid.

    Args:
        dose: Gy.
        target: grid of the result.
        to_dose: maps points of the target to points of the dose.
    """
    wide = Image(dose.data.astype(np.float32), dose.grid, dose.name)
    return to_dose.warp_image(wide, target, background=0)


def by_energy(
    dose: Image,
    masses: Image,
    target: Grid,
    to_target: Transform,
    to_dose: Transform,
    to_masses: Transform | None = None,
) -> Image:
    """The energy per mass that each voxel of a target received.

    Every part of a voxel of the dose carries its mass and energy into the voxel where it ends, so that the energy that
    arrives is the energy that was sent.

    Args:
        dose: Gy.
        masses: density in g/ml of the anatomy in which it is known.
        target: grid of the result.
        to_target: maps points of the dose to points of the target.
        to_dose: the other direction, for voxels that received no tissue.
        to_masses: maps points of the dose to those of the anatomy whose density is known; the determinant of this map
            keeps their mass. The identity by default.
    """
    energy, mass = deposited(dose, masses, target, to_target, to_masses)
    alone = interpolated(dose, target, to_dose)
    water = abs(float(np.linalg.det(target.affine[:3, :3])))
    reached = mass > LEAST_SHARE * LOWEST_DENSITY * water
    values = np.where(reached, energy / np.where(reached, mass, 1), alone.data[0])
    return Image(values.astype(np.float32), target, dose.name)


def deposited(
    dose: Image, masses: Image, target: Grid, to_target: Transform, to_masses: Transform | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Energy (Gy g/ml mm3) and mass (g/ml mm3) that arrive in each voxel; arguments as of :func:`by_energy`."""
    grid = dose.grid
    parts = np.clip(np.ceil(FEWEST_SAMPLES * grid.spacing_mm / target.spacing_mm), 1, MOST_SAMPLES).astype(int)
    volume = abs(float(np.linalg.det(grid.affine[:3, :3]))) / float(np.prod(parts))
    growth = None if to_masses is None else to_masses.jacobian_determinant(grid)[None].clip(0)
    energy, mass = np.zeros(target.shape), np.zeros(target.shape)
    for k in range(grid.shape[2]):  # slice by slice, so that memory does not grow with the samples
        places = _samples(grid.shape, parts, k)
        points = grid.voxel_to_world(places.T)
        there = points if to_masses is None else to_masses.map_world(points)
        weights = _read(masses.data, masses.grid.world_to_voxel(there).T) * volume
        if growth is not None:
            weights = weights * _read(growth, places)
        arrived = target.world_to_voxel(to_target.map_world(points))
        _share_out(mass, arrived, weights)
        _share_out(energy, arrived, weights * _read(dose.data, places))
    return energy, mass


def _samples(shape: tuple[int, int, int], parts: np.ndarray, k: int) -> np.ndarray:
    """``(3, N)`` voxel positions spread evenly within the voxels of a slice."""
    i, j = ((np.arange(n * part) + 0.5) / part - 0.5 for n, part in zip(shape[:2], parts[:2], strict=True))
    layers = k + (np.arange(parts[2]) + 0.5) / parts[2] - 0.5
    return np.stack(np.meshgrid(i, j, layers, indexing="ij")).reshape(3, -1)


def _read(volume: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Trilinear values ``(N,)`` at positions in voxels; beyond the border those of the border."""
    return sample(volume.astype(np.float32, copy=False), places.astype(np.float32))[0].astype(np.float64)


def _share_out(out: np.ndarray, places: np.ndarray, amounts: np.ndarray) -> None:
    """Add amounts at places ``(N, 3)`` in voxels to the voxels that hold them."""
    at = np.rint(places).astype(int)
    kept = ((at >= 0) & (at < np.array(out.shape))).all(axis=1)
    index = np.ravel_multi_index(tuple(at[kept].T), out.shape)
    out += np.bincount(index, amounts[kept], minlength=out.size).reshape(out.shape)


def dose_numbers(gray: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """Mean dose, and the doses that at least 95 % and 2 % of a volume receive, in Gy.

    Args:
        gray: doses.
        weights: share of each voxel that belongs to the volume.
    """
    held = weights > 0
    doses, parts = gray[held].astype(np.float64), weights[held].astype(np.float64)
    order = np.argsort(-doses)
    volume = np.cumsum(parts[order]) / parts.sum()
    at = {percent: float(doses[order][np.searchsorted(volume, percent / 100)]) for percent in (95, 2)}
    return {"mean_gy": float((doses * parts).sum() / parts.sum()), "d95_gy": at[95], "d2_gy": at[2]}
