"""The lungs of a CT scan, found where no mask of what slides is at hand."""

from __future__ import annotations

from typing import TypeGuard

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.background import looks_like_ct
from anamorph.image.image import Image, Labels
from anamorph.methods.working_frame import covering_grid
from anamorph.transforms.maps import Affine, Reading

SPACING_MM = 2.5
FEWEST_VOXELS = 1000
AIR_HU = -1000.0
DARK_HU = -400.0
"""Lung and air are darker, all else in a body is lighter."""
LUNG_HU = -500.0
"""The median of a lung lies below."""
ABOVE_AIR_HU = 25.0
"""The median of a lung lies so far above that of air at least, that of gas in a bowel or a sinus does not."""
MOST_CUT = 1.0
"""Of its surface at the sides of the scan, in units of its volume to the power of 2/3: air beside a body has more."""
PADDED_HU = -1100.0
"""Values below are padding."""
LEAST_ML = 150.0
"""Of both lungs together: less shows too little of their surface."""
AIRWAY_MM = 11.0
"""Half the width of the trachea: what is thinner is airway, and no part of a lung's surface."""
VESSEL_MM = 6.0
"""Half the width of the vessels that belong to a lung."""


def is_lungs(sliding: object) -> TypeGuard[str]:
    """Whether an argument asks for the lungs in place of a mask."""
    return isinstance(sliding, str) and sliding == "lungs"


def find_lungs(scan: Image) -> Labels:
    """The lungs of a CT scan without trachea, as a mask on its grid.

    Dark regions that reach no corner of an axial plane, as the air around a body does, of the density of lung. A lung
    may be cut at the border of the scan.

    Raises:
        UserError: the scan is no CT, or shows too little of the lungs.
    """
    if scan.channels != 1 or scan.grid.is_2d or not looks_like_ct(scan):
        raise UserError(f"{scan.name}: lungs are found in 3D CT scans alone; give a mask of what slides")
    grid = covering_grid(scan.grid, np.eye(3), max(SPACING_MM, scan.grid.finest_mm))
    values = Reading.of(scan.grid, grid).read(scan.data)[0]
    lungs = _lungs(values, grid)
    volume_ml = lungs.sum() * abs(np.linalg.det(grid.affine[:3, :3])) / 1000
    if volume_ml < LEAST_ML:
        raise UserError(
            f"{scan.name}: {volume_ml:.0f} ml of lung found, which is too little; give a mask of what slides"
        )
    return Affine.identity().warp_labels(Labels(lungs.astype(np.uint8), grid, scan.name), scan.grid)


def _lungs(values: np.ndarray, grid: Grid) -> np.ndarray:
    """``(I, J, K)`` where values in HU on a grid along the axes of the patient show lung."""
    from scipy.ndimage import binary_fill_holes, distance_transform_edt, label

    dark = values < DARK_HU
    outside = np.stack([_from_the_corners(dark[:, :, plane]) for plane in range(dark.shape[2])], axis=-1)
    air = values[outside & (values > PADDED_HU)]
    least = (np.median(air) if air.size else AIR_HU) + ABOVE_AIR_HU
    dark &= ~outside
    wide = distance_transform_edt(dark, grid.spacing_mm) > AIRWAY_MM
    lungs = dark & (distance_transform_edt(~wide, grid.spacing_mm) <= AIRWAY_MM + SPACING_MM)
    pieces, _ = label(lungs)
    for number, size in enumerate(np.bincount(pieces.ravel())):
        piece = pieces == number
        if number > 0 and not (size > FEWEST_VOXELS and _is_lung(piece, values[piece & wide], least)):
            lungs &= ~piece
    grown = distance_transform_edt(~lungs, grid.spacing_mm) <= VESSEL_MM
    return binary_fill_holes(distance_transform_edt(grown, grid.spacing_mm) > VESSEL_MM)


def _is_lung(piece: np.ndarray, inner: np.ndarray, least: float) -> bool:
    """Whether a dark region is cut by few sides of the scan, and its inner values are those of lung."""
    cut = sum(piece.take(end, axis).sum() for axis in (0, 1) for end in (0, -1))
    return bool(cut < MOST_CUT * piece.sum() ** (2 / 3) and inner.size and least < np.median(inner) < LUNG_HU)


def _from_the_corners(dark: np.ndarray) -> np.ndarray:
    """Which dark voxels of a plane are connected to one of its corners."""
    from scipy.ndimage import label

    regions, _ = label(dark)
    corners = regions[[0, 0, -1, -1], [0, -1, 0, -1]]
    return np.isin(regions, corners[corners > 0])
