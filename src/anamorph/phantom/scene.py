"""Organs packed into arrays for the renderer, with a coarse index of which solid is where."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from anamorph.phantom.shapes import Organ, Solid

CELL_MM = 12.0
LOW_MM = np.array([-210.0, -150.0, -320.0])
HIGH_MM = -LOW_MM
REGIONS = {"body": 0, "abdomen": 1, "thorax": 2, "wall": 3}


class Scene(NamedTuple):
    """Tables the kernels read: one row per solid, one per organ, one list of solids per cell of space."""

    solids: np.ndarray
    solid_kind: np.ndarray
    solid_organ: np.ndarray
    tissue: np.ndarray  # shell, core, shell mm, gas level, blend, roughness, texture
    organ_label: np.ndarray
    organ_region: np.ndarray
    cell_start: np.ndarray
    cell_count: np.ndarray
    cell_solids: np.ndarray
    cell_origin: np.ndarray
    cell_mm: np.float32
    bumps: np.ndarray
    bump_mm: np.float32
    texture: np.ndarray
    texture_mm: np.float32


def build_scene(organs: list[Organ], rng: np.random.Generator, voxel_mm: float) -> Scene:
    """Pack organs in the order in which they are painted.

    Args:
        organs: first painted first.
        rng: source of surface bumps and texture.
        voxel_mm: size of the largest voxel, over which surfaces are blurred.
    """
    owners = [(n, solid) for n, organ in enumerate(organs) for solid in organ.solids]
    margins = np.array([2 + voxel_mm + 4 * organ.rough_mm + organ.blend_mm for organ in organs])
    start, count, members = _index([solid for _, solid in owners], np.array([margins[n] for n, _ in owners]))
    return Scene(
        solids=np.array([solid.row() for _, solid in owners], np.float32),
        solid_kind=np.array([solid.kind for _, solid in owners], np.int32),
        solid_organ=np.array([n for n, _ in owners], np.int32),
        tissue=np.array([_tissue(organ) for organ in organs], np.float32),
        organ_label=np.array([organ.label for organ in organs], np.int32),
        organ_region=np.array([REGIONS[organ.region] for organ in organs], np.int32),
        cell_start=start,
        cell_count=count,
        cell_solids=members,
        cell_origin=LOW_MM.astype(np.float32),
        cell_mm=np.float32(CELL_MM),
        bumps=_periodic_noise(rng, 3.0),
        bump_mm=np.float32(7.0),
        texture=_periodic_noise(rng, 1.6),
        texture_mm=np.float32(3.5),
    )


def _tissue(organ: Organ) -> list[float]:
    core = organ.hu if organ.core_hu is None else organ.core_hu
    return [
        organ.hu,
        core,
        organ.shell_mm,
        organ.gas_above_mm,
        organ.blend_mm,
        organ.rough_mm,
        organ.texture_hu,
    ]


def _index(solids: list[Solid], margins: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every cell: where its list starts, how long it is, and all lists in one array."""
    shape = tuple(int(n) for n in np.ceil((HIGH_MM - LOW_MM) / CELL_MM))
    cells, members = [], []
    for n, solid in enumerate(solids):
        low, high = solid.bounds()
        first = np.clip(np.floor((low - margins[n] - LOW_MM) / CELL_MM), 0, np.array(shape) - 1).astype(int)
        last = np.clip(np.floor((high + margins[n] - LOW_MM) / CELL_MM), 0, np.array(shape) - 1).astype(int)
        box = np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(first, last, strict=True)), indexing="ij")
        touched = np.ravel_multi_index(box, shape).ravel()
        cells.append(touched)
        members.append(np.full(len(touched), n, np.int32))
    cell = np.concatenate(cells)
    order = np.argsort(cell, kind="stable")  # keeps the order of painting within a cell
    count = np.bincount(cell, minlength=int(np.prod(shape)))
    start = np.cumsum(count) - count
    return start.reshape(shape), count.reshape(shape), np.concatenate(members)[order]


def _periodic_noise(rng: np.random.Generator, sigma: float, side: int = 64) -> np.ndarray:
    """A cube of smooth noise that repeats, of unit standard deviation and at most 2.5 in size."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(rng.standard_normal((side,) * 3, np.float32), sigma, mode="wrap")
    return np.clip(noise / noise.std(), -2.5, 2.5)
